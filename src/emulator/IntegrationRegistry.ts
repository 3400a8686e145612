/**
 * The state of the emulated Aden: tenants with their API keys, their integrations, and the tokens it issued.
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Hash from "effect/Hash"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import type * as Schema from "effect/Schema"
import { formatTimestamp } from "../util/Timestamp.ts"
import { RingBuffer } from "./RingBuffer.ts"
import { serverNow, wholeSecond } from "./serverClock.ts"

/**
 * The status of an integration: connected; with an expired token, which Aden can refresh; or disconnected until a person
 * connects it again.
 *
 * @since 0.1.0
 * @category models
 */
export type IntegrationStatus = "active" | "expired" | "requires_reauth"

/**
 * An integration of the emulator. By default, `type` is the id, there is no alias, e-mail, scope or metadata, tokens do not
 * expire, and the status is `active`.
 *
 * @since 0.1.0
 * @category models
 */
export interface IntegrationOptions {
  readonly id: string
  readonly type?: string | undefined
  readonly alias?: string | undefined
  readonly email?: string | undefined
  readonly scopes?: ReadonlyArray<string> | undefined
  readonly metadata?: Readonly<Record<string, Schema.Json>> | undefined
  /** How long a token lives after it is issued. If that is a minute or more, its expiry is rounded down to a whole second. */
  readonly tokenLifetime?: Duration.Input | undefined
  readonly status?: IntegrationStatus | undefined
}

/**
 * A tenant of the emulator: its API keys and integrations.
 *
 * @since 0.1.0
 * @category models
 */
export interface TenantOptions {
  readonly id: string
  readonly apiKeys: ReadonlyArray<Redacted.Redacted<string>>
  readonly integrations?: ReadonlyArray<IntegrationOptions> | undefined
}

/**
 * A token that the emulator issued, and when. `expiresAt` is `undefined` if it does not expire.
 *
 * @since 0.1.0
 * @category models
 */
export interface IssuedToken {
  readonly integrationId: string
  readonly tenantId: string
  /** Counts the tokens of the integration, from 1. */
  readonly number: number
  readonly value: Redacted.Redacted<string>
  readonly issuedAt: DateTime.Utc
  readonly expiresAt: DateTime.Utc | undefined
}

/**
 * An integration in its current state. `token` is the one Aden would answer with, `undefined` if a person has to connect it
 * first.
 *
 * @since 0.1.0
 * @category models
 */
export interface EmulatedIntegration {
  readonly id: string
  readonly tenantId: string
  readonly type: string
  readonly alias: string | undefined
  readonly email: string | undefined
  readonly scopes: ReadonlyArray<string>
  readonly metadata: Readonly<Record<string, Schema.Json>>
  readonly tokenLifetime: Duration.Duration | undefined
  readonly status: IntegrationStatus
  readonly token: IssuedToken | undefined
}

/** The lifetime of tokens issued while it is set, instead of the integration's own. */
export const IssuedTokenLifetime = Context.Reference<Duration.Duration | undefined>(
  "aden-credentials/emulator/IssuedTokenLifetime",
  { defaultValue: () => undefined }
)

export interface IntegrationRegistry {
  readonly tenants: Effect.Effect<ReadonlyArray<string>>
  readonly tenantOf: (apiKey: Redacted.Redacted<string>) => Effect.Effect<Option.Option<string>>
  readonly putTenant: (tenant: TenantOptions) => Effect.Effect<void>
  readonly setApiKeys: (tenantId: string, apiKeys: TenantOptions["apiKeys"]) => Effect.Effect<void>
  readonly put: (tenantId: string, integration: IntegrationOptions) => Effect.Effect<EmulatedIntegration>
  readonly remove: (tenantId: string, id: string) => Effect.Effect<boolean>
  readonly list: (tenantId: string) => Effect.Effect<ReadonlyArray<EmulatedIntegration>>
  readonly find: (tenantId: string, id: string) => Effect.Effect<Option.Option<EmulatedIntegration>>
  /** Issues a token and makes the integration active. */
  readonly issue: (integration: EmulatedIntegration) => Effect.Effect<EmulatedIntegration>
  /** Issues a token because a person connected. */
  readonly connect: (integration: EmulatedIntegration) => Effect.Effect<EmulatedIntegration>
  readonly revoke: (integration: EmulatedIntegration) => Effect.Effect<void>
  /** Makes the current token expire now. */
  readonly expire: (integration: EmulatedIntegration) => Effect.Effect<void>
  readonly issued: Effect.Effect<ReadonlyArray<IssuedToken>>
}

interface Tenant {
  readonly integrations: Map<string, EmulatedIntegration>
  /** How many tokens each integration was issued, including those before it was removed and added again. */
  readonly counters: Map<string, number>
}

export const isExpired = (token: IssuedToken, now: DateTime.Utc): boolean =>
  token.expiresAt !== undefined && DateTime.isLessThanOrEqualTo(token.expiresAt, now)

/** The expiry of a token that lives only seconds keeps its fraction: tests wait for it. */
const expiryAfter = (issuedAt: DateTime.Utc, lifetime: Duration.Duration): DateTime.Utc => {
  const expiresAt = DateTime.addDuration(issuedAt, lifetime)
  return Duration.isLessThan(lifetime, Duration.minutes(1)) ? expiresAt : wholeSecond(expiresAt)
}

const revoked = (integration: EmulatedIntegration): EmulatedIntegration => ({
  ...integration,
  status: "requires_reauth",
  token: undefined
})

const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"

const randomText = Effect.map(
  Effect.replicateEffect(Random.nextIntBetween(0, alphabet.length, { halfOpen: true }), 20),
  (indices) => indices.map((index) => alphabet[index]).join("")
)

export const make: Effect.Effect<IntegrationRegistry> = Effect.sync(() => {
  const tenants = new Map<string, Tenant>()
  const tenantByKey = new Map<string, string>()
  const issued = new RingBuffer<IssuedToken>()

  const tenant = (id: string): Effect.Effect<Tenant> =>
    Effect.suspend(() => {
      const found = tenants.get(id)
      return found === undefined
        ? Effect.die(new Error(`The emulator has no tenant ${JSON.stringify(id)}. Add it with addTenant.`))
        : Effect.succeed(found)
    })

  const store = (integration: EmulatedIntegration) =>
    Effect.map(tenant(integration.tenantId), ({ integrations }) => {
      integrations.set(integration.id, integration)
      return integration
    })

  const issue = Effect.fnUntraced(function*(integration: EmulatedIntegration) {
    const random = yield* randomText
    const issuedAt = yield* serverNow
    const lifetime = (yield* IssuedTokenLifetime) ?? integration.tokenLifetime
    const { counters, integrations } = yield* tenant(integration.tenantId)
    return yield* Effect.sync(() => {
      const current = integrations.get(integration.id)
      // revoked or removed by another fiber since it was read
      if (current === undefined || current.status === "requires_reauth") return revoked(integration)
      const number = (counters.get(integration.id) ?? 0) + 1
      counters.set(integration.id, number)
      const hash = (Hash.string(integration.id) >>> 0).toString(36)
      const token: IssuedToken = {
        integrationId: integration.id,
        tenantId: integration.tenantId,
        number,
        value: Redacted.make(`aden-emulator.${hash}.${number}.${random}`, { label: "access token" }),
        issuedAt,
        expiresAt: lifetime === undefined ? undefined : expiryAfter(issuedAt, lifetime)
      }
      issued.add(token)
      const renewed: EmulatedIntegration = { ...current, status: "active", token }
      integrations.set(integration.id, renewed)
      return renewed
    })
  })

  const expire = Effect.fnUntraced(function*(integration: EmulatedIntegration) {
    const now = yield* serverNow
    return yield* store({
      ...integration,
      token: integration.token === undefined ? undefined : { ...integration.token, expiresAt: wholeSecond(now) }
    })
  })

  const put = Effect.fnUntraced(function*(tenantId: string, options: IntegrationOptions) {
    const status = options.status ?? "active"
    const unconnected = yield* store({
      id: options.id,
      tenantId,
      type: options.type ?? options.id,
      alias: options.alias,
      email: options.email,
      scopes: options.scopes ?? [],
      metadata: options.metadata ?? {},
      tokenLifetime: options.tokenLifetime === undefined ? undefined : Duration.fromInputUnsafe(options.tokenLifetime),
      status,
      token: undefined
    })
    if (status === "requires_reauth") return unconnected
    const connected = yield* issue(unconnected)
    return status === "active" ? connected : yield* expire({ ...connected, status })
  })

  const setApiKeys = (tenantId: string, apiKeys: TenantOptions["apiKeys"]) =>
    Effect.sync(() => {
      for (const [key, owner] of tenantByKey) {
        if (owner === tenantId) tenantByKey.delete(key)
      }
      for (const key of apiKeys) tenantByKey.set(Redacted.value(key), tenantId)
    })

  return {
    tenants: Effect.sync(() => [...tenants.keys()]),
    tenantOf: (apiKey) => Effect.sync(() => Option.fromUndefinedOr(tenantByKey.get(Redacted.value(apiKey)))),
    putTenant: Effect.fnUntraced(function*({ apiKeys, id, integrations = [] }) {
      tenants.set(id, { integrations: new Map(), counters: new Map() })
      yield* setApiKeys(id, apiKeys)
      yield* Effect.forEach(integrations, (integration) => put(id, integration), { discard: true })
    }),
    setApiKeys: (tenantId, apiKeys) => Effect.andThen(tenant(tenantId), setApiKeys(tenantId, apiKeys)),
    put,
    remove: (tenantId, id) => Effect.map(tenant(tenantId), ({ integrations }) => integrations.delete(id)),
    list: (tenantId) => Effect.map(tenant(tenantId), ({ integrations }) => [...integrations.values()]),
    find: (tenantId, id) =>
      Effect.map(tenant(tenantId), ({ integrations }) => Option.fromUndefinedOr(integrations.get(id))),
    issue,
    connect: Effect.fnUntraced(function*(integration) {
      const now = yield* serverNow
      return yield* Effect.flatMap(
        store({
          ...integration,
          status: "active",
          metadata: { ...integration.metadata, connected_at: formatTimestamp(wholeSecond(now)) }
        }),
        issue
      )
    }),
    revoke: (integration) => store(revoked(integration)),
    expire,
    issued: Effect.sync(() => issued.all)
  }
})
