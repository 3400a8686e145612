import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { CredentialProvider } from "../providers/CredentialProvider.ts"
import type { CredentialStorage } from "../storage/CredentialStorage.ts"
import { localOnly } from "../storage/decorate.ts"
import { makeBackground } from "../util/background.ts"
import { Commit } from "./commit.ts"
import { Entries } from "./Entries.ts"
import { Listings } from "./Listings.ts"
import { Refresher } from "./refresh.ts"
import type { RefreshPolicies } from "./RefreshPolicy.ts"
import { RefResolver } from "./resolve.ts"
import { StricterStorage } from "./StricterStorage.ts"

/** What serves credentials by the rules of docs/semantics.md: memory, what refs mean, the only writer, and who asks providers. */
export interface Engine {
  readonly entries: Entries
  readonly listings: Listings
  readonly commit: Commit
  readonly resolver: RefResolver
  readonly refresher: Refresher
}

/** Runs until the scope closes: what storage did not take is written behind. */
export const makeEngine = Effect.fnUntraced(function*(options: {
  readonly storage: CredentialStorage["Service"]
  readonly providers: ReadonlyArray<CredentialProvider>
  readonly policies: RefreshPolicies
  /** How long what is known of names is used without another look, in ms. */
  readonly timeToLive: number
  /** How long a token is served that Aden does not confirm, in ms. */
  readonly maxStale: number
  readonly deadline: Duration.Duration
}): Effect.fn.Return<Engine, never, Scope.Scope> {
  const { deadline, timeToLive } = options
  const entries = new Entries({ ...options, storage: localOnly(options.storage) })
  const listings = new Listings({
    providers: entries.providers,
    missing: entries.policies.missing,
    timeToLive,
    onListed: () => entries.forgetMeanings()
  })
  const commit = new Commit({ entries, listings, inBackground: yield* makeBackground })
  const stricter = new StricterStorage(options.storage, entries)
  const resolver = new RefResolver({ entries, listings, stricter, timeToLive })
  const refresher = new Refresher({ entries, resolver, listings, commit, deadline })
  yield* Effect.addFinalizer(() =>
    Effect.all(
      [commit.shutdown(), stricter.shutdown(), refresher.shutdown(), resolver.shutdown(), entries.shutdown()],
      {
        discard: true
      }
    )
  )
  return { entries, listings, commit, resolver, refresher }
})
