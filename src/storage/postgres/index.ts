/**
 * The connection to a Postgres server: an entry point of its own, because it needs the package `@effect/sql-pg`.
 *
 * @since 0.1.0
 */
export { PostgresConnection } from "./PostgresConnection.ts"
