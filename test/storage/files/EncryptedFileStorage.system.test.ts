import { assert, describe, it } from "@effect/vitest"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Clock, DateTime, Effect, Option, Random, Redacted, Schedule, Scope } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { Credential, CredentialKey } from "../../../src/model/Credential.ts"
import { leaseMillis } from "../../../src/storage/lease.ts"
import { repeats } from "../../fixtures/repeats.ts"
import type { StorageTask } from "../../fixtures/storageWorker.ts"
import { bundledWorker, startWorker } from "../../fixtures/storageWorkers.ts"
import { inDirectory, key, temporaryDirectory } from "../temporaryStorage.ts"

// Real processes over one real directory.

const valueOf = (credential: Option.Option<Credential>): string | undefined => {
  const key = Option.getOrUndefined(credential)?.defaultKey
  return key === undefined ? undefined : Redacted.value(key.value)
}

const apiKey = (id: string, value: string) => Credential.fromApiKey({ id, apiKey: Redacted.make(value) })

const indexedIds = (directory: string): ReadonlyArray<string> =>
  Object.keys(JSON.parse(fs.readFileSync(path.join(directory, "metadata", "index.json"), "utf8")).credentials)

/** Workers that are ready to begin at once. */
const workers = Effect.fnUntraced(function*(count: number) {
  const file = yield* bundledWorker
  const started = yield* Effect.forEach(Array.from({ length: count }), () => startWorker(file))
  yield* Effect.forEach(started, (worker) => worker.ready, { discard: true })
  return started
})

const until = <E, R>(condition: Effect.Effect<boolean, E, R>) =>
  condition.pipe(
    Effect.filterOrFail((holds) => holds, () => "not yet" as const),
    Effect.retry({ schedule: Schedule.spaced("5 millis"), while: (error) => error === "not yet" }),
    Effect.timeout("60 seconds")
  )

const kills = repeats(200)

describe("EncryptedFileStorage: processes that share a directory", () => {
  it.live(
    "8 processes writing 50 credentials each: 400 in the index, none torn",
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const writers = yield* workers(8)
        writers.forEach((writer, index) =>
          writer.tell({ do: "write", directory, key: Redacted.value(key), name: `writer-${index}`, count: 50 })
        )
        for (const writer of writers) assert.strictEqual(yield* writer.ended, 0, writer.stderr)
        const ids = writers.flatMap((_, index) => Array.from({ length: 50 }, (_, at) => `writer-${index}-${at}`))
        assert.sameMembers([...indexedIds(directory)], ids)
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          assert.sameMembers([...yield* storage.list], ids)
          for (const id of ids) {
            assert.strictEqual(valueOf(yield* storage.load(id)), `value of ${id}`)
            assert.strictEqual((yield* storage.loadState(id)).generation, 1)
          }
        }))
        for (const folder of ["credentials", "metadata", "state"]) {
          assert.deepStrictEqual(
            fs.readdirSync(path.join(directory, folder)).filter((name) => name.endsWith(".tmp")),
            []
          )
        }
      }),
    300_000
  )

  it.live(
    `a writing process killed at random moments, ${kills} times: each credential is the old or the new one, none is missing`,
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const file = yield* bundledWorker
        const ids = ["hubspot", "google/work", "a_b", "x".repeat(250)]
        yield* inDirectory(directory)((storage) => storage.saveMany(ids.map((id) => apiKey(id, "0"))))
        let known = new Map(ids.map((id) => [id, 0]))
        let from = 1
        let midWrite = 0
        const spares = 3
        const scope = yield* Effect.scope
        const start = Scope.provide(startWorker(file), scope)
        const ready = yield* Effect.all(Array.from({ length: spares }, () => start))
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          for (let round = 0; round < kills; round++) {
            const writer = ready.shift() ?? assert.fail("no writer")
            if (round + spares < kills) ready.push(yield* start)
            yield* writer.ready
            writer.tell({ do: "count", directory, key: Redacted.value(key), ids, from })
            yield* until(Effect.sync(() => writer.lines.length > 1))
            yield* Effect.sleep(yield* Random.nextBetween(0, 40))
            writer.signal("SIGKILL")
            yield* writer.ended
            assert.strictEqual(writer.stderr, "")
            const begun = new Map<string, number>()
            for (const line of writer.lines) {
              const { begins, ends, id } = Object(line)
              if (begins !== undefined) {
                begun.set(id, begins)
                from = begins + 1
              }
              if (ends !== undefined) {
                known.set(id, ends)
                begun.delete(id)
              }
            }
            midWrite += begun.size
            const found = new Map<string, number>()
            for (const id of ids) {
              const value = Number(valueOf(yield* storage.load(id)))
              assert.include([known.get(id), begun.get(id)], value, `round ${round}, ${id}`)
              found.set(id, value)
            }
            known = found
            assert.sameMembers([...yield* storage.list], ids)
            if (round % 4 === 0) {
              yield* inDirectory(directory)((other) => other.save(apiKey("hubspot", String(known.get("hubspot")))))
              assert.sameMembers([...indexedIds(directory)], ids)
            }
          }
        }))
        assert.isAbove(midWrite, kills / 2)
      }),
    400_000
  )
})

describe("EncryptedFileStorage: a process that is killed before it wrote the index", () => {
  it.live(
    "the next storage that opens the directory brings in what it saved, new and renewed, even if it writes nothing",
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(apiKey("known", "0")))
        const indexed = () => JSON.parse(fs.readFileSync(path.join(directory, "metadata", "index.json"), "utf8"))
        const before = indexed().credentials.known.updated_at
        const ids = ["known", "new/1", "new_1"]
        const [writer] = yield* workers(1)
        if (writer === undefined) return assert.fail("no worker")
        writer.tell({ do: "count", directory, key: Redacted.value(key), ids, from: 0 })
        yield* until(Effect.sync(() => writer.lines.filter((line) => "ends" in Object(line)).length >= ids.length))
        writer.signal("SIGKILL")
        yield* writer.ended
        yield* inDirectory(directory)((storage) => storage.load("known"))
        const { credentials } = indexed()
        assert.sameMembers(Object.keys(credentials), ids)
        assert.isAbove(Date.parse(credentials.known.updated_at), Date.parse(before))
        assert.deepStrictEqual(fs.readdirSync(path.join(directory, "metadata")), ["index.json"])
      }),
    60_000
  )

  it.live("processes that write the index in turn lose nothing of one another's", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* inDirectory(directory)((one) =>
        Effect.gen(function*() {
          yield* one.save(apiKey("one", "1"))
          const [other] = yield* workers(1)
          other?.tell({ do: "write", directory, key: Redacted.value(key), name: "other", count: 3 })
          assert.strictEqual(yield* other?.ended ?? Effect.succeed(1), 0)
          yield* one.save(apiKey("one more", "1"))
        }).pipe(Effect.scoped)
      )
      assert.sameMembers([...indexedIds(directory)], ["one", "one more", "other-0", "other-1", "other-2"])
    }), 60_000)
})

describe("CredentialStore: processes that share a directory", () => {
  /** A directory with one credential that has expired, and its size of the story: the requests that Aden got. */
  const expired = Effect.fnUntraced(function*() {
    const directory = yield* temporaryDirectory
    const aden = yield* AdenEmulator
    const now = yield* DateTime.now
    yield* inDirectory(directory)((storage) =>
      storage.save(
        new Credential({
          id: "hubspot",
          type: "oauth2",
          keys: new Map([
            [
              "access_token",
              new CredentialKey({
                name: "access_token",
                value: Redacted.make("expired"),
                expiresAt: DateTime.subtract(now, { hours: 1 })
              })
            ],
            ["_aden_managed", new CredentialKey({ name: "_aden_managed", value: Redacted.make("true") })]
          ]),
          providerId: "aden_sync",
          autoRefresh: true,
          description: "",
          tags: []
        })
      )
    )
    const task: StorageTask = {
      do: "token",
      directory,
      key: Redacted.value(key),
      ref: "hubspot",
      url: aden.url,
      apiKey: Redacted.value(aden.apiKey)
    }
    return { task, refreshes: aden.countRequests({ endpoint: "refresh" }) }
  })
  const Aden = AdenEmulator.layer({ integrations: [{ id: "hubspot", tokenLifetime: "1 hour" }] })

  it.live(
    "8 processes read one expired credential: one refresh, and all get its token",
    () =>
      Effect.gen(function*() {
        const { refreshes, task } = yield* expired()
        yield* (yield* AdenEmulator).setFault(Fault.Latency({ duration: "300 millis" }), { endpoint: "refresh" })
        const readers = yield* workers(8)
        for (const reader of readers) reader.tell(task)
        for (const reader of readers) assert.strictEqual(yield* reader.ended, 0, reader.stderr)
        const answers = readers.map(({ lines }) => lines.slice(1))
        assert.property(answers[0]?.[0], "token")
        for (const answer of answers) assert.deepStrictEqual(answer, answers[0])
        assert.strictEqual(yield* refreshes, 1)
      }).pipe(Effect.provide(Aden)),
    240_000
  )

  it.live(
    "the process that renews is killed: the next one takes over at once, with one more refresh",
    () =>
      Effect.gen(function*() {
        const { refreshes, task } = yield* expired()
        yield* (yield* AdenEmulator).setFault(Fault.Hang(), { endpoint: "refresh", times: 1 })
        const [holder, ...waiting] = yield* workers(4)
        holder?.tell(task)
        yield* until(Effect.map(refreshes, (count) => count === 1))
        const waitsFrom = yield* Clock.currentTimeMillis
        for (const waiter of waiting) waiter.tell(task)
        yield* Effect.sleep("500 millis")
        assert.strictEqual(yield* refreshes, 1)
        holder?.signal("SIGKILL")
        for (const waiter of waiting) assert.strictEqual(yield* waiter.ended, 0, waiter.stderr)
        // who waits for the end of the lease watches the lock for as long as it lasts
        assert.isBelow((yield* Clock.currentTimeMillis) - waitsFrom, leaseMillis)
        for (const { lines } of waiting) assert.property(lines[1], "token")
        assert.strictEqual(yield* refreshes, 2)
      }).pipe(Effect.provide(Aden)),
    240_000
  )

  it.live(
    "the process that renews is suspended for longer than its lease: what it brings afterwards is not saved",
    () =>
      Effect.gen(function*() {
        const { refreshes, task } = yield* expired()
        yield* (yield* AdenEmulator).setFault(Fault.Latency({ duration: "1 second" }), {
          endpoint: "refresh",
          times: 1
        })
        const [holder, waiter] = yield* workers(2)
        if (holder === undefined || waiter === undefined) return assert.fail("no workers")
        holder.tell(task)
        yield* until(Effect.map(refreshes, (count) => count === 1))
        holder.signal("SIGSTOP")
        const stoppedAt = yield* Clock.currentTimeMillis
        waiter.tell(task)
        assert.strictEqual(yield* waiter.ended, 0, waiter.stderr)
        const waited = (yield* Clock.currentTimeMillis) - stoppedAt
        assert.isAbove(waited, 14_000)
        const saved = inDirectory(task.directory)((storage) =>
          Effect.all([Effect.map(storage.load("hubspot"), valueOf), storage.loadState("hubspot")])
        )
        const before = yield* saved
        holder.signal("SIGCONT")
        assert.strictEqual(yield* holder.ended, 0, holder.stderr)
        assert.deepStrictEqual(yield* saved, before)
        assert.deepStrictEqual(waiter.lines[1], { token: before[0] })
        // it takes over what the faster one saved
        assert.deepStrictEqual(holder.lines[1], waiter.lines[1])
        assert.strictEqual(yield* refreshes, 2)
      }).pipe(Effect.provide(Aden)),
    240_000
  )
})
