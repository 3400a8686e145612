/**
 * What is wrong with a setting.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { ActionableError, line } from "./Actionable.ts"

/**
 * A setting is missing, malformed or unsafe. Found when a layer is built, before any request.
 *
 * @since 0.1.0
 * @category errors
 */
export class AdenConfigError extends ActionableError<AdenConfigError>()("AdenConfigError", {
  /** The setting, by the name under which it is set: `ADEN_API_URL`, `cacheTtl`. */
  setting: Schema.String,
  detail: Schema.String,
  remedy: Schema.String
}, {
  message: ({ detail, remedy, setting }) => line`${setting} ${detail}. ${remedy}`,
  isRetryable: false
}) {}

/**
 * What to do about a URL with plain http to another machine. The command has no such option and says something else.
 *
 * @internal
 */
export const insecureUrlRemedy = "Use https, or set allowInsecure."
