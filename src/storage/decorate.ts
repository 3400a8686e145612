import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { CredentialStorage } from "./CredentialStorage.ts"

type Storage = CredentialStorage["Service"]

/** A storage that does what another does, but for the members given. */
export const decorate = (storage: Storage, members: Partial<Storage>): Storage =>
  CredentialStorage.of({
    load: (id) => storage.load(id),
    save: (credential, options) => storage.save(credential, options),
    saveMany: (credentials, options) => storage.saveMany(credentials, options),
    delete: (id, options) => storage.delete(id, options),
    list: storage.list,
    exists: (id) => storage.exists(id),
    loadState: (id) => storage.loadState(id),
    saveState: (id, state) => storage.saveState(id, state),
    changes: storage.changes,
    withLock: (id, effect) => storage.withLock(id, effect),
    ...members
  })

/** Whether a storage that can ask Aden for what it is to load may do so. */
export const MayAskAden = Context.Reference<boolean>("aden-credentials/internal/MayAskAden", {
  defaultValue: () => true
})

/**
 * What rests in a storage, for a reader that asks Aden by itself: a `load` that asked too would ask twice, and one request per
 * entry to list them all.
 */
export const atRest = (storage: Storage): Storage =>
  decorate(storage, { load: (id) => Effect.provideService(storage.load(id), MayAskAden, false) })
