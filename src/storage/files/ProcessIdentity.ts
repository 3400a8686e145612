/**
 * Which process this is, and whether another one of this host is still there.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"

/**
 * A process, told apart from all others, before and after: a process id alone is used again. Where a system does not tell all
 * of it the host is absent, and a process without a host is never taken to be gone.
 */
export const ProcessIdentity = Schema.Struct({
  /** The host as it runs since it was started, and the space its process ids are from: containers have their own. */
  host: Schema.optionalKey(Schema.String),
  pid: Schema.optionalKey(Schema.Int),
  /** When the process started, in the system's own measure. */
  started: Schema.optionalKey(Schema.String)
})

export type ProcessIdentity = typeof ProcessIdentity.Type

/** What tells the processes of this host apart. */
export interface Processes {
  readonly self: ProcessIdentity
  /** Whether a process was on this host and has certainly ended. */
  readonly isGone: (other: ProcessIdentity) => Effect.Effect<boolean>
}

// oxlint-disable-next-line eslint/no-restricted-globals -- which process this is nobody else tells; where there is none it is absent
const nodeProcess: Partial<typeof globalThis.process> | undefined = globalThis.process

/** Whether the system says that no process has this id. One that may not be signalled is there. */
const hasNoProcess = (pid: number): boolean => {
  if (nodeProcess?.kill === undefined) return false
  try {
    nodeProcess.kill(pid, 0)
    return false
  } catch (error) {
    return Predicate.hasProperty(error, "code") && error.code === "ESRCH"
  }
}

/** Of the text of `/proc/{pid}/stat`: the name in parentheses may hold anything. */
const parseStat = (text: string): { readonly pid: number; readonly state: string; readonly started: string } => {
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ")
  return { pid: Number.parseInt(text, 10), state: fields[0] ?? "", started: fields[19] ?? "" }
}

const hasEnded = (state: string): boolean => state === "Z" || state === "X"

/** What cannot be told from a process of another host or container, of whatever name, is not gone: its lease has to end. */
const untold: Processes = {
  self: nodeProcess?.pid === undefined ? {} : { pid: nodeProcess.pid },
  isGone: () => Effect.succeed(false)
}

/** Linux tells all of it in `/proc`, where that is this process's own and all of it can be read. */
const onLinux = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const statOf = (pid: number | "self") => Effect.map(fs.readFileString(`/proc/${pid}/stat`), parseStat)
  const { pid, started } = yield* statOf("self")
  if (pid !== nodeProcess?.pid) return untold
  const host = [
    yield* fs.readFileString("/proc/sys/kernel/hostname"),
    yield* fs.readFileString("/proc/sys/kernel/random/boot_id"),
    yield* fs.readLink("/proc/self/ns/pid"),
    // in which a start is another time; Linux before 5.6 has none
    yield* Effect.orElseSucceed(fs.readLink("/proc/self/ns/time"), () => "")
  ].map((text) => text.trim()).join(" ")
  return {
    self: { host, pid, started },
    isGone: Effect.fnUntraced(function*(other) {
      if (other.host !== host || other.pid === undefined) return false
      const there = yield* Effect.option(statOf(other.pid))
      return Option.isSome(there)
        ? hasEnded(there.value.state) || (other.started !== undefined && other.started !== there.value.started)
        // it may be hidden from this user
        : hasNoProcess(other.pid)
    })
  } satisfies Processes
})

/** The processes as this one sees them. Read when a storage is built. */
export const CurrentProcess = Context.Reference<Effect.Effect<Processes, never, FileSystem.FileSystem>>(
  "aden-credentials/internal/CurrentProcess",
  { defaultValue: () => Effect.orElseSucceed(onLinux, () => untold) }
)
