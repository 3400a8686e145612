import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type { Credential } from "../model/Credential.ts"
import { clockTolerance } from "../model/freshness.ts"
import type { Entry } from "./core/Entry.ts"
import { emptyEntry } from "./core/Entry.ts"
import { Answer } from "./fastRead.ts"
import { PolicyStep, sharedStep } from "./PolicyStep.ts"
import type { RefreshPolicies } from "./RefreshPolicy.ts"

/** The policies that are stepped for each credential. */
export type Policy = Exclude<keyof RefreshPolicies, "missing">

/**
 * The place of one credential in memory: its entry, its policies, and the decision to serve that holds for reads until the entry
 * changes.
 */
export class Cell {
  readonly id: string
  readonly #policies: RefreshPolicies
  /** Of the policies whose steps are not shared. */
  #steps: Map<Policy, PolicyStep> | undefined = undefined
  #entry: Entry
  #waiting: Set<() => void> | undefined = undefined
  /** A read between these times, in ms, does no work but to return one of the answers. */
  serveFrom = Infinity
  serveUntil = -Infinity
  #served: Credential | undefined = undefined
  #answer: Answer<Credential> | undefined = undefined
  #token: Answer<Redacted.Redacted<string>> | undefined = undefined

  constructor(id: string, policies: RefreshPolicies) {
    this.id = id
    this.#policies = policies
    this.#entry = emptyEntry(id)
  }

  get entry(): Entry {
    return this.#entry
  }

  /** Takes what `transition` made of the entry. */
  put(entry: Entry): void {
    this.#entry = entry
    this.reconsider()
  }

  /** Takes a value over that decides the same. */
  note(entry: Entry): void {
    this.#entry = entry
  }

  /** The last decision holds no more, and those who wait for a change look again. */
  reconsider(): void {
    this.serveUntil = -Infinity
    this.#served = undefined
    this.#answer = undefined
    this.#token = undefined
    const waiting = this.#waiting
    this.#waiting = undefined
    if (waiting !== undefined) { for (const wake of waiting) wake() }
  }

  /** Until then, in ms, a read is served this credential. */
  serve(credential: Credential, until: number): void {
    this.#served = credential
    this.#answer = undefined
    this.#token = undefined
    this.serveFrom = this.#entry.at - clockTolerance
    this.serveUntil = until
  }

  /** What reads of the credential are served. */
  get answer(): Answer<Credential> | undefined {
    return this.#answer ??= this.#served === undefined ? undefined : new Answer(this.#served)
  }

  /** What reads of the token are served; `undefined` also where there is none. */
  get token(): Answer<Redacted.Redacted<string>> | undefined {
    if (this.#token !== undefined) return this.#token
    const key = this.#served?.defaultKey
    return key === undefined ? undefined : this.#token = new Answer(key.value)
  }

  /** Waits until the entry is another than the one that was seen. */
  changedSince(seen: Entry): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      if (this.#entry !== seen) return resume(Effect.void)
      const wake = () => resume(Effect.void)
      this.#waiting ??= new Set()
      this.#waiting.add(wake)
      return Effect.sync(() => this.#waiting?.delete(wake))
    })
  }

  step(policy: Policy): PolicyStep {
    const present = sharedStep(this.#policies[policy]) ?? this.#steps?.get(policy)
    if (present !== undefined) return present
    const made = new PolicyStep(this.#policies[policy])
    this.#steps ??= new Map()
    this.#steps.set(policy, made)
    return made
  }

  /** The policy starts again from its first step. */
  restart(policy: Policy): void {
    this.#steps?.delete(policy)
  }
}
