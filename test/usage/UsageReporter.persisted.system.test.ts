/**
 * A durable queue of usage reports, in real servers: what a process that was killed has reported, the next one sends.
 */
import { assert, describe, it } from "@effect/vitest"
import { AdenClient, AdenSyncProvider, CredentialStore, MemoryStorage, UsageReporter } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Clock, type Duration, Effect, Layer, Redacted, Schedule, type Scope } from "effect"
import { FetchHttpClient } from "effect/http"
import { PersistedQueue, Redis } from "effect/persistence"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { bundled } from "../fixtures/bundle.ts"
import { describeWith, postgres, redis } from "../fixtures/realServers.ts"
import { hasRedisServer, restartableRedis } from "../fixtures/redisServer.ts"
import { storeOf, type UsageQueue } from "../fixtures/usageQueues.ts"
import { newSchema } from "../storage/postgres/postgresSchema.ts"
import { connected, newNamespace } from "../storage/redis/redisNamespace.ts"

const redisQueue = Effect.gen(function*() {
  const namespace = yield* Effect.provideService(newNamespace, Redis.Redis, yield* connected())
  return { _tag: "Redis", url: redis.url, prefix: `{${namespace}}:` } as const
})

const sqlQueue = Effect.map(newSchema, (url) => ({ _tag: "Sql", url }) as const)

/** The program of persistedUsageProgram.ts, until it is killed; what it has written, and how it is killed. */
const reportingProcess = (queue: UsageQueue, uses: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const aden = yield* AdenEmulator
    const kill = async (child: ReturnType<typeof spawn>) => {
      child.kill("SIGKILL")
      if (child.exitCode === null && child.signalCode === null) await once(child, "exit")
    }
    const written = { text: "" }
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(
          process.execPath,
          [bundled("test/fixtures/persistedUsageProgram.ts")],
          {
            env: {
              PATH: process.env["PATH"],
              ADEN_API_URL: aden.url,
              ADEN_API_KEY: Redacted.value(aden.apiKey),
              USAGE_QUEUE: JSON.stringify({ queue, uses })
            },
            stdio: ["ignore", "pipe", "pipe"]
          }
        )
        for (const output of [child.stdout, child.stderr]) {
          output.setEncoding("utf8").on("data", (text: string) => written.text += text)
        }
        return child
      }),
      (child) => Effect.promise(() => kill(child))
    )
    return { written, isRunning: () => child.exitCode === null, kill: Effect.promise(() => kill(child)) }
  })

const until = (isSo: Effect.Effect<boolean>) =>
  Effect.repeat(isSo, { until: (so) => so, schedule: Schedule.spaced("20 millis") })

/** A reporter of another process with the same queue. */
const reporterOver = (
  queue: UsageQueue,
  { flushTimeout, lockExpiration }: {
    readonly flushTimeout?: Duration.Input
    readonly lockExpiration?: Duration.Input
  } = {}
) =>
  Layer.unwrap(
    Effect.map(AdenEmulator, ({ apiKey, url }) =>
      UsageReporter.layerPersisted({ queue: "usage", retry: Schedule.spaced("100 millis"), flushTimeout }).pipe(
        Layer.provide(PersistedQueue.layer),
        Layer.provide(storeOf(queue, lockExpiration)),
        Layer.provide(CredentialStore.layer()),
        Layer.provide(AdenSyncProvider.layer()),
        Layer.provide(AdenClient.layer({ baseUrl: url, apiKey })),
        Layer.provide([MemoryStorage.layer(), FetchHttpClient.layer])
      ))
  )

const survives = (newQueue: Effect.Effect<UsageQueue, unknown, Scope.Scope>) =>
  Effect.gen(function*() {
    const aden = yield* AdenEmulator
    const queue = yield* newQueue
    // the first two are recorded and their answers never come, the others are not even that
    yield* aden.setFault(Fault.SlowBody({ interval: "1 hour" }), { endpoint: "usage", integrationId: "hubspot" })
    yield* aden.setFault(Fault.Hang(), { endpoint: "usage", integrationId: "github" })
    const uses = ["hubspot", "hubspot", ...Array.from({ length: 28 }, () => "github")]
    const killed = yield* reportingProcess(queue, uses)
    const sent = aden.countRequests({ endpoint: "usage" })
    yield* until(Effect.map(sent, (count) => {
      assert.isTrue(killed.isRunning(), killed.written.text)
      return count >= 4 && killed.written.text.includes("queued\n")
    }))
    yield* killed.kill
    assert.strictEqual((yield* aden.usage).length, 2)
    yield* aden.clearFaults

    yield* until(Effect.map(aden.requests, (requests) => {
      const taken = requests.filter(({ endpoint, status }) => endpoint === "usage" && status === 200)
      return new Set(taken.map(({ idempotencyKey }) => idempotencyKey)).size === uses.length
    })).pipe(Effect.provide(reporterOver(queue)), Effect.scoped)
    const keys = (yield* aden.requests).filter(({ endpoint }) => endpoint === "usage").map((each) =>
      each.idempotencyKey
    )
    assert.isAbove(keys.length, uses.length, "what was on its way went out once more")
    assert.strictEqual(new Set(keys).size, uses.length, "under the keys that it had")
    const numbers = (yield* aden.usage).map(({ metadata }) => Number(metadata["n"])).toSorted((a, b) => a - b)
    assert.deepStrictEqual(numbers, [...uses.keys()])
  }).pipe(
    Effect.scoped,
    Effect.provide(AdenEmulator.layer({ integrations: [{ id: "hubspot" }, { id: "github" }] }))
  )

/** Redis goes while reports are on their way from it to Aden, and the program ends. */
const endsWithout = (lose: (server: Effect.Success<ReturnType<typeof restartableRedis>>) => Effect.Effect<void>) =>
  Effect.gen(function*() {
    const aden = yield* AdenEmulator
    const server = yield* restartableRedis()
    yield* aden.setFault(Fault.Hang(), { endpoint: "usage" })
    const lost = yield* Effect.gen(function*() {
      const usage = yield* UsageReporter
      for (let n = 0; n < 20; n++) yield* usage.report("github", { operation: "call", status: "ok" })
      yield* until(Effect.map(aden.countRequests({ endpoint: "usage" }), (count) => count >= 4))
      yield* lose(server)
      return yield* Clock.currentTimeMillis
    }).pipe(
      Effect.provide(reporterOver({ _tag: "Redis", url: server.url, prefix: "usage:" }, {
        flushTimeout: "1 second",
        // its default: while that lasts, a queue goes on trying to give back what was taken out
        lockExpiration: "90 seconds"
      })),
      Effect.scoped
    )
    assert.isBelow((yield* Clock.currentTimeMillis) - lost, 30_000)
  }).pipe(Effect.scoped, Effect.provide(AdenEmulator.layer({ integrations: [{ id: "github" }] })))

describe.skipIf(!hasRedisServer)("a queue that does not answer any more (where redis-server is installed)", () => {
  it.live("because its server ended: the program ends in time", () => endsWithout((server) => server.stop()), 120_000)

  it.live(
    "because its server hangs: the program ends in time",
    () => endsWithout((server) => server.signal("SIGSTOP")),
    120_000
  )
})

const title = "what a killed process reported is delivered by the next one, each use once"

describeWith(redis, "UsageReporter.layerPersisted over Redis", () => {
  it.live(title, () => survives(redisQueue), 120_000)
})

describeWith(postgres, "UsageReporter.layerPersisted over Postgres", () => {
  it.live(title, () => survives(sqlQueue), 120_000)
})
