/**
 * The provider for Aden: fetches access tokens, has Aden refresh them, and asks Aden whether they are valid.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import type { AdenRequestFailure, FetchFailure, ReauthRequired } from "../../errors/AdenError.ts"
import { AdenConfigError } from "../../errors/ConfigError.ts"
import { Credential, CredentialKey } from "../../model/Credential.ts"
import type { CredentialType, ProviderAccount } from "../../model/Credential.ts"
import { lifetimeOf, localExpiry, refreshLead } from "../../model/freshness.ts"
import { durationSetting } from "../../model/settings.ts"
import type { CredentialProvider, ProviderSyncEvent } from "../CredentialProvider.ts"
import { CredentialProviders, syncConcurrency, syncOne } from "../CredentialProvider.ts"
import type { AdenCredential } from "./AdenClient.ts"
import { AdenClient } from "./AdenClient.ts"

/**
 * A snapshot of everything that Aden has: the credentials, and why the others are missing.
 *
 * @since 0.1.0
 * @category models
 */
export interface AdenSnapshot {
  readonly credentials: ReadonlyArray<Credential>
  readonly blocked: ReadonlyArray<ReauthRequired>
  readonly failed: ReadonlyArray<{ readonly account: ProviderAccount; readonly error: FetchFailure }>
  /** Items of the list that could not be read. */
  readonly malformed: ReadonlyArray<{ readonly id: string | undefined; readonly detail: string }>
  /** Whether Aden's list may lack integrations: it tells of further pages, which the contract does not have. */
  readonly isIncomplete: boolean
}

/**
 * The Aden provider. It only answers what Aden has; `CredentialStore` decides what to keep.
 *
 * @since 0.1.0
 * @category services
 */
export class AdenSyncProvider extends Context.Service<
  AdenSyncProvider,
  CredentialProvider & {
    readonly supportedTypes: ReadonlyArray<CredentialType>
    /** Whether the token should be refreshed now: it has expired, or expires within the refresh buffer. */
    readonly shouldRefresh: (credential: Credential) => Effect.Effect<boolean>
    /** Fetches all integrations, a bounded number at a time. Fails only when the list cannot be read. */
    readonly syncStream: Stream.Stream<ProviderSyncEvent, AdenRequestFailure>
    /** Fetches all integrations. Fails only when the list cannot be read. */
    readonly syncAll: Effect.Effect<AdenSnapshot, AdenRequestFailure>
  }
>()("aden-credentials/AdenSyncProvider") {
  /**
   * The provider over an `AdenClient`, registered in `CredentialProviders`.
   *
   * - `providerId`: the `providerId` of its credentials; `aden_sync` by default, as in Hive. Not empty.
   * - `refreshBuffer`: how long before its expiry a token is refreshed; 5 minutes by default.
   * - `reportUsage`: whether each refresh is reported to Aden as usage; `false` by default. A report that fails is dropped.
   *
   * @example
   * ```ts
   * import { AdenClient, AdenSyncProvider } from "aden-credentials"
   * import { Layer } from "effect"
   *
   * const Provider = AdenSyncProvider.layer({ refreshBuffer: "10 minutes" }).pipe(
   *   Layer.provide(AdenClient.layerConfig)
   * )
   * ```
   */
  static readonly layer = (options: {
    readonly providerId?: string | undefined
    readonly refreshBuffer?: Duration.Input | undefined
    readonly reportUsage?: boolean | undefined
  } = {}): Layer.Layer<AdenSyncProvider | CredentialProviders, AdenConfigError, AdenClient> =>
    Layer.effectContext(
      Effect.map(make(options), (provider) =>
        Context.make(AdenSyncProvider, provider).pipe(Context.add(CredentialProviders, { all: [provider] })))
    )
}

// internal

const make = Effect.fnUntraced(function*(options: {
  readonly providerId?: string | undefined
  readonly refreshBuffer?: Duration.Input | undefined
  readonly reportUsage?: boolean | undefined
}) {
  const client = yield* AdenClient
  const scope = yield* Effect.scope
  const id = options.providerId ?? "aden_sync"
  if (id === "") {
    return yield* new AdenConfigError({
      setting: "providerId",
      detail: "is empty",
      remedy: "Leave it out for aden_sync, or give one such as \"aden_eu\"."
    })
  }
  const refreshBuffer = yield* durationSetting("refreshBuffer", options.refreshBuffer ?? "5 minutes")

  const report = (credentialId: string, status: string) =>
    options.reportUsage === true
      ? client.reportUsage(credentialId, { operation: "token_refresh", status }).pipe(
        Effect.ignore,
        Effect.forkIn(scope),
        Effect.asVoid
      )
      : Effect.void

  const fetch = Effect.fn("AdenSyncProvider.fetch")(function*(credentialId: string) {
    const answer = yield* client.getCredential(credentialId)
    const now = yield* DateTime.now
    return Option.map(answer, (credential) => toCredential(credential, id, now))
  })

  const refresh = Effect.fn("AdenSyncProvider.refresh")(function*(credential: Credential) {
    const answer = yield* client.requestRefresh(credential.id).pipe(
      Effect.tapError(() => report(credential.id, "failure"))
    )
    yield* report(credential.id, "success")
    return credential.renewedBy(toCredential(answer, id, yield* DateTime.now))
  })

  const shouldRefresh = Effect.fnUntraced(function*(credential: Credential) {
    const offset = yield* client.clockOffset
    const lead = refreshLead({
      buffer: Duration.toMillis(refreshBuffer),
      lifetime: lifetimeOf(credential, offset),
      jitter: 1
    })
    return (yield* Clock.currentTimeMillis) >= localExpiry(credential, offset) - lead
  })

  const provider: CredentialProvider = {
    id,
    refreshBuffer,
    clockOffset: client.clockOffset,
    canHandle: (credential) =>
      credential.providerId === id || (credential.providerId === undefined && credential.isAdenManaged),
    refresh,
    validate: Effect.fn("AdenSyncProvider.validate")((credential) => client.validateToken(credential.id)),
    fetch,
    list: client.listIntegrations
  }

  const syncStream: Stream.Stream<ProviderSyncEvent, AdenRequestFailure> = Stream.unwrap(
    Effect.map(client.listIntegrations, ({ accounts, isIncomplete, malformed }) =>
      Stream.concat(
        Stream.fromIterable([
          { _tag: "Listed" as const, accounts, total: accounts.length + malformed.length, isIncomplete },
          ...malformed.map((item) => ({ _tag: "Malformed" as const, ...item }))
        ]),
        Stream.mapEffect(Stream.fromIterable(accounts), (account) => syncOne(provider, account), {
          concurrency: syncConcurrency,
          unordered: true
        })
      ))
  )

  const syncAll = Stream.runFold(syncStream, emptySnapshot, (snapshot, event) => {
    switch (event._tag) {
      case "Fetched":
        snapshot.credentials.push(event.credential)
        break
      case "Blocked":
        snapshot.blocked.push(event.error)
        break
      case "Failed":
        snapshot.failed.push({ account: event.account, error: event.error })
        break
      case "Malformed":
        snapshot.malformed.push({ id: event.id, detail: event.detail })
        break
      case "Listed":
        snapshot.isIncomplete = event.isIncomplete === true
        break
      case "Gone":
    }
    return snapshot
  }).pipe(Effect.withSpan("AdenSyncProvider.syncAll"))

  const supportedTypes: ReadonlyArray<CredentialType> = ["oauth2", "bearer_token"]
  return { ...provider, supportedTypes, shouldRefresh, syncStream, syncAll }
})

const emptySnapshot = () => ({
  credentials: new Array<Credential>(),
  blocked: new Array<ReauthRequired>(),
  failed: new Array<{ readonly account: ProviderAccount; readonly error: FetchFailure }>(),
  malformed: new Array<{ readonly id: string | undefined; readonly detail: string }>(),
  isIncomplete: false
})

/** Converts Aden's answer to a credential with the keys that Hive writes. */
const toCredential = (answer: AdenCredential, providerId: string, receivedAt: DateTime.Utc): Credential => {
  const keys = new Map<string, CredentialKey>()
  const add = (name: string, value: Redacted.Redacted<string>, expiresAt?: DateTime.Utc) =>
    keys.set(name, new CredentialKey({ name, value, expiresAt }))
  const addPlain = (name: string, value: string | undefined) => {
    if (value !== undefined && value !== "") add(name, Redacted.make(value))
  }
  add("access_token", answer.accessToken, answer.expiresAt)
  addPlain("_aden_managed", "true")
  addPlain("_integration_type", answer.integrationType)
  addPlain("_alias", answer.alias)
  addPlain("scope", answer.scopes.join(" "))
  for (const [name, value] of answer.metadata) addPlain(`_identity_${name}`, value)
  return new Credential({
    id: answer.id,
    type: "oauth2",
    keys,
    providerId,
    lastRefreshed: receivedAt,
    autoRefresh: true,
    description: "",
    tags: []
  })
}
