import { assert, describe, it } from "@effect/vitest"
import { Context, DateTime, Effect, Option, Redacted } from "effect"
import { Redis } from "effect/persistence"
import { Credential } from "../../../src/model/Credential.ts"
import { CredentialState } from "../../../src/model/CredentialState.ts"
import { describeWith, redis } from "../../fixtures/realServers.ts"
import { place, storageOver } from "./redisNamespace.ts"

// What another process writes between the look of this one at an entry and its write.

const apiKey = (id: string, value: string, extra?: readonly [string, string]) =>
  new Credential({
    ...Credential.fromApiKey({ id, apiKey: Redacted.make(value) }),
    ...(extra === undefined ? {} : { extra: new Map([[extra[0], Redacted.make(extra[1])]]) })
  })

const valueOf = (credential: Option.Option<Credential>): string | undefined => {
  const key = Option.getOrUndefined(credential)?.defaultKey
  return key === undefined ? undefined : Redacted.value(key.value)
}

/** Whether a look is one of the operation, not of the storage, which looks for changes in the background. */
const IsOfOperation = Context.Reference("test/IsOfOperation", { defaultValue: () => false })

/** A storage whose next look is followed by what another does, before it goes on. */
const interrupted = Effect.gen(function*() {
  const { keyOf, namespace, process, redis, storage } = yield* place
  const other = yield* process
  const next = { step: Effect.void as Effect.Effect<unknown> }
  const slow = Redis.Redis.of({
    ...redis,
    eval: (script) => (...params) =>
      Effect.tap(redis.eval(script)(...params), () =>
        Effect.flatMap(IsOfOperation, (isOfOperation) => {
          if (!isOfOperation) return Effect.void
          const { step } = next
          next.step = Effect.void
          return step
        }))
  })
  const here = yield* storageOver(slow, { namespace })
  /** What `operation` comes to when this happens right after it has looked. */
  const during = <A, E, B, E2>(operation: Effect.Effect<A, E>, happens: Effect.Effect<B, E2>) =>
    Effect.suspend(() => {
      next.step = Effect.orDie(happens)
      return Effect.provideService(operation, IsOfOperation, true)
    })
  return { here, other, storage, during, keyOf, redis }
})

describeWith(redis, "RedisStorage", () => {
  describe("two writers of one entry", () => {
    it.effect("a save that expects a generation is refused when another saves meanwhile, and writes nothing", () =>
      Effect.gen(function*() {
        const { during, here, other, storage } = yield* interrupted
        yield* other.save(apiKey("x", "first"))
        const late = yield* Effect.flip(
          during(here.save(apiKey("x", "late"), { expectedGeneration: 1 }), other.save(apiKey("x", "second")))
        )
        assert.deepInclude(late, { _tag: "GenerationConflict", id: "x", expected: 1, actual: 2 })
        assert.strictEqual(valueOf(yield* storage.load("x")), "second")
        assert.strictEqual((yield* storage.loadState("x")).generation, 2)
      }))

    it.effect("a save that expects none comes after the other one, and keeps the fields that it wrote", () =>
      Effect.gen(function*() {
        const { during, here, other, storage } = yield* interrupted
        yield* other.save(apiKey("x", "first"))
        yield* during(
          here.save(apiKey("x", "third", ["mine", "1"])),
          other.save(apiKey("x", "second", ["theirs", "2"]))
        )
        const loaded = yield* storage.load("x")
        assert.strictEqual(valueOf(loaded), "third")
        assert.sameMembers(
          Array.from(Option.getOrThrow(loaded).extra?.keys() ?? []).filter((name) =>
            name === "mine" || name === "theirs"
          ),
          ["mine", "theirs"]
        )
        assert.strictEqual((yield* storage.loadState("x")).generation, 3)
      }))

    it.effect("a save does not come back over a deletion", () =>
      Effect.gen(function*() {
        const { during, here, other, storage } = yield* interrupted
        yield* other.save(apiKey("x", "first"))
        const late = yield* Effect.flip(
          during(here.save(apiKey("x", "late"), { expectedGeneration: 1 }), other.delete("x"))
        )
        assert.strictEqual(late._tag, "GenerationConflict")
        assert.isFalse(yield* storage.exists("x"))
        assert.deepStrictEqual(yield* storage.list, [])
      }))

    it.effect("of many the one that another saved meanwhile is refused or saved again, and the others are saved", () =>
      Effect.gen(function*() {
        const { during, here, other, storage } = yield* interrupted
        yield* other.saveMany([apiKey("x", "1"), apiKey("y", "1"), apiKey("z", "1")])
        const failures = yield* during(
          here.saveMany([apiKey("x", "late"), apiKey("y", "2"), apiKey("z", "3")], {
            expectedGenerations: new Map([["x", 1], ["y", 1]])
          }),
          other.saveMany([apiKey("x", "2"), apiKey("z", "2")])
        )
        assert.deepStrictEqual(Array.from(failures, ([id, { _tag }]) => [id, _tag]), [["x", "GenerationConflict"]])
        for (const [id, value, generation] of [["x", "2", 2], ["y", "2", 2], ["z", "3", 3]] as const) {
          assert.strictEqual(valueOf(yield* storage.load(id)), value)
          assert.strictEqual((yield* storage.loadState(id)).generation, generation)
        }
      }))

    it.effect("a state that was worked out before a save leaves its generation and account alone", () =>
      Effect.gen(function*() {
        const { during, here, other, storage } = yield* interrupted
        yield* other.save(apiKey("x", "first"))
        const token = Credential.fromAccessToken({ id: "x", accessToken: Redacted.make("t"), provider: "google" })
        yield* during(
          here.saveState("x", new CredentialState({ generation: 0, lastConfirmed: DateTime.makeUnsafe(5_000) })),
          other.save(token)
        )
        const state = yield* storage.loadState("x")
        assert.strictEqual(state.generation, 2)
        assert.deepStrictEqual(state.account, { provider: "google" })
        assert.deepStrictEqual(state.lastConfirmed, DateTime.makeUnsafe(5_000))
      }))

    it.effect("an entry that others write without end is given up with an error that names it", () =>
      Effect.gen(function*() {
        const { keyOf, namespace, process, redis } = yield* place
        const other = yield* process
        let count = 0
        const busy = Redis.Redis.of({
          ...redis,
          eval: (script) => (...params) =>
            Effect.tap(
              redis.eval(script)(...params),
              () => Effect.orDie(other.save(apiKey("x", String(count++))))
            )
        })
        const here = yield* storageOver(busy, { namespace })
        const failure = yield* Effect.flip(here.save(apiKey("x", "mine")))
        assert.include(failure.message, keyOf("x"))
        assert.include(failure.message, "another program keeps writing it")
      }))
  })
})
