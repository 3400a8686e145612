/** Disks that fail and writers that die or are suspended, at any step. */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Exit, Fiber, Redacted, Result, Stream } from "effect"
import type { PlatformError } from "effect"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import * as path from "node:path"
import { Credential } from "../../../src/model/Credential.ts"
import { CredentialState } from "../../../src/model/CredentialState.ts"
import { CurrentProcess } from "../../../src/storage/files/ProcessIdentity.ts"
import { escapedName } from "../../../src/storage/format/names.ts"
import { repeats, stride } from "../../fixtures/repeats.ts"
import { inDirectory, NodeFiles, temporaryDirectory } from "../temporaryStorage.ts"
import {
  age,
  apiKey,
  enc,
  filesIn,
  readIndex,
  secret,
  shown,
  systemError,
  valueOf,
  withFileSystem,
  writeToken
} from "./directory.ts"

describe("EncryptedFileStorage", () => {
  describe("when the disk fails", () => {
    const steps = ["open", "writeAll", "sync", "rename"] as const

    it.effect.each(steps)(
      "full at %s: a typed error, the old file stays, nothing is left over",
      (step) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
          const full = (file: string) => Effect.fail(systemError("ENOSPC", "no space left on device", file))
          const storageOnFullDisk = withFileSystem(directory, (base) => ({
            open: (file, options) =>
              options?.flag !== "wx"
                ? base.open(file, options)
                : step === "open"
                ? full(file)
                : Effect.map(base.open(file, options), (handle) =>
                  step === "rename" ? handle : new Proxy(handle, {
                    get: (target, property) =>
                      property === step
                        ? step === "sync" ? full(file) : () => full(file)
                        : Reflect.get(target, property, target)
                  })),
            ...(step === "rename" ? { rename: (_: string, file: string) => full(file) } : {})
          }))
          yield* storageOnFullDisk(Effect.fnUntraced(function*(storage) {
            for (
              const refused of [
                storage.save(apiKey("x", "new")),
                storage.save(apiKey("other")),
                Effect.as(storage.saveState("x", CredentialState.initial), 0)
              ]
            ) {
              const error = yield* Effect.flip(refused)
              assert.strictEqual(error._tag, "CredentialStorageError")
              if (error._tag === "CredentialStorageError") {
                assert.isTrue(error.isRetryable)
                assert.strictEqual(error.reason._tag, "StorageIoFailed")
                assert.include(error.message, "ENOSPC: no space left on device")
              }
              assert.notInclude(shown(error), secret)
            }
            const failures = yield* Effect.exit(storage.saveMany([apiKey("x", "new")]))
            assert.isTrue(Exit.isFailure(failures) || failures.value.size === 1)
            assert.strictEqual(valueOf(yield* storage.load("x")), "old")
            assert.deepStrictEqual(yield* storage.list, ["x"])
          }))
          assert.deepStrictEqual(filesIn(directory).filter((file) => file.includes(".tmp")), [])
        })
    )

    it.effect("read-only: reading goes on, writing and deleting say so", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        const readOnly = (file: string) => Effect.fail(systemError("EROFS", "read-only file system", file))
        yield* withFileSystem(directory, (base) => ({
          open: (file, options) => options?.flag === "wx" ? readOnly(file) : base.open(file, options),
          rename: (_, file) => readOnly(file),
          remove: readOnly,
          makeDirectory: readOnly
        }))(Effect.fnUntraced(function*(storage) {
          assert.strictEqual(valueOf(yield* storage.load("x")), "old")
          assert.deepStrictEqual(yield* storage.list, ["x"])
          assert.match((yield* Effect.flip(storage.save(apiKey("x", "new")))).message, /EROFS: read-only file system/)
          assert.match((yield* Effect.flip(storage.delete("x"))).message, /EROFS: read-only file system/)
        }))
      }))

    it.effect("a credential that cannot take its place leaves the entry as it was, with its state, and the others are saved", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.saveMany([apiKey("x", "old"), apiKey("y", "old")]))
        const before = filesIn(path.join(directory, "state"))
        const failures = yield* withFileSystem(directory, (base) => ({
          rename: (from, to) =>
            /(x|never)\.enc$/.test(to)
              ? Effect.fail(systemError("EACCES", "permission denied", to))
              : base.rename(from, to)
        }))((storage) => storage.saveMany([apiKey("x", "new"), apiKey("never"), apiKey("y", "new")]))
        assert.sameMembers(Array.from(failures.keys()), ["x", "never"])
        assert.sameMembers([...filesIn(path.join(directory, "state"))], [...before])
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          assert.strictEqual(valueOf(yield* storage.load("x")), "old")
          assert.strictEqual(valueOf(yield* storage.load("y")), "new")
          assert.strictEqual((yield* storage.loadState("x")).generation, 1)
          assert.strictEqual((yield* storage.loadState("never")).generation, 0)
        }))
        assert.sameMembers(Object.keys(readIndex(directory).credentials), ["x", "y"])
        assert.deepStrictEqual(filesIn(directory).filter((file) => file.includes(".tmp")), [])
      }))

    it.live(
      "a saveMany during which the disk fails once, at any step: what failed is as it was, the others are saved",
      () =>
        Effect.gen(function*() {
          // enough to be many, and some that would share a file
          const old = ["a/b", "x"]
          const ids = [...old, "a_b", "A_B", "n/1", "n_1", "y", "z"]
          let steps = 0
          for (let failing = 0; failing <= steps; failing += stride(13)) {
            const directory = yield* temporaryDirectory
            yield* inDirectory(directory)((storage) => storage.saveMany(old.map((id) => apiKey(id, "old"))))
            let step = 0
            let failedAt: string | undefined
            const guard = <A, R>(
              file: string,
              effect: Effect.Effect<A, PlatformError.PlatformError, R>
            ): Effect.Effect<A, PlatformError.PlatformError, R> =>
              file.includes("locks")
                ? effect
                : Effect.suspend(() => {
                  if (step++ !== failing) return effect
                  failedAt = file
                  return Effect.fail(systemError("EIO", "i/o error", file))
                })
            const told: Array<string> = []
            const outcome = yield* withFileSystem(directory, (base) => ({
              rename: (from, to) => guard(to, base.rename(from, to)),
              remove: (file, options) => guard(file, base.remove(file, options)),
              open: (file, options) =>
                options?.flag !== "wx" ? base.open(file, options) : guard(
                  file,
                  Effect.map(base.open(file, options), (handle) =>
                    new Proxy(handle, {
                      get: (target, property) =>
                        property === "writeAll"
                          ? (bytes: Uint8Array) => guard(file, target.writeAll(bytes))
                          : property === "sync"
                          ? guard(file, target.sync)
                          : Reflect.get(target, property, target)
                    }))
                )
            }))(Effect.fnUntraced(function*(storage) {
              yield* storage.changes.pipe(
                Stream.runForEach(({ id }) => Effect.sync(() => told.push(id))),
                Effect.forkScoped({ startImmediately: true })
              )
              const outcome = yield* Effect.result(storage.saveMany(ids.map((id) => apiKey(id, "new"))))
              yield* Effect.yieldNow
              return outcome
            }, Effect.scoped))
            steps = Math.max(steps, step)
            // but for the one that the disk did not remove
            const left = filesIn(directory).filter((file) => file.includes(".tmp") && !failedAt?.endsWith(file))
            assert.deepStrictEqual(left, [])
            // only an index that cannot be written is a failure of all
            const failed = Result.isSuccess(outcome) ? Array.from(outcome.success.keys()) : []
            assert.isAtMost(failed.length, 1)
            assert.sameMembers(told, ids.filter((id) => !failed.includes(id)))
            yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
              for (const id of ids) {
                const generation = old.includes(id) ? 1 : 0
                const isFailed = failed.includes(id)
                const before = old.includes(id) ? "old" : undefined
                assert.strictEqual(valueOf(yield* storage.load(id)), isFailed ? before : "new", id)
                assert.strictEqual((yield* storage.loadState(id)).generation, generation + (isFailed ? 0 : 1), id)
              }
              assert.strictEqual((yield* storage.saveMany(ids.map((id) => apiKey(id, "newer")))).size, 0)
              assert.sameMembers([...yield* storage.list], ids)
            }))
            assert.sameMembers(Object.keys(readIndex(directory).credentials), ids)
          }
          assert.isAbove(steps, 60)
        }),
      120_000
    )

    it.effect("a save that fails because an older file of the credential cannot be removed has saved nothing", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("a/b")))
        yield* inDirectory(directory)((storage) => storage.save(apiKey("a_b", "older")))
        yield* inDirectory(directory)((storage) => storage.delete("a/b"))
        yield* writeToken(
          enc(directory, "a_b"),
          JSON.stringify({ id: "a_b", keys: { api_key: { name: "api_key", value: "Hive's" } } })
        )
        const state = inDirectory(directory)((storage) => storage.loadState("a_b"))
        const before = yield* state
        const error = yield* withFileSystem(directory, (base) => ({
          remove: (file, options) =>
            file === enc(directory, escapedName("a_b"))
              ? Effect.fail(systemError("EACCES", "permission denied", file))
              : base.remove(file, options)
        }))((storage) => Effect.flip(storage.save(apiKey("a_b", "newer"))))
        assert.include(error.message, "EACCES")
        assert.strictEqual(valueOf(yield* inDirectory(directory)((storage) => storage.load("a_b"))), "Hive's")
        assert.deepStrictEqual(yield* state, before)
      }))

    it.effect("a delete that cannot remove the file leaves the entry as it was, with its state", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        const state = inDirectory(directory)((storage) => storage.loadState("x"))
        const before = yield* state
        yield* withFileSystem(directory, (base) => ({
          remove: (file, options) =>
            file.endsWith(".enc")
              ? Effect.fail(systemError("EACCES", "permission denied", file))
              : base.remove(file, options)
        }))((storage) => Effect.flip(storage.delete("x")))
        assert.deepStrictEqual(yield* state, before)
        assert.strictEqual(valueOf(yield* inDirectory(directory)((storage) => storage.load("x"))), "old")
      }))

    it.effect("full while a delete writes to state: the next one completes it", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.saveMany([apiKey("x"), apiKey("y")]))
        const error = yield* withFileSystem(directory, (base) => ({
          open: (file, options) =>
            options?.flag === "wx" && path.dirname(file) === path.join(directory, "state")
              ? Effect.fail(systemError("ENOSPC", "no space left on device", file))
              : base.open(file, options)
        }))((storage) => Effect.flip(storage.delete("x")))
        assert.include(error.message, "ENOSPC")
        const remains = fs.existsSync(enc(directory, "x"))
        assert.strictEqual(yield* inDirectory(directory)((storage) => storage.delete("x")), remains)
        assert.deepStrictEqual(filesIn(path.join(directory, "credentials")), ["y.enc"])
        assert.deepStrictEqual(Object.keys(readIndex(directory).credentials), ["y"])
      }))

    it.effect("an error of the system on reading is typed, cleaned and names the place", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x")))
        yield* withFileSystem(directory, () => ({
          lstat: (file) => Effect.fail(systemError("EIO", "i/o \u001b[2Jerror", file))
        }))(Effect.fnUntraced(function*(storage) {
          const error = yield* Effect.flip(storage.load("x"))
          assert.strictEqual(error.message, `Storage could not load "x": ${enc(directory, "x")}: EIO: i/o [2Jerror`)
        }))
      }))
  })

  describe("crashes and interruption", () => {
    const usable = (directory: string, values: ReadonlyArray<string>) =>
      inDirectory(directory)(Effect.fnUntraced(function*(storage) {
        const value = valueOf(yield* storage.load("x")) ?? "none"
        assert.include(values, value)
        assert.include([...yield* storage.list, ...(value === "none" ? ["x"] : [])], "x")
        yield* storage.save(apiKey("x", "after"))
        assert.strictEqual(valueOf(yield* storage.load("x")), "after")
      })).pipe(
        Effect.andThen(Effect.sync(() => assert.property(readIndex(directory).credentials, "x")))
      )

    /** Runs what dies when it `isDead`. What the dead one still waits for does not come, so its time passes. */
    const untilDead = <A, E, R>(isDead: () => boolean, effect: Effect.Effect<A, E, R>) =>
      Effect.gen(function*() {
        const dying = yield* Effect.forkChild(Effect.exit(effect), { startImmediately: true })
        while (dying.pollUnsafe() === undefined) {
          yield* Effect.promise(() => new Promise(setImmediate))
          if (isDead()) yield* TestClock.adjust("1 second")
        }
      })

    it.effect.each([true, false])(
      "a process that dies at any write step leaves the old or the new credential (old one: %s)",
      (old) =>
        Effect.gen(function*() {
          let steps = 0
          let isKilled = true
          for (let last = 0; isKilled; last += stride(5)) {
            const directory = yield* temporaryDirectory
            if (old) yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
            let step = 0
            const { self } = yield* yield* CurrentProcess
            // after this step nothing happens any more, not even the cleaning up of what failed
            const guard = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
              Effect.suspend(() => step++ < last ? effect : Effect.die("killed"))
            yield* untilDead(
              () => step > last,
              withFileSystem(directory, (base) => ({
                makeDirectory: (file, options) => guard(base.makeDirectory(file, options)),
                rename: (from, to) => guard(base.rename(from, to)),
                remove: (file, options) => guard(base.remove(file, options)),
                link: (from, to) => guard(base.link(from, to)),
                open: (file, options) =>
                  options?.flag === "r" ? base.open(file, options) : guard(Effect.map(
                    base.open(file, options),
                    (handle) =>
                      new Proxy(handle, {
                        get: (target, property) =>
                          property === "writeAll"
                            ? (bytes: Uint8Array) =>
                              Effect.andThen(
                                guard(target.writeAll(bytes.subarray(0, bytes.length / 2))),
                                guard(target.writeAll(bytes.subarray(bytes.length / 2)))
                              )
                            : property === "sync"
                            ? guard(target.sync)
                            : Reflect.get(target, property, target)
                      })
                  ))
              }))((storage) => storage.save(apiKey("x", "new"))).pipe(
                // of a process that is not there any more: no system gives this id
                Effect.provideService(
                  CurrentProcess,
                  Effect.succeed({ self: { ...self, pid: 4_194_305 }, isGone: () => Effect.succeed(false) })
                )
              )
            )
            steps = Math.max(steps, step)
            isKilled = step > last
            yield* usable(directory, [old ? "old" : "none", "new"])
          }
          assert.isAbove(steps, 15)
        }).pipe(Effect.provide(NodeFiles))
    )

    it.effect("a delete that dies at any step: no older credential comes back, and no late writer saves over it", () =>
      Effect.gen(function*() {
        let steps = 0
        let isKilled = true
        for (let last = 0; isKilled; last += stride(3)) {
          const directory = yield* temporaryDirectory
          const other = yield* temporaryDirectory
          yield* inDirectory(directory)((storage) => storage.save(apiKey("a/b")))
          yield* inDirectory(directory)((storage) => storage.save(apiKey("a_b", "older")))
          yield* inDirectory(directory)((storage) => storage.delete("a/b"))
          // Hive writes under the plain name, beside the escaped one
          yield* inDirectory(other)((storage) => storage.save(apiKey("a_b", "newer")))
          fs.copyFileSync(enc(other, "a_b"), enc(directory, "a_b"))
          const { generation } = yield* inDirectory(directory)((storage) => storage.loadState("a_b"))
          let step = 0
          const guard = <A, E, R>(file: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
            file.includes("locks")
              ? effect
              : Effect.suspend(() => step++ < last ? effect : Effect.die("killed"))
          yield* Effect.exit(
            withFileSystem(directory, (base) => ({
              rename: (from, to) => guard(to, base.rename(from, to)),
              remove: (file, options) => guard(file, base.remove(file, options)),
              open: (file, options) =>
                options?.flag === "wx" ? guard(file, base.open(file, options)) : base.open(file, options)
            }))((storage) => storage.delete("a_b"))
          )
          steps = Math.max(steps, step)
          isKilled = step > last
          const left = valueOf(yield* inDirectory(directory)((storage) => storage.load("a_b")))
          assert.include(["newer", undefined], left)
          if (left !== undefined) continue
          const late = inDirectory(directory)((storage) =>
            storage.save(apiKey("a_b", "late"), { expectedGeneration: generation })
          )
          assert.strictEqual((yield* Effect.flip(late))._tag, "GenerationConflict")
        }
        assert.isAbove(steps, 5)
      }))

    it.effect("a delete that dies at any step: while the entry is there, all that was known about it is known", () =>
      Effect.gen(function*() {
        const known = new CredentialState({
          generation: 1,
          account: { provider: "slack", alias: "work" },
          blockedSince: DateTime.makeUnsafe(1_000),
          reauthorizationUrl: "https://aden.example/connect",
          coolDownUntil: DateTime.makeUnsafe(2_000),
          lastError: "RateLimited"
        })
        let steps = 0
        const left = new Set<string>()
        for (let last = 0; last <= steps; last++) {
          const directory = yield* temporaryDirectory
          const credential = Credential.fromAccessToken({
            id: "x",
            accessToken: Redacted.make(secret),
            provider: "slack",
            alias: "work"
          })
          yield* inDirectory(directory)((storage) => storage.save(credential, { state: known }))
          assert.deepStrictEqual(yield* inDirectory(directory)((storage) => storage.loadState("x")), known)
          let step = 0
          const guard = <A, E, R>(file: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
            file.includes("locks")
              ? effect
              : Effect.suspend(() => step++ < last ? effect : Effect.die("killed"))
          yield* Effect.exit(
            withFileSystem(directory, (base) => ({
              rename: (from, to) => guard(to, base.rename(from, to)),
              remove: (file, options) => guard(file, base.remove(file, options)),
              open: (file, options) =>
                options?.flag === "wx" ? guard(file, base.open(file, options)) : base.open(file, options)
            }))((storage) => storage.delete("x"))
          )
          steps = Math.max(steps, step)
          yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
            const { generation, ...rest } = yield* storage.loadState("x")
            const isThere = yield* storage.exists("x")
            left.add(`${isThere ? "there" : "gone"}, ${rest.account === undefined ? "forgotten" : "known"}`)
            assert.isTrue(generation === 2 || (isThere && generation === 1))
            if (isThere) assert.deepStrictEqual(new CredentialState({ ...rest, generation: 1 }), known)
            // whatever is left, the next delete completes it
            assert.strictEqual(yield* storage.delete("x"), isThere)
            assert.deepStrictEqual(Object.keys(yield* storage.loadState("x")), ["generation"])
          }))
          assert.notProperty(readIndex(directory).credentials, "x")
        }
        assert.sameMembers([...left], ["there, known", "gone, known", "gone, forgotten"])
      }))

    it.effect("no late writer saves over the deletion of an entry that Hive wrote, which has no count", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.save(apiKey("x", "Hive's"))
          fs.rmSync(path.join(directory, "state"), { recursive: true })
          const { generation } = yield* storage.loadState("x")
          assert.strictEqual(generation, 0)
          assert.isTrue(yield* storage.delete("x", { expectedGeneration: generation }))
          const late = storage.save(apiKey("x", "late"), { expectedGeneration: generation })
          assert.strictEqual((yield* Effect.flip(late))._tag, "GenerationConflict")
          assert.isFalse(yield* storage.exists("x"))
        }))
      }))

    /** Writes down what is flushed, renamed and removed in a directory, in order. */
    const steps = (directory: string, order: Array<string>) => {
      const nameOf = (file: string) => path.relative(directory, file).replace(/\.aden-[0-9a-f]{32}\.tmp$/, "temporary")
      const noting = (step: string, file: string) => Effect.sync(() => order.push(`${step} ${nameOf(file)}`))
      return withFileSystem(directory, (base) => ({
        open: (file, options) =>
          Effect.map(base.open(file, options), (handle) =>
            new Proxy(handle, {
              get: (target, property) =>
                property === "sync"
                  ? Effect.tap(target.sync, () => noting("flushed", file))
                  : Reflect.get(target, property, target)
            })),
        rename: (from, to) => Effect.tap(base.rename(from, to), () => noting("renamed", to)),
        remove: (file, options) => Effect.tap(base.remove(file, options), () => noting("removed", file))
      }))
    }

    it.effect("each file of a save, and the index, was flushed before it took its place, and its folder afterwards", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        const order: Array<string> = []
        yield* TestClock.adjust("1 second")
        yield* steps(directory, order)((storage) => storage.save(apiKey("x", "new")))
        for (const [folder, file] of [["state", "x.json"], ["credentials", "x.enc"], ["metadata", "index.json"]]) {
          assert.deepStrictEqual(
            order.filter((step) => step.includes(` ${folder}`) && !step.startsWith("removed")),
            [`flushed ${folder}/temporary`, `renamed ${folder}/${file}`, `flushed ${folder}`]
          )
        }
      }))

    it.effect("before a delete returns, its folder was flushed: no power cut brings the credential back", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        const order: Array<string> = []
        yield* steps(directory, order)((storage) => storage.delete("x"))
        assert.deepStrictEqual(
          order.filter((step) => step.includes(" credentials")),
          ["removed credentials/x.enc", "flushed credentials"]
        )
      }))

    it.live("an interrupted save leaves the old or the new credential, an index that knows it, and nothing beside", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        let ids: ReadonlyArray<string> = []
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          const turn = Effect.promise(() => new Promise(setImmediate))
          const save = (id: string, value: string) =>
            storage.save(apiKey(id, value)).pipe(Effect.forkChild({ startImmediately: true }))
          // how many turns of the event loop a save takes here: it is interrupted at moments all over it, and a little behind
          const measured = yield* save("measured", "whole")
          let whole = 0
          while (measured.pollUnsafe() === undefined) {
            yield* turn
            whole++
          }
          for (let round = 0; round < 80 || (yield* storage.list).length < 2; round += stride(8)) {
            for (const id of ["x", `new ${round}`]) {
              const before = valueOf(yield* storage.load(id)) ?? "none"
              const writer = yield* save(id, `round ${round}`)
              for (let turns = 0; turns < whole * round / 60; turns++) yield* turn
              yield* Fiber.interrupt(writer)
              const after = valueOf(yield* storage.load(id)) ?? "none"
              assert.include([before, `round ${round}`], after)
              assert.deepStrictEqual(
                filesIn(directory).filter((file) => file.includes(".tmp") && !/^(metadata|locks)/.test(file)),
                []
              )
            }
          }
          ids = yield* storage.list
        }))
        assert.sameMembers(Object.keys(readIndex(directory).credentials), [...ids])
      }))

    it.live("an interrupted saveMany leaves whole files, and an index of them", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        let ids: ReadonlyArray<string> = []
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          const many = Array.from({ length: 200 }, (_, index) => apiKey(`id_${index}`))
          const writer = yield* storage.saveMany(many).pipe(Effect.forkChild({ startImmediately: true }))
          while ((yield* storage.list).length === 0) yield* Effect.sleep("1 millis")
          yield* Fiber.interrupt(writer)
          ids = yield* storage.list
          assert.isAbove(ids.length, 0)
          assert.isBelow(ids.length, 200)
          for (const id of ids) assert.strictEqual(valueOf(yield* storage.load(id)), secret)
        }))
        assert.sameMembers(Object.keys(readIndex(directory).credentials), [...ids])
      }))

    it.live("temporary files of writers that died are removed when they are old, and others are left", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x")))
        const leftover = (folder: string, digit: string) =>
          path.join(directory, folder, `.aden-${digit.repeat(32)}.tmp`)
        for (const folder of ["credentials", "metadata", "state"]) {
          for (const digit of ["0", "1"]) fs.writeFileSync(leftover(folder, digit), "torn")
          age(leftover(folder, "0"))
        }
        const foreign = path.join(directory, "credentials", "mine.tmp")
        fs.writeFileSync(foreign, "mine")
        age(foreign)
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          assert.deepStrictEqual(yield* storage.list, ["x"])
          yield* storage.save(apiKey("x"))
        }))
        for (const folder of ["credentials", "metadata", "state"]) {
          assert.isFalse(fs.existsSync(leftover(folder, "0")))
          assert.isTrue(fs.existsSync(leftover(folder, "1")))
        }
        assert.isTrue(fs.existsSync(foreign))
      }))

    it.live("what looks like such a file and is not, or is gone meanwhile, keeps no other from being removed", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x")))
        const folder = path.join(directory, "credentials")
        const leftover = (digit: string) => path.join(folder, `.aden-${digit.repeat(32)}.tmp`)
        fs.mkdirSync(leftover("0"))
        for (const digit of "123456789") fs.writeFileSync(leftover(digit), "torn")
        for (const digit of "0123456789") age(leftover(digit))
        yield* withFileSystem(directory, (base) => ({
          lstat: (file) => {
            if (file === leftover("2")) fs.rmSync(file)
            return base.lstat(file)
          }
        }))((storage) => storage.save(apiKey("x")))
        assert.sameMembers(fs.readdirSync(folder), [path.basename(leftover("0")), "x.enc"])
      }))

    it.effect("two layers over one directory in one process do not lose one another's saves", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const saves = repeats(25, 2.5)
        const writer = (name: string) =>
          inDirectory(directory)((storage) =>
            Effect.forEach(
              Array.from({ length: saves }, (_, index) => `${name}_${index}`),
              (id) => Effect.andThen(storage.save(apiKey(id)), storage.save(apiKey("shared", id))),
              { concurrency: 5, discard: true }
            )
          )
        yield* Effect.all([writer("a"), writer("b")], { concurrency: 2 })
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          assert.lengthOf(yield* storage.list, 2 * saves + 1)
          assert.strictEqual((yield* storage.loadState("shared")).generation, 2 * saves)
        }))
        assert.lengthOf(Object.keys(readIndex(directory).credentials), 2 * saves + 1)
      }))
  })

  describe("a process that was suspended while it wrote, and another took the lock over and gave it back", () => {
    const takeOver = (directory: string) => {
      const place = path.join(directory, "locks", "writing")
      const number = Math.max(...fs.readdirSync(place).map(Number))
      fs.writeFileSync(path.join(place, String(number + 1)), "free 0000000000\n", { mode: 0o600 })
      fs.rmSync(path.join(place, String(number)))
    }
    /**
     * A storage whose process is suspended once, before it makes a new file in this folder, or it takes the place of the old:
     * the first, or the one after so many.
     */
    const suspended = (
      directory: string,
      before: "open" | "rename",
      folder: string,
      meanwhile: Effect.Effect<unknown> = Effect.void,
      after = 0
    ) => {
      let seen = 0
      const suspend = (step: string, file: string) =>
        Effect.suspend(() => {
          if (step !== before || path.dirname(file) !== path.join(directory, folder)) return Effect.void
          if (seen++ !== after) return Effect.void
          takeOver(directory)
          return meanwhile
        })
      return withFileSystem(directory, (base) => ({
        open: (file, options) =>
          Effect.andThen(options?.flag === "wx" ? suspend("open", file) : Effect.void, base.open(file, options)),
        rename: (from, to) => Effect.andThen(suspend("rename", to), base.rename(from, to))
      }))
    }

    /** The first file in `metadata` is the mark that the index lacks something, which is written without the lock. */
    const firstIn = (folder: string) => folder === "metadata" ? 1 : 0

    it.live.each(["state", "credentials", "metadata"])(
      "before it wrote to %s: its save goes through, counted once, though it expected a generation",
      (folder) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
          yield* suspended(directory, "open", folder, Effect.void, firstIn(folder))((storage) =>
            storage.save(apiKey("x", "new"), { expectedGeneration: 1 })
          )
          yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
            assert.strictEqual(valueOf(yield* storage.load("x")), "new")
            assert.strictEqual((yield* storage.loadState("x")).generation, 2)
          }))
          assert.property(readIndex(directory).credentials, "x")
        })
    )

    it.live("saveMany goes on as well", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        const failures = yield* suspended(directory, "open", "credentials")((storage) =>
          storage.saveMany([apiKey("x", "new")], { expectedGenerations: new Map([["x", 1]]) })
        )
        assert.strictEqual(failures.size, 0)
        assert.strictEqual(valueOf(yield* inDirectory(directory)((storage) => storage.load("x"))), "new")
      }))

    const theirs = (directory: string) =>
      inDirectory(directory)((storage) =>
        storage.save(apiKey("x", "theirs"), { state: new CredentialState({ generation: 0, lastError: "RateLimited" }) })
      ).pipe(
        Effect.provideService(
          CurrentProcess,
          Effect.succeed({ self: { host: "other" }, isGone: () => Effect.succeed(false) })
        ),
        Effect.orDie
      )

    it.live("what the other one saved under the same count is not taken for its own", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        const error = yield* suspended(directory, "rename", "state", theirs(directory))((storage) =>
          Effect.flip(storage.save(apiKey("x", "late"), { expectedGeneration: 1 }))
        )
        assert.strictEqual(error._tag, "GenerationConflict")
        assert.strictEqual(valueOf(yield* inDirectory(directory)((storage) => storage.load("x"))), "theirs")
      }))

    it.live.each(["state", "credentials"])(
      "half-way through what it put into %s: a saveMany overwrites nothing of the other one, and saves the rest, counted once",
      (folder) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          const others = repeats(60, 3)
          const ids = [...Array.from({ length: others }, (_, index) => `id ${index}`), "x"]
          yield* inDirectory(directory)((storage) => storage.saveMany(ids.map((id) => apiKey(id, "old"))))
          const { failures, told } = yield* suspended(directory, "rename", folder, theirs(directory), others / 2)(
            Effect.fnUntraced(function*(storage) {
              const told: Array<string> = []
              yield* storage.changes.pipe(
                Stream.runForEach(({ id }) => Effect.sync(() => told.push(id))),
                Effect.forkScoped({ startImmediately: true })
              )
              const failures = yield* storage.saveMany(ids.map((id) => apiKey(id, "new")), {
                expectedGenerations: new Map(ids.map((id) => [id, 1]))
              })
              yield* Effect.yieldNow
              return { failures, told }
            }, Effect.scoped)
          )
          assert.deepStrictEqual(Array.from(failures, ([id, { _tag }]) => [id, _tag]), [["x", "GenerationConflict"]])
          assert.sameMembers(told, ids.slice(0, -1))
          yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
            for (const id of ids) {
              assert.strictEqual(valueOf(yield* storage.load(id)), id === "x" ? "theirs" : "new")
              assert.strictEqual((yield* storage.loadState(id)).generation, 2, id)
            }
            assert.strictEqual((yield* storage.loadState("x")).lastError, "RateLimited")
          }))
          assert.deepStrictEqual(filesIn(directory).filter((file) => file.includes(".tmp")), [])
        })
    )

    it.live.each(["state", "metadata"])(
      "before it wrote to %s: its delete answers that there was an entry, and the index follows",
      (folder) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          yield* inDirectory(directory)((storage) => storage.saveMany([apiKey("x"), apiKey("y")]))
          assert.isTrue(
            yield* suspended(directory, "open", folder, Effect.void, firstIn(folder))((storage) => storage.delete("x"))
          )
          assert.deepStrictEqual(Object.keys(readIndex(directory).credentials), ["y"])
        })
    )

    it.live("before it wrote the credential: what the other one saved meanwhile is not overwritten", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        const error = yield* suspended(directory, "open", "credentials", theirs(directory))((storage) =>
          Effect.flip(storage.save(apiKey("x", "late"), { expectedGeneration: 1 }))
        )
        assert.strictEqual(error._tag, "GenerationConflict")
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          assert.strictEqual(valueOf(yield* storage.load("x")), "theirs")
          assert.deepStrictEqual(
            yield* storage.loadState("x"),
            new CredentialState({ generation: 2, account: {}, lastError: "RateLimited" })
          )
        }))
      }))

    it.live("before it wrote a state record: the count of what the other one saved meanwhile stays", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        yield* suspended(directory, "open", "state", theirs(directory))((storage) =>
          storage.saveState("x", new CredentialState({ generation: 1, lastError: "AdenUnavailable" }))
        )
        const { generation, lastError } = yield* inDirectory(directory)((storage) => storage.loadState("x"))
        assert.deepStrictEqual({ generation, lastError }, { generation: 2, lastError: "AdenUnavailable" })
      }))

    it.live("before it wrote the index: what the other one saved meanwhile stays in it", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* suspended(directory, "open", "metadata", theirs(directory), firstIn("metadata"))((storage) =>
          storage.save(apiKey("y"))
        )
        assert.sameMembers(Object.keys(readIndex(directory).credentials), ["x", "y"])
      }))

    it.live("before it removed the file: what the other one saved meanwhile stays", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        assert.isFalse(
          yield* suspended(directory, "rename", "state", theirs(directory))((storage) =>
            storage.delete("x", { expectedGeneration: 1 })
          )
        )
        assert.strictEqual(valueOf(yield* inDirectory(directory)((storage) => storage.load("x"))), "theirs")
        assert.property(readIndex(directory).credentials, "x")
      }))

    it.live.each([["counted", "rename", 0], ["removed the file", "open", 1]] as const)(
      "when it had %s: its delete goes on where it was, though it expected a generation",
      ([, step, after]) =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          const blocked = new CredentialState({ generation: 0, lastError: "AdenUnavailable" })
          yield* inDirectory(directory)((storage) => storage.save(apiKey("x"), { state: blocked }))
          assert.isTrue(
            yield* suspended(directory, step, "state", Effect.void, after)((storage) =>
              storage.delete("x", { expectedGeneration: 1 })
            )
          )
          yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
            assert.isFalse(yield* storage.exists("x"))
            assert.deepStrictEqual(yield* storage.loadState("x"), new CredentialState({ generation: 2 }))
          }))
          assert.deepStrictEqual(readIndex(directory).credentials, {})
        })
    )

    it.live("what the other one saved after its delete removed the file stays, with its state", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("x", "old")))
        assert.isTrue(
          yield* suspended(directory, "open", "state", theirs(directory), 1)((storage) => storage.delete("x"))
        )
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          assert.strictEqual(valueOf(yield* storage.load("x")), "theirs")
          assert.deepStrictEqual(
            yield* storage.loadState("x"),
            new CredentialState({ generation: 3, account: {}, lastError: "RateLimited" })
          )
        }))
        assert.property(readIndex(directory).credentials, "x")
      }))
  })
})
