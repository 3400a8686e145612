/**
 * Aden behind a proxy: the command as a process, with the variables of its environment.
 */
import { assert, describe, it } from "@effect/vitest"
import { ExitStatus } from "aden-credentials/cli"
import { ProxiedHttpClient } from "aden-credentials/proxy"
import { ConfigProvider, Effect, Layer } from "effect"
import { HttpClient } from "effect/http"
import { readFileSync } from "node:fs"
import * as http from "node:http"
import * as https from "node:https"
import { connect } from "node:net"
import type { Server } from "node:net"
import { basicAuth } from "../cli/git.ts"
import { encryptionKey, run, runProcess } from "../cli/harness.ts"
import { certificateFor, hasOpenssl } from "../fixtures/certificates.ts"

const listening = <S extends Server>(server: S) =>
  Effect.as(
    Effect.acquireRelease(
      Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
      () =>
        Effect.sync(() => {
          server.close()
          if (server instanceof http.Server || server instanceof https.Server) server.closeAllConnections()
        })
    ),
    server
  )

const portOf = (server: Server) => {
  const address = server.address()
  if (address === null || typeof address === "string") throw new Error("no port")
  return address.port
}

/** Answers as a healthy Aden without integrations, and keeps what it was asked with. */
const aden = (asked: Array<http.IncomingMessage>): http.RequestListener => (request, response) => {
  asked.push(request)
  response.setHeader("content-type", "application/json")
  response.end(JSON.stringify(request.url === "/health" ? { status: "healthy" } : { integrations: [] }))
}

/** A proxy that knows one host, wherever a tunnel should lead. */
const proxyTo = Effect.fnUntraced(function*(port: number, status = 200) {
  const seen: Array<string> = []
  const users: Array<string | undefined> = []
  const server = http.createServer((request, response) => {
    seen.push(`${request.method} ${request.url} ${request.headers.authorization ?? ""}`)
    response.writeHead(502).end()
  })
  server.on("connect", (request, socket, head) => {
    seen.push(`CONNECT ${request.url}`)
    users.push(basicAuth(request.headers["proxy-authorization"]))
    if (status !== 200) {
      socket.end(`HTTP/1.1 ${status} No\r\n\r\n`)
      return
    }
    const target = connect(port, "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n")
      target.write(head)
      target.pipe(socket).pipe(target)
    })
    const end = () => {
      target.destroy()
      socket.destroy()
    }
    for (const side of [target, socket]) side.on("error", end)
  })
  yield* listening(server)
  return { seen, users, url: `http://agent:hunter2@127.0.0.1:${portOf(server)}` }
})

const settings = { ADEN_API_KEY: "key-4f9aC71b", HIVE_CREDENTIAL_KEY: encryptionKey }

describe.skipIf(!hasOpenssl)("an Aden that only a proxy reaches", () => {
  const behindProxy = Effect.gen(function*() {
    const { authority, certificate, key } = yield* certificateFor("aden.internal")
    const asked: Array<http.IncomingMessage> = []
    const server = https.createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, aden(asked))
    const port = portOf(yield* listening(server))
    const environment = { ...settings, ADEN_API_URL: "https://aden.internal", NODE_EXTRA_CA_CERTS: authority }
    return { asked, port, environment }
  })

  it.live("is asked through a tunnel, by each of the variables", () =>
    Effect.gen(function*() {
      const { asked, environment, port } = yield* behindProxy
      for (const variable of ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"]) {
        const proxy = yield* proxyTo(port)
        const { status, stderr, stdout } = yield* runProcess(["health"], { ...environment, [variable]: proxy.url })
        assert.strictEqual(status, ExitStatus.done, stderr)
        assert.include(stdout, "healthy")
        assert.deepStrictEqual(proxy.seen, ["CONNECT aden.internal:443"])
        assert.deepStrictEqual(proxy.users, ["agent:hunter2"])
      }
      assert.lengthOf(asked, 3)
    }))

  it.live("is not, where NO_PROXY names it; and doctor says so", () =>
    Effect.gen(function*() {
      const { environment, port } = yield* behindProxy
      const proxy = yield* proxyTo(port)
      const exempt = { ...environment, HTTPS_PROXY: proxy.url, NO_PROXY: ".internal" }
      const { stdout } = yield* runProcess(["doctor"], exempt)
      assert.include(stdout, "without the proxy of the environment: NO_PROXY exempts aden.internal")
      assert.deepStrictEqual(proxy.seen, [])
    }))

  it.live("says what the proxy answered", () =>
    Effect.gen(function*() {
      const { environment, port } = yield* behindProxy
      const proxy = yield* proxyTo(port, 407)
      const { status, stderr, stdout } = yield* runProcess(["doctor"], { ...environment, HTTPS_PROXY: proxy.url })
      assert.strictEqual(status, ExitStatus.usage, "the directory has no HOME")
      assert.include(stdout, `through the proxy ${proxy.url.replace("agent:hunter2@", "")}, by HTTPS_PROXY`)
      assert.include(stdout, "the proxy answered 407")
      assert.notInclude(stdout + stderr, "hunter2")
    }))
})

it.live("an Aden on this machine is asked without a proxy, also where Node itself would use one", () =>
  Effect.gen(function*() {
    const asked: Array<http.IncomingMessage> = []
    const port = portOf(yield* listening(http.createServer(aden(asked))))
    const proxy = yield* proxyTo(port)
    const variables = { NODE_USE_ENV_PROXY: "1", HTTP_PROXY: proxy.url, HTTPS_PROXY: proxy.url, ALL_PROXY: proxy.url }
    for (const host of ["127.0.0.1", "localhost"]) {
      const environment = { ...settings, ...variables, ADEN_API_URL: `http://${host}:${port}` }
      const { stdout } = yield* runProcess(["doctor"], environment)
      assert.deepStrictEqual(proxy.seen, [])
      assert.include(stdout, "Aden is asked without the proxy of the environment: it is on this machine")
    }
    assert.include(asked.map(({ headers }) => headers.authorization), `Bearer ${settings.ADEN_API_KEY}`)
  }))

it.live("an invalid proxy is wrong usage for what asks Aden, and for nothing else", () =>
  Effect.gen(function*() {
    const environment = {
      ...settings,
      ADEN_API_URL: "https://aden.internal",
      HTTPS_PROXY: "socks5://agent:hunter2@127.0.0.1:1080"
    }
    const { status, stderr } = yield* runProcess(["health"], environment)
    assert.strictEqual(status, ExitStatus.usage)
    assert.include(stderr, "HTTPS_PROXY names a proxy of the kind socks5")
    assert.notInclude(stderr, "hunter2")
    assert.strictEqual((yield* run(["keys", "generate"], environment)).status, ExitStatus.done)
  }))

it.live("a program goes through the proxy of its settings by the layer", () =>
  Effect.gen(function*() {
    const asked: Array<http.IncomingMessage> = []
    const port = portOf(yield* listening(http.createServer(aden(asked))))
    const proxy = yield* proxyTo(port)
    const get = (url: string) =>
      HttpClient.get(url).pipe(
        Effect.flatMap((response) => response.json),
        Effect.provide(Layer.fresh(ProxiedHttpClient.layerConfig)),
        Effect.provideService(
          ConfigProvider.ConfigProvider,
          ConfigProvider.fromEnvRecord({ HTTP_PROXY: proxy.url, NO_PROXY: "other.internal" })
        )
      )
    assert.deepStrictEqual(yield* get("http://aden.internal/health"), { status: "healthy" })
    assert.deepStrictEqual(yield* get(`http://127.0.0.1:${port}/health`), { status: "healthy" })
    yield* Effect.flip(get("http://other.internal/health"))
    assert.deepStrictEqual(proxy.seen, ["CONNECT aden.internal:80"])
  }))
