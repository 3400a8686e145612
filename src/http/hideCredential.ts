/**
 * Responses and errors as a program gets them: they refer to its own request, without the credential that was added. Otherwise
 * code that prints one of them would show a parameter, or a header that no list names as secret.
 */
import * as Effect from "effect/Effect"
import * as HttpClientError from "effect/http/HttpClientError"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Inspectable from "effect/Inspectable"
import * as Predicate from "effect/Predicate"
import * as Stream from "effect/Stream"
import { removeUnparsedBytes } from "../util/unparsedBytes.ts"

/** The response to `request`, which was sent with a credential to `url`. */
export const hideCredentialInResponse = (
  response: HttpClientResponse.HttpClientResponse,
  request: HttpClientRequest.HttpClientRequest,
  url: URL
): HttpClientResponse.HttpClientResponse => {
  const cleaned = <A>(effect: Effect.Effect<A, HttpClientError.HttpClientError>) =>
    Effect.mapError(effect, (error) => hideCredentialInError(error, request, url))
  const toJSON = () => {
    const json = response.toJSON()
    return Predicate.isObject(json) ? { ...json, request: request.toJSON() } : json
  }
  // Inherits from the response, as in Effect's own clients, so that everything else about it still works.
  return Object.create(response, {
    request: { value: request },
    url: { value: url.href },
    toJSON: { value: toJSON },
    [Inspectable.NodeInspectSymbol]: { value: toJSON },
    arrayBuffer: { get: () => cleaned(response.arrayBuffer) },
    formData: { get: () => cleaned(response.formData) },
    json: { get: () => cleaned(response.json) },
    text: { get: () => cleaned(response.text) },
    upgrade: { get: () => cleaned(response.upgrade) },
    urlParamsBody: { get: () => cleaned(response.urlParamsBody) },
    stream: {
      get: () => Stream.mapError(response.stream, (error) => hideCredentialInError(error, request, url))
    }
  })
}

/** An error of the client underneath. */
export const hideCredentialInError = (
  error: HttpClientError.HttpClientError,
  request: HttpClientRequest.HttpClientRequest,
  url: URL
): HttpClientError.HttpClientError =>
  new HttpClientError.HttpClientError({ reason: hideCredentialInReason(error.reason, request, url) })

const hideCredentialInReason = (
  reason: HttpClientError.HttpClientErrorReason,
  request: HttpClientRequest.HttpClientRequest,
  url: URL
): HttpClientError.HttpClientErrorReason => {
  removeUnparsedBytes(reason.cause)
  const about = {
    request,
    ...(reason.cause === undefined ? {} : { cause: reason.cause }),
    ...(reason.description === undefined ? {} : { description: reason.description })
  }
  switch (reason._tag) {
    case "TransportError":
      return new HttpClientError.TransportError(about)
    case "EncodeError":
      return new HttpClientError.EncodeError(about)
    case "InvalidUrlError":
      return new HttpClientError.InvalidUrlError(about)
    case "StatusCodeError":
      return new HttpClientError.StatusCodeError({ ...about, response: shown(reason.response, request, url) })
    case "DecodeError":
      return new HttpClientError.DecodeError({ ...about, response: shown(reason.response, request, url) })
    case "EmptyBodyError":
      return new HttpClientError.EmptyBodyError({ ...about, response: shown(reason.response, request, url) })
  }
}

const shown = hideCredentialInResponse
