/** Credentials, failures and events of one entry, for the tests of the pure core. */
import { DateTime, Duration, Redacted } from "effect"
import {
  AdenConnectionFailed,
  AdenForbidden,
  AdenRejected,
  AdenUnauthorized,
  AdenUnavailable,
  RateLimited,
  ReauthRequired,
  RefreshFailed
} from "../../../src/errors/AdenError.ts"
import { Credential, CredentialKey } from "../../../src/model/Credential.ts"
import { CredentialState } from "../../../src/model/CredentialState.ts"
import type { Entry } from "../../../src/store/core/Entry.ts"
import { emptyEntry } from "../../../src/store/core/Entry.ts"
import type { Dates, EntryEvent } from "../../../src/store/core/transition.ts"
import { transition } from "../../../src/store/core/transition.ts"

export const id = "hubspot"
export const providerId = "aden_sync"

export const second = 1_000
export const minute = 60 * second
export const hour = 60 * minute

/** When the tests begin, in ms since the epoch. */
export const start = Date.UTC(2026, 0, 1)

export type EventOf<Tag extends EntryEvent["_tag"]> = Extract<EntryEvent, { readonly _tag: Tag }>

/** `expiresAt` is the provider's time, in ms; `undefined` for a token that does not expire. */
export const credentialOf = (
  token: string,
  expiresAt: number | undefined,
  owner: "provider" | "program" = "provider"
) =>
  new Credential({
    id,
    type: "oauth2",
    keys: new Map([[
      "access_token",
      new CredentialKey({
        name: "access_token",
        value: Redacted.make(token),
        expiresAt: expiresAt === undefined ? undefined : DateTime.makeUnsafe(expiresAt)
      })
    ]]),
    providerId: owner === "provider" ? providerId : undefined,
    autoRefresh: true,
    description: "",
    tags: []
  })

export const tokenOf = ({ defaultKey }: Credential): string | undefined =>
  defaultKey === undefined ? undefined : Redacted.value(defaultKey.value)

export const stateOf = (times: {
  readonly generation?: number
  readonly blockedSince?: number
  readonly coolDownUntil?: number
  readonly refusedSince?: number
  readonly mayBeBlocked?: true
} = {}): CredentialState => {
  const { blockedSince, coolDownUntil, generation = 1, mayBeBlocked, refusedSince } = times
  return new CredentialState({
    generation,
    ...(mayBeBlocked === undefined ? {} : { mayBeBlocked }),
    ...(blockedSince === undefined ? {} : { blockedSince: DateTime.makeUnsafe(blockedSince) }),
    ...(coolDownUntil === undefined ? {} : { coolDownUntil: DateTime.makeUnsafe(coolDownUntil) }),
    ...(refusedSince === undefined ? {} : { refusedSince: DateTime.makeUnsafe(refusedSince) })
  })
}

/** A provider's answer that was saved. */
export const answered = (credential: Credential, dates: Dates): EventOf<"Answered"> => ({
  _tag: "Answered",
  credential,
  providerId,
  dates,
  generation: 0,
  order: 1,
  unwritable: undefined,
  isServable: true,
  retryAt: -Infinity,
  hasSiblings: false
})

/** What the program saved; no provider renews it. */
export const replaced = (credential: Credential, dates: Dates): EventOf<"Replaced"> => ({
  _tag: "Replaced",
  credential,
  providerId: undefined,
  dates,
  generation: 1
})

export const loaded = (
  state: CredentialState,
  found?: { readonly credential: Credential; readonly dates: Dates; readonly owner?: "provider" | "program" }
): EventOf<"Loaded"> => ({
  _tag: "Loaded",
  state,
  found: found === undefined ? undefined : {
    credential: found.credential,
    dates: found.dates,
    providerId: found.owner === "program" ? undefined : providerId
  },
  soleProviderId: providerId,
  recheckAt: -Infinity
})

export const listed = (status: "active" | "requires_reauth"): EventOf<"Listed"> => ({
  _tag: "Listed",
  providerId,
  account: { id, provider: id, alias: undefined, status, email: undefined, expiresAt: undefined }
})

export const blocked = (recheckAt: number, order = 0): EventOf<"Blocked"> => ({
  _tag: "Blocked",
  error: new ReauthRequired({ id, reauthorizationUrl: "https://aden.example/reconnect" }),
  recheckAt,
  order
})

/** What asking Aden can fail with, but for a rate limit and a re-authorization. */
export const failures = {
  AdenUnavailable: new AdenUnavailable({ id, reason: new AdenConnectionFailed({ detail: "ECONNREFUSED" }) }),
  AdenUnauthorized: new AdenUnauthorized({ id }),
  AdenForbidden: new AdenForbidden({ id }),
  AdenRejected: new AdenRejected({ id, status: 418, detail: "" }),
  RefreshFailed: new RefreshFailed({ id, detail: "try later" })
}

export type FailureTag = keyof typeof failures | "RateLimited"

/** Aden failed at `at`, and is asked again at `retryAt`; a rate limit lasts as long. */
export const failed = (tag: FailureTag, at: number, retryAt: number): EntryEvent =>
  tag === "RateLimited"
    ? {
      _tag: "RateLimited",
      error: new RateLimited({ id, retryAfter: Duration.millis(retryAt - at) }),
      until: retryAt,
      retryAt
    }
    : { _tag: "Failed", error: failures[tag], retryAt }

/** An entry after events that happened at `at`. */
export const entryAfter = (events: ReadonlyArray<EntryEvent>, at = start, from: Entry = emptyEntry(id)): Entry =>
  events.reduce((entry, event) => transition(entry, event, at), from)
