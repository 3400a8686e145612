/**
 * What anybody can do who may write to a database and has no key: every storage that shares one has to pass this.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Scope } from "effect"
import { Effect, Option } from "effect"
import { Fernet } from "../../src/encryption/Fernet.ts"
import { CredentialDecryptionFailed } from "../../src/errors/StorageError.ts"
import { CurrentTenant } from "../../src/model/currentTenant.ts"
import type { CredentialStorage } from "../../src/storage/CredentialStorage.ts"
import { apiKey, valueOf } from "./observing.ts"
import { key } from "./temporaryStorage.ts"

type Storage = CredentialStorage["Service"]

/** What a database has of an entry. */
export interface Row {
  readonly generation: string
  readonly document: string | null
  readonly state: string | null
}

/** A database in which a test has namespaces to itself: this one, and those that begin with it. */
export interface Tampered {
  readonly namespace: string
  /** The storage of one more process. */
  readonly storageIn: (namespace: string) => Effect.Effect<Storage, unknown, Scope.Scope>
  /** In what a database calls the namespace: of a tenant, with its name. */
  readonly rowOf: (namespace: string, id: string) => Effect.Effect<Row>
  /** Writes an entry, or some of its fields, past all storages. */
  readonly write: (namespace: string, id: string, row: Partial<Row>) => Effect.Effect<void>
}

export const suite = (title: string, tampered: Effect.Effect<Tampered, unknown, Scope.Scope>): void => {
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
}
