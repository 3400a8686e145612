/**
 * Effect memoises layers by reference, so that a layer which a second tenant provides can be the instance of the first. However
 * layers are composed, the second tenant is refused there, or is served with its own token.
 */
import { assert, describe, it } from "@effect/vitest"
import { TenantCredentials, TenantError } from "aden-credentials"
import { Deferred, Effect, Exit, Fiber, Layer, LayerMap, ManagedRuntime, pipe, Scheduler, Scope } from "effect"
import { HttpClient } from "effect/http"
import { repeats, sampled } from "../fixtures/repeats.ts"
import {
  AcmeCrm,
  Aden,
  api,
  type ClientLayer,
  compositions,
  GlobexCrm,
  owner,
  ownerBy,
  Platform,
  tenantsWith
} from "../fixtures/twoTenants.ts"

/** Succeeds with the refusal of a tenant whose layers would be another's. */
const orRefusal = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A | string, E, R> =>
  Effect.catch(effect, (error) =>
    error instanceof TenantError && error.reason._tag === "TenantsShareLayers"
      ? Effect.succeed(`${error.tenantId} refused: ${error.reason.owner}`)
      : Effect.fail(error))

const refused = "globex refused: acme"

/** A client over the plain store of a tenant; nothing above it sees the store. */
const over = (tenantId: string, Client: ClientLayer) => pipe(Client, Layer.provide(TenantCredentials.get(tenantId)))

/** What runs with a client over the plain store of a tenant, and sees both. */
const inTenant = (tenantId: string, Client: ClientLayer) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  effect.pipe(Effect.provide(Client), Effect.provide(TenantCredentials.get(tenantId)))

const crms = (
  acme: Layer.Layer<HttpClient.HttpClient, unknown, TenantCredentials>,
  globex: Layer.Layer<HttpClient.HttpClient, unknown, TenantCredentials>
) => Layer.mergeAll(AcmeCrm.layer.pipe(Layer.provide(acme)), GlobexCrm.layer.pipe(Layer.provide(globex)))

const crmOwners = (url: string) =>
  Effect.gen(function*() {
    return [yield* ownerBy(yield* AcmeCrm, url), yield* ownerBy(yield* GlobexCrm, url)]
  })

describe.each(sampled(compositions, 3, 1))("one client layer for two tenants, %s", (_, compose) => {
  it.live("over the plain stores, one provided inside the other: the second is refused, the first goes on", () =>
    Effect.gen(function*() {
      const { options, url } = yield* api
      const Client = compose(options)
      const seen = yield* Effect.all([
        owner(url),
        orRefusal(owner(url).pipe(inTenant("globex", Client))),
        owner(url).pipe(inTenant("acme", Client)),
        owner(url)
      ]).pipe(inTenant("acme", Client))
      assert.deepStrictEqual(seen, ["acme", refused, "acme", "acme"])
      const hidden = yield* Effect.all([
        owner(url),
        orRefusal(owner(url).pipe(Effect.provide(over("globex", Client)))),
        owner(url).pipe(Effect.provide(over("acme", Client))),
        owner(url)
      ]).pipe(Effect.provide(over("acme", Client)))
      assert.deepStrictEqual(hidden, ["acme", refused, "acme", "acme"])
    }).pipe(Effect.provide(Platform)))

  it.live("over the plain stores in one build: refused", () =>
    Effect.gen(function*() {
      const { options, url } = yield* api
      const Client = compose(options)
      const built = yield* orRefusal(
        crmOwners(url).pipe(Effect.provide(crms(over("acme", Client), over("globex", Client))))
      )
      assert.include([refused, "acme refused: globex"], built)
    }).pipe(Effect.provide(Platform)))

  it.live("over the plain stores, one after the other and side by side: each with its own token", () =>
    Effect.gen(function*() {
      const { options, url } = yield* api
      const Client = compose(options)
      for (const tenantId of ["acme", "globex", "acme"]) {
        assert.strictEqual(yield* owner(url).pipe(inTenant(tenantId, Client)), tenantId)
        assert.strictEqual(yield* owner(url).pipe(Effect.provide(over(tenantId, Client))), tenantId)
      }
      const calls = repeats(200)
      const crossed = yield* Effect.forEach(Array.from({ length: calls }, (_, n) => n), (n) => {
        const tenantId = n % 2 === 0 ? "acme" : "globex"
        const call = n % 4 < 2 ? inTenant(tenantId, Client) : Effect.provide(over(tenantId, Client))
        return owner(url).pipe(call, Effect.map((found) => found === tenantId ? [] : [found]))
      }, { concurrency: 16 })
      assert.deepStrictEqual(crossed.flat(), [])
    }).pipe(Effect.provide(Platform)))

  it.live("with provide and provideLayer: each with its own token, however they are nested and merged", () =>
    Effect.gen(function*() {
      const { options, url } = yield* api
      const Client = compose(options)
      const forTenant = (tenantId: string) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        effect.pipe(Effect.provide(Client), TenantCredentials.provide(tenantId))
      const own = (tenantId: string) => Client.pipe(TenantCredentials.provideLayer(tenantId))
      const nested = Effect.all([
        owner(url),
        owner(url).pipe(forTenant("globex")),
        owner(url).pipe(forTenant("acme"), forTenant("globex")),
        owner(url)
      ])
      for (const outer of [forTenant("acme"), inTenant("acme", Client), Effect.provide(own("acme"))]) {
        assert.deepStrictEqual(yield* nested.pipe(outer), ["acme", "globex", "acme", "acme"])
      }
      const merged = yield* Effect.all([
        owner(url),
        owner(url).pipe(Effect.provide(own("globex"))),
        crmOwners(url).pipe(Effect.provide(crms(own("acme"), own("globex")))),
        owner(url)
      ]).pipe(Effect.provide(own("acme")))
      assert.deepStrictEqual(merged, ["acme", "globex", ["acme", "globex"], "acme"])
    }).pipe(Effect.provide(Platform)))

  it.live("in a ManagedRuntime: two of its own are refused, what runs in it side by side is served, one inside its own is not", () =>
    Effect.gen(function*() {
      const { options, url } = yield* api
      const Client = compose(options)
      const platform = Layer.succeedContext(yield* Layer.build(Platform))
      const both = ManagedRuntime.make(
        crms(over("acme", Client), over("globex", Client)).pipe(
          Layer.provideMerge(platform)
        )
      )
      const built = yield* Effect.promise(() => both.runPromise(Effect.void).then(() => "built", String))
      assert.include(built, "where Effect would share their layers")
      yield* both.disposeEffect

      const none = ManagedRuntime.make(platform)
      const served = yield* Effect.promise(() =>
        Promise.all(
          ["acme", "globex", "acme"].map((tenantId) => none.runPromise(owner(url).pipe(inTenant(tenantId, Client))))
        )
      )
      assert.deepStrictEqual(served, ["acme", "globex", "acme"])
      yield* none.disposeEffect

      const one = ManagedRuntime.make(
        Client.pipe(Layer.provide(TenantCredentials.get("acme")), Layer.provideMerge(platform))
      )
      const inside = yield* Effect.promise(() =>
        Promise.all([
          one.runPromise(owner(url)),
          one.runPromise(orRefusal(owner(url).pipe(Effect.provide(over("globex", Client))))),
          one.runPromise(owner(url).pipe(Effect.provide(Client), TenantCredentials.provide("globex"))),
          one.runPromise(owner(url).pipe(Effect.provide(over("acme", Client))))
        ])
      )
      assert.deepStrictEqual(inside, ["acme", refused, "globex", "acme"])
      yield* one.disposeEffect
    }))

  it.live("in a LayerMap: the second is refused while the first is there, and served when it is gone", () =>
    Effect.gen(function*() {
      const { options, url } = yield* api
      const Client = compose(options)
      const clients = yield* LayerMap.make((tenantId: string) => over(tenantId, Client))
      const ask = (tenantId: string) => orRefusal(owner(url).pipe(Effect.provide(clients.get(tenantId))))
      const together = yield* Effect.all([owner(url), ask("globex"), ask("acme")]).pipe(
        Effect.provide(clients.get("acme"))
      )
      assert.deepStrictEqual(together, ["acme", refused, "acme"])
      assert.strictEqual(yield* ask("globex"), "globex")
      assert.strictEqual(yield* ask("acme"), "acme")

      const own = yield* LayerMap.make((tenantId: string) => Client.pipe(TenantCredentials.provideLayer(tenantId)))
      const apart = yield* Effect.all([owner(url), owner(url).pipe(Effect.provide(own.get("globex"))), owner(url)])
        .pipe(Effect.provide(own.get("acme")))
      assert.deepStrictEqual(apart, ["acme", "globex", "acme"])
    }).pipe(Effect.scoped, Effect.provide(Platform)))

  it.live("asked for at once in one memo map: one is served, the other is refused", () =>
    Effect.gen(function*() {
      const { options, url } = yield* api
      const Client = compose(options)
      const scope = yield* Effect.scope
      for (let n = 0; n < repeats(20); n++) {
        const memoMap = yield* Layer.makeMemoMap
        const tenants = n % 2 === 0 ? ["acme", "globex"] : ["globex", "acme"]
        const served = yield* Effect.forEach(tenants, (tenantId) =>
          Layer.buildWithMemoMap(over(tenantId, Client), memoMap, scope).pipe(
            Effect.flatMap((context) =>
              Effect.provide(owner(url), context)
            ),
            orRefusal
          ), { concurrency: "unbounded" })
        assert.deepStrictEqual(served, [tenants[0], `${tenants[1]} refused: ${tenants[0]}`])
      }
    }).pipe(Effect.scoped, Effect.provide(Platform)))
})

/** Yields at another third of the steps for each seed. */
class OftenYielding extends Scheduler.MixedScheduler {
  #state: number
  constructor(seed: number) {
    super()
    this.#state = seed
  }
  override shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0
    return this.#state < 2 ** 32 / 3 || super.shouldYield(fiber)
  }
}

describe("a memo map belongs to a tenant as long as the tenant is there", () => {
  const Client = (options: Parameters<(typeof compositions)[number][1]>[0]) => compositions[3]![1](options)
  const store = (tenantId: string, memoMap: Layer.MemoMap, scope: Scope.Scope) =>
    Layer.buildWithMemoMap(TenantCredentials.get(tenantId), memoMap, scope)

  it.live("the refusal names both tenants and what to use, and is not retryable", () =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      const memoMap = yield* Layer.makeMemoMap
      yield* store("acme", memoMap, scope)
      const error = yield* Effect.flip(store("globex", memoMap, scope))
      assert.strictEqual(
        error.message,
        `Tenant "globex" has no credentials: tenant "acme" is provided in the same build or around it, where Effect would share their layers`
      )
      assert.include(error.remedy, `TenantCredentials.provide("globex")`)
      assert.include(error.remedy, `TenantCredentials.provideLayer("globex")`)
      assert.isFalse(error.isRetryable)
    }).pipe(Effect.scoped, Effect.provide(Platform)))

  it.live("a tenant of another TenantCredentials is another tenant, though its id is the same", () =>
    Effect.gen(function*() {
      const one = yield* Layer.build(Layer.fresh(tenantsWith(() => Effect.void)))
      const other = yield* Layer.build(Layer.fresh(tenantsWith(() => Effect.void)))
      const acme = TenantCredentials.get("acme")
      const error = yield* TenantCredentials.pipe(
        Effect.provide(acme.pipe(Layer.provideMerge(Layer.succeedContext(other)))),
        Effect.provide(acme.pipe(Layer.provideMerge(Layer.succeedContext(one)))),
        Effect.flip
      )
      assert(error._tag === "TenantError")
      assert.include(error.message, `tenant "acme" of another TenantCredentials is provided`)
    }).pipe(Effect.scoped, Effect.provide(Aden)))

  it.live("a tenant whose store is built again after invalidate stays the same tenant", () =>
    Effect.gen(function*() {
      const { options, url } = yield* api
      const seen = yield* Effect.gen(function*() {
        yield* TenantCredentials.invalidate("acme")
        return [yield* owner(url), yield* owner(url).pipe(inTenant("acme", Client(options)))]
      }).pipe(inTenant("acme", Client(options)))
      assert.deepStrictEqual(seen, ["acme", "acme"])
    }).pipe(Effect.provide(Platform)))

  it.live("a build that is interrupted, or fails, leaves the memo map to the next tenant", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const Tenants = tenantsWith((tenantId) =>
        tenantId === "acme" ? Effect.andThen(Deferred.succeed(started, undefined), Effect.never) : Effect.void
      )
      yield* Effect.gen(function*() {
        const memoMap = yield* Layer.makeMemoMap
        const scope = yield* Effect.scope
        const building = yield* Effect.forkChild(store("acme", memoMap, scope))
        yield* Deferred.await(started)
        const refusal = yield* orRefusal(store("globex", memoMap, scope))
        assert.strictEqual(refusal, refused)
        yield* Fiber.interrupt(building)
        assert.strictEqual((yield* Effect.flip(store("", memoMap, scope))).reason._tag, "InvalidTenantId")
        yield* store("globex", memoMap, scope)
      }).pipe(Effect.provide(Tenants))
    }).pipe(Effect.scoped, Effect.provide(Aden)))

  it.live("a memo map is the next tenant's when all have closed that used it for the first", () =>
    Effect.gen(function*() {
      const memoMap = yield* Layer.makeMemoMap
      const [one, other, last] = [yield* Scope.make(), yield* Scope.make(), yield* Scope.make()]
      yield* store("acme", memoMap, one)
      yield* store("acme", yield* Layer.forkMemoMap(memoMap), other)
      yield* Scope.close(one, Exit.void)
      assert.strictEqual(yield* orRefusal(store("globex", memoMap, last)), refused)
      yield* Scope.close(other, Exit.void)
      yield* store("globex", memoMap, last)
      yield* Scope.close(last, Exit.void)
    }).pipe(Effect.provide(Platform)))

  it.live("a client that outlives the store that it was built over keeps the memo map", () =>
    Effect.gen(function*() {
      const { options } = yield* api
      const memoMap = yield* Layer.makeMemoMap
      const [one, other] = [yield* Scope.make(), yield* Scope.make()]
      const acme = yield* store("acme", memoMap, one)
      yield* Layer.buildWithMemoMap(Client(options), memoMap, other).pipe(Effect.provide(acme))
      yield* Scope.close(one, Exit.void)
      const scope = yield* Effect.scope
      assert.strictEqual(yield* orRefusal(store("globex", memoMap, scope)), refused)
      yield* Scope.close(other, Exit.void)
      yield* store("globex", memoMap, scope)
    }).pipe(Effect.scoped, Effect.provide(Platform)))

  it.live("what a layer provides while it is built is provided in the memo map of its tenant, in a fresh one, too", () =>
    Effect.gen(function*() {
      const { options, url } = yield* api
      const client = Client(options)
      // each CRM provides its client itself, while it is built
      const Acme = Layer.effect(AcmeCrm, HttpClient.HttpClient.pipe(Effect.provide(client)))
      const Globex = Layer.effect(GlobexCrm, HttpClient.HttpClient.pipe(Effect.provide(client)))
      const ways: ReadonlyArray<Layer.Layer<AcmeCrm | GlobexCrm | HttpClient.HttpClient, unknown, TenantCredentials>> =
        [
          // a client of acme's in the memo map around
          Layer.merge(over("acme", client), AcmeCrm.layer.pipe(Layer.provide(over("acme", client)))).pipe(
            Layer.merge(Layer.fresh(Globex.pipe(Layer.provide(TenantCredentials.get("globex")))))
          ),
          Layer.merge(over("acme", client), AcmeCrm.layer.pipe(Layer.provide(over("acme", client)))).pipe(
            Layer.merge(Globex.pipe(TenantCredentials.provideLayer("globex")))
          ),
          Layer.mergeAll(
            over("acme", client),
            Acme.pipe(TenantCredentials.provideLayer("acme")),
            Globex.pipe(TenantCredentials.provideLayer("globex"))
          )
        ]
      for (const way of ways) {
        assert.deepStrictEqual(yield* crmOwners(url).pipe(Effect.provide(way)), ["acme", "globex"])
      }
    }).pipe(Effect.provide(Platform)))

  it.live("a value of provideLayer is one instance, however often a build uses it", () =>
    Effect.gen(function*() {
      const { options } = yield* api
      const Acme = Client(options).pipe(TenantCredentials.provideLayer("acme"))
      const same = yield* Effect.map(Effect.all([AcmeCrm, GlobexCrm]), ([one, other]) => one === other).pipe(
        Effect.provide(crms(Acme, Acme))
      )
      assert.isTrue(same)
    }).pipe(Effect.provide(Platform)))

  it.live("a memo map is not claimed while one that was forked from it is another tenant's", () =>
    Effect.gen(function*() {
      const { options, url } = yield* api
      const gate = yield* Deferred.make<void>()
      const started = yield* Deferred.make<void>()
      const Tenants = tenantsWith((tenantId) =>
        tenantId === "acme" ? Effect.andThen(Deferred.succeed(started, undefined), Deferred.await(gate)) : Effect.void
      )
      yield* Effect.gen(function*() {
        const memoMap = yield* Layer.makeMemoMap
        const scope = yield* Effect.scope
        const client = Client(options)
        const forked = yield* Layer.forkMemoMap(memoMap)
        const worker = yield* Effect.forkChild(
          Layer.buildWithMemoMap(over("acme", client), forked, scope).pipe(
            Effect.flatMap((context) => Effect.provide(owner(url), context))
          )
        )
        yield* Deferred.await(started)
        const globex = yield* orRefusal(Effect.asVoid(Layer.buildWithMemoMap(over("globex", client), memoMap, scope)))
        yield* Deferred.succeed(gate, undefined)
        assert.deepStrictEqual([yield* Fiber.join(worker), globex], ["acme", refused])
      }).pipe(Effect.provide(Tenants))
    }).pipe(Effect.scoped, Effect.provide(Aden)))

  it.live("a memo map that two tenants have below it is neither's, though one of them was refused there and has a client", () =>
    Effect.gen(function*() {
      const { options } = yield* api
      const memoMap = yield* Layer.makeMemoMap
      const scope = yield* Effect.scope
      const acme = yield* store("acme", yield* Layer.forkMemoMap(memoMap), scope)
      yield* store("globex", yield* Layer.forkMemoMap(memoMap), scope)
      yield* Layer.buildWithMemoMap(Client(options), memoMap, scope).pipe(Effect.provide(acme))
      assert.strictEqual(yield* orRefusal(store("acme", memoMap, scope)), "acme refused: globex")
      assert.strictEqual(yield* orRefusal(store("globex", memoMap, scope)), refused)
    }).pipe(Effect.scoped, Effect.provide(Platform)))

  it.live("of two that ask at once, one in a memo map and one in a fork of it, one is served, wherever fibers yield", () =>
    Effect.gen(function*() {
      for (let n = 0; n < repeats(200); n++) {
        const memoMap = yield* Layer.makeMemoMap
        const forked = yield* Layer.forkMemoMap(memoMap)
        const served = yield* Effect.forEach(
          [["acme", memoMap], ["globex", forked]] as const,
          ([tenantId, map]) =>
            Effect.scope.pipe(
              Effect.flatMap((scope) => store(tenantId, map, scope)),
              Effect.as(tenantId),
              orRefusal
            ),
          { concurrency: "unbounded" }
        ).pipe(
          Effect.scoped,
          Effect.provideService(Scheduler.Scheduler, new OftenYielding(n))
        )
        assert.include([["acme", refused], ["acme refused: globex", "globex"]].map(String), String(served))
      }
    }).pipe(Effect.provide(Platform)))
})
