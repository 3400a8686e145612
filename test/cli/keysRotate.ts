/** A directory of which the keys are rotated, from the one of the tests to a new one. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Credential, CredentialStorage, EncryptedFileStorage } from "aden-credentials"
import { Effect, Redacted } from "effect"
import * as path from "node:path"
import { encryptionKey } from "./harness.ts"

/** The key that all is put under. */
export const newKey = "DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus="
/** The settings of the command. */
export const keys = { HIVE_CREDENTIAL_KEY: `${newKey},${encryptionKey}` }

/** A storage in a directory under this key. */
export const using = <A, E>(
  directory: string,
  key: string,
  use: (storage: CredentialStorage["Service"]) => Effect.Effect<A, E>
) =>
  CredentialStorage.use(use).pipe(
    Effect.provide(EncryptedFileStorage.layer({ directory, keys: [Redacted.make(key)] })),
    Effect.provide(NodeServices.layer)
  )

/** Puts credentials into a directory. */
export const save = (directory: string, ids: ReadonlyArray<string>, key = encryptionKey) =>
  using(
    directory,
    key,
    (storage) => storage.saveMany(ids.map((id) => Credential.fromApiKey({ id, apiKey: Redacted.make(`secret ${id}`) })))
  )

/** Where a credential lies. */
export const enc = (directory: string, name: string) => path.join(directory, "credentials", `${name}.enc`)
