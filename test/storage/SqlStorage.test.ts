import { Effect, Exit, Scope } from "effect"
import { afterAll, beforeAll } from "vitest"
import { describeWith, postgres } from "../fixtures/realServers.ts"
import { namespacedIn, newSchema } from "./postgresSchema.ts"
import { suite } from "./StorageContract.ts"

describeWith(postgres, "SqlStorage", () => {
  const scope = Scope.makeUnsafe()
  let url = ""
  beforeAll(async () => {
    url = await Effect.runPromise(Scope.provide(newSchema, scope))
  })
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

  suite("SqlStorage", namespacedIn(() => url))
})
