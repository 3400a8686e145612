import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type { Credential } from "../Credential.ts"
import type { StorageFailure } from "../CredentialError.ts"
import type { CredentialState, CredentialStorage } from "../CredentialStorage.ts"

/** What is stored of a credential, and what is remembered beside it. */
export interface StoredRecord {
  readonly stored: Option.Option<Credential>
  readonly state: CredentialState
}

/** Whether a token ends before another of the same credential, by Aden's clock alone: it was issued earlier, as far as is known. */
export const endsBefore = (one: Credential, other: Credential): boolean =>
  one.expiresAt !== undefined && other.expiresAt !== undefined && DateTime.isLessThan(one.expiresAt, other.expiresAt)

/**
 * Reads both as they were at one moment. A credential that somebody replaced under the count of what replaced it would be taken
 * for the newest: what is saved or deleted next, under that count, would be theirs.
 */
export const loadRecord = Effect.fnUntraced(function*(
  storage: CredentialStorage["Service"],
  id: string
): Effect.fn.Return<StoredRecord, StorageFailure> {
  for (let before = yield* storage.loadState(id);;) {
    const stored = yield* storage.load(id)
    const state = yield* storage.loadState(id)
    if (state.generation === before.generation) return { stored, state }
    before = state
  }
})
