/**
 * Why credentials could not be read from or written to where they are stored.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import { printable } from "../util/sanitize.ts"
import { ActionableError, line, optionalText, quoted } from "./Actionable.ts"
import { AdenFailure } from "./AdenError.ts"

// ---------------------------------------------------------------------------------------------------------------------
// Why storage failed
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The file system, or the database, failed. `detail` is its own short description, such as `EACCES: permission denied`;
 * `remedy` is what a database needs that a file does not.
 *
 * @since 0.1.0
 * @category reasons
 */
export class StorageIoFailed extends Schema.TaggedError<StorageIoFailed>()("StorageIoFailed", {
  location: Schema.String,
  detail: Schema.String,
  remedy: optionalText
}) {
  override get message(): string {
    return line`${this.location}: ${this.detail}`
  }
}

/**
 * A file or folder is open to others, or is not what it should be (a symbolic link). `mend` is the command that puts it right.
 *
 * @since 0.1.0
 * @category reasons
 */
export class StorageInsecure extends Schema.TaggedError<StorageInsecure>()("StorageInsecure", {
  location: Schema.String,
  detail: Schema.String,
  mend: Schema.String
}) {
  override get message(): string {
    return line`${this.location} ${this.detail}; run: ${this.mend}`
  }
}

/**
 * The id cannot name a credential: it is empty, or is not well-formed text.
 *
 * @since 0.1.0
 * @category reasons
 */
export class InvalidCredentialId extends Schema.TaggedError<InvalidCredentialId>()("InvalidCredentialId", {
  detail: Schema.String
}) {
  override get message(): string {
    return printable(this.detail)
  }
}

/**
 * The storage does not take this change, by its nature: it is read-only, or the value does not fit.
 *
 * @since 0.1.0
 * @category reasons
 */
export class StorageRefused extends Schema.TaggedError<StorageRefused>()("StorageRefused", {
  detail: Schema.String
}) {
  override get message(): string {
    return printable(this.detail)
  }
}

/**
 * Another holder kept the lock of the entry until the wait ended. Says nothing about the credential.
 *
 * @since 0.1.0
 * @category reasons
 */
export class LockTimeout extends Schema.TaggedError<LockTimeout>()("LockTimeout", {
  after: Schema.Duration
}) {
  override get message(): string {
    return line`the entry was locked by another process for ${Duration.format(this.after)}`
  }
}

/**
 * Why storage failed: the `reason` of {@link CredentialStorageError}. An error of Aden's stands here where a storage asks
 * Aden itself.
 *
 * @since 0.1.0
 * @category reasons
 */
export const StorageReason = Schema.Union([
  StorageIoFailed,
  StorageInsecure,
  InvalidCredentialId,
  StorageRefused,
  LockTimeout,
  ...AdenFailure.members
])

/**
 * @since 0.1.0
 * @category reasons
 */
export type StorageReason = typeof StorageReason.Type

// ---------------------------------------------------------------------------------------------------------------------
// What failed
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A credential could not be read from or written to where it is stored. `operation` is the storage method.
 *
 * @since 0.1.0
 * @category errors
 */
export class CredentialStorageError extends ActionableError<CredentialStorageError>()("CredentialStorageError", {
  id: optionalText,
  operation: Schema.String,
  reason: StorageReason
}, {
  message: ({ id, operation, reason }) =>
    line`Storage could not ${operationNames[operation] ?? operation}${
      id === undefined ? "" : ` ${quoted(id)}`
    }: ${reason.message}`,
  isRetryable: ({ reason }) => {
    switch (reason._tag) {
      case "StorageIoFailed":
      case "LockTimeout":
        return true
      case "StorageInsecure":
      case "InvalidCredentialId":
      case "StorageRefused":
        return false
      default:
        return reason.isRetryable
    }
  },
  remedy: ({ reason }) => {
    switch (reason._tag) {
      case "StorageIoFailed":
        if (reason.remedy !== undefined) return reason.remedy
        return isSomethingElse.test(reason.detail)
          ? "Move it away, or name another directory."
          : "Check that the directory exists, can be read and written by this user, and has space left."
      case "StorageInsecure":
        return line`Run: ${reason.mend}`
      case "InvalidCredentialId":
        return invalidIdRemedy
      case "StorageRefused":
        return "Write to a storage that takes the change."
      case "LockTimeout":
        return "Try again; if it goes on, find the process that holds the lock."
      default:
        return reason.remedy
    }
  }
}) {}

/** The storage methods whose names do not read as words. */
const operationNames: Readonly<Record<string, string>> = {
  exists: "look for",
  loadState: "load the state of",
  saveMany: "save credentials",
  saveState: "save the state of",
  withLock: "lock"
}

/** Where there should be a file there is a folder, a pipe or a device; or a file where there should be a folder. */
const isSomethingElse = /^is (?:an? [a-z]+, not a file|not a directory)$/

/**
 * What to do about an {@link InvalidCredentialId}.
 *
 * @internal
 */
export const invalidIdRemedy = "Use a non-empty id of well-formed text."

/**
 * A stored credential cannot be opened: the key is another, the file is damaged, or it holds another id. It is left as it is.
 *
 * @since 0.1.0
 * @category errors
 */
export class CredentialDecryptionFailed
  extends ActionableError<CredentialDecryptionFailed>()("CredentialDecryptionFailed", {
    id: Schema.String,
    /** The file, or the place in a database. */
    location: Schema.String,
    detail: Schema.String
  }, {
    message: ({ detail, id, location }) => line`${quoted(id)} in ${location} cannot be opened: ${detail}`,
    isRetryable: false,
    remedy:
      "Set HIVE_CREDENTIAL_KEY to the key it was written with (several, separated by commas, are tried in turn), or delete the credential and sync again."
  })
{}

/**
 * What storage can fail with when it reads.
 *
 * @since 0.1.0
 * @category errors
 */
export type StorageFailure = CredentialStorageError | CredentialDecryptionFailed

/**
 * Another writer saved the entry since it was read: this write was not made.
 *
 * @since 0.1.0
 * @category errors
 */
export class GenerationConflict extends ActionableError<GenerationConflict>()("GenerationConflict", {
  id: Schema.String,
  expected: Schema.Int,
  actual: Schema.Int
}, {
  message: ({ actual, expected, id }) =>
    line`${quoted(id)} was saved by another writer (generation ${actual}, expected ${expected})`,
  isRetryable: true,
  remedy: "Read the entry again and decide again."
}) {}
