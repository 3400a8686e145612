/**
 * Checks of the Aden client's settings, made before any request. An invalid one is an `AdenConfigError` that names it.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { AdenConfigError, insecureUrlRemedy } from "../../errors/ConfigError.ts"
import { missingSetting } from "../../model/settings.ts"
import { isLoopback } from "../../util/httpSyntax.ts"
import { isShown } from "../../util/sanitize.ts"

/** The server's URL: `https:`, or `http:` to this machine or with `allowInsecure`. */
export const serverUrlSetting = (
  setting: string,
  text: string,
  options: { readonly allowInsecure: boolean }
): Effect.Effect<URL, AdenConfigError> => {
  const refuse = (detail: string, remedy: string) => Effect.fail(new AdenConfigError({ setting, detail, remedy }))
  if (text === "") return Effect.fail(missingSetting(setting, "the URL of the Aden server"))
  if (!URL.canParse(text)) return refuse("is not a URL", "Give it as https://host, with a path if the server has one.")
  const url = new URL(text)
  if (url.protocol !== "https:" && url.protocol !== "http:") {
    return refuse(`has the scheme ${JSON.stringify(url.protocol)}`, "Use https.")
  }
  if (url.username !== "" || url.password !== "") {
    return refuse("holds a user name or password", "Leave them out; set the API key separately.")
  }
  if (url.search !== "" || url.hash !== "") return refuse("has a query or fragment", "Leave it out.")
  if (url.protocol === "http:" && !isLoopback(url) && !options.allowInsecure) {
    return refuse(
      `is http to ${url.hostname}, which would expose tokens on the network`,
      insecureUrlRemedy
    )
  }
  return Effect.succeed(url)
}

/** Text that fits an HTTP header as it is. */
const headerText = /^[\x21-\x7e]+$/

/** The name of the issuer, where none is given. */
export const issuerOfUrl = (url: URL): string => `${url.origin}${url.pathname.replace(/\/+$/, "")}`

/** The name of the issuer: short text that is shown as it is; empty counts as not set. */
export const issuerSetting = (
  setting: string,
  name: string | undefined
): Effect.Effect<string | undefined, AdenConfigError> => {
  if (name === undefined || name === "") return Effect.succeed(undefined)
  return isShown(name) ? Effect.succeed(name) : Effect.fail(
    new AdenConfigError({
      setting,
      detail: "holds control or invisible characters, or is too long",
      remedy: "Give a short name, such as the URL that the server is known by."
    })
  )
}

/** The API key: not empty, visible ASCII. */
export const apiKeySetting = (
  setting: string,
  key: Redacted.Redacted<string>
): Effect.Effect<Redacted.Redacted<string>, AdenConfigError> => {
  const value = Redacted.value(key)
  if (value === "") return Effect.fail(missingSetting(setting, "the agent's API key"))
  return headerText.test(value) ? Effect.succeed(key) : Effect.fail(
    new AdenConfigError({
      setting,
      detail: "holds a space, a line break or a character outside ASCII",
      remedy: "Copy the key again, without surrounding white space."
    })
  )
}

/** The tenant id: visible ASCII; empty counts as not set. */
export const tenantIdSetting = (
  setting: string,
  id: string | undefined
): Effect.Effect<string | undefined, AdenConfigError> => {
  if (id === undefined || id === "") return Effect.succeed(undefined)
  return headerText.test(id) ? Effect.succeed(id) : Effect.fail(
    new AdenConfigError({
      setting,
      detail: "holds a space, a line break or a character outside ASCII",
      remedy: "Give the tenant id as Aden shows it."
    })
  )
}
