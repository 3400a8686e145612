/** Files in a directory of credentials that another program put there, with or without the right to do so. */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, DateTime, Effect, Fiber, Option, PlatformError, Redacted } from "effect"
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { Fernet } from "../../../src/encryption/Fernet.ts"
import { CredentialState } from "../../../src/model/CredentialState.ts"
import { CurrentTenant } from "../../../src/model/currentTenant.ts"
import type { CredentialStorage } from "../../../src/storage/CredentialStorage.ts"
import { escapedName } from "../../../src/storage/format/names.ts"
import { repeats, stride } from "../../fixtures/repeats.ts"
import { hostileId } from "../credentialArbitrary.ts"
import { confusableIds } from "../StorageContract.ts"
import { inDirectory, key, otherKey, temporaryDirectory } from "../temporaryStorage.ts"
import {
  age,
  apiKey,
  enc,
  indexOf,
  mode,
  readIndex,
  secret,
  shown,
  traces,
  valueOf,
  withFileSystem,
  writeToken
} from "./directory.ts"

describe("EncryptedFileStorage", () => {
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
            for (
              const refused of [
                storage.read("bad"),
                storage.load("bad"),
                Effect.asVoid(storage.save(apiKey("bad", "new")))
              ]
            ) {
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
            assert.strictEqual((yield* storage.loadState("bad")).generation, 1)
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
          }))
          assert.sameMembers(Object.keys(readIndex(directory).credentials), ["good", "good_too"])
        })
    )

    it.effect("what Hive writes over it is read under the generation that Hive does not count", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("x", "own"))
          yield* writeToken(enc(directory, "x"), JSON.stringify({ id: "x", keys: { api_key: { value: "of Hive" } } }))
          const { credential, state } = yield* storage.read("x")
          assert.strictEqual(valueOf(credential), "of Hive")
          assert.deepStrictEqual(state, yield* storage.loadState("x"))
          assert.strictEqual(state.generation, 1)
          assert.strictEqual(yield* storage.save(apiKey("x", "again"), { expectedGeneration: 1 }), 2)
        }))
      }))

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
            if (name === "metadata/index.json") yield* storage.save(apiKey("z"))
            else assert.strictEqual(valueOf(yield* storage.load("x")), "longer".repeat(100))
          }))
          if (name === "metadata/index.json") assert.strictEqual(readIndex(directory).hive_note, "kept")
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
        for (const refused of [storage.load("x"), Effect.asVoid(storage.save(apiKey("x", "new")))]) {
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
          fs.rmSync(file, { force: true })
          fs.symlinkSync(elsewhere, file)
        }
        assert.match((yield* Effect.flip(storage.loadState("x"))).message, /symbolic link/)
        assert.match((yield* Effect.flip(storage.saveState("x", CredentialState.initial))).message, /symbolic link/)
        // the index is not what a save is about
        yield* storage.save(apiKey("new_one"))
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
        for (const refused of [storage.load("x"), Effect.asVoid(storage.save(apiKey("x"))), storage.delete("x")]) {
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
          for (const refused of [storage.load("x"), Effect.asVoid(storage.save(apiKey("x"))), storage.list]) {
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

    // only Linux has a folder in which no process can make another, and which says so with ENOENT
    it.effect.skipIf(!fs.existsSync("/proc/self"))(
      "a folder that the system refuses to make is an error, not tried for ever",
      () =>
        inDirectory("/proc/aden-credentials/cache")(Effect.fnUntraced(function*(storage) {
          const error = yield* Effect.flip(storage.save(apiKey("x")))
          assert.match(error.message, /ENOENT/)
        }))
    )
  })
})
