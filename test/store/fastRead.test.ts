import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { FastRead } from "../../src/store/fastRead.ts"

describe("FastRead", () => {
  const counting = () => {
    const held: { answer: Exit.Exit<string> | undefined; reads: number } = { answer: undefined, reads: 0 }
    const effect = new FastRead<string, never>(
      () => held.answer,
      Effect.sync(() => {
        held.reads++
        return "read"
      })
    )
    return { held, effect }
  }

  it.effect("answers what is fresh when it is run, not when it was made, however it is run", () =>
    Effect.gen(function*() {
      const { effect, held } = counting()
      const ways = [
        Effect.gen(function*() {
          return yield* effect
        }),
        Effect.map(effect, (answer) => answer),
        effect.pipe(Effect.exit, Effect.flatten),
        Effect.flatMap(Effect.forkChild(effect), Fiber.join)
      ]
      for (const way of ways) {
        held.answer = undefined
        const before = held.reads
        assert.strictEqual(yield* way, "read")
        held.answer = Exit.succeed("fresh")
        assert.strictEqual(yield* way, "fresh")
        assert.strictEqual(held.reads, before + 1)
      }
    }))

  it.effect("a loop of reads that waits for another fiber lets it run", () =>
    Effect.gen(function*() {
      const { effect, held } = counting()
      held.answer = Exit.succeed("old")
      yield* Effect.forkChild(Effect.sync(() => held.answer = Exit.succeed("new")))
      while ((yield* effect) === "old");
    }))

  it.effect("a loop of reads can be interrupted", () =>
    Effect.gen(function*() {
      const { effect, held } = counting()
      held.answer = Exit.succeed("fresh")
      const fiber = yield* Effect.forkChild(Effect.gen(function*() {
        while (true) yield* effect
      }))
      yield* Effect.yieldNow
      yield* Fiber.interrupt(fiber)
    }))
})
