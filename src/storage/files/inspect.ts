/**
 * Facts about a directory: who can access it, which files can be decrypted, and whether index, states and locks are intact. Writes
 * nothing.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import { Buffer } from "node:buffer"
import { statfs } from "node:fs/promises"
import process from "node:process"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { processUser, strangerOf, strictModes, strictModesSetting } from "../../encryption/strictModes.ts"
import { CredentialStorageError, StorageIoFailed } from "../../errors/StorageError.ts"
import type { StorageInsecure } from "../../errors/StorageError.ts"
import type { Credential } from "../../model/Credential.ts"
import { cleanText } from "../../util/sanitize.ts"
import { shellQuote } from "../../util/shellQuote.ts"
import { ofAnotherTenant, tenantOf } from "../format/HiveDocument.ts"
import type { HiveDocument } from "../format/HiveDocument.ts"
import { decodeIndex } from "../format/HiveIndex.ts"
import { belongsTo, escapedName, plainName } from "../format/names.ts"
import { decodeState } from "../format/StateRecord.ts"
import { failed, failure, ok, rebuiltOnWrite, skipped, warning } from "../inspect.ts"
import type { Fact, Subject } from "../inspect.ts"
import { leaseMillis } from "../lease.ts"
import { cannotOpen, count, issuerFacts, openingFacts, some } from "../openingFacts.ts"
import type { Unopened } from "../openingFacts.ts"
import { CredentialFiles } from "./CredentialFiles.ts"
import { isLockName } from "./DirectoryLock.ts"
import { FileLocks } from "./FileLock.ts"
import { makePrivateFiles } from "./PrivateFiles.ts"
import type { PrivateFiles } from "./PrivateFiles.ts"
import { CurrentProcess } from "./ProcessIdentity.ts"
import { tenantDirectory, tenantFolders } from "./tenantFolders.ts"

const concurrency = 8
const maximumIndexBytes = 64 * 1024 * 1024
const maximumStateBytes = 64 * 1024

const unusable = (subject: Subject, location: string, reason: StorageInsecure | StorageIoFailed): Fact =>
  failed(subject, new CredentialStorageError({ id: undefined, operation: "inspect what is stored", reason }), [
    location
  ])

/** All facts about a directory and the tenants' folders in it. Without keys, files are not decrypted. */
export const inspectFiles = Effect.fnUntraced(function*(
  directory: string,
  keys: FernetKeys | undefined
): Effect.fn.Return<ReadonlyArray<Fact>, never, FileSystem.FileSystem | Path.Path> {
  const files = yield* makePrivateFiles
  const own = yield* folderFacts(files, directory, keys, false)
  // a directory that cannot be read was reported above
  const tenants = yield* Effect.orElseSucceed(tenantFolders(files, directory), () => [])
  const ofTenants = yield* Effect.forEach(tenants, ({ location }) => folderFacts(files, location, keys, true))
  return [...own, ...ofTenants.flat().filter(({ status }) => status !== "ok")]
})

const folderFacts = Effect.fnUntraced(function*(
  files: PrivateFiles,
  directory: string,
  keys: FernetKeys | undefined,
  isTenant: boolean
): Effect.fn.Return<ReadonlyArray<Fact>, never, FileSystem.FileSystem | Path.Path> {
  const path = yield* Path.Path
  const fs = yield* FileSystem.FileSystem
  if (!(yield* Effect.orElseSucceed(fs.exists(directory), () => true))) {
    const unwritable = yield* unwritableFacts(files, [directory])
    return unwritable.length > 0
      ? unwritable
      : [ok("directory", `${directory} does not exist yet; the first write creates it`)]
  }
  const folders = {
    credentials: path.join(directory, "credentials"),
    metadata: path.join(directory, "metadata"),
    state: path.join(directory, "state"),
    locks: path.join(directory, "locks")
  }
  // nothing more can be found out about a directory that cannot be read
  const cannotEnter = yield* Effect.match(fs.readDirectory(directory), {
    onFailure: ({ reason }) => reason._tag,
    onSuccess: () => undefined
  })
  if (cannotEnter !== undefined) return [cannotLookAt(directory, cannotEnter)]
  // a setting that makes no sense is reported with the key
  const isStrict = yield* Effect.orElseSucceed(strictModes, () => true)
  const access = isStrict
    ? [
      ...(yield* ownerFacts([directory, ...Object.values(folders)])),
      ...(yield* Effect.forEach([directory, ...Object.values(folders)], folderMode)).flat(),
      ...(yield* Effect.forEach([folders.credentials, folders.metadata, folders.state], fileModes)).flat()
    ]
    : []
  const faults = [...access, ...(yield* unwritableFacts(files, Object.values(folders)))]
  const allowed = isStrict
    ? "is accessible only to its owner"
    : `is used whatever its owner and modes are: ${strictModesSetting} is false`
  return [
    ...(faults.length === 0 ? [ok("directory", `${directory} ${allowed}`)] : faults),
    ...(keys === undefined
      // reported once, not for each tenant
      ? isTenant ? [] : [skipped("credentials", "There is no key to open them with")]
      : yield* credentialFacts(files, folders, keys, isTenant)),
    ...(yield* stateFacts(files, folders.state)),
    ...(yield* lockFacts(files, folders.locks))
  ]
})

/** Fails as the next save would, as far as that can be found out without writing. */
export const checkSaving = Effect.fnUntraced(function*(directory: string) {
  const path = yield* Path.Path
  const files = yield* makePrivateFiles
  yield* Effect.forEach(
    ["credentials", "state", "metadata", "locks"],
    (folder) => checkWritable(files, path.join(directory, folder)),
    { discard: true }
  )
})

// modes ---------------------------------------------------------------------------------------------------------------

/** Windows has no POSIX modes. */
const hasModes = (path: Path.Path): boolean => path.sep === "/"

/** Fails with the tag of the platform error. */
const modeOf = Effect.fnUntraced(function*(location: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const { mode, type } = yield* Effect.mapError(fs.stat(location), ({ reason }) => reason._tag)
  return { type, mode: hasModes(path) ? mode : 0 }
})

const refuse = (folder: string, message: string, remedy: string): Fact =>
  failure("directory", { message: `${folder} ${message}`, remedy, locations: [folder] })

const cannotLookAt = (folder: string, why: string): Fact =>
  refuse(folder, `cannot be read (${why})`, "Check that it is a directory, and that this user may read it.")

const folderMode = Effect.fnUntraced(function*(folder: string) {
  const info = yield* Effect.result(modeOf(folder))
  if (Result.isFailure(info)) return info.failure === "NotFound" ? [] : [cannotLookAt(folder, info.failure)]
  const { mode, type } = info.success
  if (type !== "Directory") return [refuse(folder, "is not a directory", "Move it away.")]
  if ((mode & 0o077) === 0) return []
  const message = (mode & 0o022) === 0
    ? "can be read by others: they see ids and types"
    : "can be written by others, so it is not used"
  return [refuse(folder, message, `Run: chmod go-rwx ${shellQuote(folder)}`)]
})

/** One finding for all folders that are not writable, because mostly it is the disk. */
const unwritableFacts = Effect.fnUntraced(function*(files: PrivateFiles, folders: ReadonlyArray<string>) {
  const [, reasons] = yield* Effect.partition(folders, (folder) => checkWritable(files, folder))
  const [first] = reasons
  if (first === undefined) return []
  const error = new CredentialStorageError({ id: undefined, operation: "write", reason: first })
  return [failed("directory", error, Array.from(new Set(reasons.map(({ location }) => location))))]
})

/** Folders that belong to another user than this process's or root. A subfolder of such a folder is not reported again. */
const ownerFacts = Effect.fnUntraced(function*(folders: ReadonlyArray<string>) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const user = processUser()
  const facts: Array<Fact> = []
  for (const folder of folders) {
    const info = yield* Effect.option(fs.stat(folder))
    const stranger = Option.isNone(info) ? undefined : strangerOf(info.value, user)
    if (stranger === undefined) continue
    facts.push(refuse(
      folder,
      `belongs to user ${stranger}, who can replace its files, so it is not used (${strictModesSetting}=false allows that)`,
      `Run: chown -Rh ${user?.uid} ${shellQuote(`${folder}${path.sep}`)}`
    ))
    // the command of the remedy includes the subfolders
    if (folder === folders[0]) break
  }
  return facts
})

const fileModes = Effect.fnUntraced(function*(folder: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const names = yield* Effect.orElseSucceed(fs.readDirectory(folder), () => [])
  // not the targets of links, which are not part of the directory
  const open = yield* Effect.filter(names, (name) =>
    Effect.match(fs.lstat(path.join(folder, name)), {
      onFailure: () => false,
      onSuccess: ({ mode, type }) => type === "File" && hasModes(path) && (mode & 0o077) !== 0
    }), { concurrency })
  if (open.length === 0) return []
  return [
    failure("directory", {
      message: `${count(open.length, "file")} in ${folder} open to others: ${some(open)}`,
      // `find -type f`, because chmod follows links
      remedy: `Run: find ${shellQuote(`${folder}${path.sep}`)} -maxdepth 1 -type f -exec chmod go-rwx {} +`,
      locations: open.map((name) => path.join(folder, name))
    })
  ]
})

// credentials ---------------------------------------------------------------------------------------------------------

const credentialFacts = Effect.fnUntraced(function*(
  files: PrivateFiles,
  folders: { readonly credentials: string; readonly metadata: string },
  keys: FernetKeys,
  isTenant: boolean
) {
  const path = yield* Path.Path
  const credentials = new CredentialFiles(files, folders.credentials, keys, undefined)
  const names = yield* Effect.result(credentials.names)
  if (Result.isFailure(names)) return [unusable("credentials", folders.credentials, names.failure)]
  const opened = yield* Effect.forEach(
    names.success,
    (name) => Effect.map(Effect.result(credentials.open(name)), (content) => ({ name, content })),
    { concurrency }
  )

  const ids = new Map<string, string>()
  const unopened: Array<Unopened> = []
  const facts: Array<Fact> = []
  const found: Array<{ readonly credential: Credential; readonly location: string }> = []
  const directory = path.dirname(folders.credentials)
  /** Whether the file was copied from another tenant's folder. */
  const isForeign = (stored: HiveDocument) => {
    const owner = tenantOf(stored)
    return isTenant && owner !== undefined &&
      !(Predicate.isString(owner) && tenantDirectory(path, path.dirname(directory), owner) === directory)
  }
  for (const { content, name } of opened) {
    const location = credentials.fileOf(name)
    if (Result.isFailure(content)) {
      facts.push(unusable("credentials", location, content.failure))
    } else if (Option.isSome(content.success)) {
      const stored = content.success.value
      if (Result.isFailure(stored)) unopened.push({ id: name, location, detail: stored.failure })
      else if (isForeign(stored.success)) facts.push(cannotOpen({ id: name, location, detail: ofAnotherTenant }))
      else if (belongsTo(stored.success.credential.id, name)) {
        ids.set(stored.success.credential.id, name)
        found.push({ credential: stored.success.credential, location })
      } else facts.push(cannotOpen({ id: name, location, detail: "it holds another credential" }))
    } else if (name.includes("\ufffd")) {
      facts.push(failure("credentials", {
        message: `The name of ${location} is not UTF-8 text: the file cannot be opened`,
        remedy: "Rename it, or move it away.",
        locations: [location]
      }))
    }
  }
  const opening = openingFacts({
    opened: ids.size,
    unopened,
    others: facts,
    isTenant,
    location: folders.credentials,
    noun: "file",
    flag: "--directory"
  })
  return [...opening, ...issuerFacts(found), yield* indexFact(files, folders.metadata, ids, names.success)]
})

// index and states ----------------------------------------------------------------------------------------------------

const indexFact = Effect.fnUntraced(function*(
  files: PrivateFiles,
  folder: string,
  ids: ReadonlyMap<string, string>,
  names: ReadonlyArray<string>
) {
  const location = files.fileIn(folder, "index.json")
  const indexWarning = (message: string) => warning("index", { message, remedy: rebuiltOnWrite, locations: [location] })
  const read = yield* Effect.result(files.read(location, maximumIndexBytes))
  if (Result.isFailure(read)) {
    return read.failure._tag === "FileTooLarge"
      ? indexWarning(`${location} is too large to be an index`)
      : unusable("index", location, read.failure)
  }
  if (Option.isNone(read.success)) {
    return names.length === 0
      ? ok("index", "No index, and nothing to list")
      : indexWarning(`${location} is missing, so Hive lists no credentials`)
  }
  const index = decodeIndex(Buffer.from(read.success.value).toString("utf8"))
  if (index === undefined) return indexWarning(`${location} cannot be read as an index`)
  const missing = Array.from(ids.keys()).filter((id) => !index.entries.has(id))
  const there = new Set(names)
  const left = Array.from(index.entries.keys()).filter((id) => !there.has(plainName(id)) && !there.has(escapedName(id)))
  if (missing.length === 0 && left.length === 0) return ok("index", "It lists the stored credentials")
  const differences = [
    ...(missing.length === 0 ? [] : [`it lacks ${some(missing)}`]),
    ...(left.length === 0 ? [] : [`it lists ${some(left)}, which is not stored`])
  ]
  return indexWarning(`${location} is out of step: ${differences.join("; ")}`)
})

const stateFacts = Effect.fnUntraced(function*(files: PrivateFiles, folder: string) {
  const names = yield* Effect.orElseSucceed(files.names(folder, ".json"), () => [])
  const records = yield* Effect.forEach(names, (name) => {
    const location = files.fileIn(folder, `${name}.json`)
    return Effect.map(Effect.result(files.read(location, maximumStateBytes)), (read) => ({ location, read }))
  }, { concurrency })
  const broken: Array<string> = []
  const facts: Array<Fact> = []
  for (const { location, read } of records) {
    if (Result.isSuccess(read)) {
      const isState = (bytes: Uint8Array) => Option.isSome(decodeState(Buffer.from(bytes).toString("utf8")))
      if (Option.isSome(read.success) && !isState(read.success.value)) broken.push(location)
    } else if (read.failure._tag === "FileTooLarge") broken.push(location)
    else facts.push(unusable("state", location, read.failure))
  }
  if (broken.length > 0) {
    facts.push(warning("state", {
      message: `${count(broken.length, "state record")} cannot be read and will be ignored: ${some(broken)}`,
      remedy: rebuiltOnWrite,
      locations: broken
    }))
  }
  return facts
})

/** Held locks are normal. A lock is reported when its holder has ended or does not renew it. */
const lockFacts = Effect.fnUntraced(function*(files: PrivateFiles, folder: string) {
  const fs = yield* FileSystem.FileSystem
  const names = yield* Effect.result(files.names(folder, ""))
  if (Result.isFailure(names)) return [unusable("locks", folder, names.failure)]
  const locks = new FileLocks(files, folder, yield* yield* CurrentProcess)
  const now = yield* Clock.currentTimeMillis

  const isSilent = (location: string) =>
    Effect.match(fs.stat(location), {
      onFailure: () => false,
      onSuccess: ({ mtime }) => Option.exists(mtime, (mtime) => now - mtime.getTime() > leaseMillis)
    })

  const facts = yield* Effect.forEach(
    names.success.filter(isLockName),
    Effect.fnUntraced(function*(name): Effect.fn.Return<ReadonlyArray<Fact>> {
      const lockFolder = files.fileIn(folder, name)
      if (yield* isLink(fs, lockFolder)) {
        return [failure("locks", {
          message: `${lockFolder} is a symbolic link, which is not followed`,
          remedy: `Run: rm ${shellQuote(lockFolder)}`,
          locations: [lockFolder]
        })]
      }
      const isThere = yield* Effect.result(files.checkFolder(lockFolder))
      if (Result.isFailure(isThere)) return [unusable("locks", lockFolder, isThere.failure)]
      const held = yield* Effect.result(locks.heldBy(name))
      if (Result.isFailure(held)) return [unusable("locks", held.failure.location, held.failure)]
      if (held.success === undefined) return []
      const { isGone, location, pid } = held.success
      if (!isGone && !(yield* isSilent(location))) return []
      const holder = pid === undefined ? "a process" : `process ${pid}`
      return [warning("locks", {
        message: `${location} is held by ${holder}, which ${isGone ? "has ended" : "does not renew it"}`,
        remedy: "Nothing to do: the next process that needs it takes it over.",
        locations: [location]
      })]
    })
  )
  return facts.flat()
})

const isLink = (fs: FileSystem.FileSystem, location: string) =>
  Effect.match(fs.lstat(location), { onFailure: () => false, onSuccess: ({ type }) => type === "SymbolicLink" })

// whether a write would succeed ---------------------------------------------------------------------------------------

/** Fails when the folder is not writable, is missing and cannot be created, or the disk is full. */
const checkWritable = Effect.fnUntraced(function*(files: PrivateFiles, folder: string) {
  const path = yield* Path.Path
  yield* files.checkWritable(folder)

  const checkSpace = (location: string): Effect.Effect<void, StorageIoFailed> =>
    Effect.matchEffect(spaceAt(location), {
      // not every file system tells its free space
      onFailure: (isMissing) =>
        isMissing && path.dirname(location) !== location ? checkSpace(path.dirname(location)) : Effect.void,
      onSuccess: (hasSpace) =>
        hasSpace
          ? Effect.void
          : Effect.fail(
            new StorageIoFailed({ location: cleanText(location), detail: "ENOSPC: no space left on device" })
          )
    })
  yield* checkSpace(folder)
})

/** Whether blocks and inodes are left, where the file system counts them. Fails with whether the location is missing. */
const spaceAt = (location: string): Effect.Effect<boolean, boolean> =>
  Effect.tryPromise({
    try: async () => {
      const { bavail, bfree, blocks, ffree, files } = await statfs(location)
      // some blocks are reserved for root
      const blocksLeft = process.getuid?.() === 0 ? bfree : bavail
      return (blocks === 0 || blocksLeft > 0) && (files === 0 || ffree > 0)
    },
    catch: (cause) => Predicate.hasProperty(cause, "code") && cause.code === "ENOENT"
  })
