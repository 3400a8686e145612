import * as Effect from "effect/Effect"
import {
  CredentialStorageError,
  InvalidCredentialId,
  LockTimeout,
  StorageInsecure,
  StorageIoFailed,
  StorageRefused
} from "../errors/StorageError.ts"

/** A failure inside a storage, before it is known in which operation. */
export type StorageFault = StorageIoFailed | StorageInsecure | InvalidCredentialId | StorageRefused | LockTimeout

const isStorageFault = <E>(error: E): error is Extract<E, StorageFault> =>
  error instanceof StorageIoFailed ||
  error instanceof StorageInsecure ||
  error instanceof InvalidCredentialId ||
  error instanceof StorageRefused ||
  error instanceof LockTimeout

/** Maps each `StorageFault` to a `CredentialStorageError` of this operation. Other errors pass unchanged. */
export const asStorageError = (operation: string, id?: string) =>
<A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, Exclude<E, Extract<E, StorageFault>> | CredentialStorageError, R> =>
  Effect.catchIf(
    effect,
    isStorageFault<E>,
    (reason) => Effect.fail(new CredentialStorageError({ id, operation, reason })),
    Effect.fail
  )

/** Refuses what no storage takes as an id: empty text, and a lone surrogate (in UTF-8 two such ids would be the same). */
export const checkCredentialId = (id: string): Effect.Effect<void, InvalidCredentialId> => {
  if (id === "") return Effect.fail(new InvalidCredentialId({ detail: "an id cannot be empty" }))
  if (!id.isWellFormed()) {
    return Effect.fail(new InvalidCredentialId({ detail: "an id cannot hold half a surrogate pair" }))
  }
  return Effect.void
}

/** Whether a storage takes this as an id. Others that are found, such as an empty member of a list, were written by another program. */
export const isCredentialId = (id: string): boolean => id !== "" && id.isWellFormed()
