import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, it } from "@effect/vitest"
import { Credential, CredentialProviders, CredentialStore, EncryptedFileStorage, Fernet } from "aden-credentials"
import { Context, Effect, Exit, FileSystem, Layer, Redacted } from "effect"
import { eventuallyOnDisk } from "../fixtures/emulatedStore.ts"

const credential = (apiKey: string) => Credential.fromApiKey({ id: "own", apiKey: Redacted.make(apiKey) })

it.live("what one store saves in files, another over the same storage serves at once", () =>
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const storage = yield* Layer.build(EncryptedFileStorage.layer({
      directory: yield* fs.makeTempDirectoryScoped(),
      keys: [yield* Fernet.generateKey]
    }))
    const store = Layer.build(Layer.fresh(CredentialStore.layer())).pipe(
      Effect.provideContext(storage),
      Effect.provide(CredentialProviders.layerNone),
      Effect.map((context) => Context.get(context, CredentialStore))
    )
    const [first, second] = [yield* store, yield* store]
    yield* first.save(credential("one"))
    const token = Effect.map(second.token("own"), Redacted.value)
    assert.strictEqual(yield* token, "one")
    yield* first.save(credential("two"))
    yield* eventuallyOnDisk(Effect.map(token, (current) => current === "two"))
    yield* first.delete("own")
    yield* eventuallyOnDisk(Effect.map(Effect.exit(token), Exit.isFailure))
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
