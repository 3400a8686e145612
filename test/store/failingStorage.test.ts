import { assert, describe, it } from "@effect/vitest"
import {
  Credential,
  CredentialStorage,
  CredentialStorageError,
  CredentialStore,
  StorageIoFailed
} from "aden-credentials"
import { Context, type Duration, Effect, Fiber, Layer, Redacted } from "effect"
import { TestClock } from "effect/testing"
import { decorate } from "../../src/storage/decorate.ts"
import { forever, setup, storeLayer, turn } from "../fixtures/emulatedStore.ts"

/** A store over storage in memory whose reads can fail, and whose writes can go on without ever telling that they are done. */
const startStore = Effect.gen(function*() {
  const memory = yield* CredentialStorage
  const control = { reads: 0, readsFail: false, writesHang: false, writesTake: "0 seconds" as Duration.Input }
  const writing = <A, E>(write: Effect.Effect<A, E>) =>
    Effect.suspend(() =>
      Effect.delay(write, control.writesTake).pipe(
        Effect.tap(() => control.writesHang ? Effect.never : Effect.void)
      )
    )
  const storage = decorate(memory, {
    read: (id) =>
      Effect.suspend(() => {
        control.reads++
        return control.readsFail
          ? Effect.fail(
            new CredentialStorageError({
              id,
              operation: "read",
              reason: new StorageIoFailed({ location: "the disk", detail: "it fails" })
            })
          )
          : memory.read(id)
      }),
    save: (credential, options) => writing(memory.save(credential, options)),
    delete: (id, options) => writing(memory.delete(id, options))
  })
  const layer = Layer.fresh(storeLayer()).pipe(Layer.provide(Layer.succeed(CredentialStorage, storage)))
  const store = Context.get(yield* Layer.build(layer), CredentialStore)
  return { store, control }
})

const apiKey = (value: string) => Credential.fromApiKey({ id: "weather", apiKey: Redacted.make(value) })

const read = (store: CredentialStore["Service"]) => Effect.map(store.token("weather"), Redacted.value)

const interrupted = Effect.fnUntraced(function*<A, E>(effect: Effect.Effect<A, E>) {
  const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
  for (let turns = 0; turns < 5; turns++) yield* turn
  yield* Fiber.interrupt(fiber)
})

describe("CredentialStore over storage that fails", () => {
  it.effect("the program's own is served from memory, and is not read again at every read", () =>
    Effect.gen(function*() {
      const { control, store } = yield* startStore
      yield* store.save(apiKey("first"))
      control.readsFail = true
      yield* TestClock.adjust("10 minutes")
      control.reads = 0
      for (let second = 0; second < 120; second++) {
        assert.strictEqual(yield* read(store), "first")
        yield* TestClock.adjust("1 second")
      }
      assert.isAtLeast(control.reads, 2)
      assert.isAtMost(control.reads, 20)
    }).pipe(Effect.provide(setup({ aden: forever }))))

  it.effect("what a save that was interrupted has stored is served as soon as storage can be read", () =>
    Effect.gen(function*() {
      const { control, store } = yield* startStore
      yield* store.save(apiKey("first"))
      control.writesHang = true
      yield* interrupted(store.save(apiKey("second")))
      control.readsFail = true
      assert.strictEqual(yield* read(store), "first")
      control.readsFail = false
      assert.strictEqual(yield* read(store), "second")
    }).pipe(Effect.provide(setup({ aden: forever }))))

  it.effect("what a deletion that was interrupted may have deleted is not served while storage cannot be read", () =>
    Effect.gen(function*() {
      const { control, store } = yield* startStore
      yield* store.save(apiKey("first"))
      control.writesHang = true
      yield* interrupted(store.delete("weather"))
      control.readsFail = true
      assert.strictEqual((yield* Effect.flip(read(store)))._tag, "CredentialStorageError")
      control.readsFail = false
      assert.strictEqual((yield* Effect.flip(read(store)))._tag, "CredentialNotFound")
    }).pipe(Effect.provide(setup({ aden: forever }))))

  it.effect("a save that was given up and arrives late does not replace a later one", () =>
    Effect.gen(function*() {
      const { control, store } = yield* startStore
      yield* store.save(apiKey("first"))
      control.writesTake = "40 seconds"
      const late = yield* Effect.forkChild(Effect.flip(store.save(apiKey("late"))), { startImmediately: true })
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual((yield* Fiber.join(late))._tag, "CredentialStorageError")
      control.writesTake = "0 seconds"
      yield* store.save(apiKey("last"))
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(yield* read(store), "last")
    }).pipe(Effect.provide(setup({ aden: forever }))))

  it.effect("a deletion that was given up and arrives late does not delete what was saved since", () =>
    Effect.gen(function*() {
      const { control, store } = yield* startStore
      yield* store.save(apiKey("first"))
      control.writesTake = "40 seconds"
      const late = yield* Effect.forkChild(Effect.flip(store.delete("weather")), { startImmediately: true })
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual((yield* Fiber.join(late))._tag, "CredentialStorageError")
      control.writesTake = "0 seconds"
      yield* store.save(apiKey("last"))
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(yield* read(store), "last")
    }).pipe(Effect.provide(setup({ aden: forever }))))

  it.effect("a save and a deletion that wait for their turn among other writers succeed", () =>
    Effect.gen(function*() {
      const { control, store } = yield* startStore
      control.writesTake = "20 seconds"
      const saving = yield* Effect.forkChild(store.save(apiKey("first")), { startImmediately: true })
      yield* TestClock.adjust("20 seconds")
      yield* Fiber.join(saving)
      assert.strictEqual(yield* read(store), "first")
      const deleting = yield* Effect.forkChild(store.delete("weather"), { startImmediately: true })
      yield* TestClock.adjust("20 seconds")
      assert.isTrue(yield* Fiber.join(deleting))
    }).pipe(Effect.provide(setup({ aden: forever }))))

  it.effect("the program's save and deletion go over what another program has saved since", () =>
    Effect.gen(function*() {
      const { store } = yield* startStore
      const storage = yield* CredentialStorage
      yield* store.save(apiKey("first"))
      yield* storage.save(apiKey("another's"))
      yield* store.save(apiKey("second"))
      assert.strictEqual(yield* read(store), "second")
      yield* storage.save(apiKey("another's again"))
      assert.isTrue(yield* store.delete("weather"))
      assert.isFalse(yield* store.delete("weather"))
      assert.isFalse(yield* storage.exists("weather"))
    }).pipe(Effect.provide(setup({ aden: forever }))))
})
