import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { CredentialStorageError, StorageIoFailed } from "../errors/StorageError.ts"
import type { CredentialStorage } from "../storage/CredentialStorage.ts"
import { StorageDecorator } from "../storage/decorate.ts"

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
export const bounded = (storage: Storage, writeTimeout: Duration.Duration = timeout): Storage =>
  new BoundedStorage(storage, writeTimeout)

class BoundedStorage extends StorageDecorator {
  readonly #writeTimeout: Duration.Duration

  constructor(inner: Storage, writeTimeout: Duration.Duration) {
    super(inner)
    this.#writeTimeout = writeTimeout
  }

  override read(id: string) {
    return reading("read", id, this.inner.read(id))
  }

  override load(id: string) {
    return reading("load", id, this.inner.load(id))
  }

  override loadState(id: string) {
    return reading("load", id, this.inner.loadState(id))
  }

  override exists(id: string) {
    return reading("look up", id, this.inner.exists(id))
  }

  override save(...[credential, options]: Parameters<Storage["save"]>) {
    return writing("save", credential.id, this.inner.save(credential, options), this.#writeTimeout)
  }

  override saveMany(...[credentials, options]: Parameters<Storage["saveMany"]>) {
    return writing(
      "save",
      undefined,
      this.inner.saveMany(credentials, options),
      Duration.sum(this.#writeTimeout, Duration.times(timeoutPerEntry, credentials.length))
    )
  }

  override saveState(...[id, state, options]: Parameters<Storage["saveState"]>) {
    return writing("save", id, this.inner.saveState(id, state, options), this.#writeTimeout)
  }

  override delete(...[id, options]: Parameters<Storage["delete"]>) {
    return writing("delete", id, this.inner.delete(id, options), this.#writeTimeout)
  }
}

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
  duration: Duration.Duration
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
