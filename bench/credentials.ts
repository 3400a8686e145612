/**
 * How much memory a credential takes in a store: 10,000 of realistic size are fetched from Aden by one `sync`, and each is read by
 * its id. Aden's last list and what the storage in memory has of its own count as well. Run by `npm run bench:credentials`;
 * exits 1 when a credential takes more than 3.5 KB.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import type { AdenCredential } from "aden-credentials"
import { AdenClient, AdenSyncProvider, CredentialStore, MemoryStorage } from "aden-credentials"
import { Console, DateTime, Duration, Effect, Layer, Option, Redacted } from "effect"
import { kilobytes, megabytes, memoryInUse } from "./heap.ts"

const total = 10_000
/** Of one credential, in bytes. */
const limit = 3.5 * 1024

const scopes = ["crm.objects.contacts.read", "crm.objects.contacts.write", "crm.objects.deals.read"]

/** Tokens of 40 to 200 characters, as providers issue them. */
const tokenOf = (index: number) => `ya29.${index}.`.padEnd(40 + (index * 37) % 161, "a0AfH6SMBxQ9zKpV")

/** A text as it is in memory when it was parsed from an answer: not joined of parts, and a copy of its own. */
const parsed = (text: string) => String(JSON.parse(JSON.stringify(text)))

const answerOf = (index: number, expiresAt: DateTime.Utc): AdenCredential => {
  const email = parsed(`account.${index}@example.com`)
  return {
    id: parsed(`integration-${index}`),
    integrationType: parsed(`provider_${index}`),
    alias: parsed(`Account ${index}`),
    email,
    accessToken: Redacted.make(parsed(tokenOf(index))),
    tokenType: "Bearer",
    expiresAt,
    scopes: scopes.map(parsed),
    metadata: new Map([["email", email]])
  }
}

/** The characters of one credential that are its own. */
const textOf = ({ accessToken, alias, email, id, integrationType }: AdenCredential) =>
  [id, integrationType, alias, email, Redacted.value(accessToken), scopes.join(" ")].join("").length

/** Answers for the first so many integrations. */
const Aden = (count: number) =>
  Layer.unwrap(Effect.map(DateTime.now, (now) => {
    const expiresAt = DateTime.add(now, { hours: 12 })
    return AdenClient.layerTest({
      listIntegrations: Effect.sync(() => ({
        accounts: Array.from({ length: count }, (_, index) => {
          const { alias, email, id, integrationType: provider } = answerOf(index, expiresAt)
          return { id, provider, alias, email, status: "active", expiresAt }
        }),
        malformed: [],
        isIncomplete: false
      })),
      getCredential: (id) =>
        Effect.sync(() => Option.some(answerOf(Number(id.slice("integration-".length)), expiresAt)))
    })
  }))

const Store = (count: number) =>
  CredentialStore.layer().pipe(
    Layer.provide(AdenSyncProvider.layer()),
    Layer.provide(Aden(count)),
    Layer.provide(MemoryStorage.layer())
  )

/** Memory while a store holds so many credentials that have been read. */
const holding = (count: number) =>
  Effect.gen(function*() {
    const store = yield* CredentialStore
    // the report is not kept: it is the program's
    const synced = yield* Effect.map(store.sync, (report) => report.synced.length)
    if (synced !== count) return yield* Effect.die(`${synced} of ${count} were synced`)
    for (let index = 0; index < count; index++) yield* store.token(`integration-${index}`)
    return yield* memoryInUse
  }).pipe(Effect.provide(Store(count), { local: true }))

const program = Effect.gen(function*() {
  yield* holding(200) // warm up, so that compiled code is not counted
  const few = yield* holding(200)
  const [duration, many] = yield* Effect.timed(holding(total))
  const each = (many - few) / (total - 200)
  const now = yield* DateTime.now
  const text = Array.from({ length: total }, (_, index) => textOf(answerOf(index, now))).reduce((a, b) => a + b) / total
  yield* Console.log(`200 credentials:    ${megabytes(few)}`)
  yield* Console.log(
    `${total} credentials:  ${megabytes(many)} (${
      Duration.format(Duration.seconds(Math.round(Duration.toSeconds(duration))))
    })`
  )
  yield* Console.log(`each of them:       ${kilobytes(each)}, of which its own text ${text.toFixed(0)} bytes`)
  if (each > limit) return yield* Effect.fail(`a credential takes more than ${kilobytes(limit)}`)
})

NodeRuntime.runMain(program)
