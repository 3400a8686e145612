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
 * A {@link CredentialStorage} over several, in order. `load` and `exists` answer from the first that has the credential, and
 * `list` answers the ids of all. Everything else is the first one's, the primary's: it takes what is written and deleted, keeps the
 * state records, and holds the locks.
 *
 * - What is saved in the primary hides what the others have under that id. Deleting it there shows that again; an id that only
 *   another one has is not deleted (`false`).
 * - A storage is asked only when all before it answered that they have none. One that fails ends the search with its error: an
 *   entry that cannot be opened, or a disk that does not answer, may be another account than the next storage would give.
 * - `changes` are those of all, also of entries that are hidden.
 *
 * @since 0.1.0
 * @category storages
 */
export class FallbackStorage {
  /**
   * The storages of these layers; the first is the primary. Each is built for this one alone: a layer that is also provided
   * elsewhere, or named twice, is another storage here.
   *
   * @example
   * ```ts
   * import { EncryptedFileStorage, EnvironmentStorage, FallbackStorage } from "aden-credentials"
   *
   * // what is neither saved nor synced yet comes from the environment, in CI for example
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

/** Built by itself, and with it what it is made of. */
const build = Effect.fnUntraced(function*<E, R>(layer: Layer.Layer<CredentialStorage, E, R>) {
  const context = yield* Layer.buildWithMemoMap(layer, yield* Layer.makeMemoMap, yield* Effect.scope)
  return Context.get(context, CredentialStorage)
})

/** All changes from now on: the streams are listened to at once, which those of `Stream.mergeAll` are only a moment later. */
const together = (all: ReadonlyArray<Storage["changes"]>): Storage["changes"] =>
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
  [first, ...others]: readonly [
    Layer.Layer<CredentialStorage, E, R>,
    ...ReadonlyArray<Layer.Layer<CredentialStorage, E, R>>
  ]
) {
  const primary = yield* build(first)
  const storages: ReadonlyArray<Storage> = [primary, ...(yield* Effect.forEach(others, build))]

  return decorate(primary, {
    load: Effect.fn("FallbackStorage.load")(function*(id) {
      for (const storage of storages) {
        const stored = yield* storage.load(id)
        if (Option.isSome(stored)) return stored
      }
      return Option.none()
    }),
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
    changes: together(storages.map(({ changes }) => changes))
  })
})
