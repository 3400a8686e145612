import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect } from "effect"
import { configuredProxies, routeOf } from "../../src/proxy/route.ts"

const within = (environment: Record<string, string>) =>
  Effect.provideService(configuredProxies, ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(environment))

/** The proxy as a text, or why there is none. */
const routed = (environment: Record<string, string>, url: string) =>
  Effect.map(within(environment), (proxies) => {
    const route = routeOf(proxies, new URL(url))
    return route._tag === "Proxied" ? `${route.proxy.variable} ${route.proxy.url.host}` : route.because ?? "direct"
  })

const both = { HTTP_PROXY: "http://web:1", HTTPS_PROXY: "http://secure:2" }
const exempting = (entries: string) => ({ HTTPS_PROXY: "http://secure:2", NO_PROXY: entries })

describe("the proxy of a URL", () => {
  it.effect.each<readonly [Record<string, string>, string, string]>([
    [{}, "https://aden.example.com", "direct"],
    [both, "https://aden.example.com", "HTTPS_PROXY secure:2"],
    [both, "http://aden.example.com", "HTTP_PROXY web:1"],
    [{ HTTP_PROXY: "http://web:1" }, "https://aden.example.com", "direct"],
    [{ ...both, https_proxy: "http://small:3" }, "https://aden.example.com", "https_proxy small:3"],
    [{ ...both, https_proxy: "" }, "https://aden.example.com", "HTTPS_PROXY secure:2"],
    [{ ALL_PROXY: "http://all:4" }, "https://aden.example.com", "ALL_PROXY all:4"],
    [{ ...both, all_proxy: "http://all:4" }, "https://aden.example.com", "HTTPS_PROXY secure:2"],
    [{ HTTPS_PROXY: "secure:2" }, "https://aden.example.com", "HTTPS_PROXY secure:2"],
    // this machine
    [both, "http://127.0.0.1:4010", "loopback"],
    [both, "http://localhost:4010", "loopback"],
    [both, "https://[::1]:4010", "loopback"],
    [both, "https://127.0.0.1.example.com", "HTTPS_PROXY secure:2"],
    // NO_PROXY
    [exempting("*"), "https://aden.example.com", "exempt"],
    [exempting("aden.example.com"), "https://aden.example.com", "exempt"],
    [exempting("ADEN.example.com"), "https://aden.EXAMPLE.com", "exempt"],
    [exempting("example.com"), "https://aden.example.com", "exempt"],
    [exempting(".example.com"), "https://aden.example.com", "exempt"],
    [exempting("*.example.com"), "https://aden.example.com", "exempt"],
    [exempting("a.org, example.com b.org"), "https://aden.example.com", "exempt"],
    [exempting("example.com:443"), "https://aden.example.com", "exempt"],
    [exempting("example.com:8443"), "https://aden.example.com:8443", "exempt"],
    [exempting("[fd00::1]:8443,fd00::2"), "https://[fd00::1]:8443", "exempt"],
    [exempting("fd00::2"), "https://[fd00::2]", "exempt"],
    [exempting("example.com:8443"), "https://aden.example.com", "HTTPS_PROXY secure:2"],
    [exempting("ample.com"), "https://aden.example.com", "HTTPS_PROXY secure:2"],
    [exempting("aden.example.com.evil.org"), "https://aden.example.com", "HTTPS_PROXY secure:2"],
    [exempting(" , "), "https://aden.example.com", "HTTPS_PROXY secure:2"],
    [{ ...both, no_proxy: "example.com", NO_PROXY: "other.org" }, "https://aden.example.com", "exempt"]
  ])(
    "%j: %s by %s",
    ([environment, url, route]) => Effect.map(routed(environment, url), (found) => assert.strictEqual(found, route))
  )

  it.effect.each<readonly [string, string]>([
    ["socks5://agent:hunter2@proxy:1080", "socks5"],
    ["http://agent:hunter2@proxy:port", "not a URL"]
  ])(
    "%s is refused, without its password",
    ([proxy, what]) =>
      Effect.map(Effect.flip(within({ ALL_PROXY: proxy })), (error) => {
        assert.strictEqual(error.setting, "ALL_PROXY")
        assert.include(error.message, what)
        assert.notInclude(error.message, "hunter2")
      })
  )
})
