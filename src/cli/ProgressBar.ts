/**
 * A progress line on stderr. Only on a terminal, and cleared when the command ends.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { OutputFailed } from "./CommandFailure.ts"
import { CommandOutput } from "./CommandOutput.ts"

export interface ProgressBar {
  /** Adds to the number of steps to come. */
  readonly expect: (total: number) => Effect.Effect<void>
  readonly step: Effect.Effect<void>
}

const redrawEvery = "80 millis"
const barWidth = 30
const hideCursor = "\u001b[?25l"
const showCursor = "\u001b[?25h"
const clearLine = "\r\u001b[2K"

export const make = (label: string): Effect.Effect<ProgressBar, never, CommandOutput | Scope.Scope> =>
  Effect.gen(function*() {
    const { columns, stderr } = yield* CommandOutput
    let total = 0
    let done = 0
    const bar: ProgressBar = {
      expect: (steps) =>
        Effect.sync(() => {
          total += steps
        }),
      step: Effect.sync(() => {
        done++
      })
    }
    if (!stderr.canRewrite) return bar

    let drawn = ""
    const draw = Effect.gen(function*() {
      const line = lineOf({ label, done, total, columns: yield* columns })
      if (line === drawn) return
      drawn = line
      yield* stderr.write(clearLine + line)
    })
    const quietly = (write: Effect.Effect<void, OutputFailed>) => Effect.ignore(write)
    yield* Effect.acquireRelease(
      quietly(stderr.write(hideCursor)),
      () => quietly(stderr.write(clearLine + showCursor))
    )
    yield* draw.pipe(quietly, Effect.repeat(Schedule.spaced(redrawEvery)), Effect.forkScoped)
    return bar
  })

/** One line that fits the terminal: `Syncing ━━━━━━━─────── 12/50`. */
const lineOf = (options: {
  readonly label: string
  readonly done: number
  readonly total: number
  readonly columns: number
}): string => {
  const { columns, done, label, total } = options
  // steps that were not announced count too: entries that Aden no longer lists
  const all = Math.max(done, total)
  const count = total === 0 ? "…" : `${done}/${all}`
  const width = Math.min(barWidth, columns - label.length - count.length - 3)
  if (width < 5) return `${label} ${count}`.slice(0, columns - 1)
  const filled = all === 0 ? 0 : Math.floor((done / all) * width)
  return `${label} ${"━".repeat(filled)}${"─".repeat(width - filled)} ${count}`
}
