import { assert, describe, it } from "@effect/vitest"
import { Credential, CredentialState } from "aden-credentials"
import { DoctorDocument, ErrorDocument, ExitStatus, ListDocument, RotateDocument } from "aden-credentials/cli"
import { AdenEmulator } from "aden-credentials/emulator"
import { DateTime, Effect, Fiber, Option, Redacted } from "effect"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { freePort } from "../fixtures/freePort.ts"
import { hasPostgresServer, needsPostgresServer, password, restartablePostgres } from "../fixtures/postgresServer.ts"
import { describeWith, postgres, redis } from "../fixtures/realServers.ts"
import { hasRedisServer, restartableRedis } from "../fixtures/redisServer.ts"
import { inSchema, newSchema } from "../storage/postgres/postgresSchema.ts"
import { connected } from "../storage/redis/redisNamespace.ts"
import { type DatabasePlace, databases, saveAll } from "./databases.ts"
import {
  document,
  dueCredential,
  emulatorEnvironment,
  encryptionKey,
  isPlain,
  run,
  runProcess,
  save,
  temporaryDirectory
} from "./harness.ts"

const newKey = "DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus="
const key = { HIVE_CREDENTIAL_KEY: encryptionKey }
const bothKeys = { HIVE_CREDENTIAL_KEY: `${newKey},${encryptionKey}` }

const secretOf = (id: string) => Credential.fromApiKey({ id, apiKey: Redacted.make(`secret ${id}`) })

/** What `doctor` finds beside settings and Aden, which are set. */
const storedFindings = (ran: { readonly status: number | null; readonly stdout: string; readonly stderr: string }) =>
  document(DoctorDocument, ran).findings.filter(({ check }) => !["settings", "Aden", "clock"].includes(check))

/** A tenant's part of a place, with a credential in it. */
const tenantIn = Effect.fnUntraced(function*({ flags, namespace, url }: DatabasePlace) {
  const directory = yield* temporaryDirectory
  yield* save(directory, secretOf("own"))
  const tenant = `${namespace}/acme`
  yield* run(["migrate", "--from", directory, "--to", url, "--to-namespace", tenant], key)
  return [...flags.slice(0, 2), "--namespace", tenant]
})

for (const { name, place, server } of databases) {
  describeWith(server, `aden-creds --storage on ${name}`, () => {
    it.live("sync, list, token, refresh, validate, explain and delete do what they do on files", () =>
      Effect.gen(function*() {
        const { flags } = yield* place
        const environment = yield* emulatorEnvironment
        const aden_creds = (...args: ReadonlyArray<string>) => run([...args, ...flags], environment)
        const synced = yield* aden_creds("sync")
        assert.strictEqual(synced.status, ExitStatus.done, synced.stderr)
        assert.match(synced.stdout, /\n2 synced, 1 skipped, 0 failed, 0 removed\n$/)
        const listed = document(ListDocument, yield* aden_creds("list", "--json"))
        assert.sameMembers(listed.map(({ ref }) => ref), ["hubspot", "github"])
        const token = yield* aden_creds("token", "hubspot")
        assert.match(token.stdout, /^aden-emulator\.\S+\n$/, token.stderr)
        assert.strictEqual((yield* aden_creds("refresh", "hubspot")).status, ExitStatus.done)
        assert.strictEqual((yield* aden_creds("validate", "hubspot")).status, ExitStatus.done)
        const explained = yield* aden_creds("explain", "github")
        assert.match(explained.stdout, /^status: +fresh$/m)
        const blocked = yield* aden_creds("token", "slack")
        assert.strictEqual(blocked.status, ExitStatus.reauthorizationRequired)
        const executed = yield* runProcess(
          [
            "exec",
            ...flags,
            "--env",
            "T=github",
            "--",
            process.execPath,
            "-e",
            "process.stdout.write(process.env.T.slice(0, 13))"
          ],
          environment
        )
        assert.strictEqual(executed.stdout, "aden-emulator", executed.stderr)
        const git = yield* run(["git-credential", ...flags, "get"], environment, {
          input: "protocol=https\nhost=github.com\n\n"
        })
        assert.match(git.stdout, /^username=x-access-token\npassword=aden-emulator\./)
        assert.strictEqual((yield* aden_creds("delete", "github")).status, ExitStatus.done)
        assert.strictEqual((yield* aden_creds("delete", "github")).status, ExitStatus.notFound)
        for (const ran of [synced, explained, blocked, git]) assert.isTrue(isPlain(ran))
      }).pipe(Effect.provide(AdenEmulator.layer())))

    it.live("a process ends by itself, with what the server has", () =>
      Effect.gen(function*() {
        const database = yield* place
        yield* saveAll(database, [yield* dueCredential])
        const ran = yield* runProcess(["list", ...database.flags], key)
        assert.strictEqual(ran.status, ExitStatus.done, ran.stderr)
        assert.match(ran.stdout, /^hubspot\t/)
      }))

    it.live("a key that opens nothing ends list with 8, and names a place", () =>
      Effect.gen(function*() {
        const database = yield* place
        yield* saveAll(database, [secretOf("a"), secretOf("b")])
        const ran = yield* run(["list", ...database.flags], { HIVE_CREDENTIAL_KEY: newKey })
        assert.strictEqual(ran.status, ExitStatus.storage)
        assert.match(ran.stderr, /^error: None of the 2 credentials in this namespace can be opened\n {2}.*--namespace/)
      }))

    it.live("the namespace of a tenant is named behind a slash", () =>
      Effect.gen(function*() {
        const { flags, namespace } = yield* place
        const environment = yield* emulatorEnvironment
        const tenant = [...flags.slice(0, 2), "--namespace", `${namespace}/acme`]
        assert.strictEqual((yield* run(["sync", ...tenant], environment)).status, ExitStatus.done)
        assert.strictEqual((yield* run(["list", ...flags], environment)).stdout, "")
        assert.match((yield* run(["list", ...tenant], environment)).stdout, /^github\t/m)
        const doctor = yield* run(["doctor", "--json", ...flags], environment)
        assert.strictEqual(doctor.status, ExitStatus.done, doctor.stderr)
      }).pipe(Effect.provide(AdenEmulator.layer())))
  })

  describeWith(server, `aden-creds doctor on ${name}`, () => {
    it.live("finds nothing wrong with what this package wrote", () =>
      Effect.gen(function*() {
        const { flags } = yield* place
        const environment = yield* emulatorEnvironment
        yield* run(["sync", ...flags], environment)
        const ran = yield* run(["doctor", "--json", ...flags], environment)
        assert.strictEqual(ran.status, ExitStatus.done, ran.stderr)
        const findings = storedFindings(ran)
        assert.deepStrictEqual(findings.map(({ check, status }) => [check, status]), [
          ["encryption key", "ok"],
          ["database", "ok"],
          ["credentials", "ok"]
        ])
        assert.match(findings[1]?.message ?? "", new RegExp(`^The ${name} server at \\S+ answers$`))
      }).pipe(Effect.provide(AdenEmulator.layer())))

    it.live("names each entry that is damaged, or was copied from another place, and the way out", () =>
      Effect.gen(function*() {
        const database = yield* place
        const environment = yield* emulatorEnvironment
        yield* saveAll(database, ["good", "cut", "moved"].map(secretOf))
        yield* database.putDocument("cut", (yield* database.document("cut")).slice(0, 40))
        yield* database.putDocument("moved", yield* database.document("good"))
        yield* database.putState("good", "not a state")
        const ran = yield* run(["doctor", "--json", ...database.flags], environment)
        assert.strictEqual(ran.status, ExitStatus.storage)
        const findings = storedFindings(ran)
        for (const id of ["cut", "moved"]) {
          const finding = findings.find(({ locations }) => locations.includes(database.locationOf(id)))
          assert.strictEqual(finding?.status, "failure", id)
          assert.include(finding?.message, database.locationOf(id))
          assert.match(finding?.remedy ?? "", /HIVE_CREDENTIAL_KEY|delete/)
        }
        const state = findings.find(({ check }) => check === "state")
        assert.deepStrictEqual([state?.status, state?.locations], ["warning", [database.locationOf("good")]])
        assert.notInclude(ran.stdout + ran.stderr, "secret good")
      }).pipe(Effect.provide(AdenEmulator.layer())))

    it.live("a key that opens none of them is one finding of 8", () =>
      Effect.gen(function*() {
        const database = yield* place
        const environment = yield* emulatorEnvironment
        yield* saveAll(database, ["a", "b"].map(secretOf))
        const ran = yield* run(["doctor", "--json", ...database.flags], { ...environment, HIVE_CREDENTIAL_KEY: newKey })
        assert.strictEqual(ran.status, ExitStatus.storage)
        const failures = document(DoctorDocument, ran).findings.filter(({ status }) => status === "failure")
        assert.lengthOf(failures, 1)
        assert.strictEqual(failures[0]?.check, "encryption key")
        assert.sameMembers([...failures[0]?.locations ?? []], ["a", "b"].map(database.locationOf))
        assert.match(failures[0]?.remedy ?? "", /--namespace/)
      }).pipe(Effect.provide(AdenEmulator.layer())))
  })

  describeWith(server, `aden-creds keys rotate on ${name}`, () => {
    it.live("re-encrypts all with the first key, those of tenants too, leaves the generation, and does nothing the second time", () =>
      Effect.gen(function*() {
        const database = yield* place
        const ids = Array.from({ length: 120 }, (_, index) => `c${index}`)
        yield* saveAll(database, ids.map(secretOf))
        const acme = yield* tenantIn(database)
        const storage = yield* database.storage(newKey)
        const mixed = yield* database.storage(encryptionKey, newKey)
        const blockedSince = DateTime.makeUnsafe("2026-12-01T10:00:00Z")
        for (const id of ["c7", "c8"]) {
          yield* mixed.saveState(id, new CredentialState({ generation: 1, blockedSince }))
        }
        // as an older version wrote it: nobody vouches for it, and the rotation does not either
        yield* database.putState(
          "c8",
          JSON.stringify({ generation: 1, blockedSince: DateTime.formatIso(blockedSince) })
        )
        const [before, hint] = [yield* mixed.loadState("c7"), yield* mixed.loadState("c8")]
        assert.deepStrictEqual(before.blockedSince, blockedSince)
        assert.deepStrictEqual(hint, new CredentialState({ generation: 1, mayBeBlocked: true }))
        const ran = yield* run(["keys", "rotate", ...database.flags], bothKeys)
        assert.deepStrictEqual(ran, {
          status: ExitStatus.done,
          stdout: "121 re-encrypted, 0 already under the first key, 0 failed\n",
          stderr: ""
        })
        for (const id of ids) {
          const { defaultKey } = Option.getOrThrow(yield* storage.load(id))
          assert.strictEqual(defaultKey && Redacted.value(defaultKey.value), `secret ${id}`)
        }
        assert.deepStrictEqual(yield* storage.loadState("c7"), before)
        assert.deepStrictEqual(yield* storage.loadState("c8"), hint)
        assert.strictEqual(
          (yield* run(["list", ...acme], { HIVE_CREDENTIAL_KEY: newKey })).stdout,
          "own\t-\t-\tactive\tnever\n"
        )
        const again = yield* run(["keys", "rotate", "--json", ...database.flags], { HIVE_CREDENTIAL_KEY: newKey })
        assert.deepStrictEqual(document(RotateDocument, again), {
          total: 121,
          rotated: 0,
          unchanged: 121,
          left: [],
          failed: []
        })
      }))

    it.live("names each entry that no key opens, does the others, and ends with 8", () =>
      Effect.gen(function*() {
        const database = yield* place
        yield* saveAll(database, ["good", "cut"].map(secretOf))
        yield* database.putDocument("cut", "damaged")
        const ran = yield* run(["keys", "rotate", "--json", ...database.flags], bothKeys)
        assert.strictEqual(ran.status, ExitStatus.storage)
        const { failed, ...rest } = document(RotateDocument, ran)
        assert.deepStrictEqual(rest, { total: 2, rotated: 1, unchanged: 0, left: [] })
        assert.deepStrictEqual(failed.map(({ error, location }) => [location, error.tag]), [
          [database.locationOf("cut"), "CredentialDecryptionFailed"]
        ])
        assert.strictEqual(yield* database.document("cut"), "damaged")
      }))

    it.live("draws a progress bar on a terminal", () =>
      Effect.gen(function*() {
        const database = yield* place
        yield* saveAll(database, Array.from({ length: 30 }, (_, index) => secretOf(`c${index}`)))
        const ran = yield* run(["keys", "rotate", ...database.flags], bothKeys, { terminal: ["stdout", "stderr"] })
        assert.match(ran.stderr, /Re-encrypting/)
        assert.isTrue(ran.stderr.endsWith("\r\u001b[2K\u001b[?25h"))
      }))

    it.live("loses nothing that others save while it runs, and delays none of it", () =>
      Effect.gen(function*() {
        const database = yield* place
        const ids = Array.from({ length: 400 }, (_, index) => `c${index}`)
        yield* saveAll(database, ids.map(secretOf))
        // a program that was given the new key, and still writes under the old one
        const storage = yield* database.storage(encryptionKey, newKey)
        const rotation = yield* Effect.forkChild(run(["keys", "rotate", "--json", ...database.flags], bothKeys), {
          startImmediately: true
        })
        const saved = new Map<string, string>()
        for (let round = 0; rotation.pollUnsafe() === undefined; round++) {
          const id = ids[(round * 7) % ids.length] ?? ""
          const { generation } = yield* storage.loadState(id)
          yield* storage.save(Credential.fromApiKey({ id, apiKey: Redacted.make(`round ${round}`) }), {
            expectedGeneration: generation
          })
          saved.set(id, `round ${round}`)
        }
        const ran = yield* Fiber.join(rotation)
        assert.strictEqual(ran.status, ExitStatus.done, ran.stderr)
        assert.isAbove(saved.size, 5)
        for (const id of ids) {
          const { defaultKey } = Option.getOrThrow(yield* storage.load(id))
          assert.strictEqual(defaultKey && Redacted.value(defaultKey.value), saved.get(id) ?? `secret ${id}`)
        }
      }))
  })
}

describe("aden-creds --storage with bad input", () => {
  it.live("what names no storage, or two, is wrong usage, and is not repeated", () =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<ReadonlyArray<string>> = [
        ["list", "--storage", "mysql://root:hunter2@localhost/x"],
        ["list", "--storage", ""],
        ["list", "--storage", "redis://:hunter2@localhost", "--directory", "/x"],
        ["list", "--storage", "redis://:hunter2@local host:6379"],
        ["list", "--storage", "redis://:hunter2@localhost/not-a-number"],
        ["list", "--storage", "postgres://u:hun@ter2/hunter2@localhost/x"],
        ["list", "--storage", "redis://:hunter2@localhost", "--namespace", "a b"],
        ["list", "--storage", "redis://:hunter2@localhost", "--namespace", "a/"],
        ["list", "--storage", "redis://:hunter2@localhost", "--table", "x"],
        ["list", "--storage", "postgres://u:hunter2@localhost", "--table", "x;drop"],
        ["list", "--directory", "/x", "--namespace", "a"],
        ["list", "redis://:hunter2@localhost"],
        ["list", "--storge", "redis://:hunter2@localhost"],
        ["token", "redis://:hunter2@localhost", "postgres://u:hunter2@localhost?password=hunter2"],
        ["list", "--storage", "redis:"],
        ["list", "--storage", "postgres:"]
      ]
      for (const args of wrong) {
        const ran = yield* run([...args, "--json"], { ...key, ADEN_CREDS_DEBUG: "1" })
        assert.strictEqual(ran.status, ExitStatus.usage, args.join(" "))
        assert.strictEqual(document(ErrorDocument, ran).error.exitCode, ExitStatus.usage)
        assert.notInclude(ran.stdout + ran.stderr, "hunter2", args.join(" "))
      }
    }))

  it.live("a server that is not there ends with 8, without the password", () =>
    Effect.gen(function*() {
      const port = yield* freePort
      for (const scheme of ["redis", "postgres"]) {
        const flags = ["--storage", `${scheme}://user:hunter2@127.0.0.1:${port}`]
        const listed = yield* run(["list", ...flags], key)
        assert.match(listed.stderr, /^error: [^\n]*127\.0\.0\.1:[^\n]*\n {2}Check [^\n]*\n$/)
        for (const args of [["list"], ["keys", "rotate"], ["doctor"]]) {
          const ran = yield* run([...args, "--json", ...flags], {
            ...key,
            ADEN_API_URL: `http://127.0.0.1:${port}`,
            ADEN_API_KEY: "k",
            ADEN_CREDS_DEBUG: "1"
          })
          assert.strictEqual(ran.status, ExitStatus.storage, `${scheme} ${args.join(" ")}\n${ran.stdout}`)
          assert.notInclude(ran.stdout + ran.stderr, "hunter2")
        }
      }
    }))

  it.live.skipIf(!hasRedisServer)(
    "a Redis server that refuses the password (where one can be started)",
    () =>
      Effect.gen(function*() {
        const { url } = yield* restartableRedis(["--requirepass", "the right one"])
        const withPassword = (password: string) => url.replace("://", `://:${encodeURIComponent(password)}@`)
        for (const [wrong, said] of [[withPassword("hunter2"), "refuses"], [url, "asks for"]] as const) {
          const listed = yield* run(["list", "--json", "--storage", wrong], { ...key, ADEN_CREDS_DEBUG: "1" })
          assert.strictEqual(listed.status, ExitStatus.usage)
          assert.include(document(ErrorDocument, listed).error.message, said)
          const doctor = yield* run(["doctor", "--json", "--storage", wrong], key)
          const [database] = document(DoctorDocument, doctor).findings.filter(({ check }) => check === "database")
          assert.deepStrictEqual([database?.status, database?.exitCode], ["failure", ExitStatus.usage])
          assert.notInclude(listed.stdout + listed.stderr + doctor.stdout + doctor.stderr, "hunter2")
        }
        const right = withPassword("the right one")
        const listed = yield* run(["list", "--storage", right], key)
        assert.strictEqual(listed.status, ExitStatus.done, listed.stderr)
        const byVariable = yield* run(["list", "--storage", "redis:"], { ...key, REDIS_URL: right })
        assert.strictEqual(byVariable.status, ExitStatus.done, byVariable.stderr)
        const doctor = yield* run(["doctor", "--json", "--storage", right], key)
        assert.notInclude(doctor.stdout + doctor.stderr, "the right one")
        assert.notInclude(doctor.stdout + doctor.stderr, encodeURIComponent("the right one"))
      })
  )

  it.live.skipIf(!hasPostgresServer)(
    `a Postgres server that refuses the password, or has no such database${needsPostgresServer}`,
    () =>
      Effect.gen(function*() {
        const { at, url } = yield* restartablePostgres
        for (const wrong of [at("postgres:hunter2@"), url.replace(/postgres$/, "hunter3")]) {
          const listed = yield* run(["list", "--json", "--storage", wrong], { ...key, ADEN_CREDS_DEBUG: "1" })
          assert.strictEqual(listed.status, ExitStatus.usage, listed.stderr)
          const doctor = yield* run(["doctor", "--json", "--storage", wrong], key)
          const [database] = document(DoctorDocument, doctor).findings.filter(({ check }) => check === "database")
          assert.deepStrictEqual([database?.status, database?.exitCode], ["failure", ExitStatus.usage])
          const all = listed.stdout + listed.stderr + doctor.stdout + doctor.stderr
          for (const secret of ["hunter2", password, encodeURIComponent(password)]) assert.notInclude(all, secret)
        }
      })
  )
})

describeWith(redis, "aden-creds on Redis beside another program", () => {
  it.live("what it keeps under our key is named, and left", () =>
    Effect.gen(function*() {
      const [{ place }] = databases
      const database = yield* place
      yield* saveAll(database, [secretOf("ours"), secretOf("taken")])
      const { send } = yield* connected()
      const entry = `{${database.namespace}}:entry:taken`
      yield* send("DEL", entry)
      yield* send("SET", entry, "another program's")
      const environment = yield* emulatorEnvironment
      const ran = yield* run(["doctor", "--json", ...database.flags], environment)
      assert.strictEqual(ran.status, ExitStatus.storage)
      const finding = storedFindings(ran).find(({ status }) => status === "failure")
      assert.include(finding?.message, database.locationOf("taken"))
      assert.include(finding?.message, "another program")
      const rotated = yield* run(["keys", "rotate", "--json", ...database.flags], bothKeys)
      assert.strictEqual(rotated.status, ExitStatus.storage)
      assert.strictEqual(document(RotateDocument, rotated).rotated, 1)
      assert.strictEqual(yield* send("GET", entry), "another program's")
    }).pipe(Effect.provide(AdenEmulator.layer())))
})

describeWith(postgres, "aden-creds on Postgres without tables", () => {
  it.live("what only looks makes none, and says who does", () =>
    Effect.gen(function*() {
      const url = yield* newSchema
      const environment = yield* emulatorEnvironment
      for (const args of [["list"], ["delete", "x"], ["keys", "rotate"], ["doctor"]]) {
        const ran = yield* run([...args, "--storage", url], environment)
        assert.strictEqual(ran.status, ExitStatus.storage, ran.stdout + ran.stderr)
        assert.match(ran.stderr, /relation "aden_credentials" does not exist\n {2}Create the tables: .*aden-creds sync/)
      }
      assert.strictEqual((yield* run(["sync", "--storage", url], environment)).status, ExitStatus.done)
      assert.match((yield* run(["list", "--storage", url], environment)).stdout, /^github\t/m)
      const elsewhere = yield* run(["list", "--storage", url, "--table", "another_one"], environment)
      assert.include(elsewhere.stderr, "another_one")
      const noSchema = yield* run(["list", "--storage", inSchema(postgres.url, "nowhere")], environment)
      assert.strictEqual(noSchema.status, ExitStatus.storage)
    }).pipe(Effect.provide(AdenEmulator.layer())))
})

describe("aden-creds where a package for a database is not installed", () => {
  it.live("says how to install it, and goes on with files", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryDirectory
      const root = path.resolve(import.meta.dirname, "../..")
      fs.cpSync(path.join(root, "src"), path.join(folder, "src"), { recursive: true })
      fs.copyFileSync(path.join(root, "package.json"), path.join(folder, "package.json"))
      fs.mkdirSync(path.join(folder, "node_modules/@effect"), { recursive: true })
      for (const name of ["effect", "@effect/platform-node"]) {
        fs.symlinkSync(path.join(root, "node_modules", name), path.join(folder, "node_modules", name))
      }
      const aden_creds = (...args: ReadonlyArray<string>) =>
        spawnSync(
          process.execPath,
          ["--import", import.meta.resolve("tsx"), path.join(folder, "src/cli/bin.ts"), ...args],
          { encoding: "utf8", cwd: folder, env: { PATH: process.env["PATH"], HIVE_CREDENTIAL_KEY: encryptionKey } }
        )
      const listed = aden_creds("list", "--directory", path.join(folder, "credentials"))
      assert.strictEqual(listed.status, ExitStatus.done, listed.stderr)
      const refused = aden_creds("list", "--json", "--storage", "postgres://u:hunter2@127.0.0.1/x")
      assert.strictEqual(refused.status, ExitStatus.usage, refused.stderr)
      assert.strictEqual(
        refused.stderr,
        "error: --storage needs the package @effect/sql-pg, which is not installed\n  Run: npm install @effect/sql-pg\n"
      )
    }))
})
