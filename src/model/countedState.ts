/**
 * What a storage itself keeps in a state record: how often the entry was changed, and whose account it is.
 */
import { CredentialState } from "../storage/CredentialStorage.ts"
import { accountOf } from "./Credential.ts"
import type { Credential } from "./Credential.ts"

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
