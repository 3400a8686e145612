import { assert, describe, it } from "@effect/vitest"
import { Credential } from "aden-credentials"
import { ExitStatus } from "aden-credentials/cli"
import { AdenEmulator } from "aden-credentials/emulator"
import { DateTime, Effect, Redacted } from "effect"
import { dueCredential, emulatorEnvironment, run, save, temporaryDirectory } from "./harness.ts"

const integrations = [
  { id: "github", tokenLifetime: "1 hour" },
  { id: "gl", type: "gitlab", alias: "work", tokenLifetime: "1 hour" },
  { id: "slack", status: "requires_reauth" }
] as const

const Emulator = AdenEmulator.layer({ integrations })

/** Asks the helper as git does. */
const asking = (args: ReadonlyArray<string>, input: string) =>
  Effect.gen(function*() {
    const environment = yield* emulatorEnvironment
    const directory = yield* temporaryDirectory
    return yield* run(["git-credential", "--directory", directory, ...args], environment, { input })
  })

const issued = (id: string): Effect.Effect<ReadonlyArray<string>, never, AdenEmulator> =>
  Effect.map(
    Effect.flatMap(AdenEmulator, (aden) => aden.issuedTokens),
    (tokens) => tokens.filter(({ integrationId }) => integrationId === id).map(({ value }) => Redacted.value(value))
  )

describe("aden-creds git-credential", () => {
  it.live("get: the user name, the token and its expiry, for a host over https", () =>
    Effect.gen(function*() {
      const ran = yield* asking(
        ["get"],
        "protocol=https\nhost=github.com\ncapability[]=authtype\ncapability[]=state\n\n"
      )
      const [token] = yield* issued("github")
      assert.strictEqual(ran.stderr, "")
      assert.strictEqual(ran.status, 0)
      assert.match(
        ran.stdout,
        new RegExp(
          `^username=x-access-token\npassword=${token?.replaceAll(".", "\\.")}\npassword_expiry_utc=\\d{10}\n$`
        )
      )
      const gitlab = yield* asking(["get"], "protocol=https\nhost=GitLab.com\n")
      assert.match(gitlab.stdout, /^username=oauth2\npassword=/)
    }).pipe(Effect.provide(Emulator)))

  it.live.each(
    [
      ["get", "", /^password=aden-emulator\.\w+\.2\.\w+$/m],
      ["erase", "password=cached-token\n", /^$/]
    ] as const
  )("%s: a due token is renewed first, once", ([operation, more, answered]) =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const environment = yield* emulatorEnvironment
      const directory = yield* temporaryDirectory
      yield* save(directory, yield* dueCredential)
      const ran = yield* run(
        ["git-credential", "--directory", directory, "--ref", "git.test=hubspot", operation],
        environment,
        { input: `protocol=https\nhost=git.test\n${more}` }
      )
      assert.match(ran.stdout, answered)
      assert.strictEqual(ran.stderr, "")
      assert.strictEqual(yield* aden.countRequests(), 1)
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live.each<readonly [string, string]>([
    ["http", "protocol=http\nhost=github.com\n"],
    ["another port", "protocol=https\nhost=github.com:8443\n"],
    ["another host", "protocol=https\nhost=github.com.evil.test\n"],
    ["a host before it", "protocol=https\nhost=evil-github.com\n"],
    ["user info in the host", "protocol=https\nhost=github.com@evil.test\n"],
    ["a trailing dot", "protocol=https\nhost=github.com.\n"],
    ["ssh", "protocol=ssh\nhost=github.com\n"],
    ["no host", "protocol=https\n"],
    ["nothing", ""]
  ])("get for %s: not a word, and no request", ([, input]) =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      assert.deepStrictEqual({ ...yield* asking(["get"], input) }, { status: 0, stdout: "", stderr: "" })
      assert.strictEqual(yield* aden.countRequests(), 0)
    }).pipe(Effect.provide(Emulator)))

  it.live("--ref gives the token of a ref to a host, and only to that one", () =>
    Effect.gen(function*() {
      const flags = ["--ref", "git.example.com:8443=gitlab:work"]
      const own = yield* asking([...flags, "get"], "protocol=https\nhost=git.example.com:8443\n")
      assert.match(own.stdout, /^username=oauth2\n/)
      const other = yield* asking([...flags, "get"], "protocol=https\nhost=git.example.com\n")
      assert.deepStrictEqual({ ...other }, { status: 0, stdout: "", stderr: "" })
    }).pipe(Effect.provide(Emulator)))

  it.live.each(["github", "=github", "host=", "ho st=github", "*.example.com=github", "https://github.com=github"])(
    "--ref %s: 2, before any request",
    (ref) =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const ran = yield* asking(["--ref", ref, "get"], "protocol=https\nhost=github.com\n")
        assert.strictEqual(ran.status, ExitStatus.usage)
        assert.include(ran.stderr, "Expected host=<ref>")
        assert.strictEqual(yield* aden.countRequests(), 0)
      }).pipe(Effect.provide(Emulator))
  )

  it.live("store, and an operation of a later git: not a word", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      for (const operation of ["store", "later"]) {
        const ran = yield* asking([operation], "protocol=https\nhost=github.com\nusername=a\npassword=b\n")
        assert.deepStrictEqual({ ...ran }, { status: 0, stdout: "", stderr: "" })
      }
      assert.strictEqual(yield* aden.countRequests(), 0)
    }).pipe(Effect.provide(Emulator)))

  it.live.each<readonly [string, string]>([
    ["a line that is not name=value", "protocol=https\nhost\n"],
    ["a line that ends with a carriage return", "protocol=https\r\nhost=github.com\r\n"],
    ["a carriage return in a value", "protocol=https\nhost=github.com\rx\n"],
    ["a second host", "protocol=https\nhost=github.com\nhost=evil.test\n"],
    ["a second host, which would get the token", "protocol=https\nhost=evil.test\nhost=github.com\n"],
    ["the same host twice", "protocol=https\nhost=github.com\nhost=github.com\n"],
    ["a second protocol", "protocol=http\nprotocol=https\nhost=github.com\n"],
    ["a URL beside the host", "url=https://evil.test\nprotocol=https\nhost=github.com\n"],
    ["too much", `protocol=https\nhost=${"a".repeat(70_000)}\n`]
  ])("%s: 2, and nothing of it is repeated", ([, input]) =>
    Effect.gen(function*() {
      const ran = yield* asking(["get"], input)
      assert.strictEqual(ran.status, ExitStatus.usage)
      assert.match(ran.stderr, /^error: The input is not what git writes to a credential helper: .{1,60}\n {2}\S.*\n$/)
    }).pipe(Effect.provide(Emulator)))

  it.live.each(["tok\nhost=evil.test", "tok\rx", "tok\u0000x", "tok\u007fx", "tok\u0085x", "tok\u2028x"])(
    "a token with a control character or a line break (%j) would be lines of its own: nothing for git",
    (token) =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* save(
          directory,
          new Credential({
            ...Credential.fromAccessToken({
              id: "github",
              accessToken: Redacted.make(token),
              expiresAt: DateTime.add(yield* DateTime.now, { hours: 2 }),
              provider: "github"
            }),
            providerId: "aden_sync"
          })
        )
        const environment = yield* emulatorEnvironment
        const ran = yield* run(["git-credential", "--directory", directory, "get"], environment, {
          input: "protocol=https\nhost=github.com\n"
        })
        assert.strictEqual(ran.stdout, "")
        assert.strictEqual(ran.status, ExitStatus.refused)
        assert.match(ran.stderr, /^error: The token of "github" cannot be passed to git: .{1,60}\n {2}\S.*\n$/)
        assert.notInclude(ran.stderr, "tok\\")
      }).pipe(Effect.provide(Emulator))
  )

  it.live("a blocked integration: 3 and its URL on stderr, nothing for git", () =>
    Effect.gen(function*() {
      const ran = yield* asking(["--ref", "slack.com=slack", "get"], "protocol=https\nhost=slack.com\n")
      assert.strictEqual(ran.status, ExitStatus.reauthorizationRequired)
      assert.strictEqual(ran.stdout, "")
      assert.match(ran.stderr, /\/integrations\/slack\/connect/)
    }).pipe(Effect.provide(Emulator)))
})
