/**
 * Layers over a store work for the store that they are provided with, whatever Effect memoises: a real Aden with two tenants, and a
 * real API that says whose token it was sent. What keeps tenants apart however layers are composed is in test/tenants.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  AdenClient,
  AdenSyncProvider,
  CredentialHttpClient,
  CredentialStore,
  MemoryStorage,
  TenantCredentials,
  UsageReporter
} from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { Effect, Layer, ManagedRuntime } from "effect"
import { HttpClient } from "effect/http"
import { repeats, sampled } from "../fixtures/repeats.ts"
import { reply, scriptedServer } from "../fixtures/scriptedServer.ts"
import {
  AcmeCrm,
  Aden,
  api,
  type ClientLayer,
  compositions,
  GlobexCrm,
  keyOf,
  owner,
  ownerBy,
  pipedByMethod,
  Platform,
  Tenants,
  Transport
} from "../fixtures/twoTenants.ts"

/** A store that a program builds by itself, with the API key of a tenant. */
const ownStore = (tenantId: string) =>
  Layer.unwrap(Effect.map(AdenEmulator, ({ url }) =>
    CredentialStore.layer().pipe(
      Layer.provide(AdenSyncProvider.layer()),
      Layer.provide(AdenClient.layer({ baseUrl: url, apiKey: keyOf(tenantId) })),
      Layer.provide([MemoryStorage.layer(), Transport])
    )))

const headersSent = Effect.map(
  scriptedServer({ replies: [reply(200, {})] }),
  (server) => ({ server, url: `${server.url}/me` })
)

/** What runs over a store, with a client of the layer that all have in common. */
const withStore =
  <E, R, R3>(store: Layer.Layer<CredentialStore, E, R>, Client: Layer.Layer<HttpClient.HttpClient, unknown, R3>) =>
  <A, E2, R2>(effect: Effect.Effect<A, E2, R2>) => effect.pipe(Effect.provide(Client), Effect.provide(store))

describe("CredentialHttpClient.layer, one layer value for two stores", () => {
  describe.each(pipedByMethod)("%s", (_, compose) => {
    it.live("nested provides: each request carries its own store's token, and the outer one after the inner one, too", () =>
      Effect.gen(function*() {
        const { options, url } = yield* api
        const Client = compose(options)
        const [acme, globex] = [ownStore("acme"), ownStore("globex")]
        const owners = yield* Effect.all([
          owner(url),
          owner(url).pipe(withStore(globex, Client)),
          owner(url).pipe(withStore(acme, Client), withStore(globex, Client)),
          owner(url)
        ]).pipe(withStore(acme, Client))
        assert.deepStrictEqual(owners, ["acme", "globex", "acme", "acme"])
      }).pipe(Effect.provide(Platform)))

    it.live("merged in one build: each service keeps its own store's client", () =>
      Effect.gen(function*() {
        const { options, url } = yield* api
        const Client = compose(options)
        const Both = Layer.merge(
          AcmeCrm.layer.pipe(Layer.provide(Client), Layer.provide(ownStore("acme"))),
          GlobexCrm.layer.pipe(Layer.provide(Client), Layer.provide(ownStore("globex")))
        )
        const owners = yield* Effect.gen(function*() {
          return [yield* ownerBy(yield* AcmeCrm, url), yield* ownerBy(yield* GlobexCrm, url)]
        }).pipe(Effect.provide(Both))
        assert.deepStrictEqual(owners, ["acme", "globex"])
      }).pipe(Effect.provide(Platform)))

    it.live("ManagedRuntime with the client of one store: what runs in it over another store carries the other's token", () =>
      Effect.gen(function*() {
        const { options, url } = yield* api
        const Client = compose(options)
        const platform = yield* Layer.build(Platform)
        const [acme, globex] = [ownStore("acme"), ownStore("globex")]
        const runtime = ManagedRuntime.make(
          Client.pipe(Layer.provideMerge(acme), Layer.provideMerge(Layer.succeedContext(platform)))
        )
        const owners = yield* Effect.promise(() =>
          Promise.all([
            runtime.runPromise(owner(url)),
            runtime.runPromise(owner(url).pipe(withStore(globex, Client))),
            runtime.runPromise(owner(url).pipe(withStore(acme, Client)))
          ])
        )
        yield* runtime.disposeEffect
        assert.deepStrictEqual(owners, ["acme", "globex", "acme"])
      }))
  })

  const calls = repeats(1_000)
  it.live.each(sampled(compositions, 3))(
    `%s: ${calls} interleaved calls of two tenants inside a client that is provided around them: none crosses`,
    ([, compose]) =>
      Effect.gen(function*() {
        const { options, url } = yield* api
        const Client = compose(options)
        const forTenant = (tenantId: string) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          effect.pipe(Effect.provide(Client), TenantCredentials.provide(tenantId))
        const crossed = yield* Effect.forEach(Array.from({ length: calls }, (_, n) => n), (n) => {
          const tenantId = n % 2 === 0 ? "acme" : "globex"
          return owner(url).pipe(forTenant(tenantId), Effect.map((found) => found === tenantId ? [] : [found]))
        }, { concurrency: 16 }).pipe(forTenant("acme"))
        assert.deepStrictEqual(crossed.flat(), [])
      }).pipe(Effect.provide(Platform))
  )

  it.live("two clients over one store are one instance, as with any layer", () =>
    Effect.gen(function*() {
      const { options } = yield* api
      const Client = CredentialHttpClient.layer(options).pipe(Layer.provide(Transport))
      const Both = Layer.merge(AcmeCrm.layer.pipe(Layer.provide(Client)), GlobexCrm.layer.pipe(Layer.provide(Client)))
      const same = yield* Effect.map(Effect.all([AcmeCrm, GlobexCrm]), ([one, other]) => one === other).pipe(
        Effect.provide(Both),
        Effect.provide(TenantCredentials.get("acme"))
      )
      assert.isTrue(same)
    }).pipe(Effect.provide(Platform)))

  it.live("a client of one tenant that is used where another tenant is served is refused", () =>
    Effect.gen(function*() {
      const { options, url } = yield* api
      const Crm = AcmeCrm.layer.pipe(Layer.provide(CredentialHttpClient.layer(options)), Layer.provide(Transport))
      const send = Effect.flatMap(AcmeCrm, (crm) => ownerBy(crm, url)).pipe(CredentialHttpClient.unwrapFailure)
      const seen = yield* Effect.all([
        Effect.flip(send.pipe(TenantCredentials.provide("globex"))),
        send.pipe(Effect.provide(Crm), TenantCredentials.provide("globex"))
      ]).pipe(Effect.provide(Crm), TenantCredentials.provide("acme"))
      const [error, own] = seen
      assert(error._tag === "CredentialHostDenied")
      assert.include(error.message, `it belongs to tenant "acme", and the program runs for tenant "globex"`)
      assert.include(error.remedy, "TenantCredentials.provide")
      assert.strictEqual(own, "globex")
    }).pipe(Effect.provide(Platform)))

  it.live("what a client brings along is built once for each store, and once where the client brings its store too", () =>
    Effect.gen(function*() {
      const { options } = yield* api
      let built = 0
      const Counted = Transport.pipe(Layer.tap(() => Effect.sync(() => built++)), Layer.fresh)
      const both = (Client: ClientLayer) =>
        Layer.merge(AcmeCrm.layer.pipe(Layer.provide(Client)), GlobexCrm.layer.pipe(Layer.provide(Client)))
      const Client = CredentialHttpClient.layer(options).pipe(Layer.provide(Counted))
      yield* Effect.void.pipe(Effect.provide(both(Client)), Effect.provide(TenantCredentials.get("acme")))
      assert.strictEqual(built, 1)
      const Whole = Client.pipe(Layer.provide(TenantCredentials.get("acme")))
      const Services = Layer.merge(AcmeCrm.layer.pipe(Layer.provide(Whole)), GlobexCrm.layer.pipe(Layer.provide(Whole)))
      yield* Effect.void.pipe(Effect.provide(Services))
      assert.strictEqual(built, 2)
    }).pipe(Effect.provide(Platform)))

  it.live("a tenant of another TenantCredentials is another tenant, though its id is the same", () =>
    Effect.gen(function*() {
      const { options, url } = yield* api
      const one = yield* Layer.build(Layer.fresh(Tenants))
      const other = yield* Layer.build(Layer.fresh(Tenants))
      const Crm = AcmeCrm.layer.pipe(Layer.provide(CredentialHttpClient.layer(options)), Layer.provide(Transport))
      const send = Effect.flatMap(AcmeCrm, (crm) => ownerBy(crm, url)).pipe(CredentialHttpClient.unwrapFailure)
      const error = yield* Effect.flip(send.pipe(TenantCredentials.provide("acme"), Effect.provide(other))).pipe(
        Effect.provide(Crm),
        TenantCredentials.provide("acme"),
        Effect.provide(one)
      )
      assert(error._tag === "CredentialHostDenied")
      assert.include(error.message, `it belongs to tenant "acme" of another TenantCredentials`)
    }).pipe(Effect.provide(Aden)))

  describe("without a transport of its own, over the client that is around", () => {
    it.live("carries the credential of its own tenant, with stores that are hidden and with stores in sight", () =>
      Effect.gen(function*() {
        const { options, url } = yield* api
        const Client = CredentialHttpClient.layer(options)
        const own = (tenantId: string) => Client.pipe(TenantCredentials.provideLayer(tenantId))
        const hidden = yield* Effect.all([
          owner(url),
          owner(url).pipe(Effect.provide(own("globex"))),
          owner(url).pipe(Effect.provide(own("acme")), Effect.provide(own("globex"))),
          Effect.flatMap(GlobexCrm, (crm) => ownerBy(crm, url)).pipe(
            Effect.provide(GlobexCrm.layer.pipe(Layer.provide(Client), TenantCredentials.provideLayer("globex")))
          ),
          owner(url)
        ]).pipe(Effect.provide(own("acme")))
        assert.deepStrictEqual(hidden, ["acme", "globex", "acme", "globex", "acme"])
        const forTenant = (tenantId: string) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          effect.pipe(Effect.provide(Client), TenantCredentials.provide(tenantId))
        const inSight = yield* Effect.all([
          owner(url),
          owner(url).pipe(forTenant("globex")),
          owner(url).pipe(forTenant("acme"), forTenant("globex"))
        ]).pipe(forTenant("acme"))
        assert.deepStrictEqual(inSight, ["acme", "globex", "acme"])
      }).pipe(Effect.provide(Transport), Effect.provide(Platform)))

    it.live("carries nothing of the other tenant beside its own, though the other's goes into another header", () =>
      Effect.gen(function*() {
        const { server, url } = yield* headersSent
        const at = (headers?: Record<string, string>) =>
          CredentialHttpClient.layer({ ref: "hubspot", allowedHosts: [new URL(url).host], ...(headers && { headers }) })
        yield* HttpClient.get(url).pipe(
          Effect.provide(at().pipe(TenantCredentials.provideLayer("globex"))),
          Effect.provide(at({ "x-key": "{{hubspot}}" }).pipe(TenantCredentials.provideLayer("acme")))
        )
        const [sent] = server.requests
        assert.match(String(sent?.headers["authorization"]), /^Bearer /)
        assert.isUndefined(sent?.headers["x-key"])
      }).pipe(Effect.provide(Transport), Effect.provide(Platform)))

    it.live("of two stores that a program builds itself, the inner client's credential is sent", () =>
      Effect.gen(function*() {
        const { options, url } = yield* api
        const Client = CredentialHttpClient.layer(options)
        const owners = yield* Effect.all([
          owner(url),
          owner(url).pipe(withStore(ownStore("globex"), Client)),
          owner(url)
        ]).pipe(withStore(ownStore("acme"), Client))
        assert.deepStrictEqual(owners, ["acme", "globex", "acme"])
      }).pipe(Effect.provide(Transport), Effect.provide(Platform)))

    it.live("two credentials of one request are both sent, each in its header", () =>
      Effect.gen(function*() {
        const { server, url } = yield* headersSent
        const at = (headers?: Record<string, string>) =>
          CredentialHttpClient.layer({ ref: "hubspot", allowedHosts: [new URL(url).host], ...(headers && { headers }) })
        yield* HttpClient.get(url).pipe(
          withStore(TenantCredentials.get("acme"), at()),
          withStore(ownStore("globex"), at({ "x-gateway": "{{hubspot}}" }))
        )
        const [sent] = server.requests
        assert.match(String(sent?.headers["authorization"]), /^Bearer /)
        assert.isString(sent?.headers["x-gateway"])
      }).pipe(Effect.provide(Transport), Effect.provide(Platform)))
  })

  it.live("a client over a store that is no tenant's goes on working while a tenant is served", () =>
    Effect.gen(function*() {
      const { options, url } = yield* api
      const Client = CredentialHttpClient.layer(options).pipe(Layer.provide(Transport), Layer.provide(ownStore("acme")))
      const found = yield* owner(url).pipe(Effect.provide(TenantCredentials.get("globex")), Effect.provide(Client))
      assert.strictEqual(found, "acme")
    }).pipe(Effect.provide(Platform)))
})

describe("UsageReporter.layer, one layer value for two tenants", () => {
  const Client = (tenantId: string) =>
    Layer.unwrap(Effect.map(AdenEmulator, ({ url }) => AdenClient.layer({ baseUrl: url, apiKey: keyOf(tenantId) })))
      .pipe(
        Layer.provide(Transport)
      )

  const report = (operation: string) =>
    Effect.flatMap(UsageReporter, (usage) => usage.report("hubspot", { operation, status: "success" }))

  const Reporter = UsageReporter.layer()
  const inTenant = (tenantId: string) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(
      Effect.provide(Reporter),
      Effect.provide(Client(tenantId)),
      TenantCredentials.provide(tenantId)
    )

  const received = Effect.flatMap(
    AdenEmulator,
    ({ usage }) =>
      Effect.map(usage, (reports) => reports.map(({ operation, tenantId }) => `${tenantId}: ${operation}`).toSorted())
  )

  it.live("nested provides: each report goes to its own tenant's Aden", () =>
    Effect.gen(function*() {
      yield* Effect.all([report("one"), report("two").pipe(inTenant("globex")), report("three")]).pipe(inTenant("acme"))
      assert.deepStrictEqual(yield* received, ["acme: one", "acme: three", "globex: two"])
    }).pipe(Effect.provide(Platform)))

  it.live("a reporter of one tenant does not send what is reported while another tenant is served", () =>
    Effect.gen(function*() {
      yield* Effect.all([
        report("one"),
        report("two").pipe(TenantCredentials.provide("globex"))
      ]).pipe(inTenant("acme"))
      assert.deepStrictEqual(yield* received, ["acme: one"])
    }).pipe(Effect.provide(Platform)))
})
