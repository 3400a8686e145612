/**
 * Checks each setting of an Aden client in the environment separately, for diagnosis.
 */
import * as Effect from "effect/Effect"
import * as environment from "./environment.ts"
import { apiKeySetting, serverUrlSetting, tenantIdSetting } from "./settings.ts"

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
