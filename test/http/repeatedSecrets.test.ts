/** How long a search for secrets in a URL may take, counted in steps. */
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { maximumSteps, searchForSecrets } from "../../src/http/repeatedSecrets.ts"
import { repeats } from "../fixtures/repeats.ts"

const secrets = ["q+8Zr/Lw3+Yt0/Vd9A==", "Pa55word", "user:Pa55word", btoa("user:Pa55word")]

const search = (url: string) => searchForSecrets([url], secrets)

const repeated = (size: number, piece: string) => piece.repeat(Math.ceil(size / piece.length)).slice(0, size)

const encodedTimes = (times: number, text: string): string =>
  times === 0 ? text : encodeURIComponent(encodedTimes(times - 1, text))

/** A URL that sends a person to log in, with the URL to come back to written in each way. */
const loginUrl = (query: string) => {
  const next = `https://api.good.test/v1/search?${query}`
  const state = btoa(JSON.stringify({ next, nonce: "c7b3a19e0d5f2846", inner: btoa(JSON.stringify({ next })) }))
  return `https://login.other.test/authorize?redirect_uri=${encodedTimes(1, next)}&next=${encodedTimes(3, next)}` +
    `&state=${encodedTimes(2, state)}&html=${encodedTimes(1, next.replaceAll("&", "&amp;"))}` +
    `&json=${encodedTimes(1, JSON.stringify(JSON.stringify({ next })))}`
}

/** An escape of each kind in itself, so many times. */
const nested = (times: number) =>
  `%${"25".repeat(times)}41&${"amp;".repeat(times)}&${"#38;".repeat(times)}&${"#x26;".repeat(times)}` +
  `\\${"u005cu005c".repeat(times)}`

describe("a search for secrets in a URL", () => {
  it("takes a small part of the steps for a URL of 8 KB with the same URL in it in many encodings", () => {
    const url = loginUrl(repeated(800, "filter=name%20eq%20x&page=2&"))
    assert.isAbove(url.length, 8_000)
    const { isFound, steps } = search(url)
    assert.strictEqual(isFound, false)
    assert.isBelow(steps, maximumSteps / 3)
  })

  it.each([1, 2, 5, 40])("ends for 16 KB of escapes of all kinds, each %d times in itself", (times) => {
    const { isFound, steps } = search(repeated(16_000, nested(times)))
    assert.strictEqual(isFound, false)
    assert.isBelow(steps, maximumSteps)
  })

  it.each([
    "%",
    "%25",
    "&#38",
    "&amp;",
    "\u00c3\u0083",
    "%2525u0041&amp;#x5c;YWJjZGVm",
    "a",
    "abc/"
  ])("ends for 16 KB of %j", (piece) => {
    const { isFound, steps } = search(repeated(16_000, piece))
    assert.strictEqual(isFound, false)
    assert.isBelow(steps, maximumSteps)
  })

  it.each(["\\", "\\u005cu005c", "q+8Zr/Lw3+Yt0/"])("gives up 16 KB of %j", (piece) => {
    const { isFound, steps } = search(repeated(16_000, piece))
    assert.isUndefined(isFound)
    assert.isBelow(steps, 2 * maximumSteps)
  })

  it.prop(
    "ends within its steps, whatever the text is made of",
    [
      Schema.Array(
        Schema.Literals([
          "%",
          "25",
          "u",
          "005c",
          "&",
          "#",
          "x",
          "38;",
          "\\",
          "\u00f4",
          "\u0090",
          "\ud83d",
          "YWJj",
          "/",
          "+",
          "\n"
        ])
      ).check(
        Schema.isMaxLength(12)
      )
    ],
    ([pieces]) => {
      const { isFound, steps } = search(repeated(16_000, pieces.join("") || "x"))
      assert.notStrictEqual(isFound, true)
      assert.isBelow(steps, 2 * maximumSteps)
    },
    { arbitrary: { runs: repeats(100) } }
  )
})
