/**
 * How long a sync takes compared with its limit, which is what the server's latency leaves: 500 integrations, asked for 16 at a time at a
 * server in another process that answers every request after 20 ms, and saved to a new encrypted cache. Run by `npm run bench:sync`;
 * exits 1 when the median of five runs takes more than twice the limit.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { AdenClient, AdenSyncProvider, CredentialStore, EncryptedFileStorage, Fernet } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Console, Duration, Effect, FileSystem, Layer, Order, Path, Redacted } from "effect"
import { FetchHttpClient } from "effect/http"
import { fork } from "node:child_process"
import { syncConcurrency } from "../src/providers/CredentialProvider.ts"

const latency = Duration.millis(20)
const integrations = Array.from({ length: 500 }, (_, i) => `integration-${i}`)
const limit = Duration.toMillis(latency) * Math.ceil(integrations.length / syncConcurrency)

const server = Effect.gen(function*() {
  const aden = yield* AdenEmulator
  yield* aden.setFault(Fault.Latency({ duration: latency }))
  process.send?.({ url: aden.url, apiKey: Redacted.value(aden.apiKey) })
  yield* Effect.callback<void>((resume) => void process.once("disconnect", () => resume(Effect.void)))
}).pipe(Effect.provide(AdenEmulator.layer({
  integrations: integrations.map((id) => ({ id, tokenLifetime: "1 hour" }))
})))

const startServer = Effect.acquireRelease(
  Effect.sync(() => fork(import.meta.filename, ["server"])),
  (child) => Effect.sync(() => child.disconnect())
).pipe(
  Effect.flatMap((child) =>
    Effect.callback<{ readonly url: string; readonly apiKey: string }>((resume) =>
      void child.once("message", (message: { url: string; apiKey: string }) => resume(Effect.succeed(message)))
    )
  )
)

/** A store over this encrypted cache. */
const Store = (aden: { readonly url: string; readonly apiKey: string }, directory: string) =>
  CredentialStore.layer().pipe(
    Layer.provide(AdenSyncProvider.layer()),
    Layer.provide(AdenClient.layer({ baseUrl: aden.url, apiKey: Redacted.make(aden.apiKey) })),
    Layer.provide(FetchHttpClient.layer),
    Layer.provide(
      Layer.unwrap(Effect.map(Fernet.generateKey, (key) => EncryptedFileStorage.layer({ directory, keys: [key] })))
    ),
    Layer.provide(NodeServices.layer)
  )

/** A sync: how many it saved, how long it took, and the processor time of this process, in ms. */
const sync = Effect.gen(function*() {
  const store = yield* CredentialStore
  const before = process.cpuUsage()
  const [duration, { synced }] = yield* Effect.timed(store.sync)
  const { system, user } = process.cpuUsage(before)
  return { synced: synced.length, duration: Duration.toMillis(duration), processor: (user + system) / 1000 }
})

const median = (values: ReadonlyArray<number>) =>
  values.toSorted(Order.Number)[Math.floor(values.length / 2)] ?? Infinity

const program = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const aden = yield* startServer
  // all are kept to the end: where files were just deleted, ext4 takes ten times as long to create others
  const parent = yield* fs.makeTempDirectoryScoped({ prefix: "aden-bench-" })
  const measure = (name: string) => Effect.provide(sync, Store(aden, path.join(parent, name)), { local: true })
  yield* measure("warm-up") // so that compiling is not measured
  const runs = yield* Effect.forEach(["1", "2", "3", "4", "5"], measure)
  const durations = runs.map(({ duration }) => duration)
  const duration = median(durations)
  const perCredential = median(runs.map(({ processor }) => processor)) / integrations.length
  const synced = Math.min(...runs.map(({ synced }) => synced))
  const all = durations.map((duration) => duration.toFixed(0)).join(", ")
  yield* Console.log(`limit:                   ${limit} ms`)
  yield* Console.log(`sync of ${synced}:             ${duration.toFixed(0)} ms (median of ${all})`)
  yield* Console.log(`ratio:                   ${(duration / limit).toFixed(2)}`)
  yield* Console.log(`processor time of each:  ${perCredential.toFixed(2)} ms`)
  if (synced !== integrations.length || duration > 2 * limit) {
    return yield* Effect.fail("a sync took more than twice its limit")
  }
}).pipe(Effect.provide(NodeServices.layer))

NodeRuntime.runMain(Effect.scoped(process.argv[2] === "server" ? server : program))
