import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import type { CredentialStorage, StorageChange } from "../storage/CredentialStorage.ts"
import { decorate } from "../storage/decorate.ts"

type Storage = CredentialStorage["Service"]

/**
 * Tells apart, in the changes of a storage, what its user wrote itself. Each write is told of once; which of two changes of one
 * entry was the own does not matter, as the other one comes after it.
 */
export class OwnWrites {
  /** How many changes of each entry are still to be told of, or may be. */
  readonly #expected = new Map<string, number>()
  /** The storage, through which the own writes are made. */
  readonly storage: Storage
  /** What others wrote. */
  readonly foreign: Stream.Stream<StorageChange>

  constructor(storage: Storage) {
    this.storage = decorate(storage, {
      save: (credential, options) =>
        this.#expecting([credential.id], storage.save(credential, options), () => [credential.id]),
      saveMany: (credentials, options) =>
        this.#expecting(
          // of one id given twice the last is saved
          Array.from(new Set(credentials.map(({ id }) => id))),
          storage.saveMany(credentials, options),
          (failures, ids) => ids.filter((id) => !failures.has(id))
        ),
      delete: (id, options) => this.#expecting([id], storage.delete(id, options), (isDeleted) => isDeleted ? [id] : [])
    })
    this.foreign = Stream.filter(storage.changes, ({ id }) => !this.#take(id))
  }

  #expecting<A, E>(
    ids: ReadonlyArray<string>,
    write: Effect.Effect<A, E>,
    written: (answer: A, ids: ReadonlyArray<string>) => ReadonlyArray<string>
  ): Effect.Effect<A, E> {
    return Effect.suspend(() => {
      for (const id of ids) this.#expected.set(id, (this.#expected.get(id) ?? 0) + 1)
      return Effect.onExit(write, (exit) =>
        Effect.sync(() => {
          const told = new Set(Exit.isSuccess(exit) ? written(exit.value, ids) : [])
          for (const id of ids) if (!told.has(id)) this.#take(id)
        }))
    })
  }

  /** Whether a change was expected, which it is no more. */
  #take(id: string): boolean {
    const count = this.#expected.get(id)
    if (count === undefined) return false
    if (count === 1) this.#expected.delete(id)
    else this.#expected.set(id, count - 1)
    return true
  }
}
