import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { AdenConfigError } from "../../errors/CredentialError.ts"

/** What the credentials of one program, or of several that share them, are kept under in a database. */
export const defaultNamespace = "aden-credentials"

/** Neither "/", behind which a tenant's name stands, nor braces, which Redis Cluster reads. */
const allowed = /^[A-Za-z0-9._:-]{1,100}$/

export const namespaceSetting = (namespace: string): Effect.Effect<string, AdenConfigError> =>
  allowed.test(namespace) ? Effect.succeed(namespace) : Effect.fail(
    new AdenConfigError({
      setting: "namespace",
      detail: "is not 1 to 100 letters, digits, dots, colons, hyphens and underscores",
      remedy: `Leave it out for ${defaultNamespace}, or give one such as "agents:production".`
    })
  )

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
