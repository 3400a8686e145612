/** `keys generate --save` and `keys save`: the key file, made once and never written over. */
import { assert, describe, it } from "@effect/vitest"
import { Fernet } from "aden-credentials"
import { ErrorDocument, ExitStatus, KeyFileDocument, ListDocument } from "aden-credentials/cli"
import { Effect, Redacted } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { canMount, fill, ownDisk } from "../fixtures/ownDisk.ts"
import { canBeReadOnly, readOnlyFolder } from "../fixtures/readOnlyFolder.ts"
import { document, encryptionKey, isPlain, type Ran, run, runProcess, temporaryDirectory } from "./harness.ts"

const otherKey = "DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus="

const generate = ["keys", "generate", "--save"]
const save = ["keys", "save"]

const setup = Effect.map(temporaryDirectory, (home) => {
  const root = path.join(home, ".hive")
  const secrets = path.join(root, "secrets")
  const file = path.join(secrets, "credential_key")
  return { home, root, secrets, file, environment: { HOME: home } }
})

const keyIn = (file: string) => fs.readFileSync(file, "utf8").trim()
const mode = (place: string) => (fs.lstatSync(place).mode & 0o777).toString(8)

const isKey = (text: string) => Fernet.parseKey(Redacted.make(text))

/** A failure of this status, which shows no key. */
const expectFailure = (ran: Ran, status: number, says: RegExp, remedy: RegExp) => {
  assert.strictEqual(ran.status, status, ran.stderr)
  assert.isTrue(isPlain(ran))
  const [what = "", how = ""] = ran.stderr.split("\n")
  assert.match(what, says)
  assert.match(how, remedy)
  for (const key of [encryptionKey, otherKey]) assert.notInclude(ran.stdout + ran.stderr, key.slice(0, 8))
}

describe("aden-creds keys generate --save", () => {
  it.live("makes the key file, open only to its owner, and prints where it is but not the key", () =>
    Effect.gen(function*() {
      const { environment, file, root, secrets } = yield* setup
      const ran = yield* run(generate, environment)
      assert.deepStrictEqual({ ...ran }, { status: ExitStatus.done, stdout: `The key is in ${file}\n`, stderr: "" })
      yield* isKey(keyIn(file))
      assert.deepStrictEqual([root, secrets, file].map(mode), ["700", "700", "600"])
      assert.deepStrictEqual(fs.readdirSync(secrets), ["credential_key"])
      assert.deepStrictEqual(document(ListDocument, yield* run(["list", "--json"], environment)), [], "it is used")
    }))

  it.live("says so as a document too, and makes it below HIVE_HOME where that is set", () =>
    Effect.gen(function*() {
      const { environment, home } = yield* setup
      const file = path.join(home, "desktop", "secrets", "credential_key")
      const ran = yield* run([...generate, "--json"], { ...environment, HIVE_HOME: path.join(home, "desktop") })
      assert.deepStrictEqual(document(KeyFileDocument, ran), { location: file })
      assert.notInclude(ran.stdout + ran.stderr, keyIn(file))
      assert.deepStrictEqual(fs.readdirSync(home), ["desktop"])
    }))

  it.live("never writes over a key file, nor over anything else in its place", () =>
    Effect.gen(function*() {
      const { environment, file, home, secrets } = yield* setup
      yield* run(generate, environment)
      const before = fs.readFileSync(file, "utf8")
      const again = yield* run([...generate, "--json"], environment)
      expectFailure(
        again,
        ExitStatus.usage,
        /credential_key is there already, and is never written over$/,
        /Use the key/
      )
      assert.strictEqual(document(ErrorDocument, again).error.setting, file)
      assert.strictEqual(fs.readFileSync(file, "utf8"), before)

      fs.writeFileSync(file, "")
      expectFailure(yield* run(generate, environment), ExitStatus.usage, /credential_key is empty$/, /Remove it/)
      assert.strictEqual(fs.readFileSync(file, "utf8"), "")

      fs.rmSync(file)
      const elsewhere = path.join(home, "elsewhere")
      fs.symlinkSync(elsewhere, file)
      expectFailure(yield* run(generate, environment), ExitStatus.usage, /is a link to nothing$/, /Remove it/)
      assert.isFalse(fs.existsSync(elsewhere), "a link is not followed")
      fs.writeFileSync(elsewhere, otherKey, { mode: 0o600 })
      expectFailure(yield* run(generate, environment), ExitStatus.usage, /is there already/, /Use the key/)
      assert.strictEqual(keyIn(elsewhere), otherKey)

      fs.rmSync(file)
      fs.mkdirSync(file)
      expectFailure(
        yield* run(generate, environment),
        ExitStatus.usage,
        /is not a file that can hold a key$/,
        /Move it/
      )
      assert.deepStrictEqual(fs.readdirSync(secrets), ["credential_key"], "nothing is left beside it")
    }))

  it.live("says so where a file is in the place of a folder", () =>
    Effect.gen(function*() {
      const { environment, root, secrets } = yield* setup
      fs.writeFileSync(root, "")
      expectFailure(yield* run(generate, environment), ExitStatus.storage, /\.hive: is not a directory/, /./)
      fs.rmSync(root)
      fs.mkdirSync(root, { mode: 0o700 })
      fs.writeFileSync(secrets, "", { mode: 0o600 })
      expectFailure(yield* run(generate, environment), ExitStatus.storage, /secrets: is not a directory/, /./)
    }))

  it.live("refuses folders that others can look into or write, with the command that fixes it", () =>
    Effect.gen(function*() {
      const { environment, file, home, root, secrets } = yield* setup
      fs.mkdirSync(secrets, { recursive: true, mode: 0o700 })
      for (const wide of [0o755, 0o710, 0o777]) {
        fs.chmodSync(secrets, wide)
        expectFailure(
          yield* run(generate, environment),
          ExitStatus.storage,
          /secrets is open to others$/,
          /^ {2}Run: chmod go-rwx '.*secrets'$/
        )
      }
      fs.chmodSync(secrets, 0o700)
      fs.chmodSync(root, 0o775)
      expectFailure(yield* run(generate, environment), ExitStatus.storage, /\.hive can be written by others/, /go-w/)
      fs.chmodSync(root, 0o755)
      fs.rmdirSync(secrets)
      fs.mkdirSync(path.join(home, "elsewhere"), { mode: 0o700 })
      fs.symlinkSync(path.join(home, "elsewhere"), secrets)
      expectFailure(yield* run(generate, environment), ExitStatus.storage, /secrets is a symbolic link/, /rm/)
      assert.deepStrictEqual(fs.readdirSync(path.join(home, "elsewhere")), [])
      fs.rmSync(secrets)
      assert.strictEqual((yield* run(generate, environment)).status, ExitStatus.done)
      assert.strictEqual(mode(root), "755", "a folder that was there keeps its mode")
      assert.isTrue(fs.existsSync(file))
    }))

  it.live("makes no second key where HIVE_CREDENTIAL_KEY has one, and says how that gets into the file", () =>
    Effect.gen(function*() {
      const { environment, home } = yield* setup
      const ran = yield* run(generate, { ...environment, HIVE_CREDENTIAL_KEY: encryptionKey })
      expectFailure(ran, ExitStatus.usage, /HIVE_CREDENTIAL_KEY is set/, /aden-creds keys save$/)
      assert.deepStrictEqual(fs.readdirSync(home), [])
      const empty = yield* run(generate, { ...environment, HIVE_CREDENTIAL_KEY: "" })
      assert.strictEqual(empty.status, ExitStatus.done, "empty is not set")
    }))

  it.live("without a home directory says what to set", () =>
    Effect.gen(function*() {
      expectFailure(yield* run(generate), ExitStatus.usage, /HOME is not set/, /HIVE_HOME/)
    }))

  it.live("of processes that make it at once one succeeds", () =>
    Effect.gen(function*() {
      const { environment, file, secrets } = yield* setup
      const ran = yield* Effect.all(Array.from({ length: 4 }, () => runProcess(generate, environment)), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(ran.map(({ status }) => status).toSorted(), [
        ExitStatus.done,
        ExitStatus.usage,
        ExitStatus.usage,
        ExitStatus.usage
      ])
      yield* isKey(keyIn(file))
      assert.deepStrictEqual(fs.readdirSync(secrets), ["credential_key"])
    }), 60_000)

  it.live.skipIf(!canMount)(
    "on a full disk leaves nothing in its place, and is made when there is room again",
    () =>
      Effect.gen(function*() {
        const { environment, file, root, secrets } = yield* setup
        fs.mkdirSync(root, { mode: 0o700 })
        yield* ownDisk(root, "64k")
        fs.mkdirSync(secrets, { mode: 0o700 })
        const empty = fill(root)
        expectFailure(
          yield* run(generate, environment),
          ExitStatus.storage,
          /could not save the encryption key.*ENOSPC/,
          /./
        )
        assert.deepStrictEqual(fs.readdirSync(secrets), [])
        empty()
        assert.strictEqual((yield* run(generate, environment)).status, ExitStatus.done)
        yield* isKey(keyIn(file))
      })
  )
})

describe("aden-creds keys save", () => {
  it.live("puts the keys of HIVE_CREDENTIAL_KEY into the key file, and is done when they are there already", () =>
    Effect.gen(function*() {
      const { environment, file, secrets } = yield* setup
      const all = { ...environment, HIVE_CREDENTIAL_KEY: ` ${encryptionKey}, ${otherKey} ` }
      const ran = yield* run(save, all)
      assert.deepStrictEqual({ ...ran }, { status: ExitStatus.done, stdout: `The key is in ${file}\n`, stderr: "" })
      assert.strictEqual(keyIn(file), `${encryptionKey},${otherKey}`)
      assert.deepStrictEqual([secrets, file].map(mode), ["700", "600"])
      assert.deepStrictEqual(document(ListDocument, yield* run(["list", "--json"], environment)), [])
      const { ino } = fs.statSync(file)
      assert.deepStrictEqual(document(KeyFileDocument, yield* run([...save, "--json"], all)), { location: file })
      assert.strictEqual(fs.statSync(file).ino, ino)
    }))

  it.live("does not write over another key", () =>
    Effect.gen(function*() {
      const { environment, file } = yield* setup
      yield* run(save, { ...environment, HIVE_CREDENTIAL_KEY: encryptionKey })
      for (const other of [otherKey, `${encryptionKey},${otherKey}`]) {
        const ran = yield* run(save, { ...environment, HIVE_CREDENTIAL_KEY: other })
        expectFailure(ran, ExitStatus.usage, /is there already/, /move the file away first, and keep it/)
      }
      assert.strictEqual(keyIn(file), encryptionKey)
    }))

  const isThere = Effect.fnUntraced(function*({ environment, file }: Effect.Success<typeof setup>) {
    const before = fs.statSync(file)
    const saved = yield* run(save, { ...environment, HIVE_CREDENTIAL_KEY: encryptionKey })
    assert.deepStrictEqual({ ...saved }, { status: ExitStatus.done, stdout: `The key is in ${file}\n`, stderr: "" })
    for (
      const ran of [
        yield* run(save, { ...environment, HIVE_CREDENTIAL_KEY: otherKey }),
        yield* run(generate, environment)
      ]
    ) {
      expectFailure(ran, ExitStatus.usage, /is there already, and is never written over$/, /Use the key/)
    }
    assert.deepStrictEqual([fs.statSync(file).ino, fs.statSync(file).mtimeMs], [before.ino, before.mtimeMs])
    assert.deepStrictEqual(fs.readdirSync(path.dirname(file)), ["credential_key"])
  })

  it.live("looks for the file first: in folders that others can look into nothing is to be made", () =>
    Effect.gen(function*() {
      const places = yield* setup
      yield* run(save, { ...places.environment, HIVE_CREDENTIAL_KEY: encryptionKey })
      fs.chmodSync(places.secrets, 0o755)
      fs.chmodSync(places.root, 0o775)
      yield* isThere(places)
    }))

  it.live.skipIf(!canBeReadOnly)(
    "looks for the file first: where nothing can be written it may be there already",
    () =>
      Effect.gen(function*() {
        const places = yield* setup
        yield* run(save, { ...places.environment, HIVE_CREDENTIAL_KEY: encryptionKey })
        yield* readOnlyFolder(places.root)
        yield* isThere(places)
      })
  )

  it.live("removes the second name that a process left which was killed while it made the file, an hour later", () =>
    Effect.gen(function*() {
      const { environment, file, secrets } = yield* setup
      const all = { ...environment, HIVE_CREDENTIAL_KEY: encryptionKey }
      yield* run(save, all)
      const second = `.aden-${"0123456789abcdef".repeat(2)}.tmp`
      fs.linkSync(file, path.join(secrets, second))
      assert.strictEqual((yield* run(save, all)).status, ExitStatus.done)
      assert.deepStrictEqual(fs.readdirSync(secrets), [second, "credential_key"])
      const anHourAgo = Date.now() / 1_000 - 3_700
      fs.utimesSync(file, anHourAgo, anHourAgo)
      assert.strictEqual((yield* run(save, all)).status, ExitStatus.done)
      assert.deepStrictEqual(fs.readdirSync(secrets), ["credential_key"])
      assert.strictEqual(keyIn(file), encryptionKey)
    }))

  it.live("is not done where the file that holds the key is open to others", () =>
    Effect.gen(function*() {
      const { environment, file } = yield* setup
      const all = { ...environment, HIVE_CREDENTIAL_KEY: encryptionKey }
      yield* run(save, all)
      fs.chmodSync(file, 0o644)
      expectFailure(yield* run(save, all), ExitStatus.usage, /credential_key is open to others$/, /chmod 600/)
    }))

  it.live("without a key, or with one that makes no sense, makes nothing", () =>
    Effect.gen(function*() {
      const { environment, home } = yield* setup
      const cases = [
        [undefined, /HIVE_CREDENTIAL_KEY is not set$/, /keys generate --save/],
        ["", /HIVE_CREDENTIAL_KEY is not set$/, /keys generate --save/],
        ["nonsense", /HIVE_CREDENTIAL_KEY is not a Fernet key/, /./],
        [`${encryptionKey},`, /HIVE_CREDENTIAL_KEY has an empty entry/, /./]
      ] as const
      for (const [HIVE_CREDENTIAL_KEY, says, remedy] of cases) {
        expectFailure(yield* run(save, { ...environment, HIVE_CREDENTIAL_KEY }), ExitStatus.usage, says, remedy)
      }
      assert.deepStrictEqual(fs.readdirSync(home), [])
    }))
})
