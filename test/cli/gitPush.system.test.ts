/**
 * `git push` and `git clone` with a token of Aden's, to a server that is git's own behind a check of the token.
 */
import { assert, describe, it } from "@effect/vitest"
import { AdenEmulator } from "aden-credentials/emulator"
import { Effect, Redacted } from "effect"
import { execFileSync, spawn } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs"
import type { IncomingMessage, ServerResponse } from "node:http"
import { basicAuth, git, hasGit, hasOpenssl, httpsHost } from "./git.ts"
import { temporaryDirectory } from "./harness.ts"

const backend = hasGit ? `${execFileSync("git", ["--exec-path"], { encoding: "utf8" }).trim()}/git-http-backend` : ""
const missing = [
  ...hasGit ? [] : ["git"],
  ...existsSync(backend) ? [] : ["git http-backend"],
  ...hasOpenssl ? [] : ["openssl"]
]
if (missing.length > 0) console.warn(`The tests of git push are left out: there is no ${missing.join(" and no ")}.`)

/** Hands a request to `git http-backend`, which is a CGI program. */
const serve = (root: string, user: string, request: IncomingMessage, response: ServerResponse) => {
  const [path = "", query = ""] = (request.url ?? "").split("?")
  const child = spawn(backend, [], {
    env: {
      PATH: process.env["PATH"],
      GIT_PROJECT_ROOT: root,
      GIT_HTTP_EXPORT_ALL: "1",
      GIT_PROTOCOL: request.headers["git-protocol"]?.toString(),
      HTTP_CONTENT_ENCODING: request.headers["content-encoding"],
      PATH_INFO: path,
      QUERY_STRING: query,
      REQUEST_METHOD: request.method,
      CONTENT_TYPE: request.headers["content-type"],
      REMOTE_USER: user
    },
    stdio: ["pipe", "pipe", "ignore"]
  })
  request.pipe(child.stdin.on("error", () => undefined))
  const chunks: Array<Buffer> = []
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk)).on("end", () => {
    const answer = Buffer.concat(chunks)
    const end = answer.indexOf("\r\n\r\n")
    const headers = Object.fromEntries(
      answer.subarray(0, end).toString("latin1").split("\r\n").map((line) => {
        const at = line.indexOf(":")
        return [line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()]
      })
    )
    const { status = "200", ...others } = headers
    response.writeHead(Number.parseInt(status), others).end(answer.subarray(end + 4))
  })
}

/** A host with an empty repository, which takes the token that was issued last, and what it was shown. */
const gitHost = Effect.fnUntraced(function*(directory: string) {
  const aden = yield* AdenEmulator
  const root = `${directory}/served`
  mkdirSync(root)
  execFileSync("git", ["init", "--quiet", "--bare", "--initial-branch=main", `${root}/repository.git`])
  const presented: Array<string> = []
  const { host } = yield* httpsHost(directory, (request, response) => {
    const shown = basicAuth(request.headers.authorization)
    if (shown !== undefined) presented.push(shown)
    const token = Effect.runSync(aden.issuedTokens).findLast(({ integrationId }) => integrationId === "github")
    if (token === undefined || shown !== `x-access-token:${Redacted.value(token.value)}`) {
      request.resume()
      response.writeHead(401, { "www-authenticate": "Basic realm=\"git\"" }).end()
      return
    }
    serve(root, "x-access-token", request, response)
  })
  return { presented, repository: `${root}/repository.git`, url: `https://${host}/repository.git`, host }
})

/** A work tree with one commit. */
const committed = (directory: string) => {
  const work = `${directory}/work`
  const run = (...args: ReadonlyArray<string>) =>
    execFileSync("git", ["-C", work, "-c", "user.name=A", "-c", "user.email=a@example.com", ...args], {
      encoding: "utf8"
    }).trim()
  mkdirSync(work)
  run("init", "--quiet", "--initial-branch=main")
  run("commit", "--quiet", "--allow-empty", "--message=First")
  return { work, head: run("rev-parse", "HEAD") }
}

/** Everything that lies in a directory, as text. */
const contents = (directory: string) =>
  readdirSync(directory, { recursive: true, encoding: "utf8" })
    .map((name) => `${directory}/${name}`)
    .filter((path) => statSync(path).isFile())
    .map((path) => readFileSync(path, "latin1"))
    .join("\n")

const headOf = (repository: string) =>
  execFileSync("git", ["-C", repository, "for-each-ref", "--format=%(objectname)", "refs/heads/main"], {
    encoding: "utf8"
  }).trim()

const Emulator = AdenEmulator.layer({ integrations: [{ id: "github", tokenLifetime: "1 hour" }] })
const insecure = ["-c", "http.sslVerify=false"]

describe.skipIf(missing.length > 0)("git push (where git has http-backend, and openssl is installed)", () => {
  it.live("gets through with a token of Aden's, which lies nowhere afterwards; what was pushed can be cloned", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const directory = yield* temporaryDirectory
      const { host, presented, repository, url } = yield* gitHost(directory)
      const { head, work } = committed(directory)
      const flags = `--ref ${host}=github`

      const pushed = yield* git([...insecure, "-C", work, "push", url, "main"], "", { directory, flags })
      assert.strictEqual(pushed.status, 0, pushed.stderr)
      assert.strictEqual(headOf(repository), head)
      const token = Redacted.value((yield* aden.issuedTokens)[0]?.value ?? aden.apiKey)
      assert.deepStrictEqual([...new Set(presented)], [`x-access-token:${token}`])

      const cloned = yield* git([...insecure, "clone", url, `${directory}/clone`], "", { directory, flags })
      assert.strictEqual(cloned.status, 0, cloned.stderr)
      assert.strictEqual(headOf(`${directory}/clone`), head)
      assert.notInclude(pushed.stdout + pushed.stderr + cloned.stdout + cloned.stderr, token)
      assert.notInclude(contents(directory), token)
    }).pipe(Effect.provide(Emulator)))

  it.live("after the host refused a token it is renewed, and the next push gets through", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const directory = yield* temporaryDirectory
      const { host, presented, repository, url } = yield* gitHost(directory)
      const { head, work } = committed(directory)
      const push = git([...insecure, "-C", work, "push", url, "main"], "", { directory, flags: `--ref ${host}=github` })
      yield* git(["credential", "fill"], "protocol=https\nhost=github.com\n\n", { directory })
      // another agent had it renewed: the token in the cache is not the one that the host takes
      yield* Effect.promise(() =>
        fetch(`${aden.url}/v1/credentials/github/refresh`, {
          method: "POST",
          headers: { authorization: `Bearer ${Redacted.value(aden.apiKey)}` }
        })
      )
      const refused = yield* push
      assert.notStrictEqual(refused.status, 0)
      assert.include(refused.stderr, "Authentication failed")
      assert.strictEqual(headOf(repository), "")
      const pushed = yield* push
      assert.strictEqual(pushed.status, 0, pushed.stderr)
      assert.strictEqual(headOf(repository), head)
      const tokens = (yield* aden.issuedTokens).map(({ value }) => `x-access-token:${Redacted.value(value)}`)
      assert.deepStrictEqual([...new Set(presented)], [tokens[0], tokens[2]])
    }).pipe(Effect.provide(Emulator)))

  it.live("to a host that the helper was not told of gets no token", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const { presented, repository, url } = yield* gitHost(directory)
      const { work } = committed(directory)
      const ran = yield* git([...insecure, "-C", work, "push", url, "main"], "", { directory })
      assert.notStrictEqual(ran.status, 0)
      assert.deepStrictEqual(presented, [])
      assert.strictEqual(headOf(repository), "")
    }).pipe(Effect.provide(Emulator)))
})
