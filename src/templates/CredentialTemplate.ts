/**
 * Text with placeholders for credentials: `Bearer {{hubspot.access_token}}`.
 *
 * `{{ref.key}}` stands for a key of a credential, `{{ref}}` for its default key. The last dot separates ref and key, so a ref that
 * contains a dot needs its key written out. White space inside the braces is ignored; braces inside a placeholder are refused. To
 * write two literal braces, escape them as `\{{`; to write a backslash before a placeholder, double it. Everything else is
 * literal text.
 *
 * This is only the parser. `CredentialStore` expands templates: `resolve`, `resolveHeaders`, `resolveParams`.
 *
 * @since 0.1.0
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { CredentialTemplateError, TemplateMalformed, TemplateRefused } from "../errors/UseError.ts"
import type { CredentialRef } from "../model/Credential.ts"

/**
 * A placeholder. `key` is `undefined` for the default key.
 *
 * @since 0.1.0
 * @category models
 */
export interface TemplatePlaceholder {
  readonly ref: CredentialRef
  readonly key: string | undefined
}

/**
 * A parsed template.
 *
 * @example
 * ```ts
 * import { CredentialStore, CredentialTemplate } from "aden-credentials"
 * import { Effect } from "effect"
 *
 * // the check before a run: the templates are well-formed, and what they name is usable
 * const check = Effect.gen(function*() {
 *   const template = yield* Effect.fromResult(CredentialTemplate.parse("Bearer {{hubspot}}"))
 *   const store = yield* CredentialStore
 *   yield* store.require(template.refs) // ["hubspot"]
 * })
 * ```
 *
 * @since 0.1.0
 * @category models
 */
export class CredentialTemplate {
  /** Literal text and placeholders, in order. */
  readonly parts: ReadonlyArray<string | TemplatePlaceholder>

  constructor(parts: ReadonlyArray<string | TemplatePlaceholder>) {
    this.parts = parts
  }

  /**
   * Parses a template. Fails with reason `TemplateMalformed` when a placeholder is not closed, is empty or holds a brace, and with
   * reason `TemplateRefused` for a key that begins with `_`.
   */
  static parse(text: string): Result.Result<CredentialTemplate, CredentialTemplateError> {
    const parts: Array<string | TemplatePlaceholder> = []
    let literal = ""
    let at = 0
    for (;;) {
      const open = text.indexOf("{{", at)
      if (open === -1) break
      let escapes = open
      while (escapes > at && text[escapes - 1] === "\\") escapes--
      literal += text.slice(at, escapes) + "\\".repeat(Math.floor((open - escapes) / 2))
      at = open + 2
      if ((open - escapes) % 2 === 1) {
        literal += "{{"
        continue
      }
      const close = text.indexOf("}}", at)
      if (close === -1) return malformed(open, "is not closed with }}")
      const placeholder = placeholderOf(text.slice(at, close), open)
      if (Result.isFailure(placeholder)) return Result.fail(placeholder.failure)
      if (literal !== "") parts.push(literal)
      parts.push(placeholder.success)
      literal = ""
      at = close + 2
    }
    literal += text.slice(at)
    if (literal !== "") parts.push(literal)
    return Result.succeed(new CredentialTemplate(parts))
  }

  /** The refs of the placeholders, each once. */
  get refs(): ReadonlyArray<CredentialRef> {
    return Array.from(new Set(this.parts.flatMap((part) => typeof part === "string" ? [] : [part.ref])))
  }

  /** The text with each placeholder replaced by the result of `read`. Inserted values are not expanded again. */
  expand<E>(
    read: (placeholder: TemplatePlaceholder) => Result.Result<Redacted.Redacted<string>, E>
  ): Result.Result<Redacted.Redacted<string>, E> {
    let text = ""
    for (const part of this.parts) {
      if (typeof part === "string") {
        text += part
        continue
      }
      const value = read(part)
      if (Result.isFailure(value)) return Result.fail(value.failure)
      text += Redacted.value(value.success)
    }
    return Result.succeed(Redacted.make(text))
  }
}

// internal

const malformed = (offset: number, detail: string): Result.Result<never, CredentialTemplateError> =>
  Result.fail(new CredentialTemplateError({ reason: new TemplateMalformed({ offset, detail }) }))

const placeholderOf = (
  text: string,
  offset: number
): Result.Result<TemplatePlaceholder, CredentialTemplateError> => {
  if (/[{}]/.test(text)) return malformed(offset, "holds a brace: it is not closed, or another begins in it")
  const name = text.trim()
  const dot = name.lastIndexOf(".")
  const ref = dot === -1 ? name : name.slice(0, dot)
  const key = dot === -1 ? undefined : name.slice(dot + 1)
  if (ref === "") return malformed(offset, "names no credential")
  if (key === "") return malformed(offset, "names no key after its dot")
  return key?.startsWith("_") === true
    ? Result.fail(new CredentialTemplateError({ reason: new TemplateRefused({ ref, key }) }))
    : Result.succeed({ ref, key })
}
