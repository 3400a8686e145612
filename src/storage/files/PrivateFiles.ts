/**
 * Files that only their owner touches: read without following links, written whole or not at all.
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
import { StorageInsecure, StorageIoFailed } from "../../errors/CredentialError.ts"
import { cleanText } from "../../util/sanitize.ts"
import { shellQuote } from "../../util/shellQuote.ts"

/** A file that is larger than it may be: not read. */
export class FileTooLarge extends Data.TaggedError("FileTooLarge") {}

/** A file that was made here and is still open. */
export interface OwnFile {
  /** Writes over its beginning in place, wherever it is by now. */
  readonly overwrite: (bytes: Uint8Array) => Effect.Effect<void, StorageIoFailed>
  /** Whether its name is known to lead to it still. */
  readonly isInPlace: Effect.Effect<boolean, StorageIoFailed>
}

/** The new content of a file, on the disk already. */
export interface Replacement {
  /** Makes it the file's content, for whoever opens the file from now on. */
  readonly takePlace: Effect.Effect<void, StorageIoFailed>
}

const groupAndOthersMayWrite = 0o022
const groupAndOthers = 0o077
/** Long enough for a slow reader, and for a file server whose clock is some seconds off. */
const recentMillis = 60_000
const rereadAfter = "20 millis"
const rereads = 3
const abandonedMillis = 60 * 60 * 1_000
const temporaryName = /^\.aden-[0-9a-f]{32}\.tmp$/

/** `EACCES: permission denied` out of `EACCES: permission denied, open '/x'`. */
const detailOf = (error: PlatformError.PlatformError): string => {
  const { reason } = error
  if (Predicate.hasProperty(reason.cause, "message") && Predicate.isString(reason.cause.message)) {
    return cleanText(reason.cause.message.split(", ", 1)[0] ?? "")
  }
  return cleanText(reason.description ?? reason._tag)
}

const isNotFound = (error: PlatformError.PlatformError): boolean => error.reason._tag === "NotFound"

export const makePrivateFiles = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  /** Windows has no such modes, and reports them as open to all. */
  const hasModes = path.sep === "/"

  const failed = (location: string) => (error: PlatformError.PlatformError) =>
    new StorageIoFailed({ location: cleanText(location), detail: detailOf(error) })

  const isLink = (location: string) =>
    new StorageInsecure({
      location: cleanText(location),
      detail: "is a symbolic link, which is not followed",
      mend: `rm ${shellQuote(location)}`
    })

  const open = (file: string, flag: FileSystem.OpenFlag, mode?: number) =>
    fs.open(file, { flag, mode, noFollow: true }).pipe(
      // where links cannot be told apart on opening, lstat before has to do
      Effect.catchIf((error) => error.reason._tag === "BadArgument", () => fs.open(file, { flag, mode }))
    )

  const optional = <A>(effect: Effect.Effect<A, PlatformError.PlatformError>) =>
    effect.pipe(Effect.map(Option.some), Effect.catchIf(isNotFound, () => Effect.succeedNone))

  /** Reads a file of at most `limit` bytes; none when there is no file. A link, a directory or a device is an error. */
  const read = Effect.fnUntraced(function*(
    file: string,
    limit: number
  ): Effect.fn.Return<Option.Option<Uint8Array>, StorageIoFailed | StorageInsecure | FileTooLarge> {
    const info = yield* optional(fs.lstat(file)).pipe(Effect.mapError(failed(file)))
    if (Option.isNone(info)) return Option.none()
    const { type } = info.value
    if (type === "SymbolicLink") return yield* isLink(file)
    if (type !== "File") {
      return yield* new StorageIoFailed({ location: cleanText(file), detail: `is a ${type.toLowerCase()}, not a file` })
    }
    return yield* readBytes(file, limit).pipe(
      Effect.asSome,
      Effect.catchTag(
        "PlatformError",
        (error) => isNotFound(error) ? Effect.succeedNone : Effect.fail(failed(file)(error))
      )
    )
  })

  /**
   * As many bytes as the file has when it is opened: another may have taken its place since it was looked at, and a writer in
   * place is noticed by its token, which then is not whole.
   */
  const readBytes = Effect.fnUntraced(
    function*(file: string, limit: number) {
      const handle = yield* open(file, "r")
      const length = Number(ByteSize.toBigInt((yield* handle.stat).size))
      if (length > limit) return yield* new FileTooLarge()
      const parts: Array<Uint8Array> = []
      for (let missing = length; missing > 0;) {
        const part = yield* handle.readAlloc(missing)
        if (Option.isNone(part)) break
        parts.push(part.value)
        missing -= part.value.length
      }
      return Buffer.concat(parts)
    },
    Effect.scoped
  )

  const isBeingWritten = Effect.fnUntraced(function*(file: string) {
    const info = yield* Effect.option(fs.lstat(file))
    const now = yield* Clock.currentTimeMillis
    return Option.flatMap(info, ({ mtime }) => mtime).pipe(
      Option.exists((mtime) => Math.abs(now - mtime.getTime()) < recentMillis)
    )
  })

  /**
   * Reads again, shortly, what looks torn in a file that was written a moment ago: Hive writes in place. What looks torn
   * still is answered as it is.
   */
  const rereadTorn =
    (file: string) => <A, E>(read: Effect.Effect<A, E>, isTorn: (content: A) => boolean): Effect.Effect<A, E> =>
      Effect.flatMap(read, (content) => {
        if (!isTorn(content)) return Effect.succeed(content)
        const again = Effect.repeat(Effect.delay(read, rereadAfter), {
          times: rereads - 1,
          while: isTorn
        })
        return Effect.flatMap(isBeingWritten(file), (written) => written ? again : Effect.succeed(content))
      })

  /**
   * Flushes the names in a folder. That a file system cannot do it only loses the guarantee against a power cut: what was renamed
   * is in its place.
   */
  const flush = (folder: string): Effect.Effect<void> =>
    fs.open(folder, { flag: "r" }).pipe(Effect.flatMap((handle) => handle.sync), Effect.scoped, Effect.ignore)

  const temporaryIn = (folder: string) => path.join(folder, `.aden-${randomUUID().replaceAll("-", "")}.tmp`)

  /**
   * Writes the new content of a file beside it; gone when the scope closes, unless it has taken its place. Not interruptible:
   * closing a file while the system still writes to it could write into another.
   */
  const prepare = Effect.fnUntraced(function*(
    file: string,
    bytes: Uint8Array
  ): Effect.fn.Return<Replacement, StorageIoFailed, Scope.Scope> {
    const temporary = temporaryIn(path.dirname(file))
    let isInPlace = false
    const discard = Effect.suspend(() => isInPlace ? Effect.void : Effect.ignore(fs.remove(temporary)))
    yield* Effect.acquireRelease(
      open(temporary, "wx", 0o600).pipe(
        Effect.flatMap((handle) => Effect.andThen(handle.writeAll(bytes), handle.sync)),
        Effect.scoped,
        Effect.mapError(failed(file)),
        Effect.onError(() => discard)
      ),
      () => discard
    )
    return {
      takePlace: fs.rename(temporary, file).pipe(
        Effect.tap(() => Effect.sync(() => isInPlace = true)),
        Effect.uninterruptible,
        Effect.mapError(failed(file))
      )
    }
  })

  /**
   * Replaces a file: whoever reads it, or finds it after a crash at any moment, sees the old or the new content. When `check`
   * fails, made just before the new content takes its place, the old stays.
   */
  const write = <E>(
    file: string,
    bytes: Uint8Array,
    check: Effect.Effect<void, E>
  ): Effect.Effect<void, E | StorageIoFailed> =>
    prepare(file, bytes).pipe(
      Effect.flatMap(({ takePlace }) => Effect.andThen(check, takePlace)),
      Effect.scoped,
      Effect.andThen(flush(path.dirname(file))),
      Effect.uninterruptible
    )

  /**
   * Makes a file that is not there yet, with its content from the first moment on; none when there is one, or anything else in
   * its place. Where the system has no hard links the content follows a moment later. It stays open until the scope closes. A
   * lasting file is on the disk before it is in its place.
   */
  const create = Effect.fnUntraced(
    function*(
      file: string,
      bytes: Uint8Array,
      options?: { readonly isLasting: boolean }
    ): Effect.fn.Return<Option.Option<OwnFile>, StorageIoFailed, Scope.Scope> {
      const temporary = temporaryIn(path.dirname(file))
      const opened = yield* Scope.fork(yield* Effect.scope)
      const writeTo = (place: string) =>
        open(place, "wx", 0o600).pipe(
          Effect.tap((handle) => handle.writeAll(bytes)),
          Effect.tap((handle) => options?.isLasting === true ? handle.sync : Effect.void),
          Scope.provide(opened)
        )
      const isTaken = (error: PlatformError.PlatformError) => error.reason._tag === "AlreadyExists"
      const inPlace = Effect.fnUntraced(function*(written: FileSystem.File) {
        const handle = yield* fs.link(temporary, file).pipe(
          Effect.as(written),
          Effect.catchIf((error) => !isTaken(error), () => writeTo(file))
        )
        return Option.some(yield* ownFile(file, handle))
      })
      return yield* writeTo(temporary).pipe(
        Effect.flatMap((written) =>
          Effect.catchIf(
            inPlace(written),
            isTaken,
            () => Effect.as(Scope.close(opened, Exit.void), Option.none<OwnFile>())
          )
        ),
        Effect.ensuring(Effect.ignore(fs.remove(temporary))),
        Effect.onError((cause) => Scope.close(opened, Exit.failCause(cause))),
        Effect.mapError(failed(file))
      )
    },
    Effect.uninterruptible
  )

  /** While it is open, the system gives its number to no other file: that of the same number is this one. */
  const ownFile = Effect.fnUntraced(function*(
    file: string,
    handle: FileSystem.File
  ): Effect.fn.Return<OwnFile, PlatformError.PlatformError> {
    const { ino } = yield* handle.stat
    return {
      overwrite: (bytes) =>
        Effect.andThen(handle.seek(0n, "start"), handle.writeAll(bytes)).pipe(
          Effect.uninterruptible,
          Effect.mapError(failed(file))
        ),
      isInPlace: optional(fs.lstat(file)).pipe(
        Effect.map((found) => Option.isSome(ino) && Option.exists(found, (info) => Equal.equals(info.ino, ino))),
        Effect.mapError(failed(file))
      )
    }
  })

  /** Removes a file, or a link itself; `false` when there was none. */
  const remove = (file: string): Effect.Effect<boolean, StorageIoFailed> =>
    fs.remove(file).pipe(
      Effect.as(true),
      Effect.catchIf(isNotFound, () => Effect.succeed(false)),
      Effect.uninterruptible,
      Effect.mapError(failed(file))
    )

  /** The names, without the suffix, of what has this suffix in a folder; none of them when there is no folder. */
  const names = (folder: string, suffix: string): Effect.Effect<ReadonlyArray<string>, StorageIoFailed> =>
    fs.readDirectory(folder).pipe(
      Effect.map((all) =>
        all.flatMap((name) => name.endsWith(suffix) ? [name.slice(0, name.length - suffix.length)] : [])
      ),
      Effect.catchIf(isNotFound, () => Effect.succeed([])),
      Effect.mapError(failed(folder))
    )

  /** Whether the folder is there. One that others can write is refused: they could exchange its files. */
  const checkFolder = Effect.fnUntraced(
    function*(folder: string) {
      const info = yield* optional(fs.stat(folder)).pipe(Effect.mapError(failed(folder)))
      if (Option.isNone(info)) return false
      if (info.value.type !== "Directory") {
        return yield* new StorageIoFailed({ location: cleanText(folder), detail: "is not a directory" })
      }
      if (hasModes && (info.value.mode & groupAndOthersMayWrite) !== 0) {
        return yield* new StorageInsecure({
          location: cleanText(folder),
          detail: "can be written by others",
          mend: `chmod go-w ${shellQuote(folder)}`
        })
      }
      return true
    }
  )

  /** Fails where nothing can be written in the folder, or it is missing and cannot be made. That the disk is full does not show. */
  const checkWritable = (folder: string): Effect.Effect<void, StorageIoFailed> =>
    Effect.flatMap(
      Effect.mapError(optional(fs.access(folder, { writable: true })), failed(folder)),
      (isThere) =>
        Option.isSome(isThere) || path.dirname(folder) === folder ? Effect.void : checkWritable(path.dirname(folder))
    )

  /** Parents first, one by one: Node's own recursion does not end where a system refuses with ENOENT, as /proc does. */
  const makeFolder = (folder: string): Effect.Effect<void, PlatformError.PlatformError> => {
    const make = fs.makeDirectory(folder, { mode: 0o700 })
    return make.pipe(
      Effect.catchIf(
        (error) => isNotFound(error) && path.dirname(folder) !== folder,
        () => Effect.andThen(makeFolder(path.dirname(folder)), make)
      ),
      Effect.catchIf((error) => error.reason._tag === "AlreadyExists", () => Effect.void)
    )
  }

  /** Makes the folder where it is missing, open to its owner alone. */
  const ensureFolder = Effect.fnUntraced(function*(folder: string) {
    if (yield* checkFolder(folder)) return
    yield* makeFolder(folder).pipe(Effect.mapError(failed(folder)))
    if (yield* checkFolder(folder)) return
    return yield* new StorageIoFailed({ location: cleanText(folder), detail: "is a link to nothing" })
  })

  /** The same for a folder that may be no link either. */
  const ensureOwnFolder = Effect.fnUntraced(function*(folder: string) {
    const info = yield* optional(fs.lstat(folder)).pipe(Effect.mapError(failed(folder)))
    if (Option.exists(info, ({ type }) => type === "SymbolicLink")) return yield* isLink(folder)
    yield* ensureFolder(folder)
  })

  /** The same for a folder that nobody else may look into. */
  const ensureClosedFolder = Effect.fnUntraced(function*(folder: string) {
    const info = yield* optional(fs.lstat(folder)).pipe(Effect.mapError(failed(folder)))
    if (hasModes && Option.exists(info, ({ mode, type }) => type === "Directory" && (mode & groupAndOthers) !== 0)) {
      return yield* new StorageInsecure({
        location: cleanText(folder),
        detail: "is open to others",
        mend: `chmod go-rwx ${shellQuote(folder)}`
      })
    }
    yield* ensureOwnFolder(folder)
  })

  const removeIfAbandoned = Effect.fnUntraced(function*(file: string) {
    const { mtime, type } = yield* fs.lstat(file)
    const now = yield* Clock.currentTimeMillis
    if (type !== "File" || !Option.exists(mtime, (mtime) => now - mtime.getTime() > abandonedMillis)) return
    yield* fs.remove(file)
  })

  /** Removes what writers left that died an hour ago or earlier. That some cannot be removed is nobody's failure. */
  const removeAbandoned = (folder: string): Effect.Effect<void> =>
    fs.readDirectory(folder).pipe(
      Effect.map((names) => names.filter((name) => temporaryName.test(name))),
      Effect.flatMap(Effect.forEach((name) => Effect.ignore(removeIfAbandoned(path.join(folder, name))), {
        discard: true
      })),
      Effect.ignore
    )

  /** A file's identity on disk: changes with every replacement, and with every write in place that takes a moment. */
  const fingerprint = (file: string): Effect.Effect<Option.Option<string>> =>
    fs.lstat(file).pipe(
      Effect.map(({ ino, mtime, size }) =>
        Option.map(mtime, (mtime) => `${Option.getOrElse(ino, () => 0n)} ${mtime.getTime()} ${ByteSize.toBigInt(size)}`)
      ),
      Effect.orElseSucceed(() => Option.none())
    )

  /** The path of a file in a folder. */
  const fileIn = (folder: string, name: string): string => path.join(folder, name)

  return {
    read,
    rereadTorn,
    prepare,
    flush,
    write,
    create,
    remove,
    names,
    checkFolder,
    checkWritable,
    ensureFolder,
    ensureOwnFolder,
    ensureClosedFolder,
    removeAbandoned,
    fingerprint,
    fileIn,
    windows: !hasModes
  } as const
})

export type PrivateFiles = Effect.Success<typeof makePrivateFiles>
