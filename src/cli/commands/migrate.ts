import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import { configuredKeys } from "../../encryption/keys.ts"
import { AdenConfigError } from "../../errors/ConfigError.ts"
import { shownServer } from "../../storage/migration/databases.ts"
import { directorySides } from "../../storage/migration/fileSide.ts"
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
import { databaseSides } from "../../storage/migration/recordSide.ts"
import { collectWithProgress, complainOfFailures, outcomeTable } from "../batchReport.ts"
import type { OutcomeRow } from "../batchReport.ts"
import type { OutputStream } from "../CommandOutput.ts"
import { CommandOutput } from "../CommandOutput.ts"
import { MigrateDocument } from "../documents.ts"
import { detailsOf, reportingFailures } from "../failureReport.ts"
import { answer, rootCommand } from "../rootCommand.ts"

type Side = "from" | "to"

const sideFlags = (side: Side) =>
  ({
    storage: Flag.Redacted(side).pipe(
      Flag.withMetavar("<storage>"),
      Flag.withDescription(
        `The storage to copy ${side}: the path of a directory, redis://…, rediss://… or postgres://…; ` +
          "a bare redis: or postgres: means the server of REDIS_URL or DATABASE_URL"
      )
    ),
    namespace: Flag.String(`${side}-namespace`).pipe(
      Flag.withMetavar("<name>"),
      Flag.withDescription(`The namespace in the database of --${side}, if it is not that of --namespace`),
      Flag.optional
    ),
    table: Flag.String(`${side}-table`).pipe(
      Flag.withMetavar("<name>"),
      Flag.withDescription(`The table in the Postgres database of --${side}, if it is not that of --table`),
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
    yield* complainOfFailures(outcome.failed.map(({ error }) => error))
  }, reportingFailures)
).pipe(
  Command.withDescription(
    "Copy all credentials from one storage to another. Newer ones there are kept, and the source is not changed"
  ),
  Command.withExamples([
    {
      command: "aden-creds migrate --from ~/.hive/credentials --to rediss://cache.internal:6379",
      description: "From files to Redis; run it again if it was interrupted"
    },
    {
      command: "DATABASE_URL=… aden-creds migrate --from rediss://cache.internal:6379 --to postgres:",
      description: "From Redis to Postgres, whose password does not appear in the list of processes"
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
    detail: "cannot be used with migrate, which has a source and a target",
    remedy: "Name them with --from and --to."
  })
})

/** A side's own flags take precedence over those for both. */
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

/** What tells two storages apart: the real path of a directory, or the identity of a database. */
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
    detail: "is the same storage as --from",
    remedy: "Name another storage, or another namespace with --to-namespace."
  })
})

const migrateWithProgress = (from: StorageLocation, to: StorageLocation) =>
  Effect.scoped(Effect.gen(function*() {
    const keys = yield* configuredKeys
    yield* requireDirectory(from)
    const placesOf = (location: StorageLocation, makesTables: boolean) =>
      location._tag === "Directory" ? directorySides(location, keys) : databaseSides(location, keys, { makesTables })
    const source = yield* placesOf(from, false)
    const target = yield* placesOf(to, true)
    return yield* collectWithProgress("Migrating", migrate(source, target))
  }))

// what is printed -----------------------------------------------------------------------------------------------------

const kinds = { Redis: "redis", Postgres: "postgres" } as const

/** A storage as it appears in documents: without user name and password. */
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
    kind: kinds[location._tag],
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

/** What was not copied and why, then the counts. */
const textOf = ({ copied, failed, kept, unchanged }: Outcome, stdout: OutputStream): string => {
  const rows: ReadonlyArray<OutcomeRow> = [
    ...failed.map(({ error, id, location }) => ({
      subject: id ?? location,
      outcome: "failed",
      detail: error.message
    })),
    ...kept.map(({ id, location, reason }) => ({
      subject: id,
      outcome: "kept",
      detail: reason === "newer" ? `${location} is newer` : `${location} was deleted`
    }))
  ]
  const counts = [
    `${copied.length} copied`,
    `${unchanged.length} already there`,
    ...(kept.length === 0 ? [] : [`${kept.length} kept as they are there`]),
    `${failed.length} failed; the source is unchanged`
  ].join(", ")
  return outcomeTable(stdout, "CREDENTIAL", rows, counts)
}
