import * as Argument from "effect/cli/Argument"

export const ref = Argument.String("ref").pipe(
  Argument.withDescription("An id, a provider (hubspot), or provider:alias (google:Timothy)")
)
