import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import type { Credential } from "../model/Credential.ts"
import type { StoredEntry } from "../storage/CredentialStorage.ts"

/**
 * Whether what is stored was issued before a credential that was asked for at `at` (ms), as far as is known: it was confirmed
 * before that, and does not outlast it. Neither alone would do: the clocks of hosts differ, and a newer token may live shorter.
 */
export const isEarlier = (stored: StoredEntry, credential: Credential, at: number): boolean =>
  Option.exists(stored.credential, (one) => {
    const confirmed = stored.state.lastConfirmed ?? one.lastRefreshed
    return confirmed !== undefined && DateTime.toEpochMillis(confirmed) <= at &&
      (one.expiresAt === undefined || credential.expiresAt === undefined ||
        DateTime.isLessThan(one.expiresAt, credential.expiresAt))
  })
