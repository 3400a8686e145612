import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** Starts a fiber for work that nobody waits for. */
export type Background = (work: Effect.Effect<void>) => Effect.Effect<void>

/**
 * For work that begins when there is some, so that no fiber waits for it. It runs in the scope and the context in which this is made: it
 * ends with that scope, and belongs to no span of the caller who began it.
 */
export const makeBackground: Effect.Effect<Background, never, Scope.Scope> = Effect.gen(function*() {
  const scope = yield* Effect.scope
  const context = yield* Effect.context<never>()
  return (work) =>
    Effect.asVoid(Effect.forkIn(Effect.updateContext(work, (_: Context.Context<never>) => context), scope))
})
