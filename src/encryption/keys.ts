/**
 * Hive's folder, and the encryption keys from the environment.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import { AdenConfigError } from "../errors/ConfigError.ts"
import { unreadableSetting } from "../model/settings.ts"
import { cleanText } from "../util/sanitize.ts"
import { Fernet } from "./Fernet.ts"
import type { FernetKeys } from "./Fernet.ts"
import { readSecretFile } from "./secretFile.ts"
import { secretOf, secretSource } from "./secretSource.ts"
import type { SecretSource } from "./secretSource.ts"

/** The environment variable with the encryption keys. */
export const keySetting = "HIVE_CREDENTIAL_KEY"

const hiveHomeSetting = "HIVE_HOME"

const optionalSetting = <A>(setting: string, config: Config.Config<A>) =>
  Effect.mapError(Effect.suspend(() => Config.option(config)), () => unreadableSetting(setting))

/** The user's home directory: `HOME`, on Windows `USERPROFILE`. */
const home = Effect.gen(function*() {
  for (const setting of ["HOME", "USERPROFILE"]) {
    const directory = yield* optionalSetting(setting, Config.String(setting))
    if (Option.isSome(directory) && directory.value !== "") return directory.value
  }
  return yield* new AdenConfigError({
    setting: "HOME",
    detail: "is not set, so there is no ~/.hive",
    remedy: "Set it, or name the directory of the credentials."
  })
})

/**
 * `$HIVE_HOME`, else `~/.hive`: the folder in which Hive keeps everything. A relative path is refused: it would name another
 * folder in each working directory.
 */
const hiveHome = Effect.gen(function*() {
  const path = yield* Path.Path
  const setting = yield* optionalSetting(hiveHomeSetting, Config.String(hiveHomeSetting))
  if (Option.isNone(setting) || setting.value === "") return path.join(yield* home, ".hive")
  const [first, ...others] = setting.value.split(path.sep === "\\" ? /[\\/]/ : path.sep)
  const directory = first === "~" ? path.join(yield* home, ...others) : setting.value
  if (path.isAbsolute(directory)) return directory
  return yield* new AdenConfigError({
    setting: hiveHomeSetting,
    detail: "is not an absolute path",
    remedy: "Give an absolute path, or one that begins with ~/."
  })
})

/** `~/.hive/credentials`. */
export const defaultDirectory = Effect.gen(function*() {
  const path = yield* Path.Path
  return path.join(yield* hiveHome, "credentials")
})

/** `~/.hive/secrets/credential_key`. */
export const keyFile = Effect.gen(function*() {
  const path = yield* Path.Path
  return path.join(yield* hiveHome, "secrets", "credential_key")
})

/** Parses keys; the first one encrypts. Errors name `setting`. */
export const parseKeys = Effect.fnUntraced(function*(
  texts: ReadonlyArray<Redacted.Redacted<string>>,
  setting: string
): Effect.fn.Return<FernetKeys, AdenConfigError> {
  if (texts.length > 1 && texts.some((text) => Redacted.value(text) === "")) {
    return yield* new AdenConfigError({
      setting,
      detail: "has an empty entry where a key should be",
      remedy: "Separate the keys with single commas and put none at the ends; the first key encrypts."
    })
  }
  const [first, ...others] = yield* Effect.forEach(texts, (text) => Fernet.parseKey(text, setting))
  if (first === undefined) {
    return yield* new AdenConfigError({
      setting,
      detail: "holds no key",
      remedy: "Give at least one Fernet key; aden-creds keys generate makes one."
    })
  }
  return [first, ...others]
})

const separated = (text: Redacted.Redacted<string>): ReadonlyArray<Redacted.Redacted<string>> =>
  Redacted.value(text).trim().split(",").map((part) => Redacted.make(part.trim()))

/** What the environment names as the source of the keys; none when the key file is to be read. */
export const keySource = secretSource(keySetting)

/** The keys of a source. */
export const keysOf = (source: SecretSource) => Effect.map(secretOf(source), separated)

/** The keys in the key file; none when there is no file. Errors name the file as the setting. */
export const keysOfFile = (file: string) => Effect.map(readSecretFile(file), Option.map(separated))

/**
 * The keys from the environment: `HIVE_CREDENTIAL_KEY`, or the file or command that `HIVE_CREDENTIAL_KEY_FILE` or
 * `HIVE_CREDENTIAL_KEY_COMMAND` names, else the key file. Never generates one.
 */
export const configuredKeys = Effect.gen(function*() {
  const source = yield* keySource
  if (Option.isSome(source)) return yield* parseKeys(yield* keysOf(source.value), source.value.setting)
  const file = yield* keyFile
  const shown = cleanText(file)
  const ofFile = yield* Effect.mapError(
    keysOfFile(file),
    (error) => {
      const { detail, remedy, setting } = error
      if (setting !== shown) return error
      return new AdenConfigError({
        setting: keySetting,
        detail: `is not set, and the key file ${shown} ${detail}`,
        remedy
      })
    }
  )
  if (Option.isSome(ofFile)) return yield* parseKeys(ofFile.value, shown)
  return yield* new AdenConfigError({
    setting: keySetting,
    detail: `is not set, and there is no key file ${shown}`,
    remedy:
      "Set it to the key that your credentials were written with, or make a key file: aden-creds keys generate --save"
  })
})
