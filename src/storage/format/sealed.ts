/**
 * A credential as a database keeps it: the encrypted document of the files, as text. Who reads the database sees no secret.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { Buffer } from "node:buffer"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { Fernet } from "../../encryption/Fernet.ts"
import { CredentialDecryptionFailed, StorageRefused } from "../../errors/CredentialError.ts"
import type { Credential } from "../../model/Credential.ts"
import { checkTenant, decodeCredential, encodeCredential } from "./HiveDocument.ts"
import type { StoredCredential } from "./HiveDocument.ts"

/** As of a file. */
const maximumLength = 16 * 1024 * 1024

const decodeUtf8 = (bytes: Uint8Array): Result.Result<string, string> =>
  Result.try({
    try: () => new TextDecoder("utf-8", { fatal: true }).decode(bytes),
    catch: () => "its content is not UTF-8 text"
  })

/** Encrypts and decrypts for one tenant: the first key encrypts, all decrypt. */
export const makeSealing = (keys: FernetKeys, tenantId: string | undefined) => {
  const decode = (id: string, plaintext: Uint8Array): Result.Result<StoredCredential, string> =>
    decodeUtf8(plaintext).pipe(
      Result.flatMap(decodeCredential),
      Result.flatMap(checkTenant(tenantId)),
      // whoever can write the database could put a credential in the place of another
      Result.flatMap((stored) =>
        stored.credential.id === id ? Result.succeed(stored) : Result.fail("it holds another credential")
      )
    )

  /** What rests at this place under this id. */
  const open = (
    id: string,
    location: string,
    sealed: string
  ): Effect.Effect<StoredCredential, CredentialDecryptionFailed> => {
    const fail = (detail: string) => Effect.fail(new CredentialDecryptionFailed({ id, location, detail }))
    if (sealed.length > maximumLength) return fail("it is larger than 16 MiB")
    return Fernet.decrypt(keys, sealed).pipe(
      Effect.matchEffect({
        onFailure: ({ message }) => fail(message),
        onSuccess: (plaintext) => Result.match(decode(id, plaintext), { onFailure: fail, onSuccess: Effect.succeed })
      })
    )
  }

  /** A document as it is to rest. */
  const encrypt = Effect.fnUntraced(function*(document: string) {
    const sealed = yield* Fernet.encrypt(keys, Buffer.from(document))
    return sealed.length <= maximumLength
      ? sealed
      : yield* new StorageRefused({ detail: "the credential is too large: encrypted, it may have 16 MiB" })
  })

  /** The text to keep, over what is stored. */
  const seal = Effect.fnUntraced(function*(credential: Credential, stored: StoredCredential | undefined) {
    const document = encodeCredential(credential, yield* DateTime.now, stored, tenantId)
    if (Result.isFailure(document)) return yield* new StorageRefused({ detail: document.failure })
    return yield* encrypt(document.success)
  })

  return { open, encrypt, seal } as const
}
