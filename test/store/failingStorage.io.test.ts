import { assert, describe, it } from "@effect/vitest"
import { AdenClient, AdenSyncProvider, Credential, CredentialStore, EncryptedFileStorage } from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { Context, Duration, Effect, Fiber, FileSystem, Layer, Logger, PlatformError, Redacted, Schedule } from "effect"
import { FetchHttpClient } from "effect/http"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import * as path from "node:path"
import { key, NodeFiles, temporaryDirectory } from "../storage/temporaryStorage.ts"

// Stores over real files, by way of a file system that can be made to fail as a degraded disk does.

type Trouble = "EROFS" | "ENOSPC" | "EIO" | "EACCES"

const descriptions = {
  EROFS: "read-only file system",
  ENOSPC: "no space left on device",
  EIO: "i/o error",
  EACCES: "permission denied"
} as const

class Disk extends Context.Service<Disk, {
  /** What the disk fails with: a read-only or full one its writes, others everything. */
  trouble: Trouble | undefined
  /** The name of the one file that this is about; all, when left out. */
  only: string | undefined
  /** How long each operation takes. */
  delay: Duration.Input | undefined
  /** How many operations there were. */
  operations: number
}>()("test/Disk") {}

const DegradableFiles = Layer.effect(
  FileSystem.FileSystem,
  Effect.gen(function*() {
    const base = yield* FileSystem.FileSystem
    const disk = yield* Disk
    const failure = (trouble: Trouble, file: string) =>
      PlatformError.systemError({
        _tag: trouble === "EACCES" ? "PermissionDenied" : "Unknown",
        module: "FileSystem",
        method: "test",
        pathOrDescriptor: file,
        cause: new Error(`${trouble}: ${descriptions[trouble]}, open '${file}'`)
      })
    const through = <A, R>(
      way: "read" | "write",
      file: string,
      operation: Effect.Effect<A, PlatformError.PlatformError, R>
    ) =>
      Effect.suspend(() => {
        const { delay, only, trouble } = disk
        disk.operations++
        const isConcerned = only === undefined || path.basename(file) === only
        const outcome =
          trouble !== undefined && isConcerned && (way === "write" || trouble === "EIO" || trouble === "EACCES")
            ? Effect.fail(failure(trouble, file))
            : operation
        return delay === undefined ? outcome : Effect.delay(outcome, delay)
      })
    return {
      ...base,
      open: (file, options) =>
        through(
          options?.flag === "wx" || options?.flag === "r+" ? "write" : "read",
          file,
          base.open(file, options)
        ),
      lstat: (file) => through("read", file, base.lstat(file)),
      stat: (file) => through("read", file, base.stat(file)),
      readDirectory: (file, options) => through("read", file, base.readDirectory(file, options)),
      makeDirectory: (file, options) => through("write", file, base.makeDirectory(file, options)),
      link: (from, to) => through("write", to, base.link(from, to)),
      rename: (from, to) => through("write", to, base.rename(from, to)),
      remove: (file, options) => through("write", file, base.remove(file, options))
    } satisfies FileSystem.FileSystem
  })
)

class Warnings extends Context.Service<Warnings, Array<string>>()("test/Warnings") {}

/** A store over this directory, of a process of its own. */
const start = (directory: string) =>
  Effect.gen(function*() {
    const aden = yield* AdenEmulator
    const client = AdenClient.layer({
      baseUrl: aden.url,
      apiKey: aden.apiKey,
      retry: Schedule.recurs(0),
      circuitBreaker: { failures: 10_000 }
    })
    return Context.get(
      yield* Layer.build(Layer.fresh(
        CredentialStore.layer().pipe(
          Layer.provide(AdenSyncProvider.layer()),
          Layer.provide(Layer.provide(client, FetchHttpClient.layer)),
          Layer.provide(EncryptedFileStorage.layer({ directory, keys: [key] })),
          Layer.provide(Layer.provideMerge(DegradableFiles, NodeFiles))
        )
      )),
      CredentialStore
    )
  })

const environmentWith = (tokenLifetime: Duration.Input) =>
  Layer.unwrap(Effect.sync(() => {
    const warnings: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      // Hive's list of the files is written by the storage, which warns of it once, too
      if (logLevel === "Warn" && !String(message).startsWith("Hive's list")) warnings.push(String(message))
    })
    return Layer.mergeAll(
      Layer.succeed(Warnings, warnings),
      Layer.succeed(Disk, { trouble: undefined, only: undefined, delay: undefined, operations: 0 }),
      Logger.layer([logger]),
      AdenEmulator.layer({
        integrations: [{ id: "hubspot", tokenLifetime }, { id: "slack", status: "requires_reauth" }]
      })
    )
  }))

const environment = environmentWith("1 hour")

const tokenOf = (store: CredentialStore["Service"], ref = "hubspot") => Effect.map(store.token(ref), Redacted.value)

const storageErrorOf = (store: CredentialStore["Service"]) =>
  Effect.map(store.explain("hubspot"), ({ storageError }) => storageError?.message)

const cache = Effect.map(temporaryDirectory, (directory) => path.join(directory, "cache"))

const memoryWarning = "Credential storage fails; credentials are kept in memory"

/** Lets what waits for the disk go on. */
const pass = (time: Duration.Input, steps = 20) =>
  Effect.forEach(
    Array.from({ length: steps }),
    () =>
      Effect.andThen(
        TestClock.adjust(Duration.millis(Duration.toMillis(time) / steps)),
        Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 4)))
      ),
    { discard: true }
  )

describe("CredentialStore: degraded disks", () => {
  const troubles = ["EROFS", "ENOSPC", "EIO", "EACCES"] as const

  it.effect.each(troubles)(
    "%s: reads from memory and Aden go on, with one warning; explain shows it until the disk works again",
    (trouble) =>
      Effect.gen(function*() {
        const disk = yield* Disk
        const warnings = yield* Warnings
        const directory = yield* cache
        const store = yield* start(directory)
        yield* store.sync
        const first = yield* tokenOf(store)
        assert.isUndefined(yield* storageErrorOf(store))
        disk.trouble = trouble
        disk.operations = 0
        assert.strictEqual(yield* tokenOf(store), first)
        assert.strictEqual(disk.operations, 0)
        yield* TestClock.adjust("11 minutes")
        const second = yield* tokenOf(store)
        assert.notStrictEqual(second, first)
        assert.strictEqual(yield* tokenOf(store), second)
        yield* TestClock.adjust("11 minutes")
        const third = yield* tokenOf(store)
        assert.notStrictEqual(third, second)
        assert.deepStrictEqual(warnings, [memoryWarning])
        assert.include(yield* storageErrorOf(store), `${trouble}: ${descriptions[trouble]}`)
        disk.trouble = undefined
        yield* TestClock.adjust("11 minutes")
        const fourth = yield* tokenOf(store)
        assert.notStrictEqual(fourth, third)
        assert.isUndefined(yield* storageErrorOf(store))
        assert.deepStrictEqual(warnings, [memoryWarning])
        assert.strictEqual(yield* tokenOf(yield* start(directory)), fourth)
      }).pipe(Effect.provide(environmentWith("10 minutes")))
  )

  it.effect.each(["EROFS", "ENOSPC"] as const)(
    "%s from the start: what is stored is served, and what Aden has",
    (trouble) =>
      Effect.gen(function*() {
        const disk = yield* Disk
        const directory = yield* cache
        const stored = yield* Effect.gen(function*() {
          const store = yield* start(directory)
          yield* store.sync
          return yield* tokenOf(store)
        })
        yield* (yield* AdenEmulator).connect("slack")
        disk.trouble = trouble
        const store = yield* start(directory)
        assert.strictEqual(yield* tokenOf(store), stored)
        yield* TestClock.adjust("31 seconds")
        assert.isString(yield* tokenOf(store, "slack"))
        assert.deepStrictEqual(yield* Warnings, [memoryWarning])
        assert.include(yield* storageErrorOf(store), trouble)
      }).pipe(Effect.provide(environment))
  )

  it.effect.each(["EIO", "EACCES"] as const)(
    "%s from the start: what Aden has is served",
    (trouble) =>
      Effect.gen(function*() {
        const disk = yield* Disk
        disk.trouble = trouble
        const store = yield* start(yield* cache)
        const token = yield* tokenOf(store)
        assert.strictEqual(yield* tokenOf(store), token)
        assert.deepStrictEqual(yield* Warnings, [memoryWarning])
        assert.include(yield* storageErrorOf(store), trouble)
      }).pipe(Effect.provide(environment))
  )

  it.effect("EIO from the start, and Aden does not have it: the error of the disk", () =>
    Effect.gen(function*() {
      const disk = yield* Disk
      disk.trouble = "EIO"
      const store = yield* start(yield* cache)
      const error = yield* Effect.flip(store.token("brave"))
      assert.strictEqual(error._tag, "CredentialStorageError")
      assert.include(error.message, "EIO: i/o error")
    }).pipe(Effect.provide(environment)))

  it.effect("EIO of only one file: its error, for it may be the program's own", () =>
    Effect.gen(function*() {
      const disk = yield* Disk
      const directory = yield* cache
      yield* Effect.flatMap(start(directory), (store) => store.sync)
      disk.only = "hubspot.enc"
      disk.trouble = "EIO"
      const error = yield* Effect.flip((yield* start(directory)).token("hubspot"))
      assert.strictEqual(error._tag, "CredentialStorageError")
      assert.include(error.message, "hubspot.enc: EIO: i/o error")
    }).pipe(Effect.provide(environment)))

  it.effect("EIO while Aden was asked: what Hive wrote in that time as the person's own is not overwritten, and is served", () =>
    Effect.gen(function*() {
      const disk = yield* Disk
      const directory = yield* cache
      const own = Credential.fromApiKey({ id: "hubspot", apiKey: Redacted.make("own") })
      yield* Effect.flatMap(start(directory), (store) => store.save(own))
      // Hive counts nothing
      fs.rmSync(path.join(directory, "state"), { recursive: true })
      disk.trouble = "EIO"
      const store = yield* start(directory)
      assert.notStrictEqual(yield* tokenOf(store), "own")
      disk.trouble = undefined
      yield* store.refresh("hubspot")
      assert.strictEqual(yield* tokenOf(store), "own")
      assert.strictEqual(yield* tokenOf(yield* start(directory)), "own")
    }).pipe(Effect.provide(environment)))

  it.effect("slow: a read from memory does not wait for it, nor one that Aden renews in the background", () =>
    Effect.gen(function*() {
      const disk = yield* Disk
      const aden = yield* AdenEmulator
      const store = yield* start(yield* cache)
      yield* store.sync
      const first = yield* tokenOf(store)
      disk.delay = "1 minute"
      for (const left of ["0 minutes", "6 minutes", "52 minutes"] as const) {
        yield* TestClock.adjust(left)
        const before = yield* aden.countRequests()
        // no time passes: a read that waited for the disk would never end
        assert.strictEqual(yield* tokenOf(store), first, left)
        assert.strictEqual(yield* aden.countRequests(), before, left)
      }
      disk.delay = undefined
      yield* pass("10 minutes")
    }).pipe(Effect.provide(environment)))

  it.effect("slow: who names a provider waits a second at most to learn of a second account, once for all", () =>
    Effect.gen(function*() {
      const disk = yield* Disk
      const aden = yield* AdenEmulator
      yield* aden.addIntegration({ id: "hash-1", type: "google", alias: "Home", tokenLifetime: "1 hour" })
      const store = yield* start(yield* cache)
      yield* store.sync
      const first = yield* tokenOf(store, "google")
      yield* TestClock.adjust("6 minutes")
      disk.delay = "1 minute"
      const reading = yield* Effect.forkChild(tokenOf(store, "google"), { startImmediately: true })
      yield* pass("1 second")
      assert.isDefined(reading.pollUnsafe())
      assert.strictEqual(yield* Fiber.join(reading), first)
      assert.strictEqual(yield* tokenOf(store, "google"), first)
      disk.delay = undefined
      yield* pass("10 minutes")
      // it is looked for all the same
      yield* aden.addIntegration({ id: "hash-2", type: "google", alias: "Work" })
      yield* store.sync
      yield* TestClock.adjust("6 minutes")
      assert.strictEqual((yield* Effect.flip(store.token("google")))._tag, "AmbiguousCredential")
    }).pipe(Effect.provide(environment)))

  it.effect("slow: an expired token is renewed all the same, and saved", () =>
    Effect.gen(function*() {
      const disk = yield* Disk
      const directory = yield* cache
      const store = yield* start(directory)
      yield* store.sync
      const first = yield* tokenOf(store)
      yield* TestClock.adjust("2 hours")
      disk.delay = "5 millis"
      const reading = yield* Effect.forkChild(tokenOf(store))
      yield* pass("10 seconds", 500)
      const renewed = yield* Fiber.join(reading)
      assert.notStrictEqual(renewed, first)
      disk.delay = undefined
      assert.strictEqual(yield* tokenOf(yield* start(directory)), renewed)
      assert.deepStrictEqual(yield* Warnings, [])
    }).pipe(Effect.provide(environment)))
})
