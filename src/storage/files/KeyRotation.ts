/**
 * Key rotation: re-encrypts files under a new key.
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
import type { AdenConfigError } from "../../errors/ConfigError.ts"
import { CredentialDecryptionFailed, StorageInsecure, StorageIoFailed } from "../../errors/StorageError.ts"
import type { CredentialStorageError, StorageFailure } from "../../errors/StorageError.ts"
import { CurrentTenant } from "../../model/currentTenant.ts"
import { cleanText } from "../../util/sanitize.ts"
import { shellQuote } from "../../util/shellQuote.ts"
import { asStorageError } from "../operation.ts"
import { ConcurrentWrite, CredentialFiles } from "./CredentialFiles.ts"
import { makeDirectoryLocks } from "./DirectoryLock.ts"
import type { DirectoryLocks } from "./DirectoryLock.ts"
import { makePrivateFiles } from "./PrivateFiles.ts"
import { StateFiles } from "./StateFiles.ts"
import { stateCodecIn, tenantDirectory, tenantFolders } from "./tenantFolders.ts"
import type { TenantFolder } from "./tenantFolders.ts"

/**
 * The progress of a rotation: `Found` first, with the number of files, then one event for each of them.
 *
 * - `Rotated`: the file was re-encrypted under the first key.
 * - `Unchanged`: it was under the first key already, or was deleted since the start.
 * - `LeftToTenant`: the file belongs to a tenant none of whose files can be decrypted, because the tenant has a key of its own.
 * - `Failed`: no key decrypts the file, or it cannot be read or written. It is left unchanged. When the whole folder of a tenant
 *   cannot be read, or is a symbolic link, `location` is that folder. Of a state record, which is not counted, only this is told.
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
 * Re-encrypts every file of a directory (`~/.hive/credentials` by default), and of the tenants' folders in it, under the first of
 * these keys. Each file is decrypted with the first key that fits; its content stays the same to the byte, times included. The state
 * records that one of these keys authenticates are put under the first one, too.
 *
 * Files are replaced atomically. A file that another writer saves at the same time is retried. Files that are under the first key
 * already are skipped, so a rotation that was stopped can be run again. A failure of one file does not stop the others.
 *
 * Fails with `AdenConfigError` when one of the keys is not a Fernet key, and with `CredentialStorageError` when the directory cannot
 * be read or others can write it.
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
 * Like {@link rotateKeys}, with the encryption keys of the environment: `HIVE_CREDENTIAL_KEY` (the new key, a comma, the old one),
 * else the file `~/.hive/secrets/credential_key`.
 *
 * @example
 * ```ts
 * import { rotateConfiguredKeys } from "aden-credentials"
 * import { Console, Stream } from "effect"
 *
 * const rotated = rotateConfiguredKeys().pipe(
 *   Stream.filter((event) => event._tag === "Failed"),
 *   Stream.runForEach((event) => Console.error(event.location, event.error.message))
 * )
 * ```
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

/** How many files are re-encrypted concurrently. */
const concurrency = 8

/** How often a file is tried that other writers keep changing. */
const attempts = 5

/** A folder of encrypted files: the directory's own, or a tenant's. */
interface Folder {
  readonly locks: DirectoryLocks
  readonly credentials: CredentialFiles
  readonly names: ReadonlyArray<string>
  readonly states: StateFiles
  readonly stateNames: ReadonlyArray<string>
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
    const folders = { credentials: path.join(directory, "credentials"), state: path.join(directory, "state") }
    const isThere = yield* files.checkFolder(directory)
    const isOpen = (folder: string) =>
      Effect.tap(
        isThere ? files.checkFolder(folder) : Effect.succeed(false),
        (isOpen) => isOpen ? files.removeAbandoned(folder) : Effect.void
      )
    const credentials = new CredentialFiles(files, folders.credentials, keys, undefined)
    const states = new StateFiles(files, folders.state, stateCodecIn(path, directory, keys, undefined))
    const locks = yield* makeDirectoryLocks(files, directory)
    return {
      locks,
      credentials,
      names: (yield* isOpen(folders.credentials)) ? yield* credentials.names : [],
      states,
      stateNames: (yield* isOpen(folders.state)) ? yield* states.names : [],
      isTenant
    }
  }, asStorageError(operation))

  const tenantIn = ({ link, location }: TenantFolder) =>
    Effect.catch(
      link === undefined ? folderIn(location, true) : asStorageError(operation)(isElsewhere(location, link)),
      (error) => Effect.succeed<KeyRotationEvent>({ _tag: "Failed", location, error })
    )

  const own = yield* folderIn(root, false)
  const tenants = yield* Effect.forEach(yield* asStorageError(operation)(tenantFolders(files, root)), tenantIn)
  const folders: ReadonlyArray<Folder> = [own, ...tenants.filter((tenant) => "names" in tenant)]
  const total = folders.reduce((sum, { names }) => sum + names.length, 0)
  const failed = tenants.filter((tenant) => "_tag" in tenant)
  return Stream.make<[KeyRotationEvent]>({ _tag: "Found", total }).pipe(
    Stream.concat(Stream.fromIterable(failed)),
    Stream.concat(Stream.flatMap(Stream.fromIterable(folders), rotateFolder))
  )
})

/** The person who made the link may not have access to the files that it leads to. */
const isElsewhere = (location: string, link: string) =>
  Effect.fail(
    new StorageInsecure({
      location: cleanText(link),
      detail: "is a symbolic link, which is not followed",
      mend: `aden-creds keys rotate --directory ${shellQuote(location)}`
    })
  )

const rotateFolder = (folder: Folder): Stream.Stream<KeyRotationEvent> => {
  const { credentials, isTenant, locks, names, stateNames, states } = folder
  return Stream.fromIterable(names).pipe(
    Stream.mapEffect((name) => rotateFile(locks, credentials, name), { concurrency }),
    (events) => leaveToTenant(events, { total: names.length, isTenant }),
    Stream.concat(
      Stream.flatMap(
        Stream.fromIterable(stateNames),
        (name) => Stream.fromIterableEffect(rotateState(locks, states, name)),
        {
          concurrency
        }
      )
    )
  )
}

/** Puts an authentic state record under the first key. Told of where that fails. */
const rotateState = (locks: DirectoryLocks, states: StateFiles, name: string) =>
  Effect.flatMap(
    states.isStale(name),
    (isStale) => isStale ? locks.withWriteLock(({ check }) => states.reencode(name, check)) : Effect.void
  ).pipe(
    asStorageError(operation, name),
    Effect.match({
      onSuccess: (): ReadonlyArray<KeyRotationEvent> => [],
      onFailure: (error): ReadonlyArray<KeyRotationEvent> => [
        { _tag: "Failed", location: states.fileOf(name), error }
      ]
    })
  )

/**
 * The events of a folder or namespace with `total` entries. If it is a tenant's and none can be decrypted, they are left to the
 * tenant.
 *
 * @internal
 */
export const leaveToTenant = <E, R>(
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
      // known only after all files were tried: the tenant has a key of its own when none could be decrypted
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
  locks: DirectoryLocks,
  credentials: CredentialFiles,
  name: string
): Effect.Effect<Exclude<KeyRotationEvent, { readonly _tag: "Found" }>> => {
  const location = credentials.fileOf(name)
  // takes the lock, which blocks other writers, only for a file that has to be written
  const reencrypt = Effect.flatMap(
    credentials.isStale(name),
    (isStale) =>
      isStale
        ? locks.withWriteLock(({ check }) => credentials.reencrypt(name, check))
        : credentials.reencrypt(name, Effect.fail(new ConcurrentWrite()))
  )
  return Effect.gen(function*() {
    const outcome = yield* Effect.retry(reencrypt, {
      times: attempts - 1,
      while: ({ _tag }) => _tag === "ConcurrentWrite"
    })
    return typeof outcome === "string"
      ? { _tag: outcome, location }
      : yield* new CredentialDecryptionFailed({ id: name, location, detail: outcome.detail })
  }).pipe(
    Effect.catchTag(
      "ConcurrentWrite",
      () => Effect.fail(new StorageIoFailed({ location, detail: "another program keeps writing it" }))
    ),
    asStorageError(operation, name),
    Effect.catch((error) => Effect.succeed({ _tag: "Failed" as const, location, error }))
  )
}
