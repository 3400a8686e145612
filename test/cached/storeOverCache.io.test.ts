import { assert, describe, it } from "@effect/vitest"
import {
  AdenCachedStorage,
  AdenClient,
  AdenSyncProvider,
  type CredentialEvent,
  CredentialStore,
  EncryptedFileStorage
} from "aden-credentials"
import { AdenEmulator, type AdenEmulatorOptions } from "aden-credentials/emulator"
import { Effect, Layer, Redacted, Schedule, Stream } from "effect"
import { FetchHttpClient } from "effect/http"
import { TestClock } from "effect/testing"
import { key, NodeFiles, temporaryDirectory } from "../storage/temporaryStorage.ts"

// Pattern B: a store over AdenCachedStorage over encrypted files, and a real Aden server over a socket, on virtual time.

const Client = Layer.unwrap(Effect.map(AdenEmulator, (aden) =>
  AdenClient.layer({
    baseUrl: aden.url,
    apiKey: aden.apiKey,
    retry: Schedule.recurs(0),
    circuitBreaker: { failures: 10_000 }
  }))).pipe(Layer.provide(FetchHttpClient.layer))

/** The layers of one process over a directory, as in docs/storages.md. */
const process = (directory: string, cache?: Parameters<typeof AdenCachedStorage.layer>[0]) =>
  Layer.fresh(
    CredentialStore.layer().pipe(
      Layer.provide(AdenCachedStorage.layer(cache)),
      Layer.provide(AdenSyncProvider.layer()),
      Layer.provide(Client),
      Layer.provide(EncryptedFileStorage.layer({ directory, keys: [key] })),
      Layer.provide(NodeFiles)
    )
  )

const token = (ref: string) => Effect.flatMap(CredentialStore, (store) => Effect.map(store.token(ref), Redacted.value))

const requests = Effect.flatMap(AdenEmulator, (aden) => aden.countRequests())
const gets = Effect.flatMap(AdenEmulator, (aden) => aden.countRequests({ endpoint: "get" }))
const refreshes = Effect.flatMap(AdenEmulator, (aden) => aden.countRequests({ endpoint: "refresh" }))

const google: AdenEmulatorOptions = {
  integrations: [
    { id: "hash-1", type: "google", alias: "Timothy", tokenLifetime: "1 hour" },
    { id: "hash-2", type: "google", alias: "Work", tokenLifetime: "1 hour" },
    { id: "github" }
  ]
}

describe("CredentialStore over AdenCachedStorage", () => {
  it.effect("end to end: fetched once, served by all its refs after a restart while Aden is down, renewed when it is back", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const directory = yield* temporaryDirectory
      const first = yield* Effect.gen(function*() {
        const tokens = [yield* token("google:Timothy"), yield* token("google:Work"), yield* token("github")]
        assert.strictEqual(yield* gets, 3)
        return tokens
      }).pipe(Effect.provide(process(directory)))

      yield* aden.stop
      yield* TestClock.adjust("10 minutes")
      yield* Effect.gen(function*() {
        const store = yield* CredentialStore
        assert.deepStrictEqual([
          yield* token("google:Timothy"),
          yield* token("google:Work"),
          yield* token("github")
        ], first)
        assert.lengthOf(yield* store.list, 3)
        assert.lengthOf(yield* store.accounts("google"), 2)
        assert.strictEqual((yield* store.explain("google:Work")).id, "hash-2")
        assert.strictEqual((yield* Effect.flip(store.token("google")))._tag, "AmbiguousCredential")
        // an expired copy is not answered
        yield* TestClock.adjust("2 hours")
        const error = yield* Effect.flip(store.token("google:Timothy"))
        assert.strictEqual(error._tag, "AdenUnavailable")
        assert.strictEqual(yield* token("github"), first[2])
      }).pipe(Effect.provide(process(directory)))

      yield* aden.start
      yield* aden.clearRequests
      yield* Effect.gen(function*() {
        assert.notStrictEqual(yield* token("google:Timothy"), first[0])
        // an expired token is renewed by one POST, with no GET before it
        assert.strictEqual(yield* refreshes, 1)
        assert.strictEqual(yield* gets, 0)
      }).pipe(Effect.provide(process(directory)))
    }).pipe(Effect.provide(AdenEmulator.layer(google))))

  it.effect("to list, to explain and to find out what a ref means sends no request, however old the entries are", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const directory = yield* temporaryDirectory
      yield* Effect.flatMap(CredentialStore, (store) => store.sync).pipe(Effect.provide(process(directory)))
      yield* TestClock.adjust("3 hours")
      yield* aden.clearRequests
      yield* Effect.gen(function*() {
        const store = yield* CredentialStore
        yield* store.list
        yield* store.accounts("google")
        yield* store.explain("google:Timothy")
        assert.strictEqual(yield* requests, 0)
      }).pipe(Effect.provide(process(directory, { preferLocal: false })))
    }).pipe(Effect.provide(AdenEmulator.layer(google))))

  it.effect("the first read of a fresh entry sends no request, and with a shorter cacheTtl of the storage one", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const first = yield* token("github").pipe(Effect.provide(process(directory)))
      yield* TestClock.adjust("2 minutes")
      const aden = yield* AdenEmulator
      yield* aden.clearRequests
      assert.strictEqual(yield* token("github").pipe(Effect.provide(process(directory))), first)
      assert.strictEqual(yield* requests, 0)
      yield* aden.connect("github")
      yield* Effect.gen(function*() {
        const all = yield* Effect.forEach(Array.from({ length: 50 }), () => token("github"), {
          concurrency: "unbounded"
        })
        assert.strictEqual(new Set(all).size, 1)
        assert.notStrictEqual(all[0], first)
        assert.strictEqual(yield* gets, 1)
      }).pipe(Effect.provide(process(directory, { cacheTtl: "1 minute" })))
    }).pipe(Effect.provide(AdenEmulator.layer(google))))

  it.effect("preferLocal: false asks Aden at the first read of a process, and serves the stored copy while it is down", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const directory = yield* temporaryDirectory
      const first = yield* token("github").pipe(Effect.provide(process(directory)))
      yield* aden.connect("github")
      const second = yield* token("github").pipe(Effect.provide(process(directory, { preferLocal: false })))
      assert.notStrictEqual(second, first)
      yield* aden.stop
      assert.strictEqual(
        yield* token("github").pipe(Effect.provide(process(directory, { preferLocal: false }))),
        second
      )
    }).pipe(Effect.provide(AdenEmulator.layer(google))))

  it.effect("what the storage finds blocked is ReauthRequired for every reader, with one event", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const directory = yield* temporaryDirectory
      yield* token("github").pipe(Effect.provide(process(directory)))
      yield* aden.revoke("github")
      yield* aden.clearRequests
      yield* Effect.gen(function*() {
        const store = yield* CredentialStore
        const events: Array<CredentialEvent["_tag"]> = []
        yield* Effect.forkScoped(
          Stream.runForEach(store.changes, (event) => Effect.sync(() => events.push(event._tag))),
          { startImmediately: true }
        )
        const errors = yield* Effect.forEach(Array.from({ length: 50 }), () => Effect.flip(store.token("github")), {
          concurrency: "unbounded"
        })
        for (const error of errors) {
          assert.strictEqual(error._tag, "ReauthRequired")
          if (error._tag === "ReauthRequired") assert.isDefined(error.reauthorizationUrl)
        }
        assert.strictEqual(yield* requests, 1)
        yield* Effect.yieldNow
        assert.deepStrictEqual(events, ["ReauthorizationRequired"])
      }).pipe(Effect.scoped, Effect.provide(process(directory, { preferLocal: false })))
    }).pipe(Effect.provide(AdenEmulator.layer(google))))

  it.effect("what the storage finds gone is CredentialNotFound, and removed", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const directory = yield* temporaryDirectory
      yield* token("github").pipe(Effect.provide(process(directory)))
      yield* aden.removeIntegration("github")
      yield* Effect.gen(function*() {
        const store = yield* CredentialStore
        assert.strictEqual((yield* Effect.flip(store.token("github")))._tag, "CredentialNotFound")
        assert.deepStrictEqual(yield* store.list, [])
      }).pipe(Effect.provide(process(directory, { preferLocal: false })))
    }).pipe(Effect.provide(AdenEmulator.layer(google))))
})
