/**
 * Layers over a store work for the tenant that they are provided for, whatever Effect memoises: a real Aden with two tenants, and a
 * real API that says whose token it was sent.
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
import { ConfigProvider, Context, Effect, Layer, ManagedRuntime, pipe, Redacted } from "effect"
import { FetchHttpClient, HttpClient } from "effect/http"
import { repeats } from "../fixtures/repeats.ts"
import { reply, scriptedServer } from "../fixtures/scriptedServer.ts"
import { NodeFiles } from "../storage/temporaryStorage.ts"

const keyOf = (tenantId: string) => Redacted.make(`aden_sk_${tenantId}_7Qk2vB9xZr4T`)

const Aden = AdenEmulator.layer({
  tenants: ["acme", "globex"].map((id) => ({
    id,
    apiKeys: [keyOf(id)],
    integrations: [{ id: "hubspot", tokenLifetime: "1 hour" }]
  }))
})

const Transport = FetchHttpClient.layer

/** The stores of tenants, in memory. */
const Tenants = Layer.unwrap(Effect.map(AdenEmulator, ({ url }) =>
  TenantCredentials.layer({
    lookup: (tenantId) =>
      CredentialStore.layer().pipe(
        Layer.provide(AdenSyncProvider.layer()),
        Layer.provide(AdenClient.layer({ baseUrl: url, apiKey: keyOf(tenantId) })),
        Layer.provide(MemoryStorage.layer())
      )
  }))).pipe(Layer.provide([NodeFiles, FetchHttpClient.layer, ConfigProvider.layer(ConfigProvider.fromUnknown({}))]))

const Platform = Tenants.pipe(Layer.provideMerge(Aden))

/** Answers with the token that it was sent. */
const api = Effect.map(
  scriptedServer({
    replies: [
      (response, request) => reply(200, { token: String(request.headers["authorization"]).slice(7) })(response, request)
    ]
  }),
  ({ port, url }) => ({ url: `${url}/me`, options: { ref: "hubspot", allowedHosts: [`127.0.0.1:${port}`] } })
)

/** Whose token a client sends. */
const ownerBy = Effect.fnUntraced(function*(http: HttpClient.HttpClient, url: string) {
  const body = yield* Effect.flatMap(http.get(url), (response) => response.json)
  const sent = (body as { readonly token: string }).token
  const issued = (yield* Effect.flatMap(AdenEmulator, (aden) => aden.issuedTokens)).find(({ value }) =>
    Redacted.value(value) === sent
  )
  return issued?.tenantId
})

const owner = (url: string) => Effect.flatMap(HttpClient.HttpClient, (http) => ownerBy(http, url))

/** What runs for a tenant, with a client of the layer that all have in common. */
const inTenant =
  (tenantId: string, Client: Layer.Layer<HttpClient.HttpClient, unknown, CredentialStore>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(Effect.provide(Client), Effect.provide(TenantCredentials.get(tenantId)))

/** A service of the program's own that keeps the client which it was built with. */
class AcmeCrm extends Context.Service<AcmeCrm, HttpClient.HttpClient>()("test/AcmeCrm") {
  static readonly layer = Layer.effect(AcmeCrm, HttpClient.HttpClient)
}
class GlobexCrm extends Context.Service<GlobexCrm, HttpClient.HttpClient>()("test/GlobexCrm") {
  static readonly layer = Layer.effect(GlobexCrm, HttpClient.HttpClient)
}

type Options = Parameters<typeof CredentialHttpClient.layer>[0]

/** How programs make the one layer value that they use everywhere. */
const compositions: ReadonlyArray<
  readonly [name: string, make: (options: Options) => Layer.Layer<HttpClient.HttpClient, unknown, CredentialStore>]
> = [
  ["piped into its transport", (options) => CredentialHttpClient.layer(options).pipe(Layer.provide(Transport))],
  [
    "piped in several steps",
    (options) =>
      CredentialHttpClient.layer(options).pipe(Layer.provide(Transport), Layer.orDie, Layer.tap(() => Effect.void))
  ],
  ["piped again", (options) => CredentialHttpClient.layer(options).pipe(Layer.provide(Transport)).pipe(Layer.orDie)]
]

describe("CredentialHttpClient.layer, one layer value for two tenants", () => {
  describe.each(compositions)("%s", (_, compose) => {
    it.live("nested provides: each request carries its own tenant's token, and the outer one after the inner one, too", () =>
      Effect.gen(function*() {
        const { options, url } = yield* api
        const Client = compose(options)
        const owners = yield* Effect.all([
          owner(url),
          owner(url).pipe(inTenant("globex", Client)),
          owner(url).pipe(inTenant("acme", Client), inTenant("globex", Client)),
          owner(url)
        ]).pipe(inTenant("acme", Client))
        assert.deepStrictEqual(owners, ["acme", "globex", "acme", "acme"])
      }).pipe(Effect.provide(Platform)))

    it.live("merged in one build: each service keeps its own tenant's client", () =>
      Effect.gen(function*() {
        const { options, url } = yield* api
        const Client = compose(options)
        const Both = Layer.merge(
          AcmeCrm.layer.pipe(Layer.provide(Client), Layer.provide(TenantCredentials.get("acme"))),
          GlobexCrm.layer.pipe(Layer.provide(Client), Layer.provide(TenantCredentials.get("globex")))
        )
        const owners = yield* Effect.gen(function*() {
          return [yield* ownerBy(yield* AcmeCrm, url), yield* ownerBy(yield* GlobexCrm, url)]
        }).pipe(Effect.provide(Both))
        assert.deepStrictEqual(owners, ["acme", "globex"])
      }).pipe(Effect.provide(Platform)))

    it.live("ManagedRuntime with the client of one tenant: what runs in it for another tenant carries the other's token", () =>
      Effect.gen(function*() {
        const { options, url } = yield* api
        const Client = compose(options)
        const platform = yield* Layer.build(Platform)
        const runtime = ManagedRuntime.make(
          Client.pipe(
            Layer.provideMerge(TenantCredentials.get("acme")),
            Layer.provideMerge(Layer.succeedContext(platform))
          )
        )
        const owners = yield* Effect.promise(() =>
          Promise.all([
            runtime.runPromise(owner(url)),
            runtime.runPromise(owner(url).pipe(inTenant("globex", Client))),
            runtime.runPromise(owner(url).pipe(inTenant("acme", Client)))
          ])
        )
        yield* runtime.disposeEffect
        assert.deepStrictEqual(owners, ["acme", "globex", "acme"])
      }))

    const calls = repeats(1_000)
    it.live(`${calls} interleaved calls of two tenants inside a client that is provided around them: none crosses`, () =>
      Effect.gen(function*() {
        const { options, url } = yield* api
        const Client = compose(options)
        const crossed = yield* Effect.forEach(Array.from({ length: calls }, (_, n) => n), (n) => {
          const tenantId = n % 2 === 0 ? "acme" : "globex"
          return owner(url).pipe(inTenant(tenantId, Client), Effect.map((found) => found === tenantId ? [] : [found]))
        }, { concurrency: 16 }).pipe(inTenant("acme", Client))
        assert.deepStrictEqual(crossed.flat(), [])
      }).pipe(Effect.provide(Platform)))
  })

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

  it.live("where a layer of the program's own is memoised with the client in it, the other tenant is refused it", () =>
    Effect.gen(function*() {
      const { options, url } = yield* api
      const Crm = AcmeCrm.layer.pipe(Layer.provide(CredentialHttpClient.layer(options)), Layer.provide(Transport))
      const send = Effect.flatMap(AcmeCrm, (crm) => ownerBy(crm, url)).pipe(CredentialHttpClient.unwrapFailure)
      const inCrm = (tenantId: string, layer: typeof Crm) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        effect.pipe(Effect.provide(layer), Effect.provide(TenantCredentials.get(tenantId)))
      const error = yield* Effect.flip(send.pipe(inCrm("globex", Crm))).pipe(inCrm("acme", Crm))
      assert(error._tag === "CredentialHostDenied")
      assert.include(error.message, `it belongs to tenant "acme", and the program runs for tenant "globex"`)
      assert.include(error.remedy, "TenantCredentials.provide")
      const fresh = yield* send.pipe(inCrm("globex", Layer.fresh(Crm)), inCrm("acme", Crm))
      assert.strictEqual(fresh, "globex")
    }).pipe(Effect.provide(Platform)))

  it.live("with provide and provideLayer each tenant has its own instance of layers that were composed in any way", () =>
    Effect.gen(function*() {
      const { options, url } = yield* api
      const client = CredentialHttpClient.layer(options)
      const ways: ReadonlyArray<Layer.Layer<HttpClient.HttpClient, unknown, CredentialStore>> = [
        pipe(client, Layer.provide(Transport)),
        Layer.provide(client, Transport),
        Layer.suspend(() => client).pipe(Layer.provide(Transport)),
        Layer.mergeAll(client, Layer.empty).pipe(Layer.provide(Transport))
      ]
      for (const Client of ways) {
        const nested = yield* Effect.all([
          owner(url),
          owner(url).pipe(Effect.provide(Client), TenantCredentials.provide("globex")),
          owner(url)
        ]).pipe(Effect.provide(Client), TenantCredentials.provide("acme"))
        assert.deepStrictEqual(nested, ["acme", "globex", "acme"])
        const hidden = yield* owner(url).pipe(Effect.provide(Client.pipe(TenantCredentials.provideLayer("globex"))))
          .pipe(
            Effect.flatMap((inner) => Effect.map(owner(url), (outer) => [outer, inner])),
            Effect.provide(Client.pipe(TenantCredentials.provideLayer("acme")))
          )
        assert.deepStrictEqual(hidden, ["acme", "globex"])
        const merged = Layer.merge(
          AcmeCrm.layer.pipe(Layer.provide(Client), TenantCredentials.provideLayer("acme")),
          GlobexCrm.layer.pipe(Layer.provide(Client), TenantCredentials.provideLayer("globex"))
        )
        const owners = yield* Effect.gen(function*() {
          return [yield* ownerBy(yield* AcmeCrm, url), yield* ownerBy(yield* GlobexCrm, url)]
        }).pipe(Effect.provide(merged))
        assert.deepStrictEqual(owners, ["acme", "globex"])
      }
    }).pipe(Effect.provide(Platform)))

  it.live("what a client brings along is built once for each store, and once where the client brings its store too", () =>
    Effect.gen(function*() {
      const { options } = yield* api
      let built = 0
      const Counted = Transport.pipe(Layer.tap(() => Effect.sync(() => built++)), Layer.fresh)
      const both = (Client: Layer.Layer<HttpClient.HttpClient, unknown, CredentialStore>) =>
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
      const inCrm = (tenants: typeof one) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        effect.pipe(
          Effect.provide(Crm),
          Effect.provide(TenantCredentials.get("acme").pipe(Layer.provide(Layer.succeedContext(tenants))))
        )
      const error = yield* Effect.flip(send.pipe(inCrm(other))).pipe(inCrm(one))
      assert(error._tag === "CredentialHostDenied")
      assert.include(error.message, `it belongs to tenant "acme" of another TenantCredentials`)
    }).pipe(Effect.provide(Aden)))

  it.live("a client over a store that is no tenant's goes on working while a tenant is served", () =>
    Effect.gen(function*() {
      const { options, url } = yield* api
      const Own = Layer.unwrap(Effect.map(AdenEmulator, (aden) =>
        CredentialStore.layer().pipe(
          Layer.provide(AdenSyncProvider.layer()),
          Layer.provide(AdenClient.layer({ baseUrl: aden.url, apiKey: keyOf("acme") })),
          Layer.provide([MemoryStorage.layer(), Transport])
        )))
      const Client = CredentialHttpClient.layer(options).pipe(Layer.provide(Transport), Layer.provide(Own))
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
      Effect.provide(TenantCredentials.get(tenantId))
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
        report("two").pipe(Effect.provide(TenantCredentials.get("globex")))
      ]).pipe(inTenant("acme"))
      assert.deepStrictEqual(yield* received, ["acme: one"])
    }).pipe(Effect.provide(Platform)))
})
