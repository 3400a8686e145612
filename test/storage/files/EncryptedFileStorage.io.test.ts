import { assert, describe, it } from "@effect/vitest"
import {
  Arbitrary,
  ConfigProvider,
  DateTime,
  Effect,
  Exit,
  Fiber,
  FileSystem,
  Layer,
  Option,
  PlatformError,
  Redacted,
  Result,
  Stream
} from "effect"
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { inspect } from "node:util"
import { Fernet } from "../../../src/encryption/Fernet.ts"
import { Credential } from "../../../src/model/Credential.ts"
import { CredentialState } from "../../../src/model/CredentialState.ts"
import { CurrentTenant } from "../../../src/model/currentTenant.ts"
import { CredentialStorage } from "../../../src/storage/CredentialStorage.ts"
import { EncryptedFileStorage } from "../../../src/storage/files/EncryptedFileStorage.ts"
import { CurrentProcess } from "../../../src/storage/files/ProcessIdentity.ts"
import { escapedName } from "../../../src/storage/format/names.ts"
import { repeats, stride } from "../../fixtures/repeats.ts"
import { hostileId } from "../credentialArbitrary.ts"
import { confusableIds, suite } from "../StorageContract.ts"
import { inDirectory, key, NodeFiles, otherKey, temporaryDirectory, TemporaryStorage } from "../temporaryStorage.ts"

suite("EncryptedFileStorage", TemporaryStorage)

const secret = "BSA-0123456789-secret"
const apiKey = (id: string, value = secret) => Credential.fromApiKey({ id, apiKey: Redacted.make(value) })

const valueOf = (credential: Option.Option<Credential>): string | undefined => {
  const key = Option.getOrUndefined(credential)?.defaultKey
  return key === undefined ? undefined : Redacted.value(key.value)
}

const enc = (directory: string, name: string) => path.join(directory, "credentials", `${name}.enc`)
const indexOf = (directory: string) => path.join(directory, "metadata", "index.json")
const readIndex = (directory: string) => JSON.parse(fs.readFileSync(indexOf(directory), "utf8"))
const mode = (file: string) => (fs.statSync(file).mode & 0o777).toString(8)
/** What must not change in a file that is left alone. */
const traces = (file: string) => {
  const { ino, mode, mtimeMs } = fs.lstatSync(file)
  return { ino, mode, mtimeMs, bytes: fs.readFileSync(file).toString("hex") }
}
const filesIn = (directory: string): ReadonlyArray<string> =>
  fs.readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)))
const age = (file: string) => fs.utimesSync(file, 1_000_000_000, 1_000_000_000)

const decrypt = Effect.fnUntraced(function*(file: string, keyText = key) {
  const token = fs.readFileSync(file, "latin1")
  return new TextDecoder().decode(yield* Fernet.decrypt([yield* Fernet.parseKey(keyText)], token))
})
const writeToken = Effect.fnUntraced(function*(file: string, document: string) {
  const token = yield* Fernet.encrypt([yield* Fernet.parseKey(key)], new TextEncoder().encode(document))
  fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
  fs.writeFileSync(file, token)
})

/** Everything a person or a log could get to see of an error. */
const shown = (error: unknown) =>
  `${error} ${JSON.stringify(error)} ${inspect(error, { depth: Infinity, showHidden: true })} ${
    error instanceof Error ? `${error.message} ${error.stack} ${inspect(error.cause, { depth: Infinity })}` : ""
  }`

/** A storage over a file system of which some operations are replaced. */
const withFileSystem = (
  directory: string,
  change: (base: FileSystem.FileSystem) => Partial<FileSystem.FileSystem>
) =>
<A, E>(use: (storage: CredentialStorage["Service"]) => Effect.Effect<A, E>) =>
  CredentialStorage.use(use).pipe(
    Effect.provide(
      Layer.fresh(EncryptedFileStorage.layer({ directory, keys: [key] })).pipe(
        Layer.provide(
          Layer.effect(
            FileSystem.FileSystem,
            Effect.map(FileSystem.FileSystem, (base) => ({ ...base, ...change(base) }))
          )
        ),
        Layer.provide(NodeFiles)
      )
    )
  )

const systemError = (code: string, text: string, file: string) =>
  PlatformError.systemError({
    _tag: "Unknown",
    module: "FileSystem",
    method: "test",
    pathOrDescriptor: file,
    cause: new Error(`${code}: ${text}, write '${file}'`)
  })

describe("EncryptedFileStorage", () => {
  describe("layout", () => {
    it.effect("is Hive's: credentials, index and state, private to their owner under any umask", () =>
      Effect.gen(function*() {
        const directory = path.join(yield* temporaryDirectory, "hive", "credentials")
        const umask = process.umask(0)
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("brave_search"))
        })).pipe(Effect.ensuring(Effect.sync(() => process.umask(umask))))
        assert.sameMembers([...filesIn(directory)], [
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
        assert.deepStrictEqual(Object.keys(index), ["credentials", "version", "last_modified"])
        assert.strictEqual(index.version, "1.0")
        assert.strictEqual(index.credentials.brave_search.type, "api_key")
        assert.match(index.credentials.brave_search.updated_at, /Z$/)
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

  describe("file names", () => {
    it.effect("are the id with / \\ and .. as _, and escaped where that is taken or unsafe", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const names = (id: string) =>
          inDirectory(directory)((storage) => storage.save(apiKey(id))).pipe(
            Effect.map(() => fs.readdirSync(path.join(directory, "credentials")).map((file) => file.slice(0, -4)))
          )
        const plain = [["google/work", "google_work"], ["ns:prod", "ns:prod"], ["..", "_"], [
          "x".repeat(200),
          "x".repeat(200)
        ]] as const
        for (const [id, name] of plain) assert.include(yield* names(id), name)
        const escaped = [
          "google_work",
          "Google_Work",
          "/",
          "NS:prod",
          "x".repeat(201),
          "\u00e9".repeat(101),
          "e\u0301",
          "~x",
          "a\0b",
          "a\u001b[2Jb",
          "a\u202eb"
        ]
        for (const id of escaped) {
          const after = yield* names(id)
          assert.include(after, escapedName(id), id)
          assert.match(escapedName(id), /^~[0-9a-f]{64}$/)
        }
        assert.lengthOf(yield* names("x".repeat(200)), plain.length + escaped.length)
      }))

    it.effect("hostile ids stay inside the directory", () =>
      Effect.gen(function*() {
        const parent = yield* temporaryDirectory
        const directory = path.join(parent, "credentials")
        yield* inDirectory(directory)((storage) => storage.saveMany(confusableIds.map((id) => apiKey(id))))
        assert.deepStrictEqual(fs.readdirSync(parent), ["credentials"])
        assert.sameMembers(fs.readdirSync(directory), ["credentials", "locks", "metadata", "state"])
        for (const folder of ["credentials", "state"]) {
          assert.lengthOf(fs.readdirSync(path.join(directory, folder)), confusableIds.length)
        }
      }))

    it.effect.prop(
      "ids from a hostile generator never leave the directory, and each has a file of its own",
      [Arbitrary.array(hostileId, { minLength: 1, maxLength: 8 })],
      ([ids]) =>
        Effect.gen(function*() {
          const all = new Set(ids)
          const parent = yield* temporaryDirectory
          const directory = path.join(parent, "credentials")
          yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
            assert.strictEqual((yield* storage.saveMany(Array.from(all, (id) => apiKey(id)))).size, 0)
            for (const id of all) yield* storage.withLock(id, Effect.void)
          }))
          assert.deepStrictEqual(fs.readdirSync(parent), ["credentials"])
          assert.sameMembers(fs.readdirSync(directory), ["credentials", "locks", "metadata", "state"])
          // one that had left it would be missing here
          for (const folder of ["credentials", "state"]) {
            assert.lengthOf(fs.readdirSync(path.join(directory, folder)), all.size)
          }
          assert.lengthOf(fs.readdirSync(path.join(directory, "locks")), all.size + 1)
        }),
      { arbitrary: { runs: repeats(30) } }
    )

    it.effect("files that Hive named are read where this package would escape, and written in place", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        for (const id of ["A", "a", "e\u0301", "~x", "y".repeat(240)]) {
          yield* writeToken(
            enc(directory, id),
            JSON.stringify({ id, keys: { api_key: { name: "api_key", value: id } } })
          )
        }
        const before = fs.readdirSync(path.join(directory, "credentials"))
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          for (const id of ["A", "a", "e\u0301", "~x", "y".repeat(240)]) {
            assert.strictEqual(valueOf(yield* storage.load(id)), id)
            yield* storage.save(apiKey(id, "new"))
            assert.strictEqual(valueOf(yield* storage.load(id)), "new")
          }
        }))
        assert.sameMembers(fs.readdirSync(path.join(directory, "credentials")), before)
      }))

    it.effect("a name that Hive took while saveMany is at work is not taken again", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        let listings = 0
        const others = Array.from({ length: 20 }, (_, index) => apiKey(`other ${index}`))
        yield* withFileSystem(directory, (base) => ({
          // the first listing looks for abandoned files; right after the second, of the names in use, Hive takes one
          readDirectory: (folder) =>
            Effect.tap(base.readDirectory(folder), () => {
              if (path.basename(folder) !== "credentials" || ++listings !== 2) return Effect.void
              const document = { id: "a/b", keys: { api_key: { name: "api_key", value: "slash" } } }
              return Effect.orDie(writeToken(enc(directory, "a_b"), JSON.stringify(document)))
            })
        }))((storage) => storage.saveMany([...others, apiKey("a_b", "underscore")]))
        assert.isAtLeast(listings, 2)
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          assert.strictEqual(valueOf(yield* storage.load("a/b")), "slash")
          assert.strictEqual(valueOf(yield* storage.load("a_b")), "underscore")
          assert.strictEqual((yield* storage.loadState("a/b")).generation, 0)
          assert.strictEqual((yield* storage.loadState("a_b")).generation, 1)
        }))
      }))

    it.effect("where Hive came to write the plain name later, its file counts and the escaped one goes with the next save", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.saveMany([apiKey("a/b", "slash")])
          yield* storage.save(apiKey("a_b", "older"))
          yield* storage.delete("a/b")
          yield* writeToken(
            enc(directory, "a_b"),
            JSON.stringify({ id: "a_b", keys: { api_key: { name: "api_key", value: "Hive's" } } })
          )
          assert.strictEqual(valueOf(yield* storage.load("a_b")), "Hive's")
          assert.deepStrictEqual(yield* storage.list, ["a_b"])
          yield* storage.save(apiKey("a_b", "newer"))
          assert.deepStrictEqual(fs.readdirSync(path.join(directory, "credentials")), ["a_b.enc"])
          assert.isTrue(yield* storage.delete("a_b"))
          assert.isTrue(Option.isNone(yield* storage.load("a_b")))
        }))
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

  describe("files that cannot be opened", () => {
    const damage: Record<string, (file: string) => Effect.Effect<void, unknown>> = {
      "truncated": (file) => Effect.sync(() => fs.truncateSync(file, 100)),
      "empty": (file) => Effect.sync(() => fs.truncateSync(file, 0)),
      "bit-flipped": (file) =>
        Effect.sync(() => {
          const bytes = fs.readFileSync(file)
          bytes.writeUInt8(bytes.readUInt8(200) ^ 1, 200)
          fs.writeFileSync(file, bytes)
        }),
      "foreign-key": (file) =>
        Effect.gen(function*() {
          const foreign = yield* Fernet.parseKey(otherKey)
          fs.writeFileSync(
            file,
            yield* Fernet.encrypt([foreign], new TextEncoder().encode(`{"id":"bad","x":"${secret}"}`))
          )
        }),
      "binary": (file) => Effect.sync(() => fs.writeFileSync(file, Buffer.from([0, 255, 128, 10]))),
      "not UTF-8": (file) =>
        Effect.gen(function*() {
          const own = yield* Fernet.parseKey(key)
          fs.writeFileSync(file, yield* Fernet.encrypt([own], Uint8Array.from([0x22, 0xff, 0x22])))
        }),
      "not JSON": (file) => writeToken(file, `${secret} is not JSON`),
      "nested too deep": (file) => writeToken(file, `{"id":"bad","keys":${"[".repeat(200_000)}${"]".repeat(200_000)}}`),
      "of another id": (file) => writeToken(file, JSON.stringify({ id: "good", keys: { api_key: { value: secret } } }))
    }
    it.effect.each(Object.keys(damage))(
      "%s: an error that names the file, the others are listed and read, the file stays",
      (kind) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          yield* inDirectory(directory)((storage) =>
            storage.saveMany([apiKey("good"), apiKey("bad"), apiKey("good_too")])
          )
          const file = enc(directory, "bad")
          yield* (damage[kind] ?? (() => Effect.fail("no such damage")))(file)
          age(file)
          const before = traces(file)
          yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
            for (const refused of [storage.load("bad"), storage.save(apiKey("bad", "new"))]) {
              const error = yield* Effect.flip(Effect.asVoid(refused))
              assert.strictEqual(error._tag, "CredentialDecryptionFailed")
              if (error._tag === "CredentialDecryptionFailed") {
                assert.strictEqual(error.id, "bad")
                assert.strictEqual(error.location, file)
              }
              for (
                const hidden of [secret, Redacted.value(key), fs.readFileSync(file, "latin1").slice(0, 20) || secret]
              ) {
                assert.notInclude(shown(error), hidden)
              }
            }
            const failures = yield* storage.saveMany([apiKey("bad", "new"), apiKey("good", "renewed")])
            assert.deepStrictEqual(Array.from(failures.keys()), ["bad"])
            assert.isTrue(yield* storage.exists("bad"))
            assert.sameMembers([...yield* storage.list], ["good", "bad", "good_too"])
            assert.strictEqual(valueOf(yield* storage.load("good")), "renewed")
            assert.strictEqual(valueOf(yield* storage.load("good_too")), secret)
            assert.deepStrictEqual(traces(file), before)
            // a person asked
            assert.isTrue(yield* storage.delete("bad"))
            assert.isFalse(fs.existsSync(file))
            assert.sameMembers([...yield* storage.list], ["good", "good_too"])
            assert.sameMembers(Object.keys(readIndex(directory).credentials), ["good", "good_too"])
          }))
        })
    )

    it.effect("every single-bit flip and every truncation of a file is an error", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* writeToken(enc(directory, "x"), "{\"id\": \"x\"}")
          const good = fs.readFileSync(enc(directory, "x"))
          const expectFailure = Effect.fnUntraced(function*(bytes: Uint8Array, what: string) {
            fs.writeFileSync(enc(directory, "x"), bytes)
            age(enc(directory, "x"))
            assert.strictEqual((yield* Effect.flip(storage.load("x")))._tag, "CredentialDecryptionFailed", what)
          })
          for (let at = 0; at < good.length; at++) {
            yield* expectFailure(good.subarray(0, at), `cut at ${at}`)
            for (let bit = at % stride(4); bit < 8; bit += stride(4)) {
              const bytes = Buffer.from(good)
              bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << bit), at)
              yield* expectFailure(bytes, `bit ${bit} of byte ${at}`)
            }
          }
          yield* expectFailure(Buffer.concat([good, Buffer.from("\n")]), "a line break at the end")
          fs.writeFileSync(enc(directory, "x"), good)
          assert.isTrue(Option.isSome(yield* storage.load("x")))
        }))
      }))

    it.effect("a file larger than 16 MiB is refused unread, and a credential that would need one is not written", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("x"))
          fs.truncateSync(enc(directory, "x"), 16 * 1024 * 1024 + 1)
          const error = yield* Effect.flip(storage.load("x"))
          assert.match(error.message, /larger than 16 MiB/)
          const refused = yield* Effect.flip(storage.save(apiKey("y", "v".repeat(13 * 1024 * 1024))))
          assert.match(refused.message, /too large/)
          assert.isFalse(yield* storage.exists("y"))
          yield* storage.save(apiKey("z", "v".repeat(11 * 1024 * 1024)))
          assert.lengthOf(valueOf(yield* storage.load("z")) ?? "", 11 * 1024 * 1024)
        }))
      }))

    it.effect("an unreadable file that the index gives to another id is not deleted under this one", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("a/b"))
          fs.truncateSync(enc(directory, "a_b"), 10)
          age(enc(directory, "a_b"))
          assert.isFalse(yield* storage.delete("a_b"))
          assert.isTrue(fs.existsSync(enc(directory, "a_b")))
          assert.deepStrictEqual(yield* storage.list, ["a/b"])
          assert.isTrue(yield* storage.delete("a/b"))
          assert.isFalse(fs.existsSync(enc(directory, "a_b")))
        }))
      }))

    it.live("a file torn by a writer in place is read again", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("x"))
          const file = enc(directory, "x")
          const good = fs.readFileSync(file)
          fs.writeFileSync(file, good.subarray(0, good.length / 2))
          const reader = yield* storage.load("x").pipe(Effect.forkChild({ startImmediately: true }))
          yield* Effect.sleep("15 millis")
          fs.writeFileSync(file, good)
          assert.strictEqual(valueOf(yield* Fiber.join(reader)), secret)
          fs.writeFileSync(file, good.subarray(0, good.length / 2))
          assert.strictEqual((yield* Effect.flip(storage.load("x")))._tag, "CredentialDecryptionFailed")
        }))
      }))

    it.effect.each(["credentials/x.enc", "metadata/index.json"])(
      "%s that is replaced by a longer one between looking and opening is read whole, however long that took",
      (name) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          const file = path.join(directory, name)
          const longer = inDirectory(directory)(Effect.fnUntraced(function*(storage) {
            yield* storage.saveMany([apiKey("x", "longer".repeat(100)), apiKey("y"), apiKey("z")])
            if (name !== "metadata/index.json") return
            fs.writeFileSync(file, JSON.stringify({ ...readIndex(directory), hive_note: "kept" }))
          }))
          yield* inDirectory(directory)((storage) => storage.save(apiKey("x")))
          const before = fs.readFileSync(file)
          yield* longer
          const after = fs.readFileSync(file)
          fs.writeFileSync(file, before)
          let isReplaced = false
          yield* withFileSystem(directory, (base) => ({
            open: (opened, options) => {
              if (!isReplaced && opened === file) {
                isReplaced = true
                fs.writeFileSync(`${file}.new`, after)
                age(`${file}.new`)
                fs.renameSync(`${file}.new`, file)
              }
              return base.open(opened, options)
            }
          }))(Effect.fnUntraced(function*(storage) {
            if (name === "metadata/index.json") {
              yield* storage.save(apiKey("z"))
              assert.strictEqual(readIndex(directory).hive_note, "kept")
            } else assert.strictEqual(valueOf(yield* storage.load("x")), "longer".repeat(100))
          }))
          assert.isTrue(isReplaced)
        })
    )

    it.live("a file torn by a writer in place on a server whose clock is 5 s behind is read again", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("x"))
          const file = enc(directory, "x")
          const good = fs.readFileSync(file)
          const now = DateTime.toEpochMillis(yield* DateTime.now) / 1000
          fs.writeFileSync(file, good.subarray(0, good.length / 2))
          fs.utimesSync(file, now - 5, now - 5)
          const reader = yield* storage.load("x").pipe(Effect.forkChild({ startImmediately: true }))
          yield* Effect.sleep("15 millis")
          fs.writeFileSync(file, good)
          fs.utimesSync(file, now - 5, now - 5)
          assert.strictEqual(valueOf(yield* Fiber.join(reader)), secret)
        }))
      }))
  })

  describe("what is not a private file", () => {
    const run = <A, E>(test: (directory: string, storage: CredentialStorage["Service"]) => Effect.Effect<A, E>) =>
      Effect.flatMap(
        temporaryDirectory,
        (directory) =>
          inDirectory(directory)((storage) =>
            Effect.andThen(storage.saveMany([apiKey("x"), apiKey("y")]), test(directory, storage))
          )
      )

    it.effect("a symbolic link in place of a credential is not followed, neither to read nor to write", () =>
      run(Effect.fnUntraced(function*(directory, storage) {
        const elsewhere = path.join(directory, "elsewhere")
        fs.renameSync(enc(directory, "x"), elsewhere)
        fs.symlinkSync(elsewhere, enc(directory, "x"))
        const before = traces(elsewhere)
        for (const refused of [storage.load("x"), storage.save(apiKey("x", "new"))]) {
          const error = yield* Effect.flip(Effect.asVoid(refused))
          assert.strictEqual(error._tag, "CredentialStorageError")
          if (error._tag === "CredentialStorageError") assert.strictEqual(error.reason._tag, "StorageInsecure")
          assert.match(error.message, /symbolic link.*rm '/)
        }
        assert.sameMembers([...yield* storage.list], ["x", "y"])
        assert.deepStrictEqual(traces(elsewhere), before)
        assert.isTrue(fs.lstatSync(enc(directory, "x")).isSymbolicLink())
      })))

    it.effect("a symbolic link that takes the place of a credential between looking and opening is not followed", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x")))
        const elsewhere = path.join(directory, "elsewhere")
        fs.renameSync(enc(directory, "x"), elsewhere)
        fs.symlinkSync(elsewhere, enc(directory, "x"))
        yield* withFileSystem(directory, (base) => ({ lstat: base.stat }))(Effect.fnUntraced(function*(storage) {
          assert.match((yield* Effect.flip(storage.load("x"))).message, /ELOOP/)
        }))
      }))

    it.effect("where the system cannot refuse links on opening, files are read and written all the same", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* withFileSystem(directory, (base) => ({
          open: (file, options) =>
            options?.noFollow === true
              ? Effect.fail(
                PlatformError.badArgument({ module: "FileSystem", method: "open", description: "noFollow" })
              )
              : base.open(file, options)
        }))(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("x"))
          assert.strictEqual(valueOf(yield* storage.load("x")), secret)
        }))
        assert.strictEqual(mode(enc(directory, "x")), "600")
      }))

    it.effect("a symbolic link in place of a state or of the index is not followed", () =>
      run(Effect.fnUntraced(function*(directory, storage) {
        const elsewhere = path.join(directory, "elsewhere")
        fs.writeFileSync(elsewhere, "mine")
        for (const file of [path.join(directory, "state", "x.json"), indexOf(directory)]) {
          fs.rmSync(file)
          fs.symlinkSync(elsewhere, file)
        }
        assert.match((yield* Effect.flip(storage.loadState("x"))).message, /symbolic link/)
        assert.match((yield* Effect.flip(storage.saveState("x", CredentialState.initial))).message, /symbolic link/)
        assert.match((yield* Effect.flip(storage.save(apiKey("new_one")))).message, /symbolic link/)
        fs.truncateSync(enc(directory, "new_one"), 10)
        assert.sameMembers([...yield* storage.list], ["x", "y", "new_one"])
        assert.strictEqual(fs.readFileSync(elsewhere, "utf8"), "mine")
      })))

    it.effect("a symbolic link in place of a temporary file is not followed", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const elsewhere = path.join(directory, "elsewhere")
        fs.writeFileSync(elsewhere, "mine")
        yield* withFileSystem(directory, (base) => ({
          open: (file, options) => {
            if (options?.flag === "wx" && file.endsWith(".tmp")) fs.symlinkSync(elsewhere, file)
            return base.open(file, options)
          }
        }))(Effect.fnUntraced(function*(storage) {
          assert.strictEqual((yield* Effect.flip(storage.save(apiKey("x"))))._tag, "CredentialStorageError")
        }))
        assert.strictEqual(fs.readFileSync(elsewhere, "utf8"), "mine")
        assert.isFalse(fs.existsSync(enc(directory, "x")))
      }))

    it.effect("a directory in place of a credential is named and left", () =>
      run(Effect.fnUntraced(function*(directory, storage) {
        fs.rmSync(enc(directory, "x"))
        fs.mkdirSync(enc(directory, "x"))
        for (const refused of [storage.load("x"), storage.save(apiKey("x")), storage.delete("x")]) {
          const error = yield* Effect.flip(Effect.asVoid(refused))
          assert.strictEqual(error._tag, "CredentialStorageError")
          assert.include(error.message, enc(directory, "x"))
          assert.match(error.message, /directory/)
        }
        assert.isTrue(fs.statSync(enc(directory, "x")).isDirectory())
        assert.strictEqual(valueOf(yield* storage.load("y")), secret)
      })))

    it.effect("what cannot be saved of many is named and left, and the others are saved", () =>
      run(Effect.fnUntraced(function*(directory, storage) {
        const good = Array.from({ length: 12 }, (_, index) => `good ${index}`)
        const state = (name: string) => path.join(directory, "state", `${name}.json`)
        const elsewhere = path.join(directory, "elsewhere")
        fs.writeFileSync(elsewhere, "mine")
        fs.mkdirSync(enc(directory, "folder"))
        fs.mkdirSync(state("state folder"))
        fs.symlinkSync(elsewhere, enc(directory, "link"))
        fs.symlinkSync(elsewhere, state("state link"))
        fs.writeFileSync(enc(directory, "damaged"), "mine")
        const bad = ["folder", "state folder", "link", "state link", "damaged"]
        const failures = yield* storage.saveMany([...bad, ...good, "x"].map((id) => apiKey(id, "new")))
        assert.sameMembers(Array.from(failures.keys()), bad)
        for (const [id, { message }] of failures) assert.include(message, `/${id}.`)
        assert.strictEqual(fs.readFileSync(elsewhere, "utf8"), "mine")
        assert.strictEqual(fs.readFileSync(enc(directory, "damaged"), "utf8"), "mine")
        for (const id of [...good, "x"]) assert.strictEqual(valueOf(yield* storage.load(id)), "new")
        assert.isTrue(fs.statSync(enc(directory, "folder")).isDirectory())
        assert.isTrue(fs.lstatSync(enc(directory, "link")).isSymbolicLink())
        assert.isFalse(fs.existsSync(enc(directory, "state folder")))
        assert.isFalse(fs.existsSync(enc(directory, "state link")))
      })))

    it.live("a pipe in place of a credential does not hang the reader", () =>
      run(Effect.fnUntraced(function*(directory, storage) {
        fs.rmSync(enc(directory, "x"))
        execFileSync("mkfifo", [enc(directory, "x")])
        assert.match((yield* Effect.flip(storage.load("x"))).message, /is a fifo, not a file/)
      })).pipe(Effect.timeout("5 seconds")))

    it.effect.each(["", "credentials", "metadata", "state"])(
      "a folder others can write is refused: %j",
      (folder) =>
        run(Effect.fnUntraced(function*(directory, storage) {
          const place = path.join(directory, folder)
          for (const mode of [0o770, 0o702, 0o777]) {
            fs.chmodSync(place, mode)
            const error = yield* Effect.flip(storage.save(apiKey("x", "new")))
            assert.strictEqual(error._tag, "CredentialStorageError")
            if (error._tag === "CredentialStorageError") {
              assert.strictEqual(error.reason._tag, "StorageInsecure")
              assert.isFalse(error.isRetryable)
              const mend = error.reason._tag === "StorageInsecure" ? error.reason.mend : ""
              assert.strictEqual(mend, `chmod go-w '${place}'`)
              if (folder === "" || folder === "credentials") {
                assert.match((yield* Effect.flip(storage.load("x"))).message, /can be written by others/)
                assert.match((yield* Effect.flip(storage.list)).message, /can be written by others/)
              }
              execFileSync("sh", ["-c", mend])
              assert.strictEqual(valueOf(yield* storage.load("x")), secret)
            }
          }
          // open for others to read, as Hive leaves it, is no reason to refuse
          fs.chmodSync(place, 0o755)
          yield* storage.save(apiKey("x", "new"))
        }))
    )

    it.effect("the directory that tenants have in common is refused while others can write it", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const asTenant = <A, E>(use: (storage: CredentialStorage["Service"]) => Effect.Effect<A, E>) =>
          Effect.provideService(inDirectory(directory)(use), CurrentTenant, "acme")
        yield* asTenant((storage) => storage.save(apiKey("x")))
        fs.chmodSync(directory, 0o777)
        yield* asTenant(Effect.fnUntraced(function*(storage) {
          for (
            const refused of [
              Effect.asVoid(storage.load("x")),
              Effect.asVoid(storage.delete("x")),
              Effect.asVoid(storage.loadState("x")),
              storage.save(apiKey("x"))
            ]
          ) assert.include((yield* Effect.flip(refused)).message, `chmod go-w '${directory}'`)
        }))
        fs.chmodSync(directory, 0o755)
        assert.isTrue(yield* asTenant((storage) => storage.delete("x")))
      }))

    it.effect("files that Hive left open to others are made private when rewritten", () =>
      run(Effect.fnUntraced(function*(directory, storage) {
        fs.chmodSync(enc(directory, "x"), 0o644)
        assert.strictEqual(valueOf(yield* storage.load("x")), secret)
        yield* storage.save(apiKey("x"))
        assert.strictEqual(mode(enc(directory, "x")), "600")
      })))

    it.effect("a file where a folder should be is named", () =>
      Effect.gen(function*() {
        const parent = yield* temporaryDirectory
        const directory = path.join(parent, "file")
        fs.writeFileSync(directory, "mine")
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          for (const refused of [storage.load("x"), storage.save(apiKey("x")), storage.list]) {
            assert.match((yield* Effect.flip(Effect.asVoid(refused))).message, /file: is not a directory/)
          }
        }))
        assert.strictEqual(fs.readFileSync(directory, "utf8"), "mine")
      }))

    it.effect("a link to nothing where a folder should be is named", () =>
      Effect.gen(function*() {
        const directory = path.join(yield* temporaryDirectory, "link")
        fs.symlinkSync(`${directory}-elsewhere`, directory)
        const error = yield* inDirectory(directory)((storage) => Effect.flip(storage.save(apiKey("x"))))
        assert.match(error.message, /link: is a link to nothing/)
      }))

    // only Linux has a folder in which nobody can make another, and which says so with ENOENT
    it.effect.skipIf(!fs.existsSync("/proc/self"))(
      "a folder that the system refuses to make is an error, not tried for ever",
      () =>
        inDirectory("/proc/aden-credentials/cache")(Effect.fnUntraced(function*(storage) {
          const error = yield* Effect.flip(storage.save(apiKey("x")))
          assert.match(error.message, /ENOENT/)
        }))
    )
  })

  describe("when the disk fails", () => {
    const steps = ["open", "writeAll", "sync", "rename"] as const

    it.effect.each(steps)(
      "full at %s: a typed error, the old file stays, nothing is left over",
      (step) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
          const full = (file: string) => Effect.fail(systemError("ENOSPC", "no space left on device", file))
          const storageOnFullDisk = withFileSystem(directory, (base) => ({
            open: (file, options) =>
              options?.flag !== "wx"
                ? base.open(file, options)
                : step === "open"
                ? full(file)
                : Effect.map(base.open(file, options), (handle) =>
                  step === "rename" ? handle : new Proxy(handle, {
                    get: (target, property) =>
                      property === step
                        ? step === "sync" ? full(file) : () => full(file)
                        : Reflect.get(target, property, target)
                  })),
            ...(step === "rename" ? { rename: (_: string, file: string) => full(file) } : {})
          }))
          yield* storageOnFullDisk(Effect.fnUntraced(function*(storage) {
            for (
              const refused of [
                storage.save(apiKey("x", "new")),
                storage.save(apiKey("other")),
                storage.saveState("x", CredentialState.initial)
              ]
            ) {
              const error = yield* Effect.flip(refused)
              assert.strictEqual(error._tag, "CredentialStorageError")
              if (error._tag === "CredentialStorageError") {
                assert.isTrue(error.isRetryable)
                assert.strictEqual(error.reason._tag, "StorageIoFailed")
                assert.include(error.message, "ENOSPC: no space left on device")
              }
              assert.notInclude(shown(error), secret)
            }
            const failures = yield* Effect.exit(storage.saveMany([apiKey("x", "new")]))
            assert.isTrue(Exit.isFailure(failures) || failures.value.size === 1)
            assert.strictEqual(valueOf(yield* storage.load("x")), "old")
            assert.deepStrictEqual(yield* storage.list, ["x"])
          }))
          assert.deepStrictEqual(filesIn(directory).filter((file) => file.includes(".tmp")), [])
        })
    )

    it.effect("read-only: reading goes on, writing and deleting say so", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        const readOnly = (file: string) => Effect.fail(systemError("EROFS", "read-only file system", file))
        yield* withFileSystem(directory, (base) => ({
          open: (file, options) => options?.flag === "wx" ? readOnly(file) : base.open(file, options),
          rename: (_, file) => readOnly(file),
          remove: readOnly,
          makeDirectory: readOnly
        }))(Effect.fnUntraced(function*(storage) {
          assert.strictEqual(valueOf(yield* storage.load("x")), "old")
          assert.deepStrictEqual(yield* storage.list, ["x"])
          assert.match((yield* Effect.flip(storage.save(apiKey("x", "new")))).message, /EROFS: read-only file system/)
          assert.match((yield* Effect.flip(storage.delete("x"))).message, /EROFS: read-only file system/)
        }))
      }))

    it.effect("a credential that cannot take its place leaves the entry as it was, with its state, and the others are saved", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.saveMany([apiKey("x", "old"), apiKey("y", "old")]))
        const before = filesIn(path.join(directory, "state"))
        const failures = yield* withFileSystem(directory, (base) => ({
          rename: (from, to) =>
            /(x|never)\.enc$/.test(to)
              ? Effect.fail(systemError("EACCES", "permission denied", to))
              : base.rename(from, to)
        }))((storage) => storage.saveMany([apiKey("x", "new"), apiKey("never"), apiKey("y", "new")]))
        assert.sameMembers(Array.from(failures.keys()), ["x", "never"])
        assert.sameMembers([...filesIn(path.join(directory, "state"))], [...before])
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          assert.strictEqual(valueOf(yield* storage.load("x")), "old")
          assert.strictEqual(valueOf(yield* storage.load("y")), "new")
          assert.strictEqual((yield* storage.loadState("x")).generation, 1)
          assert.strictEqual((yield* storage.loadState("never")).generation, 0)
        }))
        assert.sameMembers(Object.keys(readIndex(directory).credentials), ["x", "y"])
        assert.deepStrictEqual(filesIn(directory).filter((file) => file.includes(".tmp")), [])
      }))

    it.live(
      "a saveMany during which the disk fails once, at any step: what failed is as it was, the others are saved",
      () =>
        Effect.gen(function*() {
          // enough to be many, and some that would share a file
          const old = ["a/b", "x"]
          const ids = [...old, "a_b", "A_B", "n/1", "n_1", "y", "z"]
          let steps = 0
          for (let failing = 0; failing <= steps; failing += stride(8)) {
            const directory = yield* temporaryDirectory
            yield* inDirectory(directory)((storage) => storage.saveMany(old.map((id) => apiKey(id, "old"))))
            let step = 0
            const guard = <A, R>(
              file: string,
              effect: Effect.Effect<A, PlatformError.PlatformError, R>
            ): Effect.Effect<A, PlatformError.PlatformError, R> =>
              file.includes("locks")
                ? effect
                : Effect.suspend(() => step++ === failing ? Effect.fail(systemError("EIO", "i/o error", file)) : effect)
            const told: Array<string> = []
            const outcome = yield* withFileSystem(directory, (base) => ({
              rename: (from, to) => guard(to, base.rename(from, to)),
              remove: (file, options) => guard(file, base.remove(file, options)),
              open: (file, options) =>
                options?.flag !== "wx" ? base.open(file, options) : guard(
                  file,
                  Effect.map(base.open(file, options), (handle) =>
                    new Proxy(handle, {
                      get: (target, property) =>
                        property === "writeAll"
                          ? (bytes: Uint8Array) => guard(file, target.writeAll(bytes))
                          : property === "sync"
                          ? guard(file, target.sync)
                          : Reflect.get(target, property, target)
                    }))
                )
            }))(Effect.fnUntraced(function*(storage) {
              yield* storage.changes.pipe(
                Stream.runForEach(({ id }) => Effect.sync(() => told.push(id))),
                Effect.forkScoped({ startImmediately: true })
              )
              const outcome = yield* Effect.result(storage.saveMany(ids.map((id) => apiKey(id, "new"))))
              yield* Effect.yieldNow
              return outcome
            }, Effect.scoped))
            steps = Math.max(steps, step)
            assert.deepStrictEqual(filesIn(directory).filter((file) => file.includes(".tmp")), [])
            // only an index that cannot be written is a failure of all
            const failed = Result.isSuccess(outcome) ? Array.from(outcome.success.keys()) : []
            assert.isAtMost(failed.length, 1)
            assert.sameMembers(told, ids.filter((id) => !failed.includes(id)))
            yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
              for (const id of ids) {
                const generation = old.includes(id) ? 1 : 0
                const isFailed = failed.includes(id)
                const before = old.includes(id) ? "old" : undefined
                assert.strictEqual(valueOf(yield* storage.load(id)), isFailed ? before : "new", id)
                assert.strictEqual((yield* storage.loadState(id)).generation, generation + (isFailed ? 0 : 1), id)
              }
              assert.strictEqual((yield* storage.saveMany(ids.map((id) => apiKey(id, "newer")))).size, 0)
              assert.sameMembers([...yield* storage.list], ids)
            }))
            assert.sameMembers(Object.keys(readIndex(directory).credentials), ids)
          }
          assert.isAbove(steps, 60)
        }),
      120_000
    )

    it.effect("a save that fails because an older file of the credential cannot be removed has saved nothing", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("a/b")))
        yield* inDirectory(directory)((storage) => storage.save(apiKey("a_b", "older")))
        yield* inDirectory(directory)((storage) => storage.delete("a/b"))
        yield* writeToken(
          enc(directory, "a_b"),
          JSON.stringify({ id: "a_b", keys: { api_key: { name: "api_key", value: "Hive's" } } })
        )
        const state = inDirectory(directory)((storage) => storage.loadState("a_b"))
        const before = yield* state
        const error = yield* withFileSystem(directory, (base) => ({
          remove: (file, options) =>
            file === enc(directory, escapedName("a_b"))
              ? Effect.fail(systemError("EACCES", "permission denied", file))
              : base.remove(file, options)
        }))((storage) => Effect.flip(storage.save(apiKey("a_b", "newer"))))
        assert.include(error.message, "EACCES")
        assert.strictEqual(valueOf(yield* inDirectory(directory)((storage) => storage.load("a_b"))), "Hive's")
        assert.deepStrictEqual(yield* state, before)
      }))

    it.effect("a delete that cannot remove the file leaves the entry as it was, with its state", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        const state = inDirectory(directory)((storage) => storage.loadState("x"))
        const before = yield* state
        yield* withFileSystem(directory, (base) => ({
          remove: (file, options) =>
            file.endsWith(".enc")
              ? Effect.fail(systemError("EACCES", "permission denied", file))
              : base.remove(file, options)
        }))((storage) => Effect.flip(storage.delete("x")))
        assert.deepStrictEqual(yield* state, before)
        assert.strictEqual(valueOf(yield* inDirectory(directory)((storage) => storage.load("x"))), "old")
      }))

    it.effect.each(["state", "metadata"])(
      "full while a delete writes to %s: the next one completes it",
      (folder) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          yield* inDirectory(directory)((storage) => storage.saveMany([apiKey("x"), apiKey("y")]))
          const error = yield* withFileSystem(directory, (base) => ({
            open: (file, options) =>
              options?.flag === "wx" && path.dirname(file) === path.join(directory, folder)
                ? Effect.fail(systemError("ENOSPC", "no space left on device", file))
                : base.open(file, options)
          }))((storage) => Effect.flip(storage.delete("x")))
          assert.include(error.message, "ENOSPC")
          const remains = fs.existsSync(enc(directory, "x"))
          assert.strictEqual(yield* inDirectory(directory)((storage) => storage.delete("x")), remains)
          assert.deepStrictEqual(filesIn(path.join(directory, "credentials")), ["y.enc"])
          assert.deepStrictEqual(Object.keys(readIndex(directory).credentials), ["y"])
        })
    )

    it.effect("an error of the system on reading is typed, cleaned and names the place", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x")))
        yield* withFileSystem(directory, () => ({
          lstat: (file) => Effect.fail(systemError("EIO", "i/o \u001b[2Jerror", file))
        }))(Effect.fnUntraced(function*(storage) {
          const error = yield* Effect.flip(storage.load("x"))
          assert.strictEqual(error.message, `Storage could not load "x": ${enc(directory, "x")}: EIO: i/o [2Jerror`)
        }))
      }))
  })

  describe("crashes and interruption", () => {
    const usable = (directory: string, values: ReadonlyArray<string>) =>
      inDirectory(directory)(Effect.fnUntraced(function*(storage) {
        const value = valueOf(yield* storage.load("x")) ?? "none"
        assert.include(values, value)
        assert.include([...yield* storage.list, ...(value === "none" ? ["x"] : [])], "x")
        yield* storage.save(apiKey("x", "after"))
        assert.strictEqual(valueOf(yield* storage.load("x")), "after")
        assert.property(readIndex(directory).credentials, "x")
      }))

    it.effect.each([true, false])(
      "a process that dies at any write step leaves the old or the new credential (old one: %s)",
      (old) =>
        Effect.gen(function*() {
          let steps = 0
          let isKilled = true
          for (let last = 0; isKilled; last += stride(2)) {
            const directory = yield* temporaryDirectory
            if (old) yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
            let step = 0
            const { self } = yield* yield* CurrentProcess
            // after this step nothing happens any more, not even the cleaning up of what failed
            const guard = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
              Effect.suspend(() => step++ < last ? effect : Effect.die("killed"))
            yield* Effect.exit(
              withFileSystem(directory, (base) => ({
                makeDirectory: (file, options) => guard(base.makeDirectory(file, options)),
                rename: (from, to) => guard(base.rename(from, to)),
                remove: (file, options) => guard(base.remove(file, options)),
                link: (from, to) => guard(base.link(from, to)),
                open: (file, options) =>
                  options?.flag === "r" ? base.open(file, options) : guard(Effect.map(
                    base.open(file, options),
                    (handle) =>
                      new Proxy(handle, {
                        get: (target, property) =>
                          property === "writeAll"
                            ? (bytes: Uint8Array) =>
                              Effect.andThen(
                                guard(target.writeAll(bytes.subarray(0, bytes.length / 2))),
                                guard(target.writeAll(bytes.subarray(bytes.length / 2)))
                              )
                            : property === "sync"
                            ? guard(target.sync)
                            : Reflect.get(target, property, target)
                      })
                  ))
              }))((storage) => storage.save(apiKey("x", "new"))).pipe(
                // of a process that is not there any more: no system gives this id
                Effect.provideService(
                  CurrentProcess,
                  Effect.succeed({ self: { ...self, pid: 4_194_305 }, isGone: () => Effect.succeed(false) })
                )
              )
            )
            steps = Math.max(steps, step)
            isKilled = step > last
            yield* usable(directory, [old ? "old" : "none", "new"])
          }
          assert.isAbove(steps, 15)
        }).pipe(Effect.provide(NodeFiles))
    )

    it.effect("a delete that dies at any step: no older credential comes back, and no late writer saves over it", () =>
      Effect.gen(function*() {
        let steps = 0
        let isKilled = true
        for (let last = 0; isKilled; last += stride(2)) {
          const directory = yield* temporaryDirectory
          const other = yield* temporaryDirectory
          yield* inDirectory(directory)((storage) => storage.save(apiKey("a/b")))
          yield* inDirectory(directory)((storage) => storage.save(apiKey("a_b", "older")))
          yield* inDirectory(directory)((storage) => storage.delete("a/b"))
          // Hive writes under the plain name, beside the escaped one
          yield* inDirectory(other)((storage) => storage.save(apiKey("a_b", "newer")))
          fs.copyFileSync(enc(other, "a_b"), enc(directory, "a_b"))
          const { generation } = yield* inDirectory(directory)((storage) => storage.loadState("a_b"))
          let step = 0
          const guard = <A, E, R>(file: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
            file.includes("locks")
              ? effect
              : Effect.suspend(() => step++ < last ? effect : Effect.die("killed"))
          yield* Effect.exit(
            withFileSystem(directory, (base) => ({
              rename: (from, to) => guard(to, base.rename(from, to)),
              remove: (file, options) => guard(file, base.remove(file, options)),
              open: (file, options) =>
                options?.flag === "wx" ? guard(file, base.open(file, options)) : base.open(file, options)
            }))((storage) => storage.delete("a_b"))
          )
          steps = Math.max(steps, step)
          isKilled = step > last
          const left = valueOf(yield* inDirectory(directory)((storage) => storage.load("a_b")))
          assert.include(["newer", undefined], left)
          if (left !== undefined) continue
          const late = inDirectory(directory)((storage) =>
            storage.save(apiKey("a_b", "late"), { expectedGeneration: generation })
          )
          assert.strictEqual((yield* Effect.flip(late))._tag, "GenerationConflict")
        }
        assert.isAbove(steps, 5)
      }))

    it.effect("a delete that dies at any step: while the entry is there, all that was known about it is known", () =>
      Effect.gen(function*() {
        const known = new CredentialState({
          generation: 1,
          account: { provider: "slack", alias: "work" },
          blockedSince: DateTime.makeUnsafe(1_000),
          reauthorizationUrl: "https://aden.example/connect",
          coolDownUntil: DateTime.makeUnsafe(2_000),
          lastError: "RateLimited"
        })
        let steps = 0
        const left = new Set<string>()
        for (let last = 0; last <= steps; last++) {
          const directory = yield* temporaryDirectory
          const credential = Credential.fromAccessToken({
            id: "x",
            accessToken: Redacted.make(secret),
            provider: "slack",
            alias: "work"
          })
          yield* inDirectory(directory)((storage) => storage.save(credential, { state: known }))
          assert.deepStrictEqual(yield* inDirectory(directory)((storage) => storage.loadState("x")), known)
          let step = 0
          const guard = <A, E, R>(file: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
            file.includes("locks")
              ? effect
              : Effect.suspend(() => step++ < last ? effect : Effect.die("killed"))
          yield* Effect.exit(
            withFileSystem(directory, (base) => ({
              rename: (from, to) => guard(to, base.rename(from, to)),
              remove: (file, options) => guard(file, base.remove(file, options)),
              open: (file, options) =>
                options?.flag === "wx" ? guard(file, base.open(file, options)) : base.open(file, options)
            }))((storage) => storage.delete("x"))
          )
          steps = Math.max(steps, step)
          yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
            const { generation, ...rest } = yield* storage.loadState("x")
            const isThere = yield* storage.exists("x")
            left.add(`${isThere ? "there" : "gone"}, ${rest.account === undefined ? "forgotten" : "known"}`)
            assert.isTrue(generation === 2 || (isThere && generation === 1))
            if (isThere) assert.deepStrictEqual(new CredentialState({ ...rest, generation: 1 }), known)
            // whatever is left, the next delete completes it
            assert.strictEqual(yield* storage.delete("x"), isThere)
            assert.deepStrictEqual(Object.keys(yield* storage.loadState("x")), ["generation"])
            assert.notProperty(readIndex(directory).credentials, "x")
          }))
        }
        assert.sameMembers([...left], ["there, known", "gone, known", "gone, forgotten"])
      }))

    it.effect("no late writer saves over the deletion of an entry that Hive wrote, which has no count", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("x", "Hive's"))
          fs.rmSync(path.join(directory, "state"), { recursive: true })
          const { generation } = yield* storage.loadState("x")
          assert.strictEqual(generation, 0)
          assert.isTrue(yield* storage.delete("x", { expectedGeneration: generation }))
          const late = storage.save(apiKey("x", "late"), { expectedGeneration: generation })
          assert.strictEqual((yield* Effect.flip(late))._tag, "GenerationConflict")
          assert.isFalse(yield* storage.exists("x"))
        }))
      }))

    /** Writes down what is flushed, renamed and removed in a directory, in order. */
    const steps = (directory: string, order: Array<string>) => {
      const nameOf = (file: string) => path.relative(directory, file).replace(/\.aden-[0-9a-f]{32}\.tmp$/, "temporary")
      const noting = (step: string, file: string) => Effect.sync(() => order.push(`${step} ${nameOf(file)}`))
      return withFileSystem(directory, (base) => ({
        open: (file, options) =>
          Effect.map(base.open(file, options), (handle) =>
            new Proxy(handle, {
              get: (target, property) =>
                property === "sync"
                  ? Effect.tap(target.sync, () => noting("flushed", file))
                  : Reflect.get(target, property, target)
            })),
        rename: (from, to) => Effect.tap(base.rename(from, to), () => noting("renamed", to)),
        remove: (file, options) => Effect.tap(base.remove(file, options), () => noting("removed", file))
      }))
    }

    it.effect("before a save returns, each file was flushed before it took its place, and its folder afterwards", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        const order: Array<string> = []
        yield* steps(directory, order)((storage) => storage.save(apiKey("x", "new")))
        for (const [folder, file] of [["state", "x.json"], ["credentials", "x.enc"], ["metadata", "index.json"]]) {
          assert.deepStrictEqual(
            order.filter((step) => step.includes(` ${folder}`) && !step.startsWith("removed")),
            [`flushed ${folder}/temporary`, `renamed ${folder}/${file}`, `flushed ${folder}`]
          )
        }
      }))

    it.effect("before a delete returns, its folder was flushed: no power cut brings the credential back", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        const order: Array<string> = []
        yield* steps(directory, order)((storage) => storage.delete("x"))
        assert.deepStrictEqual(
          order.filter((step) => step.includes(" credentials")),
          ["removed credentials/x.enc", "flushed credentials"]
        )
      }))

    it.live("an interrupted save leaves the old or the new credential, an index that knows it, and nothing beside", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          const turn = Effect.promise(() => new Promise(setImmediate))
          const save = (id: string, value: string) =>
            storage.save(apiKey(id, value)).pipe(Effect.forkChild({ startImmediately: true }))
          // how many turns of the event loop a save takes here: it is interrupted at moments all over it, and a little behind
          const measured = yield* save("measured", "whole")
          let whole = 0
          while (measured.pollUnsafe() === undefined) {
            yield* turn
            whole++
          }
          for (let round = 0; round < 80 || (yield* storage.list).length < 2; round += stride(4)) {
            for (const id of ["x", `new ${round}`]) {
              const before = valueOf(yield* storage.load(id)) ?? "none"
              const writer = yield* save(id, `round ${round}`)
              for (let turns = 0; turns < whole * round / 60; turns++) yield* turn
              yield* Fiber.interrupt(writer)
              const after = valueOf(yield* storage.load(id)) ?? "none"
              assert.include([before, `round ${round}`], after)
              assert.deepStrictEqual(filesIn(directory).filter((file) => file.includes(".tmp")), [])
              if (after !== "none") assert.property(readIndex(directory).credentials, id)
            }
          }
        }))
      }))

    it.live("an interrupted saveMany leaves whole files, and an index of them", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          const many = Array.from({ length: 200 }, (_, index) => apiKey(`id_${index}`))
          const writer = yield* storage.saveMany(many).pipe(Effect.forkChild({ startImmediately: true }))
          while ((yield* storage.list).length === 0) yield* Effect.sleep("1 millis")
          yield* Fiber.interrupt(writer)
          const ids = yield* storage.list
          assert.isAbove(ids.length, 0)
          assert.isBelow(ids.length, 200)
          for (const id of ids) assert.strictEqual(valueOf(yield* storage.load(id)), secret)
          assert.sameMembers(Object.keys(readIndex(directory).credentials), [...ids])
        }))
      }))

    it.live("temporary files of writers that died are removed when they are old, and others are left", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x")))
        const leftover = (folder: string, digit: string) =>
          path.join(directory, folder, `.aden-${digit.repeat(32)}.tmp`)
        for (const folder of ["credentials", "metadata", "state"]) {
          for (const digit of ["0", "1"]) fs.writeFileSync(leftover(folder, digit), "torn")
          age(leftover(folder, "0"))
        }
        const foreign = path.join(directory, "credentials", "mine.tmp")
        fs.writeFileSync(foreign, "mine")
        age(foreign)
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          assert.deepStrictEqual(yield* storage.list, ["x"])
          yield* storage.save(apiKey("x"))
        }))
        for (const folder of ["credentials", "metadata", "state"]) {
          assert.isFalse(fs.existsSync(leftover(folder, "0")))
          assert.isTrue(fs.existsSync(leftover(folder, "1")))
        }
        assert.isTrue(fs.existsSync(foreign))
      }))

    it.live("what looks like such a file and is not, or is gone meanwhile, keeps no other from being removed", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x")))
        const folder = path.join(directory, "credentials")
        const leftover = (digit: string) => path.join(folder, `.aden-${digit.repeat(32)}.tmp`)
        fs.mkdirSync(leftover("0"))
        for (const digit of "123456789") fs.writeFileSync(leftover(digit), "torn")
        for (const digit of "0123456789") age(leftover(digit))
        yield* withFileSystem(directory, (base) => ({
          lstat: (file) => {
            if (file === leftover("2")) fs.rmSync(file)
            return base.lstat(file)
          }
        }))((storage) => storage.save(apiKey("x")))
        assert.sameMembers(fs.readdirSync(folder), [path.basename(leftover("0")), "x.enc"])
      }))

    it.effect("two layers over one directory in one process do not lose one another's saves", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const writer = (name: string) =>
          inDirectory(directory)((storage) =>
            Effect.forEach(
              Array.from({ length: 10 }, (_, index) => `${name}_${index}`),
              (id) => Effect.andThen(storage.save(apiKey(id)), storage.save(apiKey("shared", id))),
              { concurrency: 5, discard: true }
            )
          )
        yield* Effect.all([writer("a"), writer("b")], { concurrency: 2 })
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          assert.lengthOf(yield* storage.list, 21)
          assert.lengthOf(Object.keys(readIndex(directory).credentials), 21)
          assert.strictEqual((yield* storage.loadState("shared")).generation, 20)
        }))
      }))
  })

  describe("a process that was suspended while it wrote, and another took the lock over and gave it back", () => {
    const takeOver = (directory: string) => {
      const place = path.join(directory, "locks", "writing")
      const number = Math.max(...fs.readdirSync(place).map(Number))
      fs.writeFileSync(path.join(place, String(number + 1)), "free 0000000000\n", { mode: 0o600 })
      fs.rmSync(path.join(place, String(number)))
    }
    /**
     * A storage whose process is suspended once, before it makes a new file in this folder, or it takes the place of the old:
     * the first, or the one after so many.
     */
    const suspended = (
      directory: string,
      before: "open" | "rename",
      folder: string,
      meanwhile: Effect.Effect<unknown> = Effect.void,
      after = 0
    ) => {
      let seen = 0
      const suspend = (step: string, file: string) =>
        Effect.suspend(() => {
          if (step !== before || path.dirname(file) !== path.join(directory, folder)) return Effect.void
          if (seen++ !== after) return Effect.void
          takeOver(directory)
          return meanwhile
        })
      return withFileSystem(directory, (base) => ({
        open: (file, options) =>
          Effect.andThen(options?.flag === "wx" ? suspend("open", file) : Effect.void, base.open(file, options)),
        rename: (from, to) => Effect.andThen(suspend("rename", to), base.rename(from, to))
      }))
    }

    it.live.each(["state", "credentials", "metadata"])(
      "before it wrote to %s: its save goes through, counted once, though it expected a generation",
      (folder) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
          yield* suspended(directory, "open", folder)((storage) =>
            storage.save(apiKey("x", "new"), { expectedGeneration: 1 })
          )
          yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
            assert.strictEqual(valueOf(yield* storage.load("x")), "new")
            assert.strictEqual((yield* storage.loadState("x")).generation, 2)
          }))
          assert.property(readIndex(directory).credentials, "x")
        })
    )

    it.live("saveMany goes on as well", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        const failures = yield* suspended(directory, "open", "credentials")((storage) =>
          storage.saveMany([apiKey("x", "new")], { expectedGenerations: new Map([["x", 1]]) })
        )
        assert.strictEqual(failures.size, 0)
        assert.strictEqual(valueOf(yield* inDirectory(directory)((storage) => storage.load("x"))), "new")
      }))

    const theirs = (directory: string) =>
      inDirectory(directory)((storage) =>
        storage.save(apiKey("x", "theirs"), { state: new CredentialState({ generation: 0, lastError: "RateLimited" }) })
      ).pipe(
        Effect.provideService(
          CurrentProcess,
          Effect.succeed({ self: { host: "other" }, isGone: () => Effect.succeed(false) })
        ),
        Effect.orDie
      )

    it.live("what the other one saved under the same count is not taken for its own", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        const error = yield* suspended(directory, "rename", "state", theirs(directory))((storage) =>
          Effect.flip(storage.save(apiKey("x", "late"), { expectedGeneration: 1 }))
        )
        assert.strictEqual(error._tag, "GenerationConflict")
        assert.strictEqual(valueOf(yield* inDirectory(directory)((storage) => storage.load("x"))), "theirs")
      }))

    it.live.each(["state", "credentials"])(
      "half-way through what it put into %s: a saveMany overwrites nothing of the other one, and saves the rest, counted once",
      (folder) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          const ids = [...Array.from({ length: 60 }, (_, index) => `id ${index}`), "x"]
          yield* inDirectory(directory)((storage) => storage.saveMany(ids.map((id) => apiKey(id, "old"))))
          const { failures, told } = yield* suspended(directory, "rename", folder, theirs(directory), 30)(
            Effect.fnUntraced(function*(storage) {
              const told: Array<string> = []
              yield* storage.changes.pipe(
                Stream.runForEach(({ id }) => Effect.sync(() => told.push(id))),
                Effect.forkScoped({ startImmediately: true })
              )
              const failures = yield* storage.saveMany(ids.map((id) => apiKey(id, "new")), {
                expectedGenerations: new Map(ids.map((id) => [id, 1]))
              })
              yield* Effect.yieldNow
              return { failures, told }
            }, Effect.scoped)
          )
          assert.deepStrictEqual(Array.from(failures, ([id, { _tag }]) => [id, _tag]), [["x", "GenerationConflict"]])
          assert.sameMembers(told, ids.slice(0, -1))
          yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
            for (const id of ids) {
              assert.strictEqual(valueOf(yield* storage.load(id)), id === "x" ? "theirs" : "new")
              assert.strictEqual((yield* storage.loadState(id)).generation, 2, id)
            }
            assert.strictEqual((yield* storage.loadState("x")).lastError, "RateLimited")
          }))
          assert.deepStrictEqual(filesIn(directory).filter((file) => file.includes(".tmp")), [])
        })
    )

    it.live.each(["state", "metadata"])(
      "before it wrote to %s: its delete answers that there was an entry, and the index follows",
      (folder) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          yield* inDirectory(directory)((storage) => storage.saveMany([apiKey("x"), apiKey("y")]))
          assert.isTrue(yield* suspended(directory, "open", folder)((storage) => storage.delete("x")))
          assert.deepStrictEqual(Object.keys(readIndex(directory).credentials), ["y"])
        })
    )

    it.live("before it wrote the credential: what the other one saved meanwhile is not overwritten", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        const error = yield* suspended(directory, "open", "credentials", theirs(directory))((storage) =>
          Effect.flip(storage.save(apiKey("x", "late"), { expectedGeneration: 1 }))
        )
        assert.strictEqual(error._tag, "GenerationConflict")
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          assert.strictEqual(valueOf(yield* storage.load("x")), "theirs")
          assert.deepStrictEqual(
            yield* storage.loadState("x"),
            new CredentialState({ generation: 2, account: {}, lastError: "RateLimited" })
          )
        }))
      }))

    it.live("before it wrote a state record: the count of what the other one saved meanwhile stays", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        yield* suspended(directory, "open", "state", theirs(directory))((storage) =>
          storage.saveState("x", new CredentialState({ generation: 1, lastError: "AdenUnavailable" }))
        )
        const { generation, lastError } = yield* inDirectory(directory)((storage) => storage.loadState("x"))
        assert.deepStrictEqual({ generation, lastError }, { generation: 2, lastError: "AdenUnavailable" })
      }))

    it.live("before it wrote the index: what the other one saved meanwhile stays in it", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* suspended(directory, "open", "metadata", theirs(directory))((storage) => storage.save(apiKey("y")))
        assert.sameMembers(Object.keys(readIndex(directory).credentials), ["x", "y"])
      }))

    it.live("before it removed the file: what the other one saved meanwhile stays", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        assert.isFalse(
          yield* suspended(directory, "rename", "state", theirs(directory))((storage) =>
            storage.delete("x", { expectedGeneration: 1 })
          )
        )
        assert.strictEqual(valueOf(yield* inDirectory(directory)((storage) => storage.load("x"))), "theirs")
        assert.property(readIndex(directory).credentials, "x")
      }))

    it.live.each([["counted", "rename", 0], ["removed the file", "open", 1]] as const)(
      "when it had %s: its delete goes on where it was, though it expected a generation",
      ([, step, after]) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          const blocked = new CredentialState({ generation: 0, lastError: "AdenUnavailable" })
          yield* inDirectory(directory)((storage) => storage.save(apiKey("x"), { state: blocked }))
          assert.isTrue(
            yield* suspended(directory, step, "state", Effect.void, after)((storage) =>
              storage.delete("x", { expectedGeneration: 1 })
            )
          )
          yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
            assert.isFalse(yield* storage.exists("x"))
            assert.deepStrictEqual(yield* storage.loadState("x"), new CredentialState({ generation: 2 }))
          }))
          assert.deepStrictEqual(readIndex(directory).credentials, {})
        })
    )

    it.live("what the other one saved after its delete removed the file stays, with its state", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        assert.isTrue(
          yield* suspended(directory, "open", "state", theirs(directory), 1)((storage) => storage.delete("x"))
        )
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          assert.strictEqual(valueOf(yield* storage.load("x")), "theirs")
          assert.deepStrictEqual(
            yield* storage.loadState("x"),
            new CredentialState({ generation: 3, account: {}, lastError: "RateLimited" })
          )
          assert.property(readIndex(directory).credentials, "x")
        }))
      }))
  })

  describe("the index", () => {
    it.effect("is current when save returns, and when delete does", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("a/b"))
          yield* storage.save(apiKey("a_b"))
          yield* storage.save(Credential.fromAccessToken({ id: "__proto__", accessToken: Redacted.make(secret) }))
          const entries = new Map(Object.entries(readIndex(directory).credentials))
          assert.sameMembers([...entries.keys()], ["a/b", "a_b", "__proto__"])
          assert.deepInclude(entries.get("__proto__"), { type: "oauth2" })
          yield* storage.delete("a/b")
          assert.sameMembers(Object.keys(readIndex(directory).credentials), ["a_b", "__proto__"])
        }))
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
        const few = yield* cost(10)
        const many = yield* cost(100)
        assert.isBelow(many, few + 1)
      }))

    it.effect("is made for many concurrent saves by fewer updates, and knows them all", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        let updates = 0
        yield* withFileSystem(directory, (base) => ({
          rename: (from, to) => {
            if (to.endsWith("index.json")) updates++
            return base.rename(from, to)
          }
        }))(Effect.fnUntraced(function*(storage) {
          const ids = Array.from({ length: 60 }, (_, index) => `id_${index}`)
          yield* Effect.forEach(ids, (id) => storage.save(apiKey(id)), { concurrency: 20, discard: true })
          assert.sameMembers(Object.keys(readIndex(directory).credentials), ids)
        }))
        assert.isBelow(updates, 60)
      }))

    it.live("that cannot be written fails every save that waited for it, and is caught up with by the next", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        let broken = true
        yield* withFileSystem(directory, (base) => ({
          rename: (from, to) =>
            broken && to.endsWith("index.json")
              ? Effect.delay(Effect.fail(systemError("EIO", "i/o error", to)), "50 millis")
              : base.rename(from, to)
        }))(Effect.fnUntraced(function*(storage) {
          const ids = ["a", "b", "c", "d", "e"]
          const outcomes = yield* Effect.forEach(ids, (id) => Effect.exit(storage.save(apiKey(id))), {
            concurrency: "unbounded"
          })
          assert.isTrue(outcomes.every(Exit.isFailure))
          broken = false
          assert.sameMembers([...yield* storage.list], ids)
          yield* storage.save(apiKey("f"))
          assert.sameMembers(Object.keys(readIndex(directory).credentials), [...ids, "f"])
        }))
      }))

    const entries = {
      x: { updated_at: "2020-01-01T00:00:00Z", type: "api_key", note: 1 },
      gone: { updated_at: "x", type: "y" }
    }
    it.effect("keeps unknown fields, of the index and of its entries, as the text they were", () =>
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
        assert.include(text, "\"big\": 12345678901234567890, \"ratio\": 1.0, \"__proto__\": {\"a\": [1, 2]}")
        const { credentials } = JSON.parse(text)
        assert.sameMembers(Object.keys(credentials), ["x", "y"])
        assert.strictEqual(credentials.x.note, 1)
        assert.notStrictEqual(credentials.x.updated_at, entries.x.updated_at)
        assert.strictEqual(credentials.y.type, "api_key")
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
      "that is %s is made anew by the next save or delete, of all that is there",
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
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.saveMany([apiKey("google/work"), apiKey("brave_search"), apiKey("hubspot"), apiKey("~odd")])
          const foreign = { google_work: {}, gone: {}, "google\\work": {} }
          fs.writeFileSync(indexOf(directory), JSON.stringify({ credentials: foreign }))
          const ids = ["google/work", "brave_search", "hubspot", "~odd"]
          assert.sameMembers([...yield* storage.list], ids)
          yield* storage.save(apiKey("hubspot"))
          assert.sameMembers(Object.keys(readIndex(directory).credentials), ids)
        }))
      }))

    it.effect("gives a name to what cannot be opened", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        // the first has the plain name
        for (const id of ["google/work", "google_work"]) {
          yield* inDirectory(directory)((storage) => storage.save(apiKey(id)))
        }
        // with another key nothing opens, and the index is all there is
        yield* inDirectory(directory, [otherKey])(Effect.fnUntraced(function*(storage) {
          assert.sameMembers([...yield* storage.list], ["google/work", "google_work"])
          const before = fs.readFileSync(indexOf(directory), "utf8")
          yield* storage.save(apiKey("new"))
          const { credentials } = readIndex(directory)
          assert.sameMembers(Object.keys(credentials), ["google/work", "google_work", "new"])
          assert.deepStrictEqual(credentials["google/work"], JSON.parse(before).credentials["google/work"])
          fs.rmSync(indexOf(directory))
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
        assert.deepStrictEqual(JSON.parse(fs.readFileSync(stateFile(directory), "utf8")), {
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
              storage.saveState(id, CredentialState.initial),
              storage.saveState("x", new CredentialState({ generation: 0, lastError: id }))
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
