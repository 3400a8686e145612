/** Which folder is Hive's: `HIVE_HOME`, else `~/.hive`. */
import { assert, describe, it } from "@effect/vitest"
import { Credential, CredentialStorage, EncryptedFileStorage, Fernet, rotateConfiguredKeys } from "aden-credentials"
import { DoctorDocument, ExitStatus, ListDocument } from "aden-credentials/cli"
import { ConfigProvider, Effect, Layer, Redacted, Stream } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { CurrentTenant } from "../src/model/currentTenant.ts"
import { document, run } from "./cli/harness.ts"
import { key, NodeFiles, otherKey, temporaryDirectory } from "./storage/temporaryStorage.ts"

type Settings = Readonly<Record<string, string>>

const settings = (environment: Settings) => ConfigProvider.layer(ConfigProvider.fromEnvRecord(environment))

const saved = (environment: Settings, tenantId?: string) =>
  CredentialStorage.use((storage) =>
    storage.save(Credential.fromApiKey({ id: "x", apiKey: Redacted.make("BSA-0123456789") }))
  ).pipe(
    Effect.provide(Layer.fresh(EncryptedFileStorage.layerConfig)),
    Effect.provideService(CurrentTenant, tenantId),
    Effect.provide(NodeFiles),
    Effect.provide(settings(environment))
  )

const writeKeyFile = (root: string, text = Redacted.value(key)) => {
  fs.mkdirSync(path.join(root, "secrets"), { recursive: true, mode: 0o700 })
  fs.writeFileSync(path.join(root, "secrets", "credential_key"), text, { mode: 0o600 })
}

const encIn = (root: string, ...tenant: ReadonlyArray<string>) =>
  path.join(root, "credentials", ...tenant, "credentials", "x.enc")

/** A home directory, Hive's folder with a key in it, and another key where Hive's folder would be without HIVE_HOME. */
const setup = Effect.gen(function*() {
  const home = yield* temporaryDirectory
  const root = path.join(home, "Application Support", "Hive")
  writeKeyFile(root)
  writeKeyFile(path.join(home, ".hive"), Redacted.value(otherKey))
  return { home, root }
})

describe("HIVE_HOME", () => {
  it.effect("is where the cache and the key file are, in place of ~/.hive", () =>
    Effect.gen(function*() {
      const { home, root } = yield* setup
      yield* saved({ HOME: home, HIVE_HOME: root })
      yield* Fernet.decrypt([yield* Fernet.parseKey(key)], fs.readFileSync(encIn(root), "latin1"))
      assert.deepStrictEqual(fs.readdirSync(path.join(home, ".hive")), ["secrets"])
    }))

  it.effect("needs no home directory", () =>
    Effect.gen(function*() {
      const { root } = yield* setup
      yield* saved({ HIVE_HOME: root })
      assert.isTrue(fs.existsSync(encIn(root)))
    }))

  it.effect("counts as not set when it is empty", () =>
    Effect.gen(function*() {
      const { home } = yield* setup
      yield* saved({ HOME: home, HIVE_HOME: "" })
      const text = fs.readFileSync(encIn(path.join(home, ".hive")), "latin1")
      yield* Fernet.decrypt([yield* Fernet.parseKey(otherKey)], text)
    }))

  it.effect("may begin with ~, which is the home directory", () =>
    Effect.gen(function*() {
      const { home, root } = yield* setup
      yield* saved({ HOME: home, HIVE_HOME: "~/Application Support/Hive" })
      assert.isTrue(fs.existsSync(encIn(root)))
      writeKeyFile(home)
      yield* saved({ HOME: home, HIVE_HOME: "~" })
      assert.isTrue(fs.existsSync(encIn(home)))
    }))

  it.effect.each(["hive", "./hive", "../hive", "~someone/hive", " /hive"])(
    "is refused as %j, which every working directory or user takes for another folder",
    (chosen) =>
      Effect.gen(function*() {
        const { home } = yield* setup
        const environment = { HOME: home, HIVE_HOME: chosen }
        for (const wrong of [environment, { ...environment, HIVE_CREDENTIAL_KEY: Redacted.value(key) }]) {
          const error = yield* Effect.flip(saved(wrong))
          assert.strictEqual(error._tag, "AdenConfigError")
          assert.match(error.message, /^HIVE_HOME is not an absolute path\. .*~\//)
        }
        const ran = yield* run(["list", "--json"], environment)
        assert.strictEqual(ran.status, ExitStatus.usage)
        assert.match(ran.stderr, /^error: HIVE_HOME is not an absolute path\n {2}\S/)
        assert.isFalse(fs.existsSync(path.resolve(chosen)))
      })
  )

  it.effect("holds the tenants' folders, and is where keys are rotated", () =>
    Effect.gen(function*() {
      const { root } = yield* setup
      yield* saved({ HIVE_HOME: root }, "acme")
      const both = { HIVE_HOME: root, HIVE_CREDENTIAL_KEY: `${Redacted.value(otherKey)},${Redacted.value(key)}` }
      const events = yield* Stream.runCollect(rotateConfiguredKeys()).pipe(
        Effect.provide(NodeFiles),
        Effect.provide(settings(both))
      )
      assert.deepInclude(events, { _tag: "Rotated", location: encIn(root, "acme") })
    }))

  it.live("is where commands work", () =>
    Effect.gen(function*() {
      const { home, root } = yield* setup
      yield* saved({ HIVE_HOME: root })
      const environment = { HOME: home, HIVE_HOME: root }
      const listed = document(ListDocument, yield* run(["list", "--json"], environment))
      assert.deepStrictEqual(listed.map(({ id }) => id), ["x"])
      assert.match((yield* run(["explain", "x"], environment)).stdout, /^id: +x$/m)
      const { findings } = document(DoctorDocument, yield* run(["doctor", "--json"], environment))
      const directory = findings.find(({ check }) => check === "directory")
      assert.include(directory?.message, path.join(root, "credentials"))
      assert.strictEqual((yield* run(["delete", "x"], environment)).status, ExitStatus.done)
      assert.isFalse(fs.existsSync(encIn(root)))
    }))
})
