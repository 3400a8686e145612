/**
 * Maps an HTTP answer from Aden to a value or a typed error: the table of docs/contract.md as pure functions of status, headers
 * and body.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Headers from "effect/http/Headers"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import {
  AdenForbidden,
  AdenProtocolError,
  AdenRejected,
  AdenUnauthorized,
  AdenUnavailable,
  IntegrationNotFound,
  RateLimited,
  ReauthRequired,
  RefreshFailed
} from "../../errors/AdenError.ts"
import type { AdenFailure, AdenRequestFailure } from "../../errors/AdenError.ts"
import { longestRateLimit } from "../../model/freshness.ts"
import { pageUrl } from "../../util/httpSyntax.ts"
import { cleanMessage } from "../../util/sanitize.ts"
import { ErrorAnswer } from "./AdenApi.ts"

/** A complete answer. `body` is text without a byte order mark. */
export interface Answer {
  readonly status: number
  readonly headers: Headers.Headers
  readonly body: string
  /** When it arrived, by the local clock, in ms. */
  readonly receivedAt: number
}

/** The request that an answer belongs to: its integration, if any, and the secrets that no message may repeat. */
export interface RequestContext {
  readonly id: string | undefined
  readonly secrets: ReadonlyArray<string>
}

const defaultRetryAfter = Duration.seconds(60)

/** The answer violates the contract. */
export const protocolError = (
  id: string | undefined,
  detail: string,
  options: { readonly status?: number; readonly isTransient: boolean }
): AdenUnavailable =>
  new AdenUnavailable({
    id,
    reason: new AdenProtocolError({
      detail: cleanMessage(detail),
      status: options.status,
      isTransient: options.isTransient
    })
  })

export const isSuccessful = (answer: Answer): boolean => answer.status >= 200 && answer.status < 300

const parseJson = Option.liftThrowable((text: string): unknown => JSON.parse(text))

/** Decodes the body of a successful answer. */
export const decodeAnswer = <A, I>(
  schema: Schema.Codec<A, I>,
  answer: Answer,
  context: RequestContext
): Result.Result<A, AdenUnavailable> => {
  const failed = (detail: string) =>
    Result.fail(protocolError(context.id, detail, { status: answer.status, isTransient: true }))
  const json = parseJson(answer.body)
  if (Option.isNone(json)) return failed(answer.body === "" ? "an empty body" : "a body that is not JSON")
  return Result.match(Schema.decodeUnknownResult(schema)(json.value), {
    onSuccess: Result.succeed,
    onFailure: (error) => failed(`an unexpected body: ${error.message.replace(/\s+/g, " ")}`)
  })
}

/** The error for an answer outside 200–299 to a request that may name no integration. */
export const requestFailureOf = (answer: Answer, context: RequestContext): AdenRequestFailure => {
  const { id } = context
  const { status } = answer
  const error = errorAnswerOf(answer)
  const detail = detailOf(error, context)
  const unexpected = (what: string, isTransient: boolean) => protocolError(id, what, { status, isTransient })

  if (status === 408) return unexpected("the server timed out waiting for the request", true)
  if (status >= 500) return unexpected("the server failed", true)
  if (status < 400) return unexpected("an unexpected status", false)
  if (status === 429) return new RateLimited({ id, retryAfter: retryAfterOf(answer, error) })
  if (status === 401 || status === 403) {
    if (typeof error.error !== "string") {
      return unexpected("refused by something other than Aden (a proxy, a firewall)", false)
    }
    return status === 401 ? new AdenUnauthorized({ id, detail }) : new AdenForbidden({ id, detail })
  }
  if (status === 404) {
    return unexpected("no such path: something other than Aden answered, or the path in ADEN_API_URL is wrong", false)
  }
  return new AdenRejected({ id, status, detail: detail ?? "" })
}

/** The error for an answer outside 200–299 to a request about one integration. */
export const failureOf = (answer: Answer, context: RequestContext & { readonly id: string }): AdenFailure => {
  const { id } = context
  const error = errorAnswerOf(answer)
  if (answer.status === 404 && error.error === "integration_not_found") return new IntegrationNotFound({ id })
  if (answer.status === 400 && error.requires_reauthorization === true) {
    return new ReauthRequired({
      id,
      detail: detailOf(error, context),
      reauthorizationUrl: pageUrl(error.reauthorization_url)
    })
  }
  if (answer.status === 400 && error.error === "refresh_failed") {
    return new RefreshFailed({ id, detail: detailOf(error, context) ?? error.error })
  }
  return requestFailureOf(answer, context)
}

type ErrorAnswer = typeof ErrorAnswer.Type

const errorAnswerOf = (answer: Answer): ErrorAnswer =>
  parseJson(answer.body).pipe(
    Option.flatMap((json) => Schema.decodeUnknownOption(ErrorAnswer)(json)),
    Option.getOrElse((): ErrorAnswer => ({}))
  )

/** The server's message, or its error name where the message is absent or empty. */
const detailOf = ({ error, message }: ErrorAnswer, context: RequestContext): string | undefined =>
  [message, error].map((text) => cleanMessage(text ?? "", context.secrets).trim()).find((text) => text !== "")

/** The `Date` header of an answer, in ms since the epoch. */
export const serverTime = (headers: Headers.Headers): Option.Option<number> =>
  Option.flatMap(
    Headers.get(headers, "date"),
    (text) => Option.map(Result.getSuccess(Headers.parseHttpDate(text)), DateTime.toEpochMillis)
  )

const retryAfterOf = (answer: Answer, error: ErrorAnswer): Duration.Duration => {
  // RFC 9110, section 10.2.3: an HTTP date is relative to the sender's clock, the answer's own `Date`
  const now = Option.getOrElse(serverTime(answer.headers), () => answer.receivedAt)
  return Headers.get(answer.headers, "retry-after").pipe(
    Option.flatMap((text) => Result.getSuccess(Headers.parseRetryAfter(text))),
    Option.map((hint) => Headers.retryAfterDelay(hint, now)),
    Option.orElse(() => secondsOf(error.retry_after)),
    Option.getOrElse(() => defaultRetryAfter),
    Duration.clamp({ minimum: Duration.zero, maximum: longestRateLimit })
  )
}

const decimal = /^\s*\d+(?:\.\d+)?\s*$/

/** `retry_after` in a body: seconds, as a number or as text. */
const secondsOf = (value: unknown): Option.Option<Duration.Duration> => {
  const seconds = typeof value === "string" && decimal.test(value) ? Number(value) : value
  return typeof seconds === "number" && Number.isFinite(seconds) && seconds >= 0
    ? Option.some(Duration.millis(Math.min(seconds * 1000, Duration.toMillis(longestRateLimit))))
    : Option.none()
}
