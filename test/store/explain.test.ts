import { assert, describe, it } from "@effect/vitest"
import { CredentialStorage, CredentialStore } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Context, Effect, Layer, Stream } from "effect"
import { TestClock } from "effect/testing"
import { decorate } from "../../src/storage/decorate.ts"
import { eventually, oneHour, setup, storeLayer, token } from "../fixtures/emulatedStore.ts"

/** One more store over the same storage, which is told of no changes. */
const anotherStore = Effect.gen(function*() {
  const storage = decorate(yield* CredentialStorage, { changes: Stream.empty })
  const layer = Layer.fresh(storeLayer()).pipe(Layer.provide(Layer.succeed(CredentialStorage, storage)))
  return Context.get(yield* Layer.build(layer), CredentialStore)
})

describe("CredentialStore: explain", () => {
  it.effect("tells what another process has renewed, and not of the failure before", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const here = yield* anotherStore
      yield* here.token("hubspot")
      yield* TestClock.adjust("57 minutes")
      yield* aden.setFault(Fault.Status({ status: 503 }))
      yield* here.token("hubspot")
      yield* eventually(Effect.map(here.explain("hubspot"), ({ source }) => source === "served stale"))
      yield* aden.clearFaults
      yield* token("hubspot")
      yield* eventually(Effect.map(here.explain("hubspot"), ({ lastError }) => lastError === undefined))
      const { source, status } = yield* here.explain("hubspot")
      assert.deepStrictEqual({ source, status }, { source: "memory", status: "fresh" })
    }).pipe(Effect.provide(setup({ aden: oneHour }))))

  it.effect("says of what was never fetched that it is missing, and not how old it is", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 60 }), { endpoint: "get" })
      yield* Effect.flip(store.token("hubspot"))
      const { age, coolDownLeft, lastError, provider, source, status } = yield* store.explain("hubspot")
      assert.deepStrictEqual({ age, lastError, provider, source, status }, {
        age: undefined,
        lastError: "RateLimited",
        provider: "hubspot",
        source: undefined,
        status: "missing"
      })
      assert.isDefined(coolDownLeft)
    }).pipe(Effect.provide(setup({ aden: oneHour }))))
})
