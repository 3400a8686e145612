/**
 * The cost of reading a valid cached token, compared with other clients in the same run. Each reader is called some thousand times
 * one after another, in many short rounds that all of them share: what slows the machine down slows all readers of a round down.
 * The median of the rounds' ratios counts. Run by `npm run bench:read`; exits 1 when a cached `store.token(ref)` is not within its
 * limit of each of the others.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { memoizeIdentityProvider } from "@smithy/core"
import { Credential, CredentialStore, TestCredentials } from "aden-credentials"
import { Cache, Console, DateTime, Duration, Effect, Redacted } from "effect"
import { OAuth2Client } from "google-auth-library"

const calls = 5_000
const rounds = 400
/** Rounds before the first that counts, in which the code is compiled. */
const warmUpRounds = 40

/** One of the clients that are compared. */
interface Reader {
  readonly name: string
  /** The most that ours may take of what this one takes. */
  readonly limit: number
  readonly run: Effect.Effect<void>
}

const accessToken = "ya29.a0AfH6SMBx-cached-and-valid"

/** Of sorted numbers. */
const quantile = (sorted: ReadonlyArray<number>, share: number): number =>
  sorted[Math.floor((sorted.length - 1) * share)] ?? NaN

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
  const ours: Reader = {
    name: "store.token(ref)",
    limit: 1,
    run: Effect.orDie(Effect.gen(function*() {
      for (let i = 0; i < calls; i++) yield* store.token("hubspot")
    }))
  }
  const readers: ReadonlyArray<Reader> = [
    ours,
    {
      name: "Effect Cache.get",
      limit: 0.5,
      run: Effect.gen(function*() {
        for (let i = 0; i < calls; i++) yield* Cache.get(cache, "hubspot")
      })
    },
    {
      name: "google-auth-library getAccessToken",
      limit: 0.65,
      run: Effect.promise(async () => {
        for (let i = 0; i < calls; i++) await google.getAccessToken()
      })
    },
    {
      name: "smithy memoizeIdentityProvider",
      limit: 0.85,
      run: Effect.promise(async () => {
        for (let i = 0; i < calls; i++) await smithy()
      })
    }
  ]

  const timeOf = ({ run }: Reader) =>
    Effect.map(Effect.timed(run), ([duration]) => Number(Duration.toNanosUnsafe(duration)) / calls)
  const times = new Map<Reader, Array<number>>(readers.map((reader) => [reader, []]))
  for (let round = -warmUpRounds; round < rounds; round++) {
    // each of them is the first in its turn
    for (let place = 0; place < readers.length; place++) {
      const reader = readers[(warmUpRounds + round + place) % readers.length]
      if (reader === undefined) continue
      const time = yield* timeOf(reader)
      if (round >= 0) times.get(reader)?.push(time)
    }
  }

  const own = times.get(ours) ?? []
  const misses: Array<string> = []
  for (const reader of readers) {
    const taken = times.get(reader) ?? []
    const ratios = own.map((time, round) => time / (taken[round] ?? NaN)).toSorted((a, b) => a - b)
    const ratio = quantile(ratios, 0.5)
    const nanos = quantile(taken.toSorted((a, b) => a - b), 0.5).toFixed(0).padStart(6)
    const [lower, upper] = [quantile(ratios, 0.25), quantile(ratios, 0.75)]
    yield* Console.log(
      `${reader.name.padEnd(36)} ${nanos} ns per call` +
        (reader === ours
          ? ""
          : `   ours is ${ratio.toFixed(2)} of it (half of the rounds ${lower.toFixed(2)} to ${upper.toFixed(2)})`)
    )
    if (!(ratio <= reader.limit)) misses.push(`${reader.name}: over ${reader.limit} of it`)
  }
  if (misses.length > 0) return yield* Effect.fail(misses.join(", "))
}).pipe(
  Effect.provide(
    TestCredentials.layer([
      Credential.fromAccessToken({ id: "hubspot", accessToken: Redacted.make(accessToken) })
    ], { cacheTtl: "1 hour" })
  )
)

NodeRuntime.runMain(program)
