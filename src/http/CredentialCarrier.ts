import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { AdenConfigError } from "../errors/ConfigError.ts"
import type { CredentialKeyNotFound } from "../errors/CredentialError.ts"
import type { CredentialHostDenied, CredentialTemplateError } from "../errors/UseError.ts"
import type { Credential, CredentialRef } from "../model/Credential.ts"
import { CredentialTemplate } from "../templates/CredentialTemplate.ts"
import type { TemplatePlaceholder } from "../templates/CredentialTemplate.ts"
import { fitting, headerPlace, parseAllowed, valueOf } from "../templates/expand.ts"
import { headerNameFault, headerValueFault } from "../util/httpSyntax.ts"
import { SecretForms } from "./echoes.ts"
import type { Redirect } from "./redirects.ts"
import { hasStrayPercent, holdsSecret, shortestSecret } from "./repeatedSecrets.ts"

type Templates = ReadonlyArray<readonly [name: string, template: CredentialTemplate]>

/** The headers in which a credential goes where nothing else is said. */
const headersOfTypes = ["authorization", "x-api-key"]

/** What is wrong with a header for a credential: it says where a request goes and where it ends. */
const carriedNameFault = (name: string): string | undefined =>
  /^(?:host|content-length|transfer-encoding|connection|upgrade|te|trailer|expect|keep-alive)$/i.test(name)
    ? "the header says how the request is sent, and cannot carry a credential"
    : undefined

const userNameKey = "username"

/** Some APIs take a key as the user name. A shorter one is a name, such as "api". */
const shortestKey = 16

/** How requests carry the credential of a ref: in the headers and parameters given, or in a header by its type. */
export class CredentialCarrier {
  readonly ref: CredentialRef
  /** The headers that it sets, in lower case. */
  readonly headerNames: ReadonlyArray<string>
  readonly paramNames: ReadonlyArray<string>
  readonly #headers: Templates
  readonly #params: Templates

  constructor(ref: CredentialRef, headers: Templates, params: Templates) {
    this.ref = ref
    this.#headers = headers
    this.#params = params
    this.headerNames = this.#isByType ? headersOfTypes : headers.map(([name]) => name.toLowerCase())
    this.paramNames = params.map(([name]) => name)
  }

  /** A carrier from settings: each template is read here, and may name only this ref. */
  static readonly make = Effect.fnUntraced(function*(options: {
    readonly ref: CredentialRef
    readonly headers?: Readonly<Record<string, string>> | undefined
    readonly params?: Readonly<Record<string, string>> | undefined
  }): Effect.fn.Return<CredentialCarrier, AdenConfigError> {
    const { headers = {}, params = {}, ref } = options
    const read = (group: "headers" | "params", templates: Readonly<Record<string, string>>) =>
      Effect.forEach(Object.entries(templates), ([name, text]) => {
        const nameFault = group === "headers" ? headerNameFault(name) ?? carriedNameFault(name) : undefined
        const setting = `${group}[${JSON.stringify(name)}]`
        return Effect.fromResult(parseAllowed(text, undefined, [ref])).pipe(
          Effect.tap(() => Effect.fromResult(fitting(setting, nameFault))),
          Effect.mapBoth({
            onSuccess: (template) => [name, template] as const,
            onFailure: ({ reason, remedy }) =>
              new AdenConfigError({ setting, detail: `cannot be used: ${reason.message}`, remedy })
          })
        )
      })
    return new CredentialCarrier(ref, yield* read("headers", headers), yield* read("params", params))
  })

  get #isByType(): boolean {
    return this.#headers.length === 0 && this.#params.length === 0
  }

  /** What a request carries of a credential. */
  readonly of = Effect.fnUntraced(function*(
    this: CredentialCarrier,
    credential: Credential
  ): Effect.fn.Return<CarriedCredential, CredentialKeyNotFound | CredentialTemplateError> {
    const values: Array<string> = []
    const secrets: Array<string> = []
    const expand = (template: CredentialTemplate) =>
      Effect.fromResult(template.expand((placeholder) =>
        Result.map(valueOf(placeholder, credential), (value) => {
          const text = Redacted.value(value)
          values.push(text)
          if (text.length >= (placeholder.key === userNameKey ? shortestKey : shortestSecret)) secrets.push(text)
          return value
        })
      ))
    const isBasic = this.#isByType && credential.type === "basic_auth"
    const headers: Record<string, string> = {}
    const params: Record<string, Redacted.Redacted<string>> = {}
    for (const [name, template] of this.#isByType ? this.#byType(credential) : this.#headers) {
      const text = Redacted.value(yield* expand(template))
      const encoded = isBasic ? Base64.encode(text) : undefined
      if (encoded !== undefined) secrets.push(text, encoded)
      const value = encoded === undefined ? text : `Basic ${encoded}`
      yield* Effect.fromResult(fitting(headerPlace(name), headerValueFault(value)))
      headers[name] = value
    }
    for (const [name, template] of this.#params) params[name] = yield* expand(template)
    return new CarriedCredential(this, { headers, params, values, secrets })
  })

  #byType(credential: Credential): Templates {
    const key = (key?: string): TemplatePlaceholder => ({ ref: this.ref, key })
    switch (credential.type) {
      case "basic_auth":
        return [["authorization", new CredentialTemplate([key(userNameKey), ":", key("password")])]]
      case "api_key":
        return [["x-api-key", new CredentialTemplate([key()])]]
      default:
        return [["authorization", new CredentialTemplate(["Bearer ", key()])]]
    }
  }
}

/** A credential as requests carry it. */
export class CarriedCredential {
  readonly carrier: CredentialCarrier
  readonly #headers: Readonly<Record<string, string>>
  readonly #params: Readonly<Record<string, Redacted.Redacted<string>>>
  readonly #values: ReadonlyArray<string>
  readonly #secrets: ReadonlyArray<string>

  constructor(carrier: CredentialCarrier, parts: {
    readonly headers: Readonly<Record<string, string>>
    readonly params: Readonly<Record<string, Redacted.Redacted<string>>>
    /** What the templates were filled with. */
    readonly values: ReadonlyArray<string>
    /** What no other server may see of it, in each form in which it is sent. */
    readonly secrets: ReadonlyArray<string>
  }) {
    this.carrier = carrier
    this.#headers = parts.headers
    this.#params = parts.params
    this.#values = parts.values
    this.#secrets = parts.secrets
  }

  /** The same for what an API cannot tell apart. A secret itself. */
  get identity(): string {
    return JSON.stringify(this.#values)
  }

  /** The headers and parameters that it takes. */
  get places(): ReadonlyArray<string> {
    return [
      ...Object.keys(this.#headers).map((name) => `header ${name.toLowerCase()}`),
      ...Object.keys(this.#params).map((name) => `parameter ${name}`)
    ]
  }

  isSameAs(other: CarriedCredential | undefined): boolean {
    return other !== undefined && this.identity === other.identity
  }

  /** The request with the credential, in place of what it had there. */
  attachTo(request: HttpClientRequest.HttpClientRequest): HttpClientRequest.HttpClientRequest {
    return withoutParams(request, this.carrier.paramNames).pipe(
      HttpClientRequest.setHeaders(this.#headers),
      HttpClientRequest.setUrlParams(this.#params)
    )
  }

  /** What is looked for in the answers to these. */
  static formsOf(sent: ReadonlyArray<CarriedCredential>): SecretForms {
    return new SecretForms(sent.flatMap((credential) => credential.#secrets))
  }

  /**
   * Why a redirect to another origin is not followed after these were sent: its URL holds one of them, or may hold it. Where none
   * was sent, any is followed.
   */
  static redirectFault(
    { location, url }: Redirect,
    sent: ReadonlyArray<CarriedCredential>
  ): Pick<CredentialHostDenied, "host" | "detail" | "advice"> | undefined {
    const secrets = sent.flatMap((credential) => credential.#secrets)
    if (secrets.length === 0) return undefined
    // a host has no capitals, and what it holds may have had some where the server wrote it
    const hosts = [url.host, hostIn(location)]
    const isHost = holdsSecret(hosts, secrets.flatMap((secret) => [secret, secret.toLowerCase()])) !== false
    const isHeld = isHost || holdsSecret([location, url.href], secrets)
    const host = isHost ? "(not shown)" : url.host
    if (isHeld === true) {
      return {
        host,
        detail: "a redirect there holds the credential in its URL",
        advice: "Carry it in a header, if the API takes it there: servers repeat URLs in redirects, not headers."
      }
    }
    return isHeld === undefined || hasStrayPercent(url.href)
      ? {
        host,
        detail: "a redirect there has a URL that cannot be decoded, and may hold the credential",
        advice: "Request that address with a client that carries no credential."
      }
      : undefined
  }
}

/** The host of a URL, with its port, as a server wrote it. */
const hostIn = (location: string): string =>
  /^(?:[^:/\\]*:)?[/\\]*([^/\\?#]*)/.exec(location.replaceAll("\t", ""))?.[1] ?? ""

/** Takes parameters out of the text of a request's URL; those beside it are replaced when they are set. */
export const withoutParams = (
  request: HttpClientRequest.HttpClientRequest,
  names: ReadonlyArray<string>
): HttpClientRequest.HttpClientRequest => {
  if (names.length === 0 || !URL.canParse(request.url)) return request
  const url = new URL(request.url)
  const present = names.filter((name) => url.searchParams.has(name))
  if (present.length === 0) return request
  for (const name of present) url.searchParams.delete(name)
  return HttpClientRequest.setUrl(request, url.href)
}
