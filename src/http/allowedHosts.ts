/**
 * Where a credential may be sent: to hosts that are named exactly, over https, or over http to this machine.
 */
import * as Effect from "effect/Effect"
import { AdenConfigError } from "../errors/ConfigError.ts"
import { isLoopback } from "../util/httpSyntax.ts"

/** Characters that end a host in a URL, are decoded in it, or make it look like a pattern. */
const notInHost = /[\s/\\?#@%*,]/

/** The origins that a list of `host[:port]` allows. */
export const allowedOriginsSetting = (
  setting: string,
  hosts: ReadonlyArray<string>
): Effect.Effect<ReadonlySet<string>, AdenConfigError> => {
  const refuse = (detail: string, remedy: string) => Effect.fail(new AdenConfigError({ setting, detail, remedy }))
  if (hosts.length === 0) return refuse("is empty", "Name the hosts that may receive the credential.")
  const origins = new Set<string>()
  for (const host of hosts) {
    const shown = JSON.stringify(host)
    const hostname = URL.canParse(`https://${host}`) ? new URL(`https://${host}`).hostname : ""
    // a parser normalizes some other characters to a wildcard; elsewhere a leading dot means all subdomains
    if (host.includes("*") || hostname.includes("*") || host.startsWith(".")) {
      return refuse(
        `contains ${shown}, and wildcards are not supported`,
        "Name each host exactly, as host or host:port."
      )
    }
    if (notInHost.test(host) || hostname === "" || hostname.includes("..")) {
      return refuse(
        `contains ${shown}, which is not a host`,
        "Name each host exactly, as host or host:port, without a scheme or a path."
      )
    }
    // Parsed with both schemes, so that the default port of a scheme is the same as no port.
    origins.add(new URL(`https://${host}`).origin)
    const plain = new URL(`http://${host}`)
    if (isLoopback(plain)) origins.add(plain.origin)
  }
  return Effect.succeed(origins)
}

/** Why a credential may not be sent to a URL; `undefined` when it may. */
export const hostFault = (url: URL, origins: ReadonlySet<string>): string | undefined => {
  if (url.username !== "" || url.password !== "") return "the URL contains a user name or password"
  // the origin of a blob: URL is that of the URL inside it
  if (/^https?:$/.test(url.protocol) && origins.has(url.origin)) return undefined
  return url.protocol === "http:" && !isLoopback(url)
    ? "the request uses http, which would show the credential to the network"
    : "it is not among the allowed hosts"
}
