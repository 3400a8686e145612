/**
 * JSON objects as a map from member names to the JSON text of the values, so that a member that is not understood is written
 * back byte for byte: `1.0` stays `1.0`, and an integer over 2^53 keeps all its digits.
 */

const isSpace = (text: string, at: number): boolean => {
  const code = text.charCodeAt(at)
  return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09
}

const skipSpace = (text: string, at: number): number => {
  while (isSpace(text, at)) at++
  return at
}

/** The index after the string that begins at `at`. */
const endOfString = (text: string, at: number): number => {
  let quote = text.indexOf("\"", at + 1)
  for (;;) {
    let backslash = quote
    while (text[backslash - 1] === "\\") backslash--
    if ((quote - backslash) % 2 === 0) return quote + 1
    quote = text.indexOf("\"", quote + 1)
  }
}

/** The index after the value that begins at `at`. Not recursive, so that deep nesting cannot overflow the stack. */
const endOfValue = (text: string, at: number): number => {
  let depth = 0
  do {
    switch (text[at]) {
      case "\"":
        at = endOfString(text, at)
        break
      case "{":
      case "[":
        depth++
        at++
        break
      case "}":
      case "]":
        depth--
        at++
        break
      default:
        // a number, a literal, or the separators inside an object or array
        at++
        while (at < text.length && !"\"{}[],".includes(text.charAt(at))) at++
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

/**
 * The members of a JSON object: name to the JSON text of the value. Of several members of one name the last counts. `undefined`
 * when the text is not JSON or not an object.
 */
export const parseMembers = (text: string): Map<string, string> | undefined => {
  if (parseJson(text) === undefined) return undefined
  let at = skipSpace(text, 0)
  if (text[at] !== "{") return undefined
  const members = new Map<string, string>()
  at = skipSpace(text, at + 1)
  while (text[at] !== "}") {
    const nameEnd = endOfString(text, at)
    const name = parseJson(text.slice(at, nameEnd))
    const start = skipSpace(text, skipSpace(text, nameEnd) + 1)
    const end = endOfValue(text, start)
    if (typeof name === "string") members.set(name, text.slice(start, end).trimEnd())
    at = skipSpace(text, end)
    if (text[at] === ",") at = skipSpace(text, at + 1)
  }
  return members
}

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
