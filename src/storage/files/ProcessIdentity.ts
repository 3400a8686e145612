/**
 * Identifies this process, and tells whether another process of this host is still alive.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"

/**
 * The identity of a process. A process id alone is reused, so host and start time belong to it. Where the system does not tell all
 * of it, the host is absent, and a process without a host never counts as gone.
 */
export const ProcessIdentity = Schema.Struct({
  /** The host since its last boot, and the namespace of the process id: containers have their own. */
  host: Schema.optionalKey(Schema.String),
  pid: Schema.optionalKey(Schema.Int),
  /** When the process started, in units of the system. */
  started: Schema.optionalKey(Schema.String)
})

export type ProcessIdentity = typeof ProcessIdentity.Type

/** This process, and what it can tell about others. */
export interface Processes {
  readonly self: ProcessIdentity
  /** Whether a process was on this host and has ended for certain. */
  readonly isGone: (other: ProcessIdentity) => Effect.Effect<boolean>
}

// oxlint-disable-next-line eslint/no-restricted-globals -- nothing else tells the process id; absent where there is no process
const nodeProcess: Partial<typeof globalThis.process> | undefined = globalThis.process

/** Whether no process has this id. A process that may not be signalled exists. */
const hasNoProcess = (pid: number): boolean => {
  if (nodeProcess?.kill === undefined) return false
  try {
    nodeProcess.kill(pid, 0)
    return false
  } catch (error) {
    return Predicate.hasProperty(error, "code") && error.code === "ESRCH"
  }
}

/** Parses `/proc/{pid}/stat`, in which the name in parentheses can contain anything. */
const parseStat = (text: string): { readonly pid: number; readonly state: string; readonly started: string } => {
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ")
  return { pid: Number.parseInt(text, 10), state: fields[0] ?? "", started: fields[19] ?? "" }
}

const hasEnded = (state: string): boolean => state === "Z" || state === "X"

/** Without a reliable identity no process counts as gone, as it may be on another host or in a container: its lease has to expire. */
const unidentified: Processes = {
  self: nodeProcess?.pid === undefined ? {} : { pid: nodeProcess.pid },
  isGone: () => Effect.succeed(false)
}

/** On Linux, from `/proc`, if that is of this process's namespace and readable. */
const onLinux = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const { pid, started } = yield* statOf(fs, "self")
  if (pid !== nodeProcess?.pid) return unidentified
  const host = [
    yield* fs.readFileString("/proc/sys/kernel/hostname"),
    yield* fs.readFileString("/proc/sys/kernel/random/boot_id"),
    yield* fs.readLink("/proc/self/ns/pid"),
    // start times are relative to it; Linux before 5.6 has none
    yield* Effect.orElseSucceed(fs.readLink("/proc/self/ns/time"), () => "")
  ].map((text) => text.trim()).join(" ")
  return new LinuxProcesses(fs, { host, pid, started })
})

const statOf = (fs: FileSystem.FileSystem, pid: number | "self") =>
  Effect.map(fs.readFileString(`/proc/${pid}/stat`), parseStat)

class LinuxProcesses implements Processes {
  readonly self: ProcessIdentity
  readonly #fs: FileSystem.FileSystem

  constructor(fs: FileSystem.FileSystem, self: ProcessIdentity) {
    this.self = self
    this.#fs = fs
  }

  isGone(other: ProcessIdentity): Effect.Effect<boolean> {
    const { host, pid, started } = other
    if (host !== this.self.host || pid === undefined) return Effect.succeed(false)
    return Effect.match(statOf(this.#fs, pid), {
      onSuccess: (there) => hasEnded(there.state) || (started !== undefined && started !== there.started),
      // its entry may be hidden from this user
      onFailure: () => hasNoProcess(pid)
    })
  }
}

/** Identifies processes. Read when a storage is built; tests replace it. */
export const CurrentProcess = Context.Reference<Effect.Effect<Processes, never, FileSystem.FileSystem>>(
  "aden-credentials/internal/CurrentProcess",
  { defaultValue: () => Effect.orElseSucceed(onLinux, () => unidentified) }
)
