import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientError from "effect/http/HttpClientError"
import type { AdenProtocolError } from "../../errors/AdenError.ts"
import { AdenApi } from "./AdenApi.ts"

type Failure = HttpClientError.HttpClientError | AdenProtocolError

/** The HTTP client that sends a request. */
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
  // the result is cached for the process: it must not capture the context of its first user
  Effect.updateContext((_: Context.Context<never>) => Context.empty())
)

let derived: Effect.Success<typeof derive> | undefined = undefined

/**
 * The endpoints of the contract as functions that send through the caller's `AdenTransport`. Derived once per process, because a
 * program can have a client for each tenant: compiling the schemas takes a millisecond, and each copy takes 150 KB.
 */
export const endpoints: typeof derive = Effect.suspend(() =>
  derived === undefined
    ? Effect.map(derive, (endpoints) => derived = endpoints)
    : Effect.succeed(derived)
)
