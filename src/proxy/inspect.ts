/**
 * The proxies of the environment, for diagnosis.
 */
export { configuredProxies, routeOf } from "./route.ts"
export type { Proxy, Route } from "./route.ts"
