/**
 * Bounds what a disk can take from a process: how many files are open at once, and how long a caller waits for it.
 *
 * A file system of a network or of a program can hang, and no call to it can be taken back. So an operation runs in a fiber of its own,
 * and its caller gives up when a step of it has taken too long. What was interrupted ends there; a write that had begun goes on
 * whenever the disk answers, still under its locks, and checks them before it puts a file into its place.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { StorageIoFailed } from "../../errors/StorageError.ts"
import { monotonicMillisUnsafe } from "../../util/monotonic.ts"
import { cleanText } from "../../util/sanitize.ts"
import { SparseSet } from "../../util/sparse.ts"

const answerTime = Duration.seconds(2)
/** Looked at twice, because a process that was busy itself only learns then that the disk has answered. */
const checkEvery = Duration.millis(500)
const overdueMillis = Duration.toMillis(answerTime) - Duration.toMillis(checkEvery)

/** A disk takes real time, whichever clock the program runs on. */
export const wallClock = Context.get(Context.empty(), Clock.Clock)

/** Node has four threads for disks and for looking up hosts: a disk that hangs must leave one. Global, as the threads are. */
const steps = Semaphore.makeUnsafe(3)

/** A call to the disk, or several that belong together. */
interface Step {
  readonly location: string
  /** In monotonic ms. */
  since: number
  isRunning: boolean
}

/** The steps of the whole process that the disk is busy with, the oldest first. */
const running = new Set<Step>()

const isOverdue = (step: Step | undefined, now: number): step is Step =>
  step !== undefined && now - step.since >= overdueMillis

const firstOf = <A>(values: Iterable<A>): A | undefined => {
  for (const value of values) return value
  return undefined
}

/** Guards the steps of one directory. */
export class DiskGuard {
  /** The steps of this directory, those that wait for their turn included. */
  readonly #own = new SparseSet<Step>()

  #enter(location: string): Step {
    const step: Step = { location, since: monotonicMillisUnsafe(wallClock), isRunning: false }
    this.#own.add(step)
    return step
  }

  #begin(step: Step): void {
    step.isRunning = true
    running.add(step)
  }

  #leave(step: Step): void {
    this.#own.delete(step)
    running.delete(step)
  }

  /** Runs a step about this file. At most a few run at once, so a step must not contain another one. */
  step(location: string) {
    return <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
      Effect.suspend(() => {
        const step = this.#enter(location)
        const run = Effect.suspend(() => {
          this.#begin(step)
          return effect
        })
        return Effect.ensuring(steps.withPermit(run), Effect.sync(() => this.#leave(step)))
      })
  }

  /** The disk has answered, so that what follows has its time again. Both sets stay in order. */
  #renew(step: Step): void {
    this.#leave(step)
    step.since = monotonicMillisUnsafe(wallClock)
    this.#own.add(step)
    running.add(step)
  }

  /**
   * Like `step`, for one that opens files. Its answer does not wait until they are closed, but it keeps its place until then. `answered`
   * is to be run between its calls to the disk, when they are many.
   */
  openingStep<A, E>(
    location: string,
    run: (answered: Effect.Effect<void>) => Effect.Effect<A, E, Scope.Scope>
  ): Effect.Effect<A, E> {
    return Effect.acquireUseRelease(
      Effect.sync(() => ({ step: this.#enter(location), scope: Scope.makeUnsafe() })),
      ({ scope, step }) =>
        Effect.andThen(
          steps.takeScoped(1),
          Effect.suspend(() => {
            this.#begin(step)
            return run(Effect.sync(() => this.#renew(step)))
          })
        ).pipe(Scope.provide(scope)),
      ({ scope, step }, exit) =>
        Effect.forkDetach(Effect.ensuring(Scope.close(scope, exit), Effect.sync(() => this.#leave(step))), {
          startImmediately: true
        })
    )
  }

  /** Fails when a step of this directory has not ended in time. */
  #hanging(): Effect.Effect<never, StorageIoFailed> {
    return Effect.gen({ self: this }, function*() {
      yield* wallClock.sleep(Duration.millis(overdueMillis))
      let suspect: Step | undefined
      for (;;) {
        const now = monotonicMillisUnsafe(wallClock)
        const oldest = firstOf(this.#own)
        // who waits for a turn waits in vain only while the disk is busy with a step that does not end
        const busyWith = oldest?.isRunning === true ? oldest : firstOf(running)
        if (isOverdue(oldest, now) && isOverdue(busyWith, now)) {
          if (busyWith === suspect) {
            return yield* new StorageIoFailed({
              location: cleanText(oldest.location),
              detail: `no answer within ${Duration.format(answerTime)}`
            })
          }
          suspect = busyWith
        } else suspect = undefined
        yield* wallClock.sleep(checkEvery)
      }
    })
  }

  /** Runs an operation. It is given up when the disk hangs, also where it cannot be interrupted. */
  orGiveUp<A, E, R>(operation: Effect.Effect<A, E, R>): Effect.Effect<A, E | StorageIoFailed, R> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        Effect.forkDetach(restore(operation), { startImmediately: true }),
        (fiber) =>
          restore(Effect.raceFirst(Fiber.join(fiber), this.#hanging())).pipe(
            Effect.onInterrupt(() => Effect.ignore(Effect.raceFirst(Fiber.interrupt(fiber), this.#hanging()))),
            Effect.onError(() => Effect.sync(() => fiber.interruptUnsafe()))
          )
      )
    )
  }
}
