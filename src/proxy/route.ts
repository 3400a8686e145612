/**
 * Which proxy a request goes through: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in lower case or upper case, as curl
 * and most programs read them.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import { AdenConfigError } from "../errors/ConfigError.ts"
import { unreadableSetting } from "../model/settings.ts"
import { isLoopback } from "../util/httpSyntax.ts"

/** A proxy, and the variable that names it. */
export interface Proxy {
  readonly variable: string
  /** It may hold a password. */
  readonly url: URL
}

/** The proxies of the environment. */
export interface Proxies {
  readonly https: Proxy | undefined
  readonly http: Proxy | undefined
  /** The hosts that are reached without one. */
  readonly exempt: { readonly variable: string; readonly entries: ReadonlyArray<string> }
}

/** How a host is reached. */
export type Route =
  | { readonly _tag: "Proxied"; readonly proxy: Proxy }
  /** `because` is absent where the environment names no proxy for the scheme. */
  | { readonly _tag: "Direct"; readonly because?: "loopback" | "exempt" }

/** The first of these variables that is set, in lower case before upper case; an empty one counts as not set. */
const firstOf = Effect.fnUntraced(function*(names: ReadonlyArray<string>) {
  for (const name of names.flatMap((name) => [name.toLowerCase(), name])) {
    const text = yield* Effect.mapError(
      Effect.suspend(() => Config.withDefault(Config.String(name), "")),
      () => unreadableSetting(name)
    )
    if (text.trim() !== "") return { variable: name, text: text.trim() }
  }
  return undefined
})

const proxyOf = Effect.fnUntraced(function*(
  names: ReadonlyArray<string>
): Effect.fn.Return<Proxy | undefined, AdenConfigError> {
  const found = yield* firstOf(names)
  if (found === undefined) return undefined
  const { text, variable } = found
  // `proxy.internal:3128` is as good as a URL
  const whole = text.includes("://") ? text : `http://${text}`
  const url = URL.canParse(whole) ? new URL(whole) : undefined
  if (url !== undefined && (url.protocol === "http:" || url.protocol === "https:")) return { variable, url }
  return yield* new AdenConfigError({
    setting: variable,
    detail: url === undefined
      ? "is not a URL"
      : `names a proxy of the kind ${url.protocol.slice(0, -1)}, which is not supported`,
    remedy: "Give it as http://host:port, or unset it; NO_PROXY names hosts that need no proxy."
  })
})

/** The proxies of the environment. */
export const configuredProxies: Effect.Effect<Proxies, AdenConfigError> = Effect.gen(function*() {
  const https = yield* proxyOf(["HTTPS_PROXY", "ALL_PROXY"])
  const http = yield* proxyOf(["HTTP_PROXY", "ALL_PROXY"])
  const exempt = yield* firstOf(["NO_PROXY"])
  return {
    https,
    http,
    exempt: { variable: exempt?.variable ?? "NO_PROXY", entries: exempt?.text.split(/[\s,]+/).filter(Boolean) ?? [] }
  }
})

const defaultPorts: Readonly<Record<string, string>> = { "http:": "80", "https:": "443" }

/** Whether an entry of `NO_PROXY` names the host: as it is, or as a domain that it is in; with a port, only there. */
const exempts = (entry: string, { hostname, port, protocol }: URL): boolean => {
  if (entry === "*") return true
  const host = hostname.toLowerCase()
  const [, named = "", namedPort] = /^(\[.*\]|[^:]*)(?::(\d+))?$/.exec(entry.toLowerCase()) ?? [undefined, `[${entry}]`]
  if (namedPort !== undefined && namedPort !== (port || defaultPorts[protocol])) return false
  const domain = named.replace(/^\*?\./, "")
  return domain !== "" && (host === domain || host.endsWith(`.${domain}`))
}

/** How a URL is reached. This machine never through a proxy: what is sent there in plain text would leave the machine. */
export const routeOf = ({ exempt, http, https }: Proxies, url: URL): Route => {
  const proxy = url.protocol === "https:" ? https : url.protocol === "http:" ? http : undefined
  if (proxy === undefined) return { _tag: "Direct" }
  if (isLoopback(url)) return { _tag: "Direct", because: "loopback" }
  return exempt.entries.some((entry) => exempts(entry, url))
    ? { _tag: "Direct", because: "exempt" }
    : { _tag: "Proxied", proxy }
}
