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
import { chooseUnused, NamesInUse } from "./NamesInUse.ts"
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

/** The names in use of one folder, listed when the first new name is needed, and those that a batch has chosen. */
interface Choice {
  readonly listing: ReturnType<NamesInUse["listing"]>
  readonly chosen: Map<string, string>
}

interface Batch {
  readonly credentials: Choice
  readonly states: Choice
}

/** Is told what was written. */
export interface EntryObserver {
  /** Called for each saved credential with the document that was stored, once it is flushed to disk. */
  readonly onSaved: (credential: Credential, generation: number, document: string) => Effect.Effect<unknown>
  /** Called for each removed credential, with the generation of its tombstone. */
  readonly onRemoved: (id: string, generation: number) => Effect.Effect<unknown>
}

/** The transactions over the entries of one directory. */
export class EntryTransactions {
  readonly #files: PrivateFiles
  readonly #folders: { readonly credentials: string; readonly state: string }
  readonly #credentials: CredentialFiles
  readonly #states: StateFiles
  readonly #tenantId: string | undefined
  readonly #observer: EntryObserver
  readonly #names: { readonly credentials: NamesInUse; readonly states: NamesInUse }

  constructor(options: {
    readonly files: PrivateFiles
    readonly folders: { readonly credentials: string; readonly state: string }
    readonly credentials: CredentialFiles
    readonly states: StateFiles
    readonly tenantId: string | undefined
    readonly observer: EntryObserver
  }) {
    const { credentials, files, folders, states } = options
    this.#files = files
    this.#folders = folders
    this.#credentials = credentials
    this.#states = states
    this.#tenantId = options.tenantId
    this.#observer = options.observer
    this.#names = {
      credentials: new NamesInUse(files, folders.credentials, credentials),
      states: new NamesInUse(files, folders.state, states)
    }
  }

  #namesInUse({ number }: HeldLock): Batch {
    return {
      credentials: { listing: this.#names.credentials.listing(number), chosen: new Map() },
      states: { listing: this.#names.states.listing(number), chosen: new Map() }
    }
  }

  #removeFile(name: string) {
    return Effect.tap(this.#credentials.remove(name), () => Effect.sync(() => this.#names.credentials.removed(name)))
  }

  #removeState(name: string) {
    return Effect.tap(this.#states.remove(name), () => Effect.sync(() => this.#names.states.removed(name)))
  }

  #chooseIn(
    { chosen, listing }: Choice,
    id: string,
    { plainIsTaken }: { readonly plainIsTaken: boolean }
  ) {
    return Effect.map(listing, (names) => chooseUnused(id, plainIsTaken, names, chosen, this.#files.windows))
  }

  /** Runs what changes both folders under the lock. */
  #changingFolders({ number }: HeldLock) {
    return <A, E, R>(change: Effect.Effect<A, E, R>) =>
      this.#names.credentials.changing(number)(this.#names.states.changing(number)(change))
  }

  #nameOfState(id: string, located: LocatedState, { states }: Batch) {
    return located.name === undefined ? this.#chooseIn(states, id, located) : Effect.succeed(located.name)
  }

  writeState(
    id: string,
    located: LocatedState,
    state: CredentialState,
    lock: HeldLock
  ) {
    return this.#changingFolders(lock)(Effect.gen({ self: this }, function*() {
      const name = yield* this.#nameOfState(id, located, this.#namesInUse(lock))
      yield* this.#states.write(name, id, state, lock.check)
      return name
    }))
  }

  /** Rolls back the generation of a write that failed, which would make later saves look outdated. */
  #rollBackState(name: string, id: string, before: CredentialState, { check }: HeldLock) {
    return Effect.andThen(
      check,
      Equal.equals(before, CredentialState.initial)
        ? this.#removeState(name)
        : this.#states.write(name, id, before, check)
    ).pipe(Effect.ignore)
  }

  // saving --------------------------------------------------------------------------------------------------------------

  #prepare(
    saving: PendingSave,
    inUse: Batch,
    isOneOfMany: boolean
  ): Effect.Effect<Prepared, SaveFailure, Scope.Scope> {
    return Effect.gen({ self: this }, function*() {
      const { credential, options, replaced } = saving
      const { id } = credential
      // under the lock no other process writes states or escaped names, so the listings of a large batch stay valid; plain names are
      // looked up, because Hive takes no lock
      const located = yield* this.#credentials.locate(id, {
        isEscapedAbsent: isOneOfMany && !(yield* inUse.credentials.listing).has(escapedName(id))
      })
      if (located._tag === "Unreadable") return yield* this.#credentials.cannotOpen(id, located)
      const file = located._tag === "Found" ? yield* this.#credentials.fingerprint(located.name) : Option.none()
      const found = isOneOfMany && isNew(id, yield* inUse.states.listing) ? noState : yield* this.#states.locate(id)
      // after a lost lock: the generation may come from the own first attempt, not from another writer
      const isOwnGeneration = isWrittenBy(found.state, replaced) && Equal.equals(file, replaced.file)
      const before = isOwnGeneration ? replaced.state : found.state
      const { expectedGeneration: expected } = options
      if (expected !== undefined && expected !== before.generation) {
        return yield* new GenerationConflict({ id, expected, actual: before.generation })
      }
      const stored = located._tag === "Found" ? located.stored : undefined
      const document = saving.document === undefined
        ? encodeDocument(credential, yield* DateTime.now, stored, { tenantId: this.#tenantId })
        : Result.succeed(saving.document)
      if (Result.isFailure(document)) return yield* new StorageRefused({ detail: document.failure })
      const name = located._tag === "Found"
        ? located.name
        : yield* this.#chooseIn(inUse.credentials, id, located)
      const stateName = yield* this.#nameOfState(id, found, inUse)
      const after = stateAfterSave(credential, before, options.state)
      const newState = yield* this.#states.prepare(stateName, id, after)
      const newCredential = yield* this.#credentials.prepare(name, document.success)
      // Hive may have written the plain name since: of two files of one credential, the older must not survive
      const older = located._tag === "Found" && name !== escapedName(id) ? escapedName(id) : undefined
      return { saving, before, after, stateName, file, newState, newCredential, document: document.success, older }
    })
  }

  #commitState({ before, file, newState, saving }: Prepared) {
    return Effect.map(newState.commit, () => {
      saving.replaced = { state: before, file }
    })
  }

  #rollBack({ before, saving, stateName }: Prepared, lock: HeldLock) {
    return this.#rollBackState(stateName, saving.credential.id, before, lock)
  }

  #commitCredential(one: Prepared, lock: HeldLock) {
    const { after, newCredential, older, saving } = one
    // the older file first: it is not read while the other exists, so a save that fails then has changed nothing
    return Effect.andThen(older === undefined ? Effect.void : this.#removeFile(older), newCredential.commit).pipe(
      Effect.tapError(() => this.#rollBack(one, lock)),
      Effect.map(() => {
        saving.savedAs = after.generation
      })
    )
  }

  /** Saves credentials together. Answers the failures by id; they do not affect the others. */
  putAll(batch: ReadonlyArray<PendingSave>, lock: HeldLock) {
    return this.#changingFolders(lock)(Effect.scoped(Effect.gen(
      { self: this },
      function*() {
        const inUse = this.#namesInUse(lock)
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
          ({ saving }) =>
            Effect.map(this.#prepare(saving, inUse, batch.length >= largeBatch), (one) => prepared.push(one))
        )

        const tellSaved = Effect.suspend(() => {
          const saved = prepared.filter(({ saving }) => saving.savedAs !== undefined)
          return saved.length === 0 ? Effect.void : Effect.gen({ self: this }, function*() {
            yield* this.#files.flush(this.#folders.state)
            yield* this.#files.flush(this.#folders.credentials)
            for (const { after, document, saving } of saved) {
              yield* this.#observer.onSaved(saving.credential, after.generation, document)
            }
          })
        })
        // state before credential, so that a new credential never appears under the old generation; and the credential right after
        // it, to keep the window short in which the old one is under the new generation
        const commitFew = (few: ReadonlyArray<Prepared>) =>
          Effect.gen({ self: this }, function*() {
            const committed: Array<Prepared> = []
            yield* lock.check
            yield* each(few, (one) => Effect.map(this.#commitState(one), () => committed.push(one)))
            yield* Effect.tapError(
              lock.check,
              () => Effect.forEach(committed, (one) => this.#rollBack(one, lock), { discard: true })
            )
            yield* each(committed, (one) => this.#commitCredential(one, lock))
          })
        // a few at a time, so that a writer that loses the lock stops soon
        yield* Effect.forEach(Arr.chunksOf(prepared, fileConcurrency), commitFew, { discard: true }).pipe(
          Effect.ensuring(tellSaved)
        )
        return failures
      }
    )))
  }

  // removing ------------------------------------------------------------------------------------------------------------

  /** Removes an entry and its state, and records in `removal` whether there was one. */
  remove(
    id: string,
    { isOwn, located, state: found }: FoundEntry,
    expected: number | undefined,
    removal: PendingRemoval,
    lock: HeldLock
  ) {
    return this.#changingFolders(lock)(Effect.gen({ self: this }, function*() {
      if (removal.isRemoved) {
        if (!isOwn && isWrittenBy(found.state, removal.replaced)) {
          yield* this.writeState(id, found, tombstoneOf(removal.replaced.state), lock)
        }
        return
      }
      const file = located._tag !== "Absent" && isOwn
        ? yield* this.#credentials.fingerprint(located.name)
        : Option.none()
      const { replaced } = removal
      const isOwnGeneration = isWrittenBy(found.state, replaced) && Equal.equals(file, replaced.file)
      const state = isOwnGeneration ? replaced.state : found.state
      if (expected !== undefined && expected !== state.generation) return
      if (located._tag === "Absent" || !isOwn) {
        if (found.name === undefined) return
        if (state.generation > 0) yield* this.#states.write(found.name, id, tombstoneOf(state), lock.check)
        else yield* Effect.andThen(lock.check, this.#removeState(found.name))
        return
      }
      // the generation first, so that no writer that knew the entry can save over its deletion; the rest of the state stays until the
      // credential is removed
      const tombstone = tombstoneOf(state)
      const name = yield* this.writeState(
        id,
        found,
        new CredentialState({ ...state, generation: tombstone.generation }),
        lock
      )
      removal.replaced = { state, file }
      yield* Effect.gen({ self: this }, function*() {
        yield* lock.check
        // the older file first: it would be read again
        if (located.name !== escapedName(id)) yield* this.#removeFile(escapedName(id))
        yield* this.#removeFile(located.name)
        yield* this.#files.flush(this.#folders.credentials)
      }).pipe(
        Effect.tapError(() => this.#rollBackState(name, id, state, lock))
      )
      removal.isRemoved = true
      yield* this.#observer.onRemoved(id, tombstone.generation)
      yield* this.#states.write(name, id, tombstone, lock.check)
    }))
  }
}
