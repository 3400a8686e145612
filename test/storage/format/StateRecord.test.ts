import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Option, Schema } from "effect"
import { Authenticator } from "../../../src/encryption/authenticator.ts"
import { Fernet } from "../../../src/encryption/Fernet.ts"
import { CredentialState } from "../../../src/model/CredentialState.ts"
import { decodeState, StateCodec } from "../../../src/storage/format/StateRecord.ts"
import { key, otherKey } from "../temporaryStorage.ts"

const at = DateTime.makeUnsafe("2026-12-01T10:00:00Z")

const full = new CredentialState({
  generation: 7,
  account: { provider: "google", alias: "Timothy" },
  lastConfirmed: at,
  blockedSince: at,
  reauthorizationUrl: "https://aden.example/reconnect",
  refusedSince: at,
  coolDownUntil: at,
  hasSiblings: true,
  lastError: "ReauthRequired"
})

/** All that is left of it where nobody vouches for it. */
const hint = new CredentialState({ generation: 7, hasSiblings: true, mayBeBlocked: true })

const keys = Effect.map(
  Effect.all([Fernet.parseKey(key), Fernet.parseKey(otherKey)]),
  ([own, other]) => ({ own, other })
)

const stateIn = (found: Option.Option<{ readonly state: CredentialState }>) =>
  Option.getOrUndefined(Option.map(found, ({ state }) => state))

/** As the last version reads a record. */
const older = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Struct({
  id: Schema.optional(Schema.String),
  generation: Schema.Int,
  blockedSince: Schema.optional(Schema.String),
  reauthorizationUrl: Schema.optional(Schema.String)
})))

describe("a state record", () => {
  it.effect("is read as it was written, also by a version that knows of no code", () =>
    Effect.gen(function*() {
      const { own } = yield* keys
      const codec = new StateCodec([own], "agents")
      const text = codec.encode("hubspot", full)
      assert.deepStrictEqual(stateIn(codec.decode("hubspot", text)), full)
      assert.deepStrictEqual(stateIn(codec.decode("hubspot", text, 7)), full)
      assert.deepStrictEqual(older(text), {
        id: "hubspot",
        generation: 7,
        blockedSince: "2026-12-01T10:00:00Z",
        reauthorizationUrl: "https://aden.example/reconnect"
      })
      assert.match(text, /,"mac":"[\w-]{43}"\}$/)
    }))

  it.effect("of another namespace, tenant, id, key or generation, of nobody, or with a changed character is a hint", () =>
    Effect.gen(function*() {
      const { other, own } = yield* keys
      const codec = new StateCodec([own], "agents/acme")
      const text = codec.encode("hubspot", full)
      for (
        const [what, found] of [
          ["another namespace", new StateCodec([own], "other/acme").decode("hubspot", text)],
          ["another tenant", new StateCodec([own], "agents/globex").decode("hubspot", text)],
          ["no tenant", new StateCodec([own], "agents").decode("hubspot", text)],
          ["another id", codec.decode("hubspo", text)],
          ["another key", new StateCodec([other], "agents/acme").decode("hubspot", text)],
          ["another generation", codec.decode("hubspot", text, 8)],
          ["nobody", codec.decode("hubspot", text.replace(/,"mac":.*/, "}"))],
          ["a member after the code", codec.decode("hubspot", text.replace(/\}$/, ",\"a\":1}"))],
          ["another member of the name", codec.decode("hubspot", text.replace("{", "{\"mac\":\"x\","))],
          ["white space", codec.decode("hubspot", text.replace("{", "{ "))]
        ] as const
      ) assert.deepStrictEqual(stateIn(found), hint, what)
      for (let index = 0; index < text.length; index++) {
        const changed = text.slice(0, index) + (text[index] === "0" ? "1" : "0") + text.slice(index + 1)
        const state = stateIn(codec.decode("hubspot", changed))
        if (state === undefined) continue
        const { generation, ...others } = state
        assert.sameMembers(Object.keys(others).filter((name) => name !== "hasSiblings" && name !== "mayBeBlocked"), [])
        assert.isAtLeast(generation, 0)
      }
    }))

  it.effect("names of place and id do not run into one another", () =>
    Effect.gen(function*() {
      const { own } = yield* keys
      const text = new StateCodec([own], "a").encode("b\",\"c", full)
      assert.deepStrictEqual(stateIn(new StateCodec([own], "a\",\"b").decode("c", text)), hint)
      const tenants = new StateCodec([own], "agents/a").encode("b/c", full)
      assert.deepStrictEqual(stateIn(new StateCodec([own], "agents/a/b").decode("c", tenants)), hint)
    }))

  it.effect("may have members that a later version adds, and the code covers them", () =>
    Effect.gen(function*() {
      const { own } = yield* keys
      const codec = new StateCodec([own], "agents")
      const text = codec.encode("hubspot", full).replace(/,"mac":.*/, ",\"later\":{\"a\":[1]}")
      const code = new Authenticator([own], "aden-credentials state 1").sign(`["agents","hubspot"]${text}`)
      const later = `${text},"mac":"${code}"}`
      assert.deepStrictEqual(stateIn(codec.decode("hubspot", later)), full)
      assert.deepStrictEqual(stateIn(codec.decode("hubspot", later.replace("[1]", "[2]"))), hint)
    }))

  it.effect("is put under the first key only if it is authentic under one of them", () =>
    Effect.gen(function*() {
      const { other, own } = yield* keys
      const text = new StateCodec([own], "agents").encode("hubspot", full)
      const rotating = new StateCodec([other, own], "agents")
      const rotated = rotating.reencode("hubspot", text)
      assert.isString(rotated)
      assert.deepStrictEqual(stateIn(new StateCodec([other], "agents").decode("hubspot", rotated ?? "")), full)
      assert.strictEqual(rotated?.replace(/"mac":.*/, ""), text.replace(/"mac":.*/, ""))
      assert.isUndefined(rotating.reencode("hubspot", rotated ?? ""), "it is so already")
      assert.isUndefined(rotating.reencode("hubspot", text.replace(/,"mac":.*/, "}")))
      assert.isUndefined(rotating.reencode("slack", text))
      assert.isUndefined(new StateCodec([other], "agents").reencode("hubspot", text))
    }))

  it("with a generation that cannot be counted up is none", () => {
    for (const generation of [-1, Number.MAX_SAFE_INTEGER, 1.5]) {
      assert.isTrue(Option.isNone(decodeState(JSON.stringify({ generation }))), String(generation))
    }
  })
})
