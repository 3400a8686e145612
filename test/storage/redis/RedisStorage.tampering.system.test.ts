import { Effect, Schema } from "effect"
import { Redis } from "effect/persistence"
import { describeWith, redis } from "../../fixtures/realServers.ts"
import { hostileText, plantedId } from "../randomEdits.ts"
import type { Tampered } from "../tampered.ts"
import { suite } from "../tamperingSuite.ts"
import { connected, keysOf, newNamespace, storageOver } from "./redisNamespace.ts"

type Command = readonly [name: string, ...ReadonlyArray<string>]

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
    disturb: (namespace, id, chance) => {
      const tag = `{${namespace}}`
      const text = hostileText(chance)
      const planted = plantedId(chance)
      const number = chance.of(["0", "-1", "3", "1e300", "inf", "9007199254740993", "x"])
      const notification = JSON.stringify({
        _tag: chance.of(["Saved", "Deleted", "Released", text]),
        sequence: chance.below(50),
        generation: chance.of([1, 2, 5, 9_007_199_254_740_991]),
        id: chance.of([id, planted]),
        by: text
      })
      const commands: readonly [Command, ...ReadonlyArray<Command>] = [
        ["PUBLISH", `${tag}:notices`, chance.of([notification, text])],
        ["SADD", `${tag}:ids`, planted],
        ["SREM", `${tag}:ids`, id],
        ["ZADD", `${tag}:changes`, number === "x" ? "7" : number, chance.of([id, planted])],
        ["SET", `${tag}:sequence`, number],
        ["DEL", `${tag}:sequence`],
        ["SET", `${tag}:lock:${id}`, text, "PX", "50"],
        ["SET", `${tag}:entry:${id}`, text],
        ["DEL", `${tag}:entry:${id}`],
        ["HSET", `${tag}:entry:${id}`, chance.of(["writer", "generation", "more"]), text],
        ["SET", `${tag}:${chance.of(["ids", "changes"])}`, text]
      ]
      return Effect.ignore(connection.send(...chance.of(commands)))
    },
    reset: Effect.orDie(Effect.gen(function*() {
      const keys = yield* Effect.provideService(keysOf(`{${namespace}`), Redis.Redis, connection)
      if (keys.length > 0) yield* connection.send("DEL", ...keys)
    })),
    write: (namespace, id, row) =>
      Effect.gen(function*() {
        // something else may be in its place
        yield* Effect.catch(
          connection.send("HDEL", keyOf(namespace, id), ""),
          () => connection.send("DEL", keyOf(namespace, id))
        )
        for (const field of fields) {
          const value = row[field]
          if (value === null) yield* connection.send("HDEL", keyOf(namespace, id), field)
          else if (value !== undefined) yield* connection.send("HSET", keyOf(namespace, id), field, value)
        }
        if (typeof row.document === "string") yield* Effect.ignore(connection.send("SADD", `{${namespace}}:ids`, id))
      }).pipe(Effect.orDie)
  }
  return database
})

describeWith(redis, "Redis, written to without a key", () => suite("RedisStorage", tampered))
