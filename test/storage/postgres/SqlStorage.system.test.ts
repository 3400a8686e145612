import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { SqlStorage } from "aden-credentials"
import { PostgresConnection } from "aden-credentials/postgres"
import {
  Clock,
  ConfigProvider,
  Context,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Option,
  Redacted,
  Schedule,
  Schema,
  Scope
} from "effect"
import { SqlClient } from "effect/sql/SqlClient"
import { inspect } from "node:util"
import { afterAll, beforeAll } from "vitest"
import { AdenConfigError } from "../../../src/errors/ConfigError.ts"
import { CredentialDecryptionFailed, CredentialStorageError } from "../../../src/errors/StorageError.ts"
import { Credential } from "../../../src/model/Credential.ts"
import { CredentialState } from "../../../src/model/CredentialState.ts"
import { CurrentTenant } from "../../../src/model/currentTenant.ts"
import { CredentialStorage } from "../../../src/storage/CredentialStorage.ts"
import { hasPostgresServer, needsPostgresServer, password, restartablePostgres } from "../../fixtures/postgresServer.ts"
import { describeWith, postgres } from "../../fixtures/realServers.ts"
import { tcpProxy } from "../../fixtures/tcpProxy.ts"
import {
  apiKey,
  changesOf,
  elapsed,
  leastRoundTrips,
  shortest,
  told,
  until,
  valueOf,
  warningsOf
} from "../observing.ts"
import { suite } from "../StorageContract.ts"
import { key, NodeFiles, otherKey } from "../temporaryStorage.ts"
import { connected, deaf, following, inSchema, namespacedIn, newSchema, place, storageOver } from "./postgresSchema.ts"

const Count = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ count: Schema.NumberFromString })]))
const countOf = ([{ count }]: ReturnType<typeof Count>) => count

describeWith(postgres, "SqlStorage", () => {
  describe("in a database that others use too", () => {
    const scope = Scope.makeUnsafe()
    let url = ""
    beforeAll(async () => {
      url = await Effect.runPromise(Scope.provide(newSchema, scope))
    })
    afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

    suite("SqlStorage", namespacedIn(() => url))
  })

  describe("what the server sees", () => {
    it.effect("no secret", () =>
      Effect.gen(function*() {
        const { sql, storage } = yield* place
        const token = "sk-live-4f9aC71b"
        yield* storage.save(apiKey("hubspot", token))
        yield* storage.saveMany([apiKey("slack", token)])
        const rows = yield* sql`select * from aden_credentials, aden_credentials_namespaces`
        assert.lengthOf(rows, 2)
        assert.notInclude(inspect(rows, { depth: Infinity, maxStringLength: Infinity }), token)
      }))

    it.effect("of a deleted credential its generation", () =>
      Effect.gen(function*() {
        const { sql, storage } = yield* place
        yield* storage.save(apiKey("hubspot", "1"))
        yield* storage.delete("hubspot")
        assert.deepStrictEqual(
          yield* sql`select id, generation::int, document, state from aden_credentials`,
          [{ id: "hubspot", generation: 2, document: null, state: null }]
        )
      }))

    it.live("of a read one round trip, and of a save two", () =>
      Effect.gen(function*() {
        const url = new URL(yield* newSchema)
        const proxy = yield* tcpProxy(Number(url.port || 5432), url.hostname)
        url.hostname = "127.0.0.1"
        url.port = String(proxy.port)
        const storage = yield* storageOver(yield* connected(url.href))
        yield* storage.save(apiKey("hubspot", "1"))
        yield* storage.read("hubspot")
        assert.strictEqual(yield* leastRoundTrips(proxy, storage.read("hubspot")), 1)
        assert.strictEqual(yield* leastRoundTrips(proxy, storage.read("absent")), 1)
        assert.strictEqual(yield* leastRoundTrips(proxy, storage.save(apiKey("hubspot", "2"))), 2)
      }))

    it.effect("of a sync of 5,000 credentials two statements", () =>
      Effect.gen(function*() {
        const { sql } = yield* place
        let statements = 0
        const storage = yield* storageOver(following(sql, (text) =>
          Effect.sync(() => {
            // not those that look for what others changed
            if (/key = any|unnest/.test(text)) statements++
          })))
        const many = Array.from({ length: 5_000 }, (_, index) => apiKey(`c_${index}`, String(index)))
        assert.strictEqual((yield* storage.saveMany(many)).size, 0)
        assert.strictEqual(statements, 2)
        assert.lengthOf(yield* storage.list, 5_000)
        assert.strictEqual(valueOf(yield* storage.load("c_4999")), "4999")
      }))

    it.effect("any id, however long", () =>
      Effect.gen(function*() {
        const { storage } = yield* place
        const ids = ["x".repeat(100_000), "\\0", "\0", "\\\\0", "\\\0"]
        assert.strictEqual((yield* storage.saveMany(ids.map((id) => apiKey(id, id)))).size, 0)
        assert.sameMembers([...yield* storage.list], ids)
        for (const id of ids) {
          assert.strictEqual(valueOf(yield* storage.load(id)), id)
          yield* storage.withLock(id, Effect.void)
          assert.isTrue(yield* storage.delete(id))
        }
      }))
  })

  describe("a transaction that the program has open", () => {
    it.live("does not hold the writes of a storage: they stay when it is rolled back, and no other writer waits for its end", () =>
      Effect.gen(function*() {
        const { process, sql, storage } = yield* place
        const other = yield* process
        const rolledBack = sql.withTransaction(Effect.gen(function*() {
          yield* storage.save(apiKey("hubspot", "1"))
          yield* other.save(apiKey("hubspot", "2"))
          yield* storage.withLock("hubspot", storage.saveState("hubspot", CredentialState.initial))
          return yield* Effect.fail("no")
        }))
        assert.strictEqual(yield* Effect.flip(rolledBack), "no")
        assert.strictEqual(valueOf(yield* storage.load("hubspot")), "2")
      }))
  })

  describe("two writers of one entry", () => {
    /** A storage whose next look is followed by what another does, before it goes on. */
    const interrupted = Effect.gen(function*() {
      const { process, sql, storage } = yield* place
      const other = yield* process
      let next: Effect.Effect<unknown> = Effect.void
      const here = yield* storageOver(following(sql, (text) =>
        Effect.suspend(() => {
          if (!text.includes("key = any")) return Effect.void
          const step = next
          next = Effect.void
          return step
        })))
      const during = <A, E, B, E2>(operation: Effect.Effect<A, E>, happens: Effect.Effect<B, E2>) =>
        Effect.suspend(() => {
          next = Effect.orDie(happens)
          return operation
        })
      return { during, here, other, storage, sql }
    })

    it.effect("a save that expects a generation is refused when another saves or deletes meanwhile", () =>
      Effect.gen(function*() {
        const { during, here, other, storage } = yield* interrupted
        yield* other.save(apiKey("x", "first"))
        const late = yield* Effect.flip(
          during(here.save(apiKey("x", "late"), { expectedGeneration: 1 }), other.save(apiKey("x", "second")))
        )
        assert.deepInclude(late, { _tag: "GenerationConflict", id: "x", expected: 1, actual: 2 })
        assert.strictEqual(valueOf(yield* storage.load("x")), "second")
        const later = yield* Effect.flip(
          during(here.save(apiKey("x", "late"), { expectedGeneration: 2 }), other.delete("x"))
        )
        assert.deepInclude(later, { _tag: "GenerationConflict", expected: 2, actual: 3 })
        assert.isFalse(yield* storage.exists("x"))
        const first = yield* Effect.flip(
          during(here.save(apiKey("y", "late"), { expectedGeneration: 0 }), other.save(apiKey("y", "1")))
        )
        assert.deepInclude(first, { _tag: "GenerationConflict", expected: 0, actual: 1 })
      }))

    it.effect("a save that expects none comes after the other one", () =>
      Effect.gen(function*() {
        const { during, here, other, storage } = yield* interrupted
        yield* during(here.save(apiKey("x", "second")), other.save(apiKey("x", "first")))
        assert.strictEqual(valueOf(yield* storage.load("x")), "second")
        assert.strictEqual((yield* storage.loadState("x")).generation, 2)
      }))

    it.effect("of many the one that another saved meanwhile is refused or saved again, and the others are saved", () =>
      Effect.gen(function*() {
        const { during, here, other, storage } = yield* interrupted
        yield* other.saveMany([apiKey("x", "1"), apiKey("y", "1"), apiKey("z", "1")])
        const failures = yield* during(
          here.saveMany([apiKey("x", "late"), apiKey("y", "2"), apiKey("z", "3")], {
            expectedGenerations: new Map([["x", 1], ["y", 1]])
          }),
          other.saveMany([apiKey("x", "2"), apiKey("z", "2")])
        )
        assert.deepStrictEqual(Array.from(failures, ([id, { _tag }]) => [id, _tag]), [["x", "GenerationConflict"]])
        for (const [id, value, generation] of [["x", "2", 2], ["y", "2", 2], ["z", "3", 3]] as const) {
          assert.strictEqual(valueOf(yield* storage.load(id)), value)
          assert.strictEqual((yield* storage.loadState(id)).generation, generation)
        }
      }))

    it.effect("a state that was worked out before a save leaves its generation and account alone", () =>
      Effect.gen(function*() {
        const { during, here, other, storage } = yield* interrupted
        yield* other.save(apiKey("x", "1"))
        yield* during(
          here.saveState("x", new CredentialState({ generation: 0, lastError: "AdenUnavailable" })),
          other.save(
            Credential.fromAccessToken({ id: "x", accessToken: Redacted.make("2"), provider: "google" })
          )
        )
        assert.deepInclude(yield* storage.loadState("x"), {
          generation: 2,
          account: { provider: "google" },
          lastError: "AdenUnavailable"
        })
      }))

    it.effect("a deletion that expects a generation is not made over another save", () =>
      Effect.gen(function*() {
        const { other, storage } = yield* interrupted
        yield* storage.save(apiKey("x", "1"))
        yield* other.save(apiKey("x", "2"))
        assert.isFalse(yield* storage.delete("x", { expectedGeneration: 1 }))
        assert.strictEqual(valueOf(yield* storage.load("x")), "2")
      }))

    it.effect("of a row that is gone altogether no later generation is written", () =>
      Effect.gen(function*() {
        const { during, here, other, sql, storage } = yield* interrupted
        yield* other.save(apiKey("x", "1"))
        const late = yield* Effect.flip(
          during(here.save(apiKey("x", "late"), { expectedGeneration: 1 }), sql`delete from aden_credentials`)
        )
        assert.deepInclude(late, { _tag: "GenerationConflict", expected: 1, actual: 0 })
        assert.isFalse(yield* storage.exists("x"))
      }))

    it.live.each(["read committed", "serializable"])(
      "that save many, each in its own order, with transactions that are %s",
      (isolation) =>
        Effect.gen(function*() {
          const { storage, url } = yield* place
          const seen = yield* changesOf(storage)
          const ids = Array.from({ length: 20 }, (_, index) => `id_${index}`)
          const strict = url.replace(
            "search_path",
            `default_transaction_isolation=${isolation.replace(" ", "\\%20")} -c search_path`
          )
          const others = yield* Effect.forEach(
            Array.from({ length: 4 }),
            () => Effect.flatMap(connected(strict), storageOver)
          )
          assert.deepStrictEqual(yield* (yield* connected(strict))`show default_transaction_isolation`, [
            { default_transaction_isolation: isolation }
          ])
          yield* Effect.forEach(Array.from({ length: 16 }, (_, index) => index), (index) => {
            const order = ids.toSorted((a, b) =>
              (Number(a.slice(3)) * (2 * index + 7)) % 23 - (Number(b.slice(3)) * (2 * index + 7)) % 23
            )
            return Effect.map(
              others[index % 4]?.saveMany(order.map((id) => apiKey(id, String(index)))) ?? Effect.die("no storage"),
              (failures) => assert.strictEqual(failures.size, 0)
            )
          }, { concurrency: "unbounded" })
          for (const id of ids) assert.strictEqual((yield* storage.loadState(id)).generation, 16)
          yield* until(() => ids.every((id) => seen.some((change) => change.id === id)))
        })
    )
  })

  describe("tenants", () => {
    it.effect("have a namespace each, and refuse what another wrote", () =>
      Effect.gen(function*() {
        const { sql } = yield* place
        const of = (tenantId: string) => Effect.provideService(storageOver(sql), CurrentTenant, tenantId)
        const [acme, globex] = [yield* of("acme"), yield* of("Globex/../acme")]
        yield* acme.save(apiKey("hubspot", "acme's"))
        assert.isTrue(Option.isNone(yield* globex.load("hubspot")))
        yield* globex.save(apiKey("hubspot", "globex's"))
        assert.strictEqual(valueOf(yield* acme.load("hubspot")), "acme's")
        assert.strictEqual((yield* acme.loadState("hubspot")).generation, 1)
        yield* sql`
          update aden_credentials set document = (
            select document from aden_credentials where namespace = 'aden-credentials/acme'
          )`
        const failure = yield* Effect.flip(globex.load("hubspot"))
        assert.instanceOf(failure, CredentialDecryptionFailed)
        assert.include(failure.message, "another tenant")
      }))

    it.live("of a process listen over one connection, which is made again when it is lost", () =>
      Effect.gen(function*() {
        const { process, sql } = yield* place
        const storages = yield* Effect.forEach(
          Array.from({ length: 20 }),
          (_, index) => Effect.provideService(storageOver(sql), CurrentTenant, `t${index}`)
        )
        const seen = yield* Effect.forEach(storages, changesOf)
        const other = yield* Effect.provideService(process, CurrentTenant, "t7")
        const listening = Effect.map(
          sql`
            select count(*)::text as count from pg_stat_activity, pg_class
            where relname = 'aden_credentials' and relnamespace = current_schema()::regnamespace
              and query = 'LISTEN "aden_credentials_' || pg_class.oid || '"'`,
          (rows) => countOf(Count(rows))
        )
        // of this process one, and one of the other
        const both = Effect.gen(function*() {
          yield* Effect.repeat(listening, { until: (count) => count >= 2, schedule: Schedule.spaced("20 millis") })
          yield* Effect.sleep("300 millis")
          assert.strictEqual(yield* listening, 2)
        })
        yield* both
        yield* other.save(apiKey("hubspot", "1"))
        yield* until(() => seen[7]?.length === 1)
        yield* sql`
          select pg_terminate_backend(pid) from pg_stat_activity, pg_class
          where relname = 'aden_credentials' and relnamespace = current_schema()::regnamespace
            and query = 'LISTEN "aden_credentials_' || pg_class.oid || '"'`
        yield* other.save(apiKey("hubspot", "2"))
        yield* until(() => seen[7]?.length === 2)
        yield* other.save(apiKey("hubspot", "3"))
        yield* until(() => seen[7]?.length === 3)
        assert.isTrue(seen.every((changes, index) => changes.length === (index === 7 ? 3 : 0)))
        yield* both
      }))
  })

  describe("what another program wrote", () => {
    it.effect.each(["theirs", "", "gAAAAABl".padEnd(200, "A")])(
      "in the place of a document: %j",
      (text) =>
        Effect.gen(function*() {
          const { sql, storage } = yield* place
          yield* storage.save(apiKey("hubspot", "1"))
          yield* sql`update aden_credentials set document = ${text}`
          for (
            const failing of [
              storage.read("hubspot"),
              storage.load("hubspot"),
              Effect.asVoid(storage.save(apiKey("hubspot", "2")))
            ]
          ) {
            const failure = yield* Effect.flip(failing)
            assert.instanceOf(failure, CredentialDecryptionFailed)
            assert.include(
              failure.message,
              "the Postgres table aden_credentials, namespace aden-credentials, id hubspot"
            )
            assert.include(failure.remedy, "delete the credential")
          }
          assert.deepStrictEqual(yield* sql`select document from aden_credentials`, [{ document: text }])
          assert.deepStrictEqual(yield* storage.list, ["hubspot"])
          assert.isTrue(yield* storage.delete("hubspot"))
          yield* storage.save(apiKey("hubspot", "3"))
          assert.strictEqual(valueOf(yield* storage.load("hubspot")), "3")
        })
    )

    it.effect("in the place of a state says nothing, and is replaced", () =>
      Effect.gen(function*() {
        const { sql, storage } = yield* place
        yield* storage.save(apiKey("hubspot", "1"))
        yield* sql`update aden_credentials set state = '{not json'`
        assert.deepStrictEqual(yield* storage.loadState("hubspot"), new CredentialState({ generation: 1 }))
        yield* storage.save(apiKey("hubspot", "2"))
        assert.strictEqual((yield* storage.loadState("hubspot")).generation, 2)
      }))

    it.effect.each(["-9223372036854775808", "9007199254740992", "9223372036854775807"])(
      "as a count, %s, is an error that names the place and the remedy, until a person deletes it",
      (count) =>
        Effect.gen(function*() {
          const { sql, storage } = yield* place
          yield* storage.saveMany([apiKey("hubspot", "1"), apiKey("slack", "1")])
          yield* sql`update aden_credentials set generation = ${count}::bigint where id = 'hubspot'`
          for (
            const failing of [
              storage.read("hubspot"),
              storage.load("hubspot"),
              Effect.asVoid(storage.save(apiKey("hubspot", "2")))
            ]
          ) {
            const failure = yield* Effect.flip(failing)
            assert.instanceOf(failure, CredentialDecryptionFailed)
            assert.include(
              failure.message,
              "the Postgres table aden_credentials, namespace aden-credentials, id hubspot"
            )
            assert.include(failure.remedy, "delete the credential")
          }
          assert.deepStrictEqual(yield* storage.loadState("hubspot"), CredentialState.initial)
          assert.deepStrictEqual(
            Array.from((yield* storage.saveMany([apiKey("hubspot", "2"), apiKey("slack", "2")])).keys()),
            ["hubspot"]
          )
          assert.strictEqual(valueOf(yield* storage.load("slack")), "2")
          assert.isTrue(yield* storage.delete("hubspot"))
          yield* storage.save(apiKey("hubspot", "3"))
          assert.strictEqual(valueOf(yield* storage.load("hubspot")), "3")
        })
    )

    it.effect("a credential moved to the place of another is not taken for it", () =>
      Effect.gen(function*() {
        const { sql, storage } = yield* place
        yield* storage.saveMany([apiKey("hubspot", "1"), apiKey("slack", "2")])
        yield* sql`
          update aden_credentials set document = (select document from aden_credentials where id = 'hubspot')`
        assert.include((yield* Effect.flip(storage.load("slack"))).message, "another credential")
      }))

    it.effect("as a table of our name is left alone: an error that names it and the remedy", () =>
      Effect.gen(function*() {
        const sql = yield* connected(yield* newSchema)
        yield* sql`create table aden_credentials (theirs text)`
        for (const migrate of [true, false]) {
          const failure = yield* Effect.flip((yield* storageOver(sql, { migrate })).load("hubspot"))
          assert.instanceOf(failure, CredentialStorageError)
          assert.include(failure.message, "aden_credentials")
          assert.include(failure.remedy, "choose another table")
        }
        assert.deepStrictEqual(yield* sql`select * from aden_credentials`, [])
        const apart = yield* storageOver(sql, { table: "agents" })
        yield* apart.save(apiKey("hubspot", "1"))
        assert.strictEqual(valueOf(yield* apart.load("hubspot")), "1")
      }))

    it.live("on the channel is passed over", () =>
      Effect.gen(function*() {
        const { process, sql, storage } = yield* place
        const other = yield* process
        const seen = yield* changesOf(storage)
        yield* Effect.sleep("200 millis")
        for (const payload of ["theirs", "", "aden-credentials theirs", "aden-credentials {\"_tag\":\"Saved\"}"]) {
          yield* sql`select pg_notify('aden_credentials_' || 'aden_credentials'::regclass::oid, ${payload})`
        }
        yield* other.save(apiKey("hubspot", "1"))
        yield* until(() => seen.length > 0)
        assert.deepStrictEqual(told(seen), ["Saved hubspot"])
      }))
  })

  it.effect("a key that does not open it: an error that names the place and the remedy", () =>
    Effect.gen(function*() {
      const { sql, storage } = yield* place
      yield* storage.save(apiKey("hubspot", "1"))
      const failure = yield* Effect.flip((yield* storageOver(sql, { keys: [otherKey] })).load("hubspot"))
      assert.instanceOf(failure, CredentialDecryptionFailed)
      assert.include(failure.message, "the Postgres table aden_credentials, namespace aden-credentials, id hubspot")
      assert.include(failure.remedy, "HIVE_CREDENTIAL_KEY")
      const both = yield* storageOver(sql, { keys: [otherKey, key] })
      assert.strictEqual(valueOf(yield* both.load("hubspot")), "1")
    }))

  it.effect.each(
    [
      ["namespace", { namespace: "" }],
      ["namespace", { namespace: "a/b" }],
      ["table", { table: "" }],
      ["table", { table: "Agents" }],
      ["table", { table: "a; drop table b" }],
      ["table", { table: "a.b.c" }],
      ["table", { table: "x".repeat(41) }]
    ] as const
  )("refuses as %s: %j", ([setting, options]) =>
    Effect.gen(function*() {
      const sql = yield* connected(postgres.url)
      const error = yield* Effect.flip(storageOver(sql, options))
      assert.instanceOf(error, AdenConfigError)
      assert.strictEqual(error.setting, setting)
    }))

  it.effect("refuses the client of another database", () =>
    Effect.gen(function*() {
      const sql = yield* connected(postgres.url)
      const other = new Proxy(sql, {
        get: (target, name) =>
          name === "onDialectOrElse"
            ? (options: { readonly orElse: () => unknown }) => options.orElse()
            : Reflect.get(target, name)
      })
      const error = yield* Effect.flip(storageOver(other))
      assert.instanceOf(error, AdenConfigError)
      assert.include(error.remedy, "aden-credentials/postgres")
    }))

  it.effect("layerConfig: keys and server of the environment", () =>
    Effect.gen(function*() {
      const { storage, url } = yield* place
      yield* storage.save(apiKey("hubspot", "1"))
      const Storage = SqlStorage.layerConfig.pipe(
        Layer.provide(PostgresConnection.layerConfig),
        Layer.provide(NodeFiles)
      )
      const settings = (env: Record<string, string>) =>
        Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(env))
      const load = CredentialStorage.use((storage) => storage.load("hubspot")).pipe(
        Effect.provide(Layer.fresh(Storage))
      )
      const configured = { DATABASE_URL: url, HIVE_CREDENTIAL_KEY: Redacted.value(key) }
      assert.strictEqual(valueOf(yield* settings(configured)(load)), "1")
      const missing = yield* Effect.flip(settings({ HIVE_CREDENTIAL_KEY: Redacted.value(key) })(load))
      assert.instanceOf(missing, AdenConfigError)
      assert.strictEqual(missing.setting, "DATABASE_URL")
    }))

  describe("the tables", () => {
    it.live("are made once by many that start at the same time, also beside SqlStorage.migrate", () =>
      Effect.gen(function*() {
        const url = yield* newSchema
        const clients = yield* Effect.forEach(Array.from({ length: 8 }), () => connected(url))
        yield* Effect.forEach(clients, (sql, index) =>
          index % 2 === 0
            ? Effect.provideService(SqlStorage.migrate(), SqlClient, sql)
            : Effect.flatMap(storageOver(sql), (storage) => storage.save(apiKey(`id_${index}`, "1"))), {
          concurrency: "unbounded"
        })
        const [sql] = clients
        if (sql === undefined) return assert.fail("no client")
        assert.sameMembers([...yield* (yield* storageOver(sql)).list], ["id_1", "id_3", "id_5", "id_7"])
        yield* Effect.provideService(SqlStorage.migrate(), SqlClient, sql)
        assert.strictEqual(
          countOf(Count(yield* sql`select count(*)::text as count from aden_credentials_migrations`)),
          1
        )
      }))

    it.effect("are not made when the program says so: an error that names the table and the remedy", () =>
      Effect.gen(function*() {
        const sql = yield* connected(yield* newSchema)
        const storage = yield* storageOver(sql, { migrate: false })
        const failure = yield* Effect.flip(storage.load("hubspot"))
        assert.instanceOf(failure, CredentialStorageError)
        assert.include(failure.message, "the Postgres table aden_credentials")
        assert.include(failure.message, "does not exist")
        assert.include(failure.remedy, "SqlStorage.migrate")
        yield* Effect.provideService(SqlStorage.migrate(), SqlClient, sql)
        yield* storage.save(apiKey("hubspot", "1"))
        assert.strictEqual(valueOf(yield* storage.load("hubspot")), "1")
      }))

    it.effect("that are dropped while the storage is in use: the same", () =>
      Effect.gen(function*() {
        const { sql, storage } = yield* place
        yield* storage.save(apiKey("hubspot", "1"))
        yield* sql`drop table aden_credentials`
        const failure = yield* Effect.flip(storage.save(apiKey("hubspot", "2")))
        assert.instanceOf(failure, CredentialStorageError)
        assert.include(failure.message, "aden_credentials\" does not exist")
        assert.include(failure.remedy, "SqlStorage.migrate")
      }))

    it.live("of the same name in two schemas are apart, changes and all", () =>
      Effect.gen(function*() {
        const [one, two] = [yield* place, yield* place]
        const seen = yield* changesOf(one.storage)
        const other = yield* one.process
        yield* Effect.sleep("200 millis")
        yield* two.storage.save(apiKey("hubspot", "two"))
        yield* other.save(apiKey("slack", "one"))
        yield* until(() => seen.length > 0)
        assert.deepStrictEqual(told(seen), ["Saved slack"])
        assert.deepStrictEqual(yield* one.storage.list, ["slack"])
      }))

    it.effect("are found in the schema that the name says", () =>
      Effect.gen(function*() {
        const url = yield* newSchema
        const schema = /test_[0-9a-f]{16}/.exec(decodeURIComponent(url))?.[0] ?? assert.fail()
        const sql = yield* connected(postgres.url)
        const storage = yield* storageOver(sql, { table: `${schema}.agents` })
        yield* storage.save(apiKey("hubspot", "1"))
        assert.strictEqual(valueOf(yield* storage.load("hubspot")), "1")
        const inside = yield* connected(inSchema(postgres.url, schema))
        assert.deepStrictEqual(yield* inside`select id from agents`, [{ id: "hubspot" }])
      }))
  })

  describe("the connection", () => {
    const errorOf = (url: string, maxConnections?: number) =>
      Layer.build(Layer.fresh(PostgresConnection.layer({ url: Redacted.make(url), maxConnections }))).pipe(
        Effect.flip,
        Effect.map((error) => {
          const texts = [inspect(error, { depth: Infinity }), error.message, error.remedy, JSON.stringify(error)]
          assert.notInclude(texts.join("\n"), "hunter")
          return error
        })
      )

    it.effect.each(
      [
        ["", "is not set"],
        ["localhost:5432", "postgres://"],
        ["not a url with hunter2", "is not a URL"],
        ["http://user:hunter2@127.0.0.1:5432", "does not begin with postgres://"],
        ["postgres://user:hunter2@127.0.0.1:99999/test", "is not a URL"],
        ["postgres://user:hunter2%zz@127.0.0.1:5432/test", "percent-encoding"],
        ["postgres://user:hunter2@127.0.0.1:5432/test?sslmode=hidden", "sslmode"],
        ["postgres://localhost:/hunter2@127.0.0.1:1/db", "%2F"],
        ["postgres://localhost:1/hunter2@127.0.0.1/db", "%2F"],
        ["postgres://localhost:12#hunter2@127.0.0.1/db", "%23"],
        ["postgres://localhost:12?hunter2@127.0.0.1/db", "%3F"]
      ] as const
    )("%j is no URL of a server", ([url, what]) =>
      Effect.gen(function*() {
        const error = yield* errorOf(url)
        assert.instanceOf(error, AdenConfigError)
        assert.strictEqual(error.setting, "url")
        assert.include(error.message, what)
      }))

    it.effect.each([0, 1, 1.5, NaN])("%d connections are too few or none", (maxConnections) =>
      Effect.gen(function*() {
        const error = yield* errorOf(postgres.url, maxConnections)
        assert.instanceOf(error, AdenConfigError)
        assert.strictEqual(error.setting, "maxConnections")
      }))

    it.live("two are enough", () =>
      Effect.gen(function*() {
        const url = yield* newSchema
        const layer = PostgresConnection.layer({ url: Redacted.make(url), maxConnections: 2 })
        const sql = yield* Effect.map(Layer.build(Layer.fresh(layer)), Context.get(SqlClient))
        const storage = yield* storageOver(sql)
        yield* Effect.sleep("200 millis")
        yield* Effect.forEach(
          Array.from({ length: 50 }, (_, index) => apiKey(`id_${index % 5}`, "1")),
          (credential) => storage.withLock(credential.id, storage.save(credential)),
          { concurrency: "unbounded" }
        )
        assert.lengthOf(yield* storage.list, 5)
      }))

    it.live("a server that is not there: an error that names it and the remedy", () =>
      Effect.gen(function*() {
        const error = yield* errorOf("postgres://user:hunter2@127.0.0.1:1/test?sslmode=disable&password=hunter3")
        assert.instanceOf(error, CredentialStorageError)
        assert.include(error.message, "postgres://127.0.0.1:1/test: ")
        assert.include(error.message, "ECONNREFUSED")
        assert.include(error.remedy, "Check that the Postgres server runs")
        assert.isTrue(error.isRetryable)
      }))

    it.live.skipIf(!hasPostgresServer)(
      `a wrong or missing password, an unknown user or database${needsPostgresServer}`,
      () =>
        Effect.gen(function*() {
          const { at, url } = yield* restartablePostgres
          for (const wrong of ["postgres:hunter2@", "nobody:hunter2@"]) {
            const error = yield* errorOf(at(wrong))
            assert.instanceOf(error, AdenConfigError, wrong)
            assert.include(error.message, "password authentication failed")
            assert.include(error.remedy, "Check user name and password")
          }
          const none = yield* errorOf(at("postgres@"))
          assert.include(none.remedy, "Check")
          const absent = yield* errorOf(at(`postgres:${encodeURIComponent(password)}@`, "absent"))
          assert.instanceOf(absent, AdenConfigError)
          assert.include(absent.remedy, "Create the database")
          const sql = yield* connected(url)
          assert.deepStrictEqual(yield* sql`select 1 as one`, [{ one: 1 }])
        })
    )

    it.live.skipIf(!hasPostgresServer)(
      `a program with a client of its own that the server refuses: an error that holds no password${needsPostgresServer}`,
      () =>
        Effect.gen(function*() {
          const { at } = yield* restartablePostgres
          const client = PgClient.layer({ url: Redacted.make(at("postgres:hunter2@")) })
          const Storage = SqlStorage.layer({ keys: [key] }).pipe(Layer.provide(client))
          const error = yield* Effect.flip(
            CredentialStorage.use((storage) => storage.load("hubspot")).pipe(Effect.provide(Storage))
          )
          assert.instanceOf(error, CredentialStorageError)
          assert.include(error.message, "password authentication failed")
          assert.include(error.remedy, "Check user name and password")
          assert.notInclude(inspect(error, { depth: Infinity }), "hunter")
        })
    )

    it.live.skipIf(!hasPostgresServer)(
      `a user who may not make tables works on those that another made${needsPostgresServer}`,
      () =>
        Effect.gen(function*() {
          const { at, url } = yield* restartablePostgres
          const admin = yield* connected(url)
          yield* admin`create role worker login password 'hunter2'`
          const worker = yield* connected(at("worker:hunter2@"))
          const storage = yield* storageOver(worker)
          const failure = yield* Effect.flip(storage.save(apiKey("hubspot", "1")))
          assert.instanceOf(failure, CredentialStorageError)
          assert.include(failure.message, "permission denied")
          assert.include(failure.remedy, "SqlStorage.migrate")
          yield* Effect.provideService(SqlStorage.migrate(), SqlClient, admin)
          yield* admin`
            grant select, insert, update, delete
            on aden_credentials, aden_credentials_namespaces, aden_credentials_leases to worker`
          const granted = yield* storageOver(worker, { migrate: false })
          yield* granted.withLock("hubspot", granted.save(apiKey("hubspot", "1")))
          assert.strictEqual(valueOf(yield* granted.load("hubspot")), "1")
          // once it may read what was done, it need not be told
          yield* admin`grant select on aden_credentials_migrations to worker`
          assert.strictEqual(valueOf(yield* storage.load("hubspot")), "1")
        })
    )
  })

  describe("changes", () => {
    it.live("tells what other processes save and delete", () =>
      Effect.gen(function*() {
        const { process, storage } = yield* place
        const seen = yield* changesOf(storage)
        const other = yield* process
        yield* other.save(apiKey("hubspot", "1"))
        yield* other.saveMany([apiKey("slack", "1")])
        // one that is looked up tells of the last change of each
        yield* until(() => seen.length >= 2)
        yield* other.delete("hubspot")
        yield* until(() => seen.length >= 3)
        assert.deepStrictEqual(told(seen), [
          "Saved hubspot",
          "Saved slack",
          "Deleted hubspot"
        ])
      }))

    it.live("each has the generation that it left; none where the writer is of a version that does not send it", () =>
      Effect.gen(function*() {
        const { process, sql, storage } = yield* place
        const other = yield* process
        const seen = yield* changesOf(storage)
        // until one is told by a notification: what is looked up while it connects has none
        yield* Effect.repeat(
          Effect.suspend(() => {
            const { length } = seen
            return Effect.andThen(other.save(apiKey("first", "1")), until(() => seen.length > length))
          }),
          { until: () => seen.at(-1)?.generation !== undefined }
        )
        seen.length = 0
        yield* other.save(apiKey("hubspot", "1"))
        yield* other.saveMany([apiKey("hubspot", "2"), apiKey("slack", "1")])
        yield* other.delete("hubspot")
        yield* until(() => seen.length >= 4)
        yield* sql`
          with place as (update aden_credentials_namespaces set latest = latest + 1 returning namespace, latest)
          select pg_notify(
            'aden_credentials_' || 'aden_credentials'::regclass::oid,
            namespace || ' {"sequence":' || latest || ',"_tag":"Saved","id":"hubspot","by":"an older version"}'
          ) from place`
        yield* until(() => seen.length >= 5)
        assert.deepStrictEqual(seen, [
          { _tag: "Saved", id: "hubspot", generation: 1 },
          { _tag: "Saved", id: "hubspot", generation: 2 },
          { _tag: "Saved", id: "slack", generation: 1 },
          { _tag: "Deleted", id: "hubspot", generation: 3 },
          { _tag: "Saved", id: "hubspot", generation: undefined }
        ])
      }))

    it.live("what others save while it connects is not missed", () =>
      Effect.gen(function*() {
        const { process, sql } = yield* place
        const gate = yield* Deferred.make<void>()
        const storage = yield* storageOver(
          following(sql, (text) => text.includes("as channel") ? Deferred.await(gate) : Effect.void)
        )
        const seen = yield* changesOf(storage)
        const other = yield* process
        yield* other.save(apiKey("before", "1"))
        yield* other.save(apiKey("before", "2"))
        yield* Effect.sleep("100 millis")
        assert.deepStrictEqual(seen, [])
        yield* Deferred.succeed(gate, undefined)
        yield* until(() => seen.length > 0)
        yield* other.delete("before")
        yield* until(() => seen.length > 1)
        assert.deepStrictEqual(told(seen), ["Saved before", "Deleted before"])
      }))

    it.live("what no notification holds, or a client that cannot listen, is looked up within 10 s", () =>
      Effect.gen(function*() {
        const { process, sql, storage } = yield* place
        const silent = yield* storageOver(deaf(sql))
        const seen = yield* changesOf(silent)
        const long = yield* changesOf(storage)
        const other = yield* process
        yield* Effect.sleep("200 millis")
        const id = "x".repeat(10_000)
        yield* other.save(apiKey(id, "1"))
        yield* Effect.all([until(() => seen.length > 0), until(() => long.length > 0)], {
          concurrency: 2
        })
        assert.deepStrictEqual([told(seen), told(long)], [[`Saved ${id}`], [`Saved ${id}`]])
      }))
  })

  describe("withLock", () => {
    const leases = (sql: SqlClient) => sql`select token from aden_credentials_leases`

    it.live("excludes other processes, and who waits is woken at once", () =>
      Effect.gen(function*() {
        const { process, storage } = yield* place
        const other = yield* process
        yield* Effect.sleep("200 millis")
        const woken = Effect.gen(function*() {
          const [held, gate] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
          const order: Array<string> = []
          const holder = yield* storage.withLock(
            "x",
            Effect.gen(function*() {
              yield* Deferred.succeed(held, undefined)
              yield* Deferred.await(gate)
              order.push("holder")
            })
          ).pipe(Effect.forkChild({ startImmediately: true }))
          yield* Deferred.await(held)
          const waiter = yield* other.withLock("x", Effect.sync(() => order.push("waiter"))).pipe(
            Effect.forkChild({ startImmediately: true })
          )
          assert.strictEqual(yield* other.withLock("y", Effect.succeed("not held")), "not held")
          // the waiter has slept for a while, and not yet for as long as it would sleep by itself
          yield* Effect.sleep("700 millis")
          assert.deepStrictEqual(order, [])
          yield* Deferred.succeed(gate, undefined)
          const waited = yield* elapsed(Fiber.join(waiter))
          yield* Fiber.join(holder)
          assert.deepStrictEqual(order, ["holder", "waiter"])
          return waited
        })
        assert.isBelow(yield* shortest(woken, 200), 200)
      }))

    it.live("without a notification is noticed within half a second", () =>
      Effect.gen(function*() {
        const { sql, storage } = yield* place
        const other = yield* storageOver(deaf(sql))
        const held = yield* Deferred.make<void>()
        let hasEnded = false
        const holder = yield* storage.withLock(
          "x",
          Effect.gen(function*() {
            yield* Deferred.succeed(held, undefined)
            yield* Effect.sleep("1 second")
            hasEnded = true
          })
        ).pipe(Effect.forkChild({ startImmediately: true }))
        yield* Deferred.await(held)
        const waited = yield* elapsed(other.withLock("x", Effect.sync(() => assert.isTrue(hasEnded))))
        assert.isBelow(waited, 10_000)
        yield* Fiber.join(holder)
      }))

    it.live("a lease that ran out by the server's clock is taken over", () =>
      Effect.gen(function*() {
        const { sql, storage } = yield* place
        const dead = sql`update aden_credentials_leases
          set token = 'a dead holder', until = clock_timestamp() + interval '400 ms'`
        const deadAt = yield* storage.withLock("x", Effect.tap(Clock.currentTimeMillis, () => dead))
        yield* storage.withLock("x", Effect.void)
        const waited = (yield* Clock.currentTimeMillis) - deadAt
        assert.isAtLeast(waited, 390)
        assert.isBelow(waited, 10_000)
      }))

    it.live("lasts 15 s, is renewed while it is held, and given back at the end", () =>
      Effect.gen(function*() {
        const { sql, storage } = yield* place
        const left = Effect.map(
          sql`select extract(epoch from until - clock_timestamp())::text as count from aden_credentials_leases`,
          (rows) => countOf(Count(rows))
        )
        yield* storage.withLock(
          "x",
          Effect.gen(function*() {
            assert.isAbove(yield* left, 13)
            yield* Effect.sleep("3 seconds")
            assert.isBelow(yield* left, 12.1)
            yield* Effect.repeat(left, { until: (seconds) => seconds > 13, schedule: Schedule.spaced("20 millis") })
          })
        )
        assert.deepStrictEqual(yield* leases(sql), [])
      }))

    it.live("is given back by its owner alone", () =>
      Effect.gen(function*() {
        const { sql, storage } = yield* place
        yield* storage.withLock("x", sql`update aden_credentials_leases set token = 'another holder'`)
        assert.deepStrictEqual(yield* leases(sql), [{ token: "another holder" }])
      }))

    it.live("an interrupted holder and an interrupted waiter leave no lease", () =>
      Effect.gen(function*() {
        const { process, sql, storage } = yield* place
        const other = yield* process
        const holder = yield* storage.withLock("x", Effect.never).pipe(Effect.forkChild({ startImmediately: true }))
        yield* Effect.sleep("100 millis")
        const waiter = yield* other.withLock("x", Effect.never).pipe(Effect.forkChild({ startImmediately: true }))
        yield* Effect.sleep("100 millis")
        yield* Fiber.interrupt(waiter)
        yield* Fiber.interrupt(holder)
        assert.deepStrictEqual(yield* leases(sql), [])
        // one that is interrupted while its request is under way
        for (let round = 0; round < 30; round++) {
          const taker = yield* storage.withLock("x", Effect.never).pipe(Effect.forkChild({ startImmediately: true }))
          if (round % 2 === 0) yield* Effect.sleep(`${round % 5} millis`)
          else yield* Effect.yieldNow
          yield* Fiber.interrupt(taker)
        }
        assert.deepStrictEqual(yield* leases(sql), [])
        assert.isBelow(yield* elapsed(storage.withLock("x", Effect.void)), 10_000)
      }))

    it.live("a holder that lost its lease does not save over who took it", () =>
      Effect.gen(function*() {
        const { process, sql, storage } = yield* place
        const other = yield* process
        yield* storage.save(apiKey("x", "old"))
        yield* storage.withLock(
          "x",
          Effect.gen(function*() {
            const { generation } = yield* storage.loadState("x")
            yield* sql`update aden_credentials_leases set until = clock_timestamp()`
            yield* other.withLock("x", other.save(apiKey("x", "new"), { expectedGeneration: generation }))
            const late = yield* Effect.flip(storage.save(apiKey("x", "late"), { expectedGeneration: generation }))
            assert.strictEqual(late._tag, "GenerationConflict")
          })
        )
        assert.strictEqual(valueOf(yield* storage.load("x")), "new")
      }))
  })

  describe.skipIf(!hasPostgresServer)(`a server that is away${needsPostgresServer}`, () => {
    const ownServer = Effect.gen(function*() {
      const server = yield* restartablePostgres
      const scope = yield* Effect.scope
      const process = Effect.flatMap(
        Scope.provide(connected(server.url), scope),
        (sql) => Scope.provide(storageOver(sql), scope)
      )
      return { server, process }
    })

    it.live("every operation fails at once, with what to do; all is there when it is back", () =>
      Effect.gen(function*() {
        const { process, server } = yield* ownServer
        const storage = yield* process
        yield* storage.save(apiKey("hubspot", "1"))
        yield* server.stop
        const operations = [
          storage.load("hubspot"),
          storage.save(apiKey("hubspot", "2")),
          storage.saveMany([apiKey("hubspot", "2")]),
          storage.delete("hubspot"),
          storage.list,
          storage.exists("hubspot"),
          storage.loadState("hubspot"),
          storage.saveState("hubspot", CredentialState.initial)
        ]
        const spent = elapsed(
          Effect.forEach(
            operations,
            (operation) =>
              Effect.map(Effect.flip<unknown, unknown, never>(operation), (error) => {
                assert.instanceOf(error, CredentialStorageError)
                assert.isTrue(error.isRetryable)
                assert.include(error.remedy, "Check that the Postgres server runs")
                assert.notInclude(inspect(error, { depth: Infinity }), "hunter")
              })
          )
        )
        assert.isBelow(yield* shortest(spent, 1_000), 1_000)
        yield* server.start
        yield* Effect.retry(storage.load("hubspot"), { schedule: Schedule.spaced("50 millis"), times: 100 })
        assert.strictEqual(valueOf(yield* storage.load("hubspot")), "1")
        assert.strictEqual((yield* storage.loadState("hubspot")).generation, 1)
      }))

    it.live("a program that starts meanwhile works when it is back", () =>
      Effect.gen(function*() {
        const server = yield* restartablePostgres
        yield* server.stop
        const client = yield* Layer.build(PgClient.layer({ url: Redacted.make(server.url) }))
        const storage = yield* storageOver(Context.get(client, SqlClient))
        assert.instanceOf(yield* Effect.flip(storage.load("hubspot")), CredentialStorageError)
        yield* server.start
        yield* storage.save(apiKey("hubspot", "1"))
        assert.strictEqual(valueOf(yield* storage.load("hubspot")), "1")
      }))

    it.live("the lock excludes this process alone, with one warning, until the server is back", () =>
      Effect.gen(function*() {
        const { process, server } = yield* ownServer
        const storage = yield* process
        yield* server.stop
        let inside = 0
        let most = 0
        const warnings = yield* warningsOf(Effect.forEach(
          Array.from({ length: 20 }),
          () =>
            storage.withLock(
              "x",
              Effect.gen(function*() {
                most = Math.max(most, ++inside)
                yield* Effect.sleep("2 millis")
                inside--
              })
            ),
          { concurrency: "unbounded" }
        ))
        assert.strictEqual(most, 1)
        assert.lengthOf(warnings.filter((warning) => warning.includes("Other processes are not locked out")), 1)
      }))

    it.live("a program ends although the server owes it an answer", () =>
      Effect.gen(function*() {
        const server = yield* restartablePostgres
        const scope = yield* Scope.make()
        const sql = yield* Scope.provide(connected(server.url), scope)
        const storage = yield* Scope.provide(storageOver(sql), scope)
        yield* storage.save(apiKey("hubspot", "1"))
        yield* Effect.sleep("200 millis")
        yield* server.signal("SIGSTOP")
        yield* Effect.flip(storage.load("hubspot"))
        // what is waited for is the server, when it goes on
        const resumed = yield* Effect.forkChild(Effect.delay(server.signal("SIGCONT"), "60 seconds"))
        assert.isBelow(yield* elapsed(Scope.close(scope, Exit.void)), 40_000)
        yield* Fiber.interrupt(resumed)
      }))

    it.live("a server that hangs: an error after 2 s, and nothing is written later in its place", () =>
      Effect.gen(function*() {
        const { process, server } = yield* ownServer
        const storage = yield* process
        yield* storage.save(apiKey("hubspot", "1"))
        yield* server.signal("SIGSTOP")
        const spent = yield* elapsed(Effect.map(Effect.flip(storage.load("hubspot")), (error) => {
          assert.include(error.message, "did not answer within 2s")
        }))
        assert.isBelow(spent, 10_000)
        const late = yield* Effect.exit(storage.save(apiKey("hubspot", "2"), { expectedGeneration: 1 }))
        assert.isTrue(Exit.isFailure(late))
        yield* server.signal("SIGCONT")
        yield* Effect.retry(storage.save(apiKey("hubspot", "3")), {
          schedule: Schedule.spaced("50 millis"),
          times: 100
        })
        yield* Effect.sleep("1 second")
        assert.strictEqual(valueOf(yield* storage.load("hubspot")), "3")
      }))

    it.live("what others save while this one's connection is away is told when it is back", () =>
      Effect.gen(function*() {
        const { process, server } = yield* ownServer
        const storage = yield* process
        const other = yield* process
        yield* storage.save(apiKey("hubspot", "1"))
        yield* Effect.sleep("200 millis")
        const seen = yield* changesOf(storage)
        yield* server.stop
        yield* server.start
        const saved = yield* elapsed(
          Effect.retry(other.save(apiKey("hubspot", "2")), { schedule: Schedule.spaced("20 millis") })
        )
        assert.isBelow(saved + (yield* elapsed(until(() => seen.length > 0))), 20_000)
        assert.deepStrictEqual(told(seen), ["Saved hubspot"])
      }))
  })
})
