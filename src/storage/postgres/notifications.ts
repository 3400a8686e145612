/**
 * What Postgres notifies of. A listener takes a connection of the pool for itself, so all storages that use one client listen
 * through the same: a program with a thousand tenants has one.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import type { Notification } from "@effect/sql-pg/PgConnection"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Queue from "effect/Queue"
import * as RcMap from "effect/RcMap"
import * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { decodeNotice } from "../records/notification.ts"
import type { Notice } from "../records/RecordDatabase.ts"
import { boundedScope } from "./statement.ts"

/** Whether a client can listen: that of `@effect/sql-pg` can, which is not imported because other programs need not have it. */
export const canListen = (sql: SqlClient): sql is PgClient => Predicate.hasProperty(sql, "~@effect/sql-pg/PgClient")

type Notices = Queue.Queue<Notice, SqlError>

/** Who listens through a connection, by namespace. */
type Listeners = Map<string, Set<Notices>>

/** A namespace, a space, and a notice. */
const tell = (listeners: Listeners, { payload }: Notification): void => {
  const end = payload.indexOf(" ")
  const queues = listeners.get(payload.slice(0, Math.max(0, end)))
  if (queues === undefined) return
  Option.map(decodeNotice(payload.slice(end + 1)), (notice) => {
    for (const queue of queues) Queue.offerUnsafe(queue, notice)
  })
}

const lose = (listeners: Listeners, cause: Cause.Cause<SqlError>): void => {
  for (const queues of listeners.values()) {
    for (const queue of queues) Queue.failCauseUnsafe(queue, cause)
  }
}

type Channels = RcMap.RcMap<string, Listeners, SqlError>

const known = new WeakMap<PgClient, Channels>()

/** The channels that are listened to through a client; each is given up when nobody listens to it any more. */
const channelsOf = Effect.fnUntraced(function*(sql: PgClient) {
  const found = known.get(sql)
  if (found !== undefined) return found
  const channels: Channels = yield* RcMap.make({
    lookup: (channel: string) =>
      Effect.gen(function*() {
        const notifications = yield* Scope.provide(sql.listen(channel), yield* boundedScope)
        const listeners: Listeners = new Map()
        yield* Queue.take(notifications).pipe(
          Effect.map((notification) => tell(listeners, notification)),
          Effect.forever,
          // who listens next gets another connection
          Effect.onError((cause) =>
            Effect.andThen(RcMap.invalidate(channels, channel), Effect.sync(() => lose(listeners, cause)))
          ),
          Effect.forkScoped
        )
        return listeners
      })
  }).pipe(
    // it holds nothing while nobody listens
    Scope.provide(Scope.makeUnsafe())
  )
  known.set(sql, channels)
  return channels
})

/** What is told of a namespace from now on, until the scope closes. The queue fails when the connection is lost. */
export const listenTo = Effect.fnUntraced(function*(sql: PgClient, channel: string, namespace: string) {
  const channels = yield* channelsOf(sql)
  const listeners = yield* Effect.tapError(
    RcMap.get(channels, channel),
    () => RcMap.invalidate(channels, channel)
  )
  return yield* Effect.acquireRelease(
    Effect.map(Queue.unbounded<Notice, SqlError>(), (queue) => {
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
