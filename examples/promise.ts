/**
 * A program with plain Promises: `ManagedRuntime` builds the layers once, and runs effects with them.
 *
 * `npx tsx examples/promise.ts`
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { AdenClient, AdenSyncProvider, CredentialStore, EncryptedFileStorage } from "aden-credentials"
import { Exit, Layer, ManagedRuntime, Redacted } from "effect"
import { FetchHttpClient } from "effect/http"
import { EmulatedAden } from "./support/EmulatedAden.ts"

const Credentials = CredentialStore.layer().pipe(
  Layer.provide(AdenSyncProvider.layer()),
  Layer.provide(AdenClient.layerConfig),
  Layer.provide(EncryptedFileStorage.layerConfig),
  Layer.provide([NodeServices.layer, FetchHttpClient.layer]),
  Layer.provide(EmulatedAden())
)

const credentials = ManagedRuntime.make(Credentials)

/** A token, for code that knows nothing of Effect. Rejects with the typed error. */
const token = (ref: string): Promise<string> =>
  credentials.runPromise(CredentialStore.use((store) => store.token(ref))).then(Redacted.value)

try {
  const [hubspot, github] = await Promise.all([token("hubspot"), token("github")])
  console.log(`two tokens, of ${hubspot.length} and ${github.length} characters`)

  // to tell failures apart, use an Exit
  const exit = await credentials.runPromiseExit(CredentialStore.use((store) => store.token("slack")))
  const error = Exit.findErrorOption(exit)
  if (error._tag === "Some" && error.value._tag === "ReauthRequired") console.log(error.value.remedy)
} finally {
  // closes the store; a running refresh gets 5 s
  await credentials.dispose()
}
