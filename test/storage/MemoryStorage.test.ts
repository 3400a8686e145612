import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Redacted } from "effect"
import { inspect } from "node:util"
import { Credential } from "../../src/model/Credential.ts"
import { CredentialStorage } from "../../src/storage/CredentialStorage.ts"
import { MemoryStorage } from "../../src/storage/MemoryStorage.ts"
import { suite } from "./StorageContract.ts"

suite("MemoryStorage", MemoryStorage.layer())

describe("MemoryStorage", () => {
  const credential = Credential.fromApiKey({ id: "brave_search", apiKey: Redacted.make("BSA-secret") })

  it.effect("begins with the credentials given", () =>
    Effect.gen(function*() {
      const storage = yield* CredentialStorage
      assert.deepStrictEqual(yield* storage.list, ["brave_search"])
      assert.isTrue(Option.isSome(yield* storage.load("brave_search")))
      assert.strictEqual((yield* storage.loadState("brave_search")).generation, 1)
      assert.notInclude(inspect(yield* storage.load("brave_search"), { depth: Infinity }), "BSA-secret")
    }).pipe(Effect.provide(MemoryStorage.layer([credential]))))

  it.effect("is a storage of its own with each layer", () =>
    Effect.gen(function*() {
      yield* CredentialStorage.use((storage) => storage.save(credential)).pipe(Effect.provide(MemoryStorage.layer()))
      const ids = yield* CredentialStorage.use((storage) => storage.list).pipe(Effect.provide(MemoryStorage.layer()))
      assert.deepStrictEqual(ids, [])
    }))
})
