/**
 * Where the URLs of databases come from.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { AdenConfigError } from "../../errors/CredentialError.ts"

export const redisVariable = "REDIS_URL"
export const postgresVariable = "DATABASE_URL"

/** The URL in a variable of the environment; empty where it is not set. */
export const configuredUrl = (variable: string): Effect.Effect<Redacted.Redacted<string>, AdenConfigError> =>
  Effect.mapError(
    Effect.suspend(() => Config.withDefault(Config.Redacted(variable), Redacted.make(""))),
    () =>
      new AdenConfigError({
        setting: variable,
        detail: "cannot be read",
        remedy: "Check where settings are read from."
      })
  )
