/**
 * Hive's index of credentials, `metadata/index.json`: plain JSON, derived from the encrypted files.
 */
import type * as DateTime from "effect/DateTime"
import type { CredentialType } from "../../model/Credential.ts"
import { parseMembers, renderMembers } from "../../util/rawJson.ts"
import { formatTimestamp } from "../../util/Timestamp.ts"

/** The members of the index, and its entries by id, as JSON text. */
export interface HiveIndex {
  readonly members: ReadonlyMap<string, string>
  readonly entries: ReadonlyMap<string, string>
}

export const emptyIndex: HiveIndex = { members: new Map(), entries: new Map() }

/** `undefined` when the text is not an index. An entry that is not an object is left out. */
export const decodeIndex = (text: string): HiveIndex | undefined => {
  const members = parseMembers(text)
  const entries = parseMembers(members?.get("credentials") ?? "")
  if (members === undefined || entries === undefined) return undefined
  for (const [id, entry] of entries) {
    if (!entry.startsWith("{")) entries.delete(id)
  }
  return { members, entries }
}

export const encodeIndex = (index: HiveIndex, now: DateTime.Utc): string =>
  renderMembers(
    new Map([
      ["credentials", "{}"],
      ["version", JSON.stringify("1.0")],
      ...index.members,
      ["credentials", renderMembers(index.entries)],
      ["last_modified", JSON.stringify(formatTimestamp(now))]
    ])
  )

/** The entry of a credential. Unknown fields of the entry before are kept. `updatedAt` is JSON text. */
export const indexEntry = (before: string | undefined, type: CredentialType, updatedAt: string): string =>
  renderMembers(
    new Map(parseMembers(before ?? "")).set("updated_at", updatedAt).set("type", JSON.stringify(type))
  )
