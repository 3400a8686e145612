import { assert, describe, it } from "@effect/vitest"
import {
  AdenClient,
  AdenSyncProvider,
  Credential,
  CredentialProviders,
  CredentialStorage,
  CredentialStore,
  EncryptedFileStorage,
  Fernet,
  MemoryStorage,
  TenantCredentials,
  type TenantLookup,
  TenantLookupFailed,
  type TenantSettings
} from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import {
  ConfigProvider,
  Context,
  Deferred,
  type Duration,
  Effect,
  Fiber,
  FileSystem,
  Layer,
  Option,
  Path,
  Redacted,
  Schedule
} from "effect"
import { FetchHttpClient, HttpClient } from "effect/http"
import { TestClock } from "effect/testing"
import { inspect } from "node:util"
import { tenantDirectory } from "../../src/storage/files/tenantFolders.ts"
import { repeats } from "../fixtures/repeats.ts"
import { hostileId } from "../storage/credentialArbitrary.ts"
import { inDirectory, key, NodeFiles, temporaryDirectory } from "../storage/temporaryStorage.ts"

// A real Aden server over a socket, on virtual time, and real files in a home directory that goes with the test.

class Home extends Context.Service<Home, string>()("test/Home") {
  static readonly layer = Layer.effect(Home, temporaryDirectory)
}

const tenants = ["acme", "globex", "acme-eu", "../other", "a/b", "a:b"]
const keyOf = (tenantId: string) => `aden_sk_${Buffer.from(tenantId).toString("hex")}_7Qk2vB9xZr4T`

const Aden = AdenEmulator.layer({
  tenants: tenants.map((id) => ({
    id,
    apiKeys: [Redacted.make(keyOf(id))],
    integrations: [{ id: "hubspot", tokenLifetime: "1 hour" }, { id: "github" }]
  }))
})

/** What the platform's environment holds; `ADEN_API_KEY` belongs to no tenant. */
const Environment = Layer.unwrap(Effect.gen(function*() {
  const aden = yield* AdenEmulator
  const env = {
    HOME: yield* Home,
    HIVE_CREDENTIAL_KEY: Redacted.value(key),
    ADEN_API_URL: aden.url,
    ADEN_API_KEY: "of-no-tenant",
    ADEN_API_KEY_acme: keyOf("acme"),
    ADEN_API_KEY_globex: keyOf("globex")
  }
  return ConfigProvider.layer(ConfigProvider.fromEnv({ env }))
}))

const Base = Layer.mergeAll(NodeFiles, FetchHttpClient.layer).pipe(
  Layer.provideMerge(Environment),
  Layer.provideMerge(Layer.merge(Aden, Home.layer))
)

interface Options {
  readonly lookup?: TenantLookup<FileSystem.FileSystem | Path.Path | HttpClient.HttpClient>
  readonly idleTimeToLive?: Duration.Input
}

const setup = (options?: Options) => TenantCredentials.layer(options).pipe(Layer.provideMerge(Layer.fresh(Base)))

/** No retries, so that a fault is an answer at once. */
const impatient: TenantSettings = { client: { retry: Schedule.recurs(0) } }

const as = (tenantId: string) => <A, E, R>(use: (store: CredentialStore["Service"]) => Effect.Effect<A, E, R>) =>
  CredentialStore.use(use).pipe(Effect.provide(TenantCredentials.get(tenantId)))

const token = (tenantId: string, ref = "hubspot") =>
  Effect.map(as(tenantId)((store) => store.token(ref)), Redacted.value)

const issuedTo = Effect.fnUntraced(function*(value: string) {
  const aden = yield* AdenEmulator
  return (yield* aden.issuedTokens).find((issued) => Redacted.value(issued.value) === value)?.tenantId
})

const requestsOf = (tenantId: string) =>
  Effect.flatMap(AdenEmulator, (aden) => aden.countRequests({ tenantId, endpoint: "get" }))

const settle = Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 2)))

/** The paths below a directory, in order. */
const filesIn = Effect.fnUntraced(function*(directory: string) {
  const fs = yield* FileSystem.FileSystem
  return (yield* fs.readDirectory(directory, { recursive: true })).toSorted()
})

const credentialsIn = Effect.fnUntraced(function*(...names: ReadonlyArray<string>) {
  const path = yield* Path.Path
  return path.join(yield* Home, ".hive", "credentials", ...names)
})

describe("TenantCredentials: two tenants built by one lookup", () => {
  const Shared = CredentialStore.layer().pipe(
    Layer.provide(AdenSyncProvider.layer()),
    Layer.provide(AdenClient.layerConfig),
    Layer.provide(EncryptedFileStorage.layerConfig)
  )

  const lookups: ReadonlyArray<readonly [name: string, options: Options]> = [
    ["without a lookup", {}],
    ["from one layer value, all of it from layerConfig", { lookup: () => Shared }],
    ["from an Effect of that layer value", { lookup: () => Effect.succeed(Shared) }],
    ["from an Effect of settings", { lookup: () => Effect.succeed({}) }],
    [
      "from shared parts, a registry of providers among them",
      {
        lookup: () =>
          CredentialStore.layer().pipe(
            Layer.provide(CredentialProviders.layerAll([
              AdenSyncProvider.layer().pipe(Layer.provide(AdenClient.layerConfig))
            ])),
            Layer.provide(EncryptedFileStorage.layerConfig)
          )
      }
    ]
  ]

  for (const [name, options] of lookups) {
    it.effect(`${name}: they have two clients, two API keys and two directories`, () =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        assert.strictEqual(yield* issuedTo(yield* token("acme")), "acme")
        assert.strictEqual(yield* issuedTo(yield* token("globex")), "globex")
        assert.strictEqual(yield* requestsOf("acme"), 1)
        assert.strictEqual(yield* requestsOf("globex"), 1)
        const headers = (yield* aden.requests).map((request) => [request.tenantId, request.headers["x-tenant-id"]])
        for (const [tenant, header] of headers) assert.strictEqual(header, tenant)
        const files = yield* filesIn(yield* credentialsIn())
        // locks and index are written by the way
        assert.deepStrictEqual(files.filter((file) => !/\/(locks|metadata)\//.test(file)), [
          "acme",
          "acme/credentials",
          "acme/credentials/hubspot.enc",
          "acme/locks",
          "acme/metadata",
          "acme/state",
          "acme/state/hubspot.json",
          "globex",
          "globex/credentials",
          "globex/credentials/hubspot.enc",
          "globex/locks",
          "globex/metadata",
          "globex/state",
          "globex/state/hubspot.json"
        ])
      }).pipe(
        // the program has a client of its own, by a layer value that tenants use too
        Effect.provide(AdenClient.layerConfig),
        Effect.provide(setup(options))
      ))
  }

  it.effect("neither is built with what the caller was provided with", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* issuedTo(yield* token("acme")), "acme")
    }).pipe(
      Effect.provide(
        Layer.succeed(HttpClient.HttpClient, HttpClient.make(() => Effect.die("the caller's own HTTP client")))
      ),
      Effect.provideService(FetchHttpClient.RequestInit, { headers: { authorization: "the caller's own" } }),
      Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown({})),
      Effect.provide(setup())
    ))

  it.effect("a tenant's store is built once, by many who ask at once, and stays the same", () => {
    let lookups = 0
    const lookup = () => Effect.sync(() => ({ store: (lookups++, {}) }))
    return Effect.gen(function*() {
      const stores = yield* Effect.forEach(Array.from({ length: 50 }), () => as("acme")(Effect.succeed), {
        concurrency: "unbounded"
      })
      assert.strictEqual(new Set(stores).size, 1)
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(yield* as("acme")(Effect.succeed), stores[0])
      assert.strictEqual(lookups, 1)
    }).pipe(Effect.provide(setup({ lookup })))
  })

  it.effect("settings: API key, URL, directory, provider id, encryption key and Aden's name for the tenant are its own", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const aden = yield* AdenEmulator
      const encryptionKey = yield* Fernet.generateKey
      const lookup = (): TenantSettings => ({
        apiKey: Redacted.make(keyOf("globex")),
        baseUrl: aden.url,
        adenTenantId: "globex",
        providerId: "aden_customer",
        directory,
        encryptionKeys: [encryptionKey]
      })
      yield* Effect.gen(function*() {
        assert.strictEqual(yield* issuedTo(yield* token("customer_7")), "globex")
        assert.strictEqual((yield* as("customer_7")((store) => store.get("hubspot"))).providerId, "aden_customer")
      }).pipe(Effect.provide(TenantCredentials.layer({ lookup })))
      const path = yield* Path.Path
      const read = (with_: Redacted.Redacted<string>) =>
        inDirectory(path.join(directory, "customer_7"), [with_])((storage) => storage.load("hubspot"))
      assert.isTrue(Option.isSome(yield* read(encryptionKey)))
      assert.strictEqual((yield* Effect.flip(read(key)))._tag, "CredentialDecryptionFailed")
    }).pipe(Effect.provide(Layer.fresh(Base))))

  it.effect("by default the provider is aden_{tenant}", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* as("acme")((store) => store.get("hubspot"))).providerId, "aden_acme")
    }).pipe(Effect.provide(setup())))

  it.effect("an API key that was rotated in the environment is picked up without a restart", () => {
    const env: Record<string, string> = {}
    return Effect.gen(function*() {
      const aden = yield* AdenEmulator
      Object.assign(env, {
        HOME: yield* Home,
        HIVE_CREDENTIAL_KEY: Redacted.value(key),
        ADEN_API_URL: aden.url,
        ADEN_API_KEY_acme: keyOf("acme")
      })
      const settings = ConfigProvider.make((path) => {
        const value = env[path.join("_")]
        return Effect.succeed(value === undefined ? undefined : ConfigProvider.makeValue(value))
      })
      yield* Effect.gen(function*() {
        yield* token("acme")
        yield* aden.setApiKeys([Redacted.make("rotated")], { tenantId: "acme" })
        env["ADEN_API_KEY_acme"] = "rotated"
        yield* token("acme", "github")
      }).pipe(
        Effect.provide(TenantCredentials.layer()),
        Effect.provideService(ConfigProvider.ConfigProvider, settings)
      )
    }).pipe(Effect.provide(Layer.fresh(Base)))
  })
})

describe("TenantCredentials: a file copied from one tenant's folder into another's", () => {
  const copied = Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    yield* token("acme")
    yield* as("globex")((store) => store.save(Credential.fromApiKey({ id: "own", apiKey: Redacted.make("BSA-0") })))
    const target = yield* credentialsIn("globex", "credentials", "hubspot.enc")
    yield* fs.copyFile(yield* credentialsIn("acme", "credentials", "hubspot.enc"), target)
    return target
  })

  it.effect("is CredentialDecryptionFailed, naming the file, which stays as it is", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const file = yield* copied
      const before = yield* fs.readFileString(file)
      const error = yield* Effect.flip(token("globex"))
      assert.deepInclude(error, { _tag: "CredentialDecryptionFailed", location: file })
      assert.include(error.message, "another tenant")
      assert.strictEqual(yield* fs.readFileString(file), before)
      assert.strictEqual(yield* requestsOf("globex"), 0)
      const saved = yield* Effect.flip(
        as("globex")((store) => store.save(Credential.fromApiKey({ id: "hubspot", apiKey: Redacted.make("mine") })))
      )
      assert.strictEqual(saved._tag, "CredentialDecryptionFailed")
    }).pipe(Effect.provide(setup())))

  it.effect("is listed as unreadable, and the others are read", () =>
    Effect.gen(function*() {
      yield* copied
      const listed = yield* as("globex")((store) => store.list)
      assert.deepStrictEqual(listed.map(({ id, status }) => [id, status]), [["hubspot", "unreadable"], [
        "own",
        "active"
      ]])
    }).pipe(Effect.provide(setup())))

  it.effect("a file without a tenant in it, Hive's, is accepted, and marked when it is rewritten", () =>
    Effect.gen(function*() {
      const own = Credential.fromApiKey({ id: "own", apiKey: Redacted.make("BSA-0") })
      const acme = yield* credentialsIn("acme")
      yield* inDirectory(acme)((storage) => storage.save(own))
      assert.strictEqual(yield* token("acme", "own"), "BSA-0")
      yield* as("acme")((store) => store.save(own))
      // a program without tenants reads the marked file, and keeps the mark
      yield* inDirectory(acme)((storage) => storage.save(own))
      const fs = yield* FileSystem.FileSystem
      yield* as("globex")((store) => store.save(own))
      yield* fs.copyFile(
        yield* credentialsIn("acme", "credentials", "own.enc"),
        yield* credentialsIn("globex", "credentials", "own.enc")
      )
      yield* TenantCredentials.invalidate("globex")
      assert.strictEqual((yield* Effect.flip(token("globex", "own")))._tag, "CredentialDecryptionFailed")
    }).pipe(Effect.provide(setup())))

  it.effect("the mark is not part of the credential: one that is read from a tenant is saved for another as the other's", () =>
    Effect.gen(function*() {
      yield* as("acme")((store) => store.save(Credential.fromApiKey({ id: "own", apiKey: Redacted.make("BSA-0") })))
      yield* TenantCredentials.invalidate("acme")
      const read = yield* as("acme")((store) => store.get("own"))
      assert.isUndefined(read.extra?.get("_tenant_id"))
      yield* as("globex")((store) => store.save(read))
      yield* TenantCredentials.invalidate("globex")
      assert.strictEqual(yield* token("globex", "own"), "BSA-0")
    }).pipe(Effect.provide(setup())))
})

describe("TenantCredentials: the same integration id for two tenants at once", () => {
  const faulty = (fault: Fault, endpoint?: "get") =>
    Effect.flatMap(AdenEmulator, (aden) => aden.setFault(fault, { tenantId: "acme", endpoint }))

  it.effect("they share no cache", () =>
    Effect.gen(function*() {
      const [acme, globex] = yield* Effect.all([token("acme"), token("globex")], { concurrency: "unbounded" })
      assert.notStrictEqual(acme, globex)
      assert.strictEqual(yield* token("acme"), acme)
      assert.strictEqual(yield* token("globex"), globex)
      yield* as("acme")((store) => store.delete("hubspot"))
      assert.isTrue((yield* as("globex")((store) => store.list)).some(({ id }) => id === "hubspot"))
    }).pipe(Effect.provide(setup())))

  it.effect("they share no flight and no lock: one that hangs keeps the other from nothing", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* faulty(Fault.Hang(), "get")
      const hanging = yield* Effect.forkChild(token("acme"), { startImmediately: true })
      yield* Effect.repeat(settle, { until: () => Effect.map(requestsOf("acme"), (count) => count === 1) })
      assert.strictEqual(yield* issuedTo(yield* token("globex")), "globex")
      assert.strictEqual((yield* aden.inFlight("hubspot")).maximum, 2)
      yield* Fiber.interrupt(hanging)
    }).pipe(Effect.provide(setup())))

  it.effect("they share no lock in storage", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const storageOf = (tenantId: string) =>
        Effect.map(
          Layer.build(EncryptedFileStorage.layerConfig),
          Context.get(CredentialStorage)
        ).pipe(Effect.map((storage) => ({ tenantId, storage })))
      const storages = new Map<string, CredentialStorage["Service"]>()
      const lookup = (tenantId: string) =>
        Effect.gen(function*() {
          const { storage } = yield* storageOf(tenantId)
          storages.set(tenantId, storage)
          return CredentialStore.layer().pipe(
            Layer.provide([CredentialProviders.layerNone, Layer.succeed(CredentialStorage, storage)])
          )
        }).pipe(Layer.unwrap)
      yield* Effect.gen(function*() {
        for (const tenant of ["acme", "globex"]) yield* as(tenant)((store) => store.list)
        const held = yield* Effect.forkChild(
          storages.get("acme")!.withLock("hubspot", Deferred.await(gate)),
          { startImmediately: true }
        )
        assert.strictEqual(yield* storages.get("globex")!.withLock("hubspot", Effect.succeed("free")), "free")
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(held)
      }).pipe(Effect.provide(TenantCredentials.layer({ lookup })))
    }).pipe(Effect.provide(Layer.fresh(Base))))

  it.effect("they share no cool-down", () =>
    Effect.gen(function*() {
      yield* faulty(Fault.RateLimited({ retryAfter: 120 }))
      assert.strictEqual((yield* Effect.flip(token("acme")))._tag, "RateLimited")
      assert.strictEqual(yield* issuedTo(yield* token("globex")), "globex")
    }).pipe(Effect.provide(setup({ lookup: () => impatient }))))

  it.effect("they share no circuit", () =>
    Effect.gen(function*() {
      yield* faulty(Fault.Status({ status: 503 }))
      for (let i = 0; i < 3; i++) yield* Effect.flip(token("acme"))
      const error = yield* Effect.flip(token("acme"))
      assert.strictEqual(error._tag, "AdenUnavailable")
      if (error._tag === "AdenUnavailable") assert.strictEqual(error.reason._tag, "AdenCircuitOpen")
      assert.strictEqual(yield* issuedTo(yield* token("globex")), "globex")
    }).pipe(
      Effect.provide(setup({ lookup: () => ({ client: { ...impatient.client, circuitBreaker: { failures: 2 } } }) }))
    ))

  it.effect("they share no file, nor what is remembered beside it: one is blocked, the other is not", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.revoke("hubspot", { tenantId: "acme" })
      assert.strictEqual((yield* Effect.flip(token("acme")))._tag, "ReauthRequired")
      assert.strictEqual(yield* issuedTo(yield* token("globex")), "globex")
      for (const tenant of ["acme", "globex"]) yield* TenantCredentials.invalidate(tenant)
      assert.strictEqual((yield* Effect.flip(token("acme")))._tag, "ReauthRequired")
      assert.strictEqual(yield* issuedTo(yield* token("globex")), "globex")
    }).pipe(Effect.provide(setup({ lookup: () => impatient }))))
})

describe("TenantCredentials: tenant ids", () => {
  const lookup = (tenantId: string): TenantSettings => ({ apiKey: Redacted.make(keyOf(tenantId)) })

  it.effect("../other, a/b and a:b cannot reach another tenant's folder", () =>
    Effect.gen(function*() {
      for (const id of ["../other", "a/b", "a:b"]) assert.strictEqual(yield* issuedTo(yield* token(id)), id)
      const fs = yield* FileSystem.FileSystem
      const folders = yield* fs.readDirectory(yield* credentialsIn())
      assert.lengthOf(folders, 3)
      for (const folder of folders) assert.match(folder, /^~[0-9a-f]{64}$/)
      const outside = yield* fs.readDirectory(yield* credentialsIn(".."))
      assert.deepStrictEqual(outside, ["credentials"])
    }).pipe(Effect.provide(setup({ lookup }))))

  it.effect.each(["", "a\0b", "a\nb", "a\u001b[2J", "a\u202eb", "\u200b", "\ud800", "x".repeat(201)])(
    "%j is refused before anything is looked up",
    (id) => {
      let lookups = 0
      const counting = () => {
        lookups++
        return {}
      }
      return Effect.gen(function*() {
        const error = yield* Effect.flip(token(id))
        assert.strictEqual(error._tag, "TenantError")
        if (error._tag === "TenantError") {
          assert.strictEqual(error.reason._tag, "InvalidTenantId")
          assert.strictEqual(error.tenantId, id)
          assert.isFalse(error.isRetryable)
        }
        assert.notMatch(error.message, /[\0-\x1f\u200b\u202e]/)
        assert.isBelow(error.message.length, 700)
        assert.strictEqual(lookups, 0)
      }).pipe(Effect.provide(setup({ lookup: counting })))
    }
  )

  it.effect("an id that cannot be part of a variable name has no default API key, and says so", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(token("acme-eu"))
      assert.strictEqual(error._tag, "TenantError")
      if (error._tag === "TenantError") assert.deepInclude(error.reason, { _tag: "AdenConfigError", setting: "lookup" })
      assert.include(error.message, "acme-eu")
    }).pipe(Effect.provide(setup())))

  it.effect("a tenant without an API key fails with the name of the variable to set, and is never served with another's", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const error = yield* Effect.flip(token("initech"))
      assert.strictEqual(error._tag, "TenantError")
      if (error._tag === "TenantError") {
        assert.deepInclude(error.reason, { _tag: "AdenConfigError", setting: "ADEN_API_KEY_initech" })
        assert.include(error.remedy, "API key")
      }
      assert.notInclude(inspect(error, { depth: Infinity }), "of-no-tenant")
      assert.strictEqual(yield* aden.countRequests(), 0)
    }).pipe(Effect.provide(setup())))

  it.effect.prop(
    "any two ids have two folders, both inside the directory, whatever they are",
    [hostileId, hostileId],
    ([one, other]) =>
      Effect.gen(function*() {
        const path = yield* Path.Path
        const folderOf = (id: string) => path.relative("/srv/all", tenantDirectory(path, "/srv/all", id))
        for (const folder of [folderOf(one), folderOf(other)]) {
          assert.match(folder, /^(?:[a-z0-9][a-z0-9_-]{0,63}|~[0-9a-f]{64})$/)
          assert.notInclude(["credentials", "metadata", "state", "locks"], folder)
        }
        if (one !== other) assert.notStrictEqual(folderOf(one), folderOf(other))
      }).pipe(Effect.provide(NodeFiles)),
    { arbitrary: { runs: repeats(500) } }
  )

  const folders: ReadonlyArray<readonly [id: string, isPlain: boolean]> = [
    ["acme", true],
    ["0", true],
    ["a_b-c", true],
    ["x".repeat(64), true],
    ["x".repeat(65), false],
    ["Acme", false],
    ["-a", false],
    ["..", false],
    [".", false],
    ["credentials", false],
    ["metadata", false],
    ["state", false],
    ["locks", false],
    ["a.b", false],
    ["~a", false],
    ["\u00e9", false],
    ["acme\n", false]
  ]

  it.effect.each(folders)("%j has a folder of its own name: %j", ([id, isPlain]) =>
    Effect.gen(function*() {
      const path = yield* Path.Path
      const folder = path.relative("/srv/all", tenantDirectory(path, "/srv/all", id))
      if (isPlain) assert.strictEqual(folder, id)
      else assert.match(folder, /^~[0-9a-f]{64}$/)
    }).pipe(Effect.provide(NodeFiles)))
})

describe("TenantCredentials: tenants come and go", () => {
  /** Stores in memory, and how many of them there are. */
  const counted = () => {
    const counts = { built: 0, live: 0 }
    const lookup = () =>
      CredentialStore.layer().pipe(
        Layer.provide([CredentialProviders.layerNone, MemoryStorage.layer()]),
        Layer.provide(Layer.effectDiscard(Effect.acquireRelease(
          Effect.sync(() => {
            counts.built++
            counts.live++
          }),
          () => Effect.sync(() => counts.live--)
        )))
      )
    return { counts, lookup }
  }

  const many = repeats(1_000)
  it.effect(`${many} tenants touched once each are released when they were idle for 15 minutes`, () => {
    const { counts, lookup } = counted()
    return Effect.gen(function*() {
      yield* Effect.forEach(
        Array.from({ length: many }, (_, index) => `tenant_${index}`),
        (tenant) => as(tenant)((store) => store.list),
        { concurrency: 50, discard: true }
      )
      assert.deepStrictEqual(counts, { built: many, live: many })
      yield* TestClock.adjust("14 minutes")
      assert.strictEqual(counts.live, many)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(counts.live, 0)
    }).pipe(Effect.provide(setup({ lookup })))
  })

  it.effect("one that is in use is kept however long, and idleTimeToLive runs from its last use", () => {
    const { counts, lookup } = counted()
    return Effect.gen(function*() {
      const user = yield* as("acme")(() => Effect.sleep("1 hour")).pipe(Effect.forkChild({ startImmediately: true }))
      yield* TestClock.adjust("59 minutes")
      assert.strictEqual(counts.live, 1)
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(user)
      yield* TestClock.adjust("59 seconds")
      assert.strictEqual(counts.live, 1)
      yield* as("acme")((store) => store.list)
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(counts, { built: 1, live: 1 })
      yield* TestClock.adjust("1 second")
      assert.strictEqual(counts.live, 0)
    }).pipe(Effect.provide(setup({ lookup, idleTimeToLive: "1 minute" })))
  })

  it.effect("all are released when the scope of the layer closes", () => {
    const { counts, lookup } = counted()
    return Effect.gen(function*() {
      yield* as("acme")((store) => store.list).pipe(Effect.provide(TenantCredentials.layer({ lookup })))
      assert.deepStrictEqual(counts, { built: 1, live: 0 })
    }).pipe(Effect.provide(Layer.fresh(Base)))
  })

  it.effect("invalidate has the store built again at its next use; programs that use the old one keep it", () => {
    const { counts, lookup } = counted()
    return Effect.gen(function*() {
      yield* as("acme")(Effect.fnUntraced(function*(old) {
        yield* TenantCredentials.invalidate("acme")
        yield* old.save(Credential.fromApiKey({ id: "own", apiKey: Redacted.make("BSA-0") }))
        const next = yield* as("acme")(Effect.succeed)
        assert.notStrictEqual(next, old)
        assert.strictEqual(counts.live, 2)
        assert.lengthOf(yield* old.list, 1)
      }))
      assert.strictEqual(counts.live, 1)
    }).pipe(Effect.provide(setup({ lookup })))
  })

  it.effect("a build that fails late, after an invalidation, leaves the newer store in place", () =>
    Effect.gen(function*() {
      const hanging = yield* Deferred.make<never, TenantLookupFailed>()
      let lookups = 0
      const lookup = () => Effect.suspend(() => ++lookups === 1 ? Deferred.await(hanging) : Effect.succeed({}))
      yield* Effect.gen(function*() {
        const old = yield* Effect.forkChild(Effect.exit(as("acme")(Effect.succeed)), { startImmediately: true })
        yield* TenantCredentials.invalidate("acme")
        const next = yield* as("acme")(Effect.succeed)
        assert.strictEqual(lookups, 2)
        yield* Deferred.fail(hanging, new TenantLookupFailed({ detail: "too late", isTransient: true }))
        yield* Fiber.join(old)
        yield* Effect.yieldNow
        assert.strictEqual(yield* as("acme")(Effect.succeed), next)
        assert.strictEqual(lookups, 2)
      }).pipe(Effect.provide(setup({ lookup })))
    }))

  it.effect("a lookup that failed, or broke, is tried again at the next use", () => {
    let lookups = 0
    const lookup = () =>
      Effect.suspend(() => {
        lookups++
        if (lookups === 1) {
          return Effect.fail(new TenantLookupFailed({ detail: "the database does not answer", isTransient: true }))
        }
        return lookups === 2 ? Effect.die("a bug") : Effect.succeed({})
      })
    return Effect.gen(function*() {
      const error = yield* Effect.flip(token("acme"))
      assert.strictEqual(error._tag, "TenantError")
      assert.include(error.message, "the database does not answer")
      if (error._tag === "TenantError") assert.isTrue(error.isRetryable)
      assert.isTrue((yield* Effect.exit(token("acme")))._tag === "Failure")
      assert.strictEqual(yield* issuedTo(yield* token("acme")), "acme")
      assert.strictEqual(lookups, 3)
    }).pipe(Effect.provide(setup({ lookup })))
  })

  it.effect("a lookup that failed after its last caller had given up is tried again at the next use", () => {
    let lookups = 0
    const lookup = () =>
      Effect.suspend(() =>
        ++lookups === 1
          ? Effect.andThen(
            Effect.sleep("5 seconds"),
            Effect.fail(new TenantLookupFailed({ detail: "the database does not answer", isTransient: true }))
          )
          : Effect.succeed({})
      )
    return Effect.gen(function*() {
      const impatient = yield* Effect.forkChild(Effect.timeoutOption(token("acme"), "1 second"), {
        startImmediately: true
      })
      yield* TestClock.adjust("1 second")
      assert.isTrue(Option.isNone(yield* Fiber.join(impatient)))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* issuedTo(yield* token("acme")), "acme")
      assert.strictEqual(lookups, 2)
    }).pipe(Effect.provide(setup({ lookup })))
  })

  it.effect("what a lookup needs is that of where the layer is built", () => {
    class Directory extends Context.Service<Directory, string>()("test/Directory") {}
    const lookup = Effect.fnUntraced(function*() {
      return { directory: yield* Directory }
    })
    return Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* Effect.asVoid(token("acme")).pipe(
        Effect.provideService(Directory, "/nowhere"),
        Effect.provide(TenantCredentials.layer({ lookup })),
        Effect.provideService(Directory, directory)
      )
      const fs = yield* FileSystem.FileSystem
      assert.deepStrictEqual(yield* fs.readDirectory(directory), ["acme"])
    }).pipe(Effect.provide(Layer.fresh(Base)))
  })
})
