import { assert, describe, it } from "@effect/vitest"
import {
  AdenConnectionFailed,
  AdenForbidden,
  AdenUnavailable,
  CredentialStorageError,
  LockTimeout,
  RateLimited,
  RefreshFailed
} from "aden-credentials"
import { ExitStatus } from "aden-credentials/cli"
import { DateTime, Duration, Effect } from "effect"
import type { OutputStream } from "../../src/cli/CommandOutput.ts"
import { exitStatusOf, worstOf } from "../../src/cli/ExitStatus.ts"
import { table } from "../../src/cli/table.ts"
import { durationText, expirySentence, expiryText, latencyText } from "../../src/util/humanTime.ts"

const asItIs = (text: string) => text
const output = (isTerminal: boolean): OutputStream => ({
  isTerminal,
  canRewrite: isTerminal,
  canColor: false,
  style: { bold: asItIs, dim: asItIs, red: asItIs, green: asItIs, yellow: asItIs },
  write: () => Effect.void
})

describe("times for people", () => {
  const now = DateTime.makeUnsafe("2026-01-28T15:30:00Z")
  const after = (duration: Duration.Input) => DateTime.addDuration(now, duration)

  it("the largest unit that fits, rounded down: a token is never said to last longer than it does", () => {
    const cases: ReadonlyArray<readonly [Duration.Input, string]> = [
      ["0 seconds", "0 s"],
      ["999 millis", "0 s"],
      ["59 seconds", "59 s"],
      ["60 seconds", "1 min"],
      ["4 minutes", "4 min"],
      [Duration.seconds(299), "4 min"],
      ["59 minutes", "59 min"],
      ["1 hour", "1 h"],
      ["47 hours", "1 d"],
      ["400 days", "400 d"]
    ]
    for (const [duration, text] of cases) assert.strictEqual(durationText(Duration.fromInputUnsafe(duration)), text)
  })

  it("a latency in ms below a second", () => {
    assert.strictEqual(latencyText(Duration.millis(34.6)), "35 ms")
    assert.strictEqual(latencyText(Duration.millis(2_500)), "2 s")
  })

  it("an expiry ahead, behind, and none", () => {
    assert.strictEqual(expiryText(after("4 minutes"), now), "in 4 min")
    assert.strictEqual(expiryText(DateTime.subtractDuration(now, "2 hours"), now), "2 h ago")
    assert.strictEqual(expiryText(now, now), "0 s ago")
    assert.strictEqual(expiryText(undefined, now), "never")
    assert.strictEqual(expirySentence(after("4 minutes"), now), "expires in 4 min")
    assert.strictEqual(expirySentence(DateTime.subtractDuration(now, "2 hours"), now), "expired 2 h ago")
    assert.strictEqual(expirySentence(undefined, now), "does not expire")
  })
})

describe("tables", () => {
  const columns = [
    { title: "A", cell: (row: { readonly a: string; readonly b: string }) => row.a },
    { title: "B", cell: (row: { readonly a: string; readonly b: string }) => row.b }
  ]

  it("columns are as wide as what is seen: wide characters count twice, combining ones not at all", () => {
    const text = table(output(true), columns, [
      { a: "日本", b: "1" },
      { a: "cafe\u0301", b: "2" },
      { a: "x", b: "3" }
    ])
    assert.strictEqual(text, "A     B\n日本  1\ncafe\u0301  2\nx     3\n")
  })

  it("control characters cannot break a line, a cell or the terminal", () => {
    const row = { a: "two\nlines\tand a tab", b: "\u001b[2Jcleared\u202e" }
    assert.strictEqual(table(output(false), columns, [row]), "twolinesand a tab\t[2Jcleared\n")
    assert.strictEqual(table(output(true), columns, [row]).split("\n").length, 3)
  })

  it("elsewhere than on a terminal there are no titles", () => {
    assert.strictEqual(table(output(false), columns, []), "")
  })
})

describe("exit statuses", () => {
  const rateLimited = new RateLimited({ retryAfter: Duration.seconds(1) })
  const unavailable = new AdenUnavailable({ reason: new AdenConnectionFailed({ detail: "ECONNREFUSED" }) })
  const refused = new RefreshFailed({ id: "x", detail: "no" })
  const forbidden = new AdenForbidden({})
  const storage = new CredentialStorageError({
    operation: "save",
    reason: new LockTimeout({ after: Duration.seconds(1) })
  })

  it("an error of Aden's within a storage error has the status of Aden's", () => {
    assert.strictEqual(exitStatusOf(storage), ExitStatus.storage)
    assert.strictEqual(
      exitStatusOf(new CredentialStorageError({ operation: "load", reason: rateLimited })),
      ExitStatus.rateLimited
    )
  })

  it("the worst failure is the one that a person has to fix; the first of equals", () => {
    const other = new RateLimited({ retryAfter: Duration.seconds(2) })
    assert.strictEqual(worstOf([rateLimited, other]), rateLimited)
    assert.strictEqual(worstOf([rateLimited, unavailable, other]), unavailable)
    assert.strictEqual(worstOf([unavailable, refused, rateLimited]), refused)
    assert.strictEqual(worstOf([refused, forbidden]), forbidden)
    assert.strictEqual(worstOf([storage, forbidden]), storage)
    assert.isUndefined(worstOf([]))
  })
})
