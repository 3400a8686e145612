/**
 * The flags that every command takes, and how each answers.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { directoryLocation, storageLocation } from "../storage/migration/location.ts"
import type { OutputStream } from "./CommandOutput.ts"
import { CommandOutput } from "./CommandOutput.ts"

export const rootCommand = Command.make("aden-creds").pipe(
  Command.withSharedFlags({
    directory: Flag.String("directory").pipe(
      Flag.filter((path) => path !== "", () => "Expected the path of a directory"),
      Flag.withMetavar("<path>"),
      Flag.withDescription("Where the credentials are kept, in place of $HIVE_HOME/credentials or ~/.hive/credentials"),
      Flag.optional
    ),
    storage: Flag.Redacted("storage").pipe(
      Flag.withMetavar("<url>"),
      Flag.withDescription(
        "Where the credentials are kept in place of a directory of files: redis://…, rediss://… or postgres://…; " +
          "redis: and postgres: alone are the servers of REDIS_URL and DATABASE_URL"
      ),
      Flag.optional
    ),
    namespace: Flag.String("namespace").pipe(
      Flag.withMetavar("<name>"),
      Flag.withDescription("The namespace in a database, in place of aden-credentials; a tenant's is <name>/<tenant>"),
      Flag.optional
    ),
    table: Flag.String("table").pipe(
      Flag.withMetavar("<name>"),
      Flag.withDescription("The table in Postgres, in place of aden_credentials"),
      Flag.optional
    ),
    json: Flag.Boolean("json").pipe(
      Flag.withDescription("Print one JSON document on stdout, also for errors"),
      Flag.withDefault(false)
    )
  }),
  Command.withDescription("Valid OAuth tokens for agents, from an Aden server through a local encrypted cache.")
)

/** The storage that the flags name. */
export const chosenStorage = Effect.gen(function*() {
  const flags = yield* rootCommand
  const flag = "--storage"
  const namespace = { flag: "--namespace", value: flags.namespace }
  const table = { flag: "--table", value: flags.table }
  return Option.isSome(flags.storage)
    ? yield* storageLocation({ flag, text: flags.storage.value, namespace, table })
    : yield* directoryLocation({
      flag,
      setting: "--directory",
      directory: Option.getOrUndefined(flags.directory),
      namespace,
      table
    })
})

/** Prints what the command was asked for: as a document with `--json`, else as text. */
export const answer = Effect.fnUntraced(function*<A, I>(
  schema: Schema.Codec<A, I>,
  value: A,
  text: (stdout: OutputStream) => string
) {
  const { json } = yield* rootCommand
  const { stdout } = yield* CommandOutput
  yield* stdout.write(json ? documentText(schema, value) : text(stdout))
})

/** A document on one line. */
export const documentText = <A, I>(schema: Schema.Codec<A, I>, value: A): string =>
  `${JSON.stringify(Schema.encodeSync(schema)(value))}\n`
