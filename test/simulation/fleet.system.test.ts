import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { bin, faultsOf, runFleet, scenarios, summaryOf } from "./Fleet.ts"

const clients = 2_000

/** So few clients ask so seldom that ten seconds say more of chance than of them. */
const window = 60_000

describe("a fleet of 2,000 clients of one Aden", () => {
  it.live("steady state: nothing runs out, no client is refused", () =>
    Effect.gen(function*() {
      const run = yield* runFleet({ scenario: scenarios.steady, clients, seed: 1 })
      const summary = summaryOf(run, { window })
      assert.deepStrictEqual(faultsOf(run, summary), [])
      assert.strictEqual(summary.limited, 0)
      assert.deepStrictEqual(run.runOut, [])
      // one confirmation within 5 minutes each, or a renewal in its place
      assert.isAbove(summary.steady, clients / 300)
      assert.isBelow(summary.steady, 1.25 * clients / 300)
    }))

  for (const seed of [1, 2]) {
    it.live(`ten minutes without Aden: back at no more than twice the steady rate, no token runs out while Aden is up (seed ${seed})`, () =>
      Effect.gen(function*() {
        const run = yield* runFleet({ scenario: scenarios.outage, clients, seed })
        const summary = summaryOf(run, { window })
        assert.deepStrictEqual(faultsOf(run, summary), [])
        assert.isAbove(summary.ranOutWhileDown, clients / 20)
        assert.isAtMost(summary.recovery ?? Infinity, 240_000)
      }))
  }

  it.live("all tokens expire in the same second, and Aden limits the rate: none runs out", () =>
    Effect.gen(function*() {
      const run = yield* runFleet({ scenario: scenarios.expiry, clients, seed: 1 })
      const summary = summaryOf(run, { window })
      assert.deepStrictEqual(faultsOf(run, summary), [])
      assert.isAbove(summary.limited, 0)
      // one lifetime later the confirmations have come apart again
      const last = run.requests.slice(60 * 60_000 / bin, 80 * 60_000 / bin)
      assert.isBelow(Math.max(...last), 3 * summary.steady * bin / 1_000)
    }))

  it.live("the same seed takes the same course", () =>
    Effect.gen(function*() {
      const options = { scenario: scenarios.outage, clients: 200, seed: 7 }
      assert.deepStrictEqual(yield* runFleet(options), yield* runFleet(options))
    }))

  it.live("tells when tokens run out: with a back-off that knows nothing of them", () =>
    Effect.gen(function*() {
      const backOff = Schedule.min([Schedule.exponential("5 seconds"), Schedule.spaced("5 minutes")])
      const run = yield* runFleet({ scenario: scenarios.outage, clients, seed: 1, policies: { backOff } })
      assert.isAbove(summaryOf(run, { window }).ranOutWhileUp, 10)
    }))

  it.live("tells when a fleet comes back at once: with a back-off of the same length for all", () =>
    Effect.gen(function*() {
      // whatever failed in the outage is asked about again when it is over, in one minute
      const back = scenarios.outage.outage.until + Date.UTC(2026, 0, 1)
      const backOff = Schedule.modifyDelay(
        Schedule.forever,
        () => Effect.map(Effect.clockWith((clock) => clock.currentTimeMillis), (now) => Math.max(1_000, back - now))
      )
      const run = yield* runFleet({ scenario: scenarios.outage, clients, seed: 1, policies: { backOff } })
      const summary = summaryOf(run, { window })
      assert.isAbove(summary.peak, 2 * summary.steady)
      assert.isAbove(faultsOf(run, summary).length, 0)
    }))
})
