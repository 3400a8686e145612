/**
 * The contract with an Aden server, in one place: client, emulator and OpenAPI document are all derived from it.
 *
 * Decoding is tolerant: it accepts two dialects of field names (`integration_type` and `provider`), absent and null fields, and
 * unknown ones. It trusts nothing: an access token has to be visible ASCII and a timestamp RFC 3339, and text for people loses
 * control characters. See docs/contract.md.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as HttpApiSecurity from "effect/http-api/HttpApiSecurity"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import { cleanText, isClean } from "../../util/sanitize.ts"
import { Timestamp } from "../../util/Timestamp.ts"

// ---------------------------------------------------------------------------------------------------------------------
// Fields
// ---------------------------------------------------------------------------------------------------------------------

const nullable = <S extends Schema.Constraint>(schema: S) => Schema.optional(Schema.NullOr(schema))

/** Text from Aden, made safe to show: without control characters, at most 500 code units. */
const ForeignText = Schema.String.pipe(
  Schema.decodeTo(Schema.String, {
    decode: SchemaGetter.transform(cleanText),
    encode: SchemaGetter.passthrough()
  })
)

/**
 * An integration's id: opaque, not empty, without control characters, at most 1,000 code units.
 *
 * @since 0.1.0
 * @category fields
 */
export const IntegrationId = Schema.String.check(
  Schema.makeFilter((id) => id !== "" && id.length <= 1000 && isClean(id), {
    expected: "an id of 1 to 1000 characters without control characters"
  })
)

/**
 * An access token: visible ASCII, so that it fits a header. (RFC 6750, section 2.1, allows less, but providers send more.)
 *
 * @since 0.1.0
 * @category fields
 */
export const AccessToken = Schema.RedactedFromValue(
  Schema.String.check(Schema.isPattern(/^[\x21-\x7e]+$/, { expected: "visible ASCII" }))
)

// ---------------------------------------------------------------------------------------------------------------------
// Answers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A credential in an answer of Aden's. Everything but the token may be absent or null.
 *
 * @since 0.1.0
 * @category answers
 */
export const CredentialAnswer = Schema.Struct({
  integration_id: nullable(Schema.String),
  integration_type: nullable(ForeignText),
  provider: nullable(ForeignText),
  alias: nullable(ForeignText),
  email: nullable(ForeignText),
  access_token: AccessToken,
  token_type: nullable(ForeignText),
  expires_at: nullable(Timestamp),
  scopes: nullable(Schema.Array(ForeignText)),
  metadata: nullable(Schema.Record(Schema.String, Schema.Unknown))
}).annotate({ identifier: "Credential", description: "An access token and what it is for. Never a refresh token." })

/**
 * One integration in Aden's list. `status` is `active`, `expired`, `requires_reauth`, or what a later server adds.
 *
 * @since 0.1.0
 * @category answers
 */
export const IntegrationItem = Schema.Struct({
  integration_id: IntegrationId,
  integration_type: nullable(ForeignText),
  provider: nullable(ForeignText),
  alias: nullable(ForeignText),
  email: nullable(ForeignText),
  status: nullable(ForeignText),
  expires_at: nullable(Timestamp)
}).annotate({ identifier: "Integration" })

/**
 * The list of integrations as the client decodes it. Items are decoded one by one ({@link IntegrationItem}), so that a bad item
 * affects only itself. Unknown fields are kept, because they may tell of further pages.
 *
 * @since 0.1.0
 * @category answers
 */
export const IntegrationListEnvelope = Schema.StructWithRest(
  Schema.Struct({
    integrations: Schema.Array(Schema.Unknown),
    tenant_id: nullable(Schema.String)
  }),
  [Schema.Record(Schema.String, Schema.Unknown)]
)

/**
 * The list of integrations as a server sends it, every item valid.
 *
 * @since 0.1.0
 * @category answers
 */
export const IntegrationListAnswer = Schema.Struct({
  integrations: Schema.Array(IntegrationItem),
  tenant_id: nullable(Schema.String)
}).annotate({ identifier: "IntegrationList" })

/**
 * Whether a token is valid. Only `valid` is required.
 *
 * @since 0.1.0
 * @category answers
 */
export const ValidationAnswer = Schema.Struct({
  valid: Schema.Boolean,
  status: nullable(Schema.String),
  reason: nullable(Schema.String),
  error: nullable(Schema.String),
  expires_at: nullable(Timestamp),
  expires_in_seconds: nullable(Schema.Finite),
  requires_reauthorization: nullable(Schema.Boolean),
  reauthorization_url: nullable(Schema.String)
}).annotate({ identifier: "Validation" })

/**
 * A usage report. `timestamp` is when the credential was used, not when the report was sent.
 *
 * @since 0.1.0
 * @category requests
 */
export const UsagePayload = Schema.Struct({
  operation: Schema.String,
  status: Schema.String,
  timestamp: Timestamp,
  metadata: Schema.optional(Schema.Record(Schema.String, Schema.Json))
}).annotate({ identifier: "UsageReport" })

/**
 * Whether the usage report was recorded.
 *
 * @since 0.1.0
 * @category answers
 */
export const UsageAnswer = Schema.Struct({ received: Schema.Boolean }).annotate({ identifier: "UsageReceipt" })

/**
 * The health of the server. Needs no API key.
 *
 * @since 0.1.0
 * @category answers
 */
export const HealthAnswer = Schema.Struct({
  status: ForeignText,
  version: nullable(ForeignText),
  timestamp: nullable(Timestamp)
}).annotate({ identifier: "Health" })

/** A field of another type counts as absent. */
const lenient = <S extends Schema.Constraint>(schema: S) =>
  Schema.optional(Schema.NullOr(schema).pipe(Schema.catchDecoding(() => Effect.succeedNone)))

/**
 * The body of an error of any status, decoded as far as possible. A 401, 403 or 404 without a text `error` is not from Aden.
 *
 * @since 0.1.0
 * @category errors
 */
export const ErrorAnswer = Schema.Struct({
  error: lenient(Schema.String),
  message: lenient(Schema.String),
  requires_reauthorization: lenient(Schema.Boolean),
  reauthorization_url: lenient(Schema.String),
  retry_after: Schema.optional(Schema.Unknown)
})

const errorAnswer = <const Error extends string, Fields extends Schema.Struct.Fields>(
  identifier: string,
  status: number,
  error: Error,
  fields: Fields
) =>
  Schema.Struct({ error: Schema.Literal(error), message: Schema.String, ...fields }).pipe(HttpApiSchema.status(status))
    .annotate({
      identifier
    })

/**
 * 400: the token could not be refreshed; `requires_reauthorization` says whether a person has to act.
 *
 * @since 0.1.0
 * @category errors
 */
export const RefreshFailedAnswer = errorAnswer("RefreshFailed", 400, "refresh_failed", {
  requires_reauthorization: Schema.Boolean,
  reauthorization_url: Schema.optional(Schema.String)
})

/**
 * 401: the API key is not known.
 *
 * @since 0.1.0
 * @category errors
 */
export const UnauthorizedAnswer = errorAnswer("Unauthorized", 401, "invalid_api_key", {})

/**
 * 403: the API key is known, but not allowed to do this.
 *
 * @since 0.1.0
 * @category errors
 */
export const ForbiddenAnswer = errorAnswer("Forbidden", 403, "forbidden", {})

/**
 * 404: the tenant has no integration with this id.
 *
 * @since 0.1.0
 * @category errors
 */
export const IntegrationNotFoundAnswer = errorAnswer("IntegrationNotFound", 404, "integration_not_found", {})

/**
 * 429: `retry_after` is in seconds.
 *
 * @since 0.1.0
 * @category errors
 */
export const RateLimitedAnswer = errorAnswer("RateLimited", 429, "rate_limited", {
  retry_after: Schema.optional(Schema.Finite)
})

// ---------------------------------------------------------------------------------------------------------------------
// The API
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The tenant that the API key of a request belongs to. For handlers of a server; clients do not use it.
 *
 * @since 0.1.0
 * @category api
 */
export class AgentTenant extends Context.Service<AgentTenant, { readonly id: string }>()(
  "aden-credentials/AdenApi/AgentTenant"
) {}

/**
 * The agent's API key as a bearer token. A server implements this middleware to check the key; the client sends its own.
 *
 * @since 0.1.0
 * @category api
 */
export class AgentAuthorization extends HttpApiMiddleware.Service<AgentAuthorization, { provides: AgentTenant }>()(
  "aden-credentials/AdenApi/AgentAuthorization",
  {
    security: { apiKey: HttpApiSecurity.bearer },
    error: [UnauthorizedAnswer, ForbiddenAnswer]
  }
) {}

const params = { integration_id: Schema.String }
const headers = { "x-tenant-id": Schema.optional(Schema.String) }

/**
 * The endpoints that need the API key. `X-Tenant-ID` is optional.
 *
 * @since 0.1.0
 * @category api
 */
export class CredentialsGroup extends HttpApiGroup.make("credentials")
  .add(
    HttpApiEndpoint.get("list", "/v1/credentials", {
      headers,
      success: IntegrationListAnswer,
      error: [RateLimitedAnswer]
    }),
    HttpApiEndpoint.get("get", "/v1/credentials/:integration_id", {
      params,
      headers,
      success: CredentialAnswer,
      error: [RefreshFailedAnswer, IntegrationNotFoundAnswer, RateLimitedAnswer]
    }),
    HttpApiEndpoint.post("refresh", "/v1/credentials/:integration_id/refresh", {
      params,
      headers,
      success: CredentialAnswer,
      error: [RefreshFailedAnswer, IntegrationNotFoundAnswer, RateLimitedAnswer]
    }),
    HttpApiEndpoint.get("validate", "/v1/credentials/:integration_id/validate", {
      params,
      headers,
      success: ValidationAnswer,
      error: [IntegrationNotFoundAnswer, RateLimitedAnswer]
    }),
    HttpApiEndpoint.post("usage", "/v1/credentials/:integration_id/usage", {
      params,
      headers: { ...headers, "idempotency-key": Schema.optional(Schema.String) },
      payload: UsagePayload,
      success: UsageAnswer,
      error: [IntegrationNotFoundAnswer, RateLimitedAnswer]
    })
  )
  .middleware(AgentAuthorization)
  .annotateMerge(OpenApi.annotations({ title: "Credentials" }))
{}

/**
 * The endpoint that needs no API key.
 *
 * @since 0.1.0
 * @category api
 */
export class HealthGroup extends HttpApiGroup.make("health")
  .add(HttpApiEndpoint.get("check", "/health", { success: HealthAnswer }))
  .annotateMerge(OpenApi.annotations({ title: "Health" }))
{}

/**
 * The whole contract. `OpenApi.fromApi(AdenApi)` is its OpenAPI document.
 *
 * @example
 * ```ts
 * import { AdenApi } from "aden-credentials"
 * import { OpenApi } from "effect/http-api"
 *
 * const document = JSON.stringify(OpenApi.fromApi(AdenApi))
 * ```
 *
 * @since 0.1.0
 * @category api
 */
export class AdenApi extends HttpApi.make("aden")
  .add(CredentialsGroup)
  .add(HealthGroup)
  .annotateMerge(OpenApi.annotations({ title: "Aden credentials", version: "1" }))
{}
