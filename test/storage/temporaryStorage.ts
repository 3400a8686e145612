import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import { Effect, FileSystem, Layer, Redacted } from "effect"
import { CredentialStorage } from "../../src/storage/CredentialStorage.ts"
import { EncryptedFileStorage } from "../../src/storage/files/EncryptedFileStorage.ts"

/** A key made for tests. */
export const key = Redacted.make("DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus=")
export const otherKey = Redacted.make("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=")

export const NodeFiles = Layer.merge(NodeFileSystem.layer, NodePath.layer)

export const temporaryDirectory = Effect.flatMap(
  FileSystem.FileSystem,
  (fs) => fs.makeTempDirectoryScoped({ prefix: "aden-credentials-" })
).pipe(Effect.provide(NodeFiles))

/** A storage in a directory, built for this effect alone. */
export const inDirectory =
  (directory: string, keys: ReadonlyArray<Redacted.Redacted<string>> = [key]) =>
  <A, E>(use: (storage: CredentialStorage["Service"]) => Effect.Effect<A, E>) =>
    CredentialStorage.use(use).pipe(
      Effect.provide(Layer.fresh(EncryptedFileStorage.layer({ directory, keys }))),
      Effect.provide(NodeFiles)
    )

/** A storage in a new directory that goes when the scope closes. */
export const TemporaryStorage = Layer.unwrap(
  Effect.map(temporaryDirectory, (directory) => EncryptedFileStorage.layer({ directory, keys: [key] }))
).pipe(Layer.provide(NodeFiles))
