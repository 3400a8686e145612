/**
 * What a storage holds that is another issuer's, and whose it is to be.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { CredentialStorageError, GenerationConflict, StorageFailure } from "../errors/StorageError.ts"
import { Credential, isSameIssuer } from "../model/Credential.ts"
import type { CredentialIssuer } from "../model/Credential.ts"
import { CredentialState } from "../model/CredentialState.ts"
import type { CredentialStorage } from "../storage/CredentialStorage.ts"
import { issuedStorage, ofSecondPlace } from "./issuedStorage.ts"
import { listOf } from "./list.ts"
import type { CredentialSummary } from "./list.ts"

type Storage = CredentialStorage["Service"]

/** Summaries of what other issuers than this one have stored, each under the id that it is stored under; none where nobody is configured. */
export const summariesOfOthers = (
  storage: Storage,
  own: CredentialIssuer | undefined
): Effect.Effect<ReadonlyArray<CredentialSummary>, CredentialStorageError> =>
  own === undefined
    ? Effect.succeed([])
    : Effect.map(listOf(storage), (all) =>
      all.flatMap((summary) =>
        summary.issuer === undefined || isSameIssuer(summary.issuer, own) ? [] : [{ ...summary, ref: summary.id }]
      ))

/** What became of a credential of another issuer. */
export type Adoption =
  | { readonly _tag: "Done"; readonly issuer: CredentialIssuer }
  /** There is none of another issuer under this id. */
  | { readonly _tag: "Missing" }
  /** The own credential of that id would be replaced. */
  | { readonly _tag: "Taken"; readonly id: string }

/** What another issuer stored under this id, as `summariesOfOthers` names it, becomes the own one's, or is deleted. */
export const adopt = (
  storage: Storage,
  id: string,
  options: { readonly own: CredentialIssuer; readonly deletes: boolean }
): Effect.Effect<Adoption, StorageFailure> =>
  Effect.gen(function*(): Effect.fn.Return<Adoption, StorageFailure | GenerationConflict> {
    const { own } = options
    const { credential, state: { generation: expectedGeneration } } = yield* storage.read(id)
    const issuer = Option.getOrUndefined(credential)?.issuer
    if (Option.isNone(credential) || issuer === undefined || isSameIssuer(issuer, own)) return { _tag: "Missing" }
    if (options.deletes) {
      return (yield* storage.delete(id, { expectedGeneration })) ? { _tag: "Done", issuer } : { _tag: "Missing" }
    }
    const logicalId = ofSecondPlace(id)?.id ?? id
    const ofOwn = issuedStorage(storage, { all: [], issuers: [own] })
    if (Option.isSome((yield* ofOwn.read(logicalId)).credential)) return { _tag: "Taken", id: logicalId }
    const adopted = new Credential({ ...credential.value, id: logicalId, issuer: own })
    // when the other's Aden last confirmed it says nothing about the own one
    const state = CredentialState.initial
    if (logicalId === id) yield* storage.save(adopted, { expectedGeneration, state })
    else {
      yield* ofOwn.save(adopted, { state })
      yield* storage.delete(id, { expectedGeneration })
    }
    return { _tag: "Done", issuer }
  }).pipe(
    // another writer was faster
    Effect.catchTag("GenerationConflict", () => adopt(storage, id, options))
  )
