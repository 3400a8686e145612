/**
 * What programs use: ask for a credential by its ref, get one that is valid now, or a typed error that says what to do.
 *
 * The store keeps what it read in memory, has the provider renew tokens before they expire, and serves an unexpired token
 * while Aden is unavailable. The rules are those of docs/semantics.md.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import {
  AdenConfigError,
  CredentialKeyNotFound,
  CredentialNotFound,
  NoProvider,
  ReauthorizationTimeout,
  RequiredCredentialsUnusable
} from "../errors/CredentialError.ts"
import type {
  AmbiguousCredential,
  CredentialFailure,
  CredentialStorageError,
  CredentialTemplateError,
  InsufficientTimeLeft,
  StorageFailure
} from "../errors/CredentialError.ts"
import { accountOf } from "../model/Credential.ts"
import type {
  Credential,
  CredentialAccount,
  CredentialIdentity,
  CredentialRef,
  CredentialType,
  CredentialValidation
} from "../model/Credential.ts"
import type { CredentialEvent, SyncEvent, SyncFailure, SyncReport, SyncSkipped } from "../model/CredentialEvent.ts"
import { CredentialState } from "../model/CredentialState.ts"
import { defaultMaxStale } from "../model/freshness.ts"
import { durationSetting } from "../model/settings.ts"
import { CredentialProviders } from "../providers/CredentialProvider.ts"
import { CredentialStorage } from "../storage/CredentialStorage.ts"
import { atRest } from "../storage/decorate.ts"
import { TemplateResolver } from "../templates/expand.ts"
import * as metrics from "../util/metrics.ts"
import { isShown, shownName } from "../util/sanitize.ts"
import type { CredentialEntry } from "./CredentialEntry.ts"
import { isOwn } from "./CredentialEntry.ts"
import { CredentialTable } from "./Entries.ts"
import { FreshRead } from "./fastRead.ts"
import { Following } from "./follow.ts"
import { LateSaves } from "./LateSaves.ts"
import { OwnWrites } from "./OwnWrites.ts"
import { Renewal } from "./refresh.ts"
import type { RefreshPolicies } from "./RefreshPolicy.ts"
import { backOff, confirmWithin, recheckBlocked, rememberMissing, renewInTime } from "./RefreshPolicy.ts"
import { RefResolver } from "./resolve.ts"
import { StricterStorage, unwrapReason } from "./StricterStorage.ts"
import { Synchronization } from "./sync.ts"

/**
 * Settings of the store.
 *
 * @since 0.1.0
 * @category models
 */
export interface CredentialStoreOptions {
  /** Whether a read renews a due credential in the background; true. An expired one is renewed either way. */
  readonly autoRefresh?: boolean | undefined
  /** How long a credential is used without Aden confirming it; 5 minutes. */
  readonly cacheTtl?: Duration.Input | undefined
  /** When to ask Aden again, for each kind of outcome; see {@link RefreshPolicies} for the defaults. */
  readonly policy?: { readonly [K in keyof RefreshPolicies]?: RefreshPolicies[K] | undefined } | undefined
  /** How long a caller without a usable token waits, over all attempts; 30 seconds. */
  readonly deadline?: Duration.Input | undefined
  /** How long an unexpired credential is served after Aden last confirmed it; 24 hours, and 1 hour after a 401 or 403. */
  readonly maxStale?: Duration.Input | undefined
}

/**
 * A stored credential at a glance, without secrets. `unreadable`: something is stored that cannot be opened. `provider` and `alias`
 * are without control and invisible characters, for people; `ref` and `id` name it to the store, so an id is as it is stored.
 *
 * @since 0.1.0
 * @category models
 */
export interface CredentialSummary {
  /** The shortest ref that names it: the id, or `provider:alias`. */
  readonly ref: CredentialRef
  readonly id: string
  readonly type: CredentialType | undefined
  readonly provider: string | undefined
  readonly alias: string | undefined
  readonly status: "active" | "expired" | "requires_reauth" | "unreadable"
  /** `undefined`: it does not expire. */
  readonly expiresAt: DateTime.Utc | undefined
}

/**
 * One account of a provider, as stored.
 *
 * @since 0.1.0
 * @category models
 */
export interface StoredAccount {
  readonly ref: CredentialRef
  readonly id: string
  readonly alias: string | undefined
  readonly identity: CredentialIdentity
}

/**
 * Where a credential stands, without secrets. Times are by the local clock.
 *
 * @since 0.1.0
 * @category models
 */
export interface CredentialExplanation {
  readonly ref: CredentialRef
  readonly id: string
  readonly provider: string | undefined
  readonly alias: string | undefined
  readonly status: "fresh" | "stale" | "due" | "expired" | "requires_reauth"
  /** Where the credential at hand came from: `served stale` while Aden does not confirm it. */
  readonly source: "memory" | "disk" | "aden" | "served stale"
  /** Since Aden last confirmed it, or, where that is unknown, since it was first seen. */
  readonly age: Duration.Duration
  readonly expiresAt: DateTime.Utc | undefined
  readonly timeLeft: Duration.Duration | undefined
  /** From when a read renews it. */
  readonly renewalAt: DateTime.Utc | undefined
  /** The tag of the last error, such as `AdenUnavailable`. */
  readonly lastError: string | undefined
  /**
   * What storage fails with, as this store last found: what is at hand could not be saved or read again, or the last write, of
   * whatever credential, failed. The store goes on from memory meanwhile. `undefined` as soon as storage works again.
   */
  readonly storageError: CredentialStorageError | undefined
  /** For how long Aden must not be asked for it. */
  readonly coolDownLeft: Duration.Duration | undefined
  readonly reauthorizationUrl: string | undefined
}

/**
 * What a template may use.
 *
 * @since 0.1.0
 * @category models
 */
export interface TemplateOptions {
  /**
   * The refs that may be named, as they are written in the template; any, when left out. Give it wherever the text is not the
   * program's own: what a model or a user wrote could name any credential.
   */
  readonly refs?: ReadonlyArray<CredentialRef> | undefined
}

/**
 * Everything that expanding a template can fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type TemplateFailure = CredentialFailure | CredentialKeyNotFound | CredentialTemplateError

/**
 * The credentials of a program.
 *
 * @since 0.1.0
 * @category services
 */
export class CredentialStore extends Context.Service<CredentialStore, {
  /** The credential that the ref names, valid now. */
  readonly get: (ref: CredentialRef) => Effect.Effect<Credential, CredentialFailure>
  /** Like `get`, with none for a ref that names nothing. */
  readonly getOption: (
    ref: CredentialRef
  ) => Effect.Effect<Option.Option<Credential>, Exclude<CredentialFailure, CredentialNotFound>>
  /** One key of the credential, such as `access_token`. */
  readonly getKey: (
    ref: CredentialRef,
    name: string
  ) => Effect.Effect<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound>
  /**
   * The token to send: the credential's default key. With `minTimeLeft`, one that lasts at least that long from now, renewed
   * for it if need be.
   */
  readonly token: {
    (ref: CredentialRef): Effect.Effect<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound>
    (
      ref: CredentialRef,
      options: { readonly minTimeLeft: Duration.Input }
    ): Effect.Effect<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound | InsufficientTimeLeft>
  }
  /** The token now, and each new one when it comes. Whoever follows keeps it renewed; ends with the error of a read. */
  readonly tokens: (
    ref: CredentialRef
  ) => Stream.Stream<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound>
  /** The check before a run: every ref has a usable token, or the error names all that have not, with their URLs. */
  readonly require: (refs: ReadonlyArray<CredentialRef>) => Effect.Effect<void, RequiredCredentialsUnusable>
  /** Keeps a credential of the program's own. Aden never overwrites it. */
  readonly save: (credential: Credential) => Effect.Effect<void, StorageFailure>
  /** Deletes the stored credential, here alone: Aden is not told. `false` when there was none. */
  readonly delete: (ref: CredentialRef) => Effect.Effect<boolean, StorageFailure | AmbiguousCredential>
  /** All stored credentials at a glance. */
  readonly list: Effect.Effect<ReadonlyArray<CredentialSummary>, CredentialStorageError>
  /** The stored accounts of a provider. */
  readonly accounts: (provider: string) => Effect.Effect<ReadonlyArray<StoredAccount>, CredentialStorageError>
  /** Has Aden renew the token now, whatever its age; never answered by a renewal that began before the call. */
  readonly refresh: (ref: CredentialRef) => Effect.Effect<Credential, CredentialFailure | NoProvider>
  /** Asks Aden now whether the token is good. An invalid token is an answer. */
  readonly validate: (ref: CredentialRef) => Effect.Effect<CredentialValidation, CredentialFailure>
  /** The token at hand is no good (an API refused it): the next read renews it. */
  readonly invalidate: (ref: CredentialRef) => Effect.Effect<void, StorageFailure | AmbiguousCredential>
  /**
   * Fetches every integration that Aden lists, and saves it. With several providers, one whose list cannot be had keeps none of the
   * others' from being saved; it fails with that provider's error afterwards.
   */
  readonly sync: Effect.Effect<SyncReport, SyncFailure>
  /** `sync`, step by step. */
  readonly syncStream: Stream.Stream<SyncEvent, SyncFailure>
  /** Where the credential stands. Asks nobody. */
  readonly explain: (
    ref: CredentialRef
  ) => Effect.Effect<CredentialExplanation, StorageFailure | CredentialNotFound | AmbiguousCredential>
  /**
   * Waits until a blocked integration is connected again; answers at once when it is. Aden is asked every `poll` (5 seconds),
   * once for all who wait with the same `poll`; fails after `timeout` (10 minutes), and when the integration is removed. A `poll` that is no finite
   * time above zero is a defect.
   */
  readonly awaitReauthorization: (
    ref: CredentialRef,
    options?: { readonly timeout?: Duration.Input | undefined; readonly poll?: Duration.Input | undefined }
  ) => Effect.Effect<Credential, CredentialFailure | NoProvider | ReauthorizationTimeout>
  /**
   * A text with each `{{ref.key}}` and `{{ref}}` in it replaced, as `CredentialTemplate` reads them; of a JSON value every text in
   * it. All is expanded from one reading of each credential; what is put in is not expanded again; keys that begin with `_`
   * are refused. Fails before anything is read when the template is malformed or names a ref that is not among `refs`.
   */
  readonly resolve: {
    (template: string, options?: TemplateOptions): Effect.Effect<Redacted.Redacted<string>, TemplateFailure>
    (template: Schema.Json, options?: TemplateOptions): Effect.Effect<Redacted.Redacted<Schema.Json>, TemplateFailure>
  }
  /** Headers, each value a template. One that no header can have, such as a line break, is refused. */
  readonly resolveHeaders: (
    headers: Readonly<Record<string, string>>,
    options?: TemplateOptions
  ) => Effect.Effect<Record<string, Redacted.Redacted<string>>, TemplateFailure>
  /** Query parameters, each value a template: as `HttpClientRequest.setUrlParams` takes them. */
  readonly resolveParams: (
    params: Readonly<Record<string, string>>,
    options?: TemplateOptions
  ) => Effect.Effect<Record<string, Redacted.Redacted<string>>, TemplateFailure>
  /** What happens to credentials from now on. */
  readonly changes: Stream.Stream<CredentialEvent>
}>()("aden-credentials/CredentialStore") {
  /**
   * The store over a `CredentialStorage` and the registered providers. Fails with `AdenConfigError` where an option makes no sense,
   * or two providers have one id.
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

const make = Effect.fnUntraced(function*(options: CredentialStoreOptions) {
  const original = yield* CredentialStorage
  const ownWrites = new OwnWrites(atRest(original))
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
      remedy: "Give each of them one of its own, and keep it: stored credentials carry it."
    })
  }

  const table = yield* CredentialTable.make({
    storage: ownWrites.storage,
    providers,
    policies: {
      renew: policy.renew ?? (options.autoRefresh === false ? renewNever : renewInTime),
      // nothing that is older than `maxStale` is served without a question
      confirm: Schedule.modifyDelay(
        policy.confirm ?? confirmWithin(cacheTtl),
        ({ duration }) => Effect.succeed(Duration.min(duration, maxStale))
      ),
      backOff: policy.backOff ?? backOff,
      recheck: policy.recheck ?? recheckBlocked,
      missing: policy.missing ?? rememberMissing
    }
  })
  const { storage } = table
  const resolver = new RefResolver(table, Duration.toMillis(cacheTtl))
  const lateSaves = new LateSaves(table)
  const renewal = new Renewal({
    table,
    resolver,
    lateSaves,
    deadline,
    maxStale: Duration.toMillis(maxStale)
  })
  yield* Effect.addFinalizer(() => Effect.andThen(renewal.shutdown(), resolver.shutdown()))
  const synchronization = new Synchronization({ table, resolver, renewal, lateSaves })
  const following = new Following({ table, renewal })
  const stricter = new StricterStorage(original, table)
  yield* Effect.addFinalizer(() => Effect.andThen(following.shutdown(), stricter.shutdown()))

  // another process may share the storage: what it changes is in memory here at once
  yield* Effect.forkScoped(
    Stream.runForEachArray(
      ownWrites.foreign,
      (changes) =>
        Effect.forEach(new Set(changes.map(({ id }) => id)), (id) => table.follow(id), {
          concurrency: 16,
          discard: true
        })
    ),
    { startImmediately: true }
  )
  yield* Effect.forkScoped(lateSaves.run())

  /** The entry that a ref means, stored or listed by a provider. */
  const find = Effect.fnUntraced(
    function*(ref: CredentialRef) {
      const stored = yield* resolver.findStored(ref)
      return stored !== undefined && (yield* stricter.hear(stored)) ? stored : yield* resolver.findListed(ref)
    },
    (effect, ref) =>
      effect.pipe(
        Effect.catchTag("CredentialStorageError", (error) => resolver.findUnread(ref, error)),
        Effect.catchTag("CredentialStorageError", (error) => Effect.fail(unwrapReason(error, ref)))
      )
  )

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
      renewal.withinDeadline(ref),
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
    read: (entry: CredentialEntry) => Effect.Effect<Credential, E>
  ) =>
    Effect.gen(function*() {
      yield* countMemory
      const held = table.known(ref)?.credential
      const entry = yield* find(ref)
      const credential = yield* read(entry)
      const source = credential === held ? "memory" : entry.source
      yield* Effect.annotateCurrentSpan({ "credential.source": source })
      yield* Metric.update(Metric.withAttributes(metrics.reads, { source }), 1)
      return credential
    })

  const findAndRead = Effect.fn("CredentialStore.get")(function*(ref: CredentialRef) {
    yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
    return yield* counting(ref, (entry) => renewal.read(entry))
  }, answering)

  const keyOf = (ref: CredentialRef, credential: Credential) =>
    credential.defaultKey === undefined
      ? Effect.fail(new CredentialKeyNotFound({ ref }))
      : Effect.succeed(credential.defaultKey.value)

  const tokenFor = Effect.fn("CredentialStore.token")(function*(ref: CredentialRef, minTimeLeft: Duration.Duration) {
    yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
    const lasting = counting(ref, (entry) => renewal.readFor(entry, ref, Duration.toMillis(minTimeLeft)))
    return yield* keyOf(ref, yield* lasting)
  }, answering)

  /**
   * The reads of one ref. While the credential is fresh they do no I/O, open no span and allocate next to nothing. They are
   * counted in a variable, which becomes part of the metric when the next read does more.
   */
  const makeReads = (ref: CredentialRef) => {
    let entry: CredentialEntry | undefined
    let version = -1
    // Looking the clock up costs as much as all the rest: a loop of reads does it once.
    let context: Context.Context<never> | undefined
    let clock: Clock.Clock
    const fresh = (fiber: Fiber.Fiber<unknown, unknown>): CredentialEntry | undefined => {
      if (version !== table.version) {
        entry = table.known(ref)
        version = table.version
      }
      if (context !== fiber.context) {
        context = fiber.context
        clock = fiber.getRef(Clock.Clock)
      }
      if (entry === undefined) return undefined
      const now = clock.currentTimeMillisUnsafe()
      return now < entry.freshUntil && now >= entry.freshFrom ? entry : undefined
    }
    const read = findAndRead(ref)
    return {
      credential: new FreshRead((fiber) => {
        const answer = fresh(fiber)?.answer
        if (answer !== undefined) uncounted++
        return answer
      }, read),
      token: new FreshRead((fiber) => {
        const token = fresh(fiber)?.token
        if (token !== undefined) uncounted++
        return token
      }, Effect.flatMap(read, (credential) => keyOf(ref, credential)))
    }
  }

  /** The reads of the refs that are known to name something, made anew when what refs mean has changed. */
  const reads = new Map<CredentialRef, ReturnType<typeof makeReads>>()
  let readsVersion = table.version

  const readsOf = (ref: CredentialRef): ReturnType<typeof makeReads> => {
    if (readsVersion !== table.version) {
      reads.clear()
      readsVersion = table.version
    }
    const present = reads.get(ref)
    if (present !== undefined) return present
    const made = makeReads(ref)
    if (table.known(ref) !== undefined) reads.set(ref, made)
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
    return options === undefined ? readsOf(ref).token : tokenFor(ref, Duration.fromInputUnsafe(options.minTimeLeft))
  }

  const require = Effect.fn("CredentialStore.require")(function*(refs: ReadonlyArray<CredentialRef>) {
    const results = yield* Effect.forEach(refs, (ref) =>
      Effect.match(readsOf(ref).token, {
        onSuccess: () => undefined,
        onFailure: (error) => ({ ref, error })
      }), { concurrency: 16 })
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
    return yield* Effect.flatMap(find(ref), (entry) => following.reconnected(entry, { ref, poll })).pipe(
      Effect.timeoutOrElse({
        duration: timeout,
        orElse: () => {
          const reauthorizationUrl = table.known(ref)?.state.reauthorizationUrl
          return Effect.fail(new ReauthorizationTimeout({ ref, after: timeout, reauthorizationUrl }))
        }
      })
    )
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
    yield* storage.save(credential, { state: CredentialState.initial }).pipe(
      Effect.catchTag("GenerationConflict", Effect.die)
    )
    const entry = table.entry(credential.id)
    entry.replaced()
    yield* table.load(entry)
    resolver.forgetList()
  })

  const remove = Effect.fn("CredentialStore.delete")(function*(ref: CredentialRef) {
    yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
    if (ref === "") return false
    const id = (yield* resolver.storedId(ref)) ?? ref
    const isDeleted = yield* storage.delete(id)
    table.forget(id)
    if (isDeleted) yield* table.publish({ _tag: "Removed", id })
    return isDeleted
  })

  const summarized = Effect.gen(function*() {
    const now = yield* DateTime.now
    const summaries = yield* Effect.forEach(yield* storage.list, (id) => summaryOf(storage, id, now), {
      concurrency: 16
    })
    return withRefs(summaries.filter((summary) => summary !== undefined))
  }).pipe(Effect.withSpan("CredentialStore.list"))

  const list = Effect.map(summarized, Arr.map(({ summary }) => summary))

  const accounts = Effect.fn("CredentialStore.accounts")(function*(provider: string) {
    const ofProvider = (yield* summarized).filter(({ account }) => account.provider === provider)
    return yield* Effect.forEach(
      ofProvider,
      ({ summary: { alias, id, ref } }) =>
        Effect.map(
          Effect.orElseSucceed(storage.load(id), () => Option.none<Credential>()),
          Option.map((credential): StoredAccount => ({ ref, id, alias, identity: credential.identity }))
        )
    ).pipe(Effect.map(Arr.getSomes))
  })

  const refresh = Effect.fn("CredentialStore.refresh")(function*(ref: CredentialRef) {
    yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
    if (providers.length === 0) return yield* new NoProvider({})
    return yield* renewal.force(yield* find(ref), ref)
  })

  const validate = Effect.fn("CredentialStore.validate")(function*(ref: CredentialRef) {
    yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
    return yield* renewal.validate(yield* find(ref))
  })

  const invalidate = Effect.fn("CredentialStore.invalidate")(function*(ref: CredentialRef) {
    yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
    // one that is not stored may be asked for at this moment: that answer is not to be kept either
    const entry = (yield* resolver.findStored(ref)) ?? table.get(ref)
    if (entry === undefined) return
    entry.reject()
    yield* table.wakeFollowers(entry.id)
  })

  const explain = Effect.fn("CredentialStore.explain")(function*(ref: CredentialRef) {
    const isInMemory = table.known(ref) !== undefined
    const entry = yield* resolver.lookAt(ref)
    if (entry === undefined) return yield* new CredentialNotFound({ ref })
    yield* entry.measure()
    const storageError = table.storageErrorOf(entry)
    return explanationOf(entry, { ref, isInMemory, storageError, now: yield* Clock.currentTimeMillis })
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
    }
    return report
  }).pipe(Effect.withSpan("CredentialStore.sync"))

  return CredentialStore.of({
    get,
    getOption,
    getKey,
    token,
    tokens: (ref) => following.tokens(ref, findAndRead(ref)),
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
    changes: Stream.fromPubSub(table.events)
  })
})

const emptyReport = () => ({
  synced: new Array<Extract<SyncEvent, { readonly _tag: "Synced" }>>(),
  skipped: new Array<SyncSkipped>(),
  failed: new Array<Extract<SyncEvent, { readonly _tag: "Failed" }>>(),
  removed: new Array<string>()
})

/** A summary, with the names that refs are compared with. */
interface Summarized {
  readonly account: CredentialAccount
  readonly summary: CredentialSummary
}

/** `undefined` when it was deleted since it was listed. What cannot be read does not keep the others from being listed. */
const summaryOf = (
  storage: CredentialStorage["Service"],
  id: string,
  now: DateTime.Utc
): Effect.Effect<Summarized | undefined, CredentialStorageError> => {
  const unreadable = Effect.map(
    Effect.orElseSucceed(storage.loadState(id), () => CredentialState.initial),
    ({ account }): Summarized => ({
      account: { id, provider: account?.provider, alias: account?.alias },
      summary: {
        ref: id,
        id,
        type: undefined,
        provider: shownName(account?.provider),
        alias: shownName(account?.alias),
        status: "unreadable",
        expiresAt: undefined
      }
    })
  )
  return Effect.gen(function*() {
    const stored = yield* storage.load(id)
    if (Option.isNone(stored)) return undefined
    const { alias, expiresAt, integrationType, type } = stored.value
    const state = yield* storage.loadState(id)
    const summary: CredentialSummary = {
      ref: id,
      id,
      type,
      provider: integrationType,
      alias,
      expiresAt,
      status: state.blockedSince !== undefined && !isOwn(stored.value)
        ? "requires_reauth"
        : expiresAt !== undefined && DateTime.isLessThanOrEqualTo(expiresAt, now)
        ? "expired"
        : "active"
    }
    return { account: { ...accountOf(stored.value), id }, summary }
  }).pipe(
    Effect.catchTags({
      CredentialDecryptionFailed: () => unreadable,
      CredentialStorageError: (error) =>
        error.reason._tag === "StorageIoFailed" || error.reason._tag === "StorageInsecure"
          ? unreadable
          : Effect.fail(error)
    })
  )
}

/** Gives each the shortest ref that names it alone, and is shown as it is: its provider, `provider:alias`, or its id. */
const withRefs = (all: ReadonlyArray<Summarized>): ReadonlyArray<Summarized> => {
  const uses = new Map<string, number>()
  const count = (ref: string) => uses.set(ref, (uses.get(ref) ?? 0) + 1)
  const ids = new Set(all.map(({ summary }) => summary.id))
  // which could be another account of any provider
  const isAnyUnknown = all.some(({ account, summary }) =>
    summary.status === "unreadable" && account.provider === undefined
  )
  for (const { account: { alias, provider } } of all) {
    if (provider === undefined) continue
    count(provider)
    if (isAnyUnknown) count(provider)
    if (alias !== undefined) count(`${provider}:${alias}`)
  }
  return all.map(({ account, summary }) => {
    const { alias, id, provider } = account
    const refs = !isShown(provider) ? [] : isShown(alias) ? [provider, `${provider}:${alias}`] : [provider]
    const ref = refs.find((ref) => ref === id || (uses.get(ref) === 1 && !ids.has(ref))) ?? id
    return { account, summary: { ...summary, ref } }
  }).toSorted((a, b) => a.summary.ref < b.summary.ref ? -1 : 1)
}

const explanationOf = (
  entry: CredentialEntry,
  options: {
    readonly ref: CredentialRef
    readonly isInMemory: boolean
    readonly storageError: CredentialStorageError | undefined
    readonly now: number
  }
): CredentialExplanation => {
  const { isInMemory, now, ref, storageError } = options
  const freshness = entry.freshness(now)
  const coolDown = entry.coolDownLeft(now)
  const isServedStale = entry.lastError !== undefined && (freshness === "due" || freshness === "stale")
  const time = (millis: number) => Number.isFinite(millis) ? DateTime.makeUnsafe(millis) : undefined
  return {
    ref,
    id: entry.id,
    provider: entry.credential?.integrationType,
    alias: entry.credential?.alias,
    status: freshness === "blocked" ? "requires_reauth" : freshness === "missing" ? "expired" : freshness,
    source: isServedStale ? "served stale" : entry.source === "aden" ? "aden" : isInMemory ? "memory" : "disk",
    age: Duration.millis(entry.credential === undefined ? 0 : Math.max(0, now - entry.confirmedAt)),
    expiresAt: entry.credential?.expiresAt,
    timeLeft: Number.isFinite(entry.expiresAt) ? Duration.millis(Math.max(0, entry.expiresAt - now)) : undefined,
    renewalAt: entry.provider === undefined ? undefined : time(entry.renewAt),
    lastError: entry.lastError?._tag ?? entry.state.lastError,
    storageError,
    coolDownLeft: coolDown > 0 ? Duration.millis(coolDown) : undefined,
    reauthorizationUrl: entry.state.reauthorizationUrl
  }
}
