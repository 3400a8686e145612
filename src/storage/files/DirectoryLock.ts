/**
 * The locks of a directory of credentials, which exclude the fibers of this process and all other processes.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as RcRef from "effect/RcRef"
import type * as Scope from "effect/Scope"
import { LockTimeout } from "../../errors/CredentialError.ts"
import { makeKeyedLock } from "../../util/KeyedLock.ts"
import { isEscapedName } from "../format/names.ts"
import type { StorageFault } from "../operation.ts"
import { LockLost, makeFileLocks } from "./FileLock.ts"
import type { HeldLock } from "./FileLock.ts"
import type { PrivateFiles } from "./PrivateFiles.ts"
import { CurrentProcess } from "./ProcessIdentity.ts"

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

/** The fibers of this process wait here for one another, and one of them for other processes: layers may share a directory. */
const waiting = makeKeyedLock()

/** The lock under which files are replaced. Those of credentials have names that begin with "~". */
const writingLock = "writing"

/** Whether what has this name among the locks is one. */
export const isLockName = (name: string): boolean => name === writingLock || isEscapedName(name)

/** How long a lock is waited for: a dead holder's lease ends meanwhile, and of a reader's deadline time is left to ask Aden. */
const patience = Duration.seconds(20)

/** A write takes some milliseconds: the lock is looked for again at the latest after this. */
const writingPauseMillis = 20

export const makeDirectoryLocks = Effect.fnUntraced(function*(files: PrivateFiles, directory: string) {
  const processes = yield* yield* CurrentProcess
  const locks = makeFileLocks(files, files.fileIn(directory, "locks"), processes)

  /** A lock of the directory, held until the scope closes. */
  const lock = (name: string, longestPause: number) =>
    waiting.held(`${JSON.stringify(processes.self)}\0${directory}\0${name}`).pipe(
      Effect.andThen(files.ensureFolder(directory)),
      Effect.andThen(locks.acquire(name, longestPause)),
      Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.fail(new LockTimeout({ after: patience })) })
    )

  /** Writes of this and of other processes take turns. Those of this one share a lock, and may go on side by side. */
  const inTurn = yield* makeSharedLock(lock(writingLock, writingPauseMillis))

  return { lock, inTurn } as const
})
