/**
 * Where a credential may go: hosts that are named exactly, over https, or over http to this machine.
 */
import * as Effect from "effect/Effect"
import { AdenConfigError } from "../errors/CredentialError.ts"
import { isLoopback } from "../util/httpSyntax.ts"

/** What stands in a URL around or instead of a host, is decoded in it, or reads as a pattern. */
const notInHost = /[\s/\\?#@%*,]/

/** The origins that a list of `host[:port]` allows. */
export const allowedOriginsSetting = (
  setting: string,
  hosts: ReadonlyArray<string>
): Effect.Effect<ReadonlySet<string>, AdenConfigError> => {
  const refuse = (detail: string, remedy: string) => Effect.fail(new AdenConfigError({ setting, detail, remedy }))
  if (hosts.length === 0) return refuse("is empty", "Name the hosts that may have the credential.")
  const origins = new Set<string>()
  for (const host of hosts) {
    const shown = JSON.stringify(host)
    const hostname = URL.canParse(`https://${host}`) ? new URL(`https://${host}`).hostname : ""
    // a parser makes a wildcard of some characters that are none; a dot before a domain stands for all below it elsewhere
    if (host.includes("*") || hostname.includes("*") || host.startsWith(".")) {
      return refuse(`holds ${shown}, and wildcards are not supported`, "Name each host exactly, as host or host:port.")
    }
    if (notInHost.test(host) || hostname === "" || hostname.includes("..")) {
      return refuse(
        `holds ${shown}, which is not a host`,
        "Name each host exactly, as host or host:port, without a scheme or a path."
      )
    }
    // Parsed under both schemes, so that a port that is the default of one is the same as none there.
    origins.add(new URL(`https://${host}`).origin)
    const plain = new URL(`http://${host}`)
    if (isLoopback(plain)) origins.add(plain.origin)
  }
  return Effect.succeed(origins)
}

/** Why a credential may not go to a URL; `undefined` when it may. */
export const hostFault = (url: URL, origins: ReadonlySet<string>): string | undefined => {
  if (url.username !== "" || url.password !== "") return "the URL holds a user name or password"
  // the origin of a blob: URL is that of the URL inside it
  if (/^https?:$/.test(url.protocol) && origins.has(url.origin)) return undefined
  return url.protocol === "http:" && !isLoopback(url)
    ? "it is asked for over http, which would show the credential to the network"
    : "it is not among the allowed hosts"
}
