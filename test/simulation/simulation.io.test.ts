import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { bundled } from "../fixtures/bundle.ts"
import { repeats } from "../fixtures/repeats.ts"
import { faults, patched } from "./Faults.ts"
import type { Config, Program, Step } from "./Program.ts"
import { generate } from "./Program.ts"
import { shrink } from "./Shrink.ts"
import type { Alter } from "./Simulator.ts"
import { run } from "./Simulator.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** What `simulate.ts --json` prints. */
const Report = Schema.fromJsonString(Schema.Struct({
  runs: Schema.Int,
  failures: Schema.Array(Schema.Struct({
    seed: Schema.Int,
    violation: Schema.Struct({ rule: Schema.String, detail: Schema.String })
  }))
}))

/** What `simulate-faults.ts --json` prints. */
const Findings = Schema.fromJsonString(Schema.Array(Schema.Struct({ rule: Schema.String })))

const seeds = repeats(2_000)

const config: Config = {
  seats: [{ tenant: "acme", storage: 0 }],
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
      const script = yield* ChildProcess.make(
        process.execPath,
        [bundled("scripts/simulate.ts"), "--seeds", String(seeds), "--json"],
        { cwd: root, stderr: "ignore" }
      )
      const report = yield* Schema.decodeEffect(Report)(yield* Stream.mkString(Stream.decodeText(script.stdout)))
      assert.deepStrictEqual(
        report.failures.map(({ seed, violation }) =>
          `${violation.rule}: ${violation.detail}. To replay it: npm run simulate -- --seed ${seed}`
        ),
        []
      )
      assert.strictEqual(report.runs, seeds)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)), 300_000)

  it.live("a seed takes the same course each time", () =>
    Effect.gen(function*() {
      for (let seed = 1; seed <= 20; seed++) {
        const first = yield* run(generate(seed), { isTraced: true })
        const second = yield* run(generate(seed), { isTraced: true })
        assert.isAbove(first.trace.length, 5)
        assert.deepStrictEqual(second, first)
      }
    }))

  it.live("a program that breaks a rule is made smaller until nothing can be left out", () =>
    Effect.gen(function*() {
      const rule = "some operations ask nobody"
      const runNosy = (program: Program) => run(program, { alter: nosy })
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
    seats: [{ tenant: "acme", storage: 0 }, { tenant: "acme", storage: 0 }],
    integrations: [{ id: "slack:ops", provider: "slack", alias: "ops", lifetime: 43_200_000 }]
  }
  const reads = (seat: number): Step => ({ _tag: "Read", seat, reads: [{ ref: "slack:ops", method: "token" }] })
  const broke: ReadonlyArray<{ readonly what: string; readonly program: Program }> = [
    {
      what: "an old answer takes no new token's place that ends earlier",
      program: {
        seed: 8334,
        config: { ...twoHosts, hasSharedLock: false },
        steps: [reads(0), { _tag: "Advance", duration: 100 }, { _tag: "Invalidate", seat: 1, id: "slack:ops" }]
      }
    },
    {
      what: "an answer takes not the place of what another program saved of its own while Aden was asked",
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
          { _tag: "Save", seat: 0, id: "slack:ops", lifetime: 60_000, isApiKey: false }
        ]
      }
    },
    {
      what: "a blocked one that another program deleted is found anew, and asked about at once",
      program: {
        seed: 17_032,
        config: {
          ...twoHosts,
          integrations: [{ id: "github", provider: "github", alias: undefined, lifetime: undefined }],
          latency: 0
        },
        steps: [
          { _tag: "Read", seat: 0, reads: [{ ref: "github", method: "token" }] },
          { _tag: "Revoke", tenant: "acme", id: "github" },
          { _tag: "Sync", seat: 1 },
          { _tag: "Delete", seat: 0, id: "github" },
          { _tag: "Read", seat: 1, reads: [{ ref: "github", method: "token" }] }
        ]
      }
    },
    {
      what: "what a sync asks for is not kept when the program invalidates it meanwhile, also where it is not stored",
      program: {
        seed: 36_500,
        config: {
          ...twoHosts,
          integrations: [{ id: "gmail-2", provider: "google", alias: "Ada", lifetime: 120_000 }],
          latency: 1_500
        },
        steps: [
          { _tag: "Read", seat: 0, reads: [{ ref: "gmail-2", method: "token" }] },
          { _tag: "Advance", duration: 10_000 },
          { _tag: "Remove", tenant: "acme", id: "gmail-2" },
          { _tag: "Sync", seat: 1 },
          { _tag: "Advance", duration: 10_000 },
          { _tag: "Connect", tenant: "acme", id: "gmail-2" },
          { _tag: "Sync", seat: 0 },
          { _tag: "Advance", duration: 1_888 },
          { _tag: "Invalidate", seat: 0, id: "gmail-2" }
        ]
      }
    },
    {
      what: "an answer is judged by the clock of who gave it, also when the program deleted its own meanwhile",
      program: {
        seed: 38_705,
        config: {
          ...config,
          seats: [{ tenant: "globex", storage: 1 }],
          integrations: [{ id: "gmail-2", provider: "google", alias: "Ada", lifetime: 2_000 }],
          clockSkew: -3_000
        },
        steps: [
          { _tag: "Sync", seat: 0 },
          { _tag: "Advance", duration: 10_000 },
          { _tag: "Read", seat: 0, reads: [{ ref: "gmail-2", method: "token" }] },
          { _tag: "Save", seat: 0, id: "gmail-2", lifetime: undefined, isApiKey: true },
          { _tag: "Delete", seat: 0, id: "gmail-2" }
        ]
      }
    }
  ]
  for (const { program, what } of broke) {
    it.live(what, () => Effect.map(run(program), ({ violation }) => assert.isUndefined(violation)))
  }
})

describe("faults", () => {
  it("each can be put into the store as it is", () => {
    for (const { name, patches } of faults) {
      const sources = new Map<string, string>()
      for (const patch of patches) {
        const source = sources.get(patch.file) ?? readFileSync(`${root}/${patch.file}`, "utf8")
        const result = patched(source, patch)
        assert(result !== undefined, `"${name}" cannot be put in: ${patch.file} does not have once: ${patch.from}`)
        sources.set(patch.file, result)
      }
    }
  })

  it.live("one is found in a copy that is gone afterwards", () =>
    Effect.gen(function*() {
      const before = readdirSync(root)
      const script = yield* ChildProcess.make(
        process.execPath,
        ["--import", "tsx", "scripts/simulate-faults.ts", "--fault", "serves what has expired", "--json"],
        { cwd: root, stderr: "ignore" }
      )
      const output = yield* Stream.mkString(Stream.decodeText(script.stdout))
      const [finding] = yield* Schema.decodeEffect(Findings)(output)
      assert.strictEqual(finding?.rule, "never an expired token")
      assert.strictEqual(yield* script.exitCode, 0)
      assert.deepStrictEqual(readdirSync(root), before)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)), 120_000)
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

  const breaks = Effect.fnUntraced(function*(rule: string, alter: Alter) {
    const { violation } = yield* run({ ...noisy, steps: [] }, { alter })
    assert.strictEqual(violation?.rule, rule)
  })
})

/** Asks Aden to renew what somebody only wants to have explained. */
const nosy: Alter = (store) =>
  Effect.succeed({
    ...store,
    explain: (ref) => Effect.tap(store.explain(ref), () => Effect.ignore(store.refresh(ref)))
  })

const reading = (ref: string): Step => ({
  _tag: "Read",
  seat: 0,
  reads: [{ ref, method: "get" }, { ref, method: "token" }, { ref, method: "token" }]
})

const noisy: Program = {
  seed: 1,
  config,
  steps: [
    { _tag: "Sync", seat: 0 },
    { _tag: "Advance", duration: 1_234 },
    reading("github"),
    reading("hubspot"),
    { _tag: "Advance", duration: 5_678 },
    { _tag: "Explain", seat: 0, ref: "hubspot" },
    { _tag: "Validate", seat: 0, ref: "github" },
    { _tag: "Fault", rule: { endpoint: "list", id: undefined, times: 1, kind: { _tag: "NoDate" } } },
    { _tag: "Advance", duration: 4_000_123 },
    { _tag: "Heal" },
    reading("github"),
    reading("hubspot"),
    { _tag: "Advance", duration: 1_000 },
    { _tag: "Refresh", seat: 0, ref: "hubspot" }
  ]
}
