/**
 * Makes the key file, in which programs and Hive look for the encryption key.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type * as Redacted from "effect/Redacted"
import { Buffer } from "node:buffer"
import { Fernet } from "../../encryption/Fernet.ts"
import { textOfKeys } from "../../encryption/keyFile.ts"
import { keyFile, keySetting, keysOf, keysOfFile, keySource, parseKeys } from "../../encryption/keys.ts"
import { AdenConfigError } from "../../errors/ConfigError.ts"
import { cleanText } from "../../util/sanitize.ts"
import { makePrivateFiles } from "../files/PrivateFiles.ts"
import { asStorageError } from "../operation.ts"

type KeyTexts = ReadonlyArray<Redacted.Redacted<string>>

/**
 * Makes the key file, and answers where it is. A file that is there is never written over: it is an error, unless it holds these
 * keys already.
 */
const makeKeyFile = Effect.fnUntraced(
  function*(keys: KeyTexts) {
    const path = yield* Path.Path
    const files = yield* makePrivateFiles
    const file = yield* keyFile
    const folder = path.dirname(file)
    yield* files.removeAbandoned(folder)
    // where it cannot be read, what follows says why
    const present = yield* Effect.orElseSucceed(keysOfFile(file), () => Option.none())
    if (Option.isSome(present)) return yield* expectKeys(file, present.value, keys)
    yield* files.ensureFolder(path.dirname(folder))
    yield* files.ensureClosedFolder(folder)
    const made = yield* files.create(file, Buffer.from(`${textOfKeys(keys)}\n`), { isLasting: true })
    if (Option.isSome(made)) {
      yield* files.flush(folder)
      return file
    }
    const other = yield* keysOfFile(file)
    if (Option.isNone(other)) return yield* refuse(file, "is a link to nothing", removeIt)
    return yield* expectKeys(file, other.value, keys)
  },
  Effect.scoped,
  Effect.uninterruptible,
  asStorageError("save the encryption key")
)

const removeIt = "Remove it, and run the command again."

const refuse = (file: string, detail: string, remedy: string) =>
  new AdenConfigError({ setting: cleanText(file), detail, remedy })

/** The key file, where it holds these keys. */
const expectKeys = Effect.fnUntraced(function*(file: string, found: KeyTexts, keys: KeyTexts) {
  if (textOfKeys(found) === "") return yield* refuse(file, "is empty", removeIt)
  if (textOfKeys(found) === textOfKeys(keys)) return file
  return yield* refuse(
    file,
    "is there already, and is never written over",
    "Use the key in it. To use another, move the file away first, and keep it: what it encrypted opens with nothing else."
  )
})

/** Makes the key file with a new key. */
export const makeNewKeyFile = Effect.gen(function*() {
  const source = yield* keySource
  if (Option.isSome(source)) {
    return yield* new AdenConfigError({
      setting: source.value.setting,
      detail: "is set, and a new key would not open what is encrypted with it",
      remedy: "Put its key into the key file: aden-creds keys save"
    })
  }
  return yield* makeKeyFile([yield* Fernet.generateKey])
})

/** Makes the key file with the keys that the environment names. */
export const makeKeyFileOfVariable = Effect.gen(function*() {
  const source = yield* keySource
  if (Option.isNone(source)) {
    return yield* new AdenConfigError({
      setting: keySetting,
      detail: "is not set",
      remedy:
        "Set it to the key that your credentials were written with, or make a new one: aden-creds keys generate --save"
    })
  }
  const keys = yield* keysOf(source.value)
  yield* parseKeys(keys, source.value.setting)
  return yield* makeKeyFile(keys)
})
