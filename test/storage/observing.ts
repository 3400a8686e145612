/**
 * What tests of shared storages look at: changes, warnings, and time that passes.
 */
import { Clock, Effect, Logger, Option, Redacted, References, Schedule, Stream } from "effect"
import type { Duration } from "effect"
import { Credential } from "../../src/model/Credential.ts"
import type { CredentialStorage, StorageChange } from "../../src/storage/CredentialStorage.ts"

export const apiKey = (id: string, value: string) => Credential.fromApiKey({ id, apiKey: Redacted.make(value) })

export const valueOf = (credential: Option.Option<Credential>): string | undefined => {
  const key = Option.getOrUndefined(credential)?.defaultKey
  return key === undefined ? undefined : Redacted.value(key.value)
}

/** The warnings that are logged meanwhile, with the reasons that they give. */
export const warningsOf = <A, E, R>(effect: Effect.Effect<A, E, R>) => {
  const warnings: Array<string> = []
  const logger = Logger.make(({ fiber, logLevel, message }) => {
    if (logLevel !== "Warn") return
    const { reason } = fiber.getRef(References.CurrentLogAnnotations)
    warnings.push(reason === undefined ? String(message) : `${String(message)}: ${String(reason)}`)
  })
  return Effect.as(Effect.provide(effect, Logger.layer([logger])), warnings)
}

/** The changes that a storage tells of from now on. */
export const changesOf = Effect.fnUntraced(function*(storage: CredentialStorage["Service"]) {
  const seen: Array<StorageChange> = []
  yield* Stream.runForEach(storage.changes, (change) => Effect.sync(() => seen.push(change))).pipe(
    Effect.forkScoped({ startImmediately: true })
  )
  return seen
})

/** Changes without their generations, which those that were looked up do not have. */
export const told = (changes: ReadonlyArray<StorageChange>): ReadonlyArray<string> =>
  changes.map(({ _tag, id }) => `${_tag} ${id}`)

export const until = (condition: () => boolean, patience: Duration.Input = "20 seconds") =>
  Effect.suspend(() => condition() ? Effect.void : Effect.fail("not yet" as const)).pipe(
    Effect.retry({ schedule: Schedule.spaced("2 millis") }),
    Effect.timeout(patience)
  )

/**
 * The least number of round trips that an operation took of several times: what a storage looks up in the background now and then
 * only adds to some of them.
 */
export const leastRoundTrips = <E>(
  proxy: { readonly roundTrips: Effect.Effect<number> },
  operation: Effect.Effect<unknown, E>
) =>
  Effect.gen(function*() {
    let least = Infinity
    for (let time = 0; time < 5; time++) {
      const before = yield* proxy.roundTrips
      yield* operation
      least = Math.min(least, (yield* proxy.roundTrips) - before)
    }
    return least
  })

/** In ms. */
export const elapsed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const before = yield* Clock.currentTimeMillis
    yield* effect
    return (yield* Clock.currentTimeMillis) - before
  })

/**
 * The shortest of several measurements, in ms; one below `enough` is the last. A machine with much to do makes one of them long, and a
 * defect all.
 */
export const shortest = <E, R>(measurement: Effect.Effect<number, E, R>, enough: number) =>
  Effect.gen(function*() {
    let least = Infinity
    for (let time = 0; time < 5 && least >= enough; time++) least = Math.min(least, yield* measurement)
    return least
  })
