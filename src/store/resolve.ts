import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { RateLimited } from "../errors/AdenError.ts"
import type { AdenRequestFailure } from "../errors/AdenError.ts"
import { AmbiguousCredential, CredentialNotFound } from "../errors/CredentialError.ts"
import type { CredentialStorageError, StorageFailure } from "../errors/StorageError.ts"
import { resolveRef } from "../model/Credential.ts"
import type { CredentialRef, ProviderAccount } from "../model/Credential.ts"
import { isWithin } from "../model/freshness.ts"
import { contradictionOf } from "../providers/CredentialProvider.ts"
import type { CredentialProvider } from "../providers/CredentialProvider.ts"
import { SingleFlight } from "../util/SingleFlight.ts"
import type { CredentialEntry } from "./CredentialEntry.ts"
import type { Entries } from "./Entries.ts"
import { PolicyStep } from "./PolicyStep.ts"

/** How long the index of storage is used for a ref that it lacks before it is derived anew, in ms. */
const indexTtl = 30_000

/** How long a read waits to learn whether what it knows is still the only account that its ref fits. */
const searchTimeout = "1 second"

type ListItem = { readonly provider: CredentialProvider; readonly account: ProviderAccount }

/** A provider's list, as answered `at` this time; what it lacks counts as missing until `missingUntil`. */
interface Listing {
  readonly at: number
  readonly missingUntil: number
  readonly accounts: ReadonlyArray<ListItem>
  /** Whether it may lack some. */
  readonly isIncomplete: boolean
}

/** Finds the entry that a ref means: in storage first, then in the providers' lists. */
export class RefResolver {
  readonly #entries: Entries
  /** How long a list is remembered, in ms. */
  readonly #listTtl: number
  readonly #searches = new SingleFlight<
    CredentialRef,
    CredentialEntry | undefined,
    StorageFailure | AmbiguousCredential
  >()
  /** The refs for which storage is searched longer than anybody waited. */
  readonly #slow = new Set<CredentialRef>()
  readonly #questions = new SingleFlight<CredentialProvider, Listing, AdenRequestFailure>()
  readonly #coolDowns = new Map<CredentialProvider, { readonly since: number; readonly until: number }>()
  readonly #missing = new Map<CredentialProvider, PolicyStep>()
  /** What each provider listed last. */
  readonly #listings = new Map<CredentialProvider, Listing>()

  constructor(entries: Entries, listTtl: number) {
    this.#entries = entries
    this.#listTtl = listTtl
    for (const provider of entries.providers) this.#missing.set(provider, new PolicyStep(entries.policies.missing))
  }

  /**
   * The entry in storage that a ref names, or one that is known to be blocked without being stored. Storage is read once for
   * all who ask meanwhile.
   */
  findStored(ref: CredentialRef): Effect.Effect<CredentialEntry | undefined, StorageFailure | AmbiguousCredential> {
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const known = this.#known(ref)
      if (ref === "" || known?.id === ref) return Effect.succeed(known)
      if (known === undefined) return this.#searches.run(ref, this.#search(ref))
      // another process may have stored a second account that the ref fits as well
      return isWithin(this.#listTtl, this.#entries.indexedAt, now)
        ? Effect.succeed(known)
        : this.#searchedAgain(ref, known)
    })
  }

  /** A slow disk keeps nobody waiting for what is at hand: the search goes on behind, and whoever asks later gets its answer. */
  #searchedAgain(
    ref: CredentialRef,
    known: CredentialEntry
  ): Effect.Effect<CredentialEntry | undefined, StorageFailure | AmbiguousCredential> {
    return Effect.suspend(() => {
      if (this.#searches.has(ref) && this.#slow.has(ref)) return Effect.succeed(known)
      this.#slow.delete(ref)
      const search = this.#searchAgain(ref, known)
      return Effect.andThen(this.#searches.start(ref, search), this.#searches.run(ref, search)).pipe(
        Effect.timeoutOrElse({
          duration: searchTimeout,
          orElse: () => {
            this.#slow.add(ref)
            return Effect.succeed(known)
          }
        })
      )
    })
  }

  /** The same for somebody who only looks: nobody is asked whether the ref could mean another account. */
  peek(ref: CredentialRef): Effect.Effect<CredentialEntry | undefined, StorageFailure | AmbiguousCredential> {
    return Effect.suspend(() => {
      const known = this.#known(ref)
      return known === undefined && ref !== "" ? this.#search(ref, { isLook: true }) : Effect.succeed(known)
    })
  }

  /** An empty entry that belongs to nobody says nothing: what the ref means is to be found anew. */
  #known(ref: CredentialRef): CredentialEntry | undefined {
    const known = this.#entries.known(ref)
    return known?.credential === undefined && known?.provider === undefined ? undefined : known
  }

  readonly #searchAgain = Effect.fnUntraced(function*(
    this: RefResolver,
    ref: CredentialRef,
    known: CredentialEntry
  ): Effect.fn.Return<CredentialEntry | undefined, StorageFailure | AmbiguousCredential> {
    const entries = this.#entries
    const stored = yield* entries.orElseWhenStorageFails(Effect.asSome(entries.accountsNow()), Option.none())
    if (Option.isNone(stored)) return known
    const resolution = resolveRef(ref, stored.value.accounts.values())
    if (resolution._tag !== "Missing" && !(resolution._tag === "Found" && resolution.id === known.id)) {
      return yield* this.#search(ref)
    }
    entries.bind(ref, known)
    return known
  })

  readonly #search = Effect.fnUntraced(function*(
    this: RefResolver,
    ref: CredentialRef,
    options?: { readonly isLook: true }
  ): Effect.fn.Return<CredentialEntry | undefined, StorageFailure | AmbiguousCredential> {
    const entries = this.#entries
    const exact = entries.get(ref) ?? entries.newEntry(ref)
    if ((yield* entries.load(exact)) || exact.state.blockedSince !== undefined) return entries.keep(exact)
    const id = yield* this.#resolveStored(ref, options)
    if (id === undefined) return undefined
    const entry = entries.get(id) ?? entries.newEntry(id)
    if (entry.credential === undefined && !(yield* entries.load(entry))) return undefined
    const kept = entries.keep(entry)
    if (options?.isLook !== true) entries.bind(ref, kept)
    return kept
  })

  /** The id of what is stored under a ref, even if it cannot be opened. */
  readonly storedId = Effect.fnUntraced(function*(
    this: RefResolver,
    ref: CredentialRef
  ): Effect.fn.Return<string | undefined, StorageFailure | AmbiguousCredential> {
    const found = yield* this.findStored(ref).pipe(
      Effect.catchTag(["CredentialDecryptionFailed", "CredentialStorageError"], () => Effect.succeed(undefined))
    )
    if (found !== undefined) return found.id
    return (yield* this.#entries.storage.exists(ref)) ? ref : yield* this.#resolveStored(ref)
  })

  readonly #resolveStored = Effect.fnUntraced(function*(
    this: RefResolver,
    ref: CredentialRef,
    options?: { readonly isLook: true }
  ): Effect.fn.Return<string | undefined, StorageFailure | AmbiguousCredential> {
    const { accounts, unknown } = yield* this.#entries.accounts(indexTtl)
    const resolution = resolveRef(ref, accounts.values())
    if (resolution._tag === "Ambiguous") return yield* new AmbiguousCredential({ ref, choices: resolution.choices })
    if (resolution._tag === "Missing") return undefined
    const isProvider = accounts.get(resolution.id)?.provider === ref
    const [unreadable] = unknown.values()
    if (!isProvider || unreadable === undefined || options?.isLook === true) return resolution.id
    // It may be another account of the same provider, as the lists can tell. Nobody is answered another's token.
    const list = this.#entries.providers.length === 0 ? Option.none() : yield* Effect.option(this.#recentList)
    if (Option.isNone(list)) return yield* unreadable
    const listed = resolveListed(ref, list.value)
    if (listed._tag === "Ambiguous") return yield* new AmbiguousCredential({ ref, choices: listed.choices })
    return listed._tag === "Found" ? listed.account.id : resolution.id
  })

  /** The entry that a ref names in the providers' lists. What a remembered list lacks is looked for in a new one, not often. */
  readonly findListed = Effect.fnUntraced(function*(
    this: RefResolver,
    ref: CredentialRef
  ): Effect.fn.Return<CredentialEntry, AdenRequestFailure | CredentialNotFound | AmbiguousCredential> {
    if (ref === "" || this.#entries.providers.length === 0) return yield* new CredentialNotFound({ ref })
    let found = resolveListed(ref, this.#remembered(yield* Clock.currentTimeMillis) ?? [])
    const isRenamed = found._tag === "Found" && this.#isOutdated(found)
    if (isRenamed) this.forgetList()
    if (isRenamed || found._tag === "Missing") found = resolveListed(ref, yield* this.#newerLists)
    if (found._tag === "Ambiguous") return yield* new AmbiguousCredential({ ref, choices: found.choices })
    if (found._tag === "Missing") return yield* new CredentialNotFound({ ref })
    const entry = this.#entries.entry(found.account.id)
    // Somebody may have stored a credential of that id meanwhile, which need not be the provider's.
    if (entry.credential === undefined) {
      entry.provider ??= found.provider
      entry.listed = found.account
    }
    this.#entries.bind(ref, entry)
    return entry
  })

  /** Whether an account, which storage does not have under its listed name, was confirmed since it was listed: it is called otherwise now. */
  #isOutdated({ account, provider }: ListItem): boolean {
    const entry = this.#entries.get(account.id)
    const listedAt = this.#listings.get(provider)?.at ?? -Infinity
    return entry?.credential !== undefined && entry.confirmedAt > listedAt
  }

  /**
   * The same where storage failed with this error. One file that cannot be read may be the program's own, which is nobody's
   * to replace; where nothing can be read at all, what the providers list is better than nothing.
   */
  readonly resolveWhileStorageDown = Effect.fnUntraced(function*(
    this: RefResolver,
    ref: CredentialRef,
    error: CredentialStorageError
  ): Effect.fn.Return<CredentialEntry, CredentialStorageError | AmbiguousCredential> {
    const entries = this.#entries
    if (error.reason._tag !== "StorageIoFailed") return yield* error
    if (Exit.isSuccess(yield* Effect.exit(entries.storage.list))) return yield* error
    const entry = yield* this.findListed(ref).pipe(
      Effect.catchIf(
        (failure) => failure._tag !== "AmbiguousCredential",
        () => Effect.fail(error)
      )
    )
    yield* entries.orElseWhenStorageFails(Effect.fail(error), undefined)
    return entry
  })

  /**
   * Finds out whose a blocked integration is that was never fetched: what is remembered of it does not say, and where there are
   * several providers, their lists do.
   */
  readonly resolveProvider = Effect.fnUntraced(function*(
    this: RefResolver,
    entry: CredentialEntry
  ): Effect.fn.Return<void, AdenRequestFailure> {
    if (entry.provider !== undefined || !this.#entries.mayBeRefreshed(entry)) return
    const found = resolveListed(entry.id, yield* this.#newerLists)
    if (found._tag === "Found" && found.account.id === entry.id) entry.provider ??= found.provider
  })

  /** What was listed lately, or is now. */
  get #recentList(): Effect.Effect<ReadonlyArray<ListItem>, AdenRequestFailure> {
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const remembered = this.#remembered(now)
      return remembered === undefined ? this.#newerLists : Effect.succeed(remembered)
    })
  }

  /** What all providers listed lately; `undefined` unless it is known of each. */
  #remembered(now: number): ReadonlyArray<ListItem> | undefined {
    const listings = this.#entries.providers.map((provider) => this.#recent(provider, now))
    return listings.every((listing) => listing !== undefined)
      ? listings.flatMap(({ accounts }) => accounts)
      : undefined
  }

  #recent(provider: CredentialProvider, now: number): Listing | undefined {
    const listing = this.#listings.get(provider)
    return listing !== undefined && isWithin(this.#listTtl, listing.at, now) ? listing : undefined
  }

  /** Lists in which to look for what the remembered ones lack. A provider that was asked a moment ago is not asked again. */
  get #newerLists(): Effect.Effect<ReadonlyArray<ListItem>, AdenRequestFailure> {
    return Effect.flatMap(Clock.currentTimeMillis, (now) =>
      Effect.map(
        Effect.forEach(this.#entries.providers, (provider) => {
          const listing = this.#recent(provider, now)
          return listing !== undefined && now < listing.missingUntil
            ? Effect.succeed(listing)
            : this.#listing(provider)
        }),
        (listings) => listings.flatMap(({ accounts }) => accounts)
      ))
  }

  /** Fails unless the list of a provider, asked for now, lacks the integration for certain. */
  confirmAbsence(provider: CredentialProvider, id: string): Effect.Effect<void, AdenRequestFailure> {
    return Effect.flatMap(this.#listing(provider), ({ accounts, isIncomplete }) => {
      const isListed = accounts.some(({ account }) => account.id === id)
      const contradiction = contradictionOf(id, { isListed, isIncomplete })
      return contradiction === undefined ? Effect.void : Effect.fail(contradiction)
    })
  }

  /** Asks a provider for its list now, once for all who ask meanwhile; never before a rate limit on it has ended. */
  #listing(provider: CredentialProvider): Effect.Effect<Listing, AdenRequestFailure> {
    return this.#questions.run(
      provider,
      Effect.flatMap(
        this.listOf(provider),
        ({ accounts, isIncomplete = false }) =>
          this.#remember(provider, accounts.map((account) => ({ provider, account })), isIncomplete)
      )
    )
  }

  /** Asks one provider for its list, unless it asked not to be asked. */
  listOf(provider: CredentialProvider): CredentialProvider["list"] {
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const { until, since } = this.#coolDowns.get(provider) ?? { until: -Infinity, since: -Infinity }
      const left = until - now
      return left > 0 && since <= now
        ? Effect.fail(new RateLimited({ retryAfter: Duration.millis(left) }))
        : Effect.tapErrorTag(
          provider.list,
          "RateLimited",
          (error) =>
            Effect.map(
              Clock.currentTimeMillis,
              (since) => this.#coolDowns.set(provider, { since, until: since + Duration.toMillis(error.retryAfter) })
            )
        )
    })
  }

  /** Accounts came or went: the next ref that storage lacks is looked for in a new list. */
  forgetList(): void {
    this.#listings.clear()
  }

  shutdown(): Effect.Effect<void> {
    return Effect.andThen(this.#searches.shutdown(0), this.#questions.shutdown(0))
  }

  readonly #remember = Effect.fnUntraced(function*(
    this: RefResolver,
    provider: CredentialProvider,
    accounts: ReadonlyArray<ListItem>,
    isIncomplete: boolean
  ) {
    const at = yield* Clock.currentTimeMillis
    const missingUntil = yield* this.#missing.get(provider)?.until(at, { _tag: "Missing" }) ?? Effect.succeed(at)
    const listing: Listing = { at, accounts, isIncomplete, missingUntil }
    this.#listings.set(provider, listing)
    return listing
  })
}

const resolveListed = (ref: CredentialRef, listed: ReadonlyArray<ListItem>) => {
  const resolution = resolveRef(ref, listed.map(({ account }) => account))
  if (resolution._tag !== "Found") return resolution
  const found = listed.find(({ account }) => account.id === resolution.id)
  return found === undefined ? { _tag: "Missing" as const } : { _tag: "Found" as const, ...found }
}
