/** Options that make no sense are refused when the layer is built, by their name, in one line that says what to write. */
import { assert, describe, it } from "@effect/vitest"
import {
  AdenCachedStorage,
  AdenClient,
  AdenConfigError,
  AdenSyncProvider,
  CredentialProviders,
  CredentialStore,
  MemoryStorage,
  TenantCredentials,
  TestCredentials
} from "aden-credentials"
import { Duration, Effect, Layer, Redacted, type Scope } from "effect"
import { FetchHttpClient } from "effect/http"
import { NodeFiles } from "./storage/temporaryStorage.ts"

const Client = (options: Partial<Parameters<typeof AdenClient.layer>[0]>) =>
  AdenClient.layer({ baseUrl: "https://aden.example.com", apiKey: Redacted.make("key"), ...options }).pipe(
    Layer.provide(FetchHttpClient.layer)
  )

const Store = (options: Parameters<typeof CredentialStore.layer>[0]) =>
  CredentialStore.layer(options).pipe(Layer.provide([CredentialProviders.layerNone, MemoryStorage.layer()]))

const CachedStorage = (options: Parameters<typeof AdenCachedStorage.layer>[0]) =>
  AdenCachedStorage.layer(options).pipe(
    Layer.provide(AdenSyncProvider.layer()),
    Layer.provide(AdenClient.layerTest({})),
    Layer.provide(MemoryStorage.layer())
  )

type Building = Effect.Effect<unknown, AdenConfigError, Scope.Scope>

const settings: ReadonlyArray<readonly [string, (duration: Duration.Input) => Building]> = [
  ["CredentialStore cacheTtl", (cacheTtl) => Layer.build(Store({ cacheTtl }))],
  ["CredentialStore deadline", (deadline) => Layer.build(Store({ deadline }))],
  ["CredentialStore maxStale", (maxStale) => Layer.build(Store({ maxStale }))],
  ["TestCredentials.layer cacheTtl", (cacheTtl) => Layer.build(TestCredentials.layer([], { cacheTtl }))],
  [
    "AdenSyncProvider refreshBuffer",
    (refreshBuffer) =>
      Layer.build(AdenSyncProvider.layer({ refreshBuffer }).pipe(Layer.provide(AdenClient.layerTest({}))))
  ],
  ["AdenClient timeout", (timeout) => Layer.build(Client({ timeout }))],
  ["AdenClient circuitBreaker.openFor", (openFor) => Layer.build(Client({ circuitBreaker: { openFor } }))],
  ["AdenCachedStorage cacheTtl", (cacheTtl) => Layer.build(CachedStorage({ cacheTtl }))],
  ["AdenCachedStorage maxStale", (maxStale) => Layer.build(CachedStorage({ maxStale }))],
  [
    "TenantCredentials idleTimeToLive",
    (idleTimeToLive) =>
      Layer.build(TenantCredentials.layer({ idleTimeToLive }).pipe(Layer.provide([NodeFiles, FetchHttpClient.layer])))
  ]
]

const senseless: ReadonlyArray<readonly [string, Duration.Input]> = [
  ["negative", -1],
  ["negative", "-5 seconds"],
  ["NaN", Number.NaN],
  ["zero", 0],
  ["zero", "0 millis"],
  ["infinite", Number.POSITIVE_INFINITY],
  ["infinite", "Infinity"],
  ["infinite", Duration.infinity],
  ["infinite", "-Infinity"]
]

describe("durations", () => {
  it.effect("AdenClient maxRetryAfter: negative, NaN and infinite are refused, by its name, and zero is not", () =>
    Effect.gen(function*() {
      for (const [kind, maxRetryAfter] of senseless) {
        const built = yield* Effect.result(Effect.scoped(Layer.build(Client({ maxRetryAfter }))))
        if (kind === "zero") assert.strictEqual(built._tag, "Success")
        else {
          assert(built._tag === "Failure", `${kind} is accepted`)
          assert.strictEqual(
            built.failure.message,
            "maxRetryAfter is not a finite time of zero or more. Give maxRetryAfter as a duration such as \"30 seconds\"."
          )
        }
      }
    }))

  for (const [name, build] of settings) {
    it.effect(`${name}: negative, NaN, zero and infinite are refused, by its name`, () =>
      Effect.gen(function*() {
        const setting = name.split(" ").at(-1) ?? ""
        for (const [kind, duration] of senseless) {
          const error = yield* Effect.flip(Effect.scoped(build(duration)))
          assert.instanceOf(error, AdenConfigError, kind)
          assert.strictEqual(error.setting, setting, kind)
          assert.strictEqual(
            error.message,
            `${setting} is not a finite time above zero. Give ${setting} as a duration such as "30 seconds".`
          )
        }
      }))

    it.effect(`${name}: a time is accepted`, () => Effect.scoped(build("90 seconds")))
  }
})

describe("names", () => {
  it.effect("AdenSyncProvider providerId: none at all is refused, by its name", () =>
    Effect.gen(function*() {
      const built = Layer.build(
        AdenSyncProvider.layer({ providerId: "" }).pipe(Layer.provide(AdenClient.layerTest({})))
      )
      const error = yield* Effect.flip(Effect.scoped(built))
      assert.instanceOf(error, AdenConfigError)
      assert.strictEqual(
        error.message,
        "providerId is empty. Leave it out for aden_sync, or give one such as \"aden_eu\"."
      )
    }))
})
