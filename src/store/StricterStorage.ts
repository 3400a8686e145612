import * as Effect from "effect/Effect"
import type { FetchFailure } from "../errors/AdenError.ts"
import { CredentialNotFound } from "../errors/CredentialError.ts"
import type { CredentialStorageError, StorageFailure } from "../errors/StorageError.ts"
import type { CredentialStorage } from "../storage/CredentialStorage.ts"
import { SingleFlight } from "../util/SingleFlight.ts"
import type { Cell } from "./Cell.ts"
import { freshnessOf } from "./core/decide.ts"
import type { Entries } from "./Entries.ts"

/**
 * A storage that asks Aden itself may want to ask about what the store would serve without a question. It is heard when a
 * program first reads a credential; from then on the store's own rules hold. What is not fresh the store asks about anyway.
 */
export class StricterStorage {
  readonly #storage: CredentialStorage["Service"]
  readonly #entries: Entries
  readonly #heard = new WeakSet<Cell>()
  readonly #hearings = new SingleFlight<Cell, boolean, StorageFailure>()

  constructor(storage: CredentialStorage["Service"], entries: Entries) {
    this.#storage = storage
    this.#entries = entries
  }

  /** Whether the entry is still there, once for all who ask meanwhile. */
  hear(cell: Cell): Effect.Effect<boolean, StorageFailure> {
    return Effect.suspend(() =>
      this.#heard.has(cell) ? Effect.succeed(true) : this.#hearings.run(cell, this.#hear(cell))
    )
  }

  #hear(cell: Cell): Effect.Effect<boolean, StorageFailure> {
    return Effect.gen({ self: this }, function*() {
      const { entry } = cell
      const isUndisputed = entry.held?.owner !== "provider" || entry.held.source === "aden" ||
        entry.dirty !== undefined || freshnessOf(entry, yield* this.#entries.circumstances(entry)) !== "fresh"
      if (isUndisputed) {
        this.#heard.add(cell)
        return true
      }
      // what is in memory was read a moment ago: of what goes wrong now, only what storage holds afterwards counts
      yield* Effect.ignore(this.#storage.load(cell.id))
      const isThere = yield* this.#entries.load(cell)
      this.#heard.add(cell)
      const { blockedSince, reauthorizationUrl } = cell.entry.state
      if (blockedSince !== undefined) {
        yield* this.#entries.publish({ _tag: "ReauthorizationRequired", id: cell.id, reauthorizationUrl })
      } else if (!isThere) {
        yield* this.#entries.publish({ _tag: "Removed", id: cell.id })
      }
      return isThere
    })
  }

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
