#!/usr/bin/env node
/**
 * The executable: settings from the environment, arguments from the command line, the exit status to the system.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Stdio from "effect/Stdio"
import process from "node:process"
import { ProxiedHttpClient } from "../proxy/ProxiedHttpClient.ts"
import { runAdenCreds } from "./adenCreds.ts"
import { ExitStatus } from "./ExitStatus.ts"

// when the reader has gone (`| head -1`), the failed write reports it; without a listener the error would end the process
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined)

process.exitCode = ExitStatus.unexpected

/** The commands that use it report an invalid proxy before they send anything. */
const Http = Layer.catch(
  ProxiedHttpClient.layerConfig,
  (error) => Layer.succeed(HttpClient.HttpClient, HttpClient.make(() => Effect.die(error)))
)

Stdio.Stdio.use(({ args }) => Effect.flatMap(args, runAdenCreds)).pipe(
  Effect.provide([NodeServices.layer, Http]),
  Effect.map((status) => {
    process.exitCode = status
  }),
  // an interrupted run has a status too: `runAdenCreds` itself can be interrupted, what follows it cannot
  Effect.uninterruptible,
  NodeRuntime.runMain({
    disableErrorReporting: true,
    teardown: (_exit, onExit) => onExit(Number(process.exitCode))
  })
)
