/**
 * The tables in Postgres:
 *
 * - `{table}`: a row for each entry of a namespace. A deleted entry leaves a tombstone: a row without document and state that keeps
 *   the generation. The key is a hash of the id, because an index takes no long text.
 * - `{table}_namespaces`: the number of the latest change in each namespace. A writer locks its row until the write is committed,
 *   so changes become visible in the order of their numbers.
 * - `{table}_leases`: the holder of each lock, and when its lease expires by the server's clock.
 * - `{table}_migrations`: the migrations that were run.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import * as Migrator from "effect/sql/Migrator"
import { SqlClient } from "effect/sql/SqlClient"
import { isSqlError } from "effect/sql/SqlError"
import { AdenConfigError } from "../../errors/ConfigError.ts"
import type { StorageIoFailed } from "../../errors/StorageError.ts"
import { isTableMissing } from "./fault.ts"
import { answeredWithin, answerTime, outsideTransactions } from "./statement.ts"

export const defaultTable = "aden_credentials"

/** Names that need no quotes and leave room for the suffixes of the other tables within the 63 bytes of a name. */
const allowed = /^(?:[a-z_][a-z0-9_]{0,62}\.)?[a-z_][a-z0-9_]{0,39}$/

export const tableSetting = (table: string): Effect.Effect<string, AdenConfigError> =>
  allowed.test(table) ? Effect.succeed(table) : Effect.fail(
    new AdenConfigError({
      setting: "table",
      detail:
        "is not a name of at most 40 lower-case letters, digits and underscores, with or without a schema before it",
      remedy: `Leave it out for ${defaultTable}, or give one such as "agents.credentials".`
    })
  )

/** The client, checked to be for Postgres. */
export const postgresSetting = (sql: SqlClient): Effect.Effect<SqlClient, AdenConfigError> =>
  sql.onDialectOrElse({ pg: () => true, orElse: () => false }) ? Effect.succeed(sql) : Effect.fail(
    new AdenConfigError({
      setting: "SqlClient",
      detail: "is not for a Postgres server",
      remedy: "Provide PostgresConnection of aden-credentials/postgres, or the client of @effect/sql-pg."
    })
  )

/** Programs that start at the same time wait for one another. */
const migrationTime = Duration.seconds(30)

const migrations = (table: string): Record<string, Effect.Effect<void, unknown, SqlClient>> => ({
  "0001_make_tables": Effect.gen(function*() {
    const sql = yield* SqlClient
    const name = sql.literal(table)
    const index = sql.literal(`${table.slice(table.lastIndexOf(".") + 1)}_sequence`)
    yield* sql`
      create table ${name} (
        namespace text collate "C" not null,
        key text collate "C" not null,
        id text not null,
        generation bigint not null,
        document text,
        state text,
        sequence bigint not null default 0,
        writer text not null default '',
        primary key (namespace, key)
      )`
    yield* sql`create index ${index} on ${name} (namespace, sequence)`
    yield* sql`
      create table ${sql.literal(`${table}_namespaces`)} (
        namespace text collate "C" primary key,
        latest bigint not null
      )`
    yield* sql`
      create table ${sql.literal(`${table}_leases`)} (
        namespace text collate "C" not null,
        key text collate "C" not null,
        token text not null,
        until timestamptz not null,
        primary key (namespace, key)
      )`
  })
})

const latestMigration = Object.keys(migrations("")).length

/** Creates the tables or brings them up to date. Several programs may do so at once. */
export const migrateTables = (sql: SqlClient, table: string): Effect.Effect<void, StorageIoFailed> => {
  const location = `the Postgres tables ${table}`
  const isUpToDate = sql.withoutTransforms()`
    select from ${sql.literal(`${table}_migrations`)} where migration_id >= ${latestMigration}
  `.pipe(
    Effect.map((rows) => rows.length > 0),
    Effect.catchIf(isTableMissing, () => Effect.succeed(false)),
    answeredWithin(answerTime, location)
  )
  const run = Migrator.make({})({ loader: Migrator.fromRecord(migrations(table)), table: `${table}_migrations` }).pipe(
    Effect.provideService(SqlClient, sql),
    Effect.catchTag("MigrationError", (error) =>
      isSqlError(error.cause)
        ? Effect.fail(error.cause)
        : Effect.die(error)),
    answeredWithin(migrationTime, location)
  )
  return Effect.flatMap(isUpToDate, (isDone) => isDone ? Effect.void : Effect.asVoid(run)).pipe(
    outsideTransactions(sql)
  )
}

/** Like `migrateTables`, but lazily, and only once after it succeeded. */
export const migratedOnce = (sql: SqlClient, table: string): Effect.Effect<void, StorageIoFailed> => {
  const one = Semaphore.makeUnsafe(1)
  let isDone = false
  const migrate = Effect.suspend(() =>
    isDone ? Effect.void : Effect.tap(migrateTables(sql, table), () => Effect.sync(() => isDone = true))
  )
  return Effect.suspend(() => isDone ? Effect.void : one.withPermit(migrate))
}
