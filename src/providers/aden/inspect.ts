/**
 * Checks each setting of an Aden client in the environment separately, for diagnosis.
 */
import * as Effect from "effect/Effect"
import type { AdenConfigError } from "../../errors/ConfigError.ts"
import type { CredentialIssuer } from "../../model/Credential.ts"
import * as environment from "./environment.ts"
import { apiKeySetting, issuerOfUrl, issuerSetting, serverUrlSetting, tenantIdSetting } from "./settings.ts"

export const configuredUrl = Effect.flatMap(
  environment.apiUrl,
  (text) => serverUrlSetting("ADEN_API_URL", text, { allowInsecure: false })
)

export const configuredApiKey = Effect.flatMap(
  Effect.flatten(environment.apiKey),
  (key) => apiKeySetting("ADEN_API_KEY", key)
)

export const apiKeySource = environment.apiKeySource

export const configuredTenantId = Effect.flatMap(environment.tenantId, (id) => tenantIdSetting("ADEN_TENANT_ID", id))

/** Whose credentials the client would fetch; `undefined` where neither `ADEN_ISSUER` nor `ADEN_API_URL` is set. */
export const configuredIssuer: Effect.Effect<CredentialIssuer | undefined, AdenConfigError> = Effect.gen(function*() {
  const given = yield* Effect.flatMap(environment.issuer, (name) => issuerSetting("ADEN_ISSUER", name))
  if (given === undefined && (yield* environment.apiUrl) === "") return undefined
  const name = given ?? issuerOfUrl(yield* configuredUrl)
  const tenantId = yield* configuredTenantId
  return tenantId === undefined ? { name } : { name, tenantId }
})
