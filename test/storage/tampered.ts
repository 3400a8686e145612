/** A database to whose fields a test writes past all storages. */
import type { Effect, Scope } from "effect"
import type { CredentialStorage } from "../../src/storage/CredentialStorage.ts"

/** Numbers and choices that a seed decides. */
export interface Chance {
  readonly below: (limit: number) => number
  readonly of: <A>(choices: readonly [A, ...ReadonlyArray<A>]) => A
}

/** What a database has of an entry. */
export interface Row {
  readonly generation: string
  readonly document: string | null
  readonly state: string | null
}

/** A database in which a test has namespaces to itself: this one, and those that begin with it. */
export interface Tampered {
  readonly namespace: string
  /** The storage of one more process. */
  readonly storageIn: (namespace: string) => Effect.Effect<CredentialStorage["Service"], unknown, Scope.Scope>
  /** In what a database calls the namespace: of a tenant, with its name. */
  readonly rowOf: (namespace: string, id: string) => Effect.Effect<Row>
  /** Changes something else at random: the list of ids, the log of changes, leases, and what is told through the channel. */
  readonly disturb: (namespace: string, id: string, chance: Chance) => Effect.Effect<void>
  /** Removes all that is stored. */
  readonly reset: Effect.Effect<void>
  /** Writes an entry, or some of its fields, past all storages. */
  readonly write: (namespace: string, id: string, row: Partial<Row>) => Effect.Effect<void>
}
