/**
 * What travels between a program and a database: TLS, or plain text that stays on this machine or was allowed.
 */
import { assert, describe, it } from "@effect/vitest"
import { PostgresConnection } from "aden-credentials/postgres"
import { RedisConnection } from "aden-credentials/redis"
import { ConfigProvider, Context, Effect, Layer, Redacted } from "effect"
import { Redis } from "effect/persistence"
import { SqlClient } from "effect/sql/SqlClient"
import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { createServer } from "node:net"
import { networkInterfaces } from "node:os"
import { createServer as createTlsServer } from "node:tls"
import { AdenConfigError } from "../../src/errors/ConfigError.ts"
import { encryptionKey, run, runProcess } from "../cli/harness.ts"
import { certificateForLocalhost, hasOpenssl } from "../fixtures/certificates.ts"
import { freePort } from "../fixtures/freePort.ts"
import { hasPostgresServer, password, postgresWith } from "../fixtures/postgresServer.ts"
import { describeWith, postgres } from "../fixtures/realServers.ts"
import { restartableRedis } from "../fixtures/redisServer.ts"

/** One that was built without TLS refuses its settings. */
const hasTlsRedis = hasOpenssl && !/tls-port/.test(
  spawnSync("redis-server", ["--port", "0", "--tls-port", "1", "--version"], { encoding: "utf8" }).stderr
)

/** An address of this machine that is not loopback: to a program, another machine. */
const foreign = Object.values(networkInterfaces()).flatMap((found) => found ?? []).find(({ family, internal }) =>
  family === "IPv4" && !internal
)?.address
const needsForeign = foreign === undefined ? " (left out: this machine has no address but loopback)" : ""

/** A server on all addresses that collects what it is sent, answers nothing, and ends connections after a moment. */
const collector = Effect.gen(function*() {
  const received: Array<Buffer> = []
  const server = createServer((socket) => {
    socket.on("error", () => {}).on("data", (chunk) => received.push(chunk))
    setTimeout(() => socket.destroy(), 300)
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "0.0.0.0", () => resume(Effect.void))),
    () => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
  )
  const address = server.address()
  if (address === null || typeof address === "string") throw new Error("no port")
  return { port: address.port, text: () => Buffer.concat(received).toString("latin1"), received }
})

const openPostgres = (url: string, allowInsecure?: boolean) =>
  Layer.build(Layer.fresh(PostgresConnection.layer({ url: Redacted.make(url), allowInsecure }))).pipe(
    Effect.flatMap((context) =>
      Context.get(context, SqlClient)<{ ssl: boolean }>`
      select ssl from pg_stat_ssl where pid = pg_backend_pid()
    `
    ),
    Effect.map(([row]) => row?.ssl)
  )

const openRedis = (url: string, allowInsecure?: boolean) =>
  Layer.build(Layer.fresh(RedisConnection.layer({ url: Redacted.make(url), allowInsecure }))).pipe(
    Effect.flatMap((context) => Context.get(context, Redis.Redis).send("PING"))
  )

const configError = (error: unknown): AdenConfigError => {
  assert.instanceOf(error, AdenConfigError)
  return error
}

describeWith(postgres, "a Postgres server without TLS", () => {
  const at = (query: string) => {
    const url = new URL(postgres.url)
    url.search = query
    return url.href
  }

  it.live.each(["ssl=true", "sslmode=require", "sslmode=verify-ca", "sslmode=verify-full"])(
    "%s: an error, and nothing in plain text",
    (query) =>
      Effect.gen(function*() {
        const error = configError(yield* Effect.flip(openPostgres(at(query))))
        assert.include(error.message, "does not support TLS")
        assert.include(error.remedy, "sslmode=disable")
      })
  )

  it.live.each(["ssl=require", "ssl=1", "sslmode=prefer", "sslmode=allow", "sslcert=/x"])(
    "%s: an error that names what is allowed",
    (query) =>
      Effect.gen(function*() {
        const error = configError(yield* Effect.flip(openPostgres(at(query))))
        assert.include(error.remedy, "disable, require, verify-ca or verify-full")
      })
  )

  it.live("its URL may be printed by a command", () =>
    Effect.gen(function*() {
      const ran = yield* run(["list", "--storage", "postgres:"], {
        HIVE_CREDENTIAL_KEY: encryptionKey,
        DATABASE_URL_COMMAND: `echo '${at("sslmode=prefer")}'`
      })
      assert.include(ran.stderr, "DATABASE_URL has sslmode=prefer")
    }))

  it.live("is opened on this machine, with no mode or sslmode=disable", () =>
    Effect.gen(function*() {
      assert.isFalse(yield* openPostgres(at("")))
      assert.isFalse(yield* openPostgres(at("sslmode=disable")))
    }))
})

describe.skipIf(foreign === undefined)(`a server that is not known to be this machine${needsForeign}`, () => {
  it.live("Postgres: sees no user and no password without TLS, unless sslmode=disable or allowInsecure says so", () =>
    Effect.gen(function*() {
      const { port, received, text } = yield* collector
      const url = `postgres://agent:hunter2@${foreign}:${port}/credentials`
      yield* Effect.flip(openPostgres(url))
      yield* Effect.flip(openPostgres(`${url}?sslmode=require`))
      assert.isAbove(received.length, 0)
      assert.notInclude(text(), "agent")
      assert.notInclude(text(), "credentials")
      yield* Effect.flip(openPostgres(`${url}?sslmode=disable`))
      assert.include(text(), "agent")
      received.length = 0
      yield* Effect.flip(openPostgres(url, true))
      assert.include(text(), "agent")
    }))

  it.live("Redis: sees nothing, unless allowInsecure or REDIS_ALLOW_INSECURE says so", () =>
    Effect.gen(function*() {
      const { port, received, text } = yield* collector
      const url = `redis://agent:hunter2@${foreign}:${port}`
      const error = configError(yield* Effect.flip(openRedis(url)))
      assert.include(error.remedy, "rediss://")
      assert.include(error.remedy, "REDIS_ALLOW_INSECURE=true")
      assert.notInclude(error.message, "hunter2")
      assert.lengthOf(received, 0)
      yield* Effect.flip(openRedis(url, true))
      assert.include(text(), "hunter2")
      const byEnvironment = (env: Record<string, string>) =>
        Effect.flip(Layer.build(Layer.fresh(RedisConnection.layerConfig))).pipe(
          Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(env))
        )
      received.length = 0
      configError(yield* byEnvironment({ REDIS_URL: url, REDIS_ALLOW_INSECURE: "" }))
      const wrong = configError(yield* byEnvironment({ REDIS_URL: url, REDIS_ALLOW_INSECURE: "yes" }))
      assert.strictEqual(wrong.setting, "REDIS_ALLOW_INSECURE")
      assert.lengthOf(received, 0)
      yield* byEnvironment({ REDIS_URL: url, REDIS_ALLOW_INSECURE: "true" })
      assert.include(text(), "hunter2")
    }))

  it.live("the command, too", () =>
    Effect.gen(function*() {
      const { port, received, text } = yield* collector
      const key = { HIVE_CREDENTIAL_KEY: encryptionKey }
      for (const url of [`redis://:hunter2@${foreign}:${port}`, `postgres://hunter2@${foreign}:${port}/db`]) {
        yield* run(["list", "--storage", url], key)
        assert.notInclude(text(), "hunter2", url)
      }
      received.length = 0
      yield* run(["list", "--storage", `redis://:hunter2@${foreign}:${port}`], {
        ...key,
        REDIS_ALLOW_INSECURE: "true"
      })
      assert.include(text(), "hunter2")
    }))
})

describe.skipIf(!hasPostgresServer || !hasOpenssl)("a Postgres server with TLS", () => {
  it.live("its certificate is verified as the mode says", () =>
    Effect.gen(function*() {
      const certificate = yield* certificateForLocalhost
      const { at } = yield* postgresWith(certificate)
      const byAddress = at(`postgres:${encodeURIComponent(password)}@`)
      const byName = byAddress.replace("127.0.0.1", "localhost")
      const roots = `sslrootcert=${certificate.authority}`
      assert.isFalse(yield* openPostgres(byAddress))
      for (
        const url of [
          `${byAddress}?sslmode=require`,
          `${byAddress}?sslmode=require&${roots}`,
          `${byAddress}?sslmode=verify-ca&${roots}`,
          `${byName}?sslmode=verify-full&${roots}`,
          `${byName}?${roots}`
        ]
      ) {
        assert.isTrue(yield* openPostgres(url), url)
      }
      for (
        const url of [
          `${byName}?sslmode=verify-ca`,
          `${byName}?sslmode=verify-full`,
          `${byName}?ssl=true`,
          `${byAddress}?sslmode=verify-full&${roots}`
        ]
      ) {
        const error = configError(yield* Effect.flip(openPostgres(url)))
        assert.include(error.remedy, "sslrootcert", url)
        assert.notInclude(error.message, password)
      }
      for (const file of ["/nonexistent", certificate.key]) {
        const error = configError(yield* Effect.flip(openPostgres(`${byName}?sslmode=verify-full&sslrootcert=${file}`)))
        assert.include(error.detail, "sslrootcert")
      }
    }))
})

describe.skipIf(!hasTlsRedis)("a Redis server with TLS", () => {
  it.live("is opened by rediss: only with a certificate that this machine trusts", () =>
    Effect.gen(function*() {
      const { authority, certificate, key } = yield* certificateForLocalhost
      const port = yield* freePort
      const tls = ["--tls-port", port, "--tls-cert-file", certificate, "--tls-key-file", key]
      yield* restartableRedis([...tls.map(String), "--tls-ca-cert-file", authority, "--tls-auth-clients", "no"])
      const error = configError(yield* Effect.flip(openRedis(`rediss://localhost:${port}`)))
      assert.include(error.remedy, "NODE_EXTRA_CA_CERTS")
      const { status, stderr } = yield* runProcess(["list", "--storage", `rediss://localhost:${port}`], {
        HIVE_CREDENTIAL_KEY: encryptionKey,
        NODE_EXTRA_CA_CERTS: authority
      })
      assert.strictEqual(status, 0, stderr)
    }))

  it.live("is told the host's name (SNI), which servers of many customers need", () =>
    Effect.gen(function*() {
      const { certificate, key } = yield* certificateForLocalhost
      const names: Array<string> = []
      const server = createTlsServer({
        cert: readFileSync(certificate),
        key: readFileSync(key),
        SNICallback: (name, done) => {
          names.push(name)
          done(null)
        }
      })
      server.on("tlsClientError", () => {})
      yield* Effect.acquireRelease(
        Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
        () => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
      )
      const address = server.address()
      if (address === null || typeof address === "string") throw new Error("no port")
      yield* Effect.flip(openRedis(`rediss://localhost:${address.port}`))
      assert.deepStrictEqual(names, ["localhost"])
    }))
})
