import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { CredentialStore } from "../../store/CredentialStore.ts"
import { expirySentence } from "../../util/humanTime.ts"
import { printable } from "../../util/sanitize.ts"
import { expiryOf, RefreshDocument } from "../documents.ts"
import { reportingFailures } from "../failureReport.ts"
import { storeWithAden } from "../layers.ts"
import { ref } from "../refArgument.ts"
import { answer } from "../rootCommand.ts"

export const refreshCommand = Command.make(
  "refresh",
  { ref },
  Effect.fnUntraced(
    function*({ ref }) {
      const store = yield* CredentialStore
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
    },
    Effect.provide(storeWithAden("changes")),
    reportingFailures
  )
).pipe(Command.withDescription("Have Aden renew a token now, whatever its age"))
