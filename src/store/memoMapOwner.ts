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
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import { isSameTenant } from "./storeTenant.ts"
import type { Tenant } from "./storeTenant.ts"

interface Owner {
  readonly tenant: Tenant
  /** The owners of memo maps that were forked from this one: what is memoised here serves them, too. */
  readonly below: ReadonlySet<Owner>
}

const ownersBelow = new WeakMap<object, Set<Owner>>()

const ownersBelowOf = (memoMap: object): Set<Owner> => {
  const owners = ownersBelow.get(memoMap) ?? new Set()
  ownersBelow.set(memoMap, owners)
  return owners
}

class Claimant extends Context.Service<Claimant, Tenant>()("aden-credentials/internal/Claimant") {}

class MemoMapOwner extends Context.Service<MemoMapOwner, Owner>()("aden-credentials/internal/MemoMapOwner") {
  /** The first tenant that claims it: as any layer, it is memoised, until the last scope that uses it closes. */
  static readonly layer = Layer.fromBuildMemo<MemoMapOwner, never, Claimant>((memoMap, scope) =>
    Effect.flatMap(Claimant, (tenant) => {
      const owner: Owner = { tenant, below: ownersBelowOf(memoMap) }
      const lists = Array.from(ancestors(memoMap), (ancestor) => ownersBelowOf(ancestor).add(owner))
      const leave = Effect.sync(() => lists.forEach((list) => list.delete(owner)))
      return Effect.as(Scope.addFinalizer(scope, leave), Context.make(MemoMapOwner, owner))
    })
  )
}

/**
 * The tenant that owns the memo map until `scope` closes: `tenant`, unless another one owns it, one that it was forked from, or one
 * that was forked from it. A claim that is refused counts as one, too, until `scope` closes.
 */
export const claimMemoMap = (memoMap: Layer.MemoMap, scope: Scope.Scope, tenant: Tenant): Effect.Effect<Tenant> =>
  Layer.buildWithMemoMap(MemoMapOwner.layer, memoMap, scope).pipe(
    Effect.provideService(Claimant, tenant),
    Effect.map((context) => {
      const owner = Context.get(context, MemoMapOwner)
      return [owner, ...owner.below].find((one) => !isSameTenant(one.tenant, tenant))?.tenant ?? tenant
    }),
    // in one step, so that no other claim comes between; an interrupted claim would be memoised as one
    Effect.provideService(References.PreventSchedulerYield, true),
    Effect.uninterruptible
  )

/** What a memo map was forked from. Effect's memo maps tell it, but their type does not. */
function* ancestors(memoMap: Layer.MemoMap): Generator<object> {
  let child: object = memoMap
  while (Predicate.hasProperty(child, "parent") && Predicate.isObject(child.parent)) yield child = child.parent
}
