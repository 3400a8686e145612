/**
 * Whether each setting of the environment is present and valid.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { keyFileRisk } from "../../encryption/keyFile.ts"
import { keyFile, keySource } from "../../encryption/keys.ts"
import type { SecretSource } from "../../encryption/secretSource.ts"
import type { AdenConfigError } from "../../errors/ConfigError.ts"
import { apiKeySource, configuredApiKey, configuredTenantId, configuredUrl } from "../../providers/aden/inspect.ts"
import { configuredProxies, routeOf } from "../../proxy/inspect.ts"
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

/** How Aden is reached, where the environment names a proxy. */
const proxyFindings: Effect.Effect<ReadonlyArray<Finding>> = Effect.gen(function*() {
  const proxies = yield* Effect.result(configuredProxies)
  if (Result.isFailure(proxies)) return [failed("settings", proxies.failure)]
  const url = yield* Effect.option(configuredUrl)
  if (Option.isNone(url)) return []
  const { exempt } = proxies.success
  const route = routeOf(proxies.success, url.value)
  if (route._tag === "Proxied") {
    const { url: { host, protocol }, variable } = route.proxy
    return [ok("settings", `Aden is asked through the proxy ${protocol}//${host}, by ${variable}`)]
  }
  if (route.because === undefined) return []
  const why = route.because === "exempt" ? `${exempt.variable} exempts ${url.value.host}` : "it is on this machine"
  return [ok("settings", `Aden is asked without the proxy of the environment: ${why}`)]
})

/** Where a secret is, for a person. */
const placeOf = (source: SecretSource): string => {
  switch (source._tag) {
    case "Variable":
      return `in ${source.setting}`
    case "File":
      return `in ${source.file}, by ${source.setting}`
    case "Command":
      return `printed by the command in ${source.setting}`
  }
}

/** The settings for asking Aden. */
export const adenSettings: Effect.Effect<ReadonlyArray<Finding>> = Effect.map(
  Effect.all([
    found(
      "settings",
      configuredUrl,
      (url) => `ADEN_API_URL is ${url.href}`
    ),
    found(
      "settings",
      Effect.zip(configuredApiKey, apiKeySource),
      ([, source]) =>
        Option.isSome(source) && source.value._tag !== "Variable"
          ? `The API key is ${placeOf(source.value)}`
          : "ADEN_API_KEY is set"
    ),
    found(
      "settings",
      configuredTenantId,
      (id) => id === undefined ? "ADEN_TENANT_ID is not set; it is optional" : `ADEN_TENANT_ID is ${id}`
    ),
    proxyFindings
  ]),
  (findings) => findings.flat()
)

/** Where the keys are, for a person. */
const sourceOfKeys = (source: Option.Option<SecretSource>) =>
  Option.match(source, {
    onNone: () => Effect.map(keyFile, (file) => `in ${file}`),
    onSome: (source) => Effect.succeed(placeOf(source))
  })

/** The setting for opening stored credentials: the keys as they are read. */
export const encryptionKey = <R>(configured: Effect.Effect<FernetKeys, AdenConfigError, R>) =>
  found(
    "encryption key",
    Effect.zip(configured, Effect.flatMap(keySource, sourceOfKeys)),
    ([{ length }, source]) =>
      `${length === 1 ? "One key is set" : `${length} keys are set; the first encrypts`}, ${source}`
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
