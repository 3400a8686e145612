import { describe } from "@effect/vitest"
import { CredentialStorage, EncryptedFileStorage } from "aden-credentials"
import { Context, Effect, Layer } from "effect"
import { key, NodeFiles, temporaryDirectory } from "../storage/temporaryStorage.ts"
import { issuersSuite } from "./issuersSuite.ts"

describe("Two issuers over one directory", () => {
  issuersSuite({
    seeds: 1,
    steps: 25,
    openPlace: Effect.map(
      temporaryDirectory,
      (directory) =>
        Layer.build(Layer.fresh(EncryptedFileStorage.layer({ directory, keys: [key] })).pipe(Layer.provide(NodeFiles)))
          .pipe(Effect.map((context) => Context.get(context, CredentialStorage)))
    )
  })
})
