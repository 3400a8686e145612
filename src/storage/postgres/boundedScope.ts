import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { answerTime } from "./statement.ts"

/**
 * A scope whose end is not waited for longer than for an answer: who gives a connection back says so to the server, which may
 * hang, and a program is to end nonetheless.
 */
export const boundedScope: Effect.Effect<Scope.Closeable, never, Scope.Scope> = Effect.acquireRelease(
  Scope.make(),
  (scope) =>
    Effect.forkDetach(Scope.close(scope, Exit.void), { startImmediately: true }).pipe(
      Effect.flatMap((fiber) => Effect.timeoutOption(Fiber.await(fiber), answerTime)),
      Effect.asVoid
    )
)
