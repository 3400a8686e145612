/**
 * A place in the real Redis server for one test: a namespace of its own, removed when the scope closes.
 */
import { RedisConnection } from "aden-credentials/redis"
import { Context, Effect, Layer, Redacted } from "effect"
import { Redis } from "effect/persistence"
import { randomBytes } from "node:crypto"
import { CredentialStorage } from "../../../src/storage/CredentialStorage.ts"
import { RedisStorage } from "../../../src/storage/redis/RedisStorage.ts"
import { redis } from "../../fixtures/realServers.ts"
import { key } from "../temporaryStorage.ts"

export const Connection = RedisConnection.layer({ url: Redacted.make(redis.url) })

/** A connection of its own, until the scope closes. */
export const connected = (url = redis.url) =>
  Effect.map(
    Layer.build(Layer.fresh(RedisConnection.layer({ url: Redacted.make(url) }))),
    Context.get(Redis.Redis)
  )

/** All keys that begin with this. */
export const keysOf = Effect.fnUntraced(function*(prefix: string) {
  const { send } = yield* Redis.Redis
  const keys: Array<string> = []
  let cursor = "0"
  do {
    const [next, found] = yield* send<[string, Array<string>]>("SCAN", cursor, "MATCH", `${prefix}*`, "COUNT", "1000")
    keys.push(...found)
    cursor = next
  } while (cursor !== "0")
  return keys
})

export const newNamespace = Effect.acquireRelease(
  Effect.sync(() => `test:${randomBytes(8).toString("hex")}`),
  Effect.fnUntraced(function*(namespace) {
    const { send } = yield* Redis.Redis
    const keys = yield* keysOf(`{${namespace}`)
    if (keys.length > 0) yield* send("DEL", ...keys)
  }, Effect.orDie)
)

/** A storage as one more process has it, over this connection. */
export const storageOver = (
  redis: Redis.Redis["Service"],
  options: { readonly namespace: string; readonly keys?: ReadonlyArray<Redacted.Redacted<string>> }
) =>
  Effect.map(
    Layer.build(Layer.fresh(RedisStorage.layer({ keys: [key], ...options }))).pipe(
      Effect.provideService(Redis.Redis, redis)
    ),
    Context.get(CredentialStorage)
  )

/** A connection, a namespace, and a way to build the storages of more processes in it. */
export const place = Effect.gen(function*() {
  const redis = yield* connected()
  const namespace = yield* Effect.provideService(newNamespace, Redis.Redis, redis)
  return {
    redis,
    namespace,
    keyOf: (id: string) => `{${namespace}}:entry:${id}`,
    lockOf: (id: string) => `{${namespace}}:lock:${id}`,
    process: Effect.flatMap(connected(), (redis) => storageOver(redis, { namespace })),
    storage: yield* storageOver(redis, { namespace })
  } as const
})

/** A storage with a connection of its own, in a namespace of its own. */
export const TemporaryRedis = Layer.unwrap(
  Effect.map(newNamespace, (namespace) => RedisStorage.layer({ namespace, keys: [key] }))
).pipe(Layer.provide(Connection))
