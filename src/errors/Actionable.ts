/**
 * What the errors of this package have in common: a message a person can act on, `isRetryable`, `retryAfter` where a time is
 * known, and `remedy`, one sentence on what to do. None holds a secret, in any field or cause.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import { cleanText, printable } from "../util/sanitize.ts"

/**
 * What every error of this package answers besides its own fields.
 *
 * @since 0.1.0
 * @category models
 */
export interface Actionable {
  /** Whether the same call can succeed later without any change by a person. */
  readonly isRetryable: boolean
  /** How long to wait before the next call, where that is known. */
  readonly retryAfter?: Duration.Duration | undefined
  /** One sentence for a person: what to do about it. */
  readonly remedy: string
}

/** The same for every error of a class, or computed from the error. */
type Answer<Self, A> = A | ((self: Self) => A)

interface Answers<Self> {
  readonly message: Answer<Self, string>
  readonly isRetryable: Answer<Self, boolean>
  readonly retryAfter?: Answer<Self, Duration.Duration | undefined>
  readonly remedy: Answer<Self, string>
}

type Instance<Tag extends string, Fields extends Schema.Struct.Fields> =
  & Schema.TaggedStruct<Tag, Fields>["Type"]
  & Actionable

/**
 * A `Schema.TaggedError` that is {@link Actionable}: `answers` gives what its fields do not.
 *
 * @internal
 */
export const ActionableError = <Self = never>() =>
<Tag extends string, const Fields extends Schema.Struct.Fields>(
  tag: Tag,
  fields: Fields,
  answers: Omit<Answers<Instance<Tag, Fields>>, keyof Fields>
) => {
  const base = Schema.TaggedError<Self, Actionable>()(tag, fields)
  // Without a `Self` its type is that of a compile error, and no class.
  if (typeof base !== "function") return base
  const given: Partial<Answers<Instance<Tag, Fields>>> = answers
  for (const [name, answer] of Object.entries(given)) {
    Object.defineProperty(base.prototype, name, {
      configurable: true,
      get(this: Instance<Tag, Fields>) {
        return typeof answer === "function" ? answer(this) : answer
      }
    })
  }
  return base
}

/** @internal */
export const optionalText = Schema.optional(Schema.String)

/** @internal */
export const optionalDuration = Schema.optional(Schema.Duration)

/**
 * One line of visible characters, whatever it is put together from: what an error speaks of came from outside.
 *
 * @internal
 */
export const line = (parts: TemplateStringsArray, ...values: ReadonlyArray<string | number>): string =>
  printable(String.raw({ raw: parts }, ...values))

/**
 * A name that came from outside, within a line.
 *
 * @internal
 */
export const quoted = (name: string): string => JSON.stringify(cleanText(name))
