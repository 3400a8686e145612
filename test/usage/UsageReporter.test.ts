/** When usage reports that wait are sent, by the test clock. */
import { assert, describe, it } from "@effect/vitest"
import {
  AdenClient,
  AdenProtocolError,
  AdenUnavailable,
  CredentialProviders,
  CredentialStore,
  MemoryStorage,
  RateLimited,
  UsageReporter
} from "aden-credentials"
import { Duration, Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { withSettableClock } from "../fixtures/settableClock.ts"

const hour = 3_600_000

describe("UsageReporter: the clock is set while reports wait", () => {
  for (
    const [name, refusal] of [
      [
        "Aden is down",
        new AdenUnavailable({ id: "github", reason: new AdenProtocolError({ detail: "HTTP 503", isTransient: true }) })
      ],
      ["Aden limits the rate", new RateLimited({ id: "github", retryAfter: Duration.seconds(1) })]
    ] as const
  ) {
    for (const by of [-6 * hour, 6 * hour]) {
      it.effect(`${name}, set ${by < 0 ? "back" : "ahead"} by 6 h: sent after the time that was meant`, () =>
        withSettableClock((clock) =>
          Effect.gen(function*() {
            let attempts = 0
            const Client = AdenClient.layerTest({
              reportUsage: () => Effect.suspend(() => ++attempts === 1 ? Effect.fail(refusal) : Effect.succeed(true))
            })
            const usage = yield* UsageReporter.layer().pipe(
              Layer.provide(CredentialStore.layer()),
              Layer.provide([CredentialProviders.layerNone, MemoryStorage.layer(), Client]),
              Layer.build,
              Effect.flatMap((context) => Effect.provideContext(UsageReporter, context))
            )
            yield* usage.report("github", { operation: "call", status: "ok" })
            yield* TestClock.adjust("500 millis")
            assert.strictEqual(attempts, 1)
            clock.offset = by
            yield* TestClock.adjust("400 millis")
            yield* usage.report("github", { operation: "call", status: "ok" })
            yield* TestClock.adjust("50 millis")
            if (refusal._tag === "RateLimited") assert.strictEqual(attempts, 1)
            yield* TestClock.adjust("1 minute")
            assert.strictEqual(attempts, 3)
          })
        ))
    }
  }
})
