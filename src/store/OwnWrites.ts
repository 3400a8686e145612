import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import type { CredentialStorage, StorageChange } from "../storage/CredentialStorage.ts"
import { decorate } from "../storage/decorate.ts"

type Storage = CredentialStorage["Service"]

/** By id, the generation that a write expects, if it expects one. */
type Expected = ReadonlyMap<string, number | undefined>

const next = (generation: number | undefined): number | undefined =>
  generation === undefined ? undefined : generation + 1

/**
 * Tells the echoes of the store's own writes from what others change: an echo has the generation that the write reached. It may come
 * before the write returns, so the generation that a compare-and-swap will reach is noted when it begins.
 */
export class OwnWrites {
  /** By id, the generation of the latest own write; `undefined` while a write is under way of which it is not known. */
  readonly #reached = new Map<string, number | undefined>()
  /** The storage, through which the own writes are made. */
  readonly storage: Storage
  /** What others wrote. */
  readonly foreign: Stream.Stream<StorageChange>

  constructor(storage: Storage) {
    this.storage = decorate(storage, {
      save: (credential, options) =>
        this.#writing(
          new Map([[credential.id, options?.expectedGeneration]]),
          storage.save(credential, options),
          (generation) => generation
        ),
      saveMany: (credentials, options) => {
        const expected: Expected = new Map(
          credentials.map(({ id }) => [id, options?.expectedGenerations?.get(id)])
        )
        return this.#writing(
          expected,
          storage.saveMany(credentials, options),
          (failures, id) => failures.has(id) ? undefined : next(expected.get(id))
        )
      },
      delete: (id, options) =>
        this.#writing(
          new Map([[id, options?.expectedGeneration]]),
          storage.delete(id, options),
          (isDeleted) => isDeleted ? next(options?.expectedGeneration) : undefined
        )
    })
    this.foreign = Stream.filter(storage.changes, (change) => !this.#isEcho(change))
  }

  #writing<A, E>(
    expected: Expected,
    write: Effect.Effect<A, E>,
    reached: (answer: A, id: string) => number | undefined
  ): Effect.Effect<A, E> {
    return Effect.suspend(() => {
      for (const [id, generation] of expected) this.#reached.set(id, next(generation))
      return Effect.onExit(write, (exit) =>
        Effect.sync(() => {
          for (const id of expected.keys()) {
            const generation = Exit.isSuccess(exit) ? reached(exit.value, id) : undefined
            if (generation === undefined) this.#reached.delete(id)
            else this.#reached.set(id, generation)
          }
        }))
    })
  }

  #isEcho({ generation, id }: StorageChange): boolean {
    if (!this.#reached.has(id)) return false
    const reached = this.#reached.get(id)
    return reached === undefined || reached === generation
  }
}
