import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { CredentialKeyNotFound } from "../../errors/CredentialError.ts"
import { AwaitRefresh } from "../../store/RefreshPolicy.ts"
import { expiryOf, TokenDocument } from "../documents.ts"
import { storeWithAden } from "../layers.ts"
import { refCommand } from "../refCommand.ts"
import { answer } from "../rootCommand.ts"

export const tokenCommand = refCommand(
  "token",
  storeWithAden("makes"),
  Effect.fnUntraced(function*(ref, store) {
    const credential = yield* Effect.provideService(store.get(ref), AwaitRefresh, true)
    const key = credential.defaultKey
    if (key === undefined) return yield* new CredentialKeyNotFound({ ref })
    const token = Redacted.value(key.value)
    const now = yield* DateTime.now
    yield* answer(
      TokenDocument,
      { ref, id: credential.id, token, ...expiryOf(key.expiresAt, now) },
      () => `${token}\n`
    )
  })
).pipe(
  Command.withDescription("Print a valid access token, and nothing else on stdout"),
  Command.withExamples([
    { command: "aden-creds token hubspot", description: "The token of the only HubSpot account" },
    {
      command: "curl -H \"Authorization: Bearer $(aden-creds token github)\" https://api.github.com/user",
      description: "Use the token in a request"
    }
  ])
)
