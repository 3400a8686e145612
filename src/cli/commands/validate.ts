import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { reauthorizationRemedy } from "../../errors/AdenError.ts"
import type { CredentialRef, CredentialValidation } from "../../model/Credential.ts"
import { expirySentence } from "../../util/humanTime.ts"
import { printable } from "../../util/sanitize.ts"
import { shellQuote } from "../../util/shellQuote.ts"
import { expiryOf, ValidateDocument } from "../documents.ts"
import { endWith, ExitStatus } from "../ExitStatus.ts"
import { complain } from "../failureReport.ts"
import { storeWithAden } from "../layers.ts"
import { refCommand } from "../refCommand.ts"
import { answer } from "../rootCommand.ts"

export const validateCommand = refCommand(
  "validate",
  storeWithAden("makes"),
  Effect.fnUntraced(function*(ref, store) {
    const validation = yield* store.validate(ref)
    const now = yield* DateTime.now
    yield* answer(
      ValidateDocument,
      { ref, ...validation, ...expiryOf(validation.expiresAt, now) },
      ({ style }) =>
        validation.valid
          ? `${printable(ref)} is ${style.green("valid")}${untilWhen(validation, now)}\n`
          : `${printable(ref)} is ${style.red("not valid")}${because(validation)}\n`
    )
    if (validation.valid) return
    yield* complain(`The token of ${JSON.stringify(ref)} is not valid${because(validation)}`, remedyOf(ref, validation))
    yield* endWith(ExitStatus.refused)
  })
).pipe(Command.withDescription("Ask Aden now whether a token is valid"))

/** An answer need not contain an expiry: the token may expire all the same. */
const untilWhen = ({ expiresAt }: CredentialValidation, now: DateTime.Utc): string =>
  expiresAt === undefined ? "" : `: the token ${expirySentence(expiresAt, now)}`

const because = ({ reason }: CredentialValidation): string => reason === undefined ? "" : `: ${printable(reason)}`

const remedyOf = (
  ref: CredentialRef,
  { reauthorizationUrl, requiresReauthorization }: CredentialValidation
): string =>
  !requiresReauthorization
    ? `Refresh it with: aden-creds refresh ${shellQuote(printable(ref))}`
    : reauthorizationRemedy(reauthorizationUrl)
