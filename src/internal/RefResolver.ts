import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { resolveRef } from "../Credential.ts"
import type { CredentialRef, ProviderAccount } from "../Credential.ts"
import { AmbiguousCredential, CredentialNotFound, RateLimited } from "../CredentialError.ts"
import type { AdenRequestFailure, StorageFailure } from "../CredentialError.ts"
import type { CredentialProvider } from "../CredentialProvider.ts"
import type { CredentialEntry } from "./CredentialEntry.ts"
import type { CredentialTable } from "./CredentialTable.ts"
import { PolicyClock } from "./PolicyClock.ts"
import { SingleFlight } from "./SingleFlight.ts"

/** How long the index of storage is used for a ref that it lacks before it is derived anew, in ms. */
const indexTtl = 30_000

type ListedAccount = { readonly provider: CredentialProvider; readonly account: ProviderAccount }

/** The providers' lists, as answered `at` this time; what they lack counts as missing until `missingUntil`. */
interface Listing {
  readonly at: number
  readonly missingUntil: number
  readonly accounts: ReadonlyArray<ListedAccount>
}

/** Finds the entry that a ref means: in storage first, then in the providers' lists. */
export class RefResolver {
  readonly #table: CredentialTable
  /** How long a list is remembered, in ms. */
  readonly #listTtl: number
  readonly #searches = new SingleFlight<
    CredentialRef,
    CredentialEntry | undefined,
    StorageFailure | AmbiguousCredential
  >()
  readonly #listings = new SingleFlight<"list", ReadonlyArray<ListedAccount>, AdenRequestFailure>()
  readonly #coolDownUntil = new Map<CredentialProvider, number>()
  readonly #missing: PolicyClock
  #listing: Listing | undefined = undefined

  constructor(table: CredentialTable, listTtl: number) {
    this.#table = table
    this.#listTtl = listTtl
    this.#missing = new PolicyClock(table.policies.missing)
  }

  /**
   * The entry in storage that a ref names, or one that is known to be blocked without being stored. Storage is read once for
   * all who ask meanwhile.
   */
  findStored(ref: CredentialRef): Effect.Effect<CredentialEntry | undefined, StorageFailure | AmbiguousCredential> {
    return Effect.suspend(() => {
      const known = this.#table.known(ref)
      // an empty entry that belongs to nobody says nothing: what the ref means is to be found anew
      const isFound = known !== undefined && (known.credential !== undefined || known.provider !== undefined)
      if (isFound || ref === "") return Effect.succeed(known)
      return this.#searches.run(ref, this.#search(ref))
    })
  }

  readonly #search = Effect.fnUntraced(function*(
    this: RefResolver,
    ref: CredentialRef
  ): Effect.fn.Return<CredentialEntry | undefined, StorageFailure | AmbiguousCredential> {
    const table = this.#table
    const exact = table.get(ref) ?? table.newEntry(ref)
    if ((yield* table.load(exact)) || exact.state.blockedSince !== undefined) return table.keep(exact)
    const id = yield* this.#resolveStored(ref)
    if (id === undefined) return undefined
    const entry = table.get(id) ?? table.newEntry(id)
    if (entry.credential === undefined && !(yield* table.load(entry))) return undefined
    const kept = table.keep(entry)
    table.bind(ref, kept)
    return kept
  })

  /** The id of what is stored under a ref, even if it cannot be opened. */
  readonly storedId = Effect.fnUntraced(function*(
    this: RefResolver,
    ref: CredentialRef
  ): Effect.fn.Return<string | undefined, StorageFailure | AmbiguousCredential> {
    const known = this.#table.known(ref)
    if (known?.credential !== undefined || known?.provider !== undefined) return known.id
    return (yield* this.#table.storage.exists(ref)) ? ref : yield* this.#resolveStored(ref)
  })

  readonly #resolveStored = Effect.fnUntraced(function*(
    this: RefResolver,
    ref: CredentialRef
  ): Effect.fn.Return<string | undefined, StorageFailure | AmbiguousCredential> {
    const { accounts, unknown } = yield* this.#table.accounts(indexTtl)
    const resolution = resolveRef(ref, accounts.values())
    if (resolution._tag === "Ambiguous") return yield* new AmbiguousCredential({ ref, choices: resolution.choices })
    if (resolution._tag === "Missing") return undefined
    const isProvider = accounts.get(resolution.id)?.provider === ref
    const [unreadable] = unknown.values()
    if (!isProvider || unreadable === undefined) return resolution.id
    // It may be another account of the same provider, as the lists can tell. Nobody is answered another's token.
    const listed = resolveListed(ref, yield* Effect.orElseSucceed(this.#recentList, () => []))
    if (listed._tag === "Ambiguous") return yield* new AmbiguousCredential({ ref, choices: listed.choices })
    return listed._tag === "Found" ? listed.account.id : yield* unreadable
  })

  /** The entry that a ref names in the providers' lists. What a remembered list lacks is looked for in a new one, not often. */
  readonly findListed = Effect.fnUntraced(function*(
    this: RefResolver,
    ref: CredentialRef
  ): Effect.fn.Return<CredentialEntry, AdenRequestFailure | CredentialNotFound | AmbiguousCredential> {
    if (ref === "" || this.#table.providers.length === 0) return yield* new CredentialNotFound({ ref })
    const now = yield* Clock.currentTimeMillis
    const remembered = this.#listing !== undefined && now - this.#listing.at <= this.#listTtl
      ? this.#listing
      : undefined
    let found = resolveListed(ref, remembered?.accounts ?? [])
    if (found._tag === "Missing" && (remembered === undefined || now >= remembered.missingUntil)) {
      found = resolveListed(ref, yield* this.list)
    }
    if (found._tag === "Ambiguous") return yield* new AmbiguousCredential({ ref, choices: found.choices })
    if (found._tag === "Missing") return yield* new CredentialNotFound({ ref })
    const entry = this.#table.entry(found.account.id)
    // Somebody may have stored a credential of that id meanwhile, which need not be the provider's.
    if (entry.credential === undefined) {
      entry.provider ??= found.provider
      entry.listed = found.account
    }
    this.#table.bind(ref, entry)
    return entry
  })

  /** What was listed lately, or is now. */
  get #recentList(): Effect.Effect<ReadonlyArray<ListedAccount>, AdenRequestFailure> {
    return Effect.flatMap(
      Clock.currentTimeMillis,
      (now) =>
        this.#listing !== undefined && now - this.#listing.at <= this.#listTtl
          ? Effect.succeed(this.#listing.accounts)
          : this.list
    )
  }

  /** Asks every provider for its list now, once for all who ask meanwhile; never before a rate limit on it has ended. */
  get list(): Effect.Effect<ReadonlyArray<ListedAccount>, AdenRequestFailure> {
    return this.#listings.run(
      "list",
      Effect.flatMap(
        Effect.forEach(
          this.#table.providers,
          (provider) =>
            Effect.map(this.listOf(provider), ({ accounts }) => accounts.map((account) => ({ provider, account })))
        ),
        (lists) => this.#remember(lists.flat())
      )
    )
  }

  /** Asks one provider for its list, unless it asked not to be asked. */
  listOf(provider: CredentialProvider): CredentialProvider["list"] {
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const left = (this.#coolDownUntil.get(provider) ?? -Infinity) - now
      return left > 0
        ? Effect.fail(new RateLimited({ retryAfter: Duration.millis(left) }))
        : Effect.tapErrorTag(
          provider.list,
          "RateLimited",
          (error) =>
            Effect.map(
              Clock.currentTimeMillis,
              (now) => this.#coolDownUntil.set(provider, now + Duration.toMillis(error.retryAfter))
            )
        )
    })
  }

  /** Accounts came or went: the next ref that storage lacks is looked for in a new list. */
  forgetList(): void {
    this.#listing = undefined
  }

  shutdown(): Effect.Effect<void> {
    return Effect.andThen(this.#searches.shutdown(0), this.#listings.shutdown(0))
  }

  readonly #remember = Effect.fnUntraced(function*(this: RefResolver, accounts: ReadonlyArray<ListedAccount>) {
    const at = yield* Clock.currentTimeMillis
    this.#listing = { at, accounts, missingUntil: yield* this.#missing.until(at, { _tag: "Missing" }) }
    return accounts
  })
}

const resolveListed = (ref: CredentialRef, listed: ReadonlyArray<ListedAccount>) => {
  const resolution = resolveRef(ref, listed.map(({ account }) => account))
  if (resolution._tag !== "Found") return resolution
  const found = listed.find(({ account }) => account.id === resolution.id)
  return found === undefined ? { _tag: "Missing" as const } : { _tag: "Found" as const, ...found }
}
