/**
 * Why a tenant has no store.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { printable } from "../util/sanitize.ts"
import { ActionableError, line, quoted } from "./Actionable.ts"
import { AdenConfigError } from "./ConfigError.ts"

/**
 * The id cannot name a tenant: it is empty, too long, not well-formed text, or holds characters that do not show.
 *
 * @since 0.1.0
 * @category reasons
 */
export class InvalidTenantId extends Schema.TaggedError<InvalidTenantId>()("InvalidTenantId", {
  detail: Schema.String
}) {
  override get message(): string {
    return printable(this.detail)
  }
}

/**
 * The settings of a tenant could not be looked up: what a `lookup` of `TenantCredentials` fails with when a database or a
 * vault does not answer, or does not know the tenant. `detail` is for a person, and holds no secret.
 *
 * @since 0.1.0
 * @category reasons
 */
export class TenantLookupFailed extends Schema.TaggedError<TenantLookupFailed>()("TenantLookupFailed", {
  detail: Schema.String,
  /** Whether the same lookup can succeed later by itself. */
  isTransient: Schema.Boolean
}) {
  override get message(): string {
    return printable(this.detail)
  }
}

/**
 * The tenant would be served with layers that Effect memoised for another one: `TenantCredentials.get` provides both in one
 * build, or one inside the other. `owner` is the id of the other tenant.
 *
 * @since 0.1.0
 * @category reasons
 */
export class TenantsShareLayers extends Schema.TaggedError<TenantsShareLayers>()("TenantsShareLayers", {
  owner: Schema.String,
  /** Whether the owner is a tenant of another `TenantCredentials`; its id may be the same. */
  isOfAnotherPlatform: Schema.Boolean
}) {
  override get message(): string {
    const owner = `tenant ${quoted(this.owner)}${this.isOfAnotherPlatform ? " of another TenantCredentials" : ""}`
    return line`${owner} is provided in the same build or around it, where Effect would share their layers`
  }
}

/**
 * There is no store for a tenant. `reason` says why.
 *
 * @since 0.1.0
 * @category errors
 */
export class TenantError extends ActionableError<TenantError>()("TenantError", {
  tenantId: Schema.String,
  reason: Schema.Union([AdenConfigError, InvalidTenantId, TenantLookupFailed, TenantsShareLayers])
}, {
  message: ({ reason, tenantId }) => line`Tenant ${quoted(tenantId)} has no credentials: ${reason.message}`,
  isRetryable: ({ reason }) => reason._tag === "TenantLookupFailed" && reason.isTransient,
  remedy: ({ reason, tenantId }) => {
    switch (reason._tag) {
      case "AdenConfigError":
        return reason.remedy
      case "InvalidTenantId":
        return "Use a tenant id of 1 to 200 visible characters."
      case "TenantLookupFailed":
        return reason.isTransient
          ? "Try again; if it goes on, check where the lookup reads the settings of tenants."
          : "Check the tenant id, and that the lookup knows the tenant."
      case "TenantsShareLayers": {
        const id = quoted(tenantId)
        return line`Use TenantCredentials.provide(${id}) for effects, and TenantCredentials.provideLayer(${id}) for layers: each gives the tenant layers of its own.`
      }
    }
  }
}) {}
