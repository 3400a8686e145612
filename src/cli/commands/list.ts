import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { issuerText } from "../../model/Credential.ts"
import { configuredIssuer } from "../../providers/aden/inspect.ts"
import { CredentialStorage } from "../../storage/CredentialStorage.ts"
import { CredentialStore } from "../../store/CredentialStore.ts"
import { summariesOfOthers } from "../../store/inspect.ts"
import type { CredentialSummary } from "../../store/list.ts"
import { expiryText } from "../../util/humanTime.ts"
import { formatTimestamp } from "../../util/Timestamp.ts"
import { CommandOutput } from "../CommandOutput.ts"
import { expiryOf, issuerOf, ListDocument } from "../documents.ts"
import { endWith, ExitStatus } from "../ExitStatus.ts"
import { complain, detailsOf, reportingFailures } from "../failureReport.ts"
import { storeWithoutAden } from "../layers.ts"
import { answer, chosenStorage } from "../rootCommand.ts"
import type { Column } from "../table.ts"
import { paintStatus, table } from "../table.ts"

export const listCommand = Command.make(
  "list",
  {},
  Effect.fnUntraced(
    function*() {
      const store = yield* CredentialStore
      const { stderr } = yield* CommandOutput
      const own = yield* store.list
      const others = yield* summariesOfOthers(yield* CredentialStorage, yield* configuredIssuer)
      const summaries = [
        ...own.map((summary) => ({ ...summary, isOthers: false })),
        ...others.map((summary) => ({ ...summary, isOthers: true }))
      ]
      const now = yield* DateTime.now
      yield* answer(
        ListDocument,
        summaries.map((summary) => ({
          ...summary,
          issuer: issuerOf(summary.issuer),
          ...expiryOf(summary.expiresAt, now)
        })),
        (stdout) =>
          summaries.length === 0
            ? ""
            : table(stdout, [...columns(stdout.isTerminal, now), ...(others.length > 0 ? [ownership] : [])], summaries)
      )
      if (summaries.length === 0) {
        yield* stderr.write("No credentials are cached. Fetch them with: aden-creds sync\n")
      }
      yield* complainOfUnreadable(own)
    },
    Effect.provide(storeWithoutAden("looks")),
    reportingFailures
  )
).pipe(Command.withDescription("Show what is cached, without secrets"))

const columns = (isTerminal: boolean, now: DateTime.Utc): ReadonlyArray<Column<CredentialSummary>> => [
  { title: "REF", cell: ({ ref }) => ref },
  { title: "PROVIDER", cell: ({ provider }) => provider ?? "-" },
  { title: "ALIAS", cell: ({ alias }) => alias ?? "-" },
  { title: "STATUS", cell: ({ status }) => status, paint: ({ status }, style) => paintStatus(status, style) },
  {
    title: "EXPIRES",
    cell: ({ expiresAt, status }) =>
      status === "unreadable"
        ? "-"
        : expiresAt === undefined || isTerminal
        ? expiryText(expiresAt, now)
        : formatTimestamp(expiresAt)
  }
]

/** Only where there are others' credentials. */
const ownership: Column<CredentialSummary & { readonly isOthers: boolean }> = {
  title: "BELONGS TO",
  cell: ({ isOthers, issuer }) => isOthers && issuer !== undefined ? issuerText(issuer) : "-"
}

/**
 * When some credentials cannot be opened, they are listed as such. When none can be opened, the command fails: mostly the key
 * is wrong.
 */
const complainOfUnreadable = Effect.fnUntraced(function*(summaries: ReadonlyArray<CredentialSummary>) {
  const unreadable = summaries.filter(({ status }) => status === "unreadable")
  const [first] = unreadable
  if (first === undefined) return
  if (unreadable.length < summaries.length) {
    return yield* complain(
      `${unreadable.length} of ${summaries.length} credentials cannot be opened`,
      `See why with: aden-creds explain ${JSON.stringify(first.ref)}`
    )
  }
  const place = (yield* chosenStorage)._tag === "Directory" ? "directory" : "namespace"
  const none = `None of the ${summaries.length} credentials in this ${place} can be opened`
  const store = yield* CredentialStore
  const reason = yield* Effect.option(Effect.flip(store.explain(first.ref)))
  if (Option.isSome(reason) && reason.value._tag === "CredentialStorageError") {
    const { message, remedy } = detailsOf(reason.value)
    yield* complain(`${none}: ${message}`, remedy)
    return yield* endWith(ExitStatus.storage)
  }
  yield* complain(
    none,
    `Set HIVE_CREDENTIAL_KEY to the key that they were written with, or name another --${place}. ` +
      `See why with: aden-creds explain ${JSON.stringify(first.ref)}`
  )
  yield* endWith(ExitStatus.storage)
})
