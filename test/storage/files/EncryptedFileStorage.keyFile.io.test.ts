/** The warning that goes before the first write of a process, where Hive would not find the key. */
import { assert, describe, it } from "@effect/vitest"
import {
  ConfigProvider,
  Context,
  DateTime,
  Effect,
  FileSystem,
  Layer,
  Logger,
  MutableRef,
  PlatformError,
  Redacted,
  References
} from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { HasWarned } from "../../../src/encryption/keyFile.ts"
import { CredentialState } from "../../../src/model/CredentialState.ts"
import { CurrentTenant } from "../../../src/model/currentTenant.ts"
import { CredentialStorage } from "../../../src/storage/CredentialStorage.ts"
import { EncryptedFileStorage } from "../../../src/storage/files/EncryptedFileStorage.ts"
import { encryptionKey, run } from "../../cli/harness.ts"
import { apiKey } from "../observing.ts"
import { key, NodeFiles, otherKey, temporaryDirectory } from "../temporaryStorage.ts"

interface Warning {
  readonly message: unknown
  readonly reason: unknown
  readonly remedy: unknown
}

/** A process of its own: its home, how it builds storages there, and what it has warned of. */
const newProcess = Effect.gen(function*() {
  const home = yield* temporaryDirectory
  const warnings: Array<Warning> = []
  const logger = Logger.make(({ fiber, logLevel, message }) => {
    if (logLevel !== "Warn") return
    const { reason, remedy } = fiber.getRef(References.CurrentLogAnnotations)
    warnings.push({ message: String(message), reason, remedy })
  })
  const hasWarned = MutableRef.make(false)
  const inProcess = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(Effect.provideService(HasWarned, hasWarned), Effect.provide(Logger.layer([logger])))
  const root = path.join(home, ".hive")
  return {
    root,
    file: path.join(root, "secrets", "credential_key"),
    warnings,
    inProcess,
    storage: (
      options: { readonly layer?: typeof EncryptedFileStorage.layerConfig; readonly tenantId?: string } = {}
    ) =>
      Layer.build(Layer.fresh(options.layer ?? EncryptedFileStorage.layerConfig)).pipe(
        Effect.map((built) => Context.get(built, CredentialStorage)),
        Effect.provideService(CurrentTenant, options.tenantId),
        Effect.provide(NodeFiles),
        Effect.provide(
          ConfigProvider.layer(ConfigProvider.fromEnvRecord({ HOME: home, HIVE_CREDENTIAL_KEY: Redacted.value(key) }))
        ),
        inProcess
      ),
    writeKeyFile: (text: string) => {
      fs.mkdirSync(path.join(root, "secrets"), { recursive: true, mode: 0o700 })
      fs.writeFileSync(path.join(root, "secrets", "credential_key"), text, { mode: 0o600 })
    }
  }
})

describe("a key of the environment, in the directory that Hive uses", () => {
  it.effect("is warned of once, at the first write of the process, and not by what only reads", () =>
    Effect.gen(function*() {
      const { file, inProcess, root, storage, warnings } = yield* newProcess
      const first = yield* storage()
      yield* inProcess(first.list)
      yield* inProcess(first.load("x"))
      yield* inProcess(first.delete("x"))
      assert.deepStrictEqual(warnings, [])
      yield* inProcess(first.save(apiKey("x", "1")))
      assert.deepStrictEqual(warnings, [{
        message: "Beside Hive, the encryption key belongs in the key file",
        reason:
          `HIVE_CREDENTIAL_KEY is set, and there is no key in ${file}: a Hive server that starts without HIVE_CREDENTIAL_KEY ` +
          `deletes the credentials in ${path.join(root, "credentials")}`,
        remedy: "Put the key into that file: aden-creds keys save"
      }])
      yield* inProcess(first.save(apiKey("x", "2")))
      const others = yield* Effect.all([storage(), storage({ tenantId: "acme" })])
      for (const other of others) yield* inProcess(other.saveMany([apiKey("y", "3"), apiKey("z", "4")]))
      assert.lengthOf(warnings, 1)
    }))

  it.effect("is warned of once by writes at the same time, of whatever kind", () =>
    Effect.gen(function*() {
      const { inProcess, storage, warnings } = yield* newProcess
      const [one, two] = yield* Effect.all([storage(), storage()])
      const blockedSince = yield* DateTime.now
      yield* inProcess(Effect.all([
        one.save(apiKey("a", "1")),
        one.saveMany([apiKey("b", "1")]),
        two.saveState("c", new CredentialState({ ...CredentialState.initial, blockedSince })),
        two.save(apiKey("d", "1"))
      ], { concurrency: "unbounded" }))
      assert.lengthOf(warnings, 1)
    }))

  it.effect("is warned of where a tenant's folder is there", () =>
    Effect.gen(function*() {
      const { inProcess, storage, warnings } = yield* newProcess
      const acme = yield* storage({ tenantId: "acme" })
      yield* inProcess(acme.save(apiKey("x", "1")))
      assert.lengthOf(warnings, 1)
    }))

  it.effect("is warned of when the key file holds another key", () =>
    Effect.gen(function*() {
      const { file, inProcess, storage, warnings, writeKeyFile } = yield* newProcess
      writeKeyFile(Redacted.value(otherKey))
      yield* inProcess((yield* storage()).save(apiKey("x", "1")))
      assert.lengthOf(warnings, 1)
      assert.match(String(warnings[0]?.reason), new RegExp(`^${file} holds another key than HIVE_CREDENTIAL_KEY: `))
      assert.notInclude(JSON.stringify(warnings), Redacted.value(otherKey).slice(0, 8))
      assert.notInclude(JSON.stringify(warnings), Redacted.value(key).slice(0, 8))
    }))

  it.effect("is not warned of when the key file holds it, by then", () =>
    Effect.gen(function*() {
      const { inProcess, storage, warnings, writeKeyFile } = yield* newProcess
      const built = yield* storage()
      writeKeyFile(`${Redacted.value(key)}\n`)
      yield* inProcess(built.save(apiKey("x", "1")))
      assert.deepStrictEqual(warnings, [])
    }))

  it.effect("is not warned of elsewhere, and a later write there is still warned of", () =>
    Effect.gen(function*() {
      const { inProcess, root, storage, warnings } = yield* newProcess
      const elsewhere = yield* storage({
        layer: EncryptedFileStorage.layerConfigWith({ directory: path.join(root, "credentials-2") })
      })
      yield* inProcess(elsewhere.save(apiKey("x", "1")))
      const handedOver = yield* storage({ layer: EncryptedFileStorage.layer({ keys: [key] }) })
      yield* inProcess(handedOver.save(apiKey("x", "1")))
      assert.deepStrictEqual(warnings, [])
      const named = yield* storage({
        layer: EncryptedFileStorage.layerConfigWith({ directory: path.join(root, "x", "..", "credentials", "") })
      })
      yield* inProcess(named.save(apiKey("x", "1")))
      assert.lengthOf(warnings, 1)
    }))

  it.effect("is warned of through a link, also where the directory is not there yet", () =>
    Effect.gen(function*() {
      const { inProcess, root, storage, warnings } = yield* newProcess
      fs.mkdirSync(root)
      const link = path.join(path.dirname(root), "hv")
      fs.symlinkSync(root, link)
      const linked = yield* storage({
        layer: EncryptedFileStorage.layerConfigWith({ directory: path.join(link, "credentials") })
      })
      yield* inProcess(linked.save(apiKey("x", "1")))
      assert.lengthOf(warnings, 1)
    }))

  it.effect("keeps no write from being made when the key file cannot be looked at", () =>
    Effect.gen(function*() {
      const { inProcess, storage, warnings, writeKeyFile } = yield* newProcess
      writeKeyFile(Redacted.value(key))
      const built = yield* storage({
        layer: EncryptedFileStorage.layerConfig.pipe(Layer.provide(Layer.effect(
          FileSystem.FileSystem,
          Effect.map(FileSystem.FileSystem, (base): FileSystem.FileSystem => ({
            ...base,
            open: (file, options) =>
              file.endsWith("credential_key")
                ? Effect.fail(PlatformError.systemError({
                  _tag: "PermissionDenied",
                  module: "FileSystem",
                  method: "open",
                  pathOrDescriptor: file
                }))
                : base.open(file, options)
          }))
        )))
      })
      yield* inProcess(built.save(apiKey("x", "1")))
      assert.match(String(warnings[0]?.reason), /the key file .* cannot be read$/)
    }))

  it.live("is warned of by a command that writes", () =>
    Effect.gen(function*() {
      const { inProcess, root, warnings } = yield* newProcess
      const from = yield* temporaryDirectory
      const environment = { HOME: path.dirname(root), HIVE_CREDENTIAL_KEY: encryptionKey }
      yield* CredentialStorage.use((storage) => storage.save(apiKey("x", "1"))).pipe(
        Effect.provide(EncryptedFileStorage.layer({ directory: from, keys: [Redacted.make(encryptionKey)] })),
        Effect.provide(NodeFiles)
      )
      const migrate = ["migrate", "--from", from, "--to", path.join(root, "credentials")]
      const ran = yield* inProcess(run(migrate, environment))
      assert.strictEqual(ran.status, 0)
      assert.match(
        ran.stderr,
        /^warning: Beside Hive, the encryption key belongs in the key file \(reason=.*, remedy=.*aden-creds keys save\)\n$/
      )
      assert.deepStrictEqual(warnings, [])
    }))
})
