/** A program that reports what it uses to an emulator, and what both know of it afterwards. */
import { assert } from "@effect/vitest"
import { AdenClient, AdenSyncProvider, CredentialStore, MemoryStorage, UsageReporter } from "aden-credentials"
import type { UsageReporterOptions } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import type { UsageRecord } from "aden-credentials/emulator"
import { Effect, Layer, Logger, Metric, References, Schedule } from "effect"
import type { Scope } from "effect"
import { FetchHttpClient } from "effect/http"

/** The services of a program that reports to the emulator in its context. Its client does not retry by itself. */
const Program = Layer.unwrap(Effect.map(AdenEmulator, ({ apiKey, url }) =>
  CredentialStore.layer().pipe(
    Layer.provide(AdenSyncProvider.layer()),
    Layer.provideMerge(
      AdenClient.layer({
        baseUrl: url,
        apiKey,
        retry: Schedule.recurs(0),
        maxRetryAfter: 0,
        timeout: "5 seconds"
      }).pipe(
        Layer.provide(FetchHttpClient.layer)
      )
    ),
    Layer.provide(MemoryStorage.layer())
  )))

export const quickRetry = Schedule.spaced("20 millis")

/** Runs with a reporter, and ends when its scope has closed. */
export const reporting = <A, E>(
  use: (reporter: UsageReporter["Service"]) => Effect.Effect<A, E, AdenEmulator | CredentialStore | Scope.Scope>,
  options: UsageReporterOptions = {},
  layer = UsageReporter.layer({ retry: quickRetry, ...options })
) =>
  Effect.flatMap(UsageReporter, use).pipe(
    Effect.provide(Layer.provideMerge(layer, Program), { local: true }),
    Effect.scoped
  )

/** A registry of metrics of the test's own, and everything logged. */
export const observed = <A, E, R>(self: Effect.Effect<A, E, R>) => {
  const logged: Array<{ readonly level: string; readonly text: string }> = []
  const logger = Logger.map(Logger.formatStructured, ({ annotations, level, message }) => {
    logged.push({ level, text: `${String(message)} ${JSON.stringify(annotations)}` })
  })
  return Effect.gen(function*() {
    const value = yield* self
    const counts = yield* outcomes
    const depth = yield* depthNow
    return { value, counts, depth, logged }
  }).pipe(
    Effect.provideService(Metric.MetricRegistry, new Map()),
    Effect.provide(Logger.layer([logger])),
    Effect.provideService(References.MinimumLogLevel, "All")
  )
}

/** What Aden has recorded. */
export const usage = AdenEmulator.use(({ usage }) => usage)

/** How many reports came to which end. */
export const outcomes = Effect.map(Metric.snapshot, (metrics) => {
  const counts: Record<string, number> = {}
  for (const metric of metrics) {
    if (metric.id === "aden_credentials_usage_reports_total" && metric.type === "Counter") {
      counts[metric.attributes?.["outcome"] ?? ""] = Number(metric.state.count)
    }
  }
  return counts
})

/** How many reports wait. */
export const depthNow = Effect.map(Metric.snapshot, (metrics) => {
  const depth = metrics.find(({ id }) => id === "aden_credentials_usage_queue_depth")
  return depth?.type === "Gauge" ? Number(depth.state.value) : 0
})

/** Waits until so many reports were received, and answers what Aden recorded. */
export const recorded = (count: number) =>
  Effect.repeat(outcomes, {
    until: ({ received = 0 }) => received >= count,
    schedule: Schedule.spaced("10 millis")
  }).pipe(
    Effect.timeout("20 seconds"),
    Effect.andThen(usage)
  )

/** Which reports these are. */
export const numbers = (records: ReadonlyArray<UsageRecord>) => records.map(({ metadata }) => metadata["n"])

/** Of more reports than a reporter has room for while Aden is down, it holds the newest. `capacity` is the default where none is given. */
export const newestAreHeld = ({ reports, ...options }: { readonly reports: number; readonly capacity?: number }) => {
  const { capacity = 1_000 } = options
  return Effect.gen(function*() {
    const aden = yield* AdenEmulator
    yield* aden.stop
    const concurrency = 4
    const { counts, logged, value } = yield* observed(reporting((reporter) =>
      Effect.gen(function*() {
        let deepest = 0
        for (let n = 0; n < reports; n++) {
          yield* reporter.report("github", { operation: "call", status: "ok", metadata: { n } })
          // the workers get their turns in between, and Aden does not answer them
          if (n % (capacity / 2) === 0) {
            yield* Effect.sleep("5 millis")
            deepest = Math.max(deepest, yield* depthNow)
          }
        }
        deepest = Math.max(deepest, yield* depthNow)
        yield* aden.start
        yield* aden.setFault(Fault.Reset({ at: "answer" }), { endpoint: "usage", times: capacity / 10 })
        yield* Effect.repeat(depthNow, { until: (depth) => depth === 0, schedule: Schedule.spaced("20 millis") })
        return deepest
      }), { ...options, concurrency, maxAttempts: 1_000_000 }))
    const records = yield* usage
    assert.isAtMost(value, capacity + concurrency)
    assert.strictEqual((counts["received"] ?? 0) + (counts["dropped"] ?? 0), reports)
    assert.strictEqual(counts["received"], records.length)
    assert.isAtMost(records.length, capacity + concurrency)
    const seen = new Set(numbers(records))
    assert.strictEqual(seen.size, records.length)
    for (let n = reports - capacity; n < reports; n++) assert.isTrue(seen.has(n), `${n} is lost`)
    assert.isAbove(yield* aden.countRequests({ endpoint: "usage" }), records.length)
    assert.isTrue(
      logged.some(({ level, text }) => level === "WARN" && text.startsWith("Usage reports were dropped"))
    )
  }).pipe(Effect.provide(AdenEmulator.layer()))
}

/** With room for all, every report of an outage arrives, once. */
export const allAreHeld = ({ reports }: { readonly reports: number }) =>
  Effect.gen(function*() {
    const aden = yield* AdenEmulator
    yield* aden.stop
    const { counts } = yield* observed(reporting((reporter) =>
      Effect.gen(function*() {
        for (let n = 0; n < reports; n++) {
          yield* reporter.report("github", { operation: "call", status: "ok", metadata: { n } })
        }
        yield* Effect.sleep("100 millis")
        yield* aden.start
        yield* Effect.repeat(depthNow, { until: (depth) => depth === 0, schedule: Schedule.spaced("50 millis") })
      }), { capacity: reports, concurrency: 16, maxAttempts: 1_000_000 }))
    assert.deepStrictEqual(counts, { received: reports })
    assert.strictEqual(new Set(numbers(yield* usage)).size, reports)
    assert.strictEqual((yield* usage).length, reports)
  }).pipe(Effect.provide(AdenEmulator.layer()))
