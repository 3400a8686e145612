/**
 * What `doctor` finds. A failure has to be fixed. A warning breaks nothing yet: most pass, or are repaired, by themselves.
 */
import type { Fact } from "../../storage/inspect.ts"
import type { CommandFailure } from "../CommandFailure.ts"
import { ExitStatus, exitStatusOf } from "../ExitStatus.ts"
import { detailsOf } from "../failureReport.ts"

/** What is checked. */
export type Check =
  | "settings"
  | "encryption key"
  | "directory"
  | "database"
  | "credentials"
  | "index"
  | "state"
  | "locks"
  | "Aden"
  | "clock"

export interface Finding {
  readonly check: Check
  readonly status: "ok" | "warning" | "failure" | "skipped"
  readonly message: string
  /** How to fix it; `undefined` when there is nothing to fix. */
  readonly remedy: string | undefined
  /** The exit status if this is the most severe finding. */
  readonly exitCode: ExitStatus
  /** The files, folders or places in a database that it is about. */
  readonly locations: ReadonlyArray<string>
}

const harmless = { remedy: undefined, exitCode: ExitStatus.done, locations: [] } as const

export const ok = (check: Check, message: string): Finding => ({ check, status: "ok", message, ...harmless })

/** What could not be checked because of another finding. */
export const skipped = (check: Check, message: string): Finding => ({ check, status: "skipped", message, ...harmless })

interface Problem {
  readonly message: string
  readonly remedy: string
  readonly exitCode: ExitStatus
  readonly locations?: ReadonlyArray<string>
}

export const warning = (check: Check, problem: Problem): Finding => ({
  check,
  status: "warning",
  locations: [],
  ...problem
})

export const failure = (check: Check, problem: Problem): Finding => ({
  check,
  status: "failure",
  locations: [],
  ...problem
})

/** An error of the library, as any command would report it. */
export const failed = (check: Check, error: CommandFailure, locations: ReadonlyArray<string> = []): Finding => {
  const { message, remedy } = detailsOf(error)
  return failure(check, { message, remedy, exitCode: exitStatusOf(error), locations })
}

/** A fact about a storage as a finding. Whatever is wrong there has the exit status of storage. */
export const findingOf = (fact: Fact): Finding => {
  const { locations, status, subject } = fact
  switch (status) {
    case "error":
      return failed(subject, fact.error, locations)
    case "ok":
    case "skipped":
      return { check: subject, status, message: fact.message, ...harmless }
    case "warning":
    case "failure":
      return {
        check: subject,
        status,
        message: fact.message,
        remedy: fact.remedy,
        exitCode: ExitStatus.storage,
        locations
      }
  }
}
