/**
 * Hive's index, derived from the encrypted files. They are the truth: index entries without a file are removed, files without an
 * entry are decrypted and added, and a lost or broken index is rebuilt.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Buffer } from "node:buffer"
import {
  decodeIndex,
  emptyIndex,
  encodeIndex,
  indexEntry,
  indexVersion,
  isComplete,
  laterEntry
} from "../format/HiveIndex.ts"
import type { HiveIndex } from "../format/HiveIndex.ts"
import { canBePlain, escapedName, plainName } from "../format/names.ts"
import type { CredentialFiles } from "./CredentialFiles.ts"
import type { PrivateFiles } from "./PrivateFiles.ts"

const maximumBytes = 64 * 1024 * 1024

/** The entries of credentials that were saved, by id; `undefined` for those that were removed. */
export interface IndexChanges extends Iterable<readonly [string, string | undefined]> {
  readonly size: number
  readonly keys: () => Iterable<string>
}

/** An index with the fingerprint of its file. `names` are the files, when each has one complete entry, and none was in doubt. */
interface Known {
  readonly fingerprint: string
  readonly index: HiveIndex
  readonly names: ReadonlySet<string> | undefined
}

const sameEntries = (one: HiveIndex["entries"], other: HiveIndex["entries"]): boolean => {
  if (one.size !== other.size) return false
  for (const [id, entry] of one) {
    if (other.get(id) !== entry) return false
  }
  return true
}

const decode = (bytes: Uint8Array): HiveIndex | undefined =>
  decodeIndex(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("utf8"))

/** Which of these ids each file can have, for files whose id is not known otherwise. */
const claimants = (ids: Iterable<string>, names: ReadonlyArray<string>): Map<string, Array<string>> => {
  const claims = new Map<string, Array<string>>(names.map((name) => [name, []]))
  for (const id of ids) {
    claims.get(plainName(id))?.push(id)
    claims.get(escapedName(id))?.push(id)
  }
  return claims
}

/** The ids with an entry by the name of the file that each can have; `contested` are the names that several can have. */
const idsByName = (ids: Iterable<string>, names: ReadonlySet<string>) => {
  const byName = new Map<string, string>()
  const contested = new Map<string, Array<string>>()
  for (const id of ids) {
    const plain = plainName(id)
    const name = names.has(plain) ? plain : escapedName(id)
    if (!names.has(name)) continue
    const other = byName.get(name)
    if (other === undefined) byName.set(name, id)
    else contested.set(name, [...contested.get(name) ?? [other], id])
  }
  return { byName, contested }
}

/** Whether these are the same files as before, so that the same entries are theirs. */
const isSameListing = (
  { index, names: before }: Known,
  names: ReadonlyArray<string>,
  changes: IndexChanges
): boolean => {
  return before !== undefined && before.size === names.length && names.every((name) => before.has(name)) &&
    Array.from(changes).every(([id, entry]) => entry !== undefined && index.entries.has(id))
}

/** The index of the credentials in `directory`. */
export class IndexFile {
  readonly folder: string
  readonly #files: PrivateFiles
  readonly #directory: string
  readonly #credentials: CredentialFiles
  readonly #file: string
  /** What the file held when it was last read or written here, to be used again while it is the same file. */
  #known: Known | undefined = undefined

  constructor(files: PrivateFiles, directory: string, credentials: CredentialFiles) {
    this.#files = files
    this.#directory = directory
    this.#credentials = credentials
    this.folder = files.fileIn(directory, "metadata")
    this.#file = files.fileIn(this.folder, "index.json")
  }

  #remember(fingerprint: Option.Option<string>, index: HiveIndex, names?: ReadonlySet<string>): Known {
    const read = { fingerprint: Option.getOrElse(fingerprint, () => ""), index, names }
    this.#known = Option.isNone(fingerprint) ? undefined : read
    return read
  }

  /** The current index; an empty one when it is lost or broken. */
  #read() {
    return Effect.gen({ self: this }, function*() {
      const fingerprint = yield* this.#files.fingerprint(this.#file)
      const known = this.#known
      if (known !== undefined && Option.isSome(fingerprint) && known.fingerprint === fingerprint.value) return known
      const index = yield* this.#files.rereadTorn(
        this.#file,
        this.#files.read(this.#file, maximumBytes).pipe(
          Effect.map(Option.match({ onNone: () => emptyIndex, onSome: decode })),
          Effect.catchTag("FileTooLarge", () => Effect.succeed(undefined))
        ),
        (index) => index === undefined
      )
      return this.#remember(fingerprint, index ?? emptyIndex)
    })
  }

  #open(names: ReadonlyArray<string>) {
    return Effect.forEach(
      names,
      (name) => Effect.map(this.#credentials.openOwned(name), (stored) => ({ name, stored })),
      {
        concurrency: 16
      }
    )
  }

  /** Which of these entries have a file. `listed` are the files, when none had to be opened to tell. */
  #match(
    candidates: ReadonlyMap<string, string>,
    names: ReadonlySet<string>,
    writtenSince: number
  ) {
    return Effect.gen({ self: this }, function*() {
      const rewritten = new Set(
        writtenSince === Infinity
          ? []
          : yield* Effect.filter(names, (name) => this.#credentials.isWrittenSince(name, writtenSince), {
            concurrency: 16
          })
      )
      const { byName, contested } = idsByName(candidates.keys(), names)
      const entries = new Map<string, string>()
      const unclear: Array<string> = []
      for (const name of names) {
        const id = byName.get(name)
        const entry = id === undefined ? undefined : candidates.get(id)
        if (
          id === undefined || entry === undefined || contested.has(name) || !isComplete(entry) || rewritten.has(name)
        ) {
          unclear.push(name)
        } else entries.set(id, entry)
      }
      const opened = yield* this.#open(unclear)
      // an id with a file of its escaped name left the plain one to another id, which the index may lack
      const doubtful = opened.flatMap(({ name, stored }) => {
        const id = stored?.credential.id
        const plain = id === undefined ? name : plainName(id)
        return plain !== name && byName.get(plain) === id && !contested.has(plain) ? [plain] : []
      })
      for (const { name, stored } of [...opened, ...yield* this.#open(doubtful)]) {
        if (stored === undefined) {
          // what cannot be opened keeps what is known about it
          for (const id of contested.get(name) ?? [byName.get(name)]) {
            const entry = id === undefined ? undefined : candidates.get(id)
            if (id !== undefined && entry !== undefined) entries.set(id, entry)
          }
        } else entries.set(stored.credential.id, indexEntry(stored.credential, stored.members))
      }
      return { entries, listed: unclear.length === 0 ? names : undefined }
    })
  }

  /**
   * Brings the index in step with the files, and writes it if that changed it. Only files that no entry, an incomplete one or
   * several of them claim are opened, and those that were `writtenSince` (in ms).
   */
  update<E>(
    changes: IndexChanges,
    check: Effect.Effect<void, E>,
    writtenSince = Infinity
  ) {
    return Effect.gen({ self: this }, function*() {
      const before = yield* this.#read()
      const { index } = before
      const candidates = new Map(index.entries)
      for (const [id, entry] of changes) {
        if (entry === undefined) candidates.delete(id)
        // another process may have saved it since, and have written the index before
        else candidates.set(id, laterEntry(entry, candidates.get(id)))
      }
      const listing = yield* this.#credentials.names
      const { entries, listed } = writtenSince === Infinity && isSameListing(before, listing, changes)
        ? { entries: candidates, listed: before.names }
        : yield* this.#match(candidates, new Set(listing), writtenSince)
      if (index.version === indexVersion && sameEntries(entries, index.entries)) return
      const now = yield* DateTime.now
      const updated = { ...index, version: indexVersion, entries }
      yield* this.#files.write(this.#file, Buffer.from(encodeIndex(updated, this.#directory, now)), check)
      this.#remember(yield* this.#files.fingerprint(this.#file), updated, listed)
    })
  }

  #identify(names: ReadonlyArray<string>) {
    return Effect.forEach(
      names,
      (name) => Effect.map(this.#credentials.identify(name), (id) => ({ name, id })),
      { concurrency: 16 }
    )
  }

  /**
   * The ids of all files. A file whose id it does not tell is listed by the ids that the index gives it, or that were `changed`
   * since, else by its name.
   */
  ids(changed: IndexChanges) {
    return Effect.gen({ self: this }, function*() {
      const identified = yield* this.#identify(yield* this.#credentials.names)
      const unknown = identified.flatMap(({ id, name }) => id === undefined ? [name] : [])
      const { entries } = unknown.length === 0 ? emptyIndex : yield* this.#read().pipe(
        Effect.map(({ index }) => index),
        Effect.orElseSucceed(() => emptyIndex)
      )
      const claims = claimants(unknown.length === 0 ? [] : new Set([...entries.keys(), ...changed.keys()]), unknown)
      const all = identified.flatMap(({ id, name }) => {
        if (id !== undefined) return [id]
        const ids = claims.get(name) ?? []
        return ids.length > 0 ? ids : canBePlain(name) ? [name] : []
      })
      return Array.from(new Set(all))
    })
  }
}
