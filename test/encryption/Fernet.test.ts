import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Redacted, Schema } from "effect"
import { TestClock } from "effect/testing"
import { readFileSync } from "node:fs"
import { inspect } from "node:util"
import { encryptWith, Fernet } from "../../src/encryption/Fernet.ts"
import type { FernetTokenInvalid } from "../../src/errors/EncryptionError.ts"

const vectors = <S extends Schema.Decoder<unknown>>(name: string, schema: S) =>
  Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Array(schema)))(
    readFileSync(new URL(`../fixtures/fernet/${name}.json`, import.meta.url), "utf8")
  )

const common = { token: Schema.String, now: Schema.String, secret: Schema.String }
const generate = vectors("generate", Schema.Struct({ ...common, iv: Schema.Array(Schema.Int), src: Schema.String }))
const verify = vectors("verify", Schema.Struct({ ...common, ttl_sec: Schema.Int, src: Schema.String }))
const invalid = vectors("invalid", Schema.Struct({ ...common, ttl_sec: Schema.Int, desc: Schema.String }))

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes)
const setTime = (now: string) => TestClock.setTime(DateTime.toEpochMillis(DateTime.makeUnsafe(now)))

const reasons: Record<string, FernetTokenInvalid["reason"]> = {
  "incorrect mac": "NotAuthentic",
  "too short": "Malformed",
  "invalid base64": "Malformed",
  "payload size not multiple of block size": "Malformed",
  "payload padding error": "Malformed",
  "far-future TS (unacceptable clock skew)": "FromFuture",
  "expired TTL": "Expired",
  "incorrect IV (causes padding error)": "Malformed"
}

describe("Fernet", () => {
  describe("the specification's vectors", () => {
    it.effect.each([...generate])("generate: $src at $now", (vector) =>
      Effect.gen(function*() {
        const key = yield* Fernet.parseKey(Redacted.make(vector.secret))
        const now = DateTime.toEpochMillis(DateTime.makeUnsafe(vector.now))
        assert.strictEqual(encryptWith(key, bytes(vector.src), now, Uint8Array.from(vector.iv)), vector.token)
      }))

    it.effect.each([...verify])("verify: $src at $now", (vector) =>
      Effect.gen(function*() {
        yield* setTime(vector.now)
        const key = yield* Fernet.parseKey(Redacted.make(vector.secret))
        const plaintext = yield* Fernet.decrypt([key], vector.token, { ttl: `${vector.ttl_sec} seconds` })
        assert.strictEqual(text(plaintext), vector.src)
      }))

    it.effect.each([...invalid])("invalid: $desc", (vector) =>
      Effect.gen(function*() {
        yield* setTime(vector.now)
        const key = yield* Fernet.parseKey(Redacted.make(vector.secret))
        const error = yield* Effect.flip(Fernet.decrypt([key], vector.token, { ttl: `${vector.ttl_sec} seconds` }))
        assert.strictEqual(error.reason, reasons[vector.desc])
      }))
  })

  it.effect("a time to live is kept to the second, and a token from a minute ahead is taken", () =>
    Effect.gen(function*() {
      const key = yield* Fernet.parseKey(yield* Fernet.generateKey)
      yield* TestClock.setTime(1_000_000)
      const token = yield* Fernet.encrypt([key], bytes("x"))
      const check = (at: number) =>
        TestClock.setTime(at).pipe(
          Effect.andThen(Fernet.decrypt([key], token, { ttl: "10 seconds" })),
          Effect.match({ onFailure: (error) => error.reason, onSuccess: text })
        )
      assert.strictEqual(yield* check(1_010_999), "x")
      assert.strictEqual(yield* check(1_011_000), "Expired")
      assert.strictEqual(yield* check(940_000), "x")
      assert.strictEqual(yield* check(939_000), "FromFuture")
      assert.strictEqual(text(yield* Fernet.decrypt([key], token)), "x")
    }))

  it.effect.prop(
    "what is encrypted under the first key is read with it at any place",
    [Schema.Uint8Array],
    ([plaintext]) =>
      Effect.gen(function*() {
        const [first, second] = yield* Effect.all([
          Effect.flatMap(Fernet.generateKey, Fernet.parseKey),
          Effect.flatMap(Fernet.generateKey, Fernet.parseKey)
        ])
        const token = yield* Fernet.encrypt([first, second], plaintext)
        assert.deepStrictEqual(Array.from(yield* Fernet.decrypt([second, first], token)), Array.from(plaintext))
        const error = yield* Effect.flip(Fernet.decrypt([second], token))
        assert.strictEqual(error.reason, "NotAuthentic")
      })
  )

  it.effect("two encryptions of one text differ", () =>
    Effect.gen(function*() {
      const key = yield* Fernet.parseKey(yield* Fernet.generateKey)
      assert.notStrictEqual(yield* Fernet.encrypt([key], bytes("x")), yield* Fernet.encrypt([key], bytes("x")))
    }))

  it.effect("every flipped bit, every truncation and every addition is an error", () =>
    Effect.gen(function*() {
      const key = yield* Fernet.parseKey(yield* Fernet.generateKey)
      const token = yield* Fernet.encrypt([key], bytes("a credential"))
      const changed: Array<string> = []
      for (let at = 0; at < token.length; at++) {
        changed.push(token.slice(0, at))
        for (let bit = 0; bit < 8; bit++) {
          changed.push(
            token.slice(0, at) + String.fromCharCode(token.charCodeAt(at) ^ (1 << bit)) + token.slice(at + 1)
          )
        }
        for (const added of [" ", "\n", "=", "A", "\0"]) changed.push(token.slice(0, at) + added + token.slice(at))
      }
      changed.push(`${token}\n`, `${token}=`, `${token}AAAA`, ` ${token}`)
      for (const other of changed) {
        const exit = yield* Effect.exit(Fernet.decrypt([key], other))
        assert.strictEqual(exit._tag, "Failure", other)
      }
      assert.isAbove(changed.length, token.length * 10)
    }))

  it.effect("the standard alphabet, missing padding and padding bits are not taken", () =>
    Effect.gen(function*() {
      const key = yield* Fernet.parseKey(yield* Fernet.generateKey)
      // long enough that the URL-safe characters occur
      const token = yield* Fernet.encrypt([key], new Uint8Array(3_001))
      assert.match(token, /[-_]/)
      assert.isTrue(token.endsWith("="))
      for (
        const other of [
          token.replaceAll("-", "+").replaceAll("_", "/"),
          token.replaceAll("=", "")
        ]
      ) {
        assert.strictEqual((yield* Effect.flip(Fernet.decrypt([key], other))).reason, "Malformed")
      }
    }))

  describe("a key that is not valid", () => {
    const good = "DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus="
    const cases: Array<readonly [string, string, RegExp]> = [
      ["empty", "", /is empty/],
      ["too short", good.slice(4), /is not a Fernet key/],
      ["too long", `AAAA${good}`, /is not a Fernet key/],
      ["without padding", good.slice(0, -1), /is not a Fernet key/],
      ["with padding bits", `${good.slice(0, -2)}t=`, /is not a Fernet key/],
      ["with a line break", `${good}\n`, /white space/],
      ["of the standard alphabet", good.replaceAll("-", "+").replaceAll("_", "/"), /standard alphabet/],
      ["of zeros", `${"A".repeat(43)}=`, /is not a random key/],
      ["of one byte", Buffer.alloc(32, 0xff).toString("base64url") + "=", /is not a random key/],
      ["of one digit as text", Buffer.alloc(32, "0").toString("base64url") + "=", /is not a random key/],
      ["of a word over and over", Buffer.alloc(32, "secret").toString("base64url") + "=", /is not a random key/],
      ["text", "correct horse battery staple", /is not a Fernet key/]
    ]
    it.effect.each(cases)("%s", ([, key, detail]) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Fernet.parseKey(Redacted.make(key)))
        assert.strictEqual(error._tag, "AdenConfigError")
        assert.strictEqual(error.setting, "HIVE_CREDENTIAL_KEY")
        assert.match(error.detail, detail)
        assert.match(error.remedy, /aden-creds keys generate/)
        if (key !== "") assert.notInclude(inspect(error, { depth: Infinity }) + JSON.stringify(error), key.trim())
      }))

    it.effect("is named by its setting", () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Fernet.parseKey(Redacted.make("x"), "keys"))
        assert.match(error.message, /^keys is not a Fernet key/)
      }))
  })

  it.effect("a generated key is a key, and shows in nothing", () =>
    Effect.gen(function*() {
      const key = yield* Fernet.generateKey
      const parsed = yield* Fernet.parseKey(key)
      assert.match(Redacted.value(key), /^[A-Za-z0-9_-]{43}=$/)
      assert.notStrictEqual(Redacted.value(key), Redacted.value(yield* Fernet.generateKey))
      assert.strictEqual(inspect(parsed, { depth: Infinity }), "<redacted>")
      assert.strictEqual(JSON.stringify(parsed), "\"<redacted>\"")
    }))
})
