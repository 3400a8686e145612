import { assert, describe, it } from "@effect/vitest"
import { AdenClient, AdenSyncProvider, CredentialStorage, CredentialStore, MemoryStorage } from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { Effect, Layer, Redacted, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { memoryAden, MemoryHttpClient } from "../fixtures/memoryAden.ts"

// An integration that was blocked when it was first seen has a state record and no entry.

const store = Layer.fresh(
  CredentialStore.layer().pipe(
    Layer.provide(AdenSyncProvider.layer()),
    Layer.provide(
      Layer.unwrap(
        Effect.map(
          AdenEmulator,
          (aden) => AdenClient.layer({ baseUrl: aden.url, apiKey: aden.apiKey, retry: Schedule.recurs(0) })
        )
      )
    ),
    Layer.provide(MemoryHttpClient)
  )
)

const setup = Layer.merge(
  MemoryStorage.layer(),
  memoryAden({ integrations: [{ id: "slack", status: "requires_reauth" }] })
)

/** Seen blocked by one store; what follows is a store after a restart. */
const seenBlocked = Effect.provide(
  Effect.asVoid(Effect.flatMap(CredentialStore, ({ sync }) => sync)),
  store,
  { local: true }
)

describe("CredentialStore: blocked since before it was ever fetched, after a restart", () => {
  it.effect("validate asks Aden, and says that a person has to act", () =>
    Effect.gen(function*() {
      yield* seenBlocked
      yield* Effect.gen(function*() {
        const validation = yield* (yield* CredentialStore).validate("slack")
        assert.isFalse(validation.valid)
        assert.isTrue(validation.requiresReauthorization)
        assert.match(validation.reauthorizationUrl ?? "", /slack\/connect$/)
      }).pipe(Effect.provide(store, { local: true }))
    }).pipe(Effect.provide(setup)))

  it.effect("refresh asks Aden", () =>
    Effect.gen(function*() {
      yield* seenBlocked
      const error = yield* Effect.flip(Effect.flatMap(CredentialStore, ({ refresh }) => refresh("slack"))).pipe(
        Effect.provide(store, { local: true })
      )
      assert.strictEqual(error._tag, "ReauthRequired")
    }).pipe(Effect.provide(setup)))

  it.effect("once a person has connected it, a read finds out at its next re-check", () =>
    Effect.gen(function*() {
      yield* seenBlocked
      yield* (yield* AdenEmulator).connect("slack")
      yield* TestClock.adjust("31 seconds")
      const token = yield* Effect.flatMap(CredentialStore, (store) => store.token("slack")).pipe(
        Effect.provide(store, { local: true })
      )
      assert.match(Redacted.value(token), /^aden-emulator\./)
    }).pipe(Effect.provide(setup)))
})

describe("CredentialStore: seen blocked, and then gone at Aden", () => {
  it.effect("a sync removes what was remembered of it", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const storage = yield* CredentialStorage
      yield* Effect.gen(function*() {
        const { explain, sync } = yield* CredentialStore
        yield* sync
        assert.isDefined((yield* storage.loadState("slack")).blockedSince)
        yield* aden.removeIntegration("slack")
        yield* aden.addIntegration({ id: "github" })
        const { removed } = yield* sync
        assert.deepStrictEqual(removed, ["slack"])
        assert.strictEqual((yield* Effect.flip(explain("slack")))._tag, "CredentialNotFound")
        assert.isUndefined((yield* storage.loadState("slack")).blockedSince)
      }).pipe(Effect.provide(store, { local: true }))
    }).pipe(Effect.provide(setup)))
})
