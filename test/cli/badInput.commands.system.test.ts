import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { ErrorDocument, ExitStatus, ListDocument } from "aden-credentials/cli"
import { AdenEmulator, Fault } from "aden-credentials/emulator"
import { Effect, FileSystem } from "effect"
import { cpSync, readFileSync } from "node:fs"
import { createServer } from "node:net"
import { fileURLToPath } from "node:url"
import {
  document,
  emulatorEnvironment,
  encryptionKey,
  type Environment,
  isPlain,
  run,
  temporaryDirectory
} from "./harness.ts"

const hiveFiles = fileURLToPath(new URL("../fixtures/hive-files/", import.meta.url))
const hiveKey = readFileSync(`${hiveFiles}key.txt`, "utf8").trim()

const settings = {
  ADEN_API_URL: "http://127.0.0.1:1",
  ADEN_API_KEY: "agent-key",
  HIVE_CREDENTIAL_KEY: encryptionKey
}

/**
 * Runs the command twice, without and with `--json`: both end with this status; stderr has two lines, what is wrong and how to
 * fix it; stdout is empty, or the document that says the same.
 */
const expectFailure = Effect.fnUntraced(function*(expected: {
  readonly args: ReadonlyArray<string>
  readonly environment?: Environment
  readonly status: number
  readonly tag: string
  readonly says: RegExp
  readonly remedy: RegExp
}) {
  const { args, environment = settings, remedy, says, status, tag } = expected
  const [ran, json] = yield* Effect.all([run(args, environment), run(["--json", ...args], environment)], {
    concurrency: 2
  })
  assert.strictEqual(ran.status, status, ran.stderr)
  assert.strictEqual(ran.stdout, "")
  assert.isTrue(isPlain(ran), ran.stderr)
  const [what = "", how = "", ...rest] = ran.stderr.split("\n")
  assert.match(what, /^error: /)
  assert.match(what, says)
  assert.match(how, /^ {2}\S/)
  assert.match(how, remedy)
  assert.deepStrictEqual(rest, [""])

  assert.strictEqual(json.status, status)
  assert.strictEqual(json.stderr, ran.stderr)
  const { error } = document(ErrorDocument, json)
  assert.strictEqual(error.tag, tag)
  assert.strictEqual(error.exitCode, status)
  assert.strictEqual(`error: ${error.message}`, what)
  assert.strictEqual(`  ${error.remedy}`, how)
  assert.strictEqual(json.stdout.indexOf("\n"), json.stdout.length - 1, "one line")
})

const fs = <A, E>(use: (fs: FileSystem.FileSystem) => Effect.Effect<A, E>) =>
  Effect.flatMap(FileSystem.FileSystem, use).pipe(Effect.provide(NodeServices.layer))

/** A copy of files that Hive wrote, private as it should be. */
const copyOf = (name: string) =>
  Effect.gen(function*() {
    const directory = yield* temporaryDirectory
    cpSync(`${hiveFiles}${name}`, directory, { recursive: true })
    for (const folder of ["", "/credentials", "/metadata"]) {
      yield* fs(({ chmod }) => chmod(directory + folder, 0o700))
    }
    return directory
  })

describe("wrong usage: 2", () => {
  const cases: ReadonlyArray<readonly [args: ReadonlyArray<string>, tag: string, says: RegExp, remedy: RegExp]> = [
    [["list", "--foo"], "UnrecognizedOption", /--foo/, /list --help/],
    [["lst"], "UnknownSubcommand", /"lst"/, /Did you mean list\?/],
    [["token"], "MissingArgument", /ref/, /token --help/],
    [["token", "a", "b"], "UnexpectedArgument", /"b"/, /token --help/],
    [["delete"], "MissingArgument", /ref/, /delete --help/],
    [["list", "--directory", ""], "InvalidValue", /--directory/, /list --help/],
    [["list", "--directory"], "InvalidValue", /--directory/, /list --help/],
    ...["soon", "70000", "-1", "1.5", "1e3", "0x50", " ", ""].map((port) =>
      [
        ["emulator", `--port=${port}`],
        "InvalidValue",
        /value for flag --port.* a whole number from 1 to 65535, or 0 for any free port$/,
        /emulator --help/
      ] as const
    ),
    [["emulator", "--port", "-1"], "InvalidValue", /"-1".*from 1 to 65535/, /emulator --help/],
    [["list", "--log-level", "loud"], "InvalidValue", /--log-level/, /--help/],
    [["keys", "genrate"], "UnknownSubcommand", /"genrate"/, /Did you mean generate\?/]
  ]
  for (const [args, tag, says, remedy] of cases) {
    it.live(
      args.map((arg) => JSON.stringify(arg)).join(" "),
      () => expectFailure({ args, status: ExitStatus.usage, tag, says, remedy })
    )
  }

  it.live("is reported as a document for --json=true, not for --json after --", () =>
    Effect.gen(function*() {
      assert.strictEqual(document(ErrorDocument, yield* run(["token", "--json=true"])).error.tag, "MissingArgument")
      assert.strictEqual((yield* run(["token", "--json=false"])).stdout, "")
      assert.strictEqual((yield* run(["list", "--", "--json"])).stdout, "")
    }))

  it.live("no command: 2, and the help on stderr", () =>
    Effect.gen(function*() {
      for (const args of [[], ["keys"]]) {
        const ran = yield* run(args)
        assert.strictEqual(ran.status, ExitStatus.usage)
        assert.strictEqual(ran.stdout, "")
        assert.match(ran.stderr, /SUBCOMMANDS/)
        assert.match(ran.stderr, /needs a command\n {2}See: .* --help\n$/)
        assert.strictEqual(
          document(ErrorDocument, yield* run([...args, "--json"])).error.tag,
          "MissingSubcommand"
        )
      }
    }))
})

describe("settings that are missing or make no sense: 2, before any request", () => {
  const commands = [["sync"], ["token", "hubspot"], ["refresh", "hubspot"], ["validate", "hubspot"], ["health"]]
  const cases: ReadonlyArray<
    readonly [name: string, change: Environment, says: RegExp, remedy: RegExp]
  > = [
    ["ADEN_API_URL missing", { ADEN_API_URL: undefined }, /ADEN_API_URL is not set/, /URL of the Aden server/],
    ["ADEN_API_URL empty", { ADEN_API_URL: "" }, /ADEN_API_URL is not set/, /URL of the Aden server/],
    ["ADEN_API_URL malformed", { ADEN_API_URL: "aden" }, /ADEN_API_URL is not a URL/, /https:\/\/host/],
    ["ADEN_API_URL of another scheme", { ADEN_API_URL: "ftp://aden.example" }, /scheme "ftp:"/, /Use https/],
    [
      "ADEN_API_URL http to a foreign host",
      { ADEN_API_URL: "http://aden.example" },
      /http to aden\.example/,
      /Use https; plain http is only for a server on this machine\./
    ],
    ["ADEN_API_KEY missing", { ADEN_API_KEY: undefined }, /ADEN_API_KEY is not set/, /API key/],
    ["ADEN_API_KEY with a line break", { ADEN_API_KEY: "a\nb" }, /ADEN_API_KEY holds/, /Copy the key again/]
  ]
  for (const [name, change, says, remedy] of cases) {
    it.live(name, () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        for (const args of commands) {
          yield* expectFailure({
            args: [...args, "--directory", directory],
            environment: { ...settings, ...change },
            status: ExitStatus.usage,
            tag: "AdenConfigError",
            says,
            remedy
          })
        }
      }))
  }

  const keys: ReadonlyArray<readonly [name: string, key: string | undefined, says: RegExp]> = [
    ["HIVE_CREDENTIAL_KEY missing", undefined, /HIVE_CREDENTIAL_KEY is not set, and there is no key file/],
    ["HIVE_CREDENTIAL_KEY malformed", "not-a-key", /HIVE_CREDENTIAL_KEY is not a Fernet key/],
    ["HIVE_CREDENTIAL_KEY with an empty place", `${encryptionKey},`, /HIVE_CREDENTIAL_KEY has an empty entry/]
  ]
  for (const [name, key, says] of keys) {
    it.live(name, () =>
      Effect.gen(function*() {
        const home = yield* temporaryDirectory
        for (const args of [["sync"], ["token", "x"], ["list"], ["delete", "x"], ["explain", "x"]]) {
          yield* expectFailure({
            args,
            environment: { ...settings, HOME: home, HIVE_CREDENTIAL_KEY: key },
            status: ExitStatus.usage,
            tag: "AdenConfigError",
            says,
            remedy: /aden-creds keys generate|single commas/
          })
        }
        assert.deepStrictEqual(yield* fs(({ readDirectory }) => readDirectory(home)), [], "no key was made")
      }))
  }

  it.live("no home directory, and no --directory", () =>
    expectFailure({
      args: ["list"],
      environment: { HIVE_CREDENTIAL_KEY: encryptionKey },
      status: ExitStatus.usage,
      tag: "AdenConfigError",
      says: /HOME is not set/,
      remedy: /name the directory with --directory/
    }))

  it.live("list, delete and explain need nothing of Aden's", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const environment = { HIVE_CREDENTIAL_KEY: encryptionKey }
      assert.strictEqual((yield* run(["list", "--directory", directory], environment)).status, ExitStatus.done)
      for (const command of ["delete", "explain"]) {
        const ran = yield* run([command, "x", "--directory", directory], environment)
        assert.strictEqual(ran.status, ExitStatus.notFound)
      }
    }))
})

describe("refs", () => {
  const aden = AdenEmulator.layer({
    integrations: [
      { id: "hubspot" },
      { id: "g1", type: "google", alias: "Timothy" },
      { id: "g2", type: "google", alias: "Work" }
    ]
  })
  const cases: ReadonlyArray<readonly [name: string, ref: string, tag: string, says: RegExp, remedy: RegExp]> = [
    ["unknown", "nope", "CredentialNotFound", /There is no credential "nope"/, /aden-creds list/],
    ["empty", "", "CredentialNotFound", /empty ref/, /aden-creds list/],
    [
      "ambiguous",
      "google",
      "AmbiguousCredential",
      /"google" names several accounts: google:Timothy, google:Work/,
      /Use one of: google:Timothy, google:Work/
    ]
  ]
  for (const [name, ref, tag, says, remedy] of cases) {
    it.live(`${name}: 6`, () =>
      Effect.gen(function*() {
        const environment = yield* emulatorEnvironment
        const directory = yield* temporaryDirectory
        yield* run(["sync", "--directory", directory], environment)
        for (const command of ["token", "refresh", "validate", "delete", "explain"]) {
          yield* expectFailure({
            args: [command, ref, "--directory", directory],
            environment,
            status: ExitStatus.notFound,
            tag,
            says,
            remedy
          })
        }
        const listed = document(ListDocument, yield* run(["list", "--json", "--directory", directory], environment))
        assert.strictEqual(listed.length, 3, "nothing is lost")
      }).pipe(Effect.provide(aden)))
  }

  it.live("an ambiguous ref is told apart by Aden's list when nothing is cached yet", () =>
    Effect.gen(function*() {
      const environment = yield* emulatorEnvironment
      const directory = yield* temporaryDirectory
      const ran = yield* run(["token", "google", "--json", "--directory", directory], environment)
      assert.strictEqual(ran.status, ExitStatus.notFound)
      assert.deepStrictEqual(document(ErrorDocument, ran).error.choices, ["google:Timothy", "google:Work"])
    }).pipe(Effect.provide(aden)))
})

describe("Aden", () => {
  it.live("unreachable: 4", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const port = yield* freePort
      yield* expectFailure({
        args: ["sync", "--directory", directory],
        environment: { ...settings, ADEN_API_URL: `http://127.0.0.1:${port}` },
        status: ExitStatus.adenUnavailable,
        tag: "AdenUnavailable",
        says: /Aden is unavailable: no connection/,
        remedy: /Check ADEN_API_URL and the network, then run the command again\./
      })
    }), 25_000)

  const aden = AdenEmulator.layer({ integrations: [{ id: "hubspot" }] })
  const faults: ReadonlyArray<
    readonly [name: string, fault: Fault, status: number, tag: string, says: RegExp, remedy: RegExp]
  > = [
    [
      "rejects the API key",
      Fault.Status({ status: 401, body: "{\"error\":\"invalid_api_key\"}" }),
      ExitStatus.unauthorized,
      "AdenUnauthorized",
      /rejects the API key/,
      /ADEN_API_KEY/
    ],
    [
      "forbids",
      Fault.Status({ status: 403, body: "{\"error\":\"forbidden\"}" }),
      ExitStatus.unauthorized,
      "AdenForbidden",
      /does not allow/,
      /access/
    ],
    [
      "is a firewall",
      Fault.Status({ status: 403, contentType: "text/html", body: "<h1>\u001b[31mBlocked</h1>" }),
      ExitStatus.adenUnavailable,
      "AdenUnavailable",
      /HTTP 403/,
      /no proxy answers/
    ],
    [
      "limits the rate",
      Fault.RateLimited({ retryAfter: 600 }),
      ExitStatus.rateLimited,
      "RateLimited",
      /next try in 10m/,
      /Wait for the time given, then run the command again\./
    ],
    [
      "rejects the request",
      Fault.Status({ status: 418, body: "{\"error\":\"teapot\",\"message\":\"\\u001b[2J a teapot\"}" }),
      ExitStatus.refused,
      "AdenRejected",
      /a teapot/,
      /version of the contract/
    ]
  ]
  for (const [name, fault, status, tag, says, remedy] of faults) {
    it.live(`${name}: ${status}`, () =>
      Effect.gen(function*() {
        const environment = yield* emulatorEnvironment
        const directory = yield* temporaryDirectory
        yield* (yield* AdenEmulator).setFault(fault)
        for (const command of [["sync"], ["token", "hubspot"]]) {
          yield* expectFailure({
            args: [...command, "--directory", directory],
            environment,
            status,
            tag,
            says,
            remedy
          })
        }
      }).pipe(Effect.provide(aden)))
  }
})

describe("storage: 8", () => {
  it.live("a directory that is a file", () =>
    Effect.gen(function*() {
      const directory = `${yield* temporaryDirectory}/file`
      yield* fs(({ writeFileString }) => writeFileString(directory, "kept"))
      for (const args of [["list"], ["explain", "x"], ["token", "x"]]) {
        yield* expectFailure({
          args: [...args, "--directory", directory],
          status: ExitStatus.storage,
          tag: "CredentialStorageError",
          says: /is not a directory/,
          remedy: /Move it away, or name another directory/
        })
      }
      assert.strictEqual(yield* fs(({ readFileString }) => readFileString(directory)), "kept")
    }))

  it.live("a folder that others can write: the command that fixes it", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* fs(({ makeDirectory }) => makeDirectory(`${directory}/credentials`))
      yield* fs(({ chmod }) => chmod(`${directory}/credentials`, 0o777))
      yield* expectFailure({
        args: ["list", "--directory", directory],
        status: ExitStatus.storage,
        tag: "CredentialStorageError",
        says: /can be written by others$/,
        remedy: /Run: chmod go-w/
      })
    }))

  it.live("a corrupt file: it is named, the others are listed, and it stays as it is", () =>
    Effect.gen(function*() {
      const directory = yield* copyOf("tampered/base")
      const environment = { ...settings, HIVE_CREDENTIAL_KEY: hiveKey }
      const file = `${directory}/credentials/p_garbage.enc`
      const before = yield* fs(({ readFile }) => readFile(file))
      for (const command of ["token", "refresh", "validate", "explain"]) {
        yield* expectFailure({
          args: [command, "p_garbage", "--directory", directory],
          environment,
          status: ExitStatus.storage,
          tag: "CredentialDecryptionFailed",
          says: /p_garbage\.enc cannot be opened/,
          remedy: /HIVE_CREDENTIAL_KEY/
        })
      }
      assert.deepStrictEqual(yield* fs(({ readFile }) => readFile(file)), before)
      const ran = yield* run(["list", "--json", "--directory", directory], environment)
      assert.strictEqual(ran.status, ExitStatus.done)
      const list = document(ListDocument, ran)
      assert.strictEqual(list.find(({ id }) => id === "p_garbage")?.status, "unreadable")
      assert.strictEqual(list.find(({ id }) => id === "p_good")?.status, "active")
      assert.match(ran.stderr, /^error: \d+ of \d+ credentials cannot be opened\n {2}See why with: aden-creds explain /)
      assert.strictEqual(
        (yield* run(["delete", "p_garbage", "--directory", directory], environment)).status,
        ExitStatus.done,
        "a person may delete it"
      )
    }))

  it.live("a link or a folder in the place of a file: it is listed as unreadable, with the others", () =>
    Effect.gen(function*() {
      const directory = yield* copyOf("base")
      const environment = { ...settings, HIVE_CREDENTIAL_KEY: hiveKey }
      yield* fs(({ symlink }) => symlink("/etc/hostname", `${directory}/credentials/link.enc`))
      yield* fs(({ makeDirectory }) => makeDirectory(`${directory}/credentials/folder.enc`))
      const ran = yield* run(["list", "--json", "--directory", directory], environment)
      assert.strictEqual(ran.status, ExitStatus.done)
      const list = document(ListDocument, ran)
      for (const id of ["link", "folder"]) {
        assert.strictEqual(list.find((each) => each.id === id)?.status, "unreadable")
      }
      assert.strictEqual(list.find(({ id }) => id === "brave_search")?.status, "active")
      yield* expectFailure({
        args: ["explain", "link", "--directory", directory],
        environment,
        status: ExitStatus.storage,
        tag: "CredentialStorageError",
        says: /is a symbolic link(?!.*run:)/,
        remedy: /Run: rm /
      })
    }))

  it.live("what keeps all of them from being opened is named where it is not the key", () =>
    Effect.gen(function*() {
      const directory = yield* copyOf("base")
      yield* fs(({ remove }) => remove(`${directory}/state`, { recursive: true, force: true }))
      yield* fs(({ writeFileString }) => writeFileString(`${directory}/state`, ""))
      const environment = { ...settings, HIVE_CREDENTIAL_KEY: hiveKey }
      const ran = yield* run(["list", "--directory", directory], environment)
      assert.strictEqual(ran.status, ExitStatus.storage)
      assert.match(
        ran.stderr,
        /^error: None of the \d+ credentials in this directory can be opened: .*state: is not a directory\n {2}Move it away, or name.*\n$/
      )
    }))

  it.live("a key that opens nothing: 8, what is there is listed", () =>
    Effect.gen(function*() {
      const directory = yield* copyOf("base")
      const ran = yield* run(["list", "--json", "--directory", directory], settings)
      assert.strictEqual(ran.status, ExitStatus.storage)
      assert.isTrue(document(ListDocument, ran).every(({ status }) => status === "unreadable"))
      assert.match(
        ran.stderr,
        /^error: None of the \d+ credentials in this directory can be opened\n {2}.*HIVE_CREDENTIAL_KEY/
      )
    }))
})

const freePort = Effect.callback<number>((resume) => {
  const server = createServer()
  server.listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(address === null || typeof address === "string" ? 1 : address.port)))
  })
})
