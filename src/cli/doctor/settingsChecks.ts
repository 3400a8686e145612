/**
 * Whether each setting of the environment is present and valid.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { keyFileRisk } from "../../encryption/keyFile.ts"
import { configuredKeys } from "../../encryption/keys.ts"
import type { AdenConfigError } from "../../errors/ConfigError.ts"
import { configuredApiKey, configuredTenantId, configuredUrl } from "../../providers/aden/inspect.ts"
import { ExitStatus } from "../ExitStatus.ts"
import { failed, ok, warning } from "./Finding.ts"
import type { Check, Finding } from "./Finding.ts"

const found = <A, R>(
  check: Check,
  setting: Effect.Effect<A, AdenConfigError, R>,
  describe: (value: A) => string
): Effect.Effect<Finding, never, R> =>
  Effect.match(setting, {
    onFailure: (error) => failed(check, error),
    onSuccess: (value) => ok(check, describe(value))
  })

/** The settings for asking Aden. */
export const adenSettings: Effect.Effect<ReadonlyArray<Finding>> = Effect.all([
  found(
    "settings",
    configuredUrl,
    (url) => `ADEN_API_URL is ${url.href}`
  ),
  found(
    "settings",
    configuredApiKey,
    () => "ADEN_API_KEY is set"
  ),
  found(
    "settings",
    configuredTenantId,
    (id) => id === undefined ? "ADEN_TENANT_ID is not set; it is optional" : `ADEN_TENANT_ID is ${id}`
  )
])

/** The setting for opening stored credentials. */
export const encryptionKey = found(
  "encryption key",
  configuredKeys,
  ({ length }) => length === 1 ? "One key is set" : `${length} keys are set; the first encrypts`
)

/** Whether Hive, which uses the same directory, finds the key. */
export const keyFileFindings = (directory: string) =>
  Effect.map(
    keyFileRisk(directory),
    Option.match({
      onNone: () => [],
      onSome: ({ keyFile, reason, remedy }) => [
        warning("encryption key", { message: reason, remedy, exitCode: ExitStatus.usage, locations: [keyFile] })
      ]
    })
  )
