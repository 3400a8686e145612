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
import { CredentialDecryptionFailed, StorageInsecure } from "../../errors/CredentialError.ts"
import type {
  AdenConfigError,
  CredentialStorageError,
  GenerationConflict,
  StorageFailure
} from "../../errors/CredentialError.ts"
import type { CredentialType } from "../../model/Credential.ts"
import { CredentialState } from "../../model/CredentialState.ts"
import { cleanText } from "../../util/sanitize.ts"
import { shellQuote } from "../../util/shellQuote.ts"
import { makeCredentialFiles } from "../files/CredentialFiles.ts"
import { makeDirectoryLocks } from "../files/DirectoryLock.ts"
import { makeIndexFile } from "../files/IndexFile.ts"
import { makePrivateFiles } from "../files/PrivateFiles.ts"
import { makeStateFiles } from "../files/StateFiles.ts"
import { folderOfTenantName, nameOfTenantFolder, tenantFolders } from "../files/tenantFolders.ts"
import { makeEntryFiles, toSave } from "../files/transaction.ts"
import { documentOf } from "../format/HiveDocument.ts"
import { wrongTenant } from "../format/tenantNames.ts"
import { inOperation } from "../operation.ts"
import { directoryOf } from "./location.ts"
import type { DirectoryLocation } from "./location.ts"
import type { Entry, Place, Places, TenantPlace } from "./Side.ts"

/** How many files are read at a time. */
const concurrency = 8

type Files = FileSystem.FileSystem | Path.Path

export const directoryPlaces = Effect.fnUntraced(function*(
  location: DirectoryLocation,
  keys: FernetKeys
): Effect.fn.Return<Places, AdenConfigError | CredentialStorageError, Files | Scope.Scope> {
  const path = yield* Path.Path
  const files = yield* makePrivateFiles
  const root = yield* directoryOf(location)
  const context = yield* Effect.context<Files | Scope.Scope>()
  const warning = yield* makeKeyFileWarning(root)
  const placeIn = (directory: string, tenant: string | undefined) =>
    Effect.provideContext(makePlace({ root, directory, keys, tenant, warning }), context)

  return {
    own: yield* placeIn(root, undefined),
    tenants: Effect.flatMap(
      tenantFolders(files, root),
      Effect.forEach(Effect.fnUntraced(function*({ link, location }): Effect.fn.Return<TenantPlace> {
        const name = nameOfTenantFolder(path.basename(location))
        return {
          name,
          location,
          place: yield* Effect.result(
            link === undefined ? placeIn(location, name) : inOperation("list")(notFollowed(link))
          )
        }
      }))
    ).pipe(inOperation("list"), Effect.provideContext(context)),
    ofTenant: (name) => placeIn(folderOfTenantName(path, root, name), name)
  }
})

/** Whoever put a link there need not be who may have credentials copied from where it leads to. */
const notFollowed = (link: string) =>
  Effect.fail(
    new StorageInsecure({
      location: cleanText(link),
      detail: "is a symbolic link, which is not followed",
      mend: `rm ${shellQuote(link)}`
    })
  )

const makePlace = Effect.fnUntraced(function*(options: {
  /** What all tenants have in common. */
  readonly root: string
  readonly directory: string
  readonly keys: FernetKeys
  readonly tenant: string | undefined
  /** Is run before a write. */
  readonly warning: Effect.Effect<void>
}): Effect.fn.Return<Place, never, Files | Scope.Scope> {
  const { directory, keys, root, tenant, warning } = options
  const path = yield* Path.Path
  const files = yield* makePrivateFiles
  const folders = {
    credentials: path.join(directory, "credentials"),
    metadata: path.join(directory, "metadata"),
    state: path.join(directory, "state")
  }
  const { inTurn } = yield* makeDirectoryLocks(files, directory)
  const credentials = makeCredentialFiles(files, folders.credentials, keys, undefined)
  const states = makeStateFiles(files, folders.state)
  const index = makeIndexFile(files, path.join(folders.metadata, "index.json"), credentials)
  const saved = new Map<string, CredentialType>()
  const { putAll } = makeEntryFiles({
    files,
    folders,
    credentials,
    states,
    tenantId: undefined,
    onSaved: ({ id, type }) => Effect.sync(() => saved.set(id, type)),
    onRemoved: () => Effect.void
  })

  const isThere = (...inside: ReadonlyArray<string>) =>
    Effect.map(
      Effect.forEach(new Set([root, directory, ...inside]), files.checkFolder),
      (folders) => folders.every((isThere) => isThere)
    )

  const stateOf = Effect.fnUntraced(function*(id: string) {
    return (yield* isThere(folders.state)) ? (yield* states.locate(id)).state : CredentialState.initial
  })

  const contentOf = Effect.fnUntraced(function*(id: string) {
    if (!(yield* isThere(folders.credentials))) {
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

  /** A credential under the count of another is not the newest: both are of one moment. */
  const read = Effect.fnUntraced(function*(id: string) {
    for (let before = yield* stateOf(id);;) {
      const { content, location } = yield* contentOf(id)
      const state = yield* stateOf(id)
      if (state.generation === before.generation) return { id, location, content, state }
      before = state
    }
  })

  return {
    ids: Effect.gen(function*() {
      return (yield* isThere(folders.credentials)) ? yield* index.ids : []
    }).pipe(inOperation("list")),
    read: Effect.forEach((id) =>
      inOperation("load", id)(read(id)).pipe(
        // a file that cannot be read spoils none of the others
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
        toSave(stored.credential, { expectedGeneration: expected, state }, documentOf(stored))
      )
      const failed = yield* inTurn((lock) => Effect.uninterruptible(putAll(savings, lock)))
      for (const [id, failure] of failed) {
        const told = yield* Effect.flip(inOperation("save", id)(Effect.fail(failure)))
        failures.set(id, told)
      }
      return failures
    }, inOperation("saveMany")),
    // also where nothing was copied: a copy that was stopped may have left it behind
    finish: Effect.gen(function*() {
      if (!(yield* isThere(folders.credentials))) return
      yield* files.ensureFolder(folders.metadata)
      yield* inTurn(({ check }) => index.update(saved, check))
    }).pipe(inOperation("save"))
  }
})
