/**
 * The locks of a directory of credentials. They exclude the other fibers of this process, and all other processes.
 */
import type * as Context from "effect/Context"
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
import { FileLocks, LockLost } from "./FileLock.ts"
import type { HeldLock } from "./FileLock.ts"
import type { PrivateFiles } from "./PrivateFiles.ts"
import { CurrentProcess } from "./ProcessIdentity.ts"
import type { Processes } from "./ProcessIdentity.ts"

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
const underSharedLock = <A, E>(
  current: RcRef.RcRef<HeldLock, StorageFault>,
  use: (lock: HeldLock) => Effect.Effect<A, E>
) =>
  Effect.scoped(Effect.flatMap(RcRef.get(current), use)).pipe(
    Effect.tapError((error) => isLost(error) ? RcRef.invalidate(current) : Effect.void),
    Effect.retry({ times: retries, while: isLost }),
    asLockTimeout
  )

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

/** The locks of one directory. */
export class DirectoryLocks {
  readonly processes: Processes
  readonly #files: PrivateFiles
  readonly #directory: string
  readonly #locks: FileLocks
  readonly #context: Context.Context<never>
  readonly #scope = Scope.makeUnsafe()
  // made with the first write: most tenants of a platform only read
  #writeLock: RcRef.RcRef<HeldLock, StorageFault> | undefined = undefined

  /** `context`: that in which the write lock is acquired, whoever asks for it. */
  constructor(files: PrivateFiles, directory: string, processes: Processes, context: Context.Context<never>) {
    this.processes = processes
    this.#files = files
    this.#directory = directory
    this.#locks = new FileLocks(files, files.fileIn(directory, "locks"), processes)
    this.#context = context
  }

  /** A lock of the directory, held until the scope closes. Closing does not wait for a disk that hangs. */
  lock(name: string, maxRetryMillis: number) {
    return Effect.flatMap(
      Effect.acquireRelease(
        Scope.make(),
        (scope) => Effect.ignore(this.#files.orGiveUp(Scope.close(scope, Exit.void)))
      ),
      (scope) =>
        acquireLease(
          processLock,
          `${JSON.stringify(this.processes.self)}\0${this.#directory}\0${name}`,
          this.#files.ensureFolder(this.#directory).pipe(
            Effect.andThen(name === writingLock ? Effect.void : openFile),
            Effect.andThen(this.#locks.acquire(name, maxRetryMillis))
          )
        ).pipe(Scope.provide(scope))
    )
  }

  /** Excludes the writes of other processes. The writes of this one share the lock and run concurrently. */
  withWriteLock<A, E>(use: (lock: HeldLock) => Effect.Effect<A, E>) {
    return Effect.suspend(() =>
      this.#writeLock === undefined
        ? Effect.map(this.#makeWriteLock(), (made) => this.#writeLock ??= made)
        : Effect.succeed(this.#writeLock)
    ).pipe(Effect.flatMap((current) => underSharedLock(current, use)))
  }

  #makeWriteLock(): Effect.Effect<RcRef.RcRef<HeldLock, StorageFault>> {
    return RcRef.make({
      acquire: Effect.tap(
        this.lock(writingLock, writeRetryMillis),
        () =>
          Effect.forkScoped(
            Effect.delay(
              Effect.suspend(() => this.#writeLock === undefined ? Effect.void : RcRef.invalidate(this.#writeLock)),
              shareFor
            )
          )
      )
    }).pipe(
      Scope.provide(this.#scope),
      Effect.updateContext((_: Context.Context<never>) => this.#context)
    )
  }

  /** Ends what holds the write lock, or waits for it; from then on it is not to be had. */
  close(): Effect.Effect<void> {
    return Scope.close(this.#scope, Exit.void)
  }
}

/** The locks of a directory, to be closed. */
export const unscopedDirectoryLocks = Effect.fnUntraced(function*(files: PrivateFiles, directory: string) {
  const processes = yield* yield* CurrentProcess
  const context = yield* Effect.context<never>()
  return new DirectoryLocks(files, directory, processes, context)
})

/** The locks of a directory, until the scope closes. */
export const makeDirectoryLocks = (files: PrivateFiles, directory: string) =>
  Effect.acquireRelease(unscopedDirectoryLocks(files, directory), (locks) => locks.close())
