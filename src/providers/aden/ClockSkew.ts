/** What is not told apart from no offset: `Date` has a resolution of one second. In ms. */
const resolution = 2_000
/** The largest offset that is believed, in ms: 5 minutes. */
const maximum = 300_000
const remembered = 5

/** One answer's times, all in ms: by the local clock, and by its own `Date`. */
export interface ClockSample {
  readonly sentAt: number
  readonly receivedAt: number
  readonly serverTime: number
}

/**
 * How far a server's clock is ahead of the local one, in ms: the median over the last five answers, each measured against
 * the middle of its request. Never stored.
 */
export class ClockOffset {
  readonly #samples: Array<number> = []

  record({ receivedAt, sentAt, serverTime }: ClockSample): void {
    this.#samples.push(serverTime - (sentAt + receivedAt) / 2)
    if (this.#samples.length > remembered) this.#samples.shift()
  }

  /** The median as measured, before it is judged. */
  get measured(): number {
    const sorted = this.#samples.toSorted((a, b) => a - b)
    return sorted[Math.floor(sorted.length / 2)] ?? 0
  }

  /** Whether more was measured than is believed. */
  get isClamped(): boolean {
    return Math.abs(this.measured) > maximum
  }

  /** The offset to correct local time by: zero under 2 s, at most 5 min either way. */
  get current(): number {
    const offset = this.measured
    return Math.abs(offset) < resolution ? 0 : Math.max(-maximum, Math.min(maximum, offset))
  }
}
