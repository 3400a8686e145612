import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { CredentialStorageError } from "../errors/StorageError.ts"
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

/**
 * The same as a class, for what no program gets to see: its methods are made once, and not for each store. Subclasses replace some.
 */
export class StorageDecorator implements Storage {
  protected readonly inner: Storage

  constructor(inner: Storage) {
    this.inner = inner
  }

  read(id: string): ReturnType<Storage["read"]> {
    return this.inner.read(id)
  }

  load(id: string): ReturnType<Storage["load"]> {
    return this.inner.load(id)
  }

  save(...args: Parameters<Storage["save"]>): ReturnType<Storage["save"]> {
    return this.inner.save(...args)
  }

  saveMany(...args: Parameters<Storage["saveMany"]>): ReturnType<Storage["saveMany"]> {
    return this.inner.saveMany(...args)
  }

  delete(...args: Parameters<Storage["delete"]>): ReturnType<Storage["delete"]> {
    return this.inner.delete(...args)
  }

  get list(): Storage["list"] {
    return this.inner.list
  }

  exists(id: string): ReturnType<Storage["exists"]> {
    return this.inner.exists(id)
  }

  loadState(id: string): ReturnType<Storage["loadState"]> {
    return this.inner.loadState(id)
  }

  saveState(...args: Parameters<Storage["saveState"]>): ReturnType<Storage["saveState"]> {
    return this.inner.saveState(...args)
  }

  get changes(): Storage["changes"] {
    return this.inner.changes
  }

  withLock<A, E, R>(id: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | CredentialStorageError, R> {
    return this.inner.withLock(id, effect)
  }
}

/** Whether a storage that can load from Aden (`AdenCachedStorage`) may do so. */
export const RemoteLoadAllowed = Context.Reference<boolean>("aden-credentials/internal/RemoteLoadAllowed", {
  defaultValue: () => true
})

/**
 * A storage that loads only what is stored, for callers that ask Aden themselves. Otherwise Aden would be asked twice, and once per
 * entry when all are listed.
 */
export const localOnly = (storage: Storage): Storage => new LocalStorage(storage)

class LocalStorage extends StorageDecorator {
  override read(id: string) {
    return Effect.provideService(this.inner.read(id), RemoteLoadAllowed, false)
  }

  override load(id: string) {
    return Effect.provideService(this.inner.load(id), RemoteLoadAllowed, false)
  }
}
