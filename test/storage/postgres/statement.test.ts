import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber } from "effect"
import { SerializationError, SqlError } from "effect/sql/SqlError"
import { TestClock } from "effect/testing"
import { answeredWithin } from "../../../src/storage/postgres/statement.ts"

const collision = new SqlError({ reason: new SerializationError({ cause: new Error("could not serialize access") }) })

const within = answeredWithin(Duration.seconds(2), "the table")

describe("answeredWithin", () => {
  it.effect("a statement that others undo again and again has its time each time, and is made in the end", () =>
    Effect.gen(function*() {
      // among many writers a slow server answers for longer than one statement may take
      const statement = Effect.gen(function*() {
        yield* Effect.sleep("500 millis")
        return (yield* Clock.currentTimeMillis) < 5_000 ? yield* collision : "made"
      })
      const made = yield* Effect.forkChild(within(statement), { startImmediately: true })
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* Fiber.join(made), "made")
    }))

  it.effect("one that is undone without end is given up, with what the server says", () =>
    Effect.gen(function*() {
      let times = 0
      const statement = Effect.suspend(() => {
        times++
        return Effect.fail(collision)
      })
      const given = yield* Effect.forkChild(Effect.flip(within(statement)), { startImmediately: true })
      yield* TestClock.adjust("1 minute")
      const failure = yield* Fiber.join(given)
      assert.include(failure.message, "could not serialize access")
      assert.isAbove(times, 100)
    }))

  it.effect("a server that does not answer is not waited for, and an interruption is", () =>
    Effect.gen(function*() {
      const given = yield* Effect.forkChild(Effect.flip(within(Effect.never)), { startImmediately: true })
      yield* TestClock.adjust("2 seconds")
      assert.include((yield* Fiber.join(given)).message, "did not answer within 2s")
      let isUndone = false
      const undone = Effect.andThen(Effect.sleep("1 second"), Effect.sync(() => isUndone = true))
      const waiting = yield* Effect.forkChild(within(Effect.onInterrupt(Effect.never, () => undone)), {
        startImmediately: true
      })
      const interruption = yield* Effect.forkChild(Fiber.interrupt(waiting), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(interruption)
      assert.isTrue(isUndone)
    }))
})
