import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { CredentialDecryptionFailed, CredentialStorageError } from "../errors/StorageError.ts"
import type { CredentialStorage } from "../storage/CredentialStorage.ts"
import { StorageDecorator } from "../storage/decorate.ts"

type Storage = CredentialStorage["Service"]

/** Who is told how storage fares with an entry: what it failed with, or that it worked. */
export interface StorageObserver {
  readonly read: (id: string, error: CredentialStorageError | undefined) => void
  readonly written: (id: string, error: CredentialStorageError | undefined) => void
}

/** Whether storage itself failed: not the Aden that it asked, nor the caller. */
const isOfStorage = (error: unknown): error is CredentialStorageError => {
  if (!(error instanceof CredentialStorageError)) return false
  switch (error.reason._tag) {
    case "StorageIoFailed":
    case "StorageInsecure":
    case "StorageRefused":
    case "LockTimeout":
      return true
    default:
      return false
  }
}

/** A storage that does what another does, and tells how it fares. */
export const observed = (storage: Storage, observer: StorageObserver): Storage => new ObservedStorage(storage, observer)

class ObservedStorage extends StorageDecorator {
  readonly #observer: StorageObserver

  constructor(inner: Storage, observer: StorageObserver) {
    super(inner)
    this.#observer = observer
  }

  #reading<A, E>(id: string, operation: Effect.Effect<A, E>) {
    return observing(operation, (error) => this.#observer.read(id, error))
  }

  #written<A, E>(id: string, operation: Effect.Effect<A, E>, proves?: (answer: A) => boolean) {
    return observing(operation, (error) => this.#observer.written(id, error), proves)
  }

  /** What cannot be decrypted was read. */
  override read(id: string) {
    return Effect.tapError(this.#reading(id, this.inner.read(id)), (error) =>
      Effect.sync(() => {
        if (error instanceof CredentialDecryptionFailed) this.#observer.read(id, undefined)
      }))
  }

  override load(id: string) {
    return this.#reading(id, this.inner.load(id))
  }

  override loadState(id: string) {
    return this.#reading(id, this.inner.loadState(id))
  }

  override save(...[credential, options]: Parameters<Storage["save"]>) {
    return this.#written(credential.id, this.inner.save(credential, options))
  }

  override saveMany(...[credentials, options]: Parameters<Storage["saveMany"]>) {
    return observing(this.inner.saveMany(credentials, options), (error) => {
      for (const { id } of credentials) this.#observer.written(id, error)
    }).pipe(Effect.tap((failures) =>
      Effect.sync(() => {
        for (const [id, error] of failures) if (isOfStorage(error)) this.#observer.written(id, error)
      })
    ))
  }

  override saveState(...[id, state, options]: Parameters<Storage["saveState"]>) {
    return this.#written(id, this.inner.saveState(id, state, options))
  }

  /** What was not there was not written either. */
  override delete(...[id, options]: Parameters<Storage["delete"]>) {
    return this.#written(id, this.inner.delete(id, options), (isDeleted) => isDeleted)
  }
}

const observing = <A, E>(
  operation: Effect.Effect<A, E>,
  tell: (error: CredentialStorageError | undefined) => void,
  proves: (answer: A) => boolean = () => true
): Effect.Effect<A, E> =>
  Effect.onExit(operation, (exit) =>
    Effect.sync(() => {
      if (Exit.isSuccess(exit)) {
        if (proves(exit.value)) tell(undefined)
      } else {
        const error = Option.getOrUndefined(Exit.findErrorOption(exit))
        if (isOfStorage(error)) tell(error)
      }
    }))
