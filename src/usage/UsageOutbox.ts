/**
 * The outbox of usage reports: they wait in a buffer and go through a `PersistedQueue`, from which workers take and send them.
 *
 * The buffer is needed because a `PersistedQueue` is unbounded, drops nothing, and is slow: it encodes each item, and may be on
 * another machine. The queue is responsible for delays, attempts, and what survives the process.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as PersistedQueue from "effect/persistence/PersistedQueue"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { CredentialRef } from "../model/Credential.ts"
import { logDebug, logWarning } from "../util/logging.ts"
import { usageQueueDepth, usageReports } from "../util/metrics.ts"
import { monotonicMillis, withMonotonicTime } from "../util/monotonic.ts"
import { plainMetadata, plainText } from "./redactMetadata.ts"
import type { DeliveryFailure, Sender } from "./UsageDelivery.ts"
import { mayBeTakenLater, UsageDelivery } from "./UsageDelivery.ts"

/** A report as it was handed over. */
export interface UsageReport {
  /** Made once, so that a server can tell a retry from another use. */
  readonly key: string
  readonly ref: CredentialRef
  readonly at: number
  readonly operation: string
  readonly status: string
  readonly metadata?: Readonly<Record<string, Schema.Json>> | undefined
}

export interface UsageOutboxOptions {
  readonly capacity: number
  readonly concurrency: number
  readonly retry: Schedule.Schedule<unknown, number> | undefined
  readonly maxAttempts: number
  readonly flushTimeout: Duration.Duration
  readonly send: Sender
}

/** The queue between the buffer and the workers. */
interface Transit {
  readonly queue: PersistedQueue.PersistedQueue<UsageDelivery>
  /** Whether a report in the queue no longer needs this process. */
  readonly isDurable: boolean
  /** Drops what the queue remembers of finished reports. */
  readonly tidy: Effect.Effect<void, PersistedQueue.PersistedQueueError>
}

export type OpenTransit<R> = (
  options: Pick<UsageOutboxOptions, "maxAttempts" | "retry">
) => Effect.Effect<Transit, never, R | Scope.Scope>

const defaultRetry = Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("30 seconds")])

/** Between attempts when the scope closes, within `flushTimeout`. */
const lastRetry = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("1 second")])

/** How often a queue that fails is tried again. */
const queueRetryInterval = "1 second"

/** Each name of refused metadata is warned about once; this many names are remembered. */
const maximumWarnings = 100

const received = usageReports({ outcome: "received" })
const rejected = usageReports({ outcome: "rejected" })
const abandoned = usageReports({ outcome: "abandoned" })
const dropped = usageReports({ outcome: "dropped" })

export class UsageOutbox {
  readonly #options: UsageOutboxOptions
  readonly #transit: Transit
  readonly #context: Context.Context<never>
  readonly #buffer: Queue.Queue<UsageReport>
  /** Reports that left the buffer and are not finished: not yet sent, given up, or in a durable queue. */
  readonly #held = new Map<string, UsageReport>()
  /**
   * A queue in memory holds only the reports that are being sent: the others wait in the buffer, where the oldest can be dropped.
   */
  readonly #places: Semaphore.Semaphore
  readonly #warned = new Set<string>()
  /** Until then, in monotonic ms, Aden limits the rate. */
  #pausedUntil = -Infinity
  #droppedSinceWarning = 0
  #isClosed = false

  private constructor(
    options: UsageOutboxOptions,
    transit: Transit,
    context: Context.Context<never>,
    buffer: Queue.Queue<UsageReport>
  ) {
    this.#options = options
    this.#transit = transit
    this.#context = context
    this.#buffer = buffer
    this.#places = Semaphore.makeUnsafe(options.concurrency)
  }

  /** An outbox that works until the scope closes, and then delivers what is left. */
  static readonly make = Effect.fnUntraced(function*<R>(options: UsageOutboxOptions, open: OpenTransit<R>) {
    const outbox = new UsageOutbox(
      options,
      yield* open(options),
      yield* Effect.context<never>(),
      yield* Queue.sliding<UsageReport>(options.capacity)
    )
    const workers = yield* Scope.make()
    yield* Effect.addFinalizer(() => outbox.#flush(workers))
    yield* Effect.forkIn(outbox.#feed(), workers)
    yield* Effect.forEach(
      Array.from({ length: options.concurrency }),
      () => Effect.forkIn(outbox.#work(), workers),
      { discard: true }
    )
    return outbox
  })

  /** A queue in the memory of this process. */
  static readonly inMemory: OpenTransit<never> = Effect.fnUntraced(function*({ maxAttempts, retry }) {
    const services = yield* withMonotonicTime(
      Layer.build(Layer.provideMerge(PersistedQueue.layer, Layer.fresh(PersistedQueue.layerStoreMemory)))
    )
    const store = Context.get(services, PersistedQueue.PersistedQueueStore)
    return {
      queue: yield* openQueue("usage", { maxAttempts, retry }).pipe(Effect.provideContext(services)),
      isDurable: false,
      // it would remember the key of each item for ever, to detect duplicates: here there are none
      tidy: store.cleanup({ timeToLive: Duration.zero, failedTimeToLive: Duration.zero })
    }
  })

  /** A queue of this name in a `PersistedQueue` store. */
  static readonly persisted = (name: string): OpenTransit<PersistedQueue.PersistedQueueFactory> => (options) =>
    Effect.map(openQueue(name, options), (queue) => ({ queue, isDurable: true, tidy: Effect.void }))

  /** Takes over a report. Never waits and never fails. */
  put(report: UsageReport): void {
    if (this.#isClosed) return this.drop(1)
    if (Queue.isFullUnsafe(this.#buffer)) this.drop(1)
    else this.#changeDepth(1)
    Queue.offerUnsafe(this.#buffer, report)
  }

  /** Counts reports as dropped. */
  drop(count: number): void {
    this.#droppedSinceWarning += count
    dropped.updateUnsafe(count, this.#context)
  }

  #changeDepth(by: number): void {
    usageQueueDepth.modifyUnsafe(by, this.#context)
  }

  /** Moves the oldest report from the buffer to `#held`. */
  #takeOut(): UsageReport | undefined {
    const next = Queue.takeUnsafe(this.#buffer)
    if (next === undefined || Exit.isFailure(next)) return undefined
    this.#held.set(next.value.key, next.value)
    return next.value
  }

  /** A report no longer needs this process. */
  #release(key: string): void {
    if (this.#held.delete(key)) this.#changeDepth(-1)
  }

  /** A report has left the queue; in memory, that makes room for another. */
  #settle(key: string): Effect.Effect<unknown> {
    if (this.#transit.isDurable) return Effect.void
    this.#release(key)
    return this.#places.release(1)
  }

  /** Moves reports from the buffer into the queue. */
  #feed(): Effect.Effect<never> {
    const { isDurable } = this.#transit
    return Effect.gen({ self: this }, function*() {
      if (!isDurable) yield* this.#places.take(1)
      yield* Queue.peek(this.#buffer)
      // nothing else runs between the two: on interruption a report is in the buffer or held
      const report = this.#takeOut()
      if (report !== undefined) yield* this.#enqueue(report)
    }).pipe(Effect.forever)
  }

  readonly #enqueue = Effect.fnUntraced(function*(this: UsageOutbox, report: UsageReport) {
    const delivery = yield* this.#toDelivery(report)
    yield* this.#transit.queue.offer(delivery, { id: report.key }).pipe(
      Effect.retry({
        schedule: Schedule.spaced(queueRetryInterval),
        while: (error) => error._tag === "PersistedQueueError"
      })
    )
    if (this.#transit.isDurable) this.#release(report.key)
  }, (effect, report) =>
    Effect.catchCause(effect, (cause) => {
      if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
      this.#release(report.key)
      return Effect.andThen(this.#recordRejected(report.ref), this.#settle(report.key))
    }))

  /** Takes reports from the queue and sends them. One that fails does not stop the next. */
  #work(): Effect.Effect<never> {
    return this.#transit.queue.take((delivery, { attempts, id }) => this.#attempt(delivery, id, attempts)).pipe(
      Effect.andThen(this.#transit.tidy),
      Effect.catchCause((cause) => {
        if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
        const error = Option.getOrUndefined(Cause.findErrorOption(cause))
        return error === undefined || error._tag === "PersistedQueueError"
          ? Effect.andThen(logDebug("The queue of usage reports fails"), Effect.sleep(queueRetryInterval))
          : Effect.void
      }),
      Effect.andThen(Effect.suspend(() => this.#warnOfDropped())),
      Effect.forever
    )
  }

  /** One attempt. It fails if the queue should try again. */
  readonly #attempt = Effect.fnUntraced(function*(
    this: UsageOutbox,
    delivery: UsageDelivery,
    key: string,
    attempts: number
  ): Effect.fn.Return<void, DeliveryFailure> {
    const wait = this.#pausedUntil - (yield* monotonicMillis)
    if (wait > 0) yield* Effect.sleep(wait)
    const exit = yield* Effect.exit(this.#options.send(delivery, key))
    if (Exit.isSuccess(exit)) {
      yield* Metric.update(received, 1)
      yield* this.#settle(key)
      return
    }
    if (Cause.hasInterruptsOnly(exit.cause)) return yield* exit
    const error = Option.getOrUndefined(Exit.findErrorOption(exit))
    if (error === undefined || !mayBeTakenLater(error)) {
      yield* this.#recordRejected(delivery.ref, error)
      yield* this.#settle(key)
      return
    }
    if (error._tag === "RateLimited") {
      const until = (yield* monotonicMillis) + Duration.toMillis(error.retryAfter)
      this.#pausedUntil = Math.max(this.#pausedUntil, until)
    }
    if (attempts >= this.#options.maxAttempts) {
      yield* Metric.update(abandoned, 1)
      yield* logWarning("A usage report was given up").pipe(
        Effect.annotateLogs({ credential: delivery.ref, attempts, error: error._tag, reason: error.message })
      )
      yield* this.#settle(key)
    }
    return yield* exit
  })

  /**
   * A report that can never be accepted: another attempt would end the same way. The details of an encoding failure are not
   * logged: they may quote the metadata.
   */
  #recordRejected(ref: CredentialRef, error?: DeliveryFailure): Effect.Effect<void> {
    return Effect.andThen(
      Metric.update(rejected, 1),
      logDebug("A usage report was rejected").pipe(Effect.annotateLogs({
        credential: ref,
        ...(error === undefined ? { reason: "it cannot be encoded" } : { error: error._tag, reason: error.message })
      }))
    )
  }

  readonly #toDelivery = Effect.fnUntraced(function*(this: UsageOutbox, report: UsageReport) {
    const delivery = {
      ref: report.ref,
      operation: plainText(report.operation),
      status: plainText(report.status),
      at: report.at
    }
    if (report.metadata === undefined) return delivery
    const { metadata, refused } = plainMetadata(report.metadata)
    const names = refused.join(", ")
    if (names !== "" && !this.#warned.has(names) && this.#warned.size < maximumWarnings) {
      this.#warned.add(names)
      yield* logWarning("Usage metadata that looks like a secret is left out").pipe(
        Effect.annotateLogs({ credential: report.ref, metadata: names })
      )
    }
    return { ...delivery, metadata }
  })

  #warnOfDropped(): Effect.Effect<void> {
    const count = this.#droppedSinceWarning
    if (count === 0 || Queue.isFullUnsafe(this.#buffer)) return Effect.void
    this.#droppedSinceWarning = 0
    return logWarning("Usage reports were dropped").pipe(Effect.annotateLogs({ count }))
  }

  /** Moves all waiting reports to `#held`, and returns all that are held. */
  #takeAll(): ReadonlyArray<UsageReport> {
    while (this.#takeOut() !== undefined) {
      // `#takeOut` holds it
    }
    return [...this.#held.values()]
  }

  /**
   * Ends the workers and delivers what is left: into a durable queue, or else to Aden without the delays of the queue. What
   * remains at the deadline is dropped and counted.
   */
  #flush(workers: Scope.Closeable): Effect.Effect<void> {
    const { concurrency, flushTimeout, send } = this.#options
    const last = Effect.fnUntraced(
      { self: this },
      function*(report: UsageReport) {
        if (this.#transit.isDurable) yield* this.#enqueue(report)
        else {
          yield* Effect.retry(send(yield* this.#toDelivery(report), report.key), {
            schedule: lastRetry,
            while: mayBeTakenLater
          })
          yield* Metric.update(received, 1)
          this.#release(report.key)
        }
      },
      (effect) => Effect.catchCause(effect, (cause) => Cause.hasInterruptsOnly(cause) ? Effect.interrupt : Effect.void)
    )
    return Effect.gen({ self: this }, function*() {
      this.#isClosed = true
      // a worker returns to the queue what it had taken, which takes long if the queue does not answer
      const ended = yield* Effect.forkDetach(Scope.close(workers, Exit.void), { startImmediately: true })
      yield* Fiber.await(ended).pipe(
        Effect.andThen(
          Effect.suspend(() => Effect.forEach(this.#takeAll(), last, { concurrency, discard: true }))
        ),
        Effect.interruptible,
        Effect.timeoutOption(flushTimeout)
      )
      const left = this.#takeAll()
      if (left.length > 0) this.drop(left.length)
      for (const { key } of left) this.#release(key)
      yield* this.#warnOfDropped()
    })
  }
}

const openQueue = (name: string, { maxAttempts, retry = defaultRetry }: Parameters<OpenTransit<never>>[0]) =>
  PersistedQueue.make({ name, schema: UsageDelivery, maxAttempts, retrySchedule: retry })
