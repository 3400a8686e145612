/**
 * The settings of a tenant: its own API key and id, and what all tenants have in common.
 */
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"

const apiKey = "ADEN_API_KEY"
const variableName = /^\w+$/
/** What is the agent's own with `ADEN_API_KEY_` before it, and no tenant's. */
const endings = ["FILE", "COMMAND"]

/** The variable of a tenant's API key; `undefined` when the id cannot be part of a variable's name. */
export const apiKeyVariable = (tenantId: string): string | undefined =>
  variableName.test(tenantId) && !endings.includes(tenantId) ? `${apiKey}_${tenantId}` : undefined

/** The settings that a tenant's layers read: the API key and the tenant id are its own, all others are shared. */
export const tenantSettings = (
  settings: ConfigProvider.ConfigProvider,
  tenantId: string
): ConfigProvider.ConfigProvider =>
  ConfigProvider.make((path) => {
    const name = path.length === 1 ? path[0] : undefined
    if (name === "ADEN_TENANT_ID") return Effect.succeed(ConfigProvider.makeValue(tenantId))
    // the file or command of the agent itself would give all tenants one key
    if (endings.some((ending) => name === `${apiKey}_${ending}`)) return Effect.succeed(undefined)
    if (name !== apiKey) return settings.load(path)
    const variable = apiKeyVariable(tenantId)
    return variable === undefined ? Effect.succeed(undefined) : settings.load([variable])
  })
