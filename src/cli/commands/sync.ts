import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { SyncEvent, SyncSkipped } from "../../model/CredentialEvent.ts"
import { CredentialStore } from "../../store/CredentialStore.ts"
import { expirySentence } from "../../util/humanTime.ts"
import type { OutputStream } from "../CommandOutput.ts"
import { expiryOf, SyncDocument } from "../documents.ts"
import { endWith, exitStatusOf, worstOf } from "../ExitStatus.ts"
import { complain, detailsOf, reportingFailures } from "../failureReport.ts"
import { storeWithAden } from "../layers.ts"
import * as ProgressBar from "../ProgressBar.ts"
import { answer } from "../rootCommand.ts"
import type { Column } from "../table.ts"
import { paintStatus, table } from "../table.ts"

export const syncCommand = Command.make(
  "sync",
  {},
  Effect.fnUntraced(
    function*() {
      const outcome = grouped(byId(yield* syncWithProgress))
      const now = yield* DateTime.now
      yield* answer(
        SyncDocument,
        {
          synced: outcome.synced.map((event) => ({ ...event, ...expiryOf(event.expiresAt, now) })),
          skipped: outcome.skipped,
          failed: outcome.failed.map((event) => ({ ...event, error: detailsOf(event.error) })),
          removed: outcome.removed.map(({ id }) => id)
        },
        (stdout) => textOf(outcome, stdout, now)
      )
      const worst = worstOf(outcome.failed.map(({ error }) => error))
      if (worst === undefined) return
      const { message, remedy } = detailsOf(worst)
      const others = outcome.failed.length - 1
      yield* complain(others === 0 ? message : `${message}; ${others} more failed`, remedy)
      yield* endWith(exitStatusOf(worst))
    },
    Effect.provide(storeWithAden("makes")),
    reportingFailures
  )
).pipe(Command.withDescription("Fetch every integration that Aden lists into the local cache"))

const syncWithProgress = Effect.scoped(Effect.gen(function*() {
  const store = yield* CredentialStore
  const progress = yield* ProgressBar.make("Syncing")
  return yield* store.syncStream.pipe(
    Stream.tap((event) => event._tag === "Listed" ? progress.expect(event.total) : progress.step),
    Stream.runCollect
  )
}))

/** Integrations answer in any order, and a report is read and compared. */
const byId = (events: ReadonlyArray<SyncEvent>): ReadonlyArray<SyncEvent> => {
  const keyOf = (event: SyncEvent) => "id" in event ? event.id ?? "" : ""
  return events.toSorted((a, b) => keyOf(a) < keyOf(b) ? -1 : keyOf(a) > keyOf(b) ? 1 : 0)
}

type Outcome = ReturnType<typeof grouped>

const grouped = (events: ReadonlyArray<SyncEvent>) => ({
  synced: events.filter((event) => event._tag === "Synced"),
  skipped: events.filter((event) => event._tag === "Skipped"),
  failed: events.filter((event) => event._tag === "Failed"),
  removed: events.filter((event) => event._tag === "Removed")
})

interface Row {
  readonly integration: string
  readonly outcome: "synced" | "skipped" | "failed" | "removed"
  readonly detail: string
}

const columns: ReadonlyArray<Column<Row>> = [
  { title: "INTEGRATION", cell: ({ integration }) => integration },
  { title: "OUTCOME", cell: ({ outcome }) => outcome, paint: ({ outcome }, style) => paintStatus(outcome, style) },
  { title: "DETAIL", cell: ({ detail }) => detail }
]

/** What became of each, then the counts. */
const textOf = ({ failed, removed, skipped, synced }: Outcome, stdout: OutputStream, now: DateTime.Utc): string => {
  const called = namesOf([...synced, ...skipped, ...failed])
  const rows: ReadonlyArray<Row> = [
    ...synced.map((event): Row => ({
      integration: called(event),
      outcome: "synced",
      detail: expirySentence(event.expiresAt, now)
    })),
    ...skipped.map((event): Row => ({ integration: called(event), outcome: "skipped", detail: reasonOf(event) })),
    ...failed.map((event): Row => ({
      integration: called(event),
      outcome: "failed",
      detail: detailsOf(event.error).message
    })),
    ...removed.map(({ id }): Row => ({ integration: id, outcome: "removed", detail: "Aden no longer has it" }))
  ]
  const counts =
    `${synced.length} synced, ${skipped.length} skipped, ${failed.length} failed, ${removed.length} removed\n`
  return rows.length === 0 ? counts : table(stdout, columns, rows) + (stdout.isTerminal ? "\n" : "") + counts
}

interface Named {
  readonly id: string | undefined
  readonly provider: string | undefined
  readonly alias: string | undefined
}

/** Ids can be opaque: an integration goes by its provider and alias, where they are known. */
const nameOf = ({ alias, id, provider }: Named): string =>
  provider === undefined ? id ?? "-" : alias === undefined ? provider : `${provider}:${alias}`

/** The name of each; its id where the name is that of others too. */
const namesOf = (events: ReadonlyArray<Named>): (event: Named) => string => {
  const ids = new Map<string, Set<string | undefined>>()
  const note = (name: string, id: string | undefined) => ids.set(name, (ids.get(name) ?? new Set()).add(id))
  for (const event of events) {
    note(nameOf(event), event.id)
    // a provider's name alone means none of several accounts
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
