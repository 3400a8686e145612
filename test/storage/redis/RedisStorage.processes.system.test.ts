import { Context, Effect, Layer } from "effect"
import { CredentialStorage } from "../../../src/storage/CredentialStorage.ts"
import { RedisStorage } from "../../../src/storage/redis/RedisStorage.ts"
import { describeWith, redis } from "../../fixtures/realServers.ts"
import { fleetSuite } from "../fleetSuite.ts"
import { key } from "../temporaryStorage.ts"
import { Connection, newNamespace } from "./redisNamespace.ts"

// Real processes over one real Redis server.

const place = Effect.gen(function*() {
  const connection = yield* Layer.build(Layer.fresh(Connection))
  const namespace = yield* Effect.provideContext(newNamespace, connection)
  const storage = yield* Layer.build(RedisStorage.layer({ namespace, keys: [key] })).pipe(
    Effect.provideContext(connection)
  )
  return { database: redis.url, namespace, storage: Context.get(storage, CredentialStorage) }
})

describeWith(redis, "RedisStorage", () => fleetSuite("RedisStorage", place))
