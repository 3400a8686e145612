/**
 * Pattern B, cached storage: a storage that asks Aden for what it lacks, for code that reads storage without a store.
 *
 * `npx tsx examples/cached-storage.ts`
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import {
  AdenCachedStorage,
  AdenClient,
  AdenSyncProvider,
  CredentialStorage,
  CredentialStore,
  EncryptedFileStorage
} from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { Console, Effect, Layer, Option } from "effect"
import { FetchHttpClient } from "effect/http"
import { EmulatedAden } from "./support/EmulatedAden.ts"

// AdenCachedStorage before the provider, so that both use the same one; merged, so that the program has the storage too
const Cached = CredentialStore.layer().pipe(
  Layer.provideMerge(AdenCachedStorage.layer({ cacheTtl: "5 minutes" })),
  Layer.provide(AdenSyncProvider.layer()),
  Layer.provide(AdenClient.layerConfig),
  Layer.provide(EncryptedFileStorage.layerConfig)
)

const program = Effect.gen(function*() {
  const aden = yield* AdenEmulator
  const storage = yield* CredentialStorage
  const store = yield* CredentialStore

  const requests = aden.countRequests({ endpoint: "get" })
  yield* storage.load("hubspot")
  yield* Console.log(`nothing stored: Aden was asked ${yield* requests} time`)
  yield* storage.load("hubspot")
  yield* store.token("hubspot")
  yield* Console.log(`confirmed within the last 5 minutes: still ${yield* requests}`)

  yield* aden.stop
  const served = yield* storage.load("hubspot")
  yield* Console.log(`Aden is down: ${Option.isSome(served) ? "served from the cache" : "nothing"}`)
})

program.pipe(
  Effect.provide(Cached),
  Effect.provide([NodeServices.layer, FetchHttpClient.layer]),
  Effect.provide(EmulatedAden()),
  NodeRuntime.runMain
)
