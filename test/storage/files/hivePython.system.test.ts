/**
 * Hive's side of a shared directory, played by Python: with the libraries that Hive uses where they are installed, else by the
 * standard library and openssl. Left out where there is no Python 3.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  AdenClient,
  AdenSyncProvider,
  Credential,
  CredentialKey,
  CredentialStore,
  EncryptedFileStorage,
  rotateKeys
} from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { DateTime, Effect, Layer, Option, Redacted, Schema, Stream } from "effect"
import { FetchHttpClient } from "effect/http"
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { escapedName } from "../../../src/storage/format/names.ts"
import { inDirectory, key, NodeFiles, otherKey, temporaryDirectory } from "../temporaryStorage.ts"

const script = fileURLToPath(new URL("../../fixtures/hive/hive_files.py", import.meta.url))
const fixtures = fileURLToPath(new URL("../../fixtures/hive-files", import.meta.url))

const python = (args: ReadonlyArray<string>, options: {
  readonly key?: Redacted.Redacted<string>
  readonly input?: string
} = {}): string =>
  execFileSync("python3", [...args], {
    env: { PATH: process.env["PATH"], HIVE_CREDENTIAL_KEY: Redacted.value(options.key ?? key) },
    input: options.input ?? "",
    encoding: "utf8",
    stdio: ["pipe", "pipe", "pipe"]
  })

/** Why Python cannot play Hive here; `undefined` where it can. */
const missing = ((): string | undefined => {
  try {
    python(["-c", "import sys; assert sys.version_info >= (3, 10)"])
  } catch {
    return "there is no python3 of version 3.10 or later"
  }
  try {
    python(["-c", "import cryptography.fernet"])
  } catch {
    try {
      execFileSync("openssl", ["version"], { stdio: "ignore" })
    } catch {
      return "there is neither Python's cryptography nor the openssl command"
    }
  }
  return undefined
})()

const Found = Schema.fromJsonString(
  Schema.Record(
    Schema.String,
    Schema.NullOr(Schema.Struct({
      credential: Schema.Record(Schema.String, Schema.Unknown),
      expired: Schema.Record(Schema.String, Schema.Boolean),
      type: Schema.String
    }))
  )
)

/** What Hive has in a directory, by id; null for what it lists and does not find. */
const hiveReads = (directory: string, keyText = key) =>
  Schema.decodeUnknownSync(Found)(python([script, "read", directory], { key: keyText }))

const hiveWrites = (directory: string, documents: ReadonlyArray<unknown>, keyText = key) =>
  python([script, "write", directory], { input: JSON.stringify(documents), key: keyText })

const Keys = Schema.Record(
  Schema.String,
  Schema.Struct({ value: Schema.String, expires_at: Schema.NullOr(Schema.String) })
)
const keysOf = (found: ReturnType<typeof hiveReads>, id: string) =>
  Schema.decodeUnknownSync(Keys)(found[id]?.credential["keys"])

const apiKey = (id: string, value = `value of ${id}`) => Credential.fromApiKey({ id, apiKey: Redacted.make(value) })

const decrypted = (directory: string, id: string) => hiveReads(directory)[id]?.credential

describe.skipIf(missing !== undefined)(
  `a directory shared with Python${missing === undefined ? "" : ` (${missing})`}`,
  () => {
    it.effect("what is saved here is read by Hive, whatever characters id and values have", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const ids = [
          "hubspot",
          "brave_search/work",
          "a\\b",
          "x..y",
          "my key: 1",
          "caf\u00e9 \u{1f600}",
          "ns:prod",
          "=+"
        ]
        const value = "quote \" backslash \\ tab \t line \n nul \u0000 \u2028 \u{1f600} \u00e9 e\u0301"
        yield* inDirectory(directory)((storage) => storage.saveMany(ids.map((id) => apiKey(id, `${value} ${id}`))))
        const found = hiveReads(directory)
        assert.sameMembers(Object.keys(found), ids)
        for (const id of ids) {
          assert.strictEqual(found[id]?.credential["id"], id)
          assert.deepStrictEqual(found[id]?.type, "api_key")
          assert.deepStrictEqual(keysOf(found, id)["api_key"]?.value, `${value} ${id}`)
        }
      }))

    it.effect("times are the same moments on both sides", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const expiresAt = DateTime.makeUnsafe("2031-01-28T15:30:00.250Z")
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          for (
            const [id, at] of [["late", expiresAt], ["past", DateTime.makeUnsafe("2020-02-29T23:59:59Z")]] as const
          ) {
            yield* storage.save(
              new Credential({
                ...Credential.fromAccessToken({ id, accessToken: Redacted.make("token"), expiresAt: at }),
                lastRefreshed: at
              })
            )
          }
        }))
        const found = hiveReads(directory)
        assert.strictEqual(keysOf(found, "late")["access_token"]?.expires_at, "2031-01-28T15:30:00.250000+00:00")
        assert.strictEqual(found["late"]?.credential["last_refreshed"], "2031-01-28T15:30:00.250000+00:00")
        assert.deepStrictEqual(found["late"]?.expired, { access_token: false })
        assert.deepStrictEqual(found["past"]?.expired, { access_token: true })

        const written = ["2031-01-28T15:30:00.123456Z", "2031-01-28T17:30:00.123456+02:00", "2031-01-28T15:30:00Z"]
        hiveWrites(
          directory,
          written.map((expires_at, index) => ({
            id: `t${index}`,
            credential_type: "oauth2",
            keys: { access_token: { name: "access_token", value: "x", expires_at, metadata: {} } }
          }))
        )
        const before = hiveReads(directory)
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          for (const [index, text] of written.entries()) {
            const credential = Option.getOrThrow(yield* storage.load(`t${index}`))
            assert.strictEqual(credential.expiresAt?.epochMilliseconds, Date.parse(text))
            yield* storage.save(new Credential({ ...credential, description: "changed" }))
          }
        }))
        const after = hiveReads(directory)
        for (const index of written.keys()) {
          assert.deepStrictEqual(keysOf(after, `t${index}`), keysOf(before, `t${index}`), "with its microseconds")
          assert.strictEqual(after[`t${index}`]?.credential["description"], "changed")
        }
      }))

    it.effect("a time without a zone, which Hive writes and cannot read back, is mended by a save here", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        hiveWrites(directory, [{
          id: "naive",
          credential_type: "oauth2",
          keys: { access_token: { name: "access_token", value: "x", expires_at: "2030-01-01T00:00:00", metadata: {} } }
        }])
        assert.throws(() => hiveReads(directory), /can't compare offset-naive and offset-aware datetimes/)
        yield* inDirectory(directory)((storage) =>
          Effect.flatMap(storage.load("naive"), (credential) => storage.save(Option.getOrThrow(credential)))
        )
        assert.strictEqual(
          keysOf(hiveReads(directory), "naive")["access_token"]?.expires_at,
          "2030-01-01T00:00:00+00:00"
        )
      }))

    it.effect("what a sync brings is as Hive writes it: Aden's keys, scope, alias and identity", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const Client = Layer.unwrap(
          Effect.map(AdenEmulator, ({ apiKey, url }) => AdenClient.layer({ baseUrl: url, apiKey }))
        )
        yield* CredentialStore.use((store) => store.sync).pipe(
          Effect.provide(
            CredentialStore.layer().pipe(
              Layer.provide(AdenSyncProvider.layer()),
              Layer.provide(Client),
              Layer.provide([FetchHttpClient.layer, EncryptedFileStorage.layer({ directory, keys: [key] })]),
              Layer.provide(NodeFiles)
            )
          )
        )
        const found = hiveReads(directory)
        assert.strictEqual(found["g1"]?.credential["provider_id"], "aden_sync")
        assert.strictEqual(found["g1"]?.credential["auto_refresh"], true)
        assert.strictEqual(found["g1"]?.type, "oauth2")
        const keys = keysOf(found, "g1")
        assert.match(keys["access_token"]?.expires_at ?? "", /\+00:00$/)
        const values = Object.fromEntries(Object.entries(keys).map(([name, { value }]) => [name, value]))
        assert.deepInclude(values, {
          _aden_managed: "true",
          _integration_type: "google",
          _alias: "Timothy",
          _identity_email: "timothy@example.com",
          scope: "mail calendar"
        })
      }).pipe(Effect.provide(AdenEmulator.layer({
        integrations: [{
          id: "g1",
          type: "google",
          alias: "Timothy",
          email: "timothy@example.com",
          scopes: ["mail", "calendar"],
          tokenLifetime: "1 hour"
        }]
      }))))

    it.effect("fields that only Hive knows outlive a renewal here", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        hiveWrites(directory, [{
          id: "github_oauth",
          credential_type: "oauth2",
          keys: {
            access_token: { name: "access_token", value: "old", expires_at: null, metadata: { source: "app", n: 1.5 } },
            refresh_token: { name: "refresh_token", value: "ghr", expires_at: null, metadata: {} }
          },
          use_count: 7,
          last_used: "2026-01-28T14:31:02.123456+00:00",
          description: "GitHub app",
          tags: ["prod"],
          created_at: "2026-01-01T00:00:00+00:00",
          namespace: { nested: ["\u00e9", null, true, 12345678901234] }
        }])
        const before = decrypted(directory, "github_oauth")
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          const stored = Option.getOrThrow(yield* storage.load("github_oauth"))
          const answer = Credential.fromAccessToken({ id: "github_oauth", accessToken: Redacted.make("new") })
          yield* storage.save(stored.renewedBy(answer))
        }))
        const after = decrypted(directory, "github_oauth")
        const { keys: keysBefore, updated_at: _before, auto_refresh: _auto, ...rest } = before ?? {}
        for (const [name, value] of Object.entries(rest)) assert.deepStrictEqual(after?.[name], value, name)
        const keys = Schema.decodeUnknownSync(
          Schema.Record(Schema.String, Schema.Record(Schema.String, Schema.Unknown))
        )
        assert.deepStrictEqual(keys(after?.["keys"]), {
          ...keys(keysBefore),
          access_token: { ...keys(keysBefore)["access_token"], value: "new" }
        })
      }))

    it.effect("both write in turn, and each reads what the other wrote last", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const document = (value: string) => ({
          id: "work/slack",
          credential_type: "bearer_token",
          keys: { token: { name: "token", value, expires_at: null, metadata: {} } }
        })
        let ids: ReadonlyArray<string> = []
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          for (let round = 0; round < 3; round++) {
            hiveWrites(directory, [document(`python ${round}`), { ...document("x"), id: `only python's ${round}` }])
            const stored = Option.getOrThrow(yield* storage.load("work/slack"))
            assert.strictEqual(Redacted.value(stored.defaultKey?.value ?? otherKey), `python ${round}`)
            assert.include(yield* storage.list, `only python's ${round}`)
            const token = new CredentialKey({ name: "token", value: Redacted.make(`here ${round}`) })
            yield* storage.save(new Credential({ ...stored, keys: new Map([["token", token]]) }))
            yield* storage.save(apiKey(`only here ${round}`))
            assert.strictEqual(keysOf(hiveReads(directory), "work/slack")["token"]?.value, `here ${round}`)
          }
          assert.isTrue(yield* storage.delete("only python's 1"))
          ids = yield* storage.list
        }))
        assert.sameMembers(Object.keys(hiveReads(directory)), [...ids])
      }))

    it.effect("an id that shares Hive's name of another is not read by it as the other", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) =>
          storage.saveMany([apiKey("a_b"), apiKey("x"), apiKey("\u200bhidden")])
        )
        yield* inDirectory(directory)((storage) => storage.save(apiKey("X")))
        const found = hiveReads(directory)
        assert.strictEqual(found["a_b"]?.credential["id"], "a_b")
        assert.strictEqual(found["x"]?.credential["id"], "x")
        // under escaped names, which Hive does not look for
        assert.isNull(found["X"])
        assert.isNull(found["\u200bhidden"])
        assert.isTrue(fs.existsSync(path.join(directory, "credentials", `${escapedName("X")}.enc`)))
      }))

    it.effect("after a rotation Hive reads all of it with the new key, its own files too", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        fs.cpSync(path.join(fixtures, "base"), directory, { recursive: true })
        for (const folder of ["", "credentials", "metadata"]) fs.chmodSync(path.join(directory, folder), 0o700)
        const hiveKey = Redacted.make(fs.readFileSync(path.join(fixtures, "key.txt"), "utf8").trim())
        yield* inDirectory(directory, [hiveKey])((storage) => storage.save(apiKey("written here")))
        const before = hiveReads(directory, hiveKey)
        assert.isAbove(Object.keys(before).length, 10)
        yield* Stream.runDrain(rotateKeys({ directory, keys: [otherKey, hiveKey] })).pipe(Effect.provide(NodeFiles))
        assert.deepStrictEqual(hiveReads(directory, otherKey), before)
        assert.throws(() => hiveReads(directory, hiveKey))
      }))
  }
)
