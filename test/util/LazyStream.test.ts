import { assert, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { LazyStream } from "../../src/util/LazyStream.ts"

it.effect("LazyStream makes its stream anew for each run, and not before", () =>
  Effect.gen(function*() {
    let made = 0
    const stream = new LazyStream(() => Stream.make(++made, 10))
    const doubled = stream.pipe(Stream.map((value) => value * 2))
    assert.strictEqual(made, 0)
    assert.deepStrictEqual(yield* Stream.runCollect(doubled), [2, 20])
    assert.deepStrictEqual(yield* Stream.runCollect(doubled), [4, 20])
    assert.deepStrictEqual(yield* Stream.runCollect(stream), [3, 10])
    assert.isTrue(Stream.isStream(stream))
  }))
