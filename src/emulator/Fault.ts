/**
 * Failures of a server on demand: each fault is a middleware around the emulator's answer.
 *
 * @since 0.1.0
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpBody from "effect/http/HttpBody"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { IssuedTokenLifetime } from "./IntegrationRegistry.ts"
import { ServerClockOffset, serverNow } from "./serverClock.ts"

/**
 * A fault for `AdenEmulator.setFault`. `Fault.Status({ status: 503 })` makes one.
 *
 * These replace the answer. The request is not carried out: no token is issued, and no usage recorded.
 *
 * - `Status`: any status, with the given body. `Fault.Status({ status: 403, contentType: "text/html", body:
 *   "<h1>Blocked</h1>" })` acts like a web application firewall, and with 404 like a proxy.
 * - `RateLimited`: 429 as Aden answers it. `retryAfter` (s) is given in the body and in the `Retry-After` header; `header`
 *   and `body` set either to anything else (`"soon"`, an HTTP date, `-3`). Without any of them there is no hint.
 * - `Redirect`: to `location`, 302 by default.
 * - `Hang`: no answer, ever.
 * - `Reset` at `"request"`: the connection is reset.
 *
 * These act on the answer, after the request was carried out:
 *
 * - `Reset` at `"answer"`: the request was carried out and its answer is lost. At `"body"`: the connection is cut in the
 *   middle of the body.
 * - `ReplaceBody`: any text or bytes as the body, JSON or not.
 * - `Truncate`: the first half of the body, as a complete HTTP message.
 * - `ByteOrderMark`: a byte order mark before the body.
 * - `Oversized`: a JSON body of this many bytes, generated while it is sent; `declared` sends its `Content-Length`.
 * - `Nested`: an array nested `depth` deep in the answer's `metadata`.
 * - `Patch`: sets fields of the answer, or removes those that are `undefined`. With `item`, it patches the list's item with
 *   that id. `{ integration_id: "hubspot" }` is the credential of another integration, `{ tenant_id: "other" }` the list of
 *   another tenant, `{ refresh_token: "…" }` a secret that should not be there, `{ expires_at: "tomorrow" }` an invalid
 *   timestamp.
 *
 * These wrap everything else. They combine with each other and with one of the above:
 *
 * - `Latency`: the answer is delayed by `duration`.
 * - `SlowBody`: the body comes `bytes` at a time (1 by default), with `interval` before each.
 * - `ClockSkew`: the server's clock is ahead by `offset`, or behind if negative: in `Date`, in every expiry, and in every check
 *   of one.
 * - `DateHeader`: any text as the `Date` header.
 * - `TokenLifetime`: how long tokens live that are issued while it is set; with a negative one they are expired from the start.
 *
 * For refused connections, use `AdenEmulator.stop`. Durations pass on Effect's `Clock`.
 *
 * @since 0.1.0
 * @category models
 */
export type Fault = Data.TaggedEnum<{
  Status: {
    readonly status: number
    readonly body?: string | undefined
    readonly contentType?: string | undefined
    readonly headers?: Readonly<Record<string, string>> | undefined
  }
  RateLimited: {
    readonly retryAfter?: number | undefined
    readonly header?: string | undefined
    readonly body?: Schema.Json | undefined
  }
  Redirect: { readonly location: string; readonly status?: number | undefined }
  Hang: {}
  Reset: { readonly at: "request" | "answer" | "body" }
  ReplaceBody: { readonly body: string | Uint8Array; readonly contentType?: string | undefined }
  Truncate: {}
  ByteOrderMark: {}
  Oversized: { readonly bytes: number; readonly declared?: boolean | undefined }
  Nested: { readonly depth: number }
  Patch: { readonly fields: Readonly<Record<string, Schema.Json | undefined>>; readonly item?: string | undefined }
  Latency: { readonly duration: Duration.Input }
  SlowBody: { readonly interval: Duration.Input; readonly bytes?: number | undefined }
  ClockSkew: { readonly offset: Duration.Input }
  DateHeader: { readonly value: string }
  TokenLifetime: { readonly lifetime: Duration.Input }
}>

type Headers = Readonly<Record<string, string>>

/**
 * The constructors of {@link Fault}, with `$is` and `$match`.
 *
 * @example
 * ```ts
 * import { AdenEmulator, Fault } from "aden-credentials/emulator"
 * import { Effect } from "effect"
 *
 * // the first refresh fails, the second is rate-limited, the third succeeds
 * const program = Effect.gen(function*() {
 *   const aden = yield* AdenEmulator
 *   yield* aden.setFault(Fault.Status({ status: 503 }), { endpoint: "refresh", times: 1 })
 *   yield* aden.setFault(Fault.RateLimited({ retryAfter: 2 }), { endpoint: "refresh", times: 1 })
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const Fault = Data.taggedEnum<Fault>()

/** An effect that answers a request. */
export type Answer<E = never> = Effect.Effect<HttpServerResponse.HttpServerResponse, E, HttpServerRequest>

/** Makes another answer of an answer. */
export type AnswerMiddleware = <E>(answer: Answer<E>) => Answer<E>

/** The faults that wrap everything else, from the innermost to the outermost. */
export const wrapping: ReadonlyArray<Fault["_tag"]> = [
  "TokenLifetime",
  "ClockSkew",
  "DateHeader",
  "SlowBody",
  "Latency"
]

/** The middleware of a fault. */
export const inject = (fault: Fault): AnswerMiddleware => {
  switch (fault._tag) {
    case "Status":
      return instead(respond(fault.status, fault.body, fault.contentType, fault.headers))
    case "RateLimited":
      return instead(rateLimited(fault))
    case "Redirect":
      return instead(HttpServerResponse.redirect(fault.location, { status: fault.status ?? 302 }))
    case "Hang":
      return () => Effect.never
    case "Reset":
      return resetAt[fault.at]
    case "ReplaceBody":
      return Effect.map(replaceBody(fault.body, fault.contentType))
    case "Truncate":
      return mapText((text) => text.slice(0, Math.floor(text.length / 2)))
    case "ByteOrderMark":
      return mapText((text) => `\ufeff${text}`)
    case "Oversized":
      return Effect.map((response) =>
        HttpServerResponse.stream(oversized(fault.bytes), {
          status: response.status,
          contentType: "application/json",
          contentLength: fault.declared === true ? fault.bytes : undefined
        })
      )
    case "Nested":
      return mapText(nest(fault.depth))
    case "Patch":
      return mapText(patch(fault.fields, fault.item))
    case "Latency":
      return Effect.delay(fault.duration)
    case "SlowBody":
      return Effect.map(drip(Duration.fromInputUnsafe(fault.interval), fault.bytes ?? 1))
    case "ClockSkew":
      return Effect.provideService(ServerClockOffset, Duration.fromInputUnsafe(fault.offset))
    case "DateHeader":
      return Effect.map(HttpServerResponse.setHeader("date", fault.value))
    case "TokenLifetime":
      return Effect.provideService(IssuedTokenLifetime, Duration.fromInputUnsafe(fault.lifetime))
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// In place of the answer
// ---------------------------------------------------------------------------------------------------------------------

const instead = (response: HttpServerResponse.HttpServerResponse) => (): Answer => Effect.succeed(response)

const respond = (status: number, body = "", contentType = "application/json", headers: Headers = {}) =>
  body === ""
    ? HttpServerResponse.empty({ status, headers })
    : HttpServerResponse.text(body, { status, contentType, headers })

const rateLimited = (fault: Data.TaggedEnum.Value<Fault, "RateLimited">) => {
  const header = fault.header ?? fault.retryAfter?.toString()
  const hint = fault.body === undefined ? fault.retryAfter : fault.body
  return respond(
    429,
    JSON.stringify({
      error: "rate_limited",
      message: "Too many refresh requests. Try again later.",
      retry_after: hint
    }),
    "application/json",
    header === undefined ? {} : { "retry-after": header }
  )
}

/** The connection of a request, for an answer that breaks it. The fiber that answers is interrupted then. */
export interface Connection {
  /** Breaks it now. What was written and is not sent yet can be lost. */
  readonly reset: Effect.Effect<void>
  /** Breaks it when all that was written has been sent. */
  readonly cut: Effect.Effect<void>
}

/** Finds the connection of a request. By default it is the socket of a Node server; a server without sockets provides its own. */
export const ConnectionOf = Context.Reference<(request: HttpServerRequest) => Connection>(
  "aden-credentials/emulator/ConnectionOf",
  {
    defaultValue: () => (request) => {
      const { socket } = NodeHttpServerRequest.toIncomingMessage(request)
      return {
        reset: Effect.sync(() => socket.resetAndDestroy()),
        // an empty write ends after all writes before it were sent
        cut: Effect.sync(() => socket.write("", () => socket.destroy()))
      }
    }
  }
)

const connection = Effect.zipWith(ConnectionOf, HttpServerRequest, (connectionOf, request) => connectionOf(request))

const reset: Answer = Effect.flatMap(connection, (connection) => Effect.andThen(connection.reset, Effect.never))

// ---------------------------------------------------------------------------------------------------------------------
// On the answer
// ---------------------------------------------------------------------------------------------------------------------

const bytesOf = (response: HttpServerResponse.HttpServerResponse): Option.Option<Uint8Array> =>
  response.body._tag === "Uint8Array" ? Option.some(response.body.body) : Option.none()

const replaceBody =
  (body: string | Uint8Array, contentType = "application/json") => (response: HttpServerResponse.HttpServerResponse) =>
    HttpServerResponse.setBody(
      response,
      Predicate.isString(body) ? HttpBody.text(body, contentType) : HttpBody.uint8Array(body, contentType)
    )

const mapText = (f: (text: string) => string): AnswerMiddleware =>
  Effect.map((response) =>
    Option.match(bytesOf(response), {
      onNone: () => response,
      onSome: (bytes) => replaceBody(f(new TextDecoder().decode(bytes)))(response)
    })
  )

const decodeJson = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Unknown))

const patch = (fields: Readonly<Record<string, Schema.Json | undefined>>, item: string | undefined) => (text: string) =>
  Option.match(decodeJson(text), {
    onNone: () => text,
    onSome: (answer) => {
      if (!Predicate.isObject(answer)) return text
      if (item === undefined) return JSON.stringify({ ...answer, ...fields })
      const items = Predicate.hasProperty(answer, "integrations") && Array.isArray(answer.integrations)
        ? answer.integrations
        : []
      return JSON.stringify({
        ...answer,
        integrations: items.map((entry: unknown) =>
          Predicate.hasProperty(entry, "integration_id") && entry.integration_id === item
            ? { ...entry, ...fields }
            : entry
        )
      })
    }
  })

// written as text: `JSON.stringify` runs out of stack before a parser does
const nest = (depth: number) => (text: string) => {
  const without = patch({ metadata: undefined }, undefined)(text)
  if (!without.endsWith("}")) return text
  const separator = without === "{}" ? "" : ","
  return `${without.slice(0, -1)}${separator}"metadata":{"nested":${"[".repeat(depth)}${"]".repeat(depth)}}}`
}

const filler = new TextEncoder().encode("a".repeat(64 * 1024))

const oversized = (bytes: number): Stream.Stream<Uint8Array> => {
  const before = new TextEncoder().encode(`{"filler":"`)
  const after = new TextEncoder().encode(`"}`)
  return Stream.concat(
    Stream.succeed(before),
    Stream.concat(
      Stream.unfold(
        bytes - before.length - after.length,
        (left) => Effect.succeed(left > 0 ? [filler.subarray(0, left), left - filler.length] as const : undefined)
      ),
      Stream.succeed(after)
    )
  )
}

const drip = (interval: Duration.Duration, size: number) => (response: HttpServerResponse.HttpServerResponse) =>
  Option.match(bytesOf(response), {
    onNone: () => response,
    onSome: (bytes) =>
      HttpServerResponse.setBody(
        response,
        HttpBody.stream(
          Stream.unfold(0, (start) =>
            start >= bytes.length
              ? Effect.succeed(undefined)
              : Effect.as(Effect.sleep(interval), [bytes.subarray(start, start + size), start + size] as const)),
          "application/json",
          bytes.length
        )
      )
  })

const cutInTheMiddle = (response: HttpServerResponse.HttpServerResponse): Answer =>
  Option.match(bytesOf(response), {
    onNone: () => reset,
    onSome: (bytes) =>
      Effect.map(connection, ({ cut }) =>
        HttpServerResponse.setBody(
          response,
          HttpBody.stream(
            Stream.concat(
              Stream.succeed(bytes.subarray(0, Math.ceil(bytes.length / 2))),
              Stream.fromEffect(Effect.andThen(cut, Effect.never))
            ),
            "application/json",
            bytes.length
          )
        ))
  })

const resetAt: Readonly<Record<"request" | "answer" | "body", AnswerMiddleware>> = {
  request: () => reset,
  answer: (answer) => Effect.andThen(answer, reset),
  body: Effect.flatMap(cutInTheMiddle)
}

// ---------------------------------------------------------------------------------------------------------------------
// Around the answer
// ---------------------------------------------------------------------------------------------------------------------

/** Sets the `Date` header by the server's clock, which also decides what has expired. */
export const withDate: AnswerMiddleware = (answer) =>
  Effect.zipWith(
    answer,
    serverNow,
    (response, now) => HttpServerResponse.setHeader(response, "date", DateTime.toDateUtc(now).toUTCString())
  )
