/**
 * What a program gets of an answer that holds the credential, however the API writes it there and however the program reads it.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Stream, Tracer } from "effect"
import { HttpClient, HttpClientResponse } from "effect/http"
import { inspect } from "node:util"
import { gzipSync } from "node:zlib"
import type { CredentialHttpClientOptions } from "../../src/http/CredentialHttpClient.ts"
import { TestCredentials } from "../../src/testing/TestCredentials.ts"
import { transports, transportsTested } from "../fixtures/adenClients.ts"
import { clientOf, credentialOf, testStore, token } from "../fixtures/credentialClients.ts"
import { redirect, reply, scriptedServer } from "../fixtures/scriptedServer.ts"

const key = "q+8Zr/Lw3+Yt0/Vd9A=="

const stars = (text: string) => "*".repeat(Buffer.byteLength(text))

/** An API that answers like this. */
const answering = (body: ConstructorParameters<typeof Response>[0], headers: Record<string, string> = {}) =>
  Layer.succeed(
    HttpClient.HttpClient,
    HttpClient.make((request) => Effect.succeed(HttpClientResponse.fromWeb(request, new Response(body, { headers }))))
  )

const apiKey = { ref: "api", allowedHosts: ["api.good.test"], params: { key: "{{api.api_key}}" } }

const apiStore = TestCredentials.layer([
  credentialOf("api", "api_key", { api_key: key }),
  credentialOf("odd", "api_key", { api_key: "Pä55w\"rd\\&1" }),
  credentialOf("basic", "basic_auth", { username: "zoe", password: "p:4ss-w0rd" })
])

const answerOf = Effect.fnUntraced(function*(
  transport: Layer.Layer<HttpClient.HttpClient>,
  options: Partial<CredentialHttpClientOptions> = {}
) {
  const client = yield* clientOf(transport, { ...apiKey, echo: "mask", ...options })
  return yield* client.get("https://api.good.test/v1/search")
})

const inPieces = (text: string, size: number) => {
  const bytes = Buffer.from(text)
  return new ReadableStream<Uint8Array>({
    start: (controller) => {
      for (let at = 0; at < bytes.length; at += size) controller.enqueue(new Uint8Array(bytes.subarray(at, at + size)))
      controller.close()
    }
  })
}

const textOfStream = (response: HttpClientResponse.HttpClientResponse) =>
  Stream.mkString(Stream.decodeText(response.stream))

const base64 = (text: string, encoding: "base64" | "base64url" = "base64") => Buffer.from(text).toString(encoding)

describe("an answer that holds the credential", () => {
  it.effect.each<readonly [string, string]>([
    ["as it is", key],
    ["in a URL", encodeURIComponent(key)],
    ["in a URL, in small letters", encodeURIComponent(key).replace(/%../g, (escape) => escape.toLowerCase())],
    ["in a URL in a URL", encodeURIComponent(encodeURIComponent(key))],
    ["encoded in part", key.replaceAll("/", "%2F")],
    ["as JSON with escaped slashes", key.replaceAll("/", "\\/")],
    [
      "as JSON in numbers",
      Array.from(key, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`).join("")
    ],
    ["as HTML", Array.from(key, (sign) => `&#${sign.charCodeAt(0)};`).join("")],
    ["as hexadecimal digits", Buffer.from(key).toString("hex").toUpperCase()]
  ])("is masked %s, and keeps its length", ([, written]) =>
    Effect.gen(function*() {
      const text = `{"given":"${written}","ok":true}`
      const response = yield* answerOf(answering(text))
      assert.strictEqual(yield* response.text, `{"given":"${stars(written)}","ok":true}`)
      for (const size of [1, 3, 7, 1_000]) {
        const response = yield* answerOf(answering(inPieces(text, size)))
        assert.strictEqual(
          yield* textOfStream(response),
          `{"given":"${stars(written)}","ok":true}`,
          `in pieces of ${size}`
        )
      }
    }).pipe(Effect.provide(apiStore)))

  it.effect.each([0, 1, 2, 3, 4, 5])("is masked as base64 behind %d other bytes", (bytes) =>
    Effect.gen(function*() {
      for (const encoding of ["base64", "base64url"] as const) {
        const text = base64(`${"x".repeat(bytes)}${key}, and more`, encoding)
        const shown = yield* Effect.flatMap(answerOf(answering(`<${text}>`)), (response) => response.text)
        assert.strictEqual(shown.length, text.length + 2)
        const decoded = Buffer.from(shown.slice(1, -1).replaceAll("*", "A"), encoding).toString("latin1")
        assert.notInclude(decoded, key.slice(1, 5))
        assert.notInclude(decoded, key.slice(-5, -1))
        assert.include(decoded, ", and more".slice(1))
      }
    }).pipe(Effect.provide(apiStore)))

  it.effect("is masked where it has signs that each format writes in its way", () =>
    Effect.gen(function*() {
      const secret = "Pä55w\"rd\\&1"
      for (
        const written of [
          secret,
          JSON.stringify(secret).slice(1, -1),
          encodeURIComponent(secret),
          secret.replace("&", "&amp;")
        ]
      ) {
        const response = yield* answerOf(answering(`<${written}>`), { ref: "odd", params: { key: "{{odd.api_key}}" } })
        assert.strictEqual(yield* response.text, `<${stars(written)}>`)
      }
    }).pipe(Effect.provide(apiStore)))

  it.effect("is masked as user name and password", () =>
    Effect.gen(function*() {
      const basic = { ref: "basic", allowedHosts: ["api.good.test"], echo: "mask" } as const
      for (
        const [written, shown] of [
          [`Basic ${base64("zoe:p:4ss-w0rd")}`, /^Basic \*{18,20}=?$/],
          ["zoe:p:4ss-w0rd", /^\*{14}$/],
          ["p:4ss-w0rd of zoe", /^\*{10} of zoe$/],
          [base64("x=1&auth=zoe:p:4ss-w0rd"), /^[^*]*\*{17,20}.{0,2}$/]
        ] as const
      ) {
        const client = yield* clientOf(answering(written), basic)
        assert.match(yield* Effect.flatMap(client.get("https://api.good.test/"), (response) => response.text), shown)
      }
    }).pipe(Effect.provide(apiStore)))

  it.effect("is masked on each way to its body", () =>
    Effect.gen(function*() {
      const json = JSON.stringify({ given: key, list: [{ key }] })
      const form = `a=1&given=${encodeURIComponent(key)}`
      const parts = `--b\r\ncontent-disposition: form-data; name="given"\r\n\r\n${key}\r\n--b--\r\n`
      const ofJson = yield* answerOf(answering(json))
      assert.deepStrictEqual(yield* ofJson.json, { given: stars(key), list: [{ key: stars(key) }] })
      assert.strictEqual(Buffer.from(yield* ofJson.arrayBuffer).toString(), json.replaceAll(key, stars(key)))
      assert.strictEqual(yield* ofJson.text, json.replaceAll(key, stars(key)))
      const ofForm = yield* Effect.flatMap(answerOf(answering(form)), (response) => response.urlParamsBody)
      assert.notInclude(inspect(ofForm, { depth: 9 }), "q+8Zr")
      assert.include(inspect(ofForm, { depth: 9 }), "****")
      const ofParts = yield* Effect.flatMap(
        answerOf(answering(parts, { "content-type": "multipart/form-data; boundary=b" })),
        (response) => response.formData
      )
      assert.strictEqual(ofParts.get("given"), stars(key))
      assert.isNull(yield* Effect.flatMap(answerOf(answering("")), (response) => response.json))
    }).pipe(Effect.provide(apiStore)))

  it.effect("is masked in headers and cookies, and in what is printed of it", () =>
    Effect.gen(function*() {
      const response = yield* answerOf(answering(`{"key":"${key}"`, {
        "link": `<https://api.good.test/v1/search?page=2&key=${encodeURIComponent(key)}>; rel="next"`,
        "set-cookie": `last=${encodeURIComponent(key)}; Path=/`,
        "content-length": "32",
        "content-digest": "sha-256=:x:",
        "x-plain": "caf\u00e9"
      }))
      const error = yield* Effect.flip(response.json)
      for (const shown of [response, response.headers, response.cookies, error, error.message, response.toJSON()]) {
        assert.notInclude(inspect(shown, { depth: 9 }), "q+8Zr")
        assert.notInclude(inspect(shown, { depth: 9 }), "q%2B8Zr")
      }
      assert.include(response.headers["link"], "page=2&key=****")
      assert.strictEqual(response.headers["content-length"], "32")
      assert.strictEqual(response.headers["x-plain"], "caf\u00e9")
      assert.isUndefined(response.headers["content-digest"])
      assert.isTrue(HttpClientResponse.toWeb(response)._tag === "None")
    }).pipe(Effect.provide(apiStore)))

  it.effect("leaves everything else as it is", () =>
    Effect.gen(function*() {
      const bytes = Uint8Array.from({ length: 70_000 }, (_, index) => (index * 7_919) % 256)
      const response = yield* answerOf(answering(bytes, { "content-type": "application/octet-stream" }))
      assert.deepStrictEqual(new Uint8Array(yield* response.arrayBuffer), bytes)
      assert.strictEqual(response.status, 200)
      assert.strictEqual(response.url, "https://api.good.test/v1/search")
      const begun = `${key.slice(0, -1)} %2 \\u00 ${key.slice(0, 5)}`
      assert.strictEqual(yield* textOfStream(yield* answerOf(answering(inPieces(begun, 2)))), begun)
    }).pipe(Effect.provide(apiStore)))

  it.effect("is refused in a header at once, and in a body where it comes", () =>
    Effect.gen(function*() {
      const refusal = yield* Effect.flip(answerOf(answering("", { link: `</?key=${key}>` }), { echo: "refuse" }))
      assert(refusal._tag === "HttpClientError" && refusal.reason._tag === "DecodeError", inspect(refusal))
      assert.notInclude(inspect(refusal, { depth: 9 }), "q+8Zr")
      assert.match(refusal.message, /holds the credential in a header/)

      const response = yield* answerOf(answering(inPieces(`before ${key} after`, 4)), { echo: "refuse" })
      const seen: Array<string> = []
      const error = yield* Effect.flip(
        Stream.runForEach(Stream.decodeText(response.stream), (text) => Effect.sync(() => seen.push(text)))
      )
      assert.strictEqual(error.reason._tag, "DecodeError")
      assert.strictEqual(seen.join(""), "before ")
      for (const read of ["text", "json", "arrayBuffer", "urlParamsBody", "formData"] as const) {
        const response = yield* answerOf(answering(`{"key":"${key}"}`), { echo: "refuse" })
        const error = yield* Effect.flip<unknown, unknown, never>(response[read])
        assert.match(String(error), /holds the credential in its body/, read)
      }
    }).pipe(Effect.provide(apiStore)))

  it.effect("is handed on by a client that was not told", () =>
    Effect.gen(function*() {
      const response = yield* answerOf(answering(key), { echo: undefined })
      assert.strictEqual(yield* response.text, key)
    }).pipe(Effect.provide(apiStore)))

  it.effect("stays a stream: what comes before the end is there before the end", () =>
    Effect.gen(function*() {
      let ask: ReadableStreamDefaultController<Uint8Array> | undefined = undefined
      const endless = new ReadableStream<Uint8Array>({
        start: (controller) => {
          ask = controller
        }
      })
      const response = yield* answerOf(answering(endless))
      const send = (text: string) => Effect.sync(() => ask?.enqueue(Buffer.from(text)))
      yield* send(`first ${key.slice(0, 9)}`)
      const seen: Array<string> = []
      yield* Stream.runForEachWhile(Stream.decodeText(response.stream), (text) =>
        Effect.gen(function*() {
          seen.push(text)
          if (seen.length === 1) yield* send(`${key.slice(9)} second`)
          return seen.length < 2
        }))
      assert.deepStrictEqual(seen, ["first ", `${stars(key)} second`])
    }).pipe(Effect.provide(apiStore)))

  it.effect("and one that was refused before: both are looked for", () =>
    Effect.gen(function*() {
      const sent: Array<string> = []
      const transport = Layer.succeed(
        HttpClient.HttpClient,
        HttpClient.make((request) =>
          Effect.sync(() => {
            sent.push(String(request.headers["authorization"]))
            return HttpClientResponse.fromWeb(
              request,
              new Response(sent.join(), { status: sent.length === 1 ? 401 : 200 })
            )
          })
        )
      )
      const client = yield* clientOf(transport, { ref: "hubspot", allowedHosts: ["api.good.test"], echo: "mask" })
      const text = yield* Effect.flatMap(client.get("https://api.good.test/"), (response) => response.text)
      assert.strictEqual(sent.length, 2)
      assert.notInclude(text, token)
      assert.match(text, /^Bearer \*+,Bearer \*+$/)
    }).pipe(Effect.provide(testStore)))
})

describe("which redirects are followed", () => {
  const chain: Readonly<Record<string, string>> = {
    "https://api.good.test/": "https://api.good.test/next",
    "https://api.good.test/next": "https://other.test/"
  }
  it.effect.each<readonly [CredentialHttpClientOptions["followRedirects"], ReadonlyArray<string>]>([
    [undefined, [...Object.keys(chain), "https://other.test/"]],
    ["all", [...Object.keys(chain), "https://other.test/"]],
    ["same-origin", Object.keys(chain)],
    ["none", ["https://api.good.test/"]]
  ])("%s", ([followRedirects, expected]) =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const transport = Layer.succeed(
        HttpClient.HttpClient,
        HttpClient.make((request, url) =>
          Effect.sync(() => {
            const to = chain[url.origin + url.pathname]
            asked.push(url.origin + url.pathname)
            return HttpClientResponse.fromWeb(
              request,
              to === undefined ? new Response("{}") : new Response(null, { status: 302, headers: { location: to } })
            )
          })
        )
      )
      const client = yield* clientOf(transport, { ...apiKey, followRedirects })
      const response = yield* client.get("https://api.good.test/")
      assert.deepStrictEqual(asked, expected)
      assert.strictEqual(response.status, expected.length === 3 ? 200 : 302)
    }).pipe(Effect.provide(apiStore)))
})

describe("a span with the headers of the answer", () => {
  it.effect.each(["link", "content-location", "refresh", "x-request-url", "x-given"])(
    "does not show it: %s",
    (name) =>
      Effect.gen(function*() {
        const spans: Array<Tracer.NativeSpan> = []
        const tracer = Tracer.make({
          span: (options) => {
            const span = new Tracer.NativeSpan(options)
            spans.push(span)
            return span
          }
        })
        const value = name === "x-given"
          ? `key=${key}; was ${base64(`x:${key}`)}`
          : `<https://api.good.test/?key=${encodeURIComponent(key)}>`
        yield* answerOf(answering("{}", { [name]: value, "x-plain": "plain" }), { echo: "allow" }).pipe(
          Effect.provideService(HttpClient.TracerHeaderFilter, () => true),
          Effect.withTracer(tracer)
        )
        const shown = spans.flatMap((span) => [span.name, ...Array.from(span.attributes).flat()]).join("\n")
        assert.include(shown, `http.response.header.${name}`)
        assert.include(shown, "plain")
        assert.notInclude(shown, "q+8Zr")
        assert.notInclude(shown, "q%2B8Zr")
        assert.notInclude(shown, base64(`x:${key}`).slice(4, 12))
      }).pipe(Effect.provide(apiStore))
  )
})

describe(`over real sockets (${transportsTested})`, () => {
  it.live.each(transports)("$name: headers and bodies are searched", ({ layer: transport }) =>
    Effect.gen(function*() {
      const api = yield* scriptedServer({ replies: [reply(200, {})] })
      const options = { ...apiKey, allowedHosts: [new URL(api.url).host] }
      api.script((response, request) =>
        reply(200, { path: request.path, all: base64(`x ${request.path}`) }, { link: `<${request.path}>` })(
          response,
          request
        )
      )
      for (const read of ["text", "stream"] as const) {
        const client = yield* clientOf(transport, { ...options, echo: "mask" })
        const response = yield* client.get(`${api.url}/v1`)
        const text = read === "text" ? yield* response.text : yield* textOfStream(response)
        assert.match(text, /"path":"\/v1\?key=\*+"/)
        assert.strictEqual(response.headers["link"]?.replace(/\*+/, "*"), "</v1?key=*>")
        assert.strictEqual(Number(response.headers["content-length"] ?? text.length), text.length)
      }
      const refusing = yield* clientOf(transport, { ...options, echo: "refuse" })
      assert.isTrue(Exit.isFailure(yield* Effect.exit(refusing.get(`${api.url}/v1`))))
      api.script((response, request) => redirect(302, `/other${request.path}`)(response, request))
      const staying = yield* clientOf(transport, { ...options, echo: "mask", followRedirects: "none" })
      const response = yield* staying.get(`${api.url}/v1`)
      assert.match(response.headers["location"] ?? "", /^\/other\/v1\?key=\*+$/)
    }).pipe(Effect.provide(apiStore)))

  it.live.each(transports)(
    "$name: a body that came compressed is searched, or refused",
    ({ layer: transport, name }) =>
      Effect.gen(function*() {
        const asked: Array<unknown> = []
        const api = yield* scriptedServer({ replies: [reply(200, {})] })
        api.script((response, request) => {
          asked.push(request.headers["accept-encoding"])
          reply(200, gzipSync(JSON.stringify({ path: request.path })), { "content-encoding": "gzip" })(
            response,
            request
          )
        })
        const client = yield* clientOf(transport, { ...apiKey, allowedHosts: [new URL(api.url).host], echo: "mask" })
        const text = Effect.flatMap(client.get(`${api.url}/v1`), (response) => response.text)
        if (name === "fetch") assert.match(yield* text, /^\{"path":"\/v1\?key=\*+"\}$/)
        else assert.match((yield* Effect.flip(text)).message, /is compressed, and cannot be searched/)
        assert.deepStrictEqual(asked, ["identity"])
      }).pipe(Effect.provide(apiStore))
  )
})
