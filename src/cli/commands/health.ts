import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { AdenClient } from "../../providers/aden/AdenClient.ts"
import { latencyText } from "../../util/humanTime.ts"
import { printable } from "../../util/sanitize.ts"
import { HealthDocument } from "../documents.ts"
import { reportingFailures } from "../failureReport.ts"
import { adenClient } from "../layers.ts"
import { answer } from "../rootCommand.ts"

export const healthCommand = Command.make(
  "health",
  {},
  Effect.fnUntraced(
    function*() {
      const client = yield* AdenClient
      const health = yield* client.healthCheck
      yield* answer(
        HealthDocument,
        { ...health, latencyMs: health.latency },
        () =>
          `Aden is ${printable(health.status)}` +
          (health.version === undefined ? "" : `, version ${printable(health.version)}`) +
          `; it answered in ${latencyText(health.latency)}\n`
      )
    },
    Effect.provide(adenClient()),
    reportingFailures
  )
).pipe(Command.withDescription("Ask Aden whether it is healthy"))
