import { assert, describe, it } from "@effect/vitest"
import { AdenClient } from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { Effect, Layer, Option, Redacted } from "effect"
import { FetchHttpClient } from "effect/http"

/** What any Aden server must do. Reads only: nothing is refreshed, reported or changed at the server. */
const suite = (name: string, layer: Layer.Layer<AdenClient, unknown>) =>
  describe(name, () => {
    const provide = Effect.provide(layer)

    it.live("is healthy, and says so without an API key", () =>
      Effect.gen(function*() {
        const client = yield* AdenClient
        const health = yield* client.healthCheck
        assert.isNotEmpty(health.status)
      }).pipe(provide))

    it.live("lists integrations, and every item can be read", () =>
      Effect.gen(function*() {
        const client = yield* AdenClient
        const { accounts, malformed } = yield* client.listIntegrations
        assert.deepStrictEqual(malformed, [])
        assert.strictEqual(new Set(accounts.map((account) => account.id)).size, accounts.length)
      }).pipe(provide))

    it.live("answers each active integration with a token for that integration", () =>
      Effect.gen(function*() {
        const client = yield* AdenClient
        const { accounts } = yield* client.listIntegrations
        for (const account of accounts.filter(({ status }) => status === "active")) {
          const credential = Option.getOrThrow(yield* client.getCredential(account.id))
          assert.strictEqual(credential.id, account.id)
          assert.isNotEmpty(Redacted.value(credential.accessToken))
        }
      }).pipe(provide))

    it.live("validates each integration: active ones are valid, blocked ones say where to authorize", () =>
      Effect.gen(function*() {
        const client = yield* AdenClient
        const { accounts } = yield* client.listIntegrations
        for (const account of accounts) {
          const validation = yield* client.validateToken(account.id)
          if (account.status === "active") assert.isTrue(validation.valid)
          if (account.status === "requires_reauth") assert.isTrue(validation.requiresReauthorization)
        }
      }).pipe(provide))

    it.live("does not have an integration of a made-up id", () =>
      Effect.gen(function*() {
        const client = yield* AdenClient
        assert.isTrue(Option.isNone(yield* client.getCredential("no-such-integration-5f0c")))
        const error = yield* Effect.flip(client.validateToken("no-such-integration-5f0c"))
        assert.strictEqual(error._tag, "IntegrationNotFound")
      }).pipe(provide))
  })

suite(
  "the emulator",
  Layer.unwrap(
    Effect.map(
      AdenEmulator,
      (aden) => AdenClient.layer({ baseUrl: aden.url, apiKey: aden.apiKey, tenantId: aden.tenantId })
    )
  ).pipe(
    Layer.provide(FetchHttpClient.layer),
    Layer.provide(AdenEmulator.layer())
  )
)

const { ADEN_STAGING_API_KEY, ADEN_STAGING_URL } = process.env
if (ADEN_STAGING_URL === undefined || ADEN_STAGING_API_KEY === undefined) {
  describe("a real Aden server", () => {
    it.skip("left out: set ADEN_STAGING_URL and ADEN_STAGING_API_KEY to run it", () => undefined)
  })
} else {
  suite(
    "a real Aden server",
    AdenClient.layer({ baseUrl: ADEN_STAGING_URL, apiKey: Redacted.make(ADEN_STAGING_API_KEY) }).pipe(
      Layer.provide(FetchHttpClient.layer)
    )
  )
}
