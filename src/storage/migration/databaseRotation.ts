/**
 * Re-encrypts the entries of a database under another key, each as a compare-and-swap of its document and state.
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { Fernet } from "../../encryption/Fernet.ts"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { configuredKeys } from "../../encryption/keys.ts"
import { CredentialDecryptionFailed, StorageIoFailed } from "../../errors/StorageError.ts"
import type { CredentialStorageError } from "../../errors/StorageError.ts"
import { leaveToTenant } from "../files/KeyRotation.ts"
import type { KeyRotationEvent } from "../files/KeyRotation.ts"
import { StateCodec } from "../format/StateRecord.ts"
import { asStorageError } from "../operation.ts"
import type { ForeignRecord, RecordDatabase, StoredRecord } from "../records/RecordDatabase.ts"
import { emptyRecord, isForeign } from "../records/RecordStorage.ts"
import { openDatabase } from "./databases.ts"
import type { DatabaseLocation } from "./location.ts"

const operation = "re-encrypt"

/** How many entries are read in one round trip. */
const batchSize = 100

/** How many of them are written at a time. */
const concurrency = 8

/** How often an entry is tried that other writers keep changing. */
const attempts = 5

/**
 * Like `rotateConfiguredKeys`, for the entries of a namespace in a database and of its tenants. The generation stays, so that a
 * refresh under way can still save its answer.
 */
export const rotateDatabase = (location: DatabaseLocation) =>
  Stream.unwrap(Effect.gen(function*() {
    const keys = yield* configuredKeys
    const { recordsOf, tenants } = yield* openDatabase(location, { makesTables: false })
    const names = [undefined, ...(yield* asStorageError("list")(tenants))]
    const namespaces = yield* asStorageError("list")(Effect.forEach(names, (name) => {
      const database = recordsOf(name)
      return Effect.map(database.ids, (ids) => ({ database, ids, isTenant: name !== undefined }))
    }))
    const total = namespaces.reduce((sum, { ids }) => sum + ids.length, 0)
    return Stream.make<[KeyRotationEvent]>({ _tag: "Found", total }).pipe(
      Stream.concat(Stream.flatMap(Stream.fromIterable(namespaces), ({ database, ids, isTenant }) =>
        leaveToTenant(rotateRecords(database, keys, ids), { total: ids.length, isTenant })))
    )
  }))

interface Rotation {
  readonly database: RecordDatabase
  readonly keys: FernetKeys
  readonly states: StateCodec
}

const rotateRecords = (
  database: RecordDatabase,
  keys: FernetKeys,
  ids: ReadonlyArray<string>
): Stream.Stream<KeyRotationEvent, CredentialStorageError> => {
  const rotation = { database, keys, states: new StateCodec(keys, database.namespace) }
  return Stream.fromIterable(Arr.chunksOf(ids, batchSize)).pipe(
    Stream.mapEffect(Effect.fnUntraced(function*(batch) {
      const records = yield* asStorageError(operation)(database.read(batch))
      return yield* Effect.forEach(
        batch,
        (id, index) => rotateRecord(rotation, id, records[index] ?? emptyRecord),
        { concurrency }
      )
    })),
    Stream.flattenIterable
  )
}

const rotateRecord = (
  { database, keys, states }: Rotation,
  id: string,
  seen: StoredRecord | ForeignRecord
) => {
  const location = database.locationOf(id)
  const cannotOpen = (detail: string) => new CredentialDecryptionFailed({ id, location, detail })
  return Effect.gen(function*() {
    let record = seen
    for (let attempt = 0; attempt < attempts; attempt++) {
      if (isForeign(record)) return yield* cannotOpen(record.foreign)
      const { document, state } = record
      if (document === undefined) return { _tag: "Unchanged" as const, location }
      const isCurrent = yield* Effect.isSuccess(Fernet.decrypt([keys[0]], document))
      const newState = state === undefined ? undefined : states.reencode(id, state)
      if (isCurrent && newState === undefined) return { _tag: "Unchanged" as const, location }
      const text = yield* Effect.mapError(Fernet.decrypt(keys, document), ({ message }) => cannotOpen(message))
      const after = {
        document: isCurrent ? document : yield* Fernet.encrypt(keys, text),
        state: newState ?? state
      }
      if (yield* database.reencrypt(id, { document, state }, after)) {
        return { _tag: "Rotated" as const, location }
      }
      record = (yield* database.read([id]))[0] ?? emptyRecord
    }
    return yield* new StorageIoFailed({ location, detail: "another program keeps writing it" })
  }).pipe(
    asStorageError(operation, id),
    Effect.catch((error) => Effect.succeed({ _tag: "Failed" as const, location, error }))
  )
}
