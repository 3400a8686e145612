/** An index that is brought in step again and again: what was known of the files must not outlive them. */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Result } from "effect"
import * as fs from "node:fs"
import { Fernet } from "../../../src/encryption/Fernet.ts"
import { CredentialFiles } from "../../../src/storage/files/CredentialFiles.ts"
import { IndexFile } from "../../../src/storage/files/IndexFile.ts"
import { makePrivateFiles } from "../../../src/storage/files/PrivateFiles.ts"
import { encodeDocument } from "../../../src/storage/format/HiveDocument.ts"
import { indexEntryOf } from "../../../src/storage/format/HiveIndex.ts"
import { inDirectory, key, NodeFiles, temporaryDirectory } from "../temporaryStorage.ts"
import { apiKey, enc, indexOf, readIndex, traces } from "./directory.ts"

const entryOf = Effect.fnUntraced(function*(id: string, at: string) {
  const document = encodeDocument(apiKey(id), DateTime.makeUnsafe(at), undefined)
  return indexEntryOf(apiKey(id), Result.getOrThrow(document))
})

/** The index of a directory with a and b, when it knows of both that their entries are theirs. */
const settledIndex = Effect.gen(function*() {
  const directory = yield* temporaryDirectory
  yield* inDirectory(directory)((storage) => storage.saveMany([apiKey("a"), apiKey("b")]))
  const files = yield* makePrivateFiles
  const credentials = new CredentialFiles(files, `${directory}/credentials`, [yield* Fernet.parseKey(key)], undefined)
  const index = new IndexFile(files, directory, credentials)
  const update = Effect.fnUntraced(function*(changes: Record<string, string | undefined>) {
    yield* index.update(new Map(Object.entries(changes)), Effect.void)
    return Object.keys(readIndex(directory).credentials).toSorted()
  })
  yield* update({ a: yield* entryOf("a", "2100-01-01T00:00:00Z") })
  return { directory, update }
}).pipe(Effect.provide(NodeFiles))

describe("an index that was in step with its files", () => {
  it.effect("takes over what was saved since, and is not written where nothing was", () =>
    Effect.gen(function*() {
      const { directory, update } = yield* settledIndex
      const b = yield* entryOf("b", "2100-01-02T00:00:00Z")
      assert.deepStrictEqual(yield* update({ b }), ["a", "b"])
      assert.strictEqual(readIndex(directory).credentials.b.updated_at, "2100-01-02T00:00:00Z")
      assert.strictEqual(readIndex(directory).credentials.a.updated_at, "2100-01-01T00:00:00Z")
      const before = traces(indexOf(directory))
      yield* update({ b })
      yield* update({})
      // of two processes, the one that saved later wins
      yield* update({ b: yield* entryOf("b", "2100-01-01T00:00:00Z") })
      assert.deepStrictEqual(traces(indexOf(directory)), before)
    }))

  it.effect("loses what lost its file and gains what has one, also where their number stays the same", () =>
    Effect.gen(function*() {
      const { directory, update } = yield* settledIndex
      const a = yield* entryOf("a", "2100-01-03T00:00:00Z")
      // as Hive does, which is to say without the index
      const elsewhere = yield* temporaryDirectory
      yield* inDirectory(elsewhere)((storage) => storage.save(apiKey("c")))
      fs.copyFileSync(enc(elsewhere, "c"), enc(directory, "c"))
      fs.rmSync(enc(directory, "b"))
      assert.deepStrictEqual(yield* update({ a }), ["a", "c"])
      fs.rmSync(enc(directory, "c"))
      assert.deepStrictEqual(yield* update({}), ["a"])
      yield* inDirectory(directory)((storage) => storage.delete("a"))
      assert.deepStrictEqual(yield* update({ a: undefined }), [])
    }))

  it.effect("gains the one of two ids with the same plain name whose file the other's entry seemed to be", () =>
    Effect.gen(function*() {
      const { directory, update } = yield* settledIndex
      // c/d has the plain name, c_d the escaped one
      yield* inDirectory(directory)((storage) =>
        Effect.andThen(storage.save(apiKey("c/d")), storage.save(apiKey("c_d")))
      )
      const { credentials: { "c/d": _lost, ...credentials }, ...index } = readIndex(directory)
      fs.writeFileSync(indexOf(directory), JSON.stringify({ ...index, credentials }))
      assert.deepStrictEqual(yield* update({}), ["a", "b", "c/d", "c_d"])
    }))

  it.effect("has no entry for an id whose file was not written", () =>
    Effect.gen(function*() {
      const { update } = yield* settledIndex
      assert.deepStrictEqual(yield* update({ d: yield* entryOf("d", "2100-01-04T00:00:00Z") }), ["a", "b"])
    }))

  it.effect("is read again when another program wrote it", () =>
    Effect.gen(function*() {
      const { directory, update } = yield* settledIndex
      const { credentials, ...index } = readIndex(directory)
      fs.writeFileSync(
        indexOf(directory),
        JSON.stringify({ ...index, mine: 1, credentials: { b: credentials.b, a: { label: "1.0" } } }, null, 2)
      )
      assert.deepStrictEqual(yield* update({}), ["a", "b"])
      assert.strictEqual(readIndex(directory).mine, 1)
      assert.deepStrictEqual(Object.keys(readIndex(directory).credentials.a), Object.keys(credentials.a))
      // an entry on each line, whatever the layout before
      assert.lengthOf(fs.readFileSync(indexOf(directory), "utf8").trim().split("\n"), 10)
    }))
})
