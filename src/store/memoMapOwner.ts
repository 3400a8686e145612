/**
 * Which tenant a memo map belongs to.
 *
 * Effect memoises layers by reference: in one memo map, and in those forked from it, a layer is built once. A layer over a
 * store that is used again for a second tenant would be the first tenant's instance, and Effect answers with it without asking.
 * So a memo map has one tenant at a time.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Scope from "effect/Scope"
import { isSameTenant } from "./storeTenant.ts"
import type { Tenant } from "./storeTenant.ts"

/** The owners of memo maps that were forked from a memo map. */
const ownersBelow = new WeakMap<object, Set<{ readonly tenant: Tenant }>>()

class MemoMapOwner extends Context.Service<MemoMapOwner, Tenant>()("aden-credentials/internal/MemoMapOwner") {
  /** The first tenant that is provided to it: as any layer, it is memoised, until the last scope that uses it closes. */
  static readonly layer = Layer.fromBuildMemo<MemoMapOwner, never, MemoMapOwner>((memoMap, scope) =>
    Effect.flatMap(MemoMapOwner, (claimant) => {
      // what is memoised here from now on would serve the memo maps below, too
      const below = Array.from(ownersBelow.get(memoMap) ?? [], (owner) => owner.tenant)
      const owner = { tenant: below.find((tenant) => !isSameTenant(tenant, claimant)) ?? claimant }
      const lists = Array.from(ancestors(memoMap), (ancestor) => {
        const list = ownersBelow.get(ancestor) ?? new Set()
        ownersBelow.set(ancestor, list.add(owner))
        return list
      })
      const leave = Effect.sync(() => lists.forEach((list) => list.delete(owner)))
      return Effect.as(Scope.addFinalizer(scope, leave), Context.make(MemoMapOwner, owner.tenant))
    })
  )
}

/**
 * The tenant that owns the memo map until `scope` closes: `tenant`, unless another one owns it, one that it was forked from, or one
 * that was forked from it.
 */
export const claimMemoMap = (memoMap: Layer.MemoMap, scope: Scope.Scope, tenant: Tenant): Effect.Effect<Tenant> =>
  Layer.buildWithMemoMap(MemoMapOwner.layer, memoMap, scope).pipe(
    Effect.provideService(MemoMapOwner, tenant),
    Effect.map(Context.get(MemoMapOwner)),
    // an interrupted claim would be memoised as one, for all who ask meanwhile
    Effect.uninterruptible
  )

/** What a memo map was forked from. Effect's memo maps tell it, but their type does not. */
function* ancestors(memoMap: Layer.MemoMap): Generator<object> {
  let child: object = memoMap
  while (Predicate.hasProperty(child, "parent") && Predicate.isObject(child.parent)) yield child = child.parent
}
