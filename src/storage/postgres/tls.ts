/**
 * How a connection to Postgres is encrypted: libpq's `sslmode`, as the URL gives it.
 *
 * Without one, a server on another machine is asked for TLS with a verified certificate, where libpq would accept plain text.
 */
import * as Result from "effect/Result"
import { isLoopbackHost } from "../../util/httpSyntax.ts"

const modes = ["disable", "require", "verify-ca", "verify-full"] as const
type Mode = (typeof modes)[number]

/** What the server has to show. */
export interface Verification {
  /** Whether its certificate has to come from a trusted authority. */
  readonly authority: boolean
  /** Whether its certificate has to be for the host of the URL. */
  readonly hostName: boolean
  /** The file with the authorities; `undefined` for those that Node trusts. */
  readonly rootFile: string | undefined
}

/** What is wrong with a setting of the URL. */
export interface TlsFault {
  readonly detail: string
  readonly remedy: string
}

const supported =
  "The TLS settings of the URL are sslmode (disable, require, verify-ca or verify-full) and sslrootcert."

/** Parameters that could be meant as a promise about the transport. */
const aboutTransport = /^(?:ssl|tls|gss|krb|requiressl|require_auth|channel_binding)/i

const isKnown = (name: string, value: string): boolean =>
  name === "sslmode" || name === "sslrootcert" || name === "ssl" ||
  // what these values ask for is what happens
  (name === "channel_binding" && (value === "disable" || value === "prefer")) ||
  (name === "gssencmode" && (value === "disable" || value === "prefer")) ||
  (name === "sslnegotiation" && value === "postgres")

/** The host that the client connects to; one that begins with a slash is the folder of a Unix socket. */
const hostOf = (url: URL): string => {
  const named = url.searchParams.getAll("host").at(-1)
  if (named !== undefined) return named || "localhost"
  try {
    return decodeURIComponent(url.hostname) || "localhost"
  } catch {
    return url.hostname // which the client refuses
  }
}

const modeOf = (url: URL, otherwise: () => Mode): Result.Result<Mode, TlsFault> => {
  const refuse = (detail: string) => Result.fail({ detail, remedy: supported })
  const given = url.searchParams.getAll("sslmode")
  const flags = url.searchParams.getAll("ssl")
  const [text] = given
  if (given.length + flags.length > 1) return refuse("says more than once whether to use TLS")
  if (flags.length > 0) {
    // as other clients have it; they disagree on every other value
    return flags[0] === "true" ? Result.succeed("verify-full") : refuse("has a value of ssl other than true")
  }
  if (text === undefined) return Result.succeed(otherwise())
  const mode = modes.find((mode) => mode === text)
  if (mode !== undefined) return Result.succeed(mode)
  return text === "prefer" || text === "allow"
    ? refuse(`has sslmode=${text}, with which the server decides whether the password travels in plain text`)
    : refuse("has an unknown sslmode")
}

/**
 * How to encrypt the connection to the server of a URL; `undefined` for plain text, which does not leave this machine unless
 * `sslmode=disable` or `allowInsecure` says so.
 */
export const tlsOf = (
  url: URL,
  options: { readonly allowInsecure: boolean }
): Result.Result<Verification | undefined, TlsFault> => {
  for (const [name, value] of url.searchParams) {
    if (aboutTransport.test(name) && !isKnown(name, value)) {
      const shown = /^\w{1,30}$/.test(name) ? name : "a TLS setting"
      return Result.fail({
        detail: `has ${shown}, which is not supported with this value or at all`,
        remedy: supported
      })
    }
  }
  const host = hostOf(url)
  const isSocket = host.startsWith("/")
  const roots = url.searchParams.getAll("sslrootcert").at(-1)
  const otherwise = (): Mode =>
    roots === undefined && (options.allowInsecure || isLoopbackHost(host)) ? "disable" : "verify-full"
  return Result.flatMap(modeOf(url, otherwise), (mode) => {
    // there is no TLS over a socket, whatever the mode: libpq ignores it there
    if (mode === "disable" || isSocket) return Result.succeed(undefined)
    if (roots === "") return Result.fail({ detail: "has an empty sslrootcert", remedy: "Give the path of a PEM file." })
    if (roots === "system" && mode !== "verify-full") {
      return Result.fail({
        detail: `has sslmode=${mode} with sslrootcert=system, which stands for too many authorities`,
        remedy: "Use sslmode=verify-full."
      })
    }
    return Result.succeed({
      authority: mode !== "require" || roots !== undefined,
      hostName: mode === "verify-full",
      rootFile: roots === "system" ? undefined : roots
    })
  })
}
