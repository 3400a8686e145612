/**
 * The names of the files in a folder, for choosing new ones. Listing a folder of many files for each new one would cost more than
 * writing it, so a listing is kept while only this process changes the folder.
 */
import * as Effect from "effect/Effect"
import type { StorageIoFailed } from "../../errors/StorageError.ts"
import { chooseName, foldName } from "../format/names.ts"
import type { PrivateFiles } from "./PrivateFiles.ts"

/** Names by their folded form; `null` when several fold to it. */
type Listing = Map<string, string | null>

interface Known {
  readonly listing: Listing
  /** The number of the write lock under which it was last known to be complete. */
  lock: number
  /** When the folder was changed last, by this process. */
  modifiedAt: number | undefined
}

const fold = (names: ReadonlyArray<string>): Listing => {
  const listing: Listing = new Map()
  for (const name of names) {
    const folded = foldName(name)
    listing.set(folded, listing.has(folded) ? null : name)
  }
  return listing
}

/** Lists the names of a folder. */
interface NameSource {
  readonly names: Effect.Effect<ReadonlyArray<string>, StorageIoFailed>
}

/** The names of the files in one folder. */
export class NamesInUse {
  readonly #files: PrivateFiles
  readonly #folder: string
  readonly #source: NameSource
  #known: Known | undefined = undefined
  #changes = 0

  constructor(files: PrivateFiles, folder: string, source: NameSource) {
    this.#files = files
    this.#folder = folder
    this.#source = source
  }

  /** Forgets the listing when another process held the lock since, or a program that takes no lock changed the folder. */
  #validate(lock: number) {
    return Effect.suspend(() => {
      if (this.#known === undefined || this.#changes > 0) return Effect.void
      const current = this.#known
      return Effect.map(this.#files.modifiedAt(this.#folder), (modifiedAt) => {
        const isUnchanged = modifiedAt !== undefined && modifiedAt === current.modifiedAt
        if (isUnchanged && (lock === current.lock || lock === current.lock + 1)) current.lock = lock
        else this.#known = undefined
      })
    })
  }

  #settle() {
    return Effect.suspend(() => {
      this.#changes--
      if (this.#known === undefined || this.#changes > 0) return Effect.void
      const current = this.#known
      return Effect.map(this.#files.modifiedAt(this.#folder), (modifiedAt) => {
        current.modifiedAt = modifiedAt
      })
    })
  }

  /** Runs a change of the folder under the write lock with this number. */
  changing(lock: number) {
    return <A, E, R>(change: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
      Effect.acquireUseRelease(
        Effect.andThen(this.#validate(lock), Effect.sync(() => void this.#changes++)),
        () => change,
        () => this.#settle()
      )
  }

  /** The names in the folder. To be run within `changing`. */
  listing(lock: number) {
    return Effect.suspend(() => {
      if (this.#known !== undefined) return Effect.succeed(this.#known.listing)
      return Effect.map(this.#source.names, (names) => {
        this.#known ??= { listing: fold(names), lock, modifiedAt: undefined }
        return this.#known.listing
      })
    })
  }

  /** A file was removed. */
  removed(name: string): void {
    const folded = foldName(name)
    if (this.#known?.listing.get(folded) === name) this.#known.listing.delete(folded)
  }
}

/**
 * Chooses the name for the first file of an id, which has none yet. `chosen` are the ids that chose names in the same batch, by
 * folded name.
 */
export const chooseUnused = (
  id: string,
  plainIsTaken: boolean,
  listing: Map<string, string | null>,
  chosen: Map<string, string>,
  windows: boolean
): string => {
  const isTaken = (plain: string) => {
    const folded = foldName(plain)
    const used = listing.get(folded)
    const by = chosen.get(folded)
    // a file of this very name would have been found: it was removed since, or its save failed
    return (used !== undefined && used !== plain) || (by !== undefined && by !== id)
  }
  const name = chooseName(id, plainIsTaken, isTaken, windows)
  const folded = foldName(name)
  chosen.set(folded, id)
  listing.set(folded, name)
  return name
}
