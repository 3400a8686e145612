import { Effect, Schema } from "effect"
import { Redis } from "effect/persistence"
import { describeWith, redis } from "../../fixtures/realServers.ts"
import { suite } from "../tamperingSuite.ts"
import type { Tampered } from "../tamperingSuite.ts"
import { connected, newNamespace, storageOver } from "./redisNamespace.ts"

const fields = ["generation", "document", "state"] as const
const Fields = Schema.decodeUnknownSync(Schema.Array(Schema.NullOr(Schema.String)))

const tampered = Effect.gen(function*() {
  const connection = yield* connected()
  const namespace = yield* Effect.provideService(newNamespace, Redis.Redis, connection)
  const keyOf = (namespace: string, id: string) => `{${namespace}}:entry:${id}`
  const database: Tampered = {
    namespace,
    storageIn: (namespace) => storageOver(connection, { namespace }),
    rowOf: (namespace, id) =>
      Effect.gen(function*() {
        const [generation, document, state] = Fields(
          yield* connection.send<unknown>("HMGET", keyOf(namespace, id), ...fields)
        )
        return { generation: generation ?? "0", document: document ?? null, state: state ?? null }
      }).pipe(Effect.orDie),
    write: (namespace, id, row) =>
      Effect.gen(function*() {
        for (const field of fields) {
          const value = row[field]
          if (value === null) yield* connection.send("HDEL", keyOf(namespace, id), field)
          else if (value !== undefined) yield* connection.send("HSET", keyOf(namespace, id), field, value)
        }
        if (typeof row.document === "string") yield* connection.send("SADD", `{${namespace}}:ids`, id)
      }).pipe(Effect.orDie)
  }
  return database
})

describeWith(redis, "Redis, written to without a key", () => suite("RedisStorage", tampered))
