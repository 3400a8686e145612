/**
 * How a statement is made: by itself, and not for longer than somebody would wait.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import { isSqlError } from "effect/sql/SqlError"
import type { SqlError } from "effect/sql/SqlError"
import { StorageIoFailed } from "../../errors/CredentialError.ts"
import { sqlFault, unreachableRemedy } from "./fault.ts"

/** A server that does not answer in this time is as good as gone. */
export const answerTime = Duration.seconds(2)

/**
 * What a storage does to its tables is no part of a transaction that the program has open: others would have to wait for its
 * end, and what Aden answered would be lost with it.
 */
export const outsideTransactions = (sql: SqlClient) => <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.updateContext(effect, (context: Context.Context<never>) => Context.omit(sql.transactionService)(context))

/** Undone because somebody else came between, where the database has transactions stricter than it is by default. */
const hasCollided = (error: SqlError | StorageIoFailed): boolean =>
  isSqlError(error) && (error.reason._tag === "SerializationError" || error.reason._tag === "DeadlockError")

const afterCollision = Schedule.min([Schedule.exponential("2 millis"), Schedule.spaced("100 millis")]).pipe(
  Schedule.jittered
)

/** Some writer always comes through: only a server that undoes everything is given up. */
const collisions = 200

/**
 * Who waits goes on when the time is over, though a client that gives a statement up waits for a server which hangs. Who is
 * interrupted waits for that: what was done to the database is then certain. A collision is an answer: the statement is made
 * anew, and has its time again.
 */
export const answeredWithin =
  (duration: Duration.Duration, location: string) =>
  <A>(statement: Effect.Effect<A, SqlError>): Effect.Effect<A, StorageIoFailed> =>
    Effect.acquireUseRelease(
      Effect.forkDetach(statement, { startImmediately: true }),
      (fiber) =>
        Effect.timeoutOrElse(Fiber.join(fiber), {
          duration,
          orElse: () =>
            Effect.andThen(
              Effect.forkDetach(Fiber.interrupt(fiber)),
              Effect.fail(
                new StorageIoFailed({
                  location,
                  detail: `the Postgres server did not answer within ${Duration.format(duration)}`,
                  remedy: unreachableRemedy
                })
              )
            )
        }),
      (fiber, exit) => Exit.hasInterrupts(exit) ? Fiber.interrupt(fiber) : Effect.void
    ).pipe(
      Effect.retry({ schedule: afterCollision, times: collisions, while: hasCollided }),
      Effect.mapError((error) => isSqlError(error) ? sqlFault(location, error) : error)
    )

/**
 * A scope whose end is not waited for longer than for an answer: who gives a connection back says so to the server, which may
 * hang, and a program is to end nonetheless.
 */
export const boundedScope: Effect.Effect<Scope.Closeable, never, Scope.Scope> = Effect.acquireRelease(
  Scope.make(),
  (scope) =>
    Effect.forkDetach(Scope.close(scope, Exit.void), { startImmediately: true }).pipe(
      Effect.flatMap((fiber) => Effect.timeoutOption(Fiber.await(fiber), answerTime)),
      Effect.asVoid
    )
)
