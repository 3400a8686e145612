/**
 * Transactions over the two files of an entry, credential and state. The order of writes guarantees that a crash, a failing disk or
 * a lost lock leaves the old entry or the new one, and never a new credential under the old generation.
 */
import * as Arr from "effect/Array"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { GenerationConflict, StorageRefused } from "../../errors/StorageError.ts"
import type { CredentialDecryptionFailed } from "../../errors/StorageError.ts"
import type { Credential } from "../../model/Credential.ts"
import { CredentialState, stateAfterSave, tombstoneOf } from "../../model/CredentialState.ts"
import { encodeDocument } from "../format/HiveDocument.ts"
import { escapedName, foldName, plainName } from "../format/names.ts"
import type { StorageFault } from "../operation.ts"
import type { CredentialFiles, Located } from "./CredentialFiles.ts"
import type { HeldLock } from "./FileLock.ts"
import { chooseUnused, makeNamesInUse } from "./NamesInUse.ts"
import type { PrivateFiles, Replacement } from "./PrivateFiles.ts"
import { noState } from "./StateFiles.ts"
import type { LocatedState, StateFiles } from "./StateFiles.ts"

/** The options of `CredentialStorage.save`. */
interface SaveOptions {
  readonly expectedGeneration?: number | undefined
  readonly state?: CredentialState | undefined
}

/** What a write replaced when it incremented the generation: the state before, and the fingerprint of the credential's file. */
interface Before {
  readonly state: CredentialState
  readonly file: Option.Option<string>
}

/** A save and its progress, which outlives a lost lock: the save is then retried. */
export interface PendingSave {
  readonly credential: Credential
  readonly options: SaveOptions
  /** The document to write; `undefined` to encode the credential over the stored document. */
  readonly document: string | undefined
  replaced: Before | undefined
  /** The generation that it was saved under, once it is. */
  savedAs: number | undefined
}

export const pendingSave = (credential: Credential, options: SaveOptions, document?: string): PendingSave => ({
  credential,
  options,
  document,
  replaced: undefined,
  savedAs: undefined
})

/** The progress of a removal, which outlives a lost lock: the removal is then retried. */
export interface PendingRemoval {
  replaced: Before | undefined
  isRemoved: boolean
}

export const pendingRemoval = (): PendingRemoval => ({ replaced: undefined, isRemoved: false })

/** An entry to be removed, as it was found. */
export interface FoundEntry {
  readonly located: Located
  /** Whether the file is this entry's, also when it cannot be decrypted. */
  readonly isOwn: boolean
  readonly state: LocatedState
}

/** Why a credential was not saved. */
export type SaveFailure = CredentialDecryptionFailed | GenerationConflict | StorageFault

/** A credential and its state, both written to temporary files, to be committed. */
interface Prepared {
  readonly saving: PendingSave
  /** The state before and after; `stateName` is its file. */
  readonly before: CredentialState
  readonly after: CredentialState
  readonly stateName: string
  readonly file: Option.Option<string>
  readonly newState: Replacement
  readonly newCredential: Replacement
  readonly document: string
  /** An older file of the same credential. */
  readonly older: string | undefined
}

/** From this batch size on, listing the folder is cheaper than looking up each state. */
const largeBatch = 8

/** How many files are written concurrently, and committed between two checks of the lock. */
const fileConcurrency = 8

/** Whether the generation of a state can come from this write, rather than from another writer. */
const isWrittenBy = (state: CredentialState, replaced: Before | undefined): replaced is Before =>
  replaced !== undefined && state.generation === replaced.state.generation + 1

/** Whether no file of these (folded) names can be the id's, on any file system. */
const isNew = (id: string, names: ReadonlyMap<string, unknown>) =>
  !names.has(foldName(plainName(id))) && !names.has(escapedName(id))

export const makeEntryTransactions = (options: {
  readonly files: PrivateFiles
  readonly folders: { readonly credentials: string; readonly state: string }
  readonly credentials: CredentialFiles
  readonly states: StateFiles
  readonly tenantId: string | undefined
  /** Called for each saved credential with the document that was stored, once it is flushed to disk. */
  readonly onSaved: (credential: Credential, generation: number, document: string) => Effect.Effect<unknown>
  /** Called for each removed credential, with the generation of its tombstone. */
  readonly onRemoved: (id: string, generation: number) => Effect.Effect<unknown>
}) => {
  const { credentials, files, folders, onRemoved, onSaved, states, tenantId } = options

  const names = {
    credentials: makeNamesInUse(files, folders.credentials, credentials.names),
    states: makeNamesInUse(files, folders.state, states.names)
  }

  /** The names in use, looked up when the first new name is needed. */
  const namesInUse = ({ number }: HeldLock) => ({
    credentials: { listing: names.credentials.listing(number), chosen: new Map<string, string>() },
    states: { listing: names.states.listing(number), chosen: new Map<string, string>() }
  })

  type NamesInUse = ReturnType<typeof namesInUse>

  const removeFile = (name: string) =>
    Effect.tap(credentials.remove(name), () => Effect.sync(() => names.credentials.removed(name)))

  const removeState = (name: string) =>
    Effect.tap(states.remove(name), () => Effect.sync(() => names.states.removed(name)))

  const chooseIn = (
    { chosen, listing }: NamesInUse[keyof NamesInUse],
    id: string,
    { plainIsTaken }: { readonly plainIsTaken: boolean }
  ) => Effect.map(listing, (names) => chooseUnused(id, plainIsTaken, names, chosen, files.windows))

  /** Runs what changes both folders under the lock. */
  const changingFolders = ({ number }: HeldLock) => <A, E, R>(change: Effect.Effect<A, E, R>) =>
    names.credentials.changing(number)(names.states.changing(number)(change))

  const nameOfState = (id: string, located: LocatedState, { states }: NamesInUse) =>
    located.name === undefined ? chooseIn(states, id, located) : Effect.succeed(located.name)

  const writeState = (
    id: string,
    located: LocatedState,
    state: CredentialState,
    lock: HeldLock
  ) =>
    changingFolders(lock)(Effect.gen(function*() {
      const name = yield* nameOfState(id, located, namesInUse(lock))
      yield* states.write(name, id, state, lock.check)
      return name
    }))

  /** Rolls back the generation of a write that failed, which would make later saves look outdated. */
  const rollBackState = (name: string, id: string, before: CredentialState, { check }: HeldLock) =>
    Effect.andThen(
      check,
      Equal.equals(before, CredentialState.initial) ? removeState(name) : states.write(name, id, before, check)
    ).pipe(Effect.ignore)

  // saving --------------------------------------------------------------------------------------------------------------

  const prepare = (
    saving: PendingSave,
    inUse: NamesInUse,
    isOneOfMany: boolean
  ): Effect.Effect<Prepared, SaveFailure, Scope.Scope> =>
    Effect.gen(function*() {
      const { credential, options, replaced } = saving
      const { id } = credential
      // under the lock no other process writes states or escaped names, so the listings of a large batch stay valid; plain names are
      // looked up, because Hive takes no lock
      const located = yield* credentials.locate(id, {
        isEscapedAbsent: isOneOfMany && !(yield* inUse.credentials.listing).has(escapedName(id))
      })
      if (located._tag === "Unreadable") return yield* credentials.cannotOpen(id, located)
      const file = located._tag === "Found" ? yield* credentials.fingerprint(located.name) : Option.none()
      const found = isOneOfMany && isNew(id, yield* inUse.states.listing) ? noState : yield* states.locate(id)
      // after a lost lock: the generation may come from the own first attempt, not from another writer
      const isOwnGeneration = isWrittenBy(found.state, replaced) && Equal.equals(file, replaced.file)
      const before = isOwnGeneration ? replaced.state : found.state
      const { expectedGeneration: expected } = options
      if (expected !== undefined && expected !== before.generation) {
        return yield* new GenerationConflict({ id, expected, actual: before.generation })
      }
      const stored = located._tag === "Found" ? located.stored : undefined
      const document = saving.document === undefined
        ? encodeDocument(credential, yield* DateTime.now, stored, tenantId)
        : Result.succeed(saving.document)
      if (Result.isFailure(document)) return yield* new StorageRefused({ detail: document.failure })
      const name = located._tag === "Found"
        ? located.name
        : yield* chooseIn(inUse.credentials, id, located)
      const stateName = yield* nameOfState(id, found, inUse)
      const after = stateAfterSave(credential, before, options.state)
      const newState = yield* states.prepare(stateName, id, after)
      const newCredential = yield* credentials.prepare(name, document.success)
      // Hive may have written the plain name since: of two files of one credential, the older must not survive
      const older = located._tag === "Found" && name !== escapedName(id) ? escapedName(id) : undefined
      return { saving, before, after, stateName, file, newState, newCredential, document: document.success, older }
    })

  const commitState = ({ before, file, newState, saving }: Prepared) =>
    Effect.map(newState.commit, () => {
      saving.replaced = { state: before, file }
    })

  const rollBack = ({ before, saving, stateName }: Prepared, lock: HeldLock) =>
    rollBackState(stateName, saving.credential.id, before, lock)

  const commitCredential = (one: Prepared, lock: HeldLock) => {
    const { after, newCredential, older, saving } = one
    // the older file first: it is not read while the other exists, so a save that fails then has changed nothing
    return Effect.andThen(older === undefined ? Effect.void : removeFile(older), newCredential.commit).pipe(
      Effect.tapError(() => rollBack(one, lock)),
      Effect.map(() => {
        saving.savedAs = after.generation
      })
    )
  }

  /** Saves credentials together. Answers the failures by id; they do not affect the others. */
  const putAll = (batch: ReadonlyArray<PendingSave>, lock: HeldLock) =>
    changingFolders(lock)(Effect.scoped(Effect.gen(
      function*() {
        const inUse = namesInUse(lock)
        const failures = new Map<string, SaveFailure>()
        const each = <A extends { readonly saving: PendingSave }, R>(
          items: ReadonlyArray<A>,
          step: (item: A) => Effect.Effect<unknown, SaveFailure, R>
        ) =>
          Effect.forEach(
            items,
            (item) =>
              Effect.catch(
                step(item),
                (failure) => Effect.sync(() => failures.set(item.saving.credential.id, failure))
              ),
            { concurrency: fileConcurrency, discard: true }
          )
        const prepared: Array<Prepared> = []
        const left = batch.flatMap((saving) => saving.savedAs === undefined ? [{ saving }] : [])
        yield* each(
          left,
          ({ saving }) => Effect.map(prepare(saving, inUse, batch.length >= largeBatch), (one) => prepared.push(one))
        )

        const tellSaved = Effect.suspend(() => {
          const saved = prepared.filter(({ saving }) => saving.savedAs !== undefined)
          return saved.length === 0 ? Effect.void : Effect.gen(function*() {
            yield* files.flush(folders.state)
            yield* files.flush(folders.credentials)
            for (const { after, document, saving } of saved) {
              yield* onSaved(saving.credential, after.generation, document)
            }
          })
        })
        // state before credential, so that a new credential never appears under the old generation; and the credential right after
        // it, to keep the window short in which the old one is under the new generation
        const commitFew = Effect.fnUntraced(function*(few: ReadonlyArray<Prepared>) {
          const committed: Array<Prepared> = []
          yield* lock.check
          yield* each(few, (one) => Effect.map(commitState(one), () => committed.push(one)))
          yield* Effect.tapError(
            lock.check,
            () => Effect.forEach(committed, (one) => rollBack(one, lock), { discard: true })
          )
          yield* each(committed, (one) => commitCredential(one, lock))
        })
        // a few at a time, so that a writer that loses the lock stops soon
        yield* Effect.forEach(Arr.chunksOf(prepared, fileConcurrency), commitFew, { discard: true }).pipe(
          Effect.ensuring(tellSaved)
        )
        return failures
      }
    )))

  // removing ------------------------------------------------------------------------------------------------------------

  /** Removes an entry and its state, and records in `removal` whether there was one. */
  const remove = (
    id: string,
    { isOwn, located, state: found }: FoundEntry,
    expected: number | undefined,
    removal: PendingRemoval,
    lock: HeldLock
  ) =>
    changingFolders(lock)(Effect.gen(function*() {
      if (removal.isRemoved) {
        if (!isOwn && isWrittenBy(found.state, removal.replaced)) {
          yield* writeState(id, found, tombstoneOf(removal.replaced.state), lock)
        }
        return
      }
      const file = located._tag !== "Absent" && isOwn ? yield* credentials.fingerprint(located.name) : Option.none()
      const { replaced } = removal
      const isOwnGeneration = isWrittenBy(found.state, replaced) && Equal.equals(file, replaced.file)
      const state = isOwnGeneration ? replaced.state : found.state
      if (expected !== undefined && expected !== state.generation) return
      if (located._tag === "Absent" || !isOwn) {
        if (found.name === undefined) return
        if (state.generation > 0) yield* states.write(found.name, id, tombstoneOf(state), lock.check)
        else yield* Effect.andThen(lock.check, removeState(found.name))
        return
      }
      // the generation first, so that no writer that knew the entry can save over its deletion; the rest of the state stays until the
      // credential is removed
      const tombstone = tombstoneOf(state)
      const name = yield* writeState(
        id,
        found,
        new CredentialState({ ...state, generation: tombstone.generation }),
        lock
      )
      removal.replaced = { state, file }
      yield* Effect.gen(function*() {
        yield* lock.check
        // the older file first: it would be read again
        if (located.name !== escapedName(id)) yield* removeFile(escapedName(id))
        yield* removeFile(located.name)
        yield* files.flush(folders.credentials)
      }).pipe(
        Effect.tapError(() => rollBackState(name, id, state, lock))
      )
      removal.isRemoved = true
      yield* onRemoved(id, tombstone.generation)
      yield* states.write(name, id, tombstone, lock.check)
    }))

  return { putAll, remove, writeState } as const
}
