/**
 * Encryption at rest for databases: a credential is stored as the same encrypted document as in a file, so reading the database
 * shows no secret.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { Buffer } from "node:buffer"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { Fernet } from "../../encryption/Fernet.ts"
import { CredentialDecryptionFailed, StorageRefused } from "../../errors/StorageError.ts"
import type { Credential } from "../../model/Credential.ts"
import { checkNamespace, checkTenant, decodeDocument, documentText, encodeDocument } from "./HiveDocument.ts"
import type { HiveDocument } from "./HiveDocument.ts"

/** The same limit as for files. */
const maximumLength = 16 * 1024 * 1024

const decodeUtf8 = (bytes: Uint8Array): Result.Result<string, string> =>
  Result.try({
    try: () => new TextDecoder("utf-8", { fatal: true }).decode(bytes),
    catch: () => "its content is not UTF-8 text"
  })

/** Encodes and encrypts the documents of a namespace, of one tenant or of any, and back: the first key encrypts, all decrypt. */
export const makeSealedCodec = (keys: FernetKeys, { namespace, tenantId }: {
  readonly namespace: string
  readonly tenantId: string | undefined
}) => {
  const decode = (id: string, plaintext: Uint8Array): Result.Result<HiveDocument, string> =>
    decodeUtf8(plaintext).pipe(
      Result.flatMap(decodeDocument),
      // with write access to the database, one credential could be copied into the place of another
      Result.flatMap(checkTenant(tenantId)),
      Result.flatMap(checkNamespace(namespace)),
      Result.flatMap((stored) =>
        stored.credential.id === id ? Result.succeed(stored) : Result.fail("it holds another credential")
      )
    )

  /** Decrypts and decodes the document stored under this id. */
  const open = (
    id: string,
    location: string,
    sealed: string
  ): Effect.Effect<HiveDocument, CredentialDecryptionFailed> => {
    const fail = (detail: string) => Effect.fail(new CredentialDecryptionFailed({ id, location, detail }))
    if (sealed.length > maximumLength) return fail("it is larger than 16 MiB")
    return Fernet.decrypt(keys, sealed).pipe(
      Effect.matchEffect({
        onFailure: ({ message }) => fail(message),
        onSuccess: (plaintext) => Result.match(decode(id, plaintext), { onFailure: fail, onSuccess: Effect.succeed })
      })
    )
  }

  const encrypt = Effect.fnUntraced(function*(document: string) {
    const sealed = yield* Fernet.encrypt(keys, Buffer.from(document))
    return sealed.length <= maximumLength
      ? sealed
      : yield* new StorageRefused({ detail: "the credential is too large: encrypted, it may have 16 MiB" })
  })

  /** Encodes a credential over the stored document and encrypts it. */
  const seal = Effect.fnUntraced(function*(credential: Credential, stored: HiveDocument | undefined) {
    const document = encodeDocument(credential, yield* DateTime.now, stored, { namespace, tenantId })
    if (Result.isFailure(document)) return yield* new StorageRefused({ detail: document.failure })
    return yield* encrypt(document.success)
  })

  /** Encrypts a document that was stored elsewhere, for this namespace. */
  const sealCopy = (stored: HiveDocument) => encrypt(documentText(stored, namespace))

  return { open, seal, sealCopy } as const
}
