import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { CredentialStorageError, StorageFailure } from "../errors/StorageError.ts"
import { accountOf, resolveRef } from "../model/Credential.ts"
import type { Credential, CredentialAccount, CredentialRef, CredentialResolution } from "../model/Credential.ts"
import { CredentialState } from "../model/CredentialState.ts"
import { isWithin } from "../model/freshness.ts"
import type { CredentialProvider } from "../providers/CredentialProvider.ts"
import type { CredentialStorage } from "../storage/CredentialStorage.ts"
import { logWarning } from "../util/logging.ts"
import { SingleFlight } from "../util/SingleFlight.ts"
import { SparseMap, SparseSet } from "../util/sparse.ts"

/** How many stored credentials are read at a time to build the index. */
const concurrency = 16

/** The account of a stored credential. */
export interface StoredName extends CredentialAccount {
  /** The provider that renews it, as far as is known. */
  readonly providerId: string | undefined
  /** When Aden confirmed the names, in ms, as far as is known. A list of a later time knows better. */
  readonly confirmedAt: number
  /** Whether Aden listed further accounts of the same provider when it was last confirmed. */
  readonly hasSiblings: boolean
}

/**
 * The index: whose the stored credentials are, by id. It is derived from storage, built once by a flight that belongs to no caller,
 * and kept up from then on with each commit and with each change that storage tells of.
 */
export class Accounts {
  readonly #storage: CredentialStorage["Service"]
  readonly #names = new Map<string, StoredName>()
  /** What is wrong with those that cannot be opened and could be anybody's. */
  readonly #unreadable = new SparseMap<string, StorageFailure>()
  /** Those that storage told of, and that have not been read since. */
  readonly #changed = new SparseSet<string>()
  /** Those that were kept up while storage is being read: what was read of them is older. */
  #keptUp: Set<string> | undefined = undefined
  /** When storage was last listed, in ms. */
  #listedAt = -Infinity
  readonly #reading = new SingleFlight<"index", void, CredentialStorageError>()
  readonly #providerOf: (credential: Credential) => CredentialProvider | undefined
  /** What storage did not take is not in its list, and stays known. */
  readonly #isUnsaved: (id: string) => boolean
  /** Called when an account came, went, was renamed, or confirmed under the name that it had. */
  readonly #onNamed: (before: CredentialAccount | undefined, after: CredentialAccount | undefined) => void

  constructor(options: {
    readonly storage: CredentialStorage["Service"]
    readonly providerOf: (credential: Credential) => CredentialProvider | undefined
    readonly isUnsaved: (id: string) => boolean
    readonly onNamed: (before: CredentialAccount | undefined, after: CredentialAccount | undefined) => void
  }) {
    this.#storage = options.storage
    this.#providerOf = options.providerOf
    this.#isUnsaved = options.isUnsaved
    this.#onNamed = options.onNamed
  }

  get isBuilt(): boolean {
    return this.#listedAt !== -Infinity
  }

  /** Whether storage was listed at most so long ago, in ms, and all that it told of since was read. */
  isRecent(maximumAge: number, now: number): boolean {
    return !this.isBehind && isWithin(maximumAge, this.#listedAt, now)
  }

  /** Whether storage told of entries that have not been read since: any of them may be a second account of a name. */
  get isBehind(): boolean {
    return this.#changed.size > 0
  }

  get isUpdating(): boolean {
    return this.#reading.has("index")
  }

  has(id: string): boolean {
    return this.#names.has(id) || this.#unreadable.has(id)
  }

  get(id: string): StoredName | undefined {
    return this.#names.get(id)
  }

  get names(): Iterable<StoredName> {
    return this.#names.values()
  }

  /** What is wrong with the first stored entry of which it is not known whose it is. */
  get firstUnreadable(): StorageFailure | undefined {
    const [first] = this.#unreadable.values()
    return first
  }

  resolve(ref: CredentialRef): CredentialResolution {
    return resolveRef(ref, this.#names.values())
  }

  /** This credential is stored, or will be. */
  keep(credential: Credential, state: CredentialState): void {
    this.#set(storedName(credential, state, this.#providerOf(credential)))
  }

  #set(name: StoredName): void {
    this.#keptUp?.add(name.id)
    this.#changed.delete(name.id)
    this.#unreadable.delete(name.id)
    const before = this.#names.get(name.id)
    this.#names.set(name.id, name)
    this.#onNamed(before, name)
  }

  delete(id: string): void {
    this.#keptUp?.add(id)
    this.#changed.delete(id)
    this.#unreadable.delete(id)
    const before = this.#names.get(id)
    if (this.#names.delete(id) && before !== undefined) this.#onNamed(before, undefined)
  }

  /** Storage tells that another process changed an entry that is not in memory. */
  noteChange(id: string): void {
    this.#changed.add(id)
  }

  /**
   * Storage is listed, and what was not read before, or has changed, is read: once for all who wait, and to the end although
   * nobody waits any more.
   */
  readonly update: Effect.Effect<void, CredentialStorageError> = Effect.suspend(() =>
    this.#reading.run("index", this.#read())
  )

  shutdown(): Effect.Effect<void> {
    return this.#reading.shutdown(0)
  }

  #read() {
    return Effect.gen({ self: this }, function*() {
      const at = yield* Clock.currentTimeMillis
      const keptUp = new Set<string>()
      this.#keptUp = keptUp
      const changed = new Set(this.#changed)
      this.#changed.clear()
      yield* Effect.onError(this.#readAll({ changed, keptUp }), () =>
        Effect.sync(() => {
          for (const id of changed) this.#changed.add(id)
        }))
      this.#listedAt = at
    })
  }

  #readAll({ changed, keptUp }: { readonly changed: ReadonlySet<string>; readonly keptUp: ReadonlySet<string> }) {
    return Effect.gen({ self: this }, function*() {
      const ids = yield* this.#storage.list
      const found = new Set(ids)
      for (const id of [...this.#names.keys(), ...this.#unreadable.keys()]) {
        if (!found.has(id) && !keptUp.has(id) && !this.#isUnsaved(id)) this.delete(id)
      }
      yield* Effect.forEach(
        ids.filter((id) => changed.has(id) || !this.#names.has(id)),
        (id) => this.#readOne(id, keptUp),
        { concurrency, discard: true }
      )
    })
  }

  #readOne(id: string, keptUp: ReadonlySet<string>) {
    return Effect.gen({ self: this }, function*() {
      const outcome = yield* Effect.result(this.#storage.read(id))
      const error = Result.getFailure(outcome)
      const state = Option.isSome(error) ? yield* this.#stateOfUnreadable(id, error.value) : undefined
      if (keptUp.has(id)) return
      if (Result.isSuccess(outcome)) {
        const { credential, state } = outcome.success
        if (Option.isSome(credential)) this.keep(credential.value, state)
        else this.delete(id)
      } else if (state?.account !== undefined) {
        this.#set({
          id,
          provider: state.account.provider,
          alias: state.account.alias,
          providerId: undefined,
          confirmedAt: -Infinity,
          hasSiblings: state.hasSiblings === true
        })
      } else if (state !== undefined) this.#unreadable.set(id, outcome.failure)
    })
  }

  /** One that cannot be opened keeps no other from being found, and is not overlooked: it may be what a ref means. */
  #stateOfUnreadable(id: string, error: StorageFailure) {
    return Effect.gen({ self: this }, function*() {
      yield* logWarning("A stored credential cannot be opened").pipe(
        Effect.annotateLogs({ reason: error.message })
      )
      // a link in the place of a file is not a credential
      if (error._tag === "CredentialStorageError" && error.reason._tag === "StorageInsecure") return undefined
      return yield* Effect.orElseSucceed(this.#storage.loadState(id), () => CredentialState.initial)
    })
  }
}

/** The name of a stored credential. */
const storedName = (
  credential: Credential,
  state: CredentialState,
  provider: CredentialProvider | undefined
): StoredName => {
  const confirmed = state.lastConfirmed ?? credential.lastRefreshed
  const { alias, id, provider: name } = accountOf(credential)
  // written out: each object that begins with a spread would keep a hidden class of its own
  return {
    id,
    provider: name,
    alias,
    providerId: provider?.id,
    confirmedAt: confirmed === undefined ? -Infinity : DateTime.toEpochMillis(confirmed),
    hasSiblings: state.hasSiblings === true
  }
}
