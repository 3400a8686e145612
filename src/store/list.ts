import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { CredentialStorageError } from "../errors/StorageError.ts"
import { accountOf } from "../model/Credential.ts"
import type {
  Credential,
  CredentialAccount,
  CredentialIdentity,
  CredentialIssuer,
  CredentialRef,
  CredentialType
} from "../model/Credential.ts"
import { CredentialState } from "../model/CredentialState.ts"
import type { CredentialStorage } from "../storage/CredentialStorage.ts"
import { isShown, shownName } from "../util/sanitize.ts"
import { isProgramsOwn } from "./core/Entry.ts"

/**
 * A summary of a stored credential, without secrets. `unreadable`: what is stored cannot be opened. `provider` and `alias` are
 * for people, without control and invisible characters; `ref` and `id` identify it in the store, so an id is exactly as stored.
 *
 * @since 0.1.0
 * @category models
 */
export interface CredentialSummary {
  /** The shortest ref that identifies it: its provider, `provider:alias`, or its id. */
  readonly ref: CredentialRef
  readonly id: string
  readonly type: CredentialType | undefined
  readonly provider: string | undefined
  readonly alias: string | undefined
  readonly status: "active" | "expired" | "requires_reauth" | "unreadable"
  /** `undefined` if it does not expire. */
  readonly expiresAt: DateTime.Utc | undefined
  /** `undefined` if it does not say who issued it. */
  readonly issuer: CredentialIssuer | undefined
}

/**
 * A stored account of a provider.
 *
 * @since 0.1.0
 * @category models
 */
export interface StoredAccount {
  readonly ref: CredentialRef
  readonly id: string
  readonly alias: string | undefined
  readonly identity: CredentialIdentity
}

type Storage = CredentialStorage["Service"]

/** A summary, with the names that refs are compared with. */
interface Summarized {
  readonly account: CredentialAccount
  readonly summary: CredentialSummary
}

/** What storage has, each with the shortest ref that names it. */
const summariesOf = (storage: Storage): Effect.Effect<ReadonlyArray<Summarized>, CredentialStorageError> =>
  Effect.gen(function*() {
    const now = yield* DateTime.now
    const summaries = yield* Effect.forEach(yield* storage.list, (id) => summaryOf(storage, id, now), {
      concurrency: 16
    })
    return withRefs(summaries.filter((summary) => summary !== undefined))
  })

/**
 * What is stored, for `list`.
 *
 * @internal
 */
export const listOf = (storage: Storage): Effect.Effect<ReadonlyArray<CredentialSummary>, CredentialStorageError> =>
  Effect.map(summariesOf(storage), (all) => all.map(({ summary }) => summary))

/**
 * The stored accounts of a provider.
 *
 * @internal
 */
export const accountsOf = Effect.fnUntraced(function*(storage: Storage, provider: string) {
  const ofProvider = (yield* summariesOf(storage)).filter(({ account }) => account.provider === provider)
  const found = yield* Effect.forEach(ofProvider, ({ summary: { alias, id, ref } }) =>
    Effect.map(
      Effect.orElseSucceed(storage.load(id), () => Option.none<Credential>()),
      Option.map((credential): StoredAccount => ({ ref, id, alias, identity: credential.identity }))
    ))
  return found.flatMap((one) => Option.toArray(one))
})

/** `undefined` when it was deleted since it was listed. What cannot be read does not keep the others from being listed. */
const summaryOf = (
  storage: Storage,
  id: string,
  now: DateTime.Utc
): Effect.Effect<Summarized | undefined, CredentialStorageError> => {
  const unreadable = Effect.map(
    Effect.orElseSucceed(storage.loadState(id), () => CredentialState.initial),
    ({ account, issuer }): Summarized => ({
      account: { id, provider: account?.provider, alias: account?.alias },
      summary: {
        ref: id,
        id,
        type: undefined,
        provider: shownName(account?.provider),
        alias: shownName(account?.alias),
        status: "unreadable",
        expiresAt: undefined,
        issuer
      }
    })
  )
  return Effect.gen(function*() {
    const { credential: stored, state } = yield* storage.read(id)
    if (Option.isNone(stored)) return undefined
    const { alias, expiresAt, integrationType, issuer, type } = stored.value
    const summary: CredentialSummary = {
      ref: id,
      id,
      type,
      provider: integrationType,
      alias,
      expiresAt,
      issuer,
      status: state.blockedSince !== undefined && !isProgramsOwn(stored.value)
        ? "requires_reauth"
        : expiresAt !== undefined && DateTime.isLessThanOrEqualTo(expiresAt, now)
        ? "expired"
        : "active"
    }
    return { account: { ...accountOf(stored.value), id }, summary }
  }).pipe(
    Effect.catchTags({
      CredentialDecryptionFailed: () => unreadable,
      CredentialStorageError: (error) =>
        error.reason._tag === "StorageIoFailed" || error.reason._tag === "StorageInsecure"
          ? unreadable
          : Effect.fail(error)
    })
  )
}

/** Gives each the shortest ref that names it alone, and is shown as it is: its provider, `provider:alias`, or its id. */
const withRefs = (all: ReadonlyArray<Summarized>): ReadonlyArray<Summarized> => {
  const uses = new Map<string, number>()
  const count = (ref: string) => uses.set(ref, (uses.get(ref) ?? 0) + 1)
  const ids = new Set(all.map(({ summary }) => summary.id))
  // which could be another account of any provider
  const isAnyUnknown = all.some(({ account, summary }) =>
    summary.status === "unreadable" && account.provider === undefined
  )
  for (const { account: { alias, provider } } of all) {
    if (provider === undefined) continue
    count(provider)
    if (isAnyUnknown) count(provider)
    if (alias !== undefined) count(`${provider}:${alias}`)
  }
  return all.map(({ account, summary }) => {
    const { alias, id, provider } = account
    const refs = !isShown(provider) ? [] : isShown(alias) ? [provider, `${provider}:${alias}`] : [provider]
    const ref = refs.find((ref) => ref === id || (uses.get(ref) === 1 && !ids.has(ref))) ?? id
    return { account, summary: { ...summary, ref } }
  }).toSorted((a, b) => a.summary.ref < b.summary.ref ? -1 : 1)
}
