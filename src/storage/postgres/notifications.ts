/**
 * Notifications of Postgres (`LISTEN`). A listener occupies a connection of the pool, so all storages of a client share one, also in
 * a program with a thousand tenants.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import type { Notification as PgNotification } from "@effect/sql-pg/PgConnection"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Queue from "effect/Queue"
import * as RcMap from "effect/RcMap"
import * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { decodeNotification } from "../records/notification.ts"
import type { Notification } from "../records/RecordDatabase.ts"
import { boundedScope } from "./statement.ts"

/** Whether a client can listen, as the one of `@effect/sql-pg` can. That optional package is not imported. */
export const canListen = (sql: SqlClient): sql is PgClient => Predicate.hasProperty(sql, "~@effect/sql-pg/PgClient")

type Listener = Queue.Queue<Notification, SqlError>

/** The listeners of a connection, by namespace. */
type Listeners = Map<string, Set<Listener>>

/** Dispatches a payload, which is a namespace, a space and a notification. */
const dispatch = (listeners: Listeners, { payload }: PgNotification): void => {
  const end = payload.indexOf(" ")
  const queues = listeners.get(payload.slice(0, Math.max(0, end)))
  if (queues === undefined) return
  Option.map(decodeNotification(payload.slice(end + 1)), (notification) => {
    for (const queue of queues) Queue.offerUnsafe(queue, notification)
  })
}

const failAll = (listeners: Listeners, cause: Cause.Cause<SqlError>): void => {
  for (const queues of listeners.values()) {
    for (const queue of queues) Queue.failCauseUnsafe(queue, cause)
  }
}

type Channels = RcMap.RcMap<string, Listeners, SqlError>

const known = new WeakMap<PgClient, Channels>()

/** The channels that a client listens to; each is released with its last listener. */
const channelsOf = Effect.fnUntraced(function*(sql: PgClient) {
  const found = known.get(sql)
  if (found !== undefined) return found
  const channels: Channels = yield* RcMap.make({
    lookup: (channel: string) =>
      Effect.gen(function*() {
        const notifications = yield* Scope.provide(sql.listen(channel), yield* boundedScope)
        const listeners: Listeners = new Map()
        yield* Queue.take(notifications).pipe(
          Effect.map((notification) => dispatch(listeners, notification)),
          Effect.forever,
          // the next listener gets a new connection
          Effect.onError((cause) =>
            Effect.andThen(RcMap.invalidate(channels, channel), Effect.sync(() => failAll(listeners, cause)))
          ),
          Effect.forkScoped
        )
        return listeners
      })
  }).pipe(
    // never closed: without listeners it holds no resources
    Scope.provide(Scope.makeUnsafe())
  )
  known.set(sql, channels)
  return channels
})

/** The notifications of a namespace until the scope closes. The queue fails when the connection is lost. */
export const listenTo = Effect.fnUntraced(function*(sql: PgClient, channel: string, namespace: string) {
  const channels = yield* channelsOf(sql)
  const listeners = yield* Effect.tapError(
    RcMap.get(channels, channel),
    () => RcMap.invalidate(channels, channel)
  )
  return yield* Effect.acquireRelease(
    Effect.map(Queue.unbounded<Notification, SqlError>(), (queue) => {
      const queues = listeners.get(namespace) ?? new Set()
      listeners.set(namespace, queues.add(queue))
      return queue
    }),
    (queue) =>
      Effect.suspend(() => {
        const queues = listeners.get(namespace)
        queues?.delete(queue)
        if (queues?.size === 0) listeners.delete(namespace)
        return Queue.shutdown(queue)
      })
  )
})
