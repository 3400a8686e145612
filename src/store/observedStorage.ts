import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { CredentialDecryptionFailed, CredentialStorageError } from "../errors/StorageError.ts"
import type { CredentialStorage } from "../storage/CredentialStorage.ts"
import { decorate } from "../storage/decorate.ts"

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
export const observed = (storage: Storage, observer: StorageObserver): Storage => {
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
  const reading = <A, E>(id: string, operation: Effect.Effect<A, E>) =>
    observing(operation, (error) => observer.read(id, error))
  /** What cannot be decrypted was read. */
  const readingEntry = <A, E>(id: string, operation: Effect.Effect<A, E>) =>
    Effect.tapError(reading(id, operation), (error) =>
      Effect.sync(() => {
        if (error instanceof CredentialDecryptionFailed) observer.read(id, undefined)
      }))
  return decorate(storage, {
    read: (id) => readingEntry(id, storage.read(id)),
    load: (id) => reading(id, storage.load(id)),
    loadState: (id) => reading(id, storage.loadState(id)),
    save: (credential, options) =>
      observing(storage.save(credential, options), (error) => observer.written(credential.id, error)),
    saveMany: (credentials, options) =>
      observing(storage.saveMany(credentials, options), (error) => {
        for (const { id } of credentials) observer.written(id, error)
      }).pipe(Effect.tap((failures) =>
        Effect.sync(() => {
          for (const [id, error] of failures) if (isOfStorage(error)) observer.written(id, error)
        })
      )),
    saveState: (id, state, options) =>
      observing(storage.saveState(id, state, options), (error) => observer.written(id, error)),
    // what was not there was not written either
    delete: (id, options) =>
      observing(storage.delete(id, options), (error) => observer.written(id, error), (isDeleted) => isDeleted)
  })
}
