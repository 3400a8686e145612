/**
 * When the client asks again, and when it stops asking: the default delays, the server's hint, the time limit and the
 * circuit, by the test clock.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Duration, Effect, Exit, Fiber, Layer, Logger, Redacted, Schedule } from "effect"
import { HttpClient, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import type { AdenFailure } from "../../../src/errors/AdenError.ts"
import { AdenClient } from "../../../src/providers/aden/AdenClient.ts"
import type { AdenClientOptions } from "../../../src/providers/aden/AdenClient.ts"
import { accessToken, apiKey, credentialBody } from "../../fixtures/adenClients.ts"
import { withSettableClock } from "../../fixtures/settableClock.ts"

type Client = AdenClient["Service"]

/** What a server in the test's own memory answers to the request of this number (from 1). */
type Answers = (number: number, path: string) => Response | Effect.Effect<Response>

const json = (status: number, body: unknown, headers: Record<string, string> = {}) =>
  new Response(JSON.stringify(body), { status, headers })
const html = (status: number) => new Response("<html></html>", { status })
const good = (path: string) =>
  path.endsWith("/usage")
    ? json(200, { received: true })
    : path === "/health"
    ? json(200, { status: "healthy" })
    : json(200, { ...credentialBody, integration_id: null })
const limited = (headers: Record<string, string> = {}) =>
  json(429, { error: "rate_limited", message: "Too many refresh requests. Try again later." }, headers)

class MemoryServer {
  /** When each request arrived, in ms of the test clock. */
  readonly arrivals = new Array<number>()
  aborted = 0
  answers: Answers

  constructor(answers: Answers) {
    this.answers = answers
  }

  readonly layer = Layer.succeed(
    HttpClient.HttpClient,
    HttpClient.make((request, url, signal) =>
      Effect.gen({ self: this }, function*() {
        this.arrivals.push(yield* Clock.currentTimeMillis)
        signal.addEventListener("abort", () => this.aborted++)
        const answer = this.answers(this.arrivals.length, url.pathname)
        return HttpClientResponse.fromWeb(request, Effect.isEffect(answer) ? yield* answer : answer)
      })
    )
  )
}

const clientLayer = (
  server: MemoryServer,
  options: Partial<AdenClientOptions>
) =>
  AdenClient.layer({ baseUrl: "https://aden.example.com", apiKey: Redacted.make(apiKey), ...options }).pipe(
    Layer.provide(server.layer)
  )

const start = Effect.fnUntraced(function*(answers: Answers, options: Partial<AdenClientOptions> = {}) {
  const server = new MemoryServer(answers)
  const client = Context.get(yield* Layer.build(clientLayer(server, options)), AdenClient)
  return { client, server }
})

/** The exit of a call, given all the time it wants. */
const finish = Effect.fnUntraced(function*<A, E>(call: Effect.Effect<A, E>) {
  const fiber = yield* Effect.forkChild(call, { startImmediately: true })
  yield* TestClock.adjust("10 minutes")
  return yield* Fiber.await(fiber)
})

const failureOf = <A>(call: Effect.Effect<A, AdenFailure>) =>
  Effect.map(finish(Effect.flip(call)), (exit) => {
    assert(Exit.isSuccess(exit))
    return exit.value
  })

const gaps = (arrivals: ReadonlyArray<number>) => arrivals.slice(1).map((time, index) => time - (arrivals[index] ?? 0))

const assertBetween = (value: number | undefined, low: number, high: number) =>
  assert.isTrue(value !== undefined && value >= low && value <= high, `${value} is not in ${low}..${high}`)

describe("retry", () => {
  it.effect("by default three attempts in all, after 1 s and 2 s, jittered", () =>
    Effect.gen(function*() {
      for (let round = 0; round < 20; round++) {
        const { client, server } = yield* start(() => html(503))
        const error = yield* failureOf(client.getCredential("hubspot"))
        assert.strictEqual(error._tag, "AdenUnavailable")
        assert.strictEqual(server.arrivals.length, 3)
        const [first, second] = gaps(server.arrivals)
        assertBetween(first, 800, 1200)
        assertBetween(second, 1600, 2400)
      }
    }))

  it.effect("every call has the same policy", () =>
    Effect.gen(function*() {
      const calls: ReadonlyArray<(client: Client) => Effect.Effect<unknown, AdenFailure>> = [
        (client) => client.getCredential("hubspot"),
        (client) => client.requestRefresh("hubspot"),
        (client) => client.validateToken("hubspot"),
        (client) => client.listIntegrations,
        (client) => client.reportUsage("hubspot", { operation: "api_call", status: "success" }),
        (client) => client.healthCheck
      ]
      for (const call of calls) {
        const { client, server } = yield* start(() => html(500))
        yield* failureOf(call(client))
        assert.strictEqual(server.arrivals.length, 3)
        assertBetween(gaps(server.arrivals)[1], 1600, 2400)
      }
    }))

  it.effect("the server's hint is a floor under the delays", () =>
    Effect.gen(function*() {
      const long = yield* start(() => limited({ "retry-after": "5" }))
      const error = yield* failureOf(long.client.requestRefresh("hubspot"))
      assert.strictEqual(error._tag, "RateLimited")
      assert.deepStrictEqual(gaps(long.server.arrivals), [5000, 5000])

      const short = yield* start(() => limited({ "retry-after": "0" }))
      yield* failureOf(short.client.requestRefresh("hubspot"))
      const [first, second] = gaps(short.server.arrivals)
      assertBetween(first, 800, 1200)
      assertBetween(second, 1600, 2400)
    }))

  it.effect("the hint is a floor under a schedule given, too", () =>
    Effect.gen(function*() {
      const { client, server } = yield* start(() => limited({ "retry-after": "7" }), { retry: Schedule.recurs(3) })
      yield* failureOf(client.requestRefresh("hubspot"))
      assert.deepStrictEqual(gaps(server.arrivals), [7000, 7000, 7000])
    }))

  it.effect("a hint of up to 10 s is waited out by default, a longer one is the caller's", () =>
    Effect.gen(function*() {
      const ten = yield* start((number, path) => number === 1 ? limited({ "retry-after": "10" }) : good(path))
      const exit = yield* finish(ten.client.requestRefresh("hubspot"))
      assert(Exit.isSuccess(exit))
      assert.deepStrictEqual(gaps(ten.server.arrivals), [10_000])

      const eleven = yield* start(() => limited({ "retry-after": "11" }))
      const error = yield* failureOf(eleven.client.requestRefresh("hubspot"))
      assert(error._tag === "RateLimited")
      assert.strictEqual(Duration.toSeconds(error.retryAfter), 11)
      assert.strictEqual(eleven.server.arrivals.length, 1)

      const none = yield* start(() => limited())
      yield* failureOf(none.client.requestRefresh("hubspot"))
      assert.strictEqual(none.server.arrivals.length, 1)
    }))

  it.effect("an HTTP date is read against the answer's own Date, whatever the local clock says", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.UTC(2040, 0, 1))
      const date = "Sun, 06 Nov 1994 08:49:37 GMT"
      const { client, server } = yield* start(() => limited({ date, "retry-after": "Sun, 06 Nov 1994 08:49:45 GMT" }))
      yield* failureOf(client.requestRefresh("hubspot"))
      assert.deepStrictEqual(gaps(server.arrivals), [8000, 8000])
    }))

  it.effect("an attempt has 30 s by default, and is aborted then", () =>
    Effect.gen(function*() {
      const { client, server } = yield* start(() => Effect.never, { retry: Schedule.recurs(1) })
      const error = yield* failureOf(client.getCredential("hubspot"))
      assert(error._tag === "AdenUnavailable" && error.reason._tag === "AdenTimeout")
      assert.strictEqual(Duration.toSeconds(error.reason.after), 30)
      assert.deepStrictEqual(server.arrivals, [0, 30_000])
      assert.strictEqual(server.aborted, 2)
    }))

  it.effect("interrupting a call that waits for its next attempt ends it", () =>
    Effect.gen(function*() {
      const { client, server } = yield* start(() => html(503))
      const fiber = yield* Effect.forkChild(client.getCredential("hubspot"), { startImmediately: true })
      yield* TestClock.adjust("500 millis")
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(server.arrivals.length, 1)
    }))
})

describe("circuit", () => {
  const once = { retry: Schedule.recurs(0) }
  const get = (client: Client) => client.getCredential("hubspot")
  const times = (count: number, client: Client) => Effect.repeat(Effect.flip(get(client)), { times: count - 1 })

  const assertOpen = (error: AdenFailure) => {
    assert(error._tag === "AdenUnavailable", error._tag)
    assert(error.reason._tag === "AdenCircuitOpen", error.message)
    assert.isTrue(error.isRetryable)
    return error.retryAfter
  }

  it.effect("opens after 5 unavailable answers in a row: then fails at once, without a request", () =>
    Effect.gen(function*() {
      const { client, server } = yield* start(() => html(503), once)
      yield* times(5, client)
      const retryAfter = assertOpen(yield* Effect.flip(get(client)))
      assertBetween(retryAfter && Duration.toMillis(retryAfter), 775, 1000)
      assertOpen(yield* Effect.flip(client.requestRefresh("github")))
      assertOpen(yield* Effect.flip(client.listIntegrations))
      assertOpen(yield* Effect.flip(client.validateToken("hubspot")))
      assert.strictEqual(server.arrivals.length, 5)
    }))

  it.effect("each attempt counts: no retry goes out once it has opened", () =>
    Effect.gen(function*() {
      const { client, server } = yield* start(() => html(503), { retry: Schedule.recurs(2) })
      yield* Effect.flip(get(client))
      assertOpen(yield* Effect.flip(get(client)))
      assert.strictEqual(server.arrivals.length, 5)
    }))

  it.effect("half-opens after about a second: one probe, which closes it", () =>
    Effect.gen(function*() {
      const { client, server } = yield* start(() => html(503), once)
      yield* times(5, client)
      yield* TestClock.adjust("774 millis")
      assertOpen(yield* Effect.flip(get(client)))
      assert.strictEqual(server.arrivals.length, 5)

      server.answers = (_, path) => Effect.as(Effect.sleep("1 second"), good(path))
      yield* TestClock.adjust("226 millis")
      const probe = yield* Effect.forkChild(get(client), { startImmediately: true })
      // while the probe is out, all others are turned away
      assert.strictEqual(assertOpen(yield* Effect.flip(get(client))), undefined)
      yield* TestClock.adjust("1 second")
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(probe)))
      assert.strictEqual(server.arrivals.length, 6)

      server.answers = (_, path) => good(path)
      yield* get(client)
      assert.strictEqual(server.arrivals.length, 7)
    }))

  /** How long the circuit stays open each time, in ms, while every probe fails. */
  const openings = Effect.fnUntraced(function*(client: Client, count: number) {
    const lengths = new Array<number>()
    while (lengths.length < count) {
      const retryAfter = assertOpen(yield* Effect.flip(get(client)))
      assert(retryAfter !== undefined)
      lengths.push(Duration.toMillis(retryAfter))
      yield* TestClock.adjust(retryAfter)
      const probe = yield* Effect.flip(get(client))
      assert(probe._tag === "AdenUnavailable" && probe.reason._tag === "AdenProtocolError")
    }
    return lengths
  })

  it.effect("a probe that fails opens it for 1.2 to 2 times as long, at most 30 s, not for all clients equally long", () =>
    Effect.gen(function*() {
      const ofOne = Effect.gen(function*() {
        const { client } = yield* start(() => html(503), once)
        yield* times(5, client)
        return yield* openings(client, 14)
      })
      const [one, other] = yield* Effect.all([ofOne, ofOne])
      assert(one !== undefined && other !== undefined)
      for (const lengths of [one, other]) {
        assertBetween(lengths[0], 775, 1000)
        for (const [index, length] of lengths.entries()) {
          const before = lengths[index - 1] ?? 0
          if (index > 0 && index < 7) assertBetween(length / before, 1.2, 2)
          if (index > 8) assertBetween(length, 23_250, 30_000)
        }
      }
      assert.notDeepEqual(one, other)
    }))

  it.effect("starts again at a second once it has stayed closed as long as it was last open", () =>
    Effect.gen(function*() {
      const { client, server } = yield* start(() => html(503), once)
      yield* times(5, client)
      const last = (yield* openings(client, 10)).at(-1) ?? 0
      const open = assertOpen(yield* Effect.flip(get(client)))
      yield* TestClock.adjust(open ?? 0)
      server.answers = (_, path) => good(path)
      yield* get(client)
      server.answers = () => html(503)
      yield* times(5, client)
      assert.isAbove((yield* openings(client, 1))[0] ?? 0, last / 2)
      server.answers = (_, path) => good(path)
      yield* TestClock.adjust("30 seconds")
      yield* get(client)
      yield* TestClock.adjust("30 seconds")
      server.answers = () => html(503)
      yield* times(5, client)
      assertBetween((yield* openings(client, 1))[0], 775, 1000)
    }))

  for (const hours of [-6, 6]) {
    it.effect(`stays open as long as was meant when the clock is set ${hours < 0 ? "back" : "ahead"} by 6 h`, () =>
      withSettableClock((clock) =>
        Effect.gen(function*() {
          const { client, server } = yield* start(() => html(503), once)
          yield* times(5, client)
          yield* openings(client, 10)
          clock.offset = hours * 3_600_000
          yield* TestClock.adjust("10 seconds")
          assertOpen(yield* Effect.flip(get(client)))
          server.answers = (_, path) => good(path)
          yield* TestClock.adjust("20 seconds")
          yield* get(client)
        })
      ))
  }

  it.effect("a probe that is interrupted leaves the place to the next", () =>
    Effect.gen(function*() {
      const { client, server } = yield* start(() => html(503), once)
      yield* times(5, client)
      yield* TestClock.adjust("1 second")
      server.answers = () => Effect.never
      const probe = yield* Effect.forkChild(get(client), { startImmediately: true })
      yield* Fiber.interrupt(probe)
      server.answers = (_, path) => good(path)
      yield* get(client)
      assert.strictEqual(server.arrivals.length, 7)
    }))

  it.effect("an id that no path can hold does not count as the probe: it does not close the circuit", () =>
    Effect.gen(function*() {
      const { client, server } = yield* start(() => html(503), once)
      yield* times(5, client)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Effect.flip(client.requestRefresh("..")))._tag, "IntegrationNotFound")
      yield* Effect.flip(get(client))
      assertOpen(yield* Effect.flip(get(client)))
      assert.strictEqual(server.arrivals.length, 6)
    }))

  it.effect("an answer of Aden's in between restarts the count", () =>
    Effect.gen(function*() {
      for (
        const answer of [
          json(404, { error: "integration_not_found" }),
          json(401, { error: "invalid_api_key" }),
          limited()
        ]
      ) {
        const { client, server } = yield* start((number) => number === 5 ? answer.clone() : html(503), once)
        yield* times(4, client)
        yield* Effect.exit(get(client))
        yield* times(4, client)
        assert.strictEqual(server.arrivals.length, 9)
      }
    }))

  it.effect("4xx do not count, nor do the pages of a proxy", () =>
    Effect.gen(function*() {
      const answers = [
        json(400, { error: "refresh_failed", requires_reauthorization: true }),
        json(400, { error: "refresh_failed" }),
        json(401, { error: "invalid_api_key" }),
        json(403, { error: "forbidden" }),
        json(404, { error: "integration_not_found" }),
        json(409, { error: "conflict" }),
        limited(),
        html(401),
        html(403),
        html(404)
      ]
      for (const answer of answers) {
        const { client, server } = yield* start(() => answer.clone(), once)
        yield* Effect.repeat(Effect.exit(client.requestRefresh("hubspot")), { times: 19 })
        assert.strictEqual(server.arrivals.length, 20, String(answer.status))
      }
    }))

  it.effect("a proxy's page says nothing either way: it does not restart the count", () =>
    Effect.gen(function*() {
      const { client, server } = yield* start((number) => number === 3 ? html(403) : html(503), once)
      yield* times(6, client)
      assertOpen(yield* Effect.flip(get(client)))
      assert.strictEqual(server.arrivals.length, 6)
    }))

  it.effect("usage reports and health checks are outside it", () =>
    Effect.gen(function*() {
      const { client, server } = yield* start(() => html(503), once)
      const report = client.reportUsage("hubspot", { operation: "api_call", status: "success" })
      yield* Effect.repeat(Effect.flip(report), { times: 9 })
      yield* Effect.repeat(Effect.flip(client.healthCheck), { times: 9 })
      yield* Effect.flip(get(client))
      assert.strictEqual(server.arrivals.length, 21)
      yield* times(4, client)
      assertOpen(yield* Effect.flip(get(client)))
      server.answers = (_, path) => good(path)
      assert.isTrue(yield* report)
      assert.strictEqual((yield* client.healthCheck).status, "healthy")
    }))

  it.effect("how many answers, and how long at most, can be set", () =>
    Effect.gen(function*() {
      const { client, server } = yield* start(() => html(503), {
        ...once,
        circuitBreaker: { failures: 2, openFor: "3 seconds" }
      })
      yield* times(2, client)
      assertOpen(yield* Effect.flip(get(client)))
      assert.strictEqual(server.arrivals.length, 2)
      const lengths = yield* openings(client, 6)
      assert.isAtMost(Math.max(...lengths), 3_000)
      assert.isAtLeast(lengths.at(-1) ?? 0, 2_325)
    }))

  it.effect("one circuit per client: neither two layer values nor Layer.fresh of one share it", () =>
    Effect.gen(function*() {
      const server = new MemoryServer(() => html(503))
      const layer = clientLayer(server, once)
      const build = (layer: Layer.Layer<AdenClient, unknown>) => Effect.map(Layer.build(layer), Context.get(AdenClient))
      const broken = yield* build(layer)
      const fresh = yield* build(Layer.fresh(layer))
      const other = yield* build(clientLayer(server, once))
      yield* times(5, broken)
      assertOpen(yield* Effect.flip(get(broken)))
      assert.strictEqual(server.arrivals.length, 5)
      yield* Effect.flip(get(fresh))
      yield* Effect.flip(get(other))
      assert.strictEqual(server.arrivals.length, 7)
    }))
})

describe("clock", () => {
  it.effect("more than 5 minutes apart: clamped, with one warning", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.UTC(2026, 0, 28, 15, 0, 0))
      const warnings = new Array<unknown>()
      const logger = Logger.make(({ logLevel, message }) => {
        if (logLevel === "Warn") warnings.push(message)
      })
      const { client, server } = yield* start(() =>
        json(200, credentialBody, { date: "Wed, 28 Jan 2026 13:59:30 GMT" })
      )
      yield* Effect.repeat(client.getCredential("hubspot"), { times: 5 }).pipe(Effect.provide(Logger.layer([logger])))
      assert.strictEqual(yield* client.clockOffset, -300_000)
      assert.strictEqual(warnings.length, 1)
      assert.match(String(warnings[0]), /1h 30s apart/)
      assert.notInclude(String(warnings[0]), accessToken.slice(0, 8))
      assert.strictEqual(server.arrivals.length, 6)
    }))
})
