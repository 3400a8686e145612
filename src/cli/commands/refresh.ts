import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { expirySentence } from "../../util/humanTime.ts"
import { printable } from "../../util/sanitize.ts"
import { expiryOf, RefreshDocument } from "../documents.ts"
import { storeWithAden } from "../layers.ts"
import { refCommand } from "../refCommand.ts"
import { answer } from "../rootCommand.ts"

export const refreshCommand = refCommand(
  "refresh",
  storeWithAden("changes"),
  Effect.fnUntraced(function*(ref, store) {
    const credential = yield* store.refresh(ref)
    const now = yield* DateTime.now
    yield* answer(
      RefreshDocument,
      {
        ref,
        id: credential.id,
        provider: credential.integrationType,
        alias: credential.alias,
        ...expiryOf(credential.expiresAt, now)
      },
      () => `${printable(ref)} is refreshed: the new token ${expirySentence(credential.expiresAt, now)}\n`
    )
  })
).pipe(Command.withDescription("Have Aden refresh a token now, whatever its age"))
