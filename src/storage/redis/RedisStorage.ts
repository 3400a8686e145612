/**
 * Credentials in Redis, shared by all processes and hosts that use the same server.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import type * as Path from "effect/Path"
import * as Redis from "effect/persistence/Redis"
import type * as Redacted from "effect/Redacted"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { configuredKeys, parseKeys } from "../../encryption/keys.ts"
import type { AdenConfigError } from "../../errors/ConfigError.ts"
import { CurrentTenant } from "../../model/currentTenant.ts"
import { CredentialStorage } from "../CredentialStorage.ts"
import { tenantNamespace } from "../format/tenantNames.ts"
import { makeRecordStorage } from "../records/RecordStorage.ts"
import { defaultNamespace, namespaceSetting } from "../records/settings.ts"
import { makeRedisDatabase } from "./RedisDatabase.ts"

/**
 * A {@link CredentialStorage} in Redis, over Effect's `Redis` service. Each credential is stored as the same encrypted document as
 * in a file, so the server sees no secret. The state beside it is not encrypted; it holds no secrets.
 *
 * Every write is a compare-and-swap on the generation that it was computed from, so an older credential never replaces a newer one,
 * however late it arrives. `saveMany` takes one round trip to read and one to write. `changes` are those of all writers, through
 * pub/sub; missed ones are read after the connection was lost, or every 10 s where the `Redis` service does not report the loss.
 *
 * `withLock` is a lease of 15 s, which its holder renews every 5 s, so the lock of a holder that died or was suspended is taken over
 * when it expires. Waiters are notified of a release, and retry after 0.5 s at the latest; after 20 s they fail with
 * `LockTimeout`. While the server cannot be reached, the lock excludes only the fibers of this process, with a warning.
 *
 * A command that is not answered within 2 s fails (2 s for each thousand credentials). Within `TenantCredentials`, each tenant
 * has a namespace of its own.
 *
 * @since 0.1.0
 * @category storages
 */
export class RedisStorage {
  /**
   * A storage under the keys `{namespace}:…` (`aden-credentials` by default) of a Redis server, encrypted under these keys: the
   * first encrypts, all decrypt. Fails with `AdenConfigError` when one of them is not a Fernet key, or the namespace has other
   * characters than letters, digits, and `.`, `:`, `-`, `_`.
   *
   * The server is the one of the `Redis` service: `RedisConnection` of `aden-credentials/redis`, which fails at once while the
   * server is away, or any other.
   *
   * @example
   * ```ts
   * import { RedisStorage } from "aden-credentials"
   * import { Redacted } from "effect"
   *
   * const Storage = RedisStorage.layer({
   *   namespace: "agents:production",
   *   keys: [Redacted.make("DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus=")]
   * })
   * ```
   */
  static readonly layer = <E = never, R = never>(options: {
    readonly namespace?: string | undefined
    readonly keys:
      | ReadonlyArray<Redacted.Redacted<string>>
      | Effect.Effect<ReadonlyArray<Redacted.Redacted<string>>, E, R>
  }): Layer.Layer<CredentialStorage, AdenConfigError | E, Redis.Redis | R> => {
    const keys = Effect.isEffect(options.keys) ? options.keys : Effect.succeed(options.keys)
    return Layer.effect(
      CredentialStorage,
      make(options.namespace, Effect.flatMap(keys, (texts) => parseKeys(texts, "keys")))
    )
  }

  /**
   * A storage with the encryption keys of the environment: `HIVE_CREDENTIAL_KEY` (one key, or several separated by commas), else
   * the file `~/.hive/secrets/credential_key`. Fails with `AdenConfigError` when there is none, or others can access the file.
   */
  static readonly layerConfig: Layer.Layer<
    CredentialStorage,
    AdenConfigError,
    Redis.Redis | FileSystem.FileSystem | Path.Path
  > = Layer.suspend(() => RedisStorage.layerConfigWith({}))

  /** Like `layerConfig`, in another namespace. */
  static readonly layerConfigWith = (options: {
    readonly namespace?: string | undefined
  }): Layer.Layer<CredentialStorage, AdenConfigError, Redis.Redis | FileSystem.FileSystem | Path.Path> =>
    Layer.effect(CredentialStorage, make(options.namespace, configuredKeys))
}

// internal

const make = Effect.fnUntraced(function*<E, R>(
  chosenNamespace: string | undefined,
  chosenKeys: Effect.Effect<FernetKeys, E, R>
) {
  const redis = yield* Redis.Redis
  const tenantId = yield* CurrentTenant
  const namespace = tenantNamespace(yield* namespaceSetting(chosenNamespace ?? defaultNamespace), tenantId)
  const keys = yield* chosenKeys
  return yield* makeRecordStorage("RedisStorage", { database: makeRedisDatabase(redis, namespace), keys, tenantId })
})
