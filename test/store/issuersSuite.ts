/**
 * Two tenants whose stores use one storage, with a real Aden each, or one Aden for both: no token gets from one to the other, and nothing
 * of the other is overwritten, renewed or removed. A storage runs it over a place of its own for each test.
 */
import { assert, it } from "@effect/vitest"
import { AdenClient, AdenSyncProvider, type Credential, CredentialStorage, CredentialStore } from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { Context, Effect, Layer, Option, Redacted, References, Schedule } from "effect"
import type { Scope } from "effect"
import { FetchHttpClient } from "effect/http"
import { Prng } from "../simulation/Prng.ts"

type Storage = CredentialStorage["Service"]

/** Opens the storage of one test, as a process does. */
export type OpenStorage = Effect.Effect<Storage, unknown, Scope.Scope>

const ids = ["hubspot", "github", "slack"] as const
const operations = ["token", "token", "refresh", "sync", "delete", "invalidate", "expire", "restart", "list"] as const

const integrations = ids.map((id) => ({ id, tokenLifetime: "1 hour" as const }))
const keyOf = (tenantId: string) => Redacted.make(`aden_sk_${tenantId}_7Qk2vB9xZr4T`)

interface Party {
  readonly tenantId: string
  readonly aden: AdenEmulator["Service"]
}

const emulator = (tenantIds: ReadonlyArray<string>) =>
  Effect.map(
    Layer.build(Layer.fresh(AdenEmulator.layer({
      tenants: tenantIds.map((id) => ({ id, apiKeys: [keyOf(id)], integrations }))
    }))),
    (context) => Context.get(context, AdenEmulator)
  )

export const twoServers = Effect.gen(function*() {
  const parties: [Party, Party] = [
    { tenantId: "acme", aden: yield* emulator(["acme"]) },
    { tenantId: "globex", aden: yield* emulator(["globex"]) }
  ]
  return parties
})

export const twoTenants = Effect.map(
  emulator(["acme", "globex"]),
  (aden): [Party, Party] => [{ tenantId: "acme", aden }, { tenantId: "globex", aden }]
)

/** The store of a party in a process of its own, which ends with the scope. */
export const openStore = (storage: Storage, { aden, tenantId }: Party) =>
  CredentialStore.layer().pipe(
    Layer.provide(AdenSyncProvider.layer()),
    Layer.provide(
      AdenClient.layer({ baseUrl: aden.url, apiKey: keyOf(tenantId), tenantId, retry: Schedule.recurs(0) })
    ),
    Layer.provide(FetchHttpClient.layer),
    Layer.provide(Layer.succeed(CredentialStorage, storage)),
    Layer.fresh,
    Layer.build,
    Effect.map((context) => Context.get(context, CredentialStore))
  )

/** What is stored of a party, by the place where it is. */
const storedOf = Effect.fnUntraced(function*(storage: Storage, { tenantId }: Party) {
  const entries = yield* Effect.forEach(
    yield* storage.list,
    (place) =>
      Effect.map(storage.read(place), ({ credential, state }) => ({
        place,
        generation: state.generation,
        credential: Option.getOrUndefined(credential)
      }))
  )
  return entries.toSorted((a, b) => a.place < b.place ? -1 : 1).flatMap(({ credential, generation, place }) =>
    credential?.issuer?.tenantId === tenantId ? [{ place, generation, token: tokenOf(credential) }] : []
  )
})

const tokenOf = (credential: Credential) => {
  const key = credential.defaultKey
  return key === undefined ? undefined : Redacted.value(key.value)
}

const issuedTo = ({ aden, tenantId }: Party) =>
  Effect.map(
    aden.issuedTokens,
    (all) => new Set(all.filter((token) => token.tenantId === tenantId).map(({ value }) => Redacted.value(value)))
  )

/** The notice is expected. */
const quietly = Effect.provideService(References.MinimumLogLevel, "Error")

export const issuersSuite = (options: {
  readonly openPlace: Effect.Effect<OpenStorage, unknown, Scope.Scope>
  readonly seeds: number
  readonly steps: number
}) => {
  for (const [name, parties] of [["two servers", twoServers], ["two tenants of one server", twoTenants]] as const) {
    it.live(
      `the second of ${name} gets its own tokens where the first has filled the storage`,
      () =>
        Effect.gen(function*() {
          const [first, second] = yield* parties
          const open = yield* options.openPlace
          yield* Effect.scoped(
            Effect.flatMap(open, (storage) => Effect.flatMap(openStore(storage, first), (store) => store.sync))
          )
          const storage = yield* open
          const before = yield* storedOf(storage, first)
          assert.strictEqual(before.length, ids.length)

          const store = yield* openStore(storage, second)
          assert.deepStrictEqual(yield* store.list, [])
          for (const id of ids) {
            assert.isTrue((yield* issuedTo(second)).has(Redacted.value(yield* store.token(id))))
            assert.isFalse((yield* issuedTo(first)).has(Redacted.value(yield* store.token(id))))
          }
          assert.deepStrictEqual((yield* store.list).map(({ id }) => id), ids.toSorted())
          assert.deepStrictEqual(yield* storedOf(storage, first), before)
          assert.strictEqual((yield* storedOf(storage, second)).length, ids.length)

          assert.isTrue(yield* store.delete("hubspot"))
          assert.isFalse(yield* store.delete("hubspot"))
          yield* second.aden.removeIntegration("github", { tenantId: second.tenantId })
          assert.deepStrictEqual((yield* store.sync).removed, ["github"])
          assert.deepStrictEqual(yield* storedOf(storage, first), before)
        }).pipe(Effect.scoped, quietly),
      60_000
    )

    it.live(
      `nothing gets from one of ${name} to the other, whatever both do`,
      () =>
        Effect.forEach(Array.from({ length: options.seeds }, (_, seed) => seed), (seed) =>
          Effect.gen(function*() {
            const prng = new Prng(seed)
            const [first, second] = yield* parties
            const open = yield* options.openPlace
            const look = yield* open
            const start = Effect.fnUntraced(function*(party: Party) {
              const process = yield* Layer.build(Layer.effect(
                CredentialStore,
                Effect.flatMap(open, (storage) => openStore(storage, party))
              ))
              return Context.get(process, CredentialStore)
            })
            const stores = new Map<Party, CredentialStore["Service"]>()
            for (const party of [first, second]) stores.set(party, yield* start(party))
            const log: Array<string> = []
            const context = () => `seed ${seed}:\n${log.join("\n")}`

            const act = Effect.fnUntraced(function*(party: Party) {
              const operation = prng.pick(operations)
              const id = prng.pick(ids)
              log.push(`${party.tenantId} ${operation} ${id}`)
              const store = stores.get(party) ?? assert.fail()
              switch (operation) {
                case "token":
                  return yield* store.token(id)
                case "refresh":
                  return (yield* store.refresh(id)).defaultKey?.value
                case "sync":
                  return void assert.strictEqual((yield* store.sync).failed.length, 0, context())
                case "delete":
                  return void (yield* store.delete(id))
                case "invalidate":
                  yield* store.invalidate(id)
                  return yield* store.token(id)
                case "expire":
                  yield* party.aden.expire(id, { tenantId: party.tenantId })
                  return (yield* store.refresh(id)).defaultKey?.value
                case "restart":
                  return void stores.set(party, yield* start(party))
                case "list":
                  return void assert.deepStrictEqual(
                    (yield* store.list).map(({ id }) => id),
                    (yield* storedOf(look, party)).map(({ place }) => ids.find((id) => place.includes(id)) ?? place)
                      .toSorted(),
                    context()
                  )
              }
            })
            const actOwn = Effect.fnUntraced(function*(party: Party) {
              const token = yield* Effect.mapError(act(party), (cause) => new Error(context(), { cause }))
              const own = yield* issuedTo(party)
              if (token !== undefined) assert.isTrue(own.has(Redacted.value(token)), context())
              for (const { token } of yield* storedOf(look, party)) {
                assert.isTrue(token !== undefined && own.has(token), context())
              }
            })

            for (let step = 0; step < options.steps; step++) {
              if (prng.chance(0.3)) {
                log.push("at once:")
                yield* Effect.all([actOwn(first), actOwn(second)], { concurrency: 2 })
              } else {
                const [party, other] = prng.chance(0.5) ? [first, second] : [second, first]
                const before = yield* storedOf(look, other)
                yield* actOwn(party)
                assert.deepStrictEqual(yield* storedOf(look, other), before, context())
              }
            }
          }).pipe(Effect.scoped, quietly), { discard: true }),
      120_000
    )
  }
}
