/**
 * How a client speaks with its server: one attempt with a time limit, the API key and its rotation, retries around the circuit
 * breaker, and what is learnt of the server's clock on the way.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { AdenProtocolError, AdenTimeout, AdenUnavailable } from "../../errors/AdenError.ts"
import type { AdenConnectionFailed, AdenFailure } from "../../errors/AdenError.ts"
import type { AdenConfigError } from "../../errors/ConfigError.ts"
import { logWarning } from "../../util/logging.ts"
import { requests } from "../../util/metrics.ts"
import { ClockSkew } from "./ClockSkew.ts"
import type { ClockSample } from "./ClockSkew.ts"
import { AdenTransport } from "./endpoints.ts"
import type { Answer, RequestContext } from "./failures.ts"
import { failureOf, isSuccessful, serverTime } from "./failures.ts"
import { AdenCircuit, retryPolicy } from "./resilience.ts"
import type { CircuitOptions } from "./resilience.ts"
import { connectionFailed, readBody, withSameOriginRedirects } from "./transport.ts"

export const bodyLimit = 1024 * 1024

/** Fetch would follow redirects itself, with the headers, also to other origins. */
const manual: RequestInit = { redirect: "manual" }

type Endpoint = "list" | "get" | "refresh" | "validate" | "usage" | "health"

type PendingRequest = Effect.Effect<HttpClientResponse.HttpClientResponse, unknown, AdenTransport>

type Transport = AdenTransport["Service"]

/** One call of an endpoint; `read` decodes its answer. */
interface Call<A, E> {
  readonly endpoint: Endpoint
  readonly request: PendingRequest
  readonly id: string | undefined
  readonly limit: number
  readonly read: (answer: Answer, secrets: ReadonlyArray<string>) => Effect.Effect<A, E>
}

export class AdenConnection {
  readonly #http: HttpClient.HttpClient
  readonly #root: string
  // made with the first request, as the circuit is: most tenants of a platform read what is stored
  #transports: { readonly plain: Transport; readonly authorized: Transport } | undefined = undefined
  #apiKey: Redacted.Redacted<string>
  readonly #currentKey: Effect.Effect<Redacted.Redacted<string>, AdenConfigError>
  readonly #requestInit: RequestInit
  readonly #timeout: Duration.Duration
  readonly #retry: Schedule.Schedule<unknown, AdenFailure>
  readonly #maxRetryAfter: Duration.Duration
  readonly #circuitOptions: CircuitOptions
  readonly #scope: Scope.Scope
  #circuit: AdenCircuit | undefined = undefined
  readonly #clockSkew = new ClockSkew()
  #warned: Set<string> | undefined = undefined

  constructor(options: {
    readonly http: HttpClient.HttpClient
    /** The server's URL, without a slash at its end. */
    readonly root: string
    readonly apiKey: Redacted.Redacted<string>
    /** Reads the key again, which may have been rotated. */
    readonly currentKey: Effect.Effect<Redacted.Redacted<string>, AdenConfigError>
    readonly requestInit: RequestInit | undefined
    readonly timeout: Duration.Duration
    readonly retry: Schedule.Schedule<unknown, AdenFailure>
    readonly maxRetryAfter: Duration.Duration
    readonly circuit: CircuitOptions
    /** Where the circuit is. */
    readonly scope: Scope.Scope
  }) {
    this.#http = options.http
    this.#root = options.root
    this.#apiKey = options.apiKey
    this.#currentKey = options.currentKey
    this.#requestInit = options.requestInit === undefined ? manual : { ...options.requestInit, ...manual }
    this.#timeout = options.timeout
    this.#retry = options.retry
    this.#maxRetryAfter = options.maxRetryAfter
    this.#circuitOptions = options.circuit
    this.#scope = options.scope
  }

  get #made() {
    return this.#transports ??= this.#makeTransports()
  }

  #makeTransports() {
    const plain: Transport = HttpClient.mapRequest(
      withSameOriginRedirects(this.#http),
      (request) => HttpClientRequest.acceptJson(HttpClientRequest.prependUrl(request, this.#root))
    )
    const authorized = HttpClient.mapRequest(
      plain,
      (request) => HttpClientRequest.bearerToken(request, this.#apiKey)
    )
    return { plain, authorized }
  }

  /** How far the server's clock is ahead, in ms. */
  get clockOffset(): number {
    return this.#clockSkew.current
  }

  /** What no error may show. */
  get secrets(): ReadonlyArray<string> {
    return [Redacted.value(this.#apiKey)]
  }

  /** Logs a warning about what this server sends, the first time that it does. */
  warnOnce(message: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#warned ??= new Set()
      if (this.#warned.has(message)) return Effect.void
      this.#warned.add(message)
      return logWarning(message)
    })
  }

  #recordServerTime(sample: ClockSample): Effect.Effect<void> {
    return Effect.suspend(() => {
      const wasClamped = this.#clockSkew.isClamped
      this.#clockSkew.record(sample)
      return this.#clockSkew.isClamped && !wasClamped ? logWarning(clockWarning(this.#clockSkew.measured)) : Effect.void
    })
  }

  /** One attempt without the API key. */
  attemptWithoutKey(endpoint: Endpoint, request: PendingRequest): Effect.Effect<Answer, AdenUnavailable> {
    return this.#attempt({ endpoint, request, id: undefined, limit: bodyLimit }, this.#made.plain)
  }

  /** Sends the request, and reads the complete answer. */
  #attempt(
    { endpoint, id, limit, request }: Omit<Call<unknown, unknown>, "read">,
    transport: Transport
  ): Effect.Effect<Answer, AdenUnavailable> {
    return Effect.gen({ self: this }, function*() {
      const sentAt = yield* Clock.currentTimeMillis
      const response = yield* Effect.provideService(request, AdenTransport, transport)
      const receivedAt = yield* Clock.currentTimeMillis
      const date = serverTime(response.headers)
      // not for usage reports: they are sent in the background, and the store does not read the clock skew again after them
      if (Option.isSome(date) && endpoint !== "usage") {
        yield* this.#recordServerTime({ sentAt, receivedAt, serverTime: date.value })
      }
      return {
        status: response.status,
        headers: response.headers,
        body: yield* readBody(response, limit),
        receivedAt
      }
    }).pipe(
      Effect.provideService(FetchHttpClient.RequestInit, this.#requestInit),
      Effect.catch((error): Effect.Effect<never, AdenConnectionFailed | AdenProtocolError> => {
        if (HttpClientError.isHttpClientError(error)) return Effect.fail(connectionFailed(error))
        // the request cannot be encoded: a usage report whose metadata is not JSON, which is a bug of the caller
        return error instanceof AdenProtocolError ? Effect.fail(error) : Effect.die(error)
      }),
      Effect.timeoutOrElse({
        duration: this.#timeout,
        orElse: () => Effect.fail(new AdenTimeout({ after: this.#timeout }))
      }),
      Effect.onExit((exit) => countRequest(endpoint, exit)),
      Effect.mapError((reason) => new AdenUnavailable({ id, reason }))
    )
  }

  /** Sends a request with the current API key. After a 401, reads the key again and retries once if it has changed. */
  ask<A, E extends AdenFailure>(call: Call<A, E>): Effect.Effect<A, E | AdenUnavailable> {
    const askWith = (key: Redacted.Redacted<string>) =>
      Effect.flatMap(this.#attempt(call, this.#made.authorized), (answer) => call.read(answer, [Redacted.value(key)]))
    return Effect.suspend(() => {
      const used = this.#apiKey
      return Effect.catch(
        askWith(used),
        (error) =>
          error._tag !== "AdenUnauthorized" ? Effect.fail(error) : Effect.matchEffect(this.#currentKey, {
            onFailure: () => Effect.fail(error),
            onSuccess: (current) => {
              if (Redacted.value(current) === Redacted.value(used)) return Effect.fail(error)
              this.#apiKey = current
              return askWith(current)
            }
          })
      )
    })
  }

  /** A request about one integration; `read` decodes answers in 200–299. */
  askAbout<A>(
    id: string,
    endpoint: Endpoint,
    request: PendingRequest,
    read: (answer: Answer, context: RequestContext) => Effect.Effect<A, AdenFailure>
  ): Effect.Effect<A, AdenFailure> {
    return this.ask({
      endpoint,
      request,
      id,
      limit: bodyLimit,
      read: (answer, secrets) => {
        const context = { id, secrets }
        return isSuccessful(answer) ? read(answer, context) : Effect.fail(failureOf(answer, context))
      }
    })
  }

  retrying<A, E extends AdenFailure>(self: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.suspend(() => Effect.retry(self, retryPolicy(this.#retry, this.#maxRetryAfter)))
  }

  /** Retries around the circuit breaker: each attempt counts, and none is made once it has opened. */
  guarded<A, E extends AdenFailure>(
    id: string | undefined,
    self: Effect.Effect<A, E>
  ): Effect.Effect<A, E | AdenUnavailable> {
    return Effect.suspend(() =>
      this.#circuit === undefined
        ? Effect.map(
          Scope.provide(AdenCircuit.make(this.#circuitOptions), this.#scope),
          (made) => this.#circuit ??= made
        )
        : Effect.succeed(this.#circuit)
    ).pipe(
      Effect.flatMap((circuit) => this.retrying(circuit.guard("aden", id, self)))
    )
  }
}

/** Counts a request by its status, or by why there was no complete answer. */
const countRequest = (
  endpoint: Endpoint,
  exit: Exit.Exit<Answer, AdenConnectionFailed | AdenProtocolError | AdenTimeout>
): Effect.Effect<void> => {
  const error = Option.getOrUndefined(Exit.findErrorOption(exit))
  const status = Exit.isSuccess(exit) ? String(exit.value.status) : error?._tag ?? "interrupted"
  return Metric.update(requests({ endpoint, status }), 1)
}

const clockWarning = (offset: number): string => {
  const apart = Duration.format(Duration.seconds(Math.round(Math.abs(offset) / 1000)))
  return `Aden's clock and the local one are ${apart} apart; at most 5 minutes are corrected. Set this machine's clock.`
}
