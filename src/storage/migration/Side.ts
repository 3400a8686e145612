/**
 * Where entries rest, for a command that copies them: a directory, a namespace, or a tenant's part of one.
 */
import type * as Effect from "effect/Effect"
import type * as Result from "effect/Result"
import type { CredentialStorageError, GenerationConflict, StorageFailure } from "../../errors/CredentialError.ts"
import type { CredentialState } from "../../model/CredentialState.ts"
import type { StoredCredential } from "../format/HiveDocument.ts"

/** An entry as it rests. */
export interface Entry {
  readonly id: string
  /** The file, or the place in a database. */
  readonly location: string
  /** What it holds; `undefined` where there is none. It fails where it cannot be opened. */
  readonly content: Result.Result<StoredCredential | undefined, StorageFailure>
  readonly state: CredentialState
}

/** What an entry is to be, made only while its generation is the one expected. */
export interface Copy {
  readonly stored: StoredCredential
  readonly state: CredentialState
  readonly expected: number
}

/** Entries of one tenant, or of none. */
export interface Place {
  /** The ids of all entries, those that cannot be opened included. */
  readonly ids: Effect.Effect<ReadonlyArray<string>, CredentialStorageError>
  /** The entries of these ids, in their order. */
  readonly read: (ids: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<Entry>, CredentialStorageError>
  /** Writes each document as it is, with its state. Answers by id why some could not be. */
  readonly write: (
    copies: ReadonlyArray<Copy>
  ) => Effect.Effect<ReadonlyMap<string, StorageFailure | GenerationConflict>, CredentialStorageError>
  /** Brings up to date what is derived from the entries, after the last was written. */
  readonly finish: Effect.Effect<void, CredentialStorageError>
}

/** A tenant by what it is called in a database, with its place or why that cannot be looked into. */
export interface TenantPlace {
  readonly name: string
  readonly location: string
  readonly place: Result.Result<Place, CredentialStorageError>
}

/** All that a directory or a namespace holds. */
export interface Places {
  readonly own: Place
  readonly tenants: Effect.Effect<ReadonlyArray<TenantPlace>, CredentialStorageError>
  /** The place of a tenant that may not have anything yet; `undefined` where this is itself a tenant's. */
  readonly ofTenant: ((name: string) => Effect.Effect<Place>) | undefined
}
