/**
 * Aden's six endpoints, answered from an {@link IntegrationRegistry}.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import {
  AdenApi,
  AgentAuthorization,
  AgentTenant,
  type CredentialAnswer,
  ForbiddenAnswer,
  IntegrationItem,
  IntegrationNotFoundAnswer,
  RefreshFailedAnswer,
  UnauthorizedAnswer
} from "../providers/aden/AdenApi.ts"
import {
  type EmulatedIntegration,
  type IntegrationRegistry,
  isExpired,
  type IssuedToken
} from "./IntegrationRegistry.ts"
import { serverNow, wholeSecond } from "./serverClock.ts"
import type { UsageLedger } from "./UsageLedger.ts"

/**
 * The field names in the emulator's answers: `seed` has `integration_id` and `integration_type`; `hive` has `provider`, and no
 * id in credentials, like the server that Hive's Python client talks to.
 *
 * @since 0.1.0
 * @category models
 */
export type Dialect = "seed" | "hive"

export interface HandlerOptions {
  readonly registry: IntegrationRegistry
  readonly usage: UsageLedger
  readonly dialect: Dialect
  readonly refreshOnGet: boolean
  /** Where a person connects an integration again. */
  readonly connectUrl: (integration: EmulatedIntegration) => Effect.Effect<string>
}

/** The path of the OpenAPI document. */
export const openapiPath = "/openapi.json"

/** The layer that answers {@link AdenApi}; a router has to serve it. */
export const layer = (options: HandlerOptions) =>
  HttpApiBuilder.layer(AdenApi, { openapiPath }).pipe(
    Layer.provide([credentials(options), health]),
    Layer.provide(authorization(options.registry))
  )

const authorization = (registry: IntegrationRegistry) =>
  Layer.succeed(
    AgentAuthorization,
    AgentAuthorization.of({
      apiKey: Effect.fnUntraced(function*(answer, { credential }) {
        const tenant = yield* registry.tenantOf(credential)
        if (Option.isNone(tenant)) {
          return yield* Effect.fail(
            UnauthorizedAnswer.make({ error: "invalid_api_key", message: "Agent API key is invalid or revoked" })
          )
        }
        const tenantId = (yield* HttpServerRequest).headers["x-tenant-id"]
        if (tenantId !== undefined && tenantId !== "" && tenantId !== tenant.value) {
          return yield* Effect.fail(
            ForbiddenAnswer.make({ error: "forbidden", message: `Agent API key has no access to tenant '${tenantId}'` })
          )
        }
        return yield* Effect.provideService(answer, AgentTenant, { id: tenant.value })
      })
    })
  )

const health = HttpApiBuilder.group(
  AdenApi,
  "health",
  (handlers) =>
    handlers.handle(
      "check",
      () => Effect.map(serverNow, (now) => ({ status: "healthy", version: "1.2.3", timestamp: wholeSecond(now) }))
    )
)

const credentials = ({ connectUrl, dialect, refreshOnGet, registry, usage }: HandlerOptions) => {
  const find = Effect.fnUntraced(function*(id: string) {
    const tenant = yield* AgentTenant
    const integration = yield* registry.find(tenant.id, id)
    if (Option.isNone(integration)) {
      return yield* Effect.fail(
        IntegrationNotFoundAnswer.make({
          error: "integration_not_found",
          message: `No integration '${id}' found for this tenant`
        })
      )
    }
    return integration.value
  })

  const refreshFailed = Effect.fnUntraced(function*(integration: EmulatedIntegration) {
    return yield* Effect.fail(
      RefreshFailedAnswer.make({
        error: "refresh_failed",
        message: "Refresh token is invalid or revoked. User must re-authorize.",
        requires_reauthorization: true,
        reauthorization_url: yield* connectUrl(integration)
      })
    )
  })

  const refreshed = Effect.fnUntraced(function*(integration: EmulatedIntegration) {
    const renewed = integration.status === "requires_reauth" ? integration : yield* registry.issue(integration)
    return renewed.token === undefined ? yield* refreshFailed(renewed) : renewed.token
  })

  const named = (integration: EmulatedIntegration) => ({
    ...(dialect === "seed" ? { integration_type: integration.type } : { provider: integration.type }),
    ...(integration.alias === undefined ? {} : { alias: integration.alias }),
    ...(integration.email === undefined ? {} : { email: integration.email })
  })

  const answer = (
    integration: EmulatedIntegration,
    token: IssuedToken,
    metadata: EmulatedIntegration["metadata"]
  ): typeof CredentialAnswer.Type => ({
    ...(dialect === "seed" ? { integration_id: integration.id } : {}),
    ...named(integration),
    access_token: token.value,
    token_type: "Bearer",
    expires_at: token.expiresAt ?? null,
    scopes: integration.scopes,
    metadata
  })

  return HttpApiBuilder.group(AdenApi, "credentials", (handlers) =>
    handlers.handleAll({
      list: Effect.fnUntraced(function*() {
        const tenant = yield* AgentTenant
        const integrations = yield* registry.list(tenant.id)
        return {
          integrations: integrations.map((integration) =>
            IntegrationItem.make({
              integration_id: integration.id,
              ...named(integration),
              status: integration.status,
              expires_at: integration.token?.expiresAt ?? null
            })
          ),
          tenant_id: tenant.id
        }
      }),
      get: Effect.fnUntraced(function*({ params }) {
        const integration = yield* find(params.integration_id)
        const now = yield* serverNow
        const { token } = integration
        const stands = token !== undefined && !(refreshOnGet && isExpired(token, now))
        return answer(integration, stands ? token : yield* refreshed(integration), integration.metadata)
      }),
      refresh: Effect.fnUntraced(function*({ params }) {
        const integration = yield* find(params.integration_id)
        // without metadata, as in the contract's example
        return answer(integration, yield* refreshed(integration), {})
      }),
      validate: Effect.fnUntraced(function*({ params }) {
        const integration = yield* find(params.integration_id)
        const now = yield* serverNow
        if (integration.status === "requires_reauth") {
          return {
            valid: false,
            reason: "refresh_token_revoked",
            requires_reauthorization: true,
            reauthorization_url: yield* connectUrl(integration)
          }
        }
        if (integration.token === undefined || isExpired(integration.token, now)) {
          return { valid: false, reason: "token_expired", requires_reauthorization: false }
        }
        const { expiresAt } = integration.token
        if (expiresAt === undefined) return { valid: true, expires_at: null, expires_in_seconds: null }
        const left = DateTime.toEpochMillis(expiresAt) - DateTime.toEpochMillis(now)
        return { valid: true, expires_at: expiresAt, expires_in_seconds: Math.floor(left / 1000) }
      }),
      usage: Effect.fnUntraced(function*({ headers, params, payload }) {
        const integration = yield* find(params.integration_id)
        yield* usage.record({
          integrationId: integration.id,
          tenantId: integration.tenantId,
          idempotencyKey: headers["idempotency-key"],
          operation: payload.operation,
          status: payload.status,
          timestamp: payload.timestamp,
          metadata: payload.metadata ?? {}
        })
        return { received: true }
      })
    }))
}
