/**
 * An API on this machine that answers which tenant's token a request carries. It stands for the API of a provider, which shows
 * the account that a token belongs to.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { AdenEmulator } from "aden-credentials/emulator"
import { Context, Effect, Layer, Redacted } from "effect"
import { HttpRouter, HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import { createServer } from "node:http"

export class TokenApi extends Context.Service<TokenApi, { readonly host: string }>()("example/TokenApi") {}

const routes = HttpRouter.add(
  "GET",
  "/me",
  Effect.gen(function*() {
    const { headers } = yield* HttpServerRequest.HttpServerRequest
    const issued = yield* Effect.flatMap(AdenEmulator, (aden) => aden.issuedTokens)
    const token = issued.find(({ value }) => headers["authorization"] === `Bearer ${Redacted.value(value)}`)
    return token === undefined ? HttpServerResponse.empty({ status: 401 }) : HttpServerResponse.text(token.tenantId)
  })
)

export const TokenApiLayer = Layer.effectContext(Effect.gen(function*() {
  const server = yield* Layer.build(
    HttpRouter.serve(routes, { disableListenLog: true, disableLogger: true }).pipe(
      Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
    )
  )
  const { address } = Context.get(server, HttpServer.HttpServer)
  if (address._tag === "UnixPathAddress") return yield* Effect.die("The API has no port")
  return Context.make(TokenApi, { host: `127.0.0.1:${address.port}` })
}))
