import { Effect } from "effect"
import { describeWith, postgres, redis } from "../fixtures/realServers.ts"
import { connected, newSchema, storageOver } from "../storage/postgres/postgresSchema.ts"
import { place } from "../storage/redis/redisNamespace.ts"
import { issuersSuite } from "./issuersSuite.ts"

const size = { seeds: 2, steps: 40 }

describeWith(
  redis,
  "Two issuers over one namespace of Redis",
  () => issuersSuite({ ...size, openPlace: Effect.map(place, ({ process }) => process) })
)

describeWith(postgres, "Two issuers over one namespace of Postgres", () =>
  issuersSuite({
    ...size,
    openPlace: Effect.map(newSchema, (database) =>
      Effect.flatMap(connected(database), (connection) => storageOver(connection, { namespace: "issuers" })))
  }))
