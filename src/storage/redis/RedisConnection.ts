/**
 * The connection to a Redis server.
 *
 * @since 0.1.0
 */
import { layer as nodeRedis, NodeRedis } from "@effect/platform-node/NodeRedis"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import * as Predicate from "effect/Predicate"
import * as Queue from "effect/Queue"
import * as RcRef from "effect/RcRef"
import * as Redacted from "effect/Redacted"
import { randomInt } from "node:crypto"
import { AdenConfigError } from "../../errors/ConfigError.ts"
import { CredentialStorageError, StorageIoFailed } from "../../errors/StorageError.ts"
import { missingSetting } from "../../model/settings.ts"
import { isLoopback } from "../../util/httpSyntax.ts"
import { cleanMessage } from "../../util/sanitize.ts"
import { configuredUrl, redisAllowsInsecure, redisInsecureVariable, redisVariable } from "../records/settings.ts"
import { isUntrusted, untrustedRemedy } from "../records/tls.ts"

/**
 * Effect's `Redis` service over the package `redis`, set up for `RedisStorage`. While the server is away, a command fails at once
 * instead of waiting. The connection is restored automatically, also after it was lost without an error: when a command was
 * given up, a PING checks whether the server still answers. Uses two connections, one for commands and one for all subscriptions,
 * however many storages share it.
 *
 * @example
 * ```ts
 * import { RedisStorage } from "aden-credentials"
 * import { RedisConnection } from "aden-credentials/redis"
 * import { Layer } from "effect"
 *
 * // + NodeServices.layer at the edge, for the key file
 * const Storage = RedisStorage.layerConfig.pipe(Layer.provide(RedisConnection.layerConfig))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export class RedisConnection {
  /**
   * A connection to `redis://[user[:password]@]host[:port][/database]`; `rediss:` for TLS, which a server on another machine has to
   * speak unless `allowInsecure` lets password and data travel in plain text.
   *
   * Fails with `AdenConfigError` when the URL is invalid, or the server refuses user name or password or shows a certificate that is
   * not trusted, and with `CredentialStorageError` when it cannot be reached. No error contains the password.
   */
  static readonly layer = (options: {
    readonly url: Redacted.Redacted<string>
    readonly allowInsecure?: boolean | undefined
  }): Layer.Layer<Redis.Redis | NodeRedis, AdenConfigError | CredentialStorageError> =>
    connectRedis("url", options.url, { allowInsecure: options.allowInsecure === true })

  /**
   * A connection to the server of `REDIS_URL`, with `REDIS_ALLOW_INSECURE` as `allowInsecure`. Fails with `AdenConfigError` when the
   * URL is not set.
   */
  static readonly layerConfig: Layer.Layer<Redis.Redis | NodeRedis, AdenConfigError | CredentialStorageError> = Layer
    .unwrap(Effect.zipWith(
      configuredUrl(redisVariable),
      redisAllowsInsecure,
      (url, allowInsecure) => connectRedis(redisVariable, url, { allowInsecure })
    ))
}

// internal

/**
 * The connection to the server of this URL. Errors name `setting`, where the URL came from.
 *
 * @internal
 */
export const connectRedis = (
  setting: string,
  url: Redacted.Redacted<string>,
  options: { readonly allowInsecure: boolean }
): Layer.Layer<Redis.Redis | NodeRedis, AdenConfigError | CredentialStorageError> =>
  Layer.unwrap(Effect.map(parseUrl(setting, url, options), (address) => connect(setting, address)))

const connectTimeoutMillis = 5_000
const closeTime = Duration.seconds(2)

/** The server counts as dead when it does not answer a PING within this time. */
const answerTime = Duration.seconds(2)

/** How often the connection is checked; it is only pinged after a command was given up. */
const checkInterval = Duration.seconds(1)

/** A connection attempt that neither succeeds nor fails during so many checks is stuck. */
const maxSilentChecks = 6

/** The longest delay until the client tries to reconnect, and its jitter, in ms. */
const reconnect = { most: 1_000, jitter: 200 }

interface Address {
  readonly host: string
  readonly port: number
  readonly isTls: boolean
  readonly username: string | undefined
  readonly password: Redacted.Redacted<string> | undefined
  readonly database: number
  /** The URL without user name and password. */
  readonly shown: string
}

const decodePart = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

const parseUrl = Effect.fnUntraced(function*(
  setting: string,
  text: Redacted.Redacted<string>,
  { allowInsecure }: { readonly allowInsecure: boolean }
): Effect.fn.Return<Address, AdenConfigError> {
  const example = "Give it as redis://user:password@host:6379, or rediss:// for TLS."
  const refuse = (detail: string) => new AdenConfigError({ setting, detail, remedy: example })
  const value = Redacted.value(text)
  if (value === "") return yield* missingSetting(setting, "the URL of the Redis server, such as redis://host:6379")
  if (!URL.canParse(value)) return yield* refuse("is not a URL")
  const url = new URL(value)
  if (url.protocol !== "redis:" && url.protocol !== "rediss:") {
    return yield* refuse("is not the URL of a Redis server: it does not begin with redis:// or rediss://")
  }
  if (url.hostname === "") return yield* refuse("names no host")
  if (url.protocol === "redis:" && !isLoopback(url) && !allowInsecure) {
    return yield* new AdenConfigError({
      setting,
      detail: "is redis:// to another machine, which would expose password and data on the network",
      remedy:
        `Use rediss://, for TLS. Plain text needs allowInsecure, in the environment ${redisInsecureVariable}=true.`
    })
  }
  if (url.search !== "" || url.hash !== "") return yield* refuse("has a query or fragment")
  const [, database] = /^\/?(\d{0,5})$/.exec(url.pathname) ?? []
  if (database === undefined) return yield* refuse("has a path that is not the number of a database")
  const username = decodePart(url.username)
  const password = decodePart(url.password)
  if (username === undefined || password === undefined) {
    return yield* refuse("has a user name or password with a % that is not percent-encoding")
  }
  const port = url.port === "" ? 6379 : Number(url.port)
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port,
    isTls: url.protocol === "rediss:",
    username: username === "" ? undefined : username,
    password: password === "" ? undefined : Redacted.make(password),
    database: Number(database),
    shown: `${url.protocol}//${url.hostname}:${port}`
  }
})

const refusals: ReadonlyArray<readonly [RegExp, string]> = [
  [/^WRONGPASS|^ERR (?:AUTH|invalid password)|invalid username-password/i, "holds a user name or password that"],
  [/^NOAUTH/, "holds no password, which"],
  [/^NOPERM/, "holds a user whose commands"]
]

/** TLS with the name of the host in the greeting (SNI), by which a server of many customers chooses its certificate. */
const tlsTo = (host: string): { readonly tls: true; readonly servername?: string } => ({
  tls: true,
  ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host })
})

const connect = (
  setting: string,
  { database, host, isTls, password, port, shown, username }: Address
): Layer.Layer<Redis.Redis | NodeRedis, AdenConfigError | CredentialStorageError> => {
  const failure = ({ cause }: Redis.RedisError): AdenConfigError | CredentialStorageError => {
    const text = cause instanceof Error ? cause.message : String(cause)
    const [, what] = refusals.find(([pattern]) => pattern.test(text)) ?? []
    if (what !== undefined) {
      return new AdenConfigError({
        setting,
        detail: `${what} the Redis server at ${shown} ${text.startsWith("NOAUTH") ? "asks for" : "refuses"}`,
        remedy: "Check user name and password of the Redis server."
      })
    }
    const detail = cleanMessage(text, password === undefined ? [] : [Redacted.value(password)])
    // the client wraps the error by which it ends its first attempt
    if (isUntrusted(Predicate.hasProperty(cause, "originalError") ? cause.originalError : cause)) {
      return new AdenConfigError({
        setting,
        detail: `does not open ${shown}: ${detail}`,
        remedy: `${untrustedRemedy}.`
      })
    }
    return new CredentialStorageError({
      operation: "connect",
      reason: new StorageIoFailed({
        location: shown,
        detail,
        remedy: `Check that the Redis server runs and can be reached from here, and that ${setting} names it.`
      })
    })
  }
  const socket = { host, port, connectTimeout: connectTimeoutMillis, ...(isTls ? tlsTo(host) : {}) }
  let hasConnected = false
  const connection = nodeRedis({
    socket: {
      ...socket,
      reconnectStrategy: (retries, cause) =>
        hasConnected
          ? Math.min(2 ** retries * 50, reconnect.most) + randomInt(reconnect.jitter)
          : cause
    },
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password: Redacted.value(password) }),
    database,
    disableOfflineQueue: true
  })
  const usable = Effect.gen(function*() {
    const { client } = yield* NodeRedis
    yield* Effect.addFinalizer(() => close(client))
    const redis = yield* Redis.Redis
    // a server with a password accepts the connection, and then refuses every command
    yield* redis.send("PING")
    hasConnected = true
    const { lose, subscribe } = yield* makeSubscriptions(client, socket)
    const monitored = yield* makeMonitor(client, lose)
    return Redis.Redis.of({
      ...redis,
      send: (command, ...args) => monitored(redis.send(command, ...args)),
      eval: (script) => (...params) => monitored(redis.eval(script)(...params)),
      subscribe
    })
  })
  return Layer.catch(
    Layer.provideMerge(Layer.effect(Redis.Redis, usable), connection),
    (error) => Layer.effectContext(Effect.fail(failure(error)))
  )
}

/** Closes within `closeTime`: the client would wait for outstanding answers, and a program has to be able to end. */
const close = (client: NodeRedis["Service"]["client"]): Effect.Effect<void> =>
  Effect.promise(() => client.close()).pipe(
    Effect.timeout(closeTime),
    Effect.ignoreCause,
    Effect.andThen(Effect.sync(() => {
      if (client.isOpen) client.destroy()
    }))
  )

const unanswered = new Redis.RedisError({ cause: new Error("the Redis server does not answer") })

const attempt = <A>(run: () => Promise<A>, duration = answerTime): Effect.Effect<A, Redis.RedisError> =>
  Effect.tryPromise({ try: run, catch: (cause) => new Redis.RedisError({ cause }) }).pipe(
    Effect.timeoutOrElse({ duration, orElse: () => Effect.fail(unanswered) })
  )

/**
 * Detects a connection that was lost without an error, as when the host or the network vanishes, and reconnects; the system would
 * retransmit for many minutes. Pings only after a command was given up: answers a wrapper for commands that notices this.
 */
const makeMonitor = Effect.fnUntraced(function*(
  client: NodeRedis["Service"]["client"],
  lose: (error: Redis.RedisError) => void
) {
  let isSuspect = false
  let silence = 0
  client.on("error", () => silence = 0)

  const reconnectAfter = Effect.fnUntraced(function*(delay: Duration.Duration) {
    client.destroy()
    lose(unanswered)
    // gives an attempt that was still connecting time to notice that it was destroyed
    yield* Effect.sleep(delay)
    // the client retries until it succeeds, and logs failures
    void client.connect().catch(() => {})
  })

  const check = Effect.gen(function*() {
    if (!client.isReady) {
      if (++silence < maxSilentChecks) return
      silence = 0
      return yield* reconnectAfter(Duration.millis(reconnect.most + reconnect.jitter))
    }
    silence = 0
    if (!isSuspect) return
    isSuspect = false
    yield* Effect.catch(attempt(() => client.ping()), () => reconnectAfter(Duration.zero))
  })
  yield* Effect.forkScoped(Effect.forever(Effect.delay(check, checkInterval)))

  return <A, E>(command: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.onInterrupt(command, () => Effect.sync(() => isSuspect = true))
})

/**
 * All subscriptions over one connection, however many tenants of a process subscribe. It does not reconnect silently: when it is
 * lost, every subscription fails, so that the subscriber reads what it missed.
 */
const makeSubscriptions = Effect.fnUntraced(function*(
  client: NodeRedis["Service"]["client"],
  socket: { readonly host: string; readonly port: number; readonly tls?: true; readonly servername?: string }
) {
  type Subscribers = Set<(error: Redis.RedisError) => void>
  const connections = new Set<Subscribers>()
  const failAll = (subscribers: Subscribers, error: Redis.RedisError) => {
    for (const fail of subscribers) fail(error)
  }

  const subscriber = yield* RcRef.make({
    acquire: Effect.gen(function*() {
      const subscribers: Subscribers = new Set()
      const connection = client.duplicate({ socket: { ...socket, reconnectStrategy: false } })
      connection.on("error", (cause) => failAll(subscribers, new Redis.RedisError({ cause })))
      const end = () => {
        if (connection.isOpen) connection.destroy()
      }
      let isConnected = false
      connection.once("connect", () => isConnected = true)
      yield* Effect.acquireRelease(Effect.sync(() => connections.add(subscribers)), () =>
        Effect.sync(() => {
          connections.delete(subscribers)
          // a connection that is destroyed while it connects is established all the same, and would stay open
          if (isConnected) end()
          else connection.once("connect", end)
        }))
      yield* attempt(() => connection.connect(), Duration.millis(connectTimeoutMillis))
      return { connection, subscribers }
    })
  })

  const listen = Effect.fnUntraced(
    function*(channel: string, queue: Queue.Queue<Redis.RedisMessage, Redis.RedisError>) {
      const { connection, subscribers } = yield* RcRef.get(subscriber)
      const fail = (error: Redis.RedisError) => Queue.failCauseUnsafe(queue, Cause.fail(error))
      subscribers.add(fail)
      yield* Effect.addFinalizer(() => Effect.sync(() => subscribers.delete(fail)))
      const take = (message: string, channel: string) => Queue.offerUnsafe(queue, { channel, message })
      // a connection that does not answer is of no use to the other subscribers either
      const answered = (run: () => Promise<void>) =>
        Effect.tapError(attempt(run), (error) =>
          Effect.sync(() => {
            if (error !== unanswered) return
            connection.destroy()
            failAll(subscribers, error)
          }))
      yield* Effect.acquireRelease(
        answered(() => connection.subscribe(channel, take)),
        () => connection.isReady ? Effect.ignore(answered(() => connection.unsubscribe(channel, take))) : Effect.void
      )
    }
  )

  const subscribe = Effect.fnUntraced(function*(channel: string) {
    const queue = yield* Queue.unbounded<Redis.RedisMessage, Redis.RedisError>()
    yield* Effect.addFinalizer(() => Queue.shutdown(queue))
    yield* Effect.catch(
      listen(channel, queue),
      (error) => Effect.andThen(RcRef.invalidate(subscriber), Queue.fail(queue, error))
    )
    return Queue.asDequeue(queue)
  })

  return {
    subscribe,
    lose: (error: Redis.RedisError) => {
      for (const subscribers of connections) failAll(subscribers, error)
    }
  } as const
})
