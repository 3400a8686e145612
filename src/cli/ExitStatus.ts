/**
 * What the command ends with, for scripts to tell failures apart without reading text.
 */
import type { CommandFailure } from "./CommandFailure.ts"

/**
 * The exit statuses of `aden-creds`.
 *
 * @since 0.1.0
 * @category models
 */
export const ExitStatus = {
  done: 0,
  /** A defect, or an output that cannot be written. */
  unexpected: 1,
  /** Wrong usage, or a setting that is missing or makes no sense. */
  usage: 2,
  reauthorizationRequired: 3,
  adenUnavailable: 4,
  rateLimited: 5,
  /** The ref names nothing, or more than one account. */
  notFound: 6,
  /** The API key is not accepted, or may not do this. */
  unauthorized: 7,
  storage: 8,
  /** Aden refused: it could not refresh the token, rejected the request, or finds the token invalid. */
  refused: 9,
  interrupted: 130
} as const

/**
 * One of the exit statuses of `aden-creds`.
 *
 * @since 0.1.0
 * @category models
 */
export type ExitStatus = typeof ExitStatus[keyof typeof ExitStatus]

/** The status that a failure ends the command with. */
export const exitStatusOf = (error: CommandFailure): ExitStatus => {
  switch (error._tag) {
    case "AdenConfigError":
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
    case "GenerationConflict":
      return ExitStatus.storage
    case "CredentialStorageError":
      return statusOfStorageReason(error.reason)
    case "AdenRejected":
    case "RefreshFailed":
      return ExitStatus.refused
  }
}

/** A storage that asks Aden itself fails with what Aden said. */
const statusOfStorageReason = (
  reason: Extract<CommandFailure, { readonly _tag: "CredentialStorageError" }>["reason"]
): ExitStatus => {
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
  ExitStatus.done,
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
  return errors.reduce<E | undefined>(
    (worst, error) => worst === undefined || severityOf(error) > severityOf(worst) ? error : worst,
    undefined
  )
}
