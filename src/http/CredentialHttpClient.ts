/**
 * An `HttpClient` that carries one credential: tools send requests and never touch a token. The rules are in docs/http-client.md.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Headers from "effect/http/Headers"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Url from "effect/http/Url"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { AdenTimeout, AdenUnavailable } from "../errors/AdenError.ts"
import type { ReauthRequired } from "../errors/AdenError.ts"
import type { AdenConfigError } from "../errors/ConfigError.ts"
import type { NoProvider } from "../errors/CredentialError.ts"
import { CredentialHostDenied, CredentialUseFailure } from "../errors/UseError.ts"
import type { CredentialRef } from "../model/Credential.ts"
import { CredentialStore } from "../store/CredentialStore.ts"
import type { TemplateFailure } from "../store/CredentialStore.ts"
import { perStore } from "../store/perStore.ts"
import { ReplacedToken } from "../store/RefreshPolicy.ts"
import { haveTwoTenants, onePerTenant, tenantMismatch } from "../store/storeTenant.ts"
import { UsageReporter } from "../usage/UsageReporter.ts"
import { drain } from "../util/drain.ts"
import { logWarning } from "../util/logging.ts"
import { monotonicMillis } from "../util/monotonic.ts"
import { SingleFlight } from "../util/SingleFlight.ts"
import { allowedOriginsSetting, hostFault } from "./allowedHosts.ts"
import { CarriedCredential, CredentialCarrier, withoutParams } from "./CredentialCarrier.ts"
import type { SecretForms } from "./echoes.ts"
import { hideInSpans } from "./hiddenSpans.ts"
import { hideCredentialInError, hideCredentialInResponse } from "./hideCredential.ts"
import { pathTemplate } from "./pathTemplate.ts"
import { canBeSentAgain, redirectOf } from "./redirects.ts"
import { askingForPlain, searchedResponse } from "./searchedResponse.ts"

/**
 * Which credential a client carries, where to, and how.
 *
 * @since 0.1.0
 * @category models
 */
export interface CredentialHttpClientOptions {
  readonly ref: CredentialRef
  /**
   * The hosts that may receive it, each exactly as `host` or `host:port`; there are no wildcards. Over https only, or over http
   * if a listed host is this machine.
   */
  readonly allowedHosts: ReadonlyArray<string>
  /**
   * The headers that carry it, each a template of this ref: `{ "X-Subscription-Token": "{{brave_search}}" }`. Without `headers`
   * and `params`, it is sent as `Authorization: Bearer`; a `basic_auth` credential, from its keys `username` and `password`, as
   * `Authorization: Basic`; an `api_key` as `X-API-Key`.
   */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** The query parameters that carry it, each a template of this ref. */
  readonly params?: Readonly<Record<string, string>> | undefined
  /**
   * Which redirects are followed: `all` (the default), those at the `same-origin`, or `none`. The answer with any other is the
   * program's.
   */
  readonly followRedirects?: "none" | "same-origin" | "all" | undefined
  /**
   * What is done with an answer that holds the credential, in its headers or body: `allow` (the default) does not look for it;
   * `mask` puts as many asterisks in its place; `refuse` fails with an `HttpClientError` whose reason is `DecodeError`, and ends a
   * stream with it. Give `mask` to a client whose answers a model, a log or another person will see.
   */
  readonly echo?: "refuse" | "mask" | "allow" | undefined
}

/**
 * An `HttpClient` that carries one credential.
 *
 * - A request to another host than those listed, over plain http, with a user name in its URL, or by `TRACE` fails with
 *   `CredentialHostDenied` before a byte is sent.
 * - Redirects are followed, ten at most. At the same origin they carry the credential; elsewhere neither it nor the program's
 *   headers go along, except those that say what it accepts, and nothing that has a body is repeated: that answer is the program's,
 *   as it is. One elsewhere whose URL repeats the credential, as it is or in a usual encoding, fails with `CredentialHostDenied`.
 *   `followRedirects` says which are.
 * - After a 401 the credential is refreshed once, for all requests that were refused with it, and the request is sent once
 *   more, if its body can be sent again. A second 401 is returned to the program, and so is the first if the credential cannot
 *   be refreshed now. If a person has to authorize it again, the request fails with `ReauthRequired`.
 * - Answers and errors are about the request as the program made it: none shows the credential. What a server writes into an
 *   answer is the server's; `echo` says whether that is searched for the credential, too.
 * - If a `UsageReporter` is provided, each request is reported with its method, host, path template (`/contacts/{id}`) and
 *   status.
 *
 * The client underneath must not follow redirects by itself (`HttpClient.followRedirects`); the fetch client is told not to. If
 * it carries a credential too, it adds none where this one's goes, and none of another tenant.
 *
 * @since 0.1.0
 * @category clients
 */
export class CredentialHttpClient {
  /**
   * The client in place of the `HttpClient` that it uses. One value of this layer serves all tenants, by
   * `TenantCredentials.provide` and `provideLayer`. It also serves several stores that a program builds itself, and so does what
   * its `pipe` method makes of it: there is one client for each store. A client of one tenant's store fails with
   * `CredentialHostDenied` in a fiber that has another tenant's store.
   *
   * It fails with `HttpClientError`, like every `HttpClient`. If the credential is the cause, its own error is the `cause` of
   * the reason, and {@link CredentialHttpClient.unwrapFailure} extracts it. The reason is `TransportError` if the same request
   * can succeed later, so that `HttpClient.retryTransient` tries it again, `EncodeError` if it cannot, and `InvalidUrlError`
   * for `CredentialHostDenied`.
   *
   * @example
   * ```ts
   * import { CredentialHttpClient, CredentialStore } from "aden-credentials"
   * import type { CredentialProviders, CredentialStorage } from "aden-credentials"
   * import { Console, Effect, Layer } from "effect"
   * import { FetchHttpClient, HttpClient } from "effect/http"
   *
   * const HubSpot = CredentialHttpClient.layer({ ref: "hubspot", allowedHosts: ["api.hubapi.com"] }).pipe(
   *   Layer.provide(FetchHttpClient.layer)
   * )
   *
   * const contacts = HttpClient.get("https://api.hubapi.com/crm/v3/objects/contacts").pipe(
   *   Effect.flatMap((response) => response.json),
   *   CredentialHttpClient.unwrapFailure,
   *   Effect.catchTag("ReauthRequired", (error) => Console.error(error.message)),
   *   Effect.provide(HubSpot)
   * )
   * ```
   */
  static readonly layer = (
    options: CredentialHttpClientOptions
  ): Layer.Layer<HttpClient.HttpClient, AdenConfigError, CredentialStore | HttpClient.HttpClient> =>
    perStore(Layer.effect(
      HttpClient.HttpClient,
      Effect.map(prepare(options), ({ clientOf, execute }) =>
        clientOf((request) =>
          Effect.mapError(
            execute(request),
            (error) => HttpClientError.isHttpClientError(error) ? error : wrapFailure(error, request)
          )
        ))
    ))

  /**
   * The client as a value that fails with the credential's own errors: for a program with several credentials. Fails with
   * `AdenConfigError` if a host or a template is invalid.
   *
   * @example
   * ```ts
   * import { CredentialHttpClient } from "aden-credentials"
   * import { Effect } from "effect"
   *
   * const search = Effect.gen(function*() {
   *   const brave = yield* CredentialHttpClient.make({
   *     ref: "brave_search",
   *     allowedHosts: ["api.search.brave.com"],
   *     headers: { "X-Subscription-Token": "{{brave_search}}" }
   *   })
   *   const response = yield* brave.get("https://api.search.brave.com/res/v1/web/search?q=effect")
   *   return yield* response.json
   * })
   * ```
   */
  static readonly make = (
    options: CredentialHttpClientOptions
  ): Effect.Effect<
    HttpClient.HttpClient.With<HttpClientError.HttpClientError | CredentialUseFailure>,
    AdenConfigError,
    CredentialStore | HttpClient.HttpClient | Scope.Scope
  > => Effect.map(prepare(options), ({ clientOf, execute }) => clientOf(execute))

  /**
   * Fails with the credential's own error if that is why a request by `layer` failed.
   *
   * @example
   * ```ts
   * import { CredentialHttpClient } from "aden-credentials"
   * import { Console, Effect } from "effect"
   * import { HttpClient } from "effect/http"
   *
   * const contacts = HttpClient.get("https://api.hubapi.com/crm/v3/objects/contacts").pipe(
   *   CredentialHttpClient.unwrapFailure,
   *   Effect.catchTag("RateLimited", (error) => Console.warn(error.remedy))
   * )
   * ```
   */
  static readonly unwrapFailure = <A, E, R>(
    self: Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | CredentialUseFailure, R> =>
    Effect.catch(
      self,
      (error): Effect.Effect<never, E | CredentialUseFailure> =>
        HttpClientError.isHttpClientError(error) && isUseFailure(error.reason.cause)
          ? Effect.fail(error.reason.cause)
          : Effect.fail(error)
    )
}

// internal

const maximumRedirects = 10

/** How long a refused request waits for a new credential. */
const refreshTimeout = Duration.seconds(30)

/** A credential that was refused right after it was refreshed is not refreshed for a refusal again this long, in ms. */
const minRefreshInterval = 30_000

/**
 * The clients that a request came through on its way to this one. This one is their transport: it adds no credential of another
 * tenant, and does not replace what they attached.
 */
type Above = ReadonlyArray<{ readonly store: CredentialStore["Service"]; readonly places: ReadonlyArray<string> }>

const ClientsAbove = Context.Reference<Above>("aden-credentials/internal/ClientsAbove", { defaultValue: () => [] })

interface Begun {
  readonly request: Request
  readonly url: URL
  readonly carried: CarriedCredential
}

type Request = HttpClientRequest.HttpClientRequest
type Failure = HttpClientError.HttpClientError | CredentialUseFailure

const isUseFailure = Schema.is(CredentialUseFailure)

const wrapFailure = (cause: CredentialUseFailure, request: Request): HttpClientError.HttpClientError => {
  const about = { request, cause, description: cause.message }
  return new HttpClientError.HttpClientError({
    reason: cause._tag === "CredentialHostDenied"
      ? new HttpClientError.InvalidUrlError(about)
      : cause.isRetryable
      ? new HttpClientError.TransportError(about)
      : new HttpClientError.EncodeError(about)
  })
}

const prepare = Effect.fnUntraced(function*(options: CredentialHttpClientOptions) {
  const http = yield* HttpClient.HttpClient
  const store = yield* CredentialStore
  const origins = yield* allowedOriginsSetting("allowedHosts", options.allowedHosts)
  const carrier = yield* CredentialCarrier.make(options)
  const builtWith = yield* Effect.serviceOption(FetchHttpClient.RequestInit)
  const usage = Option.getOrUndefined(yield* Effect.serviceOption(UsageReporter))
  const { echo = "allow", followRedirects = "all", ref } = options

  const refreshes = new SingleFlight<string, CarriedCredential, TemplateFailure | NoProvider>()
  yield* Effect.addFinalizer(() => refreshes.shutdown(0))
  /** What the last refresh of this client returned. */
  let newest: CarriedCredential | undefined = undefined
  /** What was refused right after a refresh: refreshing it at each refusal would never end. */
  let refusedNewest: { readonly carried: CarriedCredential; readonly until: number } | undefined = undefined

  const current = Effect.flatMap(store.get(ref), (credential) => carrier.of(credential))

  /** Refreshes the credential, unless it was replaced since it was sent: here, or by another process. */
  const replacementOf = Effect.fnUntraced(function*(refused: CarriedCredential) {
    const held = yield* store.get(ref)
    const present = yield* carrier.of(held)
    if (!present.isSameAs(refused)) return present
    const replacement = yield* store.refresh(ref).pipe(
      Effect.provideService(ReplacedToken, held.defaultKey?.value),
      Effect.flatMap((credential) => carrier.of(credential))
    )
    newest = replacement
    return replacement
  })

  const recordRefusal = (refused: CarriedCredential) =>
    Effect.map(monotonicMillis, (now) => {
      if (refused.isSameAs(newest)) refusedNewest = { carried: refused, until: now + minRefreshInterval }
    })

  /** Another credential than the refused one; `undefined` if there is none now. */
  const refreshed = Effect.fnUntraced(function*(
    refused: CarriedCredential
  ): Effect.fn.Return<CarriedCredential | undefined, ReauthRequired> {
    const now = yield* monotonicMillis
    if (refusedNewest !== undefined && now < refusedNewest.until && refused.isSameAs(refusedNewest.carried)) {
      return undefined
    }
    const replacement = yield* refreshes.run(refused.identity, replacementOf(refused)).pipe(
      Effect.timeoutOrElse({
        duration: refreshTimeout,
        orElse: () => Effect.fail(new AdenUnavailable({ reason: new AdenTimeout({ after: refreshTimeout }) }))
      }),
      Effect.catchIf(
        (error) => error._tag !== "ReauthRequired",
        (error) =>
          // no provider refreshes the program's own
          error._tag === "NoProvider" ? Effect.undefined : Effect.as(
            logWarning("An API answered 401, and the credential could not be refreshed").pipe(
              Effect.annotateLogs({ credential: ref, error: error._tag, reason: error.message })
            ),
            undefined
          )
      )
    )
    if (!refused.isSameAs(replacement)) return replacement
    yield* recordRefusal(refused)
    return undefined
  })

  /** What was looked for last: the same credential is sent many times. */
  let lastForms: { readonly of: string; readonly forms: SecretForms } | undefined = undefined
  const formsOf = (sent: ReadonlyArray<CarriedCredential>): SecretForms => {
    const of = sent.map(({ identity }) => identity).join("\n")
    if (lastForms?.of !== of) lastForms = { of, forms: CarriedCredential.formsOf(sent) }
    return lastForms.forms
  }

  /** One exchange. The response or the error refers to the request without the credential. */
  const sendOnce = Effect.fnUntraced(function*(
    request: Request,
    url: URL,
    carried: CarriedCredential | undefined,
    forms: SecretForms
  ) {
    const init = Option.orElse(yield* Effect.serviceOption(FetchHttpClient.RequestInit), () => builtWith)
    const asked = echo === "allow" ? request : askingForPlain(request)
    const sent = carried === undefined ? asked : carried.attachTo(asked)
    return yield* http.postprocess(Effect.succeed(sent)).pipe(
      Effect.mapBoth({
        onSuccess: (response) => hideCredentialInResponse(response, request, url),
        onFailure: (error) => hideCredentialInError(error, request, url)
      }),
      // fetch follows redirects by itself and takes headers along, unless it is told to hand them back
      Effect.provideService(FetchHttpClient.RequestInit, { ...Option.getOrUndefined(init), redirect: "manual" }),
      // what spans and logs say while it runs
      Effect.updateService(Headers.CurrentRedactedNames, (names) => [...names, ...carrier.headerNames, "location"]),
      (self) => hideInSpans(self, forms)
    )
  })

  const denied = (url: URL, detail: string) => new CredentialHostDenied({ ref, host: url.host, detail })

  /** A request on its way, and what it carries. */
  const begin = Effect.fnUntraced(function*(request: Request): Effect.fn.Return<Begun, Failure> {
    const url = yield* urlOf(request)
    const fault = hostFault(url, origins) ?? hostHeaderFault(request, url)
    if (fault !== undefined) return yield* denied(url, fault)
    if (echoing.has(request.method.toUpperCase())) {
      return yield* new CredentialHostDenied({
        ref,
        host: url.host,
        detail: "servers answer TRACE and its like with the headers of the request",
        advice: "Use another method, or a client that carries no credential."
      })
    }
    const mismatch = tenantMismatch(store, yield* Effect.context())
    if (mismatch !== undefined) {
      return yield* new CredentialHostDenied({ ref, host: url.host, detail: mismatch, advice: onePerTenant })
    }
    return { request, url, carried: yield* current }
  })

  const exchange = Effect.fnUntraced(function*(
    begun: Begun,
    above: Above
  ): Effect.fn.Return<HttpClientResponse.HttpClientResponse, Failure> {
    let { request, url } = begun
    let carried: CarriedCredential | undefined = begun.carried
    const here = [...above, { store, places: begun.carried.places }]
    let isRefreshed = false
    /** What a redirect could take elsewhere. */
    let sent: ReadonlyArray<CarriedCredential> = [carried]
    /** What an answer could hold. */
    let forms = formsOf(sent)
    for (let redirects = 0;;) {
      const response = yield* Effect.provideService(sendOnce(request, url, carried, forms), ClientsAbove, here)
      const answer = Effect.suspend(() => searchedResponse(response, forms, echo))
      if (response.status === 401 && carried !== undefined) {
        if (isRefreshed) {
          yield* recordRefusal(carried)
          return yield* answer
        }
        const replacement: CarriedCredential | undefined = yield* refreshed(carried)
        if (replacement === undefined || !canBeSentAgain(request.body)) return yield* answer
        yield* drain(response)
        carried = replacement
        sent = [...sent, replacement]
        forms = formsOf(sent)
        isRefreshed = true
        continue
      }
      const redirect = redirects < maximumRedirects
        ? redirectOf(request, url, response, carrier.headerNames)
        : undefined
      const isFollowed = redirect?.isSameOrigin === true ? followRedirects !== "none" : followRedirects === "all"
      if (redirect === undefined || !isFollowed) return yield* answer
      yield* drain(response)
      if (!redirect.isSameOrigin) {
        const fault = CarriedCredential.redirectFault(redirect, sent)
        if (fault !== undefined) return yield* new CredentialHostDenied({ ref, ...fault })
        // lost for good: a way back would be the other server's choice
        carried = undefined
        sent = []
      }
      request = withoutParams(redirect.request, carrier.paramNames)
      url = yield* urlOf(request)
      redirects++
    }
  })

  /** Reports the request as a use of the credential, if there is a `UsageReporter`. */
  const report = (request: Request, status: string): Effect.Effect<void> =>
    usage === undefined ? Effect.void : Effect.ignore(Effect.flatMap(urlOf(request), ({ host, pathname }) => {
      const { method } = request
      const path = pathTemplate(pathname)
      return usage.report(ref, { operation: `${method} ${host}${path}`, status, metadata: { method, host, path } })
    }))

  const reported = <A extends { readonly status: number }>(
    self: Effect.Effect<A, Failure>,
    request: Request
  ): Effect.Effect<A, Failure> =>
    self.pipe(
      Effect.tap(({ status }) => report(request, String(status))),
      // a request that was refused here used nothing
      Effect.tapError((error) =>
        HttpClientError.isHttpClientError(error) ? report(request, error.reason._tag) : Effect.void
      )
    )

  const execute = Effect.fnUntraced(function*(
    request: Request
  ): Effect.fn.Return<HttpClientResponse.HttpClientResponse, Failure> {
    const above = yield* ClientsAbove
    if (above.some((client) => haveTwoTenants(client.store, store))) {
      return yield* http.postprocess(Effect.succeed(request))
    }
    return yield* begin(request).pipe(
      Effect.flatMap((begun) =>
        above.some(({ places }) => places.some((place) => begun.carried.places.includes(place)))
          ? Effect.provideService(http.postprocess(Effect.succeed(request)), ClientsAbove, above)
          : reported(exchange(begun, above), request)
      ),
      // what the store requests is another request
      Effect.provideService(ClientsAbove, [])
    )
  })

  const clientOf = <E>(execute: (request: Request) => Effect.Effect<HttpClientResponse.HttpClientResponse, E>) =>
    HttpClient.makeWith<HttpClientError.HttpClientError, never, E | HttpClientError.HttpClientError, never>(
      (request) => Effect.flatMap(request, execute),
      http.preprocess
    )

  return { execute, clientOf }
})

/** The URL of a request, resolved as by every client. */
const urlOf = (request: Request): Effect.Effect<URL, HttpClientError.HttpClientError> =>
  Effect.fromResult(
    Result.mapError(
      Url.make(request.url, request.urlParams, undefined),
      (cause) =>
        new HttpClientError.HttpClientError({ reason: new HttpClientError.InvalidUrlError({ request, cause }) })
    )
  )

/** Methods whose answer is the request itself, or a connection to another server. Programs are not kept to the methods of the type. */
const echoing: ReadonlySet<string> = new Set(["TRACE", "TRACK", "CONNECT"])

/** Behind one address there are many hosts, of which the `Host` header picks one. */
const hostHeaderFault = (request: Request, url: URL): string | undefined => {
  const host = request.headers["host"]
  return host === undefined || host.toLowerCase() === url.host ? undefined : "the Host header names another host"
}
