import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, PubSub, Stream } from "effect"
import { Broadcast } from "../../src/util/Broadcast.ts"

const pubSub = PubSub.unbounded<number>()

describe("Broadcast", () => {
  it.effect("each run of it has what is published from then on", () =>
    Effect.gen(function*() {
      const broadcast = new Broadcast(pubSub)
      yield* broadcast.publish(1)
      const collect = (count: number) =>
        Effect.forkChild(Stream.runCollect(Stream.take(broadcast, count)), { startImmediately: true })
      const first = yield* collect(2)
      yield* broadcast.publish(2)
      const second = yield* collect(1)
      yield* broadcast.publish(3)
      assert.deepStrictEqual(yield* Fiber.join(first), [2, 3])
      assert.deepStrictEqual(yield* Fiber.join(second), [3])
    }))

  it.effect("a listener is told of each value before `publish` returns, until it leaves", () =>
    Effect.gen(function*() {
      const broadcast = new Broadcast(pubSub)
      const heard: Array<number> = []
      const leave = broadcast.listen((value) => Effect.sync(() => void heard.push(value)))
      yield* broadcast.publish(1)
      assert.deepStrictEqual(heard, [1])
      leave()
      yield* broadcast.publish(2)
      assert.deepStrictEqual(heard, [1])
    }))

  it.effect("after its shutdown, no run of it waits for what does not come", () =>
    Effect.gen(function*() {
      const broadcast = new Broadcast(pubSub)
      const before = yield* Effect.forkChild(Stream.runCollect(broadcast), { startImmediately: true })
      yield* broadcast.shutdown()
      assert.isTrue(Exit.isExit(yield* Fiber.await(before)))
      const unused = new Broadcast(pubSub)
      yield* unused.shutdown()
      const after = yield* Effect.forkChild(Stream.runCollect(unused), { startImmediately: true })
      assert.isTrue(Exit.isExit(yield* Fiber.await(after)))
    }))
})
