/**
 * Runs a command in place of this one: with its standard streams, its signals and, in the end, its exit status.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { access, constants, stat } from "node:fs/promises"
import { constants as system } from "node:os"
import process from "node:process"
import { CommandNotRun } from "./CommandFailure.ts"

/** The environment of this process. It is for the command, which is no part of the program: nothing here is read from it. */
export const inheritedEnvironment: Effect.Effect<Readonly<Record<string, string | undefined>>> = Effect.sync(() =>
  process.env
)

/**
 * Fails where nothing can be run by this name, so that nothing is asked for on its behalf. Where it does not, running it still may.
 * Windows looks in more places and under more names: there it says nothing.
 */
export const requireCommand = Effect.fnUntraced(
  function*(command: string, environment: Readonly<Record<string, string | undefined>>) {
    const folders = environment["PATH"]?.split(":")
    if (process.platform === "win32" || folders === undefined) return
    // of no name at all, each folder of PATH would be it
    const byPath = command === "" || command.includes("/")
    const faults = yield* Effect.forEach(
      byPath ? [command] : folders.map((folder) => `${folder || "."}/${command}`),
      faultOf
    )
    if (faults.includes(undefined)) return
    // in a folder of PATH, found but not to be run counts for more than not found, whatever kept it from being found
    const code = byPath ? faults[0] : faults.find((code) => code === "EACCES") ?? "ENOENT"
    return yield* CommandNotRun.from(command, { code })
  }
)

/** Why a file cannot be run; `undefined` where it can, or where only running it will tell. */
const faultOf = (file: string): Effect.Effect<string | undefined> =>
  Effect.promise(() =>
    access(file, constants.X_OK).then(() => stat(file)).then(
      // a folder may be entered, which is what its mode says
      (found) => found.isFile() ? undefined : "EACCES",
      (error: NodeJS.ErrnoException) => ["ENOENT", "ENOTDIR", "EACCES"].find((code) => code === error.code)
    )
  )

/** What is passed on. A terminal sends some to the whole foreground group by itself, and so to the command as well. */
const signals: ReadonlyArray<NodeJS.Signals> = process.platform === "win32"
  ? ["SIGINT", "SIGTERM", "SIGBREAK"]
  : ["SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGWINCH"]
const terminalSignals: ReadonlySet<NodeJS.Signals> = new Set(["SIGINT", "SIGQUIT", "SIGBREAK", "SIGWINCH"])

/**
 * Runs a command to its end and gives `onEnd` its exit status: 128 and the number of the signal where one ended it. Interrupted, it
 * ends the command too, unless a signal did that already, and waits for it: the status is the command's in any case.
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
  // first of all who listen: before the run is interrupted because of the same signal
  for (const signal of signals) process.prependListener(signal, passOn)
  const finish = (result: Effect.Effect<number, CommandNotRun>) => {
    for (const signal of signals) process.removeListener(signal, passOn)
    Deferred.doneUnsafe(ended, result)
  }
  const fail = (error: unknown) => finish(Effect.fail(CommandNotRun.from(command, error)))
  try {
    const child = spawn(command, args, { stdio: "inherit", env: environment })
    kill = (signal) => child.kill(signal)
    // one that runs emits it too, for a signal that may not be delivered
    child.on("error", (error) => {
      if (child.pid === undefined) fail(error)
    })
    child.once("exit", (code, signal) => finish(Effect.succeed(code ?? 128 + (signal ? system.signals[signal] : 0))))
  } catch (error) {
    // an argument or a value that no process can be given, such as one with a null character
    fail(error)
  }
  return {
    ended,
    end: () => {
      if (!isSignalled) kill("SIGTERM")
    }
  }
}
