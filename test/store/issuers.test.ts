/** Whose a stored credential is, by what it says, over a storage in memory. */
import { assert, describe, it } from "@effect/vitest"
import { Credential, CredentialProviders, CredentialStorage, CredentialStore, MemoryStorage } from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { Effect, Layer, Option, Redacted } from "effect"
import { collectingWarnings, count, setup, storeLayer, token, turn } from "../fixtures/emulatedStore.ts"

const other = { name: "https://other.example.com", tenantId: "other" }

const issuedBy = (issuer: Credential["issuer"], id = "github") =>
  new Credential({
    ...Credential.fromAccessToken({ id, accessToken: Redacted.make(`token of ${issuer?.name}`), provider: id }),
    providerId: "aden_sync",
    issuer
  })

const stored = (place: string) =>
  CredentialStorage.use((storage) =>
    Effect.map(storage.read(place), ({ credential }) => Option.getOrUndefined(credential))
  )

const github = { aden: { integrations: [{ id: "github" }] } }
const secondPlace = (url: string) => `~${JSON.stringify(["github", url])}`

describe("Issuers", () => {
  it.effect("what Aden answers names it, with the tenant", () =>
    Effect.gen(function*() {
      yield* token("github")
      const { tenantId, url } = yield* AdenEmulator
      assert.deepStrictEqual((yield* stored("github"))?.issuer, { name: url, tenantId })
    }).pipe(Effect.provide(setup(github))))

  it.effect("what another issued is absent, and stays as it is; there is one notice", () =>
    collectingWarnings((warnings) =>
      Effect.gen(function*() {
        const storage = yield* CredentialStorage
        const { url } = yield* AdenEmulator
        const store = yield* CredentialStore
        yield* storage.save(issuedBy(other))
        yield* storage.save(issuedBy(other, "slack"))
        assert.deepStrictEqual(yield* store.list, [])
        const first = yield* token("github")
        assert.notStrictEqual(first, `token of ${other.name}`)
        assert.strictEqual(yield* count("get"), 1)
        assert.deepStrictEqual((yield* stored("github"))?.issuer, other)
        assert.strictEqual((yield* stored(secondPlace(url)))?.issuer?.name, url)
        assert.strictEqual((yield* storage.loadState("github")).generation, 1)

        // after a restart its own is found without a request
        assert.strictEqual(yield* Effect.provide(token("github"), storeLayer(), { local: true }), first)
        assert.strictEqual(yield* count("get"), 1)
        assert.isTrue(yield* store.delete("github"))
        assert.isFalse(yield* store.delete("github"))
        assert.isFalse(yield* store.delete("slack"))
        assert.isDefined(yield* stored("slack"))
        assert.strictEqual(warnings.filter((one) => one.includes("another issuer")).length, 2)
      })
    ).pipe(Effect.provide(setup(github))))

  it.effect("what says nothing, and the program's own, belongs to all", () =>
    Effect.gen(function*() {
      const storage = yield* CredentialStorage
      yield* storage.save(issuedBy(undefined))
      yield* storage.save(Credential.fromApiKey({ id: "weather", apiKey: Redacted.make("key") }))
      assert.strictEqual(yield* token("github"), "token of undefined")
      assert.strictEqual(yield* token("weather"), "key")
    }).pipe(Effect.provide(setup(github))))

  it.effect("the program's own has a place beside that of another issuer", () =>
    Effect.gen(function*() {
      const storage = yield* CredentialStorage
      const store = yield* CredentialStore
      yield* storage.save(issuedBy(other))
      yield* store.save(Credential.fromApiKey({ id: "github", apiKey: Redacted.make("key") }))
      assert.strictEqual(yield* token("github"), "key")
      assert.deepStrictEqual((yield* store.list).map(({ id, type }) => [id, type]), [["github", "api_key"]])
      assert.deepStrictEqual((yield* stored("github"))?.issuer, other)
    }).pipe(Effect.provide(setup(github))))

  it.effect("that another's integration is blocked says nothing about the own one", () =>
    Effect.gen(function*() {
      const storage = yield* CredentialStorage
      const { integrations: _, ...blocked } = yield* AdenEmulator
      yield* blocked.revoke("github")
      const store = yield* CredentialStore
      assert.strictEqual((yield* Effect.flip(store.token("github")))._tag, "ReauthRequired")
      const state = yield* storage.loadState("github")
      assert.isDefined(state.blockedSince)
      assert.strictEqual(state.issuer?.name, blocked.url)
      const other = Layer.succeed(CredentialProviders, { all: [], issuers: [{ name: "https://other.example.com" }] })
      const explained = Effect.flip(CredentialStore.use((one) => one.explain("github")))
      assert.strictEqual(
        (yield* Effect.provide(explained, Layer.provide(CredentialStore.layer(), other), { local: true }))._tag,
        "CredentialNotFound"
      )
    }).pipe(Effect.provide(setup(github))))

  it.effect("what another issuer stores under an id that is about to be fetched does not get in the way", () =>
    Effect.gen(function*() {
      assert.include(yield* token("github"), "aden-emulator")
      assert.deepStrictEqual((yield* stored("github"))?.issuer, other)
    }).pipe(Effect.provide(setup({
      ...github,
      storage: Layer.effect(
        CredentialStorage,
        Effect.map(CredentialStorage, (storage) =>
          CredentialStorage.of({
            ...storage,
            withLock: (id, effect) =>
              storage.withLock(
                id,
                storage.save(issuedBy(other)).pipe(Effect.orDie, Effect.andThen(turn), Effect.andThen(effect))
              )
          }))
      ).pipe(Layer.provide(MemoryStorage.layer()))
    }))))

  it.effect("a store without providers serves whatever is stored, unless it is told whose", () =>
    Effect.gen(function*() {
      const storage = yield* CredentialStorage
      yield* storage.save(issuedBy(other))
      const storeWith = (registry: CredentialProviders["Service"]) =>
        CredentialStore.layer().pipe(Layer.provide(Layer.succeed(CredentialProviders, registry)))
      const read = CredentialStore.use((store) => Effect.map(store.getOption("github"), Option.isSome))
      const readWith = (registry: CredentialProviders["Service"]) =>
        Effect.provide(read, storeWith(registry), { local: true })
      assert.isTrue(yield* readWith({ all: [] }))
      assert.isTrue(yield* readWith({ all: [], issuers: [other] }))
      // a tenant that is not known may be any
      assert.isTrue(yield* readWith({ all: [], issuers: [{ name: other.name }] }))
      assert.isFalse(yield* readWith({ all: [], issuers: [{ name: other.name, tenantId: "a third" }] }))
      assert.isFalse(yield* readWith({ all: [], issuers: [{ name: "https://third.example.com" }] }))
      assert.isTrue(yield* readWith({ all: [], issuers: [{ name: "https://third.example.com" }, other] }))
    }).pipe(Effect.provide(MemoryStorage.layer())))

  it.effect("of three tenants of one server each has a place, and a fourth overwrites nothing", () =>
    Effect.gen(function*() {
      const storage = yield* CredentialStorage
      const issuers = ["a", "b", "c"].map((tenantId) => ({ name: other.name, tenantId }))
      const saveAs = (issuer: typeof other) =>
        Effect.provide(
          CredentialStore.use((store) => store.save(issuedBy(issuer))),
          Layer.provide(CredentialStore.layer(), Layer.succeed(CredentialProviders, { all: [], issuers: [issuer] })),
          { local: true }
        )
      for (const issuer of issuers) yield* saveAs(issuer)
      const places = yield* storage.list
      assert.strictEqual(places.length, 3)
      const tenants = yield* Effect.forEach(
        places,
        (place) => Effect.map(stored(place), (one) => one?.issuer?.tenantId)
      )
      assert.deepStrictEqual(tenants.toSorted(), ["a", "b", "c"])
      // the id of another's place
      yield* storage.save(issuedBy({ ...other, tenantId: "d" }, "~[\"github\",\"x\"]"))
      const barred = yield* Effect.flip(Effect.provide(
        CredentialStore.use((store) => store.save(issuedBy(other, "~[\"github\",\"x\"]"))),
        Layer.provide(CredentialStore.layer(), Layer.succeed(CredentialProviders, { all: [], issuers: [other] })),
        { local: true }
      ))
      assert.include(barred.message, "another issuer")
    }).pipe(Effect.provide(MemoryStorage.layer())))
})
