/**
 * Makes text from outside safe to show to a person or to store as a name.
 */
import { mask, maskSecrets } from "./secretWords.ts"

/** The longest text from outside that is shown, in UTF-16 code units. */
const maximumLength = 500

/** A sign that is text by itself, and an emoji before U+FE0F. */
const textByDefault = "[[\\p{Emoji}&&\\p{Extended_Pictographic}]--\\p{Emoji_Presentation}]"

// Control characters; separators of lines and paragraphs; marks of annotations; and what fonts draw nothing for, which hides in names
// and reorders what a terminal shows. Two of the latter stay where they change what a person sees: U+FE0F after a sign that is an
// emoji only with it, or in a keycap, and U+200D, which joins two emoji.
const unprintable = new RegExp(
  [
    "[\\p{Cc}\\u2028\\u2029\\ufff9-\\ufffb]",
    "[\\p{Default_Ignorable_Code_Point}--[\\u200d\\ufe0f]]",
    `\\ufe0f(?<!${textByDefault}\\ufe0f)(?!(?<=[0-9#*]\\ufe0f)\\u20e3)`,
    "\\u200d(?!(?<=\\p{Extended_Pictographic}[\\ufe0f\\p{Emoji_Modifier}]?\\u200d)\\p{Extended_Pictographic})"
  ].join("|"),
  "gv"
)

/** Removes control characters, and what is not seen or reorders text. */
export const printable = (text: string): string => text.replace(unprintable, "").toWellFormed()

/** Removes what `printable` does, and cuts at 500 code units, never inside a surrogate pair. */
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
  // what joined it to the sign behind the cut joins nothing now
  return printable(text.slice(0, last >= 0xd800 && last <= 0xdbff ? maximumLength - 1 : maximumLength))
}

/** Servers quote the beginning of a key to say which one they mean, so its first 8 characters count as the key. */
const withoutSecret = (text: string, secret: string): string => {
  if (secret === "") return text
  const [before = "", ...others] = text.replaceAll(secret, mask).split(secret.slice(0, 8))
  return before + others.map((other) => other.replace(/^[A-Za-z0-9_\-.+=~/*]*/, mask)).join("")
}
