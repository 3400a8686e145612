import { assert, describe, it } from "@effect/vitest"
import {
  AdenCachedStorage,
  AdenClient,
  AdenSyncProvider,
  Credential,
  CredentialState,
  CredentialStorage,
  CredentialStorageError,
  MemoryStorage,
  StorageIoFailed,
  type StoredEntry
} from "aden-credentials"
import { AdenEmulator, type AdenEmulatorOptions, Fault } from "aden-credentials/emulator"
import { Context, DateTime, Duration, Effect, Exit, Fiber, Layer, Option, Redacted, Schedule, Scope } from "effect"
import { TestClock } from "effect/testing"
import { decorate, localOnly } from "../../src/storage/decorate.ts"
import { eventually } from "../fixtures/emulatedStore.ts"
import { memoryAden, MemoryHttpClient } from "../fixtures/memoryAden.ts"
import { suite } from "../storage/StorageContract.ts"

/** An Aden that has nothing, under a provider id that no credential of the suite carries. */
const EmptyAden = AdenSyncProvider.layer({ providerId: "aden_contract" }).pipe(
  Layer.provide(AdenClient.layerTest({
    clockOffset: Effect.succeed(0),
    getCredential: () => Effect.succeedNone,
    listIntegrations: Effect.succeed({ accounts: [], malformed: [], isIncomplete: false })
  }))
)

suite("AdenCachedStorage", AdenCachedStorage.layer().pipe(Layer.provide([MemoryStorage.layer(), EmptyAden])))

// An Aden server in memory, on virtual time: the emulator reads the same clock as the storage.

type Storage = CredentialStorage["Service"]

const Provider = AdenSyncProvider.layer().pipe(
  Layer.provide(Layer.unwrap(Effect.map(AdenEmulator, (aden) =>
    AdenClient.layer({
      baseUrl: aden.url,
      apiKey: aden.apiKey,
      retry: Schedule.recurs(0),
      circuitBreaker: { failures: 10_000 }
    })))),
  Layer.provide(MemoryHttpClient)
)

/** A cache over a storage, as in a process of its own. */
const cacheOver = (local: Storage, options?: Parameters<typeof AdenCachedStorage.layer>[0]) =>
  Effect.map(
    Layer.build(
      Layer.fresh(AdenCachedStorage.layer(options)).pipe(
        Layer.provide(Layer.fresh(Provider)),
        Layer.provide(Layer.succeed(CredentialStorage, local))
      )
    ),
    Context.get(CredentialStorage)
  )

const memory = (credentials: ReadonlyArray<Credential> = []) =>
  Effect.map(Layer.build(MemoryStorage.layer(credentials)), Context.get(CredentialStorage))

const gets = Effect.flatMap(AdenEmulator, (aden) => aden.countRequests({ endpoint: "get" }))
const requests = Effect.flatMap(AdenEmulator, (aden) => aden.countRequests())

const tokenOf = (credential: Option.Option<Credential>): string =>
  Redacted.value(Option.getOrThrow(credential).keys.get("access_token")!.value)

const reasonOf = (storage: Storage, id: string) =>
  Effect.flip(storage.load(id)).pipe(
    Effect.map((error) => error._tag === "CredentialStorageError" ? error.reason : error)
  )

const oneHour: AdenEmulatorOptions = { integrations: [{ id: "hubspot", tokenLifetime: "1 hour" }] }
const forever: AdenEmulatorOptions = { integrations: [{ id: "github" }] }

describe("AdenCachedStorage: when Aden is asked", () => {
  it.effect("a missing entry is fetched, saved and answered, and not asked for again within cacheTtl", () =>
    Effect.gen(function*() {
      const local = yield* memory()
      const cached = yield* cacheOver(local)
      const first = yield* cached.load("hubspot")
      assert.strictEqual(tokenOf(first), tokenOf(yield* local.load("hubspot")))
      yield* TestClock.adjust("4 minutes")
      assert.strictEqual(tokenOf(yield* cached.load("hubspot")), tokenOf(first))
      assert.strictEqual(yield* gets, 1)
    }).pipe(Effect.provide(memoryAden(oneHour))))

  it.effect("an entry older than cacheTtl is asked for, and is young again", () =>
    Effect.gen(function*() {
      const cached = yield* cacheOver(yield* memory(), { cacheTtl: "1 minute" })
      yield* cached.load("github")
      yield* TestClock.adjust("61 seconds")
      yield* cached.load("github")
      assert.strictEqual(yield* gets, 2)
      yield* TestClock.adjust("59 seconds")
      yield* cached.load("github")
      assert.strictEqual(yield* gets, 2)
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("the age is that of the stored state: a restart neither makes an entry older nor younger", () =>
    Effect.gen(function*() {
      const local = yield* memory()
      yield* (yield* cacheOver(local)).load("github")
      yield* TestClock.adjust("4 minutes")
      yield* (yield* cacheOver(local)).load("github")
      assert.strictEqual(yield* gets, 1)
      yield* TestClock.adjust("61 seconds")
      yield* (yield* cacheOver(local)).load("github")
      assert.strictEqual(yield* gets, 2)
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("without a last confirmation the age runs from last_refreshed, and an unknown age counts as old", () =>
    Effect.gen(function*() {
      const aged = (id: string, lastRefreshed: DateTime.Utc | undefined) =>
        new Credential({
          ...Credential.fromAccessToken({ id, accessToken: Redacted.make("stored") }),
          providerId: "aden_sync",
          lastRefreshed
        })
      const now = yield* DateTime.now
      const cached = yield* cacheOver(
        yield* memory([
          aged("young", DateTime.subtract(now, { minutes: 4 })),
          aged("old", DateTime.subtract(now, { minutes: 6 })),
          aged("ahead", DateTime.add(now, { minutes: 6 })),
          aged("unknown", undefined)
        ])
      )
      assert.strictEqual(tokenOf(yield* cached.load("young")), "stored")
      assert.strictEqual(yield* gets, 0)
      for (const id of ["old", "ahead", "unknown"]) assert.notStrictEqual(tokenOf(yield* cached.load(id)), "stored")
      assert.strictEqual(yield* gets, 3)
    }).pipe(
      Effect.provide(memoryAden({
        integrations: ["young", "old", "ahead", "unknown"].map((id) => ({ id }))
      }))
    ))

  it.effect("preferLocal: false asks Aden first, each time, and answers from local while Aden cannot", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const cached = yield* cacheOver(yield* memory(), { preferLocal: false })
      const first = tokenOf(yield* cached.load("github"))
      yield* aden.connect("github")
      const second = tokenOf(yield* cached.load("github"))
      assert.notStrictEqual(second, first)
      assert.strictEqual(yield* gets, 2)
      yield* aden.stop
      assert.strictEqual(tokenOf(yield* cached.load("github")), second)
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("many at once share one request", () =>
    Effect.gen(function*() {
      const cached = yield* cacheOver(yield* memory())
      const all = yield* Effect.forEach(Array.from({ length: 1_000 }), () => cached.load("github"), {
        concurrency: "unbounded"
      })
      assert.strictEqual(new Set(all.map(tokenOf)).size, 1)
      assert.strictEqual(yield* gets, 1)
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("a person's own credential is never asked for, nor is one of another provider", () =>
    Effect.gen(function*() {
      const own = Credential.fromApiKey({ id: "hubspot", apiKey: Redacted.make("BSA-0123456789") })
      const other = new Credential({
        ...Credential.fromAccessToken({
          id: "github",
          accessToken: Redacted.make("theirs"),
          expiresAt: DateTime.makeUnsafe(0)
        }),
        providerId: "another"
      })
      const cached = yield* cacheOver(yield* memory([own, other]), { preferLocal: false })
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* cached.load("hubspot"), Option.some(own))
      assert.deepStrictEqual(yield* cached.load("github"), Option.some(other))
      assert.strictEqual(yield* requests, 0)
    }).pipe(Effect.provide(memoryAden({ integrations: [{ id: "hubspot" }, { id: "github" }] }))))

  it.effect("list, exists and states send no request, nor does a reader that asks Aden by itself", () =>
    Effect.gen(function*() {
      const cached = yield* cacheOver(yield* memory(), { preferLocal: false })
      assert.deepStrictEqual(yield* cached.list, [])
      assert.isFalse(yield* cached.exists("github"))
      yield* cached.loadState("github")
      assert.isTrue(Option.isNone(yield* localOnly(cached).load("github")))
      assert.deepStrictEqual(yield* localOnly(cached).read("github"), {
        credential: Option.none(),
        state: CredentialState.initial
      })
      assert.strictEqual(yield* requests, 0)
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("read asks as load does, and answers the state that belongs to the answer", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      const cached = yield* cacheOver(local)
      const shown = ({ credential, state }: StoredEntry) => ({
        token: Option.map(credential, ({ defaultKey }) =>
          defaultKey === undefined ? "" : Redacted.value(defaultKey.value)),
        state
      })
      const asked = yield* cached.read("github")
      assert.isTrue(Option.isSome(asked.credential))
      assert.strictEqual(asked.state.generation, 1)
      assert.deepStrictEqual(shown(asked), shown(yield* local.read("github")))
      assert.deepStrictEqual(shown(yield* cached.read("github")), shown(asked))
      assert.strictEqual(yield* gets, 1)
      yield* TestClock.adjust("6 minutes")
      const confirmed = yield* cached.read("github")
      assert.strictEqual(confirmed.state.generation, 2)
      assert.deepStrictEqual(shown(confirmed), shown(yield* local.read("github")))
      assert.strictEqual(yield* gets, 2)
      yield* aden.removeIntegration("github")
      yield* TestClock.adjust("6 minutes")
      const removed = { credential: Option.none(), state: new CredentialState({ generation: 3 }) }
      assert.deepStrictEqual(yield* cached.read("github"), removed)
      assert.deepStrictEqual(yield* local.read("github"), removed)
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("what another writer saved while Aden was waited for is answered, with its own state", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      const cached = yield* cacheOver(local)
      yield* cached.read("hubspot")
      yield* TestClock.adjust("6 minutes")
      yield* aden.setFault(Fault.Hang())
      const waiting = yield* Effect.forkChild(cached.read("hubspot"), { startImmediately: true })
      yield* eventually(Effect.map(gets, (count) => count === 2))
      yield* local.save(
        new Credential({
          ...Credential.fromAccessToken({ id: "hubspot", accessToken: Redacted.make("newer") }),
          providerId: "aden_sync"
        }),
        { state: new CredentialState({ generation: 0, lastConfirmed: yield* DateTime.now }) }
      )
      assert.strictEqual(tokenOf((yield* cached.read("hubspot")).credential), "newer")
      yield* TestClock.adjust("5 seconds")
      const { credential, state } = yield* Fiber.join(waiting)
      assert.deepStrictEqual([tokenOf(credential), state.generation], ["newer", 2])
    }).pipe(Effect.provide(memoryAden(oneHour))))

  it.effect("what was deleted while Aden was asked is none, with the state of the deletion", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      const cached = yield* cacheOver(local)
      yield* cached.read("hubspot")
      yield* TestClock.adjust("6 minutes")
      yield* aden.setFault(Fault.Latency({ duration: "1 second" }))
      const waiting = yield* Effect.forkChild(cached.read("hubspot"), { startImmediately: true })
      yield* eventually(Effect.map(gets, (count) => count === 2))
      yield* cached.delete("hubspot")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Fiber.join(waiting), yield* local.read("hubspot"))
      assert.deepStrictEqual(yield* local.list, [])
    }).pipe(Effect.provide(memoryAden(oneHour))))

  it.effect("what was stored and Aden does not name is kept", () =>
    Effect.gen(function*() {
      const stored = new Credential({
        ...Credential.fromAccessToken({ id: "github", accessToken: Redacted.make("stored"), alias: "work" }),
        providerId: "aden_sync",
        description: "mine",
        tags: ["a"]
      })
      const cached = yield* cacheOver(yield* memory([stored]))
      const answered = Option.getOrThrow(yield* cached.load("github"))
      assert.notStrictEqual(tokenOf(Option.some(answered)), "stored")
      assert.deepInclude(answered, { alias: "work", description: "mine", tags: ["a"] })
    }).pipe(Effect.provide(memoryAden(forever))))
})

describe("AdenCachedStorage: when Aden cannot answer", () => {
  const failures = [
    ["unavailable", Fault.Status({ status: 503 }), "AdenUnavailable"],
    ["rate-limited", Fault.RateLimited({ retryAfter: 60 }), "RateLimited"],
    ["401", Fault.Status({ status: 401, body: JSON.stringify({ error: "unauthorized" }) }), "AdenUnauthorized"],
    ["403", Fault.Status({ status: 403, body: JSON.stringify({ error: "forbidden" }) }), "AdenForbidden"],
    [
      "refresh failed",
      Fault.Status({ status: 400, body: JSON.stringify({ error: "refresh_failed", message: "no" }) }),
      "RefreshFailed"
    ],
    ["rejected", Fault.Status({ status: 422, body: JSON.stringify({ error: "odd" }) }), "AdenRejected"]
  ] as const

  for (const [name, fault, tag] of failures) {
    it.effect(`${name}: an unexpired copy is answered, and Aden is asked again 30 seconds later at the earliest`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const local = yield* memory()
        const cached = yield* cacheOver(local)
        const first = tokenOf(yield* cached.load("hubspot"))
        yield* TestClock.adjust("6 minutes")
        yield* aden.setFault(fault)
        yield* aden.clearRequests
        for (let i = 0; i < 100; i++) assert.strictEqual(tokenOf(yield* cached.load("hubspot")), first)
        assert.strictEqual(yield* gets, 1)
        assert.strictEqual((yield* local.loadState("hubspot")).lastError, tag)
        yield* TestClock.adjust("61 seconds")
        assert.strictEqual(tokenOf(yield* cached.load("hubspot")), first)
        assert.strictEqual(yield* gets, 2)
        yield* aden.clearFaults
        yield* TestClock.adjust("61 seconds")
        yield* cached.load("hubspot")
        assert.isUndefined((yield* local.loadState("hubspot")).lastError)
      }).pipe(Effect.provide(memoryAden(oneHour))))

    it.effect(`${name}: an expired copy is not answered, nor is there one for a missing entry: the error is the reason`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const cached = yield* cacheOver(yield* memory())
        yield* cached.load("hubspot")
        yield* TestClock.adjust("2 hours")
        yield* aden.setFault(fault)
        for (const id of ["hubspot", "other"]) {
          const error = yield* Effect.flip(cached.load(id))
          assert.strictEqual(error._tag, "CredentialStorageError")
          assert.deepInclude(error, { id, operation: "load" })
          assert.strictEqual((yield* reasonOf(cached, id))._tag, tag)
        }
      }).pipe(Effect.provide(memoryAden({
        integrations: [{ id: "hubspot", tokenLifetime: "1 hour" }, { id: "other" }]
      }))))
  }

  it.effect("a slow Aden delays a read of what is stored by at most 5 seconds", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const cached = yield* cacheOver(yield* memory())
      const first = tokenOf(yield* cached.load("hubspot"))
      yield* TestClock.adjust("6 minutes")
      yield* aden.setFault(Fault.Hang())
      const waiting = yield* Effect.forkChild(cached.load("hubspot"), { startImmediately: true })
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(tokenOf(yield* Fiber.join(waiting)), first)
      assert.strictEqual(tokenOf(yield* cached.load("hubspot")), first)
    }).pipe(Effect.provide(memoryAden(oneHour))))

  it.effect("a rate limit is remembered in the state: over a restart, too, nothing is asked before it ends", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 120 }), { times: 1 })
      assert.strictEqual((yield* reasonOf(yield* cacheOver(local), "github"))._tag, "RateLimited")
      assert.isDefined((yield* local.loadState("github")).coolDownUntil)
      yield* TestClock.adjust("90 seconds")
      const reason = yield* reasonOf(yield* cacheOver(local), "github")
      assert.strictEqual(reason._tag, "RateLimited")
      if (reason._tag === "RateLimited") assert.strictEqual(Duration.toSeconds(reason.retryAfter), 30)
      assert.strictEqual(yield* gets, 1)
      yield* TestClock.adjust("31 seconds")
      assert.isTrue(Option.isSome(yield* (yield* cacheOver(local)).load("github")))
      assert.isUndefined((yield* local.loadState("github")).coolDownUntil)
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("since when Aden refuses the API key is remembered in the state, from the first refusal on", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      const cached = yield* cacheOver(local)
      yield* cached.load("github")
      yield* TestClock.adjust("6 minutes")
      yield* aden.setApiKeys([Redacted.make("another")])
      const since = yield* DateTime.now
      yield* cached.load("github")
      yield* TestClock.adjust("6 minutes")
      yield* cached.load("github")
      assert.deepStrictEqual((yield* local.loadState("github")).refusedSince, since)
    }).pipe(Effect.provide(memoryAden(forever))))

  const served = [
    ["unavailable", Fault.Status({ status: 503 }), "24 hours", "AdenUnavailable"],
    [
      "401",
      Fault.Status({ status: 401, body: JSON.stringify({ error: "unauthorized" }) }),
      "1 hour",
      "AdenUnauthorized"
    ]
  ] as const
  for (const preferLocal of [true, false]) {
    for (const [name, fault, limit, tag] of served) {
      it.effect(`${name}: an unexpired copy is answered for ${limit}, then the error (preferLocal: ${preferLocal})`, () =>
        Effect.gen(function*() {
          const aden = yield* AdenEmulator
          const local = yield* memory()
          const first = tokenOf(yield* (yield* cacheOver(local)).load("github"))
          yield* aden.setFault(fault)
          yield* TestClock.adjust("6 minutes")
          assert.strictEqual(tokenOf(yield* (yield* cacheOver(local, { preferLocal })).load("github")), first)
          yield* TestClock.adjust(Duration.subtract(Duration.fromInputUnsafe(limit), Duration.minutes(7)))
          assert.strictEqual(tokenOf(yield* (yield* cacheOver(local, { preferLocal })).load("github")), first)
          yield* TestClock.adjust("7 minutes")
          assert.strictEqual((yield* reasonOf(yield* cacheOver(local, { preferLocal }), "github"))._tag, tag)
          yield* aden.clearFaults
          yield* (yield* cacheOver(local, { preferLocal })).load("github")
        }).pipe(Effect.provide(memoryAden(forever))))
    }
  }

  it.effect("maxStale can be set", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const cached = yield* cacheOver(yield* memory(), { maxStale: "10 minutes" })
      yield* cached.load("github")
      yield* aden.setFault(Fault.Status({ status: 503 }))
      yield* TestClock.adjust("9 minutes")
      yield* cached.load("github")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* reasonOf(cached, "github"))._tag, "AdenUnavailable")
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("the clock is set back: what was noted by the wrong one does not keep Aden from being asked", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      const cached = yield* cacheOver(local)
      const right = DateTime.toEpochMillis(yield* DateTime.now)
      yield* cached.load("github")
      yield* TestClock.setTime(right + Duration.toMillis("365 days"))
      yield* aden.setFault(Fault.Status({ status: 503 }))
      yield* Effect.flip(cached.load("github"))
      assert.isTrue(Option.isNone(yield* Effect.option(cached.load("nothing"))))
      yield* aden.clearFaults
      assert.isTrue(Option.isNone(yield* cached.load("nothing")))
      yield* TestClock.adjust("30 seconds")
      yield* cached.load("github")
      yield* TestClock.adjust("6 minutes")
      yield* aden.setFault(Fault.Status({ status: 503 }))
      yield* cached.load("github")
      yield* aden.clearFaults
      yield* aden.addIntegration({ id: "nothing" })
      yield* TestClock.setTime(right)
      yield* aden.clearRequests
      yield* cached.load("github")
      assert.strictEqual(yield* gets, 1)
      assert.isTrue(Option.isSome(yield* cached.load("nothing")))

      const state = yield* local.loadState("github")
      const blockedSince = DateTime.add(yield* DateTime.now, { days: 365 })
      yield* local.saveState("github", new CredentialState({ ...state, blockedSince }))
      assert.isTrue(Option.isSome(yield* (yield* cacheOver(local)).load("github")))
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("Aden answers a token that has expired already: it is asked to renew it", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      yield* aden.expire("hubspot")
      const renewed = yield* (yield* cacheOver(local)).load("hubspot")
      assert.strictEqual(tokenOf(yield* local.load("hubspot")), tokenOf(renewed))
      assert.strictEqual(yield* requests, 2)
    }).pipe(Effect.provide(memoryAden({ ...oneHour, refreshOnGet: false }))))

  it.effect("Aden has only a token that has expired: the entry fails with RefreshFailed, and Aden is left alone for 30 s", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const cached = yield* cacheOver(yield* memory())
      yield* TestClock.adjust("1 day")
      yield* aden.setFault(Fault.Patch({ fields: { expires_at: "1970-01-01T12:00:00Z" } }))
      for (let i = 0; i < 100; i++) assert.strictEqual((yield* reasonOf(cached, "hubspot"))._tag, "RefreshFailed")
      assert.strictEqual(yield* requests, 2)
      yield* aden.clearFaults
      yield* TestClock.adjust("31 seconds")
      assert.isTrue(Option.isSome(yield* cached.load("hubspot")))
    }).pipe(Effect.provide(memoryAden(oneHour))))

  it.effect("all who wait are interrupted: the question goes on, and its answer is kept", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const cached = yield* cacheOver(yield* memory())
      yield* aden.setFault(Fault.Latency({ duration: "1 second" }), { times: 1 })
      const waiting = yield* Effect.forkChild(cached.load("github"), { startImmediately: true })
      yield* eventually(Effect.map(gets, (count) => count === 1))
      yield* Fiber.interrupt(waiting)
      const loading = yield* Effect.forkChild(cached.load("github"), { startImmediately: true })
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(Option.isSome(yield* Fiber.join(loading)))
      assert.strictEqual(yield* gets, 1)
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("the scope closes during a renewal: it gets time to end, although Aden was too slow once before", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      const scope = yield* Scope.make()
      const cached = yield* Scope.provide(cacheOver(local), scope)
      const first = tokenOf(yield* cached.load("hubspot"))
      yield* TestClock.adjust("6 minutes")
      yield* aden.setFault(Fault.Hang())
      const slow = yield* Effect.forkChild(cached.load("hubspot"), { startImmediately: true })
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(slow)
      yield* aden.clearFaults
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Latency({ duration: "1 second" }))
      yield* Effect.forkChild(cached.load("hubspot"), { startImmediately: true })
      yield* eventually(Effect.map(aden.countRequests({ endpoint: "refresh" }), (count) => count === 1))
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
      assert.notStrictEqual(tokenOf(yield* local.load("hubspot")), first)
    }).pipe(Effect.provide(memoryAden(oneHour))))
})

describe("AdenCachedStorage: blocked and gone", () => {
  it.effect("blocked: ReauthRequired with its URL, over a restart too, checked every 30 seconds at most, until it is connected", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      yield* (yield* cacheOver(local)).load("github")
      yield* aden.revoke("github")
      yield* TestClock.adjust("6 minutes")
      const cached = yield* cacheOver(local)
      const reason = yield* reasonOf(cached, "github")
      assert.strictEqual(reason._tag, "ReauthRequired")
      if (reason._tag === "ReauthRequired") assert.isDefined(reason.reauthorizationUrl)
      yield* aden.clearRequests
      for (let i = 0; i < 100; i++) assert.strictEqual((yield* reasonOf(cached, "github"))._tag, "ReauthRequired")
      const restarted = yield* cacheOver(local)
      assert.deepStrictEqual(yield* reasonOf(restarted, "github"), reason)
      assert.strictEqual(yield* requests, 0)
      yield* TestClock.adjust("31 seconds")
      for (let i = 0; i < 100; i++) assert.strictEqual((yield* reasonOf(restarted, "github"))._tag, "ReauthRequired")
      assert.strictEqual(yield* requests, 1)
      yield* aden.connect("github")
      yield* TestClock.adjust("31 seconds")
      assert.isTrue(Option.isSome(yield* restarted.load("github")))
      assert.isUndefined((yield* local.loadState("github")).blockedSince)
      yield* restarted.load("github")
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("blocked, and the check cannot reach Aden: still ReauthRequired, with the URL known", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      const cached = yield* cacheOver(local)
      const reason = yield* reasonOf(cached, "slack")
      assert.strictEqual(reason._tag, "ReauthRequired")
      yield* aden.stop
      yield* TestClock.adjust("1 minute")
      const later = yield* reasonOf(cached, "slack")
      assert.strictEqual(later._tag, "ReauthRequired")
      if (reason._tag === "ReauthRequired" && later._tag === "ReauthRequired") {
        assert.strictEqual(later.reauthorizationUrl, reason.reauthorizationUrl)
      }
    }).pipe(Effect.provide(memoryAden({ integrations: [{ id: "slack", status: "requires_reauth" }] }))))

  it.effect("not found at Aden and absent from its list: the entry and its state go, none", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      const cached = yield* cacheOver(local)
      yield* cached.load("github")
      yield* aden.removeIntegration("github")
      yield* TestClock.adjust("6 minutes")
      assert.isTrue(Option.isNone(yield* cached.load("github")))
      assert.deepStrictEqual(yield* local.list, [])
      assert.deepStrictEqual(yield* local.loadState("github"), new CredentialState({ generation: 2 }))
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("not found at Aden, but listed: the answers contradict each other, and the copy stays and is answered", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      const cached = yield* cacheOver(local)
      yield* cached.load("github")
      yield* aden.setFault(
        Fault.Status({ status: 404, body: JSON.stringify({ error: "integration_not_found" }) }),
        { endpoint: "get" }
      )
      yield* TestClock.adjust("6 minutes")
      assert.isTrue(Option.isSome(yield* cached.load("github")))
      assert.deepStrictEqual(yield* local.list, ["github"])
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("not found at Aden, and its list tells of further pages: the copy stays and is answered", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      const cached = yield* cacheOver(local)
      yield* cached.load("github")
      yield* aden.removeIntegration("github")
      yield* aden.setFault(Fault.Patch({ fields: { next_cursor: "page-2" } }), { endpoint: "list" })
      yield* TestClock.adjust("6 minutes")
      assert.isTrue(Option.isSome(yield* cached.load("github")))
      assert.deepStrictEqual(yield* local.list, ["github"])
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("a proxy's 404, or an empty list by itself, removes nothing", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      const cached = yield* cacheOver(local)
      yield* cached.load("github")
      yield* aden.setFault(Fault.Status({ status: 404, contentType: "text/html", body: "<h1>Not here</h1>" }), {
        endpoint: "get"
      })
      yield* aden.setFault(Fault.Patch({ fields: { integrations: [] } }), { endpoint: "list" })
      yield* TestClock.adjust("6 minutes")
      assert.isTrue(Option.isSome(yield* cached.load("github")))
      assert.deepStrictEqual(yield* local.list, ["github"])
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("what Aden does not have is remembered for 30 seconds, so that a loop does not hammer it", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const cached = yield* cacheOver(yield* memory())
      for (let i = 0; i < 100; i++) assert.isTrue(Option.isNone(yield* cached.load("unknown")))
      assert.strictEqual(yield* requests, 1)
      yield* aden.addIntegration({ id: "unknown" })
      yield* TestClock.adjust("31 seconds")
      assert.isTrue(Option.isSome(yield* cached.load("unknown")))
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("the pause of 30 seconds holds for 1,100 entries at once", () =>
    Effect.gen(function*() {
      let asked = 0
      const client = AdenClient.layerTest({
        clockOffset: Effect.succeed(0),
        getCredential: () => Effect.sync(() => (asked++, Option.none())),
        listIntegrations: Effect.succeed({ accounts: [], malformed: [], isIncomplete: false })
      })
      const layer = AdenCachedStorage.layer().pipe(
        Layer.provide([MemoryStorage.layer(), AdenSyncProvider.layer().pipe(Layer.provide(client))])
      )
      const cached = Context.get(yield* Layer.build(layer), CredentialStorage)
      const ids = Array.from({ length: 1_100 }, (_, index) => `missing-${index}`)
      const loadAll = Effect.forEach(ids, (id) => cached.load(id), { discard: true })
      yield* loadAll
      yield* TestClock.adjust("1 second")
      yield* loadAll
      assert.strictEqual(asked, ids.length)
      yield* TestClock.adjust("30 seconds")
      yield* loadAll
      assert.strictEqual(asked, 2 * ids.length)
    }))

  it.effect("what was saved while Aden was asked is answered, and neither overwritten nor removed", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      const cached = yield* cacheOver(local)
      yield* cached.load("github")
      yield* aden.setFault(Fault.Latency({ duration: "1 second" }))
      yield* TestClock.adjust("6 minutes")
      const own = Credential.fromApiKey({ id: "github", apiKey: Redacted.make("my own") })
      const waiting = yield* Effect.forkChild(cached.load("github"), { startImmediately: true })
      yield* eventually(Effect.map(gets, (count) => count === 2))
      yield* local.save(own)
      yield* TestClock.adjust("1 second")
      const answered = Option.getOrThrow(yield* Fiber.join(waiting))
      assert.strictEqual(answered.type, "api_key")
      assert.strictEqual(Option.getOrThrow(yield* local.load("github")).type, "api_key")
    }).pipe(Effect.provide(memoryAden(forever))))
})

describe("AdenCachedStorage: over a storage that fails", () => {
  /** Takes no credential while it is full. */
  const fillable = (storage: Storage) => {
    let isFull = true
    return {
      storage: decorate(storage, {
        save: (credential, options) =>
          Effect.suspend(() => isFull ? Effect.fail(full) : storage.save(credential, options))
      }),
      free: () => {
        isFull = false
      }
    }
  }
  const full = new CredentialStorageError({
    operation: "save",
    reason: new StorageIoFailed({ location: "the disk", detail: "no space left" })
  })

  it.effect("an answer that it does not take is answered, asked for once, and written behind", () =>
    Effect.gen(function*() {
      const local = yield* memory()
      const disk = fillable(local)
      const cached = yield* cacheOver(disk.storage)
      const first = tokenOf(yield* cached.load("github"))
      assert.strictEqual(tokenOf(yield* cached.load("github")), first)
      assert.strictEqual(yield* gets, 1)
      assert.deepStrictEqual(yield* local.list, [])
      disk.free()
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(tokenOf(yield* local.load("github")), first)
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("what the program saves counts, although an answer is still to be written behind", () =>
    Effect.gen(function*() {
      const local = yield* memory()
      const disk = fillable(local)
      const cached = yield* cacheOver(disk.storage)
      yield* cached.load("github")
      disk.free()
      yield* cached.save(Credential.fromApiKey({ id: "github", apiKey: Redacted.make("my own") }))
      assert.strictEqual(Option.getOrThrow(yield* cached.load("github")).type, "api_key")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(Option.getOrThrow(yield* local.load("github")).type, "api_key")
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("the program deletes it: Aden is asked again, and what was to be written behind is not", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      const disk = fillable(local)
      const cached = yield* cacheOver(disk.storage)
      yield* cached.load("github")
      disk.free()
      yield* aden.removeIntegration("github")
      yield* cached.delete("github")
      assert.isTrue(Option.isNone(yield* cached.load("github")))
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(yield* local.list, [])
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("a deletion that comes while an answer is written behind is the last to be written", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const local = yield* memory()
      let isFull = true
      const cached = yield* cacheOver(decorate(local, {
        save: (credential, options) =>
          Effect.suspend(() =>
            isFull ? Effect.fail(full) : Effect.andThen(Effect.sleep("1 second"), local.save(credential, options))
          )
      }))
      yield* cached.load("github")
      isFull = false
      yield* TestClock.adjust("1500 millis")
      yield* aden.removeIntegration("github")
      const deleting = yield* Effect.forkChild(cached.delete("github"), { startImmediately: true })
      yield* TestClock.adjust("10 seconds")
      assert.isTrue(yield* Fiber.join(deleting))
      assert.deepStrictEqual(yield* local.list, [])
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("a read within the lock of the entry asks Aden all the same", () =>
    Effect.gen(function*() {
      const cached = yield* cacheOver(yield* memory())
      assert.isTrue(Option.isSome(yield* cached.withLock("github", cached.load("github"))))
    }).pipe(Effect.provide(memoryAden(forever))))

  it.effect("a read that hangs is given up after 2 s", () =>
    Effect.gen(function*() {
      const local = yield* memory()
      const cached = yield* cacheOver(decorate(local, { read: () => Effect.never }))
      const reading = yield* Effect.forkChild(Effect.flip(cached.load("github")), { startImmediately: true })
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual((yield* Fiber.join(reading))._tag, "CredentialStorageError")
    }).pipe(Effect.provide(memoryAden(forever))))
})
