import { assert, describe, it } from "@effect/vitest"
import { AdenEmulator } from "aden-credentials/emulator"
import { Effect, Redacted } from "effect"
import { basicAuth, git, hasGit, hasOpenssl, httpsHost } from "./git.ts"
import { temporaryDirectory } from "./harness.ts"

const Emulator = AdenEmulator.layer({ integrations: [{ id: "github", tokenLifetime: "1 hour" }] })

const issued = (id: string): Effect.Effect<ReadonlyArray<string>, never, AdenEmulator> =>
  Effect.map(
    Effect.flatMap(AdenEmulator, (aden) => aden.issuedTokens),
    (tokens) => tokens.filter(({ integrationId }) => integrationId === id).map(({ value }) => Redacted.value(value))
  )

/** A host with one repository, over https, that takes any token but the first it is shown. */
const gitHost = Effect.fnUntraced(function*(directory: string) {
  const presented: Array<string> = []
  const line = (text: string) => (text.length + 4).toString(16).padStart(4, "0") + text
  const { host } = yield* httpsHost(directory, (request, response) => {
    const shown = basicAuth(request.headers.authorization)
    if (shown !== undefined) presented.push(shown)
    if (shown === undefined || shown === presented[0]) {
      response.writeHead(401, { "www-authenticate": "Basic realm=\"git\"" }).end()
      return
    }
    response.writeHead(200, { "content-type": "application/x-git-upload-pack-advertisement" }).end(
      `${line("# service=git-upload-pack\n")}0000${line(`${"1".repeat(40)} HEAD\0agent=test\n`)}0000`
    )
  })
  return { host, presented }
})

describe("aden-creds git-credential", () => {
  describe.skipIf(!hasGit)("with git (where it is installed)", () => {
    const input = "protocol=https\nhost=github.com\npath=owner/repository.git\n\n"

    it.live("git credential fill gets the token", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const ran = yield* git(["credential", "fill"], input, { directory })
        assert.strictEqual(ran.status, 0, ran.stderr)
        const fields = new Map(
          ran.stdout.trim().split("\n").map((line) => {
            const at = line.indexOf("=")
            return [line.slice(0, at), line.slice(at + 1)] as const
          })
        )
        assert.strictEqual(fields.get("username"), "x-access-token")
        assert.strictEqual(fields.get("password"), (yield* issued("github"))[0])
      }).pipe(Effect.provide(Emulator)))

    it.live(
      "git credential reject has the token renewed, once: rejecting a token that was replaced already changes nothing",
      () =>
        Effect.gen(function*() {
          const aden = yield* AdenEmulator
          const directory = yield* temporaryDirectory
          const filled = yield* git(["credential", "fill"], input, { directory })
          const rejected = yield* git(["credential", "reject"], filled.stdout, { directory })
          assert.strictEqual(rejected.status, 0, rejected.stderr)
          assert.strictEqual(yield* aden.countRequests({ endpoint: "refresh" }), 1)
          yield* git(["credential", "reject"], filled.stdout, { directory })
          assert.strictEqual(yield* aden.countRequests({ endpoint: "refresh" }), 1)
          const again = yield* git(["credential", "fill"], input, { directory })
          assert.notStrictEqual(again.stdout, filled.stdout)
          assert.include(again.stdout, (yield* issued("github")).at(-1) ?? "none")
        }).pipe(Effect.provide(Emulator)),
      300_000
    )

    it.live.skipIf(!hasOpenssl)(
      "over https, a token that the host refuses is renewed, and the next attempt gets through (where openssl is installed)",
      () =>
        Effect.gen(function*() {
          const aden = yield* AdenEmulator
          const directory = yield* temporaryDirectory
          const { host, presented } = yield* gitHost(directory)
          const ask = git(["-c", "http.sslVerify=false", "ls-remote", `https://${host}/repository.git`], "", {
            directory,
            flags: `--ref ${host}=github`
          })
          const refused = yield* ask
          assert.notStrictEqual(refused.status, 0)
          assert.include(refused.stderr, "Authentication failed")
          const ran = yield* ask
          assert.strictEqual(ran.status, 0, ran.stderr)
          assert.strictEqual(ran.stdout, `${"1".repeat(40)}\tHEAD\n`)
          const tokens = yield* issued("github")
          assert.deepStrictEqual([...new Set(presented)], tokens.map((token) => `x-access-token:${token}`))
          assert.strictEqual(tokens.length, 2)
          assert.strictEqual(yield* aden.countRequests({ endpoint: "refresh" }), 1)
        }).pipe(Effect.provide(Emulator)),
      300_000
    )

    it.live("a host it does not know is left to git, which has no other helper here", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const ran = yield* git(["credential", "fill"], "protocol=https\nhost=other.example\n\n", { directory })
        assert.notStrictEqual(ran.status, 0)
        assert.strictEqual(ran.stdout, "")
        assert.include(ran.stderr, "terminal prompts disabled")
      }).pipe(Effect.provide(Emulator)))
  })
})
