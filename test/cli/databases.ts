/**
 * A place in each real database for one test, with what only those do who get at the server past this package.
 */
import type { Credential, CredentialStorage } from "aden-credentials"
import { Effect, Redacted } from "effect"
import { Redis } from "effect/persistence"
import { postgres, redis } from "../fixtures/realServers.ts"
import * as inPostgres from "../storage/postgres/postgresSchema.ts"
import * as inRedis from "../storage/redis/redisNamespace.ts"
import { encryptionKey } from "./harness.ts"

const keysOf = (keys: ReadonlyArray<string>) => keys.map((key) => Redacted.make(key))

const inRedisServer = Effect.gen(function*() {
  const connection = yield* inRedis.connected()
  const namespace = yield* Effect.provideService(inRedis.newNamespace, Redis.Redis, connection)
  const keyOf = (id: string) => `{${namespace}}:entry:${id}`
  return {
    url: redis.url,
    namespace,
    flags: ["--storage", redis.url, "--namespace", namespace],
    storage: (...keys: ReadonlyArray<string>) =>
      inRedis.storageOver(connection, { namespace, keys: keysOf(keys.length === 0 ? [encryptionKey] : keys) }),
    document: (id: string) => Effect.orDie(connection.send<string>("HGET", keyOf(id), "document")),
    putDocument: (id: string, document: string) =>
      Effect.orDie(Effect.asVoid(connection.send("HSET", keyOf(id), "document", document))),
    putState: (id: string, state: string) =>
      Effect.orDie(Effect.asVoid(connection.send("HSET", keyOf(id), "state", state))),
    locationOf: (id: string) => `the Redis key ${keyOf(id)}`
  }
})

const inPostgresServer = Effect.gen(function*() {
  const url = yield* inPostgres.newSchema
  const sql = yield* inPostgres.connected(url)
  return {
    url,
    namespace: "cli",
    flags: ["--storage", url, "--namespace", "cli"],
    storage: (...keys: ReadonlyArray<string>) =>
      inPostgres.storageOver(sql, { namespace: "cli", keys: keysOf(keys.length === 0 ? [encryptionKey] : keys) }),
    document: (id: string) =>
      sql<{ document: string }>`select document from aden_credentials where id = ${id}`.pipe(
        Effect.map(([row]) => row?.document ?? ""),
        Effect.orDie
      ),
    putDocument: (id: string, document: string) =>
      Effect.orDie(Effect.asVoid(sql`update aden_credentials set document = ${document} where id = ${id}`)),
    putState: (id: string, state: string) =>
      Effect.orDie(Effect.asVoid(sql`update aden_credentials set state = ${state} where id = ${id}`)),
    locationOf: (id: string) => `the Postgres table aden_credentials, namespace cli, id ${id}`
  }
})

/** Each: the server it needs, what errors call it, and a new place there. */
export const databases = [
  { name: "Redis", server: redis, place: inRedisServer },
  { name: "Postgres", server: postgres, place: inPostgresServer }
] as const

export type DatabasePlace = Effect.Success<typeof inRedisServer> | Effect.Success<typeof inPostgresServer>

export const saveAll = (
  place: DatabasePlace,
  credentials: ReadonlyArray<Credential>,
  ...keys: ReadonlyArray<string>
) =>
  Effect.gen(function*() {
    const storage: CredentialStorage["Service"] = yield* place.storage(...keys)
    const failures = yield* storage.saveMany(credentials)
    if (failures.size > 0) return yield* Effect.die(new Error("not all were saved"))
  })
