import { assert, describe, it } from "@effect/vitest"
import {
  ErrorDocument,
  ExitStatus,
  HealthDocument,
  ListDocument,
  RefreshDocument,
  SyncDocument,
  TokenDocument,
  ValidateDocument
} from "aden-credentials/cli"
import { Effect } from "effect"
import { document, run, seedServer, temporaryDirectory } from "./harness.ts"

// The command against a server that knows nothing of this package, in either dialect of field names.

interface Expected {
  readonly synced: Array<readonly [provider: string | undefined, alias: string | undefined]>
  readonly skipped: readonly [provider: string, alias: string | undefined]
  readonly refs: Array<string>
  readonly withExpiry: string
  readonly token: string
  readonly blocked: string
}

const dialects: Record<"seed" | "hive", Expected> = {
  seed: {
    synced: [["github", undefined], ["hubspot", undefined]],
    skipped: ["slack", undefined],
    refs: ["github", "hubspot"],
    withExpiry: "hubspot",
    token: "seed-token-hubspot-main",
    blocked: "slack"
  },
  hive: {
    synced: [["github", "dev"], ["google", "Timothy"], ["google", "Work"], ["hubspot", "EU"]],
    skipped: ["slack", "team"],
    refs: ["github", "google:Timothy", "google:Work", "hubspot"],
    withExpiry: "google:Work",
    token: "seed-token-google-Work",
    blocked: "slack:team"
  }
}

for (const dialect of ["seed", "hive"] as const) {
  const expected = dialects[dialect]
  describe(`an Aden server with the field names of ${dialect}`, () => {
    it.live("sync, list, token, refresh, validate, health", () =>
      Effect.gen(function*() {
        const server = yield* seedServer(dialect)
        const directory = yield* temporaryDirectory
        const aden_creds = (...args: ReadonlyArray<string>) =>
          run([...args, "--json", "--directory", directory], server.environment)

        const synced = yield* aden_creds("sync")
        assert.strictEqual(synced.status, ExitStatus.done, synced.stderr)
        const report = document(SyncDocument, synced)
        assert.deepStrictEqual(
          report.synced.map(({ alias, provider }) => [provider, alias] as const).toSorted(),
          expected.synced
        )
        assert.deepStrictEqual(
          report.skipped.map(({ alias, provider, reason }) => [provider, alias, reason] as const),
          [[...expected.skipped, "ReauthRequired"]]
        )

        const list = document(ListDocument, yield* aden_creds("list"))
        assert.deepStrictEqual(list.map(({ ref }) => ref), expected.refs)
        assert.isTrue(list.every(({ status }) => status === "active"))

        const token = document(TokenDocument, yield* aden_creds("token", expected.withExpiry))
        assert.strictEqual(token.token, `${expected.token}-1`)
        const plain = yield* run(["token", expected.withExpiry, "--directory", directory], server.environment)
        assert.strictEqual(plain.stdout, `${expected.token}-1\n`)

        const renewed = yield* aden_creds("refresh", expected.withExpiry)
        assert.strictEqual(renewed.status, ExitStatus.done, renewed.stderr)
        assert.isAbove(document(RefreshDocument, renewed).expiresInMs ?? 0, 3_000_000)
        assert.strictEqual(
          (yield* run(["token", expected.withExpiry, "--directory", directory], server.environment)).stdout,
          `${expected.token}-2\n`
        )

        const validation = yield* aden_creds("validate", expected.withExpiry)
        assert.strictEqual(validation.status, ExitStatus.done)
        assert.isTrue(document(ValidateDocument, validation).valid)

        const blocked = yield* run(["token", expected.blocked, "--json", "--directory", directory], server.environment)
        assert.strictEqual(blocked.status, ExitStatus.reauthorizationRequired)
        const url = document(ErrorDocument, blocked).error.reauthorizationUrl ?? ""
        assert.isTrue(url.startsWith(`${server.url}/integrations/`))
        assert.include(blocked.stderr, url)
        const invalid = yield* run(
          ["validate", expected.blocked, "--json", "--directory", directory],
          server.environment
        )
        assert.strictEqual(invalid.status, ExitStatus.refused, invalid.stderr)
        assert.strictEqual(document(ValidateDocument, invalid).reauthorizationUrl, url)

        const health = document(HealthDocument, yield* aden_creds("health"))
        assert.deepStrictEqual([health.status, health.version], ["healthy", "1.2.3"])
        assert.isTrue(
          server.requests.every(({ authorized, path }) => authorized === (path !== "/health")),
          "the API key is sent wherever it belongs, and nowhere else"
        )
      }), 120_000)
  })
}
