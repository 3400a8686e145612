/**
 * Runs a command in place of this one: it gets the standard streams and signals, and its exit status is passed on.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { access, constants, stat } from "node:fs/promises"
import { constants as system } from "node:os"
import process from "node:process"
import { CommandNotRun } from "./CommandFailure.ts"

/** The environment of this process, to be passed to the command. The program itself reads no settings from it. */
export const inheritedEnvironment: Effect.Effect<Readonly<Record<string, string | undefined>>> = Effect.sync(() =>
  process.env
)

/**
 * Fails when there is no such command, before a token is fetched for it. A command that passes may still fail to start. Windows
 * looks in more places and under more names, so nothing is checked there.
 */
export const requireCommand = Effect.fnUntraced(
  function*(command: string, environment: Readonly<Record<string, string | undefined>>) {
    const folders = environment["PATH"]?.split(":")
    if (process.platform === "win32" || folders === undefined) return
    // an empty name would mean the folders of PATH themselves
    const byPath = command === "" || command.includes("/")
    const faults = yield* Effect.forEach(
      byPath ? [command] : folders.map((folder) => `${folder || "."}/${command}`),
      faultOf
    )
    if (faults.includes(undefined)) return
    // a file in PATH that cannot be run outweighs folders in which there is none
    const code = byPath ? faults[0] : faults.find((code) => code === "EACCES") ?? "ENOENT"
    return yield* CommandNotRun.from(command, { code })
  }
)

/** Why a file cannot be run; `undefined` when it can, or when only running it will tell. */
const faultOf = (file: string): Effect.Effect<string | undefined> =>
  Effect.promise(() =>
    access(file, constants.X_OK).then(() => stat(file)).then(
      // the execute bit of a folder means that it can be entered
      (found) => found.isFile() ? undefined : "EACCES",
      (error: NodeJS.ErrnoException) => ["ENOENT", "ENOTDIR", "EACCES"].find((code) => code === error.code)
    )
  )

/** The signals that are passed on. A terminal sends some of them to the whole foreground group, and so to the command too. */
const signals: ReadonlyArray<NodeJS.Signals> = process.platform === "win32"
  ? ["SIGINT", "SIGTERM", "SIGBREAK"]
  : ["SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGWINCH"]
const terminalSignals: ReadonlySet<NodeJS.Signals> = new Set(["SIGINT", "SIGQUIT", "SIGBREAK", "SIGWINCH"])

/**
 * Runs a command to its end and passes its exit status to `onEnd`: 128 plus the number of the signal, when a signal ended it.
 * An interruption ends the command too, unless a signal already did, and waits for it: the status is always that of the
 * command.
 */
export const runInPlace = <R>(options: {
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly onEnd: (status: number) => Effect.Effect<void, never, R>
}): Effect.Effect<void, CommandNotRun, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.suspend(() => {
      const { end, ended } = start(options)
      return restore(Deferred.await(ended)).pipe(
        Effect.onInterrupt(() => {
          end()
          return Effect.ignore(Effect.flatMap(Deferred.await(ended), options.onEnd))
        }),
        Effect.flatMap(options.onEnd)
      )
    })
  )

const start = ({ args, command, environment }: {
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly environment: Readonly<Record<string, string | undefined>>
}) => {
  const ended = Deferred.makeUnsafe<number, CommandNotRun>()
  let isSignalled = false
  let kill = (_: NodeJS.Signals): void => undefined
  const isAtTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY
  const passOn = (signal: NodeJS.Signals) => {
    isSignalled = true
    if (!isAtTerminal || !terminalSignals.has(signal)) kill(signal)
  }
  // before all other listeners: one of them interrupts the run because of the same signal
  for (const signal of signals) process.prependListener(signal, passOn)
  const finish = (result: Effect.Effect<number, CommandNotRun>) => {
    for (const signal of signals) process.removeListener(signal, passOn)
    Deferred.doneUnsafe(ended, result)
  }
  const fail = (error: unknown) => finish(Effect.fail(CommandNotRun.from(command, error)))
  try {
    const child = spawn(command, args, { stdio: "inherit", env: environment })
    kill = (signal) => child.kill(signal)
    // a running process emits it too, when a signal cannot be delivered
    child.on("error", (error) => {
      if (child.pid === undefined) fail(error)
    })
    child.once("exit", (code, signal) => finish(Effect.succeed(code ?? 128 + (signal ? system.signals[signal] : 0))))
  } catch (error) {
    // an argument or a value that cannot be passed to a process, such as one with a null character
    fail(error)
  }
  return {
    ended,
    end: () => {
      if (!isSignalled) kill("SIGTERM")
    }
  }
}
