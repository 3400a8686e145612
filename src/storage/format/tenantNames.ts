/**
 * What a tenant is called in a database: a name that only its id has.
 */
import { escapedName } from "./names.ts"

/** An id that is a name as it is, on every system. */
export const plainId = /^[a-z0-9][a-z0-9_-]{0,63}$/

/** What a tenant is called in a database: what stands behind the slash of its namespace. */
export const tenantName = (tenantId: string): string => plainId.test(tenantId) ? tenantId : escapedName(tenantId)

/** The namespace of a tenant in the one that all have in common, which holds no "/": only this id has it. */
export const tenantNamespace = (namespace: string, tenantId: string | undefined): string =>
  tenantId === undefined ? namespace : `${namespace}/${tenantName(tenantId)}`
