/**
 * Connections to databases, for commands. Each needs an optional package, so its module is loaded only when it is used.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Redis } from "effect/persistence/Redis"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { SqlClient } from "effect/sql/SqlClient"
import { AdenConfigError } from "../../errors/ConfigError.ts"
import type { CredentialStorageError, StorageIoFailed } from "../../errors/StorageError.ts"
import { tenantNamespace } from "../format/tenantNames.ts"
import { makeSqlDatabase, sqlTenants } from "../postgres/SqlDatabase.ts"
import { migratedOnce } from "../postgres/tables.ts"
import type { RecordDatabase } from "../records/RecordDatabase.ts"
import { redisAllowsInsecure } from "../records/settings.ts"
import { makeRedisDatabase, redisTenants } from "../redis/RedisDatabase.ts"
import type { DatabaseLocation } from "./location.ts"

type Connection<I> = Layer.Layer<I, AdenConfigError | CredentialStorageError>

/** A connection whose module is loaded lazily. When the package is missing, the error tells how to install it. */
const loaded = <M, I>(
  { setting }: DatabaseLocation,
  name: string,
  load: () => Promise<M>,
  connect: (module: M) => Connection<I>
): Connection<I> =>
  Layer.unwrap(
    Effect.tryPromise({ try: load, catch: (cause) => cause }).pipe(
      Effect.map(connect),
      Effect.catch((cause) => isMissing(cause, name) ? Effect.fail(notInstalled(setting, name)) : Effect.die(cause))
    )
  )

const isMissing = (cause: unknown, name: string): boolean =>
  cause instanceof Error && Predicate.hasProperty(cause, "code") && cause.code === "ERR_MODULE_NOT_FOUND" &&
  cause.message.includes(`'${name}'`)

const notInstalled = (setting: string, name: string) =>
  new AdenConfigError({
    setting,
    detail: `needs the package ${name}, which is not installed`,
    remedy: `Run: npm install ${name}`
  })

export const redisConnection = (location: DatabaseLocation): Connection<Redis> =>
  loaded(
    location,
    "redis",
    () => import("../redis/RedisConnection.ts"),
    ({ connectRedis }) =>
      Layer.unwrap(
        Effect.map(
          redisAllowsInsecure,
          (allowInsecure) => connectRedis(location.setting, location.url, { allowInsecure })
        )
      )
    // the command itself reports a lost connection: the warnings of the client would repeat it
  ).pipe(Layer.provide(Layer.succeed(References.MinimumLogLevel, "Error")))

export const postgresConnection = (location: DatabaseLocation): Connection<SqlClient> =>
  loaded(
    location,
    "@effect/sql-pg",
    () => import("../postgres/PostgresConnection.ts"),
    ({ connectPostgres }) => connectPostgres(location.setting, location.url)
  )

/** The server's URL without user name, password and settings. Call it after connecting: then the URL is valid. */
export const shownServer = ({ url }: DatabaseLocation): string => {
  const { host, pathname, protocol } = new URL(Redacted.value(url))
  return `${protocol}//${host}${pathname}`
}

/** An open namespace of a database, for commands that go through all of it. */
export interface OpenDatabase {
  /** The server, for a person. */
  readonly shown: string
  /** Whether it accepts writes; `true` when that is not known. */
  readonly isWritable: Effect.Effect<boolean>
  /** The policy by which it evicts keys when its memory is full; `undefined` when it evicts none. */
  readonly eviction: Effect.Effect<string | undefined>
  /** The records of the namespace, or of the tenant with this name in it. */
  readonly recordsOf: (tenant: string | undefined) => RecordDatabase
  /** The names of the tenants; none where the namespace is a tenant's itself. */
  readonly tenants: Effect.Effect<ReadonlyArray<string>, StorageIoFailed>
}

/** Connects until the scope closes. With `makesTables`, tables are created when they are missing. */
export const openDatabase = Effect.fnUntraced(function*(
  location: DatabaseLocation,
  options: { readonly makesTables: boolean }
): Effect.fn.Return<OpenDatabase, AdenConfigError | CredentialStorageError, Scope.Scope> {
  const { namespace, table, tenantId } = location
  const namespaceOf = (tenant: string | undefined) =>
    tenant === undefined ? tenantNamespace(namespace, tenantId) : `${namespace}/${tenant}`
  const tenantsOf = (tenants: OpenDatabase["tenants"]) => tenantId === undefined ? tenants : Effect.succeed([])
  switch (location._tag) {
    case "Redis": {
      const redis = Context.get(yield* Layer.build(redisConnection(location)), Redis)
      const sectionOf = (section: string) =>
        Effect.orElseSucceed(
          Effect.flatMap(redis.send("INFO", section), Schema.decodeUnknownEffect(Schema.String)),
          () => ""
        )
      return {
        shown: `The ${location._tag} server at ${shownServer(location)}`,
        isWritable: Effect.map(sectionOf("replication"), (info) => !/^role:slave\r?$/m.test(info)),
        eviction: Effect.map(sectionOf("memory"), (info) => {
          const policy = /^maxmemory_policy:(\S+)/m.exec(info)?.[1]
          return policy === "noeviction" || /^maxmemory:0\r?$/m.test(info) ? undefined : policy
        }),
        recordsOf: (tenant) => makeRedisDatabase(redis, namespaceOf(tenant)),
        tenants: tenantsOf(redisTenants(redis, namespace))
      }
    }
    case "Postgres": {
      const sql = Context.get(yield* Layer.build(postgresConnection(location)), SqlClient)
      const prepared = options.makesTables ? migratedOnce(sql, table) : Effect.void
      return {
        shown: `The ${location._tag} server at ${shownServer(location)}`,
        isWritable: sql<{ readonly is_writable: boolean }>`
          select not (pg_is_in_recovery() or current_setting('transaction_read_only')::boolean) as is_writable
        `.pipe(
          Effect.map(([row]) => row?.is_writable ?? true),
          Effect.orElseSucceed(() => true)
        ),
        eviction: Effect.succeed(undefined),
        recordsOf: (tenant) => makeSqlDatabase(sql, { table, namespace: namespaceOf(tenant), prepared }),
        tenants: tenantsOf(Effect.andThen(prepared, sqlTenants(sql, { table, namespace })))
      }
    }
  }
})
