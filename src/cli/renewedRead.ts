/**
 * How commands read a credential that they print.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"
import type { CredentialRef } from "../Credential.ts"
import { CredentialStore } from "../CredentialStore.ts"
import { storeAfterwards, storeWithAden } from "./layers.ts"

/**
 * What the ref names, renewed first where it is due, confirmed first where it is stale. A store answers at once what has not
 * expired, and when it closes it gives what it renews 5 s to end: a person gets what stands in the cache then. Where Aden has
 * not answered, that is what stood there before, with a warning.
 */
export const renewedRead = Effect.fnUntraced(function*(ref: CredentialRef) {
  const hasWarned = yield* Ref.make(false)
  const start = yield* Clock.currentTimeMillis
  const first = yield* Effect.provide(readAtOnce(ref, hasWarned), storeWithAden)
  return first.isRenewing
    ? yield* Effect.provide(readAfterwards(ref, hasWarned, start), storeAfterwards)
    : first.credential
})

const readAtOnce = Effect.fnUntraced(function*(ref: CredentialRef, hasWarned: Ref.Ref<boolean>) {
  const store = yield* CredentialStore
  const isRenewing = yield* store.explain(ref).pipe(
    Effect.map(({ coolDownLeft, status }) => coolDownLeft === undefined && (status === "due" || status === "stale")),
    // a read says better what is wrong
    Effect.orElseSucceed(() => false)
  )
  yield* store.changes.pipe(
    Stream.runForEach((event) => event._tag === "ServedStale" ? Ref.set(hasWarned, true) : Effect.void),
    Effect.forkChild({ startImmediately: true })
  )
  return { credential: yield* store.get(ref), isRenewing }
})

const readAfterwards = Effect.fnUntraced(function*(ref: CredentialRef, hasWarned: Ref.Ref<boolean>, start: number) {
  const store = yield* CredentialStore
  const credential = yield* store.get(ref)
  const { age } = yield* store.explain(ref)
  // the age of what Aden never answered counts from when it was first read
  const isConfirmed = credential.lastRefreshed !== undefined &&
    (yield* Clock.currentTimeMillis) - Duration.toMillis(age) >= start
  if (!isConfirmed && !(yield* Ref.get(hasWarned))) {
    yield* Effect.logWarning("Serving a cached credential that Aden did not confirm in time").pipe(
      Effect.annotateLogs({ credential: credential.id })
    )
  }
  return credential
})
