import { Effect, Exit, Schema, Scope } from "effect"
import { createHash, randomBytes } from "node:crypto"
import { afterAll, beforeAll } from "vitest"
import { describeWith, postgres } from "../../fixtures/realServers.ts"
import { suite } from "../tamperingSuite.ts"
import type { Tampered } from "../tamperingSuite.ts"
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
  const database: Tampered = {
    namespace: `test:${randomBytes(8).toString("hex")}`,
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
})
