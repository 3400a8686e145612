import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { durationSetting } from "../../src/model/settings.ts"

describe("durationSetting", () => {
  it.effect.each<readonly [Duration.Input, number]>([
    ["30 seconds", 30_000],
    [1500, 1500],
    [Duration.minutes(5), 300_000],
    [1n, 0.000001],
    [[1, 500_000_000], 1500]
  ])("%o is a time", ([input, millis]) =>
    Effect.gen(function*() {
      assert.strictEqual(Duration.toMillis(yield* durationSetting("cacheTtl", input)), millis)
    }))

  it.effect.each<Duration.Input>([
    0,
    -1,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    "0 seconds",
    "-1 seconds",
    0n,
    [0, 0],
    Duration.infinity,
    Duration.zero
  ])("%o is refused, by the option's name", (input) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(durationSetting("cacheTtl", input))
      assert.strictEqual(error._tag, "AdenConfigError")
      assert.strictEqual(error.setting, "cacheTtl")
      assert.include(error.message, "cacheTtl is not a finite time above zero")
    }))

  it.effect("text that is not a duration is refused, when it comes from outside the type checker", () =>
    Effect.gen(function*() {
      const outside: ReadonlyArray<Duration.Input> = JSON.parse("[\"soon\", \"5\", \"\", null, {}, true]")
      for (const input of outside) {
        assert.strictEqual((yield* Effect.flip(durationSetting("timeout", input))).setting, "timeout")
      }
    }))
})
