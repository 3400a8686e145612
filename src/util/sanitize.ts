/**
 * Makes text from outside safe to show to a person or to store as a name.
 */
import { mask, maskSecrets } from "./secretWords.ts"

/** The longest text from outside that is shown, in UTF-16 code units. */
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
export const cleanText = (text: string): string => cut(printable(text.slice(0, maximumLength * 4)))

/** A name as it may be shown to a person; `undefined` when nothing is left of it. */
export const shownName = (name: string | undefined): string | undefined =>
  name === undefined ? undefined : cleanText(name) || undefined

/** Whether a name is shown unchanged. The shown form of any other name may be another name, or nothing. */
export const isShown = (name: string | undefined): name is string => name !== undefined && cleanText(name) === name

/** Whether `text` holds a character that `cleanText` removes, or a lone surrogate. */
export const isClean = (text: string): boolean => text.search(unprintable) === -1 && text.isWellFormed()

/**
 * A server's message for a person: cleaned, with `secrets`, their prefixes and whatever else looks like a secret masked, in case
 * the server echoes what it was sent. Masks before it cuts, so that no part of a secret is left at the cut.
 */
export const cleanMessage = (text: string, secrets: ReadonlyArray<string> = []): string =>
  cut(maskSecrets(secrets.reduce(withoutSecret, printable(text))))

const cut = (text: string): string => {
  if (text.length <= maximumLength) return text
  const last = text.charCodeAt(maximumLength - 1)
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? maximumLength - 1 : maximumLength)
}

/** Servers quote the beginning of a key to say which one they mean, so its first 8 characters count as the key. */
const withoutSecret = (text: string, secret: string): string => {
  if (secret === "") return text
  const [before = "", ...others] = text.replaceAll(secret, mask).split(secret.slice(0, 8))
  return before + others.map((other) => other.replace(/^[A-Za-z0-9_\-.+=~/*]*/, mask)).join("")
}
