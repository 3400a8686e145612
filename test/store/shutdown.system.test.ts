/** What only a process of its own shows: that it ends by itself. */
import { assert, describe, it } from "@effect/vitest"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Clock, Effect, Redacted } from "effect"
import { spawn } from "node:child_process"
import { bundled } from "../fixtures/bundle.ts"

/** Runs the program; how long its process lived after it had printed the token, in ms. */
const run = Effect.gen(function*() {
  const { apiKey, tenantId, url } = yield* AdenEmulator
  const ran = yield* Effect.callback<
    { readonly status: number | null; readonly stdout: string; readonly stderr: string }
  >(
    (resume) => {
      const child = spawn(process.execPath, [bundled("test/fixtures/program.ts")], {
        env: {
          PATH: process.env["PATH"],
          ADEN_API_URL: url,
          ADEN_API_KEY: Redacted.value(apiKey),
          ADEN_TENANT_ID: tenantId
        },
        stdio: ["ignore", "pipe", "pipe"]
      })
      const written = { stdout: "", stderr: "" }
      for (const name of ["stdout", "stderr"] as const) {
        child[name].setEncoding("utf8").on("data", (text: string) => written[name] += text)
      }
      child.on("close", (status) => resume(Effect.succeed({ status, ...written })))
      return Effect.sync(() => child.kill("SIGKILL"))
    }
  )
  const [token = "", printedAt] = ran.stdout.trim().split(" ")
  return { ...ran, token, afterwards: (yield* Clock.currentTimeMillis) - Number(printedAt) }
})

const server = AdenEmulator.layer({
  integrations: [{ id: "hubspot", tokenLifetime: "8 seconds" }, { id: "followed", tokenLifetime: "1 hour" }]
})

describe("a process whose store has background work", () => {
  it.live(
    "ends by itself, at once, when the program ends, though a token is followed",
    () =>
      Effect.gen(function*() {
        const { afterwards, status, stderr } = yield* run
        assert.strictEqual(status, 0, stderr)
        assert.isBelow(afterwards, 3_000)
      }).pipe(Effect.provide(server)),
    40_000
  )

  it.live("a renewal that runs is waited for", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Latency({ duration: "2 seconds" }), { endpoint: "refresh" })
      const { afterwards, status, stderr, token } = yield* run
      assert.strictEqual(status, 0, stderr)
      assert.isAtLeast(afterwards, 1_900)
      assert.isBelow(afterwards, 5_000)
      const issued = (yield* aden.issuedTokens).filter(({ integrationId }) => integrationId === "hubspot")
      // the one that was printed, and the one that was waited for; a process that starts slowly finds another than the first
      assert.strictEqual(issued.map(({ value }) => Redacted.value(value)).indexOf(token), issued.length - 2)
    }).pipe(Effect.provide(server)), 40_000)

  it.live("a renewal that hangs gets 5 s, not longer; then the process ends by itself", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Hang(), { endpoint: "refresh" })
      const { afterwards, status, stderr } = yield* run
      assert.strictEqual(status, 0, stderr)
      assert.strictEqual(yield* aden.countRequests({ endpoint: "refresh" }), 1)
      assert.isAtLeast(afterwards, 4_900)
      assert.isBelow(afterwards, 8_000)
    }).pipe(Effect.provide(server)), 40_000)
})
