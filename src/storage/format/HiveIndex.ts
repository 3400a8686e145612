/**
 * Hive's index of credentials, `metadata/index.json`: plain JSON without secrets, derived from the encrypted files. Written in
 * version 2.0, which Hive of today would otherwise rebuild when it starts; older versions of Hive read nothing but the ids.
 */
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Order from "effect/Order"
import * as Predicate from "effect/Predicate"
import type { Credential } from "../../model/Credential.ts"
import { parseJson, parseMembers, parseNestedMembers } from "../../util/rawJson.ts"
import { formatTimestamp, parseTimestamp } from "../../util/Timestamp.ts"

/** The unknown members of the index, and its entries by id, as JSON text. */
export interface HiveIndex {
  readonly version: unknown
  readonly members: ReadonlyMap<string, string>
  readonly entries: ReadonlyMap<string, string>
}

/** The version that is written. An index of another one is written again even where no entry has changed. */
export const indexVersion = "2.0"

/** Written for each index, or by older versions of Hive only, which write it again with each change. */
const derivedMembers = new Set(["credentials", "version", "store_path", "generated_at", "last_modified"])

export const emptyIndex: HiveIndex = { version: undefined, members: new Map(), entries: new Map() }

/** `undefined` when the text is not an index. An entry that is not an object is left out. */
export const decodeIndex = (text: string): HiveIndex | undefined => {
  const index = parseNestedMembers(text, "credentials")
  if (index === undefined) return undefined
  const { members, nested: entries } = index
  for (const [id, entry] of entries) {
    if (!entry.startsWith("{")) entries.delete(id)
    else if (entry.includes("\n")) entries.set(id, JSON.stringify(parseJson(entry)))
  }
  const version = parseJson(members.get("version") ?? "null")
  for (const name of derivedMembers) members.delete(name)
  return { version, members, entries }
}

/** An entry on each line, for people. */
export const encodeIndex = (
  { entries, members }: Pick<HiveIndex, "entries" | "members">,
  directory: string,
  now: DateTime.Utc
): string => {
  const lines = Array.from(entries, ([id, entry]) => `    ${JSON.stringify(id)}: ${entry}`)
  const others = Array.from(members, ([name, value]) => `  ${JSON.stringify(name)}: ${value},\n`)
  return `{
  "credentials": {${lines.length === 0 ? "" : `\n${lines.join(",\n")}\n  `}},
${others.join("")}  "version": ${JSON.stringify(indexVersion)},
  "store_path": ${JSON.stringify(directory)},
  "generated_at": ${JSON.stringify(formatTimestamp(now))}
}
`
}

/** A time of the document as text, where it has one. */
const timeOf = (members: ReadonlyMap<string, string>, name: string): string | null => {
  const value = parseJson(members.get(name) ?? "null")
  return typeof value === "string" ? value : null
}

const isInternal = (name: string): boolean =>
  name === "_alias" || name === "_integration_type" || name.startsWith("_identity_")

/** The entry of a credential that is stored as this document. */
export const indexEntry = (credential: Credential, document: ReadonlyMap<string, string>): string => {
  const { accountId, email, username, workspace } = credential.identity
  const expiries = Array.from(credential.keys.values()).flatMap(({ expiresAt }) =>
    expiresAt === undefined ? [] : [expiresAt]
  )
  return JSON.stringify({
    credential_type: credential.type,
    provider: credential.integrationType ?? null,
    alias: credential.alias ?? null,
    identity: { email, username, workspace, account_id: accountId },
    key_names: Array.from(credential.keys.keys()).filter((name) => !isInternal(name)).toSorted(Order.String),
    created_at: timeOf(document, "created_at"),
    updated_at: timeOf(document, "updated_at"),
    last_refreshed: timeOf(document, "last_refreshed"),
    expires_at: expiries.length === 0 ? null : formatTimestamp(expiries.reduce((a, b) => DateTime.min(a, b))),
    auto_refresh: credential.autoRefresh,
    tags: credential.tags
  })
}

/** The entry of a credential that is stored as the text of this document. */
export const indexEntryOf = (credential: Credential, document: string): string =>
  indexEntry(credential, parseMembers(document) ?? new Map())

/** Whether an entry has all that is written here. Those of older versions of Hive do not. */
export const isComplete = (entry: string): boolean => entry.includes("\"credential_type\":")

const writtenAt = (entry: string): number => {
  const fields = parseJson(entry)
  return Predicate.hasProperty(fields, "updated_at") && Predicate.isString(fields.updated_at)
    ? Option.match(parseTimestamp(fields.updated_at), { onNone: () => 0, onSome: (time) => time.epochMilliseconds })
    : 0
}

/** Of two entries of one credential, the one that was written later; the first, when both were at once. */
export const laterEntry = (one: string, other: string | undefined): string =>
  other === undefined || writtenAt(one) >= writtenAt(other) ? one : other
