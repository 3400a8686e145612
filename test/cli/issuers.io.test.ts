import { assert, describe, it } from "@effect/vitest"
import { Credential } from "aden-credentials"
import { ListDocument } from "aden-credentials/cli"
import { AdenEmulator } from "aden-credentials/emulator"
import { Context, Effect, Layer, Option, Redacted, Schema } from "effect"
import { inDirectory, temporaryDirectory } from "../storage/temporaryStorage.ts"
import { encryptionKey, run } from "./harness.ts"

const aden = (tenantId: string) =>
  Effect.map(
    Layer.build(Layer.fresh(AdenEmulator.layer({
      tenantId,
      apiKeys: [Redacted.make(`aden_sk_${tenantId}_7Qk2vB9xZr4T`)],
      integrations: [{ id: "hubspot", tokenLifetime: "1 hour" }, { id: "github" }]
    }))),
    (context) => Context.get(context, AdenEmulator)
  )

/** One directory, and what two tenants set. */
const twoUsers = Effect.gen(function*() {
  const directory = yield* temporaryDirectory
  const [first, second] = [yield* aden("acme"), yield* aden("globex")]
  const environmentOf = ({ apiKey, tenantId, url }: AdenEmulator["Service"]) => ({
    ADEN_API_URL: url,
    ADEN_API_KEY: Redacted.value(apiKey),
    ADEN_TENANT_ID: tenantId,
    HIVE_CREDENTIAL_KEY: encryptionKey
  })
  const as = (environment: Readonly<Record<string, string>>) => (...args: ReadonlyArray<string>) =>
    run([...args, "--directory", directory], environment)
  return { directory, first, second, environmentOf, as }
})

const tokensOf = ({ issuedTokens }: AdenEmulator["Service"]) =>
  Effect.map(issuedTokens, (all) => all.map(({ value }) => Redacted.value(value)))

describe("aden-creds: a directory that another tenant has filled", () => {
  it.live("its tokens are not handed out, and not deleted", () =>
    Effect.gen(function*() {
      const { as, environmentOf, first, second } = yield* twoUsers
      const asFirst = as(environmentOf(first))
      const asSecond = as(environmentOf(second))
      assert.strictEqual((yield* asFirst("sync")).status, 0)

      const missing = yield* asSecond("explain", "hubspot")
      assert.strictEqual(missing.status, 6)
      assert.include(missing.stderr, `issuer=${first.url}, tenant=acme`)
      assert.strictEqual((yield* asSecond("delete", "hubspot")).status, 6)

      const { stderr, stdout } = yield* asSecond("token", "hubspot")
      assert.include(yield* tokensOf(second), stdout.trim())
      assert.include(stderr, `issuer=${first.url}, tenant=acme`)
      assert.strictEqual((yield* asSecond("explain", "hubspot")).status, 0)
      assert.strictEqual((yield* asSecond("delete", "hubspot")).status, 0)

      yield* first.clearRequests
      assert.include(yield* tokensOf(first), (yield* asFirst("token", "hubspot")).stdout.trim())
      assert.strictEqual(yield* first.countRequests(), 0)
    }).pipe(Effect.scoped), 60_000)

  it.live("ADEN_ISSUER names one Aden that has several URLs", () =>
    Effect.gen(function*() {
      const { as, environmentOf, first } = yield* twoUsers
      const environment = { ...environmentOf(first), ADEN_ISSUER: "our-aden" }
      const filled = yield* as(environment)("token", "hubspot")
      const elsewhere = as({ ...environment, ADEN_API_URL: "http://127.0.0.1:9" })
      const again = yield* elsewhere("token", "hubspot")
      assert.deepStrictEqual([again.stdout, again.status], [filled.stdout, 0])
      const invalid = yield* as({ ...environment, ADEN_ISSUER: "a\u0000b" })("list")
      assert.strictEqual(invalid.status, 2)
      assert.include(invalid.stderr, "ADEN_ISSUER")
    }).pipe(Effect.scoped), 60_000)
})

describe("aden-creds: whose a credential is", () => {
  const prepared = Effect.gen(function*() {
    const users = yield* twoUsers
    const asFirst = users.as(users.environmentOf(users.first))
    const asSecond = users.as(users.environmentOf(users.second))
    assert.strictEqual((yield* asFirst("sync")).status, 0)
    assert.strictEqual((yield* asSecond("token", "hubspot")).status, 0)
    return { ...users, asFirst, asSecond }
  })
  const listed = (stdout: string) =>
    Effect.map(
      Schema.decodeEffect(Schema.fromJsonString(ListDocument))(stdout),
      (all) => all.map(({ id, isOthers, issuer }) => [id, isOthers, issuer?.tenantId])
    )

  it.live("list shows what is another's, explain and doctor whose", () =>
    Effect.gen(function*() {
      const { asFirst, asSecond, first, second } = yield* prepared
      assert.deepStrictEqual(yield* listed((yield* asSecond("list", "--json")).stdout), [
        ["hubspot", false, "globex"],
        ["github", true, "acme"],
        ["hubspot", true, "acme"]
      ])
      const place = `~${JSON.stringify(["hubspot", second.url])}`
      assert.deepStrictEqual(yield* listed((yield* asFirst("list", "--json")).stdout), [
        ["github", false, "acme"],
        ["hubspot", false, "acme"],
        [place, true, "globex"]
      ])
      assert.include((yield* asSecond("list")).stdout, `${first.url}, tenant acme`)
      assert.include((yield* asSecond("explain", "hubspot")).stdout, `${second.url}, tenant globex`)
      const doctor = (yield* asSecond("doctor")).stdout
      assert.include(doctor, `${first.url}, tenant acme (2)`)
      assert.include(doctor, `${second.url}, tenant globex (1)`)
    }).pipe(Effect.scoped), 60_000)

  it.live("adopt takes over what is another's, or deletes it, and replaces nothing", () =>
    Effect.gen(function*() {
      const { as, asFirst, asSecond, environmentOf, first, second } = yield* prepared
      const missing = yield* asSecond("adopt", "weather")
      assert.strictEqual(missing.status, 6)
      const taken = yield* asSecond("adopt", "hubspot")
      assert.strictEqual(taken.status, 2)
      assert.include(taken.stderr, "already")

      assert.strictEqual((yield* asSecond("delete", "hubspot")).status, 0)
      const adopted = yield* asSecond("adopt", "hubspot", "--json")
      assert.strictEqual(adopted.status, 0)
      assert.include(adopted.stdout, "\"outcome\":\"adopted\"")
      assert.strictEqual((yield* asSecond("adopt", "github", "--delete")).status, 0)
      assert.deepStrictEqual(yield* listed((yield* asSecond("list", "--json")).stdout), [["hubspot", false, "globex"]])
      assert.deepStrictEqual(yield* listed((yield* asFirst("list", "--json")).stdout), [["hubspot", true, "globex"]])

      // one that is in a second place comes under its own id, where the own one was before
      assert.strictEqual((yield* asFirst("token", "hubspot")).status, 0)
      assert.strictEqual((yield* asSecond("delete", "hubspot")).status, 0)
      const place = `~${JSON.stringify(["hubspot", first.url])}`
      assert.strictEqual((yield* asSecond("adopt", place)).status, 0)
      assert.deepStrictEqual(yield* listed((yield* asSecond("list", "--json")).stdout), [["hubspot", false, "globex"]])
      assert.deepStrictEqual(yield* listed((yield* asFirst("list", "--json")).stdout), [
        [`~${JSON.stringify(["hubspot", second.url])}`, true, "globex"]
      ])

      const { ADEN_API_URL: _, ...unset } = environmentOf(second)
      const unconfigured = yield* as(unset)("adopt", "hubspot")
      assert.strictEqual(unconfigured.status, 2)
      assert.include(unconfigured.stderr, "ADEN_API_URL")
    }).pipe(Effect.scoped), 60_000)

  it.live("doctor warns of what names no issuer beside those of several", () =>
    Effect.gen(function*() {
      const { asSecond, directory } = yield* prepared
      yield* inDirectory(directory, [Redacted.make(encryptionKey)])((storage) =>
        Effect.flatMap(storage.load("github"), (github) =>
          storage.save(new Credential({ ...Option.getOrThrow(github), issuer: undefined })))
      )
      const { status, stdout } = yield* asSecond("doctor")
      assert.strictEqual(status, 8)
      assert.include(stdout, "1 credential of Aden's that names none")
    }).pipe(Effect.scoped), 60_000)
})
