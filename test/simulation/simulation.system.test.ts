/**
 * The simulation as its scripts run it: many seeds, in a process for each core, and faults that are planted.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { fileURLToPath } from "node:url"
import { bundled } from "../fixtures/bundle.ts"
import { repeats } from "../fixtures/repeats.ts"

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
})

describe("faults", () => {
  it.live("one that is planted is found", () =>
    Effect.gen(function*() {
      const script = yield* ChildProcess.make(
        process.execPath,
        ["--import", "tsx", "scripts/simulate-faults.ts", "--fault", "serves what has expired", "--json"],
        { cwd: root, stderr: "ignore" }
      )
      const output = yield* Stream.mkString(Stream.decodeText(script.stdout))
      const [finding] = yield* Schema.decodeEffect(Findings)(output)
      assert.strictEqual(finding?.rule, "never an expired token")
      assert.strictEqual(yield* script.exitCode, 0)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)), 120_000)
})
