/**
 * The Aden client's settings from the environment: `ADEN_API_URL`, `ADEN_API_KEY`, `ADEN_TENANT_ID`. One that is not set is
 * empty; one that cannot be read is an error, without what it held.
 */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { AdenConfigError } from "../../errors/CredentialError.ts"

const setting = <A>(name: string, config: Config.Config<A>, absent: A): Effect.Effect<A, AdenConfigError> =>
  Effect.mapError(
    Effect.suspend(() => Config.withDefault(config, absent)),
    () =>
      new AdenConfigError({ setting: name, detail: "cannot be read", remedy: "Check where settings are read from." })
  )

export const apiUrl = setting("ADEN_API_URL", Config.String("ADEN_API_URL"), "")

export const tenantId = setting("ADEN_TENANT_ID", Config.String("ADEN_TENANT_ID"), "")

/** Answers how to read the key, now or later, from the source of settings there is now. */
export const apiKey = Effect.map(
  ConfigProvider.ConfigProvider,
  (provider) =>
    setting("ADEN_API_KEY", Config.Redacted("ADEN_API_KEY"), Redacted.make("")).pipe(
      Effect.provideService(ConfigProvider.ConfigProvider, provider)
    )
)
