/**
 * Layers over a `CredentialStore` that work for the store they were provided with: one value serves several stores that a program
 * builds itself. Effect memoises layers by reference, so that a second store in one build would be served with the instance of
 * the first. Tenants are kept apart by `memoMapOwner.ts`, however layers are composed.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { CredentialStore } from "./CredentialStore.ts"
import { claimMemoMap } from "./memoMapOwner.ts"
import { tenantOf } from "./storeTenant.ts"

type Store = CredentialStore["Service"]

/**
 * Memoises a layer by the store that it is built over, and so the layers that its `pipe` method makes of it. Where no store is
 * around, the layer brings its own, and is memoised as any other.
 */
export const perStore = <A, E, R>(layer: Layer.Layer<A, E, R>): Layer.Layer<A, E, R> => {
  // Effect memoises by the layer value: each store has one
  const layers = new WeakMap<Store, Layer.Layer<A, E, R>>()
  const layerOver = (store: Store) => {
    const known = layers.get(store)
    if (known !== undefined) return known
    const tenant = tenantOf(store)
    const made = Layer.fromBuildMemo<A, E, R>((memoMap, scope) =>
      // a client that outlives the layer of its store keeps the memo map
      Effect.andThen(
        tenant === undefined ? Effect.void : claimMemoMap(memoMap, scope, tenant),
        Layer.buildWithMemoMap(layer, memoiseAllBut(layer, memoMap), scope)
      )
    )
    layers.set(store, made)
    return made
  }
  const self = Layer.fromBuild<A, E, R>((memoMap, scope) =>
    Effect.flatMap(
      Effect.context(),
      (services) => {
        const store = Context.getOrUndefined(services, CredentialStore)
        return Layer.buildWithMemoMap(store === undefined ? layer : layerOver(store), memoMap, scope)
      }
    )
  )
  const pipe = (...steps: ReadonlyArray<(value: unknown) => unknown>): unknown =>
    steps.reduce<unknown>((value, step) => {
      const made = step(value)
      return Layer.isLayer(made) ? perStore(made) : made
    }, self)
  return Object.defineProperty(self, "pipe", { value: pipe })
}

const memoiseAllBut = (excepted: unknown, memoMap: Layer.MemoMap): Layer.MemoMap => {
  const getOrElseMemoize: Layer.MemoMap["getOrElseMemoize"] = (layer, scope, build) =>
    layer === excepted ? build(memoMap, scope) : memoMap.getOrElseMemoize(layer, scope, build)
  // `parent` says to whom belongs what the layer forks while it is built
  return Object.create(memoMap, { getOrElseMemoize: { value: getOrElseMemoize }, parent: { value: memoMap } })
}
