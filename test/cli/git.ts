/**
 * git with `aden-creds git-credential` as its only credential helper, and what it needs to talk to a host of the tests.
 */
import { Effect } from "effect"
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, readFileSync } from "node:fs"
import type { RequestListener } from "node:http"
import { createServer } from "node:https"
import type { AddressInfo } from "node:net"
import { commandLine, emulatorEnvironment } from "./harness.ts"
import type { Environment, Ran } from "./harness.ts"

export const hasGit = existsSync("/usr/bin/git")
export const hasOpenssl = existsSync("/usr/bin/openssl")

/** Runs a program with this input. */
const runWith = (program: string, args: ReadonlyArray<string>, input: string, environment: Environment) =>
  Effect.callback<Ran>((resume) => {
    const child = spawn(program, args, { env: { PATH: process.env["PATH"], ...environment }, stdio: "pipe" })
    const written = { stdout: "", stderr: "" }
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (text: string) => written[name] += text)
    }
    child.stdin.on("error", () => undefined).end(input)
    child.on("close", (status) => resume(Effect.succeed({ status, ...written })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`

/** Runs git; `flags` are the helper's. */
export const git = (
  args: ReadonlyArray<string>,
  input: string,
  options: { readonly directory: string; readonly flags?: string }
) =>
  Effect.gen(function*() {
    const environment = yield* emulatorEnvironment
    const helper = [process.execPath, ...commandLine(["git-credential", "--directory", options.directory])].map(quote)
    return yield* runWith(
      "git",
      ["-c", "credential.helper=", "-c", `credential.helper=!${helper.join(" ")} ${options.flags ?? ""}`, ...args],
      input,
      { ...environment, GIT_TERMINAL_PROMPT: "0", HOME: options.directory, GIT_CONFIG_NOSYSTEM: "1" }
    )
  })

/** A host over https, with a certificate of its own; gone with the scope. */
export const httpsHost = (directory: string, listener: RequestListener) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const files = { key: `${directory}/host.key`, cert: `${directory}/host.crt` }
      execFileSync(
        "openssl",
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "1"]
          .concat(["-keyout", files.key, "-out", files.cert]),
        { stdio: "ignore" }
      )
      const server = createServer({ key: readFileSync(files.key), cert: readFileSync(files.cert) }, listener)
        .listen(0, "127.0.0.1")
      await once(server, "listening")
      const { port } = server.address() as AddressInfo
      return { host: `127.0.0.1:${port}`, server }
    }),
    ({ server }) =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )

/** The user name and password of a request, as `name:password`. */
export const basicAuth = (authorization = ""): string | undefined => {
  const [scheme, value = ""] = authorization.split(" ")
  return scheme === "Basic" ? Buffer.from(value, "base64").toString() : undefined
}
