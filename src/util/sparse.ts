/**
 * Collections that are mostly empty, and take no memory for entries then: an empty `Map` takes 184 bytes, and a platform has a dozen for
 * each tenant.
 */

/** A map that is made with its first entry, and gone with its last. */
export class SparseMap<K, V> {
  #entries: Map<K, V> | undefined = undefined

  get size(): number {
    return this.#entries?.size ?? 0
  }

  has(key: K): boolean {
    return this.#entries?.has(key) === true
  }

  get(key: K): V | undefined {
    return this.#entries?.get(key)
  }

  set(key: K, value: V): void {
    const entries = this.#entries ??= new Map()
    entries.set(key, value)
  }

  delete(key: K): boolean {
    const isDeleted = this.#entries?.delete(key) === true
    if (this.#entries?.size === 0) this.#entries = undefined
    return isDeleted
  }

  clear(): void {
    this.#entries = undefined
  }

  keys(): Iterable<K> {
    return this.#entries?.keys() ?? []
  }

  values(): Iterable<V> {
    return this.#entries?.values() ?? []
  }

  [Symbol.iterator](): Iterator<[K, V]> {
    return (this.#entries ?? new Map<K, V>())[Symbol.iterator]()
  }
}

/** The same for a set. */
export class SparseSet<A> {
  #values: Set<A> | undefined = undefined

  get size(): number {
    return this.#values?.size ?? 0
  }

  has(value: A): boolean {
    return this.#values?.has(value) === true
  }

  add(value: A): void {
    const values = this.#values ??= new Set()
    values.add(value)
  }

  delete(value: A): boolean {
    const isDeleted = this.#values?.delete(value) === true
    if (this.#values?.size === 0) this.#values = undefined
    return isDeleted
  }

  clear(): void {
    this.#values = undefined
  }

  [Symbol.iterator](): Iterator<A> {
    return (this.#values ?? new Set<A>())[Symbol.iterator]()
  }
}
