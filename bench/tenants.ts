/**
 * Whether the memory of 10,000 tenants is released: each is touched once (a store over an encrypted directory, a client, one
 * credential read from disk), then all are idle until they are released. Run by `npm run bench:tenants`; exits 1 when, after
 * a collection, the heap is more than 20 % above what it was before.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import {
  Credential,
  CredentialStorage,
  CredentialStore,
  EncryptedFileStorage,
  Fernet,
  TenantCredentials
} from "aden-credentials"
import { Console, Effect, FileSystem, Layer, Redacted } from "effect"
import { FetchHttpClient } from "effect/http"

const tenants = 10_000
const idleTimeToLive = "30 seconds"

const collect = Effect.gen(function*() {
  const { gc } = globalThis
  if (gc === undefined) return yield* Effect.die("run with --expose-gc")
  // several times: what a finalizer releases is only collected by the next one
  for (let i = 0; i < 5; i++) {
    gc()
    yield* Effect.sleep("50 millis")
  }
  return process.memoryUsage().heapUsed
})

const megabytes = (bytes: number) => `${(bytes / 1024 / 1024).toFixed(1)} MB`

const own = Credential.fromApiKey({ id: "own", apiKey: Redacted.make("BSA-0123456789") })

const touch = (tenantId: string) =>
  CredentialStore.use((store) => store.token("own")).pipe(Effect.provide(TenantCredentials.get(tenantId)))

const program = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "aden-bench-" })
  const encryptionKey = yield* Fernet.generateKey
  const settings = {
    apiKey: Redacted.make("agent-key"),
    baseUrl: "https://aden.example.com",
    directory,
    encryptionKeys: [encryptionKey]
  }
  const names = Array.from({ length: tenants }, (_, index) => `tenant_${index}`)
  yield* Console.log(`writing the files of ${tenants} tenants`)
  yield* Effect.forEach(
    names,
    (name) =>
      CredentialStorage.use((storage) => storage.save(own)).pipe(
        Effect.provide(EncryptedFileStorage.layer({ directory: `${directory}/${name}`, keys: [encryptionKey] }), {
          local: true
        })
      ),
    { concurrency: 16, discard: true }
  )
  yield* Effect.gen(function*() {
    const touchAll = (some: ReadonlyArray<string>) => Effect.forEach(some, touch, { concurrency: 16, discard: true })
    const sample = names.slice(0, 100)
    yield* touchAll(sample) // warm up, so that compiled code is not counted
    yield* Effect.forEach(sample, TenantCredentials.invalidate, { discard: true })
    const before = yield* collect
    const [duration] = yield* Effect.timed(touchAll(names))
    const live = yield* collect
    yield* Effect.sleep(idleTimeToLive)
    const after = yield* collect
    const ratio = after / before
    yield* Console.log(`before:                     ${megabytes(before)}`)
    yield* Console.log(`${tenants} tenants, each touched: ${megabytes(live)} (${duration})`)
    yield* Console.log(`idle for ${idleTimeToLive}:        ${megabytes(after)}`)
    yield* Console.log(`ratio:                      ${ratio.toFixed(3)}`)
    if (live < before * 2) return yield* Effect.fail("the tenants were not live together: raise idleTimeToLive")
    if (ratio > 1.2) return yield* Effect.fail("memory did not come back")
  }).pipe(Effect.provide(TenantCredentials.layer({ lookup: () => settings, idleTimeToLive })))
})

program.pipe(
  Effect.scoped,
  Effect.provide(Layer.merge(NodeServices.layer, FetchHttpClient.layer)),
  NodeRuntime.runMain
)
