import { assert, describe, it, vi } from "@effect/vitest"
import { ExitStatus } from "aden-credentials/cli"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Effect, Fiber, Schedule } from "effect"
import { ChildProcess } from "node:child_process"
import { chmodSync, existsSync, mkdirSync, writeFileSync } from "node:fs"
import { constants } from "node:os"
import type { Environment } from "./harness.ts"
import { dueCredential, emulatorEnvironment, run, runProcess, save, temporaryDirectory } from "./harness.ts"

const token = /^aden-emulator\.\w+\.1\./

/** Runs `exec` as a process, against the emulator in its context. */
const exec = (
  args: ReadonlyArray<string>,
  options: Parameters<typeof runProcess>[2] = {},
  more: Environment = {}
) =>
  Effect.gen(function*() {
    const environment = yield* emulatorEnvironment
    const directory = yield* temporaryDirectory
    return yield* runProcess(["exec", "--directory", directory, ...args], { ...environment, ...more }, options)
  })

const node = (script: string) => [process.execPath, "-e", script]

/** A command that says it is there, and what signal it gets. */
const listening = (...signals: ReadonlyArray<NodeJS.Signals>) =>
  node(`
    for (const signal of ${JSON.stringify(signals)}) process.on(signal, () => {
      console.log("got " + signal)
      setTimeout(() => process.exit(7), 50)
    })
    setInterval(() => {}, 1000)
    console.log("ready")
  `)

const once = (text: string, act: (signal: (name: NodeJS.Signals) => void) => void) => {
  let isDone = false
  return {
    onOutput: ({ stdout }: { readonly stdout: string }, signal: (name: NodeJS.Signals) => void) => {
      if (isDone || !stdout.includes(text)) return
      isDone = true
      act(signal)
    }
  }
}

describe("aden-creds exec", () => {
  it.live("gives the command its tokens, its arguments and the rest of the environment, without the keys", () =>
    Effect.gen(function*() {
      const ran = yield* exec(
        [
          "--env",
          "HUBSPOT_TOKEN=hubspot",
          "--env",
          "github=github",
          "--",
          ...node("console.log(JSON.stringify({ env: process.env, args: process.argv.slice(1) }))"),
          "first",
          "--json",
          "--env",
          "X=y",
          "a b"
        ],
        {},
        {
          ADEN_API_KEY_other: "another",
          OTHER: "stays",
          hive_credential_key: "lower",
          REDIS_URL: "redis://:hunter2@127.0.0.1",
          DATABASE_URL: "postgres://agent:hunter2@127.0.0.1/db"
        }
      )
      assert.strictEqual(ran.stderr, "")
      assert.strictEqual(ran.status, 0)
      const { args, env } = JSON.parse(ran.stdout)
      assert.match(env.HUBSPOT_TOKEN, token)
      assert.match(env.github, token)
      assert.notStrictEqual(env.HUBSPOT_TOKEN, env.github)
      assert.strictEqual(env.OTHER, "stays")
      assert.isString(env.PATH)
      assert.isString(env.ADEN_API_URL)
      assert.deepStrictEqual(
        Object.keys(env).filter((name) => /^(HIVE_CREDENTIAL_KEY|ADEN_API_KEY|REDIS_URL|DATABASE_URL)/i.test(name)),
        []
      )
      assert.deepStrictEqual(args, ["first", "--json", "--env", "X=y", "a b"])
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live.each(["ghp_16C7e42F292c6912E7710c838347Ae178B4a", "xoxb-1234567890-abcdefghijkl"])(
    "a token in the place of a ref (%s) is refused, neither shown nor sent",
    (secret) =>
      Effect.gen(function*() {
        const aden = yield* AdenEmulator
        const environment = yield* emulatorEnvironment
        for (const json of [[], ["--json"]]) {
          const ran = yield* run([...json, "exec", "--env", `GITHUB_TOKEN=${secret}`, "--", "true"], environment)
          assert.strictEqual(ran.status, ExitStatus.usage)
          assert.match(ran.stderr, /^error: --env has a token in the place of a ref/)
          assert.notInclude(ran.stdout + ran.stderr, secret.slice(0, 8))
        }
        assert.strictEqual(yield* aden.countRequests(), 0)
      }).pipe(Effect.provide(AdenEmulator.layer()))
  )

  it.live.each([["exec", "--env"], ["token"], ["refresh"], ["validate"], ["explain"], ["delete"]])(
    "%s: what looks like a secret and names nothing is not shown",
    (command) =>
      Effect.gen(function*() {
        const secret = "CJTFwvnuLxIFAgEYz0Rk5PqM83vHdN2w"
        const environment = yield* emulatorEnvironment
        const directory = yield* temporaryDirectory
        const [name = "", ...flags] = command
        const ref = name === "exec" ? [...flags, `X=${secret}`, "--", "true"] : [secret]
        for (const json of [[], ["--json"]]) {
          const ran = yield* run([...json, name, "--directory", directory, ...ref], environment)
          assert.notStrictEqual(ran.status, 0)
          assert.include(ran.stderr, `There is no credential "<redacted>"`)
          assert.notInclude(ran.stdout + ran.stderr, secret.slice(0, 8))
        }
      }).pipe(Effect.provide(AdenEmulator.layer()))
  )

  it.live.skipIf(!existsSync("/proc/self/environ"))(
    "a command cannot read the keys in the environment of exec itself, where they come from files and commands",
    () =>
      Effect.gen(function*() {
        const { ADEN_API_KEY, HIVE_CREDENTIAL_KEY, ...rest } = yield* emulatorEnvironment
        const directory = yield* temporaryDirectory
        const file = `${directory}/api-key`
        writeFileSync(file, ADEN_API_KEY, { mode: 0o600 })
        writeFileSync(`${directory}/key`, HIVE_CREDENTIAL_KEY, { mode: 0o600 })
        const command = ["sh", "-c", "cat /proc/$PPID/environ; env; echo $HUBSPOT"]
        const ran = yield* runProcess(
          ["exec", "--directory", `${directory}/cache`, "--env", "HUBSPOT=hubspot", "--", ...command],
          { ...rest, ADEN_API_KEY_FILE: file, HIVE_CREDENTIAL_KEY_COMMAND: `cat '${directory}/key'` }
        )
        assert.strictEqual(ran.status, 0, ran.stderr)
        assert.include(ran.stdout, "ADEN_API_URL=")
        assert.match(ran.stdout.trim().split("\n").at(-1) ?? "", token)
        for (const key of [ADEN_API_KEY, HIVE_CREDENTIAL_KEY]) assert.notInclude(ran.stdout, key)
      }).pipe(Effect.provide(AdenEmulator.layer()))
  )

  it.live("a due token is renewed first: the command would have it until it runs out", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const environment = yield* emulatorEnvironment
      const directory = yield* temporaryDirectory
      yield* save(directory, yield* dueCredential)
      const ran = yield* runProcess(
        ["exec", "--directory", directory, "--env", "TOKEN=hubspot", "--", ...node("console.log(process.env.TOKEN)")],
        environment
      )
      assert.match(ran.stdout, /^aden-emulator\.\w+\.2\.\w+\n$/)
      assert.strictEqual(ran.stderr, "")
      assert.strictEqual(yield* aden.countRequests(), 1)
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live.each([0, 3, 255])("ends with the command's status: %d", (status) =>
    Effect.gen(function*() {
      const ran = yield* exec(["--env", "T=github", "--", ...node(`process.exit(${status})`)])
      assert.deepStrictEqual({ ...ran }, { status, stdout: "", stderr: "" })
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("a command that a signal ended: 128 and its number", () =>
    Effect.gen(function*() {
      const ran = yield* exec(["--env", "T=github", "--", ...node("process.kill(process.pid, 'SIGKILL')")])
      assert.strictEqual(ran.status, 128 + constants.signals.SIGKILL)
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live.each<NodeJS.Signals>(["SIGTERM", "SIGINT", "SIGHUP"])(
    "%s is passed on, and what the command makes of it is the status",
    (name) =>
      Effect.gen(function*() {
        const ran = yield* exec(
          ["--env", "T=github", "--", ...listening("SIGTERM", "SIGINT", "SIGHUP")],
          once("ready", (signal) => signal(name))
        )
        assert.strictEqual(ran.stdout, `ready\ngot ${name}\n`)
        assert.strictEqual(ran.stderr, "")
        assert.strictEqual(ran.status, 7)
      }).pipe(Effect.provide(AdenEmulator.layer()))
  )

  it.live("a command that does not heed a signal is waited for", () =>
    Effect.gen(function*() {
      const ran = yield* exec(
        [
          "--env",
          "T=github",
          "--",
          ...node(`
          process.on("SIGINT", () => setTimeout(() => { console.log("done"); process.exit(0) }, 300))
          setInterval(() => {}, 1000)
          console.log("ready")
        `)
        ],
        once("ready", (signal) => signal("SIGINT"))
      )
      assert.deepStrictEqual({ ...ran }, { status: 0, stdout: "ready\ndone\n", stderr: "" })
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("SIGINT before the command runs: 130, and it does not run", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      yield* aden.setFault(Fault.Hang())
      const ran = yield* exec(["--env", "T=github", "--", ...node("console.log('ran')")], {
        interruptWhen: Effect.asVoid(Effect.repeat(aden.countRequests(), { until: (count) => count > 0 }))
      })
      assert.deepStrictEqual({ ...ran }, { status: ExitStatus.interrupted, stdout: "", stderr: "" })
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("interrupted by the program that runs it, it ends the command and waits for it", () =>
    Effect.gen(function*() {
      const environment = yield* emulatorEnvironment
      const directory = yield* temporaryDirectory
      const [begun, ended] = [`${directory}/begun`, `${directory}/ended`]
      const script = node(`
        const { writeFileSync } = require("node:fs")
        process.on("SIGTERM", () => setTimeout(() => { writeFileSync("${ended}", ""); process.exit(5) }, 100))
        setInterval(() => {}, 1000)
        writeFileSync("${begun}", "")
      `)
      const fiber = yield* Effect.forkChild(
        run(["exec", "--directory", `${directory}/cache`, "--env", "T=github", "--", ...script], environment)
      )
      yield* Effect.repeat(Effect.sync(() => existsSync(begun)), {
        until: (isThere) => isThere,
        schedule: Schedule.spaced("20 millis")
      })
      yield* Fiber.interrupt(fiber)
      assert.isTrue(existsSync(ended))
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("a signal that may not be delivered does not end it: the command is waited for", () =>
    Effect.gen(function*() {
      const environment = yield* emulatorEnvironment
      const directory = yield* temporaryDirectory
      const [begun, ended] = [`${directory}/begun`, `${directory}/ended`]
      // what Node does where the system answers EPERM, which it never does to root
      const kill = vi.spyOn(ChildProcess.prototype, "kill").mockImplementation(function(this: ChildProcess) {
        this.emit("error", Object.assign(new Error("kill EPERM"), { code: "EPERM" }))
        return false
      })
      yield* Effect.addFinalizer(() => Effect.sync(() => kill.mockRestore()))
      const script = node(`
        const { writeFileSync } = require("node:fs")
        setTimeout(() => writeFileSync("${ended}", ""), 500)
        writeFileSync("${begun}", "")
      `)
      const fiber = yield* Effect.forkChild(
        run(["exec", "--directory", `${directory}/cache`, "--env", "T=github", "--", ...script], environment)
      )
      yield* Effect.repeat(Effect.sync(() => existsSync(begun)), {
        until: (isThere) => isThere,
        schedule: Schedule.spaced("20 millis")
      })
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(kill.mock.calls.length, 1)
      assert.isTrue(existsSync(ended))
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("no such command: 127; a file that is not a program: 126; no token is requested for either", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const missing = yield* exec(["--env", "T=github", "--", "no-such-command-here", "--flag"])
      assert.strictEqual(missing.status, ExitStatus.commandNotFound)
      assert.match(missing.stderr, /^error: There is no command "no-such-command-here"\n {2}\S.*\n$/)
      const directory = yield* temporaryDirectory
      const file = `${directory}/plain`
      writeFileSync(file, "no program")
      chmodSync(file, 0o600)
      const plain = yield* exec(["--env", "T=github", "--", file])
      assert.strictEqual(plain.status, ExitStatus.commandNotRunnable)
      assert.match(plain.stderr, /^error: The command ".*" cannot be run: EACCES\n {2}\S.*\n$/)
      for (const command of [`${directory}/missing`, `${file}/below`, "./missing", "missing/below"]) {
        const ran = yield* exec(["--env", "T=github", "--", command])
        assert.oneOf(ran.status, [ExitStatus.commandNotFound, ExitStatus.commandNotRunnable], command)
      }
      const environment = yield* emulatorEnvironment
      const { commandNotFound, commandNotRunnable } = ExitStatus
      for (
        const [command, status] of [["", commandNotFound], [directory, commandNotRunnable], [
          ".",
          commandNotRunnable
        ]] as const
      ) {
        const ran = yield* run(["exec", "--directory", directory, "--env", "T=github", "--", command], environment)
        assert.strictEqual(ran.status, status, ran.stderr)
      }
      assert.strictEqual(yield* aden.countRequests(), 0)
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("a command is found as a shell finds it: by its path, or in a folder of PATH behind one that has no such program", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const [first, second] = [`${directory}/first`, `${directory}/second`]
      for (const folder of [first, second]) mkdirSync(folder)
      writeFileSync(`${first}/tool`, "no program", { mode: 0o600 })
      writeFileSync(`${second}/tool`, "#!/bin/sh\necho ran", { mode: 0o700 })
      for (const command of ["tool", `${second}/tool`]) {
        const ran = yield* exec(["--env", "T=github", "--", command], {}, {
          PATH: `${directory}/none::${first}:${second}`
        })
        assert.strictEqual(ran.stdout, "ran\n", ran.stderr)
      }
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("a token that cannot be had: its status and URL, and the command does not run", () =>
    Effect.gen(function*() {
      const ran = yield* exec(["--env", "A=github", "--env", "T=slack", "--", ...node("console.log('ran')")])
      assert.strictEqual(ran.status, ExitStatus.reauthorizationRequired)
      assert.strictEqual(ran.stdout, "")
      assert.match(ran.stderr, /^error: .*\/integrations\/slack\/connect/)
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live.each([
    "PATH",
    "Path",
    "LD_PRELOAD",
    "DYLD_INSERT_LIBRARIES",
    "NODE_OPTIONS",
    "BASH_ENV",
    "PYTHONPATH",
    "GIT_SSH_COMMAND",
    "HIVE_CREDENTIAL_KEY",
    "ADEN_API_KEY"
  ])("%s is refused, before any request", (name) =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const environment = yield* emulatorEnvironment
      const ran = yield* run(["exec", "--env", `${name}=github`, "--", "true"], environment)
      assert.strictEqual(ran.status, ExitStatus.usage)
      assert.match(
        ran.stderr,
        new RegExp(`^error: --env names ${name}, which changes how programs run\\n {2}\\S.*\\n$`)
      )
      assert.strictEqual(yield* aden.countRequests(), 0)
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live.each(
    [
      ["no ref", ["--env", "T", "--", "true"]],
      ["an empty ref", ["--env", "T=", "--", "true"]],
      ["no name", ["--env", "=github", "--", "true"]],
      ["a name with a space", ["--env", "A B=github", "--", "true"]],
      ["a name that begins with a digit", ["--env", "1A=github", "--", "true"]],
      ["a name twice", ["--env", "A=github", "--env", "A=hubspot", "--", "true"]],
      ["no variable", ["--", "true"]],
      ["no command", ["--env", "A=github"]]
    ] as const
  )("%s: 2, before any request", ([, args]) =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const ran = yield* run(["exec", ...args], yield* emulatorEnvironment)
      assert.strictEqual(ran.status, ExitStatus.usage)
      assert.match(ran.stderr, /^(?:[\s\S]*\n)?error: \S.*\n {2}\S.*\n$/)
      assert.strictEqual(yield* aden.countRequests(), 0)
    }).pipe(Effect.provide(AdenEmulator.layer())))

  it.live("a token written in place of a ref is not repeated", () =>
    Effect.gen(function*() {
      const ran = yield* run(["exec", "--env", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "--", "true"])
      assert.strictEqual(ran.status, ExitStatus.usage)
      assert.notInclude(ran.stderr, "ghp_16C7")
    }))
})
