import { assert, describe, it } from "@effect/vitest"
import type { RefreshOutcome, RefreshPolicy } from "aden-credentials"
import { backOff, confirmWithin } from "aden-credentials"
import { Duration, Effect, Pull, Random, Schedule } from "effect"

/** The delays of a policy, in seconds, one after another. */
const delays = (policy: RefreshPolicy, outcomes: ReadonlyArray<RefreshOutcome>) =>
  Effect.gen(function*() {
    const step = yield* Schedule.toStep(policy)
    let now = 0
    const delays = new Array<number>()
    for (const outcome of outcomes) {
      const [, delay] = yield* Pull.catchDone(step(now, outcome), () => Effect.die("the policy has ended"))
      now += Duration.toMillis(delay)
      delays.push(Duration.toSeconds(delay))
    }
    return delays
  })

const failed = (
  options: { readonly retryAfter?: Duration.Input; readonly timeLeft?: Duration.Input } = {}
): RefreshOutcome => ({
  _tag: "Failed",
  error: options.retryAfter === undefined ? "AdenUnavailable" : "RateLimited",
  retryAfter: options.retryAfter === undefined ? undefined : Duration.fromInputUnsafe(options.retryAfter),
  timeLeft: Duration.fromInputUnsafe(options.timeLeft ?? Duration.infinity)
})

const repeated = <A>(count: number, item: A): ReadonlyArray<A> => Array.from({ length: count }, () => item)

/** Each case is tried with so many seeds. */
const seeds = Array.from({ length: 50 }, (_, seed) => seed)

const withSeeds = <E>(test: (seed: number) => Effect.Effect<void, E>) =>
  Effect.forEach(seeds, (seed) => Random.withSeed(test(seed), seed), { discard: true })

describe("backOff", () => {
  it.effect("exponential from 5 seconds, factor 2, at most 5 minutes, give or take a fifth", () =>
    withSeeds(() =>
      Effect.map(delays(backOff, repeated(9, failed())), (delays) => {
        for (const [index, expected] of [5, 10, 20, 40, 80, 160, 300, 300, 300].entries()) {
          assert.isAtLeast(delays[index] ?? 0, 0.8 * expected)
          assert.isAtMost(delays[index] ?? Infinity, 1.2 * expected)
        }
      })
    ))

  it.effect("takes at most three quarters of the time that the current token has left, and 1 second at least", () =>
    withSeeds(() =>
      Effect.gen(function*() {
        const patient = repeated(6, failed())
        assert.strictEqual((yield* delays(backOff, [...patient, failed({ timeLeft: "100 seconds" })]))[6], 75)
        assert.strictEqual((yield* delays(backOff, [...patient, failed({ timeLeft: "1 second" })]))[6], 1)
        // far from its expiry, and without a token, nothing changes
        for (const timeLeft of ["1 hour", 0] as const) {
          assert.isAtLeast((yield* delays(backOff, [...patient, failed({ timeLeft })]))[6] ?? 0, 240)
        }
      })
    ))

  it.effect("a first refusal is waited out as Aden says", () =>
    withSeeds(() =>
      Effect.gen(function*() {
        const [first] = yield* delays(backOff, [failed({ retryAfter: "60 seconds" })])
        assert.strictEqual(first, 60)
      })
    ))

  it.effect("who is refused again comes within as long again, 1 to 5 minutes, never before the hint", () =>
    Effect.gen(function*() {
      for (const [hint, spread] of [[5, 60], [120, 120], [3_600, 300]] as const) {
        const seconds = new Array<number>()
        yield* withSeeds(() =>
          Effect.map(
            delays(backOff, repeated(2, failed({ retryAfter: Duration.seconds(hint) }))),
            (delays) => {
              seconds.push(delays[1] ?? 0)
            }
          )
        )
        assert.isAtLeast(Math.min(...seconds), hint)
        assert.isAtMost(Math.max(...seconds), hint + spread)
        assert.isAbove(Math.max(...seconds) - Math.min(...seconds), 0.7 * spread)
      }
    }))

  it.effect("a hint is kept to, even if the token expires before", () =>
    withSeeds(() =>
      Effect.gen(function*() {
        const limited = failed({ retryAfter: "60 seconds", timeLeft: "30 seconds" })
        assert.isAtLeast((yield* delays(backOff, [limited, limited]))[1] ?? 0, 60)
        const inTime = failed({ retryAfter: "60 seconds", timeLeft: "64 seconds" })
        assert.isAtMost((yield* delays(backOff, [inTime, inTime]))[1] ?? Infinity, 63)
      })
    ))
})

describe("confirmWithin", () => {
  it.effect("at most the time given after a confirmation, up to a fifth of it earlier, drawn for each confirmation", () =>
    Effect.gen(function*() {
      const seconds = yield* delays(confirmWithin("5 minutes"), repeated(200, { _tag: "Confirmed" }))
      assert.isAtLeast(Math.min(...seconds), 240)
      assert.isAtMost(Math.max(...seconds), 300)
      assert.isAbove(new Set(seconds).size, 190)
      assert.isAbove(Math.max(...seconds) - Math.min(...seconds), 50)
    }).pipe(Random.withSeed(1)))
})
