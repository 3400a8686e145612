import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Option } from "effect"
import { TestClock } from "effect/testing"
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

describe("SingleFlight: a run that does not end", () => {
  it.effect("is given up by a caller of a later one that waited in vain: the next caller's begins", () =>
    Effect.gen(function*() {
      const flights = new SingleFlight<string, number, never>({ abandonAfter: 10_000 })
      yield* flights.start("key", Effect.never)
      const waiting = yield* Effect.forkChild(
        Effect.timeoutOption(flights.runAfresh("key", Effect.succeed(1)), "11 seconds"),
        { startImmediately: true }
      )
      yield* TestClock.adjust("11 seconds")
      assert.isTrue(Option.isNone(yield* Fiber.join(waiting)))
      assert.strictEqual(yield* flights.runAfresh("key", Effect.succeed(2)), 2)
    }))

  it.effect("goes on where its caller waited for the one before it", () =>
    Effect.gen(function*() {
      const flights = new SingleFlight<string, number, never>({ abandonAfter: 10_000 })
      yield* flights.start("key", Effect.delay(Effect.succeed(1), "9 seconds"))
      yield* Effect.forkChild(
        Effect.timeoutOption(flights.runAfresh("key", Effect.delay(Effect.succeed(2), "5 seconds")), "11 seconds"),
        { startImmediately: true }
      )
      yield* TestClock.adjust("12 seconds")
      const joined = yield* Effect.forkChild(flights.run("key", Effect.succeed(3)), { startImmediately: true })
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* Fiber.join(joined), 2)
    }))
})
