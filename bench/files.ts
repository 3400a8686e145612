/**
 * What single operations on encrypted files cost, as ratios within one run. Run by `npm run bench:files`; exits 1 when
 *
 * - a save, a refresh or a delete among 10,000 credentials takes over 1.5 times the processor time of one among 100,
 * - a cold read (credential and state) takes over 1.2 times the opening, reading and closing of two files by node:fs/promises,
 * - a write of the index takes over 3 times the processor time of stringifying it and writing the text.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Credential, CredentialStorage, EncryptedFileStorage, Fernet } from "aden-credentials"
import { Console, Effect, Exit, FileSystem, Layer, Path, Redacted, Scope } from "effect"
import { open, readFile, rename, rm, stat } from "node:fs/promises"

type Storage = CredentialStorage["Service"]

const idOf = (at: number) => `integration_${at}`

const credential = (id: string) =>
  Credential.fromAccessToken({
    id,
    accessToken: Redacted.make(`token-${id}-${"x".repeat(500)}`),
    provider: "hubspot",
    alias: `Account ${id}`
  })

const median = (values: ReadonlyArray<number>) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0

/** In ms. */
const processorTime = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const before = process.cpuUsage()
    yield* effect
    const { system, user } = process.cpuUsage(before)
    return (system + user) / 1_000
  })

const elapsed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const before = performance.now()
    yield* effect
    return performance.now() - before
  })

/** A directory with this many credentials. */
const makeDirectory = Effect.fnUntraced(function*(count: number) {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "aden-bench-" })
  const keys = [yield* Fernet.generateKey]
  const layer = EncryptedFileStorage.layer({ directory, keys })
  const many = Array.from({ length: count }, (_, at) => credential(idOf(at)))
  const failures = yield* CredentialStorage.use((storage) => storage.saveMany(many)).pipe(
    Effect.provide(layer, { local: true })
  )
  if (failures.size > 0) return yield* Effect.fail(`${failures.size} credentials could not be saved`)
  return { directory, count, layer }
})

type Directory = Effect.Success<ReturnType<typeof makeDirectory>>

const openStorage = Effect.fnUntraced(function*({ layer }: Directory, scope: Scope.Scope) {
  return yield* Effect.provideContext(CredentialStorage, yield* Layer.buildWithScope(Layer.fresh(layer), scope))
})

// single writes -------------------------------------------------------------------------------------------------------

const rounds = 15
const callsPerRound = 10

const writes = {
  save: (storage: Storage, _: number, at: number) => storage.save(credential(`new_${at}`)),
  refresh: (storage: Storage, count: number, at: number) => storage.save(credential(idOf((at * 7) % count))),
  delete: (storage: Storage, _: number, at: number) => storage.delete(`new_${at}`)
} as const

const measureWrites = Effect.fnUntraced(function*(few: Directory, many: Directory) {
  const scope = yield* Effect.scope
  const sides = [
    { count: few.count, storage: yield* openStorage(few, scope) },
    { count: many.count, storage: yield* openStorage(many, scope) }
  ] as const
  const ratios: Array<number> = []
  for (const kind of ["save", "refresh", "delete"] as const) {
    const costs: readonly [Array<number>, Array<number>] = [[], []]
    // the two in turn, because the speed of the machine varies; the first round is not counted: it warms up
    for (let round = 0; round <= rounds; round++) {
      for (const [at, { count, storage }] of sides.entries()) {
        const calls = Array.from(
          { length: callsPerRound },
          (_, call) => writes[kind](storage, count, round * callsPerRound + call)
        )
        const cost = yield* processorTime(Effect.all(calls, { discard: true }))
        if (round > 0) costs[at === 0 ? 0 : 1].push(cost / callsPerRound)
      }
    }
    const [small, large] = [median(costs[0]), median(costs[1])]
    ratios.push(large / small)
    yield* Console.log(
      `${kind}: ${small.toFixed(2)} ms of processor time among ${few.count}, ${
        large.toFixed(2)
      } among ${many.count}: ratio ${(large / small).toFixed(2)}`
    )
  }
  return Math.max(...ratios)
}, Effect.scoped)

// cold reads ----------------------------------------------------------------------------------------------------------

const readsPerRound = 100

const measureReads = Effect.fnUntraced(function*(directory: Directory) {
  const path = yield* Path.Path
  const storage = yield* openStorage(directory, yield* Effect.scope)
  const filesOf = (id: string): readonly [string, string] => [
    path.join(directory.directory, "credentials", `${id}.enc`),
    path.join(directory.directory, "state", `${id}.json`)
  ]
  const readByHandle = async (file: string) => {
    const handle = await open(file)
    try {
      return await handle.readFile()
    } finally {
      await handle.close()
    }
  }
  const repeat = (one: (id: string) => Promise<unknown>) =>
    Effect.promise(async () => {
      for (let at = 0; at < readsPerRound; at++) await one(idOf(at))
    })
  const plain = {
    "readFile, in turn": repeat(async (id) => {
      const [entry, state] = filesOf(id)
      await readFile(entry)
      await readFile(state)
    }),
    "readFile, at once": repeat((id) => Promise.all(filesOf(id).map((file) => readFile(file)))),
    "open, read, close, in turn": repeat(async (id) => {
      const [entry, state] = filesOf(id)
      await readByHandle(entry)
      await readByHandle(state)
    }),
    "open, read, close, at once": repeat((id) => Promise.all(filesOf(id).map(readByHandle)))
  }
  const cold = Effect.forEach(
    Array.from({ length: readsPerRound }, (_, at) => idOf(at)),
    storage.read,
    { discard: true }
  )
  const all = { ...plain, "cold read": cold }
  const times = new Map(Object.keys(all).map((name): [string, Array<number>] => [name, []]))
  for (let round = 0; round <= 40; round++) {
    for (const [name, reads] of Object.entries(all)) {
      const time = yield* elapsed(reads)
      if (round > 2) times.get(name)?.push(time / readsPerRound * 1_000)
    }
  }
  const typical = new Map(Array.from(times, ([name, values]) => [name, median(values)]))
  for (const [name, time] of typical) yield* Console.log(`${name}: ${time.toFixed(0)} µs`)
  const fastest = Math.min(...Object.keys(plain).map((name) => typical.get(name) ?? Infinity))
  const ratio = (typical.get("cold read") ?? Infinity) / fastest
  yield* Console.log(`cold read against the fastest of them: ${ratio.toFixed(2)}`)
  return ratio
}, Effect.scoped)

// the index -----------------------------------------------------------------------------------------------------------

const measureIndex = Effect.fnUntraced(function*(directory: Directory) {
  const path = yield* Path.Path
  const file = path.join(directory.directory, "metadata", "index.json")
  const copy = `${file}.copy`
  const writtenAt = Effect.promise(async () => (await stat(file)).mtimeMs)
  const written: Array<number> = []
  const opened: Array<number> = []
  const plain: Array<number> = []
  const stringifyAndWrite = Effect.gen(function*() {
    const index: unknown = JSON.parse(yield* Effect.promise(() => readFile(file, "utf8")))
    return yield* processorTime(Effect.promise(async () => {
      const handle = await open(`${copy}.tmp`, "w")
      await handle.writeFile(JSON.stringify(index))
      await handle.sync()
      await handle.close()
      await rename(`${copy}.tmp`, copy)
    }))
  })
  const storage = yield* openStorage(directory, yield* Effect.scope)
  for (let round = 0; round <= 10; round++) {
    const before = yield* writtenAt
    yield* storage.save(credential(idOf(round)))
    // a second after the save; looking for it often costs more than a tenth of what is measured
    const cost = yield* processorTime(Effect.gen(function*() {
      yield* Effect.sleep("950 millis")
      while ((yield* writtenAt) === before) yield* Effect.sleep("20 millis")
      // the lock is released and the mark removed
      yield* Effect.sleep("20 millis")
    }))
    const bare = yield* stringifyAndWrite
    if (round > 0) {
      written.push(cost)
      plain.push(bare)
    }
  }
  for (let round = 0; round <= 10; round++) {
    // a storage that was just opened has to read the index first; it writes it when it is closed
    const scope = yield* Scope.make()
    yield* (yield* openStorage(directory, scope)).save(credential(idOf(round)))
    const cost = yield* processorTime(Scope.close(scope, Exit.void))
    if (round > 0) opened.push(cost)
  }
  yield* Effect.promise(() => rm(copy))
  const ratio = median(written) / median(plain)
  yield* Console.log(
    `index of ${directory.count}: ${median(written).toFixed(1)} ms of processor time (${
      median(opened).toFixed(1)
    } the first time), stringify and write ${median(plain).toFixed(1)}: ratio ${ratio.toFixed(2)} (${
      (median(opened) / median(plain)).toFixed(2)
    } the first time)`
  )
  return ratio
}, Effect.scoped)

const program = Effect.gen(function*() {
  const few = yield* makeDirectory(100)
  const reading = yield* measureReads(few)
  const many = yield* makeDirectory(10_000)
  const indexing = yield* measureIndex(many)
  const writing = yield* measureWrites(few, many)
  const failures = [
    ...(writing > 1.5 ? [`a write among 10,000 costs ${writing.toFixed(2)} times one among 100`] : []),
    ...(reading > 1.2 ? [`a cold read takes ${reading.toFixed(2)} times the reading of two files`] : []),
    ...(indexing > 3 ? [`a write of the index costs ${indexing.toFixed(2)} times its stringifying and writing`] : [])
  ]
  if (failures.length > 0) return yield* Effect.fail(failures.join("; "))
}).pipe(Effect.scoped, Effect.provide(NodeServices.layer))

NodeRuntime.runMain(program)
