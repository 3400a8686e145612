/** What has broken credential clients before, as a program sees it that keeps its credentials in files. */
import { assert, describe, it } from "@effect/vitest"
import { CredentialStorage, CredentialStore } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { DateTime, Effect, Option, Redacted } from "effect"
import { TestClock } from "effect/testing"
import { inspect } from "node:util"
import { oneHour, setup, token, turn } from "../fixtures/emulatedStore.ts"
import { repeats } from "../fixtures/repeats.ts"
import { TemporaryStorage } from "../storage/temporaryStorage.ts"

describe("refresh and concurrency", () => {
  it.effect("a reader during refreshes: never the token of one generation with the expiry of another", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const seen = new Map<string, string>()
      yield* token("hubspot")
      const reader = Effect.gen(function*() {
        while (true) {
          const credential = yield* store.get("hubspot")
          const value = Redacted.value(credential.defaultKey!.value)
          const expiry = DateTime.formatIso(credential.expiresAt!)
          assert.strictEqual(seen.get(value) ?? expiry, expiry)
          seen.set(value, expiry)
          yield* turn
        }
      })
      const refreshes = Effect.gen(function*() {
        for (let i = 0; i < repeats(30, 3); i++) {
          yield* TestClock.adjust("1 minute")
          yield* store.refresh("hubspot")
          yield* turn
        }
      })
      yield* Effect.raceFirst(refreshes, Effect.all([reader, reader, reader, reader], { concurrency: "unbounded" }))
      assert.isAtLeast(seen.size, repeats(25, 3))
      for (const { expiresAt, value } of yield* aden.issuedTokens) {
        const expiry = seen.get(Redacted.value(value))
        if (expiry !== undefined) assert.strictEqual(expiry, DateTime.formatIso(expiresAt!))
      }
    }).pipe(Effect.provide(setup({ aden: oneHour, storage: TemporaryStorage }))))
})

describe("secrets", () => {
  it.effect("a refresh_token in an answer is in memory and on disk nowhere", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const store = yield* CredentialStore
      const storage = yield* CredentialStorage
      const secret = "1//0gZ8rRefreshTokenOfAPerson"
      yield* aden.setFault(Fault.Patch({ fields: { refresh_token: secret, refreshToken: secret } }))
      const assertAbsent = Effect.gen(function*() {
        for (const credential of [yield* store.get("hubspot"), Option.getOrThrow(yield* storage.load("hubspot"))]) {
          assert.isFalse(credential.keys.has("refresh_token"))
          for (const key of credential.keys.values()) assert.notStrictEqual(Redacted.value(key.value), secret)
          assert.notInclude(inspect(credential, { depth: Infinity, showHidden: true }), secret)
        }
      })
      yield* assertAbsent
      yield* store.refresh("hubspot")
      yield* assertAbsent
      yield* store.sync
      yield* assertAbsent
    }).pipe(Effect.provide(setup({ aden: oneHour, storage: TemporaryStorage }))))
})
