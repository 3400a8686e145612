/**
 * Pattern C, tenants: a platform has a store for each tenant, with an API key, files and a circuit of its own. One client layer
 * serves all of them.
 *
 * `npx tsx examples/tenants.ts`
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { CredentialHttpClient, CredentialStore, TenantCredentials } from "aden-credentials"
import { Console, Effect, Layer, Redacted } from "effect"
import { FetchHttpClient, HttpClient } from "effect/http"
import { EmulatedAden } from "./support/EmulatedAden.ts"
import { TokenApi, TokenApiLayer } from "./support/TokenApi.ts"

/** What runs for a tenant is written as if there were no other. */
const accounts = Effect.gen(function*() {
  const store = yield* CredentialStore
  yield* store.sync
  const summaries = yield* store.list
  return summaries.map(({ ref }) => ref).join(", ")
})

const program = Effect.gen(function*() {
  for (const tenant of ["acme", "globex"]) {
    const refs = yield* accounts.pipe(TenantCredentials.provide(tenant))
    yield* Console.log(`${tenant}: ${refs}`)
  }
  const error = yield* Effect.flip(accounts.pipe(TenantCredentials.provide("initech")))
  yield* Console.log(error.message)

  // one value for all tenants: a client carries the credential of the store that it is provided inside
  const { host } = yield* TokenApi
  const HubSpot = CredentialHttpClient.layer({ ref: "hubspot", allowedHosts: [host] }).pipe(
    Layer.provide(FetchHttpClient.layer)
  )
  const me = HttpClient.get(`http://${host}/me`).pipe(Effect.flatMap((response) => response.text))
  for (const tenant of ["acme", "globex"]) {
    const owner = yield* me.pipe(Effect.provide(HubSpot), TenantCredentials.provide(tenant))
    yield* Console.log(`the API knows ${tenant} as ${owner}`)
  }
})

const tenant = (id: string, integrations: ReadonlyArray<string>) => ({
  id,
  apiKeys: [Redacted.make(`key-of-${id}`)],
  integrations: integrations.map((id) => ({ id }))
})

program.pipe(
  // API keys from ADEN_API_KEY_{tenant}, files in ~/.hive/credentials/{tenant}
  Effect.provide([TenantCredentials.layer(), TokenApiLayer]),
  Effect.provide([NodeServices.layer, FetchHttpClient.layer]),
  Effect.provide(EmulatedAden(
    { tenants: [tenant("acme", ["hubspot", "slack"]), tenant("globex", ["github", "hubspot"])] },
    { ADEN_API_KEY_acme: "key-of-acme", ADEN_API_KEY_globex: "key-of-globex" }
  )),
  NodeRuntime.runMain
)
