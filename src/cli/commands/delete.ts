import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { CredentialNotFound } from "../../errors/CredentialError.ts"
import { CredentialStore } from "../../store/CredentialStore.ts"
import { printable } from "../../util/sanitize.ts"
import { DeleteDocument } from "../documents.ts"
import { reportingFailures } from "../failureReport.ts"
import { storeAlone } from "../layers.ts"
import { ref } from "../refArgument.ts"
import { answer } from "../rootCommand.ts"

export const deleteCommand = Command.make(
  "delete",
  { ref },
  Effect.fnUntraced(
    function*({ ref }) {
      const store = yield* CredentialStore
      if (!(yield* store.delete(ref))) return yield* new CredentialNotFound({ ref })
      yield* answer(
        DeleteDocument,
        { ref, deleted: true },
        () => `${printable(ref)} is deleted here; Aden is not told\n`
      )
    },
    Effect.provide(storeAlone("changes")),
    reportingFailures
  )
).pipe(Command.withDescription("Delete a credential from the local cache"))
