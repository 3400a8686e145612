/** A directory of credentials as the tests of its files see it, and a storage over a file system that fails. */
import { Effect, FileSystem, Layer, Option, PlatformError, Redacted } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { inspect } from "node:util"
import { Fernet } from "../../../src/encryption/Fernet.ts"
import { Credential } from "../../../src/model/Credential.ts"
import { CredentialStorage } from "../../../src/storage/CredentialStorage.ts"
import { EncryptedFileStorage } from "../../../src/storage/files/EncryptedFileStorage.ts"
import { key, NodeFiles } from "../temporaryStorage.ts"

/** What must be found nowhere. */
export const secret = "BSA-0123456789-secret"
export const apiKey = (id: string, value = secret) => Credential.fromApiKey({ id, apiKey: Redacted.make(value) })

export const valueOf = (credential: Option.Option<Credential>): string | undefined => {
  const key = Option.getOrUndefined(credential)?.defaultKey
  return key === undefined ? undefined : Redacted.value(key.value)
}

export const enc = (directory: string, name: string) => path.join(directory, "credentials", `${name}.enc`)
export const indexOf = (directory: string) => path.join(directory, "metadata", "index.json")
export const readIndex = (directory: string) => JSON.parse(fs.readFileSync(indexOf(directory), "utf8"))
export const mode = (file: string) => (fs.statSync(file).mode & 0o777).toString(8)
/** What must not change in a file that is left alone. */
export const traces = (file: string) => {
  const { ino, mode, mtimeMs } = fs.lstatSync(file)
  return { ino, mode, mtimeMs, bytes: fs.readFileSync(file).toString("hex") }
}
export const filesIn = (directory: string): ReadonlyArray<string> =>
  fs.readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)))
export const age = (file: string) => fs.utimesSync(file, 1_000_000_000, 1_000_000_000)

export const decrypt = Effect.fnUntraced(function*(file: string, keyText = key) {
  const token = fs.readFileSync(file, "latin1")
  return new TextDecoder().decode(yield* Fernet.decrypt([yield* Fernet.parseKey(keyText)], token))
})
export const writeToken = Effect.fnUntraced(function*(file: string, document: string) {
  const token = yield* Fernet.encrypt([yield* Fernet.parseKey(key)], new TextEncoder().encode(document))
  fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
  fs.writeFileSync(file, token)
})

/** Everything a person or a log could get to see of an error. */
export const shown = (error: unknown) =>
  `${error} ${JSON.stringify(error)} ${inspect(error, { depth: Infinity, showHidden: true })} ${
    error instanceof Error ? `${error.message} ${error.stack} ${inspect(error.cause, { depth: Infinity })}` : ""
  }`

/** A storage over a file system of which some operations are replaced. */
export const withFileSystem = (
  directory: string,
  change: (base: FileSystem.FileSystem) => Partial<FileSystem.FileSystem>
) =>
<A, E>(use: (storage: CredentialStorage["Service"]) => Effect.Effect<A, E>) =>
  CredentialStorage.use(use).pipe(
    Effect.provide(
      Layer.fresh(EncryptedFileStorage.layer({ directory, keys: [key] })).pipe(
        Layer.provide(
          Layer.effect(
            FileSystem.FileSystem,
            Effect.map(FileSystem.FileSystem, (base) => ({ ...base, ...change(base) }))
          )
        ),
        Layer.provide(NodeFiles)
      )
    )
  )

export const systemError = (code: string, text: string, file: string) =>
  PlatformError.systemError({
    _tag: "Unknown",
    module: "FileSystem",
    method: "test",
    pathOrDescriptor: file,
    cause: new Error(`${code}: ${text}, write '${file}'`)
  })
