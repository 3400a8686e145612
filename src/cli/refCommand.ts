/**
 * The commands that work on the credential of one ref.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { CredentialStore } from "../store/CredentialStore.ts"
import type { CommandFailure } from "./CommandFailure.ts"
import { reportingFailures } from "./failureReport.ts"

const ref = Argument.String("ref").pipe(
  Argument.withDescription("An id, a provider (hubspot), or provider:alias (google:Timothy)")
)

/** A command with a ref as its argument, over a store. Failures of `run` and of the store are reported. */
export const refCommand = <const Name extends string, E extends CommandFailure, R, E2 extends CommandFailure, R2>(
  name: Name,
  store: Layer.Layer<CredentialStore, E2, R2>,
  run: (ref: string, store: CredentialStore["Service"]) => Effect.Effect<void, E, R>
) =>
  Command.make(name, { ref }, ({ ref }) =>
    CredentialStore.use((store) => run(ref, store)).pipe(
      Effect.provide(store),
      reportingFailures
    ))
