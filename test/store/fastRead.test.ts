import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Answer, FastRead } from "../../src/store/fastRead.ts"

class Held extends FastRead<string, never> {
  answer: Answer<string> | undefined = undefined
  reads = 0

  protected override fresh() {
    return this.answer
  }

  protected override read() {
    return Effect.sync(() => {
      this.reads++
      return "read"
    })
  }
}

describe("FastRead", () => {
  it.effect("answers what is fresh when it is run, not when it was made, however it is run", () =>
    Effect.gen(function*() {
      const effect = new Held()
      const ways = [
        Effect.gen(function*() {
          return yield* effect
        }),
        Effect.map(effect, (answer) => answer),
        effect.pipe(Effect.exit, Effect.flatten),
        Effect.flatMap(Effect.forkChild(effect), Fiber.join)
      ]
      for (const way of ways) {
        effect.answer = undefined
        const before = effect.reads
        assert.strictEqual(yield* way, "read")
        effect.answer = new Answer("fresh")
        assert.strictEqual(yield* way, "fresh")
        assert.strictEqual(effect.reads, before + 1)
      }
    }))

  it.effect("a loop of reads that waits for another fiber lets it run", () =>
    Effect.gen(function*() {
      const effect = new Held()
      effect.answer = new Answer("old")
      yield* Effect.forkChild(Effect.sync(() => effect.answer = new Answer("new")))
      while ((yield* effect) === "old");
    }))

  it.effect("a loop of reads can be interrupted", () =>
    Effect.gen(function*() {
      const effect = new Held()
      effect.answer = new Answer("fresh")
      const fiber = yield* Effect.forkChild(Effect.gen(function*() {
        while (true) yield* effect
      }))
      yield* Effect.yieldNow
      yield* Fiber.interrupt(fiber)
    }))
})
