/**
 * What a store reports about its credentials: events as they happen, and the steps and result of a synchronisation. No secrets.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import type { AdenRequestFailure, FetchFailure } from "../errors/AdenError.ts"
import type { NoProvider } from "../errors/CredentialError.ts"
import type { CredentialStorageError, StorageFailure } from "../errors/StorageError.ts"

/**
 * What happens to credentials, without secrets.
 *
 * @since 0.1.0
 * @category models
 */
export type CredentialEvent =
  | { readonly _tag: "Fetched"; readonly id: string }
  | { readonly _tag: "Refreshed"; readonly id: string }
  | { readonly _tag: "ServedStale"; readonly id: string; readonly error: string }
  | { readonly _tag: "ReauthorizationRequired"; readonly id: string; readonly reauthorizationUrl: string | undefined }
  | { readonly _tag: "Reconnected"; readonly id: string }
  | { readonly _tag: "Removed"; readonly id: string }

/**
 * Why a synchronisation left an integration out:
 *
 * - `ReauthRequired`: a person has to authorize it again, at `reauthorizationUrl` where Aden named one.
 * - `OwnedElsewhere`: the credential stored under this id was not written by this provider, or the program changed it while Aden
 *   was asked.
 * - `NotFound`: Aden lists it but does not have it. Or it is stored and Aden does not have it, but the list may be incomplete: it
 *   stays stored.
 * - `Malformed`: the item of the list cannot be read; `detail` says why, and `provider` is not known.
 *
 * @since 0.1.0
 * @category synchronisation
 */
export interface SyncSkipped {
  readonly _tag: "Skipped"
  readonly id: string | undefined
  readonly provider: string | undefined
  readonly alias: string | undefined
  readonly reason: "ReauthRequired" | "OwnedElsewhere" | "NotFound" | "Malformed"
  readonly detail: string
  readonly reauthorizationUrl: string | undefined
}

/**
 * One step of a synchronisation. `Listed` comes first; at least `total` steps follow. An entry is `Synced` once it is saved.
 *
 * @since 0.1.0
 * @category synchronisation
 */
export type SyncEvent =
  | {
    readonly _tag: "Listed"
    readonly total: number
    /** Whether the list may lack integrations: it tells of further pages, which are not read. Nothing is removed by it. */
    readonly isIncomplete: boolean
  }
  | {
    readonly _tag: "Synced"
    readonly id: string
    readonly provider: string | undefined
    readonly alias: string | undefined
    readonly expiresAt: DateTime.Utc | undefined
  }
  | SyncSkipped
  | {
    readonly _tag: "Failed"
    readonly id: string
    readonly provider: string | undefined
    readonly alias: string | undefined
    readonly error: FetchFailure | StorageFailure
  }
  | { readonly _tag: "Removed"; readonly id: string }

/**
 * What a synchronisation did.
 *
 * @since 0.1.0
 * @category synchronisation
 */
export interface SyncReport {
  readonly synced: ReadonlyArray<Extract<SyncEvent, { readonly _tag: "Synced" }>>
  readonly skipped: ReadonlyArray<SyncSkipped>
  readonly failed: ReadonlyArray<Extract<SyncEvent, { readonly _tag: "Failed" }>>
  readonly removed: ReadonlyArray<string>
  /** Whether a list may have lacked integrations: see `Listed` of `SyncEvent`. */
  readonly isIncomplete: boolean
}

/**
 * What a synchronisation as a whole can fail with. The failure of a single integration is part of the report.
 *
 * @since 0.1.0
 * @category synchronisation
 */
export type SyncFailure = AdenRequestFailure | CredentialStorageError | NoProvider
