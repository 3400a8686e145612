/**
 * The life of a program from its first sync to its end, with everything going wrong that can, and every server message repeating
 * secrets: what it shows of itself at the lowest level holds none of them. Nor does what the emulator shows of it.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import {
  AdenClient,
  AdenSyncProvider,
  Credential,
  CredentialHttpClient,
  CredentialStore,
  EncryptedFileStorage,
  TenantCredentials,
  UsageReporter
} from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Effect, Exit, Fiber, Layer, Redacted, Schedule, Stream } from "effect"
import { FetchHttpClient, HttpBody, HttpClient, HttpClientRequest, HttpClientResponse } from "effect/http"
import { writeFileSync } from "node:fs"
import { inspect } from "node:util"
import { run } from "./cli/harness.ts"
import { credentialOf } from "./fixtures/credentialClients.ts"
import { sampled } from "./fixtures/repeats.ts"
import { reply, scriptedServer } from "./fixtures/scriptedServer.ts"
import type { Reply } from "./fixtures/scriptedServer.ts"
import { witness } from "./fixtures/witness.ts"
import { temporaryDirectory } from "./storage/temporaryStorage.ts"

const apiKey = "aden_sk_live_7Qk2vB9xZr4TnW1mEy8L"
const tenantKey = "aden_sk_live_t3N5cHs8PuW0aGd6RjKx"
const encryptionKey = "kQ9vTf3xWm2LrZ7yBn4HsDc8JpXe6AuG1oVtRiNqYwE="
const tokens = {
  hubspot: "CJTFwvnuLxIFAgEYz0Rk5PqM83vHdN2w",
  github: "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
}
const refreshToken = "1//0gZ8rRefreshTokenOfAPerson"
const ownKey = "BSA_p8Rt2Kx6Wq0Ln4Vz9Mc3"
const password = "p4Zr8Vx2Lq6Wm0Tn"
/** As it goes over the wire. */
const basic = Buffer.from(`ann:${password}`).toString("base64")
const secrets = [apiKey, tenantKey, encryptionKey, tokens.hubspot, tokens.github, refreshToken, ownKey, password, basic]

const echo = `Bearer ${apiKey} is not known; token ${tokens.hubspot} (${tokens.github}), refresh_token ${refreshToken}`

/** What Aden may answer to any question, each time with all that it has or was sent. */
const failures: ReadonlyArray<Fault> = [
  Fault.Status({ status: 401, body: JSON.stringify({ error: "invalid_api_key", message: echo }) }),
  Fault.Status({ status: 403, body: JSON.stringify({ error: "forbidden", message: echo }) }),
  Fault.Status({ status: 403, contentType: "text/html", body: `<h1>${echo}</h1>` }),
  Fault.Status({ status: 404, contentType: "text/html", body: echo }),
  Fault.Status({ status: 400, body: JSON.stringify({ error: "refresh_failed", message: echo }) }),
  Fault.Status({ status: 418, body: JSON.stringify({ error: "teapot", message: echo }) }),
  Fault.Status({ status: 500, body: echo }),
  Fault.Redirect({ location: `http://127.0.0.1:1/?key=${apiKey}` }),
  Fault.ReplaceBody({ body: `{"access_token": "${tokens.hubspot}", ` }),
  Fault.Truncate(),
  Fault.Reset({ at: "body" }),
  Fault.RateLimited({ body: { error: "rate_limited", message: echo, retry_after: 0 } })
]

const issueKnownTokens = Effect.gen(function*() {
  const aden = yield* AdenEmulator
  for (const [integrationId, accessToken] of Object.entries(tokens)) {
    const fields = { access_token: accessToken, refresh_token: refreshToken }
    yield* aden.setFault(Fault.Patch({ fields }), { integrationId })
  }
})

/** Which of many cases are tried. */
type Pick = <A>(cases: ReadonlyArray<A>) => ReadonlyArray<A>

const all: Pick = (cases) => cases

/** Each question that a program can ask, whatever comes of it. */
const ask = Effect.fnUntraced(function*(pick: Pick) {
  const store = yield* CredentialStore
  const client = yield* AdenClient
  const usage = yield* UsageReporter
  const refs = ["hubspot", "github", "slack", "own", "torn", "absent"]
  const questions: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
    store.sync,
    store.list,
    store.accounts("hubspot"),
    store.require(refs),
    client.healthCheck,
    client.listIntegrations,
    ...refs.flatMap((ref) => [
      store.get(ref),
      store.token(ref, { minTimeLeft: "2 hours" }),
      store.getKey(ref, "refresh_token"),
      store.refresh(ref),
      store.validate(ref),
      store.explain(ref),
      store.awaitReauthorization(ref, { timeout: "10 millis", poll: "5 millis" }),
      usage.report(ref, {
        operation: `GET https://api.example.com/?access_token=${tokens.hubspot}`,
        status: tokens.github,
        metadata: { authorization: `Bearer ${tokens.hubspot}`, note: tokens.github, deep: [{ [tokens.github]: 1 }] }
      })
    ])
  ]
  return yield* Effect.forEach(pick(questions), Effect.exit, { concurrency: 8 })
})

/** Each way to put a credential to use within a program, whatever comes of it. `api` and `elsewhere` repeat what they are sent. */
const use = Effect.fnUntraced(function*(
  api: { readonly url: string },
  elsewhere: { readonly url: string },
  pick: Pick
) {
  const store = yield* CredentialStore
  const { host } = new URL(api.url)
  const clients = yield* Effect.forEach(
    [
      { ref: "hubspot", allowedHosts: [host] },
      { ref: "github", allowedHosts: [host], headers: { "X-Token": "Token {{github}}" } },
      { ref: "hubspot", allowedHosts: [host], params: { "access_token": "{{hubspot.access_token}}" } },
      { ref: "own", allowedHosts: [host] },
      { ref: "mail", allowedHosts: [host] },
      { ref: "slack", allowedHosts: [host] },
      { ref: "absent", allowedHosts: [host] }
    ],
    CredentialHttpClient.make
  )
  const template = `{{hubspot}} {{github.access_token}} {{own}} {{mail.password}} Bearer ${tokens.hubspot}`
  const uses: ReadonlyArray<Effect.Effect<unknown, unknown, CredentialStore | HttpClient.HttpClient>> = [
    ...[
      template,
      `${template} {{absent}}`,
      `${template} {{hubspot.refresh_token}}`,
      `${template} {{hubspot._secret}}`,
      `${template} {{hubspot`,
      `${template} {{{{hubspot}}}}`
    ].flatMap((text) => [
      store.resolve(text),
      store.resolve({ deep: [{ note: text }] }),
      store.resolve(text, { refs: ["github"] }),
      store.resolveHeaders({ authorization: `Bearer ${text}`, "x-a": text }),
      store.resolveHeaders({ authorization: `${text}\r\nX-Injected: 1` }),
      Effect.map(store.resolveParams({ token: text }), (urlParams) => HttpClientRequest.get(api.url, { urlParams }))
    ]),
    ...clients.flatMap((client) =>
      [
        ...["/ok", "/401", "/500", "/redirect", "/reset"].map((path) => `${api.url}${path}`),
        `${elsewhere.url}/ok`,
        `http://user@${host}/ok`,
        `http://${host}.evil.test/ok`
      ].map((url) => client.get(url))
    ),
    // an HttpClientError carries the request and all that led to it
    HttpClient.post(`${api.url}/401`, { body: HttpBody.text("{}") }).pipe(
      Effect.flatMap(HttpClientResponse.filterStatusOk),
      Effect.provide(CredentialHttpClient.layer({ ref: "hubspot", allowedHosts: [host] }))
    )
  ]
  return yield* Effect.forEach(pick(uses), Effect.exit, { concurrency: 4 })
}, Effect.scoped)

/** The commands that hand a token on: to another program's environment, to git. What they print besides. */
const handOn = Effect.fnUntraced(function*(directory: string) {
  const aden = yield* AdenEmulator
  const environment = {
    ADEN_API_URL: aden.url,
    ADEN_API_KEY: apiKey,
    HIVE_CREDENTIAL_KEY: encryptionKey,
    ADEN_CREDS_DEBUG: "1"
  }
  const flags = ["--log-level", "all", "--directory", directory]
  const command = ["--", process.execPath, "--eval", "process.exitCode = process.env.TOKEN === undefined ? 1 : 0"]
  const commands: ReadonlyArray<readonly [args: ReadonlyArray<string>, input: string]> = [
    [["exec", "--env", "TOKEN=hubspot", ...flags, ...command], ""],
    [["exec", "--env", "TOKEN=slack", ...flags, ...command], ""],
    [["exec", "--env", "TOKEN=github", ...flags, "--", "/there/is/no/such/program", tokens.github], ""],
    ...["get", "store", "erase"].map((operation) =>
      [
        ["git-credential", ...flags, operation],
        `protocol=https\nhost=github.com\nusername=x-access-token\npassword=${tokens.github}\n\n`
      ] as const
    ),
    [["git-credential", ...flags, "get"], `protocol=https\n${tokens.github}\n`]
  ]
  return yield* Effect.forEach(commands, ([args, input]) => run(args, environment, { input }))
})

/** What the emulator shows a person and a program. */
const emulatorShows = Effect.gen(function*() {
  const aden = yield* AdenEmulator
  const pages = yield* Effect.promise(() =>
    Promise.all(
      [
        aden.consoleUrl,
        `${aden.url}/integrations/hubspot/connect`,
        `${aden.url}/integrations/hubspot/connect?tenant=${tokens.github}`
      ]
        .map(async (url) => {
          const page = await fetch(url)
          return [...page.headers].join("\n") + await page.text()
        })
    )
  )
  return { pages, requests: yield* aden.requests }
})

/** An API that accepts nothing at `/401`, and repeats what it was sent in whatever it answers. */
const api = (elsewhere: string): Reply => (response, request) => {
  const answers: Readonly<Record<string, Reply>> = {
    "/401": reply(401, { message: `${request.headers.authorization} has expired` }),
    "/500": reply(500, { message: echo }),
    "/redirect": reply(302, "", { location: `${elsewhere}/ok` }),
    "/reset": (response) => response.socket?.resetAndDestroy()
  }
  return (answers[request.path.split("?")[0] ?? ""] ?? reply(200, { ok: true }))(response, request)
}

const Emulator = AdenEmulator.layer({
  apiKeys: [Redacted.make(apiKey), Redacted.make(tenantKey)],
  integrations: [
    { id: "hubspot", tokenLifetime: "1 hour" },
    { id: "github", tokenLifetime: "1 hour" },
    { id: "slack", status: "requires_reauth" }
  ]
})

const scenario = Effect.gen(function*() {
  const aden = yield* AdenEmulator
  const directory = yield* temporaryDirectory
  const elsewhere = yield* scriptedServer({ replies: [reply(200, {})] })
  const server = yield* scriptedServer({ replies: [api(elsewhere.url)] })
  const client = AdenClient.layer({
    baseUrl: aden.url,
    apiKey: Redacted.make(apiKey),
    retry: Schedule.recurs(1),
    timeout: "30 seconds",
    circuitBreaker: { failures: 1_000 }
  })
  const services = Layer.mergeAll(
    UsageReporter.layer({ retry: Schedule.spaced("10 millis"), maxAttempts: 2, flushTimeout: "200 millis" }).pipe(
      Layer.provideMerge(CredentialStore.layer({ cacheTtl: "1 millis" })),
      Layer.provide(AdenSyncProvider.layer()),
      Layer.provideMerge(client),
      Layer.provide(EncryptedFileStorage.layer({ directory, keys: [Redacted.make(encryptionKey)] }))
    ),
    TenantCredentials.layer({
      lookup: () =>
        Effect.succeed({
          apiKey: Redacted.make(tenantKey),
          baseUrl: aden.url,
          directory,
          encryptionKeys: [Redacted.make(encryptionKey)]
        })
    })
  ).pipe(Layer.provideMerge(FetchHttpClient.layer), Layer.provide(NodeServices.layer))

  return yield* Effect.gen(function*() {
    const store = yield* CredentialStore
    const events = yield* Effect.forkChild(Stream.runCollect(store.changes), { startImmediately: true })
    const shown: Array<unknown> = []

    yield* store.save(Credential.fromApiKey({ id: "own", apiKey: Redacted.make(ownKey) }))
    yield* store.save(credentialOf("mail", "basic_auth", { username: "ann", password }))
    writeFileSync(`${directory}/credentials/torn.enc`, ownKey, { mode: 0o600 })
    yield* issueKnownTokens
    // the scenario shows something only if the tokens that are searched for are those in use
    assert.strictEqual(Redacted.value(yield* store.token("hubspot")), tokens.hubspot)
    shown.push(yield* store.get("hubspot"))
    shown.push(yield* ask(all), yield* use(server, elsewhere, all))
    // each client carried it
    assert.isTrue(server.requests.some(({ headers }) => headers["authorization"] === `Bearer ${tokens.hubspot}`))
    assert.isTrue(server.requests.some(({ headers }) => headers["x-token"] === `Token ${tokens.github}`))
    assert.isTrue(server.requests.some(({ headers }) => headers["authorization"] === `Basic ${basic}`))
    assert.isTrue(server.requests.some(({ path }) => path === `/ok?access_token=${tokens.hubspot}`))
    const handed = yield* handOn(directory)
    assert.strictEqual(handed[0]?.status, 0, handed[0]?.stderr)
    assert.include(handed[3]?.stdout, `password=${tokens.github}\n`)
    shown.push(handed.map(({ status, stderr }) => [status, stderr]))
    // what is asked at once with it may fail first, and have it wait
    yield* aden.clearFaults
    yield* aden.setFault(Fault.Reset({ at: "request" }))
    const servedStale = yield* Effect.forkChild(
      Stream.runHead(Stream.filter(store.changes, ({ _tag }) => _tag === "ServedStale")),
      { startImmediately: true }
    )
    yield* Effect.raceFirst(Fiber.join(servedStale), Effect.forever(Effect.delay(store.get("github"), "10 millis")))
    for (const [index, failure] of failures.entries()) {
      const pick: Pick = (cases) => sampled(cases, 12, index)
      yield* aden.clearFaults
      yield* aden.setFault(failure)
      yield* issueKnownTokens
      yield* aden.expire("hubspot")
      shown.push(yield* ask(pick), yield* use(server, elsewhere, pick), yield* emulatorShows)
    }
    yield* aden.clearFaults
    yield* aden.revoke("github")
    shown.push(yield* ask(all))
    shown.push(
      yield* Effect.exit(Effect.provide(CredentialStore.use((tenant) => tenant.sync), TenantCredentials.get("acme")))
    )
    yield* aden.stop
    shown.push(yield* ask(all))
    yield* Fiber.interrupt(events)
    // the hostile server was reached by a redirect, without anything
    assert.isNotEmpty(elsewhere.requests)
    const reached = inspect(elsewhere.requests, { depth: Infinity })
    return { shown: [...shown, reached], usage: yield* aden.usage }
  }).pipe(Effect.provide(services, { local: true }))
}).pipe(Effect.scoped, Effect.provide(Emulator, { local: true }))

/** What the scenario shows, run once for all tests. */
const witnessed = Effect.runSync(Effect.cached(witness(scenario)))

describe("no secret in anything that a program shows of itself", () => {
  it.live(
    "from its first sync to its end: errors, log, spans, metrics, answers and usage reports",
    () =>
      Effect.gen(function*() {
        const { exit, shown, spans, metrics } = yield* witnessed
        assert(Exit.isSuccess(exit), shown.slice(-2_000))
        const answers = exit.value.shown.flatMap((value) => [
          inspect(value, { depth: Infinity, showHidden: true, maxStringLength: Infinity }),
          JSON.stringify(value)
        ])
        const reported = JSON.stringify(exit.value.usage)
        const everything = [shown, ...answers, JSON.stringify(metrics), reported].join("\n")

        // there was something to see
        const names = new Set(spans.map(({ name }) => name))
        for (
          const name of [
            "CredentialStore.get",
            "CredentialStore.renew",
            "CredentialStore.sync",
            "CredentialStore.resolve",
            "CredentialStore.resolveHeaders",
            "CredentialStore.resolveParams",
            "AdenClient.requestRefresh",
            "AdenClient.reportUsage",
            "UsageReporter.deliver"
          ]
        ) assert.isTrue(names.has(name), `no span ${name}`)
        assert.include(shown, "Asked Aden for a credential")
        assert.include(shown, "Usage metadata that looks like a secret is left out")
        assert.include(everything, "AdenUnauthorized")
        assert.include(everything, "RateLimited")
        assert.include(everything, "ReauthRequired")
        assert.include(everything, "CredentialHostDenied")
        assert.include(everything, "CredentialTemplateError")
        assert.include(everything, "<h1>Aden emulator</h1>")
        assert.isTrue(exit.value.usage.some(({ metadata }) => metadata["path"] === "/ok"))
        for (
          const id of ["reads_total", "refreshes_total", "requests_total", "usage_reports_total", "served_stale_total"]
        ) assert.isTrue(metrics.some((metric) => metric.id === `aden_credentials_${id}`), `no metric ${id}`)

        for (const secret of secrets) {
          const at = everything.indexOf(secret.slice(0, 8))
          assert.strictEqual(at, -1, `shows ${secret}: …${everything.slice(Math.max(0, at - 300), at + 60)}…`)
        }
      }),
    120_000
  )

  it.live("the labels of metrics are few and known, whatever ids and texts there are", () =>
    Effect.gen(function*() {
      const { metrics } = yield* witnessed
      const labels = new Map<string, Set<string>>()
      for (const { attributes, id } of metrics) {
        if (!id.startsWith("aden_credentials_")) continue
        for (const [name, value] of Object.entries(attributes ?? {})) {
          labels.set(name, (labels.get(name) ?? new Set()).add(value))
        }
      }
      assert.deepStrictEqual([...labels.keys()].toSorted(), [
        "endpoint",
        "error",
        "outcome",
        "question",
        "source",
        "status"
      ])
      for (const values of labels.values()) {
        assert.isAtMost(values.size, 20)
        for (const value of values) assert.match(value, /^(?:[A-Za-z]+|[1-5][0-9]{2})$/)
      }
    }), 120_000)
})
