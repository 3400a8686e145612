import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { Fernet } from "../../encryption/Fernet.ts"
import { makeKeyFileOfVariable, makeNewKeyFile } from "../../storage/migration/makeKeyFile.ts"
import { printable } from "../../util/sanitize.ts"
import { KeyDocument, KeyFileDocument } from "../documents.ts"
import { reportingFailures } from "../failureReport.ts"
import { answer } from "../rootCommand.ts"
import { rotateCommand } from "./keysRotate.ts"

/** Prints where the key is, and not the key. */
const answerLocation = (location: string) =>
  answer(KeyFileDocument, { location }, () => `The key is in ${printable(location)}\n`)

const generateCommand = Command.make(
  "generate",
  {
    save: Flag.Boolean("save").pipe(
      Flag.withDescription("Write it to the key file, which programs and Hive read, and print where that file is"),
      Flag.withDefault(false)
    )
  },
  Effect.fnUntraced(function*({ save }) {
    if (save) return yield* answerLocation(yield* makeNewKeyFile)
    const key = Redacted.value(yield* Fernet.generateKey)
    yield* answer(KeyDocument, { key }, () => `${key}\n`)
  }, reportingFailures)
).pipe(
  Command.withDescription(
    "Print a new encryption key and store it nowhere; with --save, write it to the key file instead"
  ),
  Command.withExamples([{
    command: "aden-creds keys generate --save",
    description: "Make the key of this machine, if it has none yet"
  }])
)

const saveCommand = Command.make(
  "save",
  {},
  Effect.fnUntraced(function*() {
    yield* answerLocation(yield* makeKeyFileOfVariable)
  }, reportingFailures)
).pipe(
  Command.withDescription("Write the keys in HIVE_CREDENTIAL_KEY to the key file. Does not change a file that exists")
)

export const keysCommand = Command.make("keys").pipe(
  Command.withDescription("Manage encryption keys"),
  Command.withSubcommands([generateCommand, saveCommand, rotateCommand])
)
