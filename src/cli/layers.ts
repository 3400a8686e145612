/**
 * What commands run on, from the environment (`ADEN_API_URL`, `ADEN_API_KEY`, `ADEN_TENANT_ID`, `HIVE_CREDENTIAL_KEY`) and
 * `--directory`. Settings that make no sense fail here, before any request.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { AdenClient } from "../AdenClient.ts"
import { AdenSyncProvider } from "../AdenSyncProvider.ts"
import { CredentialProviders } from "../CredentialProvider.ts"
import { CredentialStore } from "../CredentialStore.ts"
import { EncryptedFileStorage } from "../storage/EncryptedFileStorage.ts"
import { rootCommand } from "./rootCommand.ts"

const storage = Layer.unwrap(
  Effect.map(
    rootCommand,
    ({ directory }) => EncryptedFileStorage.layerConfigWith({ directory: Option.getOrUndefined(directory) })
  )
)

/** The store with Aden behind it. */
export const storeWithAden = CredentialStore.layer().pipe(
  Layer.provide(AdenSyncProvider.layer()),
  Layer.provide(AdenClient.layerConfig),
  Layer.provide(storage)
)

/** The store over what is on disk, for commands that have nothing to do with Aden. */
export const storeAlone = CredentialStore.layer().pipe(
  Layer.provide(CredentialProviders.layerNone),
  Layer.provide(storage)
)

/** The store by the rules of the Aden provider, for commands that ask nobody: nothing of Aden's needs to be set for them. */
export const storeOffline = CredentialStore.layer().pipe(
  Layer.provide(AdenSyncProvider.layer()),
  Layer.provide(AdenClient.layerTest({})),
  Layer.provide(storage)
)
