/**
 * What a usage report may contain. Reports leave the process and may be stored in a queue, so whatever looks like a secret is
 * removed.
 */
import type * as Schema from "effect/Schema"
import { printable } from "../util/sanitize.ts"
import { holdsSecretWord, isSecretName, mask } from "../util/secretWords.ts"

type Metadata = Readonly<Record<string, Schema.Json>>

/** Longer texts and deeper values are refused. */
const maximumLength = 1_000
const maximumDepth = 8

/** Reads a text without what is not seen, which would take a secret apart. */
const looksSecret = (text: string, name = ""): boolean => holdsSecretWord(printable(text), printable(name))

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
      const isRefused = value.length > maximumLength || looksSecret(value, path) || (isNamedSecret && value !== "")
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
          : plain(field, `${path}${name}`, isNamedSecret || isSecretName(printable(name)), depth)
        return kept === undefined ? [] : [[name, kept]]
      })
    )

  return { metadata: fields(metadata, "", false, 0), refused }
}
