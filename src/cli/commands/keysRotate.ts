import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { KeyRotationEvent } from "../../storage/KeyRotation.ts"
import { rotateConfiguredKeys } from "../../storage/KeyRotation.ts"
import type { OutputStream } from "../CommandOutput.ts"
import { RotateDocument } from "../documents.ts"
import { endWith, exitStatusOf, worstOf } from "../ExitStatus.ts"
import { complain, detailsOf, reportingFailures } from "../failureReport.ts"
import * as ProgressBar from "../ProgressBar.ts"
import { answer, rootCommand } from "../rootCommand.ts"
import type { Column } from "../table.ts"
import { paintStatus, table } from "../table.ts"

export const rotateCommand = Command.make(
  "rotate",
  {},
  Effect.fnUntraced(function*() {
    const outcome = grouped(yield* rotateWithProgress)
    yield* answer(
      RotateDocument,
      {
        total: outcome.total,
        rotated: outcome.rotated.length,
        unchanged: outcome.unchanged.length,
        left: outcome.left.map(({ location }) => ({ location })),
        failed: outcome.failed.map(({ error, location }) => ({ location, error: detailsOf(error) }))
      },
      (stdout) => textOf(outcome, stdout)
    )
    const worst = worstOf(outcome.failed.map(({ error }) => error))
    if (worst === undefined) return
    const { message, remedy } = detailsOf(worst)
    const others = outcome.failed.length - 1
    yield* complain(others === 0 ? message : `${message}; ${others} more failed`, remedy)
    yield* endWith(exitStatusOf(worst))
  }, reportingFailures)
).pipe(
  Command.withDescription("Put every encrypted file under the first key of HIVE_CREDENTIAL_KEY"),
  Command.withExamples([{
    command: "HIVE_CREDENTIAL_KEY=\"$NEW_KEY,$OLD_KEY\" aden-creds keys rotate",
    description: "Move all files from the old key to the new one; run it again if it was stopped"
  }])
)

const rotateWithProgress = Effect.scoped(Effect.gen(function*() {
  const { directory } = yield* rootCommand
  const progress = yield* ProgressBar.make("Re-encrypting")
  return yield* rotateConfiguredKeys({ directory: Option.getOrUndefined(directory) }).pipe(
    Stream.tap((event) => event._tag === "Found" ? progress.expect(event.total) : progress.step),
    Stream.runCollect
  )
}))

type Outcome = ReturnType<typeof grouped>

const grouped = (events: ReadonlyArray<KeyRotationEvent>) => ({
  total: events.reduce((total, event) => event._tag === "Found" ? total + event.total : total, 0),
  rotated: events.filter((event) => event._tag === "Rotated"),
  unchanged: events.filter((event) => event._tag === "Unchanged"),
  left: events.filter((event) => event._tag === "LeftToTenant"),
  failed: events.filter((event) => event._tag === "Failed")
})

interface Row {
  readonly file: string
  readonly outcome: "failed" | "left"
  readonly detail: string
}

const columns: ReadonlyArray<Column<Row>> = [
  { title: "FILE", cell: ({ file }) => file },
  { title: "OUTCOME", cell: ({ outcome }) => outcome, paint: ({ outcome }, style) => paintStatus(outcome, style) },
  { title: "DETAIL", cell: ({ detail }) => detail }
]

/** What is not under the first key now, then the counts. */
const textOf = ({ failed, left, rotated, unchanged }: Outcome, stdout: OutputStream): string => {
  const rows: ReadonlyArray<Row> = [
    ...failed.map(({ error, location }): Row => ({ file: location, outcome: "failed", detail: error.message })),
    ...left.map(({ location }): Row => ({
      file: location,
      outcome: "left",
      detail: "these keys open none of the tenant's files"
    }))
  ]
  const counts = [
    `${rotated.length} re-encrypted`,
    `${unchanged.length} under the first key already`,
    ...(left.length === 0 ? [] : [`${left.length} left to tenants with keys of their own`]),
    `${failed.length} failed`
  ].join(", ")
  return rows.length === 0
    ? `${counts}\n`
    : `${table(stdout, columns, rows)}${stdout.isTerminal ? "\n" : ""}${counts}\n`
}
