/**
 * The folders of a directory of credentials.
 */
import * as Effect from "effect/Effect"
import type { StorageInsecure, StorageIoFailed } from "../../errors/StorageError.ts"
import type { PrivateFiles } from "./PrivateFiles.ts"

export class Folders {
  readonly #files: PrivateFiles
  /** The directory that all tenants share. */
  readonly #common: string
  readonly #directory: string
  readonly credentials: string
  readonly metadata: string
  readonly state: string

  constructor(files: PrivateFiles, common: string, directory: string) {
    this.#files = files
    this.#common = common
    this.#directory = directory
    this.credentials = files.fileIn(directory, "credentials")
    this.metadata = files.fileIn(directory, "metadata")
    this.state = files.fileIn(directory, "state")
  }

  /** Creates those that are missing, and refuses those that others can write. */
  ensure(): Effect.Effect<void, StorageInsecure | StorageIoFailed> {
    return Effect.forEach(
      new Set([this.#common, this.#directory, this.credentials, this.metadata, this.state]),
      (folder) => this.#files.ensureFolder(folder),
      { discard: true }
    )
  }

  /** Whether these folders exist. Checks the outer ones first: if others could write the common folder, they could replace a tenant's. */
  exist(...inside: ReadonlyArray<string>): Effect.Effect<boolean, StorageInsecure | StorageIoFailed> {
    return Effect.gen({ self: this }, function*() {
      for (const folder of new Set([this.#common, this.#directory, ...inside])) {
        if (!(yield* this.#files.checkFolderForReading(folder))) return false
      }
      return true
    })
  }

  /** Removes what writers that died have left. */
  tidy(): Effect.Effect<void> {
    return Effect.forEach(
      [this.credentials, this.metadata, this.state],
      (folder) => this.#files.removeAbandoned(folder),
      { discard: true }
    )
  }
}
