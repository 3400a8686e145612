/**
 * Runs a fleet in which an earlier version of this package and the present one share a directory, then Redis, then Postgres, each for
 * a minute: four processes, two of each version, over one Aden whose tokens last 20 s. To be run before a release.
 *
 *     npm run mixed-fleet -- --old v0.1.0
 *     npm run mixed-fleet -- --old v0.1.0 --storage files --seconds 120
 *
 * Exits 1 when a read or a save failed, an expired token was served, something saved was lost, or a token was renewed twice. `--old` is a
 * commit or tag of this repository. Redis and Postgres have to run on their default ports.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { CredentialStorage, EncryptedFileStorage, RedisStorage, SqlStorage } from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { PostgresConnection } from "aden-credentials/postgres"
import { RedisConnection } from "aden-credentials/redis"
import { Console, Context, DateTime, Duration, Effect, FileSystem, Layer, Option, Path, Redacted, Schema } from "effect"
import { Command, Flag } from "effect/cli"
import { execFileSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { bundled } from "../test/fixtures/bundle.ts"
import { startWorker } from "../test/fixtures/storageWorkers.ts"

const worker = "test/fixtures/fleetWorker.ts"
const root = fileURLToPath(new URL("..", import.meta.url))
const key = Redacted.make("DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus=")
const places = ["files", "redis", "postgres"] as const

/** Tokens are renewed in the second half of this time. */
const lifetime = Duration.seconds(20)

const Report = Schema.Struct({
  failures: Schema.Array(Schema.String),
  tokens: Schema.Array(Schema.String),
  own: Schema.String,
  saved: Schema.Int
})

/** The worker over the sources of a commit. They stand where the packages are found. */
const workerOf = Effect.fnUntraced(function*(commit: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const cache = path.join(root, "node_modules", ".cache")
  yield* fs.makeDirectory(cache, { recursive: true })
  const folder = yield* fs.makeTempDirectoryScoped({ directory: cache, prefix: "version-" })
  return yield* Effect.sync(() => {
    const archive = execFileSync("git", ["archive", commit, "src", "tsconfig.json", "package.json"], {
      cwd: root,
      maxBuffer: 100_000_000
    })
    execFileSync("tar", ["-x", "-C", folder], { input: archive })
    return bundled(worker, path.join(folder, "tsconfig.json"))
  })
})

/** Where a place is, and how what is stored there is read afterwards. */
const placeOf = Effect.fnUntraced(function*(place: (typeof places)[number]) {
  const fs = yield* FileSystem.FileSystem
  const namespace = `mixed-${process.pid}`
  const options = { namespace, keys: [key] }
  switch (place) {
    case "files": {
      const database = yield* fs.makeTempDirectoryScoped({ prefix: "mixed-fleet-" })
      const storage = EncryptedFileStorage.layer({ directory: database, keys: [key] }).pipe(
        Layer.provide([NodeFileSystem.layer, NodePath.layer])
      )
      return { database, namespace, storage }
    }
    case "redis": {
      const database = "redis://127.0.0.1:6379"
      const connection = RedisConnection.layer({ url: Redacted.make(database) })
      return { database, namespace, storage: Layer.provide(RedisStorage.layer(options), connection) }
    }
    case "postgres": {
      const database = "postgres://postgres@127.0.0.1:5432/test"
      const connection = PostgresConnection.layer({ url: Redacted.make(database) })
      return { database, namespace, storage: Layer.provide(SqlStorage.layer(options), connection) }
    }
  }
})

/** What went wrong over one storage. */
const run = Effect.fnUntraced(
  function*(place: (typeof places)[number], versions: ReadonlyArray<string>, seconds: number) {
    const { database, namespace, storage } = yield* placeOf(place)
    const aden = yield* AdenEmulator
    const stored = Context.get(yield* Layer.build(storage), CredentialStorage)
    const workers = yield* Effect.forEach([...versions, ...versions], (file) => startWorker(file))
    yield* Effect.forEach(workers, ({ ready }) => ready, { discard: true })
    for (const each of workers) {
      each.tell({
        do: "live",
        times: seconds,
        database,
        namespace,
        key: Redacted.value(key),
        ref: "hubspot",
        url: aden.url,
        apiKey: Redacted.value(aden.apiKey)
      })
    }
    yield* Effect.forEach(workers, ({ ended }) => ended, { concurrency: "unbounded", discard: true })

    const problems: Array<string> = []
    let saves = 0
    const read = new Set<string>()
    for (const [index, { lines, stderr }] of workers.entries()) {
      const version = index % 2 === 0 ? "earlier" : "present"
      const report = Schema.decodeUnknownOption(Report)(lines[1])
      if (Option.isNone(report)) {
        problems.push(`${version}: no report: ${stderr.slice(0, 500)}`)
        continue
      }
      const { failures, own, saved, tokens } = report.value
      for (const failure of failures) problems.push(`${version}: ${failure}`)
      for (const token of tokens) read.add(token)
      saves += saved
      const last = Option.getOrUndefined(yield* stored.load(own))?.defaultKey
      if (last === undefined || Number(Redacted.value(last.value)) < saved) {
        problems.push(`${version}: ${own} lost a save`)
      }
      yield* stored.delete(own)
    }
    yield* stored.delete("hubspot")
    const issued = (yield* aden.issuedTokens).map(({ issuedAt, value }) => ({
      at: DateTime.toEpochMillis(issuedAt),
      value: Redacted.value(value)
    }))
    for (const [index, { at }] of issued.entries()) {
      const before = issued[index - 1]
      if (before !== undefined && at - before.at < Duration.toMillis(lifetime) * 0.45) {
        problems.push(`two tokens within ${at - before.at} ms: one was renewed twice`)
      }
    }
    const unknown = Array.from(read).filter((token) => issued.every(({ value }) => value !== token))
    if (unknown.length > 0) problems.push(`${unknown.length} tokens were read that Aden did not issue`)
    yield* Console.log(
      `${place}: ${issued.length} tokens issued, ${read.size} read, ${saves} saves, ${problems.length} problems`
    )
    for (const problem of problems) yield* Console.error(`  ${problem}`)
    return problems.length
  },
  Effect.provide(AdenEmulator.layer({ integrations: [{ id: "hubspot", tokenLifetime: lifetime }] })),
  Effect.scoped
)

const command = Command.make("mixed-fleet", {
  old: Flag.String("old").pipe(Flag.withDescription("The commit or tag of the earlier version.")),
  storage: Flag.Literals("storage", places).pipe(Flag.optional, Flag.withDescription("Only over this one.")),
  seconds: Flag.Int("seconds").pipe(Flag.withDefault(60), Flag.withDescription("How long, for each storage."))
}, ({ old, seconds, storage }) =>
  Effect.gen(function*() {
    const versions = [yield* workerOf(old), yield* Effect.sync(() => bundled(worker))]
    let problems = 0
    for (const place of Option.match(storage, { onNone: () => places, onSome: (one) => [one] })) {
      problems += yield* run(place, versions, seconds)
    }
    if (problems > 0) return yield* Effect.fail(new Error(`${problems} problems`))
  }).pipe(Effect.scoped))

Command.run(command, { version: "1" }).pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
