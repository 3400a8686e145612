/**
 * Runs a fleet of clients against one Aden on virtual time (test/simulation/Fleet.ts): in the steady state, through an outage,
 * and where all tokens expire at once.
 *
 *     npm run simulate:fleet                         100,000 clients, a table
 *     npm run simulate:fleet -- --plots docs         redraws the plots of docs/scaling.md
 *     npm run simulate:fleet -- --clients 2000 --scenario outage --json
 *
 * Exits 1 when the fleet returns from an outage with more than twice its steady rate, or when a token expired while Aden was up.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, FileSystem, Option, Path } from "effect"
import { Command, Flag } from "effect/cli"
import { fork } from "node:child_process"
import { availableParallelism } from "node:os"
import type { FleetRun, FleetSummary, Scenario } from "../test/simulation/Fleet.ts"
import { bin, faultsOf, requestsPerClient, runFleet, scenarios, summaryOf } from "../test/simulation/Fleet.ts"
import { linePlot } from "./linePlot.ts"

type ScenarioName = keyof typeof scenarios

const scenarioNames = ["steady", "outage", "expiry"] as const satisfies ReadonlyArray<ScenarioName>

/** With fewer clients than this, ten seconds show more chance than fleet. */
const largeFleet = 20_000

interface Result {
  readonly run: FleetRun
  readonly summary: FleetSummary
  readonly faults: ReadonlyArray<string>
  readonly seconds: number
}

interface Options {
  readonly clients: number
  readonly seed: number
}

/** One scenario in a process of its own. It makes no stack traces, which would cost time. */
const runApart = (name: ScenarioName, { clients, seed }: Options) =>
  Effect.callback<Result, Error>((resume) => {
    const start = performance.now()
    const child = fork(import.meta.filename, ["worker", name, String(clients), String(seed)], {
      execArgv: [...process.execArgv, "--stack-trace-limit=0", "--max-old-space-size=4096"],
      serialization: "advanced"
    })
    child.on("message", (run: FleetRun) => {
      const summary = summaryOf(run, { window: clients < largeFleet ? 60_000 : bin })
      const seconds = Math.round((performance.now() - start) / 100) / 10
      resume(Effect.succeed({ run, summary, faults: faultsOf(run, summary), seconds }))
    })
    child.on("exit", (status) => resume(Effect.fail(new Error(`${name}: a process ended with status ${status}`))))
    return Effect.sync(() => void child.kill())
  })

// ---------------------------------------------------------------------------------------------------------------------
// What is shown
// ---------------------------------------------------------------------------------------------------------------------

const perSecond = (rate: number | undefined): string =>
  rate === undefined ? "" : rate.toLocaleString("en", { maximumFractionDigits: rate < 100 ? 1 : 0 })

const rowsOf = ({ run, seconds, summary }: Result): ReadonlyArray<string> => [
  run.scenario.name,
  perSecond(summary.steady),
  perSecond(summary.outagePeak),
  `${perSecond(summary.peak)} (${(summary.peak / summary.steady).toFixed(2)}x)`,
  summary.limited.toLocaleString("en"),
  summary.ranOutWhileDown.toLocaleString("en"),
  summary.ranOutOnReturn.toLocaleString("en"),
  summary.ranOutWhileUp.toLocaleString("en"),
  summary.recovery === undefined ? "" : `${Math.round(summary.recovery / 1_000)} s`,
  `${seconds} s`
]

const headings = [
  "scenario",
  "steady /s",
  "peak while down /s",
  "peak after /s",
  "429s",
  "ran out: down",
  "on return",
  "up",
  "all back after",
  "took"
]

const tableOf = (results: ReadonlyArray<Result>): string => {
  const rows = [headings, ...results.map(rowsOf)]
  const widths = headings.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd()).join("\n")
}

const plotsOf = ({ run, summary }: Result): ReadonlyArray<readonly [name: string, svg: string]> => {
  const { clients, scenario } = run
  const rates = (series: ReadonlyArray<number>) =>
    series.map((count, index) => [index * bin / 60_000, count / bin * 1_000] as const)
  const span = scenario.outage === undefined ? undefined : {
    from: scenario.outage.from / 60_000,
    until: scenario.outage.until / 60_000,
    label: "Aden is down"
  }
  const limit = clients * requestsPerClient / 60
  const fleet = `${clients.toLocaleString("en")} clients, one credential each, in use all the time`
  const common = { xLabel: "minutes", span }
  const requests = linePlot({
    ...common,
    title: `${scenario.title}: requests at Aden`,
    subtitle: fleet,
    yLabel: "requests per second",
    lines: [
      { label: "requests", color: "blue", points: rates(run.requests) },
      { label: "of these, renewals", color: "green", points: rates(run.renewals) },
      ...(summary.limited === 0
        ? []
        : [{ label: "refused (429)", color: "red", points: rates(run.limited) } as const])
    ],
    levels: scenario.commonExpiry === undefined
      ? [{ y: 2 * summary.steady, label: "twice the steady state" }]
      : [{ y: limit, label: "what Aden takes" }]
  })
  if (scenario.outage === undefined) return [[`fleet-${scenario.name}`, requests]]
  const without = linePlot({
    ...common,
    title: `${scenario.title}: clients without a usable token`,
    subtitle: fleet,
    yLabel: "% of the clients",
    lines: [{
      label: "without a token",
      color: "red",
      points: run.without.map((count, index) => [(index + 1) * bin / 60_000, count / clients * 100] as const)
    }],
    levels: []
  })
  return [[`fleet-${scenario.name}`, requests], [`fleet-${scenario.name}-tokens`, without]]
}

const report = Effect.fnUntraced(function*(results: ReadonlyArray<Result>, options: {
  readonly isJson: boolean
  readonly plots: string | undefined
}) {
  if (options.isJson) {
    yield* Console.log(JSON.stringify(results.map(({ faults, run: { clients, scenario }, seconds, summary }) => ({
      scenario: scenario.name,
      clients,
      ...summary,
      faults,
      seconds
    }))))
  } else {
    yield* Console.log(tableOf(results))
    for (const { faults, run } of results) {
      for (const fault of faults) yield* Console.log(`${run.scenario.name}: ${fault}`)
    }
  }
  if (options.plots === undefined) return
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  for (const [name, svg] of results.flatMap(plotsOf)) {
    yield* fs.writeFileString(path.join(options.plots, `${name}.svg`), svg)
  }
})

const command = Command.make("simulate-fleet", {
  clients: Flag.Int("clients").pipe(Flag.withDescription("How many clients"), Flag.withDefault(100_000)),
  seed: Flag.Int("seed").pipe(Flag.withDescription("The same seed takes the same course"), Flag.withDefault(1)),
  scenario: Flag.Literals("scenario", scenarioNames).pipe(
    Flag.withDescription("Runs only this one"),
    Flag.optional
  ),
  plots: Flag.String("plots").pipe(Flag.withDescription("Where to write the plots, as SVG"), Flag.optional),
  json: Flag.Boolean("json").pipe(Flag.withDescription("Prints the result as JSON"), Flag.withDefault(false))
}, ({ clients, json, plots, scenario, seed }) =>
  Effect.gen(function*() {
    const names = Option.match(scenario, { onNone: () => scenarioNames, onSome: (name) => [name] })
    const results = yield* Effect.forEach(names, (name) => runApart(name, { clients, seed }), {
      concurrency: availableParallelism()
    })
    yield* report(results, { isJson: json, plots: Option.getOrUndefined(plots) })
    if (results.some(({ faults }) => faults.length > 0)) process.exitCode = 1
  }))

const [mode, name, clients, seed] = process.argv.slice(2)
const scenario: Scenario | undefined = Object.values(scenarios).find((item) => item.name === name)
if (mode === "worker" && scenario !== undefined) {
  // the parent is gone
  const leave = () => process.exit(1)
  process.once("disconnect", leave)
  NodeRuntime.runMain(Effect.map(
    runFleet({ scenario, clients: Number(clients), seed: Number(seed) }),
    (run) => {
      process.off("disconnect", leave)
      process.send?.(run, () => process.disconnect?.())
    }
  ))
} else {
  Command.run(command, { version: "1" }).pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
}
