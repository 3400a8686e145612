import { assert, describe, it } from "@effect/vitest"
import { TestCredentials } from "aden-credentials"
import { Context, Effect, Exit, Layer, Scope } from "effect"
import { claimMemoMap } from "../../src/store/memoMapOwner.ts"
import { perStore } from "../../src/store/perStore.ts"

const platform = {}
const acme = { id: "acme", platform }
const globex = { id: "globex", platform }

const claim = (memoMap: Layer.MemoMap, tenant: typeof acme, scope: Scope.Scope) =>
  Effect.map(claimMemoMap(memoMap, scope, tenant), ({ id }) => id)

describe("the owner of a memo map", () => {
  it.effect("is the first tenant that claims it, and it owns what is forked from it", () =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      const memoMap = yield* Layer.makeMemoMap
      const grandchild = yield* Layer.forkMemoMap(yield* Layer.forkMemoMap(memoMap))
      assert.strictEqual(yield* claim(memoMap, acme, scope), "acme")
      for (const map of [memoMap, grandchild]) {
        assert.strictEqual(yield* claim(map, globex, scope), "acme")
        assert.strictEqual(yield* claim(map, { ...acme }, scope), "acme")
      }
      assert.strictEqual(yield* claim(yield* Layer.makeMemoMap, globex, scope), "globex")
    }))

  it.effect("is the tenant of one that was forked from it; two that were forked have two owners", () =>
    Effect.gen(function*() {
      const memoMap = yield* Layer.makeMemoMap
      const [one, other, own] = [yield* Scope.make(), yield* Scope.make(), yield* Scope.make()]
      const forked = yield* Layer.forkMemoMap(yield* Layer.forkMemoMap(memoMap))
      assert.strictEqual(yield* claim(forked, acme, one), "acme")
      assert.strictEqual(yield* claim(yield* Layer.forkMemoMap(memoMap), globex, other), "globex")
      const refused = yield* Scope.make()
      assert.strictEqual(yield* claim(memoMap, globex, refused), "acme")
      yield* Scope.close(refused, Exit.void)
      yield* Scope.close(one, Exit.void)
      assert.strictEqual(yield* claim(memoMap, globex, own), "globex")
      assert.strictEqual(yield* claim(forked, acme, own), "globex")
    }))

  it.effect("is another tenant when all scopes have closed in which it was claimed", () =>
    Effect.gen(function*() {
      const memoMap = yield* Layer.makeMemoMap
      const [one, other, next] = [yield* Scope.make(), yield* Scope.make(), yield* Scope.make()]
      yield* claim(memoMap, acme, one)
      yield* claim(yield* Layer.forkMemoMap(memoMap), acme, other)
      yield* Scope.close(one, Exit.void)
      const asking = yield* Scope.make()
      assert.strictEqual(yield* claim(memoMap, globex, asking), "acme")
      yield* Scope.close(asking, Exit.void)
      yield* Scope.close(other, Exit.void)
      assert.strictEqual(yield* claim(memoMap, globex, next), "globex")
    }))

  it.effect("is known to a memo map that a client's layer forked while it was built", () =>
    Effect.gen(function*() {
      class Forked extends Context.Service<Forked, Layer.MemoMap>()("test/Forked") {}
      const Client = perStore(Layer.effect(Forked, Effect.map(Effect.context(), Layer.CurrentMemoMap.forkOrCreate)))
      const scope = yield* Effect.scope
      const memoMap = yield* Layer.makeMemoMap
      const built = yield* Layer.buildWithMemoMap(Client, memoMap, scope)
      assert.strictEqual(yield* claim(Context.get(built, Forked), acme, scope), "acme")
      assert.strictEqual(yield* claim(memoMap, globex, scope), "acme")
    }).pipe(Effect.provide(TestCredentials.layer([]))))
})
