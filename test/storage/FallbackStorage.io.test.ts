import { assert, describe, it } from "@effect/vitest"
import {
  Credential,
  CredentialProviders,
  CredentialState,
  CredentialStorage,
  CredentialStore,
  EncryptedFileStorage,
  EnvironmentStorage,
  FallbackStorage,
  MemoryStorage
} from "aden-credentials"
import type { StorageChange } from "aden-credentials"
import { ConfigProvider, Context, Deferred, Effect, Fiber, Layer, Option, Redacted, Stream } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { readOnlySuite, suite } from "./StorageContract.ts"
import { inDirectory, key, NodeFiles, otherKey, temporaryDirectory, TemporaryStorage } from "./temporaryStorage.ts"

type Storage = CredentialStorage["Service"]

const apiKey = (id: string, value: string) => Credential.fromApiKey({ id, apiKey: Redacted.make(value) })

const valueOf = (credential: Option.Option<Credential>): string | undefined => {
  const key = Option.getOrUndefined(credential)?.defaultKey
  return key === undefined ? undefined : Redacted.value(key.value)
}

const environment = (variables: Readonly<Record<string, string>>, names?: Readonly<Record<string, string>>) =>
  EnvironmentStorage.layer({ variables: names }).pipe(
    Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord({ ...variables })))
  )

const withStorage =
  <E>(layer: Layer.Layer<CredentialStorage, E>) => <A, E2>(use: (storage: Storage) => Effect.Effect<A, E2>) =>
    Effect.provide(CredentialStorage.use(use), layer)

/** A storage that a test looks at beside the one that is made of it. */
const memory = (credentials: ReadonlyArray<Credential> = []) =>
  Effect.map(Layer.build(Layer.fresh(MemoryStorage.layer(credentials))), Context.get(CredentialStorage))

/** A storage in a directory, under this key. */
const filesIn = (directory: string, keyText = key) =>
  EncryptedFileStorage.layer({ directory, keys: [keyText] }).pipe(Layer.provide(NodeFiles))

suite("FallbackStorage in memory, over an environment", FallbackStorage.layer([MemoryStorage.layer(), environment({})]))
suite("FallbackStorage of one", FallbackStorage.layer([MemoryStorage.layer()]))
readOnlySuite("FallbackStorage of environments", (values) => {
  const ids = Object.keys(values)
  const nth = (which: number) =>
    environment(
      Object.fromEntries(ids.map((id, index) => [`VALUE_${index}`, values[id] ?? ""])),
      Object.fromEntries(
        ids.flatMap((id, index) => index % 2 === which ? [[id, `VALUE_${index}`] as const] : [])
      )
    )
  return FallbackStorage.layer([nth(0), nth(1)])
})

describe("FallbackStorage", () => {
  const threeOf = Effect.gen(function*() {
    const first = yield* memory([apiKey("x", "first")])
    const second = yield* memory([apiKey("x", "second"), apiKey("y", "second")])
    const third = yield* memory([apiKey("y", "third"), apiKey("z", "third")])
    const layer = FallbackStorage.layer([
      Layer.succeed(CredentialStorage, first),
      Layer.succeed(CredentialStorage, second),
      Layer.succeed(CredentialStorage, third)
    ])
    return { first, second, third, use: withStorage(layer) }
  })

  it.effect("the first that has a credential answers, and all are listed, each once", () =>
    Effect.gen(function*() {
      const { use } = yield* threeOf
      yield* use(Effect.fnUntraced(function*(storage) {
        assert.strictEqual(valueOf(yield* storage.load("x")), "first")
        assert.strictEqual(valueOf(yield* storage.load("y")), "second")
        assert.strictEqual(valueOf(yield* storage.load("z")), "third")
        assert.isTrue(Option.isNone(yield* storage.load("absent")))
        assert.isTrue(yield* storage.exists("z"))
        assert.isFalse(yield* storage.exists("absent"))
        assert.deepStrictEqual([...yield* storage.list].toSorted(), ["x", "y", "z"])
      }))
    }))

  it.effect("what is written goes to the primary alone, and hides what the others have", () =>
    Effect.gen(function*() {
      const { first, second, use } = yield* threeOf
      yield* use(Effect.fnUntraced(function*(storage) {
        yield* storage.save(apiKey("y", "new"))
        yield* storage.saveMany([apiKey("z", "new")])
        assert.strictEqual(valueOf(yield* storage.load("y")), "new")
        assert.strictEqual(valueOf(yield* storage.load("z")), "new")
        assert.strictEqual(valueOf(yield* first.load("y")), "new")
        assert.strictEqual(valueOf(yield* second.load("y")), "second")
      }))
    }))

  it.effect("what is deleted in the primary shows again as another one has it; what only others have stays", () =>
    Effect.gen(function*() {
      const { second, use } = yield* threeOf
      yield* use(Effect.fnUntraced(function*(storage) {
        assert.isTrue(yield* storage.delete("x"))
        assert.strictEqual(valueOf(yield* storage.load("x")), "second")
        assert.isTrue(yield* storage.exists("x"))
        assert.isFalse(yield* storage.delete("x"))
        assert.strictEqual(valueOf(yield* second.load("x")), "second")
      }))
    }))

  it.effect("generations and state records are the primary's", () =>
    Effect.gen(function*() {
      const { first, second, use } = yield* threeOf
      yield* use(Effect.fnUntraced(function*(storage) {
        assert.strictEqual((yield* second.loadState("y")).generation, 1)
        assert.strictEqual((yield* storage.loadState("y")).generation, 0)
        yield* storage.saveState("y", new CredentialState({ generation: 0, lastError: "AdenUnavailable" }))
        assert.strictEqual((yield* first.loadState("y")).lastError, "AdenUnavailable")
        assert.isUndefined((yield* second.loadState("y")).lastError)
        yield* storage.save(apiKey("y", "renewed"), { expectedGeneration: 0 })
        const conflict = yield* Effect.flip(storage.save(apiKey("y", "late"), { expectedGeneration: 0 }))
        assert.strictEqual(conflict._tag, "GenerationConflict")
        assert.strictEqual(valueOf(yield* storage.load("y")), "renewed")
      }))
    }))

  it.effect("the lock is the primary's", () =>
    Effect.gen(function*() {
      const { first, use } = yield* threeOf
      yield* use(Effect.fnUntraced(function*(storage) {
        const gate = yield* Deferred.make<void>()
        const holder = yield* first.withLock("x", Deferred.await(gate)).pipe(
          Effect.forkChild({ startImmediately: true })
        )
        const waiter = yield* storage.withLock("x", Effect.succeed("held")).pipe(
          Effect.forkChild({ startImmediately: true })
        )
        yield* Effect.yieldNow
        assert.isUndefined(waiter.pollUnsafe())
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(holder)
        assert.strictEqual(yield* Fiber.join(waiter), "held")
      }))
    }))

  it.effect("reads the credential of the first that has it, with the state of the primary", () =>
    Effect.gen(function*() {
      const { first, second, use } = yield* threeOf
      yield* use(Effect.fnUntraced(function*(storage) {
        yield* second.save(apiKey("shared", "1"))
        yield* second.save(apiKey("shared", "second"))
        const state = new CredentialState({ generation: 0, lastError: "AdenUnavailable" })
        yield* storage.saveState("shared", state)
        const hidden = yield* storage.read("shared")
        assert.strictEqual(valueOf(hidden.credential), "second")
        assert.deepStrictEqual(hidden.state, state)
        // a save that expects what was read is the primary's first
        assert.strictEqual(yield* storage.save(apiKey("shared", "first"), { expectedGeneration: 0 }), 1)
        const saved = yield* storage.read("shared")
        assert.strictEqual(valueOf(saved.credential), "first")
        assert.deepStrictEqual(saved, yield* first.read("shared"))
      }))
    }))

  it.effect("tells of the changes of all, with the generation where it is the primary's", () =>
    Effect.gen(function*() {
      const { first, second, third, use } = yield* threeOf
      yield* use(Effect.fnUntraced(function*(storage) {
        const seen = yield* storage.changes.pipe(
          Stream.take(3),
          Stream.runCollect,
          Effect.forkChild({ startImmediately: true })
        )
        yield* first.save(apiKey("a", "1"))
        yield* second.save(apiKey("b", "1"))
        yield* third.delete("z")
        const changes: ReadonlyArray<StorageChange> = Array.from(yield* Fiber.join(seen))
        assert.sameDeepMembers([...changes], [
          { _tag: "Saved", id: "a", generation: 1 },
          { _tag: "Saved", id: "b", generation: undefined },
          { _tag: "Deleted", id: "z", generation: undefined }
        ])
      }))
    }))

  it.effect("a layer that is named twice, or provided elsewhere too, is a storage of its own each time", () =>
    Effect.gen(function*() {
      const shared = MemoryStorage.layer()
      yield* Effect.gen(function*() {
        const elsewhere = yield* CredentialStorage
        const storage = Context.get(yield* Layer.build(FallbackStorage.layer([shared, shared])), CredentialStorage)
        yield* storage.save(apiKey("x", "1"))
        assert.isTrue(yield* storage.delete("x"))
        assert.isFalse(yield* storage.exists("x"), "the second is not the first")
        yield* storage.save(apiKey("y", "1"))
        assert.isFalse(yield* elsewhere.exists("y"))
      }).pipe(Effect.provide(shared))
    }))

  describe("a storage that fails", () => {
    it.effect("an entry of the primary that cannot be opened is its error, never another's credential", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory, [otherKey])((storage) => storage.save(apiKey("x", "unreadable")))
        yield* withStorage(FallbackStorage.layer([filesIn(directory), MemoryStorage.layer([apiKey("x", "other")])]))(
          Effect.fnUntraced(function*(storage) {
            const error = yield* Effect.flip(storage.load("x"))
            assert.strictEqual(error._tag, "CredentialDecryptionFailed")
            assert.isTrue(yield* storage.exists("x"))
            assert.deepStrictEqual(yield* storage.list, ["x"])
            assert.strictEqual(
              (yield* Effect.flip(storage.save(apiKey("x", "new"))))._tag,
              "CredentialDecryptionFailed"
            )
            // deleted because a person asked, it makes way for what the next one has
            assert.isTrue(yield* storage.delete("x"))
            assert.strictEqual(valueOf(yield* storage.load("x")), "other")
          })
        )
      }))

    it.effect("a disk that does not answer is an error too: what it would have said is not known", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        fs.writeFileSync(path.join(directory, "credentials"), "not a directory")
        yield* withStorage(FallbackStorage.layer([filesIn(directory), MemoryStorage.layer([apiKey("x", "other")])]))(
          Effect.fnUntraced(function*(storage) {
            for (
              const attempt of [
                Effect.asVoid(storage.load("x")),
                Effect.asVoid(storage.exists("x")),
                Effect.asVoid(storage.list)
              ]
            ) {
              const error = yield* Effect.flip(attempt)
              assert.strictEqual(error._tag, "CredentialStorageError")
              assert.include(error.message, "is not a directory")
            }
          })
        )
      }))

    it.effect("one that does not have to be asked does no harm", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        fs.writeFileSync(path.join(directory, "credentials"), "not a directory")
        yield* withStorage(FallbackStorage.layer([MemoryStorage.layer([apiKey("x", "first")]), filesIn(directory)]))(
          Effect.fnUntraced(function*(storage) {
            assert.strictEqual(valueOf(yield* storage.load("x")), "first")
            assert.strictEqual((yield* Effect.flip(storage.load("absent")))._tag, "CredentialStorageError")
          })
        )
      }))

    it.effect("one that cannot be built fails the whole, before anything is asked", () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(
          withStorage(FallbackStorage.layer([MemoryStorage.layer(), environment({}, { github: "NO-NAME" })]))(
            () => Effect.void
          )
        )
        assert.strictEqual(error._tag, "AdenConfigError")
      }))
  })

  it.effect("a store takes an API key from the environment until one is saved", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      assert.strictEqual(Redacted.value(yield* store.token("brave")), "from the environment")
      yield* store.save(apiKey("brave", "saved"))
      assert.strictEqual(Redacted.value(yield* store.token("brave")), "saved")
      assert.isTrue(yield* store.delete("brave"))
      assert.strictEqual(Redacted.value(yield* store.token("brave")), "from the environment")
    }).pipe(
      Effect.provide(
        CredentialStore.layer().pipe(
          Layer.provide([
            CredentialProviders.layerNone,
            FallbackStorage.layer([TemporaryStorage, environment({ BRAVE_API_KEY: "from the environment" })])
          ])
        )
      )
    ))
})
