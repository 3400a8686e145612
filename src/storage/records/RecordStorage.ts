/**
 * A storage over a database. It stores the same as the encrypted files: encrypted documents, and the state beside each. Every write
 * is a compare-and-swap on the generation that it was computed from, so a late write changes nothing.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { CredentialDecryptionFailed, GenerationConflict, StorageIoFailed } from "../../errors/StorageError.ts"
import type { InvalidCredentialId, StorageFailure, StorageRefused } from "../../errors/StorageError.ts"
import type { Credential } from "../../model/Credential.ts"
import { CredentialState, isExpected, stateAfterSave, stateAfterUpdate } from "../../model/CredentialState.ts"
import { makeKeyedLock } from "../../util/KeyedLock.ts"
import { logWarning } from "../../util/logging.ts"
import { CredentialStorage } from "../CredentialStorage.ts"
import { makeSealedCodec } from "../format/sealed.ts"
import { StateCodec } from "../format/StateRecord.ts"
import { asStorageError, checkCredentialId, isCredentialId } from "../operation.ts"
import { makeChangeFeed } from "./ChangeFeed.ts"
import { makeLeases } from "./Lease.ts"
import type { ForeignRecord, RecordDatabase, RecordWrite, StoredRecord } from "./RecordDatabase.ts"

/** The options of `CredentialStorage.save`. */
interface SaveOptions {
  readonly expectedGeneration?: number | undefined
  readonly state?: CredentialState | undefined
}

/** Each failed attempt means that another writer succeeded. */
const attempts = 32

export const isForeign = (record: StoredRecord | ForeignRecord): record is ForeignRecord => "foreign" in record

export const emptyRecord: StoredRecord = { generation: 0, document: undefined, state: undefined }

/** The state of a record, with the record's generation. Text that is not a state is ignored. */
export const stateOf = (states: StateCodec, id: string, record: StoredRecord | ForeignRecord): CredentialState => {
  if (isForeign(record)) return CredentialState.initial
  const { generation, state } = record
  const stored = state === undefined ? Option.none() : states.decode(id, state, generation)
  return new CredentialState({
    ...Option.match(stored, { onNone: () => ({}), onSome: ({ state }) => state }),
    generation
  })
}

/** `name` is the name of the storage in spans and warnings. */
export const makeRecordStorage = Effect.fnUntraced(function*(name: string, options: {
  readonly database: RecordDatabase
  readonly keys: FernetKeys
  readonly tenantId: string | undefined
}) {
  const { database, keys, tenantId } = options
  const { open, seal } = makeSealedCodec(keys, { namespace: database.namespace, tenantId })
  const states = new StateCodec(keys, database.namespace)
  const { changes, publish, releases } = yield* makeChangeFeed(database.changes, database.writer)
  const lease = makeLeases(database.leases, releases)
  const writing = makeKeyedLock()

  const read = Effect.fnUntraced(function*(id: string) {
    yield* checkCredentialId(id)
    const [record = emptyRecord] = yield* database.read([id])
    return record
  })

  const notOurs = (id: string, { foreign }: ForeignRecord) =>
    new CredentialDecryptionFailed({ id, location: database.locationOf(id), detail: foreign })

  /** The document of a record, decrypted; `undefined` when it has none. */
  const opened = Effect.fnUntraced(function*(id: string, record: StoredRecord | ForeignRecord) {
    if (isForeign(record)) return yield* notOurs(id, record)
    return record.document === undefined ? undefined : yield* open(id, database.locationOf(id), record.document)
  })

  const credentialOf = (id: string, record: StoredRecord | ForeignRecord) =>
    Effect.map(opened(id, record), (document) => Option.fromUndefinedOr(document?.credential))

  const prepare = Effect.fnUntraced(function*(
    credential: Credential,
    record: StoredRecord | ForeignRecord,
    options: SaveOptions
  ): Effect.fn.Return<RecordWrite, CredentialDecryptionFailed | GenerationConflict | StorageRefused> {
    const { id } = credential
    const stored = yield* opened(id, record)
    const before = stateOf(states, id, record)
    const { generation } = before
    const expected = options.expectedGeneration ?? generation
    if (expected !== generation) return yield* new GenerationConflict({ id, expected, actual: generation })
    return {
      id,
      expected,
      document: yield* seal(credential, stored),
      state: states.encode(id, stateAfterSave(credential, before, options.state))
    }
  })

  const tooBusy = (id: string) =>
    new StorageIoFailed({ location: database.locationOf(id), detail: "another program keeps writing it" })

  /** Makes these writes. For each that lost the race, answers the generation that another writer has reached. */
  const write = (writes: ReadonlyArray<RecordWrite>) =>
    // uninterruptible, so that every change that was written is also published
    Effect.uninterruptible(Effect.gen(function*() {
      const late = new Map<string, number>()
      const found = yield* database.write(writes)
      for (const [index, { expected, id }] of writes.entries()) {
        const generation = found[index]
        if (generation === expected) yield* publish({ _tag: "Saved", id, generation: expected + 1 })
        else late.set(id, generation ?? -1)
      }
      return late
    }))

  const put = Effect.fnUntraced(function*(credential: Credential, options: SaveOptions) {
    const { id } = credential
    const expected = options.expectedGeneration
    for (let attempt = 0; attempt < attempts; attempt++) {
      const one = yield* prepare(credential, yield* read(id), options)
      const actual = (yield* write([one])).get(id)
      if (actual === undefined) return one.expected + 1
      if (expected !== undefined) return yield* new GenerationConflict({ id, expected, actual })
    }
    return yield* tooBusy(id)
  })

  const putMany = Effect.fnUntraced(function*(
    many: ReadonlyArray<Credential>,
    expectedGenerations: ReadonlyMap<string, number>,
    state: CredentialState | undefined
  ) {
    const failures = new Map<string, StorageFailure | GenerationConflict>()
    const pending = new Map(many.map((credential) => [credential.id, credential]))
    const giveUp = (id: string, failure: StorageFailure | GenerationConflict) => {
      pending.delete(id)
      failures.set(id, failure)
    }
    /** Runs a step for one credential. A failure is recorded, and does not affect the others. */
    const recordFailure = <A>(
      id: string,
      step: Effect.Effect<
        A,
        StorageFailure | GenerationConflict | InvalidCredentialId | StorageIoFailed | StorageRefused
      >
    ) =>
      asStorageError("save", id)(step).pipe(
        Effect.catch((failure) => Effect.as(Effect.sync(() => giveUp(id, failure)), undefined))
      )

    for (const id of pending.keys()) yield* recordFailure(id, checkCredentialId(id))
    for (let attempt = 0; pending.size > 0 && attempt < attempts; attempt++) {
      const records = yield* database.read(Array.from(pending.keys()))
      const writes: Array<RecordWrite> = []
      for (const [index, [id, credential]] of Array.from(pending).entries()) {
        const expectedGeneration = expectedGenerations.get(id)
        const step = prepare(credential, records[index] ?? emptyRecord, { expectedGeneration, state })
        const prepared = yield* recordFailure(id, step)
        if (prepared !== undefined) writes.push(prepared)
      }
      const late = yield* write(writes)
      for (const { id } of writes) {
        const actual = late.get(id)
        const expected = expectedGenerations.get(id)
        if (actual === undefined) pending.delete(id)
        else if (expected !== undefined) giveUp(id, new GenerationConflict({ id, expected, actual }))
      }
    }
    for (const id of pending.keys()) yield* recordFailure(id, Effect.fail(tooBusy(id)))
    return failures
  })

  // warn once each time that the database becomes unreachable
  let hasWarned = false
  const lock = Effect.fnUntraced(function*(id: string) {
    const unreachable = yield* lease(id)
    const isNew = unreachable !== undefined && !hasWarned
    hasWarned = unreachable !== undefined
    if (!isNew) return
    yield* logWarning("Other processes are not locked out: cannot acquire the lock of a credential").pipe(
      Effect.annotateLogs({ storage: name, reason: unreachable.message })
    )
  })

  return CredentialStorage.of({
    read: Effect.fn(`${name}.read`)(
      function*(id) {
        const record = yield* read(id)
        return { credential: yield* credentialOf(id, record), state: stateOf(states, id, record) }
      },
      (effect, id) => asStorageError("read", id)(effect)
    ),
    load: Effect.fn(`${name}.load`)(
      (id) => Effect.flatMap(read(id), (record) => credentialOf(id, record)),
      (effect, id) => asStorageError("load", id)(effect)
    ),
    save: Effect.fn(`${name}.save`)(
      (credential, options) => writing(credential.id)(put(credential, options ?? {})),
      (effect, { id }) => asStorageError("save", id)(effect)
    ),
    saveMany: Effect.fn(`${name}.saveMany`)(
      (many, options) => putMany(many, options?.expectedGenerations ?? new Map(), options?.state),
      asStorageError("saveMany")
    ),
    delete: Effect.fn(`${name}.delete`)(
      function*(id, options) {
        yield* checkCredentialId(id)
        return yield* Effect.uninterruptible(Effect.gen(function*() {
          const generation = yield* database.remove(id, options?.expectedGeneration)
          if (generation === undefined) return false
          yield* publish({ _tag: "Deleted", id, generation })
          return true
        }))
      },
      (effect, id) => asStorageError("delete", id)(effect)
    ),
    list: database.ids.pipe(
      // an id that cannot be read would fail every list of credentials
      Effect.map((ids) => ids.filter(isCredentialId)),
      asStorageError("list"),
      Effect.withSpan(`${name}.list`)
    ),
    exists: Effect.fn(`${name}.exists`)(
      function*(id) {
        const record = yield* read(id)
        return isForeign(record) || record.document !== undefined
      },
      (effect, id) => asStorageError("exists", id)(effect)
    ),
    loadState: Effect.fn(`${name}.loadState`)(
      (id) => Effect.map(read(id), (record) => stateOf(states, id, record)),
      (effect, id) => asStorageError("loadState", id)(effect)
    ),
    saveState: Effect.fn(`${name}.saveState`)(
      function*(id, state, options) {
        for (let attempt = 0; attempt < attempts; attempt++) {
          const record = yield* read(id)
          if (isForeign(record)) {
            return yield* new StorageIoFailed({ location: database.locationOf(id), detail: record.foreign })
          }
          const before = stateOf(states, id, record)
          if (!isExpected(before, options)) return false
          if (yield* database.writeState(id, before.generation, states.encode(id, stateAfterUpdate(state, before)))) {
            return true
          }
        }
        return yield* tooBusy(id)
      },
      (effect, id) => asStorageError("saveState", id)(effect)
    ),
    changes,
    withLock: (id, effect) =>
      Effect.acquireUseRelease(
        Scope.make(),
        (scope) =>
          checkCredentialId(id).pipe(
            Effect.andThen(lock(id)),
            asStorageError("withLock", id),
            Scope.provide(scope),
            Effect.andThen(effect)
          ),
        Scope.close
      )
  })
})
