/**
 * Pattern A, provider only: tokens from Aden, cached in encrypted files and refreshed in time.
 *
 * `npx tsx examples/provider-only.ts`
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { AdenClient, AdenSyncProvider, CredentialStore, EncryptedFileStorage } from "aden-credentials"
import { Console, Effect, Layer, Redacted } from "effect"
import { FetchHttpClient } from "effect/http"
import { EmulatedAden } from "./support/EmulatedAden.ts"

const Credentials = CredentialStore.layer().pipe(
  Layer.provide(AdenSyncProvider.layer()),
  Layer.provide(AdenClient.layerConfig),
  Layer.provide(EncryptedFileStorage.layerConfig)
)

const program = Effect.gen(function*() {
  const store = yield* CredentialStore
  const report = yield* store.sync
  yield* Console.log(`synced: ${report.synced.map(({ id }) => id).join(", ")}`)

  const token = yield* store.token("hubspot")
  yield* Console.log(`hubspot: a token of ${Redacted.value(token).length} characters, printed as ${String(token)}`)

  // the check before a run names everything that a person has to fix
  yield* store.require(["hubspot", "github", "slack"])
}).pipe(
  Effect.catchTag(
    "RequiredCredentialsUnusable",
    ({ problems }) =>
      Effect.forEach(problems, ({ error, ref }) => Console.log(`${ref}: ${error.remedy}`), { discard: true })
  )
)

program.pipe(
  Effect.provide(Credentials),
  Effect.provide([NodeServices.layer, FetchHttpClient.layer]),
  Effect.provide(EmulatedAden()),
  NodeRuntime.runMain
)
