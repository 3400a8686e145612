/**
 * A storage that asks Aden for what it lacks, and for what Aden has not confirmed for a while.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import {
  AdenProtocolError,
  AdenTimeout,
  AdenUnavailable,
  CredentialStorageError,
  RateLimited,
  ReauthRequired,
  RefreshFailed
} from "../errors/CredentialError.ts"
import type { AdenConfigError, AdenRequestFailure, FetchFailure, StorageFailure } from "../errors/CredentialError.ts"
import type { Credential, ProviderAccount } from "../model/Credential.ts"
import { CredentialState } from "../model/CredentialState.ts"
import { confirmationOf, coolDownLeft, defaultMaxStale, expiryOf, unconfirmedUntil } from "../model/freshness.ts"
import { durationSetting } from "../model/settings.ts"
import { AdenSyncProvider } from "../providers/aden/AdenSyncProvider.ts"
import { CredentialStorage } from "../storage/CredentialStorage.ts"
import { decorate, MayAskAden } from "../storage/decorate.ts"
import { checkedStorage } from "../store/checkedAnswers.ts"
import { loadRecord } from "../store/storedRecord.ts"
import type { StoredRecord } from "../store/storedRecord.ts"
import { cleanText } from "../util/sanitize.ts"
import { SingleFlight } from "../util/SingleFlight.ts"

/**
 * A {@link CredentialStorage} over another one and the Aden provider: `load` answers from the other, and asks Aden (`GET`)
 * first when the entry is missing or Aden confirmed it longer ago than `cacheTtl`. What Aden answers is saved. While Aden
 * cannot answer, an unexpired copy is answered without it, up to `maxStale`. All other methods are those of the other storage.
 *
 * The age of an entry is that of its stored state, so it outlives a restart. Credentials that the provider did not write are
 * never asked for. The rules are those of docs/semantics.md.
 *
 * @since 0.1.0
 * @category storages
 */
export class AdenCachedStorage {
  /**
   * A cache over the `CredentialStorage` it is provided with. Provide it before the provider, so that both use the same one.
   *
   * - `cacheTtl`: how long an entry is answered without Aden confirming it; 5 minutes.
   * - `preferLocal`: true; with `false`, Aden is asked first on every `load`, and the stored copy answers only while Aden
   *   cannot.
   * - `maxStale`: how long an unexpired copy is answered after Aden last confirmed it; 24 hours, and 1 hour after a 401 or 403.
   *
   * `load` fails with a `CredentialStorageError` whose `reason` is Aden's error when nothing stored may be answered. Fails
   * with `AdenConfigError` when `cacheTtl` or `maxStale` is no finite time above zero.
   *
   * @example
   * ```ts
   * import { AdenCachedStorage, AdenClient, AdenSyncProvider, CredentialStore, EncryptedFileStorage } from "aden-credentials"
   * import { Layer } from "effect"
   *
   * const Credentials = CredentialStore.layer().pipe(
   *   Layer.provide(AdenCachedStorage.layer({ cacheTtl: "1 minute" })),
   *   Layer.provide(AdenSyncProvider.layer()),
   *   Layer.provide(AdenClient.layerConfig),
   *   Layer.provide(EncryptedFileStorage.layerConfig)
   * )
   * ```
   */
  static readonly layer = (options: {
    readonly cacheTtl?: Duration.Input | undefined
    readonly preferLocal?: boolean | undefined
    readonly maxStale?: Duration.Input | undefined
  } = {}): Layer.Layer<CredentialStorage, AdenConfigError, CredentialStorage | AdenSyncProvider> =>
    Layer.effect(CredentialStorage, make(options))
}

// internal

/** How long a usable copy waits for Aden's answer before it is answered itself. */
const patience = Duration.seconds(5)

/** For how long Aden is not asked again, in ms, after it did not help: while a copy serves, is blocked, or there is none. */
const pause = 30_000

/** How many ids are remembered with a pause. */
const maximumPauses = 1_000

/** What is stored under an id, as it was when it was looked at. */
interface Resting extends StoredRecord {
  readonly id: string
}

const make = Effect.fnUntraced(function*(options: {
  readonly cacheTtl?: Duration.Input | undefined
  readonly preferLocal?: boolean | undefined
  readonly maxStale?: Duration.Input | undefined
}) {
  const original = yield* CredentialStorage
  const local = checkedStorage(original)
  const provider = yield* AdenSyncProvider
  const cacheTtl = Duration.toMillis(yield* durationSetting("cacheTtl", options.cacheTtl ?? "5 minutes"))
  const maxStale = Duration.toMillis(yield* durationSetting("maxStale", options.maxStale ?? defaultMaxStale))
  const preferLocal = options.preferLocal ?? true
  const questions = new SingleFlight<string, Option.Option<Credential>, FetchFailure | StorageFailure>()
  const listings = new SingleFlight<
    "list",
    { readonly accounts: ReadonlyArray<ProviderAccount> },
    AdenRequestFailure
  >()
  yield* Effect.addFinalizer(() => Effect.andThen(questions.shutdown(0), listings.shutdown(0)))

  const pauses = new Map<string, { readonly since: number; readonly isMissing: boolean }>()
  const pauseFor = (id: string, now: number, isMissing: boolean): void => {
    if (pauses.size >= maximumPauses) pauses.clear()
    pauses.set(id, { since: now, isMissing })
  }
  const pauseOf = (id: string, now: number) => {
    const paused = pauses.get(id)
    return paused !== undefined && isPausedSince(paused.since, now) ? paused : undefined
  }

  const load = Effect.fn("AdenCachedStorage.load")(function*(id: string) {
    if (!(yield* MayAskAden)) return yield* local.load(id)
    const resting: Resting = { id, ...(yield* loadRecord(local, id)) }
    const { state, stored } = resting
    if (Option.exists(stored, (credential) => !provider.canHandle(credential))) return stored
    const now = yield* Clock.currentTimeMillis
    if (state.blockedSince !== undefined) return yield* recheck(resting, now)
    const offset = yield* provider.clockOffset
    if (Option.isNone(stored) || expiryOf(stored.value, offset) <= now) return yield* loadFromAden(resting, now)
    if (preferLocal && isConfirmed(stored.value, state, now)) return stored
    // where it is not known when Aden confirmed it, it counts as confirmed until it is asked for
    const confirmedAt = confirmationOf(state, stored.value, now) ?? now
    const isTooOld = now >= unconfirmedUntil(state, { confirmedAt, maxStale })
    return yield* isTooOld ? loadFromAden(resting, now) : confirm(resting, now)
  })

  /** Whether Aden confirmed the entry within `cacheTtl`. A time ahead of the clock tells nothing. */
  const isConfirmed = (credential: Credential, state: CredentialState, now: number): boolean => {
    const confirmed = state.lastConfirmed ?? credential.lastRefreshed
    if (confirmed === undefined) return false
    const age = now - DateTime.toEpochMillis(confirmed)
    return age >= 0 && age < cacheTtl
  }

  /** Nothing stored may be answered: Aden has to. */
  const loadFromAden = Effect.fnUntraced(function*(
    resting: Resting,
    now: number
  ): Effect.fn.Return<Option.Option<Credential>, StorageFailure> {
    const { id, state, stored } = resting
    if (Option.isNone(stored) && pauseOf(id, now)?.isMissing === true) return Option.none()
    const left = coolDownLeft(state, now)
    if (left > 0) return yield* inLoad(id, new RateLimited({ id, retryAfter: Duration.millis(left) }))
    return yield* Effect.catch(questions.run(id, ask(resting)), (error) => inLoad(id, error))
  })

  /** What is stored may be answered, should Aden have no word on it. */
  const confirm = Effect.fnUntraced(function*(
    resting: Resting,
    now: number
  ): Effect.fn.Return<Option.Option<Credential>, StorageFailure> {
    const { id, state, stored } = resting
    if (pauseOf(id, now) !== undefined || coolDownLeft(state, now) > 0) return stored
    return yield* questions.run(id, ask(resting)).pipe(
      Effect.timeoutOrElse({
        duration: patience,
        orElse: () => Effect.fail(new AdenUnavailable({ id, reason: new AdenTimeout({ after: patience }) }))
      }),
      Effect.catchIf(saysNothing, (error) =>
        Effect.gen(function*() {
          pauseFor(id, yield* Clock.currentTimeMillis, false)
          yield* Effect.logWarning("Answering a stored credential that Aden did not confirm").pipe(
            Effect.annotateLogs({ credential: cleanText(id), error: error._tag, reason: error.message })
          )
          return stored
        })),
      Effect.catch((error) => inLoad(id, error))
    )
  })

  /** A blocked credential is not answered, and checked now and then; what the check cannot find out leaves it blocked. */
  const recheck = Effect.fnUntraced(function*(
    resting: Resting,
    now: number
  ): Effect.fn.Return<Option.Option<Credential>, StorageFailure> {
    const { id, state } = resting
    const blocked = new ReauthRequired({ id, reauthorizationUrl: state.reauthorizationUrl })
    const since = state.blockedSince === undefined ? -Infinity : DateTime.toEpochMillis(state.blockedSince)
    const isPaused = pauseOf(id, now) !== undefined || isPausedSince(since, now)
    if (isPaused || coolDownLeft(state, now) > 0) return yield* inLoad(id, blocked)
    pauseFor(id, now, false)
    return yield* questions.run(id, ask(resting)).pipe(
      Effect.tap(() => Effect.sync(() => pauses.delete(id))),
      Effect.catch((error) => inLoad(id, saysNothing(error) ? blocked : error))
    )
  })

  /** One question to Aden, and what its answer changes here. */
  const ask = (resting: Resting): Effect.Effect<Option.Option<Credential>, FetchFailure | StorageFailure> =>
    Effect.gen(function*() {
      const { id, state } = resting
      if (state.blockedSince !== undefined) {
        const validation = yield* provider.validate({ id })
        if (validation.requiresReauthorization) {
          const reauthorizationUrl = validation.reauthorizationUrl ?? state.reauthorizationUrl
          return yield* new ReauthRequired({ id, reauthorizationUrl, detail: validation.reason })
        }
      }
      const answer = yield* provider.fetch(id)
      return yield* Option.isSome(answer) ? accept(resting, answer.value) : gone(resting)
    }).pipe(
      Effect.catchTag("IntegrationNotFound", () => gone(resting)),
      Effect.tapError((error) => note(resting, error))
    )

  const accept = Effect.fnUntraced(function*(
    { id, state, stored }: Resting,
    answer: Credential
  ): Effect.fn.Return<Option.Option<Credential>, RefreshFailed | StorageFailure> {
    const offset = yield* provider.clockOffset
    const now = yield* DateTime.now
    if (expiryOf(answer, offset) <= DateTime.toEpochMillis(now)) {
      return yield* new RefreshFailed({ id, detail: "it answered a token that has expired already" })
    }
    const credential = Option.match(stored, { onNone: () => answer, onSome: (held) => held.renewedBy(answer) })
    const confirmed = new CredentialState({ generation: state.generation, lastConfirmed: now })
    return yield* local.save(credential, { expectedGeneration: state.generation, state: confirmed }).pipe(
      Effect.as(Option.some(credential)),
      // who saved meanwhile, or deleted, has the later word
      Effect.catchTag("GenerationConflict", () => local.load(id)),
      Effect.catchTag("CredentialStorageError", (error) =>
        Effect.as(
          Effect.logWarning("Credential storage fails; what Aden answered is not kept").pipe(
            Effect.annotateLogs({ reason: error.message })
          ),
          Option.some(credential)
        ))
    )
  })

  /** Aden does not have the integration. Only when its list lacks it too does the entry go. */
  const gone = Effect.fnUntraced(function*(
    { id, state, stored }: Resting
  ): Effect.fn.Return<Option.Option<Credential>, FetchFailure | StorageFailure> {
    if (Option.isSome(stored) || state.blockedSince !== undefined) {
      const { accounts } = yield* listings.run("list", provider.list)
      if (accounts.some((account) => account.id === id)) {
        const detail = "Aden lists the integration and does not have it"
        return yield* new AdenUnavailable({ id, reason: new AdenProtocolError({ detail, isTransient: false }) })
      }
      // who saved meanwhile has the later word
      if (!(yield* local.delete(id, { expectedGeneration: state.generation }))) {
        const saved = yield* local.load(id)
        if (Option.isSome(saved)) return saved
      }
    }
    pauseFor(id, yield* Clock.currentTimeMillis, true)
    return Option.none()
  })

  /** Remembers beside the entry what Aden said of it, unless somebody saved meanwhile. A disk that fails is no news here. */
  const note = Effect.fnUntraced(
    function*({ id, state: asked, stored }: Resting, error: FetchFailure | StorageFailure) {
      if (error._tag === "CredentialStorageError" || error._tag === "CredentialDecryptionFailed") return
      const state = yield* local.loadState(id)
      if (state.generation !== asked.generation) return
      const now = yield* DateTime.now
      const save = (patch: Partial<{ [K in keyof CredentialState]: CredentialState[K] }>) =>
        local.saveState(id, new CredentialState({ ...state, ...patch, lastError: error._tag }))
      switch (error._tag) {
        case "ReauthRequired":
          return yield* save({
            blockedSince: state.blockedSince ?? now,
            reauthorizationUrl: error.reauthorizationUrl ?? state.reauthorizationUrl
          })
        case "RateLimited":
          return yield* save({ coolDownUntil: DateTime.addDuration(now, error.retryAfter) })
        default: {
          const isRefusal = error._tag === "AdenUnauthorized" || error._tag === "AdenForbidden"
          const refusedSince = isRefusal ? state.refusedSince ?? now : state.refusedSince
          const isNews = state.lastError !== error._tag || state.refusedSince !== refusedSince
          // of what is not there, nothing is remembered but that Aden must not be asked
          if (isNews && Option.isSome(stored)) yield* save({ refusedSince })
        }
      }
    },
    (effect) => Effect.ignore(effect)
  )

  return decorate(original, { load })
})

/** Whether a pause that began then still holds. One that begins ahead of the clock was noted by a wrong one. */
const isPausedSince = (since: number, now: number): boolean => since <= now && now < since + pause

/** Whether an error leaves open how the connection stands: what is known of it goes on to hold. */
const saysNothing = (
  error: FetchFailure | StorageFailure
): error is Exclude<FetchFailure, ReauthRequired> =>
  error._tag !== "ReauthRequired" && error._tag !== "CredentialStorageError" &&
  error._tag !== "CredentialDecryptionFailed"

const inLoad = (id: string, error: FetchFailure | StorageFailure): Effect.Effect<never, StorageFailure> =>
  Effect.fail(
    error._tag === "CredentialStorageError" || error._tag === "CredentialDecryptionFailed"
      ? error
      : new CredentialStorageError({ id, operation: "load", reason: error })
  )
