/**
 * Credentials in Postgres, shared by all processes and hosts that use the same database.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import type * as Path from "effect/Path"
import type * as Redacted from "effect/Redacted"
import { SqlClient } from "effect/sql/SqlClient"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { configuredKeys, parseKeys } from "../../encryption/keys.ts"
import type { AdenConfigError } from "../../errors/ConfigError.ts"
import { CredentialStorageError } from "../../errors/StorageError.ts"
import { CurrentTenant } from "../../model/currentTenant.ts"
import { CredentialStorage } from "../CredentialStorage.ts"
import { tenantNamespace } from "../format/tenantNames.ts"
import { makeRecordStorage } from "../records/RecordStorage.ts"
import { defaultNamespace, namespaceSetting } from "../records/settings.ts"
import { makeSqlDatabase } from "./SqlDatabase.ts"
import { defaultTable, migratedOnce, migrateTables, postgresSetting, tableSetting } from "./tables.ts"

/**
 * Where in the database credentials are stored.
 *
 * @since 0.1.0
 * @category models
 */
export interface SqlStorageOptions {
  /** The namespace of the credentials: `aden-credentials` by default. Programs with the same namespace share them. */
  readonly namespace?: string | undefined
  /** The table, with or without a schema (`schema.table`), and the prefix of the other tables: `aden_credentials` by default. */
  readonly table?: string | undefined
  /** Whether the storage creates its tables before it first uses them: `true` by default. */
  readonly migrate?: boolean | undefined
}

/**
 * A {@link CredentialStorage} in Postgres, over the `SqlClient` of `effect/sql`. Each credential is stored as the same encrypted
 * document as in a file, so the server sees no secret. The state beside it is not encrypted; it holds no secrets.
 *
 * Every write is a compare-and-swap on the generation that it was computed from, so an older credential never replaces a newer one,
 * however late it arrives. `saveMany` is one statement that reads and one that writes. `changes` are those of all writers, through
 * `NOTIFY`; missed ones are read after the connection was lost.
 *
 * `withLock` is a lease of 15 s by the server's clock, which its holder renews every 5 s, so the lock of a holder that died or was
 * suspended is taken over when it expires. Waiters are notified of a release, and retry after 0.5 s at the latest; after 20 s
 * they fail with `LockTimeout`. While the server cannot be reached, the lock excludes only the fibers of this process, with a
 * warning.
 *
 * A statement that is not answered within 2 s fails (2 s for each thousand credentials). Statements run outside of a transaction
 * that the program has open. The storages of a client listen through one connection of its pool, so a pool needs at least two.
 * Within `TenantCredentials`, each tenant has a namespace of its own.
 *
 * @since 0.1.0
 * @category storages
 */
export class SqlStorage {
  /**
   * A storage in a table of a Postgres database, encrypted under these keys: the first encrypts, all decrypt. Fails with
   * `AdenConfigError` when one of them is not a Fernet key, namespace or table is not a valid name, or the server is not Postgres.
   *
   * The server is the one of the `SqlClient` service: `PostgresConnection` of `aden-credentials/postgres`, which fails at once when
   * it cannot be reached, or the program's own client of `@effect/sql-pg`. Other clients cannot listen: changes by other writers
   * are then polled every 10 s.
   *
   * @example
   * ```ts
   * import { SqlStorage } from "aden-credentials"
   * import { Redacted } from "effect"
   *
   * const Storage = SqlStorage.layer({
   *   namespace: "agents:production",
   *   keys: [Redacted.make("DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus=")]
   * })
   * ```
   */
  static readonly layer = <E = never, R = never>(
    options: SqlStorageOptions & {
      readonly keys:
        | ReadonlyArray<Redacted.Redacted<string>>
        | Effect.Effect<ReadonlyArray<Redacted.Redacted<string>>, E, R>
    }
  ): Layer.Layer<CredentialStorage, AdenConfigError | E, SqlClient | R> => {
    const keys = Effect.isEffect(options.keys) ? options.keys : Effect.succeed(options.keys)
    return Layer.effect(CredentialStorage, make(options, Effect.flatMap(keys, (texts) => parseKeys(texts, "keys"))))
  }

  /**
   * A storage with the encryption keys of the environment: `HIVE_CREDENTIAL_KEY` (one key, or several separated by commas), else
   * the file `~/.hive/secrets/credential_key`. Fails with `AdenConfigError` when there is none, or others can access the file.
   */
  static readonly layerConfig: Layer.Layer<
    CredentialStorage,
    AdenConfigError,
    SqlClient | FileSystem.FileSystem | Path.Path
  > = Layer.suspend(() => SqlStorage.layerConfigWith({}))

  /** Like `layerConfig`, in another namespace or table. */
  static readonly layerConfigWith = (
    options: SqlStorageOptions
  ): Layer.Layer<CredentialStorage, AdenConfigError, SqlClient | FileSystem.FileSystem | Path.Path> =>
    Layer.effect(CredentialStorage, make(options, configuredKeys))

  /**
   * Creates the tables or brings them up to date. For programs whose own user may not create tables: run it as a user who may, and
   * give the program `migrate: false`. Several programs may run it at once. Fails with `CredentialStorageError` when the server
   * cannot be reached or does not allow it.
   *
   * @example
   * ```ts
   * import { SqlStorage } from "aden-credentials"
   * import { PostgresConnection } from "aden-credentials/postgres"
   * import { Effect } from "effect"
   *
   * const program = SqlStorage.migrate().pipe(Effect.provide(PostgresConnection.layerConfig))
   * ```
   */
  static readonly migrate = Effect.fn("SqlStorage.migrate")(function*(
    options: Pick<SqlStorageOptions, "table"> = {}
  ) {
    const sql = yield* postgresSetting(yield* SqlClient)
    const table = yield* tableSetting(options.table ?? defaultTable)
    yield* Effect.mapError(
      migrateTables(sql, table),
      (reason) => new CredentialStorageError({ operation: "migrate", reason })
    )
  })
}

// internal

const make = Effect.fnUntraced(function*<E, R>(
  options: SqlStorageOptions,
  chosenKeys: Effect.Effect<FernetKeys, E, R>
) {
  const sql = yield* postgresSetting(yield* SqlClient)
  const tenantId = yield* CurrentTenant
  const namespace = tenantNamespace(yield* namespaceSetting(options.namespace ?? defaultNamespace), tenantId)
  const table = yield* tableSetting(options.table ?? defaultTable)
  const keys = yield* chosenKeys
  const prepared = options.migrate === false ? Effect.void : migratedOnce(sql, table)
  const database = makeSqlDatabase(sql, { table, namespace, prepared })
  return yield* makeRecordStorage("SqlStorage", { database, keys, tenantId })
})
