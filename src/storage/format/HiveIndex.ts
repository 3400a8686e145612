/**
 * Hive's list of credentials, `metadata/index.json`: plain JSON, derived from the encrypted files.
 */
import type * as DateTime from "effect/DateTime"
import type { CredentialType } from "../../model/Credential.ts"
import { parseMembers, renderMembers } from "../../util/rawJson.ts"
import { formatTimestamp } from "../../util/Timestamp.ts"

/** The members of the index, and the entries by id, each as the text it was. */
export interface StorageIndex {
  readonly members: ReadonlyMap<string, string>
  readonly entries: ReadonlyMap<string, string>
}

export const emptyIndex: StorageIndex = { members: new Map(), entries: new Map() }

/** `undefined` when the text is no index. An entry that is no object is left out. */
export const decodeIndex = (text: string): StorageIndex | undefined => {
  const members = parseMembers(text)
  const entries = parseMembers(members?.get("credentials") ?? "")
  if (members === undefined || entries === undefined) return undefined
  for (const [id, entry] of entries) {
    if (!entry.startsWith("{")) entries.delete(id)
  }
  return { members, entries }
}

export const encodeIndex = (index: StorageIndex, now: DateTime.Utc): string =>
  renderMembers(
    new Map([
      ["credentials", "{}"],
      ["version", JSON.stringify("1.0")],
      ...index.members,
      ["credentials", renderMembers(index.entries)],
      ["last_modified", JSON.stringify(formatTimestamp(now))]
    ])
  )

/** The entry of a credential; fields of the one before that are not known here are kept. `updatedAt` is JSON text. */
export const indexEntry = (before: string | undefined, type: CredentialType, updatedAt: string): string =>
  renderMembers(
    new Map(parseMembers(before ?? "")).set("updated_at", updatedAt).set("type", JSON.stringify(type))
  )
