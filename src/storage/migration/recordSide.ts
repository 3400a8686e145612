/**
 * The entries of a database.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import type { AdenConfigError } from "../../errors/ConfigError.ts"
import { CredentialDecryptionFailed, GenerationConflict } from "../../errors/StorageError.ts"
import type { CredentialStorageError, StorageFailure, StorageRefused } from "../../errors/StorageError.ts"
import { CredentialState, stateAfterSave } from "../../model/CredentialState.ts"
import { makeSealedCodec } from "../format/sealed.ts"
import { StateCodec } from "../format/StateRecord.ts"
import { wrongTenant } from "../format/tenantNames.ts"
import { asStorageError } from "../operation.ts"
import type { ForeignRecord, RecordDatabase, RecordWrite, StoredRecord } from "../records/RecordDatabase.ts"
import { emptyRecord, isForeign, stateOf } from "../records/RecordStorage.ts"
import { openDatabase } from "./databases.ts"
import type { DatabaseLocation } from "./location.ts"
import type { Copy, Entry, Side, Sides } from "./Side.ts"

export const databaseSides = Effect.fnUntraced(function*(
  location: DatabaseLocation,
  keys: FernetKeys,
  options: { readonly makesTables: boolean }
): Effect.fn.Return<Sides, AdenConfigError | CredentialStorageError, Scope.Scope> {
  const { recordsOf, tenants } = yield* openDatabase(location, options)
  const ofTenant = (name: string) => makeSide(recordsOf(name), keys, name)
  return {
    own: makeSide(recordsOf(undefined), keys, location.tenantId),
    tenants: asStorageError("list")(tenants).pipe(
      Effect.map((names) =>
        names.map((name) => ({
          name,
          location: recordsOf(name).location,
          side: Result.succeed(ofTenant(name))
        }))
      )
    ),
    ofTenant: location.tenantId === undefined ? (name) => Effect.succeed(ofTenant(name)) : undefined
  }
})

const makeSide = (database: RecordDatabase, keys: FernetKeys, tenant: string | undefined): Side => {
  const { open, sealCopy } = makeSealedCodec(keys, { namespace: database.namespace, tenantId: undefined })
  const states = new StateCodec(keys, database.namespace)

  const opened = Effect.fnUntraced(function*(id: string, record: StoredRecord | ForeignRecord) {
    const location = database.locationOf(id)
    const fail = (detail: string) => new CredentialDecryptionFailed({ id, location, detail })
    if (isForeign(record)) return yield* fail(record.foreign)
    if (record.document === undefined) return undefined
    const stored = yield* open(id, location, record.document)
    const wrong = wrongTenant(tenant, stored)
    return wrong === undefined ? stored : yield* fail(wrong)
  })

  const prepared = Effect.fnUntraced(function*(
    { expected, state, stored }: Copy
  ): Effect.fn.Return<RecordWrite, StorageRefused> {
    const { credential } = stored
    return {
      id: credential.id,
      expected,
      document: yield* sealCopy(stored),
      // the state is copied, but account and generation are the target's
      state: states.encode(
        credential.id,
        stateAfterSave(credential, new CredentialState({ generation: expected }), state)
      )
    }
  })

  return {
    ids: asStorageError("list")(database.ids),
    read: Effect.fnUntraced(function*(ids) {
      const records = yield* database.read(ids)
      return yield* Effect.forEach(
        ids,
        Effect.fnUntraced(function*(id, index): Effect.fn.Return<Entry> {
          const record = records[index] ?? emptyRecord
          return {
            id,
            location: database.locationOf(id),
            content: yield* Effect.result(opened(id, record)),
            state: stateOf(states, id, record)
          }
        })
      )
    }, asStorageError("read entries")),
    write: Effect.fnUntraced(function*(copies) {
      const failures = new Map<string, StorageFailure | GenerationConflict>()
      const writes: Array<RecordWrite> = []
      for (const copy of copies) {
        const { id } = copy.stored.credential
        yield* prepared(copy).pipe(
          asStorageError("save", id),
          Effect.match({
            onFailure: (failure) => void failures.set(id, failure),
            onSuccess: (write) => void writes.push(write)
          })
        )
      }
      if (writes.length === 0) return failures
      const found = yield* Effect.uninterruptible(database.write(writes))
      for (const [index, { expected, id }] of writes.entries()) {
        const actual = found[index] ?? -1
        if (actual !== expected) failures.set(id, new GenerationConflict({ id, expected, actual }))
      }
      return failures
    }, asStorageError("saveMany")),
    finish: Effect.void
  }
}
