import { describe, it } from "@effect/vitest"
import { Effect, Exit, Schema, Scope } from "effect"
import { createHash, randomBytes } from "node:crypto"
import { afterAll, beforeAll } from "vitest"
import { describeWith, postgres } from "../../fixtures/realServers.ts"
import { apiKey, changesOf, until } from "../observing.ts"
import { hostileText, plantedId } from "../randomEdits.ts"
import type { Tampered } from "../tampered.ts"
import { suite } from "../tamperingSuite.ts"
import { connected, newSchema, storageOver } from "./postgresSchema.ts"

const Rows = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({
  generation: Schema.String,
  document: Schema.NullOr(Schema.String),
  state: Schema.NullOr(Schema.String)
})))

const keyOf = (id: string): string => createHash("sha256").update(id).digest("hex")

const tamperedIn = Effect.fnUntraced(function*(url: string) {
  const sql = yield* connected(url)
  const rowsOf = (namespace: string, id: string) =>
    Effect.map(
      sql`
        select generation::text, document, state from aden_credentials
        where namespace = ${namespace} and key = ${keyOf(id)}`,
      Rows
    )
  const rowOf = (namespace: string, id: string) =>
    Effect.map(
      Effect.orDie(rowsOf(namespace, id)),
      ([row = { generation: "0", document: null, state: null }]) => row
    )
  const root = `test:${randomBytes(8).toString("hex")}`
  const tables = ["aden_credentials", "aden_credentials_namespaces", "aden_credentials_leases"] as const
  const database: Tampered = {
    namespace: root,
    disturb: (namespace, id, chance) => {
      const text = hostileText(chance)
      const planted = plantedId(chance)
      const number = chance.of(["0", "-1", "3", "50", "9007199254740993", "9223372036854775806"])
      const notification = JSON.stringify({
        _tag: chance.of(["Saved", "Deleted", "Released", text]),
        sequence: chance.below(50),
        generation: chance.of([1, 2, 5, 9_007_199_254_740_991]),
        id: chance.of([id, planted]),
        by: text
      })
      const payload = chance.of([`${namespace} ${notification}`, text])
      const at = sql`namespace = ${namespace} and key = ${keyOf(id)}`
      const statement = chance.of([
        sql`select pg_notify('aden_credentials_' || 'aden_credentials'::regclass::oid, ${payload})`,
        sql`update aden_credentials set id = ${planted} where ${at}`,
        sql`update aden_credentials set sequence = ${number}::bigint where ${at}`,
        sql`update aden_credentials set generation = ${number}::bigint where ${at}`,
        sql`update aden_credentials set writer = ${text} where ${at}`,
        sql`delete from aden_credentials where ${at}`,
        sql`update aden_credentials_namespaces set latest = ${number}::bigint where namespace = ${namespace}`,
        sql`delete from aden_credentials_namespaces where namespace = ${namespace}`,
        sql`
          insert into aden_credentials (namespace, key, id, generation, document, state)
          values (${namespace}, ${text.slice(0, 100)}, ${planted}, 1, ${text}, ${text})`,
        sql`
          insert into aden_credentials_leases (namespace, key, token, until)
          values (${namespace}, ${keyOf(id)}, ${text}, clock_timestamp() + interval '50 ms')`
      ])
      return Effect.ignore(statement)
    },
    reset: Effect.orDie(
      Effect.forEach(tables, (table) => sql`delete from ${sql(table)} where namespace like ${`${root}%`}`, {
        discard: true
      })
    ),
    storageIn: (namespace) => storageOver(sql, { namespace }),
    rowOf,
    write: (namespace, id, row) =>
      Effect.gen(function*() {
        const { document, generation, state } = { ...(yield* rowOf(namespace, id)), ...row }
        yield* sql`
          insert into aden_credentials (namespace, key, id, generation, document, state)
          values (${namespace}, ${keyOf(id)}, ${id}, ${generation}::bigint, ${document}, ${state})
          on conflict (namespace, key) do update
          set generation = excluded.generation, document = excluded.document, state = excluded.state`
      }).pipe(Effect.orDie, Effect.asVoid)
  }
  return database
})

describeWith(postgres, "Postgres, written to without a key", () => {
  const scope = Scope.makeUnsafe()
  let url = ""
  beforeAll(async () => {
    url = await Effect.runPromise(Scope.provide(newSchema, scope))
  })
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

  suite("SqlStorage", Effect.suspend(() => tamperedIn(url)))

  describe("SqlStorage: the log of changes", () => {
    it.live("is followed again after somebody wrote the largest number there is", () =>
      Effect.gen(function*() {
        const { namespace, reset, storageIn } = yield* tamperedIn(url)
        const sql = yield* connected(url)
        const [storage, other] = [yield* storageIn(namespace), yield* storageIn(namespace)]
        const seen = yield* changesOf(storage)
        const isTold = (id: string) => until(() => seen.some((change) => change.id === id), "60 seconds")
        yield* other.save(apiKey("first", "1"))
        yield* isTold("first")
        yield* sql`
          update aden_credentials_namespaces set latest = ${"9223372036854775805"}::bigint
          where namespace = ${namespace}`
        yield* other.save(apiKey("second", "1"))
        yield* isTold("second")
        yield* reset
        yield* other.save(apiKey("third", "1"))
        yield* isTold("third")
      }), 200_000)

    it.live(
      "with more entries of one number than are read at a time is followed again once they are gone",
      () =>
        Effect.gen(function*() {
          const { namespace, reset, storageIn } = yield* tamperedIn(url)
          const sql = yield* connected(url)
          const [storage, other] = [yield* storageIn(namespace), yield* storageIn(namespace)]
          const seen = yield* changesOf(storage)
          const isTold = (id: string) => until(() => seen.some((change) => change.id === id), "60 seconds")
          yield* other.save(apiKey("first", "1"))
          yield* isTold("first")
          yield* sql`
          insert into aden_credentials (namespace, key, id, generation, sequence)
          select ${namespace}, 'key ' || number, 'id ' || number, 1, 9007199254740993 from generate_series(1, 1000) as number`
          yield* sql`update aden_credentials_namespaces set latest = 9007199254740993 where namespace = ${namespace}`
          yield* isTold("id 1")
          yield* reset
          yield* other.save(apiKey("second", "1"))
          yield* isTold("second")
        }),
      200_000
    )
  })
})
