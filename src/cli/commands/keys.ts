import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { Fernet } from "../../Fernet.ts"
import { KeyDocument } from "../documents.ts"
import { reportingFailures } from "../failureReport.ts"
import { answer } from "../rootCommand.ts"
import { rotateCommand } from "./keysRotate.ts"

const generateCommand = Command.make(
  "generate",
  {},
  Effect.fnUntraced(function*() {
    const key = Redacted.value(yield* Fernet.generateKey)
    yield* answer(KeyDocument, { key }, () => `${key}\n`)
  }, reportingFailures)
).pipe(
  Command.withDescription("Print a new encryption key, alone on stdout. Keeps it nowhere"),
  Command.withExamples([{
    command: "(umask 077; mkdir -p ~/.hive/secrets; aden-creds keys generate > ~/.hive/secrets/credential_key)",
    description: "Make the key of this machine, where there is none yet"
  }])
)

export const keysCommand = Command.make("keys").pipe(
  Command.withDescription("Encryption keys"),
  Command.withSubcommands([generateCommand, rotateCommand])
)
