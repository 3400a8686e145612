/**
 * How long a sync takes compared with asking for one integration after another, in one run, each into an encrypted cache of its
 * own: 500 integrations at a server in another process that answers every request after 20 ms. Run by `npm run bench:sync`;
 * exits 1 when the sync takes a tenth of the other or more.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { AdenClient, AdenSyncProvider, CredentialStore, EncryptedFileStorage, Fernet } from "aden-credentials"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Console, Duration, Effect, FileSystem, Layer, Redacted } from "effect"
import { FetchHttpClient } from "effect/http"
import { fork } from "node:child_process"

const integrations = Array.from({ length: 500 }, (_, i) => `integration-${i}`)

const server = Effect.gen(function*() {
  const aden = yield* AdenEmulator
  yield* aden.setFault(Fault.Latency({ duration: "20 millis" }))
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

/** A store over a new, empty, encrypted cache. */
const Store = (aden: { readonly url: string; readonly apiKey: string }) =>
  CredentialStore.layer().pipe(
    Layer.provide(AdenSyncProvider.layer()),
    Layer.provide(AdenClient.layer({ baseUrl: aden.url, apiKey: Redacted.make(aden.apiKey) })),
    Layer.provide(FetchHttpClient.layer),
    Layer.provide(Layer.unwrap(Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const directory = yield* fs.makeTempDirectoryScoped({ prefix: "aden-bench-" })
      return EncryptedFileStorage.layer({ directory, keys: [yield* Fernet.generateKey] })
    }))),
    Layer.provide(NodeServices.layer)
  )

const together = Effect.flatMap(CredentialStore, (store) => Effect.map(store.sync, ({ synced }) => synced.length))

const apart = Effect.flatMap(
  CredentialStore,
  (store) => Effect.map(Effect.forEach(integrations, (id) => store.get(id)), (all) => all.length)
)

const program = Effect.gen(function*() {
  const aden = yield* startServer
  const measure = (work: Effect.Effect<number, unknown, CredentialStore>) =>
    Effect.timed(work).pipe(Effect.provide(Store(aden), { local: true }))
  yield* measure(together) // warm up, so that compiling is not measured
  const [sequential, fetched] = yield* measure(apart)
  // the speed of a shared disk varies
  const runs = (yield* Effect.all(Array.from({ length: 5 }, () => measure(together)))).toSorted(([a], [b]) =>
    Duration.toMillis(a) - Duration.toMillis(b)
  )
  const concurrent = runs[2]?.[0] ?? Duration.infinity
  const synced = Math.min(...runs.map(([, count]) => count))
  const ratio = Duration.toMillis(concurrent) / Duration.toMillis(sequential)
  const all = runs.map(([duration]) => Duration.toMillis(duration).toFixed(0)).join(", ")
  yield* Console.log(`${fetched} one after another: ${Duration.toMillis(sequential).toFixed(0)} ms`)
  yield* Console.log(`${synced} by sync:            ${Duration.toMillis(concurrent).toFixed(0)} ms (median of ${all})`)
  yield* Console.log(`ratio:                  ${ratio.toFixed(3)}`)
  if (fetched !== integrations.length || synced !== integrations.length || ratio >= 0.1) {
    return yield* Effect.fail("sync took a tenth of the time or more")
  }
})

NodeRuntime.runMain(Effect.scoped(process.argv[2] === "server" ? server : program))
