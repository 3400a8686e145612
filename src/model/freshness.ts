import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type { Credential } from "./Credential.ts"
import type { CredentialState } from "./CredentialState.ts"

/**
 * When a token expires by the local clock, in ms since the epoch; `Infinity` when it does not. The expiry is Aden's time, so
 * `offset`, how far Aden's clock is ahead in ms, is taken off.
 */
export const localExpiry = (credential: Credential, offset: number): number =>
  credential.expiresAt === undefined ? Infinity : DateTime.toEpochMillis(credential.expiresAt) - offset

/** A token's lifetime in ms, from its first receipt to its expiry; `undefined` when it is not known when it was received. */
export const lifetimeOf = (credential: Credential, offset: number): number | undefined =>
  credential.lastRefreshed === undefined
    ? undefined
    : Math.max(0, localExpiry(credential, offset) - DateTime.toEpochMillis(credential.lastRefreshed))

/**
 * How long before its expiry a token is refreshed, in ms: the buffer times the jitter, but never in the first half of the token's
 * lifetime. Where the lifetime is not known, only the buffer counts.
 */
export const refreshLead = (options: {
  readonly buffer: number
  readonly lifetime: number | undefined
  readonly jitter: number
}): number => {
  const halfLife = (options.lifetime ?? Infinity) / 2
  return Math.min(Math.min(options.buffer, halfLife) * options.jitter, halfLife)
}

/** Bounds of the jitter after a repeated rate limit, in ms, so that limited clients do not all return at the same moment. */
const hintSpread = { shortest: 60_000, longest: 300_000 }

/**
 * Back-off: how long to wait after a failure before Aden is asked again, in ms. A `Retry-After` hint is waited out; from the second
 * failure in a row on, jitter of up to the hint's own length is added. What is waited beyond the hint takes at most three quarters
 * of the time that the current token has left by then.
 */
export const backoffDelay = (options: {
  readonly delay: number
  /** Aden's `Retry-After` in ms; 0 when it gave none. */
  readonly hint: number
  /** Until the token expires, in ms; 0 when it has expired or there is none. */
  readonly timeLeft: number
  /** The number of failures in a row. */
  readonly failures: number
  readonly random: number
}): number => {
  const { delay, failures, hint, random, timeLeft } = options
  const spread = failures > 1 ? Math.min(Math.max(hint, hintSpread.shortest), hintSpread.longest) : 0
  const wanted = hint > 0 ? Math.max(hint + random * spread, delay) : delay
  return timeLeft <= hint ? wanted : Math.min(wanted, hint + Math.max(1_000, 0.75 * (timeLeft - hint)))
}

/** Clock skew allowed between hosts that share a storage, in ms. */
export const clockTolerance = 300_000

/** The longest rate limit: one that asks for more, or for ever, ends then. */
export const longestRateLimit = Duration.hours(1)

/** The longest cool-down that is believed, in ms: a later end was written by a clock that was wrong. */
const longestCoolDown = Duration.toMillis(longestRateLimit) + clockTolerance

/** How much of the cool-down after a rate limit is left, in ms; 0 or less when Aden may be asked. */
export const coolDownLeft = ({ coolDownUntil }: CredentialState, now: number): number => {
  const left = coolDownUntil === undefined ? 0 : DateTime.toEpochMillis(coolDownUntil) - now
  return left > longestCoolDown ? 0 : left
}

/** How long an unexpired token is served after Aden last confirmed it, by default. */
export const defaultMaxStale = Duration.hours(24)

/** How long a token is served after Aden first refused the API key, in ms: one hour. */
const refusedLimit = 3_600_000

/** Until when an unexpired token may be served although Aden does not confirm it, in ms since the epoch. */
export const unconfirmedUntil = (
  { refusedSince }: CredentialState,
  { confirmedAt, maxStale }: { readonly confirmedAt: number; readonly maxStale: number }
): number =>
  Math.min(
    confirmedAt + maxStale,
    refusedSince === undefined ? Infinity : DateTime.toEpochMillis(refusedSince) + refusedLimit
  )

/** Whether a time is at most `maximumAge` ms ago. A time in the future is not: a clock that was wrong wrote it. */
export const isWithin = (maximumAge: number, at: number, now: number): boolean => now - at <= maximumAge && at <= now

/**
 * When Aden last confirmed the credential, in ms since the epoch, as far as known. A time in the future is ignored: a clock that
 * was wrong wrote it, and Aden would not be asked until then.
 */
export const confirmationOf = (state: CredentialState, credential: Credential, now: number): number | undefined => {
  for (const time of [state.lastConfirmed, credential.lastRefreshed]) {
    if (time !== undefined && DateTime.toEpochMillis(time) <= now + clockTolerance) return DateTime.toEpochMillis(time)
  }
  return undefined
}
