import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { CredentialKeyNotFound, NoProvider } from "../errors/CredentialError.ts"
import type { CredentialFailure } from "../errors/CredentialError.ts"
import type { Credential, CredentialRef } from "../model/Credential.ts"
import { monotonicMillis } from "../util/monotonic.ts"
import { SingleFlight } from "../util/SingleFlight.ts"
import type { Cell } from "./Cell.ts"
import { decide } from "./core/decide.ts"
import type { Entries } from "./Entries.ts"
import type { Refresher } from "./refresh.ts"

/** Timers reach no further than about 24 days; one that ends early only looks once more. */
const longestSleep = Duration.toMillis("1 day")

/** Stays with one credential over time: each new token of it, or the moment when it is connected again. */
export class Follow {
  readonly #entries: Entries
  readonly #refresher: Refresher
  /** Nobody polls for callers who have left. */
  readonly #reconnections = new SingleFlight<string, Credential, CredentialFailure>({ endsWithLastCaller: true })

  constructor(options: { readonly entries: Entries; readonly refresher: Refresher }) {
    this.#entries = options.entries
    this.#refresher = options.refresher
  }

  /** The token, and each new one when it comes: a follower keeps it renewed. */
  tokens(
    ref: CredentialRef,
    read: Effect.Effect<Credential, CredentialFailure>
  ): Stream.Stream<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound> {
    return Stream.unfold(
      undefined,
      (last: Redacted.Redacted<string> | undefined) =>
        Effect.map(this.#nextToken(ref, read, last), (token) => [token, token] as const)
    )
  }

  #nextToken(
    ref: CredentialRef,
    read: Effect.Effect<Credential, CredentialFailure>,
    last: Redacted.Redacted<string> | undefined
  ): Effect.Effect<Redacted.Redacted<string>, CredentialFailure | CredentialKeyNotFound> {
    return Effect.gen({ self: this }, function*() {
      while (true) {
        const { defaultKey, id } = yield* read
        const token = defaultKey?.value
        if (token === undefined) return yield* new CredentialKeyNotFound({ ref })
        if (last === undefined || Redacted.value(last) !== Redacted.value(token)) return token
        yield* this.#untilNextRead(this.#entries.cell(id))
      }
    })
  }

  /** Until a read would do more than return what it did, or the entry changes. */
  #untilNextRead(cell: Cell) {
    return Effect.gen({ self: this }, function*() {
      const seen = cell.entry
      const circumstances = yield* this.#entries.circumstances(seen)
      const decision = decide(seen, circumstances)
      const wait = decision._tag === "Serve" ? decision.until - circumstances.now : 0
      yield* Effect.raceFirst(
        Effect.sleep(Math.min(Math.max(1_000, wait), longestSleep)),
        cell.changedSince(seen)
      )
    })
  }

  /**
   * Waits until the integration is connected again: asked about every `poll`, by one question for all who wait with the same one,
   * and noticed at once when something else finds it connected. Fails when it is removed.
   */
  reconnected(
    cell: Cell,
    options: { readonly ref: CredentialRef; readonly poll: Duration.Duration }
  ): Effect.Effect<Credential, CredentialFailure | NoProvider> {
    return Effect.gen({ self: this }, function*() {
      const { poll, ref } = options
      if (!this.#entries.mayBeRefreshed(cell.entry)) return yield* new NoProvider({ ref })
      const read = this.#refresher.read(cell)
      const watched = this.#reconnections.run(`${Duration.toMillis(poll)} ${cell.id}`, this.#watch(cell, poll))
      return yield* Effect.catchTag(read, "ReauthRequired", () => watched)
    })
  }

  #watch(cell: Cell, poll: Duration.Duration) {
    return Effect.gen({ self: this }, function*() {
      while (true) {
        yield* this.#whileBlocked(cell, poll)
        if (!cell.entry.isBlocked) return yield* this.#refresher.read(cell)
        const checked = yield* this.#refresher.check(cell).pipe(
          // whatever else happens, the person may still be about to connect it
          Effect.catchIf((error) => error._tag !== "CredentialNotFound", () => Effect.succeed(undefined))
        )
        if (checked !== undefined) return checked
      }
    })
  }

  /** Waits as long as the entry is blocked, and at most so long. */
  #whileBlocked(cell: Cell, longest: Duration.Duration) {
    return Effect.gen({ self: this }, function*() {
      const end = (yield* monotonicMillis) + Duration.toMillis(longest)
      for (let left = Duration.toMillis(longest); left > 0 && cell.entry.isBlocked;) {
        yield* Effect.raceFirst(Effect.sleep(Math.min(left, longestSleep)), cell.changedSince(cell.entry))
        left = end - (yield* monotonicMillis)
      }
    })
  }

  shutdown(): Effect.Effect<void> {
    return this.#reconnections.shutdown(0)
  }
}
