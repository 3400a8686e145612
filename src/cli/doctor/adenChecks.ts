/**
 * Whether Aden is there, takes the API key, and has the same idea of the time.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { AdenClient } from "../../providers/aden/AdenClient.ts"
import { durationText, latencyText } from "../../util/humanTime.ts"
import { ExitStatus } from "../ExitStatus.ts"
import { failed, failure, ok, skipped, warning } from "./Finding.ts"
import type { Finding } from "./Finding.ts"

/** Aden's clock is believed to be at most as far off as this, in ms: see AdenClient. */
const believed = 300_000

const setClock = "Set this machine's clock by NTP."

export const adenChecks: Effect.Effect<ReadonlyArray<Finding>, never, AdenClient> = Effect.gen(function*() {
  const client = yield* AdenClient
  const health = yield* Effect.match(client.healthCheck, {
    onFailure: (error) => failed("Aden", error),
    onSuccess: ({ latency, status }) => ok("Aden", `Aden answers in ${latencyText(latency)}: ${status}`)
  })
  const list = yield* Effect.match(client.listIntegrations, {
    onFailure: (error) => failed("Aden", error),
    onSuccess: ({ accounts }) => ok("Aden", `Aden takes the API key, and lists ${accounts.length} integrations`)
  })
  const isReached = [health, list].some(({ exitCode }) => exitCode !== ExitStatus.adenUnavailable)
  const clock = isReached
    ? clockFinding(yield* client.clockOffset)
    : skipped("clock", "It is compared with Aden's, which cannot be reached")
  // one failure is enough where nobody answers
  return isReached ? [health, list, clock] : [health, clock]
})

const clockFinding = (offset: number): Finding => {
  if (offset === 0) return ok("clock", "This machine's clock agrees with Aden's")
  const side = offset > 0 ? "behind" : "ahead of"
  if (Math.abs(offset) < believed) {
    const by = durationText(Duration.millis(Math.abs(offset)))
    return warning("clock", {
      message: `This machine's clock is ${by} ${side} Aden's, which is allowed for`,
      remedy: setClock,
      exitCode: ExitStatus.usage
    })
  }
  return failure("clock", {
    message: `This machine's clock is 5 min or more ${side} Aden's: tokens look valid or expired when they are not`,
    remedy: setClock,
    exitCode: ExitStatus.usage
  })
}

/** A client that asks once, and not for long: what comes and goes is to be seen. */
export const impatientClient = AdenClient.layerConfigWith({ retry: Schedule.recurs(0), timeout: "10 seconds" })
