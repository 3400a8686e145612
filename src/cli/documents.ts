/**
 * What `--json` prints: one document per command, and one for failures. Times are ISO 8601 in UTC, durations are in ms, and
 * absent values are `null`.
 */
import * as DateTime from "effect/DateTime"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import type { CredentialIssuer } from "../model/Credential.ts"
import { printable } from "../util/sanitize.ts"
import { Timestamp } from "../util/Timestamp.ts"

/** `undefined` here, `null` in the document, so that a script finds every key. */
const orNull = <S extends Schema.Top>(schema: S) =>
  Schema.NullOr(schema).pipe(
    Schema.decodeTo(Schema.UndefinedOr(Schema.toType(schema)), {
      decode: SchemaGetter.transform((value: S["Type"] | null) => value ?? undefined),
      encode: SchemaGetter.transform((value: S["Type"] | undefined) => value ?? null)
    })
  )

/**
 * Text from storage or a server, without control and invisible characters: JSON would pass them on to the program that decodes
 * it. Only secrets are `Schema.String`.
 */
const Shown = Schema.String.pipe(
  Schema.decodeTo(Schema.String, { decode: SchemaGetter.passthrough(), encode: SchemaGetter.transform(printable) })
)

const Text = orNull(Shown)
const Time = orNull(Timestamp)

/** Who issued a credential: the Aden, and the tenant there. `null` where it does not say. */
const Issuer = orNull(Schema.Struct({ name: Shown, tenantId: Text }))

/** An issuer as documents hold it. */
export const issuerOf = (issuer: CredentialIssuer | undefined) =>
  issuer === undefined ? undefined : { name: issuer.name, tenantId: issuer.tenantId }

/** When a token expires; both `null` when it does not. `expiresInMs` is negative once it has expired. */
const expiry = { expiresAt: Time, expiresInMs: orNull(Schema.Finite) }

/** The expiry of a token as documents hold it. */
export const expiryOf = (expiresAt: DateTime.Utc | undefined, now: DateTime.Utc) => ({
  expiresAt,
  expiresInMs: expiresAt === undefined ? undefined : DateTime.toEpochMillis(expiresAt) - DateTime.toEpochMillis(now)
})

/**
 * What went wrong. `tag` is the tag of the library's error (such as `ReauthRequired`), of the usage error (such as
 * `MissingArgument`), or `UnexpectedError`; the optional fields are there when the error has them.
 *
 * @since 0.1.0
 * @category documents
 */
export const ErrorDetails = Schema.Struct({
  tag: Shown,
  message: Shown,
  /** One sentence on what to do about it. */
  remedy: Shown,
  exitCode: Schema.Int,
  /** Whether the same command can succeed later without any change. */
  isRetryable: Schema.Boolean,
  /** How long to wait before trying again, if known. */
  retryAfterMs: Schema.optionalKey(Schema.DurationFromMillis),
  id: Schema.optionalKey(Shown),
  ref: Schema.optionalKey(Shown),
  setting: Schema.optionalKey(Shown),
  choices: Schema.optionalKey(Schema.Array(Shown)),
  reauthorizationUrl: Schema.optionalKey(Shown)
})

/**
 * @since 0.1.0
 * @category documents
 */
export type ErrorDetails = typeof ErrorDetails.Type

/**
 * What any command prints instead of its own document when it failed.
 *
 * @since 0.1.0
 * @category documents
 */
export const ErrorDocument = Schema.Struct({ error: ErrorDetails })

/**
 * `sync`: what became of each integration.
 *
 * @since 0.1.0
 * @category documents
 */
export const SyncDocument = Schema.Struct({
  synced: Schema.Array(Schema.Struct({ id: Shown, provider: Text, alias: Text, ...expiry })),
  skipped: Schema.Array(Schema.Struct({
    id: Text,
    provider: Text,
    alias: Text,
    reason: Schema.Literals(["ReauthRequired", "OwnedElsewhere", "NotFound", "Malformed"]),
    detail: Shown,
    reauthorizationUrl: Text
  })),
  failed: Schema.Array(Schema.Struct({ id: Shown, provider: Text, alias: Text, error: ErrorDetails })),
  /** The ids of stored credentials that Aden no longer has. */
  removed: Schema.Array(Shown),
  /** Whether Aden's list may lack integrations, because it tells of further pages. Nothing is removed then. */
  isIncomplete: Schema.Boolean
})

/**
 * `list`: the stored credentials.
 *
 * @example
 * ```ts
 * import { ListDocument } from "aden-credentials/cli"
 * import { Effect, Schema } from "effect"
 *
 * const blockedIn = Effect.fn(function*(stdout: string) {
 *   const list = yield* Schema.decodeUnknownEffect(Schema.fromJsonString(ListDocument))(stdout)
 *   return list.filter(({ status }) => status === "requires_reauth").map(({ ref }) => ref)
 * })
 * ```
 *
 * @since 0.1.0
 * @category documents
 */
export const ListDocument = Schema.Array(Schema.Struct({
  ref: Shown,
  id: Shown,
  type: Text,
  provider: Text,
  alias: Text,
  status: Schema.Literals(["active", "expired", "requires_reauth", "unreadable"]),
  issuer: Issuer,
  /** Whether it is another issuer's, and does not exist for programs with these settings. */
  isOthers: Schema.Boolean,
  ...expiry
}))

/**
 * `token`: the secret itself.
 *
 * @since 0.1.0
 * @category documents
 */
export const TokenDocument = Schema.Struct({ ref: Shown, id: Shown, token: Schema.String, ...expiry })

/**
 * `refresh`: the refreshed credential, without its token.
 *
 * @since 0.1.0
 * @category documents
 */
export const RefreshDocument = Schema.Struct({
  ref: Shown,
  id: Shown,
  provider: Text,
  alias: Text,
  ...expiry
})

/**
 * `validate`: what Aden says about the token, with its expiry if Aden gives one.
 *
 * @since 0.1.0
 * @category documents
 */
export const ValidateDocument = Schema.Struct({
  ref: Shown,
  valid: Schema.Boolean,
  reason: Text,
  requiresReauthorization: Schema.Boolean,
  reauthorizationUrl: Text,
  ...expiry
})

/**
 * `delete`: what was deleted.
 *
 * @since 0.1.0
 * @category documents
 */
export const DeleteDocument = Schema.Struct({ ref: Shown, deleted: Schema.Literal(true) })

/**
 * `adopt`: what became of a credential of another issuer.
 *
 * @since 0.1.0
 * @category documents
 */
export const AdoptDocument = Schema.Struct({
  id: Shown,
  outcome: Schema.Literals(["adopted", "deleted"]),
  /** Whose it was. */
  issuer: Issuer
})

/**
 * `health`: what Aden reports about itself.
 *
 * @since 0.1.0
 * @category documents
 */
export const HealthDocument = Schema.Struct({
  status: Shown,
  version: Text,
  timestamp: Time,
  latencyMs: Schema.DurationFromMillis
})

/**
 * `explain`: the status of a stored credential, and what it results from.
 *
 * @since 0.1.0
 * @category documents
 */
export const ExplainDocument = Schema.Struct({
  ref: Shown,
  id: Shown,
  provider: Text,
  alias: Text,
  status: Schema.Literals(["fresh", "stale", "due", "expired", "missing", "requires_reauth"]),
  source: orNull(Schema.Literals(["memory", "disk", "aden", "served stale"])),
  /** The time since Aden last confirmed it. */
  ageMs: orNull(Schema.DurationFromMillis),
  ...expiry,
  /** From this time on, a read refreshes it. */
  renewalAt: Time,
  lastError: Text,
  /** The failure of storage because of which the credential is in memory only. */
  storageError: Text,
  /** How long Aden must not be asked for it. */
  coolDownLeftMs: orNull(Schema.DurationFromMillis),
  reauthorizationUrl: Text,
  issuer: Issuer
})

/**
 * `keys generate` without `--save`: the secret itself.
 *
 * @since 0.1.0
 * @category documents
 */
export const KeyDocument = Schema.Struct({ key: Schema.String })

/**
 * `keys generate --save` and `keys save`: where the key file is.
 *
 * @since 0.1.0
 * @category documents
 */
export const KeyFileDocument = Schema.Struct({ location: Shown })

/**
 * `keys rotate`: how many credentials are encrypted with the first key now, and which are not. `left` are those of tenants that
 * have a key of their own. A location is a file, or a place in a database.
 *
 * @since 0.1.0
 * @category documents
 */
export const RotateDocument = Schema.Struct({
  total: Schema.Int,
  rotated: Schema.Int,
  /** Already encrypted with the first key. */
  unchanged: Schema.Int,
  left: Schema.Array(Schema.Struct({ location: Shown })),
  failed: Schema.Array(Schema.Struct({ location: Shown, error: ErrorDetails }))
})

/** A storage, named without user name and password. */
const Storage = Schema.Struct({
  kind: Schema.Literals(["directory", "redis", "postgres"]),
  /** The path of a directory, or the URL of a server. */
  location: Shown,
  namespace: Text,
  table: Text
})

/**
 * `migrate`: how many credentials are at the target now, and which are not copied. `kept` are those that are newer at the target
 * or were deleted there; `failed` those that cannot be opened or written. A location is a file, or a place in a database.
 *
 * @since 0.1.0
 * @category documents
 */
export const MigrateDocument = Schema.Struct({
  from: Storage,
  to: Storage,
  total: Schema.Int,
  copied: Schema.Int,
  /** Already at the target. */
  unchanged: Schema.Int,
  kept: Schema.Array(Schema.Struct({
    id: Shown,
    location: Shown,
    reason: Schema.Literals(["newer", "deleted"])
  })),
  /** The id is `null` when nothing of a tenant can be read. */
  failed: Schema.Array(Schema.Struct({ id: Text, location: Shown, error: ErrorDetails }))
})

/**
 * `doctor`: what was checked. A `failure` has to be fixed, and decides the exit status. A `warning` breaks nothing yet, and
 * decides the exit status when there is no failure. `skipped` is what a failure prevented from being checked.
 *
 * @since 0.1.0
 * @category documents
 */
export const DoctorDocument = Schema.Struct({
  exitCode: Schema.Int,
  findings: Schema.Array(Schema.Struct({
    check: Shown,
    status: Schema.Literals(["ok", "warning", "failure", "skipped"]),
    message: Shown,
    /** How to fix it. */
    remedy: Text,
    /** The exit status if this is the most severe finding. */
    exitCode: Schema.Int,
    /** The files, folders or places in a database that it is about. */
    locations: Schema.Array(Shown)
  }))
})

/**
 * `emulator`: how to reach it, printed once it listens.
 *
 * @since 0.1.0
 * @category documents
 */
export const EmulatorDocument = Schema.Struct({
  url: Shown,
  consoleUrl: Shown,
  tenantId: Shown,
  apiKey: Schema.String,
  integrations: Schema.Array(Schema.Struct({ id: Shown, status: Shown }))
})
