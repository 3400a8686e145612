import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
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
import { CredentialState } from "../model/CredentialState.ts"
import { coolDownLeft } from "../model/freshness.ts"
import type { CredentialProvider } from "../providers/CredentialProvider.ts"
import { contradictionOf, syncConcurrency, syncOne } from "../providers/CredentialProvider.ts"
import { cleanText, shownName } from "../util/sanitize.ts"
import type { Entries } from "./Entries.ts"
import type { Refresher, RequestBasis } from "./refresh.ts"
import type { RefResolver } from "./resolve.ts"
import type { WriteBehind } from "./WriteBehind.ts"

/** A fetched integration that waits to be saved, with what it was asked on. */
interface Unsaved extends RequestBasis {
  readonly _tag: "Unsaved"
  readonly credential: Credential
}

/**
 * Fetches everything the providers list, several at a time, and saves it in batches: what has arrived while one batch is being
 * written is the next. One bad integration never spoils the others. One provider whose list cannot be had spoils none of the
 * others' either: the stream fails with it at its end.
 */
export class Synchronization {
  readonly #entries: Entries
  readonly #resolver: RefResolver
  readonly #refresher: Refresher
  readonly #writeBehind: WriteBehind

  constructor(options: {
    readonly entries: Entries
    readonly resolver: RefResolver
    readonly refresher: Refresher
    readonly writeBehind: WriteBehind
  }) {
    this.#entries = options.entries
    this.#resolver = options.resolver
    this.#refresher = options.refresher
    this.#writeBehind = options.writeBehind
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
        Effect.zip(this.#resolver.listOf(provider), this.#entries.storage.list),
        ([{ accounts, isIncomplete = false, malformed }, ids]) => {
          this.#resolver.forgetList()
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
            Stream.concat(this.#saved(this.#unlisted(provider, ids.filter((id) => !listed.has(id)), isIncomplete)))
          )
        }
      )
    )
  }

  /** Asks for one listed integration, unless it belongs to somebody else or Aden limits its rate. */
  readonly #fetch = Effect.fnUntraced(
    function*(this: Synchronization, provider: CredentialProvider, account: ProviderAccount, isStored: boolean) {
      const { id } = account
      const { storage } = this.#entries
      const entry = this.#entries.entry(id)
      const { epoch } = entry
      // what has been counted may have been stored since it was listed
      const unstored = isStored ? undefined : yield* storage.loadState(id)
      const record = unstored?.generation === 0
        ? Result.succeed({ credential: Option.none<Credential>(), state: unstored })
        : yield* Effect.result(storage.read(id))
      if (Result.isFailure(record)) return failed(account, record.failure)
      const { credential: stored, state } = record.success
      if (Option.isSome(stored) && this.#entries.providerOf(stored.value) !== provider) {
        return skipped(account, "OwnedElsewhere", "a credential of this id is stored that this provider did not write")
      }
      const now = yield* Clock.currentTimeMillis
      const limited = rateLimitOf(account, state, now)
      if (limited !== undefined) return limited
      const basis: RequestBasis = {
        epoch,
        generation: state.generation,
        order: this.#entries.nextQuestion(),
        at: now,
        held: entry.credential
      }
      const event = yield* syncOne(provider, account)
      switch (event._tag) {
        case "Fetched": {
          const credential = Option.match(stored, {
            onNone: () => event.credential,
            onSome: (present) => present.renewedBy(event.credential)
          })
          return { _tag: "Unsaved", credential, ...basis } satisfies Unsaved
        }
        case "Blocked":
        case "Failed":
          return yield* this.#refused(provider, account, event.error, basis)
        default:
          return skipped(account, "NotFound", "Aden lists it and does not have it")
      }
    },
    (effect, _, account) =>
      Effect.catchTag(effect, "CredentialStorageError", (error) => Effect.succeed(failed(account, error)))
  )

  /** Stored entries that the list lacks. The list alone proves nothing: each of the provider's is asked for before it goes. */
  #unlisted(
    provider: CredentialProvider,
    ids: ReadonlyArray<string>,
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

  readonly #fetchUnlisted = Effect.fnUntraced(function*(
    this: Synchronization,
    provider: CredentialProvider,
    id: string,
    isIncomplete: boolean
  ): Effect.fn.Return<Option.Option<SyncEvent | Unsaved>> {
    const record = yield* Effect.option(this.#entries.storage.read(id))
    if (Option.isNone(record)) return Option.none()
    const { credential: present, state } = record.value
    if (Option.isNone(present) || this.#entries.providerOf(present.value) !== provider) return Option.none()
    const entry = this.#entries.entry(id)
    const now = yield* Clock.currentTimeMillis
    const limited = rateLimitOf(accountOf(present.value), state, now)
    if (limited !== undefined) return Option.some(limited)
    const basis: RequestBasis = {
      epoch: entry.epoch,
      generation: state.generation,
      order: this.#entries.nextQuestion(),
      at: now,
      held: entry.credential
    }
    const answer = yield* Effect.result(provider.fetch(id))
    if (Result.isFailure(answer)) {
      return Option.some(yield* this.#refused(provider, accountOf(present.value), answer.failure, basis))
    }
    if (Option.isSome(answer.success)) {
      return Option.some({ _tag: "Unsaved", credential: present.value.renewedBy(answer.success.value), ...basis })
    }
    const contradiction = contradictionOf(id, { isListed: false, isIncomplete })
    if (contradiction !== undefined) {
      return Option.some(skipped(accountOf(present.value), "NotFound", contradiction.reason.message))
    }
    return entry.epoch === basis.epoch && (yield* this.#entries.remove(entry, basis.generation))
      ? Option.some({ _tag: "Removed", id })
      : Option.none()
  })

  /** Aden answered with an error: what it means for later questions is remembered. */
  readonly #refused = Effect.fnUntraced(function*(
    this: Synchronization,
    provider: CredentialProvider,
    account: CredentialAccount,
    error: FetchFailure,
    basis: RequestBasis
  ) {
    const entry = this.#entries.entry(account.id)
    if (entry.epoch === basis.epoch || error._tag === "RateLimited") {
      if (entry.credential === undefined) yield* Effect.ignore(this.#entries.load(entry))
      if (entry.credential === undefined) entry.provider ??= provider
      if (entry.provider !== undefined) yield* this.#refresher.recordFailure(entry, error, basis)
    }
    return error._tag === "ReauthRequired"
      ? skipped(account, "ReauthRequired", error.message, entry.state.reauthorizationUrl)
      : failed(account, error)
  })

  #saved<E>(events: Stream.Stream<SyncEvent | Unsaved, E>): Stream.Stream<SyncEvent, E> {
    return events.pipe(
      Stream.buffer({ capacity: 1024 }),
      Stream.chunks,
      Stream.mapEffect((batch) => this.#save(batch)),
      Stream.flatMap(Stream.fromIterable)
    )
  }

  readonly #save = Effect.fnUntraced(function*(
    this: Synchronization,
    batch: Arr.NonEmptyReadonlyArray<SyncEvent | Unsaved>
  ): Effect.fn.Return<ReadonlyArray<SyncEvent>> {
    const entries = this.#entries
    const done = batch.filter((event): event is SyncEvent => event._tag !== "Unsaved")
    const fetched = batch.filter((event): event is Unsaved => event._tag === "Unsaved")
    if (fetched.length === 0) return done
    // What the program changed since it was asked about keeps the program's word.
    const isCurrent = ({ credential, epoch }: Unsaved) => entries.get(credential.id)?.epoch === epoch
    const current = fetched.filter(isCurrent)
    const changed = fetched.filter((item) => !isCurrent(item)).map(({ credential }) =>
      skipped(accountOf(credential), "OwnedElsewhere", "the program changed it while Aden was asked")
    )
    const now = yield* DateTime.now
    const failures = yield* Effect.result(entries.storage.saveMany(current.map(({ credential }) => credential), {
      expectedGenerations: new Map(current.map(({ credential, generation }) => [credential.id, generation])),
      state: new CredentialState({ generation: 0, lastConfirmed: now })
    }))
    const events = yield* Effect.forEach(
      current,
      (item) =>
        Effect.gen({ self: this }, function*() {
          const { credential, generation, order } = item
          const error = Result.isFailure(failures) ? failures.failure : failures.success.get(credential.id)
          if (!isCurrent(item)) {
            yield* entries.follow(credential.id)
            return error === undefined || error._tag === "GenerationConflict"
              ? synced(credential)
              : failed(accountOf(credential), error)
          }
          const entry = entries.entry(credential.id)
          if (error?._tag === "CredentialDecryptionFailed") return failed(accountOf(credential), error)
          if (error?._tag === "GenerationConflict") {
            yield* Effect.ignore(entries.load(entry))
            return synced(entry.credential ?? credential)
          }
          const wasBlocked = entry.state.blockedSince !== undefined
          // What was not saved has not been counted.
          const counted = error === undefined ? generation + 1 : generation
          const state = new CredentialState({ generation: counted, lastConfirmed: now })
          yield* entries.remember(entry, { credential, state, source: "aden" })
          entry.isDirty = error !== undefined
          entry.isStateDirty = entry.isDirty
          if (entry.isDirty) this.#writeBehind.add(entry)
          else entry.saved = { generation: state.generation, order }
          entry.listed = undefined
          entry.succeeded(DateTime.toEpochMillis(now))
          yield* entries.publish({ _tag: wasBlocked ? "Reconnected" : "Fetched", id: credential.id })
          return error === undefined ? synced(credential) : failed(accountOf(credential), error)
        })
    )
    return [...done, ...changed, ...events]
  })
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
