import { assert, describe, it } from "@effect/vitest"
import { AdenEmulator, type AdenEmulatorOptions, Fault } from "aden-credentials/emulator"
import { DateTime, Duration, Effect, Exit, Fiber, Redacted, Scope } from "effect"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"
import * as http from "node:http"
import * as net from "node:net"
import { repeats } from "../fixtures/repeats.ts"
import { startSeedServer } from "../fixtures/seedServer.ts"
import { witness } from "../fixtures/witness.ts"

// The tests speak to the emulator as any program does: with fetch, node:http and bare sockets.

interface Ask {
  readonly method?: string
  readonly key?: string | undefined
  readonly headers?: Record<string, string>
  readonly body?: string
}

interface Answered {
  readonly status: number
  readonly text: string
  readonly headers: Headers
}

const ask = (url: string, { body, headers, key = "emulator-api-key", method = "GET" }: Ask = {}) =>
  Effect.tryPromise({
    try: async (signal): Promise<Answered> => {
      const response = await fetch(url, {
        method,
        signal,
        redirect: "manual",
        headers: { ...(key === "" ? {} : { authorization: `Bearer ${key}` }), ...headers },
        ...(body === undefined ? {} : { body })
      })
      return { status: response.status, text: await response.text(), headers: response.headers }
    },
    catch: (cause) => cause instanceof Error ? cause : new Error(String(cause))
  })

const post = (url: string, options: Ask = {}) => ask(url, { method: "POST", ...options })

const json = (answer: Answered): Record<string, unknown> => JSON.parse(answer.text)

const sayings = (error: unknown): string =>
  error instanceof Error ? `${error.message} ${sayings(error.cause)} ${"code" in error ? String(error.code) : ""}` : ""

/** The message and codes of the failure of a request that got no whole answer. */
const failure = (request: Effect.Effect<Answered, Error>) => Effect.map(Effect.flip(request), sayings)

const provideAden = (options?: AdenEmulatorOptions) => Effect.provide(AdenEmulator.layer(options))

const lastToken = (aden: AdenEmulator["Service"], integrationId: string) =>
  Effect.map(aden.issuedTokens, (tokens) => {
    const token = tokens.findLast((each) => each.integrationId === integrationId)
    if (token === undefined) throw new Error(`no token was issued for ${integrationId}`)
    return Redacted.value(token.value)
  })

const usageReport = JSON.stringify({
  operation: "api_call",
  status: "success",
  timestamp: "2026-01-28T14:00:00Z",
  metadata: { endpoint: "/crm/v3/objects/contacts", method: "GET", response_code: 200 }
})

const usageHeaders = { "content-type": "application/json" }

describe("the JSON of the contract, character for character", () => {
  // one hour before the times in the contract's examples
  const at = (time: string) => TestClock.setTime(Date.parse(time))
  const compact = (text: string) => JSON.stringify(JSON.parse(text))

  // the clock stands at the examples' time before the emulator issues its first tokens
  const provideAdenAt = (time: string, options?: AdenEmulatorOptions) =>
    Effect.provide(AdenEmulator.layer(options).pipe(Layer.provide(Layer.effectDiscard(at(time)))))

  it.effect("of a credential", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const answer = yield* ask(`${aden.url}/v1/credentials/hubspot`)
      assert.strictEqual(answer.status, 200)
      assert.strictEqual(
        answer.text,
        compact(`{
          "integration_id": "hubspot",
          "integration_type": "hubspot",
          "access_token": "${yield* lastToken(aden, "hubspot")}",
          "token_type": "Bearer",
          "expires_at": "2026-01-28T15:30:00Z",
          "scopes": ["crm.objects.contacts.read", "crm.objects.contacts.write"],
          "metadata": { "portal_id": "12345678", "connected_at": "2026-01-15T10:00:00Z" }
        }`)
      )
      assert.match(answer.headers.get("content-type") ?? "", /^application\/json/)
      assert.strictEqual(answer.headers.get("date"), "Wed, 28 Jan 2026 14:30:00 GMT")
    }).pipe(provideAdenAt("2026-01-28T14:30:00Z")))

  it.effect("of an integration that is unknown", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.removeIntegration("hubspot")
      const answer = yield* ask(`${aden.url}/v1/credentials/hubspot`)
      assert.strictEqual(answer.status, 404)
      assert.strictEqual(
        answer.text,
        `{"error":"integration_not_found","message":"No integration 'hubspot' found for this tenant"}`
      )
    }).pipe(provideAden()))

  it.effect("of a wrong API key, and of none", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      for (const key of ["wrong", ""]) {
        const answer = yield* ask(`${aden.url}/v1/credentials/hubspot`, { key })
        assert.strictEqual(answer.status, 401)
        assert.strictEqual(
          answer.text,
          `{"error":"invalid_api_key","message":"Agent API key is invalid or revoked"}`
        )
      }
    }).pipe(provideAden()))

  it.effect("of a refreshed credential", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const before = yield* lastToken(aden, "hubspot")
      yield* TestClock.adjust("1 hour")
      const answer = yield* post(`${aden.url}/v1/credentials/hubspot/refresh`)
      const token = yield* lastToken(aden, "hubspot")
      assert.strictEqual(answer.status, 200)
      assert.strictEqual(
        answer.text,
        compact(`{
          "integration_id": "hubspot",
          "integration_type": "hubspot",
          "access_token": "${token}",
          "token_type": "Bearer",
          "expires_at": "2026-01-28T16:30:00Z",
          "scopes": ["crm.objects.contacts.read", "crm.objects.contacts.write"],
          "metadata": {}
        }`)
      )
      assert.notStrictEqual(token, before)
      assert.match(token, /^[\x21-\x7e]+$/)
    }).pipe(provideAdenAt("2026-01-28T14:30:00Z")))

  it.effect("of a revoked integration that is to be refreshed", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.revoke("hubspot")
      for (
        const answer of [
          yield* post(`${aden.url}/v1/credentials/hubspot/refresh`),
          yield* ask(`${aden.url}/v1/credentials/hubspot`)
        ]
      ) {
        assert.strictEqual(answer.status, 400)
        assert.strictEqual(
          answer.text,
          compact(`{
            "error": "refresh_failed",
            "message": "Refresh token is invalid or revoked. User must re-authorize.",
            "requires_reauthorization": true,
            "reauthorization_url": "${aden.url}/integrations/hubspot/connect"
          }`)
        )
      }
    }).pipe(provideAden()))

  it.effect("of a rate limit", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 60 }))
      const answer = yield* post(`${aden.url}/v1/credentials/hubspot/refresh`)
      assert.strictEqual(answer.status, 429)
      assert.strictEqual(answer.headers.get("retry-after"), "60")
      assert.strictEqual(
        answer.text,
        `{"error":"rate_limited","message":"Too many refresh requests. Try again later.","retry_after":60}`
      )
    }).pipe(provideAden()))

  it.effect("of a list", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const answer = yield* ask(`${aden.url}/v1/credentials`)
      assert.strictEqual(answer.status, 200)
      assert.strictEqual(
        answer.text,
        compact(`{
          "integrations": [
            {
              "integration_id": "hubspot",
              "integration_type": "hubspot",
              "status": "active",
              "expires_at": "2026-01-28T15:30:00Z"
            },
            { "integration_id": "github", "integration_type": "github", "status": "active", "expires_at": null },
            { "integration_id": "slack", "integration_type": "slack", "status": "requires_reauth", "expires_at": null }
          ],
          "tenant_id": "tenant-123"
        }`)
      )
    }).pipe(provideAdenAt("2026-01-28T14:30:00Z")))

  it.effect("of a validation: valid, expired, revoked, without expiry", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const validate = Effect.map(ask(`${aden.url}/v1/credentials/hubspot/validate`), ({ status, text }) => {
        assert.strictEqual(status, 200)
        return text
      })
      assert.strictEqual(
        yield* validate,
        `{"valid":true,"expires_at":"2026-01-28T15:30:00Z","expires_in_seconds":3600}`
      )
      yield* aden.expire("hubspot")
      assert.strictEqual(yield* validate, `{"valid":false,"reason":"token_expired","requires_reauthorization":false}`)
      yield* aden.revoke("hubspot")
      assert.strictEqual(
        yield* validate,
        `{"valid":false,"reason":"refresh_token_revoked","requires_reauthorization":true,` +
          `"reauthorization_url":"${aden.url}/integrations/hubspot/connect"}`
      )
      const github = yield* ask(`${aden.url}/v1/credentials/github/validate`)
      assert.strictEqual(github.text, `{"valid":true,"expires_at":null,"expires_in_seconds":null}`)
    }).pipe(provideAdenAt("2026-01-28T14:30:00Z")))

  it.effect("of a usage report", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const answer = yield* post(`${aden.url}/v1/credentials/hubspot/usage`, {
        body: usageReport,
        headers: usageHeaders
      })
      assert.strictEqual(answer.status, 200)
      assert.strictEqual(answer.text, `{"received":true}`)
    }).pipe(provideAden()))

  it.effect("of a health check, without an API key", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const answer = yield* ask(`${aden.url}/health`, { key: "" })
      assert.strictEqual(answer.status, 200)
      assert.strictEqual(
        answer.text,
        `{"status":"healthy","version":"1.2.3","timestamp":"2026-01-28T14:00:00Z"}`
      )
    }).pipe(provideAdenAt("2026-01-28T14:00:00Z")))

  it.effect("times are whole seconds, as in the contract's examples, whenever it was asked", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const get = yield* ask(`${aden.url}/v1/credentials/hubspot`)
      assert.include(get.text, `"expires_at":"2026-01-28T15:30:00Z"`)
      yield* TestClock.adjust("90 millis")
      assert.strictEqual(
        (yield* ask(`${aden.url}/health`, { key: "" })).text,
        `{"status":"healthy","version":"1.2.3","timestamp":"2026-01-28T14:30:00Z"}`
      )
      assert.include(
        (yield* post(`${aden.url}/v1/credentials/hubspot/refresh`)).text,
        `"expires_at":"2026-01-28T15:30:00Z"`
      )
      yield* aden.expire("hubspot")
      yield* aden.connect("slack")
      assert.include((yield* ask(`${aden.url}/v1/credentials`)).text, `"expires_at":"2026-01-28T14:30:00Z"`)
      assert.include(
        (yield* ask(`${aden.url}/v1/credentials/slack`)).text,
        `"metadata":{"connected_at":"2026-01-28T14:30:00Z"}`
      )
    }).pipe(provideAdenAt("2026-01-28T14:30:00.890Z")))

  it.effect("the expiry of a token that lives seconds keeps its fraction, alias and e-mail are named where there are any", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const answer = yield* ask(`${aden.url}/v1/credentials/g`)
      assert.strictEqual(
        answer.text,
        `{"integration_id":"g","integration_type":"google","alias":"Timothy","email":"t@example.com",` +
          `"access_token":"${yield* lastToken(aden, "g")}","token_type":"Bearer",` +
          `"expires_at":"2026-01-28T14:00:01.250Z","scopes":[],"metadata":{}}`
      )
    }).pipe(provideAdenAt("2026-01-28T14:00:00.250Z", {
      integrations: [{ id: "g", type: "google", alias: "Timothy", email: "t@example.com", tokenLifetime: "1 second" }]
    })))

  it.effect("the hive dialect: provider, no id in a credential, expired as a status", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const list = yield* ask(`${aden.url}/v1/credentials`)
      assert.strictEqual(
        list.text,
        `{"integrations":[{"integration_id":"Z29v==","provider":"google","alias":"Timothy","email":"t@example.com",` +
          `"status":"expired","expires_at":"2026-01-28T14:00:00Z"}],"tenant_id":"tenant-123"}`
      )
      const answer = yield* ask(`${aden.url}/v1/credentials/${encodeURIComponent("Z29v==")}`)
      assert.strictEqual(
        answer.text,
        `{"provider":"google","alias":"Timothy","email":"t@example.com",` +
          `"access_token":"${yield* lastToken(aden, "Z29v==")}","token_type":"Bearer","expires_at":null,` +
          `"scopes":[],"metadata":{}}`
      )
      assert.strictEqual((yield* aden.integrations())[0]?.status, "active")
    }).pipe(provideAdenAt("2026-01-28T14:00:00Z", {
      dialect: "hive",
      integrations: [
        { id: "Z29v==", type: "google", alias: "Timothy", email: "t@example.com", status: "expired" }
      ]
    })))
})

describe("a server written only from the published description", () => {
  const shape = (value: unknown): unknown =>
    Array.isArray(value)
      ? value.map(shape)
      : typeof value === "object" && value !== null
      ? Object.entries(value).map(([key, member]) => [key, shape(member)])
      : typeof value

  it.live("answers in the same shape, key for key", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const seed = yield* Effect.acquireRelease(
        Effect.promise(() => startSeedServer({ dialect: "seed" })),
        (server) => Effect.promise(server.close)
      )
      for (
        const [method, path, options] of [
          ["GET", "/v1/credentials", {}],
          ["GET", "/v1/credentials/hubspot", {}],
          ["GET", "/v1/credentials/slack", {}],
          ["GET", "/v1/credentials/nope", {}],
          ["POST", "/v1/credentials/hubspot/refresh", {}],
          ["POST", "/v1/credentials/slack/refresh", {}],
          ["GET", "/v1/credentials/hubspot/validate", {}],
          ["GET", "/v1/credentials/slack/validate", {}],
          ["POST", "/v1/credentials/hubspot/usage", { body: usageReport, headers: usageHeaders }],
          ["GET", "/health", {}]
        ] as const
      ) {
        const here = yield* ask(aden.url + path, { method, ...options })
        const there = yield* ask(seed.url + path, { method, key: "seed-key", ...options })
        assert.strictEqual(here.status, there.status, path)
        assert.deepStrictEqual(shape(json(here)), shape(json(there)), path)
      }
      const here = yield* ask(`${aden.url}/v1/credentials`, { key: "wrong" })
      const there = yield* ask(`${seed.url}/v1/credentials`, { key: "wrong" })
      assert.deepStrictEqual([here.status, here.text], [there.status, there.text])
    }).pipe(provideAden()))
})

describe("tokens", () => {
  it.effect("GET refreshes an expired token inside, and only then", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const url = `${aden.url}/v1/credentials/hubspot`
      const first = json(yield* ask(url))
      assert.deepStrictEqual(json(yield* ask(url)), first)
      yield* TestClock.adjust("1 hour")
      const second = json(yield* ask(url))
      assert.notStrictEqual(second["access_token"], first["access_token"])
      assert.strictEqual(second["expires_at"], "1970-01-01T02:00:00Z")
      assert.deepStrictEqual(
        (yield* aden.issuedTokens).filter((token) => token.integrationId === "hubspot").map((token) => token.number),
        [1, 2]
      )
    }).pipe(provideAden()))

  it.effect("refreshOnGet: false answers the expired token until it is refreshed", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const url = `${aden.url}/v1/credentials/hubspot`
      const first = json(yield* ask(url))
      yield* TestClock.adjust("2 hours")
      assert.deepStrictEqual(json(yield* ask(url)), first)
      const refreshed = json(yield* post(`${url}/refresh`))
      assert.strictEqual(json(yield* ask(url))["access_token"], refreshed["access_token"])
    }).pipe(provideAden({ refreshOnGet: false })))

  it.effect("every refresh issues another token, also without expiry", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const tokens = new Set<unknown>()
      for (let index = 0; index < 5; index++) {
        const answer = json(yield* post(`${aden.url}/v1/credentials/github/refresh`))
        assert.strictEqual(answer["expires_at"], null)
        tokens.add(answer["access_token"])
      }
      assert.strictEqual(tokens.size, 5)
    }).pipe(provideAden()))

  it.effect("an integration can be added, replaced and removed", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.revoke("hubspot")
      yield* aden.addIntegration({ id: "hubspot", alias: "new" })
      assert.strictEqual(json(yield* ask(`${aden.url}/v1/credentials/hubspot`))["alias"], "new")
      assert.isTrue(yield* aden.removeIntegration("hubspot"))
      assert.isFalse(yield* aden.removeIntegration("hubspot"))
      assert.deepStrictEqual((yield* aden.integrations()).map((each) => each.id), ["github", "slack"])
    }).pipe(provideAden()))

  it.effect("naming an integration that does not exist is a defect that says what there is", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const exit = yield* Effect.exit(aden.revoke("hubpot"))
      assert.include(String(exit), `no integration "hubpot". It has: hubspot, github, slack.`)
    }).pipe(provideAden()))
})

describe("paths", () => {
  const ids = [
    "a/b",
    "a b",
    "Zoë",
    "日本",
    "100%",
    "a?x=1",
    "a#b",
    "a;b",
    "A",
    "a",
    "a+b",
    "..x",
    "google:Timothy",
    "x".repeat(1000)
  ]

  it.effect("percent-encoded ids reach their own integration", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      for (const id of ids) {
        const url = `${aden.url}/v1/credentials/${encodeURIComponent(id)}`
        for (
          const answer of [yield* ask(url), yield* post(`${url}/refresh`)]
        ) {
          assert.strictEqual(answer.status, 200, id)
          assert.strictEqual(json(answer)["integration_id"], id)
        }
        assert.strictEqual(json(yield* ask(`${url}/validate`))["valid"], true)
        assert.strictEqual(yield* aden.countRequests({ integrationId: id }), 3)
      }
    }).pipe(provideAden({ integrations: ids.map((id) => ({ id })) })))

  it.effect("HEAD is answered as GET, without the body", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const paths = [
        "/health",
        "/v1/credentials",
        "/v1/credentials/hubspot",
        "/v1/credentials/hubspot/validate",
        "/v1/credentials/nope",
        "/integrations/slack/connect",
        "/openapi.json",
        "/nowhere"
      ]
      for (const path of paths) {
        const got = yield* ask(`${aden.url}${path}`)
        const head = yield* ask(`${aden.url}${path}`, { method: "HEAD" })
        assert.strictEqual(head.status, got.status, path)
        assert.strictEqual(head.headers.get("content-type"), got.headers.get("content-type"), path)
        assert.strictEqual(head.text, "", path)
      }
      assert.strictEqual((yield* ask(`${aden.url}/v1/credentials`, { method: "HEAD", key: "" })).status, 401)
      assert.strictEqual(yield* aden.countRequests({ endpoint: "health", method: "HEAD" }), 1)
      assert.strictEqual((yield* ask(`${aden.url}/v1/credentials/hubspot/refresh`, { method: "HEAD" })).status, 404)
    }).pipe(provideAden()))

  it.effect("unknown paths are JSON that no client takes for a missing integration", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      for (
        const [method, path] of [
          ["GET", "/v1"],
          ["GET", "/v2/credentials/hubspot"],
          ["DELETE", "/v1/credentials/hubspot"],
          ["GET", "/v1/credentials/hubspot/nothing"],
          ["GET", "/v1/credentials//refresh"],
          ["GET", "/V1/credentials"],
          ["GET", "/v1/credentials/%ZZ"]
        ] as const
      ) {
        const answer = yield* ask(aden.url + path, { method })
        assert.strictEqual(answer.status, 404, path)
        assert.strictEqual(json(answer)["error"], "not_found", path)
      }
      assert.strictEqual(yield* aden.countRequests({ endpoint: "unknown" }), 7)
    }).pipe(provideAden()))

  it.effect("the OpenAPI document describes the six endpoints", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const document = json(yield* ask(`${aden.url}/openapi.json`, { key: "" }))
      assert.deepStrictEqual(Object.keys(document["paths"] as object).toSorted(), [
        "/health",
        "/v1/credentials",
        "/v1/credentials/{integration_id}",
        "/v1/credentials/{integration_id}/refresh",
        "/v1/credentials/{integration_id}/usage",
        "/v1/credentials/{integration_id}/validate"
      ])
    }).pipe(provideAden()))
})

describe("tenants", () => {
  const acme = {
    id: "acme",
    apiKeys: [Redacted.make("acme-key"), Redacted.make("acme-key-2")],
    integrations: [{ id: "hubspot", alias: "acme" }, { id: "slack", status: "requires_reauth" as const }]
  }

  it.effect("each API key sees its own tenant's integrations", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      for (const key of ["acme-key", "acme-key-2"]) {
        const list = json(yield* ask(`${aden.url}/v1/credentials`, { key, headers: { "x-tenant-id": "acme" } }))
        assert.strictEqual(list["tenant_id"], "acme")
        assert.strictEqual((list["integrations"] as Array<unknown>).length, 2)
        assert.strictEqual(json(yield* ask(`${aden.url}/v1/credentials/hubspot`, { key }))["alias"], "acme")
        assert.strictEqual((yield* ask(`${aden.url}/v1/credentials/github`, { key })).status, 404)
      }
      assert.isUndefined(json(yield* ask(`${aden.url}/v1/credentials/hubspot`))["alias"])
      yield* aden.expire("hubspot", { tenantId: "acme" })
      assert.isTrue(json(yield* ask(`${aden.url}/v1/credentials/hubspot/validate`))["valid"])
    }).pipe(provideAden({ tenants: [acme] })))

  it.effect("a tenant that is not the key's is forbidden", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const answer = yield* ask(`${aden.url}/v1/credentials/hubspot`, {
        key: "acme-key",
        headers: { "x-tenant-id": "tenant-123" }
      })
      assert.strictEqual(answer.status, 403)
      assert.strictEqual(
        answer.text,
        `{"error":"forbidden","message":"Agent API key has no access to tenant 'tenant-123'"}`
      )
    }).pipe(provideAden({ tenants: [acme] })))

  it.effect("keys can be replaced and tenants added while it runs", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.addTenant(acme)
      yield* aden.setApiKeys([Redacted.make("rotated")])
      assert.strictEqual((yield* ask(`${aden.url}/v1/credentials`)).status, 401)
      assert.strictEqual((yield* ask(`${aden.url}/v1/credentials`, { key: "rotated" })).status, 200)
      assert.strictEqual((yield* ask(`${aden.url}/v1/credentials`, { key: "acme-key" })).status, 200)
    }).pipe(provideAden()))

  it.effect("another tenant's reauthorization_url connects that tenant's integration", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const validation = json(yield* ask(`${aden.url}/v1/credentials/slack/validate`, { key: "acme-key" }))
      const connectUrl = String(validation["reauthorization_url"])
      assert.strictEqual((yield* post(connectUrl, { key: "" })).status, 200)
      assert.strictEqual((yield* ask(`${aden.url}/v1/credentials/slack`, { key: "acme-key" })).status, 200)
      assert.strictEqual((yield* ask(`${aden.url}/v1/credentials/slack`)).status, 400)
    }).pipe(provideAden({ tenants: [acme] })))
})

describe("the connect flow", () => {
  it.effect("the page behind reauthorization_url connects when its button is pressed", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const blocked = json(yield* ask(`${aden.url}/v1/credentials/slack`))
      const url = String(blocked["reauthorization_url"])
      assert.strictEqual(url, `${aden.url}/integrations/slack/connect`)
      const page = yield* ask(url, { key: "" })
      assert.strictEqual(page.status, 200)
      assert.match(page.headers.get("content-type") ?? "", /^text\/html/)
      assert.include(page.text, `<form method="post"><button class="main">Connect</button></form>`)
      assert.strictEqual((yield* ask(`${aden.url}/v1/credentials/slack`)).status, 400, "showing it connects nothing")
      const done = yield* post(url, { key: "" })
      assert.include(done.text, "<bdi>slack</bdi> is connected")
      const connected = json(yield* ask(`${aden.url}/v1/credentials/slack`))
      assert.strictEqual(connected["access_token"], yield* lastToken(aden, "slack"))
      assert.notInclude(page.text + done.text, String(connected["access_token"]))
      assert.strictEqual((yield* aden.integrations())[2]?.status, "active")
    }).pipe(provideAden()))

  it.effect("connect does the same from a program", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.connect("slack")
      assert.strictEqual((yield* ask(`${aden.url}/v1/credentials/slack`)).status, 200)
    }).pipe(provideAden()))

  it.effect("names from an integration are text, never markup", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const page = yield* ask(`${aden.url}/integrations/${encodeURIComponent("<b onclick='x'>")}/connect`)
      assert.notInclude(page.text, "<b onclick")
      assert.notInclude(page.text, "<script>")
      assert.notInclude(page.text, `"><img`)
      const unknown = yield* ask(`${aden.url}/integrations/${encodeURIComponent("<i>x</i>")}/connect`)
      assert.strictEqual(unknown.status, 404)
      assert.notInclude(unknown.text, "<i>")
      const foreign = yield* ask(`${aden.url}/integrations/slack/connect?tenant=unknown`)
      assert.strictEqual(foreign.status, 404)
    }).pipe(provideAden({
      integrations: [{ id: "<b onclick='x'>", type: "<script>x</script>", alias: `"><img src=x>`, scopes: ["<u>"] }]
    })))
})

describe("usage", () => {
  it.effect("is recorded once per Idempotency-Key and tenant", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const report = (key: string | undefined, apiKey?: string) =>
        post(`${aden.url}/v1/credentials/hubspot/usage`, {
          key: apiKey,
          body: usageReport,
          headers: { ...usageHeaders, ...(key === undefined ? {} : { "idempotency-key": key }) }
        })
      for (const key of ["one", "one", "two", undefined, undefined, "one"]) {
        assert.strictEqual((yield* report(key)).text, `{"received":true}`)
      }
      yield* report("one", "acme-key")
      const records = yield* aden.usage
      assert.deepStrictEqual(
        records.map((record) => [record.tenantId, record.idempotencyKey]),
        [["tenant-123", "one"], ["tenant-123", "two"], ["tenant-123", undefined], ["tenant-123", undefined], [
          "acme",
          "one"
        ]]
      )
      const [first] = records
      assert.strictEqual(first?.operation, "api_call")
      assert.strictEqual(first?.status, "success")
      assert.strictEqual(first === undefined ? "" : DateTime.formatIso(first.timestamp), "2026-01-28T14:00:00.000Z")
      assert.deepStrictEqual(first?.metadata, {
        endpoint: "/crm/v3/objects/contacts",
        method: "GET",
        response_code: 200
      })
      assert.strictEqual(yield* aden.countRequests({ endpoint: "usage" }), 7)
      assert.strictEqual((yield* aden.requests)[1]?.idempotencyKey, "one")
    }).pipe(provideAden({
      tenants: [{ id: "acme", apiKeys: [Redacted.make("acme-key")], integrations: [{ id: "hubspot" }] }]
    })))

  it.effect("that is not as the contract says is refused and not recorded", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      for (const body of [`{"operation":1}`, `not JSON`, ``, usageReport.replace("2026-01-28T14:00:00Z", "soon")]) {
        const answer = yield* post(`${aden.url}/v1/credentials/hubspot/usage`, { body, headers: usageHeaders })
        assert.strictEqual(answer.status, 400, body)
        assert.strictEqual(json(answer)["error"], "invalid_request")
      }
      // what curl sends with -d where no type is given
      const form = { "content-type": "application/x-www-form-urlencoded" }
      const answer = yield* post(`${aden.url}/v1/credentials/hubspot/usage`, { body: usageReport, headers: form })
      assert.strictEqual(answer.status, 415)
      assert.strictEqual(json(answer)["error"], "unsupported_media_type")
      assert.strictEqual(
        (yield* post(`${aden.url}/v1/credentials/x/usage`, { body: usageReport, headers: usageHeaders })).status,
        404
      )
      assert.deepStrictEqual(yield* aden.usage, [])
    }).pipe(provideAden()))

  it.live("of more than 64 KiB is refused and not recorded, whether its length is announced or not", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const url = `${aden.url}/v1/credentials/hubspot/usage`
      const reportOf = (length: number) => {
        const empty = JSON.stringify({ ...JSON.parse(usageReport), metadata: { note: "" } })
        return empty.replace(`"note":""`, `"note":"${"a".repeat(length - empty.length)}"`)
      }
      for (const length of [64 * 1024 + 1, 30 * 1024 * 1024]) {
        const answer = yield* post(url, { body: reportOf(length), headers: usageHeaders })
        assert.strictEqual(answer.status, 413)
        assert.strictEqual(json(answer)["error"], "content_too_large")
      }
      const chunked = yield* Effect.callback<number | undefined>((resume) => {
        const headers = { ...usageHeaders, authorization: "Bearer emulator-api-key" }
        const request = http.request(url, { method: "POST", headers }, (response) => {
          response.resume()
          resume(Effect.succeed(response.statusCode))
        })
        for (let chunk = 0; chunk < 80; chunk++) request.write("a".repeat(1024))
        request.on("error", (cause) => resume(Effect.die(cause))).end()
      })
      assert.strictEqual(chunked, 413)
      assert.deepStrictEqual(yield* aden.usage, [])
      assert.strictEqual((yield* post(url, { body: reportOf(64 * 1024), headers: usageHeaders })).status, 200)
      assert.strictEqual((yield* aden.usage).length, 1)
    }).pipe(provideAden()))
})

describe("the request log", () => {
  it.effect("holds every request, and no secret", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* ask(`${aden.url}/v1/credentials/hubspot?token=query-secret`, {
        headers: { cookie: "session=cookie-secret", "x-api-key": "header-secret", "x-tenant-id": "tenant-123" }
      })
      yield* post(`${aden.url}/v1/credentials/slack/refresh`, { key: "wrong-key-secret" })
      const [first, second, ...rest] = yield* aden.requests
      assert.deepStrictEqual(rest, [])
      assert.deepInclude(first, {
        endpoint: "get",
        method: "GET",
        path: "/v1/credentials/hubspot",
        integrationId: "hubspot",
        tenantId: "tenant-123",
        status: 200,
        faults: []
      })
      assert.strictEqual(first?.headers["authorization"], "<redacted>")
      assert.strictEqual(first?.headers["x-tenant-id"], "tenant-123")
      assert.deepInclude(second, { endpoint: "refresh", method: "POST", tenantId: undefined, status: 401 })
      const everything = JSON.stringify(yield* aden.requests)
      for (const secret of ["secret", "emulator-api-key", yield* lastToken(aden, "hubspot")]) {
        assert.notInclude(everything, secret)
      }
    }).pipe(provideAden()))

  it.effect("its spans stay out of the program's trace: a real server is another program", () =>
    Effect.gen(function*() {
      const { exit, spans } = yield* witness(
        Effect.gen(function*() {
          const aden = yield* AdenEmulator
          yield* aden.setFault(Fault.Status({ status: 500, body: "what a span would hold" }))
          return [yield* ask(`${aden.url}/v1/credentials/hubspot`), yield* ask(aden.consoleUrl)]
        }).pipe(provideAden())
      )
      assert.deepStrictEqual(Exit.map(exit, (answers) => answers.map(({ status }) => status)), Exit.succeed([500, 200]))
      assert.deepStrictEqual(spans.map(({ name }) => name), ["AdenEmulator.setFault"])
    }))

  it.effect("counts by endpoint, method, path, integration, tenant and status", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* ask(`${aden.url}/v1/credentials`)
      yield* ask(`${aden.url}/v1/credentials/hubspot`)
      yield* ask(`${aden.url}/v1/credentials/nope`)
      yield* post(`${aden.url}/v1/credentials/hubspot/refresh`)
      assert.strictEqual(yield* aden.countRequests(), 4)
      assert.strictEqual(yield* aden.countRequests({ endpoint: "get" }), 2)
      assert.strictEqual(yield* aden.countRequests({ method: "POST" }), 1)
      assert.strictEqual(yield* aden.countRequests({ path: "/v1/credentials" }), 1)
      assert.strictEqual(yield* aden.countRequests({ path: /hubspot/ }), 2)
      assert.strictEqual(yield* aden.countRequests({ integrationId: "hubspot", endpoint: "refresh" }), 1)
      assert.strictEqual(yield* aden.countRequests({ tenantId: "tenant-123" }), 4)
      assert.strictEqual(yield* aden.countRequests({ status: 404 }), 1)
      yield* aden.clearRequests
      assert.strictEqual(yield* aden.countRequests(), 0)
    }).pipe(provideAden()))

  it.live("knows how many were in flight at once", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Latency({ duration: "100 millis" }))
      yield* Effect.forEach(
        ["hubspot", "hubspot", "hubspot", "github", "slack"],
        (id) => ask(`${aden.url}/v1/credentials/${id}`),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(yield* aden.inFlight("hubspot"), { current: 0, maximum: 3 })
      assert.deepStrictEqual(yield* aden.inFlight("github"), { current: 0, maximum: 1 })
      assert.deepStrictEqual(yield* aden.inFlight(), { current: 0, maximum: 5 })
    }).pipe(provideAden()))

  const atOnce = repeats(1_000)
  it.live(`answers ${atOnce} requests at once, each with its own token`, () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const answers = yield* Effect.forEach(
        Array.from({ length: atOnce }),
        () => post(`${aden.url}/v1/credentials/hubspot/refresh`),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(new Set(answers.map((answer) => json(answer)["access_token"])).size, atOnce)
      assert.strictEqual(yield* aden.countRequests({ endpoint: "refresh", status: 200 }), atOnce)
      assert.strictEqual((yield* aden.inFlight("hubspot")).current, 0)
    }).pipe(provideAden()))
})

describe("faults", () => {
  const get = (aden: AdenEmulator["Service"], id = "hubspot") => ask(`${aden.url}/v1/credentials/${id}`)
  const refresh = (aden: AdenEmulator["Service"], id = "hubspot") => post(`${aden.url}/v1/credentials/${id}/refresh`)
  const issuedFor = (aden: AdenEmulator["Service"], id = "hubspot") =>
    Effect.map(aden.issuedTokens, (tokens) => tokens.filter((token) => token.integrationId === id).length)

  it.live("Latency delays the answer", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Latency({ duration: "150 millis" }), { endpoint: "get" })
      const [slow] = yield* Effect.timed(get(aden))
      assert.isAtLeast(Duration.toMillis(slow), 145)
      assert.strictEqual((yield* get(aden)).status, 200)
    }).pipe(provideAden()))

  it.effect("Latency is waited for on the test's clock", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Latency({ duration: "1 day" }))
      const fiber = yield* Effect.forkChild(get(aden))
      yield* Effect.promise(async () => {
        while ((await Effect.runPromise(aden.countRequests())) === 0) await new Promise((done) => setTimeout(done, 5))
      })
      yield* TestClock.adjust("1 day")
      assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
    }).pipe(provideAden()))

  it.effect("Status answers with HTML, headers, or nothing", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      for (const status of [408, 409, 500, 502, 503, 504]) {
        yield* aden.setFault(Fault.Status({ status }), { times: 1 })
        const answer = yield* refresh(aden)
        assert.strictEqual(answer.status, status)
        assert.strictEqual(answer.text, "")
      }
      yield* aden.setFault(
        Fault.Status({ status: 403, contentType: "text/html", body: "<h1>Blocked</h1>", headers: { server: "waf" } })
      )
      const answer = yield* refresh(aden)
      assert.strictEqual(answer.status, 403)
      assert.strictEqual(answer.text, "<h1>Blocked</h1>")
      assert.strictEqual(answer.headers.get("content-type"), "text/html")
      assert.strictEqual(answer.headers.get("server"), "waf")
      assert.strictEqual(yield* issuedFor(aden), 1, "nothing was refreshed")
    }).pipe(provideAden()))

  it.effect("RateLimited answers any hint in the header and in the body", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      for (
        const header of ["120", "0", " 5 ", "1.5", "Wed, 21 Oct 2037 07:28:00 GMT", "-3", "soon", "9999999999", ""]
      ) {
        yield* aden.setFault(Fault.RateLimited({ header }), { times: 1 })
        const answer = yield* refresh(aden)
        assert.strictEqual(answer.status, 429)
        assert.strictEqual(answer.headers.get("retry-after")?.trim(), header.trim())
        assert.notProperty(json(answer), "retry_after")
      }
      for (const body of [5, "5", -1, null, { seconds: 5 }]) {
        yield* aden.setFault(Fault.RateLimited({ body }), { times: 1 })
        const answer = yield* refresh(aden)
        assert.isNull(answer.headers.get("retry-after"))
        assert.deepStrictEqual(json(answer)["retry_after"], body)
      }
    }).pipe(provideAden()))

  it.effect("Redirect sends the client elsewhere", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Redirect({ location: "https://elsewhere.example/steal" }), { times: 1 })
      yield* aden.setFault(Fault.Redirect({ location: "/v1/credentials/github", status: 307 }), { times: 1 })
      const first = yield* get(aden)
      assert.strictEqual(first.status, 302)
      assert.strictEqual(first.headers.get("location"), "https://elsewhere.example/steal")
      const second = yield* get(aden)
      assert.strictEqual(second.status, 307)
      assert.strictEqual(second.headers.get("location"), "/v1/credentials/github")
    }).pipe(provideAden()))

  it.live("Hang never answers, and is counted", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Hang(), { endpoint: "get", times: 1 })
      const answer = yield* Effect.timeoutOption(get(aden), "300 millis")
      assert.strictEqual(answer._tag, "None")
      assert.strictEqual(yield* aden.countRequests({ endpoint: "get" }), 1)
      assert.deepInclude((yield* aden.requests)[0], { status: undefined, faults: ["Hang"] })
      assert.strictEqual((yield* get(aden)).status, 200)
      assert.strictEqual((yield* aden.inFlight("hubspot")).current, 0, "the client gave up")
    }).pipe(provideAden()))

  it.live("Reset at the request: nothing was done", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Reset({ at: "request" }), { times: 1 })
      assert.match(yield* failure(refresh(aden)), /ECONNRESET/)
      assert.strictEqual(yield* issuedFor(aden), 1)
      assert.deepInclude((yield* aden.requests)[0], { endpoint: "refresh", status: undefined, faults: ["Reset"] })
      assert.strictEqual((yield* refresh(aden)).status, 200)
    }).pipe(provideAden()))

  it.live("Reset at the answer: the refresh happened and its answer is lost", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Reset({ at: "answer" }), { times: 1 })
      assert.match(yield* failure(refresh(aden)), /ECONNRESET/)
      assert.strictEqual(yield* issuedFor(aden), 2)
      assert.strictEqual(json(yield* get(aden))["access_token"], yield* lastToken(aden, "hubspot"))
    }).pipe(provideAden()))

  it.live("Reset in the middle of the body breaks the answer off", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Reset({ at: "body" }))
      const received = yield* Effect.promise(() =>
        new Promise<{ readonly status: number | undefined; readonly text: string; readonly error: string }>((done) => {
          http.get(
            `${aden.url}/v1/credentials/hubspot`,
            { headers: { authorization: "Bearer emulator-api-key" } },
            (response) => {
              let text = ""
              response.on("data", (chunk: Buffer) => {
                text += chunk.toString()
              })
              response.on("error", (error) => done({ status: response.statusCode, text, error: error.message }))
              response.on("end", () => done({ status: response.statusCode, text, error: "none" }))
            }
          )
        })
      )
      assert.strictEqual(received.status, 200)
      assert.match(received.text, /^\{"integration_id":"hubspot"/)
      assert.strictEqual(received.error, "aborted")
      assert.match(yield* failure(get(aden)), /terminated|other side closed|socket/i)
    }).pipe(provideAden()))

  it.effect("ReplaceBody answers text and bytes", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.ReplaceBody({ body: `{"access_token": 5}` }), { times: 1 })
      yield* aden.setFault(Fault.ReplaceBody({ body: new Uint8Array([0xff, 0xfe]), contentType: "image/png" }), {
        times: 1
      })
      assert.strictEqual((yield* refresh(aden)).text, `{"access_token": 5}`)
      const second = yield* refresh(aden)
      assert.strictEqual(second.text, "\ufffd\ufffd")
      assert.strictEqual(second.headers.get("content-type"), "image/png")
      assert.strictEqual(yield* issuedFor(aden), 3, "both were carried out")
    }).pipe(provideAden()))

  it.effect("Truncate cuts the body, and ByteOrderMark begins it", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const whole = (yield* get(aden)).text
      yield* aden.setFault(Fault.Truncate(), { times: 1 })
      assert.strictEqual((yield* get(aden)).text, whole.slice(0, Math.floor(whole.length / 2)))
      yield* aden.setFault(Fault.ByteOrderMark(), { times: 1 })
      const bytes = yield* Effect.promise(async () => {
        const response = await fetch(`${aden.url}/v1/credentials/hubspot`, {
          headers: { authorization: "Bearer emulator-api-key" }
        })
        return new Uint8Array(await response.arrayBuffer())
      })
      assert.deepStrictEqual(bytes.slice(0, 3), new Uint8Array([0xef, 0xbb, 0xbf]))
      assert.strictEqual(new TextDecoder().decode(bytes), whole)
    }).pipe(provideAden()))

  it.live("Oversized is sent without being built", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const size = (declared: boolean) =>
        Effect.promise(async () => {
          const response = await fetch(`${aden.url}/v1/credentials/hubspot`, {
            headers: { authorization: "Bearer emulator-api-key" }
          })
          let bytes = 0
          for await (const chunk of response.body ?? []) bytes += (chunk as Uint8Array).length
          assert.strictEqual(response.headers.get("content-length"), declared ? String(bytes) : null)
          return bytes
        })
      const bytes = repeats(400_000_000, 2)
      yield* aden.setFault(Fault.Oversized({ bytes }), { times: 1 })
      const before = process.memoryUsage().rss
      assert.strictEqual(yield* size(false), bytes)
      assert.isBelow(process.memoryUsage().rss - before, bytes / 2)
      yield* aden.setFault(Fault.Oversized({ bytes: 3_000_000, declared: true }), { times: 1 })
      assert.strictEqual(yield* size(true), 3_000_000)
      yield* aden.setFault(Fault.Oversized({ bytes: 1000 }), { times: 1 })
      assert.strictEqual(String(json(yield* get(aden))["filler"]).length, 1000 - `{"filler":""}`.length)
    }).pipe(provideAden()))

  it.effect("Nested answers JSON as deep as is said", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Nested({ depth: 10_000 }))
      const { text } = yield* get(aden)
      assert.match(text, /^\{"integration_id":"hubspot"/)
      assert.strictEqual(text.split("[").length - 1, 10_001)
      yield* aden.clearFaults
      yield* aden.setFault(Fault.Nested({ depth: 3 }))
      assert.deepStrictEqual(json(yield* get(aden))["metadata"], { nested: [[[]]] })
    }).pipe(provideAden()))

  it.effect("Patch: another's id, another's tenant, a refresh token, a raw expiry, a bad item, __proto__", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const patched = Effect.fnUntraced(function*(fault: Fault, answer: Effect.Effect<Answered, Error>) {
        yield* aden.setFault(fault, { times: 1 })
        return json(yield* answer)
      })
      const list = ask(`${aden.url}/v1/credentials`)
      const fields = (fields: Record<string, string | undefined>) => Fault.Patch({ fields })
      assert.strictEqual((yield* patched(fields({ integration_id: "github" }), get(aden)))["integration_id"], "github")
      assert.strictEqual((yield* patched(fields({ tenant_id: "other" }), list))["tenant_id"], "other")
      assert.strictEqual((yield* patched(fields({ refresh_token: "rt" }), refresh(aden)))["refresh_token"], "rt")
      assert.strictEqual((yield* patched(fields({ expires_at: "soon" }), get(aden)))["expires_at"], "soon")
      assert.notProperty(yield* patched(fields({ scopes: undefined }), get(aden)), "scopes")
      assert.strictEqual(
        (yield* patched(fields({ reauthorization_url: "ftp://x" }), get(aden, "slack")))["reauthorization_url"],
        "ftp://x"
      )
      assert.deepStrictEqual(
        (yield* patched(Fault.Patch({ item: "github", fields: { integration_id: 5 } }), list))["integrations"],
        (json(yield* list)["integrations"] as Array<object>).map((item) =>
          "integration_id" in item && item.integration_id === "github" ? { ...item, integration_id: 5 } : item
        )
      )
      yield* aden.setFault(Fault.Patch({ fields: { ["__proto__"]: { polluted: true } } }))
      assert.include((yield* get(aden)).text, `"__proto__":{"polluted":true}`)
    }).pipe(provideAden()))

  it.live("SlowBody drips", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const whole = (yield* get(aden)).text
      yield* aden.setFault(Fault.SlowBody({ interval: "30 millis", bytes: 40 }))
      const [time, answer] = yield* Effect.timed(get(aden))
      assert.strictEqual(answer.text, whole)
      assert.isAtLeast(Duration.toMillis(time), Math.floor(whole.length / 40) * 28)
    }).pipe(provideAden()))

  it.effect("ClockSkew: the date, the expiry and the judgement on it", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.ClockSkew({ offset: "10 minutes" }))
      const answer = yield* refresh(aden)
      assert.strictEqual(answer.headers.get("date"), "Thu, 01 Jan 1970 00:10:00 GMT")
      assert.strictEqual(json(answer)["expires_at"], "1970-01-01T01:10:00Z")
      yield* aden.clearFaults
      yield* aden.setFault(Fault.ClockSkew({ offset: "2 hours" }))
      assert.isFalse(json(yield* ask(`${aden.url}/v1/credentials/hubspot/validate`))["valid"])
      yield* aden.clearFaults
      yield* aden.setFault(Fault.Status({ status: 503 }))
      yield* aden.setFault(Fault.ClockSkew({ offset: Duration.seconds(-10) }))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual((yield* refresh(aden)).headers.get("date"), "Thu, 01 Jan 1970 00:59:50 GMT")
    }).pipe(provideAden()))

  it.effect("DateHeader: any text", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.RateLimited({ header: "Wed, 21 Oct 2037 07:28:00 GMT" }))
      yield* aden.setFault(Fault.DateHeader({ value: "yesterday" }))
      assert.strictEqual((yield* refresh(aden)).headers.get("date"), "yesterday")
    }).pipe(provideAden()))

  it.effect("TokenLifetime: short-lived, and expired when issued", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.TokenLifetime({ lifetime: "3 seconds" }), { times: 1 })
      yield* aden.setFault(Fault.TokenLifetime({ lifetime: Duration.seconds(-1) }), {
        times: 1,
        integrationId: "github"
      })
      assert.strictEqual(json(yield* refresh(aden))["expires_at"], "1970-01-01T00:00:03Z")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(json(yield* refresh(aden, "github"))["expires_at"], "1970-01-01T00:00:09Z")
      assert.strictEqual(json(yield* refresh(aden))["expires_at"], "1970-01-01T01:00:10Z")
    }).pipe(provideAden()))

  it.effect("are matched by endpoint, integration and tenant", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Status({ status: 500 }), {
        endpoint: ["refresh", "validate"],
        integrationId: "hubspot"
      })
      yield* aden.setFault(Fault.Status({ status: 502 }), { tenantId: "acme" })
      assert.strictEqual((yield* refresh(aden)).status, 500)
      assert.strictEqual((yield* ask(`${aden.url}/v1/credentials/hubspot/validate`)).status, 500)
      assert.strictEqual((yield* get(aden)).status, 200)
      assert.strictEqual((yield* refresh(aden, "github")).status, 200)
      assert.strictEqual((yield* ask(`${aden.url}/v1/credentials`, { key: "acme-key" })).status, 502)
    }).pipe(provideAden({ tenants: [{ id: "acme", apiKeys: [Redacted.make("acme-key")] }] })))

  it.effect("do not affect the pages for people, unless they are named", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Status({ status: 500 }))
      const page = ask(`${aden.url}/integrations/slack/connect`)
      assert.strictEqual((yield* page).status, 200)
      assert.strictEqual((yield* ask(`${aden.url}/health`)).status, 500)
      yield* aden.setFault(Fault.Status({ status: 501 }), { endpoint: "connect" })
      assert.strictEqual((yield* page).status, 501)
    }).pipe(provideAden()))

  it.effect("follow one another in the order in which they were set, and end by themselves", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Status({ status: 503 }), { times: 2 })
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 1 }), { times: 1 })
      const statuses: Array<number> = []
      for (let index = 0; index < 5; index++) statuses.push((yield* get(aden)).status)
      assert.deepStrictEqual(statuses, [503, 503, 429, 200, 200])
    }).pipe(provideAden()))

  it.effect("that change the answer follow one another too", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Patch({ fields: { alias: "first" } }), { times: 1 })
      yield* aden.setFault(Fault.Truncate(), { times: 1 })
      yield* aden.setFault(Fault.Patch({ fields: { alias: "third" } }), { times: 1 })
      assert.strictEqual(json(yield* get(aden))["alias"], "first")
      assert.notInclude((yield* get(aden)).text, "}")
      assert.strictEqual(json(yield* get(aden))["alias"], "third")
      assert.notProperty(json(yield* get(aden)), "alias")
    }).pipe(provideAden()))

  it.effect("with a status that no answer can have are a defect", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      for (const fault of [Fault.Status({ status: 100 }), Fault.Redirect({ location: "/", status: Number.NaN })]) {
        assert.include(String(yield* Effect.exit(aden.setFault(fault))), "a status from 200 to 599")
      }
      assert.strictEqual((yield* get(aden)).status, 200)
    }).pipe(provideAden()))

  it.effect("act together where they can: latency around a status, whatever was set first", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Status({ status: 503 }))
      yield* aden.setFault(Fault.Latency({ duration: 0 }))
      assert.strictEqual((yield* get(aden)).status, 503)
      assert.deepStrictEqual((yield* aden.requests)[0]?.faults, ["Latency", "Status"])
    }).pipe(provideAden()))

  it.live("with times: 1 act on one of 200 requests at once", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Latency({ duration: "20 millis" }))
      yield* aden.setFault(Fault.Status({ status: 503 }), { times: 1 })
      const answers = yield* Effect.forEach(Array.from({ length: 200 }), () => get(aden), { concurrency: "unbounded" })
      assert.strictEqual(answers.filter((answer) => answer.status === 503).length, 1)
    }).pipe(provideAden()))
})

describe("stop and start", () => {
  it.live("refuses connections while it is stopped and comes back on the same port with what it knew", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const url = `${aden.url}/v1/credentials/hubspot`
      const before = (yield* ask(url)).text
      for (let round = 0; round < 5; round++) {
        yield* aden.stop
        yield* aden.stop
        assert.match(yield* failure(ask(url)), /ECONNREFUSED/)
        yield* aden.start
        yield* aden.start
        assert.strictEqual((yield* ask(url)).text, before)
      }
      assert.strictEqual(yield* aden.countRequests(), 6)
    }).pipe(provideAden()))

  it.live("stop cuts requests that are under way", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Hang())
      const fiber = yield* Effect.forkChild(failure(ask(`${aden.url}/health`)))
      while ((yield* aden.countRequests()) === 0) yield* Effect.sleep("5 millis")
      const [time] = yield* Effect.timed(aden.stop)
      assert.isBelow(Duration.toMillis(time), 1000)
      assert.match(yield* Fiber.join(fiber), /closed|ECONNRESET|socket/i)
      assert.strictEqual((yield* aden.inFlight()).current, 0)
    }).pipe(provideAden()))

  it.live("the end of the scope does not wait for hung requests, idle connections or slow bodies", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(AdenEmulator.layer(), scope)
      yield* Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const port = Number(new URL(aden.url).port)
        yield* ask(`${aden.url}/health`)
        yield* Effect.promise(() =>
          new Promise<void>((done) => {
            const socket = net.connect(port, "127.0.0.1", done)
            socket.on("error", () => {})
          })
        )
        yield* aden.setFault(Fault.Hang(), { endpoint: "list" })
        yield* aden.setFault(Fault.SlowBody({ interval: "1 minute" }), { endpoint: "get" })
        yield* Effect.forkChild(Effect.ignore(ask(`${aden.url}/v1/credentials`)), { startImmediately: true })
        yield* Effect.forkChild(Effect.ignore(ask(`${aden.url}/v1/credentials/hubspot`)), { startImmediately: true })
        while ((yield* aden.countRequests()) < 3) yield* Effect.sleep("5 millis")
        const [time] = yield* Effect.timed(Scope.close(scope, Exit.void))
        assert.isBelow(Duration.toMillis(time), 1000)
        assert.match(yield* failure(ask(`${aden.url}/health`)), /ECONNREFUSED/)
      }).pipe(Effect.provideContext(context))
    }))

  it.live("a port that is taken, forbidden or none is an error that says so", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const taken = Number(new URL(aden.url).port)
      const failing = (port: number) => Effect.flip(Effect.scoped(Layer.build(AdenEmulator.layer({ port }))))
      const error = yield* failing(taken)
      assert.strictEqual(error._tag, "AdenConfigError")
      assert.include(error.message, `port ${taken} is in use on 127.0.0.1`)
      assert.include((yield* failing(70_000)).message, "port 70000 is not a valid port")
      assert.include((yield* failing(-1)).message, "port -1 is not a valid port")
    }).pipe(provideAden()))

  it.live("a port that is given is used", () =>
    Effect.gen(function*() {
      const port = yield* Effect.scoped(Effect.map(
        Effect.flatMap(Layer.build(AdenEmulator.layer()), (context) => Effect.provideContext(AdenEmulator, context)),
        (aden) => Number(new URL(aden.url).port)
      ))
      yield* Effect.gen(function*() {
        const aden = yield* AdenEmulator
        assert.strictEqual(aden.url, `http://127.0.0.1:${port}`)
        assert.strictEqual((yield* ask(`${aden.url}/health`)).status, 200)
      }).pipe(provideAden({ port }))
    }))
})
