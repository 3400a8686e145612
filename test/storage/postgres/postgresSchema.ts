/**
 * A place in the real Postgres server for one test: a schema of its own, removed when the scope closes.
 */
import { PostgresConnection } from "aden-credentials/postgres"
import { Context, Effect, Layer, Redacted } from "effect"
import { SqlClient } from "effect/sql/SqlClient"
import { randomBytes } from "node:crypto"
import { CredentialStorage } from "../../../src/storage/CredentialStorage.ts"
import { SqlStorage } from "../../../src/storage/postgres/SqlStorage.ts"
import type { SqlStorageOptions } from "../../../src/storage/postgres/SqlStorage.ts"
import { postgres } from "../../fixtures/realServers.ts"
import { key } from "../temporaryStorage.ts"

/** A client of its own, until the scope closes. */
export const connected = (url: string) =>
  Effect.map(
    Layer.build(Layer.fresh(PostgresConnection.layer({ url: Redacted.make(url) }))),
    Context.get(SqlClient)
  )

/** The URL of a server whose tables are looked for and made in this schema. */
export const inSchema = (url: string, schema: string): string => {
  const changed = new URL(url)
  changed.searchParams.set("options", `-c search_path=${schema}`)
  // a "+" is no space there
  return changed.href.replaceAll("+", "%20")
}

/** The URL of a schema of its own. */
export const newSchema = Effect.gen(function*() {
  const schema = `test_${randomBytes(8).toString("hex")}`
  const sql = yield* connected(postgres.url)
  yield* Effect.acquireRelease(
    sql`create schema ${sql(schema)}`,
    () => Effect.orDie(sql`drop schema ${sql(schema)} cascade`)
  )
  return inSchema(postgres.url, schema)
})

/** A storage as one more process has it, over this client. */
export const storageOver = (
  sql: SqlClient,
  options: SqlStorageOptions & { readonly keys?: ReadonlyArray<Redacted.Redacted<string>> } = {}
) =>
  Effect.map(
    Layer.build(Layer.fresh(SqlStorage.layer({ keys: [key], ...options }))).pipe(Effect.provideService(SqlClient, sql)),
    Context.get(CredentialStorage)
  )

/** A schema, and a way to build the storages of more processes in it. */
export const place = Effect.gen(function*() {
  const url = yield* newSchema
  const sql = yield* connected(url)
  return {
    url,
    sql,
    process: Effect.flatMap(connected(url), (sql) => storageOver(sql)),
    storage: yield* storageOver(sql)
  } as const
})

/** A storage with a client of its own, in a namespace of its own: a schema for each of hundreds would take long. */
export const namespacedIn = (url: () => string) =>
  Layer.unwrap(Effect.sync(() =>
    SqlStorage.layer({ namespace: randomBytes(8).toString("hex"), keys: [key] }).pipe(
      Layer.provide(PostgresConnection.layer({ url: Redacted.make(url()) }))
    )
  ))

/** The same client, with something done after each statement that a storage makes, told its text. */
export const following = (sql: SqlClient, step: (text: string) => Effect.Effect<unknown>): SqlClient => {
  const followed: SqlClient = new Proxy(sql, {
    get: (target, name) => name === "withoutTransforms" ? () => followed : Reflect.get(target, name),
    apply: (target, self, args) =>
      new Proxy(Reflect.apply(target, self, args), {
        get: (statement, name) => {
          const value: unknown = Reflect.get(statement, name)
          if (name !== "pipe" || typeof value !== "function") return value
          return value.bind(Effect.tap(statement, () => step(String(statement.compile()[0]))))
        }
      })
  })
  return followed
}

/** The same client, as one that cannot listen. */
export const deaf = (sql: SqlClient): SqlClient =>
  new Proxy(sql, { has: (target, name) => name !== "~@effect/sql-pg/PgClient" && Reflect.has(target, name) })
