/**
 * Where a secret comes from: a variable, a file or the output of a command. The last two keep it out of the environment, which
 * other processes of the same user can read.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as ChildProcess from "effect/process/ChildProcess"
import * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { AdenConfigError } from "../errors/ConfigError.ts"
import { unreadableSetting } from "../model/settings.ts"
import { cleanText } from "../util/sanitize.ts"
import { readSecretFile } from "./secretFile.ts"

/** What the environment names as the source of a secret. `setting` is the variable that names it. */
export type SecretSource =
  | { readonly _tag: "Variable"; readonly setting: string; readonly text: Redacted.Redacted<string> }
  | { readonly _tag: "File"; readonly setting: string; readonly file: string }
  | { readonly _tag: "Command"; readonly setting: string; readonly command: string }

const commandTime = "30 seconds"
const maximumOutput = 16 * 1024

const variableOf = (name: string) =>
  Effect.suspend(() => Config.withDefault(Config.Redacted(name), Redacted.make(""))).pipe(
    Effect.mapError(() => unreadableSetting(name)),
    Effect.map((text) => Redacted.value(text).trim() === "" ? Option.none() : Option.some(text))
  )

/**
 * The source of the secret `name`: the variable itself, `{name}_FILE` or `{name}_COMMAND`; none when none is set. Two of them are an
 * error, because they may hold two secrets.
 */
export const secretSource = Effect.fnUntraced(function*(
  name: string
): Effect.fn.Return<Option.Option<SecretSource>, AdenConfigError> {
  const text = yield* variableOf(name)
  const file = yield* variableOf(`${name}_FILE`)
  const command = yield* variableOf(`${name}_COMMAND`)
  const set = [
    ...(Option.isSome(text) ? [name] : []),
    ...(Option.isSome(file) ? [`${name}_FILE`] : []),
    ...(Option.isSome(command) ? [`${name}_COMMAND`] : [])
  ]
  const [setting = name, ...others] = set
  if (others.length > 0) {
    return yield* new AdenConfigError({
      setting,
      detail: `is set, and ${others.join(" and ")} too`,
      remedy: "Set only one of them."
    })
  }
  return Option.firstSomeOf<SecretSource>([
    Option.map(text, (text) => ({ _tag: "Variable", setting, text })),
    Option.map(file, (file) => ({ _tag: "File", setting, file: Redacted.value(file).trim() })),
    Option.map(command, (command) => ({ _tag: "Command", setting, command: Redacted.value(command) }))
  ])
})

/** The secret. Files and commands need the services of a platform; a program that has none can only use variables. */
export const secretOf = (source: SecretSource): Effect.Effect<Redacted.Redacted<string>, AdenConfigError> => {
  switch (source._tag) {
    case "Variable":
      return Effect.succeed(source.text)
    case "File":
      return fromFile(source.setting, source.file)
    case "Command":
      return fromCommand(source.setting, source.command)
  }
}

/** The secret `name` of the environment; none when nothing names one. */
export const configuredSecret = (
  name: string
): Effect.Effect<Option.Option<Redacted.Redacted<string>>, AdenConfigError> =>
  Effect.flatMap(
    secretSource(name),
    Option.match({ onNone: () => Effect.succeedNone, onSome: (source) => Effect.asSome(secretOf(source)) })
  )

const withoutPlatform = (setting: string, what: string) =>
  new AdenConfigError({
    setting,
    detail: `is set, and this program cannot ${what}`,
    remedy: "Provide NodeServices.layer to the layer that reads the setting, or set the variable without the ending."
  })

/** The one line of a text: a second one would be cut off, or be taken for a part of the secret. */
const oneLine = (text: string, refuse: (what: string) => AdenConfigError) => {
  const lines = text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line !== "")
  const [line] = lines
  if (line === undefined) return Effect.fail(refuse("nothing"))
  return lines.length === 1 ? Effect.succeed(Redacted.make(line)) : Effect.fail(refuse(`${lines.length} lines`))
}

const fromFile = Effect.fnUntraced(function*(
  setting: string,
  file: string
): Effect.fn.Return<Redacted.Redacted<string>, AdenConfigError> {
  const fs = yield* Effect.serviceOption(FileSystem.FileSystem)
  const path = yield* Effect.serviceOption(Path.Path)
  if (Option.isNone(fs) || Option.isNone(path)) return yield* withoutPlatform(setting, "read files")
  const refuse = (detail: string, remedy: string) => new AdenConfigError({ setting, detail, remedy })
  if (!path.value.isAbsolute(file)) {
    return yield* refuse("is not an absolute path", "Give one, such as /run/secrets/key.")
  }
  const shown = cleanText(file)
  const found = yield* readSecretFile(file).pipe(
    Effect.provideService(FileSystem.FileSystem, fs.value),
    Effect.provideService(Path.Path, path.value),
    Effect.mapError((error) =>
      error.setting === shown ? refuse(`names ${shown}, which ${error.detail}`, error.remedy) : error
    )
  )
  if (Option.isNone(found)) return yield* refuse(`names ${shown}, which does not exist`, "Check the path.")
  return yield* oneLine(
    Redacted.value(found.value),
    (what) => refuse(`names ${shown}, which holds ${what}`, "Put the secret into it, on one line.")
  )
})

const fromCommand = Effect.fnUntraced(
  function*(setting: string, command: string): Effect.fn.Return<Redacted.Redacted<string>, AdenConfigError> {
    const spawner = yield* Effect.serviceOption(ChildProcessSpawner.ChildProcessSpawner)
    if (Option.isNone(spawner)) return yield* withoutPlatform(setting, "run commands")
    // neither the command nor what it prints: either may hold the secret
    const refuse = (what: string) =>
      new AdenConfigError({
        setting,
        detail: `names a command that ${what}`,
        remedy: "Run it in a shell: it has to print the secret on one line, and end with 0."
      })
    const output = Effect.gen(function*() {
      const child = yield* spawner.value.spawn(
        ChildProcess.make("sh", ["-c", command], {
          stdin: "ignore",
          // for a person at a terminal; it is not part of any error
          stderr: "inherit",
          forceKillAfter: "1 second"
        })
      )
      const decoder = new TextDecoder()
      let text = ""
      yield* Stream.runForEach(child.stdout, (chunk) => {
        text += decoder.decode(chunk, { stream: true })
        return text.length > maximumOutput ? Effect.fail(refuse("prints more than a secret")) : Effect.void
      })
      const status = yield* child.exitCode
      return status === 0 ? text : yield* refuse(`ends with ${status}`)
    }).pipe(
      Effect.scoped,
      Effect.catchTag("PlatformError", () => Effect.fail(refuse("cannot be run by sh"))),
      Effect.timeoutOrElse({
        duration: commandTime,
        orElse: () => Effect.fail(refuse(`does not end within ${commandTime}`))
      })
    )
    return yield* oneLine(yield* output, (what) => refuse(`prints ${what}`))
  }
)
