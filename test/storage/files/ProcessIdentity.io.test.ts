import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, PlatformError } from "effect"
import * as fs from "node:fs"
import { CurrentProcess } from "../../../src/storage/files/ProcessIdentity.ts"
import { NodeFiles } from "../temporaryStorage.ts"

/** The processes as they are seen where some of what `/proc` says is hidden, or another. */
const processesWhere = (change: (base: FileSystem.FileSystem) => Partial<FileSystem.FileSystem>) =>
  Effect.gen(function*() {
    const base = yield* FileSystem.FileSystem
    return yield* Effect.provideService(yield* CurrentProcess, FileSystem.FileSystem, { ...base, ...change(base) })
  }).pipe(Effect.provide(NodeFiles))

const hidden = (file: string) =>
  Effect.fail(
    PlatformError.systemError({ _tag: "NotFound", module: "FileSystem", method: "test", pathOrDescriptor: file })
  )

/** No Linux gives this id to a process. */
const noPid = 4_194_305

describe.skipIf(!fs.existsSync("/proc/self/ns/pid"))("CurrentProcess", () => {
  it.effect("a process is gone when no process has its id, or one that started later; this one is there", () =>
    Effect.gen(function*() {
      const processes = yield* processesWhere(() => ({}))
      const { self } = processes
      assert.isFalse(yield* processes.isGone(self))
      assert.isTrue(yield* processes.isGone({ ...self, pid: noPid }))
      assert.isTrue(yield* processes.isGone({ ...self, started: "1" }))
      assert.isFalse(yield* processes.isGone({ ...self, host: "another", pid: noPid }))
    }))

  it.effect.each([
    "/proc/self/stat",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/random/boot_id",
    "/proc/self/ns/pid"
  ])(
    "where %s cannot be read no process is taken to be gone: it may be one of another container of this name",
    (name) =>
      Effect.gen(function*() {
        const processes = yield* processesWhere((base) => ({
          readFileString: (file, encoding) => file === name ? hidden(file) : base.readFileString(file, encoding),
          readLink: (file) => file === name ? hidden(file) : base.readLink(file)
        }))
        assert.isFalse(yield* processes.isGone({ ...processes.self, pid: noPid }))
        const { self } = yield* processesWhere(() => ({}))
        assert.isFalse(yield* processes.isGone({ ...self, pid: noPid }))
      })
  )

  it.effect("a /proc of another process id space is not believed", () =>
    Effect.gen(function*() {
      const processes = yield* processesWhere((base) => ({
        readFileString: (file, encoding) =>
          Effect.map(
            base.readFileString(file, encoding),
            (text) => file === "/proc/self/stat" ? text.replace(/^\d+/, "1000000") : text
          )
      }))
      assert.isFalse(yield* processes.isGone({ ...processes.self, pid: noPid }))
    }))

  it.effect("a process that counts time from another start is not told by when it started", () =>
    Effect.gen(function*() {
      const processes = yield* processesWhere(() => ({}))
      const { self } = yield* processesWhere((base) => ({
        readLink: (file) => file === "/proc/self/ns/time" ? Effect.succeed("time:[1]") : base.readLink(file)
      }))
      assert.isFalse(yield* processes.isGone({ ...self, started: "1" }))
    }))
})
