/**
 * Credentials in encrypted files, in the layout and format of Hive's Python agents, which can use the same directory.
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
import type { AdenConfigError } from "../../errors/ConfigError.ts"
import { LockTimeout, StorageIoFailed } from "../../errors/StorageError.ts"
import type { GenerationConflict, StorageFailure } from "../../errors/StorageError.ts"
import { CredentialState, isExpected, stateAfterUpdate } from "../../model/CredentialState.ts"
import { CurrentTenant } from "../../model/currentTenant.ts"
import { makeKeyedLock } from "../../util/KeyedLock.ts"
import { logWarning } from "../../util/logging.ts"
import { CredentialStorage } from "../CredentialStorage.ts"
import type { StorageChange } from "../CredentialStorage.ts"
import { indexEntryOf } from "../format/HiveIndex.ts"
import { canBeRead, escapedName, foldName, plainName } from "../format/names.ts"
import { asStorageError, checkCredentialId } from "../operation.ts"
import type { StorageFault } from "../operation.ts"
import { makeCredentialFiles } from "./CredentialFiles.ts"
import type { Located } from "./CredentialFiles.ts"
import { makeDirectoryLocks } from "./DirectoryLock.ts"
import type { HeldLock } from "./FileLock.ts"
import { makeIndexFile } from "./IndexFile.ts"
import { makeIndexWriter } from "./IndexWriter.ts"
import { makePrivateFiles } from "./PrivateFiles.ts"
import { makeStateFiles, noState, underOneGeneration } from "./StateFiles.ts"
import { tenantDirectory } from "./tenantFolders.ts"
import { makeEntryTransactions, pendingRemoval, pendingSave } from "./transaction.ts"
import type { FoundEntry, PendingSave, SaveFailure } from "./transaction.ts"

/**
 * A {@link CredentialStorage} in encrypted files, `{directory}/credentials/{name}.enc`: a Fernet token over the JSON of one
 * credential each. Beside them are Hive's index, and the state of each credential in `{directory}/state/{name}.json`.
 *
 * Writes are atomic and private: a crash at any moment leaves the old or the new file. Unknown fields are kept. No file or folder is
 * created before the first write. Hive's index follows within about a second, and when the layer is closed.
 *
 * `withLock` is a lease that excludes all users of the directory: other fibers, processes and hosts. A holder renews it every 5 s;
 * after a holder has ended, its lock is taken over at once on the same host, and after 15 s from others. Waiting ends after 20 s
 * with `LockTimeout`. Where the lock cannot be created, as in a read-only directory, it excludes only this process. Concurrent
 * writers in several processes lose no updates. `changes` are the writes made through this layer.
 *
 * @since 0.1.0
 * @category storages
 */
export class EncryptedFileStorage {
  /**
   * A storage in `directory` (`~/.hive/credentials` by default, or below `HIVE_HOME` when that is set) with these keys: the first
   * encrypts, all decrypt. Fails with `AdenConfigError` when one of them is not a Fernet key.
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
    return Layer.effect(CredentialStorage, makeFileStorage({ directory: options.directory, keys }))
  }

  /**
   * A storage in `~/.hive/credentials` with the encryption keys of the environment: `HIVE_CREDENTIAL_KEY` (one key, or several
   * separated by commas), else the file `~/.hive/secrets/credential_key`. Directory and file are below `HIVE_HOME` when that is set.
   * Fails with `AdenConfigError` when there is no key, or others can access the file; never generates a key. The first write of a
   * process warns when the key is only in the environment: a Hive server that starts without it deletes all credentials.
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
    Layer.effect(CredentialStorage, makeConfiguredFileStorage(options))
}

// internal

/**
 * The service of `EncryptedFileStorage.layer`, without a layer.
 *
 * @internal
 */
export const makeFileStorage = <E, R>(options: {
  readonly directory: string | undefined
  readonly keys: Effect.Effect<ReadonlyArray<Redacted.Redacted<string>>, E, R>
}) =>
  make(
    options.directory,
    Effect.flatMap(options.keys, (texts) => parseKeys(texts, "keys")),
    () => Effect.succeed(Effect.void)
  )

/**
 * The service of `EncryptedFileStorage.layerConfigWith`, without a layer.
 *
 * @internal
 */
export const makeConfiguredFileStorage = (options: { readonly directory?: string | undefined }) =>
  make(options.directory, configuredKeys, makeKeyFileWarning)

/** How many credentials are saved under one lock: they share the flushes, but other writers wait for them. */
const batchSize = 64

/** How often the lock of a credential is retried, at least: a refresh takes as long as a request. */
const refreshRetryMillis = 250

const absent: Located = { _tag: "Absent", plainIsTaken: false }

const make = Effect.fnUntraced(function*<E, R>(
  chosenDirectory: string | undefined,
  chosenKeys: Effect.Effect<FernetKeys, E, R>,
  /** Answers the effect that is run before the first write. */
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
  const { lock, processes, withWriteLock } = yield* makeDirectoryLocks(files, directory)
  const credentials = makeCredentialFiles(files, folders.credentials, keys, tenantId)
  const states = makeStateFiles(files, folders.state)
  const index = makeIndexFile(files, directory, credentials)
  const changes = yield* Effect.acquireRelease(PubSub.unbounded<StorageChange>(), PubSub.shutdown)
  const publish = (change: StorageChange) => PubSub.publish(changes, change)

  /** Whether the program knows that the directory is not writable, by a failed write or by a warning. */
  let isReported = false
  const recordFailure = <A, E, R>(write: Effect.Effect<A, E, R>) =>
    Effect.tapError(write, (error) =>
      Effect.sync(() => {
        if (error instanceof StorageIoFailed) isReported = true
      }))

  /** The lock of a credential. When it cannot be created, it still excludes the fibers of this process, with a warning. */
  const credentialLock = (id: string) =>
    files.orGiveUp(lock(escapedName(id), refreshRetryMillis)).pipe(
      Effect.tap(() => Effect.sync(() => isReported = false)),
      Effect.catchTag("StorageIoFailed", (error) =>
        Effect.addFinalizer(() =>
          Effect.suspend(() => {
            if (isReported) return Effect.void
            isReported = true
            return logWarning("Other processes are not locked out: cannot create the lock of a credential")
              .pipe(
                Effect.annotateLogs({ reason: error.message })
              )
          })
        ))
    )

  const writing = makeKeyedLock()

  /** Ids that could share a file share a lock. */
  const lockNameOf = (id: string): string => `entry\0${foldName(plainName(id))}`

  /** Excludes, within this process, the writes of ids that could share a file with this one. */
  const readingEntry = (id: string) => writing(lockNameOf(id))

  /**
   * Excludes the reads and writes of ids that could share a file. The locks are acquired in sorted order, so that writers cannot
   * deadlock. A write that has begun is not interrupted.
   */
  const writingEntries = (ids: ReadonlyArray<string>) => <A, E2>(effect: Effect.Effect<A, E2>): Effect.Effect<A, E2> =>
    Effect.forEach(Array.from(new Set(ids.map(lockNameOf))).toSorted(), writing.held, { discard: true }).pipe(
      Effect.andThen(Effect.uninterruptible(effect)),
      Effect.scoped
    )

  const ensureFolders = Effect.gen(function*() {
    for (const folder of new Set([common, directory, ...Object.values(folders)])) yield* files.ensureFolder(folder)
    yield* warning
  })

  /** Whether these folders exist. Checks the outer ones first: if others could write the common folder, they could replace a tenant's. */
  const foldersExist = (...inside: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      for (const folder of new Set([common, directory, ...inside])) {
        if (!(yield* files.checkFolderForReading(folder))) return false
      }
      return true
    })

  const locate = (id: string) =>
    Effect.gen(function*() {
      yield* checkCredentialId(id)
      return (yield* foldersExist(folders.credentials)) ? yield* credentials.locate(id) : absent
    })

  const load = (id: string) =>
    Effect.gen(function*() {
      const located = yield* locate(id)
      switch (located._tag) {
        case "Absent":
          return Option.none()
        case "Found":
          return Option.some(located.stored.credential)
        case "Unreadable":
          return yield* credentials.cannotOpen(id, located)
      }
    })

  const loadState = (id: string) =>
    Effect.gen(function*() {
      yield* checkCredentialId(id)
      // most ids have no state, which needs no check of the folders; a state file only counts in folders that others cannot write
      const { name, state } = yield* Effect.tapError(states.locate(id), () => foldersExist(folders.state))
      return name === undefined || (yield* foldersExist(folders.state)) ? state : CredentialState.initial
    })

  /**
   * Credential and state from the two files that nearly all ids have, read at once. None when these are not both theirs: then all
   * files that may be theirs have to be looked at.
   */
  const readPlain = (id: string) =>
    Effect.gen(function*() {
      const name = plainName(id)
      if (!canBeRead(name) || !(yield* foldersExist(folders.credentials, folders.state))) return Option.none()
      const read = yield* files.readTogether(states.readable(name), credentials.readable(name))
      if (Option.isNone(read)) return Option.none()
      const [stateBytes, bytes] = read.value
      return Option.all({ credential: yield* credentials.openOwn(id, bytes), state: states.openOwn(id, stateBytes) })
    }).pipe(Effect.orElseSucceed(() => Option.none()))

  const readBoth = (id: string) =>
    Effect.gen(function*() {
      yield* checkCredentialId(id)
      const plain = yield* readPlain(id)
      if (Option.isSome(plain)) return { credential: Option.some(plain.value.credential), state: plain.value.state }
      const { content, state } = yield* underOneGeneration(loadState(id), load(id))
      return { credential: content, state }
    })

  // the index -----------------------------------------------------------------------------------------------------------

  const indexWriter = yield* makeIndexWriter({
    files,
    index,
    processes,
    withWriteLock,
    isUsable: foldersExist(folders.credentials),
    tidy: Effect.forEach(Object.values(folders), (folder) => files.removeAbandoned(folder), { discard: true })
  })

  /** Runs a write of entries under the write lock of the directory. */
  const writeUnderLock = <A, E>(write: (lock: HeldLock) => Effect.Effect<A, E>) =>
    indexWriter.during(withWriteLock(write))

  // writing -------------------------------------------------------------------------------------------------------------

  const { putAll, remove, writeState } = makeEntryTransactions({
    files,
    folders,
    credentials,
    states,
    tenantId,
    onSaved: (credential, generation, document) =>
      Effect.andThen(
        indexWriter.changed(credential.id, indexEntryOf(credential, document)),
        publish({ _tag: "Saved", id: credential.id, generation })
      ),
    onRemoved: (id, generation) =>
      Effect.andThen(indexWriter.changed(id, undefined), publish({ _tag: "Deleted", id, generation }))
  })

  /** Finds the entry to be removed. A file that cannot be decrypted is the entry's if the index lists the id. */
  const findEntry = (id: string): Effect.Effect<FoundEntry, StorageFault> =>
    Effect.gen(function*() {
      const located = yield* locate(id)
      const isOwn = located._tag === "Found" ||
        (located._tag === "Unreadable" && (yield* indexWriter.ids).includes(id))
      if (isOwn) yield* files.ensureFolder(folders.state)
      return { located, isOwn, state: (yield* foldersExist(folders.state)) ? yield* states.locate(id) : noState }
    })

  // the storage ---------------------------------------------------------------------------------------------------------

  // a span and an error per operation; not by `Effect.fn`, which takes a kilobyte for each member of each storage
  const operation = <A, E>(name: string, effect: Effect.Effect<A, E>, id?: string) =>
    Effect.withSpan(asStorageError(name, id)(files.orGiveUp(effect)), `EncryptedFileStorage.${name}`)
  const writeOperation = <A, E>(name: string, effect: Effect.Effect<A, E>, id?: string) =>
    Effect.withSpan(asStorageError(name, id)(recordFailure(files.orGiveUp(effect))), `EncryptedFileStorage.${name}`)

  return CredentialStorage.of({
    read: (id) => operation("read", readingEntry(id)(readBoth(id)), id),
    load: (id) => operation("load", load(id), id),
    save: (credential, options) =>
      writeOperation(
        "save",
        Effect.gen(function*() {
          const { id } = credential
          yield* checkCredentialId(id)
          yield* ensureFolders
          const saving = pendingSave(credential, options ?? {})
          return yield* writeUnderLock((lock) =>
            writingEntries([id])(Effect.gen(function*() {
              const failure = (yield* putAll([saving], lock)).get(id)
              if (failure !== undefined) return yield* Effect.fail(failure)
              return yield* Effect.orDie(Effect.fromNullishOr(saving.savedAs))
            }))
          )
        }),
        credential.id
      ),
    saveMany: (many, options) =>
      writeOperation(
        "saveMany",
        Effect.gen(function*() {
          const failures = new Map<string, StorageFailure | GenerationConflict>()
          if (many.length === 0) return failures
          yield* ensureFolders
          const fail = (id: string, failure: SaveFailure) =>
            Effect.fail(failure).pipe(
              recordFailure,
              asStorageError("save", id),
              Effect.catch((failure) => Effect.sync(() => failures.set(id, failure)))
            )
          const latest = new Map(many.map((credential) => [credential.id, credential]))
          const savings: Array<PendingSave> = []
          for (const [id, credential] of latest) {
            const expectedGeneration = options?.expectedGenerations?.get(id)
            yield* Effect.matchEffect(checkCredentialId(id), {
              onFailure: (failure) => fail(id, failure),
              onSuccess: () =>
                Effect.sync(() => savings.push(pendingSave(credential, { expectedGeneration, state: options?.state })))
            })
          }
          // after one lock timeout, the other batches fail without waiting again
          let timeout: LockTimeout | undefined
          yield* Effect.forEach(Arr.chunksOf(savings, batchSize), (batch) => {
            const ids = batch.map(({ credential }) => credential.id)
            const put = timeout !== undefined
              ? Effect.fail(timeout)
              : writeUnderLock((lock) => writingEntries(ids)(putAll(batch, lock)))
            return Effect.matchEffect(put, {
              onSuccess: Effect.forEach(([id, failure]) => fail(id, failure), { discard: true }),
              onFailure: (failure) => {
                if (failure instanceof LockTimeout) timeout = failure
                return Effect.forEach(
                  batch,
                  ({ credential, savedAs }) => savedAs === undefined ? fail(credential.id, failure) : Effect.void,
                  { discard: true }
                )
              }
            })
          }, { discard: true })
          return failures
        })
      ),
    delete: (id, options) =>
      writeOperation(
        "delete",
        Effect.gen(function*() {
          yield* checkCredentialId(id)
          if (!(yield* foldersExist())) return false
          const removal = pendingRemoval()
          yield* writeUnderLock((lock) =>
            writingEntries([id])(Effect.gen(function*() {
              yield* remove(id, yield* findEntry(id), options?.expectedGeneration, removal, lock)
            }))
          )
          return removal.isRemoved
        }),
        id
      ),
    list: Effect.suspend(() =>
      operation(
        "list",
        Effect.flatMap(
          foldersExist(folders.credentials),
          (exist) => exist ? indexWriter.ids : Effect.succeed([])
        )
      )
    ),
    exists: (id) => operation("exists", Effect.map(locate(id), ({ _tag }) => _tag !== "Absent"), id),
    loadState: (id) => operation("loadState", loadState(id), id),
    saveState: (id, state, options) =>
      writeOperation(
        "saveState",
        Effect.gen(function*() {
          yield* checkCredentialId(id)
          yield* ensureFolders
          return yield* withWriteLock((lock) =>
            writingEntries([id])(Effect.gen(function*() {
              const before = yield* states.locate(id)
              if (!isExpected(before.state, options)) return false
              yield* writeState(id, before, stateAfterUpdate(state, before.state), lock)
              return true
            }))
          )
        }),
        id
      ),
    changes: Stream.fromPubSub(changes),
    withLock: (id, effect) =>
      Effect.acquireUseRelease(
        Scope.make(),
        (scope) =>
          checkCredentialId(id).pipe(
            Effect.andThen(credentialLock(id)),
            asStorageError("withLock", id),
            Scope.provide(scope),
            Effect.andThen(effect)
          ),
        Scope.close
      )
  })
})
