/**
 * Why a credential is not put where a program wants to use it.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { cleanText, printable } from "../util/sanitize.ts"
import { ActionableError, line, optionalText, quoted } from "./Actionable.ts"
import { CredentialFailure, CredentialKeyNotFound } from "./CredentialError.ts"

/**
 * The text of a template is not one: a placeholder is not closed, holds a brace, or names nothing. `offset` is where the
 * placeholder begins, in UTF-16 code units.
 *
 * @since 0.1.0
 * @category reasons
 */
export class TemplateMalformed extends Schema.TaggedError<TemplateMalformed>()("TemplateMalformed", {
  offset: Schema.Int,
  detail: Schema.String
}) {
  override get message(): string {
    return line`the placeholder at offset ${this.offset} ${this.detail}`
  }
}

/**
 * The template names what it may not use: a ref that is not in the list, or a key that begins with `_`.
 *
 * @since 0.1.0
 * @category reasons
 */
export class TemplateRefused extends Schema.TaggedError<TemplateRefused>()("TemplateRefused", {
  ref: Schema.String,
  /** The key, where it is what was refused; `undefined` when it was the ref. */
  key: optionalText
}) {
  override get message(): string {
    return this.key === undefined
      ? line`${quoted(this.ref)} is not among the refs allowed here`
      : line`the key ${quoted(this.key)} is internal and never expanded`
  }
}

/**
 * What a template becomes does not fit where it goes: a header with a line break. `detail` says what is wrong, not the value.
 *
 * @since 0.1.0
 * @category reasons
 */
export class TemplateUnfit extends Schema.TaggedError<TemplateUnfit>()("TemplateUnfit", {
  detail: Schema.String
}) {
  override get message(): string {
    return printable(this.detail)
  }
}

/**
 * A template was not expanded. `reason` says why, `place` where it stands: `header X-Api-Key`. Nothing was sent, and neither
 * the template's text nor a value is shown.
 *
 * @since 0.1.0
 * @category errors
 */
export class CredentialTemplateError extends ActionableError<CredentialTemplateError>()("CredentialTemplateError", {
  place: optionalText,
  reason: Schema.Union([TemplateMalformed, TemplateRefused, TemplateUnfit])
}, {
  message: ({ place, reason }) =>
    line`The template${place === undefined ? "" : ` in ${cleanText(place)}`} cannot be expanded: ${reason.message}`,
  isRetryable: false,
  remedy: ({ reason }) => {
    switch (reason._tag) {
      case "TemplateMalformed":
        return "Write placeholders as {{ref}} or {{ref.key}}, and \\{{ for two braces."
      case "TemplateRefused":
        return reason.key === undefined
          ? "Add the ref to the list of those that may be used, if this text may have it."
          : "Name a key without a leading underscore."
      case "TemplateUnfit":
        return "Give what fits there: a header takes visible ASCII characters and spaces, on one line."
    }
  }
}) {}

/**
 * A credential was about to go where it may not go. Nothing was sent there.
 *
 * @since 0.1.0
 * @category errors
 */
export class CredentialHostDenied extends ActionableError<CredentialHostDenied>()("CredentialHostDenied", {
  ref: Schema.String,
  /** The host and port, as the URL gives them, in lower case; `(not shown)` where they may hold the credential. */
  host: Schema.String,
  detail: Schema.String,
  /** What to do, where that is not about the host. */
  advice: Schema.optionalKey(Schema.String)
}, {
  message: ({ detail, host, ref }) => line`Credential ${quoted(ref)} is not sent to ${quoted(host)}: ${detail}`,
  isRetryable: false,
  remedy: ({ advice }) =>
    advice ?? "Use https and a host of allowedHosts; add the host there if it may have the credential."
}) {}

/**
 * Everything but the API's own failures that a request by `CredentialHttpClient` can fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export const CredentialUseFailure = Schema.Union([
  ...CredentialFailure.members,
  CredentialKeyNotFound,
  CredentialTemplateError,
  CredentialHostDenied
])

/**
 * @since 0.1.0
 * @category errors
 */
export type CredentialUseFailure = typeof CredentialUseFailure.Type
