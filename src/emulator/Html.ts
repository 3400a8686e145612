/**
 * HTML in which text is text: what is put into a template is escaped unless it is HTML already. (Effect's `Template` puts
 * text in as it is, and ids are whatever a program calls its integrations.)
 */
import * as Predicate from "effect/Predicate"

/** A piece of a page. */
export class Html {
  readonly source: string

  /** HTML as it is written: for texts of this program alone. */
  constructor(source: string) {
    this.source = source
  }
}

/** What a template takes; `undefined` is nothing. */
export type Content = Html | string | number | undefined | ReadonlyArray<Content>

/** HTML from a template. What is put in may stand between tags or within a quoted attribute, never inside a script or style. */
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
