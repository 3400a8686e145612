import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { Ledger } from "./Ledger.ts"
import type { Call, CallKind, CallResult, Operation, OperationKind, OperationResult } from "./Observations.ts"
import type { Config } from "./Program.ts"
import type { Exchange, Issued, Said } from "./ScriptedAden.ts"

// A ledger that cannot fail is worth nothing: each of its rules is broken here, by what a store that breaks it would do.

const second = 1_000
const minute = 60 * second
const hour = 60 * minute

const config: Config = {
  instances: [{ tenant: "acme", storage: 0 }],
  integrations: [
    { id: "hubspot", provider: "hubspot", alias: undefined, lifetime: hour },
    { id: "gmail-1", provider: "google", alias: "Timothy", lifetime: hour },
    { id: "gmail-2", provider: "google", alias: "Ada", lifetime: hour }
  ],
  hasSharedLock: true,
  renewsOnGet: true,
  clockSkew: 0,
  latency: 40,
  autoRefresh: true,
  cacheTtl: 5 * minute,
  deadline: 30 * second,
  maxStale: 24 * hour,
  refreshBuffer: 5 * minute,
  reportsUsage: false
}

const succeeded = ({ expiresAt, value }: Issued): OperationResult => ({ _tag: "Token", value, expiresAt })

const failed = (tag: string, retryAfter?: number) => ({ _tag: "Failure" as const, tag, retryAfter })

/** A store that does what a test tells it to, as the ledger sees it. */
class Course {
  now = Date.UTC(2026, 0, 1)
  readonly start = this.now
  readonly issued = new Map<string, Issued>()
  readonly ledger = new Ledger({
    config,
    issued: this.issued,
    now: () => this.now,
    timer: () => this.now - this.start,
    isTraced: false
  })

  pass(duration: number): void {
    this.now += duration
    this.ledger.step++
  }

  issue(id: string, lifetime = hour): Issued {
    const number = this.issued.size + 1
    const expiresAt = lifetime === Infinity ? undefined : this.now + lifetime
    const token: Issued = { value: `token-${number}`, tenant: "acme", id, number, expiresAt, isOwn: false }
    this.issued.set(token.value, token)
    return token
  }

  exchange(said: Said | undefined, tenant = "acme"): Exchange {
    return {
      tenant,
      endpoint: "get",
      id: "hubspot",
      startedAt: this.now,
      endedAt: this.now,
      isInterrupted: false,
      said,
      date: undefined
    }
  }

  begin(kind: OperationKind = "read", ref = "hubspot"): Operation {
    return this.ledger.started(kind, 0, ref)
  }

  end(operation: Operation, result: OperationResult): void {
    this.ledger.ended(operation, result)
  }

  asks(operation: Operation, kind: CallKind = "fetch", id = operation.ref): Call {
    return this.ledger.callStarted(0, kind, id, operation)
  }

  isTold(call: Call, result: CallResult, said: Said | undefined = undefined): void {
    this.ledger.requestStarted(0, call, this.exchange(said))
    this.ledger.callEnded(call, result)
  }

  /** A read that asks Aden, and what it is told. */
  reads(result: Extract<CallResult, { readonly _tag: "Failure" }>, said?: Said): void {
    const operation = this.begin()
    this.isTold(this.asks(operation), result, said)
    this.end(operation, result)
  }

  /** A read that is answered by what Aden issues to it. */
  receives(token: Issued): void {
    const operation = this.begin("read", token.id)
    const { expiresAt, id, value } = token
    this.isTold(this.asks(operation), { _tag: "Token", value, expiresAt }, { _tag: "Token", token })
    this.ledger.storedToken({ instance: 0, id, value, expiresAt, operation })
    this.end(operation, succeeded(token))
  }

  /** A request that Aden answers with 503. */
  fails(): void {
    const exchange = this.exchange({ _tag: "Other", status: 503 })
    this.ledger.requestStarted(0, undefined, exchange)
    this.ledger.answered(0, exchange)
  }

  savesOwn(): Issued {
    const operation = this.begin("save")
    const own = this.ledger.makeOwn(0, "hubspot", undefined)
    this.ledger.storedToken({ instance: 0, id: own.id, value: own.value, expiresAt: own.expiresAt, operation })
    this.end(operation, { _tag: "Done" })
    return own
  }
}

const rules: Readonly<Record<string, (course: Course) => void>> = {
  "only tokens that were issued": (course) => {
    course.end(course.begin(), { _tag: "Token", value: "forged", expiresAt: undefined })
  },
  "never another's token": (course) => {
    const token = course.issue("gmail-1")
    course.receives(token)
    course.end(course.begin("read", "hubspot"), succeeded(token))
  },
  "never another tenant's": (course) => {
    course.ledger.requestStarted(0, undefined, course.exchange(undefined, "globex"))
  },
  "a token with its own expiry": (course) => {
    const token = course.issue("hubspot")
    course.receives(token)
    course.end(course.begin(), succeeded({ ...token, expiresAt: undefined }))
  },
  "never an expired token": (course) => {
    const token = course.issue("hubspot")
    course.receives(token)
    course.pass(hour)
    course.end(course.begin(), succeeded(token))
  },
  "never an invalidated token": (course) => {
    const token = course.issue("hubspot")
    course.receives(token)
    const operation = course.begin("invalidate")
    course.ledger.invalidatedBy(operation)
    course.end(operation, { _tag: "Done" })
    course.end(course.begin(), succeeded(token))
  },
  "an old answer never wins": (course) => {
    const old = course.issue("hubspot")
    course.receives(old)
    course.pass(10 * minute)
    course.receives(course.issue("hubspot"))
    course.end(course.begin(), succeeded(old))
  },
  "never a blocked credential's token": (course) => {
    const token = course.issue("hubspot")
    course.receives(token)
    course.pass(10 * minute)
    course.reads(failed("ReauthRequired"), { _tag: "Blocked" })
    course.end(course.begin(), succeeded(token))
  },
  "nothing older than maxStale": (course) => {
    const token = course.issue("hubspot", Infinity)
    course.receives(token)
    course.pass(config.maxStale)
    course.end(course.begin(), succeeded(token))
  },
  "never a silent pick": (course) => {
    const token = course.issue("gmail-1")
    course.receives(token)
    course.receives(course.issue("gmail-2"))
    course.pass(second)
    course.end(course.begin("read", "google"), succeeded(token))
  },
  "what a read answers": (course) => {
    course.receives(course.issue("hubspot"))
    course.pass(second)
    course.end(course.begin(), failed("AdenUnavailable"))
  },
  "RateLimited with the time left": (course) => {
    course.reads(failed("RateLimited", minute))
    course.pass(second)
    course.end(course.begin(), failed("RateLimited", 5 * second))
  },
  "every error is explained": (course) => course.end(course.begin("refresh"), failed("AdenForbidden")),
  "every wait ends": (course) => {
    course.begin()
    course.pass(config.deadline + 1)
    course.ledger.checkAtRest()
  },
  "nothing is left behind": (course) => {
    course.asks(course.begin())
    course.ledger.checkStopped(0)
  },
  "a healed Aden answers again": (course) => course.ledger.checkRecovered(0, "hubspot"),
  "one request in flight per credential": (course) => {
    course.asks(course.begin())
    course.asks(course.begin())
  },
  "no more attempts than the client's policy": (course) => {
    const call = course.asks(course.begin())
    for (let i = 0; i < 4; i++) course.ledger.requestStarted(0, call, course.exchange({ _tag: "Other", status: 503 }))
  },
  "an Aden that is down is not asked while the circuit is open": (course) => {
    for (let i = 0; i < 5; i++) course.fails()
    course.pass(second)
    course.fails()
    course.pass(second)
    course.ledger.requestStarted(0, undefined, course.exchange(undefined))
  },
  "one probe at a time": (course) => {
    for (let i = 0; i < 5; i++) course.fails()
    course.pass(10 * second)
    for (let i = 0; i < 2; i++) {
      course.ledger.requestStarted(0, undefined, { ...course.exchange(undefined), endedAt: undefined })
    }
  },
  "nothing before a rate limit's end": (course) => {
    course.reads(failed("RateLimited", minute))
    course.pass(minute - 1)
    course.asks(course.begin())
  },
  "a blocked one is checked once per 30 s": (course) => {
    course.reads(failed("ReauthRequired"), { _tag: "Blocked" })
    course.pass(30 * second - 1)
    course.asks(course.begin(), "validate")
  },
  "a fresh one is not asked for": (course) => {
    course.receives(course.issue("hubspot"))
    course.pass(second)
    course.asks(course.begin())
  },
  "no more often than the back-off": (course) => {
    course.receives(course.issue("hubspot"))
    course.pass(6 * minute)
    course.reads(failed("AdenUnavailable"), { _tag: "Other", status: 503 })
    course.pass(second)
    course.asks(course.begin())
  },
  "some operations make no request": (course) => void course.asks(course.begin("explain")),
  "an outage is not an answer": (course) => {
    course.isTold(course.asks(course.begin()), { _tag: "Nothing" }, { _tag: "Other", status: 503 })
  },
  "the program's own is never overwritten": (course) => {
    course.savesOwn()
    const { expiresAt, id, value } = course.issue("hubspot")
    course.ledger.storedToken({ instance: 0, id, value, expiresAt, operation: course.begin("sync", "") })
  },
  "the program's own is never removed": (course) => {
    course.savesOwn()
    course.ledger.deleted(0, "hubspot", course.begin("sync", ""))
  },
  "the program's own is never blocked": (course) => {
    course.savesOwn()
    course.ledger.storedState(0, "hubspot", true)
  },
  "an outage removes nothing": (course) => {
    course.receives(course.issue("hubspot"))
    course.ledger.deleted(0, "hubspot", course.begin())
  },
  "one event when it becomes blocked": (course) => {
    const event = { _tag: "ReauthorizationRequired", id: "hubspot", reauthorizationUrl: undefined } as const
    course.ledger.event(0, event)
    course.ledger.event(0, event)
  },
  "an interruption ends only its own operation": (course) => course.end(course.begin(), { _tag: "Interrupted" }),
  "no defects": (course) => course.end(course.begin(), { _tag: "Defect", message: "a bug" }),
  "a forced refresh is asked for after its call": (course) => {
    const token = course.issue("hubspot")
    course.receives(token)
    course.end(course.begin("refresh"), succeeded(token))
  }
}

describe("Ledger", () => {
  it("has nothing against what is allowed", () => {
    const course = new Course()
    const token = course.issue("hubspot")
    course.receives(token)
    course.pass(second)
    course.end(course.begin(), succeeded(token))
    course.pass(30 * minute)
    course.reads(failed("ReauthRequired"), { _tag: "Blocked" })
    course.pass(30 * second)
    course.receives(course.issue("hubspot"))
    course.ledger.checkAtRest()
    course.ledger.checkStopped(0)
    course.ledger.checkRecovered(0, "hubspot")
    assert.isUndefined(course.ledger.violation)
  })

  for (const [rule, breakIt] of Object.entries(rules)) {
    it(`finds it when this does not hold: ${rule}`, () => {
      const course = new Course()
      breakIt(course)
      assert.strictEqual(course.ledger.violation?.rule, rule)
    })
  }

  it("has no rule that is not broken here", () => {
    const source = readFileSync(new URL("Ledger.ts", import.meta.url), "utf8")
    const named = new Set(Array.from(source.matchAll(/\.#breaks\(\s*"([^"]+)"/g), ([, rule]) => rule))
    assert.deepStrictEqual(Array.from(named).toSorted(), Object.keys(rules).toSorted())
  })
})
