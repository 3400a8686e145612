import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type { AdenRequestFailure } from "../errors/AdenError.ts"
import { AmbiguousCredential, CredentialNotFound } from "../errors/CredentialError.ts"
import type { CredentialStorageError, StorageFailure } from "../errors/StorageError.ts"
import type { CredentialRef, CredentialResolution } from "../model/Credential.ts"
import { SingleFlight } from "../util/SingleFlight.ts"
import type { Cell } from "./Cell.ts"
import type { Entries } from "./Entries.ts"
import type { Listed, Listings } from "./Listings.ts"
import { unwrapReason } from "./StricterStorage.ts"
import type { StricterStorage } from "./StricterStorage.ts"

/** How long the index of storage is used for a ref that it lacks before storage is listed again, in ms. */
const indexTtl = 30_000

/** How long a read waits to learn whether what it knows is still the only account that its ref fits. */
const searchTimeout = "1 second"

/** Finds the cell that a ref means: in storage first, then in the providers' lists. */
export class RefResolver {
  readonly #entries: Entries
  readonly #listings: Listings
  readonly #stricter: StricterStorage
  /** How long the index is used without another look at storage, in ms. */
  readonly #timeToLive: number
  readonly #searches = new SingleFlight<CredentialRef, Cell | undefined, StorageFailure | AmbiguousCredential>()

  constructor(options: {
    readonly entries: Entries
    readonly listings: Listings
    readonly stricter: StricterStorage
    readonly timeToLive: number
  }) {
    this.#entries = options.entries
    this.#listings = options.listings
    this.#stricter = options.stricter
    this.#timeToLive = options.timeToLive
  }

  /** The cell that a ref means, stored or listed by a provider. */
  find(ref: CredentialRef) {
    return Effect.flatMap(this.findStored(ref), (stored) =>
      stored === undefined
        ? this.findListed(ref)
        : Effect.flatMap(
          this.#stricter.hear(stored),
          (isThere) => isThere ? Effect.succeed(stored) : this.findListed(ref)
        )).pipe(
        Effect.catchTag("CredentialStorageError", (error) => this.resolveWhileStorageDown(ref, error)),
        Effect.catchTag("CredentialStorageError", (error) => Effect.fail(unwrapReason(error, ref)))
      )
  }

  /**
   * Finds what a ref means, and does something with it. What is found to be gone may have been connected again under another id: a
   * name is looked for once more.
   */
  use<A, E extends { readonly _tag: string }>(ref: CredentialRef, use: (cell: Cell) => Effect.Effect<A, E>) {
    return Effect.flatMap(this.find(ref), (cell) =>
      Effect.catchIf(
        use(cell),
        (error): error is E & CredentialNotFound => error instanceof CredentialNotFound && cell.id !== ref,
        () => Effect.flatMap(this.find(ref), use)
      ))
  }

  /** The cell of what is stored under a ref, or is blocked without being stored. Storage is read once for all who ask. */
  findStored(ref: CredentialRef): Effect.Effect<Cell | undefined, StorageFailure | AmbiguousCredential> {
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const known = this.#known(ref)
      if (ref === "" || known?.id === ref) return Effect.succeed(known)
      if (known === undefined) return this.#searches.run(ref, this.#search(ref))
      // another process may have stored a second account that the ref fits as well
      return this.#entries.accounts.isRecent(this.#timeToLive, now)
        ? Effect.succeed(known)
        : this.#lookAgain(ref, known)
    })
  }

  /** A slow disk does not delay what is in memory: the index is brought up to date behind, and later reads use it. */
  #lookAgain(ref: CredentialRef, known: Cell): Effect.Effect<Cell | undefined, StorageFailure | AmbiguousCredential> {
    const { accounts } = this.#entries
    return Effect.suspend(() => accounts.isUpdating ? Effect.void : Effect.ignore(accounts.update)).pipe(
      Effect.timeoutOption(searchTimeout),
      Effect.flatMap(() =>
        this.#known(ref) === known ? Effect.succeed(known) : this.#searches.run(ref, this.#search(ref))
      )
    )
  }

  /** The same for somebody who only looks: nothing is asked of a provider. */
  peek(ref: CredentialRef): Effect.Effect<Cell | undefined, StorageFailure | AmbiguousCredential> {
    return Effect.suspend(() => {
      const known = this.#known(ref)
      return known === undefined && ref !== "" ? this.#search(ref, { isLook: true }) : Effect.succeed(known)
    })
  }

  /** A cell that belongs to nobody says nothing: what the ref means is looked for again. */
  #known(ref: CredentialRef): Cell | undefined {
    const known = this.#entries.known(ref)
    return known?.entry.held === undefined && known?.entry.providerId === undefined ? undefined : known
  }

  #search(
    ref: CredentialRef,
    options?: { readonly isLook: true }
  ): Effect.Effect<Cell | undefined, StorageFailure | AmbiguousCredential> {
    return Effect.gen({ self: this }, function*() {
      const entries = this.#entries
      const { accounts } = entries
      const now = yield* Clock.currentTimeMillis
      const isIndexed = accounts.isRecent(this.#timeToLive, now)
      if (!isIndexed || accounts.resolve(ref)._tag === "Missing") {
        const exact = entries.cell(ref)
        if ((yield* entries.load(exact)) || exact.entry.isBlocked) return exact
        if (!accounts.isRecent(indexTtl, yield* Clock.currentTimeMillis)) yield* accounts.update
      }
      const id = yield* this.#meaning(ref, options)
      if (id === undefined) return undefined
      const cell = entries.cell(id)
      if (cell.entry.held === undefined && !(yield* entries.load(cell))) return undefined
      if (options?.isLook !== true) entries.bind(ref, id)
      return cell
    })
  }

  /** The id of what is stored under a ref, even if it cannot be opened. */
  storedId(ref: CredentialRef): Effect.Effect<string | undefined, StorageFailure | AmbiguousCredential> {
    return Effect.gen({ self: this }, function*() {
      const found = yield* this.findStored(ref).pipe(
        Effect.catchTag(["CredentialDecryptionFailed", "CredentialStorageError"], () => Effect.succeed(undefined))
      )
      if (found !== undefined) return found.id
      if (yield* this.#entries.storage.exists(ref)) return ref
      yield* this.#entries.accounts.update
      return yield* this.#meaning(ref)
    })
  }

  /** The id of the stored credential that a ref names, by what is stored and what the providers list. */
  #meaning(
    ref: CredentialRef,
    options?: { readonly isLook: true }
  ): Effect.Effect<string | undefined, StorageFailure | AmbiguousCredential> {
    return Effect.gen({ self: this }, function*() {
      const { accounts, providers } = this.#entries
      const stored = accounts.resolve(ref)
      if (stored._tag === "Missing" || (stored._tag === "Found" && stored.id === ref)) {
        return stored._tag === "Found" ? stored.id : undefined
      }
      const isProvider = stored._tag === "Found" && accounts.get(stored.id)?.provider === ref
      const unreadable = isProvider ? accounts.firstUnreadable : undefined
      const all = this.#listings.resolve(ref, accounts)
      const isDisputed = stored._tag === "Ambiguous" || all._tag === "Ambiguous" ||
        (all._tag === "Found" && all.id !== stored.id) ||
        (isProvider && accounts.get(stored.id)?.hasSiblings === true) || unreadable !== undefined
      if (!isDisputed) return stored.id
      if (options?.isLook === true) return yield* idOf(ref, all._tag === "Ambiguous" ? all : stored)
      if (providers.length === 0) return yield* unreadable ?? idOf(ref, stored)
      // a list settles it: what is answered is never another's token
      const listed = yield* Effect.result(this.#listings.update)
      if (Result.isFailure(listed)) return yield* unreadable ?? idOf(ref, stored)
      const settled = this.#listings.resolve(ref, accounts)
      if (settled._tag !== "Found") return yield* idOf(ref, settled._tag === "Missing" ? stored : settled)
      return accounts.has(settled.id) ? settled.id : undefined
    })
  }

  /** The cell that a ref names in the providers' lists. */
  findListed(ref: CredentialRef): Effect.Effect<Cell, AdenRequestFailure | CredentialNotFound | AmbiguousCredential> {
    return Effect.gen({ self: this }, function*() {
      const entries = this.#entries
      if (ref === "" || entries.providers.length === 0) return yield* new CredentialNotFound({ ref })
      const found = yield* this.#listings.find(ref, (listed) => this.#isRenamed(listed))
      if (found._tag === "Ambiguous") return yield* new AmbiguousCredential({ ref, choices: found.choices })
      if (found._tag === "Missing") return yield* new CredentialNotFound({ ref })
      const { account, provider } = found.listed
      const cell = entries.cell(account.id)
      yield* entries.change(cell, { _tag: "Listed", providerId: provider.id, account })
      entries.bind(ref, account.id)
      return cell
    })
  }

  /** Whether an account, which storage does not have under its listed name, was confirmed since it was listed: it is called otherwise. */
  #isRenamed({ account, at }: Listed): boolean {
    const held = this.#entries.get(account.id)?.entry.held
    return held !== undefined && held.confirmedAt > at
  }

  /**
   * The same where storage failed with this error. One file that cannot be read may be the program's own, which is not to be
   * replaced; where nothing can be read at all, what the providers list is better than nothing.
   */
  resolveWhileStorageDown(
    ref: CredentialRef,
    error: CredentialStorageError
  ): Effect.Effect<Cell, CredentialStorageError | AmbiguousCredential> {
    return Effect.gen({ self: this }, function*() {
      const entries = this.#entries
      if (error.reason._tag !== "StorageIoFailed") return yield* error
      if (Exit.isSuccess(yield* Effect.exit(entries.storage.list))) return yield* error
      const cell = yield* this.findListed(ref).pipe(
        Effect.catchIf(
          (failure) => failure._tag !== "AmbiguousCredential",
          () => Effect.fail(error)
        )
      )
      yield* entries.warnOfStorage(error)
      return cell
    })
  }

  /** Finds out whose a blocked integration is that was never fetched: its state record does not say, and the lists do. */
  resolveProvider(cell: Cell): Effect.Effect<void, AdenRequestFailure> {
    return Effect.gen({ self: this }, function*() {
      if (cell.entry.providerId !== undefined || !this.#entries.mayBeRefreshed(cell.entry)) return
      const found = yield* this.#listings.find(cell.id, () => false)
      if (found._tag === "Found" && found.listed.account.id === cell.id) {
        yield* this.#entries.change(cell, { _tag: "ProviderFound", providerId: found.listed.provider.id })
      }
    })
  }

  shutdown(): Effect.Effect<void> {
    return Effect.andThen(this.#searches.shutdown(0), this.#listings.shutdown())
  }
}

const idOf = (
  ref: CredentialRef,
  resolution: CredentialResolution
): Effect.Effect<string | undefined, AmbiguousCredential> => {
  switch (resolution._tag) {
    case "Found":
      return Effect.succeed(resolution.id)
    case "Missing":
      return Effect.succeed(undefined)
    case "Ambiguous":
      return Effect.fail(new AmbiguousCredential({ ref, choices: resolution.choices }))
  }
}
