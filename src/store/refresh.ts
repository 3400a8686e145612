import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { AdenTimeout, AdenUnavailable, RefreshFailed } from "../errors/AdenError.ts"
import type { AdenRequestFailure, FetchFailure, ReauthRequired } from "../errors/AdenError.ts"
import { CredentialNotFound, InsufficientTimeLeft, NoProvider } from "../errors/CredentialError.ts"
import type { CredentialFailure } from "../errors/CredentialError.ts"
import type { CredentialStorageError, StorageFailure } from "../errors/StorageError.ts"
import { Credential } from "../model/Credential.ts"
import type { CredentialRef, CredentialValidation } from "../model/Credential.ts"
import { coolDownLeft, localExpiry } from "../model/freshness.ts"
import { BypassCircuit } from "../providers/CredentialProvider.ts"
import type { CredentialProvider } from "../providers/CredentialProvider.ts"
import { logDebug, logWarning } from "../util/logging.ts"
import { refreshDuration, refreshes, servedStale } from "../util/metrics.ts"
import { cleanText } from "../util/sanitize.ts"
import { SingleFlight } from "../util/SingleFlight.ts"
import type { Cell } from "./Cell.ts"
import type { Commit, RequestBasis } from "./commit.ts"
import {
  decide,
  decideFor,
  expiresBeforeProbe,
  freshnessOf,
  isServable,
  isToken,
  isTooShort,
  isUnexpired,
  isUsable,
  rateLimitOf,
  reauthRequired,
  whyNotAsked
} from "./core/decide.ts"
import type { Purpose, Question } from "./core/decide.ts"
import type { Entry } from "./core/Entry.ts"
import { retryAfterFailure } from "./dates.ts"
import type { Entries } from "./Entries.ts"
import type { Listings } from "./Listings.ts"
import { AwaitRefresh, ReplacedToken } from "./RefreshPolicy.ts"
import type { RefResolver } from "./resolve.ts"

/** A renewal that runs when the scope closes gets this long to end, and one of a token that has not expired when a caller waits. */
const drainTimeout = Duration.seconds(5)

const read: Purpose = { _tag: "Read" }
const confirm: Purpose = { _tag: "Confirm" }
const check: Purpose = { _tag: "Check" }

/** Has providers asked as `decide` says, and commits what they answer. One question per credential is under way at a time. */
export class Refresher {
  readonly #entries: Entries
  readonly #resolver: RefResolver
  readonly #listings: Listings
  readonly #commit: Commit
  readonly #deadline: Duration.Duration
  readonly #flights: SingleFlight<string, Credential, CredentialFailure>
  /** Whether a caller has waited for the last renewal as long as the end of the scope would. */
  #hasDrained = false

  constructor(options: {
    readonly entries: Entries
    readonly resolver: RefResolver
    readonly listings: Listings
    readonly commit: Commit
    readonly deadline: Duration.Duration
  }) {
    this.#entries = options.entries
    this.#resolver = options.resolver
    this.#listings = options.listings
    this.#commit = options.commit
    this.#deadline = options.deadline
    this.#flights = new SingleFlight({ abandonAfter: Duration.toMillis(options.deadline) * 0.9 })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // What callers get
  // -------------------------------------------------------------------------------------------------------------------

  /** The credential, valid now. */
  read(cell: Cell): Effect.Effect<Credential, CredentialFailure> {
    return Effect.gen({ self: this }, function*() {
      yield* this.#entries.settled(cell)
      const circumstances = yield* this.#entries.circumstances(cell.entry)
      const decision = decide(cell.entry, circumstances)
      switch (decision._tag) {
        case "Serve":
          // what is in doubt is read again by the next read
          if (cell.entry.doubt === undefined) cell.serve(decision.credential, decision.until)
          return decision.credential
        case "ServeAndAsk": {
          if (decision.isFirst || (yield* AwaitRefresh)) {
            return yield* this.#afterRefresh(cell, decision.credential, read)
          }
          yield* this.#flights.start(cell.id, this.#refreshBehind(cell, read))
          return decision.credential
        }
        case "Ask":
          return yield* decision.question === "validate" && cell.entry.isBlocked
            ? this.#rechecked(cell)
            : this.#refreshed(cell, read)
        case "Fail":
          // another process may have renewed it; one that is blocked stays so until the check that is under way has ended
          return decision.error._tag === "ReauthRequired" && !this.#flights.has(cell.id)
            ? yield* decision.error
            : yield* this.#refreshed(cell, read)
      }
    })
  }

  /** The same, after Aden was asked to confirm what is held, however fresh it is: as it was, where Aden does not answer in time. */
  readConfirmed(cell: Cell): Effect.Effect<Credential, CredentialFailure> {
    return Effect.gen({ self: this }, function*() {
      const decision = decideFor(confirm, cell.entry, yield* this.#entries.circumstances(cell.entry))
      return yield* decision._tag === "ServeAndAsk"
        ? this.#afterRefresh(cell, decision.credential, confirm)
        : this.read(cell)
    })
  }

  /**
   * Renews now, whatever the age: never answered by a renewal that began earlier, and held back only by a rate limit. Where it is to
   * replace a token that was refused, another token that is in storage by now is the answer.
   */
  force(cell: Cell, ref: string): Effect.Effect<Credential, CredentialFailure | NoProvider> {
    return Effect.gen({ self: this }, function*() {
      if (!this.#entries.mayBeRefreshed(cell.entry)) return yield* new NoProvider({ ref })
      const token = yield* ReplacedToken
      if (token === undefined) return yield* this.#flights.runAfresh(cell.id, this.#flight(cell, { _tag: "Force" }))
      const replacing = this.#flights.run(cell.id, this.#flight(cell, { _tag: "Replace", token }))
      const answer = yield* replacing
      // a question of another kind, which was under way, may have brought the refused token again
      return isToken(answer, token) ? yield* replacing : answer
    })
  }

  /**
   * A credential that lasts at least `minTimeLeft` (ms) from now. Renews it once for all who ask in that time; a token that was
   * renewed a moment ago and still lasts too short is not renewed again.
   */
  readFor(
    cell: Cell,
    ref: string,
    minTimeLeft: number
  ): Effect.Effect<Credential, CredentialFailure | InsufficientTimeLeft> {
    return Effect.gen({ self: this }, function*() {
      yield* this.#entries.settled(cell)
      const before = yield* this.#entries.circumstances(cell.entry)
      const isShort = isUnexpired(freshnessOf(cell.entry, before)) && isTooShort(cell.entry, minTimeLeft, before)
      const found = isShort ? undefined : yield* this.read(cell)
      const now = yield* this.#entries.circumstances(cell.entry)
      const credential = found === undefined || isTooShort(cell.entry, minTimeLeft, now)
        ? yield* this.#outlasting(cell, minTimeLeft)
        : found
      const { clockOffset, now: asked } = yield* this.#entries.circumstancesOf(credential)
      const left = localExpiry(credential, clockOffset) - asked
      return left >= minTimeLeft ? credential : yield* new InsufficientTimeLeft({
        ref,
        minTimeLeft: Duration.millis(minTimeLeft),
        timeLeft: Duration.millis(Math.max(0, left))
      })
    })
  }

  #outlasting(cell: Cell, minTimeLeft: number): Effect.Effect<Credential, CredentialFailure> {
    return Effect.gen({ self: this }, function*() {
      const error = whyNotAsked(cell.entry, yield* this.#entries.circumstances(cell.entry))
      if (error !== undefined) return yield* error
      const flight = Effect.suspend(() =>
        this.#flights.run(cell.id, this.#flight(cell, { _tag: "Outlast", minTimeLeft }))
      )
      const answer = yield* flight
      // it may have been a question of another kind, which renewed nothing
      return isTooShort(cell.entry, minTimeLeft, yield* this.#entries.circumstances(cell.entry))
        ? yield* flight
        : answer
    })
  }

  /** Checks a blocked credential now, once for all who ask in that time. */
  check(cell: Cell): Effect.Effect<Credential, CredentialFailure> {
    return Effect.andThen(this.#checked(cell), this.#flights.run(cell.id, this.#flight(cell, check)))
  }

  /** A read of a blocked one, when it is time to check it. */
  #rechecked(cell: Cell): Effect.Effect<Credential, CredentialFailure> {
    return Effect.andThen(this.#checked(cell), this.#refreshed(cell, check))
  }

  /** A check begins: the next one comes in due time, whatever becomes of this one. */
  #checked(cell: Cell) {
    return Effect.gen({ self: this }, function*() {
      if (!cell.entry.isBlocked) return
      const recheckAt = yield* cell.step("recheck").until(yield* Clock.currentTimeMillis, { _tag: "Blocked" })
      yield* this.#entries.change(cell, { _tag: "Checked", recheckAt })
    })
  }

  /** Asks the provider whether the token is good, and remembers what that says of the connection. */
  validate(cell: Cell): Effect.Effect<CredentialValidation, CredentialFailure> {
    return Effect.gen({ self: this }, function*() {
      const entries = this.#entries
      yield* this.#resolver.resolveProvider(cell)
      // it may be known from the list only, and what is stored by now be another's, or a rate limit from before a restart
      if (cell.entry.providerId !== undefined && cell.entry.held === undefined) {
        yield* entries.orElseWhenStorageFails(entries.load(cell), false)
      }
      const provider = entries.providerFor(cell.entry)
      const circumstances = yield* entries.circumstances(cell.entry)
      if (provider === undefined) {
        const freshness = freshnessOf(cell.entry, circumstances)
        const isBlocked = freshness === "blocked"
        return {
          valid: freshness !== "expired" && !isBlocked,
          reason: isBlocked ? "requires_reauthorization" : freshness === "expired" ? "token_expired" : undefined,
          expiresAt: cell.entry.credential?.expiresAt,
          requiresReauthorization: isBlocked,
          reauthorizationUrl: isBlocked ? cell.entry.state.reauthorizationUrl : undefined
        }
      }
      const limit = rateLimitOf(cell.entry, circumstances.now)
      if (limit !== undefined) return yield* limit
      const basis = yield* this.#commit.basisOf(cell)
      const validation = yield* provider.validate(cell).pipe(
        Effect.catchTag("IntegrationNotFound", () => this.#confirmRemoval(provider, basis)),
        Effect.tapError((error) => this.recordFailure(basis, error))
      )
      if (!this.#commit.isCurrent(basis) || cell.entry.isProgramOwned) return validation
      if (validation.requiresReauthorization) yield* this.#commit.block(basis, reauthRequired(cell.entry, validation))
      else if (validation.valid && cell.entry.isBlocked) yield* Effect.ignore(this.check(cell))
      return validation
    })
  }

  /** Renewals get a while to end, unless a caller has given the last of them that time already. */
  shutdown(): Effect.Effect<void> {
    return Effect.suspend(() => this.#flights.shutdown(this.#hasDrained ? 0 : drainTimeout))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Who waits
  // -------------------------------------------------------------------------------------------------------------------

  /**
   * Waits for an answer, because nothing that is held may be served. A flight that was joined late may answer what is of no use: then
   * there is one more. When it fails, what another process may have put into storage is served.
   */
  #refreshed(cell: Cell, purpose: Purpose): Effect.Effect<Credential, CredentialFailure> {
    return Effect.gen({ self: this }, function*() {
      const flight = Effect.catch(
        Effect.suspend(() => this.#flights.run(cell.id, this.#flight(cell, purpose))),
        (error) =>
          Effect.flatMap(this.#entries.circumstances(cell.entry), (circumstances) => {
            const { credential, isBlocked } = cell.entry
            if (credential !== undefined && isUsable(cell.entry, circumstances)) return Effect.succeed(credential)
            // what a check cannot find out leaves it blocked
            return Effect.fail(isBlocked && error._tag !== "CredentialNotFound" ? reauthRequired(cell.entry) : error)
          })
      )
      const first = yield* flight
      // the program's own, read from storage again or saved since
      const answer = cell.entry.isProgramOwned ? cell.entry.credential ?? first : first
      if (yield* this.#isServable(cell, answer)) return answer
      if (cell.entry.isProgramOwned) return yield* unservable(cell.entry)
      const second = yield* flight
      return (yield* this.#isServable(cell, second)) ? second : yield* unservable(cell.entry)
    })
  }

  #isServable({ entry }: Cell, credential: Credential) {
    return Effect.gen({ self: this }, function*() {
      return isServable(entry, credential, yield* this.#entries.circumstancesOf(credential))
    })
  }

  /**
   * A caller waits at most the deadline, over all attempts and all that is asked on the way. A flight that it waited for in vain all
   * that time may be dead (on some platforms a request ends, and all that it started): the next read starts another.
   */
  withinDeadline(ref: CredentialRef) {
    return <A, E>(self: Effect.Effect<A, E>): Effect.Effect<A, E | AdenUnavailable | ReauthRequired> =>
      Effect.timeoutOrElse(self, {
        duration: this.#deadline,
        orElse: () => {
          const cell = this.#entries.known(ref)
          const timeout = new AdenUnavailable({
            id: cell?.id ?? ref,
            reason: new AdenTimeout({ after: this.#deadline })
          })
          return Effect.fail(cell?.entry.isBlocked === true ? reauthRequired(cell.entry) : timeout)
        }
      })
  }

  /** What is held when a renewal has ended; what was before it, when it failed or takes too long. */
  #afterRefresh(cell: Cell, before: Credential, purpose: Purpose): Effect.Effect<Credential, CredentialFailure> {
    return Effect.gen({ self: this }, function*() {
      const outcome = yield* this.#flights.run(cell.id, this.#refreshBehind(cell, purpose)).pipe(
        Effect.result,
        Effect.timeoutOption(drainTimeout)
      )
      if (Option.isNone(outcome)) {
        this.#hasDrained = true
        const error = new AdenUnavailable({ id: cell.id, reason: new AdenTimeout({ after: drainTimeout }) })
        // the next read does not wait as long again
        const retryAt = yield* this.#retryAfter(cell, error)
        yield* this.#commit.note(cell, { _tag: "Failed", error, retryAt })
        yield* logWarning("Serving a cached credential that Aden did not confirm in time").pipe(
          Effect.annotateLogs({ credential: cleanText(cell.id) })
        )
        return before
      }
      const result = outcome.value
      if (Result.isSuccess(result)) return result.success
      const isOver = cell.entry.isBlocked || cell.entry.held === undefined
      return isOver ? yield* result.failure : before
    })
  }

  /** Renews while callers are served what is held: where Aden does not confirm it, that is told. */
  #refreshBehind(cell: Cell, purpose: Purpose): Effect.Effect<Credential, CredentialFailure> {
    return Effect.tapError(
      this.#flight(cell, purpose),
      Effect.fnUntraced({ self: this }, function*(error) {
        if (cell.entry.isBlocked || cell.entry.held === undefined) return
        // a failure of storage, too, is a reason to wait before the next question
        const now = yield* Clock.currentTimeMillis
        if (now >= cell.entry.retryAt && coolDownLeft(cell.entry.state, now) <= 0) {
          yield* this.#entries.change(cell, { _tag: "Failed", error, retryAt: yield* this.#retryAfter(cell, error) })
        }
        // storage has been warned of
        if (cell.entry.isProgramOwned) return
        yield* logWarning("Serving a cached credential that Aden did not confirm").pipe(
          Effect.annotateLogs({ credential: cleanText(cell.id), error: error._tag, reason: error.message })
        )
        yield* Metric.update(servedStale, 1)
        yield* this.#entries.publish({ _tag: "ServedStale", id: cell.id, error: error._tag })
      })
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // One question
  // -------------------------------------------------------------------------------------------------------------------

  /** Under the storage's lock, and with what others did since in view. */
  #flight(cell: Cell, purpose: Purpose): Effect.Effect<Credential, CredentialFailure> {
    const entries = this.#entries
    return Effect.suspend(() => {
      this.#hasDrained = false
      let answer: Result.Result<Credential, CredentialFailure> | undefined
      const question = Effect.map(Effect.result(this.#underLock(cell, purpose)), (result) => {
        answer = result
        return result
      })
      const { credential } = cell.entry
      return entries.storage.withLock(cell.id, question).pipe(
        Effect.catch((error) =>
          answer !== undefined
            ? Effect.succeed(answer)
            : error.reason._tag === "StorageIoFailed"
            // a disk that takes no lock must not keep a token from the program; the lane of this process remains
            ? Effect.andThen(entries.warnOfStorage(error), question)
            : this.#withoutLock(cell, purpose, { error, before: credential })
        ),
        Effect.flatMap(Effect.fromResult)
      )
    }).pipe(
      Effect.withSpan("CredentialStore.renew", { attributes: { "credential.id": cell.id } })
    )
  }

  /** A lock that could not be had says nothing about the credential: whoever holds it may have renewed it. */
  #withoutLock(cell: Cell, purpose: Purpose, options: {
    readonly error: CredentialStorageError
    readonly before: Credential | undefined
  }): Effect.Effect<Result.Result<Credential, CredentialFailure>, StorageFailure> {
    return Effect.gen({ self: this }, function*() {
      const entries = this.#entries
      yield* entries.orElseWhenStorageFails(entries.load(cell), false)
      const before = options.before?.defaultKey?.value
      const wanted: Purpose = purpose._tag === "Force" && before !== undefined
        ? { _tag: "Replace", token: before }
        : purpose
      const decision = decideFor(wanted, cell.entry, yield* entries.circumstances(cell.entry))
      return decision._tag === "Serve" ? Result.succeed(decision.credential) : Result.fail(options.error)
    })
  }

  #underLock(cell: Cell, purpose: Purpose): Effect.Effect<Credential, CredentialFailure> {
    return Effect.gen({ self: this }, function*() {
      const entries = this.#entries
      const failure = yield* entries.load(cell).pipe(
        Effect.as(undefined),
        Effect.catchTag("CredentialStorageError", (error) => Effect.as(entries.warnOfStorage(error), error))
      )
      yield* this.#resolver.resolveProvider(cell)
      const provider = entries.providerFor(cell.entry)
      if (provider === undefined) {
        const { credential, isBlocked, isProgramOwned } = cell.entry
        if (failure !== undefined && isProgramOwned) return yield* failure
        if (credential !== undefined) return credential
        return yield* isBlocked ? reauthRequired(cell.entry) : new CredentialNotFound({ ref: cell.id })
      }
      const circumstances = yield* entries.circumstances(cell.entry)
      const decision = decideFor(purpose, cell.entry, circumstances)
      if (decision._tag === "Serve") return decision.credential
      if (decision._tag === "Fail") return yield* decision.error
      const { question } = decision
      const basis = yield* this.#commit.basisOf(cell)
      return yield* this.#ask(provider, question, basis).pipe(
        Effect.tapError((error) => this.recordFailure(basis, error)),
        instrumented(cell.id, question === "refresh" ? "refresh" : "fetch")
      )
    })
  }

  /** Asks the provider, and takes the answer over. */
  #ask(
    provider: CredentialProvider,
    question: Question,
    basis: RequestBasis
  ): Effect.Effect<Credential, CredentialFailure> {
    return Effect.gen({ self: this }, function*() {
      const { cell } = basis
      if (question === "refresh") return yield* this.#askForNew(provider, basis)
      if (question === "validate") {
        const validation = yield* provider.validate(cell).pipe(
          Effect.catchTag("IntegrationNotFound", () => this.#confirmRemoval(provider, basis))
        )
        if (validation.requiresReauthorization) return yield* reauthRequired(cell.entry, validation)
      }
      const answer = yield* provider.fetch(cell.id)
      if (Option.isNone(answer)) return yield* this.#confirmRemoval(provider, basis)
      const credential = yield* this.#commit.answer({ basis, answer: answer.value, isRefresh: false })
      if (!this.#commit.isCurrent(basis) || (yield* this.#isServable(cell, credential))) return credential
      // this question renews nothing, and the token has expired
      return yield* this.#askForNew(provider, yield* this.#commit.basisOf(cell))
    })
  }

  #askForNew(provider: CredentialProvider, basis: RequestBasis): Effect.Effect<Credential, CredentialFailure> {
    return Effect.gen({ self: this }, function*() {
      const { cell } = basis
      const isLastChance = expiresBeforeProbe(cell.entry, yield* this.#entries.circumstances(cell.entry))
      const credential = yield* provider.refresh(cell.entry.credential ?? emptyCredential(cell.id, provider.id)).pipe(
        Effect.provideService(BypassCircuit, isLastChance),
        Effect.tap(() => this.#entries.change(cell, { _tag: "RefreshAnswered" })),
        Effect.flatMap((answer) => this.#commit.answer({ basis, answer, isRefresh: true })),
        Effect.catchTag("IntegrationNotFound", () => this.#confirmRemoval(provider, basis))
      )
      return !this.#commit.isCurrent(basis) || (yield* this.#isServable(cell, credential))
        ? credential
        : yield* unservable(cell.entry)
    })
  }

  /** The provider does not have the integration. Only when its list lacks it too is the entry gone. */
  #confirmRemoval(
    provider: CredentialProvider,
    basis: RequestBasis
  ): Effect.Effect<never, AdenRequestFailure | CredentialNotFound> {
    return Effect.gen({ self: this }, function*() {
      const { entry, id } = basis.cell
      // of what nothing is known there is nothing to remove
      if (!entry.isVacant) {
        yield* this.#listings.confirmAbsence(provider, id)
        yield* this.#commit.remove(basis)
      }
      return yield* new CredentialNotFound({ ref: id })
    })
  }

  /** Remembers what came of asking, so that the next question comes in due time. */
  recordFailure(basis: RequestBasis, error: CredentialFailure | FetchFailure) {
    return Effect.gen({ self: this }, function*() {
      const { cell } = basis
      if (error._tag === "CredentialNotFound" || cell.entry.isProgramOwned) return
      // a rate limit holds whatever the program did in that time
      if (!this.#commit.isCurrent(basis) && error._tag !== "RateLimited") return
      if (error._tag === "ReauthRequired") return yield* this.#commit.block(basis, error)
      const now = yield* Clock.currentTimeMillis
      const retryAt = yield* this.#retryAfter(cell, error)
      yield* this.#commit.note(
        cell,
        error._tag === "RateLimited"
          ? { _tag: "RateLimited", error, until: now + Duration.toMillis(error.retryAfter), retryAt }
          : { _tag: "Failed", error, retryAt }
      )
    })
  }

  /** When Aden may be asked again after a failure. */
  #retryAfter(cell: Cell, error: CredentialFailure | FetchFailure): Effect.Effect<number> {
    return Effect.flatMap(
      this.#entries.circumstances(cell.entry),
      (circumstances) => retryAfterFailure(cell, error, circumstances)
    )
  }
}

/** Counts, times and logs a question to Aden. */
const instrumented =
  (id: string, question: "refresh" | "fetch") => <A, E extends CredentialFailure>(self: Effect.Effect<A, E>) =>
    Effect.gen(function*() {
      const [time, exit] = yield* Effect.timed(Effect.exit(self))
      const error = Option.getOrUndefined(Exit.findErrorOption(exit))
      const outcome = Exit.isSuccess(exit) ? "success" : error?._tag ?? "unexpected"
      yield* Metric.update(refreshes({ question, outcome }), 1)
      yield* Metric.update(refreshDuration({ question }), Duration.toSeconds(time))
      yield* logDebug("Asked Aden for a credential").pipe(
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
const unservable = ({ id, isProgramOwned }: Entry): RefreshFailed =>
  new RefreshFailed({
    id,
    detail: isProgramOwned
      ? "it has expired or was found refused, and no provider renews it"
      : "it answered with a token that has already expired, or that the program reported as refused"
  })

/** What a forced refresh starts from when nothing is held. */
const emptyCredential = (id: string, providerId: string): Credential =>
  new Credential({ id, type: "oauth2", keys: new Map(), providerId, autoRefresh: true, description: "", tags: [] })
