/** The table "Outcomes" of docs/semantics.md: the row of files that cannot be decrypted. `outcomes.test.ts` has the others. */
import { assert, describe, it } from "@effect/vitest"
import { CredentialStore } from "aden-credentials"
import { Effect, FileSystem, Layer, Path, type Redacted } from "effect"
import { EncryptedFileStorage } from "../../src/storage/files/EncryptedFileStorage.ts"
import { count, oneHour, storeLayer, token } from "../fixtures/emulatedStore.ts"
import { memoryAden } from "../fixtures/memoryAden.ts"
import { key, NodeFiles, otherKey, temporaryDirectory } from "../storage/temporaryStorage.ts"

describe("undecryptable", () => {
  const storedUnder = (directory: string, encryptionKey: Redacted.Redacted<string>) =>
    Layer.fresh(storeLayer()).pipe(
      Layer.provide(EncryptedFileStorage.layer({ directory, keys: [encryptionKey] })),
      Layer.provide(NodeFiles)
    )

  for (const [name, isForeign] of [["another key's", true], ["a torn", false]] as const) {
    it.effect(`${name} file: CredentialDecryptionFailed naming the file, which is left as it is, whatever Aden has`, () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const fs = yield* FileSystem.FileSystem
        const path = yield* Path.Path
        yield* Effect.provide(token("hubspot"), storedUnder(directory, key))
        const file = path.join(directory, "credentials", "hubspot.enc")
        if (!isForeign) {
          const whole = yield* fs.readFile(file)
          yield* fs.writeFile(file, whole.subarray(0, whole.length / 2))
        }
        const before = yield* fs.readFile(file)
        const asks = yield* count("get")
        yield* Effect.gen(function*() {
          const store = yield* CredentialStore
          const error = yield* Effect.flip(store.token("hubspot"))
          assert.strictEqual(error._tag, "CredentialDecryptionFailed")
          assert.include(error.message, file)
          assert.strictEqual(yield* count("get"), asks)
          const { failed, synced } = yield* store.sync
          assert.deepStrictEqual(failed.map(({ error, id }) => [id, error._tag]), [
            ["hubspot", "CredentialDecryptionFailed"]
          ])
          assert.deepStrictEqual(synced, [])
        }).pipe(Effect.provide(storedUnder(directory, isForeign ? otherKey : key)))
        assert.deepStrictEqual(yield* fs.readFile(file), before)
      }).pipe(Effect.provide([memoryAden(oneHour), NodeFiles])))
  }
})
