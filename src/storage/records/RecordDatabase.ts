/**
 * What a database has to do so that credentials can rest in it: the part of a storage that differs from one database to the
 * next. `makeRecordStorage` is the part that does not.
 */
import type * as Effect from "effect/Effect"
import type * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { StorageIoFailed } from "../../errors/CredentialError.ts"

/** What is kept under an id. `generation` counts its saves and deletions; it outlives a deletion. */
export interface StoredRecord {
  readonly generation: number
  /** The encrypted credential. */
  readonly document: string | undefined
  /** What is remembered beside it: JSON. */
  readonly state: string | undefined
}

/** Something is in the place of a record that this package did not write. */
export interface ForeignRecord {
  readonly foreign: string
}

/** A save, made only while the record has the generation `expected`, which it then counts up. */
export interface RecordWrite {
  readonly id: string
  readonly expected: number
  readonly document: string
  readonly state: string
}

/** Each save and deletion in a database has the next number, from 1 on. `by` is the writer that told its own listeners already. */
export interface RecordChange {
  readonly _tag: "Saved" | "Deleted"
  readonly sequence: number
  readonly id: string
  readonly by: string
}

/** What the database tells of: a change, or a lease that was given back. */
export type Notice = RecordChange | { readonly _tag: "Released"; readonly id: string }

/** The changes made by anybody. */
export interface ChangeSource {
  /** Listens from now on. The queue fails when the connection is lost. */
  readonly listen: Effect.Effect<Queue.Dequeue<Notice, StorageIoFailed>, StorageIoFailed, Scope.Scope>
  /** The number of the latest change; 0 before the first. */
  readonly latest: Effect.Effect<number, StorageIoFailed>
  /** The latest change of each record that changed after this one, in order, and the number of the latest of all. */
  readonly since: (
    sequence: number
  ) => Effect.Effect<
    { readonly latest: number; readonly changes: ReadonlyArray<RecordChange> },
    StorageIoFailed
  >
}

/** Leases: locks that their holder loses unless it renews them. Times are those of the database. */
export interface LeaseSource {
  /** Takes the lease of an id for so many ms, unless somebody else has it: then answers how long that one lasts still. */
  readonly take: (
    id: string,
    token: string,
    millis: number
  ) => Effect.Effect<{ readonly isTaken: boolean; readonly millisLeft: number }, StorageIoFailed>
  /** Has the own lease last so many ms from now; `false` when it is not the own any more. */
  readonly renew: (id: string, token: string, millis: number) => Effect.Effect<boolean, StorageIoFailed>
  /** Gives the lease back and tells those who wait. One that is not the own any more is left alone. */
  readonly release: (id: string, token: string) => Effect.Effect<void, StorageIoFailed>
}

export interface RecordDatabase {
  /** Marks the writes of this storage, among all that use the database. */
  readonly writer: string
  /** Where all of its records are, for a person. */
  readonly place: string
  /** Where the record of an id is, for a person. */
  readonly locationOf: (id: string) => string
  /** The records of these ids, in their order. */
  readonly read: (
    ids: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyArray<StoredRecord | ForeignRecord>, StorageIoFailed>
  /**
   * Makes each save whose record has the generation expected: all in one round trip, each entirely or not at all. Answers in
   * the same order the generations found: a save was made where it is the one expected.
   */
  readonly write: (writes: ReadonlyArray<RecordWrite>) => Effect.Effect<ReadonlyArray<number>, StorageIoFailed>
  /**
   * Puts a document in the place of this one while it is there: the same credential under another key. The generation stays, and
   * nobody is told. `false` when another document is there, or none.
   */
  readonly replaceDocument: (id: string, before: string, document: string) => Effect.Effect<boolean, StorageIoFailed>
  /** Keeps a state while the record has this generation, which stays; `false` when it has another. */
  readonly writeState: (id: string, expected: number, state: string) => Effect.Effect<boolean, StorageIoFailed>
  /**
   * Deletes document and state and counts the generation up, if there was one; `false` when there was no document. With
   * `expected`, does nothing and answers `false` when the record has another generation. What is foreign is deleted too.
   */
  readonly remove: (id: string, expected: number | undefined) => Effect.Effect<boolean, StorageIoFailed>
  /** The ids of all records that have a document. */
  readonly ids: Effect.Effect<ReadonlyArray<string>, StorageIoFailed>
  readonly changes: ChangeSource
  readonly leases: LeaseSource
}
