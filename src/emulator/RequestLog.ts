/**
 * The requests that the emulator received. They hold no secret: no body, no `Authorization`, no query.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type { Fault } from "./Fault.ts"
import { remembered, RingBuffer } from "./RingBuffer.ts"

/**
 * Aden's six endpoints, the connect page, the OpenAPI document, and `unknown` for everything else. Requests of the console are
 * not logged.
 *
 * @since 0.1.0
 * @category models
 */
export type EmulatorEndpoint =
  | "list"
  | "get"
  | "refresh"
  | "validate"
  | "usage"
  | "health"
  | "connect"
  | "openapi"
  | "unknown"

/**
 * One request, logged when it arrives, before any fault applies. `status` is `undefined` until it is answered, and stays so
 * when a fault or the client cut the connection. `tenantId` is that of the API key, `undefined` if the key is wrong.
 *
 * @since 0.1.0
 * @category models
 */
export interface EmulatorRequest {
  readonly endpoint: EmulatorEndpoint
  readonly method: string
  /** As it was sent, percent-encoded, without the query. */
  readonly path: string
  readonly integrationId: string | undefined
  readonly tenantId: string | undefined
  readonly idempotencyKey: string | undefined
  /** With `<redacted>` in place of credentials. */
  readonly headers: Readonly<Record<string, string>>
  readonly time: DateTime.Utc
  readonly status: number | undefined
  /** The faults that applied to it, outermost first. */
  readonly faults: ReadonlyArray<Fault["_tag"]>
}

/**
 * Which requests to count; every field that is set has to match.
 *
 * @since 0.1.0
 * @category models
 */
export interface RequestMatch {
  readonly endpoint?: EmulatorEndpoint | undefined
  readonly method?: string | undefined
  /** The path as it was sent, or a pattern for it. */
  readonly path?: string | RegExp | undefined
  readonly integrationId?: string | undefined
  readonly tenantId?: string | undefined
  readonly status?: number | undefined
}

/**
 * How many requests are in flight now, and the maximum since the start or the last `clearRequests`.
 *
 * @since 0.1.0
 * @category models
 */
export interface InFlight {
  readonly current: number
  readonly maximum: number
}

type Mutable<A> = { -readonly [Key in keyof A]: A[Key] }

export interface RequestLog {
  readonly requests: Effect.Effect<ReadonlyArray<EmulatorRequest>>
  readonly count: (match: RequestMatch) => Effect.Effect<number>
  readonly inFlight: (integrationId: string | undefined) => Effect.Effect<InFlight>
  readonly clear: Effect.Effect<void>
  /** Logs a request that has arrived, and returns a handle to record what becomes of it. */
  readonly begin: (request: Omit<EmulatorRequest, "time" | "status" | "faults">) => Effect.Effect<OpenRequest>
}

export interface OpenRequest {
  readonly met: (fault: Fault) => void
  readonly end: (status: number | undefined) => Effect.Effect<void>
}

const matches = (request: EmulatorRequest, match: RequestMatch): boolean =>
  (match.endpoint === undefined || match.endpoint === request.endpoint) &&
  (match.method === undefined || match.method === request.method) &&
  (match.path === undefined ||
    (typeof match.path === "string" ? match.path === request.path : request.path.search(match.path) >= 0)) &&
  (match.integrationId === undefined || match.integrationId === request.integrationId) &&
  (match.tenantId === undefined || match.tenantId === request.tenantId) &&
  (match.status === undefined || match.status === request.status)

export const make: Effect.Effect<RequestLog> = Effect.sync(() => {
  const log = new RingBuffer<Mutable<EmulatorRequest>>()
  const gauges = new Map<string | undefined, Mutable<InFlight>>()

  // `undefined` is the gauge over all integrations
  const gauge = (integrationId: string | undefined) => {
    const existing = gauges.get(integrationId)
    if (existing !== undefined) return existing
    const created = { current: 0, maximum: 0 }
    // clients can ask for any number of ids
    if (gauges.size > remembered) forgetIdle()
    gauges.set(integrationId, created)
    return created
  }

  const forgetIdle = () => {
    for (const [integrationId, { current }] of gauges) {
      if (integrationId === undefined || current > 0) continue
      gauges.delete(integrationId)
      return
    }
  }

  return {
    requests: Effect.sync(() => log.all.map((request) => ({ ...request }))),
    count: (match) => Effect.sync(() => log.all.filter((request) => matches(request, match)).length),
    inFlight: (integrationId) => Effect.sync(() => ({ ...gauge(integrationId) })),
    clear: Effect.sync(() => {
      log.clear()
      for (const each of gauges.values()) each.maximum = each.current
    }),
    begin: Effect.fnUntraced(function*(request) {
      const entry: Mutable<EmulatorRequest> = { ...request, time: yield* DateTime.now, status: undefined, faults: [] }
      log.add(entry)
      const touched = request.integrationId === undefined
        ? [gauge(undefined)]
        : [gauge(undefined), gauge(request.integrationId)]
      for (const each of touched) {
        each.current++
        each.maximum = Math.max(each.maximum, each.current)
      }
      return {
        met: (fault) => {
          entry.faults = [...entry.faults, fault._tag]
        },
        end: (status) =>
          Effect.sync(() => {
            entry.status = status
            for (const each of touched) each.current--
          })
      }
    })
  }
})
