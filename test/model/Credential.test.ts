import { assert, describe, it } from "@effect/vitest"
import { accountOf, Credential, type CredentialAccount, CredentialKey, resolveRef } from "aden-credentials"
import { DateTime, Effect, Equal, Redacted, Schema } from "effect"
import { inspect } from "node:util"

const secret = "CJTFwvnuLxIFAgEY-secret"
const token = Redacted.make(secret)

describe("Credential", () => {
  it("fromAccessToken: one access_token with its expiry, reachable by provider and alias", () => {
    const expiresAt = DateTime.makeUnsafe("2030-01-01T00:00:00Z")
    const credential = Credential.fromAccessToken({
      id: "x",
      accessToken: token,
      expiresAt,
      provider: "google",
      alias: "Timothy"
    })
    assert.strictEqual(credential.type, "oauth2")
    assert.isTrue(Equal.equals(credential.defaultKey?.value, token))
    assert.deepStrictEqual(credential.expiresAt, expiresAt)
    assert.deepStrictEqual(accountOf(credential), { id: "x", provider: "google", alias: "Timothy" })
    assert.strictEqual(credential.providerId, undefined)
    assert.isFalse(credential.isAdenManaged)
  })

  it("fromApiKey: one api_key that does not expire", () => {
    const credential = Credential.fromApiKey({ id: "brave", apiKey: token })
    assert.strictEqual(credential.type, "api_key")
    assert.strictEqual(credential.defaultKey?.name, "api_key")
    assert.strictEqual(credential.expiresAt, undefined)
  })

  it("the default key of what is not OAuth or bearer is value, api_key, access_token or the first, never an internal one", () => {
    const of = (...names: ReadonlyArray<string>) =>
      new Credential({
        ...Credential.fromApiKey({ id: "x", apiKey: token }),
        type: "custom",
        keys: new Map(names.map((name) => [name, new CredentialKey({ name, value: token })]))
      }).defaultKey?.name
    assert.strictEqual(of("access_token", "api_key", "value"), "value")
    assert.strictEqual(of("access_token", "api_key"), "api_key")
    assert.strictEqual(of("other", "access_token"), "access_token")
    assert.strictEqual(of("_alias", "password"), "password")
    assert.strictEqual(of("_alias"), undefined)
    assert.strictEqual(of(), undefined)
  })

  it("an OAuth credential without access_token has no default key: a refresh token is never taken for one", () => {
    const credential = new Credential({
      ...Credential.fromApiKey({ id: "x", apiKey: token }),
      type: "oauth2",
      keys: new Map([["refresh_token", new CredentialKey({ name: "refresh_token", value: token })]])
    })
    assert.strictEqual(credential.defaultKey, undefined)
  })

  it("a key named __proto__ is an ordinary key", () => {
    const credential = new Credential({
      ...Credential.fromApiKey({ id: "x", apiKey: token }),
      keys: new Map([["__proto__", new CredentialKey({ name: "__proto__", value: token })]])
    })
    assert.isTrue(Equal.equals(credential.keys.get("__proto__")?.value, token))
    assert.strictEqual(Object.getPrototypeOf({}), Object.prototype)
  })

  it("shows no value when it is printed, serialised or inspected", () => {
    const credential = new Credential({
      ...Credential.fromAccessToken({ id: "x", accessToken: token }),
      extra: new Map([["unknown", Redacted.make(JSON.stringify(secret))]])
    })
    for (
      const text of [
        String(credential),
        JSON.stringify(credential),
        inspect(credential, { depth: Infinity, showHidden: true })
      ]
    ) {
      assert.notInclude(text, secret.slice(0, 8))
    }
  })

  describe("names that hold what is not for people", () => {
    const texts = {
      _integration_type: "goo\u200bgle",
      _alias: "\u001b]52;c;ZXZpbA==\u0007Work\nerror: run it",
      _identity_email: `${"a".repeat(600)}@example.test`,
      _identity_username: "\u202e",
      scope: "read wri\u009bte"
    }
    const credential = new Credential({
      ...Credential.fromAccessToken({ id: "x", accessToken: token }),
      keys: new Map(
        Object.entries(texts).map(([name, text]) => [name, new CredentialKey({ name, value: Redacted.make(text) })])
      )
    })

    it("are read as a person may see them", () => {
      assert.strictEqual(credential.integrationType, "google")
      assert.strictEqual(credential.alias, "]52;c;ZXZpbA==Workerror: run it")
      assert.strictEqual(credential.identity.email, "a".repeat(500))
      assert.strictEqual(credential.identity.username, undefined)
      assert.deepStrictEqual(credential.scopes, ["read", "write"])
    })

    it("are kept, and compared with refs, as they are", () => {
      const { _alias: alias, _integration_type: provider } = texts
      assert.deepStrictEqual(accountOf(credential), { id: "x", provider, alias })
      assert.strictEqual(Redacted.value(credential.keys.get("_alias")!.value), alias)
      assert.deepStrictEqual(resolveRef(`${provider}:${alias}`, [accountOf(credential)]), { _tag: "Found", id: "x" })
      assert.deepStrictEqual(resolveRef("google", [accountOf(credential)]), { _tag: "Missing" })
    })
  })

  describe("renewedBy", () => {
    const held = new Credential({
      ...Credential.fromAccessToken({
        id: "x",
        accessToken: token,
        expiresAt: DateTime.makeUnsafe(1),
        provider: "google",
        alias: "A"
      }),
      description: "mine",
      tags: ["prod"],
      extra: new Map([["name", Redacted.make("1.0")]])
    })
    const renewed = held.renewedBy(Credential.fromAccessToken({ id: "x", accessToken: Redacted.make("new") }))

    it("takes the token with its expiry: an old expiry is not inherited", () => {
      assert.strictEqual(Redacted.value(renewed.keys.get("access_token")!.value), "new")
      assert.strictEqual(renewed.expiresAt, undefined)
    })

    it("keeps what the answer does not name", () => {
      assert.strictEqual(renewed.alias, "A")
      assert.strictEqual(renewed.integrationType, "google")
      assert.strictEqual(renewed.description, "mine")
      assert.deepStrictEqual(renewed.tags, ["prod"])
      assert.isTrue(Equal.equals(renewed.extra, held.extra))
    })

    it("a token's lifetime runs from its first receipt: receiving the same token again does not restart it", () => {
      const first = new Credential({ ...held, lastRefreshed: DateTime.makeUnsafe(1_000) })
      const again = first.renewedBy(new Credential({ ...held, lastRefreshed: DateTime.makeUnsafe(9_000) }))
      assert.deepStrictEqual(again.lastRefreshed, DateTime.makeUnsafe(1_000))
    })
  })
})

describe("resolveRef", () => {
  const accounts: ReadonlyArray<CredentialAccount> = [
    { id: "h1", provider: "google", alias: "Timothy" },
    { id: "h2", provider: "google", alias: "Ada" },
    { id: "h3", provider: "hubspot", alias: undefined },
    { id: "slack", provider: "chat", alias: "a:b" },
    { id: "h4", provider: "slack", alias: undefined },
    { id: "own", provider: undefined, alias: undefined }
  ]

  it("an exact id wins", () => {
    assert.deepStrictEqual(resolveRef("slack", accounts), { _tag: "Found", id: "slack" })
    assert.deepStrictEqual(resolveRef("own", accounts), { _tag: "Found", id: "own" })
  })

  it("then the provider with one account", () => {
    assert.deepStrictEqual(resolveRef("hubspot", accounts), { _tag: "Found", id: "h3" })
  })

  it("choices are refs that are shown as they are: an account whose alias is not goes by its id", () => {
    const odd = [
      { id: "odd", provider: "google", alias: "Timo\u200bthy" },
      { id: "long", provider: "google", alias: "a".repeat(501) }
    ]
    assert.deepStrictEqual(resolveRef("google", [...accounts, ...odd]), {
      _tag: "Ambiguous",
      choices: ["google:Ada", "google:Timothy", "long", "odd"]
    })
  })

  it("then provider:alias, colons in the alias included", () => {
    assert.deepStrictEqual(resolveRef("google:Ada", accounts), { _tag: "Found", id: "h2" })
    assert.deepStrictEqual(resolveRef("chat:a:b", accounts), { _tag: "Found", id: "slack" })
  })

  it("a provider with several accounts is ambiguous, with refs that name one each", () => {
    assert.deepStrictEqual(resolveRef("google", accounts), {
      _tag: "Ambiguous",
      choices: ["google:Ada", "google:Timothy"]
    })
  })

  it("an alias that two accounts share is ambiguous, with their ids", () => {
    const shared = [...accounts, { id: "h5", provider: "google", alias: "Ada" }]
    assert.deepStrictEqual(resolveRef("google:Ada", shared), { _tag: "Ambiguous", choices: ["h2", "h5"] })
  })

  it("anything else is missing", () => {
    for (const ref of ["", "nothing", "google:", "google:Absent", ":Ada", "Google"]) {
      assert.deepStrictEqual(resolveRef(ref, accounts), { _tag: "Missing" })
    }
  })

  const Account = Schema.Struct({
    id: Schema.Literals(["a", "b", "c", "google", "google:x"]),
    provider: Schema.UndefinedOr(Schema.Literals(["google", "a", "hubspot"])),
    alias: Schema.UndefinedOr(Schema.Literals(["x", "y"]))
  })

  it.effect.prop("every choice it offers names exactly one account", [
    Schema.Array(Account),
    Schema.Literals(["google", "a", "hubspot", "google:x", "hubspot:y"])
  ], ([generated, ref]) =>
    Effect.sync(() => {
      const unique = [...new Map(generated.map((account) => [account.id, account])).values()]
      const resolution = resolveRef(ref, unique)
      if (resolution._tag === "Found") assert.isTrue(unique.some(({ id }) => id === resolution.id))
      if (resolution._tag === "Ambiguous") {
        for (const choice of resolution.choices) assert.strictEqual(resolveRef(choice, unique)._tag, "Found", choice)
      }
    }))
})
