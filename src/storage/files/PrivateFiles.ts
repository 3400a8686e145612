/**
 * Access to private files: reads do not follow links, and writes are atomic.
 */
import * as ByteSize from "effect/ByteSize"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type * as PlatformError from "effect/PlatformError"
import * as Predicate from "effect/Predicate"
import * as Scope from "effect/Scope"
import { Buffer } from "node:buffer"
import { randomUUID } from "node:crypto"
import { processUser, strangerOf, strictModes, strictModesSetting } from "../../encryption/strictModes.ts"
import { StorageInsecure, StorageIoFailed } from "../../errors/StorageError.ts"
import { cleanText } from "../../util/sanitize.ts"
import { shellQuote } from "../../util/shellQuote.ts"
import { DiskGuard, wallClock } from "./DiskGuard.ts"

/** The file is larger than the limit, and was not read. */
export class FileTooLarge extends Data.TaggedError("FileTooLarge") {}

/** A file with the number of bytes that it may have to be read. */
export interface ReadableFile {
  readonly file: string
  readonly limit: number
}

/** A file that was created by this process and is still open. */
export interface OwnFile {
  /** Overwrites its beginning in place, also after it was renamed or removed. */
  readonly overwrite: (bytes: Uint8Array) => Effect.Effect<void, StorageIoFailed>
  /** Whether its path is known to lead to it still. */
  readonly isInPlace: Effect.Effect<boolean, StorageIoFailed>
}

/** The new content of a file, already flushed to disk. */
export interface Replacement {
  /** Replaces the file, atomically. */
  readonly commit: Effect.Effect<void, StorageIoFailed>
}

const groupAndOthersMayWrite = 0o022
const groupAndOthers = 0o077
/** A file counts as just written for this long: enough for a slow reader, and a file server whose clock is off by seconds. */
const recentMillis = 60_000
/** How long a folder counts as private, once that was checked, for reading. */
const recheckMillis = 1_000
const rereadAfter = "20 millis"
const rereads = 3
const abandonedMillis = 60 * 60 * 1_000
const temporaryName = /^\.aden-[0-9a-f]{32}\.tmp$/

/** The message without the system call: `EACCES: permission denied` of `EACCES: permission denied, open '/x'`. */
const detailOf = (error: PlatformError.PlatformError): string => {
  const { reason } = error
  if (Predicate.hasProperty(reason.cause, "message") && Predicate.isString(reason.cause.message)) {
    return cleanText(reason.cause.message.split(", ", 1)[0] ?? "")
  }
  return cleanText(reason.description ?? reason._tag)
}

const isNotFound = (error: PlatformError.PlatformError): boolean => error.reason._tag === "NotFound"

const isTaken = (error: PlatformError.PlatformError): boolean => error.reason._tag === "AlreadyExists"

/** Changes when the file is replaced, and when it is written in place (by its time). */
const identityOf = ({ ino, mtime, size }: FileSystem.File.Info): Option.Option<string> =>
  Option.map(mtime, (mtime) => `${Option.getOrElse(ino, () => 0n)} ${mtime.getTime()} ${ByteSize.toBigInt(size)}`)

/** The size of a file that can be read; `undefined` for what is not a file, or larger than the limit. */
const readableSize = ({ size, type }: FileSystem.File.Info, limit: number): number | undefined => {
  const bytes = Number(ByteSize.toBigInt(size))
  return type === "File" && bytes <= limit ? bytes : undefined
}

const failed = (location: string) => (error: PlatformError.PlatformError) =>
  new StorageIoFailed({ location: cleanText(location), detail: detailOf(error) })

const isLink = (location: string) =>
  new StorageInsecure({
    location: cleanText(location),
    detail: "is a symbolic link, which is not followed",
    mend: `rm ${shellQuote(location)}`
  })

const optional = <A>(effect: Effect.Effect<A, PlatformError.PlatformError>) =>
  effect.pipe(Effect.map(Option.some), Effect.catchIf(isNotFound, () => Effect.succeedNone))

/**
 * Reads a file that had this size. It may have been replaced since, by a longer or shorter one. A write in place that is under way
 * shows later: its token is incomplete.
 */
const readOpened = (handle: FileSystem.File, size: number, limit: number) =>
  // a byte more, which shows in the same call whether there is more
  Effect.flatMap(handle.readAlloc(size + 1), (read) => {
    const first = Option.getOrElse(read, () => new Uint8Array())
    return first.length === size ? Effect.succeed(first) : readOn(handle, first, limit)
  })

/** Reads the rest of a file that turned out to have another size. */
const readOn = (handle: FileSystem.File, first: Uint8Array, limit: number) =>
  Effect.gen(function*() {
    const length = Number(ByteSize.toBigInt((yield* handle.stat).size))
    if (length > limit) return yield* new FileTooLarge()
    const parts = [first]
    for (let missing = length - first.length; missing > 0;) {
      const part = yield* handle.readAlloc(missing)
      if (Option.isNone(part)) break
      parts.push(part.value)
      missing -= part.value.length
    }
    return Buffer.concat(parts)
  })

/** Access to the private files of one directory. */
export class PrivateFiles {
  readonly #fs: FileSystem.FileSystem
  readonly #path: Path.Path
  readonly #disk = new DiskGuard()
  /** When folders were found to be in order, in ms. */
  readonly #checkedAt = new Map<string, number>()
  /** Windows has no POSIX modes, and reports files as open to all. */
  readonly windows: boolean
  /** Whether owner and mode are checked. */
  readonly #isStrict: boolean

  constructor(fs: FileSystem.FileSystem, path: Path.Path, isStrict: boolean) {
    this.#fs = fs
    this.#path = path
    this.windows = path.sep !== "/"
    this.#isStrict = isStrict && !this.windows
  }

  #open(file: string, flag: FileSystem.OpenFlag, mode?: number) {
    return this.#fs.open(file, { flag, mode, noFollow: true }).pipe(
      // where the system cannot refuse links on opening, the `lstat` before has to do
      Effect.catchIf((error) => error.reason._tag === "BadArgument", () => this.#fs.open(file, { flag, mode }))
    )
  }

  /** Reads a file of at most `limit` bytes; none when there is none. A link, a directory or a device is an error. */
  read(
    file: string,
    limit: number
  ): Effect.Effect<Option.Option<Uint8Array>, StorageIoFailed | StorageInsecure | FileTooLarge> {
    return this.#disk.step(file)(Effect.gen({ self: this }, function*() {
      const info = yield* optional(this.#fs.lstat(file)).pipe(Effect.mapError(failed(file)))
      if (Option.isNone(info)) return Option.none()
      const { size, type } = info.value
      if (type === "SymbolicLink") return yield* isLink(file)
      if (type !== "File") {
        return yield* new StorageIoFailed({
          location: cleanText(file),
          detail: `is a ${type.toLowerCase()}, not a file`
        })
      }
      if (ByteSize.toBigInt(size) > limit) return yield* new FileTooLarge()
      return yield* this.#readBytes(file, Number(ByteSize.toBigInt(size)), limit).pipe(
        Effect.asSome,
        Effect.catchTag(
          "PlatformError",
          (error) => isNotFound(error) ? Effect.succeedNone : Effect.fail(failed(file)(error))
        )
      )
    }))
  }

  #readBytes(file: string, size: number, limit: number) {
    return Effect.scoped(Effect.flatMap(this.#open(file, "r"), (handle) => readOpened(handle, size, limit)))
  }

  /**
   * Reads two files as they were at one moment: `steady` is opened after `other`, and is the file that it was before. None when it
   * was replaced, and when one of them is not there, not a file, larger than its limit or cannot be read: they have to be read one
   * by one then.
   */
  readTogether(
    steady: ReadableFile,
    other: ReadableFile
  ): Effect.Effect<Option.Option<readonly [steady: Uint8Array, other: Uint8Array]>> {
    return this.#disk.openingStep(other.file, (answered) =>
      Effect.gen({ self: this }, function*() {
        const before = yield* this.#fs.lstat(steady.file)
        const size = readableSize(before, steady.limit)
        const otherSize = readableSize(yield* this.#fs.lstat(other.file), other.limit)
        if (size === undefined || otherSize === undefined) return Option.none()
        yield* answered
        const otherHandle = yield* this.#open(other.file, "r")
        const handle = yield* this.#open(steady.file, "r")
        yield* answered
        const identity = identityOf(yield* handle.stat)
        if (Option.isNone(identity) || !Equal.equals(identity, identityOf(before))) return Option.none()
        const bytes = yield* readOpened(handle, size, steady.limit)
        return Option.some([bytes, yield* readOpened(otherHandle, otherSize, other.limit)] as const)
      })).pipe(Effect.orElseSucceed(() => Option.none()))
  }

  #isBeingWritten(file: string) {
    return Effect.gen({ self: this }, function*() {
      const info = yield* this.#disk.step(file)(Effect.option(this.#fs.lstat(file)))
      const now = yield* Clock.currentTimeMillis
      return Option.flatMap(info, ({ mtime }) => mtime).pipe(
        Option.exists((mtime) => Math.abs(now - mtime.getTime()) < recentMillis)
      )
    })
  }

  /**
   * Retries a read with torn content for a moment if the file was just written, because Hive writes in place. Content that is still
   * torn then is returned as it is.
   */
  rereadTorn<A, E>(file: string, read: Effect.Effect<A, E>, isTorn: (content: A) => boolean): Effect.Effect<A, E> {
    return Effect.flatMap(read, (content) => {
      if (!isTorn(content)) return Effect.succeed(content)
      const again = Effect.repeat(Effect.delay(read, rereadAfter), {
        times: rereads - 1,
        while: isTorn
      })
      return Effect.flatMap(this.#isBeingWritten(file), (written) => written ? again : Effect.succeed(content))
    })
  }

  /**
   * Flushes a folder to disk. Failures are ignored: they only lose the guarantee after a power cut.
   */
  flush(folder: string): Effect.Effect<void> {
    return this.#fs.open(folder, { flag: "r" }).pipe(
      Effect.flatMap((handle) => handle.sync),
      Effect.scoped,
      Effect.ignore,
      this.#disk.step(folder)
    )
  }

  #temporaryIn(folder: string) {
    return this.#path.join(folder, `.aden-${randomUUID().replaceAll("-", "")}.tmp`)
  }

  /**
   * Writes the new content to a temporary file beside the target, which is removed when the scope closes unless it was committed.
   * Not interruptible: closing a file while the system still writes to it could write into another one.
   */
  prepare(
    file: string,
    bytes: Uint8Array
  ): Effect.Effect<Replacement, StorageIoFailed, Scope.Scope> {
    return Effect.gen({ self: this }, function*() {
      const temporary = this.#temporaryIn(this.#path.dirname(file))
      let isCommitted = false
      const discard = Effect.suspend(() =>
        isCommitted ? Effect.void : this.#disk.step(temporary)(Effect.ignore(this.#fs.remove(temporary)))
      )
      yield* Effect.acquireRelease(
        this.#open(temporary, "wx", 0o600).pipe(
          Effect.flatMap((handle) => Effect.andThen(handle.writeAll(bytes), handle.sync)),
          Effect.scoped,
          Effect.mapError(failed(file)),
          this.#disk.step(file),
          Effect.onError(() => discard)
        ),
        () => discard
      )
      return {
        commit: this.#disk.step(file)(this.#fs.rename(temporary, file)).pipe(
          Effect.tap(() => Effect.sync(() => isCommitted = true)),
          Effect.uninterruptible,
          Effect.mapError(failed(file))
        )
      }
    })
  }

  /**
   * Replaces a file atomically: readers, also after a crash at any moment, see the old or the new content. `check` runs just before
   * the commit; when it fails, the old content stays.
   */
  write<E>(
    file: string,
    bytes: Uint8Array,
    check: Effect.Effect<void, E>
  ): Effect.Effect<void, E | StorageIoFailed> {
    return this.prepare(file, bytes).pipe(
      Effect.flatMap(({ commit }) => Effect.andThen(check, commit)),
      Effect.scoped,
      Effect.andThen(this.flush(this.#path.dirname(file))),
      Effect.uninterruptible
    )
  }

  /**
   * Creates a file exclusively, with its content from the first moment on; none when anything exists at its path. Without hard
   * links, the content follows a moment later. The file stays open until the scope closes. With `isLasting`, it is flushed to
   * disk before it appears.
   */
  create(
    file: string,
    bytes: Uint8Array,
    options?: { readonly isLasting: boolean }
  ): Effect.Effect<Option.Option<OwnFile>, StorageIoFailed, Scope.Scope> {
    return Effect.gen({ self: this }, function*() {
      const temporary = this.#temporaryIn(this.#path.dirname(file))
      const opened = yield* Scope.fork(yield* Effect.scope)
      const written = this.#open(temporary, "wx", 0o600).pipe(
        Effect.tap((handle) => handle.writeAll(bytes)),
        Effect.tap((handle) => options?.isLasting === true ? handle.sync : Effect.void),
        Scope.provide(opened)
      )
      return yield* written.pipe(
        Effect.flatMap((handle) =>
          Effect.catchIf(
            Effect.asSome(this.#putInPlace(temporary, file, handle)),
            isTaken,
            () => Effect.as(Scope.close(opened, Exit.void), Option.none<OwnFile>())
          )
        ),
        Effect.ensuring(Effect.ignore(this.#fs.remove(temporary))),
        Effect.onError((cause) => Scope.close(opened, Exit.failCause(cause))),
        Effect.mapError(failed(file))
      )
    }).pipe(this.#disk.step(file), Effect.uninterruptible)
  }

  /** Gives an open file its name, unless that is taken. */
  #putInPlace(temporary: string, file: string, handle: FileSystem.File) {
    // without hard links: who made the name may replace what it leads to
    const replaceOwn = Effect.scoped(this.#open(file, "wx", 0o600)).pipe(
      Effect.andThen(Effect.onError(this.#fs.rename(temporary, file), () => Effect.ignore(this.#fs.remove(file))))
    )
    return Effect.andThen(
      Effect.catchIf(this.#fs.link(temporary, file), (error) => !isTaken(error), () => replaceOwn),
      this.#ownFile(file, handle)
    )
  }

  /** While a file is open, its inode is not reused, so the same inode means the same file. */
  #ownFile(
    file: string,
    handle: FileSystem.File
  ): Effect.Effect<OwnFile, PlatformError.PlatformError> {
    return Effect.gen({ self: this }, function*() {
      const { ino } = yield* handle.stat
      return {
        overwrite: (bytes) =>
          Effect.andThen(handle.seek(0n, "start"), handle.writeAll(bytes)).pipe(
            this.#disk.step(file),
            Effect.uninterruptible,
            Effect.mapError(failed(file))
          ),
        isInPlace: this.#disk.step(file)(optional(this.#fs.lstat(file))).pipe(
          Effect.map((found) => Option.isSome(ino) && Option.exists(found, (info) => Equal.equals(info.ino, ino))),
          Effect.mapError(failed(file))
        )
      }
    })
  }

  /** Removes a file, or a link without following it; `false` when there was none. */
  remove(file: string): Effect.Effect<boolean, StorageIoFailed> {
    return this.#disk.step(file)(this.#fs.remove(file)).pipe(
      Effect.as(true),
      Effect.catchIf(isNotFound, () => Effect.succeed(false)),
      Effect.uninterruptible,
      Effect.mapError(failed(file))
    )
  }

  /** The names with this suffix in a folder, without the suffix; empty when there is no folder. */
  names(folder: string, suffix: string): Effect.Effect<ReadonlyArray<string>, StorageIoFailed> {
    return this.#disk.step(folder)(this.#fs.readDirectory(folder)).pipe(
      Effect.map((all) =>
        all.filter((name) => name.endsWith(suffix)).map((name) => name.slice(0, name.length - suffix.length))
      ),
      Effect.catchIf(isNotFound, () => Effect.succeed([])),
      Effect.mapError(failed(folder))
    )
  }

  /** Whether the folder exists. One of another user, or that others can write, is refused: they could replace its files. */
  checkFolder(folder: string) {
    return Effect.gen({ self: this }, function*() {
      const now = wallClock.currentTimeMillisUnsafe()
      this.#checkedAt.delete(folder)
      const info = yield* this.#disk.step(folder)(optional(this.#fs.stat(folder))).pipe(Effect.mapError(failed(folder)))
      if (Option.isNone(info)) return false
      if (info.value.type !== "Directory") {
        return yield* new StorageIoFailed({ location: cleanText(folder), detail: "is not a directory" })
      }
      const user = processUser()
      const stranger = this.#isStrict ? strangerOf(info.value, user) : undefined
      if (stranger !== undefined) {
        return yield* new StorageInsecure({
          location: cleanText(folder),
          detail: `belongs to user ${stranger}, who can replace its files (${strictModesSetting}=false allows that)`,
          mend: `chown -Rh ${user?.uid} ${shellQuote(`${folder}${this.#path.sep}`)}`
        })
      }
      if (this.#isStrict && (info.value.mode & groupAndOthersMayWrite) !== 0) {
        return yield* new StorageInsecure({
          location: cleanText(folder),
          detail: "can be written by others",
          mend: `chmod go-w ${shellQuote(folder)}`
        })
      }
      this.#checkedAt.set(folder, now)
      return true
    })
  }

  /** Like `checkFolder`, for reading: a folder that was in order is looked at again after a second. */
  checkFolderForReading(folder: string) {
    return Effect.suspend(() => {
      const age = wallClock.currentTimeMillisUnsafe() - (this.#checkedAt.get(folder) ?? -Infinity)
      return age >= 0 && age < recheckMillis ? Effect.succeed(true) : this.checkFolder(folder)
    })
  }

  /** Fails when the folder is not writable, or is missing and cannot be created. Does not detect a full disk. */
  checkWritable(folder: string): Effect.Effect<void, StorageIoFailed> {
    return Effect.flatMap(
      Effect.mapError(optional(this.#fs.access(folder, { writable: true })), failed(folder)),
      (isThere) =>
        Option.isSome(isThere) || this.#path.dirname(folder) === folder
          ? Effect.void
          : this.checkWritable(this.#path.dirname(folder))
    )
  }

  /** Creates the parents one by one: Node's recursive option loops forever where the system refuses with ENOENT, as in /proc. */
  #makeFolder(folder: string): Effect.Effect<void, PlatformError.PlatformError> {
    const make = this.#disk.step(folder)(this.#fs.makeDirectory(folder, { mode: 0o700 }))
    return make.pipe(
      Effect.catchIf(
        (error) => isNotFound(error) && this.#path.dirname(folder) !== folder,
        () => Effect.andThen(this.#makeFolder(this.#path.dirname(folder)), make)
      ),
      Effect.catchIf(isTaken, () => Effect.void)
    )
  }

  /** Creates the folder if it is missing, accessible only to its owner. */
  ensureFolder(folder: string) {
    return Effect.gen({ self: this }, function*() {
      if (yield* this.checkFolder(folder)) return
      yield* this.#makeFolder(folder).pipe(Effect.mapError(failed(folder)))
      if (yield* this.checkFolder(folder)) return
      return yield* new StorageIoFailed({ location: cleanText(folder), detail: "is a link to nothing" })
    })
  }

  /** Like `ensureFolder`, and refuses a link. */
  ensureOwnFolder(folder: string) {
    return Effect.gen({ self: this }, function*() {
      const info = yield* this.#disk.step(folder)(optional(this.#fs.lstat(folder))).pipe(
        Effect.mapError(failed(folder))
      )
      if (Option.exists(info, ({ type }) => type === "SymbolicLink")) return yield* isLink(folder)
      yield* this.ensureFolder(folder)
    })
  }

  /** Like `ensureOwnFolder`, and refuses a folder that others can access. */
  ensureClosedFolder(folder: string) {
    return Effect.gen({ self: this }, function*() {
      const info = yield* this.#disk.step(folder)(optional(this.#fs.lstat(folder))).pipe(
        Effect.mapError(failed(folder))
      )
      if (
        !this.windows && Option.exists(info, ({ mode, type }) => type === "Directory" && (mode & groupAndOthers) !== 0)
      ) {
        return yield* new StorageInsecure({
          location: cleanText(folder),
          detail: "is open to others",
          mend: `chmod go-rwx ${shellQuote(folder)}`
        })
      }
      yield* this.ensureOwnFolder(folder)
    })
  }

  #removeIfAbandoned(file: string) {
    return Effect.gen({ self: this }, function*() {
      const { mtime, type } = yield* this.#disk.step(file)(this.#fs.lstat(file))
      const now = yield* Clock.currentTimeMillis
      if (type !== "File" || !Option.exists(mtime, (mtime) => now - mtime.getTime() > abandonedMillis)) return
      yield* this.#disk.step(file)(this.#fs.remove(file))
    })
  }

  /** Removes temporary files of writers that died, after an hour. Failures are ignored. */
  removeAbandoned(folder: string): Effect.Effect<void> {
    return this.#disk.step(folder)(this.#fs.readDirectory(folder)).pipe(
      Effect.map((names) => names.filter((name) => temporaryName.test(name))),
      Effect.flatMap(Effect.forEach((name) => Effect.ignore(this.#removeIfAbandoned(this.#path.join(folder, name))), {
        discard: true
      })),
      Effect.ignore
    )
  }

  /** A fingerprint of a file's content, see {@link identityOf}. */
  fingerprint(file: string): Effect.Effect<Option.Option<string>> {
    return this.#disk.step(file)(this.#fs.lstat(file)).pipe(
      Effect.map(identityOf),
      Effect.orElseSucceed(() => Option.none())
    )
  }

  /** When a file or folder was last written, in ms; `undefined` when that cannot be told. */
  modifiedAt(location: string): Effect.Effect<number | undefined> {
    return this.#disk.step(location)(this.#fs.lstat(location)).pipe(
      Effect.map(({ mtime }) => Option.getOrUndefined(mtime)?.getTime()),
      Effect.orElseSucceed(() => undefined)
    )
  }

  /** The path of a file in a folder. */
  fileIn(folder: string, name: string): string {
    return this.#path.join(folder, name)
  }

  /** Runs an operation. It is given up when the disk hangs, also where it cannot be interrupted. */
  orGiveUp<A, E, R>(operation: Effect.Effect<A, E, R>): Effect.Effect<A, E | StorageIoFailed, R> {
    return this.#disk.orGiveUp(operation)
  }
}

/** Private files on the disk of the context. */
export const makePrivateFiles = Effect.gen(function*() {
  // a setting that makes no sense is an error where keys are read, and lets nothing through here
  const isStrict = yield* Effect.orElseSucceed(strictModes, () => true)
  return new PrivateFiles(yield* FileSystem.FileSystem, yield* Path.Path, isStrict)
})
