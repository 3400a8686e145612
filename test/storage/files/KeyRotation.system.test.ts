import { assert, describe, it } from "@effect/vitest"
import {
  Credential,
  CredentialStorage,
  EncryptedFileStorage,
  Fernet,
  rotateConfiguredKeys,
  rotateKeys
} from "aden-credentials"
import type { KeyRotationEvent } from "aden-credentials"
import { ConfigProvider, Deferred, Effect, Fiber, FileSystem, Layer, Option, Redacted, Stream } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { inspect } from "node:util"
import { CurrentTenant } from "../../../src/model/currentTenant.ts"
import { escapedName } from "../../../src/storage/format/names.ts"
import { repeats } from "../../fixtures/repeats.ts"
import { confusableIds } from "../StorageContract.ts"
import { inDirectory, key, NodeFiles, otherKey, temporaryDirectory } from "../temporaryStorage.ts"

const newKey = Redacted.make("kQ9vTf3xWm2LrZ7yBn4HsDc8JpXe6AuG1oVtRiNqYwE=")

const apiKey = (id: string, value = `value of ${id}`) => Credential.fromApiKey({ id, apiKey: Redacted.make(value) })

const rotate = (directory: string, keys: ReadonlyArray<Redacted.Redacted<string>> = [newKey, key]) =>
  Effect.provide(Stream.runCollect(rotateKeys({ directory, keys })), NodeFiles)

/** How many events of each kind there were. */
const counts = (events: ReadonlyArray<KeyRotationEvent>): Record<string, number> => {
  const found: Record<string, number> = {}
  for (const { _tag } of events) {
    if (_tag !== "Found") found[_tag] = (found[_tag] ?? 0) + 1
  }
  return found
}

const failedIn = (events: ReadonlyArray<KeyRotationEvent>) => events.filter((event) => event._tag === "Failed")

const decrypt = Effect.fnUntraced(function*(file: string, keyText: Redacted.Redacted<string>) {
  const plaintext = yield* Fernet.decrypt([yield* Fernet.parseKey(keyText)], fs.readFileSync(file, "latin1"))
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(plaintext)
})

const write = Effect.fnUntraced(function*(file: string, text: string, keyText = key) {
  const token = yield* Fernet.encrypt([yield* Fernet.parseKey(keyText)], new TextEncoder().encode(text))
  fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
  fs.writeFileSync(file, token)
})

const enc = (directory: string, name: string) => path.join(directory, "credentials", `${name}.enc`)
const encrypted = (directory: string) =>
  fs.readdirSync(path.join(directory, "credentials")).filter((name) => name.endsWith(".enc"))
const traces = (file: string) => {
  const { ino, mtimeMs } = fs.lstatSync(file)
  return { ino, mtimeMs, bytes: fs.readFileSync(file).toString("hex") }
}

/** A storage of a tenant in the directory that all have in common. */
const asTenant =
  (directory: string, tenantId: string, keyText = key) =>
  <A, E>(use: (storage: CredentialStorage["Service"]) => Effect.Effect<A, E>) =>
    inDirectory(directory, [keyText])(use).pipe(Effect.provideService(CurrentTenant, tenantId))

const hive = fileURLToPath(new URL("../../fixtures/hive-files", import.meta.url))
const hiveKey = Redacted.make(fs.readFileSync(path.join(hive, "key.txt"), "utf8").trim())

describe("a key rotation", () => {
  it.effect("puts every file under the first key, whatever its name", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* inDirectory(directory)((storage) => storage.saveMany(confusableIds.map((id) => apiKey(id))))
      const index = fs.readFileSync(path.join(directory, "metadata", "index.json"), "utf8")
      const events = yield* rotate(directory)
      assert.deepStrictEqual(events[0], { _tag: "Found", total: confusableIds.length })
      assert.deepStrictEqual(counts(events), { Rotated: confusableIds.length })
      yield* inDirectory(directory, [newKey])(Effect.fnUntraced(function*(storage) {
        for (const id of confusableIds) {
          const credential = Option.getOrThrow(yield* storage.load(id))
          assert.strictEqual(Redacted.value(credential.defaultKey?.value ?? key), `value of ${id}`)
          assert.strictEqual((yield* storage.loadState(id)).generation, 1)
        }
      }))
      assert.strictEqual(fs.readFileSync(path.join(directory, "metadata", "index.json"), "utf8"), index)
      for (const name of encrypted(directory)) {
        assert.strictEqual(fs.statSync(path.join(directory, "credentials", name)).mode & 0o777, 0o600)
      }
    }))

  it.effect("changes no byte of what the files hold: Hive's, a tenant's, and what is no credential", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      fs.cpSync(path.join(hive, "base"), directory, { recursive: true })
      for (const folder of ["", "credentials", "metadata"]) fs.chmodSync(path.join(directory, folder), 0o700)
      const texts = new Map<string, string>()
      for (const name of encrypted(directory)) {
        texts.set(name, yield* decrypt(path.join(directory, "credentials", name), hiveKey))
      }
      const own = {
        "marked.enc":
          "{\"id\": \"marked\", \"_tenant_id\": \"acme\",   \"x\": 1.0, \"n\": 12345678901234567890, \"keys\": {}}",
        "no credential.enc": "\ufeffnot JSON at all\r\n",
        "empty.enc": ""
      }
      for (const [name, text] of Object.entries(own)) {
        yield* write(path.join(directory, "credentials", name), text, hiveKey)
        texts.set(name, text)
      }
      const events = yield* rotate(directory, [newKey, hiveKey])
      assert.deepStrictEqual(counts(events), { Rotated: texts.size })
      for (const [name, text] of texts) {
        assert.strictEqual(yield* decrypt(path.join(directory, "credentials", name), newKey), text, name)
      }
    }))

  it.effect("leaves alone what is under the first key already, so that it can be run again", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* inDirectory(directory, [newKey])((storage) => storage.save(apiKey("new")))
      yield* inDirectory(directory, [otherKey])((storage) => storage.save(apiKey("old")))
      const before = traces(enc(directory, "new"))
      assert.deepStrictEqual(counts(yield* rotate(directory, [newKey, key, otherKey])), { Unchanged: 1, Rotated: 1 })
      assert.deepStrictEqual(traces(enc(directory, "new")), before)
      assert.deepStrictEqual(counts(yield* rotate(directory, [newKey])), { Unchanged: 2 })
    }))

  it.effect("goes on where one that was interrupted stopped", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const ids = Array.from({ length: 40 }, (_, index) => `c${index}`)
      yield* inDirectory(directory)((storage) => storage.saveMany(ids.map((id) => apiKey(id))))
      const first = yield* rotateKeys({ directory, keys: [newKey, key] }).pipe(
        Stream.take(12),
        Stream.runCollect,
        Effect.provide(NodeFiles)
      )
      assert.lengthOf(first, 12)
      const rest = counts(yield* rotate(directory))
      assert.isAtLeast(rest["Unchanged"] ?? 0, 11)
      assert.isAbove(rest["Rotated"] ?? 0, 0)
      assert.deepStrictEqual(counts(yield* rotate(directory, [newKey])), { Unchanged: ids.length })
      assert.deepStrictEqual(encrypted(directory).toSorted(), ids.map((id) => `${id}.enc`).toSorted())
      assert.lengthOf(fs.readdirSync(path.join(directory, "credentials")), ids.length, "nothing is left over")
    }))

  it.effect("names what no key opens and what cannot be read, leaves it, and does the rest", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* inDirectory(directory)((storage) => storage.saveMany([apiKey("good"), apiKey("flipped"), apiKey("cut")]))
      yield* inDirectory(directory, [otherKey])((storage) => storage.save(apiKey("foreign")))
      const flipped = fs.readFileSync(enc(directory, "flipped"))
      flipped[40] = flipped[40] === 65 ? 66 : 65
      fs.writeFileSync(enc(directory, "flipped"), flipped)
      fs.truncateSync(enc(directory, "cut"), 50)
      fs.mkdirSync(enc(directory, "folder"))
      fs.symlinkSync(enc(directory, "good"), enc(directory, "link"))
      const left = ["foreign", "flipped", "cut"]
      const before = left.map((name) => traces(enc(directory, name)))
      const events = yield* rotate(directory)
      assert.deepStrictEqual(counts(events), { Rotated: 1, Failed: 5 })
      const failures = new Map(failedIn(events).map(({ error, location }) => [path.basename(location, ".enc"), error]))
      for (const name of left) {
        const error = failures.get(name)
        assert.strictEqual(error?._tag, "CredentialDecryptionFailed", name)
        assert.include(error?.message, enc(directory, name))
        assert.include(error?.remedy, "HIVE_CREDENTIAL_KEY")
      }
      for (const name of ["folder", "link"]) {
        assert.strictEqual(failures.get(name)?._tag, "CredentialStorageError", name)
        assert.include(failures.get(name)?.message, enc(directory, name))
      }
      assert.deepStrictEqual(left.map((name) => traces(enc(directory, name))), before)
      assert.isTrue(fs.lstatSync(enc(directory, "link")).isSymbolicLink())
      for (const secret of ["value of", Redacted.value(key), Redacted.value(newKey), "gAAAA"]) {
        assert.notInclude(inspect(events, { depth: Infinity, showHidden: true }), secret)
      }
    }))

  it.effect("a directory without credentials, or none at all, has nothing to do", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      assert.deepStrictEqual(yield* rotate(directory), [{ _tag: "Found", total: 0 }])
      assert.deepStrictEqual(yield* rotate(path.join(directory, "absent")), [{ _tag: "Found", total: 0 }])
      assert.deepStrictEqual(fs.readdirSync(directory), [])
    }))

  it.effect("a directory that others can write is refused with the command that fixes it", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* inDirectory(directory)((storage) => storage.save(apiKey("x")))
      for (const folder of [directory, path.join(directory, "credentials")]) {
        fs.chmodSync(folder, 0o777)
        const error = yield* Effect.flip(rotate(directory))
        assert.strictEqual(error._tag, "CredentialStorageError")
        assert.include(error.message, `chmod go-w '${folder}'`)
        fs.chmodSync(folder, 0o700)
      }
    }))

  it.effect("a key that is none is refused before any file is touched", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const error = yield* Effect.flip(rotate(directory, [newKey, Redacted.make("nonsense")]))
      assert.strictEqual(error._tag, "AdenConfigError")
      assert.strictEqual((yield* Effect.flip(rotate(directory, [])))._tag, "AdenConfigError")
    }))

  it.effect("takes the keys and the directory of the environment, the first key first", () =>
    Effect.gen(function*() {
      const home = yield* temporaryDirectory
      const directory = path.join(home, ".hive", "credentials")
      yield* inDirectory(directory)((storage) => storage.save(apiKey("x")))
      const environment = {
        HOME: home,
        HIVE_CREDENTIAL_KEY: `${Redacted.value(newKey)}, ${Redacted.value(key)}`
      }
      const events = yield* Stream.runCollect(rotateConfiguredKeys()).pipe(
        Effect.provide(NodeFiles),
        Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(environment))
      )
      assert.deepStrictEqual(counts(events), { Rotated: 1 })
      assert.include(yield* decrypt(enc(directory, "x"), newKey), "value of x")
    }))

  describe("of tenants' folders", () => {
    it.effect("includes those that the keys open, and leaves those of tenants with keys of their own", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("common")))
        yield* asTenant(directory, "acme")((storage) => storage.save(apiKey("hubspot")))
        yield* asTenant(directory, "Caf\u00e9/..")((storage) => storage.save(apiKey("hubspot")))
        yield* asTenant(directory, "globex", otherKey)((storage) => storage.saveMany([apiKey("a"), apiKey("b")]))
        const events = yield* rotate(directory)
        assert.deepStrictEqual(events[0], { _tag: "Found", total: 5 })
        assert.deepStrictEqual(counts(events), { Rotated: 3, LeftToTenant: 2 })
        const folder = path.join(directory, escapedName("Caf\u00e9/.."))
        assert.include(yield* decrypt(enc(folder, "hubspot"), newKey), "\"_tenant_id\": \"Caf\u00e9/..\"")
        const loaded = yield* asTenant(directory, "acme", newKey)((storage) => storage.load("hubspot"))
        assert.isTrue(Option.isSome(loaded))
        assert.isTrue(
          Option.isSome(yield* asTenant(directory, "globex", otherKey)((storage) => storage.load("a")))
        )
      }))

    it.effect("names a file that no key opens beside others that open", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* asTenant(directory, "acme")((storage) => storage.saveMany([apiKey("a"), apiKey("b")]))
        fs.truncateSync(enc(path.join(directory, "acme"), "b"), 30)
        const events = yield* rotate(directory)
        assert.deepStrictEqual(counts(events), { Rotated: 1, Failed: 1 })
        assert.strictEqual(failedIn(events)[0]?.location, enc(path.join(directory, "acme"), "b"))
      }))

    it.effect("names a folder that others can write, and does the others", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* asTenant(directory, "acme")((storage) => storage.save(apiKey("a")))
        yield* asTenant(directory, "globex")((storage) => storage.save(apiKey("a")))
        fs.chmodSync(path.join(directory, "acme"), 0o777)
        const events = yield* rotate(directory)
        assert.deepStrictEqual(counts(events), { Failed: 1, Rotated: 1 })
        assert.include(failedIn(events)[0]?.error.message, "chmod go-w")
      }))

    it.effect("follows no link: what it leads to is named and left, with the command that rotates it there", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const outside = yield* temporaryDirectory
        yield* inDirectory(outside)((storage) => storage.save(apiKey("x")))
        const before = traces(enc(outside, "x"))
        fs.symlinkSync(outside, path.join(directory, "team"))
        yield* asTenant(directory, "acme")((storage) => storage.save(apiKey("a")))
        fs.mkdirSync(path.join(directory, "globex"), { mode: 0o700 })
        fs.symlinkSync(path.join(outside, "credentials"), path.join(directory, "globex", "credentials"))
        const events = yield* rotate(directory)
        assert.deepStrictEqual(counts(events), { Rotated: 1, Failed: 2 })
        assert.deepStrictEqual(traces(enc(outside, "x")), before)
        assert.deepStrictEqual(failedIn(events).map(({ error, location }) => [location, error.message]), [
          [
            path.join(directory, "globex"),
            `Storage could not re-encrypt: ${path.join(directory, "globex", "credentials")} is a symbolic link, ` +
            `which is not followed; run: aden-creds keys rotate --directory '${path.join(directory, "globex")}'`
          ],
          [
            path.join(directory, "team"),
            `Storage could not re-encrypt: ${path.join(directory, "team")} is a symbolic link, ` +
            `which is not followed; run: aden-creds keys rotate --directory '${path.join(directory, "team")}'`
          ]
        ])
        // which does
        assert.deepStrictEqual(counts(yield* rotate(path.join(directory, "team"))), { Rotated: 1 })
      }))

    it.effect("goes past what is no tenant's", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x")))
        fs.writeFileSync(path.join(directory, "readme"), "")
        fs.mkdirSync(path.join(directory, "logs"), { mode: 0o777 })
        fs.mkdirSync(path.join(directory, "Upper", "credentials"), { recursive: true })
        fs.symlinkSync("nowhere", path.join(directory, "dangling"))
        yield* write(enc(path.join(directory, "Upper"), "x"), "{}")
        assert.deepStrictEqual(counts(yield* rotate(directory)), { Rotated: 1 })
      }))
  })

  describe("beside writers", () => {
    it.effect("loses none of what is saved or deleted meanwhile", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const ids = Array.from({ length: 20 }, (_, index) => `c${index}`)
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.saveMany(ids.map((id) => apiKey(id, "0")))
          yield* Effect.all([
            rotate(directory),
            rotate(directory),
            // a program that does not know the new key yet keeps writing under the old one
            Effect.forEach(ids.slice(0, 10), (id) =>
              Effect.forEach(["1", "2", "3"], (value) => Effect.ignore(storage.save(apiKey(id, value)))), {
              concurrency: "unbounded"
            }),
            Effect.forEach(ids.slice(10), (id) =>
              storage.delete(id), { concurrency: "unbounded" })
          ], { concurrency: "unbounded", discard: true })
        }))
        // what could not be saved any more was under the new key already: it is as it was before
        yield* inDirectory(directory, [newKey, key])(Effect.fnUntraced(function*(storage) {
          for (const id of ids.slice(0, 10)) {
            const credential = Option.getOrThrow(yield* storage.load(id))
            const { generation } = yield* storage.loadState(id)
            assert.strictEqual(Redacted.value(credential.defaultKey?.value ?? key), String(generation - 1), id)
          }
          for (const id of ids.slice(10)) {
            assert.isFalse(yield* storage.exists(id), id)
          }
        }))
      }))

    /** A file system in which another program comes in just after a temporary file was made for a credential. */
    const withIntruder = (intrude: () => void) =>
      Layer.provideMerge(
        Layer.effect(
          FileSystem.FileSystem,
          Effect.map(FileSystem.FileSystem, (base) => ({
            ...base,
            open: (file: string, options?: Parameters<FileSystem.FileSystem["open"]>[1]) =>
              Effect.tap(base.open(file, options), () =>
                Effect.sync(() => {
                  if (file.endsWith(".tmp") && path.basename(path.dirname(file)) === "credentials") intrude()
                }))
          }))
        ),
        NodeFiles
      )

    it.effect("what Hive, which takes no lock, writes just before a file is replaced is kept, and put under the new key", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "before")))
        const other = yield* temporaryDirectory
        yield* inDirectory(other)((storage) => storage.save(apiKey("x", "written meanwhile")))
        let times = 0
        const events = yield* Stream.runCollect(rotateKeys({ directory, keys: [newKey, key] })).pipe(
          Effect.provide(withIntruder(() => {
            if (times++ === 0) fs.copyFileSync(enc(other, "x"), enc(directory, "x"))
          }))
        )
        assert.deepStrictEqual(counts(events), { Rotated: 1 })
        assert.strictEqual(times, 2)
        assert.include(yield* decrypt(enc(directory, "x"), newKey), "written meanwhile")
        assert.deepStrictEqual(fs.readdirSync(path.join(directory, "credentials")), ["x.enc"])
      }))

    it.effect("a file that is written all the time is named in the end, as it was written last", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "before")))
        const text = fs.readFileSync(enc(directory, "x"))
        let times = 0
        const events = yield* Stream.runCollect(rotateKeys({ directory, keys: [newKey, key] })).pipe(
          Effect.provide(withIntruder(() => {
            times++
            fs.rmSync(enc(directory, "x"))
            // another inode, whatever the resolution of the clock
            fs.writeFileSync(path.join(directory, `other${times}`), "")
            fs.writeFileSync(enc(directory, "x"), text)
          }))
        )
        assert.deepStrictEqual(counts(events), { Failed: 1 })
        assert.include(failedIn(events)[0]?.error.message, "another program keeps writing it")
        assert.deepStrictEqual(fs.readFileSync(enc(directory, "x")), text)
        assert.deepStrictEqual(fs.readdirSync(path.join(directory, "credentials")), ["x.enc"])
      }))

    it.live.each(["saves", "deletes"] as const)(
      "a storage that %s a credential while its file is put in place waits for its turn, and is not undone",
      (what) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "before")))
          const write = inDirectory(directory, [newKey, key])((storage) =>
            what === "saves"
              ? Effect.asVoid(storage.save(apiKey("x", "written meanwhile")))
              : Effect.asVoid(storage.delete("x"))
          )
          const writing = yield* Deferred.make<Fiber.Fiber<void, unknown>>()
          const scope = yield* Effect.scope
          const files = Layer.effect(
            FileSystem.FileSystem,
            Effect.map(FileSystem.FileSystem, (base) => ({
              ...base,
              rename: (from: string, to: string) =>
                Effect.gen(function*() {
                  const writer = yield* Effect.forkIn(write, scope)
                  yield* Deferred.succeed(writing, writer)
                  // it would be done by now
                  yield* Effect.sleep("1 second")
                  assert.isUndefined(writer.pollUnsafe())
                  yield* base.rename(from, to)
                })
            }))
          )
          const events = yield* Stream.runCollect(rotateKeys({ directory, keys: [newKey, key] })).pipe(
            Effect.provide(Layer.provideMerge(files, NodeFiles))
          )
          assert.deepStrictEqual(counts(events), { Rotated: 1 })
          yield* Fiber.join(yield* Deferred.await(writing))
          yield* inDirectory(directory, [newKey])(Effect.fnUntraced(function*(storage) {
            const left = Option.map(yield* storage.load("x"), ({ defaultKey }) =>
              Redacted.value(defaultKey?.value ?? key))
            assert.deepStrictEqual(left, what === "saves" ? Option.some("written meanwhile") : Option.none())
          }))
        })
    )

    it.effect("a file that another program deletes at that moment stays deleted", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x")))
        const events = yield* Stream.runCollect(rotateKeys({ directory, keys: [newKey, key] })).pipe(
          Effect.provide(withIntruder(() => fs.rmSync(enc(directory, "x"))))
        )
        assert.deepStrictEqual(counts(events), { Unchanged: 1 })
        assert.deepStrictEqual(fs.readdirSync(path.join(directory, "credentials")), [])
      }))
  })

  it.effect("a storage under both keys reads all of it at any time, and under the new one alone afterwards", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const ids = Array.from({ length: repeats(30, 2.5) }, (_, index) => `c${index}`)
      yield* inDirectory(directory)((storage) => storage.saveMany(ids.map((id) => apiKey(id))))
      const readAll = Effect.fnUntraced(function*(storage: CredentialStorage["Service"]) {
        for (const id of ids) assert.isTrue(Option.isSome(yield* storage.load(id)), id)
      })
      yield* CredentialStorage.use((storage) =>
        rotateKeys({ directory, keys: [newKey, key] }).pipe(Stream.runForEach(() => readAll(storage)))
      ).pipe(
        Effect.provide(EncryptedFileStorage.layer({ directory, keys: [key, newKey] })),
        Effect.provide(NodeFiles)
      )
      yield* inDirectory(directory, [newKey])(readAll)
    }))
})
