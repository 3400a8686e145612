/** What the next storage brings into an index that a process could not write. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { inDirectory, temporaryDirectory } from "../temporaryStorage.ts"
import { apiKey, readIndex, systemError, withFileSystem } from "./directory.ts"

it.effect("a credential is in the index that the next storage writes, though the first write found no folder for the mark", () =>
  Effect.gen(function*() {
    const directory = yield* temporaryDirectory
    yield* withFileSystem(directory, (base) => ({
      rename: (from, to) =>
        to.endsWith("index.json") ? Effect.fail(systemError("EIO", "i/o error", to)) : base.rename(from, to)
    }))((storage) => Effect.andThen(storage.delete("a"), storage.save(apiKey("a"))))
    yield* inDirectory(directory)(() => Effect.void)
    assert.deepStrictEqual(Object.keys(readIndex(directory).credentials), ["a"])
  }))
