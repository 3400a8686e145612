import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import type { Credential } from "../model/Credential.ts"
import { CredentialState } from "../model/CredentialState.ts"
import { makeKeyedLock } from "../util/KeyedLock.ts"
import type { CredentialEntry } from "./CredentialEntry.ts"
import type { Entries } from "./Entries.ts"
import { isEarlier } from "./storedRecord.ts"

/** How often a storage that failed is tried again. */
const retryInterval = Duration.seconds(1)

/** Saves what a failing storage did not take, once it works again: until then others do not know of it. */
export class WriteBehind {
  readonly #entries: Entries
  readonly #dirty = new Set<CredentialEntry>()
  readonly #pending = Latch.makeUnsafe(false)

  /**
   * Excludes saving an entry late from saving what a renewal brings: whichever came second would find that it was overtaken. (The
   * lock of the storage would do too, but may be left from before a database went away.)
   */
  readonly alone = makeKeyedLock()

  constructor(entries: Entries) {
    this.#entries = entries
  }

  /** The entry could not be saved. */
  add(entry: CredentialEntry): void {
    this.#dirty.add(entry)
    this.#pending.openUnsafe()
  }

  /** Never ends. */
  readonly run = Effect.fnUntraced(function*(this: WriteBehind): Effect.fn.Return<never> {
    while (true) {
      yield* this.#pending.await
      yield* Effect.sleep(retryInterval)
      for (const entry of this.#dirty) {
        this.#dirty.delete(entry)
        if (yield* this.alone(entry.id)(this.#save(entry))) continue
        // one that fails most often tells of all; next time the others come first
        this.#dirty.add(entry)
        break
      }
      if (this.#dirty.size === 0) this.#pending.closeUnsafe()
    }
  })

  /** Whether there is nothing left to do for the entry. */
  readonly #save = Effect.fnUntraced(function*(this: WriteBehind, entry: CredentialEntry) {
    const { credential, epoch } = entry
    if (!entry.isDirty || credential === undefined) return true
    const fetched = entry.state.lastConfirmed ?? credential.lastRefreshed
    const at = fetched === undefined ? -Infinity : DateTime.toEpochMillis(fetched)
    const { generation, state: stored } = yield* this.behind(credential, {
      generation: entry.state.generation,
      at
    })
    const state = new CredentialState({ ...withLaterChanges(entry.state, stored), generation: (generation ?? 0) + 1 })
    let isWorthTrying = true
    const outcome = generation === undefined ? "outdated" as const : yield* this.#entries.orElseWhenWriteFails(
      this.#entries.storage.save(credential, { expectedGeneration: generation, state }).pipe(
        Effect.as("saved" as const),
        Effect.catchTag("GenerationConflict", () => Effect.succeed("outdated" as const)),
        Effect.catchTag("CredentialDecryptionFailed", () => Effect.succeed("refused" as const)),
        Effect.tapError((error) => Effect.sync(() => isWorthTrying = error.isRetryable))
      ),
      "failed" as const
    )
    // the program, or a renewal, changed it meanwhile, and saved that itself
    if (entry.epoch !== epoch || entry.credential !== credential) return !entry.isDirty
    if (outcome === "saved") {
      entry.isDirty = false
      entry.isStateDirty = false
      entry.state = state
      entry.freshUntil = state.blockedSince === undefined ? entry.freshUntil : -Infinity
      // whatever is being asked now is newer
      entry.saved = { generation: state.generation, order: -1 }
    } else if (outcome === "outdated") {
      entry.isDirty = false
      yield* this.#entries.follow(entry.id)
    }
    return outcome !== "failed" || !isWorthTrying
  })

  /**
   * Which generation a credential that was asked for at `at` (ms) replaces where what is stored could not be saved, or read: a
   * storage that failed half-way may have counted it. What somebody else saved since is not replaced; none where it is not the
   * provider's, but was not counted.
   */
  readonly behind = Effect.fnUntraced(function*(
    this: WriteBehind,
    credential: Credential,
    known: { readonly generation: number; readonly at: number }
  ): Effect.fn.Return<{ readonly generation: number | undefined; readonly state: CredentialState }> {
    const unread = { credential: Option.none<Credential>(), state: CredentialState.initial }
    const record = yield* Effect.orElseSucceed(this.#entries.storage.read(credential.id), () => unread)
    const { credential: stored, state } = record
    if (Option.exists(stored, (own) => this.#entries.providerOf(own) !== this.#entries.providerOf(credential))) {
      return { generation: undefined, state }
    }
    return { generation: isEarlier(record, credential, known.at) ? state.generation : known.generation, state }
  })
}

/** What others learnt of the credential after it was fetched here, and before it could be saved, holds still. */
const withLaterChanges = (own: CredentialState, stored: CredentialState): CredentialState => {
  const { lastConfirmed } = own
  const isLater = (at: DateTime.Utc | undefined) =>
    at !== undefined && (lastConfirmed === undefined || DateTime.isGreaterThan(at, lastConfirmed))
  return new CredentialState({
    ...own,
    ...(own.blockedSince === undefined && isLater(stored.blockedSince)
      ? {
        blockedSince: stored.blockedSince,
        reauthorizationUrl: stored.reauthorizationUrl,
        lastError: stored.lastError
      }
      : {}),
    ...(own.coolDownUntil === undefined && stored.coolDownUntil !== undefined
      ? { coolDownUntil: stored.coolDownUntil }
      : {})
  })
}
