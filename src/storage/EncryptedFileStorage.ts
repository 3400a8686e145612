/**
 * Credentials in encrypted files, in the layout and format of Hive's Python agents, which can read and write the same
 * directory.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as PubSub from "effect/PubSub"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Credential, CredentialType } from "../Credential.ts"
import {
  CredentialDecryptionFailed,
  GenerationConflict,
  LockTimeout,
  StorageIoFailed,
  StorageRefused
} from "../CredentialError.ts"
import type { AdenConfigError, StorageFailure } from "../CredentialError.ts"
import { CredentialState, CredentialStorage } from "../CredentialStorage.ts"
import type { StorageChange } from "../CredentialStorage.ts"
import type { FernetKeys } from "../Fernet.ts"
import { stateOfDelete, stateOfSave, stateWithoutSave } from "../internal/countedState.ts"
import { makeCredentialFiles } from "../internal/credentialFiles.ts"
import type { Located } from "../internal/credentialFiles.ts"
import { checkCredentialId } from "../internal/credentialId.ts"
import { CurrentTenant, tenantDirectory } from "../internal/currentTenant.ts"
import { makeDirectoryLocks } from "../internal/directoryLocks.ts"
import { configuredKeys, defaultDirectory, parseKeys } from "../internal/encryptionKeys.ts"
import { chooseName, escapedName, foldName, plainName } from "../internal/entryName.ts"
import type { HeldLock } from "../internal/fileLocks.ts"
import { makeIndexFile } from "../internal/indexFile.ts"
import { makeKeyedLock } from "../internal/keyedLock.ts"
import { makePrivateFiles } from "../internal/privateFiles.ts"
import type { Replacement } from "../internal/privateFiles.ts"
import { makeStateFiles } from "../internal/stateFiles.ts"
import type { LocatedState } from "../internal/stateFiles.ts"
import { inOperation } from "../internal/storageFault.ts"
import type { StorageFault } from "../internal/storageFault.ts"
import { encodeCredential } from "../internal/storedCredential.ts"

/**
 * A {@link CredentialStorage} in `{directory}/credentials/{name}.enc`, each file a Fernet token over the JSON of one credential,
 * with Hive's index beside it and what is remembered about each credential in `{directory}/state/{name}.json`.
 *
 * Writes are atomic and private: a crash at any moment leaves the old or the new file. Fields that this package does not know
 * are kept. Nothing is made before the first write.
 *
 * `withLock` excludes all who use the directory: the fibers of this process, other processes, other hosts. A holder renews its
 * lock every 5 s; one that ended is replaced at once where it was on this host, and after 15 s elsewhere. Whoever waits longer
 * than 20 s fails with `LockTimeout`. Where the lock cannot be made, as in a read-only directory, it excludes this process
 * alone. Writers of several processes lose nothing of one another. `changes` are the writes made through this layer.
 *
 * @since 0.1.0
 * @category storages
 */
export class EncryptedFileStorage {
  /**
   * A storage in `directory` (`~/.hive/credentials` by default) under these keys: the first encrypts, all decrypt. Fails with
   * `AdenConfigError` when one of them is no Fernet key.
   *
   * @example
   * ```ts
   * import { EncryptedFileStorage } from "aden-credentials"
   * import { Redacted } from "effect"
   *
   * const Storage = EncryptedFileStorage.layer({
   *   directory: "/var/lib/agent/credentials",
   *   keys: [Redacted.make("DgjuzYmueGYYApfMoXVo3dAUmpPumgcBl0Hb-Q_uIus=")]
   * })
   * ```
   */
  static readonly layer = <E = never, R = never>(options: {
    readonly directory?: string | undefined
    readonly keys:
      | ReadonlyArray<Redacted.Redacted<string>>
      | Effect.Effect<ReadonlyArray<Redacted.Redacted<string>>, E, R>
  }): Layer.Layer<CredentialStorage, AdenConfigError | E, FileSystem.FileSystem | Path.Path | R> => {
    const keys = Effect.isEffect(options.keys) ? options.keys : Effect.succeed(options.keys)
    return Layer.effect(
      CredentialStorage,
      make(options.directory, Effect.flatMap(keys, (texts) => parseKeys(texts, "keys")))
    )
  }

  /**
   * A storage in `~/.hive/credentials` under the keys of the environment: `HIVE_CREDENTIAL_KEY` (one key, or several separated
   * by commas), else the file `~/.hive/secrets/credential_key`. Fails with `AdenConfigError` when there is none, or the file
   * is open to others; no key is ever made here.
   */
  static readonly layerConfig: Layer.Layer<
    CredentialStorage,
    AdenConfigError,
    FileSystem.FileSystem | Path.Path
  > = Layer.suspend(() => EncryptedFileStorage.layerConfigWith({}))

  /** Like `layerConfig`, in another directory. */
  static readonly layerConfigWith = (options: {
    readonly directory?: string | undefined
  }): Layer.Layer<CredentialStorage, AdenConfigError, FileSystem.FileSystem | Path.Path> =>
    Layer.effect(CredentialStorage, make(options.directory, configuredKeys))
}

// internal

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

/** Whether a state can be the count that a write left, rather than that of another who was faster. */
const isCountOf = (state: CredentialState, counted: Counted | undefined): counted is Counted =>
  counted !== undefined && state.generation === counted.state.generation + 1

/** A credential that is to be saved, and how far that came before its lock was lost, when it begins anew. */
interface Saving {
  readonly credential: Credential
  readonly options: SaveOptions
  counted: Counted | undefined
  isSaved: boolean
}

const toSave = (credential: Credential, options: SaveOptions): Saving => ({
  credential,
  options,
  counted: undefined,
  isSaved: false
})

/** How far a delete came before its lock was lost, when it begins anew. */
interface Removal {
  counted: Counted | undefined
  isRemoved: boolean
}

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

/** Why one of several credentials is not saved. */
type SaveFailure = CredentialDecryptionFailed | GenerationConflict | StorageFault

/** So many are put in place at once: they share the flushing of the folders, and whoever else writes waits for them. */
const batchSize = 64

/** From so many on they are many. */
const many = 8

const fileConcurrency = 8

/** A renewal takes as long as a request: its lock is looked for again at the latest after this. */
const renewalPauseMillis = 250

const absent: Located = { _tag: "Absent", plainIsTaken: false }
const noState: LocatedState = { name: undefined, state: CredentialState.initial, plainIsTaken: false }

const make = Effect.fnUntraced(function*<E, R>(
  chosenDirectory: string | undefined,
  chosenKeys: Effect.Effect<FernetKeys, E, R>
) {
  const path = yield* Path.Path
  const tenantId = yield* CurrentTenant
  const common = path.resolve(chosenDirectory ?? (yield* defaultDirectory))
  const directory = tenantDirectory(path, common, tenantId)
  const keys = yield* chosenKeys
  const files = yield* makePrivateFiles
  const folders = {
    credentials: path.join(directory, "credentials"),
    metadata: path.join(directory, "metadata"),
    state: path.join(directory, "state")
  }
  const { inTurn, lock } = yield* makeDirectoryLocks(files, directory)
  const credentials = makeCredentialFiles(files, folders.credentials, keys, tenantId)
  const states = makeStateFiles(files, folders.state)
  const index = makeIndexFile(files, path.join(folders.metadata, "index.json"), credentials)
  const changes = yield* Effect.acquireRelease(PubSub.unbounded<StorageChange>(), PubSub.shutdown)
  const publish = (change: StorageChange) => PubSub.publish(changes, change)

  /** Whether the program was told that the directory cannot be written: by a write that failed, or by a warning. */
  let isTold = false
  const telling = <A, E, R>(write: Effect.Effect<A, E, R>) =>
    Effect.tapError(write, (error) =>
      Effect.sync(() => {
        if (error instanceof StorageIoFailed) isTold = true
      }))

  /** The lock of a credential. Where it cannot be made the fibers of this process exclude one another nonetheless. */
  const renewalLock = (id: string) =>
    lock(escapedName(id), renewalPauseMillis).pipe(
      Effect.tap(() => Effect.sync(() => isTold = false)),
      Effect.catchTag("StorageIoFailed", (error) =>
        Effect.addFinalizer(() =>
          Effect.suspend(() => {
            if (isTold) return Effect.void
            isTold = true
            return Effect.logWarning("Other processes are not locked out: the lock of a credential cannot be made")
              .pipe(
                Effect.annotateLogs({ reason: error.message })
              )
          })
        ))
    )

  const writing = makeKeyedLock()

  /**
   * Ids that could come to share a file are written one after another: taken in order, no two writers wait for each other. Work
   * that has begun is finished.
   */
  const writingEntries = (ids: ReadonlyArray<string>) => <A, E2>(effect: Effect.Effect<A, E2>): Effect.Effect<A, E2> =>
    Effect.forEach(
      Array.from(new Set(ids.map((id) => foldName(plainName(id))))).toSorted(),
      (name) => writing.held(`entry\0${name}`),
      { discard: true }
    ).pipe(Effect.andThen(Effect.uninterruptible(effect)), Effect.scoped)

  // not interruptible: the interruption of one caller would be remembered for all
  const removeAbandoned = yield* Effect.cached(Effect.uninterruptible(
    Effect.forEach(Object.values(folders), (folder) => files.removeAbandoned(folder), { discard: true })
  ))

  const ensureFolders = Effect.gen(function*() {
    for (const folder of new Set([common, directory, ...Object.values(folders)])) yield* files.ensureFolder(folder)
    yield* removeAbandoned
  })

  /** Whether these folders, each in the one before, are there. A tenant's could be exchanged in a common one that others can write. */
  const areThere = Effect.fnUntraced(function*(...inside: ReadonlyArray<string>) {
    for (const folder of new Set([common, directory, ...inside])) {
      if (!(yield* files.checkFolder(folder))) return false
    }
    return true
  })

  const locate = Effect.fnUntraced(function*(id: string) {
    yield* checkCredentialId(id)
    return (yield* areThere(folders.credentials)) ? yield* credentials.locate(id) : absent
  })

  const cannotOpen = (id: string, located: { readonly name: string; readonly detail: string }) =>
    new CredentialDecryptionFailed({ id, location: credentials.fileOf(located.name), detail: located.detail })

  // the index -----------------------------------------------------------------------------------------------------------

  const indexed = new Map<string, CredentialType | undefined>()

  /** Enters what was written since. Many writers at once wait for one update. */
  const updateIndex = ({ check }: HeldLock) =>
    Effect.suspend(() => {
      if (indexed.size === 0) return Effect.void
      const batch = new Map(indexed)
      const saved = new Map<string, CredentialType>()
      for (const [id, type] of batch) {
        if (type !== undefined) saved.set(id, type)
      }
      indexed.clear()
      return index.update(saved, check).pipe(
        Effect.onError(() =>
          Effect.sync(() => {
            for (const [id, type] of batch) {
              if (!indexed.has(id)) indexed.set(id, type)
            }
          })
        )
      )
    }).pipe(Effect.uninterruptible, writing("index"))

  // writing -------------------------------------------------------------------------------------------------------------

  /** The names that are in use, read when the first new name is needed. */
  const namesInUse = Effect.gen(function*() {
    const folded = Effect.map((names: ReadonlyArray<string>) => new Set(names.map(foldName)))
    return {
      credentials: yield* Effect.cached(folded(credentials.names)),
      states: yield* Effect.cached(folded(states.names))
    }
  })

  type NamesInUse = Effect.Success<typeof namesInUse>

  /** Whether the id has no file among these names, on any file system. */
  const isNew = (id: string, names: ReadonlySet<string>) =>
    !names.has(foldName(plainName(id))) && !names.has(escapedName(id))

  const nameOfState = Effect.fnUntraced(function*(id: string, located: LocatedState, inUse: NamesInUse) {
    return located.name ?? chooseName(id, located.plainIsTaken, yield* inUse.states, files.windows)
  })

  const prepare = Effect.fnUntraced(function*(
    saving: Saving,
    inUse: NamesInUse,
    isOneOfMany: boolean
  ): Effect.fn.Return<Prepared, SaveFailure, Scope.Scope> {
    const { counted, credential, options } = saving
    const { id } = credential
    const located = yield* credentials.locate(id)
    if (located._tag === "Unreadable") return yield* cannotOpen(id, located)
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
    const document = encodeCredential(credential, yield* DateTime.now, stored, tenantId)
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

  /** A count of what was not saved would make later saves pass for outdated. */
  const takeBackCount = ({ before, saving, stateName }: Prepared, { check }: HeldLock) =>
    Effect.ignore(states.write(stateName, saving.credential.id, before, check))

  const replace = (one: Prepared, lock: HeldLock) => {
    const { newCredential, older, saving } = one
    const { id, type } = saving.credential
    return newCredential.takePlace.pipe(
      Effect.tapError(() => takeBackCount(one, lock)),
      Effect.andThen(older === undefined ? Effect.void : credentials.remove(older)),
      Effect.andThen(Effect.sync(() => {
        saving.isSaved = true
        indexed.set(id, type)
      }))
    )
  }

  /** Puts credentials in place together. Answers why some could not be, which keeps none of the others. */
  const putAll = Effect.fnUntraced(
    function*(batch: ReadonlyArray<Saving>, lock: HeldLock) {
      const inUse = yield* namesInUse
      const failures = new Map<string, SaveFailure>()
      /** What succeeds, of each. */
      const each = <A extends { readonly saving: Saving }, B, R>(
        items: ReadonlyArray<A>,
        step: (item: A) => Effect.Effect<B, SaveFailure, R>
      ) =>
        Effect.map(
          Effect.forEach(
            items,
            (item) =>
              step(item).pipe(
                Effect.asSome,
                Effect.catch((failure) =>
                  Effect.sync(() => {
                    failures.set(item.saving.credential.id, failure)
                    return Option.none()
                  })
                )
              ),
            { concurrency: fileConcurrency }
          ),
          Arr.getSomes
        )
      const left = batch.flatMap((saving) => saving.isSaved ? [] : [{ saving }])
      const prepared = yield* each(left, ({ saving }) => prepare(saving, inUse, batch.length >= many))
      if (prepared.length === 0) return failures
      // first the counts: nobody can see a new credential under the old one
      yield* lock.check
      const counted = yield* each(prepared, (one) =>
        Effect.map(one.newState.takePlace, () => {
          one.saving.counted = { state: one.before, file: one.file }
          return one
        }))
      yield* files.flush(folders.state)
      yield* Effect.tapError(lock.check, () => Effect.forEach(counted, (one) => takeBackCount(one, lock)))
      yield* each(counted, (one) => replace(one, lock))
      yield* files.flush(folders.credentials)
      for (const { saving } of counted) {
        if (saving.isSaved) yield* publish({ _tag: "Saved", id: saving.credential.id })
      }
      return failures
    },
    Effect.scoped
  )

  /** Removes an entry and forgets its state, and notes in `removal` whether there was one. */
  const drop = Effect.fnUntraced(function*(
    id: string,
    expected: number | undefined,
    removal: Removal,
    { check }: HeldLock
  ) {
    const located = yield* locate(id)
    const isOwn = located._tag === "Found" ||
      (located._tag === "Unreadable" && (yield* index.ids).includes(id))
    if (isOwn) yield* files.ensureFolder(folders.state)
    const found = (yield* areThere(folders.state)) ? yield* states.locate(id) : noState
    if (removal.isRemoved) {
      if (!isOwn && found.name !== undefined && isCountOf(found.state, removal.counted)) {
        yield* states.write(found.name, id, stateOfDelete(removal.counted.state), check)
      }
      return
    }
    const file = isOwn ? yield* credentials.fingerprint(located.name) : Option.none()
    const { counted } = removal
    const isOwnCount = isCountOf(found.state, counted) && Equal.equals(file, counted.file)
    const state = isOwnCount ? counted.state : found.state
    if (expected !== undefined && expected !== state.generation) return
    if (!isOwn) {
      if (found.name === undefined) return
      return yield* state.generation === 0
        ? states.remove(found.name)
        : states.write(found.name, id, stateOfDelete(state), check)
    }
    // first the count: nobody who knew the entry can save over its deletion; the rest is known for as long as the entry is there
    const name = yield* nameOfState(id, found, yield* namesInUse)
    yield* states.write(name, id, new CredentialState({ ...state, generation: state.generation + 1 }), check)
    removal.counted = { state, file }
    yield* Effect.gen(function*() {
      yield* check
      // first the older one, which would be read again
      if (located.name !== escapedName(id)) yield* credentials.remove(escapedName(id))
      yield* credentials.remove(located.name)
      yield* files.flush(folders.credentials)
    }).pipe(
      Effect.tapError(() => Effect.ignore(states.write(name, id, state, check)))
    )
    removal.isRemoved = true
    yield* publish({ _tag: "Deleted", id })
    yield* states.write(name, id, stateOfDelete(state), check)
  })

  // the storage ---------------------------------------------------------------------------------------------------------

  return CredentialStorage.of({
    load: Effect.fn("EncryptedFileStorage.load")(
      function*(id) {
        const located = yield* locate(id)
        switch (located._tag) {
          case "Absent":
            return Option.none()
          case "Found":
            return Option.some(located.stored.credential)
          case "Unreadable":
            return yield* cannotOpen(id, located)
        }
      },
      (effect, id) => inOperation("load", id)(effect)
    ),
    save: Effect.fn("EncryptedFileStorage.save")(
      function*(credential, options) {
        const { id } = credential
        yield* checkCredentialId(id)
        yield* ensureFolders
        const saving = toSave(credential, options ?? {})
        yield* inTurn((lock) =>
          writingEntries([id])(Effect.gen(function*() {
            const failure = (yield* putAll([saving], lock)).get(id)
            if (failure !== undefined) return yield* Effect.fail(failure)
            yield* updateIndex(lock)
          }))
        )
      },
      (effect, { id }) => inOperation("save", id)(telling(effect))
    ),
    saveMany: Effect.fn("EncryptedFileStorage.saveMany")(
      function*(many, options) {
        const failures = new Map<string, StorageFailure | GenerationConflict>()
        if (many.length === 0) return failures
        yield* ensureFolders
        const fail = (id: string, failure: SaveFailure) =>
          Effect.fail(failure).pipe(
            telling,
            inOperation("save", id),
            Effect.catch((failure) => Effect.sync(() => failures.set(id, failure)))
          )
        const latest = new Map(many.map((credential) => [credential.id, credential]))
        const savings: Array<Saving> = []
        for (const [id, credential] of latest) {
          const expectedGeneration = options?.expectedGenerations?.get(id)
          yield* Effect.matchEffect(checkCredentialId(id), {
            onFailure: (failure) => fail(id, failure),
            onSuccess: () =>
              Effect.sync(() => savings.push(toSave(credential, { expectedGeneration, state: options?.state })))
          })
        }
        // who waited in vain has waited for all
        let timeout: LockTimeout | undefined
        yield* Effect.forEach(Arr.chunksOf(savings, batchSize), (batch) => {
          const ids = batch.map(({ credential }) => credential.id)
          const put = timeout !== undefined
            ? Effect.fail(timeout)
            : inTurn((lock) => writingEntries(ids)(putAll(batch, lock)))
          return Effect.matchEffect(put, {
            onSuccess: Effect.forEach(([id, failure]) => fail(id, failure), { discard: true }),
            onFailure: (failure) => {
              if (failure instanceof LockTimeout) timeout = failure
              return Effect.forEach(
                batch,
                ({ credential, isSaved }) => isSaved ? Effect.void : fail(credential.id, failure),
                { discard: true }
              )
            }
          })
        }, { discard: true }).pipe(Effect.onInterrupt(() => Effect.ignore(inTurn(updateIndex))))
        if (indexed.size > 0) yield* inTurn(updateIndex)
        return failures
      },
      (effect) => inOperation("saveMany")(telling(effect))
    ),
    delete: Effect.fn("EncryptedFileStorage.delete")(
      function*(id, options) {
        yield* checkCredentialId(id)
        if (!(yield* areThere())) return false
        const removal: Removal = { counted: undefined, isRemoved: false }
        return yield* inTurn((lock) =>
          writingEntries([id])(Effect.gen(function*() {
            yield* drop(id, options?.expectedGeneration, removal, lock)
            const { isRemoved } = removal
            // one that was removed before the index could be written is in it still
            if (!isRemoved && !(yield* index.has(id))) return false
            indexed.set(id, undefined)
            yield* files.ensureFolder(folders.metadata)
            yield* updateIndex(lock)
            return isRemoved
          }))
        )
      },
      (effect, id) => inOperation("delete", id)(telling(effect))
    ),
    list: Effect.gen(function*() {
      return (yield* areThere(folders.credentials)) ? yield* index.ids : []
    }).pipe(inOperation("list"), Effect.withSpan("EncryptedFileStorage.list")),
    exists: Effect.fn("EncryptedFileStorage.exists")(
      function*(id) {
        return (yield* locate(id))._tag !== "Absent"
      },
      (effect, id) => inOperation("exists", id)(effect)
    ),
    loadState: Effect.fn("EncryptedFileStorage.loadState")(
      function*(id) {
        yield* checkCredentialId(id)
        return (yield* areThere(folders.state)) ? (yield* states.locate(id)).state : CredentialState.initial
      },
      (effect, id) => inOperation("loadState", id)(effect)
    ),
    saveState: Effect.fn("EncryptedFileStorage.saveState")(
      function*(id, state) {
        yield* checkCredentialId(id)
        yield* ensureFolders
        yield* inTurn((lock) =>
          writingEntries([id])(Effect.gen(function*() {
            const before = yield* states.locate(id)
            const name = yield* nameOfState(id, before, yield* namesInUse)
            yield* states.write(name, id, stateWithoutSave(state, before.state), lock.check)
          }))
        )
      },
      (effect, id) => inOperation("saveState", id)(telling(effect))
    ),
    changes: Stream.fromPubSub(changes),
    withLock: (id, effect) =>
      Effect.acquireUseRelease(
        Scope.make(),
        (scope) =>
          checkCredentialId(id).pipe(
            Effect.andThen(renewalLock(id)),
            inOperation("withLock", id),
            Scope.provide(scope),
            Effect.andThen(effect)
          ),
        Scope.close
      )
  })
})
