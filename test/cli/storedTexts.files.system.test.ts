import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { assertDocumentShowable, assertShowable } from "../fixtures/hostileTexts.ts"
import { encryptionKey, run, temporaryDirectory } from "./harness.ts"
import { blocking, credential, directory, suite } from "./storedTextsSuite.ts"

describe("aden-creds over what was put into a directory", () => suite(directory))

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

  it.live("a directory that is refused is put right by the remedy, which the message does not repeat", () =>
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
