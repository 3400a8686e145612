/**
 * Shows that the simulation finds faults (mutation testing): plants one fault at a time, and runs seeds until one fails.
 *
 *     npm run simulate:faults
 *     npm run simulate:faults -- --fault "serves what has expired"
 *
 * Exits 1 when a fault is not found.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, Option, Schema, Stream } from "effect"
import { Command, Flag } from "effect/cli"
import { ChildProcess } from "effect/process"
import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import type { Fault } from "../test/simulation/Faults.ts"
import { faults } from "../test/simulation/Faults.ts"

// ---------------------------------------------------------------------------------------------------------------------
// One fault
// ---------------------------------------------------------------------------------------------------------------------

interface Finding {
  readonly fault: string
  /** The rule that was broken; absent if the fault was not found. */
  readonly rule: string | undefined
  readonly firstSeed: number | undefined
  readonly seeds: number
  /** Why its seeds could not be run. */
  readonly problem: string | undefined
}

/** What `simulate.ts --json` prints. */
const Report = Schema.fromJsonString(Schema.Struct({
  runs: Schema.Int,
  failures: Schema.Array(Schema.Struct({ seed: Schema.Int, violation: Schema.Struct({ rule: Schema.String }) }))
}))

const simulation = new URL("simulate.ts", import.meta.url)

const find = Effect.fnUntraced(function*({ name, profile = "ordinary" }: Fault, seeds: number) {
  const none: Finding = { fault: name, rule: undefined, firstSeed: undefined, seeds: 0, problem: undefined }
  const child = yield* ChildProcess.make(process.execPath, [
    "--stack-trace-limit=0",
    "--import",
    "tsx",
    fileURLToPath(simulation),
    "--fault",
    name,
    "--profile",
    profile,
    "--until-failure",
    "--seeds",
    String(seeds),
    "--json"
  ], { stderr: "ignore" })
  const output = yield* Stream.mkString(Stream.decodeText(child.stdout))
  return yield* Schema.decodeEffect(Report)(output.trim()).pipe(
    Effect.map(({ failures: [first], runs }): Finding => ({
      ...none,
      rule: first?.violation.rule,
      firstSeed: first?.seed,
      seeds: runs
    })),
    Effect.orElseSucceed((): Finding => ({ ...none, problem: `no report: ${output.slice(0, 500)}` }))
  )
}, Effect.scoped)

// ---------------------------------------------------------------------------------------------------------------------
// The table
// ---------------------------------------------------------------------------------------------------------------------

const row = (cells: readonly [string, string, string, string]): string => {
  const [fault, rule, first, seeds] = cells
  return `${fault.padEnd(68)}${rule.padEnd(68)}${first.padStart(10)}${seeds.padStart(11)}`
}

const rowOf = ({ fault, firstSeed, problem, rule, seeds }: Finding): string =>
  problem === undefined
    ? row([fault, rule ?? "NOT FOUND", String(firstSeed ?? "-"), String(seeds)])
    : `${fault.padEnd(68)}${problem}`

const command = Command.make("simulate-faults", {
  fault: Flag.String("fault").pipe(Flag.withDescription("Only this one, by its name"), Flag.optional),
  seeds: Flag.Int("seeds").pipe(
    Flag.withDescription("How many seeds to run at most for each"),
    Flag.withDefault(2_000)
  ),
  jobs: Flag.Int("jobs").pipe(
    Flag.withDescription("How many faults are looked for at a time"),
    Flag.withDefault(availableParallelism())
  ),
  json: Flag.Boolean("json").pipe(Flag.withDescription("Prints the result as JSON"), Flag.withDefault(false))
}, ({ fault, jobs, json, seeds }) =>
  Effect.gen(function*() {
    const chosen = faults.filter(({ name }) => Option.getOrElse(fault, () => name) === name)
    if (chosen.length === 0) {
      yield* Console.error(`There is no such fault. There are:\n${faults.map(({ name }) => `  ${name}`).join("\n")}`)
      process.exitCode = 2
      return
    }
    if (!json) yield* Console.log(row(["fault", "rule broken", "first seed", "seeds run"]))
    const findings = yield* Effect.forEach(chosen, (item) =>
      Effect.tap(find(item, seeds), (finding) => json ? Effect.void : Console.log(rowOf(finding))), {
      concurrency: Math.max(1, jobs)
    })
    if (json) {
      yield* Console.log(JSON.stringify(findings))
    }
    if (
      findings.some(({ rule }) =>
        rule === undefined
      )
    ) process.exitCode = 1
  }))

Command.run(command, { version: "1" }).pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
