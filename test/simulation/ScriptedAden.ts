/**
 * An Aden server in memory: a small state machine per integration behind an `HttpClient`, with faults on demand. It keeps
 * every request with its start and end, and every token it ever issued. It knows nothing of the package but the contract.
 */
import { Clock, Effect, Exit, Option, Pipeable, Stream } from "effect"
import { Cookies, Headers, HttpClient, HttpClientError, HttpClientResponse, HttpIncomingMessage } from "effect/http"
import type { HttpClientRequest } from "effect/http"
import * as Inspectable from "effect/Inspectable"
import { Prng } from "./Prng.ts"
import type { Endpoint, FaultKind, FaultRule, IntegrationConfig, Server } from "./Program.ts"

/** A token as it was issued. Times are in ms; the expiry is by Aden's clock, a program's own by the local one. */
export interface Issued {
  readonly value: string
  readonly tenant: string
  readonly id: string
  /** Counts up with every token issued: a higher number is a newer token. */
  readonly number: number
  readonly expiresAt: number | undefined
  readonly isOwn: boolean
}

/** One request, from when it left the client until its answer was there or given up. */
export interface Exchange {
  readonly tenant: string
  readonly endpoint: Endpoint | "usage" | "health"
  readonly id: string | undefined
  readonly startedAt: number
  endedAt: number | undefined
  isInterrupted: boolean
  /** What Aden said, in short; `undefined` while it has not. */
  said: Said | undefined
  /** The answer's `Date`, in ms, where it had one. */
  date: number | undefined
}

export type Said =
  | { readonly _tag: "Token"; readonly token: Issued }
  | { readonly _tag: "Blocked" }
  | { readonly _tag: "NotFound" }
  | { readonly _tag: "Validity"; readonly isValid: boolean; readonly isBlocked: boolean }
  | { readonly _tag: "List"; readonly ids: ReadonlyArray<string> }
  | { readonly _tag: "Other"; readonly status: number }

interface Integration {
  readonly id: string
  readonly provider: string
  alias: string | undefined
  lifetime: number | undefined
  isRevoked: boolean
  current: Issued | undefined
}

interface Answer {
  readonly status: number
  readonly body: string
  readonly headers: Readonly<Record<string, string>>
  readonly said: Said
}

export interface ScriptedAdenOptions {
  readonly tenants: ReadonlyArray<string>
  readonly integrations: ReadonlyArray<IntegrationConfig>
  readonly renewsOnGet: boolean
  readonly clockSkew: number
  readonly latency: number
  readonly seed: number
  readonly endsOldTokens?: boolean | undefined
}

/** The name under which a tenant is known to one of the providers: each has an Aden of its own. */
export const accountAt = (tenant: string, server: Server): string => server === 0 ? tenant : `${tenant}2`

/** The tenant whose account this is. */
export const tenantOf = (account: string): string => account.replace("2", "")

const serverOf = (account: string): Server => account.endsWith("2") ? 1 : 0

export const apiKeyOf = (tenant: string): string => `key-of-${tenant}`

export class ScriptedAden {
  readonly issued = new Map<string, Issued>()
  readonly inFlight = new Set<Exchange>()
  exchanges = 0
  clockSkew: number
  /** How long an answer takes, about, in ms. */
  latency: number
  readonly #tenants = new Map<string, Map<string, Integration>>()
  readonly #renewsOnGet: boolean
  readonly #endsOldTokens: boolean
  /** Tokens that APIs refuse although they have not expired. */
  readonly #ended = new Set<string>()
  readonly #random: Prng
  #rules: Array<{ readonly rule: FaultRule; left: number }> = []

  constructor(options: ScriptedAdenOptions) {
    this.clockSkew = options.clockSkew
    this.#renewsOnGet = options.renewsOnGet
    this.#endsOldTokens = options.endsOldTokens ?? false
    this.latency = options.latency
    this.#random = new Prng(options.seed)
    for (const tenant of options.tenants) {
      this.#tenants.set(
        tenant,
        new Map(
          options.integrations.filter(({ server = 0 }) => server === serverOf(tenant)).map((config) => [
            config.id,
            { ...config, isRevoked: false, current: undefined }
          ])
        )
      )
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // What people do with it
  // -------------------------------------------------------------------------------------------------------------------

  addFault(rule: FaultRule): void {
    this.#rules.push({ rule, left: rule.times })
  }

  heal(): void {
    this.#rules = []
  }

  revoke(tenant: string, id: string): void {
    const integration = this.#find(tenant, id)
    if (integration !== undefined) integration.isRevoked = true
  }

  /** Connects an integration, again or for the first time. */
  connect(tenant: string, config: IntegrationConfig): void {
    const present = this.#find(tenant, config.id)
    if (present === undefined) {
      this.#tenants.get(tenant)?.set(config.id, { ...config, isRevoked: false, current: undefined })
    } else if (present.isRevoked) {
      present.isRevoked = false
      present.current = undefined
    }
  }

  remove(tenant: string, id: string): void {
    this.#tenants.get(tenant)?.delete(id)
  }

  setLifetime(tenant: string, id: string, lifetime: number | undefined): void {
    const integration = this.#find(tenant, id)
    if (integration !== undefined) integration.lifetime = lifetime
  }

  rename(tenant: string, id: string, alias: string): void {
    const integration = this.#find(tenant, id)
    if (integration !== undefined) integration.alias = alias
  }

  /** APIs refuse the current token from now on, which nobody tells Aden. */
  end(tenant: string, id: string): void {
    const value = this.#find(tenant, id)?.current?.value
    if (value !== undefined) this.#ended.add(value)
  }

  /** Whether an API accepts a token now, by Aden's clock. */
  isAccepted({ expiresAt, value }: Issued, now: number): boolean {
    return !this.#ended.has(value) && (expiresAt === undefined || now + this.clockSkew < expiresAt)
  }

  /** Issues a token outside of any request, as it was before the program ran. */
  issue(tenant: string, id: string, now: number): Issued | undefined {
    const integration = this.#find(tenant, id)
    return integration === undefined ? undefined : this.#issue(tenant, integration, undefined, now + this.clockSkew)
  }

  /** The accounts that a tenant has connected now. */
  accountsOf(
    tenant: string
  ): ReadonlyArray<{ readonly id: string; readonly provider: string; readonly alias: string | undefined }> {
    return Array.from(this.#tenants.get(tenant)?.values() ?? []).filter(({ isRevoked }) => !isRevoked)
  }

  /** Whether nothing goes wrong with the requests to a provider. */
  isFaultless(server: Server): boolean {
    return this.#rules.every(({ rule }) => rule.server !== undefined && rule.server !== server)
  }

  has(tenant: string, id: string): boolean {
    return this.#find(tenant, id)?.isRevoked === false
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Requests
  // -------------------------------------------------------------------------------------------------------------------

  /** The client of one process. `observe` sees each exchange begin and end. */
  client(observe: {
    readonly started: (exchange: Exchange) => Effect.Effect<void>
    readonly answered: (exchange: Exchange) => void
  }): HttpClient.HttpClient {
    return HttpClient.makeWith<never, never, HttpClientError.HttpClientError, never>(
      Effect.flatMap((request) => this.#exchange(request, observe)),
      Effect.succeed
    )
  }

  /** An API that accepts what Aden issued, unless it was ended or has expired. `refused` is told which token it refuses. */
  api(refused: (token: string) => Effect.Effect<void>): HttpClient.HttpClient {
    return HttpClient.make((request) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        const value = Option.getOrElse(Headers.get(request.headers, "authorization"), () => "").replace("Bearer ", "")
        const token = this.issued.get(value)
        const isAccepted = token === undefined || this.isAccepted(token, now)
        const answer = json(isAccepted ? 200 : 401, {}, { _tag: "Other", status: 200 })
        return Effect.as(
          isAccepted ? Effect.void : refused(value),
          new ScriptedResponse(request, answer, answer.headers, false)
        )
      })
    )
  }

  readonly #exchange = Effect.fnUntraced(function*(
    this: ScriptedAden,
    request: HttpClientRequest.HttpClientRequest,
    observe: {
      readonly started: (exchange: Exchange) => Effect.Effect<void>
      readonly answered: (exchange: Exchange) => void
    }
  ) {
    const clock = yield* Clock.Clock
    const exchange = parse(request, clock.currentTimeMillisUnsafe())
    this.exchanges++
    this.inFlight.add(exchange)
    yield* observe.started(exchange)
    return yield* this.#answer(request, exchange, clock).pipe(
      Effect.tap(() => Effect.sync(() => observe.answered(exchange))),
      Effect.onExit((exit) =>
        Effect.sync(() => {
          exchange.endedAt = clock.currentTimeMillisUnsafe()
          exchange.isInterrupted = Exit.hasInterrupts(exit)
          this.inFlight.delete(exchange)
        })
      )
    )
  })

  readonly #answer = Effect.fnUntraced(function*(
    this: ScriptedAden,
    request: HttpClientRequest.HttpClientRequest,
    exchange: Exchange,
    clock: Clock.Clock
  ) {
    const fault = this.#takeFault(exchange)
    if (fault?._tag === "Hang") return yield* Effect.never
    const latency = this.#drawLatency() + (fault?._tag === "Slow" ? fault.duration : 0)
    const isLate = fault?._tag === "Slow" && fault.isComputedLate
    if (isLate && latency > 0) yield* Effect.sleep(latency)
    const answer = fault?._tag === "Refused"
      ? undefined
      : this.#carryOut(exchange, fault, clock.currentTimeMillisUnsafe() + this.clockSkew)
    if (!isLate && latency > 0) yield* Effect.sleep(latency)
    if (answer === undefined || fault?._tag === "Lost") {
      return yield* new HttpClientError.HttpClientError({
        reason: new HttpClientError.TransportError({ request, description: "connection reset" })
      })
    }
    const serverNow = clock.currentTimeMillisUnsafe() + this.clockSkew
    const isTorn = fault?._tag === "Torn"
    exchange.said = isTorn ? { _tag: "Other", status: answer.status } : answer.said
    if (fault?._tag === "NoDate") return new ScriptedResponse(request, answer, answer.headers, isTorn)
    exchange.date = Math.floor(serverNow / 1_000) * 1_000
    const headers = { ...answer.headers, date: new Date(exchange.date).toUTCString() }
    return new ScriptedResponse(request, answer, headers, isTorn)
  })

  #takeFault({ endpoint, id, tenant }: Exchange): FaultKind | undefined {
    const found = this.#rules.find(({ rule }) =>
      endpoint !== "health" && endpoint !== "usage" &&
      (rule.endpoint === "any" || rule.endpoint === endpoint) &&
      (rule.id === undefined || rule.id === id) &&
      (rule.server === undefined || rule.server === serverOf(tenant)) &&
      isFor(rule.kind, endpoint)
    )
    if (found === undefined) return undefined
    if (--found.left === 0) this.#rules = this.#rules.filter((item) => item !== found)
    return found.rule.kind
  }

  #drawLatency(): number {
    return this.latency === 0 ? 0 : Math.max(1, Math.round(this.latency * (0.5 + this.#random.fraction())))
  }

  #carryOut(exchange: Exchange, fault: FaultKind | undefined, now: number): Answer {
    const instead = fault === undefined ? undefined : answerInstead(fault, exchange, now)
    if (instead !== undefined) return instead
    const { endpoint, id, tenant } = exchange
    if (endpoint === "health") return json(200, { status: "healthy" }, { _tag: "Other", status: 200 })
    if (endpoint === "usage") return json(200, { received: true }, { _tag: "Other", status: 200 })
    if (endpoint === "list") return this.#list(tenant, fault, now)
    const integration = id === undefined ? undefined : this.#find(tenant, id)
    if (integration === undefined) return notFound
    switch (endpoint) {
      case "validate":
        return validity(integration, now)
      case "get": {
        if (integration.isRevoked) return blocked(integration)
        const { current } = integration
        const isDue = current === undefined || (this.#renewsOnGet && hasExpired(current, now))
        return this.#credential(isDue ? this.#issue(tenant, integration, fault, now) : current, integration, fault)
      }
      case "refresh": {
        if (integration.isRevoked) return blocked(integration)
        const { current } = integration
        const token = fault?._tag === "SameToken" && current !== undefined
          ? current
          : this.#issue(tenant, integration, fault, now)
        return this.#credential(token, integration, fault)
      }
    }
  }

  #find(tenant: string, id: string): Integration | undefined {
    return this.#tenants.get(tenant)?.get(id)
  }

  #issue(tenant: string, integration: Integration, fault: FaultKind | undefined, now: number): Issued {
    const number = this.issued.size + 1
    const lifetime = fault?._tag === "ExpiredToken"
      ? -1_000
      : fault?._tag === "ShortToken"
      ? fault.lifetime
      : integration.lifetime
    const token: Issued = {
      value: `token-${number}-${tenant}-${integration.id}`,
      tenant: tenantOf(tenant),
      id: integration.id,
      number,
      expiresAt: lifetime === undefined ? undefined : now + lifetime,
      isOwn: false
    }
    this.issued.set(token.value, token)
    if (this.#endsOldTokens && integration.current !== undefined) this.#ended.add(integration.current.value)
    integration.current = token
    return token
  }

  #credential(token: Issued, { alias, provider }: Integration, fault: FaultKind | undefined): Answer {
    const { expiresAt, id } = token
    const body: Record<string, unknown> = {
      integration_id: id,
      integration_type: provider,
      alias,
      access_token: token.value,
      token_type: "Bearer",
      expires_at: expiresAt === undefined ? null : new Date(expiresAt).toISOString(),
      scopes: ["read"],
      metadata: {}
    }
    const other = { _tag: "Other", status: 200 } as const
    if (fault?._tag === "OtherIntegration") return json(200, { ...body, integration_id: `not-${id}` }, other)
    if (fault?._tag === "Malformed") {
      switch (fault.variant) {
        case "text":
          return { status: 200, body: "<html>", headers: {}, said: other }
        case "no token":
          return json(200, { ...body, access_token: undefined }, other)
        case "bad expiry":
          return json(200, { ...body, expires_at: "tomorrow" }, other)
        case "line break":
          return json(200, { ...body, access_token: "a\nb" }, other)
      }
    }
    return json(200, body, { _tag: "Token", token })
  }

  #list(tenant: string, fault: FaultKind | undefined, now: number): Answer {
    const all = fault?._tag === "EmptyList" ? [] : Array.from(this.#tenants.get(tenant)?.values() ?? [])
    const body = {
      integrations: all.map(({ alias, current, id, isRevoked, provider }) => ({
        integration_id: id,
        integration_type: provider,
        alias,
        status: isRevoked ? "requires_reauth" : current !== undefined && hasExpired(current, now) ? "expired" : "active"
      })),
      tenant_id: fault?._tag === "OtherTenant" ? "another-tenant" : tenant
    }
    const isUsable = fault?._tag !== "OtherTenant" && fault?._tag !== "Malformed"
    return fault?._tag === "Malformed"
      ? { status: 200, body: "<html>", headers: {}, said: { _tag: "Other", status: 200 } }
      : json(
        200,
        body,
        isUsable ? { _tag: "List", ids: all.map(({ id }) => id) } : { _tag: "Other", status: 200 }
      )
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Answers
// ---------------------------------------------------------------------------------------------------------------------

const hasExpired = (token: Issued, now: number): boolean => token.expiresAt !== undefined && token.expiresAt <= now

const json = (status: number, body: unknown, said: Said, headers: Record<string, string> = {}): Answer => ({
  status,
  body: JSON.stringify(body),
  headers: { "content-type": "application/json", ...headers },
  said
})

const reauthorizationUrl = (id: string): string => `https://aden.test/connect/${id}`

const blocked = ({ id }: Integration): Answer =>
  json(400, {
    error: "refresh_failed",
    message: "the user has to authorize again",
    requires_reauthorization: true,
    reauthorization_url: reauthorizationUrl(id)
  }, { _tag: "Blocked" })

const notFound: Answer = json(404, { error: "integration_not_found", message: "no such integration" }, {
  _tag: "NotFound"
})

const validity = ({ current, id, isRevoked }: Integration, now: number): Answer =>
  isRevoked
    ? json(200, {
      valid: false,
      reason: "revoked",
      requires_reauthorization: true,
      reauthorization_url: reauthorizationUrl(id)
    }, { _tag: "Validity", isValid: false, isBlocked: true })
    : current !== undefined && hasExpired(current, now)
    ? json(200, { valid: false, reason: "token_expired" }, { _tag: "Validity", isValid: false, isBlocked: false })
    : json(200, { valid: true }, { _tag: "Validity", isValid: true, isBlocked: false })

const answerInstead = (fault: FaultKind, exchange: Exchange, now: number): Answer | undefined => {
  switch (fault._tag) {
    case "Status": {
      const said: Said = { _tag: "Other", status: fault.status }
      return fault.isHtml
        ? { status: fault.status, body: "<html>blocked</html>", headers: { "content-type": "text/html" }, said }
        : json(fault.status, { error: "no", message: "no" }, said)
    }
    case "RateLimited": {
      const { inBody } = fault
      const hint = fault.retryAfter === "date" ? new Date(now + 30_000).toUTCString() : fault.retryAfter
      return json(
        429,
        { error: "rate_limited", message: "slow down", retry_after: inBody ? hint : undefined },
        { _tag: "Other", status: 429 },
        inBody || hint === undefined ? {} : { "retry-after": String(hint) }
      )
    }
    case "RefreshFailed":
      return json(
        400,
        { error: "refresh_failed", message: "try later", requires_reauthorization: false },
        { _tag: "Other", status: 400 }
      )
    case "Ghost":
      return exchange.id === undefined ? undefined : notFound
    default:
      return undefined
  }
}

/** Faults that can happen to any request, and those that only one kind of answer can have. */
const isFor = (fault: FaultKind, endpoint: Endpoint): boolean => {
  switch (fault._tag) {
    case "RefreshFailed":
    case "OtherIntegration":
    case "ShortToken":
      return endpoint === "get" || endpoint === "refresh"
    case "SameToken":
    case "ExpiredToken":
      return endpoint === "refresh"
    case "Ghost":
      return endpoint !== "list"
    case "EmptyList":
    case "OtherTenant":
      return endpoint === "list"
    case "Malformed":
      return endpoint !== "validate"
    default:
      return true
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// HTTP
// ---------------------------------------------------------------------------------------------------------------------

const parse = (request: HttpClientRequest.HttpClientRequest, startedAt: number): Exchange => {
  const [, , first, id, verb] = new URL(request.url).pathname.split("/")
  const endpoint = first === undefined
    ? "health"
    : id === undefined
    ? "list"
    : verb === undefined
    ? "get"
    : verb === "refresh" || verb === "validate"
    ? verb
    : "usage"
  const apiKey = Option.getOrElse(Headers.get(request.headers, "authorization"), () => "")
  return {
    tenant: apiKey.replace("Bearer key-of-", ""),
    endpoint,
    id: id === undefined ? undefined : decodeURIComponent(id),
    startedAt,
    endedAt: undefined,
    isInterrupted: false,
    said: undefined,
    date: undefined
  }
}

const encoder = new TextEncoder()

/** An answer whose body is there at once: a web `Response` would hand it over by promises, outside the virtual time. */
class ScriptedResponse extends Inspectable.Class implements HttpClientResponse.HttpClientResponse {
  readonly [HttpIncomingMessage.TypeId]: typeof HttpIncomingMessage.TypeId = HttpIncomingMessage.TypeId
  readonly [HttpClientResponse.TypeId]: typeof HttpClientResponse.TypeId = HttpClientResponse.TypeId
  readonly request: HttpClientRequest.HttpClientRequest
  readonly status: number
  readonly headers: Headers.Headers
  readonly stream: Stream.Stream<Uint8Array, HttpClientError.HttpClientError>
  readonly url: string
  readonly cookies = Cookies.empty
  readonly remoteAddress = Option.none<string>()

  constructor(
    request: HttpClientRequest.HttpClientRequest,
    answer: Answer,
    headers: Readonly<Record<string, string>>,
    isTorn: boolean
  ) {
    super()
    this.request = request
    this.url = request.url
    this.status = answer.status
    this.headers = Headers.fromInput(headers)
    const bytes = encoder.encode(answer.body)
    this.stream = isTorn
      ? Stream.concat(
        Stream.succeed(bytes.subarray(0, bytes.length >> 1)),
        Stream.fail(
          new HttpClientError.HttpClientError({
            reason: new HttpClientError.DecodeError({ request, response: this, description: "connection reset" })
          })
        )
      )
      : Stream.succeed(bytes)
  }

  readonly json = unused
  readonly text = unused
  readonly urlParamsBody = unused
  readonly arrayBuffer = unused
  readonly formData = unused
  readonly upgrade = unused

  toJSON(): unknown {
    return { status: this.status }
  }

  pipe() {
    // eslint-disable-next-line prefer-rest-params
    return Pipeable.pipeArguments(this, arguments)
  }
}

const unused = Effect.die(new Error("the client reads bodies as streams"))
