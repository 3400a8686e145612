import { assert, describe, it } from "@effect/vitest"
import { Credential, CredentialProviders, CredentialStore, MemoryStorage } from "aden-credentials"
import { Clock, DateTime, Effect, Exit, Layer, Redacted } from "effect"
import { TestClock } from "effect/testing"

const credential = (token: string) =>
  Effect.map(DateTime.now, (now) =>
    Credential.fromAccessToken({
      id: "hubspot-1",
      provider: "hubspot",
      accessToken: Redacted.make(token),
      expiresAt: DateTime.add(now, { hours: 1 })
    }))

const Store = CredentialStore.layer().pipe(
  Layer.provide(CredentialProviders.layerNone),
  Layer.provide(MemoryStorage.layer())
)

/** How a program runs a read: in a generator, or as a part of another effect. */
const ways = {
  "in a generator": <A, E>(read: Effect.Effect<A, E>) =>
    Effect.gen(function*() {
      return yield* read
    }),
  "in a pipe": <A, E>(read: Effect.Effect<A, E>) => Effect.map(read, (answer) => answer)
}

for (const [name, way] of Object.entries(ways)) {
  describe(`a read of a token in memory, ${name}`, () => {
    /** The effect is made once, as by a program that keeps it. */
    const warm = Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* store.save(yield* credential("first"))
      const read = way(store.token("hubspot"))
      for (let i = 0; i < 3; i++) assert.strictEqual(Redacted.value(yield* read), "first")
      return { store, read }
    })

    it.effect("is over when the token expires", () =>
      Effect.gen(function*() {
        const { read } = yield* warm
        yield* TestClock.adjust("61 minutes")
        assert.isTrue(Exit.isFailure(yield* Effect.exit(read)))
      }).pipe(Effect.provide(Store)))

    it.effect("goes by the clock of the fiber that reads", () =>
      Effect.gen(function*() {
        const { read } = yield* warm
        const clock = yield* Clock.Clock
        const ahead: Clock.Clock = {
          sleep: (duration) => clock.sleep(duration),
          currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + 7_200_000,
          currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + 7_200_000),
          currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
          currentTimeNanos: clock.currentTimeNanos,
          monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
          monotonicTimeNanos: clock.monotonicTimeNanos
        }
        const late = Effect.provideService(read, Clock.Clock, ahead)
        assert.isTrue(Exit.isFailure(yield* Effect.exit(late)))
        assert.strictEqual(Redacted.value(yield* read), "first")
        assert.isTrue(Exit.isFailure(yield* Effect.exit(late)))
      }).pipe(Effect.provide(Store)))

    it.effect("returns what was saved since, and nothing that was deleted", () =>
      Effect.gen(function*() {
        const { read, store } = yield* warm
        yield* store.save(yield* credential("second"))
        assert.strictEqual(Redacted.value(yield* read), "second")
        yield* store.delete("hubspot-1")
        assert.strictEqual((yield* Effect.flip(read))._tag, "CredentialNotFound")
      }).pipe(Effect.provide(Store)))

    it.effect("is ambiguous once there is a second account of the name", () =>
      Effect.gen(function*() {
        const { read, store } = yield* warm
        yield* store.save(
          Credential.fromAccessToken({ id: "hubspot-2", provider: "hubspot", accessToken: Redacted.make("other") })
        )
        assert.strictEqual((yield* Effect.flip(read))._tag, "AmbiguousCredential")
      }).pipe(Effect.provide(Store)))

    it.effect("does not return a token that the program reported as refused", () =>
      Effect.gen(function*() {
        const { read, store } = yield* warm
        yield* store.invalidate("hubspot")
        assert.isTrue(Exit.isFailure(yield* Effect.exit(read)))
      }).pipe(Effect.provide(Store)))
  })
}
