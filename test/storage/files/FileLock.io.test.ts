import { assert, describe, it } from "@effect/vitest"
import {
  Arbitrary,
  Clock,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  FileSystem,
  Layer,
  Option,
  Path,
  PlatformError,
  Random,
  Schema,
  Scope
} from "effect"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import * as path from "node:path"
import { FileLocks } from "../../../src/storage/files/FileLock.ts"
import { makePrivateFiles, PrivateFiles } from "../../../src/storage/files/PrivateFiles.ts"
import type { OwnFile } from "../../../src/storage/files/PrivateFiles.ts"
import type { Processes } from "../../../src/storage/files/ProcessIdentity.ts"
import { repeats } from "../../fixtures/repeats.ts"
import { NodeFiles, temporaryDirectory } from "../temporaryStorage.ts"

// Several hosts over one real directory. A host that is frozen does nothing from one file operation to the next, as a process
// that is suspended or a machine that sleeps.

/** How many file operations are under way. */
let underWay = 0

const counted = <A, E, R>(operation: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(Effect.sync(() => underWay++), () => operation, () => Effect.sync(() => underWay--))

/** Waits until the files have followed: what comes of an operation may be the next one. */
const settle = Effect.promise(async () => {
  for (let quiet = 0; quiet < 3; quiet = underWay === 0 ? quiet + 1 : 0) {
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
})

/** Lets time pass in steps that the files can follow. */
const pass = (millis: number, step = 200) =>
  Effect.forEach(
    Array.from({ length: Math.ceil(millis / step) }),
    () => Effect.andThen(TestClock.adjust(Duration.millis(step)), settle),
    { discard: true }
  )

/** Lets time pass until the lock is held. */
const arrival = <A, E>(coming: Fiber.Fiber<A, E>) =>
  Effect.gen(function*() {
    for (let steps = 0; coming.pollUnsafe() === undefined && steps < 300; steps++) yield* pass(200)
    assert.isDefined(coming.pollUnsafe(), "the lock was not acquired within a minute")
    return yield* Fiber.join(coming)
  })

class Host {
  #gate: Deferred.Deferred<void> | undefined
  frozenAt: number | undefined
  readonly name: string

  constructor(name: string) {
    this.name = name
  }

  readonly freeze = Effect.gen({ self: this }, function*() {
    if (this.#gate !== undefined) return
    this.#gate = yield* Deferred.make<void>()
    this.frozenAt = yield* Clock.currentTimeMillis
  })

  readonly thaw = Effect.suspend(() => {
    const gate = this.#gate
    this.#gate = undefined
    this.frozenAt = undefined
    return gate === undefined ? Effect.void : Deferred.succeed(gate, undefined)
  })

  /** Does not go on while the host is frozen. */
  readonly running = Effect.suspend(() => this.#gate === undefined ? Effect.void : Deferred.await(this.#gate))

  locksIn(directory: string, isGone: Processes["isGone"] = () => Effect.succeed(false)) {
    const after = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.andThen(this.running, counted(effect))
    const slowly = (file: OwnFile): OwnFile => ({
      overwrite: (bytes) => after(file.overwrite(bytes)),
      isInPlace: after(file.isInPlace)
    })
    /** Private files whose calls do not go on while the host is frozen. */
    class SlowFiles extends PrivateFiles {
      override names(folder: string, suffix: string) {
        return after(super.names(folder, suffix))
      }

      override read(file: string, limit: number) {
        return after(super.read(file, limit))
      }

      override create(file: string, bytes: Uint8Array) {
        return Effect.map(after(super.create(file, bytes)), Option.map(slowly))
      }

      override remove(file: string) {
        return after(super.remove(file))
      }
    }
    return Effect.gen({ self: this }, function*() {
      const slow = new SlowFiles(yield* FileSystem.FileSystem, yield* Path.Path, true)
      return new FileLocks(slow, directory, { self: { host: this.name, pid: 1 }, isGone })
    }).pipe(Effect.provide(NodeFiles))
  }
}

const enter = (
  locks: Effect.Success<ReturnType<Host["locksIn"]>>,
  name = "lock"
) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const lock = yield* Scope.provide(locks.acquire(name, 250), scope)
    return { check: lock.check, leave: Scope.close(scope, Exit.void) }
  })

describe("FileLock", () => {
  it.effect.prop(
    "hosts that freeze and go on at any moment: no other enters beside a holder within its lease, and a holder that lost it is told",
    [Arbitrary.schema(Schema.Int)],
    ([seed]) =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const hosts = ["a", "b", "c", "d"].map((name) => new Host(name))
        const inside = new Map<Host, { isTakenOver: boolean }>()
        let entered = 0
        let takenOver = 0
        const work = (host: Host) =>
          Effect.gen(function*() {
            const locks = yield* host.locksIn(directory)
            for (;;) {
              yield* Effect.sleep(Duration.millis(yield* Random.nextBetween(0, 3_000)))
              yield* host.running
              const { check, leave } = yield* enter(locks)
              // what was acquired just before the host froze is used only when it goes on
              yield* host.running
              if (Exit.isFailure(yield* Effect.exit(check))) {
                yield* leave
                continue
              }
              const now = yield* Clock.currentTimeMillis
              for (const [other, state] of inside) {
                // its last beat may have been 5 s before it froze
                assert.isDefined(other.frozenAt, `${host.name} entered beside ${other.name}`)
                assert.isAtLeast(now - (other.frozenAt ?? now), 9_500)
                state.isTakenOver = true
                takenOver++
              }
              const own = { isTakenOver: false }
              inside.set(host, own)
              entered++
              yield* Effect.sleep(Duration.millis(yield* Random.nextBetween(0, 8_000)))
              yield* host.running
              assert.strictEqual(Exit.isFailure(yield* Effect.exit(check)), own.isTakenOver)
              inside.delete(host)
              yield* leave
            }
          })
        const working = yield* Effect.forEach(hosts, (host) => Effect.forkChild(work(host)))
        for (let round = 0; round < 6; round++) {
          const host = hosts[yield* Random.nextIntBetween(0, hosts.length, { halfOpen: true })]
          if (host === undefined) continue
          yield* host.freeze
          yield* pass(yield* Random.nextBetween(1_000, 30_000))
          yield* host.thaw
          yield* pass(yield* Random.nextBetween(1_000, 6_000))
        }
        for (const fiber of working) assert.isUndefined(fiber.pollUnsafe(), String(fiber.pollUnsafe()))
        yield* Fiber.interruptAll(working)
        assert.isAbove(entered, 5)
        return takenOver
      }).pipe(Random.withSeed(seed)),
    { arbitrary: { runs: repeats(3) }, timeout: 300_000 }
  )

  it.effect("one that comes late to the next number, which was made and removed meanwhile, does not enter", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const [early, late] = [new Host("early"), new Host("late")]
      const locks = yield* early.locksIn(directory)
      yield* Effect.flatMap(enter(locks), ({ leave }) => leave)
      // it sees the lock free, and is frozen before it takes it
      const slow = yield* late.locksIn(
        directory,
        (other) => other.pid === 7 ? Effect.as(late.freeze, true) : Effect.succeed(false)
      )
      fs.writeFileSync(
        path.join(directory, "lock", "1"),
        "held 0000000000\n{\"token\":\"x\",\"host\":\"late\",\"pid\":7}\n"
      )
      const coming = yield* Effect.forkChild(enter(slow), { startImmediately: true })
      while (late.frozenAt === undefined) yield* settle
      fs.writeFileSync(path.join(directory, "lock", "1"), "free 0000000000\n")
      for (let turn = 0; turn < 3; turn++) yield* Effect.flatMap(enter(locks), ({ leave }) => leave)
      const holder = yield* enter(locks)
      yield* late.thaw
      yield* pass(3_000)
      assert.isUndefined(coming.pollUnsafe())
      yield* holder.check
      assert.deepStrictEqual(fs.readdirSync(path.join(directory, "lock")), ["5"])
      yield* holder.leave
      yield* (yield* arrival(coming)).leave
    }))

  it.effect("a holder of another host that renews is waited for, and one that stopped is taken over after 15 s", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const [first, second] = [new Host("first"), new Host("second")]
      const holder = yield* enter(yield* first.locksIn(directory))
      const coming = yield* Effect.forkChild(enter(yield* second.locksIn(directory)), { startImmediately: true })
      yield* pass(60_000)
      assert.isUndefined(coming.pollUnsafe())
      yield* first.freeze
      yield* pass(9_000)
      assert.isUndefined(coming.pollUnsafe())
      const next = yield* arrival(coming)
      yield* first.thaw
      assert.strictEqual((yield* Effect.flip(holder.check))._tag, "LockLost")
      // neither beat nor end of the former holder touches the lock of the new one
      yield* pass(6_000)
      yield* holder.leave
      yield* next.check
      yield* next.leave
    }))

  it.effect("time in which the machine slept is no time in which a holder was silent", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const [first, second] = [new Host("first"), new Host("second")]
      const holder = yield* enter(yield* first.locksIn(directory))
      const coming = yield* Effect.forkChild(enter(yield* second.locksIn(directory)), { startImmediately: true })
      yield* pass(2_000)
      yield* first.freeze
      // the clock jumps as a laptop wakes up
      yield* pass(3_600_000, 3_600_000)
      yield* first.thaw
      yield* pass(8_000)
      assert.isUndefined(coming.pollUnsafe())
      yield* holder.check
      yield* holder.leave
      yield* (yield* arrival(coming)).leave
    }))

  it.effect("a holder that was on this host and is gone is taken over at once", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const [first, second] = [new Host("first"), new Host("second")]
      yield* enter(yield* first.locksIn(directory))
      yield* first.freeze
      const locks = yield* second.locksIn(directory, (other) => Effect.succeed(other.host === "first"))
      yield* (yield* enter(locks)).leave
    }))

  it.effect.each(
    [
      ["empty", "", ["4"]],
      ["no JSON", "held 0000000001\nnonsense\n", ["4"]],
      ["of 100 MB", undefined, ["3", "4"]],
      ["another program's notes", "mine", ["3", "4"]]
    ] as const
  )(
    "a file in the place of a lock that is %s is waited out, and left if it is no lock",
    ([, text, left]) =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const place = path.join(directory, "lock")
        fs.mkdirSync(place, { mode: 0o700 })
        fs.writeFileSync(path.join(place, "3"), text ?? "")
        if (text === undefined) fs.truncateSync(path.join(place, "3"), 100_000_000)
        fs.writeFileSync(path.join(place, "notes.txt"), "mine")
        const coming = yield* Effect.forkChild(enter(yield* new Host("a").locksIn(directory)), {
          startImmediately: true
        })
        yield* (yield* arrival(coming)).leave
        assert.sameMembers(fs.readdirSync(place), [...left, "notes.txt"])
      })
  )

  it.effect("a file of another program below the number of a lock is left", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const place = path.join(directory, "lock")
      fs.mkdirSync(place, { mode: 0o700 })
      fs.writeFileSync(path.join(place, "1"), "mine")
      fs.writeFileSync(path.join(place, "2"), "free 0000000000\n")
      fs.writeFileSync(path.join(place, "3"), "free 0000000000\n")
      yield* (yield* enter(yield* new Host("a").locksIn(directory))).leave
      assert.sameMembers(fs.readdirSync(place), ["1", "4"])
    }))

  it.effect("a waiter makes its lock again where all locks are removed", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const folder = path.join(directory, "locks")
      const holder = yield* enter(yield* new Host("a").locksIn(folder))
      const coming = yield* Effect.forkChild(enter(yield* new Host("b").locksIn(folder)), { startImmediately: true })
      yield* pass(1_000)
      fs.rmSync(folder, { recursive: true })
      const next = yield* arrival(coming)
      yield* next.check
      yield* next.leave
      yield* holder.leave
    }))

  it.effect.each(
    [
      ["removed", (folder: string) => fs.rmSync(folder, { recursive: true })],
      ["moved away", (folder: string) => fs.renameSync(folder, `${folder}-aside`)]
    ] as const
  )(
    "where all locks are %s under a holder, it is told, and touches the lock of the next one no more",
    ([, takeAway]) =>
      Effect.gen(function*() {
        const folder = path.join(yield* temporaryDirectory, "locks")
        const holder = yield* enter(yield* new Host("a").locksIn(folder))
        takeAway(folder)
        assert.strictEqual((yield* Effect.flip(holder.check))._tag, "LockLost")
        const next = yield* enter(yield* new Host("b").locksIn(folder))
        const lock = path.join(folder, "lock", "1")
        const before = fs.readFileSync(lock, "utf8")
        assert.strictEqual((yield* Effect.flip(holder.check))._tag, "LockLost")
        yield* holder.leave
        assert.strictEqual(fs.readFileSync(lock, "utf8"), before)
        yield* next.check
        yield* next.leave
      })
  )

  it.effect("a beat of a holder whose lock was removed does not renew the lock of the next one", () =>
    Effect.gen(function*() {
      const folder = path.join(yield* temporaryDirectory, "locks")
      const [first, second] = [new Host("first"), new Host("second")]
      const former = yield* enter(yield* first.locksIn(folder))
      fs.rmSync(folder, { recursive: true })
      yield* enter(yield* second.locksIn(folder))
      yield* second.freeze
      const coming = yield* Effect.forkChild(enter(yield* new Host("third").locksIn(folder)), {
        startImmediately: true
      })
      // for it the lock of the second is abandoned, however long the first goes on
      yield* (yield* arrival(coming)).leave
      yield* second.thaw
      yield* former.leave
    }))

  it.effect("where files have no numbers a holder is told by its token", () =>
    Effect.gen(function*() {
      const folder = path.join(yield* temporaryDirectory, "locks")
      const unnumbered = (changing: boolean) =>
        Effect.map(makePrivateFiles, (files) =>
          new FileLocks(files, folder, { self: { host: "a" }, isGone: () => Effect.succeed(false) })).pipe(
            Effect.provide(Layer.effect(
              FileSystem.FileSystem,
              Effect.map(FileSystem.FileSystem, (base) => ({
                ...base,
                lstat: (file: string) =>
                  Effect.map(base.lstat(file), (info) => ({
                    ...info,
                    ino: changing
                      ? Option.map(info.ino, (number) =>
                        number + 1n)
                      : Option.none()
                  }))
              }))
            )),
            Effect.provide(NodeFiles)
          )
      for (const changing of [true, false]) {
        const holder = yield* enter(yield* unnumbered(changing))
        yield* holder.check
        fs.rmSync(folder, { recursive: true })
        const next = yield* enter(yield* unnumbered(changing))
        assert.strictEqual((yield* Effect.flip(holder.check))._tag, "LockLost")
        yield* next.check
        yield* next.leave
      }
    }))

  it.effect("where the system has no hard links, one of many has it at a time", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const locksWithoutLinks = Effect.map(makePrivateFiles, (files) =>
        new FileLocks(files, directory, { self: { host: "a" }, isGone: () => Effect.succeed(false) })).pipe(
          Effect.provide(Layer.effect(
            FileSystem.FileSystem,
            Effect.map(FileSystem.FileSystem, (base) => ({
              ...base,
              link: (_: string, file: string) =>
                Effect.fail(PlatformError.systemError({
                  _tag: "Unknown",
                  module: "FileSystem",
                  method: "link",
                  pathOrDescriptor: file
                }))
            }))
          )),
          Effect.provide(NodeFiles)
        )
      let inside = 0
      const working = yield* Effect.forEach([1, 2, 3, 4], () =>
        Effect.gen(function*() {
          const { check, leave } = yield* enter(yield* locksWithoutLinks)
          assert.strictEqual(++inside, 1)
          yield* settle
          yield* check
          inside--
          yield* leave
        }).pipe(Effect.forkChild))
      for (const fiber of working) {
        yield* arrival(fiber)
      }
    }))

  it.effect("the 64th taker of a lock removes what takers left that died long ago", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const place = path.join(directory, "lock")
      const leftover = (digit: string) => path.join(place, `.aden-${digit.repeat(32)}.tmp`)
      fs.mkdirSync(place, { mode: 0o700 })
      fs.writeFileSync(path.join(place, "62"), "free 0000000000\n")
      for (const digit of ["0", "1"]) fs.writeFileSync(leftover(digit), "torn")
      fs.utimesSync(leftover("0"), new Date(-7_200_000), new Date(-7_200_000))
      fs.utimesSync(leftover("1"), new Date(0), new Date(0))
      const locks = yield* new Host("a").locksIn(directory)
      yield* (yield* enter(locks)).leave
      assert.isTrue(fs.existsSync(leftover("0")))
      yield* (yield* enter(locks)).leave
      assert.sameMembers(fs.readdirSync(place), ["64", path.basename(leftover("1"))])
    }))

  it.effect.skipIf(!fs.existsSync("/proc/self/fd"))( // only Linux tells what is open
    "leaves nothing open, whether it was had, taken over or missed",
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const openIn = () =>
          fs.readdirSync("/proc/self/fd").filter((fd) => {
            try {
              return fs.readlinkSync(`/proc/self/fd/${fd}`).startsWith(directory)
            } catch {
              return false
            }
          }).length
        const [first, second] = [new Host("first"), new Host("second")]
        const holder = yield* enter(yield* first.locksIn(directory))
        assert.strictEqual(openIn(), 1)
        const coming = yield* Effect.forkChild(enter(yield* second.locksIn(directory)), { startImmediately: true })
        yield* pass(1_000)
        yield* first.freeze
        const next = yield* arrival(coming)
        yield* first.thaw
        yield* holder.leave
        yield* next.leave
        // of those who find it free at one moment all but one miss it
        const locks = yield* new Host("many").locksIn(directory)
        const working = yield* Effect.forEach(
          Array.from({ length: 8 }),
          () => Effect.forkChild(Effect.flatMap(enter(locks), ({ leave }) => leave))
        )
        for (const fiber of working) yield* arrival(fiber)
        assert.strictEqual(openIn(), 0)
      })
  )

  it.effect.each(["lock", "lock/1"])(
    "a symbolic link in the place of %s is not followed",
    (name) =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const elsewhere = yield* temporaryDirectory
        const target = path.join(elsewhere, "1")
        fs.writeFileSync(target, "mine")
        if (name === "lock/1") fs.mkdirSync(path.join(directory, "lock"), { mode: 0o700 })
        fs.symlinkSync(name === "lock" ? elsewhere : target, path.join(directory, name))
        const error = yield* Effect.flip(enter(yield* new Host("a").locksIn(directory)))
        assert.strictEqual(error._tag, "StorageInsecure")
        assert.match(error.message, /symbolic link, which is not followed; run: rm '/)
        assert.deepStrictEqual(fs.readdirSync(elsewhere), ["1"])
        assert.strictEqual(fs.readFileSync(target, "utf8"), "mine")
      })
  )

  it.effect("one who is interrupted while it waits leaves nothing, and the lock is had by the next", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const [first, second] = [new Host("first"), new Host("second")]
      const holder = yield* enter(yield* first.locksIn(directory))
      const locks = yield* second.locksIn(directory)
      const coming = yield* Effect.forkChild(enter(locks), { startImmediately: true })
      yield* pass(1_000)
      yield* Fiber.interrupt(coming)
      assert.deepStrictEqual(fs.readdirSync(path.join(directory, "lock")), ["1"])
      yield* holder.leave
      yield* (yield* enter(locks)).leave
    }))
})
