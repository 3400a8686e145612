import { describe } from "@effect/vitest"
import { RedisConnection } from "aden-credentials/redis"
import { Effect, Layer } from "effect"
import { RedisStorage } from "../../../src/storage/redis/RedisStorage.ts"
import { hasRedisServer, restartableRedis } from "../../fixtures/redisServer.ts"
import { outageSuite } from "../outageSuite.ts"
import { key } from "../temporaryStorage.ts"

const needsServer = hasRedisServer ? "" : " (left out: redis-server is not installed)"

const server = Effect.map(
  restartableRedis(["--appendonly", "yes", "--appendfsync", "always"]),
  ({ start, stop, url }) => ({ url, start, stop: stop() })
)

describe.skipIf(!hasRedisServer)(`RedisStorage${needsServer}`, () => {
  outageSuite("Redis", {
    server,
    storageAt: (url) => RedisStorage.layer({ keys: [key] }).pipe(Layer.provide(RedisConnection.layer({ url })))
  })
})
