import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Credential, CredentialStorage, CredentialStore, EncryptedFileStorage } from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { Context, Effect, Fiber, Layer, Option, Redacted, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { setup, storeLayer, token } from "./fixtures/emulatedStore.ts"

// What one part of a program, or another process, does while the store is in the middle of something.

const files = Layer.unwrap(Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "aden-credentials-"))),
    (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true, force: true }))
  ),
  (directory) =>
    EncryptedFileStorage.layer({
      directory,
      keys: [Redacted.make("DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus=")]
    }).pipe(Layer.provide(NodeServices.layer))
))

const own = Credential.fromApiKey({ id: "hubspot", apiKey: Redacted.make("the program's own") })

const many = Array.from({ length: 100 }, (_, index) => ({ id: index === 20 ? "hubspot" : `integration-${index}` }))

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
