/**
 * Swapping in test layers: the same code with real credentials and a real API, or with those of a test.
 *
 * `npx tsx examples/test-layers.ts`
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Credential, CredentialHttpClient, type CredentialUseFailure, TestCredentials } from "aden-credentials"
import { Console, Context, Effect, Layer, Redacted, Schema } from "effect"
import { FetchHttpClient, HttpClient, type HttpClientError, HttpClientResponse } from "effect/http"

// the code under test: a service over an HttpClient, with no token in it

class Contacts extends Context.Service<Contacts, {
  readonly count: Effect.Effect<number, CredentialUseFailure | HttpClientError.HttpClientError | Schema.SchemaError>
}>()("example/Contacts") {
  static readonly layer = Layer.effect(
    Contacts,
    Effect.map(HttpClient.HttpClient, (client) => ({
      count: client.get("https://api.hubapi.com/crm/v3/objects/contacts").pipe(
        Effect.flatMap(HttpClientResponse.filterStatusOk),
        Effect.flatMap(HttpClientResponse.schemaBodyJson(Schema.Struct({ total: Schema.Int }))),
        Effect.map(({ total }) => total),
        CredentialHttpClient.unwrapFailure
      )
    }))
  ).pipe(
    Layer.provide(CredentialHttpClient.layer({ ref: "hubspot", allowedHosts: ["api.hubapi.com"] }))
  )
}

/** In production: the store of the other examples, and real requests. */
export const Live = Contacts.layer.pipe(Layer.provide(FetchHttpClient.layer))

/** In a test: credentials and an Aden in memory, and an API that accepts the second token. */
const Test = Contacts.layer.pipe(
  Layer.provide(Layer.succeed(
    HttpClient.HttpClient,
    HttpClient.make((request) =>
      Effect.succeed(HttpClientResponse.fromWeb(
        request,
        request.headers["authorization"] === "Bearer test-token.1"
          ? Response.json({ total: 42 })
          : new Response("", { status: 401 })
      ))
    )
  )),
  Layer.provideMerge(TestCredentials.layer([
    Credential.fromAccessToken({ id: "hubspot", accessToken: Redacted.make("test-token") })
  ]))
)

const test = Effect.gen(function*() {
  const contacts = yield* Contacts
  const aden = yield* TestCredentials
  yield* Console.log(`a refused token is refreshed: ${yield* contacts.count} contacts`)
  yield* Console.log(`Aden was asked ${yield* aden.requests("hubspot")} time`)

  yield* aden.revoke("hubspot", { reauthorizationUrl: "https://aden.example.com/connect" })
  const error = yield* Effect.flip(contacts.count)
  yield* Console.log(`a revoked one is an error for a person: ${String(error)}`)
})

test.pipe(Effect.provide(Test), NodeRuntime.runMain)
