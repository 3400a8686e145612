/**
 * Keeps Hive's index in step with the encrypted files. The files are the truth: index entries without a file are removed, files
 * without an entry are decrypted and added, and a lost or broken index is rebuilt.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Buffer } from "node:buffer"
import type { CredentialType } from "../../model/Credential.ts"
import { formatTimestamp } from "../../util/Timestamp.ts"
import { decodeIndex, emptyIndex, encodeIndex, indexEntry } from "../format/HiveIndex.ts"
import type { HiveIndex } from "../format/HiveIndex.ts"
import { canBePlain, escapedName, plainName } from "../format/names.ts"
import type { CredentialFiles } from "./CredentialFiles.ts"
import type { PrivateFiles } from "./PrivateFiles.ts"

const maximumBytes = 64 * 1024 * 1024

export const makeIndexFile = (files: PrivateFiles, file: string, credentials: CredentialFiles) => {
  const decode = (bytes: Uint8Array): HiveIndex | undefined => decodeIndex(Buffer.from(bytes).toString("utf8"))

  /** The current index; an empty one when it is lost or broken. */
  const read = files.rereadTorn(file)(
    files.read(file, maximumBytes).pipe(
      Effect.map(Option.match({ onNone: () => emptyIndex, onSome: decode })),
      Effect.catchTag("FileTooLarge", () => Effect.succeed(undefined))
    ),
    (index) => index === undefined
  ).pipe(Effect.map((index) => index ?? emptyIndex))

  /** The candidate ids in the index for each of these files, whose id is not known otherwise. */
  const claimants = (index: HiveIndex, names: ReadonlyArray<string>): Map<string, Array<string>> => {
    const claims = new Map<string, Array<string>>(names.map((name) => [name, []]))
    if (claims.size === 0) return claims
    for (const id of index.entries.keys()) {
      claims.get(plainName(id))?.push(id)
      claims.get(escapedName(id))?.push(id)
    }
    return claims
  }

  const identify = (names: ReadonlyArray<string>) =>
    Effect.forEach(
      names,
      (name) => Effect.map(credentials.identify(name), (id) => ({ name, id })),
      { concurrency: 16 }
    )

  type Identified = Effect.Success<ReturnType<typeof identify>>

  /** The ids of each file: the one that the file tells, else the candidates in the index. */
  const owners = (identified: Identified, index: HiveIndex) => {
    const claims = claimants(index, identified.flatMap(({ id, name }) => id === undefined ? [name] : []))
    return identified.map(({ id, name }) => ({ name, ids: id === undefined ? claims.get(name) ?? [] : [id] }))
  }

  /** Updates the index; `saved` are the credentials that were saved since. Writes nothing when `check` fails. */
  const update = Effect.fnUntraced(function*<E>(
    saved: ReadonlyMap<string, CredentialType>,
    check: Effect.Effect<void, E>
  ) {
    const index = yield* read
    const now = yield* DateTime.now
    const nowText = JSON.stringify(formatTimestamp(now))
    const entries = new Map<string, string>()
    for (const { ids, name } of owners(yield* identify(yield* credentials.names), index)) {
      for (const id of ids) {
        const before = index.entries.get(id)
        const type = saved.get(id)
        if (type !== undefined) entries.set(id, indexEntry(before, type, nowText))
        else if (before !== undefined) entries.set(id, before)
        else {
          const stored = yield* credentials.openOwned(name)
          if (stored === undefined) continue
          entries.set(id, indexEntry(undefined, stored.credential.type, stored.members.get("updated_at") ?? nowText))
        }
      }
    }
    yield* files.write(file, Buffer.from(encodeIndex({ members: index.members, entries }, now)), check)
  })

  /** Whether the index has an entry for this id, with or without a file. */
  const has = (id: string) => read.pipe(Effect.map(({ entries }) => entries.has(id)), Effect.orElseSucceed(() => false))

  /** The ids of all files. A file whose id neither it nor the index tells is listed by its name. */
  const ids = Effect.gen(function*() {
    const identified = yield* identify(yield* credentials.names)
    const index = identified.every(({ id }) => id !== undefined)
      ? emptyIndex
      : yield* Effect.orElseSucceed(read, () => emptyIndex)
    const all = owners(identified, index).flatMap(({ ids, name }) =>
      ids.length > 0 ? ids : canBePlain(name) ? [name] : []
    )
    return Array.from(new Set(all))
  })

  return { update, has, ids } as const
}
