/**
 * Records in Redis. All keys of a namespace share a hash tag, so that they are in one slot of a cluster:
 *
 * - `{namespace}:entry:{id}`, a hash: `generation`, `document`, `state`, and `writer`, who wrote it last. A deleted entry leaves a
 *   tombstone with its generation.
 * - `{namespace}:ids`, a set: the ids of the entries that have a document.
 * - `{namespace}:changes`, a sorted set: each id with the number of its latest change as score; `{namespace}:sequence` is the latest
 *   number.
 * - `{namespace}:lock:{id}`: the token of the holder of a lease, with its time to live.
 * - `{namespace}:notices`, a channel: notifications.
 *
 * Every operation of several commands is a script, and so atomic.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redis from "effect/persistence/Redis"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import { randomBytes } from "node:crypto"
import { StorageIoFailed } from "../../errors/StorageError.ts"
import { cleanMessage, cleanText } from "../../util/sanitize.ts"
import { decodeNotification, releaseNotification, unnumberedNotification } from "../records/notification.ts"
import type {
  ForeignRecord,
  Notification,
  RecordChange,
  RecordDatabase,
  RecordWrite,
  Sealed,
  StoredRecord
} from "../records/RecordDatabase.ts"

/** A server that does not answer within this time counts as away. */
const answerTime = Duration.seconds(2)

/** How many records one script reads or writes: it blocks the server. */
const batchSize = 500

/** How many keys of the server one SCAN visits. */
const keysAtATime = 1_000

/** How many records are expected to be read or written within `answerTime`. */
const recordsInTime = 1_000

/** About how many ids one SSCAN lists. */
const idsAtATime = 10_000

/** How many missed changes are read at a time. */
const changesAtATime = 1_000

// ---------------------------------------------------------------------------------------------------------------------
// Scripts
// ---------------------------------------------------------------------------------------------------------------------

/** Shared functions of the scripts. Lua numbers are doubles: `whole` writes them without exponent or fraction. */
const numbered = `
local function whole(number) return string.format('%.0f', number) end
-- any other value counts as no generation
local function generationOf(key)
  local text = redis.call('HGET', key, 'generation')
  if text and #text < 16 and string.find(text, '^%d+$') then return tonumber(text) end
  return 0
end
-- the Redis type of a value that this package did not write, else nil
local function foreignKind(key)
  local kind = redis.call('TYPE', key)['ok']
  if kind == 'none' then return nil end
  if kind == 'hash' then
    for _, field in ipairs({ 'generation', 'document', 'state' }) do
      if redis.call('HEXISTS', key, field) == 1 then return nil end
    end
  end
  return kind
end
-- Numbers a change, and answers how its notification begins: see unnumberedNotification. Called first, because it fails when another program wrote to these keys. After a loss of all data, numbering
-- goes on above the numbers given before.
local function count(changes, sequence, id, generation)
  local number = redis.call('INCR', sequence)
  if number == 1 then
    local time = redis.call('TIME')
    number = time[1] * 1000000 + time[2]
    redis.call('SET', sequence, whole(number))
  end
  redis.call('ZADD', changes, number, id)
  return '{"sequence":' .. whole(number) .. ',"generation":' .. whole(generation) .. ','
end
`

interface SharedKeys {
  readonly ids: string
  readonly changes: string
  readonly sequence: string
  readonly channel: string
}

/** The records, each as generation, document and state; of a foreign value only its type. */
const readScript = Redis.script((...keys: ReadonlyArray<string>) => keys, {
  numberOfKeys: (...keys) => keys.length,
  lua: `${numbered}
local found = {}
for index, key in ipairs(KEYS) do
  local kind = foreignKind(key)
  if kind then
    found[index] = { kind }
  else
    found[index] = { whole(generationOf(key)), unpack(redis.call('HMGET', key, 'document', 'state')) }
  end
end
return found`
}).withReturnType<unknown>()

const writeScript = Redis.script(
  (
    shared: SharedKeys,
    writer: string,
    writes: ReadonlyArray<RecordWrite & { readonly key: string; readonly notice: string }>
  ) => [
    shared.ids,
    shared.changes,
    shared.sequence,
    ...writes.map(({ key }) => key),
    shared.channel,
    writer,
    ...writes.flatMap(({ document, expected, id, notice, state }) => [id, expected, document, state, notice])
  ],
  {
    numberOfKeys: (_shared, _writer, writes) => 3 + writes.length,
    lua: `${numbered}
local found = {}
for index = 1, #KEYS - 3 do
  local key = KEYS[index + 3]
  local at = 2 + (index - 1) * 5
  local id, expected = ARGV[at + 1], tonumber(ARGV[at + 2])
  local generation = foreignKind(key) and -1 or generationOf(key)
  if generation == expected then
    local numbered = count(KEYS[2], KEYS[3], id, expected + 1)
    redis.call('SADD', KEYS[1], id)
    redis.call('HSET', key, 'generation', whole(expected + 1), 'document', ARGV[at + 3], 'state', ARGV[at + 4],
      'writer', ARGV[2])
    redis.call('PUBLISH', ARGV[1], numbered .. ARGV[at + 5])
  end
  found[index] = whole(generation)
end
return found`
  }
).withReturnType<unknown>()

const writeStateScript = Redis.script((key: string, expected: number, state: string) => [key, expected, state], {
  numberOfKeys: 1,
  lua: `${numbered}
if foreignKind(KEYS[1]) or generationOf(KEYS[1]) ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[2])
return 1`
}).withReturnType<unknown>()

const reencryptScript = Redis.script(
  (key: string, before: Sealed, after: Sealed) => [
    key,
    before.document,
    after.document,
    ...(before.state === undefined || after.state === undefined ? [] : [before.state, after.state])
  ],
  {
    numberOfKeys: 1,
    // HGET answers false for a field that is not there, as does an argument that is not given
    lua: `${numbered}
if foreignKind(KEYS[1]) or redis.call('HGET', KEYS[1], 'document') ~= ARGV[1]
  or redis.call('HGET', KEYS[1], 'state') ~= (ARGV[3] or false) then return 0 end
redis.call('HSET', KEYS[1], 'document', ARGV[2])
if ARGV[4] then redis.call('HSET', KEYS[1], 'state', ARGV[4]) end
return 1`
  }
).withReturnType<unknown>()

const removeScript = Redis.script(
  (shared: SharedKeys, writer: string, key: string, id: string, expected: number | undefined, notice: string) => [
    shared.ids,
    shared.changes,
    shared.sequence,
    key,
    shared.channel,
    writer,
    id,
    expected ?? "",
    notice
  ],
  {
    numberOfKeys: 4,
    lua: `${numbered}
local key = KEYS[4]
local foreign = foreignKind(key)
local generation = foreign and 0 or generationOf(key)
if ARGV[4] ~= '' and tonumber(ARGV[4]) ~= generation then return false end
local existed = foreign or redis.call('HEXISTS', key, 'document') == 1
local numbered = existed and count(KEYS[2], KEYS[3], ARGV[3], generation + 1)
redis.call('SREM', KEYS[1], ARGV[3])
redis.call('DEL', key)
if existed or generation > 0 then
  redis.call('HSET', key, 'generation', whole(generation + 1), 'writer', ARGV[2])
end
if not existed then return false end
redis.call('PUBLISH', ARGV[1], numbered .. ARGV[5])
return whole(generation + 1)`
  }
).withReturnType<unknown>()

/** The latest number, and the changes after a number: number, id, writer and whether the entry exists. */
const sinceScript = Redis.script(
  (shared: SharedKeys, entries: string, sequence: number) => [
    shared.changes,
    shared.sequence,
    entries,
    sequence,
    changesAtATime
  ],
  {
    numberOfKeys: 2,
    lua: `${numbered}
local latest = redis.call('GET', KEYS[2]) or '0'
local rows = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local changes = {}
for index = 1, #rows, 2 do
  local key = ARGV[1] .. rows[index]
  local writer, there = '', 0
  if not foreignKind(key) then
    writer = redis.call('HGET', key, 'writer') or ''
    there = redis.call('HEXISTS', key, 'document')
  end
  changes[#changes + 1] = { whole(tonumber(rows[index + 1])), rows[index], writer, there }
end
return { latest, changes }`
  }
).withReturnType<unknown>()

const takeScript = Redis.script((key: string, token: string, millis: number) => [key, token, millis], {
  numberOfKeys: 1,
  lua: `
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return { 1, tonumber(ARGV[2]) } end
return { 0, redis.call('PTTL', KEYS[1]) }`
}).withReturnType<unknown>()

const renewScript = Redis.script((key: string, token: string, millis: number) => [key, token, millis], {
  numberOfKeys: 1,
  lua: `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`
}).withReturnType<unknown>()

const releaseScript = Redis.script(
  (key: string, token: string, channel: string, notice: string) => [key, token, channel, notice],
  {
    numberOfKeys: 1,
    lua: `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1`
  }
).withReturnType<unknown>()

// ---------------------------------------------------------------------------------------------------------------------
// Answers
// ---------------------------------------------------------------------------------------------------------------------

const Count = Schema.NumberFromString
const Text = Schema.NullOr(Schema.String)
const Records = Schema.Array(Schema.Union([Schema.Tuple([Count, Text, Text]), Schema.Tuple([Schema.String])]))
const Scan = Schema.Tuple([Schema.String, Schema.Array(Schema.String)])
const Generations = Schema.Array(Count)
const Since = Schema.Tuple([
  Count,
  Schema.Array(Schema.Tuple([Count, Schema.String, Schema.String, Schema.Literals([0, 1])]))
])
const Lease = Schema.Tuple([Schema.Literals([0, 1]), Schema.Number])
const Flag = Schema.Literals([0, 1])

const foreignKeyRemedy = "See what other programs keep under this key, or choose another namespace."
const remedies: ReadonlyArray<readonly [RegExp, string]> = [
  [
    /^(?:NOAUTH|WRONGPASS|NOPERM)|ERR AUTH/,
    "Check user name and password of the Redis server, and what the user may do."
  ],
  [/^(?:WRONGTYPE|ERR)/, foreignKeyRemedy],
  [/^(?:OOM|MISCONF|READONLY)/, "Check the Redis server: it does not accept writes."]
]
const unreachableRemedy =
  "Check that the Redis server runs and can be reached from here; the library tries again by itself."

/** Errors about the shared keys: the scripts check the key of an entry themselves. */
const isAboutSharedKeys = /WRONGTYPE|not an integer/

const faultOf = (key: string, sharedLocation: string, { cause }: Redis.RedisError): StorageIoFailed => {
  const text = cause instanceof Error ? cause.message : String(cause)
  const code = cause instanceof Error && "code" in cause && typeof cause.code === "string" ? `${cause.code}: ` : ""
  const [, remedy = unreachableRemedy] = remedies.find(([pattern]) => pattern.test(text)) ?? []
  return new StorageIoFailed({
    location: isAboutSharedKeys.test(text) ? sharedLocation : key,
    detail: cleanMessage(text.includes(code) ? text : `${code}${text}`),
    remedy
  })
}

const foreignValue = (location: string) =>
  new StorageIoFailed({
    location,
    detail: "holds something that this package did not write",
    remedy: foreignKeyRemedy
  })

const foreignDetail = (kind: string) =>
  `another program keeps a ${cleanMessage(kind)} there; choose another namespace, or delete it`

// ---------------------------------------------------------------------------------------------------------------------
// The database
// ---------------------------------------------------------------------------------------------------------------------

const shown = (key: string): string => `the Redis key ${cleanText(key)}`

/** Runs a command and decodes its reply. `sharedLocation` names the shared keys, for errors about them. */
const answeredBy =
  (sharedLocation: string) =>
  <S extends Schema.Top & { readonly DecodingServices: never }>(key: string, schema: S, duration = answerTime) =>
  (command: Effect.Effect<unknown, Redis.RedisError>): Effect.Effect<S["Type"], StorageIoFailed> =>
    command.pipe(
      Effect.mapError((error) => faultOf(shown(key), sharedLocation, error)),
      Effect.timeoutOrElse({
        duration,
        orElse: () =>
          Effect.fail(
            new StorageIoFailed({
              location: shown(key),
              detail: `the Redis server did not answer within ${Duration.format(duration)}`,
              remedy: unreachableRemedy
            })
          )
      }),
      Effect.flatMap((reply) =>
        Effect.mapError(Schema.decodeUnknownEffect(schema)(reply), () => foreignValue(shown(key)))
      )
    )

const batchesOf = <A>(items: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from(
    { length: Math.ceil(items.length / batchSize) },
    (_, index) => items.slice(index * batchSize, (index + 1) * batchSize)
  )

export const makeRedisDatabase = (redis: Redis.Redis["Service"], namespace: string): RecordDatabase => {
  const tag = `{${namespace}}`
  const shared: SharedKeys = {
    ids: `${tag}:ids`,
    changes: `${tag}:changes`,
    sequence: `${tag}:sequence`,
    channel: `${tag}:notices`
  }
  const entries = `${tag}:entry:`
  const keyOf = (id: string): string => `${entries}${id}`
  const lockOf = (id: string): string => `${tag}:lock:${id}`
  const sharedLocation = `one of the Redis keys ${shared.ids}, ${shared.changes} and ${shared.sequence}`
  const answer = answeredBy(sharedLocation)
  const writer = randomBytes(8).toString("hex")

  const readBatch = Effect.fnUntraced(function*(ids: ReadonlyArray<string>, duration: Duration.Duration) {
    const records = yield* answer(keyOf(ids[0] ?? ""), Records, duration)(redis.eval(readScript)(...ids.map(keyOf)))
    return records.map((record): StoredRecord | ForeignRecord => {
      if (record.length === 1) return { foreign: foreignDetail(record[0]) }
      const [generation, document, state] = record
      return { generation, document: document ?? undefined, state: state ?? undefined }
    })
  })

  const writeBatch = (writes: ReadonlyArray<RecordWrite>, duration: Duration.Duration) =>
    answer(keyOf(writes[0]?.id ?? ""), Generations, duration)(
      redis.eval(writeScript)(
        shared,
        writer,
        writes.map((write) => ({
          ...write,
          key: keyOf(write.id),
          notice: unnumberedNotification({ _tag: "Saved", id: write.id, by: writer })
        }))
      )
    )

  /** Pipelines the batches in one round trip. The last one waits for all before it, so the time limit grows with their number. */
  const inBatches = Effect.fnUntraced(function*<A, B>(
    items: ReadonlyArray<A>,
    run: (batch: ReadonlyArray<A>, duration: Duration.Duration) => Effect.Effect<ReadonlyArray<B>, StorageIoFailed>
  ) {
    const batches = batchesOf(items)
    const duration = Duration.times(answerTime, Math.max(1, batches.length * batchSize / recordsInTime))
    const answers = yield* Effect.forEach(batches, (batch) => run(batch, duration), { concurrency: "unbounded" })
    return answers.flat()
  })

  const sinceOnce = (sequence: number) =>
    answer(shared.changes, Since)(redis.eval(sinceScript)(shared, entries, sequence))

  return {
    namespace,
    writer,
    location: `the Redis namespace ${namespace}`,
    locationOf: (id) => shown(keyOf(id)),
    read: (ids) => inBatches(ids, readBatch),
    write: (writes) => inBatches(writes, writeBatch),
    reencrypt: (id, before, after) =>
      Effect.map(
        answer(keyOf(id), Flag)(redis.eval(reencryptScript)(keyOf(id), before, after)),
        (isReplaced) => isReplaced === 1
      ),
    writeState: (id, expected, state) =>
      Effect.map(
        answer(keyOf(id), Flag)(redis.eval(writeStateScript)(keyOf(id), expected, state)),
        (isWritten) => isWritten === 1
      ),
    remove: (id, expected) =>
      Effect.map(
        answer(keyOf(id), Schema.NullOr(Count))(
          redis.eval(removeScript)(
            shared,
            writer,
            keyOf(id),
            id,
            expected,
            unnumberedNotification({ _tag: "Deleted", id, by: writer })
          )
        ),
        (generation) => generation ?? undefined
      ),
    ids: Effect.gen(function*() {
      const found = new Set<string>()
      let cursor = "0"
      do {
        const scanned = redis.send("SSCAN", shared.ids, cursor, "COUNT", String(idsAtATime))
        const [next, ids] = yield* answer(shared.ids, Scan)(scanned)
        for (const id of ids) found.add(id)
        cursor = next
      } while (cursor !== "0")
      return Array.from(found)
    }),
    changes: {
      latest: Effect.map(
        answer(shared.sequence, Schema.NullOr(Count))(redis.send("GET", shared.sequence)),
        (latest) => latest ?? 0
      ),
      listen: Effect.gen(function*() {
        const messages = yield* redis.subscribe(shared.channel)
        const notifications = yield* Queue.unbounded<Notification, StorageIoFailed>()
        yield* Effect.forkScoped(
          Queue.take(messages).pipe(
            Effect.mapError((error) => faultOf(shared.channel, sharedLocation, error)),
            // ignores what other programs publish
            Effect.flatMap(({ message }) =>
              Option.match(decodeNotification(message), {
                onNone: () => Effect.void,
                onSome: (notification) => Queue.offer(notifications, notification)
              })
            ),
            Effect.forever,
            Effect.onError((cause) => Queue.failCause(notifications, cause))
          )
        )
        return notifications
      }),
      since: Effect.fnUntraced(function*(sequence) {
        const changes: Array<RecordChange> = []
        let from = sequence
        while (true) {
          const before = from
          const [latest, rows] = yield* sinceOnce(from)
          for (const [sequence, id, by, isThere] of rows) {
            changes.push({ _tag: isThere === 1 ? "Saved" : "Deleted", sequence, id, by })
            from = sequence
          }
          // another program may have written numbers that are not told apart
          if (rows.length < changesAtATime || from <= before) return { latest, changes }
        }
      })
    },
    leases: {
      take: Effect.fnUntraced(function*(id, token, millis) {
        const [isTaken, left] = yield* answer(lockOf(id), Lease)(redis.eval(takeScript)(lockOf(id), token, millis))
        if (left === -1) {
          const detail =
            "another program keeps a key there that does not expire; choose another namespace, or delete it"
          return yield* new StorageIoFailed({ location: shown(lockOf(id)), detail })
        }
        return { isTaken: isTaken === 1, millisLeft: Math.max(0, left) }
      }),
      renew: (id, token, millis) =>
        Effect.map(
          answer(lockOf(id), Flag)(redis.eval(renewScript)(lockOf(id), token, millis)),
          (isRenewed) => isRenewed === 1
        ),
      release: (id, token) =>
        Effect.asVoid(
          answer(lockOf(id), Flag)(
            redis.eval(releaseScript)(
              lockOf(id),
              token,
              shared.channel,
              releaseNotification(id)
            )
          )
        )
    }
  }
}

/** The names of the tenants that have credentials: the parts after the slash of their namespaces. Scans all keys of the server. */
export const redisTenants = Effect.fnUntraced(function*(redis: Redis.Redis["Service"], namespace: string) {
  const [before, after] = [`{${namespace}/`, "}:ids"]
  const pattern = `${before}*${after}`
  const answer = answeredBy(shown(pattern))
  // SCAN can return a key twice
  const found = new Set<string>()
  let cursor = "0"
  do {
    const [next, keys] = yield* answer(pattern, Scan)(
      redis.send("SCAN", cursor, "MATCH", pattern, "COUNT", String(keysAtATime), "TYPE", "set")
    )
    for (const key of keys) found.add(key.slice(before.length, -after.length))
    cursor = next
  } while (cursor !== "0")
  return Array.from(found).toSorted()
})
