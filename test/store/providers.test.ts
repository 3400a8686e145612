/** A store over two Aden servers, each with a provider of its own. */
import { assert, describe, it } from "@effect/vitest"
import {
  AdenClient,
  AdenSyncProvider,
  CredentialProviders,
  CredentialStorage,
  CredentialStore,
  MemoryStorage
} from "aden-credentials"
import { AdenEmulator, type AdenEmulatorOptions, Fault } from "aden-credentials/emulator"
import { Context, Effect, Fiber, Layer, Redacted, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { eventually, token } from "../fixtures/emulatedStore.ts"
import { memoryAden, MemoryHttpClient } from "../fixtures/memoryAden.ts"

type Aden = AdenEmulator["Service"]

class Servers extends Context.Service<Servers, { readonly eu: Aden; readonly us: Aden }>()("test/Servers") {}

const server = (options: AdenEmulatorOptions) =>
  Effect.map(Layer.build(Layer.fresh(memoryAden(options))), Context.get(AdenEmulator))

const providerOf = (providerId: string, aden: Aden) =>
  AdenSyncProvider.layer({ providerId }).pipe(
    Layer.provide(
      AdenClient.layer({
        baseUrl: aden.url,
        apiKey: aden.apiKey,
        retry: Schedule.recurs(0),
        circuitBreaker: { failures: 10_000 }
      })
    ),
    Layer.provide(MemoryHttpClient)
  )

const storeLayer = Layer.fresh(
  CredentialStore.layer().pipe(
    Layer.provide(Layer.unwrap(
      Effect.map(
        Servers,
        ({ eu, us }) => CredentialProviders.layerAll([providerOf("aden_eu", eu), providerOf("aden_us", us)])
      )
    ))
  )
)

const world = (options: { readonly eu: AdenEmulatorOptions; readonly us: AdenEmulatorOptions }) =>
  Layer.merge(
    MemoryStorage.layer(),
    Layer.effect(
      Servers,
      Effect.gen(function*() {
        return { eu: yield* server(options.eu), us: yield* server(options.us) }
      })
    )
  )

/** With a store of its own, as after a restart. */
const started = <A, E, R>(program: Effect.Effect<A, E, R>) => Effect.provide(program, storeLayer, { local: true })

const failureOf = (ref: string) => Effect.flatMap(CredentialStore, (store) => Effect.flip(store.token(ref)))

const synced = Effect.asVoid(Effect.flatMap(CredentialStore, ({ sync }) => sync))

const unavailable = Fault.Status({ status: 503 })

describe("CredentialStore over two providers: blocked since before it was ever fetched, after a restart", () => {
  const worlds = world({
    eu: { integrations: [{ id: "github" }] },
    us: { integrations: [{ id: "slack", status: "requires_reauth" }] }
  })

  it.effect("a read re-checks it every 30 s at most, and finds out that a person has connected it", () =>
    Effect.gen(function*() {
      const { eu, us } = yield* Servers
      yield* started(synced)
      yield* started(Effect.gen(function*() {
        const before = yield* us.countRequests()
        assert.strictEqual((yield* failureOf("slack"))._tag, "ReauthRequired")
        assert.strictEqual(yield* us.countRequests(), before)
        for (let checks = 1; checks <= 2; checks++) {
          yield* TestClock.adjust("31 seconds")
          for (let i = 0; i < 100; i++) assert.strictEqual((yield* failureOf("slack"))._tag, "ReauthRequired")
          assert.strictEqual(yield* us.countRequests({ endpoint: "validate", integrationId: "slack" }), 1 + checks)
        }
        assert.strictEqual(yield* eu.countRequests({ integrationId: "slack" }), 0)
        yield* us.connect("slack")
        yield* TestClock.adjust("31 seconds")
        yield* token("slack")
      }))
    }).pipe(Effect.provide(worlds)))

  it.effect("a server that is down is asked every 30 s at most, and leaves it blocked", () =>
    Effect.gen(function*() {
      const { eu, us } = yield* Servers
      yield* started(synced)
      yield* started(Effect.gen(function*() {
        yield* eu.setFault(unavailable)
        yield* us.setFault(unavailable)
        yield* TestClock.adjust("31 seconds")
        const before = yield* us.countRequests()
        for (let i = 0; i < 100; i++) assert.strictEqual((yield* failureOf("slack"))._tag, "ReauthRequired")
        assert.isAtMost((yield* us.countRequests()) - before, 1)
      }))
    }).pipe(Effect.provide(worlds)))

  it.effect("refresh asks its server", () =>
    Effect.gen(function*() {
      const { us } = yield* Servers
      yield* started(synced)
      yield* started(Effect.gen(function*() {
        const store = yield* CredentialStore
        assert.strictEqual((yield* Effect.flip(store.refresh("slack")))._tag, "ReauthRequired")
        assert.strictEqual(yield* us.countRequests({ endpoint: "refresh" }), 1)
        yield* us.connect("slack")
        yield* store.refresh("slack")
        yield* token("slack")
      }))
    }).pipe(Effect.provide(worlds)))

  it.effect("validate asks its server", () =>
    Effect.gen(function*() {
      const { us } = yield* Servers
      yield* started(synced)
      yield* started(Effect.gen(function*() {
        const store = yield* CredentialStore
        const before = yield* us.countRequests({ endpoint: "validate" })
        assert.isFalse((yield* store.validate("slack")).valid)
        assert.strictEqual(yield* us.countRequests({ endpoint: "validate" }), before + 1)
        yield* us.connect("slack")
        assert.isTrue((yield* store.validate("slack")).valid)
        yield* token("slack")
      }))
    }).pipe(Effect.provide(worlds)))

  it.effect("awaitReauthorization ends when it is connected", () =>
    Effect.gen(function*() {
      const { us } = yield* Servers
      yield* started(synced)
      yield* started(Effect.gen(function*() {
        const store = yield* CredentialStore
        const waiting = yield* Effect.forkChild(store.awaitReauthorization("slack"), { startImmediately: true })
        const before = yield* us.countRequests({ endpoint: "validate" })
        yield* us.connect("slack")
        yield* eventually(
          Effect.andThen(
            TestClock.adjust("5 seconds"),
            Effect.map(us.countRequests({ endpoint: "validate" }), (n) => n > before)
          )
        )
        assert.strictEqual((yield* Fiber.join(waiting)).id, "slack")
      }))
    }).pipe(Effect.provide(worlds)))
})

describe("CredentialStore over two providers: integration not found", () => {
  it.effect("and its server's list lacks it too: removed, though the other server is down", () =>
    Effect.gen(function*() {
      const { eu, us } = yield* Servers
      const storage = yield* CredentialStorage
      yield* started(Effect.gen(function*() {
        yield* synced
        yield* us.removeIntegration("slack")
        yield* eu.setFault(unavailable)
        const store = yield* CredentialStore
        assert.strictEqual((yield* Effect.flip(store.refresh("slack")))._tag, "CredentialNotFound")
        assert.deepStrictEqual(yield* storage.list, ["github"])
        // whether the other server has it cannot be told now
        assert.strictEqual((yield* failureOf("slack"))._tag, "AdenUnavailable")
        assert.strictEqual(yield* us.countRequests({ endpoint: "refresh" }), 1)
        assert.match(Redacted.value(yield* store.token("github")), /^aden-emulator\./)
      }))
    }).pipe(
      Effect.provide(world({ eu: { integrations: [{ id: "github" }] }, us: { integrations: [{ id: "slack" }] } }))
    ))
})

describe("CredentialStore over two providers: of the same id", () => {
  it.effect("is refused: neither could tell which credentials are its own", () =>
    Effect.gen(function*() {
      const provider = AdenSyncProvider.layer().pipe(Layer.provide(AdenClient.layerTest({})))
      const built = Layer.build(
        CredentialStore.layer().pipe(
          Layer.provide(CredentialProviders.layerAll([provider, Layer.fresh(provider)])),
          Layer.provide(MemoryStorage.layer())
        )
      )
      const error = yield* Effect.flip(Effect.scoped(built))
      assert.strictEqual(
        error.message,
        "providerId is \"aden_sync\" of two providers. Give each provider an id of its own, and keep it: stored credentials carry it."
      )
    }))
})

describe("CredentialStore over two providers: sync while one server is down", () => {
  const worlds = world({ eu: { integrations: [{ id: "github" }] }, us: { integrations: [{ id: "slack" }] } })

  it.effect.each(["eu", "us"] as const)(
    "%s: what the other one has is saved, and then it fails",
    (down) =>
      Effect.gen(function*() {
        const servers = yield* Servers
        const storage = yield* CredentialStorage
        yield* servers[down].setFault(unavailable)
        yield* started(Effect.gen(function*() {
          const store = yield* CredentialStore
          assert.strictEqual((yield* Effect.flip(store.sync))._tag, "AdenUnavailable")
          assert.deepStrictEqual(yield* storage.list, down === "eu" ? ["slack"] : ["github"])
        }))
      }).pipe(Effect.provide(worlds))
  )
})

describe("CredentialStore over two providers: a ref that none lists, while one server is down", () => {
  it.effect("the other server is asked for its list every 30 s, not at each read", () =>
    Effect.gen(function*() {
      const { eu, us } = yield* Servers
      yield* eu.setFault(unavailable)
      yield* started(Effect.gen(function*() {
        for (let second = 0; second < 60; second++) {
          assert.strictEqual((yield* failureOf("nothing"))._tag, "AdenUnavailable")
          yield* TestClock.adjust("1 second")
        }
        assert.strictEqual(yield* us.countRequests({ endpoint: "list" }), 2)
      }))
    }).pipe(
      Effect.provide(world({ eu: { integrations: [{ id: "github" }] }, us: { integrations: [{ id: "slack" }] } }))
    ))
})
