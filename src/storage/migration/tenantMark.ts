import * as Predicate from "effect/Predicate"
import { ofAnotherTenant, tenantOf } from "../format/HiveDocument.ts"
import type { StoredCredential } from "../format/HiveDocument.ts"
import { tenantName } from "../format/tenantNames.ts"

/** What is wrong with an entry in the place of this tenant, by its id or by what it is called in a database: it was copied there from another's. */
export const wrongTenant = (tenant: string | undefined, stored: StoredCredential): string | undefined => {
  const owner = tenantOf(stored)
  if (tenant === undefined || owner === undefined) return undefined
  return Predicate.isString(owner) && (owner === tenant || tenantName(owner) === tenant) ? undefined : ofAnotherTenant
}
