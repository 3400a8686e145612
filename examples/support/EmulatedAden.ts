/**
 * What the examples run on instead of a real Aden server: the emulator, an empty home directory that is removed afterwards, and
 * the settings that would be in the environment. A program of your own leaves this out and sets the variables.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Fernet } from "aden-credentials"
import { AdenEmulator, type AdenEmulatorOptions } from "aden-credentials/emulator"
import { ConfigProvider, Effect, FileSystem, Layer, Path, Redacted } from "effect"

export const EmulatedAden = (
  options: AdenEmulatorOptions = {},
  settings: Readonly<Record<string, string>> = {}
) =>
  Layer.unwrap(Effect.gen(function*() {
    const aden = yield* AdenEmulator
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const home = yield* fs.makeTempDirectoryScoped({ prefix: "aden-example-" })
    // what `aden-creds keys generate --save` does
    const secrets = path.join(home, ".hive", "secrets")
    yield* fs.makeDirectory(secrets, { recursive: true, mode: 0o700 })
    const key = Redacted.value(yield* Fernet.generateKey)
    yield* fs.writeFileString(path.join(secrets, "credential_key"), key, { mode: 0o600 })
    return ConfigProvider.layer(ConfigProvider.fromUnknown({
      HOME: home,
      ADEN_API_URL: aden.url,
      ADEN_API_KEY: Redacted.value(aden.apiKey),
      ...settings
    }))
  })).pipe(
    Layer.provideMerge(AdenEmulator.layer(options)),
    Layer.provide(NodeServices.layer)
  )
