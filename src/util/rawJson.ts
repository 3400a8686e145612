/**
 * JSON objects as a map from member names to the JSON text of the values, so that a member that is not understood is written
 * back byte for byte: `1.0` stays `1.0`, and an integer over 2^53 keeps all its digits.
 */

const isSpace = (code: number): boolean => code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09

const skipSpace = (text: string, at: number): number => {
  while (isSpace(text.charCodeAt(at))) at++
  return at
}

const quote = 0x22
const backslash = 0x5c
const comma = 0x2c
const openBrace = 0x7b
const closeBrace = 0x7d
const openBracket = 0x5b
const closeBracket = 0x5d

/** The index after the string that begins at `at`. */
const endOfString = (text: string, at: number): number => {
  let end = text.indexOf("\"", at + 1)
  for (;;) {
    let escape = end
    while (text.charCodeAt(escape - 1) === backslash) escape--
    if ((end - escape) % 2 === 0) return end + 1
    end = text.indexOf("\"", end + 1)
  }
}

const isStructural = (code: number): boolean =>
  code === quote || code === comma || code === openBrace || code === closeBrace || code === openBracket ||
  code === closeBracket

/** The index after the value that begins at `at`. Not recursive, so that deep nesting cannot overflow the stack. */
const endOfValue = (text: string, at: number): number => {
  let depth = 0
  do {
    switch (text.charCodeAt(at)) {
      case quote:
        at = endOfString(text, at)
        break
      case openBrace:
      case openBracket:
        depth++
        at++
        break
      case closeBrace:
      case closeBracket:
        depth--
        at++
        break
      default:
        // a number, a literal, or the separators inside an object or array
        at++
        while (at < text.length && !isStructural(text.charCodeAt(at))) at++
    }
  } while (depth > 0)
  return at
}

/** The value of a JSON text; `undefined` when it is not JSON. */
export const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Visits the members of the object that begins at `at`: `visit` answers the index after the value. Answers that after the object. */
const eachMember = (text: string, at: number, visit: (name: string, start: number) => number): number => {
  at = skipSpace(text, at + 1)
  while (text.charCodeAt(at) !== closeBrace) {
    const nameEnd = endOfString(text, at)
    const name = textOf(text.slice(at, nameEnd))
    at = skipSpace(text, visit(name, skipSpace(text, skipSpace(text, nameEnd) + 1)))
    if (text.charCodeAt(at) === comma) at = skipSpace(text, at + 1)
  }
  return at + 1
}

/** A visitor that collects the JSON text of each value. */
const collect = (text: string, members: Map<string, string>) => (name: string, start: number): number => {
  const end = endOfValue(text, start)
  members.set(name, text.slice(start, end).trimEnd())
  return end
}

/**
 * The members of a JSON object: name to the JSON text of the value. Of several members of one name the last counts. `undefined`
 * when the text is not JSON or not an object.
 */
export const parseMembers = (text: string): Map<string, string> | undefined =>
  parseJson(text) === undefined ? undefined : membersOf(text)

/** Like {@link parseMembers}, for text that is known to be JSON, such as a value of `parseMembers`. */
export const membersOf = (text: string): Map<string, string> | undefined => {
  const start = skipSpace(text, 0)
  if (text.charCodeAt(start) !== openBrace) return undefined
  const members = new Map<string, string>()
  eachMember(text, start, collect(text, members))
  return members
}

/**
 * Like {@link parseMembers}, with the members of the object `inner` apart, in one pass. `undefined` also when `inner` is missing or not
 * an object.
 */
export const parseNestedMembers = (
  text: string,
  inner: string
): { readonly members: Map<string, string>; readonly nested: Map<string, string> } | undefined => {
  const start = skipSpace(text, 0)
  if (parseJson(text) === undefined || text.charCodeAt(start) !== openBrace) return undefined
  const members = new Map<string, string>()
  const outer = collect(text, members)
  let nested: Map<string, string> | undefined
  eachMember(text, start, (name, at) => {
    if (name !== inner) return outer(name, at)
    nested = text.charCodeAt(at) === openBrace ? new Map<string, string>() : undefined
    return nested === undefined ? endOfValue(text, at) : eachMember(text, at, collect(text, nested))
  })
  return nested === undefined ? undefined : { members, nested }
}

/** The text that a JSON string stands for. */
const textOf = (string: string): string => string.includes("\\") ? String(parseJson(string)) : string.slice(1, -1)

/** A copy of a text that is to be kept: one that is cut out of another keeps all of it in memory. */
export const detached = (text: string): string => String(JSON.parse(JSON.stringify(text)))

/** The object with these members, on one line. */
export const renderMembers = (members: Iterable<readonly [name: string, value: string]>): string =>
  `{${Array.from(members, ([name, value]) => `${JSON.stringify(name)}: ${value}`).join(", ")}}`

/** Like `renderMembers`, but answers `before` unchanged, white space included, when it already has exactly these members. */
export const rewriteMembers = (members: ReadonlyMap<string, string>, before: string | undefined): string => {
  const old = before === undefined ? undefined : parseMembers(before)
  const same = old !== undefined && old.size === members.size &&
    Array.from(members).every(([name, value]) => old.get(name) === value)
  return same && before !== undefined ? before : renderMembers(members)
}
