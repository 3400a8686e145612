import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import { CredentialKeyNotFound } from "../errors/CredentialError.ts"
import type { CredentialFailure } from "../errors/CredentialError.ts"
import { CredentialTemplateError, TemplateRefused, TemplateUnfit } from "../errors/UseError.ts"
import type { Credential, CredentialRef } from "../model/Credential.ts"
import { headerNameFault, headerValueFault } from "../util/httpSyntax.ts"
import { CredentialTemplate } from "./CredentialTemplate.ts"
import type { TemplatePlaceholder } from "./CredentialTemplate.ts"

/** The deepest JSON value that is expanded, so that a hostile one cannot exhaust the stack. */
const maximumDepth = 500

type Failure = CredentialFailure | CredentialKeyNotFound | CredentialTemplateError

type Options = { readonly refs?: ReadonlyArray<CredentialRef> | undefined } | undefined

/** A template and its place, for errors; `undefined` when there is only one template. */
type Placed = readonly [place: string | undefined, text: string]

/**
 * Expands templates. Templates passed in one call share one read of each credential, so that a user name and a password belong
 * together. No credential is read unless all of the templates are well-formed and allowed.
 */
export class TemplateResolver {
  readonly #get: (ref: CredentialRef) => Effect.Effect<Credential, CredentialFailure>

  constructor(get: (ref: CredentialRef) => Effect.Effect<Credential, CredentialFailure>) {
    this.#get = get
  }

  /** One text. */
  text(template: string, options: Options): Effect.Effect<Redacted.Redacted<string>, Failure> {
    return Effect.map(this.#all([[undefined, template]], options), ([value = ""]) => Redacted.make(value))
  }

  /** Every string in a JSON value; field names are not templates. */
  json(template: Schema.Json, options: Options): Effect.Effect<Redacted.Redacted<Schema.Json>, Failure> {
    return Effect.gen({ self: this }, function*() {
      const placed = yield* Effect.fromResult(textsOf(template))
      const values = (yield* this.#all(placed, options)).values()
      return Redacted.make(mapTexts(template, (text) => values.next().value ?? text))
    })
  }

  /** Headers. A name or value that cannot be sent is refused. */
  headers(
    templates: Readonly<Record<string, string>>,
    options: Options
  ): Effect.Effect<Record<string, Redacted.Redacted<string>>, Failure> {
    return Effect.gen({ self: this }, function*() {
      const names = Object.keys(templates)
      for (const name of names) yield* Effect.fromResult(fitting(headerPlace(name), headerNameFault(name)))
      const values = yield* this.#all(
        Object.entries(templates).map(([name, text]) => [headerPlace(name), text]),
        options
      )
      for (const [index, name] of names.entries()) {
        yield* Effect.fromResult(fitting(headerPlace(name), headerValueFault(values[index] ?? "")))
      }
      return redactedRecord(names, values)
    })
  }

  /** Query parameters. */
  params(
    templates: Readonly<Record<string, string>>,
    options: Options
  ): Effect.Effect<Record<string, Redacted.Redacted<string>>, Failure> {
    const placed = Object.entries(templates).map(([name, text]): Placed => [`parameter ${name}`, text])
    return Effect.map(this.#all(placed, options), (values) => redactedRecord(Object.keys(templates), values))
  }

  #all(placed: ReadonlyArray<Placed>, options: Options): Effect.Effect<ReadonlyArray<string>, Failure> {
    return Effect.gen({ self: this }, function*() {
      const templates = yield* Effect.forEach(
        placed,
        ([place, text]) => Effect.fromResult(parseAllowed(text, place, options?.refs))
      )
      const refs = Array.from(new Set(templates.flatMap((template) => template.refs)))
      const credentials = new Map(
        yield* Effect.forEach(refs, (ref) => Effect.map(this.#get(ref), (credential) => [ref, credential] as const), {
          concurrency: 16
        })
      )
      return yield* Effect.forEach(templates, (template) =>
        Effect.map(
          Effect.fromResult(template.expand((placeholder) => valueOf(placeholder, credentials.get(placeholder.ref)))),
          Redacted.value
        ))
    })
  }
}

/** Parses a template that may use only the `allowed` refs; any when there is no list. */
export const parseAllowed = (
  text: string,
  place: string | undefined,
  allowed: ReadonlyArray<CredentialRef> | undefined
): Result.Result<CredentialTemplate, CredentialTemplateError> => {
  const parsed = CredentialTemplate.parse(text)
  if (Result.isFailure(parsed)) {
    return Result.fail(new CredentialTemplateError({ place, reason: parsed.failure.reason }))
  }
  const refused = allowed === undefined ? undefined : parsed.success.refs.find((ref) => !allowed.includes(ref))
  return refused === undefined
    ? parsed
    : Result.fail(new CredentialTemplateError({ place, reason: new TemplateRefused({ ref: refused }) }))
}

/** The value of a placeholder. */
export const valueOf = (
  { key, ref }: TemplatePlaceholder,
  credential: Credential | undefined
): Result.Result<Redacted.Redacted<string>, CredentialKeyNotFound> => {
  const found = key === undefined ? credential?.defaultKey : credential?.keys.get(key)
  return found === undefined ? Result.fail(new CredentialKeyNotFound({ ref, key })) : Result.succeed(found.value)
}

export const headerPlace = (name: string): string => `header ${name}`

/** Fails when `detail` says that something is wrong. */
export const fitting = (
  place: string,
  detail: string | undefined
): Result.Result<void, CredentialTemplateError> =>
  detail === undefined
    ? Result.void
    : Result.fail(new CredentialTemplateError({ place, reason: new TemplateUnfit({ detail }) }))

const redactedRecord = (names: ReadonlyArray<string>, values: ReadonlyArray<string>) =>
  Object.fromEntries(names.map((name, index) => [name, Redacted.make(values[index] ?? "")]))

/** The strings of a JSON value, in the order in which `mapTexts` visits them. */
const textsOf = (value: Schema.Json): Result.Result<ReadonlyArray<Placed>, CredentialTemplateError> => {
  const texts: Array<Placed> = []
  const isTooDeep = (value: Schema.Json, place: string, depth: number): boolean => {
    if (typeof value === "string") {
      texts.push([place === "" ? undefined : `field ${place}`, value])
      return false
    }
    if (typeof value !== "object" || value === null) return false
    return depth === 0 ||
      Object.entries<Schema.Json>(value).some(([name, item]) => isTooDeep(item, `${place}/${name}`, depth - 1))
  }
  return isTooDeep(value, "", maximumDepth)
    ? Result.fail(
      new CredentialTemplateError({
        reason: new TemplateUnfit({ detail: `the value is nested more than ${maximumDepth} deep` })
      })
    )
    : Result.succeed(texts)
}

const mapTexts = (value: Schema.Json, f: (text: string) => string): Schema.Json => {
  if (typeof value === "string") return f(value)
  if (Array.isArray(value)) return value.map((item: Schema.Json) => mapTexts(item, f))
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, mapTexts(item, f)]))
}
