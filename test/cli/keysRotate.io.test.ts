import { assert, describe, it } from "@effect/vitest"
import { ErrorDocument, ExitStatus, RotateDocument } from "aden-credentials/cli"
import { Effect } from "effect"
import * as fs from "node:fs"
import { document, encryptionKey, isPlain, run, temporaryDirectory } from "./harness.ts"
import { enc, keys, newKey, save, using } from "./keysRotate.ts"

describe("aden-creds keys rotate", () => {
  it.live("needs only the keys, and counts what it did", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* save(directory, ["a", "b"])
      yield* save(directory, ["c"], newKey)
      const ran = yield* run(["keys", "rotate", "--directory", directory], keys)
      assert.deepStrictEqual(ran, {
        status: ExitStatus.done,
        stdout: "2 re-encrypted, 1 already under the first key, 0 failed\n",
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
      assert.strictEqual(again.stdout, "0 re-encrypted, 3 already under the first key, 0 failed\n")
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
      assert.match(ran.stdout, /\n1 re-encrypted, 0 already under the first key, 2 failed\n$/)
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
      assert.strictEqual(ran.stdout, "30 re-encrypted, 0 already under the first key, 0 failed\n")
    }))
})
