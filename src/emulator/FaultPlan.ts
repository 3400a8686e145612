/**
 * The faults that are set, and which of them apply to a request.
 */
import * as Effect from "effect/Effect"
import type * as Predicate from "effect/Predicate"
import { type AnswerMiddleware, type Fault, inject, withDate, wrapping } from "./Fault.ts"
import type { EmulatorEndpoint } from "./RequestLog.ts"

/**
 * Which requests a fault applies to: all to Aden's six endpoints by default. With `times` it ends by itself after that many
 * requests.
 *
 * Of the faults that replace or change the answer, the one that was set first applies. So several of them with `times` are a
 * script: a 503, then a 429, then an answer. Those that wrap the answer (`Latency`, `SlowBody`, `ClockSkew`, `DateHeader`,
 * `TokenLifetime`) apply in addition, one of each.
 *
 * @since 0.1.0
 * @category models
 */
export interface FaultMatch {
  readonly endpoint?: EmulatorEndpoint | ReadonlyArray<EmulatorEndpoint> | undefined
  readonly integrationId?: string | undefined
  readonly tenantId?: string | undefined
  readonly times?: number | undefined
}

/** A fault that is set, and how many requests it still applies to. */
export interface SetFault {
  readonly number: number
  readonly fault: Fault
  readonly match: FaultMatch
  readonly left: number
}

interface RequestFacts {
  readonly endpoint: EmulatorEndpoint
  readonly integrationId: string | undefined
  readonly tenantId: string | undefined
}

export interface FaultPlan {
  readonly set: (fault: Fault, match: FaultMatch) => Effect.Effect<void>
  /** The faults in the order in which they were set. */
  readonly list: Effect.Effect<ReadonlyArray<SetFault>>
  /** Ends the fault with this number, unless it has ended. */
  readonly end: (number: number) => Effect.Effect<void>
  readonly clear: Effect.Effect<void>
  /** Applies the faults that match the request to its answer, and calls `onFault` for each that takes effect. */
  readonly play: (facts: RequestFacts, onFault: (fault: Fault) => void) => AnswerMiddleware
}

/** The endpoints that a fault applies to by default: not the pages for a person with a browser. */
export const endpointsOfAden = ["list", "get", "refresh", "validate", "usage", "health"] as const

const matches = (match: FaultMatch, facts: RequestFacts): boolean => {
  const endpoints: EmulatorEndpoint | ReadonlyArray<EmulatorEndpoint> = match.endpoint ?? endpointsOfAden
  return (typeof endpoints === "string" ? endpoints === facts.endpoint : endpoints.includes(facts.endpoint)) &&
    (match.integrationId === undefined || match.integrationId === facts.integrationId) &&
    (match.tenantId === undefined || match.tenantId === facts.tenantId)
}

export const make: Effect.Effect<FaultPlan> = Effect.sync(() => {
  let plan: ReadonlyArray<SetFault> = []
  let numbered = 0

  const take = (kind: Predicate.Predicate<Fault["_tag"]>, facts: RequestFacts): Fault | undefined => {
    const entry = plan.find((entry) => kind(entry.fault._tag) && matches(entry.match, facts))
    if (entry === undefined) return undefined
    const left = entry.left - 1
    plan = plan.flatMap((other) => other !== entry ? [other] : left <= 0 ? [] : [{ ...entry, left }])
    return entry.fault
  }

  return {
    set: (fault, match) =>
      Effect.suspend(() => {
        if ("status" in fault && fault.status !== undefined && !(fault.status >= 200 && fault.status <= 599)) {
          return Effect.die(new Error(`A fault answers with a status from 200 to 599, not ${fault.status}.`))
        }
        const left = match.times ?? Number.POSITIVE_INFINITY
        if (left > 0) plan = [...plan, { number: ++numbered, fault, match, left }]
        return Effect.void
      }),
    list: Effect.sync(() => plan),
    end: (number) =>
      Effect.sync(() => {
        plan = plan.filter((entry) => entry.number !== number)
      }),
    clear: Effect.sync(() => {
      plan = []
    }),
    play: (facts, onFault) => (answer) => {
      // taken only now, after any latency: a fault that was cleared in the meantime does not apply
      const apply = (kind: Predicate.Predicate<Fault["_tag"]>): AnswerMiddleware => (answer) =>
        Effect.suspend(() => {
          const fault = take(kind, facts)
          if (fault === undefined) return answer
          onFault(fault)
          return inject(fault)(answer)
        })
      return wrapping.reduce(
        (answer, tag) => apply((other) => other === tag)(answer),
        withDate(apply((tag) => !wrapping.includes(tag))(answer))
      )
    }
  }
})
