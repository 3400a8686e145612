/** Two files read as they were at one moment, and what a read leaves open. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, FileSystem, Layer, Option } from "effect"
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { makePrivateFiles } from "../../../src/storage/files/PrivateFiles.ts"
import { inDirectory, NodeFiles, temporaryDirectory } from "../temporaryStorage.ts"
import { apiKey, enc, valueOf, withFileSystem } from "./directory.ts"

const limit = 100

/** Private files over a file system of which some operations are replaced. */
const privateFiles = (change: (base: FileSystem.FileSystem) => Partial<FileSystem.FileSystem> = () => ({})) =>
  makePrivateFiles.pipe(
    Effect.provide(
      Layer.effect(
        FileSystem.FileSystem,
        Effect.map(FileSystem.FileSystem, (base) => ({ ...base, ...change(base) }))
      ).pipe(Layer.provideMerge(NodeFiles))
    )
  )

/** Two files: `steady` and `other`, with these contents. */
const twoFiles = Effect.fnUntraced(function*(contents: { readonly steady?: string; readonly other?: string } = {}) {
  const directory = yield* temporaryDirectory
  const [steady, other] = ["steady", "other"].map((name) => path.join(directory, name))
  assert(steady !== undefined && other !== undefined)
  fs.writeFileSync(steady, contents.steady ?? "s")
  fs.writeFileSync(other, contents.other ?? "o")
  return { steady, other, pair: [{ file: steady, limit }, { file: other, limit }] as const }
})

/** Puts a file into the place of another, as a save does. */
const replace = (file: string, content: string) => {
  fs.writeFileSync(`${file}.new`, content)
  fs.renameSync(`${file}.new`, file)
}

const texts = Option.map((read: readonly [Uint8Array, Uint8Array]) =>
  read.map((bytes) => Buffer.from(bytes).toString())
)

/** Runs `before` just before the first opening of a file. */
const beforeOpening =
  (at: string, before: () => void) => (base: FileSystem.FileSystem): Partial<FileSystem.FileSystem> => {
    let isDone = false
    return {
      open: (file, options) =>
        Effect.suspend(() => {
          if (file === at && !isDone) {
            isDone = true
            before()
          }
          return base.open(file, options)
        })
    }
  }

describe("two files", () => {
  it.effect("are read whole, up to their limit", () =>
    Effect.gen(function*() {
      for (const length of [0, 1, limit - 1, limit]) {
        const { pair } = yield* twoFiles({ steady: "s".repeat(length), other: "o".repeat(limit - length) })
        const read = yield* (yield* privateFiles()).readTogether(...pair)
        assert.deepStrictEqual(texts(read), Option.some(["s".repeat(length), "o".repeat(limit - length)]))
      }
    }))

  it.effect.each(["steady", "other"] as const)(
    "of which one (%s) is not a file of that size are not opened",
    (which) =>
      Effect.gen(function*() {
        const places: Record<string, (file: string) => void> = {
          "larger": (file) => fs.truncateSync(file, limit + 1),
          "missing": (file) => fs.rmSync(file),
          "folder": (file) => {
            fs.rmSync(file)
            fs.mkdirSync(file)
          },
          "link": (file) => {
            fs.renameSync(file, `${file}.elsewhere`)
            fs.symlinkSync(`${file}.elsewhere`, file)
          },
          "pipe": (file) => {
            fs.rmSync(file)
            execFileSync("mkfifo", [file])
          }
        }
        for (const [name, put] of Object.entries(places)) {
          const files = yield* twoFiles()
          put(files[which])
          const opened: Array<string> = []
          const disk = yield* privateFiles((base) => ({
            open: (file, options) => Effect.andThen(Effect.sync(() => opened.push(file)), base.open(file, options))
          }))
          assert.isTrue(Option.isNone(yield* disk.readTogether(...files.pair)), name)
          assert.deepStrictEqual(opened, [], name)
        }
      })
  )

  it.effect("of which the steady one was replaced while they were being opened are not of one moment", () =>
    Effect.gen(function*() {
      for (const at of ["steady", "other"] as const) {
        const files = yield* twoFiles()
        const disk = yield* privateFiles(beforeOpening(files[at], () => replace(files.steady, "t")))
        assert.isTrue(Option.isNone(yield* disk.readTogether(...files.pair)), at)
        assert.deepStrictEqual(texts(yield* disk.readTogether(...files.pair)), Option.some(["t", "o"]))
      }
    }))

  it.effect("of which the other one grew, shrank or was replaced by a longer one are read as it is then", () =>
    Effect.gen(function*() {
      const changes: Record<string, readonly [(file: string) => void, string]> = {
        "grown": [(file) => fs.appendFileSync(file, "p".repeat(50)), `oo${"p".repeat(50)}`],
        "to its limit": [(file) => fs.appendFileSync(file, "p".repeat(limit - 2)), `oo${"p".repeat(limit - 2)}`],
        "longer": [(file) => replace(file, "q".repeat(limit)), "q".repeat(limit)],
        "shorter": [(file) => fs.truncateSync(file, 1), "o"],
        "empty": [(file) => fs.truncateSync(file, 0), ""]
      }
      for (const [name, [change, content]] of Object.entries(changes)) {
        const { other, pair } = yield* twoFiles({ other: "oo" })
        const disk = yield* privateFiles(beforeOpening(other, () => change(other)))
        assert.deepStrictEqual(texts(yield* disk.readTogether(...pair)), Option.some(["s", content]), name)
      }
    }))

  it.effect("of which the other one outgrew its limit are not read", () =>
    Effect.gen(function*() {
      const { other, pair } = yield* twoFiles()
      const disk = yield* privateFiles(beforeOpening(other, () => fs.truncateSync(other, 1_000_000)))
      assert.isTrue(Option.isNone(yield* disk.readTogether(...pair)))
    }))

  it.live("are closed and free their place, whenever the reader is interrupted", () =>
    Effect.gen(function*() {
      const { pair } = yield* twoFiles()
      let open = 0
      let calls = 0
      let stopAt = 0
      let reached = Deferred.makeUnsafe<void>()
      /** Lets the reader be interrupted before this call to the disk. */
      const call = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.suspend(() =>
          ++calls === stopAt
            ? Effect.andThen(Deferred.succeed(reached, undefined), Effect.andThen(Effect.yieldNow, effect))
            : effect
        )
      const disk = yield* privateFiles((base) => ({
        lstat: (file) => call(base.lstat(file)),
        open: (file, options) =>
          call(base.open(file, options)).pipe(
            Effect.tap(() =>
              Effect.acquireRelease(Effect.sync(() => void open++), () => Effect.sync(() => void open--))
            ),
            Effect.map((handle): FileSystem.File => {
              const { readAlloc, stat } = handle
              return Object.defineProperties(handle, {
                stat: { value: call(stat) },
                readAlloc: { value: (...args: Parameters<typeof readAlloc>) => call(readAlloc.apply(handle, args)) }
              })
            })
          )
      }))
      const settled = Effect.repeat(Effect.andThen(Effect.sleep("1 millis"), Effect.sync(() => open)), {
        while: (open) => open > 0
      })
      let interrupted = 0
      for (stopAt = 1; stopAt <= 7; stopAt++) {
        calls = 0
        reached = Deferred.makeUnsafe<void>()
        const reader = yield* Effect.forkChild(disk.readTogether(...pair))
        yield* Deferred.await(reached)
        yield* Fiber.interrupt(reader)
        if (Exit.hasInterrupts(yield* Fiber.await(reader))) interrupted++
        yield* settled
      }
      assert.strictEqual(interrupted, 7)
      // more reads than there are places
      stopAt = 0
      for (let at = 0; at < 5; at++) assert.isTrue(Option.isSome(yield* disk.readTogether(...pair)))
      yield* settled
    }).pipe(Effect.timeout("20 seconds")))

  it.live("do not keep the reader waiting for their closing, and at most three readers have theirs open until then", () =>
    Effect.gen(function*() {
      const { pair } = yield* twoFiles()
      const closing = yield* Effect.acquireRelease(
        Deferred.make<void>(),
        (closing) => Deferred.succeed(closing, undefined)
      )
      let open = 0
      let most = 0
      const disk = yield* privateFiles((base) => ({
        open: (file, options) =>
          Effect.tap(base.open(file, options), () =>
            Effect.acquireRelease(
              Effect.sync(() => {
                most = Math.max(most, ++open)
              }),
              () => Effect.andThen(Deferred.await(closing), Effect.sync(() => void open--))
            ))
      }))
      // of the three places of this process, a disk that hangs in another test may have some
      assert.isTrue(Option.isSome(yield* disk.readTogether(...pair)))
      assert.strictEqual(open, 2)
      const others = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 20 }), () => disk.readTogether(...pair), { concurrency: "unbounded" }),
        { startImmediately: true }
      )
      yield* Deferred.succeed(closing, undefined)
      assert.isTrue((yield* Fiber.join(others)).every(Option.isSome))
      assert.isAtMost(most, 6)
    }).pipe(Effect.timeout("20 seconds")))
})

describe("EncryptedFileStorage.read", () => {
  it.effect.each(["credentials", "state"])(
    "never pairs a credential with the generation of another, though it is saved while the reader opens its file in %s",
    (folder) =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const save = (value: string) => inDirectory(directory)((storage) => storage.save(apiKey("x", value)))
        yield* save("1")
        const at = folder === "state" ? path.join(directory, "state", "x.json") : enc(directory, "x")
        for (let saves = 1; saves <= 2; saves++) {
          let left = saves
          yield* withFileSystem(directory, (base) => ({
            open: (file, options) =>
              Effect.suspend(() => {
                if (file !== at || left === 0) return base.open(file, options)
                left--
                return Effect.andThen(
                  Effect.flatMap(
                    inDirectory(directory)((storage) => storage.loadState("x")),
                    ({ generation }) => Effect.orDie(save(String(generation + 1)))
                  ),
                  base.open(file, options)
                )
              }).pipe(Effect.orDie)
          }))(Effect.fnUntraced(function*(storage) {
            const { credential, state } = yield* storage.read("x")
            assert.strictEqual(valueOf(credential), String(state.generation))
            assert.strictEqual(left, 0)
          }))
        }
      })
  )
})
