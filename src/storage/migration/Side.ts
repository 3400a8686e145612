/**
 * One side of a migration, source or target: a directory, a namespace, or a tenant's part of one.
 */
import type * as Effect from "effect/Effect"
import type * as Result from "effect/Result"
import type { CredentialStorageError, GenerationConflict, StorageFailure } from "../../errors/StorageError.ts"
import type { CredentialState } from "../../model/CredentialState.ts"
import type { HiveDocument } from "../format/HiveDocument.ts"

/** An entry as it is stored. */
export interface Entry {
  readonly id: string
  /** The file, or the place in a database. */
  readonly location: string
  /** Its document; `undefined` when there is none, a failure when it cannot be decrypted. */
  readonly content: Result.Result<HiveDocument | undefined, StorageFailure>
  readonly state: CredentialState
}

/** A write as compare-and-swap: made only while the entry has the generation `expected`. */
export interface Copy {
  readonly stored: HiveDocument
  readonly state: CredentialState
  readonly expected: number
}

/** Entries of one tenant, or of none. */
export interface Side {
  /** The ids of all entries, also of those that cannot be decrypted. */
  readonly ids: Effect.Effect<ReadonlyArray<string>, CredentialStorageError>
  /** The entries of these ids, in the same order. */
  readonly read: (ids: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<Entry>, CredentialStorageError>
  /** Writes each document unchanged, with its state. Answers the failures by id. */
  readonly write: (
    copies: ReadonlyArray<Copy>
  ) => Effect.Effect<ReadonlyMap<string, StorageFailure | GenerationConflict>, CredentialStorageError>
  /** Updates what is derived from the entries, after the last was written. */
  readonly finish: Effect.Effect<void, CredentialStorageError>
}

/** A tenant, by its name in a database, with its side or why that cannot be read. */
export interface TenantSide {
  readonly name: string
  readonly location: string
  readonly side: Result.Result<Side, CredentialStorageError>
}

/** Everything in a directory or a namespace. */
export interface Sides {
  readonly own: Side
  readonly tenants: Effect.Effect<ReadonlyArray<TenantSide>, CredentialStorageError>
  /** The side of a tenant, which may be empty; `undefined` where this is a tenant's itself. */
  readonly ofTenant: ((name: string) => Effect.Effect<Side>) | undefined
}
