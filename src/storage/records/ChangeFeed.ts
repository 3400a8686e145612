/**
 * Follows the changes that other writers make in a database. Notifications tell of a change at once. Each change has a sequence
 * number, so that after a gap, for example a lost connection, the missed changes are read from the database.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import type { StorageChange } from "../CredentialStorage.ts"
import { isCredentialId } from "../operation.ts"
import type { ChangeSource, Notification, RecordChange } from "./RecordDatabase.ts"

/** Without notifications, missed changes are polled for this often: a connection can be lost without an error. */
const pollInterval = Duration.seconds(10)

/** A listener that lost its connection tries again after this, jittered. */
const retryMillis = { least: 500, most: 1_500 }

export const makeChangeFeed = Effect.fnUntraced(function*(source: ChangeSource, writer: string) {
  const changes = yield* Effect.acquireRelease(PubSub.unbounded<StorageChange>(), PubSub.shutdown)
  const releases = yield* Effect.acquireRelease(PubSub.sliding<string>(1_000), PubSub.shutdown)

  /** Publishes a change to the listeners in this process. */
  const publish = (change: StorageChange) => PubSub.publish(changes, change)

  // the start is read before listening begins, so that no change in between is missed
  let seen = yield* Effect.orElseSucceed(source.latest, () => 0)
  /** The sequence number of the latest notification. */
  let notified = -1

  /** Drops the echo of an own write, which was published when it was made, and what is not about a credential. */
  const forward = ({ _tag, by, generation, id }: RecordChange) =>
    by === writer || !isCredentialId(id) ? Effect.void : publish({ _tag, id, generation })

  /**
   * Reads the changes since the last one seen. Answers whether there were any. They have no generation: a database that lost its data
   * counts from 0 again, and a receiver would take the generation of another credential for the one that it holds.
   */
  const catchUp = Effect.gen(function*() {
    const { changes, latest } = yield* source.since(seen)
    const hasChanged = latest !== seen
    if (latest >= seen) {
      for (const change of changes) yield* forward(change)
    } else {
      // the database lost its data: everything that is there may be new
      for (const change of (yield* source.since(0)).changes) yield* forward(change)
    }
    seen = latest
    return hasChanged
  })

  const take = Effect.fnUntraced(function*(notification: Notification) {
    if (notification._tag === "Released") return void (yield* PubSub.publish(releases, notification.id))
    const isNext = notification.sequence === notified + 1
    notified = notification.sequence
    // `catchUp` has read it already: notifications queue up while it runs
    if (isNext && notification.sequence <= seen) return
    // a gap: a notification was missed, or the database lost its data
    if (notification.sequence !== seen + 1) return void (yield* catchUp)
    seen = notification.sequence
    yield* forward(notification)
  })

  const listen = Effect.gen(function*() {
    const notifications = yield* source.listen
    yield* catchUp
    while (true) {
      const notification = yield* Effect.timeoutOption(Queue.take(notifications), pollInterval)
      if (Option.isSome(notification)) yield* take(notification.value)
      // there were changes without a notification: the connection is dead, and is made again
      else if (yield* catchUp) return
    }
  })

  yield* Effect.forkScoped(
    Effect.scoped(listen).pipe(
      Effect.ignore,
      Effect.andThen(Random.nextBetween(retryMillis.least, retryMillis.most)),
      Effect.flatMap((millis) => Effect.sleep(millis)),
      Effect.forever
    )
  )

  return { changes: Stream.fromPubSub(changes), publish, releases: PubSub.subscribe(releases) } as const
})

export type ChangeFeed = Effect.Success<ReturnType<typeof makeChangeFeed>>
