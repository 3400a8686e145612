/** Less skew than this counts as none, in ms: `Date` has a resolution of one second. */
const resolution = 2_000
/** The largest skew that is corrected, in ms: 5 minutes. */
const maximum = 300_000
const sampleCount = 5

/** The times of one answer in ms since the epoch: two by the local clock, and its `Date` by the server's. */
export interface ClockSample {
  readonly sentAt: number
  readonly receivedAt: number
  readonly serverTime: number
}

/**
 * Clock skew: how far a server's clock is ahead of the local one, in ms. The median over the last five answers, each measured
 * against the middle of its request. Never stored.
 */
export class ClockSkew {
  readonly #samples: Array<number> = []
  #median = 0

  record({ receivedAt, sentAt, serverTime }: ClockSample): void {
    this.#samples.push(serverTime - (sentAt + receivedAt) / 2)
    if (this.#samples.length > sampleCount) this.#samples.shift()
    const sorted = this.#samples.toSorted((a, b) => a - b)
    this.#median = sorted[Math.floor(sorted.length / 2)] ?? 0
  }

  /** The median as measured, before rounding and clamping. */
  get measured(): number {
    return this.#median
  }

  /** Whether the measured skew exceeds what is corrected. */
  get isClamped(): boolean {
    return Math.abs(this.measured) > maximum
  }

  /** The correction for the local clock: zero under 2 s, at most 5 min either way. */
  get current(): number {
    const offset = this.measured
    return Math.abs(offset) < resolution ? 0 : Math.max(-maximum, Math.min(maximum, offset))
  }
}
