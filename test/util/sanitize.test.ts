import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { cleanMessage, cleanText, isClean } from "../../src/util/sanitize.ts"

/** Code units of every kind: control characters, lone surrogates and marks are as likely as letters. */
const HostileText = Schema.Array(
  Schema.Literals([
    "a",
    "Z",
    "9",
    " ",
    "é",
    "日",
    "😀",
    "\u0000",
    "\u0007",
    "\u001b",
    "[2J",
    "\n",
    "\r",
    "\t",
    "\u007f",
    "\u009b",
    "\u200b",
    "\u200d",
    "\u2028",
    "\u202e",
    "\u2066",
    "\ufeff",
    "\u00ad",
    "\u3164",
    "\ufe0f",
    "\u20e3",
    "\u{e0041}",
    "❤",
    "👩",
    "🏽",
    "\ud800",
    "\udc00"
  ])
)

const control = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/

const assertClean = (text: string) => {
  assert.isTrue(text.isWellFormed())
  assert.isAtMost(text.length, 500)
  assert.notMatch(text, control)
}

describe("cleanText", () => {
  it.effect.prop(
    "has no control characters, at most 500 code units, no lone surrogates",
    [Schema.String],
    ([text]) => Effect.sync(() => assertClean(cleanText(text)))
  )

  it.effect.prop(
    "the same of hostile text, repeated to any length",
    [HostileText, Schema.Int],
    ([parts, times]) => Effect.sync(() => assertClean(cleanText(parts.join("").repeat(Math.abs(times) % 400))))
  )

  it.effect.prop("leaves clean short text as it is, and is idempotent", [HostileText], ([parts]) =>
    Effect.sync(() => {
      const clean = cleanText(parts.join(""))
      assert.strictEqual(cleanText(clean), clean)
      const text = parts.join("").slice(0, 500)
      if (isClean(text)) assert.strictEqual(cleanText(text), text)
    }))

  it("does not cut a surrogate pair in two", () => {
    assert.strictEqual(cleanText("a".repeat(499) + "😀"), "a".repeat(499))
    assert.strictEqual(cleanText("a".repeat(498) + "😀"), "a".repeat(498) + "😀")
  })

  it("does not leave behind the cut what joined the sign in front of it", () => {
    assert.strictEqual(cleanText("a".repeat(497) + "👩\u200d👩"), "a".repeat(497) + "👩")
    assert.strictEqual(cleanText("a".repeat(498) + "1\ufe0f\u20e3"), "a".repeat(498) + "1")
  })

  it("removes every character that no font draws, wherever it stands in a word", () => {
    const invisible = Array.from({ length: 0x110000 }, (_, code) => code).filter((code) =>
      /^[\p{Default_Ignorable_Code_Point}\p{Cc}\p{Zl}\p{Zp}\p{Cs}]$/u.test(String.fromCodePoint(code))
    )
    assert.isAbove(invisible.length, 6_000)
    for (const code of [...invisible, 0xfff9, 0xfffa, 0xfffb]) {
      const character = String.fromCodePoint(code)
      const seen = code >= 0xd800 && code <= 0xdfff ? "\ufffd" : ""
      for (
        const [before, after] of [["ad", "en"], ["", ""], ["1", "2"], ["가", "나"], ["😀", ""], ["", "😀"]] as const
      ) {
        const text = before + character + after
        assert.strictEqual(cleanText(text), before + seen + after, code.toString(16))
        assert.isFalse(isClean(text), code.toString(16))
      }
    }
  })

  it.each([
    "مرحبا بالعالم ١٢٣، سلام",
    "שָׁלוֹם עולם",
    "안녕하세요, 한국어",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "日本語のテキスト",
    "👨‍👩‍👧‍👦 🏳️‍🌈 ❤️‍🔥 👩🏽‍💻 🧑🏻‍❤️‍💋‍🧑🏼 ⛹🏻‍♀️ 👁️‍🗨️",
    "☎️ ©️ ❤️ 1️⃣ #️⃣ 🇩🇪 👍🏿"
  ])("leaves %s as it is", (text) => {
    assert.strictEqual(cleanText(text), text)
    assert.isTrue(isClean(text))
  })

  it.each<readonly [string, string]>([
    ["می\u200cخواهم", "میخواهم"],
    ["क्\u200dष", "क्ष"],
    ["😀\ufe0f", "😀"],
    ["👩\u200d\u200d👩", "👩👩"],
    ["👩\u200d", "👩"],
    ["👩\u200b\u200d👩", "👩👩"],
    ["1\ufe0f", "1"],
    ["❤\ufe0e", "❤"],
    ["🏴\u{e0067}\u{e0062}\u{e007f}", "🏴"]
  ])("makes %j readable without what is not seen", (text, shown) => {
    assert.strictEqual(cleanText(text), shown)
  })

  it("takes terminal escapes apart", () => {
    assert.strictEqual(cleanText("\u001b[31mred\u001b[0m\u001b]0;title\u0007\u009b2J"), "[31mred[0m]0;title2J")
  })
})

describe("isClean", () => {
  it.effect.prop(
    "says what cleanText would change, for text that is not too long",
    [HostileText],
    ([parts]) =>
      Effect.sync(() => {
        const text = parts.join("").slice(0, 500)
        if (isClean(text)) assert.strictEqual(cleanText(text), text)
        else assert.notStrictEqual(cleanText(text), text)
      })
  )

  it("keeps no state between calls", () => {
    for (let i = 0; i < 3; i++) {
      assert.isFalse(isClean("a\u0000"))
      assert.isTrue(isClean("a"))
    }
  })
})

describe("cleanMessage", () => {
  const secret = "aden_sk_live_7Qk2vB9xZr4TnW1mEy8L"

  it.effect.prop(
    "shows neither the secret nor its first 8 characters, wherever it stands and however it is cut",
    [HostileText, HostileText, Schema.Int],
    ([before, after, cut]) =>
      Effect.sync(() => {
        const quoted = secret.slice(0, 8 + Math.abs(cut) % (secret.length - 7))
        for (const padding of ["", " ".repeat(470), "-".repeat(490), "\u0000".repeat(1990)]) {
          const message = cleanMessage(`${before.join("")}${padding}${quoted}${after.join("")}`, [secret])
          assertClean(message)
          assert.notInclude(message, secret.slice(0, 8))
        }
      })
  )

  it("sees a secret through characters that do not show", () => {
    for (const unseen of ["\u200b", "\u00ad", "\u061c", "\u3164", "\ufe0f", "\u200d", "\u{e0041}", "\u2063"]) {
      assert.notInclude(cleanMessage(`the key ${secret.slice(0, 5)}${unseen}${secret.slice(5)}`, [secret]), "aden_sk_")
      assert.strictEqual(
        cleanMessage(`token ${["ghp_", "16C7e42F292c69", "12E7710c838347Ae178B4a"].join(unseen)}`),
        "token <redacted>"
      )
    }
  })

  it("masks what looks like a token, also at the cut", () => {
    const token = "CJTFwvnuLxIFAgEYz0Rk5PqM83vHdN2w"
    for (
      const text of [
        `token ${token}`,
        `token=${token};`,
        `"${token}"`,
        `https://example.com/${token}/x`,
        `${"x ".repeat(245)}${token}`,
        "1//0gZ8rRefreshTokenOfAPerson",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "xoxb-1234567890-abcdefghijkl"
      ]
    ) {
      const message = cleanMessage(text)
      assert.notInclude(message, token.slice(0, 8))
      assert.notMatch(message, /0gZ8r|eyJ|xoxb/)
    }
  })

  it("leaves words, dates, paths and URLs readable", () => {
    for (
      const text of [
        "No integration 'hubspot' found for this tenant",
        "Refresh token is invalid or revoked. User must re-authorize.",
        "connected_at 2026-01-15T10:00:00Z, next try 2026-01-15",
        "see https://staging-hive.adenhq.com/integrations/hubspot/connect",
        "GET /crm/v3/objects/contacts/search/all answered 503"
      ]
    ) {
      assert.strictEqual(cleanMessage(text), text)
    }
  })

  it("is the text itself when there is nothing to hide; an empty secret hides nothing", () => {
    assert.strictEqual(cleanMessage("plain", [""]), "plain")
    assert.strictEqual(cleanMessage("the key k3y", ["k3y"]), "the key <redacted>")
  })
})
