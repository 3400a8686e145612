import { assert, describe, it } from "@effect/vitest"
import { remembered, RingBuffer } from "../../src/emulator/RingBuffer.ts"

describe("RingBuffer", () => {
  it("keeps the last 10,000 items, in order, until it is cleared", () => {
    assert.strictEqual(remembered, 10_000)
    const buffer = new RingBuffer<number>()
    for (let item = 0; item < 35_001; item++) buffer.add(item)
    assert.deepStrictEqual(buffer.all, Array.from({ length: 10_000 }, (_, index) => 25_001 + index))
    buffer.clear()
    assert.deepStrictEqual(buffer.all, [])
    buffer.add(1)
    assert.deepStrictEqual(buffer.all, [1])
  })
})
