/**
 * Locks that exclude all who use a database. A holder renews its lease while it works; one that died or was suspended loses it
 * by the database's clock. No lease can keep a suspended holder from going on where it was: its late write is refused because
 * the generation of the entry, which every save counts up, is not the one it expects any more.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import { LockTimeout } from "../../errors/CredentialError.ts"
import type { StorageIoFailed } from "../../errors/CredentialError.ts"
import { makeKeyedLock } from "../../util/KeyedLock.ts"
import type { RecordChanges } from "./ChangeFeed.ts"
import type { LeaseSource } from "./RecordDatabase.ts"

const renewEvery = Duration.seconds(5)

/** After this time without a renewal a lease is nobody's. */
export const leaseMillis = 15_000

/** How long a lock is waited for: a dead holder's lease ends meanwhile, and of a reader's deadline time is left to ask Aden. */
const patience = Duration.seconds(20)

/** A lease that is given back is told at once. A notification that was missed costs at most this. */
const longestPauseMillis = 500

export const makeLeases = (source: LeaseSource, releases: RecordChanges["releases"]) => {
  const waiting = makeKeyedLock()

  const renewing = (id: string, token: string) =>
    source.renew(id, token, leaseMillis).pipe(
      // the database may be back before the lease ends
      Effect.orElseSucceed(() => true),
      Effect.delay(renewEvery),
      Effect.repeat({ while: (isOwn) => isOwn })
    )

  /** Takes the lease of an id and holds it until the scope closes. */
  const acquire = (id: string): Effect.Effect<void, StorageIoFailed, Scope.Scope> =>
    Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
      const token = randomBytes(16).toString("hex")
      const giveBack = Effect.ignore(source.release(id, token))
      // a take that was cut off may have been made
      const take = Effect.onError(restore(source.take(id, token, leaseMillis)), () => giveBack)
      yield* Effect.scoped(Effect.gen(function*() {
        const released = yield* releases
        const isReleased = Effect.repeat(PubSub.take(released), { until: (other) => other === id })
        while (true) {
          const { isTaken, millisLeft } = yield* take
          if (isTaken) return
          // not all at once when a lease has ended without a word
          const pause = Math.min(millisLeft, longestPauseMillis) + (yield* Random.nextBetween(0, 20))
          yield* restore(Effect.raceFirst(isReleased, Effect.sleep(pause)))
        }
      }))
      yield* Effect.addFinalizer(() => giveBack)
      yield* Effect.forkScoped(renewing(id, token))
    }))

  /**
   * The lock of an id, held until the scope closes. The fibers of this process wait here for one another, and one of them for
   * other processes. Where the database cannot be reached the fibers exclude one another nonetheless: answers the reason.
   */
  return (id: string): Effect.Effect<StorageIoFailed | undefined, LockTimeout, Scope.Scope> =>
    waiting.held(id).pipe(
      Effect.andThen(Effect.match(acquire(id), { onFailure: (error) => error, onSuccess: () => undefined })),
      Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.fail(new LockTimeout({ after: patience })) })
    )
}
