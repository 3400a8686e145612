/**
 * Copies the entries of one storage to another. An entry replaces only an older one, by compare-and-swap, so that a migration can
 * be stopped and run again, or run while programs use both storages.
 */
import * as Arr from "effect/Array"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { AdenConfigError } from "../../errors/ConfigError.ts"
import { GenerationConflict, StorageIoFailed } from "../../errors/StorageError.ts"
import type { CredentialStorageError, StorageFailure } from "../../errors/StorageError.ts"
import type { CredentialState } from "../../model/CredentialState.ts"
import { documentText, writtenAt } from "../format/HiveDocument.ts"
import type { HiveDocument } from "../format/HiveDocument.ts"
import { asStorageError, checkCredentialId } from "../operation.ts"
import type { Copy, Entry, Side, Sides } from "./Side.ts"

/**
 * The progress of a migration: `Found` first, with the number of entries, then one event for each of them.
 *
 * - `Copied`: the entry was copied to the target.
 * - `Unchanged`: the target had it already, or it was deleted at the source since the start.
 * - `Kept`: the target has a newer one, or deleted it.
 * - `Failed`: it cannot be decrypted at the source or at the target, or cannot be written. Both are left unchanged.
 */
export type MigrationEvent =
  | { readonly _tag: "Found"; readonly total: number }
  | { readonly _tag: "Copied"; readonly id: string; readonly location: string }
  | { readonly _tag: "Unchanged"; readonly id: string; readonly location: string }
  | {
    readonly _tag: "Kept"
    readonly id: string
    /** The location at the target. */
    readonly location: string
    readonly reason: "newer" | "deleted"
  }
  | {
    readonly _tag: "Failed"
    /** `undefined` when a whole tenant cannot be read. */
    readonly id: string | undefined
    readonly location: string
    readonly error: StorageFailure
  }

/** How many entries are read and written together. */
const batchSize = 64

/** How often an entry is retried after another writer changed it at the target. */
const attempts = 5

export const migrate = (
  source: Sides,
  target: Sides
): Stream.Stream<MigrationEvent, AdenConfigError | CredentialStorageError> =>
  Stream.unwrap(Effect.gen(function*() {
    const tenants = yield* source.tenants
    const { ofTenant } = target
    if (tenants.length > 0 && ofTenant === undefined) return yield* noTenantsWithin
    const failed: Array<MigrationEvent> = []
    const pairs = [{ from: source.own, to: Effect.succeed(target.own) }]
    for (const { location, name, side } of tenants) {
      if (Result.isFailure(side)) failed.push({ _tag: "Failed", id: undefined, location, error: side.failure })
      else if (ofTenant !== undefined) pairs.push({ from: side.success, to: ofTenant(name) })
    }
    const counted = yield* Effect.forEach(pairs, (pair) => Effect.map(pair.from.ids, (ids) => ({ ...pair, ids })))
    const total = counted.reduce((sum, { ids }) => sum + ids.length, failed.length)
    return Stream.make<[MigrationEvent]>({ _tag: "Found", total }).pipe(
      Stream.concat(Stream.fromIterable(failed)),
      Stream.concat(Stream.flatMap(
        Stream.fromIterable(counted.filter(({ ids }) => ids.length > 0)),
        ({ from, ids, to }) => Stream.unwrap(Effect.map(to, (to) => migrateSide(from, to, ids)))
      ))
    )
  }))

const noTenantsWithin = new AdenConfigError({
  setting: "--to-namespace",
  detail: "is a tenant's, but the source has tenants of its own, and tenants cannot be nested",
  remedy: "Name a namespace without a slash, or one tenant's directory or namespace as the source."
})

const migrateSide = (from: Side, to: Side, ids: ReadonlyArray<string>) =>
  Stream.fromIterable(Arr.chunksOf(ids, batchSize)).pipe(
    Stream.mapEffect((batch) => migrateBatch(from, to, batch)),
    Stream.flattenIterable,
    Stream.concat(Stream.fromEffectDrain(to.finish))
  )

interface Pending {
  readonly id: string
  readonly stored: HiveDocument
  readonly state: CredentialState
}

const migrateBatch = Effect.fnUntraced(function*(from: Side, to: Side, ids: ReadonlyArray<string>) {
  const events: Array<MigrationEvent> = []
  const fail = (id: string, location: string, error: StorageFailure) =>
    events.push({ _tag: "Failed", id, location, error })

  let pending: Array<Pending> = []
  for (const { content, id, location, state } of yield* from.read(ids)) {
    const checked = yield* Effect.result(asStorageError("load", id)(checkCredentialId(id)))
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
        const detail = "another program keeps writing it"
        const tooBusy = asStorageError("save", id)(Effect.fail(new StorageIoFailed({ location, detail })))
        fail(id, location, yield* Effect.flip(tooBusy))
      }
    }
  }
  return events
})

/** By the times in the encrypted documents: without the key, no one can make an older document pass for a newer one. */
const decide = (
  stored: HiveDocument,
  there: HiveDocument | undefined,
  { state }: Entry
): "copy" | "same" | "newer" | "deleted" => {
  if (there === undefined) return isDeleted(state) ? "deleted" : "copy"
  if (documentText(there) === documentText(stored)) return "same"
  const [mine, theirs] = [writtenAt(stored), writtenAt(there)]
  return mine !== undefined && theirs !== undefined && DateTime.isLessThan(theirs, mine) ? "copy" : "newer"
}

/** Whether a state is a tombstone: a generation without an account. A state whose credential is not written yet has an account. */
const isDeleted = ({ account, generation }: CredentialState): boolean => generation > 0 && account === undefined
