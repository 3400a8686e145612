/**
 * The six endpoints of an Aden server, with every answer told apart as a typed error, retries, a time limit per attempt and
 * a circuit breaker. The rules are those of docs/contract.md.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import {
  AdenProtocolError,
  AdenTimeout,
  AdenUnavailable,
  IntegrationNotFound,
  RefreshFailed
} from "../../errors/CredentialError.ts"
import type {
  AdenConfigError,
  AdenConnectionFailed,
  AdenFailure,
  AdenRequestFailure,
  FetchFailure
} from "../../errors/CredentialError.ts"
import type { CredentialValidation, ProviderAccount } from "../../model/Credential.ts"
import { countSetting, durationSetting } from "../../model/settings.ts"
import { requests } from "../../util/metrics.ts"
import { CredentialAnswer, HealthAnswer, IntegrationListEnvelope, UsageAnswer, ValidationAnswer } from "./AdenApi.ts"
import { credentialOf, fitsPath, healthOf, integrationsOf, validationOf } from "./bodies.ts"
import type { ClockSample } from "./ClockSkew.ts"
import { ClockOffset } from "./ClockSkew.ts"
import { adenEndpoints, AdenTransport } from "./endpoints.ts"
import * as environment from "./environment.ts"
import type { Answer, Question } from "./failures.ts"
import { decodeAnswer, failureOf, isSuccessful, requestFailureOf, serverTime } from "./failures.ts"
import { AdenCircuit, adenRetries } from "./resilience.ts"
import { apiKeySetting, serverUrlSetting, tenantIdSetting } from "./settings.ts"
import { connectionFailed, readBody, withSameOriginRedirects } from "./transport.ts"

/**
 * A credential as Aden answered it, with every default applied.
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
  /** Empty when Aden named none. */
  readonly scopes: ReadonlyArray<string>
  /** The text values of Aden's metadata; the e-mail is among them. */
  readonly metadata: ReadonlyMap<string, string>
}

/**
 * Aden's list: the integrations, and the items that could not be read.
 *
 * @since 0.1.0
 * @category models
 */
export interface AdenIntegrations {
  readonly accounts: ReadonlyArray<ProviderAccount>
  readonly malformed: ReadonlyArray<{ readonly id: string | undefined; readonly detail: string }>
}

/**
 * What Aden says of itself, and how long it took to say it.
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
 * A report of one use of a credential. `timestamp` is when it was used, now by default. Two reports with one
 * `idempotencyKey` count once; it travels as `Idempotency-Key`, in which what is not visible ASCII is percent-encoded.
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
 * The client of an Aden server. One instance holds one API key, one tenant and one circuit.
 *
 * @since 0.1.0
 * @category services
 */
export class AdenClient extends Context.Service<AdenClient, {
  /** `GET /v1/credentials/{id}`; none when Aden has no such integration. */
  readonly getCredential: (id: string) => Effect.Effect<Option.Option<AdenCredential>, FetchFailure>
  /** `POST /v1/credentials/{id}/refresh`. A token that has expired already is `RefreshFailed`. */
  readonly requestRefresh: (id: string) => Effect.Effect<AdenCredential, FetchFailure | IntegrationNotFound>
  /** `GET /v1/credentials`. */
  readonly listIntegrations: Effect.Effect<AdenIntegrations, AdenRequestFailure>
  /** `GET /v1/credentials/{id}/validate`. An invalid token is an answer. */
  readonly validateToken: (id: string) => Effect.Effect<CredentialValidation, AdenFailure>
  /** `POST /v1/credentials/{id}/usage`; answers whether Aden recorded it. Outside the circuit. */
  readonly reportUsage: (id: string, report: AdenUsageReport) => Effect.Effect<boolean, AdenFailure>
  /** `GET /health`, without the API key and outside the circuit. */
  readonly healthCheck: Effect.Effect<AdenHealth, AdenRequestFailure>
  /** How far Aden's clock is ahead of the local one, in ms: what `Date` headers showed, zero below 2 s, at most 5 min. */
  readonly clockOffset: Effect.Effect<number>
}>()("aden-credentials/AdenClient") {
  /** Exponential from 1 s, factor 2, jittered; three attempts in all. */
  static readonly defaultRetry: Schedule.Schedule<unknown, AdenFailure> = Schedule.exponential("1 second").pipe(
    Schedule.jittered,
    Schedule.upTo({ times: 2 })
  )

  /**
   * A client from settings. Fails with `AdenConfigError` before any request when one makes no sense.
   *
   * Redirects are followed only within the origin, so the fetch client is told to hand them back: of its
   * `FetchHttpClient.RequestInit`, the one where this layer is built applies.
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

  /** A client from `ADEN_API_URL`, `ADEN_API_KEY` and, when set, `ADEN_TENANT_ID`. */
  static readonly layerConfig: Layer.Layer<AdenClient, AdenConfigError, HttpClient.HttpClient> = Layer.suspend(() =>
    AdenClient.layerConfigWith({})
  )

  /** Like `layerConfig`, with settings given here in place of those from the environment. */
  static readonly layerConfigWith = (
    overrides: Partial<AdenClientOptions>
  ): Layer.Layer<AdenClient, AdenConfigError, HttpClient.HttpClient> =>
    Layer.effect(AdenClient, Effect.flatMap(fromEnvironment(overrides), ({ names, options }) => make(options, names)))

  /** A client of which only the members given work: the others die as unimplemented. Its clock is not off, unless given. */
  static readonly layerTest = (partial: Partial<AdenClient["Service"]>): Layer.Layer<AdenClient> =>
    Layer.mock(AdenClient, { clockOffset: Effect.succeed(0), ...partial })
}

/**
 * Settings of the client.
 *
 * @since 0.1.0
 * @category models
 */
export interface AdenClientOptions {
  /** The server's URL, `https:` unless the host is loopback or `allowInsecure` is set. A path is kept as a prefix. */
  readonly baseUrl: string
  /** The agent's API key. Given as an Effect, it is read again when Aden answers 401, so a rotated key is picked up. */
  readonly apiKey: Redacted.Redacted<string> | Effect.Effect<Redacted.Redacted<string>, AdenConfigError>
  /** Sent as `X-Tenant-ID`; a list for another tenant is refused. */
  readonly tenantId?: string | undefined
  /** The time allowed for one attempt, 30 seconds by default. */
  readonly timeout?: Duration.Input | undefined
  /** When to try again after a transient failure: {@link AdenClient.defaultRetry} by default. A hint of Aden's is a floor under its delays. */
  readonly retry?: Schedule.Schedule<unknown, AdenFailure> | undefined
  /**
   * When to stop asking: after 5 unavailable answers in a row, for 30 seconds, by default. While the probes go on failing it is
   * longer, up to five times `openFor`.
   */
  readonly circuitBreaker?: {
    readonly failures?: number | undefined
    readonly openFor?: Duration.Input | undefined
  } | undefined
  /** The longest `Retry-After` that the client waits out by itself, 10 seconds by default; 0: none. */
  readonly maxRetryAfter?: Duration.Input | undefined
  /** Allows `http:` to a host that is not this machine. Tokens then travel in the clear. */
  readonly allowInsecure?: boolean | undefined
}

// internal

type SettingNames = Readonly<Record<"baseUrl" | "apiKey" | "tenantId", string>>

const optionNames: SettingNames = { baseUrl: "baseUrl", apiKey: "apiKey", tenantId: "tenantId" }

const fromEnvironment = Effect.fnUntraced(function*(overrides: Partial<AdenClientOptions>) {
  const options: AdenClientOptions = {
    ...overrides,
    baseUrl: overrides.baseUrl ?? (yield* environment.apiUrl),
    apiKey: overrides.apiKey ?? (yield* environment.apiKey),
    tenantId: overrides.tenantId ?? (yield* environment.tenantId)
  }
  // each by the name under which it was set
  const names: SettingNames = {
    baseUrl: overrides.baseUrl === undefined ? "ADEN_API_URL" : optionNames.baseUrl,
    apiKey: overrides.apiKey === undefined ? "ADEN_API_KEY" : optionNames.apiKey,
    tenantId: overrides.tenantId === undefined ? "ADEN_TENANT_ID" : optionNames.tenantId
  }
  return { options, names }
})

const bodyLimit = 1024 * 1024
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
  let apiKey = yield* currentKey
  const tenantId = yield* tenantIdSetting(names.tenantId, options.tenantId)
  const timeout = yield* durationSetting("timeout", options.timeout ?? "30 seconds")
  const maxRetryAfter = yield* durationSetting("maxRetryAfter", options.maxRetryAfter ?? "10 seconds", {
    isZeroAllowed: true
  })
  const openFor = yield* durationSetting("circuitBreaker.openFor", options.circuitBreaker?.openFor ?? "30 seconds")
  const failures = yield* countSetting(
    "circuitBreaker.failures",
    options.circuitBreaker?.failures ?? 5,
    "Give the number of unavailable answers after which Aden is left alone."
  )

  const root = baseUrl.href.replace(/\/+$/, "")
  const client = withSameOriginRedirects(http).pipe(
    HttpClient.mapRequest((request) => HttpClientRequest.acceptJson(HttpClientRequest.prependUrl(request, root)))
  )
  const authorized = HttpClient.mapRequest(client, (request) => HttpClientRequest.bearerToken(request, apiKey))
  const { credentials, health } = yield* adenEndpoints
  // fetch follows redirects by itself and takes the headers along, unless it is told to hand them back
  const requestInit: RequestInit = {
    ...Option.getOrUndefined(yield* Effect.serviceOption(FetchHttpClient.RequestInit)),
    redirect: "manual"
  }

  const clockOffset = new ClockOffset()
  const noteServerTime = (sample: ClockSample) =>
    Effect.suspend(() => {
      const wasClamped = clockOffset.isClamped
      clockOffset.record(sample)
      return clockOffset.isClamped && !wasClamped ? Effect.logWarning(clockWarning(clockOffset.measured)) : Effect.void
    })

  /** One attempt: a request, with the API key unless it is sent by another client, and its whole answer. */
  const attempt = (
    endpoint: Endpoint,
    request: PendingRequest,
    id: string | undefined,
    limit: number,
    by = authorized
  ): Effect.Effect<Answer, AdenUnavailable> =>
    Effect.gen(function*() {
      const sentAt = yield* Clock.currentTimeMillis
      const response = yield* Effect.provideService(request, AdenTransport, by)
      const receivedAt = yield* Clock.currentTimeMillis
      const date = serverTime(response.headers)
      // a report is nobody's question: the store, which sends it, does not look at the clock after it
      if (Option.isSome(date) && endpoint !== "usage") {
        yield* noteServerTime({ sentAt, receivedAt, serverTime: date.value })
      }
      return {
        status: response.status,
        headers: response.headers,
        body: yield* readBody(response, limit),
        receivedAt
      }
    }).pipe(
      Effect.provideService(FetchHttpClient.RequestInit, requestInit),
      Effect.catch((error): Effect.Effect<never, AdenConnectionFailed | AdenProtocolError> => {
        if (HttpClientError.isHttpClientError(error)) return Effect.fail(connectionFailed(error))
        // a request that does not encode is a usage report whose metadata is no JSON: a bug of the caller
        return error instanceof AdenProtocolError ? Effect.fail(error) : Effect.die(error)
      }),
      Effect.timeoutOrElse({ duration: timeout, orElse: () => Effect.fail(new AdenTimeout({ after: timeout })) }),
      Effect.onExit((exit) => countRequest(endpoint, exit)),
      Effect.mapError((reason) => new AdenUnavailable({ id, reason }))
    )

  /** Asks with the API key at hand; after a 401 once more with the key as it is now, if that is another. */
  const ask = <A, E extends AdenFailure>(question: {
    readonly endpoint: Endpoint
    readonly request: PendingRequest
    readonly id: string | undefined
    readonly limit: number
    readonly read: (answer: Answer, secrets: ReadonlyArray<string>) => Result.Result<A, E>
  }): Effect.Effect<A, E | AdenUnavailable> => {
    const askWith = (key: Redacted.Redacted<string>) =>
      Effect.flatMap(
        attempt(question.endpoint, question.request, question.id, question.limit),
        (answer) => Effect.fromResult(question.read(answer, [Redacted.value(key)]))
      )
    return Effect.suspend(() => {
      const used = apiKey
      return Effect.catch(
        askWith(used),
        (error) =>
          error._tag !== "AdenUnauthorized" ? Effect.fail(error) : Effect.matchEffect(currentKey, {
            onFailure: () => Effect.fail(error),
            onSuccess: (current) => {
              if (Redacted.value(current) === Redacted.value(used)) return Effect.fail(error)
              apiKey = current
              return askWith(current)
            }
          })
      )
    })
  }

  /** Asks about one integration; `read` gets the answers in 200–299. */
  const askAbout = <A>(
    id: string,
    endpoint: Endpoint,
    request: PendingRequest,
    read: (answer: Answer, question: Question) => Result.Result<A, AdenFailure>
  ): Effect.Effect<A, AdenFailure> =>
    ask({
      endpoint,
      request,
      id,
      limit: bodyLimit,
      read: (answer, secrets) => {
        const question = { id, secrets }
        return isSuccessful(answer) ? read(answer, question) : Result.fail(failureOf(answer, question))
      }
    })

  const retries = adenRetries(options.retry ?? AdenClient.defaultRetry, maxRetryAfter)
  const retrying = <A, E extends AdenFailure>(self: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.retry(self, retries)

  const circuit = yield* AdenCircuit.make({ failures, openFor })

  /** Retries through the circuit, so that each attempt counts and none is made once it has opened. */
  const guarded = <A, E extends AdenFailure>(
    id: string | undefined,
    self: Effect.Effect<A, E>
  ): Effect.Effect<A, E | AdenUnavailable> => retrying(circuit.guard("aden", id, self))

  const tenant = tenantId === undefined ? {} : { "x-tenant-id": tenantId }
  const about = (id: string) => ({ params: { integration_id: id }, headers: tenant, responseMode }) as const

  const readCredential = (id: string) => (answer: Answer, question: Question) =>
    Result.flatMap(decodeAnswer(CredentialAnswer, answer, question), (body) => credentialOf(id, body))

  const getCredential = Effect.fn("AdenClient.getCredential")(function*(id: string) {
    yield* Effect.annotateCurrentSpan({ "aden.integration": id })
    if (!fitsPath(id)) return Option.none()
    return yield* guarded(id, askAbout(id, "get", credentials.get(about(id)), readCredential(id))).pipe(
      Effect.asSome,
      Effect.catchTag("IntegrationNotFound", () => Effect.succeedNone)
    )
  })

  const requestRefresh = Effect.fn("AdenClient.requestRefresh")(function*(id: string) {
    yield* Effect.annotateCurrentSpan({ "aden.integration": id })
    if (!fitsPath(id)) return yield* new IntegrationNotFound({ id })
    const credential = yield* guarded(id, askAbout(id, "refresh", credentials.refresh(about(id)), readCredential(id)))
    const now = (yield* Clock.currentTimeMillis) + clockOffset.current
    if (credential.expiresAt !== undefined && DateTime.toEpochMillis(credential.expiresAt) <= now) {
      return yield* new RefreshFailed({ id, detail: "it answered a token that has expired already" })
    }
    return credential
  })

  const listIntegrations = guarded(
    undefined,
    ask({
      endpoint: "list",
      request: credentials.list({ headers: tenant, responseMode }),
      id: undefined,
      limit: listBodyLimit,
      read: (answer, secrets): Result.Result<AdenIntegrations, AdenRequestFailure> => {
        const question = { id: undefined, secrets }
        if (!isSuccessful(answer)) return Result.fail(requestFailureOf(answer, question))
        return Result.flatMap(
          decodeAnswer(IntegrationListEnvelope, answer, question),
          (body) => integrationsOf(body, tenantId)
        )
      }
    })
  ).pipe(Effect.withSpan("AdenClient.listIntegrations"))

  const validateToken = Effect.fn("AdenClient.validateToken")(function*(id: string) {
    yield* Effect.annotateCurrentSpan({ "aden.integration": id })
    if (!fitsPath(id)) return yield* new IntegrationNotFound({ id })
    return yield* guarded(
      id,
      askAbout(
        id,
        "validate",
        credentials.validate(about(id)),
        (answer, question) =>
          Result.map(decodeAnswer(ValidationAnswer, answer, question), (body) => validationOf(body, answer, question))
      )
    )
  })

  const reportUsage = Effect.fn("AdenClient.reportUsage")(function*(id: string, report: AdenUsageReport) {
    yield* Effect.annotateCurrentSpan({ "aden.integration": id })
    if (!fitsPath(id)) return yield* new IntegrationNotFound({ id })
    const { metadata, operation, status } = report
    const timestamp = report.timestamp ?? (yield* DateTime.now)
    const request = credentials.usage({
      ...about(id),
      headers: report.idempotencyKey === undefined
        ? tenant
        : { ...tenant, "idempotency-key": asHeaderText(report.idempotencyKey) },
      payload: { operation, status, timestamp, ...(metadata === undefined ? {} : { metadata }) }
    })
    return yield* retrying(
      askAbout(
        id,
        "usage",
        request,
        (answer, question) => Result.map(decodeAnswer(UsageAnswer, answer, question), (body) => body.received)
      )
    )
  })

  const healthCheck = retrying(Effect.gen(function*() {
    const [latency, answer] = yield* Effect.timed(
      attempt("health", health.check({ responseMode }), undefined, bodyLimit, client)
    )
    const question = { id: undefined, secrets: [Redacted.value(apiKey)] }
    if (!isSuccessful(answer)) return yield* Effect.fail(requestFailureOf(answer, question))
    const body = yield* Effect.fromResult(decodeAnswer(HealthAnswer, answer, question))
    return { ...healthOf(body), latency }
  })).pipe(Effect.withSpan("AdenClient.healthCheck"))

  return AdenClient.of({
    getCredential,
    requestRefresh,
    listIntegrations,
    validateToken,
    reportUsage,
    healthCheck,
    clockOffset: Effect.sync(() => clockOffset.current)
  })
})

/** Answers are read here and not by the derived client: which error one is, the status and the body tell together. */
const responseMode = "response-only"

type Endpoint = "list" | "get" | "refresh" | "validate" | "usage" | "health"

/** Counts a request by what came of it: a status, or why there was no whole answer. */
const countRequest = (
  endpoint: Endpoint,
  exit: Exit.Exit<Answer, AdenConnectionFailed | AdenProtocolError | AdenTimeout>
): Effect.Effect<void> => {
  const error = Option.getOrUndefined(Exit.findErrorOption(exit))
  const status = Exit.isSuccess(exit) ? String(exit.value.status) : error?._tag ?? "interrupted"
  return Metric.update(Metric.withAttributes(requests, { endpoint, status }), 1)
}

type PendingRequest = Effect.Effect<HttpClientResponse.HttpClientResponse, unknown, AdenTransport>

const clockWarning = (offset: number): string => {
  const apart = Duration.format(Duration.seconds(Math.round(Math.abs(offset) / 1000)))
  return `Aden's clock and the local one are ${apart} apart, of which 5 minutes are made up for. Set this machine's clock.`
}

const asHeaderText = (text: string): string => text.toWellFormed().replace(/[^\x21-\x7e]/gu, encodeURIComponent)
