import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { CredentialKeyNotFound, NoProvider } from "../errors/CredentialError.ts"
import type { CredentialFailure } from "../errors/CredentialError.ts"
import type { Credential, CredentialRef } from "../model/Credential.ts"
import { SingleFlight } from "../util/SingleFlight.ts"
import type { CredentialEntry } from "./CredentialEntry.ts"
import type { Entries } from "./Entries.ts"
import type { Refresher } from "./refresh.ts"

/** Timers reach no further than about 24 days; one that ends early only looks once more. */
const longestSleep = Duration.toMillis("1 day")

/** Stays with one credential over time: each new token of it, or the moment when it is connected again. */
export class Follow {
  readonly #entries: Entries
  readonly #refresher: Refresher
  readonly #reconnections = new SingleFlight<string, Credential, CredentialFailure>()

  constructor(options: { readonly entries: Entries; readonly refresher: Refresher }) {
    this.#entries = options.entries
    this.#refresher = options.refresher
  }

  /** The token, and each new one when it comes: whoever follows keeps it renewed. */
  tokens(
    ref: CredentialRef,
    read: Effect.Effect<Credential, CredentialFailure>
  ): Stream.Stream<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound> {
    return Stream.unwrap(
      Effect.map(
        PubSub.subscribe(this.#entries.changedIds),
        (changedIds) =>
          Stream.unfold(
            undefined,
            (last: Redacted.Redacted<string> | undefined) =>
              Effect.map(this.#nextToken(ref, read, changedIds, last), (token) => [token, token] as const)
          )
      )
    )
  }

  readonly #nextToken = Effect.fnUntraced(function*(
    this: Follow,
    ref: CredentialRef,
    read: Effect.Effect<Credential, CredentialFailure>,
    changedIds: PubSub.Subscription<string>,
    last: Redacted.Redacted<string> | undefined
  ): Effect.fn.Return<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound> {
    while (true) {
      const { defaultKey, id } = yield* read
      const token = defaultKey?.value
      if (token === undefined) return yield* new CredentialKeyNotFound({ ref })
      if (last === undefined || Redacted.value(last) !== Redacted.value(token)) return token
      const freshUntil = this.#entries.get(id)?.freshUntil ?? -Infinity
      const wait = Math.max(1_000, freshUntil - (yield* Clock.currentTimeMillis))
      yield* Effect.raceFirst(Effect.sleep(Math.min(wait, longestSleep)), nextChangeOf(changedIds, id))
    }
  })

  /**
   * Waits until the integration is connected again: asked about every `poll`, by one question for all who wait with the same one,
   * and noticed at once when something else finds it connected. Fails when it is removed.
   */
  readonly reconnected = Effect.fnUntraced(function*(
    this: Follow,
    entry: CredentialEntry,
    options: { readonly ref: CredentialRef; readonly poll: Duration.Duration }
  ): Effect.fn.Return<Credential, CredentialFailure | NoProvider> {
    const { poll, ref } = options
    if (!this.#entries.mayBeRefreshed(entry)) return yield* new NoProvider({ ref })
    const read = this.#refresher.read(entry)
    const watched = this.#reconnections.run(
      `${Duration.toMillis(poll)} ${entry.id}`,
      Effect.scoped(this.#watch(entry, poll))
    )
    return yield* Effect.catchTag(read, "ReauthRequired", () => watched)
  })

  readonly #watch = Effect.fnUntraced(function*(this: Follow, entry: CredentialEntry, poll: Duration.Duration) {
    const changedIds = yield* PubSub.subscribe(this.#entries.changedIds)
    while (true) {
      yield* Effect.raceFirst(Effect.sleep(poll), nextChangeOf(changedIds, entry.id))
      if (entry.state.blockedSince === undefined) return yield* this.#refresher.read(entry)
      const checked = yield* this.#refresher.check(entry).pipe(
        // Whatever else happens, the person may still be about to connect it.
        Effect.catchIf((error) => error._tag !== "CredentialNotFound", () => Effect.succeed(undefined))
      )
      if (checked !== undefined) return checked
    }
  })

  shutdown(): Effect.Effect<void> {
    return this.#reconnections.shutdown(0)
  }
}

/** The next change of one credential. */
const nextChangeOf = (changedIds: PubSub.Subscription<string>, id: string): Effect.Effect<string> =>
  Effect.repeat(PubSub.take(changedIds), { until: (one) => one === id })
