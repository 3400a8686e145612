/**
 * Files that Hive's Python code wrote, good and broken. `expected.json` beside them says what they hold.
 */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, FileSystem, Option, Redacted, Schema } from "effect"
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { inspect } from "node:util"
import { Fernet } from "../../../src/encryption/Fernet.ts"
import { Credential, CredentialType } from "../../../src/model/Credential.ts"
import type { CredentialStorage } from "../../../src/storage/CredentialStorage.ts"
import { inDirectory, NodeFiles, temporaryDirectory } from "../temporaryStorage.ts"

const fixtures = fileURLToPath(new URL("../../fixtures/hive-files", import.meta.url))
const read = (...parts: ReadonlyArray<string>) => fs.readFileSync(path.join(fixtures, ...parts), "utf8")
const key = Redacted.make(read("key.txt").trim())

const Expected = Schema.fromJsonString(Schema.Struct({
  credentials: Schema.Array(Schema.Struct({
    id: Schema.String,
    file: Schema.String,
    type: CredentialType,
    plaintext: Schema.String,
    view: Schema.Struct({
      provider_type: Schema.NullOr(Schema.String),
      alias: Schema.NullOr(Schema.String),
      identity: Schema.Record(Schema.String, Schema.String),
      default_key: Schema.NullOr(Schema.String)
    })
  }))
}))
const expected = Schema.decodeUnknownSync(Expected)(read("expected.json")).credentials

const Tampered = Schema.fromJsonString(Schema.Struct({
  files: Schema.Array(Schema.Struct({
    id: Schema.String,
    file: Schema.String,
    python: Schema.Unknown,
    sane: Schema.String
  })),
  index: Schema.Array(Schema.Struct({ variant: Schema.String }))
}))
const tampered = Schema.decodeUnknownSync(Tampered)(read("tampered", "expected.json"))

/** A copy of a tree, as it would lie on a disk. */
const copyOf = Effect.fnUntraced(function*(...tree: ReadonlyArray<string>) {
  const directory = yield* temporaryDirectory
  yield* FileSystem.FileSystem.use((files) => files.copy(path.join(fixtures, ...tree), directory, { overwrite: true }))
    .pipe(Effect.provide(NodeFiles))
  for (const folder of ["", "credentials", "metadata"]) fs.chmodSync(path.join(directory, folder), 0o755)
  return directory
})

/** A storage over a copy of a tree. */
const onCopyOf =
  (...tree: ReadonlyArray<string>) =>
  <A, E>(test: (storage: CredentialStorage["Service"], directory: string) => Effect.Effect<A, E>) =>
    Effect.flatMap(copyOf(...tree), (directory) => inDirectory(directory, [key])((storage) => test(storage, directory)))

const decrypt = Effect.fnUntraced(function*(file: string) {
  const plaintext = yield* Fernet.decrypt([yield* Fernet.parseKey(key)], fs.readFileSync(file, "latin1"))
  return new TextDecoder().decode(plaintext)
})

const traces = (file: string) => {
  const { ino, mode, mtimeMs } = fs.lstatSync(file)
  return { ino, mode, mtimeMs, bytes: fs.readFileSync(file).toString("hex") }
}

const shown = (error: unknown) =>
  `${error} ${JSON.stringify(error)} ${inspect(error, { depth: Infinity, showHidden: true })}`

describe("Hive's files", () => {
  it.effect("are all listed", () =>
    onCopyOf("base")(Effect.fnUntraced(function*(storage) {
      assert.sameMembers([...yield* storage.list], expected.map(({ id }) => id))
    })))

  it.effect.each(expected.map((entry) => ({ ...entry, name: entry.id })))(
    "$name is read, each field as expected",
    (entry) =>
      onCopyOf("base")(Effect.fnUntraced(function*(storage) {
        const credential = Option.getOrThrow(yield* storage.load(entry.id))
        const document = JSON.parse(entry.plaintext)
        assert.strictEqual(credential.id, entry.id)
        assert.strictEqual(credential.type, entry.type)
        assert.deepStrictEqual([...credential.keys.keys()], Object.keys(document.keys))
        for (const [name, stored] of credential.keys) {
          const { expires_at, value } = document.keys[name]
          assert.strictEqual(Redacted.value(stored.value), value)
          assert.strictEqual(
            stored.expiresAt?.epochMilliseconds ?? null,
            expires_at === null ? null : Date.parse(expires_at)
          )
        }
        assert.strictEqual(credential.providerId ?? null, document.provider_id)
        assert.strictEqual(
          credential.lastRefreshed?.epochMilliseconds ?? null,
          document.last_refreshed === null ? null : Date.parse(document.last_refreshed)
        )
        assert.strictEqual(credential.autoRefresh, document.auto_refresh)
        assert.strictEqual(credential.description, document.description)
        assert.deepStrictEqual(credential.tags, document.tags)
        assert.strictEqual(credential.integrationType ?? null, entry.view.provider_type)
        assert.strictEqual(credential.alias ?? null, entry.view.alias)
        const { accountId, email, username, workspace } = credential.identity
        assert.deepStrictEqual(
          Object.fromEntries(
            Object.entries({ email, username, workspace, account_id: accountId }).filter(([, value]) =>
              value !== undefined
            )
          ),
          entry.view.identity
        )
        const token = credential.defaultKey === undefined ? null : Redacted.value(credential.defaultKey.value)
        const { default_key } = entry.view
        // a long value is given by its hash
        assert.strictEqual(
          default_key?.startsWith("sha256:") && token !== null
            ? `sha256:${createHash("sha256").update(token).digest("hex")}`
            : token,
          default_key
        )
      }))
  )

  it.effect.each(expected.map((entry) => ({ ...entry, name: entry.id })))(
    "$name, saved unchanged, is the same text but for updated_at",
    (entry) =>
      onCopyOf("base")(Effect.fnUntraced(function*(storage, directory) {
        const credential = Option.getOrThrow(yield* storage.load(entry.id))
        yield* storage.save(credential)
        const file = path.join(directory, "credentials", entry.file)
        const text = yield* decrypt(file)
        const updatedAt = /"updated_at": "([^"]*)"/
        assert.strictEqual(text.replace(updatedAt, ""), entry.plaintext.replace(updatedAt, ""))
        assert.strictEqual(updatedAt.exec(text)?.[1], "1970-01-01T00:00:00Z")
        assert.lengthOf(fs.readdirSync(path.join(directory, "credentials")), expected.length)
      }))
  )

  it.effect("a renewed credential keeps description, tags, created_at, counts and the refresh token beside it", () =>
    onCopyOf("base")(Effect.fnUntraced(function*(storage, directory) {
      const stored = Option.getOrThrow(yield* storage.load("github_oauth"))
      const answer = Credential.fromAccessToken({
        id: "github_oauth",
        accessToken: Redacted.make("gho_new"),
        expiresAt: DateTime.makeUnsafe("2031-01-01T00:00:00Z")
      })
      yield* storage.save(stored.renewedBy(answer))
      const before = JSON.parse(expected.find(({ id }) => id === "github_oauth")?.plaintext ?? "")
      assert.deepStrictEqual(JSON.parse(yield* decrypt(path.join(directory, "credentials", "github_oauth.enc"))), {
        ...before,
        keys: {
          ...before.keys,
          access_token: { ...before.keys.access_token, value: "gho_new", expires_at: "2031-01-01T00:00:00Z" }
        },
        provider_id: null,
        last_refreshed: null,
        auto_refresh: false,
        updated_at: "1970-01-01T00:00:00Z"
      })
    })))

  describe("broken ones", () => {
    const readable = new Set([
      "p_good",
      "p_orphan_not_in_index",
      "p_valid_fernet_minimal",
      "p_valid_fernet_naive_expiry"
    ])
    const broken = tampered.files.filter(({ id }) => !readable.has(id) && id !== "p_in_index_no_file")

    it.effect.each(broken.map((entry) => ({ ...entry, name: entry.id })))(
      "$name is an error that names it, and stays as it is",
      (entry) =>
        onCopyOf("tampered", "base")(Effect.fnUntraced(function*(storage, directory) {
          const file = path.join(directory, "credentials", entry.file)
          const before = traces(file)
          const replacement = Credential.fromApiKey({ id: entry.id, apiKey: Redacted.make("replacement") })
          for (const refused of [storage.load(entry.id), Effect.asVoid(storage.save(replacement))]) {
            const error = yield* Effect.flip(Effect.asVoid(refused))
            assert.strictEqual(error._tag, "CredentialDecryptionFailed")
            if (error._tag === "CredentialDecryptionFailed") {
              assert.deepInclude(error, { id: entry.id, location: file })
              assert.include(error.remedy, "HIVE_CREDENTIAL_KEY")
            }
            for (const secret of ["\"tok", "tok-one", "tok-two", "{\"id\"", Redacted.value(key), "gAAAA", "nonsense"]) {
              assert.notInclude(shown(error), secret)
            }
          }
          assert.isTrue(yield* storage.exists(entry.id))
          assert.include(yield* storage.list, entry.id)
          assert.strictEqual(
            Redacted.value(Option.getOrThrow(yield* storage.load("p_good")).keys.get("access_token")?.value ?? key),
            "tok-good"
          )
          assert.deepStrictEqual(traces(file), before)
        }))
    )

    it("are nearly all of them", () => {
      assert.strictEqual(broken.length + readable.size + 1, tampered.files.length)
      assert.lengthOf(broken, 23)
    })

    it.effect("one that is in the index but has no file is not found, and one that is not in the index is", () =>
      onCopyOf("tampered", "base")(Effect.fnUntraced(function*(storage) {
        assert.isTrue(Option.isNone(yield* storage.load("p_in_index_no_file")))
        assert.isFalse(yield* storage.exists("p_in_index_no_file"))
        const orphan = Option.getOrThrow(yield* storage.load("p_orphan_not_in_index"))
        assert.strictEqual(Redacted.value(orphan.defaultKey?.value ?? key), "orphan")
        assert.sameMembers(
          [...yield* storage.list],
          tampered.files.map(({ id }) => id).filter((id) => id !== "p_in_index_no_file")
        )
      })))

    it.effect("one with no more than an id is read with defaults", () =>
      onCopyOf("tampered", "base")(Effect.fnUntraced(function*(storage, directory) {
        const credential = Option.getOrThrow(yield* storage.load("p_valid_fernet_minimal"))
        assert.deepInclude(credential, { type: "api_key", autoRefresh: false, description: "", tags: [] })
        assert.strictEqual(credential.keys.size, 0)
        yield* storage.save(credential)
        assert.deepStrictEqual(
          JSON.parse(yield* decrypt(path.join(directory, "credentials", "p_valid_fernet_minimal.enc"))),
          { id: "p_valid_fernet_minimal", keys: {}, updated_at: "1970-01-01T00:00:00Z" }
        )
      })))

    it.effect("a time without a zone is read as UTC, and is never written again", () =>
      onCopyOf("tampered", "base")(Effect.fnUntraced(function*(storage, directory) {
        const credential = Option.getOrThrow(yield* storage.load("p_valid_fernet_naive_expiry"))
        assert.deepStrictEqual(credential.expiresAt, DateTime.makeUnsafe("2030-01-01T00:00:00Z"))
        yield* storage.save(credential)
        assert.include(
          yield* decrypt(path.join(directory, "credentials", "p_valid_fernet_naive_expiry.enc")),
          "\"expires_at\": \"2030-01-01T00:00:00Z\""
        )
      })))

    it.effect.each(tampered.index.map(({ variant }) => variant))(
      "index %s: credentials stay loadable, the list comes from the files, save works",
      (variant) =>
        Effect.gen(function*() {
          const directory = yield* copyOf("base")
          const index = path.join(directory, "metadata", "index.json")
          fs.copyFileSync(path.join(fixtures, "tampered", "index_variants", `${variant}.index.json`), index)
          const ids = expected.map(({ id }) => id)
          yield* inDirectory(directory, [key])(Effect.fnUntraced(function*(storage) {
            assert.isTrue(Option.isSome(yield* storage.load("github_oauth")))
            assert.sameMembers([...yield* storage.list], ids)
            yield* storage.save(Credential.fromApiKey({ id: "new", apiKey: Redacted.make("x") }))
          }))
          const { credentials, generated_at, version } = JSON.parse(fs.readFileSync(index, "utf8"))
          assert.sameMembers(Object.keys(credentials), [...ids, "new"])
          assert.strictEqual(version, "2.0")
          assert.match(generated_at, /Z$/)
          for (const { id, type } of expected) assert.strictEqual(credentials[id].credential_type, type)
          yield* inDirectory(directory, [key])(Effect.fnUntraced(function*(storage) {
            yield* storage.delete("new")
            assert.sameMembers([...yield* storage.list], ids)
          }))
        })
    )
  })

  it.effect("of today have an index whose entries are those that are written here", () =>
    Effect.gen(function*() {
      const directory = yield* copyOf("today")
      const index = path.join(directory, "metadata", "index.json")
      const hives = JSON.parse(fs.readFileSync(index, "utf8"))
      fs.rmSync(index)
      const todaysKey = Redacted.make(read("today.key.txt").trim())
      yield* inDirectory(directory, [todaysKey])((storage) =>
        storage.save(Credential.fromApiKey({ id: "new", apiKey: Redacted.make("x") }))
      )
      const { credentials, version } = JSON.parse(fs.readFileSync(index, "utf8"))
      assert.strictEqual(version, hives.version)
      // Hive writes the same moments with their offset
      const inUtc = (name: string, value: unknown) =>
        typeof value === "string" && /_at$|_refreshed$/.test(name) ? Date.parse(value) : value
      for (const [id, entry] of Object.entries(hives.credentials)) {
        assert.strictEqual(JSON.stringify(credentials[id], inUtc), JSON.stringify(entry, inUtc))
      }
      assert.sameMembers(Object.keys(credentials), [...Object.keys(hives.credentials), "new"])
    }))
})
