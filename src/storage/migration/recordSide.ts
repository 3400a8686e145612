/**
 * The entries of a database.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { CredentialDecryptionFailed, GenerationConflict } from "../../errors/CredentialError.ts"
import type {
  AdenConfigError,
  CredentialStorageError,
  StorageFailure,
  StorageRefused
} from "../../errors/CredentialError.ts"
import { CredentialState, stateOfSave } from "../../model/CredentialState.ts"
import { documentOf } from "../format/HiveDocument.ts"
import { makeSealing } from "../format/sealed.ts"
import { encodeState } from "../format/StateRecord.ts"
import { wrongTenant } from "../format/tenantNames.ts"
import { inOperation } from "../operation.ts"
import type { ForeignRecord, RecordDatabase, RecordWrite, StoredRecord } from "../records/RecordDatabase.ts"
import { isForeign, nothing, stateOf } from "../records/RecordStorage.ts"
import { openDatabase } from "./databases.ts"
import type { DatabaseLocation } from "./location.ts"
import type { Copy, Entry, Place, Places } from "./Side.ts"

export const databasePlaces = Effect.fnUntraced(function*(
  location: DatabaseLocation,
  keys: FernetKeys,
  options: { readonly makesTables: boolean }
): Effect.fn.Return<Places, AdenConfigError | CredentialStorageError, Scope.Scope> {
  const { recordsOf, tenants } = yield* openDatabase(location, options)
  const ofTenant = (name: string) => makePlace(recordsOf(name), keys, name)
  return {
    own: makePlace(recordsOf(undefined), keys, location.tenantId),
    tenants: inOperation("list")(tenants).pipe(
      Effect.map((names) =>
        names.map((name) => ({
          name,
          location: recordsOf(name).place,
          place: Result.succeed(ofTenant(name))
        }))
      )
    ),
    ofTenant: location.tenantId === undefined ? (name) => Effect.succeed(ofTenant(name)) : undefined
  }
})

const makePlace = (database: RecordDatabase, keys: FernetKeys, tenant: string | undefined): Place => {
  const { encrypt, open } = makeSealing(keys, undefined)

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
      document: yield* encrypt(documentOf(stored)),
      // what is remembered goes along; whose it is, and how often it was written, is said anew
      state: encodeState(
        credential.id,
        stateOfSave(credential, new CredentialState({ generation: expected }), state)
      )
    }
  })

  return {
    ids: inOperation("list")(database.ids),
    read: Effect.fnUntraced(function*(ids) {
      const records = yield* database.read(ids)
      return yield* Effect.forEach(
        ids,
        Effect.fnUntraced(function*(id, index): Effect.fn.Return<Entry> {
          const record = records[index] ?? nothing
          return {
            id,
            location: database.locationOf(id),
            content: yield* Effect.result(opened(id, record)),
            state: stateOf(record)
          }
        })
      )
    }, inOperation("read entries")),
    write: Effect.fnUntraced(function*(copies) {
      const failures = new Map<string, StorageFailure | GenerationConflict>()
      const writes: Array<RecordWrite> = []
      for (const copy of copies) {
        const { id } = copy.stored.credential
        yield* prepared(copy).pipe(
          inOperation("save", id),
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
    }, inOperation("saveMany")),
    finish: Effect.void
  }
}
