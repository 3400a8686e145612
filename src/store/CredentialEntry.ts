import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import { RateLimited, RefreshFailed } from "../errors/AdenError.ts"
import type { CredentialFailure } from "../errors/CredentialError.ts"
import type { CredentialStorageError } from "../errors/StorageError.ts"
import type { Credential, ProviderAccount } from "../model/Credential.ts"
import { CredentialState } from "../model/CredentialState.ts"
import {
  clockTolerance,
  confirmationOf,
  coolDownLeft,
  lifetimeOf,
  localExpiry,
  unconfirmedUntil
} from "../model/freshness.ts"
import type { CredentialProvider } from "../providers/CredentialProvider.ts"
import { PolicyStep } from "./PolicyStep.ts"
import type { RefreshPolicies } from "./RefreshPolicy.ts"

/** What a read finds, the first that holds: see docs/semantics.md. */
export type Freshness = "blocked" | "missing" | "expired" | "due" | "stale" | "fresh"

/** Whether there is a token at hand that neither has run out nor is blocked. */
export const isUnexpired = (freshness: Freshness): boolean =>
  freshness === "fresh" || freshness === "stale" || freshness === "due"

/** Where the credential at hand came from. */
export type CredentialSource = "storage" | "aden"

/** With no more time left than this, in ms, a token is renewed even through an open circuit. */
const probeInterval = 30_000

/** What Aden said of the integration of that id does not concern the program's own. */
export const isOwn = (credential: Credential): boolean =>
  credential.providerId === undefined && !credential.isAdenManaged

/** Of all entries: one that is made in the place of another is not taken for it. */
let epochs = 0

/**
 * One credential in the memory of a store: what is at hand, when it stops being fresh, and when Aden may be asked again. All
 * times are in ms by the local clock.
 */
export class CredentialEntry {
  readonly id: string
  /** Until then a read does no work at all. */
  freshUntil = -Infinity
  /** Before this time the clock has been set back since. */
  freshFrom = -Infinity
  /** `token`'s answer while fresh. */
  token: Exit.Exit<Redacted.Redacted<string>> | undefined = undefined
  /** `get`'s answer while fresh. */
  answer: Exit.Exit<Credential> | undefined = undefined
  credential: Credential | undefined = undefined
  state: CredentialState = CredentialState.initial
  provider: CredentialProvider | undefined = undefined
  source: CredentialSource = "storage"
  /** The disk failed when it was to be saved: what is in memory is newer than what storage holds. */
  isDirty = false
  /** The same for what is remembered beside it. */
  isStateDirty = false
  /** What storage failed with when this entry was last read from it, or written to it. */
  unreadable: CredentialStorageError | undefined = undefined
  unwritable: CredentialStorageError | undefined = undefined
  /** How Aden lists it, where it is known from the list alone. */
  listed: ProviderAccount | undefined = undefined
  lastError: CredentialFailure | undefined = undefined
  /** Aden is not asked in the background before this time. */
  nextAttemptAt = -Infinity
  /** A blocked credential is not checked before this time. */
  nextCheckAt = -Infinity
  /** When Aden last renewed the token for this process. */
  refreshedAt = -Infinity
  /** Changes with what happens to the entry from outside a renewal: an answer asked for before that must not undo it. */
  epoch = ++epochs
  /** What this process saved last: its generation, and the place among all questions of the one that it answers. */
  saved = { generation: -1, order: -1 }
  #expiresAt = Infinity
  #renewAt = Infinity
  /** How far Aden's clock was known to be ahead when `#renewAt` was worked out. */
  #renewOffset = 0
  #staleAt = Infinity
  #firstSeenAt = -Infinity
  #confirmedAt = -Infinity
  #checkedAt = -Infinity
  /** The confirmation that `#staleAt` was worked out from. */
  #steppedAt = NaN
  /** A token that a program found to be refused. */
  #rejected: Redacted.Redacted<string> | undefined = undefined
  readonly #renew: PolicyStep
  readonly #confirm: PolicyStep
  readonly #backOff: PolicyStep
  readonly #recheck: PolicyStep

  constructor(id: string, policies: RefreshPolicies) {
    this.id = id
    this.#renew = new PolicyStep(policies.renew)
    this.#confirm = new PolicyStep(policies.confirm)
    this.#backOff = new PolicyStep(policies.backOff)
    this.#recheck = new PolicyStep(policies.recheck)
  }

  /** Takes a credential over, with its state. */
  readonly adopt = Effect.fnUntraced(function*(this: CredentialEntry, options: {
    readonly credential: Credential
    readonly state: CredentialState
    readonly provider: CredentialProvider | undefined
    readonly source: CredentialSource
    readonly now: number
  }) {
    const { credential, now, provider, source, state } = options
    const isNewToken = this.credential?.holdsTokenOf(credential) !== true
    if (isNewToken) this.#firstSeenAt = now
    const key = credential.defaultKey
    this.token = key === undefined ? undefined : Exit.succeed(key.value)
    this.answer = Exit.succeed(credential)
    this.credential = credential
    this.provider = provider
    this.source = source
    const isOwned = provider === undefined && isOwn(credential)
    yield* this.adoptState(isOwned ? new CredentialState({ generation: state.generation }) : state, now)
    this.#confirmedAt = confirmationOf(state, credential, now) ?? this.#firstSeenAt
    if (provider === undefined) {
      this.#renewAt = Infinity
      this.#staleAt = yield* this.#confirm.until(now, { _tag: "Confirmed" })
      return
    }
    if (this.confirmedAt !== this.#steppedAt) {
      this.#steppedAt = this.confirmedAt
      this.#staleAt = yield* this.#confirm.until(this.confirmedAt, { _tag: "Confirmed" })
    }
    if (!isNewToken) return
    const offset = yield* provider.clockOffset
    const life = lifetimeOf(credential, offset)
    this.#renewOffset = offset
    this.#renewAt = yield* this.#renew.until(now, {
      _tag: "Fetched",
      timeLeft: Duration.millis(localExpiry(credential, offset) - now),
      life: life === undefined ? undefined : Duration.millis(life),
      buffer: provider.refreshBuffer
    })
  })

  /** Takes over what is remembered about the credential. */
  readonly adoptState = Effect.fnUntraced(function*(this: CredentialEntry, state: CredentialState, now: number) {
    const wasBlocked = this.state.blockedSince !== undefined
    this.state = state
    if (state.blockedSince === undefined) return this.#recheck.restart()
    this.freshUntil = -Infinity
    if (!wasBlocked) yield* this.checked(Math.min(now, DateTime.toEpochMillis(state.blockedSince)))
  })

  /** A blocked credential was checked at this time. */
  readonly checked = Effect.fnUntraced(function*(this: CredentialEntry, at: number) {
    this.#checkedAt = at
    this.nextCheckAt = yield* this.#recheck.until(at, { _tag: "Blocked" })
  })

  /** The check ended then, or somebody made another before its time: the policy's delay runs from there, without a step. */
  checkedAgain(at: number): void {
    this.nextCheckAt += at - this.#checkedAt
    this.#checkedAt = at
  }

  /** Works out anew until when the credential is fresh, by the provider's clock as it is known now. */
  readonly recomputeDeadlines = Effect.fnUntraced(function*(this: CredentialEntry) {
    const { credential, provider } = this
    const now = yield* Clock.currentTimeMillis
    if (now < this.freshFrom) this.#forgetTimes(now)
    this.freshFrom = now - clockTolerance
    this.freshUntil = -Infinity
    if (credential === undefined) return
    const offset = provider === undefined ? 0 : yield* provider.clockOffset
    this.#expiresAt = localExpiry(credential, offset)
    this.#renewAt -= offset - this.#renewOffset
    this.#renewOffset = offset
    if (this.state.blockedSince === undefined && !this.#isRejected) {
      this.freshUntil = Math.min(this.#expiresAt, this.#renewAt, this.#staleAt)
    }
  })

  /** The clock was set back: what was worked out by the wrong one would keep Aden from being asked until it is reached again. */
  #forgetTimes(now: number): void {
    this.nextAttemptAt = -Infinity
    this.nextCheckAt = -Infinity
    this.refreshedAt = -Infinity
    this.#confirmedAt = Math.min(this.#confirmedAt, now)
    this.#staleAt = Math.min(this.#staleAt, now)
  }

  freshness(now: number): Freshness {
    if (this.state.blockedSince !== undefined) return "blocked"
    if (this.credential === undefined) return "missing"
    if (now >= this.#expiresAt || this.#isRejected) return "expired"
    if (now >= this.#renewAt) return "due"
    return now >= this.#staleAt ? "stale" : "fresh"
  }

  /** Whether a credential, at hand or just answered, may be served: it expires later and its token was not found refused. */
  isServable(
    credential: Credential,
    { expiresAt, now }: { readonly expiresAt: number; readonly now: number }
  ): boolean {
    return now < expiresAt && !this.#rejects(credential)
  }

  /** Until when the credential may be served although Aden does not confirm it. */
  servableUntil(maxStale: number): number {
    // nobody confirms the program's own
    if (this.provider === undefined) return this.#expiresAt
    return Math.min(this.#expiresAt, unconfirmedUntil(this.state, { confirmedAt: this.confirmedAt, maxStale }))
  }

  /** Whether no provider renews what is at hand: somebody may have saved it while a provider was asked about what was there before. */
  get isProgramOwned(): boolean {
    return this.credential !== undefined && this.provider === undefined
  }

  /** Whether what is at hand may be served, confirmed or not. */
  mayBeServed(now: number, maxStale: number): boolean {
    return isUnexpired(this.freshness(now)) && now < this.servableUntil(maxStale)
  }

  /** When Aden last confirmed the credential, as far as known; else when it was first seen here. */
  get confirmedAt(): number {
    return this.#confirmedAt
  }

  get expiresAt(): number {
    return this.#expiresAt
  }

  get renewAt(): number {
    return Math.min(this.#renewAt, this.#expiresAt)
  }

  /** Ms left until Aden may be asked after it limited the rate; 0 or less when it may be. */
  coolDownLeft(now: number): number {
    return coolDownLeft(this.state, now)
  }

  /** The token at hand is not to be served again, nor does an answer that was asked for before take its place. */
  reject(): void {
    this.#rejected = this.credential?.defaultKey?.value
    this.freshUntil = -Infinity
    this.epoch = ++epochs
  }

  /** Nothing is at hand any more. */
  clear(): void {
    this.credential = undefined
    this.answer = undefined
    this.token = undefined
    this.state = CredentialState.initial
    this.freshUntil = -Infinity
    this.isDirty = false
    this.isStateDirty = false
    this.epoch = ++epochs
  }

  /** The program saved its own: it means that to be used, and what Aden said of what was there before is over. */
  replaced(): void {
    this.clear()
    this.#rejected = undefined
    this.lastError = undefined
    this.nextAttemptAt = -Infinity
  }

  /** Aden failed: it is not asked in the background before the policy's delay is over. */
  readonly failed = Effect.fnUntraced(function*(this: CredentialEntry, now: number, error: CredentialFailure) {
    const isUsable = this.credential !== undefined && !this.#isRejected
    this.nextAttemptAt = yield* this.#backOff.until(now, {
      _tag: "Failed",
      error: error._tag,
      retryAfter: error._tag === "RateLimited" ? error.retryAfter : undefined,
      timeLeft: Duration.millis(isUsable ? Math.max(0, this.#expiresAt - now) : 0)
    })
  })

  /**
   * Aden answered. A token that is due even so (it answered the same one, or one that is about to expire) is asked about
   * again after half of what is left of it.
   */
  succeeded(now: number): void {
    this.#backOff.restart()
    this.nextAttemptAt = now >= this.#renewAt ? now + Math.max(1_000, (this.#expiresAt - now) / 2) : -Infinity
    this.lastError = undefined
  }

  /** Until Aden may be asked again there is nothing to do for a read but serve what is at hand. */
  serveUntilNextAttempt(maxStale: number): void {
    if (this.state.blockedSince !== undefined || this.#isRejected || this.credential === undefined) return
    const { coolDownUntil } = this.state
    const next = Math.max(
      this.nextAttemptAt,
      coolDownUntil === undefined ? -Infinity : DateTime.toEpochMillis(coolDownUntil)
    )
    this.freshUntil = Math.max(this.freshUntil, Math.min(next, this.servableUntil(maxStale)))
  }

  /** Whether the token expires before a circuit that is open would let anything through. */
  expiresBeforeProbe(now: number): boolean {
    return this.freshness(now) === "due" && this.#expiresAt - now <= probeInterval
  }

  /** While Aden limits the rate, nothing is asked for this credential. */
  failWhileRateLimited(now: number): Effect.Effect<void, RateLimited> {
    const left = this.coolDownLeft(now)
    return left > 0 ? Effect.fail(new RateLimited({ id: this.id, retryAfter: Duration.millis(left) })) : Effect.void
  }

  /**
   * What a caller is told while Aden is not asked again. Without a usable token an outage is no reason to wait: the next read
   * may be the one that gets through, and the circuit protects Aden. A refusal is one.
   */
  backoffError(now: number): CredentialFailure | undefined {
    const { lastError } = this
    const freshness = this.freshness(now)
    if (now >= this.nextAttemptAt || lastError === undefined || freshness === "blocked") return undefined
    const retryAfter = Duration.millis(this.nextAttemptAt - now)
    if (lastError._tag === "RefreshFailed") {
      return new RefreshFailed({ id: lastError.id, detail: lastError.detail, retryAfter })
    }
    if (lastError._tag === "RateLimited" && isUnexpired(freshness)) return new RateLimited({ id: this.id, retryAfter })
    return lastError._tag === "AdenRejected" || isUnexpired(freshness) ? lastError : undefined
  }

  get #isRejected(): boolean {
    return this.credential !== undefined && this.#rejects(this.credential)
  }

  #rejects(credential: Credential): boolean {
    const token = credential.defaultKey?.value
    return this.#rejected !== undefined && token !== undefined &&
      Redacted.value(token) === Redacted.value(this.#rejected)
  }
}
