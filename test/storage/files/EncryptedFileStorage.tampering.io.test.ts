/** What anybody can do who may write to the files and has no key. */
import { assert, describe, it } from "@effect/vitest"
import type { Redacted } from "effect"
import { DateTime, Effect, Stream } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { Fernet } from "../../../src/encryption/Fernet.ts"
import { CredentialState } from "../../../src/model/CredentialState.ts"
import { CurrentTenant } from "../../../src/model/currentTenant.ts"
import type { CredentialStorage } from "../../../src/storage/CredentialStorage.ts"
import { rotateKeys } from "../../../src/storage/files/KeyRotation.ts"
import { apiKey, valueOf } from "../observing.ts"
import { inDirectory, key, NodeFiles, otherKey, temporaryDirectory } from "../temporaryStorage.ts"

const at = DateTime.makeUnsafe("2026-12-01T10:00:00Z")

const remembered = new CredentialState({
  generation: 1,
  account: {},
  lastConfirmed: at,
  blockedSince: at,
  reauthorizationUrl: "https://aden.example/reconnect",
  refusedSince: at,
  coolDownUntil: at,
  lastError: "ReauthRequired"
})
const hint = new CredentialState({ generation: 1, mayBeBlocked: true })

const places = ["", "acme", "globex", "locks"]

/** A directory with the same entry in the folder of each tenant, and of none. */
const kept = Effect.gen(function*() {
  const root = yield* temporaryDirectory
  const using =
    (tenant: string, keys: ReadonlyArray<Redacted.Redacted<string>> = [key]) =>
    <A, E>(use: (storage: CredentialStorage["Service"]) => Effect.Effect<A, E>) => {
      const used = inDirectory(root, keys)(use)
      return tenant === "" ? used : Effect.provideService(used, CurrentTenant, tenant)
    }
  for (const tenant of places) {
    yield* using(tenant)((storage) => storage.save(apiKey("hubspot", `of ${tenant}`), { state: remembered }))
  }
  const folder = (tenant: string) =>
    tenant === ""
      ? root
      : path.join(root, fs.existsSync(path.join(root, tenant, "credentials")) ? tenant : escapedIn(root))
  const stateFile = (tenant: string, id = "hubspot") => path.join(folder(tenant), "state", `${id}.json`)
  const file = (tenant: string, id = "hubspot") => path.join(folder(tenant), "credentials", `${id}.enc`)
  return { root, using, folder, stateFile, file }
})

const escapedIn = (root: string): string => fs.readdirSync(root).find((name) => name.startsWith("~")) ?? assert.fail()

const edit = (file: string, change: (text: string) => string) =>
  Effect.sync(() => fs.writeFileSync(file, change(fs.readFileSync(file, "utf8"))))
const copy = (from: string, to: string) => Effect.sync(() => fs.copyFileSync(from, to))

const withoutCode = (text: string): string => text.replace(/,"mac":.*/, "}")

describe("EncryptedFileStorage, written to without a key: a state record", () => {
  it.live("is believed as it was written, also where a tenant's folder is named as the directory", () =>
    Effect.gen(function*() {
      const { folder, using } = yield* kept
      for (const tenant of places) {
        const read = using(tenant)((storage) => storage.read("hubspot"))
        assert.deepStrictEqual((yield* read).state, remembered, tenant)
        const direct = inDirectory(folder(tenant))((storage) => storage.loadState("hubspot"))
        assert.deepStrictEqual(yield* direct, remembered, tenant)
      }
    }))

  it.live("of an older version, or of nobody, is a hint until it is next written", () =>
    Effect.gen(function*() {
      const { stateFile, using } = yield* kept
      yield* edit(stateFile(""), withoutCode)
      yield* using("")((storage) =>
        Effect.gen(function*() {
          assert.deepStrictEqual(yield* storage.loadState("hubspot"), hint)
          assert.deepStrictEqual((yield* storage.read("hubspot")).state, hint)
          assert.isTrue(yield* storage.saveState("hubspot", remembered, { expectedGeneration: 1 }))
          const { account: _, ...written } = remembered
          assert.deepStrictEqual(yield* storage.loadState("hubspot"), new CredentialState(written))
        })
      )
    }))

  it.live("of another id or tenant, or with another generation, is a hint", () =>
    Effect.gen(function*() {
      const { stateFile, using } = yield* kept
      const stateOf = (tenant: string, id = "hubspot") => using(tenant)((storage) => storage.loadState(id))
      yield* using("")((storage) => storage.save(apiKey("slack", "1")))
      yield* edit(stateFile("", "slack"), () =>
        fs.readFileSync(stateFile(""), "utf8").replace("\"hubspot\"", "\"slack\""))
      assert.deepStrictEqual(yield* stateOf("", "slack"), hint)
      for (const from of places) {
        for (
          const to of places.filter((place) =>
            place !== from
          )
        ) {
          const own = fs.readFileSync(stateFile(to), "utf8")
          yield* copy(stateFile(from), stateFile(to))
          assert.deepStrictEqual(yield* stateOf(to), hint, `from ${from} to ${to}`)
          yield* edit(stateFile(to), () => own)
        }
      }
      yield* edit(stateFile(""), (text) => text.replace("\"generation\":1", "\"generation\":5"))
      assert.deepStrictEqual(yield* stateOf(""), new CredentialState({ ...hint, generation: 5 }))
    }))

  it.live("is put under the new key by a rotation, unless nobody vouches for it", () =>
    Effect.gen(function*() {
      const { root, stateFile, using } = yield* kept
      yield* using("")((storage) => storage.saveState("blocked", remembered))
      yield* using("")((storage) => storage.save(apiKey("slack", "1"), { state: remembered }))
      yield* edit(stateFile("", "slack"), withoutCode)
      const events = yield* Stream.runCollect(rotateKeys({ directory: root, keys: [otherKey, key] })).pipe(
        Effect.provide(NodeFiles)
      )
      assert.deepStrictEqual(
        events.map(({ _tag }) => _tag).filter((tag) => tag !== "Rotated"),
        ["Found"]
      )
      for (const tenant of places) {
        const read = using(tenant, [otherKey])((storage) => storage.read("hubspot"))
        assert.deepStrictEqual((yield* read).state, remembered, tenant)
      }
      yield* using("", [otherKey])((storage) =>
        Effect.gen(function*() {
          assert.deepStrictEqual((yield* storage.loadState("blocked")).blockedSince, at)
          assert.deepStrictEqual(yield* storage.loadState("slack"), hint)
        })
      )
    }))
})

describe("EncryptedFileStorage, written to without a key: a document", () => {
  it.live("of another tenant is refused, and stays as it is", () =>
    Effect.gen(function*() {
      const { file, using } = yield* kept
      for (
        const [from, to] of [["acme", "globex"], ["globex", "acme"], ["locks", "acme"], ["acme", "locks"]] as const
      ) {
        const own = fs.readFileSync(file(to))
        yield* copy(file(from), file(to))
        const stolen = fs.readFileSync(file(to))
        yield* using(to)((storage) =>
          Effect.gen(function*() {
            for (
              const use of [storage.load("hubspot"), storage.read("hubspot"), storage.save(apiKey("hubspot", "1"))]
            ) {
              const failure = yield* Effect.flip<unknown, unknown, never>(use)
              assert.include(String(failure), "another tenant")
            }
          })
        )
        assert.deepStrictEqual(fs.readFileSync(file(to)), stolen)
        fs.writeFileSync(file(to), own)
      }
    }))

  it.live("of a database is refused", () =>
    Effect.gen(function*() {
      const { file, using } = yield* kept
      const keys = [yield* Fernet.parseKey(key)] as const
      const text = new TextDecoder().decode(yield* Fernet.decrypt(keys, fs.readFileSync(file(""), "utf8")))
      const ofDatabase = text.replace("{", "{\"_namespace\": \"aden-credentials\", ")
      const sealed = yield* Fernet.encrypt(keys, new TextEncoder().encode(ofDatabase))
      yield* edit(file(""), () => sealed)
      yield* using("")((storage) =>
        Effect.gen(function*() {
          assert.include((yield* Effect.flip(storage.load("hubspot"))).message, "belongs to a database")
          assert.include((yield* Effect.flip(storage.read("hubspot"))).message, "belongs to a database")
          assert.isTrue(yield* storage.delete("hubspot"))
          yield* storage.save(apiKey("hubspot", "2"))
          assert.strictEqual(valueOf(yield* storage.load("hubspot")), "2")
        })
      )
    }))
})
