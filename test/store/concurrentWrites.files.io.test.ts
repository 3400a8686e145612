import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Credential, CredentialStorage, CredentialStore, EncryptedFileStorage } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Context, Effect, Fiber, FileSystem, Layer, Option, PlatformError, Redacted, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { count, eventuallyOnDisk, oneHour, setup, storeLayer, token } from "../fixtures/emulatedStore.ts"
import { repeats } from "../fixtures/repeats.ts"

// What one part of a program, or another process, does while the store writes files, or reads them.

/** Whether the disk takes a credential too, and not only small files. */
const isRoom = { left: true }

const disk = Layer.effect(
  FileSystem.FileSystem,
  Effect.gen(function*() {
    const real = yield* FileSystem.FileSystem
    return FileSystem.FileSystem.of({
      ...real,
      rename: (from, to) =>
        !isRoom.left && to.endsWith(".enc")
          ? Effect.fail(PlatformError.systemError({
            _tag: "Unknown",
            module: "FileSystem",
            method: "rename",
            description: "ENOSPC: no space left on device"
          }))
          : real.rename(from, to)
    })
  })
)

const files = Layer.unwrap(Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "aden-credentials-"))),
    (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true, force: true }))
  ),
  (directory) =>
    EncryptedFileStorage.layer({
      directory,
      keys: [Redacted.make("DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus=")]
    })
)).pipe(
  Layer.provide(disk),
  Layer.provide(NodeServices.layer)
)

const own = Credential.fromApiKey({ id: "hubspot", apiKey: Redacted.make("the program's own") })

const many = Array.from(
  { length: repeats(100, 2) },
  (_, index) => ({ id: index === 20 ? "hubspot" : `integration-${index}` })
)

/** The store of one more process over the same storage. */
const startProcess = Effect.map(Layer.build(Layer.fresh(storeLayer())), Context.get(CredentialStore))

describe("CredentialStore: the program changes a credential while a sync writes its batch", () => {
  const syncDuring = <A, E>(change: Effect.Effect<A, E>) =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      const changing = yield* storage.changes.pipe(
        Stream.filter(({ id }) => id === "hubspot"),
        Stream.take(1),
        Stream.runForEach(() => change),
        Effect.forkChild({ startImmediately: true })
      )
      yield* store.sync
      yield* Fiber.join(changing)
    })

  it.effect("saved: its own is stored and served", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* syncDuring(store.save(own))
      assert.strictEqual(yield* token("hubspot"), "the program's own")
      const stored = yield* CredentialStorage.use((storage) => storage.load("hubspot"))
      assert.isTrue(Option.exists(stored, ({ providerId }) => providerId === undefined))
    }).pipe(Effect.provide(setup({ storage: files, aden: { integrations: many } }))))

  it.effect("deleted: memory and storage agree", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* syncDuring(store.delete("hubspot"))
      const stored = yield* CredentialStorage.use((storage) => storage.exists("hubspot"))
      assert.isFalse(stored)
      assert.strictEqual((yield* Effect.flip(store.explain("hubspot")))._tag, "CredentialNotFound")
    }).pipe(Effect.provide(setup({ storage: files, aden: { integrations: many } }))))
})

describe("CredentialStore: the program changes a credential while Aden is asked", () => {
  it.live("invalidated, deleted and saved during a sync: its own is stored and served", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const aden = yield* AdenEmulator
      yield* store.token("hubspot")
      yield* store.invalidate("hubspot")
      const asked = yield* count("get")
      yield* aden.setFault(Fault.Latency({ duration: "1 second" }), { endpoint: "get" })
      const syncing = yield* Effect.forkChild(store.sync, { startImmediately: true })
      yield* eventuallyOnDisk(Effect.map(count("get"), (now) => now > asked))
      yield* store.delete("hubspot")
      yield* store.save(own)
      const report = yield* Fiber.join(syncing)
      assert.deepStrictEqual(report.skipped.map(({ id, reason }) => [id, reason]), [["hubspot", "OwnedElsewhere"]])
      const stored = yield* CredentialStorage.use((storage) => storage.load("hubspot"))
      assert.isTrue(Option.exists(stored, ({ providerId }) => providerId === undefined))
      assert.strictEqual(yield* token("hubspot"), "the program's own")
    }).pipe(Effect.provide(setup({ storage: files, aden: oneHour }))))

  it.live("another process deletes it during its renewal: memory does not keep what storage lacks", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const aden = yield* AdenEmulator
      const there = yield* startProcess
      yield* store.token("hubspot")
      const asked = yield* count("refresh")
      yield* aden.setFault(Fault.Latency({ duration: "1 second" }), { endpoint: "refresh" })
      const refreshing = yield* Effect.forkChild(store.refresh("hubspot"), { startImmediately: true })
      yield* eventuallyOnDisk(Effect.map(count("refresh"), (now) => now > asked))
      yield* there.delete("hubspot")
      yield* Fiber.join(refreshing)
      assert.strictEqual((yield* Effect.flip(store.explain("hubspot")))._tag, "CredentialNotFound")
    }).pipe(Effect.provide(setup({ storage: files, aden: oneHour }))))
})

describe("CredentialStore: the disk takes the state, and not the credential", () => {
  it.effect("renewals go on in memory, and are saved once the disk takes them again", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      let last = yield* token("hubspot")
      isRoom.left = false
      yield* Effect.addFinalizer(() => Effect.sync(() => isRoom.left = true))
      for (let hour = 0; hour < 4; hour++) {
        yield* TestClock.adjust("61 minutes")
        const renewed = yield* token("hubspot")
        assert.notStrictEqual(renewed, last)
        const forced = yield* store.refresh("hubspot")
        last = yield* token("hubspot")
        assert.strictEqual(forced.defaultKey === undefined ? undefined : Redacted.value(forced.defaultKey.value), last)
      }
      isRoom.left = true
      yield* store.refresh("hubspot")
      const stored = yield* CredentialStorage.use((storage) => storage.load("hubspot"))
      assert.strictEqual(
        Option.getOrUndefined(Option.map(stored, ({ defaultKey }) => defaultKey && Redacted.value(defaultKey.value))),
        yield* token("hubspot")
      )
    }).pipe(Effect.provide(setup({ storage: files, aden: oneHour }))))
})

describe("CredentialStore: another process deletes and saves under an id that is being renewed", () => {
  it.live("what it saved is not overwritten", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const aden = yield* AdenEmulator
      const there = yield* startProcess
      yield* store.token("hubspot")
      const asked = yield* count("refresh")
      yield* aden.setFault(Fault.Latency({ duration: "1 second" }), { endpoint: "refresh" })
      const refreshing = yield* Effect.forkChild(store.refresh("hubspot"), { startImmediately: true })
      yield* eventuallyOnDisk(Effect.map(count("refresh"), (now) => now > asked))
      yield* there.delete("hubspot")
      yield* there.save(own)
      yield* Fiber.join(refreshing)
      const stored = yield* CredentialStorage.use((storage) => storage.load("hubspot"))
      assert.isTrue(Option.exists(stored, ({ providerId }) => providerId === undefined))
    }).pipe(Effect.provide(setup({ storage: files, aden: oneHour }))))
})

describe("CredentialStore: another process adds a second account of a provider", () => {
  it.effect("the provider's name becomes ambiguous once what is known is older than cacheTtl, as after a restart", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const here = yield* CredentialStore
      const there = yield* startProcess
      yield* here.token("google")
      yield* here.token("google") // found in storage from now on
      yield* aden.addIntegration({ id: "g2", type: "google", alias: "home" })
      yield* there.sync
      assert.strictEqual((yield* Effect.flip(there.token("google")))._tag, "AmbiguousCredential")
      yield* TestClock.adjust("301 seconds")
      assert.strictEqual((yield* Effect.flip(here.token("google")))._tag, "AmbiguousCredential")
      assert.strictEqual((yield* here.get("google:work")).id, "g1")
    }).pipe(
      Effect.provide(setup({ storage: files, aden: { integrations: [{ id: "g1", type: "google", alias: "work" }] } }))
    ))
})
