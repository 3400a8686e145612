import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { configuredSecret } from "../../encryption/secretSource.ts"
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

/** The URL in an environment variable, or in the file or command named in its place; empty when none is set. */
export const configuredUrl = (variable: string): Effect.Effect<Redacted.Redacted<string>, AdenConfigError> =>
  Effect.map(configuredSecret(variable), Option.getOrElse(() => Redacted.make("")))

/** The variable that lets the connection to a Redis server on another machine be plain text. */
export const redisInsecureVariable = "REDIS_ALLOW_INSECURE"

/** Whether that variable says so; not when it is unset or empty. */
export const redisAllowsInsecure: Effect.Effect<boolean, AdenConfigError> = Effect.suspend(() =>
  Config.withDefault(Config.String(redisInsecureVariable), "")
).pipe(
  Effect.mapError(() => unreadableSetting(redisInsecureVariable)),
  Effect.flatMap((text) =>
    text === "true" || text === "false" || text === "" ? Effect.succeed(text === "true") : Effect.fail(
      new AdenConfigError({
        setting: redisInsecureVariable,
        detail: "is neither true nor false",
        remedy: "Leave it out for TLS, or set it to true for plain text."
      })
    )
  )
)
