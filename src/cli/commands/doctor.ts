import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as References from "effect/References"
import * as Result from "effect/Result"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { configuredKeys, defaultDirectory } from "../../encryption/keys.ts"
import { inspectFiles } from "../../storage/files/inspect.ts"
import { adenChecks, impatientClient } from "../doctor/adenChecks.ts"
import { databaseChecks } from "../doctor/databaseChecks.ts"
import { failed, findingOf, skipped } from "../doctor/Finding.ts"
import type { Finding } from "../doctor/Finding.ts"
import { adenSettings, encryptionKey, keyFileFindings } from "../doctor/settingsChecks.ts"
import { DoctorDocument } from "../documents.ts"
import { endWith, worstStatus } from "../ExitStatus.ts"
import { complain, reportingFailures } from "../failureReport.ts"
import { answer, chosenStorage } from "../rootCommand.ts"
import type { Column } from "../table.ts"
import { paintStatus, table } from "../table.ts"

export const doctorCommand = Command.make(
  "doctor",
  {},
  Effect.fnUntraced(function*() {
    const findings = yield* examine
    const failures = findings.filter(({ status }) => status === "failure")
    // without a failure, the warnings decide the exit status
    const wrong = failures.length > 0 ? failures : findings.filter(({ status }) => status === "warning")
    const exitCode = worstStatus(wrong.map(({ exitCode }) => exitCode))
    yield* answer(DoctorDocument, { exitCode, findings }, (stdout) => table(stdout, columns, findings))
    const worst = wrong.find((finding) => finding.exitCode === exitCode)
    if (worst === undefined) return
    const others = wrong.length - 1
    yield* complain(
      others === 0 ? worst.message : `${worst.message}; and ${others} more to fix`,
      worst.remedy ?? ""
    )
    yield* endWith(exitCode)
  }, reportingFailures)
).pipe(
  Command.withDescription(
    "Check settings, storage, clock and Aden, and say how to fix what is wrong. Changes nothing"
  )
)

const examine = Effect.gen(function*() {
  const settings = yield* adenSettings
  // read once: a command prints them
  const configured = yield* Effect.cached(configuredKeys)
  const key = yield* encryptionKey(configured)
  const keys = yield* Effect.option(configured)
  const stored = yield* storageChecks(Option.getOrUndefined(keys))
  const aden = settings.some(({ status }) => status === "failure")
    ? [skipped("Aden", "Not asked, because its settings are invalid")]
    : yield* Effect.provide(adenChecks, impatientClient).pipe(
      Effect.catch((error) => Effect.succeed([failed("Aden", error)]))
    )
  return [...settings, key, ...stored, ...aden]
  // the findings repeat what is logged here
}).pipe(Effect.provideService(References.MinimumLogLevel, "Error"))

const storageChecks = Effect.fnUntraced(function*(keys: FernetKeys | undefined) {
  const location = yield* Effect.result(chosenStorage)
  if (Result.isFailure(location)) return [failed("settings", location.failure)]
  if (location.success._tag !== "Directory") return yield* databaseChecks(location.success, keys)
  const path = yield* Path.Path
  const { directory } = location.success
  const found = yield* Effect.result(directory === undefined ? defaultDirectory : Effect.succeed(directory))
  if (Result.isFailure(found)) return [failed("directory", found.failure)]
  const resolved = path.resolve(found.success)
  return [
    ...(keys === undefined ? [] : yield* keyFileFindings(resolved)),
    ...(yield* inspectFiles(resolved, keys)).map(findingOf)
  ]
})

const columns: ReadonlyArray<Column<Finding>> = [
  { title: "CHECK", cell: ({ check }) => check },
  { title: "RESULT", cell: ({ status }) => status, paint: ({ status }, style) => paintStatus(status, style) },
  { title: "DETAIL", cell: ({ message }) => message },
  { title: "HOW TO FIX IT", cell: ({ remedy }) => remedy ?? "" }
]
