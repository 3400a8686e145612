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
import type * as Scope from "effect/Scope"
import { Buffer } from "node:buffer"
import { randomBytes } from "node:crypto"
import { makeBackground } from "../../util/background.ts"
import { logWarning } from "../../util/logging.ts"
import type { StorageFault } from "../operation.ts"
import type { SharedLock } from "./DirectoryLock.ts"
import type { IndexFile } from "./IndexFile.ts"
import type { PrivateFiles } from "./PrivateFiles.ts"
import { ProcessIdentity } from "./ProcessIdentity.ts"
import type { Processes } from "./ProcessIdentity.ts"

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

/** The writer of an index. */
export interface IndexWriter {
  /** Runs a write of credentials, after which the index may lack something. */
  readonly during: <A, E, R>(write: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** A credential was saved with this entry, or removed (`undefined`). */
  readonly changed: (id: string, entry: string | undefined) => Effect.Effect<void>
  /** The ids of all files. */
  readonly ids: ReturnType<IndexFile["ids"]>
}

export const makeIndexWriter = Effect.fnUntraced(function*(options: {
  readonly files: PrivateFiles
  readonly index: IndexFile
  readonly processes: Processes
  readonly withWriteLock: SharedLock
  /** Whether the directory is there, and nobody else can write it. */
  readonly isUsable: Effect.Effect<boolean, StorageFault>
  /** Run once, before the first write of the index. */
  readonly tidy: Effect.Effect<void>
}): Effect.fn.Return<IndexWriter, never, Scope.Scope> {
  const { files, index, isUsable, processes, withWriteLock } = options
  const markOf = (name: string) => files.fileIn(index.folder, `${name}${markSuffix}`)
  const tidy = yield* Effect.cached(Effect.uninterruptible(options.tidy))

  const pending = new Map<string, string | undefined>()
  let ownMark: string | undefined
  /** Whether the mark is there. It cannot be left where its folder is missing, as before the first save. */
  let isMarked = false
  let markedAt = 0
  /** Since when files may have been written that are not pending, because a write died or was interrupted half-way. */
  let uncertainSince = Infinity
  /** How many writes are under way, whose changes are not pending yet. */
  let writes = 0
  let isOpened = false
  /** Whether the index is to be written, and whether a fiber is about to. */
  let isNeeded = false
  let isWriting = false
  const inBackground = yield* makeBackground

  // marks ---------------------------------------------------------------------------------------------------------------

  // a failure is ignored: the mark only matters when the process dies, and the next write tries again
  const leaveMark = Effect.gen(function*() {
    if (ownMark === undefined) {
      ownMark = randomBytes(16).toString("hex")
      ownMarks.add(ownMark)
      markedAt = yield* Clock.currentTimeMillis
    }
    if (isMarked) return
    isMarked = yield* Effect.isSuccess(
      Effect.scoped(files.create(markOf(ownMark), Buffer.from(encodeMark(processes.self))))
    )
  })

  const removeMark = Effect.suspend(() => {
    if (ownMark === undefined || writes > 0 || pending.size > 0) return Effect.void
    const name = ownMark
    ownMark = undefined
    isMarked = false
    ownMarks.delete(name)
    return Effect.ignore(files.remove(markOf(name)))
  })

  /** Whether the process that left a mark will not write the index any more. */
  const isAbandoned = (name: string, writtenAt: number) =>
    Effect.gen(function*() {
      if (ownMarks.has(name)) return false
      if ((yield* Clock.currentTimeMillis) - writtenAt > staleMillis) return true
      const text = yield* files.read(markOf(name), maximumMarkBytes)
      const left = Option.flatMap(text, (bytes) => decodeMark(Buffer.from(bytes).toString()))
      if (Option.isNone(left)) return false
      // of a storage of this process that was closed when it could not write the index
      const isOwn = left.value.host !== undefined && Equal.equals(left.value, processes.self)
      return isOwn || (yield* processes.isGone(left.value))
    })

  /** The marks of processes that died, and since when files may have been written that the index lacks. */
  const findAbandoned = Effect.gen(function*() {
    const names: Array<string> = []
    let since = Infinity
    for (const name of yield* files.names(index.folder, markSuffix)) {
      const writtenAt = yield* files.modifiedAt(markOf(name))
      if (writtenAt === undefined || !(yield* isAbandoned(name, writtenAt))) continue
      names.push(name)
      since = Math.min(since, writtenAt - granularityMillis)
    }
    return { names, since }
  })

  // the index -----------------------------------------------------------------------------------------------------------

  const write = Effect.suspend(() => {
    const changes = new Map(pending)
    const uncertain = uncertainSince
    pending.clear()
    uncertainSince = Infinity
    return Effect.gen(function*() {
      const { names, since } = yield* findAbandoned
      const writtenSince = Math.min(since, uncertain)
      if ((changes.size > 0 || writtenSince < Infinity) && (yield* isUsable)) {
        yield* files.ensureFolder(index.folder)
        yield* tidy
        yield* withWriteLock(({ check }) => index.update(changes, check, writtenSince))
        for (const name of names) yield* Effect.ignore(files.remove(markOf(name)))
      }
      yield* removeMark
    }).pipe(
      Effect.onError(() =>
        Effect.sync(() => {
          uncertainSince = Math.min(uncertainSince, uncertain)
          for (const [id, entry] of changes) {
            if (!pending.has(id)) pending.set(id, entry)
          }
        })
      )
    )
  }).pipe(Effect.uninterruptible)

  /** Looks for what a process that died has left. */
  const open = Effect.gen(function*() {
    const { names } = yield* findAbandoned
    isOpened = true
    if (names.length > 0) yield* need
  }).pipe(files.orGiveUp, Effect.ignore)

  const warn = (error: { readonly message: string }) =>
    logWarning("Hive's list of credentials could not be written").pipe(
      Effect.annotateLogs({ reason: error.message })
    )

  /** A defect, too, is a reason to try again, and fails no scope. */
  const attempt = Effect.catchDefect(files.orGiveUp(write), (defect) => Effect.fail({ message: String(defect) }))

  const writeBehind = Effect.gen(function*() {
    let pause = interval
    while (isNeeded) {
      yield* Effect.sleep(pause)
      isNeeded = false
      const written = yield* Effect.result(attempt)
      if (Result.isSuccess(written)) {
        pause = interval
        continue
      }
      // once, not with each attempt
      if (pause === interval) yield* warn(written.failure)
      isNeeded = true
      pause = Duration.min(Duration.times(pause, 2), longestInterval)
    }
    isWriting = false
  })

  /** A fiber writes the index, and ends with that: none is kept for each storage. */
  const need: Effect.Effect<void> = Effect.suspend(() => {
    isNeeded = true
    if (isWriting) return Effect.void
    isWriting = true
    return inBackground(writeBehind)
  })

  yield* Effect.addFinalizer(() =>
    Effect.gen(function*() {
      if (!isOpened) yield* open
      if (isNeeded || ownMark !== undefined) yield* Effect.catch(attempt, warn)
    }).pipe(
      Effect.ensuring(Effect.sync(() => {
        if (ownMark !== undefined) ownMarks.delete(ownMark)
      }))
    )
  )
  yield* Effect.forkScoped(open)

  return {
    during: (write) =>
      Effect.acquireUseRelease(
        Effect.suspend(() => {
          writes++
          return leaveMark
        }),
        () => write,
        (_, exit) =>
          Effect.suspend(() => {
            writes--
            if (Exit.hasDies(exit) || Exit.hasInterrupts(exit)) {
              uncertainSince = Math.min(uncertainSince, markedAt - granularityMillis)
            }
            return need
          })
      ),
    changed: (id, entry) => Effect.sync(() => void pending.set(id, entry)),
    ids: Effect.suspend(() => index.ids(pending))
  }
})
