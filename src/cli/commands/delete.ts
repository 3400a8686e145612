import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { CredentialNotFound } from "../../errors/CredentialError.ts"
import { printable } from "../../util/sanitize.ts"
import { DeleteDocument } from "../documents.ts"
import { storeWithoutAden } from "../layers.ts"
import { refCommand } from "../refCommand.ts"
import { answer } from "../rootCommand.ts"

export const deleteCommand = refCommand(
  "delete",
  storeWithoutAden("changes"),
  Effect.fnUntraced(function*(ref, store) {
    if (!(yield* store.delete(ref))) return yield* new CredentialNotFound({ ref })
    yield* answer(
      DeleteDocument,
      { ref, deleted: true },
      () => `${printable(ref)} is deleted here; Aden is not told\n`
    )
  })
).pipe(Command.withDescription("Delete a credential from the cache"))
