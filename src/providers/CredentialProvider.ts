/**
 * The port for where tokens come from: the provider interface, which fetches, refreshes and validates credentials, and the
 * registry of providers that a `CredentialStore` uses. A provider only answers what its server has; the store decides what to
 * keep.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { AdenProtocolError, AdenUnavailable, ReauthRequired } from "../errors/AdenError.ts"
import type { AdenFailure, AdenRequestFailure, FetchFailure, IntegrationNotFound } from "../errors/AdenError.ts"
import type { CredentialAccount, CredentialIssuer, CredentialValidation, ProviderAccount } from "../model/Credential.ts"
import { Credential, CredentialKey, defaultProvider } from "../model/Credential.ts"

/**
 * The integrations that a provider lists, the items that could not be read, and whether the list may lack some. What such a list
 * lacks is not known to be gone, and is kept.
 *
 * @since 0.1.0
 * @category models
 */
export interface ProviderList {
  readonly accounts: ReadonlyArray<ProviderAccount>
  readonly malformed: ReadonlyArray<{ readonly id: string | undefined; readonly detail: string }>
  /** Whether the list may lack integrations; `false` by default. */
  readonly isIncomplete?: boolean | undefined
}

/**
 * One step of a synchronisation. `Listed` comes first; the others follow as answers arrive.
 *
 * @since 0.1.0
 * @category models
 */
export type ProviderSyncEvent =
  | {
    readonly _tag: "Listed"
    readonly accounts: ReadonlyArray<ProviderAccount>
    readonly total: number
    readonly isIncomplete?: boolean | undefined
  }
  | { readonly _tag: "Fetched"; readonly account: ProviderAccount; readonly credential: Credential }
  | { readonly _tag: "Blocked"; readonly account: ProviderAccount; readonly error: ReauthRequired }
  | { readonly _tag: "Gone"; readonly account: ProviderAccount }
  | { readonly _tag: "Malformed"; readonly id: string | undefined; readonly detail: string }
  | { readonly _tag: "Failed"; readonly account: ProviderAccount; readonly error: FetchFailure }

/**
 * A provider of credentials of one kind. Its `id` is the `providerId` of the credentials that it provides.
 *
 * The store does not trust answers: it removes control and invisible characters from texts, and shows a re-authorization URL only
 * if it is `https:`, or `http:` to this machine, without user info.
 *
 * @since 0.1.0
 * @category models
 */
export interface CredentialProvider {
  readonly id: string
  /**
   * Who issues its credentials. The store marks them with it, and stored credentials of another issuer do not exist for the store. Without
   * it, every stored credential of its `id` is its own.
   */
  readonly issuer?: Effect.Effect<CredentialIssuer> | undefined
  /** How long before its expiry a token is refreshed. */
  readonly refreshBuffer: Duration.Duration
  /** Clock skew: how far the server's clock is ahead of the local one, in ms; 0 when not known. */
  readonly clockOffset: Effect.Effect<number>
  /** Whether this provider refreshes the credential: the `providerId` is its own, or missing and the credential bears its mark. */
  readonly canHandle: (credential: Credential) => boolean
  /** Gets a new token. The result keeps what the credential held and the server did not name. */
  readonly refresh: (credential: Credential) => Effect.Effect<Credential, FetchFailure | IntegrationNotFound>
  /** Asks the server whether the token is valid. An invalid token is an answer. */
  readonly validate: (
    credential: { readonly id: string }
  ) => Effect.Effect<CredentialValidation, AdenFailure>
  /** Gets the credential as the server has it; none when it has none. */
  readonly fetch: (id: string) => Effect.Effect<Option.Option<Credential>, FetchFailure>
  /** All integrations, and the items of the list that could not be read. */
  readonly list: Effect.Effect<ProviderList, AdenRequestFailure>
}

/**
 * The providers of a `CredentialStore`.
 *
 * @since 0.1.0
 * @category services
 */
export class CredentialProviders extends Context.Service<CredentialProviders, {
  readonly all: ReadonlyArray<CredentialProvider>
  /** Issuers whose stored credentials the store serves besides those of its providers. */
  readonly issuers?: ReadonlyArray<CredentialIssuer> | undefined
}>()("aden-credentials/CredentialProviders") {
  /** No providers: the store serves what storage holds, from any issuer; `sync` and `refresh` fail with `NoProvider`. */
  static readonly layerNone: Layer.Layer<CredentialProviders> = Layer.succeed(CredentialProviders, { all: [] })

  /**
   * The providers of several layers in one registry, in order.
   *
   * @example
   * ```ts
   * import { AdenClient, AdenSyncProvider, CredentialProviders } from "aden-credentials"
   * import { Layer, Redacted } from "effect"
   *
   * const adenOf = (region: string, apiKey: Redacted.Redacted<string>) =>
   *   AdenSyncProvider.layer({ providerId: `aden_${region}` }).pipe(
   *     Layer.provide(AdenClient.layer({ baseUrl: `https://${region}.aden.example.com`, apiKey }))
   *   )
   *
   * const Providers = CredentialProviders.layerAll([
   *   adenOf("eu", Redacted.make("eu-key")),
   *   adenOf("us", Redacted.make("us-key"))
   * ])
   * ```
   */
  static readonly layerAll = <E, R>(
    layers: ReadonlyArray<Layer.Layer<CredentialProviders, E, R>>
  ): Layer.Layer<CredentialProviders, E, R> =>
    Layer.effect(
      CredentialProviders,
      Effect.map(
        Effect.forEach(layers, (layer) => Layer.build(layer)),
        (contexts) => {
          const registries = contexts.map((context) => Context.get(context, CredentialProviders))
          return {
            all: registries.flatMap(({ all }) => all),
            issuers: registries.flatMap(({ issuers = [] }) => issuers)
          }
        }
      )
    )
}

/**
 * How many integrations a synchronisation fetches at a time.
 *
 * @since 0.1.0
 * @category synchronisation
 */
export const syncConcurrency = 16

/**
 * Fetches one listed integration. If it is listed as blocked, asks `validate` first, which knows where a person authorizes it
 * again, and fetches it only if it is valid after all. Provider and alias come from the list where the answer names none.
 *
 * @since 0.1.0
 * @category synchronisation
 */
export const syncOne = (provider: CredentialProvider, account: ProviderAccount): Effect.Effect<ProviderSyncEvent> => {
  const fetched = provider.fetch(account.id).pipe(
    Effect.map(Option.match({
      onNone: (): ProviderSyncEvent => ({ _tag: "Gone", account }),
      onSome: (credential): ProviderSyncEvent => ({
        _tag: "Fetched",
        account,
        credential: withListedNames(credential, account)
      })
    })),
    Effect.catch((error) =>
      Effect.succeed<ProviderSyncEvent>(
        error._tag === "ReauthRequired" ? { _tag: "Blocked", account, error } : { _tag: "Failed", account, error }
      )
    )
  )
  if (account.status !== "requires_reauth") return fetched
  return provider.validate(account).pipe(
    Effect.map((validation) => validation.valid ? Option.none() : Option.some(validation.reauthorizationUrl)),
    Effect.catch((error) =>
      Effect.succeed(
        error._tag === "IntegrationNotFound"
          ? Option.none()
          : Option.some(error._tag === "ReauthRequired" ? error.reauthorizationUrl : undefined)
      )
    ),
    Effect.flatMap(Option.match({
      onNone: () => fetched,
      onSome: (reauthorizationUrl) =>
        Effect.succeed<ProviderSyncEvent>({
          _tag: "Blocked",
          account,
          error: new ReauthRequired({ id: account.id, reauthorizationUrl })
        })
    }))
  )
}

// internal

/**
 * A provider that does what another does. Subclasses replace some members: their methods are made once, and not for each store.
 *
 * @internal
 */
export class ProviderDecorator implements CredentialProvider {
  protected readonly inner: CredentialProvider

  constructor(inner: CredentialProvider) {
    this.inner = inner
  }

  get id(): string {
    return this.inner.id
  }

  get issuer(): CredentialProvider["issuer"] {
    return this.inner.issuer
  }

  get refreshBuffer(): Duration.Duration {
    return this.inner.refreshBuffer
  }

  get clockOffset(): CredentialProvider["clockOffset"] {
    return this.inner.clockOffset
  }

  canHandle(credential: Credential): boolean {
    return this.inner.canHandle(credential)
  }

  refresh(credential: Credential): ReturnType<CredentialProvider["refresh"]> {
    return this.inner.refresh(credential)
  }

  validate(credential: { readonly id: string }): ReturnType<CredentialProvider["validate"]> {
    return this.inner.validate(credential)
  }

  fetch(id: string): ReturnType<CredentialProvider["fetch"]> {
    return this.inner.fetch(id)
  }

  get list(): CredentialProvider["list"] {
    return this.inner.list
  }
}

/**
 * Lets a request bypass an open circuit breaker. Set for the last request that can get a new token before the old one
 * expires.
 *
 * @internal
 */
export const BypassCircuit = Context.Reference<boolean>("aden-credentials/internal/BypassCircuit", {
  defaultValue: () => false
})

/**
 * What contradicts a provider that does not have an integration: its list has it, or may only lack it. `undefined`: it is gone.
 *
 * @internal
 */
export const contradictionOf = (
  id: string,
  list: { readonly isListed: boolean; readonly isIncomplete: boolean }
): AdenUnavailable | undefined =>
  list.isListed || list.isIncomplete
    ? new AdenUnavailable({
      id,
      reason: new AdenProtocolError({
        detail: list.isListed
          ? "Aden lists the integration, but does not have it"
          : "Aden does not have the integration, but its list may be incomplete",
        isTransient: false
      })
    })
    : undefined

/**
 * A fetched credential with the provider and alias of the list, where the answer left them out. Programs use these names as refs,
 * and they have to resolve when the provider is down, too.
 *
 * @internal
 */
export const withListedNames = (credential: Credential, { alias, provider }: CredentialAccount): Credential => {
  const { id, integrationType, keys } = credential
  const named = (name: string, value: string | undefined): ReadonlyArray<CredentialKey> => {
    const present = keys.get(name)
    return value === undefined || (present !== undefined && Redacted.value(present.value) === value)
      ? []
      : [new CredentialKey({ name, value: Redacted.make(value) })]
  }
  // an answer without a provider name got the one derived from the id
  const isDerived = integrationType === undefined || integrationType === defaultProvider(id)
  const added = [
    ...(isDerived ? named("_integration_type", provider) : []),
    ...(credential.alias === undefined ? named("_alias", alias) : [])
  ]
  if (added.length === 0) return credential
  return new Credential({ ...credential, keys: new Map([...keys, ...added.map((key) => [key.name, key] as const)]) })
}
