import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import { CredentialStorageError } from "../errors/StorageError.ts"
import type { StorageFailure } from "../errors/StorageError.ts"
import type { Credential, CredentialAccount, CredentialRef } from "../model/Credential.ts"
import type { CredentialEvent } from "../model/CredentialEvent.ts"
import type { CredentialState } from "../model/CredentialState.ts"
import { ProviderDecorator } from "../providers/CredentialProvider.ts"
import type { CredentialProvider } from "../providers/CredentialProvider.ts"
import type { CredentialStorage } from "../storage/CredentialStorage.ts"
import { Broadcast } from "../util/Broadcast.ts"
import { logWarning } from "../util/logging.ts"
import { SparseMap, SparseSet } from "../util/sparse.ts"
import { Accounts } from "./Accounts.ts"
import { bounded, programTimeout } from "./boundedStorage.ts"
import { Cell } from "./Cell.ts"
import { checkedProvider, checkedStorage } from "./checkedAnswers.ts"
import type { Circumstances } from "./core/decide.ts"
import type { Entry } from "./core/Entry.ts"
import type { EntryEvent, Taken } from "./core/transition.ts"
import { transition } from "./core/transition.ts"
import { takingOver } from "./dates.ts"
import { observed } from "./observedStorage.ts"
import type { StorageObserver } from "./observedStorage.ts"
import type { RefreshPolicies } from "./RefreshPolicy.ts"

/** A smaller change of a provider's clock, in ms, is not told apart: `Date` counts in seconds. */
const clockResolution = 1_000

/** Those who do not keep up miss the oldest events. */
const pubSubOfEvents = PubSub.sliding<CredentialEvent>(1_000)

/** How many empty cells are kept. */
const vacantCapacity = 256

/** The memory of a store: the cells of credentials, what refs mean, and the index of accounts. They change in one step. */
export class Entries {
  readonly storage: CredentialStorage["Service"]
  /** The same for what the program saves and deletes: it waits longer for its turn. */
  readonly programStorage: CredentialStorage["Service"]
  readonly providers: ReadonlyArray<CredentialProvider>
  readonly policies: RefreshPolicies
  readonly accounts: Accounts
  /** How long a token is served that Aden does not confirm, in ms. */
  readonly maxStale: number
  readonly #cells = new Map<string, Cell>()
  /** The cells of which nothing is known, the oldest first. */
  readonly #vacant = new SparseSet<Cell>()
  /** What refs that are not ids were found to mean, until an account of that name comes, goes or is renamed. */
  readonly #meanings = new SparseMap<CredentialRef, string>()
  /** The events from now on. */
  readonly events = new Broadcast(pubSubOfEvents)
  #isStorageWarned = false
  /** What the last write failed with, of whatever entry: a disk that takes none concerns them all. */
  #unwritable: CredentialStorageError | undefined = undefined
  /** Counts the changes to what refs mean: what was found under an older version has to be looked for again. */
  version = 0

  constructor(options: {
    readonly storage: CredentialStorage["Service"]
    readonly providers: ReadonlyArray<CredentialProvider>
    readonly policies: RefreshPolicies
    readonly maxStale: number
  }) {
    const observer: StorageObserver = {
      read: (id, error) => this.#observe(id, { _tag: "StorageRead", error }),
      written: (id, error) => {
        this.#observe(id, { _tag: "StorageWritten", error })
        if (error === undefined || error.reason._tag === "StorageIoFailed") this.#unwritable = error
      }
    }
    this.storage = observed(checkedStorage(bounded(options.storage)), observer)
    this.programStorage = observed(checkedStorage(bounded(options.storage, programTimeout)), observer)
    this.providers = options.providers.map((provider) =>
      new WatchedProvider(checkedProvider(provider), (id) => this.#onClock(id))
    )
    this.policies = options.policies
    this.maxStale = options.maxStale
    this.accounts = new Accounts({
      storage: this.storage,
      providerOf: (credential) => this.providerOf(credential),
      isUnsaved: (id) => this.#cells.get(id)?.entry.dirty === "credential",
      onNamed: (before, after) => this.#forgetNames(before, after)
    })
  }

  shutdown(): Effect.Effect<void> {
    return Effect.andThen(this.accounts.shutdown(), this.events.shutdown())
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Cells and refs
  // -------------------------------------------------------------------------------------------------------------------

  /** The cell that a ref is known to mean, without any I/O. */
  known(ref: CredentialRef): Cell | undefined {
    const exact = this.#cells.get(ref)
    if (exact?.entry.isVacant === false) return exact
    const id = this.#meanings.get(ref)
    return id === undefined ? undefined : this.#cells.get(id)
  }

  get(id: string): Cell | undefined {
    return this.#cells.get(id)
  }

  get cells(): Iterable<Cell> {
    return this.#cells.values()
  }

  /** The cell of this id, an empty one if need be. */
  cell(id: string): Cell {
    const present = this.#cells.get(id)
    if (present !== undefined) return present
    const made = new Cell(id, this.policies)
    this.#cells.set(id, made)
    this.#noteVacant(made)
    return made
  }

  /** Empty cells are kept while they may be in use, not for ever: refs that name nothing do not fill the memory. */
  #noteVacant(cell: Cell): void {
    this.#vacant.add(cell)
    const [oldest] = this.#vacant
    if (this.#vacant.size <= vacantCapacity || oldest === undefined) return
    this.#vacant.delete(oldest)
    if (this.#cells.get(oldest.id) === oldest) this.#cells.delete(oldest.id)
  }

  bind(ref: CredentialRef, id: string): void {
    if (ref === id || this.#meanings.get(ref) === id) return
    this.#meanings.set(ref, id)
    this.version++
  }

  /**
   * Refs that may mean another account now are looked for again; all others stay known. One that Aden had listed no more, and confirms
   * again, has its names again.
   */
  #forgetNames(before: CredentialAccount | undefined, after: CredentialAccount | undefined): void {
    const present = refsOf(after)
    let hasChanged = before?.provider !== after?.provider || before?.alias !== after?.alias ||
      (before === undefined) !== (after === undefined)
    for (const ref of [...refsOf(before), ...present]) {
      const isStillIts = after !== undefined && present.includes(ref) && this.#meanings.get(ref) === after.id
      if (!isStillIts && this.#meanings.delete(ref)) hasChanged = true
    }
    if (hasChanged) this.version++
  }

  /** A provider's list is another than before. */
  forgetMeanings(): void {
    this.#meanings.clear()
    this.version++
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Changes
  // -------------------------------------------------------------------------------------------------------------------

  /** One step: the entry, the index and what reads may serve change together. */
  change(cell: Cell, event: EntryEvent): Effect.Effect<Entry> {
    return Effect.map(Clock.currentTimeMillis, (now) => this.#apply(cell, event, now))
  }

  #apply(cell: Cell, event: EntryEvent, now: number): Entry {
    const { id } = cell
    const before = cell.entry
    const after = transition(before, event, now)
    if (after === before) return after
    cell.put(after)
    if (after.isVacant !== before.isVacant || !this.#cells.has(id)) {
      this.version++
      const displaced = this.#cells.get(id)
      if (displaced !== undefined) this.#vacant.delete(displaced)
      this.#cells.set(id, cell)
      if (after.isVacant) this.#noteVacant(cell)
      else this.#vacant.delete(cell)
    }
    if (after.credential !== undefined && after.held !== before.held) {
      this.accounts.keep(after.credential, after.state)
    } else if (after.credential === undefined && (before.credential !== undefined || event._tag === "Removed")) {
      this.accounts.delete(id)
    }
    return after
  }

  /** How storage fares with an entry is part of what is known of it, and changes nothing for reads. */
  #observe(id: string, event: Extract<EntryEvent, { readonly _tag: "StorageRead" | "StorageWritten" }>): void {
    const cell = this.#cells.get(id)
    if (cell?.entry.isVacant === false) cell.note(transition(cell.entry, event, cell.entry.at))
  }

  publish(event: CredentialEvent): Effect.Effect<void> {
    return this.events.publish(event)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Providers and dates
  // -------------------------------------------------------------------------------------------------------------------

  /** The provider that renews a credential. One marked as Aden's without naming its provider is taken by the only provider. */
  providerOf(credential: Credential): CredentialProvider | undefined {
    return this.providers.find((provider) =>
      provider.canHandle(credential) && (credential.providerId !== undefined || this.providers.length === 1)
    )
  }

  /** The provider that is asked for an entry. */
  providerFor({ providerId }: Entry): CredentialProvider | undefined {
    return providerId === undefined ? undefined : this.providers.find(({ id }) => id === providerId)
  }

  /** Whether a provider renews the entry. One that is blocked and was never fetched may be any provider's. */
  mayBeRefreshed({ held, isBlocked, providerId }: Entry): boolean {
    return providerId !== undefined || (held === undefined && isBlocked && this.providers.length > 0)
  }

  /** What a decision about an entry depends on now. */
  circumstances(entry: Entry): Effect.Effect<Circumstances> {
    return this.#circumstances(this.providerFor(entry))
  }

  /** The same for a credential that was just answered. */
  circumstancesOf(credential: Credential): Effect.Effect<Circumstances> {
    return this.#circumstances(this.providerOf(credential))
  }

  #circumstances(provider: CredentialProvider | undefined): Effect.Effect<Circumstances> {
    return Effect.gen({ self: this }, function*() {
      const clockOffset = provider === undefined ? 0 : yield* provider.clockOffset
      return { now: yield* Clock.currentTimeMillis, clockOffset, maxStale: this.maxStale }
    })
  }

  /** A credential that is taken over, with its provider, and its dates by the policies. */
  taking(cell: Cell, credential: Credential, state: CredentialState): Effect.Effect<Taken> {
    return Effect.gen({ self: this }, function*() {
      const provider = this.providerOf(credential)
      const { clockOffset, now } = yield* this.#circumstances(provider)
      return yield* takingOver(cell, { credential, state, provider, now, clockOffset })
    })
  }

  /** A provider has another idea of its clock: a token may have expired by what was learnt from an answer about another. */
  #onClock(providerId: string): void {
    for (const cell of this.#cells.values()) {
      if (cell.entry.providerId === providerId) cell.reconsider()
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Storage
  // -------------------------------------------------------------------------------------------------------------------

  /** Memory follows storage: reads an entry, and answers whether there is a credential. */
  load(cell: Cell): Effect.Effect<boolean, StorageFailure> {
    return Effect.gen({ self: this }, function*() {
      while (true) {
        const { held, revision, saved, state: known } = cell.entry
        const isCurrent = () =>
          cell.entry.revision === revision && cell.entry.saved === saved && cell.entry.held === held &&
          cell.entry.state === known
        const { credential, state } = yield* this.storage.read(cell.id)
        // what was read is older than what this process saved, or learnt, in that time
        if (!isCurrent()) continue
        const found = Option.isSome(credential) ? yield* this.taking(cell, credential.value, state) : undefined
        const recheckAt = yield* this.#recheckAfter(cell, state)
        if (!isCurrent()) continue
        const [sole, ...others] = this.providers
        const soleProviderId = others.length === 0 ? sole?.id : undefined
        const entry = yield* this.change(cell, { _tag: "Loaded", state, found, soleProviderId, recheckAt })
        return entry.held !== undefined
      }
    })
  }

  /** When a credential that storage says is blocked is checked first: at once, if a clock that was wrong wrote since when. */
  #recheckAfter(cell: Cell, { blockedSince }: CredentialState): Effect.Effect<number> {
    return Effect.gen({ self: this }, function*() {
      if (blockedSince === undefined || cell.entry.isBlocked) return -Infinity
      const since = DateTime.toEpochMillis(blockedSince)
      return (yield* Clock.currentTimeMillis) < since
        ? -Infinity
        : yield* cell.step("recheck").until(since, { _tag: "Blocked" })
    })
  }

  /** The entry as it is to be served: one that is in doubt is read again, and served as it is where that cannot be done. */
  settled(cell: Cell): Effect.Effect<void, StorageFailure> {
    return Effect.gen({ self: this }, function*() {
      const { doubt } = cell.entry
      if (doubt === undefined) return
      yield* doubt === "delete" ? this.load(cell) : this.orElseWhenStorageFails(this.load(cell), false)
    })
  }

  /** What storage fails with for an entry: while it is not saved or cannot be read, or nothing can be written. */
  storageErrorOf({ dirty, unreadable, unwritable }: Entry): CredentialStorageError | undefined {
    return (dirty === undefined ? undefined : unwritable) ?? unreadable ?? this.#unwritable
  }

  /** A disk that fails must not keep a token from the program: a warning is logged once, and memory goes on. */
  orElseWhenStorageFails<A, E>(self: Effect.Effect<A, E>, fallback: A) {
    return self.pipe(
      Effect.catchIf(
        (error: E): error is E & CredentialStorageError => error instanceof CredentialStorageError,
        (error) => Effect.as(this.warnOfStorage(error), fallback)
      )
    )
  }

  /** Logs that storage fails, once until a write succeeds: that a full disk can be read says nothing. */
  warnOfStorage(error: CredentialStorageError): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#isStorageWarned) return Effect.void
      this.#isStorageWarned = true
      return logWarning("Credential storage fails; credentials are kept in memory").pipe(
        Effect.annotateLogs({ reason: error.message })
      )
    })
  }

  storageWorks(): void {
    this.#isStorageWarned = false
  }
}

/** A provider that tells after an answer when it has another idea of its clock than before. */
class WatchedProvider extends ProviderDecorator {
  readonly #onClock: (providerId: string) => void
  #known = 0

  constructor(inner: CredentialProvider, onClock: (providerId: string) => void) {
    super(inner)
    this.#onClock = onClock
  }

  #noting<A, E>(answer: Effect.Effect<A, E>) {
    return Effect.onExit(answer, () =>
      Effect.map(this.clockOffset, (offset) => {
        if (Math.abs(offset - this.#known) < clockResolution) return
        this.#known = offset
        this.#onClock(this.id)
      }))
  }

  override refresh(credential: Credential) {
    return this.#noting(this.inner.refresh(credential))
  }

  override validate(credential: { readonly id: string }) {
    return this.#noting(this.inner.validate(credential))
  }

  override fetch(id: string) {
    return this.#noting(this.inner.fetch(id))
  }

  override get list() {
    return this.#noting(this.inner.list)
  }
}

/** The names by which an account may be meant. */
const refsOf = (account: CredentialAccount | undefined): ReadonlyArray<CredentialRef> => {
  if (account?.provider === undefined) return []
  const { alias, provider } = account
  return alias === undefined ? [provider] : [provider, `${provider}:${alias}`]
}
