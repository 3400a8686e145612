/**
 * After each failure, a search for the API key and for tokens in errors, logs and spans finds nothing, not even a prefix.
 */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Redacted, Schedule } from "effect"
import type { AdenFailure } from "../../../src/errors/AdenError.ts"
import type { AdenClient } from "../../../src/providers/aden/AdenClient.ts"
import {
  accessToken,
  apiKey,
  casesOver,
  connect,
  credentialBody,
  transports,
  transportsTested
} from "../../fixtures/adenClients.ts"
import type { Reply } from "../../fixtures/scriptedServer.ts"
import { drip, hang, html, redirect, reply, reset, scriptedServer, torn } from "../../fixtures/scriptedServer.ts"
import { witness } from "../../fixtures/witness.ts"

type Client = AdenClient["Service"]

const refreshToken = "1//0gZ8rRefreshTokenOfAPerson"
const needles = [apiKey, accessToken, refreshToken].flatMap((secret) => [secret, secret.slice(0, 8)])

const assertNoSecret = (shown: string, what: string) => {
  for (const needle of needles) {
    const at = shown.indexOf(needle)
    assert.strictEqual(at, -1, `${what} shows ${needle}: …${shown.slice(Math.max(0, at - 200), at + 50)}…`)
  }
}

const calls: ReadonlyArray<readonly [string, (client: Client) => Effect.Effect<unknown, AdenFailure>]> = [
  ["getCredential", (client) => client.getCredential("hubspot")],
  ["requestRefresh", (client) => client.requestRefresh("hubspot")],
  ["validateToken", (client) => client.validateToken("hubspot")],
  ["listIntegrations", (client) => client.listIntegrations],
  ["reportUsage", (client) => client.reportUsage("hubspot", { operation: "api_call", status: "success" })],
  ["healthCheck", (client) => client.healthCheck]
]

/** A message by a server that repeats what it was sent and what it has. */
const echo =
  `Bearer ${apiKey} is not known; key=${apiKey}, "${apiKey.slice(0, 12)}****"; the token ${accessToken} has expired ` +
  `(access_token=${accessToken}); refresh_token ${refreshToken}`
const secretBody = { ...credentialBody, refresh_token: refreshToken }

const replies: ReadonlyArray<readonly [string, Reply]> = [
  ["reset", reset],
  ["hang", hang],
  ["drip", drip(200, 10)],
  ["what is not HTTP", (response) => response.socket?.end(`${echo}\r\n\r\n`)],
  ["a body that is not as its header says", (response) => {
    response.socket?.end(`HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${echo}`)
  }],
  ["a torn credential", torn(200, JSON.stringify(secretBody).slice(0, -20))],
  ["cut JSON", reply(200, JSON.stringify(secretBody).slice(0, -20))],
  ["a credential in an array", reply(200, [secretBody])],
  ["a credential as text", reply(200, JSON.stringify(JSON.stringify(secretBody)))],
  ["a token of the wrong type", reply(200, { ...secretBody, access_token: [accessToken] })],
  ["a token with a line break", reply(200, { ...secretBody, access_token: `${accessToken}\n` })],
  ["the token as a field's name", reply(200, { ...secretBody, scopes: 5, metadata: { [accessToken]: 5 } })],
  [
    "the token in other fields",
    reply(200, { integration_id: accessToken, access_token: accessToken, expires_at: accessToken })
  ],
  ["another integration's id", reply(200, { ...secretBody, integration_id: "github" })],
  ["the token as the integration's id", reply(200, { ...secretBody, integration_id: accessToken })],
  ["an expired token", reply(200, { ...secretBody, expires_at: "2020-01-01T00:00:00Z" })],
  ["a list for another tenant", reply(200, { integrations: [secretBody], tenant_id: "tenant-999" })],
  ["HTML that repeats the key", reply(502, `<html>${echo}</html>`)],
  ["a redirect elsewhere", redirect(302, `https://elsewhere.example.com/?key=${apiKey}`)],
  ...[400, 401, 403, 404, 409, 422, 429, 500, 503].flatMap((status) => [
    [`${status} that repeats secrets in its message`, reply(status, { error: "some_error", message: echo })] as const,
    [`${status} that repeats secrets in its error`, reply(status, { error: echo })] as const,
    [
      `${status} refresh_failed that repeats secrets`,
      reply(status, { error: "refresh_failed", message: echo, access_token: accessToken, retry_after: accessToken })
    ] as const,
    [
      `${status} that asks for re-authorization with secrets`,
      reply(status, {
        error: "refresh_failed",
        message: echo,
        requires_reauthorization: true,
        reauthorization_url: "https://aden.example.com/connect"
      })
    ] as const
  ]),
  ["403 of a proxy", html(403)],
  ["a validation that repeats secrets", reply(200, { valid: "no", reason: echo })]
]

describe(`no secret in any failure (${transportsTested})`, () => {
  describe.each(transports)("$name", (transport) => {
    it.live.each(casesOver(transport, replies))("%s", ([, answer]) =>
      Effect.gen(function*() {
        const server = yield* scriptedServer({ replies: [answer] })
        const client = yield* connect(transport, server.url, {
          tenantId: "tenant-123",
          timeout: "60 millis",
          retry: Schedule.recurs(1),
          circuitBreaker: { failures: 1000 }
        })
        let failed = 0
        for (const [name, call] of calls) {
          const { exit, shown, spans } = yield* witness(call(client))
          if (Exit.isFailure(exit)) {
            failed++
            assert.isTrue(Cause.hasFails(exit.cause) && !Cause.hasDies(exit.cause), Cause.pretty(exit.cause))
          }
          assert.isAtLeast(spans.length, 2)
          assertNoSecret(shown, name)
        }
        assert.isAbove(failed, 0)
      }))

    it.live("connection refused, the circuit open, an id that no path can hold", () =>
      Effect.gen(function*() {
        const { url } = yield* Effect.scoped(scriptedServer())
        const client = yield* connect(transport, url, { circuitBreaker: { failures: 2 } })
        for (const [name, call] of calls) {
          const { exit, shown } = yield* witness(call(client))
          assert.isTrue(Exit.isFailure(exit))
          assertNoSecret(shown, name)
        }
        assertNoSecret((yield* witness(client.requestRefresh(".."))).shown, "..")
      }))

    it.live("success: nothing is logged, and no span shows the token", () =>
      Effect.gen(function*() {
        const server = yield* scriptedServer({ replies: [reply(200, secretBody)] })
        const client = yield* connect(transport, server.url)
        const { exit, shown, spans } = yield* witness(client.requestRefresh("hubspot"))
        assert(Exit.isSuccess(exit))
        assert.strictEqual(Redacted.value(exit.value.accessToken), accessToken)
        assertNoSecret(shown, "spans")
        assertNoSecret(JSON.stringify(exit.value), "the value as JSON")
        assert.isTrue(spans.some((span) => span.name === "AdenClient.requestRefresh"))
        assert.strictEqual(
          spans.find((span) => span.name === "AdenClient.requestRefresh")?.attributes.get("aden.integration"),
          "hubspot"
        )
      }))

    it.live("a key that was rotated: neither the old nor the new one is shown", () =>
      Effect.gen(function*() {
        const newKey = "zq_rotated_5Hs8"
        let current = apiKey
        const server = yield* scriptedServer({
          replies: [(response, request) =>
            reply(401, { error: "invalid_api_key", message: `${request.headers.authorization} is revoked` })(
              response,
              request
            )]
        })
        const client = yield* connect(transport, server.url, {
          apiKey: Effect.sync(() =>
            Redacted.make(current)
          )
        })
        current = newKey
        const { exit, shown } = yield* witness(client.requestRefresh("hubspot"))
        assert.isTrue(Exit.isFailure(exit))
        assert.strictEqual(server.requests.length, 2)
        assertNoSecret(shown, "the old key")
        assert.notInclude(shown, newKey.slice(0, 8))
      }))
  })

  it.live("a short key is masked whole, and what is not secret stays readable", () =>
    Effect.gen(function*() {
      const server = yield* scriptedServer({
        replies: [
          reply(401, { error: "invalid_api_key", message: "The key k3y of tenant-123 was revoked on 2026-01-28" })
        ]
      })
      for (const transport of transports) {
        const client = yield* connect(transport, server.url, { apiKey: Redacted.make("k3y") })
        const error = yield* Effect.flip(client.requestRefresh("hubspot"))
        assert(error._tag === "AdenUnauthorized")
        assert.strictEqual(error.detail, "The key <redacted> of tenant-123 was revoked on 2026-01-28")
      }
    }))
})
