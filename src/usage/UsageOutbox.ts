/**
 * What becomes of usage reports after they were handed over: they wait in a buffer, go through a `PersistedQueue`, and workers
 * take them out there and send them.
 *
 * The buffer is this package's own, because a `PersistedQueue` has no bound, drops nothing, and takes its time: it encodes what
 * it is offered, and may be on another machine. Delays, attempts and what survives the process are the queue's.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
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
import { usageQueueDepth, usageReports } from "../util/metrics.ts"
import { plainMetadata, plainText } from "./redactMetadata.ts"
import type { DeliveryFailure, Sender } from "./UsageDelivery.ts"
import { mayBeTakenLater, UsageDelivery } from "./UsageDelivery.ts"

/** A report as it was handed over. */
export interface UsageReport {
  /** Made once, so that a server can tell a repetition from another use. */
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
  /** Whether a report that got there needs this process no more. */
  readonly isDurable: boolean
  /** Drops what the queue remembers of reports that are done with. */
  readonly tidy: Effect.Effect<void, PersistedQueue.PersistedQueueError>
}

export type OpenTransit<R> = (
  options: Pick<UsageOutboxOptions, "maxAttempts" | "retry">
) => Effect.Effect<Transit, never, R | Scope.Scope>

const defaultRetry = Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("30 seconds")])

/** Between attempts when the scope closes, within `flushTimeout`. */
const lastRetry = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("1 second")])

/** How long to wait when the queue itself fails. */
const queuePause = "1 second"

/** Names of refused metadata are warned about once, and remembered so many. */
const maximumWarnings = 100

const countReports = (outcome: string) => Metric.withAttributes(usageReports, { outcome })
const received = countReports("received")
const rejected = countReports("rejected")
const abandoned = countReports("abandoned")
const dropped = countReports("dropped")

export class UsageOutbox {
  readonly #options: UsageOutboxOptions
  readonly #transit: Transit
  readonly #context: Context.Context<never>
  readonly #buffer: Queue.Queue<UsageReport>
  /** Taken out of the buffer and not done with: sent, given up, or in a durable queue. */
  readonly #held = new Map<string, UsageReport>()
  /** A queue in memory holds only as many as are being sent: the others wait in the buffer, where the oldest can be dropped. */
  readonly #places: Semaphore.Semaphore
  readonly #warned = new Set<string>()
  /** Aden limits the rate until then. */
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

  /** An outbox that works until the scope closes, and then gets rid of what is left. */
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

  /** A queue that ends with the process. */
  static readonly inMemory: OpenTransit<never> = Effect.fnUntraced(function*({ maxAttempts, retry }) {
    const services = yield* Layer.build(
      Layer.provideMerge(PersistedQueue.layer, Layer.fresh(PersistedQueue.layerStoreMemory))
    )
    const store = Context.get(services, PersistedQueue.PersistedQueueStore)
    return {
      queue: yield* openQueue("usage", { maxAttempts, retry }).pipe(Effect.provideContext(services)),
      isDurable: false,
      // it remembers for ever what it was offered, against a second offer of the same: here there is none
      tidy: store.cleanup({ timeToLive: Duration.zero, failedTimeToLive: Duration.zero })
    }
  })

  /** A queue that others keep, under this name. */
  static readonly persisted = (name: string): OpenTransit<PersistedQueue.PersistedQueueFactory> => (options) =>
    Effect.map(openQueue(name, options), (queue) => ({ queue, isDurable: true, tidy: Effect.void }))

  /** Takes a report over. Nothing here waits or fails. */
  put(report: UsageReport): void {
    if (this.#isClosed) return this.drop(1)
    if (Queue.isFullUnsafe(this.#buffer)) this.drop(1)
    else this.#changeDepth(1)
    Queue.offerUnsafe(this.#buffer, report)
  }

  /** Counts reports that are not sent. */
  drop(count: number): void {
    this.#droppedSinceWarning += count
    dropped.updateUnsafe(count, this.#context)
  }

  #changeDepth(by: number): void {
    usageQueueDepth.modifyUnsafe(by, this.#context)
  }

  /** The oldest report of the buffer, from now on held here. */
  #takeOut(): UsageReport | undefined {
    const next = Queue.takeUnsafe(this.#buffer)
    if (next === undefined || Exit.isFailure(next)) return undefined
    this.#held.set(next.value.key, next.value)
    return next.value
  }

  /** A report needs this process no more. */
  #release(key: string): void {
    if (this.#held.delete(key)) this.#changeDepth(-1)
  }

  /** A report has left the queue, and makes room for another in one that is in memory. */
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
      // between the two nothing else runs: interrupted, a report is in the buffer or held
      const report = this.#takeOut()
      if (report !== undefined) yield* this.#enqueue(report)
    }).pipe(Effect.forever)
  }

  readonly #enqueue = Effect.fnUntraced(function*(this: UsageOutbox, report: UsageReport) {
    const delivery = yield* this.#toDelivery(report)
    yield* this.#transit.queue.offer(delivery, { id: report.key }).pipe(
      Effect.retry({
        schedule: Schedule.spaced(queuePause),
        while: (error) => error._tag === "PersistedQueueError"
      })
    )
    if (this.#transit.isDurable) this.#release(report.key)
  }, (effect, report) =>
    Effect.catchCause(effect, (cause) => {
      if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
      this.#release(report.key)
      return Effect.andThen(this.#noteRejected(report.ref), this.#settle(report.key))
    }))

  /** Takes reports out of the queue and sends them, whatever became of the one before. */
  #work(): Effect.Effect<never> {
    return this.#transit.queue.take((delivery, { attempts, id }) => this.#attempt(delivery, id, attempts)).pipe(
      Effect.andThen(this.#transit.tidy),
      Effect.catchCause((cause) => {
        if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
        const error = Option.getOrUndefined(Cause.findErrorOption(cause))
        return error === undefined || error._tag === "PersistedQueueError"
          ? Effect.andThen(Effect.logDebug("The queue of usage reports fails"), Effect.sleep(queuePause))
          : Effect.void
      }),
      Effect.andThen(Effect.suspend(() => this.#warnOfDropped())),
      Effect.forever
    )
  }

  /** One attempt of the queue's. It fails where the queue is to try again. */
  readonly #attempt = Effect.fnUntraced(function*(
    this: UsageOutbox,
    delivery: UsageDelivery,
    key: string,
    attempts: number
  ): Effect.fn.Return<void, DeliveryFailure> {
    const pause = this.#pausedUntil - (yield* Clock.currentTimeMillis)
    if (pause > 0) yield* Effect.sleep(pause)
    const exit = yield* Effect.exit(this.#options.send(delivery, key))
    if (Exit.isSuccess(exit)) {
      yield* Metric.update(received, 1)
      yield* this.#settle(key)
      return
    }
    if (Cause.hasInterruptsOnly(exit.cause)) return yield* exit
    const error = Option.getOrUndefined(Exit.findErrorOption(exit))
    if (error === undefined || !mayBeTakenLater(error)) {
      yield* this.#noteRejected(delivery.ref, error)
      yield* this.#settle(key)
      return
    }
    if (error._tag === "RateLimited") {
      const until = (yield* Clock.currentTimeMillis) + Duration.toMillis(error.retryAfter)
      this.#pausedUntil = Math.max(this.#pausedUntil, until)
    }
    if (attempts >= this.#options.maxAttempts) {
      yield* Metric.update(abandoned, 1)
      yield* Effect.logWarning("A usage report was given up").pipe(
        Effect.annotateLogs({ credential: delivery.ref, attempts, error: error._tag, reason: error.message })
      )
      yield* this.#settle(key)
    }
    return yield* exit
  })

  /**
   * A report that cannot be taken: another attempt would end as this one did. Of what is no failure of Aden's nothing is said: a
   * fault in encoding may quote the metadata.
   */
  #noteRejected(ref: CredentialRef, error?: DeliveryFailure): Effect.Effect<void> {
    return Effect.andThen(
      Metric.update(rejected, 1),
      Effect.logDebug("A usage report was rejected").pipe(Effect.annotateLogs({
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
      yield* Effect.logWarning("Usage metadata that looks like a secret is left out").pipe(
        Effect.annotateLogs({ credential: report.ref, metadata: names })
      )
    }
    return { ...delivery, metadata }
  })

  #warnOfDropped(): Effect.Effect<void> {
    const count = this.#droppedSinceWarning
    if (count === 0 || Queue.isFullUnsafe(this.#buffer)) return Effect.void
    this.#droppedSinceWarning = 0
    return Effect.logWarning("Usage reports were dropped").pipe(Effect.annotateLogs({ count }))
  }

  /** Takes all that waited. */
  #takeAll(): ReadonlyArray<UsageReport> {
    while (this.#takeOut() !== undefined) {
      // each is held from now on
    }
    return [...this.#held.values()]
  }

  /**
   * Ends the workers and gets rid of what is left: into a durable queue; else to Aden, whatever delay the queue would have kept. What
   * the deadline leaves is lost, and counted.
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
      // a worker gives back to the queue what it had taken out, and a queue that does not answer has it try for long
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
