import { assert, describe, it } from "@effect/vitest"
import { AdenEmulator } from "aden-credentials/emulator"
import { Effect } from "effect"
import * as http from "node:http"

describe("the request log", () => {
  it.live(
    "does not grow without end: the last 10,000 requests, tokens and usage reports are remembered",
    () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const agent = new http.Agent({ keepAlive: true, maxSockets: 8 })
        const { hostname, port } = new URL(aden.url)
        const body = JSON.stringify({ operation: "api_call", status: "success", timestamp: "2026-01-28T14:00:00Z" })
        const report = (index: number) =>
          Effect.callback<void, Error>((resume) => {
            const request = http.request({
              hostname,
              port,
              agent,
              method: "POST",
              path: "/v1/credentials/github/usage",
              headers: {
                "content-type": "application/json",
                authorization: "Bearer emulator-api-key",
                "idempotency-key": `key-${index}`,
                connection: "keep-alive"
              }
            }, (response) => response.resume().on("end", () => resume(Effect.void)))
            request.on("error", (error) => resume(Effect.fail(error))).end(body)
          })
        yield* Effect.forEach(Array.from({ length: 10_050 }, (_, index) => index), report, {
          concurrency: 8,
          discard: true
        })
        agent.destroy()
        const requests = yield* aden.requests
        assert.strictEqual(requests.length, 10_000)
        assert.strictEqual(yield* aden.countRequests(), 10_000)
        assert.strictEqual(requests.at(-1)?.integrationId, "github")
        assert.isTrue(requests.every(({ idempotencyKey }) => idempotencyKey !== "key-0"), "the oldest are forgotten")
        assert.strictEqual((yield* aden.usage).length, 10_000)

        yield* Effect.replicateEffect(aden.connect("github"), 10_050, { discard: true })
        const tokens = yield* aden.issuedTokens
        assert.strictEqual(tokens.length, 10_000)
        assert.strictEqual(tokens.at(-1)?.number, 10_051)
        assert.strictEqual(tokens[0]?.number, 52)
      }).pipe(Effect.provide(AdenEmulator.layer({ integrations: [{ id: "github" }] }))),
    120_000
  )
})
