/**
 * Where the encryption keys come from.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import { AdenConfigError } from "../CredentialError.ts"
import { Fernet } from "../Fernet.ts"
import type { FernetKeys } from "../Fernet.ts"
import { cleanText } from "./foreignText.ts"

const keySetting = "HIVE_CREDENTIAL_KEY"
const groupAndOthersMayReadOrWrite = 0o066
const maximumFileBytes = 16 * 1024

const unreadable = (setting: string) =>
  new AdenConfigError({ setting, detail: "cannot be read", remedy: "Check where settings are read from." })

const optionalSetting = <A>(setting: string, config: Config.Config<A>) =>
  Effect.mapError(Effect.suspend(() => Config.option(config)), () => unreadable(setting))

/** The home directory of the user, by `HOME`, on Windows `USERPROFILE`. */
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

/** `~/.hive/credentials`. */
export const defaultDirectory = Effect.gen(function*() {
  const path = yield* Path.Path
  return path.join(yield* home, ".hive", "credentials")
})

/** Reads keys, the first of which encrypts. `setting` is named when one makes no sense. */
export const parseKeys = Effect.fnUntraced(function*(
  texts: ReadonlyArray<Redacted.Redacted<string>>,
  setting: string
): Effect.fn.Return<FernetKeys, AdenConfigError> {
  if (texts.length > 1 && texts.some((text) => Redacted.value(text) === "")) {
    return yield* new AdenConfigError({
      setting,
      detail: "has an empty place where a key should be",
      remedy: "Separate the keys by one comma each, with none at the ends; the first one encrypts."
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

const separated = (text: string): ReadonlyArray<Redacted.Redacted<string>> =>
  text.split(",").map((part) => Redacted.make(part.trim()))

/** The text of `~/.hive/secrets/credential_key`, none when there is no such file. */
const keyFileText = Effect.fnUntraced(
  function*(file: string): Effect.fn.Return<string | undefined, AdenConfigError, FileSystem.FileSystem | Path.Path> {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const shown = cleanText(file)
    const refuse = (detail: string, remedy: string) => new AdenConfigError({ setting: keySetting, detail, remedy })
    const info = yield* fs.stat(file).pipe(
      Effect.map(Option.some),
      Effect.catch((error) =>
        error.reason._tag === "NotFound" ? Effect.succeedNone : Effect.fail(
          refuse(
            `is not set, and the key file ${shown} cannot be read`,
            "Set it, or make the file readable for this user."
          )
        )
      )
    )
    if (Option.isNone(info)) return undefined
    const { mode, size, type } = info.value
    if (type !== "File" || size > maximumFileBytes) {
      return yield* refuse(`is not set, and ${shown} is no key file`, "Set it, or put the key alone into that file.")
    }
    if (path.sep === "/" && (mode & groupAndOthersMayReadOrWrite) !== 0) {
      return yield* refuse(
        `is not set, and the key file ${shown} is open to others`,
        `Run: chmod 600 '${file.replaceAll("'", "'\\''")}' (and make a new key if others may have seen it).`
      )
    }
    return yield* Effect.mapError(
      fs.readFileString(file),
      () =>
        refuse(
          `is not set, and the key file ${shown} cannot be read`,
          "Set it, or make the file readable for this user."
        )
    )
  }
)

/** The keys of the environment: `HIVE_CREDENTIAL_KEY`, else the key file. None is ever made here. */
export const configuredKeys = Effect.gen(function*() {
  const path = yield* Path.Path
  const variable = yield* optionalSetting(keySetting, Config.Redacted(keySetting))
  if (Option.isSome(variable) && Redacted.value(variable.value).trim() !== "") {
    return yield* parseKeys(separated(Redacted.value(variable.value)), keySetting)
  }
  const file = path.join(yield* home, ".hive", "secrets", "credential_key")
  const text = yield* keyFileText(file)
  if (text === undefined) {
    return yield* new AdenConfigError({
      setting: keySetting,
      detail: `is not set, and there is no key file ${cleanText(file)}`,
      remedy: "Set it to the key that your credentials were written with, or make a new one: aden-creds keys generate"
    })
  }
  return yield* parseKeys(separated(text.trim()), cleanText(file))
})
