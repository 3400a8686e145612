import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { CredentialNotFound } from "../errors/CredentialError.ts"
import type { CredentialStorageError, FetchFailure, StorageFailure } from "../errors/CredentialError.ts"
import type { CredentialStorage } from "../storage/CredentialStorage.ts"
import { SingleFlight } from "../util/SingleFlight.ts"
import type { CredentialEntry } from "./CredentialEntry.ts"
import type { CredentialTable } from "./Entries.ts"

/**
 * A storage that asks Aden itself may want to ask about what the store would serve without a question. It is heard when a
 * program first reads a credential; from then on the store's own rules hold. What is not fresh the store asks about anyway.
 */
export class StricterStorage {
  readonly #storage: CredentialStorage["Service"]
  readonly #table: CredentialTable
  readonly #heard = new WeakSet<CredentialEntry>()
  readonly #hearings = new SingleFlight<CredentialEntry, boolean, StorageFailure>()

  constructor(storage: CredentialStorage["Service"], table: CredentialTable) {
    this.#storage = storage
    this.#table = table
  }

  /** Whether the entry is still there, once for all who ask meanwhile. */
  hear(entry: CredentialEntry): Effect.Effect<boolean, StorageFailure> {
    return Effect.suspend(() =>
      this.#heard.has(entry) ? Effect.succeed(true) : this.#hearings.run(entry, this.#hear(entry))
    )
  }

  readonly #hear = Effect.fnUntraced(function*(
    this: StricterStorage,
    entry: CredentialEntry
  ): Effect.fn.Return<boolean, StorageFailure> {
    const isUndisputed = entry.provider === undefined || entry.source === "aden" || entry.isUnsaved ||
      entry.freshness(yield* Clock.currentTimeMillis) !== "fresh"
    if (isUndisputed) {
      this.#heard.add(entry)
      return true
    }
    // what is at hand was read a moment ago: of what goes wrong now, only what storage holds afterwards counts
    yield* Effect.ignore(this.#storage.load(entry.id))
    const isThere = yield* this.#table.load(entry)
    this.#heard.add(entry)
    const { blockedSince, reauthorizationUrl } = entry.state
    if (blockedSince !== undefined) {
      yield* this.#table.publish({ _tag: "ReauthorizationRequired", id: entry.id, reauthorizationUrl })
    } else if (!isThere) {
      this.#table.forget(entry.id)
      yield* this.#table.publish({ _tag: "Removed", id: entry.id })
    }
    return isThere
  })

  shutdown(): Effect.Effect<void> {
    return this.#hearings.shutdown(0)
  }
}

/** What Aden said, where it was asked by a storage: the program is told that, not who asked. */
export const unwrapReason = (
  error: CredentialStorageError,
  ref: string
): CredentialStorageError | FetchFailure | CredentialNotFound => {
  switch (error.reason._tag) {
    case "StorageIoFailed":
    case "StorageInsecure":
    case "InvalidCredentialId":
    case "StorageRefused":
    case "LockTimeout":
      return error
    case "IntegrationNotFound":
      return new CredentialNotFound({ ref })
    default:
      return error.reason
  }
}
