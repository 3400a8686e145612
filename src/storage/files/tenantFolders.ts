/**
 * The folders of tenants in their common directory.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { canBeWritten, escapedName, isEscapedName } from "../format/names.ts"
import { StateCodec } from "../format/StateRecord.ts"
import { plainId, tenantName } from "../format/tenantNames.ts"
import type { PrivateFiles } from "./PrivateFiles.ts"

/** The folders of a directory's own credentials: the common directory can be one, too. */
const reserved = new Set(["credentials", "metadata", "state", "locks"])

/** The directory of a tenant within the common one; no two ids share it. */
export const tenantDirectory = (path: Path.Path, directory: string, tenantId: string | undefined): string => {
  if (tenantId === undefined) return directory
  const isPlain = plainId.test(tenantId) && !reserved.has(tenantId) && canBeWritten(tenantId, path.sep === "\\")
  return path.join(directory, isPlain ? tenantId : escapedName(tenantId))
}

/** The name in a database of the tenant with this folder. */
export const nameOfTenantFolder = (folder: string): string =>
  Array.from(reserved).find((id) => escapedName(id) === folder) ?? folder

/** The folder of the tenant with this name in a database. */
export const folderOfTenantName = (path: Path.Path, directory: string, name: string): string =>
  isEscapedName(name) ? path.join(directory, name) : tenantDirectory(path, directory, name)

/** Whether a folder of the common directory can be a tenant's. */
export const isTenantFolder = (name: string): boolean =>
  isEscapedName(name) || (plainId.test(name) && !reserved.has(name))

/**
 * Reads and writes the state records in a directory, which is the one of a tenant (by its id, or its name in a database) or of none. In
 * one of none, those are read, too, of the tenant that would have a folder of its name: `aden-creds` may be given a tenant's folder.
 */
export const stateCodecIn = (path: Path.Path, directory: string, keys: FernetKeys, tenant: string | undefined) =>
  tenant === undefined
    ? new StateCodec(keys, "", [`/${nameOfTenantFolder(path.basename(directory))}`])
    : new StateCodec(keys, `/${isEscapedName(tenant) ? tenant : tenantName(tenant)}`)

/** A folder that is, or may be, a tenant's. */
export interface TenantFolder {
  readonly location: string
  /** The part of its path below the common directory that is a symbolic link, if any. */
  readonly link: string | undefined
}

/** The folders of tenants in a directory; other folders are ignored. One that cannot be read may be a tenant's, and is included. */
export const tenantFolders = Effect.fnUntraced(function*(files: PrivateFiles, root: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path

  const credentialsIn = (location: string) => path.join(location, "credentials")

  const isTenant = (location: string) =>
    fs.stat(location).pipe(
      Effect.filterOrFail(({ type }) => type === "Directory"),
      Effect.matchEffect({
        onFailure: () => Effect.succeed(false),
        onSuccess: () => Effect.orElseSucceed(fs.exists(credentialsIn(location)), () => true)
      })
    )

  const isLink = (location: string) =>
    Effect.match(fs.lstat(location), { onFailure: () => false, onSuccess: ({ type }) => type === "SymbolicLink" })

  const locations = (yield* files.names(root, "")).filter(isTenantFolder).map((name) => path.join(root, name))
  return yield* Effect.forEach(
    yield* Effect.filter(locations, isTenant),
    Effect.fnUntraced(function*(location): Effect.fn.Return<TenantFolder> {
      const [link] = yield* Effect.filter([location, credentialsIn(location)], isLink)
      return { location, link }
    })
  )
})
