/**
 * Entries, each a credential's file and the state beside it, put in place and removed in an order in which a crash, a failing disk
 * or a lost lock leaves the old entry or the new one, and never a new one under the old count.
 */
import * as Arr from "effect/Array"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { GenerationConflict, StorageRefused } from "../../errors/CredentialError.ts"
import type { CredentialDecryptionFailed } from "../../errors/CredentialError.ts"
import type { Credential } from "../../model/Credential.ts"
import { CredentialState, stateOfDelete, stateOfSave } from "../../model/CredentialState.ts"
import { encodeCredential } from "../format/HiveDocument.ts"
import { chooseName, escapedName, foldName, plainName } from "../format/names.ts"
import type { StorageFault } from "../operation.ts"
import type { CredentialFiles, Located } from "./CredentialFiles.ts"
import type { HeldLock } from "./FileLock.ts"
import type { PrivateFiles, Replacement } from "./PrivateFiles.ts"
import { noState } from "./StateFiles.ts"
import type { LocatedState, StateFiles } from "./StateFiles.ts"

/** As of `CredentialStorage.save`. */
interface SaveOptions {
  readonly expectedGeneration?: number | undefined
  readonly state?: CredentialState | undefined
}

/** What the count of a write took the place of, and the file as it was then. */
interface Counted {
  readonly state: CredentialState
  readonly file: Option.Option<string>
}

/** A credential that is to be saved, and how far that came before its lock was lost, when it begins anew. */
export interface Saving {
  readonly credential: Credential
  readonly options: SaveOptions
  /** What the file is to hold, where it is not what the credential changes in the one that is there. */
  readonly document: string | undefined
  counted: Counted | undefined
  isSaved: boolean
}

export const toSave = (credential: Credential, options: SaveOptions, document?: string): Saving => ({
  credential,
  options,
  document,
  counted: undefined,
  isSaved: false
})

/** How far a delete came before its lock was lost, when it begins anew. */
export interface Removal {
  counted: Counted | undefined
  isRemoved: boolean
}

export const toRemove = (): Removal => ({ counted: undefined, isRemoved: false })

/** An entry that is to be removed, as it is found. */
export interface Present {
  readonly located: Located
  /** Whether the file is this entry's, also where it cannot be opened. */
  readonly isOwn: boolean
  readonly state: LocatedState
}

/** Why one of several credentials is not saved. */
export type SaveFailure = CredentialDecryptionFailed | GenerationConflict | StorageFault

/** A credential and its state, each written beside the file whose place it takes. */
interface Prepared {
  readonly saving: Saving
  /** As it was; `stateName` is its file. */
  readonly before: CredentialState
  readonly stateName: string
  readonly file: Option.Option<string>
  readonly newState: Replacement
  readonly newCredential: Replacement
  /** An older file of the same credential. */
  readonly older: string | undefined
}

/** From so many on they are many. */
const many = 8

/** So many files are worked on side by side, and put in place between two looks at the lock. */
const fileConcurrency = 8

/** Whether a state can be the count that a write left, rather than that of another who was faster. */
const isCountOf = (state: CredentialState, counted: Counted | undefined): counted is Counted =>
  counted !== undefined && state.generation === counted.state.generation + 1

/** Whether the id has no file among these names, on any file system. */
const isNew = (id: string, names: ReadonlySet<string>) =>
  !names.has(foldName(plainName(id))) && !names.has(escapedName(id))

export const makeEntryFiles = (options: {
  readonly files: PrivateFiles
  readonly folders: { readonly credentials: string; readonly state: string }
  readonly credentials: CredentialFiles
  readonly states: StateFiles
  readonly tenantId: string | undefined
  /** Told of what is in place, when no power cut takes it back. */
  readonly onSaved: (credential: Credential) => Effect.Effect<unknown>
  readonly onRemoved: (id: string) => Effect.Effect<unknown>
}) => {
  const { credentials, files, folders, onRemoved, onSaved, states, tenantId } = options

  /** The names that are in use, read when the first new name is needed. */
  const namesInUse = Effect.gen(function*() {
    const folded = Effect.map((names: ReadonlyArray<string>) => new Set(names.map(foldName)))
    return {
      credentials: yield* Effect.cached(folded(credentials.names)),
      states: yield* Effect.cached(folded(states.names))
    }
  })

  type NamesInUse = Effect.Success<typeof namesInUse>

  const nameOfState = Effect.fnUntraced(function*(id: string, located: LocatedState, inUse: NamesInUse) {
    return located.name ?? chooseName(id, located.plainIsTaken, yield* inUse.states, files.windows)
  })

  const writeState = Effect.fnUntraced(function*(
    id: string,
    located: LocatedState,
    state: CredentialState,
    { check }: HeldLock
  ) {
    const name = yield* nameOfState(id, located, yield* namesInUse)
    yield* states.write(name, id, state, check)
    return name
  })

  /** A count of what was not written would make later saves pass for outdated. */
  const takeBackCount = (name: string, id: string, before: CredentialState, { check }: HeldLock) =>
    Effect.andThen(
      check,
      Equal.equals(before, CredentialState.initial) ? states.remove(name) : states.write(name, id, before, check)
    ).pipe(Effect.ignore)

  // saving --------------------------------------------------------------------------------------------------------------

  const prepare = Effect.fnUntraced(function*(
    saving: Saving,
    inUse: NamesInUse,
    isOneOfMany: boolean
  ): Effect.fn.Return<Prepared, SaveFailure, Scope.Scope> {
    const { counted, credential, options } = saving
    const { id } = credential
    const located = yield* credentials.locate(id)
    if (located._tag === "Unreadable") return yield* credentials.cannotOpen(id, located)
    const file = located._tag === "Found" ? yield* credentials.fingerprint(located.name) : Option.none()
    // nobody else writes states meanwhile: to look for each new one under two names costs more than to read the folder
    const found = isOneOfMany && isNew(id, yield* inUse.states) ? noState : yield* states.locate(id)
    // its own count is not that of another who was faster
    const isOwnCount = isCountOf(found.state, counted) && Equal.equals(file, counted.file)
    const before = isOwnCount ? counted.state : found.state
    const { expectedGeneration: expected } = options
    if (expected !== undefined && expected !== before.generation) {
      return yield* new GenerationConflict({ id, expected, actual: before.generation })
    }
    const stored = located._tag === "Found" ? located.stored : undefined
    const document = saving.document === undefined
      ? encodeCredential(credential, yield* DateTime.now, stored, tenantId)
      : Result.succeed(saving.document)
    if (Result.isFailure(document)) return yield* new StorageRefused({ detail: document.failure })
    const name = located._tag === "Found"
      ? located.name
      : chooseName(id, located.plainIsTaken, yield* inUse.credentials, files.windows)
    const stateName = yield* nameOfState(id, found, inUse)
    const newState = yield* states.prepare(stateName, id, stateOfSave(credential, before, options.state))
    const newCredential = yield* credentials.prepare(name, document.success)
    // Hive may have come to write the plain name since: two files of one credential would outlive one another
    const older = located._tag === "Found" && name !== escapedName(id) ? escapedName(id) : undefined
    return { saving, before, stateName, file, newState, newCredential, older }
  })

  const count = ({ before, file, newState, saving }: Prepared) =>
    Effect.map(newState.takePlace, () => {
      saving.counted = { state: before, file }
    })

  const takeBack = ({ before, saving, stateName }: Prepared, lock: HeldLock) =>
    takeBackCount(stateName, saving.credential.id, before, lock)

  const replace = (one: Prepared, lock: HeldLock) => {
    const { newCredential, older, saving } = one
    // first the older one: it is not read while the other is there, and a save that fails has changed nothing
    return Effect.andThen(older === undefined ? Effect.void : credentials.remove(older), newCredential.takePlace).pipe(
      Effect.tapError(() => takeBack(one, lock)),
      Effect.map(() => {
        saving.isSaved = true
      })
    )
  }

  /** Puts credentials in place together. Answers why some could not be, which keeps none of the others. */
  const putAll = Effect.fnUntraced(
    function*(batch: ReadonlyArray<Saving>, lock: HeldLock) {
      const inUse = yield* namesInUse
      const failures = new Map<string, SaveFailure>()
      const each = <A extends { readonly saving: Saving }, R>(
        items: ReadonlyArray<A>,
        step: (item: A) => Effect.Effect<unknown, SaveFailure, R>
      ) =>
        Effect.forEach(
          items,
          (item) =>
            Effect.catch(step(item), (failure) => Effect.sync(() => failures.set(item.saving.credential.id, failure))),
          { concurrency: fileConcurrency, discard: true }
        )
      const prepared: Array<Prepared> = []
      const left = batch.flatMap((saving) => saving.isSaved ? [] : [{ saving }])
      yield* each(
        left,
        ({ saving }) => Effect.map(prepare(saving, inUse, batch.length >= many), (one) => prepared.push(one))
      )

      const tellSaved = Effect.suspend(() => {
        const saved = prepared.filter(({ saving }) => saving.isSaved)
        return saved.length === 0 ? Effect.void : Effect.gen(function*() {
          yield* files.flush(folders.state)
          yield* files.flush(folders.credentials)
          for (const { saving } of saved) yield* onSaved(saving.credential)
        })
      })
      // first the count: nobody can see a new credential under the old one; at once after it the credential, so that hardly
      // anybody sees the old one under the new count
      const putInPlace = Effect.fnUntraced(function*(few: ReadonlyArray<Prepared>) {
        const counted: Array<Prepared> = []
        yield* lock.check
        yield* each(few, (one) => Effect.map(count(one), () => counted.push(one)))
        yield* Effect.tapError(
          lock.check,
          () => Effect.forEach(counted, (one) => takeBack(one, lock), { discard: true })
        )
        yield* each(counted, (one) => replace(one, lock))
      })
      // a few at a time: whoever lost the lock meanwhile puts no more in place
      yield* Effect.forEach(Arr.chunksOf(prepared, fileConcurrency), putInPlace, { discard: true }).pipe(
        Effect.ensuring(tellSaved)
      )
      return failures
    },
    Effect.scoped
  )

  // removing ------------------------------------------------------------------------------------------------------------

  /** Removes an entry and forgets its state, and notes in `removal` whether there was one. */
  const drop = Effect.fnUntraced(function*(
    id: string,
    { isOwn, located, state: found }: Present,
    expected: number | undefined,
    removal: Removal,
    lock: HeldLock
  ) {
    if (removal.isRemoved) {
      if (!isOwn && isCountOf(found.state, removal.counted)) {
        yield* writeState(id, found, stateOfDelete(removal.counted.state), lock)
      }
      return
    }
    const file = located._tag !== "Absent" && isOwn ? yield* credentials.fingerprint(located.name) : Option.none()
    const { counted } = removal
    const isOwnCount = isCountOf(found.state, counted) && Equal.equals(file, counted.file)
    const state = isOwnCount ? counted.state : found.state
    if (expected !== undefined && expected !== state.generation) return
    if (located._tag === "Absent" || !isOwn) {
      if (found.name === undefined) return
      if (state.generation > 0) yield* states.write(found.name, id, stateOfDelete(state), lock.check)
      else yield* Effect.andThen(lock.check, states.remove(found.name))
      return
    }
    // first the count: nobody who knew the entry can save over its deletion; the rest is known for as long as the entry is there
    const name = yield* writeState(id, found, new CredentialState({ ...state, generation: state.generation + 1 }), lock)
    removal.counted = { state, file }
    yield* Effect.gen(function*() {
      yield* lock.check
      // first the older one, which would be read again
      if (located.name !== escapedName(id)) yield* credentials.remove(escapedName(id))
      yield* credentials.remove(located.name)
      yield* files.flush(folders.credentials)
    }).pipe(
      Effect.tapError(() => takeBackCount(name, id, state, lock))
    )
    removal.isRemoved = true
    yield* onRemoved(id)
    yield* states.write(name, id, stateOfDelete(state), lock.check)
  })

  return { putAll, drop, writeState } as const
}
