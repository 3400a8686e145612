/**
 * Copies the entries of one storage to another. An entry is written only over one that was written before it, and only while
 * nobody else writes there, so that a copy can be stopped and run again, or run while programs use both.
 */
import * as Arr from "effect/Array"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { AdenConfigError, GenerationConflict, StorageIoFailed } from "../../errors/CredentialError.ts"
import type { CredentialStorageError, StorageFailure } from "../../errors/CredentialError.ts"
import type { CredentialState } from "../../model/CredentialState.ts"
import { documentOf, writtenAt } from "../format/HiveDocument.ts"
import type { StoredCredential } from "../format/HiveDocument.ts"
import { checkCredentialId, inOperation } from "../operation.ts"
import type { Copy, Entry, Place, Places } from "./Side.ts"

/**
 * What a migration tells of its work: `Found` first, with the number of entries, then one event for each of them.
 *
 * - `Copied`: the target has it now.
 * - `Unchanged`: the target had it already, or somebody deleted it at the source meanwhile.
 * - `Kept`: the target has a newer one, or deleted it.
 * - `Failed`: it cannot be opened at the source or at the target, or cannot be written. It is left as it is at both.
 */
export type MigrationEvent =
  | { readonly _tag: "Found"; readonly total: number }
  | { readonly _tag: "Copied"; readonly id: string; readonly location: string }
  | { readonly _tag: "Unchanged"; readonly id: string; readonly location: string }
  | {
    readonly _tag: "Kept"
    readonly id: string
    /** Where it is at the target. */
    readonly location: string
    readonly reason: "newer" | "deleted"
  }
  | {
    readonly _tag: "Failed"
    /** `undefined` where all of a tenant cannot be looked into. */
    readonly id: string | undefined
    readonly location: string
    readonly error: StorageFailure
  }

/** So many are read and written together. */
const batchSize = 64

/** How often the target is looked at anew that somebody else wrote meanwhile. */
const attempts = 5

export const migrate = (
  source: Places,
  target: Places
): Stream.Stream<MigrationEvent, AdenConfigError | CredentialStorageError> =>
  Stream.unwrap(Effect.gen(function*() {
    const tenants = yield* source.tenants
    const { ofTenant } = target
    if (tenants.length > 0 && ofTenant === undefined) return yield* noTenantsWithin
    const failed: Array<MigrationEvent> = []
    const pairs = [{ from: source.own, to: Effect.succeed(target.own) }]
    for (const { location, name, place } of tenants) {
      if (Result.isFailure(place)) failed.push({ _tag: "Failed", id: undefined, location, error: place.failure })
      else if (ofTenant !== undefined) pairs.push({ from: place.success, to: ofTenant(name) })
    }
    const counted = yield* Effect.forEach(pairs, (pair) => Effect.map(pair.from.ids, (ids) => ({ ...pair, ids })))
    const total = counted.reduce((sum, { ids }) => sum + ids.length, failed.length)
    return Stream.make<[MigrationEvent]>({ _tag: "Found", total }).pipe(
      Stream.concat(Stream.fromIterable(failed)),
      Stream.concat(Stream.flatMap(
        Stream.fromIterable(counted.filter(({ ids }) => ids.length > 0)),
        ({ from, ids, to }) => Stream.unwrap(Effect.map(to, (to) => migratePlace(from, to, ids)))
      ))
    )
  }))

const noTenantsWithin = new AdenConfigError({
  setting: "--to-namespace",
  detail: "is a tenant's, and the source has tenants of its own, which cannot be within another",
  remedy: "Name a namespace without a slash, or one tenant's directory or namespace as the source."
})

const migratePlace = (from: Place, to: Place, ids: ReadonlyArray<string>) =>
  Stream.fromIterable(Arr.chunksOf(ids, batchSize)).pipe(
    Stream.mapEffect((batch) => migrateBatch(from, to, batch)),
    Stream.flattenIterable,
    Stream.concat(Stream.fromEffectDrain(to.finish))
  )

interface Pending {
  readonly id: string
  readonly stored: StoredCredential
  readonly state: CredentialState
}

const migrateBatch = Effect.fnUntraced(function*(from: Place, to: Place, ids: ReadonlyArray<string>) {
  const events: Array<MigrationEvent> = []
  const fail = (id: string, location: string, error: StorageFailure) =>
    events.push({ _tag: "Failed", id, location, error })

  let pending: Array<Pending> = []
  for (const { content, id, location, state } of yield* from.read(ids)) {
    const checked = yield* Effect.result(inOperation("load", id)(checkCredentialId(id)))
    if (Result.isFailure(content)) fail(id, location, content.failure)
    else if (Result.isFailure(checked)) fail(id, location, checked.failure)
    else if (content.success === undefined) events.push({ _tag: "Unchanged", id, location })
    else pending.push({ id, stored: content.success, state })
  }

  for (let attempt = 0; pending.length > 0; attempt++) {
    const copies: Array<Copy & { readonly id: string; readonly location: string }> = []
    const targets = yield* to.read(pending.map(({ id }) => id))
    for (const [index, { id, state, stored }] of pending.entries()) {
      const entry = targets[index]
      if (entry === undefined) continue
      const { location } = entry
      if (Result.isFailure(entry.content)) fail(id, location, entry.content.failure)
      else {
        const decision = decide(stored, entry.content.success, entry)
        if (decision === "copy") copies.push({ id, location, stored, state, expected: entry.state.generation })
        else if (decision === "same") events.push({ _tag: "Unchanged", id, location })
        else events.push({ _tag: "Kept", id, location, reason: decision })
      }
    }
    const failures = yield* to.write(copies)
    pending = []
    for (const { id, location, state, stored } of copies) {
      const failure = failures.get(id)
      if (failure === undefined) events.push({ _tag: "Copied", id, location })
      else if (!(failure instanceof GenerationConflict)) fail(id, location, failure)
      else if (attempt < attempts) pending.push({ id, stored, state })
      else {
        const detail = "another program writes it all the time"
        const tooBusy = inOperation("save", id)(Effect.fail(new StorageIoFailed({ location, detail })))
        fail(id, location, yield* Effect.flip(tooBusy))
      }
    }
  }
  return events
})

/** Times are in the documents, encrypted with them: nobody without the key makes an older one pass for newer. */
const decide = (
  stored: StoredCredential,
  there: StoredCredential | undefined,
  { state }: Entry
): "copy" | "same" | "newer" | "deleted" => {
  if (there === undefined) return isDeleted(state) ? "deleted" : "copy"
  if (documentOf(there) === documentOf(stored)) return "same"
  const [mine, theirs] = [writtenAt(stored), writtenAt(there)]
  return mine !== undefined && theirs !== undefined && DateTime.isLessThan(theirs, mine) ? "copy" : "newer"
}

/** Of a deleted entry the count alone is left. One that was counted and not yet written says whose account it is to be. */
const isDeleted = ({ account, generation }: CredentialState): boolean => generation > 0 && account === undefined
