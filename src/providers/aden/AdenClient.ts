/**
 * The client for the six endpoints of an Aden server, with a typed error for each kind of failure, retries, a time limit per
 * attempt and a circuit breaker. The rules are those of docs/contract.md.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import { IntegrationNotFound, RefreshFailed } from "../../errors/AdenError.ts"
import type { AdenFailure, AdenRequestFailure, FetchFailure } from "../../errors/AdenError.ts"
import type { AdenConfigError } from "../../errors/ConfigError.ts"
import type { CredentialIssuer, CredentialValidation, ProviderAccount } from "../../model/Credential.ts"
import { countSetting, durationSetting } from "../../model/settings.ts"
import { CredentialAnswer, HealthAnswer, IntegrationListEnvelope, UsageAnswer, ValidationAnswer } from "./AdenApi.ts"
import { AdenConnection, bodyLimit } from "./AdenConnection.ts"
import { credentialOf, fitsPath, hasZeroExpiry, healthOf, integrationsOf, validationOf } from "./bodies.ts"
import { endpoints } from "./endpoints.ts"
import * as environment from "./environment.ts"
import type { Answer, RequestContext } from "./failures.ts"
import { decodeAnswer, isSuccessful, requestFailureOf } from "./failures.ts"
import { apiKeySetting, issuerOfUrl, issuerSetting, serverUrlSetting, tenantIdSetting } from "./settings.ts"

/**
 * A credential in an answer of Aden's, with the defaults applied.
 *
 * @since 0.1.0
 * @category models
 */
export interface AdenCredential {
  readonly id: string
  readonly integrationType: string
  readonly alias: string | undefined
  readonly email: string | undefined
  readonly accessToken: Redacted.Redacted<string>
  readonly tokenType: string
  /** `undefined`: the token does not expire. */
  readonly expiresAt: DateTime.Utc | undefined
  /** Empty when Aden gave none. */
  readonly scopes: ReadonlyArray<string>
  /** The text values of Aden's metadata, with the e-mail. */
  readonly metadata: ReadonlyMap<string, string>
}

/**
 * Aden's list: the integrations, the items that could not be read, and whether it may lack some.
 *
 * @since 0.1.0
 * @category models
 */
export interface AdenIntegrations {
  readonly accounts: ReadonlyArray<ProviderAccount>
  readonly malformed: ReadonlyArray<{ readonly id: string | undefined; readonly detail: string }>
  /** Whether the answer tells of further pages, which the contract does not have and the client does not read. */
  readonly isIncomplete: boolean
}

/**
 * Aden's health, and how long the answer took.
 *
 * @since 0.1.0
 * @category models
 */
export interface AdenHealth {
  readonly status: string
  readonly version: string | undefined
  readonly timestamp: DateTime.Utc | undefined
  readonly latency: Duration.Duration
}

/**
 * A report of one use of a credential. `timestamp` is when it was used, now by default. Reports with the same `idempotencyKey`
 * count once; the key is sent as `Idempotency-Key`, with characters other than visible ASCII percent-encoded.
 *
 * @since 0.1.0
 * @category models
 */
export interface AdenUsageReport {
  readonly operation: string
  readonly status: string
  readonly timestamp?: DateTime.Utc | undefined
  readonly metadata?: Readonly<Record<string, Schema.Json>> | undefined
  readonly idempotencyKey?: string | undefined
}

/**
 * The client of an Aden server. Each instance has one API key, one tenant and one circuit breaker.
 *
 * @example
 * ```ts
 * import { AdenClient } from "aden-credentials"
 * import { Console, Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const aden = yield* AdenClient
 *   const { accounts } = yield* aden.listIntegrations
 *   for (const { id, status } of accounts) yield* Console.log(id, status)
 * })
 * ```
 *
 * @since 0.1.0
 * @category services
 */
export class AdenClient extends Context.Service<AdenClient, {
  /** `GET /v1/credentials/{id}`. None when Aden has no such integration. */
  readonly getCredential: (id: string) => Effect.Effect<Option.Option<AdenCredential>, FetchFailure>
  /** `POST /v1/credentials/{id}/refresh`. An answer whose token has already expired is `RefreshFailed`. */
  readonly requestRefresh: (id: string) => Effect.Effect<AdenCredential, FetchFailure | IntegrationNotFound>
  /** `GET /v1/credentials`. */
  readonly listIntegrations: Effect.Effect<AdenIntegrations, AdenRequestFailure>
  /** `GET /v1/credentials/{id}/validate`. An invalid token is an answer. */
  readonly validateToken: (id: string) => Effect.Effect<CredentialValidation, AdenFailure>
  /** `POST /v1/credentials/{id}/usage`. Answers whether Aden recorded it. Bypasses the circuit breaker. */
  readonly reportUsage: (id: string, report: AdenUsageReport) => Effect.Effect<boolean, AdenFailure>
  /** `GET /health`, without the API key. Bypasses the circuit breaker. */
  readonly healthCheck: Effect.Effect<AdenHealth, AdenRequestFailure>
  /** Clock skew: how far Aden's clock is ahead of the local one, in ms, by its `Date` headers. Zero below 2 s, at most 5 min. */
  readonly clockOffset: Effect.Effect<number>
  /** Who issues the credentials: the server and the tenant, as far as it is known. */
  readonly issuer?: Effect.Effect<CredentialIssuer> | undefined
}>()("aden-credentials/AdenClient") {
  /** Exponential back-off from 1 s, factor 2, jittered; three attempts in all. */
  static readonly defaultRetry: Schedule.Schedule<unknown, AdenFailure> = Schedule.exponential("1 second").pipe(
    Schedule.jittered,
    Schedule.upTo({ times: 2 })
  )

  /**
   * A client with these settings. Fails with `AdenConfigError` before any request when one is invalid.
   *
   * The client follows redirects itself, only within the origin, and makes fetch return them (`redirect: "manual"`). The
   * `FetchHttpClient.RequestInit` in place where this layer is built applies to its requests.
   *
   * @example
   * ```ts
   * import { AdenClient } from "aden-credentials"
   * import { Redacted } from "effect"
   *
   * const Client = AdenClient.layer({
   *   baseUrl: "https://aden.example.com",
   *   apiKey: Redacted.make("agent-key"),
   *   timeout: "10 seconds"
   * })
   * ```
   */
  static readonly layer = (
    options: AdenClientOptions
  ): Layer.Layer<AdenClient, AdenConfigError, HttpClient.HttpClient> =>
    Layer.effect(AdenClient, make(options, optionNames))

  /** A client configured by `ADEN_API_URL`, `ADEN_API_KEY` and, when set, `ADEN_TENANT_ID` and `ADEN_ISSUER`. */
  static readonly layerConfig: Layer.Layer<AdenClient, AdenConfigError, HttpClient.HttpClient> = Layer.suspend(() =>
    AdenClient.layerConfigWith({})
  )

  /** Like `layerConfig`; the settings given here override those from the environment. */
  static readonly layerConfigWith = (
    overrides: Partial<AdenClientOptions>
  ): Layer.Layer<AdenClient, AdenConfigError, HttpClient.HttpClient> =>
    Layer.effect(AdenClient, makeFromEnvironment(overrides))

  /**
   * A mock for tests: members that are not given die as unimplemented. `clockOffset` is 0 by default.
   *
   * @example
   * ```ts
   * import { AdenClient } from "aden-credentials"
   * import { Effect, Option } from "effect"
   *
   * const Client = AdenClient.layerTest({ getCredential: () => Effect.succeed(Option.none()) })
   * ```
   */
  static readonly layerTest = (partial: Partial<AdenClient["Service"]>): Layer.Layer<AdenClient> =>
    Layer.mock(AdenClient, { clockOffset: Effect.succeed(0), issuer: undefined, ...partial })
}

/**
 * Settings of the client.
 *
 * @since 0.1.0
 * @category models
 */
export interface AdenClientOptions {
  /** The server's URL: `https:`, unless the host is loopback or `allowInsecure` is set. A path is kept as a prefix. */
  readonly baseUrl: string
  /** The agent's API key. An Effect is run again when Aden answers 401, so that a rotated key is picked up. */
  readonly apiKey: Redacted.Redacted<string> | Effect.Effect<Redacted.Redacted<string>, AdenConfigError>
  /** Sent as `X-Tenant-ID`. A list of another tenant is refused. */
  readonly tenantId?: string | undefined
  /**
   * The name of this Aden, by which stored credentials are known to be its own; `baseUrl` by default, without a slash at its end. Give it
   * where one server has several URLs, or the URL is not always the same.
   */
  readonly issuer?: string | undefined
  /** The time limit for one attempt, 30 seconds by default. */
  readonly timeout?: Duration.Input | undefined
  /** Retries of transient failures, {@link AdenClient.defaultRetry} by default. A `Retry-After` is the minimum of the next delay. */
  readonly retry?: Schedule.Schedule<unknown, AdenFailure> | undefined
  /**
   * The circuit breaker opens after `failures` unavailable answers in a row (5 by default), for about a second, and longer while its
   * probes fail, at most for `openFor` (30 seconds by default).
   */
  readonly circuitBreaker?: {
    readonly failures?: number | undefined
    readonly openFor?: Duration.Input | undefined
  } | undefined
  /** The longest `Retry-After` that the client waits out itself, 10 seconds by default; 0 waits for none. */
  readonly maxRetryAfter?: Duration.Input | undefined
  /** Allows `http:` to other hosts than this machine. Tokens are then sent unencrypted. */
  readonly allowInsecure?: boolean | undefined
}

// internal

type SettingNames = Readonly<Record<"baseUrl" | "apiKey" | "tenantId" | "issuer", string>>

const optionNames: SettingNames = { baseUrl: "baseUrl", apiKey: "apiKey", tenantId: "tenantId", issuer: "issuer" }

const fromEnvironment = Effect.fnUntraced(function*(overrides: Partial<AdenClientOptions>) {
  const options: AdenClientOptions = {
    ...overrides,
    baseUrl: overrides.baseUrl ?? (yield* environment.apiUrl),
    apiKey: overrides.apiKey ?? (yield* environment.apiKey),
    tenantId: overrides.tenantId ?? (yield* environment.tenantId),
    issuer: overrides.issuer ?? (yield* environment.issuer)
  }
  // errors name each setting as it was given
  const names: SettingNames = {
    baseUrl: overrides.baseUrl === undefined ? "ADEN_API_URL" : optionNames.baseUrl,
    apiKey: overrides.apiKey === undefined ? "ADEN_API_KEY" : optionNames.apiKey,
    tenantId: overrides.tenantId === undefined ? "ADEN_TENANT_ID" : optionNames.tenantId,
    issuer: overrides.issuer === undefined ? "ADEN_ISSUER" : optionNames.issuer
  }
  return { options, names }
})

/**
 * The service of `AdenClient.layerConfigWith`, without a layer.
 *
 * @internal
 */
export const makeFromEnvironment = (overrides: Partial<AdenClientOptions>) =>
  Effect.flatMap(fromEnvironment(overrides), ({ names, options }) => make(options, names))

const listBodyLimit = 16 * bodyLimit

const make = Effect.fnUntraced(function*(options: AdenClientOptions, names: SettingNames) {
  const http = yield* HttpClient.HttpClient
  const baseUrl = yield* serverUrlSetting(names.baseUrl, options.baseUrl, {
    allowInsecure: options.allowInsecure === true
  })
  const currentKey = Effect.flatMap(
    Redacted.isRedacted(options.apiKey) ? Effect.succeed(options.apiKey) : options.apiKey,
    (key) => apiKeySetting(names.apiKey, key)
  )
  const apiKey = yield* currentKey
  const tenantId = yield* tenantIdSetting(names.tenantId, options.tenantId)
  const issuer = (yield* issuerSetting(names.issuer, options.issuer)) ?? issuerOfUrl(baseUrl)
  const timeout = yield* durationSetting("timeout", options.timeout ?? "30 seconds")
  const maxRetryAfter = yield* durationSetting("maxRetryAfter", options.maxRetryAfter ?? "10 seconds", {
    isZeroAllowed: true
  })
  const openFor = yield* durationSetting("circuitBreaker.openFor", options.circuitBreaker?.openFor ?? "30 seconds")
  const failures = yield* countSetting(
    "circuitBreaker.failures",
    options.circuitBreaker?.failures ?? 5,
    "Give the number of failures in a row after which the circuit opens."
  )
  const connection = new AdenConnection({
    http,
    root: baseUrl.href.replace(/\/+$/, ""),
    apiKey,
    currentKey,
    requestInit: Option.getOrUndefined(yield* Effect.serviceOption(FetchHttpClient.RequestInit)),
    timeout,
    retry: options.retry ?? AdenClient.defaultRetry,
    maxRetryAfter,
    circuit: { failures, openFor },
    scope: yield* Effect.scope
  })
  const server: Server = { connection, tenantId, listed: { tenantId: undefined }, endpoints: yield* endpoints }
  return AdenClient.of({
    getCredential: (id) => getCredential(server, id),
    requestRefresh: (id) => requestRefresh(server, id),
    listIntegrations: Effect.suspend(() => listIntegrations(server)),
    validateToken: (id) => validateToken(server, id),
    reportUsage: (id, report) => reportUsage(server, id, report),
    healthCheck: Effect.suspend(() => healthCheck(server)),
    clockOffset: Effect.sync(() => connection.clockOffset),
    issuer: Effect.sync(() => {
      const known = tenantId ?? server.listed.tenantId
      return known === undefined ? { name: issuer } : { name: issuer, tenantId: known }
    })
  })
})

/** What the functions of a client speak with. They are made once for all clients: a program can have one for each tenant. */
interface Server {
  readonly connection: AdenConnection
  readonly tenantId: string | undefined
  /** What the last list told. */
  readonly listed: { tenantId: string | undefined }
  readonly endpoints: Effect.Success<typeof endpoints>
}

const tenantHeaders = ({ tenantId }: Server): Readonly<Record<string, string>> =>
  tenantId === undefined ? {} : { "x-tenant-id": tenantId }

const about = (server: Server, id: string) =>
  ({ params: { integration_id: id }, headers: tenantHeaders(server), responseMode }) as const

const readCredential = Effect.fnUntraced(function*(
  { connection }: Server,
  id: string,
  answer: Answer,
  context: RequestContext
) {
  const body = yield* Effect.fromResult(decodeAnswer(CredentialAnswer, answer, context))
  if (hasZeroExpiry(body, answer)) yield* connection.warnOnce(zeroExpiryWarning)
  return yield* Effect.fromResult(credentialOf(id, body, answer))
})

/** A question about one integration whose answer is its credential. */
const askCredential = (server: Server, id: string, endpoint: "get" | "refresh") => {
  const { connection, endpoints: { credentials } } = server
  const request = credentials[endpoint](about(server, id))
  return connection.guarded(
    id,
    connection.askAbout(id, endpoint, request, (answer, context) => readCredential(server, id, answer, context))
  )
}

const getCredential = Effect.fn("AdenClient.getCredential")(function*(server: Server, id: string) {
  yield* Effect.annotateCurrentSpan({ "aden.integration": id })
  if (!fitsPath(id)) return Option.none()
  return yield* askCredential(server, id, "get").pipe(
    Effect.asSome,
    Effect.catchTag("IntegrationNotFound", () => Effect.succeedNone)
  )
})

const requestRefresh = Effect.fn("AdenClient.requestRefresh")(function*(server: Server, id: string) {
  yield* Effect.annotateCurrentSpan({ "aden.integration": id })
  if (!fitsPath(id)) return yield* new IntegrationNotFound({ id })
  const credential = yield* askCredential(server, id, "refresh")
  const now = (yield* Clock.currentTimeMillis) + server.connection.clockOffset
  if (credential.expiresAt !== undefined && DateTime.toEpochMillis(credential.expiresAt) <= now) {
    return yield* new RefreshFailed({ id, detail: "it answered with a token that has already expired" })
  }
  return credential
})

const listIntegrations = Effect.fn("AdenClient.listIntegrations")((server: Server) => {
  const { connection, endpoints: { credentials }, tenantId } = server
  return connection.guarded(
    undefined,
    connection.ask({
      endpoint: "list",
      request: credentials.list({ headers: tenantHeaders(server), responseMode }),
      id: undefined,
      limit: listBodyLimit,
      read: Effect.fnUntraced(
        function*(answer, secrets): Effect.fn.Return<AdenIntegrations, AdenRequestFailure> {
          const context = { id: undefined, secrets }
          if (!isSuccessful(answer)) return yield* Effect.fail(requestFailureOf(answer, context))
          const body = yield* Effect.fromResult(decodeAnswer(IntegrationListEnvelope, answer, context))
          const { tenantId: listedTenantId, zeroExpiries, ...list } = yield* Effect.fromResult(
            integrationsOf(body, answer, tenantId)
          )
          server.listed.tenantId = listedTenantId
          if (zeroExpiries > 0) yield* connection.warnOnce(zeroExpiryWarning)
          if (list.isIncomplete) yield* connection.warnOnce(incompleteListWarning)
          return list
        }
      )
    })
  )
})

const validateToken = Effect.fn("AdenClient.validateToken")(function*(server: Server, id: string) {
  yield* Effect.annotateCurrentSpan({ "aden.integration": id })
  if (!fitsPath(id)) return yield* new IntegrationNotFound({ id })
  const { connection, endpoints: { credentials } } = server
  return yield* connection.guarded(
    id,
    connection.askAbout(
      id,
      "validate",
      credentials.validate(about(server, id)),
      Effect.fnUntraced(function*(answer, context) {
        const body = yield* Effect.fromResult(decodeAnswer(ValidationAnswer, answer, context))
        if (hasZeroExpiry(body, answer)) yield* connection.warnOnce(zeroExpiryWarning)
        return validationOf(body, answer, context)
      })
    )
  )
})

const reportUsage = Effect.fn("AdenClient.reportUsage")(function*(
  server: Server,
  id: string,
  report: AdenUsageReport
) {
  yield* Effect.annotateCurrentSpan({ "aden.integration": id })
  if (!fitsPath(id)) return yield* new IntegrationNotFound({ id })
  const { connection, endpoints: { credentials } } = server
  const { metadata, operation, status } = report
  const timestamp = report.timestamp ?? (yield* DateTime.now)
  const tenant = tenantHeaders(server)
  const request = credentials.usage({
    ...about(server, id),
    headers: report.idempotencyKey === undefined
      ? tenant
      : { ...tenant, "idempotency-key": asHeaderText(report.idempotencyKey) },
    payload: { operation, status, timestamp, ...(metadata === undefined ? {} : { metadata }) }
  })
  return yield* connection.retrying(
    connection.askAbout(
      id,
      "usage",
      request,
      (answer, context) =>
        Effect.map(Effect.fromResult(decodeAnswer(UsageAnswer, answer, context)), ({ received }) => received)
    )
  )
})

const healthCheck = Effect.fn("AdenClient.healthCheck")(({ connection, endpoints: { health } }: Server) =>
  connection.retrying(Effect.gen(function*() {
    const [latency, answer] = yield* Effect.timed(
      connection.attemptWithoutKey("health", health.check({ responseMode }))
    )
    const context = { id: undefined, secrets: connection.secrets }
    if (!isSuccessful(answer)) return yield* Effect.fail(requestFailureOf(answer, context))
    const body = yield* Effect.fromResult(decodeAnswer(HealthAnswer, answer, context))
    return { ...healthOf(body), latency }
  }))
)

/** Answers are decoded here, not by the derived client, because the error depends on both status and body. */
const responseMode = "response-only"

const zeroExpiryWarning =
  "Aden sends the zero value of a time as expires_at; it is read as no expiry. It should leave the field out."

const incompleteListWarning =
  "Aden's list tells of further pages, which are not read: it may be incomplete, and nothing is removed by it."

const asHeaderText = (text: string): string => text.toWellFormed().replace(/[^\x21-\x7e]/gu, encodeURIComponent)
