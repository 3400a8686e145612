import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import type { KeyRotationEvent } from "../../storage/files/KeyRotation.ts"
import { rotateConfiguredKeys } from "../../storage/files/KeyRotation.ts"
import { rotateDatabase } from "../../storage/migration/databaseRotation.ts"
import { requireDirectory } from "../../storage/migration/location.ts"
import { collectWithProgress, complainOfFailures, outcomeTable } from "../batchReport.ts"
import type { OutcomeRow } from "../batchReport.ts"
import type { OutputStream } from "../CommandOutput.ts"
import { CommandOutput } from "../CommandOutput.ts"
import { RotateDocument } from "../documents.ts"
import { detailsOf, reportingFailures } from "../failureReport.ts"
import { answer, chosenStorage } from "../rootCommand.ts"

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
    yield* complainOfFailures(outcome.failed.map(({ error }) => error))
  }, reportingFailures)
).pipe(
  Command.withDescription(
    "Re-encrypt every credential with the first key of HIVE_CREDENTIAL_KEY, or of the key file if that is not set"
  ),
  Command.withExamples([{
    command: "HIVE_CREDENTIAL_KEY=\"$NEW_KEY,$OLD_KEY\" aden-creds keys rotate",
    description: "Move all from the old key to the new one; run it again if it was interrupted"
  }])
)

const rotateWithProgress = Effect.gen(function*() {
  const location = yield* chosenStorage
  yield* requireDirectory(location)
  return yield* collectWithProgress(
    "Re-encrypting",
    location._tag === "Directory" ? rotateConfiguredKeys(location) : rotateDatabase(location)
  )
})

type Outcome = ReturnType<typeof grouped>

const grouped = (events: ReadonlyArray<KeyRotationEvent>) => ({
  total: events.reduce((total, event) => event._tag === "Found" ? total + event.total : total, 0),
  rotated: events.filter((event) => event._tag === "Rotated"),
  unchanged: events.filter((event) => event._tag === "Unchanged"),
  left: events.filter((event) => event._tag === "LeftToTenant"),
  failed: events.filter((event) => event._tag === "Failed")
})

/** What is not encrypted with the first key now, then the counts. */
const textOf = ({ failed, left, rotated, unchanged }: Outcome, stdout: OutputStream): string => {
  const rows: ReadonlyArray<OutcomeRow> = [
    ...failed.map(({ error, location }) => ({ subject: location, outcome: "failed", detail: error.message })),
    ...left.map(({ location }) => ({
      subject: location,
      outcome: "left",
      detail: "none of the tenant's credentials open with these keys"
    }))
  ]
  const counts = [
    `${rotated.length} re-encrypted`,
    `${unchanged.length} already under the first key`,
    ...(left.length === 0 ? [] : [`${left.length} left to tenants with keys of their own`]),
    `${failed.length} failed`
  ].join(", ")
  return outcomeTable(stdout, "LOCATION", rows, counts)
}
