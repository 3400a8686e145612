/**
 * Layers over a `CredentialStore` that never work for another store than the one they were provided with.
 *
 * Effect memoises layers by reference: a layer that is provided a second time, inside the first or in the same build, is the
 * first instance. That instance holds the first store, which may be another tenant's.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { CredentialStore } from "./CredentialStore.ts"

type Store = CredentialStore["Service"]

/**
 * A layer with one instance for each store. Those over one store share an instance, as with any layer; those over two stores
 * never do, and neither do the layers that `pipe` makes of it.
 */
export const perStore = <I, S, E, R>(
  service: Context.Key<I, S>,
  make: Effect.Effect<S, E, R>
): Layer.Layer<I, E, Exclude<R, Scope.Scope> | CredentialStore> => {
  // the key by which Effect memoises: a layer value for each store
  const layers = new WeakMap<Store, Layer.Layer<I, E, Exclude<R, Scope.Scope>>>()
  const layerOver = (store: Store) => {
    const layer = layers.get(store) ?? Layer.effect(service, make)
    layers.set(store, layer)
    return layer
  }
  return unshared(
    Layer.fromBuild((memoMap, scope) =>
      Effect.flatMap(CredentialStore, (store) => Layer.buildWithMemoMap(layerOver(store), memoMap, scope))
    )
  )
}

/** The tenant of each store that `TenantCredentials` built. */
const tenants = new WeakMap<Store, string>()

export const setTenant = (store: Store, tenantId: string): void => {
  tenants.set(store, tenantId)
}

/**
 * Why what stands over `store` must not work where a fiber has these services: the store is one tenant's, and the fiber runs with
 * another tenant's. It happens where Effect memoised a layer of the program's own that holds what stands over the store.
 */
export const tenantMismatch = (store: Store, services: Context.Context<never>): string | undefined => {
  const around = Context.getOrUndefined(services, CredentialStore)
  const own = tenants.get(store)
  const other = around === undefined ? undefined : tenants.get(around)
  return own === undefined || other === undefined || own === other
    ? undefined
    : `it belongs to tenant ${JSON.stringify(own)}, and the program runs for tenant ${JSON.stringify(other)}`
}

/** What to do about a mismatch. */
export const onePerTenant =
  "Build what holds it for each tenant: provide it inside TenantCredentials.get, and a layer of your own by Layer.fresh."

// internal

/** A layer that Effect memoises neither by itself nor as a part of what `pipe` makes of it. Its dependencies stay memoised. */
const unshared = <A, E, R>(layer: Layer.Layer<A, E, R>): Layer.Layer<A, E, R> => {
  const self = Layer.fromBuild<A, E, R>((memoMap, scope) =>
    Layer.buildWithMemoMap(layer, memoiseAllBut(layer, memoMap), scope)
  )
  const pipe = (...steps: ReadonlyArray<(value: unknown) => unknown>): unknown =>
    steps.reduce<unknown>((value, step) => {
      const made = step(value)
      return Layer.isLayer(made) ? unshared(made) : made
    }, self)
  return Object.defineProperty(self, "pipe", { value: pipe })
}

const memoiseAllBut = (excepted: unknown, memoMap: Layer.MemoMap): Layer.MemoMap => {
  const getOrElseMemoize: Layer.MemoMap["getOrElseMemoize"] = (layer, scope, build) =>
    layer === excepted ? build(memoMap, scope) : memoMap.getOrElseMemoize(layer, scope, build)
  return Object.create(memoMap, { getOrElseMemoize: { value: getOrElseMemoize } })
}
