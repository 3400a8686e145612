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
import type * as Scope from "effect/Scope"
import type { Tenant } from "./storeTenant.ts"

class MemoMapOwner extends Context.Service<MemoMapOwner, Tenant>()("aden-credentials/internal/MemoMapOwner") {
  /** The first tenant that is provided to it: as any layer, it is memoised, until the last scope that uses it closes. */
  static readonly layer = Layer.effect(MemoMapOwner, MemoMapOwner)
}

/** The tenant that owns the memo map until `scope` closes: `tenant`, unless another one owns it, or one that it was forked from. */
export const claimMemoMap = (memoMap: Layer.MemoMap, scope: Scope.Scope, tenant: Tenant): Effect.Effect<Tenant> =>
  Layer.buildWithMemoMap(MemoMapOwner.layer, memoMap, scope).pipe(
    Effect.provideService(MemoMapOwner, tenant),
    Effect.map(Context.get(MemoMapOwner)),
    // an interrupted claim would be memoised as one, for all who ask meanwhile
    Effect.uninterruptible
  )
