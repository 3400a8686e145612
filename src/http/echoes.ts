/**
 * Finds a credential in what an API answers, byte by byte, so that a stream stays a stream: only the end of what has arrived that may
 * be the beginning of the credential is held back.
 *
 * It is found as it is, and as servers write it who repeat what they were sent: with escapes of URLs, JSON and HTML in place of any of
 * its characters, as base64 of either alphabet with anything in front of it, and as hexadecimal digits.
 */

/** A shorter value is a word that an answer may hold anyway. */
export const shortestEcho = 8

/** Asterisks, as many as it has bytes: no length changes, and JSON and HTML stay what they are. */
const star = 0x2a

/**
 * The ways in which some secrets can be written, compiled for a search: an automaton of nodes, and the sets of nodes that a text leads
 * to, each worked out when it is first met.
 */
export class SecretForms {
  /** By node, the nodes that a byte leads to. The first node is where all forms begin. */
  readonly #after: Array<Map<number, Array<number>>> = [new Map()]
  readonly #ends = new Set<number>()
  #longest = 0
  #states = new Map<string, State>()
  /** Where no form has begun. */
  readonly nothing: State = stateOf([], false)

  constructor(secrets: ReadonlyArray<string>) {
    for (const secret of new Set(secrets)) {
      if (secret.length < shortestEcho) continue
      this.#add(Array.from(secret, writingsOf))
      for (const digits of base64Of(secret)) this.#add(Array.from(digits, writingsOfBase64))
      this.#add(Array.from(hexOf(encoder.encode(secret)), (digit) => [[eitherCase(digit)]]))
    }
  }

  /** Whether there is nothing to look for. */
  get isEmpty(): boolean {
    return this.#ends.size === 0
  }

  #add(signs: ReadonlyArray<ReadonlyArray<Writing>>): void {
    let from = 0
    for (const writings of signs) {
      const to = this.#node()
      for (const writing of writings) this.#lead(from, writing, to)
      from = to
    }
    this.#ends.add(from)
    const length = signs.reduce((sum, writings) => sum + Math.max(...writings.map((writing) => writing.length)), 0)
    this.#longest = Math.max(this.#longest, length)
  }

  #node(): number {
    return this.#after.push(new Map()) - 1
  }

  #lead(from: number, writing: Writing, to: number): void {
    let node = from
    for (const [index, bytes] of writing.entries()) {
      const after = index === writing.length - 1 ? to : this.#node()
      for (const byte of bytes) {
        const nodes = this.#after[node]
        nodes?.set(byte, [...nodes.get(byte) ?? [], after])
      }
      node = after
    }
  }

  #nodesAfter(node: number, byte: number): ReadonlyArray<number> {
    return this.#after[node]?.get(byte) ?? []
  }

  /** What a byte leads to, from a state that does not know it yet. */
  advance(state: State, byte: number): State {
    const nodes = Array.from(new Set([0, ...state.nodes].flatMap((node) => this.#nodesAfter(node, byte))))
      .toSorted((a, b) => a - b)
    const key = nodes.join()
    const next = nodes.length === 0
      ? this.nothing
      : this.#states.get(key) ?? stateOf(nodes, nodes.some((node) => this.#ends.has(node)))
    // a text may lead to more sets than memory should hold
    if (this.#states.size >= maximumStates) this.#states = new Map()
    this.#states.set(key, next)
    state.next[byte] = next
    return next
  }

  /** Where the forms that are open behind these bytes begin at the earliest, and where those that end there do; else the end. */
  beginnings(bytes: Uint8Array): { readonly open: number; readonly ended: number } {
    let open = new Map<number, number>()
    for (let place = Math.max(0, bytes.length - this.#longest); place < bytes.length; place++) {
      const next = new Map<number, number>()
      for (const [node, start] of [...open, [0, place] as const]) {
        for (const after of this.#nodesAfter(node, bytes[place] ?? 0)) {
          next.set(after, Math.min(start, next.get(after) ?? start))
        }
      }
      open = next
    }
    const ended = Array.from(open).flatMap(([node, start]) => this.#ends.has(node) ? [start] : [])
    return { open: Math.min(bytes.length, ...open.values()), ended: Math.min(bytes.length, ...ended) }
  }

  /** The text with asterisks in place of the secrets. */
  mask(text: string): string {
    if (this.isEmpty) return text
    const search = new Search(this)
    const masked = joined(search.push(encoder.encode(text)), search.finish())
    return search.isFound ? decoder.decode(masked) : text
  }

  holds(text: string): boolean {
    return this.mask(text) !== text
  }
}

/** A search through bytes that arrive in pieces. */
export class Search {
  readonly #forms: SecretForms
  #state: State
  /** What is held back, as it came. */
  #held = new Uint8Array(0)
  /** How much of what is held back, from its beginning, is masked. */
  #masks: ReadonlyArray<Mask> = []
  #isFound = false

  constructor(forms: SecretForms) {
    this.#forms = forms
    this.#state = forms.nothing
  }

  /** Whether a secret was found so far. */
  get isFound(): boolean {
    return this.#isFound
  }

  /** What can be handed on after the next bytes, with the secrets masked. */
  push(chunk: Uint8Array): Uint8Array<ArrayBuffer> {
    const bytes = joined(this.#held, chunk)
    const masks = [...this.#masks]
    let state = this.#state
    for (let place = this.#held.length; place < bytes.length; place++) {
      const byte = bytes[place] ?? 0
      state = state.next[byte] ?? this.#forms.advance(state, byte)
      if (state.isEnd) masks.push({ start: this.#forms.beginnings(bytes.subarray(0, place + 1)).ended, end: place + 1 })
    }
    this.#state = state
    this.#isFound ||= masks.length > 0
    const safe = state === this.#forms.nothing ? bytes.length : this.#forms.beginnings(bytes).open
    this.#held = bytes.slice(safe)
    this.#masks = masks.flatMap(({ end, start }) =>
      end <= safe ? [] : [{ start: Math.max(0, start - safe), end: end - safe }]
    )
    return masked(bytes, masks).slice(0, safe)
  }

  /** What was held back: it was the beginning of nothing. */
  finish(): Uint8Array<ArrayBuffer> {
    const rest = masked(this.#held, this.#masks)
    this.#held = new Uint8Array(0)
    this.#masks = []
    this.#state = this.#forms.nothing
    return rest
  }
}

// internal

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

const maximumStates = 4_000

/** A set of nodes, and the sets that bytes lead to from there, as far as they are known. */
interface State {
  readonly nodes: ReadonlyArray<number>
  readonly isEnd: boolean
  readonly next: Array<State | undefined>
}

const stateOf = (nodes: ReadonlyArray<number>, isEnd: boolean): State => ({
  nodes,
  isEnd,
  next: Array.from({ length: 256 })
})

interface Mask {
  readonly start: number
  readonly end: number
}

const masked = (bytes: Uint8Array<ArrayBuffer>, masks: ReadonlyArray<Mask>): Uint8Array<ArrayBuffer> => {
  if (masks.length === 0) return bytes
  const copy = bytes.slice()
  for (const { end, start } of masks) copy.fill(star, start, end)
  return copy
}

const joined = (first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> => {
  const both = new Uint8Array(first.length + second.length)
  both.set(first)
  both.set(second, first.length)
  return both
}

/** One way to write a character: for each byte of it, those that it may be. */
type Writing = ReadonlyArray<ReadonlyArray<number>>

const exactly = (bytes: Uint8Array): Writing => Array.from(bytes, (byte) => [byte])

const eitherCase = (digit: string): ReadonlyArray<number> => {
  const [lower, upper] = [digit.toLowerCase().charCodeAt(0), digit.toUpperCase().charCodeAt(0)]
  return lower === upper ? [lower] : [lower, upper]
}

/** Text with hexadecimal digits in either case. */
const ofAnyCase = (before: string, digits: string, after = ""): Writing => [
  ...exactly(encoder.encode(before)),
  ...Array.from(digits, eitherCase),
  ...exactly(encoder.encode(after))
]

const hexOf = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")

const escapedInJson = "\"\\/"
const namesInHtml: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  "\"": "&quot;",
  "'": "&apos;"
}

/** The ways to write a character: in URLs once or twice encoded, in JSON and in HTML. */
const writingsOf = (character: string): ReadonlyArray<Writing> => {
  const bytes = encoder.encode(character)
  const code = character.codePointAt(0) ?? 0
  const inHtml = namesInHtml[character]
  return [
    exactly(bytes),
    ...["%", "%25"].map((percent) =>
      Array.from(bytes, (byte) => ofAnyCase(percent, hexOf(Uint8Array.of(byte)))).flat()
    ),
    Array.from(character.split(""), (unit) => ofAnyCase("\\u", unit.charCodeAt(0).toString(16).padStart(4, "0")))
      .flat(),
    ofAnyCase("&#", String(code), ";"),
    ofAnyCase("&#x", code.toString(16), ";"),
    ...(character === " " ? [exactly(encoder.encode("+"))] : []),
    ...(escapedInJson.includes(character) ? [exactly(encoder.encode(`\\${character}`))] : []),
    ...(inHtml === undefined ? [] : [exactly(encoder.encode(inHtml))])
  ]
}

/** Signs of base64 need no escape, but for two, which another alphabet writes otherwise. */
const writingsOfBase64 = (sign: string): ReadonlyArray<Writing> => {
  const other = sign === "+" ? "-" : sign === "/" ? "_" : undefined
  return other === undefined ? [exactly(encoder.encode(sign))] : [...writingsOf(sign), exactly(encoder.encode(other))]
}

/**
 * The signs of base64 that a text determines, where 0, 1 or 2 bytes more than a multiple of 3 stand in front of it. Those that it
 * shares with what is in front or behind are left out.
 */
const base64Of = (text: string): ReadonlyArray<string> => {
  const bytes = encoder.encode(text)
  return [0, 1, 2].map((shift) => {
    const signs = btoa(String.fromCharCode(...new Uint8Array(shift), ...bytes))
    return signs.slice(Math.ceil(shift * 8 / 6), Math.floor((shift + bytes.length) * 8 / 6))
  })
}
