/**
 * The names of tenants in a database, unique to their ids, and the check of whose a document is.
 */
import * as Predicate from "effect/Predicate"
import { ofAnotherTenant, tenantOf } from "./HiveDocument.ts"
import type { HiveDocument } from "./HiveDocument.ts"
import { escapedName } from "./names.ts"

/** An id that is safe as a name on every system. */
export const plainId = /^[a-z0-9][a-z0-9_-]{0,63}$/

/** The name of a tenant in a database: the part after the slash of its namespace. */
export const tenantName = (tenantId: string): string => plainId.test(tenantId) ? tenantId : escapedName(tenantId)

/** The namespace of a tenant below the common one, which has no "/", so that no two tenants share it. */
export const tenantNamespace = (namespace: string, tenantId: string | undefined): string =>
  tenantId === undefined ? namespace : `${namespace}/${tenantName(tenantId)}`

/** Why an entry does not belong to this tenant (by id or by name in a database): it was copied from another tenant. */
export const wrongTenant = (tenant: string | undefined, stored: HiveDocument): string | undefined => {
  const owner = tenantOf(stored)
  if (tenant === undefined || owner === undefined) return undefined
  return Predicate.isString(owner) && (owner === tenant || tenantName(owner) === tenant) ? undefined : ofAnotherTenant
}
