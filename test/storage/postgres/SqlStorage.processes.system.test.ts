import { Effect } from "effect"
import { describeWith, postgres } from "../../fixtures/realServers.ts"
import { fleetSuite } from "../fleetSuite.ts"
import { connected, newSchema, storageOver } from "./postgresSchema.ts"

// Real processes over one real Postgres server.

const namespace = "fleet"

const place = Effect.gen(function*() {
  const database = yield* newSchema
  return { database, namespace, storage: yield* storageOver(yield* connected(database), { namespace }) }
})

describeWith(postgres, "SqlStorage", () => fleetSuite("SqlStorage", place))
