/**
 * How long each storage takes for the operations of a program, in one run: encrypted files, Redis (`REDIS_URL`, else the server
 * on this machine) and Postgres (`DATABASE_URL`, likewise). Each is measured in a directory or namespace of its own, which is
 * removed at the end. Run by `npm run bench:databases`; a server that cannot be reached is left out.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Credential, CredentialStorage, EncryptedFileStorage, Fernet, RedisStorage, SqlStorage } from "aden-credentials"
import { PostgresConnection } from "aden-credentials/postgres"
import { RedisConnection } from "aden-credentials/redis"
import { Console, Context, Duration, Effect, FileSystem, Layer, Redacted, Result, Stream } from "effect"
import { Redis } from "effect/persistence"
import { SqlClient } from "effect/sql/SqlClient"
import { randomBytes } from "node:crypto"

type Storage = CredentialStorage["Service"]

const times = 500
const notifiedTimes = 100
const many = 2_000
const together = 64

const place = `bench_${randomBytes(8).toString("hex")}`

const credential = (index: number) =>
  Credential.fromAccessToken({
    id: `integration-${index}`,
    accessToken: Redacted.make(`token-${index}-${"x".repeat(500)}`),
    provider: "hubspot",
    alias: `Account ${index}`
  })

// ---------------------------------------------------------------------------------------------------------------------
// The storages
// ---------------------------------------------------------------------------------------------------------------------

/** Two storages over one namespace, as two processes have them. `notifies`: whether one is told of the writes of the other. */
interface Storages {
  readonly name: string
  readonly notifies: boolean
  readonly storage: Storage
  readonly other: Storage
}

const built = <E, R>(layer: Layer.Layer<CredentialStorage, E, R>) =>
  Effect.map(Layer.build(Layer.fresh(layer)), Context.get(CredentialStorage))

const files = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "aden-bench-" })
  const Storage = EncryptedFileStorage.layer({ directory, keys: [yield* Fernet.generateKey] })
  return { name: "files", notifies: false, storage: yield* built(Storage), other: yield* built(Storage) }
})

const redis = Effect.gen(function*() {
  const url = Redacted.make(process.env["REDIS_URL"] ?? "redis://127.0.0.1:6379")
  const Connection = RedisConnection.layer({ url })
  const { send } = Context.get(yield* Layer.build(Connection), Redis.Redis)
  yield* Effect.addFinalizer(() =>
    Effect.gen(function*() {
      for (let cursor = "0", isFirst = true; isFirst || cursor !== "0"; isFirst = false) {
        const [next, keys] = yield* send<[string, Array<string>]>(
          "SCAN",
          cursor,
          "MATCH",
          `{${place}}*`,
          "COUNT",
          "1000"
        )
        if (keys.length > 0) yield* send("UNLINK", ...keys)
        cursor = next
      }
    }).pipe(Effect.orDie)
  )
  const Storage = RedisStorage.layer({ namespace: place, keys: [yield* Fernet.generateKey] }).pipe(
    Layer.provide(Layer.fresh(Connection))
  )
  return { name: "Redis", notifies: true, storage: yield* built(Storage), other: yield* built(Storage) }
})

const postgres = Effect.gen(function*() {
  const url = Redacted.make(process.env["DATABASE_URL"] ?? "postgres://postgres@127.0.0.1:5432/test")
  const Connection = PostgresConnection.layer({ url })
  const sql = Context.get(yield* Layer.build(Connection), SqlClient)
  yield* Effect.acquireRelease(
    sql`create schema ${sql(place)}`,
    () => Effect.orDie(sql`drop schema ${sql(place)} cascade`)
  )
  const Storage = SqlStorage.layer({ table: `${place}.credentials`, keys: [yield* Fernet.generateKey] }).pipe(
    Layer.provide(Layer.fresh(Connection))
  )
  return { name: "Postgres", notifies: true, storage: yield* built(Storage), other: yield* built(Storage) }
})

// ---------------------------------------------------------------------------------------------------------------------
// What is measured
// ---------------------------------------------------------------------------------------------------------------------

/** The value that this share of the values does not exceed. */
const quantile = (values: ReadonlyArray<number>, share: number): number =>
  values.toSorted((a, b) => a - b)[Math.ceil(values.length * share) - 1] ?? NaN

const millis = (value: number): string => `${value.toFixed(value < 10 ? 2 : 1)} ms`

/** The latency of an operation: the median and the 99th percentile. */
const latency = Effect.fnUntraced(function*<A, E>(operation: (index: number) => Effect.Effect<A, E>, count = times) {
  // warm up, so that compiling is not measured
  for (let index = 0; index < count / 5; index++) yield* operation(index)
  const took: Array<number> = []
  for (let index = 0; index < count; index++) {
    const [duration] = yield* Effect.timed(operation(index))
    took.push(Duration.toMillis(duration))
  }
  return `${millis(quantile(took, 0.5))}, ${millis(quantile(took, 0.99))}`
})

const rate = (count: number, duration: Duration.Duration): string =>
  `${Math.round(count / Duration.toSeconds(duration)).toLocaleString("en")} /s`

const saved = Effect.fnUntraced(function*(storage: Storage, credentials: ReadonlyArray<Credential>) {
  const [duration, failures] = yield* Effect.timed(storage.saveMany(credentials))
  if (failures.size > 0) return yield* Effect.fail(`${failures.size} credentials could not be saved`)
  return rate(credentials.length, duration)
})

const measure = Effect.fnUntraced(function*({ other, storage, notifies }: Storages) {
  const figures = new Map<string, string>()
  const all = Array.from({ length: many }, (_, index) => credential(index))
  const idOf = (index: number) => `integration-${index % many}`
  yield* saved(storage, all.slice(0, 100))
  figures.set(`saveMany of ${many.toLocaleString("en")}, new`, yield* saved(storage, all))
  figures.set(`saveMany of ${many.toLocaleString("en")}, again`, yield* saved(storage, all))
  figures.set("load", yield* latency((index) => storage.load(idOf(index))))
  figures.set("save", yield* latency((index) => storage.save(credential(index))))
  figures.set("withLock", yield* latency((index) => storage.withLock(idOf(index), Effect.void)))
  const [loading] = yield* Effect.timed(
    Effect.forEach(all, ({ id }) => storage.load(id), { concurrency: together, discard: true })
  )
  figures.set(`load, ${together} at once`, rate(many, loading))
  const [listing] = yield* Effect.timed(storage.list)
  figures.set(`list of ${many.toLocaleString("en")}`, millis(Duration.toMillis(listing)))
  if (notifies) {
    const told = yield* Stream.toPull(other.changes)
    figures.set(
      "save, until another is notified",
      yield* latency((index) => Effect.andThen(storage.save(credential(index)), told), notifiedTimes)
    )
  }
  return figures
})

// ---------------------------------------------------------------------------------------------------------------------
// The run
// ---------------------------------------------------------------------------------------------------------------------

const tableOf = (columns: ReadonlyArray<readonly [name: string, figures: ReadonlyMap<string, string>]>): string => {
  const labels = Array.from(new Set(columns.flatMap(([, figures]) => Array.from(figures.keys()))))
  const rows = [
    ["", ...columns.map(([name]) => name)],
    ...labels.map((label) => [label, ...columns.map(([, figures]) => figures.get(label) ?? "")])
  ]
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? []
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd()).join("\n")
}

const program = Effect.gen(function*() {
  const columns: Array<readonly [string, ReadonlyMap<string, string>]> = []
  const run = <E, R>(name: string, place: Effect.Effect<Storages, E, R>) =>
    Effect.gen(function*() {
      const found = yield* Effect.result(place)
      if (Result.isFailure(found)) return yield* Console.error(`${name}: left out: ${String(found.failure)}`)
      yield* Console.error(`${name}: being measured`)
      columns.push([name, yield* measure(found.success)])
    }).pipe(Effect.scoped)
  yield* run("files", files)
  yield* run("Redis", redis)
  yield* run("Postgres", postgres)
  yield* Console.log(tableOf(columns))
  yield* Console.log("\nLatencies of one operation after another: the median and the 99th percentile.")
}).pipe(Effect.provide(NodeServices.layer))

NodeRuntime.runMain(program)
