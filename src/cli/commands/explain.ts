import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import { CredentialStorageError } from "../../errors/StorageError.ts"
import { issuerText } from "../../model/Credential.ts"
import { checkSaving } from "../../storage/files/inspect.ts"
import { directoryOf } from "../../storage/migration/location.ts"
import type { CredentialExplanation } from "../../store/explain.ts"
import { durationText, expiryText, timeText } from "../../util/humanTime.ts"
import { printable } from "../../util/sanitize.ts"
import type { Style } from "../CommandOutput.ts"
import { expiryOf, ExplainDocument, issuerOf } from "../documents.ts"
import { storeOffline } from "../layers.ts"
import { refCommand } from "../refCommand.ts"
import { answer, chosenStorage } from "../rootCommand.ts"
import { paintStatus } from "../table.ts"

export const explainCommand = refCommand(
  "explain",
  storeOffline,
  Effect.fnUntraced(function*(ref, store) {
    const found = yield* store.explain(ref)
    // this process has written nothing yet, so storage has not failed yet
    const explanation = { ...found, storageError: found.storageError ?? (yield* unwritable(found.id)) }
    const now = yield* DateTime.now
    yield* answer(
      ExplainDocument,
      {
        ...explanation,
        ...expiryOf(explanation.expiresAt, now),
        ageMs: explanation.age,
        storageError: explanation.storageError?.message,
        coolDownLeftMs: explanation.coolDownLeft,
        issuer: issuerOf(explanation.issuer)
      },
      ({ style }) => textOf(explanation, now, style)
    )
  })
).pipe(Command.withDescription("Show the status of a cached credential, and what it results from. Makes no request"))

/** What the next write of a credential would fail with, as far as this can be told without writing. */
const unwritable = Effect.fnUntraced(function*(id: string) {
  const location = yield* chosenStorage
  if (location._tag !== "Directory") return undefined
  const directory = yield* directoryOf(location)
  return yield* checkSaving(directory).pipe(Effect.match({
    onFailure: (reason) => new CredentialStorageError({ id, operation: "save", reason }),
    onSuccess: () => undefined
  }))
})

const textOf = (explanation: CredentialExplanation, now: DateTime.Utc, style: Style): string => {
  const {
    age,
    alias,
    coolDownLeft,
    expiresAt,
    id,
    issuer,
    lastError,
    provider,
    reauthorizationUrl,
    renewalAt,
    source,
    status,
    storageError
  } = explanation
  const lines: ReadonlyArray<readonly [label: string, value: string | undefined]> = [
    ["id", id],
    ["provider", provider],
    ["alias", alias],
    ["status", status],
    ["read from", source],
    ["age", age === undefined ? undefined : durationText(age)],
    ["expires", source === undefined ? undefined : expiryText(expiresAt, now)],
    ["refreshed from", renewalAt === undefined ? undefined : timeText(renewalAt, now)],
    ["last error", lastError],
    ["storage error", storageError?.message],
    ["rate-limited for", coolDownLeft === undefined ? undefined : durationText(coolDownLeft)],
    ["authorize again at", reauthorizationUrl],
    ["issuer", issuer === undefined ? undefined : issuerText(issuer)]
  ]
  return lines.map(([label, value]) => {
    if (value === undefined) return ""
    const paint = label === "status" ? paintStatus(status, style) : identity
    return `${`${label}:`.padEnd(20)} ${paint(printable(value))}\n`
  }).join("")
}
