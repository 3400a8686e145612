import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Option, Result, Schema } from "effect"
import { Headers } from "effect/http"
import type { Answer } from "../../../src/providers/aden/failures.ts"
import { decodeAnswer, failureOf, requestFailureOf, serverTime } from "../../../src/providers/aden/failures.ts"
import { pageUrl } from "../../../src/util/httpSyntax.ts"

const question = { id: "hubspot", secrets: [] }

const answer = (fields: Partial<Omit<Answer, "headers">> & { readonly headers?: Record<string, string> }): Answer => ({
  status: 200,
  body: "",
  receivedAt: Date.UTC(2026, 0, 28),
  ...fields,
  headers: Headers.fromInput(fields.headers ?? {})
})

const hintOf = (headers: Record<string, string>, body: string): number => {
  const error = requestFailureOf(answer({ status: 429, headers, body }), question)
  assert(error._tag === "RateLimited")
  return Duration.toMillis(error.retryAfter)
}

/** Numbers and dates in every spelling, and what only looks like them. */
const Hint = Schema.Union([
  Schema.String,
  Schema.Literals(["", "0", "-0", "+5", "1.5", "-3", "1e9", "Infinity", "-Infinity", "NaN", "null", "soon", "９"]),
  Schema.Literals(["Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Sun, 31 Feb 2026 00:00:00 GMT"])
])

describe("requestFailureOf", () => {
  it.effect.prop(
    "a retry hint is never negative, never NaN, never over an hour",
    [Hint, Hint, Schema.Json],
    ([retryAfter, date, inBody]) =>
      Effect.sync(() => {
        for (const body of ["", JSON.stringify({ error: "rate_limited", retry_after: inBody })]) {
          const millis = hintOf({ "retry-after": retryAfter, date }, body)
          assert.isTrue(millis >= 0 && millis <= 3_600_000, `${millis} ms`)
        }
      })
  )

  it.effect.prop(
    "a hint in numbers is kept up to the cap",
    [Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))],
    ([seconds]) =>
      Effect.sync(() => {
        const expected = Math.min(seconds * 1000, 3_600_000)
        assert.strictEqual(hintOf({ "retry-after": ` ${seconds} ` }, ""), expected)
        assert.strictEqual(hintOf({}, JSON.stringify({ error: "rate_limited", retry_after: seconds })), expected)
      })
  )

  it("a message that is empty, or of invisible characters, counts as none: the error's name stands in for it", () => {
    for (const message of ["", "\n", "\u200b", null]) {
      const failed = (error: string, status: number) =>
        failureOf(answer({ status, body: JSON.stringify({ error, message }) }), question).message
      assert.strictEqual(failed("key_revoked", 401), "Aden rejects the API key for \"hubspot\": key_revoked")
      assert.strictEqual(failed("gone", 410), "Aden refused the request for \"hubspot\" (HTTP 410): gone")
      assert.strictEqual(failed("refresh_failed", 400), "Aden could not refresh \"hubspot\": refresh_failed")
      assert.strictEqual(failed("", 403), "Aden does not allow this API key access for \"hubspot\"")
    }
  })

  it.effect.prop("every answer is one error, whatever its status and body", [
    Schema.Int.check(Schema.isBetween({ minimum: 300, maximum: 999 })),
    Schema.Union([Schema.String, Schema.fromJsonString(Schema.Json)])
  ], ([status, body]) =>
    Effect.sync(() => {
      const text = typeof body === "string" ? body : JSON.stringify(body)
      for (
        const error of [
          requestFailureOf(answer({ status, body: text }), question),
          failureOf(answer({ status, body: text }), question)
        ]
      ) {
        assert.isNotEmpty(error.message)
        assert.isNotEmpty(error.remedy)
        assert.strictEqual(error.id, "hubspot")
      }
    }))
})

describe("decodeAnswer", () => {
  it.effect.prop(
    "no body makes it throw, and no failure repeats a value",
    [Schema.String],
    ([body]) =>
      Effect.sync(() => {
        const result = decodeAnswer(Schema.Struct({ token: Schema.Number }), answer({ body }), question)
        assert.isTrue(Result.isFailure(result))
        const wrong = decodeAnswer(
          Schema.Struct({ token: Schema.Number }),
          answer({ body: JSON.stringify({ token: `secret-${body}` }) }),
          question
        )
        assert(Result.isFailure(wrong))
        assert.notInclude(wrong.failure.message, "secret-")
      })
  )
})

describe("reauthorizationUrl", () => {
  it.effect.prop(
    "whatever it answers is https, or http to this machine, without user info",
    [Schema.String],
    ([text]) =>
      Effect.sync(() => {
        for (const candidate of [text, `https://${text}`, `http://${text}`, `${text}//aden.example.com`]) {
          const url = pageUrl(candidate)
          if (url === undefined) continue
          assert.match(url, /^(https:\/\/|http:\/\/(localhost|127\.|\[::1\]))/)
          assert.strictEqual(new URL(url).username + new URL(url).password, "")
          assert.notMatch(url, /[\u0000-\u0020\u007f]/)
        }
      })
  )
})

describe("serverTime", () => {
  it.effect.prop(
    "reads an HTTP date and nothing else",
    [Schema.String],
    ([text]) => Effect.sync(() => assert.isTrue(Option.isNone(serverTime(Headers.fromInput({ date: `x${text}` })))))
  )

  it("is none without a Date", () => {
    assert.isTrue(Option.isNone(serverTime(Headers.empty)))
    assert.deepStrictEqual(
      serverTime(Headers.fromInput({ date: "Sun, 06 Nov 1994 08:49:37 GMT" })),
      Option.some(Date.UTC(1994, 10, 6, 8, 49, 37))
    )
  })
})
