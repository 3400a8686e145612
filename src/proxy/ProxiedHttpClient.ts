/**
 * An HTTP client that goes through the proxy of the environment.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import type { Dispatcher } from "undici"
import type { AdenConfigError } from "../errors/ConfigError.ts"
import { configuredProxies, routeOf } from "./route.ts"
import type { Proxies } from "./route.ts"

/**
 * `FetchHttpClient` for a network that lets programs out through a proxy only. Takes the place of `FetchHttpClient.layer`.
 *
 * @example
 * ```ts
 * import { AdenClient } from "aden-credentials"
 * import { ProxiedHttpClient } from "aden-credentials/proxy"
 * import { Layer } from "effect"
 *
 * const Client = AdenClient.layerConfig.pipe(Layer.provide(ProxiedHttpClient.layerConfig))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export class ProxiedHttpClient {
  /**
   * Requests go through `HTTPS_PROXY` or `HTTP_PROXY`, by the scheme of their URL, else through `ALL_PROXY`; to the hosts in `NO_PROXY`
   * and to this machine they go directly. A variable in lower case counts before the same in upper case. Without a proxy it is
   * `FetchHttpClient.layer`.
   *
   * Fails with `AdenConfigError` when a proxy is not the URL of an HTTP proxy. No error contains its password.
   */
  static readonly layerConfig: Layer.Layer<HttpClient.HttpClient, AdenConfigError> = Layer.unwrap(
    Effect.map(configuredProxies, (proxies) =>
      proxies.http === undefined && proxies.https === undefined
        ? FetchHttpClient.layer
        : Layer.provide(FetchHttpClient.layer, fetchThrough(proxies)))
  )
}

// internal

/** `undici` is loaded only where there is a proxy. */
const fetchThrough = (proxies: Proxies) =>
  Layer.effect(
    FetchHttpClient.Fetch,
    Effect.gen(function*() {
      const undici = yield* Effect.promise(() => import("undici"))
      const close = (dispatcher: Dispatcher) => Effect.promise(() => dispatcher.destroy())
      const direct = yield* Effect.acquireRelease(Effect.sync(() => new undici.Agent()), close)
      const byProxy = new Map<string, Dispatcher>()
      for (const proxy of [proxies.http, proxies.https]) {
        if (proxy === undefined || byProxy.has(proxy.url.href)) continue
        const agent = Effect.sync(() => new undici.ProxyAgent({ uri: proxy.url.href, proxyTunnel: true }))
        byProxy.set(proxy.url.href, yield* Effect.acquireRelease(agent, close))
      }
      // asked for each request, and so for the target of a redirect too
      const dispatcher = direct.compose(() => (options, handler) => {
        const route = routeOf(proxies, new URL(String(options.origin)))
        const through = route._tag === "Proxied" ? byProxy.get(route.proxy.url.href) : undefined
        return (through ?? direct).dispatch(options, handler)
      })
      // Node's own fetch takes a dispatcher of any version of undici; the types of @types/node are those of another version.
      // The fetch of undici would not know the `FormData` of programs.
      // oxlint-disable-next-line eslint/no-restricted-globals -- what `FetchHttpClient` uses
      return (input, init) => fetch(input, Object.assign({ ...init }, { dispatcher }))
    })
  )
