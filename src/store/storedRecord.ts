import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { StorageFailure } from "../errors/StorageError.ts"
import type { Credential } from "../model/Credential.ts"
import type { CredentialState } from "../model/CredentialState.ts"
import type { CredentialStorage } from "../storage/CredentialStorage.ts"

/** What is stored of a credential, and what is remembered beside it. */
export interface StoredEntry {
  readonly stored: Option.Option<Credential>
  readonly state: CredentialState
}

/**
 * Whether what is stored was issued before a credential that was asked for at `at` (ms), as far as is known: it was confirmed
 * before that, and does not outlast it. Neither alone would do: the clocks of hosts differ, and a newer token may live shorter.
 */
export const isEarlier = ({ state, stored }: StoredEntry, credential: Credential, at: number): boolean =>
  Option.exists(stored, (one) => {
    const confirmed = state.lastConfirmed ?? one.lastRefreshed
    return confirmed !== undefined && DateTime.toEpochMillis(confirmed) <= at &&
      (one.expiresAt === undefined || credential.expiresAt === undefined ||
        DateTime.isLessThan(one.expiresAt, credential.expiresAt))
  })

/**
 * Reads both as they were at one moment. A credential that somebody replaced under the count of what replaced it would be taken
 * for the newest: what is saved or deleted next, under that count, would be theirs.
 */
export const loadRecord = Effect.fnUntraced(function*(
  storage: CredentialStorage["Service"],
  id: string
): Effect.fn.Return<StoredEntry, StorageFailure> {
  for (let before = yield* storage.loadState(id);;) {
    const stored = yield* storage.load(id)
    const state = yield* storage.loadState(id)
    if (state.generation === before.generation) return { stored, state }
    before = state
  }
})
