/**
 * The six endpoints of an Aden server, with every answer told apart as a typed error, retries, a time limit per attempt and
 * a circuit breaker. The rules are those of docs/contract.md.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Headers from "effect/http/Headers"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import {
  AdenApi,
  CredentialAnswer,
  HealthAnswer,
  IntegrationId,
  IntegrationItem,
  IntegrationListEnvelope,
  UsageAnswer,
  ValidationAnswer
} from "./AdenApi.ts"
import type { CredentialValidation, ProviderAccount } from "./Credential.ts"
import {
  AdenCircuitOpen,
  AdenConfigError,
  AdenConnectionFailed,
  AdenTimeout,
  AdenUnavailable,
  IntegrationNotFound,
  RefreshFailed
} from "./CredentialError.ts"
import type { AdenFailure, AdenRequestFailure, FetchFailure } from "./CredentialError.ts"
import type { Answer, Question } from "./internal/adenAnswer.ts"
import { decodeAnswer, failureOf, protocolError, reauthorizationUrl, requestFailureOf, serverTime } from "./internal/adenAnswer.ts"
import { ClockOffset } from "./internal/clockOffset.ts"
import { durationSetting } from "./internal/durationSetting.ts"
import { cleanMessage, cleanText, isClean } from "./internal/foreignText.ts"
import { isLoopback } from "./internal/loopback.ts"

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
 * `idempotencyKey` count once.
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
  /** When to stop asking: after 5 unavailable answers in a row, for 30 seconds, by default. */
  readonly circuitBreaker?: {
    readonly failures?: number | undefined
    readonly openFor?: Duration.Input | undefined
  } | undefined
  /** The longest `Retry-After` that the client waits out by itself, 10 seconds by default. */
  readonly maxRetryAfter?: Duration.Input | undefined
  /** Allows `http:` to a host that is not this machine. Tokens then travel in the clear. */
  readonly allowInsecure?: boolean | undefined
}

const bodyLimit = 1024 * 1024
const listBodyLimit = 16 * bodyLimit
const maximumRedirects = 5

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
    Layer.effect(AdenClient, make(options, { baseUrl: "baseUrl", apiKey: "apiKey", tenantId: "tenantId" }))

  /** A client from `ADEN_API_URL`, `ADEN_API_KEY` and, when set, `ADEN_TENANT_ID`. */
  static readonly layerConfig: Layer.Layer<AdenClient, AdenConfigError, HttpClient.HttpClient> = Layer.suspend(() =>
    AdenClient.layerConfigWith({})
  )

  /** Like `layerConfig`, with settings given here in place of those from the environment. */
  static readonly layerConfigWith = (
    overrides: Partial<AdenClientOptions>
  ): Layer.Layer<AdenClient, AdenConfigError, HttpClient.HttpClient> =>
    Layer.effect(AdenClient, Effect.flatMap(fromConfig(overrides), (options) => make(options, environmentNames)))

  /** A client of which only the members given work: the others die as unimplemented. */
  static readonly layerTest = (partial: Partial<AdenClient["Service"]>): Layer.Layer<AdenClient> =>
    Layer.mock(AdenClient, partial)
}

// internal

type SettingNames = Record<"baseUrl" | "apiKey" | "tenantId", string>

const environmentNames: SettingNames = { baseUrl: "ADEN_API_URL", apiKey: "ADEN_API_KEY", tenantId: "ADEN_TENANT_ID" }

const missing = (setting: string, what: string) =>
  new AdenConfigError({ setting, detail: "is not set", remedy: `Set it to ${what}.` })

/** A variable that is unset or empty is none; one that the provider cannot read is an error. */
const optionalSetting = <A>(setting: string, config: Config.Config<A>) =>
  Effect.mapError(
    Effect.suspend(() => Config.option(config)),
    () => new AdenConfigError({ setting, detail: "cannot be read", remedy: "Check where settings are read from." })
  )

const fromConfig = Effect.fnUntraced(function*(overrides: Partial<AdenClientOptions>) {
  const provider = yield* ConfigProvider.ConfigProvider
  const baseUrl = overrides.baseUrl === undefined
    ? yield* optionalSetting("ADEN_API_URL", Config.String("ADEN_API_URL"))
    : Option.some(overrides.baseUrl)
  if (Option.isNone(baseUrl)) return yield* missing("ADEN_API_URL", "the URL of the Aden server")
  const tenantId = yield* optionalSetting("ADEN_TENANT_ID", Config.String("ADEN_TENANT_ID"))
  const apiKey = optionalSetting("ADEN_API_KEY", Config.Redacted("ADEN_API_KEY")).pipe(
    Effect.flatMap(Option.match({
      onNone: () => Effect.fail(missing("ADEN_API_KEY", "the agent's API key")),
      onSome: Effect.succeed
    })),
    Effect.provideService(ConfigProvider.ConfigProvider, provider)
  )
  return { tenantId: Option.getOrUndefined(tenantId), apiKey, ...overrides, baseUrl: baseUrl.value } satisfies AdenClientOptions
})

const validBaseUrl = (options: AdenClientOptions, setting: string): Effect.Effect<URL, AdenConfigError> => {
  const refuse = (detail: string, remedy: string) => Effect.fail(new AdenConfigError({ setting, detail, remedy }))
  if (!URL.canParse(options.baseUrl)) {
    return refuse("is not a URL", "Give it as https://host, with a path if the server has one.")
  }
  const url = new URL(options.baseUrl)
  if (url.protocol !== "https:" && url.protocol !== "http:") {
    return refuse(`has the scheme ${JSON.stringify(url.protocol)}`, "Use https.")
  }
  if (url.username !== "" || url.password !== "") {
    return refuse("holds a user name or password", "Leave them out; the API key is set apart.")
  }
  if (url.search !== "" || url.hash !== "") return refuse("has a query or fragment", "Leave it out.")
  if (url.protocol === "http:" && !isLoopback(url) && options.allowInsecure !== true) {
    return refuse(`is http to ${url.hostname}, which would show tokens to the network`, "Use https, or set allowInsecure.")
  }
  return Effect.succeed(url)
}

/** A value that fits an HTTP header as it is. */
const headerText = /^[\x21-\x7e]+$/

const validApiKey = (
  key: Redacted.Redacted<string>,
  setting: string
): Effect.Effect<Redacted.Redacted<string>, AdenConfigError> => {
  const value = Redacted.value(key)
  if (value === "") return Effect.fail(missing(setting, "the agent's API key"))
  return headerText.test(value) ? Effect.succeed(key) : Effect.fail(
    new AdenConfigError({
      setting,
      detail: "holds a space, a line break or a character outside ASCII",
      remedy: "Copy the key again, without surrounding white space."
    })
  )
}

/** Whether the client tries again by itself. */
const isTransient = (error: AdenFailure, maxRetryAfter: Duration.Duration): boolean => {
  if (error._tag === "RateLimited") return Duration.isLessThanOrEqualTo(error.retryAfter, maxRetryAfter)
  if (error._tag !== "AdenUnavailable") return false
  switch (error.reason._tag) {
    case "AdenConnectionFailed":
    case "AdenTimeout":
      return true
    case "AdenProtocolError":
      return error.reason.isTransient
    case "AdenCircuitOpen":
      return false
  }
}

/** Only what looks like an outage counts against the circuit; a proxy's refusal says nothing about Aden. */
const circuitOutcome = (exit: Exit.Exit<unknown, AdenFailure>): CircuitBreaker.Outcome => {
  if (Exit.isSuccess(exit)) return CircuitBreaker.success
  const error = Option.getOrUndefined(Exit.findErrorOption(exit))
  if (error === undefined || error._tag !== "AdenUnavailable") return CircuitBreaker.success
  return error.reason._tag === "AdenProtocolError" && !error.reason.isTransient
    ? CircuitBreaker.ignored
    : CircuitBreaker.failure()
}

const make = Effect.fnUntraced(function*(options: AdenClientOptions, names: SettingNames) {
  const http = yield* HttpClient.HttpClient
  const baseUrl = yield* validBaseUrl(options, names.baseUrl)
  const keySource = Effect.flatMap(
    Redacted.isRedacted(options.apiKey) ? Effect.succeed(options.apiKey) : options.apiKey,
    (key) => validApiKey(key, names.apiKey)
  )
  const timeout = yield* durationSetting("timeout", options.timeout ?? "30 seconds")
  const maxRetryAfter = yield* durationSetting("maxRetryAfter", options.maxRetryAfter ?? "10 seconds")
  const openFor = yield* durationSetting("circuitBreaker.openFor", options.circuitBreaker?.openFor ?? "30 seconds")
  const failures = options.circuitBreaker?.failures ?? 5
  if (!Number.isInteger(failures) || failures < 1) {
    return yield* new AdenConfigError({
      setting: "circuitBreaker.failures",
      detail: "is not a whole number above zero",
      remedy: "Give the number of unavailable answers after which Aden is left alone."
    })
  }
  const tenantId = options.tenantId === "" ? undefined : options.tenantId
  if (tenantId !== undefined && !headerText.test(tenantId)) {
    return yield* new AdenConfigError({
      setting: names.tenantId,
      detail: "holds a space, a line break or a character outside ASCII",
      remedy: "Give the tenant id as Aden shows it."
    })
  }

  let apiKey = yield* keySource
  const clockOffset = new ClockOffset()
  const breakerStore = yield* Layer.build(CircuitBreaker.layerStoreMemory())
  const breaker = yield* CircuitBreaker.make({
    tripPolicy: CircuitBreaker.consecutive(failures),
    openDuration: openFor
  }).pipe(Effect.provideContext(breakerStore))

  const scoped = HttpClient.withScope(http)
  const root = baseUrl.href.replace(/\/+$/, "")
  const client = scoped.pipe(
    HttpClient.mapRequest((request) => HttpClientRequest.acceptJson(HttpClientRequest.prependUrl(request, root))),
    HttpClient.transform((response, request) =>
      Effect.flatMap(response, (answer) => followSameOrigin(scoped, request, answer, maximumRedirects))
    )
  )
  const health = yield* HttpApiClient.group(AdenApi, { group: "health", httpClient: client })
  const credentials = yield* HttpApiClient.group(AdenApi, {
    group: "credentials",
    httpClient: HttpClient.mapRequest(client, (request) => HttpClientRequest.bearerToken(request, apiKey))
  })
  const headers = tenantId === undefined ? {} : { "x-tenant-id": tenantId }

  /** One attempt: the request, its whole body, and what it means. */
  const attempt = <A, E extends AdenFailure>(options: {
    readonly request: Effect.Effect<HttpClientResponse.HttpClientResponse, unknown, Scope.Scope>
    readonly id: string | undefined
    readonly bodyLimit: number
    readonly read: (answer: Answer) => Result.Result<A, E>
  }): Effect.Effect<A, E | AdenUnavailable> =>
    Effect.gen(function*() {
      const sentAt = yield* Clock.currentTimeMillis
      const response = yield* options.request
      const receivedAt = yield* Clock.currentTimeMillis
      const date = serverTime(response.headers)
      if (Option.isSome(date)) clockOffset.record({ sentAt, receivedAt, serverTime: date.value })
      const body = yield* readBody(response, options.id, options.bodyLimit)
      return { status: response.status, headers: response.headers, body, receivedAt }
    }).pipe(
      Effect.scoped,
      withoutFollowing,
      Effect.catch((error) => {
        if (error instanceof AdenUnavailable) return Effect.fail(error)
        return HttpClientError.isHttpClientError(error)
          ? Effect.fail(connectionFailed(options.id, error, secrets()))
          : Effect.die(error)
      }),
      Effect.timeoutOrElse({
        duration: timeout,
        orElse: () => Effect.fail(new AdenUnavailable({ id: options.id, reason: new AdenTimeout({ after: timeout }) }))
      }),
      Effect.flatMap((answer) => Effect.fromResult(options.read(answer)))
    )

  /** A 401 with a key that was replaced meanwhile is asked once more with the new one. */
  const withRotatedKey = <A, E extends AdenFailure>(self: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.suspend(() => {
      const used = apiKey
      return Effect.catch(self, (error) => {
        if (error._tag !== "AdenUnauthorized") return Effect.fail(error)
        return Effect.matchEffect(keySource, {
          onFailure: () => Effect.fail(error),
          onSuccess: (current) => {
            if (Redacted.value(current) === Redacted.value(used)) return Effect.fail(error)
            apiKey = current
            return self
          }
        })
      })
    })

  const throughCircuit = <A, E extends AdenFailure>(
    id: string | undefined,
    self: Effect.Effect<A, E>
  ): Effect.Effect<A, E | AdenUnavailable> =>
    self.pipe(
      breaker.execute<A, E>({ key: "aden", classify: circuitOutcome }),
      Effect.catchIf(Schema.is(CircuitBreaker.CircuitBreakerError), ({ reason }) =>
        Effect.fail(
          new AdenUnavailable({
            id,
            reason: new AdenCircuitOpen({ retryAfter: reason._tag === "CircuitOpen" ? reason.retryAfter : undefined })
          })
        ))
    )

  const retrySchedule = (options.retry ?? AdenClient.defaultRetry).pipe(
    Schedule.modifyDelay(({ duration, input }) =>
      Effect.succeed(input._tag === "RateLimited" ? Duration.max(duration, input.retryAfter) : duration)
    )
  )
  const retrying = <A, E extends AdenFailure>(self: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.retry(self, { schedule: retrySchedule, while: (error) => isTransient(error, maxRetryAfter) })

  const secrets = () => [Redacted.value(apiKey)]

  /** A question about one integration: `read` gets the answers in 200–299. */
  const askAbout = <A>(
    id: string,
    request: Effect.Effect<HttpClientResponse.HttpClientResponse, unknown, Scope.Scope>,
    read: (answer: Answer, question: Question) => Result.Result<A, AdenFailure>
  ): Effect.Effect<A, AdenFailure> => {
    const ask = withRotatedKey(attempt({
      request,
      id,
      bodyLimit,
      read: (answer) => {
        const question = { id, secrets: secrets() }
        return isSuccessful(answer) ? read(answer, question) : Result.fail(failureOf(answer, question))
      }
    }))
    return fitsPath(id) ? ask : Effect.fail(new IntegrationNotFound({ id }))
  }

  const readCredential = (id: string) => (answer: Answer, question: Question) =>
    Result.flatMap(decodeAnswer(CredentialAnswer, answer, question), (body) => credentialOf(id, body))

  const getCredential = Effect.fn("AdenClient.getCredential")(function*(id: string) {
    yield* Effect.annotateCurrentSpan({ "aden.integration": id })
    return yield* retrying(throughCircuit(
      id,
      askAbout(id, credentials.get({ params: { integration_id: id }, headers, responseMode: "response-only" }), readCredential(id))
    )).pipe(
      Effect.asSome,
      Effect.catchTag("IntegrationNotFound", () => Effect.succeedNone)
    )
  })

  const requestRefresh = Effect.fn("AdenClient.requestRefresh")(function*(id: string) {
    yield* Effect.annotateCurrentSpan({ "aden.integration": id })
    const credential = yield* retrying(throughCircuit(
      id,
      askAbout(id, credentials.refresh({ params: { integration_id: id }, headers, responseMode: "response-only" }), readCredential(id))
    ))
    const now = (yield* Clock.currentTimeMillis) + clockOffset.current
    if (credential.expiresAt !== undefined && DateTime.toEpochMillis(credential.expiresAt) <= now) {
      return yield* new RefreshFailed({ id, detail: "it answered a token that has expired already" })
    }
    return credential
  })

  const validateToken = Effect.fn("AdenClient.validateToken")(function*(id: string) {
    yield* Effect.annotateCurrentSpan({ "aden.integration": id })
    return yield* retrying(throughCircuit(
      id,
      askAbout(
        id,
        credentials.validate({ params: { integration_id: id }, headers, responseMode: "response-only" }),
        (answer, question) =>
          Result.map(decodeAnswer(ValidationAnswer, answer, question), (body) => validationOf(body, answer, question.secrets))
      )
    ))
  })

  const listIntegrations = retrying(throughCircuit(
    undefined,
    withRotatedKey(attempt({
      request: credentials.list({ headers, responseMode: "response-only" }),
      id: undefined,
      bodyLimit: listBodyLimit,
      read: (answer): Result.Result<AdenIntegrations, AdenRequestFailure> => {
        const question = { id: undefined, secrets: secrets() }
        if (!isSuccessful(answer)) return Result.fail(requestFailureOf(answer, question))
        return Result.flatMap(decodeAnswer(IntegrationListEnvelope, answer, question), (body) => {
          const listed = emptyAsAbsent(body.tenant_id)
          return tenantId !== undefined && listed !== undefined && listed !== tenantId
            ? Result.fail(protocolError(undefined, "a list for another tenant", { isTransient: false }))
            : Result.succeed(integrationsOf(body.integrations))
        })
      }
    }))
  )).pipe(Effect.withSpan("AdenClient.listIntegrations"))

  const reportUsage = Effect.fn("AdenClient.reportUsage")(function*(id: string, report: AdenUsageReport) {
    yield* Effect.annotateCurrentSpan({ "aden.integration": id })
    const timestamp = report.timestamp ?? (yield* DateTime.now)
    return yield* retrying(askAbout(
      id,
      credentials.usage({
        params: { integration_id: id },
        headers: report.idempotencyKey === undefined ? headers : { ...headers, "idempotency-key": report.idempotencyKey },
        payload: { operation: report.operation, status: report.status, timestamp, metadata: report.metadata },
        responseMode: "response-only"
      }),
      (answer, question) => Result.map(decodeAnswer(UsageAnswer, answer, question), (body) => body.received)
    ))
  })

  const healthCheck = retrying(Effect.gen(function*() {
    const [latency, body] = yield* Effect.timed(attempt({
      request: health.check({ responseMode: "response-only" }),
      id: undefined,
      bodyLimit,
      read: (answer): Result.Result<typeof HealthAnswer.Type, AdenRequestFailure> => {
        const question = { id: undefined, secrets: secrets() }
        return isSuccessful(answer)
          ? decodeAnswer(HealthAnswer, answer, question)
          : Result.fail(requestFailureOf(answer, question))
      }
    }))
    return {
      status: body.status,
      version: emptyAsAbsent(body.version),
      timestamp: body.timestamp ?? undefined,
      latency
    } satisfies AdenHealth
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

const isSuccessful = (answer: Answer): boolean => answer.status >= 200 && answer.status < 300

const emptyAsAbsent = (text: string | null | undefined): string | undefined =>
  text === null || text === "" ? undefined : text

const isIntegrationId = Schema.is(IntegrationId)

/** Dot segments survive percent-encoding: URLs resolve `%2e%2e` too. No integration can have such an id. */
const fitsPath = (id: string): boolean => isIntegrationId(id) && id !== "." && id !== ".."

/** fetch follows redirects by itself, and sends the headers along; here they come back to be judged. */
const withoutFollowing = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Effect.serviceOption(FetchHttpClient.RequestInit), (init) =>
    Effect.provideService(self, FetchHttpClient.RequestInit, {
      ...Option.getOrElse(init, () => ({})),
      redirect: "manual"
    }))

/** Follows a redirect that stays at the origin and keeps the method; another is refused before anything is sent there. */
const followSameOrigin = <E, R>(
  http: HttpClient.HttpClient.With<E, R>,
  request: HttpClientRequest.HttpClientRequest,
  response: HttpClientResponse.HttpClientResponse,
  hops: number
): Effect.Effect<HttpClientResponse.HttpClientResponse, E | AdenUnavailable, R> => {
  const { status } = response
  if (status < 300 || status > 399) return Effect.succeed(response)
  const refuse = (detail: string) => Effect.fail(protocolError(undefined, detail, { status, isTransient: false }))
  const from = Option.getOrUndefined(HttpClientRequest.toUrl(request))
  const location = Option.getOrUndefined(Headers.get(response.headers, "location"))
  if (from === undefined || location === undefined || !URL.canParse(location, from.href)) {
    return refuse("a redirect without a usable location")
  }
  const to = new URL(location, from.href)
  if (to.origin !== from.origin) return refuse(`a redirect to another origin, ${to.origin}`)
  const keepsMethod = request.method === "GET" ? status !== 300 && status !== 304 : status === 307 || status === 308
  if (!keepsMethod) return refuse("a redirect that does not keep the method")
  if (hops === 0) return refuse("too many redirects")
  const next = HttpClientRequest.setUrl(request, to.href)
  return Effect.flatMap(http.execute(next), (answer) => followSameOrigin(http, next, answer, hops - 1))
}

/** The body as text, refused as soon as it is longer than the limit. */
const readBody = (
  response: HttpClientResponse.HttpClientResponse,
  id: string | undefined,
  limit: number
): Effect.Effect<string, AdenUnavailable | HttpClientError.HttpClientError> => {
  const { status } = response
  const tooLong = protocolError(id, `a body of more than ${limit} bytes`, { status, isTransient: true })
  if (Number(Option.getOrElse(Headers.get(response.headers, "content-length"), () => "0")) > limit) {
    return Effect.fail(tooLong)
  }
  return Effect.gen(function*() {
    const decoder = new TextDecoder()
    let length = 0
    let text = ""
    yield* Stream.runForEach(response.stream, (chunk) => {
      length += chunk.length
      if (length > limit) return Effect.fail(tooLong)
      text += decoder.decode(chunk, { stream: true })
      return Effect.void
    })
    return text + decoder.decode()
  })
}

const connectionFailed = (
  id: string | undefined,
  error: HttpClientError.HttpClientError,
  secrets: ReadonlyArray<string>
): AdenUnavailable => {
  // The system's code (ECONNREFUSED, ENOTFOUND, CERT_HAS_EXPIRED) lies a few causes deep, and differently in each client.
  let cause: unknown = error
  let detail = "the connection broke"
  for (let depth = 0; depth < 6 && Predicate.isObject(cause); depth++) {
    if (Predicate.hasProperty(cause, "code") && typeof cause.code === "string") {
      detail = cause.code
      break
    }
    cause = Predicate.hasProperty(cause, "reason") && HttpClientError.isHttpClientError(cause)
      ? cause.reason
      : Predicate.hasProperty(cause, "errors") && Array.isArray(cause.errors)
      ? cause.errors[0]
      : Predicate.hasProperty(cause, "cause")
      ? cause.cause
      : undefined
  }
  return new AdenUnavailable({ id, reason: new AdenConnectionFailed({ detail: cleanMessage(detail, secrets) }) })
}

/** Names that could be mistaken for parts of an object, and what must never be stored. */
const isDroppedMetadata = (name: string): boolean =>
  name === "__proto__" || name === "constructor" || name === "prototype" || /refresh_?token/i.test(name) || !isClean(name) ||
  name === ""

const credentialOf = (
  id: string,
  body: typeof CredentialAnswer.Type
): Result.Result<AdenCredential, AdenUnavailable> => {
  const answeredId = emptyAsAbsent(body.integration_id)
  if (answeredId !== undefined && answeredId !== id) {
    return Result.fail(protocolError(id, `an answer for another integration, ${JSON.stringify(answeredId)}`, { isTransient: false }))
  }
  const email = emptyAsAbsent(body.email)
  const metadata = new Map<string, string>()
  for (const [name, value] of Object.entries(body.metadata ?? {})) {
    if (typeof value === "string" && value !== "" && !isDroppedMetadata(name)) metadata.set(name, cleanText(value))
  }
  if (email !== undefined && !metadata.has("email")) metadata.set("email", email)
  return Result.succeed({
    id,
    integrationType: providerOf(id, body),
    alias: emptyAsAbsent(body.alias),
    email,
    accessToken: body.access_token,
    tokenType: emptyAsAbsent(body.token_type) ?? "Bearer",
    expiresAt: body.expires_at ?? undefined,
    scopes: body.scopes ?? [],
    metadata
  })
}

const providerOf = (
  id: string,
  body: { readonly integration_type?: string | null | undefined; readonly provider?: string | null | undefined }
): string => {
  const named = emptyAsAbsent(body.integration_type) ?? emptyAsAbsent(body.provider)
  if (named !== undefined) return named
  const colon = id.indexOf(":")
  return colon > 0 ? id.slice(0, colon) : id
}

const statusOf = (status: string | null | undefined): ProviderAccount["status"] =>
  status === "active" || status === "expired" || status === "requires_reauth" ? status : "unknown"

const integrationsOf = (items: ReadonlyArray<unknown>): AdenIntegrations => {
  const accounts = new Map<string, ProviderAccount>()
  const malformed: Array<{ readonly id: string | undefined; readonly detail: string }> = []
  for (const item of items) {
    const result = Schema.decodeUnknownResult(IntegrationItem)(item)
    if (Result.isFailure(result)) {
      const id = Predicate.hasProperty(item, "integration_id") && typeof item.integration_id === "string"
        ? cleanText(item.integration_id)
        : undefined
      malformed.push({ id, detail: cleanText(result.failure.message.replace(/\s+/g, " ")) })
      continue
    }
    const body = result.success
    const id = body.integration_id
    if (!fitsPath(id)) malformed.push({ id, detail: "an id that no path can hold" })
    else if (accounts.has(id)) malformed.push({ id, detail: "listed twice" })
    else {
      accounts.set(id, {
        id,
        provider: providerOf(id, body),
        alias: emptyAsAbsent(body.alias),
        email: emptyAsAbsent(body.email),
        status: statusOf(body.status),
        expiresAt: body.expires_at ?? undefined
      })
    }
  }
  return { accounts: Array.from(accounts.values()), malformed }
}

const validationOf = (
  body: typeof ValidationAnswer.Type,
  answer: Answer,
  secrets: ReadonlyArray<string>
): CredentialValidation => {
  const reason = emptyAsAbsent(body.reason) ?? emptyAsAbsent(body.error) ?? (body.valid ? undefined : emptyAsAbsent(body.status))
  const seconds = body.expires_in_seconds ?? undefined
  const requiresReauthorization = !body.valid && (body.requires_reauthorization === true || body.status === "requires_reauth")
  return {
    valid: body.valid,
    reason: reason === undefined ? undefined : cleanMessage(reason, secrets),
    expiresAt: body.expires_at ?? (seconds === undefined
      ? undefined
      : Option.getOrUndefined(DateTime.make(answer.receivedAt + seconds * 1000))),
    requiresReauthorization,
    reauthorizationUrl: requiresReauthorization ? reauthorizationUrl(body.reauthorization_url) : undefined
  }
}
