/**
 * The tenants' folders of the directory that they have in common, for who looks at all of them.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import { canBeWritten, escapedName, isEscapedName } from "../format/names.ts"
import { plainId } from "../format/tenantNames.ts"
import type { PrivateFiles } from "./PrivateFiles.ts"

/** The folders of a directory that is no tenant's: tenants may have it as theirs in common with a program of its own. */
const reserved = new Set(["credentials", "metadata", "state", "locks"])

/** The directory of a tenant in the one that all have in common: a folder that only this id has. */
export const tenantDirectory = (path: Path.Path, directory: string, tenantId: string | undefined): string => {
  if (tenantId === undefined) return directory
  const isPlain = plainId.test(tenantId) && !reserved.has(tenantId) && canBeWritten(tenantId, path.sep === "\\")
  return path.join(directory, isPlain ? tenantId : escapedName(tenantId))
}

/** The name in a database of the tenant that has this folder. */
export const nameOfTenantFolder = (folder: string): string =>
  Array.from(reserved).find((id) => escapedName(id) === folder) ?? folder

/** The folder of the tenant that has this name in a database. */
export const folderOfTenantName = (path: Path.Path, directory: string, name: string): string =>
  isEscapedName(name) ? path.join(directory, name) : tenantDirectory(path, directory, name)

/** Whether a folder of the common directory can be a tenant's. */
export const isTenantFolder = (name: string): boolean =>
  isEscapedName(name) || (plainId.test(name) && !reserved.has(name))

/** A folder that is, or may be, a tenant's. */
export interface TenantFolder {
  readonly location: string
  /** Which part of its path below the common directory is a symbolic link. */
  readonly link: string | undefined
}

/** What else is in the directory concerns nobody here. A folder that cannot be looked into may be a tenant's. */
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

  const isLink = (place: string) =>
    Effect.match(fs.lstat(place), { onFailure: () => false, onSuccess: ({ type }) => type === "SymbolicLink" })

  const locations = (yield* files.names(root, "")).filter(isTenantFolder).map((name) => path.join(root, name))
  return yield* Effect.forEach(
    yield* Effect.filter(locations, isTenant),
    Effect.fnUntraced(function*(location): Effect.fn.Return<TenantFolder> {
      const [link] = yield* Effect.filter([location, credentialsIn(location)], isLink)
      return { location, link }
    })
  )
})
