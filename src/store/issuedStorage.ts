/**
 * Several issuers over one storage: what another Aden, or another tenant, issued does not exist for a store, and is never overwritten or
 * removed. Where it has the place of an id, the store's own credential of that id is in a second one.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import {
  CredentialDecryptionFailed,
  CredentialStorageError,
  GenerationConflict,
  StorageIoFailed,
  StorageRefused
} from "../errors/StorageError.ts"
import type { StorageFailure } from "../errors/StorageError.ts"
import { Credential, isSameIssuer } from "../model/Credential.ts"
import type { CredentialIssuer } from "../model/Credential.ts"
import { CredentialState } from "../model/CredentialState.ts"
import type { CredentialProviders } from "../providers/CredentialProvider.ts"
import type { CredentialStorage, StorageChange, StoredEntry } from "../storage/CredentialStorage.ts"
import { RemoteLoadAllowed, StorageDecorator } from "../storage/decorate.ts"
import { Broadcast } from "../util/Broadcast.ts"
import { logWarning } from "../util/logging.ts"
import { cleanText } from "../util/sanitize.ts"

type Storage = CredentialStorage["Service"]

/** Each failed attempt means that another writer succeeded. */
const attempts = 32

/** A second place of an id, for this issuer. No file has it as its plain name. */
const secondPlace = (id: string, { name, tenantId }: CredentialIssuer): string =>
  `~${JSON.stringify(tenantId === undefined ? [id, name] : [id, name, tenantId])}`

/** The second places of an id, in their order: the first does not depend on a tenant that is only learnt later. */
const secondPlacesOf = (id: string, { name, tenantId }: CredentialIssuer): ReadonlyArray<string> => {
  const ofServer = secondPlace(id, { name })
  return tenantId === undefined ? [ofServer] : [ofServer, secondPlace(id, { name, tenantId })]
}

/** The id, and whose place it is, of a second place; `undefined` of any other id. */
export const ofSecondPlace = (
  place: string
): { readonly id: string; readonly issuer: CredentialIssuer } | undefined => {
  if (!place.startsWith("~[")) return undefined
  const parts = Option.getOrUndefined(Option.liftThrowable((text: string): unknown => JSON.parse(text))(place.slice(1)))
  if (!Array.isArray(parts) || !parts.every(Predicate.isString)) return undefined
  const [id, name, tenantId] = parts
  if (id === undefined || name === undefined) return undefined
  const issuer = tenantId === undefined ? { name } : { name, tenantId }
  return secondPlace(id, issuer) === place ? { id, issuer } : undefined
}

/** Who issued what is stored; without a credential, from whom it was learnt. */
export const issuerOf = ({ credential, state }: StoredEntry): CredentialIssuer | undefined =>
  Option.match(credential, { onNone: () => state.issuer, onSome: ({ issuer }) => issuer })

/** The storage as it is for these providers and issuers. Where there is no issuer among them, it is used whole. */
export const issuedStorage = (
  storage: Storage,
  { all, issuers: further = [] }: CredentialProviders["Service"]
): Storage => {
  const issuers = [
    ...all.flatMap(({ issuer }) => issuer === undefined ? [] : [issuer]),
    ...further.map((issuer) => Effect.succeed(issuer))
  ]
  return issuers.length === 0 ? storage : new IssuedStorage(storage, issuers)
}

/** Where the store's credential of an id is, or belongs, and what is there. */
interface Located {
  readonly place: string
  readonly entry: StoredEntry
  /** Whether it cannot be stored at all: other issuers have all its places. */
  readonly isBarred: boolean
}

const nothing: StoredEntry = { credential: Option.none(), state: CredentialState.initial }

class IssuedStorage extends StorageDecorator {
  readonly #sources: ReadonlyArray<Effect.Effect<CredentialIssuer>>
  /** The issuers, as they were last known. */
  #issuers: ReadonlyArray<CredentialIssuer> = []
  /** Where credentials are that have a second place, by id, as last read. */
  readonly #places = new Map<string, string>()
  #hasWarned = false

  constructor(inner: Storage, sources: ReadonlyArray<Effect.Effect<CredentialIssuer>>) {
    super(inner)
    this.#sources = sources
  }

  // whose it is ---------------------------------------------------------------------------------------------------------

  /** A tenant may have been learnt since. */
  #learn(): Effect.Effect<void> {
    return Effect.map(Effect.all(this.#sources), (issuers) => {
      this.#issuers = issuers
    })
  }

  #isOwn(issuer: CredentialIssuer | undefined): boolean {
    return issuer === undefined || this.#issuers.some((own) => isSameIssuer(own, issuer))
  }

  /** What the program saves of another issuer's is the program's own. */
  #owned(credential: Credential): Credential {
    return this.#isOwn(credential.issuer) ? credential : new Credential({ ...credential, issuer: undefined })
  }

  #warn(id: string, issuer: CredentialIssuer): Effect.Effect<void> {
    if (this.#hasWarned) return Effect.void
    this.#hasWarned = true
    return logWarning(
      "The storage also holds credentials of another issuer. They are left alone; those that name no issuer are used"
    ).pipe(Effect.annotateLogs({
      credential: cleanText(id),
      issuer: cleanText(issuer.name),
      ...(issuer.tenantId === undefined ? {} : { tenant: cleanText(issuer.tenantId) })
    }))
  }

  // where it is ---------------------------------------------------------------------------------------------------------

  /** One read; a second round for an id that was deleted, or has another issuer's credential in its place. */
  #locate(id: string): Effect.Effect<Located, StorageFailure> {
    return Effect.gen({ self: this }, function*() {
      yield* this.#learn()
      const entry = yield* this.inner.read(id)
      const issuer = issuerOf(entry)
      const isOwn = this.#isOwn(issuer)
      if (!isOwn && issuer !== undefined) yield* this.#warn(id, issuer)
      const isFirst = isOwn && (Option.isSome(entry.credential) || entry.state.generation === 0)
      const isSecond = ofSecondPlace(id) !== undefined
      const second = isFirst || isSecond ? undefined : yield* this.#locateSecond(id, isOwn)
      const located = second ?? { place: id, entry: isOwn ? entry : nothing, isBarred: !isOwn }
      if (located.place === id) this.#places.delete(id)
      else this.#places.set(id, located.place)
      return located
    })
  }

  /** The second place that has it, or the one that it is to have where the first is not the store's. */
  #locateSecond(id: string, isFirstOwn: boolean): Effect.Effect<Located | undefined, StorageFailure> {
    return Effect.gen({ self: this }, function*() {
      const entries = yield* Effect.forEach(
        new Set(this.#issuers.flatMap((issuer) => secondPlacesOf(id, issuer))),
        (place) => Effect.map(this.inner.read(place), (entry) => ({ place, entry })),
        { concurrency: "unbounded" }
      ).pipe(Effect.provideService(RemoteLoadAllowed, false))
      let free: Located | undefined
      for (const { entry, place } of entries) {
        if (!this.#isOwn(issuerOf(entry))) continue
        const { credential, state } = entry
        const located = {
          place,
          entry: { credential: Option.map(credential, (one) => new Credential({ ...one, id })), state },
          isBarred: false
        }
        if (Option.isSome(credential)) return located
        free ??= located
      }
      // what was deleted in a second place stays there: its generation fences late writes
      if (free !== undefined) return isFirstOwn && free.entry.state.generation === 0 ? undefined : free
      return isFirstOwn ? undefined : { place: id, entry: nothing, isBarred: true }
    })
  }

  #locateStored(id: string): Effect.Effect<Located, StorageFailure> {
    return Effect.provideService(this.#locate(id), RemoteLoadAllowed, false)
  }

  /** Where a write goes that expects a generation: that was read from the same place. */
  #placeOf(id: string): string {
    return this.#places.get(id) ?? id
  }

  #placed(credential: Credential): Credential {
    const { id } = credential
    const place = this.#placeOf(id)
    const owned = this.#owned(credential)
    return place === id ? owned : new Credential({ ...owned, id: place })
  }

  // reading -------------------------------------------------------------------------------------------------------------

  override read(id: string) {
    return Effect.mapError(Effect.map(this.#locate(id), ({ entry }) => entry), (error) => named(error, id))
  }

  override load(id: string) {
    return Effect.map(this.read(id), ({ credential }) => credential)
  }

  override loadState(id: string) {
    return Effect.matchEffect(this.#locateStored(id), {
      onSuccess: ({ entry }) => Effect.succeed(entry.state),
      onFailure: (error) =>
        error instanceof CredentialDecryptionFailed
          ? this.inner.loadState(this.#placeOf(id))
          : Effect.fail(named(error, id))
    })
  }

  override exists(id: string) {
    return Effect.matchEffect(this.#locateStored(id), {
      onSuccess: ({ entry }) => Effect.succeed(Option.isSome(entry.credential)),
      onFailure: (error) =>
        error instanceof CredentialDecryptionFailed ? Effect.succeed(true) : Effect.fail(named(error, id))
    })
  }

  /**
   * Ids of which the store may have a credential: those whose first place is another issuer's are among them, and turn out to be absent
   * when they are read.
   */
  override get list() {
    return Effect.gen({ self: this }, function*() {
      yield* this.#learn()
      const ids = new Set<string>()
      for (const place of yield* this.inner.list) {
        const second = ofSecondPlace(place)
        if (second === undefined) ids.add(place)
        else if (this.#isOwn(second.issuer)) ids.add(second.id)
      }
      return Array.from(ids)
    })
  }

  // writing -------------------------------------------------------------------------------------------------------------

  override save(...[credential, options]: Parameters<Storage["save"]>) {
    const { id } = credential
    return Effect.mapError(
      options?.expectedGeneration === undefined
        ? this.#overwrite(credential, options?.state)
        : Effect.andThen(this.#learn(), Effect.suspend(() => this.inner.save(this.#placed(credential), options))),
      (error) => named(error, id)
    )
  }

  /** By compare-and-swap even so: what another issuer stores in that moment is not overwritten. */
  #overwrite(
    credential: Credential,
    state: CredentialState | undefined
  ): Effect.Effect<number, StorageFailure | GenerationConflict> {
    return Effect.gen({ self: this }, function*() {
      const { id } = credential
      for (let attempt = 0; attempt < attempts; attempt++) {
        const { entry, isBarred } = yield* this.#locateStored(id)
        if (isBarred) {
          return yield* new CredentialStorageError({
            id,
            operation: "save",
            reason: new StorageRefused({ detail: "its place belongs to another issuer" })
          })
        }
        const expectedGeneration = entry.state.generation
        const saved = yield* Effect.result(this.inner.save(this.#placed(credential), { expectedGeneration, state }))
        if (Result.isSuccess(saved)) return saved.success
        if (!(saved.failure instanceof GenerationConflict)) return yield* saved.failure
      }
      return yield* tooBusy("save", id)
    })
  }

  override saveMany(...[credentials, options]: Parameters<Storage["saveMany"]>) {
    return Effect.gen({ self: this }, function*() {
      yield* this.#learn()
      const failures = new Map<string, StorageFailure | GenerationConflict>()
      const placed: Array<Credential> = []
      const ids = new Map<string, string>()
      const expectedGenerations = new Map<string, number>()
      for (const credential of credentials) {
        const { id } = credential
        const expectedGeneration = options?.expectedGenerations?.get(id)
        if (expectedGeneration === undefined) {
          const saved = yield* Effect.result(this.save(credential, { state: options?.state }))
          if (Result.isFailure(saved)) failures.set(id, saved.failure)
          continue
        }
        const one = this.#placed(credential)
        placed.push(one)
        ids.set(one.id, id)
        expectedGenerations.set(one.id, expectedGeneration)
      }
      if (placed.length === 0) return failures
      for (
        const [place, failure] of yield* this.inner.saveMany(placed, { expectedGenerations, state: options?.state })
      ) {
        const id = ids.get(place) ?? place
        failures.set(id, named(failure, id))
      }
      return failures
    })
  }

  override saveState(...[id, state, options]: Parameters<Storage["saveState"]>) {
    return Effect.gen({ self: this }, function*() {
      if (options?.expectedGeneration === undefined) yield* Effect.exit(this.#locateStored(id))
      yield* this.#learn()
      const [sole, ...others] = this.#issuers
      const learnt = others.length > 0 || state.issuer !== undefined
        ? state
        : new CredentialState({ ...state, issuer: sole })
      return yield* this.inner.saveState(this.#placeOf(id), learnt, options)
    }).pipe(Effect.mapError((error) => named(error, id)))
  }

  override delete(...[id, options]: Parameters<Storage["delete"]>) {
    return Effect.mapError(
      options?.expectedGeneration === undefined
        ? this.#remove(id)
        : Effect.suspend(() => this.inner.delete(this.#placeOf(id), options)),
      (error) => named(error, id)
    )
  }

  /** What cannot be opened does not say whose it is. It is deleted, because a person asked for it. */
  #remove(id: string): Effect.Effect<boolean, CredentialStorageError> {
    return Effect.gen({ self: this }, function*() {
      for (let attempt = 0; attempt < attempts; attempt++) {
        const located = yield* Effect.result(this.#locateStored(id))
        if (Result.isFailure(located)) {
          return located.failure instanceof CredentialDecryptionFailed
            ? yield* this.inner.delete(this.#placeOf(id))
            : yield* located.failure
        }
        const { entry: { credential, state: { generation: expectedGeneration } }, place } = located.success
        if (Option.isNone(credential)) return false
        if (yield* this.inner.delete(place, { expectedGeneration })) return true
      }
      return yield* tooBusy("delete", id)
    })
  }

  // following -----------------------------------------------------------------------------------------------------------

  override get changes(): Storage["changes"] {
    const { changes } = this.inner
    const mine = (change: StorageChange): StorageChange => {
      const second = ofSecondPlace(change.id)
      return second === undefined || this.#places.get(second.id) !== change.id ? change : { ...change, id: second.id }
    }
    return changes instanceof Broadcast ? changes.map(mine) : Stream.map(changes, mine)
  }
}

const tooBusy = (operation: string, id: string): CredentialStorageError =>
  new CredentialStorageError({
    id,
    operation,
    reason: new StorageIoFailed({ location: "The credential storage", detail: "another program keeps writing it" })
  })

/** A failure of a second place is one of its id. */
function named(error: CredentialStorageError, id: string): CredentialStorageError
function named(error: StorageFailure, id: string): StorageFailure
function named(error: StorageFailure | GenerationConflict, id: string): StorageFailure | GenerationConflict
function named(error: StorageFailure | GenerationConflict, id: string): StorageFailure | GenerationConflict {
  if (error.id === undefined || error.id === id) return error
  switch (error._tag) {
    case "CredentialDecryptionFailed":
      return new CredentialDecryptionFailed({ id, location: error.location, detail: error.detail })
    case "CredentialStorageError":
      return new CredentialStorageError({ id, operation: error.operation, reason: error.reason })
    case "GenerationConflict":
      return new GenerationConflict({ id, expected: error.expected, actual: error.actual })
  }
}
