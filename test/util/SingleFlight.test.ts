import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { SingleFlight } from "../../src/util/SingleFlight.ts"

describe("SingleFlight: a run that is ended before its first step", () => {
  it.effect("by its only caller: one that waits for it to end begins", () =>
    Effect.gen(function*() {
      const flights = new SingleFlight<string, number, never>()
      const first = yield* Effect.forkChild(flights.run("key", Effect.succeed(1)), { startImmediately: true })
      const next = yield* Effect.forkChild(flights.runAfresh("key", Effect.succeed(2)), { startImmediately: true })
      yield* Fiber.interrupt(first)
      for (let turn = 0; turn < 20; turn++) yield* Effect.yieldNow
      assert.deepStrictEqual(next.pollUnsafe(), Exit.succeed(2))
    }))

  it.effect("by a shutdown: its waiting callers end too", () =>
    Effect.gen(function*() {
      const flights = new SingleFlight<string, number, never>()
      const waiting = yield* Effect.forkChild(flights.run("key", Effect.never), { startImmediately: true })
      const stopping = yield* Effect.forkChild(flights.shutdown(0), { startImmediately: true })
      for (let turn = 0; turn < 20; turn++) yield* Effect.yieldNow
      assert.isDefined(stopping.pollUnsafe())
      assert.isDefined(waiting.pollUnsafe())
      assert.isFalse(flights.has("key"))
    }))
})
