import { assert, describe, it } from "@effect/vitest"
import { AdenEmulator } from "aden-credentials/emulator"
import { Context, Effect, Layer, Redacted } from "effect"
import { temporaryDirectory } from "../storage/temporaryStorage.ts"
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
