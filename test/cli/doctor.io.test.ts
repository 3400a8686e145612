import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Credential, CredentialStorage, EncryptedFileStorage } from "aden-credentials"
import { DoctorDocument, ExitStatus } from "aden-credentials/cli"
import { AdenEmulator, type AdenEmulatorOptions, Fault } from "aden-credentials/emulator"
import { Effect, Redacted } from "effect"
import { execFileSync, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { CurrentTenant } from "../../src/model/currentTenant.ts"
import { escapedName } from "../../src/storage/format/names.ts"
import { canMount, fill, ownDisk } from "../fixtures/ownDisk.ts"
import { canBeReadOnly, readOnlyFolder } from "../fixtures/readOnlyFolder.ts"
import {
  document,
  emulatorEnvironment,
  encryptionKey,
  type Environment,
  isPlain,
  run,
  temporaryDirectory
} from "./harness.ts"

const otherKey = "DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus="

const save = (directory: string, ids: ReadonlyArray<string>, key = encryptionKey) =>
  CredentialStorage.use((storage) =>
    storage.saveMany(ids.map((id) => Credential.fromApiKey({ id, apiKey: Redacted.make("BSA-secret-value") })))
  ).pipe(
    Effect.provide(EncryptedFileStorage.layer({ directory, keys: [Redacted.make(key)] })),
    Effect.provide(NodeServices.layer)
  )

const enc = (directory: string, name: string) => path.join(directory, "credentials", `${name}.enc`)

/** Everything in a folder, with what must not change about it. */
const snapshot = (directory: string) =>
  fs.readdirSync(directory, { recursive: true, encoding: "utf8" }).toSorted().map((name) => {
    const { ino, mode, mtimeMs, size } = fs.lstatSync(path.join(directory, name))
    return { name, ino, mode, mtimeMs, size }
  })

/** Three credentials, an Aden that is well, and a doctor to see them. */
const setup = Effect.gen(function*() {
  const environment = yield* emulatorEnvironment
  const directory = yield* temporaryDirectory
  yield* save(directory, ["a", "b/c", "d"])
  const examine = Effect.fnUntraced(function*(changed: Environment = {}, in_ = directory) {
    const all = { ...environment, ...changed }
    const before = fs.existsSync(in_) ? snapshot(in_) : []
    const json = yield* run(["doctor", "--json", "--directory", in_], all)
    const text = yield* run(["doctor", "--directory", in_], all)
    assert.deepStrictEqual(fs.existsSync(in_) ? snapshot(in_) : [], before, "nothing is changed")
    assert.strictEqual(text.status, json.status)
    assert.strictEqual(text.stderr, json.stderr)
    assert.isTrue(isPlain(text))
    for (const secret of [encryptionKey, otherKey, environment.ADEN_API_KEY, "BSA-secret", "gAAAA"]) {
      assert.notInclude(text.stdout + text.stderr + json.stdout, secret)
    }
    const { exitCode, findings } = document(DoctorDocument, json)
    assert.strictEqual(json.status, exitCode)
    const wrong = findings.filter(({ status }) => status === "failure" || status === "warning")
    for (const { message, remedy, status } of wrong) {
      assert.isString(remedy, "each says how to fix it")
      assert.include(text.stdout, `\t${status}\t${message}`)
    }
    const failures = findings.filter(({ status }) => status === "failure")
    // two lines for the worst, as of any command that fails
    if (wrong.length === 0) assert.strictEqual(text.stderr, "")
    else assert.match(text.stderr, /^error: .+\n {2}\S.*\n$/)
    assert.strictEqual(json.status === ExitStatus.done, wrong.length === 0, "0 only when all is well")
    return {
      status: json.status,
      stderr: text.stderr,
      findings,
      failures,
      warnings: findings.filter(({ status }) => status === "warning"),
      of: (check: string) => findings.filter((finding) => finding.check === check)
    }
  })
  return { aden: yield* AdenEmulator, directory, environment, examine }
})

const withAden = (options: AdenEmulatorOptions = {}) => Effect.provide(AdenEmulator.layer(options))

describe("aden-creds doctor", () => {
  it.live("all is well: 0, and every check is named", () =>
    Effect.gen(function*() {
      const { directory, environment, examine } = yield* setup
      const { findings, status } = yield* examine()
      assert.strictEqual(status, ExitStatus.done)
      assert.deepStrictEqual(
        findings.map(({ check, status }) => `${check}: ${status}`),
        [
          "settings: ok",
          "settings: ok",
          "settings: ok",
          "encryption key: ok",
          "directory: ok",
          "credentials: ok",
          "index: ok",
          "Aden: ok",
          "Aden: ok",
          "clock: ok"
        ]
      )
      const table = yield* run(
        ["doctor", "--directory", directory],
        { ...environment, NO_COLOR: "1" },
        { terminal: ["stdout"] }
      )
      assert.match(table.stdout, /CHECK .*RESULT .*DETAIL .*HOW TO FIX IT/)
    }).pipe(withAden()))

  it.live("only reads: Aden only gets GET requests", () =>
    Effect.gen(function*() {
      const { aden, examine } = yield* setup
      yield* examine()
      assert.deepStrictEqual([...new Set((yield* aden.requests).map(({ method }) => method))], ["GET"])
    }).pipe(withAden()))

  describe("settings", () => {
    it.live("each that is missing is named, and what does not need it is checked all the same", () =>
      Effect.gen(function*() {
        const { environment, examine } = yield* setup
        const { of, status } = yield* examine({ ADEN_API_URL: undefined, ADEN_API_KEY: "" })
        assert.strictEqual(status, ExitStatus.usage)
        assert.deepStrictEqual(of("settings").map(({ message, status }) => `${status}: ${message}`), [
          "failure: ADEN_API_URL is not set",
          "failure: ADEN_API_KEY is not set",
          `ok: ADEN_TENANT_ID is ${environment.ADEN_TENANT_ID}`
        ])
        assert.strictEqual(of("credentials")[0]?.status, "ok")
        assert.strictEqual(of("Aden")[0]?.status, "skipped")
      }).pipe(withAden()))

    it.live("without any setting at all it reports, and sends no request", () =>
      Effect.gen(function*() {
        const ran = yield* run(["doctor", "--json"], {})
        assert.strictEqual(ran.status, ExitStatus.usage)
        const { findings } = document(DoctorDocument, ran)
        const failures = findings.filter(({ status }) => status === "failure")
        for (const name of ["ADEN_API_URL", "ADEN_API_KEY", "HOME"]) {
          assert.isTrue(failures.some(({ message }) => message.startsWith(name)), name)
        }
        assert.match(ran.stderr, /^error: ADEN_API_URL is not set; and 3 more to fix\n/)
      }))

    it.live.each([
      { name: "a text that is not a URL", ADEN_API_URL: "nonsense" },
      { name: "http to another machine", ADEN_API_URL: "http://aden.example.com" },
      { name: "a tenant with a space", ADEN_TENANT_ID: "a b" },
      { name: "an API key with a line break", ADEN_API_KEY: "x\ny" },
      { name: "a text that is not an encryption key", HIVE_CREDENTIAL_KEY: "nonsense" },
      { name: "an encryption key with an empty place", HIVE_CREDENTIAL_KEY: `${otherKey},` }
    ])("$name is a failure of 2", ({ name: _, ...changed }) =>
      Effect.gen(function*() {
        const { examine } = yield* setup
        const { failures, status } = yield* examine(changed)
        assert.strictEqual(status, ExitStatus.usage)
        assert.lengthOf(failures, 1)
        assert.include(failures[0]?.message, Object.keys(changed)[0] ?? "")
      }).pipe(withAden()))

    it.live("where the keys come from is told, and a source that gives none is a failure of 2", () =>
      Effect.gen(function*() {
        const { environment, examine } = yield* setup
        const folder = yield* temporaryDirectory
        const file = path.join(folder, "key")
        fs.writeFileSync(file, encryptionKey, { mode: 0o600 })
        const texts = Effect.fnUntraced(function*(changed: Environment) {
          const { of, status } = yield* examine(changed)
          return { status, texts: ["settings", "encryption key"].flatMap(of).map(({ message }) => message) }
        })
        const plain = yield* texts({})
        assert.includeMembers(plain.texts, ["ADEN_API_KEY is set", "One key is set, in HIVE_CREDENTIAL_KEY"])
        const moved = yield* texts({
          ADEN_API_KEY: undefined,
          ADEN_API_KEY_COMMAND: `echo '${environment.ADEN_API_KEY}'`,
          HIVE_CREDENTIAL_KEY: undefined,
          HIVE_CREDENTIAL_KEY_FILE: file
        })
        assert.strictEqual(moved.status, ExitStatus.done)
        assert.includeMembers(moved.texts, [
          "The API key is printed by the command in ADEN_API_KEY_COMMAND",
          `One key is set, in ${file}, by HIVE_CREDENTIAL_KEY_FILE`
        ])
        const twice = yield* texts({ HIVE_CREDENTIAL_KEY_FILE: file })
        assert.strictEqual(twice.status, ExitStatus.usage)
        assert.includeMembers(twice.texts, ["HIVE_CREDENTIAL_KEY is set, and HIVE_CREDENTIAL_KEY_FILE too"])
      }).pipe(withAden()))

    it.live("a key file that others can read is a failure of 2, with the command that fixes it", () =>
      Effect.gen(function*() {
        const { examine } = yield* setup
        const home = yield* temporaryDirectory
        const file = path.join(home, ".hive", "secrets", "credential_key")
        fs.mkdirSync(path.dirname(file), { recursive: true })
        fs.writeFileSync(file, encryptionKey, { mode: 0o644 })
        const settings = { HIVE_CREDENTIAL_KEY: undefined, HOME: home }
        const { failures, status } = yield* examine(settings)
        assert.strictEqual(status, ExitStatus.usage)
        assert.deepStrictEqual(failures.map(({ check }) => check), ["encryption key"])
        assert.include(failures[0]?.remedy, `chmod 600 '${file}'`)
        fs.chmodSync(file, 0o600)
        assert.strictEqual((yield* examine(settings)).status, ExitStatus.done)
        fs.chmodSync(path.dirname(file), 0o777)
        const [open] = (yield* examine(settings)).failures
        assert.include(open?.message, `is in ${path.dirname(file)}, where others can replace it`)
        assert.include(open?.remedy, `chmod go-w '${path.dirname(file)}'`)
        assert.strictEqual((yield* examine({ ...settings, ADEN_STRICT_MODES: "false" })).status, ExitStatus.done)
        const [misspelt] = (yield* examine({ ...settings, ADEN_STRICT_MODES: "no" })).failures
        assert.include(misspelt?.message, "ADEN_STRICT_MODES is neither true nor false")
      }).pipe(withAden()))

    describe("a key of the environment, for the directory that Hive uses", () => {
      const key = { HIVE_CREDENTIAL_KEY: encryptionKey }
      const hives = Effect.gen(function*() {
        const { examine } = yield* setup
        const home = yield* temporaryDirectory
        const directory = path.join(home, ".hive", "credentials")
        const file = path.join(home, ".hive", "secrets", "credential_key")
        yield* save(directory, ["a"])
        const writeKeyFile = (text: string) => {
          fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
          fs.writeFileSync(file, text, { mode: 0o600 })
        }
        return {
          home,
          directory,
          file,
          writeKeyFile,
          examine: (changed: Environment = {}, in_ = directory) => examine({ HOME: home, ...key, ...changed }, in_)
        }
      })

      it.live("without a key file is a warning of 2, until the key is saved as it says", () =>
        Effect.gen(function*() {
          const { directory, examine, file, home } = yield* hives
          const { failures, of, status, warnings } = yield* examine()
          assert.strictEqual(status, ExitStatus.usage)
          assert.lengthOf(failures, 0)
          assert.lengthOf(warnings, 1)
          const [warning] = warnings
          assert.strictEqual(warning?.check, "encryption key")
          assert.strictEqual(
            warning?.message,
            `HIVE_CREDENTIAL_KEY is set, and there is no key in ${file}: a Hive server that starts without HIVE_CREDENTIAL_KEY ` +
              `deletes the credentials in ${directory}`
          )
          assert.deepStrictEqual(warning?.locations, [file])
          assert.deepStrictEqual(of("encryption key").map(({ status }) => status), ["ok", "warning"])

          assert.match(warning?.remedy ?? "", /: aden-creds keys save$/)
          assert.strictEqual((yield* run(["keys", "save"], { HOME: home, ...key })).status, ExitStatus.done)
          assert.strictEqual((yield* examine()).status, ExitStatus.done)
          const withFile = yield* examine({ HIVE_CREDENTIAL_KEY: undefined })
          assert.strictEqual(withFile.status, ExitStatus.done, "the key is found without the variable")
        }).pipe(withAden()))

      it.live("an empty key file counts as none", () =>
        Effect.gen(function*() {
          const { examine, writeKeyFile } = yield* hives
          writeKeyFile("\n")
          const { warnings } = yield* examine()
          assert.match(warnings[0]?.message ?? "", /there is no key in/)
          assert.match(warnings[0]?.remedy ?? "", /^Remove that file/)
        }).pipe(withAden()))

      it.live("another key in the key file is a warning: Hive uses the first key of either", () =>
        Effect.gen(function*() {
          const { examine, file, writeKeyFile } = yield* hives
          for (const text of [otherKey, `${otherKey},${encryptionKey}`]) {
            writeKeyFile(text)
            const { failures, status, warnings } = yield* examine()
            assert.strictEqual(status, ExitStatus.usage)
            assert.lengthOf(failures, 0)
            assert.include(warnings[0]?.message, `${file} holds another key than HIVE_CREDENTIAL_KEY`)
            assert.match(warnings[0]?.remedy ?? "", /aden-creds keys save; or unset HIVE_CREDENTIAL_KEY/)
          }
          writeKeyFile(`${encryptionKey},${otherKey}`)
          assert.strictEqual((yield* examine()).status, ExitStatus.done)
        }).pipe(withAden()))

      it.live("a key file that is open to others is a warning, though it is not read", () =>
        Effect.gen(function*() {
          const { examine, file, writeKeyFile } = yield* hives
          writeKeyFile(encryptionKey)
          fs.chmodSync(file, 0o644)
          const { status, warnings } = yield* examine()
          assert.strictEqual(status, ExitStatus.usage)
          assert.include(warnings[0]?.message, `the key file ${file} is open to others`)
          assert.include(warnings[0]?.remedy, `chmod 600 '${file}'`)
        }).pipe(withAden()))

      it.live("is found through links, in the path of the directory and in HIVE_HOME", () =>
        Effect.gen(function*() {
          const { directory, examine, home } = yield* hives
          const link = path.join(home, "hv")
          fs.symlinkSync(path.join(home, ".hive"), link)
          assert.lengthOf((yield* examine({}, path.join(link, "credentials"))).warnings, 1)
          assert.lengthOf((yield* examine({ HIVE_HOME: link })).warnings, 1)
          fs.symlinkSync(directory, path.join(home, "cr"))
          assert.lengthOf((yield* examine({ HIVE_HOME: link }, path.join(home, "cr"))).warnings, 1)
        }).pipe(withAden()))

      it.live("counts a tenant's folder there, HIVE_HOME, and no other directory", () =>
        Effect.gen(function*() {
          const { directory, examine, home } = yield* hives
          yield* save(path.join(directory, "acme"), ["a"])
          assert.lengthOf((yield* examine({}, path.join(directory, "acme"))).warnings, 1)
          yield* save(`${directory}-2`, ["a"])
          assert.lengthOf((yield* examine({}, `${directory}-2`)).warnings, 0)
          const HIVE_HOME = path.join(home, "desktop")
          assert.lengthOf((yield* examine({ HIVE_HOME })).warnings, 0)
          yield* save(path.join(HIVE_HOME, "credentials"), ["a"])
          const { warnings } = yield* examine({ HIVE_HOME }, path.join(HIVE_HOME, "credentials"))
          assert.include(warnings[0]?.message, path.join(HIVE_HOME, "secrets", "credential_key"))
        }).pipe(withAden()))
    })

    it.live("without a key, files are not opened, and are not called broken", () =>
      Effect.gen(function*() {
        const { directory, examine } = yield* setup
        const { failures, of } = yield* examine({ HIVE_CREDENTIAL_KEY: undefined, HOME: directory })
        assert.deepStrictEqual(failures.map(({ check }) => check), ["encryption key"])
        assert.strictEqual(of("credentials")[0]?.status, "skipped")
      }).pipe(withAden()))
  })

  describe("files", () => {
    it.live("a key that opens none of them is one finding of 8, not one for each", () =>
      Effect.gen(function*() {
        const { directory, examine } = yield* setup
        const { failures, status } = yield* examine({ HIVE_CREDENTIAL_KEY: otherKey })
        assert.strictEqual(status, ExitStatus.storage)
        assert.lengthOf(failures, 1)
        assert.strictEqual(failures[0]?.check, "encryption key")
        assert.include(failures[0]?.message, "opens none of 3 files")
        assert.sameMembers([...failures[0]?.locations ?? []], ["a", "b_c", "d"].map((name) => enc(directory, name)))
      }).pipe(withAden()))

    it.live("each that is corrupt, foreign, another's, a link or no file is named", () =>
      Effect.gen(function*() {
        const { directory, examine } = yield* setup
        yield* save(directory, ["foreign"], otherKey)
        fs.truncateSync(enc(directory, "a"), 30)
        fs.copyFileSync(enc(directory, "d"), enc(directory, "moved"))
        fs.symlinkSync(enc(directory, "d"), enc(directory, "link"))
        fs.mkdirSync(enc(directory, "folder"), { mode: 0o700 })
        const { failures, status } = yield* examine()
        assert.strictEqual(status, ExitStatus.storage)
        assert.sameMembers(
          failures.flatMap(({ locations }) => [...locations]),
          ["foreign", "a", "moved", "link", "folder"].map((name) => enc(directory, name))
        )
        assert.isTrue(
          failures.every(({ check, exitCode }) => check === "credentials" && exitCode === ExitStatus.storage)
        )
        assert.isTrue(
          failures.some(({ message }) => message.includes(enc(directory, "moved")) && message.includes("holds another"))
        )
      }).pipe(withAden()))

    it.live("a folder or file that is open to others is named, with the command that fixes it", () =>
      Effect.gen(function*() {
        const { directory, examine } = yield* setup
        fs.chmodSync(directory, 0o755)
        fs.chmodSync(path.join(directory, "metadata"), 0o777)
        fs.chmodSync(enc(directory, "a"), 0o644)
        fs.chmodSync(enc(directory, "d"), 0o604)
        const { failures, of, status } = yield* examine()
        assert.strictEqual(status, ExitStatus.storage)
        assert.deepStrictEqual(of("directory").map(({ locations }) => [...locations].toSorted()), [
          [directory],
          [path.join(directory, "metadata")],
          [enc(directory, "a"), enc(directory, "d")]
        ])
        assert.include(failures[0]?.message, "can be read by others")
        assert.include(failures[1]?.message, "can be written by others, so it is not used")
        // the remedy that is given works
        for (const { remedy } of failures) {
          const command = remedy?.replace(/^Run: /, "") ?? ""
          execFileSync("sh", ["-c", command])
        }
        assert.strictEqual((yield* examine()).status, ExitStatus.done)
      }).pipe(withAden()))

    it.live.skipIf(!canBeReadOnly)(
      "a folder in which nothing can be written is named, and what can be read is read",
      () =>
        Effect.gen(function*() {
          const { directory, examine } = yield* setup
          for (const name of ["credentials", "metadata", "state", "locks"]) {
            const folder = path.join(directory, name)
            yield* Effect.scoped(Effect.gen(function*() {
              yield* readOnlyFolder(folder)
              const { failures, of, status } = yield* examine()
              assert.strictEqual(status, ExitStatus.storage)
              assert.deepStrictEqual(
                failures.map(({ check, locations }) => [check, ...locations]),
                [["directory", folder]]
              )
              assert.match(failures[0]?.message ?? "", /^Storage could not write: \/.*: E(ROFS|ACCES): [a-z -]+$/)
              assert.include(failures[0]?.message, folder)
              assert.strictEqual(of("credentials")[0]?.status, "ok")
            }))
          }
          assert.strictEqual((yield* examine()).status, ExitStatus.done)
        }).pipe(withAden())
    )

    it.live.skipIf(!canBeReadOnly)(
      "where a missing folder, or the directory itself, cannot be made is named",
      () =>
        Effect.gen(function*() {
          const { directory, examine } = yield* setup
          const parent = yield* temporaryDirectory
          yield* Effect.scoped(Effect.gen(function*() {
            yield* readOnlyFolder(parent)
            const { failures, status } = yield* examine({}, path.join(parent, "not", "there"))
            assert.strictEqual(status, ExitStatus.storage)
            assert.deepStrictEqual(failures.map(({ check, locations }) => [check, ...locations]), [[
              "directory",
              parent
            ]])
          }))
          fs.rmSync(path.join(directory, "metadata"), { recursive: true })
          yield* Effect.scoped(Effect.gen(function*() {
            yield* readOnlyFolder(directory)
            // a mount of its own takes what is within along, a mode does not
            assert.include((yield* examine()).failures[0]?.locations ?? [], directory)
          }))
          assert.deepStrictEqual((yield* examine()).failures, [])
        }).pipe(withAden())
    )

    it.live.skipIf(!canMount)("a disk that is full is named, with the folders on it", () =>
      Effect.gen(function*() {
        const { examine } = yield* setup
        const disk = yield* temporaryDirectory
        yield* ownDisk(disk)
        const directory = path.join(disk, "cache")
        yield* save(directory, ["a"])
        assert.strictEqual((yield* examine({}, directory)).status, ExitStatus.done)
        const empty = fill(disk)
        for (const folder of [directory, path.join(disk, "not", "there")]) {
          const { failures, of, status } = yield* examine({}, folder)
          assert.strictEqual(status, ExitStatus.storage)
          assert.deepStrictEqual(failures.map(({ check }) => check), ["directory"])
          assert.match(failures[0]?.message ?? "", /^Storage could not write: \/.*: ENOSPC: no space left on device$/)
          assert.include(failures[0]?.message, disk)
          if (folder === directory) assert.strictEqual(of("credentials")[0]?.status, "ok")
        }
        empty()
        assert.strictEqual((yield* examine({}, directory)).status, ExitStatus.done)
      }).pipe(withAden()))

    it.live("the command that fixes modes follows no link, and a link is named as one", () =>
      Effect.gen(function*() {
        const { directory, examine } = yield* setup
        const other = path.join(yield* temporaryDirectory, "other")
        fs.writeFileSync(other, "not ours", { mode: 0o644 })
        const state = (name: string) => path.join(directory, "state", `${name}.json`)
        fs.rmSync(state("a"))
        fs.symlinkSync(other, state("a"))
        fs.symlinkSync(other, enc(directory, "link"))
        assert.deepStrictEqual(
          (yield* examine()).failures.map(({ check, locations, remedy }) => [check, ...locations, remedy]),
          [
            ["credentials", enc(directory, "link"), `Run: rm '${enc(directory, "link")}'`],
            ["state", state("a"), `Run: rm '${state("a")}'`]
          ]
        )
        fs.chmodSync(state("d"), 0o644)
        const { failures, warnings } = yield* examine()
        assert.lengthOf(warnings, 0)
        const [modes] = failures
        assert.deepStrictEqual(modes?.locations, [state("d")])
        for (const { remedy } of failures) execFileSync("sh", ["-c", remedy?.replace(/^Run: /, "") ?? ""])
        assert.strictEqual(fs.statSync(other).mode & 0o777, 0o644)
        assert.strictEqual((yield* examine()).status, ExitStatus.done)
      }).pipe(withAden()))

    it.live("a directory that does not exist yet is not a failure; a file in its place is", () =>
      Effect.gen(function*() {
        const { directory, examine } = yield* setup
        assert.strictEqual((yield* examine({}, path.join(directory, "absent"))).status, ExitStatus.done)
        const file = path.join(directory, "file")
        fs.writeFileSync(file, "")
        const inFile = yield* run(["doctor", "--directory", file], {
          ...(yield* emulatorEnvironment)
        })
        assert.strictEqual(inFile.status, ExitStatus.storage)
        assert.match(inFile.stderr, /cannot be read/)
      }).pipe(withAden()))

    it.live("an index that is missing, broken or out of step is a warning of 8: the next write repairs it", () =>
      Effect.gen(function*() {
        const { directory, examine } = yield* setup
        const index = path.join(directory, "metadata", "index.json")
        const whole = fs.readFileSync(index, "utf8")
        const cases: ReadonlyArray<readonly [says: RegExp, text: string | undefined]> = [
          [/is missing/, undefined],
          [/cannot be read as an index/, "{\"credentials\": "],
          [/it lacks a$/, whole.replace(/ *"a": .*\n/, "")],
          [/it lists ghost, which is not stored/, whole.replace("\"a\": {", "\"ghost\": {}, \"a\": {")]
        ]
        for (const [says, text] of cases) {
          if (text === undefined) fs.rmSync(index)
          else {
            assert.notStrictEqual(text, whole)
            fs.writeFileSync(index, text, { mode: 0o600 })
          }
          const { status, warnings } = yield* examine()
          assert.strictEqual(status, ExitStatus.storage)
          assert.deepStrictEqual(warnings.map(({ check }) => check), ["index"], String(says))
          assert.match(warnings[0]?.message ?? "", says)
        }
        yield* save(directory, ["new"])
        assert.lengthOf((yield* examine()).warnings, 0)
      }).pipe(withAden()))

    it.live("what is in the place of a file or folder is to be moved away", () =>
      Effect.gen(function*() {
        const { directory, examine } = yield* setup
        const index = path.join(directory, "metadata", "index.json")
        const state = path.join(directory, "state")
        fs.rmSync(index)
        fs.mkdirSync(index, { mode: 0o700 })
        execFileSync("mkfifo", ["-m", "600", enc(directory, "pipe")])
        fs.rmSync(state, { recursive: true })
        fs.writeFileSync(state, "", { mode: 0o600 })
        const { failures } = yield* examine()
        assert.deepStrictEqual(failures.map(({ locations, remedy }) => [...locations, remedy]), [
          [state, "Move it away."],
          [enc(directory, "pipe"), "Move it away, or name another directory."],
          [index, "Move it away, or name another directory."]
        ])
      }).pipe(withAden()))

    it.live("the folders of tenants are checked too; what a tenant's own key opens is skipped", () =>
      Effect.gen(function*() {
        const { directory, examine } = yield* setup
        const acme = path.join(directory, "acme")
        const globex = path.join(directory, "globex")
        yield* Effect.provideService(save(directory, ["t", "u"]), CurrentTenant, "acme")
        yield* Effect.provideService(save(directory, ["t"], otherKey), CurrentTenant, "globex")
        const well = yield* examine()
        assert.strictEqual(well.status, ExitStatus.done)
        assert.deepStrictEqual(
          well.findings.filter(({ status }) => status !== "ok").map(({ message, status }) => [status, message]),
          [["skipped", `The key opens none of 1 file in ${globex}/credentials: the tenant has a key of its own`]]
        )
        fs.chmodSync(acme, 0o777)
        fs.writeFileSync(enc(acme, "t"), "broken", { mode: 0o600 })
        fs.writeFileSync(path.join(globex, "state", "t.json"), "broken", { mode: 0o600 })
        const { failures, status, warnings } = yield* examine()
        assert.strictEqual(status, ExitStatus.storage)
        assert.deepStrictEqual(failures.map(({ check, locations }) => [check, ...locations]), [
          ["directory", acme],
          ["credentials", enc(acme, "t")]
        ])
        assert.deepStrictEqual(warnings.map(({ check, locations }) => [check, ...locations]), [
          ["state", path.join(globex, "state", "t.json")]
        ])
      }).pipe(withAden()))

    it.live("a file that was copied from one tenant's folder into another's is named, one without a tenant is not", () =>
      Effect.gen(function*() {
        const { directory, examine } = yield* setup
        const odd = path.join(directory, escapedName("Odd/Tenant"))
        yield* Effect.provideService(save(directory, ["t"]), CurrentTenant, "acme")
        yield* Effect.provideService(save(directory, ["u"]), CurrentTenant, "Odd/Tenant")
        fs.copyFileSync(enc(directory, "a"), enc(odd, "a"))
        assert.deepStrictEqual((yield* examine()).failures, [])
        fs.copyFileSync(enc(path.join(directory, "acme"), "t"), enc(odd, "t"))
        const { failures, status } = yield* examine()
        assert.strictEqual(status, ExitStatus.storage)
        assert.deepStrictEqual(failures.map(({ check, locations }) => [check, ...locations]), [
          ["credentials", enc(odd, "t")]
        ])
        assert.include(failures[0]?.message, "it belongs to another tenant")
      }).pipe(withAden()))

    it.live.skipIf(process.platform !== "linux")(
      "a file whose name is not UTF-8 text, and so cannot be opened, is named",
      () =>
        Effect.gen(function*() {
          const { directory, environment } = yield* setup
          fs.writeFileSync(
            Buffer.concat([Buffer.from(`${directory}/credentials/x`), Buffer.from([0xff]), Buffer.from(".enc")]),
            fs.readFileSync(enc(directory, "a")),
            { mode: 0o600 }
          )
          const ran = yield* run(["doctor", "--json", "--directory", directory], environment)
          assert.strictEqual(ran.status, ExitStatus.storage)
          const failures = document(DoctorDocument, ran).findings.filter(({ status }) => status === "failure")
          assert.deepStrictEqual(failures.map(({ locations, message }) => [message, ...locations]), [
            [
              `The name of ${enc(directory, "x\ufffd")} is not UTF-8 text: the file cannot be opened`,
              enc(directory, "x\ufffd")
            ]
          ])
        }).pipe(withAden())
    )

    it.live.skipIf(process.getuid?.() !== 0)(
      "a directory that is another user's is a failure of 8, with the command that fixes it",
      () =>
        Effect.gen(function*() {
          const { directory, examine } = yield* setup
          execFileSync("chown", ["-R", "1234", directory])
          const { failures, status } = yield* examine()
          assert.strictEqual(status, ExitStatus.storage)
          const [first] = failures
          assert.deepStrictEqual([first?.check, ...first?.locations ?? []], ["directory", directory])
          assert.include(first?.message, "belongs to user 1234")
          const trusting = yield* examine({ ADEN_STRICT_MODES: "false" })
          assert.strictEqual(trusting.status, ExitStatus.done)
          assert.include(trusting.of("directory")[0]?.message, "ADEN_STRICT_MODES is false")
          execFileSync("sh", ["-c", first?.remedy?.replace(/^Run: /, "") ?? ""])
          assert.lengthOf((yield* examine()).failures, 0)
          fs.chownSync(path.join(directory, "credentials"), 1234, 0)
          assert.deepStrictEqual((yield* examine()).of("directory").map(({ locations }) => [...locations]), [
            [path.join(directory, "credentials")]
          ])
        }).pipe(withAden())
    )

    it.live("a state record that cannot be read is a warning of 8", () =>
      Effect.gen(function*() {
        const { directory, examine } = yield* setup
        fs.writeFileSync(path.join(directory, "state", "a.json"), "nonsense")
        const { status, warnings } = yield* examine()
        assert.strictEqual(status, ExitStatus.storage)
        assert.deepStrictEqual(warnings.map(({ check, locations }) => [check, ...locations]), [
          ["state", path.join(directory, "state", "a.json")]
        ])
      }).pipe(withAden()))
  })

  it.live("a lock whose holder ended, or does not renew it, is a warning of 8; a held lock is not", () =>
    Effect.gen(function*() {
      const { directory, examine } = yield* setup
      const gone = spawnSync(process.execPath, ["-e", ""]).pid
      const lockOf = (id: string) => path.join(directory, "locks", escapedName(id))
      yield* CredentialStorage.use((storage) =>
        storage.withLock(
          "held",
          Effect.gen(function*() {
            const [number = ""] = fs.readdirSync(lockOf("held"))
            const text = fs.readFileSync(path.join(lockOf("held"), number), "utf8")
            assert.lengthOf((yield* examine()).warnings, 0)
            const ended = text.replace(`"pid":${process.pid}`, `"pid":${gone}`)
            assert.notStrictEqual(ended, text)
            for (const [id, content] of [["ended", ended], ["silent", text]] as const) {
              fs.mkdirSync(lockOf(id), { mode: 0o700 })
              fs.writeFileSync(path.join(lockOf(id), "7"), content, { mode: 0o600 })
            }
            fs.utimesSync(path.join(lockOf("silent"), "7"), Date.now() / 1_000 - 60, Date.now() / 1_000 - 60)
            const { status, warnings } = yield* examine()
            assert.strictEqual(status, ExitStatus.storage)
            assert.sameMembers(warnings.map(({ message }) => message), [
              `${path.join(lockOf("ended"), "7")} is held by process ${gone}, which has ended`,
              `${path.join(lockOf("silent"), "7")} is held by process ${process.pid}, which does not renew it`
            ])
          })
        )
      ).pipe(
        Effect.provide(EncryptedFileStorage.layer({ directory, keys: [Redacted.make(encryptionKey)] })),
        Effect.provide(NodeServices.layer)
      )
    }).pipe(withAden()))

  it.live("what keeps a lock from being taken is named; other files in the folder are ignored", () =>
    Effect.gen(function*() {
      const { directory, examine } = yield* setup
      const locks = path.join(directory, "locks")
      const writing = path.join(locks, "writing")
      const elsewhere = path.join(directory, "elsewhere")
      const ofA = path.join(locks, escapedName("a"))
      const ofB = path.join(locks, escapedName("b"))
      fs.renameSync(writing, elsewhere)
      fs.symlinkSync(elsewhere, writing)
      fs.writeFileSync(path.join(locks, ".DS_Store"), "")
      fs.writeFileSync(ofA, "")
      fs.mkdirSync(path.join(ofB, "99"), { recursive: true, mode: 0o700 })
      const { failures, status } = yield* examine()
      assert.strictEqual(status, ExitStatus.storage)
      assert.sameDeepMembers(failures.map(({ check, locations, remedy }) => [check, ...locations, remedy]), [
        ["locks", writing, `Run: rm '${writing}'`],
        ["locks", ofA, "Move it away, or name another directory."],
        ["locks", path.join(ofB, "99"), "Move it away, or name another directory."]
      ])
      fs.rmSync(writing)
      fs.rmSync(ofA)
      fs.rmdirSync(path.join(ofB, "99"))
      fs.chmodSync(ofB, 0o777)
      assert.deepStrictEqual((yield* examine()).failures.map(({ remedy }) => remedy), [`Run: chmod go-w '${ofB}'`])
      fs.rmdirSync(ofB)
      assert.strictEqual((yield* examine()).status, ExitStatus.done)
    }).pipe(withAden()))

  describe("Aden", () => {
    it.live("that is not there is a failure of 4, reported once", () =>
      Effect.gen(function*() {
        const { aden, examine } = yield* setup
        yield* aden.stop
        const { failures, of, status } = yield* examine()
        assert.strictEqual(status, ExitStatus.adenUnavailable)
        assert.lengthOf(failures, 1)
        assert.strictEqual(of("clock")[0]?.status, "skipped")
      }).pipe(withAden()))

    it.live.each([
      {
        name: "an API key that it rejects",
        fault: Fault.Status({ status: 401, body: "{\"error\":\"invalid_api_key\"}" }),
        status: 7
      },
      {
        name: "an API key that may not list",
        fault: Fault.Status({ status: 403, body: "{\"error\":\"forbidden\"}" }),
        status: 7
      },
      { name: "a rate limit", fault: Fault.RateLimited({ retryAfter: 60 }), status: 5 },
      { name: "an answer that does not come from Aden", fault: Fault.ReplaceBody({ body: "<html>" }), status: 4 }
    ])("$name is a failure of $status", ({ fault, status }) =>
      Effect.gen(function*() {
        const { aden, examine } = yield* setup
        yield* aden.setFault(fault, { endpoint: "list" })
        const found = yield* examine()
        assert.strictEqual(found.status, status)
        assert.deepStrictEqual(found.failures.map(({ check }) => check), ["Aden"])
      }).pipe(withAden()))

    it.live("whose list tells of further pages is a warning of 4", () =>
      Effect.gen(function*() {
        const { aden, examine } = yield* setup
        yield* aden.setFault(Fault.Patch({ fields: { has_more: true } }), { endpoint: "list" })
        const found = yield* examine()
        assert.strictEqual(found.status, ExitStatus.adenUnavailable)
        assert.deepStrictEqual(found.failures, [])
        assert.match(found.warnings[0]?.message ?? "", /lists 3 integrations, but the list may be incomplete/)
        assert.strictEqual(found.of("clock")[0]?.status, "ok")
      }).pipe(withAden()))

    it.live("whose clock is off is a warning, or beyond 5 min a failure, each of 2", () =>
      Effect.gen(function*() {
        const { aden, examine } = yield* setup
        yield* aden.setFault(Fault.ClockSkew({ offset: "90 seconds" }))
        const near = yield* examine()
        assert.strictEqual(near.status, ExitStatus.usage)
        assert.include(near.warnings[0]?.message, "clock is 1 min behind Aden's")
        yield* aden.clearFaults
        yield* aden.setFault(Fault.ClockSkew({ offset: "-20 minutes" }))
        const far = yield* examine()
        assert.strictEqual(far.status, ExitStatus.usage)
        assert.include(far.failures[0]?.message, "5 min or more ahead of Aden's")
      }).pipe(withAden()))
  })

  it.live("ends with the status of the worst failure", () =>
    Effect.gen(function*() {
      const { aden, directory, examine } = yield* setup
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 60 }), { endpoint: "list" })
      assert.strictEqual((yield* examine()).status, ExitStatus.rateLimited)
      // a failure goes before a warning
      fs.writeFileSync(path.join(directory, "state", "a.json"), "nonsense")
      assert.strictEqual((yield* examine()).status, ExitStatus.rateLimited)
      fs.truncateSync(enc(directory, "a"), 30)
      const { status, stderr } = yield* examine()
      assert.strictEqual(status, ExitStatus.storage)
      assert.match(stderr, /^error: .*cannot be opened.*; and 1 more to fix\n/)
    }).pipe(withAden()))
})
