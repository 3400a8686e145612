import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFile } from "node:child_process"
import { once } from "node:events"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import path from "node:path"
import { bundled } from "./fixtures/bundle.ts"

const root = path.resolve(import.meta.dirname, "..")

/** An OTLP collector: what was sent to each path, as text. */
const collector = Effect.acquireRelease(
  Effect.promise(async () => {
    const received = new Map<string, string>()
    const server = createServer((request, response) => {
      let body = ""
      request.setEncoding("utf8").on("data", (text: string) => body += text).on("end", () => {
        const url = request.url ?? ""
        received.set(url, (received.get(url) ?? "") + body)
        response.setHeader("content-type", "application/json").end("{}")
      })
    }).listen(0, "127.0.0.1")
    await once(server, "listening")
    const { port } = server.address() as AddressInfo
    return { received, server, url: `http://127.0.0.1:${port}` }
  }),
  ({ server }) =>
    Effect.sync(() => {
      server.closeAllConnections()
      server.close()
    })
)

describe("examples/observability.ts", () => {
  it.live("sends spans, metrics and the log to an OTLP collector, without a token", () =>
    Effect.gen(function*() {
      const { received, url } = yield* collector
      const ran = yield* Effect.callback<{ readonly status: number; readonly text: string }>((resume) => {
        execFile(
          process.execPath,
          [bundled("examples/observability.ts")],
          { cwd: root, env: { PATH: process.env["PATH"], OTEL_EXPORTER_OTLP_ENDPOINT: url } },
          (error, stdout, stderr) =>
            resume(Effect.succeed({ status: error === null ? 0 : Number(error.code), text: stdout + stderr }))
        )
      })
      assert.strictEqual(ran.status, 0, ran.text)
      const traces = received.get("/v1/traces") ?? ""
      for (
        const name of [
          "agent.run",
          "CredentialStore.get",
          "CredentialStore.renew",
          "AdenClient.requestRefresh",
          "UsageReporter.deliver"
        ]
      ) {
        assert.include(traces, `"${name}"`)
      }
      const metrics = received.get("/v1/metrics") ?? ""
      for (
        const name of [
          "reads_total",
          "refreshes_total",
          "refresh_duration_seconds",
          "requests_total",
          "usage_reports_total"
        ]
      ) {
        assert.include(metrics, `"aden_credentials_${name}"`)
      }
      assert.include(received.get("/v1/logs") ?? "", "Asked Aden for a credential")
      for (const text of [...received.values(), ran.text]) {
        assert.notInclude(text, "aden-emulator.")
        assert.notInclude(text, "emulator-api-key")
      }
    }), 120_000)
})
