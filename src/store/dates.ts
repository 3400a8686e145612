import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { FetchFailure } from "../errors/AdenError.ts"
import type { CredentialFailure } from "../errors/CredentialError.ts"
import type { Credential } from "../model/Credential.ts"
import type { CredentialState } from "../model/CredentialState.ts"
import { confirmationOf, lifetimeOf, localExpiry } from "../model/freshness.ts"
import type { CredentialProvider } from "../providers/CredentialProvider.ts"
import type { Cell } from "./Cell.ts"
import type { Circumstances } from "./core/decide.ts"
import { timeLeft } from "./core/decide.ts"
import { expiryOf } from "./core/Entry.ts"
import type { Taken } from "./core/transition.ts"
import { asOf, isRejected } from "./core/transition.ts"

/** A credential that is taken over, with its dates by the policies of its cell; `provider` is the one that renews it, if any. */
export const takingOver = Effect.fnUntraced(function*(cell: Cell, { clockOffset, credential, now, provider, state }: {
  readonly credential: Credential
  readonly state: CredentialState
  readonly provider: CredentialProvider | undefined
  readonly now: number
  readonly clockOffset: number
}): Effect.fn.Return<Taken> {
  const before = asOf(cell.entry, now).held
  const isSameToken = before?.credential.holdsTokenOf(credential) === true
  // what was asked here is known, whoever writes another record since
  const asked = isSameToken ? before.confirmedAt : -Infinity
  const known = confirmationOf(state, credential, now) ?? asked
  const confirmedAt = known === -Infinity ? now : Math.max(known, asked)
  if (provider === undefined) {
    const staleAt = yield* cell.step("confirm").until(now, { _tag: "Confirmed" })
    return { credential, providerId: undefined, dates: { confirmedAt, renewAt: Infinity, staleAt } }
  }
  const isRenewed = before?.owner === "provider"
  const staleAt = state.mayBeBlocked === true && !isSameToken
    ? now
    : isRenewed && before.confirmedAt === confirmedAt
    ? before.staleAt
    : yield* cell.step("confirm").until(confirmedAt, { _tag: "Confirmed" })
  if (isRenewed && isSameToken) {
    return { credential, providerId: provider.id, dates: { confirmedAt, renewAt: before.renewAt, staleAt } }
  }
  const life = lifetimeOf(credential, clockOffset)
  const renewAt = yield* cell.step("renew").until(now, {
    _tag: "Fetched",
    timeLeft: Duration.millis(localExpiry(credential, clockOffset) - now),
    life: life === undefined ? undefined : Duration.millis(life),
    buffer: provider.refreshBuffer
  })
  return { credential, providerId: provider.id, dates: { confirmedAt, renewAt: renewAt + clockOffset, staleAt } }
})

/**
 * When a token is asked about again that is due although it was just answered (Aden answered the same one, or one that is about to
 * expire): after half of the time that is left, at least 1 s.
 */
export const retryAfterAnswer = (
  renewAt: number,
  credential: Credential,
  { clockOffset, now }: Circumstances
): number =>
  now >= renewAt - clockOffset ? now + Math.max(1_000, (expiryOf(credential) - clockOffset - now) / 2) : -Infinity

/** When a provider may be asked about a credential again after a failure, by the policy of its cell. */
export const retryAfterFailure = (
  cell: Cell,
  error: CredentialFailure | FetchFailure,
  circumstances: Circumstances
): Effect.Effect<number> => {
  const { entry } = cell
  const isUsed = entry.held !== undefined && !isRejected(entry, entry.held.credential)
  return cell.step("backOff").until(circumstances.now, {
    _tag: "Failed",
    error: error._tag,
    retryAfter: error._tag === "RateLimited" ? error.retryAfter : undefined,
    timeLeft: Duration.millis(isUsed ? Math.max(0, timeLeft(entry, circumstances)) : 0)
  })
}
