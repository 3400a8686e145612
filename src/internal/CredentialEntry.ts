import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Pull from "effect/Pull"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type { Credential, ProviderAccount } from "../Credential.ts"
import type { CredentialFailure } from "../CredentialError.ts"
import type { CredentialProvider } from "../CredentialProvider.ts"
import { CredentialState } from "../CredentialStorage.ts"
import type { RefreshOutcome, RefreshPolicy } from "../RefreshPolicy.ts"
import { dueAt, expiryOf } from "./freshness.ts"

/** What a read finds, the first that holds: see docs/semantics.md. */
export type Freshness = "blocked" | "missing" | "expired" | "due" | "stale" | "fresh"

/** Where the credential at hand came from. */
export type CredentialSource = "memory" | "storage" | "aden"

/** For how long a token is served after Aden refused the API key, in ms: one hour. */
const refusedLimit = 3_600_000

/**
 * One credential in the memory of a store: what is at hand, when it stops being fresh, and when Aden may be asked again. All
 * times are in ms by the local clock.
 */
export class CredentialEntry {
  readonly id: string
  /** Nothing asks before this time, and until then reads do no work at all. */
  freshUntil = -Infinity
  /** `token`'s answer while fresh. */
  token: Exit.Exit<Redacted.Redacted<string>> | undefined = undefined
  credential: Credential | undefined = undefined
  state: CredentialState = CredentialState.initial
  provider: CredentialProvider | undefined = undefined
  source: CredentialSource = "storage"
  /** When storage was last read or written. */
  readAt = -Infinity
  /** Aden is not asked in the background before this time. */
  nextAttemptAt = -Infinity
  lastError: CredentialFailure | undefined = undefined
  /** The disk failed when it was to be saved: what is in memory is newer than what storage holds. */
  isUnsaved = false
  /** When a blocked credential was last checked. */
  checkedAt = -Infinity
  /** How Aden lists it, where it is known from the list alone. */
  listed: ProviderAccount | undefined = undefined
  /** Counts what happens to the entry from outside a renewal: an answer asked for before that must not undo it. */
  epoch = 0
  #expiresAt = Infinity
  #dueAt = Infinity
  #jitter = 1
  #firstSeenAt = -Infinity
  /** A token that a program found to be refused. */
  #rejected: Redacted.Redacted<string> | undefined = undefined
  #backOff:
    | ((now: number, outcome: RefreshOutcome) => Pull.Pull<[unknown, Duration.Duration], never, unknown>)
    | undefined = undefined

  constructor(id: string) {
    this.id = id
  }

  /** Takes a credential over, with its state. */
  readonly adopt = Effect.fnUntraced(function*(this: CredentialEntry, options: {
    readonly credential: Credential
    readonly state: CredentialState
    readonly provider: CredentialProvider | undefined
    readonly source: CredentialSource
    readonly now: number
  }) {
    if (this.credential?.holdsTokenOf(options.credential) !== true) {
      this.#jitter = 0.8 + 0.4 * (yield* Random.next)
      this.#firstSeenAt = options.now
    }
    this.credential = options.credential
    this.state = options.state
    this.provider = options.provider
    this.source = options.source
    this.readAt = options.now
    const key = options.credential.defaultKey
    this.token = key === undefined ? undefined : Exit.succeed(key.value)
    if (this.state.blockedSince !== undefined) {
      this.checkedAt = Math.max(this.checkedAt, DateTime.toEpochMillis(this.state.blockedSince))
    }
  })

  /** Works the thresholds out anew, by the provider's clock as it is known now. */
  readonly measure = Effect.fnUntraced(function*(this: CredentialEntry, options: {
    readonly cacheTtl: number
    readonly autoRefresh: boolean
  }) {
    const { credential, provider } = this
    if (credential === undefined || this.state.blockedSince !== undefined || this.#isRejected) {
      this.freshUntil = -Infinity
      return
    }
    const offset = provider === undefined ? 0 : yield* provider.clockOffset
    this.#expiresAt = expiryOf(credential, offset)
    this.#dueAt = provider === undefined || !options.autoRefresh ? this.#expiresAt : dueAt(credential, {
      buffer: Duration.toMillis(provider.refreshBuffer),
      jitter: this.#jitter,
      offset
    })
    this.freshUntil = Math.min(this.#dueAt, this.#staleAt(options.cacheTtl))
  })

  freshness(now: number, cacheTtl: number): Freshness {
    if (this.state.blockedSince !== undefined) return "blocked"
    if (this.credential === undefined) return "missing"
    if (now >= this.#expiresAt || this.#isRejected) return "expired"
    if (now >= this.#dueAt) return "due"
    return now >= this.#staleAt(cacheTtl) ? "stale" : "fresh"
  }

  /** Until when the credential may be served although Aden does not confirm it. */
  servableUntil(maxStale: number): number {
    const refusedSince = this.state.refusedSince
    const limit = this.confirmedAt + maxStale
    return Math.min(
      this.#expiresAt,
      refusedSince === undefined ? limit : Math.min(limit, DateTime.toEpochMillis(refusedSince) + refusedLimit)
    )
  }

  /** When Aden last confirmed the credential, as far as known; else when it was first seen here. */
  get confirmedAt(): number {
    const time = this.state.lastConfirmed ?? this.credential?.lastRefreshed
    return time === undefined ? this.#firstSeenAt : DateTime.toEpochMillis(time)
  }

  get expiresAt(): number {
    return this.#expiresAt
  }

  get dueAt(): number {
    return this.#dueAt
  }

  /** Ms left until Aden may be asked after it limited the rate; 0 or less when it may be. */
  coolDownLeft(now: number): number {
    return this.state.coolDownUntil === undefined ? 0 : DateTime.toEpochMillis(this.state.coolDownUntil) - now
  }

  /** The token at hand is not to be served again. */
  reject(): void {
    this.#rejected = this.credential?.defaultKey?.value
    this.freshUntil = -Infinity
    this.epoch++
  }

  /** Nothing is at hand any more. */
  clear(): void {
    this.credential = undefined
    this.token = undefined
    this.state = CredentialState.initial
    this.freshUntil = -Infinity
    this.epoch++
  }

  /** Steps the policy for a failure: Aden is not asked in the background before its delay is over. */
  readonly backOff = Effect.fnUntraced(
    function*(this: CredentialEntry, policy: RefreshPolicy, now: number, outcome: RefreshOutcome) {
      this.#backOff ??= yield* Schedule.toStep(policy)
      this.nextAttemptAt = yield* this.#backOff(now, outcome).pipe(
        Effect.map(([, delay]) => now + Duration.toMillis(delay)),
        Pull.catchDone(() => Effect.succeed(Infinity))
      )
    }
  )

  /**
   * Starts the policy anew after a success. A token that is due even so (the provider answered the same one, or one that is
   * about to expire) is asked about again after half of what is left of it.
   */
  succeed(now: number): void {
    this.#backOff = undefined
    this.nextAttemptAt = now >= this.#dueAt ? now + Math.max(1_000, (this.#expiresAt - now) / 2) : -Infinity
    this.lastError = undefined
  }

  /** Until Aden may be asked again there is nothing to do for a read but serve what is at hand. */
  serveUntilNextAttempt(maxStale: number): void {
    const next = Math.max(
      this.nextAttemptAt,
      this.state.coolDownUntil === undefined
        ? -Infinity
        : DateTime.toEpochMillis(this.state.coolDownUntil)
    )
    if (this.state.blockedSince === undefined && !this.#isRejected && this.credential !== undefined) {
      this.freshUntil = Math.max(this.freshUntil, Math.min(next, this.servableUntil(maxStale)))
    }
  }

  #staleAt(cacheTtl: number): number {
    return (this.provider === undefined ? this.readAt : this.confirmedAt) + cacheTtl
  }

  get #isRejected(): boolean {
    const token = this.credential?.defaultKey?.value
    return this.#rejected !== undefined && token !== undefined &&
      Redacted.value(token) === Redacted.value(this.#rejected)
  }
}
