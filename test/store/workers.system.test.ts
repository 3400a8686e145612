/** Cloudflare's runtime ends what a request has started when the request ends: its fetches and its timers. */
import { assert, describe, it } from "@effect/vitest"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Effect, Redacted, Schedule } from "effect"
import { bundledWorker } from "../fixtures/bundle.ts"
import { hasWorkerd, running } from "../fixtures/workerd.ts"

/** The key that the Worker has. */
const apiKey = "aden_sk_of_the_worker"

// the tests run at the same time: each has its own
const server = () => AdenEmulator.layer({ integrations: [], apiKeys: [Redacted.make(apiKey)] })

/** Fibers that are not bound to the request in which they started, as docs/configuration.md says. */
const recommended = ["no_nodejs_compat_v2"]

const bundle = (instead: ReadonlyMap<string, string>) =>
  hasWorkerd ? bundledWorker("test/fixtures/worker.ts", instead) : Promise.resolve("")

const worker = bundle(new Map())
const neverGivingUp = bundle(new Map([["src/util/SingleFlight.ts", "test/fixtures/SingleFlightWithoutEnd.ts"]]))

/** A Worker that is ready, and a token of 3 s that it has not read. */
const prepared = Effect.fnUntraced(function*(source: Promise<string>, flags: ReadonlyArray<string> = recommended) {
  const aden = yield* AdenEmulator
  const url = yield* running({ source: yield* Effect.promise(() => source), server: new URL(aden.url).host, flags })
  const ask = (path: string) => Effect.promise(async () => (await fetch(url + path)).text())
  // the first request waits for the Worker to be loaded
  yield* ask("/status")
  yield* aden.addIntegration({ id: "hubspot", tokenLifetime: "3 seconds" })
  return {
    read: ask("/token"),
    /** The request stays open so long, in ms, after its answer. */
    readOpen: (open: number) => ask(`/token?open=${open}`),
    until: (status: string) =>
      Effect.repeat(ask("/status"), { until: (now) => now === status, schedule: Schedule.spaced("50 millis") }),
    issued: Effect.map(aden.issuedTokens, (tokens) => tokens.map(({ value }) => Redacted.value(value)))
  }
})

/** A renewal dies with the request that started it, and the token expires: what the next two reads get. */
const afterDeadRenewal = Effect.fnUntraced(function*(...worker: Parameters<typeof prepared>) {
  const aden = yield* AdenEmulator
  const { issued, read, readOpen, until } = yield* prepared(...worker)
  const [first] = yield* issued
  assert.strictEqual(yield* read, first)
  yield* until("due")
  yield* aden.setFault(Fault.Hang(), { endpoint: "refresh" })
  assert.strictEqual(yield* readOpen(300), first, "served from memory")
  yield* until("expired")
  assert.strictEqual((yield* aden.inFlight("hubspot")).current, 0, "the request has ended, and the renewal with it")
  yield* aden.clearFaults
  return { third: yield* read, fourth: yield* read, renewed: (yield* issued)[1] }
})

const unanswered = "AdenUnavailable: Aden is unavailable for \"hubspot\": no answer within 2s"

describe.skipIf(!hasWorkerd)(
  "on Cloudflare's runtime (where workerd has a program for the platform)",
  { concurrent: true, timeout: 60_000 },
  () => {
    it.live("a renewal that died with its request is given up by the read that waits for it in vain", () =>
      Effect.gen(function*() {
        const { fourth, renewed, third } = yield* afterDeadRenewal(worker)
        assert.strictEqual(third, unanswered)
        assert.isDefined(renewed)
        assert.strictEqual(fourth, renewed)
      }).pipe(Effect.provide(server())))

    it.live("so it is where Node's async context binds each fiber to its request", () =>
      Effect.gen(function*() {
        const { fourth, renewed, third } = yield* afterDeadRenewal(worker, [])
        assert.strictEqual(third, unanswered)
        assert.isDefined(renewed)
        assert.strictEqual(fourth, renewed)
      }).pipe(Effect.provide(server())))

    it.live("a single flight that nobody gives up would fail every later read", () =>
      Effect.gen(function*() {
        const { fourth, renewed, third } = yield* afterDeadRenewal(neverGivingUp)
        assert.strictEqual(third, unanswered)
        assert.strictEqual(fourth, unanswered)
        assert.isUndefined(renewed)
      }).pipe(Effect.provide(server())))

    it.live("a renewal has the time that waitUntil gives it, and requests that wait at the same time share one", () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const { issued, read, readOpen, until } = yield* prepared(worker)
        const [first] = yield* issued
        yield* aden.setFault(Fault.Latency({ duration: "200 millis" }))
        assert.deepStrictEqual(yield* Effect.all([read, read, read], { concurrency: "unbounded" }), [
          first,
          first,
          first
        ])
        assert.strictEqual(yield* aden.countRequests({ endpoint: "get" }), 1)
        yield* until("due")
        assert.strictEqual(yield* readOpen(10_000), first, "served from memory")
        assert.lengthOf(yield* issued, 1)
        yield* until("fresh")
        assert.strictEqual(yield* read, (yield* issued)[1])
      }).pipe(Effect.provide(server())))
  }
)
