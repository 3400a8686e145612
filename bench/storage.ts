/**
 * The cost of saving and loading 1, 100 and 10,000 credentials in encrypted files: saved by one `saveMany`, loaded one by one.
 * Run by `npm run bench:storage`; exits 1 when a credential of 10,000 costs more than 1.5 times one of 100.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Credential, CredentialStorage, EncryptedFileStorage, Fernet } from "aden-credentials"
import { Console, Duration, Effect, FileSystem, Layer, Redacted } from "effect"

const credentials = (count: number) =>
  Array.from({ length: count }, (_, i) =>
    Credential.fromAccessToken({
      id: `integration-${i}`,
      accessToken: Redacted.make(`token-${i}-${"x".repeat(500)}`),
      provider: "hubspot",
      alias: `Account ${i}`
    }))

/** A new, empty directory. */
const Storage = Layer.unwrap(Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "aden-bench-" })
  return EncryptedFileStorage.layer({ directory, keys: [yield* Fernet.generateKey] })
})).pipe(Layer.provide(NodeServices.layer))

const millis = (duration: Duration.Duration, count: number) => Duration.toMillis(duration) / count

/** The cost per credential, in ms, when this many are saved and loaded. */
const measure = (count: number) =>
  Effect.gen(function*() {
    const storage = yield* CredentialStorage
    const many = credentials(count)
    const [saving, failures] = yield* Effect.timed(storage.saveMany(many))
    if (failures.size > 0) return yield* Effect.fail(`${failures.size} credentials could not be saved`)
    const [loading] = yield* Effect.timed(Effect.forEach(many, ({ id }) => storage.load(id), { discard: true }))
    return { save: millis(saving, count), load: millis(loading, count) }
  }).pipe(Effect.provide(Storage, { local: true }))

const median = (values: ReadonlyArray<number>) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0

/** The median of several runs: a single small one is mostly noise. */
const typical = (count: number, runs: number) =>
  Effect.map(Effect.all(Array.from({ length: runs }, () => measure(count))), (all) => ({
    save: median(all.map(({ save }) => save)),
    load: median(all.map(({ load }) => load))
  }))

const program = Effect.gen(function*() {
  yield* measure(100) // warm up, so that compiling is not measured
  const one = yield* typical(1, 21)
  const before = yield* typical(100, 9)
  const many = yield* typical(10_000, 1)
  // before and after the long run, because the speed of the machine varies
  const after = yield* typical(100, 9)
  const few = { save: (before.save + after.save) / 2, load: (before.load + after.load) / 2 }
  for (const [count, cost] of [[1, one], [100, few], [10_000, many]] as const) {
    yield* Console.log(
      `${String(count).padStart(6)}: save ${cost.save.toFixed(2)} ms, load ${cost.load.toFixed(2)} ms per credential`
    )
  }
  const ratio = { save: many.save / few.save, load: many.load / few.load }
  yield* Console.log(`10,000 against 100: save ${ratio.save.toFixed(2)}, load ${ratio.load.toFixed(2)}`)
  if (ratio.save > 1.5 || ratio.load > 1.5) {
    return yield* Effect.fail("a credential of 10,000 costs over 1.5 times one of 100")
  }
})

NodeRuntime.runMain(program)
