import { assert, describe, it } from "@effect/vitest"
import { ExitStatus } from "aden-credentials/cli"
import { Effect } from "effect"
import { chmodSync, mkdirSync } from "node:fs"
import { encryptionKey, runProcess, temporaryDirectory } from "./harness.ts"

describe("storage: 8", () => {
  // Root can read everything, so the command then runs as another user, who may not reach a Node or a clone in root's home.
  const isNodePrivate = process.getuid?.() === 0 &&
    [process.execPath, import.meta.filename].some((file) => file.startsWith("/root/"))
  it.live.skipIf(isNodePrivate)(
    "a directory that cannot be read (left out where only root can start the command)",
    () =>
      Effect.gen(function*() {
        const someone = process.getuid?.() === 0 ? 65_534 : undefined
        const directory = yield* temporaryDirectory
        mkdirSync(`${directory}/credentials`)
        chmodSync(directory, 0o711)
        chmodSync(`${directory}/credentials`, someone === undefined ? 0 : 0o700)
        const ran = yield* runProcess(["list", "--directory", directory], { HIVE_CREDENTIAL_KEY: encryptionKey }, {
          user: someone
        })
        chmodSync(`${directory}/credentials`, 0o700)
        assert.strictEqual(ran.status, ExitStatus.storage, ran.stderr)
        assert.match(ran.stderr, /^error: .*EACCES.*\n {2}Check that the directory.*\n$/)
      })
  )
})
