/**
 * The cost of a usage report for the program, with Aden up, down and hanging, in one run: 10,000 reports each, in alternating
 * rounds, with the senders at work between the reports. Run by `npm run bench:usage`; exits 1 when the median report costs over
 * twice as much in one state as in another, when more reports wait than there is room for, or when Aden counts one twice.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { AdenClient, AdenSyncProvider, CredentialStore, MemoryStorage, UsageReporter } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Clock, Console, Effect, Layer, Logger, Metric, Schedule } from "effect"
import { FetchHttpClient } from "effect/http"

const reports = 10_000
const batch = 100
const capacity = 1_000
const concurrency = 4

const Program = Layer.unwrap(
  Effect.map(
    AdenEmulator,
    ({ apiKey, url }) =>
      UsageReporter.layer({ capacity, concurrency, flushTimeout: "1 second", retry: Schedule.spaced("50 millis") })
        .pipe(
          Layer.provideMerge(CredentialStore.layer()),
          Layer.provide(AdenSyncProvider.layer()),
          Layer.provide(AdenClient.layer({ baseUrl: url, apiKey, retry: Schedule.recurs(0), timeout: "10 seconds" })),
          Layer.provide(FetchHttpClient.layer),
          Layer.provide(MemoryStorage.layer())
        )
  )
)

const depth = Effect.map(Metric.snapshot, (metrics) => {
  const gauge = metrics.find(({ id }) => id === "aden_credentials_usage_queue_depth")
  return gauge?.type === "Gauge" ? Number(gauge.state.value) : 0
})

const measure = Effect.gen(function*() {
  const aden = yield* AdenEmulator
  const usage = yield* UsageReporter
  let deepest = 0
  let made = 0
  const often = Schedule.spaced("2 millis")
  // start the senders before measuring their cost
  const taken = aden.countRequests({ endpoint: "usage", status: 200 })
  const deliver = Effect.gen(function*() {
    const before = yield* taken
    yield* usage.report("github", { operation: "call", status: "ok", metadata: { n: made++ } })
    yield* Effect.repeat(taken, { until: (now) => now > before, schedule: often })
  })
  const hang = aden.setFault(Fault.Hang(), { endpoint: "usage" }).pipe(
    Effect.andThen(
      Effect.repeat(aden.inFlight(), { until: ({ current }) => current === concurrency, schedule: often })
    )
  )
  // a request that hangs keeps hanging, and would block the senders
  const recover = aden.clearFaults.pipe(Effect.andThen(aden.stop), Effect.andThen(aden.start))
  const states = [
    { name: "up", begin: deliver, end: Effect.void, times: new Array<number>() },
    { name: "down", begin: aden.stop, end: aden.start, times: new Array<number>() },
    { name: "hanging", begin: hang, end: recover, times: new Array<number>() }
  ]
  const rounds = 10
  for (let round = 0; round <= rounds; round++) {
    for (const { begin, end, times } of states) {
      yield* begin
      for (let done = 0; done < reports / rounds; done += batch) {
        const before = yield* Clock.currentTimeNanos
        for (let i = 0; i < batch; i++) {
          yield* usage.report("github", { operation: "call", status: "ok", metadata: { n: made++ } })
        }
        const time = Number((yield* Clock.currentTimeNanos) - before) / batch
        // the first round warms up
        if (round > 0) times.push(time)
        deepest = Math.max(deepest, yield* depth)
        yield* Effect.sleep("5 millis")
      }
      yield* end
    }
  }
  const medians = states.map(({ name, times }) => ({
    name,
    median: times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? NaN
  }))
  return { deepest, made, medians }
})

const program = Effect.gen(function*() {
  const { deepest, made, medians } = yield* Effect.scoped(Effect.provide(measure, Program))
  const received = yield* AdenEmulator.use(({ usage }) => usage)
  for (const { median, name } of medians) {
    yield* Console.log(`Aden ${name.padEnd(8)} ${median.toFixed(0).padStart(6)} ns per report`)
  }
  const values = medians.map(({ median }) => median)
  const ratio = Math.max(...values) / Math.min(...values)
  const once = new Set(received.map(({ metadata }) => metadata["n"])).size
  yield* Console.log(
    `ratio ${ratio.toFixed(2)}   at most ${deepest} waited (room for ${capacity}, ${concurrency} on their way)   ` +
      `${made} made, ${received.length} recorded, ${received.length - once} of them twice`
  )
  if (!(ratio < 2) || deepest > capacity + concurrency || once !== received.length) return yield* Effect.fail("missed")
}).pipe(
  Effect.provide(AdenEmulator.layer()),
  Effect.provide(Logger.layer([]))
)

NodeRuntime.runMain(program, { disableErrorReporting: true })
