/**
 * Settings that make no sense are found when the layer is built, by name, before any request; no message repeats a secret.
 */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Context, Effect, Exit, Layer, Option, Redacted } from "effect"
import { HttpClient, HttpClientResponse } from "effect/http"
import { inspect } from "node:util"
import { AdenConfigError } from "../../../src/errors/ConfigError.ts"
import { AdenClient } from "../../../src/providers/aden/AdenClient.ts"
import type { AdenClientOptions } from "../../../src/providers/aden/AdenClient.ts"
import { apiKey, credentialBody } from "../../fixtures/adenClients.ts"

/** An HTTP client that counts requests, and answers each with a credential. */
const counting = () => {
  const urls: Array<string> = []
  const layer = Layer.succeed(
    HttpClient.HttpClient,
    HttpClient.make((request, url) => {
      urls.push(url.href)
      return Effect.succeed(HttpClientResponse.fromWeb(request, new Response(JSON.stringify(credentialBody))))
    })
  )
  return { layer, urls }
}

const key = Redacted.make(apiKey)
const valid = { baseUrl: "https://aden.example.com", apiKey: key }

const refusalOf = Effect.fnUntraced(function*(
  layer: Layer.Layer<AdenClient, AdenConfigError, HttpClient.HttpClient>
) {
  const http = counting()
  const exit = yield* Effect.exit(Layer.build(layer.pipe(Layer.provide(http.layer))))
  assert.strictEqual(http.urls.length, 0)
  assert(Exit.isFailure(exit), "the layer was built")
  const error = Option.getOrThrow(Exit.findErrorOption(exit))
  assert.instanceOf(error, AdenConfigError)
  assert.isFalse(error.isRetryable)
  assert.isNotEmpty(error.remedy)
  assert.isFalse(/[\r\n]/.test(error.message), error.message)
  return error
})

const refused = (options: Partial<AdenClientOptions>) => refusalOf(AdenClient.layer({ ...valid, ...options }))

const refusedFromEnvironment = (env: Record<string, string>, overrides?: Partial<AdenClientOptions>) =>
  refusalOf(
    (overrides === undefined ? AdenClient.layerConfig : AdenClient.layerConfigWith(overrides)).pipe(
      Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(env)))
    )
  )

const built = Effect.fnUntraced(function*(layer: Layer.Layer<AdenClient, AdenConfigError, HttpClient.HttpClient>) {
  const http = counting()
  const client = Context.get(yield* Layer.build(layer.pipe(Layer.provide(http.layer))), AdenClient)
  yield* client.getCredential("hubspot")
  return http.urls
})

describe("AdenClient.layer", () => {
  it.effect.each<readonly [string, RegExp]>([
    ["", /is not set/],
    ["aden.example.com", /is not a URL/],
    ["https://", /is not a URL/],
    ["not a url", /is not a URL/],
    ["https://user:hunter2@aden.example.com", /user name or password/],
    ["https://hunter2@aden.example.com", /user name or password/],
    ["https://aden.example.com?key=hunter2", /query or fragment/],
    ["https://aden.example.com/#hunter2", /query or fragment/],
    ["ftp://aden.example.com", /scheme "ftp:"/],
    ["file:///etc/passwd", /scheme "file:"/],
    ["javascript:alert(1)", /scheme "javascript:"/],
    ["localhost:4000", /scheme "localhost:"/],
    ["http://aden.example.com", /is http to aden.example.com/],
    ["http://192.168.0.10:4000", /is http to 192.168.0.10/],
    ["http://127.0.0.1.example.com", /is http to/],
    ["http://localhost.example.com", /is http to/],
    ["http://0.0.0.0:4000", /is http to 0.0.0.0/],
    ["http://[::2]:4000", /is http to \[::2\]/]
  ])("baseUrl %j is refused", ([baseUrl, detail]) =>
    Effect.gen(function*() {
      const error = yield* refused({ baseUrl })
      assert.strictEqual(error.setting, "baseUrl")
      assert.match(error.detail, detail)
      assert.notInclude(inspect(error), "hunter2")
    }))

  it.effect.each([
    "https://aden.example.com",
    "https://aden.example.com:8443/prefix/",
    "http://localhost:4000",
    "http://127.0.0.1:4000",
    "http://127.1.2.3",
    "http://[::1]:4000",
    "http://0x7f.1:4000"
  ])("baseUrl %j is accepted", (baseUrl) =>
    Effect.gen(function*() {
      assert.strictEqual((yield* built(AdenClient.layer({ ...valid, baseUrl }))).length, 1)
    }))

  it.effect("http to a foreign host is accepted only with allowInsecure", () =>
    Effect.gen(function*() {
      const baseUrl = "http://aden.example.com"
      assert.deepStrictEqual(yield* built(AdenClient.layer({ ...valid, baseUrl, allowInsecure: true })), [
        "http://aden.example.com/v1/credentials/hubspot"
      ])
      yield* refused({ baseUrl, allowInsecure: false })
      yield* refused({ baseUrl: "ftp://aden.example.com", allowInsecure: true })
    }))

  it.effect.each<readonly [string, RegExp]>([
    ["", /is not set/],
    ["hunter2 hunter2", /a space/],
    [" hunter2", /a space/],
    ["hunter2\n", /a line break/],
    ["hunter2\r\nX-Injected: 1", /a line break/],
    ["hunter2é", /outside ASCII/],
    ["hunter2\u0000", /outside ASCII/]
  ])("apiKey %j is refused", ([text, detail]) =>
    Effect.gen(function*() {
      for (const apiKey of [Redacted.make(text), Effect.succeed(Redacted.make(text))]) {
        const error = yield* refused({ apiKey })
        assert.strictEqual(error.setting, "apiKey")
        assert.match(error.detail, detail)
        assert.notInclude(inspect(error) + error.message + JSON.stringify(error), "hunter2")
      }
    }))

  it.effect("a key source that fails is the layer's failure", () =>
    Effect.gen(function*() {
      const failure = new AdenConfigError({ setting: "vault", detail: "is sealed", remedy: "Unseal it." })
      assert.strictEqual(yield* refused({ apiKey: Effect.fail(failure) }), failure)
    }))

  it.effect.each(["tenant 1", "tenant\n1", "tenant\r\nX-Injected: 1", " tenant", "ténant"])(
    "tenantId %j is refused",
    (tenantId) =>
      Effect.gen(function*() {
        const error = yield* refused({ tenantId })
        assert.strictEqual(error.setting, "tenantId")
        assert.match(error.detail, /line break/)
      })
  )

  it.effect.each([Number.NaN, -1, 0, 1.5, Number.POSITIVE_INFINITY])(
    "circuitBreaker.failures %d is refused",
    (failures) =>
      Effect.gen(function*() {
        const error = yield* refused({ circuitBreaker: { failures } })
        assert.strictEqual(error.setting, "circuitBreaker.failures")
        assert.match(error.detail, /whole number above zero/)
      })
  )

  it.effect("options given as undefined are the defaults", () =>
    Effect.gen(function*() {
      const urls = yield* built(AdenClient.layer({
        ...valid,
        tenantId: undefined,
        timeout: undefined,
        retry: undefined,
        maxRetryAfter: undefined,
        allowInsecure: undefined,
        circuitBreaker: { failures: undefined, openFor: undefined }
      }))
      assert.strictEqual(urls.length, 1)
    }))
})

describe("AdenClient.layerConfig", () => {
  const env = { ADEN_API_URL: "https://aden.example.com/prefix", ADEN_API_KEY: apiKey }

  it.effect("reads ADEN_API_URL, ADEN_API_KEY, ADEN_TENANT_ID", () =>
    Effect.gen(function*() {
      const sent: Array<Record<string, string | undefined>> = []
      const http = Layer.succeed(
        HttpClient.HttpClient,
        HttpClient.make((request, url) => {
          sent.push({
            url: url.href,
            authorization: request.headers.authorization,
            tenant: request.headers["x-tenant-id"]
          })
          return Effect.succeed(HttpClientResponse.fromWeb(request, new Response(JSON.stringify(credentialBody))))
        })
      )
      for (const ADEN_TENANT_ID of ["tenant-123", ""]) {
        yield* Effect.flatMap(AdenClient, (client) => client.getCredential("hubspot")).pipe(
          Effect.provide(
            Layer.fresh(AdenClient.layerConfig).pipe(
              Layer.provide(http),
              Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord({ ...env, ADEN_TENANT_ID })))
            )
          )
        )
      }
      const url = "https://aden.example.com/prefix/v1/credentials/hubspot"
      assert.deepStrictEqual(sent, [
        { url, authorization: `Bearer ${apiKey}`, tenant: "tenant-123" },
        { url, authorization: `Bearer ${apiKey}`, tenant: undefined }
      ])
    }))

  it.effect.each<readonly [string, Record<string, string>, RegExp]>([
    ["ADEN_API_URL", { ADEN_API_KEY: apiKey }, /ADEN_API_URL is not set\. Set it to the URL of the Aden server\./],
    ["ADEN_API_URL", { ...env, ADEN_API_URL: "" }, /ADEN_API_URL is not set\./],
    ["ADEN_API_URL", { ...env, ADEN_API_URL: "aden" }, /ADEN_API_URL is not a URL\./],
    ["ADEN_API_URL", { ...env, ADEN_API_URL: "http://aden.example.com" }, /ADEN_API_URL is http to aden\.example\.com/],
    ["ADEN_API_KEY", { ADEN_API_URL: env.ADEN_API_URL }, /ADEN_API_KEY is not set\. Set it to the agent's API key\./],
    ["ADEN_API_KEY", { ...env, ADEN_API_KEY: "" }, /ADEN_API_KEY is not set\./],
    ["ADEN_API_KEY", { ...env, ADEN_API_KEY: "hunter2 \n" }, /ADEN_API_KEY holds a space/],
    ["ADEN_TENANT_ID", { ...env, ADEN_TENANT_ID: "tenant\n1" }, /ADEN_TENANT_ID holds a space/]
  ])("%s missing, empty or malformed", ([setting, env, message]) =>
    Effect.gen(function*() {
      const error = yield* refusedFromEnvironment(env)
      assert.strictEqual(error.setting, setting)
      assert.match(error.message, message)
      assert.notInclude(inspect(error), "hunter2")
    }))

  it.effect("settings that cannot be read are named, without what they held", () =>
    Effect.gen(function*() {
      const provider = ConfigProvider.make(() => Effect.fail(new ConfigProvider.SourceError({ message: "hunter2" })))
      const error = yield* refusalOf(AdenClient.layerConfig.pipe(Layer.provide(ConfigProvider.layer(provider))))
      assert.strictEqual(error.setting, "ADEN_API_URL")
      assert.match(error.message, /cannot be read/)
      assert.notInclude(inspect(error, { depth: Infinity, showHidden: true }), "hunter2")
    }))

  it.effect("layerConfigWith: what is given stands in place of the environment, and is named as given", () =>
    Effect.gen(function*() {
      const provide = (env: Record<string, string>) =>
        Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(env)))
      assert.deepStrictEqual(
        yield* built(AdenClient.layerConfigWith({ baseUrl: "https://other.example.com" }).pipe(provide(env))),
        ["https://other.example.com/v1/credentials/hubspot"]
      )
      assert.strictEqual((yield* built(AdenClient.layerConfigWith(valid).pipe(provide({})))).length, 1)
      assert.strictEqual((yield* refusedFromEnvironment(env, { baseUrl: "aden" })).setting, "baseUrl")
      assert.strictEqual((yield* refusedFromEnvironment(env, { apiKey: Redacted.make("") })).setting, "apiKey")
      assert.strictEqual((yield* refusedFromEnvironment(env, { tenantId: "a b" })).setting, "tenantId")
      assert.strictEqual((yield* refusedFromEnvironment({}, { baseUrl: valid.baseUrl })).setting, "ADEN_API_KEY")
      assert.strictEqual((yield* refusedFromEnvironment(env, { timeout: 0 })).setting, "timeout")
    }))
})

describe("AdenClient.layerTest", () => {
  it.effect("only the members given work", () =>
    Effect.gen(function*() {
      const client = yield* AdenClient
      assert.isTrue(Option.isNone(yield* client.getCredential("hubspot")))
      assert.isTrue(Exit.hasDies(yield* Effect.exit(client.listIntegrations)))
      assert.isTrue(Exit.hasDies(yield* Effect.exit(client.requestRefresh("hubspot"))))
    }).pipe(Effect.provide(AdenClient.layerTest({ getCredential: () => Effect.succeedNone }))))
})
