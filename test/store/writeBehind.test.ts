import { assert, describe, it } from "@effect/vitest"
import { CredentialStorage, CredentialStorageError, CredentialStore, StorageIoFailed } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Context, Effect, Fiber, Layer, Option, Redacted } from "effect"
import { TestClock } from "effect/testing"
import { decorate } from "../../src/storage/decorate.ts"
import { count, eventually, setup, storeLayer } from "../fixtures/emulatedStore.ts"

// What one host could not save while storage was away from it, and others saved or learnt in that time.

const setting = setup({
  aden: { integrations: [{ id: "x", tokenLifetime: "1 hour" }, { id: "y", tokenLifetime: "1 hour" }] }
})

/** One more host over the same storage, which can be cut off from it. */
const startHost = Effect.gen(function*() {
  const shared = yield* CredentialStorage
  const control = { isAway: false, refused: undefined as string | undefined }
  const failing = <A, E>(id: string, operation: Effect.Effect<A, E>) =>
    Effect.suspend((): Effect.Effect<A, E | CredentialStorageError> =>
      control.isAway || control.refused === id
        ? Effect.fail(
          new CredentialStorageError({
            id,
            operation: "test",
            reason: new StorageIoFailed({ location: "the database", detail: "it is away" })
          })
        )
        : operation
    )
  const storage = decorate(shared, {
    read: (id) => failing(id, shared.read(id)),
    load: (id) => failing(id, shared.load(id)),
    loadState: (id) => failing(id, shared.loadState(id)),
    save: (credential, options) => failing(credential.id, shared.save(credential, options)),
    saveState: (id, state) => failing(id, shared.saveState(id, state)),
    withLock: (id, effect) => Effect.suspend(() => control.isAway ? effect : shared.withLock(id, effect))
  })
  const layer = Layer.fresh(storeLayer()).pipe(Layer.provide(Layer.succeed(CredentialStorage, storage)))
  const store = Context.get(yield* Layer.build(layer), CredentialStore)
  yield* store.token("x")
  yield* store.token("y")
  return { store, control }
})

const storedToken = (id: string) =>
  Effect.map(
    CredentialStorage.use((storage) => storage.load(id)),
    Option.map((credential) => credential.defaultKey === undefined ? "" : Redacted.value(credential.defaultKey.value))
  )

const readToken = (store: CredentialStore["Service"], id: string) => Effect.map(store.token(id), Redacted.value)

describe("CredentialStore: what could not be saved", () => {
  it.effect("is saved a second after storage is back", () =>
    Effect.gen(function*() {
      const { control, store } = yield* startHost
      control.isAway = true
      yield* store.refresh("x")
      control.isAway = false
      yield* TestClock.adjust("1 second")
      const token = yield* readToken(store, "x")
      yield* eventually(Effect.map(storedToken("x"), Option.contains(token)))
    }).pipe(Effect.provide(setting)))

  it.effect("does not take the place of what another host has renewed since", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const one = yield* startHost
      const other = yield* startHost
      one.control.isAway = true
      yield* one.store.refresh("x")
      yield* TestClock.adjust("2 minutes")
      yield* aden.setFault(Fault.Latency({ duration: "3 seconds" }), { endpoint: "refresh" })
      const asked = yield* count("refresh")
      const renewing = yield* Effect.forkChild(other.store.refresh("x"), { startImmediately: true })
      yield* eventually(Effect.map(count("refresh"), (now) => now > asked))
      one.control.isAway = false
      yield* TestClock.adjust("2 seconds")
      const late = yield* readToken(one.store, "x")
      yield* eventually(Effect.map(storedToken("x"), Option.contains(late)))
      yield* TestClock.adjust("2 seconds")
      const { defaultKey } = yield* Fiber.join(renewing)
      const newest = defaultKey === undefined ? "" : Redacted.value(defaultKey.value)
      assert.notStrictEqual(newest, late)
      assert.deepStrictEqual(yield* storedToken("x"), Option.some(newest))
    }).pipe(Effect.provide(setting)))

  it.effect("gives way to a newer token of another host that ends earlier", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const one = yield* startHost
      const other = yield* startHost
      one.control.isAway = true
      yield* one.store.refresh("x")
      const late = yield* readToken(one.store, "x")
      yield* TestClock.adjust("2 minutes")
      yield* aden.addIntegration({ id: "x", tokenLifetime: "20 minutes" })
      yield* other.store.refresh("x")
      const newest = yield* readToken(other.store, "x")
      assert.notStrictEqual(newest, late)
      one.control.isAway = false
      yield* TestClock.adjust("2 seconds")
      yield* eventually(Effect.map(readToken(one.store, "x"), (token) => token === newest))
      assert.deepStrictEqual(yield* storedToken("x"), Option.some(newest))
    }).pipe(Effect.provide(setting)))

  it.effect("does not undo that another host has found it blocked since", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const one = yield* startHost
      const other = yield* startHost
      one.control.isAway = true
      yield* one.store.refresh("x")
      const unsaved = yield* readToken(one.store, "x")
      yield* TestClock.adjust("10 seconds")
      yield* aden.revoke("x")
      assert.strictEqual((yield* Effect.flip(other.store.refresh("x")))._tag, "ReauthRequired")
      one.control.isAway = false
      yield* TestClock.adjust("2 seconds")
      yield* eventually(Effect.map(storedToken("x"), Option.contains(unsaved)))
      const state = yield* CredentialStorage.use((storage) => storage.loadState("x"))
      assert.isDefined(state.blockedSince)
      for (const { store } of [one, other]) {
        assert.strictEqual((yield* Effect.flip(store.token("x")))._tag, "ReauthRequired")
      }
    }).pipe(Effect.provide(setting)))

  it.effect("does not keep others from being saved", () =>
    Effect.gen(function*() {
      const { control, store } = yield* startHost
      control.isAway = true
      yield* store.refresh("x")
      yield* store.refresh("y")
      control.refused = "x"
      control.isAway = false
      for (let second = 0; second < 4; second++) yield* TestClock.adjust("1 second")
      const token = yield* readToken(store, "y")
      yield* eventually(Effect.map(storedToken("y"), Option.contains(token)))
    }).pipe(Effect.provide(setting)))
})
