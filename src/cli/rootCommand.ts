/**
 * The flags that every command takes, and how commands print their result.
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
      Flag.withDescription(
        "Where the credentials are stored, instead of $HIVE_HOME/credentials or ~/.hive/credentials"
      ),
      Flag.optional
    ),
    storage: Flag.Redacted("storage").pipe(
      Flag.withMetavar("<url>"),
      Flag.withDescription(
        "The database to use instead of a directory: redis://…, rediss://… or postgres://…; " +
          "a bare redis: or postgres: means the server of REDIS_URL or DATABASE_URL"
      ),
      Flag.optional
    ),
    namespace: Flag.String("namespace").pipe(
      Flag.withMetavar("<name>"),
      Flag.withDescription("The namespace in the database, instead of aden-credentials; a tenant's is <name>/<tenant>"),
      Flag.optional
    ),
    table: Flag.String("table").pipe(
      Flag.withMetavar("<name>"),
      Flag.withDescription("The table in Postgres, instead of aden_credentials"),
      Flag.optional
    ),
    json: Flag.Boolean("json").pipe(
      Flag.withDescription("Print one JSON document on stdout, for errors too"),
      Flag.withDefault(false)
    )
  }),
  Command.withDescription("Valid OAuth tokens for agents, from an Aden server through an encrypted cache.")
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

/** Prints the result of a command: as a document with `--json`, otherwise as text. */
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
