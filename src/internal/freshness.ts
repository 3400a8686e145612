import * as DateTime from "effect/DateTime"
import type { Credential } from "../Credential.ts"

/**
 * When a token expires, in ms since the epoch by the local clock; `Infinity` when it does not. `offset` is how far Aden's
 * clock, which the expiry was told by, is ahead, in ms.
 */
export const expiryOf = (credential: Credential, offset: number): number =>
  credential.expiresAt === undefined ? Infinity : DateTime.toEpochMillis(credential.expiresAt) - offset

/**
 * When a token is to be renewed, in ms since the epoch by the local clock: `buffer` (ms) times `jitter` before its expiry, and
 * never in the first half of its life, which runs from its first receipt. Where that is unknown the buffer alone counts.
 * `Infinity` for a token that does not expire.
 */
export const dueAt = (
  credential: Credential,
  options: { readonly buffer: number; readonly jitter: number; readonly offset: number }
): number => {
  const expiry = expiryOf(credential, options.offset)
  if (expiry === Infinity || credential.lastRefreshed === undefined) return expiry - options.buffer * options.jitter
  const halfLife = Math.max(0, expiry - DateTime.toEpochMillis(credential.lastRefreshed)) / 2
  return expiry - Math.min(Math.min(options.buffer, halfLife) * options.jitter, halfLife)
}
