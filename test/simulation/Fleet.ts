/**
 * A fleet of clients against one Aden that limits its rate, on virtual time. Each client is a process of its own with one
 * credential in memory that it uses all the time: the worst case for Aden, where nothing is shared. What decides when it asks
 * is the package's own code: what the store decides of an entry, its policies, and the retries and the circuit of the client.
 */
import { Clock, DateTime, Duration, Effect, Exit, Option, Random, Redacted, References, Schedule } from "effect"
import type { Scope } from "effect"
import { AdenConnectionFailed, AdenUnavailable, RateLimited } from "../../src/errors/AdenError.ts"
import type { AdenFailure } from "../../src/errors/AdenError.ts"
import type { CredentialFailure } from "../../src/errors/CredentialError.ts"
import { Credential, CredentialKey } from "../../src/model/Credential.ts"
import { CredentialState } from "../../src/model/CredentialState.ts"
import { AdenClient } from "../../src/providers/aden/AdenClient.ts"
import { AdenCircuit, retryPolicy } from "../../src/providers/aden/resilience.ts"
import { BypassCircuit } from "../../src/providers/CredentialProvider.ts"
import type { CredentialProvider } from "../../src/providers/CredentialProvider.ts"
import { Cell } from "../../src/store/Cell.ts"
import { decide, expiresBeforeProbe, isUsable } from "../../src/store/core/decide.ts"
import type { Circumstances, Question } from "../../src/store/core/decide.ts"
import { transition } from "../../src/store/core/transition.ts"
import type { EntryEvent } from "../../src/store/core/transition.ts"
import { retryAfterAnswer, retryAfterFailure, takingOver } from "../../src/store/dates.ts"
import { backOff, confirmWithin, recheckBlocked, rememberMissing, renewInTime } from "../../src/store/RefreshPolicy.ts"
import type { RefreshPolicies } from "../../src/store/RefreshPolicy.ts"
import { EventQueue } from "./EventQueue.ts"
import { Prng } from "./Prng.ts"

const second = 1_000
const minute = 60 * second
const hour = 60 * minute

/** How long one element of a series lasts, in ms. */
export const bin = 10 * second

/** What happens to the fleet. Times are in ms since the start. */
export interface Scenario {
  readonly name: string
  readonly title: string
  /**
   * The steady state is measured from `steadyFrom` to `disturbedAt`, and what the disturbance does from `observedFrom` to
   * `duration`.
   */
  readonly steadyFrom: number
  readonly disturbedAt: number
  readonly observedFrom: number
  readonly duration: number
  /** Aden does not answer between these times. */
  readonly outage: { readonly from: number; readonly until: number } | undefined
  /** How long tokens last, in ms, each with its share of the clients. */
  readonly lifetimes: readonly [readonly [share: number, life: number], ...Array<readonly [number, number]>]
  /** All tokens that clients hold at the start expire at this time, as after a common start of the fleet. */
  readonly commonExpiry: number | undefined
}

const usualLifetimes: Scenario["lifetimes"] = [[70, hour], [20, hour / 2], [10, 8 * hour]]

export const scenarios = {
  steady: {
    name: "steady",
    title: "Steady state",
    steadyFrom: 5 * minute,
    disturbedAt: 20 * minute,
    observedFrom: 20 * minute,
    duration: 60 * minute,
    outage: undefined,
    lifetimes: usualLifetimes,
    commonExpiry: undefined
  },
  outage: {
    name: "outage",
    title: "Ten minutes without Aden",
    steadyFrom: 5 * minute,
    disturbedAt: 20 * minute,
    observedFrom: 30 * minute,
    duration: 95 * minute,
    outage: { from: 20 * minute, until: 30 * minute },
    lifetimes: usualLifetimes,
    commonExpiry: undefined
  },
  expiry: {
    name: "expiry",
    title: "All tokens expire in the same second",
    steadyFrom: 5 * minute,
    disturbedAt: 20 * minute,
    observedFrom: 20 * minute,
    duration: 95 * minute,
    outage: undefined,
    lifetimes: [[100, hour]],
    commonExpiry: 30 * minute
  }
} satisfies Record<string, Scenario>

export interface FleetOptions {
  readonly scenario: Scenario
  readonly clients: number
  readonly seed: number
  readonly policies?: Partial<RefreshPolicies> | undefined
}

export interface FleetRun {
  readonly scenario: Scenario
  readonly clients: number
  /** Requests that Aden received. */
  readonly requests: ReadonlyArray<number>
  /** Of these, those that renew a token. */
  readonly renewals: ReadonlyArray<number>
  /** Of these, those refused with 429. */
  readonly limited: ReadonlyArray<number>
  /** Clients without a usable token, at the end of each bin. */
  readonly without: ReadonlyArray<number>
  /** For each token that ran out before there was another. */
  readonly runOut: ReadonlyArray<RunOut>
}

export interface RunOut {
  readonly at: number
  /** When the client had a usable token again; `undefined`: not within the run. */
  readonly until: number | undefined
  /** For how long Aden had been up when the token ran out, in ms; `undefined`: it was down. */
  readonly adenUpFor: number | undefined
}

export interface FleetSummary {
  /** Requests per second, on average, in the steady state. */
  readonly steady: number
  /** Requests per second in the busiest window of the steady state. */
  readonly steadyPeak: number
  /** Requests per second in the busiest window after the disturbance, and when it began, in ms. */
  readonly peak: number
  readonly peakAt: number
  /** Requests per second in the busiest window of the outage. */
  readonly outagePeak: number | undefined
  /** Requests refused with 429. */
  readonly limited: number
  /** Tokens that ran out before there was another, while Aden was down. */
  readonly ranOutWhileDown: number
  /** Within {@link returnTime} of Aden's return. */
  readonly ranOutOnReturn: number
  /** While Aden was up, and had been for {@link returnTime}. */
  readonly ranOutWhileUp: number
  /** How long after Aden's return the last client had a usable token again, in ms. */
  readonly recovery: number | undefined
}

/** What no client can learn of in time, in ms: that Aden is back, when its token expires before it can have asked. */
export const returnTime = 5 * second

/** `window` is how long the busiest time lasts that is looked for, in ms: 10 s, unless so few clients ask that it is chance. */
export const summaryOf = (run: FleetRun, { window = bin }: { readonly window?: number } = {}): FleetSummary => {
  const { requests, runOut, scenario: { disturbedAt, duration, outage, steadyFrom, observedFrom } } = run
  const steady = sum(requests.slice(steadyFrom / bin, disturbedAt / bin)) / (disturbedAt - steadyFrom) * second
  const peakOf = (from: number, until: number) => {
    let peak = { rate: 0, at: from }
    for (let at = from; at + window <= until; at += bin) {
      const rate = sum(requests.slice(at / bin, (at + window) / bin)) / window * second
      if (rate > peak.rate) peak = { rate, at }
    }
    return peak
  }
  const peak = peakOf(observedFrom, duration)
  const up = runOut.filter(({ adenUpFor }) => adenUpFor !== undefined && adenUpFor >= returnTime).length
  const down = runOut.filter(({ adenUpFor }) => adenUpFor === undefined).length
  return {
    steady,
    steadyPeak: peakOf(steadyFrom, disturbedAt).rate,
    peak: peak.rate,
    peakAt: peak.at,
    outagePeak: outage === undefined ? undefined : peakOf(outage.from, outage.until).rate,
    limited: sum(run.limited),
    ranOutWhileDown: down,
    ranOutOnReturn: runOut.length - up - down,
    ranOutWhileUp: up,
    recovery: outage === undefined
      ? undefined
      : runOut.reduce((latest, { until = Infinity }) => Math.max(latest, until - outage.until), 0)
  }
}

/** What must not be: said in words, none where all is well. */
export const faultsOf = ({ scenario }: FleetRun, summary: FleetSummary): ReadonlyArray<string> => {
  const faults: Array<string> = []
  if (scenario.commonExpiry === undefined && summary.peak > 2 * summary.steady) {
    faults.push(
      `${summary.peak.toFixed(1)} requests per second in minute ${(summary.peakAt / minute).toFixed(1)}, ` +
        `more than twice the ${summary.steady.toFixed(1)} of the steady state`
    )
  }
  if (summary.ranOutWhileUp > 0) faults.push(`${summary.ranOutWhileUp} tokens ran out while Aden was up`)
  return faults
}

const sum = (numbers: ReadonlyArray<number>): number => numbers.reduce((total, item) => total + item, 0)

export const runFleet = (options: FleetOptions): Effect.Effect<FleetRun> =>
  Effect.scoped(Effect.suspend(() => {
    const clock = new VirtualClock()
    return Effect.flatMap(Fleet.make(options, clock), (fleet) => fleet.run).pipe(
      Effect.provideService(Clock.Clock, clock),
      Effect.provideService(References.MinimumLogLevel, "None"),
      Effect.provideService(References.TracerEnabled, false),
      Effect.provideService(References.PreventSchedulerYield, true)
    )
  })).pipe(Random.withSeed(options.seed))

// ---------------------------------------------------------------------------------------------------------------------
// Aden
// ---------------------------------------------------------------------------------------------------------------------

/** How many requests per minute Aden takes for each client of the fleet. In the steady state they need about 0.23. */
export const requestsPerClient = 0.35

/** Why a client got no token. */
type Refusal = AdenUnavailable | RateLimited

type AdenAnswer = Exit.Exit<"answered", Refusal>

/**
 * An Aden that takes so many requests in each whole minute, and tells the others when the next one begins: all of them the same
 * moment, which is the hardest on a fleet.
 */
class LimitedAden {
  readonly #scenario: Scenario
  readonly #limit: number
  #minute = -1
  #taken = 0
  /** One error for all who are told the same. */
  readonly #refusals = new Map<number, AdenAnswer>()
  readonly #down: AdenAnswer = Exit.fail(
    new AdenUnavailable({ reason: new AdenConnectionFailed({ detail: "connection refused" }) })
  )
  readonly #answered: AdenAnswer = Exit.succeed("answered")

  constructor(scenario: Scenario, clients: number) {
    this.#scenario = scenario
    this.#limit = Math.round(clients * requestsPerClient)
  }

  ask(at: number): AdenAnswer {
    if (this.upFor(at) === undefined) return this.#down
    const current = Math.floor(at / minute)
    if (current !== this.#minute) {
      this.#minute = current
      this.#taken = 0
    }
    return this.#taken++ < this.#limit
      ? this.#answered
      : this.#refusal(Math.ceil(((current + 1) * minute - at) / second))
  }

  /** For how long Aden has been up, in ms; `undefined` while it is down. */
  upFor(at: number): number | undefined {
    const { outage } = this.#scenario
    if (outage === undefined || at < outage.from) return Infinity
    return at < outage.until ? undefined : at - outage.until
  }

  #refusal(seconds: number): AdenAnswer {
    const known = this.#refusals.get(seconds)
    if (known !== undefined) return known
    const refusal = Exit.fail(new RateLimited({ retryAfter: Duration.seconds(seconds) }))
    this.#refusals.set(seconds, refusal)
    return refusal
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Clients
// ---------------------------------------------------------------------------------------------------------------------

/** When every run begins, in ms since the epoch. */
const epoch = Date.UTC(2026, 0, 1)

/** A request and its answer take between these, in ms. */
const latency = { from: 50, to: 250 }

/** How soon a program that got no token asks for it again, in ms, where the error does not say. */
const impatience = 5 * second

const cacheTtl = 5 * minute

const maxStale = 24 * hour

interface Client {
  readonly index: number
  readonly cell: Cell
  readonly life: number
  expiresAt: number
  ranOutAt: number | undefined
  /** What it does next, at the time that the queue has for it. */
  next: "read" | "send" | "take"
  question: Question
  retry: ((now: number, error: AdenFailure) => Effect.Effect<number | undefined>) | undefined
  answer: AdenAnswer
  /** Whether the question may pass an open circuit. */
  expiresBeforeProbe: boolean
  /** Whether the circuit knows of it. */
  hasFailed: boolean
}

class Fleet {
  readonly #options: FleetOptions
  readonly #policies: RefreshPolicies
  readonly #clock: VirtualClock
  readonly #aden: LimitedAden
  readonly #circuit: AdenCircuit
  readonly #queue: EventQueue
  readonly #random: Prng
  readonly #clients: Array<Client> = []
  readonly #requests: Array<number>
  readonly #renewals: Array<number>
  readonly #limited: Array<number>
  readonly #without: Array<number>
  readonly #runOut: Array<RunOut> = []
  #outNow = 0

  constructor(options: FleetOptions, clock: VirtualClock, circuit: AdenCircuit) {
    const bins = Math.ceil(options.scenario.duration / bin)
    this.#options = options
    this.#policies = {
      renew: renewInTime,
      confirm: confirmWithin(cacheTtl),
      backOff,
      recheck: recheckBlocked,
      missing: rememberMissing,
      ...options.policies
    }
    this.#clock = clock
    this.#circuit = circuit
    this.#aden = new LimitedAden(options.scenario, options.clients)
    this.#queue = new EventQueue(options.clients)
    this.#random = new Prng(options.seed)
    this.#requests = zeros(bins)
    this.#renewals = zeros(bins)
    this.#limited = zeros(bins)
    this.#without = zeros(bins)
  }

  static make(options: FleetOptions, clock: VirtualClock): Effect.Effect<Fleet, never, Scope.Scope> {
    return Effect.map(
      AdenCircuit.make({ failures: 5, openFor: Duration.seconds(30) }),
      (circuit) => new Fleet(options, clock, circuit)
    )
  }

  get run(): Effect.Effect<FleetRun> {
    return Effect.gen({ self: this }, function*() {
      const { clients, scenario } = this.#options
      for (let index = 0; index < clients; index++) yield* this.#start(index)
      let index = 0
      for (let at = this.#queue.nextAt; at < scenario.duration; at = this.#queue.nextAt) {
        if ((index + 1) * bin <= at) yield* turnOfTheProcess
        for (; (index + 1) * bin <= at; index++) this.#without[index] = this.#outNow
        this.#clock.now = epoch + at
        const client = this.#clients[this.#queue.next]
        if (client !== undefined) yield* this.#step(client, at)
      }
      for (; index < this.#without.length; index++) this.#without[index] = this.#outNow
      for (const { ranOutAt } of this.#clients) if (ranOutAt !== undefined) this.#note(ranOutAt, undefined)
      const result: FleetRun = {
        scenario,
        clients,
        requests: this.#requests,
        renewals: this.#renewals,
        limited: this.#limited,
        without: this.#without,
        runOut: this.#runOut
      }
      return result
    })
  }

  /** A client in the midst of its token's life, and of the time until the next confirmation. */
  readonly #start = Effect.fnUntraced(function*(this: Fleet, index: number) {
    const { scenario } = this.#options
    const life = this.#random.weighted(scenario.lifetimes)
    const receivedAt = scenario.commonExpiry === undefined
      ? -this.#random.fraction() * (life - Duration.toMillis(provider.refreshBuffer))
      : scenario.commonExpiry - life
    const client: Client = {
      index,
      cell: new Cell(`client-${index}`, this.#policies),
      life,
      expiresAt: receivedAt + life,
      ranOutAt: undefined,
      next: "read",
      question: "fetch",
      retry: undefined,
      answer: Exit.succeed("answered"),
      expiresBeforeProbe: false,
      hasFailed: false
    }
    this.#clients.push(client)
    this.#clock.now = epoch
    const state = confirmed(-this.#random.fraction() * 0.9 * cacheTtl)
    const found = yield* this.#takingOver(client, credentialOf(client, receivedAt), state)
    this.#change(client, { _tag: "Loaded", state, found, soleProviderId: provider.id, recheckAt: -Infinity })
    this.#queue.set(index, Math.max(0, this.#servedUntil(client) - epoch))
  })

  #takingOver({ cell }: Client, credential: Credential, state: CredentialState) {
    return takingOver(cell, { credential, state, provider, now: this.#clock.now, clockOffset: 0 })
  }

  #change({ cell }: Client, event: EntryEvent): void {
    cell.put(transition(cell.entry, event, this.#clock.now))
  }

  get #circumstances(): Circumstances {
    return { now: this.#clock.now, clockOffset: 0, maxStale }
  }

  /** Until when a read has nothing to do but to serve what is held. */
  #servedUntil({ cell }: Client): number {
    const decision = decide(cell.entry, this.#circumstances)
    return decision._tag === "Serve" ? decision.until : this.#clock.now
  }

  #step(client: Client, at: number): Effect.Effect<void> {
    switch (client.next) {
      case "read":
        return this.#read(client, at)
      case "send":
        return this.#send(client, at)
      case "take":
        return this.#take(client, at)
    }
  }

  /** The program asks for its token. See `Refresher.read`. */
  #read(client: Client, at: number): Effect.Effect<void> {
    const decision = decide(client.cell.entry, this.#circumstances)
    if (decision._tag === "Serve") return Effect.sync(() => this.#readAgain(client, at, decision.until))
    if (decision._tag !== "ServeAndAsk" && client.ranOutAt === undefined) {
      client.ranOutAt = client.expiresAt
      this.#outNow++
    }
    if (decision._tag === "Fail") return Effect.sync(() => this.#complain(client, at, decision.error))
    client.question = decision.question
    client.expiresBeforeProbe = expiresBeforeProbe(client.cell.entry, this.#circumstances)
    client.retry = undefined
    return this.#send(client, at)
  }

  /** One attempt. A circuit that knows of no failure lets it through, and has nothing to learn from an answer. */
  #send(client: Client, at: number): Effect.Effect<void> {
    if (client.hasFailed) return this.#sendGuarded(client, at)
    const answer = this.#received(client, at)
    this.#awaitAnswer(client, at, answer)
    return Exit.isSuccess(answer)
      ? Effect.void
      : Effect.asVoid(Effect.exit(this.#circuit.guard(client.cell.id, client.cell.id, answer)))
  }

  readonly #sendGuarded = Effect.fnUntraced(function*(this: Fleet, client: Client, at: number) {
    const { id } = client.cell
    let isSent = false
    const attempt = Effect.suspend(() => {
      isSent = true
      return this.#received(client, at)
    })
    const answer = yield* this.#circuit.guard(id, id, attempt).pipe(
      Effect.exit,
      Effect.provideService(BypassCircuit, client.expiresBeforeProbe)
    )
    if (isSent) return this.#awaitAnswer(client, at, answer)
    client.answer = answer
    yield* this.#take(client, at)
  })

  #awaitAnswer(client: Client, at: number, answer: AdenAnswer): void {
    client.answer = answer
    client.hasFailed = Exit.isFailure(answer)
    client.next = "take"
    this.#queue.set(client.index, at + latency.from + this.#random.fraction() * (latency.to - latency.from))
  }

  #received(client: Client, at: number): AdenAnswer {
    const index = Math.floor(at / bin)
    const answer = this.#aden.ask(at)
    count(this.#requests, index)
    if (client.question === "refresh") count(this.#renewals, index)
    if (Option.exists(Exit.findErrorOption(answer), (error) => error._tag === "RateLimited")) {
      count(this.#limited, index)
    }
    return answer
  }

  /** What came of an attempt. See `Commit.answer` and `Refresher.recordFailure`. */
  readonly #take = Effect.fnUntraced(function*(this: Fleet, client: Client, at: number) {
    const { answer, cell } = client
    const now = epoch + at
    if (Exit.isSuccess(answer)) {
      if (client.question === "refresh") this.#renewed(client, at)
      const credential = client.question === "refresh" ? credentialOf(client, at) : cell.entry.credential
      if (credential === undefined) return
      const taken = yield* this.#takingOver(client, credential, confirmed(at))
      cell.restart("backOff")
      this.#change(client, {
        _tag: "Answered",
        ...taken,
        generation: cell.entry.state.generation,
        order: 0,
        unwritable: undefined,
        isServable: true,
        retryAt: retryAfterAnswer(taken.dates.renewAt, credential, this.#circumstances),
        hasSiblings: false
      })
      return this.#readAgain(client, at, this.#servedUntil(client))
    }
    const error = Option.getOrUndefined(Exit.findErrorOption(answer))
    if (error === undefined) return
    const delay = yield* this.#retryDelay(client, now, error)
    if (delay !== undefined) {
      client.next = "send"
      return this.#queue.set(client.index, at + delay)
    }
    const retryAt = yield* retryAfterFailure(cell, error, this.#circumstances)
    this.#change(
      client,
      error._tag === "RateLimited"
        ? { _tag: "RateLimited", error, until: now + Duration.toMillis(error.retryAfter), retryAt }
        : { _tag: "Failed", error, retryAt }
    )
    if (isUsable(cell.entry, this.#circumstances)) this.#readAgain(client, at, this.#servedUntil(client))
    else this.#complain(client, at, error)
  })

  /** Aden gave the client another token. */
  #renewed(client: Client, at: number): void {
    if (at >= client.expiresAt) {
      if (client.ranOutAt === undefined) this.#note(client.expiresAt, at)
      else {
        this.#outNow--
        this.#note(client.ranOutAt, at)
        client.ranOutAt = undefined
      }
    }
    client.expiresAt = Math.round(at) + client.life
  }

  /** Ms until the next attempt of the same question; `undefined` after the last. */
  readonly #retryDelay = Effect.fnUntraced(function*(this: Fleet, client: Client, now: number, error: AdenFailure) {
    if (!retries.while(error)) return undefined
    client.retry ??= yield* Effect.map(
      Schedule.toStep(retries.schedule),
      (step) => (now: number, error: AdenFailure) =>
        step(now, error).pipe(
          Effect.map(([, delay]) => Duration.toMillis(delay)),
          Effect.catch(() => Effect.succeed(undefined))
        )
    )
    return yield* client.retry(now, error)
  })

  /** A program that follows its token reads it when it is no longer fresh: see `Follow`. */
  #readAgain(client: Client, at: number, freshUntil: number): void {
    client.next = "read"
    this.#queue.set(client.index, Math.max(at + second, freshUntil - epoch))
  }

  /** A program without a token asks again when the error says, or soon. */
  #complain(client: Client, at: number, error: CredentialFailure): void {
    const hint = "retryAfter" in error ? error.retryAfter : undefined
    const wait = hint === undefined ? impatience : Duration.toMillis(hint)
    client.next = "read"
    this.#queue.set(client.index, at + wait + this.#random.fraction() * impatience)
  }

  #note(at: number, until: number | undefined): void {
    this.#runOut.push({ at, until, adenUpFor: this.#aden.upFor(at) })
  }
}

const retries = retryPolicy(AdenClient.defaultRetry, Duration.seconds(10))

const zeros = (length: number): Array<number> => Array.from({ length }, () => 0)

const count = (series: Array<number>, index: number): void => {
  series[index] = (series[index] ?? 0) + 1
}

const provider: CredentialProvider = {
  id: "aden_sync",
  refreshBuffer: Duration.minutes(5),
  clockOffset: Effect.succeed(0),
  canHandle: () => true,
  refresh: () => Effect.die("not asked for"),
  validate: () => Effect.die("not asked for"),
  fetch: () => Effect.die("not asked for"),
  list: Effect.die("not asked for")
}

/** What the client has now. The token's value tells when it expires: two tokens differ. */
const credentialOf = ({ cell, expiresAt }: Client, receivedAt: number): Credential => {
  const expiry = epoch + Math.round(expiresAt)
  return new Credential({
    id: cell.id,
    type: "oauth2",
    keys: new Map([[
      "access_token",
      new CredentialKey({
        name: "access_token",
        value: Redacted.make(String(expiry)),
        expiresAt: DateTime.makeUnsafe(expiry)
      })
    ]]),
    providerId: provider.id,
    lastRefreshed: DateTime.makeUnsafe(epoch + Math.round(receivedAt)),
    autoRefresh: true,
    description: "",
    tags: []
  })
}

/** What Aden confirmed then, in ms since the start. */
const confirmed = (at: number): CredentialState =>
  new CredentialState({ generation: 0, lastConfirmed: DateTime.makeUnsafe(epoch + Math.round(at)) })

/** Virtual time does not yield to the event loop, which signals and the `disconnect` event need. */
const turnOfTheProcess = Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))

/** A clock that the loop sets. No fiber sleeps: later events are in the queue. */
class VirtualClock implements Clock.Clock {
  now = epoch

  currentTimeMillisUnsafe(): number {
    return this.now
  }

  currentTimeNanosUnsafe(): bigint {
    return BigInt(Math.floor(this.now * 1_000)) * 1_000n
  }

  monotonicTimeNanosUnsafe(): bigint {
    return this.currentTimeNanosUnsafe()
  }

  readonly currentTimeMillis = Effect.sync(() => this.now)
  readonly currentTimeNanos = Effect.sync(() => this.currentTimeNanosUnsafe())
  readonly monotonicTimeNanos = Effect.sync(() => this.monotonicTimeNanosUnsafe())

  sleep(): Effect.Effect<void> {
    return Effect.die("no fiber of a fleet sleeps")
  }
}
