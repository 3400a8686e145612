/**
 * Time that passes when the simulator says so. It is the clock and the scheduler of a simulated world in one, because time may pass
 * only where nothing can go on without it. All that happens between two steps happens in one turn of the event loop, without a timer
 * or a promise.
 */
import { Duration, Effect } from "effect"
import type { Clock, Fiber, Scheduler } from "effect"

/** Somebody who sleeps: until when, by the timer in ms, and in which order they went to sleep. */
interface Sleeper {
  readonly until: number
  readonly order: number
  readonly resume: (effect: Effect.Effect<void>) => void
  isAwake: boolean
}

/** More tasks than this at one point of time are an endless loop. */
const mostTasks = 200_000

export class VirtualTime implements Clock.Clock, Scheduler.Scheduler {
  readonly executionMode = "async"
  /** How far the time of day is ahead of what timers say: the machine has slept, or its clock was set. */
  suspended = 0
  /** How many sleep. */
  sleeps = 0
  /** How long timers have run, in ms. */
  timer = 0
  readonly #epoch: number
  readonly #sleepers = new Sleepers()
  readonly #tasks: Array<() => void> = []
  #next = 0
  #isRunning = false
  #slept = 0

  /** `epoch`: the time of day at the beginning. */
  constructor(epoch: number) {
    this.#epoch = epoch
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Passing
  // -------------------------------------------------------------------------------------------------------------------

  /** Runs everything that can run without time passing. False: it does not come to rest. */
  readonly settle: Effect.Effect<boolean> = Effect.sync(() => this.#drain(mostTasks))

  /** The same, for as long as this takes in ms. */
  advance(duration: number): Effect.Effect<boolean> {
    return Effect.sync(() => {
      const end = this.timer + duration
      while (this.#drain(mostTasks)) {
        const sleeper = this.#sleepers.takeUntil(end)
        this.timer = sleeper?.until ?? end
        if (sleeper === undefined) return this.#drain(mostTasks)
        sleeper.isAwake = true
        this.sleeps--
        sleeper.resume(Effect.void)
      }
      return false
    })
  }

  #drain(most: number): boolean {
    for (let left = most; left > 0; left--) {
      const task = this.#tasks[this.#next]
      if (task === undefined) {
        this.#tasks.length = 0
        this.#next = 0
        return true
      }
      this.#next++
      task()
    }
    return false
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Clock
  // -------------------------------------------------------------------------------------------------------------------

  currentTimeMillisUnsafe(): number {
    // jittered delays end between two of them
    return Math.floor(this.#epoch + this.timer) + this.suspended
  }

  currentTimeNanosUnsafe(): bigint {
    return nanosOf(this.#epoch + this.suspended) + nanosOf(this.timer)
  }

  monotonicTimeNanosUnsafe(): bigint {
    return nanosOf(this.timer)
  }

  readonly currentTimeMillis = Effect.sync(() => this.currentTimeMillisUnsafe())
  readonly currentTimeNanos = Effect.sync(() => this.currentTimeNanosUnsafe())
  readonly monotonicTimeNanos = Effect.sync(() => this.monotonicTimeNanosUnsafe())

  sleep(duration: Duration.Duration): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const until = this.timer + Duration.toMillis(duration)
      if (until <= this.timer) return resume(Effect.void)
      this.sleeps++
      const sleeper: Sleeper = { until, order: ++this.#slept, resume, isAwake: false }
      this.#sleepers.add(sleeper)
      return Effect.sync(() => {
        if (sleeper.isAwake) return
        sleeper.isAwake = true
        this.sleeps--
        this.#sleepers.left()
      })
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Scheduler
  // -------------------------------------------------------------------------------------------------------------------

  shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    return fiber.currentOpCount >= fiber.cache.maxOpsBeforeYield
  }

  makeDispatcher(): Scheduler.SchedulerDispatcher {
    return this.#dispatcher
  }

  /** Who steps through the world runs by this scheduler too: where it waits for others, they go on in the next turn. */
  readonly #dispatcher: Scheduler.SchedulerDispatcher = {
    scheduleTask: (task) => {
      this.#tasks.push(task)
      if (this.#isRunning) return
      this.#isRunning = true
      queueMicrotask(() => {
        this.#isRunning = false
        this.#drain(Infinity)
      })
    },
    flush: () => void this.#drain(Infinity)
  }
}

const nanosOf = (millis: number): bigint =>
  BigInt(Math.floor(millis)) * 1_000_000n +
  BigInt(Math.floor((millis - Math.floor(millis)) * 1_000_000))

/** A binary heap of those who sleep. Who has left it early is passed over, and swept out when most have. */
class Sleepers {
  #heap: Array<Sleeper> = []
  #gone = 0

  add(sleeper: Sleeper): void {
    const heap = this.#heap
    let place = heap.length
    heap.push(sleeper)
    while (place > 0) {
      const above = (place - 1) >> 1
      const parent = heap[above]
      if (parent === undefined || !isBefore(sleeper, parent)) break
      heap[place] = parent
      place = above
    }
    heap[place] = sleeper
  }

  /** One of them is awake that was not taken. */
  left(): void {
    this.#gone++
    if (this.#gone < 32 || 2 * this.#gone < this.#heap.length) return
    // in order, an array is a heap
    this.#heap = this.#heap.filter(({ isAwake }) => !isAwake).toSorted((a, b) => isBefore(a, b) ? -1 : 1)
    this.#gone = 0
  }

  /** Takes the first, if it sleeps until then at the latest. */
  takeUntil(end: number): Sleeper | undefined {
    while (true) {
      const [first] = this.#heap
      if (first === undefined || (!first.isAwake && first.until > end)) return undefined
      this.#removeFirst()
      if (!first.isAwake) return first
      this.#gone--
    }
  }

  #removeFirst(): void {
    const heap = this.#heap
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let place = 0
    while (true) {
      const left = heap[2 * place + 1]
      const right = heap[2 * place + 2]
      if (left === undefined) break
      const isRight = right !== undefined && isBefore(right, left)
      const child = isRight ? right : left
      if (!isBefore(child, last)) break
      heap[place] = child
      place = 2 * place + (isRight ? 2 : 1)
    }
    heap[place] = last
  }
}

const isBefore = (a: Sleeper, b: Sleeper): boolean => a.until < b.until || (a.until === b.until && a.order < b.order)
