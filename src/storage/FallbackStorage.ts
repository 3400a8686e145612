/**
 * Several storages as one: the first that has a credential answers.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { CredentialStorage } from "./CredentialStorage.ts"
import type { StorageChange } from "./CredentialStorage.ts"
import { decorate } from "./decorate.ts"

/**
 * A {@link CredentialStorage} over several, in order. `read`, `load` and `exists` answer from the first that has the credential,
 * and `list` answers the ids of all. Everything else goes to the first one, the primary: writes, deletions, state records and locks.
 *
 * - A credential in the primary hides those of the others with the same id. Deleting it reveals them again. An id that only another
 *   storage has is not deleted (`false`).
 * - A storage is read only when all before it answered that they have none. A failure ends the search with its error: behind an
 *   entry that cannot be decrypted, or a disk that does not answer, may be another account than the next storage has.
 * - `changes` are those of all storages, also for hidden entries. Only those of the primary have a generation: each storage counts for
 *   itself, and states are the primary's.
 *
 * @since 0.1.0
 * @category storages
 */
export class FallbackStorage {
  /**
   * A storage over those of these layers; the first is the primary. Each layer is built separately: a layer that is also provided
   * elsewhere, or listed twice, is a storage of its own here.
   *
   * @example
   * ```ts
   * import { EncryptedFileStorage, EnvironmentStorage, FallbackStorage } from "aden-credentials"
   *
   * // credentials that are not saved or synced yet come from the environment, in CI for example
   * const Storage = FallbackStorage.layer([EncryptedFileStorage.layerConfig, EnvironmentStorage.layer()])
   * ```
   */
  static readonly layer = <E, R>(
    storages: readonly [
      primary: Layer.Layer<CredentialStorage, E, R>,
      ...others: ReadonlyArray<Layer.Layer<CredentialStorage, E, R>>
    ]
  ): Layer.Layer<CredentialStorage, E, R> => Layer.effect(CredentialStorage, make(storages))
}

// internal

type Storage = CredentialStorage["Service"]

/** Builds a layer without sharing it or its dependencies. */
const build = Effect.fnUntraced(function*<E, R>(layer: Layer.Layer<CredentialStorage, E, R>) {
  const context = yield* Layer.buildWithMemoMap(layer, yield* Layer.makeMemoMap, yield* Effect.scope)
  return Context.get(context, CredentialStorage)
})

/** A change of another storage than the primary, whose generations are those of `read`: each storage counts for itself. */
const withoutGeneration = (change: StorageChange): StorageChange => ({ ...change, generation: undefined })

/** The changes of all storages, subscribed to immediately (`Stream.mergeAll` subscribes a moment later). */
const mergeChanges = (all: ReadonlyArray<Storage["changes"]>): Storage["changes"] =>
  Stream.unwrap(Effect.gen(function*() {
    const queue = yield* Queue.unbounded<StorageChange, Cause.Done>()
    yield* Effect.forEach(
      all,
      (changes) => Stream.runForEach(changes, (change) => Queue.offer(queue, change)),
      { concurrency: "unbounded", discard: true }
    ).pipe(Effect.ensuring(Queue.end(queue)), Effect.forkScoped({ startImmediately: true }))
    return Stream.fromQueue(queue)
  }))

const make = Effect.fnUntraced(function*<E, R>(
  [first, ...rest]: readonly [
    Layer.Layer<CredentialStorage, E, R>,
    ...ReadonlyArray<Layer.Layer<CredentialStorage, E, R>>
  ]
) {
  const primary = yield* build(first)
  const others = yield* Effect.forEach(rest, build)
  const storages: ReadonlyArray<Storage> = [primary, ...others]

  const loadFirst = Effect.fnUntraced(function*(id: string, storages: ReadonlyArray<Storage>) {
    for (const storage of storages) {
      const stored = yield* storage.load(id)
      if (Option.isSome(stored)) return stored
    }
    return Option.none()
  })

  return decorate(primary, {
    // the state is the primary's: it had this state and no credential, so that a save that expects its generation hides no later one
    read: Effect.fn("FallbackStorage.read")(function*(id) {
      const { credential, state } = yield* primary.read(id)
      return { credential: Option.isSome(credential) ? credential : yield* loadFirst(id, others), state }
    }),
    load: Effect.fn("FallbackStorage.load")((id) => loadFirst(id, storages)),
    exists: Effect.fn("FallbackStorage.exists")(function*(id) {
      for (const storage of storages) {
        if (yield* storage.exists(id)) return true
      }
      return false
    }),
    list: Effect.forEach(storages, ({ list }) => list).pipe(
      Effect.map((lists) => Array.from(new Set(lists.flat()))),
      Effect.withSpan("FallbackStorage.list")
    ),
    changes: mergeChanges([primary.changes, ...others.map(({ changes }) => Stream.map(changes, withoutGeneration))])
  })
})
