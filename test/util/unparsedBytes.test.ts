import { assert, describe, it } from "@effect/vitest"
import { inspect } from "node:util"
import { removeUnparsedBytes } from "../../src/util/unparsedBytes.ts"

const parserError = (name: string, more: object) =>
  Object.assign(new Error("Parse Error"), { name, code: "HPE_X", ...more })

describe("removeUnparsedBytes", () => {
  it.each([
    ["node:http", () => parserError("Error", { rawPacket: "the token" })],
    ["undici", () => parserError("HTTPParserError", { data: "the token" })],
    ["fetch", () => new TypeError("fetch failed", { cause: parserError("HTTPParserError", { data: "the token" }) })],
    ["several tries", () => new AggregateError([new Error("x"), parserError("HTTPParserError", { data: "the token" })])]
  ])("takes them out of an error of %s, and leaves the rest", (_, make) => {
    const error = make()
    removeUnparsedBytes(error)
    const shown = inspect(error, { depth: Infinity, showHidden: true })
    assert.notInclude(shown, "the token")
    assert.include(shown, "HPE_X")
  })

  it("leaves what other errors carry, and ends where an error is its own cause", () => {
    const error = Object.assign(new Error("other"), { data: "kept" })
    error.cause = error
    removeUnparsedBytes(error)
    assert.strictEqual(error.data, "kept")
    for (const value of [undefined, null, "text", 5, Object.freeze({ rawPacket: "frozen" })]) removeUnparsedBytes(value)
  })
})
