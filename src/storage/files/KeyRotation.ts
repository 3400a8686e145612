/**
 * Puts encrypted files under another key.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import type * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { configuredKeys, defaultDirectory, parseKeys } from "../../encryption/keys.ts"
import { CredentialDecryptionFailed, StorageInsecure, StorageIoFailed } from "../../errors/CredentialError.ts"
import type { AdenConfigError, CredentialStorageError, StorageFailure } from "../../errors/CredentialError.ts"
import { CurrentTenant } from "../../model/currentTenant.ts"
import { cleanText } from "../../util/sanitize.ts"
import { shellQuote } from "../../util/shellQuote.ts"
import { inOperation } from "../operation.ts"
import { makeCredentialFiles, WrittenMeanwhile } from "./CredentialFiles.ts"
import type { CredentialFiles } from "./CredentialFiles.ts"
import { makeDirectoryLocks } from "./DirectoryLock.ts"
import type { SharedLock } from "./DirectoryLock.ts"
import { makePrivateFiles } from "./PrivateFiles.ts"
import { tenantDirectory, tenantFolders } from "./tenantFolders.ts"
import type { TenantFolder } from "./tenantFolders.ts"

/**
 * What a rotation tells of its work: `Found` first, with the number of files, then one event for each of them.
 *
 * - `Rotated`: the file is under the first key now.
 * - `Unchanged`: it was already, or somebody deleted it meanwhile.
 * - `LeftToTenant`: the file is a tenant's of whose files none opens, because the tenant has a key of its own.
 * - `Failed`: no key opens the file, or it cannot be read or written. It is left as it is. Where a whole folder of a tenant
 *   cannot be read, or is a symbolic link, `location` is that folder.
 *
 * @since 0.1.0
 * @category models
 */
export type KeyRotationEvent =
  | { readonly _tag: "Found"; readonly total: number }
  | { readonly _tag: "Rotated"; readonly location: string }
  | { readonly _tag: "Unchanged"; readonly location: string }
  | { readonly _tag: "LeftToTenant"; readonly location: string }
  | { readonly _tag: "Failed"; readonly location: string; readonly error: StorageFailure }

/**
 * Puts every encrypted file of a directory (`~/.hive/credentials` by default), and of the tenants' folders in it, under the first
 * of these keys; each is opened with the first that fits. Text, times and all that a file holds stay as they are, to the byte.
 *
 * Each file is replaced as a whole, and a file that somebody saves meanwhile is looked at anew. What is under the first key is left
 * alone: a rotation that was stopped is run again. One file that fails stops none of the others.
 *
 * Fails with `AdenConfigError` when one of the keys is no Fernet key, and with `CredentialStorageError` when the directory cannot
 * be read or is open to others.
 *
 * @example
 * ```ts
 * import { rotateKeys } from "aden-credentials"
 * import { Console, Redacted, Stream } from "effect"
 *
 * declare const newKey: Redacted.Redacted<string>
 * declare const oldKey: Redacted.Redacted<string>
 *
 * const program = rotateKeys({ directory: "/var/lib/agent/credentials", keys: [newKey, oldKey] }).pipe(
 *   Stream.runForEach((event) => event._tag === "Failed" ? Console.error(event.error.message) : Console.log(event._tag))
 * )
 * ```
 *
 * @since 0.1.0
 * @category keys
 */
export const rotateKeys = (options: {
  readonly directory?: string | undefined
  readonly keys: ReadonlyArray<Redacted.Redacted<string>>
}): Stream.Stream<
  KeyRotationEvent,
  AdenConfigError | CredentialStorageError,
  FileSystem.FileSystem | Path.Path
> => Stream.unwrap(rotation(options.directory, parseKeys(options.keys, "keys")))

/**
 * Like {@link rotateKeys}, under the keys of the environment: `HIVE_CREDENTIAL_KEY` (the new key, a comma, the old one), else the
 * file `~/.hive/secrets/credential_key`.
 *
 * @since 0.1.0
 * @category keys
 */
export const rotateConfiguredKeys = (options: {
  readonly directory?: string | undefined
} = {}): Stream.Stream<
  KeyRotationEvent,
  AdenConfigError | CredentialStorageError,
  FileSystem.FileSystem | Path.Path
> => Stream.unwrap(rotation(options.directory, configuredKeys))

// internal

const operation = "re-encrypt"

/** How many files are worked on at a time. */
const concurrency = 8

/** How often a file is looked at anew that somebody else wrote meanwhile. */
const attempts = 5

/** A folder with encrypted files: the directory's own, or a tenant's. */
interface Folder {
  /** Excludes whoever else writes there. */
  readonly inTurn: SharedLock
  readonly credentials: CredentialFiles
  readonly names: ReadonlyArray<string>
  readonly isTenant: boolean
}

const rotation = Effect.fnUntraced(function*<R>(
  chosenDirectory: string | undefined,
  chosenKeys: Effect.Effect<FernetKeys, AdenConfigError, R>
) {
  const path = yield* Path.Path
  const keys = yield* chosenKeys
  const files = yield* makePrivateFiles
  const root = tenantDirectory(path, path.resolve(chosenDirectory ?? (yield* defaultDirectory)), yield* CurrentTenant)

  const folderIn = Effect.fnUntraced(function*(directory: string, isTenant: boolean) {
    const folder = path.join(directory, "credentials")
    const isThere = (yield* files.checkFolder(directory)) && (yield* files.checkFolder(folder))
    if (isThere) yield* files.removeAbandoned(folder)
    const credentials = makeCredentialFiles(files, folder, keys, undefined)
    const { inTurn } = yield* makeDirectoryLocks(files, directory)
    return { inTurn, credentials, names: isThere ? yield* credentials.names : [], isTenant }
  }, inOperation(operation))

  const tenantIn = ({ link, location }: TenantFolder) =>
    Effect.catch(
      link === undefined ? folderIn(location, true) : inOperation(operation)(isElsewhere(location, link)),
      (error) => Effect.succeed<KeyRotationEvent>({ _tag: "Failed", location, error })
    )

  const own = yield* folderIn(root, false)
  const tenants = yield* Effect.forEach(yield* inOperation(operation)(tenantFolders(files, root)), tenantIn)
  const folders: ReadonlyArray<Folder> = [own, ...tenants.filter((tenant) => "names" in tenant)]
  const total = folders.reduce((sum, { names }) => sum + names.length, 0)
  const failed = tenants.filter((tenant) => "_tag" in tenant)
  return Stream.make<[KeyRotationEvent]>({ _tag: "Found", total }).pipe(
    Stream.concat(Stream.fromIterable(failed)),
    Stream.concat(Stream.flatMap(Stream.fromIterable(folders), rotateFolder))
  )
})

/** Whoever put a link there need not be who may have files rewritten where it leads to. */
const isElsewhere = (location: string, link: string) =>
  Effect.fail(
    new StorageInsecure({
      location: cleanText(link),
      detail: "is a symbolic link, which is not followed",
      mend: `aden-creds keys rotate --directory ${shellQuote(location)}`
    })
  )

const rotateFolder = ({ credentials, inTurn, isTenant, names }: Folder): Stream.Stream<KeyRotationEvent> =>
  Stream.fromIterable(names).pipe(
    Stream.mapEffect((name) => rotateFile(inTurn, credentials, name), { concurrency }),
    (events) => leavingToTenant(events, { total: names.length, isTenant })
  )

/**
 * The events of a place with so many entries. Those of a tenant of which none opens are left to it.
 *
 * @internal
 */
export const leavingToTenant = <E, R>(
  events: Stream.Stream<KeyRotationEvent, E, R>,
  { isTenant, total }: { readonly total: number; readonly isTenant: boolean }
): Stream.Stream<KeyRotationEvent, E, R> =>
  Stream.suspend(() => {
    const unreadable: Array<KeyRotationEvent & { readonly _tag: "Failed" }> = []
    return events.pipe(
      Stream.filter((event) => {
        const isUnreadable = event._tag === "Failed" && event.error._tag === "CredentialDecryptionFailed"
        if (isUnreadable) unreadable.push(event)
        return !isUnreadable
      }),
      // whether a tenant has a key of its own shows when all of its files were tried
      Stream.concat(Stream.suspend(() =>
        Stream.fromIterable(
          isTenant && unreadable.length === total
            ? unreadable.map(({ location }): KeyRotationEvent => ({ _tag: "LeftToTenant", location }))
            : unreadable
        )
      ))
    )
  })

const rotateFile = (
  inTurn: SharedLock,
  credentials: CredentialFiles,
  name: string
): Effect.Effect<Exclude<KeyRotationEvent, { readonly _tag: "Found" }>> => {
  const location = credentials.fileOf(name)
  // only what is to be written is worth a lock, which others wait for
  const reencrypt = Effect.flatMap(
    credentials.isStale(name),
    (isStale) =>
      isStale
        ? inTurn(({ check }) => credentials.reencrypt(name, check))
        : credentials.reencrypt(name, Effect.fail(new WrittenMeanwhile()))
  )
  return Effect.gen(function*() {
    const outcome = yield* Effect.retry(reencrypt, {
      times: attempts - 1,
      while: ({ _tag }) => _tag === "WrittenMeanwhile"
    })
    return typeof outcome === "string"
      ? { _tag: outcome, location }
      : yield* new CredentialDecryptionFailed({ id: name, location, detail: outcome.detail })
  }).pipe(
    Effect.catchTag(
      "WrittenMeanwhile",
      () => Effect.fail(new StorageIoFailed({ location, detail: "another program writes it all the time" }))
    ),
    inOperation(operation, name),
    Effect.catch((error) => Effect.succeed({ _tag: "Failed" as const, location, error }))
  )
}
