/**
 * Runs `aden-creds` as a user would, and holds what it wrote: in this process, or as a process of its own.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Credential, CredentialStorage, EncryptedFileStorage } from "aden-credentials"
import { runAdenCreds } from "aden-credentials/cli"
import { AdenEmulator } from "aden-credentials/emulator"
import { ConfigProvider, Console, DateTime, Effect, FileSystem, Redacted, Schema, Sink, Stdio, Stream } from "effect"
import type { Layer } from "effect"
import { FetchHttpClient } from "effect/http"
import type { HttpClient } from "effect/http"
import { spawn } from "node:child_process"
import { bundled } from "../fixtures/bundle.ts"
import { startSeedServer } from "../fixtures/seedServer.ts"

export interface Ran {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

export type Environment = Readonly<Record<string, string | undefined>>

/** A Fernet key that no other text of the tests contains. */
export const encryptionKey = "kQ9vTf3xWm2LrZ7yBn4HsDc8JpXe6AuG1oVtRiNqYwE="

const set = (environment: Environment): Record<string, string> =>
  Object.fromEntries(Object.entries(environment).filter((entry): entry is [string, string] => entry[1] !== undefined))

/** Runs a command in this process. `terminal` names the streams that are one; `input` is what it reads from stdin. */
export const run = (
  args: ReadonlyArray<string>,
  environment: Environment = {},
  options: {
    readonly terminal?: ReadonlyArray<"stdout" | "stderr">
    readonly http?: Layer.Layer<HttpClient.HttpClient>
    readonly input?: string
  } = {}
): Effect.Effect<Ran> =>
  Effect.suspend(() => {
    const written = { stdout: "", stderr: "" }
    const into = (name: "stdout" | "stderr") =>
      Sink.forEach((text: string | Uint8Array) =>
        Effect.sync(() => {
          written[name] += typeof text === "string" ? text : new TextDecoder().decode(text)
        })
      )
    const isTerminal = (name: "stdout" | "stderr") => Effect.succeed(options.terminal?.includes(name) ?? false)
    const stdio = Stdio.layerTest({
      stdout: () => into("stdout"),
      stderr: () => into("stderr"),
      stdin: Stream.encodeText(Stream.make(options.input ?? "")),
      stdoutIsTerminal: isTerminal("stdout"),
      stderrIsTerminal: isTerminal("stderr")
    })
    // what is logged goes to the console, past `Stdio`
    const print = (name: "stdout" | "stderr") => (...texts: ReadonlyArray<unknown>) => {
      written[name] += `${texts.map(String).join(" ")}\n`
    }
    const console: Console.Console = Object.assign(Object.create(globalThis.console), {
      log: print("stdout"),
      info: print("stdout"),
      debug: print("stdout"),
      warn: print("stderr"),
      error: print("stderr")
    })
    return runAdenCreds(args).pipe(
      Effect.provide(stdio),
      Effect.provide([NodeServices.layer, options.http ?? FetchHttpClient.layer]),
      Effect.provideService(Console.Console, console),
      Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(set(environment))),
      Effect.map((status) => ({ status, ...written }))
    )
  })

/** The program and arguments that start the command as its sources are. */
export const commandLine = (args: ReadonlyArray<string>): ReadonlyArray<string> => [
  bundled("src/cli/bin.ts"),
  ...args
]

/**
 * Runs a command as a process. `onOutput` sees what it has written so far and may signal it; it gets a SIGINT when
 * `interruptWhen` is done; `user` is who runs it.
 */
export const runProcess = (
  args: ReadonlyArray<string>,
  environment: Environment = {},
  options: {
    readonly onOutput?: (ran: Ran, signal: (name: NodeJS.Signals) => void) => void
    readonly interruptWhen?: Effect.Effect<void>
    readonly user?: number | undefined
  } = {}
): Effect.Effect<Ran> =>
  Effect.callback<Ran>((resume) => {
    const child = spawn(process.execPath, commandLine(args), {
      env: { PATH: process.env["PATH"], ...set(environment) },
      stdio: ["ignore", "pipe", "pipe"],
      ...(options.user === undefined ? {} : { uid: options.user, gid: options.user })
    })
    const written = { stdout: "", stderr: "" }
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (text: string) => {
        written[name] += text
        options.onOutput?.({ status: null, ...written }, (signal) => child.kill(signal))
      })
    }
    child.on("close", (status) => resume(Effect.succeed({ status, ...written })))
    if (options.interruptWhen !== undefined) {
      Effect.runFork(Effect.map(options.interruptWhen, () => child.kill("SIGINT")))
    }
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** A temporary directory for a cache, gone with the scope. */
export const temporaryDirectory = Effect.flatMap(
  FileSystem.FileSystem,
  (fs) => fs.makeTempDirectoryScoped({ prefix: "aden-creds-test-" })
).pipe(Effect.provide(NodeServices.layer))

/** Puts a credential into a cache under the key of the tests: one that Aden did not send just now. */
export const save = (directory: string, credential: Credential) =>
  Effect.flatMap(CredentialStorage, (storage) => storage.save(credential)).pipe(
    Effect.provide(EncryptedFileStorage.layer({ directory, keys: [Redacted.make(encryptionKey)] })),
    Effect.provide(NodeServices.layer)
  )

/** A token of Aden's hubspot that expires in two minutes: it is due. */
export const dueCredential = Effect.map(
  DateTime.now,
  (now) =>
    new Credential({
      ...Credential.fromAccessToken({
        id: "hubspot",
        accessToken: Redacted.make("cached-token"),
        expiresAt: DateTime.add(now, { minutes: 2 }),
        provider: "hubspot"
      }),
      providerId: "aden_sync"
    })
)

/** The seed server, and the settings to reach it. */
export const seedServer = (dialect: "seed" | "hive") =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => startSeedServer({ dialect })),
      ({ close }) => Effect.promise(close)
    ),
    (server) => ({
      ...server,
      environment: { ADEN_API_URL: server.url, ADEN_API_KEY: "seed-key", HIVE_CREDENTIAL_KEY: encryptionKey }
    })
  )

/** The settings to reach the emulator in the context. */
export const emulatorEnvironment = Effect.map(AdenEmulator, ({ apiKey, tenantId, url }) => ({
  ADEN_API_URL: url,
  ADEN_API_KEY: Redacted.value(apiKey),
  ADEN_TENANT_ID: tenantId,
  HIVE_CREDENTIAL_KEY: encryptionKey
}))

/** The one document on stdout. */
export const document = <A, I>(schema: Schema.Codec<A, I>, { stdout }: Ran): A =>
  Schema.decodeUnknownSync(Schema.fromJsonString(schema))(stdout)

/** No escape sequence, no stack trace. */
export const isPlain = ({ stderr, stdout }: Ran): boolean => {
  const text = stdout + stderr
  return !text.includes("\u001b") && !/^\s+at .*[:(]\d+/m.test(text)
}
