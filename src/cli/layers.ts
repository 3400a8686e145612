/**
 * The layers that commands run on, from the environment (`ADEN_API_URL`, `ADEN_API_KEY`, `ADEN_TENANT_ID`,
 * `HIVE_CREDENTIAL_KEY`) and `--directory` or `--storage`. Invalid settings fail here, before any request.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { CurrentTenant } from "../model/currentTenant.ts"
import { AdenClient } from "../providers/aden/AdenClient.ts"
import { AdenSyncProvider } from "../providers/aden/AdenSyncProvider.ts"
import { configuredIssuer } from "../providers/aden/inspect.ts"
import { CredentialProviders } from "../providers/CredentialProvider.ts"
import { configuredProxies } from "../proxy/inspect.ts"
import type { CredentialStorage } from "../storage/CredentialStorage.ts"
import { EncryptedFileStorage } from "../storage/files/EncryptedFileStorage.ts"
import { postgresConnection, redisConnection } from "../storage/migration/databases.ts"
import { requireDirectory } from "../storage/migration/location.ts"
import type { DatabaseLocation } from "../storage/migration/location.ts"
import { SqlStorage } from "../storage/postgres/SqlStorage.ts"
import { RedisStorage } from "../storage/redis/RedisStorage.ts"
import { CredentialStore } from "../store/CredentialStore.ts"
import { chosenStorage } from "./rootCommand.ts"

/**
 * What a command does when the directory or the table does not exist: `looks` finds nothing, `changes` fails, `makes` creates it.
 */
type Access = "looks" | "changes" | "makes"

const storage = (access: Access) =>
  Layer.unwrap(Effect.map(chosenStorage, (location) => {
    switch (location._tag) {
      case "Directory":
        return EncryptedFileStorage.layerConfigWith({ directory: location.directory }).pipe(
          Layer.tap(() => access === "changes" ? requireDirectory(location) : Effect.void)
        )
      case "Redis":
        return inDatabase(location, RedisStorage.layerConfigWith(location), redisConnection(location))
      case "Postgres":
        return inDatabase(
          location,
          SqlStorage.layerConfigWith({ ...location, migrate: access === "makes" }),
          postgresConnection(location)
        )
    }
  }))

const inDatabase = <I, E, R, E2>(
  { tenantId }: DatabaseLocation,
  storage: Layer.Layer<CredentialStorage, E, I | R>,
  connection: Layer.Layer<I, E2>
) => storage.pipe(Layer.provide(connection), Layer.provide(Layer.succeed(CurrentTenant, tenantId)))

/** The client of Aden, where the proxies of the environment are valid. */
export const adenClient = (options: Parameters<typeof AdenClient.layerConfigWith>[0] = {}) =>
  Layer.tap(AdenClient.layerConfigWith(options), () => configuredProxies)

/** The store with Aden behind it. */
export const storeWithAden = (access: Access) =>
  CredentialStore.layer().pipe(
    Layer.provide(AdenSyncProvider.layer()),
    Layer.provide(adenClient()),
    Layer.provide(storage(access))
  )

/** The store without a provider, for commands that do not involve Aden. What another issuer than the configured one stored is not in it, but in the storage beside it. */
export const storeWithoutAden = (access: Access) =>
  CredentialStore.layer().pipe(
    Layer.provide(
      Layer.effect(
        CredentialProviders,
        Effect.map(configuredIssuer, (issuer) => ({ all: [], issuers: issuer === undefined ? [] : [issuer] }))
      )
    ),
    Layer.provideMerge(storage(access))
  )

/** The store by the rules of the Aden provider, for commands that make no request: they need no settings of Aden. */
export const storeOffline = CredentialStore.layer().pipe(
  Layer.provide(AdenSyncProvider.layer()),
  Layer.provide(
    Layer.unwrap(
      Effect.map(
        configuredIssuer,
        (issuer) => AdenClient.layerTest(issuer === undefined ? {} : { issuer: Effect.succeed(issuer) })
      )
    )
  ),
  Layer.provide(storage("looks"))
)
