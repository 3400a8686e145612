/**
 * Whether the settings of the environment are there and make sense, each by itself.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { configuredKeys } from "../../encryption/keys.ts"
import type { AdenConfigError } from "../../errors/CredentialError.ts"
import * as environment from "../../providers/aden/adenEnvironment.ts"
import { apiKeySetting, serverUrlSetting, tenantIdSetting } from "../../providers/aden/settings.ts"
import { keyFileRisk } from "../../storage/files/keyFile.ts"
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

/** What asking Aden needs. */
export const adenSettings: Effect.Effect<ReadonlyArray<Finding>> = Effect.all([
  found(
    "settings",
    Effect.flatMap(environment.apiUrl, (text) => serverUrlSetting("ADEN_API_URL", text, { allowInsecure: false })),
    (url) => `ADEN_API_URL is ${url.href}`
  ),
  found(
    "settings",
    Effect.flatMap(Effect.flatten(environment.apiKey), (key) => apiKeySetting("ADEN_API_KEY", key)),
    () => "ADEN_API_KEY is set"
  ),
  found(
    "settings",
    Effect.flatMap(environment.tenantId, (id) => tenantIdSetting("ADEN_TENANT_ID", id)),
    (id) => id === undefined ? "ADEN_TENANT_ID is not set; it is optional" : `ADEN_TENANT_ID is ${id}`
  )
])

/** What opening the files needs. */
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
