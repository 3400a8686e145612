/**
 * Leases between processes, built on files only.
 *
 * A lock is a folder of numbered files. Only the file with the highest number counts: it names the holder, or says that the lock is
 * free. To acquire the lock, a process creates the file with the next number, exclusively. To renew or release it, the holder
 * overwrites its own file, which it keeps open, in place. The highest file is never removed, so numbers only grow, and at most one
 * process acquires the lock, however late a slow one comes:
 *
 * - Two processes that saw the same number free or abandoned both try to create the next file, and the system lets one succeed.
 * - A process may come so late that the next file was created and removed again, and create it once more. It then lists the folder,
 *   finds a higher number, which is never removed, and removes its own file. Until then its file was below the highest, and did
 *   not count.
 * - No process removes or replaces the counting file of another. A holder whose lock was taken over overwrites a file that no longer
 *   counts, or no longer exists. If a person removes all files, numbering starts again, so a holder recognizes its file by its
 *   open handle, not only by its number.
 *
 * A holder that stops without releasing (killed, suspended, on a host that lost the network) is taken over when its file did not
 * change for the length of the lease. The waiter measures this by its own clock: clocks of different hosts are never compared.
 * It counts only the time in which it was awake, so that a laptop that slept does not take over from a holder that slept with
 * it. A holder on this host whose process has ended is taken over at once. A lease cannot stop a suspended holder from resuming,
 * so writers call `check` just before they write, and the generation fences saves of credentials.
 *
 * Why not a library: `proper-lockfile` and `lockfile` remove a lock that they judge abandoned by its path, and so can remove the
 * one that another waiter has just acquired; `fs-ext` (flock) is native code, and is missing on Bun, Deno and network file systems.
 * All three bypass Effect's FileSystem and Clock.
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { Buffer } from "node:buffer"
import { randomBytes } from "node:crypto"
import type { StorageInsecure, StorageIoFailed } from "../../errors/StorageError.ts"
import { leaseMillis, renewEvery } from "../lease.ts"
import type { OwnFile, PrivateFiles } from "./PrivateFiles.ts"
import { ProcessIdentity } from "./ProcessIdentity.ts"
import type { Processes } from "./ProcessIdentity.ts"

/** The lock was taken over, so what was to be done under it must not be done. */
export class LockLost extends Data.TaggedError("LockLost") {}

/** A lock that is held. */
export interface HeldLock {
  /** Fails when the lock has been taken over. */
  readonly check: Effect.Effect<void, LockLost | StorageIoFailed>
  /** Increases by one with each holder, so that one who holds it again sees whether another did in between. */
  readonly number: number
}

/**
 * How long a file without a holder is left alone: on a system without hard links, its writer may not be done yet. After that it does
 * not count as a lock; a slower writer checks the lock afterwards, and finds it lost.
 */
const unwrittenMillis = 1_000
const firstRetryMillis = 2
/** Every so many acquisitions, temporary files of processes that died are removed. */
const tidyEvery = 64
const maximumBytes = 4_096

const Holder = Schema.fromJsonString(Schema.Struct({ token: Schema.String, ...ProcessIdentity.fields }))
const decodeHolder = Schema.decodeUnknownOption(Holder)
const encodeHolder = Schema.encodeSync(Holder)

/** The first line of a lock file, overwritten in place, so always of the same length. */
const heading = (status: "held" | "free", beat: number): Uint8Array =>
  Buffer.from(`${status} ${String(beat).padStart(10, "0")}\n`)

const numberName = /^[1-9]\d{0,14}$/

/** What a waiter sees of a lock: the highest number, 0 when there is no file, and that file's text. */
interface LockSnapshot {
  readonly number: number
  /** `undefined` for a file that is too large to be a lock. */
  readonly text: string | undefined
}

/** A lock held by this process: its open file, the line that names the holder, and its number. */
interface OwnLock {
  readonly file: OwnFile
  readonly holder: string
  readonly number: number
}

const isFree = ({ number, text }: LockSnapshot): boolean => number === 0 || text?.startsWith("free") === true

const holderOf = ({ text = "" }: LockSnapshot) => decodeHolder(text.slice(text.indexOf("\n") + 1))

/** Whether this is the text of a lock file. An empty one is being written, or was never finished. */
const isLock = (text: string | undefined): boolean => text === "" || text?.match(/^(held|free) \d{10}\n/) != null

const release = ({ file }: OwnLock) => Effect.ignore(file.overwrite(heading("free", 0)))

const renew = ({ file }: OwnLock) => {
  let beat = 0
  return Effect.suspend(() => file.overwrite(heading("held", ++beat))).pipe(
    // a failure is no loss: the next beat may succeed
    Effect.ignore,
    Effect.delay(renewEvery),
    Effect.forever
  )
}

/** The locks in one folder. */
export class FileLocks {
  readonly #files: PrivateFiles
  readonly #folder: string
  readonly #processes: Processes

  constructor(files: PrivateFiles, folder: string, processes: Processes) {
    this.#files = files
    this.#folder = folder
    this.#processes = processes
  }

  #numbersIn(lockFolder: string) {
    return Effect.map(
      this.#files.names(lockFolder, ""),
      (names) => names.filter((name) => numberName.test(name)).map(Number)
    )
  }

  #fileOf(lockFolder: string, number: number) {
    return this.#files.fileIn(lockFolder, String(number))
  }

  #textOf(lockFolder: string, number: number) {
    return this.#files.read(this.#fileOf(lockFolder, number), maximumBytes).pipe(
      Effect.map(Option.match({ onNone: () => "", onSome: (bytes) => Buffer.from(bytes).toString() })),
      Effect.catchTag("FileTooLarge", () => Effect.succeed(undefined))
    )
  }

  #look(lockFolder: string): Effect.Effect<LockSnapshot, StorageIoFailed | StorageInsecure> {
    return Effect.gen({ self: this }, function*() {
      const number = Math.max(0, ...yield* this.#numbersIn(lockFolder))
      return { number, text: number === 0 ? "" : yield* this.#textOf(lockFolder, number) }
    })
  }

  /** Compares inodes; on file systems without stable inodes, compares the holder's token. */
  #isOwn({ file, holder, number }: OwnLock, lockFolder: string) {
    return Effect.flatMap(file.isInPlace, (isInPlace) =>
      isInPlace ? Effect.succeed(true) : Effect.map(
        this.#textOf(lockFolder, number),
        (text) => text?.endsWith(holder) === true
      ))
  }

  #check(lockFolder: string, own: OwnLock) {
    return Effect.gen({ self: this }, function*() {
      const numbers = yield* this.#numbersIn(lockFolder)
      const isHighest = numbers.includes(own.number) && !numbers.some((other) => other > own.number)
      if (!isHighest || !(yield* this.#isOwn(own, lockFolder))) return yield* new LockLost()
    }).pipe(Effect.catchTag("StorageInsecure", () => Effect.fail(new LockLost())))
  }

  /** Creates the file with this number; `undefined` when another process was faster. */
  #take(lockFolder: string, number: number) {
    return Effect.gen({ self: this }, function*() {
      const holder = `${encodeHolder({ token: randomBytes(8).toString("hex"), ...this.#processes.self })}\n`
      const file = yield* this.#files.create(
        this.#fileOf(lockFolder, number),
        Buffer.concat([heading("held", 0), Buffer.from(holder)])
      )
      if (Option.isNone(file)) return undefined
      const own: OwnLock = { file: file.value, holder, number }
      const numbers = yield* Effect.onError(this.#numbersIn(lockFolder), () => release(own))
      if (numbers.some((other) => other > number)) {
        yield* this.#files.remove(this.#fileOf(lockFolder, number))
        return undefined
      }
      for (const lower of numbers.filter((other) => other < number)) {
        yield* Effect.ignore(
          Effect.flatMap(
            this.#textOf(lockFolder, lower),
            (text) => isLock(text) ? this.#files.remove(this.#fileOf(lockFolder, lower)) : Effect.void
          )
        )
      }
      if (number % tidyEvery === 0) yield* this.#files.removeAbandoned(lockFolder)
      return own
    })
  }

  /**
   * Acquires the lock of this name and holds it until the scope closes. Retries with back-off, at least every `maxRetryMillis`. The
   * name has to be safe as the name of a folder.
   */
  acquire(
    name: string,
    maxRetryMillis: number
  ): Effect.Effect<HeldLock, StorageIoFailed | StorageInsecure, Scope.Scope> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen({ self: this }, function*() {
        const lockFolder = this.#files.fileIn(this.#folder, name)
        const ensureLockFolder = Effect.andThen(
          this.#files.ensureFolder(this.#folder),
          this.#files.ensureOwnFolder(lockFolder)
        )
        yield* ensureLockFolder
        let retryMillis = firstRetryMillis
        let last = yield* this.#look(lockFolder)
        let observedMillis = 0
        for (;;) {
          const holder = holderOf(last)
          const mayTake = isFree(last) ||
            observedMillis >= (Option.isNone(holder) ? unwrittenMillis : leaseMillis) ||
            (Option.isSome(holder) && (yield* this.#processes.isGone(holder.value)))
          // all locks may have been removed while it waited
          if (mayTake && last.number === 0) yield* ensureLockFolder
          const own = mayTake ? yield* this.#take(lockFolder, last.number + 1) : undefined
          if (own !== undefined) {
            yield* Effect.addFinalizer(() => release(own))
            yield* Effect.forkScoped(renew(own))
            return { check: this.#check(lockFolder, own), number: own.number }
          }
          const before = yield* Clock.currentTimeMillis
          yield* restore(Effect.sleep(Duration.millis(retryMillis * (yield* Random.nextBetween(0.5, 1)))))
          const snapshot = yield* this.#look(lockFolder)
          const slept = (yield* Clock.currentTimeMillis) - before
          // after a longer sleep than requested the host was suspended, and maybe the holder, too
          observedMillis = snapshot.number === last.number && snapshot.text === last.text
            ? observedMillis + Math.max(0, Math.min(slept, retryMillis + unwrittenMillis))
            : 0
          last = snapshot
          retryMillis = Math.min(2 * retryMillis, maxRetryMillis)
        }
      })
    )
  }

  /** The current holder of the lock of this name, for diagnosis. */
  heldBy(name: string) {
    return Effect.gen({ self: this }, function*() {
      const lockFolder = this.#files.fileIn(this.#folder, name)
      const snapshot = yield* this.#look(lockFolder)
      if (isFree(snapshot)) return undefined
      const holder = Option.getOrUndefined(holderOf(snapshot))
      const isGone = holder !== undefined && (yield* this.#processes.isGone(holder))
      return { location: this.#fileOf(lockFolder, snapshot.number), pid: holder?.pid, isGone }
    })
  }
}
