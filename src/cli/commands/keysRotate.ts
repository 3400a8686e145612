import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { KeyRotationEvent } from "../../storage/files/KeyRotation.ts"
import { rotateConfiguredKeys } from "../../storage/files/KeyRotation.ts"
import { rotateDatabase } from "../../storage/migration/databaseRotation.ts"
import { requireDirectory } from "../../storage/migration/location.ts"
import type { OutputStream } from "../CommandOutput.ts"
import { CommandOutput } from "../CommandOutput.ts"
import { RotateDocument } from "../documents.ts"
import { endWith, exitStatusOf, worstOf } from "../ExitStatus.ts"
import { complain, detailsOf, reportingFailures } from "../failureReport.ts"
import * as ProgressBar from "../ProgressBar.ts"
import { answer, chosenStorage } from "../rootCommand.ts"
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
    const { stderr } = yield* CommandOutput
    if (outcome.total === 0 && outcome.failed.length === 0) yield* stderr.write("Nothing is stored there.\n")
    const worst = worstOf(outcome.failed.map(({ error }) => error))
    if (worst === undefined) return
    const { message, remedy } = detailsOf(worst)
    const others = outcome.failed.length - 1
    yield* complain(others === 0 ? message : `${message}; ${others} more failed`, remedy)
    yield* endWith(exitStatusOf(worst))
  }, reportingFailures)
).pipe(
  Command.withDescription("Put every encrypted credential under the first key of HIVE_CREDENTIAL_KEY"),
  Command.withExamples([{
    command: "HIVE_CREDENTIAL_KEY=\"$NEW_KEY,$OLD_KEY\" aden-creds keys rotate",
    description: "Move all from the old key to the new one; run it again if it was stopped"
  }])
)

const rotateWithProgress = Effect.scoped(Effect.gen(function*() {
  const location = yield* chosenStorage
  yield* requireDirectory(location)
  const progress = yield* ProgressBar.make("Re-encrypting")
  const events = location._tag === "Directory" ? rotateConfiguredKeys(location) : rotateDatabase(location)
  return yield* events.pipe(
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
  readonly place: string
  readonly outcome: "failed" | "left"
  readonly detail: string
}

const columns: ReadonlyArray<Column<Row>> = [
  { title: "PLACE", cell: ({ place }) => place },
  { title: "OUTCOME", cell: ({ outcome }) => outcome, paint: ({ outcome }, style) => paintStatus(outcome, style) },
  { title: "DETAIL", cell: ({ detail }) => detail }
]

/** What is not under the first key now, then the counts. */
const textOf = ({ failed, left, rotated, unchanged }: Outcome, stdout: OutputStream): string => {
  const rows: ReadonlyArray<Row> = [
    ...failed.map(({ error, location }): Row => ({ place: location, outcome: "failed", detail: error.message })),
    ...left.map(({ location }): Row => ({
      place: location,
      outcome: "left",
      detail: "these keys open nothing of the tenant's"
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
