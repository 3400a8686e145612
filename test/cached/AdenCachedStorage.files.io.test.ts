import { assert, describe, it } from "@effect/vitest"
import { AdenCachedStorage, AdenSyncProvider, CredentialStorage, EncryptedFileStorage } from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { Context, Effect, FileSystem, Layer, Path } from "effect"
import { TestClock } from "effect/testing"
import { client } from "../fixtures/emulatedStore.ts"
import { memoryAden } from "../fixtures/memoryAden.ts"
import { key, NodeFiles, temporaryDirectory } from "../storage/temporaryStorage.ts"

describe("AdenCachedStorage over files", () => {
  it.effect("what cannot be opened is an error, and Aden is not asked", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const directory = yield* temporaryDirectory
      const cached = Context.get(
        yield* Layer.build(
          AdenCachedStorage.layer().pipe(
            Layer.provide(AdenSyncProvider.layer()),
            Layer.provide(client()),
            Layer.provide(EncryptedFileStorage.layer({ directory, keys: [key] }))
          )
        ),
        CredentialStorage
      )
      yield* cached.load("github")
      const file = path.join(directory, "credentials", "github.enc")
      yield* fs.writeFileString(file, "torn")
      yield* TestClock.adjust("1 hour")
      const before = yield* aden.countRequests()
      assert.strictEqual((yield* Effect.flip(cached.load("github")))._tag, "CredentialDecryptionFailed")
      assert.strictEqual(yield* aden.countRequests(), before)
      assert.strictEqual(yield* fs.readFileString(file), "torn")
    }).pipe(Effect.scoped, Effect.provide([memoryAden({ integrations: [{ id: "github" }] }), NodeFiles])))
})
