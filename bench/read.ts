/**
 * The cost of reading a valid cached token, compared with other clients in the same run. Each reader is called many times one
 * after another, in alternating rounds; the median round counts. Run by `npm run bench:read`; exits 1 when a cached
 * `store.token(ref)` is slower than Effect's `Cache.get`, or takes over 1.3 times as long as google-auth-library.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { memoizeIdentityProvider } from "@smithy/core"
import { Credential, CredentialStore, TestCredentials } from "aden-credentials"
import { Cache, Clock, Console, DateTime, Effect, Redacted } from "effect"
import { OAuth2Client } from "google-auth-library"

const calls = 200_000
const rounds = 15

/** One of the clients that are compared. */
interface Reader {
  readonly name: string
  readonly run: Effect.Effect<void>
}

const accessToken = "ya29.a0AfH6SMBx-cached-and-valid"

const program = Effect.gen(function*() {
  const store = yield* CredentialStore
  const expiresAt = DateTime.add(yield* DateTime.now, { hours: 12 })

  const cache = yield* Cache.make({
    capacity: 100,
    timeToLive: "12 hours",
    lookup: (_: string) => Effect.succeed(Redacted.make(accessToken))
  })

  const google = new OAuth2Client()
  google.setCredentials({ access_token: accessToken, expiry_date: DateTime.toEpochMillis(expiresAt) })

  const smithy = memoizeIdentityProvider(
    () => Promise.resolve({ token: accessToken, expiration: DateTime.toDate(expiresAt) }),
    (identity) => (identity.expiration?.getTime() ?? Infinity) - Date.now() < 300_000,
    () => true
  )
  if (smithy === undefined) return yield* Effect.die("smithy has no provider")

  // Each is called as a program calls it, one after another.
  const readers: ReadonlyArray<Reader> = [
    {
      name: "store.token(ref)",
      run: Effect.orDie(Effect.gen(function*() {
        for (let i = 0; i < calls; i++) yield* store.token("hubspot")
      }))
    },
    {
      name: "Effect Cache.get",
      run: Effect.gen(function*() {
        for (let i = 0; i < calls; i++) yield* Cache.get(cache, "hubspot")
      })
    },
    {
      name: "google-auth-library getAccessToken",
      run: Effect.promise(async () => {
        for (let i = 0; i < calls; i++) await google.getAccessToken()
      })
    },
    {
      name: "smithy memoizeIdentityProvider",
      run: Effect.promise(async () => {
        for (let i = 0; i < calls; i++) await smithy()
      })
    }
  ]

  const times = new Map<string, Array<number>>(readers.map(({ name }) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (const { name, run } of readers) {
      const before = yield* Clock.currentTimeNanos
      yield* run
      times.get(name)?.push(Number((yield* Clock.currentTimeNanos) - before) / calls)
    }
  }
  const median = (name: string) => times.get(name)?.toSorted((a, b) => a - b)[Math.floor(rounds / 2)] ?? NaN

  const [ours, cached, googles] = readers.map(({ name }) => median(name))
  for (const { name } of readers) {
    yield* Console.log(`${name.padEnd(36)} ${median(name).toFixed(0).padStart(6)} ns per call`)
  }
  const ratios = { cache: (ours ?? NaN) / (cached ?? NaN), google: (ours ?? NaN) / (googles ?? NaN) }
  yield* Console.log(`of Cache.get: ${ratios.cache.toFixed(2)}   of google-auth-library: ${ratios.google.toFixed(2)}`)
  if (!(ratios.cache < 1) || !(ratios.google <= 1.3)) return yield* Effect.fail("slower than the target")
}).pipe(
  Effect.provide(
    TestCredentials.layer([
      Credential.fromAccessToken({ id: "hubspot", accessToken: Redacted.make(accessToken) })
    ], { cacheTtl: "1 hour" })
  )
)

NodeRuntime.runMain(program)
