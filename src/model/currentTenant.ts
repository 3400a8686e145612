/**
 * Which tenant layers are built for. `TenantCredentials` sets it; layers that all tenants share read it.
 */
import * as Context from "effect/Context"

/** The tenant's id; `undefined` where there are no tenants. */
export const CurrentTenant = Context.Reference<string | undefined>("aden-credentials/internal/CurrentTenant", {
  defaultValue: () => undefined
})
