/**
 * The answer of an API that may hold the credential it was sent: a response whose headers, cookies and body are searched for it.
 */
import * as Effect from "effect/Effect"
import * as Cookies from "effect/http/Cookies"
import * as Headers from "effect/http/Headers"
import * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as Inspectable from "effect/Inspectable"
import * as Option from "effect/Option"
import type { Pipeable } from "effect/Pipeable"
import { pipeArguments } from "effect/Pipeable"
import * as Stream from "effect/Stream"
import { drain } from "../util/drain.ts"
import { Search } from "./echoes.ts"
import type { SecretForms } from "./echoes.ts"

/** What is done with an answer that holds the credential. */
type Echo = "refuse" | "mask" | "allow"

type Failure = HttpClientError.HttpClientError

/** Headers about the bytes of the body, which may not be those that the program gets. Its length stays as it is. */
const headersOfBytes = ["content-md5", "digest", "content-digest", "repr-digest"]

/** The request for an answer that is not compressed, unless the program says what it takes. */
export const askingForPlain = (request: HttpClientRequest.HttpClientRequest): HttpClientRequest.HttpClientRequest =>
  request.headers["accept-encoding"] === undefined
    ? HttpClientRequest.setHeader(request, "accept-encoding", "identity")
    : request

/** The response with its headers searched at once, and its body as it is read. Fails where a header holds what is refused. */
export const searchedResponse = (
  response: HttpClientResponse.HttpClientResponse,
  forms: SecretForms,
  echo: Echo
): Effect.Effect<HttpClientResponse.HttpClientResponse, Failure> => {
  if (echo === "allow" || forms.isEmpty) return Effect.succeed(response)
  const searched = new SearchedResponse(response, forms, echo === "refuse")
  const fault = echo === "refuse" && textsOf(response).some((text) => forms.holds(text))
    ? "holds the credential in a header"
    : isCompressed(response)
    ? "is compressed, and cannot be searched for the credential"
    : undefined
  return fault === undefined
    ? Effect.succeed(searched)
    : Effect.andThen(drain(response), Effect.fail(searched.refusal(fault)))
}

// internal

/** Fetch decompresses a body, and other clients hand it on as it is. */
const isCompressed = (response: HttpClientResponse.HttpClientResponse): boolean =>
  !/^(?:identity)?$/i.test(response.headers["content-encoding"] ?? "") && response.request.method !== "HEAD" &&
  Option.isNone(HttpClientResponse.toWeb(response))

const textsOf = ({ cookies, headers }: HttpClientResponse.HttpClientResponse): ReadonlyArray<string> => [
  ...Object.entries(headers).flat(),
  ...Cookies.toSetCookieHeaders(cookies)
]

/** Not one that inherits from the response: nothing may lead back to what was not searched. */
class SearchedResponse extends Inspectable.Class implements HttpClientResponse.HttpClientResponse, Pipeable {
  readonly [HttpIncomingMessage.TypeId] = HttpIncomingMessage.TypeId
  readonly [HttpClientResponse.TypeId] = HttpClientResponse.TypeId
  readonly request: HttpClientRequest.HttpClientRequest
  readonly url: string
  readonly status: number
  readonly headers: Headers.Headers
  readonly cookies: Cookies.Cookies
  readonly remoteAddress: Option.Option<string>
  readonly #response: HttpClientResponse.HttpClientResponse
  readonly #forms: SecretForms
  readonly #isRefused: boolean

  constructor(response: HttpClientResponse.HttpClientResponse, forms: SecretForms, isRefused: boolean) {
    super()
    this.#response = response
    this.#forms = forms
    this.#isRefused = isRefused
    this.request = response.request
    this.url = response.url
    this.status = response.status
    this.remoteAddress = response.remoteAddress
    this.headers = Headers.fromInput(
      Object.entries(Headers.removeMany(response.headers, headersOfBytes)).map(([name, value]) =>
        [forms.mask(name), forms.mask(value)] as const
      )
    )
    const cookies = Cookies.toSetCookieHeaders(response.cookies)
    this.cookies = cookies.some((cookie) => forms.holds(cookie))
      ? Cookies.fromSetCookie(cookies.map((cookie) => forms.mask(cookie)))
      : response.cookies
  }

  refusal(fault: string): Failure {
    return new HttpClientError.HttpClientError({
      reason: new HttpClientError.DecodeError({
        request: this.request,
        // what an error shows of it is masked
        response: this,
        description: `The answer ${fault}`
      })
    })
  }

  /** Whether a piece may be handed on. */
  #checked<A>(search: Search, piece: A): Effect.Effect<A, Failure> {
    return this.#isRefused && search.isFound
      ? Effect.fail(this.refusal("holds the credential in its body"))
      : Effect.succeed(piece)
  }

  #about<A>(self: Effect.Effect<A, Failure>): Effect.Effect<A, Failure> {
    return Effect.mapError(self, (error) => aboutResponse(error, this))
  }

  get stream(): Stream.Stream<Uint8Array, Failure> {
    return Stream.suspend(() => {
      const search = new Search(this.#forms)
      return this.#response.stream.pipe(
        Stream.mapError((error) => aboutResponse(error, this)),
        Stream.mapEffect((chunk) => {
          const piece = search.push(chunk)
          return this.#checked(search, piece)
        }),
        Stream.concat(Stream.suspend(() => Stream.succeed(search.finish()))),
        Stream.filter((piece) => piece.length > 0)
      )
    })
  }

  get arrayBuffer(): Effect.Effect<ArrayBuffer, Failure> {
    return this.#about(Effect.flatMap(this.#response.arrayBuffer, (bytes) => {
      const search = new Search(this.#forms)
      const masked = search.push(new Uint8Array(bytes))
      const rest = search.finish()
      const whole = new Uint8Array(bytes.byteLength)
      whole.set(masked)
      whole.set(rest, masked.length)
      return this.#checked(search, whole.buffer)
    }))
  }

  /** What Effect reads from a body, of the one that was searched. */
  #read<A>(
    read: (response: HttpClientResponse.HttpClientResponse) => Effect.Effect<A, Failure>
  ): Effect.Effect<A, Failure> {
    return this.#about(
      Effect.flatMap(
        this.arrayBuffer,
        (body) => read(HttpClientResponse.fromWeb(this.request, new Response(body, { headers: this.#typeOfBody })))
      )
    )
  }

  /** A form says in its type what its parts are divided by. */
  get #typeOfBody(): Record<string, string> {
    const type = this.headers["content-type"]
    return type === undefined ? {} : { "content-type": type }
  }

  get text() {
    return this.#read((response) => response.text)
  }

  get json() {
    return this.#read((response) => response.json)
  }

  get urlParamsBody() {
    return this.#read((response) => response.urlParamsBody)
  }

  get formData() {
    return this.#read((response) => response.formData)
  }

  /** The connection of an upgrade has no end, and is not searched. */
  get upgrade() {
    return this.#about(this.#response.upgrade)
  }

  toJSON(): unknown {
    return HttpIncomingMessage.inspect(this, {
      _id: "HttpClientResponse",
      request: this.request.toJSON(),
      status: this.status
    })
  }

  pipe() {
    return pipeArguments(this, arguments)
  }
}

/** An error that shows this response, in place of the one underneath. */
const aboutResponse = (error: Failure, response: HttpClientResponse.HttpClientResponse): Failure => {
  const { reason } = error
  const about = {
    request: response.request,
    response,
    ...(reason.cause === undefined ? {} : { cause: reason.cause }),
    ...(reason.description === undefined ? {} : { description: reason.description })
  }
  switch (reason._tag) {
    case "StatusCodeError":
      return new HttpClientError.HttpClientError({ reason: new HttpClientError.StatusCodeError(about) })
    case "DecodeError":
      return new HttpClientError.HttpClientError({ reason: new HttpClientError.DecodeError(about) })
    case "EmptyBodyError":
      return new HttpClientError.HttpClientError({ reason: new HttpClientError.EmptyBodyError(about) })
    default:
      return error
  }
}
