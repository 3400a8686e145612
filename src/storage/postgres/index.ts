/**
 * The connection to a Postgres server. A separate entry point, because it needs the package `@effect/sql-pg`.
 *
 * @since 0.1.0
 * @module
 */
export { PostgresConnection } from "./PostgresConnection.ts"
