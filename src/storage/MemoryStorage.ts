/**
 * Credentials in the memory of this process, for tests and for programs that persist nothing.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import { GenerationConflict } from "../errors/StorageError.ts"
import type { StorageFailure } from "../errors/StorageError.ts"
import { Credential, CredentialKey } from "../model/Credential.ts"
import { CredentialState, isExpected, stateAfterSave, stateAfterUpdate, tombstoneOf } from "../model/CredentialState.ts"
import { makeKeyedLock } from "../util/KeyedLock.ts"
import { CredentialStorage } from "./CredentialStorage.ts"
import type { StorageChange } from "./CredentialStorage.ts"
import { asStorageError, checkCredentialId } from "./operation.ts"

/**
 * A {@link CredentialStorage} in memory. Each layer that is built is a separate storage; its locks and changes are local to this
 * process.
 *
 * @example
 * ```ts
 * import { Credential, MemoryStorage } from "aden-credentials"
 * import { Redacted } from "effect"
 *
 * const Storage = MemoryStorage.layer([
 *   Credential.fromApiKey({ id: "brave_search", apiKey: Redacted.make("BSA-0123456789") })
 * ])
 * ```
 *
 * @since 0.1.0
 * @category storages
 */
export class MemoryStorage {
  /** A storage that holds these credentials at first, none by default. */
  static readonly layer = (credentials: Iterable<Credential> = []): Layer.Layer<CredentialStorage> =>
    Layer.effect(CredentialStorage, make(credentials))
}

// internal

type Extra = Credential["extra"]

const mergeExtra = (stored: Extra, saved: Extra): Extra =>
  stored === undefined || saved === undefined ? saved ?? stored : new Map([...stored, ...saved])

/** The saved credential, with the unknown fields of the stored one that it does not set itself. */
const keepUnknownFields = (stored: Credential, saved: Credential): Credential =>
  new Credential({
    ...saved,
    keys: new Map(
      Array.from(saved.keys, ([name, key]) => [
        name,
        new CredentialKey({ ...key, extra: mergeExtra(stored.keys.get(name)?.extra, key.extra) })
      ])
    ),
    extra: mergeExtra(stored.extra, saved.extra)
  })

const make = Effect.fnUntraced(function*(initial: Iterable<Credential>) {
  const credentials = new Map(Array.from(initial, (credential) => [credential.id, credential]))
  const states = new Map(
    Array.from(credentials, ([id, credential]) => [id, stateAfterSave(credential, CredentialState.initial)])
  )
  const changes = yield* Effect.acquireRelease(PubSub.unbounded<StorageChange>(), PubSub.shutdown)
  const lock = makeKeyedLock()

  const publish = (change: StorageChange): void => {
    PubSub.publishUnsafe(changes, change)
  }
  const stateOf = (id: string): CredentialState => states.get(id) ?? CredentialState.initial

  const checked = <A>(operation: string, id: string, use: () => A) =>
    asStorageError(operation, id)(Effect.map(checkCredentialId(id), use))

  // compare-and-swap: comparing the generation and writing are one synchronous step
  const put = (credential: Credential, options: {
    readonly expectedGeneration?: number | undefined
    readonly state?: CredentialState | undefined
  }): Effect.Effect<number, GenerationConflict> =>
    Effect.suspend(() => {
      const { id } = credential
      const { expectedGeneration: expected, state } = options
      const before = stateOf(id)
      const { generation: actual } = before
      if (expected !== undefined && expected !== actual) {
        return Effect.fail(new GenerationConflict({ id, expected, actual }))
      }
      const stored = credentials.get(id)
      credentials.set(id, stored === undefined ? credential : keepUnknownFields(stored, credential))
      const after = stateAfterSave(credential, before, state)
      states.set(id, after)
      publish({ _tag: "Saved", id, generation: after.generation })
      return Effect.succeed(after.generation)
    })

  return CredentialStorage.of({
    read: Effect.fn("MemoryStorage.read")((id) =>
      checked("read", id, () => ({ credential: Option.fromUndefinedOr(credentials.get(id)), state: stateOf(id) }))
    ),
    load: Effect.fn("MemoryStorage.load")((id) =>
      checked("load", id, () => Option.fromUndefinedOr(credentials.get(id)))
    ),
    save: Effect.fn("MemoryStorage.save")(function*(credential, options) {
      yield* asStorageError("save", credential.id)(checkCredentialId(credential.id))
      return yield* put(credential, options ?? {})
    }),
    saveMany: Effect.fn("MemoryStorage.saveMany")(function*(many, options) {
      const failures = new Map<string, StorageFailure | GenerationConflict>()
      for (const credential of many) {
        const { id } = credential
        yield* asStorageError("save", id)(checkCredentialId(id)).pipe(
          Effect.andThen(put(credential, {
            expectedGeneration: options?.expectedGenerations?.get(id),
            state: options?.state
          })),
          Effect.catch((failure) => Effect.sync(() => failures.set(id, failure)))
        )
      }
      return failures
    }),
    delete: Effect.fn("MemoryStorage.delete")((id, options) =>
      checked("delete", id, () => {
        const state = stateOf(id)
        if (!isExpected(state, options)) return false
        const tombstone = tombstoneOf(state)
        if (state.generation === 0) states.delete(id)
        else states.set(id, tombstone)
        const deleted = credentials.delete(id)
        if (deleted) publish({ _tag: "Deleted", id, generation: tombstone.generation })
        return deleted
      })
    ),
    list: Effect.sync(() => Array.from(credentials.keys())),
    exists: Effect.fn("MemoryStorage.exists")((id) => checked("exists", id, () => credentials.has(id))),
    loadState: Effect.fn("MemoryStorage.loadState")((id) => checked("loadState", id, () => stateOf(id))),
    saveState: Effect.fn("MemoryStorage.saveState")((id, state, options) =>
      checked("saveState", id, () => {
        const before = stateOf(id)
        if (!isExpected(before, options)) return false
        states.set(id, stateAfterUpdate(state, before))
        return true
      })
    ),
    changes: Stream.fromPubSub(changes),
    withLock: (id, effect) => Effect.andThen(checked("withLock", id, () => undefined), lock(id)(effect))
  })
})
