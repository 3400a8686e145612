/** A usage reporter under load, beside its caller, at the end of its process, and with what it holds in Redis. */
import * as NodeRedis from "@effect/platform-node/NodeRedis"
import { assert, describe, it } from "@effect/vitest"
import { UsageReporter } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Clock, Effect, Layer, Schedule } from "effect"
import { PersistedQueue } from "effect/persistence"
import { execFile } from "node:child_process"
import { existsSync } from "node:fs"
import { bundled } from "../fixtures/bundle.ts"
import { redisServer } from "../fixtures/redisServer.ts"
import {
  allAreHeld,
  depthNow,
  newestAreHeld,
  numbers,
  observed,
  quickRetry,
  recorded,
  reporting,
  usage
} from "./reporting.ts"

describe("UsageReporter", () => {
  describe("the bound", () => {
    it.live(
      "10,000 reports while Aden is down: memory holds the newest 1,000, and none is counted twice",
      () => newestAreHeld({ reports: 10_000 }),
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

    it.live(
      "with room for all, every report of an outage of 2,000 arrives, once",
      () => allAreHeld({ reports: 2_000 }),
      120_000
    )
  })

  describe("when the scope closes", () => {
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
  })

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
