import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import { CredentialNotFound } from "../../errors/CredentialError.ts"
import { issuerText } from "../../model/Credential.ts"
import { missingSetting } from "../../model/settings.ts"
import { configuredIssuer } from "../../providers/aden/inspect.ts"
import { CredentialStorage } from "../../storage/CredentialStorage.ts"
import { adopt } from "../../store/inspect.ts"
import { printable } from "../../util/sanitize.ts"
import { AdoptDocument, issuerOf } from "../documents.ts"
import { endWith, ExitStatus } from "../ExitStatus.ts"
import { report, reportingFailures } from "../failureReport.ts"
import { storeWithoutAden } from "../layers.ts"
import { answer, rootCommand } from "../rootCommand.ts"

export const adoptCommand = Command.make(
  "adopt",
  {
    id: Argument.String("id").pipe(
      Argument.withDescription("The id of a credential of another issuer, as list shows it")
    ),
    delete: Flag.Boolean("delete").pipe(
      Flag.withDescription("Delete it instead"),
      Flag.withDefault(false)
    )
  },
  Effect.fnUntraced(
    function*({ delete: deletes, id }) {
      const own = yield* configuredIssuer
      if (own === undefined) return yield* missingSetting("ADEN_API_URL", "the URL of the Aden that it is to belong to")
      const adoption = yield* adopt(yield* CredentialStorage, id, { own, deletes })
      switch (adoption._tag) {
        case "Missing":
          return yield* new CredentialNotFound({ ref: id })
        case "Taken": {
          const { json } = yield* rootCommand
          yield* endWith(ExitStatus.usage)
          return yield* report({
            tag: "CredentialExists",
            message: `${JSON.stringify(adoption.id)} is stored for ${issuerText(own)} already`,
            remedy: `Delete that first, with: aden-creds delete ${JSON.stringify(adoption.id)}`,
            exitCode: ExitStatus.usage,
            isRetryable: false,
            id: adoption.id
          }, { json })
        }
        case "Done":
          return yield* answer(
            AdoptDocument,
            { id, outcome: deletes ? "deleted" : "adopted", issuer: issuerOf(adoption.issuer) },
            () =>
              deletes
                ? `${printable(id)} of ${issuerText(adoption.issuer)} is deleted here; Aden is not told\n`
                : `${printable(id)} of ${issuerText(adoption.issuer)} belongs to ${issuerText(own)} now\n`
          )
      }
    },
    Effect.provide(storeWithoutAden("changes")),
    reportingFailures
  )
).pipe(Command.withDescription("Make a cached credential of another issuer that of the configured Aden, or delete it"))
