import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { repeats } from "../fixtures/repeats.ts"
import type { Plant } from "./Faults.ts"
import type { Config, Program, Step } from "./Program.ts"
import { generate } from "./Program.ts"
import { shrink } from "./shrink.ts"
import { run } from "./Simulator.ts"

const seeds = repeats(250, 10)

const config: Config = {
  instances: [{ tenant: "acme", storage: 0 }],
  integrations: [
    { id: "hubspot", provider: "hubspot", alias: undefined, lifetime: 3_600_000 },
    { id: "github", provider: "github", alias: undefined, lifetime: undefined }
  ],
  hasSharedLock: true,
  renewsOnGet: true,
  clockSkew: 0,
  latency: 40,
  autoRefresh: true,
  cacheTtl: 300_000,
  deadline: 30_000,
  maxStale: 86_400_000,
  refreshBuffer: 300_000,
  reportsUsage: false
}

describe("simulation", () => {
  it.live(`no rule is broken in ${seeds} random programs`, () =>
    Effect.gen(function*() {
      for (let seed = 1; seed <= seeds; seed++) {
        const { violation } = yield* run(generate(seed))
        assert.isUndefined(violation, `To replay it: npm run simulate -- --seed ${seed}`)
      }
    }))

  it.live("a seed takes the same course each time", () =>
    Effect.gen(function*() {
      for (let seed = 1; seed <= repeats(20); seed++) {
        const first = yield* run(generate(seed), { isTraced: true })
        const second = yield* run(generate(seed), { isTraced: true })
        assert.isAbove(first.trace.length, 5)
        assert.deepStrictEqual(second, first)
      }
    }))

  it.live("a program that breaks a rule is made smaller until nothing can be left out", () =>
    Effect.gen(function*() {
      const rule = "some operations make no request"
      const runNosy = (program: Program) => run(program, { plant: { store: nosy } })
      assert.strictEqual((yield* runNosy(noisy)).violation?.rule, rule)
      const { steps, ...smaller } = yield* shrink(noisy, { rule, budget: 1_500, run: runNosy })
      // what is explained has to be known, for which time has to pass
      assert.deepStrictEqual(steps.slice(-2).map(({ _tag }) => _tag), ["Advance", "Explain"])
      assert.strictEqual(steps.length, 3)
      assert.strictEqual((yield* runNosy({ ...smaller, steps })).violation?.rule, rule)
      assert.isUndefined((yield* run(noisy)).violation)
    }))
})

describe("programs that broke a rule once", () => {
  const twoHosts: Config = {
    ...config,
    instances: [{ tenant: "acme", storage: 0 }, { tenant: "acme", storage: 0 }],
    integrations: [{ id: "slack:ops", provider: "slack", alias: "ops", lifetime: 43_200_000 }]
  }
  const reads = (instance: number): Step => ({ _tag: "Read", instance, reads: [{ ref: "slack:ops", method: "token" }] })
  const broke: ReadonlyArray<{ readonly what: string; readonly program: Program }> = [
    {
      what: "an old answer does not replace a new token that expires earlier",
      program: {
        seed: 8334,
        config: { ...twoHosts, hasSharedLock: false },
        steps: [reads(0), { _tag: "Advance", duration: 100 }, { _tag: "Invalidate", instance: 1, id: "slack:ops" }]
      }
    },
    {
      what: "an answer does not replace a credential that another program saved while Aden was asked",
      program: {
        seed: 10_681,
        config: {
          ...twoHosts,
          integrations: [{ id: "slack:ops", provider: "slack", alias: "ops", lifetime: 120_000 }]
        },
        steps: [
          reads(0),
          { _tag: "Advance", duration: 600_000 },
          reads(1),
          { _tag: "Save", instance: 0, id: "slack:ops", lifetime: 60_000, isApiKey: false }
        ]
      }
    },
    {
      what: "a blocked credential that another program deleted is looked up again, and asked for at once",
      program: {
        seed: 17_032,
        config: {
          ...twoHosts,
          integrations: [{ id: "github", provider: "github", alias: undefined, lifetime: undefined }],
          latency: 0
        },
        steps: [
          { _tag: "Read", instance: 0, reads: [{ ref: "github", method: "token" }] },
          { _tag: "Revoke", tenant: "acme", id: "github" },
          { _tag: "Sync", instance: 1 },
          { _tag: "Delete", instance: 0, id: "github" },
          { _tag: "Read", instance: 1, reads: [{ ref: "github", method: "token" }] }
        ]
      }
    },
    {
      what: "what a sync fetches is not kept if the program invalidates it during the sync, even if it is not stored",
      program: {
        seed: 36_500,
        config: {
          ...twoHosts,
          integrations: [{ id: "gmail-2", provider: "google", alias: "Ada", lifetime: 120_000 }],
          latency: 1_500
        },
        steps: [
          { _tag: "Read", instance: 0, reads: [{ ref: "gmail-2", method: "token" }] },
          { _tag: "Advance", duration: 10_000 },
          { _tag: "Remove", tenant: "acme", id: "gmail-2" },
          { _tag: "Sync", instance: 1 },
          { _tag: "Advance", duration: 10_000 },
          { _tag: "Connect", tenant: "acme", id: "gmail-2" },
          { _tag: "Sync", instance: 0 },
          { _tag: "Advance", duration: 1_888 },
          { _tag: "Invalidate", instance: 0, id: "gmail-2" }
        ]
      }
    },
    {
      what:
        "an answer is judged by the clock of its provider, even if the program deletes its own credential at that time",
      program: {
        seed: 38_705,
        config: {
          ...config,
          instances: [{ tenant: "globex", storage: 1 }],
          integrations: [{ id: "gmail-2", provider: "google", alias: "Ada", lifetime: 2_000 }],
          clockSkew: -3_000
        },
        steps: [
          { _tag: "Sync", instance: 0 },
          { _tag: "Advance", duration: 10_000 },
          { _tag: "Read", instance: 0, reads: [{ ref: "gmail-2", method: "token" }] },
          { _tag: "Save", instance: 0, id: "gmail-2", lifetime: undefined, isApiKey: true },
          { _tag: "Delete", instance: 0, id: "gmail-2" }
        ]
      }
    }
  ]
  for (const { program, what } of broke) {
    it.live(what, () => Effect.map(run(program), ({ violation }) => assert.isUndefined(violation)))
  }
})

describe("Simulator", () => {
  it.live("finds it when a fiber is left behind", () =>
    breaks("nothing is left behind", (store) => Effect.as(Effect.forkDetach(Effect.never), store)))

  it.live("finds it when a store takes too long to end", () =>
    breaks(
      "a store ends within 5 s",
      (store) => Effect.as(Effect.addFinalizer(() => Effect.sleep("6 seconds")), store)
    ))

  it.live("finds it when a store never comes to rest", () =>
    breaks("no endless loops", (store) => Effect.as(Effect.forkScoped(Effect.forever(Effect.yieldNow)), store)))

  const breaks = Effect.fnUntraced(function*(rule: string, store: Plant["store"]) {
    const { violation } = yield* run({ ...noisy, steps: [] }, { plant: { store } })
    assert.strictEqual(violation?.rule, rule)
  })
})

/** A store that makes a request when it should only explain. */
const nosy: Plant["store"] = (store) =>
  Effect.succeed({
    ...store,
    explain: (ref) => Effect.tap(store.explain(ref), () => Effect.ignore(store.refresh(ref)))
  })

const reading = (ref: string): Step => ({
  _tag: "Read",
  instance: 0,
  reads: [{ ref, method: "get" }, { ref, method: "token" }, { ref, method: "token" }]
})

const noisy: Program = {
  seed: 1,
  config,
  steps: [
    { _tag: "Sync", instance: 0 },
    { _tag: "Advance", duration: 1_234 },
    reading("github"),
    reading("hubspot"),
    { _tag: "Advance", duration: 5_678 },
    { _tag: "Explain", instance: 0, ref: "hubspot" },
    { _tag: "Validate", instance: 0, ref: "github" },
    { _tag: "Fault", rule: { endpoint: "list", id: undefined, times: 1, kind: { _tag: "NoDate" } } },
    { _tag: "Advance", duration: 4_000_123 },
    { _tag: "Heal" },
    reading("github"),
    reading("hubspot"),
    { _tag: "Advance", duration: 1_000 },
    { _tag: "Refresh", instance: 0, ref: "hubspot" }
  ]
}
