/**
 * One lock held for all the fibers that want it at the same time: the many writes of a process cost few locks.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as RcRef from "effect/RcRef"
import type * as Scope from "effect/Scope"
import { LockTimeout } from "../../errors/CredentialError.ts"
import type { StorageFault } from "../operation.ts"
import { LockLost } from "./FileLock.ts"
import type { HeldLock } from "./FileLock.ts"

/** After this long those who come later wait for a new lock, so that other processes get their turn. */
const turn = Duration.millis(50)

/** A process that was suspended while it wrote finds its lock taken over, and begins anew. */
const timesAnew = 3

const isLost = <E>(error: E): error is Extract<E, LockLost> => error instanceof LockLost

/** What ends up under a lock that is lost again and again is told as a lock that could not be had. */
const notLost = <A, E>(
  effect: Effect.Effect<A, E>
): Effect.Effect<A, Exclude<E, Extract<E, LockLost>> | LockTimeout> =>
  Effect.catchIf(effect, isLost<E>, () => Effect.fail(new LockTimeout({ after: turn })), Effect.fail)

/** Runs effects while the lock is held, and again when it was lost meanwhile. They take turns among each other themselves. */
export interface SharedLock {
  <A, E>(
    use: (lock: HeldLock) => Effect.Effect<A, E>
  ): ReturnType<typeof notLost<A, E | StorageFault>>
}

export const makeSharedLock = Effect.fnUntraced(function*(
  acquire: Effect.Effect<HeldLock, StorageFault, Scope.Scope>
): Effect.fn.Return<SharedLock, never, Scope.Scope> {
  const current: RcRef.RcRef<HeldLock, StorageFault> = yield* RcRef.make({
    acquire: Effect.tap(
      acquire,
      () => Effect.forkScoped(Effect.delay(Effect.suspend(() => RcRef.invalidate(current)), turn))
    )
  })
  return (use) =>
    Effect.scoped(Effect.flatMap(RcRef.get(current), use)).pipe(
      Effect.tapError((error) => isLost(error) ? RcRef.invalidate(current) : Effect.void),
      Effect.retry({ times: timesAnew, while: isLost }),
      notLost
    )
})
