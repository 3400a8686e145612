import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { configuredKeys } from "../../encryption/keys.ts"
import { AdenConfigError } from "../../errors/CredentialError.ts"
import { shownServer } from "../../storage/migration/databases.ts"
import { directoryPlaces } from "../../storage/migration/fileSide.ts"
import {
  databaseIdentity,
  directoryOf,
  kindOf,
  namespaceOf,
  requireDirectory,
  storageLocation
} from "../../storage/migration/location.ts"
import type { StorageLocation } from "../../storage/migration/location.ts"
import { migrate } from "../../storage/migration/migrate.ts"
import type { MigrationEvent } from "../../storage/migration/migrate.ts"
import { databasePlaces } from "../../storage/migration/recordSide.ts"
import type { OutputStream } from "../CommandOutput.ts"
import { CommandOutput } from "../CommandOutput.ts"
import { MigrateDocument } from "../documents.ts"
import { endWith, exitStatusOf, worstOf } from "../ExitStatus.ts"
import { complain, detailsOf, reportingFailures } from "../failureReport.ts"
import * as ProgressBar from "../ProgressBar.ts"
import { answer, rootCommand } from "../rootCommand.ts"
import type { Column } from "../table.ts"
import { paintStatus, table } from "../table.ts"

type Side = "from" | "to"

const sideFlags = (side: Side) =>
  ({
    storage: Flag.Redacted(side).pipe(
      Flag.withMetavar("<storage>"),
      Flag.withDescription(
        `Where credentials are copied ${side}: the path of a directory, redis://…, rediss://… or postgres://…; ` +
          "redis: and postgres: alone are the servers of REDIS_URL and DATABASE_URL"
      )
    ),
    namespace: Flag.String(`${side}-namespace`).pipe(
      Flag.withMetavar("<name>"),
      Flag.withDescription(`The namespace in the database that --${side} names, where it is not that of --namespace`),
      Flag.optional
    ),
    table: Flag.String(`${side}-table`).pipe(
      Flag.withMetavar("<name>"),
      Flag.withDescription(`The table in the Postgres database that --${side} names, where it is not that of --table`),
      Flag.optional
    )
  }) as const

export const migrateCommand = Command.make(
  "migrate",
  { from: sideFlags("from"), to: sideFlags("to") },
  Effect.fnUntraced(function*(sides) {
    yield* notElsewhere
    const from = yield* locationOf("from", sides.from)
    const to = yield* locationOf("to", sides.to)
    yield* notTheSame(from, to)
    const outcome = grouped(yield* migrateWithProgress(from, to))
    yield* answer(
      MigrateDocument,
      {
        from: yield* shown(from),
        to: yield* shown(to),
        total: outcome.total,
        copied: outcome.copied.length,
        unchanged: outcome.unchanged.length,
        kept: outcome.kept,
        failed: outcome.failed.map(({ error, id, location }) => ({ id, location, error: detailsOf(error) }))
      },
      (stdout) => textOf(outcome, stdout)
    )
    const { stderr } = yield* CommandOutput
    if (outcome.total === 0) yield* stderr.write("Nothing is stored there.\n")
    const worst = worstOf(outcome.failed.map(({ error }) => error))
    if (worst === undefined) return
    const { message, remedy } = detailsOf(worst)
    const others = outcome.failed.length - 1
    yield* complain(others === 0 ? message : `${message}; ${others} more failed`, remedy)
    yield* endWith(exitStatusOf(worst))
  }, reportingFailures)
).pipe(
  Command.withDescription(
    "Copy all credentials from one storage to another, where they do not replace newer ones. Changes nothing at the source"
  ),
  Command.withExamples([
    {
      command: "aden-creds migrate --from ~/.hive/credentials --to redis://cache.internal:6379",
      description: "From files to Redis; run it again if it was stopped"
    },
    {
      command: "DATABASE_URL=… aden-creds migrate --from redis://cache.internal:6379 --to postgres:",
      description: "From Redis to Postgres, whose password no list of processes shows"
    }
  ])
)

// what is copied where ------------------------------------------------------------------------------------------------

const notElsewhere = Effect.gen(function*() {
  const { directory, storage } = yield* rootCommand
  const flag = Option.isSome(directory) ? "--directory" : Option.isSome(storage) ? "--storage" : undefined
  if (flag === undefined) return
  return yield* new AdenConfigError({
    setting: flag,
    detail: "is not for migrate, which has two ends",
    remedy: "Name them with --from and --to."
  })
})

/** The flags of a side go before those for both. */
const locationOf = Effect.fnUntraced(function*(side: Side, given: {
  readonly storage: Redacted.Redacted<string>
  readonly namespace: Option.Option<string>
  readonly table: Option.Option<string>
}) {
  const both = yield* rootCommand
  const kind = kindOf(given.storage)
  const pick = (name: "namespace" | "table", isMeant: boolean) => {
    const own = { flag: `--${side}-${name}`, value: given[name] }
    return Option.isSome(own.value) || !isMeant ? own : { flag: `--${name}`, value: both[name] }
  }
  return yield* storageLocation({
    flag: `--${side}`,
    text: given.storage,
    namespace: pick("namespace", kind !== "Directory"),
    table: pick("table", kind === "Postgres")
  })
})

/** A directory as the file system knows it. */
const identityOf = Effect.fnUntraced(function*(location: StorageLocation) {
  if (location._tag !== "Directory") return databaseIdentity(location)
  const fs = yield* FileSystem.FileSystem
  const directory = yield* directoryOf(location)
  return yield* Effect.orElseSucceed(fs.realPath(directory), () => directory)
})

const notTheSame = Effect.fnUntraced(function*(from: StorageLocation, to: StorageLocation) {
  const [source, target] = [yield* identityOf(from), yield* identityOf(to)]
  if (source === undefined || source !== target) return
  return yield* new AdenConfigError({
    setting: "--to",
    detail: "is the same place as --from",
    remedy: "Name another storage, or another namespace with --to-namespace."
  })
})

const migrateWithProgress = (from: StorageLocation, to: StorageLocation) =>
  Effect.scoped(Effect.gen(function*() {
    const keys = yield* configuredKeys
    yield* requireDirectory(from)
    const placesOf = (location: StorageLocation, makesTables: boolean) =>
      location._tag === "Directory" ? directoryPlaces(location, keys) : databasePlaces(location, keys, { makesTables })
    const source = yield* placesOf(from, false)
    const target = yield* placesOf(to, true)
    const progress = yield* ProgressBar.make("Migrating")
    return yield* migrate(source, target).pipe(
      Stream.tap((event) => event._tag === "Found" ? progress.expect(event.total) : progress.step),
      Stream.runCollect
    )
  }))

// what is told --------------------------------------------------------------------------------------------------------

/** A storage as documents hold it: without user name and password. */
const shown = Effect.fnUntraced(function*(location: StorageLocation) {
  if (location._tag === "Directory") {
    return {
      kind: "directory" as const,
      location: yield* directoryOf(location),
      namespace: undefined,
      table: undefined
    }
  }
  const { table } = location
  return {
    kind: location._tag === "Redis" ? "redis" as const : "postgres" as const,
    location: shownServer(location),
    namespace: namespaceOf(location),
    table: location._tag === "Postgres" ? table : undefined
  }
})

type Outcome = ReturnType<typeof grouped>

const grouped = (events: ReadonlyArray<MigrationEvent>) => ({
  total: events.reduce((total, event) => event._tag === "Found" ? total + event.total : total, 0),
  copied: events.filter((event) => event._tag === "Copied"),
  unchanged: events.filter((event) => event._tag === "Unchanged"),
  kept: events.filter((event) => event._tag === "Kept"),
  failed: events.filter((event) => event._tag === "Failed")
})

interface Row {
  readonly credential: string
  readonly outcome: "failed" | "kept"
  readonly detail: string
}

const columns: ReadonlyArray<Column<Row>> = [
  { title: "CREDENTIAL", cell: ({ credential }) => credential },
  { title: "OUTCOME", cell: ({ outcome }) => outcome, paint: ({ outcome }, style) => paintStatus(outcome, style) },
  { title: "DETAIL", cell: ({ detail }) => detail }
]

/** What was not copied and why, then the counts. */
const textOf = ({ copied, failed, kept, unchanged }: Outcome, stdout: OutputStream): string => {
  const rows: ReadonlyArray<Row> = [
    ...failed.map(({ error, id, location }): Row => ({
      credential: id ?? location,
      outcome: "failed",
      detail: error.message
    })),
    ...kept.map(({ id, location, reason }): Row => ({
      credential: id,
      outcome: "kept",
      detail: reason === "newer" ? `${location} is newer` : `${location} was deleted`
    }))
  ]
  const counts = [
    `${copied.length} copied`,
    `${unchanged.length} there already`,
    ...(kept.length === 0 ? [] : [`${kept.length} newer there`]),
    `${failed.length} failed; nothing is changed at the source`
  ].join(", ")
  return rows.length === 0
    ? `${counts}\n`
    : `${table(stdout, columns, rows)}${stdout.isTerminal ? "\n" : ""}${counts}\n`
}
