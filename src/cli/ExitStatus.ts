/**
 * The exit status of a command, by which scripts tell failures apart without parsing text.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as MutableRef from "effect/MutableRef"
import type { StorageReason } from "../errors/StorageError.ts"
import type { CommandFailure } from "./CommandFailure.ts"

/**
 * The exit statuses of `aden-creds`.
 *
 * - `done`: 0
 * - `unexpected`: 1, a defect, or an output that cannot be written
 * - `usage`: 2, wrong usage, a setting that is missing or invalid, a directory to change that does not exist, or a port that is
 *   taken
 * - `reauthorizationRequired`: 3, a person has to authorize the integration again; the URL is on stderr
 * - `adenUnavailable`: 4
 * - `rateLimited`: 5
 * - `notFound`: 6, the ref matches nothing, or several accounts
 * - `unauthorized`: 7, Aden does not accept the API key, or the key may not do this
 * - `storage`: 8, the directory or a file cannot be read, written or decrypted
 * - `refused`: 9, Aden could not refresh the token, rejected the request, or finds the token invalid; or the token cannot be
 *   passed to git
 * - `commandNotRunnable`: 126, the command given to `exec` cannot be run
 * - `commandNotFound`: 127, there is no such command
 * - `interrupted`: 130
 *
 * `exec` ends with the status of its command, whatever that is. When a signal ended the command, the status is 128 plus the
 * number of the signal.
 *
 * @example
 * ```ts
 * import { ExitStatus } from "aden-credentials/cli"
 * import { spawnSync } from "node:child_process"
 *
 * const { status } = spawnSync("aden-creds", ["validate", "hubspot"])
 * if (status === ExitStatus.reauthorizationRequired) console.log("Connect HubSpot again.")
 * ```
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

/** The exit status of the running command; `undefined` until it is decided. */
export class Outcome extends Context.Service<Outcome, MutableRef.MutableRef<number | undefined>>()(
  "aden-credentials/cli/Outcome"
) {}

/** Sets the exit status, which then holds even if the command is interrupted. */
export const endWith = (status: number): Effect.Effect<void, never, Outcome> =>
  Outcome.useSync((outcome) => {
    MutableRef.set(outcome, status)
  })

/** The exit status of a failure. */
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

/** A storage that asks Aden itself also fails with the errors of Aden. */
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

/** From failures that pass by themselves to those that a person has to fix. */
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

/** The most severe failure; the first of several that are equally severe. */
export const worstOf = <E extends CommandFailure>(errors: ReadonlyArray<E>): E | undefined => {
  const severityOf = (error: E) => bySeverity.indexOf(exitStatusOf(error))
  return errors.toSorted((a, b) => severityOf(b) - severityOf(a))[0]
}

/** The most severe status; `done` when there is none. */
export const worstStatus = (statuses: ReadonlyArray<ExitStatus>): ExitStatus =>
  bySeverity.findLast((status) => statuses.includes(status)) ?? ExitStatus.done
