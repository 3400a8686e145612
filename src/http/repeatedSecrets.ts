/**
 * Whether a URL that a server made holds a secret that it was sent. A server that repeats its own URL in a redirect seldom leaves
 * it as it was: it is decoded, encoded once more as a parameter of another URL, written into HTML or JSON, kept as base64 in `state`.
 */

/** The longest text that is looked at, with all that comes out of it by decoding, in characters. A usual URL takes a small part. */
const maximumDecoded = 2 * 1024 * 1024

/** So many letters and digits are no coincidence, whatever stands between them. */
const unmistakable = 12

/** A shorter one is no secret but a word that any URL may hold, such as "x" in place of a password. */
export const shortestSecret = 4

/** Whether texts hold one of these secrets, in any form; `undefined` where that cannot be told within reason. */
export const holdsSecret = (texts: ReadonlyArray<string>, secrets: ReadonlyArray<string>): boolean | undefined => {
  const decodedSecrets = decodings(secrets.flatMap(spellings), decoders)
  // a secret that is too short when it is decoded is looked for as it is
  const needles = Array.from(decodedSecrets.texts).filter(({ length }) => length >= shortestSecret)
  const plain = needles.map(withSpaces)
  const cores = needles.map(core).filter(({ length }) => length >= unmistakable)
  const { isComplete, isFound } = decodings(texts.flatMap(spellings), [...decoders, ...base64Decoders], (text) => {
    const spaced = withSpaces(text)
    const inner = core(text)
    return plain.some((needle) => spaced.includes(needle)) || cores.some((needle) => inner.includes(needle))
  })
  return isFound || (isComplete ? false : undefined)
}

/** Whether a percent sign begins no escape: readers differ in what they make of it. */
export const hasStrayPercent = (url: string): boolean => /%(?![0-9a-f]{2})/i.test(url)

// internal

/** Gives the texts that decoding comes to, each shorter than what it was given; none where there is nothing to decode. */
type Decoder = (text: string) => ReadonlyArray<string>

/** Texts, and everything that comes out of them by decoding, in any order and as often as it changes something. */
const decodings = (
  texts: ReadonlyArray<string>,
  decoders: ReadonlyArray<Decoder>,
  isWanted: (text: string) => boolean = () => false
) => {
  const found = new Set(texts)
  let left = maximumDecoded
  // the loop comes to what it adds, too
  for (const text of found) {
    if (isWanted(text)) return { texts: found, isComplete: true, isFound: true }
    left -= text.length
    if (left < 0) return { texts: found, isComplete: false, isFound: false }
    for (const decoder of decoders) for (const decoded of decoder(text)) found.add(decoded)
  }
  return { texts: found, isComplete: true, isFound: false }
}

const encoder = new TextEncoder()

/** Bytes, as a text with a character for each. Texts are compared so, because that is what servers encode. */
const utf8 = (text: string): string => Array.from(encoder.encode(text), (byte) => String.fromCharCode(byte)).join("")

/** A text as bytes of UTF-8; also as it is where that may be bytes already, or Latin-1. */
const spellings = (text: string): ReadonlyArray<string> =>
  /[\u0100-\uffff]/.test(text) ? [utf8(text)] : [text, utf8(text)]

const decoderOf =
  (pattern: RegExp, decode: (part: string, ...groups: ReadonlyArray<string>) => string): Decoder => (text) => {
    const decoded = text.replace(pattern, decode)
    return decoded === text ? [] : [decoded]
  }

const names: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: "\"", apos: "'" }

const characterOf = (code: number): string => code <= 0x10ffff ? utf8(String.fromCodePoint(code)) : ""

/** Each is applied by itself, and all in any order: what is an escape to one reader is plain text to another. */
const decoders: ReadonlyArray<Decoder> = [
  decoderOf(/%([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16))),
  decoderOf(/&#x([0-9a-f]{1,6});?/gi, (_, hex) => characterOf(Number.parseInt(hex, 16))),
  decoderOf(/&#([0-9]{1,7});?/g, (_, digits) => characterOf(Number(digits))),
  decoderOf(/&(amp|lt|gt|quot|apos);/gi, (_, name) => names[name.toLowerCase()] ?? ""),
  decoderOf(
    /(?:\\u[0-9a-f]{4})+/gi,
    (run) => utf8(run.replace(/\\u(....)/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16))))
  )
]

/** A path in front of base64 is made of the same signs, so that any of four places may be its beginning. */
const base64Decoders: ReadonlyArray<Decoder> = [0, 1, 2, 3].map((start) => (text) =>
  Array.from(text.matchAll(/[a-z0-9+/_ -]{16,}/gi), ([run]) => {
    const signs = run.replace(/[ -]/g, "+").replaceAll("_", "/").slice(start)
    return atob(signs.length % 4 === 1 ? signs.slice(0, -1) : signs)
  })
)

const withSpaces = (text: string): string => text.replaceAll("+", " ")

/** What each way of writing a text has in common: signs may be left out or replaced, and a host has no capitals. */
const core = (text: string): string => text.toLowerCase().replace(/[^a-z0-9\x80-\xff]/g, "")
