/**
 * The Aden client's settings from the environment: `ADEN_API_URL`, `ADEN_API_KEY` (or `ADEN_API_KEY_FILE`,
 * `ADEN_API_KEY_COMMAND`), `ADEN_TENANT_ID`, `ADEN_ISSUER`. An unset one is empty; one
 * that cannot be read is an error, which does not hold its value.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { configuredSecret, secretSource } from "../../encryption/secretSource.ts"
import type { AdenConfigError } from "../../errors/ConfigError.ts"
import { unreadableSetting } from "../../model/settings.ts"

const apiKeySetting = "ADEN_API_KEY"

const setting = <A>(name: string, config: Config.Config<A>, absent: A): Effect.Effect<A, AdenConfigError> =>
  Effect.mapError(
    Effect.suspend(() => Config.withDefault(config, absent)),
    () => unreadableSetting(name)
  )

export const apiUrl = setting("ADEN_API_URL", Config.String("ADEN_API_URL"), "")

export const tenantId = setting("ADEN_TENANT_ID", Config.String("ADEN_TENANT_ID"), "")

export const issuer = setting("ADEN_ISSUER", Config.String("ADEN_ISSUER"), "")

/**
 * An effect that reads the key, also later: it keeps the current services, such as the `ConfigProvider`, so that a rotated key is
 * picked up, from a file or a command too.
 */
export const apiKey = Effect.map(
  Effect.context<never>(),
  (context) =>
    configuredSecret(apiKeySetting).pipe(
      Effect.map(Option.getOrElse(() => Redacted.make(""))),
      Effect.provideContext(context)
    )
)

/** Where the key comes from. */
export const apiKeySource = secretSource(apiKeySetting)
