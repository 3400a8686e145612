/**
 * The port of a database: what a storage needs of Redis, Postgres or another one. `makeRecordStorage` builds a storage on it.
 */
import type * as Effect from "effect/Effect"
import type * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { StorageIoFailed } from "../../errors/StorageError.ts"

/** The record of an id. `generation` counts its saves and deletions, and outlives a deletion in a tombstone. */
export interface StoredRecord {
  readonly generation: number
  /** The encrypted credential. */
  readonly document: string | undefined
  /** The state beside it, as JSON. */
  readonly state: string | undefined
}

/** What of a record depends on the keys. */
export interface Sealed extends Pick<StoredRecord, "state"> {
  readonly document: string
}

/** Data in the place of a record that this package did not write. */
export interface ForeignRecord {
  readonly foreign: string
}

/** A save as compare-and-swap: made only while the record has the generation `expected`, which it increments. */
export interface RecordWrite {
  readonly id: string
  readonly expected: number
  readonly document: string
  readonly state: string
}

/**
 * A save or deletion, numbered from 1. `by` is its writer, which has told its own listeners already. `generation` is that of the
 * record after it: only a notification has it, and not one of a version of this package that did not send it.
 */
export interface RecordChange {
  readonly _tag: "Saved" | "Deleted"
  readonly sequence: number
  readonly id: string
  readonly by: string
  readonly generation?: number | undefined
}

/** A notification by the database: a change, or the release of a lease. */
export type Notification = RecordChange | { readonly _tag: "Released"; readonly id: string }

/** The changes made by all writers. */
export interface ChangeSource {
  /** Subscribes to notifications. The queue fails when the connection is lost. */
  readonly listen: Effect.Effect<Queue.Dequeue<Notification, StorageIoFailed>, StorageIoFailed, Scope.Scope>
  /** The sequence number of the latest change; 0 before the first. */
  readonly latest: Effect.Effect<number, StorageIoFailed>
  /** The latest change of each record that changed after this sequence number, in order, and the latest number of all. */
  readonly since: (
    sequence: number
  ) => Effect.Effect<
    { readonly latest: number; readonly changes: ReadonlyArray<RecordChange> },
    StorageIoFailed
  >
}

/** Leases: locks that expire unless their holder renews them, by the database's clock. */
export interface LeaseSource {
  /** Takes the lease of an id for `millis`, unless another holder has it; then `millisLeft` is what is left of that one. */
  readonly take: (
    id: string,
    token: string,
    millis: number
  ) => Effect.Effect<{ readonly isTaken: boolean; readonly millisLeft: number }, StorageIoFailed>
  /** Extends the lease to `millis` from now; `false` when it is no longer held with this token. */
  readonly renew: (id: string, token: string, millis: number) => Effect.Effect<boolean, StorageIoFailed>
  /** Releases the lease and notifies the waiters. Does nothing when it is no longer held with this token. */
  readonly release: (id: string, token: string) => Effect.Effect<void, StorageIoFailed>
}

export interface RecordDatabase {
  /** What its entries are bound to: with the name of the tenant, if it is a tenant's. */
  readonly namespace: string
  /** Identifies the writes of this storage among those of all users of the database. */
  readonly writer: string
  /** Where its records are, for a person. */
  readonly location: string
  /** Where the record of an id is, for a person. */
  readonly locationOf: (id: string) => string
  /** The records of these ids, in the same order. */
  readonly read: (
    ids: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyArray<StoredRecord | ForeignRecord>, StorageIoFailed>
  /**
   * Makes the saves in one round trip, each a compare-and-swap of its own. Answers the generations found, in the same order: a
   * save was made where it is the expected one.
   */
  readonly write: (writes: ReadonlyArray<RecordWrite>) => Effect.Effect<ReadonlyArray<number>, StorageIoFailed>
  /**
   * Replaces document and state by the same under another key. The generation stays, and no change is notified. `false` when there is
   * another document or state than `before`.
   */
  readonly reencrypt: (id: string, before: Sealed, after: Sealed) => Effect.Effect<boolean, StorageIoFailed>
  /** Writes the state while the record has the generation `expected`, which stays; `false` when it has another. */
  readonly writeState: (id: string, expected: number, state: string) => Effect.Effect<boolean, StorageIoFailed>
  /**
   * Deletes document and state and leaves a tombstone with the generation incremented, which is answered; `undefined` when there
   * was no document. With `expected`, does nothing and answers `undefined` when the record has another generation. Foreign data is
   * deleted, too.
   */
  readonly remove: (id: string, expected: number | undefined) => Effect.Effect<number | undefined, StorageIoFailed>
  /** The ids of all records that have a document. */
  readonly ids: Effect.Effect<ReadonlyArray<string>, StorageIoFailed>
  readonly changes: ChangeSource
  readonly leases: LeaseSource
}
