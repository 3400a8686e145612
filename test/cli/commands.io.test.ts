import { assert, describe, it } from "@effect/vitest"
import { Credential, Fernet } from "aden-credentials"
import {
  DeleteDocument,
  ErrorDocument,
  ExitStatus,
  ExplainDocument,
  HealthDocument,
  KeyDocument,
  ListDocument,
  RefreshDocument,
  SyncDocument,
  TokenDocument,
  ValidateDocument
} from "aden-credentials/cli"
import { AdenEmulator, type AdenEmulatorOptions, Fault } from "aden-credentials/emulator"
import { DateTime, Duration, Effect, Fiber, Redacted } from "effect"
import { TestClock } from "effect/testing"
import { readFileSync } from "node:fs"
import * as path from "node:path"
import { canMount, fill, ownDisk } from "../fixtures/ownDisk.ts"
import { canBeReadOnly, readOnlyFolder } from "../fixtures/readOnlyFolder.ts"
import {
  document,
  dueCredential,
  emulatorEnvironment,
  encryptionKey,
  isPlain,
  run,
  save,
  temporaryDirectory
} from "./harness.ts"

const accounts: AdenEmulatorOptions = {
  integrations: [
    { id: "hubspot", tokenLifetime: "1 hour" },
    { id: "github" },
    { id: "slack", status: "requires_reauth" },
    { id: "g1", type: "google", alias: "Timothy" },
    { id: "g2", type: "google", alias: "Work" }
  ]
}

/** A command against the emulator, in a directory of its own. */
const setup = Effect.gen(function*() {
  const environment = yield* emulatorEnvironment
  const directory = yield* temporaryDirectory
  return {
    aden: yield* AdenEmulator,
    directory,
    environment,
    aden_creds: (...args: ReadonlyArray<string>) => run([...args, "--directory", directory], environment),
    onTerminal: (...args: ReadonlyArray<string>) =>
      run([...args, "--directory", directory], environment, { terminal: ["stdout", "stderr"] })
  }
})

const withAden = (options: AdenEmulatorOptions = accounts) => Effect.provide(AdenEmulator.layer(options))

describe("aden-creds sync", () => {
  it.live("saves what is active, lists what is blocked as skipped, and ends with 0", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      const ran = yield* aden_creds("sync")
      assert.strictEqual(ran.status, ExitStatus.done)
      assert.strictEqual(ran.stderr, "")
      assert.isTrue(isPlain(ran))
      assert.match(ran.stdout, /^github\tsynced\tdoes not expire$/m)
      assert.match(ran.stdout, /^hubspot\tsynced\texpires in \d+ min$/m)
      assert.match(ran.stdout, /^google:Timothy\tsynced\t/m)
      assert.include(ran.stdout, `slack\tskipped\tneeds re-authorization: ${aden.url}/integrations/slack/connect\n`)
      assert.match(ran.stdout, /\n4 synced, 1 skipped, 0 failed, 0 removed\n$/)
    }).pipe(withAden()))

  it.live("accounts of one provider without an alias go by their ids, by which the other commands take them", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      yield* aden.setFault(Fault.Status({ status: 410, body: JSON.stringify({ error: "gone" }) }), {
        integrationId: "g2"
      })
      const ran = yield* aden_creds("sync")
      assert.deepStrictEqual(
        ran.stdout.split("\n").slice(0, 5).map((line) => line.split("\t").slice(0, 2).join(" ")),
        ["g1 synced", "google:Work synced", "h1 synced", "hubspot:EU skipped", "g2 failed"]
      )
    }).pipe(withAden({
      integrations: [
        { id: "g1", type: "google" },
        { id: "g2", type: "google" },
        { id: "g3", type: "google", alias: "Work" },
        { id: "h1", type: "hubspot" },
        { id: "h2", type: "hubspot", alias: "EU", status: "requires_reauth" }
      ]
    })))

  it.live("--json is the report", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      const ran = yield* aden_creds("sync", "--json")
      const report = document(SyncDocument, ran)
      assert.deepStrictEqual(report.synced.map(({ id }) => id).toSorted(), ["g1", "g2", "github", "hubspot"])
      const hubspot = report.synced.find(({ id }) => id === "hubspot")
      assert.isTrue(hubspot?.expiresAt !== undefined && DateTime.isDateTime(hubspot.expiresAt))
      assert.closeTo(hubspot?.expiresInMs ?? 0, 3_600_000, 30_000)
      assert.deepStrictEqual(
        report.skipped.map(({ id, reason, reauthorizationUrl }) => [id, reason, reauthorizationUrl]),
        [
          ["slack", "ReauthRequired", `${aden.url}/integrations/slack/connect`]
        ]
      )
      assert.deepStrictEqual(report.failed, [])
      assert.deepStrictEqual(report.removed, [])
    }).pipe(withAden()))

  it.live("says that a list which tells of further pages may be incomplete, and ends with 0", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      assert.isFalse(document(SyncDocument, yield* aden_creds("sync", "--json")).isIncomplete)
      yield* aden.setFault(Fault.Patch({ fields: { next_cursor: "page-2" } }), { endpoint: "list" })
      const ran = yield* aden_creds("sync")
      assert.strictEqual(ran.status, ExitStatus.done)
      assert.match(ran.stdout, /0 removed\nwarning: Aden's list may be incomplete[^\n]*\n$/)
      assert.isTrue(document(SyncDocument, yield* aden_creds("sync", "--json")).isIncomplete)
    }).pipe(withAden()))

  it.live("lists what became of each by id, whichever came first", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      const ids = ["a", "b", "c", "d"]
      // the later in the alphabet, the sooner it answers
      yield* Effect.forEach(ids, (id, index) =>
        aden.setFault(Fault.Latency({ duration: `${(ids.length - index) * 60} millis` }), { integrationId: id }))
      yield* aden.setFault(Fault.Status({ status: 422, body: "{\"error\":\"nope\"}" }), { integrationId: "x1" })
      yield* aden.setFault(
        Fault.Latency({ duration: "100 millis" }),
        { integrationId: "w1" }
      )
      yield* aden.setFault(Fault.Status({ status: 422, body: "{\"error\":\"nope\"}" }), { integrationId: "w1" })
      const report = document(SyncDocument, yield* aden_creds("sync", "--json"))
      assert.deepStrictEqual(
        report.synced.map(({ id }) =>
          id
        ),
        ids
      )
      assert.deepStrictEqual(report.skipped.map(({ id }) => id), ["s1", "s2"])
      assert.deepStrictEqual(report.failed.map(({ id }) => id), ["w1", "x1"])
      yield* Effect.forEach(["d", "c"], (id) => aden.removeIntegration(id))
      const { stdout } = yield* aden_creds("sync")
      assert.deepStrictEqual(
        stdout.split("\n").slice(0, -2).map((line) => line.split("\t").slice(0, 2).join(" ")),
        ["a synced", "b synced", "s1 skipped", "s2 skipped", "w1 failed", "x1 failed", "c removed", "d removed"]
      )
    }).pipe(withAden({
      integrations: [
        { id: "d" },
        { id: "c" },
        { id: "b" },
        { id: "a" },
        { id: "s2", status: "requires_reauth" },
        { id: "s1", status: "requires_reauth" },
        { id: "x1" },
        { id: "w1" }
      ]
    })))

  it.live("draws a progress bar on a terminal, and leaves no trace of it", () =>
    Effect.gen(function*() {
      const { aden, onTerminal } = yield* setup
      yield* aden.setFault(Fault.Latency({ duration: "150 millis" }))
      const ran = yield* onTerminal("sync")
      assert.strictEqual(ran.status, ExitStatus.done)
      assert.match(ran.stderr, /Syncing [━─]+ \d\/5/)
      assert.isTrue(ran.stderr.startsWith("\u001b[?25l"), "the cursor is hidden first")
      assert.isTrue(ran.stderr.endsWith("\r\u001b[2K\u001b[?25h"), "the line is cleared and the cursor is back")
      assert.match(ran.stdout, /INTEGRATION/)
    }).pipe(withAden()))

  it.live("leaves no trace of the bar when it is interrupted", () =>
    Effect.gen(function*() {
      const { aden, directory, environment } = yield* setup
      yield* aden.setFault(Fault.Hang())
      let stderr = ""
      const fiber = yield* run(["sync", "--directory", directory], environment, { terminal: ["stderr"] }).pipe(
        Effect.map((ran) => {
          stderr = ran.stderr
          return ran.status
        }),
        // as bin.ts does it: only the run itself is interruptible
        Effect.uninterruptible,
        Effect.forkChild
      )
      yield* Effect.sleep("400 millis")
      yield* Fiber.interrupt(fiber)
      assert.isTrue(stderr.endsWith("\r\u001b[2K\u001b[?25h"), JSON.stringify(stderr))
    }).pipe(withAden()))

  it.live("ends with the status of the worst failure, and says so in two lines", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      yield* aden.setFault(Fault.Status({ status: 422, body: "{\"error\":\"nope\"}" }), {
        endpoint: "get",
        integrationId: "github"
      })
      yield* aden.setFault(Fault.Status({ status: 403, body: "{\"error\":\"forbidden\",\"message\":\"not yours\"}" }), {
        endpoint: "get",
        integrationId: "g1"
      })
      const ran = yield* aden_creds("sync", "--json")
      assert.strictEqual(ran.status, ExitStatus.unauthorized)
      const report = document(SyncDocument, ran)
      assert.deepStrictEqual(
        report.failed.map(({ error, id }) => [id, error.tag, error.exitCode] as const).toSorted(),
        [["g1", "AdenForbidden", 7], ["github", "AdenRejected", 9]]
      )
      assert.strictEqual(report.synced.length, 2)
      assert.match(
        ran.stderr,
        /^error: Aden does not allow .*not yours; 1 more failed\n {2}Give the API key access.*\n$/
      )
    }).pipe(withAden()))

  it.live("names what was skipped or failed as `token` takes it, not by an opaque id", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      yield* aden.setFault(Fault.Status({ status: 422, body: "{\"error\":\"nope\"}" }), { integrationId: "Z29vZ2xl" })
      const ran = yield* aden_creds("sync")
      assert.match(ran.stdout, /^slack:team\tskipped\tneeds re-authorization/m)
      assert.match(ran.stdout, /^google:Timothy\tfailed\t.*nope$/m)
    }).pipe(withAden({
      integrations: [
        { id: "Z29vZ2xl", type: "google", alias: "Timothy" },
        { id: "c2xhY2s=", type: "slack", alias: "team", status: "requires_reauth" }
      ]
    })))

  it.live("counts what Aden no longer has as removed", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      yield* aden_creds("sync")
      yield* aden.removeIntegration("github")
      const ran = yield* aden_creds("sync")
      assert.include(ran.stdout, "github\tremoved\tAden no longer has it\n")
      assert.match(ran.stdout, /, 1 removed\n$/)
    }).pipe(withAden()))

  it.live("never overwrites a person's own credential", () =>
    Effect.gen(function*() {
      const { aden_creds, directory } = yield* setup
      yield* save(directory, Credential.fromApiKey({ id: "github", apiKey: Redacted.make("my-own") }))
      const ran = yield* aden_creds("sync")
      assert.strictEqual(ran.status, ExitStatus.done)
      assert.match(ran.stdout, /^github\tskipped\t/m)
      assert.strictEqual((yield* aden_creds("token", "github")).stdout, "my-own\n")
    }).pipe(withAden()))
})

describe("aden-creds list", () => {
  it.live("one line per credential, cells separated by tabs, times as ISO 8601", () =>
    Effect.gen(function*() {
      const { aden_creds } = yield* setup
      yield* aden_creds("sync")
      const ran = yield* aden_creds("list")
      assert.strictEqual(ran.status, ExitStatus.done)
      assert.isTrue(isPlain(ran))
      assert.deepStrictEqual(ran.stdout.split("\n").map((line) => line.split("\t").slice(0, 4)), [
        ["github", "github", "-", "active"],
        ["google:Timothy", "google", "Timothy", "active"],
        ["google:Work", "google", "Work", "active"],
        ["hubspot", "hubspot", "-", "active"],
        [""]
      ])
      assert.match(ran.stdout, /^hubspot\t.*\t\d{4}-\d\d-\d\dT[\d:.]+Z$/m)
    }).pipe(withAden()))

  it.live("on a terminal a table, with durations", () =>
    Effect.gen(function*() {
      const { aden_creds, onTerminal } = yield* setup
      yield* aden_creds("sync")
      const { stdout } = yield* onTerminal("list")
      assert.match(stdout, /^\u001b\[1mREF\u001b\[0m +\u001b\[1mPROVIDER/)
      assert.match(stdout, /^hubspot +hubspot +- +\u001b\[32mactive\u001b\[0m +in \d+ min$/m)
    }).pipe(withAden()))

  it.live("NO_COLOR and TERM=dumb keep the table and take its colours", () =>
    Effect.gen(function*() {
      const { aden_creds, directory, environment } = yield* setup
      yield* aden_creds("sync")
      for (const wish of [{ NO_COLOR: "1" }, { TERM: "dumb" }]) {
        const ran = yield* run(["list", "--directory", directory], { ...environment, ...wish }, {
          terminal: ["stdout"]
        })
        assert.isTrue(isPlain(ran))
        assert.match(ran.stdout, /^REF +PROVIDER/)
      }
    }).pipe(withAden()))

  it.live("FORCE_COLOR puts no escape codes into a pipe", () =>
    Effect.gen(function*() {
      const { directory, environment } = yield* setup
      for (const args of [["sync"], ["list"], ["list", "--help"], ["nonsense"]]) {
        assert.isTrue(isPlain(yield* run([...args, "--directory", directory], { ...environment, FORCE_COLOR: "1" })))
      }
    }).pipe(withAden()))

  it.live("--json is an array", () =>
    Effect.gen(function*() {
      const { aden_creds } = yield* setup
      assert.deepStrictEqual(document(ListDocument, yield* aden_creds("list", "--json")), [])
      yield* aden_creds("sync")
      const ran = yield* aden_creds("list", "--json")
      const list = document(ListDocument, ran)
      assert.deepStrictEqual(list.map(({ ref }) => ref), ["github", "google:Timothy", "google:Work", "hubspot"])
      assert.deepStrictEqual(list[1], {
        ref: "google:Timothy",
        id: "g1",
        type: "oauth2",
        provider: "google",
        alias: "Timothy",
        status: "active",
        expiresAt: undefined,
        expiresInMs: undefined,
        issuer: list[1]?.issuer,
        isOthers: false
      })
      assert.include(ran.stdout, "\"expiresAt\":null")
    }).pipe(withAden()))

  it.live("an empty cache is not an error: stdout stays empty, stderr says what to do", () =>
    Effect.gen(function*() {
      const { aden_creds } = yield* setup
      const ran = yield* aden_creds("list")
      assert.deepStrictEqual({ ...ran }, {
        status: ExitStatus.done,
        stdout: "",
        stderr: "No credentials are cached. Fetch them with: aden-creds sync\n"
      })
    }).pipe(withAden()))
})

describe("aden-creds token", () => {
  it.live("the token and nothing else on stdout", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      const ran = yield* aden_creds("token", "hubspot")
      const issued = yield* aden.issuedTokens
      const current = issued.filter(({ integrationId }) => integrationId === "hubspot").at(-1)
      assert.strictEqual(ran.status, ExitStatus.done)
      assert.strictEqual(ran.stdout, `${Redacted.value(current?.value ?? Redacted.make(""))}\n`)
      assert.strictEqual(ran.stderr, "")
    }).pipe(withAden()))

  it.live("--json adds id and expiry", () =>
    Effect.gen(function*() {
      const { aden_creds } = yield* setup
      const token = document(TokenDocument, yield* aden_creds("token", "google:Work", "--json"))
      assert.strictEqual(token.ref, "google:Work")
      assert.strictEqual(token.id, "g2")
      assert.match(token.token, /^aden-emulator\./)
      assert.isUndefined(token.expiresAt)
    }).pipe(withAden()))

  it.live("a due token is renewed, and the renewed one is printed", () =>
    Effect.gen(function*() {
      const { aden, aden_creds, directory } = yield* setup
      yield* save(directory, yield* dueCredential)
      const ran = yield* aden_creds("token", "hubspot")
      assert.match(ran.stdout, /^aden-emulator\.\w+\.2\.\w+\n$/)
      assert.strictEqual(ran.stderr, "")
      assert.strictEqual(yield* aden.countRequests(), 1)
      assert.strictEqual(yield* aden.countRequests({ endpoint: "refresh" }), 1)
      assert.strictEqual((yield* aden_creds("token", "hubspot")).stdout, ran.stdout)
    }).pipe(withAden()))

  it.effect("a due token, --json: the document is of the renewed one", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      yield* aden_creds("sync")
      yield* TestClock.adjust("58 minutes")
      const token = document(TokenDocument, yield* aden_creds("token", "hubspot", "--json"))
      assert.match(token.token, /^aden-emulator\.\w+\.2\./)
      assert.strictEqual(token.expiresInMs, 3_600_000)
      assert.strictEqual(yield* aden.countRequests({ endpoint: "refresh" }), 1)
    }).pipe(withAden()))

  it.effect("a due token that needs re-authorization by now: 3, and no token", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      yield* aden_creds("sync")
      yield* TestClock.adjust("58 minutes")
      yield* aden.revoke("hubspot")
      const ran = yield* aden_creds("token", "hubspot")
      assert.strictEqual(ran.status, ExitStatus.reauthorizationRequired)
      assert.strictEqual(ran.stdout, "")
      assert.include(ran.stderr, `${aden.url}/integrations/hubspot/connect`)
    }).pipe(withAden()))

  it.effect("a token that was confirmed long ago is confirmed before it is printed", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      yield* aden_creds("sync")
      yield* aden.clearRequests
      yield* TestClock.adjust("6 minutes")
      const ran = yield* aden_creds("token", "github")
      assert.deepStrictEqual([ran.status, ran.stderr], [ExitStatus.done, ""])
      assert.strictEqual(yield* aden.countRequests(), 1)
      yield* TestClock.adjust("6 minutes")
      yield* aden.removeIntegration("github")
      const gone = yield* aden_creds("token", "github")
      assert.deepStrictEqual([gone.status, gone.stdout], [ExitStatus.notFound, ""])
    }).pipe(withAden()))

  it.effect("a due token whose renewal Aden refuses: the cached one, with one warning", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      yield* aden_creds("sync")
      yield* TestClock.adjust("58 minutes")
      yield* aden.setFault(
        Fault.Status({ status: 400, body: "{\"error\":\"refresh_failed\",\"message\":\"the provider is asleep\"}" }),
        { endpoint: "refresh" }
      )
      const ran = yield* aden_creds("token", "hubspot")
      assert.strictEqual(ran.status, ExitStatus.done)
      assert.match(ran.stdout, /^aden-emulator\.\w+\.1\.\w+\n$/)
      assert.match(ran.stderr, /^warning: Serving a cached credential .*credential=hubspot.*asleep.*\n$/)
      assert.strictEqual(yield* aden.countRequests({ endpoint: "refresh" }), 1)
    }).pipe(withAden()))

  it.effect("a due token while Aden limits the rate: the cached one, without a request", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      yield* aden_creds("sync")
      yield* TestClock.adjust("58 minutes")
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 60 }), { endpoint: "refresh", times: 1 })
      assert.match((yield* aden_creds("token", "hubspot")).stderr, /^warning: .*\n$/)
      yield* aden.clearRequests
      const ran = yield* aden_creds("token", "hubspot")
      assert.match(ran.stdout, /^aden-emulator\.\w+\.1\.\w+\n$/)
      assert.strictEqual(ran.status, ExitStatus.done)
      assert.strictEqual(yield* aden.countRequests(), 0)
    }).pipe(withAden()))

  it.live("Aden is down: the cached token with a warning on stderr, which names no secret", () =>
    Effect.gen(function*() {
      const { aden, aden_creds, directory } = yield* setup
      yield* save(directory, yield* dueCredential)
      yield* aden.stop
      const ran = yield* aden_creds("token", "hubspot")
      assert.strictEqual(ran.status, ExitStatus.done)
      assert.strictEqual(ran.stdout, "cached-token\n")
      assert.match(ran.stderr, /^warning: Serving a cached credential .*credential=hubspot.*\n$/)
    }).pipe(withAden()))

  it.live("re-authorization required: 3, its URL on stderr, nothing on stdout", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      const ran = yield* aden_creds("token", "slack")
      assert.strictEqual(ran.status, ExitStatus.reauthorizationRequired)
      assert.strictEqual(ran.stdout, "")
      assert.include(ran.stderr, `${aden.url}/integrations/slack/connect`)
      assert.strictEqual(ran.stderr.split("\n").length, 3)
      const error = document(ErrorDocument, yield* aden_creds("token", "slack", "--json")).error
      assert.strictEqual(error.tag, "ReauthRequired")
      assert.strictEqual(error.exitCode, 3)
      assert.strictEqual(error.reauthorizationUrl, `${aden.url}/integrations/slack/connect`)
    }).pipe(withAden()))

  it.live("a credential without a token: 6", () =>
    Effect.gen(function*() {
      const { aden_creds, directory } = yield* setup
      const empty = Credential.fromApiKey({ id: "empty", apiKey: Redacted.make("x") })
      yield* save(directory, new Credential({ ...empty, keys: new Map() }))
      const ran = yield* aden_creds("token", "empty")
      assert.strictEqual(ran.status, ExitStatus.notFound)
      assert.strictEqual(
        ran.stderr,
        "error: Credential \"empty\" holds no token\n  Save it again with a token in it, or name another credential.\n"
      )
    }).pipe(withAden()))
})

describe("aden-creds refresh", () => {
  it.live("has Aden renew the token", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      yield* aden_creds("sync")
      const ran = yield* aden_creds("refresh", "hubspot")
      assert.strictEqual(ran.status, ExitStatus.done)
      assert.match(ran.stdout, /^hubspot is refreshed: the new token expires in \d+ min\n$/)
      assert.strictEqual(yield* aden.countRequests({ endpoint: "refresh" }), 1)
      const renewed = document(RefreshDocument, yield* aden_creds("refresh", "google:Timothy", "--json"))
      assert.deepStrictEqual([renewed.id, renewed.provider, renewed.alias], ["g1", "google", "Timothy"])
    }).pipe(withAden()))

  it.live("refused by Aden: 9", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      yield* aden_creds("sync")
      yield* aden.setFault(
        Fault.Status({ status: 400, body: "{\"error\":\"refresh_failed\",\"message\":\"the provider is asleep\"}" }),
        { endpoint: "refresh" }
      )
      const ran = yield* aden_creds("refresh", "hubspot")
      assert.strictEqual(ran.status, ExitStatus.refused)
      assert.match(ran.stderr, /the provider is asleep/)
    }).pipe(withAden()))

  it.live("rate-limited: 5, with the time to wait", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      yield* aden_creds("sync")
      yield* aden.setFault(Fault.RateLimited({ retryAfter: 120 }), { endpoint: "refresh" })
      const ran = yield* aden_creds("refresh", "hubspot", "--json")
      assert.strictEqual(ran.status, ExitStatus.rateLimited)
      const { error } = document(ErrorDocument, ran)
      assert.isTrue(error.isRetryable)
      assert.isTrue(error.retryAfterMs !== undefined && Duration.toSeconds(error.retryAfterMs) > 100)
    }).pipe(withAden()))

  it.live("of a person's own credential: 2, since Aden cannot", () =>
    Effect.gen(function*() {
      const { aden_creds, directory } = yield* setup
      yield* save(directory, Credential.fromApiKey({ id: "own", apiKey: Redacted.make("my-own") }))
      const ran = yield* aden_creds("refresh", "own")
      assert.strictEqual(ran.status, ExitStatus.usage)
      assert.match(ran.stderr, /Only credentials that come from Aden/)
    }).pipe(withAden()))
})

describe("aden-creds validate", () => {
  it.live("a good token: 0", () =>
    Effect.gen(function*() {
      const { aden_creds } = yield* setup
      const ran = yield* aden_creds("validate", "hubspot")
      assert.strictEqual(ran.status, ExitStatus.done)
      assert.match(ran.stdout, /^hubspot is valid: the token expires in \d+ min\n$/)
      const validation = document(ValidateDocument, yield* aden_creds("validate", "hubspot", "--json"))
      assert.isTrue(validation.valid)
      assert.closeTo(validation.expiresInMs ?? 0, 3_600_000, 30_000)
    }).pipe(withAden()))

  it.live("an answer that tells no expiry is not taken for a token that does not expire", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      yield* aden.setFault(Fault.Patch({ fields: { expires_at: null, expires_in_seconds: null } }), {
        endpoint: "validate"
      })
      assert.strictEqual((yield* aden_creds("validate", "hubspot")).stdout, "hubspot is valid\n")
    }).pipe(withAden()))

  it.live("an invalid one: 9; the document is the answer, and the URL is on stderr", () =>
    Effect.gen(function*() {
      const { aden, aden_creds } = yield* setup
      const ran = yield* aden_creds("validate", "slack", "--json")
      assert.strictEqual(ran.status, ExitStatus.refused)
      const validation = document(ValidateDocument, ran)
      assert.deepStrictEqual(
        [validation.valid, validation.reason, validation.requiresReauthorization, validation.reauthorizationUrl],
        [false, "refresh_token_revoked", true, `${aden.url}/integrations/slack/connect`]
      )
      assert.include(ran.stderr, `${aden.url}/integrations/slack/connect`)
    }).pipe(withAden()))

  it.live("an invalid one that a sync has seen before: 9 too", () =>
    Effect.gen(function*() {
      const { aden_creds } = yield* setup
      yield* aden_creds("sync")
      const ran = yield* aden_creds("validate", "slack")
      assert.strictEqual(ran.status, ExitStatus.refused)
      assert.match(ran.stdout, /^slack is not valid: refresh_token_revoked\n$/)
    }).pipe(withAden()))
})

describe("aden-creds delete", () => {
  it.live("deletes here, needs no Aden, and is 6 when there is none", () =>
    Effect.gen(function*() {
      const { aden, aden_creds, directory } = yield* setup
      yield* aden_creds("sync")
      yield* aden.clearRequests
      const offline = { HIVE_CREDENTIAL_KEY: encryptionKey }
      const ran = yield* run(["delete", "google:Work", "--json", "--directory", directory], offline)
      assert.deepStrictEqual(document(DeleteDocument, ran), { ref: "google:Work", deleted: true })
      const again = yield* run(["delete", "google:Work", "--directory", directory], offline)
      assert.strictEqual(again.status, ExitStatus.notFound)
      assert.strictEqual(again.stdout, "")
      assert.strictEqual(yield* aden.countRequests(), 0)
      assert.deepStrictEqual(
        document(ListDocument, yield* aden_creds("list", "--json")).map(({ id }) => id).toSorted(),
        ["g1", "github", "hubspot"]
      )
    }).pipe(withAden()))
})

describe("aden-creds explain", () => {
  it.live("says where a credential stands and when it is renewed, without a request", () =>
    Effect.gen(function*() {
      const { aden, aden_creds, directory } = yield* setup
      yield* aden_creds("sync")
      yield* aden.clearRequests
      const ran = yield* run(["explain", "hubspot", "--directory", directory], { HIVE_CREDENTIAL_KEY: encryptionKey })
      assert.strictEqual(ran.status, ExitStatus.done)
      assert.match(ran.stdout, /^status: +fresh$/m)
      assert.match(ran.stdout, /^expires: +in \d+ min$/m)
      assert.match(ran.stdout, /^refreshed from: +in \d+ min$/m)
      const explanation = document(ExplainDocument, yield* aden_creds("explain", "slack", "--json"))
      assert.strictEqual(explanation.status, "requires_reauth")
      assert.strictEqual(explanation.lastError, "ReauthRequired")
      assert.strictEqual(explanation.reauthorizationUrl, `${aden.url}/integrations/slack/connect`)
      assert.notMatch((yield* aden_creds("explain", "slack")).stdout, /never/, "it has no token that could last")
      assert.strictEqual(yield* aden.countRequests(), 0)
    }).pipe(withAden()))

  it.live.skipIf(!canBeReadOnly)(
    "says that the directory cannot be written, until it can",
    () =>
      Effect.gen(function*() {
        const { aden_creds, directory } = yield* setup
        yield* aden_creds("sync")
        const explained = Effect.map(
          aden_creds("explain", "hubspot", "--json"),
          (ran) => document(ExplainDocument, ran)
        )
        assert.isUndefined((yield* explained).storageError)
        assert.notMatch((yield* aden_creds("explain", "hubspot")).stdout, /storage error/)
        const folder = path.join(directory, "credentials")
        yield* Effect.scoped(Effect.gen(function*() {
          yield* readOnlyFolder(folder)
          const { storageError } = yield* explained
          assert.match(
            storageError ?? "",
            /^Storage could not save "hubspot": \/.*\/credentials: E(ROFS|ACCES): [a-z -]+$/
          )
          assert.include((yield* aden_creds("explain", "hubspot")).stdout, `storage error:       ${storageError}\n`)
        }))
        assert.isUndefined((yield* explained).storageError)
      }).pipe(withAden())
  )

  it.live.skipIf(!canMount)("says that the disk is full, until it is not", () =>
    Effect.gen(function*() {
      const { aden_creds, directory } = yield* setup
      yield* ownDisk(directory)
      yield* aden_creds("sync")
      const storageError = Effect.map(
        aden_creds("explain", "hubspot", "--json"),
        (ran) => document(ExplainDocument, ran).storageError
      )
      assert.isUndefined(yield* storageError)
      const empty = fill(directory)
      assert.match(
        (yield* storageError) ?? "",
        /^Storage could not save "hubspot": \/.*\/credentials: ENOSPC: no space left on device$/
      )
      empty()
      assert.isUndefined(yield* storageError)
    }).pipe(withAden()))
})

describe("aden-creds health", () => {
  it.live("what Aden says, needing no encryption key", () =>
    Effect.gen(function*() {
      const { environment } = yield* setup
      const settings = { ...environment, HIVE_CREDENTIAL_KEY: undefined }
      const ran = yield* run(["health"], settings)
      assert.strictEqual(ran.status, ExitStatus.done)
      assert.match(ran.stdout, /^Aden is healthy, version 1\.2\.3; it answered in \d+ ms\n$/)
      const health = document(HealthDocument, yield* run(["health", "--json"], settings))
      assert.strictEqual(health.status, "healthy")
      assert.isAbove(Duration.toMillis(health.latencyMs), 0)
    }).pipe(withAden()))
})

describe("aden-creds keys generate", () => {
  it.live("a new key and nothing else on stdout, without any setting", () =>
    Effect.gen(function*() {
      const ran = yield* run(["keys", "generate"])
      assert.strictEqual(ran.status, ExitStatus.done)
      yield* Fernet.parseKey(Redacted.make(ran.stdout.trimEnd()))
      assert.strictEqual(ran.stderr, "")
      const { key } = document(KeyDocument, yield* run(["keys", "generate", "--json"]))
      yield* Fernet.parseKey(Redacted.make(key))
      assert.notStrictEqual(`${key}\n`, ran.stdout)
    }))
})

describe("aden-creds emulator", () => {
  it.live("a port that is taken: 2", () =>
    Effect.gen(function*() {
      const { url } = yield* AdenEmulator
      const ran = yield* run(["emulator", "--port", new URL(url).port, "--json"])
      assert.strictEqual(ran.status, ExitStatus.usage)
      const { error } = document(ErrorDocument, ran)
      assert.strictEqual(error.setting, "port")
      assert.strictEqual(error.message, `port ${new URL(url).port} is in use on 127.0.0.1`)
      assert.match(error.remedy, /1024 to 65535/)
    }).pipe(withAden()))
})

describe("aden-creds", () => {
  it.live("--version is the version of package.json", () =>
    Effect.gen(function*() {
      const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))
      const ran = yield* run(["--version"])
      assert.deepStrictEqual({ ...ran }, { status: 0, stdout: `aden-creds v${version}\n`, stderr: "" })
    }))

  it.live("--help goes to stdout and ends with 0", () =>
    Effect.gen(function*() {
      for (const args of [["--help"], ["sync", "--help"], ["keys", "generate", "--help"]]) {
        const ran = yield* run(args)
        assert.strictEqual(ran.status, ExitStatus.done)
        assert.match(ran.stdout, /USAGE/)
        assert.match(ran.stdout, /--directory/)
        assert.match(ran.stdout, /--json/)
        assert.strictEqual(ran.stderr, "")
      }
    }))

  it.live("--directory and --json may stand before and after the command", () =>
    Effect.gen(function*() {
      const { directory, environment } = yield* setup
      yield* run(["--directory", directory, "sync"], environment)
      for (
        const args of [
          ["--directory", directory, "--json", "list"],
          ["list", `--directory=${directory}`, "--json"],
          ["--json", "list", "--directory", directory]
        ]
      ) {
        assert.strictEqual(document(ListDocument, yield* run(args, environment)).length, 4)
      }
    }).pipe(withAden()))
})
