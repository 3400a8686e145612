import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Credential } from "../model/Credential.ts"
import type { CredentialState } from "../model/CredentialState.ts"
import { confirmationOf, lifetimeOf, localExpiry } from "../model/freshness.ts"
import type { CredentialProvider } from "../providers/CredentialProvider.ts"
import type { Cell } from "./Cell.ts"
import type { Taken } from "./core/transition.ts"
import { asOf } from "./core/transition.ts"

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
  const confirmedAt = confirmationOf(state, credential, now) ?? (isSameToken ? before.confirmedAt : now)
  if (provider === undefined) {
    const staleAt = yield* cell.step("confirm").until(now, { _tag: "Confirmed" })
    return { credential, providerId: undefined, dates: { confirmedAt, renewAt: Infinity, staleAt } }
  }
  const isRenewed = before?.owner === "provider"
  const staleAt = isRenewed && before.confirmedAt === confirmedAt
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
