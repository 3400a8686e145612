/**
 * Faults that the simulation has to find when they are planted: see scripts/simulate-faults.ts. Each is planted from outside, in
 * the options of the store, in what it is built on, or in front of it. What is planted stands between the ledger and the store:
 * the ledger sees what really happened.
 */
import { Clock, DateTime, Duration, Effect, Fiber, Option, Schedule } from "effect"
import type { Redacted, Scope } from "effect"
import { RateLimited } from "../../src/errors/AdenError.ts"
import { CredentialKeyNotFound } from "../../src/errors/CredentialError.ts"
import type { CredentialFailure } from "../../src/errors/CredentialError.ts"
import type { Credential } from "../../src/model/Credential.ts"
import type { CredentialProvider } from "../../src/providers/CredentialProvider.ts"
import type { CredentialStorage } from "../../src/storage/CredentialStorage.ts"
import { decorate } from "../../src/storage/decorate.ts"
import type { CredentialStore, CredentialStoreOptions } from "../../src/store/CredentialStore.ts"
import { SingleFlight } from "../../src/util/SingleFlight.ts"

type Store = CredentialStore["Service"]
type Storage = CredentialStorage["Service"]

/** What is put into a store: other options, or something around its storage, its provider or itself. */
export interface Plant {
  readonly options?: CredentialStoreOptions | undefined
  readonly storage?: ((storage: Storage) => Storage) | undefined
  readonly provider?: ((provider: CredentialProvider) => CredentialProvider) | undefined
  /** Around each store, for as long as the scope of the store is open. */
  readonly store?: ((store: Store) => Effect.Effect<Store, never, Scope.Scope>) | undefined
}

export interface Fault extends Plant {
  readonly name: string
}

export const faults: readonly [Fault, ...Array<Fault>] = [
  {
    name: "serves what has expired",
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
    provider: (provider) => ({ ...provider, clockOffset: Effect.succeed(0) })
  },
  { name: "serves what is older than maxStale", options: { maxStale: "1000 days" } },
  {
    name: "serves what was invalidated",
    store: (store) => Effect.succeed({ ...store, invalidate: () => Effect.void })
  },
  {
    name: "ignores that it is blocked",
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
    options: { policy: { recheck: Schedule.forever } }
  },
  {
    name: "asks twice at a time",
    provider: (provider) => ({
      ...provider,
      refresh: (credential) => twice(provider.refresh(credential)),
      fetch: (id) => twice(provider.fetch(id))
    })
  },
  {
    name: "asks without the lock",
    storage: (storage) => decorate(storage, { withLock: (_, effect) => effect })
  },
  {
    name: "ends a request when one of its callers leaves",
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
    store: (store) =>
      Effect.sync(() => {
        const flights = new SingleFlight<string, Credential, Effect.Error<ReturnType<Store["refresh"]>>>()
        return { ...store, refresh: (ref) => flights.run(ref, store.refresh(ref)) }
      })
  },
  {
    name: "forgets the rate limit",
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
  { name: "forgets the back-off", options: { policy: { backOff: Schedule.forever } } },
  { name: "waits without end", options: { deadline: "1 hour" } },
  {
    name: "lets an old answer undo what the program did",
    storage: (storage) =>
      decorate(storage, { save: (credential, { state } = {}) => storage.save(credential, { state }) })
  },
  {
    name: "lets what a sync fetched win over what is newer",
    storage: (storage) =>
      decorate(storage, { saveMany: (credentials, { state } = {}) => storage.saveMany(credentials, { state }) })
  },
  {
    name: "lets a sync overwrite the program's own",
    provider: (provider) => ({ ...provider, canHandle: () => true })
  },
  {
    name: "removes what one answer says is missing",
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

const isExpired = ({ expiresAt }: Credential, now: number): boolean =>
  expiresAt !== undefined && DateTime.toEpochMillis(expiresAt) < now

const twice = <A, E>(self: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.map(Effect.all([self, self], { concurrency: 2 }), ([first]) => first)
