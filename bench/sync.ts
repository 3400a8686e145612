/**
 * How long a synchronisation takes against asking for one integration after another, in one run: 500 integrations at a server
 * that answers each request after 20 ms. Run by `npm run bench:sync`; exits 1 when it takes a tenth or more.
 */
import { AdenClient, AdenSyncProvider, CredentialStore, EncryptedFileStorage, Fernet } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Duration, Effect, FileSystem, Layer } from "effect"
import { FetchHttpClient } from "effect/http"

const integrations = 500
const latency = Duration.millis(20)

const Aden = AdenEmulator.layer({
  integrations: Array.from({ length: integrations }, (_, i) => ({ id: `integration-${i}`, tokenLifetime: "1 hour" }))
})

const Client = Layer.unwrap(
  Effect.map(AdenEmulator, ({ apiKey, url }) => AdenClient.layer({ baseUrl: url, apiKey }))
).pipe(Layer.provide(FetchHttpClient.layer))

const Storage = Layer.unwrap(
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const directory = yield* fs.makeTempDirectoryScoped({ prefix: "aden-bench-" })
    return EncryptedFileStorage.layer({ directory, keys: [yield* Fernet.generateKey] })
  })
)

const Live = CredentialStore.layer().pipe(
  Layer.provide(AdenSyncProvider.layer()),
  Layer.provideMerge(Client),
  Layer.provide(Storage),
  Layer.provideMerge(Aden),
  Layer.provide(NodeServices.layer)
)

const program = Effect.gen(function*() {
  const aden = yield* AdenEmulator
  const client = yield* AdenClient
  const store = yield* CredentialStore
  yield* aden.setFault(Fault.Latency({ duration: latency }))
  const [together, report] = yield* Effect.timed(store.sync)
  const { maximum } = yield* aden.inFlight()
  const [apart] = yield* Effect.timed(
    Effect.forEach(Array.from({ length: integrations }, (_, i) => i), (i) => client.getCredential(`integration-${i}`))
  )
  const ratio = Duration.toMillis(together) / Duration.toMillis(apart)
  yield* Console.log(
    [
      `synchronised ${report.synced.length} integrations, saved encrypted: ${Duration.toMillis(together).toFixed(0)} ms (at most ${maximum} at a time)`,
      `fetched one after another, not saved:              ${Duration.toMillis(apart).toFixed(0)} ms`,
      `ratio: ${ratio.toFixed(3)}`
    ].join("\n")
  )
  if (report.synced.length !== integrations || ratio >= 0.1) return yield* Effect.fail("slower than a tenth" as const)
}).pipe(Effect.provide(Live))

NodeRuntime.runMain(program)
