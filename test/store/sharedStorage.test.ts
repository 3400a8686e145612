import { assert, describe, it } from "@effect/vitest"
import {
  AdenClient,
  AdenSyncProvider,
  Credential,
  CredentialDecryptionFailed,
  type CredentialEvent,
  CredentialProviders,
  CredentialStorage,
  CredentialStorageError,
  CredentialStore,
  type CredentialStoreOptions,
  MemoryStorage,
  type StorageChange,
  StorageIoFailed
} from "aden-credentials"
import { AdenEmulator, type AdenEmulatorOptions, Fault } from "aden-credentials/emulator"
import { Context, DateTime, Effect, Fiber, Layer, Option, PubSub, Redacted, Schedule, Stream } from "effect"
import { TestClock } from "effect/testing"
import { decorate } from "../../src/storage/decorate.ts"
import { count, eventually, turn } from "../fixtures/emulatedStore.ts"
import { memoryAden, MemoryHttpClient } from "../fixtures/memoryAden.ts"

// Two stores over one storage stand for two processes. The storage takes its time, as a disk does, and can be made to fail.

class Disk extends Context.Service<Disk, {
  isFull: boolean
  isCorrupt: boolean
  reads: number
}>()("test/Disk") {}

const storage = Layer.effect(
  CredentialStorage,
  Effect.gen(function*() {
    const memory = yield* CredentialStorage
    const disk = yield* Disk
    const writing = (operation: string) =>
      Effect.flatMap(turn, () =>
        disk.isFull
          ? Effect.fail(
            new CredentialStorageError({
              operation,
              reason: new StorageIoFailed({ location: "the disk", detail: "no space left" })
            })
          )
          : Effect.void)
    const reading = <A, E>(id: string, read: Effect.Effect<A, E>) =>
      Effect.flatMap(turn, (): Effect.Effect<A, E | CredentialDecryptionFailed> => {
        disk.reads++
        return disk.isCorrupt
          ? Effect.fail(new CredentialDecryptionFailed({ id, location: id, detail: "it is not a credential" }))
          : read
      })
    return CredentialStorage.of({
      ...memory,
      read: (id) => reading(id, memory.read(id)),
      load: (id) => reading(id, memory.load(id)),
      loadState: (id) => Effect.andThen(turn, memory.loadState(id)),
      save: (credential, options) => Effect.andThen(writing("save"), memory.save(credential, options)),
      saveMany: (credentials, options) => Effect.andThen(writing("saveMany"), memory.saveMany(credentials, options)),
      saveState: (id, state) => Effect.andThen(writing("saveState"), memory.saveState(id, state))
    })
  })
).pipe(
  Layer.provide(MemoryStorage.layer()),
  Layer.provideMerge(Layer.sync(Disk, () => ({ isFull: false, isCorrupt: false, reads: 0 })))
)

const client = Layer.unwrap(Effect.map(AdenEmulator, (aden) =>
  AdenClient.layer({
    baseUrl: aden.url,
    apiKey: aden.apiKey,
    tenantId: aden.tenantId,
    retry: Schedule.recurs(0),
    circuitBreaker: { failures: 10_000 }
  }))).pipe(Layer.provide(MemoryHttpClient))

/** The store of one more process. */
const startProcess = (options: CredentialStoreOptions = {}) =>
  Effect.map(
    Layer.build(Layer.fresh(
      CredentialStore.layer(options).pipe(Layer.provide(AdenSyncProvider.layer()), Layer.provide(client))
    )),
    Context.get(CredentialStore)
  )

const setup = (
  integrations: AdenEmulatorOptions["integrations"] = [{ id: "hubspot", tokenLifetime: "1 hour" }]
) => Layer.merge(storage, memoryAden({ integrations }))

const counted = (endpoint: "list" | "get" | "refresh", expected: number) =>
  eventually(Effect.map(count(endpoint), (n) => n === expected))

const tokenOf = (store: CredentialStore["Service"], ref: string) => Effect.map(store.token(ref), Redacted.value)

const ownKey = (id: string, key: string) => Credential.fromApiKey({ id, apiKey: Redacted.make(key) })

const ownToken = (id: string, token: string, lifetime: { readonly hours: number }) =>
  Effect.map(DateTime.now, (now) =>
    Credential.fromAccessToken({
      id,
      accessToken: Redacted.make(token),
      expiresAt: DateTime.add(now, lifetime)
    }))

const refreshFails = Fault.Status({
  status: 400,
  body: `{"error":"refresh_failed","message":"try later","requires_reauthorization":false}`
})

describe("CredentialStore: two processes over one storage", () => {
  it.effect("a credential that another process deleted and saved again is found", () =>
    Effect.gen(function*() {
      const [here, there] = [yield* startProcess(), yield* startProcess()]
      yield* there.save(ownKey("brave", "one"))
      assert.strictEqual(yield* tokenOf(here, "brave"), "one")
      yield* there.delete("brave")
      yield* TestClock.adjust("6 minutes")
      yield* eventually(Effect.map(Effect.exit(here.token("brave")), (exit) => exit._tag === "Failure"))
      yield* there.save(ownKey("brave", "two"))
      assert.strictEqual(yield* tokenOf(here, "brave"), "two")
    }).pipe(Effect.provide(setup())))

  it.effect("an own token that has expired here, and was replaced by another process, is served", () =>
    Effect.gen(function*() {
      const [here, there] = [yield* startProcess(), yield* startProcess()]
      yield* there.save(yield* ownToken("mine", "one", { hours: 1 }))
      assert.strictEqual(yield* tokenOf(here, "mine"), "one")
      yield* TestClock.adjust("2 hours")
      assert.strictEqual((yield* Effect.flip(here.token("mine")))._tag, "RefreshFailed")
      yield* there.save(yield* ownToken("mine", "two", { hours: 1 }))
      assert.strictEqual(yield* tokenOf(here, "mine"), "two")
    }).pipe(Effect.provide(setup())))

  it.effect("a read while an own credential is being saved gets the old one or the new one", () =>
    Effect.gen(function*() {
      const store = yield* startProcess()
      yield* store.save(ownKey("brave", "one"))
      const saving = yield* Effect.forkChild(store.save(ownKey("brave", "two")), { startImmediately: true })
      for (let i = 0; i < 10; i++) {
        assert.include(["one", "two"], yield* tokenOf(store, "brave"))
        yield* turn
      }
      yield* Fiber.join(saving)
      assert.strictEqual(yield* tokenOf(store, "brave"), "two")
    }).pipe(Effect.provide(setup())))

  it.effect("a read while a sync asks for what the list lacks gets what is stored", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* (yield* startProcess()).sync
      const restarted = yield* startProcess()
      const before = yield* count("get")
      yield* aden.setFault(Fault.ReplaceBody({ body: `{"integrations":[],"tenant_id":"tenant-123"}` }), {
        endpoint: "list"
      })
      yield* aden.setFault(Fault.Hang(), { endpoint: "get", times: 1 })
      const sync = yield* Effect.forkChild(restarted.sync)
      yield* counted("get", before + 1)
      yield* restarted.token("hubspot")
      yield* Fiber.interrupt(sync)
    }).pipe(Effect.provide(setup())))

  it.effect("refresh failed here, and another process renewed it: its token is served during the back-off", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const [here, there] = [yield* startProcess(), yield* startProcess()]
      yield* tokenOf(here, "hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(refreshFails, { times: 1 })
      assert.strictEqual((yield* Effect.flip(here.token("hubspot")))._tag, "RefreshFailed")
      const renewed = yield* tokenOf(there, "hubspot")
      assert.strictEqual(yield* tokenOf(here, "hubspot"), renewed)
      assert.strictEqual(yield* count("refresh"), 2)
    }).pipe(Effect.provide(setup())))

  it.effect("expired here, another process renewed it, then Aden went away: its token is served", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const [here, there] = [yield* startProcess(), yield* startProcess()]
      yield* tokenOf(here, "hubspot")
      yield* TestClock.adjust("2 hours")
      const renewed = yield* tokenOf(there, "hubspot")
      yield* TestClock.adjust("7 minutes")
      yield* aden.stop
      assert.strictEqual(yield* tokenOf(here, "hubspot"), renewed)
    }).pipe(Effect.provide(setup())))

  it.effect("an entry that another process deleted and synced again is renewed and saved", () =>
    Effect.gen(function*() {
      const [here, there] = [yield* startProcess(), yield* startProcess()]
      yield* tokenOf(here, "hubspot")
      yield* here.refresh("hubspot")
      yield* here.refresh("hubspot")
      yield* there.delete("hubspot")
      yield* there.sync
      yield* TestClock.adjust("2 hours")
      const renewed = yield* tokenOf(here, "hubspot")
      assert.strictEqual(yield* tokenOf(yield* startProcess(), "hubspot"), renewed)
    }).pipe(Effect.provide(setup())))

  it.effect("a second account that another process synced makes the provider's name ambiguous", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const [here, there] = [yield* startProcess(), yield* startProcess()]
      yield* tokenOf(here, "google")
      yield* aden.addIntegration({ id: "hash-2", type: "google", alias: "Work" })
      yield* there.sync
      yield* TestClock.adjust("6 minutes")
      yield* eventually(
        Effect.map(
          Effect.result(here.token("google")),
          (result) => result._tag === "Failure" && result.failure._tag === "AmbiguousCredential"
        )
      )
    }).pipe(Effect.provide(setup([{ id: "hash-1", type: "google", alias: "Home" }]))))

  it.effect("a second account of which storage tells makes the provider's name ambiguous at once", () =>
    Effect.gen(function*() {
      const [here, there] = [yield* startProcess(), yield* startProcess()]
      const account = (id: string, alias: string) =>
        Credential.fromAccessToken({ id, accessToken: Redacted.make(id), provider: "brave", alias })
      yield* there.save(account("one", "home"))
      assert.strictEqual(yield* tokenOf(here, "brave"), "one")
      assert.strictEqual(yield* tokenOf(here, "brave"), "one")
      yield* there.save(account("two", "work"))
      yield* eventually(
        Effect.map(
          Effect.result(here.token("brave")),
          (result) => result._tag === "Failure" && result.failure._tag === "AmbiguousCredential"
        )
      )
      assert.strictEqual(yield* tokenOf(here, "brave:home"), "one")
      assert.strictEqual(yield* tokenOf(here, "brave:work"), "two")
    }).pipe(Effect.provide(setup())))

  it.effect("integration not found: a person's own credential that another process saved in that time is not removed", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const [here, there] = [yield* startProcess(), yield* startProcess()]
      yield* tokenOf(here, "hubspot")
      yield* aden.removeIntegration("hubspot")
      yield* TestClock.adjust("2 hours")
      const before = yield* count("list")
      yield* aden.setFault(Fault.Latency({ duration: "5 seconds" }), { endpoint: "list" })
      const reading = yield* Effect.forkChild(Effect.exit(here.token("hubspot")))
      yield* counted("list", before + 1)
      yield* there.save(ownKey("hubspot", "my-own-key"))
      yield* TestClock.adjust("6 seconds")
      yield* Fiber.join(reading)
      assert.isTrue(Option.isSome(yield* (yield* CredentialStorage).load("hubspot")))
      assert.strictEqual(yield* tokenOf(here, "hubspot"), "my-own-key")
    }).pipe(Effect.provide(setup())))

  it.effect("sync: a person's own credential that another process saved during it is not removed", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const [here, there] = [yield* startProcess(), yield* startProcess()]
      yield* tokenOf(here, "hubspot")
      yield* aden.removeIntegration("hubspot")
      const before = yield* count("get")
      yield* aden.setFault(Fault.Latency({ duration: "5 seconds" }), { endpoint: "get" })
      const sync = yield* Effect.forkChild(here.sync)
      yield* counted("get", before + 1)
      yield* there.save(ownKey("hubspot", "my-own-key"))
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual((yield* Fiber.join(sync)).removed, [])
      assert.isTrue(Option.isSome(yield* (yield* CredentialStorage).load("hubspot")))
    }).pipe(Effect.provide(setup())))

  it.effect("blocked by another process: a failing validate here does not make it forgotten", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const [here, there] = [yield* startProcess(), yield* startProcess()]
      yield* tokenOf(here, "hubspot")
      yield* aden.revoke("hubspot")
      assert.strictEqual((yield* Effect.flip(there.refresh("hubspot")))._tag, "ReauthRequired")
      yield* aden.stop
      assert.strictEqual((yield* Effect.flip(here.validate("hubspot")))._tag, "AdenUnavailable")
      assert.strictEqual((yield* Effect.flip((yield* startProcess()).token("hubspot")))._tag, "ReauthRequired")
    }).pipe(Effect.provide(setup())))

  it.effect("a rate limit holds to its end, also when another process deletes the entry", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const [here, there] = [yield* startProcess(), yield* startProcess()]
      yield* tokenOf(here, "hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 60 }), { times: 1 })
      assert.strictEqual((yield* Effect.flip(here.token("hubspot")))._tag, "RateLimited")
      yield* there.delete("hubspot")
      const before = yield* aden.countRequests()
      assert.strictEqual((yield* Effect.flip(here.token("hubspot")))._tag, "RateLimited")
      assert.strictEqual(yield* aden.countRequests(), before)
      yield* TestClock.adjust("61 seconds")
      yield* here.token("hubspot")
    }).pipe(Effect.provide(setup())))

  it.effect("blocked stays blocked for a process without a provider, and validate says so", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* startProcess()
      yield* tokenOf(store, "hubspot")
      yield* aden.revoke("hubspot")
      yield* Effect.flip(store.refresh("hubspot"))
      const reader = Context.get(
        yield* Layer.build(Layer.fresh(CredentialStore.layer().pipe(Layer.provide(CredentialProviders.layerNone)))),
        CredentialStore
      )
      assert.strictEqual((yield* Effect.flip(reader.token("hubspot")))._tag, "ReauthRequired")
      const validation = yield* reader.validate("hubspot")
      assert.isFalse(validation.valid)
      assert.isTrue(validation.requiresReauthorization)
      assert.strictEqual(validation.reauthorizationUrl, `${aden.url}/integrations/hubspot/connect`)
    }).pipe(Effect.provide(setup())))

  it.effect("a confirmation noted by a clock that was years ahead does not keep Aden from being asked", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.parse("2030-01-01T00:00:00Z"))
      yield* tokenOf(yield* startProcess(), "github")
      yield* TestClock.setTime(Date.parse("2026-01-01T00:00:00Z"))
      const store = yield* startProcess()
      const before = yield* count("get")
      yield* tokenOf(store, "github")
      yield* TestClock.adjust("6 minutes")
      yield* tokenOf(store, "github")
      yield* counted("get", before + 1)
    }).pipe(Effect.provide(setup([{ id: "github" }]))))
})

describe("CredentialStore: what another process changes is in memory at once", () => {
  it.effect("a renewed token is read without a look at the clock, the storage or Aden", () =>
    Effect.gen(function*() {
      const [here, there] = [yield* startProcess(), yield* startProcess()]
      const first = yield* tokenOf(here, "hubspot")
      assert.strictEqual(yield* tokenOf(there, "hubspot"), first)
      const renewed = yield* there.refresh("hubspot")
      const second = yield* tokenOf(there, "hubspot")
      assert.isTrue(renewed.defaultKey !== undefined && Redacted.value(renewed.defaultKey.value) === second)
      yield* eventually(Effect.map(tokenOf(here, "hubspot"), (token) => token === second))
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup())))

  it.effect("a deleted one is not served any more", () =>
    Effect.gen(function*() {
      const [here, there] = [yield* startProcess(), yield* startProcess()]
      yield* here.save(ownKey("brave", "one"))
      assert.strictEqual(yield* tokenOf(there, "brave"), "one")
      yield* here.delete("brave")
      yield* eventually(
        Effect.map(Effect.result(there.token("brave")), (answer) => answer._tag === "Failure")
      )
    }).pipe(Effect.provide(setup())))

  it.effect("its own writes are not read again", () =>
    Effect.gen(function*() {
      const disk = yield* Disk
      const store = yield* startProcess()
      yield* tokenOf(store, "hubspot")
      yield* store.refresh("hubspot")
      yield* store.sync
      yield* store.save(ownKey("brave", "one"))
      const reads = disk.reads
      for (let i = 0; i < 20; i++) yield* turn
      assert.strictEqual(disk.reads, reads)
    }).pipe(Effect.provide(setup())))

  it.effect("nor where the storage tells of a write before it returns", () =>
    Effect.gen(function*() {
      const memory = yield* CredentialStorage
      const seen: Array<StorageChange> = []
      yield* Stream.runForEach(memory.changes, (change) => Effect.sync(() => seen.push(change))).pipe(
        Effect.forkScoped({ startImmediately: true })
      )
      const reads: Array<string> = []
      const counting = decorate(memory, {
        read: (id) => Effect.suspend(() => (reads.push(id), memory.read(id))),
        save: (credential, options) => Effect.tap(memory.save(credential, options), turn)
      })
      const store = yield* startProcess().pipe(Effect.provideService(CredentialStorage, counting))
      yield* tokenOf(store, "hubspot")
      reads.length = 0
      yield* store.refresh("hubspot")
      yield* store.save(ownKey("brave", "one"))
      yield* store.save(ownKey("brave", "two"))
      yield* eventually(Effect.sync(() => seen.length === 4))
      for (let i = 0; i < 20; i++) yield* turn
      // under the lock
      assert.deepStrictEqual(reads, ["hubspot"])
    }).pipe(Effect.provide(setup())))

  it.effect("a writer that does not count is not taken for an echo of its own", () =>
    Effect.gen(function*() {
      const memory = yield* CredentialStorage
      const changes = yield* PubSub.unbounded<StorageChange>()
      const uncounted = new Map<string, Credential>()
      const storage = decorate(memory, {
        read: (id) =>
          Effect.map(memory.read(id), ({ credential, state }) => ({
            credential: Option.orElse(Option.fromUndefinedOr(uncounted.get(id)), () => credential),
            state
          })),
        changes: Stream.merge(memory.changes, Stream.fromPubSub(changes))
      })
      const store = yield* startProcess().pipe(Effect.provideService(CredentialStorage, storage))
      yield* store.save(ownKey("brave", "one"))
      uncounted.set("brave", ownKey("brave", "two"))
      // its generation is still that of the store's own write
      yield* PubSub.publish(changes, { _tag: "Saved", id: "brave", generation: 1 })
      for (let i = 0; i < 20; i++) yield* turn
      assert.strictEqual(yield* tokenOf(store, "brave"), "one")
      yield* PubSub.publish(changes, { _tag: "Saved", id: "brave", generation: undefined })
      yield* eventually(Effect.map(tokenOf(store, "brave"), (token) => token === "two"))
    }).pipe(Effect.provide(setup())))
})

describe("CredentialStore: a disk that fails", () => {
  it.effect("works again: what it did not take is saved within seconds, without a read", () =>
    Effect.gen(function*() {
      const disk = yield* Disk
      const [here, there] = [yield* startProcess(), yield* startProcess()]
      yield* tokenOf(here, "hubspot")
      disk.isFull = true
      yield* here.refresh("hubspot")
      const unsaved = yield* tokenOf(here, "hubspot")
      yield* TestClock.adjust("10 seconds")
      assert.notStrictEqual(yield* tokenOf(there, "hubspot"), unsaved)
      disk.isFull = false
      const secondLater = TestClock.adjust("1 second")
      yield* eventually(
        Effect.andThen(secondLater, Effect.map(tokenOf(there, "hubspot"), (token) => token === unsaved))
      )
      assert.strictEqual(yield* tokenOf(yield* startProcess(), "hubspot"), unsaved)
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup())))

  it.effect("works again, after another process has renewed: the older one does not replace the newer one", () =>
    Effect.gen(function*() {
      const disk = yield* Disk
      const [here, there] = [yield* startProcess(), yield* startProcess()]
      yield* tokenOf(here, "hubspot")
      yield* tokenOf(there, "hubspot")
      disk.isFull = true
      yield* here.refresh("hubspot")
      disk.isFull = false
      yield* there.refresh("hubspot")
      const newer = yield* tokenOf(there, "hubspot")
      const secondLater = TestClock.adjust("1 second")
      yield* eventually(Effect.andThen(secondLater, Effect.map(tokenOf(here, "hubspot"), (token) => token === newer)))
      assert.strictEqual(yield* tokenOf(there, "hubspot"), newer)
      assert.strictEqual(yield* tokenOf(yield* startProcess(), "hubspot"), newer)
    }).pipe(Effect.provide(setup())))

  it.effect("failed once and works again: what is renewed afterwards is served and saved", () =>
    Effect.gen(function*() {
      const disk = yield* Disk
      const store = yield* startProcess()
      yield* tokenOf(store, "hubspot")
      yield* TestClock.adjust("2 hours")
      disk.isFull = true
      const unsaved = yield* tokenOf(store, "hubspot")
      disk.isFull = false
      yield* TestClock.adjust("2 hours")
      const renewed = yield* tokenOf(store, "hubspot")
      assert.notStrictEqual(renewed, unsaved)
      assert.strictEqual(yield* tokenOf(yield* startProcess(), "hubspot"), renewed)
    }).pipe(Effect.provide(setup())))

  it.effect("blocked stays blocked", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* startProcess()
      yield* tokenOf(store, "hubspot")
      ;(yield* Disk).isFull = true
      yield* aden.revoke("hubspot")
      assert.strictEqual((yield* Effect.flip(store.refresh("hubspot")))._tag, "ReauthRequired")
      yield* TestClock.adjust("31 seconds")
      assert.strictEqual((yield* Effect.flip(store.token("hubspot")))._tag, "ReauthRequired")
    }).pipe(Effect.provide(setup())))

  it.effect("a rate limit holds", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* startProcess()
      yield* tokenOf(store, "hubspot")
      ;(yield* Disk).isFull = true
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 60 }), { endpoint: "refresh" })
      assert.strictEqual((yield* Effect.flip(store.token("hubspot")))._tag, "RateLimited")
      assert.strictEqual((yield* Effect.flip(store.refresh("hubspot")))._tag, "RateLimited")
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup())))
})

describe("CredentialStore: how often Aden is asked", () => {
  it.effect("what is stored became undecryptable: the token in memory is served, with one event per back-off step", () =>
    Effect.gen(function*() {
      const store = yield* startProcess()
      const events: Array<CredentialEvent> = []
      const first = yield* tokenOf(store, "github")
      yield* Effect.forkScoped(Stream.runForEach(store.changes, (event) => Effect.sync(() => events.push(event))), {
        startImmediately: true
      })
      ;(yield* Disk).isCorrupt = true
      yield* TestClock.adjust("6 minutes")
      assert.strictEqual(yield* tokenOf(store, "github"), first)
      yield* eventually(Effect.sync(() => events.length > 0))
      for (let i = 0; i < 20; i++) {
        assert.strictEqual(yield* tokenOf(store, "github"), first)
        yield* turn
      }
      assert.deepStrictEqual(events, [{ _tag: "ServedStale", id: "github", error: "CredentialDecryptionFailed" }])
    }).pipe(Effect.provide(setup([{ id: "github" }]))))

  it.effect("too little time left, refresh failed: next try by back-off", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* startProcess()
      yield* tokenOf(store, "hubspot")
      yield* TestClock.adjust("45 minutes")
      yield* aden.setFault(refreshFails)
      for (let i = 0; i < 20; i++) {
        const error = yield* Effect.flip(store.token("hubspot", { minTimeLeft: "20 minutes" }))
        assert.strictEqual(error._tag, "RefreshFailed")
      }
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup())))

  it.effect("due, rate-limited for no time at all: next try by back-off", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* startProcess()
      yield* tokenOf(store, "hubspot")
      yield* TestClock.adjust("57 minutes")
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 0 }))
      yield* tokenOf(store, "hubspot")
      yield* eventually(Effect.map(store.explain("hubspot"), ({ lastError }) => lastError === "RateLimited"))
      for (let i = 0; i < 20; i++) {
        yield* tokenOf(store, "hubspot")
        yield* turn
      }
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup())))

  it.effect("the recheck policy is stepped once per check, however many wait for it", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      let steps = 0
      const recheck = Schedule.spaced("30 seconds").pipe(Schedule.tap(() => Effect.sync(() => steps++)))
      const store = yield* startProcess({ policy: { recheck } })
      yield* tokenOf(store, "hubspot")
      yield* aden.revoke("hubspot")
      yield* Effect.flip(store.refresh("hubspot"))
      assert.strictEqual(steps, 1)
      yield* TestClock.adjust("31 seconds")
      yield* Effect.forEach(Array.from({ length: 100 }), () => Effect.flip(store.token("hubspot")), {
        concurrency: "unbounded"
      })
      assert.strictEqual(steps, 2)
    }).pipe(Effect.provide(setup())))

  it.effect("blocked: a re-check comes 30 s after any check, an explicit one included", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* startProcess()
      yield* tokenOf(store, "hubspot")
      yield* aden.revoke("hubspot")
      yield* Effect.flip(store.refresh("hubspot"))
      yield* TestClock.adjust("20 seconds")
      yield* Effect.flip(store.refresh("hubspot"))
      yield* TestClock.adjust("20 seconds")
      yield* Effect.flip(store.token("hubspot"))
      assert.strictEqual(yield* count("validate"), 0)
      yield* TestClock.adjust("11 seconds")
      yield* Effect.flip(store.token("hubspot"))
      assert.strictEqual(yield* count("validate"), 1)
    }).pipe(Effect.provide(setup())))
})
