import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientError from "effect/http/HttpClientError"
import type { AdenProtocolError } from "../../errors/CredentialError.ts"
import { AdenApi } from "./AdenApi.ts"

type Failure = HttpClientError.HttpClientError | AdenProtocolError

/** The HTTP client by which a request is sent. */
export class AdenTransport extends Context.Service<AdenTransport, HttpClient.HttpClient.With<Failure>>()(
  "aden-credentials/internal/AdenTransport"
) {}

const httpClient = HttpClient.makeWith<never, never, Failure, AdenTransport>(
  Effect.flatMap((request) => AdenTransport.use((client) => client.execute(request))),
  Effect.succeed
)

const derive = Effect.all({
  health: HttpApiClient.group(AdenApi, { group: "health", httpClient }),
  credentials: HttpApiClient.group(AdenApi, { group: "credentials", httpClient })
}).pipe(
  // what is derived stays: it is not to keep what its first user was provided with
  Effect.updateContext((_: Context.Context<never>) => Context.empty())
)

let derived: Effect.Success<typeof derive> | undefined = undefined

/**
 * The endpoints of the contract as functions, which send their requests by the `AdenTransport` of whoever calls them. Derived once
 * for the process: to compile the schemas takes a millisecond, and each copy 150 KB, and a platform has a client per tenant.
 */
export const adenEndpoints: typeof derive = Effect.suspend(() =>
  derived === undefined
    ? Effect.map(derive, (endpoints) => derived = endpoints)
    : Effect.succeed(derived)
)
