import { assert, describe, it } from "@effect/vitest"
import { Credential, CredentialStorage, CredentialStore, MemoryStorage } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Context, DateTime, Effect, Fiber, Layer, Option, Redacted, Stream } from "effect"
import { TestClock } from "effect/testing"
import {
  count,
  eventually,
  forever,
  oneHour,
  restarted,
  setup,
  storeLayer,
  token,
  turn
} from "../fixtures/emulatedStore.ts"
import { repeats } from "../fixtures/repeats.ts"

// What one part of a program, or another process, does while the store is in the middle of something.

/** A storage that tells of no change. */
const silent = Layer.effect(
  CredentialStorage,
  Effect.map(CredentialStorage, (storage) => CredentialStorage.of({ ...storage, changes: Stream.empty }))
).pipe(Layer.provide(MemoryStorage.layer()))

const own = Credential.fromApiKey({ id: "hubspot", apiKey: Redacted.make("the program's own") })

/** The store of one more process over the same storage. */
const startProcess = Effect.map(Layer.build(Layer.fresh(storeLayer())), Context.get(CredentialStore))

/** A storage in memory into which another process saves right after the n-th read. */
const overtakenRead = { saving: undefined as Credential | undefined, readsLeft: 0 }

const overtaken = Layer.effect(
  CredentialStorage,
  Effect.map(Effect.service(CredentialStorage), (storage) =>
    CredentialStorage.of({
      ...storage,
      read: (id) =>
        Effect.tap(storage.read(id), () => {
          const { saving } = overtakenRead
          if (saving?.id !== id || --overtakenRead.readsLeft > 0) return Effect.void
          overtakenRead.saving = undefined
          return Effect.orDie(storage.save(saving))
        })
    }))
).pipe(Layer.provide(MemoryStorage.layer()))

const saveAfterRead = (n: number) =>
  Effect.sync(() => {
    overtakenRead.saving = own
    overtakenRead.readsLeft = n
  })

describe("CredentialStore: another process saves its own when this one has just read the entry", () => {
  const setting = setup({ storage: overtaken, aden: { integrations: [{ id: "hubspot" }, { id: "other" }] } })
  const removed = AdenEmulator.use((aden) => aden.removeIntegration("hubspot"))
  const refreshing = Effect.exit(CredentialStore.use((store) => store.refresh("hubspot")))
  const syncing = Effect.exit(CredentialStore.use((store) => store.sync))

  /** After each read of the entry that the program makes. */
  const afterEachRead = <E, R>(
    before: Effect.Effect<unknown, E, R>,
    program: Effect.Effect<unknown, E, CredentialStore>
  ) =>
    Effect.gen(function*() {
      for (let n = 1;; n++) {
        const isDone = yield* Effect.gen(function*() {
          yield* token("hubspot")
          yield* before
          yield* saveAfterRead(n)
          yield* restarted(program)
          if (overtakenRead.saving !== undefined) return true
          const stored = yield* CredentialStorage.use((storage) => storage.load("hubspot"))
          assert.isTrue(Option.exists(stored, ({ providerId }) => providerId === undefined), `read ${n}`)
          return false
        }).pipe(Effect.provide(setting, { local: true }))
        if (isDone) return assert.isAbove(n, 1)
      }
    })

  it.effect("and Aden does not have the integration any more: what it saved is not removed", () =>
    afterEachRead(removed, refreshing))

  it.effect("and then renews it: what it saved is not overwritten", () => afterEachRead(Effect.void, refreshing))

  it.effect("and then synchronises: what it saved is not overwritten", () => afterEachRead(Effect.void, syncing))

  it.effect("and then synchronises without the integration: what it saved is not removed", () =>
    afterEachRead(removed, syncing))
})

describe("CredentialStore: another process saves its own while Aden is asked", () => {
  const isServed = Effect.map(token("hubspot"), (served) => served === "the program's own")

  for (const question of ["refresh", "validate"] as const) {
    it.effect(`${question}: that a person has to act does not block what it saved`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const store = yield* CredentialStore
        const storage = yield* CredentialStorage
        yield* store.token("hubspot")
        yield* aden.revoke("hubspot")
        yield* aden.setFault(Fault.Latency({ duration: "5 seconds" }))
        const asking = yield* Effect.forkChild(Effect.exit<unknown, unknown, never>(store[question]("hubspot")))
        yield* eventually(Effect.map(count(question), (n) => n === 1))
        yield* storage.save(own)
        yield* eventually(isServed)
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(asking)
        assert.isTrue(yield* isServed)
        assert.isUndefined((yield* storage.loadState("hubspot")).blockedSince)
      }).pipe(Effect.provide(setup({ aden: oneHour }))))
  }
})

describe("CredentialStore: another process saves its own, which expires soon, while Aden is asked", () => {
  it.effect("what Aden answers does not overwrite it", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      yield* store.token("hubspot")
      yield* aden.setFault(Fault.Latency({ duration: "5 seconds" }))
      const asking = yield* Effect.forkChild(Effect.exit(store.refresh("hubspot")))
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      const expiresAt = DateTime.add(yield* DateTime.now, { minutes: 10 })
      yield* storage.save(
        Credential.fromAccessToken({ id: "hubspot", accessToken: Redacted.make("the person's"), expiresAt })
      )
      yield* eventually(Effect.map(token("hubspot"), (served) => served === "the person's"))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(asking)
      assert.strictEqual(yield* token("hubspot"), "the person's")
      const stored = Option.getOrThrow(yield* storage.load("hubspot"))
      assert.strictEqual(Redacted.value(stored.defaultKey!.value), "the person's")
      assert.isFalse(stored.isAdenManaged)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))
})

describe("CredentialStore: another process saves its own, which is not noticed here", () => {
  it.effect("that a person has to act is not told of what it saved", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      yield* store.token("hubspot")
      yield* aden.revoke("hubspot")
      yield* storage.save(own)
      yield* store.validate("hubspot")
      assert.deepStrictEqual((yield* store.list).map(({ id, status }) => [id, status]), [["hubspot", "active"]])
      yield* TestClock.adjust("31 seconds")
      assert.strictEqual(yield* token("hubspot"), "the program's own")
    }).pipe(Effect.provide(setup({ aden: oneHour, storage: silent }))))
})

describe("CredentialStore: another process saves its own of what is known only from the list", () => {
  it.effect("validate tells of what it saved, and does not block it", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      yield* aden.setFault(Fault.Status({ status: 503 }), { endpoint: "get" })
      yield* Effect.flip(store.token("hubspot"))
      yield* aden.clearFaults
      yield* aden.revoke("hubspot")
      yield* storage.save(own)
      assert.isTrue((yield* store.validate("hubspot")).valid)
      assert.strictEqual(yield* token("hubspot"), "the program's own")
      assert.strictEqual(yield* count("validate"), 0)
    }).pipe(Effect.provide(setup({ aden: oneHour, storage: silent }))))
})

describe("CredentialStore: the clock is set back", () => {
  const ahead = Date.parse("2027-11-22T00:00:00Z")
  const right = Date.parse("2026-11-22T00:00:00Z")

  it.effect("a rate limit that was noted by the wrong clock holds no request back, also after a restart", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const aden = yield* AdenEmulator
      yield* TestClock.setTime(ahead)
      yield* store.token("hubspot")
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 60 }), { times: 1 })
      assert.strictEqual((yield* Effect.flip(store.refresh("hubspot")))._tag, "RateLimited")
      yield* TestClock.setTime(right)
      yield* store.refresh("hubspot")
      yield* restarted(CredentialStore.use((store) => store.refresh("hubspot")))
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("a token without expiry is confirmed again, and a blocked one is checked again", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const aden = yield* AdenEmulator
      yield* TestClock.setTime(ahead)
      yield* store.token("github")
      yield* TestClock.setTime(right)
      const before = yield* count("get")
      yield* store.token("github")
      yield* eventually(Effect.map(count("get"), (now) => now > before))
      yield* TestClock.setTime(ahead)
      yield* aden.revoke("github")
      yield* Effect.flip(store.refresh("github"))
      yield* aden.connect("github")
      yield* TestClock.setTime(right)
      yield* store.token("github")
    }).pipe(Effect.provide(setup({ aden: forever }))))

  it.effect("what Aden's list lacked by the wrong clock is looked for again", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const aden = yield* AdenEmulator
      yield* TestClock.setTime(ahead)
      assert.strictEqual((yield* Effect.flip(store.token("notion")))._tag, "CredentialNotFound")
      yield* aden.addIntegration({ id: "notion" })
      yield* TestClock.setTime(right)
      yield* store.token("notion")
    }).pipe(Effect.provide(setup({ aden: forever }))))
})

describe("CredentialStore: another process renews a credential that is followed here", () => {
  it.effect("the new token comes at once", () =>
    Effect.gen(function*() {
      const here = yield* CredentialStore
      const there = yield* startProcess
      const seen: Array<string> = []
      yield* Stream.runForEach(here.tokens("hubspot"), (one) => Effect.sync(() => seen.push(Redacted.value(one)))).pipe(
        Effect.forkScoped({ startImmediately: true })
      )
      yield* eventually(Effect.sync(() => seen.length === 1))
      yield* there.refresh("hubspot")
      yield* eventually(Effect.sync(() => seen.length === 2))
      assert.strictEqual(seen[1], Redacted.value(yield* there.token("hubspot")))
    }).pipe(Effect.provide(setup({ aden: oneHour }))))
})

describe("CredentialStore: an alias is given to another account in Aden", () => {
  it.effect("it means that one as soon as the first is known by its new name, though Aden's list is remembered", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      assert.strictEqual((yield* store.get("google:Timothy")).id, "g1")
      yield* TestClock.adjust("1 minute")
      yield* aden.addIntegration({ id: "g1", type: "google", alias: "Tim" })
      yield* aden.addIntegration({ id: "g2", type: "google", alias: "Timothy" })
      yield* store.refresh("g1")
      assert.strictEqual((yield* store.get("google:Tim")).id, "g1")
      assert.strictEqual((yield* store.get("google:Timothy")).id, "g2")
      assert.strictEqual(yield* count("list"), 2)
    }).pipe(Effect.provide(setup({ aden: { integrations: [{ id: "g1", type: "google", alias: "Timothy" }] } }))))

  it.effect("and no account has it now: CredentialNotFound", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      assert.strictEqual((yield* store.get("google:Timothy")).id, "g1")
      yield* TestClock.adjust("1 minute")
      yield* aden.addIntegration({ id: "g1", type: "google", alias: "Tim" })
      yield* store.refresh("g1")
      assert.strictEqual((yield* Effect.flip(store.get("google:Timothy")))._tag, "CredentialNotFound")
    }).pipe(Effect.provide(setup({ aden: { integrations: [{ id: "g1", type: "google", alias: "Timothy" }] } }))))
})

describe("CredentialStore: a first sync of many", () => {
  // more than the store remembers of what it has nothing of
  const integrations = Array.from({ length: repeats(1_500, 3) }, (_, index) => ({ id: `integration-${index}` }))

  it.effect("saves each of them, however many are asked for while a batch is written", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const report = yield* store.sync
      assert.strictEqual(report.synced.length, integrations.length)
      assert.deepStrictEqual(report.skipped, [])
    }).pipe(Effect.provide(setup({ aden: { integrations } }))))
})

describe("CredentialStore: a save of the program waits for its turn among other writers", () => {
  /** Takes an own credential only when it is this one's turn, which does not come. */
  const queue = Layer.effect(
    CredentialStorage,
    Effect.map(CredentialStorage, (storage) =>
      CredentialStorage.of({
        ...storage,
        save: (credential, options) => credential.type === "api_key" ? Effect.never : storage.save(credential, options)
      }))
  ).pipe(Layer.provide(MemoryStorage.layer()))

  it.effect("a sync that finds the same id waits, and no token of another credential with it", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const own = Credential.fromApiKey({ id: "the-last", apiKey: Redacted.make("the program's own") })
      yield* Effect.forkChild(Effect.exit(store.save(own)), { startImmediately: true })
      const syncing = yield* Effect.forkChild(store.sync, { startImmediately: true })
      yield* eventually(Effect.map(count("get"), (n) => n === 2))
      for (let turns = 0; turns < 20; turns++) yield* turn
      assert.isUndefined(syncing.pollUnsafe())
      const refreshing = yield* Effect.forkChild(store.refresh("hubspot"), { startImmediately: true })
      yield* eventually(Effect.sync(() => refreshing.pollUnsafe() !== undefined))
      assert.strictEqual((yield* Fiber.join(refreshing)).id, "hubspot")
    }).pipe(Effect.provide(
      setup({ storage: queue, aden: { integrations: [{ id: "hubspot" }, { id: "the-last" }] } })
    )))
})
