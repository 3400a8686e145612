import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { ReauthRequired } from "../errors/AdenError.ts"
import type { CredentialStorageError, StorageFailure } from "../errors/StorageError.ts"
import { accountOf } from "../model/Credential.ts"
import type { Credential } from "../model/Credential.ts"
import { CredentialState } from "../model/CredentialState.ts"
import { withListedNames } from "../providers/CredentialProvider.ts"
import type { StorageChange, StoredEntry } from "../storage/CredentialStorage.ts"
import type { Background } from "../util/background.ts"
import { Broadcast } from "../util/Broadcast.ts"
import { makeKeyedLock } from "../util/KeyedLock.ts"
import { logDebug, logError } from "../util/logging.ts"
import { monotonicMillis } from "../util/monotonic.ts"
import { cleanText } from "../util/sanitize.ts"
import type { Cell } from "./Cell.ts"
import { isServable, reauthRequired } from "./core/decide.ts"
import type { Entry } from "./core/Entry.ts"
import { expiryOf } from "./core/Entry.ts"
import { isRejected } from "./core/transition.ts"
import type { EntryEvent } from "./core/transition.ts"
import { retryAfterAnswer } from "./dates.ts"
import type { Entries } from "./Entries.ts"
import type { Listings } from "./Listings.ts"

/** How often the program's write is tried again because others write at the same time, before it goes over whatever is there. */
const overwriteAttempts = 5

/** How often a storage that failed is tried again. */
const retryInterval = Duration.seconds(1)

/** How long the fiber that writes behind may take for one entry, in ms, before it counts as dead: longer than a write of the program. */
const writeBehindLease = 60_000

/**
 * What a question was asked on. Its answer is taken over only while this still holds: the program has not changed the entry since
 * (`revision`), nor has another process saved it (`generation`).
 */
export interface RequestBasis {
  readonly cell: Cell
  readonly revision: number
  readonly generation: number
  /** Its place among all questions of this process. */
  readonly order: number
  /** When, in ms. */
  readonly at: number
  readonly held: Credential | undefined
}

/** A provider's answer that is to be taken over. */
export interface Answer {
  readonly basis: RequestBasis
  readonly answer: Credential
  /** What storage has, where it was read for this question and need not be in memory. */
  readonly stored?: Credential | undefined
  readonly isRefresh: boolean
}

/** What became of an answer: the credential that counts now, and why it is not stored, if it is not. */
export interface Taken {
  readonly credential: Credential
  readonly error: StorageFailure | undefined
  /** The program has changed the entry since it was asked about: the answer is not kept. */
  readonly isOutdated: boolean
}

/** An answer that is to be saved, and the generation that it replaces. */
interface Wanted {
  readonly item: Answer
  readonly credential: Credential
  readonly generation: number | undefined
}

/** What a write came to: another writer was faster, or storage did not take it. */
type Written = "saved" | "outdated" | StorageFailure

/**
 * The only writer. Everything that is to be stored goes through here, one lane per id: storage first by compare-and-swap, then memory
 * and index in one step. Whoever is interrupted between the two leaves an entry in doubt, which is read again before it is next served. What
 * storage does not take is written behind.
 */
export class Commit {
  readonly #entries: Entries
  readonly #listings: Listings
  readonly #lane = makeKeyedLock()
  readonly #dirty = new Set<Cell>()
  readonly #inBackground: Background
  /** Until when the fiber that writes behind counts as alive, in ms of the monotonic clock: on some platforms it ends without a word. */
  #writesBehindUntil = -Infinity
  #questions = 0
  /** Ends what listens to storage. */
  #leave: (() => void) | undefined = undefined

  /** `inBackground`: where what storage did not take is written behind. */
  constructor(options: {
    readonly entries: Entries
    readonly listings: Listings
    readonly inBackground: Background
  }) {
    this.#entries = options.entries
    this.#listings = options.listings
    this.#inBackground = options.inBackground
  }

  shutdown(): Effect.Effect<void> {
    return Effect.sync(() => this.#leave?.())
  }

  /** The basis of a question that is asked now; of one about what was read from storage, with its generation. */
  basisOf(cell: Cell, generation = cell.entry.state.generation): Effect.Effect<RequestBasis> {
    return Effect.map(Clock.currentTimeMillis, (at) => ({
      cell,
      revision: cell.entry.revision,
      generation,
      order: ++this.#questions,
      at,
      held: cell.entry.credential
    }))
  }

  /** Whether the program has not changed the entry since it was asked about. */
  isCurrent({ cell, revision }: RequestBasis): boolean {
    const present = this.#entries.get(cell.id)
    return (present === undefined || present === cell) && cell.entry.revision === revision
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Answers of providers
  // -------------------------------------------------------------------------------------------------------------------

  /** Takes over what a provider answered, unless the entry has changed since it was asked. */
  answer(item: Answer): Effect.Effect<Credential, StorageFailure> {
    return Effect.gen({ self: this }, function*() {
      const { cell } = item.basis
      const taken = yield* this.#write(cell, "write", this.#takeOver(item))
      return taken.error !== undefined && taken.error._tag !== "CredentialStorageError"
        ? yield* taken.error
        : taken.credential
    })
  }

  #takeOver(item: Answer): Effect.Effect<Taken, StorageFailure> {
    return Effect.gen({ self: this }, function*() {
      const credential = merged(item)
      const reason = this.#whyNotTaken(item, credential)
      if (reason !== undefined) return reason
      const generation = yield* this.#replaced(item, credential)
      const written = yield* this.#save(credential, generation)
      return yield* this.#settle(item, credential, { generation, written })
    })
  }

  /**
   * The same for many, stored in one step, and told in no order. One whose lane is taken comes later by itself: a write of the program may
   * wait there for its turn.
   */
  answers(items: ReadonlyArray<Answer>): Effect.Effect<ReadonlyArray<Taken>> {
    return Effect.suspend(() => {
      const isTaken = ({ basis }: Answer) => this.#lane.isTaken(basis.cell.id)
      const free = items.filter((item) => !isTaken(item))
      const waiting = items.filter(isTaken).map((item) => [item])
      return Effect.map(
        Effect.forEach([free, ...waiting], (some) => this.#answersOf(some), { concurrency: "unbounded" }),
        (taken) => taken.flat()
      )
    })
  }

  #answersOf(items: ReadonlyArray<Answer>): Effect.Effect<ReadonlyArray<Taken>> {
    return Effect.gen({ self: this }, function*() {
      const ids = Array.from(new Set(items.map(({ basis }) => basis.cell.id))).toSorted()
      return yield* Effect.scoped(
        Effect.andThen(
          Effect.forEach(ids, (id) => this.#lane.held(id), { discard: true }),
          this.#doubting(items.map(({ basis }) => basis.cell), "write", this.#takeAllOver(items))
        )
      )
    })
  }

  #takeAllOver(items: ReadonlyArray<Answer>): Effect.Effect<ReadonlyArray<Taken>> {
    return Effect.gen({ self: this }, function*() {
      const wanted: Array<Taken | Wanted> = []
      for (const item of items) {
        const credential = merged(item)
        wanted.push(
          this.#whyNotTaken(item, credential) ??
            { item, credential, generation: yield* this.#replaced(item, credential) }
        )
      }
      const lastConfirmed = yield* DateTime.now
      const written = yield* this.#saveMany(wanted.filter((one) => "item" in one), lastConfirmed)
      return yield* Effect.forEach(wanted, (one) =>
        "item" in one
          ? Effect.catch(
            this.#settle(one.item, one.credential, { generation: one.generation, written: written(one) }),
            (error) => Effect.succeed({ credential: one.credential, error, isOutdated: false })
          )
          : Effect.succeed(one))
    })
  }

  /** In one step for those that Aden lists as the only account of their provider, and in one for the others. */
  #saveMany(wanted: ReadonlyArray<Wanted>, lastConfirmed: DateTime.Utc): Effect.Effect<(one: Wanted) => Written> {
    return Effect.gen({ self: this }, function*() {
      const isSibling = ({ credential }: Wanted) => this.#hasSiblings(credential)
      const written = yield* Effect.forEach(
        [
          {
            wanted: wanted.filter((one) => !isSibling(one)),
            state: new CredentialState({ generation: 0, lastConfirmed })
          },
          {
            wanted: wanted.filter(isSibling),
            state: new CredentialState({ generation: 0, lastConfirmed, hasSiblings: true })
          }
        ],
        ({ state, wanted }) =>
          wanted.length === 0 ? Effect.succeed(new Map<Wanted, Written>()) : this.#saveAll(wanted, state)
      )
      const all = new Map(written.flatMap((some) => [...some]))
      return (one) => all.get(one) ?? "outdated"
    })
  }

  #saveAll(wanted: ReadonlyArray<Wanted>, state: CredentialState): Effect.Effect<ReadonlyMap<Wanted, Written>> {
    return Effect.gen({ self: this }, function*() {
      const expectedGenerations = new Map<string, number>()
      const credentials: Array<Credential> = []
      for (const { credential, generation } of wanted) {
        if (generation === undefined) continue
        expectedGenerations.set(credential.id, generation)
        credentials.push(credential)
      }
      const outcome = yield* Effect.result(this.#entries.storage.saveMany(credentials, { expectedGenerations, state }))
      if (Result.isSuccess(outcome)) this.#entries.storageWorks()
      else yield* this.#entries.warnOfStorage(outcome.failure)
      const written = ({ credential: { id }, generation }: Wanted): Written => {
        const failure = Result.isFailure(outcome) ? outcome.failure : outcome.success.get(id)
        return generation === undefined || failure?._tag === "GenerationConflict" ? "outdated" : failure ?? "saved"
      }
      return new Map(wanted.map((one) => [one, written(one)]))
    })
  }

  #hasSiblings(credential: Credential): boolean {
    return this.#listings.hasSiblings(accountOf(credential)) === true
  }

  /** What is there already where an answer is not taken over. */
  #whyNotTaken({ basis, isRefresh }: Answer, credential: Credential): Taken | undefined {
    if (!this.isCurrent(basis)) return { credential, error: undefined, isOutdated: true }
    const { entry } = basis.cell
    if (entry.held === undefined) return undefined
    const held = entry.held.credential
    if (entry.isProgramOwned) return { credential: held, error: undefined, isOutdated: true }
    // a renewal was answered since this was asked: what it brought is newer, unless this is the same token or lasts longer
    const isRenewed = !isRefresh && entry.held.source === "aden" && !isRejected(entry, held) &&
      (basis.held === undefined || !held.holdsTokenOf(basis.held))
    const isOlder = isRenewed && !credential.holdsTokenOf(held) &&
      ((basis.held !== undefined && credential.holdsTokenOf(basis.held)) || expiryOf(credential) <= expiryOf(held))
    return isOlder ? { credential: held, error: undefined, isOutdated: false } : undefined
  }

  /** The generation that an answer replaces; none where what is stored is not to be replaced. */
  #replaced({ basis }: Answer, credential: Credential): Effect.Effect<number | undefined> {
    return Effect.gen({ self: this }, function*() {
      const { entry } = basis.cell
      const { saved, state } = entry
      // what a sync saved since does not stand in the way when it is older than this answer
      const isOlder = saved.generation === state.generation &&
        (saved.order < basis.order ||
          (basis.held !== undefined && entry.credential?.holdsTokenOf(basis.held) === true))
      const known = isOlder ? Math.max(saved.generation, basis.generation) : basis.generation
      return entry.dirty === undefined && entry.unreadable === undefined
        ? known
        : (yield* this.#behind(credential, { generation: known, at: basis.at })).generation
    })
  }

  /** One compare-and-swap. */
  #save(
    credential: Credential,
    expectedGeneration: number | undefined,
    state?: CredentialState
  ): Effect.Effect<Written> {
    return Effect.gen({ self: this }, function*() {
      if (expectedGeneration === undefined) return "outdated"
      const generation = expectedGeneration + 1
      const confirmed = state ?? new CredentialState({
        generation,
        lastConfirmed: yield* DateTime.now,
        ...(this.#hasSiblings(credential) ? { hasSiblings: true } : {})
      })
      const outcome = yield* Effect.result(
        this.#entries.storage.save(credential, { expectedGeneration, state: confirmed })
      )
      if (Result.isSuccess(outcome)) {
        this.#entries.storageWorks()
        return "saved"
      }
      const { failure } = outcome
      if (failure._tag === "GenerationConflict") return "outdated"
      if (failure._tag === "CredentialStorageError") yield* this.#entries.warnOfStorage(failure)
      return failure
    })
  }

  /** Memory takes over what was written, or what another writer stored. */
  #settle(
    { basis, isRefresh }: Answer,
    credential: Credential,
    first: { readonly generation: number | undefined; readonly written: Written }
  ): Effect.Effect<Taken, StorageFailure> {
    return Effect.gen({ self: this }, function*() {
      const entries = this.#entries
      const { cell } = basis
      let { generation, written } = first
      // what another process could not save while storage was away, and saves now, is older than this answer
      while (written === "outdated" && generation !== undefined && this.isCurrent(basis)) {
        const read = yield* Effect.result(entries.storage.read(cell.id))
        if (Result.isFailure(read)) {
          if (read.failure._tag !== "CredentialStorageError") return yield* read.failure
          // what cannot be compared is served, and saved once it can
          yield* entries.warnOfStorage(read.failure)
          written = read.failure
          break
        }
        const record = read.success
        const isProviders = Option.exists(
          record.credential,
          (one) => entries.providerOf(one) === entries.providerOf(credential)
        )
        if (!isProviders || !isEarlier(record, credential, basis.at) || record.state.generation === generation) break
        generation = record.state.generation
        written = yield* this.#save(credential, generation)
      }
      if (!this.isCurrent(basis)) {
        yield* Effect.ignore(entries.load(cell))
        return { credential, error: undefined, isOutdated: true }
      }
      if (written === "outdated") {
        // another process was faster: what it saved is as new as this answer, or newer
        yield* entries.change(cell, { _tag: "Overtaken" })
        yield* this.#reload(cell)
        return { credential: cell.entry.credential ?? credential, error: undefined, isOutdated: false }
      }
      if (written !== "saved" && written._tag === "CredentialDecryptionFailed") {
        return { credential, error: written, isOutdated: false }
      }
      const before = cell.entry
      const state = new CredentialState({ generation: 0, lastConfirmed: yield* DateTime.now })
      const taken = yield* entries.taking(cell, credential, state)
      const circumstances = yield* entries.circumstancesOf(credential)
      const isUsable = isServable(before, credential, circumstances)
      if (!isRefresh || isUsable) cell.restart("backOff")
      const after = yield* entries.change(cell, {
        _tag: "Answered",
        ...taken,
        generation: generation ?? 0,
        order: basis.order,
        unwritable: written === "saved" ? undefined : written,
        isServable: !isRefresh || isUsable,
        retryAt: retryAfterAnswer(taken.dates.renewAt, credential, circumstances),
        hasSiblings: this.#listings.hasSiblings(accountOf(credential)) ?? before.state.hasSiblings ?? false
      })
      if (after.dirty !== undefined) yield* this.#writeBehind(cell)
      yield* this.#tell(before, after)
      return { credential, error: written === "saved" ? undefined : written, isOutdated: false }
    })
  }

  /** The events of an answer. */
  #tell(before: Entry, after: Entry) {
    return Effect.gen({ self: this }, function*() {
      const { id } = before
      if (before.isBlocked && !after.isBlocked) yield* this.#entries.publish({ _tag: "Reconnected", id })
      if (before.credential === undefined) yield* this.#entries.publish({ _tag: "Fetched", id })
      else if (after.credential?.holdsTokenOf(before.credential) === false) {
        yield* this.#entries.publish({ _tag: "Refreshed", id })
      }
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // What the program does
  // -------------------------------------------------------------------------------------------------------------------

  /**
   * Whatever is stored gives way; by compare-and-swap even so, so that a write that was given up and arrives late is fenced.
   */
  #overwrite({ entry, id }: Cell, credential: Credential): Effect.Effect<number, StorageFailure> {
    return Effect.gen({ self: this }, function*() {
      const { programStorage: storage } = this.#entries
      const state = CredentialState.initial
      let expectedGeneration: number | undefined = entry.state.generation
      for (let attempt = 0; attempt < overwriteAttempts && expectedGeneration !== undefined; attempt++) {
        const saved = yield* Effect.result(storage.save(credential, { state, expectedGeneration }))
        if (Result.isSuccess(saved)) return saved.success
        if (saved.failure._tag !== "GenerationConflict") return yield* saved.failure
        expectedGeneration = yield* this.#generationOf(id)
      }
      return yield* Effect.catchTag(storage.save(credential, { state }), "GenerationConflict", Effect.die)
    })
  }

  /** The same for a deletion; `false` where there was nothing to delete. */
  #erase({ entry, id }: Cell): Effect.Effect<boolean, CredentialStorageError> {
    return Effect.gen({ self: this }, function*() {
      const { programStorage: storage } = this.#entries
      let expectedGeneration: number | undefined = entry.state.generation
      for (let attempt = 0; attempt < overwriteAttempts && expectedGeneration !== undefined; attempt++) {
        if (yield* storage.delete(id, { expectedGeneration })) return true
        const generation: number | undefined = yield* this.#generationOf(id)
        if (generation === expectedGeneration) return false
        expectedGeneration = generation
      }
      return yield* storage.delete(id)
    })
  }

  /** The generation that is stored; `undefined` where that cannot be read. */
  #generationOf(id: string): Effect.Effect<number | undefined> {
    return Effect.match(this.#entries.storage.loadState(id), {
      onFailure: () => undefined,
      onSuccess: ({ generation }) => generation
    })
  }

  /** The program saves a credential, whatever is stored under its id. */
  save(credential: Credential): Effect.Effect<void, StorageFailure> {
    return Effect.gen({ self: this }, function*() {
      const entries = this.#entries
      const cell = entries.cell(credential.id)
      yield* this.#write(
        cell,
        "write",
        Effect.gen({ self: this }, function*() {
          const taken = yield* entries.taking(cell, credential, CredentialState.initial)
          const generation = yield* this.#overwrite(cell, credential)
          yield* entries.change(cell, { _tag: "Replaced", ...taken, generation })
        })
      )
    })
  }

  /** The program deletes an entry; `false` when there was none. */
  delete(id: string): Effect.Effect<boolean, CredentialStorageError> {
    return Effect.gen({ self: this }, function*() {
      const entries = this.#entries
      const cell = entries.cell(id)
      return yield* this.#write(
        cell,
        "delete",
        Effect.gen({ self: this }, function*() {
          const isDeleted = yield* this.#erase(cell)
          yield* entries.change(cell, { _tag: "Removed", rejected: [] })
          if (isDeleted) yield* entries.publish({ _tag: "Removed", id })
          return isDeleted
        })
      )
    })
  }

  /**
   * A write of the program that goes past the store, in the lanes of these ids: what was still to be written behind gives way. One that may
   * have taken effect, although it was interrupted, counts.
   */
  through<A, E>(ids: ReadonlyArray<string>, write: Effect.Effect<A, E>): Effect.Effect<A, E> {
    const overtaken = Effect.forEach(ids, (id) => {
      const cell = this.#entries.get(id)
      return cell === undefined ? Effect.void : this.#entries.change(cell, { _tag: "Overtaken" })
    }, { discard: true })
    const written = Effect.onExit(
      write,
      (exit) => Exit.isSuccess(exit) || !Exit.hasFails(exit) ? overtaken : Effect.void
    )
    return Effect.scoped(
      Effect.andThen(
        Effect.forEach(new Set(ids.toSorted()), (id) => this.#lane.held(id), { discard: true }),
        written
      )
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // What Aden says without a credential
  // -------------------------------------------------------------------------------------------------------------------

  /**
   * Aden does not have the integration any more: the entry goes, here and in storage; `false` when another writer saved it since it was
   * asked about.
   */
  remove(basis: RequestBasis): Effect.Effect<boolean> {
    return Effect.gen({ self: this }, function*() {
      return yield* this.isCurrent(basis)
        ? this.#write(basis.cell, "delete", this.#remove(basis))
        : Effect.succeed(false)
    })
  }

  #remove(basis: RequestBasis): Effect.Effect<boolean> {
    return Effect.gen({ self: this }, function*() {
      const entries = this.#entries
      const { cell } = basis
      if (!this.isCurrent(basis)) return false
      const before = cell.entry
      const expectedGeneration = before.dirty === "credential" ? before.state.generation : basis.generation
      const outcome = yield* Effect.result(entries.storage.delete(cell.id, { expectedGeneration }))
      if (Result.isFailure(outcome)) yield* entries.warnOfStorage(outcome.failure)
      const isDeleted = Result.isSuccess(outcome) && outcome.success
      const record = Option.getOrUndefined(yield* Effect.option(entries.storage.read(cell.id)))
      const left = record === undefined ? undefined : Option.getOrUndefined(record.credential)
      // what shows with the generation of the deletion itself is from a second storage, behind the one that it was deleted in
      const isBehind = isDeleted && expectedGeneration > 0 && record?.state.generation === expectedGeneration + 1
      if (left !== undefined && !isBehind && record?.state.generation !== expectedGeneration) {
        yield* entries.change(cell, { _tag: "Overtaken" })
        if (yield* Effect.orElseSucceed(entries.load(cell), () => false)) return false
      }
      // what storage still holds, because it failed or cannot delete it, is not to be served again
      const token = (isDeleted ? left : before.credential)?.defaultKey?.value
      yield* entries.change(cell, { _tag: "Removed", rejected: token === undefined ? [] : [token] })
      if (before.credential !== undefined || before.isBlocked) yield* entries.publish({ _tag: "Removed", id: cell.id })
      return true
    })
  }

  /** A person has to authorize it again: kept over a restart, too. */
  block({ cell, order }: RequestBasis, error: ReauthRequired) {
    return Effect.gen({ self: this }, function*() {
      const { checkedAt, isBlocked, recheckAt } = cell.entry
      const now = yield* Clock.currentTimeMillis
      if (!isBlocked) cell.restart("recheck")
      const next = !isBlocked || now >= recheckAt
        ? yield* cell.step("recheck").until(now, { _tag: "Blocked" })
        : recheckAt + now - checkedAt
      yield* this.note(cell, { _tag: "Blocked", error, recheckAt: next, order })
      if (isBlocked) return
      const { reauthorizationUrl } = cell.entry.state
      yield* this.#entries.publish({ _tag: "ReauthorizationRequired", id: cell.id, reauthorizationUrl })
    })
  }

  /** What was learnt of an entry is in memory at once, and in its state record. */
  note(cell: Cell, event: Extract<EntryEvent, { readonly _tag: "Blocked" | "RateLimited" | "Failed" }>) {
    return Effect.gen({ self: this }, function*() {
      const { dirty, state: before } = cell.entry
      const { revision, state } = yield* this.#entries.change(cell, event)
      if (state === before) return
      // whatever keeps it from being recorded now, an interruption among it: it is written behind then
      yield* Effect.ensuring(
        this.#lane(cell.id)(this.#record(cell, { before, after: state, revision, wasDirty: dirty !== undefined })),
        Effect.suspend(() => cell.entry.dirty === undefined ? Effect.void : this.#writeBehind(cell))
      )
    })
  }

  /** Only what has changed is written: another process may have recorded what is not known here. */
  #record(cell: Cell, { after, before, revision, wasDirty }: {
    readonly before: CredentialState
    readonly after: CredentialState
    readonly revision: number
    readonly wasDirty: boolean
  }) {
    return Effect.gen({ self: this }, function*() {
      const { storage } = this.#entries
      const stored = yield* Effect.result(storage.loadState(cell.id))
      if (cell.entry.revision !== revision) return
      if (Result.isFailure(stored)) {
        yield* this.#entries.warnOfStorage(stored.failure)
        return yield* this.#stateUnsaved(cell)
      }
      const isNewer = wasDirty && stored.success.generation === before.generation
      const state = withChanges(
        isNewer ? withLaterChanges(before, stored.success) : stored.success,
        before,
        after
      )
      const expectedGeneration = stored.success.generation
      const outcome = yield* Effect.result(storage.saveState(cell.id, state, { expectedGeneration }))
      if (Result.isFailure(outcome)) yield* this.#entries.warnOfStorage(outcome.failure)
      else this.#entries.storageWorks()
      if (cell.entry.revision !== revision || cell.entry.state !== after) return
      // what belongs to a credential that is not the one in memory, or to none, is for storage only
      const isSame = stored.success.generation === before.generation
      if (Result.isFailure(outcome) || !outcome.success) yield* this.#stateUnsaved(cell)
      else yield* this.#entries.change(cell, { _tag: "StateMerged", state: isSame ? state : after, isSaved: true })
    })
  }

  #stateUnsaved(cell: Cell) {
    return Effect.gen({ self: this }, function*() {
      yield* this.#entries.change(cell, { _tag: "StateMerged", state: cell.entry.state, isSaved: false })
      yield* this.#writeBehind(cell)
    })
  }

  /** Another process may share the storage: what it changes is in memory here at once, until the scope closes and `shutdown` has run. */
  followChanges(): Effect.Effect<void, never, Scope.Scope> {
    const { changes } = this.#entries.storage
    if (changes instanceof Broadcast) {
      return Effect.sync(() => {
        this.#leave = changes.listen((change: StorageChange) => this.#inBackground(this.follow(change)))
      })
    }
    return Stream.runForEachArray(
      changes,
      (some) => Effect.forEach(latestOf(some), (change) => this.follow(change), { concurrency: 16, discard: true })
    ).pipe(Effect.forkScoped({ startImmediately: true }), Effect.asVoid)
  }

  /**
   * Storage tells of a change. One of the generation that memory has is the echo of an own write; what another process changed is read.
   */
  follow(change: StorageChange): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { accounts } = this.#entries
      const cell = this.#entries.get(change.id)
      if (cell === undefined) return Effect.sync(() => accounts.noteChange(change.id))
      // one of which nothing is known yet may be under way to storage
      const wasVacant = cell.entry.isVacant
      return this.#lane(change.id)(Effect.suspend(() =>
        wasVacant && cell.entry.isVacant
          ? Effect.sync(() => accounts.noteChange(change.id))
          : this.#follow(cell, change)
      ))
    }).pipe(
      Effect.catchCause((cause) =>
        logDebug("A change in storage could not be followed", cause).pipe(
          Effect.annotateLogs({ credential: cleanText(change.id) })
        )
      )
    )
  }

  #follow(cell: Cell, { generation }: StorageChange) {
    return Effect.gen({ self: this }, function*() {
      const { dirty, doubt, state } = cell.entry
      const isEcho = generation !== undefined && generation === state.generation && dirty === undefined &&
        doubt === undefined
      if (!isEcho) yield* this.#reload(cell)
    })
  }

  /** What another process has changed is read. What it has deleted is not in memory any more: what its ref means is looked for again. */
  #reload(cell: Cell): Effect.Effect<void, StorageFailure> {
    return Effect.gen({ self: this }, function*() {
      const wasHeld = cell.entry.held !== undefined || cell.entry.isBlocked
      yield* this.#entries.load(cell)
      const { held, isBlocked, state } = cell.entry
      // another issuer's may be there now: of what is about to be fetched, nothing was deleted
      if (wasHeld && held === undefined && !isBlocked && state.coolDownUntil === undefined) {
        yield* this.#entries.change(cell, { _tag: "Removed", rejected: cell.entry.rejected })
      }
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Write-behind
  // -------------------------------------------------------------------------------------------------------------------

  #writeBehind(cell: Cell): Effect.Effect<void> {
    return Effect.flatMap(monotonicMillis, (now) => {
      this.#dirty.add(cell)
      if (now < this.#writesBehindUntil) return Effect.void
      this.#writesBehindUntil = now + writeBehindLease
      return this.#inBackground(this.#writeAllBehind())
    })
  }

  /** Saves what a failing storage did not take, once it works again, in a fiber that ends with that. */
  #writeAllBehind(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      while (this.#dirty.size > 0) {
        yield* Effect.sleep(retryInterval)
        for (const cell of this.#dirty) {
          this.#writesBehindUntil = (yield* monotonicMillis) + writeBehindLease
          this.#dirty.delete(cell)
          const exit = yield* Effect.exit(this.#lane(cell.id)(this.#flush(cell)))
          if (Exit.isSuccess(exit) && exit.value) continue
          if (Exit.isFailure(exit)) yield* logError("A credential could not be written behind", exit.cause)
          // one that fails most often tells of all; next time the others come first
          this.#dirty.add(cell)
          break
        }
      }
      this.#writesBehindUntil = -Infinity
    })
  }

  /** Whether there is nothing left to do for the entry. */
  #flush(cell: Cell): Effect.Effect<boolean> {
    return Effect.gen({ self: this }, function*() {
      const { dirty } = cell.entry
      if (dirty === undefined || this.#entries.get(cell.id) !== cell) return true
      return yield* dirty === "credential" ? this.#flushCredential(cell) : this.#flushState(cell)
    })
  }

  #flushCredential(cell: Cell): Effect.Effect<boolean> {
    return Effect.gen({ self: this }, function*() {
      const { credential, revision, state: own } = cell.entry
      if (credential === undefined) return true
      const fetched = own.lastConfirmed ?? credential.lastRefreshed
      const at = fetched === undefined ? -Infinity : DateTime.toEpochMillis(fetched)
      const { generation, state: stored } = yield* this.#behind(credential, { generation: own.generation, at })
      const state = new CredentialState({ ...withLaterChanges(own, stored), generation: (generation ?? 0) + 1 })
      const written = yield* this.#save(credential, generation, state)
      // the program, or a renewal, changed it in that time, and saved that itself
      if (cell.entry.revision !== revision || cell.entry.credential !== credential) {
        return cell.entry.dirty === undefined
      }
      if (written === "saved") {
        yield* this.#entries.change(cell, { _tag: "Flushed", state })
        return true
      }
      if (written === "outdated") {
        return yield* this.#giveWay(cell)
      }
      return !written.isRetryable
    })
  }

  #flushState(cell: Cell): Effect.Effect<boolean> {
    return Effect.gen({ self: this }, function*() {
      const { revision, state: known, unreadable } = cell.entry
      const { storage } = this.#entries
      const stored = yield* Effect.option(storage.loadState(cell.id))
      if (Option.isNone(stored)) return false
      const { generation } = stored.value
      // what was learnt before storage could be read is about whatever it holds
      const own = known.generation !== generation && unreadable !== undefined
        ? withChanges(stored.value, CredentialState.initial, known)
        : withLaterChanges(known, stored.value)
      if (generation !== own.generation) {
        return yield* this.#giveWay(cell)
      }
      const outcome = yield* Effect.result(storage.saveState(cell.id, own, { expectedGeneration: own.generation }))
      if (Result.isFailure(outcome)) return !outcome.failure.isRetryable
      if (!outcome.success) return false
      this.#entries.storageWorks()
      if (cell.entry.revision === revision && cell.entry.state === known) {
        yield* this.#entries.change(cell, { _tag: "StateMerged", state: own, isSaved: true })
      }
      return cell.entry.dirty === undefined
    })
  }

  /**
   * Another write was faster, which may have been one of this process that arrived late. That the same token was found to be blocked
   * still holds.
   */
  #giveWay(cell: Cell): Effect.Effect<boolean> {
    return Effect.gen({ self: this }, function*() {
      const before = cell.entry
      yield* this.#entries.change(cell, { _tag: "Overtaken" })
      yield* Effect.ignore(this.#entries.load(cell))
      const { credential, isBlocked } = cell.entry
      if (
        before.isBlocked && !isBlocked && before.credential !== undefined && credential?.holdsTokenOf(before.credential)
      ) {
        yield* this.#entries.change(cell, {
          _tag: "Blocked",
          error: reauthRequired(before),
          recheckAt: before.recheckAt,
          order: before.blockedBy
        })
      }
      return cell.entry.dirty === undefined
    })
  }

  /**
   * Which generation a credential that was asked for at `at` (ms) replaces where what is stored could not be saved, or read: a storage
   * that failed half-way may have counted it. None where what is stored is not the provider's.
   */
  #behind(
    credential: Credential,
    known: { readonly generation: number; readonly at: number }
  ): Effect.Effect<{ readonly generation: number | undefined; readonly state: CredentialState }> {
    return Effect.gen({ self: this }, function*() {
      const read = yield* Effect.option(this.#entries.storage.read(credential.id))
      if (Option.isNone(read)) return { generation: known.generation, state: CredentialState.initial }
      const { credential: stored, state } = read.value
      if (Option.exists(stored, (own) => this.#entries.providerOf(own) !== this.#entries.providerOf(credential))) {
        return { generation: undefined, state }
      }
      return { generation: isEarlier(read.value, credential, known.at) ? state.generation : known.generation, state }
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Lanes
  // -------------------------------------------------------------------------------------------------------------------

  /** In the lane of its id. */
  #write<A, E>(cell: Cell, doubt: "write" | "delete", effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return this.#lane(cell.id)(this.#doubting([cell], doubt, effect))
  }

  /** What ends before memory has followed storage leaves its entries in doubt. */
  #doubting<A, E>(
    cells: ReadonlyArray<Cell>,
    doubt: "write" | "delete",
    effect: Effect.Effect<A, E>
  ): Effect.Effect<A, E> {
    return Effect.onExit(effect, (exit) =>
      Exit.isSuccess(exit) ? Effect.void : Effect.forEach(cells, (cell) => {
        this.#entries.accounts.noteChange(cell.id)
        return this.#entries.change(cell, { _tag: "Doubted", doubt })
      }, { discard: true }))
  }
}

/** What an answer makes of the credential that is held. */
const merged = ({ answer, basis: { cell }, stored }: Answer): Credential => {
  const { dirty, listed } = cell.entry
  const credential = dirty === "credential" ? cell.entry.credential : stored ?? cell.entry.credential
  const named = listed === undefined ? answer : withListedNames(answer, listed)
  return credential === undefined ? named : credential.renewedBy(named)
}

/**
 * Whether what is stored was issued before a credential that was asked for at `at` (ms), as far as is known: it was confirmed
 * before that, and does not outlast it. Neither would do without the other: the clocks of hosts differ, and a newer token may live
 * shorter.
 */
const isEarlier = ({ credential: stored, state }: StoredEntry, credential: Credential, at: number): boolean =>
  Option.exists(stored, (one) => {
    const confirmed = state.lastConfirmed ?? one.lastRefreshed
    return confirmed !== undefined && DateTime.toEpochMillis(confirmed) <= at &&
      (one.expiresAt === undefined || credential.expiresAt === undefined ||
        DateTime.isLessThan(one.expiresAt, credential.expiresAt))
  })

/** Of two times, the later one. */
const laterOf = (one: DateTime.Utc | undefined, other: DateTime.Utc | undefined): DateTime.Utc | undefined =>
  one === undefined || other === undefined ? one ?? other : DateTime.max(one, other)

/** A state with what was learnt between two others. Of two rate limits the one that lasts longer holds. */
const withChanges = (stored: CredentialState, before: CredentialState, after: CredentialState): CredentialState => {
  const changes = changesOf(before, after)
  return new CredentialState({
    ...stored,
    ...changes,
    ...(changes.coolDownUntil === undefined
      ? {}
      : { coolDownUntil: laterOf(stored.coolDownUntil, changes.coolDownUntil) })
  })
}

const changesOf = (before: CredentialState, after: CredentialState) => ({
  ...(after.blockedSince === before.blockedSince ? {} : { blockedSince: after.blockedSince }),
  ...(after.reauthorizationUrl === before.reauthorizationUrl ? {} : { reauthorizationUrl: after.reauthorizationUrl }),
  ...(after.refusedSince === before.refusedSince ? {} : { refusedSince: after.refusedSince }),
  ...(after.coolDownUntil === before.coolDownUntil ? {} : { coolDownUntil: after.coolDownUntil }),
  ...(after.lastError === before.lastError ? {} : { lastError: after.lastError })
})

/** What others learnt of a credential after it was fetched here, and before it could be saved, still holds. */
const withLaterChanges = (own: CredentialState, stored: CredentialState): CredentialState => {
  const { lastConfirmed } = own
  const { blockedSince, lastError, mayBeBlocked, reauthorizationUrl } = stored
  const isBlockedLater = own.blockedSince === undefined && blockedSince !== undefined &&
    (lastConfirmed === undefined || DateTime.isGreaterThan(blockedSince, lastConfirmed))
  return new CredentialState({
    ...own,
    ...(isBlockedLater ? { blockedSince, reauthorizationUrl, lastError } : {}),
    ...(mayBeBlocked === true ? { mayBeBlocked } : {}),
    coolDownUntil: laterOf(own.coolDownUntil, stored.coolDownUntil)
  })
}

/** Of several changes of one entry, the last: memory follows what is stored now. */
const latestOf = (changes: ReadonlyArray<StorageChange>): Iterable<StorageChange> =>
  new Map(changes.map((change) => [change.id, change])).values()
