/**
 * What a usage report may contain. Reports leave the process and may be stored in a queue, so whatever looks like a secret is
 * removed.
 */
import type * as Schema from "effect/Schema"

type Metadata = Readonly<Record<string, Schema.Json>>

/** Longer texts and deeper values are refused. */
const maximumLength = 1_000
const maximumDepth = 8

const mask = "<redacted>"

/** Names whose texts are secrets, at any depth and whatever they look like. Numbers are not secrets: `tokens: 512` is a count. */
const secretName =
  /authorization|passw|passphrase|pwd|secret|cookie|jwt|(?:tokens?|credentials|signature|(?:api|access|private)[-_ ]?key)$/i

/** Prefixes of tokens, schemes of `Authorization`, private keys, and user info in a URL. */
const secretMark = new RegExp(
  [
    String
      .raw`\b(?:gh[a-z]_|github_pat_|glpat-|xox[a-z]-|xapp-|sk_(?:live|test)_|sk-(?:ant|proj)-|ya29\.|1//|eyJ|gAAAA)[\w-]{6}`,
    // HubSpot and Plaid: a UUID follows, which by itself would not look like a secret
    String.raw`\b(?:pat-[a-z]{2}\d-|access-(?:sandbox|development|production)-)[\w-]{6}`,
    String.raw`\b(?:[Bb]earer|[Bb]asic)\s+[\w.~+/=-]{8}`,
    String.raw`-----BEGIN`,
    String.raw`://[^/?#\s]*@`
  ].join("|")
)

const uuid = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
const hasDigit = /[0-9]/
const hasLetter = /[A-Za-z]/

/** Random text: 16 letters and digits on end with both among them, or 32 characters of base64 with capitals. */
const looksRandom = (text: string): boolean =>
  (text.match(/[A-Za-z0-9_+=-]+/g) ?? []).some((word) =>
    !uuid.test(word) && (
      word.length >= 32 && hasDigit.test(word) && /[A-Z]/.test(word) && /[a-z]/.test(word) ||
      (word.match(/[A-Za-z0-9]{16,}/g) ?? []).some((run) => hasDigit.test(run) && hasLetter.test(run))
    )
  )

const looksSecret = (text: string): boolean => secretMark.test(text) || looksRandom(text)

/** An operation or a status, masked as a whole if it looks like a secret. */
export const plainText = (text: string): string =>
  looksSecret(text) ? mask : text.slice(0, maximumLength).toWellFormed()

const isList = (value: Schema.Json): value is ReadonlyArray<Schema.Json> => Array.isArray(value)

/** The metadata without what looks like a secret, and the names of what was left out. */
export const plainMetadata = (
  metadata: Metadata
): { readonly metadata: Metadata; readonly refused: ReadonlyArray<string> } => {
  const refused: Array<string> = []

  const plain = (value: Schema.Json, path: string, isNamedSecret: boolean, depth: number): Schema.Json | undefined => {
    if (typeof value === "string") {
      const isRefused = value.length > maximumLength || looksSecret(value) || (isNamedSecret && value !== "")
      if (!isRefused) return value.toWellFormed()
    } else if (typeof value === "number" || typeof value === "boolean" || value === null) {
      return value
    } else if (depth < maximumDepth) {
      return isList(value)
        ? value.map((item, index) => plain(item, `${path}[${index}]`, isNamedSecret, depth + 1) ?? null)
        : fields(value, `${path}.`, isNamedSecret, depth + 1)
    }
    refused.push(path)
    return undefined
  }

  const fields = (value: Metadata, path: string, isNamedSecret: boolean, depth: number): Metadata =>
    Object.fromEntries(
      Object.entries(value).flatMap(([name, field]): ReadonlyArray<readonly [string, Schema.Json]> => {
        if (field === undefined) return []
        const isSecret = name.length > maximumLength || looksSecret(name)
        if (isSecret) refused.push(`${path}${mask}`)
        const kept = isSecret
          ? undefined
          : plain(field, `${path}${name}`, isNamedSecret || secretName.test(name), depth)
        return kept === undefined ? [] : [[name, kept]]
      })
    )

  return { metadata: fields(metadata, "", false, 0), refused }
}
