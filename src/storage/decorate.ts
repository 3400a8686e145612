import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { CredentialStorage } from "./CredentialStorage.ts"

type Storage = CredentialStorage["Service"]

/** A storage that delegates to another, with some members replaced. */
export const decorate = (storage: Storage, members: Partial<Storage>): Storage =>
  CredentialStorage.of({
    read: (id) => storage.read(id),
    load: (id) => storage.load(id),
    save: (credential, options) => storage.save(credential, options),
    saveMany: (credentials, options) => storage.saveMany(credentials, options),
    delete: (id, options) => storage.delete(id, options),
    list: storage.list,
    exists: (id) => storage.exists(id),
    loadState: (id) => storage.loadState(id),
    saveState: (id, state, options) => storage.saveState(id, state, options),
    changes: storage.changes,
    withLock: (id, effect) => storage.withLock(id, effect),
    ...members
  })

/** Whether a storage that can load from Aden (`AdenCachedStorage`) may do so. */
export const RemoteLoadAllowed = Context.Reference<boolean>("aden-credentials/internal/RemoteLoadAllowed", {
  defaultValue: () => true
})

/**
 * A storage that loads only what is stored, for callers that ask Aden themselves. Otherwise Aden would be asked twice, and once per
 * entry when all are listed.
 */
export const localOnly = (storage: Storage): Storage =>
  decorate(storage, {
    read: (id) => Effect.provideService(storage.read(id), RemoteLoadAllowed, false),
    load: (id) => Effect.provideService(storage.load(id), RemoteLoadAllowed, false)
  })
