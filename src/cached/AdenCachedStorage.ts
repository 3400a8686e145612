/**
 * A read-through cache: a storage that asks Aden for credentials that are missing, or that Aden has not confirmed for a while.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { AdenConfigError } from "../errors/ConfigError.ts"
import type { CredentialFailure } from "../errors/CredentialError.ts"
import { CredentialStorageError } from "../errors/StorageError.ts"
import type { StorageFailure } from "../errors/StorageError.ts"
import { confirmationOf, defaultMaxStale, isWithin } from "../model/freshness.ts"
import { durationSetting } from "../model/settings.ts"
import { AdenSyncProvider } from "../providers/aden/AdenSyncProvider.ts"
import { CredentialStorage } from "../storage/CredentialStorage.ts"
import type { StoredEntry } from "../storage/CredentialStorage.ts"
import { decorate, RemoteLoadAllowed } from "../storage/decorate.ts"
import type { Cell } from "../store/Cell.ts"
import type { Entry } from "../store/core/Entry.ts"
import { makeEngine } from "../store/Engine.ts"
import { issuedStorage } from "../store/issuedStorage.ts"
import { AwaitRefresh, recheckBlocked, rememberMissing, renewNever, withoutMemory } from "../store/RefreshPolicy.ts"

/**
 * A {@link CredentialStorage} that caches Aden's answers in another storage. `load` and `read` return the stored credential; they ask
 * Aden first when the entry is missing, when Aden confirmed it longer ago than `cacheTtl` (`GET`), or when it has expired
 * (`POST …/refresh`), and save the answer. While Aden cannot answer, an unexpired copy is returned for up to `maxStale`. All other
 * methods are those of the other storage.
 *
 * The age of an entry is part of its stored state, and so outlives a restart. Aden is never asked for credentials that the provider
 * did not write. The rules are those of docs/semantics.md, with the differences that docs/storages.md names.
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

/** How long Aden is not asked again after it did not answer, or does not have the credential. */
const retryInterval = Duration.seconds(30)

/** How long a read waits where no stored copy may be returned. */
const deadline = Duration.seconds(30)

const make = Effect.fnUntraced(function*(options: {
  readonly cacheTtl?: Duration.Input | undefined
  readonly preferLocal?: boolean | undefined
  readonly maxStale?: Duration.Input | undefined
}) {
  const provider = yield* AdenSyncProvider
  const original = issuedStorage(yield* CredentialStorage, { all: [provider] })
  const cacheTtl = yield* durationSetting("cacheTtl", options.cacheTtl ?? "5 minutes")
  const maxStale = yield* durationSetting("maxStale", options.maxStale ?? defaultMaxStale)
  const preferLocal = options.preferLocal ?? true
  const { commit, entries, refresher } = yield* makeEngine({
    // a caller may hold the lock of the entry that it reads: of two processes that ask at once, compare-and-swap lets one win
    storage: decorate(original, { withLock: (_, effect) => effect }),
    providers: [provider],
    policies: {
      renew: renewNever,
      confirm: withoutMemory(Schedule.spaced(cacheTtl)),
      backOff: withoutMemory(Schedule.spaced(retryInterval)),
      recheck: recheckBlocked,
      missing: rememberMissing
    },
    timeToLive: Duration.toMillis(cacheTtl),
    maxStale: Duration.toMillis(maxStale),
    deadline
  })
  const { storage } = entries
  const missing = new MissingIds()

  const readThrough = Effect.fnUntraced(function*(id: string): Effect.fn.Return<StoredEntry, StorageFailure> {
    const cell = entries.cell(id)
    yield* entries.load(cell)
    const now = yield* Clock.currentTimeMillis
    const { held, isBlocked, isProgramOwned } = cell.entry
    const isMissing = held === undefined && !isBlocked
    if (isProgramOwned || (isMissing && missing.has(id, now))) return yield* storage.read(id)
    yield* entries.change(cell, { _tag: "ProviderFound", providerId: provider.id })
    return yield* (preferLocal && isAgeKnown(cell.entry, now) ? refresher.read(cell) : refresher.readConfirmed(cell))
      .pipe(
        Effect.provideService(AwaitRefresh, true),
        refresher.withinDeadline(id),
        Effect.matchEffect({
          onSuccess: () => answered(id),
          onFailure: (error) => error._tag === "CredentialNotFound" ? removed(cell) : failLoad(id, error)
        })
      )
  })

  /**
   * Credential and state of one moment: what another writer has saved, or deleted, while Aden was asked is the answer, and not what was
   * asked about.
   */
  const answered = (id: string): Effect.Effect<StoredEntry, StorageFailure> => {
    const entry = entries.get(id)?.entry
    return entry?.credential === undefined
      ? storage.read(id)
      : Effect.succeed({ credential: Option.some(entry.credential), state: entry.state })
  }

  /** Aden does not have it: what another writer has saved in that time is the answer all the same. */
  const removed = ({ id }: Cell): Effect.Effect<StoredEntry, StorageFailure> =>
    Effect.andThen(
      Effect.map(Clock.currentTimeMillis, (now) => missing.add(id, now)),
      storage.read(id)
    )

  return decorate(original, {
    read: Effect.fn("AdenCachedStorage.read")(function*(id) {
      return yield* (yield* RemoteLoadAllowed) ? readThrough(id) : storage.read(id)
    }),
    load: Effect.fn("AdenCachedStorage.load")(function*(id) {
      return (yield* RemoteLoadAllowed) ? (yield* readThrough(id)).credential : yield* storage.load(id)
    }),
    save: (credential, options) => commit.through([credential.id], original.save(credential, options)),
    saveMany: (credentials, options) =>
      commit.through(credentials.map(({ id }) => id), original.saveMany(credentials, options)),
    delete: (id, options) => commit.through([id], original.delete(id, options))
  })
})

/** Whether it is known when Aden last confirmed what is held. */
const isAgeKnown = ({ held, state }: Entry, now: number): boolean =>
  held === undefined || confirmationOf(state, held.credential, now) !== undefined

/** The ids that Aden did not have, for as long as it is not asked again. */
class MissingIds {
  /** Since when, in ms, the oldest first. */
  readonly #since = new Map<string, number>()

  has(id: string, now: number): boolean {
    const since = this.#since.get(id)
    return since !== undefined && isRecent(since, now)
  }

  add(id: string, now: number): void {
    this.#since.delete(id)
    this.#since.set(id, now)
    for (const [oldest, since] of this.#since) {
      if (isRecent(since, now)) break
      this.#since.delete(oldest)
    }
  }
}

const isRecent = (since: number, now: number): boolean => isWithin(Duration.toMillis(retryInterval), since, now)

const failLoad = (
  id: string,
  error: Exclude<CredentialFailure, { readonly _tag: "CredentialNotFound" }>
): Effect.Effect<never, StorageFailure> => {
  switch (error._tag) {
    case "CredentialStorageError":
    case "CredentialDecryptionFailed":
      return Effect.fail(error)
    case "AmbiguousCredential":
      return Effect.die(error)
    default:
      return Effect.fail(new CredentialStorageError({ id, operation: "load", reason: error }))
  }
}
