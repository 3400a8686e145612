/** What has broken credential clients before, as a program sees it that asks over a network. */
import { assert, describe, it } from "@effect/vitest"
import { AdenClient, AdenSyncProvider, CredentialStorage, CredentialStore } from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { Effect, Layer, Option, Redacted, Schedule } from "effect"
import { FetchHttpClient } from "effect/http"
import { TestClock } from "effect/testing"
import { setup, token } from "../fixtures/emulatedStore.ts"

describe("when Aden fails", () => {
  it.effect("DNS failure: nothing cached is deleted or marked", () =>
    Effect.gen(function*() {
      const storage = yield* CredentialStorage
      const tokens = [yield* token("github"), yield* token("hubspot")]
      const lost = CredentialStore.layer().pipe(
        Layer.provide(AdenSyncProvider.layer()),
        Layer.provide(AdenClient.layer({
          baseUrl: "https://aden.invalid",
          // the same Aden, by another name
          issuer: (yield* AdenEmulator).url,
          apiKey: Redacted.make("key"),
          retry: Schedule.recurs(0)
        })),
        Layer.provide(FetchHttpClient.layer)
      )
      yield* TestClock.adjust("57 minutes")
      yield* Effect.gen(function*() {
        const store = yield* CredentialStore
        assert.deepStrictEqual([yield* token("github"), yield* token("hubspot")], tokens)
        for (const asking of [store.refresh("github"), store.validate("hubspot"), store.sync]) {
          assert.strictEqual(
            (yield* Effect.flip<unknown, { readonly _tag: string }, never>(asking))._tag,
            "AdenUnavailable"
          )
        }
        assert.deepStrictEqual([yield* token("github"), yield* token("hubspot")], tokens)
      }).pipe(Effect.provide(lost, { local: true }))
      for (const id of ["github", "hubspot"]) {
        assert.include(tokens, Redacted.value(Option.getOrThrow(yield* storage.load(id)).defaultKey!.value))
        const { blockedSince, coolDownUntil, refusedSince } = yield* storage.loadState(id)
        assert.deepStrictEqual([blockedSince, coolDownUntil, refusedSince], [undefined, undefined, undefined])
      }
    }).pipe(
      Effect.provide(
        setup({ aden: { integrations: [{ id: "github" }, { id: "hubspot", tokenLifetime: "1 hour" }] } })
      )
    ))
})
