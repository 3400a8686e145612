import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Queue, Redacted } from "effect"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import { randomBytes } from "node:crypto"
import { listenTo } from "../../../src/storage/postgres/notifications.ts"
import { describeWith, postgres } from "../../fixtures/realServers.ts"

const client = Effect.map(
  Layer.build(PgClient.layer({ url: Redacted.make(postgres.url) })),
  Context.get(PgClient.PgClient)
)

const newChannel = Effect.sync(() => `test_${randomBytes(8).toString("hex")}`)

const released = (id: string) => `{"_tag":"Released","id":"${id}"}`

describeWith(postgres, "listenTo", () => {
  it.live("tells each namespace what is told of it", () =>
    Effect.gen(function*() {
      const sql = yield* client
      const channel = yield* newChannel
      const [a, b] = [yield* listenTo(sql, channel, "a"), yield* listenTo(sql, channel, "b")]
      yield* sql.notify(channel, `b ${released("x")}`)
      yield* sql.notify(channel, `a ${released("y")}`)
      assert.deepStrictEqual(yield* Queue.take(a), { _tag: "Released", id: "y" })
      assert.deepStrictEqual(yield* Queue.take(b), { _tag: "Released", id: "x" })
    }))

  it.live("a listener that comes after the connection was lost gets another one, also while the first is still held", () =>
    Effect.gen(function*() {
      const sql = yield* client
      const channel = yield* newChannel
      const before = yield* listenTo(sql, channel, "a")
      yield* sql`select pg_terminate_backend(pid) from pg_stat_activity where query = ${`LISTEN "${channel}"`}`
      assert.isTrue(Exit.isFailure(yield* Effect.exit(Queue.take(before))))
      const after = yield* listenTo(sql, channel, "a")
      yield* sql.notify(channel, `a ${released("x")}`)
      assert.deepStrictEqual(yield* Queue.take(after), { _tag: "Released", id: "x" })
    }))

  it.live("a listener that failed can try again, also while another is still held", () =>
    Effect.gen(function*() {
      const sql = yield* client
      const channel = yield* newChannel
      let isAway = true
      const away = new SqlError({ reason: new ConnectionError({ cause: new Error("away") }) })
      const failing = new Proxy(sql, {
        get: (target, name) => name === "listen" && isAway ? () => Effect.fail(away) : Reflect.get(target, name)
      })
      assert.strictEqual(yield* Effect.flip(listenTo(failing, channel, "a")), away)
      isAway = false
      const notices = yield* listenTo(failing, channel, "a")
      yield* sql.notify(channel, `a ${released("x")}`)
      assert.deepStrictEqual(yield* Queue.take(notices), { _tag: "Released", id: "x" })
    }))
})
