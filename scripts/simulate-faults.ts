/**
 * Shows that the simulation finds what it is there to find: puts one fault at a time into a copy of the store and runs seeds
 * until one fails.
 *
 *     npm run simulate:faults
 *     npm run simulate:faults -- --fault "serves what has expired"
 *
 * Exits 1 when a fault is not found, or when the code it is put into has changed so that it cannot be.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, FileSystem, Option, Path, Schema, Stream } from "effect"
import { Command, Flag } from "effect/cli"
import { ChildProcess } from "effect/process"
import { availableParallelism } from "node:os"

/** Some code of the store that is replaced. It has to be there exactly once. */
interface Patch {
  readonly file: string
  readonly from: string
  readonly to: string
}

interface Fault {
  readonly name: string
  readonly patches: readonly [Patch, ...Array<Patch>]
}

const entry = "src/internal/CredentialEntry.ts"
const flights = "src/internal/SingleFlight.ts"
const renewal = "src/internal/Renewal.ts"
const synchronization = "src/internal/Synchronization.ts"

const faults: readonly [Fault, ...Array<Fault>] = [
  {
    name: "serves what has expired",
    patches: [
      {
        file: entry,
        from: "if (now >= this.#expiresAt || this.#isRejected) return \"expired\"",
        to: "if (this.#isRejected) return \"expired\""
      },
      { file: entry, from: "return Math.min(\n      this.#expiresAt,\n", to: "return Math.min(\n" }
    ]
  },
  {
    name: "forgets how far Aden's clock is ahead",
    patches: [{
      file: "src/internal/freshness.ts",
      from: "DateTime.toEpochMillis(credential.expiresAt) - offset",
      to: "DateTime.toEpochMillis(credential.expiresAt)"
    }]
  },
  {
    name: "serves what is older than maxStale",
    patches: [{ file: entry, from: "this.confirmedAt + maxStale", to: "Infinity" }]
  },
  {
    name: "serves what was invalidated",
    patches: [{ file: entry, from: "this.#rejected = this.credential?.defaultKey?.value", to: "" }]
  },
  {
    name: "ignores that it is blocked",
    patches: [
      { file: entry, from: "if (this.state.blockedSince !== undefined) return \"blocked\"", to: "" },
      {
        file: entry,
        from: "if (this.state.blockedSince === undefined && !this.#isRejected)",
        to: "if (!this.#isRejected)"
      }
    ]
  },
  {
    name: "checks a blocked one at every read",
    patches: [{ file: renewal, from: "entry.coolDownLeft(now) <= 0 &&\n      now >= entry.nextCheckAt", to: "true" }]
  },
  {
    name: "asks for every caller, without single flight or lock",
    patches: [
      {
        file: flights,
        from: "return flight === undefined\n          ? this.#launch(key, effect, this.#current,",
        to: "return this.#current.size >= 0\n          ? this.#launch(key, effect, this.#current,"
      },
      {
        file: renewal,
        from: "table.storage.withLock(entry.id, this.#renew(entry, force, entry.state.blockedSince !== undefined))",
        to: "this.#renew(entry, force, entry.state.blockedSince !== undefined)"
      }
    ]
  },
  {
    name: "ends a request when one of its callers leaves",
    patches: [{ file: flights, from: "if (flight.waiters > 0) return Effect.void", to: "" }]
  },
  {
    name: "goes on asking when every caller has left",
    patches: [{ file: flights, from: "if (flight.waiters > 0) return Effect.void", to: "return Effect.void" }]
  },
  {
    name: "answers a forced refresh with one from before",
    patches: [{
      file: renewal,
      from: "this.#flights.runAfresh(entry.id, this.#renewal(entry, true))",
      to: "this.#flights.run(entry.id, this.#renewal(entry, true))"
    }]
  },
  {
    name: "forgets the rate limit",
    patches: [{ file: renewal, from: "return left > 0 ? Effect.fail", to: "return left > Infinity ? Effect.fail" }]
  },
  {
    name: "forgets the back-off",
    patches: [{
      file: entry,
      from: "this.nextAttemptAt = yield* this.#backOff.until(now, { _tag: \"Failed\", error: error._tag })",
      to: "yield* this.#backOff.until(now, { _tag: \"Failed\", error: error._tag })"
    }]
  },
  {
    name: "waits without end",
    patches: [{ file: renewal, from: "duration: this.#deadline,\n", to: "duration: \"1 hour\",\n" }]
  },
  {
    name: "lets an old answer undo what the program did",
    patches: [{
      file: renewal,
      from: "if (entry.epoch !== asked.epoch) return credential\n",
      to: ""
    }, { file: renewal, from: "{ expectedGeneration: generation, state: saved }", to: "{ state: saved }" }]
  },
  {
    name: "lets what a sync fetched win over what is newer",
    patches: [
      {
        file: synchronization,
        from: "expectedGenerations: new Map(current.map(({ credential, generation }) => [credential.id, generation])),",
        to: ""
      }
    ]
  },
  {
    name: "lets a sync overwrite the program's own",
    patches: [{
      file: synchronization,
      from: "Option.isSome(stored.success) && this.#table.providerOf(stored.success.value) !== provider",
      to: "Option.isSome(stored.success) && provider === undefined"
    }]
  },
  {
    name: "removes what one answer says is missing",
    patches: [{
      file: renewal,
      from: "if (listed.some((item) => item.provider === provider && item.account.id === entry.id))",
      to: "if (listed.length < 0)"
    }]
  },
  {
    name: "leaves its requests behind when it ends",
    patches: [{ file: renewal, from: "return this.#flights.shutdown(grace)", to: "return Effect.void" }]
  }
]

// ---------------------------------------------------------------------------------------------------------------------
// One fault
// ---------------------------------------------------------------------------------------------------------------------

interface Finding {
  readonly fault: string
  /** The rule that was broken; absent when nothing was found. */
  readonly rule: string | undefined
  readonly firstSeed: number | undefined
  readonly seeds: number
  /** Why the fault could not be put in, or its seeds not be run. */
  readonly problem: string | undefined
}

/** What `simulate.ts --json` prints. */
const Report = Schema.fromJsonString(Schema.Struct({
  runs: Schema.Int,
  failures: Schema.Array(Schema.Struct({ seed: Schema.Int, violation: Schema.Struct({ rule: Schema.String }) }))
}))

const root = new URL("..", import.meta.url)

/** What a copy consists of; packages are found in the repository, inside which the copies are. */
const copied = ["src", "test/simulation", "scripts/simulate.ts"]

const putIn = Effect.fnUntraced(function*(folder: string, patches: ReadonlyArray<Patch>) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  for (const { file, from, to } of patches) {
    const source = yield* fs.readFileString(path.join(folder, file))
    const count = source.split(from).length - 1
    if (count !== 1) return `${file} has ${count} times, not once: ${from}`
    yield* fs.writeFileString(path.join(folder, file), source.replace(from, () => to))
  }
  return undefined
})

const find = Effect.fnUntraced(function*(fault: Fault, seeds: number) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const home = yield* path.fromFileUrl(root)
  const none: Finding = { fault: fault.name, rule: undefined, firstSeed: undefined, seeds: 0, problem: undefined }
  const folder = yield* fs.makeTempDirectoryScoped({ directory: home, prefix: ".simulation-" })
  for (const item of copied) {
    yield* fs.makeDirectory(path.dirname(path.join(folder, item)), { recursive: true })
    yield* fs.copy(path.join(home, item), path.join(folder, item))
  }
  const problem = yield* putIn(folder, fault.patches)
  if (problem !== undefined) return { ...none, problem }
  const child = yield* ChildProcess.make(process.execPath, [
    "--stack-trace-limit=0",
    "--import",
    "tsx",
    path.join(folder, "scripts/simulate.ts"),
    "--until-failure",
    "--seeds",
    String(seeds),
    "--json"
  ], { cwd: home, stderr: "ignore" })
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
  return `${fault.padEnd(54)}${rule.padEnd(46)}${first.padStart(10)}${seeds.padStart(11)}`
}

const rowOf = ({ fault, firstSeed, problem, rule, seeds }: Finding): string =>
  problem === undefined
    ? row([fault, rule ?? "NOT FOUND", String(firstSeed ?? "-"), String(seeds)])
    : `${fault.padEnd(54)}${problem}`

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
