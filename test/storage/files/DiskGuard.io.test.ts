/** Disks that do not answer, and many reads at once. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Option } from "effect"
import type { FileSystem } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { escapedName } from "../../../src/storage/format/names.ts"
import { repeats } from "../../fixtures/repeats.ts"
import { inDirectory, temporaryDirectory } from "../temporaryStorage.ts"
import { apiKey, secret, valueOf, withFileSystem } from "./directory.ts"

describe("EncryptedFileStorage on a disk that hangs", () => {
  it.live(
    "each operation is given up after 2 s, retryable; reads go on when it answers, and a late write is whole",
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.saveMany([apiKey("x", "old"), apiKey("y", "old")]))
        const answers = yield* Deferred.make<void>()
        let isHanging = true
        const late = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
          Effect.suspend(() =>
            isHanging ? Effect.uninterruptible(Effect.andThen(Deferred.await(answers), effect)) : effect
          )
        yield* withFileSystem(directory, (base): Partial<FileSystem.FileSystem> => ({
          lstat: (file) => late(base.lstat(file)),
          stat: (file) => late(base.stat(file)),
          readDirectory: (folder, options) => late(base.readDirectory(folder, options)),
          open: (file, options) => late(base.open(file, options)),
          rename: (from, to) => late(base.rename(from, to)),
          remove: (file, options) => late(base.remove(file, options)),
          makeDirectory: (folder, options) => late(base.makeDirectory(folder, options))
        }))(Effect.fnUntraced(function*(storage) {
          const operations: Record<string, Effect.Effect<unknown, unknown>> = {
            load: storage.load("x"),
            loadState: storage.loadState("x"),
            exists: storage.exists("x"),
            list: storage.list,
            save: storage.save(apiKey("x", "new")),
            saveMany: storage.saveMany([apiKey("y", "new")]),
            delete: storage.delete("x"),
            saveState: Effect.flatMap(storage.loadState("x"), (state) => storage.saveState("x", state))
          }
          yield* Effect.forEach(
            Object.entries(operations),
            Effect.fnUntraced(function*([name, operation]) {
              const [took, error] = yield* Effect.timed(Effect.flip(operation))
              assert.deepInclude(error, { _tag: "CredentialStorageError", isRetryable: true }, name)
              assert.match(String(error), /no answer within 2s/, name)
              assert.isBelow(Duration.toMillis(took), 10_000, name)
            }),
            { concurrency: "unbounded", discard: true }
          )
          isHanging = false
          yield* Deferred.succeed(answers, undefined)
          assert.include(["old", "new"], valueOf(yield* storage.load("x")))
          yield* storage.save(apiKey("x", "newer"))
          assert.strictEqual(valueOf(yield* storage.load("x")), "newer")
        }))
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          assert.strictEqual(valueOf(yield* storage.load("x")), "newer")
          assert.sameMembers([...yield* storage.list], ["x", "y"])
        }))
      }),
    60_000
  )

  it.live(
    "a slow one that answers each call is not given up, though a read takes longer than 2 s",
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x")))
        const slow = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.delay(effect, "400 millis")
        const credential = yield* withFileSystem(directory, (base): Partial<FileSystem.FileSystem> => ({
          lstat: (file) => slow(base.lstat(file)),
          open: (file, options) =>
            Effect.map(slow(base.open(file, options)), (handle): FileSystem.File => {
              const { readAlloc, stat } = handle
              return Object.defineProperties(handle, {
                stat: { value: slow(stat) },
                readAlloc: { value: (...args: Parameters<typeof readAlloc>) => slow(readAlloc.apply(handle, args)) }
              })
            })
        }))((storage) => Effect.map(storage.read("x"), ({ credential }) => valueOf(credential)))
        assert.strictEqual(credential, secret)
      }),
    60_000
  )

  it.live("what is done under a lock that cannot be taken on it is done, after 2 s", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const done = yield* withFileSystem(directory, () => ({ stat: () => Effect.uninterruptible(Effect.never) }))((
        storage
      ) => Effect.timeoutOption(storage.withLock("x", Effect.succeed("done")), "30 seconds")).pipe(
        Effect.timeoutOption("50 seconds")
      )
      assert.deepStrictEqual(Option.flatten(done), Option.some("done"))
    }), 60_000)

  it.live(
    "a write that had begun when its caller gave up ends under its lock, before the next one",
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        const answers = yield* Deferred.make<void>()
        const order: Array<string> = []
        let hangs = true
        yield* withFileSystem(directory, (base) => ({
          rename: (from, to) =>
            Effect.suspend(() => {
              if (!hangs || !to.endsWith("x.enc")) return base.rename(from, to)
              hangs = false
              return Effect.uninterruptible(Effect.andThen(Deferred.await(answers), base.rename(from, to)))
            }).pipe(Effect.tap(() => Effect.sync(() => to.endsWith("x.enc") && order.push(to))))
        }))(Effect.fnUntraced(function*(storage) {
          assert.match((yield* Effect.flip(storage.save(apiKey("x", "late")))).message, /no answer within 2s/)
          yield* Deferred.succeed(answers, undefined)
          yield* storage.save(apiKey("x", "newer"))
          assert.lengthOf(order, 2)
          assert.strictEqual(valueOf(yield* storage.load("x")), "newer")
          assert.strictEqual((yield* storage.loadState("x")).generation, 3)
        }))
      }),
    60_000
  )
})

describe("EncryptedFileStorage and descriptors", () => {
  it.live("cold reads, more at once than a process has descriptors, keep few files open", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* inDirectory(directory)((storage) => storage.save(apiKey("x")))
      let open = 0
      let most = 0
      yield* withFileSystem(directory, (base) => ({
        open: (file, options) =>
          Effect.tap(base.open(file, options), () =>
            Effect.acquireRelease(
              Effect.sync(() => {
                most = Math.max(most, ++open)
              }),
              () => Effect.sync(() => void open--)
            ))
      }))((storage) =>
        Effect.forEach(Array.from({ length: repeats(1_200) }), () =>
          Effect.tap(storage.load("x"), (found) => Effect.sync(() => assert.strictEqual(valueOf(found), secret))), {
          concurrency: "unbounded",
          discard: true
        })
      )
      assert.isBelow(most, 10)
    }), 60_000)

  it.live("400 locks at once keep at most 256 files open, and all are taken", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      let held = 0
      let most = 0
      yield* inDirectory(directory)((storage) =>
        Effect.forEach(Array.from({ length: 400 }, (_, at) => `id ${at}`), (id) =>
          storage.withLock(
            id,
            Effect.sync(() => {
              most = Math.max(most, ++held)
            }).pipe(Effect.andThen(Effect.sleep("20 millis")), Effect.ensuring(Effect.sync(() => void held--)))
          ), { concurrency: "unbounded", discard: true })
      )
      assert.isAtMost(most, 256)
      assert.isTrue(fs.existsSync(path.join(directory, "locks", escapedName("id 399"))))
    }), 60_000)
})
