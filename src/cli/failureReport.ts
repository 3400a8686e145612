/**
 * What a command prints when it fails: one line on what is wrong and one on how to fix it. A stack trace only on request, and
 * never a secret.
 */
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import { secretOf, secretSource } from "../encryption/secretSource.ts"
import type { Actionable } from "../errors/Actionable.ts"
import { insecureUrlRemedy } from "../errors/ConfigError.ts"
import type { AdenConfigError } from "../errors/ConfigError.ts"
import { cleanMessage, printable } from "../util/sanitize.ts"
import { maskSecrets } from "../util/secretWords.ts"
import type { CommandFailure } from "./CommandFailure.ts"
import { CommandOutput } from "./CommandOutput.ts"
import { ErrorDocument } from "./documents.ts"
import type { ErrorDetails } from "./documents.ts"
import { endWith, ExitStatus, exitStatusOf } from "./ExitStatus.ts"
import { documentText, rootCommand } from "./rootCommand.ts"

/** A failure as `--json` shows it. */
export const detailsOf = (error: CommandFailure): ErrorDetails => {
  const { retryAfter }: Actionable = error
  return {
    tag: error._tag,
    message: messageOf(error),
    remedy: remedyOf(error),
    exitCode: exitStatusOf(error),
    isRetryable: error.isRetryable,
    ...(retryAfter === undefined ? {} : { retryAfterMs: retryAfter }),
    ...("id" in error && error.id !== undefined ? { id: error.id } : {}),
    ...("ref" in error && error.ref !== undefined ? { ref: refOf(error.ref, error._tag) } : {}),
    ...("setting" in error ? { setting: error.setting } : {}),
    ...("choices" in error ? { choices: error.choices } : {}),
    ...("reauthorizationUrl" in error && error.reauthorizationUrl !== undefined
      ? { reauthorizationUrl: error.reauthorizationUrl }
      : {})
  }
}

/** A ref that names no credential may be a token in its place. */
const refOf = (ref: string, tag: CommandFailure["_tag"]): string =>
  tag === "CredentialNotFound" ? maskSecrets(printable(ref)) : ref

// some messages end in their remedy, which has a line of its own here
const messageOf = (error: CommandFailure): string => {
  if (error._tag === "AdenConfigError") return `${error.setting} ${error.detail}`
  if (error._tag !== "CredentialStorageError" || error.reason._tag !== "StorageInsecure") return error.message
  const command = printable(`; run: ${error.reason.mend}`)
  return error.message.endsWith(command) ? error.message.slice(0, -command.length) : error.message
}

/** The remedy at a prompt, where it differs from that in a program: there are no layers or options, and nothing retries. */
const remedyOf = (error: CommandFailure): string => {
  switch (error._tag) {
    case "AdenConfigError":
      return remedyOfSetting(error)
    case "AdenUnavailable":
      return error.reason._tag === "AdenProtocolError"
        ? error.remedy
        : "Check ADEN_API_URL and the network, then run the command again."
    case "CredentialKeyNotFound":
      return "Save it again with a token in it, or name another credential."
    case "CredentialStorageError":
      return error.reason._tag === "StorageRefused"
        ? "The storage cannot hold what Aden sent. Make it smaller there."
        : error.remedy
    case "NoProvider":
      return "Only credentials that come from Aden can be refreshed; save a new value for your own."
    case "RateLimited":
      return "Wait for the time given, then run the command again."
    default:
      return error.remedy
  }
}

const remedyOfSetting = ({ remedy, setting }: AdenConfigError): string => {
  switch (setting) {
    case "ADEN_API_URL":
      return remedy === insecureUrlRemedy ? "Use https; plain http is only for a server on this machine." : remedy
    case "HOME":
      return "Set it, or HIVE_HOME; or set HIVE_CREDENTIAL_KEY and name the directory with --directory."
    default:
      return remedy
  }
}

/** A text without the passwords in its URLs: messages repeat a URL that was given in the wrong place. */
export const withoutPasswords = (text: string): string =>
  text.replace(/\b([a-z][a-z0-9+.-]*:\/\/)[^\s"]*@/gi, "$1").replace(/([?&]password=)[^&\s"]*/gi, "$1<redacted>")

/** Writes two lines to stderr: what is wrong, and how to fix it. */
export const complain = Effect.fnUntraced(function*(message: string, remedy: string) {
  const { stderr } = yield* CommandOutput
  const { bold, red } = stderr.style
  yield* Effect.ignore(stderr.write(`${bold(red("error:"))} ${printable(message)}\n  ${printable(remedy)}\n`))
})

/** Reports a failure; with `--json` on stdout too. */
export const report = Effect.fnUntraced(function*(details: ErrorDetails, options: { readonly json: boolean }) {
  const { stdout } = yield* CommandOutput
  yield* complain(details.message, details.remedy)
  if (options.json) yield* Effect.ignore(stdout.write(documentText(ErrorDocument, { error: details })))
})

/** Reports why a command failed, and sets the exit status. An interruption is not a failure. */
export const reportCause = Effect.fnUntraced(function*<E extends CommandFailure>(
  cause: Cause.Cause<E>,
  options: { readonly json: boolean }
) {
  if (Cause.hasInterruptsOnly(cause)) return yield* Effect.interrupt
  const error = Cause.findErrorOption(cause)
  yield* endWith(Option.match(error, { onNone: () => ExitStatus.unexpected, onSome: exitStatusOf }))
  yield* report(Option.match(error, { onNone: () => unexpected, onSome: detailsOf }), options)
  if (yield* isDebugging) yield* printDetails(cause)
})

/** Makes a command report its failure instead of failing. */
export const reportingFailures = <A, E extends CommandFailure, R>(command: Effect.Effect<A, E, R>) =>
  Effect.catchCause(command, (cause) => Effect.flatMap(rootCommand, ({ json }) => reportCause(cause, { json })))

/** A defect. Its details are printed on request only. */
const unexpected: ErrorDetails = {
  tag: "UnexpectedError",
  message: "Something went wrong that should not have",
  remedy: "Run it again with ADEN_CREDS_DEBUG=1 to see the details, and report them.",
  exitCode: ExitStatus.unexpected,
  isRetryable: false
}

const isDebugging = Effect.gen(function*() {
  const level = yield* References.MinimumLogLevel
  const setting = yield* Effect.orElseSucceed(Config.String("ADEN_CREDS_DEBUG"), () => "")
  return setting !== "" || LogLevel.isLessThanOrEqualTo(level, "Debug")
})

/** The cause with its stack traces, line by line without secrets. */
const printDetails = Effect.fnUntraced(function*(cause: Cause.Cause<unknown>) {
  const { stderr } = yield* CommandOutput
  const secrets = yield* settingsNeverShown
  const lines = Cause.pretty(cause).split("\n").map((line) => `  ${withoutPasswords(cleanMessage(line, secrets))}\n`)
  yield* Effect.ignore(stderr.write(lines.join("")))
})

const settingsNeverShown = Effect.map(
  Effect.forEach(
    ["ADEN_API_KEY", "HIVE_CREDENTIAL_KEY"],
    // a command is not run again: it may be what failed
    (name) =>
      Effect.map(
        Effect.option(Effect.flatMap(secretSource(name), (source) =>
          Option.isNone(source) || source.value._tag === "Command"
            ? Effect.succeedNone
            : Effect.asSome(secretOf(source.value)))),
        Option.flatten
      )
  ),
  (values) =>
    values.flatMap((value) =>
      Option.isSome(value) ? Redacted.value(value.value).split(",").filter((secret) => secret !== "") : []
    )
)
