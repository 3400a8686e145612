/**
 * How soon clients have their credentials again after an outage, and what Aden gets to do: 30 clients with 10 expired credentials
 * each, which all lose Aden at the same moment, on virtual time. In the same run, the circuit of the package and, as the
 * baseline, one that stays open for a fixed 30 s. The retries and the circuit are the client's own code. Run by
 * `npm run bench:outage`; exits 1 when the clients of the package wait longer than 3 s after an outage of 4 s, or all return within
 * the same second after one of 600 s.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { AdenClient, AdenProtocolError, AdenUnavailable } from "aden-credentials"
import { Clock, Console, Duration, Effect, Exit, Fiber, Layer, Random } from "effect"
import { CircuitBreaker } from "effect/persistence"
import { TestClock } from "effect/testing"
import { AdenCircuit, retryPolicy } from "../src/providers/aden/resilience.ts"

// every refusal of a circuit is an error, and nobody reads where it was made
Error.stackTraceLimit = 0

const clients = 30
const credentials = 10
const failures = 5
const openFor = Duration.seconds(30)
const latency = Duration.millis(100)

/** How long is looked at after an outage. */
const after = 60

/** What a circuit does that stays open equally long each time. */
const fixed = Effect.gen(function*() {
  const store = yield* Layer.build(Layer.fresh(CircuitBreaker.layerStoreMemory()))
  return new AdenCircuit(
    yield* Effect.provideContext(
      CircuitBreaker.make({ tripPolicy: CircuitBreaker.consecutive(failures), openDuration: openFor }),
      store
    )
  )
})

const circuits = [
  { name: "fixed 30 s", make: fixed },
  { name: "growing", make: AdenCircuit.make({ failures, openFor }) }
] as const

const down = new AdenUnavailable({
  id: undefined,
  reason: new AdenProtocolError({ detail: "HTTP 503", isTransient: true })
})

const retries = retryPolicy(AdenClient.defaultRetry, Duration.seconds(10))

/** One outage of `seconds`, beginning now. Each credential is read again and again; once Aden has answered, it is held. */
const measure = Effect.fnUntraced(function*(make: (typeof circuits)[number]["make"], seconds: number) {
  const start = yield* Clock.currentTimeMillis
  const back = start + seconds * 1_000
  const requests = new Map<number, number>()
  const waits = new Array<number>()
  const reads = { served: 0, failed: 0 }
  // a long outage is read through more seldom, to be done in time
  const interval = seconds > 60 ? 2_000 : 250

  const ask = Effect.gen(function*() {
    const second = Math.floor(((yield* Clock.currentTimeMillis) - back) / 1_000)
    requests.set(second, (requests.get(second) ?? 0) + 1)
    yield* Effect.sleep(latency)
    if ((yield* Clock.currentTimeMillis) < back) return yield* down
  })

  const client = Effect.gen(function*() {
    const circuit = yield* make
    const held = new Set<number>()
    const inFlight = new Set<number>()
    const flight = Effect.fnUntraced(function*(id: number) {
      const exit = yield* Effect.exit(Effect.retry(circuit.guard("aden", undefined, ask), retries))
      inFlight.delete(id)
      const now = yield* Clock.currentTimeMillis
      if (Exit.isSuccess(exit)) {
        held.add(id)
        waits.push(now - back)
      } else if (now >= back) reads.failed++
    })
    yield* Effect.sleep((yield* Random.next) * interval)
    while (true) {
      for (let id = 0; id < credentials; id++) {
        // those who wait for the same answer count once
        if (inFlight.has(id)) continue
        if (held.has(id)) reads.served++
        else {
          inFlight.add(id)
          yield* Effect.forkChild(flight(id), { startImmediately: true })
        }
      }
      yield* Effect.sleep(interval)
    }
  }).pipe(Effect.scoped)

  const fibers = yield* Effect.forEach(Array.from({ length: clients }), () => Effect.forkChild(client))
  yield* TestClock.adjust(Duration.seconds(seconds + after))
  yield* Fiber.interruptAll(fibers)
  const inOutage = Array.from(requests).filter(([second]) => second < 0)
  const since = Array.from(requests).filter(([second]) => second >= 0).map(([, count]) => count)
  waits.sort((a, b) => a - b)
  return {
    median: (waits[Math.floor(waits.length / 2)] ?? Infinity) / 1_000,
    // whoever has none at the end waits longer still
    last: waits.length < clients * credentials ? Infinity : (waits.at(-1) ?? Infinity) / 1_000,
    served: 100 * reads.served / (reads.served + reads.failed),
    during: inOutage.reduce((sum, [, count]) => sum + count, 0) / seconds,
    peak: Math.max(0, ...since)
  }
})

const program = Effect.gen(function*() {
  yield* Console.log(
    "outage   circuit      had again after: median      last   reads served in the 60 s after   requests/s: during   peak after"
  )
  const missed = new Array<string>()
  for (const seconds of [1, 4, 30, 600]) {
    for (const { make, name } of circuits) {
      const { during, last, median, peak, served } = yield* measure(make, seconds)
      yield* Console.log(
        `${String(seconds).padStart(4)} s   ${name.padEnd(11)}  ${median.toFixed(1).padStart(22)} s  ${
          last.toFixed(1).padStart(6)
        } s  ${served.toFixed(1).padStart(29)} %  ${during.toFixed(1).padStart(19)}  ${String(peak).padStart(11)}`
      )
      if (name !== "growing") continue
      if (seconds === 4 && !(last <= 3)) missed.push(`the last credential after ${last} s`)
      if (seconds === 600 && peak > clients * credentials / 2) missed.push(`${peak} requests in one second`)
    }
  }
  if (missed.length > 0) return yield* Effect.fail(missed.join(", "))
}).pipe(Effect.provide(TestClock.layer()), Random.withSeed(1))

NodeRuntime.runMain(program)
