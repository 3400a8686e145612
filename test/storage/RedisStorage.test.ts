import { describeWith, redis } from "../fixtures/realServers.ts"
import { TemporaryRedis } from "./redisNamespace.ts"
import { suite } from "./StorageContract.ts"

describeWith(redis, "RedisStorage", () => {
  suite("RedisStorage", TemporaryRedis)
})
