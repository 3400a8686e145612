/** What a program, its logger, its storage or its policy cannot make the store do. */
import { assert, describe, it } from "@effect/vitest"
import { Credential, CredentialStorage, CredentialStore, MemoryStorage, type StorageChange } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import {
  Cause,
  Clock,
  Context,
  type Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Option,
  PubSub,
  Redacted,
  References,
  Schedule,
  Stream
} from "effect"
import { TestClock } from "effect/testing"
import { decorate } from "../../src/storage/decorate.ts"
import { forever, oneHour, setup, token, turn } from "../fixtures/emulatedStore.ts"

const unavailable = Fault.Status({ status: 503 })

describe("require", () => {
  it.effect("of 40 refs that all wait ends at the deadline, and names each", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* aden.setFault(Fault.Hang())
      const refs = Array.from({ length: 40 }, (_, index) => `integration-${index}`)
      const startedAt = yield* Clock.currentTimeMillis
      const fiber = yield* Effect.forkChild(Effect.flip(store.require(refs)), { startImmediately: true })
      yield* TestClock.adjust("29 seconds")
      yield* turn
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 second")
      const { problems } = yield* Fiber.join(fiber)
      assert.strictEqual((yield* Clock.currentTimeMillis) - startedAt, 30_000)
      assert.deepStrictEqual(problems.map(({ ref }) => ref), refs)
      assert.deepStrictEqual(new Set(problems.map(({ error }) => error._tag)), new Set(["AdenUnavailable"]))
    }).pipe(Effect.provide(setup({ aden: oneHour }))))
})

describe("token with a minTimeLeft that makes no sense", () => {
  for (const minTimeLeft of [NaN, -1, Infinity, "abc", "-5 minutes", null]) {
    it.effect(`${JSON.stringify(minTimeLeft)}: a defect of the effect, which names it`, () =>
      Effect.gen(function*() {
        const store = yield* CredentialStore
        const read = store.token("github", { minTimeLeft: minTimeLeft as Duration.Input })
        const exit = yield* Effect.exit(read)
        assert(Exit.isFailure(exit))
        assert.isTrue(Option.isNone(Cause.findErrorOption(exit.cause)))
        assert.include(Cause.pretty(exit.cause), "minTimeLeft")
        yield* store.token("github", { minTimeLeft: "1 minute" })
      }).pipe(Effect.provide(setup({ aden: forever }))))
  }
})

describe("a logger that throws", () => {
  const broken = Logger.layer([Logger.make(() => {
    throw new Error("the disk of the log is full")
  })])

  it.effect("ends no read", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const first = yield* token("hubspot")
      yield* aden.setFault(unavailable)
      yield* TestClock.adjust("56 minutes")
      for (let read = 0; read < 5; read++) {
        assert.strictEqual(yield* token("hubspot"), first)
        yield* turn
        yield* TestClock.adjust("20 seconds")
      }
      yield* aden.clearFaults
      yield* TestClock.adjust("20 minutes")
      assert.notStrictEqual(yield* token("hubspot"), first)
    }).pipe(
      Effect.provide(setup({ aden: oneHour })),
      Effect.provide(broken),
      Effect.provideService(References.MinimumLogLevel, "All")
    ))
})

describe("a storage that dies", () => {
  const accountOf = (id: string) =>
    Credential.fromAccessToken({ id, accessToken: Redacted.make(id), provider: "weather" })

  it.effect("while the accounts are read of which it told: the next read of a name looks at them", () =>
    Effect.gen(function*() {
      const changes = yield* PubSub.unbounded<StorageChange>()
      const memory = Context.get(yield* Layer.build(MemoryStorage.layer([accountOf("first")])), CredentialStorage)
      let isDying = false
      const dying = decorate(memory, {
        read: (id) => isDying ? Effect.die("a bug") : memory.read(id),
        changes: Stream.fromPubSub(changes)
      })
      yield* Effect.gen(function*() {
        const store = yield* CredentialStore
        assert.strictEqual((yield* store.get("weather")).id, "first")
        yield* memory.save(accountOf("second"))
        yield* PubSub.publish(changes, { _tag: "Saved", id: "second", generation: 1 })
        yield* turn
        isDying = true
        assert.isTrue(Exit.isFailure(yield* Effect.exit(store.get("weather"))))
        isDying = false
        assert.strictEqual((yield* Effect.flip(store.get("weather")))._tag, "AmbiguousCredential")
      }).pipe(Effect.provide(setup({ storage: Layer.succeed(CredentialStorage, dying) })))
    }))
})

describe("a confirm policy that has ended", () => {
  it.effect("keeps maxStale: a token that Aden does not confirm is not served beyond it", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const first = yield* token("github")
      yield* aden.setFault(unavailable)
      yield* TestClock.adjust("59 minutes")
      assert.strictEqual(yield* token("github"), first)
      yield* TestClock.adjust("2 minutes")
      const error = yield* Effect.flip(store.token("github"))
      assert.strictEqual(error._tag, "AdenUnavailable")
      yield* aden.clearFaults
      yield* TestClock.adjust("10 minutes")
      yield* token("github")
      // confirmed again, and for no longer than before
      yield* aden.setFault(unavailable)
      yield* TestClock.adjust("59 minutes")
      yield* token("github")
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual((yield* Effect.flip(store.token("github")))._tag, "AdenUnavailable")
    }).pipe(
      Effect.provide(
        setup({ aden: forever, store: { maxStale: "1 hour", policy: { confirm: Schedule.recurs(0) } } })
      )
    ))
})
