/**
 * Follows the changes that others make in a database. Notifications say at once what changed; since a connection that was lost
 * and made again says nothing of what was missed, each change has a number, and what is behind a gap is looked up.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import type { StorageChange } from "../CredentialStorage.ts"
import type { ChangeSource, Notice, RecordChange } from "./RecordDatabase.ts"

/** Without a notification it is looked up this often whether one was missed: a connection may hide that it was lost. */
const lookEvery = Duration.seconds(10)

/** A listener that lost its connection tries again after this. */
const pauseMillis = { least: 500, most: 1_500 }

export const makeRecordChanges = Effect.fnUntraced(function*(source: ChangeSource, writer: string) {
  const changes = yield* Effect.acquireRelease(PubSub.unbounded<StorageChange>(), PubSub.shutdown)
  const releases = yield* Effect.acquireRelease(PubSub.sliding<string>(1_000), PubSub.shutdown)

  /** Tells the listeners of this process. */
  const publish = (change: StorageChange) => PubSub.publish(changes, change)

  // what is read before the first notification can arrive is not to be missed either
  let seen = yield* Effect.orElseSucceed(source.latest, () => 0)
  /** The number of the latest notification. */
  let heard = -1

  const tell = ({ _tag, by, id }: RecordChange) => by === writer ? Effect.void : publish({ _tag, id })

  /** Answers whether there was anything to tell. */
  const lookUp = Effect.gen(function*() {
    const { changes, latest } = yield* source.since(seen)
    const isNews = latest !== seen
    if (latest >= seen) {
      for (const change of changes) yield* tell(change)
    } else {
      // the database forgot: whatever is there now may be new
      for (const change of (yield* source.since(0)).changes) yield* tell(change)
    }
    seen = latest
    return isNews
  })

  const take = Effect.fnUntraced(function*(notice: Notice) {
    if (notice._tag === "Released") return void (yield* PubSub.publish(releases, notice.id))
    const isNext = notice.sequence === heard + 1
    heard = notice.sequence
    // looked up already: while one looks, many may be told
    if (isNext && notice.sequence <= seen) return
    // one was missed, or the database forgot
    if (notice.sequence !== seen + 1) return void (yield* lookUp)
    seen = notice.sequence
    yield* tell(notice)
  })

  const listen = Effect.gen(function*() {
    const notices = yield* source.listen
    yield* lookUp
    while (true) {
      const notice = yield* Effect.timeoutOption(Queue.take(notices), lookEvery)
      if (Option.isSome(notice)) yield* take(notice.value)
      // a connection through which nothing comes any more is given up
      else if (yield* lookUp) return
    }
  })

  yield* Effect.forkScoped(
    Effect.scoped(listen).pipe(
      Effect.ignore,
      Effect.andThen(Random.nextBetween(pauseMillis.least, pauseMillis.most)),
      Effect.flatMap((millis) => Effect.sleep(millis)),
      Effect.forever
    )
  )

  return { changes: Stream.fromPubSub(changes), publish, releases: PubSub.subscribe(releases) } as const
})

export type RecordChanges = Effect.Success<ReturnType<typeof makeRecordChanges>>
