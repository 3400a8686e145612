import { describe } from "@effect/vitest"
import { PostgresConnection } from "aden-credentials/postgres"
import { Layer } from "effect"
import { SqlStorage } from "../../../src/storage/postgres/SqlStorage.ts"
import { hasPostgresServer, needsPostgresServer, restartablePostgres } from "../../fixtures/postgresServer.ts"
import { outageSuite } from "../outageSuite.ts"
import { key } from "../temporaryStorage.ts"

describe.skipIf(!hasPostgresServer)(`SqlStorage${needsPostgresServer}`, () => {
  outageSuite("Postgres", {
    server: restartablePostgres,
    storageAt: (url) => SqlStorage.layer({ keys: [key] }).pipe(Layer.provide(PostgresConnection.layer({ url })))
  })
})
