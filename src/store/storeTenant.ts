/**
 * Which tenant a `CredentialStore` belongs to, and what must not be used for another one.
 */
import * as Context from "effect/Context"
import { CredentialStore } from "./CredentialStore.ts"

type Store = CredentialStore["Service"]

/** A tenant of one `TenantCredentials`. */
export interface Tenant {
  readonly id: string
  /** Tells two `TenantCredentials` apart that have a tenant of the same id. */
  readonly platform: object
}

/** The tenant of each store that a `TenantCredentials` built. */
const tenants = new WeakMap<Store, Tenant>()

export const setTenant = (store: Store, tenant: Tenant): void => {
  tenants.set(store, tenant)
}

/** The tenant of a store; `undefined` for one that a program built itself. */
export const tenantOf = (store: Store): Tenant | undefined => tenants.get(store)

export const isSameTenant = (one: Tenant, other: Tenant): boolean =>
  one.id === other.id && one.platform === other.platform

/** Whether two stores are those of two tenants. */
export const haveTwoTenants = (one: Store, other: Store): boolean => {
  const [tenant, otherTenant] = [tenants.get(one), tenants.get(other)]
  return tenant !== undefined && otherTenant !== undefined && !isSameTenant(tenant, otherTenant)
}

/**
 * Why what stands over `store` must not work where a fiber has these services: the store is one tenant's, and the fiber runs with
 * another tenant's. It happens where a program goes on using what it built for the first tenant.
 */
export const tenantMismatch = (store: Store, services: Context.Context<never>): string | undefined => {
  const around = Context.getOrUndefined(services, CredentialStore)
  const own = tenants.get(store)
  const other = around === undefined ? undefined : tenants.get(around)
  if (own === undefined || other === undefined) return undefined
  if (own.id !== other.id) {
    return `it belongs to tenant ${JSON.stringify(own.id)}, and the program runs for tenant ${JSON.stringify(other.id)}`
  }
  return own.platform === other.platform
    ? undefined
    : `it belongs to tenant ${JSON.stringify(own.id)} of another TenantCredentials`
}

/** The remedy for a mismatch. */
export const onePerTenant =
  "Build what holds it for each tenant: TenantCredentials.provide for effects, TenantCredentials.provideLayer for layers."
