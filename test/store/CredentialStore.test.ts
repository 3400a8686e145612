import { assert, describe, it } from "@effect/vitest"
import {
  Credential,
  CredentialKey,
  CredentialProviders,
  CredentialState,
  CredentialStorage,
  CredentialStore,
  MemoryStorage
} from "aden-credentials"
import { AdenEmulator, type AdenEmulatorOptions, Fault } from "aden-credentials/emulator"
import { DateTime, Effect, Fiber, Layer, Option, Redacted, Stream } from "effect"
import { TestClock } from "effect/testing"
import { count, eventually, forever, oneHour, restarted, setup, token, turn } from "../fixtures/emulatedStore.ts"

describe("CredentialStore: refresh and concurrency", () => {
  it.effect("one waiter is interrupted: the flight and the other waiters go on", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Latency({ duration: "5 seconds" }))
      const first = yield* Effect.forkChild(store.token("hubspot"))
      const second = yield* Effect.forkChild(store.token("hubspot"))
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      yield* Fiber.interrupt(first)
      yield* TestClock.adjust("6 seconds")
      yield* Fiber.join(second)
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("every waiter is interrupted: the renewal goes on to its end, and its answer is kept", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Latency({ duration: "2 seconds" }), { times: 1 })
      const fibers = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(store.token("hubspot")))
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      yield* Fiber.interruptAll(fibers)
      const reading = yield* Effect.forkChild(token("hubspot"))
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(reading)
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("a renewal that a reader waited for in vain to its deadline is left to itself: the next read starts another", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Hang(), { times: 1 })
      const first = yield* Effect.forkChild(Effect.flip(store.token("hubspot")))
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      yield* TestClock.adjust("6 seconds")
      assert.strictEqual((yield* Fiber.join(first))._tag, "AdenUnavailable")
      yield* token("hubspot")
      assert.strictEqual(yield* count("refresh"), 2)
    }).pipe(Effect.provide(setup({ aden: oneHour, store: { deadline: "5 seconds" } }))))

  it.effect("a token that is refused while it is being renewed: the renewal's answer is kept, and Aden is not asked again", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const first = yield* token("hubspot")
      yield* TestClock.adjust("57 minutes")
      yield* aden.setFault(Fault.Latency({ duration: "2 seconds" }), { times: 1 })
      assert.strictEqual(yield* token("hubspot"), first)
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      yield* store.invalidate("hubspot")
      const read = yield* Effect.forkChild(token("hubspot"), { startImmediately: true })
      yield* TestClock.adjust("3 seconds")
      assert.notStrictEqual(yield* Fiber.join(read), first)
      assert.strictEqual(yield* token("hubspot"), yield* Fiber.join(read))
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("a forced refresh that is not answered ends at the deadline, and the next one asks again", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* aden.setFault(Fault.Hang(), { times: 1 })
      const first = yield* Effect.forkChild(Effect.flip(store.refresh("hubspot")), { startImmediately: true })
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      yield* TestClock.adjust("6 seconds")
      assert.strictEqual((yield* Fiber.join(first))._tag, "AdenUnavailable")
      yield* store.refresh("hubspot")
      assert.strictEqual(yield* count("refresh"), 2)
    }).pipe(Effect.provide(setup({ aden: oneHour, store: { deadline: "5 seconds" } }))))

  it.effect("a forced refresh during an ordinary read gets a result asked for after its own call", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Latency({ duration: "2 seconds" }), { times: 1 })
      const read = yield* Effect.forkChild(token("hubspot"))
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      const forced = yield* Effect.forkChild(store.refresh("hubspot"), { startImmediately: true })
      yield* TestClock.adjust("3 seconds")
      const [ordinary, fresh] = [yield* Fiber.join(read), yield* Fiber.join(forced)]
      assert.notStrictEqual(ordinary, Redacted.value(fresh.keys.get("access_token")!.value))
      assert.strictEqual(yield* count("refresh"), 2)
      assert.strictEqual(yield* token("hubspot"), Redacted.value(fresh.keys.get("access_token")!.value))
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("a token that lasts less than the refresh buffer is used while it lives, and renewed about once per half of its life", () =>
    Effect.gen(function*() {
      yield* token("short")
      for (let second = 0; second < 600; second++) {
        yield* TestClock.adjust("1 second")
        yield* token("short")
        yield* turn
      }
      const refreshes = yield* count("refresh")
      assert.isAtLeast(refreshes, 9)
      assert.isAtMost(refreshes, 21)
    }).pipe(Effect.provide(setup({ aden: { integrations: [{ id: "short", tokenLifetime: "1 minute" }] } }))))

  it.effect("a refresh that answers the same token causes no loop", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const first = yield* token("hubspot")
      const expiresAt = DateTime.formatIso(DateTime.add(yield* DateTime.now, { hours: 1 }))
      yield* aden.setFault(Fault.Patch({ fields: { access_token: first, expires_at: expiresAt } }))
      yield* TestClock.adjust("56 minutes")
      for (let i = 0; i < 100; i++) {
        yield* token("hubspot")
        yield* turn
      }
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      for (let i = 0; i < 100; i++) yield* token("hubspot")
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("a refresh that answers an expired token: RefreshFailed, next try by back-off", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Patch({ fields: { expires_at: "1970-01-01T00:00:01Z" } }))
      for (let i = 0; i < 10; i++) {
        assert.strictEqual((yield* Effect.flip(store.token("hubspot")))._tag, "RefreshFailed")
      }
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("a refresh answers without type, scopes, metadata or alias: what was stored is kept, the expiry is not", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const before = yield* store.get("google:Timothy")
      yield* aden.setFault(
        Fault.Patch({
          fields: {
            integration_type: undefined,
            alias: undefined,
            email: undefined,
            scopes: undefined,
            metadata: undefined,
            expires_at: undefined
          }
        })
      )
      const after = yield* store.refresh("google:Timothy")
      assert.strictEqual(after.integrationType, "google")
      assert.strictEqual(after.alias, "Timothy")
      assert.deepStrictEqual(after.scopes, before.scopes)
      assert.deepStrictEqual(after.identity, before.identity)
      assert.strictEqual(after.expiresAt, undefined)
      assert.strictEqual((yield* store.get("google")).id, "hash-1")
    }).pipe(Effect.provide(setup({
      aden: {
        integrations: [{
          id: "hash-1",
          type: "google",
          alias: "Timothy",
          email: "timothy@example.test",
          scopes: ["calendar", "mail"],
          tokenLifetime: "1 hour"
        }]
      }
    }))))

  it.effect("the clock jumps forward an hour: the first read sees the token as expired and refreshes", () =>
    Effect.gen(function*() {
      const first = yield* token("hubspot")
      yield* TestClock.setTime(Date.parse("1970-01-01T03:00:00Z"))
      assert.notStrictEqual(yield* token("hubspot"), first)
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("an answer asked for before the program saved its own credential does not overwrite it", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* TestClock.adjust("2 hours")
      yield* aden.setFault(Fault.Latency({ duration: "5 seconds" }))
      const read = yield* Effect.forkChild(token("hubspot"))
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      yield* store.save(Credential.fromAccessToken({ id: "hubspot", accessToken: Redacted.make("my-own-token") }))
      yield* TestClock.adjust("6 seconds")
      yield* Fiber.join(read)
      assert.strictEqual(yield* token("hubspot"), "my-own-token")
      const storage = yield* CredentialStorage
      const stored = Option.getOrThrow(yield* storage.load("hubspot"))
      assert.strictEqual(Redacted.value(stored.keys.get("access_token")!.value), "my-own-token")
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("what another process confirmed a moment ago is not asked for again", () =>
    Effect.gen(function*() {
      yield* token("github")
      yield* TestClock.adjust("6 minutes")
      yield* restarted(Effect.andThen(token("github"), eventually(Effect.map(count("get"), (n) => n === 2))))
      const before = yield* count("get")
      yield* token("github")
      yield* TestClock.adjust("1 second")
      yield* token("github")
      assert.strictEqual(yield* count("get"), before)
    }).pipe(Effect.provide(setup({ aden: forever }))))

  it.effect("invalidate: the current token is not served again", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const first = yield* token("hubspot")
      yield* store.invalidate("hubspot")
      assert.notStrictEqual(yield* token("hubspot"), first)
      assert.strictEqual(yield* count("refresh"), 1)
      yield* token("hubspot")
      assert.strictEqual(yield* count("refresh"), 1)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("a renewal that runs when the scope closes gets 5 s to finish, and is saved", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const storage = yield* CredentialStorage
      const first = yield* token("hubspot")
      yield* TestClock.adjust("56 minutes")
      yield* aden.setFault(Fault.Latency({ duration: "2 seconds" }))
      const closing = yield* Effect.forkChild(restarted(token("hubspot")))
      yield* eventually(Effect.map(count("refresh"), (n) => n === 1))
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(yield* Fiber.join(closing), first)
      const stored = Option.getOrThrow(yield* storage.load("hubspot"))
      assert.notStrictEqual(Redacted.value(stored.keys.get("access_token")!.value), first)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))
})

describe("CredentialStore: refs", () => {
  const accounts: AdenEmulatorOptions = {
    integrations: [
      { id: "hash-1", type: "google", alias: "Timothy", tokenLifetime: "1 hour" },
      { id: "hash-2", type: "google", alias: "Ada", tokenLifetime: "1 hour" },
      { id: "hash-3", type: "hubspot", tokenLifetime: "1 hour" }
    ]
  }

  it.effect("a ref that storage lacks is looked for in Aden's list, asked once", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      assert.strictEqual((yield* store.get("google:Timothy")).id, "hash-1")
      assert.strictEqual((yield* store.get("hubspot")).id, "hash-3")
      assert.strictEqual((yield* store.get("hash-2")).id, "hash-2")
      assert.strictEqual(yield* count("list"), 1)
      assert.strictEqual(yield* count("get"), 3)
    }).pipe(Effect.provide(setup({ aden: accounts }))))

  it.effect("a provider with several accounts and no alias is AmbiguousCredential with the choices", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      for (const _ of ["from the list", "from storage"]) {
        const error = yield* Effect.flip(store.get("google"))
        assert.strictEqual(error._tag, "AmbiguousCredential")
        if (error._tag === "AmbiguousCredential") {
          assert.deepStrictEqual(error.choices, ["google:Ada", "google:Timothy"])
        }
        yield* store.sync
      }
    }).pipe(Effect.provide(setup({ aden: accounts }))))

  it.effect("the index is derived from storage and survives a restart without Aden", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const aden = yield* AdenEmulator
      yield* store.sync
      yield* aden.stop
      yield* restarted(Effect.gen(function*() {
        const other = yield* CredentialStore
        assert.strictEqual((yield* other.get("google:Ada")).id, "hash-2")
        assert.strictEqual((yield* other.get("hubspot")).id, "hash-3")
        assert.deepStrictEqual((yield* other.accounts("google")).map((account) => account.ref), [
          "google:Ada",
          "google:Timothy"
        ])
        assert.deepStrictEqual((yield* other.list).map((each) => each.ref), ["google:Ada", "google:Timothy", "hubspot"])
      }))
    }).pipe(Effect.provide(setup({ aden: accounts }))))

  for (
    const [how, fetchAll] of [
      ["read", CredentialStore.use((store) => Effect.forEach(["google:Timothy", "google:Ada", "hubspot"], store.get))],
      ["synced", CredentialStore.use((store) => store.sync)]
    ] as const
  ) {
    it.effect(`names that only Aden's list gives survive a restart without Aden: ${how}`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const fields = { integration_type: null, provider: null, alias: null, email: null }
        yield* aden.setFault(Fault.Patch({ fields }), { endpoint: "get" })
        yield* fetchAll
        yield* aden.stop
        yield* restarted(Effect.gen(function*() {
          const other = yield* CredentialStore
          assert.strictEqual((yield* other.get("google:Timothy")).id, "hash-1")
          assert.strictEqual((yield* other.explain("google:Ada")).id, "hash-2")
          assert.strictEqual((yield* other.get("hubspot")).id, "hash-3")
        }))
      }).pipe(Effect.provide(setup({ aden: accounts }))))
  }

  it.effect("an exact id wins over a provider's name", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* store.sync
      yield* store.save(Credential.fromApiKey({ id: "google", apiKey: Redacted.make("my-key") }))
      assert.strictEqual(yield* token("google"), "my-key")
    }).pipe(Effect.provide(setup({ aden: accounts }))))

  it.effect("a second account of a provider makes the provider's name ambiguous at once", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* token("hubspot")
      yield* store.save(Credential.fromAccessToken({
        id: "own",
        accessToken: Redacted.make("t"),
        provider: "hubspot",
        alias: "Mine"
      }))
      assert.strictEqual((yield* Effect.flip(store.token("hubspot")))._tag, "AmbiguousCredential")
    }).pipe(Effect.provide(setup({ aden: accounts }))))

  it.effect("a provider of which Aden lists several accounts is ambiguous after a restart, although a sync stored only one", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* store.sync
      assert.lengthOf(yield* store.list, 1)
      yield* restarted(Effect.gen(function*() {
        const store = yield* CredentialStore
        assert.strictEqual((yield* Effect.flip(store.token("slack")))._tag, "AmbiguousCredential")
      }))
    }).pipe(Effect.provide(setup({
      aden: {
        integrations: [
          { id: "slack-1", type: "slack", alias: "one" },
          { id: "slack-2", type: "slack", alias: "two", status: "requires_reauth" }
        ]
      }
    }))))

  for (const [writer, providerId] of [["the provider", "aden_sync"], ["Hive", undefined]] as const) {
    it.effect(`an account that Aden lists no more does not stand in the way of its successor: written by ${writer}`, () =>
      Effect.gen(function*() {
        const store = yield* CredentialStore
        const storage = yield* CredentialStorage
        const named = Credential.fromAccessToken({ id: "old", accessToken: Redacted.make("old"), provider: "hubspot" })
        const managed = new CredentialKey({ name: "_aden_managed", value: Redacted.make("true") })
        yield* storage.save(
          new Credential({ ...named, providerId, keys: new Map([...named.keys, [managed.name, managed]]) }),
          { state: new CredentialState({ generation: 0, lastConfirmed: yield* DateTime.now }) }
        )
        assert.strictEqual(yield* token("hubspot"), "old")
        yield* TestClock.adjust("6 minutes")
        yield* store.getOption("of a newer list")
        assert.strictEqual((yield* store.get("hubspot")).id, "new")
      }).pipe(Effect.provide(setup({ aden: { integrations: [{ id: "new", type: "hubspot" }] } }))))
  }

  it.effect("getOption, getKey, delete and explain", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      assert.isTrue(Option.isNone(yield* store.getOption("nothing")))
      assert.isTrue(Option.isSome(yield* store.getOption("hubspot")))
      assert.strictEqual((yield* Effect.flip(store.getKey("hubspot", "nothing")))._tag, "CredentialKeyNotFound")
      assert.strictEqual(Redacted.value(yield* store.getKey("hubspot", "access_token")), yield* token("hubspot"))
      const explanation = yield* store.explain("hubspot")
      assert.isUndefined(explanation.storageError)
      assert.strictEqual(explanation.status, "fresh")
      assert.strictEqual(explanation.source, "aden")
      assert.isTrue(yield* store.delete("hubspot"))
      assert.isFalse(yield* store.delete("hash-3"))
      assert.strictEqual((yield* Effect.flip(store.explain("hubspot")))._tag, "CredentialNotFound")
    }).pipe(Effect.provide(setup({ aden: accounts }))))
})

describe("CredentialStore: sync", () => {
  it.effect("reports what was synced and what was skipped, with reasons", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const report = yield* store.sync
      assert.deepStrictEqual(report.synced.map((each) => each.id).toSorted(), ["github", "hubspot"])
      assert.deepStrictEqual(
        report.skipped.map(({ id, reason, reauthorizationUrl }) => ({ id, reason, reauthorizationUrl })),
        [
          { id: "slack", reason: "ReauthRequired", reauthorizationUrl: `${aden.url}/integrations/slack/connect` }
        ]
      )
      assert.deepStrictEqual(report.failed, [])
      assert.deepStrictEqual(report.removed, [])
      const error = yield* Effect.flip(store.token("slack"))
      assert.strictEqual(error._tag, "ReauthRequired")
    }).pipe(Effect.provide(setup())))

  it.effect("what was skipped or failed is named as what was synced is: an id can be opaque", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* aden.setFault(Fault.Status({ status: 422 }), { endpoint: "get", integrationId: "Z29vZ2xl" })
      const report = yield* store.sync
      assert.deepStrictEqual(
        [...report.skipped, ...report.failed].map(({ alias, id, provider }) => [id, provider, alias]),
        [["c2xhY2s=", "slack", "team"], ["Z29vZ2xl", "google", "Timothy"]]
      )
    }).pipe(Effect.provide(setup({
      aden: {
        dialect: "hive",
        integrations: [
          { id: "Z29vZ2xl", type: "google", alias: "Timothy" },
          { id: "c2xhY2s=", type: "slack", alias: "team", status: "requires_reauth" }
        ]
      }
    }))))

  it.effect("one bad integration never spoils the others", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* aden.setFault(Fault.Status({ status: 500 }), { endpoint: "get", integrationId: "hubspot" })
      const report = yield* store.sync
      assert.deepStrictEqual(report.synced.map((each) => each.id), ["github"])
      assert.deepStrictEqual(report.failed.map((each) => [each.id, each.error._tag]), [["hubspot", "AdenUnavailable"]])
    }).pipe(Effect.provide(setup())))

  it.effect("what is blocked and was never fetched can be validated, refreshed and re-checked", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* store.sync
      const validation = yield* store.validate("slack")
      assert.isFalse(validation.valid)
      assert.strictEqual((yield* Effect.flip(store.refresh("slack")))._tag, "ReauthRequired")
      yield* aden.connect("slack")
      yield* TestClock.adjust("31 seconds")
      yield* token("slack")
    }).pipe(Effect.provide(setup())))

  it.effect("a rate limit during a sync is remembered for the credential", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 60 }), { endpoint: "get", integrationId: "hubspot" })
      const first = yield* store.sync
      assert.deepStrictEqual(first.failed.map(({ error, id }) => [id, error._tag]), [["hubspot", "RateLimited"]])
      const before = yield* aden.countRequests({ integrationId: "hubspot" })
      const second = yield* store.sync
      assert.deepStrictEqual(second.failed.map(({ error, id }) => [id, error._tag]), [["hubspot", "RateLimited"]])
      assert.strictEqual((yield* Effect.flip(store.token("hubspot")))._tag, "RateLimited")
      assert.strictEqual(yield* aden.countRequests({ integrationId: "hubspot" }), before)
    }).pipe(Effect.provide(setup())))

  it.effect("a bad item in the list is skipped as Malformed", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* aden.setFault(Fault.Patch({ fields: { expires_at: 12 }, item: "hubspot" }), { endpoint: "list" })
      const report = yield* store.sync
      assert.deepStrictEqual(report.synced.map((each) => each.id), ["github"])
      assert.deepStrictEqual(
        report.skipped.map((each) => [each.id, each.reason]).toSorted(),
        [["hubspot", "Malformed"], ["slack", "ReauthRequired"]]
      )
    }).pipe(Effect.provide(setup())))

  it.effect("a person's own credential under an id that Aden lists is skipped as OwnedElsewhere, never overwritten, renewed or removed", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* store.save(Credential.fromApiKey({ id: "hubspot", apiKey: Redacted.make("my-own-key") }))
      yield* store.save(Credential.fromApiKey({ id: "unlisted", apiKey: Redacted.make("my-other-key") }))
      const report = yield* store.sync
      assert.deepStrictEqual(report.synced.map((each) => each.id), ["github"])
      assert.include(report.skipped.map((each) => `${each.id} ${each.reason}`), "hubspot OwnedElsewhere")
      assert.strictEqual(yield* token("hubspot"), "my-own-key")
      assert.strictEqual((yield* Effect.flip(store.refresh("hubspot")))._tag, "NoProvider")
      yield* TestClock.adjust("48 hours")
      assert.strictEqual(yield* token("hubspot"), "my-own-key")
      assert.strictEqual(yield* token("unlisted"), "my-other-key")
    }).pipe(Effect.provide(setup())))

  it.effect("an entry that the list lacks and Aden does not have is removed; an empty list by itself removes nothing", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      yield* store.sync
      yield* aden.setFault(Fault.ReplaceBody({ body: `{"integrations":[],"tenant_id":"tenant-123"}` }), {
        endpoint: "list",
        times: 1
      })
      const empty = yield* store.sync
      assert.deepStrictEqual(empty.removed, [])
      assert.deepStrictEqual((yield* storage.list).toSorted(), ["github", "hubspot"])
      yield* aden.removeIntegration("github")
      const second = yield* store.sync
      assert.deepStrictEqual(second.removed, ["github"])
      assert.deepStrictEqual(yield* storage.list, ["hubspot"])
    }).pipe(Effect.provide(setup())))

  it.effect("a list that tells of further pages removes nothing, and the report says that it may be incomplete", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      assert.isFalse((yield* store.sync).isIncomplete)
      yield* aden.removeIntegration("github")
      yield* aden.setFault(Fault.Patch({ fields: { integrations: [], has_more: true } }), { endpoint: "list" })
      const report = yield* store.sync
      assert.isTrue(report.isIncomplete)
      // what the page lacks and Aden has is kept in step
      assert.deepStrictEqual(report.synced.map(({ id }) => id), ["hubspot"])
      assert.deepStrictEqual(report.skipped.map(({ id, reason }) => [id, reason]), [["github", "NotFound"]])
      assert.deepStrictEqual(report.removed, [])
      assert.deepStrictEqual((yield* storage.list).toSorted(), ["github", "hubspot"])
      yield* aden.clearFaults
      assert.deepStrictEqual((yield* store.sync).removed, ["github"])
    }).pipe(Effect.provide(setup())))

  it.effect("syncStream: Listed comes first, and one event for each integration", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const events = yield* Stream.runCollect(store.syncStream)
      assert.deepStrictEqual(events[0], { _tag: "Listed", total: 3, isIncomplete: false })
      assert.deepStrictEqual(events.slice(1).map((event) => event._tag).toSorted(), ["Skipped", "Synced", "Synced"])
    }).pipe(Effect.provide(setup())))

  it.effect("another tenant's list: nothing is saved, a protocol error", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      yield* aden.setFault(Fault.Patch({ fields: { tenant_id: "another-tenant" } }), { endpoint: "list" })
      const error = yield* Effect.flip(store.sync)
      assert.strictEqual(error._tag, "AdenUnavailable")
      if (error._tag === "AdenUnavailable") assert.strictEqual(error.reason._tag, "AdenProtocolError")
      assert.deepStrictEqual(yield* storage.list, [])
    }).pipe(Effect.provide(setup())))

  it.effect("sync keeps description, tags, unknown fields and extra keys of an entry that Aden renews", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      yield* store.sync
      const stored = Option.getOrThrow(yield* storage.load("hubspot"))
      yield* storage.save(new Credential({ ...stored, description: "mine", tags: ["prod"] }))
      yield* store.sync
      const again = Option.getOrThrow(yield* storage.load("hubspot"))
      assert.strictEqual(again.description, "mine")
      assert.deepStrictEqual(again.tags, ["prod"])
    }).pipe(Effect.provide(setup())))

  it.effect("integrations are fetched at most 16 at a time", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* aden.setFault(Fault.Latency({ duration: "300 millis" }))
      const syncing = yield* Effect.forkChild(store.sync)
      yield* eventually(
        Effect.andThen(TestClock.adjust("300 millis"), Effect.sync(() => syncing.pollUnsafe() !== undefined))
      )
      const report = yield* Fiber.join(syncing)
      assert.strictEqual(report.synced.length, 64)
      const { maximum } = yield* aden.inFlight()
      assert.isAtLeast(maximum, 12)
      assert.isAtMost(maximum, 16)
    }).pipe(Effect.provide(setup({
      aden: {
        integrations: Array.from({ length: 64 }, (_, i) => ({ id: `integration-${i}`, tokenLifetime: "1 hour" }))
      }
    }))))
})

describe("CredentialStore: without a provider", () => {
  const withoutProvider = CredentialStore.layer().pipe(
    Layer.provide(CredentialProviders.layerNone),
    Layer.provideMerge(MemoryStorage.layer())
  )

  it.effect("serves what storage holds; sync and refresh fail with NoProvider", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* store.save(Credential.fromApiKey({ id: "brave", apiKey: Redacted.make("key") }))
      assert.strictEqual(yield* token("brave"), "key")
      assert.strictEqual((yield* Effect.flip(store.sync))._tag, "NoProvider")
      assert.strictEqual((yield* Effect.flip(store.refresh("brave")))._tag, "NoProvider")
      assert.isTrue((yield* store.validate("brave")).valid)
      assert.strictEqual((yield* Effect.flip(store.token("nothing")))._tag, "CredentialNotFound")
    }).pipe(Effect.provide(withoutProvider)))

  it.effect("an expired credential is not served", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* store.save(Credential.fromAccessToken({
        id: "old",
        accessToken: Redacted.make("old-token"),
        expiresAt: DateTime.makeUnsafe(1_000)
      }))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* Effect.flip(store.token("old")))._tag, "RefreshFailed")
    }).pipe(Effect.provide(withoutProvider)))
})
