/**
 * Every row of the table of answers: which error each stands for, and how often the client asks.
 */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration, Effect, Option, Redacted, Schedule } from "effect"
import type { AdenFailure } from "../../../src/errors/AdenError.ts"
import type { AdenClient, AdenClientOptions } from "../../../src/providers/aden/AdenClient.ts"
import {
  accessToken,
  casesOver,
  connect,
  credentialBody,
  transports,
  transportsTested
} from "../../fixtures/adenClients.ts"
import type { Transport } from "../../fixtures/adenClients.ts"
import type { Reply } from "../../fixtures/scriptedServer.ts"
import { drip, hang, html, redirect, reply, reset, scriptedServer, torn } from "../../fixtures/scriptedServer.ts"

type Client = AdenClient["Service"]

/** The five calls that carry the API key; the last is outside the circuit. */
const calls: ReadonlyArray<
  { readonly name: string; readonly call: (client: Client) => Effect.Effect<unknown, AdenFailure> }
> = [
  { name: "getCredential", call: (client) => client.getCredential("hubspot") },
  { name: "requestRefresh", call: (client) => client.requestRefresh("hubspot") },
  { name: "validateToken", call: (client) => client.validateToken("hubspot") },
  { name: "listIntegrations", call: (client) => client.listIntegrations },
  { name: "reportUsage", call: (client) => client.reportUsage("hubspot", { operation: "api_call", status: "success" }) }
]

const start = Effect.fnUntraced(function*(transport: Transport, options: Partial<AdenClientOptions> = {}) {
  const server = yield* scriptedServer()
  const client = yield* connect(transport, server.url, { circuitBreaker: { failures: 1000 }, ...options })
  /** The failure of a call, and how many requests it took, when the server gives these replies. */
  const failing = Effect.fnUntraced(
    function*(call: (client: Client) => Effect.Effect<unknown, AdenFailure>, ...replies: ReadonlyArray<Reply>) {
      server.script(...replies)
      const before = server.requests.length
      const error = yield* Effect.flip(call(client))
      return { error, requests: server.requests.length - before }
    }
  )
  return { server, client, failing }
})

const refresh = (client: Client) => client.requestRefresh("hubspot")

const assertUnavailable = (
  error: AdenFailure,
  reason: "AdenConnectionFailed" | "AdenTimeout" | "AdenProtocolError"
) => {
  assert(error._tag === "AdenUnavailable", `${error._tag}: ${error.message}`)
  assert.strictEqual(error.reason._tag, reason, error.message)
  assert.isTrue(error.isRetryable)
}

const inSeconds = (seconds: number) => new Date(Date.now() + seconds * 1000).toUTCString()

describe(`what Aden's answers mean (${transportsTested})`, () => {
  describe.each(transports)("$name", (transport) => {
    describe("no answer: AdenUnavailable, retried", () => {
      it.live("connection refused", () =>
        Effect.gen(function*() {
          // the port was free a moment ago, and nothing listens on it
          const { port } = yield* Effect.scoped(scriptedServer())
          const client = yield* connect(transport, `http://127.0.0.1:${port}`)
          const error = yield* Effect.flip(client.getCredential("hubspot"))
          assertUnavailable(error, "AdenConnectionFailed")
          assert.include(error.message, "ECONNREFUSED")
        }))

      it.live("reset before the headers", () =>
        Effect.gen(function*() {
          const { failing } = yield* start(transport)
          for (const { call, name } of calls) {
            const { error, requests } = yield* failing(call, reset)
            assertUnavailable(error, "AdenConnectionFailed")
            assert.strictEqual(requests, 3, name)
          }
        }))

      it.live("reset in the middle of a body", () =>
        Effect.gen(function*() {
          const { failing } = yield* start(transport)
          const { error, requests } = yield* failing(refresh, torn(200, "{\"access_token\":\"" + accessToken))
          assertUnavailable(error, "AdenConnectionFailed")
          assert.strictEqual(requests, 3)
          assert.notInclude(error.message, accessToken.slice(0, 8))
        }))

      it.live("DNS", () =>
        Effect.gen(function*() {
          const client = yield* connect(transport, "https://aden.invalid")
          const error = yield* Effect.flip(client.getCredential("hubspot"))
          assertUnavailable(error, "AdenConnectionFailed")
          assert.match(error.message, /ENOTFOUND|EAI_AGAIN/)
        }))

      it.live("a port that fetch never connects to", () =>
        Effect.gen(function*() {
          const client = yield* connect(transport, "http://127.0.0.1:1")
          const error = yield* Effect.flip(client.getCredential("hubspot"))
          assertUnavailable(error, "AdenConnectionFailed")
          assert.include(error.message, transport.name === "fetch" ? "refuses to connect to this port" : "ECONNREFUSED")
        }))

      it.live("TLS", () =>
        Effect.gen(function*() {
          const server = yield* scriptedServer()
          const client = yield* connect(transport, `https://127.0.0.1:${server.port}`)
          assertUnavailable(yield* Effect.flip(client.getCredential("hubspot")), "AdenConnectionFailed")
          assert.strictEqual(server.requests.length, 0)
        }))

      it.live("timeout of each attempt", () =>
        Effect.gen(function*() {
          const { failing } = yield* start(transport, { timeout: "100 millis" })
          for (const [name, silence] of [["no headers", hang], ["a body that drips", drip(200, 10)]] as const) {
            const { error, requests } = yield* failing(refresh, silence)
            assertUnavailable(error, "AdenTimeout")
            assert.include(error.message, "100ms")
            assert.strictEqual(requests, 3, name)
          }
        }))

      it.live("a retry that is answered", () =>
        Effect.gen(function*() {
          const { client, server } = yield* start(transport, { timeout: "500 millis" })
          server.script(hang, reset, reply(200, credentialBody))
          assert.strictEqual(Redacted.value((yield* client.requestRefresh("hubspot")).accessToken), accessToken)
          assert.strictEqual(server.requests.length, 3)
        }))

      it.live("the refresh reached Aden and its answer was lost: the retry recovers", () =>
        Effect.gen(function*() {
          const { client, server } = yield* start(transport)
          let refreshed = 0
          const lost: Reply = (response, request) => {
            refreshed++
            torn(200, "{\"access_token\":\"lost")(response, request)
          }
          server.script(lost, (response, request) => {
            refreshed++
            reply(200, { ...credentialBody, access_token: `${accessToken}.${refreshed}` })(response, request)
          })
          const credential = yield* client.requestRefresh("hubspot")
          assert.strictEqual(Redacted.value(credential.accessToken), `${accessToken}.2`)
          assert.strictEqual(refreshed, 2)
        }))
    })

    describe("408, 5xx, a body that does not decode: AdenUnavailable, retried", () => {
      it.live.each(casesOver(transport, [408, 500, 501, 502, 503, 504, 507, 599]))(
        "%i",
        (status) =>
          Effect.gen(function*() {
            const { failing } = yield* start(transport)
            for (const { call, name } of calls) {
              for (
                const answer of [html(status), reply(status, ""), reply(status, { error: "internal", message: "no" })]
              ) {
                const { error, requests } = yield* failing(call, answer)
                assertUnavailable(error, "AdenProtocolError")
                assert.include(error.message, `HTTP ${status}`)
                assert.strictEqual(requests, 3, name)
              }
            }
          })
      )

      it.live("a body that does not decode", () =>
        Effect.gen(function*() {
          const { failing } = yield* start(transport)
          for (const { call, name } of calls) {
            for (const answer of [html(200), reply(200, ""), reply(200, "{\"access"), reply(200, []), reply(204, "")]) {
              const { error, requests } = yield* failing(call, answer)
              assertUnavailable(error, "AdenProtocolError")
              assert.strictEqual(requests, 3, name)
            }
          }
        }))

      it.live("a health check", () =>
        Effect.gen(function*() {
          const { failing } = yield* start(transport)
          for (const answer of [html(503), reply(200, "{}"), html(200)]) {
            const { error, requests } = yield* failing((client) => client.healthCheck, answer)
            assertUnavailable(error, "AdenProtocolError")
            assert.strictEqual(requests, 3)
          }
        }))
    })

    describe("429: RateLimited", () => {
      const limited = Effect.fnUntraced(function*(headers: Record<string, string>, body: unknown) {
        const { failing } = yield* start(transport, { maxRetryAfter: 0 })
        const { error } = yield* failing(refresh, reply(429, body, headers))
        assert(error._tag === "RateLimited", error._tag)
        assert.strictEqual(error.id, "hubspot")
        assert.isTrue(error.isRetryable)
        const seconds = Duration.toSeconds(error.retryAfter)
        assert.isTrue(seconds >= 0 && seconds <= 3600, `${seconds} s`)
        return seconds
      })
      const seedBody = {
        error: "rate_limited",
        message: "Too many refresh requests. Try again later.",
        retry_after: 25
      }

      it.live.each(casesOver<readonly [string, number]>(transport, [
        ["120", 120],
        ["0", 0],
        [" 5 ", 5],
        ["007", 7],
        ["9999999999", 3600],
        ["9".repeat(400), 3600],
        ["1.5", 25],
        ["-3", 25],
        ["soon", 25],
        ["", 25],
        ["1e3", 25],
        ["Infinity", 25],
        ["NaN", 25],
        ["0x10", 25],
        ["5, 10", 25],
        ["Mon, 99 Foo 2026 00:00:00 GMT", 25]
      ]))("Retry-After %j", ([header, expected]) =>
        Effect.gen(function*() {
          assert.strictEqual(yield* limited({ "retry-after": header }, seedBody), expected)
        }))

      it.live("Retry-After as an HTTP date ahead, behind and far ahead, against the local clock", () =>
        Effect.gen(function*() {
          const ahead = yield* limited({ "retry-after": inSeconds(90) }, seedBody)
          assert.isTrue(ahead > 85 && ahead <= 90, `${ahead} s`)
          assert.strictEqual(yield* limited({ "retry-after": inSeconds(-90) }, seedBody), 0)
          assert.strictEqual(yield* limited({ "retry-after": inSeconds(90_000) }, seedBody), 3600)
        }))

      it.live("Retry-After as an HTTP date is read against the answer's own Date", () =>
        Effect.gen(function*() {
          const date = "Sun, 06 Nov 1994 08:49:37 GMT"
          for (
            const text of [
              "Sun, 06 Nov 1994 08:50:07 GMT",
              "Sunday, 06-Nov-94 08:50:07 GMT",
              "Sun Nov  6 08:50:07 1994"
            ]
          ) {
            assert.strictEqual(yield* limited({ date, "retry-after": text }, seedBody), 30)
          }
          assert.strictEqual(yield* limited({ date, "retry-after": "Sun, 06 Nov 1994 08:49:07 GMT" }, seedBody), 0)
        }))

      it.live.each(casesOver<readonly [unknown, number]>(transport, [
        [60, 60],
        [1.5, 1.5],
        ["30", 30],
        [0, 0],
        [1e12, 3600],
        [-3, 60],
        ["soon", 60],
        ["", 60],
        ["0x10", 60],
        [null, 60],
        [true, 60],
        [[5], 60],
        [{}, 60]
      ]))("retry_after %j in the body, without Retry-After", ([retry_after, expected]) =>
        Effect.gen(function*() {
          assert.strictEqual(yield* limited({}, { ...seedBody, retry_after }), expected)
        }))

      it.live("retry_after in the body counts, whatever else is there", () =>
        Effect.gen(function*() {
          for (const body of [{ retry_after: 25 }, { ...seedBody, message: ["slow"] }, { ...seedBody, error: 429 }]) {
            assert.strictEqual(yield* limited({}, body), 25)
          }
        }))

      it.live("no hint at all is 60 s, also without a body of Aden's", () =>
        Effect.gen(function*() {
          assert.strictEqual(yield* limited({}, { error: "rate_limited", message: "Slow down" }), 60)
          assert.strictEqual(yield* limited({ "content-type": "text/html" }, "<html>Too Many Requests</html>"), 60)
          assert.strictEqual(yield* limited({ "retry-after": "7" }, ""), 7)
        }))

      it.live("maxRetryAfter: 0 waits out no hint", () =>
        Effect.gen(function*() {
          const { failing } = yield* start(transport, { maxRetryAfter: 0 })
          for (const { call, name } of calls) {
            assert.strictEqual((yield* failing(call, reply(429, seedBody, { "retry-after": "1" }))).requests, 1, name)
          }
        }))

      it.live("retried while the hint is at most maxRetryAfter", () =>
        Effect.gen(function*() {
          const { client, failing, server } = yield* start(transport, { maxRetryAfter: "1 second" })
          for (const { call, name } of calls) {
            assert.strictEqual((yield* failing(call, reply(429, seedBody, { "retry-after": "0" }))).requests, 3, name)
            assert.strictEqual((yield* failing(call, reply(429, seedBody, { "retry-after": "2" }))).requests, 1, name)
          }
          server.script(reply(429, seedBody, { "retry-after": "0" }), reply(200, credentialBody))
          assert.isTrue(Option.isSome(yield* client.getCredential("hubspot")))
          assert.strictEqual((yield* failing((client) => client.healthCheck, html(429))).error._tag, "RateLimited")
        }))
    })

    it.live("400 with requires_reauthorization: ReauthRequired with its URL, not retried", () =>
      Effect.gen(function*() {
        const { failing } = yield* start(transport)
        for (const { call, name } of calls.filter(({ name }) => name !== "listIntegrations")) {
          const { error, requests } = yield* failing(
            call,
            reply(400, {
              error: "refresh_failed",
              message: "Refresh token is invalid or revoked. User must re-authorize.",
              requires_reauthorization: true,
              reauthorization_url: "https://staging-hive.adenhq.com/integrations/hubspot/connect"
            })
          )
          assert(error._tag === "ReauthRequired", `${name}: ${error._tag}`)
          assert.strictEqual(error.id, "hubspot")
          assert.strictEqual(error.reauthorizationUrl, "https://staging-hive.adenhq.com/integrations/hubspot/connect")
          assert.strictEqual(error.detail, "Refresh token is invalid or revoked. User must re-authorize.")
          assert.include(error.message, "https://staging-hive.adenhq.com/integrations/hubspot/connect")
          assert.isFalse(error.isRetryable)
          assert.strictEqual(requests, 1, name)
        }
        for (
          const beside of [
            { error: "anything" },
            {},
            { error: 7, message: { text: "no" } },
            { error: "refresh_failed", reauthorization_url: { href: "https://aden.example.com" } }
          ]
        ) {
          const bare = yield* failing(refresh, reply(400, { ...beside, requires_reauthorization: true }))
          assert(bare.error._tag === "ReauthRequired", bare.error._tag)
          assert.strictEqual(bare.error.reauthorizationUrl, undefined)
        }
      }))

    it.live("400 refresh_failed otherwise: RefreshFailed, not retried", () =>
      Effect.gen(function*() {
        const { failing } = yield* start(transport)
        for (const requires_reauthorization of [false, undefined, null]) {
          const { error, requests } = yield* failing(
            refresh,
            reply(400, { error: "refresh_failed", message: "The provider timed out", requires_reauthorization })
          )
          assert(error._tag === "RefreshFailed", error._tag)
          assert.strictEqual(error.id, "hubspot")
          assert.strictEqual(error.detail, "The provider timed out")
          assert.strictEqual(requests, 1)
        }
      }))

    it.live("a refresh that answers an expired token: RefreshFailed, not retried", () =>
      Effect.gen(function*() {
        const { client, failing, server } = yield* start(transport)
        const expired = { ...credentialBody, expires_at: "2020-01-01T00:00:00Z" }
        const { error, requests } = yield* failing(refresh, reply(200, expired))
        assert.strictEqual(error._tag, "RefreshFailed")
        assert.strictEqual(requests, 1)
        // a GET answers what Aden has: whether it is still good is the reader's question
        server.script(reply(200, expired))
        assert.isTrue(Option.isSome(yield* client.getCredential("hubspot")))
      }))

    it.live("a refreshed token is judged by Aden's clock", () =>
      Effect.gen(function*() {
        const { client, server } = yield* start(transport)
        const now = yield* DateTime.now
        const body = { ...credentialBody, expires_at: DateTime.formatIso(DateTime.subtract(now, { minutes: 1 })) }
        server.script(reply(200, body, { date: inSeconds(-120) }))
        assert.strictEqual((yield* client.requestRefresh("hubspot")).id, "hubspot")
        const offset = yield* client.clockOffset
        assert.isTrue(offset > -122_000 && offset < -118_000, `${offset} ms`)
      }))

    it.live("401 with a JSON error: AdenUnauthorized, not retried", () =>
      Effect.gen(function*() {
        const { failing } = yield* start(transport)
        for (const { call, name } of calls) {
          const { error, requests } = yield* failing(
            call,
            reply(401, { error: "invalid_api_key", message: "Agent API key is invalid or revoked" })
          )
          assert(error._tag === "AdenUnauthorized", `${name}: ${error._tag}`)
          assert.strictEqual(error.detail, "Agent API key is invalid or revoked")
          assert.isFalse(error.isRetryable)
          assert.strictEqual(requests, 1, name)
        }
        const { error } = yield* failing(refresh, reply(401, { error: "invalid_api_key", message: { code: 5 } }))
        assert(error._tag === "AdenUnauthorized", error._tag)
        assert.strictEqual(error.detail, "invalid_api_key")
      }))

    it.live("403 with a JSON error: AdenForbidden, not retried", () =>
      Effect.gen(function*() {
        const { failing } = yield* start(transport)
        for (const { call, name } of calls) {
          const { error, requests } = yield* failing(
            call,
            reply(403, { error: "forbidden", message: "Not this tenant" })
          )
          assert(error._tag === "AdenForbidden", `${name}: ${error._tag}`)
          assert.strictEqual(error.detail, "Not this tenant")
          assert.strictEqual(requests, 1, name)
        }
      }))

    it.live("401 or 403 without a JSON error (a proxy, a WAF): AdenUnavailable, not retried", () =>
      Effect.gen(function*() {
        const { failing } = yield* start(transport)
        for (const { call, name } of calls) {
          for (
            const answer of [
              html(401),
              html(403),
              reply(403, ""),
              reply(401, { message: "Unauthorized" }),
              reply(403, { error: { code: 5 } }),
              reply(403, "x".repeat(2 * 1024 * 1024))
            ]
          ) {
            const { error, requests } = yield* failing(call, answer)
            assertUnavailable(error, "AdenProtocolError")
            assert.strictEqual(requests, 1, name)
          }
        }
      }))

    it.live("404 integration_not_found: none from getCredential, IntegrationNotFound elsewhere, not retried", () =>
      Effect.gen(function*() {
        const { client, failing, server } = yield* start(transport)
        const notFound = reply(404, {
          error: "integration_not_found",
          message: "No integration 'hubspot' found for this tenant"
        })
        server.script(notFound)
        assert.isTrue(Option.isNone(yield* client.getCredential("hubspot")))
        assert.strictEqual(server.requests.length, 1)
        for (const { call, name } of calls.filter(({ name }) => !/getCredential|listIntegrations/.test(name))) {
          const { error, requests } = yield* failing(call, notFound)
          assert(error._tag === "IntegrationNotFound", `${name}: ${error._tag}`)
          assert.strictEqual(error.id, "hubspot")
          assert.strictEqual(requests, 1, name)
        }
      }))

    it.live("any other 404 (a wrong path, a proxy): AdenUnavailable, not retried", () =>
      Effect.gen(function*() {
        const { failing } = yield* start(transport)
        for (const { call, name } of calls) {
          for (
            const answer of [
              html(404),
              reply(404, ""),
              reply(404, { error: "not_found", message: "No such route" }),
              reply(404, { message: "integration_not_found" })
            ]
          ) {
            const { error, requests } = yield* failing(call, answer)
            assertUnavailable(error, "AdenProtocolError")
            assert.strictEqual(requests, 1, name)
          }
        }
        const list = yield* failing((client) => client.listIntegrations, reply(404, { error: "integration_not_found" }))
        assertUnavailable(list.error, "AdenProtocolError")
      }))

    it.live.each(casesOver(transport, [400, 402, 405, 406, 409, 410, 413, 418, 422, 451]))(
      "%i: AdenRejected with status and message, not retried",
      (status) =>
        Effect.gen(function*() {
          const { failing } = yield* start(transport)
          for (const { call, name } of calls) {
            const { error, requests } = yield* failing(call, reply(status, { error: "odd", message: "Cannot do that" }))
            assert(error._tag === "AdenRejected", `${name}: ${error._tag}`)
            assert.strictEqual(error.status, status)
            assert.strictEqual(error.detail, "Cannot do that")
            assert.isFalse(error.isRetryable)
            assert.strictEqual(requests, 1, name)
          }
          const bare = yield* failing(refresh, html(status))
          assert(bare.error._tag === "AdenRejected", bare.error._tag)
          assert.strictEqual(bare.error.detail, "")
        })
    )

    it.live("an error of Aden's whose body is too long to read is recognised by its status", () =>
      Effect.gen(function*() {
        const { failing } = yield* start(transport, { maxRetryAfter: 0 })
        const long = "x".repeat(2 * 1024 * 1024)
        assert.strictEqual((yield* failing(refresh, reply(422, long))).error._tag, "AdenRejected")
        const limited = yield* failing(refresh, reply(429, long, { "retry-after": "5" }))
        assert(limited.error._tag === "RateLimited")
        assert.strictEqual(Duration.toSeconds(limited.error.retryAfter), 5)
        assert.strictEqual((yield* failing(refresh, reply(503, long))).requests, 3)
      }))

    it.live("3xx without a usable location: AdenUnavailable, not retried", () =>
      Effect.gen(function*() {
        const { failing } = yield* start(transport)
        for (
          const answer of [
            reply(302, ""),
            reply(304, ""),
            redirect(302, "http://"),
            redirect(302, "ftp://127.0.0.1/"),
            redirect(302, "javascript:alert(1)")
          ]
        ) {
          const { error, requests } = yield* failing((client) => client.getCredential("hubspot"), answer)
          assertUnavailable(error, "AdenProtocolError")
          assert.strictEqual(requests, 1)
        }
      }))

    it.live("a retry schedule given replaces the default one", () =>
      Effect.gen(function*() {
        const { failing } = yield* start(transport, { retry: Schedule.recurs(5) })
        assert.strictEqual((yield* failing(refresh, html(503))).requests, 6)
        const once = yield* start(transport, { retry: Schedule.recurs(0) })
        assert.strictEqual((yield* once.failing(refresh, html(503))).requests, 1)
      }))
  })
})
