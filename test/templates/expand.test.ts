import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import type { Schema } from "effect"
import { HttpClientRequest } from "effect/http"
import { Credential, CredentialKey } from "../../src/model/Credential.ts"
import { CredentialStore } from "../../src/store/CredentialStore.ts"
import { TestCredentials } from "../../src/testing/TestCredentials.ts"
import { witness } from "../fixtures/witness.ts"

const token = "CJTFwvnuLxIFAgEYz0Rk5PqM83vHdN2w"

const custom = (id: string, keys: Readonly<Record<string, string>>) =>
  new Credential({
    id,
    type: "custom",
    keys: new Map(
      Object.entries(keys).map(([name, value]) => [name, new CredentialKey({ name, value: Redacted.make(value) })])
    ),
    autoRefresh: false,
    description: "",
    tags: []
  })

const credentials = TestCredentials.layer([
  Credential.fromAccessToken({ id: "hubspot", accessToken: Redacted.make(token) }),
  Credential.fromAccessToken({
    id: "opaque-1",
    accessToken: Redacted.make("token-of-timothy"),
    provider: "google",
    alias: "Timothy"
  }),
  Credential.fromApiKey({ id: "brave", apiKey: Redacted.make("BSA-1") }),
  custom("db", { user: "ann", password: "p:w", _internal: "hidden" }),
  custom("trap", { value: "{{db.password}}", multi: "a\r\nX-Injected: 1", nul: "a\0b", name: "Zoë", crlf: "abc\n" })
])

const resolving = <A, E>(f: (store: CredentialStore["Service"]) => Effect.Effect<A, E>) =>
  Effect.flatMap(CredentialStore, f)

const resolved = (template: string, refs?: ReadonlyArray<string>) =>
  Effect.map(resolving((store) => store.resolve(template, refs === undefined ? undefined : { refs })), Redacted.value)

const plain = (record: Readonly<Record<string, Redacted.Redacted<string>>>) =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [name, Redacted.value(value)]))

describe("CredentialStore.resolve", () => {
  it.effect.each<readonly [string, string]>([
    ["Bearer {{hubspot.access_token}}", `Bearer ${token}`],
    ["{{hubspot}}", token],
    ["{{brave}}", "BSA-1"],
    ["{{google:Timothy.access_token}} {{google}}", "token-of-timothy token-of-timothy"],
    ["postgres://{{db.user}}:{{db.password}}@host", "postgres://ann:p:w@host"],
    ["no template", "no template"],
    ["\\{{hubspot}}", "{{hubspot}}"],
    // what a credential holds is text, whatever it looks like
    ["{{trap}}", "{{db.password}}"]
  ])("%s", ([template, expected]) =>
    Effect.gen(function*() {
      assert.strictEqual(yield* resolved(template), expected)
    }).pipe(Effect.provide(credentials)))

  it.effect("a missing credential, a missing key, and a credential without a token are typed errors", () =>
    Effect.gen(function*() {
      const missing = yield* Effect.flip(resolved("{{absent.access_token}}"))
      assert(missing._tag === "CredentialNotFound")
      assert.strictEqual(missing.ref, "absent")
      const key = yield* Effect.flip(resolved("{{hubspot.api_key}}"))
      assert(key._tag === "CredentialKeyNotFound")
      assert.deepStrictEqual([key.ref, key.key], ["hubspot", "api_key"])
    }).pipe(Effect.provide(credentials)))

  it.effect("a credential that a person has to bring back is ReauthRequired, with its URL", () =>
    Effect.gen(function*() {
      const test = yield* TestCredentials
      yield* test.revoke("hubspot", { reauthorizationUrl: "https://aden.example.com/connect" })
      const error = yield* Effect.flip(resolved("{{hubspot}}"))
      assert(error._tag === "ReauthRequired")
      assert.strictEqual(error.reauthorizationUrl, "https://aden.example.com/connect")
    }).pipe(Effect.provide(credentials)))

  it.effect("with a list, no other ref is used, however it is written, and nothing is read", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* resolved("{{brave}}", ["brave", "hubspot"]), "BSA-1")
      // opaque-1 is the same credential as google, under a name that is not listed
      for (const template of ["{{db.password}}", "{{brave}}{{db.user}}", "{{opaque-1}}", "{{absent}}", "{{BRAVE}}"]) {
        const error = yield* Effect.flip(resolved(template, ["brave", "google"]))
        assert(error._tag === "CredentialTemplateError")
        assert.strictEqual(error.reason._tag, "TemplateRefused")
      }
      const none = yield* Effect.flip(resolved("{{brave}}", []))
      assert.strictEqual(none._tag, "CredentialTemplateError")
    }).pipe(Effect.provide(credentials)))

  it.effect("keys that begin with an underscore are refused, though the credential has them", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(resolved("{{db._internal}}"))
      assert(error._tag === "CredentialTemplateError")
      assert.strictEqual(error.reason._tag, "TemplateRefused")
    }).pipe(Effect.provide(credentials)))

  it.effect("expands every text of a JSON value and nothing else of it", () =>
    Effect.gen(function*() {
      const body: Schema.Json = {
        token: "{{hubspot}}",
        "{{hubspot}}": 1,
        list: ["x", "{{brave}}", { deep: "\\{{brave}}" }],
        none: null,
        flag: true,
        ["__proto__"]: "{{db.user}}"
      }
      const answer = yield* resolving((store) => store.resolve(body))
      assert.isTrue(Redacted.isRedacted(answer))
      assert.deepStrictEqual(
        JSON.stringify(Redacted.value(answer)),
        JSON.stringify({
          token,
          "{{hubspot}}": 1,
          list: ["x", "BSA-1", { deep: "{{brave}}" }],
          none: null,
          flag: true,
          ["__proto__"]: "ann"
        })
      )
      const error = yield* Effect.flip(
        resolving((store) => store.resolve({ a: ["{{brave}}", "{{db.user}}"] }, { refs: ["brave"] }))
      )
      assert(error._tag === "CredentialTemplateError")
      assert.strictEqual(error.place, "field /a/1")
    }).pipe(Effect.provide(credentials)))

  it.effect("a JSON value that is nested without end is a typed error", () =>
    Effect.gen(function*() {
      let body: Schema.Json = "{{brave}}"
      for (let depth = 0; depth < 10_000; depth++) body = [body]
      const deep: Schema.Json = body
      const error = yield* Effect.flip(resolving((store) => store.resolve(deep)))
      assert(error._tag === "CredentialTemplateError")
      assert.match(error.message, /nested more than 500 deep/)
    }).pipe(Effect.provide(credentials)))
})

describe("CredentialStore.resolveHeaders", () => {
  it.effect("answers Redacted values under the names given", () =>
    Effect.gen(function*() {
      const headers = yield* resolving((store) =>
        store.resolveHeaders({ Authorization: "Bearer {{hubspot}}", "X-Plain": "a\tb", "X-Empty": "" })
      )
      assert.deepStrictEqual(plain(headers), { Authorization: `Bearer ${token}`, "X-Plain": "a\tb", "X-Empty": "" })
      assert.notInclude(JSON.stringify(headers), token)
    }).pipe(Effect.provide(credentials)))

  it.effect.each<readonly [string, Readonly<Record<string, string>>, RegExp]>([
    ["a line break from a credential", { "X-Key": "{{trap.multi}}" }, /in header X-Key .*a line break/],
    ["a line break at its end", { "X-Key": "{{trap.crlf}}" }, /a line break/],
    ["a line break of its own", { "X-Key": "{{brave}}\nX-Injected: 1" }, /a line break/],
    ["NUL", { "X-Key": "{{trap.nul}}" }, /a control character/],
    ["what is not ASCII", { "X-Key": "{{trap.name}}" }, /a character outside ASCII/],
    ["a name with a line break", { "X-Key\r\nX-Injected": "1" }, /the header's name/],
    ["an empty name", { "": "1" }, /the header's name/],
    ["an unclosed template", { "X-Key": "{{brave" }, /in header X-Key .*offset 0 is not closed/]
  ])("refuses %s, without showing the value", ([, headers, message]) =>
    Effect.gen(function*() {
      const { exit, shown } = yield* witness(resolving((store) => store.resolveHeaders(headers)))
      assert(exit._tag === "Failure")
      const error = yield* Effect.flip(exit)
      assert(error._tag === "CredentialTemplateError")
      assert.match(error.message, message)
      assert.notMatch(error.message, /[\r\n]/)
      assert.notInclude(shown, "BSA-1")
      assert.notInclude(shown, "X-Injected: 1")
    }).pipe(Effect.provide(credentials)))
})

describe("CredentialStore.resolveParams", () => {
  it.effect("answers what a request takes as it is, and what a request prints shows none of it", () =>
    Effect.gen(function*() {
      const params = yield* resolving((store) => store.resolveParams({ key: "{{brave}}", q: "a&b=ä" }))
      assert.deepStrictEqual(plain(params), { key: "BSA-1", q: "a&b=ä" })
      const request = HttpClientRequest.get("https://api.good.test").pipe(HttpClientRequest.setUrlParams(params))
      assert.notInclude(JSON.stringify(request), "BSA-1")
    }).pipe(Effect.provide(credentials)))
})

describe("what is shown of a template", () => {
  it.effect("no log, span or error holds what it was expanded to", () =>
    Effect.gen(function*() {
      const { exit, shown, spans } = yield* witness(
        resolving((store) =>
          Effect.all([
            store.resolve("{{hubspot}}"),
            store.resolveHeaders({ a: "{{hubspot}}" }),
            store.resolveParams({ a: "{{hubspot}}" }),
            store.resolve({ a: "{{hubspot}}" }),
            Effect.flip(store.resolve("{{hubspot}} {{absent}}"))
          ])
        )
      )
      assert.isTrue(exit._tag === "Success")
      assert.isTrue(spans.some(({ name }) => name === "CredentialStore.resolveHeaders"))
      assert.notInclude(shown, token)
      assert.notInclude(shown, token.slice(0, 8))
    }).pipe(Effect.provide(credentials)))
})
