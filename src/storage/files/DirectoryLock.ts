/**
 * The locks of a directory of credentials, which exclude the fibers of this process and all other processes.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { LockTimeout } from "../../errors/CredentialError.ts"
import { makeKeyedLock } from "../../util/KeyedLock.ts"
import { isEscapedName } from "../format/names.ts"
import { makeFileLocks } from "./FileLock.ts"
import type { PrivateFiles } from "./PrivateFiles.ts"
import { CurrentProcess } from "./ProcessIdentity.ts"
import { makeSharedLock } from "./sharedLock.ts"

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
