import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { RateLimited } from "../errors/AdenError.ts"
import type { AdenRequestFailure } from "../errors/AdenError.ts"
import { isNamed, resolveRef } from "../model/Credential.ts"
import type { CredentialAccount, CredentialRef, CredentialResolution, ProviderAccount } from "../model/Credential.ts"
import { isWithin } from "../model/freshness.ts"
import { contradictionOf } from "../providers/CredentialProvider.ts"
import type { CredentialProvider, ProviderList } from "../providers/CredentialProvider.ts"
import { SingleFlight } from "../util/SingleFlight.ts"
import { SparseMap } from "../util/sparse.ts"
import type { Accounts, StoredName } from "./Accounts.ts"
import { PolicyStep, sharedStep } from "./PolicyStep.ts"
import type { RefreshPolicy } from "./RefreshPolicy.ts"

/** How long a name that one provider lists waits for the lists of others, in which it could be ambiguous. */
const othersTimeout = "1 second"

/** How many refs are remembered as missing in the list of one provider. */
const missingCapacity = 1_000

/** A ref that a provider's list lacked at a time, in ms: a new list is asked for it from `until` on. */
interface Missing {
  readonly step: PolicyStep
  readonly at: number
  readonly until: number
}

/** A listed integration, and who lists it. */
export interface Listed {
  readonly provider: CredentialProvider
  readonly account: ProviderAccount
  /** When it was listed, in ms. */
  readonly at: number
}

/** A provider's list, as answered `at` this time. */
export interface Listing {
  /** How old it counts as. */
  readonly at: number
  /** When it was answered. */
  readonly answeredAt: number
  /** By id. */
  readonly accounts: ReadonlyMap<string, ProviderAccount>
  /** The id of the only account of each name; `undefined` of a name that several have. */
  readonly soleOf: ReadonlyMap<string | undefined, string | undefined>
  readonly answer: ProviderList
}

/** The providers' lists, as they were last answered, and the refs that they lack. */
export class Listings {
  readonly #providers: ReadonlyArray<CredentialProvider>
  readonly #missingPolicy: RefreshPolicy
  /** How long a list is remembered, in ms. */
  readonly #timeToLive: number
  readonly #onListed: () => void
  readonly #questions = new SingleFlight<CredentialProvider, Listing, AdenRequestFailure>()
  readonly #coolDowns = new SparseMap<CredentialProvider, { readonly since: number; readonly until: number }>()
  readonly #listings = new SparseMap<CredentialProvider, Listing>()
  /** The refs that each provider's list lacks. One that is down has no say in how often another is asked. */
  readonly #missing = new SparseMap<CredentialProvider, Map<CredentialRef, Missing>>()

  constructor(options: {
    readonly providers: ReadonlyArray<CredentialProvider>
    readonly missing: RefreshPolicy
    readonly timeToLive: number
    /** Called when a list is another than the one before: what refs mean may have changed. */
    readonly onListed: () => void
  }) {
    this.#providers = options.providers
    this.#missingPolicy = options.missing
    this.#timeToLive = options.timeToLive
    this.#onListed = options.onListed
  }

  /** Accounts came or went: the next ref that storage lacks is looked for in a new list. */
  expire(): void {
    this.#missing.clear()
    for (const [provider, listing] of this.#listings) this.#listings.set(provider, { ...listing, at: -Infinity })
  }

  /**
   * What a ref means by the last lists, whatever their age, and by what is stored: of two names the newer one counts. What a newer list
   * of its provider lacks has no name.
   */
  resolve(ref: CredentialRef, stored: Accounts): CredentialResolution {
    const ids = new Set<string>()
    for (const name of stored.names) if (isNamed(ref, name)) ids.add(name.id)
    for (const { account } of this.#listed(ref)) ids.add(account.id)
    return resolveRef(ref, Array.from(ids, (id) => this.#named(id, stored.get(id))).filter((one) => one !== undefined))
  }

  /** An account by the newest that is known of its name. */
  #named(id: string, stored: StoredName | undefined): CredentialAccount | undefined {
    const known = stored === undefined || this.#isUnlisted(stored) ? undefined : stored
    let named: CredentialAccount | undefined = known
    let newest = known?.confirmedAt ?? -Infinity
    for (const { accounts, at } of this.#listings.values()) {
      const listed = accounts.get(id)
      if (listed === undefined || at < newest) continue
      named = listed
      newest = at
    }
    return named
  }

  #isUnlisted({ confirmedAt, id, providerId }: StoredName): boolean {
    for (const [provider, { accounts, answer, at }] of this.#listings) {
      if (provider.id !== providerId) continue
      return at > confirmedAt && answer.isIncomplete !== true && answer.malformed.length === 0 && !accounts.has(id)
    }
    return false
  }

  /** Whether a provider listed further accounts of the same name; `undefined` where there is no list. */
  hasSiblings({ id, provider }: CredentialAccount): boolean | undefined {
    if (this.#listings.size === 0) return undefined
    for (const { soleOf } of this.#listings.values()) {
      if (soleOf.has(provider) && soleOf.get(provider) !== id) return true
    }
    return false
  }

  /** Whether every provider has been listed, at most so long ago that it counts. */
  isRecent(now: number): boolean {
    return this.#providers.every((provider) => this.#recent(provider, now) !== undefined)
  }

  #recent(provider: CredentialProvider, now: number): Listing | undefined {
    const listing = this.#listings.get(provider)
    return listing !== undefined && isWithin(this.#timeToLive, listing.at, now) ? listing : undefined
  }

  /** All lists are there, those that are too old asked for. */
  readonly update: Effect.Effect<void, AdenRequestFailure> = Effect.suspend(() =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      Effect.forEach(this.#providers, (provider) => {
        const listing = this.#recent(provider, now)
        return listing === undefined ? this.ask(provider) : Effect.succeed(listing)
      }, {
        concurrency: "unbounded",
        discard: true
      }))
  )

  /**
   * Finds a ref in the lists. What the remembered ones lack is looked for in new ones, unless it was missing in them a moment ago. A
   * provider that is down, or slow, does not hold up a ref that another one lists.
   */
  find(
    ref: CredentialRef,
    isOutdated: (listed: Listed) => boolean
  ): Effect.Effect<ListedResolution, AdenRequestFailure> {
    return Effect.gen({ self: this }, function*() {
      const now = yield* Clock.currentTimeMillis
      const remembered = this.isRecent(now) ? resolveListed(ref, this.#listed(ref)) : missing
      const isRenamed = remembered._tag === "Found" && isOutdated(remembered.listed)
      return remembered._tag === "Missing" || isRenamed ? yield* this.#findNow(ref, isRenamed) : remembered
    })
  }

  #findNow(ref: CredentialRef, isRenamed: boolean): Effect.Effect<ListedResolution, AdenRequestFailure> {
    return Effect.gen({ self: this }, function*() {
      const listed: Array<Listed> = []
      const failures: Array<AdenRequestFailure> = []
      const found = yield* Latch.make(false)
      const all = Effect.forEach(
        this.#providers,
        (provider) =>
          Effect.match(isRenamed ? this.ask(provider) : this.#askFor(provider, ref), {
            onFailure: (error) => {
              failures.push(error)
            },
            onSuccess: (listing) => {
              const named = listedAs(ref, provider, listing)
              listed.push(...named)
              if (named.length > 0) found.openUnsafe()
            }
          }),
        { concurrency: "unbounded", discard: true }
      )
      yield* Effect.raceFirst(all, Effect.andThen(found.await, Effect.sleep(othersTimeout)))
      const resolution = resolveListed(ref, listed)
      const [failure] = failures
      return resolution._tag === "Missing" && failure !== undefined ? yield* failure : resolution
    })
  }

  /** A list that has the ref, or in which it was missed a moment ago. */
  #askFor(provider: CredentialProvider, ref: CredentialRef): Effect.Effect<Listing, AdenRequestFailure> {
    return Effect.gen({ self: this }, function*() {
      const now = yield* Clock.currentTimeMillis
      const known = this.#listings.get(provider)
      if (known !== undefined && (yield* this.#isCurrentFor(provider, ref, known, now))) return known
      const listing = yield* this.ask(provider)
      if (!lists(listing, ref)) {
        yield* this.#noteMissing(provider, ref, listing.at)
      } else this.#missing.get(provider)?.delete(ref)
      return listing
    })
  }

  #isCurrentFor(provider: CredentialProvider, ref: CredentialRef, listing: Listing, now: number) {
    return Effect.gen({ self: this }, function*() {
      const isRecent = isWithin(this.#timeToLive, listing.at, now)
      if (lists(listing, ref)) return isRecent
      const known = this.#missing.get(provider)?.get(ref)
      if (known !== undefined) return isStillMissing(known, now)
      if (!isRecent) return false
      if (isStillMissing(yield* this.#noteMissing(provider, ref, listing.at), now)) return true
      // the policy begins with the list that is asked for now
      this.#missing.get(provider)?.delete(ref)
      return false
    })
  }

  #noteMissing(provider: CredentialProvider, ref: CredentialRef, at: number): Effect.Effect<Missing> {
    return Effect.gen({ self: this }, function*() {
      const refs = this.#missing.get(provider) ?? new Map<CredentialRef, Missing>()
      this.#missing.set(provider, refs)
      const step = sharedStep(this.#missingPolicy) ?? refs.get(ref)?.step ?? new PolicyStep(this.#missingPolicy)
      const missed = { step, at, until: yield* step.until(at, { _tag: "Missing" }) }
      refs.delete(ref)
      refs.set(ref, missed)
      const [oldest] = refs.keys()
      if (refs.size > missingCapacity && oldest !== undefined) refs.delete(oldest)
      return missed
    })
  }

  /** What the last lists call so. */
  #listed(ref: CredentialRef): ReadonlyArray<Listed> {
    return Array.from(this.#listings).flatMap(([provider, listing]) => listedAs(ref, provider, listing))
  }

  /** Fails unless the list of a provider, asked for now, lacks the integration for certain. */
  confirmAbsence(provider: CredentialProvider, id: string): Effect.Effect<void, AdenRequestFailure> {
    return Effect.flatMap(this.ask(provider), ({ accounts, answer: { isIncomplete = false } }) => {
      const isListed = accounts.has(id)
      const contradiction = contradictionOf(id, { isListed, isIncomplete })
      return contradiction === undefined ? Effect.void : Effect.fail(contradiction)
    })
  }

  /** Asks a provider for its list now, once for all who ask in that time; never before a rate limit on it has ended. */
  ask(provider: CredentialProvider): Effect.Effect<Listing, AdenRequestFailure> {
    return this.#questions.run(provider, this.#list(provider))
  }

  #list(provider: CredentialProvider): Effect.Effect<Listing, AdenRequestFailure> {
    return Effect.gen({ self: this }, function*() {
      const now = yield* Clock.currentTimeMillis
      const { since, until } = this.#coolDowns.get(provider) ?? { until: -Infinity, since: -Infinity }
      if (until > now && since <= now) return yield* new RateLimited({ retryAfter: Duration.millis(until - now) })
      const answer = yield* Effect.tapErrorTag(provider.list, "RateLimited", (error) =>
        Effect.map(
          Clock.currentTimeMillis,
          (since) => this.#coolDowns.set(provider, { since, until: since + Duration.toMillis(error.retryAfter) })
        ))
      const at = yield* Clock.currentTimeMillis
      const accounts = new Map(answer.accounts.map((account) => [account.id, account]))
      const listing: Listing = { at, answeredAt: at, accounts, soleOf: soleIds(answer.accounts), answer }
      const before = this.#listings.get(provider)
      this.#listings.set(provider, listing)
      if (namesOf(before) !== namesOf(listing)) this.#onListed()
      return listing
    })
  }

  shutdown(): Effect.Effect<void> {
    return this.#questions.shutdown(0)
  }
}

export type ListedResolution =
  | { readonly _tag: "Found"; readonly listed: Listed }
  | Exclude<CredentialResolution, { readonly _tag: "Found" }>

const missing = { _tag: "Missing" } as const

const isStillMissing = ({ at, until }: Missing, now: number): boolean => now >= at && now < until

const soleIds = (accounts: ReadonlyArray<ProviderAccount>): Listing["soleOf"] => {
  const sole = new Map<string | undefined, string | undefined>()
  for (const { id, provider } of accounts) {
    sole.set(provider, !sole.has(provider) || sole.get(provider) === id ? id : undefined)
  }
  return sole
}

/** What a list calls its accounts. */
const namesOf = (listing: Listing | undefined): string | undefined =>
  listing === undefined
    ? undefined
    : JSON.stringify(listing.answer.accounts.map(({ alias, id, provider }) => [id, provider, alias]))

/** The accounts of a list that a ref fits. */
const listedAs = (ref: CredentialRef, provider: CredentialProvider, listing: Listing): ReadonlyArray<Listed> => {
  const { accounts, answeredAt: at } = listing
  const named: Array<Listed> = []
  for (const account of accounts.values()) if (isNamed(ref, account)) named.push({ provider, account, at })
  return named
}

/** Whether a list has an account that a ref fits. */
const lists = ({ accounts }: Listing, ref: CredentialRef): boolean => {
  for (const account of accounts.values()) if (isNamed(ref, account)) return true
  return false
}

/** Of the same account in several lists, the last one counts. */
const resolveListed = (ref: CredentialRef, named: Iterable<Listed>): ListedResolution => {
  const byId = new Map<string, Listed>()
  for (const listed of named) byId.set(listed.account.id, listed)
  const resolution = resolveRef(ref, Array.from(byId.values(), ({ account }) => account))
  if (resolution._tag !== "Found") return resolution
  const listed = byId.get(resolution.id)
  return listed === undefined ? missing : { _tag: "Found", listed }
}
