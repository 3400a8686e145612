/**
 * Leases: locks that exclude all users of a database. A holder renews its lease while it works; one that died or was suspended
 * loses it by the database's clock. A lease cannot stop a suspended holder from resuming, so writes are fenced by the generation:
 * every save increments it, and a late write is refused because its generation is no longer current.
 */
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import type { LockTimeout, StorageIoFailed } from "../../errors/StorageError.ts"
import { makeKeyedLock } from "../../util/KeyedLock.ts"
import { acquireLease, leaseMillis, renewEvery } from "../lease.ts"
import type { ChangeFeed } from "./ChangeFeed.ts"
import type { LeaseSource } from "./RecordDatabase.ts"

/** A release is notified at once; a missed notification costs at most this. */
const retryIntervalMillis = 500

export const makeLeases = (source: LeaseSource, releases: ChangeFeed["releases"]) => {
  const localLock = makeKeyedLock()

  const keepRenewed = (id: string, token: string) =>
    source.renew(id, token, leaseMillis).pipe(
      // a failure is no loss: the database may be back before the lease ends
      Effect.orElseSucceed(() => true),
      Effect.delay(renewEvery),
      Effect.repeat({ while: (isOwn) => isOwn })
    )

  /** Acquires the lease of an id and holds it until the scope closes. */
  const acquire = (id: string): Effect.Effect<void, StorageIoFailed, Scope.Scope> =>
    Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
      const token = randomBytes(16).toString("hex")
      const release = Effect.ignore(source.release(id, token))
      // an interrupted or failed take may still have succeeded in the database
      const take = Effect.onError(restore(source.take(id, token, leaseMillis)), () => release)
      yield* Effect.scoped(Effect.gen(function*() {
        const released = yield* releases
        const isReleased = Effect.repeat(PubSub.take(released), { until: (other) => other === id })
        while (true) {
          const { isTaken, millisLeft } = yield* take
          if (isTaken) return
          // jittered, so that waiters do not all retry at once when a lease expires
          const retryInterval = Math.min(millisLeft, retryIntervalMillis) + (yield* Random.nextBetween(0, 20))
          yield* restore(Effect.raceFirst(isReleased, Effect.sleep(retryInterval)))
        }
      }))
      yield* Effect.addFinalizer(() => release)
      yield* Effect.forkScoped(keepRenewed(id, token))
    }))

  /**
   * The lock of an id, held until the scope closes: a lock within this process, and under it the lease. When the database cannot
   * be reached, the lock still excludes the fibers of this process; then answers the failure.
   */
  return (id: string): Effect.Effect<StorageIoFailed | undefined, LockTimeout, Scope.Scope> =>
    acquireLease(localLock, id, Effect.match(acquire(id), { onFailure: (error) => error, onSuccess: () => undefined }))
}
