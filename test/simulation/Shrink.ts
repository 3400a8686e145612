/**
 * Makes a failing program smaller, as long as it breaks the same rule.
 */
import { Effect } from "effect"
import type { Config, Program, Step } from "./Program.ts"
import type { Run } from "./Simulator.ts"

/** The smallest program found that breaks the rule that this one breaks; at most `budget` runs are spent on it. */
export const shrink = Effect.fnUntraced(function*(
  program: Program,
  options: {
    readonly rule: string
    readonly budget: number
    readonly run: (program: Program) => Effect.Effect<Run>
  }
) {
  let best = program
  let left = options.budget
  const attempt = Effect.fnUntraced(function*(candidate: Program) {
    if (left <= 0) return false
    left--
    const { violation } = yield* options.run(candidate)
    if (violation?.rule !== options.rule) return false
    // nothing after the step that went wrong matters
    best = { ...candidate, steps: candidate.steps.slice(0, Math.max(violation.step, 1)) }
    return true
  })

  yield* attempt(program)
  for (let isSmaller = true; isSmaller && left > 0;) {
    isSmaller = false
    for (let size = Math.ceil(best.steps.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
      for (let start = best.steps.length - size; start >= 0; start = Math.min(start, best.steps.length) - size) {
        const steps = best.steps.toSpliced(start, size)
        if (yield* attempt({ ...best, steps })) isSmaller = true
      }
    }
    for (let index = 0; index < best.steps.length; index++) {
      const step = best.steps[index]
      if (step === undefined) break
      for (const simpler of simplerSteps(step)) {
        if (yield* attempt({ ...best, steps: best.steps.with(index, simpler) })) {
          isSmaller = true
          break
        }
      }
    }
    for (const config of simplerConfigs(best)) {
      if (yield* attempt({ ...best, config })) isSmaller = true
    }
  }
  return best
})

const simplerSteps = (step: Step): ReadonlyArray<Step> => {
  switch (step._tag) {
    case "Read": {
      const { reads } = step
      if (reads.length > 1) {
        const half = reads.length >> 1
        return [
          { ...step, reads: reads.slice(0, half) },
          { ...step, reads: reads.slice(half) },
          { ...step, reads: reads.slice(1) },
          { ...step, reads: reads.slice(0, -1) }
        ]
      }
      return reads.some(({ method }) => method !== "token")
        ? [{ ...step, reads: reads.map(({ ref }) => ({ ref, method: "token" })) }]
        : []
    }
    case "Advance":
    case "Suspend":
      return roundTimes.filter((time) => time < step.duration).toReversed().map((duration) => ({ ...step, duration }))
    case "Fault":
      return step.rule.id === undefined && step.rule.endpoint === "any" && step.rule.times === 1
        ? []
        : [
          { ...step, rule: { ...step.rule, id: undefined } },
          { ...step, rule: { ...step.rule, times: 1 } },
          { ...step, rule: { ...step.rule, endpoint: "any" } }
        ].filter(({ rule }) => JSON.stringify(rule) !== JSON.stringify(step.rule)) as ReadonlyArray<Step>
    case "Interrupt":
      return step.share === 1 ? [] : [{ ...step, share: 1 }]
    default:
      return []
  }
}

const roundTimes = [100, 1_000, 10_000, 60_000, 600_000, 3_600_000, 86_400_000]

const simplerConfigs = ({ config, steps }: Program): ReadonlyArray<Config> => {
  const used = new Set(steps.flatMap((step) => "seat" in step ? [step.seat] : []))
  const candidates: Array<Config> = []
  const last = config.seats.length - 1
  if (last > 0 && !used.has(last)) candidates.push({ ...config, seats: config.seats.slice(0, last) })
  for (const integration of config.integrations) {
    if (config.integrations.length === 1) break
    candidates.push({ ...config, integrations: config.integrations.filter((other) => other !== integration) })
  }
  const plain: Partial<Config> = {
    hasSharedLock: true,
    renewsOnGet: true,
    clockSkew: 0,
    latency: 40,
    autoRefresh: true,
    cacheTtl: 300_000,
    deadline: 30_000,
    maxStale: 86_400_000,
    refreshBuffer: 300_000,
    reportsUsage: false
  }
  for (const [name, value] of Object.entries(plain)) {
    const candidate = { ...config, [name]: value }
    if (JSON.stringify(candidate) !== JSON.stringify(config)) candidates.push(candidate)
  }
  return candidates
}
