import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type { SyncEvent, SyncSkipped } from "../../model/CredentialEvent.ts"
import { CredentialStore } from "../../store/CredentialStore.ts"
import { expirySentence } from "../../util/humanTime.ts"
import { collectWithProgress, complainOfFailures, outcomeTable } from "../batchReport.ts"
import type { OutcomeRow } from "../batchReport.ts"
import type { OutputStream } from "../CommandOutput.ts"
import { expiryOf, SyncDocument } from "../documents.ts"
import { detailsOf, reportingFailures } from "../failureReport.ts"
import { storeWithAden } from "../layers.ts"
import { answer } from "../rootCommand.ts"

export const syncCommand = Command.make(
  "sync",
  {},
  Effect.fnUntraced(
    function*() {
      const outcome = grouped(byId(yield* collectWithProgress("Syncing", (yield* CredentialStore).syncStream)))
      const now = yield* DateTime.now
      yield* answer(
        SyncDocument,
        {
          synced: outcome.synced.map((event) => ({ ...event, ...expiryOf(event.expiresAt, now) })),
          skipped: outcome.skipped,
          failed: outcome.failed.map((event) => ({ ...event, error: detailsOf(event.error) })),
          removed: outcome.removed.map(({ id }) => id),
          isIncomplete: outcome.isIncomplete
        },
        (stdout) => textOf(outcome, stdout, now)
      )
      yield* complainOfFailures(outcome.failed.map(({ error }) => error))
    },
    Effect.provide(storeWithAden("makes")),
    reportingFailures
  )
).pipe(Command.withDescription("Fetch every integration that Aden lists into the cache"))

/** Sorted by id: integrations answer in any order, and reports are compared. */
const byId = (events: ReadonlyArray<SyncEvent>): ReadonlyArray<SyncEvent> => {
  const keyOf = (event: SyncEvent) => "id" in event ? event.id ?? "" : ""
  return events.toSorted((a, b) => keyOf(a) < keyOf(b) ? -1 : keyOf(a) > keyOf(b) ? 1 : 0)
}

type Outcome = ReturnType<typeof grouped>

const grouped = (events: ReadonlyArray<SyncEvent>) => ({
  synced: events.filter((event) => event._tag === "Synced"),
  skipped: events.filter((event) => event._tag === "Skipped"),
  failed: events.filter((event) => event._tag === "Failed"),
  removed: events.filter((event) => event._tag === "Removed"),
  isIncomplete: events.some((event) => event._tag === "Listed" && event.isIncomplete)
})

/** What became of each, then the counts. */
const textOf = (
  { failed, isIncomplete, removed, skipped, synced }: Outcome,
  stdout: OutputStream,
  now: DateTime.Utc
): string => {
  const called = namesOf([...synced, ...skipped, ...failed])
  const rows: ReadonlyArray<OutcomeRow> = [
    ...synced.map((event) => ({
      subject: called(event),
      outcome: "synced",
      detail: expirySentence(event.expiresAt, now)
    })),
    ...skipped.map((event) => ({ subject: called(event), outcome: "skipped", detail: reasonOf(event) })),
    ...failed.map((event) => ({
      subject: called(event),
      outcome: "failed",
      detail: detailsOf(event.error).message
    })),
    ...removed.map(({ id }) => ({ subject: id, outcome: "removed", detail: "Aden no longer has it" }))
  ]
  const counts =
    `${synced.length} synced, ${skipped.length} skipped, ${failed.length} failed, ${removed.length} removed`
  const text = outcomeTable(stdout, "INTEGRATION", rows, counts)
  return isIncomplete ? `${text}${incompleteNotice}\n` : text
}

const incompleteNotice =
  "warning: Aden's list may be incomplete: it tells of further pages, which are not read; nothing was removed"

interface Named {
  readonly id: string | undefined
  readonly provider: string | undefined
  readonly alias: string | undefined
}

/** Ids can be opaque, so an integration is named by its provider and alias if they are known. */
const nameOf = ({ alias, id, provider }: Named): string =>
  provider === undefined ? id ?? "-" : alias === undefined ? provider : `${provider}:${alias}`

/** The name of each integration; its id if several have the same name. */
const namesOf = (events: ReadonlyArray<Named>): (event: Named) => string => {
  const ids = new Map<string, Set<string | undefined>>()
  const note = (name: string, id: string | undefined) => ids.set(name, (ids.get(name) ?? new Set()).add(id))
  for (const event of events) {
    note(nameOf(event), event.id)
    // a provider's name does not say which of several accounts is meant
    if (event.provider !== undefined && event.alias !== undefined) note(event.provider, event.id)
  }
  return (event) => (ids.get(nameOf(event))?.size ?? 0) > 1 ? event.id ?? "-" : nameOf(event)
}

const reasonOf = ({ detail, reason, reauthorizationUrl }: SyncSkipped): string => {
  switch (reason) {
    case "ReauthRequired":
      return `needs re-authorization${reauthorizationUrl === undefined ? "" : `: ${reauthorizationUrl}`}`
    case "Malformed":
      return `Aden's list has an item that cannot be read: ${detail}`
    case "OwnedElsewhere":
    case "NotFound":
      return detail
  }
}
