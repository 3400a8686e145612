/** Hostile text that was put where credentials are stored does not reach a terminal, nor a script, through `aden-creds`. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, it } from "@effect/vitest"
import { Credential, CredentialKey, CredentialStorage, EncryptedFileStorage } from "aden-credentials"
import { Context, DateTime, Effect, Layer, Redacted } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { assertDocumentShowable, assertInvitesNowhere, assertShowable, hostileTexts } from "../fixtures/hostileTexts.ts"
import { sampled } from "../fixtures/repeats.ts"
import { reply, scriptedServer } from "../fixtures/scriptedServer.ts"
import type { databases } from "./databases.ts"
import { encryptionKey, run, temporaryDirectory } from "./harness.ts"

const otherKey = "DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus="

/** A place in a new directory. */
export const directory = Effect.map(temporaryDirectory, (directory) => ({
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

/** An Aden that lists these as blocked, and names no place to authorize them again. `fine` it renews. */
export const blocking = Effect.fnUntraced(function*(ids: ReadonlyArray<string>) {
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

export const credential = Effect.fnUntraced(function*(id: string, names: Partial<Record<string, string>> = {}) {
  const base = Credential.fromAccessToken({
    id,
    accessToken: Redacted.make("token-of-someone"),
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

type Place = typeof directory | typeof databases[number]["place"]

export const suite = (place: Place) => {
  it.live("shows no hostile text, as text or as JSON, on a terminal or not", () =>
    Effect.gen(function*() {
      const { flags, putDocument, putState, storage } = yield* place
      const blocked = hostileTexts.map((_, index) => `blocked-${index}`)
      const ids = [...blocked, ...hostileTexts.map((_, index) => `named-${index}`)]
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
      const odd = "other\u001b[2J\u202e\n"
      yield* own.save(new Credential({ ...(yield* credential(odd)), issuer: { name: odd, tenantId: odd } }))
      // ids that were written without the key
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
        ...hostileTexts.flatMap((_, index) =>
          sampled([`blocked-${index}`, `named-${index}`], 2, index).map((id) => ["explain", id])
        ),
        ...blocked.flatMap((id, index) =>
          sampled(["token", "validate", "refresh"], 3, index).map((name) => [name, id])
        ),
        ["adopt", odd],
        ["explain", ofProgram.id],
        ["validate", ofProgram.id],
        ["refresh", `${fine._integration_type}:${fine._alias}`],
        ["sync"],
        ["delete", ofProgram.id],
        ["list"]
      ]
      for (const [index, args] of commands.entries()) {
        for (const mode of sampled([[], ["--json"]], 2, index)) {
          const where = [...args, ...mode].join(" ")
          const ran = yield* run([...args, ...mode, ...flags], environment)
          if (mode.length === 0) assertShowable(ran.stdout, where)
          else assertDocumentShowable(ran.stdout, where)
          assertShowable(ran.stderr, where)
          // a name that reads like a URL does not count as an invitation
          const showsNames = args.some((arg) => ["list", "google"].includes(arg) || arg.startsWith("named-"))
          if (!showsNames) assertInvitesNowhere(ran.stdout + ran.stderr, where)
        }
      }
      assert.strictEqual(yield* own.exists(ofProgram.id), false)
      const { keys } = yield* Effect.flatMap(own.load("fine"), Effect.fromOption)
      const kept = ["access_token", "_alias"].map((name) => Redacted.value(keys.get(name)?.value ?? Redacted.make("")))
      assert.deepStrictEqual(kept, ["token-renewed", fine._alias])
      const list = yield* run(["list", ...flags], { ...environment, NO_COLOR: "1" }, { terminal: ["stdout"] })
      assertShowable(list.stdout, "list on a terminal")
      const refused = yield* run(["token", "blocked-0", ...flags], environment)
      assert.include(refused.stderr, "has to be authorized again")
    }))
}
