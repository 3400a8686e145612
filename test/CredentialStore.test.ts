import { assert, describe, it } from "@effect/vitest"
import {
  AdenClient,
  AdenSyncProvider,
  Credential,
  type CredentialEvent,
  CredentialProviders,
  CredentialStorage,
  CredentialStore,
  type CredentialStoreOptions,
  MemoryStorage
} from "aden-credentials"
import { AdenEmulator, type AdenEmulatorOptions, Fault } from "aden-credentials/emulator"
import { DateTime, Duration, Effect, Fiber, Layer, Option, Redacted, Schedule, Stream } from "effect"
import { FetchHttpClient } from "effect/http"
import { TestClock } from "effect/testing"

// A real Aden server over a socket, on virtual time: the emulator reads the same clock as the store.

interface Setup {
  readonly aden?: AdenEmulatorOptions | undefined
  readonly store?: CredentialStoreOptions | undefined
  readonly retry?: Schedule.Schedule<unknown> | undefined
  readonly refreshBuffer?: Duration.Input | undefined
}

const client = (retry: Schedule.Schedule<unknown> = Schedule.recurs(0)) =>
  Layer.unwrap(Effect.map(AdenEmulator, (aden) =>
    AdenClient.layer({
      baseUrl: aden.url,
      apiKey: aden.apiKey,
      tenantId: aden.tenantId,
      retry,
      // One credential's failures are looked at here, not the circuit.
      circuitBreaker: { failures: 10_000 }
    }))).pipe(Layer.provide(FetchHttpClient.layer))

const setup = (options: Setup = {}) =>
  CredentialStore.layer(options.store).pipe(
    Layer.provide(AdenSyncProvider.layer({ refreshBuffer: options.refreshBuffer })),
    Layer.provide(client(options.retry)),
    Layer.provideMerge(MemoryStorage.layer()),
    Layer.provideMerge(AdenEmulator.layer(options.aden))
  )

/** A second store over the same storage and server, as after a restart. */
const restarted = <A, E, R>(program: Effect.Effect<A, E, R>, options: CredentialStoreOptions = {}) =>
  Effect.provide(
    program,
    Layer.fresh(CredentialStore.layer(options)).pipe(
      Layer.provide(Layer.fresh(AdenSyncProvider.layer())),
      Layer.provide(Layer.fresh(client()))
    )
  )

const oneHour: AdenEmulatorOptions = { integrations: [{ id: "hubspot", tokenLifetime: "1 hour" }] }
const forever: AdenEmulatorOptions = { integrations: [{ id: "github" }] }

const count = (endpoint: "list" | "get" | "refresh" | "validate") =>
  Effect.flatMap(AdenEmulator, (aden) => aden.countRequests({ endpoint }))

/** Lets background work over the socket go on until `condition` holds. */
const eventually = <E, R>(condition: Effect.Effect<boolean, E, R>) =>
  condition.pipe(
    Effect.flatMap((holds) => holds ? Effect.void : Effect.fail("not yet" as const)),
    Effect.tapError(() => Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 2)))),
    Effect.retry({ times: 1_000, while: (error) => error === "not yet" })
  )

const token = (ref: string) => Effect.flatMap(CredentialStore, (store) => Effect.map(store.token(ref), Redacted.value))

describe("CredentialStore: what a read answers", () => {
  it.effect("none, Aden answers: the credential is fetched, saved and answered, and then served from memory", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      const first = yield* store.get("hubspot")
      assert.strictEqual(first.id, "hubspot")
      assert.strictEqual(first.integrationType, "hubspot")
      assert.isTrue(first.isAdenManaged)
      const asked = yield* count("get")
      assert.strictEqual(yield* token("hubspot"), Redacted.value(first.keys.get("access_token")!.value))
      assert.strictEqual(yield* count("get"), asked)
      assert.isTrue(Option.isSome(yield* storage.load("hubspot")))
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("fresh: the cached credential, no I/O", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* token("hubspot")
      yield* aden.stop
      yield* TestClock.adjust("4 minutes")
      const before = yield* aden.countRequests()
      for (let i = 0; i < 100; i++) yield* token("hubspot")
      assert.strictEqual(yield* aden.countRequests(), before)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("stale, not expired: asked in the background once, the cached credential at once", () =>
    Effect.gen(function*() {
      yield* token("github")
      const before = yield* count("get")
      yield* TestClock.adjust("6 minutes")
      const all = yield* Effect.forEach(Array.from({ length: 50 }), () => token("github"), { concurrency: "unbounded" })
      assert.strictEqual(new Set(all).size, 1)
      yield* eventually(Effect.map(count("get"), (n) => n === before + 1))
      yield* token("github")
      assert.strictEqual(yield* count("get"), before + 1)
      assert.strictEqual(yield* count("refresh"), 0)
    }).pipe(Effect.provide(setup({ aden: forever }))))

  it.effect("due, not expired: renewed in the background once, the cached credential at once, the new one for later calls", () =>
    Effect.gen(function*() {
      const first = yield* token("hubspot")
      yield* TestClock.adjust("56 minutes")
      const all = yield* Effect.forEach(Array.from({ length: 50 }), () => token("hubspot"), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(new Set(all), new Set([first]))
      yield* eventually(Effect.map(token("hubspot"), (now) => now !== first))
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("expired, Aden answers: the new credential; all concurrent callers share one request", () =>
    Effect.gen(function*() {
      const first = yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      const all = yield* Effect.forEach(Array.from({ length: 10_000 }), () => token("hubspot"), {
        concurrency: "unbounded"
      })
      assert.strictEqual(new Set(all).size, 1)
      assert.notStrictEqual(all[0], first)
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("due, Aden unavailable: the cached credential, a warning and a ServedStale event", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const events: Array<CredentialEvent> = []
      yield* Effect.forkScoped(Stream.runForEach(store.changes, (event) => Effect.sync(() => events.push(event))), {
        startImmediately: true
      })
      const first = yield* token("hubspot")
      yield* aden.setFault(Fault.Status({ status: 503 }))
      yield* TestClock.adjust("57 minutes")
      const before = yield* count("refresh")
      for (let i = 0; i < 1_000; i++) assert.strictEqual(yield* token("hubspot"), first)
      yield* eventually(Effect.sync(() => events.some((event) => event._tag === "ServedStale")))
      for (let i = 0; i < 1_000; i++) assert.strictEqual(yield* token("hubspot"), first)
      assert.strictEqual(yield* count("refresh"), before + 1)
      const explanation = yield* store.explain("hubspot")
      assert.strictEqual(explanation.source, "served stale")
      assert.strictEqual(explanation.lastError, "AdenUnavailable")
      // At expiry the token is not served any more.
      yield* TestClock.adjust("3 minutes")
      const error = yield* Effect.flip(store.token("hubspot"))
      assert.strictEqual(error._tag, "AdenUnavailable")
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("stale or due, unavailable for longer than maxStale since Aden last confirmed it: the error", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const first = yield* token("github")
      yield* aden.stop
      yield* TestClock.adjust("23 hours")
      assert.strictEqual(yield* token("github"), first)
      yield* TestClock.adjust("61 minutes")
      assert.strictEqual((yield* Effect.flip(store.token("github")))._tag, "AdenUnavailable")
    }).pipe(Effect.provide(setup({ aden: forever }))))

  it.effect("401 on a stale credential: served for an hour after that, then AdenUnauthorized", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const first = yield* token("github")
      yield* aden.setApiKeys([Redacted.make("another-key")])
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(yield* token("github"), first)
      yield* eventually(Effect.map(store.explain("github"), (e) => e.lastError === "AdenUnauthorized"))
      yield* TestClock.adjust("59 minutes")
      assert.strictEqual(yield* token("github"), first)
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual((yield* Effect.flip(store.token("github")))._tag, "AdenUnauthorized")
    }).pipe(Effect.provide(setup({ aden: forever }))))

  it.effect("expired, rate-limited: RateLimited with the time left; no request for it before that time", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 60 }), { endpoint: "refresh", times: 1 })
      const errors = yield* Effect.forEach(Array.from({ length: 20 }), () => Effect.flip(store.token("hubspot")), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(new Set(errors.map((error) => error._tag)), new Set(["RateLimited"]))
      assert.strictEqual(yield* count("refresh"), 1)
      yield* TestClock.adjust("20 seconds")
      const later = yield* Effect.flip(store.token("hubspot"))
      assert.strictEqual(later._tag, "RateLimited")
      if (later._tag === "RateLimited") assert.strictEqual(Duration.toSeconds(later.retryAfter), 40)
      assert.strictEqual((yield* Effect.flip(store.refresh("hubspot")))._tag, "RateLimited")
      assert.strictEqual(yield* count("refresh"), 1)
      yield* TestClock.adjust("41 seconds")
      yield* token("hubspot")
      assert.strictEqual(yield* count("refresh"), 2)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  for (const [status, tag] of [[401, "AdenUnauthorized"], [403, "AdenForbidden"]] as const) {
    it.effect(`expired, ${status}: ${tag}`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const store = yield* CredentialStore
        yield* token("hubspot")
        yield* TestClock.adjust("2 hours")
        yield* aden.setFault(Fault.Status({ status, body: `{"error":"no","message":"no"}` }))
        assert.strictEqual((yield* Effect.flip(store.token("hubspot")))._tag, tag)
      }).pipe(Effect.provide(setup({ aden: oneHour }))))
  }

  it.effect("expired, refresh failed without re-authorization: RefreshFailed; next try by back-off", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(
        Fault.Status({
          status: 400,
          body: `{"error":"refresh_failed","message":"try later","requires_reauthorization":false}`
        }),
        { times: 1 }
      )
      const error = yield* Effect.flip(store.token("hubspot"))
      assert.strictEqual(error._tag, "RefreshFailed")
      for (let i = 0; i < 100; i++) {
        const again = yield* Effect.flip(store.token("hubspot"))
        assert.strictEqual(again._tag, "RefreshFailed")
      }
      assert.strictEqual(yield* count("refresh"), 1)
      yield* TestClock.adjust("7 seconds")
      yield* token("hubspot")
      assert.strictEqual(yield* count("refresh"), 2)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("any, re-authorization required: ReauthRequired with its URL for every caller, over a restart, an unexpired token is not served", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* aden.revoke("hubspot")
      const first = yield* Effect.flip(store.refresh("hubspot"))
      assert.strictEqual(first._tag, "ReauthRequired")
      const errors = yield* Effect.forEach(Array.from({ length: 1_000 }), () => Effect.flip(store.token("hubspot")), {
        concurrency: "unbounded"
      })
      for (const error of errors) {
        assert.strictEqual(error._tag, "ReauthRequired")
        if (error._tag === "ReauthRequired") {
          assert.strictEqual(error.reauthorizationUrl, `${aden.url}/integrations/hubspot/connect`)
          assert.include(error.message, `${aden.url}/integrations/hubspot/connect`)
        }
      }
      assert.strictEqual(yield* count("validate"), 0)
      const afterRestart = yield* restarted(
        Effect.flip(Effect.flatMap(CredentialStore, (other) => other.token("hubspot")))
      )
      assert.strictEqual(afterRestart._tag, "ReauthRequired")
      assert.strictEqual(yield* count("validate"), 0)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("blocked: re-checked at most once per 30 s, and connected again when validate says so, by one GET", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* aden.revoke("hubspot")
      yield* Effect.flip(store.refresh("hubspot"))
      yield* TestClock.adjust("31 seconds")
      const before = yield* count("get")
      yield* Effect.forEach(Array.from({ length: 1_000 }), () => Effect.flip(store.token("hubspot")), {
        concurrency: "unbounded"
      })
      assert.strictEqual(yield* count("validate"), 1)
      assert.strictEqual(yield* count("get"), before)
      yield* aden.connect("hubspot")
      yield* TestClock.adjust("31 seconds")
      yield* token("hubspot")
      assert.strictEqual(yield* count("validate"), 2)
      assert.strictEqual(yield* count("get"), before + 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("blocked, re-check cannot reach Aden: still ReauthRequired", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* aden.revoke("hubspot")
      yield* Effect.flip(store.refresh("hubspot"))
      yield* aden.stop
      yield* TestClock.adjust("31 seconds")
      const error = yield* Effect.flip(store.token("hubspot"))
      assert.strictEqual(error._tag, "ReauthRequired")
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("none, requires_reauth in the list: ReauthRequired with the URL from one validate", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const error = yield* Effect.flip(store.token("slack"))
      assert.strictEqual(error._tag, "ReauthRequired")
      if (error._tag === "ReauthRequired") {
        assert.strictEqual(error.reauthorizationUrl, `${aden.url}/integrations/slack/connect`)
      }
      yield* Effect.flip(store.token("slack"))
      assert.strictEqual(yield* count("validate"), 1)
      assert.strictEqual(yield* count("get"), 0)
    }).pipe(Effect.provide(setup())))

  it.effect("integration not found, and the list lacks it too: the entry is removed, CredentialNotFound", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      yield* token("hubspot")
      yield* aden.removeIntegration("hubspot")
      yield* TestClock.adjust("2 hours")
      const error = yield* Effect.flip(store.token("hubspot"))
      assert.strictEqual(error._tag, "CredentialNotFound")
      assert.isTrue(Option.isNone(yield* storage.load("hubspot")))
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("integration not found, but the list has it: nothing is removed", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Status({ status: 404, body: `{"error":"integration_not_found","message":"gone"}` }), {
        endpoint: "refresh"
      })
      assert.strictEqual((yield* Effect.flip(store.token("hubspot")))._tag, "AdenUnavailable")
      assert.isTrue(Option.isSome(yield* storage.load("hubspot")))
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("unknown ref: CredentialNotFound; remembered briefly, so a loop does not hammer Aden", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      for (let i = 0; i < 100; i++) {
        assert.strictEqual((yield* Effect.flip(store.token("nothing")))._tag, "CredentialNotFound")
      }
      assert.strictEqual(yield* aden.countRequests(), 1)
      yield* aden.addIntegration({ id: "nothing", tokenLifetime: "1 hour" })
      yield* TestClock.adjust("31 seconds")
      yield* token("nothing")
      assert.strictEqual(yield* count("list"), 2)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("many unknown refs: one list answers them all", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      for (let i = 0; i < 100; i++) yield* Effect.flip(store.token(`nothing-${i % 10}`))
      assert.strictEqual(yield* count("list"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("an empty ref: CredentialNotFound, no request", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      assert.strictEqual((yield* Effect.flip(store.get("")))._tag, "CredentialNotFound")
      assert.strictEqual(yield* aden.countRequests(), 0)
    }).pipe(Effect.provide(setup())))

  it.effect("none, Aden unavailable: AdenUnavailable; the next read starts exactly one new request", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Status({ status: 500 }), { endpoint: "refresh" })
      const errors = yield* Effect.forEach(Array.from({ length: 100 }), () => Effect.flip(store.token("hubspot")), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(new Set(errors.map((error) => error._tag)), new Set(["AdenUnavailable"]))
      assert.strictEqual(yield* count("refresh"), 1)
      yield* Effect.flip(store.token("hubspot"))
      assert.strictEqual(yield* count("refresh"), 2)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("a GET that answers an expired token: it is not served, but renewed", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.expire("hubspot")
      yield* TestClock.adjust("2 hours")
      const store = yield* CredentialStore
      const credential = yield* store.get("hubspot")
      assert.isTrue(DateTime.isGreaterThan(credential.expiresAt!, yield* DateTime.now))
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: { ...oneHour, refreshOnGet: false } }))))

  it.effect("the deadline covers the search in Aden's list", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* aden.setFault(Fault.Hang())
      const fiber = yield* Effect.forkChild(Effect.flip(store.token("nothing")))
      yield* eventually(Effect.map(count("list"), (n) => n === 1))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "AdenUnavailable")
    }).pipe(Effect.provide(setup({ aden: oneHour, store: { deadline: "10 seconds" } }))))

  it.effect("a caller without a usable token waits at most the deadline, then AdenUnavailable", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Hang())
      const fiber = yield* Effect.forkChild(Effect.flip(store.token("hubspot")))
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "AdenUnavailable")
    }).pipe(Effect.provide(setup({ aden: oneHour, store: { deadline: "10 seconds" } }))))
})

describe("CredentialStore: refresh and concurrency", () => {
  it.effect("one waiter is interrupted: the flight and the other waiters go on", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Latency({ duration: "5 seconds" }))
      const first = yield* Effect.forkChild(store.token("hubspot"))
      const second = yield* Effect.forkChild(store.token("hubspot"))
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      yield* Fiber.interrupt(first)
      yield* TestClock.adjust("6 seconds")
      yield* Fiber.join(second)
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("all waiters are interrupted: the flight stops and leaves nothing that a later read would join", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Hang(), { times: 1 })
      const fibers = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(store.token("hubspot")))
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      yield* Fiber.interruptAll(fibers)
      yield* token("hubspot")
      assert.strictEqual(yield* count("refresh"), 2)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("a forced refresh during an ordinary read gets a result asked for after its own call", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Latency({ duration: "2 seconds" }), { times: 1 })
      const read = yield* Effect.forkChild(token("hubspot"))
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      const forced = yield* Effect.forkChild(store.refresh("hubspot"), { startImmediately: true })
      yield* TestClock.adjust("3 seconds")
      const [ordinary, fresh] = [yield* Fiber.join(read), yield* Fiber.join(forced)]
      assert.notStrictEqual(ordinary, Redacted.value(fresh.keys.get("access_token")!.value))
      assert.strictEqual(yield* count("refresh"), 2)
      assert.strictEqual(yield* token("hubspot"), Redacted.value(fresh.keys.get("access_token")!.value))
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("a token that lasts less than the refresh buffer is used while it lives, and renewed about once per half of its life", () =>
    Effect.gen(function*() {
      yield* token("short")
      for (let second = 0; second < 600; second++) {
        yield* TestClock.adjust("1 second")
        yield* token("short")
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      }
      const refreshes = yield* count("refresh")
      assert.isAtLeast(refreshes, 9)
      assert.isAtMost(refreshes, 21)
    }).pipe(Effect.provide(setup({ aden: { integrations: [{ id: "short", tokenLifetime: "1 minute" }] } }))))

  it.effect("a refresh that answers the same token causes no loop", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const first = yield* token("hubspot")
      const expiresAt = DateTime.formatIso(DateTime.add(yield* DateTime.now, { hours: 1 }))
      yield* aden.setFault(Fault.Patch({ fields: { access_token: first, expires_at: expiresAt } }))
      yield* TestClock.adjust("56 minutes")
      for (let i = 0; i < 100; i++) {
        yield* token("hubspot")
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      }
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      for (let i = 0; i < 100; i++) yield* token("hubspot")
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("a refresh that answers an expired token: RefreshFailed, next try by back-off", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Patch({ fields: { expires_at: "1970-01-01T00:00:01Z" } }))
      for (let i = 0; i < 10; i++) {
        assert.strictEqual((yield* Effect.flip(store.token("hubspot")))._tag, "RefreshFailed")
      }
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("a refresh answers without type, scopes, metadata or alias: what was stored is kept, the expiry is not", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const before = yield* store.get("google:Timothy")
      yield* aden.setFault(
        Fault.Patch({
          fields: {
            integration_type: undefined,
            alias: undefined,
            email: undefined,
            scopes: undefined,
            metadata: undefined,
            expires_at: undefined
          }
        })
      )
      const after = yield* store.refresh("google:Timothy")
      assert.strictEqual(after.integrationType, "google")
      assert.strictEqual(after.alias, "Timothy")
      assert.deepStrictEqual(after.scopes, before.scopes)
      assert.deepStrictEqual(after.identity, before.identity)
      assert.strictEqual(after.expiresAt, undefined)
      assert.strictEqual((yield* store.get("google")).id, "hash-1")
    }).pipe(Effect.provide(setup({
      aden: {
        integrations: [{
          id: "hash-1",
          type: "google",
          alias: "Timothy",
          email: "timothy@example.test",
          scopes: ["calendar", "mail"],
          tokenLifetime: "1 hour"
        }]
      }
    }))))

  it.effect("the clock jumps forward an hour: the first read sees the token as expired and refreshes", () =>
    Effect.gen(function*() {
      const first = yield* token("hubspot")
      yield* TestClock.setTime(Date.parse("1970-01-01T03:00:00Z"))
      assert.notStrictEqual(yield* token("hubspot"), first)
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("an answer asked for before the program saved its own credential does not overwrite it", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Latency({ duration: "5 seconds" }))
      const read = yield* Effect.forkChild(token("hubspot"))
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      yield* store.save(Credential.fromAccessToken({ id: "hubspot", accessToken: Redacted.make("my-own-token") }))
      yield* TestClock.adjust("6 seconds")
      yield* Fiber.join(read)
      assert.strictEqual(yield* token("hubspot"), "my-own-token")
      const storage = yield* CredentialStorage
      const stored = Option.getOrThrow(yield* storage.load("hubspot"))
      assert.strictEqual(Redacted.value(stored.keys.get("access_token")!.value), "my-own-token")
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("what another process confirmed a moment ago is not asked for again", () =>
    Effect.gen(function*() {
      yield* token("github")
      yield* TestClock.adjust("6 minutes")
      yield* restarted(Effect.andThen(token("github"), eventually(Effect.map(count("get"), (n) => n === 2))))
      const before = yield* count("get")
      yield* token("github")
      yield* TestClock.adjust("1 second")
      yield* token("github")
      assert.strictEqual(yield* count("get"), before)
    }).pipe(Effect.provide(setup({ aden: forever }))))

  it.effect("invalidate: the token at hand is not served again", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const first = yield* token("hubspot")
      yield* store.invalidate("hubspot")
      assert.notStrictEqual(yield* token("hubspot"), first)
      assert.strictEqual(yield* count("refresh"), 1)
      yield* token("hubspot")
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("a renewal that runs when the scope closes gets 5 s to finish, and is saved", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const storage = yield* CredentialStorage
      const first = yield* token("hubspot")
      yield* TestClock.adjust("56 minutes")
      yield* aden.setFault(Fault.Latency({ duration: "2 seconds" }))
      const closing = yield* Effect.forkChild(restarted(token("hubspot")))
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(yield* Fiber.join(closing), first)
      const stored = Option.getOrThrow(yield* storage.load("hubspot"))
      assert.notStrictEqual(Redacted.value(stored.keys.get("access_token")!.value), first)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))
})

describe("CredentialStore: refs", () => {
  const accounts: AdenEmulatorOptions = {
    integrations: [
      { id: "hash-1", type: "google", alias: "Timothy", tokenLifetime: "1 hour" },
      { id: "hash-2", type: "google", alias: "Ada", tokenLifetime: "1 hour" },
      { id: "hash-3", type: "hubspot", tokenLifetime: "1 hour" }
    ]
  }

  it.effect("a ref that storage lacks is looked for in Aden's list, asked once", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      assert.strictEqual((yield* store.get("google:Timothy")).id, "hash-1")
      assert.strictEqual((yield* store.get("hubspot")).id, "hash-3")
      assert.strictEqual((yield* store.get("hash-2")).id, "hash-2")
      assert.strictEqual(yield* count("list"), 1)
      assert.strictEqual(yield* count("get"), 3)
    }).pipe(Effect.provide(setup({ aden: accounts }))))

  it.effect("a provider with several accounts and no alias is AmbiguousCredential with the choices", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      for (const _ of ["from the list", "from storage"]) {
        const error = yield* Effect.flip(store.get("google"))
        assert.strictEqual(error._tag, "AmbiguousCredential")
        if (error._tag === "AmbiguousCredential") {
          assert.deepStrictEqual(error.choices, ["google:Ada", "google:Timothy"])
        }
        yield* store.sync
      }
    }).pipe(Effect.provide(setup({ aden: accounts }))))

  it.effect("the index is derived from storage and survives a restart without Aden", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const aden = yield* AdenEmulator
      yield* store.sync
      yield* aden.stop
      yield* restarted(Effect.gen(function*() {
        const other = yield* CredentialStore
        assert.strictEqual((yield* other.get("google:Ada")).id, "hash-2")
        assert.strictEqual((yield* other.get("hubspot")).id, "hash-3")
        assert.deepStrictEqual((yield* other.accounts("google")).map((account) => account.ref), [
          "google:Ada",
          "google:Timothy"
        ])
        assert.deepStrictEqual((yield* other.list).map((each) => each.ref), ["google:Ada", "google:Timothy", "hubspot"])
      }))
    }).pipe(Effect.provide(setup({ aden: accounts }))))

  it.effect("an exact id wins over a provider's name", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* store.sync
      yield* store.save(Credential.fromApiKey({ id: "google", apiKey: Redacted.make("my-key") }))
      assert.strictEqual(yield* token("google"), "my-key")
    }).pipe(Effect.provide(setup({ aden: accounts }))))

  it.effect("a second account of a provider makes the provider's name ambiguous at once", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* store.save(Credential.fromAccessToken({
        id: "own",
        accessToken: Redacted.make("t"),
        provider: "hubspot",
        alias: "Mine"
      }))
      assert.strictEqual((yield* Effect.flip(store.token("hubspot")))._tag, "AmbiguousCredential")
    }).pipe(Effect.provide(setup({ aden: accounts }))))

  it.effect("getOption, getKey, delete and explain", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      assert.isTrue(Option.isNone(yield* store.getOption("nothing")))
      assert.isTrue(Option.isSome(yield* store.getOption("hubspot")))
      assert.strictEqual((yield* Effect.flip(store.getKey("hubspot", "nothing")))._tag, "CredentialKeyNotFound")
      assert.strictEqual(Redacted.value(yield* store.getKey("hubspot", "access_token")), yield* token("hubspot"))
      const explanation = yield* store.explain("hubspot")
      assert.strictEqual(explanation.status, "fresh")
      assert.strictEqual(explanation.source, "aden")
      assert.isTrue(yield* store.delete("hubspot"))
      assert.isFalse(yield* store.delete("hash-3"))
      assert.strictEqual((yield* Effect.flip(store.explain("hubspot")))._tag, "CredentialNotFound")
    }).pipe(Effect.provide(setup({ aden: accounts }))))
})

describe("CredentialStore: sync", () => {
  it.effect("reports what was synced and what was skipped, with reasons", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const report = yield* store.sync
      assert.deepStrictEqual(report.synced.map((each) => each.id).toSorted(), ["github", "hubspot"])
      assert.deepStrictEqual(
        report.skipped.map(({ id, reason, reauthorizationUrl }) => ({ id, reason, reauthorizationUrl })),
        [
          { id: "slack", reason: "ReauthRequired", reauthorizationUrl: `${aden.url}/integrations/slack/connect` }
        ]
      )
      assert.deepStrictEqual(report.failed, [])
      assert.deepStrictEqual(report.removed, [])
      const error = yield* Effect.flip(store.token("slack"))
      assert.strictEqual(error._tag, "ReauthRequired")
    }).pipe(Effect.provide(setup())))

  it.effect("one bad integration never spoils the others", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* aden.setFault(Fault.Status({ status: 500 }), { endpoint: "get", integrationId: "hubspot" })
      const report = yield* store.sync
      assert.deepStrictEqual(report.synced.map((each) => each.id), ["github"])
      assert.deepStrictEqual(report.failed.map((each) => [each.id, each.error._tag]), [["hubspot", "AdenUnavailable"]])
    }).pipe(Effect.provide(setup())))

  it.effect("what is blocked and was never fetched can be validated, refreshed and re-checked", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* store.sync
      const validation = yield* store.validate("slack")
      assert.isFalse(validation.valid)
      assert.strictEqual((yield* Effect.flip(store.refresh("slack")))._tag, "ReauthRequired")
      yield* aden.connect("slack")
      yield* TestClock.adjust("31 seconds")
      yield* token("slack")
    }).pipe(Effect.provide(setup())))

  it.effect("a rate limit during a sync is remembered for the credential", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 60 }), { endpoint: "get", integrationId: "hubspot" })
      const first = yield* store.sync
      assert.deepStrictEqual(first.failed.map(({ error, id }) => [id, error._tag]), [["hubspot", "RateLimited"]])
      const before = yield* aden.countRequests({ integrationId: "hubspot" })
      const second = yield* store.sync
      assert.deepStrictEqual(second.failed.map(({ error, id }) => [id, error._tag]), [["hubspot", "RateLimited"]])
      assert.strictEqual((yield* Effect.flip(store.token("hubspot")))._tag, "RateLimited")
      assert.strictEqual(yield* aden.countRequests({ integrationId: "hubspot" }), before)
    }).pipe(Effect.provide(setup())))

  it.effect("a bad item in the list is skipped as Malformed", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* aden.setFault(Fault.Patch({ fields: { expires_at: 12 }, item: "hubspot" }), { endpoint: "list" })
      const report = yield* store.sync
      assert.deepStrictEqual(report.synced.map((each) => each.id), ["github"])
      assert.deepStrictEqual(
        report.skipped.map((each) => [each.id, each.reason]).toSorted(),
        [["hubspot", "Malformed"], ["slack", "ReauthRequired"]]
      )
    }).pipe(Effect.provide(setup())))

  it.effect("a person's own credential under an id that Aden lists is skipped as OwnedElsewhere, never overwritten, renewed or removed", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* store.save(Credential.fromApiKey({ id: "hubspot", apiKey: Redacted.make("my-own-key") }))
      yield* store.save(Credential.fromApiKey({ id: "unlisted", apiKey: Redacted.make("my-other-key") }))
      const report = yield* store.sync
      assert.deepStrictEqual(report.synced.map((each) => each.id), ["github"])
      assert.include(report.skipped.map((each) => `${each.id} ${each.reason}`), "hubspot OwnedElsewhere")
      assert.strictEqual(yield* token("hubspot"), "my-own-key")
      assert.strictEqual((yield* Effect.flip(store.refresh("hubspot")))._tag, "NoProvider")
      yield* TestClock.adjust("48 hours")
      assert.strictEqual(yield* token("hubspot"), "my-own-key")
      assert.strictEqual(yield* token("unlisted"), "my-other-key")
    }).pipe(Effect.provide(setup())))

  it.effect("an entry that the list lacks and Aden does not have is removed; an empty list alone removes nothing", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      yield* store.sync
      yield* aden.setFault(Fault.ReplaceBody({ body: `{"integrations":[],"tenant_id":"tenant-123"}` }), {
        endpoint: "list",
        times: 1
      })
      const empty = yield* store.sync
      assert.deepStrictEqual(empty.removed, [])
      assert.deepStrictEqual((yield* storage.list).toSorted(), ["github", "hubspot"])
      yield* aden.removeIntegration("github")
      const second = yield* store.sync
      assert.deepStrictEqual(second.removed, ["github"])
      assert.deepStrictEqual(yield* storage.list, ["hubspot"])
    }).pipe(Effect.provide(setup())))

  it.effect("syncStream: Listed comes first, and one event for each integration", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const events = yield* Stream.runCollect(store.syncStream)
      assert.deepStrictEqual(events[0], { _tag: "Listed", total: 3 })
      assert.deepStrictEqual(events.slice(1).map((event) => event._tag).toSorted(), ["Skipped", "Synced", "Synced"])
    }).pipe(Effect.provide(setup())))

  it.effect("another tenant's list: nothing is saved, a protocol error", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      yield* aden.setFault(Fault.Patch({ fields: { tenant_id: "somebody-else" } }), { endpoint: "list" })
      const error = yield* Effect.flip(store.sync)
      assert.strictEqual(error._tag, "AdenUnavailable")
      if (error._tag === "AdenUnavailable") assert.strictEqual(error.reason._tag, "AdenProtocolError")
      assert.deepStrictEqual(yield* storage.list, [])
    }).pipe(Effect.provide(setup())))

  it.effect("sync keeps description, tags, unknown fields and extra keys of an entry that Aden renews", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      yield* store.sync
      const stored = Option.getOrThrow(yield* storage.load("hubspot"))
      yield* storage.save(new Credential({ ...stored, description: "mine", tags: ["prod"] }))
      yield* store.sync
      const again = Option.getOrThrow(yield* storage.load("hubspot"))
      assert.strictEqual(again.description, "mine")
      assert.deepStrictEqual(again.tags, ["prod"])
    }).pipe(Effect.provide(setup())))

  it.live("500 integrations are fetched at most 16 at a time", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* aden.setFault(Fault.Latency({ duration: "20 millis" }))
      const report = yield* store.sync
      assert.strictEqual(report.synced.length, 500)
      const { maximum } = yield* aden.inFlight()
      assert.isAtLeast(maximum, 12)
      assert.isAtMost(maximum, 16)
    }).pipe(Effect.provide(setup({
      aden: {
        integrations: Array.from({ length: 500 }, (_, i) => ({ id: `integration-${i}`, tokenLifetime: "1 hour" }))
      }
    }))), 30_000)
})

describe("CredentialStore: without a provider", () => {
  const alone = CredentialStore.layer().pipe(
    Layer.provide(CredentialProviders.layerNone),
    Layer.provideMerge(MemoryStorage.layer())
  )

  it.effect("serves what storage holds; sync and refresh fail with NoProvider", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* store.save(Credential.fromApiKey({ id: "brave", apiKey: Redacted.make("key") }))
      assert.strictEqual(yield* token("brave"), "key")
      assert.strictEqual((yield* Effect.flip(store.sync))._tag, "NoProvider")
      assert.strictEqual((yield* Effect.flip(store.refresh("brave")))._tag, "NoProvider")
      assert.isTrue((yield* store.validate("brave")).valid)
      assert.strictEqual((yield* Effect.flip(store.token("nothing")))._tag, "CredentialNotFound")
    }).pipe(Effect.provide(alone)))

  it.effect("an expired credential is not served", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* store.save(Credential.fromAccessToken({
        id: "old",
        accessToken: Redacted.make("old-token"),
        expiresAt: DateTime.makeUnsafe(1_000)
      }))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* Effect.flip(store.token("old")))._tag, "RefreshFailed")
    }).pipe(Effect.provide(alone)))
})
