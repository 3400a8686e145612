/**
 * What comes next, for a known number of things of which each has at most one event ahead: a binary heap of them by time. Of
 * two at the same time the lower one comes first.
 */
export class EventQueue {
  readonly #times: Float64Array
  readonly #heap: Uint32Array
  /** Where each stands in the heap, plus one; 0: not at all. */
  readonly #places: Uint32Array
  #size = 0

  constructor(capacity: number) {
    this.#times = new Float64Array(capacity)
    this.#heap = new Uint32Array(capacity)
    this.#places = new Uint32Array(capacity)
  }

  /** When the next event is; `Infinity` when there is none. */
  get nextAt(): number {
    return this.#size === 0 ? Infinity : this.#time(this.#at(0))
  }

  /** What the next event belongs to. */
  get next(): number {
    return this.#at(0)
  }

  /** Gives something its next event, in the place of the one that it had. */
  set(item: number, time: number): void {
    this.#times[item] = time
    const place = this.#places[item] ?? 0
    if (place === 0) {
      this.#size++
      this.#rise(item, this.#size - 1)
    } else {
      this.#rise(item, place - 1)
      this.#sink(item, (this.#places[item] ?? 1) - 1)
    }
  }

  #rise(item: number, from: number): void {
    let place = from
    while (place > 0) {
      const parent = (place - 1) >> 1
      const other = this.#at(parent)
      if (!this.#isBefore(item, other)) break
      this.#put(other, place)
      place = parent
    }
    this.#put(item, place)
  }

  #sink(item: number, from: number): void {
    let place = from
    while (true) {
      let child = 2 * place + 1
      if (child >= this.#size) break
      if (child + 1 < this.#size && this.#isBefore(this.#at(child + 1), this.#at(child))) child++
      const other = this.#at(child)
      if (!this.#isBefore(other, item)) break
      this.#put(other, place)
      place = child
    }
    this.#put(item, place)
  }

  #isBefore(a: number, b: number): boolean {
    const difference = this.#time(a) - this.#time(b)
    return difference < 0 || (difference === 0 && a < b)
  }

  #put(item: number, place: number): void {
    this.#heap[place] = item
    this.#places[item] = place + 1
  }

  #at(place: number): number {
    return this.#heap[place] ?? 0
  }

  #time(item: number): number {
    return this.#times[item] ?? Infinity
  }
}
