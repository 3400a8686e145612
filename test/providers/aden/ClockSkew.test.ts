import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { ClockSkew } from "../../../src/providers/aden/ClockSkew.ts"

const offsetOf = (samples: ReadonlyArray<number>) => {
  const offset = new ClockSkew()
  for (const sample of samples) offset.record({ sentAt: 900, receivedAt: 1100, serverTime: 1000 + sample })
  return offset
}

const Sample = Schema.Int.check(Schema.isBetween({ minimum: -10_000_000, maximum: 10_000_000 }))

describe("ClockSkew", () => {
  it("is zero before the first answer", () => {
    assert.strictEqual(offsetOf([]).current, 0)
    assert.isFalse(offsetOf([]).isClamped)
  })

  it("is measured against the middle of the request", () => {
    const offset = new ClockSkew()
    offset.record({ sentAt: 1_000, receivedAt: 5_000, serverTime: 13_000 })
    assert.strictEqual(offset.current, 10_000)
  })

  it("is the median: a single answer that is far off changes nothing", () => {
    assert.strictEqual(offsetOf([10_000, 10_500, 9_000_000, 9_500, 10_200]).current, 10_200)
    assert.strictEqual(offsetOf([0, 0, -250_000, 0]).current, 0)
  })

  it("is the median of the last five", () => {
    assert.strictEqual(offsetOf([60_000, 60_000, 60_000, 60_000, 60_000, 4_000, 4_000, 4_000]).current, 4_000)
  })

  it("counts as zero under 2 s, either way", () => {
    assert.strictEqual(offsetOf([1_999]).current, 0)
    assert.strictEqual(offsetOf([-1_999]).current, 0)
    assert.strictEqual(offsetOf([2_000]).current, 2_000)
    assert.strictEqual(offsetOf([-2_000]).current, -2_000)
  })

  it("is clamped to 5 minutes, either way", () => {
    assert.strictEqual(offsetOf([300_001]).current, 300_000)
    assert.strictEqual(offsetOf([-9_000_000]).current, -300_000)
    assert.isTrue(offsetOf([300_001]).isClamped)
    assert.isFalse(offsetOf([300_000]).isClamped)
  })

  it.effect.prop(
    "lies among the samples, in bounds, whatever their order",
    [Schema.Array(Sample)],
    ([samples]) =>
      Effect.sync(() => {
        const last = samples.slice(-5)
        const { current, measured } = offsetOf(samples)
        assert.isTrue(current >= -300_000 && current <= 300_000)
        assert.isTrue(current === 0 || Math.abs(current) >= 2_000)
        if (last.length > 0) {
          assert.include(last, measured)
          assert.isAtMost(last.filter((sample) => sample < measured).length, last.length / 2)
          assert.isAtMost(last.filter((sample) => sample > measured).length, last.length / 2)
        }
        if (last.length % 2 === 1) {
          assert.strictEqual(offsetOf(last.toReversed()).measured, measured)
        }
      })
  )
})
