/**
 * What real processes that share a database have to do: a database runs it over a place of its own for each test.
 */
import { assert, describe, it } from "@effect/vitest"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Clock, DateTime, Effect, Option, Redacted, Schedule } from "effect"
import type { Scope } from "effect"
import { Credential, CredentialKey } from "../../src/model/Credential.ts"
import type { CredentialStorage } from "../../src/storage/CredentialStorage.ts"
import type { FleetTask } from "../fixtures/fleetWorker.ts"
import { bundledFleetWorker, startWorker } from "../fixtures/storageWorkers.ts"
import { key } from "./temporaryStorage.ts"

type Storage = CredentialStorage["Service"]

/** A place in a database that no other test has, with a storage over it. */
export interface Place {
  readonly database: string
  readonly namespace: string
  readonly storage: Storage
}

const valueOf = (credential: Option.Option<Credential>): string | undefined => {
  const key = Option.getOrUndefined(credential)?.defaultKey
  return key === undefined ? undefined : Redacted.value(key.value)
}

const workers = Effect.fnUntraced(function*(count: number) {
  const file = yield* bundledFleetWorker
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

/** A token of Aden's that ran out so long ago, or has so long left. */
export const adenToken = (value: string, left: { readonly hours: number }) =>
  Effect.map(DateTime.now, (now) =>
    new Credential({
      id: "hubspot",
      type: "oauth2",
      keys: new Map([
        [
          "access_token",
          new CredentialKey({
            name: "access_token",
            value: Redacted.make(value),
            expiresAt: DateTime.add(now, left)
          })
        ],
        ["_aden_managed", new CredentialKey({ name: "_aden_managed", value: Redacted.make("true") })]
      ]),
      providerId: "aden_sync",
      autoRefresh: true,
      description: "",
      tags: []
    }))

const median = (numbers: ReadonlyArray<number>): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN

export const fleetSuite = <E>(name: string, place: Effect.Effect<Place, E, Scope.Scope>) => {
  const Aden = AdenEmulator.layer({ integrations: [{ id: "hubspot", tokenLifetime: "1 hour" }] })

  /** One credential that has expired, and the requests that Aden got for it. */
  const expired = Effect.gen(function*() {
    const { database, namespace, storage } = yield* place
    const aden = yield* AdenEmulator
    yield* storage.save(yield* adenToken("expired", { hours: -1 }))
    const task: FleetTask = {
      do: "read",
      times: 1,
      database,
      namespace,
      key: Redacted.value(key),
      ref: "hubspot",
      url: aden.url,
      apiKey: Redacted.value(aden.apiKey)
    }
    const saved = Effect.all([Effect.map(storage.load("hubspot"), valueOf), storage.loadState("hubspot")])
    return { task, saved, refreshes: aden.countRequests({ endpoint: "refresh" }) }
  })

  describe(`${name}: a fleet`, () => {
    it.live(
      "4 processes with 200 fibers each read one expired credential: one refresh, and all get its token",
      () =>
        Effect.gen(function*() {
          const { refreshes, saved, task } = yield* expired
          yield* (yield* AdenEmulator).setFault(Fault.Latency({ duration: "300 millis" }), { endpoint: "refresh" })
          const readers = yield* workers(4)
          for (const reader of readers) reader.tell({ ...task, times: 200 })
          for (const reader of readers) assert.strictEqual(yield* reader.ended, 0, reader.stderr)
          const [token] = yield* saved
          assert.notStrictEqual(token, "expired")
          for (const { lines } of readers) assert.deepStrictEqual(lines[1], { answers: [token], failures: 0 })
          assert.strictEqual(yield* refreshes, 1)
        }).pipe(Effect.provide(Aden)),
      120_000
    )

    it.live(
      "the process that renews is killed: another takes over within the lease, with one more refresh",
      () =>
        Effect.gen(function*() {
          const { refreshes, task } = yield* expired
          yield* (yield* AdenEmulator).setFault(Fault.Hang(), { endpoint: "refresh", times: 1 })
          const [holder, ...waiting] = yield* workers(4)
          holder?.tell(task)
          yield* until(Effect.map(refreshes, (count) => count === 1))
          for (const waiter of waiting) waiter.tell({ ...task, times: 200 })
          yield* Effect.sleep("500 millis")
          assert.strictEqual(yield* refreshes, 1)
          const killedAt = yield* Clock.currentTimeMillis
          holder?.signal("SIGKILL")
          for (const waiter of waiting) assert.strictEqual(yield* waiter.ended, 0, waiter.stderr)
          // a lease lasts 15 s; a process ends a while later
          assert.isBelow((yield* Clock.currentTimeMillis) - killedAt, 25_000)
          for (const { lines } of waiting) assert.deepInclude(lines[1], { failures: 0 })
          assert.strictEqual(yield* refreshes, 2)
        }).pipe(Effect.provide(Aden)),
      120_000
    )

    it.live(
      "the process that renews is suspended for longer than its lease: what it brings afterwards is not saved",
      () =>
        Effect.gen(function*() {
          const { refreshes, saved, task } = yield* expired
          // longer than it takes to suspend the process
          yield* (yield* AdenEmulator).setFault(Fault.Latency({ duration: "5 seconds" }), {
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
          assert.isAbove((yield* Clock.currentTimeMillis) - stoppedAt, 10_000)
          const before = yield* saved
          holder.signal("SIGCONT")
          assert.strictEqual(yield* holder.ended, 0, holder.stderr)
          assert.deepStrictEqual(yield* saved, before)
          assert.deepStrictEqual(waiter.lines[1], { answers: [before[0]], failures: 0 })
          // it takes over what the faster one saved
          assert.deepStrictEqual(holder.lines[1], waiter.lines[1])
          assert.strictEqual(yield* refreshes, 2)
        }).pipe(Effect.provide(Aden)),
      120_000
    )

    it.live(
      "what one process renews, another reads within 100 ms (median)",
      () =>
        Effect.gen(function*() {
          const { task } = yield* expired
          const [watcher, renewer] = yield* workers(2)
          if (watcher === undefined || renewer === undefined) return assert.fail("no workers")
          watcher.tell({ ...task, do: "watch" })
          yield* until(Effect.sync(() => watcher.lines.length > 1))
          renewer.tell({ ...task, do: "renew", times: 30 })
          assert.strictEqual(yield* renewer.ended, 0, renewer.stderr)
          const renewed = renewer.lines.slice(1).map(Object)
          yield* until(Effect.sync(() => watcher.lines.map(Object).at(-1).token === renewed.at(-1).token))
          const readAt = new Map(watcher.lines.slice(1).map(Object).map(({ at, token }) => [token, at]))
          const delays = renewed.flatMap(({ at, token }) => readAt.has(token) ? [readAt.get(token) - at] : [])
          assert.isAtLeast(delays.length, 25)
          assert.isBelow(median(delays), 100, `ms: ${delays.join(" ")}`)
        }).pipe(Effect.provide(Aden)),
      // a machine with much to do may be slow once
      { timeout: 120_000, retry: 2 }
    )
  })
}
