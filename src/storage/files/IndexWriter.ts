/**
 * Write-behind of Hive's index: writes of credentials do not wait for it, and pay nothing for the number of credentials. It is
 * written at most once per second, and when the storage is closed.
 *
 * While the index lacks something, a mark lies beside it, a small file that names the process. A process that dies leaves its mark,
 * and the next storage that opens the directory, or writes the index, brings in all that was written since.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import { randomBytes } from "node:crypto"
import { makeBackground } from "../../util/background.ts"
import type { Background } from "../../util/background.ts"
import { logWarning } from "../../util/logging.ts"
import { SparseMap } from "../../util/sparse.ts"
import type { DirectoryLocks } from "./DirectoryLock.ts"
import type { Folders } from "./Folders.ts"
import type { IndexFile } from "./IndexFile.ts"
import type { PrivateFiles } from "./PrivateFiles.ts"
import { ProcessIdentity } from "./ProcessIdentity.ts"

const interval = Duration.seconds(1)
/** After failures, the interval doubles up to this. */
const longestInterval = Duration.minutes(1)
/** A mark that is this old is not waited for: its process would have written the index long ago, if it could. */
const staleMillis = 60_000
/** A file system may count times in whole seconds. */
const granularityMillis = 2_000

const markSuffix = ".unlisted"
const maximumMarkBytes = 4_096

const Mark = Schema.fromJsonString(ProcessIdentity)
const decodeMark = Schema.decodeUnknownOption(Mark)
const encodeMark = Schema.encodeSync(Mark)

/** The marks of this process. Global: several storages may share a directory. */
const ownMarks = new Set<string>()

/** Writes the index of one directory. */
export class IndexWriter {
  readonly #files: PrivateFiles
  readonly #folders: Folders
  readonly #index: IndexFile
  readonly #locks: DirectoryLocks
  readonly #inBackground: Background
  readonly #pending = new SparseMap<string, string | undefined>()
  #ownMark: string | undefined = undefined
  /** Whether the mark is there. It cannot be left where its folder is missing, as before the first save. */
  #isMarked = false
  #markedAt = 0
  /** Since when files may have been written that are not pending, because a write died or was interrupted half-way. */
  #uncertainSince = Infinity
  /** How many writes are under way, whose changes are not pending yet. */
  #writes = 0
  #isOpened = false
  #isTidied = false
  /** Whether the index is to be written, and whether a fiber is about to. */
  #isNeeded = false
  #isWriting = false

  constructor(options: {
    readonly files: PrivateFiles
    readonly folders: Folders
    readonly index: IndexFile
    readonly locks: DirectoryLocks
    readonly inBackground: Background
  }) {
    this.#files = options.files
    this.#folders = options.folders
    this.#index = options.index
    this.#locks = options.locks
    this.#inBackground = options.inBackground
  }

  /** Runs a write of credentials, after which the index may lack something. */
  during<A, E, R>(write: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.acquireUseRelease(
      Effect.suspend(() => {
        this.#writes++
        return this.#leaveMark()
      }),
      () => write,
      (_, exit) =>
        Effect.suspend(() => {
          this.#writes--
          if (Exit.hasDies(exit) || Exit.hasInterrupts(exit)) {
            this.#uncertainSince = Math.min(this.#uncertainSince, this.#markedAt - granularityMillis)
          }
          return this.#need()
        })
    )
  }

  /** A credential was saved with this entry, or removed (`undefined`). */
  changed(id: string, entry: string | undefined): void {
    this.#pending.set(id, entry)
  }

  /** The ids of all files. */
  ids() {
    return Effect.suspend(() => this.#index.ids(this.#pending))
  }

  // marks ---------------------------------------------------------------------------------------------------------------

  #markOf(name: string): string {
    return this.#files.fileIn(this.#index.folder, `${name}${markSuffix}`)
  }

  // a failure is ignored: the mark only matters when the process dies, and the next write tries again
  #leaveMark(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      if (this.#ownMark === undefined) {
        this.#ownMark = randomBytes(16).toString("hex")
        ownMarks.add(this.#ownMark)
        this.#markedAt = yield* Clock.currentTimeMillis
      }
      if (this.#isMarked) return
      const text = Buffer.from(encodeMark(this.#locks.processes.self))
      this.#isMarked = yield* Effect.isSuccess(Effect.scoped(this.#files.create(this.#markOf(this.#ownMark), text)))
    })
  }

  #removeMark(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#ownMark === undefined || this.#writes > 0 || this.#pending.size > 0) return Effect.void
      const name = this.#ownMark
      this.#ownMark = undefined
      this.#isMarked = false
      ownMarks.delete(name)
      return Effect.ignore(this.#files.remove(this.#markOf(name)))
    })
  }

  /** Whether the process that left a mark will not write the index any more. */
  #isAbandoned(name: string, writtenAt: number) {
    return Effect.gen({ self: this }, function*() {
      if (ownMarks.has(name)) return false
      if ((yield* Clock.currentTimeMillis) - writtenAt > staleMillis) return true
      const text = yield* this.#files.read(this.#markOf(name), maximumMarkBytes)
      const left = Option.flatMap(text, (bytes) => decodeMark(Buffer.from(bytes).toString()))
      if (Option.isNone(left)) return false
      // of a storage of this process that was closed when it could not write the index
      const isOwn = left.value.host !== undefined && Equal.equals(left.value, this.#locks.processes.self)
      return isOwn || (yield* this.#locks.processes.isGone(left.value))
    })
  }

  /** The marks of processes that died, and since when files may have been written that the index lacks. */
  #findAbandoned() {
    return Effect.gen({ self: this }, function*() {
      const names: Array<string> = []
      let since = Infinity
      for (const name of yield* this.#files.names(this.#index.folder, markSuffix)) {
        const writtenAt = yield* this.#files.modifiedAt(this.#markOf(name))
        if (writtenAt === undefined || !(yield* this.#isAbandoned(name, writtenAt))) continue
        names.push(name)
        since = Math.min(since, writtenAt - granularityMillis)
      }
      return { names, since }
    })
  }

  // the index -----------------------------------------------------------------------------------------------------------

  #write() {
    return Effect.suspend(() => {
      const changes = new Map(this.#pending)
      const uncertain = this.#uncertainSince
      this.#pending.clear()
      this.#uncertainSince = Infinity
      return Effect.gen({ self: this }, function*() {
        const { names, since } = yield* this.#findAbandoned()
        const writtenSince = Math.min(since, uncertain)
        if (
          (changes.size > 0 || writtenSince < Infinity) && (yield* this.#folders.exist(this.#folders.credentials))
        ) {
          yield* this.#files.ensureFolder(this.#index.folder)
          yield* this.#tidy()
          yield* this.#locks.withWriteLock(({ check }) => this.#index.update(changes, check, writtenSince))
          for (const name of names) yield* Effect.ignore(this.#files.remove(this.#markOf(name)))
        }
        yield* this.#removeMark()
      }).pipe(
        Effect.onError(() =>
          Effect.sync(() => {
            this.#uncertainSince = Math.min(this.#uncertainSince, uncertain)
            for (const [id, entry] of changes) {
              if (!this.#pending.has(id)) this.#pending.set(id, entry)
            }
          })
        )
      )
    }).pipe(Effect.uninterruptible)
  }

  /** Removes what writers that died have left, once, before the first write of the index. */
  #tidy(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#isTidied) return Effect.void
      this.#isTidied = true
      return this.#folders.tidy()
    })
  }

  /** Looks for what a process that died has left. */
  open(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const { names } = yield* this.#findAbandoned()
      this.#isOpened = true
      if (names.length > 0) yield* this.#need()
    }).pipe((open) => this.#files.orGiveUp(open), Effect.ignore)
  }

  /** A defect, too, is a reason to try again, and fails no scope. */
  #attempt() {
    return Effect.catchDefect(
      this.#files.orGiveUp(this.#write()),
      (defect) => Effect.fail({ message: String(defect) })
    )
  }

  #writeBehind(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      let pause = interval
      while (this.#isNeeded) {
        yield* Effect.sleep(pause)
        this.#isNeeded = false
        const written = yield* Effect.result(this.#attempt())
        if (Result.isSuccess(written)) {
          pause = interval
          continue
        }
        // once, not with each attempt
        if (pause === interval) yield* warn(written.failure)
        this.#isNeeded = true
        pause = Duration.min(Duration.times(pause, 2), longestInterval)
      }
      this.#isWriting = false
    })
  }

  /** A fiber writes the index, and ends with that: none is kept for each storage. */
  #need(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#isNeeded = true
      if (this.#isWriting) return Effect.void
      this.#isWriting = true
      return this.#inBackground(this.#writeBehind())
    })
  }

  /** Writes what the index lacks. */
  close(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      if (!this.#isOpened) yield* this.open()
      if (this.#isNeeded || this.#ownMark !== undefined) yield* Effect.catch(this.#attempt(), warn)
    }).pipe(
      Effect.ensuring(Effect.sync(() => {
        if (this.#ownMark !== undefined) ownMarks.delete(this.#ownMark)
      }))
    )
  }
}

const warn = (error: { readonly message: string }) =>
  logWarning("Hive's list of credentials could not be written").pipe(
    Effect.annotateLogs({ reason: error.message })
  )

/** Writes the index of a directory. To be opened, and closed. */
export const makeIndexWriter = Effect.fnUntraced(function*(
  options: Omit<ConstructorParameters<typeof IndexWriter>[0], "inBackground">
) {
  const inBackground = yield* makeBackground
  return new IndexWriter({ ...options, inBackground })
})
