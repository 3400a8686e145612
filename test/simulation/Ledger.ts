/**
 * What happened in a run, and whether it was allowed: every question of a store to its provider, every write to storage, every
 * operation of the program. Each is checked when it happens; the first violation is kept.
 */
import type { CredentialAccount } from "../../src/model/Credential.ts"
import type { CredentialEvent } from "../../src/model/CredentialEvent.ts"
import type { Invariants } from "./Invariants.ts"
import type { Answer, Outcome, Reading, View } from "./Model.ts"
import * as Model from "./Model.ts"
import type {
  Call,
  CallKind,
  CallResult,
  Operation,
  OperationKind,
  OperationResult,
  Violation
} from "./Observations.ts"
import type { Config, Instance, Server } from "./Program.ts"
import { tenantOf } from "./ScriptedAden.ts"
import type { Exchange, Issued } from "./ScriptedAden.ts"
import { planted } from "./UnreliableStorage.ts"

interface Received {
  readonly instance: number
  readonly call: Call
  readonly answer: Answer
  readonly endSequence: number
  readonly now: number
}

interface ViewRecord {
  readonly step: number
  readonly sequence: number
  readonly view: View
  /** The view is the result of a removal. */
  readonly isRemoval: boolean
}

interface ListRecord {
  readonly now: number
  readonly sequence: number
  readonly ids: ReadonlySet<string>
}

interface Failed {
  readonly instance: number
  readonly id: string | undefined
  readonly tag: string
  readonly sequence: number
}

/**
 * What holds in programs of the wide profile too. The other rules of the ledger follow a store's knowledge step by step, which
 * nobody can from outside where storage fails, writes are interrupted and accounts change their names: see Invariants.ts.
 */
const lastingRules: ReadonlySet<string> = new Set([
  "no defects",
  "no endless loops",
  "nothing is left behind",
  "a store ends within 5 s",
  "every wait ends",
  "an interruption ends only its own operation",
  "one request in flight per credential",
  "no more attempts than the client's policy",
  "some operations make no request",
  "only tokens that were issued",
  "never another's token",
  "never another tenant's",
  "a token with its own expiry",
  "never an expired token",
  "never a blocked credential's token",
  "the program's own is never overwritten",
  "the program's own is never removed",
  "an outage removes nothing",
  "a healed Aden answers again"
])

class InstanceRecord {
  readonly calls = new Set<Call>()
  readonly views = new Map<string, Array<ViewRecord>>()
  /** The newest token answered to the program, and when, by id. */
  readonly newest = new Map<string, { readonly number: number; readonly sequence: number }>()
  /** In which step a token was last answered to the program, by id. */
  readonly answered = new Map<string, number>()
  readonly invalidated = new Map<string, { readonly value: string; readonly sequence: number }>()
  samples: Array<number> = []
  /** When what is known of Aden's clock last changed. */
  clockChangedAt = -Infinity
  lists: Array<ListRecord> = []
  listCoolDownUntil = -Infinity
  /**
   * All values that it ever had: a credential that Aden did not know while its list could not be fetched was not asked for
   * until then either.
   */
  readonly listCoolDowns: Array<number> = []
  /** The answers in a row with which Aden was unavailable, and when they opened the circuit. */
  unavailable = 0
  unavailableAt = -Infinity
  openSince = -Infinity
  /** How often in a row it has opened since Aden last answered. */
  openings = 0
  /** The request that was let through to see whether Aden is back. */
  probe: Exchange | undefined = undefined
  /** Where in the sequence the store in this instance was started. */
  startedAt = -1
  /** When a blocked credential was last checked by a read of this store. */
  readonly rechecked = new Map<string, number>()
  /** Blocked credentials of which the program was told. */
  readonly announced = new Set<string>()
  /** Ids that Aden did not know, with the view from before. */
  readonly doubted = new Map<string, View>()
}

/** Whether an operation ends at the store's `deadline`, whatever it waits for. */
const hasDeadline = ({ kind }: Pick<Operation, "kind">): boolean => ["read", "refresh", "validate"].includes(kind)

export class Ledger {
  violation: Violation | undefined = undefined
  step = 0
  readonly trace: Array<string> | undefined
  /** The rules that programs of the wide profile are checked by besides. */
  invariants: Invariants | undefined = undefined
  readonly pending = new Set<Operation>()
  readonly #config: Config
  readonly #time: { readonly now: () => number; readonly timer: () => number }
  readonly #issued: ReadonlyMap<string, Issued>
  readonly #records: ReadonlyArray<InstanceRecord>
  /** What each storage holds, by storage and id. */
  readonly #stored = new Map<string, Issued>()
  readonly #own = new Map<string, Issued>()
  readonly #received = new Map<string, Array<Received>>()
  readonly #failed: Array<Failed> = []
  #sequence = 0
  #operations = 0

  constructor(options: {
    readonly config: Config
    readonly issued: ReadonlyMap<string, Issued>
    readonly now: () => number
    readonly timer: () => number
    readonly isTraced: boolean
  }) {
    this.#config = options.config
    this.#issued = options.issued
    this.#time = options
    this.#records = options.config.instances.map(() => new InstanceRecord())
    this.trace = options.isTraced ? [] : undefined
  }

  note(line: () => string): void {
    this.trace?.push(`  ${formatTime(this.#time.now())} ${line()}`)
  }

  /** A rule of the ledger itself is broken. */
  #breaks(rule: string, detail: string): void {
    if (this.#config.wide === undefined || lastingRules.has(rule)) this.violate(rule, detail)
  }

  violate(rule: string, detail: string): void {
    this.note(() => `!! ${rule}: ${detail}`)
    this.violation ??= { rule, detail, step: this.step }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // What a store can know
  // -------------------------------------------------------------------------------------------------------------------

  #record(index: number): InstanceRecord {
    const instance = this.#records[index]
    if (instance === undefined) throw new Error(`no instance ${index}`)
    return instance
  }

  #place(index: number): Instance {
    const instance = this.#config.instances[index]
    if (instance === undefined) throw new Error(`no instance ${index}`)
    return instance
  }

  #key(instance: number, id: string): string {
    return `${this.#place(instance).storage}/${id}`
  }

  /** Whether more happens to a storage than this store knows of: another one works on it, or it fails. */
  #isShared(instance: number): boolean {
    if (this.#config.wide !== undefined) return true
    const { storage } = this.#place(instance)
    return this.#config.instances.filter((other) => other.storage === storage).length > 1
  }

  viewOf(instance: number, id: string): View {
    return this.#record(instance).views.get(id)?.at(-1)?.view ?? this.#firstView(instance)
  }

  #firstView(instance: number): View {
    return this.#isShared(instance) ? { ...Model.unknown, isCertain: false } : Model.unknown
  }

  #setView(instance: number, id: string, view: View, isRemoval = false): void {
    const views = this.#record(instance).views
    const records = views.get(id) ?? []
    views.set(id, records)
    const isCertain = view.isCertain && !this.#isShared(instance)
    records.push({ step: this.step, sequence: ++this.#sequence, view: { ...view, isCertain }, isRemoval })
  }

  /** The views since a step began: the last one from before it, and all later ones. */
  #viewsSince(instance: number, id: string, step: number): readonly [View, ...Array<View>] {
    const records = this.#record(instance).views.get(id) ?? []
    let first = records.length
    while (first > 0 && (records[first - 1]?.step ?? -1) >= step) first--
    return [records[first - 1]?.view ?? this.#firstView(instance), ...records.slice(first).map(({ view }) => view)]
  }

  moment(instance: number): Model.Moment {
    return { now: this.#time.now(), clockOffset: this.clockOffset(instance), maxStale: this.#config.maxStale }
  }

  clockOffset(instance: number): number {
    return Model.clockOffsetOf(this.#record(instance).samples)
  }

  /** The ids that a ref may mean. */
  candidates(ref: string): ReadonlyArray<string> {
    const { wide } = this.#config
    if (wide !== undefined) return Array.from(this.#names).flatMap(([id, names]) => names.has(ref) ? [id] : [])
    if (ref === "brave") return [ref]
    return this.#config.integrations.filter(({ alias, id, provider }) =>
      id === ref || provider === ref || (alias !== undefined && `${provider}:${alias}` === ref)
    ).map(({ id }) => id)
  }

  /** The refs that each id was ever called by, in programs of the wide profile. */
  readonly #names = new Map<string, Set<string>>()

  isNamed({ alias, id, provider }: Pick<CredentialAccount, "alias" | "id" | "provider">): void {
    const names = this.#names.get(id) ?? new Set([id])
    this.#names.set(id, names)
    if (provider !== undefined) names.add(provider)
    if (alias !== undefined) names.add(`${provider}:${alias}`)
  }

  /** A credential that stands in storage from the start, as Aden issued it. */
  stood(storage: number, token: Issued): void {
    this.#stored.set(`${storage}/${token.id}`, token)
    this.#standing.add(token.value)
  }

  readonly #standing = new Set<string>()

  restarted(instance: number): void {
    this.invariants?.restarted(instance)
    const record = this.#record(instance)
    for (const [id, records] of record.views) {
      const last = records.at(-1)
      if (last !== undefined) this.#setView(instance, id, Model.restarted(last.view))
    }
    if (this.clockOffset(instance) !== 0) record.clockChangedAt = this.#time.now()
    record.samples = []
    record.lists = []
    record.listCoolDownUntil = -Infinity
    record.newest.clear()
    record.invalidated.clear()
    record.rechecked.clear()
    record.unavailable = 0
    record.openings = 0
    record.probe = undefined
    record.startedAt = ++this.#sequence
    record.doubted.clear()
    record.announced.clear()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Requests
  // -------------------------------------------------------------------------------------------------------------------

  requestStarted(instance: number, call: Call | undefined, exchange: Exchange): void {
    const { tenant } = this.#place(instance)
    this.note(() => `instance ${instance} -> ${exchange.endpoint} ${exchange.id ?? ""}`)
    if (call !== undefined && !isReport(exchange) && call.exchanges.push(exchange) > Model.attempts) {
      this.#breaks(
        "no more attempts than the client's policy",
        `${call.kind} ${call.id ?? ""}: ${call.exchanges.length}`
      )
    }
    this.#checkCircuit(instance, exchange)
    this.invariants?.requestStarted(instance)
    if (tenantOf(exchange.tenant) !== tenant) {
      this.#breaks("never another tenant's", `a request for ${tenant} went out with the key of ${exchange.tenant}`)
    }
  }

  /**
   * Only answers in quick succession are counted, because a circuit forgets in the end, and nothing that failed without an
   * answer: it may open sooner than is known here, never later.
   */
  #checkCircuit(instance: number, exchange: Exchange): void {
    const record = this.#record(instance)
    if (isReport(exchange) || record.unavailable < Model.opensAfter) return
    if (
      exchange.endpoint === "refresh" && exchange.id !== undefined && this.#expiresBeforeProbe(instance, exchange.id)
    ) return
    const waited = this.#time.timer() - record.openSince
    if (waited > Model.circuitIdle) {
      record.unavailable = 0
      record.openings = 0
      return
    }
    if (waited < Model.shortestOpening(record.openings)) {
      this.#breaks("an Aden that is down is not asked while the circuit is open", `asked again after ${waited} ms`)
    }
    if (record.probe !== undefined && record.probe.endedAt === undefined) {
      this.#breaks("one probe at a time", `${exchange.endpoint} ${exchange.id ?? ""}`)
    }
    record.probe = exchange
  }

  #expiresBeforeProbe(instance: number, id: string): boolean {
    // what another process saved is known to all who share the storage
    const token = this.#stored.get(this.#key(instance, id)) ?? this.viewOf(instance, id).token
    const { clockOffset, now } = this.moment(instance)
    return token?.expiresAt !== undefined && token.expiresAt - clockOffset - now <= Model.probeInterval
  }

  answered(instance: number, exchange: Exchange): void {
    const now = this.#time.now()
    if (!isReport(exchange)) {
      const record = this.#record(instance)
      const isUnavailable = exchange.said?._tag === "Other" &&
        (exchange.said.status >= 500 || exchange.said.status === 408)
      const isProbe = record.probe === exchange
      if (!isProbe && now - record.unavailableAt > Model.openFor) record.unavailable = 0
      // nor does it know of a request from before the machine was suspended
      const isForgotten = now - exchange.startedAt > Model.openFor
      record.unavailable = isUnavailable ? record.unavailable + (isForgotten ? 0 : 1) : 0
      record.unavailableAt = now
      if (!isUnavailable) record.openings = 0
      if (record.unavailable === Model.opensAfter || (isProbe && isUnavailable)) {
        record.openings++
        // how long it stays open is a duration
        record.openSince = this.#time.timer()
      }
    }
    if (exchange.date !== undefined && !isReport(exchange)) {
      const record = this.#record(instance)
      const before = this.clockOffset(instance)
      record.samples.push(exchange.date - (exchange.startedAt + now) / 2)
      if (this.clockOffset(instance) !== before) record.clockChangedAt = now
    }
    this.note(() =>
      `instance ${instance} <- ${exchange.endpoint} ${exchange.id ?? ""}: ${JSON.stringify(exchange.said)}`
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Questions to the provider
  // -------------------------------------------------------------------------------------------------------------------

  callStarted(
    instance: number,
    kind: CallKind,
    id: string | undefined,
    operation: Operation | undefined,
    server?: Server
  ): Call {
    const record = this.#record(instance)
    const now = this.#time.now()
    const isRead = operation?.kind === "read"
    const view = id === undefined ? undefined : this.viewOf(instance, id)
    const finding = view === undefined ? undefined : Model.find(view, this.moment(instance))
    const call: Call = {
      instance,
      kind,
      id,
      operation,
      server,
      sequence: ++this.#sequence,
      isBackground: isRead && (finding === "servable" || view?.isCertain !== true || !operation.isPending),
      isOverlapped: false,
      isOvertaken: false,
      exchanges: []
    }
    this.note(() =>
      `instance ${instance} asks ${kind} ${id ?? ""} (${operation?.kind ?? "?"} ${operation?.number ?? ""})`
    )
    if (kind === "list" && now < record.listCoolDownUntil) {
      this.#breaks("nothing before a rate limit's end", `the list, ${record.listCoolDownUntil - now} ms too early`)
    }
    // whose a name is that several accounts have, a list tells
    const mayList = kind === "list" && (operation?.kind === "delete" || operation?.kind === "invalidate") &&
      this.candidates(operation.ref).length > 1
    if (
      operation !== undefined && !mayList && ["explain", "invalidate", "save", "delete"].includes(operation.kind)
    ) {
      this.#breaks("some operations make no request", `${operation.kind} asks ${kind} ${id ?? ""}`)
    }
    if (id !== undefined && view !== undefined) this.#checkCall(call, id, view)
    this.invariants?.callStarted(call)
    for (const other of record.calls) {
      if (other.id !== id || id === undefined) continue
      other.isOverlapped = true
      call.isOverlapped = true
    }
    record.calls.add(call)
    return call
  }

  #checkCall(call: Call, id: string, view: View): void {
    const { kind, operation, instance } = call
    const record = this.#record(instance)
    const now = this.#time.now()
    const moment = this.moment(instance)
    const others = Array.from(this.#records).flatMap((other, index) =>
      index === instance || (this.#config.hasSharedLock && this.#key(index, id) === this.#key(instance, id))
        ? Array.from(other.calls)
        : []
    )
    for (const other of others) {
      if (other.id === id && belongsToRefresh(other) && belongsToRefresh(call)) {
        this.#breaks("one request in flight per credential", `${kind} ${id} during ${other.kind} ${id}`)
      }
      if (
        other.id === id && other.instance === instance && operation?.kind === "sync" && other.operation === operation
      ) {
        this.#breaks("one request in flight per credential", `${kind} ${id} twice at a time in one sync`)
      }
    }
    if (now < view.coolDownUntil && !this.#isContinued(call, id)) {
      this.#breaks("nothing before a rate limit's end", `${kind} ${id}, ${view.coolDownUntil - now} ms too early`)
    }
    if (operation?.kind !== "read") return
    if (kind === "validate" && view.isBlocked) {
      const last = Math.max(record.rechecked.get(id) ?? -Infinity, this.#blockedBefore(call, id))
      if (now - last < Model.recheckInterval) {
        this.#breaks("a blocked one is checked once per 30 s", `${id} was checked ${now - last} ms ago`)
      }
      record.rechecked.set(id, now)
    }
    if (!view.isCertain || kind === "validate") return
    const { cacheTtl, refreshBuffer } = this.#config
    // when a token is due was worked out by the clock as it was known when it came
    if (this.#isOlderThanChange(call, id)) return
    const isClockSteady = record.clockChangedAt < view.receivedAt
    // what a sync was answered is in memory once its batch is saved
    const isKept = this.#stored.get(this.#key(call.instance, id)) === view.token
    if (
      isClockSteady && isKept &&
      Model.isFresh(view, { ...moment, cacheTtl, refreshBuffer: this.#config.autoRefresh ? refreshBuffer : 0 })
    ) {
      this.#breaks("a fresh one is not asked for", `${kind} ${id}`)
    }
    const finding = Model.find(view, moment)
    const isRefusal = view.lastFailure?.tag === "RefreshFailed" || view.lastFailure?.tag === "AdenRejected"
    if (
      (finding === "servable" || (isRefusal && finding !== "blocked")) &&
      Math.ceil(now) < Math.floor(Model.backgroundFrom(view, moment.clockOffset))
    ) {
      this.#breaks(
        "no more often than the back-off",
        `${kind} ${id} ${now - (view.lastFailure?.at ?? 0)} ms after failure ${view.failures}`
      )
    }
  }

  /** Whether a question follows at once on the answer to another one that was asked for the same purpose. */
  #isContinued({ operation, instance }: Call, id: string): boolean {
    return this.#received.get(this.#key(instance, id))?.some(({ call, now, instance: by, answer }) =>
      by === instance && call.operation === operation && now === this.#time.now() &&
      (answer._tag === "Validity" || (answer._tag === "NotFound" && call.kind === "validate"))
    ) === true
  }

  /**
   * When this store was last told that a credential is blocked, before what the program asked for now. It knows nothing of that
   * after a restart, or when the entry was deleted, here or in another process.
   */
  #blockedBefore({ operation, instance }: Call, id: string): number {
    const since = this.#record(instance).startedAt
    const deletedAt = this.#deletedAt.get(this.#key(instance, id)) ?? -Infinity
    const last = this.#received.get(this.#key(instance, id))?.findLast(({ call, endSequence, instance: by, answer }) =>
      by === instance && answer._tag === "Blocked" && !call.isOvertaken &&
      endSequence < (operation?.sequence ?? Infinity)
    )
    return last === undefined || last.endSequence < since || last.call.sequence < deletedAt ? -Infinity : last.now
  }

  callEnded(call: Call, result: CallResult): void {
    const { id, kind, instance } = call
    const record = this.#record(instance)
    const now = this.#time.now()
    record.calls.delete(call)
    this.invariants?.callEnded(call, result)
    const endSequence = ++this.#sequence
    this.note(() => `instance ${instance} was told ${kind} ${id ?? ""}: ${JSON.stringify(result)}`)
    if (result._tag === "Interrupted") {
      // of what is not stored nothing is remembered
      if (kind === "validate" && id !== undefined && this.viewOf(instance, id).token === undefined) {
        record.rechecked.delete(id)
      }
      return
    }
    if (result._tag === "Defect") {
      return result.message.includes(planted)
        ? undefined
        : this.#breaks("no defects", result.message)
    }
    if (result._tag === "Failure") {
      this.#failed.push({ instance, id, tag: result.tag, sequence: endSequence })
      if (id === undefined && result.tag === "RateLimited") {
        record.listCoolDownUntil = now + (result.retryAfter ?? 0)
        record.listCoolDowns.push(record.listCoolDownUntil)
      }
    }
    if (id === undefined) return this.#listed(call, result, endSequence, now)
    const answer = this.#answerOf(call, result)
    if (answer === undefined) return
    const received = this.#received.get(this.#key(instance, id)) ?? []
    this.#received.set(this.#key(instance, id), received)
    received.push({ instance, call, answer, endSequence, now })
    const view = this.viewOf(instance, id)
    if (answer._tag === "NotFound" && !record.doubted.has(id)) record.doubted.set(id, view)
    else if (answer._tag === "Token" || answer._tag === "Blocked") record.doubted.delete(id)
    if (answer._tag === "Blocked") this.#failed.push({ instance, id, tag: "ReauthRequired", sequence: endSequence })
    if (call.isOvertaken) {
      if (answer._tag === "RateLimited") {
        this.#setView(instance, id, Model.received(view, answer, { now, isClean: view.isCertain }))
      }
      return
    }
    // a sync fetches what it has validated by what it knew before that
    const isSecond = call.operation?.kind === "sync" &&
      received.some((before) => before.call !== call && before.call.operation === call.operation)
    const isClean = !call.isOverlapped && !isSecond && !this.#isOlderThanChange(call, id)
    this.#setView(instance, id, Model.received(view, answer, { now, isClean }))
    if (answer._tag === "Token" && this.#isShared(instance)) this.#endCoolDowns(instance, id)
  }

  /** A success that one store had clears the rate limit for all on its storage. */
  #endCoolDowns(instance: number, id: string): void {
    for (const [other] of this.#records.entries()) {
      if (other !== instance && this.#key(other, id) === this.#key(instance, id)) {
        this.#setView(other, id, { ...this.viewOf(other, id), coolDownUntil: -Infinity })
      }
    }
  }

  /** What an answer says of the credential, checked against what Aden said in it. */
  #answerOf({ exchanges, id, kind, operation, instance }: Call, result: CallResult): Answer | undefined {
    // a sync validates only what the list says is blocked: the question is where to connect it again
    const isOfBlocked = operation?.kind === "sync" && kind === "validate"
    const said = (tag: string) => exchanges.some((exchange) => exchange.said?._tag === tag)
    switch (result._tag) {
      case "Token": {
        const token = this.#issued.get(result.value)
        if (token === undefined) {
          this.#breaks("only tokens that were issued", `${kind} ${id} answered ${result.value}`)
          return undefined
        }
        if (token.id !== id || token.tenant !== this.#place(instance).tenant) {
          this.#breaks("never another's token", `${kind} ${id} answered ${result.value}`)
        }
        if (token.expiresAt !== result.expiresAt) {
          this.#breaks("a token with its own expiry", `${result.value} with ${result.expiresAt}`)
        }
        return { _tag: "Token", token, isRefresh: kind === "refresh" }
      }
      case "Nothing":
        if (!said("NotFound")) this.#breaks("an outage is not an answer", `${kind} ${id} was taken for not found`)
        return { _tag: "NotFound" }
      case "Validity":
        return result.isBlocked || (isOfBlocked && !result.isValid) ? { _tag: "Blocked" } : { _tag: "Validity" }
      case "Failure":
        switch (result.tag) {
          case "ReauthRequired":
            if (!said("Blocked")) this.#breaks("an outage is not an answer", `${kind} ${id} was taken for blocked`)
            return { _tag: "Blocked" }
          case "IntegrationNotFound":
            if (!said("NotFound")) this.#breaks("an outage is not an answer", `${kind} ${id} was taken for not found`)
            return { _tag: "NotFound" }
          case "RateLimited":
            if (isOfBlocked) return { _tag: "Blocked" }
            return { _tag: "RateLimited", retryAfter: result.retryAfter ?? 0 }
          default:
            return isOfBlocked ? { _tag: "Blocked" } : { _tag: "Failed", tag: result.tag }
        }
      default:
        return undefined
    }
  }

  #listed({ instance, sequence: askedAt }: Call, result: CallResult, sequence: number, now: number): void {
    const record = this.#record(instance)
    const before = record.lists.at(-1)?.sequence ?? -1
    if (result._tag === "List") record.lists.push({ now, sequence, ids: new Set(result.ids) })
    for (const { id } of this.#config.integrations) {
      const isListed = result._tag === "List" && result.ids.includes(id)
      const received = this.#received.get(this.#key(instance, id))?.filter((item) => item.instance === instance) ?? []
      // what contradicts the list that is asked for because of it is no answer, and no refusal either
      const doubts = received.filter(({ endSequence }) => endSequence > before)
      doubts.push(...received.filter(({ endSequence }) => endSequence < askedAt).slice(-1))
      if (isListed && doubts.some(({ answer }) => answer._tag === "NotFound")) {
        this.#failed.push({ instance, id, tag: "AdenUnavailable", sequence })
        const view = this.viewOf(instance, id)
        if (view.lastFailure !== undefined) this.#setView(instance, id, { ...view, lastFailure: undefined })
      }
      const doubted = record.doubted.get(id)
      if (doubted === undefined || (result._tag === "List" && !isListed)) continue
      record.doubted.delete(id)
      this.#setView(instance, id, { ...this.viewOf(instance, id), isCertain: doubted.isCertain })
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Writes to storage
  // -------------------------------------------------------------------------------------------------------------------

  storedToken({ expiresAt, id, operation, instance, value }: {
    readonly instance: number
    readonly id: string
    readonly value: string
    readonly expiresAt: number | undefined
    readonly operation: Operation | undefined
  }): void {
    const key = this.#key(instance, id)
    const token = this.#issued.get(value) ?? this.#own.get(value)
    this.note(() => `instance ${instance} saves ${id}: ${value}`)
    if (token === undefined) return this.#breaks("only tokens that were issued", `${value} was saved as ${id}`)
    if (token.id !== id || token.tenant !== this.#place(instance).tenant) {
      return this.#breaks("never another's token", `${value} was saved as ${id}`)
    }
    if (token.expiresAt !== expiresAt) {
      this.#breaks("a token with its own expiry", `${value} was saved with ${expiresAt}`)
    }
    if (token.isOwn) {
      this.#stored.set(key, token)
      this.#overtake(instance, id)
      return this.#setView(instance, id, Model.saved(token, this.#time.now()))
    }
    const stored = this.#stored.get(key)
    if (stored?.isOwn === true && !this.#wasDeletedSince(key, token)) {
      this.#breaks("the program's own is never overwritten", `${value} over ${stored.value}`)
    } else if (stored !== undefined && stored.number > token.number && !this.#wasDeletedSince(key, token)) {
      this.#breaks("an old answer never wins", `${value} was saved over ${stored.value}`)
    }
    const changedAt = this.#changedAt.get(`${instance}/${id}`) ?? -Infinity
    const isAskedSince = this.#received.get(key)?.some(({ call, answer }) =>
      answer._tag === "Token" && answer.token === token && call.sequence > changedAt
    )
    if (isAskedSince !== true && operation?.kind !== "save") {
      this.#breaks("an old answer never wins", `${value} was saved, asked for before the program changed ${id}`)
    }
    this.#stored.set(key, token)
  }

  /** When an entry was last deleted, by storage and id. */
  readonly #deletedAt = new Map<string, number>()

  /**
   * Whether the entry was deleted after a token was asked for. A storage counts generations from 0 again after that, so that
   * a process which asked before cannot tell that another one has deleted and saved since.
   */
  #wasDeletedSince(key: string, token: Issued): boolean {
    const deletedAt = this.#deletedAt.get(key) ?? -Infinity
    const asked = this.#received.get(key)?.findLast(({ answer }) => answer._tag === "Token" && answer.token === token)
    return (asked?.call.sequence ?? Infinity) < deletedAt
  }

  /** When the program of an instance last saved or deleted a credential. */
  readonly #changedAt = new Map<string, number>()

  /** Whether what a question belongs to may have begun before the program changed the credential. */
  #isOlderThanChange({ operation }: Call, id: string): boolean {
    return operation === undefined || this.#isBeforeChange(operation, id)
  }

  #isBeforeChange({ instance, sequence }: Operation, id: string): boolean {
    return sequence < (this.#changedAt.get(`${instance}/${id}`) ?? -Infinity)
  }

  #overtake(instance: number, id: string): void {
    this.#changedAt.set(`${instance}/${id}`, ++this.#sequence)
    const record = this.#record(instance)
    record.newest.delete(id)
    record.doubted.delete(id)
    record.announced.delete(id)
    record.rechecked.delete(id)
    record.invalidated.delete(id)
    for (const call of record.calls) if (call.id === id) call.isOvertaken = true
  }

  deleted(instance: number, id: string, operation: Operation | undefined): void {
    const key = this.#key(instance, id)
    const stored = this.#stored.get(key)
    this.#stored.delete(key)
    this.#deletedAt.set(key, ++this.#sequence)
    for (const [other, { rechecked }] of this.#records.entries()) {
      if (this.#key(other, id) === key) rechecked.delete(id)
    }
    this.note(() => `instance ${instance} deletes ${id}`)
    if (operation?.kind === "delete") {
      this.#overtake(instance, id)
      return this.#setView(instance, id, Model.removed, true)
    }
    const record = this.#record(instance)
    const answers = this.#received.get(key)?.filter((item) => item.instance === instance) ?? []
    const missed = answers.findLast(({ answer }) => answer._tag === "NotFound")
    if (stored?.isOwn === true) this.#breaks("the program's own is never removed", id)
    else if (missed === undefined || !this.#isDelisted(instance, id)) {
      this.#breaks("an outage removes nothing", `${id} was removed without Aden's answer`)
    }
    this.#setView(instance, id, Model.removed, true)
    record.newest.delete(id)
    record.doubted.delete(id)
  }

  /** Whether this store has a list without the integration that is newer than the last token which it was answered. */
  #isDelisted(instance: number, id: string): boolean {
    const answers = this.#received.get(this.#key(instance, id)) ?? []
    const last = answers.findLast((item) => item.instance === instance && item.answer._tag === "Token")
    return this.#record(instance).lists.some(({ ids, sequence }) =>
      sequence > (last?.call.sequence ?? -1) && !ids.has(id)
    )
  }

  storedState(instance: number, id: string, isBlocked: boolean): void {
    const isOwn = this.#stored.get(this.#key(instance, id))?.isOwn === true &&
      this.viewOf(instance, id).token?.isOwn === true
    if (isBlocked && isOwn) {
      this.#breaks("the program's own is never blocked", id)
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Events
  // -------------------------------------------------------------------------------------------------------------------

  event(instance: number, event: CredentialEvent): void {
    const { announced } = this.#record(instance)
    this.note(() => `instance ${instance} tells ${event._tag} ${event.id}`)
    if (this.#isShared(instance)) return
    if (event._tag === "ReauthorizationRequired") {
      // an operation from before the program deleted it does not know of what was told since
      const isOld = Array.from(this.pending).some((operation) =>
        operation.instance === instance && this.#isBeforeChange(operation, event.id)
      )
      if (announced.has(event.id) && !isOld) this.#breaks("one event when it becomes blocked", event.id)
      announced.add(event.id)
    } else if (event._tag === "Reconnected" || event._tag === "Removed") announced.delete(event.id)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Operations of the program
  // -------------------------------------------------------------------------------------------------------------------

  get operations(): number {
    return this.#operations
  }

  started(
    kind: OperationKind,
    instance: number,
    ref: string,
    { longest, minTimeLeft }: Pick<Operation, "longest" | "minTimeLeft"> = {}
  ): Operation {
    const operation: Operation = {
      number: ++this.#operations,
      kind,
      instance,
      ref,
      step: this.step,
      sequence: ++this.#sequence,
      timer: this.#time.timer(),
      now: this.#time.now(),
      clockOffset: this.clockOffset(instance),
      isPending: true,
      isInterrupted: false,
      longest,
      minTimeLeft
    }
    this.pending.add(operation)
    this.invariants?.started(operation)
    return operation
  }

  /** The program makes a credential of its own. */
  makeOwn(instance: number, id: string, lifetime: number | undefined): Issued {
    const now = this.#time.now()
    const token: Issued = {
      value: `own-${this.#own.size + 1}-${id}`,
      tenant: this.#place(instance).tenant,
      id,
      number: 0,
      expiresAt: lifetime === undefined ? undefined : now + lifetime,
      isOwn: true
    }
    this.#own.set(token.value, token)
    this.invariants?.madeOwn(token)
    return token
  }

  invalidatedBy(operation: Operation): void {
    const { ref: id, instance } = operation
    const view = this.viewOf(instance, id)
    if (view.token === undefined && !this.#stored.has(this.#key(instance, id))) {
      // whether it counts depends on what else is known of the integration
      for (const call of this.#record(instance).calls) if (call.id === id) call.isOverlapped = true
      return
    }
    // what is being asked is another token than the one that was refused
    if (view.token !== undefined && view.isCertain) {
      this.#record(instance).invalidated.set(id, { value: view.token.value, sequence: ++this.#sequence })
    }
    this.#setView(instance, id, Model.invalidated(view))
  }

  ended(operation: Operation, result: OperationResult): void {
    this.pending.delete(operation)
    operation.isPending = false
    this.note(() =>
      `instance ${operation.instance} ${operation.kind} ${operation.number} ${operation.ref}: ${JSON.stringify(result)}`
    )
    this.invariants?.ended(operation, result)
    if (result._tag === "Defect") {
      if (!result.message.includes(planted)) this.#breaks("no defects", `${operation.kind}: ${result.message}`)
      return
    }
    if (result._tag === "Interrupted") {
      if (!operation.isInterrupted) {
        this.#breaks("an interruption ends only its own operation", `${operation.kind} ${operation.ref}`)
      }
      return
    }
    switch (operation.kind) {
      case "read":
        return this.#checkRead(operation, result)
      case "refresh":
        return this.#checkRefresh(operation, result)
      case "validate":
      case "sync":
        return this.#checkExplicit(operation, result)
      case "lasting":
        if (result._tag === "Token") this.#checkToken(operation, result)
        return
      case "follow":
      case "require":
      case "await":
      case "call":
        return
      case "explain":
      case "invalidate":
      case "save":
      case "delete":
        if (result._tag === "Failure" && !["CredentialNotFound", "AmbiguousCredential"].includes(result.tag)) {
          this.#breaks("every error is explained", `${operation.kind} ${operation.ref}: ${result.tag}`)
        }
    }
  }

  /** A token that a follower is given, as of now. */
  followed(operation: Operation, result: Extract<OperationResult, { readonly _tag: "Token" }>): void {
    this.#checkToken({ ...operation, sequence: ++this.#sequence, step: this.step }, result)
  }

  #checkRead(operation: Operation, result: OperationResult): void {
    const { ref, instance } = operation
    const candidates = this.candidates(ref)
    if (result._tag === "Token") {
      const token = this.#checkToken(operation, result)
      if (token === undefined) return
      this.#noteNewest(operation, token)
      this.#record(instance).answered.set(token.id, this.step)
      if (token.id === ref) this.#judge(operation, ref, { _tag: "Success", token })
      return this.#checkWait(operation)
    }
    if (result._tag !== "Failure") return
    if (result.tag === "CredentialKeyNotFound" && this.#isExplained(operation, result)) return
    if (candidates.length === 1 && candidates[0] === ref) {
      return this.#judge(operation, ref, { _tag: "Failure", tag: result.tag }, result.retryAfter)
    }
    this.#checkWait(operation)
    if (!this.#isExplained(operation, result)) {
      this.#breaks("every error is explained", `${ref}: ${result.tag}`)
    }
  }

  #judge(operation: Operation, id: string, outcome: Outcome, retryAfter?: number | undefined): void {
    const reading = this.#reading(operation, id)
    const complaint = Model.judge(outcome, reading)
    if (complaint !== undefined) return this.#breaks("what a read answers", `${operation.ref}: ${complaint}`)
    if (outcome._tag === "Failure" && outcome.tag === "RateLimited" && !reading.failures.has("RateLimited")) {
      const limits = [
        ...reading.views.map((view) => view.coolDownUntil),
        ...this.#record(operation.instance).listCoolDowns
      ]
      const isRight = limits.some((until) =>
        retryAfter !== undefined && retryAfter <= until - reading.start.now && retryAfter >= until - reading.end.now
      )
      if (reading.views.every((view) => view.isCertain) && !isRight) {
        this.#breaks(
          "RateLimited with the time left",
          `${operation.ref}: ${retryAfter} ms at ${reading.end.now} and not until ${limits.join(" or ")}`
        )
      }
    }
  }

  #reading(operation: Operation, id: string): Reading {
    const { instance, sequence, step } = operation
    const record = this.#record(instance)
    const records = record.views.get(id) ?? []
    return {
      views: this.#viewsSince(instance, id, step),
      start: { now: operation.now, clockOffset: operation.clockOffset, maxStale: this.#config.maxStale },
      end: this.moment(instance),
      waited: this.#time.timer() - operation.timer,
      deadline: this.#config.deadline,
      answers: this.#answersSince(operation, id),
      failures: this.#failuresSince(instance, sequence, [id]),
      isUnlisted: this.#isUnlisted(operation, [id]) ||
        records.some((item) => item.isRemoval && item.step >= step) ||
        (this.#isShared(instance) && !this.#stored.has(this.#key(instance, id))),
      listCoolDownUntil: Math.max(...record.listCoolDowns)
    }
  }

  #answersSince({ instance, sequence }: Operation, id: string): ReadonlySet<string> {
    return new Set(
      (this.#received.get(this.#key(instance, id)) ?? []).flatMap(({ endSequence, instance: by, answer }) =>
        by === instance && endSequence > sequence && answer._tag === "Token" ? [answer.token.value] : []
      )
    )
  }

  #failuresSince(instance: number, sequence: number, ids: ReadonlyArray<string>): ReadonlySet<string> {
    return new Set(
      this.#failed.filter((item) =>
        item.instance === instance && item.sequence > sequence && (item.id === undefined || ids.includes(item.id))
      ).map(({ tag }) => tag)
    )
  }

  /** Whether a list that this store received not longer ago than a missing ref is remembered lacks all of these. */
  #isUnlisted({ now, instance, sequence }: Operation, ids: ReadonlyArray<string>): boolean {
    return this.#record(instance).lists.some((list) =>
      (list.sequence > sequence || now - list.now <= 30_000) && ids.every((id) => !list.ids.has(id))
    )
  }

  #isExplained(operation: Operation, result: Extract<OperationResult, { readonly _tag: "Failure" }>): boolean {
    const { ref, instance, sequence } = operation
    const ids = this.candidates(ref)
    switch (result.tag) {
      case "CredentialNotFound":
        return this.#isUnlisted(operation, ids) || ids.some((id) => this.#reading(operation, id).isUnlisted)
      case "AmbiguousCredential":
        return ids.length > 1
      case "NoProvider":
      case "CredentialKeyNotFound":
        if (this.#isShared(instance)) return true
        return ids.some((id) =>
          this.#viewsSince(instance, id, operation.step).some((view) => view.token?.isOwn === true)
        )
      case "AdenUnavailable":
        if (hasDeadline(operation) && this.#time.timer() - operation.timer >= this.#config.deadline) return true
        break
      case "RateLimited":
        if (operation.now < this.#record(instance).listCoolDownUntil) return true
    }
    return this.#failuresSince(instance, sequence, ids).has(result.tag) ||
      ids.some((id) => Model.explains(result.tag, { ...this.#reading(operation, id), deadline: Infinity }))
  }

  #checkWait(operation: Operation): void {
    const waited = this.#time.timer() - operation.timer
    if (waited > this.#config.deadline) {
      this.#breaks("every wait ends", `${operation.ref} took ${waited} ms`)
    }
  }

  /** What holds for a token whatever happened before. */
  #checkToken(operation: Operation, result: Extract<OperationResult, { readonly _tag: "Token" }>): Issued | undefined {
    const { ref, instance, sequence } = operation
    const record = this.#record(instance)
    const token = this.#issued.get(result.value) ?? this.#own.get(result.value)
    if (token === undefined) {
      this.#breaks("only tokens that were issued", `${ref} got ${result.value}`)
      return undefined
    }
    const { id } = token
    const key = this.#key(instance, id)
    const said = `${ref} got ${token.value}`
    if (token.tenant !== this.#place(instance).tenant) this.#breaks("never another tenant's", said)
    if (!this.candidates(ref).includes(id)) this.#breaks("never another's token", said)
    if (result.expiresAt !== "unknown" && result.expiresAt !== token.expiresAt) {
      this.#breaks("a token with its own expiry", said)
    }
    const moment = this.moment(instance)
    // what is known of Aden's clock has a resolution of one second
    const tolerance = moment.clockOffset === 0 ? 0 : 1_000
    if (Model.isExpired(token, { ...moment, now: moment.now - tolerance })) {
      this.#breaks(
        "never an expired token",
        `${said}, expired ${moment.now + moment.clockOffset - (token.expiresAt ?? 0)} ms ago`
      )
    }
    const invalidated = record.invalidated.get(id)
    const answers = this.#received.get(key) ?? []
    if (token.isOwn) return token
    if (
      invalidated?.value === token.value && invalidated.sequence < sequence &&
      !answers.some(({ call, instance: by, answer }) =>
        by === instance && answer._tag === "Token" && answer.token === token && call.sequence > invalidated.sequence
      )
    ) this.#breaks("never an invalidated token", said)
    const newest = record.newest.get(id)
    if (newest !== undefined && newest.sequence < sequence && token.number < newest.number) {
      this.#breaks("an old answer never wins", `${said} after token ${newest.number}`)
    }
    // what a failing storage did not take is forgotten with the store
    const since = this.#config.wide === undefined ? -1 : record.startedAt
    // what the program deletes shows again where a second storage has it
    const shownAgainAt = this.#config.wide?.fallback.includes(id) === true ? this.#deletedAt.get(key) ?? -1 : -1
    const blocked = answers.findLast((item) =>
      item.instance === instance && item.endSequence > Math.max(since, shownAgainAt) &&
      item.answer._tag === "Blocked" &&
      !item.call.isOvertaken &&
      item.endSequence < sequence
    )
    const confirmed = answers.findLast(({ answer }) => answer._tag === "Token")
    const received = answers.findLast(({ answer }) => answer._tag === "Token" && answer.token === token)
    if (received === undefined && !this.#standing.has(token.value)) {
      this.#breaks("only tokens that were issued", `${said}, which was never answered`)
    }
    if (blocked !== undefined && (received?.endSequence ?? -1) < blocked.call.sequence) {
      this.#breaks("never a blocked credential's token", said)
    }
    const refused = answers.find(({ call, endSequence, instance: by, answer }) =>
      by === instance && answer._tag === "Failed" && ["AdenUnauthorized", "AdenForbidden"].includes(answer.tag) &&
      !call.isOvertaken && endSequence > (confirmed?.endSequence ?? -1)
    )
    if (Model.isTooOld({ confirmedAt: confirmed?.now ?? -Infinity, refusedSince: refused?.now }, moment)) {
      this.#breaks("nothing older than maxStale", said)
    }
    // what Aden does not list any more has no name
    const rivals = this.candidates(ref).filter((other) =>
      this.#stored.get(this.#key(instance, other))?.isOwn === false && !this.#isDelisted(instance, other)
    )
    // where accounts are renamed, the invariants of the wide profile know what each is called
    if (
      this.#config.wide === undefined && id !== ref && rivals.length > 1 && !this.#isShared(instance) &&
      rivals.every((other) => this.#isSettled(operation, other))
    ) {
      this.#breaks("never a silent pick", `${said} of ${rivals.join(", ")}`)
    }
    return token
  }

  /**
   * A token that was not kept, or may not be because the program changed the credential at the same time, does not count as the
   * newest.
   */
  #noteNewest(operation: Operation, token: Issued): void {
    const { instance } = operation
    if (this.#isBeforeChange(operation, token.id)) return
    const { newest } = this.#record(instance)
    const isKept = this.#stored.get(this.#key(instance, token.id)) === token
    if (isKept && (newest.get(token.id)?.number ?? -1) < token.number) {
      newest.set(token.id, { number: token.number, sequence: ++this.#sequence })
    }
  }

  /** Whether nothing happened to a credential since the operation began. */
  #isSettled({ instance, step }: Operation, id: string): boolean {
    return this.#viewsSince(instance, id, step).length === 1
  }

  #checkRefresh(operation: Operation, result: OperationResult): void {
    if (result._tag === "Failure") return this.#checkExplicit(operation, result)
    if (result._tag !== "Token") return
    const token = this.#checkToken(operation, result)
    if (token === undefined) return
    const { instance, sequence } = operation
    this.#noteNewest(operation, token)
    const isAsked = this.#received.get(this.#key(instance, token.id))?.some(({ call, answer }) =>
      call.sequence > sequence && answer._tag === "Token" && answer.token === token
    )
    if (isAsked !== true && !token.isOwn && !this.#isShared(instance)) {
      this.#breaks("a forced refresh is asked for after its call", `${operation.ref} got ${token.value}`)
    }
  }

  #checkExplicit(operation: Operation, result: OperationResult): void {
    if (result._tag !== "Failure") return
    const ids = operation.kind === "sync" ? [] : this.candidates(operation.ref)
    const isKnown = this.#failuresSince(operation.instance, operation.sequence, ids).has(result.tag)
    if (!isKnown && !this.#isExplained(operation, result)) {
      this.#breaks("every error is explained", `${operation.kind} ${operation.ref}: ${result.tag}`)
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // When nothing can go on
  // -------------------------------------------------------------------------------------------------------------------

  /** Other calls have no deadline but what the client's attempts, limits and retries add up to. */
  static readonly explicitLimit = 600_000

  /** What holds whenever nothing can go on without time passing. */
  checkAtRest(): void {
    const timer = this.#time.timer()
    for (const operation of this.pending) {
      const waited = timer - operation.timer
      if (operation.isInterrupted && this.#config.wide === undefined) {
        this.#breaks("every wait ends", `${operation.kind} ${operation.ref} goes on after it was interrupted`)
      }
      if (waited > this.#longest(operation)) {
        this.#breaks("every wait ends", `${operation.kind} ${operation.ref} has been going on for ${waited} ms`)
      }
    }
  }

  #longest({ kind, longest }: Operation): number {
    if (longest !== undefined) return longest
    if (hasDeadline({ kind })) return this.#config.deadline
    // a storage that hangs holds up what is written or read on purpose, which has no deadline
    return this.#config.wide === undefined ? Ledger.explicitLimit : Infinity
  }

  /** Nothing of a store goes on once its scope is closed. */
  checkStopped(instance: number): void {
    for (const { id, kind } of this.#record(instance).calls) {
      this.#breaks("nothing is left behind", `${kind} ${id ?? ""} goes on in a store that has ended`)
    }
  }

  /** Once Aden has been well for long enough, a connected integration answers a token. */
  checkRecovered(instance: number, id: string): void {
    if (!this.hasRecovered(instance, id)) this.#breaks("a healed Aden answers again", id)
  }

  /** Whether a connected integration has answered a token in this step. The program's own need not. */
  hasRecovered(instance: number, id: string): boolean {
    const record = this.#record(instance)
    // an id may be the name of another account, which is the answer then
    return this.#stored.get(this.#key(instance, id))?.isOwn === true ||
      [id, ...this.candidates(id)].some((candidate) => record.answered.get(candidate) === this.step)
  }
}

/** Everything but what a sync or an explicit `validate` asks belongs to a renewal, of which there is one at a time. */
const belongsToRefresh = ({ kind, operation }: Call): boolean =>
  operation?.kind !== "sync" && !(kind === "validate" && operation?.kind === "validate")

/** A usage report or a health check is not a question about a credential. */
const isReport = ({ endpoint }: Exchange): boolean => endpoint === "usage" || endpoint === "health"

const formatTime = (time: number): string => new Date(time).toISOString().slice(5, -1)
