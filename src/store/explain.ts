import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type { CredentialStorageError } from "../errors/StorageError.ts"
import type { CredentialIssuer, CredentialRef } from "../model/Credential.ts"
import { coolDownLeft } from "../model/freshness.ts"
import { shownName } from "../util/sanitize.ts"
import type { Circumstances } from "./core/decide.ts"
import { freshnessOf, renewalAt, timeLeft } from "./core/decide.ts"
import type { Entry } from "./core/Entry.ts"
import { asOf } from "./core/transition.ts"

/**
 * The status of a credential and what it results from, without secrets. Times are by the local clock.
 *
 * @since 0.1.0
 * @category models
 */
export interface CredentialExplanation {
  readonly ref: CredentialRef
  readonly id: string
  readonly provider: string | undefined
  readonly alias: string | undefined
  /** `missing`: nothing is cached, but something is known of it, such as a rate limit. */
  readonly status: "fresh" | "stale" | "due" | "expired" | "missing" | "requires_reauth"
  /** Where the current credential came from, if there is one: `served stale` while Aden does not confirm it. */
  readonly source: "memory" | "disk" | "aden" | "served stale" | undefined
  /** The time since Aden last confirmed it or, if that is unknown, since it was first seen. */
  readonly age: Duration.Duration | undefined
  readonly expiresAt: DateTime.Utc | undefined
  readonly timeLeft: Duration.Duration | undefined
  /** From this time on, a read refreshes it. */
  readonly renewalAt: DateTime.Utc | undefined
  /** The tag of the last error, such as `AdenUnavailable`. */
  readonly lastError: string | undefined
  /**
   * The last failure of storage: this credential could not be saved or read again, or the last write of any credential failed.
   * The store works from memory until storage works again; this is then `undefined`.
   */
  readonly storageError: CredentialStorageError | undefined
  /** How long Aden must not be asked for it. */
  readonly coolDownLeft: Duration.Duration | undefined
  readonly reauthorizationUrl: string | undefined
  /** Who issued it; `undefined` where that is not known. */
  readonly issuer: CredentialIssuer | undefined
}

/**
 * Where a credential stands: what `decide` sees, in words.
 *
 * @internal
 */
export const explanationOf = (entry: Entry, circumstances: Circumstances, options: {
  readonly ref: CredentialRef
  readonly isInMemory: boolean
  readonly storageError: CredentialStorageError | undefined
}): CredentialExplanation => {
  const { now } = circumstances
  const { failure, held, id, listed, state } = asOf(entry, now)
  const freshness = freshnessOf(entry, circumstances)
  const coolDown = coolDownLeft(state, now)
  const left = timeLeft(entry, circumstances)
  const renewal = renewalAt(entry, circumstances)
  const isServedStale = failure !== undefined && (freshness === "due" || freshness === "stale")
  return {
    ref: options.ref,
    id,
    provider: held?.credential.integrationType ?? shownName(listed?.provider),
    alias: held?.credential.alias ?? shownName(listed?.alias),
    status: freshness === "blocked" ? "requires_reauth" : freshness,
    source: held === undefined
      ? undefined
      : isServedStale
      ? "served stale"
      : held.source === "aden"
      ? "aden"
      : options.isInMemory
      ? "memory"
      : "disk",
    age: held === undefined ? undefined : Duration.millis(Math.max(0, now - held.confirmedAt)),
    expiresAt: held?.credential.expiresAt,
    timeLeft: Number.isFinite(left) && held !== undefined ? Duration.millis(Math.max(0, left)) : undefined,
    renewalAt: held?.owner === "provider" && Number.isFinite(renewal) ? DateTime.makeUnsafe(renewal) : undefined,
    lastError: failure?._tag ?? state.lastError,
    storageError: options.storageError,
    coolDownLeft: coolDown > 0 ? Duration.millis(coolDown) : undefined,
    reauthorizationUrl: state.reauthorizationUrl,
    issuer: held === undefined ? state.issuer : held.credential.issuer
  }
}
