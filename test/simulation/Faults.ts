/**
 * Faults that the simulation has to find when they are planted: see scripts/simulate-faults.ts. Each is planted from outside, in
 * the options of the store, in what it is built on, or in front of it. What is planted stands between the ledger and the store:
 * the ledger sees what really happened.
 */
import { Clock, DateTime, Duration, Effect, Exit, Fiber, Option, Schedule, Stream } from "effect"
import type { Redacted, Scope } from "effect"
import { RateLimited } from "../../src/errors/AdenError.ts"
import { AmbiguousCredential, CredentialKeyNotFound } from "../../src/errors/CredentialError.ts"
import type { CredentialFailure } from "../../src/errors/CredentialError.ts"
import { CredentialStorageError, StorageIoFailed } from "../../src/errors/StorageError.ts"
import type { Credential, CredentialAccount, CredentialResolution } from "../../src/model/Credential.ts"
import { accountOf, resolveRef } from "../../src/model/Credential.ts"
import { CredentialState } from "../../src/model/CredentialState.ts"
import type { CredentialProvider } from "../../src/providers/CredentialProvider.ts"
import type { CredentialStorage, StoredEntry } from "../../src/storage/CredentialStorage.ts"
import { decorate } from "../../src/storage/decorate.ts"
import type { CredentialStore, CredentialStoreOptions } from "../../src/store/CredentialStore.ts"
import { backOff, ReplacedToken } from "../../src/store/RefreshPolicy.ts"
import { SingleFlight } from "../../src/util/SingleFlight.ts"
import type { Profile } from "./Program.ts"

type Store = CredentialStore["Service"]
type Storage = CredentialStorage["Service"]

/** What is put into a store: other options, or something around its storage, its providers, its clock or itself. */
export interface Plant {
  readonly options?: CredentialStoreOptions | undefined
  readonly storage?: ((storage: Storage) => Storage) | undefined
  readonly provider?: ((provider: CredentialProvider) => CredentialProvider) | undefined
  /** Around all providers of a store at once. */
  readonly providers?: ((all: ReadonlyArray<CredentialProvider>) => ReadonlyArray<CredentialProvider>) | undefined
  readonly clock?: ((clock: Clock.Clock) => Clock.Clock) | undefined
  /** Around each store, for as long as the scope of the store is open; with the storage that it is built on. */
  readonly store?: ((store: Store, storage: Storage) => Effect.Effect<Store, never, Scope.Scope>) | undefined
  /** What remembers something from one part to another is made for each run. */
  readonly each?: (() => Omit<Plant, "each">) | undefined
}

export interface Fault extends Plant {
  readonly name: string
  /** The rule that it breaks. */
  readonly rule: string
  /** Programs of which profile find it; `ordinary` unless stated. */
  readonly profile?: Profile | undefined
}

export const faults: readonly [Fault, ...Array<Fault>] = [
  {
    name: "serves what has expired",
    rule: "never an expired token",
    store: (store) =>
      Effect.sync(() => {
        const remembered = new Map<string, Credential>()
        return reading(store, (ref, read) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            const credential = remembered.get(ref)
            return credential !== undefined && isExpired(credential, now) ? Effect.succeed(credential) : Effect.tap(
              read,
              (credential) => Effect.sync(() => void remembered.set(ref, credential))
            )
          }))
      })
  },
  {
    name: "forgets how far Aden's clock is ahead",
    rule: "never an expired token",
    provider: (provider) => ({ ...provider, clockOffset: Effect.succeed(0) })
  },
  {
    name: "serves what is older than maxStale",
    rule: "nothing older than maxStale",
    options: { maxStale: "1000 days" }
  },
  {
    name: "serves what was invalidated",
    rule: "never an invalidated token",
    store: (store) => Effect.succeed({ ...store, invalidate: () => Effect.void })
  },
  {
    name: "ignores that it is blocked",
    rule: "never a blocked credential's token",
    store: (store) =>
      Effect.sync(() => {
        const remembered = new Map<string, Credential>()
        return reading(store, (ref, read) =>
          read.pipe(
            Effect.tap((credential) => Effect.sync(() => void remembered.set(ref, credential))),
            Effect.catchTag("ReauthRequired", (error) =>
              Effect.flatMap(Clock.currentTimeMillis, (now) => {
                const credential = remembered.get(ref)
                return credential === undefined || isExpired(credential, now)
                  ? Effect.fail(error)
                  : Effect.succeed(credential)
              }))
          ))
      })
  },
  {
    name: "checks a blocked one at every read",
    rule: "a blocked one is checked once per 30 s",
    options: { policy: { recheck: Schedule.forever } }
  },
  {
    name: "asks twice at a time",
    rule: "one request in flight per credential",
    provider: (provider) => ({
      ...provider,
      refresh: (credential) => twice(provider.refresh(credential)),
      fetch: (id) => twice(provider.fetch(id))
    })
  },
  {
    name: "asks without the lock",
    rule: "one request in flight per credential",
    storage: (storage) => decorate(storage, { withLock: (_, effect) => effect })
  },
  {
    name: "ends a request when one of its callers leaves",
    rule: "an interruption ends only its own operation",
    store: (store) =>
      Effect.sync(() => {
        const shared = new Map<string, Fiber.Fiber<Credential, CredentialFailure>>()
        return reading(store, (ref, read) =>
          Effect.gen(function*() {
            const running = shared.get(ref)
            const fiber = running ?? (yield* Effect.forkDetach(
              Effect.onExit(read, () => Effect.sync(() => void shared.delete(ref)))
            ))
            if (fiber.pollUnsafe() === undefined) shared.set(ref, fiber)
            return yield* Effect.onInterrupt(Fiber.join(fiber), () => Fiber.interrupt(fiber))
          }))
      })
  },
  {
    name: "answers a forced refresh with one from before",
    rule: "a forced refresh is asked for after its call",
    store: (store) =>
      Effect.sync(() => {
        const flights = new SingleFlight<string, Credential, Effect.Error<ReturnType<Store["refresh"]>>>()
        return { ...store, refresh: (ref) => flights.run(ref, store.refresh(ref)) }
      })
  },
  {
    name: "forgets the rate limit",
    rule: "nothing before a rate limit's end",
    provider: (provider) => {
      const forgetting = <A, E>(self: Effect.Effect<A, E>): Effect.Effect<A, E | RateLimited> =>
        Effect.mapError(
          self,
          (error) => error instanceof RateLimited ? new RateLimited({ id: error.id, retryAfter: Duration.zero }) : error
        )
      return {
        ...provider,
        refresh: (credential) => forgetting(provider.refresh(credential)),
        fetch: (id) => forgetting(provider.fetch(id)),
        list: forgetting(provider.list)
      }
    }
  },
  {
    name: "forgets the back-off",
    rule: "no more often than the back-off",
    options: { policy: { backOff: Schedule.forever } }
  },
  { name: "waits without end", rule: "every wait ends", options: { deadline: "1 hour" } },
  {
    name: "lets an old answer undo what the program did",
    rule: "an old answer never wins",
    storage: (storage) =>
      decorate(storage, { save: (credential, { state } = {}) => storage.save(credential, { state }) })
  },
  {
    name: "lets what a sync fetched win over what is newer",
    // the renewal finds another generation than the one that it replaces, and gives way to what the sync saved
    rule: "a forced refresh is asked for after its call",
    storage: (storage) =>
      decorate(storage, { saveMany: (credentials, { state } = {}) => storage.saveMany(credentials, { state }) })
  },
  {
    name: "lets a sync overwrite the program's own",
    rule: "the program's own is never overwritten",
    provider: (provider) => ({ ...provider, canHandle: () => true })
  },
  {
    name: "removes what one answer says is missing",
    rule: "an outage removes nothing",
    provider: (provider) => {
      const missed = new Set<string>()
      return {
        ...provider,
        fetch: (id) =>
          Effect.tap(
            provider.fetch(id),
            (answer) => Effect.sync(() => Option.isNone(answer) ? missed.add(id) : missed.delete(id))
          ),
        refresh: (credential) =>
          Effect.tapErrorTag(
            provider.refresh(credential),
            "IntegrationNotFound",
            () => Effect.sync(() => missed.add(credential.id))
          ),
        list: Effect.map(provider.list, ({ accounts, malformed }) => ({
          accounts: accounts.filter(({ id }) => !missed.has(id)),
          malformed
        }))
      }
    }
  },
  {
    name: "leaves its requests behind when it ends",
    rule: "nothing is left behind",
    provider: (provider) => {
      const detached = <A, E>(self: Effect.Effect<A, E>) =>
        Effect.flatMap(Effect.forkDetach(self), (fiber) => Fiber.join(fiber))
      return {
        ...provider,
        refresh: (credential) => detached(provider.refresh(credential)),
        fetch: (id) => detached(provider.fetch(id)),
        list: detached(provider.list)
      }
    }
  },
  {
    name: "answers from before a write that was interrupted",
    rule: "memory equals storage",
    profile: "wide",
    storage: (storage) => {
      const before = new Map<string, { readonly entry: StoredEntry; readonly until: number }>()
      const forgetting = <A, E>(id: string, write: Effect.Effect<A, E>) =>
        Effect.flatMap(
          Effect.option(storage.read(id)),
          (entry) =>
            Effect.onInterrupt(write, () =>
              Effect.map(Clock.currentTimeMillis, (now) => {
                if (Option.isSome(entry)) before.set(id, { entry: entry.value, until: now + 300_000 })
              }))
        )
      return decorate(storage, {
        read: (id) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            const old = before.get(id)
            return old !== undefined && now < old.until ? Effect.succeed(old.entry) : storage.read(id)
          }),
        save: (credential, options) => forgetting(credential.id, storage.save(credential, options)),
        delete: (id, options) => forgetting(id, storage.delete(id, options))
      })
    }
  },
  {
    name: "renews a refused token that another process has replaced",
    rule: "the loser of a renewal uses what it finds in storage",
    profile: "wide",
    store: (store) =>
      Effect.succeed({
        ...store,
        refresh: (ref) => Effect.provideService(store.refresh(ref), ReplacedToken, undefined)
      })
  },
  {
    name: "renews a token that is to last for each process that asks",
    rule: "a token that is to last is renewed once for all who ask at the same time",
    profile: "wide",
    store: (store) => {
      const renewed = (ref: string, minTimeLeft: Duration.Input) =>
        Effect.gen(function*() {
          const { expiresAt } = yield* store.get(ref)
          const lastsUntil = (yield* Clock.currentTimeMillis) + Duration.toMillis(minTimeLeft)
          if (expiresAt !== undefined && DateTime.toEpochMillis(expiresAt) < lastsUntil) {
            yield* Effect.ignore(store.refresh(ref))
          }
          return yield* store.token(ref)
        })
      return Effect.succeed({ ...store, token: lasting(store, renewed) })
    }
  },
  {
    name: "asks storage for a known name after each change",
    rule: "a storage that fails delays no read of what is in memory",
    profile: "wide",
    store: (store, storage) =>
      Effect.gen(function*() {
        const known = new Set<string>()
        yield* Effect.forkScoped(Stream.runForEach(store.changes, () => Effect.sync(() => known.clear())))
        const forgetting = <A, E>(change: Effect.Effect<A, E>) =>
          Effect.ensuring(change, Effect.sync(() => known.clear()))
        const asking = reading(store, (ref, read) =>
          known.has(ref) ? read : storage.list.pipe(
            Effect.timeoutOrElse({ duration: "4 seconds", orElse: () => Effect.fail(tooSlow) }),
            Effect.andThen(read),
            Effect.tap(({ id }) => Effect.sync(() => id === ref ? known : known.add(ref)))
          ))
        return {
          ...asking,
          save: (credential) => forgetting(store.save(credential)),
          delete: (ref) => forgetting(store.delete(ref))
        }
      })
  },
  {
    name: "forgets in its index what changes while it lists storage",
    rule: "never a silent pick",
    profile: "wide",
    storage: (storage) => {
      let listing = 0
      let changed = 0
      let outdated: ReadonlyArray<string> | undefined
      const noting = <A, E>(write: Effect.Effect<A, E>) =>
        Effect.tap(write, () =>
          Effect.sync(() => {
            changed++
            if (listing === 0) outdated = undefined
          }))
      const list = Effect.suspend(() => {
        const before = changed
        listing++
        return storage.list.pipe(
          Effect.tap((ids) =>
            Effect.sync(() => {
              if (changed !== before) outdated = ids
            })
          ),
          Effect.ensuring(Effect.sync(() => listing--))
        )
      })
      return decorate(storage, {
        // a storage that fails lists nothing
        list: Effect.suspend(() => {
          const old = outdated
          return old === undefined ? list : Effect.as(storage.list, old)
        }),
        save: (credential, options) => noting(storage.save(credential, options)),
        delete: (id, options) => noting(storage.delete(id, options))
      })
    }
  },
  {
    name: "decides by the stored names only whether a name is ambiguous",
    rule: "ambiguous only where two accounts fit",
    profile: "wide",
    each: () => {
      const names = new StoredNames()
      return {
        storage: (storage) => names.of(storage),
        store: (store) =>
          Effect.succeed(
            reading(store, (ref, read) =>
              Effect.suspend(() => {
                const meaning = names.meaningOf(ref)
                return meaning._tag === "Ambiguous"
                  ? Effect.fail(new AmbiguousCredential({ ref, choices: meaning.choices }))
                  : read
              }))
          )
      }
    }
  },
  {
    name: "takes the only account that is stored for the only one of its name",
    rule: "never a silent pick",
    profile: "wide",
    each: () => {
      const names = new StoredNames()
      return {
        storage: (storage) => names.of(storage),
        store: (store) =>
          Effect.succeed(
            reading(store, (ref, read) =>
              Effect.catchTag(read, "AmbiguousCredential", (error) => {
                const meaning = names.meaningOf(ref)
                return meaning._tag === "Found" ? store.get(meaning.id) : Effect.fail(error)
              }))
          )
      }
    }
  },
  {
    name: "looks for a name only once when the account that it meant is gone",
    rule: "what Aden lists is found",
    profile: "wide",
    store: (store) => {
      /** Fails where what the ref meant before is gone. */
      const look = Effect.fnUntraced(function*(ref: string) {
        const meaning = yield* Effect.option(Effect.timeout(store.explain(ref), "500 millis"))
        if (Option.isNone(meaning) || meaning.value.id === ref) return
        yield* Effect.catchIf(
          store.get(meaning.value.id),
          (error) => error._tag !== "CredentialNotFound",
          () => Effect.void
        )
      })
      return Effect.succeed({
        ...reading(store, (ref, read) => Effect.andThen(look(ref), read)),
        awaitReauthorization: (ref, options) => Effect.andThen(look(ref), store.awaitReauthorization(ref, options))
      })
    }
  },
  {
    name: "fetches nothing while one of several providers cannot be asked",
    rule: "a provider that is down holds back nothing of another",
    profile: "wide",
    providers: (all) => {
      const lists = Effect.forEach(all, ({ list }) => list, { concurrency: "unbounded" })
      return all.map((provider, index) => ({
        ...provider,
        list: Effect.map(lists, (answers) => answers[index] ?? { accounts: [], malformed: [] })
      }))
    }
  },
  {
    name: "keeps the circuit open by a clock that can be set back",
    rule: "an Aden that is well is asked",
    profile: "wide",
    clock: (clock) => ({
      currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe(),
      currentTimeMillis: clock.currentTimeMillis,
      currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
      currentTimeNanos: clock.currentTimeNanos,
      monotonicTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
      monotonicTimeNanos: clock.currentTimeNanos,
      sleep: (duration) => clock.sleep(duration)
    })
  },
  {
    name: "takes an entry for deleted that a second storage has",
    rule: "a healed Aden answers again",
    profile: "wide",
    storage: (storage) => {
      // what shows behind a deletion looks as if somebody had saved it since
      const deleted = new Set<string>()
      return decorate(storage, {
        read: (id) =>
          Effect.map(storage.read(id), ({ credential, state }) => ({
            credential,
            state: deleted.has(id) && Option.isSome(credential)
              ? new CredentialState({ ...state, generation: state.generation + 1 })
              : state
          })),
        save: (credential, options) =>
          Effect.tap(storage.save(credential, options), () => Effect.sync(() => deleted.delete(credential.id))),
        delete: (id, options) =>
          Effect.tap(storage.delete(id, options), (isDeleted) =>
            Effect.sync(() => {
              if (isDeleted) deleted.add(id)
            }))
      })
    }
  },
  {
    name: "fails a save that cannot be read again",
    rule: "a change that took effect succeeds",
    profile: "wide",
    storage: (storage) =>
      decorate(storage, {
        save: (credential, options) =>
          Effect.tap(storage.save(credential, options), () => storage.loadState(credential.id))
      })
  },
  {
    name: "saves nothing late any more after a write that died",
    rule: "memory equals storage",
    profile: "wide",
    storage: (storage) => {
      let hasDied = false
      /** The tokens that a write has not saved, by id. */
      const unsaved = new Map<string, Redacted.Redacted<string> | undefined>()
      return decorate(storage, {
        save: (credential, options) => {
          const token = credential.defaultKey?.value
          return Effect.suspend(() =>
            hasDied && unsaved.has(credential.id) && unsaved.get(credential.id) === token
              ? Effect.fail(tooSlow)
              : Effect.onExit(storage.save(credential, options), (exit) =>
                Effect.sync(() => {
                  hasDied ||= Exit.hasDies(exit)
                  if (Exit.isSuccess(exit)) unsaved.delete(credential.id)
                  else unsaved.set(credential.id, token)
                }))
          )
        }
      })
    }
  },
  {
    name: "asks a provider that died again at each read",
    rule: "a question that died is not asked again at each read",
    profile: "wide",
    each: () => {
      let hasDied = false
      const noting = <A, E>(self: Effect.Effect<A, E>) =>
        Effect.onExit(self, (exit) =>
          Effect.sync(() => {
            hasDied = Exit.hasDies(exit)
          }))
      return {
        provider: (provider) => ({
          ...provider,
          fetch: (id) => noting(provider.fetch(id)),
          refresh: (credential) => noting(provider.refresh(credential))
        }),
        options: {
          policy: {
            backOff: Schedule.modifyDelay(
              backOff,
              ({ duration }) => Effect.sync(() => hasDied ? Duration.zero : duration)
            )
          }
        }
      }
    }
  },
  {
    name: "does not hear of other processes any more after a read that died",
    rule: "memory equals storage",
    profile: "wide",
    storage: (storage) => {
      let hasDied = false
      return decorate(storage, {
        read: (id) =>
          Effect.onExit(storage.read(id), (exit) =>
            Effect.sync(() => {
              hasDied ||= Exit.hasDies(exit)
            })),
        changes: Stream.takeWhile(storage.changes, () => !hasDied)
      })
    }
  },
  {
    name: "forgets that it is blocked when storage fails",
    rule: "never a blocked credential's token",
    profile: "wide",
    storage: (storage) =>
      decorate(storage, {
        loadState: (id) => Effect.orElseSucceed(storage.loadState(id), () => CredentialState.initial),
        saveState: (id, state, options) =>
          storage.saveState(id, state, options).pipe(
            Effect.timeout("1 second"),
            Effect.orElseSucceed(() => true)
          )
      })
  }
]

/** A store whose plain reads go through this. */
const reading = (
  store: Store,
  through: (
    ref: string,
    read: Effect.Effect<Credential, CredentialFailure>
  ) => Effect.Effect<Credential, CredentialFailure>
): Store => {
  const get = (ref: string) => through(ref, store.get(ref))
  const keyOf = (ref: string, name?: string) =>
    Effect.flatMap(get(ref), (credential): Effect.Effect<Redacted.Redacted<string>, CredentialKeyNotFound> => {
      const key = name === undefined ? credential.defaultKey : credential.keys.get(name)
      return key === undefined ? Effect.fail(new CredentialKeyNotFound({ ref, key: name })) : Effect.succeed(key.value)
    })
  function token(ref: string): ReturnType<typeof keyOf>
  function token(ref: string, options: { readonly minTimeLeft: Duration.Input }): ReturnType<Store["token"]>
  function token(ref: string, options?: { readonly minTimeLeft: Duration.Input }) {
    return options === undefined ? keyOf(ref) : store.token(ref, options)
  }
  return {
    ...store,
    get,
    getOption: (ref) => Effect.catchTag(Effect.asSome(get(ref)), "CredentialNotFound", () => Effect.succeedNone),
    getKey: keyOf,
    token
  }
}

/** The tokens of a store, of which those that are to last come from here. */
const lasting = (
  store: Store,
  renewed: (ref: string, minTimeLeft: Duration.Input) => ReturnType<Store["token"]>
): Store["token"] => {
  function token(ref: string): ReturnType<Store["getKey"]>
  function token(ref: string, options: { readonly minTimeLeft: Duration.Input }): ReturnType<Store["token"]>
  function token(ref: string, options?: { readonly minTimeLeft: Duration.Input }) {
    return options === undefined ? store.token(ref) : renewed(ref, options.minTimeLeft)
  }
  return token
}

/** The names of what stores have saved, by what they wrote: nothing is read for them. */
class StoredNames {
  readonly #accounts = new Map<string, CredentialAccount>()

  of(storage: Storage): Storage {
    const saved = (credential: Credential) => this.#accounts.set(credential.id, accountOf(credential))
    return decorate(storage, {
      save: (credential, options) =>
        Effect.tap(storage.save(credential, options), () => Effect.sync(() => saved(credential))),
      saveMany: (credentials, options) =>
        Effect.tap(storage.saveMany(credentials, options), (failures) =>
          Effect.sync(() => {
            for (const credential of credentials) if (!failures.has(credential.id)) saved(credential)
          })),
      delete: (id, options) =>
        Effect.tap(storage.delete(id, options), () => Effect.sync(() => this.#accounts.delete(id)))
    })
  }

  meaningOf(ref: string): CredentialResolution {
    return resolveRef(ref, this.#accounts.values())
  }
}

const tooSlow = new CredentialStorageError({
  operation: "list",
  reason: new StorageIoFailed({ location: "the disk", detail: "it does not answer" })
})

const isExpired = ({ expiresAt }: Credential, now: number): boolean =>
  expiresAt !== undefined && DateTime.toEpochMillis(expiresAt) < now

const twice = <A, E>(self: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.map(Effect.all([self, self], { concurrency: 2 }), ([first]) => first)
