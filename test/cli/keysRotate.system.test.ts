import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Credential, CredentialStorage, EncryptedFileStorage } from "aden-credentials"
import { ExitStatus, RotateDocument } from "aden-credentials/cli"
import { Effect, Fiber, Option, Redacted } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import { commandLine, document, encryptionKey, runProcess, temporaryDirectory } from "./harness.ts"
import { enc, keys, newKey, save, using } from "./keysRotate.ts"

describe("aden-creds keys rotate", () => {
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

  it.live("loses nothing that another process saves while it runs", () =>
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
