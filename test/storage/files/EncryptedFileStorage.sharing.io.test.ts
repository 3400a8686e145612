import { assert, describe, it } from "@effect/vitest"
import { AdenClient, AdenSyncProvider, CredentialStore } from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { DateTime, Deferred, Effect, Exit, Fiber, FileSystem, Layer, Logger, Option, Redacted, Scope } from "effect"
import { FetchHttpClient } from "effect/http"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import * as path from "node:path"
import { Credential } from "../../../src/model/Credential.ts"
import { CredentialStorage } from "../../../src/storage/CredentialStorage.ts"
import { EncryptedFileStorage } from "../../../src/storage/files/EncryptedFileStorage.ts"
import { FileLocks } from "../../../src/storage/files/FileLock.ts"
import { makePrivateFiles } from "../../../src/storage/files/PrivateFiles.ts"
import { CurrentProcess } from "../../../src/storage/files/ProcessIdentity.ts"
import { escapedName } from "../../../src/storage/format/names.ts"
import { leaseMillis } from "../../../src/storage/lease.ts"
import { canMount, fill, makeReadOnly, ownDisk } from "../../fixtures/ownDisk.ts"
import { inDirectory, key, NodeFiles, temporaryDirectory } from "../temporaryStorage.ts"

const apiKey = (id: string, value: string) => Credential.fromApiKey({ id, apiKey: Redacted.make(value) })

const valueOf = (credential: Option.Option<Credential>): string | undefined => {
  const key = Option.getOrUndefined(credential)?.defaultKey
  return key === undefined ? undefined : Redacted.value(key.value)
}

/** What is logged as a warning meanwhile. */
const warningsOf = <A, E, R>(effect: Effect.Effect<A, E, R>) => {
  const warnings: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    if (logLevel === "Warn") warnings.push(String(message))
  })
  return Effect.as(Effect.provide(effect, Logger.layer([logger])), warnings)
}

/** A storage as a process of another host has it. */
const onHost =
  (host: string, directory: string) => <A, E>(use: (storage: CredentialStorage["Service"]) => Effect.Effect<A, E>) =>
    inDirectory(directory)(use).pipe(
      Effect.provideService(
        CurrentProcess,
        Effect.succeed({ self: { host, pid: 1 }, isGone: () => Effect.succeed(false) })
      )
    )

const settle = Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 4)))

/** Until the lock of an id is held. */
const isHeld = (directory: string, id: string) =>
  Effect.gen(function*() {
    while (!fs.existsSync(path.join(directory, "locks", escapedName(id), "1"))) yield* settle
  })

/** How much time passed. Where the disk is slow it is more than what is waited for: files do not follow this clock. */
const passUntilDone = <A, E>(fiber: Fiber.Fiber<A, E>) =>
  Effect.gen(function*() {
    let millis = 0
    for (; fiber.pollUnsafe() === undefined && millis < 60_000; millis += 200) {
      yield* TestClock.adjust("200 millis")
      yield* settle
    }
    return millis
  })

describe("EncryptedFileStorage: hosts that share a directory", () => {
  it.effect("a lock that is not given back is waited for 20 s; then LockTimeout, and reading goes on", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "1")))
      const holder = yield* onHost("a", directory)((storage) => storage.withLock("x", Effect.never)).pipe(
        Effect.forkChild({ startImmediately: true })
      )
      yield* isHeld(directory, "x")
      const waiter = yield* onHost("b", directory)((storage) =>
        Effect.flip(storage.withLock("x", Effect.die("entered")))
      ).pipe(Effect.forkChild({ startImmediately: true }))
      yield* settle
      yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
        assert.strictEqual(valueOf(yield* storage.load("x")), "1")
        assert.deepStrictEqual(yield* storage.list, ["x"])
        yield* storage.save(apiKey("x", "2"))
      }))
      const waited = yield* passUntilDone(waiter)
      const error = yield* Fiber.join(waiter)
      assert.strictEqual(error._tag, "CredentialStorageError")
      assert.strictEqual(error.reason._tag, "LockTimeout")
      assert.isTrue(error.isRetryable)
      assert.isAtLeast(waited, 19_800)
      yield* Fiber.interrupt(holder)
    }))

  it.effect("saveMany waits for the others' turn once, not once for each credential", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const isGone = () => Effect.succeed(false)
      const others = new FileLocks(
        yield* Effect.provide(makePrivateFiles, NodeFiles),
        path.join(directory, "locks"),
        { self: { host: "a", pid: 1 }, isGone }
      )
      yield* others.acquire("writing", 20)
      const many = Array.from({ length: 100 }, (_, index) => apiKey(`id-${index}`, "1"))
      const saving = yield* onHost("b", directory)((storage) => storage.saveMany(many)).pipe(
        Effect.forkChild({ startImmediately: true })
      )
      assert.isBelow(yield* passUntilDone(saving), 39_000)
      const failures = Array.from((yield* Fiber.join(saving)).values(), (failure) =>
        failure._tag === "CredentialStorageError" ? failure.reason._tag : failure._tag)
      assert.deepStrictEqual(
        failures,
        many.map(() =>
          "LockTimeout"
        )
      )
      assert.deepStrictEqual(fs.readdirSync(path.join(directory, "credentials")), [])
    }))

  it.effect("a storage that is closed while another host holds the lock waits for its turn to write the index", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const isGone = () => Effect.succeed(false)
      const others = new FileLocks(
        yield* Effect.provide(makePrivateFiles, NodeFiles),
        path.join(directory, "locks"),
        { self: { host: "a", pid: 1 }, isGone }
      )
      const theirTurn = yield* Scope.make()
      const isTheirs = yield* Deferred.make<void>()
      // the other host takes the lock over when the last credential is in its place
      const takeOver = Effect.gen(function*() {
        const place = path.join(directory, "locks", "writing")
        const number = Math.max(...fs.readdirSync(place).map(Number))
        fs.writeFileSync(path.join(place, String(number + 1)), "free 0000000000\n", { mode: 0o600 })
        yield* Effect.orDie(others.acquire("writing", 20))
        yield* Deferred.succeed(isTheirs, undefined)
      }).pipe(Scope.provide(theirTurn))
      const slowly = Layer.effect(
        FileSystem.FileSystem,
        Effect.map(FileSystem.FileSystem, (base) => ({
          ...base,
          rename: (from: string, to: string) =>
            Effect.tap(base.rename(from, to), () => path.basename(to) === "y.enc" ? takeOver : Effect.void)
        }))
      )
      const saving = yield* CredentialStorage.use((storage) => storage.saveMany([apiKey("x", "1"), apiKey("y", "1")]))
        .pipe(
          Effect.provide(
            Layer.fresh(EncryptedFileStorage.layer({ directory, keys: [key] })).pipe(
              Layer.provide(slowly),
              Layer.provide(NodeFiles)
            )
          ),
          Effect.provideService(CurrentProcess, Effect.succeed({ self: { host: "b", pid: 1 }, isGone })),
          Effect.forkChild({ startImmediately: true })
        )
      yield* Deferred.await(isTheirs)
      for (let turn = 0; turn < 20; turn++) yield* settle
      const interrupting = yield* Effect.forkChild(Fiber.interrupt(saving), { startImmediately: true })
      yield* settle
      yield* Scope.close(theirTurn, Exit.void)
      assert.isBelow(yield* passUntilDone(interrupting), leaseMillis)
      const index = JSON.parse(fs.readFileSync(path.join(directory, "metadata", "index.json"), "utf8"))
      assert.sameMembers(Object.keys(index.credentials), ["x", "y"])
    }))

  it.effect("the holder's interruption gives the lock back to the other host", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const holder = yield* onHost("a", directory)((storage) => storage.withLock("x", Effect.never)).pipe(
        Effect.forkChild({ startImmediately: true })
      )
      yield* isHeld(directory, "x")
      const waiter = yield* onHost("b", directory)((storage) => storage.withLock("x", Effect.succeed("in"))).pipe(
        Effect.forkChild({ startImmediately: true })
      )
      yield* settle
      yield* Fiber.interrupt(holder)
      assert.isBelow(yield* passUntilDone(waiter), leaseMillis)
      assert.strictEqual(yield* Fiber.join(waiter), "in")
    }))

  it.effect("a save that expects a generation which another host has passed is refused", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* onHost("a", directory)((here) =>
        Effect.gen(function*() {
          yield* here.save(apiKey("x", "1"))
          const { generation } = yield* here.loadState("x")
          yield* onHost("b", directory)((there) => there.save(apiKey("x", "2"), { expectedGeneration: generation }))
          const error = yield* Effect.flip(here.save(apiKey("x", "3"), { expectedGeneration: generation }))
          assert.strictEqual(error._tag, "GenerationConflict")
          assert.strictEqual(valueOf(yield* here.load("x")), "2")
        })
      )
    }))

  it.effect("a directory in the place of the locks is named by a write, and a renewal and reading go on", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
        yield* storage.save(apiKey("x", "1"))
        fs.rmSync(path.join(directory, "locks"), { recursive: true })
        fs.writeFileSync(path.join(directory, "locks"), "mine")
        assert.match((yield* Effect.flip(storage.save(apiKey("x", "2")))).message, /locks: is not a directory/)
        assert.strictEqual(yield* storage.withLock("x", Effect.succeed("in")), "in")
        assert.strictEqual(valueOf(yield* storage.load("x")), "1")
        assert.strictEqual(fs.readFileSync(path.join(directory, "locks"), "utf8"), "mine")
      }))
    }))
})

describe("CredentialStore: hosts that share a directory", () => {
  it.effect("waiting for the lock times out, and the entry is meanwhile fresh: its token, and no request", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const token = (value: string, hours: number) =>
        Effect.map(DateTime.now, (now) =>
          new Credential({
            ...Credential.fromAccessToken({
              id: "hubspot",
              accessToken: Redacted.make(value),
              expiresAt: DateTime.add(now, { hours })
            }),
            providerId: "aden_sync"
          }))
      const other = onHost("a", directory)
      yield* other((storage) => Effect.flatMap(token("old", -1), (old) => storage.save(old)))
      yield* Effect.forkChild(other((storage) => storage.withLock("hubspot", Effect.never)), { startImmediately: true })
      yield* isHeld(directory, "hubspot")
      const lock = path.join(directory, "locks", escapedName("hubspot"))
      // by then the reader has seen the old one
      const waits = yield* Deferred.make<void>()
      const files = Layer.effect(
        FileSystem.FileSystem,
        Effect.map(FileSystem.FileSystem, (base) => ({
          ...base,
          readDirectory: (folder: string) =>
            Effect.tap(
              base.readDirectory(folder),
              () => folder === lock ? Deferred.succeed(waits, undefined) : Effect.void
            )
        }))
      )
      // no Aden is there to be asked
      const aden = AdenClient.layer({ baseUrl: "http://127.0.0.1:9", apiKey: Redacted.make("key") })
      const reading = yield* CredentialStore.use((store) => store.token("hubspot")).pipe(
        Effect.provide(CredentialStore.layer()),
        Effect.provide(AdenSyncProvider.layer()),
        Effect.provide(Layer.provide(aden, FetchHttpClient.layer)),
        Effect.provide(EncryptedFileStorage.layer({ directory, keys: [key] })),
        Effect.provide(Layer.provideMerge(files, NodeFiles)),
        Effect.forkChild({ startImmediately: true })
      )
      yield* Deferred.await(waits)
      yield* TestClock.adjust("5 seconds")
      yield* other((storage) => Effect.flatMap(token("new", 1), (renewed) => storage.save(renewed)))
      // at its deadline, later than that, it would fail
      assert.isAbove(yield* passUntilDone(reading), 13_000)
      assert.strictEqual(Redacted.value(yield* Fiber.join(reading)), "new")
    }))
})

describe("EncryptedFileStorage: what lies where it should not", () => {
  it.effect("each is named, none is followed or removed, and the rest is listed, read and written", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const elsewhere = path.join(yield* temporaryDirectory, "secret")
      const at = (...names: ReadonlyArray<string>) => path.join(directory, ...names)
      yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
        yield* storage.saveMany(["good", "link", "huge", "folder"].map((id) => apiKey(id, "1")))
        fs.writeFileSync(elsewhere, "mine")
        fs.writeFileSync(at("credentials", "notes.txt"), "mine")
        fs.mkdirSync(at("credentials", "sub"))
        for (const id of ["link", "folder"]) fs.rmSync(at("credentials", `${id}.enc`))
        fs.symlinkSync(elsewhere, at("credentials", "link.enc"))
        fs.mkdirSync(at("credentials", "folder.enc"))
        fs.truncateSync(at("credentials", "huge.enc"), 100_000_000)
        fs.writeFileSync(at("metadata", "index.json"), "{ not JSON")
        const refusals = { link: /symbolic link/, folder: /is a directory, not a file/, huge: /larger than 16 MiB/ }
        for (const [id, message] of Object.entries(refusals)) {
          for (const refused of [storage.load(id), Effect.asVoid(storage.save(apiKey(id, "2")))]) {
            const error = yield* Effect.flip(Effect.asVoid(refused))
            assert.match(error.message, message)
            assert.include(error.message, `${id}.enc`)
          }
        }
        yield* storage.save(apiKey("good", "2"))
        assert.strictEqual(valueOf(yield* storage.load("good")), "2")
        assert.sameMembers([...yield* storage.list], ["good", "link", "huge", "folder"])
        assert.strictEqual(fs.readFileSync(elsewhere, "utf8"), "mine")
        for (const name of ["notes.txt", "sub", "link.enc", "folder.enc", "huge.enc"]) {
          assert.isTrue(fs.existsSync(at("credentials", name)), name)
        }
      }))
      const index = JSON.parse(fs.readFileSync(at("metadata", "index.json"), "utf8"))
      assert.property(index.credentials, "good")
    }))
})

describe.skipIf(!canMount)("EncryptedFileStorage: disks that fail (where a disk can be mounted)", () => {
  const mounted = Effect.gen(function*() {
    const place = yield* temporaryDirectory
    yield* ownDisk(place)
    return place
  })

  it.live.each([["read-only", makeReadOnly, /EROFS/], ["full", fill, /ENOSPC/]] as const)(
    "%s: reading goes on, a write says so, a renewal excludes this process with one warning",
    ([, fail, code]) =>
      Effect.gen(function*() {
        const directory = path.join(yield* mounted, "cache")
        yield* inDirectory(directory)((storage) => storage.saveMany([apiKey("x", "1"), apiKey("y", "1")]))
        fail(path.dirname(directory))
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          const warnings = yield* warningsOf(Effect.gen(function*() {
            let inside = 0
            yield* Effect.forEach([1, 2, 3], () =>
              storage.withLock(
                "x",
                Effect.gen(function*() {
                  assert.strictEqual(++inside, 1)
                  assert.strictEqual(valueOf(yield* storage.load("x")), "1")
                  inside--
                })
              ), { concurrency: "unbounded", discard: true })
          }))
          assert.lengthOf(warnings, 1)
          assert.match(warnings[0] ?? "", /Other processes are not locked out/)
          assert.match((yield* Effect.flip(storage.save(apiKey("x", "2")))).message, code)
          assert.strictEqual(valueOf(yield* storage.load("x")), "1")
          assert.sameMembers([...yield* storage.list], ["x", "y"])
        }))
      })
  )

  it.live.each([["read-only", makeReadOnly], ["full", fill]] as const)(
    "%s: a store serves what is stored and what Aden renews, with one warning",
    ([, fail]) =>
      Effect.gen(function*() {
        const directory = path.join(yield* mounted, "cache")
        const aden = yield* AdenEmulator
        const Store = CredentialStore.layer().pipe(
          Layer.provide(AdenSyncProvider.layer()),
          Layer.provide(AdenClient.layer({ baseUrl: aden.url, apiKey: aden.apiKey })),
          Layer.provide(EncryptedFileStorage.layer({ directory, keys: [key] })),
          Layer.provide([FetchHttpClient.layer, NodeFiles])
        )
        yield* CredentialStore.use((store) => store.sync).pipe(Effect.provide(Store, { local: true }))
        fail(path.dirname(directory))
        const warnings = yield* warningsOf(
          CredentialStore.use(Effect.fnUntraced(function*(store) {
            const before = Redacted.value(yield* store.token("hubspot"))
            yield* store.refresh("hubspot")
            const after = Redacted.value(yield* store.token("hubspot"))
            assert.notStrictEqual(after, before)
            yield* store.refresh("hubspot")
            assert.notStrictEqual(Redacted.value(yield* store.token("hubspot")), after)
          })).pipe(Effect.provide(Store, { local: true }))
        )
        assert.deepStrictEqual(warnings, ["Credential storage fails; credentials are kept in memory"])
      }).pipe(Effect.provide(AdenEmulator.layer({ integrations: [{ id: "hubspot", tokenLifetime: "1 hour" }] })))
  )
})
