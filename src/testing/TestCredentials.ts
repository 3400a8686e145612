/**
 * An Aden in memory for programs' own tests, and the controls over it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { CredentialNotFound } from "../errors/CredentialError.ts"
import type { CredentialRef } from "../model/Credential.ts"

/**
 * What a test does to a credential of `CredentialStore.layerTest`. Each names it by a ref of one of the OAuth or bearer credentials
 * given: Aden has no others. A ref that means none of them, or several, fails with `CredentialNotFound`.
 *
 * @since 0.1.0
 * @category services
 */
export class TestCredentials extends Context.Service<TestCredentials, {
  /** The token runs out: the next read has it renewed. */
  readonly expire: (ref: CredentialRef) => Effect.Effect<void, CredentialNotFound>
  /**
   * A person has to authorize again: reads fail with `ReauthRequired` until `reconnect`. While Aden does not answer, or limits the
   * rate, the store does not learn of it. A `reauthorizationUrl` is `https:`, or `http:` to this machine: any other counts as none.
   */
  readonly revoke: (
    ref: CredentialRef,
    options?: { readonly reauthorizationUrl?: string | undefined }
  ) => Effect.Effect<void, CredentialNotFound>
  /** A person has authorized it again. The store notices when it checks, at the latest 30 s after it last did. */
  readonly reconnect: (ref: CredentialRef) => Effect.Effect<void, CredentialNotFound>
  /** Aden answers questions about it with `RateLimited` for this long. */
  readonly rateLimit: (ref: CredentialRef, retryAfter: Duration.Input) => Effect.Effect<void, CredentialNotFound>
  /** Aden does not answer questions about it, or none at all without a ref. A token that has not expired is still served. */
  readonly takeDown: (ref?: CredentialRef) => Effect.Effect<void, CredentialNotFound>
  /** Aden answers again. */
  readonly bringUp: (ref?: CredentialRef) => Effect.Effect<void, CredentialNotFound>
  /** The integration is disconnected at Aden. */
  readonly remove: (ref: CredentialRef) => Effect.Effect<void, CredentialNotFound>
  /** How often Aden was asked for it: fetched, refreshed and validated, refused questions included. */
  readonly requests: (ref: CredentialRef) => Effect.Effect<number, CredentialNotFound>
}>()("aden-credentials/TestCredentials") {}
