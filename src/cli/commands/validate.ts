import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type { CredentialValidation } from "../../model/Credential.ts"
import { CredentialStore } from "../../store/CredentialStore.ts"
import { expirySentence } from "../../util/humanTime.ts"
import { printable } from "../../util/sanitize.ts"
import { expiryOf, ValidateDocument } from "../documents.ts"
import { endWith, ExitStatus } from "../ExitStatus.ts"
import { complain, reportingFailures } from "../failureReport.ts"
import { storeWithAden } from "../layers.ts"
import { ref } from "../refArgument.ts"
import { answer } from "../rootCommand.ts"

export const validateCommand = Command.make(
  "validate",
  { ref },
  Effect.fnUntraced(
    function*({ ref }) {
      const store = yield* CredentialStore
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
      yield* complain(`The token of ${JSON.stringify(ref)} is not valid${because(validation)}`, remedyOf(validation))
      yield* endWith(ExitStatus.refused)
    },
    Effect.provide(storeWithAden("makes")),
    reportingFailures
  )
).pipe(Command.withDescription("Ask Aden now whether a token is good"))

/** `valid` is all that an answer has to say: without an expiry the token may have one nonetheless. */
const untilWhen = ({ expiresAt }: CredentialValidation, now: DateTime.Utc): string =>
  expiresAt === undefined ? "" : `: the token ${expirySentence(expiresAt, now)}`

const because = ({ reason }: CredentialValidation): string => reason === undefined ? "" : `: ${printable(reason)}`

const remedyOf = ({ reauthorizationUrl, requiresReauthorization }: CredentialValidation): string =>
  !requiresReauthorization
    ? "Have it renewed with aden-creds refresh."
    : reauthorizationUrl === undefined
    ? "Reconnect the integration in Aden's dashboard."
    : `Open ${reauthorizationUrl} in a browser and connect the integration again.`
