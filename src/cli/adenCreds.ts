/**
 * The command line `aden-creds`: its commands, and how a run ends.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Completions from "effect/cli/Completions"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as MutableRef from "effect/MutableRef"
import * as Option from "effect/Option"
import * as References from "effect/References"
import { printable } from "../util/sanitize.ts"
import type { OutputStream } from "./CommandOutput.ts"
import { CommandOutput } from "./CommandOutput.ts"
import { adoptCommand } from "./commands/adopt.ts"
import { deleteCommand } from "./commands/delete.ts"
import { doctorCommand } from "./commands/doctor.ts"
import { emulatorCommand } from "./commands/emulator.ts"
import { execCommand } from "./commands/exec.ts"
import { explainCommand } from "./commands/explain.ts"
import { gitCredentialCommand } from "./commands/gitCredential.ts"
import { healthCommand } from "./commands/health.ts"
import { keysCommand } from "./commands/keys.ts"
import { listCommand } from "./commands/list.ts"
import { migrateCommand } from "./commands/migrate.ts"
import { refreshCommand } from "./commands/refresh.ts"
import { syncCommand } from "./commands/sync.ts"
import { tokenCommand } from "./commands/token.ts"
import { validateCommand } from "./commands/validate.ts"
import { endWith, ExitStatus, Outcome } from "./ExitStatus.ts"
import { report, reportCause, withoutPasswords } from "./failureReport.ts"
import { rootCommand } from "./rootCommand.ts"
import { version } from "./version.ts"

/**
 * What a run needs: the services of a platform (`NodeServices.layer`) and an HTTP client.
 *
 * @since 0.1.0
 * @category running
 */
export type AdenCredsEnvironment = Command.Environment | HttpClient.HttpClient

const command = rootCommand.pipe(Command.withSubcommands([
  syncCommand,
  listCommand,
  tokenCommand,
  refreshCommand,
  validateCommand,
  deleteCommand,
  adoptCommand,
  explainCommand,
  healthCommand,
  execCommand,
  gitCredentialCommand,
  keysCommand,
  migrateCommand,
  doctorCommand,
  emulatorCommand
])).pipe(
  Command.validate(({ directory, storage }) =>
    Option.isSome(directory) && Option.isSome(storage)
      ? Effect.fail(new CliError.ValidationError({ message: "--directory and --storage cannot be given together" }))
      : Effect.void
  )
)

/**
 * Runs `aden-creds` with these arguments, and answers the exit status: one of `ExitStatus`, or that of the command which `exec`
 * ran. Results and failures are printed on stdout and stderr.
 *
 * Settings come from the `ConfigProvider`: `ADEN_API_URL`, `ADEN_API_KEY`, `ADEN_TENANT_ID`, `ADEN_ISSUER`, `HIVE_CREDENTIAL_KEY` and
 * `HIVE_HOME`.
 *
 * @example
 * ```ts
 * import * as NodeServices from "@effect/platform-node/NodeServices"
 * import { runAdenCreds } from "aden-credentials/cli"
 * import { Effect } from "effect"
 * import { FetchHttpClient } from "effect/http"
 *
 * const program = Effect.gen(function*() {
 *   const status = yield* runAdenCreds(["list", "--json"])
 *   return status === 0
 * }).pipe(Effect.provide([NodeServices.layer, FetchHttpClient.layer]))
 * ```
 *
 * @since 0.1.0
 * @category running
 */
export const runAdenCreds = (args: ReadonlyArray<string>): Effect.Effect<number, never, AdenCredsEnvironment> =>
  Effect.suspend(() => {
    const outcome: MutableRef.MutableRef<number | undefined> = MutableRef.make(undefined)
    return Command.runWith(command, { version })(args).pipe(
      Effect.catch((error) => reportUsage(error, args)),
      Effect.catchCause((cause) => reportCause(cause, { json: asksForJson(args) })),
      Effect.provide(presentation),
      Effect.provideService(Outcome, outcome),
      // the status is known even when the run is interrupted and its caller is not
      Effect.interruptible,
      Effect.exit,
      Effect.map((exit) => MutableRef.get(outcome) ?? (Exit.isSuccess(exit) ? ExitStatus.done : ExitStatus.interrupted))
    )
  })

// internal

/** Works on arguments that cannot be parsed, too. What follows `--` is not a flag. */
const asksForJson = (args: ReadonlyArray<string>): boolean =>
  Arr.takeWhile(args, (arg) => arg !== "--").some((arg) => /^--json(?:=(?:true|1|y|yes|on))?$/.test(arg))

/** Reports wrong usage. Help that is shown without being asked for is wrong usage too. */
const reportUsage = Effect.fnUntraced(function*(error: CliError.CliError, args: ReadonlyArray<string>) {
  yield* endWith(ExitStatus.usage)
  const path = error._tag === "ShowHelp" ? error.commandPath : [rootCommand.name]
  const [first] = error._tag === "ShowHelp" ? error.errors : [error]
  const suggestion = first !== undefined && "suggestions" in first ? first.suggestions[0] : undefined
  yield* report({
    tag: first?._tag ?? "MissingSubcommand",
    message: withoutPasswords(printable(first?.message.split("\n", 1)[0] ?? `${path.join(" ")} needs a command`)),
    remedy: (suggestion === undefined ? "" : `Did you mean ${suggestion}? `) + `See: ${path.join(" ")} --help`,
    exitCode: ExitStatus.usage,
    isRetryable: false
  }, { json: asksForJson(args) })
})

/** Prints help, the version and completions. Output that cannot be written is a failure here too. */
const printer: Effect.Effect<(text: string) => Effect.Effect<void>, never, CommandOutput | Outcome> = Effect.map(
  Effect.context<CommandOutput | Outcome>(),
  (context) => (text) =>
    CommandOutput.use(({ stdout }) => stdout.write(`${text}\n`)).pipe(
      Effect.catch((error) => reportCause(Cause.fail(error), { json: false })),
      Effect.provideContext(context)
    )
)

const presenter: Effect.Effect<CliOutput.Presenter, never, CommandOutput | Outcome> = Effect.zipWith(
  CommandOutput,
  printer,
  ({ stderr, stdout }, print) => {
    const formatterOf = ({ canColor }: OutputStream) => CliOutput.defaultFormatter({ colors: canColor })
    return {
      present: (event) => {
        switch (event._tag) {
          case "Version":
            return print(formatterOf(stdout).formatVersion(event.name, event.version))
          case "Help":
            return event.reason === "Requested"
              ? print(formatterOf(stdout).formatHelpDoc(event.helpDoc))
              : Effect.ignore(stderr.write(`${formatterOf(stderr).formatHelpDoc(event.helpDoc)}\n\n`))
          case "InvalidInvocation":
            return Effect.void // reported with the status, see reportUsage
        }
      }
    }
  }
)

/**
 * The flags that every command has. `--wizard` is left out, because it asks questions and scripts use the same commands.
 * `--completions` is Effect's flag with another action, because Effect's own would bypass `CommandOutput`.
 */
const builtIns = Effect.map(printer, (print) => [
  GlobalFlag.Help,
  GlobalFlag.Version,
  GlobalFlag.Action({
    flag: GlobalFlag.Completions.flag,
    run: (shell, { command }) =>
      Option.match(shell, {
        onNone: () => Effect.void,
        onSome: (shell) => print(Completions.generate(command.name, shell, Completions.fromCommand(command)))
      })
  }),
  GlobalFlag.LogLevel
])

/** One line per message on stderr: `warning: Serving a cached credential that Aden did not confirm (credential=github)`. */
const logger = Logger.withConsoleError(
  Logger.map(Logger.formatStructured, ({ annotations, level, message }) => {
    const details = Object.entries(annotations).map(([name, value]) => `${name}=${String(value)}`)
    const text = typeof message === "string" ? message : JSON.stringify(message)
    return printable(
      `${level === "WARN" ? "warning" : level.toLowerCase()}: ${text}${
        details.length === 0 ? "" : ` (${details.join(", ")})`
      }`
    )
  })
)

const presentation = Layer.mergeAll(
  Layer.effect(CliOutput.Presenter, presenter),
  Layer.unwrap(Effect.map(builtIns, (builtIns) => CliConfig.layer({ builtIns }))),
  Logger.layer([logger]),
  Layer.succeed(References.MinimumLogLevel, "Warn")
).pipe(Layer.provideMerge(CommandOutput.layer))
