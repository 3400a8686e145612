import { assert, describe, it } from "@effect/vitest"
import {
  AdenConnectionFailed,
  AdenUnavailable,
  CredentialProviders,
  CredentialState,
  CredentialStorage,
  CredentialStorageError,
  CredentialStore,
  IntegrationNotFound,
  RateLimited,
  ReauthRequired,
  type StorageReason
} from "aden-credentials"
import { Duration, Effect, Layer, Option, Stream } from "effect"

describe("CredentialStore over a storage that fails with what Aden said", () => {
  const failing = (reason: StorageReason) =>
    CredentialStore.layer().pipe(
      Layer.provide(CredentialProviders.layerNone),
      Layer.provide(Layer.mock(CredentialStorage, {
        changes: Stream.empty,
        list: Effect.succeed([]),
        exists: () => Effect.succeed(false),
        read: (id) => Effect.fail(new CredentialStorageError({ id, operation: "read", reason })),
        load: (id) => Effect.fail(new CredentialStorageError({ id, operation: "load", reason })),
        loadState: () => Effect.succeed(CredentialState.initial)
      }))
    )

  const reasons: ReadonlyArray<readonly [reason: StorageReason, tag: string]> = [
    [new AdenUnavailable({ reason: new AdenConnectionFailed({ detail: "ECONNREFUSED" }) }), "AdenUnavailable"],
    [new RateLimited({ retryAfter: Duration.minutes(1) }), "RateLimited"],
    [new ReauthRequired({ id: "hubspot" }), "ReauthRequired"],
    [new IntegrationNotFound({ id: "hubspot" }), "CredentialNotFound"]
  ]

  for (const [reason, tag] of reasons) {
    it.effect(`${reason._tag} in the reason of a CredentialStorageError is told as ${tag}`, () =>
      Effect.gen(function*() {
        const store = yield* CredentialStore
        const failures = yield* Effect.all([
          Effect.flip(store.get("hubspot")),
          Effect.flip(store.token("hubspot")),
          Effect.flip(store.getKey("hubspot", "access_token")),
          Effect.flip(store.token("hubspot", { minTimeLeft: "1 minute" })),
          Effect.flip(store.validate("hubspot"))
        ])
        for (const failure of failures) assert.strictEqual(failure._tag, tag)
        const found = yield* Effect.exit(store.getOption("hubspot"))
        if (tag === "CredentialNotFound") assert.isTrue(found._tag === "Success" && Option.isNone(found.value))
        else assert.strictEqual(found._tag, "Failure")
      }).pipe(Effect.provide(failing(reason))))
  }
})
