import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { AdenClient, EncryptedFileStorage } from "aden-credentials"
import { ConfigProvider, Effect, Fiber, Layer, Option, Redacted } from "effect"
import { FetchHttpClient } from "effect/http"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import * as path from "node:path"
import { inspect } from "node:util"
import { configuredKeys } from "../../src/encryption/keys.ts"
import { configuredSecret } from "../../src/encryption/secretSource.ts"
import { tenantSettings } from "../../src/tenants/settings.ts"
import { encryptionKey, temporaryDirectory } from "../cli/harness.ts"

const settings = (environment: Record<string, string>) =>
  Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(environment))

const secretOf = (environment: Record<string, string>) =>
  configuredSecret("X").pipe(
    Effect.map(Option.map(Redacted.value)),
    settings(environment),
    Effect.provide(NodeServices.layer)
  )

/** The error of these settings, which shows nothing of the secret. */
const faultOf = (environment: Record<string, string>) =>
  Effect.map(Effect.flip(secretOf(environment)), (error) => {
    assert.notInclude(inspect(error, { depth: Infinity }) + error.message, "hunter2")
    return error
  })

const fileOf = (text: string, mode = 0o600) =>
  Effect.map(temporaryDirectory, (folder) => {
    const file = path.join(folder, "secret")
    fs.writeFileSync(file, text, { mode })
    fs.chmodSync(file, mode)
    return file
  })

describe("where a secret comes from", () => {
  it.live("the variable, a file, or what a command prints, without white space at the ends", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* secretOf({}), Option.none())
      assert.deepStrictEqual(yield* secretOf({ X: "", X_FILE: "", X_COMMAND: " " }), Option.none())
      assert.deepStrictEqual(yield* secretOf({ X: "s" }), Option.some("s"))
      assert.deepStrictEqual(yield* secretOf({ X: "", X_FILE: yield* fileOf(" s\n\n") }), Option.some("s"))
      assert.deepStrictEqual(yield* secretOf({ X_COMMAND: "printf 's\\r\\n'" }), Option.some("s"))
      assert.deepStrictEqual(yield* secretOf({ X_COMMAND: "cat; echo s | tr s t" }), Option.some("t"))
    }))

  it.live.each<readonly [Record<string, string>, string, RegExp]>([
    [{ X: "hunter2", X_FILE: "/f" }, "X", /^X is set, and X_FILE too/],
    [{ X_FILE: "/f", X_COMMAND: "echo hunter2" }, "X_FILE", /^X_FILE is set, and X_COMMAND too/],
    [{ X: "hunter2", X_FILE: "/f", X_COMMAND: "c" }, "X", /X_FILE and X_COMMAND too\. Set only one/]
  ])("two of them are an error: %#", ([environment, setting, says]) =>
    Effect.gen(function*() {
      const error = yield* faultOf(environment)
      assert.strictEqual(error.setting, setting)
      assert.match(error.message, says)
    }))

  it.live("a file that cannot be the secret is an error that names it", () =>
    Effect.gen(function*() {
      const empty = yield* fileOf("\n")
      const two = yield* fileOf("hunter2\nhunter2\n")
      const open = yield* fileOf("hunter2", 0o644)
      for (
        const [file, says] of [
          [empty, /holds nothing/],
          [two, /holds 2 lines/],
          [open, /is open to others.*chmod 600/],
          [path.dirname(empty), /is not a file/],
          [`${empty}-absent`, /does not exist/],
          ["secret", /^X_FILE is not an absolute path/]
        ] as const
      ) {
        const error = yield* faultOf({ X_FILE: file })
        assert.strictEqual(error.setting, "X_FILE")
        assert.match(error.message, says)
      }
      assert.deepStrictEqual(yield* secretOf({ X_FILE: open, ADEN_STRICT_MODES: "false" }), Option.some("hunter2"))
    }))

  it.live.each<readonly [string, RegExp]>([
    ["true", /prints nothing/],
    ["echo; echo ' '", /prints nothing/],
    ["echo hunter2; echo hunter2", /prints 2 lines/],
    ["echo hunter2; exit 3", /ends with 3/],
    ["kill -9 $$", /ends with 137|cannot be run/],
    ["no-such-command-hunter2 2>/dev/null", /ends with 127/],
    ["yes hunter2", /prints more than a secret/]
  ])("a command that does not print one is an error: %s", ([command, says]) =>
    Effect.gen(function*() {
      const error = yield* faultOf({ X_COMMAND: command })
      assert.strictEqual(error.setting, "X_COMMAND")
      assert.match(error.message, says)
    }))

  it.effect("a command that hangs is ended after 30 s", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryDirectory
      const file = path.join(folder, "pid")
      const running = yield* Effect.forkChild(faultOf({ X_COMMAND: `echo $$ > '${file}'; sleep 1000` }))
      const started = Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 20)))
      while (!fs.existsSync(file) || fs.readFileSync(file, "utf8") === "") yield* started
      yield* TestClock.adjust("30 seconds")
      assert.match((yield* Fiber.join(running)).message, /does not end within 30 seconds/)
      const pid = Number(fs.readFileSync(file, "utf8"))
      assert.throws(() => process.kill(pid, 0))
    }))

  it.effect("a program without the services of a platform is told what to provide", () =>
    Effect.gen(function*() {
      for (const environment of [{ X_FILE: "/f" }, { X_COMMAND: "echo s" }]) {
        const error = yield* Effect.flip(settings(environment)(configuredSecret("X")))
        assert.match(error.message, /this program cannot (?:read files|run commands)\. Provide NodeServices\.layer/)
      }
    }))
})

describe("the layers of a program", () => {
  it.live("EncryptedFileStorage takes its keys from a file or a command, and not from the key file then", () =>
    Effect.gen(function*() {
      const file = yield* fileOf(`${encryptionKey}\n`)
      for (
        const source of [
          { HIVE_CREDENTIAL_KEY_FILE: file },
          { HIVE_CREDENTIAL_KEY_COMMAND: `cat '${file}'` }
        ] satisfies ReadonlyArray<Record<string, string>>
      ) {
        const keys = yield* Effect.provide(settings(source)(configuredKeys), NodeServices.layer)
        assert.lengthOf(keys, 1)
        yield* Layer.build(Layer.fresh(EncryptedFileStorage.layerConfigWith({ directory: path.dirname(file) }))).pipe(
          settings(source),
          Effect.provide(NodeServices.layer)
        )
      }
      const wrong = yield* Effect.flip(
        Effect.provide(settings({ HIVE_CREDENTIAL_KEY_COMMAND: "echo hunter2" })(configuredKeys), NodeServices.layer)
      )
      assert.strictEqual(wrong.setting, "HIVE_CREDENTIAL_KEY_COMMAND")
      assert.notInclude(wrong.message, "hunter2")
    }))

  it.live("AdenClient takes its API key from a file or a command", () =>
    Effect.gen(function*() {
      const build = (environment: Record<string, string>) =>
        Layer.build(Layer.fresh(AdenClient.layerConfig)).pipe(
          settings({ ADEN_API_URL: "https://aden.example.com", ...environment }),
          Effect.provide([NodeServices.layer, FetchHttpClient.layer])
        )
      yield* build({ ADEN_API_KEY_FILE: yield* fileOf("key\n") })
      yield* build({ ADEN_API_KEY_COMMAND: "echo key" })
      const error = yield* Effect.flip(build({ ADEN_API_KEY_COMMAND: "exit 1" }))
      assert.strictEqual(error.setting, "ADEN_API_KEY_COMMAND")
    }))

  it.effect("a tenant does not get the key of the agent's file or command", () =>
    Effect.gen(function*() {
      const shared = { ADEN_API_KEY_FILE: "/f", ADEN_API_KEY_COMMAND: "echo s", ADEN_API_KEY_acme: "acme's" }
      for (
        const [tenant, key] of [["acme", Option.some("acme's")], ["other", Option.none()], [
          "FILE",
          Option.none()
        ]] as const
      ) {
        const found = yield* configuredSecret("ADEN_API_KEY").pipe(
          Effect.provideService(
            ConfigProvider.ConfigProvider,
            tenantSettings(ConfigProvider.fromEnvRecord(shared), tenant)
          )
        )
        assert.deepStrictEqual(Option.map(found, Redacted.value), key)
      }
    }))
})
