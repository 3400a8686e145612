import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Credential, CredentialState, CredentialStorage, EncryptedFileStorage } from "aden-credentials"
import { ErrorDocument, ExitStatus, MigrateDocument } from "aden-credentials/cli"
import { DateTime, Effect, Fiber, Option, Redacted, Schedule } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { Fernet } from "../../src/encryption/Fernet.ts"
import { decodeDocument, documentText } from "../../src/storage/format/HiveDocument.ts"
import { describeWith, postgres, redis } from "../fixtures/realServers.ts"
import { type DatabasePlace, databases } from "./databases.ts"
import { commandLine, document, encryptionKey, isPlain, run, runProcess, temporaryDirectory } from "./harness.ts"

const key = { HIVE_CREDENTIAL_KEY: encryptionKey }
const newKey = "DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus="

type Storage = CredentialStorage["Service"]

const secretOf = (id: string, text = `secret ${id}`) => Credential.fromApiKey({ id, apiKey: Redacted.make(text) })

const idsOf = (count: number) => Array.from({ length: count }, (_, index) => `c${index}`)

const inDirectory =
  (directory: string, encryptionKeys = [encryptionKey]) => <A, E>(use: (storage: Storage) => Effect.Effect<A, E>) =>
    CredentialStorage.use(use).pipe(
      Effect.provide(
        EncryptedFileStorage.layer({ directory, keys: encryptionKeys.map((key) => Redacted.make(key)) }),
        { local: true }
      ),
      Effect.provide(NodeServices.layer)
    )

const enc = (directory: string, name: string) => path.join(directory, "credentials", `${name}.enc`)

const from = (place: DatabasePlace) => ["--from", place.url, "--from-namespace", place.namespace]
const to = (place: DatabasePlace) => ["--to", place.url, "--to-namespace", place.namespace]

const migrate = (...args: ReadonlyArray<string>) => run(["migrate", ...args], key)

const report = (ran: Effect.Success<ReturnType<typeof run>>) => {
  const { from: _, to: __, ...rest } = document(MigrateDocument, ran)
  return rest
}

const tokenOf = (storage: Storage, id: string) =>
  Effect.map(storage.load(id), (found) =>
    Option.match(found, {
      onNone: () => undefined,
      onSome: ({ defaultKey }) => defaultKey && Redacted.value(defaultKey.value)
    }))

/** The document in a file of Hive's format. */
const openFile = Effect.fnUntraced(function*(file: string) {
  const keys = [yield* Fernet.parseKey(Redacted.make(encryptionKey), "key")] as const
  return Buffer.from(yield* Fernet.decrypt(keys, fs.readFileSync(file, "latin1"))).toString("utf8")
})

/** Files as they are, to see that nothing touched them. */
const snapshot = (directory: string): ReadonlyArray<readonly [string, number, string]> =>
  fs.readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .toSorted()
    .map((file) => [file, fs.statSync(file).mtimeMs, fs.readFileSync(file, "latin1")])

/** Kills a migration as soon as the target has so many. */
const killedWhen = (args: ReadonlyArray<string>, isEnough: Effect.Effect<boolean>) =>
  Effect.gen(function*() {
    const child = spawn(process.execPath, [...commandLine(["migrate", ...args])], {
      env: { PATH: process.env["PATH"], ...key },
      stdio: "ignore"
    })
    const ended = Effect.callback<void>((resume) => {
      child.on("close", () => resume(Effect.void))
    })
    yield* Effect.raceFirst(
      ended,
      Effect.andThen(
        Effect.repeat(isEnough, { until: (enough) => enough, schedule: Schedule.spaced("3 millis") }),
        Effect.andThen(Effect.sync(() => child.kill("SIGKILL")), ended)
      )
    )
  })

for (const { name, place, server } of databases) {
  describeWith(server, `aden-creds migrate to and from ${name}`, () => {
    it.live("copies documents as they are and states with them, there and back, and touches nothing at the source", () =>
      Effect.gen(function*() {
        const database = yield* place
        const directory = yield* temporaryDirectory
        const back = path.join(yield* temporaryDirectory, "back")
        const blockedSince = yield* DateTime.now
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          yield* storage.saveMany(["plain", "a/b", "a_b", "日本"].map((id) => secretOf(id)))
          yield* storage.save(secretOf("plain", "again"), {
            state: new CredentialState({
              generation: 0,
              blockedSince,
              reauthorizationUrl: "https://aden.example/connect",
              lastError: "ReauthRequired",
              coolDownUntil: DateTime.add(blockedSince, { minutes: 5 })
            })
          })
        }))
        // what Hive, or a later version, wrote
        const hive =
          "{\"id\": \"hive\", \"credential_type\": \"api_key\", \"keys\": {\"api_key\": {\"name\": \"other\", " +
          "\"value\": \"v\", \"expires_at\": null, \"metadata\": {\"n\": 1.0}, \"later\": [1, 2]}}, \"use_count\": 12345678901234567890, " +
          "\"created_at\": \"2024-01-02T03:04:05Z\", \"updated_at\": \"2024-02-02T03:04:05.123456Z\", \"of_a_later_version\": {\"x\": 1.50}}"
        const keys = [yield* Fernet.parseKey(Redacted.make(encryptionKey), "key")] as const
        fs.writeFileSync(enc(directory, "hive"), yield* Fernet.encrypt(keys, Buffer.from(hive)), { mode: 0o600 })
        const before = snapshot(directory)

        const there = yield* migrate("--from", directory, ...to(database))
        assert.deepStrictEqual(there, {
          status: ExitStatus.done,
          stdout: "5 copied, 0 already there, 0 failed; the source is unchanged\n",
          stderr: ""
        })
        assert.deepStrictEqual(snapshot(directory), before)
        const storage = yield* database.storage()
        assert.sameMembers([...yield* storage.list], ["plain", "a/b", "a_b", "日本", "hive"])
        assert.strictEqual(yield* tokenOf(storage, "plain"), "again")
        const state = yield* storage.loadState("plain")
        assert.deepStrictEqual(state.blockedSince, blockedSince)
        assert.strictEqual(state.reauthorizationUrl, "https://aden.example/connect")
        assert.strictEqual(state.lastError, "ReauthRequired")
        assert.strictEqual(state.generation, 1)

        const returned = yield* migrate(...from(database), "--to", back)
        assert.strictEqual(returned.status, ExitStatus.done, returned.stderr)
        assert.strictEqual(yield* openFile(enc(back, "hive")), documentText(parsed(hive)))
        assert.strictEqual(yield* openFile(enc(back, "plain")), yield* openFile(enc(directory, "plain")))
        yield* inDirectory(back)(Effect.fnUntraced(function*(storage) {
          assert.deepStrictEqual((yield* storage.loadState("plain")).blockedSince, blockedSince)
          assert.strictEqual(yield* tokenOf(storage, "a/b"), "secret a/b")
          assert.strictEqual(yield* tokenOf(storage, "a_b"), "secret a_b")
        }))
        const index: unknown = JSON.parse(fs.readFileSync(path.join(back, "metadata/index.json"), "utf8"))
        assert.nestedProperty(index, "credentials.hive")
      }))

    it.live("leaves what is newer at the target, or was deleted there, and replaces what is older", () =>
      Effect.gen(function*() {
        const database = yield* place
        const directory = yield* temporaryDirectory
        const storage = yield* database.storage()
        yield* storage.saveMany(["older", "same"].map((id) => secretOf(id, "first")))
        yield* Effect.sleep("5 millis")
        yield* inDirectory(directory)((storage) =>
          storage.saveMany(["older", "newer", "same", "deleted", "new"].map((id) => secretOf(id, "at the source")))
        )
        yield* Effect.sleep("5 millis")
        yield* storage.save(secretOf("newer", "at the target"))
        yield* storage.save(secretOf("deleted"))
        yield* storage.delete("deleted")
        const ran = yield* migrate("--from", directory, ...to(database), "--json")
        assert.strictEqual(ran.status, ExitStatus.done, ran.stderr)
        const { kept, ...counts } = report(ran)
        assert.deepStrictEqual(counts, { total: 5, copied: 3, unchanged: 0, failed: [] })
        assert.sameDeepMembers([...kept], [
          { id: "newer", location: database.locationOf("newer"), reason: "newer" },
          { id: "deleted", location: database.locationOf("deleted"), reason: "deleted" }
        ])
        assert.strictEqual(yield* tokenOf(storage, "newer"), "at the target")
        assert.strictEqual(yield* tokenOf(storage, "older"), "at the source")
        assert.strictEqual(yield* tokenOf(storage, "deleted"), undefined)

        // programs go on at the target: nothing of theirs is lost the next time
        yield* Effect.sleep("5 millis")
        yield* storage.save(secretOf("older", "renewed at the target"))
        const again = report(yield* migrate("--from", directory, ...to(database), "--json"))
        assert.deepStrictEqual([again.copied, again.unchanged, again.kept.length], [0, 2, 3])
        assert.strictEqual(yield* tokenOf(storage, "older"), "renewed at the target")
        const text = yield* migrate("--from", directory, ...to(database))
        assert.include(text.stdout, `newer\tkept\t${database.locationOf("newer")} is newer\n`)
        assert.include(text.stdout, `deleted\tkept\t${database.locationOf("deleted")} was deleted\n`)
      }))

    it.live("reports what cannot be opened at either end and leaves it, does the others, and ends with 8", () =>
      Effect.gen(function*() {
        const database = yield* place
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.saveMany(["good", "cut", "other"].map((id) => secretOf(id))))
        fs.truncateSync(enc(directory, "cut"), 30)
        const cut = fs.readFileSync(enc(directory, "cut"))
        const foreign = yield* database.storage(newKey)
        yield* foreign.save(secretOf("other", "under another key"))
        const ran = yield* migrate("--from", directory, ...to(database), "--json")
        assert.strictEqual(ran.status, ExitStatus.storage)
        assert.isTrue(isPlain(ran))
        const { failed, ...counts } = report(ran)
        assert.deepStrictEqual(counts, { total: 3, copied: 1, unchanged: 0, kept: [] })
        assert.sameDeepMembers(failed.map(({ error, id, location }) => [id, location, error.tag]), [
          ["cut", enc(directory, "cut"), "CredentialDecryptionFailed"],
          ["other", database.locationOf("other"), "CredentialDecryptionFailed"]
        ])
        assert.deepStrictEqual(fs.readFileSync(enc(directory, "cut")), cut)
        assert.strictEqual(yield* tokenOf(foreign, "other"), "under another key")

        yield* database.putDocument("good", "damaged")
        const back = yield* migrate(...from(database), "--to", path.join(directory, "back"))
        assert.strictEqual(back.status, ExitStatus.storage)
        assert.include(back.stdout, "good\tfailed\t")
        assert.include(back.stderr, "1 more failed")
        assert.strictEqual(yield* database.document("good"), "damaged")
      }))

    it.live("takes tenants along, each to its own place", () =>
      Effect.gen(function*() {
        const database = yield* place
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.save(secretOf("common")))
        yield* inDirectory(path.join(directory, "acme"))((storage) => storage.save(secretOf("own", "of acme")))
        yield* inDirectory(path.join(directory, "globex"), [newKey])((storage) => storage.save(secretOf("sealed")))
        const there = yield* migrate("--from", directory, ...to(database), "--json")
        assert.strictEqual(there.status, ExitStatus.storage, "globex has a key of its own")
        assert.deepStrictEqual([report(there).total, report(there).copied, report(there).failed.length], [3, 2, 1])
        const acme = [...database.flags.slice(0, 2), "--namespace", `${database.namespace}/acme`]
        assert.strictEqual((yield* run(["list", ...acme], key)).stdout, "own\t-\t-\tactive\tnever\n")
        const back = path.join(yield* temporaryDirectory, "back")
        assert.strictEqual((yield* migrate(...from(database), "--to", back)).status, ExitStatus.done)
        yield* inDirectory(path.join(back, "acme"))(Effect.fnUntraced(function*(storage) {
          assert.strictEqual(yield* tokenOf(storage, "own"), "of acme")
        }))
        const within = yield* migrate("--from", directory, "--to", database.url, "--to-namespace", "x/acme", "--json")
        assert.strictEqual(within.status, ExitStatus.usage)
        assert.strictEqual(document(ErrorDocument, within).error.setting, "--to-namespace")
      }))

    it.live("killed half-way on the way there, it can be run again", () =>
      Effect.gen(function*() {
        const database = yield* place
        const directory = yield* temporaryDirectory
        const ids = idsOf(500)
        yield* inDirectory(directory)((storage) => storage.saveMany(ids.map((id) => secretOf(id))))
        const storage = yield* database.storage()
        // makes the tables
        yield* storage.list
        yield* killedWhen(
          ["--from", directory, ...to(database)],
          Effect.map(Effect.orDie(storage.list), ({ length }) => length > 0)
        )
        const done = (yield* storage.list).length
        assert.isAbove(done, 0)
        assert.isBelow(done, ids.length, "it was killed before its end")
        const ran = yield* runProcess(["migrate", "--json", "--from", directory, ...to(database)], key)
        assert.strictEqual(ran.status, ExitStatus.done, ran.stderr)
        assert.deepStrictEqual(report(ran), {
          total: ids.length,
          copied: ids.length - done,
          unchanged: done,
          kept: [],
          failed: []
        })
        for (const id of ids) assert.strictEqual(yield* tokenOf(storage, id), `secret ${id}`)
      }), 300_000)

    it.live("killed half-way on the way back, it can be run again", () =>
      Effect.gen(function*() {
        const database = yield* place
        const directory = path.join(yield* temporaryDirectory, "back")
        const ids = idsOf(400)
        yield* (yield* database.storage()).saveMany(ids.map((id) => secretOf(id)))
        const files = () =>
          fs.existsSync(path.join(directory, "credentials"))
            ? fs.readdirSync(path.join(directory, "credentials")).filter((name) => name.endsWith(".enc")).length
            : 0
        yield* killedWhen([...from(database), "--to", directory], Effect.sync(() => files() > 0))
        const done = files()
        assert.isAbove(done, 0)
        assert.isBelow(done, ids.length, "it was killed before its end")
        const ran = yield* runProcess(["migrate", "--json", ...from(database), "--to", directory], key)
        assert.strictEqual(ran.status, ExitStatus.done, ran.stderr)
        const { copied, unchanged, ...rest } = report(ran)
        assert.deepStrictEqual(rest, { total: ids.length, kept: [], failed: [] })
        assert.strictEqual(copied + unchanged, ids.length)
        assert.strictEqual(unchanged, done)
        yield* inDirectory(directory)(Effect.fnUntraced(function*(storage) {
          assert.lengthOf(yield* storage.list, ids.length)
          for (const id of ids) assert.strictEqual(yield* tokenOf(storage, id), `secret ${id}`)
        }))
        const index: { readonly credentials: object } = JSON.parse(
          fs.readFileSync(path.join(directory, "metadata/index.json"), "utf8")
        )
        assert.lengthOf(Object.keys(index.credentials), ids.length)
      }), 300_000)

    it.live("replaces nothing that programs save at the target while it runs", () =>
      Effect.gen(function*() {
        const database = yield* place
        const directory = yield* temporaryDirectory
        const ids = idsOf(200)
        yield* inDirectory(directory)((storage) => storage.saveMany(ids.map((id) => secretOf(id))))
        yield* Effect.sleep("5 millis")
        const storage = yield* database.storage()
        const migration = yield* Effect.forkChild(migrate("--json", "--from", directory, ...to(database)), {
          startImmediately: true
        })
        const saved = new Map<string, string>()
        for (let round = 0; migration.pollUnsafe() === undefined; round++) {
          const id = ids[(round * 7) % ids.length] ?? ""
          yield* storage.save(secretOf(id, `round ${round}`))
          saved.set(id, `round ${round}`)
        }
        const ran = yield* Fiber.join(migration)
        assert.strictEqual(ran.status, ExitStatus.done, ran.stderr)
        assert.isAbove(saved.size, 5)
        for (const id of ids) assert.strictEqual(yield* tokenOf(storage, id), saved.get(id) ?? `secret ${id}`)
      }))

    it.live("draws a progress bar on a terminal, and leaves no trace of it", () =>
      Effect.gen(function*() {
        const database = yield* place
        const directory = yield* temporaryDirectory
        yield* inDirectory(directory)((storage) => storage.saveMany(idsOf(30).map((id) => secretOf(id))))
        const ran = yield* run(["migrate", "--from", directory, ...to(database)], key, {
          terminal: ["stdout", "stderr"]
        })
        assert.match(ran.stderr, /Migrating/)
        assert.isTrue(ran.stderr.endsWith("\r\u001b[2K\u001b[?25h"))
        assert.strictEqual(
          ran.stdout,
          "30 copied, 0 already there, 0 failed; the source is unchanged\n"
        )
      }))

    it.live("a place cannot be migrated to itself, however it is written", () =>
      Effect.gen(function*() {
        const database = yield* place
        const other = new URL(database.url)
        other.hostname = other.hostname === "127.0.0.1" ? "localhost" : other.hostname
        for (const url of [database.url, other.href]) {
          const ran = yield* migrate(...from(database), "--to", url, "--to-namespace", database.namespace, "--json")
          assert.strictEqual(ran.status, ExitStatus.usage, ran.stdout)
          assert.strictEqual(document(ErrorDocument, ran).error.setting, "--to")
        }
        yield* (yield* database.storage()).save(secretOf("a"))
        const apart = yield* migrate(
          ...from(database),
          "--to",
          database.url,
          "--to-namespace",
          `${database.namespace}-2`
        )
        assert.match(apart.stdout, /^1 copied/, apart.stderr)
      }))
  })
}

const parsed = (text: string) => {
  const decoded = decodeDocument(text)
  if (decoded._tag === "Failure") throw new Error(decoded.failure)
  return decoded.success
}

const both = { ...redis, isThere: redis.isThere && postgres.isThere, why: `${redis.why}${postgres.why}` }

describeWith(both, "aden-creds migrate between Redis and Postgres", () => {
  it.live("copies in both directions, encrypted with the first key, whatever key was used before", () =>
    Effect.gen(function*() {
      const [inRedis, inPostgres] = databases
      const source = yield* inRedis.place
      const target = yield* inPostgres.place
      yield* (yield* source.storage()).saveMany(idsOf(100).map((id) => secretOf(id)))
      const bothKeys = { HIVE_CREDENTIAL_KEY: `${newKey},${encryptionKey}` }
      const there = yield* run(["migrate", "--json", ...from(source), ...to(target)], bothKeys)
      assert.strictEqual(there.status, ExitStatus.done, there.stderr)
      const { copied, from: shownFrom, to: shownTo } = document(MigrateDocument, there)
      assert.strictEqual(copied, 100)
      assert.deepStrictEqual([shownFrom.kind, shownFrom.namespace, shownFrom.table], [
        "redis",
        source.namespace,
        undefined
      ])
      assert.deepStrictEqual([shownTo.kind, shownTo.namespace, shownTo.table], ["postgres", "cli", "aden_credentials"])
      assert.strictEqual(yield* tokenOf(yield* target.storage(newKey), "c42"), "secret c42")

      const back = yield* inRedis.place
      const returned = yield* run(["migrate", "--json", ...from(target), ...to(back)], bothKeys)
      assert.strictEqual(document(MigrateDocument, returned).copied, 100)
      assert.strictEqual(yield* tokenOf(yield* back.storage(newKey), "c42"), "secret c42")
    }))

  it.live("no password is in what it prints", () =>
    Effect.gen(function*() {
      const secret = "hunter2hunter2"
      const withPassword = (url: string) => {
        const changed = new URL(url)
        changed.password = secret
        return changed.href
      }
      const directory = yield* temporaryDirectory
      yield* inDirectory(directory)((storage) => storage.save(secretOf("a")))
      for (const { place } of databases) {
        const { namespace, url } = yield* place
        for (const json of [[], ["--json"]]) {
          const ran = yield* run([
            "migrate",
            "--from",
            directory,
            "--to",
            withPassword(url),
            "--to-namespace",
            namespace,
            ...json
          ], {
            ...key,
            ADEN_CREDS_DEBUG: "1"
          })
          assert.notInclude(ran.stdout + ran.stderr, secret)
        }
      }
    }))
})

describe("aden-creds migrate with bad input", () => {
  it.live("is wrong usage without an end, with one that is elsewhere, or one that makes no sense", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const wrong: ReadonlyArray<ReadonlyArray<string>> = [
        [],
        ["--from", directory],
        ["--from", directory, "--to", ""],
        ["--from", directory, "--to", "mysql://u:hunter2@h"],
        ["--from", directory, "--to", "redis://:hunter2@h", "--directory", directory],
        ["--from", directory, "--to", "redis://:hunter2@h", "--storage", "redis://:hunter2@h"],
        ["--from", directory, "--to", `${directory}/../${path.basename(directory)}`],
        ["--from", path.join(directory, "absent"), "--to", path.join(directory, "x")],
        ["--from", directory, "--to", path.join(directory, "x"), "--to-namespace", "n"],
        ["--from", directory, "--to", "redis://:hunter2@h", "--to-table", "t"]
      ]
      for (const args of wrong) {
        const ran = yield* migrate(...args, "--json")
        assert.strictEqual(ran.status, ExitStatus.usage, args.join(" "))
        assert.strictEqual(document(ErrorDocument, ran).error.exitCode, ExitStatus.usage)
        assert.notInclude(ran.stdout + ran.stderr, "hunter2")
      }
      assert.isFalse(fs.existsSync(path.join(directory, "x")))
    }))

  it.live("from one directory to another; an empty source is reported, and a link to the source is refused as the target", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const target = path.join(yield* temporaryDirectory, "target")
      const empty = yield* migrate("--from", directory, "--to", target)
      assert.strictEqual(empty.status, ExitStatus.done)
      assert.strictEqual(empty.stderr, "Nothing is stored there.\n")
      yield* inDirectory(directory)((storage) => storage.saveMany(["a", "b"].map((id) => secretOf(id))))
      const ran = yield* migrate("--from", directory, "--to", target)
      assert.match(ran.stdout, /^2 copied/)
      fs.symlinkSync(directory, path.join(target, "link"))
      const linked = yield* migrate("--from", directory, "--to", path.join(target, "link"))
      assert.strictEqual(linked.status, ExitStatus.usage)
    }))
})
