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
import type * as Scope from "effect/Scope"
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
      Effect.map(makeProvider(options), (provider) =>
        Context.make(AdenSyncProvider, provider).pipe(Context.add(CredentialProviders, { all: [provider] })))
    )
}

// internal

/**
 * The service of `AdenSyncProvider.layer`, without a layer.
 *
 * @internal
 */
export const makeProvider = Effect.fnUntraced(function*(options: {
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

  const source: Source = { client, id, refreshBuffer, reportScope: options.reportUsage === true ? scope : undefined }
  const provider: CredentialProvider = {
    id,
    issuer: client.issuer,
    refreshBuffer,
    clockOffset: client.clockOffset,
    canHandle: (credential) =>
      credential.providerId === id || (credential.providerId === undefined && credential.isAdenManaged),
    refresh: (credential) => refresh(source, credential),
    validate: (credential) => validate(source, credential),
    fetch: (credentialId) => fetch(source, credentialId),
    list: client.listIntegrations
  }
  return AdenSyncProvider.of({
    // written out: each object that begins with a spread would keep a hidden class of its own
    id,
    issuer: provider.issuer,
    refreshBuffer,
    clockOffset: provider.clockOffset,
    canHandle: provider.canHandle,
    refresh: provider.refresh,
    validate: provider.validate,
    fetch: provider.fetch,
    list: provider.list,
    supportedTypes,
    shouldRefresh: (credential) => shouldRefresh(source, credential),
    syncStream: Stream.suspend(() => syncStream(client, provider)),
    syncAll: Effect.suspend(() => syncAll(client, provider))
  })
})

const supportedTypes: ReadonlyArray<CredentialType> = ["oauth2", "bearer_token"]

/** What the functions of a provider need. They are made once for all providers: a program can have one for each tenant. */
interface Source {
  readonly client: AdenClient["Service"]
  readonly id: string
  readonly refreshBuffer: Duration.Duration
  /** Where reports of usage run, if they are wanted. */
  readonly reportScope: Scope.Scope | undefined
}

const report = ({ client, reportScope }: Source, credentialId: string, status: string): Effect.Effect<void> =>
  reportScope === undefined ?
    Effect.void :
    client.reportUsage(credentialId, { operation: "token_refresh", status }).pipe(
      Effect.ignore,
      Effect.forkIn(reportScope),
      Effect.asVoid
    )

const fetch = Effect.fn("AdenSyncProvider.fetch")(function*({ client, id }: Source, credentialId: string) {
  const answer = yield* client.getCredential(credentialId)
  const now = yield* DateTime.now
  return Option.map(answer, (credential) => toCredential(credential, id, now))
})

const refresh = Effect.fn("AdenSyncProvider.refresh")(function*(source: Source, credential: Credential) {
  const answer = yield* source.client.requestRefresh(credential.id).pipe(
    Effect.tapError(() => report(source, credential.id, "failure"))
  )
  yield* report(source, credential.id, "success")
  return credential.renewedBy(toCredential(answer, source.id, yield* DateTime.now))
})

const validate = Effect.fn("AdenSyncProvider.validate")(
  ({ client }: Source, { id }: { readonly id: string }) => client.validateToken(id)
)

const shouldRefresh = Effect.fnUntraced(function*({ client, refreshBuffer }: Source, credential: Credential) {
  const offset = yield* client.clockOffset
  const lead = refreshLead({
    buffer: Duration.toMillis(refreshBuffer),
    lifetime: lifetimeOf(credential, offset),
    jitter: 1
  })
  return (yield* Clock.currentTimeMillis) >= localExpiry(credential, offset) - lead
})

const syncStream = (
  client: AdenClient["Service"],
  provider: CredentialProvider
): Stream.Stream<ProviderSyncEvent, AdenRequestFailure> =>
  Stream.unwrap(
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

const syncAll = Effect.fn("AdenSyncProvider.syncAll")((client: AdenClient["Service"], provider: CredentialProvider) =>
  Stream.runFold(syncStream(client, provider), emptySnapshot, (snapshot, event) => {
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
  })
)

const emptySnapshot = () => ({
  credentials: new Array<Credential>(),
  blocked: new Array<ReauthRequired>(),
  failed: new Array<{ readonly account: ProviderAccount; readonly error: FetchFailure }>(),
  malformed: new Array<{ readonly id: string | undefined; readonly detail: string }>(),
  isIncomplete: false
})

// what many credentials have is in memory once for all of them
const adenManaged = new CredentialKey({ name: "_aden_managed", value: Redacted.make("true") })
const identityNames = new Map(
  ["email", "username", "workspace", "account_id"].map((name) => [name, `_identity_${name}`])
)

/** Converts Aden's answer to a credential with the keys that Hive writes. */
const toCredential = (answer: AdenCredential, providerId: string, receivedAt: DateTime.Utc): Credential => {
  const keys = new Map<string, CredentialKey>()
  const add = (name: string, value: Redacted.Redacted<string>, expiresAt?: DateTime.Utc) =>
    keys.set(name, new CredentialKey({ name, value, expiresAt }))
  const addPlain = (name: string, value: string | undefined) => {
    if (value !== undefined && value !== "") add(name, Redacted.make(value))
  }
  add("access_token", answer.accessToken, answer.expiresAt)
  keys.set(adenManaged.name, adenManaged)
  addPlain("_integration_type", answer.integrationType)
  addPlain("_alias", answer.alias)
  addPlain("scope", answer.scopes.join(" "))
  for (const [name, value] of answer.metadata) addPlain(identityNames.get(name) ?? `_identity_${name}`, value)
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
