import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { AdenConfigError } from "../../errors/ConfigError.ts"
import { unreadableSetting } from "../../model/settings.ts"

/** The default namespace in a database. Programs with the same namespace share their credentials. */
export const defaultNamespace = "aden-credentials"

/** Not "/", which separates a tenant's name, nor braces, which Redis Cluster takes for a hash tag. */
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

/** The URL in an environment variable; empty when it is not set. */
export const configuredUrl = (variable: string): Effect.Effect<Redacted.Redacted<string>, AdenConfigError> =>
  Effect.mapError(
    Effect.suspend(() => Config.withDefault(Config.Redacted(variable), Redacted.make(""))),
    () => unreadableSetting(variable)
  )
