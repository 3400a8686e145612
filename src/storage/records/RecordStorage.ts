/**
 * A storage over a database. It keeps what the encrypted files keep: encrypted documents, and beside each what is remembered
 * about it. A write is made only onto the generation that it was worked out from, so whatever comes late changes nothing.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { CredentialDecryptionFailed, GenerationConflict, StorageIoFailed } from "../../errors/CredentialError.ts"
import type { InvalidCredentialId, StorageFailure, StorageRefused } from "../../errors/CredentialError.ts"
import type { Credential } from "../../model/Credential.ts"
import { CredentialState, stateOfSave, stateWithoutSave } from "../../model/CredentialState.ts"
import { makeKeyedLock } from "../../util/KeyedLock.ts"
import { CredentialStorage } from "../CredentialStorage.ts"
import { makeSealing } from "../format/sealed.ts"
import { decodeState, encodeState } from "../format/StateRecord.ts"
import { checkCredentialId, inOperation } from "../operation.ts"
import { makeRecordChanges } from "./ChangeFeed.ts"
import { makeLeases } from "./Lease.ts"
import type { ForeignRecord, RecordDatabase, RecordWrite, StoredRecord } from "./RecordDatabase.ts"

/** As of `CredentialStorage.save`. */
interface SaveOptions {
  readonly expectedGeneration?: number | undefined
  readonly state?: CredentialState | undefined
}

/** Each time that a write is too late, somebody else's was made. */
const attempts = 32

export const isForeign = (record: StoredRecord | ForeignRecord): record is ForeignRecord => "foreign" in record

export const nothing: StoredRecord = { generation: 0, document: undefined, state: undefined }

/** What is remembered, under the generation of the record. A text that is no state says nothing. */
export const stateOf = (record: StoredRecord | ForeignRecord): CredentialState => {
  if (isForeign(record)) return CredentialState.initial
  const { generation, state } = record
  const stored = state === undefined ? Option.none() : decodeState(state)
  return new CredentialState({
    ...Option.match(stored, { onNone: () => ({}), onSome: ({ state }) => state }),
    generation
  })
}

/** `name` is that of the storage, for spans and warnings. */
export const makeRecordStorage = Effect.fnUntraced(function*(name: string, options: {
  readonly database: RecordDatabase
  readonly keys: FernetKeys
  readonly tenantId: string | undefined
}) {
  const { database, keys, tenantId } = options
  const { open, seal } = makeSealing(keys, tenantId)
  const { changes, publish, releases } = yield* makeRecordChanges(database.changes, database.writer)
  const lease = makeLeases(database.leases, releases)
  const writing = makeKeyedLock()

  const read = Effect.fnUntraced(function*(id: string) {
    yield* checkCredentialId(id)
    const [record = nothing] = yield* database.read([id])
    return record
  })

  const notOurs = (id: string, { foreign }: ForeignRecord) =>
    new CredentialDecryptionFailed({ id, location: database.locationOf(id), detail: foreign })

  /** What is in a record; undefined when nothing is. */
  const opened = Effect.fnUntraced(function*(id: string, record: StoredRecord | ForeignRecord) {
    if (isForeign(record)) return yield* notOurs(id, record)
    return record.document === undefined ? undefined : yield* open(id, database.locationOf(id), record.document)
  })

  const prepare = Effect.fnUntraced(function*(
    credential: Credential,
    record: StoredRecord | ForeignRecord,
    options: SaveOptions
  ): Effect.fn.Return<RecordWrite, CredentialDecryptionFailed | GenerationConflict | StorageRefused> {
    const { id } = credential
    const stored = yield* opened(id, record)
    const before = stateOf(record)
    const { generation } = before
    const expected = options.expectedGeneration ?? generation
    if (expected !== generation) return yield* new GenerationConflict({ id, expected, actual: generation })
    return {
      id,
      expected,
      document: yield* seal(credential, stored),
      state: encodeState(id, stateOfSave(credential, before, options.state))
    }
  })

  const tooBusy = (id: string) =>
    new StorageIoFailed({ location: database.locationOf(id), detail: "other programs write it all the time" })

  /** Makes these writes; answers the generations that others had counted up meanwhile. */
  const write = (writes: ReadonlyArray<RecordWrite>) =>
    // what was written is told, and an interruption does not come between
    Effect.uninterruptible(Effect.gen(function*() {
      const late = new Map<string, number>()
      const found = yield* database.write(writes)
      for (const [index, { expected, id }] of writes.entries()) {
        const generation = found[index]
        if (generation === expected) yield* publish({ _tag: "Saved", id })
        else late.set(id, generation ?? -1)
      }
      return late
    }))

  const put = Effect.fnUntraced(function*(credential: Credential, options: SaveOptions) {
    const { id } = credential
    const expected = options.expectedGeneration
    for (let attempt = 0; attempt < attempts; attempt++) {
      const actual = (yield* write([yield* prepare(credential, yield* read(id), options)])).get(id)
      if (actual === undefined) return
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
    /** What comes of a step for one credential; undefined when it failed, which does not spoil the others. */
    const noting = <A>(
      id: string,
      step: Effect.Effect<
        A,
        StorageFailure | GenerationConflict | InvalidCredentialId | StorageIoFailed | StorageRefused
      >
    ) =>
      inOperation("save", id)(step).pipe(
        Effect.catch((failure) => Effect.as(Effect.sync(() => giveUp(id, failure)), undefined))
      )

    for (const id of pending.keys()) yield* noting(id, checkCredentialId(id))
    for (let attempt = 0; pending.size > 0 && attempt < attempts; attempt++) {
      const records = yield* database.read(Array.from(pending.keys()))
      const writes: Array<RecordWrite> = []
      for (const [index, [id, credential]] of Array.from(pending).entries()) {
        const expectedGeneration = expectedGenerations.get(id)
        const step = prepare(credential, records[index] ?? nothing, { expectedGeneration, state })
        const prepared = yield* noting(id, step)
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
    for (const id of pending.keys()) yield* noting(id, Effect.fail(tooBusy(id)))
    return failures
  })

  // a program that cannot reach the database is told once, until it could again
  let isTold = false
  const lock = Effect.fnUntraced(function*(id: string) {
    const unreachable = yield* lease(id)
    const isNew = unreachable !== undefined && !isTold
    isTold = unreachable !== undefined
    if (!isNew) return
    yield* Effect.logWarning("Other processes are not locked out: the lock of a credential cannot be had").pipe(
      Effect.annotateLogs({ storage: name, reason: unreachable.message })
    )
  })

  return CredentialStorage.of({
    load: Effect.fn(`${name}.load`)(
      function*(id) {
        const stored = yield* opened(id, yield* read(id))
        return Option.map(Option.fromUndefinedOr(stored), ({ credential }) => credential)
      },
      (effect, id) => inOperation("load", id)(effect)
    ),
    save: Effect.fn(`${name}.save`)(
      (credential, options) => writing(credential.id)(put(credential, options ?? {})),
      (effect, { id }) => inOperation("save", id)(effect)
    ),
    saveMany: Effect.fn(`${name}.saveMany`)(
      (many, options) => putMany(many, options?.expectedGenerations ?? new Map(), options?.state),
      inOperation("saveMany")
    ),
    delete: Effect.fn(`${name}.delete`)(
      function*(id, options) {
        yield* checkCredentialId(id)
        return yield* Effect.uninterruptible(
          Effect.tap(
            database.remove(id, options?.expectedGeneration),
            (isDeleted) => isDeleted ? publish({ _tag: "Deleted", id }) : Effect.void
          )
        )
      },
      (effect, id) => inOperation("delete", id)(effect)
    ),
    list: database.ids.pipe(inOperation("list"), Effect.withSpan(`${name}.list`)),
    exists: Effect.fn(`${name}.exists`)(
      function*(id) {
        const record = yield* read(id)
        return isForeign(record) || record.document !== undefined
      },
      (effect, id) => inOperation("exists", id)(effect)
    ),
    loadState: Effect.fn(`${name}.loadState`)(
      (id) => Effect.map(read(id), stateOf),
      (effect, id) => inOperation("loadState", id)(effect)
    ),
    saveState: Effect.fn(`${name}.saveState`)(
      function*(id, state) {
        for (let attempt = 0; attempt < attempts; attempt++) {
          const record = yield* read(id)
          if (isForeign(record)) {
            return yield* new StorageIoFailed({ location: database.locationOf(id), detail: record.foreign })
          }
          const before = stateOf(record)
          if (yield* database.writeState(id, before.generation, encodeState(id, stateWithoutSave(state, before)))) {
            return
          }
        }
        return yield* tooBusy(id)
      },
      (effect, id) => inOperation("saveState", id)(effect)
    ),
    changes,
    withLock: (id, effect) =>
      Effect.acquireUseRelease(
        Scope.make(),
        (scope) =>
          checkCredentialId(id).pipe(
            Effect.andThen(lock(id)),
            inOperation("withLock", id),
            Scope.provide(scope),
            Effect.andThen(effect)
          ),
        Scope.close
      )
  })
})
