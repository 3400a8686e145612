/**
 * A read-through cache: a storage that asks Aden for credentials that are missing, or that Aden has not confirmed for a while.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { AdenTimeout, AdenUnavailable, RateLimited, ReauthRequired, RefreshFailed } from "../errors/AdenError.ts"
import type { AdenRequestFailure, FetchFailure } from "../errors/AdenError.ts"
import type { AdenConfigError } from "../errors/ConfigError.ts"
import { CredentialStorageError } from "../errors/StorageError.ts"
import type { StorageFailure } from "../errors/StorageError.ts"
import type { Credential } from "../model/Credential.ts"
import { CredentialState, stateAfterSave, tombstoneOf } from "../model/CredentialState.ts"
import { confirmationOf, coolDownLeft, defaultMaxStale, localExpiry, unconfirmedUntil } from "../model/freshness.ts"
import { durationSetting } from "../model/settings.ts"
import { AdenSyncProvider } from "../providers/aden/AdenSyncProvider.ts"
import { contradictionOf } from "../providers/CredentialProvider.ts"
import type { ProviderList } from "../providers/CredentialProvider.ts"
import { CredentialStorage } from "../storage/CredentialStorage.ts"
import type { StoredEntry } from "../storage/CredentialStorage.ts"
import { decorate, RemoteLoadAllowed } from "../storage/decorate.ts"
import { checkedProvider, checkedStorage } from "../store/checkedAnswers.ts"
import { logWarning } from "../util/logging.ts"
import { cleanText } from "../util/sanitize.ts"
import { SingleFlight } from "../util/SingleFlight.ts"

/**
 * A {@link CredentialStorage} that caches Aden's answers in another storage. `load` and `read` return the stored credential; they ask
 * Aden (`GET`) first when the entry is missing, or when Aden confirmed it longer ago than `cacheTtl`, and save the answer. While Aden
 * cannot answer, an unexpired copy is returned for up to `maxStale`. All other methods are those of the other storage.
 *
 * The age of an entry is part of its stored state, and so outlives a restart. Aden is never asked for credentials that the provider
 * did not write. The rules are those of docs/semantics.md.
 *
 * @since 0.1.0
 * @category storages
 */
export class AdenCachedStorage {
  /**
   * A cache over the `CredentialStorage` that it is provided with. Provide it before the provider, as in the example, so that store
   * and cache share one provider.
   *
   * - `cacheTtl`: how long an entry is returned without confirmation by Aden; 5 minutes by default.
   * - `preferLocal`: `true` by default. With `false`, every `load` and `read` asks Aden first, and the stored copy is only a fallback while
   *   Aden cannot answer.
   * - `maxStale`: how long an unexpired copy is returned after Aden last confirmed it; 24 hours by default. After a 401 or 403 it is
   *   1 hour at most.
   *
   * When no stored copy may be returned, both fail with a `CredentialStorageError` whose `reason` is Aden's error. The layer
   * fails with `AdenConfigError` when `cacheTtl` or `maxStale` is not a finite time above zero.
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

/** How long Aden's confirmation is waited for before a usable copy is returned. */
const confirmTimeout = Duration.seconds(5)

/** Back-off in ms: how long Aden is not asked again after it did not answer, or said that the credential is blocked or missing. */
const retryInterval = 30_000

/** The stored entry of an id, as it was read. */
interface CachedEntry extends StoredEntry {
  readonly id: string
}

const make = Effect.fnUntraced(function*(options: {
  readonly cacheTtl?: Duration.Input | undefined
  readonly preferLocal?: boolean | undefined
  readonly maxStale?: Duration.Input | undefined
}) {
  const original = yield* CredentialStorage
  const local = checkedStorage(original)
  const provider = checkedProvider(yield* AdenSyncProvider)
  const cacheTtl = Duration.toMillis(yield* durationSetting("cacheTtl", options.cacheTtl ?? "5 minutes"))
  const maxStale = Duration.toMillis(yield* durationSetting("maxStale", options.maxStale ?? defaultMaxStale))
  const preferLocal = options.preferLocal ?? true
  const fetches = new SingleFlight<string, StoredEntry, FetchFailure | StorageFailure>()
  const listings = new SingleFlight<"list", ProviderList, AdenRequestFailure>()
  yield* Effect.addFinalizer(() => Effect.andThen(fetches.shutdown(0), listings.shutdown(0)))

  /** The back-offs that have not ended, in the order in which they began. */
  const backoffs = new Map<string, { readonly since: number; readonly isMissing: boolean }>()
  const backOff = (id: string, now: number, isMissing: boolean): void => {
    backoffs.delete(id)
    backoffs.set(id, { since: now, isMissing })
    for (const [oldest, { since }] of backoffs) {
      if (isWithinBackoff(since, now)) break
      backoffs.delete(oldest)
    }
  }
  const activeBackoff = (id: string, now: number) => {
    const backoff = backoffs.get(id)
    return backoff !== undefined && isWithinBackoff(backoff.since, now) ? backoff : undefined
  }

  const readThrough = Effect.fnUntraced(function*(id: string): Effect.fn.Return<StoredEntry, StorageFailure> {
    const entry: CachedEntry = { id, ...(yield* local.read(id)) }
    const { credential: stored, state } = entry
    if (Option.exists(stored, (credential) => !provider.canHandle(credential))) return entry
    const now = yield* Clock.currentTimeMillis
    if (state.blockedSince !== undefined) return yield* recheck(entry, now)
    const offset = yield* provider.clockOffset
    if (Option.isNone(stored) || localExpiry(stored.value, offset) <= now) return yield* loadFromAden(entry, now)
    if (preferLocal && isConfirmed(stored.value, state, now)) return entry
    // without a known time of confirmation, it counts as confirmed now
    const confirmedAt = confirmationOf(state, stored.value, now) ?? now
    const isTooOld = now >= unconfirmedUntil(state, { confirmedAt, maxStale })
    return yield* isTooOld ? loadFromAden(entry, now) : confirm(entry, now)
  })

  /** Whether Aden confirmed the entry within `cacheTtl`. A time in the future does not count. */
  const isConfirmed = (credential: Credential, state: CredentialState, now: number): boolean => {
    const confirmed = state.lastConfirmed ?? credential.lastRefreshed
    if (confirmed === undefined) return false
    const age = now - DateTime.toEpochMillis(confirmed)
    return age >= 0 && age < cacheTtl
  }

  /** No stored copy may be returned: Aden has to answer. */
  const loadFromAden = Effect.fnUntraced(function*(
    entry: CachedEntry,
    now: number
  ): Effect.fn.Return<StoredEntry, StorageFailure> {
    const { credential: stored, id, state } = entry
    if (Option.isNone(stored) && activeBackoff(id, now)?.isMissing === true) return entry
    const left = coolDownLeft(state, now)
    if (left > 0) return yield* failLoad(id, new RateLimited({ id, retryAfter: Duration.millis(left) }))
    return yield* Effect.catch(fetches.run(id, ask(entry)), (error) => failLoad(id, error))
  })

  /** Asks Aden for confirmation; the stored copy is returned when Aden cannot give it. */
  const confirm = Effect.fnUntraced(function*(
    entry: CachedEntry,
    now: number
  ): Effect.fn.Return<StoredEntry, StorageFailure> {
    const { id, state } = entry
    if (activeBackoff(id, now) !== undefined || coolDownLeft(state, now) > 0) return entry
    return yield* fetches.run(id, ask(entry)).pipe(
      Effect.timeoutOrElse({
        duration: confirmTimeout,
        orElse: () => Effect.fail(new AdenUnavailable({ id, reason: new AdenTimeout({ after: confirmTimeout }) }))
      }),
      Effect.catchIf(isInconclusive, (error) =>
        Effect.gen(function*() {
          backOff(id, yield* Clock.currentTimeMillis, false)
          yield* logWarning("Serving a stored credential that Aden did not confirm").pipe(
            Effect.annotateLogs({ credential: cleanText(id), error: error._tag, reason: error.message })
          )
          return entry
        })),
      Effect.catch((error) => failLoad(id, error))
    )
  })

  /** A blocked credential is not returned, but checked periodically. It stays blocked when the check is inconclusive. */
  const recheck = Effect.fnUntraced(function*(
    entry: CachedEntry,
    now: number
  ): Effect.fn.Return<StoredEntry, StorageFailure> {
    const { id, state } = entry
    const blocked = new ReauthRequired({ id, reauthorizationUrl: state.reauthorizationUrl })
    const since = state.blockedSince === undefined ? -Infinity : DateTime.toEpochMillis(state.blockedSince)
    const isBackingOff = activeBackoff(id, now) !== undefined || isWithinBackoff(since, now)
    if (isBackingOff || coolDownLeft(state, now) > 0) return yield* failLoad(id, blocked)
    backOff(id, now, false)
    return yield* fetches.run(id, ask(entry)).pipe(
      Effect.tap(() => Effect.sync(() => backoffs.delete(id))),
      Effect.catch((error) => failLoad(id, isInconclusive(error) ? blocked : error))
    )
  })

  /** Asks Aden once, and applies the answer to the storage. */
  const ask = (entry: CachedEntry): Effect.Effect<StoredEntry, FetchFailure | StorageFailure> =>
    Effect.gen(function*() {
      const { id, state } = entry
      if (state.blockedSince !== undefined) {
        const validation = yield* provider.validate({ id })
        if (validation.requiresReauthorization) {
          const reauthorizationUrl = validation.reauthorizationUrl ?? state.reauthorizationUrl
          return yield* new ReauthRequired({ id, reauthorizationUrl, detail: validation.reason })
        }
      }
      const answer = yield* provider.fetch(id)
      return yield* Option.isSome(answer) ? accept(entry, answer.value) : confirmRemoval(entry)
    }).pipe(
      Effect.catchTag("IntegrationNotFound", () => confirmRemoval(entry)),
      Effect.tapError((error) => recordFailure(entry, error))
    )

  const accept = Effect.fnUntraced(function*(
    { credential: stored, id, state }: CachedEntry,
    answer: Credential
  ): Effect.fn.Return<StoredEntry, RefreshFailed | StorageFailure> {
    const offset = yield* provider.clockOffset
    const now = yield* DateTime.now
    if (localExpiry(answer, offset) <= DateTime.toEpochMillis(now)) {
      return yield* new RefreshFailed({ id, detail: "it answered with a token that has already expired" })
    }
    const credential = Option.match(stored, { onNone: () => answer, onSome: (held) => held.renewedBy(answer) })
    const confirmed = new CredentialState({ generation: state.generation, lastConfirmed: now })
    return yield* local.save(credential, { expectedGeneration: state.generation, state: confirmed }).pipe(
      Effect.as({ credential: Option.some(credential), state: stateAfterSave(credential, state, confirmed) }),
      // another writer has saved or deleted the entry since: its version wins
      Effect.catchTag("GenerationConflict", () => local.read(id)),
      Effect.catchTag("CredentialStorageError", (error) =>
        Effect.as(
          logWarning("Credential storage fails; the answer from Aden is not stored").pipe(
            Effect.annotateLogs({ reason: error.message })
          ),
          { credential: Option.some(credential), state }
        ))
    )
  })

  /** Aden does not have the integration. The entry is removed only when Aden's list does not have it either. */
  const confirmRemoval = Effect.fnUntraced(function*(
    { credential: stored, id, state }: CachedEntry
  ): Effect.fn.Return<StoredEntry, FetchFailure | StorageFailure> {
    let after = state
    if (Option.isSome(stored) || state.blockedSince !== undefined) {
      const { accounts, isIncomplete = false } = yield* listings.run("list", provider.list)
      const isListed = accounts.some((account) => account.id === id)
      const contradiction = contradictionOf(id, { isListed, isIncomplete })
      if (contradiction !== undefined) return yield* contradiction
      if (yield* local.delete(id, { expectedGeneration: state.generation })) after = tombstoneOf(state)
      else {
        const left = yield* local.read(id)
        // another writer has saved the entry since: its version wins
        if (Option.isSome(left.credential)) return left
        after = left.state
      }
    }
    backOff(id, yield* Clock.currentTimeMillis, true)
    return { credential: Option.none(), state: after }
  })

  /** Records Aden's failure in the entry's state, unless another writer has saved since. Ignores failures of the storage. */
  const recordFailure = Effect.fnUntraced(
    function*({ credential: stored, id, state: asked }: CachedEntry, error: FetchFailure | StorageFailure) {
      if (error._tag === "CredentialStorageError" || error._tag === "CredentialDecryptionFailed") return
      const state = yield* local.loadState(id)
      if (state.generation !== asked.generation) return
      const now = yield* DateTime.now
      const save = (patch: Partial<{ [K in keyof CredentialState]: CredentialState[K] }>) =>
        Effect.asVoid(
          local.saveState(id, new CredentialState({ ...state, ...patch, lastError: error._tag }), {
            expectedGeneration: state.generation
          })
        )
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
          const hasChanged = state.lastError !== error._tag || state.refusedSince !== refusedSince
          // for a missing entry only a block or a cool-down is recorded
          if (hasChanged && Option.isSome(stored)) yield* save({ refusedSince })
        }
      }
    },
    (effect) => Effect.ignore(effect)
  )

  return decorate(original, {
    read: Effect.fn("AdenCachedStorage.read")(function*(id) {
      const { credential, state } = yield* (yield* RemoteLoadAllowed) ? readThrough(id) : local.read(id)
      return { credential, state }
    }),
    load: Effect.fn("AdenCachedStorage.load")(function*(id) {
      return (yield* RemoteLoadAllowed) ? (yield* readThrough(id)).credential : yield* local.load(id)
    })
  })
})

/** Whether a back-off that began at `since` is still active. One that begins in the future was written by a wrong clock. */
const isWithinBackoff = (since: number, now: number): boolean => since <= now && now < since + retryInterval

/** Whether an error tells nothing about the connection, so that what is known of it stays valid. */
const isInconclusive = (
  error: FetchFailure | StorageFailure
): error is Exclude<FetchFailure, ReauthRequired> =>
  error._tag !== "ReauthRequired" && error._tag !== "CredentialStorageError" &&
  error._tag !== "CredentialDecryptionFailed"

const failLoad = (id: string, error: FetchFailure | StorageFailure): Effect.Effect<never, StorageFailure> =>
  Effect.fail(
    error._tag === "CredentialStorageError" || error._tag === "CredentialDecryptionFailed"
      ? error
      : new CredentialStorageError({ id, operation: "load", reason: error })
  )
