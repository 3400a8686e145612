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
import { SparseMap } from "../../util/sparse.ts"
import { checkNamespace, checkTenant, decodeDocument } from "../format/HiveDocument.ts"
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

const decrypt = (keys: FernetKeys, bytes: Uint8Array): Effect.Effect<Result.Result<Uint8Array, string>> =>
  Effect.match(Fernet.decrypt(keys, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1")), {
    onFailure: ({ message }) => Result.fail(message),
    onSuccess: Result.succeed
  })

/** The encrypted files of one folder. */
export class CredentialFiles {
  readonly #files: PrivateFiles
  readonly #folder: string
  readonly #keys: FernetKeys
  readonly #tenantId: string | undefined
  /** The ids of files that their names do not tell, by name. */
  readonly #identities = new SparseMap<string, { readonly fingerprint: string; readonly id: string | undefined }>()

  constructor(files: PrivateFiles, folder: string, keys: FernetKeys, tenantId: string | undefined) {
    this.#files = files
    this.#folder = folder
    this.#keys = keys
    this.#tenantId = tenantId
  }

  fileOf(name: string): string {
    return this.#files.fileIn(this.#folder, `${name}${suffix}`)
  }

  cannotOpen(id: string, { detail, name }: { readonly name: string; readonly detail: string }) {
    return new CredentialDecryptionFailed({ id, location: cleanText(this.fileOf(name)), detail })
  }

  #decode(plaintext: Uint8Array): Opened {
    return decodeUtf8(plaintext).pipe(
      Result.flatMap(decodeDocument),
      Result.flatMap(checkTenant(this.#tenantId)),
      Result.flatMap(checkNamespace(undefined))
    )
  }

  /** The decrypted content of a file, with any of these keys; none when there is no file. */
  #decryptOnce(
    name: string,
    keys: FernetKeys
  ): Effect.Effect<Option.Option<Result.Result<Uint8Array, string>>, StorageIoFailed | StorageInsecure> {
    return this.#files.read(this.fileOf(name), maximumBytes).pipe(
      Effect.flatMap(Option.match({
        onNone: () => Effect.succeedNone,
        onSome: (bytes) => Effect.asSome(decrypt(keys, bytes))
      })),
      Effect.catchTag("FileTooLarge", () => Effect.succeedSome(Result.fail(tooLarge)))
    )
  }

  /** The file of this name, to be read together with another one. */
  readable(name: string): ReadableFile {
    return { file: this.fileOf(name), limit: maximumBytes }
  }

  /** The credential of this id, when that is what a file holds. */
  openOwn(id: string, bytes: Uint8Array): Effect.Effect<Option.Option<Credential>> {
    return Effect.map(
      decrypt(this.#keys, bytes),
      (plaintext) =>
        Result.flatMap(plaintext, (text) => this.#decode(text)).pipe(
          Result.getSuccess,
          Option.map(({ credential }) => credential),
          Option.filter((credential) => credential.id === id)
        )
    )
  }

  #openOnce(name: string): Effect.Effect<Option.Option<Opened>, StorageIoFailed | StorageInsecure> {
    return Effect.map(this.#decryptOnce(name, this.#keys), Option.map(Result.flatMap((text) => this.#decode(text))))
  }

  /** The document in a file, whatever its id; none when there is no file. */
  open(name: string) {
    return this.#files.rereadTorn(
      this.fileOf(name),
      this.#openOnce(name),
      (opened) => Option.exists(opened, Result.isFailure)
    )
  }

  /**
   * Finds a credential. The id inside a file decides, not its name. `isEscapedAbsent`: there is no file with the escaped name, as the
   * caller knows.
   */
  locate(
    id: string,
    { isEscapedAbsent }: { readonly isEscapedAbsent: boolean } = { isEscapedAbsent: false }
  ): Effect.Effect<Located, StorageIoFailed | StorageInsecure> {
    return Effect.gen({ self: this }, function*() {
      const plain = plainName(id)
      const first = canBeRead(plain) ? yield* this.open(plain) : Option.none()
      if (Option.isSome(first) && Result.isSuccess(first.value) && first.value.success.credential.id === id) {
        return { _tag: "Found", name: plain, stored: first.value.success }
      }
      const escaped = escapedName(id)
      const second = isEscapedAbsent ? Option.none() : yield* this.open(escaped)
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
  }

  get names() {
    return this.#files.names(this.#folder, suffix)
  }

  /** The fingerprint of a credential's file. */
  fingerprint(name: string) {
    return this.#files.fingerprint(this.fileOf(name))
  }

  /** Whether a credential's file was written at this time (in ms) or later. */
  isWrittenSince(name: string, since: number) {
    return Effect.map(this.#files.modifiedAt(this.fileOf(name)), (at) => at === undefined || at >= since)
  }

  /** The document in a file, when it can be opened and belongs there. */
  openOwned(name: string): Effect.Effect<HiveDocument | undefined> {
    return this.#openOnce(name).pipe(
      Effect.map((opened) =>
        Option.isSome(opened) && Result.isSuccess(opened.value) &&
          belongsTo(opened.value.success.credential.id, name)
          ? opened.value.success
          : undefined
      ),
      // an unreadable file still exists: its id is not known
      Effect.orElseSucceed(() => undefined)
    )
  }

  /** The id of a file; `undefined` when neither its name nor its content tells, or the content does not belong there. */
  identify(name: string) {
    return Effect.gen({ self: this }, function*() {
      if (namesItsId(name)) return name
      const current = Option.getOrUndefined(yield* this.fingerprint(name))
      const known = this.#identities.get(name)
      if (known !== undefined && known.fingerprint === current) return known.id
      const stored = yield* this.openOwned(name)
      const id = stored?.credential.id
      if (current !== undefined) this.#identities.set(name, { fingerprint: current, id })
      return id
    })
  }

  prepare(name: string, document: string) {
    return Effect.gen({ self: this }, function*() {
      const token = Buffer.from(yield* Fernet.encrypt(this.#keys, Buffer.from(document)), "latin1")
      if (token.length > maximumBytes) {
        return yield* new StorageRefused({ detail: "the credential is too large: encrypted, it may have 16 MiB" })
      }
      return yield* this.#files.prepare(this.fileOf(name), token)
    })
  }

  /** The decrypted content of a file that is not encrypted under the first key; none when it is, or does not exist. */
  #staleText(name: string) {
    return Effect.gen({ self: this }, function*() {
      if (Option.exists(yield* this.#decryptOnce(name, [this.#keys[0]]), Result.isSuccess)) return Option.none()
      return yield* this.#files.rereadTorn(
        this.fileOf(name),
        this.#decryptOnce(name, this.#keys),
        Option.exists(Result.isFailure)
      )
    })
  }

  /** Whether a file is under another key than the first, and can be re-encrypted. */
  isStale(name: string) {
    return Effect.map(this.#staleText(name), Option.exists(Result.isSuccess))
  }

  /**
   * Re-encrypts a file under the first key; its content stays the same to the byte. Fails with `ConcurrentWrite` and changes nothing
   * when the file was written since it was read: Hive takes no lock.
   */
  reencrypt<E>(
    name: string,
    check: Effect.Effect<void, E>
  ): Effect.Effect<"Rotated" | "Unchanged" | Unreadable, StorageIoFailed | StorageInsecure | ConcurrentWrite | E> {
    return Effect.gen({ self: this }, function*() {
      const seen = yield* this.fingerprint(name)
      const text = yield* this.#staleText(name)
      if (Option.isNone(text)) return "Unchanged"
      if (Result.isFailure(text.value)) return { detail: text.value.failure }
      const token = Buffer.from(yield* Fernet.encrypt(this.#keys, text.value.success), "latin1")
      const isSame = Effect.filterOrFail(
        this.fingerprint(name),
        (now) => Equal.equals(now, seen),
        () => new ConcurrentWrite()
      )
      yield* this.#files.write(this.fileOf(name), token, Effect.andThen(check, isSame))
      return "Rotated"
    })
  }

  remove(name: string) {
    return this.#files.remove(this.fileOf(name))
  }
}
