/**
 * What happens to an entry, and what becomes of it: the only maker of entries. Dates come with the event: the shell has stepped the
 * policies.
 */
import * as DateTime from "effect/DateTime"
import * as Redacted from "effect/Redacted"
import type { AdenRequestFailure, RateLimited, ReauthRequired } from "../../errors/AdenError.ts"
import type { CredentialFailure } from "../../errors/CredentialError.ts"
import type { CredentialStorageError } from "../../errors/StorageError.ts"
import type { Credential, ProviderAccount } from "../../model/Credential.ts"
import { CredentialState, originOf } from "../../model/CredentialState.ts"
import { clockTolerance } from "../../model/freshness.ts"
import type { EntryFields } from "./Entry.ts"
import { Entry, isProgramsOwn, noTokens } from "./Entry.ts"

/** When something is to be done about a credential that is taken over: see `Held`. */
export interface Dates {
  readonly confirmedAt: number
  readonly renewAt: number
  readonly staleAt: number
}

/** A credential that is taken over, the provider that renews it, and its dates. */
export interface Taken {
  readonly credential: Credential
  /** `undefined` for one that no provider here renews. */
  readonly providerId: string | undefined
  readonly dates: Dates
}

export type EntryEvent =
  /** Storage was read. */
  | {
    readonly _tag: "Loaded"
    readonly state: CredentialState
    readonly found: Taken | undefined
    /** Of one that is blocked and was never fetched: the provider, where there is only one. */
    readonly soleProviderId: string | undefined
    /** When a blocked one is checked first. */
    readonly recheckAt: number
  }
  /** What storage has was saved by another writer: what is dirty here has been overtaken. */
  | { readonly _tag: "Overtaken" }
  /** A provider answered, and the answer was saved, or storage did not take it. */
  | Taken & {
    readonly _tag: "Answered"
    /** The generation that the answer replaces. */
    readonly generation: number
    readonly order: number
    readonly unwritable: CredentialStorageError | undefined
    /** Whether it is what a read needs: a renewal that brings what cannot be served has failed. */
    readonly isServable: boolean
    /** Of a token that is due even so: when it is asked about again. */
    readonly retryAt: number
    /** Whether Aden lists further accounts of the same provider. */
    readonly hasSiblings: boolean
  }
  /** A provider renewed the token, whatever becomes of the answer. */
  | { readonly _tag: "RefreshAnswered" }
  /** The program saved a credential: what Aden said of the one before is over. */
  | Taken & { readonly _tag: "Replaced"; readonly generation: number }
  /** An API refused this token: it is not served again. */
  | { readonly _tag: "Rejected"; readonly token: Redacted.Redacted<string> | undefined }
  /** Aden says that a person has to authorize it again. */
  | {
    readonly _tag: "Blocked"
    readonly error: ReauthRequired
    readonly recheckAt: number
    /** The place of the question among all questions of this process. */
    readonly order: number
  }
  /** A check of a blocked one begins. */
  | { readonly _tag: "Checked"; readonly recheckAt: number }
  | { readonly _tag: "RateLimited"; readonly error: RateLimited; readonly until: number; readonly retryAt: number }
  | { readonly _tag: "Failed"; readonly error: CredentialFailure | AdenRequestFailure; readonly retryAt: number }
  /** The state record was read again: it has what others learnt, below what was learnt here. */
  | { readonly _tag: "StateMerged"; readonly state: CredentialState; readonly isSaved: boolean }
  /** A write-behind went through. */
  | { readonly _tag: "Flushed"; readonly state: CredentialState }
  /** It is gone, here and at Aden, or the program deleted it; `rejected` are tokens that storage may still hold. */
  | { readonly _tag: "Removed"; readonly rejected: ReadonlyArray<Redacted.Redacted<string>> }
  /** A provider lists it. */
  | { readonly _tag: "Listed"; readonly providerId: string; readonly account: ProviderAccount }
  | { readonly _tag: "ProviderFound"; readonly providerId: string }
  /** A write was interrupted, or nobody knows what became of it. */
  | { readonly _tag: "Doubted"; readonly doubt: "write" | "delete" }
  | { readonly _tag: "StorageRead"; readonly error: CredentialStorageError | undefined }
  | { readonly _tag: "StorageWritten"; readonly error: CredentialStorageError | undefined }

/**
 * The entry as it is to be read at a time: where the clock was set back, what was worked out by the wrong one does not keep Aden
 * from being asked until that time comes again.
 */
export const asOf = (entry: Entry, now: number): Entry =>
  now >= entry.at - clockTolerance ? entry : changed(entry, {
    retryAt: -Infinity,
    recheckAt: -Infinity,
    refreshedAt: -Infinity,
    held: entry.held === undefined ? undefined : {
      ...entry.held,
      confirmedAt: Math.min(entry.held.confirmedAt, now),
      staleAt: Math.min(entry.held.staleAt, now)
    }
  })

/** How many refused tokens are remembered: an answer that was long under way may still bring one of them. */
const rejectedCapacity = 8

/** The entry after an event. */
export const transition = (before: Entry, event: EntryEvent, now: number): Entry => {
  const after = next(asOf(before, now), event, now)
  return after === before ? before : changed(after, { at: now })
}

const next = (entry: Entry, event: EntryEvent, now: number): Entry => {
  switch (event._tag) {
    case "Loaded":
      return loaded(entry, event, now)
    case "Overtaken":
      return changed(entry, { dirty: undefined })
    case "Answered": {
      const isSaved = event.unwritable === undefined
      // what was not saved has not been counted
      const generation = isSaved ? event.generation + 1 : event.generation
      const confirmed = new CredentialState({
        generation,
        lastConfirmed: DateTime.makeUnsafe(now),
        ...(event.hasSiblings ? { hasSiblings: true } : {}),
        ...originOf(event.credential)
      })
      const answered = {
        ...taken(event, "aden"),
        listed: undefined,
        unwritable: event.unwritable,
        doubt: undefined,
        saved: isSaved ? { generation, order: event.order } : entry.saved
      }
      // a later question has found it to be blocked: that stays, and is recorded again
      if (entry.isBlocked && entry.blockedBy > event.order) {
        const { blockedSince, lastError, reauthorizationUrl } = entry.state
        return changed(entry, {
          ...answered,
          state: patched(confirmed, { blockedSince, lastError, reauthorizationUrl }),
          dirty: isSaved ? "state" : "credential"
        })
      }
      return changed(entry, {
        ...answered,
        ...(event.isServable ? { failure: undefined, retryAt: event.retryAt } : {}),
        state: confirmed,
        dirty: isSaved ? undefined : "credential"
      })
    }
    case "RefreshAnswered":
      return changed(entry, { refreshedAt: now })
    case "Replaced":
      return changed(entry, {
        ...taken(event, "storage"),
        revision: entry.revision + 1,
        rejected: noTokens,
        failure: undefined,
        retryAt: -Infinity,
        listed: undefined,
        state: new CredentialState({ generation: event.generation }),
        dirty: undefined,
        unreadable: undefined,
        unwritable: undefined,
        doubt: undefined
      })
    case "Rejected":
      // what is being asked is another token; where none is known, it may be the one that was refused
      return event.token === undefined
        ? changed(entry, { revision: entry.revision + 1 })
        : changed(entry, { rejected: [event.token, ...entry.rejected].slice(0, rejectedCapacity) })
    case "Blocked": {
      const { error, recheckAt } = event
      return changed(entry, {
        state: patched(entry.state, {
          blockedSince: entry.state.blockedSince ?? DateTime.makeUnsafe(now),
          reauthorizationUrl: error.reauthorizationUrl ?? entry.state.reauthorizationUrl,
          lastError: error._tag
        }),
        dirty: entry.dirty ?? "state",
        failure: error,
        blockedBy: event.order,
        checkedAt: now,
        recheckAt
      })
    }
    case "Checked":
      return changed(entry, { checkedAt: now, recheckAt: event.recheckAt })
    case "RateLimited":
      return changed(entry, {
        ...(event.until > coolDownEnd(entry.state)
          ? {
            state: patched(entry.state, {
              coolDownUntil: DateTime.makeUnsafe(event.until),
              lastError: event.error._tag
            }),
            dirty: entry.dirty ?? "state"
          }
          : {}),
        failure: event.error,
        retryAt: event.retryAt
      })
    case "Failed": {
      const { error, retryAt } = event
      // storage could not be read again: Aden has no say in it
      if (entry.isProgramOwned) return changed(entry, { retryAt })
      const isDenied = error._tag === "AdenUnauthorized" || error._tag === "AdenForbidden"
      const refusedSince = isDenied ? entry.state.refusedSince ?? DateTime.makeUnsafe(now) : entry.state.refusedSince
      return changed(entry, {
        ...(entry.state.lastError === error._tag && entry.state.refusedSince === refusedSince
          ? {}
          : { state: patched(entry.state, { lastError: error._tag, refusedSince }), dirty: entry.dirty ?? "state" }),
        failure: error,
        retryAt
      })
    }
    case "StateMerged":
      return changed(entry, {
        state: event.state,
        dirty: entry.dirty === "credential" ? "credential" : event.isSaved ? undefined : "state"
      })
    case "Flushed":
      return changed(entry, {
        state: event.state,
        dirty: undefined,
        unwritable: undefined,
        doubt: undefined,
        // whatever is being asked now is newer
        saved: { generation: event.state.generation, order: -1 }
      })
    case "Removed":
      return removed(entry, event.rejected)
    case "Listed":
      return entry.held === undefined
        ? changed(entry, { providerId: entry.providerId ?? event.providerId, listed: event.account })
        : entry
    case "ProviderFound":
      return entry.providerId === undefined && !entry.isProgramOwned
        ? changed(entry, { providerId: event.providerId })
        : entry
    case "Doubted":
      return changed(entry, { doubt: event.doubt })
    case "StorageRead":
      return entry.unreadable === event.error ? entry : changed(entry, { unreadable: event.error })
    case "StorageWritten":
      return entry.unwritable === event.error ? entry : changed(entry, { unwritable: event.error })
  }
}

const loaded = (entry: Entry, event: Extract<EntryEvent, { readonly _tag: "Loaded" }>, now: number): Entry => {
  // what storage did not take is newer than what it holds
  if (entry.dirty === "credential") return changed(entry, { unreadable: undefined, doubt: undefined })
  const { found, recheckAt, soleProviderId } = event
  const isNewer = entry.dirty !== undefined && event.state.generation === entry.state.generation
  const isSameToken = found !== undefined && entry.credential?.holdsTokenOf(found.credential) === true
  const isUnanswered = !isNewer && staysBlocked(entry, event.state, isSameToken)
  const read = isNewer ? entry.state : isUnanswered ? stillBlocked(event.state, entry.state) : event.state
  const state = stillLimited(read, entry.state)
  const base = {
    ...blocked(entry, state, recheckAt, now),
    // what was read does not say that it is blocked, and is to say so again
    dirty: isNewer ? entry.dirty : isUnanswered ? "state" as const : undefined,
    unreadable: undefined,
    doubt: undefined
  }
  if (found === undefined) {
    return changed(entry.held === undefined ? entry : removed(entry, entry.rejected), {
      ...base,
      state,
      providerId: (entry.isProgramOwned ? undefined : entry.providerId) ??
        (state.blockedSince === undefined ? undefined : soleProviderId)
    })
  }
  const isOwn = found.providerId === undefined && isProgramsOwn(found.credential)
  const isOver = entry.credential !== undefined && !isSameToken
  return changed(entry, {
    ...base,
    ...taken(found, isSameToken ? entry.held?.source ?? "storage" : "storage"),
    state: isOwn ? new CredentialState({ generation: state.generation }) : state,
    // another process has renewed it: what went wrong here before is over
    ...(isOver ? { failure: undefined, retryAt: -Infinity } : {})
  })
}

const taken = ({ credential, dates, providerId }: Taken, source: "storage" | "aden") => {
  const { confirmedAt, renewAt, staleAt } = dates
  const owner = providerId === undefined ? "program" as const : "provider" as const
  return { providerId, held: { credential, source, owner, confirmedAt, renewAt, staleAt } }
}

/** A rate limit holds to its end, even if another process deleted what is stored. */
const stillLimited = (state: CredentialState, { coolDownUntil }: CredentialState): CredentialState =>
  coolDownUntil === undefined ||
    (state.coolDownUntil !== undefined && DateTime.isGreaterThanOrEqualTo(state.coolDownUntil, coolDownUntil))
    ? state
    : patched(state, { coolDownUntil })

/**
 * Whether one that is blocked stays so, although what was read does not say it: only an answer of Aden ends that, and is counted as a
 * save. A record that is not authenticated would end it else.
 */
const staysBlocked = (entry: Entry, state: CredentialState, isSameToken: boolean): boolean =>
  entry.isBlocked && state.blockedSince === undefined &&
  (state.generation === entry.state.generation || (state.mayBeBlocked === true && isSameToken))

const stillBlocked = (
  state: CredentialState,
  { blockedSince, lastError, reauthorizationUrl }: CredentialState
): CredentialState => patched(state, { blockedSince, lastError, reauthorizationUrl })

/** Of one that is found to be blocked: when it counts as checked. */
const blocked = (entry: Entry, state: CredentialState, recheckAt: number, now: number) =>
  state.blockedSince === undefined || entry.isBlocked
    ? {}
    : { checkedAt: Math.min(now, DateTime.toEpochMillis(state.blockedSince)), recheckAt }

const removed = (entry: Entry, rejected: ReadonlyArray<Redacted.Redacted<string>>): Entry =>
  changed(entry, {
    revision: entry.revision + 1,
    held: undefined,
    providerId: undefined,
    listed: undefined,
    rejected,
    state: CredentialState.initial,
    failure: undefined,
    retryAt: -Infinity,
    dirty: undefined,
    doubt: undefined
  })

const coolDownEnd = ({ coolDownUntil }: CredentialState): number =>
  coolDownUntil === undefined ? -Infinity : DateTime.toEpochMillis(coolDownUntil)

type StatePatch = Partial<{ [K in keyof CredentialState]: CredentialState[K] }>

const patched = (state: CredentialState, patch: StatePatch): CredentialState =>
  new CredentialState({ ...state, ...patch })

const changed = (entry: Entry, fields: Partial<EntryFields>): Entry => new Entry({ ...entry, ...fields })

/** Whether a program found the token of a credential to be refused. */
export const isRejected = ({ rejected }: Entry, credential: Credential): boolean => {
  const token = credential.defaultKey?.value
  return token !== undefined && rejected.some((one) => Redacted.value(one) === Redacted.value(token))
}
