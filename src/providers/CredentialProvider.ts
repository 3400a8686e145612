/**
 * How credentials are renewed, and whether they are still good: the lifecycle interface, and the registry of providers that a
 * `CredentialStore` uses. Providers answer what their server has; they write nothing.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Stream from "effect/Stream"
import { ReauthRequired } from "../errors/CredentialError.ts"
import type { AdenFailure, AdenRequestFailure, FetchFailure, IntegrationNotFound } from "../errors/CredentialError.ts"
import type { CredentialAccount, CredentialType, CredentialValidation, ProviderAccount } from "../model/Credential.ts"
import { Credential, CredentialKey, defaultProvider } from "../model/Credential.ts"

/**
 * One step of a synchronisation, in the order in which answers arrive. `Listed` comes first.
 *
 * @since 0.1.0
 * @category models
 */
export type ProviderSyncEvent =
  | { readonly _tag: "Listed"; readonly accounts: ReadonlyArray<ProviderAccount>; readonly total: number }
  | { readonly _tag: "Fetched"; readonly account: ProviderAccount; readonly credential: Credential }
  | { readonly _tag: "Blocked"; readonly account: ProviderAccount; readonly error: ReauthRequired }
  | { readonly _tag: "Gone"; readonly account: ProviderAccount }
  | { readonly _tag: "Malformed"; readonly id: string | undefined; readonly detail: string }
  | { readonly _tag: "Failed"; readonly account: ProviderAccount; readonly error: FetchFailure }

/**
 * The lifecycle of one kind of credential. `id` is what a stored credential carries as `providerId`.
 *
 * Of what a provider answers, the store shows texts without control and invisible characters, and a re-authorization URL only if
 * it is `https:`, or `http:` to this machine, without user info.
 *
 * @since 0.1.0
 * @category models
 */
export interface CredentialProvider {
  readonly id: string
  readonly supportedTypes: ReadonlyArray<CredentialType>
  /** How long before its expiry a token is renewed. */
  readonly refreshBuffer: Duration.Duration
  /** How far the server's clock is ahead of the local one, in ms; 0 when nothing is known. */
  readonly clockOffset: Effect.Effect<number>
  /** Whether this provider renews the credential: its `providerId` is this provider's, or it has none and this provider's mark. */
  readonly canHandle: (credential: Credential) => boolean
  /** Whether the token should be renewed now: it has expired, or expires within the refresh buffer. */
  readonly shouldRefresh: (credential: Credential) => Effect.Effect<boolean>
  /** Renews the token. The answer keeps what the credential held and the server did not name. */
  readonly refresh: (credential: Credential) => Effect.Effect<Credential, FetchFailure | IntegrationNotFound>
  readonly validate: (
    credential: { readonly id: string }
  ) => Effect.Effect<CredentialValidation, AdenFailure>
  readonly fetch: (id: string) => Effect.Effect<Option.Option<Credential>, FetchFailure>
  /** All integrations the provider has, and the items of its list that could not be read. */
  readonly list: Effect.Effect<{
    readonly accounts: ReadonlyArray<ProviderAccount>
    readonly malformed: ReadonlyArray<{ readonly id: string | undefined; readonly detail: string }>
  }, AdenRequestFailure>
  /** Fetches every integration, a bounded number at a time. Fails only when the list itself cannot be had. */
  readonly syncStream: Stream.Stream<ProviderSyncEvent, AdenRequestFailure>
}

/**
 * The providers that a `CredentialStore` renews with.
 *
 * @since 0.1.0
 * @category services
 */
export class CredentialProviders extends Context.Service<CredentialProviders, {
  readonly all: ReadonlyArray<CredentialProvider>
}>()("aden-credentials/CredentialProviders") {
  /** No provider: the store serves what storage holds, and `sync` and `refresh` fail with `NoProvider`. */
  static readonly layerNone: Layer.Layer<CredentialProviders> = Layer.succeed(CredentialProviders, { all: [] })

  /** The providers of several layers in one registry, in their order. */
  static readonly layerAll = <E, R>(
    layers: ReadonlyArray<Layer.Layer<CredentialProviders, E, R>>
  ): Layer.Layer<CredentialProviders, E, R> =>
    Layer.effect(
      CredentialProviders,
      Effect.map(
        Effect.forEach(layers, (layer) => Layer.build(layer)),
        (contexts) => ({ all: contexts.flatMap((context) => Context.get(context, CredentialProviders).all) })
      )
    )
}

/**
 * How many integrations are fetched at a time by a synchronisation.
 *
 * @since 0.1.0
 * @category synchronisation
 */
export const syncConcurrency = 16

/**
 * Fetches one listed integration. One that is listed as blocked is asked about with `validate`, which knows where a person
 * authorizes it again, and fetched after all when it turns out to be valid. It goes by the provider and alias that it is listed
 * under, where the answer for it names none.
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
 * Whether a question may pass an open circuit: it is the last that can be asked in time.
 *
 * @internal
 */
export const PassesCircuit = Context.Reference<boolean>("aden-credentials/internal/PassesCircuit", {
  defaultValue: () => false
})

/**
 * A fetched credential under the names that the provider lists it by, where the answer itself left them out: by these names it
 * was asked for, and is found again when nobody can be asked.
 *
 * @internal
 */
export const withListedNames = (credential: Credential, { alias, provider }: CredentialAccount): Credential => {
  const { id, integrationType, keys } = credential
  const named = new Map(keys)
  const add = (name: string, value: string | undefined) => {
    if (value !== undefined) named.set(name, new CredentialKey({ name, value: Redacted.make(value) }))
  }
  // what the id gives by itself is what an answer without a name counts as
  if (integrationType === undefined || integrationType === defaultProvider(id)) add("_integration_type", provider)
  if (credential.alias === undefined) add("_alias", alias)
  return new Credential({ ...credential, keys: named })
}
