import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type { Credential } from "./Credential.ts"
import type { CredentialState } from "./CredentialState.ts"

/**
 * When a token expires, in ms since the epoch by the local clock; `Infinity` when it does not. `offset` is how far Aden's
 * clock, which the expiry was told by, is ahead, in ms.
 */
export const expiryOf = (credential: Credential, offset: number): number =>
  credential.expiresAt === undefined ? Infinity : DateTime.toEpochMillis(credential.expiresAt) - offset

/** From a token's first receipt to its expiry, in ms; `undefined` where its receipt is not known. */
export const lifeOf = (credential: Credential, offset: number): number | undefined =>
  credential.lastRefreshed === undefined
    ? undefined
    : Math.max(0, expiryOf(credential, offset) - DateTime.toEpochMillis(credential.lastRefreshed))

/**
 * How long before its expiry a token is renewed, in ms: the buffer times the jitter, but never in the first half of its life.
 * Where its life is not known the buffer alone counts.
 */
export const renewalLead = (options: {
  readonly buffer: number
  readonly life: number | undefined
  readonly jitter: number
}): number => {
  const halfLife = (options.life ?? Infinity) / 2
  return Math.min(Math.min(options.buffer, halfLife) * options.jitter, halfLife)
}

/** Those whom Aden refused more than once come back over so long a time after its hint, in ms. */
const hintSpread = { shortest: 60_000, longest: 300_000 }

/**
 * How long Aden is left alone after a failure, in ms. After a hint it is until its end, and from the second failure on up to
 * its own length longer. It takes at most three quarters of the time that the token at hand has left.
 */
export const failureDelay = (options: {
  readonly delay: number
  /** How long Aden asked to be left alone; 0: not at all. */
  readonly hint: number
  /** Until the token expires; 0: it has, or there is none. */
  readonly timeLeft: number
  /** How many failures there were in a row. */
  readonly failures: number
  readonly random: number
}): number => {
  const { delay, failures, hint, random, timeLeft } = options
  const spread = failures > 1 ? Math.min(Math.max(hint, hintSpread.shortest), hintSpread.longest) : 0
  const wanted = hint > 0 ? Math.max(hint + random * spread, delay) : delay
  return timeLeft <= hint ? wanted : Math.min(wanted, hint + Math.max(1_000, 0.75 * (timeLeft - hint)))
}

/** How far the clocks of those who share a storage may be apart, in ms. */
export const clockTolerance = 300_000

/** No rate limit lasts longer, in ms: a time further ahead was noted by a clock that was wrong. */
const longestCoolDown = 3_600_000 + clockTolerance

/** Ms left until Aden may be asked after it limited the rate; 0 or less when it may be. */
export const coolDownLeft = ({ coolDownUntil }: CredentialState, now: number): number => {
  const left = coolDownUntil === undefined ? 0 : DateTime.toEpochMillis(coolDownUntil) - now
  return left > longestCoolDown ? 0 : left
}

/** How long an unexpired token is served after Aden last confirmed it, unless set otherwise. */
export const defaultMaxStale = Duration.hours(24)

/** For how long a token is served after Aden refused the API key, in ms: one hour. */
const refusedLimit = 3_600_000

/** Until when a token may be served although Aden does not confirm it, in ms, unless it expires before. */
export const unconfirmedUntil = (
  { refusedSince }: CredentialState,
  { confirmedAt, maxStale }: { readonly confirmedAt: number; readonly maxStale: number }
): number =>
  Math.min(
    confirmedAt + maxStale,
    refusedSince === undefined ? Infinity : DateTime.toEpochMillis(refusedSince) + refusedLimit
  )

/** Whether something was noted at most `maximumAge` ms ago. A time ahead of the clock was noted by one that was wrong. */
export const isWithin = (maximumAge: number, at: number, now: number): boolean => now - at <= maximumAge && at <= now

/**
 * When Aden last confirmed the credential, in ms, as far as known. A time ahead of the clock was noted by one that was wrong: it
 * would keep Aden from being asked until then.
 */
export const confirmationOf = (state: CredentialState, credential: Credential, now: number): number | undefined => {
  for (const time of [state.lastConfirmed, credential.lastRefreshed]) {
    if (time !== undefined && DateTime.toEpochMillis(time) <= now + clockTolerance) return DateTime.toEpochMillis(time)
  }
  return undefined
}
