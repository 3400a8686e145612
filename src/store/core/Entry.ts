/**
 * What a store knows of one credential: an immutable value. `transition` is the only maker of another one, so no field can survive
 * a change by being forgotten. Times are in ms by the local clock, where nothing else is said.
 */
import * as DateTime from "effect/DateTime"
import type * as Redacted from "effect/Redacted"
import type { CredentialFailure } from "../../errors/CredentialError.ts"
import type { CredentialStorageError } from "../../errors/StorageError.ts"
import type { Credential, ProviderAccount } from "../../model/Credential.ts"
import { CredentialState } from "../../model/CredentialState.ts"

/** A credential in memory, and when something is to be done about it. */
export interface Held {
  readonly credential: Credential
  readonly source: "storage" | "aden"
  /** Who renews it: a provider, or nobody but the program that saved it. */
  readonly owner: "provider" | "program"
  /** When Aden last confirmed it, as far as is known; else when it was first seen here. */
  readonly confirmedAt: number
  /** When it is to be renewed, by the provider's clock: a skew that is learnt later moves nothing here. */
  readonly renewAt: number
  /** When Aden is to confirm it; of the program's own, when storage is read again. */
  readonly staleAt: number
}

/** What this process saved last: its generation, and the place among all questions of the one that it answers. */
export interface Saved {
  readonly generation: number
  readonly order: number
}

export interface EntryFields {
  readonly id: string
  /** Counts what the program did to the entry: an answer that was asked for under another revision is dropped. */
  readonly revision: number
  /** When the value was made. A clock that shows much less than this has been set back. */
  readonly at: number
  /** The provider that is asked for it; `undefined` for the program's own, and where it is not known. */
  readonly providerId: string | undefined
  /** How its provider lists it, as long as it was never fetched. */
  readonly listed: ProviderAccount | undefined
  readonly held: Held | undefined
  /** Tokens that a program found to be refused, the last one first. */
  readonly rejected: ReadonlyArray<Redacted.Redacted<string>>
  /** The state record: what outlives a restart. */
  readonly state: CredentialState
  /** The place of the question that found it to be blocked among all questions of this process; -1 where none did. */
  readonly blockedBy: number
  /** A blocked credential was last checked, and is next checked by a read. */
  readonly checkedAt: number
  readonly recheckAt: number
  /** What Aden last failed with, until it answers. */
  readonly failure: CredentialFailure | undefined
  /** Aden is not asked in the background before this time. */
  readonly retryAt: number
  /** When a provider last renewed the token for this process. */
  readonly refreshedAt: number
  readonly saved: Saved
  /** What storage did not take, and is to be written behind: the credential and its state, or only the state. */
  readonly dirty: "credential" | "state" | undefined
  /** A write was interrupted, so that memory may be behind storage: the entry is read again before it is next served. */
  readonly doubt: "write" | "delete" | undefined
  /** What storage failed with when this entry was last read, or written. */
  readonly unreadable: CredentialStorageError | undefined
  readonly unwritable: CredentialStorageError | undefined
}

/** One credential in the memory of a store. */
export class Entry implements EntryFields {
  declare readonly id: string
  declare readonly revision: number
  declare readonly at: number
  declare readonly providerId: string | undefined
  declare readonly listed: ProviderAccount | undefined
  declare readonly held: Held | undefined
  declare readonly rejected: ReadonlyArray<Redacted.Redacted<string>>
  declare readonly state: CredentialState
  declare readonly blockedBy: number
  declare readonly checkedAt: number
  declare readonly recheckAt: number
  declare readonly failure: CredentialFailure | undefined
  declare readonly retryAt: number
  declare readonly refreshedAt: number
  declare readonly saved: Saved
  declare readonly dirty: "credential" | "state" | undefined
  declare readonly doubt: "write" | "delete" | undefined
  declare readonly unreadable: CredentialStorageError | undefined
  declare readonly unwritable: CredentialStorageError | undefined
  /** Makes the type nominal: an object of the same shape is not an entry. */
  declare private readonly nominal: true

  constructor(fields: EntryFields) {
    Object.assign(this, fields)
  }

  get credential(): Credential | undefined {
    return this.held?.credential
  }

  get isBlocked(): boolean {
    return this.state.blockedSince !== undefined
  }

  /** Whether no provider renews what is held. */
  get isProgramOwned(): boolean {
    return this.held?.owner === "program"
  }

  /** Whether there is nothing to remember. */
  get isVacant(): boolean {
    const { coolDownUntil } = this.state
    return this.held === undefined && !this.isBlocked && coolDownUntil === undefined && this.rejected.length === 0 &&
      this.listed === undefined && this.dirty === undefined && this.failure === undefined
  }
}

const never = -Infinity

/** No token was refused. */
export const noTokens: ReadonlyArray<Redacted.Redacted<string>> = []

/** Of nothing: no question to Aden, and no save of this process. */
const unsaved: Saved = { generation: -1, order: -1 }

/** An entry of which nothing is known. */
export const emptyEntry = (id: string): Entry =>
  new Entry({
    id,
    revision: 0,
    at: never,
    providerId: undefined,
    listed: undefined,
    held: undefined,
    rejected: noTokens,
    state: CredentialState.initial,
    blockedBy: -1,
    checkedAt: never,
    recheckAt: never,
    failure: undefined,
    retryAt: never,
    refreshedAt: never,
    saved: unsaved,
    dirty: undefined,
    doubt: undefined,
    unreadable: undefined,
    unwritable: undefined
  })

/** When a token expires, by the provider's clock; `Infinity` when it does not. */
export const expiryOf = ({ expiresAt }: Credential): number =>
  expiresAt === undefined ? Infinity : DateTime.toEpochMillis(expiresAt)

/** A credential that no provider wrote: what Aden says of the integration of that id does not concern it. */
export const isProgramsOwn = ({ isAdenManaged, providerId }: Credential): boolean =>
  providerId === undefined && !isAdenManaged
