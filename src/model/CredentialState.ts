/**
 * What is remembered beside a credential, and how a storage counts its saves and deletions.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { Timestamp } from "../util/Timestamp.ts"
import { accountOf } from "./Credential.ts"
import type { Credential } from "./Credential.ts"

/**
 * What is remembered about a credential beside it: no secrets. It outlives a restart, and exists without an entry too (a
 * blocked integration that was never fetched).
 *
 * `generation` counts the saves and deletions under this id, 0 before the first, and `account` says whose the entry is. Both
 * belong to the storage: `save` sets them, and `saveState` leaves them as they are.
 *
 * @since 0.1.0
 * @category models
 */
export class CredentialState extends Schema.Class<CredentialState>("aden-credentials/CredentialState")({
  generation: Schema.Int,
  /** The account of the saved credential: known even when the credential cannot be opened. */
  account: Schema.optional(Schema.Struct({
    provider: Schema.optional(Schema.String),
    alias: Schema.optional(Schema.String)
  })),
  /** When Aden last confirmed the entry. */
  lastConfirmed: Schema.optional(Timestamp),
  /** Since when a person has to authorize the integration again. */
  blockedSince: Schema.optional(Timestamp),
  /** As it is stored. The store shows it only if it is `https:`, or `http:` to this machine, without user info. */
  reauthorizationUrl: Schema.optional(Schema.String),
  /** Since when Aden refuses the API key (401 or 403). */
  refusedSince: Schema.optional(Timestamp),
  /** Until when Aden must not be asked for this credential. */
  coolDownUntil: Schema.optional(Timestamp),
  /** The tag of the last error, such as `AdenUnavailable`. */
  lastError: Schema.optional(Schema.String)
}) {
  static readonly initial = new CredentialState({ generation: 0 })
}

// what a storage itself keeps in a state record: how often the entry was changed, and whose account it is

/** The record that is stored with a save. */
export const stateOfSave = (
  credential: Credential,
  before: CredentialState,
  given: CredentialState = before
): CredentialState => {
  const { alias, provider } = accountOf(credential)
  const account = {
    ...(provider === undefined ? {} : { provider }),
    ...(alias === undefined ? {} : { alias })
  }
  return new CredentialState({ ...given, generation: before.generation + 1, account })
}

/** What is left of a record when its entry is deleted: whoever knew the entry is not to save over that, or over a later one. */
export const stateOfDelete = ({ generation }: CredentialState): CredentialState =>
  new CredentialState({ generation: generation + 1 })

/** The record that is stored without a save. */
export const stateWithoutSave = (given: CredentialState, { account, generation }: CredentialState): CredentialState => {
  const { account: _, ...rest } = given
  return new CredentialState({ ...rest, generation, ...(account === undefined ? {} : { account }) })
}
