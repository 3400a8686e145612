/**
 * Records in Postgres. Each operation is one statement, outside of any transaction that the program has open.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Statement } from "effect/sql/Statement"
import { createHash, randomBytes } from "node:crypto"
import { StorageIoFailed } from "../../errors/StorageError.ts"
import { cleanText } from "../../util/sanitize.ts"
import { releaseNotification, unnumberedNotification } from "../records/notification.ts"
import type {
  ForeignRecord,
  Notification,
  RecordChange,
  RecordDatabase,
  StoredRecord
} from "../records/RecordDatabase.ts"
import { foreignTableRemedy, sqlFault } from "./fault.ts"
import { canListen, listenTo } from "./notifications.ts"
import { answeredWithin, answerTime, outsideTransactions } from "./statement.ts"

/** Statements get `answerTime` for each so many records. */
const recordsAtATime = 1_000

/** For listing, because a namespace can have many ids. */
const listTime = Duration.seconds(30)

const timeFor = (records: number): Duration.Duration => Duration.times(answerTime, Math.ceil(records / recordsAtATime))

/** For a generation that no number of saves can reach. */
const foreignGeneration: ForeignRecord = {
  foreign: "another program wrote its generation, which is not a valid number"
}

/** Postgres refuses longer notifications, in bytes. They are not sent, and listeners find the change by polling. */
const maxNotificationBytes = 7_999

/** Escapes NUL, which Postgres does not allow in text. */
const encodeId = (id: string): string => id.replaceAll("\\", "\\\\").replaceAll("\0", "\\0")
const decodeId = (text: string): string =>
  text.replace(/\\([\\0])/g, (_, escaped: string) => escaped === "0" ? "\0" : "\\")

const keyOf = (id: string): string => createHash("sha256").update(id).digest("hex")

// Numbers are read as text, because the program decides how its client decodes a bigint.
const Count = Schema.NumberFromString
const Text = Schema.NullOr(Schema.String)
const Records = Schema.Array(Schema.Struct({ key: Schema.String, generation: Count, document: Text, state: Text }))
const Generations = Schema.Array(Schema.Struct({ found: Count }))
const Ids = Schema.Array(Schema.Struct({ id: Schema.String }))
const Namespaces = Schema.Array(Schema.Struct({ namespace: Schema.String }))
const Latest = Schema.Tuple([Schema.Struct({ latest: Count })])
const Changes = Schema.NonEmptyArray(Schema.Struct({
  latest: Count,
  id: Text,
  sequence: Schema.NullOr(Count),
  writer: Text,
  is_there: Schema.NullOr(Schema.Boolean)
}))
const Flag = Schema.Tuple([Schema.Struct({ flag: Schema.Boolean })])
const Removed = Schema.Tuple([Schema.Struct({ generation: Schema.NullOr(Count) })])
const Lease = Schema.Tuple([Schema.Struct({ is_taken: Schema.Boolean, millis_left: Count })])
const Channel = Schema.Tuple([Schema.Struct({ channel: Schema.String })])

/** Runs a statement and decodes its rows. */
const answering =
  (client: SqlClient, prepared: Effect.Effect<void, StorageIoFailed>) =>
  <S extends Schema.Top & { readonly DecodingServices: never }>(
    location: string,
    schema: S,
    statement: Statement<object>,
    duration = answerTime
  ): Effect.Effect<S["Type"], StorageIoFailed> =>
    statement.pipe(
      answeredWithin(duration, location),
      Effect.flatMap((rows) =>
        Effect.mapError(Schema.decodeUnknownEffect(schema)(rows), () =>
          new StorageIoFailed({
            location,
            detail: "holds something that this package did not write",
            remedy: foreignTableRemedy
          }))
      ),
      outsideTransactions(client),
      (answered) => Effect.andThen(prepared, answered)
    )

export const makeSqlDatabase = (client: SqlClient, options: {
  readonly table: string
  readonly namespace: string
  /** Run before every statement. */
  readonly prepared: Effect.Effect<void, StorageIoFailed>
}): RecordDatabase => {
  const { namespace, prepared, table } = options
  const sql = client.withoutTransforms()
  const records = sql.literal(table)
  const namespaces = sql.literal(`${table}_namespaces`)
  const leases = sql.literal(`${table}_leases`)
  /** Unique in the database: tables with the same name in several schemas get different channels. */
  const channel = sql.literal(`'aden_credentials_' || '${table}'::regclass::oid`)
  const location = `the Postgres table ${table}, namespace ${namespace}`
  const shown = (id: string): string => `${location}, id ${cleanText(id)}`
  const writer = randomBytes(8).toString("hex")

  const answer = answering(client, prepared)

  const flagOf = (location: string, statement: Statement<object>) =>
    Effect.map(answer(location, Flag, statement), ([{ flag }]) => flag)

  /**
   * Numbers this many changes. Locks the row of the namespace until the statement ends, so that changes become visible in the order
   * of their numbers, and concurrent statements of several writes cannot deadlock.
   */
  const counted = (changes: number) =>
    sql`
      insert into ${namespaces} as place (namespace, latest) values (${namespace}, ${changes}::bigint)
      on conflict (namespace) do update set latest = place.latest + excluded.latest
      returning latest`

  /** An assignment that takes effect only when the row has the expected generation. */
  const overExpected = (column: string) =>
    sql.literal(
      `${column} = case when record.generation = excluded.generation - 1 then excluded.${column} else record.${column} end`
    )

  const sinceOnce = (sequence: number) =>
    answer(
      location,
      Changes,
      sql`
        select place.latest::text, record.id, record.sequence::text, record.writer, record.document is not null as is_there
        from (
          select coalesce((select latest from ${namespaces} where namespace = ${namespace}), 0) as latest
        ) as place
        left join lateral (
          select * from ${records}
          where namespace = ${namespace} and sequence > ${Math.min(sequence, Number.MAX_SAFE_INTEGER)}::bigint
          order by sequence limit ${recordsAtATime}
        ) as record on true
        order by record.sequence`
    )

  return {
    namespace,
    writer,
    location,
    locationOf: shown,
    read: Effect.fnUntraced(function*(ids) {
      const keys = ids.map(keyOf)
      const rows = yield* answer(
        shown(ids[0] ?? ""),
        Records,
        sql`
          select key, generation::text, document, state from ${records}
          where namespace = ${namespace} and key = any(${keys}::text[])`,
        timeFor(ids.length)
      )
      const found = new Map(rows.map((row) => [row.key, row]))
      return keys.map((key): StoredRecord | ForeignRecord => {
        const { document, generation, state } = found.get(key) ?? { generation: 0, document: null, state: null }
        if (!Number.isSafeInteger(generation + 1)) return foreignGeneration
        return { generation, document: document ?? undefined, state: state ?? undefined }
      })
    }),
    write: Effect.fnUntraced(function*(writes) {
      if (writes.length === 0) return []
      const rows = yield* answer(
        shown(writes[0]?.id ?? ""),
        Generations,
        sql`
          with place as (${counted(writes.length)}),
          given as (
            select given.*, place.latest - ${writes.length}::bigint + given.position as sequence
            from place, unnest(
              ${writes.map(({ id }) => keyOf(id))}::text[],
              ${writes.map(({ id }) => encodeId(id))}::text[],
              ${writes.map(({ expected }) => expected)}::bigint[],
              ${writes.map(({ document }) => document)}::text[],
              ${writes.map(({ state }) => state)}::text[],
              ${writes.map(({ id }) => unnumberedNotification({ _tag: "Saved", id, by: writer }))}::text[]
            ) with ordinality as given (key, id, expected, document, state, notice, position)
          ),
          written as (
            insert into ${records} as record (namespace, key, id, generation, document, state, sequence, writer)
            select ${namespace}, key, id, expected + 1, document, state, sequence, ${writer} from given
            where expected = 0
              or exists (select from ${records} as old where old.namespace = ${namespace} and old.key = given.key)
            on conflict (namespace, key) do update set
              ${sql.csv(["generation", "document", "state", "sequence", "writer"].map(overExpected))}
            returning key, generation, sequence
          ),
          told as materialized (
            select pg_notify(${channel}, payload) from (
              select ${namespace}::text || ' {"sequence":' || sequence || ',"generation":' || generation || ',' || notice
                as payload
              from given join written using (key, sequence)
              order by sequence
            ) as notice where octet_length(payload) <= ${maxNotificationBytes}
          )
          select
            (case when written.sequence = given.sequence then given.expected else coalesce(written.generation, 0) end)::text
              as found,
            (select count(*) from told)::text as told
          from given left join written using (key)
          order by given.position`,
        timeFor(writes.length)
      )
      return rows.map(({ found }) => found)
    }),
    reencrypt: (id, before, after) =>
      flagOf(
        shown(id),
        sql`
          with replaced as (
            update ${records} set document = ${after.document}, state = ${after.state ?? null}
            where namespace = ${namespace} and key = ${keyOf(id)} and document = ${before.document}
              and state is not distinct from ${before.state ?? null}::text
            returning 1
          )
          select exists (select from replaced) as flag`
      ),
    writeState: (id, expected, state) =>
      flagOf(
        shown(id),
        sql`
          with written as (
            insert into ${records} as record (namespace, key, id, generation, state)
            select ${namespace}, ${keyOf(id)}, ${encodeId(id)}, ${expected}::bigint, ${state}
            where ${expected}::bigint = 0
              or exists (select from ${records} where namespace = ${namespace} and key = ${keyOf(id)})
            on conflict (namespace, key) do update set state = excluded.state
            where record.generation = excluded.generation
            returning 1
          )
          select exists (select from written) as flag`
      ),
    remove: (id, expected) =>
      Effect.map(
        answer(
          shown(id),
          Removed,
          sql`
          with place as (${counted(1)}),
          removed as (
            update ${records} as record set
              generation = case
                when document is null and generation = 0 then 0
                when abs(generation::float8) < ${Number.MAX_SAFE_INTEGER}::float8 then generation + 1
                else 1
              end,
              sequence = case when document is null then sequence else place.latest end,
              document = null,
              state = null,
              writer = ${writer}
            from place
            where namespace = ${namespace} and key = ${keyOf(id)}
              and (${expected ?? null}::bigint is null or generation = ${expected ?? null}::bigint)
            returning generation, sequence, sequence = place.latest as was_there
          ),
          told as materialized (
            select pg_notify(${channel}, payload) from (
              select ${namespace}::text || ' {"sequence":' || sequence || ',"generation":' || generation || ','
                || ${unnumberedNotification({ _tag: "Deleted", id, by: writer })}::text as payload
              from removed where was_there
            ) as notice where octet_length(payload) <= ${maxNotificationBytes}
          )
          select (select generation from removed where was_there)::text as generation,
            (select count(*) from told)::text as told`
        ),
        ([{ generation }]) => generation ?? undefined
      ),
    ids: Effect.map(
      answer(
        location,
        Ids,
        sql`select id from ${records} where namespace = ${namespace} and document is not null`,
        listTime
      ),
      (rows) => rows.map(({ id }) => decodeId(id))
    ),
    changes: {
      latest: Effect.map(
        answer(
          location,
          Latest,
          sql`
            select coalesce((select latest from ${namespaces} where namespace = ${namespace}), 0)::text as latest`
        ),
        ([{ latest }]) => latest
      ),
      listen: Effect.gen(function*() {
        if (!canListen(client)) return yield* Queue.unbounded<Notification, StorageIoFailed>()
        const [{ channel: name }] = yield* answer(location, Channel, sql`select ${channel} as channel`)
        const fault = (error: SqlError) => sqlFault(location, error)
        const received = yield* Effect.mapError(listenTo(client, name, namespace), fault)
        const notifications = yield* Queue.unbounded<Notification, StorageIoFailed>()
        yield* Queue.take(received).pipe(
          Effect.mapError(fault),
          Effect.flatMap((notification) => Queue.offer(notifications, notification)),
          Effect.forever,
          Effect.onError((cause) => Queue.failCause(notifications, cause)),
          Effect.forkScoped
        )
        return notifications
      }),
      since: Effect.fnUntraced(function*(sequence) {
        const changes: Array<RecordChange> = []
        let from = sequence
        while (true) {
          const before = from
          const rows = yield* sinceOnce(from)
          for (const { id, is_there, sequence, writer } of rows) {
            if (id === null || sequence === null) continue
            changes.push({
              _tag: is_there === true ? "Saved" : "Deleted",
              sequence,
              id: decodeId(id),
              by: writer ?? ""
            })
            from = sequence
          }
          // another program may have written numbers that are not told apart
          if (rows.length < recordsAtATime || from <= before) return { latest: rows[0].latest, changes }
        }
      })
    },
    leases: {
      take: (id, token, millis) =>
        Effect.map(
          answer(
            shown(id),
            Lease,
            sql`
              with taken as (
                insert into ${leases} as lease (namespace, key, token, until)
                values (${namespace}, ${keyOf(id)}, ${token}, clock_timestamp() + ${millis}::float8 * interval '1 ms')
                on conflict (namespace, key) do update set token = excluded.token, until = excluded.until
                where lease.until <= clock_timestamp()
                returning 1
              )
              select exists (select from taken) as is_taken,
                coalesce((
                  select greatest(0, ceil(1000 * extract(epoch from until - clock_timestamp())))
                  from ${leases} where namespace = ${namespace} and key = ${keyOf(id)}
                ), ${millis}::float8)::text as millis_left`
          ),
          ([{ is_taken, millis_left }]) => ({ isTaken: is_taken, millisLeft: millis_left })
        ),
      renew: (id, token, millis) =>
        flagOf(
          shown(id),
          sql`
            with renewed as (
              update ${leases} set until = clock_timestamp() + ${millis}::float8 * interval '1 ms'
              where namespace = ${namespace} and key = ${keyOf(id)} and token = ${token}
              returning 1
            )
            select exists (select from renewed) as flag`
        ),
      release: (id, token) =>
        Effect.asVoid(flagOf(
          shown(id),
          sql`
            with released as (
              delete from ${leases} where namespace = ${namespace} and key = ${keyOf(id)} and token = ${token}
              returning ${namespace}::text || ' ' || ${releaseNotification(id)}::text as payload
            ),
            told as materialized (
              select pg_notify(${channel}, payload) from released where octet_length(payload) <= ${maxNotificationBytes}
            )
            select (select count(*) from told) > 0 as flag`
        ))
    }
  }
}

/** The names of the tenants that have credentials: the parts after the slash of their namespaces. */
export const sqlTenants = (client: SqlClient, options: { readonly table: string; readonly namespace: string }) => {
  const sql = client.withoutTransforms()
  const before = `${options.namespace}/`
  return Effect.map(
    answering(client, Effect.void)(
      `the Postgres table ${options.table}`,
      Namespaces,
      sql`
        select distinct namespace from ${sql.literal(options.table)}
        where starts_with(namespace, ${before}) and document is not null
        order by namespace`,
      listTime
    ),
    (rows) => rows.map(({ namespace }) => namespace.slice(before.length))
  )
}
