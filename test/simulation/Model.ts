/**
 * What a read may answer, given what happened before: docs/semantics.md as a pure state machine. It knows one credential as one
 * store can know it, and only those rules of the store.
 *
 * All times are in ms by the local clock, except a token's expiry, which is by Aden's.
 */
import type { Issued } from "./ScriptedAden.ts"

/** What a store knows of a credential. */
export interface View {
  readonly token: Issued | undefined
  /** When this token was first received. */
  readonly receivedAt: number
  /** When Aden last confirmed it. */
  readonly confirmedAt: number
  readonly isBlocked: boolean
  /** A token that the program found to be refused. */
  readonly rejected: ReadonlyArray<Issued>
  /** When Aden first refused the API key since it last confirmed the credential. */
  readonly refusedSince: number | undefined
  /** Until when Aden asked not to be asked. */
  readonly coolDownUntil: number
  /** The failures since Aden last confirmed it, and the last of them. */
  readonly failures: number
  readonly lastFailure: { readonly tag: string; readonly at: number } | undefined
  /** False while answers that overlapped one another, or a change by the program, leave open which of them holds. */
  readonly isCertain: boolean
}

export const unknown: View = {
  token: undefined,
  receivedAt: -Infinity,
  confirmedAt: -Infinity,
  isBlocked: false,
  rejected: [],
  refusedSince: undefined,
  coolDownUntil: -Infinity,
  failures: 0,
  lastFailure: undefined,
  isCertain: true
}

/** What Aden said of a credential. */
export type Answer =
  | { readonly _tag: "Token"; readonly token: Issued; readonly isRefresh: boolean }
  | { readonly _tag: "Blocked" }
  | { readonly _tag: "NotFound" }
  | { readonly _tag: "RateLimited"; readonly retryAfter: number }
  | { readonly _tag: "Failed"; readonly tag: string }
  | { readonly _tag: "Validity" }

// ---------------------------------------------------------------------------------------------------------------------
// What happens
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Aden answered. An answer is unclean when it was not asked for and received alone: another question about the credential, or a
 * change by the program, fell between. The program's own credential is not Aden's to change.
 */
export const received = (
  view: View,
  answer: Answer,
  at: { readonly now: number; readonly isClean: boolean }
): View => {
  if (view.token?.isOwn === true) return view
  const { isClean, now } = at
  switch (answer._tag) {
    case "Token": {
      const isSame = view.token?.value === answer.token.value
      // the very token that the program found refused: a renewal that failed
      const isUseless = answer.isRefresh && isRejected(view, answer.token)
      return {
        ...unknown,
        token: answer.token,
        receivedAt: isSame ? view.receivedAt : now,
        confirmedAt: now,
        rejected: view.rejected,
        failures: isUseless ? view.failures + 1 : 0,
        lastFailure: isUseless ? { tag: "RefreshFailed", at: now } : undefined,
        isCertain: isClean
      }
    }
    case "Blocked":
      return { ...view, isBlocked: true, isCertain: isClean }
    case "NotFound":
      return { ...view, isCertain: false }
    case "RateLimited":
      return { ...view, coolDownUntil: Math.max(view.coolDownUntil, now + answer.retryAfter) }
    case "Failed": {
      const isRefusal = answer.tag === "AdenUnauthorized" || answer.tag === "AdenForbidden"
      return {
        ...view,
        refusedSince: isRefusal ? view.refusedSince ?? now : view.refusedSince,
        failures: view.failures + 1,
        lastFailure: { tag: answer.tag, at: now },
        isCertain: view.isCertain && isClean
      }
    }
    case "Validity":
      return view
  }
}

/** The program keeps a credential of its own under this id. */
export const saved = (token: Issued, now: number): View => ({
  ...unknown,
  token,
  receivedAt: now,
  confirmedAt: now
})

/** An API refused the current token. */
export const invalidated = (view: View): View => ({
  ...view,
  rejected: view.token === undefined ? view.rejected : [view.token, ...view.rejected]
})

const isRejected = ({ rejected }: View, token: Issued): boolean => rejected.some(({ value }) => value === token.value)

/** The entry is gone, by the program's wish or because Aden does not have it any more. */
export const removed: View = unknown

/** A new store over the same storage: what was never stored is forgotten. */
export const restarted = (view: View): View => ({
  ...view,
  rejected: [],
  failures: 0,
  lastFailure: undefined
})

// ---------------------------------------------------------------------------------------------------------------------
// What a read finds
// ---------------------------------------------------------------------------------------------------------------------

/** Circumstances of a read: the time, how far Aden's clock is ahead as the store can know it, and the store's settings. */
export interface Moment {
  readonly now: number
  readonly clockOffset: number
  readonly maxStale: number
}

/** For how long a token is served after Aden first refused the API key. */
const refusedLimit = 3_600_000

export const isExpired = (token: Issued, { clockOffset, now }: Moment): boolean =>
  token.expiresAt !== undefined && now + (token.isOwn ? 0 : clockOffset) >= token.expiresAt

/** Whether the credential was confirmed too long ago to be served. */
export const isTooOld = (
  view: Pick<View, "confirmedAt" | "refusedSince">,
  { maxStale, now }: Moment
): boolean =>
  now >= view.confirmedAt + maxStale || (view.refusedSince !== undefined && now >= view.refusedSince + refusedLimit)

export type Finding = "blocked" | "missing" | "expired" | "too old" | "servable"

/** What a read finds: fresh, due and stale are one here, because all three are served at once. */
export const find = (view: View, moment: Moment): Finding => {
  if (view.isBlocked) return "blocked"
  if (view.token === undefined) return "missing"
  if (isExpired(view.token, moment) || isRejected(view, view.token)) return "expired"
  return !view.token.isOwn && isTooOld(view, moment) ? "too old" : "servable"
}

/** When a confirmation may be too old at the earliest: the last fifth of `cacheTtl` is spread. */
const earliestStale = 0.8

/** Whether Aden need not be asked: confirmed lately and not yet within the widest refresh buffer. */
export const isFresh = (
  view: View,
  moment: Moment & { readonly cacheTtl: number; readonly refreshBuffer: number }
): boolean => {
  const { clockOffset, now } = moment
  if (find(view, moment) !== "servable" || now >= view.confirmedAt + earliestStale * moment.cacheTtl) return false
  if (view.token?.expiresAt === undefined) return true
  const expiry = view.token.expiresAt - clockOffset
  const halfLife = Math.max(0, expiry - view.receivedAt) / 2
  return now < expiry - Math.min(1.2 * Math.min(moment.refreshBuffer, halfLife), halfLife)
}

// ---------------------------------------------------------------------------------------------------------------------
// When Aden may be asked again
// ---------------------------------------------------------------------------------------------------------------------

/** The shortest delay after the n-th failure in a row: 5 s doubled each time, at most 5 min, less the jitter of a fifth. */
export const shortestBackOff = (failures: number): number => 0.8 * Math.min(5_000 * 2 ** (failures - 1), 300_000)

/** From when a background attempt may be made after what happened last: in time for a token that is about to expire. */
export const backgroundFrom = ({ failures, lastFailure, token }: View, clockOffset: number): number => {
  if (lastFailure === undefined) return -Infinity
  const timeLeft = (token?.expiresAt ?? Infinity) - clockOffset - lastFailure.at
  return lastFailure.at + Math.min(shortestBackOff(failures), Math.max(1_000, timeLeft * 3 / 4))
}

/** With this much time left or less, in ms, a token is refreshed through an open circuit: it would expire before the probe. */
export const probeInterval = 30_000

/** How many requests a question is worth, all retries included. */
export const attempts = 3

/** The circuit opens after this many answers in a row with which Aden was unavailable, and stays open this long at most, in ms. */
export const opensAfter = 5
export const openFor = 30_000

/** The shortest time that the circuit stays open, in ms, when it opens for the n-th time in a row. */
export const shortestOpening = (openings: number): number =>
  0.775 * Math.min(1_000 * 1.55 ** Math.max(0, openings - 1), openFor)

/** A circuit that nothing has asked for so long, in ms, may have been forgotten. */
export const circuitIdle = 3_600_000

/** A blocked credential is checked at most this often, in ms. */
export const recheckInterval = 30_000

// ---------------------------------------------------------------------------------------------------------------------
// Aden's clock
// ---------------------------------------------------------------------------------------------------------------------

/** How far Aden's clock is ahead, from the last five `Date`s measured against the middle of their requests. */
export const clockOffsetOf = (samples: ReadonlyArray<number>): number => {
  const last = samples.slice(-5).toSorted((a, b) => a - b)
  const median = last[last.length >> 1] ?? 0
  return Math.abs(median) < 2_000 ? 0 : Math.max(-300_000, Math.min(300_000, median))
}

// ---------------------------------------------------------------------------------------------------------------------
// What a read may answer
// ---------------------------------------------------------------------------------------------------------------------

/** What came of a read: a token, or the tag of an error. */
export type Outcome =
  | { readonly _tag: "Success"; readonly token: Issued }
  | { readonly _tag: "Failure"; readonly tag: string }

/** The views of the credential that a store had between the start and the end of a read, and how long that was. */
export interface Reading {
  readonly views: readonly [View, ...Array<View>]
  readonly start: Moment
  readonly end: Moment
  /** How long the caller waited, by the timer, in ms. */
  readonly waited: number
  readonly deadline: number
  /** Tokens that Aden answered during the read. */
  readonly answers: ReadonlySet<string>
  /** The tags of what failed during the read, when this credential or the list was asked for. */
  readonly failures: ReadonlySet<string>
  /** Whether Aden's list, received not long ago, lacks the credential, or it was removed during the read. */
  readonly isUnlisted: boolean
  /** Until when Aden asked not to be asked for its list. */
  readonly listCoolDownUntil: number
}

/** Why the outcome is wrong; `undefined` when it may be. */
export const judge = (outcome: Outcome, reading: Reading): string | undefined => {
  const { end, start, views, waited } = reading
  const isCertain = views.every((view) => view.isCertain)
  const first = find(views[0], start)
  if (waited > reading.deadline) return `it waited ${waited} ms, longer than the deadline`
  if (isCertain && views.length === 1 && first === "servable") {
    if (outcome._tag === "Failure") return `${outcome.tag}, although there is an unexpired token`
    if (waited > 0) return `it waited ${waited} ms, although there is an unexpired token`
  }
  if (outcome._tag === "Success") {
    if (!isCertain || reading.answers.has(outcome.token.value)) return undefined
    return views.some((view) =>
        view.token?.value === outcome.token.value && ["servable", "expired"].includes(find(view, end))
      )
      ? undefined
      : `a token that ${views.map((view) => find(view, end)).join(" then ")} does not allow`
  }
  const isGone = outcome.tag === "CredentialNotFound" && reading.isUnlisted
  if (isCertain && first === "blocked" && views.length === 1 && outcome.tag !== "ReauthRequired" && !isGone) {
    return `${outcome.tag}, although it is blocked`
  }
  return explains(outcome.tag, reading)
    ? undefined
    : `${outcome.tag}, which nothing explains (${views.map((view) => find(view, end)).join(" then ")})`
}

/** Whether something that happened during the read, or is remembered from before, gives this error. */
export const explains = (
  tag: string,
  { deadline, end, failures, isUnlisted, listCoolDownUntil, start, views, waited }: Reading
): boolean => {
  if (failures.has(tag)) return true
  if (views.some((view) => !view.isCertain && tag !== "CredentialNotFound")) return true
  switch (tag) {
    case "ReauthRequired":
      return views.some((view) => view.isBlocked)
    case "RateLimited":
      return views.some((view) => start.now < view.coolDownUntil) || start.now < listCoolDownUntil
    case "AdenUnavailable":
      return waited >= deadline || isPaused(tag, views, end)
    case "CredentialNotFound":
      return isUnlisted
    case "RefreshFailed":
      return isPaused(tag, views, end) ||
        views.some((view) => view.token?.isOwn === true && find(view, end) === "expired")
    default:
      return isPaused(tag, views, end)
  }
}

/** The same refusal as before, without a request, until the policy's next time. */
const isPaused = (tag: string, views: ReadonlyArray<View>, { now }: Moment): boolean =>
  views.some(({ failures, lastFailure }) =>
    // a list that could not be had counts too, which is not known here
    lastFailure?.tag === tag && now < lastFailure.at + shortestBackOff(failures + 1) * 1.5 + 1
  )
