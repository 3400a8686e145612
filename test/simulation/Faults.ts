/**
 * Faults that the simulation has to find when they are put into the store: see scripts/simulate-faults.ts.
 */

/** Some code of the store that is replaced. It has to be there exactly once. */
export interface Patch {
  readonly file: string
  readonly from: string
  readonly to: string
}

export interface Fault {
  readonly name: string
  readonly patches: readonly [Patch, ...Array<Patch>]
}

const entry = "src/store/CredentialEntry.ts"
const flights = "src/util/SingleFlight.ts"
const refresh = "src/store/refresh.ts"
const synchronization = "src/store/sync.ts"

export const faults: readonly [Fault, ...Array<Fault>] = [
  {
    name: "serves what has expired",
    patches: [
      {
        file: entry,
        from: "if (now >= this.#expiresAt || this.#isRejected) return \"expired\"",
        to: "if (this.#isRejected) return \"expired\""
      },
      { file: entry, from: "return Math.min(this.#expiresAt, ", to: "return Math.min(" }
    ]
  },
  {
    name: "forgets how far Aden's clock is ahead",
    patches: [{
      file: "src/model/freshness.ts",
      from: "DateTime.toEpochMillis(credential.expiresAt) - offset",
      to: "DateTime.toEpochMillis(credential.expiresAt)"
    }]
  },
  {
    name: "serves what is older than maxStale",
    patches: [{ file: "src/model/freshness.ts", from: "confirmedAt + maxStale", to: "Infinity" }]
  },
  {
    name: "serves what was invalidated",
    patches: [{ file: entry, from: "this.#rejected = this.credential?.defaultKey?.value", to: "" }]
  },
  {
    name: "ignores that it is blocked",
    patches: [
      { file: entry, from: "if (this.state.blockedSince !== undefined) return \"blocked\"", to: "" },
      {
        file: entry,
        from: "if (this.state.blockedSince === undefined && !this.#isRejected)",
        to: "if (!this.#isRejected)"
      }
    ]
  },
  {
    name: "checks a blocked one at every read",
    patches: [{ file: refresh, from: "entry.coolDownLeft(now) <= 0 &&\n      now >= entry.nextCheckAt", to: "true" }]
  },
  {
    name: "asks for every caller, without single flight or lock",
    patches: [
      {
        file: flights,
        from: "return flight === undefined\n          ? this.#launch(key, effect, this.#current,",
        to: "return this.#current.size >= 0\n          ? this.#launch(key, effect, this.#current,"
      },
      {
        file: refresh,
        from:
          "entries.storage.withLock(\n        entry.id,\n        this.#refreshUnderLock(entry, force, entry.state.blockedSince !== undefined)\n      )",
        to: "this.#refreshUnderLock(entry, force, entry.state.blockedSince !== undefined)"
      }
    ]
  },
  {
    name: "ends a request when one of its callers leaves",
    patches: [{ file: flights, from: "if (flight.waiters > 0) return Effect.void", to: "" }]
  },
  {
    name: "goes on asking when every caller has left",
    patches: [{ file: flights, from: "if (flight.waiters > 0) return Effect.void", to: "return Effect.void" }]
  },
  {
    name: "answers a forced refresh with one from before",
    patches: [{
      file: refresh,
      from: "this.#flights.runAfresh(entry.id, this.#refresh(entry, true))",
      to: "this.#flights.run(entry.id, this.#refresh(entry, true))"
    }]
  },
  {
    name: "forgets the rate limit",
    patches: [{ file: entry, from: "return left > 0 ? Effect.fail", to: "return left > Infinity ? Effect.fail" }]
  },
  {
    name: "forgets the back-off",
    patches: [{
      file: entry,
      from: "this.nextAttemptAt = yield* this.#backOff.until(",
      to: "yield* this.#backOff.until("
    }]
  },
  {
    name: "waits without end",
    patches: [{ file: refresh, from: "duration: this.#deadline,\n", to: "duration: \"1 hour\",\n" }]
  },
  {
    name: "lets an old answer undo what the program did",
    patches: [{
      file: refresh,
      from: "if (entry.epoch !== basis.epoch) return credential\n",
      to: ""
    }, {
      file: refresh,
      from: "{ expectedGeneration: generation, state: stateAfter(generation) }",
      to: "{ state: stateAfter(generation) }"
    }]
  },
  {
    name: "lets what a sync fetched win over what is newer",
    patches: [
      {
        file: synchronization,
        from: "expectedGenerations: new Map(current.map(({ credential, generation }) => [credential.id, generation])),",
        to: ""
      }
    ]
  },
  {
    name: "lets a sync overwrite the program's own",
    patches: [{
      file: synchronization,
      from: "Option.isSome(stored) && this.#entries.providerOf(stored.value) !== provider",
      to: "Option.isSome(stored) && provider === undefined"
    }]
  },
  {
    name: "removes what one answer says is missing",
    patches: [{
      file: refresh,
      from: "if (yield* this.#resolver.lists(provider, entry.id))",
      to: "if ((yield* this.#resolver.lists(provider, entry.id)) && entry.id === \"\")"
    }]
  },
  {
    name: "leaves its requests behind when it ends",
    patches: [{ file: refresh, from: "return this.#flights.shutdown(drainTimeout)", to: "return Effect.void" }]
  }
]

/** The file with the patch in it; `undefined` when what it replaces is not there exactly once. */
export const patched = (source: string, { from, to }: Patch): string | undefined =>
  source.split(from).length === 2 ? source.replace(from, () => to) : undefined
