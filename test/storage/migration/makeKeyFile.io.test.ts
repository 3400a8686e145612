/** The making of the key file, step by step: what is in its place whenever the process ends, or another one looks. */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Exit, Fiber, FileSystem, Layer, PlatformError, Redacted } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { Fernet } from "../../../src/encryption/Fernet.ts"
import { makeNewKeyFile } from "../../../src/storage/migration/makeKeyFile.ts"
import { NodeFiles, temporaryDirectory } from "../temporaryStorage.ts"

const keyFileIn = (root: string) => path.join(root, "secrets", "credential_key")

/** A file system that says each thing that it is asked to do, before and after it is done. */
const watched = (
  step: (name: string, target: string) => Effect.Effect<void, PlatformError.PlatformError>,
  change: (base: FileSystem.FileSystem) => Partial<FileSystem.FileSystem> = () => ({})
) =>
  Layer.effect(
    FileSystem.FileSystem,
    Effect.map(FileSystem.FileSystem, (found): FileSystem.FileSystem => {
      const base = { ...found, ...change(found) }
      const around = (name: string, target: string) =>
      <A, R>(
        effect: Effect.Effect<A, PlatformError.PlatformError, R>
      ) => step(`before ${name}`, target).pipe(Effect.andThen(effect), Effect.tap(() => step(name, target)))
      return {
        ...base,
        open: (file, options) =>
          around("open", file)(base.open(file, options)).pipe(Effect.map((handle) =>
            Object.create(handle, {
              writeAll: { value: (bytes: Uint8Array) => around("write", file)(handle.writeAll(bytes)) },
              sync: { value: around("flush", file)(handle.sync) }
            })
          )),
        link: (from, to) => around("link", to)(base.link(from, to)),
        rename: (from, to) => around("rename", to)(base.rename(from, to)),
        remove: (file, options) => around("remove", file)(base.remove(file, options)),
        makeDirectory: (folder, options) => around("makeDirectory", folder)(base.makeDirectory(folder, options))
      }
    })
  ).pipe(Layer.provideMerge(NodeFiles))

const making = (root: string, files: Layer.Layer<FileSystem.FileSystem | Layer.Success<typeof NodeFiles>>) =>
  makeNewKeyFile.pipe(
    Effect.provide(files),
    Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord({ HIVE_HOME: root })))
  )

const refused = (method: string, pathOrDescriptor: string) =>
  Effect.fail(PlatformError.systemError({ _tag: "Unknown", module: "FileSystem", method, pathOrDescriptor }))

const withoutLinks = () => ({ link: (_: string, file: string) => refused("link", file) })

/** The key in the file; `undefined` when there is no file. Anything but a whole key is an error. */
const wholeKey = Effect.fnUntraced(function*(root: string) {
  if (!fs.existsSync(keyFileIn(root))) return undefined
  const text = fs.readFileSync(keyFileIn(root), "utf8")
  assert.strictEqual((fs.statSync(keyFileIn(root)).mode & 0o777).toString(8), "600")
  yield* Effect.orDie(Fernet.parseKey(Redacted.make(text.trimEnd())))
  return text
})

describe("the making of the key file", () => {
  it.live("has at every step no file or the whole key in its place, which is on the disk before", () =>
    Effect.gen(function*() {
      const root = yield* temporaryDirectory
      const steps: Array<string> = []
      const step = Effect.fnUntraced(function*(name: string, target: string) {
        steps.push(`${name} ${path.basename(target).replace(/^\.aden-.*/, "temporary")}`)
        yield* wholeKey(root)
      })
      yield* making(root, watched(step))
      const order = ["write temporary", "flush temporary", "link credential_key", "flush secrets"]
      assert.deepStrictEqual(steps.filter((step) => order.includes(step)), order)
      assert.isDefined(yield* wholeKey(root))
    }))

  it.live("interrupted at any step it leaves no file or the whole key, and nothing beside it", () =>
    Effect.gen(function*() {
      let isInterrupted = true
      for (let at = 0; isInterrupted; at++) {
        const root = yield* temporaryDirectory
        let count = 0
        isInterrupted = false
        const fiber: Fiber.Fiber<unknown, unknown> = yield* making(
          root,
          watched(() =>
            Effect.suspend(() => {
              if (count++ !== at) return Effect.void
              isInterrupted = true
              return Effect.asVoid(Effect.forkDetach(Fiber.interrupt(fiber), { startImmediately: true }))
            })
          )
        ).pipe(Effect.delay("1 millis"), Effect.forkChild)
        yield* Fiber.await(fiber)
        const key = yield* wholeKey(root)
        const secrets = path.join(root, "secrets")
        assert.deepStrictEqual(
          fs.existsSync(secrets) ? fs.readdirSync(secrets) : [],
          key === undefined ? [] : ["credential_key"]
        )
      }
    }))

  for (const [name, change] of [["with", () => ({})], ["without", withoutLinks]] as const) {
    it.live(`that fails at any step, as on a full disk, ${name} hard links, leaves no file or the whole key`, () =>
      Effect.gen(function*() {
        let hasFailed = true
        for (let at = 0; hasFailed; at++) {
          const root = yield* temporaryDirectory
          let count = 0
          hasFailed = false
          const step = (name: string, target: string) => {
            if (!/^before (open|write|flush|link|rename)$/.test(name) || count++ !== at) return Effect.void
            hasFailed = true
            return refused(name, target)
          }
          const exit = yield* Effect.exit(making(root, watched(step, change)))
          const key = yield* wholeKey(root)
          if (Exit.isSuccess(exit)) assert.isDefined(key)
          assert.deepStrictEqual(
            fs.readdirSync(path.join(root, "secrets")),
            key === undefined ? [] : ["credential_key"]
          )
        }
      }))

    it.live(`of many at once, ${name} hard links, one succeeds, and its key stays`, () =>
      Effect.gen(function*() {
        const root = yield* temporaryDirectory
        const exits = yield* Effect.all(
          Array.from({ length: 12 }, () => Effect.exit(making(root, watched(() => Effect.yieldNow, change)))),
          { concurrency: "unbounded" }
        )
        assert.lengthOf(exits.filter(Exit.isSuccess), 1)
        assert.isDefined(yield* wholeKey(root))
        assert.deepStrictEqual(fs.readdirSync(path.join(root, "secrets")), ["credential_key"])
      }))
  }
})
