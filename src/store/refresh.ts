import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { AdenTimeout, AdenUnavailable, ReauthRequired, RefreshFailed } from "../errors/AdenError.ts"
import type { AdenRequestFailure, FetchFailure } from "../errors/AdenError.ts"
import { CredentialNotFound, InsufficientTimeLeft, NoProvider } from "../errors/CredentialError.ts"
import type { CredentialFailure } from "../errors/CredentialError.ts"
import type { StorageFailure } from "../errors/StorageError.ts"
import { Credential } from "../model/Credential.ts"
import type { CredentialRef, CredentialValidation } from "../model/Credential.ts"
import { CredentialState } from "../model/CredentialState.ts"
import { BypassCircuit, withListedNames } from "../providers/CredentialProvider.ts"
import type { CredentialProvider } from "../providers/CredentialProvider.ts"
import { refreshDuration, refreshes, servedStale } from "../util/metrics.ts"
import { cleanText } from "../util/sanitize.ts"
import { SingleFlight } from "../util/SingleFlight.ts"
import { isUnexpired } from "./CredentialEntry.ts"
import type { CredentialEntry, Freshness } from "./CredentialEntry.ts"
import type { Entries } from "./Entries.ts"
import { AwaitRefresh } from "./RefreshPolicy.ts"
import type { RefResolver } from "./resolve.ts"
import { isEarlier } from "./storedRecord.ts"
import type { WriteBehind } from "./WriteBehind.ts"

/** A token that was renewed less than this long ago, in ms, is not renewed again because it lasts too short. */
const minRefreshInterval = 30_000

/** A renewal that runs when the scope closes gets this long to end, and one of a token that has not expired when a caller waits. */
const drainTimeout = Duration.seconds(5)

/**
 * What a question was asked on: an answer is taken over only while this still holds. Otherwise the program changed the entry
 * meanwhile (`epoch`), or another process saved it (`generation`).
 */
export interface RequestBasis {
  readonly epoch: number
  readonly generation: number
  /** Its place among all questions of this process. */
  readonly order: number
  /** When, in ms. */
  readonly at: number
  readonly held: Credential | undefined
}

/**
 * Decides what a read gets and when Aden is asked, by the table of docs/semantics.md, and takes over what Aden answers. One
 * renewal per credential runs at a time.
 */
export class Refresher {
  readonly #entries: Entries
  readonly #resolver: RefResolver
  readonly #writeBehind: WriteBehind
  readonly #deadline: Duration.Duration
  readonly #maxStale: number
  readonly #flights = new SingleFlight<string, Credential, CredentialFailure>()

  constructor(options: {
    readonly entries: Entries
    readonly resolver: RefResolver
    readonly writeBehind: WriteBehind
    readonly deadline: Duration.Duration
    readonly maxStale: number
  }) {
    this.#entries = options.entries
    this.#resolver = options.resolver
    this.#writeBehind = options.writeBehind
    this.#deadline = options.deadline
    this.#maxStale = options.maxStale
  }

  /** The credential of an entry, valid now. */
  readonly read = Effect.fnUntraced(function*(
    this: Refresher,
    entry: CredentialEntry
  ): Effect.fn.Return<Credential, CredentialFailure> {
    const now = yield* Clock.currentTimeMillis
    yield* entry.recomputeDeadlines()
    const { credential } = entry
    switch (entry.freshness(now)) {
      case "fresh":
        return credential ?? (yield* this.#refreshed(entry))
      case "due":
      case "stale": {
        if (credential === undefined || !entry.mayBeServed(now, this.#maxStale)) {
          return yield* this.#refreshed(entry)
        }
        if (now < entry.nextAttemptAt || entry.coolDownLeft(now) > 0) entry.serveUntilNextAttempt(this.#maxStale)
        else if (yield* AwaitRefresh) return yield* this.#afterRefresh(entry, credential)
        else yield* this.#flights.start(entry.id, this.#refreshBehind(entry))
        return credential
      }
      case "expired":
      case "missing":
        return yield* this.#refreshed(entry)
      case "blocked":
        return yield* this.#recheck(entry, now)
    }
  })

  /** Renews now, whatever the age: never answered by a renewal that began earlier, and held back only by a rate limit. */
  readonly force = Effect.fnUntraced(function*(
    this: Refresher,
    entry: CredentialEntry,
    ref: string
  ): Effect.fn.Return<Credential, CredentialFailure | NoProvider> {
    if (!this.#entries.mayBeRefreshed(entry)) return yield* new NoProvider({ ref })
    return yield* this.#flights.runAfresh(entry.id, this.#refresh(entry, true))
  })

  /**
   * A credential that lasts at least `minTimeLeft` (ms) from now. Renews it once for all who ask meanwhile; a token that was
   * renewed a moment ago and lasts too short still is not renewed again.
   */
  readonly readFor = Effect.fnUntraced(function*(
    this: Refresher,
    entry: CredentialEntry,
    ref: string,
    minTimeLeft: number
  ): Effect.fn.Return<Credential, CredentialFailure | InsufficientTimeLeft> {
    yield* entry.recomputeDeadlines()
    const asked = yield* Clock.currentTimeMillis
    const isTooShort = isUnexpired(entry.freshness(asked)) && isRefreshedFor(entry, minTimeLeft, asked)
    const read = isTooShort ? undefined : yield* this.read(entry)
    const now = yield* Clock.currentTimeMillis
    // Where nothing was at hand, Aden answered what it had.
    const credential = read === undefined || isRefreshedFor(entry, minTimeLeft, now)
      ? yield* this.#refreshedFor(entry, now)
      : read
    const timeLeft = (yield* this.#entries.expiryOf(credential)) - (yield* Clock.currentTimeMillis)
    return timeLeft >= minTimeLeft ? credential : yield* new InsufficientTimeLeft({
      ref,
      minTimeLeft: Duration.millis(minTimeLeft),
      timeLeft: Duration.millis(Math.max(0, timeLeft))
    })
  })

  readonly #refreshedFor = Effect.fnUntraced(function*(
    this: Refresher,
    entry: CredentialEntry,
    asked: number
  ): Effect.fn.Return<Credential, CredentialFailure> {
    const backoff = entry.backoffError(asked)
    if (backoff !== undefined) return yield* backoff
    const renewed = Effect.suspend(() => this.#flights.run(entry.id, this.#refresh(entry, true)))
    const answer = yield* renewed
    // It may have been a question of another kind, which renewed nothing.
    return entry.refreshedAt >= asked ? answer : yield* renewed
  })

  /** Checks a blocked credential now, once for all who ask meanwhile. */
  readonly check = Effect.fnUntraced(function*(
    this: Refresher,
    entry: CredentialEntry
  ): Effect.fn.Return<Credential, CredentialFailure> {
    yield* entry.checked(yield* Clock.currentTimeMillis)
    return yield* this.#flights.run(entry.id, this.#refresh(entry, false))
  })

  /** Asks the provider whether the token is good, and remembers what that says of the connection. */
  readonly validate = Effect.fnUntraced(function*(
    this: Refresher,
    entry: CredentialEntry
  ): Effect.fn.Return<CredentialValidation, CredentialFailure> {
    yield* this.#resolver.resolveProvider(entry)
    // it may be known from the list alone, and what is stored by now be another's, or a rate limit from before a restart
    if (entry.provider !== undefined && entry.credential === undefined) {
      yield* this.#entries.orElseWhenStorageFails(this.#entries.load(entry), false)
    }
    const { provider } = entry
    const now = yield* Clock.currentTimeMillis
    if (provider === undefined) {
      yield* entry.recomputeDeadlines()
      const freshness = entry.freshness(now)
      const isBlocked = freshness === "blocked"
      return {
        valid: freshness !== "expired" && !isBlocked,
        reason: isBlocked ? "requires_reauthorization" : freshness === "expired" ? "token_expired" : undefined,
        expiresAt: entry.credential?.expiresAt,
        requiresReauthorization: isBlocked,
        reauthorizationUrl: isBlocked ? entry.state.reauthorizationUrl : undefined
      }
    }
    yield* entry.failWhileRateLimited(now)
    const basis = this.#basisOf(entry, now)
    const validation = yield* provider.validate(entry).pipe(
      Effect.catchTag("IntegrationNotFound", () => this.#confirmRemoval(entry, provider, basis)),
      Effect.tapError((error) => this.recordFailure(entry, error, basis))
    )
    if (entry.epoch !== basis.epoch || entry.isProgramOwned) return validation
    if (validation.requiresReauthorization) yield* this.block(entry, reauthRequired(entry, validation))
    else if (validation.valid && entry.state.blockedSince !== undefined) {
      yield* Effect.ignore(this.#flights.run(entry.id, this.#refresh(entry, false)))
    }
    return validation
  })

  /** Remembers, over a restart too, that a person has to authorize the integration again. */
  readonly block = Effect.fnUntraced(function*(this: Refresher, entry: CredentialEntry, error: ReauthRequired) {
    const now = yield* DateTime.now
    const isNew = entry.state.blockedSince === undefined
    const at = DateTime.toEpochMillis(now)
    if (isNew || at >= entry.nextCheckAt) yield* entry.checked(at)
    else entry.checkedAgain(at)
    entry.freshUntil = -Infinity
    entry.lastError = error
    yield* this.#entries.patchState(entry, {
      blockedSince: entry.state.blockedSince ?? now,
      reauthorizationUrl: error.reauthorizationUrl ?? entry.state.reauthorizationUrl,
      lastError: error._tag
    })
    if (isNew) {
      const { reauthorizationUrl } = entry.state
      yield* this.#entries.publish({ _tag: "ReauthorizationRequired", id: entry.id, reauthorizationUrl })
    }
  })

  shutdown(): Effect.Effect<void> {
    return this.#flights.shutdown(drainTimeout)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Who waits
  // -------------------------------------------------------------------------------------------------------------------

  /**
   * Renews while the caller waits, because nothing at hand may be served. A renewal that was joined late may answer what is of
   * no use: then there is one more. When it fails, what another process may have put into storage meanwhile is served.
   */
  readonly #refreshed = Effect.fnUntraced(function*(
    this: Refresher,
    entry: CredentialEntry
  ): Effect.fn.Return<Credential, CredentialFailure> {
    const flight = Effect.catch(
      this.#flights.run(entry.id, this.#refresh(entry, false)),
      (error) =>
        Effect.flatMap(
          Clock.currentTimeMillis,
          (now) =>
            entry.credential !== undefined && entry.mayBeServed(now, this.#maxStale)
              ? Effect.succeed(entry.credential)
              : Effect.fail(error)
        )
    )
    const first = yield* flight
    // the program's own, read from storage again or saved meanwhile
    const answer = entry.provider === undefined ? entry.credential ?? first : first
    if (yield* this.#isServable(entry, answer)) return answer
    if (entry.provider === undefined) return yield* unservable(entry)
    const second = yield* flight
    if (yield* this.#isServable(entry, second)) return second
    return yield* unservable(entry)
  })

  /** As of the entry, for what is at hand or was just answered, also where the entry has come to be somebody else's meanwhile. */
  readonly #isServable = Effect.fnUntraced(function*(this: Refresher, entry: CredentialEntry, credential: Credential) {
    const expiresAt = yield* this.#entries.expiryOf(credential)
    return entry.isServable(credential, { expiresAt, now: yield* Clock.currentTimeMillis })
  })

  /**
   * Nobody waits longer than the deadline, over all attempts and all that is asked on the way. What is known to be blocked
   * is blocked, whatever the wait was for.
   */
  withinDeadline(ref: CredentialRef) {
    return <A, E>(self: Effect.Effect<A, E>): Effect.Effect<A, E | AdenUnavailable | ReauthRequired> =>
      Effect.timeoutOrElse(self, {
        duration: this.#deadline,
        orElse: () => {
          const entry = this.#entries.known(ref)
          return Effect.fail(
            entry?.state.blockedSince === undefined
              ? new AdenUnavailable({ id: entry?.id ?? ref, reason: new AdenTimeout({ after: this.#deadline }) })
              : reauthRequired(entry)
          )
        }
      })
  }

  /** What is at hand when a renewal has ended; what was before it, when it failed or takes too long. */
  readonly #afterRefresh = Effect.fnUntraced(function*(
    this: Refresher,
    entry: CredentialEntry,
    before: Credential
  ): Effect.fn.Return<Credential, CredentialFailure> {
    const outcome = yield* this.#flights.run(entry.id, this.#refreshBehind(entry)).pipe(
      Effect.result,
      Effect.timeoutOption(drainTimeout)
    )
    if (Option.isNone(outcome)) {
      yield* Effect.logWarning("Serving a cached credential that Aden did not confirm in time").pipe(
        Effect.annotateLogs({ credential: cleanText(entry.id) })
      )
      return before
    }
    const result = outcome.value
    if (Result.isSuccess(result)) return result.success
    const isOver = entry.state.blockedSince !== undefined || entry.credential === undefined
    return isOver ? yield* result.failure : before
  })

  /** Renews while the caller is served what is at hand: told is that it is, when Aden does not confirm it. */
  #refreshBehind(entry: CredentialEntry): Effect.Effect<Credential, CredentialFailure> {
    return Effect.tapError(
      this.#refresh(entry, false),
      Effect.fnUntraced({ self: this }, function*(error) {
        if (entry.state.blockedSince !== undefined || entry.credential === undefined) return
        // What storage fails with is not noted by a question to Aden: it too is a reason to wait.
        const now = yield* Clock.currentTimeMillis
        if (now >= entry.nextAttemptAt && entry.coolDownLeft(now) <= 0) yield* entry.failed(now, error)
        entry.serveUntilNextAttempt(this.#maxStale)
        yield* Effect.logWarning("Serving a cached credential that Aden did not confirm").pipe(
          Effect.annotateLogs({ credential: cleanText(entry.id), error: error._tag, reason: error.message })
        )
        yield* Metric.update(servedStale, 1)
        yield* this.#entries.publish({ _tag: "ServedStale", id: entry.id, error: error._tag })
      })
    )
  }

  /** A blocked credential is checked now and then; what the check cannot find out leaves it blocked. */
  readonly #recheck = Effect.fnUntraced(function*(
    this: Refresher,
    entry: CredentialEntry,
    now: number
  ): Effect.fn.Return<Credential, CredentialFailure> {
    const mayAsk = this.#entries.mayBeRefreshed(entry) && entry.coolDownLeft(now) <= 0 &&
      now >= entry.nextCheckAt
    if (!mayAsk && !this.#flights.has(entry.id)) return yield* reauthRequired(entry)
    if (mayAsk) yield* entry.checked(now)
    return yield* Effect.catchIf(
      this.#refreshed(entry),
      (error) => error._tag !== "CredentialNotFound" && entry.state.blockedSince !== undefined,
      () => Effect.fail(reauthRequired(entry))
    )
  })

  #basisOf(entry: CredentialEntry, at: number): RequestBasis {
    return {
      epoch: entry.epoch,
      generation: entry.state.generation,
      order: this.#entries.nextQuestion(),
      at,
      held: entry.credential
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // One renewal
  // -------------------------------------------------------------------------------------------------------------------

  /** Under the storage's lock, and with what others did meanwhile in view. */
  #refresh(entry: CredentialEntry, force: boolean): Effect.Effect<Credential, CredentialFailure> {
    const entries = this.#entries
    return Effect.suspend(() => {
      const before = entry.credential
      return entries.storage.withLock(
        entry.id,
        this.#refreshUnderLock(entry, force, entry.state.blockedSince !== undefined)
      ).pipe(
        // A lock that could not be had says nothing about the credential: whoever holds it may have renewed it.
        Effect.catchTag("CredentialStorageError", (error) =>
          Effect.gen(function*() {
            yield* entries.orElseWhenStorageFails(entries.load(entry), false)
            const { credential } = entry
            const isFresh = entry.freshness(yield* Clock.currentTimeMillis) === "fresh"
            const isOfNoUse = force && credential !== undefined && before?.holdsTokenOf(credential) === true
            return credential === undefined || !isFresh || isOfNoUse ? yield* error : credential
          }))
      )
    }).pipe(
      Effect.withSpan("CredentialStore.renew", { attributes: { "credential.id": entry.id } })
    )
  }

  readonly #refreshUnderLock = Effect.fnUntraced(function*(
    this: Refresher,
    entry: CredentialEntry,
    force: boolean,
    wasBlocked: boolean
  ): Effect.fn.Return<Credential, CredentialFailure> {
    const entries = this.#entries
    yield* entries.orElseWhenStorageFails(entries.load(entry), false)
    yield* this.#resolver.resolveProvider(entry)
    const { credential, provider } = entry
    if (provider === undefined) {
      if (credential !== undefined) return credential
      return yield* entry.state.blockedSince === undefined
        ? new CredentialNotFound({ ref: entry.id })
        : reauthRequired(entry)
    }
    const now = yield* Clock.currentTimeMillis
    // Somebody else renewed or confirmed it, or found it blocked.
    if (credential !== undefined && entry.freshness(now) === "fresh" && !force) return credential
    if (!force && !wasBlocked && entry.state.blockedSince !== undefined && now < entry.nextCheckAt) {
      return yield* reauthRequired(entry)
    }
    yield* entry.failWhileRateLimited(now)
    const backoff = force ? undefined : entry.backoffError(now)
    if (backoff !== undefined) return yield* backoff
    const basis = this.#basisOf(entry, now)
    return yield* this.#ask(entry, provider, force, basis).pipe(
      Effect.tapError((error) => this.recordFailure(entry, error, basis)),
      instrumented(entry.id, force || needsNew(entry.freshness(now)) ? "refresh" : "fetch")
    )
  })

  /** Asks the provider for what the entry needs now, and takes the answer over. */
  readonly #ask = Effect.fnUntraced(function*(
    this: Refresher,
    entry: CredentialEntry,
    provider: CredentialProvider,
    force: boolean,
    basis: RequestBasis
  ): Effect.fn.Return<Credential, CredentialFailure> {
    const freshness = entry.freshness(yield* Clock.currentTimeMillis)
    if (force || needsNew(freshness)) {
      return yield* this.#askForNew(entry, provider, basis)
    }
    if (freshness === "blocked" || entry.listed?.status === "requires_reauth") {
      const validation = yield* provider.validate(entry).pipe(
        Effect.catchTag("IntegrationNotFound", () => this.#confirmRemoval(entry, provider, basis))
      )
      if (validation.requiresReauthorization) return yield* reauthRequired(entry, validation)
    }
    const answer = yield* provider.fetch(entry.id)
    if (Option.isNone(answer)) return yield* this.#confirmRemoval(entry, provider, basis)
    const credential = yield* this.#accept(entry, answer.value, basis)
    if (entry.epoch !== basis.epoch || (yield* this.#isServable(entry, credential))) return credential
    // This question renews nothing, and the token has run out.
    return yield* this.#askForNew(entry, provider, this.#basisOf(entry, yield* Clock.currentTimeMillis))
  })

  readonly #askForNew = Effect.fnUntraced(function*(
    this: Refresher,
    entry: CredentialEntry,
    provider: CredentialProvider,
    basis: RequestBasis
  ): Effect.fn.Return<Credential, CredentialFailure> {
    const expiresBeforeProbe = entry.expiresBeforeProbe(yield* Clock.currentTimeMillis)
    const credential = yield* provider.refresh(entry.credential ?? emptyCredential(entry.id, provider.id)).pipe(
      Effect.provideService(BypassCircuit, expiresBeforeProbe),
      Effect.tap(() => Effect.map(Clock.currentTimeMillis, (now) => entry.refreshedAt = now)),
      Effect.flatMap((answer) => this.#accept(entry, answer, { ...basis, isRefresh: true })),
      Effect.catchTag("IntegrationNotFound", () => this.#confirmRemoval(entry, provider, basis))
    )
    return entry.epoch !== basis.epoch || (yield* this.#isServable(entry, credential))
      ? credential
      : yield* unservable(entry)
  })

  /** Takes over what the provider answered, unless the entry has changed since it was asked. */
  readonly #accept = Effect.fnUntraced(function*(
    this: Refresher,
    entry: CredentialEntry,
    answer: Credential,
    basis: RequestBasis & { readonly isRefresh?: true }
  ): Effect.fn.Return<Credential, StorageFailure> {
    const entries = this.#entries
    const held = entry.credential
    const named = entry.listed === undefined ? answer : withListedNames(answer, entry.listed)
    const credential = held === undefined ? named : held.renewedBy(named)
    if (entry.epoch !== basis.epoch) return credential
    if (held !== undefined && entry.isProgramOwned) return held
    // What a sync saved meanwhile does not stand in the way when it is older than this answer.
    const isOlder = entry.saved.generation === entry.state.generation &&
      (entry.saved.order < basis.order || (basis.held !== undefined && held?.holdsTokenOf(basis.held) === true))
    let generation: number | undefined = isOlder ? entry.saved.generation : basis.generation
    if (entry.isDirty || entry.unreadable !== undefined) {
      generation = (yield* this.#writeBehind.behind(credential, { generation, at: basis.at })).generation
    }
    const lastConfirmed = yield* DateTime.now
    const stateAfter = (generation: number | undefined) =>
      new CredentialState({ generation: (generation ?? 0) + 1, lastConfirmed })
    const save = (generation: number | undefined) =>
      generation === undefined ? Effect.succeed("outdated" as const) : entries.orElseWhenWriteFails(
        entries.storage.save(credential, { expectedGeneration: generation, state: stateAfter(generation) }).pipe(
          Effect.as("saved" as const),
          Effect.catchTag("GenerationConflict", () => Effect.succeed("outdated" as const))
        ),
        "unsaved" as const
      )
    let outcome = yield* save(generation)
    // what another process could not save while storage was away, and saves now, is older than this answer
    while (outcome === "outdated" && generation !== undefined && entry.epoch === basis.epoch) {
      const record = yield* entries.storage.read(entry.id)
      const isProviders = Option.exists(
        record.credential,
        (one) => entries.providerOf(one) === entries.providerOf(credential)
      )
      if (!isProviders || !isEarlier(record, credential, basis.at) || record.state.generation === generation) break
      generation = record.state.generation
      outcome = yield* save(generation)
    }
    const saved = stateAfter(generation)
    if (entry.epoch !== basis.epoch) {
      yield* entries.follow(entry.id)
      return credential
    }
    if (outcome === "outdated") {
      // Another process was faster: what it saved is as new as this answer, or newer.
      entry.isDirty = false
      if ((yield* entries.load(entry)) && entry.credential !== undefined) return entry.credential
      // It deleted the entry: this caller has asked for it, and it is not kept.
      entries.forget(entry.id)
      return credential
    }
    const wasBlocked = entry.state.blockedSince !== undefined
    // What was not saved has not been counted.
    const state = outcome === "unsaved" ? new CredentialState({ ...saved, generation: saved.generation - 1 }) : saved
    yield* entries.remember(entry, { credential, state, source: "aden" })
    entry.isDirty = outcome === "unsaved"
    entry.isStateDirty = entry.isDirty
    if (entry.isDirty) this.#writeBehind.add(entry)
    else entry.saved = { generation: state.generation, order: basis.order }
    entry.listed = undefined
    // a renewal that brings what cannot be served has failed
    if (basis.isRefresh !== true || (yield* this.#isServable(entry, credential))) {
      entry.succeeded(yield* Clock.currentTimeMillis)
    }
    if (wasBlocked) yield* entries.publish({ _tag: "Reconnected", id: entry.id })
    if (held === undefined) yield* entries.publish({ _tag: "Fetched", id: entry.id })
    else if (!held.holdsTokenOf(credential)) yield* entries.publish({ _tag: "Refreshed", id: entry.id })
    return credential
  }, (effect, entry) => this.#writeBehind.alone(entry.id)(effect))

  /** The provider does not have the integration. Only when its list lacks it too is the entry gone. */
  readonly #confirmRemoval = Effect.fnUntraced(function*(
    this: Refresher,
    entry: CredentialEntry,
    provider: CredentialProvider,
    basis: RequestBasis
  ): Effect.fn.Return<never, AdenRequestFailure | CredentialNotFound> {
    yield* this.#resolver.confirmAbsence(provider, entry.id)
    if (entry.epoch === basis.epoch) yield* this.#entries.remove(entry, basis.generation)
    return yield* new CredentialNotFound({ ref: entry.id })
  })

  /** Remembers what came of asking, so that the next question comes in due time. */
  readonly recordFailure = Effect.fnUntraced(function*(
    this: Refresher,
    entry: CredentialEntry,
    error: CredentialFailure | FetchFailure,
    basis: Pick<RequestBasis, "epoch">
  ) {
    if (error._tag === "CredentialNotFound" || entry.isProgramOwned) return
    const now = yield* DateTime.now
    const nowMillis = DateTime.toEpochMillis(now)
    // A rate limit holds whatever the program did meanwhile.
    if (entry.epoch !== basis.epoch && error._tag !== "RateLimited") return
    entry.lastError = error
    if (error._tag === "ReauthRequired") return yield* this.block(entry, error)
    if (error._tag === "RateLimited") {
      // A hint of no time at all is no leave to ask without end.
      yield* entry.failed(nowMillis, error)
      const left = Duration.toMillis(error.retryAfter)
      if (left > entry.coolDownLeft(nowMillis)) {
        yield* this.#entries.patchState(entry, {
          coolDownUntil: DateTime.makeUnsafe(nowMillis + left),
          lastError: error._tag
        })
      }
      return
    }
    yield* entry.failed(nowMillis, error)
    const isRefused = error._tag === "AdenUnauthorized" || error._tag === "AdenForbidden"
    if (entry.state.lastError !== error._tag || (isRefused && entry.state.refusedSince === undefined)) {
      yield* this.#entries.patchState(entry, {
        lastError: error._tag,
        refusedSince: isRefused ? entry.state.refusedSince ?? now : entry.state.refusedSince
      })
    }
  })
}

/** Whether a token that lasts too short is renewed for that reason. */
const isRefreshedFor = (entry: CredentialEntry, minTimeLeft: number, now: number): boolean =>
  entry.provider !== undefined && entry.expiresAt - now < minTimeLeft && now - entry.refreshedAt >= minRefreshInterval

/** Whether a token has to be renewed, where another has to be fetched or confirmed. */
const needsNew = (freshness: Freshness): boolean => freshness === "due" || freshness === "expired"

/** Counts, times and logs a question to Aden. */
const instrumented =
  (id: string, question: "refresh" | "fetch") => <A, E extends CredentialFailure>(self: Effect.Effect<A, E>) =>
    Effect.gen(function*() {
      const [time, exit] = yield* Effect.timed(Effect.exit(self))
      const error = Option.getOrUndefined(Exit.findErrorOption(exit))
      const outcome = Exit.isSuccess(exit) ? "success" : error?._tag ?? "unexpected"
      yield* Metric.update(Metric.withAttributes(refreshes, { question, outcome }), 1)
      yield* Metric.update(Metric.withAttributes(refreshDuration, { question }), Duration.toSeconds(time))
      yield* Effect.logDebug("Asked Aden for a credential").pipe(
        Effect.annotateLogs({
          credential: cleanText(id),
          question,
          outcome,
          durationMs: Math.round(Duration.toMillis(time)),
          ...(error === undefined ? {} : { reason: error.message })
        })
      )
      return yield* exit
    })

/** What an entry fails with when all that is answered for it cannot be served. */
const unservable = ({ id, provider }: CredentialEntry): RefreshFailed =>
  new RefreshFailed({
    id,
    detail: provider === undefined
      ? "it has expired or was found refused, and no provider renews it"
      : "it answered with a token that has already expired, or that the program reported as refused"
  })

/** What a blocked credential fails with: what the last check said, else what is remembered. */
const reauthRequired = (entry: CredentialEntry, validation?: CredentialValidation): ReauthRequired =>
  new ReauthRequired({
    id: entry.id,
    reauthorizationUrl: validation?.reauthorizationUrl ?? entry.state.reauthorizationUrl,
    detail: validation?.reason
  })

/** What a forced refresh starts from when nothing is at hand. */
const emptyCredential = (id: string, providerId: string): Credential =>
  new Credential({ id, type: "oauth2", keys: new Map(), providerId, autoRefresh: true, description: "", tags: [] })
