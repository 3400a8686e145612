/** docs/semantics.md, the state record: what somebody without the key says can only make the store ask Aden. */
import { assert, describe, it } from "@effect/vitest"
import { CredentialState, CredentialStorage, CredentialStore, MemoryStorage } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import type { Scope } from "effect"
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { decorate } from "../../src/storage/decorate.ts"
import { count, eventsOf, eventually, restarted, setup, token, turn } from "../fixtures/emulatedStore.ts"

/** What is said of each entry. With `isRepeated`, a process of an older version says so again after each write of this one. */
interface Said {
  of: { readonly mayBeBlocked?: true } | undefined
  isRepeated: boolean
}

const storage = (said: Said) =>
  Layer.effect(
    CredentialStorage,
    Effect.gen(function*() {
      const memory = yield* CredentialStorage
      const heard = ({ generation, ...state }: CredentialState) =>
        new CredentialState(said.of === undefined ? { ...state, generation } : { ...said.of, generation })
      const written = <A, E>(write: Effect.Effect<A, E>) =>
        Effect.tap(write, () =>
          Effect.sync(() => {
            if (!said.isRepeated) said.of = undefined
          }))
      return decorate(memory, {
        read: (id) => Effect.map(memory.read(id), ({ credential, state }) => ({ credential, state: heard(state) })),
        loadState: (id) => Effect.map(memory.loadState(id), heard),
        save: (credential, options) => written(memory.save(credential, options)),
        saveState: (id, state, options) => written(memory.saveState(id, state, options))
      })
    })
  ).pipe(Layer.provide(MemoryStorage.layer()))

const with8Hours = { integrations: [{ id: "hubspot", tokenLifetime: "8 hours" }] } as const

/** A test over a storage of which this is said. */
const told = <A, E>(
  title: string,
  test: (said: Said) => Effect.Effect<A, E, CredentialStore | CredentialStorage | AdenEmulator | Scope.Scope>
) =>
  it.effect(title, () =>
    Effect.suspend(() => {
      const said: Said = { of: undefined, isRepeated: false }
      return Effect.provide(test(said), setup({ storage: storage(said), aden: with8Hours }))
    }))

const requests = Effect.map(
  Effect.all([count("get"), count("refresh"), count("validate")]),
  ([get, refresh, validate]) => ({ get, refresh, validate })
)

/** How many requests go out while the program runs, for the credential alone. */
const asking = <A, E, R>(program: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const before = yield* requests
    const answer = yield* program
    for (let i = 0; i < 5; i++) yield* turn
    const after = yield* requests
    return {
      answer,
      get: after.get - before.get,
      refresh: after.refresh - before.refresh,
      validate: after.validate - before.validate
    }
  })

/** The credential was fetched an hour ago by another process. */
const fetched = Effect.gen(function*() {
  const first = yield* token("hubspot")
  yield* TestClock.adjust("1 hour")
  return first
})

describe("CredentialStore: a record that is not authenticated", () => {
  told("says nothing: the token is served, and Aden asked in the background", (said) =>
    Effect.gen(function*() {
      const first = yield* fetched
      said.of = {}
      yield* restarted(Effect.gen(function*() {
        const { answer } = yield* asking(token("hubspot"))
        assert.strictEqual(answer, first)
        yield* eventually(Effect.map(count("get"), (n) => n === 2))
      }))
    }))

  told(
    "says that it is blocked: Aden is asked first, and the token served when Aden knows better",
    (said) =>
      Effect.gen(function*() {
        const first = yield* fetched
        said.of = { mayBeBlocked: true }
        yield* restarted(Effect.gen(function*() {
          const { answer, ...asked } = yield* asking(token("hubspot"))
          assert.strictEqual(answer, first)
          assert.deepStrictEqual(asked, { get: 1, refresh: 0, validate: 1 })
          const { answer: again, ...more } = yield* asking(token("hubspot"))
          assert.strictEqual(again, first)
          assert.deepStrictEqual(more, { get: 0, refresh: 0, validate: 0 })
        }))
      })
  )

  told(
    "says that it is blocked of what was fetched a moment ago: Aden is asked first all the same",
    (said) =>
      Effect.gen(function*() {
        yield* token("hubspot")
        said.of = { mayBeBlocked: true }
        yield* restarted(Effect.gen(function*() {
          const { answer: _, ...asked } = yield* asking(token("hubspot"))
          assert.deepStrictEqual(asked, { get: 1, refresh: 0, validate: 1 })
        }))
      })
  )

  told(
    "says that it is blocked, and so it is: ReauthRequired, with the URL that Aden names",
    (said) =>
      Effect.gen(function*() {
        yield* fetched
        const aden = yield* AdenEmulator
        yield* aden.revoke("hubspot")
        said.of = { mayBeBlocked: true }
        yield* restarted(Effect.gen(function*() {
          const failure = yield* Effect.flip(token("hubspot"))
          assert.strictEqual(failure._tag, "ReauthRequired")
          assert.include(failure.message, aden.url)
        }))
      })
  )

  told(
    "says that it is blocked while Aden is away: the token is served, as if it had not said so",
    (said) =>
      Effect.gen(function*() {
        const first = yield* fetched
        const aden = yield* AdenEmulator
        said.of = { mayBeBlocked: true }
        yield* aden.setFault(Fault.Status({ status: 503 }))
        yield* restarted(Effect.gen(function*() {
          const events = yield* eventsOf
          const { answer, ...once } = yield* asking(token("hubspot"))
          assert.strictEqual(answer, first)
          assert.deepStrictEqual(once, { get: 0, refresh: 0, validate: 1 })
          assert.deepStrictEqual(events.map(({ _tag }) => _tag), ["ServedStale"])
          // no more often than any other that Aden does not confirm
          const { answer: _, ...asked } = yield* asking(
            Effect.forEach(
              Array.from({ length: 60 }),
              () => Effect.andThen(token("hubspot"), TestClock.adjust("1 second"))
            )
          )
          assert.isAtMost(asked.validate, 5)
        }))
        // nobody has answered yet: who comes later asks, too
        yield* aden.clearFaults
        yield* restarted(Effect.gen(function*() {
          const { answer, ...asked } = yield* asking(token("hubspot"))
          assert.strictEqual(answer, first)
          assert.deepStrictEqual(asked, { get: 1, refresh: 0, validate: 1 })
        }))
      })
  )

  told(
    "says so again after each write: it is asked about as often as any credential",
    (said) =>
      Effect.gen(function*() {
        const first = yield* fetched
        said.of = { mayBeBlocked: true }
        said.isRepeated = true
        const minutes = 30
        yield* restarted(Effect.gen(function*() {
          const { answer, ...asked } = yield* asking(
            Effect.forEach(Array.from({ length: minutes * 6 }), () =>
              Effect.gen(function*() {
                const read = yield* token("hubspot")
                yield* CredentialStore.use((store) => store.explain("hubspot"))
                yield* TestClock.adjust("10 seconds")
                return read
              }))
          )
          assert.deepStrictEqual(new Set(answer), new Set([first]))
          assert.isAtMost(asked.validate, minutes / 4 + 1)
          assert.isAtLeast(asked.validate, minutes / 5)
          assert.isAtMost(asked.get, asked.validate)
        }))
      })
  )

  for (const  of of[{ mayBeBlocked: true }, {}] as const) {
    told(
      `says ${JSON.stringify(of)} of what Aden told this process is blocked: that stays until Aden has answered`,
      (said) =>
        Effect.gen(function*() {
          yield* token("hubspot")
          const aden = yield* AdenEmulator
          yield* aden.revoke("hubspot")
          yield* CredentialStore.use((store) => store.validate("hubspot"))
          assert.strictEqual((yield* Effect.flip(token("hubspot")))._tag, "ReauthRequired")
          said.of = of
          said.isRepeated = true
          yield* TestClock.adjust("31 seconds")
          const { answer, ...asked } = yield* asking(Effect.result(token("hubspot")))
          assert.deepStrictEqual({ tag: answer._tag, ...asked }, { tag: "Failure", get: 0, refresh: 0, validate: 1 })
        })
    )
  }
})
