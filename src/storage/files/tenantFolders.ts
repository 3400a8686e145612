/**
 * The tenants' folders of the directory that they have in common, for who looks at all of them.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import { isTenantFolder } from "../../model/currentTenant.ts"
import type { PrivateFiles } from "./PrivateFiles.ts"

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
