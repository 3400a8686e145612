/** docs/semantics.md, apart from its table of outcomes: freshness, explicit calls, policies, whose a credential is, events. */
import { assert, describe, it } from "@effect/vitest"
import {
  AdenSyncProvider,
  Credential,
  CredentialProviders,
  CredentialStorage,
  CredentialStore,
  MemoryStorage
} from "aden-credentials"
import { AdenEmulator, type AdenEmulatorOptions, Fault } from "aden-credentials/emulator"
import { DateTime, Duration, Effect, Fiber, Layer, Option, Redacted, Schedule } from "effect"
import { TestClock } from "effect/testing"
import {
  client,
  count,
  eventsOf,
  eventually,
  forever,
  oneHour,
  restarted,
  setup,
  token
} from "../fixtures/emulatedStore.ts"
import { memoryAden } from "../fixtures/memoryAden.ts"

const refreshFailed = Fault.Status({
  status: 400,
  body: `{"error":"refresh_failed","message":"try later","requires_reauthorization":false}`
})

const failureOf = (ref: string) => Effect.flatMap(CredentialStore, (store) => Effect.flip(store.token(ref)))

/** When it is renewed, in ms. */
const renewalAt = (ref: string) =>
  Effect.flatMap(
    CredentialStore,
    (store) => Effect.map(store.explain(ref), (explanation) => DateTime.toEpochMillis(explanation.renewalAt!))
  )

const minutes = (count: number) => Duration.toMillis(Duration.minutes(count))

/** What was asked in the background has been answered. */
const settled = (ref: string) =>
  Effect.flatMap(
    CredentialStore,
    (store) => eventually(Effect.map(store.explain(ref), ({ status }) => status === "fresh"))
  )

describe("freshness", () => {
  it.effect("a token without expiry is confirmed every cacheTtl while it is used, and not while it is not", () =>
    Effect.gen(function*() {
      yield* token("github")
      for (let minute = 1; minute <= 60; minute++) {
        yield* TestClock.adjust("1 minute")
        yield* token("github")
        yield* settled("github")
      }
      assert.strictEqual(yield* count("get"), 13)
      yield* TestClock.adjust("10 hours")
      assert.strictEqual(yield* count("get"), 13)
      assert.strictEqual(yield* count("refresh"), 0)
    }).pipe(Effect.provide(setup({ aden: forever }))))

  const many: AdenEmulatorOptions = {
    integrations: Array.from({ length: 60 }, (_, i) => ({ id: `it-${i}`, tokenLifetime: "1 hour" }))
  }

  it.effect("due: from 5 min before the expiry, spread by a factor of 0.8 to 1.2 that is drawn once per token", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* store.sync
      const leads = yield* Effect.forEach(many.integrations ?? [], ({ id }) =>
        Effect.gen(function*() {
          const at = yield* renewalAt(id)
          yield* store.token(id)
          assert.strictEqual(yield* renewalAt(id), at)
          return minutes(60) - at
        }))
      assert.isAtLeast(Math.min(...leads), minutes(4))
      assert.isAtMost(Math.max(...leads), minutes(6))
      // 60 draws of one factor that all fall into a third of its range are no accident
      assert.isAbove(Math.max(...leads) - Math.min(...leads), minutes(0.7))
      assert.isAbove(new Set(leads).size, 50)
    }).pipe(Effect.provide(setup({ aden: many }))))

  it.effect("due, of a token that lives shorter than twice the buffer: about half its life, and never in the first half", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* store.sync
      const leads = yield* Effect.forEach(
        many.integrations ?? [],
        ({ id }) => Effect.map(renewalAt(id), (at) => minutes(4) - at)
      )
      assert.isAtLeast(Math.min(...leads), minutes(1.6))
      assert.isAtMost(Math.max(...leads), minutes(2))
    }).pipe(Effect.provide(setup({
      aden: { integrations: many.integrations?.map((it) => ({ ...it, tokenLifetime: "4 minutes" })) }
    }))))

  it.effect("a token's life runs from its first receipt, over a restart too", () =>
    Effect.gen(function*() {
      yield* token("hubspot")
      yield* TestClock.adjust("3 minutes")
      yield* restarted(Effect.gen(function*() {
        yield* token("hubspot")
        const at = yield* renewalAt("hubspot")
        assert.isAtLeast(at, minutes(4))
        assert.isAtMost(at, minutes(4.8))
      }))
    }).pipe(Effect.provide(setup({ aden: { integrations: [{ id: "hubspot", tokenLifetime: "8 minutes" }] } }))))

  it.effect("how long ago Aden confirmed it is known over a restart", () =>
    Effect.gen(function*() {
      yield* token("github")
      yield* TestClock.adjust("4 minutes")
      yield* restarted(Effect.gen(function*() {
        yield* token("github")
        yield* TestClock.adjust("59 seconds")
        yield* token("github")
        assert.strictEqual(yield* count("get"), 1)
        yield* TestClock.adjust("1 second")
        yield* token("github")
        yield* eventually(Effect.map(count("get"), (n) => n === 2))
      }))
    }).pipe(Effect.provide(setup({ aden: forever }))))

  for (
    const [name, store] of [
      ["cacheTtl", { maxStale: "1 minute" }],
      ["a confirm policy", { maxStale: "1 minute", policy: { confirm: Schedule.spaced("1 hour") } }]
    ] as const
  ) {
    it.effect(`a maxStale that is shorter than ${name}: nothing older is served`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const first = yield* token("github")
        yield* aden.setFault(Fault.Status({ status: 503 }))
        yield* TestClock.adjust("47 seconds")
        assert.strictEqual(yield* token("github"), first)
        yield* TestClock.adjust("13 seconds")
        assert.strictEqual((yield* failureOf("github"))._tag, "AdenUnavailable")
        yield* aden.clearFaults
        yield* TestClock.adjust("6 seconds")
        yield* token("github")
      }).pipe(Effect.provide(setup({ aden: forever, store }))))
  }

  it.effect("autoRefresh: false: a token is used until it has expired, and renewed then", () =>
    Effect.gen(function*() {
      const first = yield* token("hubspot")
      yield* TestClock.adjust("58 minutes")
      assert.strictEqual(yield* token("hubspot"), first)
      yield* settled("hubspot")
      yield* TestClock.adjust("119 seconds")
      assert.strictEqual(yield* token("hubspot"), first)
      assert.strictEqual(yield* count("refresh"), 0)
      yield* TestClock.adjust("1 second")
      assert.notStrictEqual(yield* token("hubspot"), first)
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour, store: { autoRefresh: false } }))))

  for (const [name, offset] of [["ahead", "90 seconds"], ["behind", "-90 seconds"]] as const) {
    it.effect(`expiry is by Aden's clock: 90 s ${name} of this one changes nothing`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        yield* aden.setFault(Fault.ClockSkew({ offset }))
        // issued for an hour by that clock
        yield* Effect.flatMap(CredentialStore, (store) => store.refresh("hubspot"))
        const first = yield* token("hubspot")
        yield* TestClock.adjust("3598 seconds")
        assert.strictEqual(yield* token("hubspot"), first)
        assert.strictEqual(yield* count("refresh"), 1)
        yield* TestClock.adjust("2 seconds")
        assert.notStrictEqual(yield* token("hubspot"), first)
        assert.strictEqual(yield* count("refresh"), 2)
      }).pipe(Effect.provide(setup({ aden: oneHour, store: { autoRefresh: false, cacheTtl: "2 hours" } }))))
  }

  it.effect("renewal is by Aden's clock too, also where that is found to differ after a restart", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.ClockSkew({ offset: "4 minutes" }))
      // issued for an hour by that clock
      yield* Effect.flatMap(CredentialStore, (store) => store.refresh("hubspot"))
      yield* restarted(Effect.gen(function*() {
        yield* token("hubspot")
        const before = yield* renewalAt("hubspot")
        yield* token("github")
        assert.strictEqual(yield* renewalAt("hubspot"), before - minutes(4))
        assert.isAtMost(yield* renewalAt("hubspot"), minutes(56))
      }))
    }).pipe(Effect.provide(setup({
      aden: { integrations: [{ id: "hubspot", tokenLifetime: "1 hour" }, { id: "github" }] }
    }))))

  it.effect("Aden's list is remembered for cacheTtl", () =>
    Effect.gen(function*() {
      yield* token("a")
      yield* TestClock.adjust("299 seconds")
      yield* token("b")
      assert.strictEqual(yield* count("list"), 1)
      yield* TestClock.adjust("2 seconds")
      yield* token("c")
      assert.strictEqual(yield* count("list"), 2)
    }).pipe(Effect.provide(setup({ aden: { integrations: [{ id: "a" }, { id: "b" }, { id: "c" }] } }))))

  it.effect("a slow Aden never blocks reads of other credentials, stored or not", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* token("stored")
      yield* aden.setFault(Fault.Latency({ duration: "10 seconds" }), { integrationId: "slow" })
      const slow = yield* Effect.forkChild(token("slow"))
      yield* eventually(Effect.map(aden.countRequests({ integrationId: "slow" }), (n) => n === 1))
      yield* token("stored")
      yield* token("another")
      assert.isUndefined(slow.pollUnsafe())
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(slow)
    }).pipe(
      Effect.provide(setup({ aden: { integrations: [{ id: "slow" }, { id: "stored" }, { id: "another" }] } }))
    ))
})

describe("explicit calls", () => {
  it.effect("refresh, validate and sync pass back-off", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(refreshFailed, { endpoint: "refresh", times: 2 })
      assert.strictEqual((yield* failureOf("hubspot"))._tag, "RefreshFailed")
      assert.strictEqual((yield* failureOf("hubspot"))._tag, "RefreshFailed")
      assert.strictEqual(yield* count("refresh"), 1)
      assert.strictEqual((yield* Effect.flip(store.refresh("hubspot")))._tag, "RefreshFailed")
      assert.strictEqual(yield* count("refresh"), 2)
      yield* store.validate("hubspot")
      assert.strictEqual(yield* count("validate"), 1)
      assert.deepStrictEqual((yield* store.sync).synced.map(({ id }) => id), ["hubspot"])
      yield* token("hubspot")
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("refresh, validate and sync do not pass a 429's gate, over a restart neither", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* token("hubspot")
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 60 }), { endpoint: "refresh", times: 1 })
      const asking = Effect.gen(function*() {
        const store = yield* CredentialStore
        assert.strictEqual((yield* Effect.flip(store.refresh("hubspot")))._tag, "RateLimited")
        assert.strictEqual((yield* Effect.flip(store.validate("hubspot")))._tag, "RateLimited")
        const { failed } = yield* store.sync
        assert.deepStrictEqual(failed.map(({ error, id }) => [id, error._tag]), [["hubspot", "RateLimited"]])
      })
      yield* asking
      const before = yield* aden.countRequests({ integrationId: "hubspot" })
      yield* TestClock.adjust("59 seconds")
      yield* asking
      yield* restarted(asking)
      assert.strictEqual(yield* aden.countRequests({ integrationId: "hubspot" }), before)
      yield* TestClock.adjust("2 seconds")
      yield* Effect.flatMap(CredentialStore, (store) => store.refresh("hubspot"))
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  const answers = [
    ["unavailable", Fault.Status({ status: 503 }), "AdenUnavailable"],
    ["429", Fault.RateLimited({ retryAfter: 60 }), "RateLimited"],
    ["401", Fault.Status({ status: 401, body: `{"error":"unauthorized"}` }), "AdenUnauthorized"],
    ["403", Fault.Status({ status: 403, body: `{"error":"forbidden"}` }), "AdenForbidden"],
    ["422", Fault.Status({ status: 422, body: `{"error":"unprocessable"}` }), "AdenRejected"]
  ] as const
  for (const [name, fault, tag] of answers) {
    it.effect(`refresh, validate and sync fail with what Aden said, ${name}, although there is a fresh token`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const store = yield* CredentialStore
        yield* store.sync
        yield* aden.setFault(fault)
        assert.strictEqual((yield* Effect.flip(store.validate("github")))._tag, tag)
        assert.strictEqual((yield* Effect.flip(store.refresh("hubspot")))._tag, tag)
        assert.strictEqual((yield* Effect.flip(store.sync))._tag, tag)
        yield* token("github")
        yield* token("hubspot")
      }).pipe(Effect.provide(setup())))
  }

  it.effect("validate: an invalid token is an answer", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const good = yield* store.validate("hubspot")
      assert.isTrue(good.valid)
      assert.deepStrictEqual(good.expiresAt, DateTime.add(yield* DateTime.now, { hours: 1 }))
      yield* aden.revoke("hubspot")
      const bad = yield* store.validate("hubspot")
      assert.isFalse(bad.valid)
      assert.isTrue(bad.requiresReauthorization)
      assert.strictEqual(bad.reauthorizationUrl, `${aden.url}/integrations/hubspot/connect`)
      assert.isString(bad.reason)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))
})

describe("awaitReauthorization", () => {
  it.effect("ends at its timeout too while Aden does not answer what the ref means", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* aden.setFault(Fault.Hang())
      const waiting = yield* Effect.forkChild(
        Effect.flip(store.awaitReauthorization("hubspot", { timeout: "10 seconds" }))
      )
      yield* eventually(Effect.map(count("list"), (n) => n === 1))
      yield* TestClock.adjust("9999 millis")
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "ReauthorizationTimeout")
    }).pipe(Effect.provide(setup({ aden: oneHour }))))
})

describe("saved by the program", () => {
  it.effect("what it found refused before is served again, and what Aden said before is forgotten", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const own = Credential.fromApiKey({ id: "hubspot", apiKey: Redacted.make("the program's own") })
      yield* token("hubspot")
      yield* (yield* AdenEmulator).setFault(Fault.Status({ status: 503 }))
      yield* Effect.flip(store.refresh("hubspot"))
      yield* store.save(own)
      assert.isUndefined((yield* store.explain("hubspot")).lastError)
      yield* store.invalidate("hubspot")
      assert.strictEqual((yield* failureOf("hubspot"))._tag, "RefreshFailed")
      yield* store.save(own)
      assert.strictEqual(yield* token("hubspot"), "the program's own")
    }).pipe(Effect.provide(setup({ aden: oneHour }))))
})

describe("whose a credential is", () => {
  /** As Hive writes it: marked as Aden's, without the provider's name. */
  const unnamed = Effect.gen(function*() {
    const storage = yield* CredentialStorage
    const { lastRefreshed: _, providerId: __, ...credential } = Credential.fromAccessToken({
      id: "hubspot",
      accessToken: Redacted.make("from-hive"),
      expiresAt: DateTime.add(yield* DateTime.now, { hours: 1 })
    })
    const keys = new Map(credential.keys)
    const mark = Array.from(
      (yield* Effect.flatMap(AdenSyncProvider, (provider) => provider.fetch("hubspot"))).pipe(
        Option.getOrThrow
      ).keys
    ).filter(([name]) => name.startsWith("_aden"))
    for (const [name, key] of mark) keys.set(name, key)
    yield* storage.save(new Credential({ ...credential, keys }))
  })

  const storeOver = (...providerIds: ReadonlyArray<string>) =>
    CredentialStore.layer().pipe(
      Layer.provide(CredentialProviders.layerAll(
        providerIds.map((providerId) => AdenSyncProvider.layer({ providerId }).pipe(Layer.provide(client())))
      ))
    )

  const World = Layer.provideMerge(
    Layer.provideMerge(AdenSyncProvider.layer(), client()),
    Layer.mergeAll(MemoryStorage.layer(), memoryAden(oneHour))
  )

  it.effect("marked as Aden's without a provider id: renewed where one provider is registered", () =>
    Effect.gen(function*() {
      yield* unnamed
      yield* TestClock.adjust("2 hours")
      assert.notStrictEqual(yield* Effect.provide(token("hubspot"), storeOver("aden_sync")), "from-hive")
    }).pipe(Effect.provide(Layer.fresh(World))))

  it.effect("marked as Aden's without a provider id: not renewed where two are", () =>
    Effect.gen(function*() {
      yield* unnamed
      yield* Effect.gen(function*() {
        assert.strictEqual(yield* token("hubspot"), "from-hive")
        const { skipped } = yield* Effect.flatMap(CredentialStore, ({ sync }) => sync)
        assert.include(skipped.map(({ id, reason }) => `${id} ${reason}`), "hubspot OwnedElsewhere")
        yield* TestClock.adjust("2 hours")
        assert.strictEqual((yield* failureOf("hubspot"))._tag, "RefreshFailed")
      }).pipe(Effect.provide(storeOver("aden_eu", "aden_us")))
      assert.strictEqual(yield* count("refresh"), 0)
    }).pipe(Effect.provide(Layer.fresh(World))))
})

describe("policies", () => {
  it.effect("a finished schedule means: not until asked explicitly", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const first = yield* token("hubspot")
      const events = yield* eventsOf
      yield* aden.setFault(Fault.Status({ status: 503 }), { times: 1 })
      yield* TestClock.adjust("57 minutes")
      yield* token("hubspot")
      yield* eventually(Effect.sync(() => events.some(({ _tag }) => _tag === "ServedStale")))
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual(yield* token("hubspot"), first)
      assert.strictEqual(yield* count("refresh"), 1)
      yield* store.refresh("hubspot")
      assert.notStrictEqual(yield* token("hubspot"), first)
    }).pipe(Effect.provide(setup({ aden: oneHour, store: { policy: { backOff: Schedule.recurs(0) } } }))))

  it.effect("each can be replaced: confirm and renew", () =>
    Effect.gen(function*() {
      const first = yield* token("hubspot")
      yield* TestClock.adjust("9 minutes")
      yield* token("hubspot")
      assert.strictEqual(yield* count("get"), 1)
      yield* TestClock.adjust("1 minute")
      yield* token("hubspot")
      yield* eventually(Effect.map(count("get"), (n) => n === 2))
      yield* TestClock.adjust("20 minutes")
      yield* eventually(Effect.map(token("hubspot"), (now) => now !== first))
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({
      aden: oneHour,
      store: { policy: { confirm: Schedule.spaced("10 minutes"), renew: Schedule.spaced("30 minutes") } }
    }))))

  it.effect("re-checks that come ever later start again from the first interval when it is blocked again", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("github")
      for (const round of [1, 2]) {
        yield* aden.revoke("github")
        yield* store.validate("github")
        const before = yield* count("validate")
        for (let checks = 1; checks <= 3; checks++) {
          yield* TestClock.adjust(Duration.seconds(30 * 2 ** (checks - 1) - 1))
          yield* failureOf("github")
          assert.strictEqual(yield* count("validate"), before + checks - 1, `round ${round}, check ${checks}`)
          yield* TestClock.adjust("1 second")
          yield* failureOf("github")
          assert.strictEqual(yield* count("validate"), before + checks, `round ${round}, check ${checks}`)
        }
        yield* aden.connect("github")
        yield* store.refresh("github")
      }
    }).pipe(Effect.provide(setup({
      aden: forever,
      store: { policy: { recheck: Schedule.exponential("30 seconds") } }
    }))))

  it.effect("one that is undefined is the default", () =>
    Effect.gen(function*() {
      const first = yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      assert.notStrictEqual(yield* token("hubspot"), first)
      assert.strictEqual((yield* failureOf("nothing"))._tag, "CredentialNotFound")
    }).pipe(Effect.provide(setup({
      aden: oneHour,
      store: {
        policy: { renew: undefined, confirm: undefined, backOff: undefined, recheck: undefined, missing: undefined }
      }
    }))))

  it.effect("their state is per credential: one that fails holds no other back", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* Effect.all([token("a"), token("b")])
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(refreshFailed, { integrationId: "a" })
      assert.strictEqual((yield* failureOf("a"))._tag, "RefreshFailed")
      yield* token("b")
    }).pipe(Effect.provide(setup({
      aden: { integrations: [{ id: "a", tokenLifetime: "1 hour" }, { id: "b", tokenLifetime: "1 hour" }] }
    }))))
})

describe("what is told", () => {
  it.effect("explain: where it came from, its age, expiry, next renewal, last error, cool-down left, and nothing secret", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const secret = yield* token("hubspot")
      const expiresAt = DateTime.add(yield* DateTime.now, { hours: 1 })
      yield* TestClock.adjust("1 minute")
      const fetched = yield* store.explain("hubspot")
      assert.deepInclude(fetched, {
        ref: "hubspot",
        id: "hubspot",
        provider: "hubspot",
        status: "fresh",
        source: "aden",
        age: Duration.minutes(1),
        expiresAt,
        timeLeft: Duration.minutes(59),
        lastError: undefined,
        coolDownLeft: undefined
      })
      assert.isAtLeast(DateTime.toEpochMillis(fetched.renewalAt!), minutes(54))
      assert.isAtMost(DateTime.toEpochMillis(fetched.renewalAt!), minutes(56))

      yield* restarted(Effect.gen(function*() {
        const other = yield* CredentialStore
        assert.strictEqual((yield* other.explain("hubspot")).source, "disk")
        assert.deepInclude(yield* other.explain("hubspot"), { source: "memory", age: Duration.minutes(1) })
      }))

      yield* aden.setFault(Fault.RateLimited({ retryAfter: 60 }), { times: 1 })
      yield* TestClock.adjust("56 minutes")
      yield* token("hubspot")
      yield* eventually(Effect.map(store.explain("hubspot"), ({ lastError }) => lastError !== undefined))
      yield* TestClock.adjust("15 seconds")
      const limited = yield* store.explain("hubspot")
      assert.deepInclude(limited, {
        status: "due",
        source: "served stale",
        lastError: "RateLimited",
        coolDownLeft: Duration.seconds(45)
      })
      yield* TestClock.adjust("5 minutes")
      assert.strictEqual((yield* store.explain("hubspot")).status, "expired")
      yield* aden.revoke("hubspot")
      yield* Effect.ignore(store.refresh("hubspot"))
      const blocked = yield* store.explain("hubspot")
      assert.strictEqual(blocked.status, "requires_reauth")
      assert.strictEqual(blocked.reauthorizationUrl, `${aden.url}/integrations/hubspot/connect`)
      for (const explanation of [fetched, limited, blocked]) assert.notInclude(JSON.stringify(explanation), secret)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("explain sends no request", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      assert.strictEqual((yield* Effect.flip(store.explain("hubspot")))._tag, "CredentialNotFound")
      assert.strictEqual(yield* aden.countRequests(), 0)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("changes: fetched, refreshed, served stale, re-authorization required, reconnected, removed; no secrets", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const events = yield* eventsOf
      const told = (tag: string) => eventually(Effect.sync(() => events.at(-1)?._tag === tag))
      yield* token("hubspot")
      yield* told("Fetched")
      yield* store.refresh("hubspot")
      yield* told("Refreshed")
      yield* aden.setFault(Fault.Status({ status: 503 }), { times: 1 })
      yield* TestClock.adjust("57 minutes")
      yield* token("hubspot")
      yield* told("ServedStale")
      yield* aden.revoke("hubspot")
      yield* Effect.ignore(store.refresh("hubspot"))
      yield* told("ReauthorizationRequired")
      yield* aden.connect("hubspot")
      yield* store.refresh("hubspot")
      yield* eventually(Effect.sync(() => events.some(({ _tag }) => _tag === "Reconnected")))
      yield* aden.removeIntegration("hubspot")
      yield* Effect.ignore(store.refresh("hubspot"))
      yield* told("Removed")
      assert.deepStrictEqual(events, [
        { _tag: "Fetched", id: "hubspot" },
        { _tag: "Refreshed", id: "hubspot" },
        { _tag: "ServedStale", id: "hubspot", error: "AdenUnavailable" },
        {
          _tag: "ReauthorizationRequired",
          id: "hubspot",
          reauthorizationUrl: `${aden.url}/integrations/hubspot/connect`
        },
        { _tag: "Reconnected", id: "hubspot" },
        { _tag: "Refreshed", id: "hubspot" },
        { _tag: "Removed", id: "hubspot" }
      ])
      for (const { value } of yield* aden.issuedTokens) {
        assert.notInclude(JSON.stringify(events), Redacted.value(value))
      }
    }).pipe(Effect.provide(setup({ aden: oneHour }))))
})
