/**
 * The entries of a directory of encrypted files.
 */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { makeKeyFileWarning } from "../../encryption/keyFile.ts"
import type { AdenConfigError } from "../../errors/ConfigError.ts"
import { CredentialDecryptionFailed, StorageInsecure } from "../../errors/StorageError.ts"
import type { CredentialStorageError, GenerationConflict, StorageFailure } from "../../errors/StorageError.ts"
import { CredentialState } from "../../model/CredentialState.ts"
import { cleanText } from "../../util/sanitize.ts"
import { shellQuote } from "../../util/shellQuote.ts"
import { CredentialFiles } from "../files/CredentialFiles.ts"
import { makeDirectoryLocks } from "../files/DirectoryLock.ts"
import { IndexFile } from "../files/IndexFile.ts"
import { makePrivateFiles } from "../files/PrivateFiles.ts"
import { StateFiles, underOneGeneration } from "../files/StateFiles.ts"
import { folderOfTenantName, nameOfTenantFolder, stateCodecIn, tenantFolders } from "../files/tenantFolders.ts"
import { EntryTransactions, pendingSave } from "../files/transaction.ts"
import { documentText } from "../format/HiveDocument.ts"
import { indexEntryOf } from "../format/HiveIndex.ts"
import { wrongTenant } from "../format/tenantNames.ts"
import { asStorageError } from "../operation.ts"
import { directoryOf } from "./location.ts"
import type { DirectoryLocation } from "./location.ts"
import type { Entry, Side, Sides, TenantSide } from "./Side.ts"

/** How many files are read at a time. */
const concurrency = 8

type Files = FileSystem.FileSystem | Path.Path

export const directorySides = Effect.fnUntraced(function*(
  location: DirectoryLocation,
  keys: FernetKeys
): Effect.fn.Return<Sides, AdenConfigError | CredentialStorageError, Files | Scope.Scope> {
  const path = yield* Path.Path
  const files = yield* makePrivateFiles
  const root = yield* directoryOf(location)
  const context = yield* Effect.context<Files | Scope.Scope>()
  const warning = yield* makeKeyFileWarning(root)
  const sideIn = (directory: string, tenant: string | undefined) =>
    Effect.provideContext(makeSide({ root, directory, keys, tenant, warning }), context)

  return {
    own: yield* sideIn(root, undefined),
    tenants: Effect.flatMap(
      tenantFolders(files, root),
      Effect.forEach(Effect.fnUntraced(function*({ link, location }): Effect.fn.Return<TenantSide> {
        const name = nameOfTenantFolder(path.basename(location))
        return {
          name,
          location,
          side: yield* Effect.result(
            link === undefined ? sideIn(location, name) : asStorageError("list")(notFollowed(link))
          )
        }
      }))
    ).pipe(asStorageError("list"), Effect.provideContext(context)),
    ofTenant: (name) => sideIn(folderOfTenantName(path, root, name), name)
  }
})

/** The person who made the link may not have access to the credentials that it leads to. */
const notFollowed = (link: string) =>
  Effect.fail(
    new StorageInsecure({
      location: cleanText(link),
      detail: "is a symbolic link, which is not followed",
      mend: `rm ${shellQuote(link)}`
    })
  )

const makeSide = Effect.fnUntraced(function*(options: {
  /** The directory that all tenants share. */
  readonly root: string
  readonly directory: string
  readonly keys: FernetKeys
  readonly tenant: string | undefined
  /** Run before a write. */
  readonly warning: Effect.Effect<void>
}): Effect.fn.Return<Side, never, Files | Scope.Scope> {
  const { directory, keys, root, tenant, warning } = options
  const path = yield* Path.Path
  const files = yield* makePrivateFiles
  const folders = {
    credentials: path.join(directory, "credentials"),
    metadata: path.join(directory, "metadata"),
    state: path.join(directory, "state")
  }
  const locks = yield* makeDirectoryLocks(files, directory)
  const credentials = new CredentialFiles(files, folders.credentials, keys, undefined)
  const states = new StateFiles(files, folders.state, stateCodecIn(path, directory, keys, tenant))
  const index = new IndexFile(files, directory, credentials)
  const saved = new Map<string, string>()
  const transactions = new EntryTransactions({
    files,
    folders,
    credentials,
    states,
    tenantId: undefined,
    observer: {
      onSaved: (credential, _generation, document) =>
        Effect.sync(() => saved.set(credential.id, indexEntryOf(credential, document))),
      onRemoved: () => Effect.void
    }
  })

  const foldersExist = (...inside: ReadonlyArray<string>) =>
    Effect.map(
      Effect.forEach(new Set([root, directory, ...inside]), (folder) => files.checkFolder(folder)),
      (folders) => folders.every((isThere) => isThere)
    )

  const stateOf = Effect.fnUntraced(function*(id: string) {
    return (yield* foldersExist(folders.state)) ? (yield* states.locate(id)).state : CredentialState.initial
  })

  const contentOf = Effect.fnUntraced(function*(id: string) {
    if (!(yield* foldersExist(folders.credentials))) {
      return { location: folders.credentials, content: Result.succeed(undefined) }
    }
    const located = yield* credentials.locate(id)
    if (located._tag === "Absent") return { location: folders.credentials, content: Result.succeed(undefined) }
    const location = credentials.fileOf(located.name)
    const detail = located._tag === "Unreadable" ? located.detail : wrongTenant(tenant, located.stored)
    return {
      location,
      content: located._tag === "Found" && detail === undefined
        ? Result.succeed(located.stored)
        : Result.fail(new CredentialDecryptionFailed({ id, location, detail: detail ?? "" }))
    }
  })

  /** Reads document and state of the same generation: under another one, an old document would pass for the newest. */
  const read = (id: string) =>
    Effect.map(underOneGeneration(stateOf(id), contentOf(id)), ({ content, state }) => ({ id, ...content, state }))

  return {
    ids: Effect.gen(function*() {
      return (yield* foldersExist(folders.credentials)) ? yield* index.ids(saved) : []
    }).pipe(asStorageError("list")),
    read: Effect.forEach((id) =>
      asStorageError("load", id)(read(id)).pipe(
        // an unreadable file does not affect the others
        Effect.catch((error) =>
          Effect.succeed<Entry>({
            id,
            location: folders.credentials,
            content: Result.fail(error),
            state: CredentialState.initial
          })
        )
      ), { concurrency }),
    write: Effect.fnUntraced(function*(copies) {
      const failures = new Map<string, StorageFailure | GenerationConflict>()
      if (copies.length === 0) return failures
      for (const folder of new Set([root, directory, ...Object.values(folders)])) yield* files.ensureFolder(folder)
      yield* warning
      const savings = copies.map(({ expected, state, stored }) =>
        pendingSave(stored.credential, { expectedGeneration: expected, state }, documentText(stored))
      )
      const failed = yield* locks.withWriteLock((lock) => Effect.uninterruptible(transactions.putAll(savings, lock)))
      for (const [id, failure] of failed) {
        failures.set(id, yield* Effect.flip(asStorageError("save", id)(Effect.fail(failure))))
      }
      return failures
    }, asStorageError("saveMany")),
    // also when nothing was copied: an earlier run that was stopped may have left the index behind
    finish: Effect.gen(function*() {
      if (!(yield* foldersExist(folders.credentials))) return
      yield* files.ensureFolder(folders.metadata)
      yield* locks.withWriteLock(({ check }) => index.update(saved, check))
    }).pipe(asStorageError("save"))
  }
})
