/**
 * What a store has to do while the database that it shares with others is away: each database runs it over a server of its own.
 */
import { assert, describe, it } from "@effect/vitest"
import { AdenClient, AdenSyncProvider, CredentialStore } from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { Clock, Context, Effect, Fiber, Layer, Logger, Redacted, Schedule } from "effect"
import type { Scope } from "effect"
import { FetchHttpClient } from "effect/http"
import { CredentialStorage } from "../../src/storage/CredentialStorage.ts"

/** A database server that can be stopped and started again. */
export interface RestartableServer {
  readonly url: string
  readonly stop: Effect.Effect<void>
  readonly start: Effect.Effect<void>
}

const ids = Array.from({ length: 20 }, (_, index) => `integration-${index}`)

const Aden = AdenEmulator.layer({ integrations: ids.map((id) => ({ id, tokenLifetime: "1 hour" })) })

const tokenOf = (store: CredentialStore["Service"], id: string) => Effect.map(store.token(id), Redacted.value)

/** Warnings of the program, without what a client says of its connections. */
const warning = <A, E, R>(program: (warnings: ReadonlyArray<string>) => Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const warnings: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      const text = String(message)
      if (logLevel === "Warn" && !text.startsWith("NodeRedis")) warnings.push(text)
    })
    return Effect.provide(program(warnings), Logger.layer([logger]))
  })

/** Stores of several hosts over one database server, which is stopped and started while they work. */
export const outageSuite = <E, E2>(name: string, options: {
  readonly server: Effect.Effect<RestartableServer, E, Scope.Scope>
  readonly storageAt: (url: Redacted.Redacted<string>) => Layer.Layer<CredentialStorage, E2>
}) => {
  const { server, storageAt } = options

  /** A store as one more host has it, with its storage. */
  const host = Effect.fnUntraced(function*(url: string) {
    const aden = yield* AdenEmulator
    const built = yield* Layer.build(Layer.fresh(
      CredentialStore.layer().pipe(
        Layer.provide(AdenSyncProvider.layer()),
        Layer.provide(AdenClient.layer({ baseUrl: aden.url, apiKey: aden.apiKey })),
        Layer.provideMerge(storageAt(Redacted.make(url))),
        Layer.provide(FetchHttpClient.layer)
      )
    ))
    return { store: Context.get(built, CredentialStore), storage: Context.get(built, CredentialStorage) }
  })

  describe(`CredentialStore: a ${name} server that goes away under load`, () => {
    it.live(
      "no read of an unexpired credential fails, no entry is lost, and all agree within 5 s of its return",
      () =>
        Effect.gen(function*() {
          const database = yield* server
          const hosts = yield* Effect.forEach(Array.from({ length: 3 }), () => host(database.url))
          const [first, second, third] = hosts
          if (first === undefined || second === undefined || third === undefined) return assert.fail("no hosts")
          yield* first.store.sync
          for (const { store } of hosts) yield* Effect.forEach(ids, (id) => store.token(id))

          let reads = 0
          const failures: Array<string> = []
          const reading = yield* Effect.forkChild(Effect.forEach(hosts, ({ store }) =>
            Effect.forever(
              Effect.andThen(
                Effect.forEach(ids, (id) =>
                  Effect.match(store.token(id), {
                    onSuccess: () => reads++,
                    onFailure: (error) => failures.push(error.message)
                  })),
                Effect.sleep("5 millis")
              )
            ), { concurrency: "unbounded" }))
          // each host renews one credential again and again
          const renewing = yield* Effect.forkChild(Effect.forEach(hosts, ({ store }, index) =>
            Effect.forever(
              Effect.andThen(
                Effect.ignore(store.refresh(ids[index] ?? "")),
                Effect.sleep("100 millis")
              )
            ), { concurrency: "unbounded" }))

          yield* Effect.sleep("1 second")
          yield* database.stop
          yield* Effect.sleep("500 millis")
          // renewals go on, each on its host
          const renewed = yield* first.store.refresh("integration-7")
          yield* second.store.refresh("integration-8")
          const before = reads
          yield* Effect.sleep("3 seconds")
          assert.isAbove(reads, before)
          yield* Fiber.interrupt(renewing)
          yield* database.start
          const backAt = yield* Clock.currentTimeMillis

          const agreed = Effect.gen(function*() {
            for (const id of ids) {
              const [token, ...others] = yield* Effect.forEach(hosts, ({ store }) => tokenOf(store, id))
              const stored = yield* third.storage.load(id)
              const kept = stored._tag === "Some" && stored.value.defaultKey !== undefined
                ? Redacted.value(stored.value.defaultKey.value)
                : undefined
              if (kept !== token || others.some((other) => other !== token)) return yield* Effect.fail(`not yet: ${id}`)
            }
          })
          yield* Effect.retry(agreed, { schedule: Schedule.spaced("50 millis") }).pipe(Effect.timeout("15 seconds"))
          assert.isBelow((yield* Clock.currentTimeMillis) - backAt, 5_000)
          yield* Fiber.interrupt(reading)
          assert.deepStrictEqual(failures, [])
          assert.isAbove(reads, 1_000)
          assert.sameMembers([...yield* third.storage.list], ids)
          // what was renewed meanwhile reached the others
          assert.strictEqual(
            yield* tokenOf(third.store, "integration-7"),
            renewed.defaultKey === undefined ? "" : Redacted.value(renewed.defaultKey.value)
          )
          // a machine with much to do may be late once
        }).pipe(Effect.provide(Aden)),
      { retry: 2 }
    )

    it.live("while it is away renewals go on under a lock of the process, with a warning each of storage and lock", () =>
      warning((warnings) =>
        Effect.gen(function*() {
          const database = yield* server
          const { store } = yield* host(database.url)
          const aden = yield* AdenEmulator
          yield* store.token("integration-0")
          yield* database.stop
          yield* Effect.sleep("50 millis")
          yield* store.invalidate("integration-0")
          const before = yield* aden.countRequests({ endpoint: "refresh" })
          const tokens = yield* Effect.forEach(
            Array.from({ length: 200 }),
            () => tokenOf(store, "integration-0"),
            { concurrency: "unbounded" }
          )
          assert.strictEqual(new Set(tokens).size, 1)
          assert.strictEqual(yield* aden.countRequests({ endpoint: "refresh" }), before + 1)
          yield* store.refresh("integration-0")
          assert.deepStrictEqual(warnings.toSorted(), [
            "Credential storage fails; credentials are kept in memory",
            "Other processes are not locked out: cannot acquire the lock of a credential"
          ])
        })
      ).pipe(Effect.provide(Aden)))
  })
}
