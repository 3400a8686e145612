import { assert, describe, it } from "@effect/vitest"
import { CredentialStore } from "aden-credentials"
import { Effect, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { count, forever, setup } from "../fixtures/emulatedStore.ts"

const isMissing = Effect.fnUntraced(function*(ref: string) {
  const store = yield* CredentialStore
  assert.strictEqual((yield* Effect.flip(store.token(ref)))._tag, "CredentialNotFound")
})

/** Reads refs once per second, and answers how often Aden was asked for its list in that time. */
const listsIn = Effect.fnUntraced(function*(seconds: number, refs: ReadonlyArray<string>) {
  const before = yield* count("list")
  for (let second = 0; second < seconds; second++) {
    yield* Effect.forEach(refs, isMissing)
    yield* TestClock.adjust("1 second")
  }
  return (yield* count("list")) - before
})

describe("CredentialStore: a ref that Aden does not list, read once per second", () => {
  it.effect("is looked for in a new list every 30 s", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* listsIn(90, ["nothing"]), 3)
    }).pipe(Effect.provide(setup({ aden: forever }))))

  it.effect("is looked for as a policy of the program says, also for longer than `cacheTtl`", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* listsIn(1_200, ["nothing"]), 2)
    }).pipe(
      Effect.provide(
        setup({ aden: forever, store: { cacheTtl: "1 minute", policy: { missing: Schedule.spaced("10 minutes") } } })
      )
    ))

  it.effect("has steps of the policy of its own: a second ref begins at the first step", () =>
    Effect.gen(function*() {
      // 1 s, 10 s, 100 s
      assert.strictEqual(yield* listsIn(100, ["nothing"]), 3)
      assert.strictEqual(yield* listsIn(5, ["another"]), 2)
    }).pipe(
      Effect.provide(setup({ aden: forever, store: { policy: { missing: Schedule.exponential("1 second", 10) } } }))
    ))
})
