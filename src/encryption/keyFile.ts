/**
 * The key file, in which Hive looks for the encryption key: what Hive does without it.
 *
 * A Hive server deletes every credential of its directory when it starts and finds their key neither in its environment nor in
 * the key file nor in a shell's start-up file. A key of its environment it writes over the key file. Of several keys it uses
 * only the first.
 */
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as MutableRef from "effect/MutableRef"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { AdenConfigError } from "../errors/ConfigError.ts"
import { logWarning } from "../util/logging.ts"
import { cleanText } from "../util/sanitize.ts"
import { defaultDirectory, keyFile, keySetting, keysOf, keysOfFile, keySource } from "./keys.ts"

type KeyTexts = ReadonlyArray<Redacted.Redacted<string>>

/** Keys as a key file holds them. */
export const textOfKeys = (keys: KeyTexts): string => keys.map(Redacted.value).join(",")

/** What Hive does, or may do, to credentials whose key it does not find in the key file. */
export interface KeyFileRisk {
  readonly keyFile: string
  readonly reason: string
  readonly remedy: string
}

const save = "aden-creds keys save"

/**
 * The risk for a directory whose keys are those of the environment; none where it is not Hive's, and not a folder in it, or
 * where the key file holds the key.
 */
export const keyFileRisk = Effect.fnUntraced(
  function*(directory: string): Effect.fn.Return<
    Option.Option<KeyFileRisk>,
    AdenConfigError,
    FileSystem.FileSystem | Path.Path
  > {
    const path = yield* Path.Path
    const source = yield* keySource
    if (Option.isNone(source)) return Option.none()
    const { setting } = source.value
    const hives = path.resolve(yield* defaultDirectory)
    const [place, hivesPlace] = [yield* placeOf(path.resolve(directory)), yield* placeOf(hives)]
    if (place !== hivesPlace && !place.startsWith(`${hivesPlace}${path.sep}`)) return Option.none()
    const file = yield* keyFile
    const shown = cleanText(file)
    const risk = (reason: string, remedy: string) => Option.some({ keyFile: file, reason, remedy })
    const isMissing = (remedy: string) =>
      risk(
        `${setting} is set, and there is no key in ${shown}: a Hive server that starts without ${keySetting} deletes the ` +
          `credentials in ${cleanText(hives)}`,
        remedy
      )
    const found = yield* Effect.result(keysOfFile(file))
    if (Result.isFailure(found)) {
      return risk(`${setting} is set, and the key file ${shown} ${found.failure.detail}`, found.failure.remedy)
    }
    const ofFile = found.success
    if (Option.isNone(ofFile)) return isMissing(`Put the key into that file: ${save}`)
    if (textOfKeys(ofFile.value) === "") return isMissing(`Remove that file, which is empty, and run: ${save}`)
    if (firstOf(ofFile.value) === firstOf(yield* keysOf(source.value))) return Option.none()
    return risk(
      `${shown} holds another key than ${setting}: a Hive server that starts without ${keySetting} opens none of these ` +
        "credentials, one that starts with it writes over the file",
      `Stop Hive, move the file away and run: ${save}; or unset ${setting}, where the key in the file is the right one.`
    )
  },
  // settings that make no sense are an error elsewhere
  Effect.orElseSucceed(() => Option.none<KeyFileRisk>())
)

/** Where a path leads to by links, as far as it exists. */
const placeOf: (file: string) => Effect.Effect<string, never, FileSystem.FileSystem | Path.Path> = Effect.fnUntraced(
  function*(file: string) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const parent = path.dirname(file)
    return yield* Effect.catch(fs.realPath(file), () =>
      parent === file
        ? Effect.succeed(file)
        : Effect.map(placeOf(parent), (place) => path.join(place, path.basename(file))))
  }
)

const firstOf = (keys: KeyTexts): string => textOfKeys(keys.slice(0, 1))

/** Whether this process has warned: once is enough, however many storages there are. */
export const HasWarned = Context.Reference<MutableRef.MutableRef<boolean>>(
  "aden-credentials/internal/keyFile/HasWarned",
  { defaultValue: () => MutableRef.make(false) }
)

/** Makes the warning that goes before the first write in a directory, for keys of the environment. */
export const makeKeyFileWarning = Effect.fnUntraced(function*(directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const settings = yield* ConfigProvider.ConfigProvider
  const warn = Effect.gen(function*() {
    const hasWarned = yield* HasWarned
    if (MutableRef.get(hasWarned)) return
    const risk = yield* keyFileRisk(directory)
    if (Option.isNone(risk) || MutableRef.getAndSet(hasWarned, true)) return
    const { reason, remedy } = risk.value
    yield* logWarning("Beside Hive, the encryption key belongs in the key file").pipe(
      Effect.annotateLogs({ reason, remedy })
    )
  }).pipe(
    Effect.provideService(FileSystem.FileSystem, fs),
    Effect.provideService(Path.Path, path),
    Effect.provideService(ConfigProvider.ConfigProvider, settings),
    // the interruption of one caller would be remembered for all
    Effect.uninterruptible
  )
  return yield* Effect.cached(warn)
})
