/**
 * Where credentials rest. `CredentialStore` decides, a storage only keeps: each implementation is a layer of
 * {@link CredentialStorage}, and all of them pass one contract suite.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import type { CredentialStorageError, GenerationConflict, StorageFailure } from "../errors/CredentialError.ts"
import type { Credential } from "../model/Credential.ts"
import type { CredentialState } from "../model/CredentialState.ts"

/**
 * An entry was saved or deleted, by whomever the storage can see.
 *
 * @since 0.1.0
 * @category models
 */
export type StorageChange =
  | { readonly _tag: "Saved"; readonly id: string }
  | { readonly _tag: "Deleted"; readonly id: string }

/**
 * The storage interface. Ids are opaque, case-sensitive and compared as they are (no Unicode normalization); an empty id, or
 * one with a lone surrogate, is refused with `InvalidCredentialId`.
 *
 * @since 0.1.0
 * @category services
 */
export class CredentialStorage extends Context.Service<CredentialStorage, {
  /** The credential of this id. `CredentialDecryptionFailed` when something is stored that cannot be opened. */
  readonly load: (id: string) => Effect.Effect<Option.Option<Credential>, StorageFailure>
  /**
   * Saves a credential under its id and counts the generation up. With `expectedGeneration`, fails with
   * `GenerationConflict` and writes nothing when another writer saved meanwhile. `state`, when given, is saved with it, as by
   * `saveState`. Fields of the stored document that the credential does not know are kept. What cannot be opened is not
   * overwritten (`CredentialDecryptionFailed`).
   */
  readonly save: (
    credential: Credential,
    options?: {
      readonly expectedGeneration?: number | undefined
      readonly state?: CredentialState | undefined
    }
  ) => Effect.Effect<void, StorageFailure | GenerationConflict>
  /**
   * Saves many at the cost of one index update. One that fails does not spoil the others: answers the failures by id.
   * `expectedGenerations` are by id, and `state` is saved with each, both as in `save`.
   */
  readonly saveMany: (
    credentials: ReadonlyArray<Credential>,
    options?: {
      readonly expectedGenerations?: ReadonlyMap<string, number> | undefined
      readonly state?: CredentialState | undefined
    }
  ) => Effect.Effect<ReadonlyMap<string, StorageFailure | GenerationConflict>, CredentialStorageError>
  /**
   * Deletes the entry, and its state but for the generation, which goes up; `false` when there was none. What cannot be opened is deleted too:
   * a person asked. With `expectedGeneration`, `false` and nothing is deleted when another writer saved or deleted meanwhile.
   */
  readonly delete: (
    id: string,
    options?: { readonly expectedGeneration?: number | undefined }
  ) => Effect.Effect<boolean, CredentialStorageError>
  /** The ids of all entries, those that cannot be opened included, in no particular order. */
  readonly list: Effect.Effect<ReadonlyArray<string>, CredentialStorageError>
  readonly exists: (id: string) => Effect.Effect<boolean, CredentialStorageError>
  readonly loadState: (id: string) => Effect.Effect<CredentialState, CredentialStorageError>
  readonly saveState: (id: string, state: CredentialState) => Effect.Effect<void, CredentialStorageError>
  /** Entries saved and deleted from now on. */
  readonly changes: Stream.Stream<StorageChange>
  /**
   * Runs the effect while nobody else who uses the same storage holds the lock of this id. Not re-entrant. Reading and
   * listing take no lock. Fails with reason `LockTimeout` when the lock cannot be had.
   */
  readonly withLock: <A, E, R>(
    id: string,
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | CredentialStorageError, R>
}>()("aden-credentials/CredentialStorage") {}
