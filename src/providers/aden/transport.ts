/**
 * The transport between a request to Aden and its complete answer: redirects, the body limit, and connection errors.
 */
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Predicate from "effect/Predicate"
import * as Stream from "effect/Stream"
import { AdenConnectionFailed, AdenProtocolError } from "../../errors/AdenError.ts"
import { drain } from "../../util/drain.ts"
import { locationUrl } from "../../util/httpSyntax.ts"
import { cleanMessage, cleanText } from "../../util/sanitize.ts"
import { removeUnparsedBytes } from "../../util/unparsedBytes.ts"

const maximumRedirects = 5

/**
 * Follows redirects that stay within the origin and keep the method. Any other is refused before anything is sent, so that API
 * key, tenant id and body never leave the origin.
 */
export const withSameOriginRedirects = <E, R>(
  http: HttpClient.HttpClient.With<E, R>
): HttpClient.HttpClient.With<E | AdenProtocolError, R> => {
  const follow = Effect.fnUntraced(function*(
    request: HttpClientRequest.HttpClientRequest,
    response: HttpClientResponse.HttpClientResponse
  ) {
    for (let hops = 0; response.status >= 300 && response.status < 400; hops++) {
      yield* drain(response)
      const target = redirectTarget(request, response)
      if (typeof target === "string" || hops === maximumRedirects) {
        return yield* new AdenProtocolError({
          detail: typeof target === "string" ? target : "too many redirects",
          status: response.status,
          isTransient: false
        })
      }
      request = HttpClientRequest.setUrl(request, target.href)
      response = yield* http.postprocess(Effect.succeed(request))
    }
    return response
  })
  return HttpClient.transform(
    http,
    (response, request) => Effect.flatMap(response, (answer) => follow(request, answer))
  )
}

/** The target of a redirect, or what is wrong with it. */
const redirectTarget = (
  request: HttpClientRequest.HttpClientRequest,
  response: HttpClientResponse.HttpClientResponse
): URL | string => {
  const from = new URL(request.url)
  const to = locationUrl(response.headers["location"], from)
  if (to === undefined) return "a redirect without a usable location"
  if (to.origin !== from.origin) return `a redirect to another origin, ${cleanMessage(to.origin)}`
  if (to.username !== "" || to.password !== "") return "a redirect with a user name or password"
  const keepingMethod = request.method === "GET" ? [301, 302, 303, 307, 308] : [307, 308]
  return keepingMethod.includes(response.status) ? to : "a redirect that would change the method"
}

/**
 * The body as text. Reading stops after `limit` bytes: then a successful answer is an error, and the body of any other answer
 * counts as empty, because its status is enough.
 */
export const readBody = (
  response: HttpClientResponse.HttpClientResponse,
  limit: number
): Effect.Effect<string, HttpClientError.HttpClientError | AdenProtocolError> =>
  // to read it as a stream is a quarter of the processor time of a request
  isShort(response, limit) ? response.text : readStream(response, limit)

/** Whether the answer says that it has at most so many bytes. A compressed one does not say how many come of them. */
const isShort = ({ headers }: HttpClientResponse.HttpClientResponse, limit: number): boolean => {
  const length = headers["content-length"]
  return length !== undefined && /^\d+$/.test(length) && Number(length) <= limit &&
    headers["content-encoding"] === undefined && headers["transfer-encoding"] === undefined
}

const readStream = (
  response: HttpClientResponse.HttpClientResponse,
  limit: number
): Effect.Effect<string, HttpClientError.HttpClientError | AdenProtocolError> =>
  Effect.suspend(() => {
    const { status } = response
    const decoder = new TextDecoder()
    let length = 0
    let text = ""
    return Stream.runForEach(response.stream, (chunk) => {
      length += chunk.length
      if (length > limit) {
        return new AdenProtocolError({ detail: `a body of more than ${limit} bytes`, status, isTransient: true })
      }
      text += decoder.decode(chunk, { stream: true })
      return Effect.void
    }).pipe(
      Effect.map(() => text + decoder.decode()),
      Effect.catchTag("AdenProtocolError", (error) =>
        status >= 200 && status < 300 ? Effect.fail(error) : Effect.succeed("")),
      // with fetch, a 204 or 304 has no body at all
      Effect.catchReason("HttpClientError", "EmptyBodyError", () =>
        Effect.succeed(""))
    )
  })

/** The error for a broken connection, with the system's code (ECONNREFUSED, ENOTFOUND, CERT_HAS_EXPIRED) where there is one. */
export const connectionFailed = (error: HttpClientError.HttpClientError): AdenConnectionFailed => {
  // the spans of the client hold the same error
  removeUnparsedBytes(error.reason.cause)
  // the code is nested some causes deep, at a different depth in each HTTP client
  let cause: unknown = error.reason.cause
  for (let depth = 0; depth < 5 && Predicate.isObject(cause); depth++) {
    // of undici, by which a proxy is asked for a tunnel; its code says only that the request was aborted
    const refused = cause instanceof Error ? /^Proxy response \((\d{3})\)/.exec(cause.message)?.[1] : undefined
    if (refused !== undefined) return new AdenConnectionFailed({ detail: `the proxy answered ${refused}` })
    if (Predicate.hasProperty(cause, "code") && typeof cause.code === "string") {
      return new AdenConnectionFailed({ detail: cleanText(cause.code) })
    }
    // https://fetch.spec.whatwg.org/#port-blocking: 6000 and 10080 are among them
    if (cause instanceof Error && cause.message === "bad port") {
      return new AdenConnectionFailed({ detail: "fetch refuses to connect to this port" })
    }
    cause = cause instanceof AggregateError
      ? cause.errors[0]
      : Predicate.hasProperty(cause, "cause")
      ? cause.cause
      : undefined
  }
  return new AdenConnectionFailed({ detail: "the connection broke" })
}
