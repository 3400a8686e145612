import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { AdenEmulator } from "../../emulator/AdenEmulator.ts"
import { EmulatorDocument } from "../documents.ts"
import { endWith, ExitStatus } from "../ExitStatus.ts"
import { reportingFailures } from "../failureReport.ts"
import { answer } from "../rootCommand.ts"

const portOf = (text: string): Option.Option<number> =>
  /^\d{1,5}$/.test(text) && Number(text) <= 65_535 ? Option.some(Number(text)) : Option.none()

export const emulatorCommand = Command.make(
  "emulator",
  {
    port: Flag.String("port").pipe(
      Flag.filterMap(portOf, () => "Expected a port: a whole number from 1 to 65535, or 0 for any free port"),
      Flag.withMetavar("<port>"),
      Flag.withDescription("The port on 127.0.0.1; 0 picks a free one"),
      Flag.withDefault(0)
    )
  },
  Effect.fnUntraced(
    function*(_: { readonly port: number }) {
      const emulator = yield* AdenEmulator
      const { consoleUrl, tenantId, url } = emulator
      const apiKey = Redacted.value(emulator.apiKey)
      const integrations = yield* emulator.integrations()
      // it runs until it is interrupted, which is its normal end
      yield* endWith(ExitStatus.done)
      yield* answer(EmulatorDocument, { url, consoleUrl, tenantId, apiKey, integrations }, ({ style }) =>
        [
          `${style.bold("Aden emulator")} at ${url}`,
          "",
          `  console       ${consoleUrl}`,
          `  tenant        ${tenantId}`,
          `  API key       ${apiKey}`,
          `  integrations  ${integrations.map(({ id, status }) => `${id} (${status})`).join(", ")}`,
          "",
          "Use it from another terminal:",
          "",
          `export ADEN_API_URL=${url} ADEN_API_KEY=${apiKey} ADEN_TENANT_ID=${tenantId}`,
          "",
          "Ctrl-C stops it.",
          ""
        ].join("\n"))
      return yield* Effect.never
    },
    (effect, { port }) => Effect.provide(effect, AdenEmulator.layer({ port })),
    reportingFailures
  )
).pipe(
  Command.withDescription("Run an Aden server to develop and test against, until interrupted"),
  Command.withExamples([
    { command: "aden-creds emulator --port 4000", description: "Serve on http://127.0.0.1:4000" }
  ])
)
