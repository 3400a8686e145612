/**
 * The Aden client's settings from the environment: `ADEN_API_URL`, `ADEN_API_KEY`, `ADEN_TENANT_ID`. An unset one is empty; one
 * that cannot be read is an error, which does not hold its value.
 */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { AdenConfigError } from "../../errors/ConfigError.ts"
import { unreadableSetting } from "../../model/settings.ts"

const setting = <A>(name: string, config: Config.Config<A>, absent: A): Effect.Effect<A, AdenConfigError> =>
  Effect.mapError(
    Effect.suspend(() => Config.withDefault(config, absent)),
    () => unreadableSetting(name)
  )

export const apiUrl = setting("ADEN_API_URL", Config.String("ADEN_API_URL"), "")

export const tenantId = setting("ADEN_TENANT_ID", Config.String("ADEN_TENANT_ID"), "")

/** An effect that reads the key, also later: it keeps the current `ConfigProvider`, so that a rotated key is picked up. */
export const apiKey = Effect.map(
  ConfigProvider.ConfigProvider,
  (provider) =>
    setting("ADEN_API_KEY", Config.Redacted("ADEN_API_KEY"), Redacted.make("")).pipe(
      Effect.provideService(ConfigProvider.ConfigProvider, provider)
    )
)
