/**
 * What the client sends and where: headers, ids in paths, redirects, rotated keys, interruption.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Context, DateTime, Effect, Fiber, Layer, Option, Redacted, Schedule } from "effect"
import { FetchHttpClient } from "effect/http"
import type { AdenFailure } from "../../../src/errors/AdenError.ts"
import { AdenClient } from "../../../src/providers/aden/AdenClient.ts"
import { apiKey, casesOver, connect, credentialBody, transports, transportsTested } from "../../fixtures/adenClients.ts"
import type { Reply, ScriptedServer } from "../../fixtures/scriptedServer.ts"
import { drip, hang, redirect, reply, scriptedServer } from "../../fixtures/scriptedServer.ts"

/** A server that answers every endpoint, for `newKey` and no other when one is given. */
const aden = (newKey?: string): Reply => (response, request) => {
  if (newKey !== undefined && request.headers.authorization !== `Bearer ${newKey}`) {
    return reply(401, { error: "invalid_api_key", message: "Agent API key is invalid or revoked" })(response, request)
  }
  const body = request.path === "/v1/credentials"
    ? { integrations: [] }
    : request.path.endsWith("/validate")
    ? { valid: true }
    : request.path.endsWith("/usage")
    ? { received: true }
    : request.path === "/health"
    ? { status: "healthy" }
    : { ...credentialBody, integration_id: undefined }
  return reply(200, body)(response, request)
}

const every = (client: AdenClient["Service"], id = "hubspot") =>
  Effect.gen(function*() {
    yield* client.getCredential(id)
    yield* client.requestRefresh(id)
    yield* client.listIntegrations
    yield* client.validateToken(id)
    yield* client.reportUsage(id, { operation: "api_call", status: "success" })
    yield* client.healthCheck
  })

/** Waits until the server has seen something. */
const eventually = (condition: () => boolean) =>
  Effect.suspend(() => condition() ? Effect.void : Effect.fail("not yet")).pipe(
    Effect.retry(Schedule.spaced("5 millis").pipe(Schedule.upTo({ duration: "5 seconds" }))),
    Effect.orDie
  )

const linesOf = (server: ScriptedServer) => server.requests.map(({ method, path }) => `${method} ${path}`)

describe(`what the client sends (${transportsTested})`, () => {
  describe.each(transports)("$name", (transport) => {
    it.live("the six endpoints, with the API key on all but health", () =>
      Effect.gen(function*() {
        const server = yield* scriptedServer({ replies: [aden()] })
        yield* every(yield* connect(transport, server.url))
        assert.deepStrictEqual(linesOf(server), [
          "GET /v1/credentials/hubspot",
          "POST /v1/credentials/hubspot/refresh",
          "GET /v1/credentials",
          "GET /v1/credentials/hubspot/validate",
          "POST /v1/credentials/hubspot/usage",
          "GET /health"
        ])
        for (const { headers, path } of server.requests) {
          assert.strictEqual(headers.authorization, path === "/health" ? undefined : `Bearer ${apiKey}`)
          assert.notProperty(headers, "x-tenant-id")
          assert.notProperty(headers, "idempotency-key")
          assert.include(headers.accept ?? "", "application/json")
        }
      }))

    it.live("X-Tenant-ID when a tenant is set, but not with health; an empty one counts as unset", () =>
      Effect.gen(function*() {
        const server = yield* scriptedServer({ replies: [aden()] })
        yield* every(yield* connect(transport, server.url, { tenantId: "tenant-123" }))
        assert.deepStrictEqual(
          server.requests.map(({ headers }) => headers["x-tenant-id"]),
          [...Array<string>(5).fill("tenant-123"), undefined]
        )
        const unbound = yield* scriptedServer({ replies: [aden()] })
        yield* every(yield* connect(transport, unbound.url, { tenantId: "" }))
        for (const { headers } of unbound.requests) assert.notProperty(headers, "x-tenant-id")
      }))

    it.live("a usage report with its time, metadata and idempotency key; now by default", () =>
      Effect.gen(function*() {
        const server = yield* scriptedServer({ replies: [aden()] })
        const client = yield* connect(transport, server.url)
        yield* client.reportUsage("hubspot", {
          operation: "api_call",
          status: "success",
          timestamp: DateTime.makeUnsafe("2026-01-28T14:00:00Z"),
          metadata: { endpoint: "/crm/v3/objects/contacts", method: "GET", response_code: 200 },
          idempotencyKey: "8e03978e-40d5-43dd-bc93-6894a57f9324"
        })
        assert.deepStrictEqual(JSON.parse(server.requests[0]?.body ?? ""), {
          operation: "api_call",
          status: "success",
          timestamp: "2026-01-28T14:00:00Z",
          metadata: { endpoint: "/crm/v3/objects/contacts", method: "GET", response_code: 200 }
        })
        assert.strictEqual(server.requests[0]?.headers["idempotency-key"], "8e03978e-40d5-43dd-bc93-6894a57f9324")
        assert.strictEqual(server.requests[0]?.headers["content-type"], "application/json")

        const before = yield* DateTime.now
        yield* client.reportUsage("hubspot", { operation: "api_call", status: "failure" })
        const sent = JSON.parse(server.requests[1]?.body ?? "")
        assert.deepStrictEqual(Object.keys(sent), ["operation", "status", "timestamp"])
        assert.isTrue(Math.abs(Date.parse(sent.timestamp) - DateTime.toEpochMillis(before)) < 5000, sent.timestamp)
      }))

    it.live("one idempotency key over all attempts", () =>
      Effect.gen(function*() {
        const server = yield* scriptedServer({ replies: [reply(503, ""), reply(503, ""), aden()] })
        const client = yield* connect(transport, server.url)
        yield* client.reportUsage("hubspot", { operation: "api_call", status: "success", idempotencyKey: "once" })
        assert.deepStrictEqual(server.requests.map(({ headers }) => headers["idempotency-key"]), [
          "once",
          "once",
          "once"
        ])
        assert.strictEqual(new Set(server.requests.map(({ body }) => body)).size, 1)
      }))

    it.live("an idempotency key that does not fit a header is percent-encoded", () =>
      Effect.gen(function*() {
        const server = yield* scriptedServer({ replies: [aden()] })
        const client = yield* connect(transport, server.url)
        for (const idempotencyKey of ["run 1\r\nX-Injected: 1", "clé 😀", "\ud800"]) {
          assert.isTrue(yield* client.reportUsage("hubspot", { operation: "o", status: "success", idempotencyKey }))
        }
        assert.deepStrictEqual(server.requests.map(({ headers }) => headers["idempotency-key"]), [
          "run%201%0D%0AX-Injected:%201",
          "cl%C3%A9%20%F0%9F%98%80",
          "%EF%BF%BD"
        ])
        for (const { headers } of server.requests) assert.notProperty(headers, "x-injected")
      }))

    it.live("a path in the URL is kept as a prefix", () =>
      Effect.gen(function*() {
        const server = yield* scriptedServer({ replies: [aden()] })
        for (const path of ["/aden/api", "/aden/api/", "/aden/api//"]) {
          yield* (yield* connect(transport, `${server.url}${path}`)).getCredential("hubspot")
        }
        assert.deepStrictEqual(linesOf(server), Array(3).fill("GET /aden/api/v1/credentials/hubspot"))
      }))

    it.live.each([
      "a/b",
      "../x",
      "../../health",
      "...",
      "a?x=1",
      "a#b",
      "a%2fb",
      "%2e%2e",
      "a\\b",
      "a b",
      "a;b",
      "a:b",
      "google:Timothy",
      "Z29vZ2xlOlRpbW90aHk6MTYwNjc6MTM2ODQ=",
      "héllo",
      "日本語",
      "😀",
      "e\u0301",
      "*",
      "__proto__",
      "i".repeat(300)
    ])("the id %j arrives as the one path segment", (id) =>
      Effect.gen(function*() {
        const server = yield* scriptedServer({ replies: [aden()] })
        yield* every(yield* connect(transport, server.url), id)
        const segment = encodeURIComponent(id)
        assert.strictEqual(decodeURIComponent(segment), id)
        assert.deepStrictEqual(linesOf(server).filter((line) => !/ (\/v1\/credentials|\/health)$/.test(line)), [
          `GET /v1/credentials/${segment}`,
          `POST /v1/credentials/${segment}/refresh`,
          `GET /v1/credentials/${segment}/validate`,
          `POST /v1/credentials/${segment}/usage`
        ])
      }))

    it.live.each(["", ".", "..", "\u0000", "a\u0000b", "a\nb", "\ud800", "a\udc00b", "i".repeat(1001)])(
      "the id %j, which no path can hold, makes no request at all",
      (id) =>
        Effect.gen(function*() {
          const server = yield* scriptedServer({ replies: [aden()] })
          const client = yield* connect(transport, server.url)
          assert.isTrue(Option.isNone(yield* client.getCredential(id)))
          const calls: ReadonlyArray<Effect.Effect<unknown, AdenFailure>> = [
            client.requestRefresh(id),
            client.validateToken(id),
            client.reportUsage(id, { operation: "api_call", status: "success" })
          ]
          for (const call of calls) {
            assert.strictEqual((yield* Effect.flip(call))._tag, "IntegrationNotFound")
          }
          assert.strictEqual(server.requests.length, 0)
        })
    )

    it.live("calls one after another share a connection", () =>
      Effect.gen(function*() {
        const server = yield* scriptedServer({ replies: [aden()] })
        // the agent of `layerNodeHttp` keeps no connection alive; one that does gets each back with the body read
        const keepAlive = transport.name === "node:http"
          ? { ...transport, layer: NodeHttpClient.layerNodeHttpOptions({ keepAlive: true }) }
          : transport
        const client = yield* connect(keepAlive, server.url)
        yield* Effect.repeat(client.requestRefresh("hubspot"), { times: 9 })
        server.script(redirect(307, "/moved"), aden(), reply(404, { error: "integration_not_found" }), aden())
        yield* Effect.repeat(client.getCredential("hubspot"), { times: 4 })
        assert.strictEqual(server.requests.length, 16)
        assert.isAtMost(server.connections(), 2)
      }))

    describe("interrupting a call aborts its request", () => {
      it.live.each<readonly [string, Reply]>([
        ["before the headers", hang],
        ["in the middle of the body", drip(200, 5)]
      ])("%s", ([, silence]) =>
        Effect.gen(function*() {
          const server = yield* scriptedServer({ replies: [silence] })
          const client = yield* connect(transport, server.url)
          const fiber = yield* Effect.forkChild(client.requestRefresh("hubspot"))
          yield* eventually(() => server.requests.length === 1)
          yield* Effect.sleep("30 millis")
          assert.isFalse(server.requests[0]?.abandoned)
          yield* Fiber.interrupt(fiber)
          yield* eventually(() => server.requests[0]?.abandoned === true)
          assert.strictEqual(server.requests.length, 1)
        }))
    })

    it.live("an attempt that timed out is aborted", () =>
      Effect.gen(function*() {
        const server = yield* scriptedServer({ replies: [hang, aden()] })
        const client = yield* connect(transport, server.url, { timeout: "50 millis" })
        yield* client.requestRefresh("hubspot")
        yield* eventually(() => server.requests[0]?.abandoned === true)
      }))

    describe("a redirect", () => {
      it.live.each(casesOver(transport, [301, 302, 303, 307, 308]))(
        "%i to another origin is not followed: nothing is sent there",
        (status) =>
          Effect.gen(function*() {
            const elsewhere = yield* scriptedServer({ replies: [aden()] })
            const otherHost = yield* scriptedServer({ host: "127.0.0.2", replies: [aden()] })
            const server = yield* scriptedServer()
            const client = yield* connect(transport, server.url, {
              tenantId: "tenant-123",
              circuitBreaker: { failures: 1000 }
            })
            for (
              const location of [
                `${elsewhere.url}/v1/credentials/hubspot`,
                `${otherHost.url}/v1/credentials/hubspot`,
                `//127.0.0.1:${elsewhere.port}/`,
                `http://localhost:${server.port}/`,
                `https://127.0.0.1:${server.port}/`
              ]
            ) {
              server.script(redirect(status, location))
              const calls: ReadonlyArray<Effect.Effect<unknown, AdenFailure>> = [
                client.getCredential("hubspot"),
                client.requestRefresh("hubspot"),
                client.reportUsage("hubspot", { operation: "api_call", status: "success" }),
                client.healthCheck
              ]
              for (const call of calls) {
                const before = server.requests.length
                const error = yield* Effect.flip(call)
                assert(error._tag === "AdenUnavailable", error._tag)
                assert(error.reason._tag === "AdenProtocolError", error.message)
                assert.match(error.message, /redirect/)
                assert.strictEqual(server.requests.length - before, 1)
              }
            }
            assert.strictEqual(elsewhere.requests.length, 0)
            assert.strictEqual(elsewhere.connections(), 0)
            assert.strictEqual(otherHost.connections(), 0)
          })
      )

      it.live.each(casesOver(transport, [301, 302, 303, 307, 308]))(
        "%i of a GET to the same origin is followed, with the key",
        (status) =>
          Effect.gen(function*() {
            const server = yield* scriptedServer()
            const client = yield* connect(transport, server.url, { tenantId: "tenant-123" })
            for (const location of [`${server.url}/moved?a=b%2fc`, "/moved?a=b%2fc"]) {
              server.script(redirect(status, location), reply(200, credentialBody))
              assert.isTrue(Option.isSome(yield* client.getCredential("hubspot")))
            }
            for (const { headers, method } of server.requests) {
              assert.strictEqual(method, "GET")
              assert.strictEqual(headers.authorization, `Bearer ${apiKey}`)
              assert.strictEqual(headers["x-tenant-id"], "tenant-123")
            }
            assert.deepStrictEqual(server.requests.map(({ path }) => path), [
              "/v1/credentials/hubspot",
              "/moved?a=b%2fc",
              "/v1/credentials/hubspot",
              "/moved?a=b%2fc"
            ])
          })
      )

      it.live.each([307, 308])(
        "%i of a POST to the same origin is followed, with its body",
        (status) =>
          Effect.gen(function*() {
            const server = yield* scriptedServer({
              replies: [redirect(status, "/v2/usage"), reply(200, { received: true })]
            })
            const client = yield* connect(transport, server.url)
            assert.isTrue(
              yield* client.reportUsage("hubspot", { operation: "api_call", status: "success", idempotencyKey: "once" })
            )
            const [first, second] = server.requests
            assert.strictEqual(second?.method, "POST")
            assert.strictEqual(second?.path, "/v2/usage")
            assert.strictEqual(second?.body, first?.body)
            assert.strictEqual(second?.headers.authorization, `Bearer ${apiKey}`)
            assert.strictEqual(second?.headers["idempotency-key"], "once")
          })
      )

      it.live.each([301, 302, 303])(
        "%i of a POST, which would become a GET, is refused",
        (status) =>
          Effect.gen(function*() {
            const server = yield* scriptedServer({ replies: [redirect(status, "/moved")] })
            const client = yield* connect(transport, server.url)
            const error = yield* Effect.flip(client.requestRefresh("hubspot"))
            assert.match(error.message, /redirect that would change the method/)
            assert.deepStrictEqual(linesOf(server), ["POST /v1/credentials/hubspot/refresh"])
          })
      )

      it.live("is followed whatever becomes of its own body", () =>
        Effect.gen(function*() {
          const server = yield* scriptedServer()
          const client = yield* connect(transport, server.url, { retry: Schedule.recurs(0) })
          const away = { location: "/moved", "content-length": "1000" }
          const torn: Reply = (response) => {
            response.writeHead(307, away)
            response.write("{", () => setTimeout(() => response.socket?.resetAndDestroy(), 20))
          }
          const endless: Reply = (response) => {
            response.writeHead(307, away)
            response.write("{")
          }
          for (const body of [torn, endless]) {
            server.script(body, aden())
            yield* client.requestRefresh("hubspot")
          }
          const lines = ["POST /v1/credentials/hubspot/refresh", "POST /moved"]
          assert.deepStrictEqual(linesOf(server), [...lines, ...lines])
        }))

      it.live("in a circle ends", () =>
        Effect.gen(function*() {
          const server = yield* scriptedServer({ replies: [redirect(307, "/v1/credentials/hubspot")] })
          const client = yield* connect(transport, server.url)
          const error = yield* Effect.flip(client.getCredential("hubspot"))
          assert.match(error.message, /too many redirects/)
          assert.strictEqual(server.requests.length, 6)
        }))

      it.live("from the same origin to another: the second is not followed", () =>
        Effect.gen(function*() {
          const elsewhere = yield* scriptedServer({ replies: [aden()] })
          const server = yield* scriptedServer({
            replies: [redirect(307, "/moved"), redirect(307, `${elsewhere.url}/moved`)]
          })
          const client = yield* connect(transport, server.url)
          assert.match((yield* Effect.flip(client.requestRefresh("hubspot"))).message, /another origin/)
          assert.strictEqual(server.requests.length, 2)
          assert.strictEqual(elsewhere.connections(), 0)
        }))

      it.live("with user info in its location is refused", () =>
        Effect.gen(function*() {
          const server = yield* scriptedServer()
          server.script(redirect(307, `http://user:hunter2@127.0.0.1:${server.port}/moved`), aden())
          const client = yield* connect(transport, server.url)
          const error = yield* Effect.flip(client.getCredential("hubspot"))
          assert.notInclude(error.message, "hunter2")
          assert.include(error.message, "redirect with a user name or password")
          assert.strictEqual(server.requests.length, 1)
        }))
    })

    describe("401", () => {
      it.live("with a rotated key from an Effect: exactly one more request, and the new key from then on", () =>
        Effect.gen(function*() {
          const newKey = "aden_sk_live_rotated_X3f9Qw"
          let current = apiKey
          let reads = 0
          const server = yield* scriptedServer({ replies: [aden(newKey)] })
          const client = yield* connect(transport, server.url, {
            apiKey: Effect.sync(() => {
              reads++
              return Redacted.make(current)
            })
          })
          current = newKey
          assert.isTrue(Option.isSome(yield* client.getCredential("hubspot")))
          assert.deepStrictEqual(server.requests.map(({ headers }) => headers.authorization), [
            `Bearer ${apiKey}`,
            `Bearer ${newKey}`
          ])
          yield* client.listIntegrations
          assert.strictEqual(server.requests.length, 3)
          assert.strictEqual(reads, 2)
        }))

      it.live("with a rotated key from a ConfigProvider: exactly one more request", () =>
        Effect.gen(function*() {
          const newKey = "aden_sk_live_rotated_X3f9Qw"
          const server = yield* scriptedServer({ replies: [aden(newKey)] })
          const settings: Record<string, string> = { ADEN_API_URL: server.url, ADEN_API_KEY: apiKey }
          const provider = ConfigProvider.make((path) =>
            Effect.sync(() => {
              const value = settings[path.join("_")]
              return value === undefined ? undefined : ConfigProvider.makeValue(value)
            })
          )
          const client = yield* Effect.map(
            Layer.build(
              AdenClient.layerConfigWith({ retry: Schedule.recurs(2) }).pipe(
                Layer.provide(transport.layer),
                Layer.provide(ConfigProvider.layer(provider))
              )
            ),
            Context.get(AdenClient)
          )
          settings["ADEN_API_KEY"] = newKey
          yield* client.requestRefresh("hubspot")
          assert.strictEqual(server.requests.length, 2)
        }))

      it.live("with an unchanged key: one request", () =>
        Effect.gen(function*() {
          const server = yield* scriptedServer({ replies: [aden("another key")] })
          for (const key of [Redacted.make(apiKey), Effect.succeed(Redacted.make(apiKey))]) {
            const before = server.requests.length
            const client = yield* connect(transport, server.url, { apiKey: key })
            assert.strictEqual((yield* Effect.flip(client.requestRefresh("hubspot")))._tag, "AdenUnauthorized")
            assert.strictEqual(server.requests.length - before, 1)
          }
        }))

      it.live("with a rotated key that is refused too: two requests, no loop", () =>
        Effect.gen(function*() {
          let reads = 0
          const server = yield* scriptedServer({ replies: [aden("another key")] })
          const client = yield* connect(transport, server.url, {
            apiKey: Effect.sync(() => Redacted.make(`${apiKey}${reads++}`))
          })
          assert.strictEqual((yield* Effect.flip(client.requestRefresh("hubspot")))._tag, "AdenUnauthorized")
          assert.strictEqual(server.requests.length, 2)
        }))

      it.live("when the key cannot be read any more: the 401, one request", () =>
        Effect.gen(function*() {
          const server = yield* scriptedServer({ replies: [aden("another key")] })
          let current = apiKey
          const client = yield* connect(transport, server.url, { apiKey: Effect.sync(() => Redacted.make(current)) })
          current = "not a\nkey"
          assert.strictEqual((yield* Effect.flip(client.requestRefresh("hubspot")))._tag, "AdenUnauthorized")
          assert.strictEqual(server.requests.length, 1)
        }))

      it.live("for many calls at once: each asks at most once more", () =>
        Effect.gen(function*() {
          const newKey = "aden_sk_live_rotated_X3f9Qw"
          let current = apiKey
          const server = yield* scriptedServer({ replies: [aden(newKey)] })
          const client = yield* connect(transport, server.url, { apiKey: Effect.sync(() => Redacted.make(current)) })
          current = newKey
          yield* Effect.all(Array.from({ length: 20 }, () => client.getCredential("hubspot")), {
            concurrency: "unbounded"
          })
          assert.isAtMost(server.requests.length, 40)
        }))
    })

    it.live("the clock offset: what Date headers show against the middle of the request", () =>
      Effect.gen(function*() {
        const server = yield* scriptedServer({ replies: [reply(200, credentialBody)] })
        const client = yield* connect(transport, server.url)
        yield* client.getCredential("hubspot")
        assert.strictEqual(yield* client.clockOffset, 0)
        server.script((response, request) =>
          reply(200, credentialBody, { date: new Date(Date.now() + 60_000).toUTCString() })(response, request)
        )
        yield* Effect.repeat(client.getCredential("hubspot"), { times: 2 })
        const offset = yield* client.clockOffset
        assert.isTrue(offset > 58_000 && offset < 62_000, `${offset} ms`)
        server.script(reply(200, credentialBody, { date: "not a date" }))
        yield* client.getCredential("hubspot")
        assert.strictEqual(yield* client.clockOffset, offset)
        // a store, which sends reports, does not look at the clock after them
        server.script(reply(200, { received: true }, { date: new Date(0).toUTCString() }))
        yield* Effect.repeat(client.reportUsage("hubspot", { operation: "api_call", status: "success" }), { times: 4 })
        assert.strictEqual(yield* client.clockOffset, offset)
      }))
  })

  it.live("fetch: options of RequestInit where the layer is built apply, but for redirects", () =>
    Effect.gen(function*() {
      const elsewhere = yield* scriptedServer({ replies: [aden()] })
      const server = yield* scriptedServer({ replies: [aden(), redirect(302, elsewhere.url)] })
      const client = yield* connect({ name: "fetch", layer: FetchHttpClient.layer }, server.url).pipe(
        Effect.provideService(FetchHttpClient.RequestInit, { headers: { "x-proxy": "egress" }, redirect: "follow" })
      )
      yield* client.getCredential("hubspot")
      assert.strictEqual(server.requests[0]?.headers["x-proxy"], "egress")
      assert.match((yield* Effect.flip(client.getCredential("hubspot"))).message, /another origin/)
      assert.strictEqual(elsewhere.connections(), 0)
    }))
})
