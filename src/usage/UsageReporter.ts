/**
 * Reports to Aden what a program did with its credentials. Reports are sent in the background: a program never waits for one,
 * and never fails because of one.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as PersistedQueue from "effect/persistence/PersistedQueue"
import type * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import type { AdenConfigError } from "../errors/ConfigError.ts"
import type { CredentialRef } from "../model/Credential.ts"
import { countSetting, durationSetting } from "../model/settings.ts"
import type { AdenClient } from "../providers/aden/AdenClient.ts"
import { CredentialStore } from "../store/CredentialStore.ts"
import { perStore } from "../store/perStore.ts"
import { onePerTenant, tenantMismatch } from "../store/storeTenant.ts"
import { logWarning } from "../util/logging.ts"
import { makeSender } from "./UsageDelivery.ts"
import type { OpenTransit } from "./UsageOutbox.ts"
import { UsageOutbox } from "./UsageOutbox.ts"

/**
 * One use of a credential: what was done (`crm.contacts.read`, `GET api.github.com/user`), and how it went (`success`, `404`).
 *
 * @since 0.1.0
 * @category models
 */
export interface CredentialUsage {
  readonly operation: string
  readonly status: string
  /** Must not be changed after the report. Whatever looks like a secret is left out. */
  readonly metadata?: Readonly<Record<string, Schema.Json>> | undefined
}

/**
 * Settings of the reporter.
 *
 * @since 0.1.0
 * @category models
 */
export interface UsageReporterOptions {
  /** How many reports may wait in memory, 1,000 by default. When there are more, the oldest is dropped. */
  readonly capacity?: number | undefined
  /** How many reports are sent at once, 4 by default. */
  readonly concurrency?: number | undefined
  /**
   * When a report that Aden did not accept is sent again: after 1 second, then twice as long each time, up to 30 seconds, by
   * default. Its input is the number of attempts made, each of which is retried by the `AdenClient` as any request is.
   */
  readonly retry?: Schedule.Schedule<unknown, number> | undefined
  /** After how many attempts a report is given up, 10 by default. */
  readonly maxAttempts?: number | undefined
  /** How long the reports that wait when the scope closes may take to be delivered, 5 seconds by default. */
  readonly flushTimeout?: Duration.Input | undefined
}

/**
 * Reports uses of credentials to Aden, in the background.
 *
 * @since 0.1.0
 * @category services
 */
export class UsageReporter extends Context.Service<UsageReporter, {
  /**
   * Reports a use that happened now. Never fails and never waits: when too many reports wait, the oldest is dropped, and
   * `aden_credentials_usage_reports_total` counts it.
   *
   * Sent at least once, with an `Idempotency-Key`, so that a server that supports the header counts it once. Metadata that looks
   * like a secret (a token's marks, random text, a name such as `client_secret`) is left out with a warning that names the field.
   */
  readonly report: (ref: CredentialRef, usage: CredentialUsage) => Effect.Effect<void>
}>()("aden-credentials/UsageReporter") {
  /**
   * Reports that wait in memory. When the scope closes, those that are left are sent within `flushTimeout`.
   *
   * There is one reporter for each store that the layer is built over. A reporter of one tenant's store drops, with a warning,
   * what a program reports while it runs for another tenant.
   *
   * @example
   * ```ts
   * import { AdenClient, AdenSyncProvider, CredentialStore, EncryptedFileStorage, UsageReporter } from "aden-credentials"
   * import { Effect, Layer } from "effect"
   *
   * const Credentials = UsageReporter.layer().pipe(
   *   Layer.provideMerge(CredentialStore.layer()),
   *   Layer.provide(AdenSyncProvider.layer()),
   *   Layer.provide(AdenClient.layerConfig),
   *   Layer.provide(EncryptedFileStorage.layerConfig)
   * )
   *
   * const program = Effect.gen(function*() {
   *   const usage = yield* UsageReporter
   *   yield* usage.report("hubspot", { operation: "contacts.list", status: "success", metadata: { rows: 250 } })
   * }).pipe(Effect.provide(Credentials))
   * ```
   */
  static readonly layer = (
    options: UsageReporterOptions = {}
  ): Layer.Layer<UsageReporter, AdenConfigError, AdenClient | CredentialStore> =>
    perStore(Layer.effect(UsageReporter, make(options, UsageOutbox.inMemory)))

  /**
   * Reports that wait in Effect's `PersistedQueue`, over Redis or SQL: a report in the queue survives the process, and any
   * process with this layer sends it. `queue` is its name. Tenants that share a Redis or a database need a name each, because a
   * report is sent with the API key of the process that takes it from the queue.
   *
   * When the scope closes, reports that are not in the queue yet are put there within `flushTimeout`. What a killed process had
   * taken is sent again once its lock has expired (`lockExpiration` of the queue's store). The store remembers delivered
   * reports, and keeps those that were given up, until `PersistedQueue.layerCleanup` removes them.
   *
   * @example
   * ```ts
   * import { UsageReporter } from "aden-credentials"
   * import { RedisConnection } from "aden-credentials/redis"
   * import { Layer } from "effect"
   * import { PersistedQueue } from "effect/persistence"
   *
   * const Usage = UsageReporter.layerPersisted({ queue: "usage:tenant-123" }).pipe(
   *   Layer.provide(PersistedQueue.layer),
   *   Layer.merge(PersistedQueue.layerCleanup({ timeToLive: "1 day", failedTimeToLive: "30 days" })),
   *   Layer.provide(PersistedQueue.layerStoreRedis()),
   *   Layer.provide(RedisConnection.layerConfig) // the server of REDIS_URL
   * )
   * ```
   */
  static readonly layerPersisted = (
    options: UsageReporterOptions & { readonly queue: string }
  ): Layer.Layer<
    UsageReporter,
    AdenConfigError,
    AdenClient | CredentialStore | PersistedQueue.PersistedQueueFactory
  > => perStore(Layer.effect(UsageReporter, make(options, UsageOutbox.persisted(options.queue))))

  /** A reporter that reports nothing: for tests, and for programs that report no usage. */
  static readonly layerNoop: Layer.Layer<UsageReporter> = Layer.succeed(UsageReporter, { report: () => Effect.void })
}

// internal

const make = Effect.fnUntraced(function*<R>(options: UsageReporterOptions, open: OpenTransit<R>) {
  const outbox = yield* UsageOutbox.make({
    capacity: yield* countSetting("capacity", options.capacity ?? 1_000, "Give the number of reports that may wait."),
    concurrency: yield* countSetting(
      "concurrency",
      options.concurrency ?? 4,
      "Give the number of reports sent at once."
    ),
    maxAttempts: yield* countSetting(
      "maxAttempts",
      options.maxAttempts ?? 10,
      "Give the number of attempts per report."
    ),
    flushTimeout: yield* durationSetting("flushTimeout", options.flushTimeout ?? "5 seconds"),
    retry: options.retry,
    send: yield* makeSender
  }, open)
  const store = yield* CredentialStore
  return UsageReporter.of({
    // no span and no log: this runs with every call of every tool; the delivery has a span
    report: (ref, { metadata, operation, status }) =>
      Effect.withFiber((fiber) => {
        const mismatch = tenantMismatch(store, fiber.context)
        if (mismatch !== undefined) {
          outbox.drop(1)
          return logWarning("A usage report of another tenant is not sent").pipe(
            Effect.annotateLogs({ credential: ref, reason: mismatch, remedy: onePerTenant })
          )
        }
        const at = fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()
        outbox.put({ key: SecureRandom.uuidV4Unsafe(), ref, at, operation, status, metadata })
        return Effect.void
      })
  })
})
