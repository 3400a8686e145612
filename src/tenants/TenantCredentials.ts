/**
 * A store for each tenant of a platform; tenants share nothing.
 *
 * @since 0.1.0
 */
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import type * as Path from "effect/Path"
import * as RcMap from "effect/RcMap"
import type * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { AdenConfigError } from "../errors/ConfigError.ts"
import { InvalidTenantId, TenantError, TenantsShareLayers } from "../errors/TenantError.ts"
import type { TenantLookupFailed } from "../errors/TenantError.ts"
import { CurrentTenant } from "../model/currentTenant.ts"
import { durationSetting } from "../model/settings.ts"
import { AdenClient, makeFromEnvironment } from "../providers/aden/AdenClient.ts"
import type { AdenClientOptions } from "../providers/aden/AdenClient.ts"
import { makeProvider } from "../providers/aden/AdenSyncProvider.ts"
import { CredentialProviders } from "../providers/CredentialProvider.ts"
import { CredentialStorage } from "../storage/CredentialStorage.ts"
import { makeConfiguredFileStorage, makeFileStorage } from "../storage/files/EncryptedFileStorage.ts"
import { CredentialStore, makeStore } from "../store/CredentialStore.ts"
import type { CredentialStoreOptions } from "../store/CredentialStore.ts"
import { claimMemoMap } from "../store/memoMapOwner.ts"
import { isSameTenant, setTenant } from "../store/storeTenant.ts"
import type { Tenant } from "../store/storeTenant.ts"
import { isClean } from "../util/sanitize.ts"
import { apiKeyVariable, tenantSettings } from "./settings.ts"

/**
 * The settings of one tenant. Each one has a default.
 *
 * @since 0.1.0
 * @category models
 */
export interface TenantSettings {
  /** `ADEN_API_KEY_{tenant}` by default. An Effect is run again when Aden answers 401. */
  readonly apiKey?: AdenClientOptions["apiKey"] | undefined
  /** `ADEN_API_URL` by default. */
  readonly baseUrl?: string | undefined
  /** Aden's id for the tenant, sent as `X-Tenant-ID`: the tenant's id by default. */
  readonly adenTenantId?: string | undefined
  /** The provider id that stored credentials carry: `aden_{tenant}` by default. */
  readonly providerId?: string | undefined
  /**
   * The directory in which each tenant has a folder: `~/.hive/credentials` by default, or `$HIVE_HOME/credentials` if that is
   * set.
   */
  readonly directory?: string | undefined
  /**
   * Fernet keys, of which the first encrypts. By default those of `HIVE_CREDENTIAL_KEY`, or else of the key file, for all
   * tenants.
   */
  readonly encryptionKeys?: ReadonlyArray<Redacted.Redacted<string>> | undefined
  /** Further settings of the tenant's client. */
  readonly client?: Omit<Partial<AdenClientOptions>, "apiKey" | "baseUrl" | "tenantId"> | undefined
  /** Settings of the tenant's store. */
  readonly store?: CredentialStoreOptions | undefined
}

/**
 * Returns what a tenant's store is built from: settings, or a whole layer, directly or by an Effect (which may ask a database).
 * Runs when a tenant is first used, and again after its store was released.
 *
 * @since 0.1.0
 * @category models
 */
export type TenantLookup<R = never> = (
  tenantId: string
) =>
  | TenantSettings
  | Layer.Layer<CredentialStore, AdenConfigError | TenantLookupFailed, R>
  | Effect.Effect<
    TenantSettings | Layer.Layer<CredentialStore, AdenConfigError | TenantLookupFailed, R>,
    AdenConfigError | TenantLookupFailed,
    R
  >

type Found<R> = TenantSettings | Layer.Layer<CredentialStore, AdenConfigError | TenantLookupFailed, R>

type Surroundings = FileSystem.FileSystem | Path.Path | HttpClient.HttpClient

/**
 * The stores of tenants, each built when it is first used, and released after it was idle for a while. Two tenants share no
 * client, API key, circuit, cache, lock, request or file, even if one lookup builds both from the same layer values.
 *
 * In everything that is built for a tenant, `ADEN_API_KEY` is its `ADEN_API_KEY_{tenant}`, `ADEN_TENANT_ID` is its id, and
 * `EncryptedFileStorage` keeps its files in `{directory}/{tenant}`, marks each as the tenant's, and refuses those of
 * another. So layers from `layerConfig` can serve all tenants. The rules of the folder's name are in docs/files.md.
 *
 * @example
 * ```ts
 * import { CredentialStore, TenantCredentials } from "aden-credentials"
 * import { Effect } from "effect"
 *
 * // needs TenantCredentials.layer(), once for the program
 * const tokenOf = (tenantId: string) =>
 *   Effect.gen(function*() {
 *     const store = yield* CredentialStore
 *     return yield* store.token("hubspot")
 *   }).pipe(TenantCredentials.provide(tenantId))
 * ```
 *
 * @since 0.1.0
 * @category services
 */
export class TenantCredentials extends Context.Service<TenantCredentials, {
  /** The store of a tenant. It stays in use until the scope of this layer closes. */
  readonly get: (tenantId: string) => Layer.Layer<CredentialStore, TenantError>
  /** The tenant's store is built again when it is next asked for. Programs that use the old one keep it. */
  readonly invalidate: (tenantId: string) => Effect.Effect<void>
}>()("aden-credentials/TenantCredentials") {
  /**
   * The stores of tenants.
   *
   * - `lookup`: the settings of a tenant; without it, the defaults of {@link TenantSettings}. There is no default API key for
   *   an id that cannot be part of a variable name (letters, digits, `_`).
   * - `idleTimeToLive`: how long an idle store is kept; 15 minutes.
   *
   * The services of a lookup, and `FileSystem`, `Path`, `HttpClient` and settings, are those with which this layer is built.
   * Fails with `AdenConfigError` if `idleTimeToLive` is not a finite time above zero.
   *
   * @example
   * ```ts
   * import { TenantCredentials, TenantLookupFailed } from "aden-credentials"
   * import { Effect, Redacted } from "effect"
   *
   * declare const apiKeys: ReadonlyMap<string, string>
   *
   * const Tenants = TenantCredentials.layer({
   *   lookup: Effect.fnUntraced(function*(tenantId) {
   *     const apiKey = apiKeys.get(tenantId)
   *     if (apiKey === undefined) {
   *       return yield* new TenantLookupFailed({ detail: "it is not known", isTransient: false })
   *     }
   *     return { apiKey: Redacted.make(apiKey), directory: "/var/lib/agent/credentials" }
   *   }),
   *   idleTimeToLive: "5 minutes"
   * })
   * ```
   */
  static readonly layer = <R = never>(options: {
    readonly lookup?: TenantLookup<R> | undefined
    readonly idleTimeToLive?: Duration.Input | undefined
  } = {}): Layer.Layer<
    TenantCredentials,
    AdenConfigError,
    FileSystem.FileSystem | Path.Path | HttpClient.HttpClient | R
  > => Layer.effect(TenantCredentials, make(options))

  /**
   * The store of a tenant, as a plain layer. It is refused (`TenantError`, reason `TenantsShareLayers`) where a layer that Effect
   * memoised for another tenant could be used for this one: in one build with the other tenant's store, or around or inside what
   * is provided with it. `provide` and `provideLayer` serve the tenant there.
   */
  static readonly get = (tenantId: string): Layer.Layer<CredentialStore, TenantError, TenantCredentials> =>
    Layer.fromBuild((memoMap, scope) =>
      Effect.flatMap(
        TenantCredentials,
        (tenants) => Layer.buildWithMemoMap(tenants.get(tenantId), memoMap, scope)
      )
    )

  /**
   * Runs an effect for a tenant: with its store, and with an instance of its own of every layer that the effect provides. It can
   * run inside another tenant's.
   *
   * @example
   * ```ts
   * import { CredentialHttpClient, TenantCredentials } from "aden-credentials"
   * import { Effect } from "effect"
   * import { HttpClient } from "effect/http"
   *
   * const HubSpot = CredentialHttpClient.layer({ ref: "hubspot", allowedHosts: ["api.hubapi.com"] })
   *
   * const contactsOf = (tenantId: string) =>
   *   HttpClient.get("https://api.hubapi.com/crm/v3/objects/contacts").pipe(
   *     Effect.provide(HubSpot),
   *     TenantCredentials.provide(tenantId)
   *   )
   * ```
   */
  static readonly provide = (tenantId: string) =>
  <A, E, R>(
    self: Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | TenantError, Exclude<R, CredentialStore> | TenantCredentials> =>
    Effect.provide(self, TenantCredentials.get(tenantId), { local: true })

  /**
   * Builds a layer for a tenant: over its store, and with an instance of its own of every layer that it is made of. The same as
   * `provide`, for services that outlive one effect. It can be merged with another tenant's.
   */
  static readonly provideLayer = (tenantId: string) =>
  <A, E, R>(
    self: Layer.Layer<A, E, R>
  ): Layer.Layer<A, E | TenantError, Exclude<R, CredentialStore> | TenantCredentials> =>
    // memoised by `suspend`, which `fresh` is not: one value is one instance, as with any layer
    Layer.suspend(() => Layer.fresh(Layer.provide(self, TenantCredentials.get(tenantId))))

  /** Makes the tenant's store be built again when it is next asked for, after its settings have changed. */
  static readonly invalidate = (tenantId: string): Effect.Effect<void, never, TenantCredentials> =>
    Effect.flatMap(TenantCredentials, (tenants) => tenants.invalidate(tenantId))
}

// internal

/** In UTF-16 code units. */
const maximumLength = 200

const checkTenantId = (tenantId: string): Effect.Effect<void, InvalidTenantId> => {
  const refuse = (detail: string) => Effect.fail(new InvalidTenantId({ detail }))
  if (tenantId === "") return refuse("an id cannot be empty")
  if (tenantId.length > maximumLength) return refuse(`an id cannot be longer than ${maximumLength} characters`)
  return isClean(tenantId) ? Effect.void : refuse("an id cannot hold control or invisible characters")
}

const make = Effect.fnUntraced(function*<R>(options: {
  readonly lookup?: TenantLookup<R> | undefined
  readonly idleTimeToLive?: Duration.Input | undefined
}) {
  const lookup: TenantLookup<R> = options.lookup ?? (() => ({}))
  const idleTimeToLive = yield* durationSetting("idleTimeToLive", options.idleTimeToLive ?? "15 minutes")
  const scope = yield* Effect.scope
  const surroundings = yield* Effect.context<Surroundings | R>()
  const settings = yield* ConfigProvider.ConfigProvider
  const tenantOf = (id: string): Tenant => ({ id, platform: scope })

  const find = Effect.fnUntraced(function*(
    tenantId: string
  ): Effect.fn.Return<Found<R>, AdenConfigError | InvalidTenantId | TenantLookupFailed, R> {
    yield* checkTenantId(tenantId)
    const result = lookup(tenantId)
    return isEffect(result) ? yield* result : result
  })

  /**
   * Builds a tenant's store from the services of this layer, and where the lookup gives a layer, in a memo map of its own. In a shared
   * memo map an equal layer value would be one instance for all tenants, and with the services of its caller a store that is built
   * inside another tenant's effect would get that tenant's client.
   */
  const build = Effect.fnUntraced(
    function*(tenantId: string) {
      const found = yield* find(tenantId)
      const store = isLayer(found)
        ? Context.get(
          yield* Layer.buildWithMemoMap(found, yield* Layer.makeMemoMap, yield* Effect.scope),
          CredentialStore
        )
        : yield* storeOf(tenantId, found)
      setTenant(store, tenantOf(tenantId))
      return store
    },
    (effect, tenantId) =>
      effect.pipe(
        Effect.updateContext((ambient: Context.Context<Scope.Scope>) =>
          surroundings.pipe(
            Context.add(ConfigProvider.ConfigProvider, tenantSettings(settings, tenantId)),
            Context.add(CurrentTenant, tenantId),
            Context.add(Scope.Scope, Context.get(ambient, Scope.Scope))
          )
        ),
        Effect.mapError((reason) => new TenantError({ tenantId, reason: named(tenantId, reason) }))
      )
  )

  // A map keeps failures too. They are removed, so that the next use tries again, even if no caller waits any more. A fiber of its
  // own does it, because it may close the scope that the build runs in.
  const forget = (tenantId: string, attempt: object) =>
    Effect.forkIn(
      Effect.suspend(() => newest.get(tenantId) === attempt ? RcMap.invalidate(stores, tenantId) : Effect.void),
      scope,
      { startImmediately: true }
    )
  /** The last build of each tenant. One that fails late must not remove the store of a newer one. */
  const newest = new Map<string, object>()
  const stores: RcMap.RcMap<string, CredentialStore["Service"], TenantError> = yield* RcMap.make({
    lookup: Effect.fnUntraced(function*(tenantId: string) {
      const attempt = {}
      newest.set(tenantId, attempt)
      // not by `Effect.addFinalizer`, which would keep the services of whoever first asked for the tenant
      yield* Scope.addFinalizer(
        yield* Effect.scope,
        Effect.sync(() => {
          if (newest.get(tenantId) === attempt) newest.delete(tenantId)
        })
      )
      return yield* build(tenantId).pipe(
        Effect.tapError(() => forget(tenantId, attempt)),
        Effect.tapDefect(() => forget(tenantId, attempt))
      )
    }),
    idleTimeToLive
  })

  return TenantCredentials.of({
    get: (tenantId) =>
      Layer.fromBuild(Effect.fnUntraced(function*(memoMap, scope) {
        yield* claim(tenantOf(tenantId), memoMap, scope)
        const store = yield* Scope.provide(RcMap.get(stores, tenantId), scope)
        // what a layer above the store provides while it is built belongs into this memo map; `Layer.fresh` leaves that of around
        return Context.make(CredentialStore, store).pipe(Context.add(Layer.CurrentMemoMap, memoMap))
      })),
    invalidate: (tenantId) => RcMap.invalidate(stores, tenantId)
  })
})

/** A memo map has one tenant, so that no layer which Effect memoised for another one serves this one. */
const claim = Effect.fnUntraced(function*(tenant: Tenant, memoMap: Layer.MemoMap, scope: Scope.Scope) {
  const owner = yield* claimMemoMap(memoMap, scope, tenant)
  if (isSameTenant(owner, tenant)) return
  return yield* new TenantError({
    tenantId: tenant.id,
    reason: new TenantsShareLayers({ owner: owner.id, isOfAnotherPlatform: owner.platform !== tenant.platform })
  })
})

const isEffect = <R>(result: ReturnType<TenantLookup<R>>): result is Exclude<typeof result, Found<R>> =>
  Effect.isEffect(result)

const isLayer = <R>(found: Found<R>): found is Exclude<Found<R>, TenantSettings> => Layer.isLayer(found)

/** A store from settings. Without layers, because what remembers them takes as much memory as the store. */
const storeOf = Effect.fnUntraced(function*(
  tenantId: string,
  settings: TenantSettings
): Effect.fn.Return<CredentialStore["Service"], AdenConfigError, Surroundings | Scope.Scope> {
  const { adenTenantId, apiKey, baseUrl, directory, encryptionKeys, providerId } = settings
  const storage = yield* encryptionKeys === undefined
    ? makeConfiguredFileStorage({ directory })
    : makeFileStorage({ directory, keys: Effect.succeed(encryptionKeys) })
  const client = yield* makeFromEnvironment({
    ...settings.client,
    ...(apiKey === undefined ? {} : { apiKey }),
    ...(baseUrl === undefined ? {} : { baseUrl }),
    ...(adenTenantId === undefined ? {} : { tenantId: adenTenantId })
  })
  const provider = yield* Effect.provideService(
    makeProvider({ providerId: providerId ?? `aden_${tenantId}` }),
    AdenClient,
    client
  )
  return yield* makeStore(settings.store ?? {}).pipe(
    Effect.provideService(CredentialStorage, storage),
    Effect.provideService(CredentialProviders, { all: [provider] })
  )
})

/** Names the tenant's variable in an error about the API key. */
const named = <E>(tenantId: string, error: E | AdenConfigError): E | AdenConfigError => {
  if (!(error instanceof AdenConfigError) || error.setting !== "ADEN_API_KEY") return error
  const setting = apiKeyVariable(tenantId)
  return setting === undefined
    ? new AdenConfigError({
      setting: "lookup",
      detail: "has to return the API key of a tenant whose id cannot be part of a variable name",
      remedy: "Give TenantCredentials.layer a lookup, or use ids of letters, digits and underscores."
    })
    : new AdenConfigError({ setting, detail: error.detail, remedy: error.remedy })
}
