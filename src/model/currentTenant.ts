/**
 * The tenant that layers are built for. `TenantCredentials` sets it, and layers that all tenants share read it.
 */
import * as Context from "effect/Context"

/** The tenant's id; `undefined` outside `TenantCredentials`. */
export const CurrentTenant = Context.Reference<string | undefined>("aden-credentials/internal/CurrentTenant", {
  defaultValue: () => undefined
})
