import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { RateLimited } from "../errors/AdenError.ts"
import type { FetchFailure } from "../errors/AdenError.ts"
import { NoProvider } from "../errors/CredentialError.ts"
import type { StorageFailure } from "../errors/StorageError.ts"
import { accountOf } from "../model/Credential.ts"
import type { Credential, CredentialAccount, ProviderAccount } from "../model/Credential.ts"
import type { SyncEvent, SyncFailure, SyncSkipped } from "../model/CredentialEvent.ts"
import type { CredentialState } from "../model/CredentialState.ts"
import { coolDownLeft } from "../model/freshness.ts"
import type { CredentialProvider } from "../providers/CredentialProvider.ts"
import { contradictionOf, syncConcurrency, syncOne } from "../providers/CredentialProvider.ts"
import type { StoredEntry } from "../storage/CredentialStorage.ts"
import { cleanText, shownName } from "../util/sanitize.ts"
import type { Answer, Commit, RequestBasis } from "./commit.ts"
import type { Entries } from "./Entries.ts"
import type { Listings } from "./Listings.ts"
import type { Refresher } from "./refresh.ts"

/** A fetched integration that waits to be saved. */
interface Unsaved extends Answer {
  readonly _tag: "Unsaved"
}

/**
 * Fetches everything the providers list, several at a time, and saves it in batches: what has arrived while one batch is being
 * written is the next. One bad integration does not spoil the others. One provider whose list cannot be had does not spoil those of the
 * others either: the stream fails with it at its end.
 */
export class Synchronization {
  readonly #entries: Entries
  readonly #listings: Listings
  readonly #refresher: Refresher
  readonly #commit: Commit

  constructor(options: {
    readonly entries: Entries
    readonly listings: Listings
    readonly refresher: Refresher
    readonly commit: Commit
  }) {
    this.#entries = options.entries
    this.#listings = options.listings
    this.#refresher = options.refresher
    this.#commit = options.commit
  }

  get stream(): Stream.Stream<SyncEvent, SyncFailure> {
    return this.#entries.providers.length === 0 ? Stream.fail(new NoProvider({})) : Stream.suspend(() => {
      const failures: Array<SyncFailure> = []
      return Stream.fromIterable(this.#entries.providers).pipe(
        Stream.flatMap((provider) =>
          Stream.catch(this.#streamOf(provider), (failure) => {
            failures.push(failure)
            return Stream.empty
          })
        ),
        Stream.concat(Stream.suspend(() => Arr.isArrayNonEmpty(failures) ? Stream.fail(failures[0]) : Stream.empty))
      )
    })
  }

  #streamOf(provider: CredentialProvider): Stream.Stream<SyncEvent, SyncFailure> {
    return Stream.unwrap(
      Effect.map(
        Effect.zip(this.#listings.ask(provider), this.#entries.storage.list),
        ([{ answer: { accounts, isIncomplete = false, malformed } }, ids]) => {
          this.#listings.expire()
          const stored = new Set(ids)
          const listed = new Set<string>()
          for (const account of accounts) listed.add(account.id)
          const head: ReadonlyArray<SyncEvent> = [
            { _tag: "Listed", total: accounts.length + malformed.length, isIncomplete },
            ...malformed.map(({ id, detail }) =>
              skipped({ id: shownName(id), provider: undefined, alias: undefined }, "Malformed", cleanText(detail))
            )
          ]
          return Stream.fromIterable(head).pipe(
            Stream.concat(this.#saved(Stream.mapEffect(
              Stream.fromIterable(accounts),
              (account) => this.#fetch(provider, account, stored.has(account.id)),
              { concurrency: syncConcurrency, unordered: true }
            ))),
            Stream.concat(Stream.suspend(() => {
              const known = isIncomplete ? ids : [...ids, ...this.#blockedOf(provider)]
              const unlisted = new Set(known.filter((id) => !listed.has(id)))
              return this.#saved(this.#unlisted(provider, unlisted, isIncomplete))
            }))
          )
        }
      )
    )
  }

  /** Asks for one listed integration, unless it belongs to somebody else or Aden limits its rate. */
  #fetch(provider: CredentialProvider, account: ProviderAccount, isStored: boolean) {
    return Effect.gen({ self: this }, function*() {
      const { id } = account
      const cell = this.#entries.cell(id)
      const { revision } = cell.entry
      const record = yield* Effect.result(this.#recordOf(id, isStored))
      if (Result.isFailure(record)) return failed(account, record.failure)
      const { credential, state } = record.success
      if (Option.isSome(credential) && this.#entries.providerOf(credential.value) !== provider) {
        return skipped(account, "OwnedElsewhere", "a credential of this id is stored that this provider did not write")
      }
      const limited = rateLimitOf(account, state, yield* Clock.currentTimeMillis)
      if (limited !== undefined) return limited
      const basis = { ...(yield* this.#commit.basisOf(cell, state.generation)), revision }
      const event = yield* syncOne(provider, account)
      switch (event._tag) {
        case "Fetched":
          return {
            _tag: "Unsaved",
            basis,
            answer: event.credential,
            stored: Option.getOrUndefined(credential),
            isRefresh: false
          } satisfies Unsaved
        case "Blocked":
        case "Failed":
          return yield* this.#refused(provider, account, event.error, basis)
        default:
          return skipped(account, "NotFound", "Aden lists it and does not have it")
      }
    })
  }

  /** What is stored of an id. What was deleted has been counted, and may have been stored again since it was listed. */
  #recordOf(id: string, isStored: boolean): Effect.Effect<StoredEntry, StorageFailure> {
    return Effect.gen({ self: this }, function*() {
      const { storage } = this.#entries
      if (isStored) return yield* storage.read(id)
      const state = yield* storage.loadState(id)
      return state.generation === 0 ? { credential: Option.none<Credential>(), state } : yield* storage.read(id)
    })
  }

  /** What is known only to be blocked, and is not stored. */
  #blockedOf(provider: CredentialProvider): ReadonlyArray<string> {
    return Array.from(this.#entries.cells).flatMap(({ entry }) =>
      entry.isBlocked && entry.held === undefined && entry.providerId === provider.id ? [entry.id] : []
    )
  }

  /** Known entries that the list lacks. The list alone proves nothing: each of the provider's is asked for before it goes. */
  #unlisted(
    provider: CredentialProvider,
    ids: Iterable<string>,
    isIncomplete: boolean
  ): Stream.Stream<SyncEvent | Unsaved> {
    return Stream.fromIterable(ids).pipe(
      Stream.mapEffect((id) => this.#fetchUnlisted(provider, id, isIncomplete), {
        concurrency: syncConcurrency,
        unordered: true
      }),
      Stream.filterMap(Result.fromOption(() => undefined))
    )
  }

  #fetchUnlisted(
    provider: CredentialProvider,
    id: string,
    isIncomplete: boolean
  ): Effect.Effect<Option.Option<SyncEvent | Unsaved>> {
    return Effect.gen({ self: this }, function*() {
      const record = yield* Effect.option(this.#entries.storage.read(id))
      if (Option.isNone(record)) return Option.none()
      const { state } = record.value
      const credential = Option.getOrUndefined(record.value.credential)
      const known = this.#entries.get(id)?.entry
      const isProviders = credential === undefined
        ? known?.isBlocked === true && known.providerId === provider.id
        : this.#entries.providerOf(credential) === provider
      if (!isProviders) return Option.none()
      const account = credential === undefined
        ? known?.listed ?? { id, provider: undefined, alias: undefined }
        : accountOf(credential)
      const limited = rateLimitOf(account, state, yield* Clock.currentTimeMillis)
      if (limited !== undefined) return Option.some(limited)
      const basis = yield* this.#commit.basisOf(this.#entries.cell(id), state.generation)
      const answer = yield* Effect.result(provider.fetch(id))
      if (Result.isFailure(answer)) return Option.some(yield* this.#refused(provider, account, answer.failure, basis))
      if (Option.isSome(answer.success)) {
        return Option.some({
          _tag: "Unsaved",
          basis,
          answer: answer.success.value,
          stored: credential,
          isRefresh: false
        })
      }
      const contradiction = contradictionOf(id, { isListed: false, isIncomplete })
      if (contradiction !== undefined) return Option.some(skipped(account, "NotFound", contradiction.reason.message))
      return (yield* this.#commit.remove(basis)) ? Option.some({ _tag: "Removed", id }) : Option.none()
    })
  }

  /** Aden answered with an error: what it means for later questions is remembered. */
  #refused(provider: CredentialProvider, account: CredentialAccount, error: FetchFailure, basis: RequestBasis) {
    return Effect.gen({ self: this }, function*() {
      const { cell } = basis
      if (this.#commit.isCurrent(basis) || error._tag === "RateLimited") {
        if (cell.entry.held === undefined) yield* Effect.ignore(this.#entries.load(cell))
        yield* this.#entries.change(cell, { _tag: "ProviderFound", providerId: provider.id })
        if (cell.entry.providerId !== undefined) yield* this.#refresher.recordFailure(basis, error)
      }
      return error._tag === "ReauthRequired"
        ? skipped(account, "ReauthRequired", error.message, cell.entry.state.reauthorizationUrl)
        : failed(account, error)
    })
  }

  #saved<E>(events: Stream.Stream<SyncEvent | Unsaved, E>): Stream.Stream<SyncEvent, E> {
    return events.pipe(
      Stream.buffer({ capacity: 1024 }),
      Stream.chunks,
      Stream.mapEffect((batch) => this.#save(batch)),
      Stream.flatMap(Stream.fromIterable)
    )
  }

  #save(batch: Arr.NonEmptyReadonlyArray<SyncEvent | Unsaved>): Effect.Effect<ReadonlyArray<SyncEvent>> {
    return Effect.gen({ self: this }, function*() {
      const done = batch.filter((event): event is SyncEvent => event._tag !== "Unsaved")
      const fetched = batch.filter((event): event is Unsaved => event._tag === "Unsaved")
      if (fetched.length === 0) return done
      const taken = yield* this.#commit.answers(fetched)
      const events = taken.map(({ credential, error, isOutdated }): SyncEvent =>
        error !== undefined
          ? failed(accountOf(credential), error)
          : isOutdated
          ? skipped(accountOf(credential), "OwnedElsewhere", "the program changed it while Aden was asked")
          : synced(credential)
      )
      return [...done, ...events]
    })
  }
}

const synced = ({ alias, expiresAt, id, integrationType }: Credential): SyncEvent => ({
  _tag: "Synced",
  id,
  provider: integrationType,
  alias,
  expiresAt
})

/** What a credential that Aden must not be asked for yet is reported as. */
const rateLimitOf = (account: CredentialAccount, state: CredentialState, now: number): SyncEvent | undefined => {
  const left = coolDownLeft(state, now)
  return left > 0
    ? failed(account, new RateLimited({ id: account.id, retryAfter: Duration.millis(left) }))
    : undefined
}

const failed = ({ alias, id, provider }: CredentialAccount, error: FetchFailure | StorageFailure): SyncEvent => ({
  _tag: "Failed",
  id,
  provider: shownName(provider),
  alias: shownName(alias),
  error
})

const skipped = (
  { alias, id, provider }: Omit<CredentialAccount, "id"> & { readonly id: string | undefined },
  reason: SyncSkipped["reason"],
  detail: string,
  reauthorizationUrl?: string
): SyncEvent => ({
  _tag: "Skipped",
  id,
  provider: shownName(provider),
  alias: shownName(alias),
  reason,
  detail,
  reauthorizationUrl
})
