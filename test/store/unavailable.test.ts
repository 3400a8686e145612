/** What has broken credential clients before, as a program sees it. */
import { assert, describe, it } from "@effect/vitest"
import {
  CredentialStorage,
  CredentialStorageError,
  CredentialStore,
  LockTimeout,
  MemoryStorage
} from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Context, Duration, Effect, Exit, Fiber, Layer, Option, Random, Redacted, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { inspect } from "node:util"
import {
  count,
  eventsOf,
  eventually,
  forever,
  oneHour,
  restarted,
  setup,
  storeLayer,
  token,
  turn
} from "../fixtures/emulatedStore.ts"
import { memoryAden } from "../fixtures/memoryAden.ts"
import { witness } from "../fixtures/witness.ts"

const failureOf = (ref: string) => Effect.flatMap(CredentialStore, (store) => Effect.flip(store.token(ref)))

const twenty = Array.from(
  { length: 20 },
  (_, index) => ({ id: `integration-${index}`, tokenLifetime: "1 hour" }) as const
)

const answer = (status: number, error: string) =>
  Fault.Status({ status, body: JSON.stringify({ error, message: "no", requires_reauthorization: false }) })

describe("refresh and concurrency", () => {
  it.effect("one waiter times out: the flight and the other waiters go on", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Latency({ duration: "5 seconds" }))
      const impatient = yield* Effect.forkChild(Effect.timeoutOption(token("hubspot"), "1 second"))
      const patient = yield* Effect.forkChild(token("hubspot"))
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      yield* TestClock.adjust("1 second")
      assert.isTrue(Option.isNone(yield* Fiber.join(impatient)))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(patient)
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  /** Another process holds the lock for longer than a store waits for it. */
  class Lock extends Context.Service<Lock, { isHeld: boolean; waiters: number }>()("test/Lock") {}

  const LockedStorage = Layer.effect(
    CredentialStorage,
    Effect.gen(function*() {
      const storage = yield* CredentialStorage
      const lock = yield* Lock
      const timedOut = new CredentialStorageError({
        operation: "lock",
        reason: new LockTimeout({ after: Duration.seconds(10) })
      })
      return CredentialStorage.of({
        ...storage,
        withLock: (id, effect) =>
          Effect.suspend(() => {
            if (!lock.isHeld) return storage.withLock(id, effect)
            lock.waiters++
            return Effect.delay(Effect.fail(timedOut), "10 seconds")
          })
      })
    })
  ).pipe(
    Layer.provide(MemoryStorage.layer()),
    Layer.provideMerge(Layer.sync(Lock, () => ({ isHeld: false, waiters: 0 })))
  )

  for (const isRenewed of [true, false]) {
    it.effect(
      isRenewed
        ? "waiting for the lock times out and another process has renewed the entry: success"
        : "waiting for the lock times out and no process has renewed the entry: an error of storage, never of the credential",
      () =>
        Effect.gen(function*() {
          const lock = yield* Lock
          const storage = yield* CredentialStorage
          const first = yield* token("hubspot")
          yield* TestClock.adjust("2 hours")
          lock.isHeld = true
          const waiting = yield* Effect.forkChild(
            Effect.result(Effect.flatMap(CredentialStore, (store) => store.token("hubspot"))),
            { startImmediately: true }
          )
          yield* eventually(Effect.sync(() => lock.waiters === 1))
          lock.isHeld = false
          if (isRenewed) yield* restarted(token("hubspot"))
          yield* TestClock.adjust("10 seconds")
          const result = yield* Fiber.join(waiting)
          if (isRenewed) {
            const stored = Option.getOrThrow(yield* storage.load("hubspot"))
            assert.strictEqual(
              result._tag === "Success" ? Redacted.value(result.success) : result.failure,
              Redacted.value(stored.defaultKey!.value)
            )
            assert.notStrictEqual(yield* token("hubspot"), first)
            assert.strictEqual(yield* count("refresh"), 1)
          } else {
            const error = result._tag === "Failure" ? result.failure : assert.fail("a token")
            assert.strictEqual(error._tag, "CredentialStorageError")
            if (error._tag === "CredentialStorageError") assert.strictEqual(error.reason._tag, "LockTimeout")
          }
        }).pipe(Effect.provide(
          storeLayer().pipe(
            Layer.provideMerge(Layer.fresh(LockedStorage)),
            Layer.provideMerge(memoryAden(oneHour))
          )
        ))
    )
  }

  for (const isRenewed of [true, false]) {
    it.effect(
      `a forced refresh waits for the lock in vain, ${
        isRenewed ? "and another process has renewed the entry: success" : "and the token is that from before: an error"
      }`,
      () =>
        Effect.gen(function*() {
          const lock = yield* Lock
          const store = yield* CredentialStore
          const first = yield* token("hubspot")
          lock.isHeld = true
          const waiting = yield* Effect.forkChild(Effect.result(store.refresh("hubspot")), { startImmediately: true })
          yield* eventually(Effect.sync(() => lock.waiters === 1))
          lock.isHeld = false
          if (isRenewed) yield* restarted(Effect.flatMap(CredentialStore, (other) => other.refresh("hubspot")))
          yield* TestClock.adjust("10 seconds")
          const result = yield* Fiber.join(waiting)
          if (isRenewed) {
            const renewed = result._tag === "Success" ? result.success : assert.fail(result.failure.message)
            assert.notStrictEqual(Redacted.value(renewed.defaultKey!.value), first)
          } else {
            const error = result._tag === "Failure" ? result.failure : assert.fail("the token from before")
            assert.strictEqual(error._tag, "CredentialStorageError")
            assert.strictEqual(yield* token("hubspot"), first)
          }
        }).pipe(Effect.provide(
          storeLayer().pipe(
            Layer.provideMerge(Layer.fresh(LockedStorage)),
            Layer.provideMerge(memoryAden(oneHour))
          )
        ))
    )
  }

  it.effect("the deadline covers all attempts of a call", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Status({ status: 503 }))
      const waiting = yield* Effect.forkChild(failureOf("hubspot"))
      for (let attempt = 1; attempt <= 3; attempt++) {
        yield* eventually(Effect.map(count("refresh"), (n) => n === attempt))
        yield* turn
        yield* TestClock.adjust("4 seconds")
      }
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "AdenUnavailable")
    }).pipe(Effect.provide(setup({
      aden: oneHour,
      store: { deadline: "10 seconds" },
      retry: Schedule.spaced("4 seconds")
    }))))
})

describe("when Aden fails", () => {
  it.effect("down, a due credential read over and over: at most one attempt per back-off step", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const first = yield* token("hubspot")
      yield* aden.setFault(Fault.Status({ status: 503 }))
      yield* TestClock.adjust("56 minutes")
      for (let second = 0; second < 230; second++) {
        for (let i = 0; i < 5; i++) assert.strictEqual(yield* token("hubspot"), first)
        yield* turn
        yield* TestClock.adjust("1 second")
      }
      // at 0, 5, 15, 35, 75, 155 s, give or take a fifth of each step
      const attempts = yield* count("refresh")
      assert.isAtLeast(attempts, 5)
      assert.isAtMost(attempts, 7)
      assert.strictEqual((yield* store.explain("hubspot")).source, "served stale")
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("the circuit is open, and the token expires before it lets anything through: it is renewed in time", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const first = yield* token("hubspot")
      yield* token("github")
      yield* TestClock.adjust("3525 seconds")
      yield* aden.setFault(Fault.Status({ status: 503 }))
      for (let i = 0; i < 5; i++) yield* Effect.flip(store.refresh("github"))
      // probes fail until the circuit stays open for 21 s, in which the token begins its last 30 s
      for (let probes = 0; probes < 7; probes++) {
        const error = yield* Effect.flip(store.refresh("github"))
        assert(error._tag === "AdenUnavailable" && error.retryAfter !== undefined, error._tag)
        yield* TestClock.adjust(error.retryAfter)
        yield* Effect.flip(store.refresh("github"))
      }
      yield* aden.clearFaults
      const before = yield* count("refresh")
      const assertOpen = Effect.gen(function*() {
        const error = yield* Effect.flip(store.refresh("github"))
        assert(error._tag === "AdenUnavailable", error._tag)
        assert.strictEqual(error.reason._tag, "AdenCircuitOpen")
      })
      yield* assertOpen
      // 37 s left are enough for the circuit
      assert.strictEqual(yield* token("hubspot"), first)
      yield* eventually(Effect.map(store.explain("hubspot"), ({ lastError }) => lastError === "AdenUnavailable"))
      assert.strictEqual(yield* count("refresh"), before)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* token("hubspot"), first)
      yield* eventually(Effect.map(store.explain("hubspot"), ({ status }) => status === "fresh"))
      assert.notStrictEqual(yield* token("hubspot"), first)
      assert.strictEqual(yield* count("refresh"), before + 1)
      yield* assertOpen
    }).pipe(
      Effect.provide(
        setup({
          aden: { integrations: [{ id: "hubspot", tokenLifetime: "1 hour" }, { id: "github" }] },
          circuitOpensAfter: 5
        })
      ),
      // each opening has its full length
      Effect.provideService(Random.Random, { nextDoubleUnsafe: () => 0.999, nextIntUnsafe: () => 1 })
    ))

  it.effect("Aden is down for 4 s: 20 expired credentials are had again within 2 s of its return, by one probe at a time", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const ids = twenty.map(({ id }) => id)
      const readAll = Effect.forEach(ids, (id) => Effect.exit(store.token(id)), { concurrency: "unbounded" })
      assert.isTrue((yield* readAll).every(Exit.isSuccess))
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Status({ status: 503 }))
      for (let tenth = 0; tenth < 40; tenth++) {
        yield* readAll
        yield* TestClock.adjust("100 millis")
      }
      // the first 20 are on their way when the circuit opens
      assert.isAtMost(yield* count("refresh"), 20 + 4)
      yield* aden.clearFaults
      let waited = 0
      while (!(yield* readAll).every(Exit.isSuccess)) {
        yield* TestClock.adjust("100 millis")
        waited += 100
      }
      assert.isAtMost(waited, 2_000)
      assert.isAtMost(yield* count("refresh"), 20 + 4 + 20)
    }).pipe(Effect.provide(setup({ aden: { integrations: twenty }, circuitOpensAfter: 5 }))))

  const failures: ReadonlyArray<readonly [string, Fault]> = [
    ...[500, 502, 503, 504, 408].map((status) => [String(status), Fault.Status({ status })] as const),
    ["a WAF's HTML 403", Fault.Status({ status: 403, contentType: "text/html", body: "<h1>Blocked</h1>" })],
    ["an HTML 404 from a proxy", Fault.Status({ status: 404, contentType: "text/html", body: "<h1>Not found</h1>" })],
    ["a reset in the middle of a body", Fault.Reset({ at: "body" })],
    ["an answer that is cut", Fault.Truncate()]
  ]
  for (const [name, fault] of failures) {
    it.effect(`${name}: nothing cached is deleted or marked`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const store = yield* CredentialStore
        const storage = yield* CredentialStorage
        const tokens = [yield* token("github"), yield* token("hubspot")]
        yield* aden.setFault(fault)
        for (const wait of ["6 minutes", "51 minutes"] as const) {
          yield* TestClock.adjust(wait)
          assert.deepStrictEqual([yield* token("github"), yield* token("hubspot")], tokens)
          yield* eventually(Effect.map(store.explain("hubspot"), ({ lastError }) => lastError === "AdenUnavailable"))
        }
        for (
          const asking of [store.refresh("github"), store.refresh("hubspot"), store.validate("hubspot"), store.sync]
        ) {
          assert.strictEqual(
            (yield* Effect.flip<unknown, { readonly _tag: string }, never>(asking))._tag,
            "AdenUnavailable"
          )
        }
        assert.deepStrictEqual([yield* token("github"), yield* token("hubspot")], tokens)
        assert.deepStrictEqual((yield* storage.list).toSorted(), ["github", "hubspot"])
        for (const id of yield* storage.list) {
          assert.include(tokens, Redacted.value(Option.getOrThrow(yield* storage.load(id)).defaultKey!.value))
          const { blockedSince, coolDownUntil, refusedSince } = yield* storage.loadState(id)
          assert.deepStrictEqual([blockedSince, coolDownUntil, refusedSince], [undefined, undefined, undefined])
        }
      }).pipe(
        Effect.provide(
          setup({ aden: { integrations: [{ id: "github" }, { id: "hubspot", tokenLifetime: "1 hour" }] } })
        )
      ))
  }

  it.effect("asked for github, answered with hubspot's: nothing saved, a protocol error", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      yield* aden.setFault(Fault.Patch({ fields: { integration_id: "hubspot" } }))
      const assertRefused = (error: { readonly _tag: string; readonly reason?: { readonly _tag: string } }) => {
        assert.strictEqual(error._tag, "AdenUnavailable")
        assert.strictEqual(error.reason?._tag, "AdenProtocolError")
      }
      assertRefused(yield* failureOf("github"))
      const { failed, synced } = yield* store.sync
      assert.deepStrictEqual(synced, [])
      for (const { error } of failed) assertRefused(error)
      assert.deepStrictEqual(yield* storage.list, [])
      yield* aden.clearFaults
      const held = yield* token("github")
      yield* aden.setFault(Fault.Patch({ fields: { integration_id: "hubspot" } }))
      assertRefused(yield* Effect.flip(store.refresh("github")))
      assert.deepStrictEqual(yield* storage.list, ["github"])
      assert.strictEqual(Redacted.value(Option.getOrThrow(yield* storage.load("github")).defaultKey!.value), held)
    }).pipe(Effect.provide(setup({ aden: forever }))))

  it.effect("an expiry that is malformed is a protocol error: what was stored stays", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const held = yield* token("hubspot")
      yield* aden.setFault(Fault.Patch({ fields: { expires_at: "tomorrow" } }))
      const error = yield* Effect.flip(store.refresh("hubspot"))
      assert.strictEqual(error._tag, "AdenUnavailable")
      if (error._tag === "AdenUnavailable") assert.strictEqual(error.reason._tag, "AdenProtocolError")
      assert.strictEqual(yield* token("hubspot"), held)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("the refresh reached Aden and its answer was lost: the retry recovers", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Reset({ at: "answer" }), { endpoint: "refresh", times: 1 })
      const renewed = yield* token("hubspot")
      assert.strictEqual(yield* count("refresh"), 2)
      assert.strictEqual(Redacted.value((yield* aden.issuedTokens).at(-1)!.value), renewed)
    }).pipe(Effect.provide(setup({ aden: oneHour, retry: Schedule.recurs(2) }))))

  it.effect("429 for one fiber: the others asking for the same credential wait for the same hint instead of asking", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 60 }), { times: 1 })
      assert.strictEqual((yield* failureOf("hubspot"))._tag, "RateLimited")
      const others = yield* Effect.forEach(Array.from({ length: 100 }), () => failureOf("hubspot"), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(new Set(others.map(({ _tag }) => _tag)), new Set(["RateLimited"]))
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("the API key is revoked: its own error, told apart from a user who has to reconnect", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* aden.revoke("slack")
      yield* aden.setApiKeys([Redacted.make("another-key")])
      yield* TestClock.adjust("2 hours")
      assert.strictEqual((yield* failureOf("hubspot"))._tag, "AdenUnauthorized")
      assert.strictEqual((yield* store.explain("hubspot")).status, "expired")
      yield* aden.setApiKeys([aden.apiKey])
      assert.strictEqual((yield* failureOf("slack"))._tag, "ReauthRequired")
    }).pipe(Effect.provide(setup())))
})

describe("secrets", () => {
  const failures: ReadonlyArray<readonly [string, Fault]> = [
    ["503", Fault.Status({ status: 503 })],
    ["429", Fault.RateLimited({ retryAfter: 60 })],
    ["401", answer(401, "unauthorized")],
    ["403", answer(403, "forbidden")],
    ["400", answer(400, "refresh_failed")],
    ["404", answer(404, "integration_not_found")],
    ["422", answer(422, "unprocessable")],
    ["a reset", Fault.Reset({ at: "answer" })],
    ["a cut answer", Fault.Truncate()],
    ["another's id", Fault.Patch({ fields: { integration_id: "github" } })],
    ["a token that is none", Fault.Patch({ fields: { access_token: "aden-emulator.fz6rxe\n" } })],
    ["an expired token", Fault.Patch({ fields: { expires_at: "1970-01-01T00:00:01Z" } })]
  ]
  for (const [name, fault] of failures) {
    it.effect(`${name}: no error, log line, span, event or explanation shows the token or the API key, not even a prefix`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const store = yield* CredentialStore
        const events = yield* eventsOf
        yield* store.token("hubspot")
        yield* aden.setFault(fault)
        let shown = ""
        const watch = <A, E>(self: Effect.Effect<A, E>) =>
          Effect.map(witness(self), (witnessed) => {
            shown += witnessed.shown
            return witnessed.exit
          })
        // in the background, then in the foreground
        yield* TestClock.adjust("57 minutes")
        yield* watch(
          Effect.andThen(store.token("hubspot"), eventually(Effect.sync(() => events.length > 1)).pipe(Effect.ignore))
        )
        yield* TestClock.adjust("5 minutes")
        yield* watch(store.token("hubspot"))
        yield* watch(store.refresh("hubspot"))
        yield* watch(store.validate("hubspot"))
        yield* watch(store.require(["hubspot"]))
        yield* watch(store.sync)
        shown += JSON.stringify(events) + inspect(events, { depth: Infinity })
        shown += yield* Effect.match(store.explain("hubspot"), {
          onSuccess: (explanation) => JSON.stringify(explanation) + inspect(explanation, { depth: Infinity }),
          onFailure: (error) => inspect(error)
        })
        shown += inspect(yield* store.list, { depth: Infinity })
        assert.include(shown, "hubspot")
        const secrets = [aden.apiKey, ...(yield* aden.issuedTokens).map(({ value }) => value)].map(Redacted.value)
        for (const secret of secrets) {
          const at = shown.indexOf(secret.slice(0, "aden-emulator.x".length))
          assert.strictEqual(at, -1, shown.slice(Math.max(0, at - 200), at + 60))
        }
      }).pipe(Effect.provide(setup({ aden: { ...oneHour, apiKeys: [Redacted.make("hunter2-hunter2-hunter2")] } }))))
  }
})
