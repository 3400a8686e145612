import { assert, describe, it } from "@effect/vitest"
import { AdenClient, CredentialStore, TestCredentials, UsageReporter } from "aden-credentials"
import type { AdenConfigError } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Clock, DateTime, Effect, Exit, Layer, Schedule } from "effect"
import type { Schema } from "effect"
import { PersistedQueue } from "effect/persistence"
import { allAreHeld, newestAreHeld, numbers, observed, quickRetry, recorded, reporting, usage } from "./reporting.ts"

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

  it.live("metadata that is not JSON gets its report rejected and does not fail the program", () =>
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
    it.live("1,000 reports while Aden is down: memory holds the newest 100, and none is counted twice", () =>
      newestAreHeld({ reports: 1_000, capacity: 100 }))

    it.live("with room for all, every report of an outage arrives, once", () => allAreHeld({ reports: 100 }))

    it.live("reporting asks for nothing: no request goes out in the turns of the caller", () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        yield* reporting((reporter) =>
          Effect.gen(function*() {
            const turns = yield* Effect.sync(() => {
              for (let n = 0; n < 2_000; n++) {
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
    ])("%s: %s is left out, and the warning only names the field", ([name, value]) =>
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

    it.live("are gone before a report comes into a queue that is stored", () =>
      Effect.gen(function*() {
        const stored: Array<string> = []
        const Recorded = Layer.effect(
          PersistedQueue.PersistedQueueStore,
          Effect.map(PersistedQueue.PersistedQueueStore, (store) => ({
            ...store,
            offer: (report: Parameters<typeof store.offer>[0]) => {
              stored.push(JSON.stringify(report))
              return store.offer(report)
            }
          }))
        ).pipe(Layer.provide(PersistedQueue.layerStoreMemory))
        const persisted = UsageReporter.layerPersisted({ queue: "usage", retry: quickRetry }).pipe(
          Layer.provide(PersistedQueue.layer),
          Layer.provide(Recorded)
        )
        yield* reporting(
          (reporter) =>
            Effect.andThen(
              reporter.report("github", {
                operation: `GET /?key=${token}`,
                status: "ok",
                metadata: { rows: 3, note: token, password: "hunter2", [token]: 1 }
              }),
              recorded(1)
            ),
          {},
          persisted
        )
        assert.lengthOf(stored, 1)
        assert.include(stored[0], "rows")
        assert.notMatch(stored[0] ?? "", /CJTFwvnu|hunter2/)
      }).pipe(Effect.provide(AdenEmulator.layer(), { local: true })))

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

    it.live("metadata without a secret stays as it is", () =>
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
})
