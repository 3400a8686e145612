import { assert, describe, it } from "@effect/vitest"
import { Option, Schema } from "effect"
import { decodeNotification, unnumberedNotification } from "../../../src/storage/records/notification.ts"

/** What versions decode that do not send generations. They share databases with this one. */
const decodeWithoutGeneration = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Union([
  Schema.Struct({
    _tag: Schema.Literals(["Saved", "Deleted"]),
    sequence: Schema.Int,
    id: Schema.String,
    by: Schema.String
  }),
  Schema.Struct({ _tag: Schema.Literal("Released"), id: Schema.String })
])))

describe("a notification of a change", () => {
  const change = { _tag: "Saved", id: "a \"b\"", by: "f00" } as const
  const sent = `{"sequence":7,"generation":3,${unnumberedNotification(change)}`

  it("has the generation", () => {
    assert.deepStrictEqual(decodeNotification(sent), Option.some({ ...change, sequence: 7, generation: 3 }))
  })

  it("is understood by a version that does not know of generations", () => {
    assert.deepStrictEqual(decodeWithoutGeneration(sent), Option.some({ ...change, sequence: 7 }))
  })

  it("of such a version is understood, without a generation", () => {
    const sent = `{"sequence":7,${unnumberedNotification(change)}`
    assert.deepStrictEqual(decodeNotification(sent), Option.some({ ...change, sequence: 7 }))
  })
})
