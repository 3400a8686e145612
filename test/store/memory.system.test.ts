/** What is left in the memory of a process, which only its heap shows. */
import { assert, it } from "@effect/vitest"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Effect, Redacted } from "effect"
import { execFile } from "node:child_process"
import { readFileSync } from "node:fs"
import { promisify } from "node:util"
import { bundled } from "../fixtures/bundle.ts"
import { temporaryDirectory } from "../storage/temporaryStorage.ts"

it.live("a refresh_token in a response is not in memory afterwards", () =>
  Effect.gen(function*() {
    const aden = yield* AdenEmulator
    const refreshToken = "1//0gZ8rRefreshTokenOfAPerson"
    yield* aden.setFault(Fault.Patch({ fields: { refresh_token: refreshToken } }), { integrationId: "hubspot" })
    const snapshot = `${yield* temporaryDirectory}/program.heapsnapshot`
    const { stdout } = yield* Effect.promise(() =>
      promisify(execFile)(process.execPath, [bundled("test/fixtures/heapProgram.ts"), snapshot], {
        env: { PATH: process.env["PATH"], ADEN_API_URL: aden.url, ADEN_API_KEY: Redacted.value(aden.apiKey) }
      })
    )
    assert.strictEqual(stdout, "fresh\n")
    assert.isAtLeast(yield* aden.countRequests({ integrationId: "hubspot" }), 3)
    const memory = readFileSync(snapshot)
    const last = (yield* aden.issuedTokens).findLast(({ integrationId }) => integrationId === "hubspot")
    // a snapshot holds what a program has: it has the access token, and the key
    assert.isTrue(memory.includes(Redacted.value(last?.value ?? Redacted.make("none"))))
    assert.isTrue(memory.includes(Redacted.value(aden.apiKey)))
    assert.isFalse(memory.includes(refreshToken.slice(4)))
  }).pipe(Effect.scoped, Effect.provide(AdenEmulator.layer())))

it.live("the document of a stored credential is not in memory once it has been read", () =>
  Effect.gen(function*() {
    const snapshot = `${yield* temporaryDirectory}/program.heapsnapshot`
    const { stdout } = yield* Effect.promise(() =>
      promisify(execFile)(process.execPath, [bundled("test/fixtures/documentProgram.ts"), snapshot])
    )
    const createdAt = `created_at "2026-01-02T03:04:05.678901+00:00"`
    assert.strictEqual(stdout, `the-access-token _integration_type ${createdAt}\n`)
    const memory = readFileSync(snapshot, "utf8")
    assert.isTrue(memory.includes(`"the-access-token"`))
    assert.isFalse(memory.includes(`\\"value\\":\\"the-access-token\\"`))
  }).pipe(Effect.scoped))
