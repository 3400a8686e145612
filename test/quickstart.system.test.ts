import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { existsSync, readdirSync } from "node:fs"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import path from "node:path"

const root = path.resolve(import.meta.dirname, "..")

/** Runs what `npm run quickstart` runs, with nothing in its environment, and its temporary files in a folder of its own. */
const quickstart = async (temporary: string) => {
  const start = Date.now()
  const ran = await new Promise<{ readonly status: number; readonly stdout: string; readonly stderr: string }>(
    (resolve) => {
      execFile(
        process.execPath,
        ["--import", import.meta.resolve("tsx"), "examples/quickstart.ts"],
        { cwd: root, env: { PATH: process.env["PATH"], TMPDIR: temporary } },
        (error, stdout, stderr) => resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr })
      )
    }
  )
  return { ...ran, ms: Date.now() - start }
}

describe("the quickstart", () => {
  it("shows a sync, a token, its refresh, an outage and a re-authorization, cleans up and ends with 0", async () => {
    const temporary = await mkdtemp(path.join(tmpdir(), "aden-quickstart-test-"))
    try {
      const { ms, status, stderr, stdout } = await quickstart(temporary)
      assert.strictEqual(status, 0, stdout + stderr)
      assert.strictEqual(stderr, "")
      assert.isBelow(ms, 30_000)

      const url = /The server is the emulator, at (http:\/\/127\.0\.0\.1:\d+);/.exec(stdout)?.[1]
      // in the order in which Aden answered
      const outcomes = [
        /^ +hubspot +saved +in \d s$/m,
        /^ +github +saved +never$/m,
        /^ +slack +skipped +no token: a person has to authorize it again$/m
      ]
      const [sync = ""] = stdout.split("\n2. ", 1)
      for (const line of outcomes) assert.match(sync, line)
      const expected = [
        /^1\. \S/m,
        /^2\. \S/m,
        /hubspot: aden-emulator\.\w+\.1\.\w{1,4}…/,
        /^3\. \S/m,
        /hubspot: aden-emulator\.\w+\.2\.\w{1,4}…/,
        /^4\. \S/m,
        /github: aden-emulator\.\w+\.1\.\w{1,4}…/,
        /WARN.*Serving a cached credential that Aden did not confirm/,
        /AdenUnavailable/,
        /^5\. \S/m,
        new RegExp(`Integration "slack" has to be authorized again: ${url}/integrations/slack/connect$`, "m"),
        /^6\. \S/m,
        /github\.enc and hubspot\.enc, encrypted/,
        /^Done\./m
      ]
      let from = 0
      for (const line of expected) {
        const found = stdout.slice(from).search(line)
        assert.isAtLeast(found, 0, `${line} is not in what follows:\n${stdout.slice(from)}`)
        from += found
      }

      const cache = /the cache is (\S+)\.$/m.exec(stdout)?.[1] ?? ""
      assert.isTrue(cache.startsWith(temporary), cache)
      assert.isFalse(existsSync(cache))
      assert.deepStrictEqual(readdirSync(temporary).filter((name) => name.startsWith("aden-")), [])
    } finally {
      await rm(temporary, { recursive: true, force: true })
    }
  }, 120_000)
})
