import { assert, describe, it } from "@effect/vitest"
import { RedisConnection } from "aden-credentials/redis"
import {
  ConfigProvider,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Option,
  Queue,
  Redacted,
  Schedule,
  Scope,
  Semaphore
} from "effect"
import { Redis } from "effect/persistence"
import { inspect } from "node:util"
import { AdenConfigError } from "../../../src/errors/ConfigError.ts"
import { CredentialDecryptionFailed, CredentialStorageError } from "../../../src/errors/StorageError.ts"
import { CredentialState } from "../../../src/model/CredentialState.ts"
import { CurrentTenant } from "../../../src/model/currentTenant.ts"
import { CredentialProviders } from "../../../src/providers/CredentialProvider.ts"
import { CredentialStorage } from "../../../src/storage/CredentialStorage.ts"
import { RedisStorage } from "../../../src/storage/redis/RedisStorage.ts"
import { CredentialStore } from "../../../src/store/CredentialStore.ts"
import { describeWith, redis } from "../../fixtures/realServers.ts"
import { hasRedisServer, redisServer, restartableRedis } from "../../fixtures/redisServer.ts"
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
import { connected, keysOf, place, storageOver, TemporaryRedis } from "./redisNamespace.ts"

const needsServer = hasRedisServer ? "" : " (left out: redis-server is not installed)"

describeWith(redis, "RedisStorage", () => {
  suite("RedisStorage", TemporaryRedis)

  describe("what the server sees", () => {
    it.effect("no secret, and no key outside the namespace", () =>
      Effect.gen(function*() {
        const { namespace, redis, storage } = yield* place
        const token = "sk-live-4f9aC71b"
        yield* storage.save(apiKey("hubspot", token))
        yield* storage.saveMany([apiKey("slack", token)])
        const keys = yield* Effect.provideService(keysOf(`{${namespace}`), Redis.Redis, redis)
        const values = yield* Effect.forEach(
          keys,
          (key) => key.includes(":entry:") ? redis.send("HGETALL", key) : Effect.succeed("")
        )
        assert.lengthOf(keys.filter((key) => key.includes(":entry:")), 2)
        for (const key of keys) assert.isTrue(key.startsWith(`{${namespace}}:`), key)
        assert.notInclude(inspect([keys, values], { depth: Infinity, maxStringLength: Infinity }), token)
      }))

    it.effect("of a deleted credential its generation", () =>
      Effect.gen(function*() {
        const { keyOf, redis, storage } = yield* place
        yield* storage.save(apiKey("hubspot", "1"))
        yield* storage.delete("hubspot")
        assert.strictEqual(yield* redis.send("HGET", keyOf("hubspot"), "generation"), "2")
        assert.isNull(yield* redis.send("HGET", keyOf("hubspot"), "document"))
      }))

    it.live("of a read one round trip, and of a save two", () =>
      Effect.gen(function*() {
        const { namespace } = yield* place
        const url = new URL(redis.url)
        const proxy = yield* tcpProxy(Number(url.port || 6379), url.hostname)
        url.hostname = "127.0.0.1"
        url.port = String(proxy.port)
        const storage = yield* storageOver(yield* connected(url.href), { namespace })
        yield* storage.save(apiKey("hubspot", "1"))
        yield* storage.read("hubspot")
        assert.strictEqual(yield* leastRoundTrips(proxy, storage.read("hubspot")), 1)
        assert.strictEqual(yield* leastRoundTrips(proxy, storage.read("absent")), 1)
        assert.strictEqual(yield* leastRoundTrips(proxy, storage.save(apiKey("hubspot", "2"))), 2)
      }))

    it.live("of a sync of 1,000 credentials two round trips", () =>
      Effect.gen(function*() {
        const { namespace, redis } = yield* place
        let waiting = 0
        let roundTrips = 0
        const counting = Redis.Redis.of({
          ...redis,
          eval: (script) => (...params) =>
            Effect.suspend(() => {
              // not what looks for what others changed
              if (script.lua.includes("ZRANGEBYSCORE")) return redis.eval(script)(...params)
              if (waiting++ === 0) roundTrips++
              return Effect.ensuring(redis.eval(script)(...params), Effect.sync(() => waiting--))
            })
        })
        const storage = yield* storageOver(counting, { namespace })
        const many = Array.from({ length: 1_000 }, (_, index) => apiKey(`c_${index}`, String(index)))
        assert.strictEqual((yield* storage.saveMany(many)).size, 0)
        assert.strictEqual(roundTrips, 2)
        assert.lengthOf(yield* storage.list, 1_000)
        assert.strictEqual(valueOf(yield* storage.load("c_999")), "999")
      }))
  })

  describe("many credentials", () => {
    it.live("are listed in parts: the server answers others between them", () =>
      Effect.gen(function*() {
        const { namespace, redis } = yield* place
        const ids = Array.from({ length: 25_000 }, (_, index) => `c_${index}`)
        for (let at = 0; at < ids.length; at += 5_000) {
          yield* redis.send("SADD", `{${namespace}}:ids`, ...ids.slice(at, at + 5_000))
        }
        let longest = 0
        const weighing = Redis.Redis.of({
          ...redis,
          send: (command, ...args) =>
            Effect.tap(redis.send(command, ...args), (reply) =>
              Effect.sync(() =>
                longest = Math.max(longest, inspect(reply, { depth: 3, maxArrayLength: null }).length)
              ))
        })
        const storage = yield* storageOver(weighing, { namespace })
        const listed = yield* storage.list
        assert.lengthOf(listed, ids.length)
        assert.strictEqual(new Set(listed).size, ids.length)
        assert.isBelow(longest, inspect(ids, { maxArrayLength: null }).length / 2)
      }))

    it.live("are given the more time the more they are", () =>
      Effect.gen(function*() {
        const { namespace, redis } = yield* place
        const one = yield* Semaphore.make(1)
        // each command of 500 by itself is quick enough
        const slow = Redis.Redis.of({
          ...redis,
          eval: (script) => (...params) => one.withPermit(Effect.delay(redis.eval(script)(...params), "400 millis"))
        })
        const storage = yield* storageOver(slow, { namespace })
        const many = Array.from({ length: 3_500 }, (_, index) => apiKey(`c_${index}`, String(index)))
        assert.strictEqual((yield* storage.saveMany(many)).size, 0)
      }))
  })

  describe("tenants", () => {
    it.effect("have a namespace each, and refuse what another wrote", () =>
      Effect.gen(function*() {
        const { namespace, redis } = yield* place
        const of = (tenantId: string) =>
          Effect.provideService(storageOver(redis, { namespace }), CurrentTenant, tenantId)
        const [acme, globex] = [yield* of("acme"), yield* of("Globex/../acme")]
        yield* acme.save(apiKey("hubspot", "acme's"))
        assert.isTrue(Option.isNone(yield* globex.load("hubspot")))
        yield* globex.save(apiKey("hubspot", "globex's"))
        assert.strictEqual(valueOf(yield* acme.load("hubspot")), "acme's")
        assert.strictEqual((yield* acme.loadState("hubspot")).generation, 1)
        const keys = yield* Effect.provideService(keysOf(`{${namespace}/`), Redis.Redis, redis)
        const entryOf = (tenant: string) =>
          keys.find((key) => key.includes(`/${tenant}`) && key.endsWith(":entry:hubspot")) ?? assert.fail()
        const stolen = yield* redis.send<string>("HGET", entryOf("acme"), "document")
        yield* redis.send("HSET", entryOf("~"), "document", stolen)
        const failure = yield* Effect.flip(globex.load("hubspot"))
        assert.instanceOf(failure, CredentialDecryptionFailed)
        assert.include(failure.message, "another tenant")
      }))
  })

  describe("what another program wrote under our key", () => {
    it.effect.each(
      [
        ["string", ["SET"], ["theirs"], ["GET"]],
        ["list", ["RPUSH"], ["theirs"], ["LRANGE", "0", "-1"]],
        ["hash", ["HSET"], ["theirs", "1"], ["HGETALL"]]
      ] as const
    )("a %s is named, left as it is by a save, not in the list, and deleted when a person asks", (
      [kind, [write], values, [read, ...range]]
    ) =>
      Effect.gen(function*() {
        const { keyOf, redis, storage } = yield* place
        yield* redis.send(write, keyOf("hubspot"), ...values)
        const theirs = redis.send(read, keyOf("hubspot"), ...range)
        const before = yield* theirs
        for (
          const failing of [
            storage.read("hubspot"),
            storage.load("hubspot"),
            Effect.asVoid(storage.save(apiKey("hubspot", "1")))
          ]
        ) {
          const failure = yield* Effect.flip(failing)
          assert.instanceOf(failure, CredentialDecryptionFailed)
          assert.include(failure.message, keyOf("hubspot"))
          assert.include(failure.message, `another program keeps a ${kind} there`)
          assert.include(failure.remedy, "delete the credential")
        }
        const failures = yield* storage.saveMany([apiKey("hubspot", "1"), apiKey("slack", "1")])
        assert.deepStrictEqual(Array.from(failures, ([id, { _tag }]) => [id, _tag]), [
          ["hubspot", "CredentialDecryptionFailed"]
        ])
        assert.deepStrictEqual(yield* theirs, before)
        assert.deepStrictEqual(yield* storage.loadState("hubspot"), CredentialState.initial)
        const refused = yield* Effect.flip(storage.saveState("hubspot", CredentialState.initial))
        assert.include(refused.message, keyOf("hubspot"))
        assert.isTrue(yield* storage.exists("hubspot"))
        assert.deepStrictEqual(yield* storage.list, ["slack"])
        assert.isTrue(yield* storage.delete("hubspot"))
        yield* storage.save(apiKey("hubspot", "2"))
        assert.strictEqual(valueOf(yield* storage.load("hubspot")), "2")
      }))

    it.effect.each(["theirs", "", "gAAAAABl".padEnd(200, "A")])(
      "in the place of a document: %j",
      (text) =>
        Effect.gen(function*() {
          const { keyOf, redis, storage } = yield* place
          yield* storage.save(apiKey("hubspot", "1"))
          yield* redis.send("HSET", keyOf("hubspot"), "document", text)
          const failure = yield* Effect.flip(storage.load("hubspot"))
          assert.instanceOf(failure, CredentialDecryptionFailed)
          assert.include(failure.location, keyOf("hubspot"))
          assert.strictEqual((yield* Effect.flip(storage.save(apiKey("hubspot", "2"))))._tag, failure._tag)
          assert.strictEqual(yield* redis.send("HGET", keyOf("hubspot"), "document"), text)
        })
    )

    it.effect.each(["many", "", "1.5", "-3", "NaN", "Infinity", "1e400", "0x10", " 5 ", "9007199254740993"])(
      "in the place of a state, and as a count %j, says nothing, and is replaced",
      (count) =>
        Effect.gen(function*() {
          const { keyOf, redis, storage } = yield* place
          yield* storage.save(apiKey("hubspot", "1"))
          yield* redis.send("HSET", keyOf("hubspot"), "state", "{not json", "generation", count)
          assert.deepStrictEqual(yield* storage.loadState("hubspot"), CredentialState.initial)
          yield* storage.save(apiKey("hubspot", "2"))
          assert.strictEqual((yield* storage.loadState("hubspot")).generation, 1)
          assert.strictEqual(valueOf(yield* storage.load("hubspot")), "2")
        })
    )

    it.effect.each(["ids", "changes", "sequence"])(
      "in the place of the %s is an error that names the key and the remedy, and nothing is half-written",
      (name) =>
        Effect.gen(function*() {
          const { namespace, redis, storage } = yield* place
          yield* storage.save(apiKey("hubspot", "1"))
          const before = yield* redis.send<Array<string>>("SMEMBERS", `{${namespace}}:ids`)
          yield* redis.send("SET", `{${namespace}}:${name}`, "theirs")
          for (const failing of [Effect.asVoid(storage.save(apiKey("slack", "1"))), storage.delete("hubspot")]) {
            const failure = yield* Effect.flip(failing)
            assert.instanceOf(failure, CredentialStorageError)
            assert.include(failure.message, `{${namespace}}:${name}`)
            assert.include(failure.remedy, "choose another namespace")
          }
          assert.isTrue(Option.isNone(yield* storage.load("slack")))
          assert.strictEqual(valueOf(yield* storage.load("hubspot")), "1")
          if (name === "ids") {
            assert.include((yield* Effect.flip(storage.list)).message, `{${namespace}}:ids`)
          } else assert.deepStrictEqual(yield* storage.list, before)
        })
    )

    it.live.each([["SET", "theirs"], ["HSET", "theirs", "1"]] as const)(
      "in the place of a lock (%s) is not waited for: the fibers exclude one another, with a warning that names it",
      ([command, ...value]) =>
        Effect.gen(function*() {
          const { lockOf, redis, storage } = yield* place
          yield* redis.send(command, lockOf("x"), ...value)
          let isHeld = false
          const warnings = yield* warningsOf(
            storage.withLock("x", Effect.sync(() => isHeld = true)).pipe(Effect.timeout("15 seconds"))
          )
          assert.isTrue(isHeld)
          assert.lengthOf(warnings, 1)
          assert.include(warnings[0], lockOf("x"))
          assert.strictEqual(yield* redis.send("EXISTS", lockOf("x")), 1)
        })
    )

    it.effect("a credential moved to the place of another is not taken for it", () =>
      Effect.gen(function*() {
        const { keyOf, redis, storage } = yield* place
        yield* storage.saveMany([apiKey("hubspot", "1"), apiKey("slack", "2")])
        const document = yield* redis.send<string>("HGET", keyOf("hubspot"), "document")
        yield* redis.send("HSET", keyOf("slack"), "document", document)
        const failure = yield* Effect.flip(storage.load("slack"))
        assert.include(failure.message, "another credential")
      }))

    it.effect("an empty id is not listed, and does not keep the others from being listed", () =>
      Effect.gen(function*() {
        const { namespace, redis, storage } = yield* place
        yield* storage.save(apiKey("hubspot", "1"))
        yield* redis.send("SADD", `{${namespace}}:ids`, "")
        assert.deepStrictEqual(yield* storage.list, ["hubspot"])
        const store = CredentialStore.layer().pipe(
          Layer.provide(CredentialProviders.layerNone),
          Layer.provide(Layer.succeed(CredentialStorage, storage))
        )
        const listed = yield* Effect.provide(CredentialStore.use((store) => store.list), store)
        assert.deepStrictEqual(listed.map(({ id }) => id), ["hubspot"])
      }))

    it.live("a change of an empty id is not told", () =>
      Effect.gen(function*() {
        const { namespace, process, redis, storage } = yield* place
        const seen = yield* changesOf(storage)
        const other = yield* process
        yield* Effect.sleep("100 millis")
        const sequence = Number(yield* redis.send<string>("INCR", `{${namespace}}:sequence`))
        yield* redis.send("ZADD", `{${namespace}}:changes`, String(sequence), "")
        const notification = { sequence, _tag: "Saved", id: "", by: "another program" }
        yield* redis.send("PUBLISH", `{${namespace}}:notices`, JSON.stringify(notification))
        yield* other.save(apiKey("hubspot", "1"))
        yield* until(() => seen.some(({ id }) => id === "hubspot"))
        assert.deepStrictEqual(told(seen), ["Saved hubspot"])
      }))

    it.live("on the channel is passed over", () =>
      Effect.gen(function*() {
        const { namespace, process, redis, storage } = yield* place
        const seen = yield* changesOf(storage)
        const other = yield* process
        yield* Effect.sleep("100 millis")
        yield* redis.send("PUBLISH", `{${namespace}}:notices`, "theirs")
        yield* other.save(apiKey("hubspot", "1"))
        yield* until(() => seen.length > 0)
        assert.deepStrictEqual(told(seen), ["Saved hubspot"])
      }))
  })

  it.effect("a key that does not open it: an error that names the place and the remedy", () =>
    Effect.gen(function*() {
      const { keyOf, namespace, redis, storage } = yield* place
      yield* storage.save(apiKey("hubspot", "1"))
      const other = yield* storageOver(redis, { namespace, keys: [otherKey] })
      const failure = yield* Effect.flip(other.load("hubspot"))
      assert.instanceOf(failure, CredentialDecryptionFailed)
      assert.include(failure.message, `the Redis key ${keyOf("hubspot")}`)
      assert.include(failure.remedy, "HIVE_CREDENTIAL_KEY")
      const both = yield* storageOver(redis, { namespace, keys: [otherKey, key] })
      assert.strictEqual(valueOf(yield* both.load("hubspot")), "1")
    }))

  it.effect.each(["", "a/b", "{a}", "a b", "a".repeat(101)])(
    "refuses %j as a namespace",
    (namespace) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Effect.flatMap(connected(), (redis) => storageOver(redis, { namespace })))
        assert.instanceOf(error, AdenConfigError)
        assert.strictEqual(error.setting, "namespace")
      })
  )

  it.effect("layerConfig: keys and server of the environment", () =>
    Effect.gen(function*() {
      const { namespace, storage } = yield* place
      yield* storage.save(apiKey("hubspot", "1"))
      const Storage = RedisStorage.layerConfigWith({ namespace }).pipe(
        Layer.provide(RedisConnection.layerConfig),
        Layer.provide(NodeFiles)
      )
      const settings = (env: Record<string, string>) =>
        Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(env))
      const load = CredentialStorage.use((storage) => storage.load("hubspot")).pipe(Effect.provide(Storage))
      const configured = { REDIS_URL: redis.url, HIVE_CREDENTIAL_KEY: Redacted.value(key) }
      assert.strictEqual(valueOf(yield* settings(configured)(load)), "1")
      const missing = yield* Effect.flip(settings({ HIVE_CREDENTIAL_KEY: Redacted.value(key) })(load))
      assert.instanceOf(missing, AdenConfigError)
      assert.strictEqual(missing.setting, "REDIS_URL")
    }))

  describe("the connection", () => {
    /** The error of a connection that cannot be made; neither it nor the log shows the password. */
    const errorOf = (url: string) =>
      Effect.suspend(() => {
        const shown: Array<string> = []
        const logger = Logger.make(({ cause, message }) => {
          shown.push(inspect([message, cause], { depth: Infinity }))
        })
        return Effect.map(Effect.provide(Effect.flip(connected(url)), Logger.layer([logger])), (error) => {
          shown.push(inspect(error, { depth: Infinity }), JSON.stringify(error), error.message, error.remedy)
          assert.notInclude(shown.join("\n"), "hunter2")
          return error
        })
      })

    it.effect.each(
      [
        ["", "is not set"],
        ["localhost:6379", "redis://"],
        ["not a url with hunter2", "is not a URL"],
        ["http://user:hunter2@127.0.0.1:6379", "does not begin with redis://"],
        ["redis://user:hunter2@127.0.0.1:6379/zero", "not the number of a database"],
        ["redis://user:hunter2@127.0.0.1:6379?x=hunter2", "query"],
        ["redis://user:hunter2%zz@127.0.0.1:6379", "is not percent-encoding"],
        ["redis://user:hunter2@127.0.0.1:99999", "is not a URL"]
      ] as const
    )("%j is no URL of a server", ([url, what]) =>
      Effect.gen(function*() {
        const error = yield* errorOf(url)
        assert.instanceOf(error, AdenConfigError)
        assert.strictEqual(error.setting, "url")
        assert.include(error.message, what)
      }))

    it.live("a server that is not there: an error that names it and the remedy", () =>
      Effect.gen(function*() {
        const error = yield* errorOf("redis://user:hunter2@127.0.0.1:1")
        assert.instanceOf(error, CredentialStorageError)
        assert.include(error.message, "redis://127.0.0.1:1: ")
        assert.include(error.message, "ECONNREFUSED")
        assert.include(error.remedy, "Check that the Redis server runs")
        assert.isTrue(error.isRetryable)
      }))

    it.live.skipIf(!hasRedisServer)(`a wrong or missing password${needsServer}`, () =>
      Effect.gen(function*() {
        const { url } = yield* restartableRedis(["--requirepass", "the right one"])
        const at = (userinfo: string) => url.replace("redis://", `redis://${userinfo}`)
        for (const wrong of [at("default:hunter2@"), at(":hunter2@"), at("nobody:hunter2@"), url]) {
          const error = yield* errorOf(wrong)
          assert.instanceOf(error, AdenConfigError, wrong)
          assert.include(error.message, url)
          assert.include(error.remedy, "Check user name and password")
        }
        const redis = yield* connected(at(`:${encodeURIComponent("the right one")}@`))
        assert.strictEqual(yield* redis.send("PING"), "PONG")
      }))

    it.live.skipIf(!hasRedisServer)(
      `a password where the server has none is refused without being shown${needsServer}`,
      () =>
        Effect.gen(function*() {
          const url = yield* redisServer
          const error = yield* errorOf(url.replace("redis://", "redis://nobody:hunter2@"))
          assert.instanceOf(error, AdenConfigError)
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

    it.live("what others save while it connects is not missed", () =>
      Effect.gen(function*() {
        const { namespace, process, redis } = yield* place
        const gate = yield* Deferred.make<void>()
        const slow = Redis.Redis.of({
          ...redis,
          subscribe: (channel) => Effect.andThen(Deferred.await(gate), redis.subscribe(channel))
        })
        const storage = yield* storageOver(slow, { namespace })
        const seen = yield* changesOf(storage)
        const other = yield* process
        yield* other.save(apiKey("before", "1"))
        yield* other.save(apiKey("before", "2"))
        yield* storage.save(apiKey("own", "1"))
        yield* Effect.sleep("50 millis")
        assert.deepStrictEqual(told(seen), ["Saved own"])
        yield* Deferred.succeed(gate, undefined)
        yield* until(() => seen.length > 1)
        yield* other.delete("before")
        yield* until(() => seen.length > 2)
        assert.deepStrictEqual(told(seen), [
          "Saved own",
          "Saved before",
          "Deleted before"
        ])
      }))

    it.live("a change whose notification was lost without a trace is looked up within 10 s, and the storage listens again", () =>
      Effect.gen(function*() {
        const { namespace, process, redis } = yield* place
        let times = 0
        const deaf = Redis.Redis.of({
          ...redis,
          // another channel: nothing ever arrives
          subscribe: (channel) =>
            Effect.suspend(() => redis.subscribe(times++ === 0 ? `${channel}:elsewhere` : channel))
        })
        const storage = yield* storageOver(deaf, { namespace })
        const seen = yield* changesOf(storage)
        const other = yield* process
        yield* Effect.sleep("100 millis")
        yield* other.save(apiKey("hubspot", "1"))
        yield* until(() => seen.length > 0, "20 seconds")
        assert.deepStrictEqual(told(seen), ["Saved hubspot"])
        yield* until(() => times > 1, "20 seconds")
        yield* other.save(apiKey("hubspot", "2"))
        yield* until(() => seen.length > 1)
      }))

    it.live("what was looked up already is not looked up again for each notification of it", () =>
      Effect.gen(function*() {
        const { namespace, process, redis } = yield* place
        let looks = 0
        const counting = Redis.Redis.of({
          ...redis,
          eval: (script) => (...params) =>
            Effect.suspend(() => {
              if (script.lua.includes("ZRANGEBYSCORE")) looks++
              return redis.eval(script)(...params)
            })
        })
        const storage = yield* storageOver(counting, { namespace })
        const seen = yield* changesOf(storage)
        const other = yield* process
        const ids = Array.from({ length: 1_000 }, (_, index) => `c_${index}`)
        yield* other.saveMany(ids.map((id) => apiKey(id, "1")))
        yield* until(() => seen.length >= ids.length)
        yield* other.saveMany(ids.map((id) => apiKey(id, "2")))
        yield* until(() => seen.length >= 2 * ids.length)
        yield* Effect.sleep("1 second")
        assert.isBelow(looks, 50)
      }))

    it.live("a change whose notification was lost is looked up when the next one arrives", () =>
      Effect.gen(function*() {
        const { namespace, process, redis } = yield* place
        let isDeaf = true
        const distracted = Redis.Redis.of({
          ...redis,
          subscribe: Effect.fnUntraced(function*(channel) {
            const messages = yield* redis.subscribe(channel)
            const heard = yield* Queue.unbounded<Redis.RedisMessage, Redis.RedisError>()
            yield* Queue.take(messages).pipe(
              Effect.flatMap((message) => isDeaf ? Effect.void : Queue.offer(heard, message)),
              Effect.forever,
              Effect.forkScoped
            )
            return heard
          })
        })
        const storage = yield* storageOver(distracted, { namespace })
        const seen = yield* changesOf(storage)
        const other = yield* process
        yield* Effect.sleep("100 millis")
        yield* other.save(apiKey("hubspot", "1"))
        yield* Effect.sleep("50 millis")
        isDeaf = false
        yield* other.save(apiKey("slack", "1"))
        yield* until(() => seen.length > 1)
        assert.deepStrictEqual(told(seen), ["Saved hubspot", "Saved slack"])
      }))

    it.live.skipIf(!hasRedisServer)(
      `many storages of a process listen over one connection${needsServer}`,
      () =>
        Effect.gen(function*() {
          const url = yield* redisServer
          const redis = yield* connected(url)
          const storages = yield* Effect.forEach(
            Array.from({ length: 20 }),
            (_, index) => Effect.provideService(storageOver(redis, { namespace: "test" }), CurrentTenant, `t${index}`)
          )
          const seen = yield* Effect.forEach(storages, changesOf)
          yield* Effect.repeat(redis.send<Array<string>>("PUBSUB", "CHANNELS"), {
            until: (channels) => channels.length === storages.length,
            schedule: Schedule.spaced("10 millis")
          })
          const listeners = yield* redis.send<string>("CLIENT", "LIST", "TYPE", "pubsub")
          assert.lengthOf(listeners.trim().split("\n"), 1)
          const other = yield* Effect.provideService(
            storageOver(yield* connected(url), { namespace: "test" }),
            CurrentTenant,
            "t7"
          )
          yield* other.save(apiKey("hubspot", "1"))
          yield* until(() => seen[7]?.length === 1)
          // one connection that is cut off is noticed, and all is looked up
          yield* redis.send("CLIENT", "KILL", "TYPE", "pubsub")
          yield* other.save(apiKey("hubspot", "2"))
          yield* until(() => seen[7]?.length === 2)
          assert.isTrue(seen.every((changes, index) => changes.length === (index === 7 ? 2 : 0)))
        })
    )

    it.live.skipIf(!hasRedisServer)(
      `a server that lost all while it was away is noticed, also when as much was saved since${needsServer}`,
      () =>
        Effect.gen(function*() {
          const server = yield* restartableRedis()
          const storage = yield* storageOver(yield* connected(server.url), { namespace: "test" })
          for (const value of ["1", "2", "3"]) yield* storage.save(apiKey("hubspot", value))
          const seen = yield* changesOf(storage)
          yield* server.stop()
          yield* server.start
          const other = yield* storageOver(yield* connected(server.url), { namespace: "test" })
          const ids = ["a", "b", "c", "d", "e"]
          for (const id of ids) yield* other.save(apiKey(id, "1"))
          yield* until(() => seen.length >= ids.length, "12 seconds")
          assert.sameMembers([...told(seen)], ids.map((id) => `Saved ${id}`))
        })
    )

    it.live.skipIf(!hasRedisServer)(
      `a server that forgot everything is noticed: what is there now is told${needsServer}`,
      () =>
        Effect.gen(function*() {
          const url = yield* redisServer
          const redis = yield* connected(url)
          const storage = yield* storageOver(redis, { namespace: "test" })
          const other = yield* storageOver(yield* connected(url), { namespace: "test" })
          for (const value of ["1", "2", "3"]) yield* storage.save(apiKey("hubspot", value))
          const seen = yield* changesOf(storage)
          yield* redis.send("FLUSHALL")
          yield* other.save(apiKey("slack", "1"))
          yield* until(() => seen.length > 0)
          // they are counted from 0 again: as a generation, it could be the one that a reader holds
          assert.deepStrictEqual(seen, [{ _tag: "Saved", id: "slack", generation: undefined }])
        })
    )

    it.live("each has the generation that it left; none where the writer is of a version that does not send it", () =>
      Effect.gen(function*() {
        const { namespace, process, redis, storage } = yield* place
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
        const sequence = Number(yield* redis.send<string>("INCR", `{${namespace}}:sequence`))
        const notification = { sequence, _tag: "Saved", id: "hubspot", by: "an older version" }
        yield* redis.send("PUBLISH", `{${namespace}}:notices`, JSON.stringify(notification))
        yield* until(() => seen.length >= 5)
        assert.deepStrictEqual(seen, [
          { _tag: "Saved", id: "hubspot", generation: 1 },
          { _tag: "Saved", id: "hubspot", generation: 2 },
          { _tag: "Saved", id: "slack", generation: 1 },
          { _tag: "Deleted", id: "hubspot", generation: 3 },
          { _tag: "Saved", id: "hubspot", generation: undefined }
        ])
      }))
  })

  describe("withLock", () => {
    it.live("excludes other processes, and who waits is woken at once", () =>
      Effect.gen(function*() {
        const { process, storage } = yield* place
        const other = yield* process
        yield* Effect.sleep("100 millis")
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
        assert.isBelow(yield* shortest(woken, 250), 250)
      }))

    it.live("without a notification is noticed within half a second", () =>
      Effect.gen(function*() {
        const { namespace, redis, storage } = yield* place
        const deaf = Redis.Redis.of({
          ...redis,
          subscribe: (channel) => redis.subscribe(`${channel}:elsewhere`)
        })
        const other = yield* storageOver(deaf, { namespace })
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

    it.live("a lease that ran out is taken over", () =>
      Effect.gen(function*() {
        const { lockOf, redis, storage } = yield* place
        const waited = yield* elapsed(Effect.andThen(
          redis.send("SET", lockOf("x"), "a dead holder", "PX", "400"),
          storage.withLock("x", Effect.void)
        ))
        assert.isAtLeast(waited, 390)
        assert.isBelow(waited, 10_000)
      }))

    it.live("lasts 15 s, is renewed while it is held, and given back at the end", () =>
      Effect.gen(function*() {
        const { lockOf, redis, storage } = yield* place
        const left = redis.send<number>("PTTL", lockOf("x"))
        yield* storage.withLock(
          "x",
          Effect.gen(function*() {
            assert.isAbove(yield* left, 13_000)
            yield* Effect.sleep("3 seconds")
            assert.isBelow(yield* left, 12_100)
            yield* Effect.repeat(left, { until: (millis) => millis > 13_000, schedule: Schedule.spaced("20 millis") })
          })
        )
        assert.strictEqual(yield* redis.send("EXISTS", lockOf("x")), 0)
      }))

    it.live("is given back by its owner alone", () =>
      Effect.gen(function*() {
        const { lockOf, redis, storage } = yield* place
        yield* storage.withLock("x", redis.send("SET", lockOf("x"), "another holder", "PX", "10000"))
        assert.strictEqual(yield* redis.send("GET", lockOf("x")), "another holder")
      }))

    it.live("an interrupted holder and an interrupted waiter leave no lease", () =>
      Effect.gen(function*() {
        const { lockOf, process, redis, storage } = yield* place
        const other = yield* process
        const holder = yield* storage.withLock("x", Effect.never).pipe(Effect.forkChild({ startImmediately: true }))
        yield* Effect.sleep("50 millis")
        const waiter = yield* other.withLock("x", Effect.never).pipe(Effect.forkChild({ startImmediately: true }))
        yield* Effect.sleep("50 millis")
        yield* Fiber.interrupt(waiter)
        yield* Fiber.interrupt(holder)
        assert.strictEqual(yield* redis.send("EXISTS", lockOf("x")), 0)
        // one that is interrupted while its request is under way
        for (let round = 0; round < 30; round++) {
          const taker = yield* storage.withLock("x", Effect.never).pipe(Effect.forkChild({ startImmediately: true }))
          yield* Effect.yieldNow
          yield* Fiber.interrupt(taker)
        }
        assert.strictEqual(yield* redis.send("EXISTS", lockOf("x")), 0)
      }))

    it.live("a holder that lost its lease does not save over who took it", () =>
      Effect.gen(function*() {
        const { lockOf, process, redis, storage } = yield* place
        const other = yield* process
        yield* storage.save(apiKey("x", "old"))
        yield* storage.withLock(
          "x",
          Effect.gen(function*() {
            const { generation } = yield* storage.loadState("x")
            yield* redis.send("DEL", lockOf("x"))
            yield* other.withLock("x", other.save(apiKey("x", "new"), { expectedGeneration: generation }))
            const late = yield* Effect.flip(storage.save(apiKey("x", "late"), { expectedGeneration: generation }))
            assert.strictEqual(late._tag, "GenerationConflict")
          })
        )
        assert.strictEqual(valueOf(yield* storage.load("x")), "new")
      }))
  })

  describe.skipIf(!hasRedisServer)(`a server that is away${needsServer}`, () => {
    const ownServer = Effect.gen(function*() {
      const server = yield* restartableRedis(["--appendonly", "yes", "--appendfsync", "always"])
      const scope = yield* Effect.scope
      const process = Effect.flatMap(
        Scope.provide(connected(server.url), scope),
        (redis) => Scope.provide(storageOver(redis, { namespace: "test" }), scope)
      )
      return { server, process }
    })

    it.live("every operation fails at once, with what to do; all is there when it is back", () =>
      Effect.gen(function*() {
        const { process, server } = yield* ownServer
        const storage = yield* process
        yield* storage.save(apiKey("hubspot", "1"))
        yield* server.stop()
        yield* Effect.sleep("50 millis")
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
                assert.include(error.remedy, "Check that the Redis server runs")
              })
          )
        )
        assert.isBelow(yield* shortest(spent, 1_000), 1_000)
        yield* server.start
        yield* Effect.retry(storage.load("hubspot"), { schedule: Schedule.spaced("50 millis"), times: 100 })
        assert.strictEqual(valueOf(yield* storage.load("hubspot")), "1")
        assert.strictEqual((yield* storage.loadState("hubspot")).generation, 1)
      }))

    it.live("the lock excludes this process alone, with one warning, until the server is back", () =>
      Effect.gen(function*() {
        const { process, server } = yield* ownServer
        const storage = yield* process
        yield* server.stop()
        yield* Effect.sleep("50 millis")
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
        const server = yield* restartableRedis()
        const scope = yield* Scope.make()
        const redis = yield* Scope.provide(connected(server.url), scope)
        const storage = yield* Scope.provide(storageOver(redis, { namespace: "test" }), scope)
        yield* server.signal("SIGSTOP")
        yield* Effect.flip(storage.load("hubspot"))
        yield* Scope.close(scope, Exit.void)
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
        yield* Effect.sleep("100 millis")
        yield* storage.save(apiKey("hubspot", "3"))
        assert.strictEqual(valueOf(yield* storage.load("hubspot")), "3")
      }))

    describe("that is cut off without a word", () => {
      const cutOff = Effect.gen(function*() {
        const url = yield* redisServer
        const proxy = yield* tcpProxy(Number(new URL(url).port))
        const redis = yield* connected(`redis://127.0.0.1:${proxy.port}`)
        const storage = yield* storageOver(redis, { namespace: "test" })
        const other = yield* storageOver(yield* connected(url), { namespace: "test" })
        yield* other.save(apiKey("hubspot", "1"))
        assert.strictEqual(valueOf(yield* storage.load("hubspot")), "1")
        const seen = yield* changesOf(storage)
        const works = Effect.retry(storage.load("hubspot"), { schedule: Schedule.spaced("100 millis"), times: 300 })
        return { proxy, redis, storage, other, seen, works }
      })

      it.live("its connections are made again, and no change is missed", () =>
        Effect.gen(function*() {
          const { other, proxy, seen, storage, works } = yield* cutOff
          yield* proxy.cut
          assert.include((yield* Effect.flip(storage.load("hubspot"))).message, "did not answer within 2s")
          yield* other.save(apiKey("slack", "1"))
          yield* works
          yield* until(() => seen.some(({ id }) => id === "slack"), "30 seconds")
          yield* Effect.retry(storage.save(apiKey("hubspot", "2")), { schedule: Schedule.spaced("100 millis") })
          assert.strictEqual(valueOf(yield* other.load("hubspot")), "2")
        }))

      it.live("also where new connections lead nowhere for a while", () =>
        Effect.gen(function*() {
          const { proxy, storage, works } = yield* cutOff
          yield* proxy.swallowNew(true)
          yield* proxy.cut
          yield* Effect.flip(storage.load("hubspot"))
          yield* Effect.sleep("5 seconds")
          yield* proxy.swallowNew(false)
          yield* works
        }))

      it.live("a program that is about to listen can still end", () =>
        Effect.gen(function*() {
          const { proxy, redis } = yield* cutOff
          yield* proxy.cut
          const scope = yield* Scope.make()
          yield* Scope.provide(redis.subscribe("test"), scope)
          yield* Scope.close(scope, Exit.void)
        }))
    })

    it.live("what others save while this one's connection is away is told when it is back", () =>
      Effect.gen(function*() {
        const { process, server } = yield* ownServer
        const storage = yield* process
        const other = yield* process
        yield* storage.save(apiKey("hubspot", "1"))
        yield* Effect.sleep("100 millis")
        const seen = yield* changesOf(storage)
        yield* server.stop()
        yield* server.start
        const saved = yield* elapsed(
          Effect.retry(other.save(apiKey("hubspot", "2")), { schedule: Schedule.spaced("20 millis") })
        )
        assert.isBelow(saved + (yield* elapsed(until(() => seen.length > 0))), 20_000)
        assert.deepStrictEqual(told(seen), ["Saved hubspot"])
      }))
  })
})
