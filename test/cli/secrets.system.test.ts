import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Credential, CredentialStorage, EncryptedFileStorage } from "aden-credentials"
import { ExitStatus } from "aden-credentials/cli"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Effect, Layer, Redacted } from "effect"
import { HttpClient } from "effect/http"
import { writeFileSync } from "node:fs"
import { sampled } from "../fixtures/repeats.ts"
import { encryptionKey, run, temporaryDirectory } from "./harness.ts"

const apiKey = "aden_sk_live_7Qk2vB9xZr4TnW1mEy8L"
const tokens = ["CJTFwvnuLxIFAgEYz0Rk5PqM83vHdN2w", "xoxb-5839201746-Wq7Lm2Zt9KpR4sYv"]
const ownKey = "BSA_p8Rt2Kx6Wq0Ln4Vz9Mc3"
const secrets = [apiKey, encryptionKey, ...tokens, ownKey]

/** All there is to see: the lowest log level, and the details of failures. */
const everything = { ADEN_CREDS_DEBUG: "1" }

const commands: ReadonlyArray<ReadonlyArray<string>> = [
  ["list"],
  ["list", "--json"],
  ["refresh", "hubspot"],
  ["refresh", "slack", "--json"],
  ["validate", "hubspot", "--json"],
  ["validate", "own"],
  ["sync", "--json"],
  ["explain", "hubspot"],
  ["explain", "slack", "--json"],
  ["health"],
  ["doctor"],
  ["doctor", "--json"],
  ["exec", "--env", "TOKEN=hubspot", "--", process.execPath, "--eval", ""],
  ["exec", "--env", "TOKEN=slack", "--env", "OTHER=github", "--", "/there/is/no/such/program"],
  ["git-credential", "store"],
  ["git-credential", "erase"],
  ["keys", "rotate", "--json"],
  ["adopt", "nope"],
  ["delete", "nope"],
  ["delete", "hubspot", "--json"]
]

const echo = `${apiKey} ${tokens[0]} ${encryptionKey}`

/** What git says of a token that a host refused. */
const rejected = `protocol=https\nhost=github.com\nusername=x-access-token\npassword=${tokens[1]}\n\n`

/** What goes wrong, each with the server repeating every secret it may have seen. */
const failures: Readonly<Record<string, ReadonlyArray<Fault> | "down">> = {
  "nothing": [],
  "Aden is down": "down",
  "401": [Fault.Status({ status: 401, body: JSON.stringify({ error: "invalid_api_key", message: echo }) })],
  "403": [Fault.Status({ status: 403, body: JSON.stringify({ error: "forbidden", message: echo }) })],
  "a firewall": [Fault.Status({ status: 403, contentType: "text/html", body: `<h1>${echo}</h1>` })],
  "404 of a proxy": [Fault.Status({ status: 404, contentType: "text/html", body: echo })],
  "refresh failed": [Fault.Status({ status: 400, body: JSON.stringify({ error: "refresh_failed", message: echo }) })],
  "re-authorization": [Fault.Status({
    status: 400,
    body: JSON.stringify({
      error: "refresh_failed",
      message: echo,
      requires_reauthorization: true,
      reauthorization_url: `https://user:${apiKey}@aden.example/connect`
    })
  })],
  "418": [Fault.Status({ status: 418, body: JSON.stringify({ error: "teapot", message: echo }) })],
  "429": [Fault.RateLimited({ retryAfter: 600, body: { error: "rate_limited", message: echo, retry_after: 600 } })],
  "500": [Fault.Status({ status: 500, body: echo })],
  "a redirect": [Fault.Redirect({ location: `http://127.0.0.1:1/?key=${apiKey}` })],
  "no JSON": [Fault.ReplaceBody({ body: `{"access_token": "${tokens[0]}", ` })],
  "another shape": [
    Fault.Patch({ fields: { access_token: { is: tokens[0] ?? "" }, integrations: echo, valid: echo } })
  ],
  "a token with a line break": [Fault.Patch({ fields: { access_token: `${tokens[0]}\n${tokens[1]}` } })],
  "another's credential": [Fault.Patch({ fields: { integration_id: "other" } })],
  "half a body": [Fault.Truncate()]
}

const commandsLeak = Effect.fnUntraced(function*(
  name: string,
  failure: ReadonlyArray<Fault> | "down",
  commands: ReadonlyArray<ReadonlyArray<string>>
) {
  const aden = yield* AdenEmulator
  const directory = yield* temporaryDirectory
  const environment = {
    ADEN_API_URL: aden.url,
    ADEN_API_KEY: apiKey,
    HIVE_CREDENTIAL_KEY: encryptionKey,
    ...everything
  }
  yield* Effect.flatMap(
    CredentialStorage,
    (storage) => storage.save(Credential.fromApiKey({ id: "own", apiKey: Redacted.make(ownKey) }))
  ).pipe(
    Effect.provide(EncryptedFileStorage.layer({ directory, keys: [Redacted.make(encryptionKey)] })),
    Effect.provide(NodeServices.layer)
  )
  const issueKnownTokens = Effect.andThen(
    aden.setFault(Fault.Patch({ fields: { access_token: tokens[0] } }), { integrationId: "hubspot" }),
    aden.setFault(Fault.Patch({ fields: { access_token: tokens[1] } }), { integrationId: "github" })
  )
  yield* issueKnownTokens
  // only the token command prints one: this shows that the tokens searched for are those that Aden issues
  const printed = yield* run(["token", "hubspot", "--directory", directory], environment)
  assert.strictEqual(printed.stdout, `${tokens[0]}\n`)
  yield* run(["sync", "--directory", directory], environment)
  if (failure === "down") yield* aden.stop
  else {
    // of faults that cannot go together the first counts
    yield* aden.clearFaults
    for (const fault of failure) yield* aden.setFault(fault)
    yield* issueKnownTokens
  }

  const found: Array<string> = []
  for (const args of commands) {
    // before the `--` of a command to run
    const [own, command] = args[0] === "exec" ? [args.slice(0, 3), args.slice(3)] : [args, []]
    const flags = ["--log-level", "all", "--directory", directory]
    const ran = yield* run([...own, ...flags, ...command], environment, { input: rejected })
    const text = ran.stdout + ran.stderr
    if (args[0] === "refresh" && args[1] === "hubspot") {
      assert.strictEqual(ran.status === ExitStatus.done, name === "nothing", `${name}: ${text}`)
    }
    for (const secret of secrets) {
      if (text.includes(secret.slice(0, 8))) found.push(`${name}: ${args.join(" ")}: ${text}`)
    }
  }
  return found
}, Effect.scoped)

describe("no secret in what a command writes", () => {
  it.live(
    "after every failure, at the lowest log level and with the details of failures",
    () =>
      Effect.gen(function*() {
        const found = yield* Effect.forEach(sampled(Object.entries(failures), 2), ([name, failure], index) =>
          commandsLeak(name, failure, sampled(commands, 8, index)).pipe(
            Effect.provide(
              AdenEmulator.layer({
                apiKeys: [Redacted.make(apiKey)],
                integrations: [
                  { id: "hubspot", tokenLifetime: "1 hour" },
                  { id: "github" },
                  { id: "slack", status: "requires_reauth" }
                ]
              }),
              { local: true }
            )
          ), { concurrency: 6 })
        assert.deepStrictEqual(found.flat(), [])
      }),
    120_000
  )

  it.live("settings that make no sense, files under another key, a torn file", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const settings = { ADEN_API_URL: "http://127.0.0.1:1", ADEN_API_KEY: apiKey, HIVE_CREDENTIAL_KEY: encryptionKey }
      yield* Effect.flatMap(
        CredentialStorage,
        (storage) => storage.save(Credential.fromApiKey({ id: "own", apiKey: Redacted.make(ownKey) }))
      ).pipe(
        Effect.provide(EncryptedFileStorage.layer({ directory, keys: [Redacted.make(encryptionKey)] })),
        Effect.provide(NodeServices.layer)
      )
      const anotherKey = "m3Jx9QwT5vLz2Rk8YbHn6DsPc1FgUe7AiXo4VtMqWyE="
      writeFileSync(`${directory}/credentials/torn.enc`, ownKey, { mode: 0o600 })
      const cases: ReadonlyArray<Readonly<Record<string, string>>> = [
        { ADEN_API_URL: `https://user:${apiKey}@aden.example` },
        { ADEN_API_URL: `http://aden.example/?key=${apiKey}` },
        { ADEN_API_KEY: `${apiKey}\n` },
        { ADEN_API_KEY: `${apiKey} ` },
        { HIVE_CREDENTIAL_KEY: encryptionKey.slice(1) },
        { HIVE_CREDENTIAL_KEY: `"${encryptionKey}"` },
        { HIVE_CREDENTIAL_KEY: `${encryptionKey};${encryptionKey}` },
        { HIVE_CREDENTIAL_KEY: anotherKey }
      ]
      for (const change of cases) {
        for (
          const args of [["list"], ["explain", "own"], ["explain", "torn", "--json"], ["validate", "own"], ["sync"]]
        ) {
          const ran = yield* run([...args, "--log-level", "all", "--directory", directory], {
            ...settings,
            ...everything,
            ...change
          })
          const text = ran.stdout + ran.stderr
          for (const secret of [...secrets, anotherKey, encryptionKey.slice(1)]) {
            assert.notInclude(text, secret.slice(0, 8), `${JSON.stringify(change)} ${args.join(" ")}`)
          }
        }
      }
    }), 120_000)

  const boom = Layer.succeed(
    HttpClient.HttpClient,
    HttpClient.make(() => Effect.die(new Error(`boom ${apiKey} ${encryptionKey}\nBearer ${tokens[0]}`)))
  )
  const settings = { ADEN_API_URL: "https://aden.example", ADEN_API_KEY: apiKey, HIVE_CREDENTIAL_KEY: encryptionKey }

  it.live("a defect: 1, one short message, no stack trace", () =>
    Effect.gen(function*() {
      const ran = yield* run(["health"], settings, { http: boom })
      assert.strictEqual(ran.status, ExitStatus.unexpected)
      assert.strictEqual(ran.stdout, "")
      assert.match(ran.stderr, /^error: Something went wrong .*\n {2}.*ADEN_CREDS_DEBUG=1.*\n$/)
    }))

  for (
    const [name, args, environment] of [
      ["ADEN_CREDS_DEBUG", ["health"], everything],
      ["--log-level debug", ["health", "--log-level", "debug"], {}]
    ] as const
  ) {
    it.live(`a defect with ${name}: its stack trace, without secrets`, () =>
      Effect.gen(function*() {
        const ran = yield* run(args, { ...settings, ...environment }, { http: boom })
        assert.strictEqual(ran.status, ExitStatus.unexpected)
        assert.match(ran.stderr, /boom <redacted>/)
        assert.match(ran.stderr, /^ +at .*:\d+:\d+/m)
        for (const secret of secrets) assert.notInclude(ran.stderr, secret.slice(0, 8))
      }))
  }
})
