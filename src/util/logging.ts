/**
 * Log entries of what goes on for a program. A logger that throws, which is the program's own, ends nothing but its entry.
 */
import * as Effect from "effect/Effect"

const surviving = (log: typeof Effect.logWarning) => (...message: ReadonlyArray<unknown>): Effect.Effect<void> =>
  Effect.catchDefect(log(...message), () => Effect.void)

export const logDebug = surviving(Effect.logDebug)
export const logWarning = surviving(Effect.logWarning)
export const logError = surviving(Effect.logError)
