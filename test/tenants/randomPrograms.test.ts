/**
 * Programs drawn at random provide three tenants to one another in all ways: nested, merged, at once, by workers that a layer starts,
 * in a `LayerMap`, over layers that are composed in any way. What runs for a tenant has its store, or the tenant is refused.
 */
import { assert, describe, it } from "@effect/vitest"
import { CredentialStore, TenantCredentials, type TenantError, TestCredentials } from "aden-credentials"
import { Context, Effect, FileSystem, Layer, LayerMap, Path, pipe, Random } from "effect"
import { HttpClient } from "effect/http"
import { tenantOf } from "../../src/store/storeTenant.ts"
import { repeats } from "../fixtures/repeats.ts"

type Store = CredentialStore["Service"]

class App extends Context.Service<App, Store>()("test/App") {}
class One extends Context.Service<One, Store>()("test/One") {}
class Other extends Context.Service<Other, Store>()("test/Other") {}

const tenants = ["acme", "globex", "initech"] as const

const below = (n: number) => Effect.map(Random.next, (x) => Math.floor(x * n))
const anyOf = <A>(values: readonly [A, ...ReadonlyArray<A>]) =>
  Effect.map(below(values.length), (n) => values[n] ?? values[0])

/** Lets others run in between. */
const pause = Effect.flatMap(below(12), (times) => Effect.repeat(Effect.yieldNow, { times }))
const Pause = Layer.effectDiscard(pause)

// layers that keep the store which they were built over, and that all tenants have in common
const Plain = Layer.effect(App, Effect.andThen(pause, CredentialStore))
const Piped = pipe(Plain, Layer.provide(Layer.fresh(Pause)))
const Merged = Layer.mergeAll(Piped, Layer.empty)
const Suspended = Layer.suspend(() => Merged)
const Nested = Layer.effect(App, Effect.andThen(pause, Effect.provide(App, Piped)))

const anyApp = anyOf([Plain, Piped, Merged, Suspended, Nested])

const anyLayer = Effect.fnUntraced(function*(tenantId: string) {
  const app = yield* anyApp
  const store = TenantCredentials.get(tenantId)
  return yield* anyOf<Layer.Layer<App, TenantError, TenantCredentials>>([
    app.pipe(Layer.provide(store)),
    Layer.unwrap(Effect.as(Effect.andThen(pause, pause), app.pipe(Layer.provide(store)))),
    Layer.provide(Layer.merge(app, Layer.empty), [store, Layer.fresh(Pause)]),
    Layer.suspend(() => Layer.provide(app, store)),
    Layer.fresh(Layer.provide(app, store)),
    app.pipe(TenantCredentials.provideLayer(tenantId))
  ])
})

/** What was seen: `right` and `refused` are counted, so that both are known to occur. */
const makeWitness = () => {
  const seen = { right: 0, refused: 0, crossed: new Array<string>() }
  const check = (tenantId: string, path: string) => (store: Store) =>
    Effect.sync(() => {
      const owner = tenantOf(store)?.id
      if (owner === tenantId) seen.right++
      else seen.crossed.push(`${path}: ${owner} for ${tenantId}`)
    })
  const orRefused = <R>(effect: Effect.Effect<void, TenantError, R>): Effect.Effect<void, never, R> =>
    Effect.catch(
      effect,
      (error) => error.reason._tag === "TenantsShareLayers" ? Effect.sync(() => void seen.refused++) : Effect.die(error)
    )
  return { seen, check, orRefused }
}

const run = ({ check, orRefused }: ReturnType<typeof makeWitness>) => {
  const program = (depth: number, path: string): Effect.Effect<void, never, TenantCredentials> =>
    Effect.gen(function*() {
      if (depth === 0) return
      yield* pause
      const tenantId = yield* anyOf(tenants)
      const otherId = yield* anyOf(tenants)
      const inside = (how: string, id = tenantId) => {
        const here = `${path} ${how}(${id})`
        return App.use(check(id, here)).pipe(
          Effect.andThen(program(depth - 1, here)),
          Effect.andThen(App.use(check(id, here)))
        )
      }
      switch (yield* below(6)) {
        case 0:
          return yield* inside("provide").pipe(
            Effect.provide(yield* anyApp),
            TenantCredentials.provide(tenantId),
            orRefused
          )
        case 1:
          return yield* inside("get").pipe(
            Effect.provide(yield* anyApp),
            Effect.provide(TenantCredentials.get(tenantId)),
            orRefused
          )
        case 2:
          return yield* inside("layer").pipe(Effect.provide(yield* anyLayer(tenantId)), orRefused)
        case 3:
          return yield* Effect.forEach([1, 2, 3], (n) => program(depth - 1, `${path} ${n}`), {
            concurrency: "unbounded",
            discard: true
          })
        case 4: {
          const here = `${path} build(${tenantId}, ${otherId})`
          const All = Layer.mergeAll(
            Layer.effectDiscard(Effect.forkScoped(program(depth - 1, `${here} worker`))),
            Layer.effect(One, App).pipe(Layer.provide(yield* anyLayer(tenantId))),
            Layer.effectDiscard(program(depth - 1, `${here} layer`)),
            Layer.effect(Other, App).pipe(Layer.provide(yield* anyLayer(otherId)))
          )
          return yield* One.use(check(tenantId, here)).pipe(
            Effect.andThen(Other.use(check(otherId, here))),
            Effect.andThen(program(depth - 1, here)),
            Effect.andThen(pause),
            Effect.provide(All),
            orRefused
          )
        }
        default: {
          const apps = yield* LayerMap.make((id: string) => Layer.provide(Piped, TenantCredentials.get(id)))
          return yield* Effect.forEach(
            [tenantId, otherId],
            (id) => inside("map", id).pipe(Effect.provide(apps.get(id)), orRefused),
            { concurrency: "unbounded", discard: true }
          )
        }
      }
    }).pipe(Effect.scoped)
  return program
}

const Tenants = TenantCredentials.layer({ lookup: () => Effect.as(pause, TestCredentials.layer([])) }).pipe(
  Layer.provide([
    FileSystem.layerNoop({}),
    Path.layer,
    Layer.succeed(HttpClient.HttpClient, HttpClient.make(() => Effect.die("no request is made")))
  ])
)

describe("programs that provide several tenants", () => {
  const programs = repeats(250)
  it.live(`of ${programs} at random none gives a tenant what was built for another`, () =>
    Effect.gen(function*() {
      const witness = makeWitness()
      const program = run(witness)
      yield* Effect.forEach(
        Array.from({ length: programs }, (_, seed) => `seed ${seed}:`),
        (name) => program(5, name).pipe(Random.withSeed(name)),
        { discard: true }
      )
      assert.deepStrictEqual(witness.seen.crossed, [])
      assert.isAbove(witness.seen.right, programs)
      assert.isAbove(witness.seen.refused, programs)
    }).pipe(Effect.provide(Tenants)))
})
