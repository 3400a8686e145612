/**
 * Whether Aden can be reached, accepts the API key, and agrees with this machine's clock.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { AdenClient } from "../../providers/aden/AdenClient.ts"
import { durationText, latencyText } from "../../util/humanTime.ts"
import { ExitStatus } from "../ExitStatus.ts"
import { adenClient } from "../layers.ts"
import { failed, failure, ok, skipped, warning } from "./Finding.ts"
import type { Finding } from "./Finding.ts"

/** The largest clock skew that AdenClient corrects for, in ms. */
const maximumSkew = 300_000

const setClock = "Synchronize this machine's clock by NTP."

export const adenChecks: Effect.Effect<ReadonlyArray<Finding>, never, AdenClient> = Effect.gen(function*() {
  const client = yield* AdenClient
  const health = yield* Effect.match(client.healthCheck, {
    onFailure: (error) => failed("Aden", error),
    onSuccess: ({ latency, status }) => ok("Aden", `Aden answers in ${latencyText(latency)}: ${status}`)
  })
  const list = yield* Effect.match(client.listIntegrations, {
    onFailure: (error) => failed("Aden", error),
    onSuccess: ({ accounts, isIncomplete }) => {
      const message = `Aden accepts the API key and lists ${accounts.length} integrations`
      return isIncomplete
        ? warning("Aden", {
          message: `${message}, but the list may be incomplete: it tells of further pages, which are not read`,
          remedy: "Have the Aden server answer GET /v1/credentials with one whole list.",
          exitCode: ExitStatus.adenUnavailable
        })
        : ok("Aden", message)
    }
  })
  const isReached = [health, list].some(({ exitCode, status }) =>
    status !== "failure" || exitCode !== ExitStatus.adenUnavailable
  )
  const clock = isReached
    ? clockFinding(yield* client.clockOffset)
    : skipped("clock", "Not compared with that of Aden, which cannot be reached")
  // one failure is enough when there is no answer
  return isReached ? [health, list, clock] : [health, clock]
})

const clockFinding = (offset: number): Finding => {
  if (offset === 0) return ok("clock", "This machine's clock agrees with Aden's")
  const side = offset > 0 ? "behind" : "ahead of"
  if (Math.abs(offset) < maximumSkew) {
    const by = durationText(Duration.millis(Math.abs(offset)))
    return warning("clock", {
      message: `This machine's clock is ${by} ${side} Aden's, which is corrected for`,
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

/** A client without retries and with a short timeout, so that failures which come and go are seen. */
export const impatientClient = adenClient({ retry: Schedule.recurs(0), timeout: "10 seconds" })
