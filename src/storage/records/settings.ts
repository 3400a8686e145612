import * as Effect from "effect/Effect"
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
