/**
 * Small programs of the wide profile, each with what must hold in it. A known failure breaks its rule in the store as it is now;
 * once it does not, kept.test.ts fails, and the program is moved to those that hold.
 */
import type { Config, IntegrationConfig, Program, Server, Step, Wide } from "./Program.ts"

const second = 1_000
const minute = 60 * second
const hour = 60 * minute

export interface Kept {
  /** What must hold. */
  readonly name: string
  /** The rule that is broken, or was once. */
  readonly rule: string
  readonly program: Program
}

const wide: Wide = {
  writeTakes: [0, 0],
  readTakes: 0,
  listTakes: 0,
  notifies: true,
  fallback: [],
  endsOldTokens: false,
  hasOwnPolicies: false
}

const gmail: IntegrationConfig = { id: "gmail-1", provider: "google", alias: "Timothy", lifetime: hour }
const gmail2: IntegrationConfig = { id: "gmail-2", provider: "google", alias: "Ada", lifetime: hour }
const jira: IntegrationConfig = { id: "jira-1", provider: "jira", alias: undefined, lifetime: hour, server: 1 }

const config: Config = {
  instances: [{ tenant: "acme", storage: 0 }],
  integrations: [gmail],
  hasSharedLock: true,
  renewsOnGet: true,
  clockSkew: 0,
  latency: 40,
  autoRefresh: true,
  cacheTtl: 5 * minute,
  deadline: 30 * second,
  maxStale: 24 * hour,
  refreshBuffer: 5 * minute,
  reportsUsage: false,
  wide
}

/** One of the ordinary profile. */
const { wide: _, ...ordinary } = config

/** A store over a storage whose writes return 400 ms after they took effect. */
const slow: Config = { ...config, wide: { ...wide, writeTakes: [0, 400] } }

/** Several stores over one storage without notifications, as processes over one directory. */
const processes = (count: number): Config => ({
  ...config,
  instances: Array.from({ length: count }, () => ({ tenant: "acme", storage: 0 })),
  wide: { ...wide, notifies: false, endsOldTokens: true }
})

const read = (ref: string, instance = 0): Step => ({ _tag: "Read", instance, reads: [{ ref, method: "token" }] })
const pass = (duration: number): Step => ({ _tag: "Advance", duration })
const storage = (reads: "works" | "fails" | "hangs", writes: "works" | "fails" | "hangs"): Step => ({
  _tag: "Storage",
  storage: 0,
  reads,
  writes
})
const down = (server: Server | undefined): Step => ({
  _tag: "Fault",
  rule: { endpoint: "any", id: undefined, server, times: 1_000, kind: { _tag: "Status", status: 503, isHtml: false } }
})
const slowAden = (times: number, duration: number, isComputedLate: boolean): Step => ({
  _tag: "Fault",
  rule: { endpoint: "any", id: undefined, times, kind: { _tag: "Slow", duration, isComputedLate } }
})
const limited = (duration: number): Step => ({
  _tag: "Fault",
  rule: {
    endpoint: "any",
    id: undefined,
    times: 1,
    kind: { _tag: "RateLimited", retryAfter: duration / second, inBody: false }
  }
})
const started: ReadonlyArray<Step> = [read("gmail-1"), pass(10 * second)]
const program = (config: Config, ...steps: ReadonlyArray<Step>): Program => ({ seed: 1, config, steps })

/** Programs that broke a rule once. */
export const holding: ReadonlyArray<Kept> = [
  {
    name: "a refresh that is interrupted after it was stored, and before it returned, is in memory",
    rule: "memory equals storage",
    program: program(
      slow,
      ...started,
      { _tag: "Refresh", instance: 0, ref: "gmail-1", limit: 200 },
      pass(10 * second),
      read("gmail-1")
    )
  },
  {
    name: "a save that is interrupted after it was stored, and before it returned, is in memory",
    rule: "memory equals storage",
    program: program(
      slow,
      ...started,
      { _tag: "Save", instance: 0, id: "gmail-1", lifetime: undefined, isApiKey: false, limit: 200 },
      pass(10 * second),
      read("gmail-1")
    )
  },
  {
    name:
      "a deletion that is interrupted after it took effect, and before it returned, is in memory: the token is not served",
    rule: "memory equals storage",
    program: program(
      slow,
      ...started,
      { _tag: "Delete", instance: 0, id: "gmail-1", limit: 200 },
      pass(10 * second),
      read("gmail-1")
    )
  },
  {
    name: "a sync that is interrupted after it was stored, and before it returned, is in memory",
    rule: "memory equals storage",
    program: program(
      slow,
      ...started,
      { _tag: "Revoke", tenant: "acme", id: "gmail-1" },
      { _tag: "Connect", tenant: "acme", id: "gmail-1" },
      { _tag: "Sync", instance: 0, limit: 200 },
      pass(10 * second),
      read("gmail-1")
    )
  },
  {
    name: "a refused call uses the token that another process has stored since, and renews none",
    rule: "the loser of a renewal uses what it finds in storage",
    program: program(
      processes(2),
      read("gmail-1"),
      pass(10 * second),
      read("gmail-1", 1),
      pass(10 * second),
      { _tag: "End", tenant: "acme", id: "gmail-1" },
      { _tag: "Call", instance: 0, ref: "gmail-1" },
      pass(10 * second),
      { _tag: "Call", instance: 1, ref: "gmail-1" },
      pass(10 * second)
    )
  },
  {
    name: "a token that is to last is renewed once for all processes that ask at the same time",
    rule: "a token that is to last is renewed once for all who ask at the same time",
    program: program(
      { ...processes(2), refreshBuffer: minute },
      read("gmail-1"),
      pass(10 * second),
      read("gmail-1", 1),
      pass(50 * minute),
      { _tag: "Lasting", instance: 0, ref: "gmail-1", minTimeLeft: 20 * minute },
      { _tag: "Lasting", instance: 1, ref: "gmail-1", minTimeLeft: 20 * minute },
      pass(10 * second)
    )
  },
  {
    name: "a name that is known is served from memory while storage fails, whatever else was stored before",
    rule: "a storage that fails delays no read of what is in memory",
    program: program(
      config,
      read("google"),
      pass(10 * second),
      { _tag: "Save", instance: 0, id: "brave", lifetime: undefined, isApiKey: true },
      pass(second),
      { _tag: "Delete", instance: 0, id: "brave" },
      pass(second),
      storage("fails", "fails"),
      down(undefined),
      read("google"),
      pass(31 * second)
    )
  },
  {
    name: "a name that is known is served from memory while storage hangs, whatever else was asked for before",
    rule: "a storage that fails delays no read of what is in memory",
    program: program(
      config,
      read("google"),
      pass(40 * second),
      read("nothing"),
      pass(10 * second),
      storage("hangs", "hangs"),
      read("google"),
      pass(31 * second)
    )
  },
  {
    name: "a second account that is saved while the index is read is in the index",
    rule: "never a silent pick",
    program: program(
      { ...config, wide: { ...wide, listTakes: 2_000 } },
      { _tag: "SaveAccount", instance: 0, id: "own-1", provider: "brave", alias: "home" },
      pass(10 * second),
      read("brave"),
      pass(1_000),
      { _tag: "SaveAccount", instance: 0, id: "own-2", provider: "brave", alias: "work" },
      pass(20 * second),
      read("brave"),
      pass(10 * second)
    )
  },
  {
    name: "a second account that another process saves makes a name ambiguous at once where storage tells of it",
    rule: "never a silent pick",
    program: program(
      { ...config, instances: [{ tenant: "acme", storage: 0 }, { tenant: "acme", storage: 0 }] },
      { _tag: "SaveAccount", instance: 1, id: "own-1", provider: "brave", alias: "home" },
      pass(10 * second),
      read("brave"),
      pass(10 * second),
      { _tag: "SaveAccount", instance: 1, id: "own-2", provider: "brave", alias: "work" },
      pass(10 * second),
      read("brave"),
      pass(10 * second)
    )
  },
  {
    name: "what a name is known to mean is still known when an account of another name goes while storage fails",
    rule: "a known name stays known",
    program: program(
      config,
      read("google"),
      pass(10 * second),
      { _tag: "SaveAccount", instance: 0, id: "own-1", provider: "brave", alias: "home" },
      pass(40 * second),
      read("brave"),
      pass(10 * second),
      { _tag: "Delete", instance: 0, id: "own-1" },
      pass(10 * second),
      storage("fails", "fails"),
      down(undefined),
      read("google"),
      pass(31 * second)
    )
  },
  {
    name: "an account of the program's own that is saved while the index is read is found",
    rule: "what is stored is found",
    program: program(
      { ...config, wide: { ...wide, listTakes: 2_000 } },
      ...started,
      pass(40 * second),
      read("brave"),
      pass(1_000),
      { _tag: "SaveAccount", instance: 0, id: "own-1", provider: "brave", alias: "home" },
      pass(10 * second),
      read("brave"),
      pass(10 * second)
    )
  },
  {
    name: "an account that is deleted while the index is read is not in the index",
    rule: "ambiguous only where two accounts fit",
    program: program(
      { ...config, wide: { ...wide, readTakes: 400 } },
      { _tag: "SaveAccount", instance: 0, id: "own-1", provider: "brave", alias: "home" },
      { _tag: "SaveAccount", instance: 0, id: "own-2", provider: "brave", alias: "work" },
      pass(40 * second),
      read("brave"),
      pass(1_900),
      { _tag: "Delete", instance: 0, id: "own-2" },
      pass(20 * second),
      read("brave"),
      pass(10 * second)
    )
  },
  {
    name: "a provider's name that Aden lists for two accounts stays ambiguous when one of them has been fetched",
    rule: "never a silent pick",
    program: program(
      { ...config, integrations: [gmail, gmail2] },
      read("google"),
      pass(10 * second),
      read("google:Ada"),
      pass(10 * second),
      read("google"),
      pass(10 * second)
    )
  },
  {
    name: "a name that moved from one account to another at Aden means the other",
    rule: "a name means what Aden calls by it",
    program: program(
      { ...config, integrations: [gmail, gmail2] },
      read("gmail-1"),
      read("gmail-2"),
      pass(10 * second),
      { _tag: "Rename", tenant: "acme", id: "gmail-2", alias: "Eve" },
      { _tag: "Rename", tenant: "acme", id: "gmail-1", alias: "Ada" },
      pass(6 * minute),
      read("gmail-1"),
      pass(10 * second),
      read("google:Ada"),
      pass(10 * minute),
      read("google:Ada"),
      pass(10 * minute),
      read("google:Ada"),
      pass(10 * second)
    )
  },
  {
    name: "an integration that was removed and connected again under another id is found at once",
    rule: "what Aden lists is found",
    program: program(
      config,
      read("google"),
      pass(10 * second),
      { _tag: "Replace", tenant: "acme", id: "gmail-1", by: "gmail-1-new" },
      { _tag: "Invalidate", instance: 0, id: "gmail-1" },
      read("google"),
      pass(10 * second)
    )
  },
  {
    name: "who waits for an integration to be connected again gets it also under another id",
    rule: "what Aden lists is found",
    program: program(
      config,
      read("google"),
      pass(10 * second),
      { _tag: "Revoke", tenant: "acme", id: "gmail-1" },
      { _tag: "Validate", instance: 0, ref: "gmail-1" },
      pass(10 * second),
      { _tag: "Replace", tenant: "acme", id: "gmail-1", by: "gmail-1-new" },
      { _tag: "Await", instance: 0, ref: "google", timeout: 10 * minute },
      pass(minute)
    )
  },
  {
    name: "a credential of one provider is fetched while the other is down",
    rule: "a provider that is down holds back nothing of another",
    program: program(
      { ...config, integrations: [gmail, jira] },
      pass(10 * second),
      down(0),
      read("jira-1"),
      pass(minute)
    )
  },
  {
    name: "a credential of one provider is fetched while the other hangs",
    rule: "a provider that is down holds back nothing of another",
    program: program(
      { ...config, integrations: [gmail, jira] },
      pass(10 * second),
      { _tag: "Fault", rule: { endpoint: "any", id: undefined, server: 0, times: 1_000, kind: { _tag: "Hang" } } },
      read("jira"),
      pass(minute)
    )
  },
  {
    name: "an integration that is gone at Aden is not served from a second storage",
    rule: "what Aden does not have any more is not served",
    program: program(
      { ...config, wide: { ...wide, fallback: ["gmail-1"] } },
      ...started,
      { _tag: "Remove", tenant: "acme", id: "gmail-1" },
      pass(6 * minute),
      read("gmail-1"),
      pass(10 * second),
      read("gmail-1"),
      pass(10 * second)
    )
  },
  {
    name: "an integration that is gone at Aden is not served from a second storage once it is deleted in the first",
    rule: "what Aden does not have any more is not served",
    program: program(
      { ...config, wide: { ...wide, fallback: ["gmail-1"] } },
      { _tag: "Refresh", instance: 0, ref: "gmail-1" },
      pass(10 * second),
      { _tag: "Remove", tenant: "acme", id: "gmail-1" },
      pass(6 * minute),
      read("gmail-1"),
      pass(10 * second),
      read("gmail-1"),
      pass(10 * second)
    )
  },
  {
    name: "a save succeeds where storage takes writes and cannot be read",
    rule: "a change that took effect succeeds",
    program: program(
      config,
      ...started,
      storage("fails", "works"),
      { _tag: "Save", instance: 0, id: "brave", lifetime: undefined, isApiKey: true },
      pass(second)
    )
  },
  {
    name: "what another process saves is in memory at once, also after a read from storage has died",
    rule: "memory equals storage",
    program: program(
      { ...config, instances: [{ tenant: "acme", storage: 0 }, { tenant: "acme", storage: 0 }] },
      read("gmail-1"),
      pass(10 * second),
      read("gmail-1", 1),
      pass(10 * second),
      { _tag: "Die", what: "storage read" },
      { _tag: "Save", instance: 1, id: "gmail-1", lifetime: undefined, isApiKey: false },
      pass(10 * second),
      { _tag: "Save", instance: 1, id: "gmail-1", lifetime: undefined, isApiKey: false },
      pass(10 * second),
      read("gmail-1")
    )
  },
  {
    name: "what could not be saved is saved later, also after a write has died",
    rule: "memory equals storage",
    program: program(
      config,
      ...started,
      storage("works", "fails"),
      { _tag: "Refresh", instance: 0, ref: "gmail-1" },
      pass(500),
      { _tag: "Die", what: "storage write" },
      pass(3 * second),
      storage("works", "works"),
      pass(minute),
      read("gmail-1")
    )
  },
  {
    name: "a background question that dies is not asked again at each read",
    rule: "a question that died is not asked again at each read",
    program: program(
      { ...config, cacheTtl: 30 * second },
      ...started,
      pass(40 * second),
      { _tag: "Die", what: "provider" },
      read("gmail-1"),
      pass(100),
      read("gmail-1"),
      pass(second)
    )
  },
  {
    name: "what Aden answers is served, and held, although storage takes writes only",
    rule: "a question that died is not asked again at each read",
    program: program(
      config,
      ...started,
      storage("fails", "works"),
      { _tag: "Restart", instance: 0 },
      read("gmail-1"),
      pass(10 * second),
      { _tag: "Die", what: "provider" },
      read("gmail-1"),
      read("gmail-1"),
      pass(second)
    )
  },
  {
    name: "what is learnt to be blocked while storage hangs is blocked still when it works again",
    rule: "never a blocked credential's token",
    program: program(
      config,
      ...started,
      { _tag: "Revoke", tenant: "acme", id: "gmail-1" },
      storage("works", "hangs"),
      { _tag: "Validate", instance: 0, ref: "gmail-1" },
      pass(10 * second),
      { _tag: "Interrupt", share: 1, salt: 0 },
      storage("works", "works"),
      pass(minute),
      { _tag: "Remove", tenant: "acme", id: "gmail-1" },
      down(undefined),
      read("gmail-1"),
      pass(10 * second),
      read("gmail-1"),
      pass(10 * second)
    )
  },
  {
    name: "what is learnt to be blocked while storage fails is stored when it works again",
    rule: "never a blocked credential's token",
    program: program(
      config,
      ...started,
      storage("fails", "fails"),
      { _tag: "Revoke", tenant: "acme", id: "gmail-1" },
      { _tag: "Validate", instance: 0, ref: "gmail-1" },
      pass(10 * second),
      storage("works", "works"),
      pass(10 * second),
      { _tag: "Restart", instance: 0 },
      read("gmail-1"),
      pass(10 * second)
    )
  },
  {
    name: "an open circuit closes in time although the clock is set back",
    rule: "an Aden that is well is asked",
    program: program(
      config,
      down(undefined),
      read("gmail-1"),
      pass(29 * second),
      read("gmail-1"),
      pass(10 * second),
      { _tag: "Heal" },
      { _tag: "SetClock", by: -6 * hour },
      pass(10 * minute),
      read("gmail-1")
    )
  },
  {
    name: "what another process saves while the first save of an id returns is in memory",
    rule: "memory equals storage",
    program: program(
      { ...slow, instances: [{ tenant: "acme", storage: 0 }, { tenant: "acme", storage: 0 }] },
      { _tag: "Save", instance: 0, id: "brave", lifetime: hour, isApiKey: false },
      pass(20),
      { _tag: "Save", instance: 1, id: "brave", lifetime: hour, isApiKey: true },
      pass(10 * second),
      read("brave")
    )
  },
  {
    name: "what is learnt to be blocked before storage could be read is blocked still when it works again",
    rule: "never a blocked credential's token",
    program: program(
      config,
      ...started,
      { _tag: "Restart", instance: 0 },
      storage("fails", "works"),
      { _tag: "Revoke", tenant: "acme", id: "gmail-1" },
      read("gmail-1"),
      pass(10 * second),
      storage("works", "works"),
      pass(minute),
      read("gmail-1"),
      pass(second)
    )
  },
  {
    name: "an account that is stored, and that Aden lists no more, does not make the name of another one ambiguous",
    rule: "ambiguous only where two accounts fit",
    program: program(
      { ...config, integrations: [gmail, gmail2] },
      read("gmail-1"),
      pass(10 * minute),
      { _tag: "Replace", tenant: "acme", id: "gmail-1", by: "gmail-1-new" },
      { _tag: "Remove", tenant: "acme", id: "gmail-2" },
      read("google"),
      pass(10 * second)
    )
  },
  {
    name: "an answer that is saved late does not undo that a later question found the credential blocked",
    rule: "never a blocked credential's token",
    program: program(
      { ...config, integrations: [gmail, jira], wide: { ...wide, writeTakes: [20, 0] } },
      read("gmail-1"),
      pass(100),
      { _tag: "Call", instance: 0, ref: "jira-1" },
      storage("hangs", "hangs"),
      { _tag: "Revoke", tenant: "acme", id: "jira-1" },
      { _tag: "Validate", instance: 0, ref: "jira-1" },
      pass(10 * second),
      storage("works", "works"),
      pass(100),
      read("jira-1"),
      pass(second)
    )
  },
  {
    name: "a sync's answer that was worked out before a renewal does not replace what the renewal brought",
    rule: "an old answer never wins",
    program: program(
      { ...config, integrations: [{ ...gmail, lifetime: 10 * minute }] },
      read("gmail-1"),
      slowAden(1_000, 25 * second, true),
      pass(3_222_027),
      { _tag: "Sync", instance: 0 },
      read("gmail-1"),
      pass(minute)
    )
  },
  {
    name: "a sync's answer that was worked out before the first answer does not replace that",
    rule: "an old answer never wins",
    program: program(
      { ...config, integrations: [{ ...gmail2 }], latency: 1_500 },
      { _tag: "Refresh", instance: 0, ref: "gmail-2" },
      slowAden(1, 2 * second, true),
      pass(3_361),
      { _tag: "Sync", instance: 0 },
      pass(10 * second)
    )
  },
  {
    name: "nor where the tokens of both never expire",
    rule: "an old answer never wins",
    program: program(
      {
        ...ordinary,
        integrations: [{ id: "github", provider: "github", alias: undefined, lifetime: undefined }],
        latency: 1_500
      },
      { _tag: "Revoke", tenant: "acme", id: "github" },
      read("github"),
      pass(10 * second),
      { _tag: "Connect", tenant: "acme", id: "github" },
      slowAden(1, 6 * second, true),
      { _tag: "Refresh", instance: 0, ref: "github" },
      pass(6 * second),
      { _tag: "Sync", instance: 0 },
      pass(10 * second)
    )
  },
  {
    name: "of two rate limits that two processes learn of at the same moment, the longer one holds",
    rule: "nothing before a rate limit's end",
    program: {
      // draws latencies with which the shorter one is learnt of last
      seed: 97_192,
      config: {
        ...ordinary,
        instances: [{ tenant: "acme", storage: 0 }, { tenant: "acme", storage: 0 }],
        integrations: [{ ...gmail2, lifetime: 2 * minute }],
        hasSharedLock: false
      },
      steps: [
        read("gmail-2"),
        pass(100),
        limited(30 * minute),
        pass(minute),
        read("gmail-2", 1),
        limited(30 * second),
        read("gmail-2"),
        pass(minute),
        { _tag: "Restart", instance: 1 },
        read("google:Ada", 1)
      ]
    }
  },
  {
    name: "of two readers who give up a check at the same moment, none starts another",
    rule: "a blocked one is checked once per 30 s",
    program: program(
      { ...ordinary, integrations: [gmail2], deadline: 5 * second },
      read("gmail-2"),
      pass(100),
      { _tag: "Revoke", tenant: "acme", id: "gmail-2" },
      { _tag: "Refresh", instance: 0, ref: "gmail-2" },
      slowAden(1, 25 * second, false),
      pass(minute),
      {
        _tag: "Read",
        instance: 0,
        reads: [{ ref: "google", method: "token" }, { ref: "gmail-2", method: "getOption" }]
      },
      pass(10 * second)
    )
  },
  {
    name: "an account that Aden lists no more, and has again, makes the name of another one ambiguous again",
    rule: "never a silent pick",
    program: program(
      { ...ordinary, integrations: [gmail, gmail2] },
      read("gmail-2"),
      pass(100),
      { _tag: "Remove", tenant: "acme", id: "gmail-2" },
      { _tag: "Restart", instance: 0 },
      read("google"),
      pass(10 * minute),
      { _tag: "Connect", tenant: "acme", id: "gmail-2" },
      read("gmail-2"),
      pass(100),
      read("google"),
      pass(second)
    )
  },
  {
    name: "an integration whose rate is limited is gone only when the list lacks it too",
    rule: "every error is explained",
    program: program(
      { ...ordinary, integrations: [{ ...gmail, lifetime: 2 * minute }, { ...gmail2, lifetime: 10 * minute }] },
      { _tag: "Read", instance: 0, reads: [{ ref: "gmail-2", method: "token" }, { ref: "gmail-1", method: "token" }] },
      pass(10 * minute),
      { _tag: "Remove", tenant: "acme", id: "gmail-1" },
      read("gmail-1"),
      {
        _tag: "Fault",
        rule: {
          endpoint: "any",
          id: "gmail-1",
          times: 1_000,
          kind: { _tag: "RateLimited", retryAfter: 5, inBody: false }
        }
      },
      { _tag: "Sync", instance: 0 },
      pass(minute),
      { _tag: "Heal" },
      { _tag: "Refresh", instance: 0, ref: "gmail-1" },
      pass(second)
    )
  },
  {
    name: "what storage did not take stays known by its name when storage is listed",
    rule: "a storage that fails delays no read of what is in memory",
    program: program(
      { ...config, latency: 1_500 },
      storage("works", "fails"),
      read("google:Timothy"),
      pass(10 * second),
      { _tag: "Delete", instance: 0, id: "own-2" },
      storage("fails", "fails"),
      read("google:Timothy"),
      pass(10 * second)
    )
  }
]

export const knownFailures: ReadonlyArray<Kept> = []
