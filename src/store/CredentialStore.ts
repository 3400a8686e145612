/**
 * The service that programs use: it returns the credential of a ref, valid now, or fails with a typed error that says what to do.
 *
 * The store caches credentials in memory, has the provider refresh tokens before they expire, and serves an unexpired token
 * while Aden is unavailable (stale-while-revalidate). The rules are in docs/semantics.md.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { AdenConfigError } from "../errors/ConfigError.ts"
import {
  CredentialKeyNotFound,
  CredentialNotFound,
  NoProvider,
  ReauthorizationTimeout,
  RequiredCredentialsUnusable
} from "../errors/CredentialError.ts"
import type { AmbiguousCredential, CredentialFailure, InsufficientTimeLeft } from "../errors/CredentialError.ts"
import type { CredentialStorageError, StorageFailure } from "../errors/StorageError.ts"
import type { CredentialTemplateError } from "../errors/UseError.ts"
import type { Credential, CredentialRef, CredentialValidation } from "../model/Credential.ts"
import type { CredentialEvent, SyncEvent, SyncFailure, SyncReport, SyncSkipped } from "../model/CredentialEvent.ts"
import { defaultMaxStale } from "../model/freshness.ts"
import { durationSetting } from "../model/settings.ts"
import { CredentialProviders } from "../providers/CredentialProvider.ts"
import { CredentialStorage } from "../storage/CredentialStorage.ts"
import type { StorageChange } from "../storage/CredentialStorage.ts"
import { localOnly } from "../storage/decorate.ts"
import { TemplateResolver } from "../templates/expand.ts"
import * as metrics from "../util/metrics.ts"
import type { Cell } from "./Cell.ts"
import { makeEngine } from "./Engine.ts"
import { explanationOf } from "./explain.ts"
import type { CredentialExplanation } from "./explain.ts"
import { FastRead } from "./fastRead.ts"
import { Follow } from "./follow.ts"
import { accountsOf, listOf } from "./list.ts"
import type { CredentialSummary, StoredAccount } from "./list.ts"
import type { RefreshPolicies } from "./RefreshPolicy.ts"
import { backOff, confirmWithin, recheckBlocked, rememberMissing, renewInTime } from "./RefreshPolicy.ts"
import { StricterStorage, unwrapReason } from "./StricterStorage.ts"
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
    Layer.effect(CredentialStore, make(options))
}

// internal

/** Without `autoRefresh` a token is renewed only once it has expired. */
const renewNever = Schedule.recurs(0)

/** How long the last check of a wait for a re-authorization may take. */
const lastCheckTimeout = "5 seconds"

/** How many refs `require` reads at a time. */
const requireConcurrency = 16

const make = Effect.fnUntraced(function*(options: CredentialStoreOptions) {
  const original = yield* CredentialStorage
  const { all: providers } = yield* CredentialProviders
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

  const { commit, entries, listings, refresher, resolver } = yield* makeEngine({
    storage: localOnly(original),
    providers,
    policies: {
      renew: policy.renew ?? (options.autoRefresh === false ? renewNever : renewInTime),
      // what is older than `maxStale` is not served without a question
      confirm: Schedule.modifyDelay(
        policy.confirm ?? confirmWithin(cacheTtl),
        ({ duration }) => Effect.succeed(Duration.min(duration, maxStale))
      ),
      backOff: policy.backOff ?? backOff,
      recheck: policy.recheck ?? recheckBlocked,
      missing: policy.missing ?? rememberMissing
    },
    timeToLive: Duration.toMillis(cacheTtl),
    maxStale: Duration.toMillis(maxStale),
    deadline
  })
  const { storage } = entries
  const synchronization = new Synchronization({ entries, listings, refresher, commit })
  const follow = new Follow({ entries, refresher })
  const stricter = new StricterStorage(original, entries)
  yield* Effect.addFinalizer(() => Effect.andThen(follow.shutdown(), stricter.shutdown()))

  // another process may share the storage: what it changes is in memory here at once
  yield* Effect.forkScoped(
    Stream.runForEachArray(
      storage.changes,
      (changes) =>
        Effect.forEach(latestOf(changes), (change) => commit.follow(change), { concurrency: 16, discard: true })
    ),
    { startImmediately: true }
  )

  /** The cell that a ref means, stored or listed by a provider. */
  const find = Effect.fnUntraced(
    function*(ref: CredentialRef) {
      const stored = yield* resolver.findStored(ref)
      return stored !== undefined && (yield* stricter.hear(stored)) ? stored : yield* resolver.findListed(ref)
    },
    (effect, ref) =>
      effect.pipe(
        Effect.catchTag("CredentialStorageError", (error) => resolver.resolveWhileStorageDown(ref, error)),
        Effect.catchTag("CredentialStorageError", (error) => Effect.fail(unwrapReason(error, ref)))
      )
  )

  /**
   * Finds what a ref means, and does something with it. What is found to be gone may have been connected again under another id: a
   * name is looked for once more.
   */
  const using = <A, E extends { readonly _tag: string }>(
    ref: CredentialRef,
    use: (cell: Cell) => Effect.Effect<A, E>
  ) =>
    Effect.flatMap(find(ref), (cell) =>
      Effect.catchIf(
        use(cell),
        (error): error is E & CredentialNotFound => error instanceof CredentialNotFound && cell.id !== ref,
        () => Effect.flatMap(find(ref), use)
      ))

  /** Whoever waits for the credential of a ref waits no longer than the deadline, and is told of what it asked for. */
  const answering = <A, E extends { readonly _tag: string }>(
    effect: Effect.Effect<A, E | CredentialNotFound>,
    ref: CredentialRef
  ) =>
    effect.pipe(
      Effect.catchIf(
        (error) => error instanceof CredentialNotFound,
        () => Effect.fail(new CredentialNotFound({ ref }))
      ),
      refresher.withinDeadline(ref),
      Effect.tapError((error) => Metric.update(Metric.withAttributes(metrics.readFailures, { error: error._tag }), 1))
    )

  /** Reads that found a fresh credential in memory, and were not counted as a metric yet: see `makeReads`. */
  let uncounted = 0
  const countMemory = Effect.suspend(() => {
    const count = uncounted
    uncounted = 0
    return count === 0 ? Effect.void : Metric.update(Metric.withAttributes(metrics.reads, { source: "memory" }), count)
  })
  yield* Effect.addFinalizer(() => countMemory)

  /** Counts a read that was more than a look into memory, by where its credential came from. */
  const counting = <E extends CredentialFailure | InsufficientTimeLeft>(
    ref: CredentialRef,
    read: (cell: Cell) => Effect.Effect<Credential, E>
  ) =>
    Effect.gen(function*() {
      yield* countMemory
      const held = entries.known(ref)?.entry.credential
      const credential = yield* using(ref, read)
      const source = credential === held ? "memory" : entries.known(ref)?.entry.held?.source ?? "aden"
      yield* Effect.annotateCurrentSpan({ "credential.source": source })
      yield* Metric.update(Metric.withAttributes(metrics.reads, { source }), 1)
      return credential
    })

  const findAndRead = Effect.fn("CredentialStore.get")(function*(ref: CredentialRef) {
    yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
    return yield* counting(ref, (cell) => refresher.read(cell))
  }, answering)

  const keyOf = (ref: CredentialRef, credential: Credential) =>
    credential.defaultKey === undefined
      ? Effect.fail(new CredentialKeyNotFound({ ref }))
      : Effect.succeed(credential.defaultKey.value)

  const tokenFor = Effect.fn("CredentialStore.token")(function*(ref: CredentialRef, input: Duration.Input) {
    yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
    // a time that makes no sense is a bug of the program's
    const minTimeLeft = yield* Effect.orDie(durationSetting("minTimeLeft", input, { isZeroAllowed: true }))
    const lasting = counting(ref, (cell) => refresher.readFor(cell, ref, Duration.toMillis(minTimeLeft)))
    return yield* keyOf(ref, yield* lasting)
  }, answering)

  /**
   * The reads of one ref. While the credential is fresh they do no I/O, open no span and allocate next to nothing. They are
   * counted in a variable, which becomes part of the metric when the next read does more.
   */
  const makeReads = (ref: CredentialRef) => {
    let cell: Cell | undefined
    let version = -1
    // Looking the clock up costs as much as all the rest: a loop of reads does it once.
    let context: Context.Context<never> | undefined
    let clock: Clock.Clock
    const fresh = (fiber: Fiber.Fiber<unknown, unknown>): Cell | undefined => {
      if (version !== entries.version) {
        cell = entries.known(ref)
        version = entries.version
      }
      if (context !== fiber.context) {
        context = fiber.context
        clock = fiber.getRef(Clock.Clock)
      }
      if (cell === undefined) return undefined
      const now = clock.currentTimeMillisUnsafe()
      return now < cell.serveUntil && now >= cell.serveFrom ? cell : undefined
    }
    const read = findAndRead(ref)
    return {
      credential: new FastRead((fiber) => {
        const answer = fresh(fiber)?.answer
        if (answer !== undefined) uncounted++
        return answer
      }, read),
      token: new FastRead((fiber) => {
        const token = fresh(fiber)?.token
        if (token !== undefined) uncounted++
        return token
      }, Effect.flatMap(read, (credential) => keyOf(ref, credential)))
    }
  }

  /** The reads of the refs that are known to name something, made anew when what refs mean has changed. */
  const reads = new Map<CredentialRef, ReturnType<typeof makeReads>>()
  let readsVersion = entries.version

  const readsOf = (ref: CredentialRef): ReturnType<typeof makeReads> => {
    if (readsVersion !== entries.version) {
      reads.clear()
      readsVersion = entries.version
    }
    const present = reads.get(ref)
    if (present !== undefined) return present
    const made = makeReads(ref)
    if (entries.known(ref) !== undefined) reads.set(ref, made)
    return made
  }

  const get = (ref: CredentialRef): Effect.Effect<Credential, CredentialFailure> => readsOf(ref).credential

  function token(
    ref: CredentialRef
  ): Effect.Effect<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound>
  function token(
    ref: CredentialRef,
    options: { readonly minTimeLeft: Duration.Input }
  ): Effect.Effect<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound | InsufficientTimeLeft>
  function token(ref: CredentialRef, options?: { readonly minTimeLeft: Duration.Input }) {
    return options === undefined ? readsOf(ref).token : tokenFor(ref, options.minTimeLeft)
  }

  const require = Effect.fn("CredentialStore.require")(function*(refs: ReadonlyArray<CredentialRef>) {
    // the deadline holds for all of them together, with the time that a ref waits for its turn
    const places = Semaphore.makeUnsafe(requireConcurrency)
    const results = yield* Effect.forEach(
      refs,
      (ref) =>
        Effect.match(refresher.withinDeadline(ref)(places.withPermit(readsOf(ref).token)), {
          onSuccess: () => undefined,
          onFailure: (error) => ({ ref, error })
        }),
      { concurrency: "unbounded" }
    )
    const problems = results.filter((problem) => problem !== undefined)
    if (Arr.isReadonlyArrayNonEmpty(problems)) return yield* new RequiredCredentialsUnusable({ problems })
  })

  const awaitReauthorization = Effect.fn("CredentialStore.awaitReauthorization")(function*(
    ref: CredentialRef,
    options?: { readonly timeout?: Duration.Input | undefined; readonly poll?: Duration.Input | undefined }
  ) {
    yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
    // without a pause it would ask without end: a bug of the program's
    const poll = yield* Effect.orDie(durationSetting("poll", options?.poll ?? "5 seconds"))
    const timeout = Duration.fromInputUnsafe(options?.timeout ?? "10 minutes")
    return yield* using(ref, (cell) => follow.reconnected(cell, { ref, poll })).pipe(
      Effect.timeoutOrElse({
        duration: timeout,
        orElse: () => lastCheck(ref, timeout)
      })
    )
  })

  /** At the end of a wait, Aden is asked once more: the wait may have been shorter than the time between two polls. */
  const lastCheck = Effect.fnUntraced(function*(ref: CredentialRef, after: Duration.Duration) {
    const cell = entries.known(ref)
    if (cell?.entry.isBlocked === true) {
      const checked = yield* Effect.option(Effect.timeout(refresher.check(cell), lastCheckTimeout))
      if (Option.isSome(checked)) return checked.value
    }
    const reauthorizationUrl = entries.known(ref)?.entry.state.reauthorizationUrl
    return yield* new ReauthorizationTimeout({ ref, after, reauthorizationUrl })
  })

  const getKey = (ref: CredentialRef, name: string) =>
    Effect.flatMap(get(ref), (credential) => {
      const key = credential.keys.get(name)
      return key === undefined ? Effect.fail(new CredentialKeyNotFound({ ref, key: name })) : Effect.succeed(key.value)
    })

  const getOption = (ref: CredentialRef) =>
    Effect.catchTag(Effect.asSome(get(ref)), "CredentialNotFound", () => Effect.succeedNone)

  const save = Effect.fn("CredentialStore.save")(function*(credential: Credential) {
    yield* Effect.annotateCurrentSpan({ "credential.id": credential.id })
    yield* commit.save(credential)
    listings.expire()
  })

  const remove = Effect.fn("CredentialStore.delete")(function*(ref: CredentialRef) {
    yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
    if (ref === "") return false
    return yield* commit.delete((yield* resolver.storedId(ref)) ?? ref)
  })

  const list = Effect.withSpan(listOf(storage), "CredentialStore.list")
  const accounts = Effect.fn("CredentialStore.accounts")((provider: string) => accountsOf(storage, provider))

  const refresh = Effect.fn("CredentialStore.refresh")(function*(ref: CredentialRef) {
    yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
    if (providers.length === 0) return yield* new NoProvider({})
    return yield* using(ref, (cell) => refresher.force(cell, ref))
  }, (effect, ref) => refresher.withinDeadline(ref)(effect))

  const validate = Effect.fn("CredentialStore.validate")(function*(ref: CredentialRef) {
    yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
    return yield* using(ref, (cell) => refresher.validate(cell))
  }, (effect, ref) => refresher.withinDeadline(ref)(effect))

  const invalidate = Effect.fn("CredentialStore.invalidate")(function*(ref: CredentialRef) {
    yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
    // one that is not stored may be asked for at this moment: that answer is not to be kept either
    const cell = (yield* resolver.findStored(ref)) ?? entries.get(ref)
    if (cell !== undefined) {
      yield* entries.change(cell, { _tag: "Rejected", token: cell.entry.credential?.defaultKey?.value })
    }
  })

  const explain = Effect.fn("CredentialStore.explain")(function*(ref: CredentialRef) {
    const isInMemory = entries.known(ref) !== undefined
    const cell = yield* resolver.peek(ref)
    if (cell === undefined) return yield* new CredentialNotFound({ ref })
    // another process may have renewed it
    if (isInMemory) yield* Effect.ignore(entries.load(cell))
    const { entry } = cell
    const storageError = entries.storageErrorOf(entry)
    return explanationOf(entry, yield* entries.circumstances(entry), { ref, isInMemory, storageError })
  })

  const templates = new TemplateResolver(get)

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

  const resolveHeaders = Effect.fn("CredentialStore.resolveHeaders")(
    (headers: Readonly<Record<string, string>>, options?: TemplateOptions) => templates.headers(headers, options)
  )

  const resolveParams = Effect.fn("CredentialStore.resolveParams")(
    (params: Readonly<Record<string, string>>, options?: TemplateOptions) => templates.params(params, options)
  )

  const syncStream = synchronization.stream
  const sync = Stream.runFold(syncStream, emptyReport, (report, event) => {
    switch (event._tag) {
      case "Synced":
        report.synced.push(event)
        break
      case "Skipped":
        report.skipped.push(event)
        break
      case "Failed":
        report.failed.push(event)
        break
      case "Removed":
        report.removed.push(event.id)
        break
      case "Listed":
        report.isIncomplete ||= event.isIncomplete
    }
    return report
  }).pipe(Effect.withSpan("CredentialStore.sync"))

  return CredentialStore.of({
    get,
    getOption,
    getKey,
    token,
    tokens: (ref) => follow.tokens(ref, findAndRead(ref)),
    require,
    awaitReauthorization,
    save,
    delete: remove,
    list,
    accounts,
    refresh,
    validate,
    invalidate,
    sync,
    syncStream,
    explain,
    resolve,
    resolveHeaders,
    resolveParams,
    changes: entries.events
  })
})

const emptyReport = () => ({
  synced: new Array<Extract<SyncEvent, { readonly _tag: "Synced" }>>(),
  skipped: new Array<SyncSkipped>(),
  failed: new Array<Extract<SyncEvent, { readonly _tag: "Failed" }>>(),
  removed: new Array<string>(),
  isIncomplete: false
})

/** Of several changes of one entry, the last: memory follows what is stored now. */
const latestOf = (changes: ReadonlyArray<StorageChange>): Iterable<StorageChange> =>
  new Map(changes.map((change) => [change.id, change])).values()
