/**
 * What the examples run on in place of a real Aden server: the emulator, an empty home directory that is removed afterwards, and
 * the settings that would be in the environment. A program of your own leaves this out and sets the variables.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Fernet } from "aden-credentials"
import { AdenEmulator, type AdenEmulatorOptions } from "aden-credentials/emulator"
import { ConfigProvider, Effect, FileSystem, Layer, Redacted } from "effect"

export const EmulatedAden = (
  options: AdenEmulatorOptions = {},
  settings: Readonly<Record<string, string>> = {}
) =>
  Layer.unwrap(Effect.gen(function*() {
    const aden = yield* AdenEmulator
    const fs = yield* FileSystem.FileSystem
    const key = yield* Fernet.generateKey
    return ConfigProvider.layer(ConfigProvider.fromUnknown({
      HOME: yield* fs.makeTempDirectoryScoped({ prefix: "aden-example-" }),
      ADEN_API_URL: aden.url,
      ADEN_API_KEY: Redacted.value(aden.apiKey),
      HIVE_CREDENTIAL_KEY: Redacted.value(key),
      ...settings
    }))
  })).pipe(
    Layer.provideMerge(AdenEmulator.layer(options)),
    Layer.provide(NodeServices.layer)
  )
