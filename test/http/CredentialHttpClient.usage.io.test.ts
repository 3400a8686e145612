import { assert, describe, it } from "@effect/vitest"
import {
  AdenClient,
  AdenSyncProvider,
  CredentialHttpClient,
  CredentialStore,
  MemoryStorage,
  UsageReporter
} from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { Effect, Layer } from "effect"
import { FetchHttpClient, HttpClient } from "effect/http"
import { reply, scriptedServer } from "../fixtures/scriptedServer.ts"

const Program = Layer.unwrap(Effect.map(AdenEmulator, ({ apiKey, url }) =>
  UsageReporter.layer().pipe(
    Layer.provideMerge(CredentialStore.layer()),
    Layer.provide(AdenSyncProvider.layer()),
    Layer.provide(AdenClient.layer({ baseUrl: url, apiKey })),
    Layer.provide([MemoryStorage.layer(), FetchHttpClient.layer])
  )))

describe("CredentialHttpClient: usage reports", () => {
  it.live("method, host, path template and status of each request are reported, and nothing of what was refused here", () =>
    Effect.gen(function*() {
      const api = yield* scriptedServer({ replies: [reply(200, {}), reply(404, {})] })
      const host = `127.0.0.1:${api.port}`
      yield* Effect.gen(function*() {
        const client = yield* HttpClient.HttpClient
        yield* client.get(`${api.url}/contacts/4711?email=ada%40example.com`)
        yield* client.post(`${api.url}/contacts`)
        yield* Effect.flip(client.get("https://elsewhere.test/contacts"))
      }).pipe(
        Effect.provide(
          CredentialHttpClient.layer({ ref: "hubspot", allowedHosts: [host] }).pipe(
            Layer.provide(FetchHttpClient.layer),
            Layer.provide(Program)
          ),
          { local: true }
        ),
        Effect.scoped
      )
      const reports = yield* AdenEmulator.use(({ usage }) => usage)
      assert.sameDeepMembers(reports.map(({ operation, status, metadata }) => ({ operation, status, metadata })), [
        {
          operation: `GET ${host}/contacts/{id}`,
          status: "200",
          metadata: { method: "GET", host, path: "/contacts/{id}" }
        },
        { operation: `POST ${host}/contacts`, status: "404", metadata: { method: "POST", host, path: "/contacts" } }
      ])
    }).pipe(Effect.provide(AdenEmulator.layer({ integrations: [{ id: "hubspot" }] }))))
})
