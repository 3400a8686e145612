/**
 * Connections to the databases that credentials can rest in. Each needs a package that who works on files need not have, and
 * is loaded when it is asked for.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Redis } from "effect/persistence/Redis"
import * as Predicate from "effect/Predicate"
import type { SqlClient } from "effect/sql/SqlClient"
import { AdenConfigError } from "../CredentialError.ts"
import type { CredentialStorageError } from "../CredentialError.ts"
import type { DatabaseLocation } from "./storageLocation.ts"

type Connection<I> = Layer.Layer<I, AdenConfigError | CredentialStorageError>

/** A connection whose module is loaded with it. Without the package it says how to install it. */
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
    ({ connectRedis }) => connectRedis(location.setting, location.url)
  )

export const postgresConnection = (location: DatabaseLocation): Connection<SqlClient> =>
  loaded(
    location,
    "@effect/sql-pg",
    () => import("../postgres/PostgresConnection.ts"),
    ({ connectPostgres }) => connectPostgres(location.setting, location.url)
  )
