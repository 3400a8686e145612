/**
 * Why a program does not get the credential that it asks the store for.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import { cleanMessage, cleanText } from "../util/sanitize.ts"
import { ActionableError, line, optionalText, quoted } from "./Actionable.ts"
import {
  AdenForbidden,
  AdenRejected,
  AdenUnauthorized,
  AdenUnavailable,
  RateLimited,
  reauthorizationRemedy,
  ReauthRequired,
  RefreshFailed
} from "./AdenError.ts"
import { CredentialDecryptionFailed, CredentialStorageError } from "./StorageError.ts"

/**
 * Neither the storage nor the provider has what the ref names. A ref that looks like a secret, put there by mistake, is masked in the
 * message.
 *
 * @since 0.1.0
 * @category errors
 */
export class CredentialNotFound extends ActionableError<CredentialNotFound>()("CredentialNotFound", {
  ref: Schema.String
}, {
  message: ({ ref }) =>
    ref === "" ? "An empty ref names no credential" : line`There is no credential ${quoted(cleanMessage(ref))}`,
  isRetryable: false,
  remedy: "Use a ref that `aden-creds list` shows, or connect the integration in Aden and sync."
}) {}

/**
 * The ref names a provider with several accounts. `choices` are the refs that name one each.
 *
 * @since 0.1.0
 * @category errors
 */
export class AmbiguousCredential extends ActionableError<AmbiguousCredential>()("AmbiguousCredential", {
  ref: Schema.String,
  choices: Schema.Array(Schema.String)
}, {
  message: ({ choices, ref }) => line`${quoted(ref)} names several accounts: ${listed(choices)}`,
  isRetryable: false,
  remedy: ({ choices }) => line`Use one of: ${listed(choices)}.`
}) {}

const listed = (names: ReadonlyArray<string>): string => names.map(cleanText).join(", ")

/**
 * The credential is there, the key asked for is not.
 *
 * @since 0.1.0
 * @category errors
 */
export class CredentialKeyNotFound extends ActionableError<CredentialKeyNotFound>()("CredentialKeyNotFound", {
  ref: Schema.String,
  /** The key asked for; `undefined` when it was the default key. */
  key: optionalText
}, {
  message: ({ key, ref }) =>
    key === undefined
      ? line`Credential ${quoted(ref)} holds no token`
      : line`Credential ${quoted(ref)} has no key ${quoted(key)}`,
  isRetryable: false,
  remedy: "Ask for a key that the credential has."
}) {}

/**
 * Aden was asked for a token that lasts longer, and the one it answered does not last as long as the caller needs.
 *
 * @since 0.1.0
 * @category errors
 */
export class InsufficientTimeLeft extends ActionableError<InsufficientTimeLeft>()("InsufficientTimeLeft", {
  ref: Schema.String,
  minTimeLeft: Schema.Duration,
  timeLeft: Schema.Duration
}, {
  message: ({ minTimeLeft, ref, timeLeft }) =>
    line`The token of ${quoted(ref)} lasts ${Duration.format(timeLeft)}, and ${
      Duration.format(minTimeLeft)
    } are needed`,
  isRetryable: false,
  remedy: "Ask for less time, and get the token again when it is used."
}) {}

/**
 * No person authorized the integration again before the wait ended.
 *
 * @since 0.1.0
 * @category errors
 */
export class ReauthorizationTimeout extends ActionableError<ReauthorizationTimeout>()("ReauthorizationTimeout", {
  ref: Schema.String,
  after: Schema.Duration,
  reauthorizationUrl: optionalText
}, {
  message: ({ after, reauthorizationUrl, ref }) => {
    const where = reauthorizationUrl === undefined ? "" : ` at ${reauthorizationUrl}`
    return line`${quoted(ref)} was not authorized again${where} within ${Duration.format(after)}`
  },
  isRetryable: false,
  remedy: ({ reauthorizationUrl }) => reauthorizationRemedy(reauthorizationUrl)
}) {}

/**
 * The operation needs a provider, and none is registered for the credential.
 *
 * @since 0.1.0
 * @category errors
 */
export class NoProvider extends ActionableError<NoProvider>()("NoProvider", {
  /** `undefined` when no provider is registered at all. */
  ref: optionalText
}, {
  message: ({ ref }) =>
    ref === undefined
      ? "No credential provider is registered"
      : line`No registered provider renews ${quoted(ref)}`,
  isRetryable: false,
  remedy: ({ ref }) =>
    ref === undefined
      ? "Provide AdenSyncProvider.layer to CredentialStore.layer."
      : "It is the program's own: save a new one in its place, or delete it to have a provider's answer for the ref."
}) {}

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
  extends ActionableError<RequiredCredentialsUnusable>()("RequiredCredentialsUnusable", {
    problems: Schema.NonEmptyArray(Schema.Struct({
      ref: Schema.String,
      error: Schema.Union([...CredentialFailure.members, CredentialKeyNotFound])
    }))
  }, {
    message: ({ problems }) =>
      line`Credentials are missing or blocked: ${problems.map(({ error }) => error.message).join("; ")}`,
    isRetryable: ({ problems }) => problems.every(({ error }) => error.isRetryable),
    remedy: ({ problems }) => Array.from(new Set(problems.map(({ error }) => error.remedy))).join(" ")
  })
{}
