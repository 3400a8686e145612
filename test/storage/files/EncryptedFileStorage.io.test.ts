import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, DateTime, Effect, Layer, Option, Redacted } from "effect"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import * as path from "node:path"
import { Credential } from "../../../src/model/Credential.ts"
import { CredentialState } from "../../../src/model/CredentialState.ts"
import { CredentialStorage } from "../../../src/storage/CredentialStorage.ts"
import { EncryptedFileStorage } from "../../../src/storage/files/EncryptedFileStorage.ts"
import { escapedName } from "../../../src/storage/format/names.ts"
import { repeats } from "../../fixtures/repeats.ts"
import { suite } from "../StorageContract.ts"
import { inDirectory, key, NodeFiles, otherKey, temporaryDirectory, TemporaryStorage } from "../temporaryStorage.ts"
import {
  apiKey,
  decrypt,
  enc,
  filesIn,
  indexOf,
  mode,
  readIndex,
  secret,
  shown,
  systemError,
  valueOf,
  withFileSystem
} from "./directory.ts"

suite("EncryptedFileStorage", TemporaryStorage)

describe("EncryptedFileStorage", () => {
  describe("layout", () => {
    it.effect("is Hive's: credentials, index and state, private to their owner under any umask", () =>
      Effect.gen(function*() {
        const directory = path.join(yield* temporaryDirectory, "hive", "credentials")
        const umask = process.umask(0)
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("brave_search"))
        })).pipe(Effect.ensuring(Effect.sync(() => process.umask(umask))))
        assert.sameMembers(filesIn(directory).map((file) => file.replace(/\d+$/, "1")), [
          "credentials/brave_search.enc",
          "locks/writing/1",
          "metadata/index.json",
          "state/brave_search.json"
        ])
        for (const file of filesIn(directory)) assert.strictEqual(mode(path.join(directory, file)), "600", file)
        for (const folder of ["", "..", "credentials", "locks", "locks/writing", "metadata", "state"]) {
          assert.strictEqual(mode(path.join(directory, folder)), "700", folder)
        }
        const index = readIndex(directory)
        assert.deepStrictEqual(Object.keys(index), ["credentials", "version", "store_path", "generated_at"])
        assert.deepInclude(index, { version: "2.0", store_path: directory, generated_at: "1970-01-01T00:00:00Z" })
        assert.deepStrictEqual(index.credentials, {
          brave_search: {
            credential_type: "api_key",
            provider: null,
            alias: null,
            identity: {},
            key_names: ["api_key"],
            created_at: "1970-01-01T00:00:00Z",
            updated_at: "1970-01-01T00:00:00Z",
            last_refreshed: null,
            expires_at: null,
            auto_refresh: false,
            tags: []
          }
        })
      }))

    it.effect("a new document holds every field of Hive's, with its defaults and times in UTC", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) =>
          storage.save(Credential.fromAccessToken({
            id: "hubspot",
            accessToken: Redacted.make(secret),
            expiresAt: DateTime.makeUnsafe("2030-01-28T15:30:00Z")
          }))
        )
        assert.deepStrictEqual(JSON.parse(yield* decrypt(enc(directory, "hubspot"))), {
          id: "hubspot",
          credential_type: "oauth2",
          keys: {
            access_token: { name: "access_token", value: secret, expires_at: "2030-01-28T15:30:00Z", metadata: {} }
          },
          provider_id: null,
          last_refreshed: null,
          auto_refresh: false,
          last_used: null,
          use_count: 0,
          created_at: "1970-01-01T00:00:00Z",
          description: "",
          tags: [],
          updated_at: "1970-01-01T00:00:00Z"
        })
      }))

    it.effect("reading a directory that does not exist finds nothing and makes nothing", () =>
      Effect.gen(function*() {
        const parent = yield* temporaryDirectory
        const directory = path.join(parent, "absent")
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          assert.isTrue(Option.isNone(yield* storage.load("x")))
          assert.isFalse(yield* storage.exists("x"))
          assert.isFalse(yield* storage.delete("x"))
          assert.deepStrictEqual(yield* storage.list, [])
          assert.deepStrictEqual(yield* storage.loadState("x"), CredentialState.initial)
          assert.strictEqual((yield* storage.saveMany([])).size, 0)
        }))
        assert.deepStrictEqual(fs.readdirSync(parent), [])
      }))
  })

  describe("keys", () => {
    it.effect("keys old and new: both read, the first one writes", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory, [otherKey])((storage) => storage.saveMany([apiKey("old"), apiKey("kept")]))
        yield* inDirectory(directory, [key, otherKey])(Effect.fnUntraced(function*(storage) {
          assert.strictEqual(valueOf(yield* storage.load("old")), secret)
          yield* storage.save(apiKey("old", "renewed"))
        }))
        assert.include(yield* decrypt(enc(directory, "old"), key), "renewed")
        assert.include(yield* decrypt(enc(directory, "kept"), otherKey), secret)
      }))

    it.effect.each([[], ["nonsense"], [Redacted.value(key), ""]].map((keys) => ({ keys })))(
      "layer refuses $keys",
      ({ keys }) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          const error = yield* Effect.flip(
            inDirectory(directory, keys.map((text) => Redacted.make(text)))((storage) => storage.list)
          )
          assert.strictEqual(error._tag, "AdenConfigError")
          assert.notInclude(shown(error), Redacted.value(key).slice(0, 12))
        })
    )

    it.effect("can come from an effect, whose failure is the layer's", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const ask = <E>(keys: Effect.Effect<ReadonlyArray<Redacted.Redacted<string>>, E>) =>
          CredentialStorage.use((storage) => storage.list).pipe(
            Effect.provide(EncryptedFileStorage.layer({ directory, keys }).pipe(Layer.provide(NodeFiles)))
          )
        assert.deepStrictEqual(yield* ask(Effect.succeed([key])), [])
        assert.strictEqual(yield* Effect.flip(ask(Effect.fail("vault is sealed"))), "vault is sealed")
      }))
  })

  describe("layerConfig", () => {
    const configured = Effect.fnUntraced(function*(environment: Record<string, string>) {
      return yield* CredentialStorage.use((storage) => storage.save(apiKey("x"))).pipe(
        Effect.provide(Layer.fresh(EncryptedFileStorage.layerConfig)),
        Effect.provide(NodeFiles),
        Effect.provide(ConfigProvider.layer(ConfigProvider.fromUnknown(environment)))
      )
    })
    const writeKeyFile = (home: string, text: string, mode = 0o600) => {
      fs.mkdirSync(path.join(home, ".hive", "secrets"), { recursive: true, mode: 0o700 })
      fs.writeFileSync(path.join(home, ".hive", "secrets", "credential_key"), text, { mode })
      fs.chmodSync(path.join(home, ".hive", "secrets", "credential_key"), mode)
    }
    const written = (home: string) => path.join(home, ".hive", "credentials")

    it.effect("takes HIVE_CREDENTIAL_KEY, and writes to ~/.hive/credentials", () =>
      Effect.gen(function*() {
        const home = yield* temporaryDirectory
        writeKeyFile(home, Redacted.value(otherKey))
        yield* configured({ HOME: home, HIVE_CREDENTIAL_KEY: ` ${Redacted.value(key)}, ${Redacted.value(otherKey)} ` })
        assert.include(yield* decrypt(enc(written(home), "x"), key), secret)
      }))

    it.effect.each(["", "  "])(
      "takes the key file when the variable is %j, white space stripped",
      (variable) =>
        Effect.gen(function*() {
          const home = yield* temporaryDirectory
          writeKeyFile(home, `\n ${Redacted.value(otherKey)}\n`)
          yield* configured({ HOME: home, HIVE_CREDENTIAL_KEY: variable })
          assert.include(yield* decrypt(enc(written(home), "x"), otherKey), secret)
        })
    )

    it.effect("a key missing while files exist: an error that says what to do, and no new key", () =>
      Effect.gen(function*() {
        const home = yield* temporaryDirectory
        yield* configured({ HOME: home, HIVE_CREDENTIAL_KEY: Redacted.value(key) })
        const before = filesIn(home)
        const error = yield* Effect.flip(configured({ HOME: home }))
        assert.strictEqual(error._tag, "AdenConfigError")
        if (error._tag === "AdenConfigError") assert.strictEqual(error.setting, "HIVE_CREDENTIAL_KEY")
        assert.match(error.message, /is not set, and there is no key file .*credential_key/)
        assert.match(error.message, /aden-creds keys generate --save/)
        assert.deepStrictEqual(filesIn(home), before)
      }))

    it.effect.each(["nonsense", `${Redacted.value(key)},`, `,${Redacted.value(key)}`, `${Redacted.value(key)}x`])(
      "a malformed key is an error that does not show it: case %#",
      (text) =>
        Effect.gen(function*() {
          const home = yield* temporaryDirectory
          const error = yield* Effect.flip(configured({ HOME: home, HIVE_CREDENTIAL_KEY: text }))
          assert.strictEqual(error._tag, "AdenConfigError")
          assert.match(error.message, /HIVE_CREDENTIAL_KEY/)
          assert.notInclude(shown(error), text.slice(0, 8))
          writeKeyFile(home, text)
          const fromFile = yield* Effect.flip(configured({ HOME: home }))
          assert.match(fromFile.message, /credential_key/)
          assert.notInclude(shown(fromFile), text.slice(0, 8))
          assert.isFalse(fs.existsSync(written(home)))
        })
    )

    it.effect.each([0o644, 0o640, 0o620, 0o602])(
      "a key file of mode %o, open to others, is refused",
      (mode) =>
        Effect.gen(function*() {
          const home = yield* temporaryDirectory
          writeKeyFile(home, Redacted.value(key), mode)
          const error = yield* Effect.flip(configured({ HOME: home }))
          assert.strictEqual(error._tag, "AdenConfigError")
          assert.match(error.message, /open to others/)
          assert.match(error.message, /chmod 600/)
        })
    )

    it.effect("a key file in a folder that others can write is refused, also where a link leads there", () =>
      Effect.gen(function*() {
        const home = yield* temporaryDirectory
        writeKeyFile(home, Redacted.value(key))
        const secrets = path.join(home, ".hive", "secrets")
        const file = path.join(secrets, "credential_key")
        const open = path.join(home, "open")
        fs.mkdirSync(open)
        fs.renameSync(file, path.join(open, "key"))
        fs.symlinkSync(path.join(open, "key"), file)
        yield* configured({ HOME: home })
        for (const folder of [secrets, open]) {
          fs.chmodSync(folder, 0o777)
          const error = yield* Effect.flip(configured({ HOME: home }))
          assert.strictEqual(error._tag, "AdenConfigError")
          assert.include(error.message, `is in ${folder}, where others can replace it`)
          assert.include(error.message, `chmod go-w '${folder}'`)
          yield* configured({ HOME: home, ADEN_STRICT_MODES: "false" })
          fs.chmodSync(folder, 0o700)
        }
      }))

    it.effect("a key file as Kubernetes mounts it is read: links, read-only, in a folder with the sticky bit", () =>
      Effect.gen(function*() {
        const home = yield* temporaryDirectory
        const secrets = path.join(home, ".hive", "secrets")
        fs.mkdirSync(path.join(secrets, "..2026_01"), { recursive: true })
        fs.writeFileSync(path.join(secrets, "..2026_01", "credential_key"), Redacted.value(otherKey))
        fs.chmodSync(path.join(secrets, "..2026_01", "credential_key"), 0o440)
        fs.symlinkSync("..2026_01", path.join(secrets, "..data"))
        fs.symlinkSync(path.join("..data", "credential_key"), path.join(secrets, "credential_key"))
        fs.chmodSync(secrets, 0o1777)
        yield* configured({ HOME: home })
        assert.include(yield* decrypt(enc(written(home), "x"), otherKey), secret)
      }))

    it.effect.skipIf(process.getuid?.() !== 0)(
      "what belongs to another user is refused, unless ADEN_STRICT_MODES is false",
      () =>
        Effect.gen(function*() {
          const home = yield* temporaryDirectory
          writeKeyFile(home, Redacted.value(key))
          yield* configured({ HOME: home })
          const places = ["secrets/credential_key", "secrets", "credentials", "credentials/state"]
          for (const place of places.map((name) => path.join(home, ".hive", name))) {
            fs.chownSync(place, 1234, 1234)
            const error = yield* Effect.flip(configured({ HOME: home }))
            assert.include(error.message, "belongs to user 1234", place)
            assert.include(error.message, "chown", place)
            assert.include(error.message, "ADEN_STRICT_MODES=false", place)
            yield* configured({ HOME: home, ADEN_STRICT_MODES: "false" })
            fs.chownSync(place, 0, 0)
          }
        })
    )

    it.effect("without strict modes a link in place of a credential is not followed either", () =>
      Effect.gen(function*() {
        const home = yield* temporaryDirectory
        writeKeyFile(home, Redacted.value(key), 0o644)
        const environment = { HOME: home, ADEN_STRICT_MODES: "false" }
        yield* configured(environment)
        const elsewhere = path.join(home, "elsewhere")
        fs.renameSync(enc(written(home), "x"), elsewhere)
        fs.symlinkSync(elsewhere, enc(written(home), "x"))
        const before = fs.readFileSync(elsewhere, "utf8")
        assert.match((yield* Effect.flip(configured(environment))).message, /symbolic link/)
        assert.strictEqual(fs.readFileSync(elsewhere, "utf8"), before)
      }))

    it.effect("a folder in place of the key file is refused", () =>
      Effect.gen(function*() {
        const home = yield* temporaryDirectory
        fs.mkdirSync(path.join(home, ".hive", "secrets", "credential_key"), { recursive: true, mode: 0o700 })
        assert.match((yield* Effect.flip(configured({ HOME: home }))).message, /is not a file that can hold a key/)
      }))

    it.effect("without HOME says so", () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(configured({ HIVE_CREDENTIAL_KEY: Redacted.value(key) }))
        assert.match(error.message, /^HOME is not set/)
      }))

    it.effect("layerConfigWith takes another directory, and then needs no HOME", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* CredentialStorage.use((storage) => storage.save(apiKey("x"))).pipe(
          Effect.provide(EncryptedFileStorage.layerConfigWith({ directory })),
          Effect.provide(NodeFiles),
          Effect.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ HIVE_CREDENTIAL_KEY: Redacted.value(key) })))
        )
        assert.isTrue(fs.existsSync(enc(directory, "x")))
      }))
  })

  describe("the index", () => {
    it.effect("is written a second after the first of several writes, and when the storage is closed", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const ids = () => Object.keys(readIndex(directory).credentials)
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("a/b"))
          yield* TestClock.adjust("999 millis")
          yield* storage.save(apiKey("a_b"))
          yield* storage.save(Credential.fromAccessToken({ id: "__proto__", accessToken: Redacted.make(secret) }))
          assert.isFalse(fs.existsSync(indexOf(directory)))
          yield* TestClock.adjust("1 millis")
          while (!fs.existsSync(indexOf(directory))) yield* Effect.promise(() => new Promise(setImmediate))
          assert.sameMembers(ids(), ["a/b", "a_b", "__proto__"])
          yield* storage.delete("a/b")
          assert.sameMembers(ids(), ["a/b", "a_b", "__proto__"])
        }))
        assert.sameMembers(ids(), ["a_b", "__proto__"])
        const entries = new Map(Object.entries(readIndex(directory).credentials))
        assert.deepInclude(entries.get("__proto__"), { credential_type: "oauth2" })
        assert.notInclude(fs.readFileSync(indexOf(directory), "utf8"), secret)
      }))

    it.effect("is written once by saveMany, and each credential once", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const cost = Effect.fnUntraced(function*(count: number) {
          let operations = 0
          const renamed: Array<string> = []
          yield* withFileSystem(path.join(directory, String(count)), (base) => ({
            open: (file, options) => {
              operations++
              return base.open(file, options)
            },
            lstat: (file) => {
              operations++
              return base.lstat(file)
            },
            readDirectory: (file, options) => {
              operations++
              return base.readDirectory(file, options)
            },
            rename: (from, to) =>
              Effect.tap(base.rename(from, to), () => Effect.sync(() => renamed.push(path.basename(to))))
          }))((storage) => storage.saveMany(Array.from({ length: count }, (_, index) => apiKey(`id_${index}`))))
          assert.lengthOf(renamed.filter((name) => name === "index.json"), 1)
          assert.lengthOf(renamed, 2 * count + 1)
          return operations / count
        })
        const few = yield* cost(repeats(20, 2))
        const many = yield* cost(repeats(200, 2))
        assert.isBelow(many, few + 1)
      }))

    it.effect("is written once for many saves, and knows them all", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        let updates = 0
        const ids = Array.from({ length: 60 }, (_, index) => `id_${index}`)
        yield* withFileSystem(directory, (base) => ({
          rename: (from, to) => {
            if (to.endsWith("index.json")) updates++
            return base.rename(from, to)
          }
        }))((storage) => Effect.forEach(ids, (id) => storage.save(apiKey(id)), { concurrency: 20, discard: true }))
        assert.sameMembers(Object.keys(readIndex(directory).credentials), ids)
        assert.strictEqual(updates, 1)
      }))

    it.live("that cannot be written fails no save, and is tried again, at the latest by the next storage", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const attempts: Array<string> = []
        yield* withFileSystem(directory, (base) => ({
          rename: (from, to) => {
            if (!to.endsWith("index.json")) return base.rename(from, to)
            attempts.push(to)
            return Effect.fail(systemError("EIO", "i/o error", to))
          }
        }))(Effect.fnUntraced(function*(storage) {
          const ids = ["a", "b"]
          yield* Effect.forEach(ids, (id) => storage.save(apiKey(id)), { concurrency: "unbounded" })
          while (attempts.length === 0) yield* Effect.sleep("10 millis")
          assert.sameMembers([...yield* storage.list], ids)
        }))
        assert.lengthOf(attempts, 2)
        assert.isFalse(fs.existsSync(indexOf(directory)))
        yield* inDirectory(directory)((storage) => storage.load("a"))
        assert.sameMembers(Object.keys(readIndex(directory).credentials), ["a", "b"])
        assert.deepStrictEqual(fs.readdirSync(path.dirname(indexOf(directory))), ["index.json"])
      }))

    it.effect("costs a write the same among many credentials: it opens and lists nothing that it is not about", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const ids = Array.from({ length: 40 }, (_, index) => `many_${index}`)
        yield* inDirectory(directory)((storage) => storage.saveMany(ids.map((id) => apiKey(id))))
        const others: Array<string> = []
        const lookingAt = (file: string) => {
          if (/many_|credentials$|state$/.test(file)) others.push(path.relative(directory, file))
        }
        yield* withFileSystem(directory, (base) => ({
          readDirectory: (folder, options) => {
            lookingAt(folder)
            return base.readDirectory(folder, options)
          },
          open: (file, options) => {
            if (/many_/.test(file)) lookingAt(file)
            return base.open(file, options)
          },
          lstat: (file) => {
            if (/many_/.test(file)) lookingAt(file)
            return base.lstat(file)
          }
        }))(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("first_new"))
          assert.sameMembers(others, ["credentials", "state"])
          yield* storage.save(apiKey("second_new"))
          yield* storage.save(apiKey("first_new", "renewed"))
          yield* storage.saveState("third_new", CredentialState.initial)
          yield* storage.delete("first_new")
          yield* storage.save(apiKey("FIRST_new"))
          assert.lengthOf(others, 2)
        }))
        assert.sameMembers(
          Object.keys(readIndex(directory).credentials),
          [...ids, "second_new", "FIRST_new"]
        )
      }))

    const entries = {
      x: { updated_at: "2020-01-01T00:00:00Z", type: "api_key" },
      gone: { updated_at: "x", type: "y" }
    }
    it.effect("of an older Hive becomes one of today's; its unknown fields stay the text they were", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.saveMany([apiKey("x"), apiKey("y")])
          fs.writeFileSync(
            indexOf(directory),
            JSON.stringify({ version: "1.0", credentials: entries }).replace(
              "{",
              "{\"big\": 12345678901234567890, \"ratio\": 1.0, \"__proto__\": {\"a\": [1, 2]}, "
            )
          )
          yield* storage.save(apiKey("x"))
        }))
        const text = fs.readFileSync(indexOf(directory), "utf8")
        for (const field of ["\"big\": 12345678901234567890", "\"ratio\": 1.0", "\"__proto__\": {\"a\": [1, 2]}"]) {
          assert.include(text, field)
        }
        const { credentials, version } = JSON.parse(text)
        assert.strictEqual(version, "2.0")
        assert.sameMembers(Object.keys(credentials), ["x", "y"])
        for (const id of ["x", "y"]) {
          assert.deepInclude(credentials[id], { credential_type: "api_key", updated_at: "1970-01-01T00:00:00Z" })
        }
      }))

    it.effect.each(
      [
        ["lost", (index: string) => fs.rmSync(index)],
        ["lost with its folder", (index: string) => fs.rmSync(path.dirname(index), { recursive: true })],
        ["empty", (index: string) => fs.truncateSync(index)],
        ["torn", (index: string) => fs.truncateSync(index, 40)],
        ["older", (index: string) => fs.writeFileSync(index, JSON.stringify({ credentials: { gone: {} } }))]
      ] as const
    )(
      "that is %s is rebuilt by the next save or delete, from all that is there",
      ([, damage]) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          yield* inDirectory(directory)((storage) => storage.saveMany([apiKey("x"), apiKey("a/b"), apiKey("y")]))
          damage(indexOf(directory))
          yield* inDirectory(directory)((storage) => storage.save(apiKey("z")))
          assert.sameMembers(Object.keys(readIndex(directory).credentials), ["x", "a/b", "y", "z"])
          damage(indexOf(directory))
          yield* inDirectory(directory)((storage) => storage.delete("y"))
          assert.sameMembers(Object.keys(readIndex(directory).credentials), ["x", "a/b", "z"])
        })
    )

    it.effect("list does not trust it: what has no file is not listed, and what it does not know is", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const ids = ["google/work", "brave_search", "hubspot", "~odd"]
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.saveMany(ids.map((id) => apiKey(id)))
          const foreign = { google_work: {}, gone: {}, "google\\work": {} }
          fs.writeFileSync(indexOf(directory), JSON.stringify({ credentials: foreign }))
          assert.sameMembers([...yield* storage.list], ids)
          yield* storage.save(apiKey("hubspot"))
        }))
        assert.sameMembers(Object.keys(readIndex(directory).credentials), ids)
      }))

    it.effect("gives a name to what cannot be opened", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        // the first has the plain name
        for (const id of ["google/work", "google_work"]) {
          yield* inDirectory(directory)((storage) => storage.save(apiKey(id)))
        }
        const before = readIndex(directory)
        // with another key nothing opens, and the index is all there is
        yield* inDirectory(directory, [otherKey])(Effect.fnUntraced(function*(storage) {
          assert.sameMembers([...yield* storage.list], ["google/work", "google_work"])
          yield* storage.save(apiKey("new"))
        }))
        const { credentials } = readIndex(directory)
        assert.sameMembers(Object.keys(credentials), ["google/work", "google_work", "new"])
        assert.deepStrictEqual(credentials["google/work"], before.credentials["google/work"])
        fs.rmSync(indexOf(directory))
        yield* inDirectory(directory, [otherKey])(Effect.fnUntraced(function*(storage) {
          assert.sameMembers([...yield* storage.list], ["google_work", escapedName("google_work"), "new"])
          const error = yield* Effect.flip(storage.load(escapedName("google_work")))
          assert.strictEqual(error._tag, "CredentialDecryptionFailed")
        }))
      }))

    it.effect("files that are no entries are not listed", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("x"))
          for (const name of ["notes.txt", ".enc", "a..b.enc", "y.enc.bak", `.aden-${"0".repeat(32)}.tmp`]) {
            fs.writeFileSync(path.join(directory, "credentials", name), "mine")
          }
          assert.deepStrictEqual(yield* storage.list, ["x"])
        }))
      }))
  })

  describe("state", () => {
    const stateFile = (directory: string) => path.join(directory, "state", "x.json")

    it.effect.each(["", "{", "[]", "{\"generation\": \"many\"}", "\0\0\0", `${"[".repeat(60_000)}`])(
      "that is no state counts as the initial one, and is replaced: case %#",
      (text) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
            yield* storage.save(apiKey("x"))
            fs.writeFileSync(stateFile(directory), text)
            assert.deepStrictEqual(yield* storage.loadState("x"), CredentialState.initial)
            yield* storage.save(apiKey("x"))
            assert.deepStrictEqual(yield* storage.loadState("x"), new CredentialState({ generation: 1, account: {} }))
            assert.strictEqual(JSON.parse(fs.readFileSync(stateFile(directory), "utf8")).generation, 1)
          }))
        })
    )

    it.effect("of another id is not taken for this one's", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("y"))
          fs.renameSync(path.join(directory, "state", "y.json"), stateFile(directory))
          assert.deepStrictEqual(yield* storage.loadState("x"), CredentialState.initial)
          yield* storage.save(apiKey("x"))
          assert.strictEqual((yield* storage.loadState("x")).generation, 1)
        }))
      }))

    it.effect("holds no secret", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x")))
        const text = fs.readFileSync(stateFile(directory), "utf8")
        assert.deepStrictEqual(JSON.parse(text.replace(/,"mac":"[\w-]{43}"\}$/, "}")), {
          id: "x",
          generation: 1,
          account: {}
        })
      }))

    it.effect("that could not be read again is refused, and the credential with it: no save would be told from another", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          const id = "long".repeat(16 * 1024)
          for (
            const refused of [
              storage.save(apiKey(id)),
              Effect.as(storage.saveState(id, CredentialState.initial), 0),
              Effect.as(storage.saveState("x", new CredentialState({ generation: 0, lastError: id })), 0)
            ]
          ) {
            assert.match((yield* Effect.flip(refused)).message, /is too large: it may have 64 KiB/)
          }
          assert.isFalse(yield* storage.exists(id))
        }))
        assert.deepStrictEqual(
          filesIn(directory).filter((file) => !file.startsWith("locks")),
          []
        )
      }))

    it.effect("is counted up before the new credential can be seen", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const order: Array<string> = []
        yield* withFileSystem(directory, (base) => ({
          rename: (from, to) =>
            Effect.tap(base.rename(from, to), () => Effect.sync(() => order.push(path.relative(directory, to))))
        }))((storage) => storage.save(apiKey("x")))
        assert.deepStrictEqual(order, ["state/x.json", "credentials/x.enc", "metadata/index.json"])
      }))
  })

  it.effect("an extra field that is not JSON, or a time that cannot be written, is refused before anything is", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
        const forged = new Credential({
          ...apiKey("x"),
          extra: new Map([["note", Redacted.make(`1, "id": "${secret}"`)]])
        })
        const late = Credential.fromAccessToken({
          id: "x",
          accessToken: Redacted.make(secret),
          expiresAt: DateTime.makeUnsafe(8_000_000_000_000_000)
        })
        for (const credential of [forged, late]) {
          const error = yield* Effect.flip(storage.save(credential))
          assert.strictEqual(error._tag, "CredentialStorageError")
          if (error._tag === "CredentialStorageError") assert.strictEqual(error.reason._tag, "StorageRefused")
          assert.notInclude(shown(error), secret)
        }
        assert.deepStrictEqual(yield* storage.list, [])
        assert.strictEqual((yield* storage.loadState("x")).generation, 0)
      }))
    }))
})
