/**
 * Finds the secrets in a text of unknown origin: words that begin as a provider's tokens do, words that are random, and what a name
 * or a scheme in front of it calls a secret. Each character is looked at a fixed number of times at most.
 *
 * A word is random where letters follow one another as they seldom do in English and in the names of programs, and where small
 * letters, capitals and digits alternate. Each pair of characters adds to a sum or takes from it, and the sum never falls below
 * zero. A stretch in which it grows large enough is a secret, wherever in a path or a URL it stands.
 */

import * as Arr from "effect/Array"

export const mask = "<redacted>"

/** The text with a mask in place of each secret. */
export const maskSecrets = (text: string): string => {
  let masked = ""
  let from = 0
  for (const { end, start } of secretsIn(text)) {
    masked += text.slice(from, start) + mask
    from = end
  }
  return masked + text.slice(from)
}

/** Whether a text holds a secret. `name` is that of the field with the text, if it has one. */
export const holdsSecretWord = (text: string, name = ""): boolean => secretsIn(text, name).length > 0

/** Whether a word begins as the tokens of a provider do, so that it is nothing else. */
export const isKnownToken = (word: string): boolean => knownToken(word)?.start === 0

/** Whether the name of a field, a parameter or a header says that its text is a secret. */
export const isSecretName = (name: string): boolean =>
  /authorization|passw|passphrase|pwd|secret|cookie|jwt|(?:tokens?|credentials|signature|\bsig|(?:api|access|account|private)[-_ ]?key)$/i
    .test(name)

// internal

interface Span {
  readonly start: number
  readonly end: number
}

/** The secrets of a text, in order, none inside or beside another. */
const secretsIn = (text: string, name = ""): ReadonlyArray<Span> => {
  const spans: Array<{ start: number; end: number }> = []
  const all = [...privateKeys(text), ...userInfos(text), ...secretWords(text, name)]
  for (const { end, start } of all.toSorted((a, b) => a.start - b.start)) {
    const last = spans.at(-1)
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, end)
    else spans.push({ start, end })
  }
  return spans
}

const firstLine = "-----BEGIN"
const lastLine = "-----END"

/** Keys from their first line to their last one, or where that was cut off, to the end. */
const privateKeys = (text: string): ReadonlyArray<Span> => {
  const spans: Array<Span> = []
  for (let start = text.indexOf(firstLine); start !== -1; start = text.indexOf(firstLine, start)) {
    const last = text.indexOf(lastLine, start)
    const dashes = last === -1 ? -1 : text.indexOf("-----", last + lastLine.length)
    const end = dashes === -1 ? text.length : dashes + 5
    spans.push({ start, end })
    start = end
  }
  return spans
}

/** User name and password in URLs. */
const userInfos = (text: string): ReadonlyArray<Span> =>
  Array.from(text.matchAll(/(?<=:\/\/)[^/?#\s"'<>]+(?=@)/g), spanOf)

const spanOf = (match: RegExpExecArray): Span => ({ start: match.index, end: match.index + match[0].length })

const secretWords = (text: string, name: string): ReadonlyArray<Span> =>
  Array.from(text.matchAll(/[A-Za-z0-9_+/.~%-]+(?:={1,2}(?![A-Za-z0-9]))?/g)).flatMap(({ 0: word, index }) => {
    if (word.length < shortest) return []
    const before = text.slice(Math.max(0, index - longestName), index)
    return secretsOf(word, announced(before, name)).map(({ end, start }) => ({
      start: index + start,
      end: index + end
    }))
  })

/** The shortest word that is looked at. */
const shortest = 8

// what stands in front

const longestName = 40

type Announced = "secret" | "token" | "id" | undefined

/** What the text in front of a word, or the name of its field, says that the word is. */
const announced = (before: string, name: string): Announced => {
  const [, label = name, sign = ":"] = /([A-Za-z][\w -]*?)["'\\]*\s*([:=]?)\s*["'\\([]*$/.exec(before) ?? []
  if (/\b(?:bearer|basic)\s+$/i.test(before)) return "token"
  if (idName.test(label)) return "id"
  return sign !== "" && isSecretName(label) ? "secret" : undefined
}

const idName = /(?:request|req|trace|span|correlation|operation|event|message)[-_ ]?id$|traceparent$/i

/** An id has no more than 16 bytes as hexadecimal digits, or 32 letters and digits. */
const isId = (word: string): boolean => /^(?:[A-Za-z0-9]{1,32}(?:[_.-]|$)){1,5}$/.test(word)

// words

const uuid = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/gi

const secretsOf = (word: string, as: Announced): ReadonlyArray<Span> => {
  const known = knownToken(word)
  if (known !== undefined) return [known]
  if (as === "id" && isId(word)) return []
  if (as === "secret" || as === "token" || airtableKey.test(word)) {
    const isSecret = word.search(uuid) !== -1 || stretches(word, likely).length > 0 ||
      (as === "token" && word.length >= 16)
    return isSecret ? [{ start: 0, end: word.length }] : []
  }
  const withoutUuids = word.replace(uuid, (id) => " ".repeat(id.length))
  return [...hexDigits(withoutUuids), ...randomParts(withoutUuids)].filter(({ end, start }) =>
    !isText(word.slice(start, end))
  )
}

/** Too short to be random beyond doubt. */
const airtableKey = /^key[A-Za-z0-9]{14}$/

/** How tokens of providers begin. Those that other names may begin with too are left out: what follows there is random. */
const prefixes = Arr.groupBy(
  [
    "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- gldt- glrt- xoxb- xoxp- xoxa- xoxr- xoxs- xoxe- xoxe. xapp-",
    "sk_live_ sk_test_ rk_live_ rk_test_ whsec_ sk-ant- sk-proj- sk-svcacct- ya29. 1// AIza GOCSPX- AKIA ASIA",
    "pat-na1- pat-na2- pat-na3- pat-eu1- pat-ap1- access-sandbox- access-development- access-production-",
    "HRKU- shpat_ shpca_ shppa_ shpss_ sq0atp- sq0csp- ATATT3 ATCTT3 dop_v1_ doo_v1_ dor_v1_ hvs. hvb. hvr.",
    "lin_api_ figd_ sbp_ sb_secret_ pypi- dckr_pat_ glsa_ NRAK- gsk_ ntn_ SG. eyJ gAAAA aden_sk_"
  ].join(" ").split(" "),
  (prefix) => prefix.slice(0, 1)
)

const shortestToken = 6

/** A token from its beginning on. What goes on behind it belongs to it, or is not missed. */
const knownToken = (word: string): Span | undefined => {
  for (const { 0: first, index } of word.matchAll(/(?<![A-Za-z0-9])[A-Za-z0-9]/g)) {
    const prefix = prefixes[first]?.find((prefix) => word.startsWith(prefix, index))
    if (prefix !== undefined && word.length - index - prefix.length >= shortestToken) {
      return { start: index, end: word.length }
    }
  }
  return undefined
}

/** 20 digits or more with letters among them: the id of a span has 16. */
const hexDigits = (word: string): ReadonlyArray<Span> =>
  Array.from(word.matchAll(/[0-9a-f]{20,}|[0-9A-F]{20,}/g))
    .filter(({ 0: digits }) => /[a-f]/i.test(digits) && /[0-9]/.test(digits))
    .map(spanOf)

/** Base64 of plain text, such as the id of an integration, is judged by that text. */
const isText = (word: string): boolean => {
  const base64 = word.replace(/=+$/, "").replaceAll("-", "+").replaceAll("_", "/")
  if (!/^[A-Za-z0-9+/]+$/.test(base64) || base64.length % 4 === 1) return false
  const text = atob(base64)
  return /^[ -~]+$/.test(text) && !holdsSecretWord(text)
}

/**
 * The parts of a path, or of a name with dots, that a random stretch reaches into. Base64 has slashes too: a part that is less
 * random belongs to the one beside it.
 */
const randomParts = (word: string): ReadonlyArray<Span> => {
  const certainly = stretches(word, certain)
  if (certainly.length === 0) return []
  const groups: Array<{ start: number; end: number; isSecret: boolean }> = []
  let next = 0
  for (const { end, start } of Array.from(word.matchAll(/[^/.]+/g), spanOf)) {
    while ((certainly[next]?.end ?? Infinity) <= start) next++
    const isSecret = (certainly[next]?.start ?? Infinity) < end
    if (!isSecret && stretches(word.slice(start, end), likely).length === 0) continue
    const last = groups.at(-1)
    if (last?.end === start - 1 && word[last.end] === "/") {
      last.end = end
      last.isSecret ||= isSecret
    } else {
      groups.push({ start, end, isSecret })
    }
  }
  return groups.filter(({ isSecret }) => isSecret)
}

// randomness, in half bits

/** No English and no name of a program adds up to this, but for one in some thousands. */
const certain = 34

/** Enough where something else speaks for a secret. */
const likely = 20

/**
 * How rare it is that one letter follows another, in English and in names of programs, compared with any letter: a row for the letter in
 * front, a column for the one behind, "i" for neither rare nor frequent, and each letter from there on another half bit.
 */
const rarity = [
  "rhghrnjuitmfifvitfhdklnpkr",
  "fplneqqsfkqdprfoshhlgtssjt",
  "frjqevtfiuhhqtdpohleituwnw",
  "gppibomqdosjoogntjgphottmu",
  "hogfkjlqorsiifpjleehokninw",
  "frooegqsctthqnetshkjhttsjt",
  "hqnscpihfrrjlhhpsfhlhpssnp",
  "dotrcqsrftpqkoerohmhitttms",
  "jlhiijjxutqhicfksjgftjxnxk",
  "gnnncnnnlnjnnnfklmdmhnknnn",
  "kmmkbknpeqpmpholqpfljpmqnq",
  "fnpidmpsewpfpufnwqiiimrwhw",
  "dhppctsufsrnjpgeutjqitusot",
  "hrgfflerisllpkhntqfeklqxnu",
  "mlihokktlqlhgdjhxeiihjippt",
  "frnmerpkhvpfqrfhsejgiputnv",
  "ononoooonoofoomoolonammooo",
  "fqkjcnlufxlmjkfnwighjlptjx",
  "ishrdlrhfummonhhopgdgroskw",
  "fukodorgdwxmqrgnxggjjxopiu",
  "ihhlglkvivtgheohvfffrsuquu",
  "dsosbrqsdssroshrsrnoqsrsss",
  "eppoenoferplrffqqghnrrmprr",
  "gqgofnqlfqqqlnndqondqqqolq",
  "klklfnppfqqihfhdqmfipqkqnn",
  "emnnbnnnfnnknngnnnknmnmnjm"
]

const neither = "i".charCodeAt(0)

type Kind = "small" | "capital" | "digit" | "joint" | "border" | "outside"

const kindOf = (code: number): Kind => {
  if (code >= 0x61 && code <= 0x7a) return "small"
  if (code >= 0x41 && code <= 0x5a) return "capital"
  if (code >= 0x30 && code <= 0x39) return "digit"
  // what was taken out
  if (code === 0x20) return "outside"
  return "joint"
}

/** What a character adds to the sum by following another. `run` is how many of the same kind end with the one in front. */
const surprise = (before: number, code: number, run: number): number => {
  const [kindBefore, kind] = [kindOf(before), kindOf(code)]
  if (kindBefore === "outside" || kind === "outside") return -Infinity
  if (kindBefore === "joint" || kind === "joint" || before === code) return -1
  if (kindBefore === "digit" && kind === "digit") return 0
  if (kindBefore === "digit" || kind === "digit") return run > 2 ? 3 : 5
  if (kindBefore === "small" && kind === "capital") return run > 2 ? 0 : 6
  return (rarity[(before | 0x20) - 0x61]?.charCodeAt((code | 0x20) - 0x61) ?? neither) - neither
}

/** The stretches of a word in which the sum reaches `enough`. */
const stretches = (word: string, enough: number): ReadonlyArray<Span> => {
  const spans: Array<Span> = []
  let sum = 0
  let start = 0
  let most = 0
  let end = 0
  let run = 0
  const finish = () => {
    if (most >= enough) spans.push({ start, end })
  }
  for (let place = 1; place < word.length; place++) {
    const before = word.charCodeAt(place - 1)
    run = place > 1 && kindOf(word.charCodeAt(place - 2)) === kindOf(before) ? run + 1 : 1
    sum += surprise(before, word.charCodeAt(place), run)
    if (sum <= 0 || sum < most - certain) {
      finish()
      sum = most = 0
      start = place
    } else if (sum > most) {
      most = sum
      end = place + 1
    }
  }
  finish()
  return spans
}
