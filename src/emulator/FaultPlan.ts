/**
 * The faults that are set, and which of them a request meets.
 */
import * as Effect from "effect/Effect"
import type * as Predicate from "effect/Predicate"
import { type AnswerMiddleware, type Fault, inject, surrounding, withDate } from "./Fault.ts"
import type { EmulatorEndpoint } from "./RequestLog.ts"

/**
 * Which requests a fault meets: all to Aden's six endpoints where nothing is said. With `times` it ends by itself after so
 * many requests.
 *
 * A request meets the first fault set of those that make or change the answer, so that a row of faults with `times` is a
 * script: a 503, then a 429, then an answer. What surrounds the answer (`Latency`, `SlowBody`, `ClockSkew`, `DateHeader`,
 * `TokenLifetime`) it meets besides, one of each.
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

/** A fault that is set, and how many requests it still meets. */
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
  /** The faults that are set, in the order in which they were. */
  readonly list: Effect.Effect<ReadonlyArray<SetFault>>
  /** Ends the fault of this number. Nothing where it has ended. */
  readonly end: (number: number) => Effect.Effect<void>
  readonly clear: Effect.Effect<void>
  /** Puts the faults that the request meets around its answer; `onFault` is told of each that acts. */
  readonly play: (facts: RequestFacts, onFault: (fault: Fault) => void) => AnswerMiddleware
}

/** What a fault meets where nothing is named: what a person meets in a browser is left alone. */
export const endpointsOfAden = ["list", "get", "refresh", "validate", "usage", "health"] as const

const meets = (match: FaultMatch, facts: RequestFacts): boolean => {
  const endpoints: EmulatorEndpoint | ReadonlyArray<EmulatorEndpoint> = match.endpoint ?? endpointsOfAden
  return (typeof endpoints === "string" ? endpoints === facts.endpoint : endpoints.includes(facts.endpoint)) &&
    (match.integrationId === undefined || match.integrationId === facts.integrationId) &&
    (match.tenantId === undefined || match.tenantId === facts.tenantId)
}

export const make: Effect.Effect<FaultPlan> = Effect.sync(() => {
  let plan: ReadonlyArray<SetFault> = []
  let numbered = 0

  const take = (kind: Predicate.Predicate<Fault["_tag"]>, facts: RequestFacts): Fault | undefined => {
    const entry = plan.find((entry) => kind(entry.fault._tag) && meets(entry.match, facts))
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
      // taken when the request comes to it, after any latency: what was cleared meanwhile does not act
      const meet = (kind: Predicate.Predicate<Fault["_tag"]>): AnswerMiddleware => (answer) =>
        Effect.suspend(() => {
          const fault = take(kind, facts)
          if (fault === undefined) return answer
          onFault(fault)
          return inject(fault)(answer)
        })
      return surrounding.reduce(
        (answer, tag) => meet((other) => other === tag)(answer),
        withDate(meet((tag) => !surrounding.includes(tag))(answer))
      )
    }
  }
})
