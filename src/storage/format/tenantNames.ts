/**
 * What a tenant is called in a database, a name that only its id has, and whose a document is.
 */
import * as Predicate from "effect/Predicate"
import { ofAnotherTenant, tenantOf } from "./HiveDocument.ts"
import type { StoredCredential } from "./HiveDocument.ts"
import { escapedName } from "./names.ts"

/** An id that is a name as it is, on every system. */
export const plainId = /^[a-z0-9][a-z0-9_-]{0,63}$/

/** What a tenant is called in a database: what stands behind the slash of its namespace. */
export const tenantName = (tenantId: string): string => plainId.test(tenantId) ? tenantId : escapedName(tenantId)

/** The namespace of a tenant in the one that all have in common, which holds no "/": only this id has it. */
export const tenantNamespace = (namespace: string, tenantId: string | undefined): string =>
  tenantId === undefined ? namespace : `${namespace}/${tenantName(tenantId)}`

/** What is wrong with an entry in the place of this tenant, by its id or by what it is called in a database: it was copied there from another's. */
export const wrongTenant = (tenant: string | undefined, stored: StoredCredential): string | undefined => {
  const owner = tenantOf(stored)
  if (tenant === undefined || owner === undefined) return undefined
  return Predicate.isString(owner) && (owner === tenant || tenantName(owner) === tenant) ? undefined : ofAnotherTenant
}
