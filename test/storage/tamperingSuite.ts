/**
 * What anybody can do who may write to a database and has no key: every storage that shares one has to pass this.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Scope } from "effect"
import { DateTime, Effect, Exit, Option } from "effect"
import { Fernet } from "../../src/encryption/Fernet.ts"
import { CredentialDecryptionFailed } from "../../src/errors/StorageError.ts"
import { CredentialState } from "../../src/model/CredentialState.ts"
import { CurrentTenant } from "../../src/model/currentTenant.ts"
import type { CredentialStorage } from "../../src/storage/CredentialStorage.ts"
import { apiKey, valueOf } from "./observing.ts"
import { randomEdits } from "./randomEdits.ts"
import type { Tampered } from "./tampered.ts"
import { key } from "./temporaryStorage.ts"

type Storage = CredentialStorage["Service"]

const at = DateTime.makeUnsafe("2026-12-01T10:00:00Z")

/** What a store has to remember of a credential. */
const remembered = new CredentialState({
  generation: 1,
  lastConfirmed: at,
  blockedSince: at,
  reauthorizationUrl: "https://aden.example/reconnect",
  refusedSince: at,
  coolDownUntil: at,
  lastError: "ReauthRequired"
})

export const suite = (title: string, tampered: Effect.Effect<Tampered, unknown, Scope.Scope>): void => {
  describe(`${title}: everything`, () => randomEdits(tampered))

  describe(`${title}: a document that was moved`, () => {
    const moved = Effect.gen(function*() {
      const database = yield* tampered
      const { namespace, storageIn } = database
      const ofTenant = (tenantId: string) => Effect.provideService(storageIn(namespace), CurrentTenant, tenantId)
      const places = new Map<string, Storage>([
        [namespace, yield* storageIn(namespace)],
        [`${namespace}:other`, yield* storageIn(`${namespace}:other`)],
        [`${namespace}/acme`, yield* ofTenant("acme")],
        [`${namespace}/globex`, yield* ofTenant("globex")]
      ])
      return { ...database, places }
    })

    it.live("to another namespace, another tenant or another id is refused, and stays as it is", () =>
      Effect.gen(function*() {
        const { places, rowOf, write } = yield* moved
        for (const [from, storage] of places) yield* storage.save(apiKey("hubspot", `of ${from}`))
        for (const from of places.keys()) {
          const { document } = yield* rowOf(from, "hubspot")
          for (const [to, storage] of places) {
            if (to === from) continue
            yield* write(to, "moved", { generation: "1", document, state: null })
            yield* write(to, "hubspot", { document })
            for (const id of ["moved", "hubspot"]) {
              for (const use of [storage.load(id), storage.read(id), storage.save(apiKey(id, "mine"))]) {
                const failure = yield* Effect.flip<unknown, unknown, never>(use)
                assert.instanceOf(failure, CredentialDecryptionFailed, `${id} from ${from} to ${to}`)
                assert.match(failure.message, /another (?:namespace|tenant|credential)/)
              }
              assert.strictEqual((yield* rowOf(to, id)).document, document)
            }
            assert.isTrue(yield* storage.delete("hubspot"))
            yield* storage.save(apiKey("hubspot", `of ${to}`))
            assert.strictEqual(valueOf(yield* storage.load("hubspot")), `of ${to}`)
          }
        }
      }))

    it.live("within its namespace under its id, as from a dump, is the credential", () =>
      Effect.gen(function*() {
        const { places, rowOf, write } = yield* moved
        for (const [namespace, storage] of places) {
          yield* storage.save(apiKey("hubspot", "of the dump"))
          const dumped = yield* rowOf(namespace, "hubspot")
          yield* storage.save(apiKey("hubspot", "later"))
          yield* write(namespace, "hubspot", dumped)
          assert.strictEqual(valueOf(yield* storage.load("hubspot")), "of the dump")
        }
      }))

    it.live("that an older version wrote, and names no namespace, is read, and bound when it is next written", () =>
      Effect.gen(function*() {
        const { namespace, places, rowOf, write } = yield* moved
        const [storage, other] = Array.from(places.values())
        if (storage === undefined || other === undefined) return assert.fail()
        const keys = [yield* Fernet.parseKey(key)] as const
        yield* storage.save(apiKey("hubspot", "1"))
        const { document } = yield* rowOf(namespace, "hubspot")
        const text = new TextDecoder().decode(yield* Fernet.decrypt(keys, document ?? ""))
        const older = text.replace(`, "_namespace": ${JSON.stringify(namespace)}`, "")
        assert.notStrictEqual(older, text)
        yield* write(namespace, "hubspot", { document: yield* Fernet.encrypt(keys, new TextEncoder().encode(older)) })
        assert.strictEqual(valueOf(yield* storage.load("hubspot")), "1")
        yield* storage.save(apiKey("hubspot", "2"))
        yield* write(`${namespace}:other`, "hubspot", yield* rowOf(namespace, "hubspot"))
        assert.strictEqual((yield* Effect.flip(other.load("hubspot")))._tag, "CredentialDecryptionFailed")
      }))

    it.live("no program sees where it belongs, and a copy by a program belongs where it is", () =>
      Effect.gen(function*() {
        const { places } = yield* moved
        const [first, second] = Array.from(places.values())
        if (first === undefined || second === undefined) return assert.fail()
        yield* first.save(apiKey("hubspot", "1"))
        const loaded = Option.getOrThrow(yield* first.load("hubspot"))
        assert.isUndefined(loaded.extra?.get("_namespace"))
        yield* second.save(loaded)
        assert.strictEqual(valueOf(yield* second.load("hubspot")), "1")
      }))
  })

  describe(`${title}: a state record`, () => {
    const kept = Effect.gen(function*() {
      const database = yield* tampered
      const storage = yield* database.storageIn(database.namespace)
      yield* storage.save(apiKey("hubspot", "1"), { state: remembered })
      const { state } = yield* database.rowOf(database.namespace, "hubspot")
      return { ...database, storage, state: state ?? assert.fail() }
    })
    const hint = new CredentialState({ generation: 1, mayBeBlocked: true })

    it.live("is believed as it was written", () =>
      Effect.gen(function*() {
        const { namespace, storage, storageIn } = yield* kept
        const whole = new CredentialState({ ...remembered, account: {} })
        assert.deepStrictEqual(yield* storage.loadState("hubspot"), whole)
        assert.deepStrictEqual((yield* (yield* storageIn(namespace)).read("hubspot")).state, whole)
      }))

    it.live("of an older version, or of nobody, is a hint until it is next written", () =>
      Effect.gen(function*() {
        const { namespace, state, storage, write } = yield* kept
        yield* write(namespace, "hubspot", { state: state.replace(/,"mac":.*/, "}") })
        assert.deepStrictEqual(yield* storage.loadState("hubspot"), hint)
        assert.deepStrictEqual((yield* storage.read("hubspot")).state, hint)
        assert.isTrue(yield* storage.saveState("hubspot", remembered, { expectedGeneration: 1 }))
        assert.deepStrictEqual(yield* storage.loadState("hubspot"), remembered)
      }))

    it.live("of another id, namespace, tenant or generation is a hint", () =>
      Effect.gen(function*() {
        const { namespace, rowOf, state, storage, storageIn, write } = yield* kept
        yield* storage.save(apiKey("slack", "1"))
        yield* write(namespace, "slack", { state })
        assert.deepStrictEqual(yield* storage.loadState("slack"), hint)
        const others = [
          [`${namespace}:other`, yield* storageIn(`${namespace}:other`)],
          [
            `${namespace}/acme`,
            yield* Effect.provideService(storageIn(namespace), CurrentTenant, "acme")
          ]
        ] as const
        for (const [other, elsewhere] of others) {
          yield* elsewhere.save(apiKey("hubspot", "1"), { state: remembered })
          const { state: theirs } = yield* rowOf(other, "hubspot")
          yield* write(other, "hubspot", { state })
          assert.deepStrictEqual(yield* elsewhere.loadState("hubspot"), hint)
          yield* write(namespace, "hubspot", { state: theirs })
          assert.deepStrictEqual(yield* storage.loadState("hubspot"), hint)
        }
        yield* write(namespace, "hubspot", { state, generation: "2" })
        assert.deepStrictEqual(yield* storage.loadState("hubspot"), new CredentialState({ ...hint, generation: 2 }))
        yield* storage.save(apiKey("hubspot", "2"), { expectedGeneration: 2, state: CredentialState.initial })
        yield* write(namespace, "hubspot", { state })
        assert.deepStrictEqual(yield* storage.loadState("hubspot"), new CredentialState({ ...hint, generation: 3 }))
      }))

    it.live("with a generation that no number of saves reaches is refused, and nothing dies", () =>
      Effect.gen(function*() {
        const { namespace, storage, write } = yield* kept
        for (const generation of [String(Number.MAX_SAFE_INTEGER), "999999999999999", "-1", "-9007199254740991"]) {
          yield* write(namespace, "hubspot", { generation })
          for (
            const use of [
              storage.read("hubspot"),
              storage.loadState("hubspot"),
              storage.saveState("hubspot", remembered),
              storage.save(apiKey("hubspot", "2")),
              storage.save(apiKey("hubspot", "3"))
            ]
          ) {
            const exit = yield* Effect.exit<unknown, unknown, never>(use)
            assert.isFalse(Exit.hasDies(exit), generation)
          }
        }
      }))
  })
}
