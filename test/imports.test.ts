/**
 * The rules of imports between rooms, by which `npm run check:circular` judges `src`.
 */
import { assert, describe, it } from "@effect/vitest"
import { entryFault, importFault } from "../scripts/oxlint/plugin.mjs"

describe("imports between rooms", () => {
  it.each<readonly [rule: string, file: string, specifier: string, fault: RegExp]>([
    ["run down", "src/util/SingleFlight.ts", "../errors/CredentialError.ts", /util does not import errors/],
    [
      "run down, for types too",
      "src/model/Credential.ts",
      "../store/CredentialStore.ts",
      /model does not import store/
    ],
    ["do not cross a floor", "src/providers/aden/AdenClient.ts", "../../storage/CredentialStorage.ts", /one floor/],
    ["of the store reach ports only", "src/store/sync.ts", "../storage/files/PrivateFiles.ts", /knows ports/],
    ["of the store reach no Aden", "src/store/sync.ts", "../providers/aden/AdenClient.ts", /knows ports/],
    ["of store/core reach no effects", "src/store/core/decide.ts", "effect/Effect", /pure functions/],
    ["of store/core reach no clock", "src/store/core/decide.ts", "effect/Clock", /pure functions/],
    ["of store/core reach nothing of the store", "src/store/core/decide.ts", "../sync.ts", /core does not import/],
    [
      "do not lead from one database to another",
      "src/storage/redis/RedisStorage.ts",
      "../postgres/tables.ts",
      /one floor/
    ],
    [
      "do not lead from files to a database",
      "src/storage/files/IndexFile.ts",
      "../redis/RedisDatabase.ts",
      /one floor/
    ],
    ["of the command reach no private module", "src/cli/layers.ts", "../storage/files/PrivateFiles.ts", /is private/],
    ["do not lead to the command", "src/emulator/page.ts", "../cli/table.ts", /emulator does not import cli/],
    ["do not lead to the emulator", "src/server/LoopbackServer.ts", "../emulator/Fault.ts", /server does not import/],
    ["do not lead to what is for tests", "src/http/redirects.ts", "../testing/TestCredentials.ts", /only index\.ts/],
    [
      "do not lead to what is for the command",
      "src/storage/files/IndexFile.ts",
      "./inspect.ts",
      /for the command line/
    ],
    [
      "of index.ts reach public modules only",
      "src/index.ts",
      "./storage/files/PrivateFiles.ts",
      /knows|private|not public/
    ],
    ["name the module, not an entry point", "src/http/redirects.ts", "../index.ts", /entry point/],
    ["keep Node out of the core", "src/store/sync.ts", "node:fs", /run on Node/],
    ["start no program in the command", "src/cli/bin.ts", "node:child_process", /programs are started by/],
    ["start no program in the core", "src/store/sync.ts", "effect/process/ChildProcess", /programs are started by/]
  ])("%s", (_, file, specifier, fault) => {
    assert.match(importFault(file, specifier) ?? "allowed", fault)
  })

  it.each<readonly [rule: string, file: string, specifier: string]>([
    ["a floor below", "src/store/sync.ts", "../model/Credential.ts"],
    ["a port", "src/store/sync.ts", "../storage/CredentialStorage.ts"],
    ["the same room", "src/storage/files/IndexFile.ts", "./PrivateFiles.ts"],
    ["what rooms show to the command", "src/cli/commands/doctor.ts", "../../storage/files/inspect.ts"],
    ["public modules to the command", "src/cli/layers.ts", "../storage/redis/RedisStorage.ts"],
    ["Node to the command", "src/cli/bin.ts", "node:fs"],
    ["programs to exec", "src/cli/childProcess.ts", "node:child_process"],
    ["programs to the command of a secret", "src/encryption/secretSource.ts", "effect/process/ChildProcess"]
  ])("allowed: %s", (_, file, specifier) => {
    assert.strictEqual(importFault(file, specifier), undefined)
  })
})

describe("imports of the class Entry as a value", () => {
  it.each<readonly [file: string, specifier: string, name: string]>([
    ["src/store/commit.ts", "./core/Entry.ts", "Entry"],
    ["src/store/core/decide.ts", "./Entry.ts", "Entry"],
    ["src/store/commit.ts", "./core/Entry.ts", "*"]
  ])("refused in %s, from %s: %s", (file, specifier, name) => {
    assert.match(entryFault(file, specifier, name) ?? "allowed", /only transition makes entries/)
  })

  it.each<readonly [file: string, specifier: string, name: string]>([
    ["src/store/core/transition.ts", "./Entry.ts", "Entry"],
    ["src/store/Cell.ts", "./core/Entry.ts", "emptyEntry"],
    ["src/store/commit.ts", "./core/decide.ts", "Entry"],
    ["test/store/core/entryEvents.ts", "../../../src/store/core/Entry.ts", "Entry"]
  ])("allowed in %s, from %s: %s", (file, specifier, name) => {
    assert.strictEqual(entryFault(file, specifier, name), undefined)
  })
})
