/**
 * The port for where credentials are stored. `CredentialStore` decides what to keep; a storage only stores it. Each implementation
 * is a layer of {@link CredentialStorage}, and all of them pass one contract suite.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import type { CredentialStorageError, GenerationConflict, StorageFailure } from "../errors/StorageError.ts"
import type { Credential } from "../model/Credential.ts"
import type { CredentialState } from "../model/CredentialState.ts"

/**
 * What is stored under an id at one moment: the credential, none when there is no entry, and the state record, which exists without
 * an entry, too. `state.generation` is the generation of this credential, or of the tombstone.
 *
 * @since 0.1.0
 * @category models
 */
export interface StoredEntry {
  readonly credential: Option.Option<Credential>
  readonly state: CredentialState
}

/**
 * An entry was saved or deleted, by any writer that the storage can observe.
 *
 * `generation` is the generation of the entry after the change; of a deletion, that of the tombstone. A receiver that holds the entry
 * of this generation already has nothing to read, for example when the change is the echo of its own write. It is `undefined` when it
 * is not known, for example for a writer that does not count: then the entry has to be read.
 *
 * @since 0.1.0
 * @category models
 */
export type StorageChange =
  | { readonly _tag: "Saved"; readonly id: string; readonly generation: number | undefined }
  | { readonly _tag: "Deleted"; readonly id: string; readonly generation: number | undefined }

/**
 * The storage interface. Ids are opaque and case-sensitive, without Unicode normalization. An empty id, or one with a lone
 * surrogate, is refused with `InvalidCredentialId`.
 *
 * @example
 * ```ts
 * import { CredentialStorage } from "aden-credentials"
 * import { Effect, Option } from "effect"
 *
 * const expiryOf = Effect.fn(function*(id: string) {
 *   const storage = yield* CredentialStorage
 *   return Option.map(yield* storage.load(id), ({ expiresAt }) => expiresAt)
 * })
 * ```
 *
 * @since 0.1.0
 * @category services
 */
export class CredentialStorage extends Context.Service<CredentialStorage, {
  /**
   * Credential and state of this id as they were at one moment, so that a write that expects `state.generation` replaces this
   * credential and no other. One round trip where the storage has a server. `CredentialDecryptionFailed` when the stored entry cannot
   * be decrypted; `loadState` still answers its state.
   */
  readonly read: (id: string) => Effect.Effect<StoredEntry, StorageFailure>
  /** The credential with this id. `CredentialDecryptionFailed` when the stored entry cannot be decrypted. */
  readonly load: (id: string) => Effect.Effect<Option.Option<Credential>, StorageFailure>
  /**
   * Saves a credential under its id, increments the generation and answers it. `expectedGeneration` makes it a compare-and-swap: when another
   * writer has saved or deleted the entry since, it fails with `GenerationConflict` and writes nothing. `state`, when given, is
   * saved with it, as by `saveState`. Unknown fields of the stored document are kept. An entry that cannot be decrypted is not
   * overwritten (`CredentialDecryptionFailed`).
   */
  readonly save: (
    credential: Credential,
    options?: {
      readonly expectedGeneration?: number | undefined
      readonly state?: CredentialState | undefined
    }
  ) => Effect.Effect<number, StorageFailure | GenerationConflict>
  /**
   * Saves many with one index update. A failure does not affect the others: answers the failures by id. `expectedGenerations` (by
   * id) and `state` (for each) work as in `save`.
   */
  readonly saveMany: (
    credentials: ReadonlyArray<Credential>,
    options?: {
      readonly expectedGenerations?: ReadonlyMap<string, number> | undefined
      readonly state?: CredentialState | undefined
    }
  ) => Effect.Effect<ReadonlyMap<string, StorageFailure | GenerationConflict>, CredentialStorageError>
  /**
   * Deletes the entry and its state; `false` when there was none. A tombstone keeps the generation, incremented. An entry that
   * cannot be decrypted is deleted, too: a person asked for it. With `expectedGeneration`, deletes nothing and answers `false` when
   * another writer has saved or deleted the entry since.
   */
  readonly delete: (
    id: string,
    options?: { readonly expectedGeneration?: number | undefined }
  ) => Effect.Effect<boolean, CredentialStorageError>
  /** The ids of all entries, also of those that cannot be decrypted, in no particular order. */
  readonly list: Effect.Effect<ReadonlyArray<string>, CredentialStorageError>
  readonly exists: (id: string) => Effect.Effect<boolean, CredentialStorageError>
  readonly loadState: (id: string) => Effect.Effect<CredentialState, CredentialStorageError>
  /**
   * Saves what is known of an entry, which keeps its generation. With `expectedGeneration`, saves nothing and answers `false` when
   * another writer has saved or deleted the entry since.
   */
  readonly saveState: (
    id: string,
    state: CredentialState,
    options?: { readonly expectedGeneration?: number | undefined }
  ) => Effect.Effect<boolean, CredentialStorageError>
  /** Saves and deletions from now on. */
  readonly changes: Stream.Stream<StorageChange>
  /**
   * Runs the effect under the lock of this id, which excludes all other users of the same storage. Not re-entrant. Reads and lists
   * take no lock. Fails with reason `LockTimeout` when the lock cannot be acquired in time.
   */
  readonly withLock: <A, E, R>(
    id: string,
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | CredentialStorageError, R>
}>()("aden-credentials/CredentialStorage") {}
