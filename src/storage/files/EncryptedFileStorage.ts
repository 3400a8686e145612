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
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { makeKeyFileWarning } from "../../encryption/keyFile.ts"
import { configuredKeys, defaultDirectory, parseKeys } from "../../encryption/keys.ts"
import type { AdenConfigError } from "../../errors/ConfigError.ts"
import { LockTimeout, StorageIoFailed } from "../../errors/StorageError.ts"
import type { GenerationConflict, StorageFailure } from "../../errors/StorageError.ts"
import type { Credential } from "../../model/Credential.ts"
import { CredentialState, isExpected, stateAfterUpdate } from "../../model/CredentialState.ts"
import { CurrentTenant } from "../../model/currentTenant.ts"
import { Broadcast } from "../../util/Broadcast.ts"
import { makeKeyedLock } from "../../util/KeyedLock.ts"
import { logWarning } from "../../util/logging.ts"
import { CredentialStorage } from "../CredentialStorage.ts"
import type { StorageChange } from "../CredentialStorage.ts"
import { decorate } from "../decorate.ts"
import { indexEntryOf } from "../format/HiveIndex.ts"
import { canBeRead, escapedName, foldName, plainName } from "../format/names.ts"
import { asStorageError, checkCredentialId } from "../operation.ts"
import type { StorageFault } from "../operation.ts"
import { CredentialFiles } from "./CredentialFiles.ts"
import type { Located } from "./CredentialFiles.ts"
import { unscopedDirectoryLocks } from "./DirectoryLock.ts"
import type { DirectoryLocks } from "./DirectoryLock.ts"
import type { HeldLock } from "./FileLock.ts"
import { Folders } from "./Folders.ts"
import { IndexFile } from "./IndexFile.ts"
import { makeIndexWriter } from "./IndexWriter.ts"
import type { IndexWriter } from "./IndexWriter.ts"
import { makePrivateFiles } from "./PrivateFiles.ts"
import type { PrivateFiles } from "./PrivateFiles.ts"
import { noState, StateFiles, underOneGeneration } from "./StateFiles.ts"
import { stateCodecIn, tenantDirectory } from "./tenantFolders.ts"
import { EntryTransactions, pendingRemoval, pendingSave } from "./transaction.ts"
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
    return Layer.effect(
      CredentialStorage,
      Effect.map(makeFileStorage({ directory: options.directory, keys }), membersOf)
    )
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
    Layer.effect(CredentialStorage, Effect.map(makeConfiguredFileStorage(options), membersOf))
}

// internal

/**
 * The service of `EncryptedFileStorage.layer`, without a layer, for parts of this package: its methods need their object.
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
 * The same of `EncryptedFileStorage.layerConfigWith`.
 *
 * @internal
 */
export const makeConfiguredFileStorage = (options: { readonly directory?: string | undefined }) =>
  make(options.directory, configuredKeys, makeKeyFileWarning)

/** How many credentials are saved under one lock: they share the flushes, but other writers wait for them. */
const batchSize = 64

/** How often the lock of a credential is retried, at least: a refresh takes as long as a request. */
const refreshRetryMillis = 250

const pubSubOfChanges = PubSub.unbounded<StorageChange>()

const absent: Located = { _tag: "Absent", plainIsTaken: false }

/** Ids that could share a file share a lock. */
const lockNameOf = (id: string): string => `entry\0${foldName(plainName(id))}`

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
  const folders = new Folders(files, common, directory)
  const locks = yield* unscopedDirectoryLocks(files, directory)
  const credentials = new CredentialFiles(files, folders.credentials, keys, tenantId)
  const states = new StateFiles(files, folders.state, stateCodecIn(path, directory, keys, tenantId))
  const changes = new Broadcast(pubSubOfChanges)
  const index = yield* makeIndexWriter({
    files,
    folders,
    index: new IndexFile(files, directory, credentials),
    locks
  })
  // one finalizer for all: each takes some hundred bytes
  yield* Effect.addFinalizer(() =>
    index.close().pipe(Effect.ensuring(changes.shutdown()), Effect.ensuring(locks.close()))
  )
  yield* Effect.forkScoped(index.open())
  return new FileStorage({ files, folders, locks, credentials, states, index, changes, tenantId, warning })
})

/** A storage for programs: its members can be taken out of it. */
const membersOf = (storage: FileStorage): Storage => decorate(storage, {})

type Storage = CredentialStorage["Service"]

class FileStorage implements Storage {
  readonly #files: PrivateFiles
  readonly #folders: Folders
  readonly #locks: DirectoryLocks
  readonly #credentials: CredentialFiles
  readonly #states: StateFiles
  readonly #index: IndexWriter
  readonly #transactions: EntryTransactions
  readonly changes: Broadcast<StorageChange>
  readonly #warning: Effect.Effect<void>
  readonly #writing = makeKeyedLock()
  /** Whether the program knows that the directory is not writable, by a failed write or by a warning. */
  #isReported = false

  constructor(options: {
    readonly files: PrivateFiles
    readonly folders: Folders
    readonly locks: DirectoryLocks
    readonly credentials: CredentialFiles
    readonly states: StateFiles
    readonly index: IndexWriter
    readonly changes: Broadcast<StorageChange>
    readonly tenantId: string | undefined
    /** Run before each write. */
    readonly warning: Effect.Effect<void>
  }) {
    this.#files = options.files
    this.#folders = options.folders
    this.#locks = options.locks
    this.#credentials = options.credentials
    this.#states = options.states
    this.#index = options.index
    this.#transactions = new EntryTransactions({ ...options, observer: this })
    this.changes = options.changes
    this.#warning = options.warning
  }

  // a span and an error per operation; not by `Effect.fn`, which takes a kilobyte for each member of each storage. Without a stack
  // trace: it costs a read more than all its locks, and would always name these lines

  #traced<A, E>(name: string, effect: Effect.Effect<A, E>, id?: string) {
    return Effect.withSpan(asStorageError(name, id)(effect), `EncryptedFileStorage.${name}`, {
      captureStackTrace: false
    })
  }

  #operation<A, E>(name: string, effect: Effect.Effect<A, E>, id?: string) {
    return this.#traced(name, this.#files.orGiveUp(effect), id)
  }

  #writeOperation<A, E>(name: string, effect: Effect.Effect<A, E>, id?: string) {
    return this.#traced(name, this.#recordFailure(this.#files.orGiveUp(effect)), id)
  }

  #recordFailure<A, E, R>(write: Effect.Effect<A, E, R>) {
    return Effect.tapError(write, (error) =>
      Effect.sync(() => {
        if (error instanceof StorageIoFailed) this.#isReported = true
      }))
  }

  // locks ---------------------------------------------------------------------------------------------------------------

  /** The lock of a credential. When it cannot be created, it still excludes the fibers of this process, with a warning. */
  #credentialLock(id: string) {
    return this.#files.orGiveUp(this.#locks.lock(escapedName(id), refreshRetryMillis)).pipe(
      Effect.tap(() => Effect.sync(() => this.#isReported = false)),
      Effect.catchTag("StorageIoFailed", (error) =>
        Effect.addFinalizer(() =>
          Effect.suspend(() => {
            if (this.#isReported) return Effect.void
            this.#isReported = true
            return logWarning("Other processes are not locked out: cannot create the lock of a credential")
              .pipe(
                Effect.annotateLogs({ reason: error.message })
              )
          })
        ))
    )
  }

  withLock<A, E, R>(id: string, effect: Effect.Effect<A, E, R>) {
    return Effect.acquireUseRelease(
      Scope.make(),
      (scope) =>
        checkCredentialId(id).pipe(
          Effect.andThen(this.#credentialLock(id)),
          asStorageError("withLock", id),
          Scope.provide(scope),
          Effect.andThen(effect)
        ),
      Scope.close
    )
  }

  /**
   * Excludes the reads and writes of ids that could share a file. The locks are acquired in sorted order, so that writers cannot
   * deadlock. A write that has begun is not interrupted.
   */
  #writingEntries<A, E>(ids: ReadonlyArray<string>, effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.forEach(Array.from(new Set(ids.map(lockNameOf))).toSorted(), this.#writing.held, { discard: true })
      .pipe(
        Effect.andThen(Effect.uninterruptible(effect)),
        Effect.scoped
      )
  }

  /** Runs a write of entries under the write lock of the directory. */
  #writeUnderLock<A, E>(write: (lock: HeldLock) => Effect.Effect<A, E>) {
    return this.#index.during(this.#locks.withWriteLock(write))
  }

  #ensureFolders() {
    return Effect.andThen(this.#folders.ensure(), this.#warning)
  }

  // reading -------------------------------------------------------------------------------------------------------------

  #locate(id: string): Effect.Effect<Located, StorageFault> {
    return Effect.gen({ self: this }, function*() {
      yield* checkCredentialId(id)
      return (yield* this.#folders.exist(this.#folders.credentials)) ? yield* this.#credentials.locate(id) : absent
    })
  }

  #credentialOf(id: string) {
    return Effect.gen({ self: this }, function*() {
      const located = yield* this.#locate(id)
      switch (located._tag) {
        case "Absent":
          return Option.none()
        case "Found":
          return Option.some(located.stored.credential)
        case "Unreadable":
          return yield* this.#credentials.cannotOpen(id, located)
      }
    })
  }

  #stateOf(id: string) {
    return Effect.gen({ self: this }, function*() {
      yield* checkCredentialId(id)
      const { state } = this.#folders
      // most ids have no state, which needs no check of the folders; a state file only counts in folders that others cannot write
      const located = yield* Effect.tapError(this.#states.locate(id), () => this.#folders.exist(state))
      return located.name === undefined || (yield* this.#folders.exist(state))
        ? located.state
        : CredentialState.initial
    })
  }

  /**
   * Credential and state from the two files that nearly all ids have, read at once. None when these are not both theirs: then all
   * files that may be theirs have to be looked at.
   */
  #readPlain(id: string) {
    return Effect.gen({ self: this }, function*() {
      const name = plainName(id)
      if (!canBeRead(name) || !(yield* this.#folders.exist(this.#folders.credentials, this.#folders.state))) {
        return Option.none()
      }
      const read = yield* this.#files.readTogether(this.#states.readable(name), this.#credentials.readable(name))
      if (Option.isNone(read)) return Option.none()
      const [stateBytes, bytes] = read.value
      return Option.all({
        credential: yield* this.#credentials.openOwn(id, bytes),
        state: this.#states.openOwn(id, stateBytes)
      })
    }).pipe(Effect.orElseSucceed(() => Option.none()))
  }

  #entryOf(id: string) {
    return Effect.gen({ self: this }, function*() {
      yield* checkCredentialId(id)
      const plain = yield* this.#readPlain(id)
      if (Option.isSome(plain)) return { credential: Option.some(plain.value.credential), state: plain.value.state }
      const { content, state } = yield* underOneGeneration(this.#stateOf(id), this.#credentialOf(id))
      return { credential: content, state }
    })
  }

  /** Excludes, within this process, the writes of ids that could share a file with this one. */
  read(id: string) {
    return this.#operation("read", this.#writing(lockNameOf(id))(this.#entryOf(id)), id)
  }

  load(id: string) {
    return this.#operation("load", this.#credentialOf(id), id)
  }

  loadState(id: string) {
    return this.#operation("loadState", this.#stateOf(id), id)
  }

  exists(id: string) {
    return this.#operation("exists", Effect.map(this.#locate(id), ({ _tag }) => _tag !== "Absent"), id)
  }

  get list() {
    return Effect.suspend(() => this.#list())
  }

  #list() {
    return this.#operation(
      "list",
      Effect.flatMap(
        this.#folders.exist(this.#folders.credentials),
        (exist) => exist ? this.#index.ids() : Effect.succeed([])
      )
    )
  }

  // writing -------------------------------------------------------------------------------------------------------------

  onSaved(credential: Credential, generation: number, document: string) {
    return Effect.suspend(() => {
      this.#index.changed(credential.id, indexEntryOf(credential, document))
      return this.changes.publish({ _tag: "Saved", id: credential.id, generation })
    })
  }

  onRemoved(id: string, generation: number) {
    return Effect.suspend(() => {
      this.#index.changed(id, undefined)
      return this.changes.publish({ _tag: "Deleted", id, generation })
    })
  }

  save(credential: Credential, options: Parameters<Storage["save"]>[1]) {
    const { id } = credential
    return this.#writeOperation(
      "save",
      Effect.gen({ self: this }, function*() {
        yield* checkCredentialId(id)
        yield* this.#ensureFolders()
        const saving = pendingSave(credential, options ?? {})
        return yield* this.#writeUnderLock((lock) =>
          this.#writingEntries(
            [id],
            Effect.gen({ self: this }, function*() {
              const failure = (yield* this.#transactions.putAll([saving], lock)).get(id)
              if (failure !== undefined) return yield* Effect.fail(failure)
              return yield* Effect.orDie(Effect.fromNullishOr(saving.savedAs))
            })
          )
        )
      }),
      id
    )
  }

  saveMany(many: ReadonlyArray<Credential>, options: Parameters<Storage["saveMany"]>[1]) {
    return this.#writeOperation(
      "saveMany",
      Effect.gen({ self: this }, function*() {
        const failures = new Map<string, StorageFailure | GenerationConflict>()
        if (many.length === 0) return failures
        yield* this.#ensureFolders()
        const fail = (id: string, failure: SaveFailure) =>
          this.#recordFailure(Effect.fail(failure)).pipe(
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
            : this.#writeUnderLock((lock) => this.#writingEntries(ids, this.#transactions.putAll(batch, lock)))
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
    )
  }

  saveState(id: string, state: CredentialState, options: Parameters<Storage["saveState"]>[2]) {
    return this.#writeOperation(
      "saveState",
      Effect.gen({ self: this }, function*() {
        yield* checkCredentialId(id)
        yield* this.#ensureFolders()
        return yield* this.#locks.withWriteLock((lock) =>
          this.#writingEntries(
            [id],
            Effect.gen({ self: this }, function*() {
              const before = yield* this.#states.locate(id)
              if (!isExpected(before.state, options)) return false
              yield* this.#transactions.writeState(id, before, stateAfterUpdate(state, before.state), lock)
              return true
            })
          )
        )
      }),
      id
    )
  }

  /** Finds the entry to be removed. A file that cannot be decrypted is the entry's if the index lists the id. */
  #findEntry(id: string): Effect.Effect<FoundEntry, StorageFault> {
    return Effect.gen({ self: this }, function*() {
      const folder = this.#folders.state
      const located = yield* this.#locate(id)
      const isOwn = located._tag === "Found" ||
        (located._tag === "Unreadable" && (yield* this.#index.ids()).includes(id))
      if (isOwn) yield* this.#files.ensureFolder(folder)
      return { located, isOwn, state: (yield* this.#folders.exist(folder)) ? yield* this.#states.locate(id) : noState }
    })
  }

  delete(id: string, options: Parameters<Storage["delete"]>[1]) {
    return this.#writeOperation(
      "delete",
      Effect.gen({ self: this }, function*() {
        yield* checkCredentialId(id)
        if (!(yield* this.#folders.exist())) return false
        const removal = pendingRemoval()
        yield* this.#writeUnderLock((lock) =>
          this.#writingEntries(
            [id],
            Effect.gen({ self: this }, function*() {
              const found = yield* this.#findEntry(id)
              yield* this.#transactions.remove(id, found, options?.expectedGeneration, removal, lock)
            })
          )
        )
        return removal.isRemoved
      }),
      id
    )
  }
}
