/**
 * The locks of a directory of credentials. They exclude the other fibers of this process, and all other processes.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as RcRef from "effect/RcRef"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { LockTimeout } from "../../errors/StorageError.ts"
import { makeKeyedLock } from "../../util/KeyedLock.ts"
import { isEscapedName } from "../format/names.ts"
import { acquireLease } from "../lease.ts"
import type { StorageFault } from "../operation.ts"
import { LockLost, makeFileLocks } from "./FileLock.ts"
import type { HeldLock } from "./FileLock.ts"
import type { PrivateFiles } from "./PrivateFiles.ts"
import { CurrentProcess } from "./ProcessIdentity.ts"

/** Fairness: effects that start later than this wait for a new lock, so that other processes get their turn. */
const shareFor = Duration.millis(50)

/** How often an effect is run again whose lock was taken over, because the process was suspended. */
const retries = 3

const isLost = <E>(error: E): error is Extract<E, LockLost> => error instanceof LockLost

/** Reports a lock that was lost at every retry as a lock timeout. */
const asLockTimeout = <A, E>(
  effect: Effect.Effect<A, E>
): Effect.Effect<A, Exclude<E, Extract<E, LockLost>> | LockTimeout> =>
  Effect.catchIf(effect, isLost<E>, () => Effect.fail(new LockTimeout({ after: shareFor })), Effect.fail)

/** Runs effects under one lock, again when it was lost. It does not exclude these effects from one another. */
export interface SharedLock {
  <A, E>(
    use: (lock: HeldLock) => Effect.Effect<A, E>
  ): ReturnType<typeof asLockTimeout<A, E | StorageFault>>
}

export const makeSharedLock = Effect.fnUntraced(function*(
  acquire: Effect.Effect<HeldLock, StorageFault, Scope.Scope>
): Effect.fn.Return<SharedLock, never, Scope.Scope> {
  const current: RcRef.RcRef<HeldLock, StorageFault> = yield* RcRef.make({
    acquire: Effect.tap(
      acquire,
      () => Effect.forkScoped(Effect.delay(Effect.suspend(() => RcRef.invalidate(current)), shareFor))
    )
  })
  return (use) =>
    Effect.scoped(Effect.flatMap(RcRef.get(current), use)).pipe(
      Effect.tapError((error) => isLost(error) ? RcRef.invalidate(current) : Effect.void),
      Effect.retry({ times: retries, while: isLost }),
      asLockTimeout
    )
})

/** Excludes the fibers of this process, so that only one contends with other processes. Global: layers may share a directory. */
const processLock = makeKeyedLock()

/** The name of the lock for writing files. Locks of credentials have names that begin with "~". */
const writingLock = "writing"

/** A lock keeps a file open. More than this at once have to wait, so that descriptors are left for others. Global, as those are. */
const openFiles = Semaphore.makeUnsafe(256)
const openFile = Effect.acquireRelease(openFiles.take(1), () => openFiles.release(1), { interruptible: true })

/** Whether this is the name of a lock. */
export const isLockName = (name: string): boolean => name === writingLock || isEscapedName(name)

/** How often the write lock is retried, at least: a write takes some milliseconds. */
const writeRetryMillis = 20

export const makeDirectoryLocks = Effect.fnUntraced(function*(files: PrivateFiles, directory: string) {
  const processes = yield* yield* CurrentProcess
  const locks = makeFileLocks(files, files.fileIn(directory, "locks"), processes)

  /** A lock of the directory, held until the scope closes. Closing does not wait for a disk that hangs. */
  const lock = (name: string, maxRetryMillis: number) =>
    Effect.flatMap(
      Effect.acquireRelease(
        Scope.make(),
        (scope) => Effect.ignore(files.orGiveUp(Scope.close(scope, Exit.void)))
      ),
      (scope) =>
        acquireLease(
          processLock,
          `${JSON.stringify(processes.self)}\0${directory}\0${name}`,
          files.ensureFolder(directory).pipe(
            Effect.andThen(name === writingLock ? Effect.void : openFile),
            Effect.andThen(locks.acquire(name, maxRetryMillis))
          )
        ).pipe(Scope.provide(scope))
    )

  /** Excludes the writes of other processes. The writes of this one share the lock and run concurrently. */
  const withWriteLock = yield* makeSharedLock(lock(writingLock, writeRetryMillis))

  return { lock, processes, withWriteLock } as const
})
