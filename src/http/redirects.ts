/**
 * How a redirect is followed by a client that carries a credential: as fetch does it, but nothing that belongs to the program
 * goes to another origin with it.
 */
import * as Headers from "effect/http/Headers"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as UrlParams from "effect/http/UrlParams"
import * as Option from "effect/Option"
import { locationUrl } from "../util/httpSyntax.ts"

/** What a redirect asks for. */
export interface Redirect {
  readonly url: URL
  /** The URL as the server wrote it, with what a parser changes or leaves out. */
  readonly location: string
  readonly request: HttpClientRequest.HttpClientRequest
  readonly isSameOrigin: boolean
}

/**
 * What goes to another origin: headers by which HTTP itself says what is asked for. Any other was meant for the origin that the request
 * was made for, and no list can foresee under which names APIs take secrets.
 */
const headersForAnyone =
  /^(?:accept(?:-charset|-encoding|-language)?|user-agent|range|if-(?:match|none-match|modified-since|unmodified-since|range)|cache-control|pragma)$/

/** The request that follows from an answer; `undefined` where it is not a redirect to follow, and the program gets it as it is. */
export const redirectOf = (
  request: HttpClientRequest.HttpClientRequest,
  url: URL,
  response: HttpClientResponse.HttpClientResponse,
  headersOfCredential: ReadonlyArray<string>
): Redirect | undefined => {
  if (![301, 302, 303, 307, 308].includes(response.status)) return undefined
  const location = response.headers["location"] ?? ""
  const to = locationUrl(location, url)
  if (to === undefined || !/^https?:$/.test(to.protocol) || to.username !== "" || to.password !== "") return undefined
  to.hash = ""
  const isSameOrigin = to.origin === url.origin
  const becomesGet = (response.status <= 302 && request.method === "POST") ||
    (response.status === 303 && request.method !== "GET" && request.method !== "HEAD")
  const hasBody = !becomesGet && request.body._tag !== "Empty"
  if (hasBody && !(isSameOrigin && canBeSentAgain(request.body))) return undefined
  const kept = becomesGet
    ? request.pipe(
      HttpClientRequest.setMethod("GET"),
      HttpClientRequest.setBody(HttpBody.empty),
      HttpClientRequest.updateHeaders(Headers.removeMany(["content-encoding", "content-language", "content-location"]))
    )
    : request
  return {
    url: to,
    location,
    isSameOrigin,
    request: HttpClientRequest.makeWith(
      kept.method,
      to.href,
      UrlParams.empty,
      Option.none(),
      isSameOrigin ? kept.headers : Headers.removeMany(kept.headers, [
        ...Object.keys(kept.headers).filter((name) => !headersForAnyone.test(name)),
        ...headersOfCredential
      ]),
      kept.body
    )
  }
}

/** Whether a body is still whole after it was sent. A stream may be one that runs once. */
export const canBeSentAgain = (body: HttpBody.HttpBody): boolean => {
  switch (body._tag) {
    case "Empty":
    case "Uint8Array":
    case "FormData":
      return true
    case "Stream":
      return false
    case "Raw":
      return typeof body.body === "string" || body.body instanceof ArrayBuffer || ArrayBuffer.isView(body.body) ||
        body.body instanceof URLSearchParams || body.body instanceof Blob
  }
}
