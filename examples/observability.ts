/**
 * Spans, metrics and the log of a program, exported by OTLP: `npx tsx examples/observability.ts`.
 *
 * They go to `OTEL_EXPORTER_OTLP_ENDPOINT`, http://localhost:4318 by default, where a collector listens: `docker run -p 4318:4318
 * otel/opentelemetry-collector` is one. The Aden server is the emulator that comes with this package.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { AdenClient, AdenSyncProvider, CredentialStore, MemoryStorage, UsageReporter } from "aden-credentials"
import { AdenEmulator } from "aden-credentials/emulator"
import { Config, Console, Effect, Layer, References } from "effect"
import { FetchHttpClient } from "effect/http"
import { Otlp } from "effect/observability"

const Credentials = Layer.unwrap(Effect.map(AdenEmulator, ({ apiKey, url }) =>
  UsageReporter.layer().pipe(
    Layer.provideMerge(CredentialStore.layer()),
    Layer.provide(AdenSyncProvider.layer()),
    Layer.provide(AdenClient.layer({ baseUrl: url, apiKey })),
    Layer.provide(MemoryStorage.layer())
  )))

const Observability = Layer.unwrap(Effect.gen(function*() {
  const baseUrl = yield* Config.String("OTEL_EXPORTER_OTLP_ENDPOINT").pipe(Config.withDefault("http://localhost:4318"))
  return Otlp.layerJson({ baseUrl, resource: { serviceName: "agent" } })
}))

const agent = Effect.gen(function*() {
  const store = yield* CredentialStore
  const usage = yield* UsageReporter
  for (let i = 0; i < 1_000; i++) yield* store.token("hubspot")
  yield* store.refresh("hubspot")
  yield* usage.report("hubspot", { operation: "contacts.list", status: "success", metadata: { rows: 250 } })
  // the failure is in the trace, the count and the log; its message is for a person
  yield* store.token("slack").pipe(Effect.catchTag("ReauthRequired", (error) => Console.log(error.message)))
}).pipe(Effect.withSpan("agent.run"))

agent.pipe(
  Effect.provide(Credentials),
  Effect.provide(AdenEmulator.layer()),
  Effect.provideService(References.MinimumLogLevel, "Debug"),
  // the outermost, so that it still exports what the other layers report when they close
  Effect.provide(Observability),
  Effect.provide(FetchHttpClient.layer),
  NodeRuntime.runMain
)
