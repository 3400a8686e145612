/**
 * An HTTP server on 127.0.0.1 that can be stopped, and started again on the same port, to simulate an outage.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Url from "effect/http/Url"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { createServer, type Server } from "node:http"
import type { Socket } from "node:net"
import { AdenConfigError } from "../errors/ConfigError.ts"
import { isLoopback } from "../util/httpSyntax.ts"

export interface LoopbackServer {
  readonly url: string
  /** Listens again on the same port. Does nothing when it is running. */
  readonly start: Effect.Effect<void, AdenConfigError>
  /** Refuses connections, and closes those that are open. Does nothing when it is stopped. */
  readonly stop: Effect.Effect<void>
}

const host = "127.0.0.1"

/**
 * Keeps out what asks for another host: DNS rebinding. A site can make its own name resolve to this machine, so that its pages may
 * read the answers, but then `Host` holds that name.
 */
const underOwnName = <E, R>(
  answer: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>
): Effect.Effect<HttpServerResponse.HttpServerResponse, E, R | HttpServerRequest> =>
  Effect.flatMap(HttpServerRequest, ({ headers }) => {
    const here = Result.getOrUndefined(Url.fromString(`http://${headers["host"] ?? ""}`))
    return here !== undefined && isLoopback(here) ? answer : Effect.succeed(wrongHost)
  })

const wrongHost = HttpServerResponse.jsonUnsafe(
  { error: "wrong_host", message: "This server is only for this machine: ask for it at 127.0.0.1." },
  { status: 403 }
)

/** Starts a server, which stops when the scope closes. `port` 0 takes any free port. */
export const make = Effect.fnUntraced(function*(
  answer: Effect.Effect<HttpServerResponse.HttpServerResponse, unknown, HttpServerRequest | Scope.Scope>,
  options: { readonly port: number }
): Effect.fn.Return<LoopbackServer, AdenConfigError, Scope.Scope> {
  const context = yield* Effect.context<Scope.Scope>()
  const scope = yield* Effect.scope
  const lock = yield* Semaphore.make(1)
  let running: Option.Option<Scope.Closeable> = Option.none()

  const open = Effect.fnUntraced(function*(port: number) {
    const server = createServer()
    const sockets = new Set<Socket>()
    server.on("connection", (socket) => {
      sockets.add(socket)
      socket.once("close", () => sockets.delete(socket))
    })
    // not `NodeHttpServer.make`: it listens before it handles requests, so a restarted server would lose the first ones; and it
    // shuts down gracefully, whereas this server simulates an outage
    const requests = yield* Scope.fork(yield* Effect.scope, "parallel")
    // untraced, as a real server is: it would not be part of the client's trace
    const untraced = Effect.withTracerEnabled(
      NodeHttpServer.makeHandler(underOwnName(answer), { scope: requests }),
      false
    )
    server.on("request", yield* untraced)
    yield* Effect.acquireRelease(listen(server, port), () => close(server, sockets))
    const address = server.address()
    return address === null || typeof address === "string" ? port : address.port
  })

  const start = (port: number) =>
    lock.withPermit(Effect.uninterruptible(Effect.gen(function*() {
      if (Option.isSome(running)) return port
      const child = yield* Scope.fork(scope)
      const bound = yield* open(port).pipe(
        Scope.provide(child),
        Effect.provideContext(context),
        Effect.onError((cause) => Scope.close(child, Exit.failCause(cause)))
      )
      running = Option.some(child)
      return bound
    })))

  const port = yield* start(options.port)

  return {
    url: `http://${host}:${port}`,
    start: Effect.asVoid(start(port)),
    stop: lock.withPermit(Effect.uninterruptible(Effect.suspend(() => {
      const child = running
      running = Option.none()
      return Option.isSome(child) ? Scope.close(child.value, Exit.void) : Effect.void
    })))
  }
})

const listen = (server: Server, port: number): Effect.Effect<void, AdenConfigError> =>
  Effect.callback((resume) => {
    const refused = (cause: unknown) => resume(Effect.fail(cannotListen(port, cause)))
    // stays registered after listening: an `error` event without a listener ends the process
    server.on("error", refused)
    try {
      server.listen({ host, port, backlog: 4096 }, () => resume(Effect.void))
    } catch (cause) {
      refused(cause)
    }
  })

const close = (server: Server, sockets: ReadonlySet<Socket>): Effect.Effect<void> =>
  Effect.callback((resume) => {
    server.close(() => resume(Effect.void))
    for (const socket of sockets) socket.destroy()
  })

const cannotListen = (port: number, cause: unknown): AdenConfigError => {
  const code = Predicate.hasProperty(cause, "code") ? String(cause.code) : "unknown error"
  const details: Readonly<Record<string, string>> = {
    EADDRINUSE: `${port} is in use on ${host}`,
    EACCES: `${port} needs privileges that this process does not have`,
    ERR_SOCKET_BAD_PORT: `${port} is not a valid port`
  }
  return new AdenConfigError({
    setting: "port",
    detail: details[code] ?? `${port} cannot be listened on (${code})`,
    remedy: "Choose a port from 1024 to 65535 that no other program uses, or 0 for any free port."
  })
}
