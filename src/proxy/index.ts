/**
 * An HTTP client that goes through the proxy of the environment. A separate entry point, because it is for Node.
 *
 * @since 0.1.0
 * @module
 */
export { ProxiedHttpClient } from "./ProxiedHttpClient.ts"
