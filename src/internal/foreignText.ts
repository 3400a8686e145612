/**
 * Text that came from outside and is about to be read by a person or stored under a name.
 */

/** The longest text from outside that reaches a person, in UTF-16 code units. */
const maximumLength = 500

// C0, DEL, C1; line and paragraph separators; bidirectional overrides and isolates, which reorder what a terminal shows;
// zero-width characters and the byte order mark, which hide in names.
const unprintable = new RegExp(
  "[\\u0000-\\u001f\\u007f-\\u009f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u2069\\ufeff]",
  "gu"
)

/** Removes control characters, and what hides or reorders text. */
export const printable = (text: string): string => text.replace(unprintable, "").toWellFormed()

/** Removes control characters and cuts at 500 code units, never inside a surrogate pair. */
export const cleanText = (text: string): string => {
  const clean = printable(text.slice(0, maximumLength * 4))
  if (clean.length <= maximumLength) return clean
  const last = clean.charCodeAt(maximumLength - 1)
  return clean.slice(0, last >= 0xd800 && last <= 0xdbff ? maximumLength - 1 : maximumLength)
}

/** Whether `text` holds a character that `cleanText` removes, or a lone surrogate. */
export const isClean = (text: string): boolean => text.search(unprintable) === -1 && text.isWellFormed()

/**
 * A server's message for a person: cleaned, without the secrets named, and without any word that looks like a token (24 or
 * more of the characters that tokens are made of, letters and digits mixed), in case the server repeats what it was sent.
 */
export const cleanMessage = (text: string, secrets: ReadonlyArray<string> = []): string => {
  let masked = text
  for (const secret of secrets) masked = masked.replaceAll(secret, "<redacted>")
  return cleanText(
    masked.replace(
      /[A-Za-z0-9_\-.+=~]{24,}/g,
      (word) => /[0-9]/.test(word) && /[A-Za-z]/.test(word) ? "<redacted>" : word
    )
  )
}
