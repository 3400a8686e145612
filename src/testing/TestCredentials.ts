/**
 * An Aden in memory for programs' own tests, and the controls over it.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import {
  AdenConnectionFailed,
  AdenUnavailable,
  IntegrationNotFound,
  RateLimited,
  ReauthRequired
} from "../errors/AdenError.ts"
import type { AdenConfigError } from "../errors/ConfigError.ts"
import { CredentialNotFound } from "../errors/CredentialError.ts"
import type { CredentialRef, ProviderAccount } from "../model/Credential.ts"
import { accountOf, Credential, CredentialKey, resolveRef } from "../model/Credential.ts"
import type { CredentialProvider } from "../providers/CredentialProvider.ts"
import { CredentialProviders } from "../providers/CredentialProvider.ts"
import { MemoryStorage } from "../storage/MemoryStorage.ts"
import type { CredentialStoreOptions } from "../store/CredentialStore.ts"
import { CredentialStore } from "../store/CredentialStore.ts"

/**
 * What a test does to a credential of {@link TestCredentials.layer}. Each method takes the ref of one of the OAuth or bearer
 * credentials given: Aden has no others. It fails with `CredentialNotFound` if the ref matches none of them, or several.
 *
 * @since 0.1.0
 * @category services
 */
export class TestCredentials extends Context.Service<TestCredentials, {
  /** The token expires: the next read refreshes it. */
  readonly expire: (ref: CredentialRef) => Effect.Effect<void, CredentialNotFound>
  /**
   * A person has to authorize again: reads fail with `ReauthRequired` until `reconnect`. The store does not learn of it while
   * Aden does not answer or limits the rate. A `reauthorizationUrl` has to be `https:`, or `http:` to this machine: any other
   * is ignored.
   */
  readonly revoke: (
    ref: CredentialRef,
    options?: { readonly reauthorizationUrl?: string | undefined }
  ) => Effect.Effect<void, CredentialNotFound>
  /** A person has authorized it again. The store notices at its next check, at most 30 s after the last one. */
  readonly reconnect: (ref: CredentialRef) => Effect.Effect<void, CredentialNotFound>
  /** Aden answers requests for it with `RateLimited` for this long. */
  readonly rateLimit: (ref: CredentialRef, retryAfter: Duration.Input) => Effect.Effect<void, CredentialNotFound>
  /** Aden does not answer requests for it; without a ref, no requests at all. A token that has not expired is still served. */
  readonly takeDown: (ref?: CredentialRef) => Effect.Effect<void, CredentialNotFound>
  /** Aden answers again. */
  readonly bringUp: (ref?: CredentialRef) => Effect.Effect<void, CredentialNotFound>
  /** The integration is disconnected at Aden. */
  readonly remove: (ref: CredentialRef) => Effect.Effect<void, CredentialNotFound>
  /** How many requests for it Aden received: fetches, refreshes and validations, including those it refused. */
  readonly requests: (ref: CredentialRef) => Effect.Effect<number, CredentialNotFound>
}>()("aden-credentials/TestCredentials") {
  /**
   * A store for a program's own tests: these credentials, and an Aden in memory behind them that this service
   * controls. No HTTP, no disk; time is Effect's `Clock`.
   *
   * @example
   * ```ts
   * import { Credential, CredentialStore, TestCredentials } from "aden-credentials"
   * import { Effect, Redacted } from "effect"
   *
   * const program = Effect.gen(function*() {
   *   const store = yield* CredentialStore
   *   const test = yield* TestCredentials
   *   yield* test.revoke("hubspot")
   *   return yield* Effect.flip(store.token("hubspot")) // ReauthRequired
   * }).pipe(Effect.provide(TestCredentials.layer([
   *   Credential.fromAccessToken({ id: "hubspot", accessToken: Redacted.make("test-token") })
   * ])))
   * ```
   */
  static readonly layer = (
    credentials: ReadonlyArray<Credential>,
    options: CredentialStoreOptions = {}
  ): Layer.Layer<CredentialStore | TestCredentials, AdenConfigError> =>
    Layer.effectContext(Effect.gen(function*() {
      const aden = yield* makeTestAden(credentials)
      const built = yield* Layer.build(
        Layer.fresh(CredentialStore.layer(options)).pipe(
          Layer.provide(MemoryStorage.layer()),
          Layer.provide(Layer.succeed(CredentialProviders, { all: [aden.provider] }))
        )
      )
      const store = Context.get(built, CredentialStore)
      for (const credential of aden.owned) yield* store.save(credential).pipe(Effect.orDie)
      return Context.make(CredentialStore, store).pipe(Context.add(TestCredentials, aden.controlsOver(store)))
    }))
}

// internal

interface Integration {
  readonly id: string
  readonly issued: Credential
  /** How long its tokens live, in ms; `undefined` if they do not expire. */
  readonly lifetime: number | undefined
  credential: Credential
  refreshes: number
  requests: number
  isDown: boolean
  limitedUntil: number
  revoked: { readonly reauthorizationUrl: string | undefined } | undefined
}

const providerId = "test"

/** What the controls need of the store under test. */
interface Controlled {
  readonly invalidate: (ref: CredentialRef) => Effect.Effect<void, unknown>
  readonly validate: (ref: CredentialRef) => Effect.Effect<unknown, unknown>
}

/**
 * The provider of the Aden in memory, the credentials to start from, and the controls over it.
 */
const makeTestAden = Effect.fnUntraced(function*(credentials: ReadonlyArray<Credential>) {
  const startedAt = yield* Clock.currentTimeMillis
  const integrations = new Map<string, Integration>()
  let isDown = false

  const owned = credentials.map((credential) => {
    if (credential.type !== "oauth2" && credential.type !== "bearer_token") return credential
    const issued = new Credential({
      ...credential,
      providerId,
      lastRefreshed: credential.lastRefreshed ?? DateTime.makeUnsafe(startedAt)
    })
    const lifetime = credential.expiresAt === undefined
      ? undefined
      : Math.max(1_000, DateTime.toEpochMillis(credential.expiresAt) - startedAt)
    integrations.set(credential.id, {
      id: credential.id,
      issued,
      lifetime,
      credential: issued,
      refreshes: 0,
      requests: 0,
      isDown: false,
      limitedUntil: -Infinity,
      revoked: undefined
    })
    return issued
  })

  const unavailable = (id?: string) =>
    new AdenUnavailable({ id, reason: new AdenConnectionFailed({ detail: "taken down by the test" }) })

  /** Counts a request for an integration, and fails if Aden does not answer it. */
  const answering = Effect.fnUntraced(function*(id: string) {
    const integration = integrations.get(id)
    if (integration !== undefined) integration.requests++
    if (isDown || integration?.isDown === true) return yield* unavailable(id)
    const left = (integration?.limitedUntil ?? -Infinity) - (yield* Clock.currentTimeMillis)
    if (left > 0) return yield* new RateLimited({ id, retryAfter: Duration.millis(left) })
    if (integration === undefined) return yield* new IntegrationNotFound({ id })
    return integration
  })

  const connected = Effect.fnUntraced(function*(id: string) {
    const integration = yield* answering(id)
    if (integration.revoked !== undefined) return yield* new ReauthRequired({ id, ...integration.revoked })
    return integration
  })

  const issue = Effect.fnUntraced(function*(integration: Integration) {
    const now = yield* DateTime.now
    const key = integration.issued.defaultKey
    integration.refreshes++
    const keys = new Map(integration.issued.keys)
    if (key !== undefined) {
      keys.set(
        key.name,
        new CredentialKey({
          ...key,
          value: Redacted.make(`${Redacted.value(key.value)}.${integration.refreshes}`),
          expiresAt: integration.lifetime === undefined
            ? undefined
            : DateTime.addDuration(now, integration.lifetime)
        })
      )
    }
    integration.credential = new Credential({ ...integration.issued, keys, lastRefreshed: now })
    return integration.credential
  })

  const provider: CredentialProvider = {
    id: providerId,
    refreshBuffer: Duration.minutes(5),
    clockOffset: Effect.succeed(0),
    canHandle: (credential) => credential.providerId === providerId,
    refresh: (credential) =>
      Effect.map(Effect.flatMap(connected(credential.id), issue), (answer) => credential.renewedBy(answer)),
    validate: ({ id }) =>
      Effect.map(answering(id), ({ credential, revoked }) => ({
        valid: revoked === undefined,
        reason: revoked === undefined ? undefined : "revoked",
        expiresAt: credential.expiresAt,
        requiresReauthorization: revoked !== undefined,
        reauthorizationUrl: revoked?.reauthorizationUrl
      })),
    fetch: (id) =>
      connected(id).pipe(
        Effect.flatMap((integration) => {
          const { expiresAt } = integration.credential
          return Effect.flatMap(DateTime.now, (now) =>
            expiresAt !== undefined && DateTime.isLessThanOrEqualTo(expiresAt, now)
              ? issue(integration)
              : Effect.succeed(integration.credential))
        }),
        Effect.asSome,
        Effect.catchTag("IntegrationNotFound", () =>
          Effect.succeedNone)
      ),
    list: Effect.suspend(() =>
      isDown
        ? Effect.fail(unavailable())
        : Effect.succeed({ accounts: Array.from(integrations.values(), listedAccount), malformed: [] })
    )
  }

  const find = (ref: CredentialRef): Effect.Effect<Integration, CredentialNotFound> => {
    const resolution = resolveRef(ref, Array.from(integrations.values(), ({ issued }) => accountOf(issued)))
    const found = resolution._tag === "Found" ? integrations.get(resolution.id) : undefined
    return found === undefined ? Effect.fail(new CredentialNotFound({ ref })) : Effect.succeed(found)
  }

  const change = (ref: CredentialRef, f: (integration: Integration) => void) => Effect.map(find(ref), f)

  const controlsOver = (store: Controlled): TestCredentials["Service"] => ({
    expire: (ref) => Effect.flatMap(find(ref), ({ id }) => Effect.ignore(store.invalidate(id))),
    revoke: (ref, options) =>
      Effect.flatMap(find(ref), (integration) => {
        integration.revoked = { reauthorizationUrl: options?.reauthorizationUrl }
        return Effect.ignore(store.validate(integration.id))
      }),
    reconnect: (ref) => change(ref, (integration) => void (integration.revoked = undefined)),
    rateLimit: (ref, retryAfter) =>
      Effect.flatMap(find(ref), (integration) =>
        Effect.map(Clock.currentTimeMillis, (now) => {
          integration.limitedUntil = now + Duration.toMillis(Duration.fromInputUnsafe(retryAfter))
        })),
    takeDown: (ref) =>
      ref === undefined
        ? Effect.sync(() => void (isDown = true))
        : change(ref, (integration) => void (integration.isDown = true)),
    bringUp: (ref) =>
      ref === undefined
        ? Effect.sync(() => void (isDown = false))
        : change(ref, (integration) => void (integration.isDown = false)),
    remove: (ref) => change(ref, ({ id }) => void integrations.delete(id)),
    requests: (ref) => Effect.map(find(ref), ({ requests }) => requests)
  })

  return { provider, owned, controlsOver }
})

const listedAccount = ({ id, issued, revoked }: Integration): ProviderAccount => ({
  ...accountOf(issued),
  id,
  status: revoked === undefined ? "active" : "requires_reauth",
  email: issued.identity.email,
  expiresAt: issued.expiresAt
})
