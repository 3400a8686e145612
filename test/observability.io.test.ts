/**
 * The metrics, spans and logs that docs/observability.md lists.
 */
import { assert, describe, it } from "@effect/vitest"
import { AdenClient, AdenSyncProvider, CredentialStore, MemoryStorage } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Effect, Fiber, Layer, Logger, Metric, References, Schedule, Stream } from "effect"
import { FetchHttpClient } from "effect/http"
import { readFileSync } from "node:fs"

const Program = Layer.unwrap(
  Effect.map(AdenEmulator, ({ apiKey, url }) =>
    CredentialStore.layer({ cacheTtl: "100 millis" }).pipe(
      Layer.provide(AdenSyncProvider.layer()),
      Layer.provideMerge(AdenClient.layer({ baseUrl: url, apiKey, retry: Schedule.recurs(0), timeout: "2 seconds" })),
      Layer.provide(FetchHttpClient.layer),
      Layer.provide(MemoryStorage.layer())
    ))
)

/** Counters as `{ "name{label=value}": count }`, without the prefix all have in common. */
const counters = Effect.map(Metric.snapshot, (metrics) => {
  const counts: Record<string, number> = {}
  for (const metric of metrics) {
    if (metric.type !== "Counter") continue
    const labels = Object.entries(metric.attributes ?? {}).map(([name, value]) => `${name}=${value}`).toSorted()
    counts[`${metric.id.replace("aden_credentials_", "")}{${labels.join(",")}}`] = Number(metric.state.count)
  }
  return counts
})

const only = (counts: Readonly<Record<string, number>>, name: string) =>
  Object.fromEntries(Object.entries(counts).filter(([key]) => key.startsWith(`${name}_total{`)))

/** Runs with metrics of its own, and answers them, and the log at all levels, after the store has closed. */
const observing = <A, E>(
  use: (store: CredentialStore["Service"], aden: AdenEmulator["Service"]) => Effect.Effect<A, E>,
  integrations: Parameters<typeof AdenEmulator.layer>[0] = {}
) => {
  const logged: Array<{ readonly level: string; readonly message: unknown; readonly details: unknown }> = []
  const logger = Logger.map(Logger.formatStructured, ({ annotations, level, message }) => {
    logged.push({ level, message, details: annotations })
  })
  return Effect.gen(function*() {
    const aden = yield* AdenEmulator
    yield* CredentialStore.use((store) => use(store, aden)).pipe(
      Effect.provide(Program, { local: true }),
      Effect.scoped
    )
    return { counts: yield* counters, metrics: yield* Metric.snapshot, logged }
  }).pipe(
    Effect.provideService(Metric.MetricRegistry, new Map()),
    Effect.provide(Logger.layer([logger])),
    Effect.provideService(References.MinimumLogLevel, "All"),
    Effect.provide(AdenEmulator.layer(integrations), { local: true })
  )
}

describe("metrics", () => {
  it.live("reads by source: each one is counted, those from memory too", () =>
    Effect.gen(function*() {
      const { counts } = yield* observing((store) =>
        Effect.gen(function*() {
          yield* store.token("github")
          for (let i = 0; i < 50; i++) yield* store.token("github")
          for (let i = 0; i < 25; i++) yield* store.get("github")
        })
      )
      assert.deepStrictEqual(only(counts, "reads"), { "reads_total{source=aden}": 1, "reads_total{source=memory}": 75 })
    }))

  it.live("reads that fail by error", () =>
    Effect.gen(function*() {
      const { counts } = yield* observing((store) =>
        Effect.all([Effect.exit(store.token("slack")), Effect.exit(store.token("absent"))])
      )
      assert.deepStrictEqual(only(counts, "read_failures"), {
        "read_failures_total{error=CredentialNotFound}": 1,
        "read_failures_total{error=ReauthRequired}": 1
      })
      assert.deepStrictEqual(only(counts, "reads"), {})
    }))

  it.live("requests by endpoint and status, and by what kept an answer from coming", () =>
    Effect.gen(function*() {
      const { counts } = yield* observing((store, aden) =>
        Effect.gen(function*() {
          yield* store.sync
          yield* store.refresh("hubspot")
          yield* aden.setFault(Fault.Status({ status: 503 }), { endpoint: "refresh", times: 1 })
          yield* Effect.exit(store.refresh("hubspot"))
          yield* aden.setFault(Fault.Hang(), { endpoint: "refresh", times: 1 })
          yield* Effect.exit(store.refresh("hubspot"))
          yield* aden.stop
          yield* Effect.exit(store.refresh("hubspot"))
        }), { integrations: [{ id: "hubspot", tokenLifetime: "1 hour" }] })
      assert.deepStrictEqual(only(counts, "requests"), {
        "requests_total{endpoint=list,status=200}": 1,
        "requests_total{endpoint=get,status=200}": 1,
        "requests_total{endpoint=refresh,status=200}": 1,
        "requests_total{endpoint=refresh,status=503}": 1,
        "requests_total{endpoint=refresh,status=AdenTimeout}": 1,
        "requests_total{endpoint=refresh,status=AdenConnectionFailed}": 1
      })
    }))

  it.live("refreshes by outcome, and how long they took", () =>
    Effect.gen(function*() {
      const { counts, logged, metrics } = yield* observing((store, aden) =>
        Effect.gen(function*() {
          yield* store.token("hubspot")
          yield* aden.setFault(Fault.Latency({ duration: "60 millis" }), { endpoint: "refresh", times: 1 })
          yield* store.refresh("hubspot")
          yield* aden.revoke("hubspot")
          yield* Effect.exit(store.refresh("hubspot"))
        })
      )
      assert.deepStrictEqual(only(counts, "refreshes"), {
        "refreshes_total{outcome=success,question=fetch}": 1,
        "refreshes_total{outcome=success,question=refresh}": 1,
        "refreshes_total{outcome=ReauthRequired,question=refresh}": 1
      })
      const time = metrics.find(({ attributes, id }) =>
        id === "aden_credentials_refresh_duration_seconds" && attributes?.["question"] === "refresh"
      )
      assert(time?.type === "Histogram")
      assert.strictEqual(time.state.count, 2)
      assert.isAtLeast(time.state.max, 0.06)

      const questions = logged.filter(({ message }) => message === "Asked Aden for a credential")
      assert.deepStrictEqual(questions.map(({ level }) => level), ["DEBUG", "DEBUG", "DEBUG"])
      const details = questions.map(({ details }) => JSON.parse(JSON.stringify(details)))
      assert.deepInclude(details[1], { credential: "hubspot", question: "refresh", outcome: "success" })
      assert.isAtLeast(details[1].durationMs, 60)
      assert.deepInclude(details[2], { credential: "hubspot", question: "refresh", outcome: "ReauthRequired" })
      assert.include(details[2].reason, "has to be authorized again")
    }))

  it.live("served stale: once for each time that Aden was asked and did not confirm", () =>
    Effect.gen(function*() {
      const { counts } = yield* observing((store, aden) =>
        Effect.gen(function*() {
          yield* store.token("github")
          yield* Effect.sleep("150 millis")
          yield* aden.stop
          const event = yield* Effect.forkChild(
            Stream.runHead(Stream.filter(store.changes, (change) => change._tag === "ServedStale")),
            { startImmediately: true }
          )
          yield* store.token("github")
          yield* Fiber.join(event)
          for (let i = 0; i < 20; i++) yield* store.token("github")
        })
      )
      assert.deepStrictEqual(only(counts, "served_stale"), { "served_stale_total{}": 1 })
    }))

  it("docs/observability.md names each metric, and no other", () => {
    const page = readFileSync(new URL("../docs/observability.md", import.meta.url), "utf8")
    const source = readFileSync(new URL("../src/util/metrics.ts", import.meta.url), "utf8")
    const named = (text: string) => [...new Set(text.match(/aden_credentials_[a-z_]+/g) ?? [])].toSorted()
    assert.deepStrictEqual(named(page), named(source))
  })
})
