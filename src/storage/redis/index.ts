/**
 * The connection to a Redis server, for Node. A separate entry point, because it needs the package `redis`.
 *
 * @since 0.1.0
 * @module
 */
export { RedisConnection } from "./RedisConnection.ts"
