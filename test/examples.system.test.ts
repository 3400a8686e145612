/**
 * The programs in examples: each runs with nothing in its environment, does what it says, and leaves nothing behind.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { AdenClient, AdenSyncProvider, CredentialStore, EncryptedFileStorage } from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { Effect, Layer, Redacted } from "effect"
import { FetchHttpClient, HttpClient, HttpClientRequest } from "effect/http"
import { execFile } from "node:child_process"
import { readdirSync } from "node:fs"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import path from "node:path"
import { answer, CrmToolsWithCredential, Person } from "../examples/agent/agent.ts"
import { Crm, CrmLayer } from "../examples/agent/Crm.ts"
import type { Step } from "../examples/agent/ScriptedModel.ts"
import { ScriptedModel, Transcript } from "../examples/agent/ScriptedModel.ts"
import { EmulatedAden } from "../examples/support/EmulatedAden.ts"
import { bundled } from "./fixtures/bundle.ts"
import { scriptedServer } from "./fixtures/scriptedServer.ts"
import { witness } from "./fixtures/witness.ts"

const root = path.resolve(import.meta.dirname, "..")

const run = (file: string, temporary: string) =>
  new Promise<{ readonly status: number; readonly stdout: string; readonly stderr: string }>((resolve) => {
    execFile(
      process.execPath,
      [bundled(`examples/${file}`)],
      { cwd: root, env: { PATH: process.env["PATH"], TMPDIR: temporary } },
      (error, stdout, stderr) => resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr })
    )
  })

describe("each example", () => {
  it.each<readonly [string, ReadonlyArray<RegExp>]>([
    ["provider-only.ts", [
      /^synced: hubspot, github$/m,
      /^hubspot: a token of \d+ characters, printed as <redacted>$/m,
      /^slack: Open http:\S+\/integrations\/slack\/connect in a browser/m
    ]],
    ["cached-storage.ts", [/asked 1 time$/m, /still 1$/m, /^Aden is down: served from the cache$/m]],
    ["tenants.ts", [
      /^acme: hubspot, slack$/m,
      /^globex: github, hubspot$/m,
      /"initech" .* ADEN_API_KEY_initech is not set/m,
      /^the API knows acme as acme$/m,
      /^the API knows globex as globex$/m
    ]],
    ["promise.ts", [/^two tokens, of \d+ and \d+ characters$/m, /^Open http:\S+ in a browser/m]],
    ["test-layers.ts", [
      /refreshed: 42 contacts$/m,
      /asked 1 time$/m,
      /ReauthRequired: .*https:\/\/aden\.example\.com/m
    ]],
    ["agent/main.ts", [
      /Yes, Ada Lovelace is\.$/m,
      /\(to a person: .* has to be authorized again: http:\S+\/integrations\/hubspot\/connect\)$/m,
      /I cannot tell before/m
    ]]
  ])("%s", async (file, expected) => {
    const temporary = await mkdtemp(path.join(tmpdir(), "aden-examples-test-"))
    try {
      const { status, stderr, stdout } = await run(file, temporary)
      assert.strictEqual(status, 0, stdout + stderr)
      assert.strictEqual(stderr, "")
      for (const line of expected) assert.match(stdout, line)
      assert.notInclude(stdout, "aden-emulator.")
      assert.deepStrictEqual(readdirSync(temporary).filter((name) => name.startsWith("aden-")), [])
    } finally {
      await rm(temporary, { recursive: true, force: true })
    }
  }, 120_000)
})

describe("the agent", () => {
  const Credentials = CredentialStore.layer().pipe(
    Layer.provide(AdenSyncProvider.layer()),
    Layer.provide(AdenClient.layerConfig),
    Layer.provide(EncryptedFileStorage.layerConfig),
    Layer.provide([NodeServices.layer, FetchHttpClient.layer])
  )

  /** Has the agent answer with this script, and answers all that the model was sent and all that the person was told. */
  const converse = Effect.fnUntraced(function*(script: ReadonlyArray<Step>) {
    const told: Array<string> = []
    const { url } = yield* Crm
    const { exit, shown } = yield* witness(
      Effect.gen(function*() {
        const text = yield* answer("Is Ada among our contacts?")
        return { text, messages: (yield* Transcript).messages }
      }).pipe(
        Effect.provide(ScriptedModel(script)),
        Effect.provide(
          CrmToolsWithCredential(url).pipe(
            Layer.provide(Layer.succeed(Person, { tell: (message) => Effect.sync(() => told.push(message)) }))
          ),
          { local: true }
        )
      )
    )
    return { ...(yield* exit), shown, told }
  })

  /** Neither a token that was ever issued, nor the beginning of one, nor the API key. */
  const assertNoSecret = Effect.fnUntraced(function*(texts: ReadonlyArray<string>) {
    const aden = yield* AdenEmulator
    const issued = yield* aden.issuedTokens
    assert.isAtLeast(issued.length, 1)
    for (const secret of [aden.apiKey, ...issued.map(({ value }) => value)].map(Redacted.value)) {
      for (const text of texts) assert.notInclude(text, secret.slice(0, 16))
    }
  })

  const surroundings = Layer.fresh(
    Layer.mergeAll(CrmLayer, Credentials, FetchHttpClient.layer).pipe(
      Layer.provideMerge(EmulatedAden({ integrations: [{ id: "hubspot", tokenLifetime: "1 hour" }] }))
    )
  )

  /** As another program does it: what this one has is refused from now on. */
  const refreshedElsewhere = Effect.gen(function*() {
    const aden = yield* AdenEmulator
    const request = HttpClientRequest.post(`${aden.url}/v1/credentials/hubspot/refresh`).pipe(
      HttpClientRequest.bearerToken(aden.apiKey)
    )
    assert.strictEqual((yield* HttpClient.execute(request)).status, 200)
  })

  it.live("gets an answer by a token that no message to the model holds", () =>
    Effect.gen(function*() {
      const crm = yield* Crm
      const { messages, shown, text, told } = yield* converse([
        { call: "SearchContacts", with: { query: "Ada" } },
        { say: "Yes." }
      ])
      assert.strictEqual(text, "Yes.")
      assert.strictEqual(messages.length, 2)
      assert.include(messages[1], "Ada Lovelace")
      assert.deepStrictEqual([crm.answered, told], [[200], []])
      yield* assertNoSecret([...messages, shown, text])
    }).pipe(Effect.provide(surroundings)))

  it.live("neither sees a token that is refused and renewed under way, though the API repeats it", () =>
    Effect.gen(function*() {
      const crm = yield* Crm
      yield* CredentialStore.use((store) => store.token("hubspot"))
      yield* refreshedElsewhere
      const { messages, shown } = yield* converse([
        { call: "SearchContacts", with: { query: "Ada" } },
        { call: "OpenContact", with: { url: `${crm.url}/contacts/404` } },
        { call: "SearchContacts", with: { query: "{{hubspot.access_token}}" } },
        { say: "Yes." }
      ])
      assert.deepStrictEqual(crm.answered, [401, 200, 404, 200])
      assert.include(messages[1], "Ada Lovelace")
      assert.include(messages[2], "The CRM answered with status 404.")
      yield* assertNoSecret([...messages, shown])
      for (const message of messages) assert.notMatch(message, /expired|nothing there|Bearer/)
    }).pipe(Effect.provide(surroundings)))

  it.live("is told in short, safe words that a person has to act; the person gets the address", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* CredentialStore.use((store) => store.token("hubspot"))
      yield* refreshedElsewhere
      yield* aden.revoke("hubspot")
      const { messages, shown, told } = yield* converse([
        { call: "SearchContacts", with: { query: "Ada" } },
        { say: "I cannot tell." }
      ])
      assert.include(messages[1], "The CRM has to be connected again by a person")
      assert.notInclude(messages[1], aden.url)
      assert.notMatch(messages[1] ?? "", /connect"|revoked|authorize/)
      assert.strictEqual(told.length, 1)
      assert.include(told[0], `${aden.url}/integrations/hubspot/connect`)
      yield* assertNoSecret([...messages, ...told, shown])
    }).pipe(Effect.provide(surroundings)))

  it.live("cannot have the token sent to a server of the model's choice", () =>
    Effect.gen(function*() {
      const evil = yield* scriptedServer({ host: "127.0.0.2" })
      const { port } = new URL((yield* Crm).url)
      const { messages } = yield* converse([
        { call: "OpenContact", with: { url: evil.url } },
        { call: "OpenContact", with: { url: `http://127.0.0.1:${port}@127.0.0.2:${evil.port}/` } },
        { call: "OpenContact", with: { url: "file:///etc/passwd" } },
        { say: "It is not ours." }
      ])
      assert.strictEqual(evil.connections(), 0)
      for (const message of messages.slice(1)) assert.include(message, "That address does not belong to the CRM.")
      yield* CredentialStore.use((store) => store.token("hubspot"))
      yield* assertNoSecret(messages)
    }).pipe(Effect.provide(surroundings)))
})
