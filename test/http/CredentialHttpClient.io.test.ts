/**
 * What a client that carries a credential sends, and what it does with a 401, over real sockets.
 */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Option, Schedule, Schema, Stream } from "effect"
import {
  FetchHttpClient,
  HttpBody,
  HttpClient,
  HttpClientError,
  HttpClientRequest,
  HttpClientResponse,
  UrlParams
} from "effect/http"
import { TestClock } from "effect/testing"
import { AdenEmulator } from "../../src/emulator/AdenEmulator.ts"
import { CredentialHttpClient } from "../../src/http/CredentialHttpClient.ts"
import type { CredentialEvent } from "../../src/model/CredentialEvent.ts"
import { AdenClient } from "../../src/providers/aden/AdenClient.ts"
import { AdenSyncProvider } from "../../src/providers/aden/AdenSyncProvider.ts"
import { MemoryStorage } from "../../src/storage/MemoryStorage.ts"
import { CredentialStore } from "../../src/store/CredentialStore.ts"
import { TestCredentials } from "../../src/testing/TestCredentials.ts"
import { transports, transportsTested } from "../fixtures/adenClients.ts"
import { apiFor, bearer, clientOf, layerOf, testStore, token } from "../fixtures/credentialClients.ts"
import type { Reply } from "../fixtures/scriptedServer.ts"
import { reply, scriptedServer } from "../fixtures/scriptedServer.ts"
import { witness } from "../fixtures/witness.ts"

/** A store over the emulator, which can revoke a credential at the provider. */
const adenStore = Layer.fresh(
  CredentialStore.layer().pipe(
    Layer.provide(AdenSyncProvider.layer()),
    Layer.provide(
      Layer.unwrap(Effect.map(AdenEmulator, ({ apiKey, url }) => AdenClient.layer({ baseUrl: url, apiKey })))
    ),
    Layer.provide([MemoryStorage.layer(), FetchHttpClient.layer])
  )
)

const requestsToAden = Effect.flatMap(TestCredentials, (test) => test.requests("hubspot"))

describe(`CredentialHttpClient (${transportsTested})`, () => {
  describe.each(transports)("$name", ({ layer: transport }) => {
    const hubspot = (server: { readonly port: number }) =>
      clientOf(transport, { ref: "hubspot", allowedHosts: [`127.0.0.1:${server.port}`] })

    // ---------------------------------------------------------------------------------------------------------------
    // How it is carried
    // ---------------------------------------------------------------------------------------------------------------

    it.live.each<readonly [string, string, Readonly<Record<string, string>>]>([
      ["an access token as Authorization: Bearer", "hubspot", { authorization: `Bearer ${token}` }],
      ["an API key as X-API-Key", "brave", { "x-api-key": "BSA-9f8e7d6c5b4a" }],
      [
        "user name and password as Authorization: Basic, in UTF-8",
        "jira",
        { authorization: `Basic ${Buffer.from("zoë:p:4ss-w0rd").toString("base64")}` }
      ]
    ])("carries %s", ([, ref, headers]) =>
      Effect.gen(function*() {
        const api = yield* scriptedServer({ replies: [reply(200, {})] })
        const client = yield* clientOf(transport, { ref, allowedHosts: [`127.0.0.1:${api.port}`] })
        assert.strictEqual((yield* client.get(`${api.url}/x`)).status, 200)
        assert.include(api.requests[0]?.headers, headers)
        assert.strictEqual(api.requests[0]?.path, "/x")
      }).pipe(Effect.provide(testStore)))

    it.live("carries it in the headers and parameters given, in place of what the request has there", () =>
      Effect.gen(function*() {
        const api = yield* scriptedServer({ replies: [reply(200, {})] })
        const client = yield* clientOf(transport, {
          ref: "brave",
          allowedHosts: [`127.0.0.1:${api.port}`],
          headers: { "X-Subscription-Token": "Token {{brave}}" },
          params: { "api key": "{{brave.api_key}}" }
        })
        const response = yield* client.get(`${api.url}/search?q=a%20b&api+key=stale`, {
          urlParams: { page: 2, "api key": "stale" },
          headers: { authorization: "Bearer of-the-program", "x-subscription-token": "stale" }
        })
        const { headers = {}, path } = api.requests[0] ?? {}
        assert.strictEqual(headers["x-subscription-token"], "Token BSA-9f8e7d6c5b4a")
        assert.strictEqual(headers["authorization"], "Bearer of-the-program")
        const url = new URL(path ?? "", api.url)
        assert.deepStrictEqual(url.searchParams.getAll("api key"), ["BSA-9f8e7d6c5b4a"])
        assert.deepStrictEqual([url.searchParams.get("q"), url.searchParams.get("page")], ["a b", "2"])
        assert.notInclude(response.url, "BSA")
      }).pipe(Effect.provide(testStore)))

    it.live("a value that would begin a header of its own is refused, and nothing is sent", () =>
      Effect.gen(function*() {
        const api = yield* scriptedServer({ replies: [reply(200, {})] })
        const client = yield* clientOf(transport, { ref: "trap", allowedHosts: [`127.0.0.1:${api.port}`] })
        const error = yield* Effect.flip(client.get(api.url))
        assert(error._tag === "CredentialTemplateError")
        assert.match(error.message, /header authorization .*a line break/)
        assert.strictEqual(api.connections(), 0)
      }).pipe(Effect.provide(testStore)))

    it.live("the answer is about the request as the program made it", () =>
      Effect.gen(function*() {
        const api = yield* scriptedServer({ replies: [reply(200, { name: "Ann" }, { "x-page": "1" })] })
        const client = yield* hubspot(api)
        const response = yield* client.get(`${api.url}/contacts?limit=1`)
        assert.deepStrictEqual(yield* response.json, { name: "Ann" })
        assert.strictEqual(response.headers["x-page"], "1")
        assert.strictEqual(response.url, `${api.url}/contacts?limit=1`)
        assert.notProperty(response.request.headers, "authorization")
        const streamed = yield* client.get(api.url)
        assert.include(yield* Stream.mkString(Stream.decodeText(streamed.stream)), "Ann")
      }).pipe(Effect.provide(testStore)))

    it.live("an answer can do all that it can do without: a scope, a web response, cookies", () =>
      Effect.gen(function*() {
        const api = yield* scriptedServer({ replies: [reply(200, { a: 1 }, { "set-cookie": "session=1" })] })
        const client = HttpClient.withScope(yield* hubspot(api))
        yield* Effect.scoped(Effect.gen(function*() {
          const response = yield* client.get(api.url)
          assert.deepStrictEqual(Object.keys(response.cookies.cookies), ["session"])
          assert.deepStrictEqual(yield* HttpClientResponse.schemaBodyJson(Schema.Struct({ a: Schema.Int }))(response), {
            a: 1
          })
        }))
        const response = yield* client.get(api.url)
        const web = HttpClientResponse.toWeb(response)
        if (Option.isSome(web)) assert.deepStrictEqual(yield* Effect.promise(() => web.value.json()), { a: 1 })
        assert.strictEqual(
          yield* HttpClientResponse.matchStatus(response, {
            200: () => Effect.succeed("ok"),
            orElse: () => Effect.succeed("?")
          }),
          "ok"
        )
      }).pipe(Effect.provide(testStore)))

    // ---------------------------------------------------------------------------------------------------------------
    // 401
    // ---------------------------------------------------------------------------------------------------------------

    it.live.each<readonly [string, HttpBody.HttpBody, string]>([
      ["no body", HttpBody.empty, ""],
      ["JSON", HttpBody.jsonUnsafe({ a: "ä" }), "{\"a\":\"ä\"}"],
      ["raw text", HttpBody.raw("raw text", { contentType: "text/plain" }), "raw text"],
      ["bytes", HttpBody.uint8Array(new TextEncoder().encode("bytes")), "bytes"],
      ["raw bytes", HttpBody.raw(new TextEncoder().encode("raw bytes")), "raw bytes"],
      ["parameters", HttpBody.urlParams(UrlParams.fromInput({ a: "1", b: "ä" })), "a=1&b=%C3%A4"]
    ])(
      "401: one refresh, and the request again with the new token and its body: %s",
      ([, body, expected]) =>
        Effect.gen(function*() {
          const api = yield* scriptedServer({ replies: [apiFor(bearer(`${token}.1`))] })
          const client = yield* hubspot(api)
          const response = yield* client.execute(HttpClientRequest.post(`${api.url}/x?y=1`, { body }))
          assert.deepStrictEqual(yield* response.json, { ok: true, path: "/x?y=1", body: expected })
          assert.strictEqual(yield* requestsToAden, 1)
          assert.strictEqual(api.requests.length, 2)
          // the store has the new one for the next caller
          assert.strictEqual((yield* client.get(api.url)).status, 200)
          assert.strictEqual(yield* requestsToAden, 1)
        }).pipe(Effect.provide(testStore))
    )

    it.live.each(["HEAD", "OPTIONS", "DELETE", "PATCH"] as const)(
      "401 to %s: it is sent again",
      (method) =>
        Effect.gen(function*() {
          const api = yield* scriptedServer({ replies: [apiFor(bearer(`${token}.1`))] })
          const client = yield* hubspot(api)
          assert.strictEqual((yield* client.execute(HttpClientRequest.make(method)(api.url))).status, 200)
          assert.deepStrictEqual(api.requests.map((request) => request.method), [method, method])
          assert.strictEqual(yield* requestsToAden, 1)
        }).pipe(Effect.provide(testStore))
    )

    it.live("401 and a form: it is sent again", () =>
      Effect.gen(function*() {
        const api = yield* scriptedServer({ replies: [apiFor(bearer(`${token}.1`))] })
        const client = yield* hubspot(api)
        const form = new FormData()
        form.append("field", "of the form")
        form.append("file", new Blob(["of the file"]), "notes.txt")
        const response = yield* client.post(api.url, { body: HttpBody.formData(form) })
        assert.strictEqual(response.status, 200)
        for (const { body } of api.requests) {
          assert.include(body, "of the form")
          assert.include(body, "of the file")
        }
        assert.strictEqual(api.requests.length, 2)
      }).pipe(Effect.provide(testStore)))

    it.live("a second 401 is answered as it is, and ends it", () =>
      Effect.gen(function*() {
        const api = yield* scriptedServer({ replies: [reply(401, { error: "no such scope" })] })
        const client = yield* hubspot(api)
        const response = yield* client.get(api.url)
        assert.strictEqual(response.status, 401)
        assert.deepStrictEqual(yield* response.json, { error: "no such scope" })
        assert.strictEqual(api.requests.length, 2)
        assert.strictEqual(yield* requestsToAden, 1)
      }).pipe(Effect.provide(testStore)))

    it.live("403 renews nothing", () =>
      Effect.gen(function*() {
        const api = yield* scriptedServer({ replies: [reply(403, { error: "forbidden" })] })
        const client = yield* hubspot(api)
        assert.strictEqual((yield* client.get(api.url)).status, 403)
        assert.strictEqual(api.requests.length, 1)
        assert.strictEqual(yield* requestsToAden, 0)
      }).pipe(Effect.provide(testStore)))

    it.live("401 and the body is a stream: not sent again, but the next request has a new token", () =>
      Effect.gen(function*() {
        const api = yield* scriptedServer({ replies: [apiFor(bearer(`${token}.1`))] })
        const client = yield* hubspot(api)
        let runs = 0
        const body = HttpBody.stream(Stream.suspend(() => {
          runs++
          return Stream.make(new TextEncoder().encode("once"))
        }))
        const response = yield* client.post(api.url, { body })
        assert.strictEqual(response.status, 401)
        assert.deepStrictEqual(yield* response.json, { error: "token_expired" })
        assert.deepStrictEqual([runs, api.requests.length], [1, 1])
        assert.strictEqual((yield* client.get(api.url)).status, 200)
        assert.strictEqual(yield* requestsToAden, 1)
      }).pipe(Effect.provide(testStore)))

    it.live("50 requests refused at once share one refresh", () =>
      Effect.gen(function*() {
        const api = yield* scriptedServer({ replies: [apiFor(bearer(`${token}.1`))] })
        const client = yield* hubspot(api)
        const statuses = yield* Effect.forEach(
          Array.from({ length: 50 }),
          () => Effect.map(client.get(api.url), ({ status }) => status),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(new Set(statuses), new Set([200]))
        assert.strictEqual(yield* requestsToAden, 1)
        assert.isAtMost(api.requests.length, 100)
      }).pipe(Effect.provide(testStore)))

    it.live("a refusal that arrives after the token was renewed renews nothing", () =>
      Effect.gen(function*() {
        const release = yield* Deferred.make<void>()
        const seen = yield* Deferred.make<void>()
        const run = Effect.runForkWith(yield* Effect.context())
        const late: Reply = (response, request) => {
          run(Effect.gen(function*() {
            yield* Deferred.succeed(seen, undefined)
            yield* Deferred.await(release)
            reply(401, {})(response, request)
          }))
        }
        const api = yield* scriptedServer({ replies: [late, apiFor(bearer(`${token}.1`))] })
        const client = yield* hubspot(api)
        const slow = yield* Effect.forkChild(client.get(`${api.url}/slow`))
        yield* Deferred.await(seen)
        assert.strictEqual((yield* client.get(`${api.url}/fast`)).status, 200)
        yield* Deferred.succeed(release, undefined)
        assert.strictEqual((yield* Fiber.join(slow)).status, 200)
        assert.strictEqual(yield* requestsToAden, 1)
      }).pipe(Effect.provide(testStore)))

    it.live("a token that another caller renewed, and that is refused as well, is renewed by the next request", () =>
      Effect.gen(function*() {
        const store = yield* CredentialStore
        const api = yield* scriptedServer({ replies: [apiFor(bearer(`${token}.2`))] })
        const client = yield* hubspot(api)
        const run = Effect.runPromiseWith(yield* Effect.context())
        api.script(
          (response, request) => {
            void run(store.refresh("hubspot")).then(() => reply(401, {})(response, request))
          },
          apiFor(bearer(`${token}.2`))
        )
        assert.strictEqual((yield* client.get(api.url)).status, 401)
        assert.strictEqual(yield* requestsToAden, 1)
        assert.strictEqual((yield* client.get(api.url)).status, 200)
        assert.strictEqual(yield* requestsToAden, 2)
      }).pipe(Effect.provide(testStore)))

    it.live("Aden is down: the 401 as it is, with its body, and the current token stays in use", () =>
      Effect.gen(function*() {
        const api = yield* scriptedServer({ replies: [reply(401, { error: "try later" }), reply(200, {})] })
        const client = yield* hubspot(api)
        const test = yield* TestCredentials
        yield* test.takeDown()
        const { exit, shown } = yield* witness(client.get(api.url))
        const response = yield* exit
        assert.strictEqual(response.status, 401)
        assert.deepStrictEqual(yield* response.json, { error: "try later" })
        assert.include(shown, "the credential could not be refreshed")
        assert.notInclude(shown, token)
        assert.strictEqual((yield* client.get(api.url)).status, 200)
      }).pipe(Effect.provide(testStore)))

    it.live("a credential that no provider renews: the 401 as it is", () =>
      Effect.gen(function*() {
        const api = yield* scriptedServer({ replies: [reply(401, {})] })
        const client = yield* clientOf(transport, { ref: "brave", allowedHosts: [`127.0.0.1:${api.port}`] })
        assert.strictEqual((yield* client.get(api.url)).status, 401)
        assert.strictEqual(api.requests.length, 1)
      }).pipe(Effect.provide(testStore)))

    it.live("50 parallel tools hit a revoked integration: each is told who has to act, and one event is sent", () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const store = yield* CredentialStore
        const seen: Array<CredentialEvent> = []
        yield* Effect.forkScoped(Stream.runForEach(store.changes, (event) => Effect.sync(() => seen.push(event))), {
          startImmediately: true
        })
        yield* store.token("hubspot")
        yield* aden.revoke("hubspot") // the store does not hear of it
        const api = yield* scriptedServer({ replies: [reply(401, { error: "revoked" })] })
        const client = yield* hubspot(api)
        const errors = yield* Effect.forEach(
          Array.from({ length: 50 }),
          () => Effect.flip(client.get(api.url)),
          { concurrency: "unbounded" }
        )
        for (const error of errors) {
          assert(error._tag === "ReauthRequired")
          assert.strictEqual(error.reauthorizationUrl, `${aden.url}/integrations/hubspot/connect`)
        }
        assert.strictEqual(yield* aden.countRequests({ endpoint: "refresh" }), 1)
        assert.isAtLeast(api.requests.length, 1)
        assert.deepStrictEqual(seen.map(({ _tag }) => _tag), ["Fetched", "ReauthorizationRequired"])
      }).pipe(Effect.provide(adenStore), Effect.provide(AdenEmulator.layer(), { local: true })))
  })

  it.effect("an API that refuses new tokens too has Aden asked at most every 30 s", () =>
    Effect.gen(function*() {
      const [transport] = transports
      assert(transport !== undefined)
      const api = yield* scriptedServer({ replies: [reply(401, {})] })
      const client = yield* clientOf(transport.layer, { ref: "hubspot", allowedHosts: [`127.0.0.1:${api.port}`] })
      for (let i = 0; i < 20; i++) assert.strictEqual((yield* client.get(api.url)).status, 401)
      assert.strictEqual(yield* requestsToAden, 1)
      yield* TestClock.adjust("31 seconds")
      for (let i = 0; i < 20; i++) yield* client.get(api.url)
      assert.strictEqual(yield* requestsToAden, 2)
      // once it accepts one, the next refusal is an ordinary one
      const { port } = api
      api.script(apiFor(bearer(`${token}.2`)))
      assert.strictEqual((yield* client.get(`http://127.0.0.1:${port}`)).status, 200)
      api.script(apiFor(bearer(`${token}.3`)))
      yield* TestClock.adjust("31 seconds")
      assert.strictEqual((yield* client.get(api.url)).status, 200)
    }).pipe(Effect.provide(testStore)))
})

describe("CredentialHttpClient.layer", () => {
  const [fetch] = transports
  assert(fetch !== undefined)

  it.live("fails as every HttpClient; unwrapFailure brings out the credential's own error", () =>
    Effect.gen(function*() {
      const api = yield* scriptedServer({ replies: [reply(200, {})] })
      const allowedHosts = [`127.0.0.1:${api.port}`]
      const test = yield* TestCredentials
      const client = yield* layerOf(fetch.layer, { ref: "hubspot", allowedHosts })
      const absent = yield* layerOf(fetch.layer, { ref: "absent", allowedHosts })

      const denied = yield* Effect.flip(client.get("https://evil.test/x"))
      assert(HttpClientError.isHttpClientError(denied))
      assert.strictEqual(denied.reason._tag, "InvalidUrlError")
      assert.match(denied.message, /"hubspot" is not sent to "evil\.test": it is not among the allowed hosts/)
      const unwrapped = yield* Effect.flip(CredentialHttpClient.unwrapFailure(client.get("https://evil.test/x")))
      assert(unwrapped._tag === "CredentialHostDenied")
      assert.deepStrictEqual([unwrapped.ref, unwrapped.host], ["hubspot", "evil.test"])

      const missing = yield* Effect.flip(absent.get(api.url))
      assert.strictEqual(missing.reason._tag, "EncodeError")

      yield* test.takeDown()
      yield* (yield* CredentialStore).invalidate("hubspot")
      const down = yield* Effect.flip(client.get(api.url))
      assert.strictEqual(down.reason._tag, "TransportError")
      assert.isTrue(HttpClient.isTransientError(down))
      const tried = yield* witness(client.get(api.url).pipe(CredentialHttpClient.unwrapFailure))
      assert.strictEqual((yield* Effect.flip(tried.exit))._tag, "AdenUnavailable")

      yield* test.bringUp()
      yield* test.revoke("hubspot", { reauthorizationUrl: "https://aden.example.com/connect" })
      const message = yield* client.get(api.url).pipe(
        CredentialHttpClient.unwrapFailure,
        Effect.as("sent"),
        Effect.catchTag("ReauthRequired", (error) => Effect.succeed(error.reauthorizationUrl))
      )
      assert.strictEqual(message, "https://aden.example.com/connect")
      const revoked = yield* Effect.flip(client.get(api.url))
      assert.isFalse(HttpClient.isTransientError(revoked))
      assert.strictEqual(api.connections(), 0)
    }).pipe(Effect.provide(testStore)))

  it.live("errors that are not about the credential stay as they are", () =>
    Effect.gen(function*() {
      const { port } = yield* Effect.scoped(scriptedServer())
      const client = yield* layerOf(fetch.layer, { ref: "hubspot", allowedHosts: [`127.0.0.1:${port}`] })
      const error = yield* Effect.flip(CredentialHttpClient.unwrapFailure(client.get(`http://127.0.0.1:${port}`)))
      assert(error._tag === "HttpClientError")
      assert.strictEqual(error.reason._tag, "TransportError")
      const invalid = yield* Effect.flip(client.get("not a url"))
      assert.strictEqual(invalid.reason._tag, "InvalidUrlError")
    }).pipe(Effect.provide(testStore)))

  it.live("the URL that counts is the one that the client underneath makes of it", () =>
    Effect.gen(function*() {
      const api = yield* scriptedServer({ replies: [reply(200, {})] })
      const prefixed = Layer.effect(
        HttpClient.HttpClient,
        Effect.map(HttpClient.HttpClient, HttpClient.mapRequest(HttpClientRequest.prependUrl(api.url)))
      ).pipe(Layer.provide(fetch.layer))
      const allowed = yield* layerOf(prefixed, { ref: "hubspot", allowedHosts: [`127.0.0.1:${api.port}`] })
      assert.strictEqual((yield* allowed.get("/x")).status, 200)
      assert.strictEqual(api.requests[0]?.headers.authorization, `Bearer ${token}`)
      const other = yield* layerOf(prefixed, { ref: "hubspot", allowedHosts: ["api.good.test"] })
      const error = yield* Effect.flip(CredentialHttpClient.unwrapFailure(other.get("/x")))
      assert.strictEqual(error._tag, "CredentialHostDenied")
      assert.strictEqual(api.requests.length, 1)
    }).pipe(Effect.provide(testStore)))

  it.live("what is built on it works: a base URL, filterStatusOk, retryTransient", () =>
    Effect.gen(function*() {
      const api = yield* scriptedServer({ replies: [reply(503, {}), apiFor(bearer(token))] })
      const client = (yield* layerOf(fetch.layer, { ref: "hubspot", allowedHosts: [`127.0.0.1:${api.port}`] })).pipe(
        HttpClient.mapRequest(HttpClientRequest.prependUrl(api.url)),
        HttpClient.filterStatusOk,
        HttpClient.retryTransient({ schedule: Schedule.recurs(1) })
      )
      assert.deepStrictEqual(yield* Effect.flatMap(client.get("/a"), ({ json }) => json), {
        ok: true,
        path: "/a",
        body: ""
      })
    }).pipe(Effect.provide(testStore)))

  it.live("an interrupted request is given up, and others that wait for the same renewal are not", () =>
    Effect.gen(function*() {
      const api = yield* scriptedServer({ replies: [apiFor(bearer(`${token}.1`))] })
      const client = yield* layerOf(fetch.layer, { ref: "hubspot", allowedHosts: [`127.0.0.1:${api.port}`] })
      const fibers = yield* Effect.forEach(Array.from({ length: 10 }), () => Effect.forkChild(client.get(api.url)))
      const [first, ...rest] = fibers
      assert(first !== undefined)
      yield* Fiber.interrupt(first)
      for (const fiber of rest) assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
      assert.strictEqual(yield* requestsToAden, 1)
    }).pipe(Effect.provide(testStore)))

  it.effect.each<readonly [string, Partial<Parameters<typeof CredentialHttpClient.layer>[0]>, RegExp]>([
    ["no hosts", { allowedHosts: [] }, /^allowedHosts is empty\./],
    ["a wildcard", { allowedHosts: ["*.good.test"] }, /"\*\.good\.test", and wildcards are not supported/],
    ["a wildcard in the middle", { allowedHosts: ["api.*.test"] }, /wildcards are not supported/],
    ["a wildcard for all", { allowedHosts: ["*"] }, /wildcards are not supported/],
    ["a wildcard of full width", { allowedHosts: ["\uff0a.good.test"] }, /wildcards are not supported/],
    ["all below a domain", { allowedHosts: [".good.test"] }, /wildcards are not supported/],
    ["a part without a name", { allowedHosts: ["api..test"] }, /not a host/],
    ["a wildcard port", { allowedHosts: ["api.good.test:*"] }, /wildcards are not supported/],
    ["a URL", { allowedHosts: ["https://api.good.test"] }, /not a host.*without a scheme or a path/],
    ["a path", { allowedHosts: ["api.good.test/v1"] }, /not a host/],
    ["a user name", { allowedHosts: ["user@api.good.test"] }, /not a host/],
    ["an encoded host", { allowedHosts: ["api%2egood.test"] }, /not a host/],
    ["two in one", { allowedHosts: ["api.good.test,evil.test"] }, /not a host/],
    ["spaces", { allowedHosts: [" api.good.test"] }, /not a host/],
    ["an empty one", { allowedHosts: ["api.good.test", ""] }, /"", which is not a host/],
    ["a port out of range", { allowedHosts: ["api.good.test:99999"] }, /not a host/],
    ["an unclosed template", { headers: { "X-Key": "{{hubspot" } }, /^headers\["X-Key"\] cannot be used: .*not closed/],
    ["another ref", { params: { key: "{{slack}}" } }, /^params\["key"\] cannot be used: "slack" is not among the refs/],
    ["an internal key", { params: { key: "{{hubspot._alias}}" } }, /"_alias" is internal/],
    ["a header's name with a line break", { headers: { "X\r\nY": "{{hubspot}}" } }, /header's name/]
  ])("refuses when it is built: %s", ([, options, message]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Layer.build(
        CredentialHttpClient.layer({ ref: "hubspot", allowedHosts: ["api.good.test"], ...options }).pipe(
          Layer.provide(fetch.layer)
        )
      ))
      assert(error._tag === "AdenConfigError")
      assert.match(error.message, message)
      assert.notInclude(error.message, "\n")
    }).pipe(Effect.provide(testStore)))
})
