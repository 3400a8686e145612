/**
 * An Aden server to develop and test against: a real HTTP server, built from the same contract as the client.
 *
 * @since 0.1.0
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as ByteSize from "effect/ByteSize"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import { HttpApiSchemaError } from "effect/http-api/HttpApiError"
import * as HttpApiSecurity from "effect/http-api/HttpApiSecurity"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerError from "effect/http/HttpServerError"
import { HttpServerRequest, ParsedSearchParams } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { AdenConfigError } from "../errors/ConfigError.ts"
import { AdenApi } from "../providers/aden/AdenApi.ts"
import * as LoopbackServer from "../server/LoopbackServer.ts"
import * as adenHandlers from "./adenHandlers.ts"
import * as connectPage from "./connectPage.ts"
import * as consolePage from "./consolePage.ts"
import type { Answer, AnswerMiddleware, Fault } from "./Fault.ts"
import * as FaultPlan from "./FaultPlan.ts"
import * as IntegrationRegistry from "./IntegrationRegistry.ts"
import * as Page from "./page.ts"
import * as RequestLog from "./RequestLog.ts"
import * as UsageLedger from "./UsageLedger.ts"

/**
 * Options of {@link AdenEmulator.layer}.
 *
 * @since 0.1.0
 * @category models
 */
export interface AdenEmulatorOptions {
  /** The port on 127.0.0.1; 0, the default, picks a free one. */
  readonly port?: number | undefined
  /**
   * The integrations of the first tenant. By default `hubspot` (tokens live one hour), `github` (they do not expire) and
   * `slack` (needs re-authorization).
   */
  readonly integrations?: ReadonlyArray<IntegrationRegistry.IntegrationOptions> | undefined
  /** The id of the first tenant: `tenant-123` by default. */
  readonly tenantId?: string | undefined
  /** The API keys of the first tenant: only `emulator-api-key` by default. */
  readonly apiKeys?: ReadonlyArray<Redacted.Redacted<string>> | undefined
  /** Further tenants, each with API keys and integrations of its own. */
  readonly tenants?: ReadonlyArray<IntegrationRegistry.TenantOptions> | undefined
  /** The names of fields in answers: `seed` by default. */
  readonly dialect?: adenHandlers.Dialect | undefined
  /**
   * Whether `GET` of an expired token refreshes it, as Aden does: `true` by default. Otherwise the expired token is the answer.
   */
  readonly refreshOnGet?: boolean | undefined
}

/**
 * Selects another tenant than the first.
 *
 * @since 0.1.0
 * @category models
 */
export interface OfTenant {
  readonly tenantId?: string | undefined
}

/**
 * The default API key of the first tenant: `emulator-api-key`.
 *
 * @since 0.1.0
 * @category defaults
 */
export const defaultApiKey: Redacted.Redacted<string> = Redacted.make("emulator-api-key", { label: "API key" })

/**
 * The default integrations of the first tenant.
 *
 * @since 0.1.0
 * @category defaults
 */
export const defaultIntegrations: ReadonlyArray<IntegrationRegistry.IntegrationOptions> = [
  {
    id: "hubspot",
    scopes: ["crm.objects.contacts.read", "crm.objects.contacts.write"],
    metadata: { portal_id: "12345678", connected_at: "2026-01-15T10:00:00Z" },
    tokenLifetime: "1 hour"
  },
  { id: "github", scopes: ["repo", "read:user"] },
  { id: "slack", scopes: ["chat:write"], status: "requires_reauth" }
]

/**
 * An Aden server in this process, on 127.0.0.1: integrations whose tokens expire and are refreshed, a connect flow behind
 * `reauthorization_url`, tenants, usage reports, and faults on demand. `GET /openapi.json` is its OpenAPI document;
 * `consoleUrl` is a page on which a person sees and changes all this.
 *
 * Time is Effect's `Clock`, and so is the `Date` header. To name an integration or a tenant that does not exist is a defect,
 * whose message says which.
 *
 * @example
 * ```ts
 * import { AdenEmulator } from "aden-credentials/emulator"
 * import { Console, Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const aden = yield* AdenEmulator
 *   yield* Console.log(`Aden listens on ${aden.url}`)
 *   yield* aden.revoke("hubspot") // from now on hubspot needs re-authorization
 *   yield* aden.connect("hubspot") // as if a person had followed the link
 *   yield* aden.stop // Aden is down
 * }).pipe(Effect.provide(AdenEmulator.layer()))
 * ```
 *
 * @since 0.1.0
 * @category services
 */
export class AdenEmulator extends Context.Service<AdenEmulator, {
  /** Where it listens, such as `http://127.0.0.1:4000`; the same after `stop` and `start`. */
  readonly url: string
  /** The console, for a person with a browser: integrations, faults and the last requests. Its own requests are not logged. */
  readonly consoleUrl: string
  /** The first tenant's first API key. */
  readonly apiKey: Redacted.Redacted<string>
  /** The first tenant's id. */
  readonly tenantId: string

  /** Adds an integration, or replaces it, and issues its first token unless it needs re-authorization. */
  readonly addIntegration: (
    integration: IntegrationRegistry.IntegrationOptions,
    options?: OfTenant
  ) => Effect.Effect<void>
  /** Removes an integration, as when a person disconnects it; returns whether there was one. */
  readonly removeIntegration: (id: string, options?: OfTenant) => Effect.Effect<boolean>
  /** The integrations of a tenant, in their current state. */
  readonly integrations: (options?: OfTenant) => Effect.Effect<ReadonlyArray<IntegrationRegistry.EmulatedIntegration>>
  /** Adds a tenant, or replaces it. */
  readonly addTenant: (tenant: IntegrationRegistry.TenantOptions) => Effect.Effect<void>
  /** Replaces the API keys of a tenant; those that are not listed are revoked. */
  readonly setApiKeys: (
    apiKeys: ReadonlyArray<Redacted.Redacted<string>>,
    options?: OfTenant
  ) => Effect.Effect<void>

  /** A person connects the integration: it is active, with a new token. */
  readonly connect: (id: string, options?: OfTenant) => Effect.Effect<void>
  /** The provider revokes the refresh token: the integration needs re-authorization. */
  readonly revoke: (id: string, options?: OfTenant) => Effect.Effect<void>
  /** The current token runs out now; Aden can refresh it. */
  readonly expire: (id: string, options?: OfTenant) => Effect.Effect<void>
  /** The tokens issued, in order: the last 10,000. */
  readonly issuedTokens: Effect.Effect<ReadonlyArray<IntegrationRegistry.IssuedToken>>
  /** The usage reports received, each `Idempotency-Key` once: the last 10,000. */
  readonly usage: Effect.Effect<ReadonlyArray<UsageLedger.UsageRecord>>

  /** Adds a fault, for all requests to Aden's endpoints or for those that match. `FaultMatch` says how several combine. */
  readonly setFault: (fault: Fault, match?: FaultPlan.FaultMatch) => Effect.Effect<void>
  /** Ends all faults. A request that hangs keeps hanging. */
  readonly clearFaults: Effect.Effect<void>

  /** The requests received, in order: the last 10,000. */
  readonly requests: Effect.Effect<ReadonlyArray<RequestLog.EmulatorRequest>>
  /** How many of these requests match; all without an argument. */
  readonly countRequests: (match?: RequestLog.RequestMatch) => Effect.Effect<number>
  /** How many requests are in flight, and the maximum: for one integration id, or in total. */
  readonly inFlight: (integrationId?: string) => Effect.Effect<RequestLog.InFlight>
  /** Forgets the requests received. */
  readonly clearRequests: Effect.Effect<void>

  /** Aden goes down: connections are refused and open ones are cut, until `start`. Integrations and faults stay. */
  readonly stop: Effect.Effect<void>
  /** Aden comes back on the same port; `AdenConfigError` if another program has taken it. */
  readonly start: Effect.Effect<void, AdenConfigError>
}>()("aden-credentials/emulator/AdenEmulator") {
  /**
   * Starts the emulator, and stops it at once when the scope closes. Fails with `AdenConfigError` if it cannot listen on the
   * port.
   */
  static readonly layer = (options: AdenEmulatorOptions = {}): Layer.Layer<AdenEmulator, AdenConfigError> =>
    Layer.effect(AdenEmulator, make(options))
}

/** The emulator behind any server that `listen` starts; by default behind a socket. */
export const make = Effect.fnUntraced(function*(
  options: AdenEmulatorOptions,
  listen: typeof LoopbackServer.make = LoopbackServer.make
) {
  const tenantId = options.tenantId ?? "tenant-123"
  const apiKeys = options.apiKeys ?? [defaultApiKey]
  const registry = yield* IntegrationRegistry.make
  const usage = yield* UsageLedger.make
  const faults = yield* FaultPlan.make
  const log = yield* RequestLog.make
  const baseUrl = yield* Deferred.make<string>()

  yield* registry.putTenant({ id: tenantId, apiKeys, integrations: options.integrations ?? defaultIntegrations })
  yield* Effect.forEach(options.tenants ?? [], registry.putTenant, { discard: true })

  const observed = observe(registry, faults, log)
  const routes = Layer.mergeAll(
    adenHandlers.layer({
      registry,
      usage,
      dialect: options.dialect ?? "seed",
      refreshOnGet: options.refreshOnGet ?? true,
      connectUrl: (integration) =>
        Effect.map(Deferred.await(baseUrl), (url) => `${url}${connectPage.connectPath(integration, tenantId)}`)
    }),
    connectPage.layer(registry, tenantId)
  ).pipe(
    Layer.provide(HttpRouter.middleware(observed).layer),
    Layer.merge(consolePage.layer({ registry, faults, log, firstTenant: tenantId })),
    Layer.provide(NodeHttpServer.layerHttpServices)
  )
  const answer = yield* HttpRouter.toHttpEffect(routes).pipe(
    // ids are opaque: slashes and case matter, and 1,000 characters are allowed
    Effect.provideService(HttpRouter.RouterConfig, {
      ignoreDuplicateSlashes: false,
      ignoreTrailingSlash: false,
      caseSensitive: true,
      maxParamLength: 10_000
    })
  )
  const server = yield* listen(
    // for requests that no route matches; a catch-all route would also take `HEAD`, which the router answers by `GET` routes
    Effect.catch(answer, () => observed(Effect.succeed(notFound))),
    { port: options.port ?? 0 }
  )
  yield* Deferred.succeed(baseUrl, server.url)

  const integration = Effect.fnUntraced(function*(id: string, of: OfTenant = {}) {
    const found = yield* registry.find(of.tenantId ?? tenantId, id)
    if (Option.isSome(found)) return found.value
    const all = (yield* registry.list(of.tenantId ?? tenantId)).map((each) => each.id)
    return yield* Effect.die(
      new Error(`The emulator has no integration ${JSON.stringify(id)}. It has: ${all.join(", ") || "none"}.`)
    )
  })

  return AdenEmulator.of({
    url: server.url,
    consoleUrl: `${server.url}${Page.consolePath}`,
    apiKey: apiKeys[0] ?? defaultApiKey,
    tenantId,
    addIntegration: Effect.fn("AdenEmulator.addIntegration")(function*(added, of = {}) {
      yield* registry.put(of.tenantId ?? tenantId, added)
    }),
    removeIntegration: Effect.fn("AdenEmulator.removeIntegration")(function*(id, of = {}) {
      return yield* registry.remove(of.tenantId ?? tenantId, id)
    }),
    integrations: Effect.fn("AdenEmulator.integrations")(function*(of = {}) {
      return yield* registry.list(of.tenantId ?? tenantId)
    }),
    addTenant: Effect.fn("AdenEmulator.addTenant")(function*(tenant) {
      yield* registry.putTenant(tenant)
    }),
    setApiKeys: Effect.fn("AdenEmulator.setApiKeys")(function*(keys, of = {}) {
      yield* registry.setApiKeys(of.tenantId ?? tenantId, keys)
    }),
    connect: Effect.fn("AdenEmulator.connect")(function*(id, of) {
      yield* registry.connect(yield* integration(id, of))
    }),
    revoke: Effect.fn("AdenEmulator.revoke")(function*(id, of) {
      yield* registry.revoke(yield* integration(id, of))
    }),
    expire: Effect.fn("AdenEmulator.expire")(function*(id, of) {
      yield* registry.expire(yield* integration(id, of))
    }),
    issuedTokens: registry.issued,
    usage: usage.records,
    setFault: Effect.fn("AdenEmulator.setFault")(function*(fault, match = {}) {
      yield* faults.set(fault, match)
    }),
    clearFaults: faults.clear,
    requests: log.requests,
    countRequests: Effect.fn("AdenEmulator.countRequests")(function*(match = {}) {
      return yield* log.count(match)
    }),
    inFlight: Effect.fn("AdenEmulator.inFlight")(function*(integrationId) {
      return yield* log.inFlight(integrationId)
    }),
    clearRequests: log.clear,
    stop: server.stop,
    start: server.start
  })
})

// ---------------------------------------------------------------------------------------------------------------------
// Around every request
// ---------------------------------------------------------------------------------------------------------------------

const refusal = (status: number, error: string, message: string) =>
  HttpServerResponse.jsonUnsafe({ error, message }, { status })

const notFound = refusal(404, "not_found", "No such endpoint. GET /openapi.json describes the existing ones.")

const endpoints: ReadonlyMap<string, RequestLog.EmulatorEndpoint> = new Map([
  ...Object.values(AdenApi.groups.credentials.endpoints).map((each) => [each.path, each.identifier] as const),
  [AdenApi.groups.health.endpoints.check.path, "health"],
  [connectPage.path, "connect"],
  [adenHandlers.openapiPath, "openapi"]
])

const redactedHeaders = new Set(["authorization", "proxy-authorization", "cookie", "x-api-key"])

const apiKeyOf = Effect.provideService(HttpApiBuilder.securityDecode(HttpApiSecurity.bearer), ParsedSearchParams, {})

/** Logs a request, then answers it with the faults that apply to it. */
const observe = (
  registry: IntegrationRegistry.IntegrationRegistry,
  faults: FaultPlan.FaultPlan,
  log: RequestLog.RequestLog
) =>
  Effect.fnUntraced(function*<E>(answer: Answer<E>) {
    const request = yield* HttpServerRequest
    const route = yield* Effect.serviceOption(HttpRouter.RouteContext)
    const tenant = yield* registry.tenantOf(yield* apiKeyOf)
    const facts = {
      endpoint: Option.match(route, {
        onNone: () => "unknown" as const,
        onSome: ({ route }) => endpoints.get(route.path) ?? "unknown"
      }),
      integrationId: Option.match(route, {
        onNone: () => undefined,
        onSome: ({ params }) => params["integration_id"]
      }),
      tenantId: Option.getOrUndefined(tenant)
    }
    const logged = yield* log.begin({
      ...facts,
      method: request.method,
      path: request.url.replace(/\?.*$/s, ""),
      idempotencyKey: request.headers["idempotency-key"],
      headers: Object.fromEntries(
        Object.entries(request.headers).map(([name, value]) => [name, redactedHeaders.has(name) ? "<redacted>" : value])
      )
    })
    return yield* refuseMalformed(answer).pipe(
      faults.play(facts, logged.met),
      Effect.onExit((exit) => logged.end(Exit.isSuccess(exit) ? exit.value.status : undefined))
    )
  })

/** The longest body that is read: 10,000 usage reports are remembered. */
const maximumBody = ByteSize.kibibytes(64)

/** A request that does not match the contract is answered with JSON, as all others are. */
const refuseMalformed: AnswerMiddleware = (answer) =>
  answer.pipe(
    Effect.map((response) => response.status === 415 ? unsupportedMediaType : response),
    Effect.catchDefect((defect) => {
      if (HttpApiSchemaError.is(defect) && defect.kind === "Payload") {
        return Effect.succeed(
          refusal(400, "invalid_request", `The body does not match the contract: ${defect.cause.message}`)
        )
      }
      return isTooLarge(defect) ? Effect.succeed(tooLarge) : Effect.die(defect)
    }),
    Effect.provideService(HttpIncomingMessage.MaxBodySize, maximumBody)
  )

const isTooLarge = (defect: unknown): boolean =>
  HttpServerError.isHttpServerError(defect) && defect.reason._tag === "RequestParseError" &&
  defect.reason.reason === "BodyTooLarge"

const tooLarge = refusal(413, "content_too_large", "The emulator reads bodies of up to 64 KiB.")

const unsupportedMediaType = refusal(
  415,
  "unsupported_media_type",
  "Send the body with Content-Type: application/json."
)
