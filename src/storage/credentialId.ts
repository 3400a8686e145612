import * as Effect from "effect/Effect"
import { InvalidCredentialId } from "../errors/CredentialError.ts"

/** Refuses what cannot be an id in any storage: the empty text, and one with a lone surrogate (two such would look alike in UTF-8). */
export const checkCredentialId = (id: string): Effect.Effect<void, InvalidCredentialId> => {
  if (id === "") return Effect.fail(new InvalidCredentialId({ detail: "an id cannot be empty" }))
  if (!id.isWellFormed()) {
    return Effect.fail(new InvalidCredentialId({ detail: "an id cannot hold half a surrogate pair" }))
  }
  return Effect.void
}
