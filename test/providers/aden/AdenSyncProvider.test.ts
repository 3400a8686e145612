import { assert, describe, it } from "@effect/vitest"
import { AdenClient, AdenSyncProvider, Credential, CredentialKey, CredentialProviders } from "aden-credentials"
import { AdenEmulator, type AdenEmulatorOptions, Fault } from "aden-credentials/emulator"
import { DateTime, type Duration, Effect, Layer, Option, Redacted, Schedule, Stream } from "effect"
import { TestClock } from "effect/testing"
import { eventually } from "../../fixtures/emulatedStore.ts"
import { memoryAden, MemoryHttpClient } from "../../fixtures/memoryAden.ts"

const Client = Layer.unwrap(
  Effect.map(AdenEmulator, (aden) =>
    AdenClient.layer({
      baseUrl: aden.url,
      apiKey: aden.apiKey,
      retry: Schedule.recurs(0),
      circuitBreaker: { failures: 1_000 }
    }))
).pipe(
  Layer.provide(MemoryHttpClient)
)

const setup = (aden?: AdenEmulatorOptions, options?: Parameters<typeof AdenSyncProvider.layer>[0]) =>
  AdenSyncProvider.layer(options).pipe(Layer.provide(Client), Layer.provideMerge(memoryAden(aden)))

const google: AdenEmulatorOptions = {
  integrations: [{
    id: "hash-1",
    type: "google",
    alias: "Timothy",
    email: "timothy@example.test",
    scopes: ["calendar", "mail"],
    metadata: { workspace: "Acme", "__proto__": "x", seats: 3 },
    tokenLifetime: "1 hour"
  }]
}

describe("AdenSyncProvider", () => {
  it.effect("fetch answers the credential with the keys that Hive writes", () =>
    Effect.gen(function*() {
      const provider = yield* AdenSyncProvider
      const credential = Option.getOrThrow(yield* provider.fetch("hash-1"))
      const plain = Object.fromEntries(
        Array.from(credential.keys.values()).filter((key) => key.name !== "access_token").map((
          key
        ) => [key.name, Redacted.value(key.value)])
      )
      assert.deepStrictEqual(plain, {
        _aden_managed: "true",
        _integration_type: "google",
        _alias: "Timothy",
        scope: "calendar mail",
        _identity_workspace: "Acme",
        _identity_email: "timothy@example.test"
      })
      assert.strictEqual(credential.type, "oauth2")
      assert.strictEqual(credential.providerId, "aden_sync")
      assert.deepStrictEqual(credential.expiresAt, DateTime.add(yield* DateTime.now, { hours: 1 }))
      assert.strictEqual(credential.identity.label, "timothy@example.test")
    }).pipe(Effect.provide(setup(google))))

  it.effect("fetch is none for what Aden does not have", () =>
    Effect.gen(function*() {
      const provider = yield* AdenSyncProvider
      assert.isTrue(Option.isNone(yield* provider.fetch("nothing")))
    }).pipe(Effect.provide(setup())))

  it.effect("canHandle: its own provider id, or Aden's mark without one", () =>
    Effect.gen(function*() {
      const provider = yield* AdenSyncProvider
      const own = Credential.fromApiKey({ id: "x", apiKey: Redacted.make("k") })
      const marked = new Credential({
        ...own,
        keys: new Map([["_aden_managed", new CredentialKey({ name: "_aden_managed", value: Redacted.make("true") })]])
      })
      assert.isFalse(provider.canHandle(own))
      assert.isTrue(provider.canHandle(new Credential({ ...own, providerId: "aden_eu" })))
      assert.isTrue(provider.canHandle(marked))
      assert.isFalse(provider.canHandle(new Credential({ ...marked, providerId: "aden_sync" })))
    }).pipe(Effect.provide(setup(google, { providerId: "aden_eu" }))))

  it.effect("shouldRefresh: inside the buffer before the expiry, or in the second half of a short life", () =>
    Effect.gen(function*() {
      const provider = yield* AdenSyncProvider
      const received = yield* DateTime.now
      const living = (lifetime: Duration.Input) =>
        new Credential({
          ...Credential.fromAccessToken({
            id: "x",
            accessToken: Redacted.make("t"),
            expiresAt: DateTime.addDuration(received, lifetime)
          }),
          lastRefreshed: received
        })
      const [hour, minute, forever] = [
        living("1 hour"),
        living("1 minute"),
        Credential.fromAccessToken({ id: "x", accessToken: Redacted.make("t") })
      ]
      assert.isFalse(yield* provider.shouldRefresh(minute))
      yield* TestClock.adjust("29 seconds")
      assert.isFalse(yield* provider.shouldRefresh(minute))
      yield* TestClock.adjust("1 seconds")
      assert.isTrue(yield* provider.shouldRefresh(minute))
      yield* TestClock.adjust("54 minutes")
      assert.isFalse(yield* provider.shouldRefresh(hour))
      yield* TestClock.adjust("30 seconds")
      assert.isTrue(yield* provider.shouldRefresh(hour))
      yield* TestClock.adjust("1000 days")
      assert.isFalse(yield* provider.shouldRefresh(forever))
    }).pipe(Effect.provide(setup())))

  it.effect("refresh keeps what the credential held and Aden did not name", () =>
    Effect.gen(function*() {
      const provider = yield* AdenSyncProvider
      const held = new Credential({ ...Option.getOrThrow(yield* provider.fetch("hash-1")), description: "mine" })
      const renewed = yield* provider.refresh(held)
      assert.strictEqual(renewed.description, "mine")
      assert.strictEqual(renewed.alias, "Timothy")
      assert.isFalse(renewed.holdsTokenOf(held))
    }).pipe(Effect.provide(setup(google))))

  it.effect("syncStream: Listed first, bounded concurrency, one bad integration never spoils the rest", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const provider = yield* AdenSyncProvider
      yield* aden.setFault(Fault.Status({ status: 500 }), { endpoint: "get", integrationId: "i-7" })
      const events = yield* Stream.runCollect(provider.syncStream)
      assert.strictEqual(events[0]?._tag, "Listed")
      assert.strictEqual(events.filter(({ _tag }) => _tag === "Fetched").length, 99)
      assert.strictEqual(events.filter(({ _tag }) => _tag === "Failed").length, 1)
      assert.isAtMost((yield* aden.inFlight()).maximum, 16)
    }).pipe(Effect.provide(setup({ integrations: Array.from({ length: 100 }, (_, i) => ({ id: `i-${i}` })) }))))

  it.effect("syncAll answers what Aden has, with the blocked ones and their URL", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const provider = yield* AdenSyncProvider
      const snapshot = yield* provider.syncAll
      assert.deepStrictEqual(snapshot.credentials.map(({ id }) => id).toSorted(), ["github", "hubspot"])
      assert.deepStrictEqual(snapshot.blocked.map((error) => [error.id, error.reauthorizationUrl]), [
        ["slack", `${aden.url}/integrations/slack/connect`]
      ])
      assert.deepStrictEqual(snapshot.failed, [])
    }).pipe(Effect.provide(setup())))

  it.effect("reportUsage: each renewal is reported, and a report that fails changes nothing", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const provider = yield* AdenSyncProvider
      const held = Option.getOrThrow(yield* provider.fetch("hubspot"))
      yield* aden.setFault(Fault.Status({ status: 500 }), { endpoint: "usage", times: 1 })
      yield* provider.refresh(held)
      yield* provider.refresh(held)
      yield* eventually(Effect.map(aden.usage, (records) => records.length > 0))
      const [record] = yield* aden.usage
      assert.strictEqual(record?.integrationId, "hubspot")
    }).pipe(Effect.provide(setup(undefined, { reportUsage: true }))))
})

describe("CredentialProviders", () => {
  it.effect("layerAll: the providers of several layers in one registry, in their order", () =>
    Effect.gen(function*() {
      const { all } = yield* CredentialProviders
      assert.deepStrictEqual(all.map(({ id }) => id), ["aden_eu", "aden_us"])
    }).pipe(Effect.provide(
      CredentialProviders.layerAll([
        AdenSyncProvider.layer({ providerId: "aden_eu" }),
        AdenSyncProvider.layer({ providerId: "aden_us" })
      ]).pipe(Layer.provide(AdenClient.layerTest({})))
    )))

  it.effect("layerNone: no provider", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual((yield* CredentialProviders).all, [])
    }).pipe(Effect.provide(CredentialProviders.layerNone)))
})
