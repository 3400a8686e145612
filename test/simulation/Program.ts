/**
 * What the simulator runs: a world and the steps taken in it, as plain data, drawn from one integer seed.
 */
import { Prng } from "./Prng.ts"

/** One of the stores that run: its tenant, and the storage it works on. A restart puts a new store into the same instance. */
export interface Instance {
  readonly tenant: string
  readonly storage: number
}

export interface IntegrationConfig {
  readonly id: string
  readonly provider: string
  readonly alias: string | undefined
  /** How long its tokens live, in ms; `undefined`: they do not expire. */
  readonly lifetime: number | undefined
  /** Which provider has it; the first unless stated. */
  readonly server?: Server | undefined
}

/** The providers of a store: the first is every store's, the second only of those where an integration names it. */
export type Server = 0 | 1

/** What programs of the wide profile have besides. */
export interface Wide {
  /** How long a write takes before it takes effect, and from then until it returns, in ms. */
  readonly writeTakes: readonly [before: number, after: number]
  /** How long a read from storage takes, in ms. */
  readonly readTakes: number
  /** How much longer it takes to list what it holds. */
  readonly listTakes: number
  /** Whether a storage tells each of its stores what the others write, as databases do and files do not. */
  readonly notifies: boolean
  /** The integrations whose credential stands in a second storage, behind the first, from the start. */
  readonly fallback: ReadonlyArray<string>
  /** Whether Aden ends a token when it issues the next one. */
  readonly endsOldTokens: boolean
  /** Whether the stores have policies of the program's own. */
  readonly hasOwnPolicies: boolean
}

/** All durations in ms. */
export interface Config {
  readonly instances: ReadonlyArray<Instance>
  /** What Aden has for every tenant at the start. */
  readonly integrations: ReadonlyArray<IntegrationConfig>
  /** Whether the stores on one storage share its lock, as fibers do and processes with one lock file will. */
  readonly hasSharedLock: boolean
  /** Whether Aden renews an expired token before it answers a `GET`. */
  readonly renewsOnGet: boolean
  /** How far Aden's clock is ahead. */
  readonly clockSkew: number
  /** How long an answer takes; 0: it is there at once. */
  readonly latency: number
  readonly autoRefresh: boolean
  readonly cacheTtl: number
  readonly deadline: number
  readonly maxStale: number
  readonly refreshBuffer: number
  readonly reportsUsage: boolean
  /** Only in programs of the wide profile. */
  readonly wide?: Wide | undefined
}

/** What goes wrong with a request. Whether Aden carries it out nevertheless is in the name: `Lost` and all from there on. */
export type FaultKind =
  | { readonly _tag: "Status"; readonly status: number; readonly isHtml: boolean }
  | { readonly _tag: "RateLimited"; readonly retryAfter: string | number | undefined; readonly inBody: boolean }
  | { readonly _tag: "RefreshFailed" }
  | { readonly _tag: "Ghost" }
  | { readonly _tag: "Hang" }
  | { readonly _tag: "Refused" }
  | { readonly _tag: "EmptyList" }
  | { readonly _tag: "OtherTenant" }
  | { readonly _tag: "OtherIntegration" }
  | { readonly _tag: "SameToken" }
  | { readonly _tag: "ExpiredToken" }
  | { readonly _tag: "ShortToken"; readonly lifetime: number }
  | { readonly _tag: "Lost" }
  | { readonly _tag: "Torn" }
  | { readonly _tag: "Malformed"; readonly variant: "text" | "no token" | "bad expiry" | "line break" }
  | { readonly _tag: "NoDate" }
  | { readonly _tag: "Slow"; readonly duration: number; readonly isComputedLate: boolean }

export type Endpoint = "get" | "refresh" | "validate" | "list"

export interface FaultRule {
  readonly endpoint: Endpoint | "any"
  /** The integration it is for; `undefined`: all. */
  readonly id: string | undefined
  /** Whose requests it spoils; `undefined`: those of all providers. */
  readonly server?: Server | undefined
  /** How many requests it spoils. */
  readonly times: number
  readonly kind: FaultKind
}

export type ReadMethod = "get" | "token" | "getKey" | "getOption"

/** How a storage fares: it works, it fails, or it does not answer until it works again. */
export type Health = "works" | "fails" | "hangs"

/** What dies of a defect, once. */
export type Mortal = "storage read" | "storage write" | "policy" | "provider"

/** A step that only programs of the wide profile take. `limit`: after how many ms the program gives up. */
export type WideStep =
  | {
    readonly _tag: "Lasting"
    readonly instance: number
    readonly ref: string
    readonly minTimeLeft: number
    readonly limit?: number | undefined
  }
  | { readonly _tag: "Follow"; readonly instance: number; readonly ref: string; readonly limit?: number | undefined }
  | { readonly _tag: "Require"; readonly instance: number; readonly refs: ReadonlyArray<string> }
  | { readonly _tag: "Await"; readonly instance: number; readonly ref: string; readonly timeout: number }
  /** A request to an API, by `CredentialHttpClient`. */
  | { readonly _tag: "Call"; readonly instance: number; readonly ref: string; readonly limit?: number | undefined }
  /** An API refuses the token that Aden has of now on. */
  | { readonly _tag: "End"; readonly tenant: string; readonly id: string }
  | { readonly _tag: "Storage"; readonly storage: number; readonly reads: Health; readonly writes: Health }
  | { readonly _tag: "Die"; readonly what: Mortal }
  /** The local clock is set; Aden's is not. */
  | { readonly _tag: "SetClock"; readonly by: number }
  | { readonly _tag: "Rename"; readonly tenant: string; readonly id: string; readonly alias: string }
  /** Removed, and connected again under another id. */
  | { readonly _tag: "Replace"; readonly tenant: string; readonly id: string; readonly by: string }
  /** The program saves an account of its own, with names that a ref may mean. */
  | {
    readonly _tag: "SaveAccount"
    readonly instance: number
    readonly id: string
    readonly provider: string
    readonly alias: string
    readonly limit?: number | undefined
  }

export type Step =
  | WideStep
  | {
    readonly _tag: "Read"
    readonly instance: number
    readonly reads: ReadonlyArray<{ readonly ref: string; readonly method: ReadMethod }>
    readonly limit?: number | undefined
  }
  | { readonly _tag: "Refresh"; readonly instance: number; readonly ref: string; readonly limit?: number | undefined }
  | { readonly _tag: "Validate"; readonly instance: number; readonly ref: string }
  | { readonly _tag: "Explain"; readonly instance: number; readonly ref: string }
  | { readonly _tag: "Invalidate"; readonly instance: number; readonly id: string }
  | {
    readonly _tag: "Save"
    readonly instance: number
    readonly id: string
    readonly lifetime: number | undefined
    readonly isApiKey: boolean
    readonly limit?: number | undefined
  }
  | { readonly _tag: "Delete"; readonly instance: number; readonly id: string; readonly limit?: number | undefined }
  | { readonly _tag: "Sync"; readonly instance: number; readonly limit?: number | undefined }
  | { readonly _tag: "Interrupt"; readonly share: number; readonly salt: number }
  | { readonly _tag: "Advance"; readonly duration: number }
  /** The machine sleeps: the time of day goes on, timers do not. */
  | { readonly _tag: "Suspend"; readonly duration: number }
  | { readonly _tag: "Restart"; readonly instance: number }
  | { readonly _tag: "Fault"; readonly rule: FaultRule }
  | { readonly _tag: "Heal" }
  | { readonly _tag: "Revoke"; readonly tenant: string; readonly id: string }
  | { readonly _tag: "Connect"; readonly tenant: string; readonly id: string }
  | { readonly _tag: "Remove"; readonly tenant: string; readonly id: string }
  | {
    readonly _tag: "Lifetime"
    readonly tenant: string
    readonly id: string
    readonly lifetime: number | undefined
  }
  | { readonly _tag: "ClockSkew"; readonly duration: number }

export interface Program {
  readonly seed: number
  readonly config: Config
  readonly steps: ReadonlyArray<Step>
}

const second = 1_000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour

/** Ids that are not a provider's name, an id that is one, an id with a colon, and two accounts of one provider. */
const catalogue: readonly [IntegrationConfig, ...Array<IntegrationConfig>] = [
  { id: "hubspot", provider: "hubspot", alias: undefined, lifetime: hour },
  { id: "gmail-1", provider: "google", alias: "Timothy", lifetime: hour },
  { id: "gmail-2", provider: "google", alias: "Ada", lifetime: 10 * minute },
  { id: "github", provider: "github", alias: undefined, lifetime: undefined },
  { id: "slack:ops", provider: "slack", alias: "ops", lifetime: 12 * hour }
]

/** For how long at a time a storage fails at most. */
const longestFailure = 130 * minute

const lifetimes: readonly [number | undefined, ...Array<number | undefined>] = [
  hour,
  hour,
  undefined,
  10 * minute,
  2 * minute,
  20 * second,
  2 * second
]

/** Which programs are drawn. */
export type Profile = "ordinary" | "wide"

/** The program of a seed: always the same one. */
export const generate = (seed: number, profile: Profile = "ordinary"): Program => {
  const random = new Prng(seed)
  const config = drawConfig(random.split())
  if (profile === "ordinary") return { seed, config, steps: drawSteps(random.split(), config) }
  const wide = drawWideConfig(random.split(), config)
  return { seed, config: wide, steps: drawWideSteps(random.split(), wide) }
}

const drawConfig = (random: Prng): Config => {
  const instances: Array<Instance> = [{ tenant: "acme", storage: 0 }]
  if (random.chance(0.35)) instances.push({ tenant: "acme", storage: 0 })
  if (random.chance(0.25)) instances.push({ tenant: "globex", storage: 1 })
  const count = random.weighted([[3, 1], [3, 2], [1, 3], [1, 5]])
  const first = random.below(catalogue.length)
  const integrations = Array.from({ length: count }, (_, i) => {
    const integration = catalogue[(first + i) % catalogue.length] ?? catalogue[0]
    return random.chance(0.5) ? integration : { ...integration, lifetime: random.pick(lifetimes) }
  })
  return {
    instances,
    integrations,
    hasSharedLock: random.chance(0.5),
    renewsOnGet: random.chance(0.8),
    clockSkew: random.chance(0.6) ? 0 : random.pick([-20 * minute, -4 * minute, -3 * second, minute, 4 * minute]),
    latency: random.weighted([[1, 0], [6, 40], [2, 1_500], [1, 7_000]]),
    autoRefresh: random.chance(0.9),
    cacheTtl: random.weighted([[5, 5 * minute], [1, 30 * second], [1, hour]]),
    deadline: random.weighted([[4, 30 * second], [1, 5 * second]]),
    maxStale: random.weighted([[3, day], [1, 2 * hour]]),
    refreshBuffer: random.weighted([[4, 5 * minute], [1, minute]]),
    reportsUsage: random.chance(0.1)
  }
}

const drawSteps = (random: Prng, config: Config): ReadonlyArray<Step> => {
  const ids = config.integrations.map(({ id }) => id)
  const anId = () => ids[random.below(ids.length)] ?? "hubspot"
  const anInstance = () => random.below(config.instances.length)
  const aTenant = () => config.instances[anInstance()]?.tenant ?? "acme"
  // Mostly one credential, so that things happen to it at the same time.
  const favourite = anId()
  const theId = () => random.chance(0.7) ? favourite : anId()
  const aRef = () => random.weighted([[10, theId()], [1, refOf(random, config)], [0.5, "nothing"]])

  const read = (): Step => {
    const count = random.weighted([[6, 1], [2, 2], [2, 5], [1, 20]])
    return {
      _tag: "Read",
      instance: anInstance(),
      reads: Array.from({ length: count }, () => ({
        ref: aRef(),
        method: random.weighted<ReadMethod>([[6, "token"], [3, "get"], [1, "getKey"], [1, "getOption"]])
      }))
    }
  }
  const step = (): Step =>
    random.weighted<() => Step>([
      [30, read],
      [25, () => ({ _tag: "Advance", duration: drawAdvance(random) })],
      [4, () => ({ _tag: "Refresh", instance: anInstance(), ref: aRef() })],
      [2, () => ({ _tag: "Validate", instance: anInstance(), ref: aRef() })],
      [1, () => ({ _tag: "Explain", instance: anInstance(), ref: aRef() })],
      [3, () => ({ _tag: "Invalidate", instance: anInstance(), id: theId() })],
      [
        1,
        () => ({
          _tag: "Save",
          instance: anInstance(),
          id: random.chance(0.5) ? theId() : "brave",
          lifetime: random.chance(0.5) ? undefined : random.pick([minute, hour]),
          isApiKey: random.chance(0.5)
        })
      ],
      [1, () => ({ _tag: "Delete", instance: anInstance(), id: random.chance(0.8) ? theId() : "brave" })],
      [3, () => ({ _tag: "Sync", instance: anInstance() })],
      [
        2,
        () => ({ _tag: "Interrupt", share: random.weighted([[1, 1], [1, 0.5], [1, 0.1]]), salt: random.below(1_000) })
      ],
      [1, () => ({ _tag: "Suspend", duration: drawAdvance(random) })],
      [2, () => ({ _tag: "Restart", instance: anInstance() })],
      [10, () => ({ _tag: "Fault", rule: drawRule(random, theId) })],
      [4, () => ({ _tag: "Heal" })],
      [3, () => ({ _tag: "Revoke", tenant: aTenant(), id: theId() })],
      [3, () => ({ _tag: "Connect", tenant: aTenant(), id: theId() })],
      [1, () => ({ _tag: "Remove", tenant: aTenant(), id: theId() })],
      [1, () => ({ _tag: "Lifetime", tenant: aTenant(), id: theId(), lifetime: random.pick(lifetimes) })],
      [1, () => ({ _tag: "ClockSkew", duration: random.pick([0, 0, -3 * minute, 2 * minute, 10 * minute]) })]
    ])()

  // Most programs begin with a token in memory.
  const steps: Array<Step> = random.chance(0.7)
    ? [
      { _tag: "Read", instance: 0, reads: [{ ref: favourite, method: "token" }] },
      { _tag: "Advance", duration: 10 * second }
    ]
    : []
  const count = random.between(4, 32)
  for (let i = 0; i < count; i++) steps.push(step())
  return steps
}

const refOf = (random: Prng, config: Config): string => {
  const { alias, provider } = config.integrations[random.below(config.integrations.length)] ?? catalogue[0]
  return alias === undefined || random.chance(0.5) ? provider : `${provider}:${alias}`
}

/** Around the times that matter: a round trip, a retry, a back-off, a re-check, the cache, an expiry, a day. */
const drawAdvance = (random: Prng): number =>
  random.weighted([
    [4, random.between(1, 200)],
    [4, random.between(200, 4_000)],
    [3, random.between(4_000, 35_000)],
    [2, random.between(30 * second, 4 * minute)],
    [2, random.between(4 * minute, 12 * minute)],
    [3, random.between(50 * minute, 65 * minute)],
    [1, random.between(hour, 23 * hour)],
    [1, random.between(23 * hour, 3 * day)]
  ])

const drawRule = (random: Prng, id: () => string): FaultRule => ({
  endpoint: random.weighted<FaultRule["endpoint"]>([[5, "any"], [3, "refresh"], [2, "get"], [1, "validate"], [
    2,
    "list"
  ]]),
  id: random.chance(0.6) ? undefined : id(),
  times: random.weighted([[3, 1], [1, 3], [3, 1_000]]),
  kind: drawFault(random)
})

const drawFault = (random: Prng): FaultKind =>
  random.weighted<() => FaultKind>([
    [5, () => ({ _tag: "Status", status: random.pick([500, 502, 503, 504, 408]), isHtml: random.chance(0.5) })],
    [2, () => ({ _tag: "Status", status: random.pick([401, 403]), isHtml: random.chance(0.3) })],
    [1, () => ({ _tag: "Status", status: random.pick([400, 404, 409, 422]), isHtml: random.chance(0.5) })],
    [
      4,
      () => ({
        _tag: "RateLimited",
        retryAfter: random.pick<string | number | undefined>([5, 20, 120, 1_800, undefined, "soon", "date", -3]),
        inBody: random.chance(0.3)
      })
    ],
    [2, () => ({ _tag: "RefreshFailed" })],
    [1, () => ({ _tag: "Ghost" })],
    [2, () => ({ _tag: "Hang" })],
    [2, () => ({ _tag: "Refused" })],
    [1, () => ({ _tag: "EmptyList" })],
    [0.5, () => ({ _tag: "OtherTenant" })],
    [1, () => ({ _tag: "OtherIntegration" })],
    [1, () => ({ _tag: "SameToken" })],
    [1, () => ({ _tag: "ExpiredToken" })],
    [1, () => ({ _tag: "ShortToken", lifetime: random.pick([500, 3 * second, minute]) })],
    [1, () => ({ _tag: "Lost" })],
    [0.5, () => ({ _tag: "Torn" })],
    [1, () => ({ _tag: "Malformed", variant: random.pick(["text", "no token", "bad expiry", "line break"]) })],
    [0.5, () => ({ _tag: "NoDate" })],
    [
      5,
      () => ({
        _tag: "Slow",
        duration: random.pick([2 * second, 8 * second, 25 * second]),
        isComputedLate: random.chance(0.3)
      })
    ]
  ])()

// ---------------------------------------------------------------------------------------------------------------------
// The wide profile
// ---------------------------------------------------------------------------------------------------------------------

/** Two accounts of one provider, one with an alias, and one of the second provider. */
const wideCatalogue: ReadonlyArray<IntegrationConfig> = [
  { id: "gmail-1", provider: "google", alias: "Timothy", lifetime: hour },
  { id: "gmail-2", provider: "google", alias: "Ada", lifetime: hour },
  { id: "hub-1", provider: "hubspot", alias: "eu", lifetime: hour },
  { id: "github", provider: "github", alias: undefined, lifetime: undefined },
  { id: "jira-1", provider: "jira", alias: undefined, lifetime: hour, server: 1 }
]

const drawWideConfig = (random: Prng, config: Config): Config => {
  const storages = random.weighted([[4, [0]], [4, [0, 0]], [1, [0, 0, 0, 0]], [1, [0, 1]]])
  const first = random.below(wideCatalogue.length)
  const count = random.weighted([[2, 1], [3, 2], [1, 3], [1, 5]])
  const integrations = wideCatalogue.filter((_, index) =>
    (index - first + wideCatalogue.length) % wideCatalogue.length < count
  ).map((one) => random.chance(0.7) ? one : { ...one, lifetime: random.pick(lifetimes) })
  return {
    ...config,
    instances: storages.map((storage) => ({ tenant: storage === 0 ? "acme" : "globex", storage })),
    integrations,
    latency: random.weighted([[1, 0], [8, 40], [1, 1_500]]),
    clockSkew: random.chance(0.8) ? 0 : config.clockSkew,
    reportsUsage: false,
    wide: {
      writeTakes: [random.pick([0, 0, 20, 400]), random.pick([0, 20, 400])],
      readTakes: random.pick([0, 0, 0, 20, 400]),
      listTakes: random.pick([0, 0, 20, 2_000]),
      notifies: random.chance(0.5),
      fallback: integrations.map(({ id }) => id).filter(() => random.chance(0.1)),
      endsOldTokens: random.chance(0.5),
      hasOwnPolicies: random.chance(0.2)
    }
  }
}

const drawWideSteps = (random: Prng, config: Config): ReadonlyArray<Step> => {
  const one = () => config.integrations[random.below(config.integrations.length)] ?? catalogue[0]
  const favourite = one()
  const it = () => random.chance(0.6) ? favourite : one()
  const anId = () => it().id
  const nameOf = ({ alias, provider }: IntegrationConfig) =>
    alias === undefined || random.chance(0.5) ? provider : `${provider}:${alias}`
  const aRef = () => random.weighted([[6, anId()], [5, nameOf(it())], [1, "nothing"], [1, "brave:home"]])
  const anInstance = () => random.below(config.instances.length)
  const aTenant = () => config.instances[anInstance()]?.tenant ?? "acme"
  const aStorage = () => config.instances[anInstance()]?.storage ?? 0
  const limit = () => random.chance(0.3) ? random.pick([1, 10, 50, 200, 500, 2_000]) : undefined
  const method = () => random.weighted<ReadMethod>([[6, "token"], [3, "get"], [1, "getOption"]])
  const advance = () => random.chance(0.5) ? random.between(1, 1_000) : drawAdvance(random)
  const step = (): Step =>
    random.weighted<() => Step>([
      [28, () => ({
        _tag: "Read",
        instance: anInstance(),
        reads: Array.from({ length: random.weighted([[6, 1], [2, 2]]) }, () => ({ ref: aRef(), method: method() })),
        limit: limit()
      })],
      [24, () => ({ _tag: "Advance", duration: advance() })],
      [4, () => ({ _tag: "Refresh", instance: anInstance(), ref: aRef(), limit: limit() })],
      [1, () => ({ _tag: "Validate", instance: anInstance(), ref: aRef() })],
      [1, () => ({ _tag: "Explain", instance: anInstance(), ref: aRef() })],
      [2, () => ({ _tag: "Invalidate", instance: anInstance(), id: anId() })],
      [2, () => ({
        _tag: "Save",
        instance: anInstance(),
        id: random.chance(0.3) ? anId() : "brave",
        lifetime: random.chance(0.5) ? undefined : hour,
        isApiKey: random.chance(0.5),
        limit: limit()
      })],
      [3, () => ({
        _tag: "SaveAccount",
        instance: anInstance(),
        id: random.pick(["own-1", "own-2"]),
        provider: random.chance(0.5) ? it().provider : "brave",
        alias: random.pick(["home", "work"]),
        limit: limit()
      })],
      [3, () => ({
        _tag: "Delete",
        instance: anInstance(),
        id: random.chance(0.6) ? anId() : random.pick(["brave", "own-1", "own-2"]),
        limit: limit()
      })],
      [3, () => ({ _tag: "Sync", instance: anInstance(), limit: limit() })],
      [2, () => ({ _tag: "Interrupt", share: random.pick([1, 0.5]), salt: random.below(1_000) })],
      [1, () => ({ _tag: "Suspend", duration: drawAdvance(random) })],
      [1, () => ({ _tag: "Restart", instance: anInstance() })],
      [6, () => ({
        _tag: "Fault",
        rule: { ...drawRule(random, anId), server: random.pick([undefined, 0, 1]) }
      })],
      [6, () => ({ _tag: "Heal" })],
      [3, () => ({ _tag: "Revoke", tenant: aTenant(), id: anId() })],
      [2, () => ({ _tag: "Connect", tenant: aTenant(), id: anId() })],
      [2, () => ({ _tag: "Remove", tenant: aTenant(), id: anId() })],
      [4, () => ({
        _tag: "Lasting",
        instance: anInstance(),
        ref: aRef(),
        minTimeLeft: random.pick([minute, 20 * minute, 50 * minute]),
        limit: limit()
      })],
      [1, () => ({ _tag: "Follow", instance: anInstance(), ref: aRef(), limit: random.pick([minute, hour]) })],
      [1, () => ({ _tag: "Require", instance: anInstance(), refs: [aRef(), aRef()] })],
      [
        2,
        () => ({ _tag: "Await", instance: anInstance(), ref: aRef(), timeout: random.pick([20 * second, 10 * minute]) })
      ],
      [6, () => ({ _tag: "Call", instance: anInstance(), ref: aRef(), limit: limit() })],
      [3, () => ({ _tag: "End", tenant: aTenant(), id: anId() })],
      [7, () => ({
        _tag: "Storage",
        storage: aStorage(),
        ...random.weighted<{ readonly reads: Health; readonly writes: Health }>([
          [6, { reads: "works", writes: "works" }],
          [2, { reads: "fails", writes: "works" }],
          [2, { reads: "works", writes: "fails" }],
          [2, { reads: "fails", writes: "fails" }],
          [1, { reads: "hangs", writes: "hangs" }],
          [1, { reads: "hangs", writes: "works" }],
          [1, { reads: "works", writes: "hangs" }]
        ])
      })],
      [3, () => ({
        _tag: "Die",
        what: random.pick<Mortal>(["storage read", "storage read", "storage write", "policy", "provider"])
      })],
      [1, () => ({ _tag: "SetClock", by: random.pick([-6 * hour, -10 * minute, -5 * second, 10 * minute]) })],
      [2, () => ({ _tag: "Rename", tenant: aTenant(), id: anId(), alias: random.pick(["Timothy", "Ada", "eu"]) })],
      [1, () => {
        const { id } = it()
        return { _tag: "Replace", tenant: aTenant(), id, by: `${id}-new` }
      }]
    ])()
  const steps: Array<Step> = random.chance(0.85)
    ? [
      { _tag: "Read", instance: 0, reads: [{ ref: favourite.id, method: "token" }] },
      { _tag: "Advance", duration: 10 * second }
    ]
    : []
  const count = random.between(4, 28)
  for (let i = 0; i < count; i++) {
    if (random.chance(0.06)) steps.push(...drawScene(random, config))
    else steps.push(step())
  }
  return withShortFailures(steps)
}

/**
 * While a storage fails, its stores try each second what it did not take: a program in which it fails for days would take as long as
 * thousands of others, and nothing more would happen in it after the longest `maxStale` of a few hours.
 */
const withShortFailures = (steps: ReadonlyArray<Step>): ReadonlyArray<Step> => {
  const failing = new Set<number>()
  return steps.map((step) => {
    if (step._tag === "Storage") {
      if (step.reads === "works" && step.writes === "works") failing.delete(step.storage)
      else failing.add(step.storage)
    }
    return step._tag === "Advance" && failing.size > 0
      ? { ...step, duration: Math.min(step.duration, longestFailure) }
      : step
  })
}

/** Some steps in a row, of which each matters because of the ones before it: drawn one by one they seldom come together. */
const drawScene = (random: Prng, config: Config): ReadonlyArray<Step> => {
  const instance = random.below(config.instances.length)
  const { storage, tenant } = config.instances[instance] ?? { storage: 0, tenant: "acme" }
  const one = config.integrations[random.below(config.integrations.length)] ?? catalogue[0]
  const { id } = one
  const name = one.alias === undefined || random.chance(0.5) ? one.provider : `${one.provider}:${one.alias}`
  const read = (ref: string): Step => ({ _tag: "Read", instance, reads: [{ ref, method: "token" }] })
  const pass = (least: number, most: number): Step => ({ _tag: "Advance", duration: random.between(least, most) })
  const outage = (server: Server | undefined): Step => ({
    _tag: "Fault",
    rule: { endpoint: "any", id: undefined, server, times: 1_000, kind: { _tag: "Status", status: 503, isHtml: false } }
  })
  const health = (reads: Health, writes: Health): Step => ({ _tag: "Storage", storage, reads, writes })
  const own = random.pick(["own-1", "own-2"])
  const save = (saved: string, limit?: number): Step => ({
    _tag: "SaveAccount",
    instance: random.below(config.instances.length),
    id: saved,
    provider: "brave",
    alias: saved === "own-1" ? "home" : "work",
    limit
  })
  return random.pick<() => ReadonlyArray<Step>>([
    // a change is given up, and what came of it is read
    () => {
      const [before, after] = config.wide?.writeTakes ?? [0, 0]
      const limit = random.chance(0.7) ? before + random.between(1, after + 1) : random.pick([1, 10, 50, 200, 500])
      const change = random.pick<Step>([
        { _tag: "Save", instance, id, lifetime: undefined, isApiKey: false, limit },
        { _tag: "Delete", instance, id, limit },
        { _tag: "Refresh", instance, ref: id, limit },
        { _tag: "Sync", instance, limit }
      ])
      return [read(id), pass(10 * second, 20 * second), change, pass(6 * second, 20 * second), read(id)]
    },
    // an account comes or goes while its name is looked for
    () => [
      save(own),
      pass(31 * second, minute),
      read("brave"),
      pass(1, 1_500),
      random.chance(0.7) ? save(own === "own-1" ? "own-2" : "own-1") : { _tag: "Delete", instance, id: own },
      pass(31 * second, 6 * minute),
      read("brave"),
      pass(10 * second, minute),
      read("brave")
    ],
    // a known name is read from a storage that fails, after something else has changed
    () => [
      read(name),
      pass(10 * second, 20 * second),
      random.chance(0.5) ? save(own) : { _tag: "Delete", instance, id: own },
      pass(second, 10 * second),
      random.chance(0.5) ? health("fails", "fails") : health("hangs", "hangs"),
      read(name)
    ],
    // one provider is down, or both are
    () => [
      { _tag: "Heal" },
      pass(5 * minute, 6 * minute),
      outage(random.pick([0, 1, undefined])),
      read(id),
      read(name)
    ],
    // the clock is set while Aden is down
    () => [
      outage(undefined),
      { _tag: "Refresh", instance, ref: id },
      pass(10 * second, 20 * second),
      { _tag: "Refresh", instance, ref: id },
      { _tag: "Invalidate", instance, id },
      pass(10 * second, 20 * second),
      { _tag: "SetClock", by: random.pick([-6 * hour, -10 * minute, 10 * minute]) },
      { _tag: "Heal" },
      health("works", "works"),
      pass(3 * minute, 9 * minute),
      read(id)
    ],
    // an integration goes, and perhaps comes again under another id or name
    () => [
      { _tag: "Heal" },
      read(name),
      pass(10 * second, minute),
      random.pick<Step>([
        { _tag: "Remove", tenant, id },
        { _tag: "Replace", tenant, id, by: `${id}-new` },
        { _tag: "Rename", tenant, id, alias: random.pick(["Timothy", "Ada", "eu"]) }
      ]),
      pass(second, 6 * minute),
      { _tag: "Invalidate", instance, id },
      read(random.pick([name, id])),
      pass(10 * second, minute),
      read(random.pick([name, id]))
    ],
    // a name goes from one account to another, or means one of two
    () => {
      const other = config.integrations.find(({ id: others, provider }) =>
        provider === one.provider && others !== id
      ) ??
        one
      const rename = (renamed: string, alias: string): Step => ({ _tag: "Rename", tenant, id: renamed, alias })
      const moves: ReadonlyArray<Step> = random.chance(0.5)
        ? [rename(other.id, "eu"), rename(id, other.alias ?? "Ada"), pass(6 * minute, 7 * minute), read(id)]
        : []
      const ref = moves.length === 0 ? one.provider : `${one.provider}:${other.alias ?? "Ada"}`
      return [
        { _tag: "Heal" },
        health("works", "works"),
        read(id),
        ...moves.length === 0 ? [] : [read(other.id)],
        pass(10 * second, 20 * second),
        ...moves,
        pass(10 * second, 20 * second),
        read(ref),
        pass(10 * minute, 11 * minute),
        read(ref),
        pass(10 * minute, 11 * minute),
        read(ref)
      ]
    },
    // storage takes the token of a renewal only later, or dies of it
    () => [
      health("works", "fails"),
      { _tag: "Refresh", instance, ref: id },
      pass(200, 800),
      ...random.chance(0.5) ? [{ _tag: "Die", what: "storage write" } as const] : [],
      pass(2 * second, 4 * second),
      health("works", "works"),
      pass(10 * second, minute),
      read(id)
    ],
    // a provider dies of a question that a read asks in the background
    () => [
      { _tag: "Heal" },
      read(id),
      pass(config.cacheTtl, config.cacheTtl + minute),
      { _tag: "Die", what: "provider" },
      read(id),
      pass(50, 400),
      read(id),
      pass(50, 400),
      read(id)
    ],
    // something dies, and then another process, or a read, brings something new
    () => [
      { _tag: "Die", what: random.pick<Mortal>(["storage read", "storage write", "provider"]) },
      random.pick<Step>([
        { _tag: "Save", instance: random.below(config.instances.length), id, lifetime: hour, isApiKey: false },
        { _tag: "Refresh", instance: random.below(config.instances.length), ref: id },
        read(id)
      ]),
      pass(10 * second, 20 * second),
      { _tag: "Refresh", instance: random.below(config.instances.length), ref: id },
      pass(10 * second, 20 * second),
      read(id)
    ],
    // what is learnt while storage fails still holds when it works again
    () => [
      random.pick([health("fails", "fails"), health("works", "fails"), health("hangs", "hangs")]),
      random.chance(0.7) ? { _tag: "Revoke", tenant, id } : { _tag: "Remove", tenant, id },
      { _tag: "Validate", instance, ref: id },
      pass(5 * second, 20 * second),
      health("works", "works"),
      pass(6 * second, 20 * second),
      random.chance(0.5) ? { _tag: "Restart", instance } : pass(4 * minute, 6 * minute),
      read(id)
    ]
  ])()
}

/** A step in one line. */
export const describe = ({ _tag, ...step }: Step): string => `${_tag} ${JSON.stringify(step)}`
