import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import type * as Scope from "effect/Scope"
import { CredentialStorageError } from "../errors/StorageError.ts"
import type { StorageFailure } from "../errors/StorageError.ts"
import { accountOf } from "../model/Credential.ts"
import type { Credential, CredentialAccount, CredentialRef } from "../model/Credential.ts"
import type { CredentialEvent } from "../model/CredentialEvent.ts"
import { CredentialState } from "../model/CredentialState.ts"
import { isWithin, localExpiry } from "../model/freshness.ts"
import type { CredentialProvider } from "../providers/CredentialProvider.ts"
import type { CredentialStorage } from "../storage/CredentialStorage.ts"
import { checkedProvider, checkedStorage } from "./checkedAnswers.ts"
import type { CredentialSource } from "./CredentialEntry.ts"
import { CredentialEntry } from "./CredentialEntry.ts"
import { observed } from "./observedStorage.ts"
import type { RefreshPolicies } from "./RefreshPolicy.ts"

/** A smaller change of a provider's clock, in ms, is not told apart: `Date` counts in seconds. */
const clockResolution = 1_000

/** How many stored credentials are read at a time to derive the index. */
const indexConcurrency = 16

/** What rests in storage, as it was read `at` this time. */
interface AccountIndex {
  readonly at: number
  /** Also those that cannot be opened, where it is remembered whose they are. */
  readonly accounts: Map<string, CredentialAccount>
  /** What is wrong with those that cannot be opened and could be anybody's. */
  readonly unknown: Map<string, StorageFailure>
}

/**
 * The memory of a store, in step with its storage: the entries, what refs were found to mean, and the index of accounts, which is
 * derived from storage and so survives a restart.
 */
export class Entries {
  readonly storage: CredentialStorage["Service"]
  readonly providers: ReadonlyArray<CredentialProvider>
  readonly policies: RefreshPolicies
  readonly events: PubSub.PubSub<CredentialEvent>
  /** The ids of entries that have another token, or of which an event tells. */
  readonly changedIds: PubSub.PubSub<string>
  readonly #byId = new Map<string, CredentialEntry>()
  /** What refs that are no ids were found to mean; forgotten whenever an account comes, goes or changes its name. */
  readonly #byRef = new Map<CredentialRef, CredentialEntry>()
  #index: AccountIndex | undefined = undefined
  #isStorageWarned = false
  /** What the last write failed with, of whatever entry: a disk that takes none concerns them all. */
  #unwritable: CredentialStorageError | undefined = undefined
  #questions = 0
  /** Counts the changes to what refs mean: what was found under an older version has to be looked for again. */
  version = 0

  constructor(options: {
    readonly storage: CredentialStorage["Service"]
    readonly providers: ReadonlyArray<CredentialProvider>
    readonly policies: RefreshPolicies
    readonly events: PubSub.PubSub<CredentialEvent>
    readonly changedIds: PubSub.PubSub<string>
  }) {
    this.storage = observed(checkedStorage(options.storage), {
      read: (id, error) => {
        const entry = this.#byId.get(id)
        if (entry !== undefined) entry.unreadable = error
      },
      written: (id, error) => {
        const entry = this.#byId.get(id)
        if (entry !== undefined) entry.unwritable = error
        if (error === undefined || error.reason._tag === "StorageIoFailed") this.#unwritable = error
      }
    })
    this.providers = options.providers.map((provider) => this.#watchingClock(checkedProvider(provider)))
    this.policies = options.policies
    this.events = options.events
    this.changedIds = options.changedIds
  }

  static make(options: {
    readonly storage: CredentialStorage["Service"]
    readonly providers: ReadonlyArray<CredentialProvider>
    readonly policies: RefreshPolicies
  }): Effect.Effect<Entries, never, Scope.Scope> {
    return Effect.zipWith(
      Effect.acquireRelease(PubSub.sliding<CredentialEvent>(1_000), PubSub.shutdown),
      Effect.acquireRelease(PubSub.sliding<string>(1_000), PubSub.shutdown),
      (events, changedIds) => new Entries({ ...options, events, changedIds })
    )
  }

  publish(event: CredentialEvent): Effect.Effect<void> {
    return Effect.andThen(PubSub.publish(this.events, event), this.wakeFollowers(event.id))
  }

  /** Who follows the credential looks at it. */
  wakeFollowers(id: string): Effect.Effect<void> {
    return PubSub.publish(this.changedIds, id)
  }

  /** The place of a new question among all that this process asks: a later one has a higher place. */
  nextQuestion(): number {
    return ++this.#questions
  }

  /** The entry that a ref is known to mean, without any I/O. */
  known(ref: CredentialRef): CredentialEntry | undefined {
    return this.#byId.get(ref) ?? this.#byRef.get(ref)
  }

  get(id: string): CredentialEntry | undefined {
    return this.#byId.get(id)
  }

  /** The entry of this id, an empty one if need be. */
  entry(id: string): CredentialEntry {
    return this.keep(this.#byId.get(id) ?? this.newEntry(id))
  }

  /** An empty entry that is not in memory yet. */
  newEntry(id: string): CredentialEntry {
    return new CredentialEntry(id, this.policies)
  }

  /** Takes an entry into memory. The first of an id wins; those who read it meanwhile use the same one. */
  keep(entry: CredentialEntry): CredentialEntry {
    const present = this.#byId.get(entry.id)
    if (present !== undefined) return present
    this.#byId.set(entry.id, entry)
    this.version++
    return entry
  }

  bind(ref: CredentialRef, entry: CredentialEntry): void {
    this.#byRef.set(ref, entry)
    this.version++
  }

  /** The provider that renews a credential. One marked as Aden's without naming its provider is taken by the only provider. */
  providerOf(credential: Credential): CredentialProvider | undefined {
    return this.providers.find((provider) =>
      provider.canHandle(credential) && (credential.providerId !== undefined || this.providers.length === 1)
    )
  }

  /** When a credential, at hand or just answered, expires, by the clock of the provider that answered it. */
  readonly expiryOf = Effect.fnUntraced(function*(this: Entries, credential: Credential) {
    const provider = this.providerOf(credential)
    return localExpiry(credential, provider === undefined ? 0 : yield* provider.clockOffset)
  })

  /** Whether a provider renews the entry. Of one that is blocked and was never fetched some provider does, not known yet which. */
  mayBeRefreshed({ credential, provider, state }: CredentialEntry): boolean {
    return provider !== undefined ||
      (credential === undefined && state.blockedSince !== undefined && this.providers.length > 0)
  }

  /**
   * The provider, after each answer of which all its entries are measured anew if it has another idea of its clock: a token
   * may have run out by what was learnt from an answer about another.
   */
  #watchingClock(provider: CredentialProvider): CredentialProvider {
    let known = 0
    const noteClock = Effect.gen({ self: this }, function*() {
      const offset = yield* provider.clockOffset
      if (Math.abs(offset - known) < clockResolution) return
      known = offset
      for (const entry of this.#byId.values()) {
        if (entry.provider?.id === provider.id) yield* entry.recomputeDeadlines()
      }
    })
    const noting = <A, E>(answer: Effect.Effect<A, E>) => Effect.onExit(answer, () => noteClock)
    return {
      id: provider.id,
      supportedTypes: provider.supportedTypes,
      refreshBuffer: provider.refreshBuffer,
      clockOffset: provider.clockOffset,
      canHandle: (credential) => provider.canHandle(credential),
      shouldRefresh: (credential) => provider.shouldRefresh(credential),
      refresh: (credential) => noting(provider.refresh(credential)),
      validate: (credential) => noting(provider.validate(credential)),
      fetch: (id) => noting(provider.fetch(id)),
      list: noting(provider.list),
      syncStream: provider.syncStream
    }
  }

  readonly remember = Effect.fnUntraced(function*(this: Entries, entry: CredentialEntry, options: {
    readonly credential: Credential
    readonly state: CredentialState
    readonly source: CredentialSource
  }) {
    const before = this.#index?.accounts.get(entry.id)
    const isNewToken = entry.credential?.holdsTokenOf(options.credential) !== true
    yield* entry.adopt({
      ...options,
      provider: this.providerOf(options.credential),
      now: yield* Clock.currentTimeMillis
    })
    yield* entry.recomputeDeadlines()
    const account = accountOf(options.credential)
    this.#index?.accounts.set(entry.id, account)
    this.#index?.unknown.delete(entry.id)
    if (before?.provider !== account.provider || before?.alias !== account.alias) this.#forgetRefs()
    if (isNewToken) yield* this.wakeFollowers(entry.id)
  })

  /** Reads the entry from storage into memory; false when there is none. What a failing disk did not take is left alone. */
  readonly load = Effect.fnUntraced(function*(
    this: Entries,
    entry: CredentialEntry
  ): Effect.fn.Return<boolean, StorageFailure> {
    if (entry.isDirty) return true
    const { credential: stored, state: remembered } = yield* this.storage.read(entry.id)
    const newer = newerState(entry, remembered)
    entry.isStateDirty = newer === entry.state && entry.isStateDirty
    const state = stillLimited(newer, entry.state)
    if (Option.isSome(stored)) yield* this.remember(entry, { credential: stored.value, state, source: "storage" })
    else {
      const wasOwn = entry.credential !== undefined && entry.provider === undefined
      if (entry.credential !== undefined) entry.clear()
      yield* entry.adoptState(state, yield* Clock.currentTimeMillis)
      // another process deleted the program's own: what its ref means now is to be found anew
      if (wasOwn) this.forget(entry.id)
      // what is remembered of an integration that was never fetched does not say whose it is
      if (state.blockedSince !== undefined && this.providers.length === 1) entry.provider ??= this.providers[0]
    }
    return Option.isSome(stored)
  })

  readonly patchState = Effect.fnUntraced(function*(
    this: Entries,
    entry: CredentialEntry,
    patch: Partial<{ [K in keyof CredentialState]: CredentialState[K] }>
  ) {
    const { epoch, state: before } = entry
    entry.state = new CredentialState({ ...before, ...patch })
    // Another process may have written what is not known here: it is kept.
    const stored = yield* this.orElseWhenStorageFails(this.storage.loadState(entry.id), before)
    if (entry.epoch !== epoch) return
    const state = new CredentialState({ ...newerState(entry, stored, before), ...patch })
    // What belongs to a credential that is not the one at hand, or to none, is for storage alone.
    if (stored.generation === before.generation) entry.state = state
    const isSaved = yield* this.orElseWhenWriteFails(Effect.as(this.storage.saveState(entry.id, state), true), false)
    if (entry.epoch === epoch) entry.isStateDirty = !isSaved
  })

  /** Drops the entry here and in storage; `false` when somebody saved it since it was asked about under this generation. */
  readonly remove = Effect.fnUntraced(function*(this: Entries, entry: CredentialEntry, generation: number) {
    const expectedGeneration = entry.isDirty ? entry.state.generation : generation
    const isDeleted = yield* this.orElseWhenWriteFails(this.storage.delete(entry.id, { expectedGeneration }), true)
    if (!isDeleted) {
      entry.isDirty = false
      if (yield* Effect.orElseSucceed(this.load(entry), () => false)) return false
    }
    this.forget(entry.id)
    yield* this.publish({ _tag: "Removed", id: entry.id })
    return true
  })

  /** What storage fails with for an entry: while it is not saved or cannot be read, or nothing can be written. */
  storageErrorOf(entry: CredentialEntry): CredentialStorageError | undefined {
    const unsaved = entry.isDirty || entry.isStateDirty ? entry.unwritable : undefined
    return unsaved ?? entry.unreadable ?? this.#unwritable
  }

  /** The entry of this id was changed by the program while it was being written, or by others: memory follows storage. */
  readonly follow = Effect.fnUntraced(function*(this: Entries, id: string) {
    const entry = this.#byId.get(id)
    if (entry === undefined) return
    let saved = entry.saved
    let isThere = yield* this.load(entry)
    // what was read is older than what was saved here meanwhile
    while (entry.saved !== saved) {
      saved = entry.saved
      isThere = yield* this.load(entry)
    }
    const { blockedSince, coolDownUntil } = entry.state
    const isKnown = isThere || blockedSince !== undefined || coolDownUntil !== undefined
    if (!isKnown && this.#byId.get(id) === entry) this.forget(id)
  }, (effect) => Effect.ignore(effect))

  forget(id: string): void {
    this.#byId.get(id)?.clear()
    this.#byId.delete(id)
    this.#index?.accounts.delete(id)
    this.#index?.unknown.delete(id)
    this.#forgetRefs()
  }

  #forgetRefs(): void {
    this.#byRef.clear()
    this.version++
  }

  /** When the accounts in storage were last looked through. */
  get indexedAt(): number {
    return this.#index?.at ?? -Infinity
  }

  /** The accounts in storage, read again when they were read longer ago than `maximumAge` ms. */
  readonly accounts = Effect.fnUntraced(function*(
    this: Entries,
    maximumAge: number
  ): Effect.fn.Return<AccountIndex, CredentialStorageError> {
    const at = yield* Clock.currentTimeMillis
    return this.#index !== undefined && isWithin(maximumAge, this.#index.at, at)
      ? this.#index
      : yield* this.#readIndex(at, new Map())
  })

  /** The accounts in storage, of which only those are read that were not there before. */
  readonly accountsNow = Effect.fnUntraced(function*(
    this: Entries
  ): Effect.fn.Return<AccountIndex, CredentialStorageError> {
    return yield* this.#readIndex(yield* Clock.currentTimeMillis, this.#index?.accounts ?? new Map())
  })

  readonly #readIndex = Effect.fnUntraced(function*(
    this: Entries,
    at: number,
    known: ReadonlyMap<string, CredentialAccount>
  ): Effect.fn.Return<AccountIndex, CredentialStorageError> {
    const index: AccountIndex = { at, accounts: new Map(), unknown: new Map() }
    const ids = yield* this.storage.list
    for (const id of ids) {
      const account = known.get(id)
      if (account !== undefined) index.accounts.set(id, account)
    }
    yield* Effect.forEach(ids.filter((id) => !known.has(id)), (id) =>
      this.storage.load(id).pipe(
        Effect.map(Option.map((credential) => index.accounts.set(id, accountOf(credential)))),
        Effect.catch((error) => this.#noteUnreadable(index, id, error))
      ), { concurrency: indexConcurrency, discard: true })
    this.#index = index
    this.#forgetRefs()
    return index
  })

  /** One that cannot be opened keeps no other from being found, and is not overlooked: it may be what a ref means. */
  readonly #noteUnreadable = Effect.fnUntraced(function*(
    this: Entries,
    { accounts, unknown }: AccountIndex,
    id: string,
    error: StorageFailure
  ) {
    yield* Effect.logWarning("A stored credential cannot be opened").pipe(
      Effect.annotateLogs({ reason: error.message })
    )
    // a link in the place of a file is nobody's credential
    if (error._tag === "CredentialStorageError" && error.reason._tag === "StorageInsecure") return
    const { account } = yield* Effect.orElseSucceed(this.storage.loadState(id), () => CredentialState.initial)
    if (account === undefined) unknown.set(id, error)
    else accounts.set(id, { id, provider: account.provider, alias: account.alias })
  })

  /** A disk that fails must not keep a token from the program: a warning is logged once, and memory goes on. */
  orElseWhenStorageFails<A, E>(self: Effect.Effect<A, E>, fallback: A) {
    return self.pipe(
      Effect.catchIf(
        (error: E): error is E & CredentialStorageError => error instanceof CredentialStorageError,
        (error) => {
          const isFirst = !this.#isStorageWarned
          this.#isStorageWarned = true
          return Effect.as(
            isFirst
              ? Effect.logWarning("Credential storage fails; credentials are kept in memory").pipe(
                Effect.annotateLogs({ reason: error.message })
              )
              : Effect.void,
            fallback
          )
        }
      )
    )
  }

  /** The same for a write, after which a failure is told again: that a full disk can be read says nothing. */
  orElseWhenWriteFails<A, E>(self: Effect.Effect<A, E>, fallback: A) {
    return this.orElseWhenStorageFails(
      Effect.tap(self, () => Effect.sync(() => this.#isStorageWarned = false)),
      fallback
    )
  }
}

/** What is remembered of an entry: as stored, unless what is in memory could not be saved and nobody saved meanwhile. */
const newerState = (entry: CredentialEntry, stored: CredentialState, inMemory = entry.state): CredentialState =>
  (entry.isDirty || entry.isStateDirty) && stored.generation === inMemory.generation ? inMemory : stored

/** A rate limit holds to its end, even if another process deleted what is stored. */
const stillLimited = (state: CredentialState, { coolDownUntil }: CredentialState): CredentialState =>
  coolDownUntil === undefined ||
    (state.coolDownUntil !== undefined && DateTime.isGreaterThanOrEqualTo(state.coolDownUntil, coolDownUntil))
    ? state
    : new CredentialState({ ...state, coolDownUntil })
