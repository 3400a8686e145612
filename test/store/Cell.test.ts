import { assert, describe, it } from "@effect/vitest"
import { backOff, confirmWithin, recheckBlocked, rememberMissing, renewInTime } from "aden-credentials"
import { Duration, Effect, Schedule } from "effect"
import { Cell } from "../../src/store/Cell.ts"
import { atMost, renewNever } from "../../src/store/RefreshPolicy.ts"
import type { RefreshOutcome, RefreshPolicies } from "../../src/store/RefreshPolicy.ts"

const policies: RefreshPolicies = {
  renew: renewInTime,
  confirm: atMost(confirmWithin("5 minutes"), Duration.hours(24)),
  backOff,
  recheck: recheckBlocked,
  missing: rememberMissing
}

const blocked: RefreshOutcome = { _tag: "Blocked" }

describe("Cell", () => {
  it.effect("a policy that counts its steps counts them for each credential by itself", () =>
    Effect.gen(function*() {
      const recheck = Schedule.exponential("1 second")
      const [one, other] = [new Cell("one", { ...policies, recheck }), new Cell("other", { ...policies, recheck })]
      assert.strictEqual(yield* one.step("recheck").until(0, blocked), 1_000)
      assert.strictEqual(yield* one.step("recheck").until(0, blocked), 2_000)
      assert.strictEqual(yield* other.step("recheck").until(0, blocked), 1_000)
      one.restart("recheck")
      assert.strictEqual(yield* one.step("recheck").until(0, blocked), 1_000)
    }))

  it("the steps of the policies that a store has by default, but that after failures, are shared", () => {
    for (const renew of [renewInTime, renewNever]) {
      const [one, other] = [new Cell("one", { ...policies, renew }), new Cell("other", { ...policies, renew })]
      for (const policy of ["renew", "confirm", "recheck"] as const) {
        assert.strictEqual(one.step(policy), other.step(policy))
      }
      assert.notStrictEqual(one.step("backOff"), other.step("backOff"))
      assert.strictEqual(one.step("backOff"), one.step("backOff"))
    }
  })
})
