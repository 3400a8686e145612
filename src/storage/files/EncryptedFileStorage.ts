/**
 * Credentials in encrypted files, in the layout and format of Hive's Python agents, which can read and write the same
 * directory.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as PubSub from "effect/PubSub"
import type * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { makeKeyFileWarning } from "../../encryption/keyFile.ts"
import { configuredKeys, defaultDirectory, parseKeys } from "../../encryption/keys.ts"
import { LockTimeout, StorageIoFailed } from "../../errors/CredentialError.ts"
import type { AdenConfigError, GenerationConflict, StorageFailure } from "../../errors/CredentialError.ts"
import type { CredentialType } from "../../model/Credential.ts"
import { CredentialState, stateWithoutSave } from "../../model/CredentialState.ts"
import { CurrentTenant } from "../../model/currentTenant.ts"
import { makeKeyedLock } from "../../util/KeyedLock.ts"
import { CredentialStorage } from "../CredentialStorage.ts"
import type { StorageChange } from "../CredentialStorage.ts"
import { escapedName, foldName, plainName } from "../format/names.ts"
import { checkCredentialId, inOperation } from "../operation.ts"
import type { StorageFault } from "../operation.ts"
import { makeCredentialFiles } from "./CredentialFiles.ts"
import type { Located } from "./CredentialFiles.ts"
import { makeDirectoryLocks } from "./DirectoryLock.ts"
import type { HeldLock } from "./FileLock.ts"
import { makeIndexFile } from "./IndexFile.ts"
import { makePrivateFiles } from "./PrivateFiles.ts"
import { makeStateFiles, noState } from "./StateFiles.ts"
import { tenantDirectory } from "./tenantFolders.ts"
import { makeEntryFiles, toRemove, toSave } from "./transaction.ts"
import type { Present, SaveFailure, Saving } from "./transaction.ts"

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
   * A storage in `directory` (`~/.hive/credentials` by default, below `HIVE_HOME` where that is set) under these keys: the first
   * encrypts, all decrypt. Fails with `AdenConfigError` when one of them is no Fernet key.
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
      make(
        options.directory,
        Effect.flatMap(keys, (texts) => parseKeys(texts, "keys")),
        () => Effect.succeed(Effect.void)
      )
    )
  }

  /**
   * A storage in `~/.hive/credentials` under the keys of the environment: `HIVE_CREDENTIAL_KEY` (one key, or several separated
   * by commas), else the file `~/.hive/secrets/credential_key`; both below `HIVE_HOME` where that is set. Fails with
   * `AdenConfigError` when there is no key, or the file is open to others; no key is ever made here. The first write of a process
   * warns where the key is only in the environment: a Hive server that starts without it deletes what is there.
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
    Layer.effect(CredentialStorage, make(options.directory, configuredKeys, makeKeyFileWarning))
}

// internal

/** So many are put in place at once: they share the flushing of the folders, and whoever else writes waits for them. */
const batchSize = 64

/** A renewal takes as long as a request: its lock is looked for again at the latest after this. */
const renewalPauseMillis = 250

const absent: Located = { _tag: "Absent", plainIsTaken: false }

const make = Effect.fnUntraced(function*<E, R>(
  chosenDirectory: string | undefined,
  chosenKeys: Effect.Effect<FernetKeys, E, R>,
  /** Makes what is run before the first write. */
  makeWarning: (directory: string) => Effect.Effect<Effect.Effect<void>, never, FileSystem.FileSystem | Path.Path>
) {
  const path = yield* Path.Path
  const tenantId = yield* CurrentTenant
  const common = path.resolve(chosenDirectory ?? (yield* defaultDirectory))
  const directory = tenantDirectory(path, common, tenantId)
  const keys = yield* chosenKeys
  const warning = yield* makeWarning(directory)
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
    yield* warning
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

  const enterSaved = Effect.suspend(() => indexed.size === 0 ? Effect.void : inTurn(updateIndex))

  // writing -------------------------------------------------------------------------------------------------------------

  const { drop, putAll, writeState } = makeEntryFiles({
    files,
    folders,
    credentials,
    states,
    tenantId,
    onSaved: ({ id, type }) => {
      indexed.set(id, type)
      return publish({ _tag: "Saved", id })
    },
    onRemoved: (id) => publish({ _tag: "Deleted", id })
  })

  /** An entry that is to be removed. One that cannot be opened is that of whom the index knows. */
  const lookAt = Effect.fnUntraced(function*(id: string): Effect.fn.Return<Present, StorageFault> {
    const located = yield* locate(id)
    const isOwn = located._tag === "Found" ||
      (located._tag === "Unreadable" && (yield* index.ids).includes(id))
    if (isOwn) yield* files.ensureFolder(folders.state)
    return { located, isOwn, state: (yield* areThere(folders.state)) ? yield* states.locate(id) : noState }
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
            return yield* credentials.cannotOpen(id, located)
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
        }, { discard: true }).pipe(
          Effect.andThen(enterSaved),
          // who is interrupted may have saved some, which Hive is to find
          Effect.onInterrupt(() => Effect.ignore(enterSaved))
        )
        return failures
      },
      (effect) => inOperation("saveMany")(telling(effect))
    ),
    delete: Effect.fn("EncryptedFileStorage.delete")(
      function*(id, options) {
        yield* checkCredentialId(id)
        if (!(yield* areThere())) return false
        const removal = toRemove()
        return yield* inTurn((lock) =>
          writingEntries([id])(Effect.gen(function*() {
            yield* drop(id, yield* lookAt(id), options?.expectedGeneration, removal, lock)
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
        // most ids have none, which needs no look at the folders; what a file says counts in folders that nobody else can write
        const { name, state } = yield* Effect.tapError(states.locate(id), () => areThere(folders.state))
        return name === undefined || (yield* areThere(folders.state)) ? state : CredentialState.initial
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
            yield* writeState(id, before, stateWithoutSave(state, before.state), lock)
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
