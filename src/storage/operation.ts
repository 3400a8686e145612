import * as Effect from "effect/Effect"
import {
  CredentialStorageError,
  InvalidCredentialId,
  LockTimeout,
  StorageInsecure,
  StorageIoFailed,
  StorageRefused
} from "../errors/CredentialError.ts"

/** What goes wrong inside a storage, before it is known in which operation. */
export type StorageFault = StorageIoFailed | StorageInsecure | InvalidCredentialId | StorageRefused | LockTimeout

const isStorageFault = <E>(error: E): error is Extract<E, StorageFault> =>
  error instanceof StorageIoFailed ||
  error instanceof StorageInsecure ||
  error instanceof InvalidCredentialId ||
  error instanceof StorageRefused ||
  error instanceof LockTimeout

/** Turns every fault into a `CredentialStorageError` of this operation; other errors pass. */
export const inOperation = (operation: string, id?: string) =>
<A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, Exclude<E, Extract<E, StorageFault>> | CredentialStorageError, R> =>
  Effect.catchIf(
    effect,
    isStorageFault<E>,
    (reason) => Effect.fail(new CredentialStorageError({ id, operation, reason })),
    Effect.fail
  )

/** Refuses what cannot be an id in any storage: the empty text, and one with a lone surrogate (two such would look alike in UTF-8). */
export const checkCredentialId = (id: string): Effect.Effect<void, InvalidCredentialId> => {
  if (id === "") return Effect.fail(new InvalidCredentialId({ detail: "an id cannot be empty" }))
  if (!id.isWellFormed()) {
    return Effect.fail(new InvalidCredentialId({ detail: "an id cannot hold half a surrogate pair" }))
  }
  return Effect.void
}
