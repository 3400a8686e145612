/**
 * The connection to a Redis server, for Node: an entry point of its own, because it needs the package `redis`.
 *
 * @since 0.1.0
 */
export { RedisConnection } from "./RedisConnection.ts"
