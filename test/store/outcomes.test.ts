/**
 * The table "Outcomes" of docs/semantics.md, "What a read returns, and when Aden is asked", row by row: each test is named after
 * the current credential, Aden's answer, and the outcome. The row of files that cannot be decrypted is in
 * `outcomes.files.io.test.ts`.
 */
import { assert, describe, it } from "@effect/vitest"
import { Credential, CredentialStorage, CredentialStore, MemoryStorage } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { DateTime, Duration, Effect, Fiber, Layer, Option, Redacted, Stream } from "effect"
import { TestClock } from "effect/testing"
import {
  collectingWarnings,
  count,
  eventsOf,
  eventually,
  forever,
  oneHour,
  restarted,
  setup,
  token
} from "../fixtures/emulatedStore.ts"
import { repeats } from "../fixtures/repeats.ts"

const answer = (status: number, error: string, more: Readonly<Record<string, unknown>> = {}) =>
  Fault.Status({ status, body: JSON.stringify({ error, message: "no", ...more }) })

const unavailable = Fault.Status({ status: 503 })
const rateLimited = Fault.RateLimited({ retryAfter: 60 })
const unauthorized = answer(401, "unauthorized")
const forbidden = answer(403, "forbidden")
const refreshFailed = answer(400, "refresh_failed", { requires_reauthorization: false })
const rejected = answer(422, "unprocessable")

/** A storage that tells of no change: what is deleted there stays in memory until the storage is read. */
const silent = Layer.effect(
  CredentialStorage,
  Effect.map(CredentialStorage, (storage) => CredentialStorage.of({ ...storage, changes: Stream.empty }))
).pipe(Layer.provide(MemoryStorage.layer()))

/** Everything asked of Aden so far. */
const asked = Effect.flatMap(AdenEmulator, (aden) => aden.countRequests())

const readsOf = (ref: string, times: number) =>
  Effect.forEach(Array.from({ length: times }), () => token(ref), { concurrency: "unbounded" })

const failuresOf = (ref: string, times: number) =>
  Effect.flatMap(
    CredentialStore,
    (store) =>
      Effect.forEach(Array.from({ length: times }), () => Effect.flip(store.token(ref)), { concurrency: "unbounded" })
  )

const failureOf = (ref: string) => Effect.flatMap(CredentialStore, (store) => Effect.flip(store.token(ref)))

/** Stored, and expired for an hour. */
const hubspotExpired = Effect.andThen(token("hubspot"), TestClock.adjust("2 hours"))

describe("fresh", () => {
  it.effect("fresh: Aden is not asked; the cached credential, no I/O", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const storage = yield* CredentialStorage
      const first = yield* token("hubspot")
      yield* storage.delete("hubspot")
      yield* aden.stop
      yield* TestClock.adjust("4 minutes")
      const before = yield* asked
      assert.deepStrictEqual(new Set(yield* readsOf("hubspot", 1_000)), new Set([first]))
      assert.strictEqual(yield* asked, before)
    }).pipe(Effect.provide(setup({ aden: oneHour, storage: silent }))))
})

describe("stale or due, not expired", () => {
  it.effect("stale: asked in the background, once, by one GET; the cached credential at once", () =>
    Effect.gen(function*() {
      yield* token("github")
      const before = yield* count("get")
      yield* TestClock.adjust("6 minutes")
      assert.strictEqual(new Set(yield* readsOf("github", 50)).size, 1)
      yield* eventually(Effect.map(count("get"), (n) => n === before + 1))
      yield* token("github")
      assert.strictEqual(yield* count("get"), before + 1)
      assert.strictEqual(yield* count("refresh"), 0)
    }).pipe(Effect.provide(setup({ aden: forever }))))

  it.effect("due: renewed in the background, once, by one POST with no GET before it; the cached credential at once, the new one for later calls", () =>
    Effect.gen(function*() {
      const first = yield* token("hubspot")
      const before = yield* count("get")
      yield* TestClock.adjust("56 minutes")
      assert.deepStrictEqual(new Set(yield* readsOf("hubspot", 50)), new Set([first]))
      yield* eventually(Effect.map(token("hubspot"), (now) => now !== first))
      assert.strictEqual(yield* count("refresh"), 1)
      assert.strictEqual(yield* count("get"), before)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))
})

describe("expired, or none: Aden answers", () => {
  it.effect("expired: the new credential; all concurrent callers share one request, a POST with no GET before it", () =>
    Effect.gen(function*() {
      const first = yield* token("hubspot")
      const before = yield* count("get")
      yield* TestClock.adjust("2 hours")
      const all = yield* readsOf("hubspot", repeats(10_000, 40))
      assert.strictEqual(new Set(all).size, 1)
      assert.notStrictEqual(all[0], first)
      assert.strictEqual(yield* count("refresh"), 1)
      assert.strictEqual(yield* count("get"), before)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("none: the credential, saved and then served from memory; all concurrent callers share one request, a GET", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      const all = yield* readsOf("hubspot", repeats(10_000, 40))
      assert.strictEqual(new Set(all).size, 1)
      assert.strictEqual(yield* count("get"), 1)
      assert.strictEqual(yield* count("list"), 1)
      const credential = yield* store.get("hubspot")
      assert.strictEqual(credential.id, "hubspot")
      assert.strictEqual(credential.integrationType, "hubspot")
      assert.isTrue(credential.isAdenManaged)
      assert.strictEqual(Redacted.value(credential.keys.get("access_token")!.value), all[0])
      assert.isTrue(Option.isSome(yield* storage.load("hubspot")))
      assert.strictEqual(yield* asked, 2)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("none, and the GET answers an expired token: it is not served, but renewed", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.expire("hubspot")
      yield* TestClock.adjust("2 hours")
      const store = yield* CredentialStore
      const credential = yield* store.get("hubspot")
      assert.isTrue(DateTime.isGreaterThan(credential.expiresAt!, yield* DateTime.now))
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: { ...oneHour, refreshOnGet: false } }))))
})

describe("stale or due: Aden cannot or will not", () => {
  const kinds = [
    { kind: "stale", endpoint: "get", options: { aden: { integrations: [{ id: "it" }] } } },
    {
      kind: "due",
      endpoint: "refresh",
      options: { aden: { integrations: [{ id: "it", tokenLifetime: "60 hours" }] }, refreshBuffer: "20 hours" }
    }
  ] as const
  const failures = [
    { answers: "unavailable", fault: unavailable, tag: "AdenUnavailable", pause: [0, 7], served: "24 hours" },
    { answers: "rate-limited", fault: rateLimited, tag: "RateLimited", pause: [59, 2], served: "24 hours" },
    { answers: "401", fault: unauthorized, tag: "AdenUnauthorized", pause: [0, 7], served: "1 hour" },
    { answers: "403", fault: forbidden, tag: "AdenForbidden", pause: [0, 7], served: "1 hour" },
    { answers: "refresh failed", fault: refreshFailed, tag: "RefreshFailed", pause: [0, 7], served: "24 hours" }
  ] as const

  for (const { endpoint, kind, options } of kinds) {
    for (const { answers, fault, pause: [silent, until], served, tag } of failures) {
      const since = served === "1 hour" ? "since the refusal" : "since Aden last confirmed it"
      it.effect(
        `${kind}, ${answers}: the cached credential, a warning and a ServedStale event, up to ${served} ${since}, then ` +
          `${tag}; next try when the ${tag === "RateLimited" ? "hint" : "policy"} says`,
        () =>
          collectingWarnings((warnings) =>
            Effect.gen(function*() {
              const aden = yield* AdenEmulator
              const store = yield* CredentialStore
              yield* token("it")
              // confirmed for the last time after 35 hours
              yield* TestClock.adjust("35 hours")
              yield* Effect.ignore(store.token("it"))
              yield* eventually(Effect.map(store.explain("it"), ({ status }) => status === "fresh"))
              const cached = yield* token("it")
              const events = yield* eventsOf
              yield* aden.setFault(fault)

              yield* TestClock.adjust("10 hours")
              const before = yield* asked
              const tried = (times: number) => eventually(Effect.map(asked, (n) => n === before + times))
              const toldOf = (times: number) =>
                eventually(Effect.sync(() => events.filter((event) => event._tag === "ServedStale").length === times))
              assert.strictEqual((yield* store.explain("it")).status, kind)
              assert.deepStrictEqual(new Set(yield* readsOf("it", 100)), new Set([cached]))
              yield* tried(1)
              yield* toldOf(1)
              assert.strictEqual(yield* aden.countRequests({ endpoint }), endpoint === "get" ? 3 : 1)
              assert.deepStrictEqual(warnings, ["Serving a cached credential that Aden did not confirm"])
              assert.deepStrictEqual(events, [{ _tag: "ServedStale", id: "it", error: tag }])

              yield* TestClock.adjust(Duration.seconds(silent))
              yield* readsOf("it", 100)
              assert.strictEqual(yield* asked, before + 1)
              yield* TestClock.adjust(Duration.seconds(until))
              yield* readsOf("it", 100)
              yield* tried(2)
              yield* toldOf(2)

              const left = served === "24 hours" ? "13 hours" : "50 minutes"
              yield* TestClock.adjust(left)
              assert.strictEqual(yield* token("it"), cached)
              yield* toldOf(3)
              yield* TestClock.adjust(served === "24 hours" ? "61 minutes" : "11 minutes")
              assert.strictEqual((yield* failureOf("it"))._tag, tag)
            })
          ).pipe(Effect.provide(setup(options)))
      )
    }
  }

  it.effect("due, unavailable until it expires: served to its expiry, then AdenUnavailable", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const first = yield* token("hubspot")
      yield* aden.setFault(unavailable)
      yield* TestClock.adjust("57 minutes")
      assert.strictEqual(yield* token("hubspot"), first)
      yield* eventually(Effect.map(store.explain("hubspot"), ({ lastError }) => lastError === "AdenUnavailable"))
      assert.strictEqual((yield* store.explain("hubspot")).source, "served stale")
      yield* TestClock.adjust("179 seconds")
      assert.strictEqual(yield* token("hubspot"), first)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* failureOf("hubspot"))._tag, "AdenUnavailable")
    }).pipe(Effect.provide(setup({ aden: oneHour }))))
})

describe("expired, or none: unavailable, circuit open", () => {
  it.effect("expired, unavailable: AdenUnavailable for all who wait; the next read starts exactly one new request", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* hubspotExpired
      yield* aden.setFault(Fault.Status({ status: 500 }), { endpoint: "refresh" })
      const errors = yield* failuresOf("hubspot", 100)
      assert.strictEqual(new Set(errors).size, 1)
      assert.strictEqual(errors[0]?._tag, "AdenUnavailable")
      assert.strictEqual(yield* count("refresh"), 1)
      yield* failureOf("hubspot")
      assert.strictEqual(yield* count("refresh"), 2)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  for (const endpoint of ["list", "get"] as const) {
    it.effect(`none, the ${endpoint} unavailable: AdenUnavailable`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        yield* aden.setFault(unavailable, { endpoint })
        assert.deepStrictEqual(
          new Set((yield* failuresOf("hubspot", 100)).map(({ _tag }) => _tag)),
          new Set(["AdenUnavailable"])
        )
        assert.strictEqual(yield* count(endpoint), 1)
        yield* aden.clearFaults
        yield* token("hubspot")
      }).pipe(Effect.provide(setup({ aden: oneHour }))))
  }

  for (const held of ["expired", "none"] as const) {
    it.effect(`${held}, circuit open: AdenUnavailable, without a request`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        if (held === "expired") yield* hubspotExpired
        yield* aden.setFault(unavailable)
        for (let i = 0; i < 3; i++) yield* failureOf("hubspot")
        const before = yield* asked
        const error = yield* failureOf("hubspot")
        assert.strictEqual(error._tag, "AdenUnavailable")
        if (error._tag === "AdenUnavailable") assert.strictEqual(error.reason._tag, "AdenCircuitOpen")
        assert.strictEqual(yield* asked, before)
      }).pipe(Effect.provide(setup({ aden: oneHour, circuitOpensAfter: 3 }))))
  }

  it.effect("expired, or none, no answer at all: AdenUnavailable after the deadline, whatever was waited for", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* hubspotExpired
      yield* aden.setFault(Fault.Hang())
      for (const [ref, endpoint] of [["hubspot", "refresh"], ["nothing", "list"]] as const) {
        const before = yield* count(endpoint)
        const fiber = yield* Effect.forkChild(failureOf(ref))
        yield* eventually(Effect.map(count(endpoint), (n) => n === before + 1))
        yield* TestClock.adjust("9999 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "AdenUnavailable")
      }
    }).pipe(Effect.provide(setup({ aden: oneHour, store: { deadline: "10 seconds" } }))))
})

describe("expired, or none: rate-limited", () => {
  const cases = [
    { held: "expired", before: hubspotExpired, endpoint: "refresh" },
    { held: "none, the list", before: Effect.void, endpoint: "list" },
    { held: "none, the GET", before: Effect.void, endpoint: "get" }
  ] as const
  for (const { before, endpoint, held } of cases) {
    it.effect(`${held} rate-limited: RateLimited with the time left; no request for it goes out before that time`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        yield* before
        yield* aden.setFault(rateLimited, { endpoint, times: 1 })
        const errors = yield* failuresOf("hubspot", 20)
        assert.deepStrictEqual(new Set(errors.map((error) => error._tag)), new Set(["RateLimited"]))
        const asks = yield* count(endpoint)
        yield* TestClock.adjust("20 seconds")
        const later = yield* failureOf("hubspot")
        assert.strictEqual(later._tag, "RateLimited")
        if (later._tag === "RateLimited") assert.strictEqual(Duration.toSeconds(later.retryAfter), 40)
        yield* TestClock.adjust("39 seconds")
        yield* failuresOf("hubspot", 20)
        assert.strictEqual(yield* count(endpoint), asks)
        yield* TestClock.adjust("2 seconds")
        yield* token("hubspot")
        assert.strictEqual(yield* count(endpoint), asks + 1)
      }).pipe(Effect.provide(setup({ aden: oneHour }))))
  }
})

describe("expired, or none: 401, 403", () => {
  for (
    const [status, fault, tag] of [[401, unauthorized, "AdenUnauthorized"], [403, forbidden, "AdenForbidden"]] as const
  ) {
    it.effect(`expired, ${status}: ${tag}`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        yield* hubspotExpired
        yield* aden.setFault(fault)
        assert.strictEqual((yield* failureOf("hubspot"))._tag, tag)
      }).pipe(Effect.provide(setup({ aden: oneHour }))))

    for (const endpoint of ["list", "get"] as const) {
      it.effect(`none, ${status} to the ${endpoint}: ${tag}`, () =>
        Effect.gen(function*() {
          const aden = yield* AdenEmulator
          yield* aden.setFault(fault, { endpoint })
          assert.strictEqual((yield* failureOf("hubspot"))._tag, tag)
        }).pipe(Effect.provide(setup({ aden: oneHour }))))
    }
  }
})

describe("expired: refresh failed, or rejected", () => {
  const cases = [
    ["refresh failed, without re-authorization", refreshFailed, "RefreshFailed"],
    ["rejected", rejected, "AdenRejected"]
  ] as const
  for (const [answers, fault, tag] of cases) {
    it.effect(`expired, ${answers}: ${tag}; next try by back-off`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        yield* hubspotExpired
        yield* aden.setFault(fault)
        let tries = 0
        // exponential from 5 s, give or take a fifth
        for (const [shortest, longest] of [[4, 6], [8, 12], [16, 24]] as const) {
          tries++
          for (const error of yield* failuresOf("hubspot", 100)) assert.strictEqual(error._tag, tag)
          assert.strictEqual(yield* count("refresh"), tries)
          yield* TestClock.adjust(Duration.millis(shortest * 1_000 - 1))
          assert.strictEqual((yield* failureOf("hubspot"))._tag, tag)
          assert.strictEqual(yield* count("refresh"), tries)
          yield* TestClock.adjust(Duration.millis((longest - shortest) * 1_000 + 1))
        }
        yield* aden.clearFaults
        yield* token("hubspot")
        assert.strictEqual(yield* count("refresh"), tries + 1)
        // a success starts the back-off again from its first step
        yield* TestClock.adjust("2 hours")
        yield* aden.setFault(fault)
        yield* failureOf("hubspot")
        yield* TestClock.adjust("6 seconds")
        yield* failureOf("hubspot")
        assert.strictEqual(yield* count("refresh"), tries + 3)
      }).pipe(Effect.provide(setup({ aden: oneHour }))))
  }
})

describe("expired: Aden answers again what the program found refused", () => {
  it.effect("RefreshFailed; next try by back-off, each later than the one before", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const refused = yield* token("hubspot")
      yield* aden.setFault(Fault.Patch({ fields: { access_token: refused } }))
      yield* store.invalidate("hubspot")
      const tries = new Array<number>()
      for (let second = 0; second < 80; second++) {
        assert.strictEqual((yield* failureOf("hubspot"))._tag, "RefreshFailed")
        if ((yield* count("refresh")) > tries.length) tries.push(second)
        yield* TestClock.adjust("1 second")
      }
      // exponential from 5 s, give or take a fifth: after 0, 5, 15, 35 and 75 s
      assert.isAtMost(tries.length, 5, tries.join(" "))
      yield* aden.clearFaults
      yield* TestClock.adjust("96 seconds")
      assert.notStrictEqual(yield* token("hubspot"), refused)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))
})

describe("any: re-authorization required", () => {
  const assertBlocked = Effect.fnUntraced(function*(ref: string) {
    const { url } = yield* AdenEmulator
    for (const error of yield* failuresOf(ref, repeats(1_000, 40))) {
      assert.strictEqual(error._tag, "ReauthRequired")
      if (error._tag === "ReauthRequired") {
        assert.strictEqual(error.reauthorizationUrl, `${url}/integrations/${ref}/connect`)
        assert.include(error.message, `${url}/integrations/${ref}/connect`)
      }
    }
  })

  /** Held, unexpired, and revoked at the provider, which is then found out. */
  const blocked = Effect.gen(function*() {
    const aden = yield* AdenEmulator
    const store = yield* CredentialStore
    yield* token("hubspot")
    yield* aden.revoke("hubspot")
    yield* Effect.flip(store.refresh("hubspot"))
  })

  it.effect("fresh, 400 to a refresh: ReauthRequired with its URL for every caller; the unexpired token is not served", () =>
    Effect.andThen(blocked, assertBlocked("hubspot")).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("due, 400: served once more while Aden is asked; then ReauthRequired for every caller", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const first = yield* token("hubspot")
      const events = yield* eventsOf
      yield* aden.revoke("hubspot")
      yield* TestClock.adjust("57 minutes")
      assert.strictEqual(yield* token("hubspot"), first)
      yield* eventually(Effect.sync(() => events.length > 0))
      yield* assertBlocked("hubspot")
      assert.deepStrictEqual(events.map(({ _tag }) => _tag), ["ReauthorizationRequired"])
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("expired, 400: ReauthRequired for every caller, by one request and one event", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* hubspotExpired
      const events = yield* eventsOf
      yield* aden.revoke("hubspot")
      yield* assertBlocked("hubspot")
      yield* assertBlocked("hubspot")
      assert.strictEqual(yield* count("refresh"), 1)
      assert.deepStrictEqual(events.map(({ _tag }) => _tag), ["ReauthorizationRequired"])
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("fresh, validate: ReauthRequired for every caller from then on", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* aden.revoke("hubspot")
      assert.isFalse((yield* store.validate("hubspot")).valid)
      yield* assertBlocked("hubspot")
      assert.strictEqual(yield* count("refresh"), 0)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("fresh, requires_reauth in the list: after a sync ReauthRequired for every caller, the URL from one validate", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* aden.revoke("hubspot")
      yield* store.sync
      yield* assertBlocked("hubspot")
      assert.strictEqual(yield* count("validate"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("none, requires_reauth in the list: ReauthRequired for every caller, the URL from one validate, no GET", () =>
    Effect.gen(function*() {
      yield* assertBlocked("slack")
      assert.strictEqual(yield* count("validate"), 1)
      assert.strictEqual(yield* count("get"), 0)
    }).pipe(Effect.provide(setup())))

  it.effect("also over a restart, without a question to Aden", () =>
    Effect.gen(function*() {
      yield* blocked
      const before = yield* asked
      yield* restarted(assertBlocked("hubspot"))
      assert.strictEqual(yield* asked, before)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  for (const how of ["sync", "refresh"] as const) {
    it.effect(`until a ${how} finds it connected`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const store = yield* CredentialStore
        yield* blocked
        yield* aden.connect("hubspot")
        const events = yield* eventsOf
        assert.strictEqual((yield* failureOf("hubspot"))._tag, "ReauthRequired")
        yield* how === "sync" ? Effect.asVoid(store.sync) : Effect.asVoid(store.refresh("hubspot"))
        yield* token("hubspot")
        assert.strictEqual(yield* count("validate"), 0)
        assert.include(events.map(({ _tag }) => _tag), "Reconnected")
      }).pipe(Effect.provide(setup({ aden: oneHour }))))
  }

  it.effect("until a re-check finds it connected: at most one validate per 30 s, in the foreground, then one GET", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* blocked
      const events = yield* eventsOf
      const before = yield* count("get")
      yield* TestClock.adjust("29 seconds")
      for (let checks = 1; checks <= 3; checks++) {
        yield* TestClock.adjust("2 seconds")
        yield* assertBlocked("hubspot")
        yield* TestClock.adjust("29 seconds")
        assert.strictEqual((yield* failureOf("hubspot"))._tag, "ReauthRequired")
        assert.strictEqual(yield* count("validate"), checks)
      }
      assert.strictEqual(yield* count("get"), before)
      yield* aden.connect("hubspot")
      yield* TestClock.adjust("31 seconds")
      yield* token("hubspot")
      assert.strictEqual(yield* count("validate"), 4)
      assert.strictEqual(yield* count("get"), before + 1)
      yield* eventually(Effect.sync(() => events.length > 0))
      assert.deepStrictEqual(events[0], { _tag: "Reconnected", id: "hubspot" })
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  const unreachable = [
    ["is down", unavailable],
    ["limits the rate", rateLimited],
    ["answers 401", unauthorized],
    ["answers 403", forbidden],
    ["resets the connection", Fault.Reset({ at: "request" })],
    ["answers a page", Fault.Status({ status: 404, body: "<h1>no</h1>", contentType: "text/html" })]
  ] as const
  for (const [name, fault] of unreachable) {
    it.effect(`blocked, re-check cannot reach Aden, which ${name}: still ReauthRequired`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        yield* blocked
        yield* aden.setFault(fault)
        yield* TestClock.adjust("31 seconds")
        yield* assertBlocked("hubspot")
        assert.strictEqual(yield* count("validate"), 1)
      }).pipe(Effect.provide(setup({ aden: oneHour }))))
  }

  it.effect("blocked, re-check hangs: still ReauthRequired, after the deadline", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* blocked
      yield* aden.setFault(Fault.Hang())
      yield* TestClock.adjust("31 seconds")
      const waiting = yield* Effect.forkChild(assertBlocked("hubspot"))
      yield* eventually(Effect.map(count("validate"), (n) => n === 1))
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(waiting)
    }).pipe(Effect.provide(setup({ aden: oneHour, store: { deadline: "10 seconds" } }))))
})

describe("any, ours: integration not found", () => {
  const assertGone = Effect.gen(function*() {
    const storage = yield* CredentialStorage
    assert.strictEqual((yield* failureOf("hubspot"))._tag, "CredentialNotFound")
    assert.isTrue(Option.isNone(yield* storage.load("hubspot")))
  })

  it.effect("expired, and the list lacks it too: the entry is removed, CredentialNotFound", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* hubspotExpired
      const events = yield* eventsOf
      yield* aden.removeIntegration("hubspot")
      yield* assertGone
      yield* eventually(Effect.sync(() => events.length > 0))
      assert.deepStrictEqual(events, [{ _tag: "Removed", id: "hubspot" }])
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  for (const [kind, minutes] of [["stale", 6], ["due", 57]] as const) {
    it.effect(`${kind}, and the list lacks it too: a disconnected integration is not served from cache`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        yield* token("hubspot")
        const events = yield* eventsOf
        yield* aden.removeIntegration("hubspot")
        yield* TestClock.adjust(Duration.minutes(minutes))
        yield* token("hubspot")
        yield* eventually(Effect.sync(() => events.some(({ _tag }) => _tag === "Removed")))
        yield* assertGone
      }).pipe(Effect.provide(setup({ aden: oneHour }))))
  }

  it.effect("expired, and the list that lacks it tells of further pages: AdenUnavailable, nothing is removed", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const storage = yield* CredentialStorage
      yield* hubspotExpired
      yield* aden.removeIntegration("hubspot")
      yield* aden.setFault(Fault.Patch({ fields: { next_cursor: "page-2" } }), { endpoint: "list" })
      const error = yield* failureOf("hubspot")
      assert.strictEqual(error._tag, "AdenUnavailable")
      assert.include(error.message, "may be incomplete")
      assert.isTrue(Option.isSome(yield* storage.load("hubspot")))
      yield* aden.clearFaults
      yield* assertGone
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("fresh, a refresh, and the list lacks it too: the entry is removed, CredentialNotFound", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* aden.removeIntegration("hubspot")
      assert.strictEqual((yield* Effect.flip(store.refresh("hubspot")))._tag, "CredentialNotFound")
      yield* assertGone
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("blocked, and the list lacks it too: the entry is removed, CredentialNotFound", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* aden.revoke("hubspot")
      yield* Effect.flip(store.refresh("hubspot"))
      yield* aden.removeIntegration("hubspot")
      yield* TestClock.adjust("31 seconds")
      yield* assertGone
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("not ours: a person's own credential of an id that Aden lacks stays", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* store.save(Credential.fromApiKey({ id: "own", apiKey: Redacted.make("my-own-key") }))
      yield* TestClock.adjust("48 hours")
      assert.strictEqual(yield* token("own"), "my-own-key")
      assert.strictEqual(yield* asked, 0)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("but the list has it: AdenUnavailable, nothing is removed", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const storage = yield* CredentialStorage
      yield* hubspotExpired
      yield* aden.setFault(answer(404, "integration_not_found"), { endpoint: "refresh" })
      assert.strictEqual((yield* failureOf("hubspot"))._tag, "AdenUnavailable")
      assert.isTrue(Option.isSome(yield* storage.load("hubspot")))
    }).pipe(Effect.provide(setup({ aden: oneHour }))))
})

describe("none, unknown ref", () => {
  it.effect("not in the list: CredentialNotFound; remembered briefly, so a loop does not hammer Aden", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      for (let i = 0; i < 100; i++) assert.strictEqual((yield* failureOf("nothing"))._tag, "CredentialNotFound")
      assert.strictEqual(yield* asked, 1)
      yield* aden.addIntegration({ id: "nothing", tokenLifetime: "1 hour" })
      yield* TestClock.adjust("31 seconds")
      yield* token("nothing")
      assert.strictEqual(yield* count("list"), 2)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("many of them: one list answers them all", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 100; i++) yield* failureOf(`nothing-${i % 10}`)
      assert.strictEqual(yield* asked, 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("an empty one: CredentialNotFound, no request", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* failureOf(""))._tag, "CredentialNotFound")
      assert.strictEqual(yield* asked, 0)
    }).pipe(Effect.provide(setup())))
})
