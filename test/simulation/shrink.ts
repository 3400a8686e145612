/**
 * Makes a failing program smaller, as long as it breaks the same rule.
 */
import { Effect } from "effect"
import type { Config, FaultRule, Program, Step } from "./Program.ts"
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
  for (let isSmaller = true; isSmaller;) {
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
    for (const simpler of simplerWorlds) {
      const candidate = simpler(best)
      if (candidate !== best && (yield* attempt(candidate))) isSmaller = true
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
    case "Fault": {
      const { rule } = step
      const simpler: Array<FaultRule> = []
      if (rule.id !== undefined) simpler.push({ ...rule, id: undefined })
      if (rule.times !== 1) simpler.push({ ...rule, times: 1 })
      if (rule.endpoint !== "any") simpler.push({ ...rule, endpoint: "any" })
      return simpler.map((rule) => ({ ...step, rule }))
    }
    case "Interrupt":
      return step.share === 1 ? [] : [{ ...step, share: 1 }]
    default:
      return []
  }
}

const roundTimes = [100, 1_000, 10_000, 60_000, 600_000, 3_600_000, 86_400_000]

const plain = {
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

/** Without one of the instances that no step needs, without one of the integrations, and with one plain setting after another. */
const simplerWorlds: ReadonlyArray<(program: Program) => Program> = [
  ...[2, 1, 0].map((instance) => (program: Program): Program => {
    const { config, steps } = program
    const isUsed = steps.some((step) => "instance" in step && step.instance === instance)
    return config.instances.length === 1 || instance >= config.instances.length || isUsed ? program : {
      ...program,
      config: { ...config, instances: config.instances.toSpliced(instance, 1) },
      steps: steps.map((step) =>
        "instance" in step && step.instance > instance ? { ...step, instance: step.instance - 1 } : step
      )
    }
  }),
  ...[4, 3, 2, 1, 0].map((index) => (program: Program): Program => {
    const { integrations } = program.config
    return integrations.length === 1 || index >= integrations.length
      ? program
      : { ...program, config: { ...program.config, integrations: integrations.toSpliced(index, 1) } }
  }),
  ...Object.entries(plain).map(([name, value]) => (program: Program): Program => {
    const config: Config = { ...program.config, [name]: value }
    return JSON.stringify(config) === JSON.stringify(program.config) ? program : { ...program, config }
  })
]
