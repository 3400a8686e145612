/** docs/semantics.md, row by row: what a read gets, and what Aden is asked. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Redacted } from "effect"
import type { Circumstances, Decision, Freshness, Purpose } from "../../../src/store/core/decide.ts"
import { decide, decideFor, expiresBeforeProbe, freshnessOf, reauthRequired } from "../../../src/store/core/decide.ts"
import type { Entry } from "../../../src/store/core/Entry.ts"
import { emptyEntry } from "../../../src/store/core/Entry.ts"
import type { Dates, EntryEvent } from "../../../src/store/core/transition.ts"
import {
  answered,
  blocked,
  credentialOf,
  entryAfter,
  failed,
  type FailureTag,
  hour,
  id,
  listed,
  loaded,
  minute,
  replaced,
  second,
  start,
  stateOf,
  tokenOf
} from "./entryEvents.ts"

const day = 24 * hour

const at = (now: number, { clockOffset = 0, maxStale = day }: Partial<Circumstances> = {}): Circumstances => ({
  now,
  clockOffset,
  maxStale
})

/** A decision in words; times are in ms since `start`. */
const shown = (decision: Decision): string => {
  switch (decision._tag) {
    case "Serve":
      return `serve ${tokenOf(decision.credential)} until ${decision.until - start}`
    case "ServeAndAsk":
      return decision.isFirst
        ? `${decision.question}, else serve ${tokenOf(decision.credential)}`
        : `serve ${tokenOf(decision.credential)}, ${decision.question}`
    case "Ask":
      return decision.question
    case "Fail": {
      const { error } = decision
      const hint = "retryAfter" in error ? error.retryAfter : undefined
      return `fail ${error._tag}${hint === undefined ? "" : ` for ${Duration.toMillis(hint)}`}`
    }
  }
}

const decided = (entry: Entry, now: number, options?: Partial<Circumstances>) => shown(decide(entry, at(now, options)))

const expiresAt = start + hour

/** Confirmed now, stale in 5 minutes, due 5 minutes before it expires. */
const dates: Dates = { confirmedAt: start, staleAt: start + 5 * minute, renewAt: expiresAt - 5 * minute }
const stale = start + 5 * minute
const due = expiresAt - 5 * minute

const token = credentialOf("T", expiresAt)
const fetched = answered(token, dates)
/** A token that lasts longer than it is served unconfirmed. */
const lasting = answered(credentialOf("T", start + 7 * day), { ...dates, renewAt: start + 7 * day - 5 * minute })
const endless = answered(credentialOf("T", undefined), { ...dates, renewAt: Infinity })
const own = replaced(credentialOf("P", expiresAt, "program"), { ...dates, renewAt: Infinity })
/** Somebody who has no key says that it is blocked. */
const hinted = loaded(stateOf({ mayBeBlocked: true }), { credential: token, dates })
const refused: EntryEvent = { _tag: "Rejected", token: Redacted.make("T") }
const recheckAt = start + 30 * second

describe("freshness: the first state that applies decides", () => {
  it.each<readonly [row: string, events: ReadonlyArray<EntryEvent>, now: number, Freshness, decision: string]>([
    ["blocked, and checked a moment ago", [fetched, blocked(recheckAt)], start, "blocked", "fail ReauthRequired"],
    ["blocked, and time for a check", [fetched, blocked(recheckAt)], recheckAt, "blocked", "validate"],
    ["blocked, and expired", [fetched, blocked(Infinity)], expiresAt, "blocked", "fail ReauthRequired"],
    ["blocked before it was ever fetched", [blocked(recheckAt)], start, "blocked", "fail ReauthRequired"],
    [
      "blocked, and answered by a later question",
      [fetched, blocked(Infinity, 0), fetched],
      start,
      "fresh",
      `serve T until ${5 * minute}`
    ],
    [
      "blocked, and answered by an earlier question",
      [fetched, blocked(Infinity, 2), fetched],
      start,
      "blocked",
      "fail ReauthRequired"
    ],
    ["missing, of no provider that is known", [], start, "missing", "load"],
    ["missing, and listed", [listed("active")], start, "missing", "fetch"],
    ["missing, and listed as blocked", [listed("requires_reauth")], start, "missing", "validate"],
    ["expired by its time", [fetched], expiresAt, "expired", "refresh"],
    ["expired since the program called invalidate", [fetched, refused], start, "expired", "refresh"],
    [
      "expired, though a token of another value was refused",
      [
        fetched,
        { _tag: "Rejected", token: Redacted.make("another") }
      ],
      expiresAt,
      "expired",
      "refresh"
    ],
    ["due", [fetched], due, "due", "serve T, refresh"],
    ["due until its last moment", [fetched], expiresAt - 1, "due", "serve T, refresh"],
    ["stale", [fetched], stale, "stale", "serve T, fetch"],
    ["stale until it is due", [fetched], due - 1, "stale", "serve T, fetch"],
    ["fresh", [fetched], start, "fresh", `serve T until ${5 * minute}`],
    ["fresh until it is stale", [fetched], stale - 1, "fresh", `serve T until ${5 * minute}`],
    [
      "fresh until it is due",
      [answered(token, { ...dates, staleAt: Infinity })],
      start,
      "fresh",
      `serve T until ${due - start}`
    ],
    ["without expiry, before it is stale", [endless], start, "fresh", `serve T until ${5 * minute}`],
    ["without expiry, never due", [endless], start + day - 1, "stale", "serve T, fetch"],
    [
      "never due with autoRefresh: false",
      [
        answered(token, { ...dates, staleAt: Infinity, renewAt: Infinity })
      ],
      expiresAt - 1,
      "fresh",
      `serve T until ${hour}`
    ],
    [
      "renewed when it has expired with autoRefresh: false",
      [
        answered(token, { ...dates, staleAt: Infinity, renewAt: Infinity })
      ],
      expiresAt,
      "expired",
      "refresh"
    ],
    ["said to be blocked, and stale", [hinted], stale, "stale", "validate, else serve T"],
    ["said to be blocked, and due", [hinted], due, "due", "refresh, else serve T"],
    ["said to be blocked, and expired", [hinted], expiresAt, "expired", "refresh"],
    ["said to be blocked, and confirmed a moment ago", [hinted], start, "fresh", `serve T until ${5 * minute}`],
    [
      "said to be blocked, and nobody answers: as if nobody had said so, until the policy's next time",
      [hinted, failed("AdenUnavailable", stale, stale + minute)],
      stale,
      "stale",
      `serve T until ${6 * minute}`
    ],
    [
      "said to be blocked, and answered since",
      [hinted, answered(token, { ...dates, staleAt: stale + minute })],
      stale,
      "fresh",
      `serve T until ${6 * minute}`
    ],
    [
      "said to be blocked before it was ever fetched",
      [loaded(stateOf({ mayBeBlocked: true }))],
      start,
      "missing",
      "load"
    ],
    [
      "said to be blocked, the program's own",
      [loaded(stateOf({ mayBeBlocked: true }), {
        credential: credentialOf("P", expiresAt, "program"),
        dates,
        owner: "program"
      })],
      stale,
      "stale",
      "serve P, load"
    ],
    ["the program's own, before it is stale", [own], start, "fresh", `serve P until ${5 * minute}`],
    ["the program's own, stale: read from storage again", [own], stale, "stale", "serve P, load"],
    ["the program's own, expired: read from storage again", [own], expiresAt, "expired", "load"],
    [
      "the program's own is never blocked",
      [
        loaded(stateOf({ blockedSince: start }), {
          credential: credentialOf("P", expiresAt, "program"),
          dates,
          owner: "program"
        })
      ],
      start,
      "fresh",
      `serve P until ${5 * minute}`
    ]
  ])("%s", (_, events, now, freshness, decision) => {
    const entry = entryAfter(events)
    assert.strictEqual(freshnessOf(entry, at(now)), freshness)
    assert.strictEqual(decided(entry, now), decision)
  })

  it.each<readonly [row: string, now: number, clockOffset: number, Freshness]>([
    [
      "a provider whose clock is 10 minutes ahead sees it expire earlier",
      expiresAt - 10 * minute,
      10 * minute,
      "expired"
    ],
    ["and sees it due earlier", expiresAt - 15 * minute, 10 * minute, "due"],
    ["one whose clock is 10 minutes behind sees it expire later", expiresAt, -10 * minute, "stale"],
    ["a confirmation is timed by the local clock", stale - 1, 10 * minute, "fresh"]
  ])("clock skew: %s", (_, now, clockOffset, freshness) => {
    assert.strictEqual(freshnessOf(entryAfter([fetched]), at(now, { clockOffset })), freshness)
  })
})

describe("outcomes", () => {
  const everyFailure: ReadonlyArray<FailureTag> = [
    "AdenUnavailable",
    "RateLimited",
    "AdenUnauthorized",
    "AdenForbidden",
    "RefreshFailed",
    "AdenRejected"
  ]
  const retryAt = stale + minute

  it.each(everyFailure)("stale, %s: the credential; the next attempt when the policy or the hint says", (tag) => {
    const entry = entryAfter([failed(tag, stale, retryAt)], stale, entryAfter([fetched]))
    assert.strictEqual(decided(entry, stale), `serve T until ${retryAt - start}`)
    assert.strictEqual(decided(entry, retryAt - 1), `serve T until ${retryAt - start}`)
    assert.strictEqual(decided(entry, retryAt), "serve T, fetch")
  })

  it.each(everyFailure)("due, %s: the credential, until the next attempt or its expiry", (tag) => {
    const entry = entryAfter([failed(tag, due, expiresAt + minute)], due, entryAfter([fetched]))
    assert.strictEqual(decided(entry, due), `serve T until ${hour}`)
    assert.strictEqual(decided(entry, expiresAt - 1), `serve T until ${hour}`)
  })

  it.each(everyFailure)(
    "stale, %s, beyond maxStale: the error until the policy's next time, then a question",
    (tag) => {
      const late = start + day
      const entry = entryAfter([failed(tag, late, late + minute)], late, entryAfter([lasting]))
      assert.match(decided(entry, late), new RegExp(`^fail ${tag}`))
      assert.match(decided(entry, late + minute - 1), new RegExp(`^fail ${tag}`))
      assert.strictEqual(decided(entry, late + minute), "fetch")
    }
  )

  it.each(everyFailure)("due, %s, beyond maxStale: the error until the policy's next time, then a question", (tag) => {
    const limit = { maxStale: minute }
    const entry = entryAfter([failed(tag, due, due + minute)], due, entryAfter([fetched]))
    assert.match(decided(entry, due, limit), new RegExp(`^fail ${tag}`))
    assert.match(decided(entry, due + minute - 1, limit), new RegExp(`^fail ${tag}`))
    assert.strictEqual(decided(entry, due + minute, limit), "refresh")
  })

  for (
    const [name, before] of [["expired", entryAfter([fetched])], ["none", entryAfter([listed("active")])]] as const
  ) {
    const question = name === "expired" ? "refresh" : "fetch"
    const until = expiresAt + minute
    const after = (tag: FailureTag) => entryAfter([failed(tag, expiresAt, until)], expiresAt, before)

    it(`${name}: asked, and what Aden answers is served`, () => {
      assert.strictEqual(decided(before, expiresAt), question)
      const answer = answered(credentialOf("N", expiresAt + hour), {
        confirmedAt: expiresAt,
        staleAt: expiresAt + 5 * minute,
        renewAt: expiresAt + hour - 5 * minute
      })
      const entry = entryAfter([answer], expiresAt, before)
      assert.strictEqual(decided(entry, expiresAt), `serve N until ${hour + 5 * minute}`)
    })

    it.each<FailureTag>(["AdenUnavailable", "AdenUnauthorized", "AdenForbidden"])(
      `${name}, %s: the next read asks again`,
      (tag) => {
        assert.strictEqual(decided(after(tag), expiresAt), question)
      }
    )

    it(`${name}, rate-limited: RateLimited with the time left, even after a restart`, () => {
      assert.strictEqual(decided(after("RateLimited"), expiresAt), `fail RateLimited for ${minute}`)
      assert.strictEqual(decided(after("RateLimited"), until - second), `fail RateLimited for ${second}`)
      assert.strictEqual(decided(after("RateLimited"), until), question)
      const found = name === "expired" ? { credential: token, dates } : undefined
      const restarted = entryAfter([loaded(stateOf({ coolDownUntil: until }), found)], expiresAt)
      assert.strictEqual(decided(restarted, expiresAt), `fail RateLimited for ${minute}`)
    })

    it(`${name}, refresh failed or rejected: the same error until the policy's next time`, () => {
      assert.strictEqual(decided(after("RefreshFailed"), expiresAt), `fail RefreshFailed for ${minute}`)
      assert.strictEqual(decided(after("RefreshFailed"), until - second), `fail RefreshFailed for ${second}`)
      assert.strictEqual(decided(after("RefreshFailed"), until), question)
      assert.strictEqual(decided(after("AdenRejected"), expiresAt), "fail AdenRejected")
      assert.strictEqual(decided(after("AdenRejected"), until), question)
    })
  }

  it("re-authorization required: ReauthRequired with its URL from then on, even after a restart", () => {
    const entry = entryAfter([fetched, blocked(Infinity)])
    assert.strictEqual(decided(entry, start), "fail ReauthRequired")
    assert.strictEqual(reauthRequired(entry).reauthorizationUrl, "https://aden.example/reconnect")
    const restarted = entryAfter([
      { ...loaded(stateOf({ blockedSince: start }), { credential: token, dates }), recheckAt }
    ])
    assert.strictEqual(decided(restarted, start), "fail ReauthRequired")
  })

  it("gone at Aden, and not in its list: the entry is removed", () => {
    assert.strictEqual(decided(entryAfter([fetched, { _tag: "Removed", rejected: [] }]), start), "load")
  })
})

describe("maxStale", () => {
  it("is counted from the last confirmation, to the moment", () => {
    const entry = entryAfter([lasting])
    assert.strictEqual(decided(entry, start + day - 1), "serve T, fetch")
    assert.strictEqual(decided(entry, start + day), "fetch")
    assert.strictEqual(decided(entry, start + hour, { maxStale: hour }), "fetch")
  })

  it("ends what is served as fresh, too", () => {
    const entry = entryAfter([
      answered(credentialOf("T", undefined), { ...dates, staleAt: Infinity, renewAt: Infinity })
    ])
    assert.strictEqual(decided(entry, start), `serve T until ${day}`)
  })

  it.each<FailureTag>(["AdenUnauthorized", "AdenForbidden"])("is one hour since %s first", (tag) => {
    const first = entryAfter([failed(tag, start, start + minute)], start, entryAfter([lasting]))
    const again = entryAfter([failed(tag, start + 30 * minute, Infinity)], start + 30 * minute, first)
    assert.strictEqual(decided(again, start + hour - 1), `serve T until ${hour}`)
    assert.strictEqual(decided(again, start + hour), `fail ${tag}`)
    assert.strictEqual(decided(entryAfter([lasting], start + hour, again), start + hour), "serve T, fetch")
  })

  it("does not concern the program's own", () => {
    const entry = entryAfter([replaced(credentialOf("P", undefined, "program"), { ...dates, renewAt: Infinity })])
    assert.strictEqual(decided(entry, start + 30 * day), "serve P, load")
  })
})

describe("back-off and cool-down", () => {
  it("a cool-down holds where the policy would ask earlier", () => {
    const limit = failed("RateLimited", stale, stale + minute)
    const entry = entryAfter([limit, failed("AdenUnavailable", stale, stale)], stale, entryAfter([fetched]))
    assert.strictEqual(decided(entry, stale), `serve T until ${stale + minute - start}`)
  })

  it("an end of a cool-down that no server names was written by a clock that was wrong", () => {
    const entry = entryAfter([loaded(stateOf({ coolDownUntil: expiresAt + 2 * hour }), { credential: token, dates })])
    assert.strictEqual(decided(entry, expiresAt), "refresh")
  })

  it("a blocked credential is not checked in a cool-down", () => {
    const entry = entryAfter([fetched, failed("RateLimited", start, start + minute), blocked(start)])
    assert.strictEqual(decided(entry, start), "fail ReauthRequired")
    assert.strictEqual(decided(entry, start + minute), "validate")
  })

  it("a token that is due after its renewal is asked about again when the event says", () => {
    const entry = entryAfter([{ ...fetched, retryAt: due + 2 * minute }], due)
    assert.strictEqual(decided(entry, due), `serve T until ${due + 2 * minute - start}`)
    assert.strictEqual(decided(entry, due + 2 * minute), "serve T, refresh")
  })

  it("an answer ends them", () => {
    const entry = entryAfter([fetched, failed("RateLimited", start, start + minute), fetched])
    assert.strictEqual(decided(entry, stale), "serve T, fetch")
    assert.strictEqual(entry.failure, undefined)
  })

  it.each<readonly [row: string, now: number, isLast: boolean]>([
    ["due, with more than 30 s left", expiresAt - 31 * second, false],
    ["due, with 30 s left", expiresAt - 30 * second, true],
    ["expired", expiresAt, false]
  ])("a renewal passes an open circuit: %s", (_, now, isLast) => {
    assert.strictEqual(expiresBeforeProbe(entryAfter([fetched]), at(now)), isLast)
  })

  it("a clock that was set back keeps no entry from being asked for", () => {
    const back = start - hour
    for (const event of [failed("RefreshFailed", start, start + day), blocked(start + day)]) {
      const entry = entryAfter([fetched, event])
      assert.strictEqual(decided(entry, back), event._tag === "Blocked" ? "validate" : "serve T, fetch")
    }
    const none = entryAfter([listed("active"), failed("RefreshFailed", start, start + day)])
    assert.strictEqual(decided(none, back), "fetch")
  })
})

describe("what is asked for a purpose", () => {
  const read: Purpose = { _tag: "Read" }
  const confirm: Purpose = { _tag: "Confirm" }
  const check: Purpose = { _tag: "Check" }
  const force: Purpose = { _tag: "Force" }
  const replaceT: Purpose = { _tag: "Replace", token: Redacted.make("T") }
  const replaceOther: Purpose = { _tag: "Replace", token: Redacted.make("other") }
  const outlast = (minTimeLeft: number): Purpose => ({ _tag: "Outlast", minTimeLeft })
  const limited = failed("RateLimited", start, start + minute)
  const backingOff = failed("RefreshFailed", start, start + minute)
  const renewed: EntryEvent = { _tag: "RefreshAnswered" }
  const now = start
  const served = "serve T until -Infinity"

  it.each<readonly [row: string, Purpose, events: ReadonlyArray<EntryEvent>, now: number, decision: string]>([
    ["a read of what is fresh", read, [fetched], now, `serve T until ${5 * minute}`],
    ["a read of what is due", read, [fetched], due, "serve T, refresh"],
    ["a confirmation of what is fresh", confirm, [fetched], now, "serve T, fetch"],
    ["a confirmation of what is due", confirm, [fetched], due, "serve T, refresh"],
    ["a confirmation in a back-off", confirm, [fetched, backingOff], now, `serve T until ${5 * minute}`],
    ["a confirmation in a cool-down", confirm, [fetched, limited], now, `serve T until ${5 * minute}`],
    ["a confirmation of the program's own", confirm, [own], now, `serve P until ${5 * minute}`],
    [
      "a confirmation of a blocked one, before its time",
      confirm,
      [fetched, blocked(Infinity)],
      now,
      "fail ReauthRequired"
    ],
    ["a check of a blocked one, before its time", check, [fetched, blocked(Infinity)], now, "validate"],
    ["a check in a cool-down", check, [fetched, limited, blocked(now)], now, `fail RateLimited for ${minute}`],
    ["a check of one that is blocked no more", check, [fetched], now, `serve T until ${5 * minute}`],
    ["a forced refresh of what is fresh", force, [fetched], now, "refresh"],
    ["a forced refresh of what is missing", force, [listed("active")], now, "refresh"],
    ["a forced refresh of a blocked one", force, [fetched, blocked(Infinity)], now, "refresh"],
    ["a forced refresh in a back-off", force, [fetched, backingOff], now, "refresh"],
    ["a forced refresh in a cool-down", force, [fetched, limited], now, `fail RateLimited for ${minute}`],
    ["another token than the one that is held", replaceT, [fetched], now, "refresh"],
    ["another token, which is held already", replaceOther, [fetched], now, served],
    ["another token, which is held and has expired", replaceOther, [fetched], expiresAt, "refresh"],
    ["another token, which is held and blocked", replaceOther, [fetched, blocked(Infinity)], now, "refresh"],
    ["another token, which was refused, too", replaceOther, [fetched, refused], now, "refresh"],
    ["another token where nothing is held", replaceT, [listed("active")], now, "refresh"],
    ["another token in a back-off", replaceT, [fetched, backingOff], now, "refresh"],
    ["another token in a cool-down", replaceT, [fetched, limited], now, `fail RateLimited for ${minute}`],
    ["a token that lasts, and does", outlast(hour), [fetched], now, served],
    ["a token that lasts, and does not", outlast(hour + 1), [fetched], now, "refresh"],
    ["one that was renewed a moment ago", outlast(2 * hour), [fetched, renewed], now + 30 * second - 1, served],
    ["one that was renewed 30 s ago", outlast(2 * hour), [fetched, renewed], now + 30 * second, "refresh"],
    [
      "one that lasts, in a back-off",
      outlast(2 * hour),
      [fetched, backingOff],
      now,
      `fail RefreshFailed for ${minute}`
    ],
    ["one that lasts, in a cool-down", outlast(2 * hour), [fetched, limited], now, `fail RateLimited for ${minute}`],
    ["one that lasts, of a token without expiry", outlast(day), [endless], now, served],
    ["one that lasts, of the program's own", outlast(2 * hour), [own], now, "serve P until -Infinity"],
    ["one that lasts, and has expired", outlast(minute), [fetched], expiresAt, "refresh"],
    ["one that lasts, and is missing", outlast(minute), [listed("active")], now, "fetch"],
    ["one that lasts, and is blocked", outlast(minute), [fetched, blocked(Infinity)], now, "fail ReauthRequired"]
  ])("%s", (_, purpose, events, when, decision) => {
    assert.strictEqual(shown(decideFor(purpose, entryAfter(events), at(when))), decision)
  })

  it("names the entry in the error of a rate limit", () => {
    const decision = decide(entryAfter([limited]), at(now))
    assert.isTrue(decision._tag === "Fail" && decision.error._tag === "RateLimited" && decision.error.id === id)
  })

  it("of nothing is to read storage", () => {
    assert.strictEqual(decided(emptyEntry(id), now), "load")
  })
})
