import * as NodeRedis from "@effect/platform-node/NodeRedis"
import { assert, describe, it } from "@effect/vitest"
import {
  AdenClient,
  AdenSyncProvider,
  CredentialStore,
  MemoryStorage,
  TestCredentials,
  UsageReporter
} from "aden-credentials"
import type { AdenConfigError, UsageReporterOptions } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import type { UsageRecord } from "aden-credentials/emulator"
import { Clock, DateTime, Effect, Exit, Layer, Logger, Metric, References, Schedule } from "effect"
import type { Schema, Scope } from "effect"
import { FetchHttpClient } from "effect/http"
import { PersistedQueue } from "effect/persistence"
import { execFile } from "node:child_process"
import { existsSync } from "node:fs"
import { bundled } from "../fixtures/bundle.ts"
import { redisServer } from "../fixtures/redisServer.ts"

/** The services of a program that reports to the emulator at hand. Its client does not retry by itself. */
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

const quickRetry = Schedule.spaced("20 millis")

/** Runs with a reporter, and ends when its scope has closed. */
const reporting = <A, E>(
  use: (reporter: UsageReporter["Service"]) => Effect.Effect<A, E, AdenEmulator | CredentialStore | Scope.Scope>,
  options: UsageReporterOptions = {},
  layer = UsageReporter.layer({ retry: quickRetry, ...options })
) =>
  Effect.flatMap(UsageReporter, use).pipe(
    Effect.provide(Layer.provideMerge(layer, Program), { local: true }),
    Effect.scoped
  )

/** A registry of metrics of the test's own, and everything logged. */
const observed = <A, E, R>(self: Effect.Effect<A, E, R>) => {
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

const usage = AdenEmulator.use(({ usage }) => usage)

const outcomes = Effect.map(Metric.snapshot, (metrics) => {
  const counts: Record<string, number> = {}
  for (const metric of metrics) {
    if (metric.id === "aden_credentials_usage_reports_total" && metric.type === "Counter") {
      counts[metric.attributes?.["outcome"] ?? ""] = Number(metric.state.count)
    }
  }
  return counts
})

const depthNow = Effect.map(Metric.snapshot, (metrics) => {
  const depth = metrics.find(({ id }) => id === "aden_credentials_usage_queue_depth")
  return depth?.type === "Gauge" ? Number(depth.state.value) : 0
})

/** Waits until so many reports were received, and answers what Aden recorded. */
const recorded = (count: number) =>
  Effect.repeat(outcomes, {
    until: ({ received = 0 }) => received >= count,
    schedule: Schedule.spaced("10 millis")
  }).pipe(
    Effect.timeout("20 seconds"),
    Effect.andThen(usage)
  )

const numbers = (records: ReadonlyArray<UsageRecord>) => records.map(({ metadata }) => metadata["n"])

describe("UsageReporter", () => {
  it.live("a report reaches Aden under the credential's id, with the time of the use", () =>
    Effect.gen(function*() {
      const { counts, depth } = yield* observed(reporting((reporter) =>
        Effect.gen(function*() {
          const aden = yield* AdenEmulator
          yield* aden.setFault(Fault.Latency({ duration: "150 millis" }), { endpoint: "usage" })
          const store = yield* CredentialStore
          yield* store.sync
          const before = yield* Clock.currentTimeMillis
          yield* reporter.report("hubspot:sales", { operation: "contacts.list", status: "200", metadata: { rows: 7 } })
          const after = yield* Clock.currentTimeMillis
          const [record] = yield* recorded(1)
          assert(record !== undefined)
          assert.strictEqual(record.integrationId, "opaque-1")
          assert.strictEqual(record.operation, "contacts.list")
          assert.strictEqual(record.status, "200")
          assert.deepStrictEqual(record.metadata, { rows: 7 })
          assert.isAtLeast(DateTime.toEpochMillis(record.timestamp), before)
          assert.isAtMost(DateTime.toEpochMillis(record.timestamp), after)
          assert.match(record.idempotencyKey ?? "", /^[0-9a-f-]{36}$/)
        })
      ))
      assert.deepStrictEqual(counts, { received: 1 })
      assert.strictEqual(depth, 0)
    }).pipe(Effect.provide(AdenEmulator.layer({
      integrations: [
        { id: "opaque-1", type: "hubspot", alias: "sales" },
        { id: "opaque-2", type: "hubspot", alias: "support" }
      ]
    }))))

  it.live("`received: false` is sent again, with the same key", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Patch({ fields: { received: false } }), { endpoint: "usage", times: 2 })
      const { counts } = yield* observed(
        reporting((reporter) => reporter.report("hubspot", { operation: "call", status: "ok" }))
      )
      assert.deepStrictEqual(counts, { received: 1 })
      const keys = (yield* aden.requests).map(({ idempotencyKey }) => idempotencyKey)
      assert.isAtLeast(keys.length, 2)
      assert.strictEqual(new Set(keys).size, 1)
      assert.strictEqual((yield* usage).length, 1)
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("answers that are lost, outages and 401s are retried, and each report is counted once", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const { counts } = yield* observed(reporting((reporter) =>
        Effect.gen(function*() {
          yield* aden.setFault(Fault.Reset({ at: "answer" }), { endpoint: "usage", times: 10 })
          yield* aden.setFault(Fault.Status({ status: 503 }), { endpoint: "usage", times: 10 })
          yield* aden.setFault(
            Fault.Status({ status: 401, body: JSON.stringify({ error: "invalid_api_key" }) }),
            { endpoint: "usage", times: 5 }
          )
          for (let n = 0; n < 40; n++) {
            yield* reporter.report("github", { operation: "call", status: "ok", metadata: { n } })
          }
          yield* recorded(40)
        })
      ))
      assert.deepStrictEqual(counts, { received: 40 })
      assert.strictEqual(yield* aden.countRequests({ endpoint: "usage" }), 65)
      assert.deepStrictEqual(
        numbers(yield* usage).toSorted((a, b) => Number(a) - Number(b)),
        Array.from({ length: 40 }, (_, n) => n)
      )
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("what Aden will never take is rejected at once, and holds nothing up", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const { counts } = yield* observed(reporting((reporter) =>
        Effect.gen(function*() {
          for (let n = 0; n < 10; n++) yield* reporter.report("nobodys", { operation: "call", status: "ok" })
          yield* reporter.report("github", { operation: "call", status: "ok" })
          yield* recorded(1)
        }), { concurrency: 1 }))
      assert.deepStrictEqual(counts, { rejected: 10, received: 1 })
      assert.strictEqual(yield* aden.countRequests({ endpoint: "usage" }), 11)
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("metadata that is no JSON is a report that is rejected, not a program that fails", () =>
    Effect.gen(function*() {
      const { counts } = yield* observed(reporting((reporter) =>
        Effect.gen(function*() {
          const cyclic: { [name: string]: Schema.Json } = {}
          cyclic["self"] = cyclic
          yield* reporter.report("github", { operation: "call", status: "ok", metadata: cyclic })
          yield* reporter.report("github", { operation: "call", status: "ok", metadata: { n: Number.NaN } })
          yield* reporter.report("github", {
            operation: "call",
            status: "ok",
            metadata: {
              get n(): number {
                throw new Error("boom")
              }
            }
          })
          yield* reporter.report("github", { operation: "call", status: "ok", metadata: { n: 1 } })
          yield* recorded(2)
        })
      ))
      // the cycle is cut off where values are too deep
      assert.deepStrictEqual(counts, { rejected: 2, received: 2 })
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("given up after `maxAttempts`, with a warning, and the others go on", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Status({ status: 503 }), { endpoint: "usage", integrationId: "hubspot" })
      const { counts, logged } = yield* observed(reporting((reporter) =>
        Effect.gen(function*() {
          yield* reporter.report("hubspot", { operation: "call", status: "ok" })
          yield* reporter.report("github", { operation: "call", status: "ok" })
          yield* recorded(1)
          yield* Effect.repeat(aden.countRequests({ integrationId: "hubspot" }), {
            until: (count) => count === 3,
            schedule: Schedule.spaced("10 millis")
          })
          yield* Effect.sleep("100 millis")
        }), { maxAttempts: 3, concurrency: 1 }))
      assert.deepStrictEqual(counts, { abandoned: 1, received: 1 })
      assert.strictEqual(yield* aden.countRequests({ integrationId: "hubspot" }), 3)
      assert.deepStrictEqual(
        logged.filter(({ level }) => level === "WARN").map(({ text }) => text.replace(/\{.*/, "")),
        ["A usage report was given up "]
      )
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("a rate limit holds for all reports: what was not on its way waits for its end", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 2 }), { endpoint: "usage" })
      yield* observed(reporting((reporter) =>
        Effect.gen(function*() {
          for (let n = 0; n < 20; n++) yield* reporter.report("github", { operation: "call", status: "ok" })
          yield* Effect.sleep("1 second")
          assert.isAtMost(yield* aden.countRequests(), 4)
          yield* aden.clearFaults
          yield* recorded(20)
        })
      ))
      const requests = yield* aden.requests
      const limited = requests.filter(({ status }) => status === 429)
      const first = limited[0]
      const next = requests[limited.length]
      assert(first !== undefined && next !== undefined)
      assert.isAtLeast(DateTime.toEpochMillis(next.time) - DateTime.toEpochMillis(first.time), 1_990)
    }).pipe(Effect.provide(AdenEmulator.layer({ integrations: [{ id: "github" }] }))))

  describe("the bound", () => {
    it.live(
      "10,000 reports while Aden is down: memory holds the newest 1,000, and none is counted twice",
      () =>
        Effect.gen(function*() {
          const aden = yield* AdenEmulator
          yield* aden.stop
          const concurrency = 4
          const { counts, logged, value } = yield* observed(reporting((reporter) =>
            Effect.gen(function*() {
              let deepest = 0
              for (let n = 0; n < 10_000; n++) {
                yield* reporter.report("github", { operation: "call", status: "ok", metadata: { n } })
                // the workers get their turns in between, and find nobody
                if (n % 500 === 0) {
                  yield* Effect.sleep("5 millis")
                  deepest = Math.max(deepest, yield* depthNow)
                }
              }
              deepest = Math.max(deepest, yield* depthNow)
              yield* aden.start
              yield* aden.setFault(Fault.Reset({ at: "answer" }), { endpoint: "usage", times: 100 })
              yield* Effect.repeat(depthNow, { until: (depth) => depth === 0, schedule: Schedule.spaced("20 millis") })
              return deepest
            }), { concurrency, maxAttempts: 1_000_000 }))
          const records = yield* usage
          assert.isAtMost(value, 1_000 + concurrency)
          assert.strictEqual((counts["received"] ?? 0) + (counts["dropped"] ?? 0), 10_000)
          assert.strictEqual(counts["received"], records.length)
          assert.isAtMost(records.length, 1_000 + concurrency)
          const seen = new Set(numbers(records))
          assert.strictEqual(seen.size, records.length)
          for (let n = 9_000; n < 10_000; n++) assert.isTrue(seen.has(n), `${n} is lost`)
          assert.isAbove(yield* aden.countRequests({ endpoint: "usage" }), records.length)
          assert.isTrue(
            logged.some(({ level, text }) => level === "WARN" && text.startsWith("Usage reports were dropped"))
          )
        }).pipe(Effect.provide(AdenEmulator.layer())),
      120_000
    )

    it.live(
      "10,000 reports cost their caller the same with Aden up, down and hanging, in one run",
      () =>
        Effect.gen(function*() {
          const aden = yield* AdenEmulator
          const often = Schedule.spaced("2 millis")
          // what hangs goes on hanging, and would keep the workers from all that comes after
          const recover = aden.clearFaults.pipe(Effect.andThen(aden.stop), Effect.andThen(Effect.orDie(aden.start)))
          const hang = aden.setFault(Fault.Hang(), { endpoint: "usage" }).pipe(
            Effect.andThen(Effect.repeat(aden.inFlight(), { until: ({ current }) => current === 4, schedule: often }))
          )
          const taken = aden.countRequests({ endpoint: "usage", status: 200 })
          const rounds = 12
          const { deepest, made, states } = yield* reporting((reporter) =>
            Effect.gen(function*() {
              const counted = { deepest: 0, made: 0 }
              const report = Effect.suspend(() =>
                reporter.report("github", { operation: "call", status: "ok", metadata: { n: counted.made++ } })
              )
              const deliver = Effect.gen(function*() {
                const before = yield* taken
                yield* report
                yield* Effect.repeat(taken, { until: (now) => now > before, schedule: often })
              })
              const states = [
                { begin: deliver, end: Effect.void },
                { begin: aden.stop, end: Effect.orDie(aden.start) },
                { begin: hang, end: recover }
              ].map((state) => ({ ...state, times: new Array<number>() }))
              for (let round = 0; round < rounds; round++) {
                for (const { begin, end, times } of states) {
                  yield* begin
                  for (let batch = 0; batch < 6; batch++) {
                    const before = yield* Clock.currentTimeNanos
                    for (let n = 0; n < 50; n++) yield* report
                    // the first rounds warm up
                    if (round >= 2) times.push(Number((yield* Clock.currentTimeNanos) - before))
                    counted.deepest = Math.max(counted.deepest, yield* depthNow)
                    // the workers get their turns
                    yield* Effect.sleep("2 millis")
                  }
                  yield* end
                }
              }
              return { ...counted, states }
            }), { flushTimeout: "1 second", maxAttempts: 1_000_000 })
          const medians = states.map(({ times }) => times.toSorted((a, b) => a - b)[times.length >> 1] ?? Number.NaN)
          // a caller that waited for a connection, let alone an answer, would pay a hundred times as much
          assert.isBelow(Math.max(...medians) / Math.min(...medians), 5, `ns for 50 reports: ${medians.join(", ")}`)
          assert.isAtLeast(made, 10_000)
          assert.isAtMost(deepest, 1_000 + 4)
          const seen = numbers(yield* usage)
          assert.isAtLeast(seen.length, rounds, "Aden was up in between")
          assert.strictEqual(new Set(seen).size, seen.length)
        }).pipe(Effect.provide(AdenEmulator.layer())),
      120_000
    )

    it.live("with room for all, every report of an outage arrives, once", () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        yield* aden.stop
        const { counts } = yield* observed(reporting((reporter) =>
          Effect.gen(function*() {
            for (let n = 0; n < 2_000; n++) {
              yield* reporter.report("github", { operation: "call", status: "ok", metadata: { n } })
            }
            yield* Effect.sleep("100 millis")
            yield* aden.start
            yield* Effect.repeat(depthNow, { until: (depth) => depth === 0, schedule: Schedule.spaced("50 millis") })
          }), { capacity: 2_000, concurrency: 16, maxAttempts: 1_000_000 }))
        assert.deepStrictEqual(counts, { received: 2_000 })
        assert.strictEqual(new Set(numbers(yield* usage)).size, 2_000)
        assert.strictEqual((yield* usage).length, 2_000)
      }).pipe(Effect.provide(AdenEmulator.layer())), 120_000)

    it.live("reporting asks for nothing: no request goes out in the turns of the caller", () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        yield* reporting((reporter) =>
          Effect.gen(function*() {
            const turns = yield* Effect.sync(() => {
              for (let n = 0; n < 10_000; n++) {
                const exit = Effect.runSyncExit(reporter.report("github", { operation: "call", status: "ok" }))
                assert.isTrue(Exit.isSuccess(exit))
              }
              return 1
            })
            assert.strictEqual(turns, 1)
            assert.strictEqual(yield* aden.countRequests(), 0)
          }), { flushTimeout: "1 millis" })
      }).pipe(Effect.provide(AdenEmulator.layer())))
  })

  describe("when the scope closes", () => {
    it.live("what waits is sent, also what would be retried much later", () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        yield* aden.setFault(Fault.Status({ status: 503 }), { endpoint: "usage", times: 4 })
        const { counts, depth } = yield* observed(reporting((reporter) =>
          Effect.gen(function*() {
            for (let n = 0; n < 50; n++) {
              yield* reporter.report("github", { operation: "call", status: "ok", metadata: { n } })
            }
            // each of the four workers has failed with one, and would try again in an hour
            yield* Effect.repeat(aden.countRequests(), {
              until: (count) => count === 4,
              schedule: Schedule.spaced("10 millis")
            })
          }), { retry: Schedule.spaced("1 hour") }))
        assert.deepStrictEqual(counts, { received: 50 })
        assert.strictEqual(depth, 0)
        assert.strictEqual(new Set(numbers(yield* usage)).size, 50)
        assert.strictEqual((yield* usage).length, 50)
      }).pipe(Effect.provide(AdenEmulator.layer())))

    it.live("no longer than `flushTimeout`; what is lost is counted, and said once", () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        yield* aden.setFault(Fault.Hang(), { endpoint: "usage" })
        const before = yield* Clock.currentTimeMillis
        const { counts, depth, logged } = yield* observed(reporting((reporter) =>
          Effect.gen(function*() {
            for (let n = 0; n < 500; n++) yield* reporter.report("github", { operation: "call", status: "ok" })
          }), { flushTimeout: "300 millis" }))
        assert.isBelow((yield* Clock.currentTimeMillis) - before, 5_000)
        assert.deepStrictEqual(counts, { dropped: 500 })
        assert.strictEqual(depth, 0)
        assert.deepStrictEqual(logged.filter(({ level }) => level === "WARN"), [
          { level: "WARN", text: "Usage reports were dropped {\"count\":500}" }
        ])
      }).pipe(Effect.provide(AdenEmulator.layer())))

    it.live("the process ends, though Aden is unreachable", () =>
      Effect.gen(function*() {
        const ran = yield* Effect.callback<{ readonly status: number; readonly text: string }>((resume) => {
          execFile(
            process.execPath,
            [bundled("test/fixtures/usageProgram.ts")],
            (error, stdout, stderr) =>
              resume(Effect.succeed({ status: error === null ? 0 : Number(error.code), text: stdout + stderr }))
          )
        })
        assert.strictEqual(ran.status, 0, ran.text)
        assert.match(ran.text, /^reported\n.*WARN.*Usage reports were dropped.*count: 10 .*\n$/)
      }), 30_000)

    it.live("a report after that is dropped, and does no harm", () =>
      Effect.gen(function*() {
        const { counts } = yield* observed(Effect.flatMap(
          reporting((reporter) => Effect.succeed(reporter)),
          (reporter) => reporter.report("github", { operation: "call", status: "ok" })
        ))
        assert.deepStrictEqual(counts, { dropped: 1 })
      }).pipe(Effect.provide(AdenEmulator.layer())))
  })

  describe("secrets in metadata", () => {
    const token = "CJTFwvnuLxIFAgEYz0Rk5PqM83vHdN2w"
    const sent = (
      metadata: Readonly<Record<string, Schema.Json>>,
      words: { operation?: string; status?: string } = {}
    ) =>
      Effect.gen(function*() {
        const { logged } = yield* observed(
          reporting((reporter) =>
            Effect.andThen(
              reporter.report("github", { operation: "call", status: "ok", ...words, metadata }),
              recorded(1)
            )
          )
        )
        return { record: (yield* usage)[0], warnings: logged.filter(({ level }) => level === "WARN") }
      }).pipe(Effect.provide(AdenEmulator.layer(), { local: true }))

    it.live.each<readonly [string, Schema.Json]>([
      ["note", token],
      ["note", `Bearer ${token.slice(0, 12)}`],
      ["header", "Basic dXNlcjpwYXNz"],
      ["password", "hunter2"],
      ["client_secret", "short"],
      ["accessToken", "short"],
      ["x-api-key", "short"],
      ["url", "https://user:pw@example.com/"],
      ["url", `https://example.com/?code=${token}`],
      ["jwt", "eyJhbGciOiJIUzI1NiJ9.e30.abc"],
      ["git", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"],
      ["slack", "xoxb-5839201746-Wq7Lm2Zt9KpR4sYv"],
      ["hubspot", "pat-na1-3f1c2b9a-7d54-4a58-9a0e-0c6a1a6a2b11"],
      ["plaid", "access-sandbox-3f1c2b9a-7d54-4a58-9a0e-0c6a1a6a2b11"],
      ["pwd", "short"],
      ["jwt", "short"],
      ["credentials", "short"],
      ["tokens", "short"],
      ["pem", "-----BEGIN PRIVATE KEY-----"],
      ["note", "x".repeat(1_001)]
    ])("%s: %s is left out, and the warning names the field alone", ([name, value]) =>
      Effect.gen(function*() {
        const { record, warnings } = yield* sent({
          rows: 3,
          [name]: value,
          deep: { list: ["fine", { [name]: value }] }
        })
        assert.deepStrictEqual(record?.metadata, { rows: 3, deep: { list: ["fine", {}] } })
        assert.strictEqual(warnings.length, 1)
        assert.include(warnings[0]?.text ?? "", `"metadata":"${name}, deep.list[1].${name}"`)
        assert.notInclude(warnings[0]?.text ?? "", String(value).slice(0, 8))
      }))

    it.live("what lies under the name of a secret, but no number", () =>
      Effect.gen(function*() {
        const { record, warnings } = yield* sent({ secret: { inner: "short", list: [{ deeper: "short" }], count: 3 } })
        assert.deepStrictEqual(record?.metadata, { secret: { list: [{}], count: 3 } })
        assert.include(warnings[0]?.text ?? "", `"metadata":"secret.inner, secret.list[0].deeper"`)
      }))

    it.live("a field whose name is a secret; an operation and a status that hold one", () =>
      Effect.gen(function*() {
        const { record, warnings } = yield* sent(
          { [token]: 1, rows: 3 },
          { operation: `GET /?key=${token}`, status: `ghp_${token}` }
        )
        assert.deepStrictEqual(record?.metadata, { rows: 3 })
        assert.strictEqual(record?.operation, "<redacted>")
        assert.strictEqual(record?.status, "<redacted>")
        assert.notInclude(JSON.stringify(warnings), token.slice(0, 8))
      }))

    it.live("what is no secret stays as it is", () =>
      Effect.gen(function*() {
        const metadata = {
          input_tokens: 512,
          token_type: "bearer",
          host: "api.hubapi.com",
          path: "/crm/v3/objects/contacts/{id}",
          requestId: "3f1c2b9a-7d54-4a58-9a0e-0c6a1a6a2b11",
          at: "2026-11-22T20:47:08.123Z",
          region: "Asia-Pacific-2",
          note: "a bearer of news; basic search over 12 months",
          flag: true,
          nothing: null,
          list: [1, "two", { three: 3 }]
        }
        const { record, warnings } = yield* sent(metadata)
        assert.deepStrictEqual(record?.metadata, metadata)
        assert.deepStrictEqual(warnings, [])
      }))

    it.live("one warning for many reports with the same fields", () =>
      Effect.gen(function*() {
        const { logged } = yield* observed(reporting((reporter) =>
          Effect.gen(function*() {
            for (let n = 0; n < 20; n++) {
              yield* reporter.report("github", { operation: "call", status: "ok", metadata: { password: `no ${n}` } })
            }
            yield* recorded(20)
          })
        ))
        assert.strictEqual(logged.filter(({ level }) => level === "WARN").length, 1)
      }).pipe(Effect.provide(AdenEmulator.layer())))
  })

  it.effect.each(
    [
      ["capacity", { capacity: 0 }],
      ["concurrency", { concurrency: 1.5 }],
      ["maxAttempts", { maxAttempts: Number.NaN }],
      ["flushTimeout", { flushTimeout: "0 millis" }]
    ] as const
  )("%s that makes no sense is refused by its name", ([setting, options]) =>
    Effect.gen(function*() {
      const error: AdenConfigError = yield* Effect.flip(Effect.scoped(Layer.build(
        UsageReporter.layer(options).pipe(
          Layer.provide(Layer.merge(
            AdenClient.layerTest({}),
            TestCredentials.layer([]).pipe(Layer.orDie)
          ))
        )
      )))
      assert.strictEqual(error.setting, setting)
    }))

  it.effect("layerNoop takes reports and does nothing", () =>
    UsageReporter.use((reporter) => reporter.report("github", { operation: "call", status: "ok" })).pipe(
      Effect.provide(UsageReporter.layerNoop)
    ))

  it.live.skipIf(!existsSync("/usr/bin/redis-server"))(
    "persisted in Redis: what one process could not send, another does (where redis-server is installed)",
    () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const url = yield* redisServer
        const persisted = UsageReporter.layerPersisted({ queue: "usage", retry: quickRetry, flushTimeout: "5 seconds" })
          .pipe(
            Layer.provide(PersistedQueue.layer),
            Layer.provide(PersistedQueue.layerStoreRedis({ pollInterval: "20 millis" })),
            Layer.provide(NodeRedis.layer({ url })),
            Layer.orDie
          )
        yield* aden.stop
        const first = yield* observed(reporting(
          (reporter) =>
            Effect.gen(function*() {
              for (let n = 0; n < 30; n++) {
                yield* reporter.report("github", {
                  operation: "call",
                  status: "ok",
                  metadata: { n, password: "hunter2" }
                })
              }
            }),
          {},
          persisted
        ))
        assert.deepStrictEqual(first.counts, {})
        assert.strictEqual(first.depth, 0)
        yield* aden.start
        const second = yield* observed(reporting(() => recorded(30), {}, persisted))
        assert.deepStrictEqual(second.counts, { received: 30 })
        assert.strictEqual((yield* usage).length, 30)
        assert.strictEqual(new Set(numbers(yield* usage)).size, 30)
      }).pipe(Effect.provide(AdenEmulator.layer())),
    30_000
  )
})
