/**
 * A command that changes what is stored refuses a directory that is not there: "0 re-encrypted" of a mistyped path reads as success.
 */
import { assert, describe, it } from "@effect/vitest"
import { ErrorDocument, ExitStatus } from "aden-credentials/cli"
import { AdenEmulator } from "aden-credentials/emulator"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { document, emulatorEnvironment, encryptionKey, isPlain, run, temporaryDirectory } from "./harness.ts"

/** Nothing listens there: a refusal comes before any request. */
const settings = { ADEN_API_URL: "http://127.0.0.1:1", ADEN_API_KEY: "agent-key", HIVE_CREDENTIAL_KEY: encryptionKey }

const changing: ReadonlyArray<readonly [name: string, args: ReadonlyArray<string>, flags: ReadonlyArray<string>]> = [
  ["keys rotate", ["keys", "rotate"], ["--directory", "--storage"]],
  ["delete", ["delete", "hubspot"], ["--directory", "--storage"]],
  ["refresh", ["refresh", "hubspot"], ["--directory", "--storage"]],
  ["migrate", ["migrate", "--to", "target"], ["--from"]]
]

describe.each(changing)("aden-creds %s", (_, args, flags) => {
  it.live.each(flags)("refuses a mistyped %s, and changes nothing", (flag) =>
    Effect.gen(function*() {
      const parent = yield* temporaryDirectory
      const file = path.join(parent, "file")
      const link = path.join(parent, "link")
      fs.writeFileSync(file, "kept")
      fs.symlinkSync(path.join(parent, "gone"), link)
      const places: ReadonlyArray<readonly [string, RegExp]> = [
        [path.join(parent, "absent"), /names a directory that does not exist: .*absent$/],
        [path.join(parent, "absent", "below"), /names a directory that does not exist: .*below$/],
        [file, /names something that is not a directory: .*file$/],
        [path.join(file, "below"), /names a directory that does not exist: .*below$/],
        [link, /names a link to a directory that does not exist: .*link$/]
      ]
      const absolute = args.map((arg) => arg === "target" ? path.join(parent, "target") : arg)
      for (const [place, says] of places) {
        const ran = yield* run([...absolute, flag, place, "--json"], settings)
        assert.strictEqual(ran.status, ExitStatus.usage, ran.stderr)
        assert.isTrue(isPlain(ran))
        const { error } = document(ErrorDocument, ran)
        assert.strictEqual(error.tag, "AdenConfigError")
        assert.strictEqual(error.setting, flag)
        assert.match(error.message, says)
        assert.match(error.remedy, /^Check the path/)
        assert.strictEqual(ran.stderr, `error: ${error.message}\n  ${error.remedy}\n`)
      }
      assert.deepStrictEqual(fs.readdirSync(parent).toSorted(), ["file", "link"])
    }))
})

describe("on a machine where nothing was ever cached", () => {
  it.live.each(changing.filter(([, , flags]) => flags.length === 2))(
    "aden-creds %s says so",
    ([, args]) =>
      Effect.gen(function*() {
        const home = yield* temporaryDirectory
        const ran = yield* run([...args, "--json"], { ...settings, HOME: home })
        assert.strictEqual(ran.status, ExitStatus.usage, ran.stderr)
        const { error } = document(ErrorDocument, ran)
        assert.strictEqual(
          error.message,
          `--directory is not given, and there is no cache at ${path.join(home, ".hive", "credentials")}`
        )
        assert.match(error.remedy, /aden-creds sync/)
        assert.deepStrictEqual(fs.readdirSync(home), [])
      })
  )

  it.live("aden-creds list and explain say what they say of an empty one", () =>
    Effect.gen(function*() {
      const directory = path.join(yield* temporaryDirectory, "absent")
      const list = yield* run(["list", "--directory", directory], settings)
      assert.strictEqual(list.status, ExitStatus.done)
      assert.match(list.stderr, /^No credentials are cached/)
      const explained = yield* run(["explain", "hubspot", "--directory", directory], settings)
      assert.strictEqual(explained.status, ExitStatus.notFound)
      assert.isFalse(fs.existsSync(directory))
    }))

  it.live.each<readonly [string, ReadonlyArray<string>, string]>([
    ["sync", ["sync"], ""],
    ["token", ["token", "hubspot"], ""],
    ["exec", ["exec", "--env", "HUBSPOT=hubspot", "--", "true"], ""],
    ["git-credential get", ["git-credential", "get"], "protocol=https\nhost=github.com\n\n"],
    ["git-credential erase", ["git-credential", "erase"], "protocol=https\nhost=github.com\npassword=refused\n\n"]
  ])("aden-creds %s makes the directory", ([, [command = "", ...others], input]) =>
    Effect.gen(function*() {
      const directory = path.join(yield* temporaryDirectory, "absent")
      const ran = yield* run([command, "--directory", directory, ...others], yield* emulatorEnvironment, { input })
      assert.strictEqual(ran.status, ExitStatus.done, ran.stderr)
      assert.isTrue(fs.existsSync(path.join(directory, "credentials")))
    }).pipe(Effect.provide(AdenEmulator.layer({ integrations: [{ id: "hubspot" }, { id: "github" }] }))))
})

describe("a link to a directory", () => {
  it.live("is that directory", () =>
    Effect.gen(function*() {
      const parent = yield* temporaryDirectory
      const link = path.join(parent, "link")
      fs.mkdirSync(path.join(parent, "real"), { mode: 0o700 })
      fs.symlinkSync("real", link)
      const ran = yield* run(["delete", "hubspot", "--directory", link], settings)
      assert.strictEqual(ran.status, ExitStatus.notFound, ran.stderr)
    }))
})

describe("aden-creds keys rotate", () => {
  it.live("says where nothing is encrypted: the directory may be another one's parent", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const ran = yield* run(["keys", "rotate", "--directory", directory], settings)
      assert.strictEqual(ran.status, ExitStatus.done)
      assert.strictEqual(ran.stdout, "0 re-encrypted, 0 already under the first key, 0 failed\n")
      assert.strictEqual(ran.stderr, "Nothing is stored there.\n")
    }))
})
