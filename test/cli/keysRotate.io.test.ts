import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Credential, CredentialStorage, EncryptedFileStorage } from "aden-credentials"
import { ErrorDocument, ExitStatus, RotateDocument } from "aden-credentials/cli"
import { Effect, Fiber, Option, Redacted } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { commandLine, document, encryptionKey, isPlain, run, runProcess, temporaryDirectory } from "./harness.ts"

const newKey = "DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus="
const keys = { HIVE_CREDENTIAL_KEY: `${newKey},${encryptionKey}` }

const using = <A, E>(
  directory: string,
  key: string,
  use: (storage: CredentialStorage["Service"]) => Effect.Effect<A, E>
) =>
  CredentialStorage.use(use).pipe(
    Effect.provide(EncryptedFileStorage.layer({ directory, keys: [Redacted.make(key)] })),
    Effect.provide(NodeServices.layer)
  )

const save = (directory: string, ids: ReadonlyArray<string>, key = encryptionKey) =>
  using(
    directory,
    key,
    (storage) => storage.saveMany(ids.map((id) => Credential.fromApiKey({ id, apiKey: Redacted.make(`secret ${id}`) })))
  )

const enc = (directory: string, name: string) => path.join(directory, "credentials", `${name}.enc`)

describe("aden-creds keys rotate", () => {
  it.live("needs the keys alone, and counts what it did", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* save(directory, ["a", "b"])
      yield* save(directory, ["c"], newKey)
      const ran = yield* run(["keys", "rotate", "--directory", directory], keys)
      assert.deepStrictEqual(ran, {
        status: ExitStatus.done,
        stdout: "2 re-encrypted, 1 under the first key already, 0 failed\n",
        stderr: ""
      })
      yield* using(
        directory,
        newKey,
        Effect.fnUntraced(function*(storage) {
          for (const id of ["a", "b", "c"]) yield* storage.load(id)
        })
      )
      const again = yield* run(["keys", "rotate", "--directory", directory], { HIVE_CREDENTIAL_KEY: newKey })
      assert.strictEqual(again.stdout, "0 re-encrypted, 3 under the first key already, 0 failed\n")
    }))

  it.live("names each file that no key opens, does the others, and ends with 8", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* save(directory, ["good", "cut", "flipped"])
      fs.truncateSync(enc(directory, "cut"), 20)
      fs.truncateSync(enc(directory, "flipped"), 60)
      const args = ["keys", "rotate", "--directory", directory]
      const ran = yield* run(args, keys)
      assert.strictEqual(ran.status, ExitStatus.storage)
      assert.isTrue(isPlain(ran))
      for (const name of ["cut", "flipped"]) assert.include(ran.stdout, `${enc(directory, name)}\tfailed\t`)
      assert.match(ran.stdout, /\n1 re-encrypted, 0 under the first key already, 2 failed\n$/)
      assert.match(ran.stderr, /^error: .*cannot be opened.*; 1 more failed\n {2}\S.*HIVE_CREDENTIAL_KEY.*\n$/)

      const json = yield* run([...args, "--json"], keys)
      assert.strictEqual(json.status, ExitStatus.storage)
      const { failed, ...rest } = document(RotateDocument, json)
      assert.deepStrictEqual(rest, { total: 3, rotated: 0, unchanged: 1, left: [] })
      assert.sameMembers(failed.map(({ location }) => location), [enc(directory, "cut"), enc(directory, "flipped")])
      for (const { error } of failed) {
        assert.strictEqual(error.tag, "CredentialDecryptionFailed")
        assert.strictEqual(error.exitCode, ExitStatus.storage)
      }
      for (const secret of [newKey, encryptionKey, "secret good"]) {
        assert.notInclude(ran.stdout + ran.stderr + json.stdout + json.stderr, secret)
      }
    }))

  it.live("a key that is missing, malformed or empty ends with 2 and touches nothing", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* save(directory, ["a"])
      const before = fs.readFileSync(enc(directory, "a"))
      const wrong = [undefined, "", "nonsense", `${newKey},`, `,${newKey}`, `${newKey},nonsense`]
      for (const HIVE_CREDENTIAL_KEY of wrong) {
        const ran = yield* run(["keys", "rotate", "--json", "--directory", directory], {
          HOME: directory,
          HIVE_CREDENTIAL_KEY
        })
        assert.strictEqual(ran.status, ExitStatus.usage, HIVE_CREDENTIAL_KEY)
        assert.strictEqual(document(ErrorDocument, ran).error.tag, "AdenConfigError")
        assert.notInclude(ran.stdout + ran.stderr, newKey)
      }
      assert.deepStrictEqual(fs.readFileSync(enc(directory, "a")), before)
    }))

  it.live("of a key that opens nothing ends with 8", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* save(directory, ["a"])
      const ran = yield* run(["keys", "rotate", "--directory", directory], { HIVE_CREDENTIAL_KEY: newKey })
      assert.strictEqual(ran.status, ExitStatus.storage)
    }))

  it.live("draws a progress bar on a terminal, and leaves no trace of it", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* save(directory, Array.from({ length: 30 }, (_, index) => `c${index}`))
      const ran = yield* run(["keys", "rotate", "--directory", directory], keys, { terminal: ["stdout", "stderr"] })
      assert.match(ran.stderr, /Re-encrypting/)
      assert.isTrue(ran.stderr.endsWith("\r\u001b[2K\u001b[?25h"))
      assert.strictEqual(ran.stdout, "30 re-encrypted, 0 under the first key already, 0 failed\n")
    }))

  it.live(
    "killed half-way, it leaves every file whole under the one key or the other, and can be run again",
    () =>
      Effect.gen(function*() {
        const ids = Array.from({ length: 200 }, (_, index) => `c${index}`)
        const killHalfWay = Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          yield* save(directory, ids)
          const inodes = new Map(ids.map((id) => [id, fs.statSync(enc(directory, id)).ino]))
          const replaced = () => ids.filter((id) => fs.statSync(enc(directory, id)).ino !== inodes.get(id)).length
          yield* Effect.callback<void>((resume) => {
            const child = spawn(process.execPath, commandLine(["keys", "rotate", "--directory", directory]), {
              env: { PATH: process.env["PATH"], ...keys },
              stdio: "ignore"
            })
            const watch = setInterval(() => {
              if (replaced() > 20) child.kill("SIGKILL")
            }, 2)
            child.on("close", () => {
              clearInterval(watch)
              resume(Effect.void)
            })
            return Effect.sync(() => child.kill("SIGKILL"))
          })
          return { directory, done: replaced() }
        })
        // where the machine is busy the kill may come too late
        const { directory, done } = yield* Effect.repeat(killHalfWay, {
          until: ({ done }) => done < ids.length,
          times: 9
        })
        assert.isAbove(done, 20)
        assert.isBelow(done, ids.length, "it was killed before its end")
        const opened = (key: string) =>
          using(directory, key, (storage) =>
            Effect.filter(ids, (id) =>
              Effect.isSuccess(storage.load(id)), { concurrency: 32 }))
        assert.sameMembers([...yield* opened(newKey), ...yield* opened(encryptionKey)], ids)
        const ran = yield* runProcess(["keys", "rotate", "--json", "--directory", directory], keys)
        assert.strictEqual(ran.status, ExitStatus.done)
        assert.deepStrictEqual(document(RotateDocument, ran), {
          total: ids.length,
          rotated: ids.length - done,
          unchanged: done,
          left: [],
          failed: []
        })
      }),
    240_000
  )

  it.live("loses nothing of what another process saves meanwhile", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const ids = Array.from({ length: 60 }, (_, index) => `c${index}`)
      yield* save(directory, ids)
      const isRotated = yield* Effect.forkChild(
        runProcess(["keys", "rotate", "--json", "--directory", directory], keys),
        { startImmediately: true }
      )
      const saved = new Map<string, string>()
      // a program that was given the new key, and still writes under the old one
      const both = [encryptionKey, newKey].map((key) => Redacted.make(key))
      yield* Effect.gen(function*() {
        const storage = yield* CredentialStorage
        for (let round = 0; isRotated.pollUnsafe() === undefined; round++) {
          const id = ids[(round * 7) % ids.length] ?? ""
          yield* storage.save(Credential.fromApiKey({ id, apiKey: Redacted.make(`round ${round}`) }))
          saved.set(id, `round ${round}`)
        }
      }).pipe(Effect.provide(EncryptedFileStorage.layer({ directory, keys: both })), Effect.provide(NodeServices.layer))
      const ran = yield* Fiber.join(isRotated)
      assert.strictEqual(ran.status, ExitStatus.done, ran.stderr)
      assert.isAbove(saved.size, 5)
      yield* Effect.gen(function*() {
        const storage = yield* CredentialStorage
        for (const id of ids) {
          const { defaultKey } = Option.getOrThrow(yield* storage.load(id))
          assert.strictEqual(defaultKey && Redacted.value(defaultKey.value), saved.get(id) ?? `secret ${id}`)
        }
      }).pipe(Effect.provide(EncryptedFileStorage.layer({ directory, keys: both })), Effect.provide(NodeServices.layer))
    }), 120_000)
})
