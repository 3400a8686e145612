import { assert, describe, it } from "@effect/vitest"
import { EmulatorDocument, ExitStatus, ListDocument } from "aden-credentials/cli"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Clock, Effect, Fiber, Schedule, Schema } from "effect"
import { execFile } from "node:child_process"
import { existsSync, statSync } from "node:fs"
import {
  commandLine,
  document,
  dueCredential,
  emulatorEnvironment,
  isPlain,
  runProcess,
  save,
  temporaryDirectory
} from "./harness.ts"

// What only a process of its own shows: streams, signals, and that it ends by itself.

/** A line of `sh`, in which `aden-creds` is the command. */
const shell = (line: string, environment: Readonly<Record<string, string>>) =>
  Effect.callback<{ readonly status: number; readonly stdout: string; readonly stderr: string }>((resume) => {
    const command = [process.execPath, ...commandLine([])].map((word) => `'${word}'`).join(" ")
    execFile(
      "bash",
      ["--norc", "-c", `aden_creds() { ${command} "$@"; }\n${line}`],
      { env: { PATH: process.env["PATH"], ...environment } },
      (error, stdout, stderr) =>
        resume(Effect.succeed({ status: error === null ? 0 : Number(error.code), stdout, stderr }))
    )
  })

const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const start = yield* Clock.currentTimeMillis
    const result = yield* effect
    return { result, ms: (yield* Clock.currentTimeMillis) - start }
  })

describe("aden-creds as a process", () => {
  it.live("answers on stdout, complaints on stderr, statuses as documented; ends by itself", () =>
    Effect.gen(function*() {
      const environment = yield* emulatorEnvironment
      const directory = yield* temporaryDirectory
      const aden_creds = (...args: ReadonlyArray<string>) =>
        runProcess([...args, "--directory", directory], environment)
      const synced = yield* aden_creds("sync")
      assert.strictEqual(synced.status, ExitStatus.done, synced.stderr)
      assert.strictEqual(synced.stderr, "")
      assert.isTrue(isPlain(synced))
      const token = yield* aden_creds("token", "github")
      assert.match(token.stdout, /^aden-emulator\.\S+\n$/)
      const blocked = yield* aden_creds("token", "slack")
      assert.strictEqual(blocked.status, ExitStatus.reauthorizationRequired)
      assert.strictEqual(blocked.stdout, "")
      assert.match(blocked.stderr, /slack\/connect/)
      assert.strictEqual((yield* aden_creds("token", "nope")).status, ExitStatus.notFound)
      assert.strictEqual((yield* aden_creds("nope")).status, ExitStatus.usage)
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("reads the key file where HIVE_CREDENTIAL_KEY is not set, made as README says, whatever the umask", () =>
    Effect.gen(function*() {
      const { HIVE_CREDENTIAL_KEY: _, ...environment } = yield* emulatorEnvironment
      const home = yield* temporaryDirectory
      const ran = yield* shell(
        "umask 0; aden_creds keys generate --save >&2; aden_creds sync >/dev/null && aden_creds list --json",
        { ...environment, HOME: home }
      )
      assert.strictEqual(ran.status, 0, ran.stderr)
      assert.strictEqual(document(ListDocument, ran).length, 2)
      assert.strictEqual(ran.stderr, `The key is in ${home}/.hive/secrets/credential_key\n`)
      assert.isTrue(existsSync(`${home}/.hive/credentials/credentials/github.enc`))
      const modes = ["", "/secrets", "/secrets/credential_key"].map((name) =>
        statSync(`${home}/.hive${name}`).mode & 0o777
      )
      assert.deepStrictEqual(modes, [0o700, 0o700, 0o600])
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("a due token is printed renewed, once its renewal has ended", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const environment = yield* emulatorEnvironment
      const directory = yield* temporaryDirectory
      yield* save(directory, yield* dueCredential)
      yield* aden.setFault(Fault.Latency({ duration: "1 second" }), { endpoint: "refresh" })
      const ran = yield* runProcess(["token", "hubspot", "--directory", directory], environment)
      assert.match(ran.stdout, /^aden-emulator\.\w+\.2\./)
      assert.strictEqual(yield* aden.countRequests({ endpoint: "refresh" }), 1)
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("a renewal that hangs holds the process for 5 s, not longer: the cached token, with a warning", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const environment = yield* emulatorEnvironment
      const directory = yield* temporaryDirectory
      yield* save(directory, yield* dueCredential)
      yield* aden.setFault(Fault.Hang(), { endpoint: "refresh" })
      const token = yield* Effect.forkChild(runProcess(["token", "hubspot", "--directory", directory], environment))
      yield* Effect.repeat(aden.countRequests({ endpoint: "refresh" }), {
        until: (count) => count > 0,
        schedule: Schedule.spaced("50 millis")
      })
      const { ms, result } = yield* timed(Fiber.join(token))
      assert.strictEqual(result.status, ExitStatus.done)
      assert.strictEqual(result.stdout, "cached-token\n")
      assert.match(result.stderr, /^warning: Serving a cached credential .* in time \(credential=hubspot\)\n$/)
      assert.isBelow(ms, 8_000)
      assert.strictEqual(yield* aden.countRequests({ endpoint: "refresh" }), 1)
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("SIGINT ends a command that waits for Aden with 130, without a word", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const environment = yield* emulatorEnvironment
      const directory = yield* temporaryDirectory
      yield* aden.setFault(Fault.Hang())
      const ran = yield* runProcess(["sync", "--directory", directory], environment, {
        interruptWhen: aden.countRequests().pipe(
          Effect.repeat({ until: (count) => count > 0, schedule: Schedule.spaced("50 millis") }),
          Effect.asVoid
        )
      })
      assert.deepStrictEqual({ ...ran }, { status: ExitStatus.interrupted, stdout: "", stderr: "" })
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("a reader that goes away is not a failure", () =>
    Effect.gen(function*() {
      const environment = yield* emulatorEnvironment
      const directory = yield* temporaryDirectory
      yield* runProcess(["sync", "--directory", directory], environment)
      for (const command of ["list", "sync", "list --json", "--help"]) {
        const ran = yield* shell(
          `aden_creds ${command} --directory '${directory}' | true; echo "\${PIPESTATUS[0]}"`,
          environment
        )
        assert.strictEqual(ran.stdout, "0\n")
        assert.strictEqual(ran.stderr, "")
      }
      const head = yield* shell(`aden_creds list --directory '${directory}' | head -1`, environment)
      assert.match(head.stdout, /^github\t.*\n$/)
      const both = yield* shell(
        `aden_creds token nope --directory '${directory}' 2>&1 | true; echo "\${PIPESTATUS[0]}"`,
        environment
      )
      assert.strictEqual(both.stdout, "6\n")
    }).pipe(Effect.provide(AdenEmulator.layer())), 300_000)

  it.live.skipIf(!existsSync("/dev/full"))(
    "an output that does not arrive is a failure (where there is a /dev/full)",
    () =>
      Effect.gen(function*() {
        const environment = yield* emulatorEnvironment
        const directory = yield* temporaryDirectory
        for (const command of ["token github", "list --json", "--help", "--version", "--completions bash"]) {
          const ran = yield* shell(`aden_creds ${command} --directory '${directory}' > /dev/full`, environment)
          assert.strictEqual(ran.status, ExitStatus.unexpected, command)
          assert.match(ran.stderr, /^error: The output cannot be written: ENOSPC\n {2}\S.*\n$/, command)
          assert.isTrue(isPlain(ran))
        }
      }).pipe(Effect.provide(AdenEmulator.layer())),
    120_000
  )
})

describe("aden-creds emulator as a process", () => {
  it.live("says where it is, serves any client, and ends with 0 at SIGINT, promptly", () =>
    Effect.gen(function*() {
      let asked: Promise<unknown> | undefined
      let console: Promise<string> | undefined
      let stoppedAt = 0
      const ran = yield* runProcess(["emulator", "--json"], {}, {
        onOutput: ({ stdout }, signal) => {
          if (asked !== undefined || !stdout.endsWith("\n")) return
          const { apiKey, consoleUrl, url } = Schema.decodeUnknownSync(Schema.fromJsonString(EmulatorDocument))(stdout)
          console = fetch(consoleUrl).then((response) => response.text())
          asked = fetch(`${url}/v1/credentials/github`, { headers: { authorization: `Bearer ${apiKey}` } })
            .then(async (response) => {
              await console
              return response.json()
            })
            .finally(() => {
              stoppedAt = Date.now()
              signal("SIGINT")
            })
        }
      })
      const prompt = Date.now() - stoppedAt
      assert.strictEqual(ran.status, ExitStatus.done, ran.stderr)
      assert.strictEqual(ran.stderr, "")
      assert.isBelow(prompt, 2_000)
      const emulator = document(EmulatorDocument, ran)
      assert.strictEqual(emulator.tenantId, "tenant-123")
      assert.deepStrictEqual(emulator.integrations.map(({ id }) => id), ["hubspot", "github", "slack"])
      const credential = yield* Effect.promise(() => asked ?? Promise.resolve(undefined))
      assert.deepInclude(credential, { integration_id: "github", token_type: "Bearer" })
      assert.include(yield* Effect.promise(() => console ?? Promise.resolve("")), "<h1>Aden emulator</h1>")
    }))

  it.live("the line it prints to copy is all that another terminal needs", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const ran = yield* shell(
        `
        aden_creds emulator > '${directory}/said' & pid=$!
        for _ in $(seq 900); do grep -q ^export '${directory}/said' && break; sleep 0.1; done
        eval "$(grep ^export '${directory}/said')"
        export HIVE_CREDENTIAL_KEY=$(aden_creds keys generate)
        aden_creds token github --directory '${directory}/cache'
        kill -INT $(pgrep -P $pid || echo $pid)
        wait $pid
        echo "ended with $?"
        `,
        {}
      )
      assert.match(ran.stdout, /^aden-emulator\.\S+\nended with 0\n$/)
      assert.strictEqual(ran.stderr, "")
    }))

  it.live("listens where --port says", () =>
    Effect.gen(function*() {
      const { url } = yield* Effect.scoped(Effect.provide(AdenEmulator, AdenEmulator.layer(), { local: true }))
      const { port } = new URL(url) // free again
      const ran = yield* runProcess(["emulator", "--port", port], {}, {
        onOutput: ({ stdout }, signal) => {
          if (stdout.includes("Ctrl-C")) signal("SIGTERM")
        }
      })
      assert.include(ran.stdout, `Aden emulator at http://127.0.0.1:${port}\n`)
      assert.include(ran.stdout, `console       http://127.0.0.1:${port}/\n`)
      assert.include(ran.stdout, "API key       emulator-api-key\n")
      assert.include(
        ran.stdout,
        `\nexport ADEN_API_URL=http://127.0.0.1:${port} ADEN_API_KEY=emulator-api-key ADEN_TENANT_ID=tenant-123\n`
      )
      assert.isTrue(isPlain(ran))
      assert.strictEqual(ran.status, ExitStatus.done)
    }))
})
