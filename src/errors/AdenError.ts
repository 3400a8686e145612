/**
 * What Aden's answers mean other than success, and why Aden may be unavailable.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import { printable } from "../util/sanitize.ts"
import { ActionableError, line, optionalDuration, optionalText, quoted } from "./Actionable.ts"

const about = (id: string | undefined): string => id === undefined ? "" : ` for ${quoted(id)}`
const because = (detail: string | undefined): string => detail === undefined ? "" : `: ${detail}`
const wait = (duration: Duration.Duration | undefined): string =>
  duration === undefined
    ? ""
    : ` (next try in ${Duration.format(Duration.seconds(Math.ceil(Duration.toSeconds(duration))))})`

/**
 * What a person does whose integration has to be authorized again.
 *
 * @internal
 */
export const reauthorizationRemedy = (reauthorizationUrl: string | undefined): string =>
  reauthorizationUrl === undefined
    ? "Reconnect the integration in Aden's dashboard."
    : line`Open ${reauthorizationUrl} in a browser and connect the integration again.`

// ---------------------------------------------------------------------------------------------------------------------
// Why Aden is unavailable
// ---------------------------------------------------------------------------------------------------------------------

/**
 * No answer: connection refused or reset, DNS, TLS. `detail` is the system's code or a short description.
 *
 * @since 0.1.0
 * @category reasons
 */
export class AdenConnectionFailed extends Schema.TaggedError<AdenConnectionFailed>()("AdenConnectionFailed", {
  detail: Schema.String
}) {
  override get message(): string {
    return line`no connection: ${this.detail}`
  }
}

/**
 * No complete answer within the time allowed.
 *
 * @since 0.1.0
 * @category reasons
 */
export class AdenTimeout extends Schema.TaggedError<AdenTimeout>()("AdenTimeout", {
  after: Schema.Duration
}) {
  override get message(): string {
    return line`no answer within ${Duration.format(this.after)}`
  }
}

/**
 * An answer that is not what the contract says: a status, a body or a redirect that a proxy or a faulty server sends.
 * `status` is the HTTP status, where there was one.
 *
 * @since 0.1.0
 * @category reasons
 */
export class AdenProtocolError extends Schema.TaggedError<AdenProtocolError>()("AdenProtocolError", {
  detail: Schema.String,
  status: Schema.optional(Schema.Int),
  /** Whether asking again at once can help: after a torn body it can, after a proxy's page or another's credential not. */
  isTransient: Schema.Boolean
}) {
  override get message(): string {
    return this.status === undefined ? printable(this.detail) : line`HTTP ${this.status}: ${this.detail}`
  }
}

/**
 * Aden failed several times in a row, and for a while is not asked at all.
 *
 * @since 0.1.0
 * @category reasons
 */
export class AdenCircuitOpen extends Schema.TaggedError<AdenCircuitOpen>()("AdenCircuitOpen", {
  retryAfter: optionalDuration
}) {
  override get message(): string {
    return "not asked, because it failed several times in a row"
  }
}

/**
 * Why Aden is unavailable: the `reason` of {@link AdenUnavailable}.
 *
 * @since 0.1.0
 * @category reasons
 */
export const AdenUnavailableReason = Schema.Union([
  AdenConnectionFailed,
  AdenTimeout,
  AdenProtocolError,
  AdenCircuitOpen
])

/**
 * @since 0.1.0
 * @category reasons
 */
export type AdenUnavailableReason = typeof AdenUnavailableReason.Type

// ---------------------------------------------------------------------------------------------------------------------
// What Aden's answers mean
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Aden cannot be reached or does not answer sensibly: nothing is known about the credential. `reason` says why.
 *
 * @since 0.1.0
 * @category errors
 */
export class AdenUnavailable extends ActionableError<AdenUnavailable>()("AdenUnavailable", {
  id: optionalText,
  reason: AdenUnavailableReason
}, {
  message: ({ id, reason, retryAfter }) => line`Aden is unavailable${about(id)}: ${reason.message}${wait(retryAfter)}`,
  isRetryable: true,
  retryAfter: ({ reason }) => reason._tag === "AdenCircuitOpen" ? reason.retryAfter : undefined,
  remedy: ({ reason }) =>
    reason._tag === "AdenProtocolError"
      ? "Check that ADEN_API_URL names an Aden server and ADEN_TENANT_ID, if set, its tenant, and that no proxy answers in its place."
      : "Check ADEN_API_URL and the network; the library tries again by itself."
}) {}

/**
 * Aden asked for no further request within `retryAfter`.
 *
 * @since 0.1.0
 * @category errors
 */
export class RateLimited extends ActionableError<RateLimited>()("RateLimited", {
  id: optionalText,
  retryAfter: Schema.Duration
}, {
  message: ({ id, retryAfter }) => line`Aden limits the rate of requests${about(id)}${wait(retryAfter)}`,
  isRetryable: true,
  remedy: "Wait for the time given, or ask for fewer refreshes."
}) {}

/**
 * A person has to authorize the integration again. The message holds the URL where they do it, when Aden gave one.
 *
 * @since 0.1.0
 * @category errors
 */
export class ReauthRequired extends ActionableError<ReauthRequired>()("ReauthRequired", {
  id: Schema.String,
  reauthorizationUrl: optionalText,
  /** Aden's explanation, cleaned. */
  detail: optionalText
}, {
  message: ({ id, reauthorizationUrl }) =>
    line`Integration ${quoted(id)} has to be authorized again${because(reauthorizationUrl)}`,
  isRetryable: false,
  remedy: ({ reauthorizationUrl }) => reauthorizationRemedy(reauthorizationUrl)
}) {}

/**
 * Aden could not renew the token, and did not say that a person must act; or it answered a token that has expired already.
 *
 * @since 0.1.0
 * @category errors
 */
export class RefreshFailed extends ActionableError<RefreshFailed>()("RefreshFailed", {
  id: Schema.String,
  detail: Schema.String,
  retryAfter: optionalDuration
}, {
  message: ({ detail, id, retryAfter }) => line`Aden could not refresh ${quoted(id)}: ${detail}${wait(retryAfter)}`,
  isRetryable: true,
  remedy: "Try again later; if it goes on, reconnect the integration in Aden's dashboard."
}) {}

/**
 * Aden does not accept the API key. This is about the program, not about a person's connection.
 *
 * @since 0.1.0
 * @category errors
 */
export class AdenUnauthorized extends ActionableError<AdenUnauthorized>()("AdenUnauthorized", {
  id: optionalText,
  detail: optionalText
}, {
  message: ({ detail, id }) => line`Aden rejects the API key${about(id)}${because(detail)}`,
  isRetryable: false,
  remedy: "Set ADEN_API_KEY to a key that is valid for this server and tenant."
}) {}

/**
 * The API key is known but may not do this.
 *
 * @since 0.1.0
 * @category errors
 */
export class AdenForbidden extends ActionableError<AdenForbidden>()("AdenForbidden", {
  id: optionalText,
  detail: optionalText
}, {
  message: ({ detail, id }) => line`Aden does not allow this API key access${about(id)}${because(detail)}`,
  isRetryable: false,
  remedy: "Give the API key access to this tenant and integration in Aden's dashboard, or use another key."
}) {}

/**
 * Aden knows no integration of this id. Programs that use `CredentialStore` see `CredentialNotFound` instead.
 *
 * @since 0.1.0
 * @category errors
 */
export class IntegrationNotFound extends ActionableError<IntegrationNotFound>()("IntegrationNotFound", {
  id: Schema.String
}, {
  message: ({ id }) => line`Aden has no integration ${quoted(id)}`,
  isRetryable: false,
  remedy: "Connect the integration in Aden's dashboard, or use one that Aden lists."
}) {}

/**
 * Aden refused the request for a reason that has no error of its own.
 *
 * @since 0.1.0
 * @category errors
 */
export class AdenRejected extends ActionableError<AdenRejected>()("AdenRejected", {
  id: optionalText,
  status: Schema.Int,
  detail: Schema.String
}, {
  message: ({ detail, id, status }) =>
    line`Aden refused the request${about(id)} (HTTP ${status})${because(detail === "" ? undefined : detail)}`,
  isRetryable: false,
  remedy: "Check that the server and this package speak the same version of the contract."
}) {}

/**
 * What a request to Aden that names no integration can fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type AdenRequestFailure = AdenUnavailable | RateLimited | AdenUnauthorized | AdenForbidden | AdenRejected

/**
 * Everything Aden's answers can mean other than success.
 *
 * @since 0.1.0
 * @category errors
 */
export const AdenFailure = Schema.Union([
  AdenUnavailable,
  RateLimited,
  ReauthRequired,
  RefreshFailed,
  AdenUnauthorized,
  AdenForbidden,
  IntegrationNotFound,
  AdenRejected
])

/**
 * @since 0.1.0
 * @category errors
 */
export type AdenFailure = typeof AdenFailure.Type

/**
 * What asking for one credential can fail with. A credential that the provider does not have is `Option.none` in `fetch` and
 * `IntegrationNotFound` elsewhere.
 *
 * @since 0.1.0
 * @category errors
 */
export type FetchFailure =
  | AdenUnavailable
  | RateLimited
  | ReauthRequired
  | RefreshFailed
  | AdenUnauthorized
  | AdenForbidden
  | AdenRejected
