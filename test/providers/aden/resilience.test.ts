import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { AdenTimeout, AdenUnavailable } from "../../../src/errors/AdenError.ts"
import { AdenCircuit } from "../../../src/providers/aden/resilience.ts"
import { BypassCircuit } from "../../../src/providers/CredentialProvider.ts"

const failing = Effect.fail(
  new AdenUnavailable({ id: "hubspot", reason: new AdenTimeout({ after: Duration.seconds(30) }) })
)
const lastChance = Effect.provideService(BypassCircuit, true)

describe("AdenCircuit: a question that may pass it", () => {
  it.effect("counts as any other while it is closed, and gets through when it is open", () =>
    Effect.gen(function*() {
      const circuit = yield* AdenCircuit.make({ failures: 2, openFor: Duration.seconds(30) })
      for (let failures = 0; failures < 2; failures++) {
        const error = yield* Effect.flip(lastChance(circuit.guard("aden", "hubspot", failing)))
        assert.strictEqual(error.reason._tag, "AdenTimeout")
      }
      const asked = circuit.guard("aden", "hubspot", Effect.succeed("answer"))
      assert.strictEqual((yield* Effect.flip(asked)).reason._tag, "AdenCircuitOpen")
      assert.strictEqual(yield* lastChance(asked), "answer")
    }))
})
