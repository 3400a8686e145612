/**
 * The delivery of one usage report to Aden: its form in a queue, and how it is sent.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { AdenFailure } from "../errors/AdenError.ts"
import type { AmbiguousCredential } from "../errors/CredentialError.ts"
import type { CredentialStorageError } from "../errors/StorageError.ts"
import type { CredentialRef } from "../model/Credential.ts"
import { AdenClient } from "../providers/aden/AdenClient.ts"
import { CredentialStore } from "../store/CredentialStore.ts"

export const UsageDelivery = Schema.Struct({
  ref: Schema.String,
  operation: Schema.String,
  status: Schema.String,
  /** When the credential was used, in ms since 1970. */
  at: Schema.Finite,
  metadata: Schema.optionalKey(Schema.Record(Schema.String, Schema.Json))
})

export type UsageDelivery = typeof UsageDelivery.Type

/** Aden answered, but did not record the report. */
export class UsageNotReceived extends Schema.TaggedError<UsageNotReceived>()("UsageNotReceived", {}) {
  override get message(): string {
    return "Aden did not record the usage report"
  }
}

export type DeliveryFailure = AdenFailure | AmbiguousCredential | CredentialStorageError | UsageNotReceived

/** Whether the same report can be accepted later. An API key that is refused now may be replaced. */
export const mayBeTakenLater = (error: DeliveryFailure): boolean => {
  switch (error._tag) {
    case "AdenRejected":
    case "AmbiguousCredential":
    case "IntegrationNotFound":
    case "ReauthRequired":
    case "RefreshFailed":
      return false
    default:
      return true
  }
}

/** Sends reports, each with the id of the credential that its ref means at that time. */
export const makeSender = Effect.gen(function*() {
  const client = yield* AdenClient
  const store = yield* CredentialStore

  /** A ref that matches nothing stored may be an id that only Aden knows. */
  const idOf = (ref: CredentialRef) =>
    Effect.map(store.explain(ref), ({ id }) => id).pipe(
      Effect.catchTags({
        CredentialNotFound: () => Effect.succeed(ref),
        CredentialDecryptionFailed: () => Effect.succeed(ref)
      })
    )

  // a root span: the span of the use may have ended long ago
  return Effect.fn("UsageReporter.deliver", { root: true })(function*(
    { at, metadata, operation, ref, status }: UsageDelivery,
    idempotencyKey: string
  ): Effect.fn.Return<void, DeliveryFailure> {
    yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
    const id = yield* idOf(ref)
    const timestamp = DateTime.makeUnsafe(at)
    const isReceived = yield* client.reportUsage(id, { operation, status, timestamp, metadata, idempotencyKey })
    if (!isReceived) return yield* new UsageNotReceived()
  })
})

export type Sender = Effect.Success<typeof makeSender>
