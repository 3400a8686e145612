/**
 * A CRM on this machine. It accepts the token that was issued last, and its errors leak what it was sent.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { AdenEmulator } from "aden-credentials/emulator"
import { Context, Effect, Layer, Redacted } from "effect"
import { HttpRouter, HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import { createServer } from "node:http"

export class Crm extends Context.Service<Crm, {
  readonly url: string
  /** The status of each answer. */
  readonly answered: ReadonlyArray<number>
}>()("example/Crm") {}

const contacts = [{ id: "7", name: "Ada Lovelace" }, { id: "8", name: "Alan Turing" }]

const routes = (answered: Array<number>) =>
  HttpRouter.add(
    "GET",
    "/contacts/:id?",
    Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      const { id } = yield* HttpRouter.params
      const issued = yield* Effect.flatMap(AdenEmulator, (aden) => aden.issuedTokens)
      const token = issued.findLast(({ integrationId }) => integrationId === "hubspot")?.value
      const answer = token === undefined || request.headers["authorization"] !== `Bearer ${Redacted.value(token)}`
        ? HttpServerResponse.jsonUnsafe({ message: `${request.headers["authorization"]} has expired` }, { status: 401 })
        : id === undefined
        ? HttpServerResponse.jsonUnsafe(contacts)
        : HttpServerResponse.jsonUnsafe(
          contacts.find((contact) => contact.id === id) ??
            { message: `nothing there for Bearer ${Redacted.value(token)}` },
          { status: contacts.some((contact) => contact.id === id) ? 200 : 404 }
        )
      answered.push(answer.status)
      return answer
    })
  )

export const CrmLayer = Layer.effectContext(Effect.gen(function*() {
  const answered: Array<number> = []
  const server = yield* Layer.build(
    HttpRouter.serve(routes(answered), { disableListenLog: true, disableLogger: true }).pipe(
      Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
    )
  )
  const { address } = Context.get(server, HttpServer.HttpServer)
  if (address._tag === "UnixPathAddress") return yield* Effect.die("The CRM has no port")
  return Context.make(Crm, { url: `http://127.0.0.1:${address.port}`, answered })
}))
