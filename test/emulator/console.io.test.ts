/**
 * The emulator's pages as a browser meets them, over HTTP: what they show, what their forms do, and who may send them.
 */
import { assert, describe, it } from "@effect/vitest"
import { AdenClient, AdenSyncProvider, CredentialStore, MemoryStorage } from "aden-credentials"
import { AdenEmulator, type AdenEmulatorOptions, Fault } from "aden-credentials/emulator"
import { Duration, Effect, Fiber, Layer, Redacted } from "effect"
import { FetchHttpClient } from "effect/http"
import { TestClock } from "effect/testing"
import { request as httpRequest } from "node:http"

type Fields = Readonly<Record<string, string>>

interface Answered {
  readonly status: number
  readonly text: string
  readonly headers: Headers
}

/** Asks with node:http: unlike fetch, it sends any `Host`. */
const ask = (
  url: string,
  { body = "", headers = {}, method = "GET", path }: {
    readonly method?: string
    readonly headers?: Fields
    readonly body?: string
    /** As it is, in place of the URL's. */
    readonly path?: string
  } = {}
) =>
  Effect.callback<Answered>((resume) => {
    const request = httpRequest(
      url,
      { method, headers: { ...headers }, ...(path === undefined ? {} : { path }) },
      (response) => {
        let text = ""
        response.setEncoding("utf8").on("data", (chunk: string) => text += chunk).on("end", () => {
          const entries = Object.entries(response.headers).map((
            [name, value]
          ): [string, string] => [name, String(value)])
          resume(Effect.succeed({ status: response.statusCode ?? 0, text, headers: new Headers(entries) }))
        })
      }
    )
    request.on("error", (cause) => resume(Effect.die(cause))).end(body)
    return Effect.sync(() => request.destroy())
  })

/** Sends a form, as a browser does from a page of the emulator unless `headers` say otherwise. */
const submit = (url: string, fields: Fields, headers: Fields = {}) =>
  ask(url, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded", origin: new URL(url).origin, ...headers },
    body: new URLSearchParams(fields).toString()
  })

const provideAden = (options?: AdenEmulatorOptions) => Effect.provide(AdenEmulator.layer(options))

const unescaped = (text: string) => text.replace(/&#(\d+);/g, (_, code: string) => String.fromCharCode(Number(code)))

/** The value of the hidden field of each form with this action, in order. */
const hiddenFields = (page: string, action: string): ReadonlyArray<string> =>
  [...page.matchAll(new RegExp(`action="${action}"><input type="hidden" name="\\w+" value="([^"]*)">`, "g"))].map((
    [, value = ""]
  ) => unescaped(value))

const statuses = Effect.flatMap(
  AdenEmulator,
  (aden) => Effect.map(aden.integrations(), (all) => Object.fromEntries(all.map(({ id, status }) => [id, status])))
)

const list = Effect.flatMap(
  AdenEmulator,
  (aden) => ask(`${aden.url}/v1/credentials`, { headers: { authorization: `Bearer ${Redacted.value(aden.apiKey)}` } })
)

describe("the console shows", () => {
  it.effect("integrations of every tenant, how they stand, and how long their tokens last", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* TestClock.adjust("20 minutes")
      const { headers, status, text } = yield* ask(aden.consoleUrl)
      assert.strictEqual(status, 200)
      assert.strictEqual(headers.get("content-type"), "text/html; charset=utf-8")
      const rows = text.split("<tr").slice(1).map((row) => row.replace(/<[^>]*>/g, " ").replace(/\s+/g, " "))
      const row = (id: string) => rows.find((row) => row.includes(` ${id} `)) ?? `no row of ${id}`
      assert.match(row("hubspot"), /connected in 40 min Disconnect hubspot/)
      assert.match(row("github"), /connected never Disconnect github/)
      assert.match(row("slack"), /needs a person to connect it no token Connect slack/)
      assert.match(
        row("acme-gl"),
        /gitlab, work, ada@example.com expired; Aden refreshes it 20 min ago Disconnect acme-gl/
      )
      assert.include(text, "Tenant <bdi>acme</bdi>")
      assert.include(text, "3 of 4 integrations are connected.")
    }).pipe(provideAden({
      tenants: [{
        id: "acme",
        apiKeys: [Redacted.make("acme-key")],
        integrations: [
          { id: "acme-gl", type: "gitlab", alias: "work", email: "ada@example.com", status: "expired" }
        ]
      }]
    })))

  it.effect("the last 50 requests, the newest first, with the faults they met, and none of its own", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* Effect.forEach(
        Array.from({ length: 60 }, (_, index) => index),
        (index) => ask(`${aden.url}/nowhere/${index}?api_key=hidden`)
      )
      yield* aden.setFault(Fault.Status({ status: 503 }), { times: 1 })
      yield* list
      yield* ask(aden.consoleUrl)
      const { text } = yield* ask(aden.consoleUrl)
      const requests = [...text.matchAll(/<code>(GET [^<]*)<\/code><\/td>\s*<td>(\w+)<\/td><td>([^<]*)</g)]
        .map(([, ...cells]) => cells)
      assert.deepStrictEqual(requests[0], ["GET /v1/credentials", "503", "Status"])
      assert.deepStrictEqual(requests[1], ["GET /nowhere/59", "404", ""])
      assert.strictEqual(requests.length, 50)
      assert.notInclude(text, "hidden=")
      assert.notInclude(text, "api_key")
      assert.include(text, "61 requests in the log,")
      assert.strictEqual(yield* aden.countRequests(), 61)
    }).pipe(provideAden()))

  it.effect("faults by name, and those of a program only by their kind", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Patch({ fields: { access_token: "a-token-that-is-secret" } }), {
        integrationId: "hubspot",
        endpoint: ["get", "refresh"],
        times: 2
      })
      const { text } = yield* ask(aden.consoleUrl)
      assert.include(text, `Patch <span class="quiet">(get, refresh for <bdi>hubspot</bdi>, 2 more times)`)
      assert.notInclude(text, "a-token-that-is-secret")
    }).pipe(provideAden()))

  it.effect("no token and no API key, on any page and in any header", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const connect = `${aden.url}/integrations/hubspot/connect`
      const pages = [
        yield* ask(aden.consoleUrl),
        yield* ask(connect),
        yield* submit(connect, {}),
        yield* submit(`${aden.consoleUrl}console/connect`, { integration: "tenant-123/github" }),
        yield* list.pipe(Effect.andThen(ask(aden.consoleUrl)))
      ]
      const shown = pages.map(({ headers, text }) => JSON.stringify([...headers]) + text).join("\n")
      const issued = yield* aden.issuedTokens
      assert.isAtLeast(issued.length, 4)
      for (const secret of [aden.apiKey, ...issued.map(({ value }) => value)]) {
        assert.notInclude(shown, Redacted.value(secret))
      }
    }).pipe(provideAden()))
})

describe("the console's forms", () => {
  it.effect("connect and disconnect, and lead back to the row", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const page = yield* ask(aden.consoleUrl)
      const [slack = ""] = hiddenFields(page.text, "/console/connect")
      const done = yield* submit(`${aden.url}/console/connect`, { integration: slack })
      assert.strictEqual(done.status, 303)
      assert.strictEqual(done.headers.get("location"), `/#integration-${slack}`)
      assert.include(page.text, `id="integration-${slack}"`)
      assert.strictEqual((yield* statuses)["slack"], "active")
      const [hubspot = ""] = hiddenFields(page.text, "/console/disconnect")
      yield* submit(`${aden.url}/console/disconnect`, { integration: hubspot })
      assert.deepStrictEqual(yield* statuses, { hubspot: "requires_reauth", github: "active", slack: "active" })
    }).pipe(provideAden()))

  it.effect("set a fault for so many requests, end one, and end all", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const set = (fields: Fields) =>
        submit(`${aden.url}/console/faults`, { endpoint: "", integration: "", times: "", ...fields })
      const faults = Effect.map(ask(aden.consoleUrl), ({ text }) => hiddenFields(text, "/console/faults/end"))

      assert.strictEqual((yield* set({ fault: "status-503", endpoint: "list", times: "1" })).status, 303)
      assert.deepStrictEqual([(yield* list).status, (yield* list).status], [503, 200])

      yield* set({ fault: "status-500" })
      yield* set({ fault: "status-401", integration: "tenant-123/hubspot" })
      assert.strictEqual((yield* list).status, 500)
      const [first = ""] = yield* faults
      yield* submit(`${aden.url}/console/faults/end`, { fault: first })
      assert.strictEqual((yield* list).status, 200, "the other fault is only for hubspot")
      assert.strictEqual((yield* faults).length, 1)
      const ended = yield* submit(`${aden.url}/console/faults/end-all`, {})
      assert.strictEqual(ended.headers.get("location"), "/#faults")
      assert.deepStrictEqual(yield* faults, [])
    }).pipe(provideAden()))

  it.effect("every fault that can be picked acts, and is shown by its name", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const { text } = yield* ask(aden.consoleUrl)
      const select = /<select id="[\w-]*" name="fault">(.*?)<\/select>/s.exec(text)?.[1] ?? ""
      const options = [...select.matchAll(/<option value="([\w-]+)">([^<]*)<\/option>/g)]
      assert.isAbove(options.length, 8)
      for (const [, fault = "", label = ""] of options) {
        yield* submit(`${aden.url}/console/faults`, { fault, endpoint: "health", integration: "", times: "1" })
        assert.include((yield* ask(aden.consoleUrl)).text, `<li><span>${label} `)
        const asked = yield* Effect.forkChild(
          Effect.promise((signal) => fetch(`${aden.url}/health`, { signal }).then(() => {}, () => {})),
          { startImmediately: true }
        )
        const met = Effect.map(aden.requests, (requests) => requests.at(-1)?.faults.length === 1)
        while (!(yield* met)) yield* Effect.promise(() => new Promise((done) => setTimeout(done, 5)))
        yield* Fiber.interrupt(asked)
        yield* aden.clearRequests
      }
    }).pipe(provideAden()))

  it.effect.each<readonly [string, string, Fields]>([
    ["no integration", "connect", {}],
    ["a fault that there is not", "faults", { fault: "none", endpoint: "", integration: "", times: "" }],
    ["another endpoint", "faults", { fault: "hang", endpoint: "connect", integration: "", times: "" }],
    ["no number", "faults", { fault: "hang", endpoint: "", integration: "", times: "many" }],
    ["half a time", "faults", { fault: "hang", endpoint: "", integration: "", times: "1.5" }],
    ["never", "faults", { fault: "hang", endpoint: "", integration: "", times: "0" }],
    ["too often", "faults", { fault: "hang", endpoint: "", integration: "", times: "1001" }],
    ["no number of a fault", "faults/end", { fault: "all" }],
    ["too long", "connect", { integration: "a".repeat(70_000) }]
  ])("are refused with 400 when they make no sense: %s", ([, path, fields]) =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const before = yield* statuses
      const answer = yield* submit(`${aden.url}/console/${path}`, fields)
      assert.strictEqual(answer.status, 400)
      assert.include(answer.text, "Nothing was changed")
      assert.deepStrictEqual(yield* statuses, before)
      assert.include((yield* ask(aden.consoleUrl)).text, "No faults set.")
    }).pipe(provideAden()))

  it.effect("for an integration that was removed in between: 404", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.removeIntegration("slack")
      for (const integration of ["tenant-123/slack", "unknown/slack", "slack", "constructor", "%zz"]) {
        assert.strictEqual((yield* submit(`${aden.url}/console/connect`, { integration })).status, 404)
        const fault = { fault: "hang", endpoint: "", times: "", integration }
        assert.strictEqual((yield* submit(`${aden.url}/console/faults`, fault)).status, 404)
      }
      assert.include((yield* ask(aden.consoleUrl)).text, "No faults set.")
    }).pipe(provideAden()))
})

describe("hostile names", () => {
  const hostile = [
    `"><script>alert(1)</script>`,
    `' onfocus='alert(1)`,
    "</style></title><img src=x onerror=alert(1)>",
    "a/b?c#d&e;f",
    "../other",
    "..",
    "line\r\nbreak\nand another",
    "\u202eright to left\u2066",
    "lone \ud800 surrogate",
    "{{hubspot.access_token}}",
    "__proto__",
    "x".repeat(2_000)
  ]

  it.effect("are text on every page, and their buttons work", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const { text } = yield* ask(aden.consoleUrl)
      // only the tags of the page itself
      assert.deepStrictEqual([...new Set([...text.matchAll(/<script[^>]*>/g)].map(([tag]) => tag))], [
        `<script type="module">`
      ])
      assert.notMatch(text, /<img|<\/style>.*<\/style>|\son\w+\s*=\s*['"]/s)
      assert.notMatch(text, /[\u202e\u2066\ud800]/)
      const keys = hiddenFields(text, "/console/connect")
      assert.strictEqual(keys.length, hostile.length)
      for (const integration of keys) {
        assert.match(integration, /^[!-~]+$/)
        assert.strictEqual((yield* submit(`${aden.url}/console/connect`, { integration })).status, 303)
      }
      assert.deepStrictEqual([...new Set(Object.values(yield* statuses))], ["active"])
      // a path cannot name a folder or hold half a character; the console can
      for (const id of hostile.filter((id) => id !== ".." && id.isWellFormed())) {
        const connect = yield* ask(`${aden.url}/integrations/${encodeURIComponent(id)}/connect?tenant=%22%3E%3Cb%3E`)
        assert.strictEqual(connect.status, 200, id)
        assert.notMatch(connect.text, /<script|<img|<b>"|\son\w+\s*=\s*['"]|[\u202e\u2066]/)
      }
    }).pipe(provideAden({
      tenantId: `"><b>`,
      integrations: hostile.map((id) => ({
        id,
        type: id,
        alias: id,
        email: id,
        scopes: [id],
        status: "requires_reauth" as const
      }))
    })))

  it.effect("in a path that is asked for are text among the requests", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* ask(aden.url, { path: `/v1/credentials/<img%20src=x>"onload='1'` })
      yield* ask(aden.url, { path: `/${"long".repeat(2_000)}` })
      const { text } = yield* ask(aden.consoleUrl)
      assert.isBelow(text.length, 10_000, "what is too long is cut")
      assert.notInclude(text, "<img")
      assert.include(unescaped(text), `/v1/credentials/<img%20src=x>"onload='1'`)
    }).pipe(provideAden()))
})

describe("other sites", () => {
  const forms = [
    ["/console/connect", { integration: "tenant-123/slack" }],
    ["/console/disconnect", { integration: "tenant-123/hubspot" }],
    ["/console/faults", { fault: "hang", endpoint: "", integration: "", times: "" }],
    ["/console/faults/end", { fault: "1" }],
    ["/console/faults/end-all", {}],
    ["/integrations/slack/connect", {}]
  ] as const

  const unchanged = Effect.gen(function*() {
    const aden = yield* AdenEmulator
    assert.deepStrictEqual(yield* statuses, { hubspot: "active", github: "active", slack: "requires_reauth" })
    assert.include((yield* ask(aden.consoleUrl)).text, "1 fault set.")
  })

  const withFault = Effect.flatMap(AdenEmulator, (aden) => aden.setFault(Fault.Latency({ duration: 0 })))

  it.effect.each([
    "https://evil.test",
    "null",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "http://localhost",
    "https://127.0.0.1:PORT",
    "http://127.0.0.1:PORT.evil.test",
    "http://127.0.0.1:PORT@evil.test"
  ])("cannot send a form: Origin: %s", (origin) =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* withFault
      for (const [path, fields] of forms) {
        const answer = yield* submit(`${aden.url}${path}`, fields, {
          origin: origin.replace("PORT", new URL(aden.url).port)
        })
        assert.strictEqual(answer.status, 403, path)
      }
      yield* unchanged
    }).pipe(provideAden()))

  it.effect.each([
    "evil.test",
    "evil.test:PORT",
    "127.0.0.1.evil.test:PORT",
    "192.168.0.1:PORT",
    "0.0.0.0:PORT",
    "a b"
  ])(
    "cannot read or change anything by a name of their own: Host: %s",
    (name) =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        yield* withFault
        const host = name.replace("PORT", new URL(aden.url).port)
        for (const [path, fields] of forms) {
          const answer = yield* submit(`${aden.url}${path}`, fields, { host, origin: `http://${host}` })
          assert.strictEqual(answer.status, 403, path)
        }
        for (const path of ["/", "/integrations/slack/connect"]) {
          const { status, text } = yield* ask(`${aden.url}${path}`, { headers: { host } })
          assert.strictEqual(status, 403, path)
          assert.notInclude(text, "slack")
        }
        // its API key is known to everyone
        const headers = { host, authorization: "Bearer emulator-api-key" }
        for (
          const [method, path] of [
            ["GET", "/v1/credentials"],
            ["GET", "/v1/credentials/hubspot"],
            ["POST", "/v1/credentials/hubspot/refresh"],
            ["GET", "/openapi.json"],
            ["GET", "/nowhere"]
          ] as const
        ) {
          const { status, text } = yield* ask(`${aden.url}${path}`, { method, headers })
          assert.strictEqual(status, 403, path)
          assert.notInclude(text, "token")
        }
        assert.strictEqual(yield* aden.countRequests(), 0)
        yield* unchanged
      }).pipe(provideAden())
  )

  it.effect("the emulator's own pages can, by either name of this machine; so can a program, which sends no Origin", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const host = `localhost:${new URL(aden.url).port}`
      const connect = `${aden.url}/console/connect`
      const fields = { integration: "tenant-123/slack" }
      assert.strictEqual((yield* submit(connect, fields, { host, origin: `http://${host}` })).status, 303)
      assert.strictEqual((yield* submit(connect, fields)).status, 303)
      const program = yield* ask(connect, {
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: "integration=tenant-123/slack"
      })
      assert.strictEqual(program.status, 303)
    }).pipe(provideAden()))

  it.effect("cannot frame a page, have it load anything, or keep a copy", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      for (const path of ["/", "/integrations/slack/connect", "/integrations/none/connect"]) {
        const { headers } = yield* ask(`${aden.url}${path}`)
        const policy = headers.get("content-security-policy") ?? ""
        assert.match(policy, /^default-src 'none'; style-src 'sha256-[^;]*'; /)
        assert.include(policy, "frame-ancestors 'none'; base-uri 'none'")
        assert.include(policy, "form-action 'self'")
        assert.notInclude(policy, "unsafe")
        assert.strictEqual(policy.includes("script-src 'sha256-"), path === "/")
        assert.strictEqual(headers.get("cache-control"), "no-store")
        assert.strictEqual(headers.get("x-content-type-options"), "nosniff")
      }
    }).pipe(provideAden()))
})

it.effect("other methods are refused with 405 and the ones there are", () =>
  Effect.gen(function*() {
    const aden = yield* AdenEmulator
    const expected = [
      ["/", "GET, HEAD", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"]],
      ["/console/connect", "POST", ["GET", "HEAD", "PUT", "DELETE"]],
      ["/console/disconnect", "POST", ["GET", "HEAD", "PUT", "DELETE"]],
      ["/console/faults", "POST", ["GET", "HEAD", "PUT", "DELETE"]],
      ["/console/faults/end", "POST", ["GET", "PATCH"]],
      ["/console/faults/end-all", "POST", ["GET", "DELETE"]],
      ["/integrations/slack/connect", "GET, HEAD, POST", ["PUT", "PATCH", "DELETE", "OPTIONS"]]
    ] as const
    for (const [path, allow, methods] of expected) {
      for (const method of methods) {
        const answer = yield* ask(`${aden.url}${path}`, { method })
        assert.strictEqual(answer.status, 405, `${method} ${path}`)
        assert.strictEqual(answer.headers.get("allow"), allow)
      }
    }
    assert.strictEqual((yield* statuses)["slack"], "requires_reauth")
    const head = yield* ask(aden.consoleUrl, { method: "HEAD" })
    assert.deepStrictEqual([head.status, head.text], [200, ""])
  }).pipe(provideAden()))

it.live("a program that waits in awaitReauthorization goes on when the form is sent", () =>
  Effect.gen(function*() {
    const aden = yield* AdenEmulator
    const store = yield* CredentialStore
    const blocked = yield* Effect.flip(store.token("slack"))
    assert.strictEqual(blocked._tag, "ReauthRequired")
    const waiting = yield* Effect.forkChild(
      Effect.andThen(
        store.awaitReauthorization("slack", { poll: "50 millis", timeout: "30 seconds" }),
        store.token("slack")
      ),
      { startImmediately: true }
    )
    yield* Effect.sleep(Duration.millis(200))
    assert.isUndefined(waiting.pollUnsafe())
    yield* submit(`${aden.url}/console/connect`, { integration: "tenant-123/slack" })
    const token = yield* Fiber.join(waiting)
    assert.strictEqual(Redacted.value(token), Redacted.value((yield* aden.issuedTokens).at(-1)?.value ?? aden.apiKey))
  }).pipe(Effect.provide(
    CredentialStore.layer().pipe(
      Layer.provide(AdenSyncProvider.layer()),
      Layer.provide(
        Layer.unwrap(Effect.map(AdenEmulator, (aden) => AdenClient.layer({ baseUrl: aden.url, apiKey: aden.apiKey })))
      ),
      Layer.provide([MemoryStorage.layer(), FetchHttpClient.layer]),
      Layer.provideMerge(AdenEmulator.layer())
    )
  )))
