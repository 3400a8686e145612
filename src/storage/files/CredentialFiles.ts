/**
 * The encrypted files of a folder: which file belongs to a credential, and what it contains.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { Buffer } from "node:buffer"
import { Fernet } from "../../encryption/Fernet.ts"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { CredentialDecryptionFailed, StorageRefused } from "../../errors/StorageError.ts"
import type { StorageInsecure, StorageIoFailed } from "../../errors/StorageError.ts"
import type { Credential } from "../../model/Credential.ts"
import { cleanText } from "../../util/sanitize.ts"
import { checkTenant, decodeDocument } from "../format/HiveDocument.ts"
import type { HiveDocument } from "../format/HiveDocument.ts"
import { belongsTo, canBeRead, escapedName, namesItsId, plainName } from "../format/names.ts"
import type { PrivateFiles, ReadableFile } from "./PrivateFiles.ts"

const suffix = ".enc"
const maximumBytes = 16 * 1024 * 1024
const tooLarge = "it is larger than 16 MiB"

/** The document in a file, or what is wrong with it, without quoting its content. */
type Opened = Result.Result<HiveDocument, string>

/**
 * The location of a credential. `Absent`: there is none; `plainIsTaken` when another id has the file with the plain name.
 * `Unreadable`: there is a file that is, or may be, its own.
 */
export type Located =
  | { readonly _tag: "Absent"; readonly plainIsTaken: boolean }
  | { readonly _tag: "Found"; readonly name: string; readonly stored: HiveDocument }
  | { readonly _tag: "Unreadable"; readonly name: string; readonly detail: string }

/** A file that no key decrypts. */
export interface Unreadable {
  readonly detail: string
}

/** Another writer changed a file that was about to be replaced. */
export class ConcurrentWrite extends Data.TaggedError("ConcurrentWrite") {}

const decodeUtf8 = (bytes: Uint8Array): Result.Result<string, string> =>
  Result.try({
    try: () => new TextDecoder("utf-8", { fatal: true }).decode(bytes),
    catch: () => "its content is not UTF-8 text"
  })

export const makeCredentialFiles = (
  files: PrivateFiles,
  folder: string,
  keys: FernetKeys,
  tenantId: string | undefined
) => {
  const fileOf = (name: string): string => files.fileIn(folder, `${name}${suffix}`)

  const cannotOpen = (id: string, { detail, name }: { readonly name: string; readonly detail: string }) =>
    new CredentialDecryptionFailed({ id, location: cleanText(fileOf(name)), detail })

  const decode = (plaintext: Uint8Array): Opened =>
    decodeUtf8(plaintext).pipe(Result.flatMap(decodeDocument), Result.flatMap(checkTenant(tenantId)))

  const decrypt = (keys: FernetKeys, bytes: Uint8Array): Effect.Effect<Result.Result<Uint8Array, string>> =>
    Effect.match(Fernet.decrypt(keys, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1")), {
      onFailure: ({ message }) => Result.fail(message),
      onSuccess: Result.succeed
    })

  /** The decrypted content of a file, with any of these keys; none when there is no file. */
  const decryptOnce = (
    name: string,
    keys: FernetKeys
  ): Effect.Effect<Option.Option<Result.Result<Uint8Array, string>>, StorageIoFailed | StorageInsecure> =>
    files.read(fileOf(name), maximumBytes).pipe(
      Effect.flatMap(Option.match({
        onNone: () => Effect.succeedNone,
        onSome: (bytes) => Effect.asSome(decrypt(keys, bytes))
      })),
      Effect.catchTag("FileTooLarge", () => Effect.succeedSome(Result.fail(tooLarge)))
    )

  /** The file of this name, to be read together with another one. */
  const readable = (name: string): ReadableFile => ({ file: fileOf(name), limit: maximumBytes })

  /** The credential of this id, when that is what a file holds. */
  const openOwn = (id: string, bytes: Uint8Array): Effect.Effect<Option.Option<Credential>> =>
    Effect.map(decrypt(keys, bytes), (plaintext) =>
      Result.flatMap(plaintext, decode).pipe(
        Result.getSuccess,
        Option.map(({ credential }) => credential),
        Option.filter((credential) => credential.id === id)
      ))

  const openOnce = (name: string): Effect.Effect<Option.Option<Opened>, StorageIoFailed | StorageInsecure> =>
    Effect.map(decryptOnce(name, keys), Option.map(Result.flatMap(decode)))

  /** The document in a file, whatever its id; none when there is no file. */
  const open = (name: string) =>
    files.rereadTorn(fileOf(name))(openOnce(name), (opened) => Option.exists(opened, Result.isFailure))

  /**
   * Finds a credential. The id inside a file decides, not its name. `isEscapedAbsent`: there is no file with the escaped name, as the
   * caller knows.
   */
  const locate = (
    id: string,
    { isEscapedAbsent }: { readonly isEscapedAbsent: boolean } = { isEscapedAbsent: false }
  ): Effect.Effect<Located, StorageIoFailed | StorageInsecure> =>
    Effect.gen(function*() {
      const plain = plainName(id)
      const first = canBeRead(plain) ? yield* open(plain) : Option.none()
      if (Option.isSome(first) && Result.isSuccess(first.value) && first.value.success.credential.id === id) {
        return { _tag: "Found", name: plain, stored: first.value.success }
      }
      const escaped = escapedName(id)
      const second = isEscapedAbsent ? Option.none() : yield* open(escaped)
      if (Option.isSome(second)) {
        if (Result.isFailure(second.value)) return { _tag: "Unreadable", name: escaped, detail: second.value.failure }
        return second.value.success.credential.id === id
          ? { _tag: "Found", name: escaped, stored: second.value.success }
          : { _tag: "Unreadable", name: escaped, detail: "it holds another credential" }
      }
      if (Option.isNone(first)) return { _tag: "Absent", plainIsTaken: false }
      if (Result.isFailure(first.value)) return { _tag: "Unreadable", name: plain, detail: first.value.failure }
      // an id with the same plain name may have this file; any other was put there
      return belongsTo(first.value.success.credential.id, plain)
        ? { _tag: "Absent", plainIsTaken: true }
        : { _tag: "Unreadable", name: plain, detail: "it holds another credential" }
    })

  const names = files.names(folder, suffix)

  /** The fingerprint of a credential's file. */
  const fingerprint = (name: string) => files.fingerprint(fileOf(name))

  /** Whether a credential's file was written at this time (in ms) or later. */
  const isWrittenSince = (name: string, since: number) =>
    Effect.map(files.modifiedAt(fileOf(name)), (at) => at === undefined || at >= since)

  const identities = new Map<string, { readonly fingerprint: string; readonly id: string | undefined }>()

  /** The document in a file, when it can be opened and belongs there. */
  const openOwned = (name: string): Effect.Effect<HiveDocument | undefined> =>
    openOnce(name).pipe(
      Effect.map((opened) =>
        Option.isSome(opened) && Result.isSuccess(opened.value) &&
          belongsTo(opened.value.success.credential.id, name)
          ? opened.value.success
          : undefined
      ),
      // an unreadable file still exists: its id is not known
      Effect.orElseSucceed(() => undefined)
    )

  /** The id of a file; `undefined` when neither its name nor its content tells, or the content does not belong there. */
  const identify = (name: string) =>
    Effect.gen(function*() {
      if (namesItsId(name)) return name
      const current = Option.getOrUndefined(yield* fingerprint(name))
      const known = identities.get(name)
      if (known !== undefined && known.fingerprint === current) return known.id
      const stored = yield* openOwned(name)
      const id = stored?.credential.id
      if (current !== undefined) identities.set(name, { fingerprint: current, id })
      return id
    })

  const prepare = (name: string, document: string) =>
    Effect.gen(function*() {
      const token = Buffer.from(yield* Fernet.encrypt(keys, Buffer.from(document)), "latin1")
      if (token.length > maximumBytes) {
        return yield* new StorageRefused({ detail: "the credential is too large: encrypted, it may have 16 MiB" })
      }
      return yield* files.prepare(fileOf(name), token)
    })

  /** The decrypted content of a file that is not encrypted under the first key; none when it is, or does not exist. */
  const staleText = (name: string) =>
    Effect.gen(function*() {
      if (Option.exists(yield* decryptOnce(name, [keys[0]]), Result.isSuccess)) return Option.none()
      return yield* files.rereadTorn(fileOf(name))(decryptOnce(name, keys), Option.exists(Result.isFailure))
    })

  /** Whether a file is under another key than the first, and can be re-encrypted. */
  const isStale = (name: string) => Effect.map(staleText(name), Option.exists(Result.isSuccess))

  /**
   * Re-encrypts a file under the first key; its content stays the same to the byte. Fails with `ConcurrentWrite` and changes nothing
   * when the file was written since it was read: Hive takes no lock.
   */
  const reencrypt = <E>(
    name: string,
    check: Effect.Effect<void, E>
  ): Effect.Effect<"Rotated" | "Unchanged" | Unreadable, StorageIoFailed | StorageInsecure | ConcurrentWrite | E> =>
    Effect.gen(function*() {
      const seen = yield* fingerprint(name)
      const text = yield* staleText(name)
      if (Option.isNone(text)) return "Unchanged"
      if (Result.isFailure(text.value)) return { detail: text.value.failure }
      const token = Buffer.from(yield* Fernet.encrypt(keys, text.value.success), "latin1")
      const isSame = Effect.filterOrFail(
        fingerprint(name),
        (now) => Equal.equals(now, seen),
        () => new ConcurrentWrite()
      )
      yield* files.write(fileOf(name), token, Effect.andThen(check, isSame))
      return "Rotated"
    })

  const remove = (name: string) => files.remove(fileOf(name))

  return {
    fileOf,
    cannotOpen,
    readable,
    openOwn,
    open,
    locate,
    names,
    fingerprint,
    isWrittenSince,
    identify,
    openOwned,
    prepare,
    isStale,
    reencrypt,
    remove
  } as const
}

export type CredentialFiles = ReturnType<typeof makeCredentialFiles>
