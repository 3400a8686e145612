/**
 * What the commands that work on many credentials have in common: a progress bar, a table of outcomes with the counts below, and
 * the complaint about what failed.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { CommandFailure } from "./CommandFailure.ts"
import type { OutputStream } from "./CommandOutput.ts"
import { endWith, exitStatusOf, worstOf } from "./ExitStatus.ts"
import { complain, detailsOf } from "./failureReport.ts"
import * as ProgressBar from "./ProgressBar.ts"
import { paintStatus, table } from "./table.ts"

/** What became of one credential, or of one file. */
export interface OutcomeRow {
  readonly subject: string
  readonly outcome: string
  readonly detail: string
}

/** The events of a batch, collected behind a progress bar. An event with a `total` announces steps; any other is one. */
export const collectWithProgress = <A extends object, E, R>(label: string, events: Stream.Stream<A, E, R>) =>
  Effect.scoped(Effect.gen(function*() {
    const progress = yield* ProgressBar.make(label)
    return yield* events.pipe(
      Stream.tap((event) =>
        "total" in event && typeof event.total === "number" ? progress.expect(event.total) : progress.step
      ),
      Stream.runCollect
    )
  }))

/** The outcomes as a table, then the counts. */
export const outcomeTable = (
  stdout: OutputStream,
  subject: string,
  rows: ReadonlyArray<OutcomeRow>,
  counts: string
): string => {
  if (rows.length === 0) return `${counts}\n`
  const columns = [
    { title: subject, cell: (row: OutcomeRow) => row.subject },
    {
      title: "OUTCOME",
      cell: (row: OutcomeRow) => row.outcome,
      paint: (row: OutcomeRow, style: OutputStream["style"]) => paintStatus(row.outcome, style)
    },
    { title: "DETAIL", cell: (row: OutcomeRow) => row.detail }
  ]
  return `${table(stdout, columns, rows)}${stdout.isTerminal ? "\n" : ""}${counts}\n`
}

/** Complains about the most severe failure, which decides the exit status, and says how many others there are. */
export const complainOfFailures = Effect.fnUntraced(function*(errors: ReadonlyArray<CommandFailure>) {
  const worst = worstOf(errors)
  if (worst === undefined) return
  const { message, remedy } = detailsOf(worst)
  const others = errors.length - 1
  yield* complain(others === 0 ? message : `${message}; ${others} more failed`, remedy)
  yield* endWith(exitStatusOf(worst))
})
