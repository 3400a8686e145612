/** What a program does with a store besides reading from it, as functions of the store's parts: they are made once for all stores. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { CredentialNotFound, NoProvider, ReauthorizationTimeout } from "../errors/CredentialError.ts"
import type { Credential, CredentialRef } from "../model/Credential.ts"
import type { SyncEvent, SyncSkipped } from "../model/CredentialEvent.ts"
import { durationSetting } from "../model/settings.ts"
import type { Engine } from "./Engine.ts"
import { explanationOf } from "./explain.ts"
import type { Follow } from "./follow.ts"
import { accountsOf, listOf } from "./list.ts"
import type { Synchronization } from "./sync.ts"

/** What a store is made of. */
export interface StoreParts extends Engine {
  readonly synchronization: Synchronization
  readonly follow: Follow
}

/** How long the last check of a wait for a re-authorization may take. */
const lastCheckTimeout = "5 seconds"

export const save = Effect.fn("CredentialStore.save")(function*(
  { commit, listings }: StoreParts,
  credential: Credential
) {
  yield* Effect.annotateCurrentSpan({ "credential.id": credential.id })
  yield* commit.save(credential)
  listings.expire()
})

export const remove = Effect.fn("CredentialStore.delete")(function*(
  { commit, resolver }: StoreParts,
  ref: CredentialRef
) {
  yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
  if (ref === "") return false
  return yield* commit.delete((yield* resolver.storedId(ref)) ?? ref)
})

export const list = Effect.fn("CredentialStore.list")(({ entries }: StoreParts) => listOf(entries.storage))

export const accounts = Effect.fn("CredentialStore.accounts")(({ entries }: StoreParts, provider: string) =>
  accountsOf(entries.storage, provider)
)

export const refresh = Effect.fn("CredentialStore.refresh")(function*(
  { entries, refresher, resolver }: StoreParts,
  ref: CredentialRef
) {
  yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
  if (entries.providers.length === 0) return yield* new NoProvider({})
  return yield* resolver.use(ref, (cell) => refresher.force(cell, ref))
}, (effect, { refresher }, ref) => refresher.withinDeadline(ref)(effect))

export const validate = Effect.fn("CredentialStore.validate")(function*(
  { refresher, resolver }: StoreParts,
  ref: CredentialRef
) {
  yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
  return yield* resolver.use(ref, (cell) => refresher.validate(cell))
}, (effect, { refresher }, ref) => refresher.withinDeadline(ref)(effect))

export const invalidate = Effect.fn("CredentialStore.invalidate")(function*(
  { entries, resolver }: StoreParts,
  ref: CredentialRef
) {
  yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
  // one that is not stored may be asked for at this moment: that answer is not to be kept either
  const cell = (yield* resolver.findStored(ref)) ?? entries.get(ref)
  if (cell !== undefined) {
    yield* entries.change(cell, { _tag: "Rejected", token: cell.entry.credential?.defaultKey?.value })
  }
})

export const explain = Effect.fn("CredentialStore.explain")(function*(
  { entries, resolver }: StoreParts,
  ref: CredentialRef
) {
  const isInMemory = entries.known(ref) !== undefined
  const cell = yield* resolver.peek(ref)
  if (cell === undefined) return yield* new CredentialNotFound({ ref })
  // another process may have renewed it
  if (isInMemory) yield* Effect.ignore(entries.load(cell))
  const { entry } = cell
  const storageError = entries.storageErrorOf(entry)
  return explanationOf(entry, yield* entries.circumstances(entry), { ref, isInMemory, storageError })
})

export const awaitReauthorization = Effect.fn("CredentialStore.awaitReauthorization")(function*(
  parts: StoreParts,
  ref: CredentialRef,
  options?: { readonly timeout?: Duration.Input | undefined; readonly poll?: Duration.Input | undefined }
) {
  yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
  // without a pause it would ask without end: a bug of the program's
  const poll = yield* Effect.orDie(durationSetting("poll", options?.poll ?? "5 seconds"))
  const timeout = Duration.fromInputUnsafe(options?.timeout ?? "10 minutes")
  return yield* parts.resolver.use(ref, (cell) => parts.follow.reconnected(cell, { ref, poll })).pipe(
    Effect.timeoutOrElse({
      duration: timeout,
      orElse: () => lastCheck(parts, ref, timeout)
    })
  )
})

/** At the end of a wait, Aden is asked once more: the wait may have been shorter than the time between two polls. */
const lastCheck = Effect.fnUntraced(function*(
  { entries, refresher }: StoreParts,
  ref: CredentialRef,
  after: Duration.Duration
) {
  const cell = entries.known(ref)
  if (cell?.entry.isBlocked === true) {
    const checked = yield* Effect.option(Effect.timeout(refresher.check(cell), lastCheckTimeout))
    if (Option.isSome(checked)) return checked.value
  }
  const reauthorizationUrl = entries.known(ref)?.entry.state.reauthorizationUrl
  return yield* new ReauthorizationTimeout({ ref, after, reauthorizationUrl })
})

export const sync = Effect.fn("CredentialStore.sync")(({ synchronization }: StoreParts) =>
  Stream.runFold(synchronization.stream, emptyReport, (report, event) => {
    switch (event._tag) {
      case "Synced":
        report.synced.push(event)
        break
      case "Skipped":
        report.skipped.push(event)
        break
      case "Failed":
        report.failed.push(event)
        break
      case "Removed":
        report.removed.push(event.id)
        break
      case "Listed":
        report.isIncomplete ||= event.isIncomplete
    }
    return report
  })
)

const emptyReport = () => ({
  synced: new Array<Extract<SyncEvent, { readonly _tag: "Synced" }>>(),
  skipped: new Array<SyncSkipped>(),
  failed: new Array<Extract<SyncEvent, { readonly _tag: "Failed" }>>(),
  removed: new Array<string>(),
  isIncomplete: false
})
