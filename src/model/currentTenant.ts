/**
 * Which tenant layers are built for. `TenantCredentials` sets it; layers that are shared by all tenants read it.
 */
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Path from "effect/Path"
import { canBeWritten, escapedName, isEscapedName } from "../storage/format/names.ts"

/** The tenant's id; `undefined` where there are no tenants. */
export const CurrentTenant = Context.Reference<string | undefined>("aden-credentials/internal/CurrentTenant", {
  defaultValue: () => undefined
})

const plainId = /^[a-z0-9][a-z0-9_-]{0,63}$/

/** The folders of a directory that is no tenant's: tenants may have it as theirs in common with a program of its own. */
const reserved = new Set(["credentials", "metadata", "state", "locks"])

/** The directory of a tenant in the one that all have in common: a folder that only this id has. */
export const tenantDirectory = (path: Path.Path, directory: string, tenantId: string | undefined): string => {
  if (tenantId === undefined) return directory
  const isPlain = plainId.test(tenantId) && !reserved.has(tenantId) && canBeWritten(tenantId, path.sep === "\\")
  return path.join(directory, isPlain ? tenantId : escapedName(tenantId))
}

/** What a tenant is called in a database: what stands behind the slash of its namespace. */
export const tenantName = (tenantId: string): string => plainId.test(tenantId) ? tenantId : escapedName(tenantId)

/** The namespace of a tenant in the one that all have in common, which holds no "/": only this id has it. */
export const tenantNamespace = (namespace: string, tenantId: string | undefined): string =>
  tenantId === undefined ? namespace : `${namespace}/${tenantName(tenantId)}`

/** The name in a database of the tenant that has this folder. */
export const nameOfTenantFolder = (folder: string): string =>
  Array.from(reserved).find((id) => escapedName(id) === folder) ?? folder

/** The folder of the tenant that has this name in a database. */
export const folderOfTenantName = (path: Path.Path, directory: string, name: string): string =>
  isEscapedName(name) ? path.join(directory, name) : tenantDirectory(path, directory, name)

/** Whether a folder of the common directory can be a tenant's. */
export const isTenantFolder = (name: string): boolean =>
  isEscapedName(name) || (plainId.test(name) && !reserved.has(name))

const apiKey = "ADEN_API_KEY"
const variableName = /^\w+$/

/** The variable of a tenant's API key; `undefined` when the id cannot be part of a variable's name. */
export const apiKeyVariable = (tenantId: string): string | undefined =>
  variableName.test(tenantId) ? `${apiKey}_${tenantId}` : undefined

/** Settings as a tenant's layers read them: the API key and the tenant id are its own, all else is common to all. */
export const tenantSettings = (
  settings: ConfigProvider.ConfigProvider,
  tenantId: string
): ConfigProvider.ConfigProvider =>
  ConfigProvider.make((path) => {
    const name = path.length === 1 ? path[0] : undefined
    if (name === "ADEN_TENANT_ID") return Effect.succeed(ConfigProvider.makeValue(tenantId))
    if (name !== apiKey) return settings.load(path)
    const variable = apiKeyVariable(tenantId)
    return variable === undefined ? Effect.succeed(undefined) : settings.load([variable])
  })
