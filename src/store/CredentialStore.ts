/**
 * The service that programs use: it returns the credential of a ref, valid now, or fails with a typed error that says what to do.
 *
 * The store caches credentials in memory, has the provider refresh tokens before they expire, and serves an unexpired token
 * while Aden is unavailable (stale-while-revalidate). The rules are in docs/semantics.md.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { AdenConfigError } from "../errors/ConfigError.ts"
import { CredentialKeyNotFound } from "../errors/CredentialError.ts"
import type {
  AmbiguousCredential,
  CredentialFailure,
  CredentialNotFound,
  InsufficientTimeLeft,
  NoProvider,
  ReauthorizationTimeout,
  RequiredCredentialsUnusable
} from "../errors/CredentialError.ts"
import type { CredentialStorageError, StorageFailure } from "../errors/StorageError.ts"
import type { CredentialTemplateError } from "../errors/UseError.ts"
import type { Credential, CredentialRef, CredentialValidation } from "../model/Credential.ts"
import type { CredentialEvent, SyncEvent, SyncFailure, SyncReport } from "../model/CredentialEvent.ts"
import { defaultMaxStale } from "../model/freshness.ts"
import { durationSetting } from "../model/settings.ts"
import { CredentialProviders } from "../providers/CredentialProvider.ts"
import { CredentialStorage } from "../storage/CredentialStorage.ts"
import { TemplateResolver } from "../templates/expand.ts"
import { makeEngine } from "./Engine.ts"
import type { CredentialExplanation } from "./explain.ts"
import { Follow } from "./follow.ts"
import { issuedStorage } from "./issuedStorage.ts"
import type { CredentialSummary, StoredAccount } from "./list.ts"
import * as operations from "./operations.ts"
import type { StoreParts } from "./operations.ts"
import { findAndRead, Reads, require, tokenFor } from "./Reads.ts"
import type { RefreshPolicies, RefreshPolicy } from "./RefreshPolicy.ts"
import {
  atMost,
  backOff,
  confirmWithin,
  recheckBlocked,
  rememberMissing,
  renewInTime,
  renewNever
} from "./RefreshPolicy.ts"
import { Synchronization } from "./sync.ts"

/**
 * Settings of the store.
 *
 * @since 0.1.0
 * @category models
 */
export interface CredentialStoreOptions {
  /** Whether a read refreshes a due credential in the background; true. An expired one is refreshed either way. */
  readonly autoRefresh?: boolean | undefined
  /** How long a credential is used before Aden is asked to confirm it again; 5 minutes. */
  readonly cacheTtl?: Duration.Input | undefined
  /** When to ask Aden again, for each kind of outcome; see {@link RefreshPolicies} for the defaults. */
  readonly policy?: { readonly [K in keyof RefreshPolicies]?: RefreshPolicies[K] | undefined } | undefined
  /** How long a caller waits when there is no usable token, over all attempts; 30 seconds. */
  readonly deadline?: Duration.Input | undefined
  /** How long an unexpired credential is served after Aden last confirmed it; 24 hours, and 1 hour after a 401 or 403. */
  readonly maxStale?: Duration.Input | undefined
}

/**
 * What a template may use.
 *
 * @since 0.1.0
 * @category models
 */
export interface TemplateOptions {
  /**
   * The refs that the template may name, exactly as written in it; any ref by default. Give them whenever the text is not the
   * program's own: a text by a model or a user could name any credential.
   */
  readonly refs?: ReadonlyArray<CredentialRef> | undefined
}

/**
 * The errors of expanding a template.
 *
 * @since 0.1.0
 * @category errors
 */
export type TemplateFailure = CredentialFailure | CredentialKeyNotFound | CredentialTemplateError

/**
 * The credentials of a program.
 *
 * @example
 * ```ts
 * import { CredentialStore } from "aden-credentials"
 * import { Console, Effect, Redacted } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* CredentialStore
 *   yield* store.require(["hubspot", "google:Timothy"])
 *   const token = yield* store.token("hubspot", { minTimeLeft: "10 minutes" })
 *   return { authorization: `Bearer ${Redacted.value(token)}` }
 * }).pipe(
 *   Effect.catchTag("RequiredCredentialsUnusable", (error) => Console.error(error.message))
 * )
 * ```
 *
 * @since 0.1.0
 * @category services
 */
export class CredentialStore extends Context.Service<CredentialStore, {
  /** The credential that the ref means, valid now. */
  readonly get: (ref: CredentialRef) => Effect.Effect<Credential, CredentialFailure>
  /** Like `get`, but `None` for a ref that matches nothing. */
  readonly getOption: (
    ref: CredentialRef
  ) => Effect.Effect<Option.Option<Credential>, Exclude<CredentialFailure, CredentialNotFound>>
  /** One key of the credential, such as `access_token`. */
  readonly getKey: (
    ref: CredentialRef,
    name: string
  ) => Effect.Effect<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound>
  /**
   * The token to send: the credential's default key. With `minTimeLeft`, a token that lasts at least that long from now,
   * refreshed for this if necessary. A `minTimeLeft` that is not a finite time of zero or more is a defect.
   */
  readonly token: {
    (ref: CredentialRef): Effect.Effect<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound>
    (
      ref: CredentialRef,
      options: { readonly minTimeLeft: Duration.Input }
    ): Effect.Effect<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound | InsufficientTimeLeft>
  }
  /**
   * The current token, then each new one. Running the stream keeps the token refreshed. It fails with the error of a read.
   *
   * @example
   * ```ts
   * import { CredentialStore } from "aden-credentials"
   * import { Effect, Redacted, Stream } from "effect"
   *
   * const keepConnected = (connect: (token: string) => Effect.Effect<void>) =>
   *   CredentialStore.use((store) =>
   *     Stream.runForEach(store.tokens("slack"), (token) => connect(Redacted.value(token)))
   *   )
   * ```
   */
  readonly tokens: (
    ref: CredentialRef
  ) => Stream.Stream<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound>
  /**
   * The check before a run: succeeds if every ref has a usable token. Otherwise the error names all that have none, with their
   * URLs.
   */
  readonly require: (refs: ReadonlyArray<CredentialRef>) => Effect.Effect<void, RequiredCredentialsUnusable>
  /**
   * Saves a credential of the program's own. Aden never overwrites it.
   *
   * @example
   * ```ts
   * import { Credential, CredentialStore } from "aden-credentials"
   * import { Redacted } from "effect"
   *
   * const saved = CredentialStore.use((store) =>
   *   store.save(Credential.fromApiKey({ id: "weather", apiKey: Redacted.make("an-api-key") }))
   * )
   * ```
   */
  readonly save: (credential: Credential) => Effect.Effect<void, StorageFailure>
  /** Deletes the stored credential, without telling Aden. `false` if there was none. */
  readonly delete: (ref: CredentialRef) => Effect.Effect<boolean, StorageFailure | AmbiguousCredential>
  /** Summaries of all stored credentials. */
  readonly list: Effect.Effect<ReadonlyArray<CredentialSummary>, CredentialStorageError>
  /** The stored accounts of a provider. */
  readonly accounts: (provider: string) => Effect.Effect<ReadonlyArray<StoredAccount>, CredentialStorageError>
  /**
   * Makes Aden refresh the token now, whatever its age. The result is never that of a refresh which began before the call.
   * `AdenUnavailable` when there is none within `deadline`.
   */
  readonly refresh: (ref: CredentialRef) => Effect.Effect<Credential, CredentialFailure | NoProvider>
  /** Asks Aden now whether the token is valid. An invalid token is a result, not an error. */
  readonly validate: (ref: CredentialRef) => Effect.Effect<CredentialValidation, CredentialFailure>
  /**
   * Marks the current token as unusable, because an API refused it: the next read refreshes it.
   *
   * @example
   * ```ts
   * import { CredentialStore } from "aden-credentials"
   * import { Effect } from "effect"
   * import type { HttpClientResponse } from "effect/http"
   *
   * const noteAnswer = (response: HttpClientResponse.HttpClientResponse) =>
   *   response.status === 401
   *     ? CredentialStore.use((store) => store.invalidate("hubspot"))
   *     : Effect.void
   * ```
   */
  readonly invalidate: (ref: CredentialRef) => Effect.Effect<void, StorageFailure | AmbiguousCredential>
  /**
   * Fetches every integration that Aden lists, and saves it. With several providers, if the list of one cannot be fetched,
   * those of the others are saved all the same, and then it fails with that provider's error.
   */
  readonly sync: Effect.Effect<SyncReport, SyncFailure>
  /**
   * `sync`, as a stream of its steps.
   *
   * @example
   * ```ts
   * import { CredentialStore } from "aden-credentials"
   * import { Console, Stream } from "effect"
   *
   * const synced = CredentialStore.use((store) =>
   *   Stream.runForEach(store.syncStream, (event) =>
   *     event._tag === "Failed" ? Console.error(event.error.message) : Console.log(event._tag)
   *   )
   * )
   * ```
   */
  readonly syncStream: Stream.Stream<SyncEvent, SyncFailure>
  /** The status of the credential and what it results from. Makes no request. */
  readonly explain: (
    ref: CredentialRef
  ) => Effect.Effect<CredentialExplanation, StorageFailure | CredentialNotFound | AmbiguousCredential>
  /**
   * Waits until a blocked integration is connected again; returns at once if it is. Aden is asked every `poll` (5 seconds),
   * once for all callers with the same `poll`. Fails after `timeout` (10 minutes), and when the integration is removed. A
   * `poll` that is not a finite time above zero is a defect.
   *
   * @example
   * ```ts
   * import { CredentialStore } from "aden-credentials"
   * import { Console, Effect } from "effect"
   *
   * const token = Effect.gen(function*() {
   *   const store = yield* CredentialStore
   *   return yield* store.token("hubspot").pipe(
   *     Effect.catchTag("ReauthRequired", (error) =>
   *       Console.log(error.message).pipe(
   *         Effect.andThen(store.awaitReauthorization("hubspot", { timeout: "1 hour" })),
   *         Effect.andThen(store.token("hubspot"))
   *       ))
   *   )
   * })
   * ```
   */
  readonly awaitReauthorization: (
    ref: CredentialRef,
    options?: { readonly timeout?: Duration.Input | undefined; readonly poll?: Duration.Input | undefined }
  ) => Effect.Effect<Credential, CredentialFailure | NoProvider | ReauthorizationTimeout>
  /**
   * A text with each `{{ref.key}}` and `{{ref}}` replaced, as `CredentialTemplate` parses them; in a JSON value, every text.
   * Each credential is read once, inserted values are not expanded again, and keys that begin with `_` are refused. Fails
   * before anything is read if the template is malformed or names a ref that is not in `refs`.
   */
  readonly resolve: {
    (template: string, options?: TemplateOptions): Effect.Effect<Redacted.Redacted<string>, TemplateFailure>
    (template: Schema.Json, options?: TemplateOptions): Effect.Effect<Redacted.Redacted<Schema.Json>, TemplateFailure>
  }
  /**
   * Headers, each value a template. A value that a header cannot have, such as a line break, is refused.
   *
   * @example
   * ```ts
   * import { CredentialStore } from "aden-credentials"
   * import { Effect, Record, Redacted } from "effect"
   * import { HttpClientRequest } from "effect/http"
   *
   * const request = Effect.gen(function*() {
   *   const store = yield* CredentialStore
   *   const headers = yield* store.resolveHeaders({ authorization: "Bearer {{hubspot}}" }, { refs: ["hubspot"] })
   *   return HttpClientRequest.get("https://api.hubapi.com/crm/v3/objects/contacts").pipe(
   *     HttpClientRequest.setHeaders(Record.map(headers, Redacted.value))
   *   )
   * })
   * ```
   */
  readonly resolveHeaders: (
    headers: Readonly<Record<string, string>>,
    options?: TemplateOptions
  ) => Effect.Effect<Record<string, Redacted.Redacted<string>>, TemplateFailure>
  /** Query parameters, each value a template: as `HttpClientRequest.setUrlParams` takes them. */
  readonly resolveParams: (
    params: Readonly<Record<string, string>>,
    options?: TemplateOptions
  ) => Effect.Effect<Record<string, Redacted.Redacted<string>>, TemplateFailure>
  /**
   * The events of credentials, from now on.
   *
   * @example
   * ```ts
   * import { CredentialStore } from "aden-credentials"
   * import { Console, Stream } from "effect"
   *
   * const alerts = CredentialStore.use((store) =>
   *   store.changes.pipe(
   *     Stream.filter((event) => event._tag === "ReauthorizationRequired"),
   *     Stream.runForEach((event) => Console.warn(`${event.id}: ${event.reauthorizationUrl}`))
   *   )
   * )
   * ```
   */
  readonly changes: Stream.Stream<CredentialEvent>
}>()("aden-credentials/CredentialStore") {
  /**
   * The store over a `CredentialStorage` and the registered providers. Fails with `AdenConfigError` if an option is invalid, or
   * if two providers have the same id.
   *
   * @example
   * ```ts
   * import { AdenClient, AdenSyncProvider, CredentialStore, EncryptedFileStorage } from "aden-credentials"
   * import { Effect, Layer } from "effect"
   *
   * const Credentials = CredentialStore.layer().pipe(
   *   Layer.provide(AdenSyncProvider.layer()),
   *   Layer.provide(AdenClient.layerConfig),
   *   Layer.provide(EncryptedFileStorage.layerConfig)
   * )
   *
   * const program = Effect.gen(function*() {
   *   const store = yield* CredentialStore
   *   return yield* store.token("hubspot")
   * }).pipe(Effect.provide(Credentials))
   * ```
   */
  static readonly layer = (
    options: CredentialStoreOptions = {}
  ): Layer.Layer<CredentialStore, AdenConfigError, CredentialStorage | CredentialProviders> =>
    Layer.effect(CredentialStore, makeStore(options))
}

// internal

/**
 * The service of `CredentialStore.layer`, without a layer.
 *
 * @internal
 */
export const makeStore = Effect.fnUntraced(function*(options: CredentialStoreOptions) {
  const registry = yield* CredentialProviders
  const { all: providers } = registry
  const storage = issuedStorage(yield* CredentialStorage, registry)
  const cacheTtl = yield* durationSetting("cacheTtl", options.cacheTtl ?? "5 minutes")
  const deadline = yield* durationSetting("deadline", options.deadline ?? "30 seconds")
  const maxStale = yield* durationSetting("maxStale", options.maxStale ?? defaultMaxStale)
  const policy = options.policy ?? {}
  const twice = providers.find(({ id }, index) => providers.findIndex((other) => other.id === id) < index)
  if (twice !== undefined) {
    return yield* new AdenConfigError({
      setting: "providerId",
      detail: `is ${JSON.stringify(twice.id)} of two providers`,
      remedy: "Give each provider an id of its own, and keep it: stored credentials carry it."
    })
  }

  const engine = yield* makeEngine({
    storage,
    providers,
    policies: {
      renew: policy.renew ?? (options.autoRefresh === false ? renewNever : renewInTime),
      // what is older than `maxStale` is not served without a question
      confirm: policy.confirm === undefined ? defaultConfirm(cacheTtl, maxStale) : atMost(policy.confirm, maxStale),
      backOff: policy.backOff ?? backOff,
      recheck: policy.recheck ?? recheckBlocked,
      missing: policy.missing ?? rememberMissing
    },
    timeToLive: Duration.toMillis(cacheTtl),
    maxStale: Duration.toMillis(maxStale),
    deadline
  })
  const { commit, entries, refresher, resolver } = engine
  const synchronization = new Synchronization(engine)
  const follow = new Follow(engine)
  const reads = new Reads({ entries, resolver, refresher })
  const templates = new TemplateResolver((ref) => reads.get(ref))
  // written out: each object that begins with a spread would keep a hidden class of its own
  const parts: StoreParts = {
    entries,
    listings: engine.listings,
    commit,
    resolver,
    refresher,
    synchronization,
    follow
  }
  yield* Effect.addFinalizer(() => Effect.andThen(reads.countMemory(), follow.shutdown()))
  yield* commit.followChanges()

  function token(
    ref: CredentialRef
  ): Effect.Effect<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound>
  function token(
    ref: CredentialRef,
    options: { readonly minTimeLeft: Duration.Input }
  ): Effect.Effect<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound | InsufficientTimeLeft>
  function token(ref: CredentialRef, options?: { readonly minTimeLeft: Duration.Input }) {
    return options === undefined ? reads.token(ref) : tokenFor(reads, ref, options.minTimeLeft)
  }

  function resolve(
    template: string,
    options?: TemplateOptions
  ): Effect.Effect<Redacted.Redacted<string>, TemplateFailure>
  function resolve(
    template: Schema.Json,
    options?: TemplateOptions
  ): Effect.Effect<Redacted.Redacted<Schema.Json>, TemplateFailure>
  function resolve(template: Schema.Json, options?: TemplateOptions) {
    return Effect.withSpan(
      typeof template === "string" ? templates.text(template, options) : templates.json(template, options),
      "CredentialStore.resolve"
    )
  }

  // the least that each store has of its own: the functions behind it are made once for all stores
  return CredentialStore.of({
    get: (ref) => reads.get(ref),
    getOption: (ref) => Effect.catchTag(Effect.asSome(reads.get(ref)), "CredentialNotFound", () => Effect.succeedNone),
    getKey: (ref, name) =>
      Effect.flatMap(reads.get(ref), ({ keys }) =>
        Effect.mapError(
          Effect.fromNullishOr(keys.get(name)?.value),
          () => new CredentialKeyNotFound({ ref, key: name })
        )),
    token,
    tokens: (ref) => follow.tokens(ref, findAndRead(reads, ref)),
    require: (refs) => require(reads, refs),
    awaitReauthorization: (ref, options) => operations.awaitReauthorization(parts, ref, options),
    save: (credential) => operations.save(parts, credential),
    delete: (ref) => operations.remove(parts, ref),
    list: Effect.suspend(() => operations.list(parts)),
    accounts: (provider) => operations.accounts(parts, provider),
    refresh: (ref) => operations.refresh(parts, ref),
    validate: (ref) => operations.validate(parts, ref),
    invalidate: (ref) => operations.invalidate(parts, ref),
    sync: Effect.suspend(() => operations.sync(parts)),
    syncStream: Stream.suspend(() => synchronization.stream),
    explain: (ref) => operations.explain(parts, ref),
    resolve,
    resolveHeaders: (headers, options) => resolveHeaders(templates, headers, options),
    resolveParams: (params, options) => resolveParams(templates, params, options),
    changes: entries.events
  })
})

/** The default policy. The last one is kept: the tenants of a platform have the same settings, nearly always. */
const defaultConfirm = (cacheTtl: Duration.Duration, maxStale: Duration.Duration): RefreshPolicy => {
  if (lastConfirm?.cacheTtl !== Duration.toMillis(cacheTtl) || lastConfirm.maxStale !== Duration.toMillis(maxStale)) {
    lastConfirm = {
      cacheTtl: Duration.toMillis(cacheTtl),
      maxStale: Duration.toMillis(maxStale),
      policy: atMost(confirmWithin(cacheTtl), maxStale)
    }
  }
  return lastConfirm.policy
}

let lastConfirm: { readonly cacheTtl: number; readonly maxStale: number; readonly policy: RefreshPolicy } | undefined

const resolveHeaders = Effect.fn("CredentialStore.resolveHeaders")((
  templates: TemplateResolver,
  headers: Readonly<Record<string, string>>,
  options?: TemplateOptions
) => templates.headers(headers, options))

const resolveParams = Effect.fn("CredentialStore.resolveParams")((
  templates: TemplateResolver,
  params: Readonly<Record<string, string>>,
  options?: TemplateOptions
) => templates.params(params, options))
