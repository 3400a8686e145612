/**
 * A server that is not allowed never receives the credential: asked directly, by tricks with its name, by redirect; and nothing
 * that is printed shows it.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Option, Schema } from "effect"
import { HttpBody, HttpClient, HttpClientError, HttpClientRequest, HttpClientResponse } from "effect/http"
import { inspect } from "node:util"
import { transports, transportsTested } from "../fixtures/adenClients.ts"
import { apiFor, bearer, clientOf, testStore, token } from "../fixtures/credentialClients.ts"
import { repeats } from "../fixtures/repeats.ts"
import type { Received, Reply, ScriptedServer } from "../fixtures/scriptedServer.ts"
import { drip, redirect, reply, reset, scriptedServer, torn } from "../fixtures/scriptedServer.ts"
import { witness } from "../fixtures/witness.ts"

/** Two machines that this one stands for. */
const goodAndEvil = Effect.all({
  good: scriptedServer({ replies: [reply(200, {})] }),
  evil: scriptedServer({ host: "127.0.0.2", replies: [reply(200, { from: "evil" })] })
})

const allowed = (server: ScriptedServer) => [new URL(server.url).host]

const holdsCredential = ({ body, headers, path }: Received) =>
  [token, "BSA-9f8e"].some((secret) => JSON.stringify({ body, headers, path }).includes(secret)) ||
  "authorization" in headers || "cookie" in headers

const urlPieces = [
  "//",
  "/",
  "\\",
  "@",
  ":",
  "?",
  "#",
  ".",
  "443",
  "8443",
  "%2e",
  "\t",
  "\u3002",
  "api.good.test",
  "API.GOOD.TEST",
  "evil.test",
  "127.0.0.1"
] as const

describe("which hosts get it", () => {
  /** A client that says where requests went, in place of going there. */
  const recording = () => {
    const sent: Array<{ readonly url: string; readonly authorization: string | undefined }> = []
    const layer = Layer.succeed(
      HttpClient.HttpClient,
      HttpClient.make((request, url) =>
        Effect.sync(() => {
          sent.push({ url: url.href, authorization: request.headers["authorization"] })
          return HttpClientResponse.fromWeb(request, new Response("{}"))
        })
      )
    )
    return { sent, layer }
  }

  const tryOut = Effect.fnUntraced(function*(
    allowedHosts: ReadonlyArray<string>,
    url: string,
    headers: Record<string, string> = {}
  ) {
    const { layer, sent } = recording()
    const client = yield* clientOf(layer, { ref: "hubspot", allowedHosts })
    const exit = yield* Effect.exit(client.get(url, { headers }))
    return { exit, sent }
  })

  it.live.each<readonly [string, string]>([
    ["api.good.test", "https://api.good.test"],
    ["api.good.test", "https://api.good.test/v1?q=evil.test#x"],
    ["api.good.test", "https://API.Good.TEST/"],
    ["API.good.TEST", "https://api.good.test/"],
    ["api.good.test", "https://api.good.test:443/"],
    ["api.good.test:443", "https://api.good.test/"],
    ["api.good.test:8443", "https://api.good.test:8443/"],
    ["bücher.example", "https://xn--bcher-kva.example/"],
    ["xn--bcher-kva.example", "https://BÜCHER.example/"],
    ["[2001:db8::1]", "https://[2001:db8:0::1]/"],
    ["localhost:4010", "http://localhost:4010/"],
    ["localhost:4010", "https://localhost:4010/"],
    ["localhost", "http://localhost/"],
    ["localhost:80", "http://localhost/"],
    ["127.0.0.1", "http://127.1/"],
    ["[::1]:4010", "http://[::1]:4010/"]
  ])("%s allows %s", ([host, url]) =>
    Effect.gen(function*() {
      const { exit, sent } = yield* tryOut([host], url)
      assert.isTrue(Exit.isSuccess(exit), inspect(exit))
      assert.deepStrictEqual(sent.map(({ authorization }) => authorization), [`Bearer ${token}`])
    }).pipe(Effect.provide(testStore)))

  it.live.each<readonly [string, string, RegExp]>([
    ["api.good.test", "https://evil.test/", /not among the allowed hosts/],
    ["api.good.test", "https://api.good.test.evil.test/", /not among/],
    ["api.good.test", "https://evil-api.good.test/", /not among/],
    ["api.good.test", "https://good.test/", /not among/],
    ["good.test", "https://api.good.test/", /not among/],
    ["api.good.test", "https://api.good.test./", /not among/],
    ["api.good.test", "https://api.good.test:8443/", /not among/],
    ["api.good.test:8443", "https://api.good.test/", /not among/],
    ["api.good.test", "https://api.good.test:80/", /not among/],
    ["api.good.test", "https://api.good.test@evil.test/", /user name or password/],
    ["api.good.test", "https://api.good.test:443@evil.test/", /user name or password/],
    ["api.good.test", "https://user:pass@api.good.test/", /user name or password/],
    ["api.good.test", "https://evil.test/api.good.test", /not among/],
    ["api.good.test", "https://evil.test\\@api.good.test/", /not among/],
    ["api.good.test", "https://evil.test#@api.good.test/", /not among/],
    ["api.good.test", "https://evil.test?@api.good.test/", /not among/],
    ["api.good.test", "https://api.good.tést/", /not among/],
    ["api.good.test", "https://аpi.good.test/", /not among/], // a Cyrillic а
    ["api.good.test", "http://api.good.test/", /uses http/],
    ["api.good.test", "http://api.good.test:443/", /uses http/],
    ["api.good.test", "ftp://api.good.test/", /not among/],
    ["api.good.test", "blob:https://api.good.test/x", /not among/],
    ["127.0.0.1", "blob:http://127.0.0.1/x", /not among/],
    ["api.good.test", "http://127.0.0.1/", /not among/],
    ["127.0.0.1:4010", "http://127.0.0.2:4010/", /not among/],
    ["127.0.0.1:4010", "http://127.0.0.1:4011/", /not among/],
    ["localhost:4010", "http://127.0.0.1:4010/", /not among/],
    ["localhost", "http://localhost.evil.test/", /uses http/]
  ])("%s does not allow %s, and nothing is sent", ([host, url, message]) =>
    Effect.gen(function*() {
      const { exit, sent } = yield* tryOut([host], url)
      const error = yield* Effect.flip(exit)
      assert(error._tag === "CredentialHostDenied", inspect(exit))
      assert.match(error.message, message)
      assert.notMatch(error.message, /user:|:pass|@/)
      assert.deepStrictEqual(sent, [])
    }).pipe(Effect.provide(testStore)))

  layer(testStore)((it) => {
    let sentTo = 0
    it.effect.prop(
      "whatever the URL is made of, it goes to the allowed origin or nowhere",
      [Schema.Array(Schema.Literals(urlPieces)).check(Schema.isMaxLength(6))],
      ([pieces]) =>
        Effect.gen(function*() {
          const { sent } = yield* tryOut(["api.good.test"], `https://${pieces.join("")}`)
          for (const { url } of sent) {
            const { host, password, protocol, username } = new URL(url)
            assert.deepStrictEqual([protocol, host, username, password], ["https:", "api.good.test", "", ""], url)
            sentTo++
          }
        }),
      { arbitrary: { runs: repeats(2_000) } }
    )
    it("and it is not for want of URLs that are allowed", () => assert.isAbove(sentTo, repeats(20)))
  })

  it.live("a Host header of another host is denied, and so is one that servers read in several ways", () =>
    Effect.gen(function*() {
      for (
        const host of [
          "evil.test",
          "",
          " ",
          "api.good.test:8443",
          "api.good.test.",
          "api.good.test, evil.test",
          "api.good.test evil.test",
          "evil.test\tapi.good.test",
          "api.good.test@evil.test",
          "api.good.test/evil.test",
          "[api.good.test]"
        ]
      ) {
        const { exit, sent } = yield* tryOut(["api.good.test"], "https://api.good.test/", { host })
        assert.strictEqual((yield* Effect.flip(exit))._tag, "CredentialHostDenied", host)
        assert.deepStrictEqual(sent, [])
      }
      const same = yield* tryOut(["api.good.test"], "https://api.good.test/", { host: "API.good.test" })
      assert.isTrue(Exit.isSuccess(same.exit))
    }).pipe(Effect.provide(testStore)))
})

it.live.each(["Host", "content-length", "Transfer-Encoding", "connection"])(
  "a credential is not carried in the header %s, which says how the request is sent",
  (name) =>
    Effect.gen(function*() {
      const made = clientOf(transports[0]?.layer ?? assert.fail(), {
        ref: "hubspot",
        allowedHosts: ["api.good.test"],
        headers: { [name]: "{{hubspot}}" }
      })
      const error = yield* Effect.flip(made)
      assert.strictEqual(error._tag, "AdenConfigError")
      assert.include(error.message, "says how the request is sent")
    }).pipe(Effect.provide(testStore))
)

describe("methods whose answer repeats the request", () => {
  describe.each(transports)("$name", ({ layer: transport }) => {
    it.live.each(["TRACE", "trace", "TRACK", "CONNECT"])(
      "%s is denied, and not even connects",
      (method) =>
        Effect.gen(function*() {
          const { good } = yield* goodAndEvil
          const client = yield* clientOf(transport, { ref: "hubspot", allowedHosts: allowed(good) })
          const request = HttpClientRequest.get(good.url)
          // programs in JavaScript give any method
          Object.defineProperty(request, "method", { value: method })
          const error = yield* Effect.flip(client.execute(request))
          assert(error._tag === "CredentialHostDenied", inspect(error))
          assert.match(error.message, /TRACE/)
          assert.match(error.remedy, /another method/)
          assert.strictEqual(good.connections(), 0)
        }).pipe(Effect.provide(testStore))
    )
  })
})

describe(`a hostile server (${transportsTested})`, () => {
  describe.each(transports)("$name", ({ layer: transport }) => {
    it.live("asked directly: not even a connection", () =>
      Effect.gen(function*() {
        const { evil, good } = yield* goodAndEvil
        const client = yield* clientOf(transport, { ref: "hubspot", allowedHosts: allowed(good) })
        const error = yield* Effect.flip(client.get(evil.url))
        assert.strictEqual(error._tag, "CredentialHostDenied")
        assert.strictEqual(evil.connections(), 0)
      }).pipe(Effect.provide(testStore)))

    it.live.each([301, 302, 303, 307, 308])(
      "a redirect of status %i there loses the credential",
      (status) =>
        Effect.gen(function*() {
          const { evil, good } = yield* goodAndEvil
          for (
            const options of [
              {},
              { headers: { "X-Key": "{{hubspot}}" } },
              { params: { key: "{{hubspot}}" } },
              { headers: { "X-Key": "{{hubspot}}" }, params: { key: "{{hubspot}}" } }
            ]
          ) {
            good.script(redirect(status, `${evil.url}/landing?x=1`))
            const client = yield* clientOf(transport, { ref: "hubspot", allowedHosts: allowed(good), ...options })
            const response = yield* client.get(`${good.url}/start`, {
              headers: { cookie: "session=1", accept: "application/json" }
            })
            assert.deepStrictEqual(yield* response.json, { from: "evil" })
            assert.strictEqual(response.url, `${evil.url}/landing?x=1`)
          }
          assert.strictEqual(evil.requests.length, 4)
          for (const request of evil.requests) {
            assert.isFalse(holdsCredential(request), inspect(request))
            assert.strictEqual(request.headers.accept, "application/json")
            assert.strictEqual(request.path, "/landing?x=1")
          }
        }).pipe(Effect.provide(testStore))
    )

    it.live("so does one whose address only a parser sees to be elsewhere", () =>
      Effect.gen(function*() {
        const { evil, good } = yield* goodAndEvil
        const client = yield* clientOf(transport, { ref: "hubspot", allowedHosts: allowed(good) })
        const { host } = new URL(evil.url)
        const places = ["//", "\\\\", "/\\", "\\/", "/\t/", "http:\t//", "http:\\\\", "HTTP://"].map((start) =>
          start + host
        )
        for (const place of places) {
          good.script(redirect(302, place))
          assert.deepStrictEqual(yield* (yield* client.get(`${good.url}/start`)).json, { from: "evil" }, place)
        }
        assert.strictEqual(evil.requests.length, places.length)
        assert.isFalse(evil.requests.some(holdsCredential))
      }).pipe(Effect.provide(testStore)))

    it.live("neither does what the program had in the credential's header go there", () =>
      Effect.gen(function*() {
        const { evil, good } = yield* goodAndEvil
        good.script(redirect(302, evil.url))
        const client = yield* clientOf(transport, {
          ref: "hubspot",
          allowedHosts: allowed(good),
          headers: { "X-Key": "{{hubspot}}" }
        })
        yield* client.get(good.url, { headers: { "x-key": "old", authorization: "Basic old" } })
        assert.notProperty(evil.requests[0]?.headers, "x-key")
        assert.notProperty(evil.requests[0]?.headers, "authorization")
      }).pipe(Effect.provide(testStore)))

    it.live("nor do other headers of the program, except those that say what it accepts", () =>
      Effect.gen(function*() {
        const { evil, good } = yield* goodAndEvil
        good.script(redirect(307, "/again"), redirect(302, evil.url))
        const client = yield* clientOf(transport, { ref: "hubspot", allowedHosts: allowed(good) })
        const secrets = {
          "x-api-key": "a",
          "X-Subscription-Token": "b",
          "proxy-authorization": "Basic c",
          "cookie": "d=1",
          "x-amz-security-token": "e",
          "api-key": "f",
          "x-tenant": "g",
          "referer": `${good.url}/?key=h`,
          "if": "(<urn:uuid:i>)"
        }
        const plain = {
          "accept": "application/json",
          "accept-language": "de",
          "user-agent": "agent/1.0",
          "range": "bytes=0-9",
          "if-none-match": "\"1\"",
          "cache-control": "no-cache"
        }
        yield* client.get(good.url, { headers: { ...secrets, ...plain } })
        assert.propertyVal(good.requests[1]?.headers, "x-subscription-token", "b")
        for (const name of Object.keys(secrets)) {
          assert.notProperty(evil.requests[0]?.headers, name.toLowerCase())
        }
        for (const [name, value] of Object.entries(plain)) {
          assert.propertyVal(evil.requests[0]?.headers, name, value)
        }
      }).pipe(Effect.provide(testStore)))

    it.live("also when it is another allowed host, and also on the way back", () =>
      Effect.gen(function*() {
        const { evil, good } = yield* goodAndEvil
        good.script(redirect(302, `${evil.url}/hop`), reply(200, { back: true }))
        evil.script(redirect(302, `${good.url}/back`))
        const client = yield* clientOf(transport, {
          ref: "hubspot",
          allowedHosts: [...allowed(good), ...allowed(evil)]
        })
        const response = yield* client.get(`${good.url}/start`)
        assert.deepStrictEqual(yield* response.json, { back: true })
        assert.deepStrictEqual(good.requests.map(({ headers }) => headers.authorization), [
          `Bearer ${token}`,
          undefined
        ])
        assert.isFalse(evil.requests.some(holdsCredential))
      }).pipe(Effect.provide(testStore)))

    it.live("a 401 of the server it was sent on to renews nothing", () =>
      Effect.gen(function*() {
        const { evil, good } = yield* goodAndEvil
        good.script(redirect(302, evil.url))
        evil.script(reply(401, {}))
        const client = yield* clientOf(transport, { ref: "hubspot", allowedHosts: allowed(good) })
        assert.strictEqual((yield* client.get(good.url)).status, 401)
        assert.deepStrictEqual([good.requests.length, evil.requests.length], [1, 1])
      }).pipe(Effect.provide(testStore)))

    it.live("a body does not go there: that redirect is answered as it is, and a POST that becomes a GET has none", () =>
      Effect.gen(function*() {
        const { evil, good } = yield* goodAndEvil
        const client = yield* clientOf(transport, { ref: "hubspot", allowedHosts: allowed(good) })
        const body = HttpBody.jsonUnsafe({ private: "of the program" })
        for (const status of [307, 308]) {
          good.script(redirect(status, `${evil.url}/${status}`))
          const response = yield* client.post(good.url, { body })
          assert.strictEqual(response.status, status)
          assert.strictEqual(response.headers["location"], `${evil.url}/${status}`)
        }
        assert.strictEqual(evil.connections(), 0)
        for (const status of [301, 302, 303]) {
          good.script(redirect(status, `${evil.url}/${status}`))
          assert.strictEqual((yield* client.post(good.url, { body })).status, 200)
        }
        assert.deepStrictEqual(evil.requests.map(({ body, method }) => [method, body]), [
          ["GET", ""],
          ["GET", ""],
          ["GET", ""]
        ])
        for (const { headers } of evil.requests) assert.notProperty(headers, "content-type")
      }).pipe(Effect.provide(testStore)))

    it.live("a redirect there whose URL repeats the credential is denied", () =>
      Effect.gen(function*() {
        const { evil, good } = yield* goodAndEvil
        const echo: Reply = (response, request) =>
          redirect(302, `${evil.url}${request.path.replace("key=", "was=")}`)(response, request)
        good.script(echo)
        for (const [ref, name] of [["hubspot", token], ["jira", "p%3A4ss"]] as const) {
          const template = ref === "jira" ? "{{jira.password}}" : `{{${ref}}}`
          const client = yield* clientOf(transport, { ref, allowedHosts: allowed(good), params: { key: template } })
          const error = yield* Effect.flip(client.get(`${good.url}/x`))
          assert(error._tag === "CredentialHostDenied", inspect(error))
          assert.notInclude(error.message, name)
        }
        assert.strictEqual(evil.connections(), 0)
      }).pipe(Effect.provide(testStore)))

    it.live("nor one that repeats the header of a user name and a password", () =>
      Effect.gen(function*() {
        const { evil, good } = yield* goodAndEvil
        const client = yield* clientOf(transport, { ref: "jira", allowedHosts: allowed(good) })
        for (const encoded of [encodeURIComponent, (text: string) => text.replace(" ", "+")]) {
          good.script((response, { headers }) => {
            response.writeHead(302, { location: `${evil.url}/?was=${encoded(headers.authorization ?? "")}` }).end()
          })
          const error = yield* Effect.flip(client.get(good.url))
          assert(error._tag === "CredentialHostDenied", inspect(error))
        }
        assert.strictEqual(evil.connections(), 0)
      }).pipe(Effect.provide(testStore)))

    it.live("a user name, or a letter in place of a password, is not a secret: a redirect whose URL holds it is followed", () =>
      Effect.gen(function*() {
        const { evil, good } = yield* goodAndEvil
        for (const ref of ["mailgun", "freshdesk"]) {
          good.script(redirect(302, `${evil.url}/api/xml/7`))
          const client = yield* clientOf(transport, { ref, allowedHosts: allowed(good) })
          const response = yield* client.get(good.url)
          assert.deepStrictEqual(yield* response.json, { from: "evil" })
        }
        assert.isFalse(evil.requests.some(holdsCredential))
      }).pipe(Effect.provide(testStore)))

    it.live("a key that an API takes as the user name is one", () =>
      Effect.gen(function*() {
        const { evil, good } = yield* goodAndEvil
        good.script(redirect(302, `${evil.url}/?was=Sd8fK2mQ0xZr7LpT4vWn`))
        const client = yield* clientOf(transport, { ref: "freshdesk", allowedHosts: allowed(good) })
        assert.strictEqual((yield* Effect.flip(client.get(good.url)))._tag, "CredentialHostDenied")
        assert.strictEqual(evil.connections(), 0)
      }).pipe(Effect.provide(testStore)))

    it.live("by template: a model that writes another credential's name gets nothing", () =>
      Effect.gen(function*() {
        const { good } = yield* goodAndEvil
        const error = yield* Effect.flip(
          Effect.flatMap(
            clientOf(transport, { ref: "hubspot", allowedHosts: allowed(good), headers: { "X-Key": "{{brave}}" } }),
            (client) => client.get(good.url)
          )
        )
        assert.strictEqual(error._tag, "AdenConfigError")
        assert.strictEqual(good.connections(), 0)
      }).pipe(Effect.provide(testStore)))
  })
})

describe(`redirects within the origin (${transportsTested})`, () => {
  describe.each(transports)("$name", ({ layer: transport }) => {
    it.live("carry it, with method and body as the status says", () =>
      Effect.gen(function*() {
        const { good } = yield* goodAndEvil
        const client = yield* clientOf(transport, { ref: "hubspot", allowedHosts: allowed(good) })
        for (
          const [status, method, expected] of [
            [301, "GET", "GET "],
            [302, "POST", "GET "],
            [303, "PUT", "GET "],
            [303, "HEAD", "HEAD "],
            [301, "PUT", "PUT body"],
            [307, "POST", "POST body"],
            [308, "DELETE", "DELETE "]
          ] as const
        ) {
          good.script(redirect(status, "next?a=1#fragment"), apiFor(bearer(token)))
          const before = good.requests.length
          const request = HttpClientRequest.make(method)(`${good.url}/v1/start?q=2`, {
            body: method === "POST" || method === "PUT" ? HttpBody.text("body") : HttpBody.empty
          })
          assert.strictEqual((yield* client.execute(request)).status, 200)
          const second = good.requests[before + 1]
          assert.strictEqual(`${second?.method} ${second?.body}`, expected)
          assert.strictEqual(second?.path, "/v1/next?a=1")
        }
      }).pipe(Effect.provide(testStore)))

    it.live("carry a parameter once, though the server repeats it", () =>
      Effect.gen(function*() {
        const { good } = yield* goodAndEvil
        good.script(
          (response, request) => redirect(302, request.path.replace("/start", "/next"))(response, request),
          reply(200, {})
        )
        const client = yield* clientOf(transport, {
          ref: "hubspot",
          allowedHosts: allowed(good),
          params: { key: "{{hubspot}}" }
        })
        const response = yield* client.get(`${good.url}/start?q=1`)
        assert.strictEqual(good.requests[1]?.path, `/next?q=1&key=${token}`)
        assert.strictEqual(response.url, `${good.url}/next?q=1`)
        assert.notInclude(inspect(response, { depth: 9 }) + JSON.stringify(response), token)
      }).pipe(Effect.provide(testStore)))

    it.live("a 401 behind one repeats the request that was refused, not the one before", () =>
      Effect.gen(function*() {
        const { good } = yield* goodAndEvil
        good.script(redirect(303, "/made"), reply(401, {}), apiFor(bearer(`${token}.1`)))
        const client = yield* clientOf(transport, { ref: "hubspot", allowedHosts: allowed(good) })
        const response = yield* client.post(`${good.url}/make`, { body: HttpBody.text("once") })
        assert.strictEqual(response.status, 200)
        assert.deepStrictEqual(good.requests.map(({ method, path }) => `${method} ${path}`), [
          "POST /make",
          "GET /made",
          "GET /made"
        ])
      }).pipe(Effect.provide(testStore)))

    it.live("end after ten, and an answer that is not a usable redirect is returned as it is", () =>
      Effect.gen(function*() {
        const { good } = yield* goodAndEvil
        const client = yield* clientOf(transport, { ref: "hubspot", allowedHosts: allowed(good) })
        good.script(redirect(302, "/again"))
        assert.strictEqual((yield* client.get(good.url)).status, 302)
        assert.strictEqual(good.requests.length, 11)
        for (
          const answer of [
            reply(302, ""),
            redirect(302, "http://"),
            redirect(302, "ftp://good.test/"),
            redirect(302, "file:///etc/passwd"),
            redirect(302, "data:text/plain,x"),
            redirect(302, `http://user:pass@${allowed(good)[0]}/`),
            redirect(304, "/elsewhere"),
            redirect(300, "/elsewhere")
          ]
        ) {
          good.script(answer)
          const before = good.requests.length
          const { status } = yield* client.get(good.url)
          assert.isTrue(status >= 300 && status < 400)
          assert.strictEqual(good.requests.length, before + 1)
        }
      }).pipe(Effect.provide(testStore)))
  })
})

describe(`nothing shows the credential (${transportsTested})`, () => {
  const replies: ReadonlyArray<readonly [string, Reply]> = [
    ["success", reply(200, {})],
    ["401", reply(401, {})],
    ["403", reply(403, {})],
    ["500", reply(500, {})],
    ["a reset", reset],
    ["a torn body", torn(200, "{")],
    ["what is not JSON", reply(200, "<html>")],
    ["a body that never ends", drip(200, 10)],
    ["what is not HTTP, and repeats the request", (response, { headers, path }) => {
      response.socket?.end(`${path} ${JSON.stringify(headers)}`)
    }],
    ["a body that is not as its header says, and repeats the request", (response, { headers, path }) => {
      response.socket?.end(`HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${path} ${JSON.stringify(headers)}`)
    }],
    ["a redirect elsewhere", redirect(302, "http://127.0.0.3:1/")],
    ["a redirect that repeats the query", (response, request) => {
      redirect(302, `http://127.0.0.3:1${request.path}`)(response, request)
    }]
  ]

  const carriedIn = [
    ["Authorization", {}],
    ["a header that no list of secrets names", { headers: { "X-Key": "{{hubspot}}" } }],
    ["a parameter", { params: { key: "{{hubspot}}" } }]
  ] as const

  describe.each(transports)("$name", ({ layer: transport }) => {
    it.live.each(
      replies.flatMap(([what, answer]) =>
        carriedIn.map(([where, options]) => [`${what}, carried in ${where}`, answer, options] as const)
      )
    )(
      "%s",
      ([, answer, options]) =>
        Effect.gen(function*() {
          const good = yield* scriptedServer({ replies: [answer] })
          const client = yield* clientOf(transport, { ref: "hubspot", allowedHosts: allowed(good), ...options })
          const { exit, shown, spans } = yield* witness(
            Effect.flatMap(client.get(good.url), (response) =>
              Effect.as(Effect.andThen(Effect.log(response), response.json), response)).pipe(
                Effect.timeout("300 millis"),
                Effect.tapError((error) =>
                  Effect.logError(error)
                ),
                Effect.provideService(HttpClient.TracerHeaderFilter, () => true)
              )
          )
          assert.isAtLeast(spans.length, 1)
          if (Exit.isSuccess(exit)) {
            assert.notInclude(inspect(exit.value, { depth: 9, showHidden: true }) + JSON.stringify(exit.value), token)
          } else {
            assert.isFalse(Cause.hasDies(exit.cause), Cause.pretty(exit.cause))
            const error = Option.getOrUndefined(Exit.findErrorOption(exit))
            if (HttpClientError.isHttpClientError(error)) {
              assert.notInclude(inspect(error.request) + inspect(error.response), token)
            }
          }
          const at = shown.indexOf(token.slice(0, 8))
          assert.strictEqual(at, -1, shown.slice(Math.max(0, at - 2000), at + 100))
        }).pipe(Effect.provide(testStore))
    )
  })
})
