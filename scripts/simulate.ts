/**
 * Runs the simulation (test/simulation) for many seeds, each of which is a random program against the real store, and reports
 * which fail:
 *
 *     npm run simulate -- --seeds 100000
 *     npm run simulate -- --seed 4711        one seed with its trace, shrunk if it fails
 *     npm run simulate -- --until-failure    stops at the first that fails
 *
 * Exits 1 when a seed fails.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Array as Arr, Console, Effect, Option, Schedule } from "effect"
import { Command, Flag } from "effect/cli"
import { fork } from "node:child_process"
import { availableParallelism } from "node:os"
import type { Fault } from "../test/simulation/Faults.ts"
import { faults } from "../test/simulation/Faults.ts"
import type { Violation } from "../test/simulation/Observations.ts"
import type { Profile, Program } from "../test/simulation/Program.ts"
import { generate } from "../test/simulation/Program.ts"
import { shrink } from "../test/simulation/shrink.ts"
import { run } from "../test/simulation/Simulator.ts"

/** What a process found since its last message. */
interface Progress {
  readonly runs: number
  readonly requests: number
  readonly operations: number
  readonly failures: ReadonlyArray<Failure>
}

interface Failure {
  readonly seed: number
  readonly violation: Violation
}

/** A process reports after this many runs. */
const reportEvery = 25

/** How many failing seeds are shrunk and shown. */
const shownFailures = 3

/** What is run of each seed. */
interface Subject {
  readonly profile: Profile
  readonly fault: Fault | undefined
}

const runSeeds = (
  { fault, profile }: Subject,
  seeds: {
    readonly from: number
    readonly to: number
    readonly stride: number
    readonly isUntilFailure: boolean
  },
  report: (progress: Progress) => void
) =>
  Effect.gen(function*() {
    let progress = { runs: 0, requests: 0, operations: 0, failures: new Array<Failure>() }
    for (let seed = seeds.from; seed <= seeds.to; seed += seeds.stride) {
      const { operations, requests, violation } = yield* run(generate(seed, profile), { plant: fault })
      progress.runs++
      progress.requests += requests
      progress.operations += operations
      // a fault that is planted has to be found by its own rule
      const hasFailed = violation !== undefined && (fault === undefined || fault.rule === violation.rule)
      if (hasFailed) progress.failures.push({ seed, violation })
      if (progress.runs === reportEvery || hasFailed) {
        report(progress)
        progress = { runs: 0, requests: 0, operations: 0, failures: [] }
        // virtual time does not yield to the event loop, which signals and the `disconnect` event need
        yield* Effect.sleep(1)
        if (hasFailed && seeds.isUntilFailure) return
      }
    }
    report(progress)
  })

/**
 * The same in processes of their own, each with its share of the seeds. They make no stack traces, which would cost a fifth of
 * the time.
 */
const runSeedsIn = (
  { fault, profile }: Subject,
  jobs: number,
  seeds: { readonly from: number; readonly to: number },
  report: (progress: Progress) => void
) =>
  Effect.forEach(
    Array.from({ length: jobs }, (_, job) => job),
    (job) =>
      Effect.callback<void, Error>((resume) => {
        const place = [String(seeds.from + job), String(seeds.to), String(jobs)]
        const child = fork(import.meta.filename, ["worker", ...place, profile, fault?.name ?? ""], {
          execArgv: [...process.execArgv, "--stack-trace-limit=0"]
        })
        child.on("message", (progress: Progress) => report(progress))
        child.on(
          "exit",
          (status) =>
            resume(status === 0 ? Effect.void : Effect.fail(new Error(`a process ended with status ${status}`)))
        )
        return Effect.sync(() => void child.kill())
      }),
    { concurrency: "unbounded", discard: true }
  )

const describeProgram = (program: Program): string =>
  [
    JSON.stringify(program.config),
    ...program.steps.map((step, index) => `${index + 1}. ${JSON.stringify(step)}`)
  ].join("\n")

const explainFailure = Effect.fnUntraced(function*({ fault, profile }: Subject, { seed, violation }: Failure) {
  const program = yield* shrink(generate(seed, profile), {
    rule: violation.rule,
    budget: 1_500,
    run: (program) => run(program, { plant: fault })
  })
  const smaller = yield* run(program, { isTraced: true, plant: fault })
  yield* Console.log(
    `\nSeed ${seed} breaks the rule "${violation.rule}" in step ${violation.step}: ${violation.detail}\n` +
      `The smallest program that does:\n${describeProgram(program)}\n\n${smaller.trace.join("\n")}\n` +
      `To run the whole of it: npm run simulate -- ${profile === "wide" ? "--profile wide " : ""}--seed ${seed}`
  )
})

/** How often each rule is broken, the most often broken first, with the smallest seed that breaks it. */
const summaryOf = (failures: ReadonlyArray<Failure>): ReadonlyArray<string> =>
  Object.entries(Arr.groupBy(failures, ({ violation }) => violation.rule))
    .toSorted(([, a], [, b]) => b.length - a.length)
    .map(([rule, broken]) => {
      const [first] = broken
      return `${String(broken.length).padStart(6)}  ${rule.padEnd(66)} seed ${first.seed}: ${first.violation.detail}`
    })

const runOne = Effect.fnUntraced(function*(subject: Subject, seed: number, isJson: boolean) {
  const program = generate(seed, subject.profile)
  const { trace, violation } = yield* run(program, { isTraced: true, plant: subject.fault })
  if (isJson) yield* Console.log(JSON.stringify({ seed, program, violation, trace }))
  else {
    yield* Console.log(`${JSON.stringify(program.config)}\n${trace.join("\n")}`)
    if (violation === undefined) yield* Console.log(`\nSeed ${seed}: nothing is wrong.`)
    else yield* explainFailure(subject, { seed, violation })
  }
  return violation === undefined
})

const runMany = Effect.fnUntraced(function*(subject: Subject, options: {
  readonly from: number
  readonly seeds: number
  readonly jobs: number
  readonly isUntilFailure: boolean
  readonly isJson: boolean
}) {
  const { from, isJson, isUntilFailure, jobs, seeds } = options
  const start = performance.now()
  const total = { runs: 0, requests: 0, operations: 0, failures: new Array<Failure>() }
  const report = (progress: Progress): void => {
    total.runs += progress.runs
    total.requests += progress.requests
    total.operations += progress.operations
    for (const failure of progress.failures) {
      total.failures.push(failure)
      // report a failing seed at once: the run may be long
      process.stderr.write(`\nseed ${failure.seed} fails: ${failure.violation.rule}\n`)
    }
  }
  const rate = () => Math.round(total.runs / (performance.now() - start) * 1_000)
  const line = () =>
    `${total.runs} of ${seeds} seeds, ${rate()} per s, ` +
    `${total.failures.length === 0 ? "none failing" : `${total.failures.length} failing`}`
  const progressLine = Effect.suspend(() =>
    process.stderr.isTTY
      ? Effect.sync(() => process.stderr.write(`\r${line()}   `))
      : Console.error(line())
  ).pipe(Effect.schedule(Schedule.spaced(process.stderr.isTTY ? "500 millis" : "10 seconds")))

  const range = { from, to: from + seeds - 1 }
  yield* Effect.raceFirst(
    jobs === 1 || isUntilFailure
      ? runSeeds(subject, { ...range, stride: 1, isUntilFailure }, report)
      : runSeedsIn(subject, jobs, range, report),
    progressLine
  )
  if (process.stderr.isTTY) process.stderr.write("\r")
  const failures = total.failures.toSorted((a, b) => a.seed - b.seed)
  if (isJson) {
    const durationMs = Math.round(performance.now() - start)
    yield* Console.log(JSON.stringify({ ...total, from, failures, durationMs, seedsPerSecond: rate() }))
  } else {
    yield* Console.log(`${line()}; ${total.operations} operations, ${total.requests} requests`)
    for (const broken of summaryOf(failures)) yield* Console.log(broken)
    yield* Effect.forEach(failures.slice(0, shownFailures), (failure) => explainFailure(subject, failure), {
      discard: true
    })
  }
  return failures.length === 0
})

const command = Command.make("simulate", {
  seeds: Flag.Int("seeds").pipe(Flag.withDescription("How many seeds to run"), Flag.withDefault(2_000)),
  from: Flag.Int("from").pipe(Flag.withDescription("The first of them"), Flag.withDefault(1)),
  seed: Flag.Int("seed").pipe(Flag.withDescription("Runs only this one, and shows its trace"), Flag.optional),
  jobs: Flag.Int("jobs").pipe(
    Flag.withDescription("In how many processes"),
    Flag.withDefault(availableParallelism())
  ),
  untilFailure: Flag.Boolean("until-failure").pipe(
    Flag.withDescription("Ends with the first seed that fails; in one process"),
    Flag.withDefault(false)
  ),
  profile: Flag.Literals("profile", ["ordinary", "wide"]).pipe(
    Flag.withDescription(
      "Which programs are drawn; `wide`: over storages that fail, hang and die, with two providers, and by every method"
    ),
    Flag.withDefault("ordinary")
  ),
  fault: Flag.String("fault").pipe(Flag.withDescription("Plants this fault, by its name"), Flag.optional),
  json: Flag.Boolean("json").pipe(Flag.withDescription("Prints the result as JSON"), Flag.withDefault(false))
}, ({ fault, from, jobs, json, profile, seed, seeds, untilFailure }) => {
  const subject: Subject = { profile, fault: faultOf(Option.getOrElse(fault, () => "")) }
  return Effect.map(
    Option.match(seed, {
      onNone: () =>
        runMany(subject, { from, seeds, jobs: Math.max(1, jobs), isUntilFailure: untilFailure, isJson: json }),
      onSome: (seed) => runOne(subject, seed, json)
    }),
    (isFine) => {
      if (!isFine) process.exitCode = 1
    }
  )
})

/** The fault of this name; none for no name. */
const faultOf = (name: string): Fault | undefined => {
  const fault = faults.find((item) => item.name === name)
  if (fault === undefined && name !== "") throw new Error(`there is no fault "${name}"`)
  return fault
}

const [mode, from, to, stride, profile, fault] = process.argv.slice(2)
if (mode === "worker") {
  // the parent is gone
  const leave = () => process.exit(1)
  process.once("disconnect", leave)
  NodeRuntime.runMain(
    runSeeds(
      { profile: profile === "wide" ? "wide" : "ordinary", fault: faultOf(fault ?? "") },
      { from: Number(from), to: Number(to), stride: Number(stride), isUntilFailure: false },
      (progress) => void process.send?.(progress)
    ).pipe(Effect.tap(() =>
      Effect.sync(() => {
        process.off("disconnect", leave)
        process.disconnect?.()
      })
    ))
  )
} else {
  Command.run(command, { version: "1" }).pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
}
