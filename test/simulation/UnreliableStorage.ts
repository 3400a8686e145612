/**
 * A storage that takes its time, and fails, hangs or dies on demand. A write is two steps: it takes effect, and later it returns;
 * its caller may be interrupted in between. Several stores work on one storage, each through a view of its own.
 */
import { Effect, Latch, PubSub, Stream } from "effect"
import { CredentialStorageError, StorageIoFailed } from "../../src/errors/StorageError.ts"
import type { Credential } from "../../src/model/Credential.ts"
import type { CredentialState } from "../../src/model/CredentialState.ts"
import type { CredentialStorage, StorageChange } from "../../src/storage/CredentialStorage.ts"
import { decorate } from "../../src/storage/decorate.ts"
import { makeKeyedLock } from "../../src/util/KeyedLock.ts"
import type { Health, Wide } from "./Program.ts"

type Storage = CredentialStorage["Service"]

/** What takes effect in the storage, at the moment when it does. */
export interface StorageWatch {
  readonly saved: (credential: Credential) => Effect.Effect<void>
  readonly deleted: (id: string, isDeleted: boolean) => Effect.Effect<void>
  readonly stateSaved: (id: string, state: CredentialState) => Effect.Effect<void>
}

/** The text by which a planted defect is known. */
export const planted = "planted"

export class UnreliableStorage {
  readonly #storage: Storage
  readonly #wide: Wide
  #reads: Health = "works"
  #writes: Health = "works"
  /** How many reads and writes are still to die. */
  readonly dying = { reads: 0, writes: 0 }
  /** How many operations are under way. */
  running = 0
  readonly #answers = Latch.makeUnsafe(true)

  constructor(storage: Storage, wide: Wide) {
    this.#storage = storage
    this.#wide = wide
  }

  get isWorking(): boolean {
    return this.#reads === "works" && this.#writes === "works"
  }

  get canBeRead(): boolean {
    return this.#reads === "works"
  }

  setHealth(reads: Health, writes: Health): void {
    this.#reads = reads
    this.#writes = writes
    // who waits looks again
    this.#answers.openUnsafe()
    if (reads === "hangs" || writes === "hangs") this.#answers.closeUnsafe()
  }

  /** The storage as one store has it. */
  view(watch: StorageWatch, options: { readonly hasOwnLock: boolean }): Effect.Effect<Storage> {
    return Effect.map(PubSub.unbounded<StorageChange>(), (own) => this.#view(watch, options, own))
  }

  #view(watch: StorageWatch, options: { readonly hasOwnLock: boolean }, own: PubSub.PubSub<StorageChange>): Storage {
    const storage = this.#storage
    const { notifies } = this.#wide
    const lock = makeKeyedLock()
    const tell = (change: StorageChange) => notifies ? Effect.void : PubSub.publish(own, change)
    const saved = (credential: Credential, generation: number | undefined) =>
      Effect.andThen(watch.saved(credential), tell({ _tag: "Saved", id: credential.id, generation }))
    return decorate(storage, {
      read: (id) => this.#read("read", storage.read(id)),
      load: (id) => this.#read("load", storage.load(id)),
      loadState: (id) => this.#read("loadState", storage.loadState(id)),
      exists: (id) => this.#read("exists", storage.exists(id)),
      list: this.#read("list", Effect.tap(storage.list, () => pause(this.#wide.listTakes))),
      save: (credential, options) =>
        this.#write(
          "save",
          Effect.tap(storage.save(credential, options), (generation) => saved(credential, generation))
        ),
      saveMany: (credentials, options) =>
        this.#write(
          "saveMany",
          Effect.tap(storage.saveMany(credentials, options), (failures) =>
            Effect.forEach(
              credentials.filter(({ id }) => !failures.has(id)),
              (credential) => saved(credential, next(options?.expectedGenerations?.get(credential.id))),
              { discard: true }
            ))
        ),
      delete: (id, options) =>
        this.#write(
          "delete",
          Effect.tap(storage.delete(id, options), (isDeleted) =>
            Effect.andThen(
              watch.deleted(id, isDeleted),
              isDeleted ? tell({ _tag: "Deleted", id, generation: next(options?.expectedGeneration) }) : Effect.void
            ))
        ),
      saveState: (id, state, options) =>
        this.#write(
          "saveState",
          Effect.tap(
            storage.saveState(id, state, options),
            (isSaved) => isSaved ? watch.stateSaved(id, state) : Effect.void
          )
        ),
      changes: notifies ? storage.changes : Stream.fromPubSub(own),
      withLock: options.hasOwnLock ? (id, effect) => lock(id)(effect) : storage.withLock
    })
  }

  #read<A, E>(operation: string, self: Effect.Effect<A, E>): Effect.Effect<A, E | CredentialStorageError> {
    // what it answers is read half-way: it may have been overtaken when it is there
    const half = pause(this.#wide.readTakes / 2)
    return this.#counted(
      this.#passes("reads", operation).pipe(Effect.andThen(half), Effect.andThen(self), Effect.tap(() => half))
    )
  }

  #write<A, E>(operation: string, self: Effect.Effect<A, E>): Effect.Effect<A, E | CredentialStorageError> {
    const [before, after] = this.#wide.writeTakes
    return this.#counted(
      this.#passes("writes", operation).pipe(
        Effect.andThen(pause(before)),
        Effect.andThen(Effect.uninterruptible(self)),
        Effect.tap(() => pause(after))
      )
    )
  }

  #counted<A, E>(self: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.acquireUseRelease(
      Effect.sync(() => void this.running++),
      () => self,
      () => Effect.sync(() => void this.running--)
    )
  }

  #passes(what: "reads" | "writes", operation: string): Effect.Effect<void, CredentialStorageError> {
    return Effect.suspend(() => {
      if (this.dying[what] > 0) {
        this.dying[what]--
        return Effect.die(new Error(`${planted}: ${operation}`))
      }
      switch (what === "reads" ? this.#reads : this.#writes) {
        case "works":
          return Effect.void
        case "fails":
          return Effect.fail(
            new CredentialStorageError({
              operation,
              reason: new StorageIoFailed({ location: "the disk", detail: "it fails" })
            })
          )
        case "hangs":
          return Effect.andThen(this.#answers.await, this.#passes(what, operation))
      }
    })
  }
}

const pause = (duration: number): Effect.Effect<void> => duration === 0 ? Effect.void : Effect.sleep(duration)

/** The generation that a write reaches which expects this one. */
const next = (expected: number | undefined): number | undefined => expected === undefined ? undefined : expected + 1
