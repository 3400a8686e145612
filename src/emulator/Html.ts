/**
 * HTML templates that escape what is put in, unless it is `Html` already. (Effect's `Template` does not escape, and an id can
 * be any text.)
 */
import * as Predicate from "effect/Predicate"

/** A piece of a page. */
export class Html {
  readonly source: string

  /** HTML that is not escaped: only for texts of this program. */
  constructor(source: string) {
    this.source = source
  }
}

/** What can be put into a template; `undefined` adds nothing. */
export type Content = Html | string | number | undefined | ReadonlyArray<Content>

/** HTML from a template. Put values between tags or into a quoted attribute, never into a script or a style. */
export const html = (strings: TemplateStringsArray, ...contents: ReadonlyArray<Content>): Html =>
  new Html(strings.reduce((before, after, index) => before + escaped(contents[index - 1]) + after))

const escaped = (content: Content): string => {
  if (content === undefined) return ""
  if (content instanceof Html) return content.source
  if (Predicate.isString(content) || Predicate.isNumber(content)) return escape(String(content))
  return content.map(escaped).join("")
}

const escape = (text: string): string =>
  text.toWellFormed().replace(/[&<>"'`]/g, (character) => `&#${character.charCodeAt(0)};`)
