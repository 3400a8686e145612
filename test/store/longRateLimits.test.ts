/** Rate limits of a provider of the program's own that are longer than Aden's, or never end. */
import { assert, describe, it } from "@effect/vitest"
import {
  AdenCachedStorage,
  AdenSyncProvider,
  type CredentialProvider,
  CredentialProviders,
  CredentialStorage,
  CredentialStorageError,
  CredentialStore,
  MemoryStorage,
  RateLimited
} from "aden-credentials"
import { Context, Duration, Effect, Layer, Stream } from "effect"
import { TestClock } from "effect/testing"

const limitedBy = (retryAfter: Duration.Duration) => {
  const asked = { list: 0, credential: 0 }
  const refusal = (what: keyof typeof asked) =>
    Effect.suspend(() => {
      asked[what]++
      return Effect.fail(new RateLimited({ retryAfter }))
    })
  const provider: CredentialProvider = {
    id: "own",
    refreshBuffer: Duration.minutes(5),
    clockOffset: Effect.succeed(0),
    canHandle: ({ providerId }) => providerId === "own",
    refresh: () => refusal("credential"),
    validate: () => refusal("credential"),
    fetch: () => refusal("credential"),
    list: Effect.succeed({
      accounts: [{
        id: "hubspot",
        provider: "hubspot",
        alias: undefined,
        email: undefined,
        status: "active",
        expiresAt: undefined
      }],
      malformed: []
    })
  }
  return { asked, provider, listed: { ...provider, list: refusal("list") } }
}

const storeOver = (provider: CredentialProvider) =>
  CredentialStore.layer().pipe(
    Layer.provide([Layer.succeed(CredentialProviders, { all: [provider] }), MemoryStorage.layer()]),
    Layer.build,
    Effect.map(Context.get(CredentialStore))
  )

for (
  const [name, retryAfter] of [
    ["66 minutes", Duration.minutes(66)],
    ["a week", Duration.days(7)],
    ["for ever", Duration.infinity]
  ] as const
) {
  describe(`a rate limit, ${name}`, () => {
    it.effect("of a credential holds for an hour", () =>
      Effect.gen(function*() {
        const { asked, provider } = limitedBy(retryAfter)
        const store = yield* storeOver(provider)
        const read = Effect.flip(store.token("hubspot"))
        const first = yield* read
        assert(first._tag === "RateLimited", first._tag)
        assert.strictEqual(Duration.toMinutes(first.retryAfter), 60)
        yield* TestClock.adjust("59 minutes")
        assert.strictEqual((yield* read)._tag, "RateLimited")
        assert.strictEqual((yield* Effect.flip(store.refresh("hubspot")))._tag, "RateLimited")
        assert.strictEqual(asked.credential, 1)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual((yield* read)._tag, "RateLimited")
        assert.strictEqual(asked.credential, 2)
      }))

    it.effect("of the list holds for an hour", () =>
      Effect.gen(function*() {
        const { asked, listed } = limitedBy(retryAfter)
        const store = yield* storeOver(listed)
        for (const minutes of [0, 59, 1]) {
          yield* TestClock.adjust(Duration.minutes(minutes))
          const error = yield* Effect.flip(store.sync)
          assert(error._tag === "RateLimited", error._tag)
          assert.isAtMost(Duration.toMinutes(error.retryAfter), 60)
        }
        assert.strictEqual(asked.list, 2)
      }))

    it.effect("holds for an hour in AdenCachedStorage", () =>
      Effect.gen(function*() {
        const { asked, provider } = limitedBy(retryAfter)
        const storage = yield* AdenCachedStorage.layer().pipe(
          Layer.provide([
            Layer.succeed(AdenSyncProvider, {
              ...provider,
              supportedTypes: ["oauth2"],
              shouldRefresh: () => Effect.succeed(true),
              syncStream: Stream.empty,
              syncAll: Effect.never
            }),
            MemoryStorage.layer()
          ]),
          Layer.build,
          Effect.map(Context.get(CredentialStorage))
        )
        for (const minutes of [0, 59, 1]) {
          yield* TestClock.adjust(Duration.minutes(minutes))
          const error = yield* Effect.flip(storage.load("hubspot"))
          assert(error instanceof CredentialStorageError && error.reason instanceof RateLimited, error._tag)
          assert.isAtMost(Duration.toMinutes(error.reason.retryAfter), 60)
        }
        assert.strictEqual(asked.credential, 2)
      }))
  })
}
