/**
 * Every row of the table of fields: what is accepted in an answer, what stands in for what is absent, and what is refused.
 */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration, Effect, Option, Redacted } from "effect"
import type { AdenFailure } from "../../../src/errors/AdenError.ts"
import type { AdenClientOptions, AdenCredential } from "../../../src/providers/aden/AdenClient.ts"
import { accessToken, connect, credentialBody, transports, transportsTested } from "../../fixtures/adenClients.ts"
import type { Transport } from "../../fixtures/adenClients.ts"
import { collectingWarnings } from "../../fixtures/emulatedStore.ts"
import { sampled } from "../../fixtures/repeats.ts"
import { flood, reply, scriptedServer } from "../../fixtures/scriptedServer.ts"

const start = Effect.fnUntraced(function*(transport: Transport, options: Partial<AdenClientOptions> = {}) {
  const server = yield* scriptedServer()
  const client = yield* connect(transport, server.url, options)
  /** What the client makes of one credential answer to every request. */
  const credential = (body: unknown, id = "hubspot") => {
    server.script(reply(200, body))
    return Effect.map(client.getCredential(id), Option.getOrThrow)
  }
  return { server, client, credential }
})

const utc = (text: string) => DateTime.makeUnsafe(text)

const assertExpiry = (credential: AdenCredential, expected: string) =>
  assert.strictEqual(
    credential.expiresAt === undefined ? undefined : DateTime.formatIso(credential.expiresAt),
    DateTime.formatIso(utc(expected))
  )

/** The failure is `AdenUnavailable` because of an `AdenProtocolError` whose text holds `detail`. */
const assertProtocolError = (error: AdenFailure, detail: RegExp) => {
  assert(error._tag === "AdenUnavailable", error._tag)
  assert(error.reason._tag === "AdenProtocolError", error.reason._tag)
  assert.match(error.reason.detail, detail)
  assert.notInclude(error.message, accessToken)
}

describe(`fields of Aden's answers (${transportsTested})`, () => {
  describe.each(sampled(transports, transports.length))("$name", (transport) => {
    it.live("a complete credential answer", () =>
      Effect.gen(function*() {
        const { credential, server } = yield* start(transport)
        const answered = yield* credential(credentialBody)
        assert.deepStrictEqual(
          { ...answered, accessToken: Redacted.value(answered.accessToken), expiresAt: undefined },
          {
            id: "hubspot",
            integrationType: "hubspot",
            alias: undefined,
            email: undefined,
            accessToken,
            tokenType: "Bearer",
            expiresAt: undefined,
            scopes: ["crm.objects.contacts.read", "crm.objects.contacts.write"],
            metadata: new Map([["portal_id", "12345678"], ["connected_at", "2026-01-15T10:00:00Z"]])
          }
        )
        assertExpiry(answered, "2099-01-28T15:30:00Z")
        assert.strictEqual(server.requests.length, 1)
      }))

    it.live("the other dialect: provider, alias, email, no integration_id", () =>
      Effect.gen(function*() {
        const { credential, server } = yield* start(transport)
        const answered = yield* credential(
          { access_token: accessToken, provider: "google", alias: "Timothy", email: "timothy@example.com" },
          "Z29vZ2xlOlRpbW90aHk6MTYwNjc6MTM2ODQ"
        )
        assert.strictEqual(answered.id, "Z29vZ2xlOlRpbW90aHk6MTYwNjc6MTM2ODQ")
        assert.strictEqual(answered.integrationType, "google")
        assert.strictEqual(answered.alias, "Timothy")
        assert.strictEqual(answered.email, "timothy@example.com")
        assert.deepStrictEqual(Array.from(answered.metadata), [["email", "timothy@example.com"]])
        assert.strictEqual(server.requests.length, 1)
      }))

    it.live("integration_id: absent, null or empty is the id asked for", () =>
      Effect.gen(function*() {
        const { credential } = yield* start(transport)
        for (const integration_id of [undefined, null, ""]) {
          assert.strictEqual((yield* credential({ ...credentialBody, integration_id }, "slack")).id, "slack")
        }
      }))

    it.live("integration_id: another than the id asked for is a protocol error, not retried", () =>
      Effect.gen(function*() {
        const { client, credential, server } = yield* start(transport)
        const error = yield* Effect.flip(credential({ ...credentialBody, integration_id: "hubspot" }, "github"))
        assertProtocolError(error, /another integration, "hubspot"/)
        assert.strictEqual(server.requests.length, 1)
        assertProtocolError(yield* Effect.flip(client.requestRefresh("github")), /another integration/)
        assert.strictEqual(server.requests.length, 2)
      }))

    it.live("integration_type: or provider; default the part before the first colon of the id, else the id", () =>
      Effect.gen(function*() {
        const { credential } = yield* start(transport)
        const typeOf = (fields: object, id: string) =>
          Effect.map(credential({ access_token: accessToken, ...fields }, id), (answered) => answered.integrationType)
        assert.strictEqual(yield* typeOf({ integration_type: "hubspot", provider: "other" }, "x"), "hubspot")
        assert.strictEqual(yield* typeOf({ integration_type: "", provider: "google" }, "x"), "google")
        assert.strictEqual(yield* typeOf({ integration_type: null, provider: null }, "google:Timothy:2"), "google")
        assert.strictEqual(yield* typeOf({}, "github"), "github")
        assert.strictEqual(yield* typeOf({}, ":odd"), ":odd")
      }))

    it.live("alias and email: absent, null or empty is none; the e-mail is also in the metadata", () =>
      Effect.gen(function*() {
        const { credential } = yield* start(transport)
        for (const nothing of [undefined, null, ""]) {
          const answered = yield* credential({ access_token: accessToken, alias: nothing, email: nothing })
          assert.strictEqual(answered.alias, undefined)
          assert.strictEqual(answered.email, undefined)
          assert.strictEqual(answered.metadata.size, 0)
        }
        const named = yield* credential({ access_token: accessToken, email: "a@example.com", metadata: { team: "T1" } })
        assert.deepStrictEqual(Array.from(named.metadata), [["team", "T1"], ["email", "a@example.com"]])
      }))

    it.live("token_type, scopes, metadata: absent or null is Bearer, [], {}", () =>
      Effect.gen(function*() {
        const { credential } = yield* start(transport)
        for (const nothing of [undefined, null]) {
          const answered = yield* credential({
            access_token: accessToken,
            token_type: nothing,
            scopes: nothing,
            metadata: nothing
          })
          assert.strictEqual(answered.tokenType, "Bearer")
          assert.deepStrictEqual(answered.scopes, [])
          assert.strictEqual(answered.metadata.size, 0)
        }
      }))

    it.live("expires_at: null or absent does not expire", () =>
      Effect.gen(function*() {
        const { credential } = yield* start(transport)
        assert.strictEqual((yield* credential({ access_token: accessToken, expires_at: null })).expiresAt, undefined)
        assert.strictEqual((yield* credential({ access_token: accessToken })).expiresAt, undefined)
      }))

    it.live("expires_at: RFC 3339 with Z, an offset, a fraction or no zone", () =>
      Effect.gen(function*() {
        const { credential } = yield* start(transport)
        for (
          const [text, expected] of [
            ["2099-01-28T15:30:00Z", "2099-01-28T15:30:00Z"],
            ["2099-01-28T17:30:00+02:00", "2099-01-28T15:30:00Z"],
            ["2099-01-28T10:00:00-05:30", "2099-01-28T15:30:00Z"],
            ["2099-01-28T15:30:00.123456Z", "2099-01-28T15:30:00.123Z"],
            ["2099-01-28T15:30:00", "2099-01-28T15:30:00Z"],
            ["2099-01-28T15:30:00.5", "2099-01-28T15:30:00.500Z"],
            ["2099-01-28T17:30:00+0200", "2099-01-28T15:30:00Z"],
            ["2099-01-28T15:30:00+00", "2099-01-28T15:30:00Z"],
            ["2099-01-28 15:30:00", "2099-01-28T15:30:00Z"]
          ] as const
        ) {
          assertExpiry(yield* credential({ access_token: accessToken, expires_at: text }), expected)
        }
      }))

    it.live("expires_at: the zero value of a time is no expiry, with one warning per client", () =>
      collectingWarnings((warnings) =>
        Effect.gen(function*() {
          const { client, credential, server } = yield* start(transport)
          for (const expires_at of ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00+02:00"]) {
            assert.strictEqual((yield* credential({ access_token: accessToken, expires_at })).expiresAt, undefined)
            assert.strictEqual((yield* client.requestRefresh("hubspot")).expiresAt, undefined)
            server.script(reply(200, { integrations: [{ integration_id: "hubspot", expires_at }] }))
            const { accounts, malformed } = yield* client.listIntegrations
            assert.deepStrictEqual(accounts.map(({ expiresAt }) => expiresAt), [undefined])
            assert.deepStrictEqual(malformed, [])
            server.script(reply(200, { valid: true, expires_at }))
            assert.strictEqual((yield* client.validateToken("hubspot")).expiresAt, undefined)
          }
          assert.lengthOf(warnings, 1)
          assert.include(warnings[0], "zero value")
          assert.notInclude(warnings[0], accessToken)
        })
      ))

    it.live("expires_at: anything else is a protocol error", () =>
      Effect.gen(function*() {
        const { credential } = yield* start(transport, { circuitBreaker: { failures: 1000 } })
        for (const expires_at of ["soon", "", "2099-02-30T00:00:00Z", 1769614200, true, {}, "2099-01-28"]) {
          assertProtocolError(
            yield* Effect.flip(credential({ access_token: accessToken, expires_at })),
            /expires_at/
          )
        }
      }))

    it.live("status in a list: active, expired, requires_reauth, anything else unknown", () =>
      Effect.gen(function*() {
        const { client, server } = yield* start(transport)
        const statuses = ["active", "expired", "requires_reauth", "paused", "", null, undefined]
        server.script(reply(200, {
          integrations: statuses.map((status, index) => ({ integration_id: `i${index}`, status }))
        }))
        const { accounts, malformed } = yield* client.listIntegrations
        assert.deepStrictEqual(
          accounts.map((account) => account.status),
          ["active", "expired", "requires_reauth", "unknown", "unknown", "unknown", "unknown"]
        )
        assert.deepStrictEqual(malformed, [])
        assert.strictEqual(server.requests.length, 1)
      }))

    it.live("a list in both dialects", () =>
      Effect.gen(function*() {
        const { client, server } = yield* start(transport)
        server.script(reply(200, {
          integrations: [
            {
              integration_id: "hubspot",
              integration_type: "hubspot",
              status: "active",
              expires_at: "2099-01-28T15:30:00Z"
            },
            {
              integration_id: "Z29vZ2xl",
              provider: "google",
              alias: "Timothy",
              email: "t@example.com",
              status: "active",
              expires_at: null
            },
            { integration_id: "slack:ops", status: "requires_reauth" }
          ],
          tenant_id: "tenant-123"
        }))
        const { accounts } = yield* client.listIntegrations
        assert.deepStrictEqual(
          accounts.map(({ alias, email, id, provider }) => ({ alias, email, id, provider })),
          [
            { alias: undefined, email: undefined, id: "hubspot", provider: "hubspot" },
            { alias: "Timothy", email: "t@example.com", id: "Z29vZ2xl", provider: "google" },
            { alias: undefined, email: undefined, id: "slack:ops", provider: "slack" }
          ]
        )
        assert.deepStrictEqual(accounts.map(({ expiresAt }) => expiresAt !== undefined), [true, false, false])
      }))

    it.live("tenant_id in a list: absent or the configured one is fine, another is a protocol error, not retried", () =>
      Effect.gen(function*() {
        const { client, server } = yield* start(transport, { tenantId: "tenant-123" })
        for (const tenant_id of ["tenant-123", undefined, null, ""]) {
          server.script(reply(200, { integrations: [], tenant_id }))
          assert.deepStrictEqual((yield* client.listIntegrations).accounts, [])
        }
        const before = server.requests.length
        server.script(reply(200, { integrations: [{ integration_id: "hubspot" }], tenant_id: "tenant-999" }))
        const error = yield* Effect.flip(client.listIntegrations)
        assertProtocolError(error, /another tenant, "tenant-999"/)
        assert.include(error.remedy, "ADEN_TENANT_ID")
        assert.strictEqual(server.requests.length - before, 1)
        const unbound = yield* connect(transport, server.url)
        assert.strictEqual((yield* unbound.listIntegrations).accounts.length, 1)
      }))

    it.live("one bad item in a list is reported, the rest is used", () =>
      Effect.gen(function*() {
        const { client, server } = yield* start(transport)
        server.script(reply(200, {
          integrations: [
            { integration_id: "good", status: "active" },
            null,
            "text",
            [],
            { status: "active" },
            { integration_id: "" },
            { integration_id: 5 },
            { integration_id: ".." },
            { integration_id: "a\u0000b" },
            { integration_id: "late", expires_at: "whenever" },
            { integration_id: "good", status: "expired" },
            { integration_id: "also good", status: "expired" }
          ]
        }))
        const { accounts, malformed } = yield* client.listIntegrations
        assert.deepStrictEqual(accounts.map(({ id, status }) => [id, status]), [
          ["good", "active"],
          ["also good", "expired"]
        ])
        assert.strictEqual(malformed.length, 10)
        assert.deepStrictEqual(malformed.slice(-3).map(({ id }) => id), ["ab", "late", "good"])
        for (const { detail } of malformed) assert.isNotEmpty(detail)
        assert.strictEqual(server.requests.length, 1)
      }))

    it.live("a list that tells of further pages may be incomplete, and no other page is read", () =>
      Effect.gen(function*() {
        const { client, server } = yield* start(transport)
        const list = { integrations: [{ integration_id: "good" }] }
        const link = `<${server.url}/v1/credentials?page=2>; rel="next"`
        server.script(reply(200, { ...list, next_cursor: "abc" }), reply(200, list, { link }), reply(200, list))
        for (const isIncomplete of [true, true, false]) {
          const listed = yield* client.listIntegrations
          assert.deepStrictEqual(listed.accounts.map(({ id }) => id), ["good"])
          assert.strictEqual(listed.isIncomplete, isIncomplete)
        }
        assert.deepStrictEqual(server.requests.map(({ path }) => path), Array(3).fill("/v1/credentials"))
      }))

    it.live("a list that is not a list is a protocol error", () =>
      Effect.gen(function*() {
        const { client, server } = yield* start(transport, { circuitBreaker: { failures: 1000 } })
        for (const body of [{}, { integrations: null }, { integrations: {} }, [], "text"]) {
          server.script(reply(200, body))
          assertProtocolError(yield* Effect.flip(client.listIntegrations), /./)
        }
      }))

    it.live("validate: valid is required, all else optional", () =>
      Effect.gen(function*() {
        const { client, server } = yield* start(transport, { circuitBreaker: { failures: 1000 } })
        const validate = (body: unknown) => {
          server.script(reply(200, body))
          return client.validateToken("hubspot")
        }
        assert.deepStrictEqual(yield* validate({ valid: true }), {
          valid: true,
          reason: undefined,
          expiresAt: undefined,
          requiresReauthorization: false,
          reauthorizationUrl: undefined
        })
        const good = yield* validate({ valid: true, expires_at: "2099-01-28T15:30:00Z", expires_in_seconds: 3600 })
        assert.strictEqual(good.expiresAt && DateTime.formatIso(good.expiresAt), "2099-01-28T15:30:00.000Z")
        const before = yield* DateTime.now
        const relative = yield* validate({ valid: true, expires_in_seconds: 3600 })
        assert(relative.expiresAt !== undefined)
        const seconds = (DateTime.toEpochMillis(relative.expiresAt) - DateTime.toEpochMillis(before)) / 1000
        assert.isTrue(seconds >= 3599 && seconds < 3630, `${seconds} s`)
        assert.deepInclude(
          yield* validate({ valid: false, reason: "token_expired", requires_reauthorization: false }),
          { valid: false, reason: "token_expired", requiresReauthorization: false, reauthorizationUrl: undefined }
        )
        assert.deepInclude(
          yield* validate({
            valid: false,
            reason: "refresh_token_revoked",
            requires_reauthorization: true,
            reauthorization_url: "https://staging-hive.adenhq.com/integrations/hubspot/connect"
          }),
          {
            valid: false,
            reason: "refresh_token_revoked",
            requiresReauthorization: true,
            reauthorizationUrl: "https://staging-hive.adenhq.com/integrations/hubspot/connect"
          }
        )
        assert.deepInclude(yield* validate({ valid: false, status: "expired" }), { valid: false, reason: "expired" })
        assert.deepInclude(yield* validate({ valid: false, error: "revoked" }), { valid: false, reason: "revoked" })
        assert.deepInclude(yield* validate({ valid: false, status: "requires_reauth" }), {
          requiresReauthorization: true,
          reauthorizationUrl: undefined
        })
        for (const body of [{}, { valid: "yes" }, { valid: null }, { valid: 1 }]) {
          assertProtocolError(yield* Effect.flip(validate(body)), /valid/)
        }
      }))

    it.live("health: status, version and timestamp optional, asked without the API key, latency added", () =>
      Effect.gen(function*() {
        const { client, server } = yield* start(transport, { tenantId: "tenant-123" })
        server.script((response, request) =>
          setTimeout(
            () =>
              reply(200, { status: "healthy", version: "1.2.3", timestamp: "2026-01-28T14:00:00Z" })(response, request),
            50
          )
        )
        const health = yield* client.healthCheck
        assert.strictEqual(health.status, "healthy")
        assert.strictEqual(health.version, "1.2.3")
        assert.strictEqual(health.timestamp && DateTime.formatIso(health.timestamp), "2026-01-28T14:00:00.000Z")
        assert.isAtLeast(Duration.toMillis(health.latency), 45)
        server.script(reply(200, { status: "degraded" }))
        assert.deepInclude(yield* client.healthCheck, { status: "degraded", version: undefined, timestamp: undefined })
        for (const request of server.requests) {
          assert.strictEqual(request.path, "/health")
          assert.notProperty(request.headers, "authorization")
          assert.notProperty(request.headers, "x-tenant-id")
        }
        assert.strictEqual(server.requests.length, 2)
      }))

    it.live("usage: received", () =>
      Effect.gen(function*() {
        const { client, server } = yield* start(transport)
        for (const received of [true, false]) {
          server.script(reply(200, { received }))
          assert.strictEqual(
            yield* client.reportUsage("hubspot", { operation: "api_call", status: "success" }),
            received
          )
        }
        server.script(reply(200, {}))
        assertProtocolError(
          yield* Effect.flip(client.reportUsage("hubspot", { operation: "api_call", status: "success" })),
          /received/
        )
      }))

    it.live("body: a byte order mark before the JSON is accepted", () =>
      Effect.gen(function*() {
        const { client, server } = yield* start(transport)
        const marked = (body: unknown) =>
          Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from(JSON.stringify(body))])
        server.script(reply(200, marked(credentialBody)), reply(200, marked({ integrations: [] })))
        assert.isTrue(Option.isSome(yield* client.getCredential("hubspot")))
        assert.deepStrictEqual(yield* client.listIntegrations, { accounts: [], malformed: [], isIncomplete: false })
        server.script(reply(404, marked({ error: "integration_not_found", message: "no" })))
        assert.isTrue(Option.isNone(yield* client.getCredential("hubspot")))
      }))

    it.live("body: at most 1 MiB, a list 16 MiB", () =>
      Effect.gen(function*() {
        const { client, credential, server } = yield* start(transport, { circuitBreaker: { failures: 1000 } })
        const padded = (body: object, size: number) => {
          const text = JSON.stringify(body)
          return text + " ".repeat(size - text.length)
        }
        assert.strictEqual((yield* credential(padded(credentialBody, 1024 * 1024))).id, "hubspot")
        assertProtocolError(
          yield* Effect.flip(credential(padded(credentialBody, 1024 * 1024 + 1))),
          /more than 1048576 bytes/
        )
        server.script(reply(200, padded({ integrations: [] }, 16 * 1024 * 1024)))
        assert.deepStrictEqual((yield* client.listIntegrations).accounts, [])
        server.script(reply(200, padded({ integrations: [] }, 16 * 1024 * 1024 + 1)))
        assertProtocolError(yield* Effect.flip(client.listIntegrations), /more than 16777216 bytes/)
      }))

    it.live("body: 100 MB streamed is refused with bounded memory", () =>
      Effect.gen(function*() {
        const { client, server } = yield* start(transport, { circuitBreaker: { failures: 1000 } })
        const size = 100 * 1024 * 1024
        const flooded = flood(size)
        server.script(flooded.reply)
        assertProtocolError(yield* Effect.flip(client.requestRefresh("hubspot")), /more than 1048576 bytes/)
        assert.strictEqual(server.requests.length, 3)
        yield* Effect.sleep("100 millis")
        // what is in flight when the client hangs up lies in the sockets' buffers: a small part of what was on offer
        assert.isBelow(flooded.sent(), size / 2)
      }))

    it.live("body: JSON nested 10,000 deep is an answer like any other", () =>
      Effect.gen(function*() {
        const { client, credential, server } = yield* start(transport, { circuitBreaker: { failures: 1000 } })
        const deep = "[".repeat(10_000) + "]".repeat(10_000)
        assert.strictEqual(
          (yield* credential(`{"access_token":"${accessToken}","metadata":{"deep":${deep},"team":"T1"}}`)).metadata.get(
            "team"
          ),
          "T1"
        )
        assertProtocolError(yield* Effect.flip(credential(deep)), /unexpected body/)
        assertProtocolError(yield* Effect.flip(credential(`{"access_token":${deep}}`)), /access_token/)
        server.script(reply(200, `{"integrations":[${deep},{"integration_id":"good"}]}`))
        const listed = yield* client.listIntegrations
        assert.deepStrictEqual([listed.accounts.length, listed.malformed.length], [1, 1])
        server.script(reply(400, `{"error":"refresh_failed","retry_after":${deep}}`))
        assert.strictEqual((yield* Effect.flip(client.requestRefresh("hubspot")))._tag, "RefreshFailed")
      }))

    it.live("unknown fields are ignored; a refresh_token is dropped wherever it stands", () =>
      Effect.gen(function*() {
        const { credential } = yield* start(transport)
        const secret = "1//0gRefreshTokenThatMustNotStay"
        const answered = yield* credential({
          ...credentialBody,
          refresh_token: secret,
          future_field: { refresh_token: secret },
          metadata: {
            refresh_token: secret,
            refreshToken: secret,
            "refresh-token": secret,
            google_refresh_token: secret,
            nested: { refresh_token: secret },
            portal_id: "1"
          }
        })
        assert.deepStrictEqual(Array.from(answered.metadata), [["portal_id", "1"]])
        const everything = JSON.stringify([
          answered,
          Array.from(answered.metadata),
          Redacted.value(answered.accessToken)
        ])
        assert.notInclude(everything, secret.slice(0, 8))
      }))

    it.live("metadata named __proto__, constructor or prototype, and metadata that is not text, is dropped", () =>
      Effect.gen(function*() {
        const { credential } = yield* start(transport)
        const answered = yield* credential(
          `{"access_token":"${accessToken}","metadata":{"__proto__":"x","constructor":"x","prototype":"x","":"x",` +
            `"a\\u0007b":"x","n":1,"t":true,"l":["x"],"o":{"__proto__":{"polluted":"x"}},"empty":"","team":"T1"}}`
        )
        assert.deepStrictEqual(Array.from(answered.metadata), [["team", "T1"]])
        const object = yield* credential(`{"access_token":"${accessToken}","metadata":{"__proto__":{"polluted":"x"}}}`)
        assert.strictEqual(object.metadata.size, 0)
        assert.notProperty({}, "polluted")
      }))

    it.live("access_token: required, visible ASCII", () =>
      Effect.gen(function*() {
        const { credential } = yield* start(transport, { circuitBreaker: { failures: 1000 } })
        for (
          const access_token of [
            undefined,
            null,
            "",
            5,
            [accessToken],
            { token: accessToken },
            `${accessToken}\n`,
            `${accessToken}\r\nX-Injected: 1`,
            `${accessToken} `,
            `${accessToken}\u0000`,
            `${accessToken}é`
          ]
        ) {
          assertProtocolError(yield* Effect.flip(credential({ ...credentialBody, access_token })), /access_token/)
        }
        const odd = "!\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~"
        assert.strictEqual(Redacted.value((yield* credential({ access_token: odd })).accessToken), odd)
      }))

    it.live("wrong types are protocol errors", () =>
      Effect.gen(function*() {
        const { credential } = yield* start(transport, { circuitBreaker: { failures: 1000 } })
        for (
          const [field, value] of [
            ["integration_id", 5],
            ["integration_type", {}],
            ["provider", []],
            ["alias", 1],
            ["email", true],
            ["token_type", 1],
            ["scopes", "read write"],
            ["scopes", [1]],
            ["metadata", "text"],
            ["metadata", ["text"]]
          ] as const
        ) {
          assertProtocolError(
            yield* Effect.flip(credential({ access_token: accessToken, [field]: value })),
            new RegExp(field)
          )
        }
        for (const body of ["", "null", "true", "[]", "\"text\"", "{", "<html></html>", "\ufffe{}", "{}{}"]) {
          assertProtocolError(yield* Effect.flip(credential(body)), /./)
        }
      }))

    it.live("strings for people lose control characters and are cut at 500", () =>
      Effect.gen(function*() {
        const { client, credential, server } = yield* start(transport)
        const hostile = "\u001b[2J\u001b]0;owned\u0007Alice\u202e\r\n\u0000"
        const answered = yield* credential({
          access_token: accessToken,
          alias: hostile,
          email: `${"e".repeat(600)}@example.com`,
          token_type: "Bear\ner",
          scopes: ["re\u001bad"],
          metadata: { team: hostile }
        })
        assert.strictEqual(answered.alias, "[2J]0;ownedAlice")
        assert.strictEqual(answered.email, "e".repeat(500))
        assert.strictEqual(answered.tokenType, "Bearer")
        assert.deepStrictEqual(answered.scopes, ["read"])
        assert.strictEqual(answered.metadata.get("team"), "[2J]0;ownedAlice")

        server.script(reply(200, { integrations: [{ integration_id: "g", alias: hostile, email: hostile }] }))
        const listed = yield* client.listIntegrations
        assert.deepInclude(listed.accounts[0], { alias: "[2J]0;ownedAlice", email: "[2J]0;ownedAlice" })

        server.script(reply(400, { error: "refresh_failed", message: hostile + "m".repeat(600) }))
        const error = yield* Effect.flip(client.requestRefresh("g"))
        assert(error._tag === "RefreshFailed")
        assert.strictEqual(error.detail.length, 500)
        assert.isTrue(error.detail.startsWith("[2J]0;ownedAlicemmm"))

        server.script(reply(200, { valid: false, reason: hostile }))
        assert.strictEqual((yield* client.validateToken("g")).reason, "[2J]0;ownedAlice")
      }))

    it.live("reauthorizationUrl: https, http only on this machine, no user info", () =>
      Effect.gen(function*() {
        const { client, server } = yield* start(transport)
        const urlOf = Effect.fnUntraced(function*(reauthorization_url: unknown) {
          server.script(
            reply(400, { error: "refresh_failed", requires_reauthorization: true, reauthorization_url }),
            reply(200, { valid: false, requires_reauthorization: true, reauthorization_url })
          )
          const error = yield* Effect.flip(client.requestRefresh("hubspot"))
          assert(error._tag === "ReauthRequired", error._tag)
          const validation = yield* client.validateToken("hubspot")
          assert.strictEqual(validation.reauthorizationUrl, error.reauthorizationUrl)
          return error.reauthorizationUrl
        })
        for (
          const url of [
            "https://staging-hive.adenhq.com/integrations/hubspot/connect",
            "https://aden.example.com:8443/connect?id=1#top",
            "http://127.0.0.1:4000/integrations/hubspot/connect",
            "http://localhost:4000/connect",
            "http://[::1]:4000/connect"
          ]
        ) {
          assert.strictEqual(yield* urlOf(url), url)
        }
        for (
          const url of [
            undefined,
            null,
            "",
            "connect",
            "/integrations/hubspot/connect",
            "http://aden.example.com/connect",
            "http://127.0.0.1.example.com/connect",
            "https://user:password@aden.example.com/connect",
            "https://user@aden.example.com/connect",
            "javascript:alert(1)",
            "data:text/html,hello",
            "file:///etc/passwd",
            `https://aden.example.com/${"a".repeat(3000)}`
          ]
        ) {
          assert.strictEqual(yield* urlOf(url), undefined, String(url))
        }
      }))
  })
})
