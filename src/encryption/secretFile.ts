/**
 * Reads a secret from a file, whose owner and mode, and those of its folder, have to keep others out.
 */
import * as ByteSize from "effect/ByteSize"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import { AdenConfigError } from "../errors/ConfigError.ts"
import { cleanText } from "../util/sanitize.ts"
import { processUser, secretFileFault, secretFolderFault, strictModes } from "./strictModes.ts"
import type { AccessFault } from "./strictModes.ts"

const maximumBytes = 16 * 1024

/**
 * The text of the file; none when there is no file. A link is followed, and what it leads to is checked: secrets are mounted as
 * links. Errors name the file as the setting.
 */
export const readSecretFile = Effect.fnUntraced(function*(
  file: string
): Effect.fn.Return<Option.Option<Redacted.Redacted<string>>, AdenConfigError, FileSystem.FileSystem | Path.Path> {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const refuse = ({ detail, remedy }: AccessFault) => new AdenConfigError({ setting: cleanText(file), detail, remedy })
  const cannotBeRead = refuse({ detail: "cannot be read", remedy: "Make the file readable for this user." })
  const notAFile = refuse({ detail: "is not a file that can hold a key", remedy: "Move it away." })
  const info = yield* fs.stat(file).pipe(
    Effect.asSome,
    Effect.catch((error) => error.reason._tag === "NotFound" ? Effect.succeedNone : Effect.fail(cannotBeRead))
  )
  if (Option.isNone(info)) return Option.none()
  // opening a pipe would wait for who writes into it
  if (info.value.type !== "File") return yield* notAFile
  const isStrict = path.sep === "/" && (yield* strictModes)
  if (isStrict) {
    const target = yield* Effect.mapError(fs.realPath(file), () => cannotBeRead)
    for (const folder of new Set([path.dirname(path.resolve(file)), path.dirname(target)])) {
      const found = yield* Effect.mapError(fs.stat(folder), () => cannotBeRead)
      const fault = secretFolderFault(folder, found, processUser())
      if (fault !== undefined) return yield* refuse(fault)
    }
  }
  const text = yield* Effect.gen(function*() {
    const handle = yield* Effect.mapError(fs.open(file, { flag: "r" }), () => cannotBeRead)
    // of what was opened, which may not be what was found
    const opened = yield* Effect.mapError(handle.stat, () => cannotBeRead)
    const size = Number(ByteSize.toBigInt(opened.size))
    if (opened.type !== "File" || size > maximumBytes) return yield* notAFile
    const fault = isStrict ? secretFileFault(file, opened, processUser()) : undefined
    if (fault !== undefined) return yield* refuse(fault)
    const bytes = yield* Effect.mapError(handle.readAlloc(maximumBytes), () => cannotBeRead)
    return new TextDecoder().decode(Option.getOrElse(bytes, () => new Uint8Array()))
  }).pipe(Effect.scoped)
  return Option.some(Redacted.make(text))
})
