/**
 * Where commands write: results to stdout, everything else to stderr. Colours and cursor movements are only sent to terminals.
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as PlatformError from "effect/PlatformError"
import * as Predicate from "effect/Predicate"
import type * as Sink from "effect/Sink"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as Terminal from "effect/Terminal"
import { OutputFailed } from "./CommandFailure.ts"

/** How text is styled: not at all without a terminal, or when no colour is wanted. */
export interface Style {
  readonly bold: (text: string) => string
  readonly dim: (text: string) => string
  readonly red: (text: string) => string
  readonly green: (text: string) => string
  readonly yellow: (text: string) => string
}

export interface OutputStream {
  readonly isTerminal: boolean
  /** Whether what was written can be overwritten. */
  readonly canRewrite: boolean
  readonly canColor: boolean
  readonly style: Style
  /** Writes text unchanged. A reader that went away (`| head -1`) is not a failure: it has what it wanted. */
  readonly write: (text: string) => Effect.Effect<void, OutputFailed>
}

export class CommandOutput extends Context.Service<CommandOutput, {
  readonly stdout: OutputStream
  readonly stderr: OutputStream
  /** The width of the terminal, in columns. */
  readonly columns: Effect.Effect<number>
}>()("aden-credentials/cli/CommandOutput") {
  static readonly layer: Layer.Layer<CommandOutput, never, Stdio.Stdio | Terminal.Terminal> = Layer.effect(
    CommandOutput,
    Effect.gen(function*() {
      const stdio = yield* Stdio.Stdio
      const terminal = yield* Terminal.Terminal
      const noColor = yield* environment("NO_COLOR")
      const isDumb = (yield* environment("TERM")) === "dumb"
      const stream = (
        isTerminal: boolean,
        sink: () => Sink.Sink<void, string, never, PlatformError.PlatformError>
      ): OutputStream => {
        const canRewrite = isTerminal && !isDumb
        const canColor = canRewrite && noColor === ""
        return {
          isTerminal,
          canRewrite,
          canColor,
          style: canColor ? coloured : plain,
          write: (text) =>
            Stream.run(Stream.succeed(text), sink()).pipe(
              Effect.catch((error) =>
                isReaderGone(error) ? Effect.void : Effect.fail(new OutputFailed({ detail: detailOf(error) }))
              )
            )
        }
      }
      return {
        stdout: stream(yield* stdio.stdoutIsTerminal, () => stdio.stdout()),
        stderr: stream(yield* stdio.stderrIsTerminal, () => stdio.stderr()),
        // zero when stdout is not a terminal
        columns: Effect.map(terminal.columns, (columns) => columns > 0 ? columns : 80)
      }
    })
  )
}

const environment = (name: string): Effect.Effect<string> => Effect.orElseSucceed(Config.String(name), () => "")

const paint = (code: number) => (text: string) => `\u001b[${code}m${text}\u001b[0m`
const coloured: Style = { bold: paint(1), dim: paint(2), red: paint(31), green: paint(32), yellow: paint(33) }
const unchanged = (text: string) => text
const plain: Style = { bold: unchanged, dim: unchanged, red: unchanged, green: unchanged, yellow: unchanged }

const codeOf = (error: PlatformError.PlatformError): string => {
  const { cause } = error.reason
  return Predicate.hasProperty(cause, "code") && typeof cause.code === "string" ? cause.code : ""
}

const isReaderGone = (error: PlatformError.PlatformError): boolean =>
  ["EPIPE", "ERR_STREAM_DESTROYED", "ERR_STREAM_WRITE_AFTER_END"].includes(codeOf(error))

const detailOf = (error: PlatformError.PlatformError): string => codeOf(error) || error.reason._tag
