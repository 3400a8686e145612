/**
 * Records in Redis. All keys of a namespace have one hash tag, so that they are in one slot of a cluster:
 *
 * - `{namespace}:entry:{id}`, a hash: `generation`, `document`, `state`, and `writer`, who wrote it last. Of a deleted entry
 *   the generation is left.
 * - `{namespace}:ids`, a set: the ids of the entries that have a document.
 * - `{namespace}:changes`, a sorted set: each id by the number of its latest change; `{namespace}:sequence` is the latest.
 * - `{namespace}:lock:{id}`: the token of the holder of a lease, with the time it has left.
 * - `{namespace}:notices`, a channel.
 *
 * Whatever is more than one command is a script, which nothing comes between.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redis from "effect/persistence/Redis"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import { randomBytes } from "node:crypto"
import { StorageIoFailed } from "../CredentialError.ts"
import { cleanMessage, cleanText } from "./foreignText.ts"
import type {
  ForeignRecord,
  Notice,
  RecordChange,
  RecordDatabase,
  RecordWrite,
  StoredRecord
} from "./recordDatabase.ts"
import { decodeNotice, releaseNotice, unnumberedNotice } from "./recordNotice.ts"

/** A server that does not answer is as good as gone. */
const answerTime = Duration.seconds(2)

/** So many records are read or written by one command: the server does nothing else meanwhile. */
const batchSize = 500

/** So many keys of a server are looked at by one command. */
const keysAtATime = 1_000

/** So many missed changes are looked up at a time. */
const changesAtATime = 1_000

// ---------------------------------------------------------------------------------------------------------------------
// Scripts
// ---------------------------------------------------------------------------------------------------------------------

/** Numbers of a script are doubles: written like this they stay whole. */
const numbered = `
local function whole(number) return string.format('%.0f', number) end
local function generationOf(key) return tonumber(redis.call('HGET', key, 'generation') or '0') or 0 end
local function isForeign(key)
  local kind = redis.call('TYPE', key)['ok']
  return kind ~= 'hash' and kind ~= 'none'
end
local function tell(changes, sequence, channel, id, notice)
  local number = redis.call('INCR', sequence)
  redis.call('ZADD', changes, number, id)
  redis.call('PUBLISH', channel, '{"sequence":' .. whole(number) .. ',' .. notice)
end
`

interface Place {
  readonly ids: string
  readonly changes: string
  readonly sequence: string
  readonly channel: string
}

/** The records, each as generation, document and state; of a foreign one its type alone. */
const readScript = Redis.script((...keys: ReadonlyArray<string>) => keys, {
  numberOfKeys: (...keys) => keys.length,
  lua: `${numbered}
local found = {}
for index, key in ipairs(KEYS) do
  if isForeign(key) then
    found[index] = { redis.call('TYPE', key)['ok'] }
  else
    found[index] = redis.call('HMGET', key, 'generation', 'document', 'state')
  end
end
return found`
}).withReturnType<unknown>()

const writeScript = Redis.script(
  (
    place: Place,
    writer: string,
    writes: ReadonlyArray<RecordWrite & { readonly key: string; readonly notice: string }>
  ) => [
    place.ids,
    place.changes,
    place.sequence,
    ...writes.map(({ key }) => key),
    place.channel,
    writer,
    ...writes.flatMap(({ document, expected, id, notice, state }) => [id, expected, document, state, notice])
  ],
  {
    numberOfKeys: (_place, _writer, writes) => 3 + writes.length,
    lua: `${numbered}
local found = {}
for index = 1, #KEYS - 3 do
  local key = KEYS[index + 3]
  local at = 2 + (index - 1) * 5
  local id, expected = ARGV[at + 1], tonumber(ARGV[at + 2])
  local generation = isForeign(key) and -1 or generationOf(key)
  if generation == expected then
    redis.call('SADD', KEYS[1], id)
    tell(KEYS[2], KEYS[3], ARGV[1], id, ARGV[at + 5])
    redis.call('HSET', key, 'generation', whole(expected + 1), 'document', ARGV[at + 3], 'state', ARGV[at + 4],
      'writer', ARGV[2])
  end
  found[index] = whole(generation)
end
return found`
  }
).withReturnType<unknown>()

const writeStateScript = Redis.script((key: string, expected: number, state: string) => [key, expected, state], {
  numberOfKeys: 1,
  lua: `${numbered}
if isForeign(KEYS[1]) or generationOf(KEYS[1]) ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[2])
return 1`
}).withReturnType<unknown>()

const replaceDocumentScript = Redis.script(
  (key: string, before: string, document: string) => [key, before, document],
  {
    numberOfKeys: 1,
    lua: `${numbered}
if isForeign(KEYS[1]) or redis.call('HGET', KEYS[1], 'document') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'document', ARGV[2])
return 1`
  }
).withReturnType<unknown>()

const removeScript = Redis.script(
  (place: Place, writer: string, key: string, id: string, expected: number | undefined, notice: string) => [
    place.ids,
    place.changes,
    place.sequence,
    key,
    place.channel,
    writer,
    id,
    expected ?? "",
    notice
  ],
  {
    numberOfKeys: 4,
    lua: `${numbered}
local key = KEYS[4]
local foreign = isForeign(key)
local generation = foreign and 0 or generationOf(key)
if ARGV[4] ~= '' and tonumber(ARGV[4]) ~= generation then return 0 end
local existed = foreign or redis.call('HEXISTS', key, 'document') == 1
redis.call('DEL', key)
redis.call('SREM', KEYS[1], ARGV[3])
if existed or generation > 0 then
  redis.call('HSET', key, 'generation', whole(generation + 1), 'writer', ARGV[2])
end
if not existed then return 0 end
tell(KEYS[2], KEYS[3], ARGV[1], ARGV[3], ARGV[5])
return 1`
  }
).withReturnType<unknown>()

/** The latest number, and the changes after one as number, id, writer and whether the entry is there. */
const sinceScript = Redis.script(
  (place: Place, entries: string, sequence: number) => [
    place.changes,
    place.sequence,
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
  if not isForeign(key) then
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
const Records = Schema.Array(Schema.Union([Schema.Tuple([Text, Text, Text]), Schema.Tuple([Schema.String])]))
const Generations = Schema.Array(Count)
const Since = Schema.Tuple([
  Count,
  Schema.Array(Schema.Tuple([Count, Schema.String, Schema.String, Schema.Literals([0, 1])]))
])
const Lease = Schema.Tuple([Schema.Literals([0, 1]), Schema.Number])
const Flag = Schema.Literals([0, 1])
const Scanned = Schema.Tuple([Schema.String, Schema.Array(Schema.String)])

const remedies: ReadonlyArray<readonly [RegExp, string]> = [
  [
    /^(?:NOAUTH|WRONGPASS|NOPERM)|ERR AUTH/,
    "Check user name and password of the Redis server, and what the user may do."
  ],
  [/^(?:WRONGTYPE|ERR)/, "See what other programs keep under this key, or choose another namespace."],
  [/^(?:OOM|MISCONF|READONLY)/, "Look after the Redis server: it takes no writes."]
]
const unreachableRemedy =
  "Check that the Redis server runs and can be reached from here; the library tries again by itself."

const faultOf = (location: string, { cause }: Redis.RedisError): StorageIoFailed => {
  const text = cause instanceof Error ? cause.message : String(cause)
  const code = cause instanceof Error && "code" in cause && typeof cause.code === "string" ? `${cause.code}: ` : ""
  const [, remedy = unreachableRemedy] = remedies.find(([pattern]) => pattern.test(text)) ?? []
  return new StorageIoFailed({ location, detail: cleanMessage(text.includes(code) ? text : `${code}${text}`), remedy })
}

const strange = (location: string) =>
  new StorageIoFailed({
    location,
    detail: "holds something that this package did not write",
    remedy: "See what other programs keep under this key, or choose another namespace."
  })

const foreignDetail = (kind: string) =>
  `another program keeps a ${cleanMessage(kind)} there; choose another namespace, or delete it`

// ---------------------------------------------------------------------------------------------------------------------
// The database
// ---------------------------------------------------------------------------------------------------------------------

const shown = (key: string): string => `the Redis key ${cleanText(key)}`

/** What a command answers, as it has to be. */
const answer =
  <S extends Schema.Top & { readonly DecodingServices: never }>(key: string, schema: S) =>
  (command: Effect.Effect<unknown, Redis.RedisError>): Effect.Effect<S["Type"], StorageIoFailed> =>
    command.pipe(
      Effect.mapError((error) => faultOf(shown(key), error)),
      Effect.timeoutOrElse({
        duration: answerTime,
        orElse: () =>
          Effect.fail(
            new StorageIoFailed({
              location: shown(key),
              detail: `the Redis server did not answer within ${Duration.format(answerTime)}`,
              remedy: unreachableRemedy
            })
          )
      }),
      Effect.flatMap((reply) => Effect.mapError(Schema.decodeUnknownEffect(schema)(reply), () => strange(shown(key))))
    )

const batchesOf = <A>(items: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from(
    { length: Math.ceil(items.length / batchSize) },
    (_, index) => items.slice(index * batchSize, (index + 1) * batchSize)
  )

export const makeRedisDatabase = (redis: Redis.Redis["Service"], namespace: string): RecordDatabase => {
  const tag = `{${namespace}}`
  const place: Place = {
    ids: `${tag}:ids`,
    changes: `${tag}:changes`,
    sequence: `${tag}:sequence`,
    channel: `${tag}:notices`
  }
  const entries = `${tag}:entry:`
  const keyOf = (id: string): string => `${entries}${id}`
  const lockOf = (id: string): string => `${tag}:lock:${id}`
  const writer = randomBytes(8).toString("hex")

  const readBatch = Effect.fnUntraced(function*(ids: ReadonlyArray<string>) {
    const records = yield* answer(keyOf(ids[0] ?? ""), Records)(redis.eval(readScript)(...ids.map(keyOf)))
    return records.map((record): StoredRecord | ForeignRecord => {
      if (record.length === 1) return { foreign: foreignDetail(record[0]) }
      const [generation, document, state] = record
      return { generation: Number(generation) || 0, document: document ?? undefined, state: state ?? undefined }
    })
  })

  const writeBatch = (writes: ReadonlyArray<RecordWrite>) =>
    answer(keyOf(writes[0]?.id ?? ""), Generations)(
      redis.eval(writeScript)(
        place,
        writer,
        writes.map((write) => ({
          ...write,
          key: keyOf(write.id),
          notice: unnumberedNotice({ _tag: "Saved", id: write.id, by: writer })
        }))
      )
    )

  /** Commands that are sent one after another without waiting are one round trip. */
  const inBatches = <A, B>(
    items: ReadonlyArray<A>,
    run: (batch: ReadonlyArray<A>) => Effect.Effect<ReadonlyArray<B>, StorageIoFailed>
  ) => Effect.map(Effect.forEach(batchesOf(items), run, { concurrency: "unbounded" }), (answers) => answers.flat())

  const sinceOnce = (sequence: number) =>
    answer(place.changes, Since)(redis.eval(sinceScript)(place, entries, sequence))

  return {
    writer,
    place: `the Redis namespace ${namespace}`,
    locationOf: (id) => shown(keyOf(id)),
    read: (ids) => inBatches(ids, readBatch),
    write: (writes) => inBatches(writes, writeBatch),
    replaceDocument: (id, before, document) =>
      Effect.map(
        answer(keyOf(id), Flag)(redis.eval(replaceDocumentScript)(keyOf(id), before, document)),
        (isReplaced) => isReplaced === 1
      ),
    writeState: (id, expected, state) =>
      Effect.map(
        answer(keyOf(id), Flag)(redis.eval(writeStateScript)(keyOf(id), expected, state)),
        (isWritten) => isWritten === 1
      ),
    remove: (id, expected) =>
      Effect.map(
        answer(keyOf(id), Flag)(
          redis.eval(removeScript)(
            place,
            writer,
            keyOf(id),
            id,
            expected,
            unnumberedNotice({ _tag: "Deleted", id, by: writer })
          )
        ),
        (isDeleted) => isDeleted === 1
      ),
    ids: answer(place.ids, Schema.Array(Schema.String))(redis.send("SMEMBERS", place.ids)),
    changes: {
      latest: Effect.map(
        answer(place.sequence, Schema.NullOr(Count))(redis.send("GET", place.sequence)),
        (latest) => latest ?? 0
      ),
      listen: Effect.gen(function*() {
        const messages = yield* redis.subscribe(place.channel)
        const notices = yield* Queue.unbounded<Notice, StorageIoFailed>()
        yield* Effect.forkScoped(
          Queue.take(messages).pipe(
            Effect.mapError((error) => faultOf(place.channel, error)),
            // what others publish there says nothing
            Effect.flatMap(({ message }) =>
              Option.match(decodeNotice(message), {
                onNone: () => Effect.void,
                onSome: (notice) => Queue.offer(notices, notice)
              })
            ),
            Effect.forever,
            Effect.onError((cause) => Queue.failCause(notices, cause))
          )
        )
        return notices
      }),
      since: Effect.fnUntraced(function*(sequence) {
        const changes: Array<RecordChange> = []
        let from = sequence
        while (true) {
          const [latest, rows] = yield* sinceOnce(from)
          for (const [sequence, id, by, isThere] of rows) {
            changes.push({ _tag: isThere === 1 ? "Saved" : "Deleted", sequence, id, by })
            from = sequence
          }
          if (rows.length < changesAtATime) return { latest, changes }
        }
      })
    },
    leases: {
      take: (id, token, millis) =>
        Effect.map(
          answer(lockOf(id), Lease)(redis.eval(takeScript)(lockOf(id), token, millis)),
          // one without an end is not ours
          ([isTaken, left]) => ({ isTaken: isTaken === 1, millisLeft: left === -1 ? Infinity : Math.max(0, left) })
        ),
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
              place.channel,
              releaseNotice(id)
            )
          )
        )
    }
  }
}

/** What stands behind the slash in the namespaces of tenants that have credentials. Looks through all keys of the server. */
export const redisTenants = Effect.fnUntraced(function*(redis: Redis.Redis["Service"], namespace: string) {
  const [before, after] = [`{${namespace}/`, "}:ids"]
  const pattern = `${before}*${after}`
  // a key may be told twice
  const found = new Set<string>()
  let cursor = "0"
  do {
    const [next, keys] = yield* answer(pattern, Scanned)(
      redis.send("SCAN", cursor, "MATCH", pattern, "COUNT", String(keysAtATime), "TYPE", "set")
    )
    for (const key of keys) found.add(key.slice(before.length, -after.length))
    cursor = next
  } while (cursor !== "0")
  return Array.from(found).toSorted()
})
