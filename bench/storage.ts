/**
 * The cost of saving and loading 1, 100 and 10,000 credentials in encrypted files: saved by one `saveMany`, loaded one by one.
 * Also what the code of a state record adds. Run by `npm run bench:storage`; exits 1 when a credential of 10,000 costs more than 1.5 times one of 100.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Credential, CredentialState, CredentialStorage, EncryptedFileStorage, Fernet } from "aden-credentials"
import { Console, DateTime, Duration, Effect, FileSystem, Layer, Redacted, Schema } from "effect"
import { decodeState, StateCodec } from "../src/storage/format/StateRecord.ts"

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

/** What it costs to sign and to verify a state record, in ms. */
const costOfCode = Effect.gen(function*() {
  const codec = new StateCodec([yield* Fernet.parseKey(yield* Fernet.generateKey)], "")
  const state = new CredentialState({ generation: 7, lastConfirmed: yield* DateTime.now })
  const plain = JSON.stringify({ generation: 7, lastConfirmed: "2026-12-01T10:00:00Z", id: "integration-1" })
  const signed = codec.encode("integration-1", state)
  const count = 20_000
  const timed = (use: () => unknown) =>
    Effect.map(
      Effect.timed(Effect.sync(() => {
        for (let i = 0; i < count; i++) use()
      })),
      ([duration]) => millis(duration, count)
    )
  const rounds = Effect.gen(function*() {
    const verified = yield* timed(() => codec.decode("integration-1", signed))
    const unverified = yield* timed(() => decodeState(plain))
    const sign = yield* timed(() => codec.encode("integration-1", state))
    const unsigned = yield* timed(() => encodePlain({ ...state, id: "integration-1" }))
    return { sign: sign - unsigned, verify: verified - unverified }
  })
  const all = yield* Effect.all(Array.from({ length: 5 }, () => rounds))
  return { sign: median(all.map(({ sign }) => sign)), verify: median(all.map(({ verify }) => verify)) }
})

const encodePlain = Schema.encodeSync(
  Schema.fromJsonString(Schema.Struct({ id: Schema.optional(Schema.String), ...CredentialState.fields }))
)

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
  const code = yield* costOfCode
  const share = (part: number, whole: number) => `${(100 * part / (whole - part)).toFixed(1)} %`
  yield* Console.log(
    `the code of a state record: ${(1_000 * code.sign).toFixed(0)} and ${(1_000 * code.verify).toFixed(0)} µs, ` +
      `${share(code.sign, few.save)} of a save and ${share(code.verify, few.load)} of a load without it`
  )
  const ratio = { save: many.save / few.save, load: many.load / few.load }
  yield* Console.log(`10,000 against 100: save ${ratio.save.toFixed(2)}, load ${ratio.load.toFixed(2)}`)
  if (ratio.save > 1.5 || ratio.load > 1.5) {
    return yield* Effect.fail("a credential of 10,000 costs over 1.5 times one of 100")
  }
})

NodeRuntime.runMain(program)
