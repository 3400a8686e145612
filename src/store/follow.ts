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
import type { CredentialTable } from "./Entries.ts"
import type { Renewal } from "./refresh.ts"

/** Timers reach no further than about 24 days; one that ends early only looks once more. */
const longestSleep = Duration.toMillis("1 day")

/** Stays with one credential over time: each new token of it, or the moment when it is connected again. */
export class Following {
  readonly #table: CredentialTable
  readonly #renewal: Renewal
  readonly #reconnections = new SingleFlight<string, Credential, CredentialFailure>()

  constructor(options: { readonly table: CredentialTable; readonly renewal: Renewal }) {
    this.#table = options.table
    this.#renewal = options.renewal
  }

  /** The token, and each new one when it comes: whoever follows keeps it renewed. */
  tokens(
    ref: CredentialRef,
    read: Effect.Effect<Credential, CredentialFailure>
  ): Stream.Stream<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound> {
    return Stream.unwrap(
      Effect.map(
        PubSub.subscribe(this.#table.news),
        (news) =>
          Stream.unfold(
            undefined,
            (last: Redacted.Redacted<string> | undefined) =>
              Effect.map(this.#nextToken(ref, read, news, last), (token) => [token, token] as const)
          )
      )
    )
  }

  readonly #nextToken = Effect.fnUntraced(function*(
    this: Following,
    ref: CredentialRef,
    read: Effect.Effect<Credential, CredentialFailure>,
    news: PubSub.Subscription<string>,
    last: Redacted.Redacted<string> | undefined
  ): Effect.fn.Return<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound> {
    while (true) {
      const { defaultKey, id } = yield* read
      const token = defaultKey?.value
      if (token === undefined) return yield* new CredentialKeyNotFound({ ref })
      if (last === undefined || Redacted.value(last) !== Redacted.value(token)) return token
      const freshUntil = this.#table.get(id)?.freshUntil ?? -Infinity
      const wait = Math.max(1_000, freshUntil - (yield* Clock.currentTimeMillis))
      yield* Effect.raceFirst(Effect.sleep(Math.min(wait, longestSleep)), newsOf(news, id))
    }
  })

  /**
   * Waits until the integration is connected again: asked about every `poll`, by one question for all who wait with the same one,
   * and noticed at once when something else finds it connected. Fails when it is removed.
   */
  readonly reconnected = Effect.fnUntraced(function*(
    this: Following,
    entry: CredentialEntry,
    options: { readonly ref: CredentialRef; readonly poll: Duration.Duration }
  ): Effect.fn.Return<Credential, CredentialFailure | NoProvider> {
    const { poll, ref } = options
    if (!this.#table.mayBeRenewed(entry)) return yield* new NoProvider({ ref })
    const read = this.#renewal.read(entry)
    const watched = this.#reconnections.run(
      `${Duration.toMillis(poll)} ${entry.id}`,
      Effect.scoped(this.#watch(entry, poll))
    )
    return yield* Effect.catchTag(read, "ReauthRequired", () => watched)
  })

  readonly #watch = Effect.fnUntraced(function*(this: Following, entry: CredentialEntry, poll: Duration.Duration) {
    const news = yield* PubSub.subscribe(this.#table.news)
    while (true) {
      yield* Effect.raceFirst(Effect.sleep(poll), newsOf(news, entry.id))
      if (entry.state.blockedSince === undefined) return yield* this.#renewal.read(entry)
      const checked = yield* this.#renewal.check(entry).pipe(
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

/** The next news of one credential. */
const newsOf = (news: PubSub.Subscription<string>, id: string): Effect.Effect<string> =>
  Effect.repeat(PubSub.take(news), { until: (one) => one === id })
