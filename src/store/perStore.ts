/**
 * Layers over a `CredentialStore` that work for the store they were provided with, as far as a layer can see to that.
 *
 * Effect memoises layers by reference: a layer that is provided a second time, inside the first or in the same build, is the
 * first instance. That instance holds the first store, which may be another tenant's. A layer cannot prevent it where it is
 * part of one that `Layer.provide(a, b)` or the function `pipe` made: Effect answers with that one and does not ask. There
 * `TenantCredentials.provide` and `provideLayer` keep tenants apart.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { CredentialStore } from "./CredentialStore.ts"

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
    const made = Layer.fromBuildMemo<A, E, R>((memoMap, scope) =>
      Layer.buildWithMemoMap(layer, memoiseAllBut(layer, memoMap), scope)
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
  return Object.create(memoMap, { getOrElseMemoize: { value: getOrElseMemoize } })
}
