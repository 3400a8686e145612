/**
 * Pattern C, tenants: a platform has a store for each, with an API key, files and a circuit of its own.
 *
 * `npx tsx examples/tenants.ts`
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { CredentialStore, TenantCredentials } from "aden-credentials"
import { Console, Effect, Redacted } from "effect"
import { FetchHttpClient } from "effect/http"
import { EmulatedAden } from "./support/EmulatedAden.ts"

/** What runs for a tenant is written as if there were no other. */
const accounts = Effect.gen(function*() {
  const store = yield* CredentialStore
  yield* store.sync
  const summaries = yield* store.list
  return summaries.map(({ ref }) => ref).join(", ")
})

const program = Effect.gen(function*() {
  for (const tenant of ["acme", "globex"]) {
    const refs = yield* Effect.provide(accounts, TenantCredentials.get(tenant))
    yield* Console.log(`${tenant}: ${refs}`)
  }
  const error = yield* Effect.flip(Effect.provide(accounts, TenantCredentials.get("initech")))
  yield* Console.log(error.message)
})

const tenant = (id: string, integrations: ReadonlyArray<string>) => ({
  id,
  apiKeys: [Redacted.make(`key-of-${id}`)],
  integrations: integrations.map((id) => ({ id }))
})

program.pipe(
  // API keys from ADEN_API_KEY_{tenant}, files in ~/.hive/credentials/{tenant}
  Effect.provide(TenantCredentials.layer()),
  Effect.provide([NodeServices.layer, FetchHttpClient.layer]),
  Effect.provide(EmulatedAden(
    { tenants: [tenant("acme", ["hubspot", "slack"]), tenant("globex", ["github"])] },
    { ADEN_API_KEY_acme: "key-of-acme", ADEN_API_KEY_globex: "key-of-globex" }
  )),
  NodeRuntime.runMain
)
