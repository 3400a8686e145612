/**
 * The tables of credentials in Postgres:
 *
 * - `{table}`: an entry of a namespace in each row. Of a deleted entry a row without document and state is left, which keeps
 *   the generation. The key is a hash of the id: an index takes no long text.
 * - `{table}_namespaces`: the number of the latest change in each namespace. Who writes holds its row until the write is done,
 *   so changes are seen in the order of their numbers.
 * - `{table}_leases`: who holds a lock, and until when by the clock of the server.
 * - `{table}_migrations`: what was done to make these.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import * as Migrator from "effect/sql/Migrator"
import { SqlClient } from "effect/sql/SqlClient"
import { isSqlError } from "effect/sql/SqlError"
import { AdenConfigError } from "../../errors/CredentialError.ts"
import type { StorageIoFailed } from "../../errors/CredentialError.ts"
import { isTableMissing } from "./fault.ts"
import { answeredWithin, answerTime, outsideTransactions } from "./statement.ts"

export const defaultTable = "aden_credentials"

/** Names that need no quotes, and leave room for the ends of the other tables' names in the 63 bytes that a name may have. */
const allowed = /^(?:[a-z_][a-z0-9_]{0,62}\.)?[a-z_][a-z0-9_]{0,39}$/

export const tableSetting = (table: string): Effect.Effect<string, AdenConfigError> =>
  allowed.test(table) ? Effect.succeed(table) : Effect.fail(
    new AdenConfigError({
      setting: "table",
      detail: "is not a name of at most 40 lower-case letters, digits and underscores, after that of a schema or not",
      remedy: `Leave it out for ${defaultTable}, or give one such as "agents.credentials".`
    })
  )

/** The client, when its server is Postgres. */
export const postgresSetting = (sql: SqlClient): Effect.Effect<SqlClient, AdenConfigError> =>
  sql.onDialectOrElse({ pg: () => true, orElse: () => false }) ? Effect.succeed(sql) : Effect.fail(
    new AdenConfigError({
      setting: "SqlClient",
      detail: "is not that of a Postgres server",
      remedy: "Provide PostgresConnection of aden-credentials/postgres, or the client of @effect/sql-pg."
    })
  )

/** Programs that start at once wait for one another. */
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

/** Makes the tables, or brings them up to date; several programs may do so at once. */
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

/** The same, done when it is first needed, and not again once it was. */
export const migratedOnce = (sql: SqlClient, table: string): Effect.Effect<void, StorageIoFailed> => {
  const one = Semaphore.makeUnsafe(1)
  let isDone = false
  const migrate = Effect.suspend(() =>
    isDone ? Effect.void : Effect.tap(migrateTables(sql, table), () => Effect.sync(() => isDone = true))
  )
  return Effect.suspend(() => isDone ? Effect.void : one.withPermit(migrate))
}
