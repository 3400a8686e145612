/**
 * A tour in six steps, with nothing to set up: `npm run quickstart`.
 *
 * The Aden server is the emulator that comes with this package, and the cache is a temporary directory. In a program of your
 * own, `AdenClient.layerConfig` and `EncryptedFileStorage.layerConfig` read the settings from the environment instead.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { AdenClient, AdenSyncProvider, CredentialStore, EncryptedFileStorage, Fernet } from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { Console, DateTime, Duration, Effect, Fiber, FileSystem, Layer, Redacted, Stream } from "effect"
import { FetchHttpClient } from "effect/http"

const Emulator = AdenEmulator.layer({
  integrations: [
    { id: "hubspot", tokenLifetime: "6 seconds" },
    { id: "github" }, // its tokens do not expire
    { id: "slack", status: "requires_reauth" } // its user revoked the access
  ]
})

/** The credentials of a program: a store, over a provider that asks Aden, over an encrypted cache. */
const Credentials = (directory: string) =>
  Layer.unwrap(Effect.gen(function*() {
    const { apiKey, url } = yield* AdenEmulator
    return CredentialStore.layer({
      cacheTtl: "5 seconds" // the default, 5 minutes, would be a long wait here
    }).pipe(
      Layer.provide(AdenSyncProvider.layer()),
      Layer.provide(AdenClient.layer({ baseUrl: url, apiKey })),
      Layer.provide(EncryptedFileStorage.layer({ directory, keys: [yield* Fernet.generateKey] }))
    )
  }))

const tour = Effect.gen(function*() {
  const aden = yield* AdenEmulator
  const store = yield* CredentialStore

  yield* step("Fetch everything that Aden has into the encrypted cache")
  const report = yield* store.sync
  const now = yield* DateTime.now
  yield* row("INTEGRATION", "OUTCOME", "TOKEN EXPIRES")
  for (const { expiresAt, id } of report.synced) {
    const left = expiresAt === undefined
      ? "never"
      : `in ${Math.round(Duration.toSeconds(DateTime.distance(now, expiresAt)))} s`
    yield* row(id, "saved", left)
  }
  for (const { id = "-" } of report.skipped) yield* row(id, "skipped", "no token: a person has to authorize it again")

  yield* step("Get a token")
  const first = yield* store.token("hubspot") // Redacted: it does not get into a log by accident
  yield* say(`hubspot: ${shortened(first)}, from the cache; Aden was not asked`)
  yield* say("(shown in part, and only because these are the emulator's tokens; the third word counts them)")

  yield* step("Let it expire, and ask again")
  yield* Effect.sleep("6.5 seconds")
  const second = yield* store.token("hubspot")
  yield* say(`hubspot: ${shortened(second)}, a new one: the old one had expired, so the store had Aden refresh it`)

  yield* step("Stop Aden, and ask for a token that Aden should confirm by now")
  yield* aden.stop
  const servedStale = yield* store.changes.pipe(
    Stream.filter((event) => event._tag === "ServedStale"),
    Stream.runHead,
    Effect.forkChild({ startImmediately: true })
  )
  const cached = yield* store.token("github")
  yield* say(
    `github: ${shortened(cached)}, at once, from the cache. In the background the store asks Aden three times,`
  )
  yield* say("finds it down, and warns:")
  yield* Fiber.join(servedStale)

  yield* step("Ask for a token that only a person can restore")
  yield* store.token("slack").pipe(
    // every failure is typed: this one needs a person, others concern Aden, the settings or the disk
    Effect.catchTag("ReauthRequired", (error) =>
      Effect.andThen(
        say(error.message),
        say("The store knows this from the sync, so it does not need Aden to say so, even after a restart.")
      ))
  )
})

const quickstart = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  yield* Effect.scoped(Effect.gen(function*() {
    const directory = yield* fs.makeTempDirectoryScoped({ prefix: "aden-quickstart-" })
    const { url } = yield* AdenEmulator
    yield* Console.log("Valid tokens from an Aden server, through a local encrypted cache.")
    yield* Console.log(`The server is the emulator, at ${url}; the cache is ${directory}.`)
    yield* Effect.provide(tour, Credentials(directory))
    const files = yield* fs.readDirectory(`${directory}/credentials`)
    yield* step("Tidy up")
    yield* say(`The cache held ${files.toSorted().join(" and ")}, encrypted. It is removed, and so is the key.`)
  }))
  yield* Console.log(
    "\nDone. Next: docs/configuration.md (settings for a real Aden server), docs/errors.md and docs/cli.md (the command line)."
  )
}).pipe(Effect.provide(Emulator))

let steps = 0
const step = (title: string) => Effect.suspend(() => Console.log(`\n${++steps}. ${title}`))
const row = (...cells: ReadonlyArray<string>) => say(cells.map((cell) => cell.padEnd(13)).join("").trimEnd())
const say = (text: string) => Console.log(`   ${text}`)
const shortened = (token: Redacted.Redacted<string>) => `${Redacted.value(token).slice(0, 26)}…`

quickstart.pipe(
  Effect.provide([NodeServices.layer, FetchHttpClient.layer]),
  NodeRuntime.runMain
)
