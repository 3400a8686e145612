/** What holds of an entry whatever happens to it: random sequences of events, each one that a commit would let through. */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Redacted, Schema } from "effect"
import { CredentialStorageError, StorageIoFailed } from "../../../src/errors/StorageError.ts"
import type { Credential } from "../../../src/model/Credential.ts"
import { CredentialState } from "../../../src/model/CredentialState.ts"
import { clockTolerance, coolDownLeft } from "../../../src/model/freshness.ts"
import type { Circumstances, Decision, Purpose } from "../../../src/store/core/decide.ts"
import { decide, decideFor, isServable, isUsable } from "../../../src/store/core/decide.ts"
import type { Entry } from "../../../src/store/core/Entry.ts"
import { emptyEntry, expiryOf } from "../../../src/store/core/Entry.ts"
import type { Dates, EntryEvent } from "../../../src/store/core/transition.ts"
import { asOf, transition } from "../../../src/store/core/transition.ts"
import { repeats } from "../../fixtures/repeats.ts"
import {
  answered,
  blocked,
  credentialOf,
  failed,
  hour,
  id,
  listed,
  loaded,
  minute,
  providerId,
  replaced,
  second,
  start,
  stateOf,
  tokenOf
} from "./entryEvents.ts"

const maxStale = 24 * hour

const Step = Schema.Struct({
  event: Schema.Literals([
    "Loaded",
    "LoadedNothing",
    "Overtaken",
    "Answered",
    "RefreshAnswered",
    "Replaced",
    "Rejected",
    "Blocked",
    "Checked",
    "RateLimited",
    "Failed",
    "StateMerged",
    "Flushed",
    "Removed",
    "Listed",
    "ProviderFound",
    "Doubted",
    "StorageRead",
    "StorageWritten"
  ]),
  /** How much later it happens, in ms; a clock that was set back makes it less. */
  after: Schema.Literals([0, 1, 10 * second, 4 * minute, hour, 25 * hour, -2 * hour, -minute]),
  token: Schema.Literals(["A", "B", "C"]),
  /** How long the token lasts, in ms; 0: it does not expire. */
  life: Schema.Literals([hour, 20 * second, 48 * hour, 0, -minute]),
  error: Schema.Literals(["AdenUnavailable", "AdenUnauthorized", "AdenForbidden", "AdenRejected", "RefreshFailed"]),
  /** How long Aden is not asked, in ms. */
  wait: Schema.Literals([0, minute, 2 * hour, 10 * 24 * hour]),
  /** By how much the generation of what storage has is another one. */
  behind: Schema.Literals([0, -1, 1]),
  /** The first of two ways in which the event can be. */
  isFirst: Schema.Boolean
})

const Run = {
  steps: Schema.Array(Step),
  /** How far the provider's clock is ahead, in ms. */
  clockOffset: Schema.Literals([0, 10 * minute, -10 * minute])
}

/** Few sequences of an array are long by themselves. */
const options = { arbitrary: { runs: repeats(500), size: 20 } }

const unwritable = new CredentialStorageError({
  operation: "save",
  reason: new StorageIoFailed({ location: "/credentials", detail: "ENOSPC" })
})

/** What happens in a step; `undefined` for what a commit, or a refresh, does not let happen to such an entry. */
const eventOf = (step: typeof Step.Type, entry: Entry, { clockOffset, now }: Circumstances): EntryEvent | undefined => {
  const { behind, error, isFirst, life, token, wait } = step
  const expiresAt = life === 0 ? undefined : now + clockOffset + life
  const provided = credentialOf(token, expiresAt)
  const dates: Dates = {
    confirmedAt: now,
    staleAt: now + 4 * minute,
    renewAt: expiresAt === undefined ? Infinity : expiresAt - Math.min(5 * minute, life / 2)
  }
  const { generation } = entry.state
  switch (step.event) {
    case "Loaded":
      return loaded(
        stateOf({
          generation: generation + behind,
          ...(isFirst ? { blockedSince: now - minute } : {}),
          ...(wait === 0 ? {} : { coolDownUntil: now + wait })
        }),
        behind === 1
          ? {
            credential: credentialOf(token, expiresAt, "program"),
            dates: { ...dates, renewAt: Infinity },
            owner: "program"
          }
          : { credential: provided, dates }
      )
    case "LoadedNothing":
      return loaded(stateOf({ generation: generation + behind }))
    case "Overtaken":
    case "RefreshAnswered":
      return { _tag: step.event }
    case "Answered":
      return entry.isProgramOwned ? undefined : {
        ...answered(provided, dates),
        generation,
        unwritable: isFirst ? undefined : unwritable,
        isServable: isServable(entry, provided, { clockOffset, now, maxStale })
      }
    case "Replaced":
      return isFirst
        ? { ...replaced(provided, dates), providerId, generation: generation + 1 }
        : replaced(credentialOf(token, expiresAt, "program"), { ...dates, renewAt: Infinity })
    case "Rejected":
      return { _tag: "Rejected", token: isFirst ? entry.credential?.defaultKey?.value : Redacted.make(token) }
    case "Blocked":
      return entry.isProgramOwned ? undefined : blocked(now + wait)
    case "Checked":
      return { _tag: "Checked", recheckAt: now + wait }
    case "RateLimited":
      return entry.isProgramOwned ? undefined : failed("RateLimited", now, now + wait)
    case "Failed":
      return entry.isProgramOwned ? undefined : failed(error, now, now + wait)
    case "StateMerged":
      return {
        _tag: "StateMerged",
        state: new CredentialState({ ...entry.state, refusedSince: DateTime.makeUnsafe(now) }),
        isSaved: isFirst
      }
    case "Flushed":
      return entry.dirty === "credential"
        ? { _tag: "Flushed", state: new CredentialState({ ...entry.state, generation: generation + 1 }) }
        : undefined
    case "Removed":
      return { _tag: "Removed", rejected: isFirst ? entry.rejected : [] }
    case "Listed":
      return listed(isFirst ? "active" : "requires_reauth")
    case "ProviderFound":
      return { _tag: "ProviderFound", providerId }
    case "Doubted":
      return { _tag: "Doubted", doubt: isFirst ? "write" : "delete" }
    case "StorageRead":
    case "StorageWritten":
      return { _tag: step.event, error: isFirst ? undefined : unwritable }
  }
}

interface Happened {
  readonly before: Entry
  readonly event: EntryEvent
  readonly now: number
  readonly entry: Entry
}

interface Drawn {
  readonly steps: ReadonlyArray<typeof Step.Type>
  readonly clockOffset: number
}

/** What happens to an entry, one event after another. */
function* happening({ clockOffset, steps }: Drawn): Generator<Happened> {
  let entry = emptyEntry(id)
  let now = start
  for (const step of steps) {
    now += step.after
    const event = eventOf(step, entry, { clockOffset, now, maxStale })
    if (event === undefined) continue
    const before = entry
    entry = transition(before, event, now)
    yield { before, event, now, entry }
  }
}

const millis = (time: DateTime.Utc | undefined): number => time === undefined ? NaN : DateTime.toEpochMillis(time)

/** Every time at which a decision about the entry can change, the moments beside it, and the time of a clock that was set back. */
const timesOf = (entry: Entry, clockOffset: number): ReadonlyArray<number> => {
  const { at, held, recheckAt, retryAt, state } = entry
  const edges = [
    at,
    at - clockTolerance,
    at - 3 * hour,
    retryAt,
    recheckAt,
    millis(state.coolDownUntil),
    millis(state.coolDownUntil) - hour - clockTolerance,
    millis(state.refusedSince) + hour,
    ...(held === undefined ? [] : [
      held.staleAt,
      held.renewAt - clockOffset,
      expiryOf(held.credential) - clockOffset,
      held.confirmedAt + maxStale
    ])
  ]
  return Array.from(new Set(edges.filter(Number.isFinite).flatMap((edge) => [edge - 1, edge, edge + 1])))
    .toSorted((a, b) => a - b)
}

const servedBy = (decision: Decision): Credential | undefined =>
  decision._tag === "Serve" || decision._tag === "ServeAndAsk" ? decision.credential : undefined

const purposes: ReadonlyArray<Purpose> = [
  { _tag: "Read" },
  { _tag: "Confirm" },
  { _tag: "Check" },
  { _tag: "Force" },
  { _tag: "Replace", token: Redacted.make("A") },
  { _tag: "Outlast", minTimeLeft: 0 },
  { _tag: "Outlast", minTimeLeft: hour }
]

/** All that may be served of an entry, at any time and for any purpose. */
const servedOf = (entry: Entry, clockOffset: number): ReadonlyArray<Credential> =>
  timesOf(entry, clockOffset).flatMap((now) =>
    purposes.flatMap((purpose) => servedBy(decideFor(purpose, entry, { now, clockOffset, maxStale })) ?? [])
  )

/** Freezes all that an entry or an event is made of. */
const frozen = <A>(value: A): A => {
  if (typeof value !== "object" || value === null || Object.isFrozen(value) || DateTime.isDateTime(value)) return value
  Object.freeze(value)
  for (const part of Object.values(value)) frozen(part)
  return value
}

describe("an entry, whatever happens to it", () => {
  it.prop("does not serve a token that was refused, until the program saves or deletes one", Run, (drawn) => {
    const refused = new Set<string | undefined>()
    for (const { entry, event } of happening(drawn)) {
      if (event._tag === "Rejected" && event.token !== undefined) refused.add(Redacted.value(event.token))
      if (event._tag === "Replaced" || (event._tag === "Removed" && event.rejected.length === 0)) refused.clear()
      for (const credential of servedOf(entry, drawn.clockOffset)) assert.isFalse(refused.has(tokenOf(credential)))
    }
  }, options)

  it.prop("keeps what storage did not take, until it is stored, overtaken, replaced or removed", Run, (drawn) => {
    for (const { before, entry, event } of happening(drawn)) {
      if (before.dirty === undefined) continue
      if (["Answered", "Replaced", "Removed", "Overtaken", "Flushed"].includes(event._tag)) continue
      if (before.dirty === "credential") {
        assert.strictEqual(entry.dirty, "credential")
        assert.strictEqual(entry.credential, before.credential)
        if (event._tag === "Loaded") assert.strictEqual(entry.state, before.state)
      } else if (event._tag === "Loaded" && event.state.generation === before.state.generation) {
        assert.strictEqual(entry.dirty, "state")
        assert.strictEqual(entry.state.blockedSince, before.state.blockedSince)
        assert.strictEqual(entry.state.refusedSince, before.state.refusedSince)
      }
    }
  }, options)

  it.prop("is not usable again by time passing", Run, (drawn) => {
    const { clockOffset } = drawn
    for (const { entry } of happening(drawn)) {
      let wasUsable = true
      for (const now of timesOf(entry, clockOffset)) {
        const usable = isUsable(asOf(entry, now), { now, clockOffset, maxStale })
        assert.isTrue(wasUsable || !usable, `usable again at ${now - start}`)
        wasUsable = usable
      }
    }
  }, options)

  it.prop("is served as it was decided until the time that was named", Run, (drawn) => {
    const { clockOffset } = drawn
    for (const { entry } of happening(drawn)) {
      const times = timesOf(entry, clockOffset)
      for (const now of times) {
        const decision = decide(entry, { now, clockOffset, maxStale })
        if (decision._tag !== "Serve") continue
        assert.isAbove(decision.until, now)
        for (const later of times) {
          if (later <= now || later >= decision.until) continue
          const then = decide(entry, { now: later, clockOffset, maxStale })
          assert.strictEqual(then._tag, "Serve", `${then._tag} at ${later - start}, decided at ${now - start}`)
          assert.strictEqual(servedBy(then), decision.credential)
        }
      }
    }
  }, options)

  it.prop("is not served for any purpose while it is blocked", Run, (drawn) => {
    let isBlocked = false
    for (const { entry, event } of happening(drawn)) {
      if (event._tag === "Blocked") isBlocked = true
      else if (["Answered", "Replaced", "Removed", "Loaded"].includes(event._tag)) isBlocked = entry.isBlocked
      assert.strictEqual(entry.isBlocked, isBlocked)
      if (isBlocked) assert.deepStrictEqual(servedOf(entry, drawn.clockOffset), [])
    }
  }, options)

  it.prop("is asked for where the clock was set back, but in a cool-down", Run, (drawn) => {
    const { clockOffset } = drawn
    for (const { entry } of happening(drawn)) {
      for (const back of [clockTolerance + 1, hour, 30 * 24 * hour]) {
        const now = entry.at - back
        if (!Number.isFinite(now) || coolDownLeft(entry.state, now) > 0) continue
        assert.include(["Ask", "ServeAndAsk"], decide(entry, { now, clockOffset, maxStale })._tag)
      }
    }
  }, options)

  it.prop("is another value after each event: the one before stays as it was", Run, ({ clockOffset, steps }) => {
    let entry = frozen(emptyEntry(id))
    let now = start
    for (const step of steps) {
      now += step.after
      const event = eventOf(step, entry, { clockOffset, now, maxStale })
      if (event !== undefined) entry = frozen(transition(entry, frozen(event), now))
    }
  }, options)
})
