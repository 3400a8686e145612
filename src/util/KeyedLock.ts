import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { SparseMap } from "./sparse.ts"

/**
 * A lock per key: effects of one key run one after another, those of different keys concurrently. (Effect's
 * `PartitionedSemaphore` shares its permits among all keys, so with one permit it is one lock.) A key takes memory only while
 * its lock is held or waited for.
 */
export interface KeyedLock {
  (key: string): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** The lock of a key, held until the scope closes. */
  readonly held: (key: string) => Effect.Effect<void, never, Scope.Scope>
  /** Whether the lock of a key is held or waited for. */
  readonly isTaken: (key: string) => boolean
}

export const makeKeyedLock = (): KeyedLock => {
  const locks = new SparseMap<string, { readonly semaphore: Semaphore.Semaphore; users: number }>()

  const enter = (key: string) =>
    Effect.sync(() => {
      const lock = locks.get(key) ?? { semaphore: Semaphore.makeUnsafe(1), users: 0 }
      lock.users++
      locks.set(key, lock)
      return lock
    })
  const leave = (key: string, lock: { users: number }) =>
    Effect.sync(() => {
      lock.users--
      if (lock.users === 0) locks.delete(key)
    })

  return Object.assign(
    (key: string) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.acquireUseRelease(
        enter(key),
        (lock) => lock.semaphore.withPermit(effect),
        (lock) => leave(key, lock)
      ),
    {
      held: (key: string) =>
        Effect.acquireRelease(enter(key), (lock) => leave(key, lock)).pipe(
          Effect.flatMap(({ semaphore }) =>
            Effect.acquireRelease(semaphore.take(1), () => semaphore.release(1), { interruptible: true })
          ),
          Effect.asVoid
        ),
      isTaken: (key: string) => locks.has(key)
    }
  )
}
