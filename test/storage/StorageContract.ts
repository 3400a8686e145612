/**
 * What every `CredentialStorage` has to do. A storage runs it over its own layer, which is built for each test.
 */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, DateTime, Deferred, Effect, Fiber, Layer, Option, Redacted, Stream } from "effect"
import { CredentialStorageError } from "../../src/errors/StorageError.ts"
import { Credential, CredentialKey } from "../../src/model/Credential.ts"
import { CredentialState } from "../../src/model/CredentialState.ts"
import { CredentialStorage } from "../../src/storage/CredentialStorage.ts"
import type { StorageChange } from "../../src/storage/CredentialStorage.ts"
import { repeats } from "../fixtures/repeats.ts"
import { anyCredential, hostileId, keepsExtra, plain } from "./credentialArbitrary.ts"

const apiKey = (id: string, value: string) => Credential.fromApiKey({ id, apiKey: Redacted.make(value) })

const valueOf = (credential: Option.Option<Credential>): string | undefined => {
  const key = Option.getOrUndefined(credential)?.defaultKey
  return key === undefined ? undefined : Redacted.value(key.value)
}

/** Ids that are easily taken for one another, or that a file system, a URL or a JavaScript object treats as special. */
export const confusableIds = [
  "a/b",
  "a\\b",
  "a..b",
  "a_b",
  "A_b",
  "A",
  "a",
  "..",
  "_",
  ".",
  "../../etc/passwd",
  "/",
  "~a",
  "~",
  "\u00e9",
  "e\u0301",
  "\u00df",
  "ss",
  " ",
  "a ",
  "a.",
  "a\0b",
  "a\nb",
  "a:b",
  "a%2fb",
  "con",
  "__proto__",
  "constructor",
  "x".repeat(300),
  "X".repeat(300),
  "\u{1f600}".repeat(80)
]

const blocked = new CredentialState({
  generation: 99,
  blockedSince: DateTime.makeUnsafe("2026-01-28T15:30:00.001Z"),
  lastConfirmed: DateTime.makeUnsafe("2026-01-28T15:00:00Z"),
  coolDownUntil: DateTime.makeUnsafe("2026-01-28T16:00:00Z"),
  reauthorizationUrl: "https://aden.example.com/connect?x=1",
  lastError: "AdenUnavailable"
})

type Storage = CredentialStorage["Service"]

/** Runs a test against a storage that is built for it alone. */
const onFresh =
  <E>(layer: Layer.Layer<CredentialStorage, E>) =>
  <A, E2, R>(test: (storage: Storage) => Effect.Effect<A, E2, R>): Effect.Effect<A, E | E2, R> =>
    CredentialStorage.use(test).pipe(Effect.provide(Layer.fresh(layer)))

export const suite = <E>(name: string, layer: Layer.Layer<CredentialStorage, E>) => {
  const withStorage = onFresh(layer)

  describe(`${name}: the storage contract`, () => {
    anyStorage(withStorage)

    it.effect("has nothing at first", () =>
      withStorage(Effect.fnUntraced(function*(storage) {
        assert.isTrue(Option.isNone(yield* storage.load("x")))
        assert.isFalse(yield* storage.exists("x"))
        assert.isFalse(yield* storage.delete("x"))
        assert.deepStrictEqual(yield* storage.list, [])
        assert.deepStrictEqual(yield* storage.loadState("x"), CredentialState.initial)
        assert.deepStrictEqual(yield* storage.read("x"), { credential: Option.none(), state: CredentialState.initial })
      })))

    it.effect("loads what was saved", () =>
      withStorage(Effect.fnUntraced(function*(storage) {
        const credential = Credential.fromAccessToken({
          id: "hubspot",
          accessToken: Redacted.make("first"),
          expiresAt: DateTime.makeUnsafe("2030-01-28T15:30:00.250Z"),
          provider: "hubspot",
          alias: "Main portal"
        })
        yield* storage.save(credential)
        const loaded = Option.getOrThrow(yield* storage.load("hubspot"))
        assert.deepStrictEqual(plain(loaded), plain(credential))
        assert.isTrue(yield* storage.exists("hubspot"))
        assert.deepStrictEqual(yield* storage.list, ["hubspot"])
      })))

    it.effect("replaces what was saved: keys, expiry and all", () =>
      withStorage(Effect.fnUntraced(function*(storage) {
        yield* storage.save(
          Credential.fromAccessToken({
            id: "x",
            accessToken: Redacted.make("first"),
            expiresAt: DateTime.makeUnsafe("2030-01-28T15:30:00Z"),
            alias: "old"
          })
        )
        const next = Credential.fromAccessToken({ id: "x", accessToken: Redacted.make("second") })
        yield* storage.save(next)
        assert.deepStrictEqual(plain(Option.getOrThrow(yield* storage.load("x"))), plain(next))
        assert.deepStrictEqual(yield* storage.list, ["x"])
      })))

    it.effect("keeps unknown fields that a later save does not name", () =>
      withStorage(Effect.fnUntraced(function*(storage) {
        const number = Redacted.make("12345678901234567890")
        yield* storage.save(
          new Credential({
            ...apiKey("x", "first"),
            keys: new Map([
              [
                "api_key",
                new CredentialKey({ name: "api_key", value: Redacted.make("first"), extra: new Map([["n", number]]) })
              ]
            ]),
            extra: new Map([["x_ratio", Redacted.make("1.0")], ["__proto__", Redacted.make("{\"a\": 1}")]])
          })
        )
        yield* storage.save(
          new Credential({ ...apiKey("x", "second"), extra: new Map([["x_new", Redacted.make("true")]]) })
        )
        const loaded = Option.getOrThrow(yield* storage.load("x"))
        assert.strictEqual(valueOf(Option.some(loaded)), "second")
        const unknown = (field: string) =>
          Option.getOrUndefined(Option.map(Option.fromUndefinedOr(loaded.extra?.get(field)), Redacted.value))
        assert.strictEqual(unknown("x_ratio"), "1.0")
        assert.strictEqual(unknown("__proto__"), "{\"a\": 1}")
        assert.strictEqual(unknown("x_new"), "true")
        const inKey = loaded.keys.get("api_key")?.extra?.get("n")
        assert.strictEqual(inKey === undefined ? undefined : Redacted.value(inKey), "12345678901234567890")
      })))

    it.effect.prop(
      "any credential comes back as it was, unknown fields included",
      [Arbitrary.array(anyCredential, { minLength: 1, maxLength: 3 })],
      ([credentials]) =>
        withStorage(Effect.fnUntraced(function*(storage) {
          const latest = new Map<string, Credential>()
          for (const credential of credentials) {
            yield* storage.save(credential)
            latest.set(credential.id, credential)
          }
          for (const [id, credential] of latest) {
            const loaded = Option.getOrThrow(yield* storage.load(id))
            assert.deepStrictEqual(plain(loaded), plain(credential))
            assert.isTrue(keepsExtra(credential, loaded))
          }
          assert.sameMembers([...yield* storage.list], [...latest.keys()])
        })),
      { arbitrary: { runs: repeats(60, 10) } }
    )

    describe("read", () => {
      it.effect("answers credential and state, as load and loadState do", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          const credential = Credential.fromAccessToken({
            id: "x",
            accessToken: Redacted.make("t"),
            expiresAt: DateTime.makeUnsafe("2030-01-28T15:30:00.250Z"),
            provider: "google",
            alias: "Work"
          })
          yield* storage.save(credential, { state: blocked })
          const entry = yield* storage.read("x")
          assert.deepStrictEqual(plain(Option.getOrThrow(entry.credential)), plain(credential))
          assert.deepStrictEqual(
            entry.state,
            new CredentialState({ ...blocked, generation: 1, account: { provider: "google", alias: "Work" } })
          )
          assert.deepStrictEqual(entry.state, yield* storage.loadState("x"))
          yield* storage.saveState("x", CredentialState.initial)
          assert.deepStrictEqual((yield* storage.read("x")).state, yield* storage.loadState("x"))
        })))

      it.effect("answers the state of an id without an entry, and the tombstone of a deleted one", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          const state = new CredentialState({ generation: 0, lastError: "AdenUnavailable" })
          yield* storage.saveState("never", state)
          assert.deepStrictEqual(yield* storage.read("never"), { credential: Option.none(), state })
          yield* storage.save(apiKey("deleted", "1"))
          yield* storage.delete("deleted")
          assert.deepStrictEqual(yield* storage.read("deleted"), {
            credential: Option.none(),
            state: new CredentialState({ generation: 2 })
          })
        })))

      it.effect("never pairs a credential with the generation of another, while it is saved and deleted", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          const writes = 13
          const isDeletion = (generation: number) => generation % 4 === 0
          // generation n is saved with the value n
          const writer = Effect.gen(function*() {
            for (let generation = 1; generation <= writes; generation++) {
              if (isDeletion(generation)) yield* storage.delete("x")
              else yield* storage.saveMany([apiKey("x", String(generation)), apiKey("y", "1")])
            }
          })
          const reader = Effect.gen(function*() {
            const pairs: Array<readonly [number, string | undefined]> = []
            while (pairs.at(-1)?.[0] !== writes) {
              const { credential, state } = yield* storage.read("x")
              pairs.push([state.generation, valueOf(credential)])
              yield* Effect.yieldNow
            }
            return pairs
          })
          const [, ...read] = yield* Effect.all([writer, reader, reader, reader], { concurrency: "unbounded" })
          for (const [generation, value] of read.flat()) {
            assert.strictEqual(value, isDeletion(generation) ? undefined : String(generation))
          }
        })))
    })

    describe("generations", () => {
      it.effect("count the saves of an entry, from 0 before the first", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          const generation = Effect.map(storage.loadState("x"), (state) => state.generation)
          assert.strictEqual(yield* generation, 0)
          yield* storage.save(apiKey("x", "1"))
          assert.strictEqual(yield* generation, 1)
          yield* storage.save(apiKey("other", "1"))
          yield* storage.saveMany([apiKey("x", "2")])
          assert.strictEqual(yield* generation, 2)
        })))

      it.effect("are answered by each save, whether it expects one or not", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          assert.strictEqual(yield* storage.save(apiKey("x", "1")), 1)
          assert.strictEqual(yield* storage.save(apiKey("x", "2"), { expectedGeneration: 1 }), 2)
          assert.strictEqual(yield* storage.save(apiKey("x", "3"), { state: blocked }), 3)
          yield* storage.delete("x")
          assert.strictEqual(yield* storage.save(apiKey("x", "4")), 5)
          const answers = yield* Effect.forEach(
            Array.from({ length: 10 }, (_, index) => String(index)),
            (value) => storage.save(apiKey("x", value)),
            { concurrency: "unbounded" }
          )
          assert.sameMembers(answers, Array.from({ length: 10 }, (_, index) => 6 + index))
          assert.strictEqual((yield* storage.loadState("x")).generation, 15)
        })))

      it.effect("a save that expects the right one is made, and one that expects another fails and writes nothing", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("x", "1"), { expectedGeneration: 0 })
          yield* storage.save(apiKey("x", "2"), { expectedGeneration: 1 })
          const error = yield* Effect.flip(storage.save(apiKey("x", "3"), { expectedGeneration: 1 }))
          assert.strictEqual(error._tag, "GenerationConflict")
          assert.deepInclude(error, { id: "x", expected: 1, actual: 2 })
          assert.strictEqual(valueOf(yield* storage.load("x")), "2")
          assert.strictEqual((yield* storage.loadState("x")).generation, 2)
        })))

      it.effect("of many writers that expect the same one, exactly one wins", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("x", "0"))
          const outcomes = yield* Effect.forEach(
            Array.from({ length: 20 }, (_, index) => String(index)),
            (value) =>
              storage.save(apiKey("x", value), { expectedGeneration: 1 }).pipe(
                Effect.match({ onFailure: (error) => error._tag, onSuccess: () => value })
              ),
            { concurrency: "unbounded" }
          )
          const winners = outcomes.filter((outcome) => outcome !== "GenerationConflict")
          assert.lengthOf(winners, 1)
          assert.strictEqual(valueOf(yield* storage.load("x")), winners[0])
        })))
    })

    describe("state", () => {
      it.effect("leaves the generation alone, and a save leaves the state alone", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("x", "1"))
          yield* storage.saveState("x", blocked)
          yield* storage.save(apiKey("x", "2"))
          assert.deepStrictEqual(
            yield* storage.loadState("x"),
            new CredentialState({ ...blocked, generation: 2, account: {} })
          )
          yield* storage.saveState("x", CredentialState.initial)
          assert.deepStrictEqual(yield* storage.loadState("x"), new CredentialState({ generation: 2, account: {} }))
        })))

      it.effect("of a writer that expects another generation is not saved", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("x", "1"))
          assert.isTrue(yield* storage.saveState("x", blocked, { expectedGeneration: 1 }))
          yield* storage.save(apiKey("x", "2"), { state: CredentialState.initial })
          assert.isFalse(yield* storage.saveState("x", blocked, { expectedGeneration: 1 }))
          assert.isUndefined((yield* storage.loadState("x")).blockedSince)
          assert.isTrue(yield* storage.saveState("never", blocked, { expectedGeneration: 0 }))
          assert.isFalse(yield* storage.saveState("never", blocked, { expectedGeneration: 1 }))
        })))

      it.effect("given to a save, it is saved with the entry", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          const state = new CredentialState({ generation: 40, lastConfirmed: DateTime.makeUnsafe(5_000) })
          yield* storage.saveState("x", new CredentialState({ generation: 0, lastError: "AdenUnavailable" }))
          yield* storage.save(apiKey("x", "1"), { state })
          assert.deepStrictEqual(
            yield* storage.loadState("x"),
            new CredentialState({ ...state, generation: 1, account: {} })
          )
          yield* storage.saveMany([apiKey("x", "2"), apiKey("y", "1")], { state })
          assert.deepStrictEqual(
            yield* storage.loadState("x"),
            new CredentialState({ ...state, generation: 2, account: {} })
          )
          assert.deepStrictEqual(
            yield* storage.loadState("y"),
            new CredentialState({ ...state, generation: 1, account: {} })
          )
        })))

      it.effect("says whose account the saved credential is, whatever a writer of the state says", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          const token = Credential.fromAccessToken({
            id: "x",
            accessToken: Redacted.make("t"),
            provider: "google",
            alias: "Work"
          })
          yield* storage.save(token, { state: CredentialState.initial })
          yield* storage.saveState("x", new CredentialState({ generation: 0, account: { provider: "slack" } }))
          assert.deepStrictEqual((yield* storage.loadState("x")).account, { provider: "google", alias: "Work" })
          yield* storage.saveMany([token])
          assert.deepStrictEqual((yield* storage.loadState("x")).account, { provider: "google", alias: "Work" })
          yield* storage.saveState("y", new CredentialState({ generation: 0, account: { provider: "slack" } }))
          assert.isUndefined((yield* storage.loadState("y")).account)
        })))

      it.effect("goes with its entry, and without one too", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("x", "1"))
          yield* storage.saveState("y", blocked)
          assert.isTrue(yield* storage.delete("x"))
          assert.isFalse(yield* storage.delete("y"))
          assert.deepStrictEqual(yield* storage.loadState("x"), new CredentialState({ generation: 2 }))
          assert.deepStrictEqual(yield* storage.loadState("y"), CredentialState.initial)
        })))

      it.effect("a delete that expects another generation deletes nothing", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("x", "1"))
          yield* storage.save(apiKey("x", "2"))
          assert.isFalse(yield* storage.delete("x", { expectedGeneration: 1 }))
          assert.strictEqual(valueOf(yield* storage.load("x")), "2")
          assert.isTrue(yield* storage.delete("x", { expectedGeneration: 2 }))
        })))

      it.effect("of what was deleted the count goes on: a writer that knew it does not overwrite what came after", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("x", "1"))
          yield* storage.delete("x")
          assert.strictEqual(
            (yield* Effect.flip(storage.save(apiKey("x", "3"), { expectedGeneration: 1 })))._tag,
            "GenerationConflict"
          )
          yield* storage.save(apiKey("x", "2"))
          const late = yield* Effect.flip(storage.save(apiKey("x", "3"), { expectedGeneration: 1 }))
          assert.strictEqual(late._tag, "GenerationConflict")
          assert.strictEqual(valueOf(yield* storage.load("x")), "2")
        })))
    })

    it.effect("deletes once", () =>
      withStorage(Effect.fnUntraced(function*(storage) {
        yield* storage.saveMany([apiKey("x", "1"), apiKey("y", "1")])
        assert.isTrue(yield* storage.delete("x"))
        assert.isFalse(yield* storage.delete("x"))
        assert.isTrue(Option.isNone(yield* storage.load("x")))
        assert.isFalse(yield* storage.exists("x"))
        assert.deepStrictEqual(yield* storage.list, ["y"])
      })))

    describe("saveMany", () => {
      it.effect("saves all, also when there is nothing to save", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          assert.strictEqual((yield* storage.saveMany([])).size, 0)
          assert.deepStrictEqual(yield* storage.list, [])
          const credentials = Array.from({ length: 50 }, (_, index) => apiKey(`c_${index}`, String(index)))
          assert.strictEqual((yield* storage.saveMany(credentials)).size, 0)
          assert.sameMembers([...yield* storage.list], credentials.map((credential) => credential.id))
          assert.strictEqual(valueOf(yield* storage.load("c_49")), "49")
        })))

      it.effect("of one id twice keeps the last", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          yield* storage.saveMany([apiKey("x", "1"), apiKey("x", "2")])
          assert.strictEqual(valueOf(yield* storage.load("x")), "2")
        })))

      it.effect("one that expects another generation is not written, and the others are", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          yield* storage.saveMany([apiKey("x", "1"), apiKey("y", "1")])
          const failures = yield* storage.saveMany([apiKey("x", "2"), apiKey("y", "2"), apiKey("z", "2")], {
            expectedGenerations: new Map([["x", 0], ["y", 1]])
          })
          assert.deepStrictEqual(Array.from(failures, ([id, { _tag }]) => [id, _tag]), [["x", "GenerationConflict"]])
          assert.strictEqual(valueOf(yield* storage.load("x")), "1")
          assert.strictEqual(valueOf(yield* storage.load("y")), "2")
          assert.strictEqual(valueOf(yield* storage.load("z")), "2")
        })))

      it.effect("one that fails does not spoil the others", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          const failures = yield* storage.saveMany([apiKey("x", "1"), apiKey("", "2"), apiKey("y", "3")])
          assert.deepStrictEqual(Array.from(failures, ([id, failure]) => [id, failure._tag]), [[
            "",
            "CredentialStorageError"
          ]])
          assert.sameMembers([...yield* storage.list], ["x", "y"])
        })))
    })

    describe("ids", () => {
      it.effect("that look alike are apart from one another", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          for (const id of confusableIds) {
            assert.isTrue(Option.isNone(yield* storage.load(id)), id)
            yield* storage.save(apiKey(id, `value of ${id}`))
            yield* storage.saveState(id, new CredentialState({ generation: 0, lastError: id }))
          }
          for (const id of confusableIds) {
            assert.strictEqual(valueOf(yield* storage.load(id)), `value of ${id}`)
            assert.deepStrictEqual(
              yield* storage.loadState(id),
              new CredentialState({ generation: 1, account: {}, lastError: id })
            )
          }
          assert.sameMembers([...yield* storage.list], confusableIds)
          const others = confusableIds.filter((id) => id !== "a_b")
          assert.isTrue(yield* storage.delete("a_b"))
          assert.isFalse(yield* storage.exists("a_b"))
          assert.sameMembers([...yield* storage.list], others)
          for (const id of others) assert.strictEqual(valueOf(yield* storage.load(id)), `value of ${id}`)
        })))

      it.effect.prop(
        "never meet, whatever they are",
        [Arbitrary.array(hostileId, { minLength: 2, maxLength: 8 })],
        ([ids]) =>
          withStorage(Effect.fnUntraced(function*(storage) {
            const all = new Set(ids)
            yield* storage.saveMany(Array.from(all, (id) => apiKey(id, `value of ${id}`)))
            for (const id of all) assert.strictEqual(valueOf(yield* storage.load(id)), `value of ${id}`)
            assert.sameMembers([...yield* storage.list], [...all])
            for (const id of all) assert.isTrue(yield* storage.delete(id))
            assert.deepStrictEqual(yield* storage.list, [])
          })),
        { arbitrary: { runs: repeats(40, 10) } }
      )
    })

    it.effect("tells of entries saved and deleted from now on, each with its generation", () =>
      withStorage(Effect.fnUntraced(function*(storage) {
        yield* storage.save(apiKey("before", "1"))
        const seen = yield* storage.changes.pipe(
          Stream.take(5),
          Stream.runCollect,
          Effect.forkChild({ startImmediately: true })
        )
        yield* storage.save(apiKey("x", "1"))
        yield* Effect.ignore(storage.save(apiKey("x", "1"), { expectedGeneration: 7 }))
        yield* storage.saveMany([apiKey("y", "1")])
        yield* storage.save(apiKey("before", "2"), { expectedGeneration: 1 })
        yield* storage.delete("absent")
        yield* storage.saveState("x", CredentialState.initial)
        yield* storage.delete("x")
        yield* storage.save(apiKey("x", "2"))
        assert.deepStrictEqual(Array.from(yield* Fiber.join(seen)), [
          { _tag: "Saved", id: "x", generation: 1 },
          { _tag: "Saved", id: "y", generation: 1 },
          { _tag: "Saved", id: "before", generation: 2 },
          { _tag: "Deleted", id: "x", generation: 2 },
          { _tag: "Saved", id: "x", generation: 3 }
        ])
      })))

    describe("withLock", () => {
      it.effect("does not stand in the way of reading and writing", () =>
        withStorage(Effect.fnUntraced(function*(storage) {
          yield* storage.withLock(
            "x",
            Effect.gen(function*() {
              yield* storage.save(apiKey("x", "1"))
              yield* storage.saveState("x", CredentialState.initial)
              assert.strictEqual(valueOf(yield* storage.load("x")), "1")
              assert.deepStrictEqual(yield* storage.list, ["x"])
            })
          )
        })))
    })

    it.effect("survives many writers and readers at once", () =>
      withStorage(Effect.fnUntraced(function*(storage) {
        const ids = Array.from({ length: 10 }, (_, index) => `id_${index}`)
        yield* Effect.forEach(
          ids.flatMap((id) => Array.from({ length: 10 }, (_, index) => [id, index] as const)),
          ([id, index]) =>
            index % 2 === 0
              ? Effect.asVoid(storage.save(apiKey(id, String(index))))
              : Effect.andThen(storage.load(id), storage.list),
          { concurrency: "unbounded", discard: true }
        )
        assert.sameMembers([...yield* storage.list], ids)
        for (const id of ids) assert.strictEqual((yield* storage.loadState(id)).generation, 5)
      })))
  })
}

/** What holds for every storage, whether it can be written or not. */
const anyStorage = <E>(withStorage: ReturnType<typeof onFresh<E>>) => {
  describe("a state record", () => {
    it.effect("exists without an entry", () =>
      withStorage(Effect.fnUntraced(function*(storage) {
        yield* storage.saveState("x", blocked)
        assert.deepStrictEqual(yield* storage.loadState("x"), new CredentialState({ ...blocked, generation: 0 }))
        assert.deepStrictEqual(yield* storage.list, [])
        assert.isFalse(yield* storage.exists("x"))
      })))
  })

  it.effect.each(["", "\ud800", "a\udc00b"])(
    "refuses %j as an id",
    (id) =>
      withStorage(Effect.fnUntraced(function*(storage) {
        const failures = yield* Effect.all([
          Effect.flip(storage.read(id)),
          Effect.flip(storage.load(id)),
          Effect.flip(storage.save(apiKey(id, "x"))),
          Effect.flip(storage.delete(id)),
          Effect.flip(storage.exists(id)),
          Effect.flip(storage.loadState(id)),
          Effect.flip(storage.saveState(id, CredentialState.initial)),
          Effect.flip(storage.withLock(id, Effect.void))
        ])
        for (const failure of failures) {
          assert.strictEqual(failure._tag, "CredentialStorageError")
          if (failure._tag === "CredentialStorageError") {
            assert.strictEqual(failure.reason._tag, "InvalidCredentialId")
          }
        }
        assert.deepStrictEqual(yield* storage.list, [])
      }))
  )

  describe("withLock", () => {
    it.effect("lets one in at a time, and no other id waits", () =>
      withStorage(Effect.fnUntraced(function*(storage) {
        let inside = 0
        let most = 0
        yield* Effect.forEach(
          Array.from({ length: 20 }),
          () =>
            storage.withLock(
              "x",
              Effect.gen(function*() {
                inside++
                most = Math.max(most, inside)
                yield* Effect.yieldNow
                inside--
              })
            ),
          { concurrency: "unbounded", discard: true }
        )
        assert.strictEqual(most, 1)
        const gate = yield* Deferred.make<void>()
        const holder = yield* storage.withLock("x", Deferred.await(gate)).pipe(
          Effect.forkChild({ startImmediately: true })
        )
        assert.strictEqual(yield* storage.withLock("y", Effect.succeed("not held")), "not held")
        assert.strictEqual(yield* storage.withLock("X", Effect.succeed("not held")), "not held")
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(holder)
      })))

    it.effect("is given back after a failure, and after an interruption of the holder or of one who waits", () =>
      withStorage(Effect.fnUntraced(function*(storage) {
        assert.strictEqual(yield* Effect.flip(storage.withLock("x", Effect.fail("no"))), "no")
        const holder = yield* storage.withLock("x", Effect.never).pipe(Effect.forkChild({ startImmediately: true }))
        const waiter = yield* storage.withLock("x", Effect.void).pipe(Effect.forkChild({ startImmediately: true }))
        yield* Fiber.interrupt(waiter)
        yield* Fiber.interrupt(holder)
        assert.strictEqual(yield* storage.withLock("x", Effect.succeed("free")), "free")
      })))
  })
}

/**
 * What a storage that cannot be written has to do, over a layer that is made to hold these values by id. It keeps all of the
 * contract but what a save is needed for.
 */
export const readOnlySuite = <E>(
  name: string,
  layerOf: (values: Readonly<Record<string, string>>) => Layer.Layer<CredentialStorage, E>
) => {
  const values = { hubspot: "first", "a/b": "second", "\u00e9": "third" }
  const withStorage = onFresh(layerOf(values))

  const refusalOf = <A, E2>(effect: Effect.Effect<A, E2>) =>
    Effect.map(Effect.flip(effect), (failure) => {
      assert.instanceOf(failure, CredentialStorageError)
      assert.strictEqual(failure.reason._tag, "StorageRefused")
      assert.isFalse(failure.isRetryable)
      assert.include(failure.message, "read-only")
      return failure
    })

  describe(`${name}: the contract of a read-only storage`, () => {
    anyStorage(onFresh(layerOf({})))

    it.effect("has nothing where nothing is", () =>
      withStorage(Effect.fnUntraced(function*(storage) {
        assert.isTrue(Option.isNone(yield* storage.load("x")))
        assert.isFalse(yield* storage.exists("x"))
        assert.isFalse(yield* storage.delete("x"))
        assert.deepStrictEqual(yield* storage.read("x"), { credential: Option.none(), state: CredentialState.initial })
        assert.deepStrictEqual(yield* storage.loadState("x"), CredentialState.initial)
      })))

    it.effect("answers what it holds, each by its id", () =>
      withStorage(Effect.fnUntraced(function*(storage) {
        for (const [id, value] of Object.entries(values)) {
          assert.deepStrictEqual(plain(Option.getOrThrow(yield* storage.load(id))), plain(apiKey(id, value)))
          assert.isTrue(yield* storage.exists(id))
          const { credential, state } = yield* storage.read(id)
          assert.deepStrictEqual(plain(Option.getOrThrow(credential)), plain(apiKey(id, value)))
          assert.deepStrictEqual(state, CredentialState.initial)
        }
        assert.sameMembers([...yield* storage.list], Object.keys(values))
      })))

    it.effect("refuses every write with what to do instead, and stays as it is", () =>
      withStorage(Effect.fnUntraced(function*(storage) {
        for (const id of ["hubspot", "x"]) {
          assert.strictEqual((yield* refusalOf(storage.save(apiKey(id, "2")))).id, id)
          assert.strictEqual((yield* refusalOf(storage.save(apiKey(id, "2"), { expectedGeneration: 0 }))).id, id)
        }
        assert.strictEqual((yield* refusalOf(storage.delete("hubspot"))).operation, "delete")
        const failures = yield* storage.saveMany([apiKey("hubspot", "2"), apiKey("x", "2"), apiKey("", "2")])
        assert.deepStrictEqual(
          Array.from(
            failures,
            ([id, failure]) => [id, failure._tag === "CredentialStorageError" && failure.reason._tag]
          ),
          [["hubspot", "StorageRefused"], ["x", "StorageRefused"], ["", "InvalidCredentialId"]]
        )
        assert.strictEqual((yield* storage.saveMany([])).size, 0)
        assert.strictEqual(valueOf(yield* storage.load("hubspot")), "first")
        assert.isFalse(yield* storage.exists("x"))
        assert.strictEqual((yield* storage.loadState("hubspot")).generation, 0)
        assert.sameMembers([...yield* storage.list], Object.keys(values))
      })))

    it.effect("keeps state records, and forgets the one of what is not there when it is deleted", () =>
      withStorage(Effect.fnUntraced(function*(storage) {
        for (const id of ["hubspot", "x"]) {
          yield* storage.saveState(id, blocked)
          assert.deepStrictEqual(yield* storage.loadState(id), new CredentialState({ ...blocked, generation: 0 }))
          assert.deepStrictEqual((yield* storage.read(id)).state, new CredentialState({ ...blocked, generation: 0 }))
        }
        assert.isFalse(yield* storage.delete("x"))
        assert.deepStrictEqual(yield* storage.loadState("x"), CredentialState.initial)
        yield* refusalOf(storage.delete("hubspot"))
        assert.deepStrictEqual(yield* storage.loadState("hubspot"), new CredentialState({ ...blocked, generation: 0 }))
      })))

    it.effect("tells of no change, whatever is tried", () =>
      withStorage(Effect.fnUntraced(function*(storage) {
        const seen: Array<StorageChange> = []
        yield* Stream.runForEach(storage.changes, (change) => Effect.sync(() => seen.push(change))).pipe(
          Effect.forkChild({ startImmediately: true })
        )
        yield* Effect.ignore(storage.save(apiKey("hubspot", "2")))
        yield* Effect.ignore(storage.delete("hubspot"))
        yield* storage.saveState("hubspot", blocked)
        yield* Effect.yieldNow
        assert.deepStrictEqual(seen, [])
      })))
  })
}
