/** The tests of the store ask an emulator in memory. They hold for a server as far as no client can tell the two apart. */
import { assert, describe, it } from "@effect/vitest"
import { AdenClient } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Effect, Exit, Fiber, Layer, Schedule } from "effect"
import { FetchHttpClient, type HttpClient } from "effect/http"
import { TestClock } from "effect/testing"
import { memoryAden, MemoryHttpClient } from "../fixtures/memoryAden.ts"

const faults: { readonly [Tag in Fault["_tag"]]: ReadonlyArray<Extract<Fault, { readonly _tag: Tag }>> } = {
  Status: [
    Fault.Status({ status: 503 }),
    Fault.Status({ status: 204 }),
    Fault.Status({ status: 304 }),
    Fault.Status({ status: 403, contentType: "text/html", body: "<h1>Blocked</h1>" }),
    Fault.Status({ status: 400, body: `{"error":"refresh_failed","message":"no","requires_reauthorization":false}` })
  ],
  RateLimited: [Fault.RateLimited({ retryAfter: 60 }), Fault.RateLimited({ header: "soon", body: null })],
  Redirect: [
    Fault.Redirect({ location: "/v1/credentials/github", status: 307 }),
    Fault.Redirect({ location: "https://elsewhere.example/steal" })
  ],
  Hang: [Fault.Hang()],
  Reset: [Fault.Reset({ at: "request" }), Fault.Reset({ at: "answer" }), Fault.Reset({ at: "body" })],
  ReplaceBody: [
    Fault.ReplaceBody({ body: "no JSON" }),
    Fault.ReplaceBody({ body: new Uint8Array([0xff, 0xfe]), contentType: "image/png" })
  ],
  Truncate: [Fault.Truncate()],
  ByteOrderMark: [Fault.ByteOrderMark()],
  Oversized: [Fault.Oversized({ bytes: 3_000_000 }), Fault.Oversized({ bytes: 3_000_000, declared: true })],
  Nested: [Fault.Nested({ depth: 50_000 })],
  Patch: [
    Fault.Patch({ fields: { integration_id: "another" } }),
    Fault.Patch({ fields: { expires_at: "tomorrow" }, item: "hubspot" })
  ],
  Latency: [Fault.Latency({ duration: "10 seconds" }), Fault.Latency({ duration: "1 minute" })],
  SlowBody: [Fault.SlowBody({ interval: "1 second", bytes: 100 }), Fault.SlowBody({ interval: "1 second" })],
  ClockSkew: [Fault.ClockSkew({ offset: "10 minutes" }), Fault.ClockSkew({ offset: "-2 hours" })],
  DateHeader: [Fault.DateHeader({ value: "yesterday" })],
  TokenLifetime: [Fault.TokenLifetime({ lifetime: "10 seconds" }), Fault.TokenLifetime({ lifetime: "-1 second" })]
}

const connections = {
  socket: [AdenEmulator.layer(), FetchHttpClient.layer],
  memory: [memoryAden(), MemoryHttpClient]
} as const

const clientOver = (http: Layer.Layer<HttpClient.HttpClient>) =>
  Layer.unwrap(Effect.map(AdenEmulator, (aden) =>
    AdenClient.layer({
      baseUrl: aden.url,
      apiKey: aden.apiKey,
      tenantId: aden.tenantId,
      retry: Schedule.recurs(0),
      circuitBreaker: { failures: 10_000 }
    }))).pipe(Layer.provide(http))

const turn = Effect.promise(() => new Promise((done) => setTimeout(done, 1)))

/** Lets time pass until it is done. */
const whileTimePasses = Effect.fnUntraced(function*<A, E>(fiber: Fiber.Fiber<A, E>) {
  while (fiber.pollUnsafe() === undefined) {
    // a socket needs turns of the event loop
    for (let turns = 0; turns < 5; turns++) yield* turn
    yield* TestClock.adjust("2 seconds")
  }
  return yield* Fiber.await(fiber)
})

interface Setting {
  readonly prepare: (aden: AdenEmulator["Service"]) => Effect.Effect<void, unknown>
  readonly takesTime: boolean
}

/** What a client is told, and what the server has noted. */
const seen = (connection: keyof typeof connections, { prepare, takesTime }: Setting) => {
  const [aden, http] = connections[connection]
  return Effect.gen(function*() {
    const aden = yield* AdenEmulator
    const client = yield* AdenClient
    yield* prepare(aden)
    const asks: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
      client.getCredential("hubspot"),
      client.requestRefresh("hubspot"),
      client.validateToken("hubspot"),
      client.listIntegrations
    ]
    const told: Array<string> = []
    for (const ask of asks) {
      const exit = yield* takesTime ? Effect.flatMap(Effect.forkChild(ask), whileTimePasses) : Effect.exit(ask)
      // how much time passed before an answer depends on the machine
      const answer = Exit.isFailure(exit) ? exit.cause : takesTime ? "an answer" : exit.value
      told.push(JSON.stringify(answer).replaceAll(aden.url, "<url>"))
    }
    while ((yield* aden.inFlight()).current > 0) yield* turn
    return {
      told,
      clockOffset: takesTime ? 0 : yield* client.clockOffset,
      issued: (yield* aden.issuedTokens).length,
      requests: (yield* aden.requests).map((request) => ({
        endpoint: request.endpoint,
        path: request.path,
        status: request.status,
        faults: request.faults,
        accept: request.headers["accept"],
        tenantId: request.headers["x-tenant-id"]
      }))
    }
  }).pipe(Effect.provide(Layer.fresh(Layer.provideMerge(clientOver(http), aden))))
}

describe("an emulator in memory is to a client as one behind a socket", () => {
  const assertAlike = Effect.fnUntraced(function*(setting: Setting) {
    const overSocket = yield* seen("socket", setting)
    assert.deepStrictEqual(yield* seen("memory", setting), overSocket)
    return overSocket
  })

  it.effect("without a fault", () =>
    Effect.gen(function*() {
      const { told } = yield* assertAlike({ prepare: () => Effect.void, takesTime: false })
      assert.isTrue(told.every((answer) => !answer.includes("Cause")))
    }))

  for (const [tag, ofTag] of Object.entries(faults)) {
    for (const [index, fault] of ofTag.entries()) {
      it.effect(`with the fault ${tag}, ${index + 1} of ${ofTag.length}`, () =>
        assertAlike({
          prepare: (aden) => aden.setFault(fault),
          takesTime: tag === "Hang" || tag === "Latency" || tag === "SlowBody"
        }))
    }
  }

  it.effect("stopped", () =>
    Effect.gen(function*() {
      const { told } = yield* assertAlike({ prepare: (aden) => aden.stop, takesTime: false })
      assert.isTrue(told.every((answer) => answer.includes("ECONNREFUSED")))
    }))

  it.effect("started again", () =>
    assertAlike({ prepare: (aden) => Effect.andThen(aden.stop, aden.start), takesTime: false }))

  it.effect("stopped while it is asked", () =>
    Effect.gen(function*() {
      const cut = Effect.fnUntraced(function*(fault: Fault) {
        const aden = yield* AdenEmulator
        const client = yield* AdenClient
        yield* aden.setFault(fault)
        const asking = yield* Effect.forkChild(Effect.flip(client.listIntegrations))
        while ((yield* aden.countRequests()) === 0) yield* turn
        yield* turn
        yield* aden.stop
        const error = yield* Fiber.join(asking)
        while ((yield* aden.inFlight()).current > 0) yield* turn
        return JSON.stringify(error)
      })
      for (const fault of [Fault.Hang(), Fault.SlowBody({ interval: "1 second" })]) {
        const [overSocket, inMemory] = yield* Effect.forEach(
          [connections.socket, connections.memory],
          ([aden, http]) => cut(fault).pipe(Effect.provide(Layer.fresh(Layer.provideMerge(clientOver(http), aden))))
        )
        assert.strictEqual(inMemory, overSocket)
      }
    }))

  it.effect("left by a client that is interrupted", () =>
    Effect.gen(function*() {
      for (const fault of [Fault.Hang(), Fault.SlowBody({ interval: "1 second" })]) {
        for (const [aden, http] of [connections.socket, connections.memory]) {
          yield* Effect.gen(function*() {
            const aden = yield* AdenEmulator
            const client = yield* AdenClient
            yield* aden.setFault(fault)
            const asking = yield* Effect.forkChild(client.listIntegrations)
            while ((yield* aden.countRequests()) === 0) yield* turn
            yield* Fiber.interrupt(asking)
            while ((yield* aden.inFlight()).current > 0) yield* turn
          }).pipe(Effect.provide(Layer.fresh(Layer.provideMerge(clientOver(http), aden))))
        }
      }
    }))
})
