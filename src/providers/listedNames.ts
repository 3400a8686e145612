import * as Redacted from "effect/Redacted"
import { Credential, CredentialKey, defaultProvider } from "../model/Credential.ts"
import type { CredentialAccount } from "../model/Credential.ts"

/**
 * A fetched credential under the names that the provider lists it by, where the answer itself left them out: by these names it
 * was asked for, and is found again when nobody can be asked.
 */
export const withListedNames = (credential: Credential, { alias, provider }: CredentialAccount): Credential => {
  const { id, integrationType, keys } = credential
  const named = new Map(keys)
  const add = (name: string, value: string | undefined) => {
    if (value !== undefined) named.set(name, new CredentialKey({ name, value: Redacted.make(value) }))
  }
  // what the id gives by itself is what an answer without a name counts as
  if (integrationType === undefined || integrationType === defaultProvider(id)) add("_integration_type", provider)
  if (credential.alias === undefined) add("_alias", alias)
  return new Credential({ ...credential, keys: named })
}
