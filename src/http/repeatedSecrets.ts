/**
 * Whether a URL that a server made holds a secret that it was sent. A server that repeats its own URL in a redirect seldom leaves
 * it as it was: it is decoded, encoded once more as a parameter of another URL, written into HTML or JSON, kept as base64 in `state`.
 *
 * Escapes of all kinds and layers are read at once. At each place of a text there is the sign itself, and whatever an escape that
 * begins there stands for; the signs of an escape may be written as escapes in turn. A text holds a secret where the signs of the
 * secret can be read one after the other. So neither the order nor the number of the layers matters, and what is an escape to one
 * reader may be plain text to another. Base64 and hexadecimal digits have no sign to begin with: what they stand for is a text of
 * its own, which is looked at next.
 */

/** The most steps of a search. A usual URL takes a fifth of them, and all of them take some 15 ms. */
export const maximumSteps = 1_000_000

/** So many letters and digits are not a coincidence, whatever stands between them. */
const unmistakable = 12

/** A shorter one is not a secret but a word that any URL may hold, such as "x" in place of a password. */
export const shortestSecret = 4

/** Whether texts hold one of these secrets, in any form that is read here; `undefined` where that takes too many steps. */
export const holdsSecret = (texts: ReadonlyArray<string>, secrets: ReadonlyArray<string>): boolean | undefined =>
  searchForSecrets(texts, secrets).isFound

/** The same, with the number of steps that it took. */
export const searchForSecrets = (
  texts: ReadonlyArray<string>,
  secrets: ReadonlyArray<string>
): { readonly isFound: boolean | undefined; readonly steps: number } => {
  const counter: Counter = { left: maximumSteps }
  // a server may decode what was not encoded
  const written = new Set(secrets.flatMap((secret) => [secret, new Readings(secret, counter).decoded()]))
  const needles = needlesOf(Array.from(written))
  let text = Array.from(new Set(texts)).join(",")
  let isFound = false
  while (text !== "" && !isFound && counter.left > 0) {
    const readings = new Readings(text, counter)
    isFound = readings.holdAny(needles)
    text = counter.left > 0 ? unpacked(readings.decoded()) : ""
  }
  const isComplete = isFound || counter.left > 0
  return { isFound: isComplete ? isFound : undefined, steps: maximumSteps - counter.left }
}

/** Whether a percent sign begins no escape: readers differ in what they make of it. */
export const hasStrayPercent = (url: string): boolean => /%(?![0-9a-f]{2})/i.test(url)

// internal

/** How many steps are left. When none is, nothing more can be read at any place, so that every loop ends. */
interface Counter {
  left: number
}

// what takes longer counts for more
const stepsOfSign = 3
const stepsOfEscape = 20

// escapes

const codeOf = (character: string): number => character.codePointAt(0) ?? 0

/**
 * Reads the next sign of an escape: what the escape stands for if it ends there, and how it may go on. `undefined` where the sign
 * is not a part of it. A sign is the number of a character.
 */
type Escape = (sign: number) => { readonly stands?: number; readonly next?: Escape } | undefined

const digitOf = (sign: number, base: number): number | undefined => {
  const lower = sign | 0x20
  const digit = sign >= 0x30 && sign <= 0x39 ? sign - 0x30 : lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : base
  return digit < base ? digit : undefined
}

const hexDigits = (count: number, before = 0): Escape => (sign) => {
  const digit = digitOf(sign, 16)
  if (digit === undefined) return undefined
  const value = before * 16 + digit
  return count === 1 ? { stands: value } : { next: hexDigits(count - 1, value) }
}

const twoHexDigits = hexDigits(2)
const fourHexDigits = hexDigits(4)

const largest = 0x10ffff

/** As many digits as there are, and a semicolon that may be missing. */
const numberIn = (base: number, before = 0): Escape => (sign) => {
  if (sign === semicolon && before > 0) return { stands: before }
  const digit = digitOf(sign, base)
  const value = digit === undefined ? Infinity : before * base + digit
  return value <= largest ? { stands: value, next: numberIn(base, value) } : undefined
}

const semicolon = codeOf(";")

const names = new Map([["amp;", 0x26], ["lt;", 0x3c], ["gt;", 0x3e], ["quot;", 0x22], ["apos;", 0x27]])

const nameAfter = (before: string): Escape => (sign) => {
  const name = before + String.fromCodePoint(sign).toLowerCase()
  const stands = names.get(name)
  if (stands !== undefined) return { stands }
  return Array.from(names.keys()).some((other) => other.startsWith(name)) ? { next: nameAfter(name) } : undefined
}

/** `%41`, and `%u0041`. */
const afterPercent: Escape = (sign) => sign === codeOf("u") ? { next: fourHexDigits } : twoHexDigits(sign)

/** `&#65;`, `&#x41;` and `&amp;`. */
const afterAmpersand: Escape = (sign) =>
  sign === codeOf("#")
    ? { next: (sign) => (sign | 0x20) === codeOf("x") ? { next: numberIn(16) } : numberIn(10)(sign) }
    : nameAfter("")(sign)

const afterBackslash: Escape = (sign) => {
  if (sign === codeOf("u")) return { next: fourHexDigits }
  if (sign === codeOf("x")) return { next: twoHexDigits }
  const stands = controls.get(sign)
  return stands === undefined ? undefined : { stands }
}

/** After a backslash, in JSON and in texts of JavaScript. */
const controls = new Map(
  ["n\n", "t\t", "r\r", "b\b", "f\f", "\"\"", "''", "//", "\\\\"].map((pair) => [codeOf(pair), codeOf(pair.slice(1))])
)

/** Bytes of UTF-8 stand for one character. Where each was taken for a character and encoded again, that happens twice. */
const bytesAfter = (count: number, before: number): Escape => (sign) => {
  if (sign < 0x80 || sign > 0xbf) return undefined
  const value = before * 64 + (sign & 0x3f)
  if (value > largest) return undefined
  return count === 1 ? { stands: value } : { next: bytesAfter(count - 1, value) }
}

/** JavaScript writes a large character as two. */
const halfAfter = (first: number): Escape => (sign) =>
  sign < 0xdc00 || sign > 0xdfff ? undefined : { stands: 0x10000 + (first - 0xd800) * 0x400 + (sign - 0xdc00) }

/** The escape that a sign begins. */
const escapeAfter = (sign: number): Escape | undefined => {
  if (sign === 0x25) return afterPercent
  if (sign === 0x26) return afterAmpersand
  if (sign === 0x5c) return afterBackslash
  if (sign < 0xc2) return undefined
  if (sign < 0xe0) return bytesAfter(1, sign & 0x1f)
  if (sign < 0xf0) return bytesAfter(2, sign & 0x0f)
  if (sign < 0xf5) return bytesAfter(3, sign & 0x07)
  return sign >= 0xd800 && sign < 0xdc00 ? halfAfter(sign) : undefined
}

// readings

/** A sign that can be read at a place, and the place after it. */
interface Reading {
  readonly sign: number
  readonly end: number
}

/** All that a text can be read as. */
class Readings {
  readonly #text: string
  readonly #counter: Counter
  /** By place, where an escape begins. */
  readonly #escaped: Array<ReadonlyArray<Reading> | undefined>

  constructor(text: string, counter: Counter) {
    this.#text = text
    this.#counter = counter
    this.#escaped = Array.from({ length: text.length })
    counter.left -= stepsOfSign * text.length
    // from the end, because an escape may be made of escapes behind it
    for (let place = text.length - 2; place >= 0 && counter.left > 0; place--) {
      const escape = escapeAfter(text.charCodeAt(place))
      const mayGoOn = this.#escaped[place + 1] !== undefined || escape?.(text.charCodeAt(place + 1)) !== undefined
      if (escape === undefined || !mayGoOn) continue
      const readings = this.#readingsAt(place)
      if (readings.length > 1) this.#escaped[place] = readings
    }
  }

  #readingsAt(place: number): ReadonlyArray<Reading> {
    this.#counter.left -= stepsOfEscape
    const readings: Array<Reading> = [{ sign: this.#text.charCodeAt(place), end: place + 1 }]
    const known = new Set<number>()
    const add = (sign: number, end: number) => {
      const both = end * (largest + 1) + sign
      if (known.has(both)) return
      known.add(both)
      readings.push({ sign, end })
    }
    // the loops come to what they add: an escape may stand for a sign that begins another
    for (const { end, sign } of readings) {
      const escape = escapeAfter(sign)
      const begun = escape === undefined ? [] : [{ escape, place: end }]
      for (const { escape, place } of begun) {
        this.#forEach(place, (sign, end) => {
          const read = escape(sign)
          if (read?.stands !== undefined) add(read.stands, end)
          if (read?.next !== undefined) begun.push({ escape: read.next, place: end })
        })
      }
    }
    return readings
  }

  #forEach(place: number, use: (sign: number, end: number) => void): void {
    if (place >= this.#text.length || this.#counter.left <= 0) return
    const readings = this.#escaped[place]
    this.#counter.left -= stepsOfSign * (readings?.length ?? 1)
    if (readings === undefined) use(this.#text.charCodeAt(place), place + 1)
    else for (const { end, sign } of readings) use(sign, end)
  }

  /** Adds to `ends` where a sign that can be read at this place ends, if it is the one that is wanted. */
  #read(place: number, fold: Needle["fold"], wanted: number | undefined, ends: Set<number>): void {
    this.#forEach(place, (sign, end) => {
      if (fold(sign) === wanted) ends.add(end)
    })
  }

  /** Whether the signs of a needle can be read one after the other. */
  holdAny({ mayBegin, needles }: Needles): boolean {
    const places: Array<number> = []
    for (let place = 0; place < this.#text.length; place++) {
      if (this.#escaped[place] !== undefined || mayBegin[this.#text.charCodeAt(place)] !== false) places.push(place)
    }
    return needles.some(({ fold, signs }) => {
      let before = new Set<number>()
      for (const place of places) this.#read(place, fold, signs[0], before)
      for (const wanted of signs.slice(1)) {
        const after = new Set<number>()
        // the loop comes to what it adds: signs that may stand between
        for (const place of before) {
          this.#read(place, fold, undefined, before)
          this.#read(place, fold, wanted, after)
        }
        if (after.size === 0) return false
        before = after
      }
      return before.size > 0
    })
  }

  /** The text without any escape. */
  decoded(): string {
    let decoded = ""
    let from = 0
    for (let place = 0; place < this.#text.length; place++) {
      const readings = this.#escaped[place]
      if (readings === undefined) continue
      // of two that are as long, the one that is not a control character: a letter that was escaped is seldom a letter of an escape
      const longest = readings.reduce((longest, reading) =>
        reading.end > longest.end || (reading.end === longest.end && reading.sign > longest.sign) ? reading : longest
      )
      decoded += this.#text.slice(from, place) + String.fromCodePoint(longest.sign)
      from = longest.end
      place = from - 1
    }
    return decoded + this.#text.slice(from)
  }
}

// secrets

/** Signs to be read one after the other. */
interface Needle {
  readonly signs: ReadonlyArray<number>
  /** The sign as it is compared; `undefined` where it may stand between any two. */
  readonly fold: (sign: number) => number | undefined
}

interface Needles {
  readonly needles: ReadonlyArray<Needle>
  /** Whether one begins with this sign, for the first signs there are: most places of a text are passed by it. */
  readonly mayBegin: ReadonlyArray<boolean>
}

const needlesOf = (secrets: ReadonlyArray<string>): Needles => {
  const needles = secrets.flatMap((secret) =>
    [{ fold: withSpaces, shortest: shortestSecret }, { fold: core, shortest: unmistakable }].flatMap(
      ({ fold, shortest }) => {
        const signs = Array.from(secret, codeOf).map(fold).filter((sign) => sign !== undefined)
        return signs.length < shortest ? [] : [{ fold, signs }]
      }
    )
  )
  return {
    needles,
    mayBegin: Array.from({ length: 256 }, (_, sign) => needles.some(({ fold, signs }) => fold(sign) === signs[0]))
  }
}

const withSpaces = (sign: number): number => sign === 0x2b ? 0x20 : sign

/** What each way of writing a text has in common: signs may be left out or replaced, and a host has no capitals. */
const core = (sign: number): number | undefined => {
  const lower = sign >= 0x41 && sign <= 0x5a ? sign + 0x20 : sign
  return lower >= 0x80 || (lower >= 0x61 && lower <= 0x7a) || (lower >= 0x30 && lower <= 0x39) ? lower : undefined
}

// texts in texts

// those of the shortest secret are long enough
const hexRun = new RegExp(`[0-9a-f]{${shortestSecret * 2},}`, "gi")
const base64Run = new RegExp(`[a-z0-9+/_\\s-]{${Math.ceil(shortestSecret * 8 / 6)},}`, "gi")

/** All that base64 and hexadecimal digits in a text stand for. */
const unpacked = (text: string): string =>
  [
    ...Array.from(new Set(text.match(hexRun))).flatMap(ofHex),
    ...Array.from(new Set(text.match(base64Run))).flatMap(ofBase64)
  ].join(",")

/** The first digit may belong to the text in front. */
const ofHex = (run: string): ReadonlyArray<string> =>
  [run, run.slice(1)].map((digits) => digits.replace(/../g, (pair) => String.fromCharCode(Number.parseInt(pair, 16))))

/**
 * Base64 may be broken by white space, or by slashes into segments of a path; but a slash, and a space for a plus, may also be a
 * sign of it. A path in front is made of the same signs, so that any of four places may be the beginning.
 */
const ofBase64 = (run: string): ReadonlyArray<string> => {
  const whole = run.replaceAll(" ", "+").replace(/\s/g, "")
  const unbroken = [whole, whole.replaceAll("+", "")].flatMap((signs) => [signs, signs.replaceAll("/", "")])
  return Array.from(new Set(unbroken)).flatMap((signs) =>
    [0, 1, 2, 3].map((start) => {
      const rest = signs.slice(start).replaceAll("-", "+").replaceAll("_", "/")
      return atob(rest.length % 4 === 1 ? rest.slice(0, -1) : rest)
    })
  )
}
