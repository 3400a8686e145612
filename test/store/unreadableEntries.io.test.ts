import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import {
  AdenClient,
  AdenSyncProvider,
  Credential,
  CredentialProviders,
  CredentialStorage,
  CredentialStore,
  EncryptedFileStorage
} from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Context, Effect, Layer, Redacted, Schedule } from "effect"
import { FetchHttpClient } from "effect/http"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"

// Several accounts of one provider in one directory, of which a file is damaged.

const key = Redacted.make("DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus=")

const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "aden-credentials-"))),
  (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true, force: true }))
)

const files = (directory: string) =>
  EncryptedFileStorage.layer({ directory, keys: [key] }).pipe(Layer.provide(NodeServices.layer))

const provider = Layer.unwrap(
  Effect.map(AdenEmulator, (aden) =>
    AdenSyncProvider.layer().pipe(Layer.provide(AdenClient.layer({
      baseUrl: aden.url,
      apiKey: aden.apiKey,
      tenantId: aden.tenantId,
      retry: Schedule.recurs(0)
    }))))
).pipe(Layer.provide(FetchHttpClient.layer))

/** The store of one more process. */
const startProcess = (directory: string) =>
  Effect.map(
    Layer.build(Layer.fresh(CredentialStore.layer().pipe(Layer.provide(provider), Layer.provide(files(directory))))),
    Context.get(CredentialStore)
  )

/** The store of a process without a provider. */
const startOffline = (directory: string) =>
  Effect.map(
    Layer.build(Layer.fresh(
      CredentialStore.layer().pipe(Layer.provide(CredentialProviders.layerNone), Layer.provide(files(directory)))
    )),
    Context.get(CredentialStore)
  )

const damage = (directory: string, id: string) =>
  Effect.sync(() => fs.writeFileSync(path.join(directory, "credentials", `${id}.enc`), "no token"))

/** As if Hive, which keeps no state beside a credential, had written it. */
const forgetState = (directory: string, id: string) =>
  Effect.sync(() => fs.rmSync(path.join(directory, "state", `${id}.json`)))

const emulator = AdenEmulator.layer({
  integrations: [
    { id: "g1", type: "google", alias: "Work" },
    { id: "g2", type: "google", alias: "Home" },
    { id: "s1", type: "slack" }
  ]
})

const syncedDirectory = Effect.gen(function*() {
  const directory = yield* temporaryDirectory
  const store = yield* startProcess(directory)
  yield* store.sync
  return directory
})

const nameOf = (directory: string) => path.join(directory, "credentials", "g1.enc")

describe("CredentialStore: one of a provider's accounts cannot be opened", () => {
  it.effect("the provider's name stays ambiguous: the other account is never picked", () =>
    Effect.gen(function*() {
      const directory = yield* syncedDirectory
      yield* damage(directory, "g1")
      for (const store of [yield* startProcess(directory), yield* startOffline(directory)]) {
        const error = yield* Effect.flip(store.token("google"))
        assert.strictEqual(error._tag, "AmbiguousCredential")
        assert.deepStrictEqual("choices" in error && error.choices, ["google:Home", "google:Work"])
      }
    }).pipe(Effect.provide(emulator)))

  it.effect("its alias names it: CredentialDecryptionFailed with the file, which stays as it is", () =>
    Effect.gen(function*() {
      const directory = yield* syncedDirectory
      yield* damage(directory, "g1")
      const store = yield* startProcess(directory)
      const error = yield* Effect.flip(store.token("google:Work"))
      assert.strictEqual(error._tag, "CredentialDecryptionFailed")
      assert.include(error.message, nameOf(directory))
      assert.strictEqual(fs.readFileSync(nameOf(directory), "utf8"), "no token")
    }).pipe(Effect.provide(emulator)))

  it.effect("the other's alias, and other providers, are served", () =>
    Effect.gen(function*() {
      const directory = yield* syncedDirectory
      yield* damage(directory, "g1")
      const store = yield* startOffline(directory)
      assert.strictEqual((yield* store.get("google:Home")).id, "g2")
      assert.strictEqual((yield* store.get("slack")).id, "s1")
    }).pipe(Effect.provide(emulator)))

  it.effect("list names its provider and alias, and delete takes them", () =>
    Effect.gen(function*() {
      const directory = yield* syncedDirectory
      yield* damage(directory, "g1")
      const store = yield* startOffline(directory)
      const summary = (yield* store.list).find(({ id }) => id === "g1")
      assert.deepInclude(summary, { ref: "google:Work", provider: "google", alias: "Work", status: "unreadable" })
      assert.isTrue(yield* store.delete("google:Work"))
      assert.isFalse(fs.existsSync(nameOf(directory)))
      assert.strictEqual((yield* store.get("google")).id, "g2")
    }).pipe(Effect.provide(emulator)))

  it.effect("delete of the provider's name deletes neither", () =>
    Effect.gen(function*() {
      const directory = yield* syncedDirectory
      yield* damage(directory, "g1")
      const store = yield* startOffline(directory)
      assert.strictEqual((yield* Effect.flip(store.delete("google")))._tag, "AmbiguousCredential")
      assert.strictEqual((yield* store.list).length, 3)
    }).pipe(Effect.provide(emulator)))
})

describe("CredentialStore: it is not known whose account it is that cannot be opened", () => {
  it.effect("Aden's list tells that the provider has several: AmbiguousCredential", () =>
    Effect.gen(function*() {
      const directory = yield* syncedDirectory
      yield* damage(directory, "g1")
      yield* forgetState(directory, "g1")
      const store = yield* startProcess(directory)
      assert.strictEqual((yield* Effect.flip(store.token("google")))._tag, "AmbiguousCredential")
    }).pipe(Effect.provide(emulator)))

  it.effect("Aden's list tells that the provider has one: it is served, and Aden is asked once", () =>
    Effect.gen(function*() {
      const directory = yield* syncedDirectory
      yield* damage(directory, "g1")
      yield* forgetState(directory, "g1")
      const aden = yield* AdenEmulator
      const before = yield* aden.countRequests({ endpoint: "list" })
      const store = yield* startProcess(directory)
      assert.strictEqual((yield* store.get("slack")).id, "s1")
      assert.strictEqual((yield* store.get("slack")).id, "s1")
      assert.strictEqual((yield* aden.countRequests({ endpoint: "list" })) - before, 1)
    }).pipe(Effect.provide(emulator)))

  it.effect("Aden cannot tell either: the error names the file, and provider:alias and exact ids are served", () =>
    Effect.gen(function*() {
      const directory = yield* syncedDirectory
      yield* damage(directory, "g1")
      yield* forgetState(directory, "g1")
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Status({ status: 503 }))
      for (const store of [yield* startProcess(directory), yield* startOffline(directory)]) {
        for (const refused of [Effect.asVoid(store.token("google")), Effect.asVoid(store.delete("google"))]) {
          const error = yield* Effect.flip(refused)
          assert.strictEqual(error._tag, "CredentialDecryptionFailed")
          assert.include(error.message, nameOf(directory))
        }
        assert.strictEqual((yield* store.get("google:Home")).id, "g2")
        assert.strictEqual((yield* store.get("g2")).id, "g2")
      }
    }).pipe(Effect.provide(emulator)))

  it.effect("explain sends no request, and list names no account by what could be another's name", () =>
    Effect.gen(function*() {
      const directory = yield* syncedDirectory
      yield* damage(directory, "g1")
      yield* forgetState(directory, "g1")
      const aden = yield* AdenEmulator
      const before = yield* aden.countRequests()
      const store = yield* startProcess(directory)
      assert.strictEqual((yield* store.explain("google")).id, "g2")
      assert.deepStrictEqual((yield* store.list).map(({ ref }) => ref), ["g1", "google:Home", "s1"])
      assert.strictEqual(yield* aden.countRequests(), before)
      yield* aden.setFault(Fault.Status({ status: 503 }))
      assert.strictEqual((yield* Effect.flip(store.token("google")))._tag, "CredentialDecryptionFailed")
    }).pipe(Effect.provide(emulator)))

  it.effect("Aden lists no account of the provider: the program's own is served", () =>
    Effect.gen(function*() {
      const directory = yield* syncedDirectory
      const store = yield* startProcess(directory)
      yield* store.save(Credential.fromAccessToken({
        id: "mine",
        provider: "notion",
        accessToken: Redacted.make("the program's own")
      }))
      yield* damage(directory, "foreign")
      assert.strictEqual((yield* (yield* startProcess(directory)).get("notion")).id, "mine")
    }).pipe(Effect.provide(emulator)))

  it.effect("a file that cannot be read counts too, and a link does not", () =>
    Effect.gen(function*() {
      const directory = yield* syncedDirectory
      const folder = path.join(directory, "credentials")
      fs.symlinkSync("/etc/hostname", path.join(folder, "zz.enc"))
      const beside = yield* startOffline(directory)
      assert.strictEqual((yield* beside.get("slack")).id, "s1")
      fs.mkdirSync(path.join(folder, "zy.enc"))
      const store = yield* startOffline(directory)
      assert.strictEqual((yield* store.get("google:Work")).id, "g1")
      const error = yield* Effect.flip(store.token("slack"))
      assert.strictEqual(error._tag, "CredentialStorageError")
      assert.include(error.message, "zy.enc")
    }).pipe(Effect.provide(emulator)))

  it.effect("once it is repaired or gone, the provider's name is served again", () =>
    Effect.gen(function*() {
      const directory = yield* syncedDirectory
      yield* damage(directory, "s1")
      yield* forgetState(directory, "s1")
      const store = yield* startOffline(directory)
      yield* store.delete("g2")
      assert.strictEqual((yield* Effect.flip(store.token("google")))._tag, "CredentialDecryptionFailed")
      assert.isTrue(yield* store.delete("s1"))
      assert.strictEqual((yield* store.get("google")).id, "g1")
      assert.deepStrictEqual(
        yield* CredentialStorage.use((storage) => storage.list).pipe(
          Effect.provide(files(directory))
        ),
        ["g1"]
      )
    }).pipe(Effect.provide(emulator)))
})
