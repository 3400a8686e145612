/**
 * The connection to a Postgres server.
 *
 * @since 0.1.0
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { layer as pgClient } from "@effect/sql-pg/PgClient"
import type { PgClient, PgClientConfig } from "@effect/sql-pg/PgClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { AdenConfigError } from "../../errors/ConfigError.ts"
import { CredentialStorageError } from "../../errors/StorageError.ts"
import { missingSetting } from "../../model/settings.ts"
import { configuredUrl, postgresVariable } from "../records/settings.ts"
import { isRefusal, sqlFault } from "./fault.ts"
import { boundedScope } from "./statement.ts"
import { tlsOf } from "./tls.ts"
import type { Verification } from "./tls.ts"

/**
 * The client of `@effect/sql-pg`, set up for `SqlStorage`: checked when the program starts, and restored automatically after the
 * connection was lost. A program that has a `PgClient` already can use that instead.
 *
 * @example
 * ```ts
 * import { SqlStorage } from "aden-credentials"
 * import { PostgresConnection } from "aden-credentials/postgres"
 * import { Layer } from "effect"
 *
 * // + NodeServices.layer at the edge, for the key file
 * const Storage = SqlStorage.layerConfig.pipe(Layer.provide(PostgresConnection.layerConfig))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export class PostgresConnection {
  /**
   * A pool of at most `maxConnections` (10 by default) connections to `postgres://[user[:password]@]host[:port][/database]`, one of
   * them for notifications. A server on another machine has to speak TLS, with a certificate for its host that this machine trusts,
   * unless `sslmode` in the URL says otherwise, as libpq has it: `disable`, `require` (TLS with any certificate), `verify-ca` or
   * `verify-full`; `sslrootcert` is the file with the authorities. With `allowInsecure`, a URL without `sslmode` means plain text.
   *
   * Fails with `AdenConfigError` when the URL is invalid, or the server refuses TLS, user name or password, shows a certificate that
   * is not trusted, or has no such database, and with `CredentialStorageError` when it cannot be reached. No error contains the
   * password.
   */
  static readonly layer = (options: {
    readonly url: Redacted.Redacted<string>
    readonly maxConnections?: number | undefined
    readonly allowInsecure?: boolean | undefined
  }): Layer.Layer<PgClient | SqlClient, AdenConfigError | CredentialStorageError> =>
    connectPostgres("url", options.url, options)

  /** Connections to the server of `DATABASE_URL`. Fails with `AdenConfigError` when it is not set. */
  static readonly layerConfig: Layer.Layer<PgClient | SqlClient, AdenConfigError | CredentialStorageError> = Layer
    .unwrap(Effect.map(configuredUrl(postgresVariable), (url) => connectPostgres(postgresVariable, url)))
}

// internal

/** One listens all the time, so there has to be another for statements. */
const leastConnections = 2

/** A connection that is lost without an error is noticed after about twice this time. */
const keepAlive = Duration.seconds(10)

/** Room for the largest credential with its state, escaped. */
const maxMessageSize = 64 * 1024 * 1024

interface Address {
  /** The URL without user name, password and settings. */
  readonly shown: string
  /** `undefined` for plain text. */
  readonly tls: Verification | undefined
  readonly secrets: ReadonlyArray<string>
}

const decoded = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

const parseUrl = (
  setting: string,
  text: Redacted.Redacted<string>,
  options: { readonly allowInsecure: boolean }
): Effect.Effect<Address, AdenConfigError> => {
  const refuse = (detail: string) =>
    Effect.fail(
      new AdenConfigError({ setting, detail, remedy: "Give it as postgres://user:password@host:5432/database." })
    )
  const value = Redacted.value(text)
  if (value === "") {
    return Effect.fail(missingSetting(setting, "the URL of the Postgres server, such as postgres://host:5432/database"))
  }
  if (!URL.canParse(value)) return refuse("is not a URL")
  const url = new URL(value)
  if (url.protocol !== "postgres:" && url.protocol !== "postgresql:") {
    return refuse("is not the URL of a Postgres server: it does not begin with postgres:// or postgresql://")
  }
  // a password with one of these characters, unescaped, would end up in the parts that are shown
  if (url.hash !== "" || url.search.includes("@") || /[@:]|^\/.*\//.test(url.pathname)) {
    return refuse("has more than a database after the host: / # ? @ in a password are written %2F %23 %3F %40")
  }
  const tls = tlsOf(url, options)
  if (Result.isFailure(tls)) return Effect.fail(new AdenConfigError({ setting, ...tls.failure }))
  const passwords = [url.password, ...url.searchParams.getAll("password")]
  return Effect.succeed({
    shown: `${url.protocol}//${url.host}${url.pathname}`,
    tls: tls.success,
    secrets: passwords.flatMap((password) => [password, decoded(password)]).filter((password) => password !== "")
  })
}

/** What the client is told of TLS; always something, or it would read the URL itself, which names less. */
const sslOption = Effect.fnUntraced(function*(
  setting: string,
  tls: Verification | undefined
): Effect.fn.Return<PgClientConfig["ssl"], AdenConfigError> {
  if (tls === undefined) return false
  const { authority, hostName, rootFile } = tls
  return {
    rejectUnauthorized: authority,
    ...(hostName ? {} : { checkServerIdentity: () => undefined }),
    ...(rootFile === undefined ? {} : { ca: yield* rootsIn(setting, rootFile) })
  }
})

const rootsIn = (setting: string, file: string): Effect.Effect<string, AdenConfigError> =>
  FileSystem.FileSystem.use((fs) => fs.readFileString(file)).pipe(
    Effect.filterOrFail((text) => text.includes("-----BEGIN CERTIFICATE-----")),
    Effect.mapError(() =>
      new AdenConfigError({
        setting,
        detail: "names a file as sslrootcert that cannot be read, or holds no certificate",
        remedy: "Give the absolute path of a PEM file, or leave it out for the authorities that Node trusts."
      })
    ),
    Effect.provide(NodeFileSystem.layer)
  )

/**
 * Connections to the server of this URL. Errors name `setting`, where the URL came from.
 *
 * @internal
 */
export const connectPostgres = (
  setting: string,
  url: Redacted.Redacted<string>,
  options: { readonly maxConnections?: number | undefined; readonly allowInsecure?: boolean | undefined } = {}
): Layer.Layer<PgClient | SqlClient, AdenConfigError | CredentialStorageError> =>
  Layer.unwrap(Effect.gen(function*() {
    const { secrets, shown, tls } = yield* parseUrl(setting, url, { allowInsecure: options.allowInsecure === true })
    const maxConnections = yield* connectionsSetting(options.maxConnections ?? 10)
    const ssl = yield* sslOption(setting, tls)
    const failure = (error: SqlError): AdenConfigError | CredentialStorageError => {
      const reason = sqlFault(shown, error, secrets)
      return isRefusal(error)
        ? new AdenConfigError({
          setting,
          detail: `does not open ${shown}: ${reason.detail}`,
          remedy: reason.remedy ?? ""
        })
        : new CredentialStorageError({ operation: "connect", reason })
    }
    const client = Layer.effectContext(Effect.flatMap(boundedScope, (scope) =>
      Layer.buildWithScope(
        pgClient({ url, ssl, maxConnections, keepAlive, maxMessageSize, applicationName: "aden-credentials" }),
        scope
      )))
    // checks the connection now: a pool connects only when it is first used
    const checked = Layer.effectDiscard(Effect.flatMap(SqlClient, (sql) => sql`select`))
    return Layer.catch(
      Layer.provideMerge(checked, client),
      (error) => Layer.effectContext(Effect.fail(failure(error)))
    )
  }))

const connectionsSetting = (count: number): Effect.Effect<number, AdenConfigError> =>
  Number.isSafeInteger(count) && count >= leastConnections ? Effect.succeed(count) : Effect.fail(
    new AdenConfigError({
      setting: "maxConnections",
      detail: `is not a whole number of ${leastConnections} or more`,
      remedy: "Leave it out for 10, or give a number of connections that the server can spare."
    })
  )
