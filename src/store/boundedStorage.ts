import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { CredentialStorageError, StorageIoFailed } from "../errors/StorageError.ts"
import type { CredentialStorage } from "../storage/CredentialStorage.ts"
import { decorate } from "../storage/decorate.ts"

type Storage = CredentialStorage["Service"]

/** How long one operation may take, and how much longer for each entry of many. */
const timeout = Duration.seconds(2)
const timeoutPerEntry = Duration.millis(50)

/**
 * How long a write may take that the program has asked for: it may wait for its turn among other writers, and no token of another credential waits for it.
 * Longer than any storage waits for a lock.
 */
export const programTimeout = Duration.seconds(30)

/**
 * A storage that hangs is one that fails: an operation is given up after 2 s, so that a disk or a database does not keep a token from the
 * program; a write after `writeTimeout`. A write that arrives later is fenced by its generation. `list` and `withLock` are waited for: one
 * takes longer the more there is, the other waits for its holder.
 */
export const bounded = (storage: Storage, writeTimeout: Duration.Duration = timeout): Storage => {
  const late = (operation: string, id: string | undefined, after: Duration.Duration) => () =>
    Effect.fail(
      new CredentialStorageError({
        ...(id === undefined ? {} : { id }),
        operation,
        reason: new StorageIoFailed({
          location: "The credential storage",
          detail: `it did not answer within ${Duration.format(after)}`
        })
      })
    )
  const reading = <A, E>(operation: string, id: string, effect: Effect.Effect<A, E>) =>
    Effect.timeoutOrElse(effect, { duration: timeout, orElse: late(operation, id, timeout) })
  /** A write that is given up goes on: a slow disk takes it at last. */
  const writing = <A, E>(
    operation: string,
    id: string | undefined,
    effect: Effect.Effect<A, E>,
    duration: Duration.Duration = writeTimeout
  ): Effect.Effect<A, E | CredentialStorageError> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        Effect.forkDetach(Effect.interruptible(effect), { startImmediately: true }),
        (fiber) =>
          restore(Effect.timeoutOrElse(Fiber.join(fiber), { duration, orElse: late(operation, id, duration) })).pipe(
            Effect.onInterrupt(() => Fiber.interrupt(fiber))
          )
      )
    )
  return decorate(storage, {
    read: (id) => reading("read", id, storage.read(id)),
    load: (id) => reading("load", id, storage.load(id)),
    loadState: (id) => reading("load", id, storage.loadState(id)),
    exists: (id) => reading("look up", id, storage.exists(id)),
    save: (credential, options) => writing("save", credential.id, storage.save(credential, options)),
    saveMany: (credentials, options) =>
      writing(
        "save",
        undefined,
        storage.saveMany(credentials, options),
        Duration.sum(writeTimeout, Duration.times(timeoutPerEntry, credentials.length))
      ),
    saveState: (id, state, options) => writing("save", id, storage.saveState(id, state, options)),
    delete: (id, options) => writing("delete", id, storage.delete(id, options))
  })
}
