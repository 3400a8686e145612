/**
 * The state that is stored beside a credential, with the generation that counts its saves and deletions.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { Timestamp } from "../util/Timestamp.ts"
import { accountOf, CredentialIssuer } from "./Credential.ts"
import type { Credential } from "./Credential.ts"

/**
 * The state of a credential, stored beside it; it holds no secrets. It outlives a restart, and can exist without an entry (a
 * blocked integration that was never fetched).
 *
 * `generation` counts the saves and deletions under this id, 0 before the first; `account` and `issuer` tell whose the entry is. The
 * storage owns all three: `save` sets them, `saveState` keeps them, and takes an `issuer` only where there is no credential.
 *
 * @since 0.1.0
 * @category models
 */
export class CredentialState extends Schema.Class<CredentialState>("aden-credentials/CredentialState")({
  generation: Schema.Int,
  /** The account of the saved credential, known even when the credential cannot be decrypted. */
  account: Schema.optional(Schema.Struct({
    provider: Schema.optional(Schema.String),
    alias: Schema.optional(Schema.String)
  })),
  /** Who issued the saved credential; without one, whose Aden this was learnt from. */
  issuer: Schema.optional(CredentialIssuer),
  /** When Aden last confirmed the entry. */
  lastConfirmed: Schema.optional(Timestamp),
  /** Since when a person has to authorize the integration again. */
  blockedSince: Schema.optional(Timestamp),
  /**
   * Somebody without the key says that it is blocked, and that may be an older version of this package: Aden is asked before the
   * token is served.
   */
  mayBeBlocked: Schema.optional(Schema.Boolean),
  /** As stored. The store shows it only if it is `https:`, or `http:` to this machine, without user info. */
  reauthorizationUrl: Schema.optional(Schema.String),
  /** Since when Aden refuses the API key (401 or 403). */
  refusedSince: Schema.optional(Timestamp),
  /** Until when Aden must not be asked for this credential. */
  coolDownUntil: Schema.optional(Timestamp),
  /** Whether Aden listed further accounts of the same provider when it last confirmed the entry. */
  hasSiblings: Schema.optional(Schema.Boolean),
  /** The tag of the last error, such as `AdenUnavailable`. */
  lastError: Schema.optional(Schema.String)
}) {
  static readonly initial = new CredentialState({ generation: 0 })
}

// compare-and-swap: what a storage itself sets in a state record, the generation and whose the entry is

/**
 * The state to store with a save.
 *
 * @internal
 */
export const stateAfterSave = (
  credential: Credential,
  before: CredentialState,
  given: CredentialState = before
): CredentialState => {
  const { issuer: _, ...rest } = given
  return new CredentialState({ ...rest, generation: before.generation + 1, ...originOf(credential) })
}

/**
 * Whose a credential is, as its state record says.
 *
 * @internal
 */
export const originOf = (credential: Credential): Pick<CredentialState, "account" | "issuer"> => {
  const { alias, provider } = accountOf(credential)
  const { issuer } = credential
  return {
    account: {
      ...(provider === undefined ? {} : { provider }),
      ...(alias === undefined ? {} : { alias })
    },
    ...(issuer === undefined ? {} : { issuer })
  }
}

/**
 * Whether a write may go on: it expects this generation, or any.
 *
 * @internal
 */
export const isExpected = (
  { generation }: CredentialState,
  options: { readonly expectedGeneration?: number | undefined } | undefined
): boolean => (options?.expectedGeneration ?? generation) === generation

/**
 * The tombstone of a deleted entry. It keeps the generation counting, so that a writer that read the deleted entry cannot save
 * over the deletion or over a later entry.
 *
 * @internal
 */
export const tombstoneOf = ({ generation }: CredentialState): CredentialState =>
  new CredentialState({ generation: generation + 1 })

/**
 * The state to store without a save: the generation and whose the entry is stay as they are stored.
 *
 * @internal
 */
export const stateAfterUpdate = (given: CredentialState, before: CredentialState): CredentialState => {
  const { account: _, issuer: learntFrom, ...rest } = given
  const { account, generation } = before
  const issuer = account === undefined ? before.issuer ?? learntFrom : before.issuer
  return new CredentialState({
    ...rest,
    generation,
    ...(account === undefined ? {} : { account }),
    ...(issuer === undefined ? {} : { issuer })
  })
}
