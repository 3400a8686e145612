/**
 * What a read gets, and what Aden is asked: docs/semantics.md as pure functions.
 */
import * as Duration from "effect/Duration"
import * as Redacted from "effect/Redacted"
import { RateLimited, ReauthRequired, RefreshFailed } from "../../errors/AdenError.ts"
import type { CredentialFailure } from "../../errors/CredentialError.ts"
import type { Credential, CredentialValidation } from "../../model/Credential.ts"
import { coolDownLeft, unconfirmedUntil } from "../../model/freshness.ts"
import type { Entry } from "./Entry.ts"
import { expiryOf } from "./Entry.ts"
import { asOf, isRejected } from "./transition.ts"

/** What a decision depends on beside the entry. */
export interface Circumstances {
  readonly now: number
  /** How far the clock of the entry's provider is ahead, in ms. */
  readonly clockOffset: number
  /** How long a token is served that Aden does not confirm, in ms. */
  readonly maxStale: number
}

/** What a read finds, the first that holds. */
export type Freshness = "blocked" | "missing" | "expired" | "due" | "stale" | "fresh"

/** What is asked: storage alone (of the program's own), or a provider. */
export type Question = "load" | "fetch" | "refresh" | "validate"

export type Decision =
  /** The credential is served, and there is nothing to do for a read before `until`. */
  | { readonly _tag: "Serve"; readonly credential: Credential; readonly until: number }
  /**
   * Stale-while-revalidate: the credential is served, and the question is asked in the background. With `isFirst` the question is asked
   * first, and the credential is served where nobody answers.
   */
  | {
    readonly _tag: "ServeAndAsk"
    readonly credential: Credential
    readonly question: Question
    readonly isFirst: boolean
  }
  | { readonly _tag: "Ask"; readonly question: Question }
  | { readonly _tag: "Fail"; readonly error: CredentialFailure }

/** With no more time left than this, in ms, a token is renewed even through an open circuit. */
const probeInterval = 30_000

export const freshnessOf = (entry: Entry, { clockOffset, now }: Circumstances): Freshness => {
  const { held } = entry
  if (entry.isBlocked) return "blocked"
  if (held === undefined) return "missing"
  if (now >= expiryOf(held.credential) - clockOffset || isRejected(entry, held.credential)) return "expired"
  if (now >= held.renewAt - clockOffset) return "due"
  return now >= held.staleAt ? "stale" : "fresh"
}

/** Whether there is a token that has neither expired nor been refused, and is not blocked. */
export const isUnexpired = (freshness: Freshness): boolean =>
  freshness === "fresh" || freshness === "stale" || freshness === "due"

/** Until when what is held may be served, although Aden does not confirm it. */
const servableUntil = ({ held, state }: Entry, { clockOffset, maxStale }: Circumstances): number => {
  if (held === undefined) return -Infinity
  const expiresAt = expiryOf(held.credential) - clockOffset
  // Aden does not confirm the program's own
  return held.owner === "program"
    ? expiresAt
    : Math.min(expiresAt, unconfirmedUntil(state, { confirmedAt: held.confirmedAt, maxStale }))
}

/** Whether what is held may be served, confirmed or not. */
export const isUsable = (entry: Entry, circumstances: Circumstances): boolean =>
  isUnexpired(freshnessOf(entry, circumstances)) && circumstances.now < servableUntil(entry, circumstances)

/** Whether a credential, held or just answered, has not expired and is not the one that was refused. */
export const isServable = (entry: Entry, credential: Credential, { clockOffset, now }: Circumstances): boolean =>
  now < expiryOf(credential) - clockOffset && !isRejected(entry, credential)

/** When what is held is to be renewed; `Infinity` for never. */
export const renewalAt = ({ held }: Entry, { clockOffset }: Circumstances): number =>
  held === undefined ? Infinity : Math.min(held.renewAt, expiryOf(held.credential)) - clockOffset

/** Ms left until what is held expires. */
export const timeLeft = ({ held }: Entry, { clockOffset, now }: Circumstances): number =>
  held === undefined ? 0 : expiryOf(held.credential) - clockOffset - now

/** What a read gets. */
export const decide = (entry: Entry, circumstances: Circumstances): Decision => {
  const { now } = circumstances
  const known = asOf(entry, now)
  const { held } = known
  const freshness = freshnessOf(known, circumstances)
  const question = questionFor(known, freshness)
  if (freshness === "blocked") {
    return now >= known.recheckAt && coolDownLeft(known.state, now) <= 0
      ? { _tag: "Ask", question }
      : { _tag: "Fail", error: reauthRequired(known) }
  }
  if (held === undefined || !isUsable(known, circumstances)) {
    const error = held?.owner === "program" ? undefined : whyNotAsked(known, circumstances)
    return error === undefined ? { _tag: "Ask", question } : { _tag: "Fail", error }
  }
  const { credential } = held
  const until = servableUntil(known, circumstances)
  if (freshness === "fresh") {
    return { _tag: "Serve", credential, until: Math.min(until, held.staleAt, renewalAt(known, circumstances)) }
  }
  const askAt = mayAskAt(known, circumstances)
  return now < askAt
    ? { _tag: "Serve", credential, until: Math.min(askAt, until) }
    : { _tag: "ServeAndAsk", credential, question, isFirst: mayBeBlocked(known, freshness) }
}

/**
 * Whether somebody says that it is blocked who may not be believed. That is asked about no more often than any credential is: a
 * confirmation holds its time.
 */
const mayBeBlocked = ({ held, state }: Entry, freshness: Freshness): boolean =>
  state.mayBeBlocked === true && held?.owner === "provider" && freshness !== "fresh"

/** When Aden may be asked in the background. */
const mayAskAt = ({ retryAt, state }: Entry, { now }: Circumstances): number =>
  Math.max(retryAt, now + coolDownLeft(state, now))

/** What a question is for, where it is not only for a read. */
export type Purpose =
  /** To have a credential that may be served. */
  | { readonly _tag: "Read" }
  /** To have what is held confirmed, however fresh it is. */
  | { readonly _tag: "Confirm" }
  /** To check a blocked one, whenever that was done last. */
  | { readonly _tag: "Check" }
  /** To have a new token in any case. */
  | { readonly _tag: "Force" }
  /** To have another token than this one, which was refused: another process may have stored one. */
  | { readonly _tag: "Replace"; readonly token: Redacted.Redacted<string> }
  /** To have a token that lasts so long, in ms. */
  | { readonly _tag: "Outlast"; readonly minTimeLeft: number }

/** What a flight does for its purpose, once it has the lock and has read storage. */
export const decideFor = (purpose: Purpose, entry: Entry, circumstances: Circumstances): Decision => {
  const known = asOf(entry, circumstances.now)
  const { held } = known
  switch (purpose._tag) {
    case "Read":
      return decide(known, circumstances)
    case "Confirm": {
      const decision = decide(known, circumstances)
      return decision._tag === "Serve" && held?.owner === "provider" &&
          circumstances.now >= mayAskAt(known, circumstances)
        ? { _tag: "ServeAndAsk", credential: decision.credential, question: "fetch", isFirst: false }
        : decision
    }
    case "Check":
      return known.isBlocked ? failOr(rateLimitOf(known, circumstances.now), "validate") : decide(known, circumstances)
    case "Force":
      return failOr(rateLimitOf(known, circumstances.now), "refresh")
    case "Replace":
      return held !== undefined && !isToken(held.credential, purpose.token) && isUsable(known, circumstances) &&
          !mayBeBlocked(known, freshnessOf(known, circumstances))
        ? { _tag: "Serve", credential: held.credential, until: -Infinity }
        : failOr(rateLimitOf(known, circumstances.now), "refresh")
    case "Outlast":
      if (held === undefined || !isUsable(known, circumstances)) return decide(known, circumstances)
      return isTooShort(known, purpose.minTimeLeft, circumstances)
        ? failOr(whyNotAsked(known, circumstances), "refresh")
        : { _tag: "Serve", credential: held.credential, until: -Infinity }
  }
}

const failOr = (error: CredentialFailure | undefined, question: Question): Decision =>
  error === undefined ? { _tag: "Ask", question } : { _tag: "Fail", error }

/** A token that was renewed less than this long ago, in ms, is not renewed again because it lasts too short. */
const minRefreshInterval = 30_000

/** Whether a token that lasts too short is renewed for that reason. */
export const isTooShort = (entry: Entry, minTimeLeft: number, circumstances: Circumstances): boolean =>
  entry.held?.owner === "provider" && timeLeft(entry, circumstances) < minTimeLeft &&
  circumstances.now - asOf(entry, circumstances.now).refreshedAt >= minRefreshInterval

/** Whether a credential holds this token. */
export const isToken = ({ defaultKey }: Credential, token: Redacted.Redacted<string>): boolean =>
  defaultKey !== undefined && Redacted.value(defaultKey.value) === Redacted.value(token)

/** What is asked of whom, where something is asked. */
const questionFor = ({ held, listed, providerId, state }: Entry, freshness: Freshness): Question => {
  if (held?.owner === "program") return "load"
  switch (freshness) {
    case "blocked":
      return "validate"
    case "due":
    case "expired":
      return "refresh"
    case "missing":
      return providerId === undefined ? "load" : listed?.status === "requires_reauth" ? "validate" : "fetch"
    case "stale":
    case "fresh":
      return state.mayBeBlocked === true ? "validate" : "fetch"
  }
}

/** Why Aden is not asked now, neither by a read that needs a token nor by one that needs a longer one. */
export const whyNotAsked = (entry: Entry, circumstances: Circumstances): CredentialFailure | undefined =>
  rateLimitOf(entry, circumstances.now) ?? backoffError(asOf(entry, circumstances.now), circumstances)

/** While Aden limits the rate, nothing is asked for this credential. */
export const rateLimitOf = (entry: Entry, now: number): RateLimited | undefined => {
  const left = coolDownLeft(entry.state, now)
  return left > 0 ? new RateLimited({ id: entry.id, retryAfter: Duration.millis(left) }) : undefined
}

/**
 * Without a usable token an outage is no reason to wait: the next read may be the one that gets through, and the circuit protects
 * Aden. A refusal is a reason.
 */
const backoffError = (entry: Entry, circumstances: Circumstances): CredentialFailure | undefined => {
  const { failure, retryAt } = entry
  const freshness = freshnessOf(entry, circumstances)
  if (circumstances.now >= retryAt || failure === undefined || freshness === "blocked") return undefined
  const retryAfter = Duration.millis(retryAt - circumstances.now)
  if (failure._tag === "RefreshFailed") return new RefreshFailed({ id: failure.id, detail: failure.detail, retryAfter })
  if (failure._tag === "RateLimited" && isUnexpired(freshness)) return new RateLimited({ id: entry.id, retryAfter })
  return failure._tag === "AdenRejected" || isUnexpired(freshness) ? failure : undefined
}

/** Whether the token expires before a circuit that is open would let anything through. */
export const expiresBeforeProbe = (entry: Entry, circumstances: Circumstances): boolean =>
  freshnessOf(entry, circumstances) === "due" && timeLeft(entry, circumstances) <= probeInterval

/** What a blocked credential fails with: what the last check said, else what is recorded. */
export const reauthRequired = ({ id, state }: Entry, validation?: CredentialValidation): ReauthRequired =>
  new ReauthRequired({
    id,
    reauthorizationUrl: validation?.reauthorizationUrl ?? state.reauthorizationUrl,
    detail: validation?.reason
  })
