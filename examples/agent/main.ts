/**
 * An agent that asks a CRM, while its token runs out and its user revokes the access.
 *
 * `npx tsx examples/agent/main.ts`
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { AdenClient, AdenSyncProvider, CredentialStore, EncryptedFileStorage } from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { Console, Effect, Layer } from "effect"
import { FetchHttpClient } from "effect/http"
import { EmulatedAden } from "../support/EmulatedAden.ts"
import { answer, CrmToolsWithCredential, Person } from "./agent.ts"
import { Crm, CrmLayer } from "./Crm.ts"
import { ScriptedModel } from "./ScriptedModel.ts"

const Credentials = CredentialStore.layer().pipe(
  Layer.provide(AdenSyncProvider.layer()),
  Layer.provide(AdenClient.layerConfig),
  Layer.provide(EncryptedFileStorage.layerConfig)
)

const Operator = Layer.succeed(Person, { tell: (message) => Console.log(`  (to a person: ${message})`) })

const program = Effect.gen(function*() {
  const aden = yield* AdenEmulator
  const crm = yield* Crm

  const ask = (question: string, model: ReturnType<typeof ScriptedModel>) =>
    Effect.gen(function*() {
      yield* Console.log(`> ${question}`)
      yield* Console.log(`  ${yield* answer(question)}`)
    }).pipe(Effect.provide(model), Effect.provide(CrmToolsWithCredential(crm.url)))

  yield* ask(
    "Is Ada among our contacts?",
    ScriptedModel([{ call: "SearchContacts", with: { query: "Ada" } }, { say: "Yes, Ada Lovelace is." }])
  )

  yield* aden.revoke("hubspot")
  yield* CredentialStore.use((store) => store.invalidate("hubspot")) // in place of an hour's wait
  yield* ask(
    "And Alan?",
    ScriptedModel([
      { call: "SearchContacts", with: { query: "Alan" } },
      { say: "I cannot tell before the CRM has been connected again." }
    ])
  )
})

program.pipe(
  Effect.provide([CrmLayer, Operator]),
  Effect.provide(Credentials),
  Effect.provide([NodeServices.layer, FetchHttpClient.layer]),
  Effect.provide(EmulatedAden({ integrations: [{ id: "hubspot", tokenLifetime: "1 hour" }] })),
  NodeRuntime.runMain
)
