/**
 * How much memory a tenant in use takes, and whether it is released: 1,000 tenants are each touched once (a store over an encrypted
 * directory, a client, one credential read from disk), then all are idle until they are released. Run by `npm run bench:tenants`, with
 * another number of tenants by `npm run bench:tenants -- 10000`; exits 1 when a tenant takes more than 24 KB, or when after its release
 * the memory is more than 20 % above what it was before.
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
import { kilobytes, megabytes, memoryInUse } from "./heap.ts"

const tenants = Number(process.argv[2] ?? 1_000)
/** Longer than it takes to touch them all, also on a busy machine. */
const idleTimeToLive = `${Math.max(30, Math.ceil(tenants / 30))} seconds` as const
/** Of one tenant, in bytes. */
const limit = 24 * 1024

const own = Credential.fromApiKey({ id: "own", apiKey: Redacted.make("BSA-0123456789") })

const touch = (tenantId: string) =>
  CredentialStore.use((store) => store.token("own")).pipe(
    // a busy disk may not answer within the 2 s that a store waits
    Effect.retry({ times: 5 }),
    Effect.provide(TenantCredentials.get(tenantId))
  )

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
  let built = 0
  const lookup = () => {
    built++
    return settings
  }
  const names = Array.from({ length: tenants }, (_, index) => `tenant_${index}`)
  const [first, ...others] = names
  yield* CredentialStorage.use((storage) => storage.save(own)).pipe(
    Effect.provide(EncryptedFileStorage.layer({ directory: `${directory}/${first}`, keys: [encryptionKey] }))
  )
  // copied, because to write each of them durably takes minutes
  yield* Effect.forEach(others, (name) => fs.copy(`${directory}/${first}`, `${directory}/${name}`), {
    concurrency: 4,
    discard: true
  })
  yield* Effect.gen(function*() {
    const touchAll = (some: ReadonlyArray<string>) => Effect.forEach(some, touch, { concurrency: 4, discard: true })
    const sample = names.slice(0, 100)
    yield* touchAll(sample) // warm up, so that compiled code is not counted
    yield* Effect.forEach(sample, TenantCredentials.invalidate, { discard: true })
    const before = yield* memoryInUse
    built = 0
    const [duration] = yield* Effect.timed(touchAll(names))
    const live = yield* memoryInUse
    yield* touchAll(sample)
    if (built > tenants) return yield* Effect.fail("the tenants were not live together: raise idleTimeToLive")
    yield* Effect.sleep(idleTimeToLive)
    const after = yield* memoryInUse
    const each = (live - before) / tenants
    const ratio = after / before
    yield* Console.log(`before:                     ${megabytes(before)}`)
    yield* Console.log(`${tenants} tenants, each touched: ${megabytes(live)} (${duration})`)
    yield* Console.log(`each of them:               ${kilobytes(each)}`)
    yield* Console.log(`idle for ${idleTimeToLive}:        ${megabytes(after)}`)
    yield* Console.log(`ratio:                      ${ratio.toFixed(3)}`)
    if (each > limit) return yield* Effect.fail(`a tenant takes more than ${kilobytes(limit)}`)
    if (ratio > 1.2) return yield* Effect.fail("memory did not come back")
  }).pipe(Effect.provide(TenantCredentials.layer({ lookup, idleTimeToLive })))
})

program.pipe(
  Effect.scoped,
  Effect.provide(Layer.merge(NodeServices.layer, FetchHttpClient.layer)),
  NodeRuntime.runMain
)
