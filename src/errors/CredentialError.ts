/**
 * Every error of the package. Each is a typed failure with a message a person can act on, `isRetryable`, `retryAfter` where
 * a time is known, and `remedy`, one sentence on what to do. None holds a secret, in any field or cause.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import { cleanText, printable } from "../util/sanitize.ts"

/**
 * What every error of this package answers besides its own fields.
 *
 * @since 0.1.0
 * @category models
 */
export interface Actionable {
  /** Whether the same call can succeed later without anybody changing anything. */
  readonly isRetryable: boolean
  /** How long to wait before the next call, where that is known. */
  readonly retryAfter?: Duration.Duration | undefined
  /** One sentence for a person: what to do about it. */
  readonly remedy: string
}

const optionalText = Schema.optional(Schema.String)
const optionalDuration = Schema.optional(Schema.Duration)

/** One line of visible characters, whatever it is put together from: what an error speaks of came from outside. */
const line = (parts: TemplateStringsArray, ...values: ReadonlyArray<string | number>): string =>
  printable(String.raw({ raw: parts }, ...values))

/** A name that came from outside, within a line. */
const quoted = (name: string): string => JSON.stringify(cleanText(name))

const about = (id: string | undefined): string => id === undefined ? "" : ` for ${quoted(id)}`
const wait = (duration: Duration.Duration | undefined): string =>
  duration === undefined
    ? ""
    : ` (next try in ${Duration.format(Duration.seconds(Math.ceil(Duration.toSeconds(duration))))})`

// ---------------------------------------------------------------------------------------------------------------------
// Why Aden is unavailable
// ---------------------------------------------------------------------------------------------------------------------

/**
 * No answer: connection refused or reset, DNS, TLS. `detail` is the system's code or a short description.
 *
 * @since 0.1.0
 * @category reasons
 */
export class AdenConnectionFailed extends Schema.TaggedError<AdenConnectionFailed>()("AdenConnectionFailed", {
  detail: Schema.String
}) {
  override get message(): string {
    return line`no connection: ${this.detail}`
  }
}

/**
 * No complete answer within the time allowed.
 *
 * @since 0.1.0
 * @category reasons
 */
export class AdenTimeout extends Schema.TaggedError<AdenTimeout>()("AdenTimeout", {
  after: Schema.Duration
}) {
  override get message(): string {
    return line`no answer within ${Duration.format(this.after)}`
  }
}

/**
 * An answer that is not what the contract says: a status, a body or a redirect that a proxy or a faulty server sends.
 * `status` is the HTTP status, where there was one.
 *
 * @since 0.1.0
 * @category reasons
 */
export class AdenProtocolError extends Schema.TaggedError<AdenProtocolError>()("AdenProtocolError", {
  detail: Schema.String,
  status: Schema.optional(Schema.Int),
  /** Whether asking again at once can help: after a torn body it can, after a proxy's page or another's credential not. */
  isTransient: Schema.Boolean
}) {
  override get message(): string {
    return this.status === undefined ? printable(this.detail) : line`HTTP ${this.status}: ${this.detail}`
  }
}

/**
 * Aden failed several times in a row, and for a while is not asked at all.
 *
 * @since 0.1.0
 * @category reasons
 */
export class AdenCircuitOpen extends Schema.TaggedError<AdenCircuitOpen>()("AdenCircuitOpen", {
  retryAfter: optionalDuration
}) {
  override get message(): string {
    return "not asked, because it failed several times in a row"
  }
}

/**
 * Why Aden is unavailable: the `reason` of {@link AdenUnavailable}.
 *
 * @since 0.1.0
 * @category reasons
 */
export const AdenUnavailableReason = Schema.Union([
  AdenConnectionFailed,
  AdenTimeout,
  AdenProtocolError,
  AdenCircuitOpen
])

/**
 * @since 0.1.0
 * @category reasons
 */
export type AdenUnavailableReason = typeof AdenUnavailableReason.Type

// ---------------------------------------------------------------------------------------------------------------------
// What Aden's answers mean
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Aden cannot be reached or does not answer sensibly: nothing is known about the credential. `reason` says why.
 *
 * @since 0.1.0
 * @category errors
 */
export class AdenUnavailable extends Schema.TaggedError<AdenUnavailable>()("AdenUnavailable", {
  id: optionalText,
  reason: AdenUnavailableReason
}) implements Actionable {
  override get message(): string {
    return line`Aden is unavailable${about(this.id)}: ${this.reason.message}${wait(this.retryAfter)}`
  }
  get isRetryable(): boolean {
    return true
  }
  get retryAfter(): Duration.Duration | undefined {
    return this.reason._tag === "AdenCircuitOpen" ? this.reason.retryAfter : undefined
  }
  get remedy(): string {
    return this.reason._tag === "AdenProtocolError"
      ? "Check that ADEN_API_URL names an Aden server and ADEN_TENANT_ID, if set, its tenant, and that no proxy answers in its place."
      : "Check ADEN_API_URL and the network; the library tries again by itself."
  }
}

/**
 * Aden asked to be left alone for `retryAfter`.
 *
 * @since 0.1.0
 * @category errors
 */
export class RateLimited extends Schema.TaggedError<RateLimited>()("RateLimited", {
  id: optionalText,
  retryAfter: Schema.Duration
}) implements Actionable {
  override get message(): string {
    return line`Aden limits the rate of requests${about(this.id)}${wait(this.retryAfter)}`
  }
  get isRetryable(): boolean {
    return true
  }
  get remedy(): string {
    return "Wait for the time given, or ask for fewer refreshes."
  }
}

/**
 * A person has to authorize the integration again. The message holds the URL where they do it, when Aden gave one.
 *
 * @since 0.1.0
 * @category errors
 */
export class ReauthRequired extends Schema.TaggedError<ReauthRequired>()("ReauthRequired", {
  id: Schema.String,
  reauthorizationUrl: optionalText,
  /** Aden's explanation, cleaned. */
  detail: optionalText
}) implements Actionable {
  override get message(): string {
    const where = this.reauthorizationUrl === undefined ? "" : `: ${this.reauthorizationUrl}`
    return line`Integration ${quoted(this.id)} has to be authorized again${where}`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return this.reauthorizationUrl === undefined
      ? "Reconnect the integration in Aden's dashboard."
      : line`Open ${this.reauthorizationUrl} in a browser and connect the integration again.`
  }
}

/**
 * Aden could not renew the token, and did not say that a person must act; or it answered a token that has expired already.
 *
 * @since 0.1.0
 * @category errors
 */
export class RefreshFailed extends Schema.TaggedError<RefreshFailed>()("RefreshFailed", {
  id: Schema.String,
  detail: Schema.String,
  retryAfter: optionalDuration
}) implements Actionable {
  override get message(): string {
    return line`Aden could not refresh ${quoted(this.id)}: ${this.detail}${wait(this.retryAfter)}`
  }
  get isRetryable(): boolean {
    return true
  }
  get remedy(): string {
    return "Try again later; if it goes on, reconnect the integration in Aden's dashboard."
  }
}

/**
 * Aden does not accept the API key. This is about the program, not about a person's connection.
 *
 * @since 0.1.0
 * @category errors
 */
export class AdenUnauthorized extends Schema.TaggedError<AdenUnauthorized>()("AdenUnauthorized", {
  id: optionalText,
  detail: optionalText
}) implements Actionable {
  override get message(): string {
    return line`Aden rejects the API key${about(this.id)}${this.detail === undefined ? "" : `: ${this.detail}`}`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return "Set ADEN_API_KEY to a key that is valid for this server and tenant."
  }
}

/**
 * The API key is known but may not do this.
 *
 * @since 0.1.0
 * @category errors
 */
export class AdenForbidden extends Schema.TaggedError<AdenForbidden>()("AdenForbidden", {
  id: optionalText,
  detail: optionalText
}) implements Actionable {
  override get message(): string {
    return line`Aden does not allow this API key access${about(this.id)}${
      this.detail === undefined ? "" : `: ${this.detail}`
    }`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return "Give the API key access to this tenant and integration in Aden's dashboard, or use another key."
  }
}

/**
 * Aden knows no integration of this id. Programs that use `CredentialStore` see `CredentialNotFound` instead.
 *
 * @since 0.1.0
 * @category errors
 */
export class IntegrationNotFound extends Schema.TaggedError<IntegrationNotFound>()("IntegrationNotFound", {
  id: Schema.String
}) implements Actionable {
  override get message(): string {
    return line`Aden has no integration ${quoted(this.id)}`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return "Connect the integration in Aden's dashboard, or use one that Aden lists."
  }
}

/**
 * Aden refused the request for a reason that has no error of its own.
 *
 * @since 0.1.0
 * @category errors
 */
export class AdenRejected extends Schema.TaggedError<AdenRejected>()("AdenRejected", {
  id: optionalText,
  status: Schema.Int,
  detail: Schema.String
}) implements Actionable {
  override get message(): string {
    return line`Aden refused the request${about(this.id)} (HTTP ${this.status})${
      this.detail === "" ? "" : `: ${this.detail}`
    }`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return "Check that the server and this package speak the same version of the contract."
  }
}

/**
 * What a request to Aden that names no integration can fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type AdenRequestFailure = AdenUnavailable | RateLimited | AdenUnauthorized | AdenForbidden | AdenRejected

/**
 * Everything Aden's answers can mean other than success.
 *
 * @since 0.1.0
 * @category errors
 */
export const AdenFailure = Schema.Union([
  AdenUnavailable,
  RateLimited,
  ReauthRequired,
  RefreshFailed,
  AdenUnauthorized,
  AdenForbidden,
  IntegrationNotFound,
  AdenRejected
])

/**
 * @since 0.1.0
 * @category errors
 */
export type AdenFailure = typeof AdenFailure.Type

/**
 * What asking for one credential can fail with. A credential that the provider does not have is `Option.none` in `fetch` and
 * `IntegrationNotFound` elsewhere.
 *
 * @since 0.1.0
 * @category errors
 */
export type FetchFailure =
  | AdenUnavailable
  | RateLimited
  | ReauthRequired
  | RefreshFailed
  | AdenUnauthorized
  | AdenForbidden
  | AdenRejected

// ---------------------------------------------------------------------------------------------------------------------
// Settings
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A setting is missing, malformed or unsafe. Found when a layer is built, before any request.
 *
 * @since 0.1.0
 * @category errors
 */
export class AdenConfigError extends Schema.TaggedError<AdenConfigError>()("AdenConfigError", {
  /** The setting, by the name under which it is set: `ADEN_API_URL`, `cacheTtl`. */
  setting: Schema.String,
  detail: Schema.String,
  remedy: Schema.String
}) implements Actionable {
  override get message(): string {
    return line`${this.setting} ${this.detail}. ${this.remedy}`
  }
  get isRetryable(): boolean {
    return false
  }
}

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
 * Somebody else holds the lock of the entry. Says nothing about the credential.
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

/** Where there should be a file there is a folder, a pipe or a device; or a file where there should be a folder. */
const isSomethingElse = /^is (?:an? [a-z]+, not a file|not a directory)$/

/** The storage methods whose names are no words. */
const storageOperations: Readonly<Record<string, string>> = {
  exists: "look for",
  loadState: "load the state of",
  saveMany: "save credentials",
  saveState: "save the state of",
  withLock: "lock"
}

/**
 * A credential could not be read from or written to where it rests. `operation` is the storage method.
 *
 * @since 0.1.0
 * @category errors
 */
export class CredentialStorageError extends Schema.TaggedError<CredentialStorageError>()("CredentialStorageError", {
  id: optionalText,
  operation: Schema.String,
  reason: StorageReason
}) implements Actionable {
  override get message(): string {
    return line`Storage could not ${storageOperations[this.operation] ?? this.operation}${
      this.id === undefined ? "" : ` ${quoted(this.id)}`
    }: ${this.reason.message}`
  }
  get isRetryable(): boolean {
    switch (this.reason._tag) {
      case "StorageIoFailed":
      case "LockTimeout":
        return true
      case "StorageInsecure":
      case "InvalidCredentialId":
      case "StorageRefused":
        return false
      default:
        return this.reason.isRetryable
    }
  }
  get remedy(): string {
    switch (this.reason._tag) {
      case "StorageIoFailed":
        if (this.reason.remedy !== undefined) return this.reason.remedy
        return isSomethingElse.test(this.reason.detail)
          ? "Move it away, or name another directory."
          : "Check that the directory exists, can be read and written by this user, and has space left."
      case "StorageInsecure":
        return line`Run: ${this.reason.mend}`
      case "InvalidCredentialId":
        return "Use a non-empty id of well-formed text."
      case "StorageRefused":
        return "Write to a storage that takes the change."
      case "LockTimeout":
        return "Try again; if it goes on, find the process that holds the lock."
      default:
        return this.reason.remedy
    }
  }
}

/**
 * A stored credential cannot be opened: the key is another, the file is damaged, or it holds another id. It is left as it is.
 *
 * @since 0.1.0
 * @category errors
 */
export class CredentialDecryptionFailed
  extends Schema.TaggedError<CredentialDecryptionFailed>()("CredentialDecryptionFailed", {
    id: Schema.String,
    /** The file, or the place in a database. */
    location: Schema.String,
    detail: Schema.String
  })
  implements Actionable
{
  override get message(): string {
    return line`${quoted(this.id)} in ${this.location} cannot be opened: ${this.detail}`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return "Set HIVE_CREDENTIAL_KEY to the key it was written with (several, separated by commas, are tried in turn), or delete the credential and sync again."
  }
}

/**
 * A text is not a Fernet token that these keys open. Says which rule it broke, nothing of what it holds:
 * `Malformed` (not the format, or cut off), `NotAuthentic` (another key, or altered), `Expired` (older than the time to live),
 * `FromFuture` (its time is more than a minute ahead of the clock).
 *
 * @since 0.1.0
 * @category errors
 */
export class FernetTokenInvalid extends Schema.TaggedError<FernetTokenInvalid>()("FernetTokenInvalid", {
  reason: Schema.Literals(["Malformed", "NotAuthentic", "Expired", "FromFuture"])
}) implements Actionable {
  override get message(): string {
    switch (this.reason) {
      case "Malformed":
        return "it is not a complete Fernet token"
      case "NotAuthentic":
        return "it was written with another key, or altered"
      case "Expired":
        return "it is older than allowed"
      case "FromFuture":
        return "its time is ahead of this clock"
    }
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    switch (this.reason) {
      case "Malformed":
        return "Check that the text is complete and unchanged."
      case "NotAuthentic":
        return "Use the key it was written with."
      case "Expired":
        return "Ask for a new token."
      case "FromFuture":
        return "Check the clocks of the writer and of this machine."
    }
  }
}

/**
 * Another writer saved the entry since it was read: this write was not made.
 *
 * @since 0.1.0
 * @category errors
 */
export class GenerationConflict extends Schema.TaggedError<GenerationConflict>()("GenerationConflict", {
  id: Schema.String,
  expected: Schema.Int,
  actual: Schema.Int
}) implements Actionable {
  override get message(): string {
    return line`${quoted(this.id)} was saved by another writer (generation ${this.actual}, expected ${this.expected})`
  }
  get isRetryable(): boolean {
    return true
  }
  get remedy(): string {
    return "Read the entry again and decide anew."
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// What a program asks the store for
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Neither the storage nor the provider has what the ref names.
 *
 * @since 0.1.0
 * @category errors
 */
export class CredentialNotFound extends Schema.TaggedError<CredentialNotFound>()("CredentialNotFound", {
  ref: Schema.String
}) implements Actionable {
  override get message(): string {
    return this.ref === "" ? "An empty ref names no credential" : line`There is no credential ${quoted(this.ref)}`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return "Use a ref that `aden-creds list` shows, or connect the integration in Aden and sync."
  }
}

/**
 * The ref names a provider with several accounts. `choices` are the refs that name one each.
 *
 * @since 0.1.0
 * @category errors
 */
export class AmbiguousCredential extends Schema.TaggedError<AmbiguousCredential>()("AmbiguousCredential", {
  ref: Schema.String,
  choices: Schema.Array(Schema.String)
}) implements Actionable {
  override get message(): string {
    return line`${quoted(this.ref)} names several accounts: ${this.choices.map(cleanText).join(", ")}`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return line`Use one of: ${this.choices.map(cleanText).join(", ")}.`
  }
}

/**
 * The credential is there, the key asked for is not.
 *
 * @since 0.1.0
 * @category errors
 */
export class CredentialKeyNotFound extends Schema.TaggedError<CredentialKeyNotFound>()("CredentialKeyNotFound", {
  ref: Schema.String,
  /** The key asked for; `undefined` when it was the default key. */
  key: optionalText
}) implements Actionable {
  override get message(): string {
    return this.key === undefined
      ? line`Credential ${quoted(this.ref)} holds no token`
      : line`Credential ${quoted(this.ref)} has no key ${quoted(this.key)}`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return "Ask for a key that the credential has."
  }
}

/**
 * Aden was asked for a token that lasts longer, and the one it answered does not last as long as the caller needs.
 *
 * @since 0.1.0
 * @category errors
 */
export class InsufficientTimeLeft extends Schema.TaggedError<InsufficientTimeLeft>()("InsufficientTimeLeft", {
  ref: Schema.String,
  minTimeLeft: Schema.Duration,
  timeLeft: Schema.Duration
}) implements Actionable {
  override get message(): string {
    return line`The token of ${quoted(this.ref)} lasts ${Duration.format(this.timeLeft)}, and ${
      Duration.format(this.minTimeLeft)
    } are needed`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return "Ask for less time, and get the token again when it is used."
  }
}

/**
 * Nobody authorized the integration again in the time that was waited.
 *
 * @since 0.1.0
 * @category errors
 */
export class ReauthorizationTimeout extends Schema.TaggedError<ReauthorizationTimeout>()("ReauthorizationTimeout", {
  ref: Schema.String,
  after: Schema.Duration,
  reauthorizationUrl: optionalText
}) implements Actionable {
  override get message(): string {
    const where = this.reauthorizationUrl === undefined ? "" : ` at ${this.reauthorizationUrl}`
    return line`${quoted(this.ref)} was not authorized again${where} within ${Duration.format(this.after)}`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return this.reauthorizationUrl === undefined
      ? "Reconnect the integration in Aden's dashboard."
      : line`Open ${this.reauthorizationUrl} in a browser and connect the integration again.`
  }
}

/**
 * The operation needs a provider, and none is registered for the credential.
 *
 * @since 0.1.0
 * @category errors
 */
export class NoProvider extends Schema.TaggedError<NoProvider>()("NoProvider", {
  /** `undefined` when no provider is registered at all. */
  ref: optionalText
}) implements Actionable {
  override get message(): string {
    return this.ref === undefined
      ? "No credential provider is registered"
      : line`No registered provider renews ${quoted(this.ref)}`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return this.ref === undefined
      ? "Provide AdenSyncProvider.layer to CredentialStore.layer."
      : "It is the program's own: save a new one in its place, or delete it to have a provider's answer for the ref."
  }
}

/**
 * What storage can fail with when it reads.
 *
 * @since 0.1.0
 * @category errors
 */
export type StorageFailure = CredentialStorageError | CredentialDecryptionFailed

/**
 * Everything that a read through `CredentialStore` can fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export const CredentialFailure = Schema.Union([
  AdenUnavailable,
  RateLimited,
  ReauthRequired,
  RefreshFailed,
  AdenUnauthorized,
  AdenForbidden,
  AdenRejected,
  CredentialNotFound,
  AmbiguousCredential,
  CredentialStorageError,
  CredentialDecryptionFailed
])

/**
 * @since 0.1.0
 * @category errors
 */
export type CredentialFailure = typeof CredentialFailure.Type

/**
 * Some of the credentials that a program needs cannot be used: all of them, each with its own error.
 *
 * @since 0.1.0
 * @category errors
 */
export class RequiredCredentialsUnusable
  extends Schema.TaggedError<RequiredCredentialsUnusable>()("RequiredCredentialsUnusable", {
    problems: Schema.NonEmptyArray(Schema.Struct({
      ref: Schema.String,
      error: Schema.Union([...CredentialFailure.members, CredentialKeyNotFound])
    }))
  })
  implements Actionable
{
  override get message(): string {
    return line`Credentials are missing or blocked: ${this.problems.map(({ error }) => error.message).join("; ")}`
  }
  get isRetryable(): boolean {
    return this.problems.every(({ error }) => error.isRetryable)
  }
  get remedy(): string {
    return Array.from(new Set(this.problems.map(({ error }) => error.remedy))).join(" ")
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// What a credential is used for
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The text of a template is not one: a placeholder is not closed, holds a brace, or names nothing. `offset` is where the
 * placeholder begins, in UTF-16 code units.
 *
 * @since 0.1.0
 * @category reasons
 */
export class TemplateMalformed extends Schema.TaggedError<TemplateMalformed>()("TemplateMalformed", {
  offset: Schema.Int,
  detail: Schema.String
}) {
  override get message(): string {
    return line`the placeholder at offset ${this.offset} ${this.detail}`
  }
}

/**
 * The template names what it may not use: a ref that is not in the list, or a key that begins with `_`.
 *
 * @since 0.1.0
 * @category reasons
 */
export class TemplateRefused extends Schema.TaggedError<TemplateRefused>()("TemplateRefused", {
  ref: Schema.String,
  /** The key, where it is what was refused; `undefined` when it was the ref. */
  key: optionalText
}) {
  override get message(): string {
    return this.key === undefined
      ? line`${quoted(this.ref)} is not among the refs allowed here`
      : line`the key ${quoted(this.key)} is internal and never expanded`
  }
}

/**
 * What a template becomes does not fit where it goes: a header with a line break. `detail` says what is wrong, not the value.
 *
 * @since 0.1.0
 * @category reasons
 */
export class TemplateUnfit extends Schema.TaggedError<TemplateUnfit>()("TemplateUnfit", {
  detail: Schema.String
}) {
  override get message(): string {
    return printable(this.detail)
  }
}

/**
 * A template was not expanded. `reason` says why, `place` where it stands: `header X-Api-Key`. Nothing was sent, and neither
 * the template's text nor a value is shown.
 *
 * @since 0.1.0
 * @category errors
 */
export class CredentialTemplateError extends Schema.TaggedError<CredentialTemplateError>()("CredentialTemplateError", {
  place: optionalText,
  reason: Schema.Union([TemplateMalformed, TemplateRefused, TemplateUnfit])
}) implements Actionable {
  override get message(): string {
    const place = this.place === undefined ? "" : ` in ${cleanText(this.place)}`
    return line`The template${place} cannot be expanded: ${this.reason.message}`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    switch (this.reason._tag) {
      case "TemplateMalformed":
        return "Write placeholders as {{ref}} or {{ref.key}}, and \\{{ for two braces."
      case "TemplateRefused":
        return this.reason.key === undefined
          ? "Add the ref to the list of those that may be used, if this text may have it."
          : "Name a key without a leading underscore."
      case "TemplateUnfit":
        return "Give what fits there: a header takes visible ASCII characters and spaces, on one line."
    }
  }
}

/**
 * A credential was about to go where it may not go. Nothing was sent there.
 *
 * @since 0.1.0
 * @category errors
 */
export class CredentialHostDenied extends Schema.TaggedError<CredentialHostDenied>()("CredentialHostDenied", {
  ref: Schema.String,
  /** The host and port, as the URL gives them, in lower case; `(not shown)` where they may hold the credential. */
  host: Schema.String,
  detail: Schema.String,
  /** What to do, where that is not about the host. */
  advice: Schema.optionalKey(Schema.String)
}) implements Actionable {
  override get message(): string {
    return line`Credential ${quoted(this.ref)} is not sent to ${quoted(this.host)}: ${this.detail}`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return this.advice ?? "Use https and a host of allowedHosts; add the host there if it may have the credential."
  }
}

/**
 * Everything but the API's own failures that a request by `CredentialHttpClient` can fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export const CredentialUseFailure = Schema.Union([
  ...CredentialFailure.members,
  CredentialKeyNotFound,
  CredentialTemplateError,
  CredentialHostDenied
])

/**
 * @since 0.1.0
 * @category errors
 */
export type CredentialUseFailure = typeof CredentialUseFailure.Type

// ---------------------------------------------------------------------------------------------------------------------
// Why a tenant has no store
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The id cannot name a tenant: it is empty, too long, not well-formed text, or holds characters that nobody sees.
 *
 * @since 0.1.0
 * @category reasons
 */
export class InvalidTenantId extends Schema.TaggedError<InvalidTenantId>()("InvalidTenantId", {
  detail: Schema.String
}) {
  override get message(): string {
    return printable(this.detail)
  }
}

/**
 * The settings of a tenant could not be looked up: what a `lookup` of `TenantCredentials` fails with when a database or a
 * vault does not answer, or does not know the tenant. `detail` is for a person, and holds no secret.
 *
 * @since 0.1.0
 * @category reasons
 */
export class TenantLookupFailed extends Schema.TaggedError<TenantLookupFailed>()("TenantLookupFailed", {
  detail: Schema.String,
  /** Whether the same lookup can succeed later by itself. */
  isTransient: Schema.Boolean
}) {
  override get message(): string {
    return printable(this.detail)
  }
}

/**
 * There is no store for a tenant. `reason` says why.
 *
 * @since 0.1.0
 * @category errors
 */
export class TenantError extends Schema.TaggedError<TenantError>()("TenantError", {
  tenantId: Schema.String,
  reason: Schema.Union([AdenConfigError, InvalidTenantId, TenantLookupFailed])
}) implements Actionable {
  override get message(): string {
    return line`Tenant ${quoted(this.tenantId)} has no credentials: ${this.reason.message}`
  }
  get isRetryable(): boolean {
    return this.reason._tag === "TenantLookupFailed" && this.reason.isTransient
  }
  get remedy(): string {
    switch (this.reason._tag) {
      case "AdenConfigError":
        return this.reason.remedy
      case "InvalidTenantId":
        return "Use a tenant id of 1 to 200 visible characters."
      case "TenantLookupFailed":
        return this.reason.isTransient
          ? "Try again; if it goes on, check where the lookup reads the settings of tenants."
          : "Check the tenant id, and that the lookup knows the tenant."
    }
  }
}
