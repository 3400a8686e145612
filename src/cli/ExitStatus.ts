/**
 * What the command ends with, for scripts to tell failures apart without reading text.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as MutableRef from "effect/MutableRef"
import type { StorageReason } from "../errors/CredentialError.ts"
import type { CommandFailure } from "./CommandFailure.ts"

/**
 * The exit statuses of `aden-creds`.
 *
 * - `done`: 0
 * - `unexpected`: 1, a defect, or an output that cannot be written
 * - `usage`: 2, wrong usage, a setting that is missing or makes no sense, a directory to change that is not there, or a port
 *   that is taken
 * - `reauthorizationRequired`: 3, a person has to authorize the integration again; the URL is on stderr
 * - `adenUnavailable`: 4
 * - `rateLimited`: 5
 * - `notFound`: 6, the ref names nothing, or several accounts
 * - `unauthorized`: 7, Aden does not accept the API key, or the key may not do this
 * - `storage`: 8, the directory or a file cannot be read, written or decrypted
 * - `refused`: 9, Aden could not refresh the token, rejected the request, or finds the token invalid; or git cannot have the token
 * - `commandNotRunnable`: 126, the command that `exec` was given cannot be run
 * - `commandNotFound`: 127, there is no such command
 * - `interrupted`: 130
 *
 * `exec` ends with the status of its command, whatever that is; with 128 and the number of the signal that ended it.
 *
 * @since 0.1.0
 * @category models
 */
export const ExitStatus = {
  done: 0,
  unexpected: 1,
  usage: 2,
  reauthorizationRequired: 3,
  adenUnavailable: 4,
  rateLimited: 5,
  notFound: 6,
  unauthorized: 7,
  storage: 8,
  refused: 9,
  commandNotRunnable: 126,
  commandNotFound: 127,
  interrupted: 130
} as const

/**
 * One of the exit statuses of `aden-creds`.
 *
 * @since 0.1.0
 * @category models
 */
export type ExitStatus = typeof ExitStatus[keyof typeof ExitStatus]

/** What the running command ends with; `undefined` while nothing is decided. */
export class Outcome extends Context.Service<Outcome, MutableRef.MutableRef<number | undefined>>()(
  "aden-credentials/cli/Outcome"
) {}

/** Decides what the command ends with, even if it is interrupted from now on. */
export const endWith = (status: number): Effect.Effect<void, never, Outcome> =>
  Outcome.useSync((outcome) => {
    MutableRef.set(outcome, status)
  })

/** The status that a failure ends the command with. */
export const exitStatusOf = (error: CommandFailure): ExitStatus => {
  switch (error._tag) {
    case "OutputFailed":
      return ExitStatus.unexpected
    case "CommandNotRun":
      return error.isMissing ? ExitStatus.commandNotFound : ExitStatus.commandNotRunnable
    case "AdenConfigError":
    case "GitProtocolError":
    case "NoProvider":
      return ExitStatus.usage
    case "ReauthRequired":
      return ExitStatus.reauthorizationRequired
    case "AdenUnavailable":
      return ExitStatus.adenUnavailable
    case "RateLimited":
      return ExitStatus.rateLimited
    case "AmbiguousCredential":
    case "CredentialKeyNotFound":
    case "CredentialNotFound":
    case "IntegrationNotFound":
      return ExitStatus.notFound
    case "AdenForbidden":
    case "AdenUnauthorized":
      return ExitStatus.unauthorized
    case "CredentialDecryptionFailed":
      return ExitStatus.storage
    case "CredentialStorageError":
      return statusOfStorage(error.reason)
    case "AdenRejected":
    case "RefreshFailed":
    case "TokenNotForGit":
      return ExitStatus.refused
  }
}

/** A storage that asks Aden itself fails with what Aden said. */
const statusOfStorage = (reason: StorageReason): ExitStatus => {
  switch (reason._tag) {
    case "InvalidCredentialId":
    case "LockTimeout":
    case "StorageInsecure":
    case "StorageIoFailed":
    case "StorageRefused":
      return ExitStatus.storage
    default:
      return exitStatusOf(reason)
  }
}

/** From what passes by itself to what somebody has to mend. */
const bySeverity: ReadonlyArray<ExitStatus> = [
  ExitStatus.rateLimited,
  ExitStatus.adenUnavailable,
  ExitStatus.notFound,
  ExitStatus.refused,
  ExitStatus.reauthorizationRequired,
  ExitStatus.unauthorized,
  ExitStatus.storage,
  ExitStatus.usage,
  ExitStatus.unexpected
]

/** The failure that weighs most; the first of several that weigh the same. */
export const worstOf = <E extends CommandFailure>(errors: ReadonlyArray<E>): E | undefined => {
  const severityOf = (error: E) => bySeverity.indexOf(exitStatusOf(error))
  return errors.toSorted((a, b) => severityOf(b) - severityOf(a))[0]
}

/** The status that weighs most; `done` when there is none. */
export const worstStatus = (statuses: ReadonlyArray<ExitStatus>): ExitStatus =>
  bySeverity.findLast((status) => statuses.includes(status)) ?? ExitStatus.done
