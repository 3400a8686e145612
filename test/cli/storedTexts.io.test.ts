/** What somebody put where credentials are kept does not reach a terminal, nor a script, through `aden-creds`. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Credential, CredentialKey, CredentialStorage, EncryptedFileStorage } from "aden-credentials"
import { Context, DateTime, Effect, Layer, Redacted } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { assertDocumentShowable, assertInvitesNowhere, assertShowable, hostileTexts } from "../fixtures/hostileTexts.ts"
import { describeWith } from "../fixtures/realServers.ts"
import { reply, scriptedServer } from "../fixtures/scriptedServer.ts"
import { databases } from "./databases.ts"
import { encryptionKey, run, temporaryDirectory } from "./harness.ts"

const otherKey = "DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus="

const directory = Effect.map(temporaryDirectory, (directory) => ({
  flags: ["--directory", directory],
  storage: (...keys: ReadonlyArray<string>) =>
    EncryptedFileStorage.layer({
      directory,
      keys: (keys.length === 0 ? [encryptionKey] : keys).map((key) => Redacted.make(key))
    }).pipe(
      Layer.provide(NodeServices.layer),
      Layer.fresh,
      Layer.build,
      Effect.map(Context.get(CredentialStorage))
    ),
  putState: (id: string, state: string) =>
    Effect.sync(() => fs.writeFileSync(path.join(directory, "state", `${id}.json`), state, { mode: 0o600 })),
  putDocument: (id: string, document: string) =>
    Effect.sync(() => fs.writeFileSync(path.join(directory, "credentials", `${id}.enc`), document, { mode: 0o600 }))
}))

const places = [
  { name: "a directory", server: { url: "", isThere: true, why: "" }, place: directory },
  ...databases
]

/** An Aden that lists these as blocked, and names no place to authorize them again. `fine` it renews. */
const blocking = Effect.fnUntraced(function*(ids: ReadonlyArray<string>) {
  const server = yield* scriptedServer()
  const refused = { error: "refresh_failed", message: "revoked", requires_reauthorization: true }
  server.script((response, received) => {
    const answer = received.path === "/v1/credentials"
      ? reply(200, { integrations: ids.map((integration_id) => ({ integration_id, status: "requires_reauth" })) })
      : received.path.endsWith("/validate")
      ? reply(200, { valid: false, requires_reauthorization: true })
      : received.path === "/health"
      ? reply(200, { status: "ok" })
      : received.path.startsWith("/v1/credentials/fine")
      ? reply(200, { access_token: "token-renewed" })
      : reply(400, refused)
    answer(response, received)
  })
  return { ADEN_API_URL: server.url, ADEN_API_KEY: "agent-key", HIVE_CREDENTIAL_KEY: encryptionKey }
})

const credential = Effect.fnUntraced(function*(id: string, names: Partial<Record<string, string>> = {}) {
  const base = Credential.fromAccessToken({
    id,
    accessToken: Redacted.make("token-of-somebody"),
    expiresAt: DateTime.add(yield* DateTime.now, { hours: 1 })
  })
  return new Credential({
    ...base,
    keys: new Map([
      ...base.keys,
      ...Object.entries(names).map(([name, value = ""]) =>
        [name, new CredentialKey({ name, value: Redacted.make(value) })] as const
      )
    ]),
    providerId: "aden_sync"
  })
})

for (const { name, place, server } of places) {
  describeWith(server, `aden-creds over what was put into ${name}`, () => {
    it.live("shows no hostile text, as text or as JSON, on a terminal or not", () =>
      Effect.gen(function*() {
        const { flags, putDocument, putState, storage } = yield* place
        const ids = hostileTexts.flatMap((_, index) => [`blocked-${index}`, `named-${index}`])
        const environment = yield* blocking(ids)
        const own = yield* storage()
        const blockedSince = DateTime.formatIso(yield* DateTime.now)
        for (const [index, [, text]] of hostileTexts.entries()) {
          const short = text.slice(0, 2_000)
          yield* own.save(yield* credential(`blocked-${index}`))
          yield* own.save(
            yield* credential(`named-${index}`, {
              _integration_type: `type${short}`,
              _alias: short,
              _identity_email: short
            })
          )
          yield* own.save(yield* credential(`damaged-${index}`))
          const state = { generation: 1, blockedSince, reauthorizationUrl: text, lastError: text }
          yield* putState(`blocked-${index}`, JSON.stringify(state))
          const account = { provider: "google", alias: `${short} ` }
          yield* putState(`damaged-${index}`, JSON.stringify({ ...state, account }))
          yield* putDocument(`damaged-${index}`, "no token")
        }
        const fine = { _integration_type: "google\u001b]52;c;\u0007", _alias: "\u202efine\u009b2J" }
        yield* own.save(yield* credential("fine", fine))
        const ofProgram = Credential.fromApiKey({ id: "own\u001b[2J\u202e\n", apiKey: Redacted.make("own-value") })
        yield* own.save(ofProgram)
        // ids that nobody with the key chose
        const strangers = yield* storage(otherKey)
        yield* strangers.save(yield* credential("odd\u001b]52;c;ZXZpbA==\u0007"))
        yield* strangers.save(yield* credential("odd\u202egpj\u009b2J\nerror: run it"))

        const commands = [
          ["list"],
          ["doctor"],
          ["explain", "google"],
          ["explain", "odd\u202egpj\u009b2J\nerror: run it"],
          ["token", "google"],
          ["delete", "odd\u202egpj\u009b2J\nerror: run it"],
          ...ids.flatMap((id) => [["explain", id]]),
          ...ids.flatMap((id) => id.startsWith("blocked") ? [["token", id], ["validate", id], ["refresh", id]] : []),
          ["explain", ofProgram.id],
          ["validate", ofProgram.id],
          ["refresh", `${fine._integration_type}:${fine._alias}`],
          ["sync"],
          ["delete", ofProgram.id],
          ["list"]
        ]
        for (const args of commands) {
          for (const mode of [[], ["--json"]]) {
            const where = [...args, ...mode].join(" ")
            const ran = yield* run([...args, ...mode, ...flags], environment)
            if (mode.length === 0) assertShowable(ran.stdout, where)
            else assertDocumentShowable(ran.stdout, where)
            assertShowable(ran.stderr, where)
            // what is only called like a URL is no place to go to
            const showsNames = args.some((arg) => ["list", "google"].includes(arg) || arg.startsWith("named-"))
            if (!showsNames) assertInvitesNowhere(ran.stdout + ran.stderr, where)
          }
        }
        assert.strictEqual(yield* own.exists(ofProgram.id), false)
        const { keys } = yield* Effect.flatMap(own.load("fine"), Effect.fromOption)
        const kept = ["access_token", "_alias"].map((name) =>
          Redacted.value(keys.get(name)?.value ?? Redacted.make(""))
        )
        assert.deepStrictEqual(kept, ["token-renewed", fine._alias])
        const list = yield* run(["list", ...flags], { ...environment, NO_COLOR: "1" }, { terminal: ["stdout"] })
        assertShowable(list.stdout, "list on a terminal")
        const blocked = yield* run(["token", "blocked-0", ...flags], environment)
        assert.include(blocked.stderr, "has to be authorized again")
      }))
  })
}

describe("aden-creds over places that are called oddly", () => {
  it.live("doctor shows no hostile name of a file", () =>
    Effect.gen(function*() {
      const { flags, putDocument, storage } = yield* directory
      yield* (yield* storage()).save(yield* credential("plain"))
      for (const id of ["odd\u001b]52;c;ZXZpbA==\u0007", "odd\u202egpj\nerror: run it"]) {
        yield* putDocument(id, "no token")
        fs.chmodSync(path.join(flags[1] ?? "", "credentials", `${id}.enc`), 0o644)
      }
      const environment = yield* blocking([])
      for (const args of [["doctor"], ["list"], ["explain", "odd\u202egpj\nerror: run it"]]) {
        const text = yield* run([...args, ...flags], environment)
        assertShowable(text.stdout, args.join(" "))
        assertShowable(text.stderr, args.join(" "))
        assertDocumentShowable((yield* run([...args, "--json", ...flags], environment)).stdout, args.join(" "))
      }
    }))

  it.live("a directory that is refused is mended by the remedy, which the message does not repeat", () =>
    Effect.gen(function*() {
      const parent = yield* temporaryDirectory
      const odd = path.join(parent, "odd\u001b[2J")
      fs.mkdirSync(path.join(odd, "credentials"), { recursive: true })
      fs.chmodSync(odd, 0o777)
      const { stderr } = yield* run(["list", "--directory", odd], { HIVE_CREDENTIAL_KEY: encryptionKey })
      assertShowable(stderr, "list")
      assert.match(stderr, /^error: [^;]+\n {2}Run: chmod .*\n$/)
    }))
})
